//! Arbitrary P2PP values: every object, every header.
//!
//! Objects borrow what they hold, so the bytes behind arbitrary ones are leaked; a test run leaks a
//! few megabytes.

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use wire::p2pp::link_state::Index;
use wire::p2pp::record::MAX_VALUE;
use wire::p2pp::{
    AddressInfo, CandidateKind, Class, Code, Connections, Density, Diagnostic, Header, Kind, LinkState,
    MessageCounts, MessageType, Object, P2pOptions, PLookup, PeerInfo, PeerList, RLookup, Record, RecordRef,
    RecordSummary, RequestOptions, RouteHop, TransactionId, TransportKind, Utilization,
};
use wire::{Contact, HashAlgorithm, Key, KeyPair, NodeId, PublicKey, ResourceId, Seed, UnixTime};

fn bytes(most: usize) -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 0..=most).prop_map(|b| &*b.leak())
}

/// A text of at most 255 bytes, of characters of every width.
fn text() -> impl Strategy<Value = &'static str> {
    vec(any::<char>(), 0..=63).prop_map(|chars| &*String::from_iter(chars).leak())
}

pub(crate) fn key() -> impl Strategy<Value = Key> {
    (select(&[16usize, 20, 32]), any::<[u8; 32]>()).prop_map(|(n, b)| Key::from_slice(&b[..n]).unwrap())
}

fn public_key() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_map(PublicKey)
}

fn signature() -> impl Strategy<Value = [u8; KeyPair::SIGNATURE_LEN]> {
    (any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(a, b)| [a, b].concat().try_into().unwrap())
}

fn address() -> impl Strategy<Value = SocketAddr> {
    any::<(std::net::IpAddr, u16)>().prop_map(SocketAddr::from)
}

fn address_info() -> impl Strategy<Value = AddressInfo> {
    use CandidateKind::*;
    let kind = select(&[Host, ServerReflexive, PeerReflexive, Relayed]);
    let transport = select(&[TransportKind::Udp, TransportKind::Tcp]);
    (kind, transport, any::<(u8, u8, u32)>(), address()).prop_map(|(kind, transport, numbers, address)| {
        let (foundation, component, priority) = numbers;
        AddressInfo { kind, transport, foundation, component, priority, address }
    })
}

fn peer_info() -> impl Strategy<Value = PeerInfo<'static>> {
    let rest = (
        any::<Option<u32>>(),
        proptest::option::of(public_key()),
        any::<Option<u64>>(),
        proptest::option::of(bytes(64)),
    );
    (proptest::option::of(key().prop_map(NodeId)), vec(address_info(), 0..=6), rest)
        .prop_filter("an identity or an address", |(id, addresses, _)| id.is_some() || !addresses.is_empty())
        .prop_map(|(id, addresses, (uptime, public_key, puzzle_nonce, admission))| PeerInfo {
            id,
            addresses: addresses.into(),
            uptime,
            public_key,
            puzzle_nonce,
            admission,
        })
}

fn peer_list() -> impl Strategy<Value = PeerList<'static>> {
    let contact = (key(), address()).prop_map(|(id, address)| Contact { id: NodeId(id), address });
    vec(contact, 0..=12).prop_map(|contacts| PeerList::Contacts(contacts.leak()))
}

fn p2p_options() -> impl Strategy<Value = P2pOptions<'static>> {
    let base = select(&[0u16, 2, 4, 8, 16, 32, 64, 128, 256]);
    (select(&HashAlgorithm::ALL), any::<(u8, u8, u8, bool)>(), base, text()).prop_map(
        |(hash, (algorithm, difficulty, replicas, remote_settings), base, name)| P2pOptions {
            hash,
            algorithm,
            base,
            difficulty,
            replicas,
            remote_settings,
            name,
        },
    )
}

fn request_options() -> impl Strategy<Value = RequestOptions> {
    any::<([bool; 7], u16)>().prop_map(|([p, r, n, a, s, l, c], offset)| RequestOptions {
        primary: p,
        routing_table: r,
        neighbor_table: n,
        partial: a,
        neighbor_join: s,
        route_log: l,
        call_back: c,
        offset,
    })
}

/// A record that nobody signed.
pub(crate) fn record() -> impl Strategy<Value = RecordRef<'static>> {
    let numbers = any::<(u16, u64, u64, u32, bool)>();
    (key(), numbers, public_key(), signature(), bytes(MAX_VALUE)).prop_map(
        |(resource, (kind, sequence, created, lifetime, tombstone), owner, signature, value)| RecordRef {
            resource: ResourceId(resource),
            kind: Kind(kind),
            tombstone,
            sequence,
            created: UnixTime(created),
            lifetime,
            owner,
            signature,
            value: if tombstone { &[] } else { value },
        },
    )
}

/// A record that its owner signed.
pub(crate) fn signed_record() -> impl Strategy<Value = Record> {
    (any::<[u8; 32]>(), record()).prop_map(|(secret, r)| {
        let owner = KeyPair::from_seed(Seed(secret));
        let value = r.value.to_vec();
        Record::sign(&owner, r.resource, r.kind, r.sequence, r.created, r.lifetime, value)
    })
}

fn status_object() -> impl Strategy<Value = Object<'static>> {
    let hop = (key(), address(), any::<(u32, u8)>()).prop_map(|(id, address, (rtt_micros, decision))| {
        RouteHop { id: NodeId(id), address, rtt_micros, decision }
    });
    let counts = vec(any::<[u8; 4]>(), 0..20).prop_map(|c| MessageCounts::new(c.concat().leak()).unwrap());
    let diagnostic = || (text(), text()).prop_map(|(name, value)| Diagnostic { name, value });
    prop_oneof![
        any::<u32>().prop_map(Object::Uptime),
        any::<u32>().prop_map(Object::TimeWindow),
        any::<u32>().prop_map(Object::AsNumber),
        any::<(u16, u16, u16)>().prop_map(|(neighbors, routing, clients)| {
            Object::Connections(Connections { neighbors, routing, clients })
        }),
        any::<(u32, u8, u8)>().prop_map(|(bandwidth_kbps, cpu_percent, bandwidth_percent)| {
            Object::Utilization(Utilization { bandwidth_kbps, cpu_percent, bandwidth_percent })
        }),
        counts.prop_map(Object::MessagesReceived),
        hop.prop_map(Object::RouteHop),
        link_state().prop_map(Object::LinkState),
        any::<[u16; 2]>().prop_map(|steps| Object::Density(Density(steps))),
        diagnostic().prop_map(Object::Diagnostic),
        diagnostic().prop_map(Object::Setting),
        any::<u64>().prop_map(Object::DiagnosticOptions),
        (any::<(u16, u16)>(), text()).prop_map(|((code, detail), reason)| Object::Error {
            code: Code(code),
            detail,
            reason
        }),
    ]
}

fn link_state() -> impl Strategy<Value = LinkState<'static>> {
    let index = proptest::option::of(vec(any::<[u8; Index::DIGEST_LEN]>(), 0..30));
    (any::<(bool, bool, u8, u32, u32, u32, u32)>(), index).prop_map(
        |((neighbor, fresh, degree, capacity, tokens, spent, known), index)| {
            let index = index.and_then(|i| Index::new(i.concat().leak()));
            LinkState { neighbor, fresh, degree, capacity, tokens, spent, known, index }
        },
    )
}

fn peer_object() -> impl Strategy<Value = Object<'static>> {
    prop_oneof![
        peer_info().prop_map(Object::PeerInfo),
        key().prop_map(|k| Object::PeerId(NodeId(k))),
        address_info().prop_map(Object::AddressInfo),
        text().prop_map(Object::UnhashedId),
        p2p_options().prop_map(Object::P2pOptions),
        request_options().prop_map(Object::RequestOptions),
        peer_list().prop_map(Object::RoutingTable),
        peer_list().prop_map(Object::NeighborTable),
        public_key().prop_map(Object::PublicKey),
        any::<u64>().prop_map(Object::PuzzleNonce),
        any::<[u8; 16]>().prop_map(Object::Cookie),
        address().prop_map(Object::ObservedAddress),
    ]
}

fn data_object() -> impl Strategy<Value = Object<'static>> {
    let plookup = (1..=63u8, any::<bool>(), key())
        .prop_map(|(count, exact, key)| Object::PLookup(PLookup { count, exact, key }));
    let rlookup = (key(), any::<u16>(), proptest::option::of(public_key())).prop_map(|(key, kind, owner)| {
        Object::RLookup(RLookup { resource: ResourceId(key), kind: Kind(kind), owner })
    });
    let summary = (key(), any::<(u16, u64, u64)>()).prop_map(|(key, (kind, sequence, digest))| {
        Object::RecordSummary(RecordSummary { resource: ResourceId(key), kind: Kind(kind), sequence, digest })
    });
    prop_oneof![
        plookup,
        rlookup,
        summary,
        key().prop_map(|k| Object::ResourceId(ResourceId(k))),
        record().prop_map(Object::Resource),
        any::<u32>().prop_map(Object::Expires),
        public_key().prop_map(Object::Owner),
        (public_key(), signature()).prop_map(|(key, signature)| Object::Signature { key, signature }),
        (any::<u8>(), bytes(100)).prop_map(|(content, bytes)| Object::Payload { content, bytes }),
        (any::<(u64, u32, u32)>(), bytes(100)).prop_map(|((sequence, length, offset), bytes)| {
            Object::DocumentPart { sequence, length, offset, bytes }
        }),
        bytes(100).prop_map(Object::SigningRequest),
        bytes(100).prop_map(Object::Certificate),
        bytes(20).prop_map(Object::ResourceList),
        bytes(100).prop_map(Object::Admission),
        bytes(100).prop_map(Object::Candidates),
        bytes(100).prop_map(Object::Padding),
        bytes(100).prop_map(Object::Known),
        bytes(64).prop_map(Object::Holders),
        bytes(16).prop_map(Object::Missing),
    ]
}

/// Any object.
pub(crate) fn object() -> impl Strategy<Value = Object<'static>> {
    prop_oneof![peer_object(), data_object(), status_object()]
}

/// Any object that no signature is.
pub(crate) fn unsigned_object() -> impl Strategy<Value = Object<'static>> {
    object().prop_filter("not a signature", |o| !matches!(o, Object::Signature { .. }))
}

pub(crate) fn header() -> impl Strategy<Value = Header> {
    use Class::*;
    let class = select(&[Request, Indication, Response, ResponseAck, RequestReceived, ResponseReceived]);
    let id = || proptest::option::of(key().prop_map(NodeId));
    let flags = any::<(bool, bool, u8)>();
    let numbers = any::<(u64, u32, u16, u16, u16)>();
    (class, select(MessageType::ALL), flags, numbers, id(), id()).prop_map(
        |(class, message, (from_peer, recursive, ttl), numbers, source, responder)| {
            let (transaction, overlay, config_sequence, code, deadline_ms) = numbers;
            Header {
                class,
                from_peer,
                recursive,
                message,
                ttl,
                transaction: TransactionId(transaction),
                overlay,
                config_sequence,
                code: Code(code),
                deadline_ms,
                source,
                responder,
            }
        },
    )
}

/// Bytes that look like objects: numbers in use or not, flags, lengths that are mostly right.
pub(crate) fn almost_objects() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0..=24u8, 64..=78u8, any::<u8>()];
    let flags = select(&[0u8, 0x40, 0x80, 0xff]);
    let one = (number, flags, vec(any::<u8>(), 0..80), -1..=1i32, any::<bool>()).prop_map(
        |(number, flags, value, off, wrong)| {
            let len = (value.len() as i32 + if wrong { off } else { 0 }).max(0) as u16;
            let mut bytes = vec![number, flags];
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(&value);
            bytes
        },
    );
    vec(one, 0..6).prop_map(|objects| objects.concat())
}
