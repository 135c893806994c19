//! Who may store what where, by the overlay's document: holders refuse the rest, and whoever reads passes over it.

mod world;

use std::time::Duration;

use node::{Charter, Config, Outcome, Profile, Saved};
use wire::OverlayDocument;
use wire::document::{KindRule, Policy};
use wire::p2pp::{Code, Kind};
use world::World;
use world::charter::{charter, document, pair, peer_key, signed_by};

const COUNT: usize = 12;

/// The peer that operators run, by the first document.
const MANAGED: usize = 3;

/// A kind that a document adds.
const OWN: Kind = Kind(0x4001);

fn first() -> OverlayDocument {
    OverlayDocument { managed: [peer_key(MANAGED)].into(), ..document(1, Profile::Open) }
}

fn given(_: usize, config: &mut Config) {
    config.charter = Some(charter(first()));
}

fn world() -> World {
    let mut world = World::with(COUNT, given);
    world.run(Duration::from_secs(60));
    world
}

/// An overlay whose own kind is the first owner's.
fn seats() -> World {
    let mut world = World::with(COUNT, by_seats);
    world.run(Duration::from_secs(60));
    world
}

fn by_seats(_: usize, config: &mut Config) {
    let mut kinds = KindRule::today();
    kinds.insert(KindRule::new(OWN, Policy::FirstOwner));
    config.charter = Some(charter(OverlayDocument { kinds, ..first() }));
}

/// The code with which a value was refused; none if it was stored.
fn put(world: &mut World, by: usize, kind: Kind, key: &str, value: &[u8]) -> Option<u16> {
    let op = world.nodes[by].put_of(world.now, kind, key, value, None);
    match world.wait(by, op) {
        Outcome::Stored { .. } => None,
        Outcome::Failed { code, .. } => Some(code),
        other => panic!("{other:?}"),
    }
}

fn get(world: &mut World, seeker: usize, kind: Kind, key: &str) -> Option<String> {
    let op = world.nodes[seeker].get_of(world.now, kind, key);
    match world.wait(seeker, op) {
        Outcome::Value(value) => value.value,
        other => panic!("{other:?}"),
    }
}

/// Gives the next document to one peer, and waits until it is known.
fn give(world: &mut World, next: OverlayDocument) {
    let now = world.now;
    world.nodes[5].give_document(now, &signed_by(7, next)).unwrap();
    world.collect(5);
    world.run(Duration::from_secs(10));
}

#[test]
fn a_notice_of_those_who_run_the_overlay_is_found_by_all_and_nobody_keeps_one_of_another() {
    let mut world = world();
    assert_eq!(put(&mut world, MANAGED, Kind::NOTICE, "news", b"we meet at noon"), None);
    for seeker in 0..COUNT {
        assert_eq!(get(&mut world, seeker, Kind::NOTICE, "news").as_deref(), Some("we meet at noon"));
    }
    assert_eq!(put(&mut world, 4, Kind::NOTICE, "news", b"at midnight"), Some(Code::FORBIDDEN.0));
    assert_eq!(get(&mut world, 8, Kind::NOTICE, "news").as_deref(), Some("we meet at noon"));
}

#[test]
fn a_holder_that_keeps_its_own_notice_convinces_nobody_who_reads() {
    const LIAR: usize = 4;
    let mut world = World::with(1, given);
    // Its own document, of a founder whom nobody knows, says that it runs the overlay.
    let own = OverlayDocument {
        founder: pair(8).public(),
        managed: [peer_key(LIAR)].into(),
        ..document(50, Profile::Open)
    };
    world.grow_with(COUNT - 1, |n, config| {
        given(n, config);
        if n == LIAR {
            let documents = Some(signed_by(8, own.clone()));
            config.charter = Some(Charter { founder: pair(8).public(), documents }.into());
        }
    });
    world.run(Duration::from_secs(60));
    let mut held = 0;
    for n in 0..8 {
        let key = format!("news {n}");
        if put(&mut world, LIAR, Kind::NOTICE, &key, b"at midnight").is_some() {
            continue; // It does not stand at that place.
        }
        held += 1;
        assert!(get(&mut world, LIAR, Kind::NOTICE, &key).is_some());
        for seeker in (0..COUNT).filter(|n| *n != LIAR) {
            assert_eq!(get(&mut world, seeker, Kind::NOTICE, &key), None, "{seeker}");
        }
    }
    assert!(held > 0, "it kept none");
}

#[test]
fn a_document_changes_who_may_store_a_kind_while_peers_run() {
    let mut world = world();
    assert_eq!(put(&mut world, 1, Kind::DATA, "motd", b"anybody's"), None);
    assert_eq!(put(&mut world, 1, OWN, "seat 7", b"mine"), Some(Code::BAD_REQUEST.0), "no such kind yet");
    let mut kinds = KindRule::today();
    kinds.retain(|rule| rule.kind != Kind::DATA);
    kinds.insert(KindRule { max_value: 16, ..KindRule::new(Kind::DATA, Policy::Operators) });
    kinds.insert(KindRule::new(OWN, Policy::FirstOwner));
    give(&mut world, OverlayDocument { sequence: 2, kinds, ..first() });
    // What stood there stands there no more, and the owner who still refreshes it is refused.
    world.run(Duration::from_secs(900));
    for seeker in [1, 8] {
        assert_eq!(get(&mut world, seeker, Kind::DATA, "motd"), None, "{seeker}");
    }
    assert_eq!(put(&mut world, MANAGED, Kind::DATA, "motd", b"of operators"), None);
    assert_eq!(get(&mut world, 8, Kind::DATA, "motd").as_deref(), Some("of operators"));
    let long = put(&mut world, MANAGED, Kind::DATA, "motd", b"of operators, and too long");
    assert_eq!(long, Some(Code::TOO_LARGE.0));
    assert_eq!(put(&mut world, 1, OWN, "seat 7", b"mine"), None);
    assert_eq!(put(&mut world, 2, OWN, "seat 7", b"no, mine"), Some(Code::INSERT_ERROR.0));
    assert_eq!(get(&mut world, 8, OWN, "seat 7").as_deref(), Some("mine"));
}

#[test]
fn what_has_its_owners_place_is_called_by_the_owners_key_and_found_by_it() {
    let mut world = World::with(COUNT, |_, config| {
        let mut kinds = KindRule::today();
        kinds.insert(KindRule::new(OWN, Policy::OwnPlace));
        config.charter = Some(charter(OverlayDocument { kinds, ..first() }));
    });
    world.run(Duration::from_secs(60));
    let (own, others) = (peer_key(1).to_string(), peer_key(2).to_string());
    assert_eq!(put(&mut world, 1, OWN, &own, b"what I say of myself"), None);
    assert_eq!(put(&mut world, 1, OWN, &others, b"of another"), Some(Code::FORBIDDEN.0));
    assert_eq!(put(&mut world, 1, OWN, "motd", b"of nobody"), Some(Code::BAD_REQUEST.0));
    assert_eq!(get(&mut world, 8, OWN, &own).as_deref(), Some("what I say of myself"));
}

#[test]
fn who_comes_second_to_a_place_of_the_first_owner_is_told_so_also_where_holders_have_lost_the_first() {
    let mut world = seats();
    for seat in ["seat 1", "seat 2", "seat 3"] {
        assert_eq!(put(&mut world, 1, OWN, seat, b"mine"), None);
        // Holders that begin anew hold nothing yet: most would take anybody's.
        let firsts = |o: &node::report::ObjectRow| o.value_bytes == Some(4);
        let holds = |n: &usize| world.nodes[*n].objects(world.now).iter().any(firsts);
        let holders: Vec<usize> = (2..COUNT).filter(holds).collect();
        holders.into_iter().take(3).for_each(|n| world.restart_with(n, Saved::default(), by_seats));
        world.run(Duration::from_secs(5));
        assert_eq!(put(&mut world, 11, OWN, seat, b"no, mine"), Some(Code::INSERT_ERROR.0), "{seat}");
        for seeker in [0, 8] {
            assert_eq!(get(&mut world, seeker, OWN, seat).as_deref(), Some("mine"), "{seat}");
        }
    }
}

#[test]
fn of_two_who_ask_for_a_place_at_once_no_two_are_told_that_they_have_it() {
    let mut world = seats();
    for n in 0..8 {
        let seat = format!("seat {n}");
        let ops = [1, 2].map(|by| (by, world.nodes[by].put_of(world.now, OWN, &seat, &[by as u8], None)));
        ops.iter().for_each(|(by, _)| world.collect(*by));
        let told = ops.map(|(by, op)| matches!(world.wait(by, op), Outcome::Stored { .. }));
        assert!(told != [true, true], "{seat}");
    }
}

#[test]
fn a_value_that_a_document_leaves_no_place_waits_over_a_restart_for_one_that_does() {
    let mut world = world();
    assert_eq!(put(&mut world, 1, Kind::DATA, "motd", b"patience"), None);
    let mut kinds = KindRule::today();
    kinds.retain(|rule| rule.kind != Kind::DATA);
    kinds.insert(KindRule::new(Kind::DATA, Policy::Nobody));
    give(&mut world, OverlayDocument { sequence: 2, kinds: kinds.clone(), ..first() });
    world.run(Duration::from_secs(900));
    let saved = world.nodes[1].save();
    assert_eq!(saved.values.len(), 1);
    let second = OverlayDocument { sequence: 2, kinds, ..first() };
    world.restart_with(1, saved, |_, config| config.charter = Some(charter(second.clone())));
    world.run(Duration::from_secs(60));
    assert_eq!(world.nodes[1].save().values.len(), 1, "it was not forgotten");
    give(&mut world, OverlayDocument { sequence: 3, ..first() });
    world.run(Duration::from_secs(60));
    assert_eq!(get(&mut world, 8, Kind::DATA, "motd").as_deref(), Some("patience"));
}
