//! What ought to happen: a model so small that it can be believed.
//!
//! A peer that has joined is in the overlay before long. A user who is in the overlay is published
//! before long. A user who has been published for a while, and whose peer stays, is found by
//! everybody, at the right peer. A peer never asks to be woken in the past, sends nothing longer than
//! the scenario's limit, and books every byte it sends. Whatever contradicts this is a violation.

use std::collections::BTreeMap;

use wire::Time;

use crate::report::MAX_SPELT_OUT;

/// How long a peer may take until it is in the overlay and its users are published.
pub(crate) const MAX_START_S: f64 = 120.0;

/// A user, as the model knows them.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserModel {
    pub(crate) aor: String,
    /// When it was added, if its peer was there already.
    pub(crate) wanted: Time,
    pub(crate) published: Option<Time>,
}

/// Everything that contradicted the model.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    spelt_out: Vec<String>,
    more: u64,
    once: BTreeMap<&'static str, u64>,
}

impl Violations {
    /// Something happened that ought not to.
    pub(crate) fn add(&mut self, what: impl Into<String>) {
        if self.spelt_out.len() < MAX_SPELT_OUT {
            self.spelt_out.push(what.into());
        } else {
            self.more += 1;
        }
    }

    /// The same, for what is likely to happen often: spelt out the first time, counted afterwards.
    pub(crate) fn add_kind(&mut self, kind: &'static str, what: impl FnOnce() -> String) {
        let count = self.once.entry(kind).or_default();
        *count += 1;
        if *count == 1 {
            self.add(format!("{kind}: {}", what()));
        }
    }

    /// All of them, as the report shows them.
    pub(crate) fn finish(mut self) -> Vec<String> {
        for (kind, count) in self.once.iter().filter(|(_, count)| **count > 1) {
            self.spelt_out.push(format!("{kind}: {count} times in all"));
        }
        if self.more > 0 {
            self.spelt_out.push(format!("and {} more", self.more));
        }
        self.spelt_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_violations_stays_readable() {
        let mut violations = Violations::default();
        (0..100).for_each(|n| violations.add(format!("number {n}")));
        (0..100).for_each(|_| violations.add_kind("woken in the past", || "peer 3".into()));
        let list = violations.finish();
        assert_eq!(list.len(), MAX_SPELT_OUT + 2);
        assert!(list.last().unwrap().starts_with("and 69"));
    }
}
