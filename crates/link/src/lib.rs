//! Peers into paths: how bytes get to a peer, and what comes in on the one port.
//!
//! | file | holds |
//! |---|---|
//! | [`endpoint`] | [`Endpoint`]: the one port; sorts what arrives, answers STUN, sends to contacts |
//! | [`demux`] | which protocol a first byte belongs to (RFC 7983) |
//! | `links.rs` | links, over which messages go unless the profile is open |
//! | [`provider`] | links that a provider makes, DTLS and TLS: what the core asks of it |
//! | `sessions.rs`, `sealed_streams.rs` | such links over UDP and over streams |
//! | `waiting.rs`, `room.rs` | messages that wait for a link; who goes where there is no room |
//! | [`sealed`] | bytes that only one peer can read, whatever hops carry them |
//! | `resolver.rs` | what Noise is built from |
//! | [`streams`] | TCP towards addresses where UDP does not get through |
//! | [`proof`] | which addresses are proven, and the cookies that prove them |
//! | [`mapped`] | one's own address as other peers see it |
//! | [`rtt`] | round trips per address and the timeouts that follow (RFC 6298) |
//! | `book.rs` | a packed map from addresses, on which proofs and round trips stand |
//! | `outbox.rs` | what leaves, and the count of what does not |
//!
//! `node` hands over addresses and messages and never seals one itself; ICE paths will take their place behind
//! [`Endpoint::send_to`].

mod book;
mod bounds;
pub mod demux;
pub mod endpoint;
mod links;
pub mod mapped;
mod outbox;
pub mod proof;
pub mod provider;
mod resolver;
mod room;
pub mod rtt;
pub mod sealed;
mod sealed_streams;
mod sessions;
pub mod streams;
mod waiting;

pub use demux::Protocol;
pub use endpoint::{Endpoint, Received};
pub use mapped::MappedAddress;
pub use outbox::{Cargo, Sent};
pub use proof::Proofs;
pub use provider::Provider;
pub use rtt::RoundTrips;
pub use streams::Wish;
