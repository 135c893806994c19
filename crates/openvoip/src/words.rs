//! A key as 24 words that a person can write down and type in again (BIP 39, English list).
//!
//! The words are the 32 bytes of the key and a checksum of eight bits; there is no passphrase, so whoever reads them has
//! the key.

use bip39::{Error, Language, Mnemonic};
use wire::{KeyPair, Seed};
use zeroize::Zeroizing;

/// How many words a key makes.
pub const COUNT: usize = 24;

/// The words of a key.
pub fn of(key: &KeyPair) -> Zeroizing<String> {
    let mnemonic = Mnemonic::from_entropy(&*key.secret()).expect("32 bytes make 24 words");
    Zeroizing::new(mnemonic.to_string())
}

/// The key of these words, in any case, with any space between and numbers before them; the error says which is wrong,
/// as far as that can be known.
pub fn read(text: &str) -> Result<KeyPair, String> {
    let text = Zeroizing::new(text.to_lowercase());
    let is_number = |word: &&str| word.bytes().all(|b| b.is_ascii_digit());
    let words: Vec<&str> = text.split_whitespace().filter(|word| !is_number(word)).collect();
    if words.len() != COUNT {
        return Err(format!("these are {} words, and a key has {COUNT}", words.len()));
    }
    let joined = Zeroizing::new(words.join(" "));
    let mnemonic = Mnemonic::parse_in_normalized(Language::English, &joined).map_err(|error| match error {
        Error::UnknownWord(at) => {
            format!("word {} is none of the list; the nearest is '{}'", at + 1, nearest(words[at]))
        }
        _ => "all words are of the list, but they do not belong together: one is another, or two changed places".into(),
    })?;
    let secret = Zeroizing::new(mnemonic.to_entropy());
    let seed = Seed(secret.as_slice().try_into().map_err(|_| "these words are no key")?);
    Ok(KeyPair::from_seed(seed))
}

/// The word of the list that is most like one that is not.
fn nearest(wrong: &str) -> &'static str {
    let distance = |word: &&&str| strsim::damerau_levenshtein(wrong, word);
    Language::English.word_list().iter().min_by_key(distance).expect("the list is not empty")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u64) -> KeyPair {
        KeyPair::from_seed(Seed::from_number(n))
    }

    #[test]
    fn the_vectors_of_bip_39_for_32_bytes_hold() {
        for (secret, words) in [
            ([0x00; 32], format!("{}art", "abandon ".repeat(23))),
            (
                [0x7f; 32],
                "legal winner thank year wave sausage worth useful legal winner thank year wave sausage \
                          worth useful legal winner thank year wave sausage worth title"
                    .into(),
            ),
            ([0xff; 32], format!("{}vote", "zoo ".repeat(23))),
        ] {
            let key = KeyPair::from_seed(Seed(secret));
            assert_eq!(*of(&key), words);
            assert_eq!(read(&words).unwrap().public(), key.public());
        }
    }

    #[test]
    fn words_are_read_however_they_are_typed() {
        let words = of(&key(5)).to_uppercase().replace(' ', "\n \t");
        assert_eq!(read(&words).unwrap().public(), key(5).public());
        // As they are shown.
        let numbered: Vec<String> =
            words.split_whitespace().zip(1..).map(|(word, n)| format!("{n} {word}")).collect();
        assert_eq!(read(&numbered.join("  ")).unwrap().public(), key(5).public());
    }

    #[test]
    fn a_wrong_word_is_named_with_the_nearest_of_the_list_and_a_wrong_order_is_noticed() {
        let words = of(&key(5));
        let mut wrong: Vec<&str> = words.split(' ').collect();
        wrong[6] = "umbrela";
        assert!(
            read(&wrong.join(" "))
                .unwrap_err()
                .starts_with("word 7 is none of the list; the nearest is 'umbrella'")
        );
        assert!(read(&wrong[..23].join(" ")).unwrap_err().contains("23 words"));
        assert!(read("").unwrap_err().contains("0 words"));
        let mut swapped: Vec<&str> = words.split(' ').collect();
        swapped.swap(0, 1);
        assert!(read(&swapped.join(" ")).unwrap_err().contains("changed places"));
    }

    proptest! {
        #[test]
        fn every_key_comes_back_from_its_words(n in any::<u64>()) {
            prop_assert_eq!(read(&of(&key(n))).unwrap().public(), key(n).public());
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text in "(?s).{0,300}") {
            prop_assert!(read(&text).is_err());
        }
    }
}
