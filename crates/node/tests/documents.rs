//! The overlay's document goes from peer to peer, and what it bans is shut out.

mod world;

use std::time::Duration;

use node::{Charter, Config, Event, LookupOptions, Outcome, OverlayOption, Profile, Saved};
use wire::OverlayDocument;
use wire::document::MAX_REVOKED;
use wire::p2pp::{Class, Message, MessageType};
use world::charter::{charter, document, founder, pair, peer_key, signed_by};
use world::{World, address};

const COUNT: usize = 12;

/// Lets a peer start with the first document.
fn given(profile: Profile) -> impl Fn(usize, &mut Config) {
    move |_, config| {
        config.profile = profile;
        config.charter = Some(charter(document(1, profile)));
    }
}

fn lived_by(profile: Profile) -> World {
    let mut world = World::with(COUNT, given(profile));
    world.run(Duration::from_secs(60));
    world
}

/// The sequence that each peer holds.
fn held(world: &World) -> Vec<Option<u64>> {
    world.nodes.iter().map(|n| n.documents().map(|chain| chain.newest().document.sequence)).collect()
}

fn finds(world: &mut World, seeker: usize, sought: usize) -> bool {
    let name = format!("user{sought}@test");
    let op = world.nodes[seeker].lookup_user(world.now, &name, LookupOptions::default());
    let Outcome::Lookup(report) = world.wait(seeker, op) else { panic!("not a lookup") };
    report.found
}

/// Gives the next document to one peer, and waits until it is known.
fn give(world: &mut World, to: usize, next: OverlayDocument) {
    let now = world.now;
    world.nodes[to].give_document(now, &signed_by(7, next)).unwrap();
    world.collect(to);
    world.run(Duration::from_secs(10));
}

#[test]
fn a_document_that_one_peer_is_given_reaches_all_in_every_profile_within_seconds() {
    for profile in [Profile::Secure, Profile::Signed, Profile::Open] {
        let mut world = lived_by(profile);
        assert_eq!(held(&world), [Some(1); COUNT], "{profile}");
        give(&mut world, 5, document(2, profile));
        assert_eq!(held(&world), [Some(2); COUNT], "{profile}");
        for events in &world.events {
            let kept = events.iter().filter(|e| matches!(e, Event::Document(_))).count();
            assert_eq!(kept, 1, "{profile}: each keeps it once");
        }
    }
}

#[test]
fn whoever_comes_by_ticket_gets_the_document_from_those_it_meets() {
    let mut world = lived_by(Profile::Secure);
    world.grow_with(1, |_, config| {
        config.profile = Profile::Secure;
        config.charter = Some(Charter { founder: founder(), documents: None }.into());
    });
    world.grow_with(1, |_, config| config.profile = Profile::Secure);
    world.run(Duration::from_secs(60));
    assert_eq!(held(&world)[COUNT], Some(1));
    assert_eq!(held(&world)[COUNT + 1], None, "who was told no founder key believes nobody");
}

#[test]
fn the_longest_document_travels_in_parts_also_to_who_comes_back_after_it() {
    let mut world = lived_by(Profile::Secure);
    let now = world.now;
    world.nodes[3].leave(now);
    world.collect(3);
    world.run(Duration::from_secs(2));
    world.dead.insert(3);
    let revoked = (0..MAX_REVOKED as u64).map(|n| pair(100_000 + n).public()).collect();
    give(&mut world, 5, OverlayDocument { revoked, ..document(9, Profile::Secure) });
    world.dead.remove(&3);
    world.restart_with(3, Saved::default(), given(Profile::Secure));
    world.run(Duration::from_secs(60));
    assert_eq!(held(&world), [Some(9); COUNT]);
}

#[test]
fn a_document_that_the_founder_did_not_sign_convinces_nobody_and_its_bearer_is_asked_once() {
    const LIAR: usize = 4;
    let forged = |n: u64| {
        let own = OverlayDocument { founder: pair(n).public(), ..document(50, Profile::Open) };
        Charter { founder: pair(n).public(), documents: Some(signed_by(n, own)) }
    };
    let mut world = World::with(1, given(Profile::Open));
    world.tap = Some(Vec::new());
    world.grow_with(COUNT - 1, |n, config| {
        config.charter = Some(if n == LIAR { forged(8).into() } else { charter(document(1, Profile::Open)) });
    });
    world.run(Duration::from_secs(300));
    let expected: Vec<_> = (0..COUNT).map(|n| Some(if n == LIAR { 50 } else { 1 })).collect();
    assert_eq!(held(&world), expected);
    let asked = world.tap.take().unwrap();
    let asked = asked.iter().filter_map(|bytes| Message::parse(bytes).ok());
    let asked =
        asked.filter(|m| m.header.message == MessageType::GetDocument && m.header.class == Class::Request);
    let asked = asked.count();
    assert!((1..=2 * COUNT).contains(&asked), "{asked}");
    // Nor does the document of somebody whom nobody named an operator.
    let now = world.now;
    let refused = world.nodes[0].give_document(now, &signed_by(8, document(2, Profile::Open))).unwrap_err();
    assert!(refused.contains("neither the founder key nor an operator"), "{refused}");
}

#[test]
fn an_older_document_takes_nobody_back() {
    let mut world = lived_by(Profile::Secure);
    give(&mut world, 5, document(3, Profile::Secure));
    let now = world.now;
    let refused = world.nodes[1].give_document(now, &signed_by(7, document(2, Profile::Secure))).unwrap_err();
    assert!(refused.contains("sequence 3 is held already"), "{refused}");
    // Who missed a document and comes back with the old one is brought up to date, and brings nobody down.
    world.restart_with(2, Saved::default(), given(Profile::Secure));
    world.run(Duration::from_secs(60));
    assert_eq!(held(&world), [Some(3); COUNT]);
}

#[test]
fn who_is_banned_is_in_no_table_keeps_nothing_anywhere_and_is_told_why_it_cannot_join() {
    const BANNED: usize = 4;
    for profile in [Profile::Secure, Profile::Open] {
        let mut world = lived_by(profile);
        let op = world.nodes[BANNED].put(world.now, "motd", b"mine", None);
        assert!(matches!(world.wait(BANNED, op), Outcome::Stored { .. }));
        let revoked = [peer_key(BANNED)].into();
        give(&mut world, 5, OverlayDocument { revoked, ..document(2, profile) });
        world.run(Duration::from_secs(60));
        for n in (0..COUNT).filter(|n| *n != BANNED) {
            let rows = world.nodes[n].routes(world.now);
            assert!(rows.iter().all(|row| row.address != address(BANNED).to_string()), "{profile}: {n}");
        }
        let op = world.nodes[1].get(world.now, "motd");
        let Outcome::Value(value) = world.wait(1, op) else { panic!("no answer") };
        assert!(!value.found, "{profile}");
        for sought in (0..COUNT).filter(|n| *n != BANNED) {
            let seeker = if sought == 0 { 1 } else { 0 };
            assert!(finds(&mut world, seeker, sought), "{profile}: {sought}");
        }
        let from = format!("user{BANNED}@test");
        let op = world.nodes[BANNED].message(world.now, &from, "user1@test", "hello");
        assert!(matches!(world.wait(BANNED, op), Outcome::Message(report) if report.state == "failed"));
        assert_eq!(world.nodes[1].inbox().count(), 0, "{profile}");
        world.events[BANNED].clear();
        world.restart_with(BANNED, Saved::default(), given(profile));
        world.run(Duration::from_secs(60));
        assert!(!world.nodes[BANNED].is_online(), "{profile}");
        let why = |e: &Event| matches!(e, Event::Offline { reason } if reason.contains("bans"));
        assert!(world.events[BANNED].iter().any(why), "{profile}: {:?}", world.events[BANNED]);
    }
}

#[test]
fn options_that_need_no_other_place_hold_at_once_and_who_comes_back_with_the_old_ones_learns_them_first() {
    let mut world = lived_by(Profile::Secure);
    give(&mut world, 5, OverlayDocument { replicas: 3, ..document(2, Profile::Secure) });
    assert_eq!(held(&world), [Some(2); COUNT]);
    let insists = |n: usize, config: &mut Config| {
        given(Profile::Secure)(n, config);
        config.insist = OverlayOption::ALL.to_vec();
    };
    world.restart_with(3, Saved::default(), insists);
    world.run(Duration::from_secs(60));
    assert!(world.nodes[3].is_online(), "{:?}", world.events[3]);
    assert_eq!(held(&world)[3], Some(2));
    let op = world.nodes[3].put(world.now, "motd", b"hello", None);
    let Outcome::Stored { holders, .. } = world.wait(3, op) else { panic!("not stored") };
    assert_eq!(holders, 3);
}
