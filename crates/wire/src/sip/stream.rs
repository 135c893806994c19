//! Messages out of a byte stream (RFC 3261 section 18.3, RFC 5626 section 4.4.1).

use super::parse::MAX_MESSAGE;

/// One thing found in a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// The bytes of one whole message, for [`super::parse`].
    Message(Vec<u8>),
    /// A double CRLF between messages; answer it with [`Framer::PONG`].
    Ping,
    /// A single CRLF between messages.
    Pong,
}

/// A stream whose messages can no longer be told apart; close the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no message boundary can be found in this stream any more: {0}")]
pub struct FramingLost(pub &'static str);

/// Cuts a byte stream into messages by their Content-Length. Holds at most one unfinished message
/// of [`MAX_MESSAGE`] bytes beside what the last push brought.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// How far the end of the head was already sought, so that single bytes are not quadratic.
    sought: usize,
    /// Head and body length of the message being received, once the head is whole.
    whole: Option<usize>,
}

impl Framer {
    /// The answer to a [`Frame::Ping`].
    pub const PONG: &'static [u8] = b"\r\n";

    /// A framer at the beginning of a stream.
    pub fn new() -> Framer {
        Framer::default()
    }

    /// Takes the next piece of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next thing in the stream; `None` when more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FramingLost> {
        if self.whole.is_none() {
            if self.buffer.starts_with(b"\r\n\r\n") {
                self.take(4);
                return Ok(Some(Frame::Ping));
            }
            // A lone CR or CRLF may be the beginning of a ping; a CRLF with something else after
            // it is a pong, or the blank line some senders put between messages.
            if self.buffer.starts_with(b"\r\n") && self.buffer.len() > 2 && self.buffer[2] != b'\r' {
                self.take(2);
                return Ok(Some(Frame::Pong));
            }
            if self.buffer.first().is_none_or(|b| *b == b'\r') {
                return if self.buffer.len() < 4 { Ok(None) } else { Err(STRAY_CR) };
            }
            let from = self.sought.saturating_sub(3);
            let Some(at) = self.buffer[from..].windows(4).position(|w| w == b"\r\n\r\n") else {
                self.sought = self.buffer.len();
                return match self.buffer.len() > MAX_MESSAGE {
                    true => Err(FramingLost("a head longer than any message")),
                    false => Ok(None),
                };
            };
            let head = from + at + 4;
            let whole = head + content_length(&self.buffer[..head])?;
            if whole > MAX_MESSAGE {
                return Err(FramingLost("a message longer than allowed"));
            }
            self.whole = Some(whole);
        }
        match self.whole {
            Some(whole) if self.buffer.len() >= whole => {
                self.whole = None;
                Ok(Some(Frame::Message(self.take(whole))))
            }
            _ => Ok(None),
        }
    }

    /// Bytes of an unfinished message held back.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Those bytes; after an error, the message that could not be told apart and all behind it.
    pub fn unfinished(&self) -> &[u8] {
        &self.buffer
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.sought = 0;
        let rest = self.buffer.split_off(count);
        std::mem::replace(&mut self.buffer, rest)
    }
}

const STRAY_CR: FramingLost = FramingLost("a carriage return alone");

/// The one Content-Length of a head; a stream without it cannot be cut (RFC 3261 section 20.14).
fn content_length(head: &[u8]) -> Result<usize, FramingLost> {
    let mut found = None;
    for line in head.split(|b| *b == b'\n') {
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            continue;
        };
        let name = line[..colon].trim_ascii_end();
        if !name.eq_ignore_ascii_case(b"Content-Length") && !name.eq_ignore_ascii_case(b"l") {
            continue;
        }
        let value = line[colon + 1..].trim_ascii();
        let digits = !value.is_empty() && value.len() <= 9 && value.iter().all(u8::is_ascii_digit);
        if !digits || found.is_some() {
            return Err(FramingLost("a Content-Length that is no number, or two of them"));
        }
        found = Some(value.iter().fold(0, |n, b| n * 10 + usize::from(b - b'0')));
    }
    found.ok_or(FramingLost("a message without Content-Length"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &[u8] = b"OPTIONS sip:a SIP/2.0\r\nl: 3\r\n\r\nabc";
    const B: &[u8] = b"BYE sip:a SIP/2.0\r\nContent-Length : 0\r\n\r\n";

    fn frames(pieces: &[&[u8]]) -> Result<Vec<Frame>, FramingLost> {
        let (mut framer, mut out) = (Framer::new(), Vec::new());
        for piece in pieces {
            framer.push(piece);
            while let Some(frame) = framer.next_frame()? {
                out.push(frame);
            }
        }
        Ok(out)
    }

    #[test]
    fn a_ping_between_messages_is_told_apart() {
        let stream = [A, b"\r\n\r\n", B, b"\r\n", A].concat();
        let expected = vec![
            Frame::Message(A.to_vec()),
            Frame::Ping,
            Frame::Message(B.to_vec()),
            Frame::Pong,
            Frame::Message(A.to_vec()),
        ];
        assert_eq!(frames(&[&stream]), Ok(expected));
    }

    #[test]
    fn a_stream_that_cannot_be_cut_is_given_up() {
        assert!(frames(&[b"BYE sip:a SIP/2.0\r\nTo: x\r\n\r\n"]).is_err());
        assert!(frames(&[b"BYE sip:a SIP/2.0\r\nl: -1\r\n\r\n"]).is_err());
        assert!(frames(&[b"BYE sip:a SIP/2.0\r\nl: 1\r\nl: 1\r\n\r\n"]).is_err());
        assert!(frames(&[b"BYE sip:a SIP/2.0\r\nl: 99999999\r\n\r\n"]).is_err());
        assert!(frames(&[&vec![b'x'; MAX_MESSAGE + 1]]).is_err());
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(cut in 0..(A.len() + B.len()), second in 0..(A.len() + B.len())) {
            let stream = [A, B].concat();
            let (first, second) = (cut.min(second), cut.max(second));
            let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
            prop_assert_eq!(
                frames(&pieces),
                Ok(vec![Frame::Message(A.to_vec()), Frame::Message(B.to_vec())])
            );
        }

        #[test]
        fn any_bytes_end_in_frames_or_an_error(bytes: Vec<u8>) {
            let _ = frames(&[&bytes]);
        }
    }
}
