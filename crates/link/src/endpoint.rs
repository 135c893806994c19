//! The one port of a peer.
//!
//! Everything between peers goes through here: what arrives is sorted by its first byte, STUN is
//! answered on the spot, and what leaves is counted and queued. Later the secure links of the other
//! profiles and the paths that ICE finds live here too; callers keep saying "send this to that
//! contact".

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use wire::{Contact, Seed, Socket, Time, Transmit, stun};

use crate::demux::Protocol;
use crate::mapped::MappedAddress;
use crate::proof::Proofs;
use crate::rtt::RoundTrips;

/// Datagrams waiting to be sent; a world drains the queue after every input, so this is never
/// reached unless it does not.
const MAX_QUEUE: usize = 4_096;

/// STUN answers per second to strangers: a binding answer is longer than a bare request, so their
/// number is bounded (RFC 8489 section 6.3 leaves this to the server).
const STUN_ANSWERS_PER_S: u32 = 50;

/// What arrived on the port, if it is the caller's business.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A P2PP message.
    P2pp,
    /// RTP or RTCP from another peer.
    Media,
    /// Dealt with here: STUN.
    Handled,
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
    queue: VecDeque<Transmit>,
    stun_window: (Time, u32),
    /// One for each reason met, which are few.
    dropped: Vec<(&'static str, u64)>,
}

impl Endpoint {
    /// A port that has not sent or received anything yet.
    pub fn new(seed: Seed) -> Self {
        Endpoint {
            proofs: Proofs::new(seed),
            round_trips: RoundTrips::default(),
            mapped: MappedAddress::default(),
            queue: VecDeque::new(),
            stun_window: (Time::ZERO, 0),
            dropped: Vec::new(),
        }
    }

    /// Sorts a datagram that arrived on the peer port.
    pub fn handle_datagram(&mut self, now: Time, remote: SocketAddr, bytes: &[u8]) -> Received {
        match Protocol::of(bytes) {
            Protocol::P2pp => Received::P2pp,
            Protocol::Media => Received::Media,
            Protocol::Stun => self.handle_stun(now, remote, bytes),
            Protocol::Dtls => self.dropped("dtls"),
            Protocol::TurnChannel => self.dropped("turn"),
            Protocol::Secure => self.dropped("secure"),
            Protocol::Unknown => self.dropped("unknown"),
        }
    }

    /// Sends a message to a peer by its best path: for now the address it was announced at.
    pub fn send(&mut self, contact: &Contact, bytes: Vec<u8>) {
        self.send_to(contact.address, bytes);
    }

    /// Sends to an address whose owner's identity is not known yet.
    pub fn send_to(&mut self, remote: SocketAddr, bytes: Vec<u8>) {
        if self.queue.len() >= MAX_QUEUE {
            self.count_drop("queue full");
            return;
        }
        self.queue.push_back(Transmit { socket: Socket::Peer, remote, bytes });
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        wire::queue::pop_front(&mut self.queue)
    }

    /// Counts a datagram that was dropped.
    pub fn count_drop(&mut self, why: &'static str) {
        match self.dropped.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, count)) => *count += 1,
            None => {
                self.dropped.reserve_exact(1);
                self.dropped.push((why, 1));
            }
        }
    }

    /// How many datagrams were dropped, by reason.
    pub fn drops(&self) -> BTreeMap<&'static str, u64> {
        self.dropped.iter().copied().collect()
    }

    fn dropped(&mut self, why: &'static str) -> Received {
        self.count_drop(why);
        Received::Dropped(why)
    }

    fn handle_stun(&mut self, now: Time, remote: SocketAddr, bytes: &[u8]) -> Received {
        let Some(answer) = stun::answer(bytes, remote) else { return self.dropped("stun") };
        if answer.len() > bytes.len() && !self.proofs.is_proven(now, remote) && !self.may_answer(now) {
            return self.dropped("stun rate");
        }
        self.send_to(remote, answer);
        Received::Handled
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
        Endpoint::new(Seed::from_number(1))
    }

    fn stranger() -> SocketAddr {
        ([203, 0, 113, 7], 40_000).into()
    }

    #[test]
    fn a_stun_binding_request_is_answered_with_the_senders_address() {
        let mut endpoint = endpoint();
        assert_eq!(endpoint.handle_datagram(Time::ZERO, stranger(), &BINDING), Received::Handled);
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
