//! Bamboo: Pastry's geometry, kept by periods instead of by alarm.
//!
//! The peer numerically nearest to a key, whichever way round the ring, is the most responsible for
//! it. A *leaf set* knows the nearest on both sides; a *prefix table* has a cell for each digit in which
//! somebody may differ after sharing so many digits with us, and any peer that fits will do, so each
//! cell keeps a few, the quickest first (Rowstron and Druschel, 2001). A digit has `base_bits` bits.
//!
//! What Bamboo adds (Rhea, Geels, Roscoe and Kubiatowicz, 2004) is calm. Recovering at once from each
//! death makes traffic when there is too much of it already; Bamboo repairs at its own pace. *Leaves*
//! swaps leaf sets with a random leaf, giving and taking. *Local tuning* swaps tables with a peer of a
//! row, which knows the rows below. *Global tuning* searches in a cell where nobody is known. *Check*
//! asks whoever was silent long, *neighbors* looks up our own place, *verify* pings those mentioned.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use wire::{Book, Contact, Distance, Key, NodeId, Seed, Time, seed::RngExt};

use crate::Algorithm;
use crate::care::NEVER;
use crate::cell;
use crate::overlay::{Entry, Evidence, MAX_ROUTE, Metric, Overlay, Reason, Route, Upkeep};
use crate::ring::{self, CHECKS, Change, IN_CELL, Ring, Shape};
use crate::table::{MAX_BASE_BITS, Peer};

/// Near and responsible are one thing: the numerical distance, whichever way round.
pub const METRIC: Metric = Metric { rank: ring::around, progress: None };

/// Leaves on each side. Twice as many as hold each key by default and then some, so that the holders
/// of every key near us are all known; the paper's four on a side served four replicas less well.
const LEAVES: usize = 12;

/// Between two swaps of leaf sets: at first, while leaves come or go, and at most. A swap costs about
/// 1,100 bytes, and 1,100 more when ours has changed.
const LEAVES_SWAP: (Duration, Duration, Duration) =
    (Duration::from_secs(2), Duration::from_secs(90), Duration::from_secs(600));

/// Between two tunings: of a joining peer, at first, and at most, doubled while they find nobody new.
const TUNING: (Duration, Duration, Duration) =
    (Duration::from_millis(500), Duration::from_secs(60), Duration::from_secs(600));

/// How many peers a search for a cell hears.
const TUNING_WIDTH: usize = 2;

/// How many peers at our place shall have spoken.
const NEIGHBORS_WIDTH: usize = 6;

/// A peer's view of a Bamboo ring.
#[derive(Debug)]
pub struct Bamboo {
    ring: Ring,
    base_bits: u32,
    leaves_at: Time,
    leaves_wait: Duration,
    /// Whether a leaf came or went since the last swap.
    changed: bool,
    tuning_at: Time,
    tuning_wait: Duration,
    /// Whether somebody entered a cell since the last tuning.
    tuned: bool,
}

/// A Bamboo with the default figures; see [`crate::build`].
pub fn build(local: NodeId, base_bits: u8, seed: Seed, _now: Time) -> Box<dyn Overlay> {
    Box::new(Bamboo::new(local, base_bits, seed))
}

fn leaves(_eighth: &Distance) -> usize {
    LEAVES
}

impl Bamboo {
    fn new(local: NodeId, base_bits: u8, seed: Seed) -> Self {
        let base_bits = u32::from(base_bits.clamp(1, MAX_BASE_BITS));
        let shape = Shape {
            successors: leaves,
            predecessors: LEAVES,
            cell: cell::of,
            base_bits,
            checks: CHECKS,
            width: NEIGHBORS_WIDTH,
            measures_churn: true,
        };
        Bamboo {
            ring: Ring::new(local, shape, seed),
            base_bits,
            leaves_at: NEVER,
            leaves_wait: LEAVES_SWAP.0,
            changed: false,
            tuning_at: NEVER,
            tuning_wait: TUNING.1,
            tuned: false,
        }
    }

    fn note(&mut self, now: Time, change: Change) {
        match change {
            Change::First => self.join(now),
            Change::Near => {
                self.changed = true;
                let soon = now + self.ring.care.jittered(self.leaves_wait.min(LEAVES_SWAP.1));
                self.leaves_at = self.leaves_at.min(soon);
            }
            Change::Far => self.tuned = true,
            Change::Nothing => {}
        }
    }

    fn join(&mut self, now: Time) {
        self.leaves_wait = LEAVES_SWAP.0;
        self.tuning_wait = TUNING.1;
        // Once our own place is known.
        let pause = Duration::from_millis(self.ring.care.rng.random_range(40..120));
        self.leaves_at = now + pause * 8;
        self.tuning_at = now + pause * 16;
    }

    /// Swaps leaf sets with a random leaf; gives ours where it has changed.
    fn swap_leaves(&mut self, now: Time) {
        let leaves = self.ring.neighbors();
        if !leaves.is_empty() {
            let pick = self.ring.care.rng.random_range(0..leaves.len());
            self.ring.care.wish(Upkeep::Exchange { with: leaves[pick], give: self.changed, rows: false });
        }
        let (_, least, most) = LEAVES_SWAP;
        self.leaves_wait = match self.changed && self.leaves_wait >= least {
            true => least,
            false => (self.leaves_wait * 2).min(most),
        };
        self.changed = false;
        self.leaves_at = now + self.ring.care.steady(self.leaves_wait);
    }

    /// Searches in an empty cell, the widest oftenest; where none is empty, swaps tables with a peer of
    /// a row, and takes from it who is quicker or was not known.
    fn tune(&mut self, now: Time) {
        let rows = self.rows();
        let columns = 1u32 << self.base_bits;
        let own = |row: u32| u32::from(self.ring.local().key().digit(row * self.base_bits, self.base_bits));
        let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let empty = cells
            .filter(|(row, column)| *column != own(*row))
            .map(|(row, column)| ((row << self.base_bits) | column) as u16)
            .filter(|cell| self.ring.in_cell(*cell).next().is_none());
        let empty: Vec<u16> = empty.collect();
        if let Some(cell) = self.weighted(&empty) {
            let local = *self.ring.local().key();
            let key = cell::random_key(&local, cell, self.base_bits, &mut self.ring.care.rng);
            self.ring.care.wish(Upkeep::Lookup { key, width: TUNING_WIDTH });
        } else {
            let far: Vec<Contact> = self.ring.all().map(ring::contact).collect();
            if !far.is_empty() {
                let pick = self.ring.care.rng.random_range(0..far.len());
                self.ring.care.wish(Upkeep::Exchange { with: far[pick], give: false, rows: true });
            }
        }
        let (joining, least, most) = TUNING;
        self.tuning_wait = if self.tuned { least } else { (self.tuning_wait * 2).min(most) };
        self.tuned = false;
        let wait =
            if self.ring.care.is_joining(now) && !empty.is_empty() { joining } else { self.tuning_wait };
        self.tuning_at = now + self.ring.care.steady(wait);
    }

    /// One of these, each half as likely as the one before.
    fn weighted(&mut self, cells: &[u16]) -> Option<u16> {
        let last = cells.len().checked_sub(1)?;
        let skip = self.ring.care.rng.random::<u32>().leading_zeros() as usize;
        cells.get(skip.min(last)).copied()
    }

    /// Rows that reach beyond the leaf set.
    fn rows(&self) -> u32 {
        let local = self.ring.local();
        let ends = [self.ring.successors().last(), self.ring.predecessors().last()];
        let shared = ends.into_iter().flatten().map(|p| local.key().common_prefix(p.id().key()));
        shared.max().map_or(0, |bits| bits / self.base_bits + 1)
    }
}

impl Overlay for Bamboo {
    fn algorithm(&self) -> Algorithm {
        Algorithm::Bamboo
    }

    ring::views!();

    fn route(&self, key: &Key, count: usize) -> Route {
        let count = count.clamp(1, MAX_ROUTE);
        let own = ring::around(key, &self.ring.local());
        let mut nearest = self.ring.around(key, count + IN_CELL);
        let nearer = nearest.partition_point(|p| ring::around(key, p.id()) < own);
        if nearer < count {
            // Fewer than hold each key are nearer than we are, and our leaves are all known.
            let others = nearest.into_iter().take(count - 1).map(ring::contact);
            return Route::Replicas { contacts: others.collect(), includes_self: true };
        }
        nearest.truncate(nearer);
        // Of those that share as many digits with the key the quickest; the leaves as they stand.
        let digits = |p: &Peer| p.id().key().common_prefix(key) / self.base_bits;
        if !self.is_among_leaves(self.ring.place(key)) {
            nearest.sort_by_key(|p| (Reverse(digits(p)), p.rtt().is_none(), p.rtt()));
        }
        Route::Toward(nearest.into_iter().take(count).map(ring::contact).collect())
    }

    fn handle_peer(&mut self, now: Time, contact: Contact, evidence: Evidence) {
        match evidence {
            Evidence::Alive { rtt } => {
                let change = self.ring.hear(now, contact, rtt);
                self.note(now, change);
            }
            Evidence::Mentioned => self.ring.mention(now, contact),
        }
    }

    fn handle_failure(&mut self, now: Time, id: &NodeId) {
        let change = self.ring.fail(now, id);
        self.note(now, change);
    }

    fn handle_leave(&mut self, now: Time, id: &NodeId) {
        let change = self.ring.leave(now, id);
        self.note(now, change);
    }

    fn handle_timeout(&mut self, now: Time) {
        if self.ring.peers().is_empty() {
            (self.leaves_at, self.tuning_at) = (NEVER, NEVER);
        }
        if self.leaves_at <= now {
            self.swap_leaves(now);
        }
        if self.tuning_at <= now {
            self.tune(now);
        }
        self.ring.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<(Time, Reason)> {
        self.ring.poll_timeout(&[(self.leaves_at, Reason::Stabilise), (self.tuning_at, Reason::Refresh)])
    }
}

impl Bamboo {
    /// Whether a place among the peers lies between our leaves.
    fn is_among_leaves(&self, place: usize) -> bool {
        place < LEAVES || place + LEAVES > self.ring.peers().len()
    }
}

#[cfg(test)]
mod tests;
