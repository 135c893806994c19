//! The common header.
//!
//! ```text
//!  0      |1 1| T |A|P|R|0|    version    |     type      |      TTL      |
//!  4      |                     cookie 0x596ABF0D                         |
//!  8      |                        transaction-ID                         |
//! 12      |                           (64 bits)                           |
//! 16      |                         overlay hash                          |
//! 20      |    configuration sequence     |         response code         |
//! 24      |    remaining deadline (ms)    | source length | resp. length  |
//! 28      |              body length (bytes after the header)             |
//! 32      source-ID (0, 16, 20 or 32 bytes), then response-ID (likewise)
//! ```
//!
//! The constant 11 keeps the first byte at 0xC0 or above, so that P2PP shares one port with STUN,
//! DTLS, TURN channels and RTP (RFC 7983). The cookie stands where STUN has its own, so the two can
//! never be taken for each other. Identifier lengths are in the header, so that a parser needs no
//! context; the remaining deadline lets every hop give up before the one that asked it.

use std::fmt;
use std::time::Duration;

use super::{Code, ParseError};
use crate::{Key, NodeId};

/// Bytes 4 to 7 of every message (draft, section "common header").
pub const COOKIE: u32 = 0x596A_BF0D;

/// The version this peer speaks.
pub const VERSION: u8 = 1;

/// Length of the header without identifiers.
pub const FIXED_LEN: usize = 32;

/// Identifies one message of one originator; random, so that nobody off the path can guess it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u64);

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a message is to the exchange it belongs to (draft: T bits and A bit).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
    /// Asks for an answer (T = 00).
    Request,
    /// Tells, and wants no answer; never forwarded (T = 01).
    Indication,
    /// Answers a request that was acknowledged before; wants an acknowledgement (T = 10).
    Response,
    /// Answers and acknowledges at once (T = 11).
    ResponseAck,
    /// Acknowledges a request (A = 1, T = 00): stop retransmitting, an answer will come.
    RequestReceived,
    /// Acknowledges a response (A = 1, T = 10).
    ResponseReceived,
}

impl Class {
    /// Whether this is an answer.
    pub fn is_response(self) -> bool {
        matches!(self, Class::Response | Class::ResponseAck)
    }

    fn bits(self) -> u8 {
        match self {
            Class::Request => 0b000,
            Class::Indication => 0b010,
            Class::Response => 0b100,
            Class::ResponseAck => 0b110,
            Class::RequestReceived => 0b001,
            Class::ResponseReceived => 0b101,
        }
    }

    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0b000 => Class::Request,
            0b010 => Class::Indication,
            0b100 => Class::Response,
            0b110 => Class::ResponseAck,
            0b001 => Class::RequestReceived,
            0b101 => Class::ResponseReceived,
            _ => return None,
        })
    }
}

macro_rules! message_types {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// The messages: 0 to 16 are the draft's, 17 is its Invite, which had no number; from 64 ours.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum MessageType { $($(#[$doc])* $name = $number,)* }

        impl MessageType {
            /// Every message, in the order of its number.
            pub const ALL: &[MessageType] = &[$(MessageType::$name),*];

            /// The message with this number.
            pub fn from_number(n: u8) -> Option<Self> {
                match n { $($number => Some(MessageType::$name),)* _ => None }
            }

            /// Its name as in the draft.
            pub fn name(self) -> &'static str {
                match self { $(MessageType::$name => stringify!($name),)* }
            }
        }
    };
}

message_types! {
    /// Asks an authority for a certificate with a new key.
    Enroll = 0,
    /// Asks an authority for a certificate with a known key.
    Authenticate = 1,
    /// Asks for the overlay's options, one's own mapped address and some peers.
    Bootstrap = 2,
    /// Introduces a peer to the peers next to it, or a client to its peer.
    Join = 3,
    /// Says goodbye, naming peers that may take one's place.
    Leave = 4,
    /// Is the other still there?
    KeepAlive = 5,
    /// Asks for the peers nearest to a key.
    LookupPeer = 6,
    /// Asks for routing and neighbour table.
    ExchangeTable = 7,
    /// Asks for options and offered services.
    Query = 8,
    /// Stores a record.
    Publish = 9,
    /// Asks for a record.
    LookupObject = 10,
    /// Withdraws a record (carries its signed tombstone).
    RemoveObject = 11,
    /// Gives a copy of records to another holder.
    Replicate = 12,
    /// Hands records over to the peer that is now nearer.
    Transfer = 13,
    /// Carries a payload (SIP) to a peer.
    Tunnel = 14,
    /// Exchanges ICE candidates.
    Connect = 15,
    /// Asks how a peer is.
    GetDiagnostics = 16,
    /// Asks a client to become a peer.
    Invite = 17,
    /// Sets or unsets a value on a peer, signed by an operator of the overlay.
    Configure = 64,
    /// Extends the life of records the receiver already holds, by their digests.
    Refresh = 65,
    /// Asks for the overlay's newest document, part by part.
    GetDocument = 66,
}

/// The common header, as values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Request, response, acknowledgement or indication.
    pub class: Class,
    /// P: the originator is a peer, not a client.
    pub from_peer: bool,
    /// R: route this request recursively.
    pub recursive: bool,
    /// Which message.
    pub message: MessageType,
    /// Hops left.
    pub ttl: u8,
    /// Chosen by the originator of the request, kept by every hop and by the answer.
    pub transaction: TransactionId,
    /// Low 32 bits of the hash of the overlay's name; 0 where it is not yet known.
    pub overlay: u32,
    /// Short form of the sequence of the overlay document that the sender has; 0 for none.
    pub config_sequence: u16,
    /// How the request ended; 200 and above in responses, 0 elsewhere.
    pub code: Code,
    /// Requests: how long the sender will still wait, in milliseconds (0: not said).
    pub deadline_ms: u16,
    /// The originator of the request; absent in Bootstrap from a peer that does not know the hash.
    pub source: Option<NodeId>,
    /// Who answered or acknowledged.
    pub responder: Option<NodeId>,
}

impl Header {
    /// A request as its originator starts it.
    pub fn request(message: MessageType, transaction: TransactionId, source: NodeId) -> Self {
        Header {
            class: Class::Request,
            from_peer: true,
            recursive: false,
            message,
            ttl: 1,
            transaction,
            overlay: 0,
            config_sequence: 0,
            code: Code(0),
            deadline_ms: 0,
            source: Some(source),
            responder: None,
        }
    }

    /// The answer to this request. It names the originator only where hops carry it back: whoever asked
    /// without them knows itself by the transaction-ID.
    pub fn answer(&self, code: Code, responder: NodeId) -> Self {
        Header {
            class: Class::ResponseAck,
            recursive: false,
            source: self.source.filter(|_| self.recursive),
            ttl: 1,
            code,
            config_sequence: 0,
            deadline_ms: 0,
            responder: Some(responder),
            ..*self
        }
    }

    /// The acknowledgement of this request or response. That of a request names nobody: the
    /// transaction-ID and the address it comes from say enough, and every hop sends one.
    pub fn acknowledgement(&self, responder: NodeId) -> Self {
        let (class, source, responder) = match self.class {
            Class::Response => {
                (Class::ResponseReceived, self.source, Some(self.responder.unwrap_or(responder)))
            }
            _ => (Class::RequestReceived, None, None),
        };
        Header { class, recursive: false, ttl: 1, code: Code(0), deadline_ms: 0, source, responder, ..*self }
    }

    /// The remaining deadline as a duration, if the sender said one.
    pub fn deadline(&self) -> Option<Duration> {
        (self.deadline_ms > 0).then(|| Duration::from_millis(u64::from(self.deadline_ms)))
    }

    /// Length of the encoded header.
    pub fn encoded_len(&self) -> usize {
        FIXED_LEN + id_len(&self.source) + id_len(&self.responder)
    }

    /// Appends the header to `out`, announcing a body of `body_len` bytes.
    pub fn emit(&self, body_len: usize, out: &mut Vec<u8>) {
        let (t, a) = (self.class.bits() >> 1, self.class.bits() & 1);
        let flags = (t << 4) | (a << 3) | (u8::from(self.from_peer) << 2) | (u8::from(self.recursive) << 1);
        let mut fixed = [0; FIXED_LEN];
        fixed[..4].copy_from_slice(&[0xC0 | flags, VERSION, self.message as u8, self.ttl]);
        fixed[4..8].copy_from_slice(&COOKIE.to_be_bytes());
        fixed[8..16].copy_from_slice(&self.transaction.0.to_be_bytes());
        fixed[16..20].copy_from_slice(&self.overlay.to_be_bytes());
        fixed[20..22].copy_from_slice(&self.config_sequence.to_be_bytes());
        fixed[22..24].copy_from_slice(&self.code.0.to_be_bytes());
        fixed[24..26].copy_from_slice(&self.deadline_ms.to_be_bytes());
        fixed[26..28].copy_from_slice(&[id_len(&self.source) as u8, id_len(&self.responder) as u8]);
        fixed[28..].copy_from_slice(&u32::try_from(body_len).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&fixed);
        for id in [&self.source, &self.responder].into_iter().flatten() {
            out.extend_from_slice(id.key().as_bytes());
        }
    }

    /// Reads the header; returns it, its length and the length of the body it announces.
    pub fn parse(bytes: &[u8]) -> Result<(Header, usize, usize), ParseError> {
        let fixed: &[u8; FIXED_LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        let u16_at = |i: usize| u16::from_be_bytes([fixed[i], fixed[i + 1]]);
        let u32_at = |i: usize| u32::from_be_bytes([fixed[i], fixed[i + 1], fixed[i + 2], fixed[i + 3]]);
        if fixed[0] & 0xC0 != 0xC0 || u32_at(4) != COOKIE {
            return Err(ParseError::NotP2pp);
        }
        if fixed[1] != VERSION {
            return Err(ParseError::Version(fixed[1]));
        }
        let class = Class::from_bits((((fixed[0] >> 4) & 0b11) << 1) | ((fixed[0] >> 3) & 1))
            .ok_or(ParseError::Class)?;
        let mut rest = &bytes[FIXED_LEN..];
        let source = take_id(&mut rest, fixed[26])?;
        let responder = take_id(&mut rest, fixed[27])?;
        let header = Header {
            class,
            from_peer: fixed[0] & 0b100 != 0,
            recursive: fixed[0] & 0b10 != 0,
            message: MessageType::from_number(fixed[2]).ok_or(ParseError::UnknownMessage(fixed[2]))?,
            ttl: fixed[3],
            transaction: TransactionId((u64::from(u32_at(8)) << 32) | u64::from(u32_at(12))),
            overlay: u32_at(16),
            config_sequence: u16_at(20),
            code: Code(u16_at(22)),
            deadline_ms: u16_at(24),
            source,
            responder,
        };
        Ok((header, bytes.len() - rest.len(), u32_at(28) as usize))
    }

    /// The answer, in our version, to a request in another: code 505 and no more. `None` if it is no
    /// request, so that two peers never answer each other's answers.
    ///
    /// Every version keeps the first sixteen bytes: class, version, type, cookie, transaction. The answer
    /// is as long as the shortest request.
    pub fn answer_to_other_version(bytes: &[u8]) -> Option<Vec<u8>> {
        let fixed: &[u8; FIXED_LEN] = bytes.first_chunk()?;
        let is_request = fixed[0] & 0b0011_1000 == 0;
        if !is_request || fixed[0] & 0xC0 != 0xC0 || fixed[4..8] != COOKIE.to_be_bytes() {
            return None;
        }
        let mut answer = [0; FIXED_LEN];
        answer[..16].copy_from_slice(&fixed[..16]);
        (answer[0], answer[1], answer[3]) = (0xC0 | Class::Response.bits() << 3, VERSION, 1);
        answer[22..24].copy_from_slice(&Code::VERSION_NOT_SUPPORTED.0.to_be_bytes());
        Some(answer.to_vec())
    }

    /// The transaction of a message of which no more than its beginning is there, as an ICMP error quotes it
    /// (RFC 1812, section 4.3.2.3). `None` if that is no P2PP or ends before the transaction-ID does.
    pub fn quoted_transaction(beginning: &[u8]) -> Option<TransactionId> {
        let fixed: &[u8; 16] = beginning.first_chunk()?;
        let is_p2pp = fixed[0] & 0xC0 == 0xC0 && fixed[4..8] == COOKIE.to_be_bytes();
        is_p2pp.then(|| {
            TransactionId(u64::from_be_bytes(*fixed.last_chunk().expect("sixteen bytes end in eight")))
        })
    }

    /// Blanks, in an encoded message, the fields that hops may change: R, A, TTL, deadline and body
    /// length. What is left is what the originator's signature covers.
    pub(super) fn blank_mutable_fields(encoded: &mut [u8]) {
        encoded[0] &= 0b1111_0101;
        encoded[3] = 0;
        encoded[24..26].fill(0);
        encoded[28..32].fill(0);
    }

    /// Rewrites, in an encoded answer, its class: a hop that acknowledged a request passes the answer
    /// on as a [`Class::Response`].
    pub fn patch_class(encoded: &mut [u8], class: Class) {
        let (t, a) = (class.bits() >> 1, class.bits() & 1);
        encoded[0] = (encoded[0] & 0b1100_0111) | (t << 4) | (a << 3);
    }

    /// Rewrites, in an encoded request, what a hop changes when it forwards.
    pub fn patch_for_next_hop(encoded: &mut [u8], ttl: u8, deadline_ms: u16) {
        encoded[3] = ttl;
        encoded[24..26].copy_from_slice(&deadline_ms.to_be_bytes());
    }
}

fn id_len(id: &Option<NodeId>) -> usize {
    id.map_or(0, |id| id.key().as_bytes().len())
}

fn take_id(rest: &mut &[u8], len: u8) -> Result<Option<NodeId>, ParseError> {
    if len == 0 {
        return Ok(None);
    }
    if !matches!(len, 16 | 20 | 32) {
        return Err(ParseError::IdLength);
    }
    let (id, tail) = rest.split_at_checked(len as usize).ok_or(ParseError::Truncated)?;
    *rest = tail;
    Ok(Key::from_slice(id).map(NodeId))
}
