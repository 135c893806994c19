//! `tools/wireshark/p2pp.lua` shows what the parser reads and refuses what the parser refuses: judged by tshark, on
//! the golden vectors, on what is left when they are cut or changed, and on messages of chance.

mod tshark;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use data_encoding::HEXLOWER;
use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use wire::p2pp::{Code, Header, Message, MessageType, Object, TransactionId};

use super::cases::hostile::with_body;
use super::cases::{Case, Reads, answerer, asker, cases, id};
use super::properties::{around, built};
use super::strategies;
use tshark::{Field, PORT, columns, columns_of_stream, errors, fields, tshark};

/// A vector as a datagram: an object alone stands in a KeepAlive.
fn datagram(case: &Case) -> Vec<u8> {
    if case.name.starts_with("object/") { with_body(&case.bytes) } else { case.bytes.clone() }
}

/// The vectors that are read, as datagrams.
fn well_formed() -> impl Iterator<Item = (Case, Vec<u8>)> {
    cases().into_iter().filter(|c| !matches!(c.reads, Reads::Refused(_))).map(|c| {
        let bytes = datagram(&c);
        (c, bytes)
    })
}

/// What the parser makes of a vector: a line of the header, and one of each object.
fn lines(bytes: &[u8]) -> Vec<String> {
    Message::parse(bytes)
        .expect("well-formed")
        .to_string()
        .lines()
        .map(|line| line.trim().to_owned())
        .collect()
}

/// That tshark marks those datagrams that the parser refuses, each first with the error that the parser gives.
fn assert_same_verdicts(name: &str, datagrams: &[Vec<u8>]) {
    // Below 0xC0 another protocol of the port begins.
    let ours: Vec<_> =
        datagrams.iter().filter(|d| d.first().is_some_and(|byte| *byte >= 0xC0)).cloned().collect();
    assert!(!ours.is_empty());
    let Some(marks) = errors(name, &ours) else { return };
    assert_eq!(marks.len(), ours.len());
    for (bytes, marks) in ours.iter().zip(marks) {
        let refusal = Message::parse(bytes).err().map(|error| format!("{error:?}"));
        assert_eq!(marks.first(), refusal.as_ref(), "{}", HEXLOWER.encode(bytes));
    }
}

/// That every bit of a message stands in a field that has a name.
fn assert_covered(name: &str, bytes: &[u8], fields: &[Field]) {
    let named =
        fields.iter().filter(|f| !f.is_tree && f.name.starts_with("p2pp.") && f.name != "p2pp.unread");
    let covered: BTreeSet<usize> = named.flat_map(|f| f.bits.iter().copied()).collect();
    let bare: Vec<usize> = (0..8 * bytes.len()).filter(|bit| !covered.contains(bit)).collect();
    assert!(bare.is_empty(), "{name}: no field shows the bits {bare:?}");
}

/// Whether a value is shown by one of these fields.
fn shows(fields: &[Field], value: &str) -> bool {
    let any = |is: &dyn Fn(&Field) -> bool| fields.iter().any(is);
    if let Ok(address) = value.parse::<SocketAddr>() {
        let ip = |f: &Field| f.show.parse() == Ok::<IpAddr, _>(address.ip());
        return any(&ip) && any(&|f| f.name == "p2pp.port" && f.show == address.port().to_string());
    }
    let is = |shown: &str| shown.strip_prefix("0x").unwrap_or(shown) == value;
    any(&|f| is(&f.show) || is(&f.value) || f.label.split(' ').any(is))
}

/// Objects that the parser prints as one string of bytes, and tshark entry by entry.
const LISTS: [&str; 4] = ["Resource-List", "Known", "Holders", "Missing"];

/// The values in a line of the parser's that a field must show: numbers, identifiers, keys, addresses.
fn values(line: &str) -> Vec<&str> {
    if LISTS.iter().any(|list| line.starts_with(list)) {
        return Vec::new();
    }
    let words =
        line.split([' ', '(', ')', '{', '}']).map(|word| word.split_once('=').map_or(word, |(_, v)| v));
    words.filter(|w| w.parse::<u64>().is_ok() || w.parse::<SocketAddr>().is_ok() || w.len() >= 32).collect()
}

/// The fields of the header, and those of each object that is known.
fn parts(fields: &[Field]) -> Vec<&[Field]> {
    let starts = (0..fields.len()).filter(|at| fields[*at].depth == 0 && fields[*at].is_tree);
    let borders: Vec<usize> = [0].into_iter().chain(starts).chain([fields.len()]).collect();
    let parts = borders.windows(2).map(|pair| &fields[pair[0]..pair[1]]);
    parts.filter(|part| !part[0].label.starts_with("Unknown object")).collect()
}

#[test]
fn every_golden_message_is_shown_whole_with_every_value() {
    let (cases, datagrams): (Vec<_>, Vec<_>) = well_formed().unzip();
    let Some(shown) = fields("golden", &datagrams) else { return };
    assert_eq!(shown.len(), cases.len());
    for ((case, bytes), fields) in cases.iter().zip(&datagrams).zip(&shown) {
        assert_covered(&case.name, bytes, fields);
        let (parts, lines) = (parts(fields), lines(bytes));
        assert_eq!(parts.len(), lines.len(), "{}: as many objects", case.name);
        for (part, line) in parts.iter().zip(&lines) {
            for value in values(line) {
                assert!(shows(part, value), "{}: {value} is not shown, of {line}", case.name);
            }
        }
        for (part, line) in parts[1..].iter().zip(&lines[1..]) {
            let name = line.split_whitespace().next().expect("a name");
            assert_eq!(part[0].label, name, "{}: {line}", case.name);
        }
    }
}

#[test]
fn the_columns_say_protocol_class_message_code_and_transaction() {
    let messages: Vec<_> = well_formed().filter(|(case, _)| !case.name.starts_with("object/")).collect();
    let datagrams: Vec<_> = messages.iter().map(|(_, bytes)| bytes.clone()).collect();
    let Some(shown) = columns("columns", &datagrams, PORT) else { return };
    assert_eq!(shown.len(), messages.len());
    for ((case, bytes), (protocol, info)) in messages.iter().zip(shown) {
        let header = Message::parse(bytes).expect("well-formed").header;
        let code = if header.code == Code(0) { String::new() } else { format!(" {}", header.code) };
        let (class, message, transaction) = (header.class, header.message.name(), header.transaction);
        assert_eq!(protocol, "P2PP", "{}", case.name);
        let expected = format!("{class:?} {message}{code}, transaction {transaction:?}");
        assert!(info.starts_with(&expected), "{}: {info}", case.name);
    }
}

#[test]
fn every_code_has_its_words() {
    let answer = |code: &Code| {
        let mut bytes = with_body(&[]);
        bytes[22..24].copy_from_slice(&code.0.to_be_bytes());
        bytes
    };
    let Some(shown) = columns("codes", &Code::ALL.iter().map(answer).collect::<Vec<_>>(), PORT) else {
        return;
    };
    for (code, (_, info)) in Code::ALL.iter().zip(shown) {
        assert!(info.contains(&format!(" {code}, ")), "{code}: {info}");
    }
}

#[test]
fn what_the_parser_refuses_is_marked_with_its_error_and_nothing_else_is() {
    let datagrams: Vec<_> = cases().iter().map(datagram).collect();
    assert_same_verdicts("hostile", &datagrams);
}

#[test]
fn so_is_whatever_is_left_of_a_message_that_is_cut() {
    let cut = |bytes: Vec<u8>| {
        let header = 32 + usize::from(bytes[26]) + usize::from(bytes[27]);
        (1..bytes.len()).map(move |length| {
            let mut bytes = bytes[..length].to_vec();
            // The length of the body is right, so that the error is the one of what was cut.
            if let Some(body) = length.checked_sub(header) {
                bytes[28..32].copy_from_slice(&(body as u32).to_be_bytes());
            }
            bytes
        })
    };
    let datagrams: Vec<_> =
        cases().iter().map(datagram).filter(|bytes| bytes.len() > 32).flat_map(cut).collect();
    assert_same_verdicts("cut", &datagrams);
}

#[test]
fn and_a_message_in_which_a_byte_is_changed() {
    let change = |bytes: Vec<u8>| {
        (0..bytes.len()).flat_map(move |at| {
            let with = |byte| {
                let mut bytes = bytes.clone();
                bytes[at] = byte;
                bytes
            };
            [with(bytes[at] ^ (1 << (at % 8))), with(!bytes[at])]
        })
    };
    let datagrams: Vec<_> = cases().iter().map(datagram).flat_map(change).collect();
    assert_same_verdicts("changed", &datagrams);
}

/// Messages drawn by chance, the same in every run.
fn drawn(message: impl Strategy<Value = Vec<u8>>) -> Vec<Vec<u8>> {
    vec(message, 1_000).new_tree(&mut TestRunner::deterministic()).expect("nothing is rejected").current()
}

#[test]
fn and_messages_of_chance_well_formed_or_almost() {
    let message = (strategies::header(), vec(strategies::object(), 0..8)).prop_map(|(h, o)| built(&h, &o));
    let almost = (strategies::header(), strategies::almost_objects()).prop_map(|(h, body)| around(&h, &body));
    let datagrams = drawn(message);
    assert_same_verdicts("chance", &datagrams);
    assert_same_verdicts("almost", &drawn(almost));
    let Some(shown) = fields("covered", &datagrams) else { return };
    assert_eq!(shown.len(), datagrams.len());
    datagrams
        .iter()
        .zip(&shown)
        .for_each(|(bytes, fields)| assert_covered(&HEXLOWER.encode(bytes), bytes, fields));
}

/// A Tunnel with this Payload.
fn tunnel(content: u8, bytes: &[u8]) -> Vec<u8> {
    let header = Header::request(MessageType::Tunnel, TransactionId(7), id(&asker()));
    built(&header, &[Object::PeerId(id(&answerer())), Object::Payload { content, bytes }])
}

#[test]
fn whatever_shares_the_port_goes_to_the_dissector_that_knows_it() {
    let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat();
    let rtp = [&[0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0x10, 0x92][..], &[0xff; 160]].concat();
    let last = [&[0xBF, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0x10, 0x92][..], &[0; 199], &[1]].concat();
    let rtcp = [&[0x80, 201, 0, 1][..], &[0, 0, 0x10, 0x93]].concat();
    let unknown = vec![115; 20];
    let datagrams = [stun, rtp, last, rtcp, unknown, with_body(&[]), Vec::new()];
    let Some(shown) = columns("shared", &datagrams, PORT) else { return };
    let protocols: Vec<_> = shown.iter().map(|(protocol, _)| protocol.as_str()).collect();
    assert_eq!(protocols, ["STUN", "RTP", "RTP", "RTCP", "UDP", "P2PP", "UDP"]);
}

#[test]
fn at_another_port_a_message_is_known_by_its_beginning_and_what_follows_it_too() {
    let rtp = [&[0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0x10, 0x92][..], &[0xff; 160]].concat();
    let mut other = with_body(&[]);
    other[4] ^= 1;
    let datagrams = [other.clone(), rtp.clone(), with_body(&[]), rtp, other];
    let Some(shown) = columns("elsewhere", &datagrams, 40_000) else { return };
    let protocols: Vec<_> = shown.iter().map(|(protocol, _)| protocol.as_str()).collect();
    assert_eq!(protocols, ["UDP", "UDP", "P2PP", "RTP", "P2PP"]);
}

#[test]
fn in_a_stream_every_golden_message_is_read_as_in_a_datagram() {
    let datagrams: Vec<Vec<u8>> = well_formed().map(|(_, bytes)| bytes).collect();
    let framed = |d: &Vec<u8>| [&(d.len() as u16).to_be_bytes()[..], d].concat();
    let segments: Vec<Vec<u8>> = datagrams.iter().map(framed).collect();
    let Some(columns) = columns("datagrams", &datagrams, PORT) else { return };
    assert_eq!(columns_of_stream("segments", &segments), Some(columns));
}

#[test]
fn sip_in_a_tunnel_is_read_in_one_piece_or_in_several_in_any_order_and_the_port_stays_ours() {
    let sdp =
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 7080 RTP/AVP 0\r\n";
    let invite = format!(
        "INVITE sip:bob@demo.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1\r\nFrom: <sip:alice@demo.test>;tag=1\r\n\
         To: <sip:bob@demo.test>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    let envelope = [&[1][..], &asker().public().0, &[9; 64], &[7; 12], invite.as_bytes()].concat();
    let piece_of = |count: u8, index: u8, bytes: &[u8]| {
        tunnel(1, &[&[0xca, 0xfe, 0, 1, index, count][..], bytes].concat())
    };
    let piece = |index, bytes: &[u8]| piece_of(3, index, bytes);
    let (first, rest) = envelope.split_at(100);
    let (second, third) = rest.split_at(100);
    let datagrams = [
        tunnel(0, &envelope),
        with_body(&[]),
        piece(2, third),
        piece_of(9, 8, third),
        piece(0, first),
        piece(0, first),
        piece(1, second),
    ];
    let Some(shown) = columns("tunnel", &datagrams, PORT) else { return };
    let has_sip: Vec<bool> =
        shown.iter().map(|(_, info)| info.contains("INVITE sip:bob@demo.test")).collect();
    assert_eq!(has_sip, [true, false, false, false, false, false, true]);
    assert!(shown.iter().all(|(protocol, _)| protocol == "P2PP"), "{shown:?}");
}

#[test]
fn every_filter_and_field_of_the_page_is_understood() {
    let page = include_str!("../../../../../docs/wireshark.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let fields =
        page.split_whitespace().filter(|word| word.starts_with("p2pp.") && !word.starts_with("p2pp.ports"));
    for filter in rows.map(|(filter, _)| filter).chain(fields) {
        let filter = filter.trim_matches(|c: char| c == '`' || c == '.' || c == ';' || c == ',');
        if tshark("filters", &[with_body(&[])], PORT, &["-Y", filter]).is_none() {
            return;
        }
    }
}
