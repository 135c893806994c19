//! Peers that know each other leave out names, say when they do not, and are told which of several records
//! are missing.

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use wire::p2pp::{
    Builder, Class, Code, Header, Kind, Message, MessageType, Object, Record, TransactionId, known,
};
use wire::{HashAlgorithm, KeyPair, NodeId, ResourceId, Seed, Socket, UnixTime};
use world::{World, address};

/// The code of the first peer's answer, whether it bears a name, and which records it says are missing.
type Answer = (Code, bool, Option<Vec<u8>>);

/// What the first peer answers to these objects from an address.
fn ask(
    world: &mut World,
    from: SocketAddr,
    message: MessageType,
    source: Option<NodeId>,
    meant_for: Option<NodeId>,
    objects: &[Object<'_>],
) -> Answer {
    let transaction = TransactionId(world.now.as_micros());
    let mut header = Header::request(message, transaction, source.unwrap_or(address_id(0)));
    (header.source, header.from_peer) = (source, true);
    header.overlay = world.nodes[0].overlay_tag().expect("it is in one");
    let mut question = Builder::new(&header);
    let tags = known::list(transaction, meant_for.iter());
    if !tags.is_empty() {
        question.push(&Object::Known(&tags));
    }
    objects.iter().for_each(|object| {
        question.push(object);
    });
    say(world, from, question.finish())
}

fn say(world: &mut World, from: SocketAddr, mut bytes: Vec<u8>) -> Answer {
    world.nodes[0].handle_datagram(world.now, Socket::Peer, from, &mut bytes);
    let sent: Vec<Vec<u8>> = std::iter::from_fn(|| world.nodes[0].poll_transmit())
        .filter(|t| t.remote == from)
        .map(|t| t.bytes)
        .collect();
    let answers = sent.iter().filter_map(|bytes| Message::parse(bytes).ok());
    // It may also ask the stranger something.
    let message = answers.into_iter().find(|m| m.header.class != Class::Request).expect("an answer");
    let missing = message.find(|o| match o {
        Object::Missing(places) => Some(places.to_vec()),
        _ => None,
    });
    (message.header.code, message.header.responder.is_some(), missing)
}

fn address_id(n: u32) -> NodeId {
    NodeId(HashAlgorithm::Sha256.digest(&n.to_be_bytes()))
}

#[test]
fn who_asks_without_a_name_is_answered_without_one_if_the_other_has_it_in_its_table() {
    let mut world = World::new(4);
    world.run(Duration::from_secs(30));
    let asked = world.nodes[0].node_id();
    let (friend, stranger) = (address(1), address(77));
    let alive = MessageType::KeepAlive;
    assert_eq!(ask(&mut world, friend, alive, None, asked, &[]), (Code::OK, false, None));
    // Meant for another: a name is needed to tell that it is not.
    let other = world.nodes[2].node_id();
    assert_eq!(ask(&mut world, friend, alive, None, other, &[]), (Code::NOT_FOUND, false, None));
    // Forgotten, or never known: it is to say who it is.
    assert_eq!(ask(&mut world, stranger, alive, None, asked, &[]), (Code::NOT_FOUND, false, None));
    let name = Some(address_id(5));
    assert_eq!(ask(&mut world, stranger, alive, name, asked, &[]), (Code::ONE_SIDED, false, None));
}

#[test]
fn of_several_records_named_only_those_missing_are_asked_for() {
    let mut world = World::new(3);
    world.run(Duration::from_secs(30));
    let keys = KeyPair::from_seed(Seed::from_number(5));
    let record = |key: &str| {
        let place = ResourceId(HashAlgorithm::Sha256.digest(format!("data:{key}").as_bytes()));
        Record::sign(&keys, place, Kind::DATA, 1, UnixTime(1_800_000_000), 3_600, b"value".to_vec())
    };
    let (held, lost) = (record("x"), record("y"));
    let stranger = address(77);
    let mut header = Header::request(MessageType::Publish, TransactionId(1), address_id(0));
    (header.source, header.from_peer) = (None, true);
    header.overlay = world.nodes[0].overlay_tag().expect("it is in one");
    let store = Builder::new(&header)
        .with(&Object::Resource(held.as_ref()))
        .with(&Object::Expires(600))
        .with(&Object::Padding(&[0; 200]))
        .sign(&keys);
    assert_eq!(say(&mut world, stranger, store).0, Code::OK);
    let mut name = |records: &[&Record]| {
        let named = |r: &&Record| [Object::RecordSummary(r.as_ref().summary()), Object::Expires(600)];
        let mut objects: Vec<Object<'_>> = records.iter().flat_map(named).collect();
        objects.push(Object::Padding(&[0; 100]));
        world.now += Duration::from_millis(1);
        let (code, _, missing) =
            ask(&mut world, stranger, MessageType::Refresh, Some(address_id(5)), None, &objects);
        (code, missing)
    };
    assert_eq!(name(&[&held]), (Code::OK, None));
    assert_eq!(name(&[&lost]), (Code::NOT_FOUND, None));
    assert_eq!(name(&[&held, &lost]), (Code::NOT_FOUND, Some(vec![1])));
    assert_eq!(name(&[&lost, &held]), (Code::NOT_FOUND, Some(vec![0])));
}
