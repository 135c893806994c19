//! Type-length-value framing.
//!
//! ```text
//! | type (8) | A B reserved (8) | length of the value (16) | value ... |
//! ```
//!
//! The draft's two bits AB say what a reader does with a type it does not know: 00 refuse the whole
//! message, 01 skip the object; 10 and 11 are reserved and refused. There is no padding.

use super::ParseError;

/// Bytes before the value.
pub const HEADER_LEN: usize = 4;

/// AB = 00: refuse the message if the type of this object is unknown.
pub const MANDATORY: u8 = 0;

/// AB = 01: skip this object if its type is unknown.
pub const IGNORABLE: u8 = 0b0100_0000;

/// One object as it stands in the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tlv<'a> {
    /// The object type.
    pub number: u8,
    /// Whether a reader that does not know the type may skip it.
    pub ignorable: bool,
    /// The value.
    pub value: &'a [u8],
}

/// Reads objects one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads the objects that fill `body`.
    pub fn new(body: &'a [u8]) -> Self {
        Reader { rest: body }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Tlv<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let taken = take(&mut self.rest);
        if taken.is_err() {
            self.rest = &[];
        }
        Some(taken)
    }
}

/// Takes the first object off.
pub(super) fn take<'a>(rest: &mut &'a [u8]) -> Result<Tlv<'a>, ParseError> {
    let (head, tail) = rest.split_first_chunk::<HEADER_LEN>().ok_or(ParseError::Truncated)?;
    let len = u16::from_be_bytes([head[2], head[3]]) as usize;
    let (value, after) = tail.split_at_checked(len).ok_or(ParseError::Truncated)?;
    if head[1] & 0b1000_0000 != 0 {
        return Err(ParseError::Malformed(head[0]));
    }
    *rest = after;
    Ok(Tlv { number: head[0], ignorable: head[1] & IGNORABLE != 0, value })
}

/// Appends an object whose value `write` produces.
///
/// # Panics
/// If the value is longer than 65,535 bytes: callers bound what they write.
pub fn emit(out: &mut Vec<u8>, number: u8, flags: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[number, flags, 0, 0]);
    write(out);
    let len = out.len() - start - HEADER_LEN;
    let len = u16::try_from(len).expect("object values are bounded by their writers");
    out[start + 2..start + HEADER_LEN].copy_from_slice(&len.to_be_bytes());
}
