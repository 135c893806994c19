//! What a peer tells its world.

use crate::plane::Handshake;
use crate::report::{CallReport, Found, InboxMessage, LookupReport, MessageReport, PingReport, Value};

/// Names one command, so that its outcome can be told from others'.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct OpId(pub u64);

/// How a command ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Of `lookup_user`, `lookup_key` or a probe.
    Lookup(LookupReport),
    /// Of `get`.
    Value(Value),
    /// Of `put` and `remove`: how many peers hold it now.
    Stored {
        /// Peers that accepted.
        holders: usize,
        /// Its sequence number.
        sequence: u64,
    },
    /// Of `ping`.
    Ping(PingReport),
    /// Of `call`: the call has ended.
    Call(CallReport),
    /// Of `message`.
    Message(MessageReport),
    /// Of `tables`, `objects_at` and `diagnostics_of`: what the other peer said.
    Tables(Found),
    /// It failed: a code of P2PP or SIP, and why in words.
    Failed {
        /// The code.
        code: u16,
        /// Why.
        reason: String,
    },
}

/// What a peer tells its world.
#[derive(Clone, Debug)]
pub enum Event {
    /// A command ended.
    Done {
        /// Which.
        op: OpId,
        /// How.
        outcome: Outcome,
    },
    /// The peer is in the overlay now, with these options.
    Online,
    /// The peer is in no overlay, and goes on trying.
    Offline {
        /// Why.
        reason: String,
    },
    /// The peers around the place of a record stand denser than chance allows: somebody has chosen
    /// identities to surround it.
    Crowded {
        /// The user's name, the key of the value, or a Node-ID.
        name: String,
        /// The record is ours, and kept in the region around as well; else somebody here asked for it.
        ours: bool,
    },
    /// A name this peer serves is held by somebody else.
    NameTaken {
        /// The address-of-record.
        aor: String,
    },
    /// Another key answers to a name than the one known: the call or message was refused. Or somebody calls
    /// or writes in that name from another peer, and is shown as [`MARK`](crate::pins::MARK).
    KeyChanged {
        /// The address-of-record.
        name: String,
        /// The beginning of the key that is known.
        known: String,
        /// The beginning of the key that was found, or of the caller's Node-ID.
        found: String,
        /// Whether they call us; else we called them.
        calls: bool,
    },
    /// A user's record is published and was read back.
    Published {
        /// The address-of-record.
        aor: String,
    },
    /// A phone registered, refreshed or left.
    Phone {
        /// Whose.
        user: String,
        /// Its contact.
        contact: String,
        /// Whether it is there.
        online: bool,
    },
    /// A phone used a wrong password.
    WrongPassword {
        /// As whom.
        user: String,
        /// From where.
        remote: std::net::SocketAddr,
    },
    /// A call changed.
    Call(CallReport),
    /// A message came in or went out.
    Inbox(InboxMessage),
    /// Media ports are wanted: bind even-odd pairs and give them with `offer_media_port`.
    MediaPortsWanted(usize),
    /// A media port pair is not used any more: close it.
    MediaPortReleased(u16),
    /// What the handshake of a phone at a media port needs of the world.
    Handshake(Handshake),
    /// Something worth a line in the log.
    Log {
        /// How grave.
        level: Level,
        /// What part of the peer.
        target: &'static str,
        /// What happened.
        message: String,
    },
    /// An operator changed the log filter.
    SetLogFilter(String),
    /// What `save` returns has changed in a way worth keeping.
    Save,
    /// Newer documents of the overlay hold; their bytes are to be kept.
    Document(Vec<u8>),
    /// `leave` is done: the peer has said goodbye.
    Left,
    /// A stream to another peer is wanted: connect by TCP from the peer port, and tell
    /// `handle_peer_stream_opened` or `handle_peer_stream_closed`.
    OpenPeerStream(std::net::SocketAddr),
    /// A stream to another peer is to be closed, or given up if it does not stand yet. Nothing is to be told.
    ClosePeerStream(std::net::SocketAddr),
    /// What a key costs is wanted, [`wire::Stretch::of`]: it takes a good part of a second and 64 MiB, so work it out
    /// beside the packets, and tell `handle_stretched`. Only where [`Config::numbers`](crate::Config::numbers) says so.
    StretchWanted(wire::PublicKey),
    /// What the domain of this name says of it is wanted ([`wire::domain`]): ask beside the packets, and tell
    /// `handle_domain_said` in any case. Only where [`Config::domain_proof`](crate::Config::domain_proof) says so.
    DomainWanted(String),
    /// A SIP connection to a phone is to be closed.
    CloseStream(wire::ConnectionId),
}

/// How grave a log line is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Of interest to a developer.
    Debug,
    /// Of interest to the owner.
    Info,
    /// Somebody should look.
    Warn,
}
