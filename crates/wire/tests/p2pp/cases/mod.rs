//! The golden vectors as values: what is encoded, and what decoding must give.
//!
//! Everything follows from four fixed secrets, so every implementation makes the same bytes:
//! Ed25519 signatures are deterministic (RFC 8032). The test in `vectors.rs` compares these cases
//! with `docs/p2pp-vectors.txt`; the example `p2pp_vectors` prints that file anew.

pub(crate) mod hostile;
mod messages;
mod objects;

use std::fmt::Write;

use wire::p2pp::tlv::Reader;
use wire::p2pp::{Builder, Header, Message, Object, ParseError, Record};
use wire::{HashAlgorithm, KeyPair, NodeId, PublicKey, ResourceId, Seed, UnixTime};

/// The overlay of every vector.
pub(crate) const OVERLAY: &str = "demo";
/// Its hash.
pub(crate) const HASH: HashAlgorithm = HashAlgorithm::Sha256;
/// Whose record is stored.
pub(crate) const AOR: &str = "alice@demo.test";

/// One vector.
pub(crate) struct Case {
    /// Its name, unique in the file.
    pub(crate) name: String,
    /// What it shows.
    pub(crate) about: &'static str,
    /// The datagram, or the object with its type and length.
    pub(crate) bytes: Vec<u8>,
    /// What reading it gives.
    pub(crate) reads: Reads,
}

/// What reading a vector gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reads {
    /// A message: its header and objects as text, and whose signature it bears.
    Message { lines: Vec<String>, signer: Option<PublicKey> },
    /// A single object as text, and for a record whether its owner signed it.
    Object { line: String, verifies: Option<bool> },
    /// Nothing: it is refused.
    Refused(ParseError),
}

/// A peer or user of the vectors.
pub(crate) fn pair(secret: u8) -> KeyPair {
    KeyPair::from_seed(Seed([secret; 32]))
}

/// The peer that asks.
pub(crate) fn asker() -> KeyPair {
    pair(0x11)
}

/// The peer that answers.
pub(crate) fn answerer() -> KeyPair {
    pair(0x22)
}

/// An operator of the overlay.
pub(crate) fn operator() -> KeyPair {
    pair(0x33)
}

/// The owner of the stored record.
pub(crate) fn user() -> KeyPair {
    pair(0x44)
}

/// Where a pair stands.
pub(crate) fn id(pair: &KeyPair) -> NodeId {
    pair.public().node_id(HASH)
}

/// Where the record of [`AOR`] stands.
pub(crate) fn place() -> ResourceId {
    ResourceId(HASH.digest(AOR.as_bytes()))
}

/// The device list of [`AOR`]: version 1, one device, the answering peer.
pub(crate) fn record() -> Record {
    let value = [&[1, 1][..], &answerer().public().0].concat();
    let created = UnixTime(1_700_000_000);
    Record::sign(&user(), place(), wire::p2pp::Kind::USER, 1_700_000_000, created, 2_400, value)
}

/// A message that is made of values and must be read as the same values.
fn message(
    name: impl Into<String>,
    about: &'static str,
    header: &Header,
    objects: &[Object<'_>],
    signer: Option<&KeyPair>,
) -> Case {
    let mut builder = Builder::new(header);
    for object in objects {
        builder.push(object);
    }
    let mut lines = vec![header.to_string()];
    lines.extend(objects.iter().map(Object::to_string));
    let bytes = match signer {
        None => builder.finish(),
        Some(pair) => {
            let bytes = builder.sign(pair);
            let signature = bytes[bytes.len() - KeyPair::SIGNATURE_LEN..].try_into().unwrap();
            lines.push(Object::Signature { key: pair.public(), signature }.to_string());
            bytes
        }
    };
    let signer = signer.map(KeyPair::public);
    Case { name: name.into(), about, bytes, reads: Reads::Message { lines, signer } }
}

/// A single object that is made of a value and must be read as the same value.
fn object(name: &str, about: &'static str, object: &Object<'_>) -> Case {
    let mut bytes = Vec::new();
    object.emit(&mut bytes);
    let verifies = match object {
        Object::Resource(record) => Some(record.verify()),
        _ => None,
    };
    let reads = Reads::Object { line: object.to_string(), verifies };
    Case { name: name.to_owned(), about, bytes, reads }
}

/// What the implementation under test makes of bytes: a message if `name` is one's, else an object.
pub(crate) fn read(name: &str, bytes: &[u8]) -> Reads {
    if name.starts_with("object/") {
        return read_object(bytes);
    }
    match Message::parse(bytes) {
        Err(error) => Reads::Refused(error),
        Ok(message) => {
            let mut lines = vec![message.header.to_string()];
            lines.extend(message.objects().map(|o| o.to_string()));
            Reads::Message { lines, signer: message.signer(HASH) }
        }
    }
}

fn read_object(bytes: &[u8]) -> Reads {
    let tlv = Reader::new(bytes).next().expect("one object");
    match tlv.and_then(Object::parse) {
        Err(error) => Reads::Refused(error),
        Ok(None) => Reads::Object { line: "skipped".into(), verifies: None },
        Ok(Some(object)) => {
            let verifies = match object {
                Object::Resource(record) => Some(record.verify()),
                _ => None,
            };
            Reads::Object { line: object.to_string(), verifies }
        }
    }
}

/// Every vector.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = messages::cases();
    cases.extend(objects::cases());
    cases.extend(hostile::cases());
    cases
}

const PREAMBLE: &str = "\
# Golden vectors of P2PP (docs/protocol.md)
#
# One vector is a name in brackets and its fields. `hex` is the whole datagram, or for a name that
# begins with `object/` one object with its type and length; it goes on in lines that begin with a
# blank. What reading the bytes must give:
#   header, object   the fields, in the order of the bytes; what is absent is left out
#   signer           the public key whose signature the message bears, and whose hash is the source
#   verifies         whether the owner's signature of the record is right
#   error            the message is refused, and why (docs/protocol.md, section 11)
#
# Ed25519 secrets (32 equal bytes): asking peer 11, answering peer 22, operator 33, user 44.
# Overlay `demo`, SHA-256. Recorded with
#   cargo run -p openvoip-wire --example p2pp_vectors > docs/p2pp-vectors.txt
";

/// The file that holds the vectors.
pub(crate) fn render(cases: &[Case]) -> String {
    let mut out = PREAMBLE.to_owned();
    for case in cases {
        writeln!(out, "\n[{}]\nabout: {}", case.name, case.about).unwrap();
        out.push_str("hex:");
        let hex: String = case.bytes.iter().map(|b| format!("{b:02x}")).collect();
        if hex.is_empty() {
            out.push('\n');
        }
        for line in hex.as_bytes().chunks(96) {
            writeln!(out, " {}", std::str::from_utf8(line).unwrap()).unwrap();
        }
        out.push_str(&render_reading(&case.reads));
    }
    out
}

/// The fields of a vector that say how it is read.
pub(crate) fn render_reading(reads: &Reads) -> String {
    let mut out = String::new();
    match reads {
        Reads::Message { lines, signer } => {
            for (i, line) in lines.iter().enumerate() {
                writeln!(out, "{}: {line}", if i == 0 { "header" } else { "object" }).unwrap();
            }
            let signer = signer.map_or("none".to_owned(), |key| key.to_string());
            writeln!(out, "signer: {signer}").unwrap();
        }
        Reads::Object { line, verifies } => {
            writeln!(out, "object: {line}").unwrap();
            if let Some(verifies) = verifies {
                writeln!(out, "verifies: {}", if *verifies { "yes" } else { "no" }).unwrap();
            }
        }
        Reads::Refused(error) => writeln!(out, "error: {error:?}").unwrap(),
    }
    out
}
