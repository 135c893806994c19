//! A voice that says digits.
//!
//! `voice/digits.ul` holds the ten of them, zero first, in slots of half a second of μ-law at 8 kHz. It was made with
//! espeak-ng (`espeak-ng -v en-gb -s 150 -p 45 -w D.wav D`) and sox (silence cut off, level at -6 dB).

use crate::g711::Law;

/// Samples in a slot, and so in a spoken digit.
const SLOT: usize = 4_000;

/// Silence after each digit, and after the last.
const PAUSES: (usize, usize) = (1_600, 8_000);

static SPOKEN: &[u8; 10 * SLOT] = include_bytes!("voice/digits.ul");

/// These digits said once, with a pause at the end, as samples at 8 kHz; other characters are pauses.
pub fn digits(text: &str) -> Vec<i16> {
    let mut samples = Vec::with_capacity(text.len() * (SLOT + PAUSES.0) + PAUSES.1);
    for digit in text.chars() {
        if let Some(digit) = digit.to_digit(10) {
            samples.extend(Law::Mu.decode_frame(&SPOKEN[digit as usize * SLOT..][..SLOT]));
        }
        samples.extend([0; PAUSES.0]);
    }
    samples.extend([0; PAUSES.1]);
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    fn energy(samples: &[i16]) -> f64 {
        samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / samples.len() as f64
    }

    #[test]
    fn every_digit_is_loud_and_sounds_unlike_the_others() {
        let spoken: Vec<Vec<i16>> = (0..10).map(|d| digits(&d.to_string())).collect();
        for (digit, samples) in spoken.iter().enumerate() {
            assert_eq!(samples.len(), SLOT + PAUSES.0 + PAUSES.1);
            assert!(energy(&samples[..SLOT]) > 1e6 && energy(&samples[SLOT..]) < 1.0, "{digit}");
            assert!(spoken[..digit].iter().all(|other| other != samples), "{digit}");
        }
    }

    #[test]
    fn digits_come_in_their_order_and_what_is_none_is_a_pause() {
        assert_eq!(digits("47")[..SLOT], digits("4")[..SLOT]);
        assert_eq!(digits("47")[SLOT + PAUSES.0..][..SLOT], digits("7")[..SLOT]);
        assert!(digits("-").iter().all(|s| *s == 0));
    }
}
