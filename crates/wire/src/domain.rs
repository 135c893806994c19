//! What a domain says of the names in it, by texts in DNS.
//!
//! ```text
//! alice._openvoip.camp.example.  TXT  "v=openvoip1; key=<public key of the user, 64 hexadecimal digits>"
//! _openvoip.camp.example.        TXT  "v=openvoip1; names=all"
//! ```
//!
//! The first says whose key a name is. The second is for a domain that says it of every name: who is not there is
//! nobody. One text for each user keeps both the list of users and the answers short; a domain that has only the
//! first says nothing of other names. Texts that do not begin with the version are somebody else's, and parts that are
//! not known mean nothing.

use crate::choices;
use crate::dns::Texts;
use crate::identity::PublicKey;

/// What every text of ours begins with.
const VERSION: &str = "v=openvoip1";

/// Where a domain speaks of names.
const PLACE: &str = "_openvoip";

/// Domains that are in nobody's DNS (RFC 6761, 6762, 7686, 9476).
const NOWHERE: [&str; 5] = ["localhost", "local", "invalid", "onion", "alt"];

/// How far the way is secured on which a domain's word came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    /// Not at all: who stands between this peer and the domain can say what they like.
    Dns,
    /// By signatures, which the resolver of this machine has checked.
    Dnssec,
}

choices!(Way, "proof of a domain": Dns = "dns", Dnssec = "dnssec");

/// What a domain says of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// It is this user key's.
    Key(PublicKey, Way),
    /// It is nobody's: the domain has a word for every name, and none for this one.
    Nobody,
    /// Nothing.
    Nothing,
    /// It could not be asked, or was not understood.
    Silent,
}

/// The two halves of a name whose domain could be in DNS.
fn parts(aor: &str) -> Option<(&str, &str)> {
    let (user, domain) = aor.split_once('@')?;
    let (_, last) = domain.rsplit_once('.')?;
    // A dot at the end makes another name, of which no domain can say anything.
    let is_number = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
    let is_nowhere = NOWHERE.contains(&last) || is_number || domain.starts_with('[');
    (!is_nowhere).then_some((user, domain))
}

/// The domain of a name, if it can be asked.
pub fn domain_of(aor: &str) -> Option<&str> {
    parts(aor).map(|(_, domain)| domain)
}

/// Where a domain says whose a name is.
pub fn place_of_name(aor: &str) -> Option<String> {
    parts(aor).map(|(user, domain)| format!("{user}.{PLACE}.{domain}"))
}

/// Where it says that it has a word for every name.
pub fn place_of_all(aor: &str) -> Option<String> {
    domain_of(aor).map(|domain| format!("{PLACE}.{domain}"))
}

/// The text that says whose a name is.
pub fn text_of(key: &PublicKey) -> String {
    format!("{VERSION}; key={key}")
}

/// The text that says that every name has one.
pub fn text_of_all() -> String {
    format!("{VERSION}; names=all")
}

/// What is said under a tag by the texts of ours.
fn said<'a>(found: &'a Texts, tag: &'a str) -> impl Iterator<Item = &'a str> {
    let texts = found.texts.iter().filter_map(|text| std::str::from_utf8(text).ok());
    let ours = texts.filter_map(|text| {
        let mut parts = text.split(';').map(str::trim);
        (parts.next() == Some(VERSION)).then_some(parts)
    });
    let parts = ours.flatten().filter_map(|part| part.split_once('='));
    parts.filter(move |(name, _)| name.trim() == tag).map(|(_, value)| value.trim())
}

/// What the texts at the place of a name say of it; `None` if nothing. A key that cannot be read, or two, are no word.
pub fn read_name(found: &Texts, way: Way) -> Option<Word> {
    let mut keys = said(found, "key").map(|text| text.parse::<PublicKey>().ok());
    let first = keys.next()?;
    let one = first.filter(|key| keys.all(|other| other == Some(*key)));
    Some(one.map_or(Word::Silent, |key| Word::Key(key, way)))
}

/// Whether the texts at a domain's own place say that it has a word for every name.
pub fn speaks_of_all(found: &Texts) -> bool {
    said(found, "names").any(|value| value == "all")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{KeyPair, Seed};

    fn key(n: u64) -> PublicKey {
        KeyPair::from_seed(Seed::from_number(n)).public()
    }

    fn word(texts: &[&str]) -> Option<Word> {
        let texts = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        read_name(&Texts { texts, ..Texts::default() }, Way::Dns)
    }

    #[test]
    fn a_domain_names_one_key_among_texts_of_others_and_parts_of_later_versions() {
        let (ours, spaced) = (text_of(&key(1)), format!("v=openvoip1;note = hi ; key={} ;", key(1)));
        assert_eq!(word(&[&ours]), Some(Word::Key(key(1), Way::Dns)));
        assert_eq!(word(&["v=spf1 -all", &ours, &spaced]), Some(Word::Key(key(1), Way::Dns)));
        assert_eq!(word(&["v=spf1 -all", &format!("key={}", key(1)), "v=openvoip1"]), None);
    }

    #[test]
    fn two_keys_or_one_that_cannot_be_read_are_no_word() {
        assert_eq!(word(&[&text_of(&key(1)), &text_of(&key(2))]), Some(Word::Silent));
        assert_eq!(word(&[&text_of(&key(1)), "v=openvoip1; key=0123"]), Some(Word::Silent));
        assert_eq!(word(&["v=openvoip1; key="]), Some(Word::Silent));
    }

    #[test]
    fn a_domain_that_has_a_word_for_every_name_says_so() {
        let says = |text: &str| speaks_of_all(&Texts { texts: vec![text.into()], ..Texts::default() });
        assert!(says(&text_of_all()) && !says("v=openvoip1; names=some") && !says("names=all"));
    }

    #[test]
    fn domains_that_are_in_no_dns_are_not_asked() {
        assert_eq!(place_of_name("alice@camp.example").unwrap(), "alice._openvoip.camp.example");
        assert_eq!(place_of_all("alice@camp.example").unwrap(), "_openvoip.camp.example");
        let nowhere =
            ["alice", "a@lan", "a@host.local", "a@10.0.0.1", "a@[2001:db8::1]", "a@[fe80::1.2]", "a@x.onion"];
        for name in nowhere {
            assert_eq!(place_of_name(name), None, "{name}");
        }
        let place = place_of_name("alice@camp.example.").expect("a domain's, which cannot answer");
        assert_eq!(crate::dns::question(1, &place), None);
    }

    proptest! {
        #[test]
        fn any_texts_give_a_word_or_none(texts in prop::collection::vec("(v=openvoip1;?)?[ -~]{0,90}", 0..5)) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            if let Some(Word::Key(key, _)) = word(&texts) {
                prop_assert!(texts.iter().any(|text| text.to_lowercase().contains(&key.to_string())));
            }
        }
    }
}
