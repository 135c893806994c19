//! What a peer says about itself and its work, with the field names of every front end.
//!
//! Times in milliseconds end in `_ms`, rates in `_per_s`, byte counts in `_bytes`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The state of a peer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Whether the peer is in the overlay.
    pub online: bool,
    /// Its Node-ID.
    pub node_id: String,
    /// Its public key.
    pub public_key: String,
    /// Address of its peer port, and of its SIP port.
    pub listen: String,
    /// Address at which phones register.
    pub sip: String,
    /// Address at which they register over TLS; empty where it is not served.
    #[serde(default)]
    pub sips: String,
    /// The overlay's options.
    pub overlay: OverlayStatus,
    /// Users it serves.
    pub users: Vec<UserStatus>,
    /// Registered phones.
    pub phones: Vec<PhoneStatus>,
    /// Who tried wrong passwords too often, and may not register at the moment.
    #[serde(default)]
    pub locked_out: Vec<LockOutStatus>,
    /// Entries of the routing table.
    pub routing_entries: usize,
    /// Entries of the neighbour table.
    pub neighbors: usize,
    /// Records held for others and itself.
    pub objects: usize,
    /// Calls under way.
    pub calls: usize,
    /// Traffic over the last ten minutes.
    pub bytes_per_s: Rates,
    /// The same, by function, in bytes since the start.
    pub ledger: BTreeMap<String, Rates>,
    /// Maintenance traffic sent over the last ten minutes, and its ceiling.
    pub budget: Budget,
    /// The churn as measured, and the care that follows from it.
    #[serde(default)]
    pub upkeep: Upkeep,
    /// Resident memory; filled in by the world.
    pub rss_bytes: u64,
    /// Since the start.
    pub uptime_ms: u64,
    /// What is known of the NAT.
    pub nat: NatStatus,
    /// Whether strangers can reach this peer: `direct`, `nat` (they are kept out) or `unknown`.
    pub reachability: String,
    /// `peer`, or `client`: it uses the overlay through the peers that carry it.
    pub role: String,
    /// Clients that this peer carries.
    pub clients: usize,
    /// Links kept warm through NATs.
    pub warm_links: usize,
    /// What protects messages to and from other peers: `open`, `signed` or `secure`.
    #[serde(default)]
    pub profile: String,
    /// Links over which they go.
    #[serde(default)]
    pub links: usize,
    /// Peers with which they go over TCP.
    #[serde(default)]
    pub streams: usize,
    /// Load values set by an operator or measured.
    pub load: BTreeMap<String, String>,
    /// Datagrams, messages and packets dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Random lookups made as a health check, and how they went.
    pub probes: Probes,
}

/// The overlay's options.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OverlayStatus {
    /// Its name.
    pub name: String,
    /// Its algorithm.
    pub algorithm: String,
    /// Its hash.
    pub hash: String,
    /// Its base.
    pub base: u16,
    /// Peers, as this peer estimates them.
    pub size_estimate: u64,
    /// Sequence of the overlay's document that this peer has.
    #[serde(default)]
    pub document: Option<u64>,
}

/// A user served by the peer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UserStatus {
    /// The address-of-record.
    pub aor: String,
    /// The user's public key.
    pub public_key: String,
    /// The number of that key, in groups of four digits, once it is worked out.
    #[serde(default)]
    pub number: Option<String>,
    /// Whether others find it there: `publishing`, `published`, or `crowded` where no peer has room for it.
    #[serde(default)]
    pub number_state: Option<String>,
    /// `publishing`, `published` or `taken`; `uncertified` while the authority of the name has not given it.
    pub state: String,
    /// When the certificate of the name ends, in Unix seconds, if an authority gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified_until: Option<u64>,
    /// What the domain of the name said when it was last asked, if that still holds: `dnssec` or `dns` if it names this
    /// key, `other_key`, `nobody`, or `unproven`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain_proof: Option<String>,
    /// Why the authority gave no certificate, or no new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A registered phone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PhoneStatus {
    /// Whose.
    pub user: String,
    /// The number of that user, in groups of four digits, once it is worked out.
    #[serde(default)]
    pub number: Option<String>,
    /// Its contact.
    pub contact: String,
    /// Whether its registration is valid.
    pub online: bool,
}

/// Somebody who is locked out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LockOutStatus {
    /// A user at an address, an address, or a user wherever they have not been before.
    pub who: String,
    /// What led to it.
    pub why: String,
    /// For so many seconds more.
    pub seconds: u64,
    /// The command that lifts it.
    pub lift: String,
}

/// Bytes in and out: a rate or a sum, as the field that holds it says.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Rates {
    /// Received.
    #[serde(rename = "in")]
    pub received: f64,
    /// Sent.
    #[serde(rename = "out")]
    pub sent: f64,
}

/// Maintenance traffic and its ceiling.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Budget {
    /// Sent for maintenance and storage, mean over ten minutes.
    pub used_bytes_per_s: f64,
    /// Ceiling.
    pub ceiling_bytes_per_s: f64,
    /// Whether upkeep of tables waits at the moment because the ceiling is reached.
    #[serde(default)]
    pub shedding: bool,
    /// How often work was put off or refused since the start for want of budget, by sort
    /// ([`Work::name`](crate::budget::Work::name)).
    #[serde(default)]
    pub shed: BTreeMap<String, u64>,
}

/// The churn as measured, and the care that follows from it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Upkeep {
    /// Mean session of peers in seconds, as far as this peer has seen.
    pub session_s: f64,
    /// By how much timers made for sessions of an hour are multiplied.
    pub stretch: f64,
    /// Seconds between two refreshes of own records.
    pub refresh_s: f64,
    /// Seconds between two comparisons of what is held with who should hold it.
    pub repair_s: f64,
}

/// What is known of the NAT.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NatStatus {
    /// `none`, `mapped` or `unknown`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address at which other peers see this one.
    pub mapped: Option<String>,
}

/// Random lookups made as a health check.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Probes {
    /// Seconds between two; absent while none are made.
    pub every_s: Option<f64>,
    /// Begun.
    pub issued: u64,
    /// Some peer answered, or this peer is alone.
    pub succeeded: u64,
    /// Nobody answered, though peers are known.
    pub failed: u64,
    /// How long the last one took.
    pub last_ms: f64,
    /// When the last one ended, in Unix seconds.
    pub last_time: Option<u64>,
}

/// A user's record, as looked up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RecordReport {
    /// The user, or the key, that was looked for.
    pub user: String,
    /// Node-IDs of the user's devices.
    pub nodes: Vec<String>,
    /// Sequence number.
    pub sequence: u64,
    /// Until it ends.
    pub expires_ms: u64,
    /// The owner's public key.
    pub owner: String,
    /// Of a user: whether that key is `pinned`, `new`, or `changed`: another one was known before.
    #[serde(default)]
    pub pin: Option<String>,
    /// Of a user whose domain was asked: `dnssec` or `dns` if it names this key, and how that was heard; `nobody` if it
    /// has no such user; else `unproven`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain_proof: Option<String>,
    /// Of a user whose name an authority gives: when the certificate ends, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified_until: Option<u64>,
}

/// One hop of a traced lookup.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Hop {
    /// Its Node-ID.
    pub node: String,
    /// Its address.
    pub address: String,
    /// The round trip to it, from the hop before or from whoever asked; nothing where none was measured.
    pub rtt_ms: Option<f64>,
    /// `forwarded`, `answered`, `rerouted`, `asked`, `nearer`, `silent`.
    pub decision: String,
}

/// How a lookup went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LookupReport {
    /// Whether the record was found.
    pub found: bool,
    /// `recursive`, `iterative` or `parallel`.
    pub mode: String,
    /// Peers on the way to the one that answered.
    pub hops: u32,
    /// How long it took.
    pub time_ms: f64,
    /// Messages sent for it by this peer.
    pub messages: u32,
    /// Whether the peers around the key stand denser than chance allows: somebody may have chosen
    /// identities to surround it.
    #[serde(default)]
    pub alarm: bool,
    /// Why a record of the name that was found does not count, if none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The record.
    pub record: Option<RecordReport>,
    /// The way it took, if asked for; empty too where this peer holds the record itself.
    #[serde(default)]
    pub path: Vec<Hop>,
}

/// A value of `overlay get`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Value {
    /// Whether it was found.
    pub found: bool,
    /// The value, as text; what is not UTF-8 is replaced in it.
    pub value: Option<String>,
    /// The value, as it was stored.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// Sequence number.
    pub sequence: u64,
    /// The owner's public key.
    pub owner: Option<String>,
    /// Until it ends, unless refreshed.
    pub expires_ms: u64,
    /// Whether the peers around the key stand denser than chance allows.
    #[serde(default)]
    pub alarm: bool,
}

/// How a ping went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PingReport {
    /// Who answered.
    pub node: String,
    /// From where.
    pub address: String,
    /// `direct`, `nat` or `relay`.
    pub path: String,
    /// Round trip.
    pub rtt_ms: f64,
}

/// RTP statistics, as the phone at this peer experienced them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RtpReport {
    /// Packets sent towards the other side.
    pub sent: u64,
    /// Packets received from it.
    pub received: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Interarrival jitter (RFC 3550).
    pub jitter_ms: f64,
}

/// Why a call failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// In one word: `not_found`, `unavailable`, `busy`, `declined`, `timeout`, `peer_lost`, `media`,
    /// `key_changed`, `not_certified`.
    pub cause: String,
    /// What was seen.
    pub evidence: String,
    /// What the person can do.
    pub next_step: String,
}

/// A call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CallReport {
    /// Its name at this peer.
    pub call_id: String,
    /// Who called.
    pub from: String,
    /// Who was called.
    pub to: String,
    /// `resolving`, `connecting`, `inviting`, `ringing`, `established`, `recovering`, `ended`.
    pub state: String,
    /// `direct`, `nat` or `relay`.
    pub path: String,
    /// Why that path, or why the call ended.
    pub reason: String,
    /// From dialling to the answer.
    pub setup_ms: f64,
    /// The codec of the audio.
    pub codec: String,
    /// `srtp`, `signed` or `none`.
    pub secured: String,
    /// Five digits that are alike at both ends if nobody stands between; `mismatch` if somebody tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digits: Option<String>,
    /// What protects its sound between phones of this peer and the peer: `sdes` or `none`.
    #[serde(default)]
    pub phone_leg: String,
    /// Statistics of the audio.
    pub rtp: RtpReport,
    /// Estimated quality, 1 to 5.
    pub mos: f64,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// SIP status that ended it, 0 while it lives and 200 when it ended well.
    pub status: u16,
    /// How long both sides were connected.
    pub duration_ms: u64,
    /// What was heard, as 16-bit samples at 8 kHz; only of calls made with `record`.
    #[serde(skip)]
    pub recording: Option<Vec<i16>>,
}

/// What became of a message.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MessageReport {
    /// Its name.
    pub message_id: String,
    /// `delivered` when a phone of theirs or the inbox of their peer took it, else `failed`. (`sent`,
    /// `held` and `read` are for messages that wait for a friend: not yet.)
    pub state: String,
    /// Why.
    pub reason: String,
    /// From sending to the answer.
    pub time_ms: f64,
    /// The SIP status that decided.
    pub status: u16,
}

/// A name that this peer knows, and the key that answered to it first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinRow {
    /// The address-of-record.
    pub name: String,
    /// The user's public key; nothing where the name was only claimed by who called or wrote.
    pub key: Option<String>,
    /// Node-IDs of the user's devices, or of the one that claimed the name.
    pub nodes: Vec<String>,
    /// Whether a person has checked it.
    pub confirmed: bool,
    /// How the domain of the name was heard when it named this key: `dnssec` or `dns`; nothing where it never did.
    #[serde(default)]
    pub proven_by: Option<String>,
    /// Another key whose record was found since: what `pins accept` accepts.
    pub other_key: Option<String>,
    /// Node-IDs of its devices.
    pub other_nodes: Vec<String>,
}

/// A message in the inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxMessage {
    /// Its name.
    pub message_id: String,
    /// Who sent it.
    pub from: String,
    /// To whom.
    pub to: String,
    /// The text.
    pub text: String,
    /// When it came, in Unix seconds.
    pub time: u64,
    /// `delivered`: it reached the peer where its owner reads it.
    pub state: String,
    /// Whether it came from another peer than the sender's name was known at.
    #[serde(default)]
    pub key_changed: bool,
}

/// A row of the routing or neighbour table.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TableRow {
    /// Which bucket or row.
    pub row: u32,
    /// The peer.
    pub node: String,
    /// Its address.
    pub address: String,
    /// Round trip, if known.
    pub rtt_ms: Option<f64>,
    /// Since it was heard last; absent in remote tables.
    pub last_seen_ms: Option<u64>,
    /// `good`, `suspect` (it failed to answer) or `spare` (it waits for a place); `live` in remote tables.
    pub state: String,
}

/// A stored record, without its value.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ObjectRow {
    /// Where.
    pub key: String,
    /// What kind.
    pub kind: String,
    /// Whose.
    pub owner: String,
    /// Sequence number.
    pub sequence: u64,
    /// Size of the value; absent in remote lists.
    pub value_bytes: Option<usize>,
    /// Until it ends; absent in remote lists.
    pub expires_ms: Option<u64>,
    /// Whether it is a tombstone.
    pub removed: bool,
}

/// A peer with which traffic was exchanged lately.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConnectionRow {
    /// The peer, if its identity is known.
    pub node: Option<String>,
    /// Its address.
    pub address: String,
    /// `direct`, `nat` or `relay`.
    pub path: String,
    /// Round trip, if known.
    pub rtt_ms: Option<f64>,
    /// Since it was heard last.
    pub last_seen_ms: u64,
}

/// What another peer said about itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Found {
    /// Who said it.
    pub node: String,
    /// Its routing or neighbour table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<TableRow>,
    /// Its objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectRow>,
    /// Its diagnostics.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub diagnostics: BTreeMap<String, String>,
}
