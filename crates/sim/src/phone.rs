//! Scripted phones: real SIP user agents that play a tone and listen for the other's.
//!
//! A phone hangs on its own peer by a cable of half a millisecond and says nothing the peer would not
//! hear from a real phone: REGISTER with digest, INVITE with an offer, RTP every 20 ms. A call is
//! judged by what was heard.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use media::{Endpoint, EndpointConfig, Source};
use sip::Flow;
use sip::transaction::SentBy;
use sip::ua::{Handle, UaConfig, UaEvent, UserAgent, g711_sdp};
use wire::sdp::Description;
use wire::{Socket, Time};

use crate::chance::{Use, seed};
use crate::net::SIP_PORT;
use crate::queue::Happening;
use crate::report;
use crate::world::World;

const PASSWORD: &str = "secret";
/// The port at which every phone hears sound; its reports come to the next.
const SOUND_PORT: u16 = 30_000;
/// Samples per second of G.711.
const RATE: u32 = 8_000;
/// Least share of a call in which each side must have heard the other.
const HEARD: f64 = 0.5;

/// How long a datagram takes between a phone and its peer.
pub(crate) const fn lan() -> Duration {
    Duration::from_micros(500)
}

/// A phone.
pub(crate) struct Phone {
    peer: usize,
    /// When the life of its peer began that it serves.
    since: Time,
    registrar: SocketAddr,
    aor: String,
    hertz: f64,
    ua: UserAgent,
    sound: Option<Sound>,
    /// The call of the scenario that this phone began, and when.
    dialled: Option<(usize, Handle, Time)>,
    /// The message of the scenario that this phone sent, and when.
    written: Option<(usize, Handle, Time)>,
    wake: Time,
}

struct Sound {
    endpoint: Endpoint,
    to: SocketAddr,
}

impl Phone {
    fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::from(0xac10_0001u32.wrapping_add(self.peer as u32)), port))
    }

    fn talk(&mut self, now: Time, sdp: &[u8], scenario_seed: u64) {
        let to = Description::parse(sdp).ok().and_then(|d| d.destination(0));
        let config =
            EndpointConfig::new(Source::Tone(self.hertz), seed(scenario_seed, Use::Phone, now.as_micros()));
        self.sound = to.map(|to| Sound { endpoint: Endpoint::new(config, now), to });
    }

    /// How long this phone heard a tone.
    fn heard(&self, hertz: f64) -> f64 {
        self.sound.as_ref().map_or(0.0, |s| media::heard(s.endpoint.recording(), RATE, hertz).seconds)
    }

    fn next_wake(&self) -> Option<Time> {
        let sound = self.sound.as_ref().and_then(|s| s.endpoint.poll_timeout()).map(|(at, _)| at);
        self.ua.poll_timeout().map(|(at, _)| at).into_iter().chain(sound).min()
    }
}

impl World<'_> {
    /// Gives a new peer a phone if the scenario has a part for it.
    pub(crate) fn give_phone(&mut self, peer: usize) {
        if self.scenario.conversations().any(|(from, to, _)| from == peer || to == peer) {
            self.install_phone(peer);
        }
    }

    /// Gives a peer a phone, if it has none.
    pub(crate) fn install_phone(&mut self, peer: usize) {
        let installed = self.peers[peer].phone;
        if installed.is_some_and(|phone| self.phones[phone].since == self.peers[peer].started) {
            return;
        }
        let (now, started) = (self.clock(peer), self.peers[peer].started);
        let sip = SocketAddr::from((self.net.host(peer), SIP_PORT));
        let aor = self.peers[peer].users[0].aor.clone();
        let Some(node) = &mut self.peers[peer].node else { return };
        node.add_phone(now, &aor, PASSWORD);
        let (user, domain) = aor.split_once('@').unwrap_or((&aor, "sim.test"));
        let index = self.phones.len();
        let config = UaConfig {
            user: user.into(),
            domain: domain.into(),
            password: Some(PASSWORD.into()),
            flow: Flow::Udp(sip),
            sent_by: SentBy { host: String::new(), port: Some(SIP_PORT) },
            expires: 600,
        };
        let chance = seed(self.scenario.seed, Use::Phone, peer as u64);
        let mut phone = Phone {
            peer,
            since: started,
            registrar: sip,
            aor: aor.clone(),
            // Tones far enough apart to be told from each other.
            hertz: 400.0 + (index * 270 % 1_600) as f64,
            ua: UserAgent::new(config.clone(), chance),
            sound: None,
            dialled: None,
            written: None,
            wake: Time::from_micros(u64::MAX),
        };
        let host = phone.address(SIP_PORT).ip().to_string();
        phone.ua =
            UserAgent::new(UaConfig { sent_by: SentBy { host, ..config.sent_by.clone() }, ..config }, chance);
        phone.ua.register(self.now);
        self.phones.push(phone);
        self.peers[peer].phone = Some(index);
        self.touch(peer);
        self.act(index);
    }

    /// Something came from the peer.
    pub(crate) fn phone_hears(&mut self, index: usize, socket: Socket, remote: SocketAddr, bytes: &[u8]) {
        let now = self.now;
        let phone = &mut self.phones[index];
        if remote.ip() != phone.address(0).ip() {
            return;
        }
        match socket {
            Socket::Sip => {
                let flow = Flow::Udp(phone.registrar);
                phone.ua.handle_message(now, flow, bytes);
            }
            Socket::Media(_) => {
                if let Some(sound) = &mut phone.sound {
                    sound.endpoint.handle_packet(now, bytes);
                }
            }
            Socket::Peer | Socket::PeerStream | Socket::SipStream(_) | Socket::SipTls(_) => {}
        }
        self.act(index);
    }

    /// Something may be due at a phone.
    pub(crate) fn wake_phone(&mut self, index: usize) {
        let phone = &mut self.phones[index];
        let peer = &self.peers[phone.peer];
        // A phone without its peer says nothing that anybody hears.
        if phone.wake != self.now || peer.node.is_none() || peer.phone != Some(index) {
            return;
        }
        phone.wake = Time::from_micros(u64::MAX);
        if phone.ua.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
            phone.ua.handle_timeout(self.now);
        }
        if let Some(sound) = &mut phone.sound
            && sound.endpoint.poll_timeout().is_some_and(|(at, _)| at <= self.now)
        {
            sound.endpoint.handle_timeout(self.now);
        }
        self.act(index);
    }

    /// Takes what a phone says, and decides what it does next.
    fn act(&mut self, index: usize) {
        while let Some(event) = self.phones[index].ua.poll_event() {
            self.phone_told(index, event);
        }
        let now = self.now;
        let phone = &mut self.phones[index];
        let (peer, sip) = (phone.peer, phone.address(SIP_PORT));
        while let Some((_, bytes)) = phone.ua.poll_transmit() {
            let arrival = Happening::Arrival { to: peer, socket: Socket::Sip, remote: sip, bytes };
            self.queue.push(now + lan(), arrival);
        }
        let (rtp, rtcp) = (phone.address(SOUND_PORT), phone.address(SOUND_PORT + 1));
        if let Some(sound) = &mut phone.sound {
            while let Some(bytes) = sound.endpoint.poll_packet() {
                let is_report = matches!(wire::rtp::classify(&bytes), Some(wire::rtp::Kind::Rtcp));
                let remote = if is_report { rtcp } else { rtp };
                let socket = Socket::Media(sound.to.port() + u16::from(is_report));
                self.queue.push(now + lan(), Happening::Arrival { to: peer, socket, remote, bytes });
            }
        }
        let next = phone.next_wake().map(|at| at.max(now + Duration::from_micros(1)));
        if let Some(at) = next.filter(|at| *at < phone.wake) {
            phone.wake = at;
            self.queue.push(at, Happening::WakePhone(index));
        }
    }

    fn phone_told(&mut self, index: usize, event: UaEvent) {
        let (now, chance) = (self.now, self.scenario.seed);
        let phone = &mut self.phones[index];
        let media = phone.address(SOUND_PORT);
        match event {
            UaEvent::Incoming { handle, offer, .. } => {
                phone.ua.ring(now, handle);
                phone.talk(now, &offer.unwrap_or_default(), chance);
                phone.ua.answer(now, handle, g711_sdp(media));
            }
            UaEvent::Answered { sdp, .. } => {
                phone.talk(now, &sdp, chance);
                let Some((call, _, since)) = phone.dialled else { return };
                self.report.calls[call].setup_ms = Some(now.since(since).as_secs_f64() * 1e3);
                let lasts = Duration::from_secs_f64(self.scenario.calls[call].duration_s.clamp(0.0, 1e6));
                self.queue.push(now + lasts, Happening::HangUp(call));
            }
            UaEvent::Failed { status, reason, .. } => {
                if let Some((call, _, _)) = phone.dialled.take() {
                    self.report.calls[call].failure = Some(format!("{status} {reason}"));
                }
            }
            UaEvent::Ended { .. } => {
                if let Some((call, _, _)) = phone.dialled.take() {
                    self.report.calls[call].failure = Some("the other side hung up".into());
                }
                phone.sound = None;
            }
            UaEvent::MessageReceived { to, body, .. } => {
                let text = String::from_utf8_lossy(&body);
                let aor = phone.aor.clone();
                for (n, message) in self.scenario.messages.iter().enumerate() {
                    let meant = message.text == text && (to.contains(&aor) || message.to == phone.peer);
                    if let Some(shown) = self.report.messages.get_mut(n).filter(|_| meant) {
                        shown.shown = true;
                    }
                }
            }
            UaEvent::MessageResult { handle, status, .. } => {
                if let Some((message, _, since)) = phone.written.filter(|(_, h, _)| *h == handle) {
                    self.report.messages[message].status = status;
                    self.report.messages[message].time_ms = now.since(since).as_secs_f64() * 1e3;
                }
            }
            UaEvent::RegisterFailed { status } => {
                let aor = phone.aor.clone();
                self.violations.add(format!("{now:?}: the phone of {aor} was refused with {status}"));
            }
            // The scripts hold nobody, transfer nobody and press no keys.
            UaEvent::Registered
            | UaEvent::Unregistered
            | UaEvent::Ringing { .. }
            | UaEvent::LateOffer { .. }
            | UaEvent::Reoffer { .. }
            | UaEvent::Reanswered { .. }
            | UaEvent::ReofferFailed { .. }
            | UaEvent::Info { .. }
            | UaEvent::InfoResult { .. }
            | UaEvent::Referred { .. }
            | UaEvent::Transfer { .. } => {}
        }
    }

    /// The two phones of a conversation, once both exist.
    fn phones_of(&self, from: usize, to: usize) -> Option<(usize, usize)> {
        let phone = |peer: usize| self.peers.get(peer)?.phone;
        Some((phone(from)?, phone(to)?))
    }

    /// A call of the scenario begins.
    pub(crate) fn dial(&mut self, call: usize) {
        let script = self.scenario.calls[call];
        let Some((from, to)) = self.phones_of(script.from, script.to) else { return };
        let aor = self.phones[to].aor.clone();
        self.prepare_conversations();
        let phone = &mut self.phones[from];
        let offer = g711_sdp(phone.address(SOUND_PORT));
        let handle = phone.ua.invite(self.now, &aor, offer);
        phone.dialled = Some((call, handle, self.now));
        self.act(from);
    }

    /// The caller has talked long enough.
    pub(crate) fn hang_up(&mut self, call: usize) {
        let script = self.scenario.calls[call];
        let Some((from, to)) = self.phones_of(script.from, script.to) else { return };
        let Some((dialled, handle, _)) = self.phones[from].dialled else { return };
        if dialled != call {
            return;
        }
        let seen = self.peers[script.from].node.as_ref().and_then(|n| n.calls(self.clock(script.from)).pop());
        let (caller_hertz, callee_hertz) = (self.phones[from].hertz, self.phones[to].hertz);
        let report = &mut self.report.calls[call];
        report.heard_by_caller_s = self.phones[from].heard(callee_hertz);
        report.heard_by_callee_s = self.phones[to].heard(caller_hertz);
        if let Some(seen) = seen {
            report.path = seen.path;
            report.mos = seen.mos;
        }
        self.hash.number((report.heard_by_callee_s * 1e3) as u64);
        self.phones[from].dialled = None;
        self.phones[from].ua.hang_up(self.now, handle);
        self.phones[from].sound = None;
        self.act(from);
    }

    /// A message of the scenario is sent.
    pub(crate) fn write(&mut self, message: usize) {
        let script = &self.scenario.messages[message];
        let Some((from, to)) = self.phones_of(script.from, script.to) else { return };
        let aor = self.phones[to].aor.clone();
        let text = script.text.clone();
        self.prepare_conversations();
        let phone = &mut self.phones[from];
        let handle = phone.ua.message(self.now, &aor, "text/plain", text.as_bytes());
        phone.written = Some((message, handle, self.now));
        self.act(from);
    }

    /// Makes the lines of the report that conversations fill in.
    fn prepare_conversations(&mut self) {
        let aor = |peer: usize| format!("user{peer}@sim.test");
        if self.report.calls.len() < self.scenario.calls.len() {
            let line = |c: &crate::scenario::Call| report::Call {
                from: aor(c.from),
                to: aor(c.to),
                ..report::Call::default()
            };
            self.report.calls = self.scenario.calls.iter().map(line).collect();
        }
        if self.report.messages.len() < self.scenario.messages.len() {
            let line = |m: &crate::scenario::Message| report::Message {
                from: aor(m.from),
                to: aor(m.to),
                ..report::Message::default()
            };
            self.report.messages = self.scenario.messages.iter().map(line).collect();
        }
    }

    /// Judges calls and messages whose time has come and gone.
    pub(crate) fn sum_up_conversations(&mut self) {
        self.prepare_conversations();
        for (script, call) in self.scenario.calls.iter().zip(&self.report.calls) {
            let heard = call.heard_by_caller_s.min(call.heard_by_callee_s);
            let (from, to) = (&call.from, &call.to);
            if let Some(why) = &call.failure {
                self.violations.add(format!("the call of {from} to {to} failed: {why}"));
            } else if call.setup_ms.is_none() {
                self.violations.add(format!("the call of {from} to {to} was never answered"));
            } else if heard < HEARD * script.duration_s {
                self.violations.add(format!(
                    "of {} s of a call, {from} heard {:.1} s and {to} {:.1} s",
                    script.duration_s, call.heard_by_caller_s, call.heard_by_callee_s
                ));
            }
        }
        for message in &self.report.messages {
            if !message.shown || !(200..300).contains(&message.status) {
                let what =
                    format!("a message of {} to {} ended with {}", message.from, message.to, message.status);
                self.violations.add(what);
            }
        }
    }
}
