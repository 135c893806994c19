//! Records are where they belong, in the version that counts, for as long as somebody cares for them.

mod world;

use std::time::Duration;

use node::{LookupOptions, Outcome};
use wire::HashAlgorithm;
use world::World;

/// The sequence of a user's record, as this peer finds it.
fn sequence(world: &mut World, seeker: usize, user: &str) -> u64 {
    let options = LookupOptions { fresh: true, ..LookupOptions::default() };
    let op = world.nodes[seeker].lookup_user(world.now, user, options);
    match world.wait(seeker, op) {
        Outcome::Lookup(report) => report.record.expect("it is published").sequence,
        other => panic!("{other:?}"),
    }
}

fn value(world: &mut World, seeker: usize, key: &str) -> Option<String> {
    let op = world.nodes[seeker].get(world.now, key);
    match world.wait(seeker, op) {
        Outcome::Value(value) => value.value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peer_that_starts_again_with_the_same_to_say_says_it_with_the_record_it_finds() {
    let mut world = World::new(12);
    world.run(Duration::from_secs(60));
    let before = sequence(&mut world, 3, "user8@test");
    world.restart(8);
    world.run(Duration::from_secs(30));
    assert!(world.nodes[8].is_online());
    assert_eq!(sequence(&mut world, 3, "user8@test"), before);
}

#[test]
fn a_new_version_is_found_by_all_though_those_who_held_the_old_one_are_many() {
    let mut world = World::new(8);
    let store = |world: &mut World, text: &[u8]| {
        let op = world.nodes[2].put(world.now, "weather", text, None);
        assert!(matches!(world.wait(2, op), Outcome::Stored { .. }));
    };
    world.run(Duration::from_secs(5));
    store(&mut world, b"rain");
    // The place changes hands, and the first holders keep their copies.
    world.grow(40);
    world.run(Duration::from_secs(300));
    store(&mut world, b"sun");
    world.run(Duration::from_secs(60));
    for seeker in 0..48 {
        assert_eq!(value(&mut world, seeker, "weather").as_deref(), Some("sun"), "{seeker}");
    }
}

#[test]
fn a_peer_whose_calendar_went_back_outdoes_what_it_wrote_before_within_two_seconds() {
    let mut world = World::new(12);
    let store = |world: &mut World, text: &[u8]| {
        let op = world.nodes[2].put(world.now, "weather", text, None);
        world.wait(2, op)
    };
    world.run(Duration::from_secs(10));
    assert!(matches!(store(&mut world, b"rain"), Outcome::Stored { .. }));
    // It starts again without a battery for its clock, as if it were 1970.
    world.epoch = 0;
    world.restart(2);
    world.run(Duration::from_secs(10));
    store(&mut world, b"sun");
    world.run(Duration::from_secs(2));
    for seeker in 0..12 {
        assert_eq!(value(&mut world, seeker, "weather").as_deref(), Some("sun"), "{seeker}");
    }
}

#[test]
fn the_record_of_a_peer_that_is_gone_for_good_ends_though_its_holders_come_and_go() {
    let mut world = World::new(16);
    world.run(Duration::from_secs(30));
    world.dead.insert(5);
    // Sessions of two minutes: the holders pass everything on, again and again.
    for gone in 6..14 {
        world.run(Duration::from_secs(120));
        world.dead.insert(gone);
        world.grow(1);
    }
    world.run(Duration::from_secs(2_400));
    let options = LookupOptions { fresh: true, ..LookupOptions::default() };
    let op = world.nodes[1].lookup_user(world.now, "user5@test", options);
    match world.wait(1, op) {
        Outcome::Lookup(report) => assert!(!report.found, "{report:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_seeks_a_record_whose_holders_fell_together_makes_its_owner_place_it_anew() {
    for owner in [7, 23, 40] {
        let mut world = World::new(64);
        world.closed_ports = true;
        world.run(Duration::from_secs(120));
        let user = format!("user{owner}@test");
        let place = node::directory::place_of_user(HashAlgorithm::Sha256, &user);
        let distance = |n: &usize| world.nodes[*n].node_id().expect("it joined").key().xor(&place.0);
        let mut others: Vec<usize> = (0..64).filter(|n| *n != owner).collect();
        others.sort_by_key(|n| (!world.nodes[*n].holds(&place), distance(n)));
        let (gone, left) = others.split_at(16);
        assert!(left.iter().all(|n| !world.nodes[*n].holds(&place)));
        world.dead.extend(gone.iter().copied());
        let op = world.nodes[left[0]].lookup_user(world.now, &user, LookupOptions::default());
        match world.wait(left[0], op) {
            Outcome::Lookup(report) => assert!(report.found, "{user}: {report:?}"),
            other => panic!("{other:?}"),
        }
    }
}
