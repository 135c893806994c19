//! Bytes into messages: every format an OpenVoIP peer speaks, and the few words all crates share.
//!
//! | module | turns bytes into |
//! |---|---|
//! | [`p2pp`] | P2PP messages, objects and signed records (`docs/protocol.md`) |
//! | [`sip`], [`sdp`] | SIP messages and session descriptions (RFC 3261, RFC 8866) |
//! | [`stun`] | STUN binding requests and answers (RFC 8489) |
//! | [`rtp`] | RTP and RTCP headers (RFC 3550, RFC 5761) |
//! | [`document`] | what holds in an overlay, signed by its founder (`docs/overlay-document.md`) |
//! | [`policy`] | who may store records of which kind |
//! | [`certificate`] | names given by an authority, and taken back (`docs/authority.md`) |
//! | [`number`] | what a keypad dials to reach a key |
//! | [`ticket`] | an invitation into an overlay, as a text that can be read aloud |
//!
//! The shared words: [`Key`], [`NodeId`], [`ResourceId`] and [`Distance`] are points of the
//! identifier space; [`Time`] is the world's clock handed in as an argument; [`Seed`] and [`Rng`]
//! are chance handed in at construction; [`KeyPair`] signs, [`AgreementKey`] agrees on secrets; [`Datagram`] and [`Transmit`] are what goes in and out.
//!
//! Nothing here does IO. Parsing never panics and never allocates more than the input justifies.

pub mod agreement;
pub mod book;
pub mod certificate;
pub mod choices;
pub mod dns;
pub mod document;
pub mod domain;
pub mod identity;
pub mod key;
pub mod net;
pub mod number;
pub mod p2pp;
pub mod policy;
pub mod profile;
pub mod puzzle;
pub mod queue;
pub mod rtp;
pub mod sdp;
pub mod seed;
pub mod signatures;
pub mod sip;
pub mod strict;
pub mod stun;
pub mod ticket;
pub mod time;
pub mod window;

pub use agreement::AgreementKey;
pub use book::{Book, OwnBook};
pub use certificate::{Certificate, NameRequest, Revocations};
pub use document::{OverlayDocument, SignedDocument};
pub use identity::{KeyPair, PublicKey};
pub use key::{Distance, HashAlgorithm, Key, NodeId, ResourceId};
pub use net::{ConnectionId, Contact, Datagram, Socket, Transmit};
pub use number::{Number, Stretch};
pub use profile::{LinkFamily, Profile};
pub use seed::{Rng, RngExt, Seed};
pub use signatures::Signatures;
pub use ticket::Ticket;
pub use time::{Time, UnixTime};
pub use window::Window;
