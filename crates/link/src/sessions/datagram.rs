//! What a datagram is to the table of sessions, by what stands in the clear.

/// The random bytes of a hello, behind the heads of record and message, and the version.
const RANDOM: std::ops::Range<usize> = 27..59;
pub(super) type Random = [u8; 32];

/// The head of a record in the clear; where in it its length stands, and that of the message behind it.
const HEAD: usize = 13;
const LENGTH: std::ops::Range<usize> = 11..HEAD;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// First bytes of protected records (RFC 9147, section 4), without connection IDs. Two bits are those of the epoch:
/// handshakes have the second.
const PROTECTED: std::ops::RangeInclusive<u8> = 32..=47;
const EPOCH: u8 = 3;
const OF_HANDSHAKES: u8 = 2;

/// What a datagram of DTLS is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Asks for a session.
    Hello(Random),
    /// Protected records and nothing else: part of a handshake.
    Handshake,
    /// Protected records and nothing else: a message, or what the two ends of a session tell each other.
    Sealed,
    /// Something stands in the clear that anybody could have said.
    Clear,
}

impl Kind {
    pub(super) fn of(datagram: &[u8]) -> Kind {
        match datagram {
            [HANDSHAKE, ..] if datagram.get(HEAD) == Some(&CLIENT_HELLO) && is_one_record(datagram) => {
                random(datagram).map_or(Kind::Clear, Kind::Hello)
            }
            [head, ..] if is_protected(datagram) => match head & EPOCH {
                OF_HANDSHAKES => Kind::Handshake,
                _ => Kind::Sealed,
            },
            _ => Kind::Clear,
        }
    }

    /// The random bytes of the hello that a datagram of ours begins with, of which only that much may be left.
    pub(super) fn asked(quoted: &[u8]) -> Option<Random> {
        random(quoted).filter(|_| quoted[0] == HANDSHAKE && quoted[HEAD] == CLIENT_HELLO)
    }
}

fn random(datagram: &[u8]) -> Option<Random> {
    datagram.get(RANDOM)?.try_into().ok()
}

fn is_one_record(datagram: &[u8]) -> bool {
    let length = datagram.get(LENGTH).and_then(|length| length.try_into().ok()).map(u16::from_be_bytes);
    length.is_some_and(|length| HEAD + usize::from(length) == datagram.len())
}

/// Whether a datagram is protected records from end to end.
fn is_protected(mut rest: &[u8]) -> bool {
    while let Some(head) = rest.first().filter(|head| PROTECTED.contains(head)) {
        let numbered = if head & 8 == 0 { 2 } else { 3 };
        if head & 4 == 0 {
            return true; // It has no length: it is all that is left.
        }
        let Some(length) = rest.get(numbered..numbered + 2) else { return false };
        let end = numbered + 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
        match rest.get(end..) {
            Some([]) => return true,
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_protected_only_if_every_record_in_it_is() {
        let (short, long) = ([0x2F, 0, 1, 0, 2, 9, 9], [0x2B, 0, 1, 9, 9, 9]);
        let clear = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(Kind::of(&short), Kind::Sealed);
        assert_eq!(Kind::of(&[&short[..], &long].concat()), Kind::Sealed);
        assert_eq!(Kind::of(&[0x2E, 0, 1, 0, 1, 9]), Kind::Handshake);
        for datagram in [&clear[..], &[&short[..], &clear].concat(), &short[..6], &[0x3F, 0, 1, 0, 1, 9], &[]]
        {
            assert_eq!(Kind::of(datagram), Kind::Clear, "{datagram:?}");
        }
    }
}
