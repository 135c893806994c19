//! Which protocol a datagram on the one port belongs to, by its first byte.
//!
//! RFC 7983 divides 0 to 191 among the protocols of a media port. Above it stands P2PP, whose first
//! two bits are always set. QUIC does not share this port, so its range 80 to 127 carries the frames
//! of secure links.

/// The protocols that share the peer port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Protocol {
    /// 0 to 3: STUN (RFC 8489).
    Stun,
    /// 20 to 63: DTLS.
    Dtls,
    /// 64 to 79: TURN channel data (RFC 8656).
    TurnChannel,
    /// 80 to 127: frames of secure links.
    Secure,
    /// 128 to 191: RTP and RTCP.
    Media,
    /// 192 and above: P2PP in the clear.
    P2pp,
    /// ZRTP (16 to 19), the unassigned, and the empty datagram.
    Unknown,
}

impl Protocol {
    /// The protocol of a datagram.
    pub fn of(datagram: &[u8]) -> Protocol {
        match datagram.first() {
            Some(0..=3) => Protocol::Stun,
            Some(20..=63) => Protocol::Dtls,
            Some(64..=79) => Protocol::TurnChannel,
            Some(80..=127) => Protocol::Secure,
            Some(128..=191) => Protocol::Media,
            Some(192..) => Protocol::P2pp,
            Some(4..=19) | None => Protocol::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_first_byte_has_one_protocol() {
        let borders = [
            (0, Protocol::Stun),
            (3, Protocol::Stun),
            (4, Protocol::Unknown),
            (19, Protocol::Unknown),
            (20, Protocol::Dtls),
            (64, Protocol::TurnChannel),
            (79, Protocol::TurnChannel),
            (80, Protocol::Secure),
            (127, Protocol::Secure),
            (128, Protocol::Media),
            (191, Protocol::Media),
            (192, Protocol::P2pp),
            (255, Protocol::P2pp),
        ];
        for (byte, protocol) in borders {
            assert_eq!(Protocol::of(&[byte, 0]), protocol, "first byte {byte}");
        }
        assert_eq!(Protocol::of(&[]), Protocol::Unknown);
    }
}
