//! RTP and RTCP as they stand on the wire: checked views, nothing copied (RFC 3550).
//!
//! A peer carries media it need not understand. What it reads is the twelve bytes in front of every
//! packet; what it writes, in place, is the SSRC, the sequence number and the timestamp. So the view
//! here is a borrowed [`Packet`] and the pen is [`rewrite`]; nothing allocates. RTCP, rarer and
//! richer, lives in [`rtcp`]. Both may share one port: [`classify`] tells them apart (RFC 5761).

pub mod rtcp;

/// Length of the fixed RTP header (RFC 3550 section 5.1).
pub const HEADER_LEN: usize = 12;

/// The first byte of every RTP and RTCP packet carries this version in its two high bits.
const VERSION: u8 = 2;

/// Why bytes are not RTP or RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Fewer bytes than the header, or than the header says must follow.
    #[error("the packet is shorter than its header says")]
    Short,
    /// The version bits do not say 2.
    #[error("the version is not 2")]
    Version,
    /// A length, a count or the padding contradicts the packet.
    #[error("a length inside the packet contradicts it")]
    Length,
}

/// What kind of packet stands on a port that carries both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Media.
    Rtp,
    /// Reports about media.
    Rtcp,
}

/// Tells RTP from RTCP by the second byte (RFC 5761 section 4); `None` if it is neither.
///
/// RTCP packet types 192 to 223 cover the marked RTP payload types 64 to 95, which nobody who shares
/// a port may use.
pub fn classify(bytes: &[u8]) -> Option<Kind> {
    if bytes.len() < 8 || bytes[0] >> 6 != VERSION {
        return None;
    }
    if (192..=223).contains(&bytes[1]) {
        Some(Kind::Rtcp)
    } else {
        (bytes.len() >= HEADER_LEN).then_some(Kind::Rtp)
    }
}

/// The SSRC under which a packet was sent: of the media for RTP, of the first reporter for RTCP.
/// This is what finds the stream on a port that many streams share.
pub fn sender_ssrc(bytes: &[u8]) -> Option<u32> {
    match classify(bytes)? {
        Kind::Rtp => word(bytes, 8),
        Kind::Rtcp => word(bytes, 4),
    }
}

/// The fixed header of RTP, without the counts that describe what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Set on the first packet of a talk spurt, or the last of a video frame.
    pub marker: bool,
    /// Which of the negotiated formats the payload has; seven bits.
    pub payload_type: u8,
    /// Counts packets, modulo 65536.
    pub sequence: u16,
    /// Counts sampling instants, modulo 2^32.
    pub timestamp: u32,
    /// The synchronisation source: who speaks.
    pub ssrc: u32,
}

impl Header {
    /// Appends a packet with this header and `payload`, without CSRCs, extension or padding.
    pub fn write(&self, payload: &[u8], out: &mut Vec<u8>) {
        out.reserve(HEADER_LEN + payload.len());
        out.push(VERSION << 6);
        out.push((u8::from(self.marker) << 7) | (self.payload_type & 0x7f));
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(payload);
    }

    /// A packet with this header and `payload`.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(payload, &mut out);
        out
    }
}

/// A checked view of one RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The fixed header.
    pub header: Header,
    /// Contributing sources, four bytes each (see [`Packet::csrcs`]).
    csrcs: &'a [u8],
    /// The header extension: its profile word and its data (RFC 3550 section 5.3.1).
    pub extension: Option<(u16, &'a [u8])>,
    /// The media, without padding.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks that every count in the header agrees with the bytes.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (fixed, rest) = bytes.split_at_checked(HEADER_LEN).ok_or(Error::Short)?;
        let header = Header {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        };
        let (csrcs, extension, rest) = split_variable(fixed[0], rest)?;
        let payload = if fixed[0] & 0x20 != 0 { without_padding(rest)? } else { rest };
        Ok(Packet { header, csrcs, extension, payload })
    }

    /// The contributing sources that a mixer named.
    pub fn csrcs(&self) -> impl Iterator<Item = u32> + 'a {
        self.csrcs.chunks_exact(4).map(|c| u32::from_be_bytes([c[0], c[1], c[2], c[3]]))
    }
}

/// How long the header of a packet is, sources and extension included: what follows may be encrypted.
pub fn header_len(bytes: &[u8]) -> Result<usize, Error> {
    let (fixed, rest) = bytes.split_at_checked(HEADER_LEN).ok_or(Error::Short)?;
    let (.., rest) = split_variable(fixed[0], rest)?;
    Ok(bytes.len() - rest.len())
}

/// The part of the header that is not always there, and what follows it.
type Variable<'a> = (&'a [u8], Option<(u16, &'a [u8])>, &'a [u8]);

#[inline]
fn split_variable(first: u8, rest: &[u8]) -> Result<Variable<'_>, Error> {
    if first >> 6 != VERSION {
        return Err(Error::Version);
    }
    let (csrcs, rest) = rest.split_at_checked(usize::from(first & 0x0f) * 4).ok_or(Error::Short)?;
    if first & 0x10 == 0 {
        return Ok((csrcs, None, rest));
    }
    let (profile, data, rest) = split_extension(rest)?;
    Ok((csrcs, Some((profile, data)), rest))
}

fn split_extension(bytes: &[u8]) -> Result<(u16, &[u8], &[u8]), Error> {
    let (head, rest) = bytes.split_at_checked(4).ok_or(Error::Short)?;
    let len = usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
    let (data, rest) = rest.split_at_checked(len).ok_or(Error::Short)?;
    Ok((u16::from_be_bytes([head[0], head[1]]), data, rest))
}

/// The last byte of padding counts the padding, itself included.
fn without_padding(bytes: &[u8]) -> Result<&[u8], Error> {
    let padding = usize::from(*bytes.last().ok_or(Error::Length)?);
    match bytes.len().checked_sub(padding) {
        Some(keep) if padding > 0 => Ok(&bytes[..keep]),
        _ => Err(Error::Length),
    }
}

/// Writes another SSRC, sequence number and timestamp into an RTP packet where it lies.
#[inline]
pub fn rewrite(packet: &mut [u8], ssrc: u32, sequence: u16, timestamp: u32) -> Result<(), Error> {
    let header = packet.get_mut(..HEADER_LEN).ok_or(Error::Short)?;
    header[2..4].copy_from_slice(&sequence.to_be_bytes());
    header[4..8].copy_from_slice(&timestamp.to_be_bytes());
    header[8..12].copy_from_slice(&ssrc.to_be_bytes());
    Ok(())
}

/// The big-endian 32-bit word at `at`.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let w = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([w[0], w[1], w[2], w[3]]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOLDEN: Header =
        Header { marker: true, payload_type: 0, sequence: 0x1234, timestamp: 0x0102_0304, ssrc: 0xdead_beef };

    #[test]
    fn a_packet_has_its_golden_bytes() {
        let bytes = GOLDEN.packet(&[0xff, 0x7f]);
        assert_eq!(bytes, [0x80, 0x80, 0x12, 0x34, 1, 2, 3, 4, 0xde, 0xad, 0xbe, 0xef, 0xff, 0x7f]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.header, GOLDEN);
        assert_eq!(packet.payload, [0xff, 0x7f]);
    }

    #[test]
    fn sources_extension_and_padding_are_told_from_the_payload() {
        let mut bytes = GOLDEN.packet(&[]);
        bytes[0] |= 0x20 | 0x10 | 0x02;
        bytes.extend([0, 0, 0, 7, 0, 0, 0, 9]);
        bytes.extend([0xbe, 0xde, 0, 1, 0x10, 0xaa, 0, 0]);
        bytes.extend([1, 2, 3, 0, 0, 3]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.csrcs().collect::<Vec<_>>(), [7, 9]);
        assert_eq!(packet.extension, Some((0xbede, &[0x10, 0xaa, 0, 0][..])));
        assert_eq!(packet.payload, [1, 2, 3]);
    }

    #[test]
    fn counts_that_contradict_the_packet_are_refused() {
        let whole = GOLDEN.packet(&[9; 4]);
        assert_eq!(Packet::parse(&whole[..11]), Err(Error::Short));
        for (first, last, error) in [
            (0x40, 9, Error::Version),
            (0x82, 9, Error::Short),
            (0x90, 9, Error::Short),
            (0xa0, 5, Error::Length),
            (0xa0, 0, Error::Length),
        ] {
            let mut bytes = whole.clone();
            bytes[0] = first;
            bytes[15] = last;
            assert_eq!(Packet::parse(&bytes), Err(error), "{first:#x}");
        }
    }

    #[test]
    fn rtp_and_rtcp_are_told_apart_on_one_port() {
        let rtp = GOLDEN.packet(&[]);
        assert_eq!(classify(&rtp), Some(Kind::Rtp));
        assert_eq!(sender_ssrc(&rtp), Some(0xdead_beef));
        let rtcp = [0x80, 201, 0, 1, 0, 0, 0, 5];
        assert_eq!(classify(&rtcp), Some(Kind::Rtcp));
        assert_eq!(sender_ssrc(&rtcp), Some(5));
        assert_eq!(classify(&[0x80, 0, 0, 1, 0, 0, 0, 5]), None, "too short for RTP");
        assert_eq!(classify(&[0xc0; 20]), None, "P2PP");
        assert_eq!(classify(&[0x00; 20]), None, "STUN");
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert!(packet.payload.len() + HEADER_LEN <= bytes.len());
            }
            let _ = (classify(&bytes), sender_ssrc(&bytes));
        }

        #[test]
        fn what_is_written_is_read(
            marker: bool, payload_type in 0u8..128, sequence: u16, timestamp: u32, ssrc: u32,
            payload in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let header = Header { marker, payload_type, sequence, timestamp, ssrc };
            let bytes = header.packet(&payload);
            let packet = Packet::parse(&bytes).unwrap();
            prop_assert_eq!(packet.header, header);
            prop_assert_eq!(packet.payload, &payload[..]);
        }

        #[test]
        fn rewriting_touches_three_fields_and_nothing_else(
            ssrc: u32, sequence: u16, timestamp: u32,
            payload in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = GOLDEN.packet(&payload);
            rewrite(&mut bytes, ssrc, sequence, timestamp).unwrap();
            let expected = Header { ssrc, sequence, timestamp, ..GOLDEN };
            prop_assert_eq!(bytes, expected.packet(&payload));
        }
    }
}
