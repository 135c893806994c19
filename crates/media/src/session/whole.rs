//! Datagrams of phones carried as they are, since the phones have keys of their own (ZRTP, or DTLS-SRTP from phone to phone).
//!
//! Nothing in them is read but the header of RTP, which SRTP leaves in the clear, and nothing is changed. Between two
//! peers each is the payload of an RTP packet of theirs, which is protected as any: so the other peer knows that it is
//! genuine, and nobody in between learns more than that something passes.

use std::net::SocketAddr;

use wire::Time;
use wire::rtp::{self, Kind, Packet};

use super::{Event, Leg, Session};

/// The payload types of what came for a phone's port of RTP, and for that of RTCP: nobody has given these numbers a
/// meaning (RFC 3551, section 6), so that a peer that expects sound plays neither.
const PAYLOAD_TYPES: [u8; 2] = [20, 21];

/// The longest datagram that is carried: with the header and the tag around it, it still goes in one piece over a path
/// that carries 1,500 bytes of IPv6.
pub const MAX_WHOLE: usize = 1_430;

pub(super) fn payload_type(kind: Kind) -> u8 {
    PAYLOAD_TYPES[usize::from(kind == Kind::Rtcp)]
}

fn kind_of(payload_type: u8) -> Option<Kind> {
    [Kind::Rtp, Kind::Rtcp].into_iter().find(|kind| self::payload_type(*kind) == payload_type)
}

impl Session {
    /// Whether what phones send is carried whole from now on, because they agreed on keys with each other. Between a
    /// phone and a talker of our own it never is.
    pub fn set_whole(&mut self, whole: bool) {
        self.whole = whole;
    }

    /// Whether what phones send is carried whole.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Takes a datagram of the phone at a leg, whatever it is, that came to our port of a kind. What leaves is among
    /// [`Session::poll_transmit`].
    pub fn carry(&mut self, now: Time, leg: Leg, kind: Kind, from: SocketAddr, datagram: &[u8]) {
        let inward = self.leg_mut(leg);
        if datagram.is_empty() || datagram.len() > MAX_WHOLE {
            inward.counts.malformed += 1;
            return;
        }
        // Where keys are awaited something else was found to be wrong with the phone.
        let latched = match (kind, inward.awaits_keys()) {
            (Kind::Rtp, false) => inward.admit_rtp(now, from, 0),
            (Kind::Rtcp, false) if inward.admit_rtcp(now, from, 0) => Some(false),
            _ => {
                inward.counts.refused += 1;
                None
            }
        };
        let Some(latched) = latched else { return };
        self.pass_on(now, leg, kind, datagram);
        if latched {
            self.tell(Event::Latched { leg, remote: from });
        }
    }

    /// Takes an RTP packet of another peer, in which there is a datagram of its phone.
    pub(super) fn unpack(&mut self, now: Time, leg: Leg, from: SocketAddr, packet: &mut [u8]) {
        let inward = self.leg_mut(leg);
        let Some(packet) = inward.open(Kind::Rtp, packet) else { return };
        let parsed = Packet::parse(packet).ok();
        let carried = parsed.and_then(|p| Some((kind_of(p.header.payload_type)?, p.header.ssrc, p.payload)));
        let Some((kind, ssrc, datagram)) = carried.filter(|(.., datagram)| !datagram.is_empty()) else {
            inward.counts.malformed += 1;
            return;
        };
        if inward.admit_rtp(now, from, ssrc).is_some() {
            self.pass_on(now, leg, kind, datagram);
        }
    }

    fn pass_on(&mut self, now: Time, leg: Leg, kind: Kind, datagram: &[u8]) {
        let is_rtp = rtp::classify(datagram) == Some(Kind::Rtp);
        let header = Packet::parse(datagram).ok().filter(|_| is_rtp).map(|p| p.header);
        let sound = header.map(|header| (header, self.types.get(header.payload_type)));
        let (inward, outward) = self.across(leg);
        let resumed = match sound {
            Some((header, kind)) => inward.hear(now, &header, datagram.len(), kind),
            None => inward.hear_something(now),
        };
        let sent = outward.take_whole(now, kind, datagram);
        if resumed {
            self.tell(Event::Resumed { leg });
        }
        if let Some((socket, remote, bytes)) = sent {
            self.push(socket, remote, bytes);
        }
    }
}

#[cfg(test)]
mod tests;
