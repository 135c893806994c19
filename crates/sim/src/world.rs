//! The loop that drives peers, and only those that have something to do.
//!
//! A peer is touched when a datagram reaches it, when it asked to be woken, or when the workload wants
//! something of it; then everything it wants sent and said is taken at once. Wake-ups are not
//! cancelled but forgotten: a peer remembers the one that counts, others pass unnoticed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use node::{Config, Event, Identity, Node, OpId, OverlayOptions, Profile, RolePolicy, Saved, User};
use wire::{Contact, HashAlgorithm, KeyPair, NodeId, Rng, Socket, Time, UnixTime, puzzle};

use crate::attack::{Attack, Twist, is_puppet};
use crate::book::SharedBook;
use crate::chance::{Use, seed, stream};
use crate::churn::Sessions;
use crate::faults::Ailment;
use crate::model::{UserModel, Violations};
use crate::net::{Fate, HEADERS, Net, PEER_PORT, SIP_PORT};
use crate::phone::{Phone, lan};
use crate::queue::{Happening, Queue};
use crate::report::{LogHash, ModelBytes, Report};
use crate::watch::Watch;
use crate::workload::{Pending, Warmth, Work};
use crate::{Observer, Progress, Scenario, Sent};

/// When the simulated calendar begins.
const UNIX_START: u64 = 1_800_000_000;
/// How often the observer hears of the progress.
const INSPECT: Duration = Duration::from_secs(10);
/// Bytes of each datagram that enter the log's hash: the header, and the beginning of the rest.
const HASHED: usize = 64;
/// The draws for the key of one peer are so far apart that they meet no other peer's.
const DRAWS_APART: u64 = 1 << 32;
/// No wake-up is scheduled.
const NEVER: Time = Time::from_micros(u64::MAX);

/// A peer, and what the model knows of it.
pub(crate) struct Peer {
    pub(crate) node: Option<Box<Node>>,
    pub(crate) id: NodeId,
    pub(crate) started: Time,
    pub(crate) ended: Option<Time>,
    pub(crate) online: Option<Time>,
    pub(crate) leaving: bool,
    pub(crate) users: Vec<UserModel>,
    pub(crate) books: Books,
    pub(crate) phone: Option<usize>,
    /// Where it stands in the list of the living.
    place: usize,
    wake: Time,
    media_ports: u16,
}

/// What a peer sent in all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    /// As the wire saw it.
    pub(crate) sent: u64,
    /// As the peer booked it.
    pub(crate) maintenance: u64,
    pub(crate) by_function: Vec<(&'static str, u64)>,
    /// How often it put work off or refused it, in the order of [`Work::ALL`](node::budget::Work::ALL).
    pub(crate) shed: [u32; node::budget::Work::ALL.len()],
}

/// An earlier life of a peer that came back.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    pub(crate) stayed: Duration,
    pub(crate) books: Books,
}

/// Everything.
pub(crate) struct World<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) observer: &'a mut dyn Observer,
    pub(crate) now: Time,
    pub(crate) queue: Queue,
    pub(crate) net: Net,
    pub(crate) peers: Vec<Peer>,
    /// Numbers of the peers that run and stay for the time being, in no order.
    pub(crate) live: Vec<usize>,
    pub(crate) phones: Vec<Phone>,
    pub(crate) pending: BTreeMap<(usize, OpId), Pending>,
    pub(crate) work: BTreeMap<(usize, OpId), Work>,
    /// What is wrong with whom.
    pub(crate) ailments: BTreeMap<usize, Ailment>,
    /// What peers that are away had saved.
    pub(crate) kept: BTreeMap<usize, Saved>,
    pub(crate) past: Vec<Past>,
    pub(crate) watch: Watch,
    pub(crate) warmth: Warmth,
    pub(crate) attack: Attack,
    pub(crate) sessions: Option<Sessions>,
    pub(crate) session_rng: Rng,
    pub(crate) lookup_rng: Rng,
    pub(crate) event_rng: Rng,
    pub(crate) work_rng: Rng,
    pub(crate) hash: LogHash,
    pub(crate) profile: Profile,
    pub(crate) violations: Violations,
    pub(crate) report: Report,
    pub(crate) model_bytes: ModelBytes,
    pub(crate) times: Times,
    pub(crate) key_hash: HashAlgorithm,
    book: Arc<SharedBook>,
    options: OverlayOptions,
    memory: Option<u64>,
}

/// Values of which the report wants percentiles, in milliseconds.
#[derive(Default)]
pub(crate) struct Times {
    pub(crate) online: Vec<f64>,
    pub(crate) published: Vec<f64>,
    pub(crate) lookup: Vec<f64>,
    pub(crate) calls: Vec<f64>,
    pub(crate) chats: Vec<f64>,
    pub(crate) hops: u64,
    pub(crate) messages: u64,
    /// When each lookup began, how long it took, and whether it found its record.
    pub(crate) log: Vec<LookupLine>,
}

/// A lookup that has ended, as the series and the phases need it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LookupLine {
    pub(crate) at_s: f32,
    pub(crate) ms: f32,
    pub(crate) found: bool,
}

impl<'a> World<'a> {
    pub(crate) fn new(scenario: &'a Scenario, observer: &'a mut dyn Observer) -> Self {
        let mut violations = Violations::default();
        if let Err(error) = scenario.check() {
            violations.add(error.to_string());
        }
        let key_hash = scenario.hash_algorithm().unwrap_or_default();
        let options = OverlayOptions {
            name: "sim".into(),
            algorithm: scenario.algorithm().unwrap_or(node::Algorithm::Kademlia),
            hash: key_hash,
            base: scenario.base,
            replicas: scenario.replicas,
            difficulty: scenario.difficulty,
            ..OverlayOptions::default()
        };
        World {
            profile: scenario.profile().unwrap_or_default(),
            net: Net::new(scenario),
            sessions: scenario.churn.clone().map(Sessions::new),
            session_rng: stream(scenario.seed, Use::Sessions),
            lookup_rng: stream(scenario.seed, Use::Lookups),
            event_rng: stream(scenario.seed, Use::Events),
            work_rng: stream(scenario.seed, Use::Work),
            work: BTreeMap::new(),
            ailments: BTreeMap::new(),
            kept: BTreeMap::new(),
            past: Vec::new(),
            watch: Watch::new(scenario),
            warmth: Warmth::new(scenario),
            attack: Attack::new(scenario),
            memory: observer.memory(),
            scenario,
            observer,
            now: Time::ZERO,
            queue: Queue::default(),
            peers: Vec::new(),
            live: Vec::new(),
            phones: Vec::new(),
            pending: BTreeMap::new(),
            hash: LogHash::default(),
            violations,
            report: Report::default(),
            model_bytes: ModelBytes::default(),
            times: Times::default(),
            key_hash,
            book: Arc::default(),
            options,
        }
    }

    /// Plays the scenario to its end.
    pub(crate) fn run(mut self) -> Report {
        let end = Time::ZERO + Duration::from_secs_f64(self.scenario.duration_s);
        if self.scenario.check().is_ok() {
            self.plan();
            self.queue.push(Time::ZERO + INSPECT, Happening::Inspect);
            self.play_until(end);
        }
        self.now = end;
        let after = self.memory.and(self.observer.memory());
        let grown = after.zip(self.memory).map(|(after, before)| after.saturating_sub(before));
        self.report.bytes_per_node_memory = grown.map(|bytes| bytes / self.live.len().max(1) as u64);
        self.finish()
    }

    /// Lets everything happen that happens until then.
    pub(crate) fn play_until(&mut self, end: Time) {
        while let Some((at, happening)) = self.queue.pop(end) {
            self.now = at;
            self.report.events += 1;
            self.happen(happening);
        }
        self.now = end;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrival { to, socket, remote, mut bytes } => {
                self.arrive(to, socket, remote, &mut bytes);
            }
            Happening::AtNat { to, port, remote, mut bytes } => {
                if self.net.lets_in(self.now, to, remote, port) {
                    self.arrive(to, Socket::Peer, remote, &mut bytes);
                } else {
                    self.lose("nat");
                }
            }
            Happening::Late { to, socket, remote, mut bytes } => {
                self.deliver(to, socket, remote, &mut bytes);
            }
            Happening::Wake(peer) => self.wake(peer),
            Happening::AtPhone { phone, socket, remote, bytes } => {
                self.phone_hears(phone, socket, remote, &bytes);
            }
            Happening::WakePhone(phone) => self.wake_phone(phone),
            Happening::Join => self.join(),
            Happening::Departure(peer) => self.depart(peer),
            Happening::SwitchOff(peer) => self.switch_off(peer),
            Happening::Lookup => self.lookup(),
            Happening::Attack(entry) => self.attack(entry),
            Happening::Strike { event, peer, strike } => self.strike(event, peer, strike),
            Happening::Return(peer) => self.come_back(peer),
            Happening::SignUp => self.sign_up(),
            Happening::Converse => self.converse(),
            Happening::Chat => self.chat(),
            Happening::Warm => self.keep_warm(),
            Happening::Measure => self.begin_measuring(),
            Happening::Tick => self.tick(),
            Happening::Check => self.check_everybody(),
            Happening::Script(index) => self.script(index),
            Happening::ScriptEnds(index) => self.script_ends(index),
            Happening::Dial(index) => self.dial(index),
            Happening::HangUp(index) => self.hang_up(index),
            Happening::Write(index) => self.write(index),
            Happening::Inspect => {
                self.queue.push(self.now + INSPECT, Happening::Inspect);
                let lookups = (self.report.lookups.issued, self.report.lookups.succeeded);
                let events = self.report.events;
                self.observer.progress(Progress { at: self.now, live: self.live.len(), events, lookups });
            }
        }
    }

    pub(crate) fn key_pair(&self, seed: wire::Seed) -> KeyPair {
        self.scenario.signatures.key_pair(seed)
    }

    /// Starts the next peer.
    pub(crate) fn join(&mut self) {
        let number = self.peers.len();
        self.attack.enlist(number);
        let key = self.peer_key(number);
        if number == self.peers.capacity() {
            self.peers.reserve_exact(number / 8 + 1);
        }
        self.peers.push(Peer {
            node: None,
            id: key.public().node_id(self.key_hash),
            started: self.now,
            ended: None,
            online: None,
            leaving: false,
            users: Vec::new(),
            books: Books::default(),
            phone: None,
            place: 0,
            wake: NEVER,
            media_ports: 0,
        });
        self.report.population.joined += 1;
        self.boot(number, Saved::default());
        self.plan_session(number);
        self.give_phone(number);
    }

    fn peer_key(&mut self, number: usize) -> KeyPair {
        if let Some(key) = self.attack.chosen_key(number) {
            return key;
        }
        let mut draws = 0;
        let solved = puzzle::solve(self.key_hash, self.scenario.difficulty, || {
            draws += 1;
            let drawn = number as u64 + (draws - 1) * DRAWS_APART;
            Ok::<_, Infallible>(self.key_pair(seed(self.scenario.seed, Use::PeerKey, drawn)))
        });
        match solved {
            Ok(key) => key,
        }
    }

    /// Starts a peer: a new one, or one that was there before and has its keys.
    pub(crate) fn boot(&mut self, number: usize, saved: Saved) {
        let count = self.scenario.users_per_node.max(self.peers[number].users.len());
        let users: Vec<User> = (0..count).map(|k| self.user(number, k)).collect();
        let (bootstrap, own) = (self.net.host(0), self.net.own_host(number));
        let config = Config {
            overlay: self.options.clone(),
            bootstrap: (number > 0).then(|| SocketAddr::from((bootstrap, PEER_PORT))).into_iter().collect(),
            listen: SocketAddr::from((own, PEER_PORT)),
            sip: SocketAddr::from((self.net.host(number), SIP_PORT)),
            role: match self.net.faults.is_client(number) {
                true => RolePolicy::Client,
                // Who is behind a box becomes one by itself.
                false => self.scenario.peer.role.policy(),
            },
            capacity: crate::chance::capacity(self.scenario.seed, number as u64),
            profile: self.profile,
            ..self.scenario.peer.config()
        };
        let models = users.iter().map(|u| UserModel { aor: u.aor.clone(), ..UserModel::default() }).collect();
        let identity = Identity { peer: self.peer_key(number), users };
        let today = UNIX_START.saturating_add_signed(self.net.faults.calendar(number));
        let unix = UnixTime(today + self.now.as_millis() / 1_000);
        // Another life draws other numbers.
        let life = self.now.as_micros() << 24;
        let chance = seed(self.scenario.seed, Use::Node, number as u64 ^ life);
        let mut node = Node::new(config, identity, saved, chance, self.clock(number), unix);
        node.share(self.book.clone());
        let peer = &mut self.peers[number];
        peer.node = Some(Box::new(node));
        peer.started = self.now;
        peer.ended = None;
        peer.leaving = false;
        peer.online = None;
        peer.users = models;
        peer.place = self.live.len();
        peer.wake = NEVER;
        self.live.push(number);
        let contact = Contact {
            id: self.peers[number].id,
            address: SocketAddr::from((self.net.host(number), PEER_PORT)),
        };
        self.attack.introduce(number, contact);
        self.afflict(number);
        self.touch(number);
    }

    /// Takes a peer off the list of those that stay.
    pub(crate) fn forget(&mut self, peer: usize) {
        let place = self.peers[peer].place;
        if self.live.get(place) == Some(&peer) {
            self.live.swap_remove(place);
            if let Some(&moved) = self.live.get(place) {
                self.peers[moved].place = place;
            }
        }
    }

    /// A peer is no more.
    pub(crate) fn switch_off(&mut self, peer: usize) {
        self.forget(peer);
        self.abandon_lookups_of(peer);
        self.close_books(peer);
        self.watch.forget(peer, &self.peers[peer].books);
        self.peers[peer].node = None;
        self.peers[peer].ended.get_or_insert(self.now);
    }

    /// Notes what a peer sent, and sees whether it noted the same.
    pub(crate) fn close_books(&mut self, peer: usize) {
        self.check_books(peer);
        let Peer { node: Some(node), books, .. } = &mut self.peers[peer] else { return };
        books.maintenance = node.maintenance_bytes_sent();
        books.by_function = node.ledger().totals().map(|(f, _, sent)| (f.name(), sent)).collect();
        books.shed = node.ledger().budget().counts();
    }

    /// Sees whether a peer noted what it sent.
    pub(crate) fn check_books(&mut self, peer: usize) {
        let Peer { node: Some(node), books: Books { sent, .. }, .. } = &self.peers[peer] else { return };
        let booked: u64 = node.ledger().totals().map(|(.., sent)| sent).sum();
        if booked != *sent {
            let now = self.now;
            let what = || format!("{now:?}: peer {peer} booked {booked} bytes and sent {sent}");
            self.violations.add_kind("the ledger is wrong", what);
        }
    }

    fn wake(&mut self, peer: usize) {
        if self.is_frozen(peer) {
            return;
        }
        let now = self.clock(peer);
        let Peer { node: Some(node), wake, .. } = &mut self.peers[peer] else { return };
        if *wake != self.now {
            return;
        }
        *wake = NEVER;
        if node.poll_timeout().is_some_and(|(at, _)| at <= now) {
            node.handle_timeout(now);
            if let Some((at, reason)) = node.poll_timeout().filter(|(at, _)| *at <= now) {
                let what = || format!("{:?}: peer {peer} at {now:?}, for {at:?}: {reason}", self.now);
                self.violations.add_kind("woken in the past", what);
            }
        }
        self.touch(peer);
    }

    /// Lets a peer see at once whether anything is due, whatever it asked for.
    pub(crate) fn wake_now(&mut self, peer: usize) {
        if self.peers[peer].node.is_some() {
            self.peers[peer].wake = self.now;
            self.queue.push(self.now, Happening::Wake(peer));
        }
    }

    /// A datagram reaches the socket of a peer.
    fn arrive(&mut self, to: usize, socket: Socket, remote: SocketAddr, bytes: &mut [u8]) {
        if self.ailments.is_empty() || !self.hold_up(to, socket, remote, bytes) {
            self.deliver(to, socket, remote, bytes);
        }
    }

    /// Hands a datagram to a peer.
    pub(crate) fn deliver(&mut self, to: usize, socket: Socket, remote: SocketAddr, bytes: &mut [u8]) {
        let now = self.clock(to);
        // A damaged address leads anywhere.
        if socket == Socket::Peer && to < self.peers.len() && self.watch.notes_answers() {
            self.watch.heard(to, self.net.peer_at(&remote), bytes);
        }
        if socket == Socket::Peer && self.attack.is_attacker(to) && !self.reaches_attacker(to, remote, bytes)
        {
            return;
        }
        let Some(node) = self.peers.get_mut(to).and_then(|p| p.node.as_mut()) else {
            self.report.datagrams.to_nobody += 1;
            return;
        };
        match node.handle_datagram(now, socket, remote, bytes) {
            Some(f) => {
                let bytes = [&bytes[..f.len], &f.tail].concat();
                self.carry(to, f.socket, f.remote, bytes);
                self.set_wake(to);
            }
            None => self.touch(to),
        }
    }

    /// A datagram reaches an attacker; whether its peer hears it too.
    fn reaches_attacker(&mut self, to: usize, remote: SocketAddr, bytes: &[u8]) -> bool {
        if is_puppet(to) {
            if let Some(answer) = self.attack.puppets.answer(to, bytes) {
                self.put_on_wire(to, remote, answer);
            }
            return false;
        }
        match self.attack.twist(to, remote, self.peers[to].id, bytes) {
            Twist::Heard => true,
            Twist::Dropped => false,
            Twist::Forged(answer) => {
                self.put_on_wire(to, remote, answer);
                false
            }
            Twist::Beside(more) => {
                self.put_on_wire(to, remote, more);
                true
            }
        }
    }

    /// Takes everything a peer wants sent and said.
    pub(crate) fn touch(&mut self, peer: usize) {
        while let Some(transmit) = self.peers[peer].node.as_mut().and_then(|n| n.poll_transmit()) {
            self.carry(peer, transmit.socket, transmit.remote, transmit.bytes);
        }
        while let Some(event) = self.peers[peer].node.as_mut().and_then(|n| n.poll_event()) {
            self.told(peer, event);
        }
        self.set_wake(peer);
    }

    fn set_wake(&mut self, peer: usize) {
        let Peer { node: Some(node), wake, .. } = &self.peers[peer] else { return };
        let Some((at, _)) = node.poll_timeout() else { return };
        let at = self.when(peer, at).max(self.now + Duration::from_micros(1));
        if at < *wake {
            self.peers[peer].wake = at;
            self.queue.push(at, Happening::Wake(peer));
        }
    }

    /// Puts a datagram on the wire, or on the cable to a phone.
    fn carry(&mut self, from: usize, socket: Socket, remote: SocketAddr, bytes: Vec<u8>) {
        if socket != Socket::Peer {
            return self.carry_to_phone(from, socket, remote, bytes);
        }
        self.peers[from].books.sent += bytes.len() as u64 + HEADERS;
        if !self.attack.is_on() || !self.attack.keeps_back(from, &bytes) {
            self.put_on_wire(from, remote, bytes);
        }
    }

    /// Puts a datagram on the wire, whether a peer or an attacker in its name sends it.
    pub(crate) fn put_on_wire(&mut self, from: usize, remote: SocketAddr, mut bytes: Vec<u8>) {
        let stats = &mut self.report.datagrams;
        stats.sent += 1;
        stats.longest_bytes = stats.longest_bytes.max(bytes.len());
        if bytes.len() > self.scenario.mtu {
            let what = || format!("peer {from} sent {} bytes to {remote}", bytes.len());
            self.violations.add_kind("longer than the path carries", what);
        }
        if self.scenario.model_bytes && self.watch.is_measuring(self.now) {
            self.model_bytes.add(&bytes);
        }
        let passage = self.net.send(self.now, from, remote, &mut bytes);
        let (to, fate) = (passage.to, passage.fate);
        let arrives = !matches!(fate, Fate::Lost(_));
        self.hash.number(self.now.as_micros());
        self.hash.number(((from as u64) << 32) | to.unwrap_or(usize::MAX >> 32) as u64);
        self.hash.number(bytes.len() as u64 * 2 + u64::from(!arrives));
        self.hash.add(&bytes[..bytes.len().min(HASHED)]);
        self.observer.sent(&Sent { at: self.now, from: passage.source, to: remote, bytes: &bytes, arrives });
        match (fate, to) {
            (Fate::Arrives(after), Some(to)) => self.dispatch(after, to, passage.source, remote, bytes),
            (Fate::Twice(after, again), Some(to)) => {
                self.dispatch(after, to, passage.source, remote, bytes.clone());
                self.dispatch(again, to, passage.source, remote, bytes);
            }
            (Fate::Lost(why), _) => self.lose(why),
            (_, None) => self.lose("no such address"),
        }
    }

    /// A datagram will be at a peer, or at the box before it, after so long.
    fn dispatch(&mut self, after: Duration, to: usize, source: SocketAddr, at: SocketAddr, bytes: Vec<u8>) {
        let arrival = match self.net.is_behind_nat(to) {
            true => Happening::AtNat { to, port: at.port(), remote: source, bytes },
            false => Happening::Arrival { to, socket: Socket::Peer, remote: source, bytes },
        };
        self.queue.push(self.now + after, arrival);
    }

    /// A datagram is lost.
    pub(crate) fn lose(&mut self, why: &'static str) {
        self.report.datagrams.lost += 1;
        *self.report.datagrams.lost_by.entry(why).or_default() += 1;
    }

    fn carry_to_phone(&mut self, from: usize, socket: Socket, remote: SocketAddr, bytes: Vec<u8>) {
        if let Some(phone) = self.peers[from].phone {
            let happening = Happening::AtPhone { phone, socket, remote, bytes };
            self.queue.push(self.now + lan(), happening);
        }
    }

    /// A peer tells something.
    fn told(&mut self, peer: usize, event: Event) {
        self.observer.told(self.now, peer, &event);
        let age = self.now.since(self.peers[peer].started).as_secs_f64() * 1e3;
        match event {
            Event::Online => {
                let first = self.peers[peer].online.replace(self.now).is_none();
                self.times.online.extend(first.then_some(age));
            }
            Event::Published { aor } => {
                let now = self.now;
                let user = self.peers[peer].users.iter_mut().find(|u| u.aor == aor);
                if let Some(user) = user.filter(|u| u.published.is_none()) {
                    user.published = Some(now);
                    self.report.workload.registrations.succeeded += u64::from(user.wanted > Time::ZERO);
                    self.times
                        .published
                        .push(now.since(user.wanted.max(self.peers[peer].started)).as_secs_f64() * 1e3);
                }
            }
            Event::Crowded { name, ours: true } => {
                let victim = self.attack.is_victim(peer, &name);
                let tally = &mut self.attack.tally;
                let alarms = if victim { &mut tally.victim } else { &mut tally.others };
                alarms.publisher_alarms += 1;
            }
            Event::NameTaken { aor } => {
                self.violations.add(format!("{:?}: {aor} of peer {peer} is said to be taken", self.now));
            }
            Event::Done { op, outcome } => self.done(peer, op, outcome),
            Event::StretchWanted(key) => {
                let (now, stretch) = (self.clock(peer), self.scenario.peer.numbers.stretch(&key));
                let Some(node) = &mut self.peers[peer].node else { return };
                node.handle_stretched(now, key, stretch);
                self.touch(peer);
            }
            Event::MediaPortsWanted(pairs) => {
                let Peer { node: Some(node), media_ports, .. } = &mut self.peers[peer] else { return };
                for _ in 0..pairs {
                    *media_ports = (*media_ports + 2) % 20_000;
                    node.offer_media_port(20_000 + *media_ports);
                }
            }
            _ => {}
        }
    }
}
