//! Invite tickets: an overlay's name, its founder key and where to ask first, as a text that survives being
//! read aloud and typed.
//!
//! `openvoip:` and then base32 in Crockford's alphabet, which has no I, L, O and U: who types one of the
//! first three is understood. Capitals, spaces and dashes do not matter; written are small letters, in
//! fours. The last four bytes are the beginning of a SHA-256 of all before them, so that a wrong letter is
//! told as that (one in four thousand million wrong texts passes).
//!
//! ```text
//! version (8) = 1 | profile (8): 1 = open, 2 = signed, 4 = secure, 12 = secure with DTLS and TLS | founder key (32 bytes) | length of the name (8) | name, UTF-8
//! number of peers (16) | each: 4 or 6 (8), address (4 or 16 bytes), port (16)
//! checksum (4 bytes)
//! ```

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::str::FromStr;

use data_encoding::{Encoding, Specification};

use crate::identity::PublicKey;
use crate::strict::{self, Flaw, Reader};
use crate::{HashAlgorithm, LinkFamily, Profile};

/// What every ticket begins with.
pub const PREFIX: &str = "openvoip:";

/// Most peers that a ticket names.
pub const MAX_PEERS: usize = 8;

/// The longest text that is looked at, in bytes: that of the largest ticket takes 795.
pub const MAX_TEXT: usize = 2_000;

const VERSION: u8 = 1;

const CHECKSUM_LEN: usize = 4;

/// Letters between two dashes.
const GROUP: usize = 4;

/// Hashed before a ticket, so that no other checksum is taken for one.
const DOMAIN: &[u8] = b"openvoip ticket\0";

/// An invitation into an overlay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// What protects messages between peers there; whoever comes with another is not answered.
    pub profile: Profile,
    /// Which protocols make the links; those with others are not answered either.
    pub links: LinkFamily,
    /// The founder key, which names the overlay.
    pub founder: PublicKey,
    /// The overlay's name for people.
    pub name: String,
    /// Peers to ask first, 1 to [`MAX_PEERS`].
    pub peers: BTreeSet<SocketAddr>,
}

/// Why a text is no ticket.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotATicket {
    /// It begins otherwise.
    #[error("a ticket begins with {PREFIX}")]
    Prefix,
    /// It is far too long.
    #[error("a ticket has at most {MAX_TEXT} letters")]
    Length,
    /// A letter that no ticket has.
    #[error("'{0}' is no letter of a ticket: was it typed wrong?")]
    Letter(char),
    /// Its letters do not belong together.
    #[error("a letter of the ticket was typed wrong, or some are missing")]
    Typing,
    /// Typed right, and not understood.
    #[error("the ticket cannot be used: {0}")]
    Flaw(#[from] Flaw),
}

impl Ticket {
    fn check(&self) -> Result<(), Flaw> {
        strict::check_name(&self.name)?;
        if !self.links.suits(self.profile) {
            return Err(Flaw::value("links", self.links, "noise, but in the profile secure"));
        }
        strict::check_count("peers", self.peers.len(), MAX_PEERS)?;
        if self.peers.is_empty() {
            return Err(Flaw::value("peers", 0, "1 to 8, and nobody could join by it"));
        }
        self.peers.iter().try_for_each(strict::check_peer_address)
    }

    fn letters(&self) -> Result<String, Flaw> {
        self.check()?;
        let mut bytes = vec![VERSION, self.links.number_with(self.profile)];
        bytes.extend_from_slice(&self.founder.0);
        strict::put_name(&mut bytes, &self.name);
        strict::put_set(&mut bytes, self.peers.iter(), strict::put_address);
        bytes.extend_from_slice(&checksum(&bytes));
        Ok(base32().encode(&bytes))
    }

    /// The text for people: small letters, in fours.
    ///
    /// # Errors
    /// If the ticket breaks a bound.
    pub fn to_text(&self) -> Result<String, Flaw> {
        let letters = self.letters()?;
        let groups = letters.as_bytes().chunks(GROUP).map(|group| String::from_utf8_lossy(group));
        Ok(format!("{PREFIX}{}", groups.collect::<Vec<_>>().join("-")))
    }

    /// The same ticket for machines: capitals without dashes, which take least room in a QR code.
    ///
    /// # Errors
    /// If the ticket breaks a bound.
    pub fn to_capitals(&self) -> Result<String, Flaw> {
        Ok(format!("{PREFIX}{}", self.letters()?).to_ascii_uppercase())
    }

    fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        let mut reader = Reader(bytes);
        match reader.byte("version")? {
            VERSION => {}
            other => return Err(Flaw::Version(other, VERSION)),
        }
        let number = reader.byte("profile")?;
        let (profile, links) = LinkFamily::read(number).ok_or_else(|| Flaw::profile(number))?;
        let founder = reader.key("founder key")?;
        let name = reader.name()?;
        let peers = reader.set("peers", MAX_PEERS, Reader::address)?;
        reader.end()?;
        let ticket = Ticket { profile, links, founder, name, peers };
        ticket.check()?;
        Ok(ticket)
    }
}

impl FromStr for Ticket {
    type Err = NotATicket;

    fn from_str(text: &str) -> Result<Self, NotATicket> {
        if text.len() > MAX_TEXT {
            return Err(NotATicket::Length);
        }
        let letters = text.chars().filter(|c| !c.is_whitespace() && !is_dash(*c));
        let text: String = letters.map(|c| c.to_ascii_lowercase()).collect();
        let letters = text.strip_prefix(PREFIX).ok_or(NotATicket::Prefix)?;
        if let Some(wrong) = letters.chars().find(|c| !c.is_ascii_alphanumeric() || *c == 'u') {
            return Err(NotATicket::Letter(wrong));
        }
        let bytes = base32().decode(letters.as_bytes()).map_err(|_| NotATicket::Typing)?;
        match bytes.split_last_chunk::<CHECKSUM_LEN>() {
            Some((bytes, sum)) if checksum(bytes) == *sum => Ok(Ticket::parse(bytes)?),
            _ => Err(NotATicket::Typing),
        }
    }
}

/// Dashes of keyboards and of programs that set them.
fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ad}')
}

fn base32() -> Encoding {
    let mut alphabet = Specification::new();
    alphabet.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    alphabet.translate.from.push_str("oil");
    alphabet.translate.to.push_str("011");
    alphabet.encoding().expect("32 letters, and three that stand for some of them")
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let hash = HashAlgorithm::Sha256.digest(&[DOMAIN, bytes].concat());
    *hash.as_bytes().first_chunk().expect("4 of 32 bytes")
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Ticket {
        let peers = ["192.0.2.1:7080"].iter().map(|a| a.parse().unwrap()).collect();
        Ticket {
            profile: Profile::Open,
            links: LinkFamily::Noise,
            founder: PublicKey([0xab; 32]),
            name: "camp".into(),
            peers,
        }
    }

    #[test]
    fn a_ticket_looks_so() {
        let text = sample().to_text().unwrap();
        assert_eq!(
            text,
            "openvoip:040t-qaxb-nent-qaxb-nent-qaxb-nent-qaxb-nent-qaxb-nent-qaxb-nent-qar4-cdgp-\
             tw00-042c-0002-04dt-h3xh-vqrg"
        );
        assert_eq!(text.parse(), Ok(sample()));
    }

    #[test]
    fn capitals_spaces_dashes_and_letters_that_look_alike_do_not_matter() {
        let text = sample().to_text().unwrap();
        let ticket = Ok(sample());
        assert_eq!(sample().to_capitals().unwrap().parse(), ticket);
        assert_eq!(text.to_uppercase().parse(), ticket);
        assert_eq!(text.replace('-', " ").parse(), ticket);
        assert_eq!(text.replace('-', "\u{2013}\n").parse(), ticket);
        assert_eq!(format!("  Open VoIP: {}", &text["openvoip:".len()..]).parse(), ticket);
        let alike = text["openvoip:".len()..].replace('0', "O").replace('1', "l");
        assert_eq!(format!("openvoip:{alike}").parse(), ticket);
    }

    #[test]
    fn every_wrong_letter_missing_letter_and_swapped_pair_is_told_as_a_typing_error() {
        let letters = sample().letters().unwrap();
        let read = |letters: &str| format!("{PREFIX}{letters}").parse::<Ticket>();
        for place in 0..letters.len() {
            for other in "0123456789abcdefghjkmnpqrstvwxyz".chars() {
                let mut typed = letters.clone();
                typed.replace_range(place..=place, &other.to_string());
                assert!(typed == letters || read(&typed) == Err(NotATicket::Typing), "{typed}");
            }
            let mut short = letters.clone();
            short.remove(place);
            assert_eq!(read(&short), Err(NotATicket::Typing));
            let mut swapped: Vec<char> = letters.chars().collect();
            if place + 1 < swapped.len() && swapped[place] != swapped[place + 1] {
                swapped.swap(place, place + 1);
                assert_eq!(read(&swapped.iter().collect::<String>()), Err(NotATicket::Typing));
            }
        }
        assert_eq!(read(""), Err(NotATicket::Typing));
        assert_eq!(read(&letters.replace('0', "u")), Err(NotATicket::Letter('u')));
        assert_eq!(read("0!"), Err(NotATicket::Letter('!')));
    }

    #[test]
    fn what_is_no_ticket_is_told_as_that() {
        assert_eq!("sip:alice@camp".parse::<Ticket>(), Err(NotATicket::Prefix));
        assert_eq!("x".repeat(MAX_TEXT + 1).parse::<Ticket>(), Err(NotATicket::Length));
        let typed = |bytes: &[u8]| {
            let letters = base32().encode(&[bytes, &checksum(bytes)].concat());
            format!("{PREFIX}{letters}").parse::<Ticket>().unwrap_err()
        };
        assert_eq!(typed(&[2]), NotATicket::Flaw(Flaw::Version(2, 1)));
        assert_eq!(typed(&[1, 2]), NotATicket::Flaw(Flaw::CutOff("founder key")));
        assert_eq!(typed(&[1, 3]), NotATicket::Flaw(Flaw::profile(3)));
    }

    #[test]
    fn a_ticket_names_one_to_eight_peers_that_can_be_written_to() {
        let with = |peers: BTreeSet<SocketAddr>| Ticket { peers, ..sample() }.to_text();
        let address = |n: u16| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n + 1], 7_080));
        assert!(with(BTreeSet::new()).is_err());
        assert!(with((0..9).map(address).collect()).is_err());
        assert!(with(["0.0.0.0:7080".parse().unwrap()].into()).is_err());
        let name = "n".repeat(strict::MAX_NAME);
        let largest = Ticket { name, peers: (0..8).map(address).collect(), ..sample() };
        let text = largest.to_text().unwrap();
        assert!(text.len() == 795 && text.len() < MAX_TEXT, "{}", text.len());
        assert_eq!(text.parse(), Ok(largest));
    }

    proptest! {
        #[test]
        fn any_ticket_reads_as_it_was_written(
            (profile, links) in prop::sample::select(crate::profile::EVERY.to_vec()),
            founder in any::<[u8; 32]>(),
            name in "[a-zà-öø-ü0-9-]{1,60}",
            peers in btree_set(any::<([u8; 4], u16)>().prop_map(SocketAddr::from), 1..=8),
        ) {
            prop_assume!(peers.iter().all(|a| strict::check_peer_address(a).is_ok()));
            let ticket = Ticket { profile, links, founder: PublicKey(founder), name, peers };
            prop_assert_eq!(ticket.to_text().unwrap().parse(), Ok(ticket.clone()));
            prop_assert_eq!(ticket.to_capitals().unwrap().parse(), Ok(ticket));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*", typed in any::<bool>()) {
            let text = if typed { format!("{PREFIX}{text}") } else { text };
            if let Ok(ticket) = text.parse::<Ticket>() {
                prop_assert_eq!(ticket.to_text().unwrap().parse(), Ok(ticket));
            }
        }

        #[test]
        fn any_bytes_have_one_meaning(bytes in vec(any::<u8>(), 0..200)) {
            let letters = base32().encode(&[&bytes[..], &checksum(&bytes)].concat());
            if let Ok(ticket) = format!("{PREFIX}{letters}").parse::<Ticket>() {
                prop_assert_eq!(ticket.letters().unwrap(), letters);
            }
        }
    }
}
