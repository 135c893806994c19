//! Keys of sound in session descriptions (SDES, RFC 4568): what `a=crypto` says.
//!
//! Only what phones use is understood: AES in counter mode with one of two tags, one key, for all of the stream.
//! A line that is well formed and asks for more (an identifier in every packet, several keys, other session
//! parameters) is passed over, as the RFC has it (section 6.1); one that is not makes an error.

use std::fmt;

use data_encoding::BASE64;
use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes of a key and its salt.
pub const KEY_LEN: usize = 30;

/// Largest tag: nine digits (RFC 4568, section 9.1).
const MAX_TAG_DIGITS: usize = 9;

/// Ciphers and tags that are understood; both encrypt with AES-128 in counter mode.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Suite {
    /// Tags of 80 bits.
    #[default]
    Tag80,
    /// Tags of 32 bits on sound; RTCP has 80 all the same.
    Tag32,
}

impl Suite {
    /// All of them, the better first.
    pub const ALL: [Suite; 2] = [Suite::Tag80, Suite::Tag32];

    /// Its name in a description.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Tag80 => "AES_CM_128_HMAC_SHA1_80",
            Suite::Tag32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }
}

/// A key that one side says, for what it sends itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Crypto {
    /// Names the line; an answer repeats it.
    pub tag: u32,
    /// What the key is for.
    pub suite: Suite,
    /// Key and salt.
    pub key: Zeroizing<[u8; KEY_LEN]>,
}

/// A value of `a=crypto` that is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("malformed a=crypto")]
pub struct Malformed;

impl Crypto {
    /// Reads the value of an attribute; `None` if it asks for what is not understood.
    ///
    /// # Errors
    /// If it is not well formed.
    pub fn parse(value: &str) -> Result<Option<Crypto>, Malformed> {
        let mut words = value.split_ascii_whitespace();
        let (Some(tag), Some(suite), Some(keys)) = (words.next(), words.next(), words.next()) else {
            return Err(Malformed);
        };
        if tag.len() > MAX_TAG_DIGITS || !tag.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Malformed);
        }
        let tag = tag.parse().map_err(|_| Malformed)?;
        if !suite.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(Malformed);
        }
        let Some(suite) = Suite::ALL.into_iter().find(|s| s.name().eq_ignore_ascii_case(suite)) else {
            return Ok(None);
        };
        // A window is a hint to the receiver, which has its own; all others change what is sent.
        let is_hint = |word: &str| word.trim_start_matches('-').to_ascii_uppercase().starts_with("WSH=");
        let mut understood = words.all(is_hint);
        let mut found = None;
        for key in keys.split(';') {
            let (method, said) = key.split_once(':').ok_or(Malformed)?;
            if !method.eq_ignore_ascii_case("inline") {
                return Err(Malformed);
            }
            let mut parts = said.split('|');
            let decoded = BASE64.decode(parts.next().unwrap_or("").as_bytes()).map(Zeroizing::new);
            let bytes: [u8; KEY_LEN] =
                decoded.ok().and_then(|bytes| bytes.as_slice().try_into().ok()).ok_or(Malformed)?;
            // A lifetime says after how many packets the key ends, which no call comes near; an identifier would
            // stand in every packet.
            let rest: Vec<&str> = parts.collect();
            match rest[..] {
                [] => {}
                [lifetime] if is_lifetime(lifetime) => {}
                [identifier] if is_identifier(identifier) => understood = false,
                [lifetime, identifier] if is_lifetime(lifetime) && is_identifier(identifier) => {
                    understood = false
                }
                _ => return Err(Malformed),
            }
            understood &= found.is_none();
            found = Some(Crypto { tag, suite, key: Zeroizing::new(bytes) });
        }
        Ok(found.filter(|_| understood))
    }
}

/// A number of packets, written out or as a power of two.
fn is_lifetime(text: &str) -> bool {
    let digits = text.strip_prefix("2^").unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// An identifier of the key, and its length.
fn is_identifier(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.split_once(':').is_some_and(|(identifier, length)| digits(identifier) && digits(length))
}

impl fmt::Display for Crypto {
    /// The value of the attribute, with the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = Zeroizing::new(BASE64.encode(&*self.key));
        write!(f, "{} {} inline:{}", self.tag, self.suite.name(), *key)
    }
}

impl fmt::Debug for Crypto {
    /// The key is never printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crypto({} {})", self.tag, self.suite.name())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

    fn crypto(tag: u32, suite: Suite, key: &[u8; KEY_LEN]) -> Crypto {
        Crypto { tag, suite, key: Zeroizing::new(*key) }
    }

    /// RFC 4568, sections 4 and 6.1, without the identifiers that every example there has, and with.
    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let key = b"YS___semctl () {\t220;}\n}\nunles";
        for (value, expected) in [
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20"), Some(crypto(1, Suite::Tag80, key))),
            (format!("2 AES_CM_128_HMAC_SHA1_32 inline:{KEY}"), Some(crypto(2, Suite::Tag32, key))),
            (format!("3 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1066 WSH=128"), Some(crypto(3, Suite::Tag80, key))),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4 FEC_ORDER=FEC_SRTP"), None),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20|1:32".into(), None),
            (
                "1 F8_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5QUJjZGVm|2^20|1:4;inline:QUJjZGVmMTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5|2^20|2:4 FEC_ORDER=FEC_SRTP".into(),
                None,
            ),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY};inline:{KEY}"), None),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP"), None),
        ] {
            assert_eq!(Crypto::parse(&value), Ok(expected), "{value}");
        }
    }

    #[test]
    fn what_is_no_crypto_line_is_an_error() {
        for value in [
            "",
            "1 AES_CM_128_HMAC_SHA1_80",
            "x AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
            "1234567890 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
            "1 AES-CM inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
            "1 AES_CM_128_HMAC_SHA1_80 outline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
            "1 AES_CM_128_HMAC_SHA1_80 WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
            "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGV",
            "1 AES_CM_128_HMAC_SHA1_80 inline:AAAA",
            "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^",
            "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|1:4|2^20",
        ] {
            assert_eq!(Crypto::parse(value), Err(Malformed), "{value}");
        }
    }

    #[test]
    fn a_key_is_not_printed_by_chance() {
        assert_eq!(
            format!("{:?}", crypto(1, Suite::Tag80, &[7; KEY_LEN])),
            "Crypto(1 AES_CM_128_HMAC_SHA1_80)"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(
            tag in 0u32..=999_999_999,
            short in any::<bool>(),
            key in any::<[u8; KEY_LEN]>(),
        ) {
            let crypto = crypto(tag, if short { Suite::Tag32 } else { Suite::Tag80 }, &key);
            prop_assert_eq!(Crypto::parse(&crypto.to_string()), Ok(Some(crypto)));
        }

        #[test]
        fn no_text_breaks_the_parser(text in "[0-9 ]{0,3}(AES_CM_128_HMAC_SHA1_80 |\\PC{0,12})(inline:)?[A-Za-z0-9+/=|^:; ]{0,60}") {
            let _ = Crypto::parse(&text);
        }
    }
}
