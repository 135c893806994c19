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

use std::time::Duration;

use wire::{Contact, Distance, Key, NodeId, Seed, Time, seed::RngExt};

use crate::Algorithm;
use crate::care::{ASKED_SPAN, Care, NEVER};
use crate::overlay::{Entry, Evidence, MAX_ROUTE, Metric, Overlay, Reason, Route, Standing, Upkeep};
use crate::ring::{self, Ring};
use crate::table::{MAX_BASE_BITS, Peer, prefix};

/// One walks up to a key, and the holders stand behind it.
pub const METRIC: Metric = Metric { rank: ring::after, progress: Some(ring::before) };

/// Successors at least, and at most; between them twice the logarithm of the network's size, with
/// which a ring survives the death of half of its peers at once (Stoica et al., section V).
const SUCCESSORS: (usize, usize) = (8, 24);

/// Predecessors. To say that it holds a key a peer must know as many before it as hold each key.
const PREDECESSORS: usize = 16;

/// Peers of one interval that are kept.
const FINGERS: usize = 3;

/// Peers of one network prefix in one interval, and in the table.
const PREFIX_IN_INTERVAL: usize = 2;
const PREFIX_IN_TABLE: usize = 10;

/// A finger makes room for one that answers in less than this share of its time.
const QUICKER: f32 = 0.8;

/// A peer silent for this long is asked whether it lives, the next on either side sooner.
const CHECK_AFTER: Duration = Duration::from_secs(300);
const CHECK_NEXT_AFTER: Duration = Duration::from_secs(60);

/// The least time between two such questions: at 230 bytes each they cost at most 58 bytes/s.
const CHECK_GAP: Duration = Duration::from_secs(4);

/// A suspect is asked again after this time.
const RECHECK: Duration = Duration::from_secs(10);

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

/// Our own place is looked up again after this time, doubled each time up to the second.
const NEIGHBORS: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(1_200));

/// How many peers at our place shall have spoken.
const NEIGHBORS_WIDTH: usize = 4;

/// A peer's view of a Chord ring.
#[derive(Debug)]
pub struct Chord {
    ring: Ring,
    base_bits: u32,
    care: Care,
    stabilise_at: Time,
    stabilise_wait: Duration,
    /// Whether a successor or predecessor came or went since the last swap.
    changed: bool,
    /// The swaps done: every other goes to the next successor.
    turn: usize,
    check_at: Time,
    fix_at: Time,
    /// The interval searched last; they are fixed in turn.
    fixed: u16,
    neighbors_at: Time,
    neighbors_wait: Duration,
}

/// A Chord with the default figures; see [`crate::build`].
pub fn build(local: NodeId, base_bits: u8, seed: Seed, _now: Time) -> Box<dyn Overlay> {
    Box::new(Chord {
        ring: Ring::new(local),
        base_bits: u32::from(base_bits.clamp(1, MAX_BASE_BITS)),
        care: Care::new(seed),
        stabilise_at: NEVER,
        stabilise_wait: STABILISE.0,
        changed: false,
        turn: 0,
        check_at: NEVER,
        fix_at: NEVER,
        fixed: 0,
        neighbors_at: NEVER,
        neighbors_wait: NEIGHBORS.0,
    })
}

impl Chord {
    // --- whom to know ---------------------------------------------------------------------------

    /// How many successors to know, by the size of the ring that their density tells.
    fn list_len(&self) -> usize {
        let (least, most) = SUCCESSORS;
        let Some(last) = self.ring.successors(least).last() else { return least };
        let share = self.ring.distance(last.contact.id.key()).leading_zeros() as usize;
        // 2^share arcs as long as that to the eighth successor make up the ring.
        (2 * (share + 3)).clamp(least, most)
    }

    /// Whether this place among the peers is that of a neighbour.
    fn is_near(&self, place: usize) -> bool {
        place < self.list_len() || place + PREDECESSORS >= self.ring.peers().len()
    }

    /// The interval of a finger: its digit's place and the digit.
    fn interval(&self, distance: &Distance) -> u16 {
        let bits = self.ring.local().key().bits();
        let top = bits.saturating_sub(1 + distance.leading_zeros());
        let digit = top / self.base_bits;
        let mut value = 0u32;
        for bit in (digit * self.base_bits..((digit + 1) * self.base_bits).min(bits)).rev() {
            value = value << 1 | bit_of(distance, bits - 1 - bit);
        }
        ((digit << self.base_bits) | value) as u16
    }

    fn interval_of(&self, id: &NodeId) -> u16 {
        self.interval(&self.ring.distance(id.key()))
    }

    /// The fingers in an interval, without the neighbours there.
    fn fingers(&self, interval: u16) -> impl Iterator<Item = (usize, &Peer)> {
        let all = self.ring.peers().iter().enumerate();
        all.filter(move |(place, p)| !self.is_near(*place) && self.interval_of(&p.contact.id) == interval)
    }

    fn prefix_allows(&self, contact: &Contact) -> bool {
        let Some(network) = prefix(contact.address.ip()) else { return true };
        let same = |p: &Peer| p.contact.id != contact.id && prefix(p.contact.address.ip()) == Some(network);
        let interval = self.interval_of(&contact.id);
        let in_interval = self.fingers(interval).filter(|(_, p)| same(p)).count();
        let in_table = self.ring.peers().iter().filter(|p| same(p)).count();
        in_interval < PREFIX_IN_INTERVAL && in_table < PREFIX_IN_TABLE
    }

    /// Whether an answer of this stranger would bring it into the table.
    fn has_place_for(&self, contact: &Contact) -> bool {
        if contact.id == self.ring.local() || self.ring.get(&contact.id).is_some() {
            return false;
        }
        let place = self.ring.place(contact.id.key());
        // Entering, it moves everybody behind it one place on.
        let near = place < self.list_len() || place + PREDECESSORS > self.ring.peers().len();
        let interval = self.interval_of(&contact.id);
        (near || self.fingers(interval).filter(|(_, p)| p.failures == 0).count() < FINGERS)
            && self.prefix_allows(contact)
    }

    fn hear(&mut self, now: Time, contact: Contact, rtt: Option<Duration>) {
        if contact.id == self.ring.local() {
            return;
        }
        self.care.heard();
        if let Some(peer) = self.ring.get_mut(&contact.id) {
            peer.hear(now, contact.address, rtt);
            return;
        }
        if !self.has_place_for(&contact) && !self.takes_place(&contact, rtt) {
            return;
        }
        let alone = self.ring.len() == 0;
        let place = self.ring.insert(Peer::new(now, contact, rtt));
        self.care.welcome(contact);
        if alone {
            self.join(now);
        }
        if self.is_near(place) {
            self.change(now);
        }
        self.trim();
        self.check_at = self.check_at.min(now + CHECK_NEXT_AFTER);
    }

    /// A quicker peer takes the place of the slowest finger of its interval, which goes.
    fn takes_place(&mut self, contact: &Contact, rtt: Option<Duration>) -> bool {
        let (Some(rtt), true) = (rtt, self.prefix_allows(contact)) else { return false };
        let known = contact.id == self.ring.local() || self.ring.get(&contact.id).is_some();
        let interval = self.interval_of(&contact.id);
        let slowest = self.fingers(interval).max_by_key(|(_, p)| (p.failures, p.rtt()));
        let Some((place, peer)) = slowest.filter(|_| !known) else { return false };
        let quicker = peer.rtt().is_some_and(|old| rtt < old.mul_f32(QUICKER));
        if quicker {
            self.ring.remove(place);
        }
        quicker
    }

    /// Lets go whoever is a neighbour no longer and has no place as a finger.
    fn trim(&mut self) {
        let mut place = self.list_len();
        while place + PREDECESSORS < self.ring.peers().len() {
            let interval = self.interval_of(&self.ring.peers()[place].contact.id);
            let rank = |(_, p): &(usize, &Peer)| (p.failures, p.rtt().is_none(), p.rtt());
            let crowd = self.fingers(interval).count();
            match self.fingers(interval).max_by_key(rank).filter(|_| crowd > FINGERS) {
                Some((worst, _)) => {
                    self.ring.remove(worst);
                }
                None => place += 1,
            }
        }
    }

    // --- joining and stabilising ----------------------------------------------------------------

    fn join(&mut self, now: Time) {
        self.care.join(now);
        self.neighbors_wait = NEIGHBORS.0;
        self.stabilise_wait = STABILISE.0;
        // A moment's wait lets the other bootstrap peers answer too.
        let pause = Duration::from_millis(self.care.rng.random_range(40..120));
        self.neighbors_at = now + pause;
        self.stabilise_at = now + pause * 8;
        self.fix_at = now + pause * 16;
    }

    /// A neighbour came or went: the lists are worth a swap soon.
    fn change(&mut self, now: Time) {
        self.changed = true;
        let soon = self.stabilise_wait.min(STABILISE.1 / 2);
        let soon = now + self.care.jittered(soon);
        self.stabilise_at = self.stabilise_at.min(soon);
    }

    fn stabilise(&mut self, now: Time) {
        self.turn += 1;
        let near = self.list_len();
        let successors = self.ring.successors(near).count();
        let partner = match self.turn % 4 {
            // The predecessor knows whom we ought to have as successors, the farther ones know the rest.
            2 => self.ring.predecessors(1).next().map(ring::contact),
            0 if successors > 0 => {
                let pick = self.care.rng.random_range(0..successors);
                self.ring.successors(near).nth(pick).map(ring::contact)
            }
            _ => self.ring.successors(1).next().map(ring::contact),
        };
        if let Some(contact) = partner {
            self.care.wish(Upkeep::Exchange(contact));
        }
        let (_, least, most) = STABILISE;
        self.stabilise_wait = match self.changed && self.stabilise_wait >= least {
            true => (self.stabilise_wait / 2).max(least),
            false => (self.stabilise_wait * 2).min(most),
        };
        self.changed = false;
        self.stabilise_at = now + self.care.jittered(self.stabilise_wait);
    }

    fn look_up_neighbors(&mut self, now: Time) {
        let key = *self.ring.local().key();
        self.care.wish(Upkeep::Lookup { key, width: NEIGHBORS_WIDTH });
        self.neighbors_at = now + self.care.jittered(self.neighbors_wait);
        self.neighbors_wait = (self.neighbors_wait * 2).min(NEIGHBORS.1);
    }

    // --- checking -------------------------------------------------------------------------------

    fn due(&self, place: usize, peer: &Peer) -> Time {
        let last = |id: &NodeId| id.key().as_bytes().last().copied().unwrap_or(0);
        // The pair's own jitter, so that many tables filled in one minute do not all ask in another.
        let spread = f32::from(last(&peer.contact.id) ^ last(&self.ring.local())) / 512.0;
        let next = place == 0 || place + 1 == self.ring.peers().len();
        let after = if next { CHECK_NEXT_AFTER } else { CHECK_AFTER };
        match peer.failures {
            0 => {
                let due = peer.heard + self.care.paced(after).mul_f32(0.75 + spread);
                due.max(peer.asked + ASKED_SPAN)
            }
            _ => peer.asked + RECHECK,
        }
    }

    fn next_check(&self) -> Option<(Time, Contact)> {
        let dues = self.ring.peers().iter().enumerate();
        dues.map(|(place, p)| (self.due(place, p), p.contact)).min_by_key(|(due, _)| *due)
    }

    fn check(&mut self, now: Time) {
        let mut floor = Time::ZERO;
        if let Some((_, contact)) = self.next_check().filter(|(due, _)| *due <= now) {
            if let Some(peer) = self.ring.get_mut(&contact.id) {
                peer.asked = now;
            }
            self.care.wish(Upkeep::Ping(contact));
            floor = now + self.care.jittered(CHECK_GAP);
        }
        self.check_at = self.next_check().map_or(NEVER, |(due, _)| due.max(floor));
    }

    /// Asks those mentioned who still have a place, as far as the allowance goes.
    fn verify(&mut self, now: Time) {
        while let Some(contact) = self.care.next_to_verify(now) {
            if self.has_place_for(&contact) {
                self.care.verify(now, contact);
            }
        }
    }

    // --- fingers --------------------------------------------------------------------------------

    /// The intervals that the successors do not cover, from the widest on.
    fn far_intervals(&self) -> impl Iterator<Item = u16> {
        let bits = self.ring.local().key().bits();
        let covered = self.ring.successors(self.list_len()).last();
        let covered = covered.map_or(0, |p| self.interval_of(&p.contact.id));
        let digits = bits.div_ceil(self.base_bits);
        let all = (0..digits).rev().flat_map(move |digit| {
            (1..1u32 << self.base_bits).rev().map(move |value| ((digit << self.base_bits) | value) as u16)
        });
        all.take_while(move |interval| *interval > covered)
    }

    fn fix_fingers(&mut self, now: Time) {
        let poor: Vec<u16> = self.far_intervals().filter(|i| self.fingers(*i).next().is_none()).collect();
        // In turn, from the one fixed last towards the nearer ones.
        let next = poor.iter().copied().find(|i| *i < self.fixed).or(poor.first().copied());
        let gap = if self.care.is_joining(now) { FIX_GAP_JOINING } else { FIX_GAP };
        let Some(interval) = next else {
            self.fix_at = now + self.care.jittered(FIX_GAP);
            return;
        };
        self.fixed = interval;
        let key = self.key_in(interval);
        self.care.wish(Upkeep::Lookup { key, width: FIX_WIDTH });
        let rounds = poor.len().max(1) as u32;
        let wait = if self.care.is_joining(now) { gap } else { (FIX / rounds).max(gap) };
        self.fix_at = now + self.care.jittered(wait);
    }

    /// A random key of an interval.
    fn key_in(&mut self, interval: u16) -> Key {
        let local = *self.ring.local().key();
        let bits = local.bits();
        let (digit, value) = (u32::from(interval) >> self.base_bits, u32::from(interval));
        let low = digit * self.base_bits;
        let mut distance: [u8; Key::MAX_LEN] = self.care.rng.random();
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

    fn local(&self) -> NodeId {
        self.ring.local()
    }

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
        if before == 0 || before + count <= self.list_len() {
            // Our successors stand around the key, and we know all of them.
            let holders = self.ring.good(place..end).take(count).map(ring::contact).collect();
            return Route::Replicas { contacts: holders, includes_self: false };
        }
        // The nearest before the key; of those as near, by the power of two, the quickest.
        let mut ahead: Vec<&Peer> = self.ring.good(0..place).rev().take(count + FINGERS).collect();
        ahead.sort_by_key(|p| {
            let zeros = ring::before(key, &p.contact.id).leading_zeros();
            (std::cmp::Reverse(zeros), p.rtt().is_none(), p.rtt())
        });
        Route::Toward(ahead.into_iter().take(count).map(ring::contact).collect())
    }

    fn handle_peer(&mut self, now: Time, contact: Contact, evidence: Evidence) {
        match evidence {
            Evidence::Alive { rtt } => self.hear(now, contact, rtt),
            Evidence::Mentioned if self.has_place_for(&contact) => {
                // Neighbours first, on either side.
                let clockwise = self.ring.distance(contact.id.key());
                let urgency = clockwise.min(ring::before(self.ring.local().key(), &contact.id));
                self.care.mention(now, contact, urgency);
                self.verify(now);
            }
            Evidence::Mentioned => {}
        }
    }

    fn handle_failure(&mut self, now: Time, id: &NodeId) {
        let outage = self.care.failed(now, id);
        let Some(place) = self.ring.find(id) else { return };
        let near = self.is_near(place);
        let Some(peer) = self.ring.get_mut(id) else { return };
        peer.failures = peer.failures.saturating_add(1);
        peer.asked = now;
        if peer.failures >= 2 && !outage {
            self.ring.remove(place);
        } else {
            self.check_at = self.check_at.min(now + RECHECK);
        }
        if near {
            self.change(now);
        }
    }

    fn handle_leave(&mut self, now: Time, id: &NodeId) {
        if let Some(place) = self.ring.find(id) {
            let near = self.is_near(place);
            self.ring.remove(place);
            self.care.failed(now, id);
            self.care.heard();
            if near {
                self.change(now);
            }
        }
    }

    fn handle_timeout(&mut self, now: Time) {
        if self.ring.peers().is_empty() {
            let never = NEVER;
            (self.neighbors_at, self.stabilise_at, self.check_at, self.fix_at) = (never, never, never, never);
        }
        if self.neighbors_at <= now {
            self.look_up_neighbors(now);
        }
        if self.stabilise_at <= now {
            self.stabilise(now);
        }
        if self.check_at <= now {
            self.check(now);
        }
        if self.fix_at <= now {
            self.fix_fingers(now);
        }
        self.verify(now);
    }

    fn poll_timeout(&self) -> Option<(Time, Reason)> {
        [
            (self.neighbors_at, Reason::Neighbors),
            (self.stabilise_at, Reason::Stabilise),
            (self.check_at, Reason::Check),
            (self.fix_at, Reason::Refresh),
            (self.care.verify_at(), Reason::Verify),
        ]
        .into_iter()
        .min_by_key(|&(at, _)| at)
        .filter(|&(at, _)| at < NEVER)
    }

    fn poll_upkeep(&mut self) -> Option<Upkeep> {
        self.care.poll_wish()
    }

    fn poll_newcomer(&mut self) -> Option<Contact> {
        self.care.poll_newcomer()
    }

    fn set_pace(&mut self, factor: f32) {
        self.care.set_pace(factor);
    }

    fn contacts(&self) -> Vec<Entry> {
        let entry = |p: &Peer| {
            let interval = self.interval_of(&p.contact.id);
            Entry {
                row: interval >> self.base_bits,
                column: (interval & ((1 << self.base_bits) - 1)) as u8,
                contact: p.contact,
                last_seen: p.heard,
                rtt: p.rtt(),
                standing: if p.failures == 0 { Standing::Good } else { Standing::Suspect },
            }
        };
        self.ring.peers().iter().map(entry).collect()
    }

    /// The next on both sides, then the rest of the list of successors.
    fn neighbors(&self) -> Vec<Contact> {
        let mut all: Vec<Contact> = Vec::new();
        let successors = self.ring.successors(self.list_len()).map(ring::contact);
        let predecessors = self.ring.predecessors(PREDECESSORS).map(ring::contact);
        let (mut one, mut other) = (successors.fuse(), predecessors.fuse());
        loop {
            let pair = [one.next(), other.next()];
            if pair == [None, None] {
                return all;
            }
            for contact in pair.into_iter().flatten() {
                if all.len() < MAX_ROUTE && !all.contains(&contact) {
                    all.push(contact);
                }
            }
        }
    }

    fn rtt(&self, id: &NodeId) -> Option<Duration> {
        self.ring.get(id)?.rtt()
    }

    fn len(&self) -> usize {
        self.ring.len()
    }

    fn contains(&self, id: &NodeId) -> bool {
        self.ring.get(id).is_some_and(|p| p.failures == 0)
    }
}

#[cfg(test)]
mod tests;
