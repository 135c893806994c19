//! RTCP of one side of a joined call, as the other side must read it.
//!
//! A peer that joins two calls into one gives a stream another SSRC on each side, so every SSRC inside
//! a report must change with it, or phones read reports about strangers. [`Translation::apply`] does
//! that in place, also in the feedback of RFC 4585 and 5104 and the extended reports of RFC 3611.

use super::{
    APP, BLOCK_LEN, BYE, Compound, Error, MAX_BLOCKS, PSFB, RR, RR_BLOCKS, RTPFB, SDES, SR, SR_BLOCKS, XR,
    chunk_offsets, split, unpadded, word,
};

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
