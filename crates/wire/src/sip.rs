//! SIP messages (RFC 3261): parsing, checking, changing and writing them.
//!
//! The adopted parser (`sipx-sip`) frames, unfolds and judges what arrives; everything public here
//! is our own, so that it can be replaced without touching a caller. What comes out is a
//! [`Message`]: a start line, header fields under their canonical names, a body. Typed views
//! ([`Via`], [`NameAddr`], [`Uri`], [`CSeq`]) are parsed when asked for.
//!
//! | file | concern |
//! |---|---|
//! | `message` | [`Message`], [`Method`], header access, replies, serialisation |
//! | `field` | the structured header values |
//! | `uri` | SIP and tel URIs, addresses of record |
//! | `parse` | bytes into messages, and what to answer when they are not one |
//! | `check` | what must be refused although it parses: 405, 416, 420, 483, 501, 505 |
//! | `digest` | digest authentication, both sides (RFC 2617 and 7616 syntax, MD5) |
//! | `stream` | messages out of a byte stream, keep-alives included |
//!
//! A header that is not UTF-8 is read as ISO 8859-1, which is what the phones that send such bytes
//! mean by them; it leaves as UTF-8.

mod check;
pub mod digest;
mod field;
mod message;
mod parse;
mod stream;
#[cfg(test)]
mod torture;
mod uri;

pub use check::{Policy, check};
pub use field::{CSeq, NameAddr, Params, Via, split_list, unquote};
pub use message::{Header, Message, Method, Start, reason_phrase};
pub use parse::{MAX_MESSAGE, Refusal, parse};
pub use stream::{Frame, Framer, FramingLost};
pub use uri::{NotAUri, Uri, percent_decode, percent_encode_user};
