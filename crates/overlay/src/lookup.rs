//! A search for a key, as a machine: whom to ask next, whom to give up, when it is over.
//!
//! The search is iterative: we ask peers near the key for peers nearer to it, and those again. It
//! knows no message and sends nothing; its owner polls [`Lookup::poll_ask`] and reports what came of
//! it. Three things make it quick and hard to mislead:
//!
//! * A question that takes longer than that peer usually needs counts as *slow*: somebody else is
//!   asked beside, and the slow peer may still answer. One dead peer costs a round trip, not a
//!   transaction's whole patience.
//! * With `paths` above one the search runs on disjoint paths that share no peer, each to its own
//!   end, so that a liar spoils one path only (S/Kademlia, Baumgart and Mies, 2007).
//! * Everything is bounded: what one answer may name, what a path remembers, how many peers it asks,
//!   how often one address is asked. A lookup cannot be kept running or turned into a flood.
//!
//! The recursive way to search needs one step at a time only: [`next_hop`].

use std::net::SocketAddr;
use std::time::Duration;

use wire::{Contact, Distance, Key, NodeId, Time};

use crate::overlay::{MAX_ROUTE, Metric, Reason, Route};
use crate::table::Networks;

/// Disjoint paths at most; S/Kademlia found no gain beyond eight.
pub const MAX_PATHS: usize = 8;

/// Peers a path remembers: several times what it can use, few enough to search by walking.
pub const MAX_SHORTLIST: usize = 64;

/// Places a full path grows by: half an answer's worth. Doubling would leave half of them empty.
const ROOM: usize = 4;

/// Peers a path asks at most. A million peers in base 2 need about 20 steps when tables are poor;
/// whoever lures us on with ever nearer inventions is left after this many.
pub const MAX_ASKS_PER_PATH: usize = 48;

/// Questions to one address: a peer that restarted with a new key may be known by the old one too,
/// but a list of inventions at a victim's address must not become a flood.
pub const MAX_ASKS_PER_ADDRESS: usize = 2;

/// Peers on the way that must have spoken beside the holders that were named to us: the two nearest
/// before the key, since those know best who stands behind it.
const WITNESSES: usize = 2;

/// A peer is given up when it has been silent for so many times the patience with it: after that long its
/// question has been repeated in vain.
const PATIENCES: u32 = 3;

/// But never earlier: a busy machine may take that long.
const LEAST_PATIENCE: Duration = Duration::from_millis(300);

/// Seeds of a resumed search at each distance, counted in powers of two.
const SEEDS_OF_LEVEL: usize = 6;

/// The distances that there are, counted so.
const LEVELS: usize = 8 * Key::MAX_LEN + 1;

/// When a search has reached its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Goal {
    /// When the nearest peers of every path have all answered or failed: to publish, and to be sure
    /// that something is missing.
    Nearest,
    /// As soon as this many peers had what we seek; failing that, as with [`Goal::Nearest`].
    Found(usize),
}

/// How a search is done.
#[derive(Clone, Debug)]
pub struct Config {
    /// Questions in flight on each path (Kademlia's alpha). Three overtake one dead peer without
    /// pause and triple no traffic that one would not have needed.
    pub parallelism: usize,
    /// How many of the nearest peers must have spoken (Kademlia's k); at most [`MAX_ROUTE`].
    pub width: usize,
    /// Peers that one answer may name where several paths share the width; at most [`MAX_ROUTE`]. The
    /// first few that an honest peer names may all be liars. On a single path they are `width`.
    pub named: usize,
    /// Whether one answer may name so many on a single path too: who publishes judges by those named whether
    /// strangers crowd around the place, however few it has to hear.
    pub hears_all: bool,
    /// Disjoint paths, at most [`MAX_PATHS`]. One is enough unless an answer is doubted.
    pub paths: usize,
    /// Peers of one large network on a path, at most ([`Networks`]): one owner may have more identities
    /// than there are peers, and would be all that a search hears of. No limit where a search
    /// knows too few networks to tell.
    pub of_network: Option<usize>,
    /// Keys, each with a number of bits: who shares more of its first bits with that key is passed over.
    /// Strangers crowd there, and honest peers name them.
    pub avoid: Vec<(Key, u32)>,
    /// The part of the space around the key beyond which a peer should name nobody farther than itself; see
    /// [`Metric::strays`]. Those that are named for no reason are asked when nobody else is left: a liar
    /// could name more of its friends than a search has questions.
    pub reach: f64,
    /// Questions on all paths together, at most.
    pub questions: usize,
    /// Whether everybody named is asked and not the nearest only: where keys have no place. Then those
    /// named first in an answer go before those named second, and the farther step before the nearer.
    pub exhaustive: bool,
    /// When to stop.
    pub goal: Goal,
    /// How the overlay measures nearness.
    pub metric: Metric,
    /// An answer is expected within this time, unless [`Lookup::expect_by`] knows better.
    pub patience: Duration,
    /// A question is given up after this time at the latest.
    pub give_up: Duration,
}

impl Config {
    /// A search as an overlay with this metric does it by default.
    pub fn new(metric: Metric) -> Self {
        Config {
            parallelism: 3,
            width: 8,
            named: 8,
            hears_all: false,
            paths: 1,
            of_network: None,
            avoid: Vec::new(),
            reach: 1.0,
            questions: MAX_PATHS * MAX_ASKS_PER_PATH,
            exhaustive: false,
            goal: Goal::Nearest,
            metric,
            // Twice the round trip of most paths on earth.
            patience: Duration::from_millis(600),
            give_up: Duration::from_secs(5),
        }
    }

    fn bounded(mut self) -> Self {
        self.parallelism = self.parallelism.clamp(1, MAX_ROUTE);
        self.width = self.width.clamp(1, MAX_ROUTE);
        self.named = self.named.clamp(1, MAX_ROUTE);
        self.paths = self.paths.clamp(1, MAX_PATHS);
        self
    }
}

/// A question to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Whom to ask.
    pub contact: Contact,
    /// The path it belongs to, from 0.
    pub path: usize,
}

/// What a search came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The peers nearest to the key that answered, nearest first; at most `width`.
    pub closest: Vec<Contact>,
    /// Those that had what we seek, in the order in which they said so.
    pub holders: Vec<Contact>,
    /// The number of steps to the first holder, or else to the nearest peer; 1 for one whom we knew
    /// before.
    pub hops: u8,
    /// Peers asked.
    pub asked: usize,
    /// Peers that did not answer, nearest first.
    pub lost: Vec<NodeId>,
    /// Whether one of them was known before the search.
    pub lost_known: bool,
    /// Time from the first question to the end.
    pub took: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting,
    Asked {
        at: Time,
        expected: Time,
    },
    Slow {
        until: Time,
    },
    Answered,
    /// It lives and will not answer now.
    Busy,
    Failed,
}

impl State {
    /// Whether it was asked, whatever came of it.
    fn is_asked(self) -> bool {
        !matches!(self, State::Waiting)
    }

    fn is_pending(self) -> bool {
        matches!(self, State::Asked { .. } | State::Slow { .. })
    }
}

/// Where a peer stands in the order of a search, the least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Order {
    /// Whoever named it had no reason to.
    astray: bool,
    /// It stands on the way: where the metric needs holders to be named, those that were come first.
    on_the_way: bool,
    /// Of an exhaustive search, its place in the answer that named it, and how near the step was: whoever
    /// is named first is known best, and a walk goes on rather than back.
    step: (u8, u8),
    distance: Distance,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    contact: Contact,
    order: Order,
    state: State,
    depth: u8,
}

#[derive(Clone, Debug, Default)]
struct Path {
    /// In order, the most promising first. Each peer once.
    candidates: Vec<Candidate>,
    asked: usize,
}

/// A search in progress.
#[derive(Clone, Debug)]
pub struct Lookup {
    key: Key,
    local: NodeId,
    config: Config,
    paths: Vec<Path>,
    /// The path to serve next, so that none starves another.
    turn: usize,
    holders: Vec<Contact>,
    found_depth: Option<u8>,
    started: Option<Time>,
    now: Time,
    /// What [`Lookup::poll_timeout`] says: the engine asks after every input.
    wake: Option<(Time, Reason)>,
    finished: bool,
    /// Whether peers beyond the nearest are asked too.
    beyond: bool,
}

impl Lookup {
    /// A search for `key` by the peer `local` that starts from `seeds`: the contacts that
    /// [`Overlay::route`](crate::Overlay::route) named, or those of a host cache.
    pub fn new(key: Key, local: NodeId, seeds: &[Contact], config: Config) -> Self {
        let config = config.bounded();
        let (paths, beyond) = (config.paths, config.exhaustive);
        let mut lookup = Lookup {
            key,
            local,
            config,
            paths: vec![Path::default(); paths],
            turn: 0,
            holders: Vec::new(),
            found_depth: None,
            started: None,
            now: Time::ZERO,
            wake: None,
            finished: false,
            beyond,
        };
        for (i, seed) in seeds.iter().take(MAX_SHORTLIST).enumerate() {
            let order = lookup.order(&seed.id, false);
            lookup.learn(i % paths, i / paths, *seed, 1, order);
        }
        lookup.settle();
        lookup
    }

    /// The key sought.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Disjoint paths that the search runs on by now.
    pub fn paths(&self) -> usize {
        self.paths.len()
    }

    /// The next peer to ask, if anybody shall be asked now.
    pub fn poll_ask(&mut self, now: Time) -> Option<Ask> {
        if self.finished {
            return None;
        }
        for _ in 0..self.paths.len() {
            let path = self.turn;
            self.turn = (self.turn + 1) % self.paths.len();
            if let Some(place) = self.next_on(path) {
                let expected = now + self.config.patience;
                let candidate = &mut self.paths[path].candidates[place];
                candidate.state = State::Asked { at: now, expected };
                let contact = candidate.contact;
                self.paths[path].asked += 1;
                self.started.get_or_insert(now);
                self.now = self.now.max(now);
                self.wake = self.next_wake();
                return Some(Ask { contact, path });
            }
        }
        // Peers that another path asked meanwhile may have been all that was left.
        self.settle();
        None
    }

    /// Whoever knows this peer's round-trip time says by when its answer is expected.
    pub fn expect_by(&mut self, id: &NodeId, at: Time) {
        if let Some(candidate) = self.pending(id)
            && let State::Asked { at: asked, .. } = candidate.state
        {
            candidate.state = State::Asked { at: asked, expected: at };
            self.wake = self.next_wake();
        }
    }

    /// A peer answered: where the key leads from there, and whether it had what we seek.
    ///
    /// Returns `false`, and changes nothing, if that peer was not asked or has answered before. An
    /// answer that comes after the peer was given up is welcome. More contacts than were asked for
    /// are ignored.
    pub fn handle_reply(&mut self, now: Time, from: &NodeId, route: &Route, found: bool) -> bool {
        let Some((path, place)) = self.find_asked(from) else { return false };
        if self.finished || self.paths[path].candidates[place].state == State::Answered {
            return false;
        }
        self.now = self.now.max(now);
        let candidate = &mut self.paths[path].candidates[place];
        candidate.state = State::Answered;
        let (contact, depth) = (candidate.contact, candidate.depth);
        if found {
            self.holders.push(contact);
            self.found_depth.get_or_insert(depth);
        }
        let named = matches!(route, Route::Replicas { .. });
        let heard = &route.contacts()[..route.contacts().len().min(self.heeded())];
        let strays = self.config.metric.strays(&self.key, from, heard, named, self.config.reach);
        for (place, (peer, astray)) in heard.iter().zip(strays).enumerate() {
            let order = Order { astray, ..self.order(&peer.id, named) };
            self.learn(path, place, *peer, depth.saturating_add(1), order);
        }
        if route.includes_self() && self.config.metric.progress.is_some() {
            self.raise(path, from, self.order(from, true));
        }
        self.settle();
        true
    }

    /// A peer will not answer.
    pub fn handle_failure(&mut self, now: Time, from: &NodeId) {
        self.now = self.now.max(now);
        if let Some(candidate) = self.pending(from) {
            candidate.state = State::Failed;
            self.settle();
        }
    }

    /// A peer lives and has no budget for an answer. Somebody else is asked in its place; it goes on counting
    /// among the nearest.
    pub fn handle_busy(&mut self, now: Time, from: &NodeId) {
        self.now = self.now.max(now);
        if let Some(candidate) = self.pending(from) {
            candidate.state = State::Busy;
            self.settle();
        }
    }

    /// The moment named by [`poll_timeout`](Self::poll_timeout) has come: patience with somebody is
    /// at its end. [`poll_ask`](Self::poll_ask) may have more to say now.
    pub fn handle_timeout(&mut self, now: Time) {
        self.now = self.now.max(now);
        let give_up = self.config.give_up;
        for candidate in self.paths.iter_mut().flat_map(|p| &mut p.candidates) {
            if let State::Asked { at, expected } = candidate.state
                && expected.min(at + give_up) <= now
            {
                let patience = (expected.since(at) * PATIENCES).max(LEAST_PATIENCE);
                candidate.state = State::Slow { until: at + patience.min(give_up) };
            }
            if matches!(candidate.state, State::Slow { until } if until <= now) {
                candidate.state = State::Failed;
            }
        }
        self.settle();
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and why.
    pub fn poll_timeout(&self) -> Option<(Time, Reason)> {
        self.wake
    }

    fn next_wake(&self) -> Option<(Time, Reason)> {
        if self.finished {
            return None;
        }
        let wake = |state| match state {
            State::Asked { at, expected } => {
                let end = at + self.config.give_up;
                Some(if expected < end { (expected, Reason::Patience) } else { (end, Reason::GiveUp) })
            }
            State::Slow { until } => Some((until, Reason::GiveUp)),
            _ => None,
        };
        self.candidates().filter_map(|c| wake(c.state)).min()
    }

    /// Goes on with a search that ended without finding, as far as [`Config::questions`] allows, with so many
    /// questions in flight; `seeds` are further peers to begin from, our own table.
    ///
    /// The nearest peers have spoken, and liars who name only each other may have been all of them. By
    /// now these are spent: their answers name nobody who was not asked. So whoever was named and not
    /// asked was named by somebody who tells more, and is asked first, the nearest first, on one path.
    /// Every third question goes to a seed. Near the key our own table may hold nobody but liars, so
    /// those are taken from all distances in turn.
    pub fn resume(&mut self, seeds: &[Contact], parallelism: usize) {
        let paths = std::mem::replace(&mut self.paths, vec![Path::default()]);
        (self.turn, self.config.paths) = (0, 1);
        self.config.parallelism = parallelism.clamp(1, MAX_ROUTE);
        self.paths[0].asked = paths.iter().map(|p| p.asked).sum();
        let (asked, waiting): (Vec<_>, Vec<_>) =
            paths.into_iter().flat_map(|p| p.candidates).partition(|c| c.state.is_asked());
        for candidate in asked.into_iter().chain(waiting) {
            if self.candidates().all(|c| c.contact.id != candidate.contact.id) {
                self.insert(0, candidate);
            }
        }
        let mut taken = [0usize; LEVELS];
        for seed in seeds {
            let order = self.order(&seed.id, false);
            let of_level = &mut taken[order.distance.leading_zeros() as usize];
            *of_level += 1;
            if *of_level <= SEEDS_OF_LEVEL {
                self.learn(0, 0, *seed, 1, order);
            }
        }
        self.beyond = true;
        self.finished = false;
        self.settle();
    }

    /// Whether the search is over.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// What the search came to, once it is over.
    pub fn outcome(&self) -> Option<Outcome> {
        self.finished.then(|| {
            let mut answered: Vec<_> = self.candidates().filter(|c| c.state == State::Answered).collect();
            answered.sort_by_key(|c| c.order);
            let nearest = answered.first().map_or(0, |c| c.depth);
            let mut lost: Vec<_> = self.candidates().filter(|c| c.state == State::Failed).collect();
            lost.sort_by_key(|c| c.order);
            Outcome {
                hops: self.found_depth.unwrap_or(nearest),
                closest: answered.iter().take(self.config.width).map(|c| c.contact).collect(),
                holders: self.holders.clone(),
                asked: self.paths.iter().map(|p| p.asked).sum(),
                lost_known: lost.iter().any(|c| c.depth == 1),
                lost: lost.into_iter().map(|c| c.contact.id).collect(),
                took: self.now - self.started.unwrap_or(self.now),
            }
        })
    }

    /// Of all that were named and did not fail, the nearest, and whether each has answered.
    pub fn nearest(&self, count: usize) -> Vec<(Contact, bool)> {
        let mut all: Vec<&Candidate> = self.candidates().filter(|c| c.state != State::Failed).collect();
        all.sort_by_key(|c| (c.order, c.contact, c.state != State::Answered));
        all.dedup_by_key(|c| c.contact);
        all.iter().take(count).map(|c| (c.contact, c.state == State::Answered)).collect()
    }

    // --- inside ---------------------------------------------------------------------------------

    fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.paths.iter().flat_map(|p| &p.candidates)
    }

    /// How many peers one answer may name: a width, unless several paths share it, or did, or all are heard.
    fn heeded(&self) -> usize {
        let shared = self.config.paths > 1 || self.beyond || self.config.hears_all;
        if shared { self.config.named } else { self.config.width }
    }

    /// The question still open with this peer.
    fn pending(&mut self, id: &NodeId) -> Option<&mut Candidate> {
        let mut all = self.paths.iter_mut().flat_map(|p| &mut p.candidates);
        all.find(|c| c.state.is_pending() && c.contact.id == *id)
    }

    /// The path that asked this peer, and its place there.
    fn find_asked(&self, id: &NodeId) -> Option<(usize, usize)> {
        self.paths.iter().enumerate().find_map(|(path, p)| {
            let asked = |c: &Candidate| c.state.is_asked() && c.contact.id == *id;
            Some((path, p.candidates.iter().position(asked)?))
        })
    }

    /// Whether another path asked this peer.
    fn is_taken(&self, path: usize, id: &NodeId) -> bool {
        self.paths.len() > 1 && self.find_asked(id).is_some_and(|(other, _)| other != path)
    }

    fn asks_at(&self, address: SocketAddr) -> usize {
        let asked = |c: &&Candidate| c.state.is_asked() && c.contact.address == address;
        self.candidates().filter(asked).count()
    }

    /// Whether this path may still ask this peer.
    fn may_ask(&self, path: usize, contact: &Contact) -> bool {
        !self.is_taken(path, &contact.id)
            // Peers reached through others may have no address of their own.
            && (contact.address.ip().is_unspecified()
                || self.asks_at(contact.address) < MAX_ASKS_PER_ADDRESS)
    }

    /// The peers that matter on a path, by their place: the nearest `width` that have not failed, are not
    /// busy and are not another path's. Slow ones are there, but take nobody's place.
    ///
    /// Where holders are named by others, the nearest on the way matter beside them, so that a peer
    /// that knows its neighbours badly, or lies, does not end the search with its word.
    fn window(&self, path: usize) -> impl Iterator<Item = (usize, &Candidate)> {
        let candidates = &self.paths[path].candidates;
        let is_named = |c: &Candidate| !c.order.on_the_way;
        let beside = if candidates.iter().any(is_named) { WITNESSES } else { self.config.width };
        let mut left = [self.config.width, beside];
        candidates.iter().enumerate().filter(move |(_, c)| {
            let usable = match c.state {
                State::Busy | State::Failed => false,
                State::Waiting => self.may_ask(path, &c.contact),
                _ => true,
            };
            let left = &mut left[usize::from(c.order.on_the_way)];
            let inside = usable && *left > 0;
            if inside && !matches!(c.state, State::Slow { .. }) {
                *left -= 1;
            }
            inside
        })
    }

    fn next_on(&self, path: usize) -> Option<usize> {
        let candidates = &self.paths[path].candidates;
        let in_flight = candidates.iter().filter(|c| matches!(c.state, State::Asked { .. })).count();
        if in_flight >= self.config.parallelism || self.is_exhausted(path) {
            return None;
        }
        if self.beyond {
            return self.further(path);
        }
        self.window(path).find(|(_, c)| c.state == State::Waiting).map(|(place, _)| place)
    }

    /// Whom a resumed search asks next; see [`resume`](Self::resume).
    fn further(&self, path: usize) -> Option<usize> {
        let Path { candidates, asked } = &self.paths[path];
        let waiting = |c: &Candidate| c.state == State::Waiting && self.may_ask(path, &c.contact);
        let named = || candidates.iter().position(|c| c.depth > 1 && !c.order.astray && waiting(c));
        let seed = || {
            let level = |c: &Candidate| c.order.distance.leading_zeros() as usize;
            let mut heard = [0u8; LEVELS];
            candidates.iter().filter(|c| c.state.is_asked()).for_each(|c| heard[level(c)] += 1);
            let seeds = candidates.iter().enumerate().filter(|(_, c)| c.depth == 1 && waiting(c));
            seeds.min_by_key(|(_, c)| heard[level(c)]).map(|(place, _)| place)
        };
        let next = if asked % 3 == 2 { seed().or_else(named) } else { named().or_else(seed) };
        next.or_else(|| candidates.iter().position(waiting))
    }

    /// Whether a path may ask nobody else.
    fn is_exhausted(&self, path: usize) -> bool {
        self.paths[path].asked >= MAX_ASKS_PER_PATH
            || self.paths.iter().map(|p| p.asked).sum::<usize>() >= self.config.questions
    }

    fn is_path_done(&self, path: usize) -> bool {
        let exhausted = self.is_exhausted(path);
        if self.beyond {
            let may = |c: &Candidate| c.state == State::Waiting && self.may_ask(path, &c.contact);
            let open = |c: &Candidate| c.state.is_pending() || !exhausted && may(c);
            return !self.paths[path].candidates.iter().any(open);
        }
        self.window(path).all(|(_, c)| match c.state {
            State::Waiting => exhausted,
            state => !state.is_pending(),
        })
    }

    fn settle(&mut self) {
        if self.finished {
            return;
        }
        let enough = matches!(self.config.goal, Goal::Found(n) if self.holders.len() >= n.max(1));
        self.finished = enough || (0..self.paths.len()).all(|path| self.is_path_done(path));
        self.wake = self.next_wake();
    }

    fn order(&self, id: &NodeId, named: bool) -> Order {
        let (on_the_way, distance) = match self.config.metric.progress {
            Some(progress) if !named => (true, progress(&self.key, id)),
            _ => (false, (self.config.metric.rank)(&self.key, id)),
        };
        Order { astray: false, on_the_way, step: (0, 0), distance }
    }

    /// A path hears of a peer, named in this place of an answer, or better of one that it knows.
    fn learn(&mut self, path: usize, place: usize, contact: Contact, depth: u8, mut order: Order) {
        if contact.id == self.local || contact.id.key().bits() != self.key.bits() {
            return;
        }
        if self.config.avoid.iter().any(|(key, bits)| contact.id.key().common_prefix(key) > *bits) {
            return;
        }
        let candidates = &self.paths[path].candidates;
        if candidates.iter().any(|c| c.contact.id == contact.id) {
            return self.raise(path, &contact.id, order);
        }
        if !self.network_allows(path, &contact) {
            return;
        }
        if self.config.exhaustive {
            order.step = (u8::try_from(place).unwrap_or(u8::MAX), u8::MAX - depth);
        }
        self.insert(path, Candidate { contact, order, state: State::Waiting, depth });
    }

    /// Whether the path knows few enough of the network that a peer belongs to.
    fn network_allows(&self, path: usize, contact: &Contact) -> bool {
        let large = |c: &Contact| Networks::of(c.address.ip()).and_then(|n| n.large);
        let (Some(most), Some(network)) = (self.config.of_network, large(contact)) else { return true };
        let alike = |c: &&Candidate| c.state != State::Failed && large(&c.contact) == Some(network);
        self.paths[path].candidates.iter().filter(alike).count() < most
    }

    /// A peer is named as a holder, or by somebody who has reason to.
    fn raise(&mut self, path: usize, id: &NodeId, order: Order) {
        let candidates = &mut self.paths[path].candidates;
        let before = |c: &Candidate| {
            c.contact.id == *id && (order.astray, order.on_the_way) < (c.order.astray, c.order.on_the_way)
        };
        if let Some(place) = candidates.iter().position(before) {
            let candidate = candidates.remove(place);
            self.insert(path, Candidate { order, ..candidate });
        }
    }

    fn insert(&mut self, path: usize, candidate: Candidate) {
        let candidates = &mut self.paths[path].candidates;
        if candidates.len() >= MAX_SHORTLIST {
            // The farthest peer not asked yet makes room; those asked are remembered, so that
            // nobody is asked twice.
            let last = candidates.iter().rposition(|c| c.state == State::Waiting);
            match last {
                Some(last) if candidates[last].order > candidate.order => {
                    candidates.remove(last);
                }
                _ => return,
            }
        }
        if candidates.len() == candidates.capacity() {
            candidates.reserve_exact(ROOM);
        }
        let place = candidates.partition_point(|c| c.order <= candidate.order);
        candidates.insert(place, candidate);
    }
}

/// The next hop of a recursive request: the best contact that `avoid` does not reject.
///
/// `avoid` knows the peers on the path so far and those that failed just now. `attempt` counts the
/// originator's retries from 0: each takes another of the best contacts, so that a retry does not
/// run into the same dead or dishonest peer again.
pub fn next_hop(contacts: &[Contact], attempt: usize, avoid: impl Fn(&NodeId) -> bool) -> Option<Contact> {
    let usable = || contacts.iter().filter(|c| !avoid(&c.id));
    let count = usable().count();
    usable().nth(attempt.checked_rem(count)?).copied()
}

#[cfg(test)]
mod tests;
