//! What protects the traffic between peers: one choice for a whole overlay.

use crate::choices;

/// What is done to every message between peers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Profile {
    /// Nothing: laboratories.
    Open,
    /// Everything is authenticated and stays readable: where law forbids to hide what is said by radio.
    Signed,
    /// Everything is encrypted and authenticated.
    #[default]
    Secure,
}

impl Profile {
    /// Its number in an overlay's document.
    pub fn number(self) -> u8 {
        1 << self as u8
    }

    /// The profile with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Profile::ALL.into_iter().find(|p| p.number() == number)
    }
}

choices!(Profile, "profile": Open = "open", Signed = "signed", Secure = "secure");

#[cfg(test)]
pub(crate) const EVERY: [(Profile, LinkFamily); 4] = [
    (Profile::Open, LinkFamily::Noise),
    (Profile::Signed, LinkFamily::Noise),
    (Profile::Secure, LinkFamily::Noise),
    (Profile::Secure, LinkFamily::Tls),
];

/// Added to the number of a profile whose links are DTLS and TLS.
const OF_TLS: u8 = 8;

/// Which protocols make the links between peers, where the profile is [`Profile::Secure`]; in the others there is no
/// choice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum LinkFamily {
    /// Noise, over UDP and over TCP.
    #[default]
    Noise,
    /// DTLS over UDP, and TLS over TCP.
    Tls,
}

impl LinkFamily {
    /// Whether a profile can have it.
    pub fn suits(self, profile: Profile) -> bool {
        self == LinkFamily::Noise || profile == Profile::Secure
    }

    /// The number of a profile with these links, in an overlay's document.
    pub(crate) fn number_with(self, profile: Profile) -> u8 {
        profile.number() | if self == LinkFamily::Tls { OF_TLS } else { 0 }
    }

    /// The profile and the links that a number stands for.
    pub(crate) fn read(number: u8) -> Option<(Profile, LinkFamily)> {
        let family = if number & OF_TLS == 0 { LinkFamily::Noise } else { LinkFamily::Tls };
        let profile = Profile::from_number(number & !OF_TLS)?;
        family.suits(profile).then_some((profile, family))
    }
}

choices!(LinkFamily, "links": Noise = "noise", Tls = "tls");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_a_document_means_a_profile_with_links_that_it_can_have() {
        let numbers = [1, 2, 4, 12];
        assert_eq!(EVERY.map(|(profile, links)| links.number_with(profile)), numbers);
        let read: Vec<_> = (0..=255).filter_map(LinkFamily::read).collect();
        assert_eq!(read, EVERY, "and no other");
    }
}
