//! Chord: a ring on which everybody knows those behind and before, and some far away.
//!
//! The first peer at or after a key, clockwise, is the most responsible for it (Stoica et al., 2001
//! and 2003). Lookups need nothing but right successors; fingers only make them short. With base 2^b
//! a finger points into each of the 2^b - 1 intervals of every digit, `[x + d*B^i, x + (d+1)*B^i)`, and
//! any peer of the interval will do, so that each holds a few, the quickest first.
//!
//! The paper's own way to join and stabilise loses peers when several come and go at once (Zave, "How
//! to make Chord correct", 2015). This one does not take a successor's word: it mends its list of
//! successors from the lists of several others, predecessors included, asks everybody itself before it
//! enters it, and keeps so many successors that all of them dying between two rounds is out of the
//! question. Whoever knows a part of the ring wrongly hears of it from both sides.
//!
//! Timers, each jittered: *stabilise* swaps lists with a neighbour, often while they change, rarely
//! while they do not; *check* asks whoever was silent long; *fix* searches in intervals where nobody
//! is known; *neighbors* looks up our own place; *verify* pings those mentioned.

use std::sync::Arc;
use std::time::Duration;

use wire::{Book, Contact, Distance, Key, NodeId, Seed, Time, seed::RngExt};

use crate::Algorithm;
use crate::care::NEVER;
use crate::overlay::{Entry, Evidence, MAX_ROUTE, Metric, Overlay, Reason, Route, Upkeep};
use crate::ring::{self, CHECKS, Change, IN_CELL, Ring, Shape};
use crate::table::{MAX_BASE_BITS, Peer};

/// One walks up to a key, and the holders stand behind it.
pub const METRIC: Metric = Metric { rank: ring::after, progress: Some(ring::before) };

/// Predecessors. To say that it holds a key a peer must know as many before it as hold each key.
const PREDECESSORS: usize = 16;

/// Between two swaps of lists: at first, while something changes, and at most. A swap costs about
/// 1,100 bytes, so that one in two minutes is 9 bytes/s.
const STABILISE: (Duration, Duration, Duration) =
    (Duration::from_secs(2), Duration::from_secs(120), Duration::from_secs(600));

/// An interval without a peer is searched this often, and the least time between two such searches.
const FIX: Duration = Duration::from_secs(600);
const FIX_GAP: Duration = Duration::from_secs(60);
const FIX_GAP_JOINING: Duration = Duration::from_millis(500);

/// How many peers a search for a finger hears.
const FIX_WIDTH: usize = 2;

/// How many peers at our place shall have spoken.
const NEIGHBORS_WIDTH: usize = 4;

/// A peer's view of a Chord ring.
#[derive(Debug)]
pub struct Chord {
    ring: Ring,
    base_bits: u32,
    stabilise_at: Time,
    stabilise_wait: Duration,
    /// Whether a successor or predecessor came or went since the last swap.
    changed: bool,
    /// The swaps done: every other goes to the next successor.
    turn: usize,
    fix_at: Time,
    /// The interval searched last; they are fixed in turn.
    fixed: u16,
}

/// A Chord with the default figures; see [`crate::build`].
pub fn build(local: NodeId, base_bits: u8, seed: Seed, _now: Time) -> Box<dyn Overlay> {
    Box::new(Chord::new(local, base_bits, seed))
}

/// Successors to keep: twice the logarithm of the size that the place of the eighth tells. With so
/// many a ring survives the death of half of its peers at once (Stoica et al., section V).
fn successors(eighth: &Distance) -> usize {
    // 2^n arcs as long as that to the eighth make up the ring.
    let arcs = if *eighth == Distance::ZERO { 0 } else { eighth.leading_zeros() as usize };
    (2 * (arcs + 3)).clamp(8, 24)
}

/// The interval of a finger: its digit's place, counted from the lowest, and the digit.
fn interval(local: &Key, key: &Key, base_bits: u32) -> u16 {
    let (bits, distance) = (local.bits(), local.clockwise_to(key));
    let top = bits.saturating_sub(1 + distance.leading_zeros());
    let digit = top / base_bits;
    let places = (digit * base_bits..((digit + 1) * base_bits).min(bits)).rev();
    let value = places.fold(0, |value, place| value << 1 | bit_of(&distance, bits - 1 - place));
    ((digit << base_bits) | value) as u16
}

impl Chord {
    fn new(local: NodeId, base_bits: u8, seed: Seed) -> Self {
        let base_bits = u32::from(base_bits.clamp(1, MAX_BASE_BITS));
        let shape = Shape {
            successors,
            predecessors: PREDECESSORS,
            cell: interval,
            base_bits,
            checks: CHECKS,
            width: NEIGHBORS_WIDTH,
            measures_churn: true,
        };
        Chord {
            ring: Ring::new(local, shape, seed),
            base_bits,
            stabilise_at: NEVER,
            stabilise_wait: STABILISE.0,
            changed: false,
            turn: 0,
            fix_at: NEVER,
            fixed: 0,
        }
    }

    fn note(&mut self, now: Time, change: Change) {
        match change {
            Change::First => self.join(now),
            Change::Near => self.change(now),
            Change::Far | Change::Nothing => {}
        }
    }

    // --- joining and stabilising ----------------------------------------------------------------

    fn join(&mut self, now: Time) {
        self.stabilise_wait = STABILISE.0;
        // Once our own place is known.
        let pause = Duration::from_millis(self.ring.care.rng.random_range(40..120));
        self.stabilise_at = now + pause * 8;
        self.fix_at = now + pause * 16;
    }

    /// A neighbour came or went: the lists are worth a swap soon.
    fn change(&mut self, now: Time) {
        self.changed = true;
        let soon = self.stabilise_wait.min(STABILISE.1 / 2);
        let soon = now + self.ring.care.jittered(soon);
        self.stabilise_at = self.stabilise_at.min(soon);
    }

    fn stabilise(&mut self, now: Time) {
        self.turn += 1;
        let successors = self.ring.successors().count();
        let partner = match self.turn % 4 {
            // The predecessor knows whom we ought to have as successors, the farther ones know the rest.
            2 => self.ring.predecessors().next().map(ring::contact),
            0 if successors > 0 => {
                let pick = self.ring.care.rng.random_range(0..successors);
                self.ring.successors().nth(pick).map(ring::contact)
            }
            _ => self.ring.successors().next().map(ring::contact),
        };
        if let Some(contact) = partner {
            self.ring.care.wish(Upkeep::Exchange { with: contact, give: false, rows: false });
        }
        let (_, least, most) = STABILISE;
        self.stabilise_wait = match self.changed && self.stabilise_wait >= least {
            true => (self.stabilise_wait / 2).max(least),
            false => (self.stabilise_wait * 2).min(most),
        };
        self.changed = false;
        self.stabilise_at = now + self.ring.care.steady(self.stabilise_wait);
    }

    // --- fingers --------------------------------------------------------------------------------

    /// The intervals that the successors do not cover, from the widest on.
    fn far_intervals(&self) -> impl Iterator<Item = u16> {
        let bits = self.ring.local().key().bits();
        let covered = self.ring.successors().last();
        let covered = covered.map_or(0, |p| self.ring.cell_of(p.id()));
        let digits = bits.div_ceil(self.base_bits);
        let all = (0..digits).rev().flat_map(move |digit| {
            (1..1u32 << self.base_bits).rev().map(move |value| ((digit << self.base_bits) | value) as u16)
        });
        all.take_while(move |interval| *interval > covered)
    }

    fn fix_fingers(&mut self, now: Time) {
        let poor: Vec<u16> =
            self.far_intervals().filter(|i| self.ring.in_cell(*i).next().is_none()).collect();
        // In turn, from the one fixed last towards the nearer ones.
        let next = poor.iter().copied().find(|i| *i < self.fixed).or(poor.first().copied());
        let gap = if self.ring.care.is_joining(now) { FIX_GAP_JOINING } else { FIX_GAP };
        let Some(interval) = next else {
            self.fix_at = now + self.ring.care.steady(FIX_GAP);
            return;
        };
        self.fixed = interval;
        let key = self.key_in(interval);
        self.ring.care.wish(Upkeep::Lookup { key, width: FIX_WIDTH });
        let rounds = poor.len().max(1) as u32;
        let wait = if self.ring.care.is_joining(now) { gap } else { (FIX / rounds).max(gap) };
        self.fix_at = now + self.ring.care.steady(wait);
    }

    /// A random key of an interval.
    fn key_in(&mut self, interval: u16) -> Key {
        let local = *self.ring.local().key();
        let bits = local.bits();
        let (digit, value) = (u32::from(interval) >> self.base_bits, u32::from(interval));
        let low = digit * self.base_bits;
        let mut distance: [u8; Key::MAX_LEN] = self.ring.care.rng.random();
        for bit in low..bits {
            let wanted = bit < low + self.base_bits && value >> (bit - low) & 1 == 1;
            set_bit(&mut distance, bits - 1 - bit, wanted);
        }
        add(&local, &distance)
    }
}

/// The bit at `index`, counted from the most significant.
fn bit_of(distance: &Distance, index: u32) -> u32 {
    u32::from(distance.0[(index / 8) as usize] >> (7 - index % 8) & 1)
}

fn set_bit(bytes: &mut [u8; Key::MAX_LEN], index: u32, on: bool) {
    let mask = 1 << (7 - index % 8);
    let byte = &mut bytes[(index / 8) as usize];
    *byte = if on { *byte | mask } else { *byte & !mask };
}

/// The key so far clockwise of another.
fn add(key: &Key, distance: &[u8; Key::MAX_LEN]) -> Key {
    let mut sum = [0; Key::MAX_LEN];
    let len = key.as_bytes().len();
    let mut carry = 0u16;
    for i in (0..len).rev() {
        carry += u16::from(key.as_bytes()[i]) + u16::from(distance[i]);
        sum[i] = carry as u8;
        carry >>= 8;
    }
    Key::from_slice(&sum[..len]).expect("a sum is as long as its key")
}

impl Overlay for Chord {
    fn algorithm(&self) -> Algorithm {
        Algorithm::Chord
    }

    ring::views!();

    fn route(&self, key: &Key, count: usize) -> Route {
        let count = count.clamp(1, MAX_ROUTE);
        let (place, end) = (self.ring.place(key), self.ring.peers().len());
        let behind = self.ring.good(place..end).count();
        if behind < count {
            // Fewer than hold each key stand between it and us.
            let others = self.ring.good(place..end).chain(self.ring.good(0..place)).take(count - 1);
            return Route::Replicas { contacts: others.map(ring::contact).collect(), includes_self: true };
        }
        let before = self.ring.good(0..place).count();
        if before == 0 || before + count <= self.ring.list_len() {
            // Our successors stand around the key, and we know all of them.
            let holders = self.ring.good(place..end).take(count).map(ring::contact).collect();
            return Route::Replicas { contacts: holders, includes_self: false };
        }
        // The nearest before the key; of those as near, by the power of two, the quickest.
        let mut ahead: Vec<&Peer> = self.ring.good(0..place).rev().take(count + IN_CELL).collect();
        ahead.sort_by_key(|p| {
            let zeros = ring::before(key, p.id()).leading_zeros();
            (std::cmp::Reverse(zeros), p.rtt().is_none(), p.rtt())
        });
        Route::Toward(ahead.into_iter().take(count).map(ring::contact).collect())
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
            (self.stabilise_at, self.fix_at) = (NEVER, NEVER);
        }
        if self.stabilise_at <= now {
            self.stabilise(now);
        }
        if self.fix_at <= now {
            self.fix_fingers(now);
        }
        self.ring.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<(Time, Reason)> {
        self.ring.poll_timeout(&[(self.stabilise_at, Reason::Stabilise), (self.fix_at, Reason::Refresh)])
    }
}

#[cfg(test)]
mod tests;
