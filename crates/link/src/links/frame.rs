//! The frames of a link, as they stand in a datagram.
//!
//! | kind | after the first byte | |
//! |---|---|---|
//! | 0 first | index of the sender (4), cookie (16), body, padding | asks for a link |
//! | 1 second | index of the receiver (4), index of the sender (4), body | answers with no more bytes than it got |
//! | 2 third | index of the receiver (4), body | the link stands |
//! | 3 sealed | index of the receiver (4), counter (4), body | a message |
//! | 4 cookie | index of the receiver (4), cookie (16) | "say it again with this": too many ask |
//! | 5 lost | index that the sender of this does not know (4), end of the frame that named it (8) | "that link is gone here" |
//!
//! The first byte is the suite, [`Suite::first_byte`](super::suite::Suite::first_byte), plus the kind.
//! Numbers are big-endian. An index names one end of one link to its owner, who drew it; it is all that
//! is looked at before the body is checked.

use super::suite::Suite;

/// Width of the cookie of [`crate::Proofs`].
const COOKIE: usize = 16;

/// Bytes of a sealed frame that are not its message: head and tag.
pub(crate) const OVERHEAD: usize = 9 + 16;

/// Bytes of a first frame before its body, and of a second.
pub(crate) const HEADS: [usize; 2] = [1 + 4 + COOKIE, 1 + 4 + 4];

/// Bytes of a frame by which who is told that it was lost knows it again.
const TAIL: usize = 8;

/// A frame, its body still closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Frame<'a> {
    First { from: u32, cookie: [u8; COOKIE], body: &'a [u8] },
    Second { to: u32, from: u32, body: &'a [u8] },
    Third { to: u32, body: &'a [u8] },
    Sealed { to: u32, counter: u32, body: &'a [u8] },
    Cookie { to: u32, cookie: [u8; COOKIE] },
    Lost { to: u32, tail: [u8; TAIL] },
}

impl<'a> Frame<'a> {
    /// The frame in a datagram of this suite; `None` for one of another suite, and for what is none.
    pub(crate) fn parse(suite: Suite, datagram: &'a [u8]) -> Option<Self> {
        let (first, rest) = datagram.split_first()?;
        let kind = first.checked_sub(suite.first_byte())?;
        let mut rest = rest;
        let to = u32::from_be_bytes(take(&mut rest)?);
        Some(match kind {
            0 => Frame::First { from: to, cookie: take(&mut rest)?, body: rest },
            1 => Frame::Second { to, from: u32::from_be_bytes(take(&mut rest)?), body: rest },
            2 => Frame::Third { to, body: rest },
            3 => Frame::Sealed { to, counter: u32::from_be_bytes(take(&mut rest)?), body: rest },
            4 => Frame::Cookie { to, cookie: whole(rest)? },
            5 => Frame::Lost { to, tail: whole(rest)? },
            _ => return None,
        })
    }

    /// The frame as a datagram.
    pub(crate) fn to_bytes(self, suite: Suite) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADS[0] + 160);
        let mut head = |kind: u8, index: u32| {
            out.push(suite.first_byte() + kind);
            out.extend_from_slice(&index.to_be_bytes());
        };
        match self {
            Frame::First { from, cookie, body } => {
                head(0, from);
                out.extend_from_slice(&cookie);
                out.extend_from_slice(body);
            }
            Frame::Second { to, from, body } => {
                head(1, to);
                out.extend_from_slice(&from.to_be_bytes());
                out.extend_from_slice(body);
            }
            Frame::Third { to, body } => {
                head(2, to);
                out.extend_from_slice(body);
            }
            Frame::Sealed { to, counter, body } => {
                out = sealed_head(suite, to, counter).to_vec();
                out.extend_from_slice(body);
            }
            Frame::Cookie { to, cookie } => {
                head(4, to);
                out.extend_from_slice(&cookie);
            }
            Frame::Lost { to, tail } => {
                head(5, to);
                out.extend_from_slice(&tail);
            }
        }
        out
    }
}

/// What stands before the body of a sealed frame.
pub(crate) fn sealed_head(suite: Suite, to: u32, counter: u32) -> [u8; 9] {
    let mut head = [suite.first_byte() + 3; 9];
    head[1..5].copy_from_slice(&to.to_be_bytes());
    head[5..].copy_from_slice(&counter.to_be_bytes());
    head
}

/// The end of a frame, by which its sender knows it again.
pub(crate) fn tail(frame: &[u8]) -> Option<[u8; TAIL]> {
    frame.last_chunk().copied()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn whole<const N: usize>(rest: &[u8]) -> Option<[u8; N]> {
    rest.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_read_as_it_was_written_and_by_its_own_suite_only() {
        let frames = [
            Frame::First { from: 1, cookie: [7; 16], body: b"body" },
            Frame::Second { to: 2, from: 3, body: b"body" },
            Frame::Third { to: 4, body: b"" },
            Frame::Sealed { to: 5, counter: 6, body: b"message and tag" },
            Frame::Cookie { to: 7, cookie: [8; 16] },
            Frame::Lost { to: u32::MAX, tail: [9; 8] },
        ];
        for frame in frames {
            for suite in Suite::ALL {
                let bytes = frame.to_bytes(suite);
                for other in Suite::ALL {
                    let read = Frame::parse(other, &bytes);
                    assert_eq!(read, (other == suite).then_some(frame), "{bytes:02x?} as {other:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_cut_off_in_its_head_is_no_frame() {
        let whole = Frame::First { from: 1, cookie: [7; 16], body: b"" }.to_bytes(Suite::Noise);
        for len in 0..whole.len() {
            assert_eq!(Frame::parse(Suite::Noise, &whole[..len]), None, "{len}");
        }
        let mut long = Frame::Lost { to: 1, tail: [0; 8] }.to_bytes(Suite::Noise);
        long.push(0);
        assert_eq!(Frame::parse(Suite::Noise, &long), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            for suite in Suite::ALL {
                if let Some(frame) = Frame::parse(suite, &bytes) {
                    proptest::prop_assert_eq!(frame.to_bytes(suite), bytes.clone());
                }
            }
        }
    }
}
