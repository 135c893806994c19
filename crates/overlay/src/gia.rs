//! Gia: an overlay without an order, in which the able know more and do more.
//!
//! No key belongs anywhere, and no peer is nearer to it than another (Chawathe et al., 2003). A record
//! is where walks of its owner ended, and is found by walks that end at somebody who knows. Four rules
//! make that quick:
//!
//! * **Topology adaptation.** Every peer has a capacity. It looks for neighbours, hastily while it has
//!   too few for what it takes on and not at all once it is *satisfied*; a link is made when both sides
//!   agree, and where there is no room the able and the poorly connected are preferred. So the able
//!   come to stand in the middle with many neighbours.
//! * **One-hop index.** Neighbours tell each other what they hold, by digests of the keys. A peer that
//!   knows sixty others answers for sixty.
//! * **Biased walks.** A walk goes to the ablest neighbour that it has not been passed to lately.
//! * **Flow control.** And only to one that has granted a token for it: see `gia/tokens.rs`.
//!
//! What is told between neighbours is a [`Greeting`]: it asks for a link, confirms or ends it, and
//! brings capacity, degree, tokens and index up to date. The rule of all tables holds: only an answer
//! makes a neighbour, so each side of a new link greets the other.

mod adaptation;
mod neighbors;
mod tokens;

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use wire::{Contact, Distance, Key, NodeId, Seed, Time};

use crate::Algorithm;
use crate::care::{Care, NEVER};
use crate::overlay::{
    Entry, Evidence, Greeting, MAX_ROUTE, Metric, Overlay, Reason, Route, Standing, Upkeep, Walks,
};
use crate::recent::Recent;
use crate::tuning::Churn;
use neighbors::{Decision, Neighbor, decide, satisfaction};
use tokens::{Mint, WINDOW};

/// All peers are equally near to every key. That a metric of progress is there says that holders are
/// believed when others name them.
pub const METRIC: Metric = Metric { rank: nowhere, progress: Some(nowhere) };

/// Holders of a record, and the bounds of walks. With capacities as measured among a thousand peers
/// eight copies are in the index of most of the able; see the tests.
pub const WALKS: Walks = Walks { copies: 8, hops: 20, questions: 20 };

/// The capacity of a peer that was told none, in walks a second: that of the middle class.
pub const CAPACITY: u32 = 100;

/// Keys in one index at most: with their message they fit a datagram.
pub const MAX_INDEX: usize = 240;

/// Peers that could become neighbours.
const MAX_CANDIDATES: usize = 24;

/// With so many neighbours a newcomer first walks so many steps among strangers, and chooses the others
/// there. Who took all among those it met first would stand with those who came at the same time, and
/// the overlay would become a long chain.
const FOOTHOLD: usize = 2;
const WALK: u32 = 20;

/// The longest time between two attempts at a better neighbour, and how much shorter the least
/// satisfied make it (T and K of the paper, T as in OverSim).
const ADAPT: Duration = Duration::from_secs(120);
const AGGRESSIVENESS: f64 = 256.0;

/// Who refused, or was given up, is not asked again within this time.
const REFUSED: Duration = Duration::from_secs(120);

/// Neighbours greet each other at least this often, by whichever side comes first.
const GREET: Duration = Duration::from_secs(60);

/// A neighbour that did not answer is asked once more so much later.
const GREET_AGAIN: Duration = Duration::from_secs(5);

/// A change of what we hold is told after this time, together with those that follow it.
const SETTLE: Duration = Duration::from_secs(8);

/// Tokens are told after this time, with those that become free meanwhile.
const RESTOCK: Duration = Duration::from_millis(200);

/// A neighbour lost within this time is taken back when it is heard again, satisfied or not: it may
/// stand on the other side of a network that broke.
const LOST: Duration = Duration::from_secs(3_600);

/// For so long, and for so many walks, it is remembered to whom a walk was passed.
const PASSED: (Duration, usize) = (Duration::from_secs(10), 64);

/// A peer's view of its neighbours.
#[derive(Debug)]
pub struct Gia {
    local: NodeId,
    capacity: u32,
    care: Care,
    neighbors: Vec<Neighbor>,
    candidates: VecDeque<Candidate>,
    mint: Mint,
    /// Digests of the keys whose records we hold, sorted, and their mark.
    holdings: Vec<u32>,
    mark: u32,
    adapt_at: Time,
    /// Attempts in a row that brought no neighbour.
    fruitless: u32,
    /// One of those mentioned since the last step of our walk, and how many there were.
    stranger: Option<Contact>,
    strangers: u32,
    walked: u32,
    lost: Recent,
    /// Which walks were passed to whom, the latest last.
    passed: VecDeque<(Time, u32, NodeId)>,
}

/// A peer that could become a neighbour.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    contact: Contact,
    /// Zero until it has told.
    capacity: u32,
    /// When it last answered; one that only asked is named to nobody.
    heard: Option<Time>,
    /// We would have it, and wait for its answer.
    wanted: bool,
    /// Not to be asked before.
    ask_from: Time,
}

/// A Gia with the default figures; see [`crate::build`]. It has no base: there are no digits.
pub fn build(local: NodeId, _base_bits: u8, seed: Seed, now: Time) -> Box<dyn Overlay> {
    Box::new(Gia::new(local, seed, now))
}

/// What stands for a key in an index: a collision costs a walk one hop.
pub fn digest(key: &Key) -> u32 {
    key.as_bytes().first_chunk().map_or(0, |head| u32::from_be_bytes(*head))
}

fn nowhere(_key: &Key, _peer: &NodeId) -> Distance {
    Distance::ZERO
}

/// Tells one index from another (FNV-1a); 0 is that of who has been told none.
fn mark_of(index: &[u32]) -> u32 {
    index.iter().fold(0x811c_9dc5, |mark, word| (mark ^ word).wrapping_mul(0x0100_0193)).max(1)
}

impl Gia {
    fn new(local: NodeId, seed: Seed, now: Time) -> Self {
        Gia {
            local,
            capacity: CAPACITY,
            care: Care::new(seed),
            neighbors: Vec::new(),
            candidates: VecDeque::new(),
            mint: Mint::new(now),
            holdings: Vec::new(),
            mark: mark_of(&[]),
            adapt_at: NEVER,
            fruitless: 0,
            stranger: None,
            strangers: 0,
            walked: 0,
            lost: Recent::default(),
            passed: VecDeque::new(),
        }
    }

    fn neighbor(&mut self, id: &NodeId) -> Option<&mut Neighbor> {
        self.neighbors.iter_mut().find(|n| n.contact.id == *id)
    }

    fn place_of(&self, id: &NodeId) -> Option<usize> {
        self.neighbors.iter().position(|n| n.contact.id == *id)
    }

    fn candidate(&mut self, id: &NodeId) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|c| c.contact.id == *id)
    }

    fn satisfaction(&self) -> f64 {
        satisfaction(self.capacity, &self.neighbors)
    }

    fn mint_tokens(&mut self, now: Time) {
        let rate = f64::from(self.capacity.max(1)) / f64::from(self.care.pace());
        self.mint.give(now, rate, self.neighbors.iter_mut().map(|n| (&mut n.purse, n.capacity)));
    }

    fn was_passed(&self, digest: u32, id: &NodeId) -> bool {
        self.passed.iter().any(|(_, d, to)| *d == digest && to == id)
    }

    /// Neighbours known to hold a key, or to be the peer it names, that a walk may be passed to.
    fn holders(&self, key: &Key) -> Vec<&Neighbor> {
        let digest = digest(key);
        let holds = |n: &&Neighbor| n.contact.id.key() == key || n.index.binary_search(&digest).is_ok();
        let usable = |n: &&Neighbor| !n.suspect && n.purse.left() > 0;
        let mut holders: Vec<&Neighbor> = self.neighbors.iter().filter(holds).filter(usable).collect();
        holders.sort_by_key(|n| (n.contact.id.key() != key, Reverse(n.capacity)));
        holders
    }
}

impl Overlay for Gia {
    fn algorithm(&self) -> Algorithm {
        Algorithm::Gia
    }

    fn local(&self) -> NodeId {
        self.local
    }

    fn route(&self, key: &Key, count: usize) -> Route {
        let count = count.clamp(1, MAX_ROUTE);
        if self.neighbors.is_empty() {
            if self.candidates.is_empty() {
                return Route::Replicas { contacts: Vec::new(), includes_self: true };
            }
            let heard = self.candidates.iter().rev().filter(|c| c.heard.is_some());
            return Route::Toward(heard.map(|c| c.contact).take(count).collect());
        }
        let digest = digest(key);
        let holders = self.holders(key);
        let is_holder = |n: &&Neighbor| holders.iter().any(|h| h.contact.id == n.contact.id);
        let mut ways: Vec<&Neighbor> = self.neighbors.iter().filter(|n| !is_holder(n)).collect();
        ways.sort_by_cached_key(|n| {
            let id = n.contact.id;
            (n.suspect, n.purse.left() == 0, self.was_passed(digest, &id), Reverse(n.capacity), id)
        });
        let named = !holders.is_empty();
        // A holder may be gone, or have dropped the record: the ways on follow.
        let contacts = holders.iter().chain(&ways).map(|n| n.contact).take(count).collect();
        if named { Route::Replicas { contacts, includes_self: false } } else { Route::Toward(contacts) }
    }

    fn handle_peer(&mut self, now: Time, contact: Contact, evidence: Evidence) {
        if contact.id == self.local {
            return;
        }
        let known = self.place_of(&contact.id);
        let Evidence::Alive { rtt } = evidence else {
            if known.is_none() && self.candidate(&contact.id).is_none() && self.satisfaction() < 1.0 {
                self.hear_of(now, contact);
            }
            return;
        };
        self.care.heard();
        if let Some(place) = known {
            let n = &mut self.neighbors[place];
            self.care.churn.survived(now.since(n.heard));
            (n.contact, n.heard, n.rtt, n.suspect) = (contact, now, rtt.or(n.rtt), false);
            return;
        }
        self.meet(now, contact).heard = Some(now);
        if self.lost.remembers(now, &contact.id) {
            self.lost.forget(&contact.id);
            self.court(now, &contact.id);
        }
        self.plan_adaptation(now);
    }

    fn handle_failure(&mut self, now: Time, id: &NodeId) {
        if self.care.failed() {
            return;
        }
        match self.neighbor(id) {
            Some(n) if !n.suspect => {
                n.suspect = true;
                n.greet_at = now + GREET_AGAIN;
            }
            Some(_) => {
                self.unlink(now, id);
                self.care.churn.departed();
                self.lost.remember(now, id, LOST);
                self.care.leave_alone(now, id);
            }
            None => {
                self.candidates.retain(|c| c.contact.id != *id);
                self.care.leave_alone(now, id);
            }
        }
    }

    fn handle_leave(&mut self, now: Time, id: &NodeId) {
        self.candidates.retain(|c| c.contact.id != *id);
        if self.unlink(now, id).is_some() {
            self.care.churn.departed();
        }
        self.care.leave_alone(now, id);
    }

    fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity.max(1);
    }

    fn set_holdings(&mut self, now: Time, mut digests: Vec<u32>) {
        // Where they are too many, every peer leaves out others.
        let own = digest(self.local.key());
        digests.sort_unstable_by_key(|d| d ^ own);
        digests.dedup();
        digests.truncate(MAX_INDEX);
        digests.sort_unstable();
        if digests == self.holdings {
            return;
        }
        self.mark = mark_of(&digests);
        self.holdings = digests;
        for n in &mut self.neighbors {
            let at = now + self.care.jittered(SETTLE);
            n.greet_at = n.greet_at.min(at);
        }
    }

    fn greeting(&mut self, now: Time, to: &NodeId) -> Option<Greeting> {
        self.mint_tokens(now);
        let degree = self.neighbors.len() as u8;
        let (capacity, mark) = (self.capacity, self.mark);
        let wanted = self.candidate(to).is_some_and(|c| c.wanted);
        let Some(place) = self.place_of(to) else {
            return Some(Greeting { neighbor: wanted, fresh: true, capacity, degree, ..Greeting::default() });
        };
        let index = (self.neighbors[place].ours != mark).then(|| self.holdings.clone());
        let n = &mut self.neighbors[place];
        n.told_tokens = n.purse.granted;
        let (tokens, spent, known) = (n.purse.granted, n.purse.sent, n.theirs);
        Some(Greeting { neighbor: true, fresh: false, capacity, degree, tokens, spent, known, index })
    }

    fn handle_greeting(&mut self, now: Time, from: Contact, greeting: &Greeting, answered: bool) {
        if from.id == self.local {
            return;
        }
        if let Some(place) = self.place_of(&from.id) {
            if self.neighbors[place].contact.address != from.address {
                return;
            }
            if greeting.neighbor {
                return self.hear_neighbor(now, place, greeting);
            }
            // It gave us up.
            if let Some(gone) = self.unlink(now, &from.id) {
                self.part(now, &gone);
            }
            return;
        }
        let decision = decide(self.capacity, &self.neighbors, greeting.capacity, greeting.degree);
        let acceptable = greeting.neighbor && decision != Decision::Reject;
        if !answered && !acceptable {
            return;
        }
        let candidate = self.meet(now, from);
        candidate.capacity = greeting.capacity;
        match (answered, candidate.wanted && greeting.neighbor) {
            (true, true) => self.link(now, from, greeting),
            (true, false) => {
                candidate.wanted = false;
                candidate.ask_from = candidate.ask_from.max(now + REFUSED);
            }
            // It asks: who would have it asks back, for only an answer makes a neighbour.
            (false, _) if !candidate.wanted => self.court(now, &from.id),
            (false, _) => {}
        }
    }

    fn spend(&mut self, now: Time, key: &Key, to: &NodeId) -> bool {
        let Some(n) = self.neighbor(to) else { return true };
        if !n.purse.spend() {
            return false;
        }
        let (span, most) = PASSED;
        self.passed.retain(|(at, ..)| now.since(*at) < span);
        if self.passed.len() >= most {
            self.passed.pop_front();
        }
        self.passed.push_back((now, digest(key), *to));
        true
    }

    fn handle_walk(&mut self, now: Time, from: SocketAddr) -> bool {
        let Some(place) = self.neighbors.iter().position(|n| n.contact.address == from) else { return true };
        let paid = self.neighbors[place].purse.receive();
        self.mint_tokens(now);
        let n = &mut self.neighbors[place];
        if n.purse.granted - n.told_tokens >= WINDOW / 2 {
            n.greet_at = n.greet_at.min(now + RESTOCK);
        }
        paid
    }

    fn handle_timeout(&mut self, now: Time) {
        self.verify(now);
        if self.adapt_at <= now {
            self.adapt(now);
        }
        for place in 0..self.neighbors.len() {
            if self.neighbors[place].greet_at <= now {
                let next = now + self.care.jittered(GREET);
                let n = &mut self.neighbors[place];
                n.greet_at = next;
                let contact = n.contact;
                self.greet(contact);
            }
        }
    }

    fn poll_timeout(&self) -> Option<(Time, Reason)> {
        let greet_at = self.neighbors.iter().map(|n| n.greet_at).min().unwrap_or(NEVER);
        let all = [
            (greet_at, Reason::Check),
            (self.adapt_at, Reason::Stabilise),
            (self.care.verify_at(), Reason::Verify),
        ];
        all.into_iter().filter(|(at, _)| *at < NEVER).min()
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
        let neighbor = |n: &Neighbor| Entry {
            row: 0,
            column: 0,
            contact: n.contact,
            last_seen: n.heard,
            rtt: n.rtt,
            standing: if n.suspect { Standing::Suspect } else { Standing::Good },
        };
        let spare = |c: &Candidate| {
            let (row, column, contact, rtt) = (0, 0, c.contact, None);
            Some(Entry { row, column, contact, last_seen: c.heard?, rtt, standing: Standing::Spare })
        };
        self.neighbors.iter().map(neighbor).chain(self.candidates.iter().filter_map(spare)).collect()
    }

    /// The ablest first: who asks for names is told them.
    fn neighbors(&self) -> Vec<Contact> {
        let mut good: Vec<&Neighbor> = self.neighbors.iter().filter(|n| !n.suspect).collect();
        good.sort_by_key(|n| (Reverse(n.capacity), n.contact.id));
        good.into_iter().map(|n| n.contact).collect()
    }

    fn rtt(&self, id: &NodeId) -> Option<Duration> {
        self.neighbors[self.place_of(id)?].rtt
    }

    fn churn(&self) -> Churn {
        self.care.churn
    }

    fn len(&self) -> usize {
        self.neighbors.iter().filter(|n| !n.suspect).count()
    }

    fn contains(&self, id: &NodeId) -> bool {
        self.place_of(id).is_some_and(|place| !self.neighbors[place].suspect)
    }
}

#[cfg(test)]
mod tests;
