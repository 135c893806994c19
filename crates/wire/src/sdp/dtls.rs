//! What descriptions say of a handshake on the path of the sound (DTLS-SRTP, RFC 5763): the fingerprint of the
//! certificate that is shown in it (RFC 8122), and who begins it (RFC 4145).

use std::fmt;

use data_encoding::HEXUPPER_PERMISSIVE;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Bytes of a fingerprint.
const LEN: usize = 32;

/// The hash of a certificate: SHA-256, which everybody has to know (RFC 8122, section 5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fingerprint([u8; LEN]);

/// A value of `a=fingerprint` that is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("malformed a=fingerprint")]
pub struct Malformed;

impl Fingerprint {
    /// That of a certificate, in DER.
    pub fn of(certificate: &[u8]) -> Fingerprint {
        Fingerprint(Sha256::digest(certificate).into())
    }

    /// Reads the value of an attribute; `None` if it is by another hash.
    ///
    /// # Errors
    /// If it is not well formed.
    pub fn parse(value: &str) -> Result<Option<Fingerprint>, Malformed> {
        let (hash, digits) = value.trim().split_once(' ').ok_or(Malformed)?;
        let mut bytes = Vec::with_capacity(LEN);
        for pair in digits.trim_start().split(':') {
            let byte = HEXUPPER_PERMISSIVE.decode(pair.as_bytes()).ok().filter(|byte| byte.len() == 1);
            bytes.extend(byte.ok_or(Malformed)?);
        }
        if !hash.eq_ignore_ascii_case("sha-256") {
            return Ok(None);
        }
        bytes.try_into().map(|bytes| Some(Fingerprint(bytes))).map_err(|_| Malformed)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha-256 ")?;
        for (n, byte) in self.0.iter().enumerate() {
            let colon = if n == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

/// Who begins the handshake, as the one who says it has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setup {
    /// Who says it.
    Active,
    /// The other one.
    Passive,
    /// Whoever the other one chooses.
    Either,
}

impl Setup {
    const NAMES: [(Setup, &str); 3] =
        [(Setup::Active, "active"), (Setup::Passive, "passive"), (Setup::Either, "actpass")];

    /// Reads the value of `a=setup`; `None` for `holdconn`, and for what is unknown.
    pub fn parse(value: &str) -> Option<Setup> {
        let is_named = |(_, name): &&(Setup, &str)| name.eq_ignore_ascii_case(value.trim());
        Setup::NAMES.iter().find(is_named).map(|(setup, _)| *setup)
    }

    /// Its name in a description.
    pub fn name(self) -> &'static str {
        Setup::NAMES.iter().find(|(setup, _)| *setup == self).expect("all of them are there").1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 8122, section 5, by the other hash.
    const OTHER: &str = "sha-1 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB";

    #[test]
    fn a_fingerprint_is_read_as_it_is_written_in_either_case() {
        let fingerprint = Fingerprint::of(b"a certificate");
        let text = fingerprint.to_string();
        assert_eq!(text.len(), "sha-256 ".len() + 32 * 3 - 1);
        for text in [text.clone(), text.to_lowercase(), text.to_uppercase()] {
            assert_eq!(Fingerprint::parse(&text), Ok(Some(fingerprint)));
        }
        assert_ne!(Fingerprint::of(b"another"), fingerprint);
    }

    #[test]
    fn another_hash_is_passed_over_and_nonsense_is_an_error() {
        assert_eq!(Fingerprint::parse(OTHER), Ok(None));
        let short = OTHER.replace("sha-1", "sha-256");
        for nonsense in ["", "sha-256", "sha-256 ", "sha-256 4A:", "sha-256 4A:ZZ", "sha-1 4", &short] {
            assert_eq!(Fingerprint::parse(nonsense), Err(Malformed), "{nonsense}");
        }
    }

    #[test]
    fn who_begins_is_read_as_it_is_written() {
        for setup in [Setup::Active, Setup::Passive, Setup::Either] {
            assert_eq!(Setup::parse(setup.name()), Some(setup));
        }
        assert_eq!(Setup::parse("holdconn"), None);
    }
}
