//! What must be refused, each with the error that names the offence; and a few strange things that
//! must not be.

use wire::p2pp::MessageType;
use wire::p2pp::record::MAX_VALUE;

use super::*;

/// Offset of the header's fields (docs/protocol.md, section 3).
const VERSION: usize = 1;
const TYPE: usize = 2;
const COOKIE: usize = 4;
const TRANSACTION: usize = 8;
const SOURCE_LEN: usize = 26;
const BODY_LEN: usize = 31;

/// A KeepAlive, altered.
fn altered(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = with_body(&[]);
    change(&mut bytes);
    bytes
}

/// A KeepAlive with a body of raw bytes.
pub(crate) fn with_body(body: &[u8]) -> Vec<u8> {
    let mut bytes = Builder::new(&super::messages::request(MessageType::KeepAlive)).finish();
    bytes.extend_from_slice(body);
    bytes[28..32].copy_from_slice(&(body.len() as u32).to_be_bytes());
    bytes
}

/// A raw object.
fn tlv(number: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number, flags];
    bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

fn refused(name: &str, about: &'static str, bytes: Vec<u8>, error: ParseError) -> Case {
    Case { name: format!("hostile/{name}"), about, bytes, reads: Reads::Refused(error) }
}

fn bad(name: &str, about: &'static str, bytes: Vec<u8>) -> Case {
    let number = bytes[0];
    Case {
        name: format!("object/hostile/{name}"),
        about,
        bytes,
        reads: Reads::Refused(ParseError::Malformed(number)),
    }
}

/// A message that is read, but bears nobody's signature.
fn unsigned(name: &str, about: &'static str, bytes: Vec<u8>) -> Case {
    let Reads::Message { lines, .. } = read("", &bytes) else { panic!("{name} is not a message") };
    let reads = Reads::Message { lines, signer: None };
    Case { name: format!("hostile/{name}"), about, bytes, reads }
}

/// A record that is read, but that its owner did not sign.
fn forged(name: &str, about: &'static str, bytes: Vec<u8>) -> Case {
    let Reads::Object { line, .. } = read("object/", &bytes) else { panic!("{name} is not a record") };
    let reads = Reads::Object { line, verifies: Some(false) };
    Case { name: format!("object/hostile/{name}"), about, bytes, reads }
}

/// The encoded record, with its object header.
fn record_object() -> Vec<u8> {
    tlv(13, 0, &record().to_bytes())
}

fn record_with(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut value = record().to_bytes();
    change(&mut value);
    tlv(13, 0, &value)
}

fn flipped(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 1;
    bytes
}

/// The signature's second half plus the order of the group: the same number to a careless verifier.
fn malleated(mut bytes: Vec<u8>) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let second_half = &mut bytes[4 + 56 + 32..4 + 120];
    let mut carry = 0u16;
    for (byte, order) in second_half.iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
    bytes
}

/// Key and signature of the group's neutral element, which a careless verifier takes for right
/// over any message.
fn small_order() -> Vec<u8> {
    record_with(|v| {
        v[24..120].fill(0);
        v[24] = 1;
        v[56] = 1;
    })
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = headers();
    cases.extend(bodies());
    cases.extend(signatures());
    cases.extend(objects());
    cases
}

fn headers() -> Vec<Case> {
    use ParseError as E;
    vec![
        refused("empty", "a datagram without a byte", vec![], E::Truncated),
        refused(
            "short",
            "31 of the 32 bytes that every header has",
            altered(|b| b.truncate(31)),
            E::Truncated,
        ),
        refused("first bits", "the first two bits are 10", altered(|b| b[0] = 0x84), E::NotP2pp),
        refused(
            "cookie",
            "STUN's cookie in place of P2PP's",
            altered(|b| b[COOKIE..COOKIE + 4].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42])),
            E::NotP2pp,
        ),
        refused("version", "a version not spoken here", altered(|b| b[VERSION] = 2), E::Version(2)),
        refused("class", "an acknowledgement of an indication", altered(|b| b[0] = 0xdc), E::Class),
        refused("type", "a message type without a meaning", altered(|b| b[TYPE] = 18), E::UnknownMessage(18)),
        refused("identifier length", "a source of 21 bytes", altered(|b| b[SOURCE_LEN] = 21), E::IdLength),
        refused(
            "identifier cut",
            "the source ends after 31 bytes",
            altered(|b| b.truncate(63)),
            E::Truncated,
        ),
        refused(
            "body too short",
            "one byte announced, none there",
            altered(|b| b[BODY_LEN] = 1),
            E::BodyLength,
        ),
        refused("body too long", "a byte more than announced", altered(|b| b.push(0)), E::BodyLength),
    ]
}

fn bodies() -> Vec<Case> {
    use ParseError as E;
    let many = tlv(14, 0, &[0, 0, 0, 60]).repeat(65);
    let nested = tlv(0, 0, &[tlv(1, 0, &[7; 32]), tlv(200, 0, &[])].concat());
    let one_address = tlv(2, 0, &[0, 0, 1, 0, 0, 0, 0, 0, 0x1b, 0xa8, 192, 0, 2, 1]);
    let crowd = tlv(0, 0, &one_address.repeat(7));
    let in_table = tlv(8, 0, &[vec![1], crowd.clone()].concat());
    let skipped = with_body(&tlv(200, 0x40, b"from the future"));
    let Reads::Message { lines, .. } = read("", &with_body(&[])) else { unreachable!() };
    let only_header = Reads::Message { lines, signer: None };
    vec![
        refused(
            "object header cut",
            "three of an object's four header bytes",
            with_body(&[14, 0, 0]),
            E::Truncated,
        ),
        refused(
            "object cut",
            "an object longer than the message",
            with_body(&[14, 0, 0, 4, 0, 0, 0]),
            E::Truncated,
        ),
        refused(
            "reserved object bits",
            "AB is 10",
            with_body(&tlv(14, 0x80, &[0, 0, 0, 60])),
            E::Malformed(14),
        ),
        refused(
            "unknown object",
            "mandatory, so the message is refused",
            with_body(&tlv(200, 0, &[])),
            E::UnknownObject(200),
        ),
        Case {
            name: "hostile/unknown ignorable object".into(),
            about: "not refused: the object is skipped",
            bytes: skipped,
            reads: only_header,
        },
        refused("many objects", "65 objects; 64 are the most", with_body(&many), E::TooMany),
        refused(
            "unknown nested object",
            "mandatory, inside a Peer-Info",
            with_body(&nested),
            E::UnknownObject(200),
        ),
        refused(
            "many addresses",
            "seven addresses in a Peer-Info; six are the most",
            with_body(&crowd),
            E::TooMany,
        ),
        refused("many addresses in a table", "the same, one level deeper", with_body(&in_table), E::TooMany),
    ]
}

fn signatures() -> Vec<Case> {
    let header = super::messages::request(MessageType::Join);
    let uptime = Object::Expires(60);
    let good = || Builder::new(&header).with(&uptime).sign(&asker());
    let first_object = 64;
    let signature = first_object + 8 + 4;
    let appended = {
        let message = good();
        Builder::resume(&Message::parse(&message).unwrap()).with(&Object::Expires(1)).finish()
    };
    let mut hopped = appended;
    Header::patch_for_next_hop(&mut hopped, 9, 77);
    hopped[0] |= 0b10;
    let Reads::Message { lines, .. } = read("", &hopped) else { unreachable!() };
    let survives = Reads::Message { lines, signer: Some(asker().public()) };
    vec![
        Case {
            name: "hostile/what hops may change".into(),
            about: "not refused: R, TTL and deadline changed, an object appended after the signature",
            bytes: hopped,
            reads: survives,
        },
        unsigned("signed transaction altered", "a bit of the transaction-ID", flipped(good(), TRANSACTION)),
        unsigned(
            "signed type altered",
            "a Leave made of a Join",
            flipped(flipped(good(), TYPE), TYPE)
                .into_iter()
                .enumerate()
                .map(|(i, b)| if i == TYPE { 4 } else { b })
                .collect(),
        ),
        unsigned("signed code altered", "a bit of the response code", flipped(good(), 23)),
        unsigned(
            "signed object altered",
            "a bit of the object before the signature",
            flipped(good(), first_object + 7),
        ),
        unsigned("signature altered", "a bit of the signature", flipped(good(), signature + 40)),
        unsigned("signer altered", "a bit of the key", flipped(good(), signature)),
        unsigned(
            "another's signature",
            "right, but the key's hash is not the source",
            Builder::new(&header).with(&uptime).sign(&answerer()),
        ),
    ]
}

fn objects() -> Vec<Case> {
    let id = [7; 32];
    let peer = |parts: &[Vec<u8>]| tlv(0, 0, &parts.concat());
    let brief = peer(&[tlv(1, 0, &id)]);
    let address =
        |kind: u8, ip: &[u8]| tlv(2, 0, &[&[kind, 0, 1, 0, 0, 0, 0, 0, 0x1b, 0xa8][..], ip].concat());
    let options = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut value = vec![2, 32, 2, 1, 0, 5, 0, 4];
        value.extend_from_slice(b"demo");
        change(&mut value);
        tlv(5, 0, &value)
    };
    vec![
        bad("Peer-Info/nobody", "neither an identity nor an address", peer(&[tlv(4, 0x40, &[0, 0, 0, 1])])),
        bad("Peer-Info/two identities", "one part twice", peer(&[tlv(1, 0, &id), tlv(1, 0, &id)])),
        bad("Peer-ID/width", "21 bytes", tlv(1, 0, &[7; 21])),
        bad("Address-Info/kind", "host type 4", address(0x40, &[192, 0, 2, 1])),
        bad("Address-Info/transport", "transport 2", address(0x02, &[192, 0, 2, 1])),
        bad("Address-Info/width", "an address of 5 bytes", address(0, &[192, 0, 2, 1, 1])),
        bad("Unhashed-ID/UTF-8", "not UTF-8", tlv(3, 0, &[0xff])),
        bad("Unhashed-ID/long", "256 bytes; 255 are the most", tlv(3, 0, &[b'a'; 256])),
        bad("Uptime/width", "3 bytes", tlv(4, 0x40, &[0, 0, 1])),
        bad("P2P-Options/hash", "a hash this peer does not have", options(&|v| v[0] = 3)),
        bad("P2P-Options/width", "SHA-256 with 20 bytes", options(&|v| v[1] = 20)),
        bad("P2P-Options/base", "base 512", options(&|v| v[3] = 9)),
        bad("P2P-Options/name", "a name longer than the object", options(&|v| v[7] = 5)),
        bad("Routing-Table/count", "two peers announced, one there", tlv(8, 0, &[&[2], &brief[..]].concat())),
        bad(
            "Neighbor-Table/content",
            "something that is not a Peer-Info",
            tlv(9, 0, &[&[1], &tlv(1, 0, &id)[..]].concat()),
        ),
        bad("PLookup/none", "no peer is wanted", tlv(10, 0, &[&[0], &id[..]].concat())),
        bad(
            "PLookup/range",
            "the draft's range of two keys, which is not spoken here",
            tlv(10, 0, &[&[0b0010_0001], &id[..]].concat()),
        ),
        bad("RLookup/owner", "an owner of 31 bytes", tlv(12, 0, &[&[0, 0, 32][..], &id, &[1; 31]].concat())),
        bad("Resource-Object/cut", "119 of the 120 fixed bytes", record_with(|v| v.truncate(119))),
        bad("Resource-Object/flags", "a flag without a meaning", record_with(|v| v[2] = 2)),
        bad("Resource-Object/width", "a Resource-ID of 21 bytes", record_with(|v| v[3] = 21)),
        bad(
            "Resource-Object/long",
            "a value of 801 bytes; 800 are the most",
            record_with(|v| v.resize(152 + MAX_VALUE + 1, 0)),
        ),
        bad("Resource-Object/tombstone", "a withdrawal that has a value", record_with(|v| v[2] = 1)),
        forged("Resource-Object/sequence", "a bit of the sequence", flipped(record_object(), 4 + 11)),
        forged("Resource-Object/created", "a bit of the date", flipped(record_object(), 4 + 19)),
        forged("Resource-Object/lifetime", "a bit of the lifetime", flipped(record_object(), 4 + 23)),
        forged(
            "Resource-Object/place",
            "a bit of the Resource-ID: moved elsewhere",
            flipped(record_object(), 4 + 120),
        ),
        forged("Resource-Object/value", "a bit of the value", flipped(record_object(), 4 + 152)),
        forged(
            "Resource-Object/malleable",
            "the group's order added to the signature's second half",
            malleated(record_object()),
        ),
        forged("Resource-Object/small order", "key and signature of small order", small_order()),
        bad("Signature/width", "95 bytes", tlv(18, 0, &[1; 95])),
        bad("Connections/width", "5 bytes", tlv(20, 0x40, &[1; 5])),
        bad("Messages-Received/width", "5 bytes; entries have 4", tlv(22, 0x40, &[1; 5])),
        bad("Error/width", "3 bytes", tlv(24, 0, &[1; 3])),
        bad("Record-Summary/width", "a Resource-ID of 17 bytes", tlv(66, 0, &[1; 18 + 17])),
        bad("Payload/empty", "no content type", tlv(67, 0, &[])),
        bad("Route-Hop/width", "an identity longer than the object", tlv(68, 0x40, &[0, 0, 0, 0, 0, 32, 1])),
        bad("Diagnostic/name", "a name longer than the object", tlv(69, 0x40, &[5, b'a'])),
        bad("Cookie/width", "15 bytes", tlv(72, 0, &[1; 15])),
        bad("Observed-Address/width", "an address of 3 bytes", tlv(74, 0x40, &[0x1b, 0xa8, 192, 0, 2])),
        bad(
            "Link-State/digest",
            "an index whose last digest is cut",
            tlv(78, 0x40, &[&[5; 18][..], &[1; 7]].concat()),
        ),
        bad("Link-State/no index", "digests where none are said to follow", tlv(78, 0x40, &[1; 22])),
        bad("Link-State/flags", "a flag without a meaning", tlv(78, 0x40, &[8; 18])),
    ]
}
