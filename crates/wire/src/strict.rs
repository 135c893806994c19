//! Bytes that have one meaning, and meanings that have one encoding: what overlay documents and tickets
//! are read and written with.
//!
//! Whoever signs bytes and whoever reads them must see the same. So numbers are big-endian and of fixed
//! width, lists are sorted and hold nothing twice, addresses have one form, and nothing may be left over.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::identity::PublicKey;

/// Why bytes are not what they should be, or why something cannot be written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Flaw {
    /// Other bytes stand at the beginning.
    #[error("this is not {0}")]
    NotOne(&'static str),
    /// Made by a later version, or damaged.
    #[error("this is version {0}, and this program reads version {1}; update openvoip")]
    Version(u8, u8),
    /// The bytes end too soon.
    #[error("it is cut off within {0}")]
    CutOff(&'static str),
    /// The bytes go on.
    #[error("{0} bytes too many follow")]
    Trailing(usize),
    /// More than is allowed.
    #[error("{what}: {count}, and at most {most} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// A list that is not sorted, or holds something twice.
    #[error("{0}: not in order, or twice the same")]
    Order(&'static str),
    /// A value that means nothing.
    #[error("{what}: {value} is not {wanted}")]
    Value {
        /// Of what.
        what: &'static str,
        /// The value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
}

impl Flaw {
    pub(crate) fn value(what: &'static str, value: impl ToString, wanted: &'static str) -> Flaw {
        Flaw::Value { what, value: value.to_string(), wanted }
    }

    pub(crate) fn profile(number: u8) -> Flaw {
        Flaw::value("profile", number, "open (1), signed (2), secure (4) or secure with DTLS and TLS (12)")
    }
}

/// Longest name of an overlay, and longest half of an address-of-record, in bytes.
pub const MAX_NAME: usize = 200;

/// Whether a text can stand in an address-of-record, and in a file name.
pub fn is_name(text: &str) -> bool {
    let good = |c: char| c.is_alphanumeric() || "+-_.[]:%".contains(c);
    (1..=MAX_NAME).contains(&text.len()) && text.chars().all(good) && !text.contains("..")
}

pub(crate) fn check_name(name: &str) -> Result<(), Flaw> {
    let wanted = "a word of letters, digits, dots and dashes, of 1 to 200 bytes";
    if is_name(name) { Ok(()) } else { Err(Flaw::value("name", name.escape_debug(), wanted)) }
}

pub(crate) fn check_count(what: &'static str, count: usize, most: usize) -> Result<(), Flaw> {
    if count <= most { Ok(()) } else { Err(Flaw::TooMany { what, count, most }) }
}

/// An address at which a peer can be asked, in the one form that it has here: no wildcard, no multicast, no
/// scope that means something on one machine only, no IPv4 address in the clothes of IPv6.
pub(crate) fn check_peer_address(address: &SocketAddr) -> Result<(), Flaw> {
    let ip = address.ip();
    let plain = SocketAddr::new(ip, address.port()) == *address && ip.to_canonical() == ip;
    if plain && address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() {
        return Ok(());
    }
    Err(Flaw::value("peer", address, "an address that anybody could write to"))
}

/// Reads fields front to back.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Flaw> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Flaw::CutOff(what))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8, Flaw> {
        self.array(what).map(|[byte]| byte)
    }

    pub(crate) fn number(&mut self, what: &'static str) -> Result<u64, Flaw> {
        self.array(what).map(u64::from_be_bytes)
    }

    pub(crate) fn key(&mut self, what: &'static str) -> Result<PublicKey, Flaw> {
        self.array(what).map(PublicKey)
    }

    /// A name: its length in one byte, then that many bytes of UTF-8.
    pub(crate) fn name(&mut self) -> Result<String, Flaw> {
        let name = self.text("name", MAX_NAME)?;
        check_name(&name)?;
        Ok(name)
    }

    /// Any text, written likewise.
    pub(crate) fn text(&mut self, what: &'static str, most: usize) -> Result<String, Flaw> {
        let len = self.byte(what)?.into();
        check_count(what, len, most)?;
        let (text, rest) = self.0.split_at_checked(len).ok_or(Flaw::CutOff(what))?;
        self.0 = rest;
        let text = std::str::from_utf8(text)
            .map_err(|_| Flaw::value(what, data_encoding::HEXLOWER.encode(text), "UTF-8"))?;
        Ok(text.to_owned())
    }

    /// 4 or 6, the 4 or 16 bytes of the address, the port.
    pub(crate) fn address(&mut self) -> Result<SocketAddr, Flaw> {
        let ip = match self.byte("peer")? {
            4 => IpAddr::from(self.array::<4>("peer")?),
            6 => IpAddr::from(self.array::<16>("peer")?),
            other => return Err(Flaw::value("peer", other, "4 or 6, the version of an IP address")),
        };
        let address = SocketAddr::new(ip, u16::from_be_bytes(self.array("peer")?));
        check_peer_address(&address)?;
        Ok(address)
    }

    /// A list: how many in 16 bits, then each in ascending order. Memory is taken for what has arrived only.
    pub(crate) fn set<T: Ord>(
        &mut self,
        what: &'static str,
        most: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, Flaw>,
    ) -> Result<BTreeSet<T>, Flaw> {
        let count = u16::from_be_bytes(self.array(what)?).into();
        check_count(what, count, most)?;
        let mut set = BTreeSet::new();
        for _ in 0..count {
            let item = read(self)?;
            if set.last().is_some_and(|last| *last >= item) {
                return Err(Flaw::Order(what));
            }
            set.insert(item);
        }
        Ok(set)
    }

    pub(crate) fn end(&self) -> Result<(), Flaw> {
        if self.0.is_empty() { Ok(()) } else { Err(Flaw::Trailing(self.0.len())) }
    }
}

pub(crate) fn put_name(out: &mut Vec<u8>, name: &str) {
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
}

pub(crate) fn put_address(out: &mut Vec<u8>, address: &SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

pub(crate) fn put_set<'a, T: 'a>(
    out: &mut Vec<u8>,
    items: impl ExactSizeIterator<Item = T>,
    mut put: impl FnMut(&mut Vec<u8>, T),
) {
    out.extend_from_slice(&(items.len() as u16).to_be_bytes());
    items.for_each(|item| put(out, item));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form() {
        for good in ["192.0.2.1:7080", "[2001:db8::1]:7080", "127.0.0.1:1"] {
            assert_eq!(check_peer_address(&good.parse().unwrap()), Ok(()), "{good}");
        }
        for bad in [
            "0.0.0.0:7080",
            "192.0.2.1:0",
            "224.0.0.1:7080",
            "[::]:7080",
            "[::ffff:192.0.2.1]:7080",
            "[fe80::1%3]:7080",
        ] {
            assert!(check_peer_address(&bad.parse().unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_is_sorted_and_holds_nothing_twice() {
        let read = |bytes: &[u8]| Reader(bytes).set("things", 3, |r| r.byte("things"));
        assert_eq!(read(&[0, 2, 4, 5]), Ok(BTreeSet::from([4, 5])));
        assert_eq!(read(&[0, 2, 5, 4]), Err(Flaw::Order("things")));
        assert_eq!(read(&[0, 2, 5, 5]), Err(Flaw::Order("things")));
        assert_eq!(read(&[0, 4, 1, 2, 3, 4]), Err(Flaw::TooMany { what: "things", count: 4, most: 3 }));
        assert_eq!(read(&[0, 3, 1]), Err(Flaw::CutOff("things")));
    }
}
