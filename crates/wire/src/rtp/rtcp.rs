//! RTCP: reports about media, several packets to a datagram (RFC 3550 section 6).
//!
//! [`Compound::parse`] checks the whole datagram once; after that, walking it cannot fail. A peer
//! that joins two calls changes what it passes on with [`Translation`] and [`strip_goodbye`].
//! Reduced-size RTCP (RFC 5506) is accepted: the first packet need not be a report.

mod translation;

pub use translation::{Translation, strip_goodbye};

use super::{Error, VERSION, word};
use crate::Time;

/// Sender report.
pub const SR: u8 = 200;
/// Receiver report.
pub const RR: u8 = 201;
/// Source description.
pub const SDES: u8 = 202;
/// Goodbye.
pub const BYE: u8 = 203;
/// Application-defined.
pub const APP: u8 = 204;
/// Transport-layer feedback (RFC 4585).
pub const RTPFB: u8 = 205;
/// Payload-specific feedback (RFC 4585).
pub const PSFB: u8 = 206;
/// Extended reports (RFC 3611).
pub const XR: u8 = 207;

/// Length of a report block.
const BLOCK_LEN: usize = 24;
/// Report blocks one packet can count in its five bits.
pub const MAX_BLOCKS: usize = 31;
/// Where the blocks of a sender report begin: header, SSRC, sender info.
const SR_BLOCKS: usize = 28;
/// Where the blocks of a receiver report begin: header, SSRC.
const RR_BLOCKS: usize = 8;

/// What a sender says about its own stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderInfo {
    /// Who sends.
    pub ssrc: u32,
    /// When this was sent, in NTP format; see [`ntp`].
    pub ntp: u64,
    /// The same moment on the clock of the stream.
    pub timestamp: u32,
    /// Packets sent so far.
    pub packets: u32,
    /// Payload octets sent so far.
    pub octets: u32,
}

/// What a receiver says about one stream it hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The stream reported on.
    pub ssrc: u32,
    /// Packets lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost so far; 24 bits on the wire, negative when duplicates outnumber losses.
    pub cumulative_lost: i32,
    /// Highest sequence number received, the cycles in the upper half.
    pub highest_sequence: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report; zero if none came.
    pub last_sr: u32,
    /// Delay since that report, in 65536ths of a second.
    pub delay_since_last_sr: u32,
}

impl ReportBlock {
    fn parse(b: &[u8]) -> Option<Self> {
        let loss = word(b, 4)?;
        Some(ReportBlock {
            ssrc: word(b, 0)?,
            fraction_lost: (loss >> 24) as u8,
            // Shifting out the fraction and back sign-extends the 24 bits.
            cumulative_lost: ((loss << 8) as i32) >> 8,
            highest_sequence: word(b, 8)?,
            jitter: word(b, 12)?,
            last_sr: word(b, 16)?,
            delay_since_last_sr: word(b, 20)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let lost = self.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        for w in [
            self.ssrc,
            (u32::from(self.fraction_lost) << 24) | lost,
            self.highest_sequence,
            self.jitter,
            self.last_sr,
            self.delay_since_last_sr,
        ] {
            out.extend_from_slice(&w.to_be_bytes());
        }
    }
}

/// Report blocks as they lie in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks<'a>(&'a [u8]);

impl Blocks<'_> {
    /// The blocks, one by one.
    pub fn iter(&self) -> impl Iterator<Item = ReportBlock> {
        self.0.chunks_exact(BLOCK_LEN).filter_map(ReportBlock::parse)
    }
}

/// One packet of a compound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// SR: what was sent, and what was heard.
    SenderReport(SenderInfo, Blocks<'a>),
    /// RR: what was heard, and by whom.
    ReceiverReport(u32, Blocks<'a>),
    /// SDES: names for sources; the body holds the chunks (see [`Packet::cname`]).
    SourceDescription(&'a [u8]),
    /// BYE: the body holds the leaving sources and perhaps a reason.
    Goodbye(&'a [u8]),
    /// Anything else: packet type, count bits, body after the first four bytes.
    Other(u8, u8, &'a [u8]),
}

impl<'a> Packet<'a> {
    /// The canonical name in the first chunk of a source description.
    pub fn cname(&self) -> Option<(u32, &'a [u8])> {
        let Packet::SourceDescription(body) = self else {
            return None;
        };
        let ssrc = word(body, 0)?;
        let mut items = body.get(4..)?;
        while let [kind, len, rest @ ..] = items {
            let (value, after) = rest.split_at_checked(usize::from(*len))?;
            match kind {
                0 => return None,
                1 => return Some((ssrc, value)),
                _ => items = after,
            }
        }
        None
    }

    /// The sources that say goodbye.
    pub fn leaving(&self) -> impl Iterator<Item = u32> + 'a {
        let sources = if let Packet::Goodbye(body) = self { *body } else { &[] };
        sources.chunks_exact(4).map(|c| u32::from_be_bytes([c[0], c[1], c[2], c[3]]))
    }
}

/// A datagram of RTCP packets, checked whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compound<'a>(&'a [u8]);

impl<'a> Compound<'a> {
    /// Checks version, lengths, counts and padding of every packet (RFC 3550 appendix A.2).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut rest = bytes;
        if rest.is_empty() {
            return Err(Error::Short);
        }
        while !rest.is_empty() {
            let (packet, after) = split(rest)?;
            // Only the last packet may be padded.
            if packet[0] & 0x20 != 0 && !after.is_empty() {
                return Err(Error::Length);
            }
            unpadded(packet).and_then(view).ok_or(Error::Length)?;
            rest = after;
        }
        Ok(Compound(bytes))
    }

    /// The packets, in order.
    pub fn packets(&self) -> impl Iterator<Item = Packet<'a>> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (packet, after) = split(rest).ok()?;
            rest = after;
            unpadded(packet).and_then(view)
        })
    }
}

/// Cuts the first packet off a compound by its length field.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let head = bytes.get(..4).ok_or(Error::Short)?;
    if head[0] >> 6 != VERSION {
        return Err(Error::Version);
    }
    let len = (usize::from(u16::from_be_bytes([head[2], head[3]])) + 1) * 4;
    bytes.split_at_checked(len).ok_or(Error::Short)
}

/// A packet without its padding, which its last byte counts and which ends on a word.
fn unpadded(packet: &[u8]) -> Option<&[u8]> {
    if packet[0] & 0x20 == 0 {
        return Some(packet);
    }
    let padding = usize::from(*packet.last()?);
    let keep = packet.len().checked_sub(padding).filter(|keep| *keep >= 4)?;
    (padding > 0 && padding % 4 == 0).then_some(&packet[..keep])
}

/// One packet as what it is; `None` if its counts exceed it.
fn view(packet: &[u8]) -> Option<Packet<'_>> {
    let (count, kind) = (packet[0] & 0x1f, packet[1]);
    let many = usize::from(count);
    let blocks = |from: usize| packet.get(from..from + many * BLOCK_LEN).map(Blocks);
    Some(match kind {
        SR => {
            let ntp = (u64::from(word(packet, 8)?) << 32) | u64::from(word(packet, 12)?);
            let info = SenderInfo {
                ssrc: word(packet, 4)?,
                ntp,
                timestamp: word(packet, 16)?,
                packets: word(packet, 20)?,
                octets: word(packet, 24)?,
            };
            Packet::SenderReport(info, blocks(SR_BLOCKS)?)
        }
        RR => Packet::ReceiverReport(word(packet, 4)?, blocks(RR_BLOCKS)?),
        SDES => {
            chunk_offsets(packet, |_| ())?;
            Packet::SourceDescription(&packet[4..])
        }
        BYE => Packet::Goodbye(packet.get(4..4 + many * 4)?),
        _ => Packet::Other(kind, count, &packet[4..]),
    })
}

/// Calls `each` with where every SDES chunk of `packet` begins; `None` if they overrun it.
fn chunk_offsets(packet: &[u8], mut each: impl FnMut(usize)) -> Option<()> {
    let mut at = 4;
    for _ in 0..packet[0] & 0x1f {
        word(packet, at)?;
        each(at);
        at += 4;
        // Items until a zero type, then zeros up to the next word.
        while *packet.get(at)? != 0 {
            at += 2 + usize::from(*packet.get(at + 1)?);
        }
        at = (at / 4 + 1) * 4;
        if at > packet.len() {
            return None;
        }
    }
    Some(())
}

fn head(out: &mut Vec<u8>, count: usize, kind: u8, words_after: usize) {
    out.push((VERSION << 6) | count as u8);
    out.push(kind);
    out.extend_from_slice(&(words_after as u16).to_be_bytes());
}

/// Appends a sender report; blocks past [`MAX_BLOCKS`] are left out.
pub fn write_sender_report(info: &SenderInfo, blocks: &[ReportBlock], out: &mut Vec<u8>) {
    let blocks = &blocks[..blocks.len().min(MAX_BLOCKS)];
    head(out, blocks.len(), SR, 6 + blocks.len() * 6);
    out.extend_from_slice(&info.ssrc.to_be_bytes());
    out.extend_from_slice(&info.ntp.to_be_bytes());
    for w in [info.timestamp, info.packets, info.octets] {
        out.extend_from_slice(&w.to_be_bytes());
    }
    blocks.iter().for_each(|b| b.write(out));
}

/// Appends a receiver report; blocks past [`MAX_BLOCKS`] are left out.
pub fn write_receiver_report(ssrc: u32, blocks: &[ReportBlock], out: &mut Vec<u8>) {
    let blocks = &blocks[..blocks.len().min(MAX_BLOCKS)];
    head(out, blocks.len(), RR, 1 + blocks.len() * 6);
    out.extend_from_slice(&ssrc.to_be_bytes());
    blocks.iter().for_each(|b| b.write(out));
}

/// Appends a source description with a CNAME, cut at the 255 bytes its length byte can count.
pub fn write_source_description(ssrc: u32, cname: &str, out: &mut Vec<u8>) {
    let name = &cname.as_bytes()[..cname.len().min(255)];
    // SSRC, item header, name, and at least one zero to end the chunk on a word.
    let words = (4 + 2 + name.len()) / 4 + 1;
    head(out, 1, SDES, words);
    let end = out.len() + words * 4;
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&[1, name.len() as u8]);
    out.extend_from_slice(name);
    out.resize(end, 0);
}

/// Appends a goodbye of one source.
pub fn write_goodbye(ssrc: u32, out: &mut Vec<u8>) {
    head(out, 1, BYE, 1);
    out.extend_from_slice(&ssrc.to_be_bytes());
}

/// Seconds between the NTP epoch (1900) and the Unix epoch.
const NTP_UNIX: u64 = 2_208_988_800;

/// A moment in NTP format, as if the world's clock had started in 1970.
///
/// Only differences matter to a receiver (RFC 3550 section 6.4.1 lets a host without a calendar do
/// this); the constant keeps the middle bits from being zero, which would mean "no report".
pub fn ntp(now: Time) -> u64 {
    let micros = now.as_micros();
    let fraction = ((micros % 1_000_000) << 32) / 1_000_000;
    ((micros / 1_000_000).wrapping_add(NTP_UNIX) << 32) | fraction
}

/// The middle 32 bits of an NTP time: seconds and fraction to 65536ths.
pub fn ntp_middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

#[cfg(test)]
mod tests;
