//! Points of the identifier space.
//!
//! Peers and resources share one space, as wide as the overlay's hash: a [`NodeId`] is the hash of a
//! peer's public key, a [`ResourceId`] the hash of a name. The hash places things; it protects
//! nothing, which is why MD4 may stand beside SHA-256 (P2PP draft, P2P-Options).

use std::fmt;
use std::str::FromStr;

use md4::Md4;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A point of the identifier space: 16, 20 or 32 bytes, by the overlay's hash.
///
/// Ordered as a big-endian number. Keys of different widths belong to different overlays; comparing
/// them is harmless and meaningless.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    bytes: [u8; Key::MAX_LEN],
    len: u8,
}

impl Key {
    /// The widest key, in bytes (SHA-256).
    pub const MAX_LEN: usize = 32;

    /// A key from its bytes; `None` unless there are 16, 20 or 32 of them.
    pub fn from_slice(slice: &[u8]) -> Option<Self> {
        if !matches!(slice.len(), 16 | 20 | 32) {
            return None;
        }
        let mut bytes = [0; Key::MAX_LEN];
        bytes[..slice.len()].copy_from_slice(slice);
        Some(Key { bytes, len: slice.len() as u8 })
    }

    /// The key's bytes, most significant first.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// The first 64 bits.
    pub fn head(&self) -> u64 {
        self.bytes.first_chunk().map_or(0, |first: &[u8; 8]| u64::from_be_bytes(*first))
    }

    /// Width in bits: 128, 160 or 256.
    pub fn bits(&self) -> u32 {
        u32::from(self.len) * 8
    }

    /// The bit at `index`, counted from the most significant; `false` past the end.
    pub fn bit(&self, index: u32) -> bool {
        self.digit(index, 1) == 1
    }

    /// The digit of `width` bits (1 to 8) that starts at bit `start`, counted from the most
    /// significant bit. Bits past the end are zero.
    pub fn digit(&self, start: u32, width: u32) -> u8 {
        debug_assert!((1..=8).contains(&width));
        let (byte, shift) = ((start / 8) as usize, start % 8);
        let at = |i: usize| u16::from(if i < self.len as usize { self.bytes[i] } else { 0 });
        let window = (at(byte) << 8) | at(byte + 1);
        ((window >> (16 - shift - width)) & ((1 << width) - 1)) as u8
    }

    /// The same key with the bit at `index` flipped.
    pub fn with_flipped_bit(mut self, index: u32) -> Self {
        if index < self.bits() {
            self.bytes[(index / 8) as usize] ^= 0x80 >> (index % 8);
        }
        self
    }

    /// This key with everything after the first `prefix` bits taken from `rest`.
    pub fn with_suffix_of(mut self, prefix: u32, rest: &Key) -> Self {
        let (whole, bits) = ((prefix / 8) as usize, prefix % 8);
        for i in whole..self.len as usize {
            let kept = if i == whole { !(0xff >> bits) } else { 0 };
            self.bytes[i] = self.bytes[i] & kept | rest.bytes[i] & !kept;
        }
        self
    }

    /// Number of leading bits this key shares with `other`.
    pub fn common_prefix(&self, other: &Key) -> u32 {
        self.xor(other).leading_zeros().min(self.bits())
    }

    /// The XOR metric of Kademlia.
    pub fn xor(&self, other: &Key) -> Distance {
        let mut d = [0; Key::MAX_LEN];
        for (i, slot) in d.iter_mut().enumerate() {
            *slot = self.bytes[i] ^ other.bytes[i];
        }
        Distance(d)
    }

    /// How far one walks clockwise from this key to `other`: `other - self` modulo the ring.
    pub fn clockwise_to(&self, other: &Key) -> Distance {
        let mut d = [0; Key::MAX_LEN];
        let mut borrow = 0i16;
        for i in (0..self.len as usize).rev() {
            let v = i16::from(other.bytes[i]) - i16::from(self.bytes[i]) - borrow;
            borrow = i16::from(v < 0);
            d[i] = (v & 0xff) as u8;
        }
        Distance(d)
    }

    /// The first bytes in hexadecimal, enough to tell keys apart in a log.
    pub fn short(&self) -> String {
        self.bytes[..4].iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// A text that is not a key in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is 32, 40 or 64 hexadecimal digits")]
pub struct NotAKey;

impl FromStr for Key {
    type Err = NotAKey;
    fn from_str(s: &str) -> Result<Self, NotAKey> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(s.as_bytes()).map_err(|_| NotAKey)?;
        Key::from_slice(&bytes).ok_or(NotAKey)
    }
}

/// Distance between two keys, under whichever metric made it. Smaller is nearer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Distance(pub [u8; Key::MAX_LEN]);

impl Distance {
    /// No distance at all.
    pub const ZERO: Distance = Distance([0; Key::MAX_LEN]);

    /// Leading zero bits: the more, the nearer.
    pub fn leading_zeros(&self) -> u32 {
        let mut zeros = 0;
        for word in self.0.as_chunks().0 {
            let word = u64::from_be_bytes(*word);
            zeros += word.leading_zeros();
            if word != 0 {
                break;
            }
        }
        zeros
    }
}

impl Distance {
    /// The distance as a part of the space, above 0 and at most 1.
    pub fn part(&self) -> f64 {
        let head = self.0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        (head as f64 + 1.0) / 2f64.powi(64)
    }

    /// Twice the distance, at most the whole space.
    pub fn doubled(mut self) -> Self {
        if self.0[0] & 0x80 != 0 {
            return Distance([0xff; Key::MAX_LEN]);
        }
        let mut carry = 0;
        for byte in self.0.iter_mut().rev() {
            (*byte, carry) = (*byte << 1 | carry, *byte >> 7);
        }
        self
    }
}

impl fmt::Debug for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "2^-{}", self.leading_zeros())
    }
}

macro_rules! point {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Key);

        impl $name {
            /// The point itself.
            pub fn key(&self) -> &Key {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl From<Key> for $name {
            fn from(key: Key) -> Self {
                $name(key)
            }
        }
    };
}

point! {
    /// Where a peer stands: the overlay's hash of its public key (draft: Peer-ID).
    NodeId
}
point! {
    /// Where a resource stands: the overlay's hash of its name (draft: Resource-ID).
    ResourceId
}

/// The overlay's hash, numbered as in the draft's P2P-Options.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum HashAlgorithm {
    /// 160 bits.
    Sha1 = 1,
    /// 256 bits, the default.
    #[default]
    Sha256 = 2,
    /// 128 bits; places keys, protects nothing.
    Md4 = 4,
    /// 128 bits; places keys, protects nothing.
    Md5 = 5,
}

impl HashAlgorithm {
    /// Every hash this peer knows.
    pub const ALL: [HashAlgorithm; 4] =
        [HashAlgorithm::Sha1, HashAlgorithm::Sha256, HashAlgorithm::Md4, HashAlgorithm::Md5];

    /// The hash with this number on the wire.
    pub fn from_number(n: u8) -> Option<Self> {
        HashAlgorithm::ALL.into_iter().find(|h| *h as u8 == n)
    }

    /// Width of its keys in bytes.
    pub fn len(self) -> usize {
        match self {
            HashAlgorithm::Sha1 => 20,
            HashAlgorithm::Sha256 => 32,
            HashAlgorithm::Md4 | HashAlgorithm::Md5 => 16,
        }
    }

    /// Never true; there is no hash of nothing wide.
    pub fn is_empty(self) -> bool {
        false
    }

    /// The key at which `data` stands.
    pub fn digest(self, data: &[u8]) -> Key {
        match self {
            HashAlgorithm::Sha1 => Key::from_slice(&Sha1::digest(data)),
            HashAlgorithm::Sha256 => Key::from_slice(&Sha256::digest(data)),
            HashAlgorithm::Md4 => Key::from_slice(&Md4::digest(data)),
            HashAlgorithm::Md5 => Key::from_slice(&Md5::digest(data)),
        }
        .expect("every hash here is 16, 20 or 32 bytes wide")
    }

    /// Its name in configuration and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            HashAlgorithm::Sha1 => "sha-1",
            HashAlgorithm::Sha256 => "sha-256",
            HashAlgorithm::Md4 => "md4",
            HashAlgorithm::Md5 => "md5",
        }
    }
}

impl FromStr for HashAlgorithm {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let wanted = s.to_ascii_lowercase().replace('-', "");
        HashAlgorithm::ALL
            .into_iter()
            .find(|h| h.name().replace('-', "") == wanted)
            .ok_or_else(|| format!("unknown hash '{s}': choose sha-256, sha-1, md5 or md4"))
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(s: &str) -> Key {
        s.parse().unwrap()
    }

    #[test]
    fn hashes_match_their_published_vectors_for_abc() {
        let cases = [
            (HashAlgorithm::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (HashAlgorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (HashAlgorithm::Md4, "a448017aaf21d8525fc10ae87aa6729d"),
            (HashAlgorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
        ];
        for (hash, digest) in cases {
            assert_eq!(hash.digest(b"abc"), hex(digest), "{hash}");
            assert_eq!(hash.digest(b"abc").as_bytes().len(), hash.len());
        }
    }

    #[test]
    fn the_ring_wraps() {
        let a = hex("ffffffffffffffffffffffffffffffff");
        let b = hex("00000000000000000000000000000001");
        let mut two = [0; 32];
        two[15] = 2;
        assert_eq!(a.clockwise_to(&b), Distance(two));
        assert_eq!(a.clockwise_to(&a), Distance::ZERO);
    }

    #[test]
    fn prefixes_digits_and_flips_agree() {
        let a = hex("a5000000000000000000000000000000");
        assert_eq!(a.digit(0, 4), 0xa);
        assert_eq!(a.digit(4, 4), 0x5);
        assert_eq!(a.digit(2, 8), 0b1001_0100);
        assert_eq!(a.common_prefix(&a), 128);
        assert_eq!(a.common_prefix(&a.with_flipped_bit(9)), 9);
        let b = hex("ffffffffffffffffffffffffffffffff");
        assert_eq!(a.with_suffix_of(8, &b), hex("a5ffffffffffffffffffffffffffffff"));
    }

    #[test]
    fn a_key_survives_being_printed() {
        for hash in HashAlgorithm::ALL {
            let key = hash.digest(b"sip:alice@example.org");
            assert_eq!(key.to_string().parse::<Key>(), Ok(key));
        }
        assert_eq!("abc".parse::<Key>(), Err(NotAKey));
    }
}
