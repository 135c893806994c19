//! Timers: one deadline per key, popped in order.

use std::collections::{BTreeMap, BTreeSet};

use wire::Time;

/// Deadlines by key. Setting a key again moves its deadline.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    by_key: BTreeMap<K, Time>,
    by_time: BTreeSet<(Time, K)>,
}

impl<K: Ord + Copy> Timers<K> {
    pub(crate) fn new() -> Self {
        Timers { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }

    pub(crate) fn set(&mut self, key: K, at: Time) {
        self.cancel(key);
        self.by_key.insert(key, at);
        self.by_time.insert((at, key));
    }

    pub(crate) fn cancel(&mut self, key: K) {
        if let Some(at) = self.by_key.remove(&key) {
            self.by_time.remove(&(at, key));
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<(Time, K)> {
        self.by_time.first().copied()
    }

    /// Takes one key whose deadline is `now` or earlier.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<K> {
        let (at, key) = self.next()?;
        if at > now {
            return None;
        }
        self.cancel(key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_deadline_and_the_earliest_comes_first() {
        let mut timers = Timers::new();
        timers.set('a', Time::from_secs(1));
        timers.set('b', Time::from_secs(2));
        timers.set('a', Time::from_secs(3));
        assert_eq!(timers.pop_due(Time::from_secs(1)), None);
        assert_eq!(timers.pop_due(Time::from_secs(9)), Some('b'));
        assert_eq!(timers.pop_due(Time::from_secs(9)), Some('a'));
        assert_eq!(timers.next(), None);
    }
}
