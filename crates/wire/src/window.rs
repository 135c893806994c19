//! Which numbers of a counter were seen already (RFC 4303, section 3.4.3): a packet counts once.

/// Numbers behind the highest that may still come late.
const WIDTH: u64 = 128;

/// The numbers seen lately.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// One more than the highest number seen.
    next: u64,
    /// The highest number is the lowest bit.
    seen: u128,
}

impl Window {
    /// The highest number seen.
    pub fn highest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// Whether a number has not been seen, and is not too old to know.
    pub fn is_new(&self, number: u64) -> bool {
        match self.next.checked_sub(number) {
            None | Some(0) => true,
            Some(behind) => behind <= WIDTH && self.seen >> (behind - 1) & 1 == 0,
        }
    }

    /// Notes a number whose packet proved genuine.
    pub fn note(&mut self, number: u64) {
        match self.next.checked_sub(number) {
            None | Some(0) => {
                let ahead = u32::try_from(number - self.next).unwrap_or(u32::MAX).saturating_add(1);
                self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
                self.next = number.saturating_add(1);
            }
            Some(behind) if behind <= WIDTH => self.seen |= 1 << (behind - 1),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_number_counts_once_in_any_order() {
        let mut window = Window::default();
        for number in [0, 1, 5, 3, 4, 2, 200, 100] {
            assert!(window.is_new(number), "{number}");
            window.note(number);
            assert!(!window.is_new(number), "{number}");
        }
        assert!(!window.is_new(72), "too far behind 200 to know");
        assert!(window.is_new(73));
        window.note(u64::MAX - 1);
        assert_eq!(window.highest(), Some(u64::MAX - 1));
    }

    proptest::proptest! {
        #[test]
        fn nothing_counts_twice_and_what_is_ahead_counts(numbers in proptest::collection::vec(0u64..400, 0..300)) {
            let (mut window, mut seen) = (Window::default(), BTreeSet::new());
            for number in numbers {
                let highest = seen.last().copied();
                if window.is_new(number) {
                    window.note(number);
                    proptest::prop_assert!(seen.insert(number));
                } else {
                    proptest::prop_assert!(highest.is_some_and(|h: u64| h >= number));
                }
            }
            proptest::prop_assert_eq!(window.highest(), seen.last().copied());
        }
    }
}
