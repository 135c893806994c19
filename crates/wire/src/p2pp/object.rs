//! Every object of the draft (0 to 24) and ours (from 64).
//!
//! [`Object::parse`] gives only valid values and copies nothing of variable size; lists are checked
//! once and read lazily afterwards. Layouts: `docs/protocol.md`, section "Objects".

use std::net::{IpAddr, SocketAddr};

use smallvec::SmallVec;

use super::record::{Kind, RecordRef, RecordSummary};
use super::tlv::{self, IGNORABLE, Reader, Tlv};
use super::{Code, ParseError};
use crate::identity::{KeyPair, PublicKey};
use crate::{Contact, HashAlgorithm, Key, NodeId, ResourceId};

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        $($(#[$doc])* pub const $name: u8 = $number;)*

        /// Number and name of every object.
        pub const NAMES: &[(u8, &str)] = &[$(($number, stringify!($name))),*];
    };
}

numbers! {
    /// Who a peer is and where (draft).
    PEER_INFO = 0,
    /// A Node-ID (draft).
    PEER_ID = 1,
    /// One address (draft).
    ADDRESS_INFO = 2,
    /// A name before hashing (draft).
    UNHASHED_ID = 3,
    /// Seconds since the peer joined (draft).
    UPTIME = 4,
    /// The overlay's options (draft).
    P2P_OPTIONS = 5,
    /// Wishes about the answer (draft).
    REQUEST_OPTIONS = 6,
    /// Which diagnostics are wanted (draft, without a layout there).
    DIAGNOSTIC_OPTIONS = 7,
    /// Routing table (draft).
    ROUTING_TABLE = 8,
    /// Neighbour table (draft).
    NEIGHBOR_TABLE = 9,
    /// What a peer lookup looks for (draft).
    PLOOKUP = 10,
    /// A Resource-ID (draft).
    RESOURCE_ID = 11,
    /// What an object lookup looks for (draft).
    RLOOKUP = 12,
    /// A signed record (draft).
    RESOURCE_OBJECT = 13,
    /// Seconds left (draft).
    EXPIRES = 14,
    /// An owner's public key (draft).
    OWNER = 15,
    /// A certificate signing request (draft).
    SIGNING_REQUEST = 16,
    /// An X.509 certificate (draft, garbled there with 18).
    CERTIFICATE = 17,
    /// The originator's signature (draft: PKCS#7 signature).
    SIGNATURE = 18,
    /// Seconds that statistics cover (draft).
    TIME_WINDOW = 19,
    /// Numbers of connections (draft).
    CONNECTIONS = 20,
    /// CPU and bandwidth in use (draft).
    UTILIZATION = 21,
    /// Message counters (draft).
    MESSAGES_RECEIVED = 22,
    /// Autonomous system (draft).
    AS_NUMBER = 23,
    /// What went wrong (draft, without a layout there).
    ERROR = 24,
    /// A peer's public key.
    PUBLIC_KEY = 64,
    /// Services a peer offers (draft: Resource-List, without a number there).
    RESOURCE_LIST = 65,
    /// One version of a record, by its digest.
    RECORD_SUMMARY = 66,
    /// What a Tunnel carries.
    PAYLOAD = 67,
    /// One hop of a route log.
    ROUTE_HOP = 68,
    /// One diagnostic value.
    DIAGNOSTIC = 69,
    /// A puzzle solution that shows work was spent on a Node-ID.
    PUZZLE_NONCE = 70,
    /// An authority's admission of a peer.
    ADMISSION = 71,
    /// Shows that an address is its sender's.
    COOKIE = 72,
    /// A value to set on a peer, or to unset when empty.
    SETTING = 73,
    /// The address at which a message arrived.
    OBSERVED_ADDRESS = 74,
    /// ICE candidates of a Connect.
    CANDIDATES = 75,
}

/// Most addresses in one Peer-Info: host and mapped address in two IP versions, two relays.
pub const MAX_ADDRESSES: usize = 6;

/// Length of a cookie.
pub const COOKIE_LEN: usize = 16;

/// Most bytes of a text (setting name, diagnostic value, error reason).
pub const MAX_TEXT: usize = 255;

/// How an address was learnt (ICE terms, RFC 8445 section 5.1.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum CandidateKind {
    /// An address of the peer's own interface.
    Host = 0,
    /// Seen from outside by a STUN server or another peer.
    ServerReflexive = 1,
    /// Seen during connectivity checks.
    PeerReflexive = 2,
    /// A relay's.
    Relayed = 3,
}

/// Transport of an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum TransportKind {
    /// UDP.
    Udp = 0,
    /// TCP.
    Tcp = 1,
}

/// One address of a peer (draft: Address-Info).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressInfo {
    /// How it was learnt.
    pub kind: CandidateKind,
    /// Its transport.
    pub transport: TransportKind,
    /// Candidates with one foundation share base and server (RFC 8445 section 5.1.1.3).
    pub foundation: u8,
    /// ICE component, from 1.
    pub component: u8,
    /// ICE priority.
    pub priority: u32,
    /// The address itself.
    pub address: SocketAddr,
}

impl AddressInfo {
    /// A UDP address of a peer's own.
    pub fn host(address: SocketAddr) -> Self {
        AddressInfo {
            kind: CandidateKind::Host,
            transport: TransportKind::Udp,
            foundation: 0,
            component: 1,
            priority: 0,
            address,
        }
    }

    fn parse(value: &[u8]) -> Result<Self, ParseError> {
        let bad = ParseError::Malformed(ADDRESS_INFO);
        let (head, rest) = value.split_first_chunk::<8>().ok_or(bad)?;
        Ok(AddressInfo {
            kind: match head[0] >> 4 {
                0 => CandidateKind::Host,
                1 => CandidateKind::ServerReflexive,
                2 => CandidateKind::PeerReflexive,
                3 => CandidateKind::Relayed,
                _ => return Err(bad),
            },
            transport: match head[0] & 0xf {
                0 => TransportKind::Udp,
                1 => TransportKind::Tcp,
                _ => return Err(bad),
            },
            foundation: head[1],
            component: head[2],
            // head[3] is reserved.
            priority: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            address: parse_socket_addr(rest).ok_or(bad)?,
        })
    }

    fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[
            ((self.kind as u8) << 4) | self.transport as u8,
            self.foundation,
            self.component,
            0,
        ]);
        out.extend_from_slice(&self.priority.to_be_bytes());
        emit_socket_addr(&self.address, out);
    }
}

/// Port, then 4 or 16 address bytes; the length tells the IP version.
fn parse_socket_addr(bytes: &[u8]) -> Option<SocketAddr> {
    let (port, ip) = bytes.split_first_chunk::<2>()?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

fn emit_socket_addr(address: &SocketAddr, out: &mut Vec<u8>) {
    out.extend_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
}

/// Who a peer is and where (draft: Peer-Info).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerInfo {
    /// Its Node-ID; may be left out where the header has it.
    pub id: Option<NodeId>,
    /// Its addresses, best first; at most [`MAX_ADDRESSES`].
    pub addresses: SmallVec<[AddressInfo; 1]>,
    /// Seconds since it joined.
    pub uptime: Option<u32>,
    /// Its public key.
    pub public_key: Option<PublicKey>,
    /// Its admission puzzle's solution.
    pub puzzle_nonce: Option<u64>,
    /// An authority's admission.
    pub admission: Option<Box<[u8]>>,
}

impl PeerInfo {
    /// The short form that tables and answers list: identity and one address.
    pub fn brief(contact: &Contact) -> Self {
        let mut addresses = SmallVec::new();
        addresses.push(AddressInfo::host(contact.address));
        PeerInfo { id: Some(contact.id), addresses, ..PeerInfo::default() }
    }

    /// Identity and best UDP address, if both are there.
    pub fn contact(&self) -> Option<Contact> {
        let udp = self.addresses.iter().find(|a| a.transport == TransportKind::Udp)?;
        Some(Contact { id: self.id?, address: udp.address })
    }

    fn parse(value: &[u8]) -> Result<Self, ParseError> {
        let bad = ParseError::Malformed(PEER_INFO);
        let mut info = PeerInfo::default();
        for (count, tlv) in Reader::new(value).enumerate() {
            let tlv = tlv?;
            if count > MAX_ADDRESSES + 8 {
                return Err(ParseError::TooMany);
            }
            match tlv.number {
                PEER_ID => info.id = Some(NodeId(parse_key(tlv.value).ok_or(bad)?)),
                ADDRESS_INFO => {
                    if info.addresses.len() == MAX_ADDRESSES {
                        return Err(ParseError::TooMany);
                    }
                    info.addresses.push(AddressInfo::parse(tlv.value)?);
                }
                UPTIME => info.uptime = Some(parse_u32(tlv)?),
                PUBLIC_KEY => info.public_key = Some(PublicKey(exact(tlv)?)),
                PUZZLE_NONCE => info.puzzle_nonce = Some(u64::from_be_bytes(exact(tlv)?)),
                ADMISSION => info.admission = Some(tlv.value.into()),
                _ if tlv.ignorable => {}
                number => return Err(ParseError::UnknownObject(number)),
            }
        }
        if info.id.is_none() && info.addresses.is_empty() {
            return Err(bad);
        }
        Ok(info)
    }

    fn emit(&self, out: &mut Vec<u8>) {
        if let Some(id) = self.id {
            tlv::emit(out, PEER_ID, 0, |o| o.extend_from_slice(id.key().as_bytes()));
        }
        for address in self.addresses.iter().take(MAX_ADDRESSES) {
            tlv::emit(out, ADDRESS_INFO, 0, |o| address.emit(o));
        }
        if let Some(uptime) = self.uptime {
            tlv::emit(out, UPTIME, IGNORABLE, |o| o.extend_from_slice(&uptime.to_be_bytes()));
        }
        if let Some(key) = self.public_key {
            tlv::emit(out, PUBLIC_KEY, IGNORABLE, |o| o.extend_from_slice(&key.0));
        }
        if let Some(nonce) = self.puzzle_nonce {
            tlv::emit(out, PUZZLE_NONCE, IGNORABLE, |o| o.extend_from_slice(&nonce.to_be_bytes()));
        }
        if let Some(admission) = &self.admission {
            tlv::emit(out, ADMISSION, IGNORABLE, |o| o.extend_from_slice(admission));
        }
    }
}

/// A list of peers, read lazily from a message or lent for writing.
#[derive(Clone, Copy, Debug)]
pub enum PeerList<'a> {
    /// As it stands in a message, already checked.
    Encoded(&'a [u8]),
    /// Contacts to be written in the short form.
    Contacts(&'a [Contact]),
}

impl<'a> PeerList<'a> {
    /// The peers.
    pub fn iter(&self) -> impl Iterator<Item = PeerInfo> + use<'a> {
        let (encoded, contacts): (&'a [u8], &'a [Contact]) = match *self {
            PeerList::Encoded(bytes) => (bytes, &[]),
            PeerList::Contacts(contacts) => (&[], contacts),
        };
        Reader::new(encoded)
            .filter_map(|tlv| PeerInfo::parse(tlv.ok()?.value).ok())
            .chain(contacts.iter().map(PeerInfo::brief))
    }

    /// Identity and address of every peer that has both.
    pub fn contacts(&self) -> impl Iterator<Item = Contact> + use<'a> {
        self.iter().filter_map(|info| info.contact())
    }

    fn parse(value: &'a [u8], number: u8) -> Result<Self, ParseError> {
        let (count, rest) = value.split_first().ok_or(ParseError::Malformed(number))?;
        let mut seen = 0;
        for tlv in Reader::new(rest) {
            let tlv = tlv?;
            if tlv.number != PEER_INFO {
                return Err(ParseError::Malformed(number));
            }
            PeerInfo::parse(tlv.value)?;
            seen += 1;
        }
        if seen != usize::from(*count) {
            return Err(ParseError::Malformed(number));
        }
        Ok(PeerList::Encoded(rest))
    }

    fn emit(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.push(0);
        let mut count = 0u8;
        match self {
            PeerList::Encoded(bytes) => {
                count = Reader::new(bytes).count().min(255) as u8;
                out.extend_from_slice(bytes);
            }
            PeerList::Contacts(contacts) => {
                for contact in contacts.iter().take(255) {
                    tlv::emit(out, PEER_INFO, 0, |o| PeerInfo::brief(contact).emit(o));
                    count += 1;
                }
            }
        }
        out[at] = count;
    }
}

/// The overlay's options (draft: P2P-Options, with the difficulty of admission puzzles added).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct P2pOptions<'a> {
    /// The hash that places peers and resources.
    pub hash: HashAlgorithm,
    /// The overlay algorithm, by the draft's number (Chord 0, Kademlia 2, Bamboo 4, Gia 9, ...).
    pub algorithm: u8,
    /// Base of the algorithm: 2, 4, 8 ... 256; 0 if it has none.
    pub base: u16,
    /// Leading zero bits an admission puzzle must show; 0 switches it off.
    pub difficulty: u8,
    /// Peers that hold a copy of each record.
    pub replicas: u8,
    /// Whether operators may set values on peers from afar (laboratories).
    pub remote_settings: bool,
    /// The overlay's name, UTF-8.
    pub name: &'a str,
}

/// Wishes about the answer (draft: Request-Options; the flags keep their order from the left).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RequestOptions {
    /// P: of several parallel copies, the one that may have side effects.
    pub primary: bool,
    /// R: the routing table is wanted.
    pub routing_table: bool,
    /// N: the neighbour table is wanted.
    pub neighbor_table: bool,
    /// A: as much as fits into one datagram is enough.
    pub partial: bool,
    /// S: this Join goes to an immediate neighbour.
    pub neighbor_join: bool,
    /// L: every hop shall append itself to a route log.
    pub route_log: bool,
    /// First entry wanted of a table sent in pieces.
    pub offset: u16,
}

impl RequestOptions {
    fn to_bits(self) -> u32 {
        let flags = [
            (self.primary, 31),
            (self.routing_table, 30),
            (self.neighbor_table, 29),
            // 28 is the draft's E, a separate delivery of tables, which paging replaces.
            (self.partial, 27),
            (self.neighbor_join, 26),
            (self.route_log, 25),
        ];
        flags.iter().filter(|f| f.0).fold(u32::from(self.offset), |bits, f| bits | 1 << f.1)
    }

    fn from_bits(bits: u32) -> Self {
        let flag = |n: u32| bits & (1 << n) != 0;
        RequestOptions {
            primary: flag(31),
            routing_table: flag(30),
            neighbor_table: flag(29),
            partial: flag(27),
            neighbor_join: flag(26),
            route_log: flag(25),
            offset: (bits & 0xffff) as u16,
        }
    }
}

/// What a peer lookup looks for (draft: PLookup).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PLookup {
    /// How many peers are wanted, 1 to 63.
    pub count: u8,
    /// Only the peer with exactly this identity is wanted.
    pub exact: bool,
    /// The key.
    pub key: Key,
}

/// What an object lookup looks for (draft: RLookup).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RLookup {
    /// Where.
    pub resource: ResourceId,
    /// Of which kind.
    pub kind: Kind,
    /// Only records of this owner.
    pub owner: Option<PublicKey>,
}

/// Numbers of connections (draft: Connections).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Connections {
    /// Entries of the neighbour table.
    pub neighbors: u16,
    /// Entries of the routing table.
    pub routing: u16,
    /// Attached clients.
    pub clients: u16,
}

/// CPU and bandwidth in use (draft: Node-Resource-Utilization).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Utilization {
    /// Bandwidth of the node in kilobits per second.
    pub bandwidth_kbps: u32,
    /// CPU in use, percent.
    pub cpu_percent: u8,
    /// Bandwidth in use, percent.
    pub bandwidth_percent: u8,
}

/// One hop of a route log: who passed a request on, and how long it had been under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteHop {
    /// The hop.
    pub id: NodeId,
    /// Its address as the hop before it saw it.
    pub address: SocketAddr,
    /// Round trip to the next hop as this hop knows it, in microseconds; 0 if unknown.
    pub rtt_micros: u32,
    /// Why it went on as it did: 0 forwarded, 1 answered, 2 rerouted round a dead hop.
    pub decision: u8,
}

/// One diagnostic value: a short dotted name and a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Diagnostic<'a> {
    /// For example `uptime_ms`.
    pub name: &'a str,
    /// For example `86400000`.
    pub value: &'a str,
}

/// Every object, as values.
#[derive(Clone, Debug)]
pub enum Object<'a> {
    /// Who a peer is and where.
    PeerInfo(PeerInfo),
    /// A Node-ID.
    PeerId(NodeId),
    /// One address.
    AddressInfo(AddressInfo),
    /// A name before hashing.
    UnhashedId(&'a str),
    /// Seconds since the peer joined.
    Uptime(u32),
    /// The overlay's options.
    P2pOptions(P2pOptions<'a>),
    /// Wishes about the answer.
    RequestOptions(RequestOptions),
    /// Which diagnostics are wanted: one bit each, all ones for everything.
    DiagnosticOptions(u64),
    /// Routing table.
    RoutingTable(PeerList<'a>),
    /// Neighbour table.
    NeighborTable(PeerList<'a>),
    /// What a peer lookup looks for.
    PLookup(PLookup),
    /// A Resource-ID.
    ResourceId(ResourceId),
    /// What an object lookup looks for.
    RLookup(RLookup),
    /// A signed record.
    Resource(RecordRef<'a>),
    /// Seconds left.
    Expires(u32),
    /// An owner's public key.
    Owner(PublicKey),
    /// A certificate signing request, opaque here.
    SigningRequest(&'a [u8]),
    /// A certificate, opaque here.
    Certificate(&'a [u8]),
    /// The originator's signature over everything before it.
    Signature {
        /// Who signed.
        key: PublicKey,
        /// The signature.
        signature: [u8; KeyPair::SIGNATURE_LEN],
    },
    /// Seconds that statistics cover.
    TimeWindow(u32),
    /// Numbers of connections.
    Connections(Connections),
    /// CPU and bandwidth in use.
    Utilization(Utilization),
    /// How often each message type was received; entries of one type byte and a 24-bit count.
    MessagesReceived(&'a [u8]),
    /// Autonomous system number.
    AsNumber(u32),
    /// What went wrong, beyond the response code.
    Error {
        /// A code of the table.
        code: Code,
        /// More detail: for 420 the object type, else 0.
        detail: u16,
        /// In words, for a person.
        reason: &'a str,
    },
    /// A peer's public key.
    PublicKey(PublicKey),
    /// Services offered, one content type each.
    ResourceList(&'a [u8]),
    /// One version of a record.
    RecordSummary(RecordSummary),
    /// What a Tunnel carries: content type (0: SIP) and bytes.
    Payload {
        /// 0: SIP.
        content: u8,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// One hop of a route log.
    RouteHop(RouteHop),
    /// One diagnostic value.
    Diagnostic(Diagnostic<'a>),
    /// A puzzle solution.
    PuzzleNonce(u64),
    /// An authority's admission, opaque here.
    Admission(&'a [u8]),
    /// Shows that an address is its sender's.
    Cookie([u8; COOKIE_LEN]),
    /// A value to set, or to unset when empty.
    Setting(Diagnostic<'a>),
    /// The address at which a message arrived.
    ObservedAddress(SocketAddr),
    /// ICE candidates of a Connect, opaque here.
    Candidates(&'a [u8]),
}

impl<'a> Object<'a> {
    /// The object's number.
    pub fn number(&self) -> u8 {
        match self {
            Object::PeerInfo(_) => PEER_INFO,
            Object::PeerId(_) => PEER_ID,
            Object::AddressInfo(_) => ADDRESS_INFO,
            Object::UnhashedId(_) => UNHASHED_ID,
            Object::Uptime(_) => UPTIME,
            Object::P2pOptions(_) => P2P_OPTIONS,
            Object::RequestOptions(_) => REQUEST_OPTIONS,
            Object::DiagnosticOptions(_) => DIAGNOSTIC_OPTIONS,
            Object::RoutingTable(_) => ROUTING_TABLE,
            Object::NeighborTable(_) => NEIGHBOR_TABLE,
            Object::PLookup(_) => PLOOKUP,
            Object::ResourceId(_) => RESOURCE_ID,
            Object::RLookup(_) => RLOOKUP,
            Object::Resource(_) => RESOURCE_OBJECT,
            Object::Expires(_) => EXPIRES,
            Object::Owner(_) => OWNER,
            Object::SigningRequest(_) => SIGNING_REQUEST,
            Object::Certificate(_) => CERTIFICATE,
            Object::Signature { .. } => SIGNATURE,
            Object::TimeWindow(_) => TIME_WINDOW,
            Object::Connections(_) => CONNECTIONS,
            Object::Utilization(_) => UTILIZATION,
            Object::MessagesReceived(_) => MESSAGES_RECEIVED,
            Object::AsNumber(_) => AS_NUMBER,
            Object::Error { .. } => ERROR,
            Object::PublicKey(_) => PUBLIC_KEY,
            Object::ResourceList(_) => RESOURCE_LIST,
            Object::RecordSummary(_) => RECORD_SUMMARY,
            Object::Payload { .. } => PAYLOAD,
            Object::RouteHop(_) => ROUTE_HOP,
            Object::Diagnostic(_) => DIAGNOSTIC,
            Object::PuzzleNonce(_) => PUZZLE_NONCE,
            Object::Admission(_) => ADMISSION,
            Object::Cookie(_) => COOKIE,
            Object::Setting(_) => SETTING,
            Object::ObservedAddress(_) => OBSERVED_ADDRESS,
            Object::Candidates(_) => CANDIDATES,
        }
    }

    /// Whether a reader that does not know this type may skip it.
    pub fn ignorable(&self) -> bool {
        matches!(
            self,
            Object::Uptime(_)
                | Object::Utilization(_)
                | Object::Connections(_)
                | Object::MessagesReceived(_)
                | Object::AsNumber(_)
                | Object::ResourceList(_)
                | Object::RouteHop(_)
                | Object::Diagnostic(_)
                | Object::ObservedAddress(_)
        )
    }

    /// Reads one object; `Ok(None)` for an unknown type that may be skipped.
    pub fn parse(tlv: Tlv<'a>) -> Result<Option<Object<'a>>, ParseError> {
        let bad = ParseError::Malformed(tlv.number);
        let value = tlv.value;
        Ok(Some(match tlv.number {
            PEER_INFO => Object::PeerInfo(PeerInfo::parse(value)?),
            PEER_ID => Object::PeerId(NodeId(parse_key(value).ok_or(bad)?)),
            ADDRESS_INFO => Object::AddressInfo(AddressInfo::parse(value)?),
            UNHASHED_ID => Object::UnhashedId(parse_text(tlv)?),
            UPTIME => Object::Uptime(parse_u32(tlv)?),
            P2P_OPTIONS => Object::P2pOptions(P2pOptions::parse(tlv)?),
            REQUEST_OPTIONS => Object::RequestOptions(RequestOptions::from_bits(parse_u32(tlv)?)),
            DIAGNOSTIC_OPTIONS => Object::DiagnosticOptions(u64::from_be_bytes(exact(tlv)?)),
            ROUTING_TABLE => Object::RoutingTable(PeerList::parse(value, tlv.number)?),
            NEIGHBOR_TABLE => Object::NeighborTable(PeerList::parse(value, tlv.number)?),
            PLOOKUP => {
                let (head, key) = value.split_first().ok_or(bad)?;
                let key = parse_key(key).ok_or(bad)?;
                Object::PLookup(PLookup { count: head >> 2, exact: head & 0b10 != 0, key })
            }
            RESOURCE_ID => Object::ResourceId(ResourceId(parse_key(value).ok_or(bad)?)),
            RLOOKUP => Object::RLookup(RLookup::parse(tlv)?),
            RESOURCE_OBJECT => Object::Resource(RecordRef::parse(value)?),
            EXPIRES => Object::Expires(parse_u32(tlv)?),
            OWNER => Object::Owner(PublicKey(exact(tlv)?)),
            SIGNING_REQUEST => Object::SigningRequest(value),
            CERTIFICATE => Object::Certificate(value),
            SIGNATURE => {
                let both: [u8; 96] = exact(tlv)?;
                Object::Signature {
                    key: PublicKey(both[..32].try_into().expect("32 of 96")),
                    signature: both[32..].try_into().expect("64 of 96"),
                }
            }
            TIME_WINDOW => Object::TimeWindow(parse_u32(tlv)?),
            CONNECTIONS => {
                let b: [u8; 6] = exact(tlv)?;
                let at = |i: usize| u16::from_be_bytes([b[i], b[i + 1]]);
                Object::Connections(Connections { neighbors: at(0), routing: at(2), clients: at(4) })
            }
            UTILIZATION => {
                let b: [u8; 6] = exact(tlv)?;
                Object::Utilization(Utilization {
                    bandwidth_kbps: u32::from_be_bytes([b[0], b[1], b[2], b[3]]),
                    cpu_percent: b[4],
                    bandwidth_percent: b[5],
                })
            }
            MESSAGES_RECEIVED if value.len().is_multiple_of(4) => Object::MessagesReceived(value),
            AS_NUMBER => Object::AsNumber(parse_u32(tlv)?),
            ERROR => {
                let (head, reason) = value.split_first_chunk::<4>().ok_or(bad)?;
                Object::Error {
                    code: Code(u16::from_be_bytes([head[0], head[1]])),
                    detail: u16::from_be_bytes([head[2], head[3]]),
                    reason: text(reason).ok_or(bad)?,
                }
            }
            PUBLIC_KEY => Object::PublicKey(PublicKey(exact(tlv)?)),
            RESOURCE_LIST => Object::ResourceList(value),
            RECORD_SUMMARY => {
                let (head, key) = value.split_first_chunk::<18>().ok_or(bad)?;
                Object::RecordSummary(RecordSummary {
                    kind: Kind(u16::from_be_bytes([head[0], head[1]])),
                    sequence: u64::from_be_bytes(head[2..10].try_into().expect("8 bytes")),
                    digest: u64::from_be_bytes(head[10..18].try_into().expect("8 bytes")),
                    resource: ResourceId(parse_key(key).ok_or(bad)?),
                })
            }
            PAYLOAD => {
                let (content, bytes) = value.split_first().ok_or(bad)?;
                Object::Payload { content: *content, bytes }
            }
            ROUTE_HOP => Object::RouteHop(RouteHop::parse(tlv)?),
            DIAGNOSTIC => Object::Diagnostic(Diagnostic::parse(tlv)?),
            PUZZLE_NONCE => Object::PuzzleNonce(u64::from_be_bytes(exact(tlv)?)),
            ADMISSION => Object::Admission(value),
            COOKIE => Object::Cookie(exact(tlv)?),
            SETTING => Object::Setting(Diagnostic::parse(tlv)?),
            OBSERVED_ADDRESS => Object::ObservedAddress(parse_socket_addr(value).ok_or(bad)?),
            CANDIDATES => Object::Candidates(value),
            MESSAGES_RECEIVED => return Err(bad),
            _ if tlv.ignorable => return Ok(None),
            number => return Err(ParseError::UnknownObject(number)),
        }))
    }

    /// Appends the object, with its type and length, to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let flags = if self.ignorable() { IGNORABLE } else { 0 };
        tlv::emit(out, self.number(), flags, |o| self.emit_value(o));
    }

    fn emit_value(&self, o: &mut Vec<u8>) {
        match self {
            Object::PeerInfo(info) => info.emit(o),
            Object::PeerId(id) => o.extend_from_slice(id.key().as_bytes()),
            Object::AddressInfo(address) => address.emit(o),
            Object::UnhashedId(name) => o.extend_from_slice(name.as_bytes()),
            Object::P2pOptions(options) => options.emit(o),
            Object::RequestOptions(options) => o.extend_from_slice(&options.to_bits().to_be_bytes()),
            Object::DiagnosticOptions(n) | Object::PuzzleNonce(n) => o.extend_from_slice(&n.to_be_bytes()),
            Object::RoutingTable(list) | Object::NeighborTable(list) => list.emit(o),
            Object::PLookup(lookup) => {
                o.push((lookup.count.min(63) << 2) | (u8::from(lookup.exact) << 1));
                o.extend_from_slice(lookup.key.as_bytes());
            }
            Object::ResourceId(id) => o.extend_from_slice(id.key().as_bytes()),
            Object::RLookup(lookup) => lookup.emit(o),
            Object::Resource(record) => record.emit(o),
            Object::Uptime(n) | Object::Expires(n) | Object::TimeWindow(n) | Object::AsNumber(n) => {
                o.extend_from_slice(&n.to_be_bytes());
            }
            Object::Owner(key) | Object::PublicKey(key) => o.extend_from_slice(&key.0),
            Object::SigningRequest(bytes)
            | Object::Certificate(bytes)
            | Object::MessagesReceived(bytes)
            | Object::ResourceList(bytes)
            | Object::Admission(bytes)
            | Object::Candidates(bytes) => o.extend_from_slice(bytes),
            Object::Signature { key, signature } => {
                o.extend_from_slice(&key.0);
                o.extend_from_slice(signature);
            }
            Object::Connections(c) => {
                [c.neighbors, c.routing, c.clients]
                    .iter()
                    .for_each(|n| o.extend_from_slice(&n.to_be_bytes()));
            }
            Object::Utilization(u) => {
                o.extend_from_slice(&u.bandwidth_kbps.to_be_bytes());
                o.extend_from_slice(&[u.cpu_percent, u.bandwidth_percent]);
            }
            Object::Error { code, detail, reason } => {
                o.extend_from_slice(&code.0.to_be_bytes());
                o.extend_from_slice(&detail.to_be_bytes());
                o.extend_from_slice(clip(reason).as_bytes());
            }
            Object::RecordSummary(s) => {
                o.extend_from_slice(&s.kind.0.to_be_bytes());
                o.extend_from_slice(&s.sequence.to_be_bytes());
                o.extend_from_slice(&s.digest.to_be_bytes());
                o.extend_from_slice(s.resource.key().as_bytes());
            }
            Object::Payload { content, bytes } => {
                o.push(*content);
                o.extend_from_slice(bytes);
            }
            Object::RouteHop(hop) => hop.emit(o),
            Object::Diagnostic(d) | Object::Setting(d) => d.emit(o),
            Object::Cookie(cookie) => o.extend_from_slice(cookie),
            Object::ObservedAddress(address) => emit_socket_addr(address, o),
        }
    }
}

impl<'a> P2pOptions<'a> {
    const REMOTE_SETTINGS: u8 = 1;

    fn parse(tlv: Tlv<'a>) -> Result<Self, ParseError> {
        let bad = ParseError::Malformed(tlv.number);
        let (head, name) = tlv.value.split_first_chunk::<8>().ok_or(bad)?;
        let hash = HashAlgorithm::from_number(head[0]).ok_or(bad)?;
        if usize::from(head[1]) != hash.len() || head[7] as usize != name.len() {
            return Err(bad);
        }
        Ok(P2pOptions {
            hash,
            algorithm: head[2],
            base: if head[3] == 0 {
                0
            } else {
                1u16.checked_shl(head[3].into()).filter(|_| head[3] <= 8).ok_or(bad)?
            },
            difficulty: head[4],
            replicas: head[5],
            remote_settings: head[6] & Self::REMOTE_SETTINGS != 0,
            name: text(name).ok_or(bad)?,
        })
    }

    fn emit(&self, o: &mut Vec<u8>) {
        let name = clip(self.name);
        let base_bits = if self.base < 2 { 0 } else { self.base.ilog2() as u8 };
        o.extend_from_slice(&[
            self.hash as u8,
            self.hash.len() as u8,
            self.algorithm,
            base_bits,
            self.difficulty,
            self.replicas,
            if self.remote_settings { Self::REMOTE_SETTINGS } else { 0 },
            name.len() as u8,
        ]);
        o.extend_from_slice(name.as_bytes());
    }
}

impl RLookup {
    fn parse(tlv: Tlv<'_>) -> Result<Self, ParseError> {
        let bad = ParseError::Malformed(tlv.number);
        let (head, rest) = tlv.value.split_first_chunk::<3>().ok_or(bad)?;
        let (resource, owner) = rest.split_at_checked(head[2] as usize).ok_or(bad)?;
        Ok(RLookup {
            kind: Kind(u16::from_be_bytes([head[0], head[1]])),
            resource: ResourceId(parse_key(resource).ok_or(bad)?),
            owner: match owner.len() {
                0 => None,
                _ => Some(PublicKey(owner.try_into().map_err(|_| bad)?)),
            },
        })
    }

    fn emit(&self, o: &mut Vec<u8>) {
        let resource = self.resource.key().as_bytes();
        o.extend_from_slice(&self.kind.0.to_be_bytes());
        o.push(resource.len() as u8);
        o.extend_from_slice(resource);
        if let Some(owner) = self.owner {
            o.extend_from_slice(&owner.0);
        }
    }
}

impl RouteHop {
    fn parse(tlv: Tlv<'_>) -> Result<Self, ParseError> {
        let bad = ParseError::Malformed(tlv.number);
        let (head, rest) = tlv.value.split_first_chunk::<6>().ok_or(bad)?;
        let (id, address) = rest.split_at_checked(head[5] as usize).ok_or(bad)?;
        Ok(RouteHop {
            decision: head[0],
            rtt_micros: u32::from_be_bytes([head[1], head[2], head[3], head[4]]),
            id: NodeId(parse_key(id).ok_or(bad)?),
            address: parse_socket_addr(address).ok_or(bad)?,
        })
    }

    fn emit(&self, o: &mut Vec<u8>) {
        let id = self.id.key().as_bytes();
        o.push(self.decision);
        o.extend_from_slice(&self.rtt_micros.to_be_bytes());
        o.push(id.len() as u8);
        o.extend_from_slice(id);
        emit_socket_addr(&self.address, o);
    }
}

impl<'a> Diagnostic<'a> {
    fn parse(tlv: Tlv<'a>) -> Result<Self, ParseError> {
        let bad = ParseError::Malformed(tlv.number);
        let (len, rest) = tlv.value.split_first().ok_or(bad)?;
        let (name, value) = rest.split_at_checked(usize::from(*len)).ok_or(bad)?;
        Ok(Diagnostic { name: text(name).ok_or(bad)?, value: text(value).ok_or(bad)? })
    }

    fn emit(&self, o: &mut Vec<u8>) {
        let name = clip(self.name);
        o.push(name.len() as u8);
        o.extend_from_slice(name.as_bytes());
        o.extend_from_slice(clip(self.value).as_bytes());
    }
}

fn parse_key(bytes: &[u8]) -> Option<Key> {
    Key::from_slice(bytes)
}

fn exact<const N: usize>(tlv: Tlv<'_>) -> Result<[u8; N], ParseError> {
    tlv.value.try_into().map_err(|_| ParseError::Malformed(tlv.number))
}

fn parse_u32(tlv: Tlv<'_>) -> Result<u32, ParseError> {
    exact(tlv).map(u32::from_be_bytes)
}

fn parse_text(tlv: Tlv<'_>) -> Result<&str, ParseError> {
    text(tlv.value).ok_or(ParseError::Malformed(tlv.number))
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|t| t.len() <= MAX_TEXT)
}

/// The longest beginning of `s` that fits into [`MAX_TEXT`] bytes.
fn clip(s: &str) -> &str {
    let end = (0..=s.len().min(MAX_TEXT)).rev().find(|&i| s.is_char_boundary(i));
    &s[..end.unwrap_or(0)]
}
