//! Every object of the draft (0 to 24) and ours (from 64), in one table.
//!
//! The table gives each object its number, its name, whether a reader that does not know it may skip
//! it, and its fields in the order of the wire; reading and writing follow from it. Fields of their
//! own kind are in [`peer`](super::peer), [`options`](super::options), [`status`](super::status) and
//! [`record`](super::record). [`Object::parse`] gives only valid values and copies nothing of
//! variable size; lists are checked once and read lazily afterwards. Layouts: `docs/protocol.md`,
//! section 5.

use std::net::SocketAddr;

use super::field::{Cursor, Field};
use super::record::{RecordRef, RecordSummary};
use super::tlv::{self, IGNORABLE, MANDATORY, Tlv};
use super::{
    AddressInfo, Code, Connections, Density, Diagnostic, LinkState, MessageCounts, P2pOptions, PLookup,
    ParseError, PeerInfo, PeerList, RLookup, RequestOptions, RouteHop, Utilization,
};
use crate::identity::{KeyPair, PublicKey};
use crate::{NodeId, ResourceId};

/// Length of a cookie.
pub const COOKIE_LEN: usize = 16;

macro_rules! objects {
    ($(
        $(#[$doc:meta])*
        $number:literal $constant:ident $text:literal $flags:ident
        $name:ident $(($value:ident: $type:ty))? $({ $($(#[$field_doc:meta])* $field:ident: $field_type:ty,)* })?,
    )*) => {
        $($(#[$doc])* pub const $constant: u8 = $number;)*

        /// Number and name of every object.
        pub const NAMES: &[(u8, &str)] = &[$(($number, $text)),*];

        /// Every object, as values.
        #[derive(Clone, Debug)]
        pub enum Object<'a> {
            $($(#[$doc])* $name $(($type))? $({ $($(#[$field_doc])* $field: $field_type,)* })?,)*
        }

        impl<'a> Object<'a> {
            /// The object's number.
            pub fn number(&self) -> u8 {
                match self { $(Object::$name { .. } => $number,)* }
            }

            fn flags(&self) -> u8 {
                match self { $(Object::$name { .. } => $flags,)* }
            }

            /// Reads one object; `Ok(None)` for an unknown type that may be skipped.
            pub fn parse(tlv: Tlv<'a>) -> Result<Option<Object<'a>>, ParseError> {
                let mut cursor = Cursor::new(tlv);
                let object = match tlv.number {
                    $($number => Object::$name
                        $((cursor.read::<$type>()?))?
                        $({ $($field: cursor.read::<$field_type>()?,)* })?,)*
                    _ if tlv.ignorable => return Ok(None),
                    number => return Err(ParseError::UnknownObject(number)),
                };
                cursor.end()?;
                Ok(Some(object))
            }

            fn write_fields(&self, out: &mut Vec<u8>) {
                match self {
                    $(Object::$name $(($value))? $({ $($field,)* })? => {
                        $($value.write(out);)?
                        $($($field.write(out);)*)?
                    })*
                }
            }
        }
    };
}

objects! {
    /// Who a peer is and where (draft).
    0 PEER_INFO "Peer-Info" MANDATORY PeerInfo(info: PeerInfo<'a>),
    /// A Node-ID (draft).
    1 PEER_ID "Peer-ID" MANDATORY PeerId(id: NodeId),
    /// One address (draft).
    2 ADDRESS_INFO "Address-Info" MANDATORY AddressInfo(address: AddressInfo),
    /// A name before hashing (draft).
    3 UNHASHED_ID "Unhashed-ID" MANDATORY UnhashedId(name: &'a str),
    /// Seconds since the peer joined (draft).
    4 UPTIME "Uptime" IGNORABLE Uptime(seconds: u32),
    /// The overlay's options (draft).
    5 P2P_OPTIONS "P2P-Options" MANDATORY P2pOptions(options: P2pOptions<'a>),
    /// Wishes about the answer (draft).
    6 REQUEST_OPTIONS "Request-Options" MANDATORY RequestOptions(options: RequestOptions),
    /// Which diagnostics are wanted: one bit each, all ones for everything (draft, without a layout
    /// there).
    7 DIAGNOSTIC_OPTIONS "Diagnostic-Options" MANDATORY DiagnosticOptions(wanted: u64),
    /// Routing table (draft).
    8 ROUTING_TABLE "Routing-Table" MANDATORY RoutingTable(peers: PeerList<'a>),
    /// Neighbour table (draft).
    9 NEIGHBOR_TABLE "Neighbor-Table" MANDATORY NeighborTable(peers: PeerList<'a>),
    /// What a peer lookup looks for (draft).
    10 PLOOKUP "PLookup" MANDATORY PLookup(lookup: PLookup),
    /// A Resource-ID (draft).
    11 RESOURCE_ID "Resource-ID" MANDATORY ResourceId(id: ResourceId),
    /// What an object lookup looks for (draft).
    12 RLOOKUP "RLookup" MANDATORY RLookup(lookup: RLookup),
    /// A signed record (draft).
    13 RESOURCE_OBJECT "Resource-Object" MANDATORY Resource(record: RecordRef<'a>),
    /// Seconds left (draft).
    14 EXPIRES "Expires" MANDATORY Expires(seconds: u32),
    /// An owner's public key (draft).
    15 OWNER "Owner" MANDATORY Owner(key: PublicKey),
    /// A certificate signing request, opaque here (draft).
    16 SIGNING_REQUEST "Signing-Request" MANDATORY SigningRequest(bytes: &'a [u8]),
    /// A certificate, opaque here (draft, garbled there with 18).
    17 CERTIFICATE "Certificate" MANDATORY Certificate(bytes: &'a [u8]),
    /// The originator's signature over everything before it (draft: PKCS#7 signature).
    18 SIGNATURE "Signature" MANDATORY Signature {
        /// Who signed.
        key: PublicKey,
        /// The signature.
        signature: [u8; KeyPair::SIGNATURE_LEN],
    },
    /// Seconds that statistics cover (draft).
    19 TIME_WINDOW "Time-Window" MANDATORY TimeWindow(seconds: u32),
    /// Numbers of connections (draft).
    20 CONNECTIONS "Connections" IGNORABLE Connections(connections: Connections),
    /// CPU and bandwidth in use (draft: Node-Resource-Utilization).
    21 UTILIZATION "Utilization" IGNORABLE Utilization(utilization: Utilization),
    /// How often each message was received (draft).
    22 MESSAGES_RECEIVED "Messages-Received" IGNORABLE MessagesReceived(counts: MessageCounts<'a>),
    /// Autonomous system number (draft).
    23 AS_NUMBER "AS-Number" IGNORABLE AsNumber(number: u32),
    /// What went wrong, beyond the response code (draft, without a layout there).
    24 ERROR "Error" MANDATORY Error {
        /// A code of the table.
        code: Code,
        /// More detail: for 420 the object type, else 0.
        detail: u16,
        /// In words, for a person.
        reason: &'a str,
    },
    /// A peer's public key.
    64 PUBLIC_KEY "Public-Key" MANDATORY PublicKey(key: PublicKey),
    /// Services a peer offers, one content type each (draft: Resource-List, without a number there).
    65 RESOURCE_LIST "Resource-List" IGNORABLE ResourceList(types: &'a [u8]),
    /// One version of a record, by its digest.
    66 RECORD_SUMMARY "Record-Summary" MANDATORY RecordSummary(summary: RecordSummary),
    /// What a Tunnel carries.
    67 PAYLOAD "Payload" MANDATORY Payload {
        /// 0: an envelope; 1: a piece of one.
        content: u8,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// One hop of a route log.
    68 ROUTE_HOP "Route-Hop" IGNORABLE RouteHop(hop: RouteHop),
    /// One diagnostic value.
    69 DIAGNOSTIC "Diagnostic" IGNORABLE Diagnostic(diagnostic: Diagnostic<'a>),
    /// A puzzle solution that shows work was spent on a Node-ID.
    70 PUZZLE_NONCE "Puzzle-Nonce" MANDATORY PuzzleNonce(nonce: u64),
    /// An authority's admission of a peer, opaque here.
    71 ADMISSION "Admission" MANDATORY Admission(bytes: &'a [u8]),
    /// Shows that an address is its sender's.
    72 COOKIE "Cookie" MANDATORY Cookie(cookie: [u8; COOKIE_LEN]),
    /// A value to set on a peer, or to unset when empty.
    73 SETTING "Setting" MANDATORY Setting(setting: Diagnostic<'a>),
    /// The address at which a message arrived.
    74 OBSERVED_ADDRESS "Observed-Address" IGNORABLE ObservedAddress(address: SocketAddr),
    /// ICE candidates of a Connect, opaque here.
    75 CANDIDATES "Candidates" MANDATORY Candidates(bytes: &'a [u8]),
    /// Bytes without meaning, which make a request as long as its answer may be.
    76 PADDING "Padding" IGNORABLE Padding(bytes: &'a [u8]),
    /// Peers that the asker knows already; see [`known`](super::known).
    77 KNOWN "Known" IGNORABLE Known(tags: &'a [u8]),
    /// A link between neighbours by agreement.
    78 LINK_STATE "Link-State" IGNORABLE LinkState(state: LinkState<'a>),
    /// Peers that hold the record before it, or get it at the same time; see [`holders`](super::holders).
    79 HOLDERS "Holders" IGNORABLE Holders(heads: &'a [u8]),
    /// Which of the records named in the request are not held: their places among those, from 0.
    80 MISSING "Missing" IGNORABLE Missing(places: &'a [u8]),
    /// How close to a place the peers around it stand.
    81 DENSITY "Density" IGNORABLE Density(density: Density),
    /// A part of the overlay's documents; in a request which is wanted, and of what its sender has.
    82 DOCUMENT_PART "Document-Part" MANDATORY DocumentPart {
        /// Sequence of the newest document of its sender; 0 for none.
        sequence: u64,
        /// How long all the documents are together.
        length: u32,
        /// Where this part begins.
        offset: u32,
        /// The part.
        bytes: &'a [u8],
    },
}

/// The name of the object with this number, as in the specification.
pub fn name_of(number: u8) -> Option<&'static str> {
    NAMES.iter().find(|(n, _)| *n == number).map(|(_, name)| *name)
}

impl Object<'_> {
    /// Whether a reader that does not know this type may skip it.
    pub fn ignorable(&self) -> bool {
        self.flags() == IGNORABLE
    }

    /// Appends the object, with its type and length, to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        tlv::emit(out, self.number(), self.flags(), |o| self.write_fields(o));
    }
}
