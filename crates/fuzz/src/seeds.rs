//! Inputs to begin with: what two peers and a phone really say, messages that separate parsers, and
//! scripts that walk through a peer's life.
//!
//! `cargo run -p openvoip-fuzz --example write_seeds -- fuzz/corpus` writes them; what a fuzzer then
//! finds beside them, or broke with, is kept as it is.

use std::net::SocketAddr;
use std::time::Duration;

use link::Endpoint;
use media::Wav;
use node::Profile;
use openvoip::run::dtls::{Identity, Machine};
use wire::document::KindRule;
use wire::p2pp::{Kind, Object, PLookup, RLookup, Record, RequestOptions};
use wire::rtp::rtcp::{self, ReportBlock, SenderInfo};
use wire::{
    Certificate, HashAlgorithm, KeyPair, LinkFamily, NameRequest, OverlayDocument, PublicKey, ResourceId,
    Revocations, Seed, SignedDocument, Socket, Ticket, Time, UnixTime, rtp, stun,
};

use crate::peer::World;
use crate::script::{push, steps};

/// A seed: its target, its name, its bytes.
pub type Input = (&'static str, String, Vec<u8>);

/// All of them.
pub fn all() -> Vec<Input> {
    let mut out = Vec::new();
    for (name, script) in scripts() {
        heard_on_the_way(&script, name, &mut out);
        out.push(("node", name.to_owned(), script));
    }
    sip(&mut out);
    sound(&mut out);
    for (name, text) in DESCRIPTIONS {
        out.push(("sdp", (*name).to_owned(), text.replace('\n', "\r\n").into_bytes()));
    }
    for (name, line) in CRYPTO {
        out.push(("crypto", (*name).to_owned(), line.as_bytes().to_vec()));
    }
    for (name, line) in HANDSHAKES {
        out.push(("fingerprint", (*name).to_owned(), line.as_bytes().to_vec()));
    }
    shake_hands(&mut out);
    let binding = stun::binding_request([7; 12]);
    let answer = stun::answer(&binding, SocketAddr::from(([192, 0, 2, 1], 9))).expect("an answer");
    let mut odd = binding.clone();
    odd.extend_from_slice(&[0, 3, 0, 4, 0, 0, 0, 6]);
    odd[3] = 8;
    for (name, bytes) in [("request", binding), ("answer", answer), ("unknown_attribute", odd)] {
        out.push(("stun", name.into(), bytes));
    }
    let keys = KeyPair::from_seed(Seed([9; 32]));
    for profile in [Profile::Secure, Profile::Signed] {
        let mut asking = Endpoint::new(profile, &keys, Seed([8; 32]));
        asking.send_to(Time::ZERO, (SocketAddr::from(([192, 0, 2, 1], 9)), None), vec![0], 0);
        let first = asking.poll_transmit().expect("a frame that asks for a link").bytes;
        let head = first[0] - first[0] % 16;
        let sealed = [&[head + 3][..], &[7; 8 + 32 + 16]].concat();
        let lost = [&[head + 5][..], &[7; 12]].concat();
        for (name, bytes) in [("first", first), ("sealed", sealed), ("lost", lost)] {
            out.push(("link", format!("{profile}_{name}"), bytes));
        }
    }
    // The first byte says in how long pieces a stream comes.
    let framed =
        |datagrams: &[&[u8]]| datagrams.iter().flat_map(|d| link::streams::frame(d)).collect::<Vec<_>>();
    let two = framed(&[&stun::binding_request([7; 12]), &[0xC0, 1, 2, 3]]);
    let cut_off = &two[..two.len() - 1];
    for (name, size, bytes) in [("two", 200, &two[..]), ("byte_by_byte", 0, &two), ("cut_off", 9, cut_off)] {
        out.push(("stream", name.into(), [&[size], bytes].concat()));
    }
    out.push(("stream", "too_long".into(), vec![3, 0xff, 0xff, 1, 2, 3]));
    let resource = ResourceId(HashAlgorithm::Sha256.digest(b"alice@test"));
    let devices = node::storage::Devices(vec![keys.public()]).to_bytes();
    let record = Record::sign(&keys, resource, Kind::USER, 3, UnixTime(1_800_000_000), 600, devices.clone());
    out.push(("record", "gone".into(), record.tombstone(&keys, UnixTime(1_800_000_001)).to_bytes()));
    out.push(("record", "user".into(), record.to_bytes()));
    out.push(("record", "devices".into(), devices));
    let cost = node::storage::Claim::Stretch(wire::Stretch([7; wire::Stretch::LEN]));
    let numbered = node::storage::Devices(vec![keys.public()]).with(&cost);
    out.push(("record", "numbered".into(), numbered.expect("it can be written")));
    out.push(("control", "commands".into(), COMMANDS.join("\n").into_bytes()));
    invitation(&mut out);
    domain(&mut out, &keys.public());
    out
}

/// What a domain says of a name: at the name, at an alias of it, and as texts alone.
fn domain(out: &mut Vec<Input>, key: &PublicKey) {
    use wire::domain::{place_of_name, text_of, text_of_all};
    let place = place_of_name("alice@camp.example").expect("it can be asked");
    let question = wire::dns::question(7, &place).expect("it fits");
    let asked = &question[12..question.len() - 11];
    let answer = |records: &[Vec<u8>]| {
        let head = [7, 0x8180, 1, records.len() as u16, 0, 0].map(u16::to_be_bytes).concat();
        [&head, asked, &records.concat()].concat()
    };
    let record = |owner: &[u8], kind: u16, data: &[u8]| {
        [owner, &[kind, 1, 0, 60, data.len() as u16].map(u16::to_be_bytes).concat(), data].concat()
    };
    let text = text_of(key);
    let strings: Vec<u8> = text.as_bytes().chunks(40).flat_map(|s| [&[s.len() as u8], s].concat()).collect();
    let (at_the_name, elsewhere) = ([0xC0, 12], b"\x04keys\x04host\0");
    out.push(("domain", "key".into(), answer(&[record(&at_the_name, 16, &strings)])));
    let alias = record(&at_the_name, 5, elsewhere);
    out.push(("domain", "alias".into(), answer(&[alias, record(elsewhere, 16, &strings)])));
    out.push(("domain", "nothing".into(), answer(&[])));
    out.push(("domain", "texts".into(), format!("{text}\nv=spf1 -all\n{}", text_of_all()).into_bytes()));
}

/// Values of `a=fingerprint` and `a=setup`, of RFC 8122 and of phones.
const HANDSHAKES: &[(&str, &str)] = &[
    (
        "sha_256",
        "sha-256 CF:D0:8D:F7:5A:6F:B2:E1:CD:99:89:7A:CF:76:F9:29:65:7B:2B:7C:96:E0:36:9B:96:59:0D:A5:A6:FB:46:56",
    ),
    ("sha_1", "sha-1 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB"),
    ("either", "actpass"),
];

/// What both sides of a handshake say in which nothing is lost, by the side that hears it.
fn shake_hands(out: &mut Vec<Input>) {
    let ours = [0; 2].map(|_| Identity::fresh().expect("randomness"));
    let remote = SocketAddr::from(([192, 0, 2, 1], 9));
    let mut machines = [0, 1].map(|n| Machine::new(&ours[n], n == 1, remote).expect("randomness"));
    let mut scripts = [Vec::new(), Vec::new()];
    for _ in 0..4 {
        for from in [1, 0] {
            while let Some(datagram) = machines[from].poll_transmit() {
                push(&mut scripts[1 - from], 0, 1 - from as u8, &datagram);
                machines[1 - from].take(&datagram).expect("all of it is right");
            }
        }
    }
    for (name, script) in ["phone_begins", "phone_is_begun_with"].into_iter().zip(scripts) {
        out.push(("handshake", name.to_owned(), script));
    }
}

/// Values of `a=crypto`, of RFC 4568 and of phones.
const CRYPTO: &[(&str, &str)] = &[
    ("plain", "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"),
    ("short_tags", "2 AES_CM_128_HMAC_SHA1_32 inline:NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj|2^20"),
    ("identifier", "1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20|1:32"),
    (
        "two_keys",
        "1 F8_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5QUJjZGVm|2^20|1:4;inline:QUJjZGVmMTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5|2^20|2:4 FEC_ORDER=FEC_SRTP",
    ),
    ("window", "3 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|1066 WSH=128"),
];

/// The first document of an overlay, one that an operator signed, and a ticket.
fn invitation(out: &mut Vec<Input>) {
    let (founder, operator) = (KeyPair::from_seed(Seed([1; 32])), KeyPair::from_seed(Seed([2; 32])));
    let peer = SocketAddr::from(([192, 0, 2, 1], 7_080));
    let mut document = OverlayDocument {
        founder: founder.public(),
        sequence: 1,
        created: UnixTime(1_800_000_000),
        name: "camp".into(),
        algorithm: 2,
        hash: HashAlgorithm::Sha256,
        base: 2,
        replicas: 5,
        difficulty: 0,
        remote_settings: false,
        profile: Profile::Open,
        links: LinkFamily::Noise,
        kinds: KindRule::today(),
        bootstrap: [peer].into(),
        managed: [].into(),
        revoked: [].into(),
        operators: [operator.public()].into(),
        authorities: [].into(),
    };
    let ticket = Ticket {
        profile: Profile::Open,
        links: LinkFamily::Noise,
        founder: founder.public(),
        name: "camp".into(),
        peers: [peer].into(),
    };
    let mut push = |name: &str, document: &OverlayDocument, key| {
        let signed = SignedDocument::sign(document.clone(), key).expect("within bounds");
        out.push(("document", name.into(), signed.to_bytes()));
    };
    push("first", &document, &founder);
    let first = SignedDocument::sign(document.clone(), &founder).expect("within bounds").to_bytes();
    document.sequence = 2;
    document.revoked = [PublicKey([9; 32])].into();
    document.bootstrap.insert(SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 7_080)));
    push("of_operator", &document, &operator);
    out.push(("document", "chain".into(), [first, out.last().expect("just pushed").2.clone()].concat()));
    let (user, time) = (operator.public(), UnixTime(1_800_000_000));
    let who = (founder.public(), "alice@camp", user);
    let certificate =
        Certificate::sign(&founder, who, 7, (time, UnixTime(time.0 + 600))).expect("within bounds");
    let list =
        Revocations::sign(&founder, founder.public(), 3, [(user, time)].into()).expect("within bounds");
    let to = (founder.public(), founder.public());
    let request = NameRequest::sign(&operator, to, "alice@camp", time, "0123abcd").expect("within bounds");
    out.push(("certificate", "certificate".into(), certificate.to_bytes().expect("likewise")));
    out.push(("certificate", "revocations".into(), list.to_bytes()));
    out.push(("certificate", "request".into(), request.to_bytes().expect("likewise")));
    let certified = node::storage::Devices(vec![user]).with(&node::storage::Claim::Certificate(certificate));
    out.push(("record", "certified".into(), certified.expect("it can be written")));
    out.push(("ticket", "text".into(), ticket.to_text().expect("within bounds").into_bytes()));
    out.push(("ticket", "capitals".into(), ticket.to_capitals().expect("likewise").into_bytes()));
}

/// What Alice's peer received while a script ran, each kind of message once.
fn heard_on_the_way(script: &[u8], name: &str, out: &mut Vec<Input>) {
    let mut world = World::new();
    world.start_tap();
    steps(script, usize::MAX).for_each(|step| world.step(step));
    world.pass(Duration::from_secs(2));
    let mut seen = std::collections::BTreeSet::new();
    for (number, (socket, bytes)) in world.take_tap().into_iter().enumerate() {
        let (target, kind) = match socket {
            Socket::Peer if bytes.first().is_some_and(|b| *b >= 0xC0) && bytes.len() > 3 => {
                ("p2pp", format!("{:02x}{}", bytes[0], bytes[2]))
            }
            Socket::Sip => ("sip", String::from_utf8_lossy(&bytes[..bytes.len().min(12)]).into_owned()),
            _ => continue,
        };
        if seen.insert((target, kind)) {
            out.push((target, format!("{name}_{number}"), bytes));
        }
    }
}

const SDP: &str = "v=0\r\no=phone 1 1 IN IP4 10.0.1.1\r\ns=-\r\nc=IN IP4 10.0.1.1\r\nt=0 0\r\n\
m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";

/// The body of a message of the phone, as the steps 2 and 16 take it.
fn with_sdp(head: &str) -> String {
    format!("{head}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}", SDP.len())
}

fn from_phone(method: &str, whom: &str, rest: &str) -> Vec<u8> {
    let head = format!(
        "{method} sip:{whom}@test SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.1:5060;branch=z9hG4bK{method}{whom};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@test>;tag=a{whom}\r\nTo: <sip:{whom}@test>\r\n\
         Call-ID: {method}{whom}\r\nCSeq: 1 {method}\r\nContact: <sip:alice@10.0.1.1:5060>\r\n"
    );
    (head + rest).into_bytes()
}

fn rtp_packet(sequence: u16) -> Vec<u8> {
    let header = rtp::Header {
        marker: sequence == 1,
        payload_type: 0,
        sequence,
        timestamp: 160 * u32::from(sequence),
        ssrc: 0x0102_0304,
    };
    header.packet(&[0xd5; 20])
}

fn sender_report(goodbye: bool) -> Vec<u8> {
    let info = SenderInfo { ssrc: 0x0102_0304, ntp: rtcp::ntp(Time::from_secs(1)), ..SenderInfo::default() };
    let mut out = Vec::new();
    rtcp::write_sender_report(&info, &[ReportBlock { ssrc: 9, ..ReportBlock::default() }], &mut out);
    rtcp::write_source_description(0x0102_0304, "phone", &mut out);
    if goodbye {
        rtcp::write_goodbye(0x0102_0304, &mut out);
    }
    out
}

/// Scripts of the target `node`; the kinds of steps are listed in [`crate::peer`].
fn scripts() -> Vec<(&'static str, Vec<u8>)> {
    let mut out = Vec::new();
    let mut script = |name, steps: &[(u8, u8, Vec<u8>)]| {
        let mut bytes = Vec::new();
        steps.iter().for_each(|(wait, kind, payload)| push(&mut bytes, *wait, *kind, payload));
        out.push((name, bytes));
    };
    let ok = [&200u16.to_be_bytes()[..], SDP.as_bytes()].concat();
    let media = |port: u8, packet: Vec<u8>| [vec![port], packet].concat();
    let within = |method: u8, text: &str| [vec![method], text.as_bytes().to_vec()].concat();
    let empty = "Content-Length: 0\r\n\r\n";
    script(
        "bob_calls",
        &[
            (0, 14, br#"{"command":"call","who":"alice@test","duration":2}"#.to_vec()),
            (3, 15, 180u16.to_be_bytes().to_vec()),
            (3, 15, ok.clone()),
            (1, 7, media(0, rtp_packet(1))),
            (1, 7, media(0, rtp_packet(2))),
            (1, 7, media(1, sender_report(false))),
            (3, 16, within(0, &with_sdp(""))),
            (3, 16, within(2, empty)),
        ],
    );
    script(
        "alice_calls_echo",
        &[
            (0, 2, from_phone("INVITE", "echo", &with_sdp(""))),
            (3, 16, within(1, empty)),
            (1, 7, media(0, rtp_packet(1))),
            (1, 8, media(0, rtp_packet(2))),
            (3, 7, media(1, sender_report(true))),
            (4, 2, from_phone("CANCEL", "echo", empty)),
            (4, 16, within(2, empty)),
        ],
    );
    script(
        "alice_calls_bob",
        &[(0, 2, from_phone("INVITE", "bob", &with_sdp(""))), (5, 4, b"\r\n\r\n".to_vec())],
    );
    let bootstrap = [
        link::streams::frame(&[&[0xC0, 1, 0, 0, 0x59, 0x6A, 0xBF, 0x0D][..], &[0; 56]].concat()),
        link::streams::frame(&stun::binding_request([7; 12])),
    ];
    script(
        "stream",
        &[
            (0, 17, bootstrap[1][..9].to_vec()),
            (2, 17, [&bootstrap[1][9..], &bootstrap[0]].concat()),
            (5, 17, bootstrap[0].clone()),
            (1, 18, Vec::new()),
            (1, 17, vec![0xff, 0xff]),
        ],
    );
    let text = "Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
    script(
        "messages",
        &[
            (0, 2, from_phone("MESSAGE", "bob", text)),
            (3, 14, br#"{"command":"msg","who":"alice@test","text":"hello"}"#.to_vec()),
            (3, 15, 200u16.to_be_bytes().to_vec()),
            (3, 11, from_phone("MESSAGE", "alice", text)),
            (3, 11, from_phone("INVITE", "alice", &with_sdp(""))),
            (4, 4, from_phone("OPTIONS", "alice", empty)),
            (1, 5, from_phone("MESSAGE", "bob", text)),
            (1, 6, Vec::new()),
        ],
    );
    script("requests", &requests());
    script(
        "answers",
        &[
            (0, 13, br#"{"command":"get","key":"x"}"#.to_vec()),
            (0, 10, [&[0, 0, 200, 0][..], &objects(&[Object::Expires(9)])].concat()),
            (3, 13, br#"{"command":"lookup","who":"bob@test","trace":true}"#.to_vec()),
            (0, 12, vec![0, 3, 1, 0, 90, 8]),
            (4, 13, br#"{"command":"ping","who":"10.0.0.2:7080"}"#.to_vec()),
            (0, 10, vec![0, 2, 88, 1]),
            (4, 13, br#"{"command":"put","key":"k","value":"v","ttl":70}"#.to_vec()),
            (7, 1, vec![0xC0; 70]),
        ],
    );
    out
}

fn objects(list: &[Object<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    list.iter().for_each(|o| o.emit(&mut out));
    out
}

/// Requests that Bob signs, one of each kind that carries something.
fn requests() -> Vec<(u8, u8, Vec<u8>)> {
    let keys = KeyPair::from_seed(Seed([2; 32]));
    let key = HashAlgorithm::Sha256.digest(b"k");
    let record =
        Record::sign(&keys, ResourceId(key), Kind::DATA, 1, UnixTime(1_800_000_000), 600, b"v".to_vec());
    let newer =
        Record::sign(&keys, ResourceId(key), Kind::DATA, 2, UnixTime(1_800_000_009), 600, b"w".to_vec());
    let lookup = Object::RLookup(RLookup { resource: ResourceId(key), kind: Kind::DATA, owner: None });
    let bodies = [
        objects(&[Object::Resource(record.as_ref()), Object::Expires(600)]),
        objects(&[Object::RecordSummary(newer.as_ref().summary()), Object::Expires(600)]),
        objects(&[lookup]),
        objects(&[Object::PLookup(PLookup { count: 4, exact: false, key })]),
        objects(&[Object::RequestOptions(RequestOptions { routing_table: true, ..Default::default() })]),
        objects(&[Object::DiagnosticOptions(u64::MAX)]),
        Vec::new(),
    ];
    // Every type of message with its usual body, or with none; to this peer, or to be passed on.
    let body = |kind: usize| &bodies[[6, 6, 3, 6, 4, 4, 5, 0, 2, 0, 1, 0, 0, 6, 6, 6, 6, 5, 6][kind.min(18)]];
    let count = wire::p2pp::MessageType::ALL.len();
    (0..count)
        .map(|kind| (1, 9, [&[kind as u8, 2 * (kind as u8 & 1) + 4 * 9][..], body(kind)].concat()))
        .collect()
}

const COMMANDS: &[&str] = &[
    r#"{"command":"status"}"#,
    r#"{"command":"routes","node":"10.0.0.2:7080"}"#,
    r#"{"command":"objects"}"#,
    r#"{"command":"connections"}"#,
    r#"{"command":"lookup","who":"bob@test","mode":"iterative","paths":3,"trace":true}"#,
    r#"{"command":"put","key":"k","value":"v","ttl":600}"#,
    r#"{"command":"get","key":"k"}"#,
    r#"{"command":"remove","key":"k"}"#,
    r#"{"command":"msg","who":"bob@test","text":"hello"}"#,
    r#"{"command":"call","who":"echo","duration":1.5,"record":true,"play":[1,-1,32767]}"#,
    r#"{"command":"ping","who":"bob@test"}"#,
    r#"{"command":"phone add","who":"carol","password":"x"}"#,
    r#"{"command":"set","name":"load","value":"1"}"#,
    r#"{"command":"probe","every":2.5}"#,
    r#"{"command":"calls"}"#,
    r#"{"command":"diagnostics","node":"10.0.0.2:7080"}"#,
    "not json",
    r#"{"command":"down"}"#,
];

const DESCRIPTIONS: &[(&str, &str)] = &[
    (
        "audio",
        "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\nm=audio 4000 RTP/AVP 0 8 101\n\
         a=rtpmap:0 PCMU/8000\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-16\na=ptime:20\na=sendonly\n",
    ),
    (
        "video_and_ice",
        "v=0\no=- 1 1 IN IP6 2001:db8::1\ns=-\nt=0 0\na=ice-ufrag:x\nm=audio 4000/2 RTP/SAVPF 96 0\ni=x\n\
         c=IN IP6 2001:db8::1\na=rtcp:4009 IN IP4 192.0.2.1\na=rtcp-mux\na=rtpmap:96 opus/48000/2\n\
         a=candidate:1 1 UDP 1 192.0.2.1 4000 typ host\nm=video 0 RTP/AVP 97\nm=text 9 RTP/AVP 98 100\n",
    ),
    ("hold", "v=0\no=- 1 2 IN IP4 0.0.0.0\ns=-\nc=IN IP4 0.0.0.0\nt=0 0\nm=audio 9 RTP/AVP 0\na=recvonly\n"),
];

/// Changes to a plain request that separate parsers (RFC 4475, RFC 5118): header lines put in the
/// place of others, or added.
const CHANGES: &[(&str, &str, &str)] = &[
    ("tortuous_to", "To", "To :\r\n sip:b@chair.example.com ;   tag    = 1918181833n"),
    ("quoted_from", "From", "from   : \"J R \\\\\\\"\"       <sip:a@example.com>\r\n  ;\r\n  tag = 98asjd8"),
    (
        "hops_in_a_row",
        "Via",
        "v: SIP / 2.0 / TCP  s.example.com  ;\r\n branch = z9hG4bK9 , SIP/2.0/UDP [2001:db8::1]:5061;received=::1;branch=x",
    ),
    ("folded_cseq", "CSeq", "cseq: 0009\r\n  OPTIONS"),
    ("large_cseq", "CSeq", "CSeq: 36893488147419103232 OPTIONS"),
    ("negative_length", "Subject", "Content-Length: -999"),
    ("two_lengths", "Subject", "l: 0\r\nContent-Length: 0"),
    (
        "short_names",
        "Subject",
        "s :\r\nk: 100rel, timer\r\nm: \"Quoted \\\"\\\"\" <sip:a@b> ; newparam =\r\n newvalue ; q = 0.33, <tel:+1;phone-context=x>",
    ),
    ("odd_value", "Subject", "UnknownHeaderWithUnusualValue: ;;,,;;,;"),
    ("no_colon", "Subject", "no colon here"),
    (
        "digest",
        "Subject",
        "Authorization: Digest username=\"bob\", realm=\"x, y\", nonce=\"1\", uri=\"sip:x\", response=\"00\", qop=auth, nc=00000001, cnonce=\"\\\"\"",
    ),
    ("required", "Subject", "Require: nothingSupportsThis, 100rel\r\nProxy-Require: sec-agree"),
    ("hops", "Max-Forwards", "Max-Forwards: 0300"),
    ("latin", "From", "From: J\u{fc}rgen <sip:j@example.com>;tag=1"),
    ("escapes", "To", "To: <sip:sips%3Auser%40example.com@example.net;%6cr?Route=%3Csip:x%3E>"),
    (
        "dates",
        "Subject",
        "Date: Fri, 01 Jan 2010 16:00:00 EST\r\nContact: *\r\nExpires: 0\r\nRAck: 1 2 INVITE",
    ),
    (
        "transfer",
        "Subject",
        "Refer-To: <sip:c@x?Replaces=1%3Bto-tag%3D2%3Bfrom-tag%3D3>\r\nReplaces: 1;to-tag=2;from-tag=3",
    ),
];

fn sip(out: &mut Vec<Input>) {
    let plain = [
        ("Via", "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa;rport"),
        ("Max-Forwards", "Max-Forwards: 70"),
        ("From", "From: <sip:a@example.com>;tag=1"),
        ("To", "To: <sip:b@example.net>"),
        ("Call-ID", "Call-ID: c@192.0.2.1"),
        ("CSeq", "CSeq: 1 OPTIONS"),
        ("Subject", "Content-Length: 0"),
    ];
    let mut stream = vec![40];
    for (name, place, line) in CHANGES.iter().copied().chain([("plain", "", "")]) {
        let lines = plain.iter().map(|(at, usual)| if *at == place { line } else { usual });
        let text = format!(
            "OPTIONS sip:b@example.net SIP/2.0\r\n{}\r\n\r\n",
            lines.collect::<Vec<_>>().join("\r\n")
        );
        if ["hops_in_a_row", "plain", "latin"].contains(&name) {
            stream.extend_from_slice(b"\r\n\r\n");
            stream.extend_from_slice(text.as_bytes());
        }
        out.push(("sip", name.to_owned(), text.into_bytes()));
    }
    out.push(("sip_stream", "three_and_pings".into(), stream));
    let odd = "!Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0";
    let bare = plain.map(|(_, line)| line.replace("OPTIONS", "!Method0123456789_*+`.%indeed'~")).join("\n");
    out.push(("sip", "bare_line_feeds".into(), format!("{odd}\n{bare}\n\n").into_bytes()));
    let answer = format!("SIP/2.0 200 = 2**3 \u{43d}\r\n{}\r\n\r\n", plain.map(|(_, l)| l).join("\r\n"));
    out.push(("sip", "answer".into(), answer.into_bytes()));
}

fn sound(out: &mut Vec<Input>) {
    let mut extended = rtp_packet(3);
    extended[0] |= 0x10 | 0x20 | 1;
    extended.splice(12..12, [0, 0, 0, 9, 0xbe, 0xde, 0, 1, 1, 2, 3, 4]);
    *extended.last_mut().expect("a packet") = 3;
    let event = rtp::Header { payload_type: 101, ..rtp::Header::default() }.packet(&[5, 0x8a, 3, 32]);
    let mut report = Vec::new();
    rtcp::write_receiver_report(
        7,
        &[ReportBlock { ssrc: 0x0102_0304, ..ReportBlock::default() }; 2],
        &mut report,
    );
    report.extend_from_slice(&[0x81, 207, 0, 4, 0, 0, 0, 7, 4, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8]);
    report.extend_from_slice(&[0x84, 206, 0, 4, 0, 0, 0, 7, 0, 0, 0, 0, 1, 2, 3, 4, 9, 0, 0, 0]);
    let mut call = Vec::new();
    for n in 1..6 {
        push(&mut call, 2, (n & 3) as u8, &[vec![1], rtp_packet(n)].concat());
    }
    push(&mut call, 4, 0, &[vec![1], sender_report(false)].concat());
    push(&mut call, 3, 2, &[vec![1], report.clone()].concat());
    push(&mut call, 5, 1, &[vec![1], sender_report(true)].concat());
    let speech: Vec<i16> = (0..40).map(|n| n * 700 - 14_000).collect();
    let wav = |w: Wav| w.write().expect("a file");
    let tape = [[1, 0, 0, 0, 160, 0, 1, 20], [1, 0, 0, 9, 64, 0, 2, 20], [2, 255, 0, 0, 0, 0, 3, 9]].concat();
    for (target, name, bytes) in [
        ("rtp", "voice", rtp_packet(1)),
        ("rtp", "extension_and_padding", extended),
        ("rtp", "digit", event),
        ("rtcp", "sender_report", sender_report(true)),
        ("rtcp", "receiver_report", report),
        ("media", "call", call),
        ("wav", "mono", wav(Wav::mono(8_000, speech.clone()))),
        ("wav", "stereo", wav(Wav::stereo(44_100, &speech, &speech[9..]))),
        ("tape", "packets", tape),
    ] {
        out.push((target, name.to_owned(), bytes));
    }
}
