//! What a keypad dials: digits that stand for a name.
//!
//! A desk phone has no letters. What it dials means, and the first that fits counts:
//!
//! 1. a user of this peer whose name is made of digits, as always;
//! 2. a short code: the owner's word that these keys are that person;
//! 3. the longest prefix: what follows it is put into the name that the owner wrote for it;
//! 4. a call sign by the rule of HAMNET, as a user of our own domain;
//! 5. the number of a key (`numbers.rs`), which no call sign begins like;
//! 6. a name made of digits somewhere in the overlay, as always.
//!
//! HAMNET's rule needs no registry: a letter is its key and its place on that key, a digit is itself
//! and 0, so IN3FQQ is 43 62 30 33 72 72. What comes out of a rule is a name and not dialled again.
//! Rules are for those who dial at this peer; another peer's request says whom it means. So a blind
//! transfer to digits means what they mean at the peer of the phone that is transferred.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::config::is_name;
use crate::directory::canonical_aor;

/// Most keys dialled in a row.
const MAX_KEYS: usize = 40;

/// Signs of a call sign. The shortest are like G5A, the longest are those of special occasions.
const SIGNS: RangeInclusive<usize> = 3..=12;

/// The letters on each key.
const LETTERS: [&str; 10] = ["", "", "abc", "def", "ghi", "jkl", "mno", "pqrs", "tuv", "wxyz"];

/// Short codes and prefixes of one peer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Rules {
    /// Names by the keys that stand for them.
    pub short: BTreeMap<String, String>,
    /// By the keys that come first: a name with `*` where the rest goes, or the call sign that it is.
    pub prefixes: BTreeMap<String, String>,
}

impl Rules {
    /// The name that dialled keys mean at a peer of the domain `home`, if they are not a name themselves.
    pub fn name(&self, keys: &str, home: &str) -> Option<String> {
        if !is_dialled(keys) {
            return None;
        }
        let name = match (self.short.get(keys), self.longest_prefix(keys)) {
            (Some(name), _) => name.clone(),
            (None, Some((pattern, rest))) => {
                pattern.replacen('*', &call_sign(rest).unwrap_or_else(|| rest.to_owned()), 1)
            }
            (None, None) => call_sign(keys)?,
        };
        Some(canonical_aor(&name, home))
    }

    fn longest_prefix<'a>(&self, keys: &'a str) -> Option<(&String, &'a str)> {
        (1..keys.len()).rev().find_map(|len| {
            let (prefix, rest) = keys.split_at(len);
            Some((self.prefixes.get(prefix)?, rest))
        })
    }

    /// What is wrong with rules that no keypad can dial or that lead to no name, each with its key in the
    /// configuration.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let short = self.short.iter().map(|(keys, name)| ("dial.short", problem(keys, name, false)));
        let prefixes = self.prefixes.iter().map(|(keys, name)| ("dial.prefixes", problem(keys, name, true)));
        short.chain(prefixes).filter_map(|(key, problem)| Some((key, problem?))).collect()
    }
}

/// What is wrong with a rule.
fn problem(keys: &str, target: &str, is_prefix: bool) -> Option<String> {
    let name = if is_prefix { target.replacen('*', "0", 1) } else { target.to_owned() };
    let name = canonical_aor(&name, "home");
    let (user, domain) = name.split_once('@').unwrap_or_default();
    if !is_dialled(keys) {
        Some(format!("'{keys}' is not 1 to {MAX_KEYS} keys out of 0 to 9, * and #"))
    } else if is_prefix && !target.split('@').next().is_some_and(|user| user.contains('*')) {
        Some(format!("{keys}: '{target}' has no * for what follows the prefix"))
    } else if !is_name(user) || !is_name(domain) {
        let like = if is_prefix { "*@camp.example" } else { "anna@camp.example" };
        Some(format!("{keys}: '{target}' is not a name like {like}"))
    } else {
        None
    }
}

/// Whether a phone without letters can dial it.
fn is_dialled(text: &str) -> bool {
    let is_key = |b: u8| b.is_ascii_digit() || b == b'*' || b == b'#';
    (1..=MAX_KEYS).contains(&text.len()) && text.bytes().all(is_key)
}

/// The call sign, in lower case, for which digits stand by the rule of HAMNET.
pub fn call_sign(digits: &str) -> Option<String> {
    let sign = |pair: &[u8]| match *pair {
        [digit, b'0'] if digit.is_ascii_digit() => Some(char::from(digit)),
        [key @ b'0'..=b'9', place @ b'1'..=b'9'] => {
            LETTERS[usize::from(key - b'0')].chars().nth(usize::from(place - b'1'))
        }
        _ => None,
    };
    let signs: String = digits.as_bytes().chunks(2).map(sign).collect::<Option<_>>()?;
    is_call_sign(&signs).then_some(signs)
}

/// The digits that stand for a call sign.
pub fn digits(call_sign: &str) -> Option<String> {
    let signs = call_sign.to_ascii_lowercase();
    let pair = |sign: char| match sign {
        '0'..='9' => Some(format!("{sign}0")),
        _ => LETTERS.iter().zip(0..).find_map(|(letters, key)| {
            let place = letters.find(sign)? + 1;
            Some(format!("{key}{place}"))
        }),
    };
    let digits = signs.chars().map(pair).collect::<Option<String>>()?;
    is_call_sign(&signs).then_some(digits)
}

/// Letters and digits, both of them: other numbers in pairs are more often just numbers.
fn is_call_sign(text: &str) -> bool {
    SIGNS.contains(&text.len())
        && text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().any(|b| b.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(short: &[(&str, &str)], prefixes: &[(&str, &str)]) -> Rules {
        let map = |rules: &[(&str, &str)]| rules.iter().map(|(k, n)| ((*k).into(), (*n).into())).collect();
        Rules { short: map(short), prefixes: map(prefixes) }
    }

    #[test]
    fn a_call_sign_is_its_keys_and_places_as_in_hamnet() {
        for (sign, keys) in [("in3fqq", "436230337272"), ("ka5dsz", "522150317494"), ("hb9w", "42229091")] {
            assert_eq!(digits(sign).as_deref(), Some(keys));
            assert_eq!(call_sign(keys).as_deref(), Some(sign));
        }
        assert_eq!(digits("IN3FQQ"), digits("in3fqq"));
    }

    #[test]
    fn what_is_no_call_sign_has_no_digits_and_is_not_found_in_them() {
        for text in ["", "anna", "123", "k5", "in3fqq/p", "in3fqq@test", "dä1xy", "g0000000000zz"] {
            assert_eq!(digits(text), None, "{text}");
        }
        // Odd, no such place on a key, no letter on it, letters alone, digits alone, too short, no digits.
        for keys in ["4362303372727", "436230337279", "112130", "21626221", "102030", "3021", "", "21*030"] {
            assert_eq!(call_sign(keys), None, "{keys}");
        }
    }

    #[test]
    fn a_short_code_goes_before_a_prefix_and_the_longest_prefix_before_a_call_sign() {
        let rules = rules(
            &[("11", "Anna@Camp"), ("808211030", "bob")],
            &[("808", "*@hmasn.mesh"), ("8082", "desk-*@hotel"), ("*9", "+49*@gate"), ("4362", "*@cut")],
        );
        assert_eq!(rules.problems(), []);
        for (keys, name) in [
            ("11", Some("anna@camp")),
            ("808211030", Some("bob@home")),
            ("808436230337272", Some("in3fqq@hmasn.mesh")),
            ("8081234", Some("1234@hmasn.mesh")),
            ("808217", Some("desk-17@hotel")),
            ("*9301234", Some("+49301234@gate")),
            ("436230337272", Some("3fqq@cut")),
            ("42229091", Some("hb9w@home")),
            ("808", None),
            ("12", None),
            ("anna", None),
        ] {
            assert_eq!(rules.name(keys, "home").as_deref(), name, "{keys}");
        }
    }

    #[test]
    fn no_number_of_a_key_is_a_call_sign() {
        for n in 0..1_000 {
            let key = wire::KeyPair::from_seed(wire::Seed::from_number(n)).public();
            let number = wire::Number::of(&key, &wire::Stretch([n as u8; wire::Stretch::LEN]));
            assert_eq!(call_sign(&number.digits()), None, "{number}");
        }
    }

    #[test]
    fn impossible_rules_are_named() {
        let long = "1".repeat(MAX_KEYS + 1);
        let rules = rules(
            &[("", "anna"), ("1a", "anna"), (&long, "anna"), ("12", ""), ("13", "*@camp"), ("14", "a@b@c")],
            &[("7", "anna@camp"), ("8", "anna@*"), ("9", "*@*"), ("90", "**@camp"), ("91", "*@")],
        );
        let problems = rules.problems();
        let of = |key| problems.iter().filter(move |(k, _)| *k == key).map(|(_, p)| p.as_str());
        let short: Vec<&str> = of("dial.short").collect();
        assert_eq!(short.len(), rules.short.len(), "{short:#?}");
        assert!(short[0].starts_with("'' is not 1 to 40 keys"), "{short:#?}");
        let prefixes: Vec<&str> = of("dial.prefixes").collect();
        assert_eq!(prefixes.len(), rules.prefixes.len(), "{prefixes:#?}");
        assert_eq!(prefixes[0], "7: 'anna@camp' has no * for what follows the prefix");
        assert_eq!(prefixes[4], "91: '*@' is not a name like *@camp.example");
    }

    proptest! {
        #[test]
        fn a_call_sign_is_read_back_from_its_digits(sign in "[A-Za-z0-9]{1,14}") {
            if let Some(digits) = digits(&sign) {
                prop_assert_eq!(call_sign(&digits), Some(sign.to_ascii_lowercase()));
            }
        }

        #[test]
        fn digits_are_dialled_again_as_they_were_read(keys in "([0-9][0-4]){1,12}") {
            if let Some(sign) = call_sign(&keys) {
                prop_assert_eq!(digits(&sign), Some(keys));
            }
        }

        #[test]
        fn whatever_is_dialled_comes_to_a_name_or_to_none(keys in "[0-9*#]{0,50}|\\PC{0,20}") {
            let rules = rules(&[("11", "anna")], &[("2", "*@far"), ("*#", "x*")]);
            if let Some(name) = rules.name(&keys, "home") {
                prop_assert!(name.ends_with("@far") || name.ends_with("@home"), "{}", name);
            }
            let _ = (call_sign(&keys), digits(&keys));
        }
    }
}
