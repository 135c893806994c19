//! A network small enough to read: peers in one thread, virtual time, five milliseconds each way.
#![allow(dead_code, unreachable_pub)] // shared by test programs that each use a part

pub mod charter;
pub mod phone;
pub mod streams;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use node::{Config, Event, Identity, Node, OpId, Outcome, Profile, Saved, User};
use streams::{Streams, What};
use wire::domain::Word;
use wire::{
    HashAlgorithm, KeyPair, PublicKey, Rng, RngExt, Seed, Socket, Stretch, Time, Transmit, UnixTime, puzzle,
};

/// One way between two peers, unless a test says otherwise.
const LATENCY: Duration = Duration::from_millis(5);

type InFlight = (Time, u64, What, SocketAddr, SocketAddr, Vec<u8>);

/// Peers, and what is under way between them and their phones.
pub struct World {
    pub now: Time,
    pub nodes: Vec<Node>,
    pub events: Vec<VecDeque<Event>>,
    pub to_phones: Vec<(usize, Transmit)>,
    pub dead: BTreeSet<usize>,
    /// Whether the machines of the dead say that nobody listens there.
    pub closed_ports: bool,
    pub loss: f64,
    /// How long every datagram is under way.
    pub latency: Duration,
    /// For how long a datagram or a timer occupies the one processor that all peers share.
    pub work: Duration,
    /// Peers behind a NAT that lets in only whom they wrote to within the last minute (RFC 4787:
    /// endpoint-independent mapping, address-dependent filtering).
    pub behind_nat: BTreeSet<usize>,
    opened: BTreeSet<usize>,
    pub written: BTreeMap<(usize, SocketAddr), Time>,
    /// Bytes sent by each peer, with IP and UDP headers.
    pub sent: Vec<u64>,
    /// Whether the machines have no ports for sound left.
    pub no_ports: bool,
    /// What the calendars of peers that start say when the world begins, in seconds since 1970.
    pub epoch: u64,
    /// What goes over the wire between peers, where somebody listens.
    pub tap: Option<Vec<Vec<u8>>>,
    pub streams: Streams,
    /// A peer that hears nothing in which these bytes are, if there is one.
    pub deaf: Option<(usize, Vec<u8>)>,
    /// What keys cost, where a peer's world says otherwise than [`stand_in`], or nothing.
    pub costs: BTreeMap<(usize, PublicKey), Option<Stretch>>,
    /// Whether what keys cost takes for ever.
    pub stalled: bool,
    /// Which peers had which keys worked out.
    pub worked_out: Vec<(usize, PublicKey)>,
    /// What domains say of names; of others nothing.
    pub domains: BTreeMap<String, Word>,
    /// Whether domains take for ever.
    pub domains_stall: bool,
    /// Which peers had which domains asked.
    pub asked: Vec<(usize, String)>,
    flying: BinaryHeap<Reverse<InFlight>>,
    by_address: BTreeMap<SocketAddr, usize>,
    rng: Rng,
    count: u64,
}

pub fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (n / 250) as u8, (n % 250) as u8 + 1], 7080))
}

/// What a key costs in this world: a hash, for nobody pays here.
pub fn stand_in(key: &PublicKey) -> Stretch {
    Stretch(*HashAlgorithm::Sha256.digest(&key.0).as_bytes().first_chunk().expect("half of it"))
}

/// The address of a peer behind a NAT, as the others see it.
pub fn outside(n: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, (n / 250) as u8, (n % 250) as u8 + 1], 40_000))
}

pub fn sip_address(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (n / 250) as u8, (n % 250) as u8 + 1], 5060))
}

impl World {
    /// `count` peers; the first founds the overlay, each serves the user `user<n>@test`.
    pub fn new(count: usize) -> World {
        World::with(count, |_, _| {})
    }

    /// The same, each peer's configuration changed as told.
    pub fn with(count: usize, change: impl Fn(usize, &mut Config)) -> World {
        World::behind_nats(count, &[], change)
    }

    /// The same, some of them behind NATs.
    pub fn behind_nats(count: usize, nats: &[usize], change: impl Fn(usize, &mut Config)) -> World {
        let mut world = World {
            now: Time::from_secs(1),
            nodes: Vec::new(),
            events: Vec::new(),
            to_phones: Vec::new(),
            dead: BTreeSet::new(),
            closed_ports: false,
            loss: 0.0,
            latency: LATENCY,
            work: Duration::ZERO,
            behind_nat: nats.iter().copied().collect(),
            opened: BTreeSet::new(),
            written: BTreeMap::new(),
            sent: Vec::new(),
            no_ports: false,
            epoch: 1_800_000_000,
            tap: None,
            streams: Streams::default(),
            deaf: None,
            costs: BTreeMap::new(),
            stalled: false,
            worked_out: Vec::new(),
            domains: BTreeMap::new(),
            domains_stall: false,
            asked: Vec::new(),
            flying: BinaryHeap::new(),
            by_address: BTreeMap::new(),
            rng: Seed::from_number(99).rng(),
            count: 0,
        };
        for n in 0..count {
            world.add(n, &change);
            world.run(Duration::from_millis(100));
        }
        world
    }

    fn add(&mut self, n: usize, change: &dyn Fn(usize, &mut Config)) {
        let node = self.born(n, 0, Saved::default(), change);
        self.nodes.push(node);
        self.events.push(VecDeque::new());
        self.sent.push(0);
        self.by_address.insert(if self.behind_nat.contains(&n) { outside(n) } else { address(n) }, n);
        self.collect(n);
    }

    fn born(&self, n: usize, life: u64, saved: Saved, change: &dyn Fn(usize, &mut Config)) -> Node {
        // In the clear, so that tests can read and forge, and without numbers; those of links, sound and numbers say
        // otherwise.
        let (listen, sip, profile) = (address(n), sip_address(n), Profile::Open);
        let mut config = Config { listen, sip, profile, numbers: false, ..Config::default() };
        if n > 0 {
            config.bootstrap = vec![address(0)];
        }
        change(n, &mut config);
        let mut draws = 0;
        let peer = puzzle::solve(config.overlay.hash, config.overlay.difficulty, || {
            draws += 1;
            Ok::<_, ()>(KeyPair::from_seed(Seed::from_number(1_000 + n as u64 + (draws - 1) * 1_000_000)))
        });
        let peer = peer.expect("it cannot fail");
        let keys = KeyPair::from_seed(Seed::from_number(9_000 + n as u64));
        let identity = Identity { peer, users: vec![User { aor: format!("user{n}@test"), keys }] };
        let seed = Seed::from_number(n as u64 + 100_000 * life);
        let unix = UnixTime(self.epoch + self.now.as_millis() / 1_000);
        Node::new(config, identity, saved, seed, self.now, unix)
    }

    /// More peers come.
    pub fn grow(&mut self, count: usize) {
        for _ in 0..count {
            self.grow_at_once(1);
            self.run(Duration::from_millis(100));
        }
    }

    /// More peers come, each with its configuration changed as told.
    pub fn grow_with(&mut self, count: usize, change: impl Fn(usize, &mut Config)) {
        for _ in 0..count {
            self.add(self.nodes.len(), &change);
            self.run(Duration::from_millis(100));
        }
    }

    /// More peers come, all at once.
    pub fn grow_at_once(&mut self, count: usize) {
        for _ in 0..count {
            self.add(self.nodes.len(), &|_, _| {});
        }
    }

    /// A peer crashes and starts again with its keys and nothing else.
    pub fn restart(&mut self, n: usize) {
        self.restart_with(n, Saved::default(), |_, _| {});
    }

    /// The same with what it saved, its configuration changed as told.
    pub fn restart_with(&mut self, n: usize, saved: Saved, change: impl Fn(usize, &mut Config)) {
        self.nodes[n] = self.born(n, 1, saved, &change);
        self.events[n].clear();
        self.collect(n);
    }

    /// Takes what a peer wants sent and said.
    pub fn collect(&mut self, n: usize) {
        while let Some(t) = self.nodes[n].poll_transmit() {
            match t.socket {
                Socket::Peer => self.send_from(n, t.remote, t.bytes),
                Socket::PeerStream => self.send_piece(n, t.remote, t.bytes),
                _ => self.to_phones.push((n, t)),
            }
        }
        while let Some(event) = self.nodes[n].poll_event() {
            if self.serve_streams(n, &event) {
                continue;
            }
            if let Event::StretchWanted(key) = event {
                self.worked_out.push((n, key));
                if self.stalled {
                    continue;
                }
                let cost = self.costs.get(&(n, key)).copied().unwrap_or_else(|| Some(stand_in(&key)));
                self.nodes[n].handle_stretched(self.now, key, cost);
                self.collect(n);
                continue;
            }
            if let Event::DomainWanted(name) = event {
                let word = self.domains.get(&name).copied().unwrap_or(Word::Nothing);
                self.asked.push((n, name.clone()));
                if !self.domains_stall {
                    self.nodes[n].handle_domain_said(self.now, &name, word, Duration::from_secs(300));
                }
                continue;
            }
            if let Event::MediaPortsWanted(count) = event {
                if self.no_ports {
                    self.nodes[n].refuse_media_ports(count);
                    continue;
                }
                for _ in 0..count {
                    self.count += 2;
                    self.nodes[n].offer_media_port(20_000 + (self.count % 20_000) as u16 * 2);
                }
                continue;
            }
            self.events[n].push_back(event);
        }
    }

    fn send_from(&mut self, n: usize, to: SocketAddr, bytes: Vec<u8>) {
        self.sent[n] += bytes.len() as u64 + 28;
        self.tap.iter_mut().for_each(|tap| tap.push(bytes.clone()));
        let hidden = self.behind_nat.contains(&n);
        self.written.insert((n, to), self.now);
        self.send(Socket::Peer, if hidden { outside(n) } else { address(n) }, to, bytes);
    }

    fn is_deaf(&self, n: usize, bytes: &[u8]) -> bool {
        let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        self.deaf.as_ref().is_some_and(|(deaf, part)| *deaf == n && holds(part))
    }

    fn is_let_in(&self, n: usize, from: SocketAddr) -> bool {
        let recently = |at: &Time| self.now.since(*at) < Duration::from_secs(60);
        !self.behind_nat.contains(&n)
            || self.opened.contains(&n)
            || self.written.get(&(n, from)).is_some_and(recently)
    }

    fn send(&mut self, socket: Socket, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.count += 1;
        if self.loss == 0.0 || self.rng.random_range(0.0..1.0) >= self.loss {
            let what = What::Arrival(socket);
            self.flying.push(Reverse((self.now + self.latency, self.count, what, from, to, bytes)));
        }
    }

    /// Bytes from a phone to the peer `n`.
    pub fn phone_says(&mut self, n: usize, socket: Socket, from: SocketAddr, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let forward = self.nodes[n].handle_datagram(self.now, socket, from, &mut bytes);
        self.forward(n, forward, &bytes);
        self.collect(n);
    }

    fn forward(&mut self, n: usize, forward: Option<node::Forward>, bytes: &[u8]) {
        let Some(f) = forward else { return };
        let bytes = [&bytes[..f.len], &f.tail].concat();
        match f.socket {
            Socket::Peer => self.send_from(n, f.remote, bytes),
            socket => self.to_phones.push((n, Transmit { socket, remote: f.remote, bytes })),
        }
    }

    /// The NAT of a peer lets everybody in from now on.
    pub fn open_nat(&mut self, n: usize) {
        self.opened.insert(n);
    }

    /// Lets time pass until `until`, or until nothing happens any more before it.
    pub fn step(&mut self, until: Time) -> bool {
        let arrival = self.flying.peek().map(|Reverse(f)| f.0);
        let alive = |n: &usize| !self.dead.contains(n);
        let wake = (0..self.nodes.len())
            .filter(alive)
            .filter_map(|n| Some((self.nodes[n].poll_timeout()?.0, n)))
            .min();
        match (arrival, wake) {
            (Some(at), _) if at <= until && wake.is_none_or(|(w, _)| at <= w) => {
                let Reverse((at, _, what, from, to, mut bytes)) = self.flying.pop().expect("peeked");
                let at = self.now.max(at);
                self.now = at + self.work;
                let What::Arrival(socket) = what else {
                    self.move_stream(what, from, to, bytes);
                    return true;
                };
                if self.is_blocked(from, to) {
                    return true;
                }
                if let Some(&n) = self.by_address.get(&to).filter(|n| !self.dead.contains(n))
                    && self.is_let_in(n, from)
                    && !self.is_deaf(n, &bytes)
                {
                    let forward = self.nodes[n].handle_datagram(at, socket, from, &mut bytes);
                    self.forward(n, forward, &bytes);
                    self.collect(n);
                } else if let (true, Some(dead), Some(&n)) =
                    (self.closed_ports, self.by_address.get(&to), self.by_address.get(&from))
                    && self.dead.contains(dead)
                {
                    self.nodes[n].handle_unreachable(at, to, &bytes[..bytes.len().min(500)]);
                    self.collect(n);
                }
                true
            }
            (_, Some((at, n))) if at <= until => {
                let at = self.now.max(at);
                self.nodes[n].handle_timeout(at);
                let next = self.nodes[n].poll_timeout();
                assert!(next.is_none_or(|(t, _)| t > at), "{n} at {at:?}: {next:?}");
                self.now = at + self.work;
                self.collect(n);
                true
            }
            _ => {
                self.now = self.now.max(until);
                false
            }
        }
    }

    /// Lets `d` pass.
    pub fn run(&mut self, d: Duration) {
        let until = self.now + d;
        while self.step(until) {}
    }

    /// Runs until the command has ended, at most half a minute.
    pub fn wait(&mut self, n: usize, op: OpId) -> Outcome {
        self.collect(n);
        let until = self.now + Duration::from_secs(30);
        loop {
            let done = self.events[n].iter().position(|e| matches!(e, Event::Done { op: o, .. } if *o == op));
            if let Some(Event::Done { outcome, .. }) = done.and_then(|i| self.events[n].remove(i)) {
                return outcome;
            }
            assert!(self.step(until), "command {op:?} of peer {n} never ended");
        }
    }
}
