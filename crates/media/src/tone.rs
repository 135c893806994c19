//! Tones made and tones recognised: how a test knows that a call was *heard*.
//!
//! A talker plays a sine; at the far end [`heard`] listens to the decoded samples and says for how
//! long that pitch sounded, how pure, and how often it broke off. Packets that arrived are not sound
//! that was heard, so tests judge by this.

use std::f64::consts::TAU;

/// An endless sine wave.
#[derive(Debug, Clone)]
pub struct Sine {
    phase: f64,
    step: f64,
    amplitude: f64,
}

impl Sine {
    /// A sine of `hz` at `rate` samples per second, with a peak of `amplitude` (at most 32767).
    pub fn new(hz: f64, rate: u32, amplitude: f64) -> Sine {
        let step = if hz.is_finite() { TAU * hz / f64::from(rate.max(1)) } else { 0.0 };
        Sine { phase: 0.0, step, amplitude: amplitude.clamp(0.0, 32_767.0) }
    }
}

impl Iterator for Sine {
    type Item = i16;

    fn next(&mut self) -> Option<i16> {
        let sample = (self.phase.sin() * self.amplitude).round() as i16;
        self.phase = (self.phase + self.step) % TAU;
        Some(sample)
    }
}

/// How much of one frequency is in some samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// The part of the power, 0 to 1.
    pub power: f64,
    /// The phase at the first sample, in radians.
    pub phase: f64,
}

/// Goertzel's detector: the share of `hz` in the power of `samples`. Exact up to the leakage of a
/// window that does not hold whole cycles.
pub fn goertzel(samples: &[i16], rate: u32, hz: f64) -> Share {
    let w = TAU * hz / f64::from(rate.max(1));
    let coefficient = 2.0 * w.cos();
    let (mut s1, mut s2, mut energy) = (0.0, 0.0, 0.0);
    for sample in samples {
        let x = f64::from(*sample);
        energy += x * x;
        (s1, s2) = (x + coefficient * s1 - s2, s1);
    }
    if energy == 0.0 {
        return Share { power: 0.0, phase: 0.0 };
    }
    // The filter's state, turned back to the phase of the first sample.
    let (re, im) = (s1 - s2 * w.cos(), s2 * w.sin());
    let last = w * (samples.len() as f64 - 1.0);
    let magnitude = re * re + im * im;
    let power = (2.0 * magnitude / (energy * samples.len() as f64)).min(1.0);
    Share { power, phase: im.atan2(re) - last }
}

/// What a listener for one pitch heard.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Heard {
    /// How long the tone sounded.
    pub seconds: f64,
    /// The tone's share of all power in the recording, 0 to 1.
    pub purity: f64,
    /// How often it broke off and came back.
    pub gaps: u32,
}

impl Heard {
    /// Whether this is a tone heard well: at least `seconds` of it, and nearly nothing else.
    pub fn at_least(&self, seconds: f64) -> bool {
        self.seconds >= seconds && self.purity >= DOMINANT
    }
}

/// The tone is dominant when it has this share of a window's power.
const DOMINANT: f64 = 0.9;
/// How far off the pitch may be.
const PITCH_TOLERANCE: f64 = 0.01;
/// Mean square below which a window is silent: about -60 dB of full scale, above G.711's idle noise.
const SILENT_POWER: f64 = 32.0 * 32.0;
/// Cycles in half a window. A pitch that is off by the tolerance turns a quarter cycle between the
/// halves, far enough to be measured and not so far as to be mistaken.
const HALF_CYCLES: f64 = 25.0;
/// Half a window in seconds, whatever the cycles: short enough to find a lost packet.
const HALF_SECONDS: (f64, f64) = (0.010, 0.060);

/// Listens for a tone of `hz`: window by window, is it the dominant frequency, within 1 %?
pub fn heard(samples: &[i16], rate: u32, hz: f64) -> Heard {
    let half_seconds = (HALF_CYCLES / hz).clamp(HALF_SECONDS.0, HALF_SECONDS.1);
    let half = ((half_seconds * f64::from(rate)) as usize).max(1);
    let mut heard = Heard::default();
    let (mut all_power, mut tone_power) = (0.0, 0.0);
    let (mut sounded, mut broken) = (false, false);
    for window in samples.chunks_exact(2 * half) {
        let power = window.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
        let share = if power / (window.len() as f64) < SILENT_POWER {
            0.0
        } else {
            share_of_pitch(window, half, rate, hz)
        };
        all_power += power;
        tone_power += power * share;
        if share >= DOMINANT {
            heard.seconds += window.len() as f64 / f64::from(rate.max(1));
            heard.gaps += u32::from(broken);
            (sounded, broken) = (true, false);
        } else {
            broken = sounded;
        }
    }
    heard.purity = if all_power > 0.0 { tone_power / all_power } else { 0.0 };
    heard
}

/// The share of the tone in one window, at the pitch it really has; zero if that is not `hz`.
fn share_of_pitch(window: &[i16], half: usize, rate: u32, hz: f64) -> f64 {
    let (first, second) = (goertzel(&window[..half], rate, hz), goertzel(&window[half..], rate, hz));
    // A true `hz` turns by exactly this much from one half to the next; the rest is pitch error.
    let expected = TAU * hz * half as f64 / f64::from(rate);
    let turn = (second.phase - first.phase - expected + TAU / 2.0).rem_euclid(TAU) - TAU / 2.0;
    let error = turn * f64::from(rate) / (TAU * half as f64);
    if error.abs() > PITCH_TOLERANCE * hz {
        return 0.0;
    }
    goertzel(window, rate, hz + error).power
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Law;

    fn sine(hz: f64, seconds: f64) -> Vec<i16> {
        Sine::new(hz, 8_000, 8_000.0).take((8_000.0 * seconds) as usize).collect()
    }

    #[test]
    fn a_tone_is_heard_through_g711() {
        for law in [Law::Mu, Law::A] {
            for hz in [200.0, 440.0, 1_000.0, 1_004.0, 3_000.0] {
                let line = law.decode_frame(&law.encode_frame(&sine(hz, 2.0)));
                let heard = heard(&line, 8_000, hz);
                assert!(heard.seconds > 1.85 && heard.gaps == 0, "{hz} {heard:?}");
                assert!(heard.purity > 0.99, "{hz} {heard:?}");
            }
        }
    }

    #[test]
    fn a_pitch_within_one_percent_passes_and_beyond_does_not() {
        for hz in [300.0, 440.0, 1_000.0, 2_000.0] {
            assert!(heard(&sine(hz * 1.006, 1.0), 8_000, hz).at_least(0.8), "{hz}");
            for off in [0.94, 0.98, 1.02, 1.05, 2.0] {
                let wrong = heard(&sine(hz * off, 1.0), 8_000, hz);
                assert!(wrong.seconds < 0.2, "{hz} x {off}: {wrong:?}");
            }
        }
    }

    #[test]
    fn silence_and_noise_are_not_a_tone() {
        assert_eq!(heard(&[0; 8_000], 8_000, 440.0), Heard::default());
        assert_eq!(heard(&sine(440.0, 0.01), 8_000, 440.0), Heard::default(), "too short");
        let mut state = 1u32;
        let noise: Vec<i16> = (0..8_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 18) as i16 - 8_192
            })
            .collect();
        assert!(heard(&noise, 8_000, 440.0).seconds == 0.0);
    }

    #[test]
    fn a_second_voice_spoils_the_purity() {
        let mixed: Vec<i16> =
            sine(440.0, 1.0).iter().zip(sine(700.0, 1.0)).map(|(a, b)| a / 2 + b / 2).collect();
        let heard = heard(&mixed, 8_000, 440.0);
        assert!(heard.seconds == 0.0 && heard.purity < 0.6, "{heard:?}");
    }

    #[test]
    fn lost_packets_are_counted_as_gaps() {
        let mut line = sine(440.0, 3.0);
        line[8_000..8_480].fill(0);
        line[16_000..16_480].fill(0);
        let heard = heard(&line, 8_000, 440.0);
        assert_eq!(heard.gaps, 2, "{heard:?}");
        assert!(heard.seconds > 2.3 && heard.seconds < 2.9, "{heard:?}");
    }

    #[test]
    fn goertzel_finds_power_and_phase() {
        let share = goertzel(&sine(1_000.0, 0.1), 8_000, 1_000.0);
        assert!(share.power > 0.999, "{share:?}");
        // A sine starts a quarter turn behind a cosine.
        assert!((share.phase.rem_euclid(TAU) - 0.75 * TAU).abs() < 0.01, "{share:?}");
        assert!(goertzel(&sine(500.0, 0.1), 8_000, 1_000.0).power < 1e-6);
    }

    proptest! {
        #[test]
        fn any_samples_are_judged(
            samples in prop::collection::vec(any::<i16>(), 0..2_000), hz in 20.0f64..20_000.0,
        ) {
            let heard = heard(&samples, 8_000, hz);
            prop_assert!((0.0..=1.0).contains(&heard.purity));
        }
    }
}
