//! A whole peer, fed on every socket, with time passing between.
//!
//! Alice's peer is under test. Bob's is a real one too, and the two find each other before the script
//! begins, so that the bytes meet a peer with tables, records, a registered phone and calls. A script
//! speaks for Alice's phone, for Bob's peer with Bob's own key, and for a stranger.
//!
//! | kind | step |
//! |---|---|
//! | 0, 1 | a datagram to the peer port, from Bob's address or a stranger's |
//! | 2, 3 | a datagram to the SIP port, from Alice's phone or a stranger |
//! | 4, 5, 6 | a piece of a phone's connection, of another one; both close |
//! | 7, 8 | a packet to a media port, from Alice's phone or a stranger; the first byte chooses the port |
//! | 9 | a request signed by Bob: message type, flags, objects |
//! | 10 | Bob's answer to one of Alice's requests: which, code, flags, objects |
//! | 11 | SIP in an envelope of Bob's |
//! | 12 | damage to the next datagram from Bob: position (16), mask (8), as often as one likes |
//! | 13, 14 | a command to Alice's peer or to Bob's, as the control socket takes it |
//! | 15 | the phone's answer to the latest request it got: status, description |
//! | 16 | a request of the phone within its latest call: method, headers and body |
//! | 17, 18 | a piece of a stream from another peer's port, which stands from the first; it closes |

mod speakers;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use node::{Config, Event, Identity, Node, OpId, OverlayOptions, Profile, Saved, User};
use openvoip::command::Answer;
use openvoip::control;
use wire::p2pp::{Class, Header, MAX_DATAGRAM, Message};
use wire::sip::digest::Challenge;
use wire::sip::{self, Frame, Framer, Method};
use wire::{ConnectionId, KeyPair, Seed, Socket, Time, UnixTime};

use crate::script::{Step, steps};

const LATENCY: Duration = Duration::from_millis(5);

/// Waits of the steps, in milliseconds: at once, within a call, and beyond every timeout.
const WAITS: [u64; 8] = [0, 5, 60, 600, 3_000, 35_000, 130_000, 700_000];

/// Most steps of a script, so that no input takes long.
const MAX_STEPS: usize = 60;

/// Most datagrams that one input may set off: a forked call or a round of lookups, and not a storm.
const MAX_BURST: usize = 200;

const ALICE: u8 = 1;
const BOB: u8 = 2;
const PASSWORD: &str = "pear-lamp-37";

fn peer_port(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 7_080))
}

fn sip_port(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 5_060))
}

fn phone() -> SocketAddr {
    SocketAddr::from(([10, 0, 1, 1], 5_060))
}

fn stranger() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 9], 999))
}

/// Whoever has a stream to Alice's peer.
fn streamer() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 10], 7_080))
}

/// Runs a script against a whole peer.
pub fn node(script: &[u8]) {
    let mut world = World::new();
    steps(script, MAX_STEPS).for_each(|step| world.step(step));
    world.rest();
}

/// What the phone knows of its latest call: Call-ID, its own end, the other end, and the number of its
/// INVITE, which the ACK repeats.
type Talk = (String, String, String, u32);

/// Alice's peer and Bob's, and all that speak to Alice's.
pub(crate) struct World {
    pub(crate) now: Time,
    alice: Node,
    bob: Node,
    bob_keys: KeyPair,
    overlay: u32,
    to_alice: VecDeque<(Time, Vec<u8>)>,
    to_bob: VecDeque<(Time, Vec<u8>)>,
    damage: Vec<u8>,
    /// Alice's latest requests to Bob.
    asked: VecDeque<Header>,
    /// The phone's latest request from Alice's peer, and its latest answer.
    request: Option<sip::Message>,
    answer: Option<sip::Message>,
    talk: Option<Talk>,
    cseq: u32,
    next_port: u16,
    ports: Vec<u16>,
    transactions: u64,
    has_stream: bool,
    /// P2PP bytes from the stranger, and to it.
    stranger: (usize, usize),
    /// Commands under way, and the names of their answers.
    waiting: BTreeMap<OpId, &'static str>,
    /// Everything that Alice's peer received, where it was received: for recording a corpus.
    tap: Option<Vec<(Socket, Vec<u8>)>>,
}

fn new_node(n: u8, user: &str, bootstrap: Vec<SocketAddr>, now: Time) -> (Node, KeyPair) {
    let overlay = OverlayOptions { name: "test".into(), ..OverlayOptions::default() };
    let (listen, sip, profile) = (peer_port(n), sip_port(n), Profile::Open);
    let config = Config { overlay, profile, listen, sip, bootstrap, ..Config::default() };
    let keys = KeyPair::from_seed(Seed([n; 32]));
    let user = User { aor: format!("{user}@test"), keys: KeyPair::from_seed(Seed([n + 100; 32])) };
    let identity = Identity { peer: keys.clone(), users: vec![user] };
    let (seed, calendar) = (Seed::from_number(n.into()), UnixTime(1_800_000_000));
    (Node::new(config, identity, Saved::default(), seed, now, calendar), keys)
}

impl World {
    /// Two peers that know each other, and Alice's phone, registered.
    pub(crate) fn new() -> World {
        let now = Time::from_secs(1);
        let (alice, _) = new_node(ALICE, "alice", Vec::new(), now);
        let (bob, bob_keys) = new_node(BOB, "bob", vec![peer_port(ALICE)], now);
        let mut world = World {
            now,
            alice,
            bob,
            bob_keys,
            overlay: 0,
            to_alice: VecDeque::new(),
            to_bob: VecDeque::new(),
            damage: Vec::new(),
            asked: VecDeque::new(),
            request: None,
            answer: None,
            talk: None,
            cseq: 0,
            next_port: 20_000,
            ports: Vec::new(),
            transactions: 1 << 40,
            has_stream: false,
            stranger: (0, 0),
            waiting: BTreeMap::new(),
            tap: None,
        };
        world.pass(Duration::from_secs(3));
        world.alice.add_phone(world.now, "alice", PASSWORD);
        world.register();
        assert!(world.alice.is_online() && world.bob.is_online(), "the two peers never met");
        world
    }

    /// Keeps what Alice's peer receives from now on.
    pub(crate) fn start_tap(&mut self) {
        self.tap = Some(Vec::new());
    }

    /// What was kept.
    pub(crate) fn take_tap(&mut self) -> Vec<(Socket, Vec<u8>)> {
        self.tap.take().unwrap_or_default()
    }

    fn register(&mut self) {
        let register = |cseq: u32| {
            sip::Message::request(Method::Register, "sip:test")
                .with("Via", format!("SIP/2.0/UDP {};branch=z9hG4bKr{cseq};rport", phone()))
                .with("Max-Forwards", "70")
                .with("From", "<sip:alice@test>;tag=r")
                .with("To", "<sip:alice@test>")
                .with("Call-ID", "register")
                .with("CSeq", format!("{cseq} REGISTER"))
                .with("Contact", format!("<sip:alice@{}>", phone()))
                .with("Expires", "3600")
        };
        self.deliver(Socket::Sip, phone(), &register(1).to_bytes());
        let challenged = self.answer.take().expect("a challenge");
        let challenge = challenged.header("WWW-Authenticate").and_then(Challenge::parse).expect("of digest");
        let answer = challenge.answer("alice", PASSWORD, "REGISTER", "sip:test", "c0ffee");
        self.deliver(Socket::Sip, phone(), &register(2).with("Authorization", answer.to_value()).to_bytes());
        assert_eq!(self.answer.take().map(|a| a.status()), Some(200));
    }

    pub(crate) fn step(&mut self, step: Step<'_>) {
        self.pass(Duration::from_millis(WAITS[usize::from(step.wait)]));
        let bytes = step.payload;
        let (first, rest) = bytes.split_first().map_or((0, bytes), |(f, r)| (*f, r));
        match step.kind {
            0 => self.deliver(Socket::Peer, peer_port(BOB), bytes),
            1 => {
                // A STUN answer may be longer than the question; their number is bounded instead.
                let is_p2pp = bytes.first().is_some_and(|b| *b >= 0xC0);
                self.stranger.0 += if is_p2pp { bytes.len() } else { 0 };
                self.deliver(Socket::Peer, stranger(), bytes);
            }
            2 => self.deliver(Socket::Sip, phone(), bytes),
            3 => self.deliver(Socket::Sip, stranger(), bytes),
            4 => self.deliver(Socket::SipTls(ConnectionId(1)), phone(), bytes),
            5 => self.deliver(Socket::SipStream(ConnectionId(2)), stranger(), bytes),
            6 => {
                for connection in [ConnectionId(1), ConnectionId(2)] {
                    self.alice.handle_stream_closed(self.now, connection);
                    self.collect();
                }
            }
            7 => self.deliver(self.media_port(first), SocketAddr::new(phone().ip(), 4_000), rest),
            8 => self.deliver(self.media_port(first), stranger(), rest),
            9 => self.forge_request(bytes),
            10 => self.forge_answer(bytes),
            11 => self.tunnel(bytes),
            12 => self.damage = bytes.to_vec(),
            13 => self.command_line(true, bytes),
            14 => self.command_line(false, bytes),
            15 => self.phone_answers(bytes),
            16 => self.phone_asks(bytes),
            17 => {
                if !self.has_stream {
                    self.alice.handle_peer_stream_opened(self.now, streamer());
                    self.has_stream = true;
                }
                self.deliver(Socket::PeerStream, streamer(), bytes);
            }
            18 => {
                self.has_stream = false;
                self.alice.handle_peer_stream_closed(self.now, streamer());
                self.collect();
            }
            _ => {}
        }
    }

    fn media_port(&self, choice: u8) -> Socket {
        let pairs = self.ports.len().max(1);
        let even = self.ports.get(usize::from(choice >> 1) % pairs).copied().unwrap_or(20_000);
        Socket::Media(even + u16::from(choice & 1))
    }

    // ---- the world ------------------------------------------------------------------------------

    fn deliver(&mut self, socket: Socket, from: SocketAddr, bytes: &[u8]) {
        if let Some(tap) = &mut self.tap {
            tap.push((socket, bytes.to_vec()));
        }
        let mut bytes = bytes.to_vec();
        if let Some(forward) = self.alice.handle_datagram(self.now, socket, from, &mut bytes) {
            assert!(forward.len <= bytes.len());
        }
        self.collect();
    }

    /// Takes what both peers want sent and said, and judges what Alice's sends.
    fn collect(&mut self) {
        let mut burst = 0;
        while let Some(sent) = self.alice.poll_transmit() {
            burst += 1;
            match sent.socket {
                Socket::Peer => self.alice_says(sent.remote, sent.bytes),
                Socket::PeerStream => {
                    let length = usize::from(u16::from_be_bytes([sent.bytes[0], sent.bytes[1]]));
                    assert!(length + 2 == sent.bytes.len() && length <= MAX_DATAGRAM);
                    assert!(self.has_stream && sent.remote == streamer(), "no such stream");
                }
                Socket::Media(_) => assert!(wire::rtp::classify(&sent.bytes).is_some()),
                Socket::Sip | Socket::SipStream(_) | Socket::SipTls(_) => {
                    self.phone_hears(sent.remote, &sent.bytes)
                }
            }
        }
        assert!(burst <= MAX_BURST, "{burst} datagrams at once");
        while let Some(event) = self.alice.poll_event() {
            match event {
                Event::MediaPortsWanted(count) => (0..count.min(64)).for_each(|_| {
                    self.next_port += 2;
                    self.ports.push(self.next_port);
                    self.alice.offer_media_port(self.next_port);
                }),
                Event::ClosePeerStream(_) => self.has_stream = false,
                Event::MediaPortReleased(port) => self.ports.retain(|p| *p != port),
                Event::Done { op, outcome } => {
                    if let Some(thing) = self.waiting.remove(&op) {
                        let answer = Answer::Ended(Box::new(outcome));
                        speakers::is_an_answer(&control::render(thing, answer));
                    }
                }
                _ => {}
            }
        }
        while let Some(sent) = self.bob.poll_transmit() {
            if sent.socket == Socket::Peer && sent.remote == peer_port(ALICE) {
                self.bob_says(sent.bytes);
            }
        }
        while let Some(event) = self.bob.poll_event() {
            if let Event::MediaPortsWanted(count) = event {
                (0..count.min(64)).for_each(|n| self.bob.offer_media_port(30_000 + 2 * n as u16));
            }
        }
    }

    fn alice_says(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        if bytes.first().is_some_and(|b| *b >= 0xC0) {
            assert!(bytes.len() <= MAX_DATAGRAM, "a datagram of {} bytes", bytes.len());
            let message = Message::parse(&bytes).expect("what we send can be read");
            if to == peer_port(BOB) && message.header.class == Class::Request {
                self.asked.push_front(message.header);
                self.asked.truncate(16);
            }
            if to == stranger() {
                self.stranger.1 += bytes.len();
                assert!(self.stranger.1 <= self.stranger.0, "a stranger gets more than it sent");
            }
        }
        if to == peer_port(BOB) {
            self.to_bob.push_back((self.now + LATENCY, bytes));
        }
    }

    fn bob_says(&mut self, mut bytes: Vec<u8>) {
        if let Ok(message) = Message::parse(&bytes) {
            self.overlay = self.overlay.max(message.header.overlay);
        }
        for spot in std::mem::take(&mut self.damage).chunks_exact(3) {
            let at = usize::from(u16::from_be_bytes([spot[0], spot[1]])) % bytes.len().max(1);
            bytes[at] ^= spot[2];
        }
        self.to_alice.push_back((self.now + LATENCY, bytes));
    }

    /// What goes to a phone is a keep-alive or exactly one message.
    fn phone_hears(&mut self, to: SocketAddr, bytes: &[u8]) {
        let mut framer = Framer::new();
        framer.push(bytes);
        if bytes == Framer::PONG {
            return;
        }
        let frame = framer.next_frame();
        let whole = frame == Ok(Some(Frame::Message(bytes.to_vec())));
        assert!(whole && framer.pending() == 0, "not one message: {}", String::from_utf8_lossy(bytes));
        let Some(message) = sip::parse(bytes).ok().filter(|_| to == phone()) else { return };
        if !message.is_request() {
            let invite = message.cseq().filter(|c| c.method == Method::Invite && message.status() / 100 == 2);
            if let (Some(invite), Some(from), Some(to)) =
                (invite, message.header("From"), message.header("To"))
            {
                let ends = (from.to_owned(), to.to_owned());
                self.talk = Some((message.call_id().to_owned(), ends.0, ends.1, invite.number));
            }
            self.answer = Some(message);
        } else if !message.is(&Method::Ack) && !message.is(&Method::Cancel) {
            self.request = Some(message);
        }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, wait: Duration) {
        let until = self.now + wait;
        self.collect();
        loop {
            let arrivals =
                [self.to_alice.front(), self.to_bob.front()].into_iter().flatten().map(|(at, _)| *at);
            let wakes =
                [&self.alice, &self.bob].into_iter().filter_map(|n| n.poll_timeout()).map(|(at, _)| at);
            let Some(next) = arrivals.chain(wakes).min().filter(|at| *at <= until) else { break };
            self.now = next.max(self.now);
            if let Some((_, bytes)) = self.to_bob.pop_front_if(|(at, _)| *at <= self.now) {
                let mut bytes = bytes;
                self.bob.handle_datagram(self.now, Socket::Peer, peer_port(ALICE), &mut bytes);
            } else if let Some((_, bytes)) = self.to_alice.pop_front_if(|(at, _)| *at <= self.now) {
                self.deliver(Socket::Peer, peer_port(BOB), &bytes);
            } else {
                self.handle_timeouts();
            }
            self.collect();
        }
        self.now = until;
    }

    fn handle_timeouts(&mut self) {
        for node in [&mut self.alice, &mut self.bob] {
            if node.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
                node.handle_timeout(self.now);
                let next = node.poll_timeout();
                assert!(next.is_none_or(|(at, _)| at > self.now), "time stands still: {next:?}");
            }
        }
    }

    /// Ends the script: after a minute of peace, longer than any transaction lasts, the peer still
    /// answers for itself.
    pub(crate) fn rest(mut self) {
        self.pass(Duration::from_secs(60));
        let status = serde_json::to_string(&self.alice.status(self.now)).expect("a status is data");
        assert!(!status.is_empty());
        assert!(self.alice.objects(self.now).len() <= node::storage::MAX_RECORDS);
        let saved = serde_json::to_string(&self.alice.save()).expect("the state is data");
        assert_eq!(serde_json::from_str::<Saved>(&saved).ok(), Some(self.alice.save()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(name: &str) -> World {
        let all = crate::seeds::all();
        let (_, _, script) =
            all.iter().find(|(target, n, _)| *target == "node" && n == name).expect("a seed");
        let mut world = World::new();
        steps(script, MAX_STEPS).for_each(|step| world.step(step));
        world.pass(Duration::from_secs(40));
        world
    }

    #[test]
    fn the_seeds_reach_what_they_are_named_after() {
        for name in ["bob_calls", "alice_calls_echo"] {
            let world = after(name);
            let calls = world.alice.calls(world.now);
            assert!(
                calls.iter().any(|c| c.duration_ms > 0 && c.status == 200 && c.failure.is_none()),
                "{name}: {calls:?}"
            );
            assert!(calls.iter().any(|c| c.rtp.received > 0 || c.rtp.sent > 0), "{name}: {calls:?}");
        }
        let world = after("messages");
        assert!(world.bob.inbox().any(|m| m.text == "hello"), "the phone's message did not arrive");
        let dropped = world.alice.status(world.now).dropped;
        assert!(!dropped.contains_key("bad envelope"), "envelopes are sealed otherwise now: {dropped:?}");
        let world = after("requests");
        let objects = world.alice.objects(world.now);
        assert!(!objects.is_empty(), "{objects:?}");
    }
}
