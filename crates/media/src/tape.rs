//! A recording of a stream: samples laid down where their timestamps say.
//!
//! Late packets fall into their place by themselves, and what never came stays silent. The tape has
//! an end: [`Tape::lay`] writes nothing past its length, however long the call.

use wire::rtp::Header;

/// Longest pause inside a stream that is laid down as silence, in samples: five seconds at 8 kHz. A
/// timestamp further ahead or behind means that the stream began anew, and goes on at the end.
const PAUSE_MAX: i64 = 40_000;

/// Samples of one stream.
#[derive(Debug, Clone, Default)]
pub struct Tape {
    samples: Vec<i16>,
    length: usize,
    /// Source and timestamp of the sample at a place on the tape.
    anchor: Option<(u32, u32, i64)>,
}

impl Tape {
    /// An empty tape for at most `length` samples.
    pub fn new(length: usize) -> Tape {
        Tape { samples: Vec::new(), length, anchor: None }
    }

    /// Lays down the samples of a packet.
    pub fn lay(&mut self, header: &Header, samples: &[i16]) {
        let end = self.samples.len() as i64;
        let place = match self.anchor {
            Some((ssrc, timestamp, at)) if ssrc == header.ssrc => {
                at + i64::from(header.timestamp.wrapping_sub(timestamp) as i32)
            }
            _ => i64::MAX,
        };
        let fits = (end - PAUSE_MAX..=end + PAUSE_MAX).contains(&place);
        let place = if fits { place } else { end };
        // Anchoring at every packet keeps the difference of timestamps small in any length of call.
        self.anchor = Some((header.ssrc, header.timestamp, place));
        // What came before the first packet was never on the tape.
        let Ok(from) = usize::try_from(place) else {
            return;
        };
        let to = (from + samples.len()).min(self.length);
        if to > from {
            if self.samples.len() < to {
                self.samples.resize(to, 0);
            }
            self.samples[from..to].copy_from_slice(&samples[..to - from]);
        }
    }

    /// What is on the tape.
    pub fn samples(&self) -> &[i16] {
        &self.samples
    }

    /// Takes what is on the tape and leaves it empty.
    pub fn take(&mut self) -> Vec<i16> {
        self.anchor = None;
        std::mem::take(&mut self.samples)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ssrc: u32, timestamp: u32) -> Header {
        Header { ssrc, timestamp, ..Header::default() }
    }

    #[test]
    fn late_packets_find_their_place_and_lost_ones_are_silence() {
        let mut tape = Tape::new(100);
        tape.lay(&at(1, u32::MAX - 1), &[1, 1]);
        tape.lay(&at(1, 4), &[4, 4]);
        tape.lay(&at(1, 0), &[2, 2]);
        assert_eq!(tape.samples(), [1, 1, 2, 2, 0, 0, 4, 4]);
        tape.lay(&at(1, 6), &[5]);
        assert_eq!(tape.take(), [1, 1, 2, 2, 0, 0, 4, 4, 5]);
    }

    #[test]
    fn a_stream_that_begins_anew_goes_on_at_the_end() {
        let mut tape = Tape::new(100);
        tape.lay(&at(1, 0), &[1]);
        tape.lay(&at(2, 7_000), &[2]);
        tape.lay(&at(2, 1_000_000), &[3]);
        assert_eq!(tape.samples(), [1, 2, 3]);
    }

    proptest! {
        #[test]
        fn the_tape_ends(
            packets in prop::collection::vec((0u32..2, any::<u32>(), 0usize..400), 0..100),
            near in any::<bool>(),
        ) {
            let mut tape = Tape::new(1_000);
            for (ssrc, timestamp, count) in packets {
                let timestamp = if near { timestamp % 3_000 } else { timestamp };
                tape.lay(&at(ssrc, timestamp), &vec![7; count]);
                prop_assert!(tape.samples().len() <= 1_000);
            }
        }
    }
}
