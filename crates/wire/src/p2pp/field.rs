//! The fields that objects are made of: numbers, keys, texts, addresses.
//!
//! An object's value is its fields one after the other, without padding. Fields of fixed width come
//! first; a key, text or address in last place reaches to the end of the value, whose length is
//! known.

use std::net::{IpAddr, SocketAddr};

use super::record::Kind;
use super::tlv::Tlv;
use super::{Code, ParseError};
use crate::identity::PublicKey;
use crate::{Key, NodeId, ResourceId};

/// Most bytes of a text (name, setting, diagnostic value, reason).
pub const MAX_TEXT: usize = 255;

/// Reads the fields of one object, front to back.
pub(super) struct Cursor<'a> {
    /// The object's number, for errors.
    pub(super) number: u8,
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(tlv: Tlv<'a>) -> Self {
        Cursor { number: tlv.number, rest: tlv.value }
    }

    /// The error of an object that breaks its layout.
    pub(super) fn malformed(&self) -> ParseError {
        ParseError::Malformed(self.number)
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], ParseError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(self.malformed())?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(self.malformed())?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Everything to the end of the value.
    pub(super) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The first byte of what is left, which stays there.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next object, framing included.
    pub(super) fn object(&mut self) -> Result<Tlv<'a>, ParseError> {
        super::tlv::take(&mut self.rest)
    }

    /// The next field.
    pub(super) fn read<T: Field<'a>>(&mut self) -> Result<T, ParseError> {
        T::read(self)
    }

    /// The next field, which is exactly `len` bytes wide.
    pub(super) fn read_sized<T: Field<'a>>(&mut self, len: usize) -> Result<T, ParseError> {
        let value = self.take(len)?;
        let mut part = Cursor { number: self.number, rest: value };
        let field = T::read(&mut part)?;
        part.end()?;
        Ok(field)
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), ParseError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }
}

/// A field: how it is read, and how it is written.
pub(super) trait Field<'a>: Sized {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, ParseError>;
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Field<'_> for $number {
            fn read(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
                cursor.array().map(<$number>::from_be_bytes)
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    )*};
}

numbers! { u8 u16 u32 u64 }

/// A field that wraps another one.
macro_rules! wrappers {
    ($($outer:ident($inner:ty))*) => {$(
        impl Field<'_> for $outer {
            fn read(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
                cursor.read::<$inner>().map($outer)
            }

            fn write(&self, out: &mut Vec<u8>) {
                self.0.write(out);
            }
        }
    )*};
}

wrappers! { Code(u16) Kind(u16) PublicKey([u8; PublicKey::LEN]) NodeId(Key) ResourceId(Key) }

impl<const N: usize> Field<'_> for [u8; N] {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        cursor.array()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

/// To the end of the value: 16, 20 or 32 bytes.
impl Field<'_> for Key {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        Key::from_slice(cursor.take_rest()).ok_or(cursor.malformed())
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

/// To the end of the value.
impl<'a> Field<'a> for &'a [u8] {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        Ok(cursor.take_rest())
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

/// To the end of the value: UTF-8, at most [`MAX_TEXT`] bytes. A longer text is cut when written.
impl<'a> Field<'a> for &'a str {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        let text = std::str::from_utf8(cursor.take_rest()).ok();
        text.filter(|t| t.len() <= MAX_TEXT).ok_or(cursor.malformed())
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(clip(self).as_bytes());
    }
}

/// The longest beginning of `text` that fits into [`MAX_TEXT`] bytes.
pub(super) fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

/// To the end of the value: port, then 4 or 16 address bytes, whose number tells the IP version.
impl Field<'_> for SocketAddr {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let port = cursor.read()?;
        let ip = cursor.take_rest();
        let ip = match ip.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(ip).expect("4 bytes")),
            16 => IpAddr::from(<[u8; 16]>::try_from(ip).expect("16 bytes")),
            _ => return Err(cursor.malformed()),
        };
        Ok(SocketAddr::new(ip, port))
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.port().write(out);
        match self.ip() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "é".repeat(200);
        assert_eq!(clip(&text).len(), 254);
        assert_eq!(clip("short"), "short");
    }
}
