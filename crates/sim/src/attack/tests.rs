//! Attackers do what they are for; what they come to is in the tests of whole networks.

use super::*;
use wire::p2pp::{Header, Kind as RecordKind, TransactionId, object};
use wire::{ResourceId, Seed};

fn contact(n: u64) -> Contact {
    let id = KeyPair::from_seed(Seed::from_number(n)).public().node_id(HashAlgorithm::Sha256);
    Contact { id, address: SocketAddr::from(([11, 0, 0, n as u8], PEER_PORT)) }
}

fn question(key: Key) -> Vec<u8> {
    let header = Header::request(MessageType::LookupObject, TransactionId(7), contact(99).id);
    let lookup = RLookup { resource: ResourceId(key), kind: RecordKind::USER, owner: None };
    Builder::new(&header).with(&Object::RLookup(lookup)).finish()
}

fn named(bytes: &[u8]) -> Vec<Contact> {
    let message = Message::parse(bytes).unwrap();
    message
        .find(object::NEIGHBOR_TABLE, |o| match o {
            Object::NeighborTable(list) => Some(list.contacts().collect()),
            _ => None,
        })
        .unwrap()
}

#[test]
fn a_colluder_names_the_colluders_nearest_to_the_key_and_nobody_else() {
    let gang: Vec<Contact> = (0..40).map(contact).collect();
    let key = HashAlgorithm::Sha256.digest(b"somebody");
    let bytes = question(key);
    let message = Message::parse(&bytes).unwrap();
    let Twist::Forged(answer) = colluder::twist(&message, contact(0).id, &gang) else { panic!("heard") };
    let mut all = gang.clone();
    all.sort_by_key(|c| key.xor(c.id.key()));
    assert_eq!(named(&answer), all[..NAMED]);
    assert_eq!(Message::parse(&answer).unwrap().header.code, Code::NOT_FOUND);
}

#[test]
fn a_sybil_stands_beside_the_name_and_serves_others() {
    let mut keys = sybil::Keys::default();
    let draw = |n: u64| KeyPair::from_seed(Seed::from_number(n));
    let name = place_of_user(HashAlgorithm::Sha256, "user0@sim.test");
    let key = keys.beside(name.key(), 5, HashAlgorithm::Sha256, draw);
    let id = key.public().node_id(HashAlgorithm::Sha256);
    assert!(id.key().common_prefix(name.key()) >= 14);
    let again = keys.beside(name.key(), 5, HashAlgorithm::Sha256, draw);
    assert_eq!(again.public(), key.public());
    let other = question(HashAlgorithm::Sha256.digest(b"somebody else"));
    let other = Message::parse(&other).unwrap();
    assert!(matches!(sybil::twist(&other, id, &[], name.key()), Twist::Heard));
    let asked = question(name.0);
    let asked = Message::parse(&asked).unwrap();
    assert!(matches!(sybil::twist(&asked, id, &[], name.key()), Twist::Forged(_)));
}

#[test]
fn a_dropper_answers_upkeep_only() {
    let bytes = question(HashAlgorithm::Sha256.digest(b"x"));
    assert!(matches!(dropper::twist(&Message::parse(&bytes).unwrap()), Twist::Dropped));
    let header = Header::request(MessageType::KeepAlive, TransactionId(7), contact(1).id);
    let bytes = Builder::new(&header).finish();
    assert!(matches!(dropper::twist(&Message::parse(&bytes).unwrap()), Twist::Heard));
}

#[test]
fn a_poisoner_names_nobody_who_exists() {
    let bytes = question(HashAlgorithm::Sha256.digest(b"x"));
    let message = Message::parse(&bytes).unwrap();
    let remote = SocketAddr::from(([11, 0, 0, 1], PEER_PORT));
    let Twist::Forged(answer) = poisoner::twist(&message, contact(0).id, remote) else { panic!("heard") };
    assert!(answer.len() <= 1_200, "{}", answer.len());
    let crowd = named(&answer);
    assert!(
        crowd.len() > NAMED && crowd.iter().all(|c| c.address.ip().to_string().starts_with("203.0.113."))
    );
}

#[test]
fn impossible_attackers_are_named() {
    for (text, field) in [
        ("kind = 'colluder'\nshare = 1.5", "share"),
        ("kind = 'sybil'", "count"),
        ("kind = 'sybil'\ncount = 3\nagainst = 10", "against"),
        ("kind = 'prefix'\ncount = 70000", "count"),
        ("kind = 'dropper'\nat_s = -1", "at_s"),
    ] {
        let entry: Attackers = toml::from_str(text).unwrap();
        assert_eq!(entry.mistake(10).map(|(field, _)| field), Some(field), "{text}");
    }
}
