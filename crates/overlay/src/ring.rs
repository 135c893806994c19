//! What two rings, Chord's and Bamboo's, have in common: peers in the order in which one meets them
//! walking clockwise from oneself, some of them neighbours on either side, some far away by a rule.
//!
//! The first are the successors, the last the predecessors, and whoever stands at a key is found by
//! one binary search. Neighbours are all kept; the far ones fall into *cells* (an interval of a finger,
//! a place of a prefix table), each of which holds a few, the quickest of those that came by.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use wire::{Book, Contact, Distance, Key, NodeId, OwnBook, Seed, Time, seed::RngExt};

use crate::care::{ASKED_SPAN, Care, NEVER};
use crate::overlay::{Entry, MAX_ROUTE, Reason, Standing, Upkeep};
use crate::table::{Networks, Peer};

/// Peers of one cell that are kept.
pub(crate) const IN_CELL: usize = 3;

/// Peers of one network prefix in one cell, and in the table.
const PREFIX_IN_CELL: usize = 2;
const PREFIX_IN_TABLE: usize = 10;

/// A far peer makes room for one that answers in less than this share of its time.
const QUICKER: f32 = 0.8;

/// How often the peers of a table are asked whether they live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checks {
    /// A peer silent for this long is asked.
    pub(crate) after: Duration,
    /// The next on either side sooner.
    pub(crate) next_after: Duration,
    /// The least time between two such questions, of 230 bytes with their answers.
    pub(crate) gap: Duration,
}

/// With sessions of an hour some 4 % of entries are dead at any time; at most 58 bytes/s.
pub(crate) const CHECKS: Checks = Checks {
    after: Duration::from_secs(300),
    next_after: Duration::from_secs(60),
    gap: Duration::from_secs(4),
};

/// Our own place is looked up again after this time, doubled each time up to the second.
const OWN_PLACE: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(1_200));

/// A suspect is asked again after this time.
const RECHECK: Duration = Duration::from_secs(10);

/// What the algorithm decides about its ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Successors that are all kept, for a network in which the eighth stands so far away.
    pub(crate) successors: fn(&Distance) -> usize,
    /// Predecessors that are all kept.
    pub(crate) predecessors: usize,
    /// The cell of a peer: of the local key, the peer's, and the bits of a digit.
    pub(crate) cell: fn(&Key, &Key, u32) -> u16,
    /// Bits of a digit.
    pub(crate) base_bits: u32,
    /// How often they are asked whether they live.
    pub(crate) checks: Checks,
    /// How many peers at our own place shall have spoken when it is looked up.
    pub(crate) width: usize,
    /// Whether periods, and the care for records, follow the churn that is measured here.
    pub(crate) measures_churn: bool,
}

/// What became of the table by something heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Nothing,
    /// A far peer came or went.
    Far,
    /// A neighbour came or went.
    Near,
    /// We knew nobody, and now know somebody.
    First,
}

/// Peers by their clockwise distance from `local`, and the care for them.
#[derive(Debug)]
pub(crate) struct Ring {
    local: NodeId,
    shape: Shape,
    peers: Vec<Peer>,
    book: Arc<dyn Book>,
    pub(crate) care: Care,
    check_at: Time,
    /// When our own place is looked up next, and the wait after that.
    place_at: Time,
    place_wait: Duration,
}

impl Ring {
    pub(crate) fn new(local: NodeId, shape: Shape, seed: Seed) -> Self {
        Ring {
            local,
            shape,
            peers: Vec::new(),
            book: Arc::new(OwnBook),
            care: Care::new(seed),
            check_at: NEVER,
            place_at: NEVER,
            place_wait: OWN_PLACE.0,
        }
    }

    /// Takes contacts from this book from now on.
    pub(crate) fn share(&mut self, book: Arc<dyn Book>) {
        self.book = book;
    }

    // --- places ---------------------------------------------------------------------------------

    pub(crate) fn local(&self) -> NodeId {
        self.local
    }

    /// How far one walks from us to a key.
    pub(crate) fn distance(&self, key: &Key) -> Distance {
        self.local.key().clockwise_to(key)
    }

    /// The peers, successors first, predecessors last.
    pub(crate) fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// Where a key stands: behind so many peers.
    pub(crate) fn place(&self, key: &Key) -> usize {
        let distance = self.distance(key);
        self.peers.partition_point(|p| self.distance(p.id().key()) < distance)
    }

    fn find(&self, id: &NodeId) -> Option<usize> {
        let place = self.place(id.key());
        self.peers.get(place).filter(|p| p.id() == id).map(|_| place)
    }

    pub(crate) fn get(&self, id: &NodeId) -> Option<&Peer> {
        self.find(id).map(|place| &self.peers[place])
    }

    /// The peers in good standing among these places.
    pub(crate) fn good(&self, places: Range<usize>) -> impl DoubleEndedIterator<Item = &Peer> {
        self.peers[places].iter().filter(|p| p.failures == 0)
    }

    /// Whether this peer is in good standing.
    pub(crate) fn contains(&self, id: &NodeId) -> bool {
        self.get(id).is_some_and(|p| p.failures == 0)
    }

    /// The peers in good standing nearest to a key, whichever way round; the nearest first.
    pub(crate) fn around(&self, key: &Key, count: usize) -> Vec<&Peer> {
        let (place, end) = (self.place(key), self.peers.len());
        let behind = self.good(place..end).chain(self.good(0..place)).take(count);
        let before = self.good(0..place).rev().chain(self.good(place..end).rev()).take(count);
        let mut all: Vec<(Distance, &Peer)> =
            behind.chain(before).map(|p| (around(key, p.id()), p)).collect();
        all.sort_by_key(|(distance, p)| (*distance, p.id()));
        all.dedup_by_key(|(_, p)| p.id());
        all.into_iter().map(|(_, p)| p).take(count).collect()
    }

    /// All peers in good standing.
    pub(crate) fn all(&self) -> impl DoubleEndedIterator<Item = &Peer> {
        self.good(0..self.peers.len())
    }

    /// How many successors are kept.
    pub(crate) fn list_len(&self) -> usize {
        let eighth = self.all().nth(7).map_or(Distance::ZERO, |p| self.distance(p.id().key()));
        (self.shape.successors)(&eighth)
    }

    /// The first peers in good standing, as one meets them clockwise; as many as are kept.
    pub(crate) fn successors(&self) -> impl Iterator<Item = &Peer> {
        self.all().take(self.list_len())
    }

    /// The last peers in good standing, the nearest to us first; as many as are kept.
    pub(crate) fn predecessors(&self) -> impl Iterator<Item = &Peer> {
        self.all().rev().take(self.shape.predecessors)
    }

    /// The next on both sides in turn, as many as one answer names.
    pub(crate) fn neighbors(&self) -> Vec<Contact> {
        let (mut behind, mut before) = (self.successors().fuse(), self.predecessors().fuse());
        let mut all: Vec<Contact> = Vec::new();
        loop {
            let pair = [behind.next(), before.next()];
            if pair.iter().all(Option::is_none) {
                return all;
            }
            for peer in pair.into_iter().flatten() {
                if all.len() < MAX_ROUTE && !all.contains(&peer.contact()) {
                    all.push(peer.contact());
                }
            }
        }
    }

    // --- cells ----------------------------------------------------------------------------------

    /// Whether this place among the peers is that of a neighbour.
    fn is_near(&self, place: usize, list_len: usize) -> bool {
        place < list_len || place + self.shape.predecessors >= self.peers.len()
    }

    pub(crate) fn cell_of(&self, id: &NodeId) -> u16 {
        (self.shape.cell)(self.local.key(), id.key(), self.shape.base_bits)
    }

    /// The far peers in a cell.
    pub(crate) fn in_cell(&self, cell: u16) -> impl Iterator<Item = (usize, &Peer)> {
        let len = self.list_len();
        let all = self.peers.iter().enumerate();
        all.filter(move |(place, p)| !self.is_near(*place, len) && self.cell_of(p.id()) == cell)
    }

    fn prefix_allows(&self, contact: &Contact) -> bool {
        let network = |address: std::net::SocketAddr| Networks::of(address.ip()).map(|n| n.small);
        let Some(small) = network(contact.address) else { return true };
        let same = |p: &Peer| *p.id() != contact.id && network(p.contact().address) == Some(small);
        let in_table = self.peers.iter().filter(|p| same(p)).count();
        let in_cell = self.in_cell(self.cell_of(&contact.id)).filter(|(_, p)| same(p)).count();
        in_cell < PREFIX_IN_CELL && in_table < PREFIX_IN_TABLE
    }

    /// Whether an answer of this stranger would bring it into the table.
    pub(crate) fn has_place_for(&self, contact: &Contact) -> bool {
        if contact.id == self.local || self.get(&contact.id).is_some() {
            return false;
        }
        let place = self.place(contact.id.key());
        let near = place < self.list_len() || place + self.shape.predecessors > self.peers.len();
        let has_room = || {
            let cell = self.cell_of(&contact.id);
            self.in_cell(cell).filter(|(_, p)| p.failures == 0).count() < IN_CELL
        };
        (near || has_room()) && self.prefix_allows(contact)
    }

    /// A quicker peer takes the place of the slowest of its cell, which goes.
    fn takes_place(&mut self, contact: &Contact, rtt: Option<Duration>) -> bool {
        let known = contact.id == self.local || self.get(&contact.id).is_some();
        let Some(rtt) = rtt.filter(|_| !known && self.prefix_allows(contact)) else { return false };
        let cell = self.cell_of(&contact.id);
        let slowest = self.in_cell(cell).max_by_key(|(_, p)| (p.failures, p.rtt()));
        let Some((place, peer)) = slowest else { return false };
        let quicker = peer.rtt().is_some_and(|old| rtt < old.mul_f32(QUICKER));
        if quicker {
            self.peers.remove(place);
        }
        quicker
    }

    /// Lets go whoever is a neighbour no longer and has no place in its cell.
    fn trim(&mut self) {
        let mut place = self.list_len();
        while place + self.shape.predecessors < self.peers.len() {
            let cell = self.cell_of(self.peers[place].id());
            let rank = |(_, p): &(usize, &Peer)| (p.failures, p.rtt().is_none(), p.rtt());
            let crowd = self.in_cell(cell).count();
            match self.in_cell(cell).max_by_key(rank).filter(|_| crowd > IN_CELL) {
                Some((worst, _)) => {
                    self.peers.remove(worst);
                }
                None => place += 1,
            }
        }
    }

    // --- what is heard --------------------------------------------------------------------------

    /// A peer answered.
    pub(crate) fn hear(&mut self, now: Time, contact: Contact, rtt: Option<Duration>) -> Change {
        if contact.id == self.local {
            return Change::Nothing;
        }
        self.care.heard();
        if let Some(place) = self.find(&contact.id) {
            let peer = &mut self.peers[place];
            if self.shape.measures_churn {
                self.care.churn.survived(now.since(peer.heard()));
            }
            if peer.contact() != contact {
                peer.moved(self.book.contact(contact));
            }
            peer.hear(now, rtt);
            return Change::Nothing;
        }
        if !self.has_place_for(&contact) && !self.takes_place(&contact, rtt) {
            return Change::Nothing;
        }
        let alone = self.all().next().is_none();
        let place = self.place(contact.id.key());
        self.peers.insert(place, Peer::met(now, self.book.contact(contact), rtt));
        let near = self.is_near(place, self.list_len());
        self.care.welcome(contact);
        self.trim();
        self.check_at = self.check_at.min(now + self.shape.checks.next_after);
        match (alone, near) {
            (true, _) => {
                self.care.join(now);
                // A moment's wait lets the other bootstrap peers answer too.
                let pause = Duration::from_millis(self.care.rng.random_range(40..120));
                (self.place_at, self.place_wait) = (now + pause, OWN_PLACE.0);
                Change::First
            }
            (false, true) => Change::Near,
            (false, false) => Change::Far,
        }
    }

    /// A peer was mentioned: neighbours are asked first, on either side.
    pub(crate) fn mention(&mut self, now: Time, contact: Contact) {
        if self.has_place_for(&contact) {
            let local = self.local;
            self.care.mention(now, contact, |id| around(local.key(), id));
            self.verify(now);
        }
    }

    /// Asks those mentioned who still have a place, as far as the allowance goes.
    fn verify(&mut self, now: Time) {
        while let Some(contact) = self.care.next_to_verify(now) {
            if self.has_place_for(&contact) {
                self.care.verify(now, contact);
            }
        }
    }

    /// A peer did not answer: the first time it is suspected, the second time it goes.
    pub(crate) fn fail(&mut self, now: Time, id: &NodeId) -> Change {
        let outage = self.care.failed();
        self.care.leave_alone(now, id);
        let Some(place) = self.find(id) else { return Change::Nothing };
        let near = self.is_near(place, self.list_len());
        let peer = &mut self.peers[place];
        peer.failures = peer.failures.saturating_add(1);
        peer.ask(now);
        if peer.failures >= 2 && !outage {
            self.peers.remove(place);
            self.note_departure();
        } else {
            self.check_at = self.check_at.min(now + RECHECK);
        }
        if near { Change::Near } else { Change::Far }
    }

    /// Somebody says that a peer is gone. Who was heard within `fresh` is not suspected on that; else
    /// `true`, and it is asked in its turn.
    pub(crate) fn suspect(&mut self, now: Time, id: &NodeId, fresh: Duration) -> bool {
        let Some(place) = self.find(id) else { return false };
        let peer = &mut self.peers[place];
        let believed = peer.failures == 0 && now.since(peer.heard()) >= fresh;
        if believed {
            peer.failures = 1;
            peer.ask(now);
            self.check_at = self.check_at.min(now + RECHECK);
        }
        believed
    }

    /// A peer said goodbye.
    pub(crate) fn leave(&mut self, now: Time, id: &NodeId) -> Change {
        let Some(place) = self.find(id) else { return Change::Nothing };
        let near = self.is_near(place, self.list_len());
        self.peers.remove(place);
        self.note_departure();
        self.care.leave_alone(now, id);
        if near { Change::Near } else { Change::Far }
    }

    fn note_departure(&mut self) {
        if self.shape.measures_churn {
            self.care.churn.departed();
        }
    }

    // --- timers -----------------------------------------------------------------------------------

    /// Does what every ring does when it is due.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        if self.place_at <= now {
            let key = *self.local.key();
            self.care.wish(Upkeep::Lookup { key, width: self.shape.width });
            let known = !self.peers.is_empty();
            self.place_at = if known { now + self.care.steady(self.place_wait) } else { NEVER };
            self.place_wait = (self.place_wait * 2).min(OWN_PLACE.1);
        }
        if self.check_at <= now {
            self.check(now);
        }
        self.verify(now);
    }

    /// When that is, together with the timers of the algorithm itself.
    pub(crate) fn poll_timeout(&self, others: &[(Time, Reason)]) -> Option<(Time, Reason)> {
        let own = [
            (self.place_at, Reason::Neighbors),
            (self.check_at, Reason::Check),
            (self.care.verify_at(), Reason::Verify),
        ];
        let all = own.into_iter().chain(others.iter().copied());
        all.min_by_key(|&(at, _)| at).filter(|&(at, _)| at < NEVER)
    }

    // --- checking -------------------------------------------------------------------------------

    fn due(&self, place: usize, peer: &Peer) -> Time {
        let last = |id: &NodeId| id.key().as_bytes().last().copied().unwrap_or(0);
        // The pair's own jitter, so that many tables filled in one minute do not all ask in another.
        let spread = f32::from(last(peer.id()) ^ last(&self.local)) / 512.0;
        let next = place == 0 || place + 1 == self.peers.len();
        let after = if next { self.shape.checks.next_after } else { self.shape.checks.after };
        match peer.failures {
            0 => {
                let due = peer.heard() + self.care.paced(after).mul_f32(0.75 + spread);
                due.max(peer.asked() + ASKED_SPAN)
            }
            _ => peer.asked() + RECHECK,
        }
    }

    fn next_check(&self) -> Option<Time> {
        let dues = self.peers.iter().enumerate();
        dues.map(|(place, p)| self.due(place, p)).min()
    }

    /// Whom to ask instead while we seem cut off: of the living the one heard last.
    fn likeliest(&self) -> Option<usize> {
        let good = self.peers.iter().enumerate().filter(|(_, p)| p.failures == 0);
        good.max_by_key(|(_, p)| p.heard()).map(|(place, _)| place)
    }

    /// Asks the peer that is due.
    fn check(&mut self, now: Time) {
        let mut floor = Time::ZERO;
        // Suspects first: while they stand there, others may be sent to them.
        let due = self.peers.iter().enumerate().filter(|(place, p)| self.due(*place, p) <= now);
        let due = due.min_by_key(|(place, p)| (p.failures == 0, self.due(*place, p)));
        if let Some((due, _)) = due {
            let witness = if self.care.seems_cut_off() { self.likeliest() } else { None };
            let place = witness.unwrap_or(due);
            let peer = &mut self.peers[place];
            peer.ask(now);
            self.care.wish(Upkeep::Ping(peer.contact()));
            floor = now + self.care.jittered(self.shape.checks.gap);
        }
        self.check_at = self.next_check().map_or(NEVER, |due| due.max(floor));
    }

    /// The whole table, for people.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let entry = |p: &Peer| {
            let cell = self.cell_of(p.id());
            Entry {
                row: cell >> self.shape.base_bits,
                column: (cell & ((1 << self.shape.base_bits) - 1)) as u8,
                contact: p.contact(),
                last_seen: p.heard(),
                rtt: p.rtt(),
                standing: if p.failures == 0 { Standing::Good } else { Standing::Suspect },
            }
        };
        self.peers.iter().map(entry).collect()
    }
}

/// The part of [`Overlay`](crate::Overlay) that is the ring's own, for an algorithm with one.
macro_rules! views {
    () => {
        fn local(&self) -> NodeId {
            self.ring.local()
        }

        fn share(&mut self, book: Arc<dyn Book>) {
            self.ring.share(book);
        }

        fn poll_upkeep(&mut self) -> Option<Upkeep> {
            self.ring.care.poll_wish()
        }

        fn poll_newcomer(&mut self) -> Option<Contact> {
            self.ring.care.poll_newcomer()
        }

        fn set_pace(&mut self, factor: f32) {
            self.ring.care.set_pace(factor);
        }

        fn contacts(&self) -> Vec<Entry> {
            self.ring.entries()
        }

        fn neighbors(&self) -> Vec<Contact> {
            self.ring.neighbors()
        }

        fn around(&self, key: &Key, count: usize) -> Vec<Contact> {
            self.ring.around(key, count).into_iter().map(ring::contact).collect()
        }

        fn rtt(&self, id: &NodeId) -> Option<Duration> {
            self.ring.get(id)?.rtt()
        }

        fn churn(&self) -> crate::Churn {
            self.ring.care.churn
        }

        fn len(&self) -> usize {
            self.ring.all().count()
        }

        fn contains(&self, id: &NodeId) -> bool {
            self.ring.contains(id)
        }

        fn beginning_with(&self, head: u64) -> Option<Contact> {
            self.ring.all().find(|p| p.has_head(head)).map(ring::contact)
        }
    };
}
pub(crate) use views;

/// How far a peer stands behind a key, clockwise.
pub(crate) fn after(key: &Key, peer: &NodeId) -> Distance {
    key.clockwise_to(peer.key())
}

/// How far a peer that stands before a key has to go to it.
pub(crate) fn before(key: &Key, peer: &NodeId) -> Distance {
    peer.key().clockwise_to(key)
}

/// How far a peer stands from a key, whichever way is shorter: as the arc on both sides of the key
/// that is nearer to it, so that a distance is a part of the ring, as with any other metric.
pub(crate) fn around(key: &Key, peer: &NodeId) -> Distance {
    after(key, peer).min(before(key, peer)).doubled()
}

/// A peer's contact, for the ends of lists.
pub(crate) fn contact(peer: &Peer) -> Contact {
    peer.contact()
}
