//! RTCP of our own: round-trip time, and how the far side hears us.
//!
//! Sender reports carry a time; the answer says how long ago it was heard and how long it lay there,
//! so that the difference is the round trip (RFC 3550 section 6.4.1). The first few reports come a
//! second apart so that a short call knows its delay too, later ones about five seconds apart, each
//! interval drawn anew from half to one and a half of that so that peers do not fall into step
//! (section 6.3.5).

use std::time::Duration;

use wire::rtp::rtcp::{self, Compound, Packet, ReportBlock, SenderInfo};
use wire::seed::RngExt;
use wire::{Rng, Seed, Time};

/// The mean interval once the round trip is known.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// The mean interval of the first reports.
const EAGER_INTERVAL: Duration = Duration::from_secs(1);
/// How many reports are eager: two for a round trip each way, one to spare for a loss.
const EAGER_REPORTS: u32 = 3;
/// Sender reports remembered for the answer: as many as can be under way at once.
const REMEMBERED: usize = 4;

/// What has been sent on a stream, for a sender report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Packets.
    pub packets: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// The stream's clock at the time of the report.
    pub timestamp: u32,
}

/// What the far side says about our stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FarReport {
    /// Packets it lost so far.
    pub lost: u32,
    /// Lost since its last report, in 256ths.
    pub fraction_lost: u8,
    /// Its jitter, in our timestamp units.
    pub jitter: u32,
}

/// Reports sent and heard on one leg.
#[derive(Debug)]
pub struct Reports {
    rng: Rng,
    next: Time,
    count: u32,
    /// Middle NTP bits of sender reports that went out, and when.
    sent: [Option<(u32, Time)>; REMEMBERED],
    sent_at: usize,
    heard: Option<(u32, Time)>,
    rtt: Option<Duration>,
    far: Option<FarReport>,
}

impl Reports {
    /// Reports that begin about a second from now.
    pub fn new(now: Time, seed: Seed) -> Reports {
        let mut reports = Reports {
            rng: seed.rng(),
            next: now,
            count: 0,
            sent: [None; REMEMBERED],
            sent_at: 0,
            heard: None,
            rtt: None,
            far: None,
        };
        reports.schedule(now);
        reports
    }

    /// When the next report is due.
    pub fn next(&self) -> Time {
        self.next
    }

    /// The round trip last measured.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// What the far side last said about our stream.
    pub fn far(&self) -> Option<FarReport> {
        self.far
    }

    /// When the far side last sent a sender report.
    pub fn last_heard(&self) -> Option<Time> {
        self.heard.map(|(_, at)| at)
    }

    fn schedule(&mut self, now: Time) {
        let mean = if self.count < EAGER_REPORTS { EAGER_INTERVAL } else { INTERVAL };
        self.next = now + mean.mul_f64(self.rng.random_range(0.5..1.5));
    }

    /// Composes the report that is due and schedules the next: SR, what was heard, CNAME.
    pub fn compose(
        &mut self,
        now: Time,
        ssrc: u32,
        cname: &str,
        sent: Sent,
        block: Option<ReportBlock>,
    ) -> Vec<u8> {
        let ntp = rtcp::ntp(now);
        let info = SenderInfo {
            ssrc,
            ntp,
            timestamp: sent.timestamp,
            // Both counters wrap on the wire.
            packets: sent.packets as u32,
            octets: sent.bytes as u32,
        };
        let block = block.map(|mut b| {
            (b.last_sr, b.delay_since_last_sr) = self.answer(now);
            b
        });
        let mut out = Vec::new();
        rtcp::write_sender_report(&info, block.as_slice(), &mut out);
        rtcp::write_source_description(ssrc, cname, &mut out);
        self.remember(now, ntp);
        self.count = self.count.saturating_add(1);
        self.schedule(now);
        out
    }

    /// LSR and DLSR: which sender report was last heard, and how long ago.
    fn answer(&self, now: Time) -> (u32, u32) {
        let Some((middle, at)) = self.heard else {
            return (0, 0);
        };
        let delay = u128::from(now.as_micros() - at.as_micros().min(now.as_micros())) * 65_536;
        (middle, u32::try_from(delay / 1_000_000).unwrap_or(u32::MAX))
    }

    /// A sender report with this time went out on the leg, ours or one that passed through.
    pub fn remember(&mut self, now: Time, ntp: u64) {
        self.sent[self.sent_at] = Some((rtcp::ntp_middle(ntp), now));
        self.sent_at = (self.sent_at + 1) % REMEMBERED;
    }

    /// Takes the reports of a compound that is about the stream `subject`.
    pub fn hear(&mut self, now: Time, compound: Compound<'_>, subject: u32) {
        for packet in compound.packets() {
            let blocks = match packet {
                Packet::SenderReport(info, blocks) => {
                    self.heard = Some((rtcp::ntp_middle(info.ntp), now));
                    blocks
                }
                Packet::ReceiverReport(_, blocks) => blocks,
                _ => continue,
            };
            blocks.iter().filter(|b| b.ssrc == subject).for_each(|b| self.hear_block(now, &b));
        }
    }

    fn hear_block(&mut self, now: Time, block: &ReportBlock) {
        self.far = Some(FarReport {
            lost: u32::try_from(block.cumulative_lost).unwrap_or(0),
            fraction_lost: block.fraction_lost,
            jitter: block.jitter,
        });
        let known = self.sent.iter().flatten().find(|(middle, _)| *middle == block.last_sr);
        if let Some((_, at)) = known
            && block.last_sr != 0
        {
            let lay = Duration::from_secs_f64(f64::from(block.delay_since_last_sr) / 65_536.0);
            self.rtt = Some(now.since(*at).saturating_sub(lay));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(s: f64) -> Time {
        Time::from_micros((s * 1e6) as u64)
    }

    fn hear(reports: &mut Reports, now: Time, bytes: &[u8], subject: u32) {
        reports.hear(now, Compound::parse(bytes).unwrap(), subject);
    }

    #[test]
    fn the_round_trip_is_what_the_far_side_did_not_keep() {
        let mut near = Reports::new(Time::ZERO, Seed::from_number(1));
        let mut far = Reports::new(Time::ZERO, Seed::from_number(2));
        // Near's report takes 40 ms, lies two seconds at the far side, and the answer takes 60 ms.
        let question = near.compose(secs(1.0), 3, "near", Sent::default(), None);
        hear(&mut far, secs(1.04), &question, 9);
        let block = ReportBlock { ssrc: 2, cumulative_lost: 5, ..ReportBlock::default() };
        let answer = far.compose(secs(3.04), 5, "far", Sent::default(), Some(block));
        hear(&mut near, secs(3.10), &answer, 2);
        let rtt = near.rtt().unwrap().as_secs_f64();
        assert!((rtt - 0.100).abs() < 0.0001, "{rtt}");
        assert_eq!(near.far().unwrap().lost, 5);
        assert_eq!(far.rtt(), None, "near has not answered yet");
    }

    #[test]
    fn an_answer_to_a_report_we_never_sent_measures_nothing() {
        let mut reports = Reports::new(Time::ZERO, Seed::from_number(1));
        let block = ReportBlock { ssrc: 2, last_sr: 77, ..ReportBlock::default() };
        let mut bytes = Vec::new();
        rtcp::write_receiver_report(1, &[block], &mut bytes);
        hear(&mut reports, secs(1.0), &bytes, 2);
        assert_eq!(reports.rtt(), None);
    }

    #[test]
    fn reports_are_eager_first_and_then_every_five_seconds_or_so() {
        let mut reports = Reports::new(Time::ZERO, Seed::from_number(1));
        let mut intervals = Vec::new();
        for _ in 0..200 {
            let due = reports.next();
            reports.compose(due, 1, "x", Sent::default(), None);
            intervals.push((reports.next() - due).as_secs_f64());
        }
        assert!(intervals[..2].iter().all(|i| (0.5..1.5).contains(i)), "{intervals:?}");
        assert!(intervals[2..].iter().all(|i| (2.5..7.5).contains(i)), "{intervals:?}");
        let mean = intervals[2..].iter().sum::<f64>() / 198.0;
        assert!((mean - 5.0).abs() < 0.4, "{mean}");
    }
}
