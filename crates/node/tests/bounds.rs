//! What a peer bears: more requests than it has room for, and strangers on its port.

mod world;

use std::time::Duration;

use node::{Outcome, Target};
use wire::p2pp::{Builder, Class, Code, Header, MessageType, Object, TransactionId};
use wire::{HashAlgorithm, NodeId, Socket};
use world::{World, address};

#[test]
fn a_request_too_many_fails_and_nothing_waits_for_it_for_ever() {
    let mut world = World::new(8);
    world.run(Duration::from_secs(5));
    let nowhere = Target::Address(address(1_000));
    let pings: Vec<_> = (0..5_000).map(|_| world.nodes[2].ping(world.now, &nowhere)).collect();
    let put = world.nodes[2].put(world.now, "greeting", b"hello", None);
    for op in pings {
        assert!(matches!(world.wait(2, op), Outcome::Failed { .. }));
    }
    // The search that found no room has ended too: the record is stored without a second command.
    world.wait(2, put);
    world.run(Duration::from_secs(30));
    let op = world.nodes[5].get(world.now, "greeting");
    match world.wait(5, op) {
        Outcome::Value(value) => assert_eq!(value.value.as_deref(), Some("hello")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stranger_gets_no_more_bytes_than_it_sent_whatever_kind_of_message_it_sent() {
    let mut world = World::new(4);
    world.run(Duration::from_secs(3));
    let stranger = NodeId(HashAlgorithm::Sha256.digest(b"stranger"));
    let name = HashAlgorithm::Sha256.digest(node::Config::default().overlay.name.as_bytes());
    let tag = u32::from_be_bytes(*name.as_bytes().last_chunk().unwrap());
    let classes = [
        Class::Request,
        Class::Indication,
        Class::Response,
        Class::ResponseAck,
        Class::RequestReceived,
        Class::ResponseReceived,
    ];
    let ids = [None, Some(stranger)];
    let (mut sent, mut answered) = (0, 0);
    for (&message, class) in MessageType::ALL.iter().flat_map(|m| classes.map(|c| (m, c))) {
        for (source, responder) in ids.into_iter().flat_map(|s| ids.map(|r| (s, r))) {
            for (recursive, overlay) in [(false, tag), (true, tag), (false, 7)] {
                sent += 1;
                let code = if class.is_response() { Code::OK } else { Code(0) };
                let request = Header::request(message, TransactionId(sent), stranger);
                let header = Header { class, recursive, overlay, source, responder, code, ..request };
                let mut bytes = Builder::new(&header).finish();
                let (from, length) = (address(1_000 + sent as usize), bytes.len());
                world.nodes[0].handle_datagram(world.now, Socket::Peer, from, &mut bytes);
                while let Some(back) = world.nodes[0].poll_transmit() {
                    let fits = back.remote != from || back.bytes.len() <= length;
                    assert!(fits, "{} bytes to {length} of {header:?}", back.bytes.len());
                    answered += u64::from(back.remote == from);
                }
            }
        }
    }
    assert!(answered > sent / 10, "{answered} of {sent} were answered");
}

#[test]
fn false_word_of_a_loss_costs_a_question_each_for_eight_and_goes_no_further() {
    let mut world = World::new(16);
    world.run(Duration::from_secs(60));
    let nobody = |n: u32| NodeId(HashAlgorithm::Sha256.digest(&n.to_be_bytes()));
    let living: Vec<NodeId> = world.nodes.iter().map(|n| n.node_id().expect("it joined")).collect();
    for n in 0..20 {
        let request = Header::request(MessageType::ExchangeTable, TransactionId(n), nobody(0));
        let overlay = world.nodes[0].overlay_tag().expect("it is in one");
        let header = Header { class: Class::Indication, overlay, ..request };
        let mut word = Builder::new(&header);
        for gone in [living[1 + n as usize % 15], nobody(2 * n as u32 + 1), nobody(2 * n as u32 + 2)] {
            word.push(&Object::PeerId(gone));
        }
        world.nodes[0].handle_datagram(world.now, Socket::Peer, address(1_000), &mut word.finish());
    }
    let before = world.sent[0];
    world.collect(0);
    let asked = world.sent[0] - before;
    assert!((8 * 60..8 * 120).contains(&asked), "{asked} bytes for eight questions");
    // Told to all whom it knows, a single word would be some thousand bytes.
    world.run(Duration::from_secs(3));
    assert!(world.sent[0] - before < asked + 1_000, "{}", world.sent[0] - before);
}
