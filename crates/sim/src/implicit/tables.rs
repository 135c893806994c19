//! Who is where, and whom each peer knows, without keeping either.
//!
//! Only the identities are in memory, sorted: eight bytes a peer, the first eight of its Node-ID, which
//! tell any two of ten million apart. A peer is its place in that order. Its Kademlia table (base 2,
//! buckets of eight, the nearest sixteen whole, as `overlay::kademlia` keeps it) follows from a hash of
//! peer, row and slot, and is derived when somebody asks.

use std::ops::Range;

use smallvec::SmallVec;

use crate::chance::{mix, unit};

/// Peers of a bucket, and peers around oneself that are all known: `overlay::kademlia`.
const BUCKET: u32 = 8;
const NEAR: usize = 16;

/// An entry of somebody's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// The head of its Node-ID.
    pub(super) id: u64,
    /// The peer, or a number beyond all peers for one that is gone.
    pub(super) number: u64,
}

/// Entries of a table, as many as a route names and a bucket more.
pub(super) type Entries = SmallVec<[Entry; 32]>;

/// Everybody's place and everybody's table.
pub(super) struct Tables {
    ids: Vec<u64>,
    seed: u64,
    /// Share of entries whose peer is gone.
    stale: f64,
}

impl Tables {
    pub(super) fn new(peers: usize, seed: u64, stale: f64) -> Self {
        let mut ids: Vec<u64> = (0..peers as u64).map(|n| mix(mix(seed) ^ n)).collect();
        ids.sort_unstable();
        ids.dedup();
        Tables { ids, seed: mix(seed ^ 0x7461_626c_6573), stale }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn id(&self, peer: u64) -> u64 {
        self.ids[peer as usize]
    }

    pub(super) fn is_live(&self, entry: &Entry) -> bool {
        entry.number < self.ids.len() as u64
    }

    /// The `count` live peers nearest to a key, nearest first.
    pub(super) fn nearest(&self, key: u64, count: usize) -> Vec<u64> {
        // The smallest subtree around the key with enough peers has the nearest.
        let expected = (self.ids.len() as f64 / count as f64).max(1.0).log2() as u32;
        let mut depth = (expected + 3).min(60);
        while depth > 0 && self.subtree(key, depth).len() < count {
            depth -= 1;
        }
        let mut peers: Vec<u64> = self.subtree(key, depth).map(|p| p as u64).collect();
        peers.sort_unstable_by_key(|p| self.id(*p) ^ key);
        peers.truncate(count);
        peers
    }

    /// The entries of a peer's table that are nearer to `key` than the peer is, nearest first, at most
    /// `most` of them.
    pub(super) fn towards(&self, peer: u64, key: u64, most: usize) -> Entries {
        let own = self.id(peer);
        let mut difference = own ^ key;
        let mut entries = Entries::new();
        // A peer in a row of ours is nearer to the key just where we differ from the key at that bit; and
        // every one of a row is nearer than all of the next.
        while difference != 0 && entries.len() < most {
            let row = difference.leading_zeros();
            difference &= !(1 << (63 - row));
            let first = entries.len();
            if !self.bucket(peer, own, row, &mut entries) {
                break;
            }
            entries[first..].sort_unstable_by_key(|e| e.id ^ key);
        }
        entries.truncate(most);
        entries
    }

    /// Adds a peer's bucket; `false` if nobody but the peer itself is that near to it.
    fn bucket(&self, peer: u64, own: u64, row: u32, entries: &mut Entries) -> bool {
        let there = self.subtree(own ^ (1 << (63 - row)), row + 1);
        let count = there.len() as u32;
        if count == 0 {
            return self.subtree(own, row).len() > 1;
        }
        let whole = count <= BUCKET || count as usize <= NEAR && self.subtree(own, row).len() <= NEAR;
        let start = there.start as u64;
        let slots = if whole { count } else { BUCKET };
        for slot in 0..slots {
            let chance = mix(self.seed ^ mix((peer << 16) ^ (u64::from(row) << 8) ^ u64::from(slot)));
            let is_stale = unit(mix(chance)) <= self.stale && self.stale > 0.0;
            let live = if whole { start + u64::from(slot) } else { start + chance % u64::from(count) };
            // Of the neighbourhood all are known; who is gone from there was known beside them.
            if whole || !is_stale {
                entries.push(Entry { id: self.id(live), number: live });
            }
            if is_stale {
                let bits = row + 1;
                let prefix = (own ^ (1 << (63 - row))) & !(u64::MAX.checked_shr(bits).unwrap_or(0));
                let id = prefix | (mix(chance ^ 1) & u64::MAX.checked_shr(bits).unwrap_or(0));
                entries.push(Entry { id, number: (1 << 40) | (chance >> 24) });
            }
        }
        true
    }

    /// The peers that share the first `depth` bits with `id`.
    fn subtree(&self, id: u64, depth: u32) -> Range<usize> {
        let tail = u64::MAX.checked_shr(depth).unwrap_or(0);
        let end = match (id | tail).checked_add(1) {
            Some(end) => self.first_from(end),
            None => self.ids.len(),
        };
        self.first_from(id & !tail)..end
    }

    /// The first peer whose identity is not below `id`. Identities are spread evenly, so it is looked for
    /// around the place where it ought to be.
    fn first_from(&self, id: u64) -> usize {
        let count = self.ids.len();
        let guess = ((u128::from(id) * count as u128) >> 64) as usize;
        let mut reach = 64;
        let (mut low, mut high) = (guess.saturating_sub(reach), (guess + reach).min(count));
        while low > 0 && self.ids[low - 1] >= id {
            reach *= 4;
            low = low.saturating_sub(reach);
        }
        while high < count && self.ids[high] < id {
            reach *= 4;
            high = (high + reach).min(count);
        }
        low + self.ids[low..high].partition_point(|other| *other < id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_derived_agrees_with_what_is_counted() {
        let tables = Tables::new(5_000, 7, 0.0);
        for n in 0..200u64 {
            let key = mix(n);
            let mut all: Vec<u64> = (0..tables.len() as u64).collect();
            all.sort_by_key(|p| tables.id(*p) ^ key);
            assert_eq!(tables.nearest(key, 5), all[..5]);
            let place = tables.ids.iter().filter(|id| **id < key).count();
            assert_eq!(tables.first_from(key), place);
        }
    }

    #[test]
    fn every_entry_leads_on_and_the_neighbourhood_is_known_whole() {
        let tables = Tables::new(20_000, 3, 0.05);
        for n in 0..500u64 {
            let (peer, key) = (mix(n) % 20_000, mix(n ^ 0xff));
            let entries = tables.towards(peer, key, 20);
            let own = tables.id(peer) ^ key;
            assert!(entries.iter().all(|e| e.id ^ key < own));
            assert!(entries.is_sorted_by_key(|e| e.id ^ key));
            // Whoever knows the holders' neighbourhood knows the holders.
            let holders = tables.nearest(key, 5);
            let near = tables.towards(holders[4], key, 20);
            assert!(holders[..4].iter().all(|h| near.iter().any(|e| e.number == *h)));
        }
    }

    #[test]
    fn so_many_entries_are_stale_as_was_asked_for() {
        let tables = Tables::new(100_000, 1, 0.2);
        let (mut all, mut gone) = (0, 0);
        for n in 0..2_000u64 {
            for entry in tables.towards(n, mix(n), 8) {
                all += 1;
                gone += usize::from(!tables.is_live(&entry));
            }
        }
        let share = f64::from(gone as u32) / f64::from(all as u32);
        assert!((0.17..0.23).contains(&share), "{share}");
    }
}
