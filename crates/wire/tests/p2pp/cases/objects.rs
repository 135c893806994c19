//! Every object by itself, with its widest and narrowest forms.

use wire::p2pp::link_state::Index;
use wire::p2pp::{
    AddressInfo, CandidateKind, Code, Connections, Density, Diagnostic, LinkState, MessageCounts, Object,
    P2pOptions, PLookup, PeerInfo, PeerList, RLookup, RequestOptions, RouteHop, TransportKind, Utilization,
};
use wire::{Contact, Key, UnixTime};

use super::*;

fn relayed() -> AddressInfo {
    AddressInfo {
        kind: CandidateKind::Relayed,
        transport: TransportKind::Tcp,
        foundation: 3,
        component: 2,
        priority: 0x7e00_00ff,
        address: "[2001:db8::1]:443".parse().unwrap(),
    }
}

fn full_info() -> PeerInfo<'static> {
    let key = asker().public();
    let mut info = PeerInfo {
        id: Some(id(&asker())),
        uptime: Some(3_600),
        public_key: Some(key),
        puzzle_nonce: Some(0x0123_4567_89ab_cdef),
        admission: Some(b"admitted"),
        ..PeerInfo::default()
    };
    info.addresses.push(AddressInfo::host("192.0.2.1:7080".parse().unwrap()));
    info.addresses.push(relayed());
    info
}

pub(super) fn cases() -> Vec<Case> {
    let record = record();
    let stone = record.tombstone(&user(), UnixTime(1_700_000_100));
    let contacts = [Contact { id: id(&answerer()), address: "192.0.2.2:7080".parse().unwrap() }];
    let narrow = Key::from_slice(&[0xab; 16]).unwrap();
    let options = P2pOptions {
        hash: HashAlgorithm::Sha1,
        algorithm: 0,
        base: 16,
        difficulty: 20,
        replicas: 3,
        remote_settings: true,
        name: "camp é",
    };
    let every_wish = RequestOptions {
        primary: true,
        routing_table: true,
        neighbor_table: true,
        partial: true,
        neighbor_join: true,
        route_log: true,
        call_back: true,
        offset: 0xbeef,
    };
    let hop = RouteHop {
        id: id(&answerer()),
        address: "[2001:db8::2]:7080".parse().unwrap(),
        rtt_micros: 1_500,
        decision: 2,
    };
    let utilization = Utilization { bandwidth_kbps: 16_000, cpu_percent: 3, bandwidth_percent: 40 };
    let signature = asker().sign(b"anything");

    vec![
        object("object/Peer-Info", "every part", &Object::PeerInfo(full_info())),
        object(
            "object/Peer-Info/brief",
            "as tables list it: identity and one address",
            &Object::PeerInfo(PeerInfo::brief(&contacts[0])),
        ),
        object("object/Peer-ID", "32 bytes", &Object::PeerId(id(&answerer()))),
        object("object/Peer-ID/narrow", "16 bytes", &Object::PeerId(NodeId(narrow))),
        object(
            "object/Address-Info",
            "IPv4, host, UDP",
            &Object::AddressInfo(AddressInfo::host("192.0.2.1:7080".parse().unwrap())),
        ),
        object("object/Address-Info/relay", "IPv6, relayed, TCP", &Object::AddressInfo(relayed())),
        object("object/Unhashed-ID", "a name before hashing", &Object::UnhashedId(AOR)),
        object("object/Uptime", "a day; ignorable", &Object::Uptime(86_400)),
        object(
            "object/P2P-Options",
            "SHA-1, Chord, base 16; the name has 7 bytes",
            &Object::P2pOptions(options),
        ),
        object("object/Request-Options", "every flag", &Object::RequestOptions(every_wish)),
        object("object/Diagnostic-Options", "everything", &Object::DiagnosticOptions(u64::MAX)),
        object("object/Routing-Table", "one peer", &Object::RoutingTable(PeerList::Contacts(&contacts))),
        object("object/Neighbor-Table", "empty", &Object::NeighborTable(PeerList::Contacts(&[]))),
        object(
            "object/PLookup",
            "the most that can be wanted, exact",
            &Object::PLookup(PLookup { count: 63, exact: true, key: narrow }),
        ),
        object(
            "object/Resource-ID",
            "the hash of the address-of-record alice@demo.test",
            &Object::ResourceId(place()),
        ),
        object(
            "object/RLookup",
            "only this owner's",
            &Object::RLookup(RLookup { resource: place(), kind: record.kind, owner: Some(user().public()) }),
        ),
        object("object/Resource-Object", "a device list with one device", &Object::Resource(record.as_ref())),
        object("object/Resource-Object/tombstone", "its withdrawal", &Object::Resource(stone.as_ref())),
        object("object/Expires", "seconds left", &Object::Expires(2_400)),
        object("object/Owner", "a public key", &Object::Owner(user().public())),
        object("object/Signing-Request", "opaque", &Object::SigningRequest(b"opaque")),
        object("object/Certificate", "opaque", &Object::Certificate(b"opaque")),
        object(
            "object/Signature",
            "the key, then the signature",
            &Object::Signature { key: asker().public(), signature },
        ),
        object("object/Time-Window", "seconds", &Object::TimeWindow(600)),
        object(
            "object/Connections",
            "neighbours, routing, clients; ignorable",
            &Object::Connections(Connections { neighbors: 8, routing: 41, clients: 2 }),
        ),
        object("object/Utilization", "ignorable", &Object::Utilization(utilization)),
        object(
            "object/Messages-Received",
            "KeepAlive 258 times, answers once; ignorable",
            &Object::MessagesReceived(MessageCounts::new(&[5, 0, 1, 2, 254, 0, 0, 1]).unwrap()),
        ),
        object("object/AS-Number", "ignorable", &Object::AsNumber(64_496)),
        object(
            "object/Error",
            "in numbers and in words",
            &Object::Error { code: Code::QUOTA, detail: 7, reason: "full" },
        ),
        object("object/Public-Key", "32 bytes", &Object::PublicKey(asker().public())),
        object("object/Resource-List", "STUN and TURN; ignorable", &Object::ResourceList(&[1, 2])),
        object(
            "object/Record-Summary",
            "of the record above",
            &Object::RecordSummary(record.as_ref().summary()),
        ),
        object(
            "object/Payload",
            "content 1: a piece of an envelope",
            &Object::Payload { content: 1, bytes: b"\0\0\0\x2a\0\x02piece" },
        ),
        object("object/Route-Hop", "IPv6; ignorable", &Object::RouteHop(hop)),
        object(
            "object/Diagnostic",
            "ignorable",
            &Object::Diagnostic(Diagnostic { name: "bytes_per_s.out", value: "212.5" }),
        ),
        object("object/Puzzle-Nonce", "64 bits", &Object::PuzzleNonce(42)),
        object("object/Admission", "opaque", &Object::Admission(b"opaque")),
        object("object/Cookie", "16 bytes", &Object::Cookie(*b"sixteen byte key")),
        object(
            "object/Setting",
            "an empty value unsets",
            &Object::Setting(Diagnostic { name: "cpu", value: "" }),
        ),
        object(
            "object/Observed-Address",
            "IPv4; ignorable",
            &Object::ObservedAddress("198.51.100.7:40000".parse().unwrap()),
        ),
        object("object/Candidates", "opaque", &Object::Candidates(b"opaque")),
        object("object/Padding", "ignorable", &Object::Padding(&[0; 8])),
        object("object/Known", "ignorable; two peers", &Object::Known(&[0x12, 0x34, 0x56, 0x78])),
        object(
            "object/Holders",
            "ignorable; two peers",
            &Object::Holders(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        ),
        object("object/Missing", "ignorable; the first and the third record", &Object::Missing(&[0, 2])),
        object(
            "object/Link-State",
            "an able neighbour that holds two keys; ignorable",
            &Object::LinkState(LinkState {
                neighbor: true,
                fresh: false,
                degree: 48,
                capacity: 1_000,
                tokens: 272,
                spent: 35,
                known: 0x811c_9dc5,
                index: Index::new(&[0, 0, 0, 7, 0xff, 0xee, 0xdd, 0xcc]),
            }),
        ),
        object(
            "object/Link-State/narrow",
            "a stranger asks for a link",
            &Object::LinkState(LinkState {
                neighbor: true,
                fresh: true,
                degree: 2,
                capacity: 10,
                ..LinkState::default()
            }),
        ),
        object(
            "object/Density",
            "the fourth peer at a thousandth of the space, the eighth at a five hundredth; ignorable",
            &Object::Density(Density([2_551, 2_295])),
        ),
        object(
            "object/Document-Part",
            "the end of a document of 207 bytes",
            &Object::DocumentPart { sequence: 3, length: 207, offset: 200, bytes: &[1, 2, 3, 4, 5, 6, 7] },
        ),
    ]
}
