//! Peers into paths: how bytes get to a peer, and what comes in on the one port.
//!
//! | file | holds |
//! |---|---|
//! | [`endpoint`] | [`Endpoint`]: the one port; sorts what arrives, answers STUN, sends to contacts |
//! | [`demux`] | which protocol a first byte belongs to (RFC 7983) |
//! | [`proof`] | which addresses are proven, and the cookies that prove them |
//! | [`mapped`] | one's own address as other peers see it |
//! | [`rtt`] | round trips per address and the timeouts that follow (RFC 6298) |
//! | `book.rs` | a packed map from addresses, on which proofs and round trips stand |
//!
//! `node` hands over [`wire::Contact`]s and messages and never picks an address itself; secure links
//! and ICE paths take their place behind [`Endpoint::send`]. The profile is `open` for now: P2PP
//! travels in the clear, signed where it changes something.

mod book;
pub mod demux;
pub mod endpoint;
pub mod mapped;
pub mod proof;
pub mod rtt;

pub use demux::Protocol;
pub use endpoint::{Endpoint, Received};
pub use mapped::MappedAddress;
pub use proof::Proofs;
pub use rtt::RoundTrips;
