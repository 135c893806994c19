//! RTCP: reports about media, several packets to a datagram (RFC 3550 section 6).
//!
//! [`Compound::parse`] checks the whole datagram once; after that, walking it cannot fail. A peer
//! that joins two calls into one gives a stream another SSRC on each side, so every SSRC inside a
//! report must change with it, or phones read reports about strangers. [`Translation::apply`] does
//! that in place, also in the feedback of RFC 4585 and 5104 and the extended reports of RFC 3611.
//! Reduced-size RTCP (RFC 5506) is accepted: the first packet need not be a report.

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

/// How RTCP that arrived on one side must read on the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Translation {
    /// Every SSRC that names the reporter or sender becomes this.
    pub sender: u32,
    /// Added to the timestamp of sender reports, as it was to the stream's.
    pub timestamp_offset: u32,
    /// An SSRC that is reported on and equals the first becomes the second; others stay.
    pub subject: (u32, u32),
    /// Added to the highest sequence number reported about that subject.
    pub sequence_offset: u32,
}

impl Translation {
    /// Rewrites a compound where it lies. Refuses, untouched, what [`Compound::parse`] refuses.
    pub fn apply(&self, bytes: &mut [u8]) -> Result<(), Error> {
        Compound::parse(bytes)?;
        let mut at = 0;
        while let Ok((packet, _)) = split(&bytes[at..]) {
            let (end, body) = (at + packet.len(), unpadded(packet).map_or(0, <[u8]>::len));
            self.apply_packet(&mut bytes[at..at + body]);
            at = end;
        }
        Ok(())
    }

    fn apply_packet(&self, packet: &mut [u8]) {
        let kind = packet.get(1).copied().unwrap_or(0);
        match kind {
            SR => {
                put(packet, 4, self.sender);
                let timestamp = word(packet, 16).unwrap_or(0).wrapping_add(self.timestamp_offset);
                put(packet, 16, timestamp);
                self.blocks(packet, SR_BLOCKS);
            }
            RR => {
                put(packet, 4, self.sender);
                self.blocks(packet, RR_BLOCKS);
            }
            SDES => {
                let mut starts = [0; MAX_BLOCKS];
                let mut n = 0;
                let _ = chunk_offsets(packet, |at| {
                    starts[n] = at;
                    n += 1;
                });
                for at in &starts[..n] {
                    put(packet, *at, self.sender);
                }
            }
            BYE => (0..usize::from(packet[0] & 0x1f)).for_each(|i| put(packet, 4 + 4 * i, self.sender)),
            APP => put(packet, 4, self.sender),
            RTPFB | PSFB => self.feedback(packet),
            XR => self.extended(packet),
            _ => {}
        }
    }

    fn blocks(&self, packet: &mut [u8], from: usize) {
        for i in 0..usize::from(packet[0] & 0x1f) {
            let at = from + i * BLOCK_LEN;
            if self.subject(packet, at) {
                let highest = word(packet, at + 8).unwrap_or(0);
                put(packet, at + 8, highest.wrapping_add(self.sequence_offset));
            }
        }
    }

    /// Sender, subject, and the SSRC of each entry in TMMBR, TMMBN and FIR (RFC 5104).
    fn feedback(&self, packet: &mut [u8]) {
        put(packet, 4, self.sender);
        self.subject(packet, 8);
        let format = packet[0] & 0x1f;
        if matches!((packet[1], format), (RTPFB, 3 | 4) | (PSFB, 4)) {
            (12..packet.len()).step_by(8).for_each(|at| {
                self.subject(packet, at);
            });
        }
    }

    /// Reporter, and the SSRC in each block of RFC 3611 that has one.
    fn extended(&self, packet: &mut [u8]) {
        put(packet, 4, self.sender);
        let mut at = 8;
        while let Some(head) = word(packet, at) {
            let (kind, end) = (head >> 24, at + 4 + (head as usize & 0xffff) * 4);
            match kind {
                1..=3 | 6 | 7 => {
                    self.subject(packet, at + 4);
                }
                5 => (at + 4..end.min(packet.len())).step_by(12).for_each(|sub| {
                    self.subject(packet, sub);
                }),
                _ => {}
            }
            at = end;
        }
    }

    fn subject(&self, packet: &mut [u8], at: usize) -> bool {
        let ours = word(packet, at) == Some(self.subject.0);
        if ours {
            put(packet, at, self.subject.1);
        }
        ours
    }
}

/// Writes a word if it fits; packets are checked before, so it does.
fn put(packet: &mut [u8], at: usize, value: u32) {
    if let Some(slot) = packet.get_mut(at..at + 4) {
        slot.copy_from_slice(&value.to_be_bytes());
    }
}

/// Takes every BYE out of a compound where it lies; returns the length that remains.
///
/// A joined call lets the party behind a stream change while the stream goes on, so a leaving
/// source must not end it.
pub fn strip_goodbye(bytes: &mut [u8]) -> usize {
    let (mut read, mut write) = (0, 0);
    while let Ok((packet, _)) = split(&bytes[read..]) {
        let (len, keep) = (packet.len(), packet[1] != BYE);
        if keep {
            bytes.copy_within(read..read + len, write);
            write += len;
        }
        read += len;
    }
    write
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: ReportBlock = ReportBlock {
        ssrc: 0x0a0a_0a0a,
        fraction_lost: 64,
        cumulative_lost: -2,
        highest_sequence: 0x0001_0005,
        jitter: 33,
        last_sr: 0x1111_2222,
        delay_since_last_sr: 0x8000,
    };
    const INFO: SenderInfo =
        SenderInfo { ssrc: 0x0b0b_0b0b, ntp: 0x8899_aabb_ccdd_eeff, timestamp: 160, packets: 2, octets: 320 };

    fn compound() -> Vec<u8> {
        let mut out = Vec::new();
        write_sender_report(&INFO, &[BLOCK], &mut out);
        write_source_description(INFO.ssrc, "ann@host", &mut out);
        write_goodbye(INFO.ssrc, &mut out);
        out
    }

    #[test]
    fn a_compound_has_its_golden_bytes() {
        let golden = "81c8000c 0b0b0b0b 8899aabbccddeeff 000000a0 00000002 00000140 \
             0a0a0a0a 40fffffe 00010005 00000021 11112222 00008000 \
             81ca0004 0b0b0b0b 0108616e 6e40686f 73740000 81cb0001 0b0b0b0b";
        let hex: String = compound().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden.replace([' ', '\n'], ""));
    }

    #[test]
    fn a_compound_is_read_as_it_was_written() {
        let bytes = compound();
        let packets: Vec<_> = Compound::parse(&bytes).unwrap().packets().collect();
        assert_eq!(packets.len(), 3);
        let Packet::SenderReport(info, blocks) = packets[0] else { panic!("{packets:?}") };
        assert_eq!(info, INFO);
        assert_eq!(blocks.iter().collect::<Vec<_>>(), [BLOCK]);
        assert_eq!(packets[1].cname(), Some((INFO.ssrc, &b"ann@host"[..])));
        assert_eq!(packets[2].leaving().collect::<Vec<_>>(), [INFO.ssrc]);
    }

    #[test]
    fn compounds_that_contradict_themselves_are_refused() {
        let good = compound();
        for cut in 1..8 {
            assert!(Compound::parse(&good[..good.len() - cut]).is_err(), "{cut}");
        }
        let mut bytes = good.clone();
        bytes[0] = 0x82; // two blocks where there is one
        assert_eq!(Compound::parse(&bytes), Err(Error::Length));
        bytes[0] = 0xa1; // padding in a packet that is not the last
        assert_eq!(Compound::parse(&bytes), Err(Error::Length));
        bytes[0] = 0x41;
        assert_eq!(Compound::parse(&bytes), Err(Error::Version));
        assert_eq!(Compound::parse(&[]), Err(Error::Short));
    }

    #[test]
    fn translation_changes_every_ssrc_and_nothing_else() {
        let mut bytes = compound();
        let translation = Translation {
            sender: 1,
            timestamp_offset: 40,
            subject: (BLOCK.ssrc, 2),
            sequence_offset: 10u32.wrapping_neg(),
        };
        translation.apply(&mut bytes).unwrap();
        let mut expected = Vec::new();
        let info = SenderInfo { ssrc: 1, timestamp: 200, ..INFO };
        let block = ReportBlock { ssrc: 2, highest_sequence: 0xfffb, ..BLOCK };
        write_sender_report(&info, &[block], &mut expected);
        write_source_description(1, "ann@host", &mut expected);
        write_goodbye(1, &mut expected);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn feedback_and_extended_reports_are_translated() {
        let t = Translation { sender: 1, subject: (7, 2), ..Default::default() };
        // A full intra request (RFC 5104 section 4.3.1) about source 7.
        let mut fir = [0x84, PSFB, 0, 4, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 7, 5, 0, 0, 0];
        t.apply(&mut fir).unwrap();
        assert_eq!((fir[7], fir[15], fir[16]), (1, 2, 5));
        // A DLRR block (RFC 3611 section 4.5) with sub-blocks about 7 and about 8.
        let mut xr = vec![0x80, XR, 0, 8, 0, 0, 0, 9, 5, 0, 0, 6];
        xr.extend([0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 4]);
        t.apply(&mut xr).unwrap();
        assert_eq!((xr[7], xr[15], xr[27]), (1, 2, 8));
    }

    #[test]
    fn padding_is_never_taken_for_an_ssrc() {
        let t = Translation { sender: 1, ..Default::default() };
        let mut bytes = [0xa0, APP, 0, 1, 0, 0, 0, 4];
        t.apply(&mut bytes).unwrap();
        assert_eq!(bytes[4..], [0, 0, 0, 4]);
        for wrong in [0, 3, 8, 12] {
            bytes[7] = wrong;
            assert_eq!(Compound::parse(&bytes), Err(Error::Length), "{wrong}");
        }
    }

    #[test]
    fn goodbyes_can_be_taken_out() {
        let mut bytes = compound();
        let len = strip_goodbye(&mut bytes);
        assert_eq!(len, compound().len() - 8);
        assert_eq!(bytes[..len], compound()[..len]);
        let mut only = Vec::new();
        write_goodbye(3, &mut only);
        assert_eq!(strip_goodbye(&mut only), 0);
    }

    #[test]
    fn ntp_counts_in_seconds_and_fractions() {
        assert_eq!(ntp(Time::from_millis(1_500)), ((NTP_UNIX + 1) << 32) | 0x8000_0000);
        let gap = ntp_middle(ntp(Time::from_secs(3))) - ntp_middle(ntp(Time::from_secs(1)));
        assert_eq!(gap, 2 << 16);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_walked_and_translated(
            mut bytes in prop::collection::vec(any::<u8>(), 0..120),
            kind in 198u8..210, first in 0x80u8..0xc0, words in 0u8..30,
        ) {
            if bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&[first, kind, 0, words]);
                let cut = bytes.len().min((usize::from(words) + 1) * 4);
                bytes.truncate(cut);
            }
            let ok = Compound::parse(&bytes).is_ok();
            if let Ok(compound) = Compound::parse(&bytes) {
                for packet in compound.packets() {
                    let _ = (packet.cname(), packet.leaving().count());
                }
            }
            let len = bytes.len();
            prop_assert_eq!(Translation::default().apply(&mut bytes).is_ok(), ok);
            prop_assert_eq!(bytes.len(), len);
            prop_assert_eq!(Compound::parse(&bytes).is_ok(), ok, "translation keeps it well-formed");
            prop_assert!(strip_goodbye(&mut bytes) <= len);
        }

        #[test]
        fn blocks_survive_the_wire(
            ssrc: u32, fraction_lost: u8, lost in -0x80_0000i32..0x80_0000, highest_sequence: u32,
            jitter: u32, last_sr: u32, delay: u32, cname in "[a-z]{0,40}",
        ) {
            let block = ReportBlock {
                ssrc, fraction_lost, cumulative_lost: lost, highest_sequence, jitter, last_sr,
                delay_since_last_sr: delay,
            };
            let mut bytes = Vec::new();
            write_receiver_report(9, &[block, BLOCK], &mut bytes);
            write_source_description(9, &cname, &mut bytes);
            let packets: Vec<_> = Compound::parse(&bytes).unwrap().packets().collect();
            let Packet::ReceiverReport(9, blocks) = packets[0] else { panic!("{packets:?}") };
            prop_assert_eq!(blocks.iter().collect::<Vec<_>>(), [block, BLOCK]);
            prop_assert_eq!(packets[1].cname(), Some((9, cname.as_bytes())));
        }
    }
}
