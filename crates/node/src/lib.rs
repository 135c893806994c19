//! Keys into people: one whole OpenVoIP peer as a state machine.
//!
//! [`Node`] composes the four middle crates and adds what makes them a telephone system. It owns no
//! socket and no clock. A world (the real one in `openvoip`, the simulated one in `sim`) drives it:
//!
//! ```text
//! loop {
//!     while let Some(t) = node.poll_transmit() { send(t) }
//!     while let Some(e) = node.poll_event()    { show(e) }
//!     match wait(sockets, node.poll_timeout()) {
//!         Bytes(socket, remote, buffer) => if let Some(f) = node.handle_datagram(now, socket, remote, buffer) { send(f) },
//!         Timeout                       => node.handle_timeout(now),
//!     }
//! }
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `node.rs` | the peer: what arrives, who deals with it, what leaves |
//! | `membership.rs` | bootstrap, join, upkeep, leave |
//! | [`role`], `attachment.rs` | peer or client; clients and the peers that carry them |
//! | `search.rs`, `forward.rs`, `answer.rs` | our own lookups; passing on and serving those of others |
//! | `request.rs`, `transaction.rs` | requests of our own and who wants the answer; one message over one hop, in spite of loss |
//! | [`policy`] | who may store what where |
//! | [`storage`], `replicate.rs` | what we keep for others, and that the right peers keep it |
//! | `publish.rs` | our own records in the overlay |
//! | [`directory`] | from a name to the peers that serve it |
//! | [`dial`] | from dialled digits to a name |
//! | `names.rs`, `enrolment.rs` | names that an authority gives: judging records, and asking for one's own |
//! | `domains.rs` | names that their domain proves |
//! | `numbers.rs` | numbers and keys that are dialled, and prove themselves |
//! | [`pins`] | the keys that first answered to names |
//! | `tunnel.rs` | SIP between peers |
//! | [`ratchet`] | text messages that a key stolen later does not open: letters, and who makes ratchets |
//! | `phones.rs`, `plane.rs`, [`call`], `locals.rs` | phones, where sound goes, the story of a call, built-in users |
//! | [`diagnostics`], [`ledger`], [`report`] | what a peer says about itself |
//! | [`budget`] | what it may spend, and what it leaves undone |
//! | `inspect.rs` | what a world may look at |
//! | [`operator`] | what others may change in it |

mod answer;
mod attachment;
mod bans;
pub mod budget;
pub mod call;
pub mod config;
pub mod diagnostics;
pub mod dial;
pub mod directory;
mod document;
mod domains;
mod enrolment;
pub mod event;
mod forward;
mod inspect;
pub mod ledger;
mod locals;
mod membership;
mod merge;
mod names;
mod networks;
mod node;
mod numbers;
pub mod operator;
mod phones;
pub mod pins;
mod plane;
pub mod policy;
mod publish;
pub mod ratchet;
mod region;
mod replicate;
pub mod report;
mod request;
pub mod role;
mod rumor;
mod search;
pub mod storage;
mod timers;
mod transaction;
mod tunnel;
mod upkeep;
mod whereabouts;

pub use config::{BASES, Config, Identity, KeptValue, OverlayOption, OverlayOptions, Saved, User};
pub use diagnostics::{Table, Target};
pub use directory::canonical_aor;
pub use document::Charter;
pub use domains::DomainProof;
pub use enrolment::{Registrar, revocations_key};
pub use event::{Event, Level, OpId, Outcome};
pub use inspect::{Known, Sizes};
pub use link::Provider;
pub use locals::CallOptions;
pub use names::NameRules;

pub use media::Forward;
pub use media::srtp::Tail;
pub use networks::{Carries, NetworkRules};
pub use node::Node;
pub use overlay::Algorithm;
pub use overlay::table::Networks;
pub use plane::{DtlsPolicy, EndToEndPolicy, Handshake, HandshakeKeys, SdesPolicy};
pub use ratchet::{Prekeys, Ratchet};
pub use role::{Role, RolePolicy};
pub use search::{LookupOptions, Mode};
pub use sip::Prefix;
pub use wire::{LinkFamily, Profile};
