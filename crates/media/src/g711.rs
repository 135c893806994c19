//! G.711: eight bits a sample, the codec every phone has.
//!
//! Both laws cut the amplitude into eight segments, each twice as wide as the one below, of sixteen
//! steps each; a code is sign, segment and step. mu-law works on 14 bits and A-law on 13, both
//! scaled here to 16-bit samples. mu-law codes travel inverted, A-law codes with every second bit
//! inverted, so that silence has enough ones for the lines of 1972.

/// Which of the two laws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Law {
    /// PCMU, North America and Japan; static payload type 0.
    #[default]
    Mu,
    /// PCMA, everywhere else; static payload type 8.
    A,
}

/// Added to a mu-law magnitude so that every segment starts at a power of two.
const MU_BIAS: i32 = 0x84;
/// The largest magnitude that mu-law can say.
const MU_CLIP: i32 = 32_635;

impl Law {
    /// The static payload type (RFC 3551 table 4).
    pub fn payload_type(self) -> u8 {
        match self {
            Law::Mu => 0,
            Law::A => 8,
        }
    }

    /// The law that a static payload type names.
    pub fn of_payload_type(payload_type: u8) -> Option<Law> {
        match payload_type {
            0 => Some(Law::Mu),
            8 => Some(Law::A),
            _ => None,
        }
    }

    /// Its name in SDP.
    pub fn name(self) -> &'static str {
        match self {
            Law::Mu => "PCMU",
            Law::A => "PCMA",
        }
    }

    /// The code nearest to a sample.
    pub fn encode(self, sample: i16) -> u8 {
        match self {
            Law::Mu => encode_mu(sample),
            Law::A => encode_a(sample),
        }
    }

    /// The sample that a code stands for.
    pub fn decode(self, code: u8) -> i16 {
        match self {
            Law::Mu => decode_mu(code),
            Law::A => decode_a(code),
        }
    }

    /// A frame of samples as a payload.
    pub fn encode_frame(self, samples: &[i16]) -> Vec<u8> {
        samples.iter().map(|s| self.encode(*s)).collect()
    }

    /// A payload as samples.
    pub fn decode_frame(self, payload: &[u8]) -> Vec<i16> {
        payload.iter().map(|c| self.decode(*c)).collect()
    }
}

fn encode_mu(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(MU_CLIP) + MU_BIAS;
    // The bias puts the leading one at bit 7 (lowest segment) to bit 14 (highest).
    let segment = 24 - magnitude.leading_zeros();
    let step = (magnitude >> (segment + 3)) & 0x0f;
    !(sign | (segment << 4) as u8 | step as u8)
}

fn decode_mu(code: u8) -> i16 {
    let code = !code;
    let segment = u32::from(code >> 4) & 7;
    let magnitude = ((i32::from(code & 0x0f) * 8 + MU_BIAS) << segment) - MU_BIAS;
    (if code & 0x80 != 0 { -magnitude } else { magnitude }) as i16
}

fn encode_a(sample: i16) -> u8 {
    // Positive codes have the sign bit set; a negative value is its ones' complement.
    let (sign, value) = if sample >= 0 { (0x80, i32::from(sample)) } else { (0, !i32::from(sample)) };
    let segment = (24 - (value | 0xff).leading_zeros()).min(7);
    let step = (value >> if segment == 0 { 4 } else { segment + 3 }) & 0x0f;
    (sign | (segment << 4) as u8 | step as u8) ^ 0x55
}

fn decode_a(code: u8) -> i16 {
    let code = code ^ 0x55;
    let (segment, step) = (u32::from(code >> 4) & 7, i32::from(code & 0x0f));
    let magnitude = match segment {
        0 => step * 16 + 8,
        _ => (step * 16 + 0x108) << (segment - 1),
    };
    (if code & 0x80 != 0 { magnitude } else { -magnitude }) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mu_law_decodes_to_the_published_values() {
        // G.711 table 2a: decoder output values, scaled by four to sixteen bits.
        for (code, value) in [
            (0x80, 8031 * 4),
            (0x8f, 4191 * 4),
            (0x9f, 2079 * 4),
            (0xaf, 1023 * 4),
            (0xbf, 495 * 4),
            (0xcf, 231 * 4),
            (0xdf, 99 * 4),
            (0xef, 33 * 4),
            (0xfe, 2 * 4),
            (0xff, 0),
            (0x00, -8031 * 4),
            (0x7e, -2 * 4),
        ] {
            assert_eq!(i32::from(Law::Mu.decode(code)), value, "{code:#x}");
        }
    }

    #[test]
    fn a_law_decodes_to_the_published_values() {
        // G.711 table 1a: decoder output values, scaled by eight to sixteen bits, and the even bits
        // of the character signal inverted.
        for (code, value) in [
            (0b1111_1111u8, 4032 * 8),
            (0b1111_0000, 2112 * 8),
            (0b1110_0000, 1056 * 8),
            (0b1101_0000, 528 * 8),
            (0b1100_0000, 264 * 8),
            (0b1011_0000, 132 * 8),
            (0b1010_0000, 66 * 8),
            (0b1001_0000, 33 * 8),
            (0b1000_0000, 8),
            (0b0000_0000, -8),
            (0b0111_1111, -4032 * 8),
        ] {
            assert_eq!(i32::from(Law::A.decode(code ^ 0x55)), value, "{code:#b}");
        }
    }

    #[test]
    fn every_code_survives_decoding_and_encoding() {
        for law in [Law::Mu, Law::A] {
            for code in 0..=255 {
                // mu-law has two zeros; the negative one comes back positive.
                let expected = if law == Law::Mu && code == 0x7f { 0xff } else { code };
                assert_eq!(law.encode(law.decode(code)), expected, "{law:?} {code:#x}");
            }
        }
    }

    #[test]
    fn every_sample_comes_back_within_half_a_step() {
        for law in [Law::Mu, Law::A] {
            for sample in i16::MIN..=i16::MAX {
                let back = i32::from(law.decode(law.encode(sample)));
                let magnitude = i32::from(sample).abs();
                // A step is a sixteenth of its segment; beyond the top the code clips.
                let bound = (magnitude / 32 + 8).max((magnitude - 32_256) * 2);
                assert!((back - i32::from(sample)).abs() <= bound, "{law:?} {sample} {back}");
            }
        }
    }
}
