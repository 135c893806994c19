//! The one port of a peer.
//!
//! Everything between peers goes through here: what arrives is sorted by its first byte, STUN is
//! answered on the spot, frames of links are opened, and what leaves is sealed where the profile says so,
//! counted and queued. Later the paths that ICE finds live here too; callers keep saying "send this to that
//! address".

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use wire::{
    HashAlgorithm, KeyPair, LinkFamily, NodeId, Profile, PublicKey, Seed, Socket, Time, Transmit, stun,
};

use crate::demux::Protocol;
use crate::links::{self, Links, Opened};
use crate::mapped::MappedAddress;
use crate::outbox::{Cargo, Outbox, Sent};
use crate::proof::Proofs;
use crate::provider::{Provider, Role};
use crate::rtt::RoundTrips;
use crate::sealed_streams::SealedStreams;
use crate::sessions::{self, Sessions};
use crate::streams::{self, HANDSHAKE, SURPLUS, Streams, Way, Wish};
use crate::waiting::Message;

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

/// What protects the messages of a peer.
#[derive(Debug)]
enum Protection {
    /// Nothing: they stand in the clear.
    None,
    /// Links of our own, over whatever carries their frames.
    Own(Box<Links>),
    /// Links that a provider makes.
    Provided(Box<Provided>),
}

/// What is made by a provider of sessions.
#[derive(Debug)]
struct Provided {
    /// DTLS over UDP.
    sessions: Sessions,
    /// TLS over streams.
    streams: SealedStreams,
}

impl Protection {
    fn provided(&mut self) -> Option<&mut Provided> {
        match self {
            Protection::Provided(provided) => Some(provided),
            _ => None,
        }
    }

    fn streams(&mut self) -> Option<&mut SealedStreams> {
        self.provided().map(|provided| &mut provided.streams)
    }
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
    protection: Protection,
    /// Nothing where all goes over UDP.
    streams: Option<Box<Streams>>,
    out: Outbox,
    /// The time of the latest input.
    now: Time,
    stun_window: (Time, u32),
}

impl Endpoint {
    /// A port that has not sent or received anything yet, of a peer with these keys and links of our own.
    pub fn new(profile: Profile, keys: &KeyPair, seed: Seed) -> Self {
        Endpoint::with_links((profile, LinkFamily::Noise), None, keys, seed)
    }

    /// The same, with links of this family. Those of DTLS and TLS are made by the provider in the name of these keys;
    /// without one nothing is sent, and nothing heard.
    pub fn with_links(
        (profile, family): (Profile, LinkFamily),
        provider: Option<Arc<dyn Provider>>,
        keys: &KeyPair,
        seed: Seed,
    ) -> Self {
        let mut rng = seed.rng();
        // The first child is the secret of cookies, in every profile.
        let proofs = Proofs::new(seed);
        let seed = Seed::child_of(&mut rng);
        let protection = match family {
            LinkFamily::Tls => {
                let (sessions, streams) = (Sessions::new(provider.clone()), SealedStreams::new(provider));
                Protection::Provided(Box::new(Provided { sessions, streams }))
            }
            LinkFamily::Noise => match Links::new(profile, keys, seed) {
                Some(links) => Protection::Own(Box::new(links)),
                None => Protection::None,
            },
        };
        Endpoint {
            proofs,
            round_trips: RoundTrips::default(),
            mapped: MappedAddress::default(),
            protection,
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

    /// The next datagram of what came out of a stream, sorted, or what made a link of it; what it takes of the piece is
    /// gone from there.
    pub fn handle_piece(
        &mut self,
        now: Time,
        remote: SocketAddr,
        piece: &mut &[u8],
    ) -> Option<(Received, Vec<u8>)> {
        if let Some(handshake) = self.open_piece(now, remote, piece) {
            return Some((Received::Link, handshake));
        }
        let datagram = match self.next_of_stream(now, remote, piece) {
            Ok(next) => next?,
            Err(why) => {
                self.forget_stream(&remote);
                self.count_drop(why);
                return None;
            }
        };
        let is_new = !self.proofs.is_proven(now, remote);
        if is_new {
            // Who opened a stream receives what is sent there.
            self.proofs.prove(now, remote);
        }
        let peer = self.protection.streams().and_then(|streams| streams.peer(&remote));
        let received = match (Protocol::of(&datagram), peer) {
            (Protocol::P2pp, Some(peer)) => Received::Sealed(peer, datagram.clone()),
            _ => self.sort(now, remote, &datagram),
        };
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

    /// Has TLS, where that is spoken, open a piece of a stream; what of it was spent on making a link.
    fn open_piece(&mut self, now: Time, remote: SocketAddr, piece: &mut &[u8]) -> Option<Vec<u8>> {
        let (Some(streams), Protection::Provided(provided)) = (&mut self.streams, &mut self.protection)
        else {
            return None;
        };
        if piece.is_empty() {
            return None;
        }
        let piece = std::mem::take(piece);
        let is_handshake = provided.streams.peer(&remote).is_none();
        let led = provided.streams.handle(now, &remote, piece);
        led.bytes.into_iter().for_each(|bytes| self.out.push_stream(remote, bytes, Cargo::Answering));
        if led.has_stood_up {
            streams.confirm(remote);
            self.proofs.prove(now, remote);
            let (peer, waiting) = (provided.streams.peer(&remote), provided.sessions.give_up(remote));
            for message in waiting {
                send_over_stream(&mut provided.streams, &mut self.out, now, (remote, peer), message);
            }
        }
        let opened = provided.streams.opened(&remote)?.len();
        is_handshake.then(|| piece[..piece.len().saturating_sub(opened)].to_vec())
    }

    /// The next datagram in a stream, of what TLS has opened where that is spoken.
    fn next_of_stream(
        &mut self,
        now: Time,
        remote: SocketAddr,
        piece: &mut &[u8],
    ) -> Result<Option<Vec<u8>>, &'static str> {
        let Some(streams) = &mut self.streams else { return Ok(None) };
        let Protection::Provided(provided) = &mut self.protection else {
            return streams.handle_piece(now, remote, piece);
        };
        let Some(opened) = provided.streams.opened(&remote) else { return Ok(None) };
        let mut rest = &opened[..];
        let next = streams.handle_piece(now, remote, &mut rest);
        let taken = opened.len() - rest.len();
        opened.drain(..taken);
        if next == Ok(None) && provided.streams.is_over(&remote) {
            // The last words of a peer were heard; whoever never was one has none.
            if provided.streams.peer(&remote).is_none() {
                return Err(streams.hang_up(remote));
            }
            provided.streams.close(&remote);
            streams.end(now, remote);
        }
        next
    }

    fn forget_stream(&mut self, remote: &SocketAddr) {
        self.protection.streams().into_iter().for_each(|streams| streams.close(remote));
    }

    fn sort(&mut self, now: Time, remote: SocketAddr, bytes: &[u8]) -> Received {
        self.now = now;
        match Protocol::of(bytes) {
            Protocol::P2pp if self.has_links() => self.dropped("p2pp in the clear"),
            Protocol::P2pp => Received::P2pp,
            Protocol::Media => Received::Media,
            Protocol::Stun => self.handle_stun(now, remote, bytes),
            Protocol::Dtls | Protocol::Secure => self.handle_frame(now, remote, bytes),
            Protocol::TurnChannel => self.dropped("turn"),
            Protocol::Unknown => self.dropped("unknown"),
        }
    }

    /// The next message that arrived beside another, or was set free by time, and whence it came.
    pub fn poll_received(&mut self) -> Option<(SocketAddr, Received)> {
        let provided = self.protection.provided()?;
        provided
            .sessions
            .poll_heard()
            .map(|(remote, peer, message)| (remote, Received::Sealed(peer, message)))
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
        self.now = now;
        let message = Message { bytes, label, meant };
        match &mut self.protection {
            Protection::None => self.out.push(remote, message.bytes),
            Protection::Own(links) => links.send(now, remote, message, &mut self.out),
            Protection::Provided(provided) => match provided.streams.peer(&remote) {
                None => provided.sessions.send(now, remote, message, &mut self.out),
                peer => send_over_stream(&mut provided.streams, &mut self.out, now, (remote, peer), message),
            },
        }
    }

    /// The next stream to open or to close.
    pub fn poll_stream(&mut self) -> Option<Wish> {
        let wish = self.streams.as_mut()?.poll_wish()?;
        if let Wish::Close(remote) = wish {
            self.forget_stream(&remote);
        }
        Some(wish)
    }

    /// A stream stands, whoever opened it.
    pub fn handle_stream_opened(&mut self, now: Time, remote: SocketAddr) {
        let Some(streams) = &mut self.streams else { return };
        self.now = now;
        let waited = streams.handle_opened(now, remote);
        let role = if waited.is_some() { Role::Asks } else { Role::Asked };
        match self.protection.provided() {
            Some(Provided { sessions, streams: sealed }) => {
                if role == Role::Asked && !sessions.may_answer_stream(now, remote.ip()) {
                    streams.hang_up(remote);
                    return self.count_drop("link flood");
                }
                // What waited were records of DTLS; their messages wait for TLS now.
                let hello = sealed.open(now, remote, role);
                hello.into_iter().for_each(|bytes| self.out.push_stream(remote, bytes, Cargo::Asking));
            }
            None => waited.into_iter().flatten().for_each(|waited| self.out.push(remote, waited)),
        }
    }

    /// A stream is gone, or could not be opened.
    pub fn handle_stream_closed(&mut self, now: Time, remote: SocketAddr) {
        self.forget_stream(&remote);
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
            if transmit.socket == Socket::PeerStream {
                streams.note_use(self.now, &transmit.remote);
                return Some(transmit);
            }
            if let Some(sealed) = self.protection.streams()
                && streams.is_open(&transmit.remote)
            {
                // What is said beside DTLS goes over TLS; DTLS itself has no place there.
                let is_beside = Protocol::of(&transmit.bytes) == Protocol::Stun;
                let framed = is_beside.then(|| streams::frame(&transmit.bytes));
                match framed.and_then(|framed| sealed.seal(self.now, &transmit.remote, &framed)) {
                    Some(bytes) => return Some(Transmit { socket: Socket::PeerStream, bytes, ..transmit }),
                    None => continue,
                }
            }
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
        let links = match &self.protection {
            Protection::None => None,
            Protection::Own(links) => links.poll_timeout(),
            Protection::Provided(provided) => provided.sessions.poll_timeout(),
        };
        let streams = self.streams.as_ref().and_then(|streams| streams.poll_timeout());
        links.into_iter().chain(streams).min()
    }

    /// Does what links and streams have to do by now.
    pub fn handle_timeout(&mut self, now: Time) {
        match &mut self.protection {
            Protection::None => {}
            Protection::Own(links) => links.handle_timeout(now, &mut self.out),
            Protection::Provided(provided) => {
                provided.sessions.handle_timeout(now, &mut self.proofs, &mut self.out)
            }
        }
        if let Some(streams) = &mut self.streams {
            streams.handle_timeout(now);
        }
        self.now = now;
    }

    /// How many bytes longer a message is on the wire, once there is a link.
    pub fn overhead(&self) -> usize {
        match self.protection {
            Protection::None => 0,
            Protection::Own(_) => links::OVERHEAD,
            Protection::Provided(_) => sessions::OVERHEAD,
        }
    }

    /// Whether messages go over links.
    pub fn has_links(&self) -> bool {
        !matches!(self.protection, Protection::None)
    }

    /// How many links stand.
    pub fn count_links(&self) -> usize {
        match &self.protection {
            Protection::None => 0,
            Protection::Own(links) => links.len(),
            Protection::Provided(provided) => provided.sessions.len() + provided.streams.len(),
        }
    }

    /// Nobody listens at `remote`, says the network, and quotes the beginning of a datagram of ours: the beginnings
    /// of the messages that did not arrive there.
    pub fn handle_unreachable(&mut self, remote: SocketAddr, quoted: &[u8]) -> Vec<Vec<u8>> {
        if self.streams.as_mut().is_some_and(|streams| streams.handle_unreachable(remote)) {
            return Vec::new();
        }
        let refused = match &mut self.protection {
            Protection::None => return vec![quoted.to_vec()],
            Protection::Own(links) => links.refused(remote, quoted),
            Protection::Provided(provided) => provided.sessions.refused(remote, quoted),
        };
        refused.iter().map(|beginning| beginning.to_vec()).collect()
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
        let (proofs, out) = (&mut self.proofs, &mut self.out);
        let opened = match &mut self.protection {
            Protection::None => return self.dropped("secure"),
            Protection::Own(links) => links.handle(now, remote, bytes, proofs, out),
            Protection::Provided(provided) => provided.sessions.handle(now, remote, bytes, proofs, out),
        };
        match opened {
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

/// Sends a message over TLS, if it is for whom that leads to.
fn send_over_stream(
    sealed: &mut SealedStreams,
    out: &mut Outbox,
    now: Time,
    (remote, peer): (SocketAddr, Option<PublicKey>),
    message: Message,
) {
    if !peer.is_some_and(|peer| message.is_for(&peer)) {
        return out.count_drop("link of another");
    }
    let framed = (message.bytes.len() <= streams::MAX_FRAME).then(|| streams::frame(&message.bytes));
    match framed.and_then(|framed| sealed.seal(now, &remote, &framed)) {
        Some(bytes) => out.push_stream(remote, bytes, Cargo::Message(message.label)),
        None => out.count_drop("no way"),
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
