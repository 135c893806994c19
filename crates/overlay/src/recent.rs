//! A short memory of whom we asked, so that nobody is asked again because many mention it.
//!
//! Every reply names peers, and the same peers over and over. Without this memory each mention of a
//! peer that does not answer would cost another ping.

use std::collections::VecDeque;
use std::time::Duration;

use wire::{NodeId, Time};

/// The most peers remembered: a joining peer meets fewer strangers than this in a minute, and the
/// whole memory stays within 1 kB.
pub const MAX_REMEMBERED: usize = 128;

/// Peers asked or found silent recently.
#[derive(Debug, Default)]
pub struct Recent {
    /// Fingerprint and the moment it is forgotten, in tenths of a second; the oldest memory first.
    entries: VecDeque<(u32, u32)>,
}

impl Recent {
    /// Remembers `id` for `span` from `now` on.
    pub fn remember(&mut self, now: Time, id: &NodeId, span: Duration) {
        let mark = fingerprint(id);
        let tenth = tenths(now);
        self.entries.retain(|&(m, until)| m != mark && until > tenth);
        if self.entries.len() >= MAX_REMEMBERED {
            self.entries.pop_front();
        }
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(8);
        }
        self.entries.push_back((mark, tenths(now + span)));
    }

    /// Whether `id` is still remembered.
    pub fn remembers(&self, now: Time, id: &NodeId) -> bool {
        let (mark, now) = (fingerprint(id), tenths(now));
        self.entries.iter().any(|&(m, until)| m == mark && until > now)
    }

    /// Forgets `id`.
    pub fn forget(&mut self, id: &NodeId) {
        let mark = fingerprint(id);
        self.entries.retain(|&(m, _)| m != mark);
    }
}

/// Four bytes stand for a peer: a collision merely delays one ping.
fn fingerprint(id: &NodeId) -> u32 {
    id.key().as_bytes().last_chunk().map_or(0, |tail| u32::from_be_bytes(*tail))
}

/// Four bytes of these last for thirteen years.
fn tenths(time: Time) -> u32 {
    u32::try_from(time.as_millis() / 100).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::HashAlgorithm;

    fn id(n: u32) -> NodeId {
        NodeId(HashAlgorithm::Sha256.digest(&n.to_be_bytes()))
    }

    #[test]
    fn a_memory_fades_after_its_span() {
        let mut recent = Recent::default();
        recent.remember(Time::ZERO, &id(1), Duration::from_secs(60));
        assert!(recent.remembers(Time::from_secs(59), &id(1)));
        assert!(!recent.remembers(Time::from_secs(60), &id(1)));
        assert!(!recent.remembers(Time::ZERO, &id(2)));
        recent.forget(&id(1));
        assert!(!recent.remembers(Time::ZERO, &id(1)));
    }

    #[test]
    fn the_memory_never_outgrows_its_bound() {
        let mut recent = Recent::default();
        for n in 0..1_000 {
            recent.remember(Time::ZERO, &id(n), Duration::from_secs(60));
        }
        assert_eq!(recent.entries.len(), MAX_REMEMBERED);
        assert!(recent.remembers(Time::ZERO, &id(999)));
        assert!(!recent.remembers(Time::ZERO, &id(0)));
    }
}
