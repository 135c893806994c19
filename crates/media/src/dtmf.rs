//! Digits as RTP events (RFC 4733).
//!
//! A key press is one event: packets every 20 ms with the timestamp of its beginning and a growing
//! duration, the last said three times with the end bit. [`Presses`] turns packets back into one
//! digit each, whatever was lost of them.

/// The sixteen digits, in the order of their event codes (RFC 4733 section 3.2).
const DIGITS: &[u8; 16] = b"0123456789*#ABCD";

/// The payload of a telephone-event packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPayload {
    /// The event code; 0 to 15 are digits.
    pub event: u8,
    /// The event is over, and `duration` final.
    pub end: bool,
    /// Level below 0 dBm0, 0 to 63.
    pub volume: u8,
    /// Timestamp units since the event began.
    pub duration: u16,
}

impl EventPayload {
    /// The first event in a payload; `None` if there is none.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let [event, flags, high, low, ..] = payload else {
            return None;
        };
        Some(EventPayload {
            event: *event,
            end: flags & 0x80 != 0,
            volume: flags & 0x3f,
            duration: u16::from_be_bytes([*high, *low]),
        })
    }

    /// Its four bytes.
    pub fn to_bytes(self) -> [u8; 4] {
        let [high, low] = self.duration.to_be_bytes();
        [self.event, (u8::from(self.end) << 7) | (self.volume & 0x3f), high, low]
    }
}

/// The event code of a digit: `0`-`9`, `*`, `#`, `A`-`D` in either case.
pub fn event_of(digit: char) -> Option<u8> {
    let wanted = u8::try_from(digit).ok()?.to_ascii_uppercase();
    DIGITS.iter().position(|d| *d == wanted).map(|i| i as u8)
}

/// The digit of an event code.
pub fn digit_of(event: u8) -> Option<char> {
    DIGITS.get(usize::from(event)).map(|d| char::from(*d))
}

/// Packets into key presses: each event counts once, at the first of its packets that arrives.
#[derive(Debug, Clone, Default)]
pub struct Presses {
    /// Timestamp and code of the last event counted.
    last: Option<(u32, u8)>,
}

impl Presses {
    /// Takes a telephone-event packet; returns the digit if it begins a press.
    pub fn digit(&mut self, timestamp: u32, payload: &[u8]) -> Option<char> {
        let event = EventPayload::parse(payload)?.event;
        let digit = digit_of(event)?;
        if self.last == Some((timestamp, event)) {
            return None;
        }
        self.last = Some((timestamp, event));
        Some(digit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_digit_has_its_golden_bytes() {
        let five = EventPayload { event: 5, end: true, volume: 10, duration: 800 };
        assert_eq!(five.to_bytes(), [0x05, 0x8a, 0x03, 0x20]);
        assert_eq!(EventPayload::parse(&[0x05, 0x8a, 0x03, 0x20]), Some(five));
        assert_eq!(EventPayload::parse(&[5, 0, 0]), None);
    }

    #[test]
    fn digits_and_codes_agree() {
        for digit in "0123456789*#ABCD".chars() {
            assert_eq!(event_of(digit).and_then(digit_of), Some(digit));
        }
        assert_eq!((event_of('b'), event_of('x'), event_of('€')), (Some(13), None, None));
        assert_eq!(digit_of(16), None, "hook flash is no digit");
    }

    #[test]
    fn a_press_counts_once_however_many_packets_say_it() {
        let mut presses = Presses::default();
        let packet = EventPayload { event: 1, end: false, volume: 10, duration: 160 }.to_bytes();
        assert_eq!(presses.digit(100, &packet), Some('1'));
        assert_eq!(presses.digit(100, &packet), None);
        assert_eq!(presses.digit(2_000, &packet), Some('1'), "pressed again");
    }

    proptest! {
        #[test]
        fn any_payload_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..8)) {
            if let Some(event) = EventPayload::parse(&bytes) {
                prop_assert_eq!(EventPayload::parse(&event.to_bytes()), Some(event));
            }
            let _ = Presses::default().digit(0, &bytes);
        }
    }
}
