//! What protects the traffic between peers: one choice for a whole overlay.

use std::fmt;
use std::str::FromStr;

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
    /// All of them.
    pub const ALL: [Profile; 3] = [Profile::Open, Profile::Signed, Profile::Secure];

    /// Its number in an overlay's document.
    pub fn number(self) -> u8 {
        1 << self as u8
    }

    /// The profile with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Profile::ALL.into_iter().find(|p| p.number() == number)
    }

    /// Its name, on the command line and elsewhere.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Open => "open",
            Profile::Signed => "signed",
            Profile::Secure => "secure",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Profile::ALL
            .into_iter()
            .find(|p| p.name() == s)
            .ok_or_else(|| format!("unknown profile '{s}': choose open, signed or secure"))
    }
}
