//! Which numbers of a counter were seen already (RFC 4303, section 3.4.3): a packet counts once.

/// The numbers seen lately: of those up to `64 * (WORDS - 1)` behind the highest each is known.
#[derive(Clone, Copy, Debug)]
pub struct Window<const WORDS: usize = 3> {
    /// One more than the highest number seen.
    next: u64,
    /// A ring: number `n` is bit `n % 64` of word `n / 64 % WORDS`.
    seen: [u64; WORDS],
}

impl<const WORDS: usize> Default for Window<WORDS> {
    fn default() -> Self {
        Window { next: 0, seen: [0; WORDS] }
    }
}

impl<const WORDS: usize> Window<WORDS> {
    /// Numbers behind the highest that may still come late.
    const WIDTH: u64 = 64 * (WORDS as u64 - 1);

    /// The highest number seen.
    pub fn highest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// Whether a number has not been seen, and is not too old to know.
    pub fn is_new(&self, number: u64) -> bool {
        match self.next.checked_sub(number) {
            None | Some(0) => true,
            Some(behind) => behind <= Self::WIDTH && self.seen[Self::word(number)] >> (number % 64) & 1 == 0,
        }
    }

    /// Notes a number whose packet proved genuine.
    pub fn note(&mut self, number: u64) {
        if number >= self.next {
            let last = self.next.saturating_sub(1) / 64;
            let words = (number / 64 - last).min(WORDS as u64);
            (0..words).for_each(|back| self.seen[Self::word(number - 64 * back)] = 0);
            self.next = number.saturating_add(1);
        }
        if self.next - number <= Self::WIDTH {
            self.seen[Self::word(number)] |= 1 << (number % 64);
        }
    }

    fn word(number: u64) -> usize {
        (number / 64 % WORDS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_number_counts_once_in_any_order() {
        let mut window = Window::<3>::default();
        for number in [0, 1, 5, 3, 4, 2, 200, 100] {
            assert!(window.is_new(number), "{number}");
            window.note(number);
            assert!(!window.is_new(number), "{number}");
        }
        assert!(!window.is_new(72), "too far behind 200 to know");
        assert!(window.is_new(73));
        let mut wide = Window::<17>::default();
        wide.note(2_000);
        assert!(wide.is_new(977) && !wide.is_new(976));
        window.note(u64::MAX - 1);
        assert_eq!(window.highest(), Some(u64::MAX - 1));
    }

    proptest::proptest! {
        #[test]
        fn nothing_counts_twice_and_what_is_ahead_counts(numbers in proptest::collection::vec(0u64..400, 0..300)) {
            let (mut window, mut seen) = (Window::<3>::default(), BTreeSet::new());
            for number in numbers {
                let highest = seen.last().copied();
                if window.is_new(number) {
                    window.note(number);
                    proptest::prop_assert!(seen.insert(number));
                } else {
                    let late = highest.is_some_and(|h: u64| h >= number + 128);
                    proptest::prop_assert!(seen.contains(&number) || late);
                }
            }
            proptest::prop_assert_eq!(window.highest(), seen.last().copied());
        }
    }
}
