//! What payload types mean, as far as a peer must know: a clock to time them by, and a codec to
//! judge them by. Everything else about a payload is between the phones.

use crate::Codec;

/// One payload type of an m-line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadType {
    /// Which codec, for the E-model.
    pub codec: Codec,
    /// Ticks of its timestamp per second.
    pub clock: u32,
    /// Whether arrival times say something: not for events, whose timestamp stands still.
    pub timed: bool,
}

/// The 128 payload types of a session, known ones filled in (RFC 3551 tables 4 and 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadTypes(Box<[PayloadType; 128]>);

impl Default for PayloadTypes {
    fn default() -> Self {
        let unknown = PayloadType { codec: Codec::Other, clock: 8_000, timed: true };
        let mut types = PayloadTypes(Box::new([unknown; 128]));
        for (number, name, clock) in [
            (0, "PCMU", 8_000),
            (3, "GSM", 8_000),
            (6, "DVI4", 16_000),
            (8, "PCMA", 8_000),
            (9, "G722", 8_000),
            (10, "L16", 44_100),
            (11, "L16", 44_100),
            (14, "MPA", 90_000),
            (16, "DVI4", 11_025),
            (17, "DVI4", 22_050),
            (18, "G729", 8_000),
        ] {
            types.set(number, name, clock);
        }
        // 25 to 34: the static video types.
        (25..=34).for_each(|number| types.set(number, "video", 90_000));
        types
    }
}

impl PayloadTypes {
    /// Records an `a=rtpmap`: a number, an encoding name and its clock. Numbers above 127 and a
    /// clock of zero say nothing and change nothing.
    pub fn set(&mut self, number: u8, encoding: &str, clock: u32) {
        let Some(slot) = self.0.get_mut(usize::from(number)) else {
            return;
        };
        if clock > 0 {
            let timed = !encoding.eq_ignore_ascii_case("telephone-event");
            *slot = PayloadType { codec: Codec::from_encoding_name(encoding), clock, timed };
        }
    }

    /// What a payload type means; only its low seven bits count.
    #[inline]
    pub fn get(&self, number: u8) -> PayloadType {
        self.0[usize::from(number & 0x7f)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_types_are_known_and_dynamic_ones_can_be_told() {
        let mut types = PayloadTypes::default();
        assert_eq!(types.get(9).clock, 8_000, "G.722 keeps the clock RFC 3551 gave it by mistake");
        assert_eq!(types.get(34).clock, 90_000);
        types.set(111, "opus", 48_000);
        types.set(101, "telephone-event", 8_000);
        types.set(200, "x", 1);
        types.set(0, "PCMU", 0);
        let opus = PayloadType { codec: Codec::Opus, clock: 48_000, timed: true };
        assert_eq!(types.get(111), opus);
        assert!(!types.get(101).timed);
        assert_eq!(types.get(0).clock, 8_000);
    }
}
