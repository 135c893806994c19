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

mod neighbors;
mod tokens;

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use wire::{Contact, Distance, Key, NodeId, Seed, Time, seed::RngExt};

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

    // --- candidates -----------------------------------------------------------------------------

    /// The peer that is no neighbour, among the candidates.
    fn meet(&mut self, now: Time, contact: Contact) -> &mut Candidate {
        let place = self.candidates.iter().position(|c| c.contact.id == contact.id);
        let place = place.unwrap_or_else(|| {
            if self.candidates.len() >= MAX_CANDIDATES {
                let oldest = self.candidates.iter().position(|c| !c.wanted).unwrap_or(0);
                self.candidates.remove(oldest);
            }
            let fresh = Candidate { contact, capacity: 0, heard: None, wanted: false, ask_from: now };
            self.candidates.push_back(fresh);
            self.candidates.len() - 1
        });
        let candidate = &mut self.candidates[place];
        candidate.contact = contact;
        candidate
    }

    /// Somebody was mentioned, while we look for neighbours: the walk may go on there. Who knows hardly
    /// anybody asks at once.
    fn hear_of(&mut self, now: Time, contact: Contact) {
        self.strangers += 1;
        if self.care.rng.random_range(0..self.strangers) == 0 {
            self.stranger = Some(contact);
        }
        if self.neighbors.len() + self.candidates.len() < FOOTHOLD {
            self.care.mention(now, contact, |_| Distance::ZERO);
            self.verify(now);
        }
    }

    fn verify(&mut self, now: Time) {
        while let Some(contact) = self.care.next_to_verify(now) {
            self.care.verify(now, contact);
        }
    }

    fn greet(&mut self, contact: Contact) {
        self.care.wish(Upkeep::Greet(contact));
    }

    /// Asks a candidate to become a neighbour.
    fn court(&mut self, now: Time, id: &NodeId) {
        let Some(candidate) = self.candidate(id) else { return };
        candidate.wanted = true;
        candidate.ask_from = now + REFUSED;
        let contact = candidate.contact;
        self.greet(contact);
    }

    // --- topology adaptation --------------------------------------------------------------------

    /// Plans the next attempt at a better neighbour, the sooner the less satisfied we are.
    fn plan_adaptation(&mut self, now: Time) {
        let content = self.satisfaction();
        if content >= 1.0 {
            self.adapt_at = NEVER;
            return;
        }
        let wait = ADAPT.mul_f64(AGGRESSIVENESS.powf(content - 1.0)) * (1 << self.fruitless.min(8));
        let at = now + self.care.jittered(wait.min(ADAPT));
        self.adapt_at = if self.adapt_at <= now { at } else { self.adapt_at.min(at) };
    }

    /// Asks the ablest candidate above us to be our neighbour, or else one at random; without any,
    /// asks a neighbour for its own.
    fn adapt(&mut self, now: Time) {
        self.adapt_at = NEVER;
        if self.satisfaction() >= 1.0 || (self.neighbors.is_empty() && self.candidates.is_empty()) {
            return;
        }
        if self.walked < WALK && self.neighbors.len() >= FOOTHOLD {
            self.walk();
            return self.plan_adaptation(now);
        }
        self.fruitless += 1;
        let own = self.capacity;
        let free: Vec<&Candidate> = self.candidates.iter().filter(|c| c.ask_from <= now).collect();
        let ablest = free.iter().max_by_key(|c| c.capacity).filter(|c| c.capacity > own);
        let random = || free.get(self.care.rng.random_range(0..free.len().max(1)));
        match ablest.or_else(random).map(|c| c.contact.id) {
            Some(id) => self.court(now, &id),
            None => self.walk(),
        }
        self.plan_adaptation(now);
    }

    /// One step of a walk in search of strangers: somebody whom the last step named, at random, is asked
    /// whom it knows. Whoever answers is a candidate.
    fn walk(&mut self) {
        let known = self.neighbors.iter().map(|n| n.contact);
        let known: Vec<Contact> = known.chain(self.candidates.iter().map(|c| c.contact)).collect();
        let with = self.stranger.take().unwrap_or_else(|| known[self.care.rng.random_range(0..known.len())]);
        (self.strangers, self.walked) = (0, self.walked.saturating_add(1));
        self.care.wish(Upkeep::Exchange { with, give: false, rows: true });
    }

    /// A candidate has agreed, and so have we.
    fn link(&mut self, now: Time, contact: Contact, greeting: &Greeting) {
        match decide(self.capacity, &self.neighbors, greeting.capacity, greeting.degree) {
            Decision::Accept => {}
            Decision::Replace(place) => {
                let gone = self.neighbors.swap_remove(place);
                self.part(now, &gone);
                self.greet(gone.contact);
            }
            // Somebody else was quicker: it is told that there is no room after all.
            Decision::Reject => {
                if let Some(candidate) = self.candidate(&contact.id) {
                    candidate.wanted = false;
                }
                return self.greet(contact);
            }
        }
        if self.neighbors.is_empty() {
            self.care.join(now);
        }
        self.candidates.retain(|c| c.contact.id != contact.id);
        self.lost.forget(&contact.id);
        self.fruitless = 0;
        // Both sides tell what they hold as soon as the link is there.
        let greet_at = now + self.care.jitter(RESTOCK);
        self.neighbors.push(Neighbor {
            contact,
            capacity: greeting.capacity,
            degree: greeting.degree,
            heard: now,
            rtt: None,
            suspect: false,
            greet_at,
            purse: Default::default(),
            told_tokens: 0,
            index: Box::default(),
            theirs: 0,
            ours: 0,
        });
        self.care.welcome(contact);
        self.hear_neighbor(now, self.neighbors.len() - 1, greeting);
    }

    /// A neighbour is none any more.
    fn unlink(&mut self, now: Time, id: &NodeId) -> Option<Neighbor> {
        let gone = self.neighbors.swap_remove(self.place_of(id)?);
        self.fruitless = 0;
        self.plan_adaptation(now);
        Some(gone)
    }

    /// A former neighbour may be one again, later.
    fn part(&mut self, now: Time, gone: &Neighbor) {
        let candidate = self.meet(now, gone.contact);
        (candidate.capacity, candidate.heard) = (gone.capacity, Some(gone.heard));
        candidate.ask_from = now + REFUSED;
    }

    /// What a neighbour says of itself.
    fn hear_neighbor(&mut self, now: Time, place: usize, greeting: &Greeting) {
        let n = &mut self.neighbors[place];
        (n.capacity, n.degree, n.ours) = (greeting.capacity, greeting.degree, greeting.known);
        if greeting.fresh {
            // It does not count us yet, or not any more: tokens of an earlier link are void.
            (n.purse, n.told_tokens) = Default::default();
        } else {
            n.purse.hear(greeting.tokens, greeting.spent);
        }
        if let Some(index) = &greeting.index {
            let mut index: Vec<u32> = index.iter().take(MAX_INDEX).copied().collect();
            n.theirs = mark_of(&index);
            index.sort_unstable();
            n.index = index.into();
        }
        self.mint_tokens(now);
        self.plan_adaptation(now);
    }

    // --- tokens and walks -----------------------------------------------------------------------

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
