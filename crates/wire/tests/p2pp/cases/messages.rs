//! Every message: a request as peers send it, and the answers and acknowledgements that belong to it.

use wire::p2pp::{
    AddressInfo, Class, Code, Connections, Diagnostic, Header, MessageType, Object, P2pOptions, PLookup,
    PeerInfo, PeerList, RLookup, RequestOptions, RouteHop, TransactionId,
};
use wire::{Contact, UnixTime};

use super::*;

/// Low 32 bits of the hash of the overlay's name.
fn tag() -> u32 {
    u32::from_be_bytes(HashAlgorithm::Sha256.digest(OVERLAY.as_bytes()).as_bytes()[28..].try_into().unwrap())
}

/// A request of the asking peer to its next hop.
pub(super) fn request(message: MessageType) -> Header {
    let mut header = Header::request(message, TransactionId(0x0102_0304_0506_0708), id(&asker()));
    header.overlay = tag();
    header.deadline_ms = 3_500;
    header
}

fn routed(message: MessageType) -> Header {
    Header { recursive: true, ttl: 14, deadline_ms: 1_250, ..request(message) }
}

fn answer(to: &Header, code: Code) -> Header {
    to.answer(code, id(&answerer()))
}

fn contacts() -> Vec<Contact> {
    let contact =
        |secret: u8, address: &str| Contact { id: id(&pair(secret)), address: address.parse().unwrap() };
    vec![contact(0x55, "192.0.2.5:7080"), contact(0x66, "[2001:db8::6]:7080")]
}

fn own_info() -> PeerInfo<'static> {
    let key = asker().public();
    let mut info =
        PeerInfo { id: Some(id(&asker())), uptime: Some(12), public_key: Some(key), ..PeerInfo::default() };
    info.addresses.push(AddressInfo::host("192.0.2.1:7080".parse().unwrap()));
    info
}

/// An envelope from the asking peer to the answering one (docs/protocol.md, section 15).
fn envelope(sip: &[u8]) -> Vec<u8> {
    let receiver = id(&answerer());
    let stamp = [&7_u64.to_be_bytes()[..], &8_u32.to_be_bytes()].concat();
    let covered = [b"openvoip envelope 1\0", receiver.key().as_bytes(), &stamp, sip].concat();
    [&[1], &asker().public().0[..], &asker().sign(&covered)[..], &stamp, sip].concat()
}

pub(super) fn cases() -> Vec<Case> {
    use MessageType as M;
    let record = record();
    let summary = record.as_ref().summary();
    let rlookup = Object::RLookup(RLookup { resource: place(), kind: record.kind, owner: None });
    let plookup = Object::PLookup(PLookup { count: 8, exact: false, key: place().0 });
    let options = P2pOptions {
        hash: HASH,
        algorithm: 2,
        base: 2,
        difficulty: 0,
        replicas: 5,
        remote_settings: false,
        name: OVERLAY,
    };
    let tables = RequestOptions {
        routing_table: true,
        neighbor_table: true,
        partial: true,
        ..RequestOptions::default()
    };
    let trace = RequestOptions { route_log: true, ..RequestOptions::default() };
    let observed = Object::ObservedAddress("198.51.100.7:40000".parse().unwrap());
    let list = contacts();
    let (asks, answers) = (asker(), answerer());
    let stored = [Object::Resource(record.as_ref()), Object::Expires(2_400)];
    let stone = record.tombstone(&user(), UnixTime(1_700_000_100));
    let named = [Object::RecordSummary(summary), Object::Expires(2_400)];
    let hop = RouteHop {
        id: id(&answers),
        address: "192.0.2.2:7080".parse().unwrap(),
        rtt_micros: 1_500,
        decision: 0,
    };
    let sealed = envelope(b"OPTIONS sip:alice@demo.test SIP/2.0\r\n\r\n");
    let tunnel = [Object::PeerId(id(&answers)), Object::Payload { content: 0, bytes: &sealed }];
    let mut narrow = routed(M::LookupPeer);
    narrow.source = Some(NodeId(HashAlgorithm::Sha1.digest(&asks.public().0)));
    let narrow_key =
        Object::PLookup(PLookup { count: 8, exact: false, key: HashAlgorithm::Sha1.digest(AOR.as_bytes()) });
    let mut bootstrap = request(M::Bootstrap);
    (bootstrap.source, bootstrap.overlay) = (None, 0);
    let mut cookie_wanted = answer(&bootstrap, Code::PROOF_REQUIRED);
    cookie_wanted.responder = None;
    let mut command = request(M::Configure);
    (command.source, command.from_peer) = (Some(id(&operator())), false);
    let leave = Header { class: Class::Indication, deadline_ms: 0, ..request(M::Leave) };
    let lookup = routed(M::LookupObject);
    let mut passed_back = answer(&lookup, Code::OK);
    (passed_back.class, passed_back.ttl) = (Class::Response, 12);
    let received = request(M::KeepAlive).acknowledgement(id(&answers));
    let granted = [Object::Expires(2_400)];
    let why = Object::Error { code: Code::FORBIDDEN, detail: 0, reason: "bad signature" };
    let unknown = Object::Error { code: Code::UNKNOWN_OBJECT, detail: 200, reason: "" };

    vec![
        message(
            "request/Enroll",
            "to an enrolment authority",
            &request(M::Enroll),
            &[Object::SigningRequest(b"opaque"), Object::UnhashedId(AOR)],
            Some(&asks),
        ),
        message(
            "request/Authenticate",
            "to an enrolment authority",
            &request(M::Authenticate),
            &[Object::Certificate(b"opaque")],
            Some(&asks),
        ),
        message(
            "request/Bootstrap",
            "from a peer that does not know the overlay yet: no source, no overlay",
            &bootstrap,
            &[Object::PublicKey(asks.public())],
            None,
        ),
        message(
            "answer/Bootstrap/428",
            "to an unproven address: a cookie to repeat, and no identifiers",
            &cookie_wanted,
            &[Object::Cookie(*b"sixteen byte key")],
            None,
        ),
        message(
            "request/Bootstrap/again",
            "the same transaction with the cookie appended",
            &bootstrap,
            &[Object::PublicKey(asks.public()), Object::Cookie(*b"sixteen byte key")],
            None,
        ),
        message(
            "answer/Bootstrap",
            "options, the asker's address, peers",
            &answer(&bootstrap, Code::OK),
            &[Object::P2pOptions(options), observed.clone(), Object::RoutingTable(PeerList::Contacts(&list))],
            None,
        ),
        message("request/Join", "signed", &request(M::Join), &[Object::PeerInfo(own_info())], Some(&asks)),
        message(
            "answer/Join",
            "the neighbours",
            &answer(&request(M::Join), Code::OK),
            &[observed, Object::NeighborTable(PeerList::Contacts(&list))],
            None,
        ),
        message(
            "answer/Join/407",
            "try again later",
            &answer(&request(M::Join), Code::JOIN_DEFERRED),
            &[Object::Expires(30)],
            None,
        ),
        message("indication/Leave", "signed; wants no answer", &leave, &[], Some(&asks)),
        message("request/KeepAlive", "nothing but the header", &request(M::KeepAlive), &[], None),
        message(
            "answer/KeepAlive",
            "nothing but the header",
            &answer(&request(M::KeepAlive), Code::OK),
            &[],
            None,
        ),
        message(
            "request/LookupPeer",
            "the 8 peers nearest to a key",
            &request(M::LookupPeer),
            &[plookup],
            None,
        ),
        message(
            "answer/LookupPeer",
            "the answerer is among the nearest: neighbours",
            &answer(&request(M::LookupPeer), Code::OK),
            &[Object::NeighborTable(PeerList::Contacts(&list))],
            None,
        ),
        message(
            "request/LookupPeer/sha-1",
            "in an overlay with SHA-1, whose identifiers have 20 bytes; recursive",
            &narrow,
            &[narrow_key],
            None,
        ),
        message(
            "answer/LookupPeer/302",
            "these are nearer",
            &answer(&request(M::LookupPeer), Code::NEXT_HOP),
            &[Object::RoutingTable(PeerList::Contacts(&list))],
            None,
        ),
        message(
            "request/ExchangeTable",
            "both tables, as far as they fit",
            &request(M::ExchangeTable),
            &[Object::RequestOptions(tables)],
            None,
        ),
        message(
            "answer/ExchangeTable",
            "both tables",
            &answer(&request(M::ExchangeTable), Code::OK),
            &[
                Object::RoutingTable(PeerList::Contacts(&list)),
                Object::NeighborTable(PeerList::Contacts(&[])),
            ],
            None,
        ),
        message(
            "request/Query",
            "from the fourth record on",
            &request(M::Query),
            &[Object::RequestOptions(RequestOptions { offset: 3, ..RequestOptions::default() })],
            None,
        ),
        message(
            "answer/Query",
            "what is held, by name",
            &answer(&request(M::Query), Code::OK),
            &[Object::RecordSummary(summary)],
            None,
        ),
        message(
            "request/Publish",
            "signed; the record and how long it should be kept",
            &request(M::Publish),
            &stored,
            Some(&asks),
        ),
        message(
            "answer/Publish",
            "how long it will be kept",
            &answer(&request(M::Publish), Code::OK),
            &granted,
            None,
        ),
        message(
            "answer/Publish/403",
            "refused, with a reason in words",
            &answer(&request(M::Publish), Code::FORBIDDEN),
            &[why],
            None,
        ),
        message(
            "request/LookupObject",
            "recursive, with a route log wanted",
            &lookup,
            &[rlookup.clone(), Object::RequestOptions(trace)],
            None,
        ),
        message(
            "request/LookupObject/passed on",
            "one hop later: TTL and deadline are smaller, the hop is in the log",
            &Header { ttl: 13, deadline_ms: 1_230, ..lookup },
            &[rlookup, Object::RequestOptions(trace), Object::RouteHop(hop)],
            None,
        ),
        message(
            "received/LookupObject",
            "the hop acknowledges; an answer will come",
            &lookup.acknowledgement(id(&answers)),
            &[],
            None,
        ),
        message(
            "answer/LookupObject",
            "the record and what is left of its life; passed back by a hop that had acknowledged, so a Response",
            &passed_back,
            &[Object::Resource(record.as_ref()), Object::Expires(2_100), Object::RouteHop(hop)],
            None,
        ),
        message(
            "received/LookupObject/answer",
            "the answer arrived: stop repeating it",
            &passed_back.acknowledgement(id(&answers)),
            &[],
            None,
        ),
        message(
            "answer/LookupObject/404",
            "nothing here; these are the other holders",
            &answer(&lookup, Code::NOT_FOUND),
            &[Object::NeighborTable(PeerList::Contacts(&list))],
            None,
        ),
        message(
            "request/RemoveObject",
            "signed; the owner's tombstone",
            &request(M::RemoveObject),
            &[Object::Resource(stone.as_ref()), Object::Expires(2_400)],
            Some(&asks),
        ),
        message(
            "request/Replicate",
            "signed; a copy for another holder",
            &request(M::Replicate),
            &stored,
            Some(&asks),
        ),
        message(
            "request/Transfer",
            "signed; from a holder that leaves",
            &request(M::Transfer),
            &stored,
            Some(&asks),
        ),
        message(
            "request/Tunnel",
            "to the answering peer, an envelope in one piece",
            &request(M::Tunnel),
            &tunnel,
            None,
        ),
        message("request/Tunnel/routed", "the same through the overlay", &routed(M::Tunnel), &tunnel, None),
        message("answer/Tunnel", "arrived", &answer(&request(M::Tunnel), Code::OK), &[], None),
        message(
            "request/Connect",
            "reserved; peers answer 501",
            &request(M::Connect),
            &[Object::Candidates(b"opaque")],
            None,
        ),
        message(
            "answer/Connect",
            "not offered by this peer",
            &answer(&request(M::Connect), Code::NOT_IMPLEMENTED),
            &[],
            None,
        ),
        message(
            "request/GetDiagnostics",
            "everything",
            &request(M::GetDiagnostics),
            &[Object::DiagnosticOptions(u64::MAX)],
            None,
        ),
        message(
            "answer/GetDiagnostics",
            "values by name",
            &answer(&request(M::GetDiagnostics), Code::OK),
            &[
                Object::Uptime(86_400),
                Object::Connections(Connections { neighbors: 8, routing: 41, clients: 0 }),
                Object::Diagnostic(Diagnostic { name: "objects", value: "12" }),
            ],
            None,
        ),
        message("request/Invite", "reserved; peers answer 501", &request(M::Invite), &[], None),
        message(
            "request/Configure",
            "signed by an operator, who is the source; the Peer-ID is the receiver, the nonce a clock",
            &command,
            &[
                Object::Setting(Diagnostic { name: "log", value: "debug" }),
                Object::PeerId(id(&answers)),
                Object::PuzzleNonce(1_700_000_000 << 20),
            ],
            Some(&operator()),
        ),
        message("request/Refresh", "names a version of a record", &request(M::Refresh), &named, None),
        message(
            "answer/Refresh",
            "held, and kept for so long",
            &answer(&request(M::Refresh), Code::OK),
            &granted,
            None,
        ),
        message(
            "answer/Refresh/404",
            "not held: send it",
            &answer(&request(M::Refresh), Code::NOT_FOUND),
            &[],
            None,
        ),
        message(
            "request/GetDocument",
            "from the sender of document 2, for the newest from its beginning",
            &Header { config_sequence: 2, ..request(M::GetDocument) },
            &[Object::DocumentPart { sequence: 2, length: 0, offset: 0, bytes: &[] }],
            None,
        ),
        message(
            "answer/GetDocument",
            "the end of a document of 207 bytes",
            &Header { config_sequence: 3, ..answer(&request(M::GetDocument), Code::OK) },
            &[Object::DocumentPart { sequence: 3, length: 207, offset: 200, bytes: &[1, 2, 3, 4, 5, 6, 7] }],
            None,
        ),
        message("received/KeepAlive", "an acknowledgement of a request", &received, &[], None),
        message(
            "answer/420",
            "a mandatory object is unknown; its number is the detail",
            &answer(&request(M::Query), Code::UNKNOWN_OBJECT),
            &[unknown],
            None,
        ),
    ]
}
