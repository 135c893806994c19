//! Who may join: a peer that was told to use other options than the overlay has is told which.

mod world;

use std::time::Duration;

use node::{Algorithm, Config, Event, OverlayOption, OverlayOptions};
use wire::p2pp::{
    Builder, Code, Header, Kind, Message, MessageType, Object, P2pOptions, Record, TransactionId, VERSION,
    object,
};
use wire::{HashAlgorithm, KeyPair, ResourceId, Seed, Socket};
use world::{World, address};

/// Why the last of four peers is not in the overlay of the others, each time it says so.
fn why_not(change: impl Fn(&mut Config)) -> Vec<String> {
    let mut world = World::with(4, |n, config| match n {
        3 => change(config),
        _ => config.overlay.name = "camp".into(),
    });
    world.run(Duration::from_secs(60));
    assert!((0..3).all(|n| world.nodes[n].is_online()));
    let told = world.events[3].iter().filter_map(|e| match e {
        Event::Offline { reason } => Some(reason.clone()),
        _ => None,
    });
    let told = told.collect::<Vec<_>>();
    assert_eq!(world.nodes[3].is_online(), told.is_empty());
    told
}

fn insist(options: &[OverlayOption], change: impl Fn(&mut OverlayOptions)) -> Vec<String> {
    why_not(|config| {
        config.insist = options.to_vec();
        change(&mut config.overlay);
    })
}

#[test]
fn a_peer_that_insists_on_another_option_stays_out_and_says_once_which_one() {
    use OverlayOption::{Algorithm as Routing, Base, Difficulty, Hash, Name, RemoteSettings, Replicas};
    let cases = [
        (insist(&[Name], |o| o.name = "fair".into()), "name is camp there and fair here"),
        (
            insist(&[Routing], |o| o.algorithm = Algorithm::Chord),
            "algorithm is kademlia there and chord here",
        ),
        (insist(&[Hash], |o| o.hash = HashAlgorithm::Md5), "hash is sha-256 there and md5 here"),
        (insist(&[Base], |o| o.base = 16), "base is 2 there and 16 here"),
        (insist(&[Replicas], |o| o.replicas = 3), "replicas is 5 there and 3 here"),
        (insist(&[Difficulty], |o| o.difficulty = 1), "difficulty is 0 there and 1 here"),
        (
            insist(&[RemoteSettings], |o| o.remote_settings = true),
            "remote_settings is false there and true here",
        ),
    ];
    for (told, words) in cases {
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].ends_with(words) && told[0].contains("10.0.0.1:7080"), "{told:?}");
    }
    let both = insist(&[Hash, Base], |o| (o.hash, o.base) = (HashAlgorithm::Sha1, 4));
    assert!(
        both[0].ends_with("hash is sha-256 there and sha-1 here, base is 2 there and 4 here"),
        "{both:?}"
    );
}

#[test]
fn who_insists_on_nothing_or_on_what_is_there_joins() {
    let other = |o: &mut OverlayOptions| (o.hash, o.base) = (HashAlgorithm::Sha1, 4);
    assert_eq!(insist(&[], other), [""; 0]);
    assert_eq!(insist(&OverlayOption::ALL, |o| o.name = "camp".into()), [""; 0]);
}

/// What a peer answers to these bytes.
fn answer(world: &mut World, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
    let from = address(1_000);
    world.nodes[0].handle_datagram(world.now, Socket::Peer, from, &mut bytes);
    let sent = std::iter::from_fn(|| world.nodes[0].poll_transmit());
    sent.filter(|t| t.remote == from).map(|t| t.bytes).collect()
}

#[test]
fn a_join_meant_for_another_overlay_of_the_same_name_is_refused_with_the_difference() {
    let mut world = World::new(2);
    world.run(Duration::from_secs(3));
    let keys = KeyPair::from_seed(Seed::from_number(5));
    let name = Config::default().overlay.name;
    let tag = *HashAlgorithm::Sha256.digest(name.as_bytes()).as_bytes().last_chunk().unwrap();
    let mut join = |algorithm, hash, base| {
        let options = P2pOptions {
            hash,
            algorithm,
            base,
            difficulty: 0,
            replicas: 5,
            remote_settings: false,
            name: &name,
        };
        let id = keys.public().node_id(hash);
        let mut header = Header::request(MessageType::Join, TransactionId(base.into()), id);
        (header.overlay, header.from_peer) = (u32::from_be_bytes(tag), true);
        let answers =
            answer(&mut world, Builder::new(&header).with(&Object::P2pOptions(options)).sign(&keys));
        let message = Message::parse(&answers[0]).unwrap();
        let reason = message.find(object::ERROR, |o| match o {
            Object::Error { reason, .. } => Some(reason.to_owned()),
            _ => None,
        });
        (message.header.code, reason.unwrap_or_default())
    };
    let kademlia = Algorithm::Kademlia.number();
    let refused = |words: &str| (Code::WRONG_OVERLAY, words.to_owned());
    assert_eq!(join(kademlia, HashAlgorithm::Sha256, 16), refused("base is 2 there and 16 here"));
    assert_eq!(join(kademlia, HashAlgorithm::Sha1, 2), refused("hash is sha-256 there and sha-1 here"));
    assert_eq!(join(77, HashAlgorithm::Sha256, 2), refused("algorithm is kademlia there"));
    assert_ne!(join(kademlia, HashAlgorithm::Sha256, 2).0, Code::WRONG_OVERLAY);
}

#[test]
fn an_identity_that_cost_too_little_stays_out_and_is_told_what_to_do() {
    let hard = |n: usize, config: &mut Config| config.overlay.difficulty = if n < 3 { 6 } else { 0 };
    let mut world = World::with(4, hard);
    world.run(Duration::from_secs(30));
    assert!((0..3).all(|n| world.nodes[n].is_online()) && !world.nodes[3].is_online());
    assert!((0..3).all(|n| world.nodes[n].routes(world.now).len() == 2));
    let told: Vec<_> = world.events[3].iter().filter(|e| matches!(e, Event::Offline { .. })).collect();
    let [Event::Offline { reason }] = told[..] else { panic!("{told:?}") };
    assert!(reason.contains("difficulty 6") && reason.contains("peer.key"), "{reason}");
}

#[test]
fn a_cheap_identity_that_comes_all_the_same_may_neither_join_nor_store_nor_enter_a_table() {
    let mut world = World::with(3, |_, config| config.overlay.difficulty = 6);
    world.run(Duration::from_secs(5));
    let cheap = |n: &u64| wire::puzzle::work(&pair(*n).public().node_id(HashAlgorithm::Sha256)) < 6;
    let keys = pair((0..).find(cheap).unwrap());
    let dear = pair((0..).find(|n| !cheap(n)).unwrap());
    let name = Config::default().overlay.name;
    let tag = *HashAlgorithm::Sha256.digest(name.as_bytes()).as_bytes().last_chunk().unwrap();
    let place = ResourceId(HashAlgorithm::Sha256.digest(b"data:x"));
    let record =
        Record::sign(&keys, place, Kind::DATA, 1, wire::UnixTime(1_800_000_000), 3_600, b"value".to_vec());
    let mut ask = |keys: &KeyPair, message, objects: &[Object<'_>]| {
        let id = keys.public().node_id(HashAlgorithm::Sha256);
        let mut header = Header::request(message, TransactionId(message as u64), id);
        (header.overlay, header.from_peer) = (u32::from_be_bytes(tag), true);
        let mut builder = Builder::new(&header);
        for object in objects {
            builder.push(object);
        }
        let answers = answer(&mut world, builder.sign(keys));
        answers.iter().map(|a| Message::parse(a).unwrap().header.code).next()
    };
    let value = [Object::Resource(record.as_ref()), Object::Expires(600), Object::Padding(&[0; 200])];
    assert_eq!(ask(&keys, MessageType::Join, &[Object::Padding(&[0; 200])]), Some(Code::FORBIDDEN));
    assert_eq!(ask(&keys, MessageType::Publish, &value), Some(Code::FORBIDDEN));
    assert_eq!(ask(&dear, MessageType::Publish, &value), Some(Code::OK));
    world.run(Duration::from_secs(5));
    assert_eq!(world.nodes[0].routes(world.now).len(), 2);
}

fn pair(n: u64) -> KeyPair {
    KeyPair::from_seed(Seed::from_number(n))
}

#[test]
fn a_request_in_another_version_is_told_so_and_an_answer_in_another_is_not_answered() {
    let mut world = World::new(2);
    world.run(Duration::from_secs(3));
    let keys = KeyPair::from_seed(Seed::from_number(5));
    let id = keys.public().node_id(HashAlgorithm::Sha256);
    let mut request = Builder::new(&Header::request(MessageType::Bootstrap, TransactionId(9), id)).finish();
    request[1] = VERSION + 1;
    let answers = answer(&mut world, request.clone());
    let header = Message::parse(&answers[0]).unwrap().header;
    assert_eq!((header.code, header.transaction), (Code::VERSION_NOT_SUPPORTED, TransactionId(9)));
    assert!(answers[0].len() <= request.len());
    Header::patch_class(&mut request, wire::p2pp::Class::Response);
    assert!(answer(&mut world, request).is_empty());
}

#[test]
fn a_bootstrap_peer_of_another_version_is_why_a_peer_stays_out() {
    let mut world = World::with(2, |n, config| {
        if n == 1 {
            config.bootstrap = vec![address(1_000)];
        }
    });
    let id = world.nodes[0].node_id().unwrap();
    let header = Header::request(MessageType::Bootstrap, TransactionId(9), id).answer(Code::OK, id);
    let mut bytes = Builder::new(&header).finish();
    bytes[1] = VERSION + 1;
    world.nodes[1].handle_datagram(world.now, Socket::Peer, address(1_000), &mut bytes);
    world.run(Duration::from_secs(30));
    world.collect(1);
    let told = world.events[1].iter().filter(|e| match e {
        Event::Offline { reason } => reason.contains("speaks version 2 of P2PP and this peer version 1"),
        _ => false,
    });
    assert_eq!(told.count(), 1);
}
