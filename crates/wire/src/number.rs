//! A number for every key: what a keypad can dial to reach a stranger, and nobody in their place.
//!
//! ```text
//! stretch = the first 16 bytes of Argon2id(key): 64 MiB, three passes, one lane, salt "openvoip number 1"
//! number  = 89 ‖ twelve digits: SHA-256("openvoip number 1" ‖ 0 ‖ key ‖ stretch), its first 64 bits mod 10^12 ‖ check digit
//! ```
//!
//! Twelve digits are few: whoever makes 10^12 keys has one for any of them. So each key costs 64 MiB for a sixth of
//! a second (`docs/security.md` does the sum). Two steps, since not everybody can pay that for every record: with the
//! stretch beside the key anybody sees in a microsecond that the two make this number, and a peer that holds records
//! keeps no others; that the stretch is the key's, whoever dials finds out.
//!
//! The check digit is Damm's (2004): it finds every wrong digit, and every two neighbours in the wrong order, in what
//! every number begins with too: one slip away from a number is none, and no name either. 15 digits
//! are what networks carry at most (ITU-T E.164), where no country has 89. No call sign is dialled so: that takes an
//! even number of digits, and no letter stands ninth on a key (`node/dial.rs`).

use std::fmt;
use std::str::FromStr;

use argon2::{Algorithm, Argon2, Params, Version};

use crate::{HashAlgorithm, PublicKey, ResourceId};

const SALT: &[u8; 17] = b"openvoip number 1";

/// Memory in kibibytes, and how often it is gone over.
const COST: (u32, u32) = (64 << 10, 3);

/// What every number begins with.
const PREFIX: &str = "89";

/// Digits after the prefix and before the check digit, and the numbers that they give.
const DIGITS: usize = 12;
const NUMBERS: u64 = 1_000_000_000_000;

/// Digits in all.
pub const LEN: usize = PREFIX.len() + DIGITS + 1;

/// Damm's quasigroup of order ten.
const DAMM: [[u8; 10]; 10] = [
    [0, 3, 1, 7, 5, 9, 8, 6, 4, 2],
    [7, 0, 9, 2, 1, 5, 4, 8, 6, 3],
    [4, 2, 0, 6, 8, 7, 1, 3, 5, 9],
    [1, 7, 5, 0, 9, 8, 3, 4, 2, 6],
    [6, 1, 2, 3, 0, 4, 5, 9, 7, 8],
    [3, 6, 7, 4, 2, 0, 9, 5, 8, 1],
    [5, 8, 6, 9, 7, 2, 0, 1, 3, 4],
    [8, 9, 4, 5, 3, 6, 2, 0, 1, 7],
    [9, 4, 3, 8, 6, 1, 7, 2, 0, 5],
    [2, 5, 8, 1, 4, 3, 6, 7, 9, 0],
];

/// What a key costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch(pub [u8; Stretch::LEN]);

impl Stretch {
    /// Width in bytes.
    pub const LEN: usize = 16;

    /// That of a key. Takes 64 MiB, which are free again at the end, and a good part of a second: never to be done
    /// where packets wait. Nothing where there is no such memory.
    pub fn of(key: &PublicKey) -> Option<Stretch> {
        let (memory, passes) = COST;
        let params = Params::new(memory, passes, 1, Some(Self::LEN)).ok()?;
        let mut stretch = [0; Self::LEN];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(&key.0, SALT, &mut stretch).ok()?;
        Some(Stretch(stretch))
    }
}

/// The number of a key: its twelve digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(u64);

impl Number {
    /// That of a key which costs `stretch`.
    pub fn of(key: &PublicKey, stretch: &Stretch) -> Number {
        let hash = HashAlgorithm::Sha256.digest(&[&SALT[..], &[0], &key.0, &stretch.0].concat());
        Number(hash.head() % NUMBERS)
    }

    /// As it is dialled.
    pub fn digits(&self) -> String {
        let digits = format!("{PREFIX}{:0DIGITS$}", self.0);
        format!("{digits}{}", damm(&digits))
    }

    /// Where the records of those who claim it stand.
    pub fn place(&self, hash: HashAlgorithm) -> ResourceId {
        ResourceId(hash.digest(format!("number:{}", self.digits()).as_bytes()))
    }
}

/// In groups of four, to be read and said.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digits();
        let groups: Vec<&str> = (0..LEN).step_by(4).map(|at| &digits[at..LEN.min(at + 4)]).collect();
        f.write_str(&groups.join(" "))
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.digits())
    }
}

/// Why digits that begin like a number are none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotANumber {
    /// They begin otherwise, or there are far too few or many: something else is meant.
    #[error("no number begins so")]
    Other,
    /// Digits were left out, or typed twice.
    #[error("a number has {LEN} digits, and this has {0}")]
    Length(usize),
    /// The check digit does not fit.
    #[error("a digit of this number is wrong, or two are in the wrong order")]
    Digit,
}

impl FromStr for Number {
    type Err = NotANumber;

    /// Reads digits without anything between them.
    fn from_str(text: &str) -> Result<Number, NotANumber> {
        if is_a_slip_at_the_beginning(text) {
            return Err(NotANumber::Digit);
        }
        // Two digits too few or too many are a slip; names made of digits look otherwise.
        let is_meant = text.starts_with(PREFIX) && text.len().abs_diff(LEN) <= 2;
        if !is_meant || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotANumber::Other);
        }
        if text.len() != LEN {
            return Err(NotANumber::Length(text.len()));
        }
        if damm(text) != 0 {
            return Err(NotANumber::Digit);
        }
        let digits = &text[PREFIX.len()..LEN - 1];
        digits.parse().map(Number).map_err(|_| NotANumber::Other)
    }
}

/// Whether digits do not begin like a number, and would be one but for a wrong digit there or two neighbours in the
/// wrong order.
fn is_a_slip_at_the_beginning(text: &str) -> bool {
    let is_read = text.len() == LEN && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with(PREFIX);
    let (first, rest) = text.split_at_checked(PREFIX.len()).filter(|_| is_read).unwrap_or_default();
    let is_number = |digits: &str| digits.starts_with(PREFIX) && damm(digits) == 0;
    match first.as_bytes() {
        b"98" => is_number(&format!("{PREFIX}{rest}")),
        [b'8', second] => {
            // The second is wrong, or stands in the third place.
            let swapped = || format!("8{}{}{}", &rest[..1], char::from(*second), &rest[1..]);
            is_number(&format!("{PREFIX}{rest}")) || is_number(&swapped())
        }
        [_, b'9'] => is_number(&format!("{PREFIX}{rest}")),
        _ => false,
    }
}

/// The digit that goes behind these; 0 behind those that end with it.
fn damm(digits: &str) -> u8 {
    digits.bytes().fold(0, |state, digit| DAMM[usize::from(state)][usize::from(digit - b'0')])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{KeyPair, Seed};

    /// Golden: the reference implementation of Argon2, in C, comes to the same.
    #[test]
    fn a_key_has_its_number_whoever_works_it_out() {
        for (seed, stretch, number) in [
            (1, "2b92b8feebd9915aec6e754e5fa0ce14", "8919 1396 9007 917"),
            (2, "ca14b84ce9a4bb3b886d5c9df589c1ff", "8916 5779 5528 214"),
        ] {
            let key = KeyPair::from_seed(Seed([seed; 32])).public();
            let found = Stretch::of(&key).unwrap();
            assert_eq!(data_encoding::HEXLOWER.encode(&found.0), stretch, "{key}");
            assert_eq!(Number::of(&key, &found).to_string(), number);
        }
    }

    #[test]
    fn the_check_digit_is_damms() {
        assert_eq!(damm("572"), 4, "the example of the thesis");
        assert_eq!(damm("5724"), 0);
    }

    #[test]
    fn other_digits_are_names() {
        for digits in ["391234567890123", "112", "00391234567890", "912345678901234"] {
            assert_eq!(digits.parse::<Number>(), Err(NotANumber::Other), "{digits}");
        }
    }

    #[test]
    fn another_stretch_makes_another_number() {
        let key = KeyPair::from_seed(Seed([1; 32])).public();
        assert_ne!(Number::of(&key, &Stretch([1; 16])), Number::of(&key, &Stretch([2; 16])));
    }

    proptest! {
        #[test]
        fn a_number_is_read_as_it_is_dialled(n in 0..NUMBERS) {
            let number = Number(n);
            prop_assert_eq!(number.digits().len(), LEN);
            prop_assert_eq!(number.digits().parse(), Ok(number));
            prop_assert_eq!(number.to_string().replace(' ', "").parse(), Ok(number));
        }

        #[test]
        fn a_wrong_digit_is_told(n in 0..NUMBERS, at in 0..LEN, by in 1u8..10) {
            let mut digits = Number(n).digits().into_bytes();
            digits[at] = (digits[at] - b'0' + by) % 10 + b'0';
            prop_assert_eq!(String::from_utf8(digits).unwrap().parse::<Number>(), Err(NotANumber::Digit));
        }

        #[test]
        fn two_neighbours_in_the_wrong_order_are_told(n in 0..NUMBERS, at in 0..LEN - 1) {
            let mut digits = Number(n).digits().into_bytes();
            prop_assume!(digits[at] != digits[at + 1]);
            digits.swap(at, at + 1);
            prop_assert_eq!(String::from_utf8(digits).unwrap().parse::<Number>(), Err(NotANumber::Digit));
        }

        #[test]
        fn a_digit_too_few_or_too_many_is_told(n in 0..NUMBERS, at in PREFIX.len()..LEN) {
            let digits = Number(n).digits();
            let (before, after) = digits.split_at(at);
            let short = format!("{before}{}", &after[1..]);
            prop_assert_eq!(short.parse::<Number>(), Err(NotANumber::Length(LEN - 1)));
            prop_assert_eq!(format!("{before}0{after}").parse::<Number>(), Err(NotANumber::Length(LEN + 1)));
        }

        #[test]
        fn whatever_is_typed_is_a_number_or_none(text in "89[0-9]{0,20}|\\PC{0,20}") {
            if let Ok(number) = text.parse::<Number>() {
                prop_assert_eq!(number.digits(), text);
            }
        }
    }
}
