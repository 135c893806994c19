//! Peers that know each other leave out names, say when they do not, and are told which of several records
//! are missing.

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use wire::p2pp::{
    Builder, Class, Code, Header, Kind, Message, MessageType, Object, Record, TransactionId, known, object,
};
use wire::{Contact, HashAlgorithm, KeyPair, NodeId, ResourceId, Seed, Socket, UnixTime};
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

fn say(world: &mut World, from: SocketAddr, bytes: Vec<u8>) -> Answer {
    let bytes = answer_to(world, from, bytes);
    let message = Message::parse(&bytes).expect("it was parsed");
    let missing = message.find(object::MISSING, |o| match o {
        Object::Missing(places) => Some(places.to_vec()),
        _ => None,
    });
    (message.header.code, message.header.responder.is_some(), missing)
}

/// The answer of the first peer; it may also ask the stranger something.
fn answer_to(world: &mut World, from: SocketAddr, mut bytes: Vec<u8>) -> Vec<u8> {
    world.nodes[0].handle_datagram(world.now, Socket::Peer, from, &mut bytes);
    let is_answer = |bytes: &Vec<u8>| Message::parse(bytes).is_ok_and(|m| m.header.class != Class::Request);
    let sent: Vec<Vec<u8>> = std::iter::from_fn(|| world.nodes[0].poll_transmit())
        .filter(|t| t.remote == from)
        .map(|t| t.bytes)
        .collect();
    sent.into_iter().find(is_answer).expect("an answer")
}

fn address_id(n: u32) -> NodeId {
    NodeId(HashAlgorithm::Sha256.digest(&n.to_be_bytes()))
}

fn record(keys: &KeyPair, key: &str) -> Record {
    let place = ResourceId(HashAlgorithm::Sha256.digest(format!("data:{key}").as_bytes()));
    Record::sign(keys, place, Kind::DATA, 1, UnixTime(1_800_000_000), 3_600, b"value".to_vec())
}

/// Brings the first peer a record.
fn publish(world: &mut World, from: SocketAddr, record: &Record, keys: &KeyPair) -> Code {
    let mut header = Header::request(MessageType::Publish, TransactionId(1), address_id(0));
    (header.source, header.from_peer) = (None, true);
    header.overlay = world.nodes[0].overlay_tag().expect("it is in one");
    let store = Builder::new(&header)
        .with(&Object::Resource(record.as_ref()))
        .with(&Object::Expires(600))
        .with(&Object::Padding(&[0; 200]))
        .sign(keys);
    say(world, from, store).0
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
    let record = |key: &str| record(&keys, key);
    let (held, lost) = (record("x"), record("y"));
    let stranger = address(77);
    assert_eq!(publish(&mut world, stranger, &held, &keys), Code::OK);
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

#[test]
fn the_nearest_of_the_holders_that_an_owner_knows_names_those_that_it_does_not() {
    let mut world = World::new(3);
    world.run(Duration::from_secs(30));
    let ids: Vec<NodeId> = world.nodes.iter().map(|n| n.node_id().expect("it is in an overlay")).collect();
    let keys = KeyPair::from_seed(Seed::from_number(5));
    let nearest = |record: &Record| {
        let distance = |n: &usize| record.resource.key().xor(ids[*n].key());
        (0..3).min_by_key(distance)
    };
    let of_first = (0..).map(|n| record(&keys, &format!("k{n}"))).find(|r| nearest(r) == Some(0)).unwrap();
    let of_other = (0..).map(|n| record(&keys, &format!("k{n}"))).find(|r| nearest(r) == Some(1)).unwrap();
    let owner = address(77);
    let mut named = |record: &Record, known: &[usize]| {
        assert_eq!(publish(&mut world, owner, record, &keys), Code::OK);
        world.run(Duration::from_secs(5)); // The others get it.
        let mut header =
            Header::request(MessageType::Refresh, TransactionId(world.now.as_micros()), address_id(5));
        (header.from_peer, header.overlay) = (true, world.nodes[0].overlay_tag().expect("it is in one"));
        let tags = known::list(header.transaction, known.iter().map(|n| &ids[*n]));
        let refresh = Builder::new(&header)
            .with(&Object::RecordSummary(record.as_ref().summary()))
            .with(&Object::Expires(600))
            .with(&Object::Known(&tags))
            .with(&Object::Padding(&[0; 200]))
            .finish();
        let answer = answer_to(&mut world, owner, refresh);
        let message = Message::parse(&answer).expect("it was parsed");
        assert_eq!(message.header.code, Code::OK);
        let named = message.find(object::NEIGHBOR_TABLE, |o| match o {
            Object::NeighborTable(list) => Some(list.contacts().collect::<Vec<Contact>>()),
            _ => None,
        });
        let number = |c: Contact| ids.iter().position(|id| *id == c.id).expect("one of the three");
        named.unwrap_or_default().into_iter().map(number).collect::<Vec<usize>>()
    };
    assert_eq!(named(&of_first, &[0, 1]), [2]);
    assert_eq!(named(&of_first, &[0, 1, 2]), [0; 0]);
    // Another of those known is nearer, and tells.
    assert_eq!(named(&of_other, &[0, 1]), [0; 0]);
}
