//! What a P2PP message costs: the answer to a LookupObject with one record, written and read; the
//! record's signature, made and checked; the largest answer with peers.
//!
//! `cargo bench -p openvoip-wire --bench p2pp`

#![allow(missing_docs, reason = "criterion's macro makes an undocumented function")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use wire::p2pp::{
    Builder, Code, Header, Kind, Message, MessageType, Object, PeerList, RLookup, Record, TransactionId,
    object,
};
use wire::{Contact, HashAlgorithm, Key, KeyPair, NodeId, ResourceId, Seed, UnixTime};

const HASH: HashAlgorithm = HashAlgorithm::Sha256;

/// The device list of a user with two devices, as it is stored.
fn record() -> Record {
    let owner = KeyPair::from_seed(Seed([1; 32]));
    let place = ResourceId(HASH.digest(b"alice@example.org"));
    let value = [&[1, 2][..], &[7; 64]].concat();
    Record::sign(&owner, place, Kind::USER, 1_700_000_000, UnixTime(1_700_000_000), 2_400, value)
}

fn request(message: MessageType) -> Header {
    Header::request(message, TransactionId(1), NodeId(HASH.digest(b"asker")))
}

fn answer(message: MessageType) -> Header {
    request(message).answer(Code::OK, NodeId(HASH.digest(b"answerer")))
}

fn with_record(header: &Header, record: &Record) -> Vec<u8> {
    Builder::new(header).with(&Object::Resource(record.as_ref())).with(&Object::Expires(2_100)).finish()
}

/// Reads a message and takes the record out of it.
fn read_record(bytes: &[u8]) -> Option<u64> {
    Message::parse(bytes).ok()?.find(object::RESOURCE_OBJECT, |o| match o {
        Object::Resource(record) => Some(record.sequence),
        _ => None,
    })
}

fn lookup_object(c: &mut Criterion) {
    let record = record();
    let header = answer(MessageType::LookupObject);
    let bytes = with_record(&header, &record);
    assert_eq!(read_record(&bytes), Some(record.sequence));

    let mut group = c.benchmark_group("LookupObject");
    group.bench_function("encode an answer with one record", |b| {
        b.iter(|| with_record(black_box(&header), black_box(&record)));
    });
    group.bench_function("decode an answer with one record", |b| {
        b.iter(|| read_record(black_box(&bytes)));
    });
    group.bench_function("decode it and check the record's signature", |b| {
        b.iter(|| {
            let message = Message::parse(black_box(&bytes)).unwrap();
            message.find(object::RESOURCE_OBJECT, |o| match o {
                Object::Resource(record) => Some(record.verify()),
                _ => None,
            })
        });
    });
    let lookup = RLookup { resource: record.resource, kind: record.kind, owner: None };
    let header = request(MessageType::LookupObject);
    let question = Builder::new(&header).with(&Object::RLookup(lookup)).finish();
    group.bench_function("encode a request", |b| {
        b.iter(|| Builder::new(black_box(&header)).with(&Object::RLookup(lookup)).finish());
    });
    group.bench_function("decode a request", |b| b.iter(|| Message::parse(black_box(&question)).is_ok()));
    group.finish();
}

fn publish(c: &mut Criterion) {
    let pair = KeyPair::from_seed(Seed([2; 32]));
    let record = record();
    let mut header = request(MessageType::Publish);
    header.source = Some(pair.public().node_id(HASH));
    let signed = || {
        Builder::new(&header)
            .with(&Object::Resource(record.as_ref()))
            .with(&Object::Expires(2_400))
            .sign(&pair)
    };
    let bytes = signed();
    assert!(Message::parse(&bytes).unwrap().signer(HASH).is_some());

    let mut group = c.benchmark_group("Publish");
    group.bench_function("encode and sign", |b| b.iter(signed));
    group.bench_function("decode and check the originator's signature", |b| {
        b.iter(|| Message::parse(black_box(&bytes)).unwrap().signer(HASH));
    });
    group.finish();
}

fn tables(c: &mut Criterion) {
    let contacts: Vec<Contact> = (0..14u8)
        .map(|n| Contact {
            id: NodeId(Key::from_slice(&[n; 32]).unwrap()),
            address: ([192, 0, 2, n], 7080).into(),
        })
        .collect();
    let header = answer(MessageType::ExchangeTable);
    let encode = || Builder::new(&header).with(&Object::RoutingTable(PeerList::Contacts(&contacts))).finish();
    let bytes = encode();

    let mut group = c.benchmark_group("ExchangeTable");
    group.bench_function("encode an answer with 14 peers", |b| b.iter(encode));
    group.bench_function("decode an answer with 14 peers", |b| {
        b.iter(|| {
            let message = Message::parse(black_box(&bytes)).unwrap();
            message.find(object::ROUTING_TABLE, |o| match o {
                Object::RoutingTable(list) => Some(list.contacts().count()),
                _ => None,
            })
        });
    });
    group.finish();
}

criterion_group!(benches, lookup_object, publish, tables);
criterion_main!(benches);
