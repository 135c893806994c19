//! One number for how it sounds: the E-model (ITU-T G.107), simplified and always an estimate.
//!
//! `R = 93.2 - Id - Ie,eff`, everything not measured being at its default. `Id` is the delay
//! impairment in the linear fit of Cole and Rosenbluth (ACM CCR 31(2), 2001):
//! `0.024 d + 0.11 (d - 177.3)` for the part above 177.3 ms. `Ie,eff` is G.107's
//! `Ie + (95 - Ie) * Ppl / (Ppl / BurstR + Bpl)` with losses taken as independent (`BurstR` 1).
//! MOS follows from R by the cubic of G.107 annex B.
//!
//! `Ie` and `Bpl` are G.113 appendix I's provisional values where it has them (G.711, G.729A, GSM).
//! For G.722 and Opus the narrow-band tables have none, so they get the impairment of a clean codec
//! and the robustness of one with concealment; the result ranks calls, and says nothing about how
//! much better wide-band sounds.

use std::time::Duration;

use crate::reception::Reception;

/// Codecs that the table tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Codec {
    /// G.711, either law, with packet loss concealment.
    G711,
    /// G.722 at 64 kbit/s.
    G722,
    /// G.729 with annex A.
    G729,
    /// Opus.
    Opus,
    /// GSM 06.10 full rate.
    Gsm,
    /// One we have no figures for; judged as G.711.
    #[default]
    Other,
}

impl Codec {
    /// The codec that an SDP encoding name means, in any case of letters.
    pub fn from_encoding_name(name: &str) -> Codec {
        match name.to_ascii_uppercase().as_str() {
            "PCMU" | "PCMA" => Codec::G711,
            "G722" => Codec::G722,
            "G729" => Codec::G729,
            "OPUS" => Codec::Opus,
            "GSM" => Codec::Gsm,
            _ => Codec::Other,
        }
    }

    /// Equipment impairment factor and packet-loss robustness factor.
    fn impairment(self) -> (f64, f64) {
        match self {
            // G.113: G.711 with its appendix I concealment.
            Codec::G711 | Codec::Other => (0.0, 25.1),
            Codec::G729 => (11.0, 19.0),
            // Ie from G.113; Bpl is the enhanced full-rate codec's, its nearest relative there.
            Codec::Gsm => (20.0, 10.0),
            // Ours, see above.
            Codec::G722 | Codec::Opus => (0.0, 25.1),
        }
    }
}

/// How a stream sounds, estimated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Transmission rating factor, 0 to 93.2.
    pub r: f64,
    /// Estimated mean opinion score, 1 to about 4.4.
    pub mos: f64,
}

/// R with nothing impaired: G.107 with every parameter at its default.
const R_UNIMPAIRED: f64 = 93.2;

impl Quality {
    /// The rating of a codec under `loss` (0 to 1) and a one-way delay, mouth to ear.
    pub fn estimate(codec: Codec, loss: f64, delay: Duration) -> Quality {
        let d = delay.as_secs_f64() * 1_000.0;
        let delay_impairment = 0.024 * d + 0.11 * (d - 177.3).max(0.0);
        let (ie, bpl) = codec.impairment();
        let percent = loss.clamp(0.0, 1.0) * 100.0;
        let equipment_impairment = ie + (95.0 - ie) * percent / (percent + bpl);
        let r = (R_UNIMPAIRED - delay_impairment - equipment_impairment).max(0.0);
        Quality { r, mos: mos_of(r) }
    }

    /// The rating of a stream as received over a path with this round trip.
    pub fn of_stream(codec: Codec, reception: &Reception, rtt: Duration) -> Quality {
        let delay = rtt / 2 + receiver_delay(reception.jitter_ms());
        Quality::estimate(codec, reception.loss(), delay)
    }
}

/// G.107 annex B, for R from 0 to 100. The cubic dips below 1 for R under 6.5; 1 is the floor.
fn mos_of(r: f64) -> f64 {
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0)
}

/// What a receiver adds to the path: a packet's worth of samples, and a jitter buffer of twice the
/// jitter but never less than one packet.
pub fn receiver_delay(jitter_ms: f64) -> Duration {
    const PACKET_MS: f64 = 20.0;
    /// A stream with worse jitter is heard through a buffer of this length, as losses.
    const BUFFER_MAX_MS: f64 = 500.0;
    let buffer = (2.0 * jitter_ms).clamp(PACKET_MS, BUFFER_MAX_MS);
    Duration::from_secs_f64((PACKET_MS + buffer) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mos(codec: Codec, loss: f64, ms: u64) -> f64 {
        Quality::estimate(codec, loss, Duration::from_millis(ms)).mos
    }

    #[test]
    fn published_points_of_the_curve_are_met() {
        // G.107: R of 93.2 is MOS 4.41; R of 50 is 2.58.
        assert!((mos(Codec::G711, 0.0, 0) - 4.41).abs() < 0.01);
        assert!((mos_of(50.0) - 2.58).abs() < 0.01);
        assert_eq!(mos_of(0.0), 1.0);
    }

    #[test]
    fn two_percent_loss_costs_g711_what_the_formula_says() {
        // 95 * 2 / (2 + 25.1) = 7.011 and 0.024 * 100 = 2.4.
        let q = Quality::estimate(Codec::G711, 0.02, Duration::from_millis(100));
        assert!((q.r - (93.2 - 7.011 - 2.4)).abs() < 0.001, "{q:?}");
    }

    #[test]
    fn more_loss_and_more_delay_never_sound_better() {
        for codec in [Codec::G711, Codec::G722, Codec::G729, Codec::Opus, Codec::Gsm] {
            for i in 0..100 {
                let (loss, delay) = (f64::from(i) / 100.0, i as u64 * 10);
                assert!(mos(codec, loss + 0.01, delay) <= mos(codec, loss, delay));
                assert!(mos(codec, loss, delay + 10) <= mos(codec, loss, delay));
            }
        }
        assert!(mos(Codec::G729, 0.0, 0) < mos(Codec::G711, 0.0, 0));
    }

    #[test]
    fn a_receiver_waits_for_its_jitter_but_not_for_ever() {
        assert_eq!(receiver_delay(0.0), Duration::from_millis(40));
        assert_eq!(receiver_delay(30.0), Duration::from_millis(80));
        assert_eq!(receiver_delay(1e9), Duration::from_millis(520));
    }
}
