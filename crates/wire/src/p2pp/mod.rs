//! P2PP, the peer-to-peer protocol (after draft-baset-p2psip-p2pp-01, mended).
//!
//! `docs/protocol.md` is the specification; the files here follow it section by section:
//!
//! | file | holds |
//! |---|---|
//! | [`header`] | the common header: who asks, which message, how long it may take |
//! | [`code`] | response codes |
//! | [`tlv`] | type-length-value framing |
//! | [`object`] | the table of all objects |
//! | [`field`] | the fields they are made of: numbers, keys, texts, addresses |
//! | [`peer`], [`options`], [`status`] | objects with a structure of their own |
//! | [`known`] | whom an asker knows already, so that an answer need not name them |
//! | [`density`] | how close to a place the peers around it stand |
//! | [`record`] | signed resource objects: what peers store for each other |
//! | [`message`] | a whole message: the checked view, the builder, the originator's signature |
//! | `display` | messages as text |
//!
//! A received datagram becomes a [`Message`] that borrows it; nothing is copied until something is
//! kept. After [`Message::parse`] succeeded, every object in it has been checked.

pub mod code;
pub mod density;
mod display;
pub mod field;
pub mod header;
pub mod holders;
pub mod known;
pub mod link_state;
pub mod message;
pub mod object;
pub mod options;
pub mod peer;
pub mod record;
pub mod status;
pub mod tlv;

pub use code::Code;
pub use density::Density;
pub use header::{Class, Header, MessageType, TransactionId, VERSION};
pub use link_state::LinkState;
pub use message::{Builder, Message};
pub use object::Object;
pub use options::{P2pOptions, PLookup, RLookup, RequestOptions};
pub use peer::{AddressInfo, CandidateKind, PeerInfo, PeerList, TransportKind};
pub use record::{Kind, Record, RecordRef, RecordSummary};
pub use status::{Connections, Diagnostic, MessageCounts, RouteHop, Utilization};

use thiserror::Error;

/// Largest P2PP datagram: fits the smallest path MTU in common use with room for a secure link's
/// framing (draft: "MTU"; RFC 8445 and QUIC settle on the same figure).
pub const MAX_DATAGRAM: usize = 1_200;

/// Why bytes are not a P2PP message. One variant per offence, so that logs can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ParseError {
    /// The bytes end before the structure does.
    #[error("truncated")]
    Truncated,
    /// The first two bits are not 11 or the cookie is wrong: some other protocol.
    #[error("not P2PP")]
    NotP2pp,
    /// A version this peer does not speak.
    #[error("version {0} is not spoken here")]
    Version(u8),
    /// Class bits without a meaning: an acknowledgement of an indication or of an acknowledgement.
    #[error("class bits without a meaning")]
    Class,
    /// A message type without a meaning.
    #[error("unknown message type {0}")]
    UnknownMessage(u8),
    /// An identifier that is neither absent nor 16, 20 or 32 bytes wide.
    #[error("bad identifier length")]
    IdLength,
    /// The body is longer or shorter than the header says.
    #[error("body length differs from the header's")]
    BodyLength,
    /// A mandatory object this peer does not know (answered with 420 and the type).
    #[error("unknown mandatory object {0}")]
    UnknownObject(u8),
    /// An object whose value breaks its layout.
    #[error("malformed object {0}")]
    Malformed(u8),
    /// More objects than [`message::MAX_OBJECTS`], or nested deeper than the layouts allow.
    #[error("too many objects")]
    TooMany,
}
