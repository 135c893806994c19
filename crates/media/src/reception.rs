//! What arrived of a stream: sequence numbers, loss and jitter as RFC 3550 appendix A counts them.
//!
//! A stream of a call may change its source (a transfer, a forked answer); each source is counted by
//! itself and the sums carry over. There is no probation: signalling announced the stream.

use wire::Time;
use wire::rtp::Header;
use wire::rtp::rtcp::ReportBlock;

/// A jump forward by fewer packets is loss, by more a restart (RFC 3550 appendix A.1).
const MAX_DROPOUT: u16 = 3_000;
/// A step back by fewer packets is reordering, by more a restart.
const MAX_MISORDER: u16 = 100;
/// A value of `bad_sequence` that no sequence number has.
const NO_BAD_SEQUENCE: u32 = 1 << 16;

/// Counts for one received stream.
#[derive(Debug, Clone, Default)]
pub struct Reception {
    source: Option<Counted>,
    /// Sums of sources that were here before.
    past_expected: u64,
    past_received: u64,
    jitter: Jitter,
}

/// The variables of RFC 3550 appendix A.1 for the present source.
#[derive(Debug, Clone)]
struct Counted {
    ssrc: u32,
    base: u32,
    highest: u16,
    /// Wraps of the sequence number, times 65536.
    cycles: u32,
    bad_sequence: u32,
    received: u64,
    expected_at_report: u64,
    received_at_report: u64,
}

impl Counted {
    fn starting_at(header: &Header) -> Self {
        Counted {
            ssrc: header.ssrc,
            base: u32::from(header.sequence),
            highest: header.sequence,
            cycles: 0,
            bad_sequence: NO_BAD_SEQUENCE,
            received: 0,
            expected_at_report: 0,
            received_at_report: 0,
        }
    }

    fn extended_highest(&self) -> u32 {
        self.cycles.wrapping_add(u32::from(self.highest))
    }

    fn expected(&self) -> u64 {
        u64::from(self.extended_highest().wrapping_sub(self.base)) + 1
    }
}

impl Reception {
    /// Counts a packet. `clock` is that of its payload type; `None` if its timestamps say nothing
    /// about arrival, as those of events.
    #[inline]
    pub fn count(&mut self, now: Time, header: &Header, clock: Option<u32>) {
        if !matches!(&self.source, Some(s) if s.ssrc == header.ssrc) {
            self.change_source(header);
        }
        let Some(source) = &mut self.source else {
            return;
        };
        let ahead = header.sequence.wrapping_sub(source.highest);
        if ahead < MAX_DROPOUT {
            if header.sequence < source.highest {
                source.cycles = source.cycles.wrapping_add(1 << 16);
            }
            source.highest = header.sequence;
        } else if ahead <= u16::MAX - MAX_MISORDER + 1 {
            // A large jump counts only when a second packet confirms it.
            if u32::from(header.sequence) != source.bad_sequence {
                source.bad_sequence = u32::from(header.sequence.wrapping_add(1));
                return;
            }
            self.change_source(header);
        }
        if let Some(source) = &mut self.source {
            source.received += 1;
        }
        if let Some(clock) = clock {
            self.jitter.count(now, header.timestamp, clock);
        }
    }

    fn change_source(&mut self, header: &Header) {
        if let Some(old) = self.source.replace(Counted::starting_at(header)) {
            self.past_expected += old.expected();
            self.past_received += old.received;
        }
        self.jitter.transit = None;
    }

    /// The source heard at present.
    pub fn ssrc(&self) -> Option<u32> {
        self.source.as_ref().map(|s| s.ssrc)
    }

    /// Packets counted as received.
    pub fn received(&self) -> u64 {
        self.past_received + self.source.as_ref().map_or(0, |s| s.received)
    }

    /// Packets that sequence numbers say were sent.
    pub fn expected(&self) -> u64 {
        self.past_expected + self.source.as_ref().map_or(0, Counted::expected)
    }

    /// Packets that never came (A.3); duplicates may hide some, and never make it negative here.
    pub fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received())
    }

    /// Lost packets as a part of those expected, 0 to 1.
    pub fn loss(&self) -> f64 {
        match self.expected() {
            0 => 0.0,
            expected => self.lost() as f64 / expected as f64,
        }
    }

    /// Interarrival jitter in milliseconds (A.8).
    pub fn jitter_ms(&self) -> f64 {
        self.jitter.ms()
    }

    /// A report block about the present source, under the SSRC `subject`; `None` if nothing came.
    /// Starts a new interval for the fraction lost.
    pub fn report(&mut self, subject: u32) -> Option<ReportBlock> {
        let source = self.source.as_mut()?;
        let expected = source.expected();
        let lost_in = |e: u64, r: u64| i64::try_from(e).unwrap_or(0) - i64::try_from(r).unwrap_or(0);
        let (new_expected, new_received) =
            (expected - source.expected_at_report.min(expected), source.received - source.received_at_report);
        (source.expected_at_report, source.received_at_report) = (expected, source.received);
        let lost_now = lost_in(new_expected, new_received);
        let fraction_lost = match new_expected {
            0 => 0,
            n if lost_now > 0 => ((lost_now as u64 * 256 / n).min(255)) as u8,
            _ => 0,
        };
        let cumulative = lost_in(expected, source.received).clamp(-0x80_0000, 0x7f_ffff);
        Some(ReportBlock {
            ssrc: subject,
            fraction_lost,
            cumulative_lost: cumulative as i32,
            highest_sequence: source.extended_highest(),
            jitter: u32::try_from(self.jitter.scaled >> 4).unwrap_or(u32::MAX),
            ..ReportBlock::default()
        })
    }
}

/// Jitter in timestamp units, times 16, in integers as in RFC 3550 appendix A.8.
#[derive(Debug, Clone, Default)]
struct Jitter {
    clock: u32,
    transit: Option<u32>,
    scaled: u64,
}

impl Jitter {
    #[inline]
    fn count(&mut self, now: Time, timestamp: u32, clock: u32) {
        if clock != self.clock {
            self.scaled = self.scaled * u64::from(clock) / u64::from(self.clock.max(1));
            (self.clock, self.transit) = (clock, None);
        }
        // Arrival on the stream's clock; only differences matter, so wrapping is harmless.
        let ticks = now.as_micros().wrapping_mul(u64::from(clock)) / 1_000_000;
        let transit = (ticks as u32).wrapping_sub(timestamp);
        if let Some(last) = self.transit.replace(transit) {
            let d = (transit.wrapping_sub(last) as i32).unsigned_abs();
            self.scaled = self.scaled + u64::from(d) - ((self.scaled + 8) >> 4);
        }
    }

    fn ms(&self) -> f64 {
        match self.clock {
            0 => 0.0,
            clock => self.scaled as f64 / 16.0 / f64::from(clock) * 1_000.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(sequence: u16, timestamp: u32) -> Header {
        Header { sequence, timestamp, ssrc: 7, ..Header::default() }
    }

    fn feed(reception: &mut Reception, sequences: impl IntoIterator<Item = u16>) {
        for (i, s) in sequences.into_iter().enumerate() {
            let now = Time::from_millis(20 * i as u64);
            reception.count(now, &header(s, 160 * i as u32), Some(8_000));
        }
    }

    #[test]
    fn losses_are_what_sequence_numbers_leave_out() {
        let mut r = Reception::default();
        feed(&mut r, [10, 11, 13, 14, 12, 17]);
        assert_eq!((r.expected(), r.received(), r.lost()), (8, 6, 2));
        assert_eq!(r.loss(), 0.25);
        let block = r.report(9).unwrap();
        assert_eq!((block.ssrc, block.cumulative_lost, block.highest_sequence), (9, 2, 17));
        assert_eq!(block.fraction_lost, 64, "2 of 8 in 256ths");
        feed(&mut r, [18, 19, 20, 21]);
        assert_eq!(r.report(9).unwrap().fraction_lost, 0, "nothing was lost since");
    }

    #[test]
    fn the_sequence_number_may_wrap_and_be_out_of_order_while_it_does() {
        let mut r = Reception::default();
        feed(&mut r, [65_533, 65_534, 0, 65_535, 1, 2]);
        assert_eq!((r.expected(), r.lost()), (6, 0));
        assert_eq!(r.report(7).unwrap().highest_sequence, 0x1_0002);
    }

    #[test]
    fn duplicates_make_the_cumulative_loss_negative_on_the_wire_only() {
        let mut r = Reception::default();
        feed(&mut r, [1, 2, 2, 3]);
        assert_eq!(r.report(7).unwrap().cumulative_lost, -1);
        assert_eq!(r.lost(), 0);
    }

    #[test]
    fn a_wild_jump_counts_only_when_confirmed() {
        let mut r = Reception::default();
        feed(&mut r, [1, 2, 30_000, 3]);
        assert_eq!((r.received(), r.lost()), (3, 0));
        feed(&mut r, [40_000, 40_001, 40_002]);
        assert_eq!((r.received(), r.lost()), (5, 0), "a restart is not 40,000 losses");
    }

    #[test]
    fn sums_carry_over_a_change_of_source() {
        let mut r = Reception::default();
        feed(&mut r, [1, 3]);
        r.count(Time::ZERO, &Header { sequence: 900, ssrc: 8, ..Header::default() }, None);
        assert_eq!((r.expected(), r.received(), r.lost()), (4, 3, 1));
        assert_eq!(r.ssrc(), Some(8));
    }

    #[test]
    fn jitter_follows_the_integer_arithmetic_of_the_rfc() {
        let mut r = Reception::default();
        // Packets of 160 ticks arrive at 0, 20, 45 and 60 ms: D is 0, 40 and -40 ticks.
        for (i, ms) in [0, 20, 45, 60].into_iter().enumerate() {
            let h = header(i as u16, 160 * i as u32);
            r.count(Time::from_millis(ms), &h, Some(8_000));
        }
        // By hand, times 16: 0; 0 + 40 - (8 >> 4) = 40; 40 + 40 - (48 >> 4) = 77.
        assert_eq!(r.jitter.scaled, 77);
        assert_eq!(r.report(7).unwrap().jitter, 4);
        assert!((r.jitter_ms() - 77.0 / 16.0 / 8.0).abs() < 1e-9);
    }

    #[test]
    fn steady_packets_have_no_jitter_and_events_are_not_timed() {
        let mut r = Reception::default();
        feed(&mut r, 0..100);
        r.count(Time::from_secs(2), &header(100, 0), None);
        assert_eq!(r.jitter_ms(), 0.0);
    }

    proptest! {
        #[test]
        fn no_stream_upsets_the_counts(
            packets in prop::collection::vec((any::<u16>(), any::<u32>(), 0u32..3, any::<u64>()), 0..200),
            clocks in prop::collection::vec(prop::option::of(1u32..200_000), 1..4),
        ) {
            let mut r = Reception::default();
            for (i, (sequence, timestamp, ssrc, at)) in packets.iter().enumerate() {
                let h = Header { sequence: *sequence, timestamp: *timestamp, ssrc: *ssrc, ..Header::default() };
                r.count(Time::from_micros(*at), &h, clocks[i % clocks.len()]);
                let _ = r.report(1);
                prop_assert!(r.received() <= i as u64 + 1);
                prop_assert!((0.0..=1.0).contains(&r.loss()));
                prop_assert!(r.jitter_ms() >= 0.0);
            }
        }
    }
}
