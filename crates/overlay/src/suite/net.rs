//! A network in memory: peers with an overlay, a store and lookups; time, latency, loss and death.
//!
//! It does what the engine in `node` does, in the plainest way: a question is sent three times (at
//! 0, 0.5 and 1.5 s) and has failed after 3 s; whoever answers is reported alive, whoever is named or
//! asks is mentioned. Whoever falls out of a table is asked now and then whether it is back, and if it
//! is, the peer looks itself up through it: so a network that broke grows together again. Bytes are counted by rough sizes of the real messages with their headers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::LazyLock;

use super::*;
use crate::Greeting;
use crate::gia;
use crate::lookup::{Config, Goal, Lookup};
use wire::Rng;

const PING: u64 = 100;
const PONG: u64 = 130;
const FIND: u64 = 100;
const REPLY: u64 = 100;
const PER_CONTACT: u64 = 50;
const GREETING: u64 = 19;
const PER_DIGEST: u64 = 4;
/// When a question is sent again.
const SENDS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_millis(1_500)];
const FAILED_AFTER: Duration = Duration::from_secs(3);
/// Peers that must have spoken before a search ends.
const WIDTH: usize = 8;
/// Questions of a get where keys have no place.
const QUESTIONS: usize = 30;
/// How often a peer asks one of those it lost whether it is back, and how many it remembers.
const LOOK_FOR_LOST: Duration = Duration::from_secs(60);
const MAX_LOST: usize = 32;
/// How many peers the bootstrap list names.
const BOOTSTRAP: usize = 20;

/// Peer number `n`. Its address tells its number.
pub(crate) fn contact(n: u32) -> Contact {
    static MADE: LazyLock<Vec<Contact>> = LazyLock::new(|| (0..4_096).map(make).collect());
    MADE.get(n as usize).copied().unwrap_or_else(|| make(n))
}

fn make(n: u32) -> Contact {
    let [_, b, c, d] = n.to_be_bytes();
    let id = NodeId(HashAlgorithm::Sha256.digest(&[b"peer ", n.to_be_bytes().as_slice()].concat()));
    Contact { id, address: SocketAddr::from(([10, b, c, d], 7080)) }
}

/// The number of a peer.
pub(crate) fn index(contact: &Contact) -> u32 {
    match contact.address {
        SocketAddr::V4(a) => u32::from(*a.ip()) & 0xff_ffff,
        SocketAddr::V6(_) => unreachable!("all peers here have IPv4 addresses"),
    }
}

#[derive(Clone, Copy)]
enum Body {
    Ping,
    Find { key: Key, count: usize },
    Store(Key),
    Exchange { give: bool, rows: bool },
    Greet,
}

struct Exchange {
    from: u32,
    to: Contact,
    body: Body,
    lookup: Option<u32>,
    sent: Time,
}

enum Event {
    Arrive(u64),
    Reply(u64, Option<Route>, bool, Option<Greeting>),
    Fail(u64),
    Wake(u32),
    Join(u32),
    Die(u32),
    LookForLost(u32),
}

#[derive(Clone, Copy, PartialEq)]
enum Purpose {
    Upkeep,
    Publish(usize),
    Get,
}

struct Peer {
    overlay: Box<dyn Overlay>,
    store: BTreeSet<Key>,
    lookups: BTreeMap<u32, (Lookup, Purpose)>,
    wake: Option<Time>,
    /// Who fell out of its table, the latest first.
    lost: VecDeque<Contact>,
}

impl Peer {
    fn keep(&mut self, now: Time, key: Key) {
        self.store.insert(key);
        self.overlay.set_holdings(now, self.store.iter().map(gia::digest).collect());
    }
}

/// Orders events by time, and by their making where times are equal.
struct Scheduled(Time, u64, Event);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// What a peer gives in an exchange: its news, or else its neighbours.
fn told(now: Time, overlay: &mut dyn Overlay) -> News {
    overlay.news(now).unwrap_or_else(|| News { arrived: overlay.neighbors(), ..News::default() })
}

fn hear_news(now: Time, overlay: &mut dyn Overlay, news: &News) {
    news.arrived.iter().for_each(|c| overlay.handle_peer(now, *c, Evidence::Mentioned));
    news.departed.iter().for_each(|id| overlay.handle_rumor(now, id));
}

/// What a peer takes on, where an algorithm asks: as measured among the peers of Gnutella (Saroiu et
/// al., 2002) and played by Chawathe et al.
fn capacity(rng: &mut Rng) -> u32 {
    match rng.random_range(0..1_000) {
        0..200 => 1,
        200..650 => 10,
        650..950 => 100,
        950..999 => 1_000,
        _ => 10_000,
    }
}

/// The bytes of a greeting, if there is one.
fn greeting_size(greeting: &Option<Greeting>) -> u64 {
    let index = |g: &Greeting| g.index.as_ref().map_or(0, |i| i.len() as u64 * PER_DIGEST);
    greeting.as_ref().map_or(0, |g| GREETING + index(g))
}

/// The network.
pub(crate) struct Net {
    algorithm: Algorithm,
    base_bits: u8,
    /// By number; `None` once dead.
    peers: Vec<Option<Peer>>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    exchanges: BTreeMap<u64, Exchange>,
    made: u64,
    rng: Rng,
    now: Time,
    session: Option<Duration>,
    gets: usize,
    asked: usize,
    /// Share of datagrams that get lost.
    pub(crate) loss: f64,
    /// While set, peers with even and with odd numbers do not hear each other.
    pub(crate) divided: bool,
    /// Bytes sent by everybody.
    pub(crate) bytes: u64,
    /// Messages sent by everybody.
    pub(crate) messages: u64,
    /// Gets that found their key.
    pub(crate) found: usize,
    /// A sum over every event, to compare runs.
    pub(crate) trace: u64,
}

impl Net {
    pub(crate) fn new(algorithm: Algorithm, base_bits: u8, seed: u64) -> Self {
        Net {
            algorithm,
            base_bits,
            peers: Vec::new(),
            queue: BinaryHeap::new(),
            exchanges: BTreeMap::new(),
            made: 0,
            rng: Seed::from_number(seed).rng(),
            now: Time::ZERO,
            session: None,
            gets: 0,
            asked: 0,
            loss: 0.0,
            divided: false,
            bytes: 0,
            messages: 0,
            found: 0,
            trace: 0,
        }
    }

    /// Lets `n` peers join, one every `gap`.
    pub(crate) fn grow(&mut self, n: u32, gap: Duration) {
        let first = self.peers.len() as u32;
        for i in 0..n {
            let at = self.now + gap * i;
            self.peers.push(None);
            self.schedule(at, Event::Join(first + i));
        }
        self.run_for(gap * n);
    }

    /// From now on peers live for exponentially distributed times; each that dies is replaced.
    pub(crate) fn churn(&mut self, session: Duration) {
        self.session = Some(session);
        for i in self.living().collect::<Vec<_>>() {
            self.schedule_death(i);
        }
    }

    pub(crate) fn kill_share(&mut self, share: f64) {
        for i in self.living().collect::<Vec<_>>() {
            if self.rng.random_bool(share) {
                self.peers[i as usize] = None;
            }
        }
    }

    pub(crate) fn lives(&self, i: u32) -> bool {
        self.peers[i as usize].is_some()
    }

    pub(crate) fn holds(&self, i: u32, key: &Key) -> bool {
        self.peers[i as usize].as_ref().is_some_and(|p| p.store.contains(key))
    }

    pub(crate) fn living(&self) -> impl Iterator<Item = u32> {
        (0..self.peers.len() as u32).filter(|&i| self.lives(i))
    }

    pub(crate) fn pick(&mut self) -> u32 {
        loop {
            let i = self.rng.random_range(0..self.peers.len()) as u32;
            if self.lives(i) {
                return i;
            }
        }
    }

    pub(crate) fn overlay(&self, i: u32) -> &dyn Overlay {
        &*self.peers[i as usize].as_ref().expect("a living peer").overlay
    }

    pub(crate) fn any_living(&self) -> &dyn Overlay {
        self.overlay(self.living().next().expect("somebody lives"))
    }

    /// Peers asked in the mean by the gets so far.
    pub(crate) fn asked_per_get(&self) -> f64 {
        self.asked as f64 / self.gets.max(1) as f64
    }

    pub(crate) fn publish(&mut self, from: u32, key: Key, replicas: usize) {
        // Where keys have no place, the owner keeps a copy itself.
        let (now, walks) = (self.now, self.algorithm.walks());
        if let (Some(_), Some(peer)) = (walks, self.peer(from)) {
            peer.keep(now, key);
        }
        let copies = walks.map_or(replicas, |w| w.copies);
        self.search(from, key, Purpose::Publish(copies), WIDTH.max(copies));
        self.drain(from);
    }

    pub(crate) fn get(&mut self, from: u32, key: Key) {
        if self.peer(from).is_some_and(|p| p.store.contains(&key)) {
            self.found += 1;
            return;
        }
        self.search(from, key, Purpose::Get, WIDTH);
        self.drain(from);
    }

    pub(crate) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.queue.peek().is_some_and(|Reverse(next)| next.0 <= end) {
            let Some(Reverse(Scheduled(at, _, event))) = self.queue.pop() else { break };
            assert!(at >= self.now, "time ran backwards");
            self.now = at;
            self.happen(event);
        }
        self.now = end;
    }

    fn schedule(&mut self, at: Time, event: Event) {
        self.made += 1;
        self.queue.push(Reverse(Scheduled(at, self.made, event)));
    }

    fn schedule_death(&mut self, i: u32) {
        if let Some(session) = self.session {
            let life = session.mul_f64(-self.rng.random_range(f64::EPSILON..1.0).ln());
            self.schedule(self.now + life, Event::Die(i));
        }
    }

    fn peer(&mut self, i: u32) -> Option<&mut Peer> {
        self.peers[i as usize].as_mut()
    }

    fn note(&mut self, kind: u64, who: u32, about: u32) {
        let word = kind << 56 ^ u64::from(who) << 28 ^ u64::from(about) ^ self.now.as_micros();
        self.trace = self.trace.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Join(i) => self.join(i),
            Event::Die(i) => {
                self.peers[i as usize] = None;
                self.peers.push(None);
                self.join(self.peers.len() as u32 - 1);
            }
            Event::Wake(i) => self.wake(i),
            Event::LookForLost(i) => self.look_for_lost(i),
            Event::Arrive(token) => self.arrive(token),
            Event::Reply(token, route, found, greeting) => self.reply(token, route, found, greeting),
            Event::Fail(token) => self.fail(token),
        }
    }

    fn join(&mut self, i: u32) {
        let mut overlay =
            build(self.algorithm, contact(i).id, self.base_bits, Seed::child_of(&mut self.rng), self.now);
        if self.algorithm.walks().is_some() {
            overlay.set_capacity(capacity(&mut self.rng));
        }
        let known: Vec<_> = self.living().collect();
        let (store, lookups) = (BTreeSet::new(), BTreeMap::new());
        self.peers[i as usize] = Some(Peer { overlay, store, lookups, wake: None, lost: VecDeque::new() });
        let first = LOOK_FOR_LOST.mul_f64(self.rng.random_range(0.5..1.5));
        self.schedule(self.now + first, Event::LookForLost(i));
        // The bootstrap names the twenty that joined last; four of them are asked for a sign of life.
        for &other in known.iter().rev().take(BOOTSTRAP).step_by(5) {
            self.ask(i, contact(other), Body::Ping, None);
        }
        self.schedule_death(i);
        self.drain(i);
    }

    fn wake(&mut self, i: u32) {
        let now = self.now;
        let Some(peer) = self.peer(i) else { return };
        if peer.wake != Some(now) {
            return;
        }
        peer.wake = None;
        if peer.overlay.poll_timeout().is_some_and(|(at, _)| at <= now) {
            peer.overlay.handle_timeout(now);
            assert!(peer.overlay.poll_timeout().is_none_or(|(at, _)| at > now));
        }
        for (lookup, _) in peer.lookups.values_mut() {
            if lookup.poll_timeout().is_some_and(|(at, _)| at <= now) {
                lookup.handle_timeout(now);
            }
        }
        self.drain(i);
    }

    // --- questions and answers ------------------------------------------------------------------

    fn ask(&mut self, from: u32, to: Contact, body: Body, lookup: Option<u32>) {
        self.made += 1;
        let (token, sent) = (self.made, self.now);
        let (size, answer) = match body {
            Body::Ping => (PING, PONG),
            Body::Find { .. } => (FIND, REPLY),
            Body::Store(_) => (400, PONG),
            // What they name is counted when it is known.
            Body::Exchange { .. } | Body::Greet => (FIND, REPLY),
        };
        self.exchanges.insert(token, Exchange { from, to, body, lookup, sent });
        self.note(1, from, index(&to));
        let latency = Duration::from_millis(self.rng.random_range(10..60));
        let deaf = self.divided && from % 2 != index(&to) % 2;
        for after in SENDS {
            self.bytes += size;
            self.messages += 1;
            if self.rng.random_bool(self.loss) || deaf || !self.lives(index(&to)) {
                continue;
            }
            self.bytes += answer;
            self.messages += 1;
            if !self.rng.random_bool(self.loss) {
                self.schedule(sent + after + latency, Event::Arrive(token));
                return;
            }
        }
        self.schedule(sent + FAILED_AFTER, Event::Fail(token));
    }

    fn arrive(&mut self, token: u64) {
        let now = self.now;
        let Exchange { from, to, body, sent, .. } = self.exchanges[&token];
        let given = match (body, self.peer(from)) {
            (Body::Exchange { give: true, .. }, Some(asker)) => told(now, &mut *asker.overlay),
            _ => News::default(),
        };
        let greeting = match (body, self.peer(from)) {
            (Body::Greet, Some(asker)) => asker.overlay.greeting(now, &to.id),
            _ => None,
        };
        let Some(peer) = self.peers[index(&to) as usize].as_mut() else {
            self.schedule(sent + FAILED_AFTER, Event::Fail(token));
            return;
        };
        self.bytes += PER_CONTACT * (given.arrived.len() + given.departed.len()) as u64;
        self.bytes += greeting_size(&greeting);
        hear_news(now, &mut *peer.overlay, &given);
        peer.overlay.handle_peer(now, contact(from), Evidence::Mentioned);
        let answer = greeting.and_then(|greeting| {
            peer.overlay.handle_greeting(now, contact(from), &greeting, false);
            peer.overlay.greeting(now, &contact(from).id)
        });
        self.bytes += greeting_size(&answer);
        let mut departed = Vec::new();
        let (route, found) = match body {
            Body::Ping | Body::Greet => (None, false),
            Body::Find { key, count } => (Some(peer.overlay.route(&key, count)), peer.store.contains(&key)),
            Body::Store(key) => {
                peer.keep(now, key);
                (None, false)
            }
            Body::Exchange { rows, .. } => {
                let rows = rows.then(|| peer.overlay.contacts().iter().map(|e| e.contact).take(16).collect());
                let page = rows.map(|arrived| News { arrived, ..News::default() });
                let page = page.unwrap_or_else(|| told(now, &mut *peer.overlay));
                departed = page.departed;
                (Some(Route::Toward(page.arrived)), false)
            }
        };
        if let Some(route) = &route {
            self.bytes += PER_CONTACT * (route.contacts().len() + departed.len()) as u64;
        }
        if let Some(asker) = self.peer(from) {
            departed.iter().for_each(|id| asker.overlay.handle_rumor(now, id));
        }
        let back = Duration::from_millis(self.rng.random_range(10..60));
        self.schedule(now + back, Event::Reply(token, route, found, answer));
        self.drain(index(&to));
    }

    fn reply(&mut self, token: u64, route: Option<Route>, found: bool, greeting: Option<Greeting>) {
        let now = self.now;
        let Some(Exchange { from, to, lookup, sent, .. }) = self.exchanges.remove(&token) else {
            return;
        };
        self.note(2, from, index(&to));
        let Some(peer) = self.peer(from) else { return };
        let returned = peer.lost.iter().position(|c| c.id == to.id);
        returned.map(|at| peer.lost.remove(at));
        peer.overlay.handle_peer(now, to, Evidence::Alive { rtt: Some(now - sent) });
        if let Some(greeting) = greeting {
            peer.overlay.handle_greeting(now, to, &greeting, true);
        }
        if let Some(route) = route {
            for other in route.contacts().iter().filter(|c| c.id != contact(from).id) {
                peer.overlay.handle_peer(now, *other, Evidence::Mentioned);
            }
            if let Some((lookup, _)) = lookup.and_then(|n| peer.lookups.get_mut(&n)) {
                lookup.handle_reply(now, &to.id, &route, found);
            }
        }
        if returned.is_some() {
            self.search_through(from, *contact(from).id.key(), Purpose::Upkeep, WIDTH, &[to]);
        }
        self.drain(from);
    }

    fn look_for_lost(&mut self, i: u32) {
        let Some(peer) = self.peers[i as usize].as_ref() else { return };
        if !peer.lost.is_empty() {
            let to = peer.lost[self.rng.random_range(0..peer.lost.len())];
            self.ask(i, to, Body::Ping, None);
        }
        let next = LOOK_FOR_LOST.mul_f64(self.rng.random_range(0.75..1.25));
        self.schedule(self.now + next, Event::LookForLost(i));
    }

    fn fail(&mut self, token: u64) {
        let now = self.now;
        let Some(Exchange { from, to, lookup, .. }) = self.exchanges.remove(&token) else { return };
        self.note(3, from, index(&to));
        let Some(peer) = self.peer(from) else { return };
        let known = |peer: &Peer| peer.overlay.contacts().iter().any(|e| e.contact.id == to.id);
        let before = known(peer);
        peer.overlay.handle_failure(now, &to.id);
        if before && !known(peer) {
            peer.lost.truncate(MAX_LOST - 1);
            peer.lost.push_front(to);
        }
        if let Some((lookup, _)) = lookup.and_then(|n| peer.lookups.get_mut(&n)) {
            lookup.handle_failure(now, &to.id);
        }
        self.drain(from);
    }

    // --- what a peer does of itself -------------------------------------------------------------

    fn search(&mut self, from: u32, key: Key, purpose: Purpose, width: usize) {
        self.search_through(from, key, purpose, width, &[]);
    }

    /// A search that asks `first` beside those whom the peer knows.
    fn search_through(&mut self, from: u32, key: Key, purpose: Purpose, width: usize, first: &[Contact]) {
        self.made += 1;
        let number = self.made as u32;
        let now = self.now;
        let mut config = Config { width, ..Config::new(self.algorithm.metric()) };
        if purpose == Purpose::Get {
            config.goal = Goal::Found(1);
        }
        if let (Some(walks), true) = (self.algorithm.walks(), purpose != Purpose::Upkeep) {
            config.exhaustive = true;
            config.questions = if purpose == Purpose::Get { QUESTIONS } else { walks.questions };
        }
        let Some(peer) = self.peer(from) else { return };
        peer.overlay.handle_lookup(now, &key);
        let route = peer.overlay.route(&key, config.width + 1);
        let seeds = [first, route.contacts()].concat();
        let lookup = Lookup::new(key, contact(from).id, &seeds, config);
        peer.lookups.insert(number, (lookup, purpose));
    }

    fn drain(&mut self, i: u32) {
        let now = self.now;
        while let Some(wish) = self.peer(i).and_then(|p| p.overlay.poll_upkeep()) {
            match wish {
                Upkeep::Ping(to) => self.ask(i, to, Body::Ping, None),
                Upkeep::Ask { with, key } => self.ask(i, with, Body::Find { key, count: WIDTH }, None),
                Upkeep::Exchange { with, give, rows } => {
                    self.ask(i, with, Body::Exchange { give, rows }, None);
                }
                Upkeep::Greet(with) => self.ask(i, with, Body::Greet, None),
                Upkeep::Lookup { key, width } => self.search(i, key, Purpose::Upkeep, width),
            }
        }
        let Some(peer) = self.peer(i) else { return };
        for number in peer.lookups.keys().copied().collect::<Vec<_>>() {
            self.advance(i, number);
        }
        let Some(peer) = self.peer(i) else { return };
        let lookups = peer.lookups.values().filter_map(|(l, _)| l.poll_timeout());
        let next = lookups.chain(peer.overlay.poll_timeout()).map(|(at, _)| at).min();
        if let Some(at) = next
            && peer.wake.is_none_or(|set| at < set || set <= now)
        {
            let at = at.max(now + Duration::from_micros(1));
            peer.wake = Some(at);
            self.schedule(at, Event::Wake(i));
        }
    }

    fn advance(&mut self, i: u32, number: u32) {
        let now = self.now;
        loop {
            let Some((lookup, _)) = self.peer(i).and_then(|p| p.lookups.get_mut(&number)) else {
                return;
            };
            let Some(ask) = lookup.poll_ask(now) else { break };
            let body = Body::Find { key: *lookup.key(), count: 8 };
            self.ask(i, ask.contact, body, Some(number));
        }
        let Some(peer) = self.peer(i) else { return };
        let Some(outcome) = peer.lookups[&number].0.outcome() else { return };
        let Some((lookup, purpose)) = peer.lookups.remove(&number) else { return };
        match purpose {
            Purpose::Upkeep => {}
            Purpose::Get => {
                self.gets += 1;
                self.asked += outcome.asked;
                self.found += usize::from(!outcome.holders.is_empty());
            }
            Purpose::Publish(replicas) => {
                for to in outcome.closest.into_iter().take(replicas) {
                    self.ask(i, to, Body::Store(*lookup.key()), None);
                }
            }
        }
    }
}
