//! What holds for every message, and for every string of bytes that is none.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use wire::p2pp::message::MAX_OBJECTS;
use wire::p2pp::record::MAX_VALUE;
use wire::p2pp::tlv::{self, Reader};
use wire::p2pp::{Builder, Header, Message, MessageType, Object, ParseError, Record, object};
use wire::{HashAlgorithm, KeyPair, Seed};

use super::cases::{HASH, asker, id, record, user};
use super::strategies::{
    almost_objects, header, object as any_object, record as any_record, signed_record, unsigned_object,
};

fn encoded(object: &Object<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    object.emit(&mut bytes);
    bytes
}

pub(crate) fn built(header: &Header, objects: &[Object<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(header);
    objects.iter().for_each(|o| {
        builder.push(o);
    });
    builder.finish()
}

/// A message of a body of raw bytes.
pub(crate) fn around(header: &Header, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    header.emit(body.len(), &mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

fn one(bytes: &[u8]) -> Result<Option<Object<'_>>, ParseError> {
    Reader::new(bytes).next().expect("an object").and_then(Object::parse)
}

/// Uses everything that can be asked of bytes; nothing of it may panic. A message that is read can
/// be written again and reads as the same.
fn exercise(bytes: &[u8]) {
    let _ = Header::parse(bytes);
    let _ = Record::from_bytes(bytes).map(|r| r.as_ref().verify());
    Reader::new(bytes).for_each(|tlv| {
        let _ = tlv.and_then(Object::parse).map(|o| o.map(|o| o.to_string()));
    });
    if let Ok(message) = Message::parse(bytes) {
        let _ = message.signer(HASH);
        let objects: Vec<_> = message.objects().collect();
        let again = built(&message.header, &objects);
        let read = Message::parse(&again).expect("what was read and written can be read");
        assert_eq!(read.to_string(), message.to_string());
        assert_eq!(Builder::resume(&message).finish(), bytes);
    }
}

proptest! {
    // ---- what is written is read as the same ---------------------------------------------------

    #[test]
    fn an_object_survives_its_encoding(object in any_object()) {
        let bytes = encoded(&object);
        let read = one(&bytes).unwrap().unwrap();
        prop_assert_eq!(read.to_string(), object.to_string());
        prop_assert_eq!(read.ignorable(), object.ignorable());
        prop_assert_eq!(encoded(&read), bytes);
    }

    #[test]
    fn a_header_survives_its_encoding(header in header(), body_len in 0..100_000usize) {
        let mut bytes = Vec::new();
        header.emit(body_len, &mut bytes);
        prop_assert_eq!(bytes.len(), header.encoded_len());
        prop_assert!(bytes[0] >= 0xc0, "one port serves other protocols too");
        prop_assert_eq!(Header::parse(&bytes), Ok((header, bytes.len(), body_len)));
    }

    #[test]
    fn a_message_survives_its_encoding(header in header(), objects in vec(any_object(), 0..8)) {
        let bytes = built(&header, &objects);
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.header, header);
        let read: Vec<String> = message.objects().map(|o| o.to_string()).collect();
        let wrote: Vec<String> = objects.iter().map(|o| o.to_string()).collect();
        prop_assert_eq!(read, wrote);
    }

    #[test]
    fn a_record_survives_its_file_form(record in signed_record()) {
        prop_assert!(record.as_ref().verify());
        prop_assert_eq!(Record::from_bytes(&record.to_bytes()), Ok(record));
    }

    #[test]
    fn framing_is_read_as_it_was_written(values in vec((any::<u8>(), any::<bool>(), vec(any::<u8>(), 0..50)), 0..20)) {
        let mut bytes = Vec::new();
        for (number, ignorable, value) in &values {
            let flags = if *ignorable { tlv::IGNORABLE } else { tlv::MANDATORY };
            tlv::emit(&mut bytes, *number, flags, |out| out.extend_from_slice(value));
        }
        let read: Vec<_> =
            Reader::new(&bytes).map(|t| t.map(|t| (t.number, t.ignorable, t.value.to_vec()))).collect();
        prop_assert_eq!(read, values.into_iter().map(Ok).collect::<Vec<_>>());
    }

    // ---- what is not ours is refused -----------------------------------------------------------

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..400)) {
        exercise(&bytes);
    }

    #[test]
    fn no_body_panics(header in header(), body in vec(any::<u8>(), 0..400)) {
        exercise(&around(&header, &body));
    }

    #[test]
    fn nothing_like_objects_panics(header in header(), body in almost_objects()) {
        exercise(&around(&header, &body));
        // The same where a Peer-Info or a table expects parts.
        for number in [object::PEER_INFO, object::RESOURCE_OBJECT] {
            let mut nested = Vec::new();
            tlv::emit(&mut nested, number, 0, |out| out.extend_from_slice(&body));
            exercise(&around(&header, &nested));
        }
        let mut table = Vec::new();
        tlv::emit(&mut table, object::ROUTING_TABLE, 0, |out| {
            out.push(1);
            tlv::emit(out, object::PEER_INFO, 0, |out| out.extend_from_slice(&body));
        });
        exercise(&around(&header, &table));
    }

    #[test]
    fn a_message_cut_anywhere_is_none(header in header(), objects in vec(any_object(), 0..6), at in any::<Index>()) {
        let bytes = built(&header, &objects);
        let cut = &bytes[..at.index(bytes.len())];
        let error = Message::parse(cut).unwrap_err();
        prop_assert!(matches!(error, ParseError::Truncated | ParseError::BodyLength), "{error}");
        exercise(cut);
    }

    #[test]
    fn flipped_bits_give_an_error_or_another_message(
        header in header(),
        objects in vec(any_object(), 0..6),
        flips in vec(any::<Index>(), 1..5),
    ) {
        let mut bytes = built(&header, &objects);
        for flip in flips {
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        exercise(&bytes);
    }

    // ---- bounds --------------------------------------------------------------------------------

    #[test]
    fn a_message_has_at_most_64_objects(header in header(), object in any_object(), more in 0..3usize) {
        let bytes = encoded(&object);
        let full = around(&header, &bytes.repeat(MAX_OBJECTS));
        prop_assert_eq!(Message::parse(&full).unwrap().objects().count(), MAX_OBJECTS);
        let crowded = around(&header, &bytes.repeat(MAX_OBJECTS + 1 + more));
        prop_assert_eq!(Message::parse(&crowded).unwrap_err(), ParseError::TooMany);
    }

    #[test]
    fn a_value_has_at_most_800_bytes(record in any_record(), len in 0..2_000usize) {
        let value = vec![7; len];
        let record = wire::p2pp::RecordRef { value: &value, tombstone: false, ..record };
        let read = Record::from_bytes(&record.to_record().to_bytes());
        prop_assert_eq!(read.is_ok(), len <= MAX_VALUE);
    }

    #[test]
    fn a_text_has_at_most_255_bytes(text in "[a-z]{0,400}") {
        let mut bytes = Vec::new();
        tlv::emit(&mut bytes, object::UNHASHED_ID, 0, |out| out.extend_from_slice(text.as_bytes()));
        prop_assert_eq!(one(&bytes).is_ok(), text.len() <= 255);
    }

    // ---- signatures ----------------------------------------------------------------------------

    #[test]
    fn a_signature_holds_whatever_hops_change(
        secret in any::<[u8; 32]>(),
        header in header(),
        before in vec(unsigned_object(), 0..4),
        after in vec(unsigned_object(), 0..4),
        (recursive, ttl, deadline_ms) in any::<(bool, u8, u16)>(),
    ) {
        let pair = KeyPair::from_seed(Seed(secret));
        let header = Header { source: Some(id(&pair)), ..header };
        let mut builder = Builder::new(&header);
        before.iter().for_each(|o| { builder.push(o); });
        let signed = builder.sign(&pair);
        prop_assert_eq!(Message::parse(&signed).unwrap().signer(HASH), Some(pair.public()));

        let mut hopped = Builder::resume(&Message::parse(&signed).unwrap());
        after.iter().for_each(|o| { hopped.push(o); });
        let mut hopped = hopped.finish();
        Header::patch_for_next_hop(&mut hopped, ttl, deadline_ms);
        hopped[0] = (hopped[0] & !0b10) | (u8::from(recursive) << 1);
        prop_assert_eq!(Message::parse(&hopped).unwrap().signer(HASH), Some(pair.public()));
    }

    #[test]
    fn a_signature_fails_on_any_flipped_bit_it_covers(
        secret in any::<[u8; 32]>(),
        header in header(),
        objects in vec(unsigned_object(), 0..4),
        flip in any::<Index>(),
    ) {
        let pair = KeyPair::from_seed(Seed(secret));
        let header = Header { source: Some(id(&pair)), ..header };
        let mut builder = Builder::new(&header);
        objects.iter().for_each(|o| { builder.push(o); });
        let mut bytes = builder.sign(&pair);
        let bit = flip.index(bytes.len() * 8);
        prop_assume!(covered(bit, bytes.len()));
        bytes[bit / 8] ^= 1 << (bit % 8);
        let signer = Message::parse(&bytes).ok().and_then(|m| m.signer(HASH));
        prop_assert_eq!(signer, None, "bit {} of byte {}", bit % 8, bit / 8);
    }

    #[test]
    fn a_record_fails_on_any_flipped_bit(record in signed_record(), flip in any::<Index>()) {
        let mut bytes = record.to_bytes();
        let bit = flip.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!Record::from_bytes(&bytes).is_ok_and(|r| r.as_ref().verify()));
    }
}

/// Whether a bit of a message of `len` bytes that ends with its signature is covered by it: all but
/// A, R, TTL, deadline, body length, and the flags of the signature object, which mean nothing to a
/// reader that knows it.
fn covered(bit: usize, len: usize) -> bool {
    let (byte, bit) = (bit / 8, bit % 8);
    let changed_by_hops = matches!((byte, bit), (0, 1 | 3) | (3 | 24 | 25 | 28..=31, _));
    let signature_flags = byte == len - 96 - tlv::HEADER_LEN + 1;
    !changed_by_hops && !signature_flags
}

#[test]
fn of_one_message_every_covered_bit_counts() {
    let header = Header::request(MessageType::Publish, wire::p2pp::TransactionId(9), id(&asker()));
    let record = record();
    let bytes = Builder::new(&header).with(&Object::Resource(record.as_ref())).sign(&asker());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let signer = Message::parse(&flipped).ok().and_then(|m| m.signer(HASH));
        if covered(bit, bytes.len()) {
            assert_eq!(signer, None, "bit {} of byte {}", bit % 8, bit / 8);
        }
    }
}

#[test]
fn of_one_record_every_bit_counts() {
    let bytes = record().to_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!Record::from_bytes(&flipped).is_ok_and(|r| r.as_ref().verify()), "bit {bit}");
    }
}

#[test]
fn a_record_is_not_signed_by_a_message_nor_a_message_by_a_record() {
    // The same key, the same bytes, another purpose.
    let record = record();
    let header = Header::request(MessageType::Publish, wire::p2pp::TransactionId(9), id(&user()));
    let forged = Object::Signature { key: user().public(), signature: record.signature };
    let bytes = Builder::new(&header).with(&Object::Resource(record.as_ref())).with(&forged).finish();
    assert_eq!(Message::parse(&bytes).unwrap().signer(HASH), None);
    assert_eq!(Message::parse(&bytes).unwrap().signer(HashAlgorithm::Sha1), None);
}

#[test]
fn nesting_ends_with_the_addresses_of_a_table() {
    // Message, table, Peer-Info, Address-Info is the deepest; nothing nests in itself.
    let within = |number: u8, flags: u8| {
        let mut bytes = Vec::new();
        tlv::emit(&mut bytes, object::PEER_INFO, 0, |out| {
            tlv::emit(out, object::PEER_ID, 0, |out| out.extend_from_slice(&[7; 32]));
            tlv::emit(out, number, flags, |out| out.push(0));
        });
        one(&bytes).map(|o| o.is_some())
    };
    for number in [object::PEER_INFO, object::ROUTING_TABLE, object::NEIGHBOR_TABLE, object::RESOURCE_OBJECT]
    {
        assert_eq!(within(number, tlv::MANDATORY), Err(ParseError::UnknownObject(number)));
        assert_eq!(within(number, tlv::IGNORABLE), Ok(true), "skipped without a look inside");
    }
    // However deep it is nested, an object inside one that is skipped is not looked at.
    let mut bomb = vec![];
    for _ in 0..10_000 {
        let mut around = Vec::new();
        if bomb.len() > 60_000 {
            break;
        }
        tlv::emit(&mut around, 200, tlv::IGNORABLE, |out| out.extend_from_slice(&bomb));
        bomb = around;
    }
    assert!(matches!(one(&bomb), Ok(None)));
}

#[test]
fn deadlines_are_milliseconds() {
    let mut header = Header::request(MessageType::KeepAlive, wire::p2pp::TransactionId(1), id(&asker()));
    assert_eq!(header.deadline(), None);
    header.deadline_ms = 1_500;
    assert_eq!(header.deadline(), Some(Duration::from_millis(1_500)));
}
