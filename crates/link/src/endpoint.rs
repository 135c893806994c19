//! The one port of a peer.
//!
//! Everything between peers goes through here: what arrives is sorted by its first byte, STUN is
//! answered on the spot, frames of links are opened, and what leaves is sealed where the profile says so,
//! counted and queued. Later the paths that ICE finds live here too; callers keep saying "send this to that
//! address".

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use wire::{HashAlgorithm, KeyPair, NodeId, Profile, PublicKey, Seed, Time, Transmit, stun};

use crate::demux::Protocol;
use crate::links::{self, Links, Message, Opened};
use crate::mapped::MappedAddress;
use crate::outbox::{Cargo, Outbox, Sent};
use crate::proof::Proofs;
use crate::rtt::RoundTrips;
use crate::streams::{HANDSHAKE, SURPLUS, Streams, Way, Wish};

/// STUN answers per second to strangers: a binding answer is longer than a bare request, so their
/// number is bounded (RFC 8489 section 6.3 leaves this to the server).
const STUN_ANSWERS_PER_S: u32 = 50;

/// What arrived on the port, if it is the caller's business.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A P2PP message in the clear.
    P2pp,
    /// What a link brought, and whose it is.
    Sealed(PublicKey, Vec<u8>),
    /// RTP or RTCP from another peer.
    Media,
    /// Dealt with here: STUN.
    Stun,
    /// Dealt with here: a link is made.
    Link,
    /// Nothing this peer understands; counted under the returned name.
    Dropped(&'static str),
}

/// The one port of a peer.
#[derive(Debug)]
pub struct Endpoint {
    /// Which addresses are proven.
    pub proofs: Proofs,
    /// Round trips per address.
    pub round_trips: RoundTrips,
    /// Our address as others see it.
    pub mapped: MappedAddress,
    /// Nothing where messages stand in the clear.
    links: Option<Box<Links>>,
    /// Nothing where all goes over UDP.
    streams: Option<Box<Streams>>,
    out: Outbox,
    /// The time of the latest input.
    now: Time,
    stun_window: (Time, u32),
}

impl Endpoint {
    /// A port that has not sent or received anything yet, of a peer with these keys.
    pub fn new(profile: Profile, keys: &KeyPair, seed: Seed) -> Self {
        let mut rng = seed.rng();
        // The first child is the secret of cookies, in every profile.
        let proofs = Proofs::new(seed);
        Endpoint {
            proofs,
            round_trips: RoundTrips::default(),
            mapped: MappedAddress::default(),
            links: Links::new(profile, keys, Seed::child_of(&mut rng)).map(Box::new),
            streams: None,
            out: Outbox::default(),
            now: Time::ZERO,
            stun_window: (Time::ZERO, 0),
        }
    }

    /// Streams are used from now on, beside UDP or in its place.
    pub fn use_streams(&mut self, udp: bool) {
        self.streams = Some(Box::new(Streams::new(udp)));
    }

    /// Sorts a datagram that arrived on the peer port.
    pub fn handle_datagram(&mut self, now: Time, remote: SocketAddr, bytes: &[u8]) -> Received {
        let received = self.sort(now, remote, bytes);
        // What anybody could have sent in that address's name says nothing of the way, where that can be told.
        let is_its_own = matches!(received, Received::Sealed(..) | Received::P2pp);
        if let (Some(streams), true) = (&mut self.streams, is_its_own) {
            streams.heard(now, remote);
        }
        received
    }

    /// The next datagram of what came out of a stream, sorted; what it takes of the piece is gone from there.
    pub fn handle_piece(
        &mut self,
        now: Time,
        remote: SocketAddr,
        piece: &mut &[u8],
    ) -> Option<(Received, Vec<u8>)> {
        let streams = self.streams.as_mut()?;
        let datagram = match streams.handle_piece(now, remote, piece) {
            Ok(next) => next?,
            Err(why) => {
                self.count_drop(why);
                return None;
            }
        };
        let is_new = !self.proofs.is_proven(now, remote);
        if is_new {
            // Who opened a stream receives what is sent there.
            self.proofs.prove(now, remote);
        }
        let received = self.sort(now, remote, &datagram);
        let is_of_use = !matches!(received, Received::Dropped(_) | Received::Media);
        if is_new && !is_of_use {
            // What is no peer is not reached over UDP either.
            self.proofs.withdraw(&remote);
        }
        if let (Some(streams), true) = (&mut self.streams, is_of_use) {
            streams.confirm(remote);
        }
        Some((received, datagram))
    }

    fn sort(&mut self, now: Time, remote: SocketAddr, bytes: &[u8]) -> Received {
        self.now = now;
        match Protocol::of(bytes) {
            Protocol::P2pp if self.links.is_some() => self.dropped("p2pp in the clear"),
            Protocol::P2pp => Received::P2pp,
            Protocol::Media => Received::Media,
            Protocol::Stun => self.handle_stun(now, remote, bytes),
            Protocol::Dtls => self.dropped("dtls"),
            Protocol::TurnChannel => self.dropped("turn"),
            Protocol::Secure => self.handle_frame(now, remote, bytes),
            Protocol::Unknown => self.dropped("unknown"),
        }
    }

    /// Sends a message to an address, as the profile asks; over a link only to whom it is meant for, where that is
    /// said, by the hash that makes Node-IDs of keys. There it may leave later, or never: when it leaves,
    /// [`take_sent`](Self::take_sent) says so under the label.
    pub fn send_to(
        &mut self,
        now: Time,
        (remote, meant): (SocketAddr, Option<(NodeId, HashAlgorithm)>),
        bytes: Vec<u8>,
        label: u8,
    ) {
        match &mut self.links {
            Some(links) => links.send(now, remote, Message { bytes, label, meant }, &mut self.out),
            None => self.out.push(remote, bytes),
        }
        self.now = now;
    }

    /// The next stream to open or to close.
    pub fn poll_stream(&mut self) -> Option<Wish> {
        self.streams.as_mut()?.poll_wish()
    }

    /// A stream stands, whoever opened it.
    pub fn handle_stream_opened(&mut self, now: Time, remote: SocketAddr) {
        let Some(streams) = &mut self.streams else { return };
        self.now = now;
        streams.handle_opened(now, remote).into_iter().for_each(|waited| self.out.push(remote, waited));
    }

    /// A stream is gone, or could not be opened.
    pub fn handle_stream_closed(&mut self, now: Time, remote: SocketAddr) {
        if let Some(streams) = &mut self.streams {
            streams.handle_closed(now, remote);
        }
    }

    /// How many streams are open.
    pub fn count_streams(&self) -> usize {
        self.streams.as_ref().map_or(0, |streams| streams.count())
    }

    /// How many bytes a datagram to this address is longer than over UDP.
    pub fn surplus(&self, remote: &SocketAddr) -> usize {
        let is_open = self.streams.as_ref().is_some_and(|streams| streams.is_open(remote));
        if is_open { SURPLUS } else { 0 }
    }

    /// The next datagram, or piece of a stream, to send. What it asks for is told by
    /// [`poll_stream`](Self::poll_stream) afterwards.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        loop {
            let transmit = self.out.pop()?;
            let Some(streams) = &mut self.streams else { return Some(transmit) };
            let is_proven = self.proofs.is_proven(self.now, transmit.remote);
            match streams.send(self.now, transmit, is_proven) {
                Way::Found(transmit) => return Some(transmit),
                Way::Later => {}
                Way::None => self.out.count_drop("no way"),
            }
        }
    }

    /// What went over links, or was spent on streams, since this was last asked.
    pub fn take_sent(&mut self) -> Vec<Sent> {
        let asked = self.streams.as_mut().map(|streams| streams.take_asked()).unwrap_or_default();
        let spent = asked.into_iter().map(|remote| Sent { remote, len: HANDSHAKE, cargo: Cargo::Asking });
        let mut sent = self.out.take_sent();
        sent.extend(spent);
        sent
    }

    /// When links and streams want to be woken.
    pub fn poll_timeout(&self) -> Option<Time> {
        let links = self.links.as_ref().and_then(|links| links.poll_timeout());
        let streams = self.streams.as_ref().and_then(|streams| streams.poll_timeout());
        links.into_iter().chain(streams).min()
    }

    /// Does what links and streams have to do by now.
    pub fn handle_timeout(&mut self, now: Time) {
        if let Some(links) = &mut self.links {
            links.handle_timeout(now, &mut self.out);
        }
        if let Some(streams) = &mut self.streams {
            streams.handle_timeout(now);
        }
        self.now = now;
    }

    /// How many bytes longer a message is on the wire, once there is a link.
    pub fn overhead(&self) -> usize {
        if self.links.is_some() { links::OVERHEAD } else { 0 }
    }

    /// Whether messages go over links.
    pub fn has_links(&self) -> bool {
        self.links.is_some()
    }

    /// How many links stand.
    pub fn count_links(&self) -> usize {
        self.links.as_ref().map_or(0, |links| links.len())
    }

    /// Nobody listens at `remote`, says the network, and quotes the beginning of a datagram of ours: the beginnings
    /// of the messages that did not arrive there.
    pub fn handle_unreachable(&mut self, remote: SocketAddr, quoted: &[u8]) -> Vec<Vec<u8>> {
        if self.streams.as_mut().is_some_and(|streams| streams.handle_unreachable(remote)) {
            return Vec::new();
        }
        match &mut self.links {
            Some(links) => links.refused(remote, quoted).iter().map(|b| b.to_vec()).collect(),
            None => vec![quoted.to_vec()],
        }
    }

    /// Counts a datagram that was dropped.
    pub fn count_drop(&mut self, why: &'static str) {
        self.out.count_drop(why);
    }

    /// How many datagrams were dropped, by reason.
    pub fn drops(&self) -> BTreeMap<&'static str, u64> {
        self.out.drops()
    }

    fn dropped(&mut self, why: &'static str) -> Received {
        self.count_drop(why);
        Received::Dropped(why)
    }

    fn handle_frame(&mut self, now: Time, remote: SocketAddr, bytes: &[u8]) -> Received {
        let Some(links) = &mut self.links else { return self.dropped("secure") };
        match links.handle(now, remote, bytes, &mut self.proofs, &mut self.out) {
            Opened::Message(peer, message) => Received::Sealed(peer, message),
            Opened::Handled => Received::Link,
            Opened::Dropped(why) => self.dropped(why),
        }
    }

    fn handle_stun(&mut self, now: Time, remote: SocketAddr, bytes: &[u8]) -> Received {
        let Some(answer) = stun::answer(bytes, remote) else { return self.dropped("stun") };
        if answer.len() > bytes.len() && !self.proofs.is_proven(now, remote) && !self.may_answer(now) {
            return self.dropped("stun rate");
        }
        self.out.push(remote, answer);
        Received::Stun
    }

    fn may_answer(&mut self, now: Time) -> bool {
        let (start, count) = &mut self.stun_window;
        if now.since(*start) >= Duration::from_secs(1) {
            (*start, *count) = (now, 0);
        }
        *count += 1;
        *count <= STUN_ANSWERS_PER_S
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    fn endpoint() -> Endpoint {
        Endpoint::new(Profile::Open, &KeyPair::from_seed(Seed::from_number(2)), Seed::from_number(1))
    }

    fn stranger() -> SocketAddr {
        ([203, 0, 113, 7], 40_000).into()
    }

    #[test]
    fn a_stream_that_brings_nothing_of_use_proves_no_address() {
        let mut endpoint = endpoint();
        endpoint.use_streams(true);
        let (now, remote) = (Time::from_secs(100), SocketAddr::from(([192, 0, 2, 1], 7080)));
        for (datagram, proves) in [(&[80, 1, 2][..], false), (&BINDING, true)] {
            endpoint.handle_stream_opened(now, remote);
            let framed = crate::streams::frame(datagram);
            let mut piece = &framed[..];
            endpoint.handle_piece(now, remote, &mut piece);
            assert_eq!(endpoint.proofs.is_proven(now, remote), proves, "{datagram:?}");
        }
    }

    #[test]
    fn a_stun_binding_request_is_answered_with_the_senders_address() {
        let mut endpoint = endpoint();
        assert_eq!(endpoint.handle_datagram(Time::ZERO, stranger(), &BINDING), Received::Stun);
        let answer = endpoint.poll_transmit().expect("an answer");
        assert_eq!(answer.remote, stranger());
        assert_eq!(stun::mapped_address(&answer.bytes, &BINDING[8..20]), Some(stranger()));
    }

    #[test]
    fn strangers_get_a_bounded_number_of_stun_answers() {
        let mut endpoint = endpoint();
        for _ in 0..1_000 {
            endpoint.handle_datagram(Time::ZERO, stranger(), &BINDING);
        }
        let answers = std::iter::from_fn(|| endpoint.poll_transmit()).count();
        assert_eq!(answers, STUN_ANSWERS_PER_S as usize);
        assert_eq!(endpoint.drops()["stun rate"], 1_000 - u64::from(STUN_ANSWERS_PER_S));
    }

    #[test]
    fn what_is_not_understood_is_counted_and_dropped() {
        let mut endpoint = endpoint();
        for first in [7u8, 22, 70, 100] {
            let got = endpoint.handle_datagram(Time::ZERO, stranger(), &[first, 1, 2]);
            assert!(matches!(got, Received::Dropped(_)), "{first}");
        }
        assert_eq!(endpoint.drops().values().sum::<u64>(), 4);
        assert_eq!(endpoint.poll_transmit(), None);
    }
}
