//! A name of a domain is worth what its domain says of it, where the owner of the peer wants it asked.

mod world;

use std::time::Duration;

use node::report::{MessageReport, PinRow, RecordReport};
use node::{CallOptions, DomainProof, Event, Level, LookupOptions, OpId, Outcome, Saved, User};
use wire::domain::{Way, Word};
use wire::{KeyPair, PublicKey, Seed};
use world::World;

/// Who asks, whose name it is, and who takes it.
const FRIEND: usize = 1;
const OWNER: usize = 5;
const THIEF: usize = 6;
const NAME: &str = "alice@camp.example";

/// Records of this world end so soon, and a domain's word before that.
const LIFETIME: Duration = Duration::from_secs(400);

fn keys(n: usize) -> KeyPair {
    KeyPair::from_seed(Seed::from_number(9_500 + n as u64))
}

fn proof(n: usize) -> Word {
    Word::Key(keys(n).public(), Way::Dns)
}

/// Eight peers, of which those said have the name.
fn world_of(choice: DomainProof, holders: &[usize]) -> World {
    let mut world = World::with(8, |_, config| {
        config.domain_proof = choice;
        config.numbers = true;
        config.record_lifetime = LIFETIME;
        config.refresh_interval = LIFETIME / 3;
    });
    world.run(Duration::from_secs(5));
    for n in holders {
        take_name(&mut world, *n);
    }
    world
}

fn take_name(world: &mut World, n: usize) {
    world.nodes[n].add_user(world.now, User { aor: NAME.into(), keys: keys(n) });
    world.collect(n);
    world.run(Duration::from_secs(5));
}

/// The owner's peer falls, the record ends, and somebody else publishes the name.
fn steal(world: &mut World) {
    world.dead.insert(OWNER);
    world.run(LIFETIME * 2);
    take_name(world, THIEF);
}

fn start(world: &mut World, text: &str) -> OpId {
    let op = world.nodes[FRIEND].message(world.now, "user1@test", NAME, text);
    world.collect(FRIEND);
    op
}

fn end(world: &mut World, op: OpId) -> MessageReport {
    match world.wait(FRIEND, op) {
        Outcome::Message(report) => report,
        other => panic!("{other:?}"),
    }
}

fn greet(world: &mut World, text: &str) -> MessageReport {
    let op = start(world, text);
    end(world, op)
}

fn texts(world: &World, at: usize) -> Vec<&str> {
    world.nodes[at].inbox().map(|message| message.text.as_str()).collect()
}

fn pin(world: &World) -> Option<PinRow> {
    world.nodes[FRIEND].pins().into_iter().find(|pin| pin.name == NAME)
}

fn pinned(world: &World) -> Option<PublicKey> {
    pin(world)?.key?.parse().ok()
}

fn looked_up(world: &mut World) -> (Option<RecordReport>, Option<String>) {
    let op = world.nodes[FRIEND].lookup_user(world.now, NAME, LookupOptions::default());
    match world.wait(FRIEND, op) {
        Outcome::Lookup(report) => (report.record, report.refused),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_the_domain_names_is_reached_pinned_as_proven_and_shown_so() {
    let mut world = world_of(DomainProof::WhenFound, &[OWNER]);
    world.domains.insert(NAME.into(), proof(OWNER));
    assert_eq!(greet(&mut world, "hello").state, "delivered");
    assert_eq!(texts(&world, OWNER), ["hello"]);
    assert_eq!(pin(&world).unwrap().proven_by.as_deref(), Some("dns"));
    assert_eq!(looked_up(&mut world).0.unwrap().domain_proof.as_deref(), Some("dns"));
    assert_eq!(world.asked, [(FRIEND, NAME.to_owned())], "once, by the caller alone");
    let saved = world.nodes[FRIEND].save();
    world.restart_with(FRIEND, saved, |_, _| {});
    assert_eq!(pin(&world).unwrap().proven_by.as_deref(), Some("dns"), "after a restart");
}

#[test]
fn a_thief_who_is_found_first_does_not_ring() {
    let mut world = world_of(DomainProof::WhenFound, &[OWNER]);
    world.domains.insert(NAME.into(), proof(OWNER));
    steal(&mut world);
    let refused = greet(&mut world, "our secret");
    assert_eq!((refused.state.as_str(), refused.status), ("failed", 480), "{}", refused.reason);
    let owners = keys(OWNER).public().to_string();
    assert!(refused.reason.contains(&owners[..16]), "{}", refused.reason);
    assert!(texts(&world, THIEF).is_empty() && pinned(&world).is_none());
    let (record, refused) = looked_up(&mut world);
    assert!(record.is_none() && refused.unwrap().contains("camp.example names the key"));
}

#[test]
fn the_owner_comes_back_and_is_reached_though_a_thief_has_the_name_by_now() {
    let mut world = world_of(DomainProof::WhenFound, &[OWNER]);
    world.domains.insert(NAME.into(), proof(OWNER));
    steal(&mut world);
    world.dead.remove(&OWNER);
    world.restart_with(OWNER, Saved::default(), |_, config| config.numbers = true);
    world.run(Duration::from_secs(5));
    take_name(&mut world, OWNER);
    assert_eq!(greet(&mut world, "there you are").state, "delivered");
    assert_eq!((texts(&world, OWNER), texts(&world, THIEF)), (vec!["there you are"], vec![]));
    assert_eq!(pinned(&world), Some(keys(OWNER).public()));
}

#[test]
fn a_record_that_was_found_waits_for_the_domain_and_another_is_sought_if_it_names_another_key() {
    let mut world = world_of(DomainProof::WhenFound, &[THIEF, OWNER]);
    world.domains_stall = true;
    let op = start(&mut world, "for alice alone");
    world.run(Duration::from_secs(1));
    assert!(texts(&world, THIEF).is_empty() && texts(&world, OWNER).is_empty(), "nobody yet");
    world.nodes[FRIEND].handle_domain_said(world.now, NAME, proof(OWNER), LIFETIME);
    let report = end(&mut world, op);
    assert!(texts(&world, THIEF).is_empty(), "{report:?}");
    assert_eq!(
        (report.state.as_str(), texts(&world, OWNER)),
        ("delivered", vec!["for alice alone"]),
        "{report:?}"
    );
}

#[test]
fn another_key_at_the_domain_than_the_pinned_one_is_refused_with_both_until_it_is_accepted() {
    let mut world = world_of(DomainProof::WhenFound, &[OWNER]);
    assert_eq!(greet(&mut world, "hello").state, "delivered");
    // The owner has a new key, or the domain was hijacked: a peer cannot tell which.
    world.domains.insert(NAME.into(), proof(THIEF));
    world.run(LIFETIME * 2);
    let op = world.nodes[FRIEND].call(world.now, "user1@test", NAME, CallOptions::default());
    let Outcome::Call(call) = world.wait(FRIEND, op) else { panic!("another outcome") };
    assert_eq!(call.failure.unwrap().cause, "key_changed");
    let refused = greet(&mut world, "is it you?");
    assert_eq!((refused.state.as_str(), refused.status), ("failed", 438));
    let [old, new] = [OWNER, THIEF].map(|n| keys(n).public().to_string());
    let accept = format!("openvoip pins accept {NAME} {}", &new[..16]);
    for part in [&old[..16], &new[..16], "says camp.example by dns", &accept] {
        assert!(refused.reason.contains(part), "{part} is not in {}", refused.reason);
    }
    assert_eq!(pinned(&world), Some(keys(OWNER).public()), "never over a pin in silence");
    world.nodes[FRIEND].accept_pin(NAME, "").unwrap();
    assert_eq!(pinned(&world), Some(keys(THIEF).public()));
    take_name(&mut world, THIEF);
    assert_eq!(greet(&mut world, "so it is you").state, "delivered");
    assert_eq!((texts(&world, OWNER), texts(&world, THIEF)), (vec!["hello"], vec!["so it is you"]));
}

#[test]
fn a_silent_domain_changes_nothing_where_proofs_count_when_found_and_refuses_where_they_are_required() {
    for word in [Word::Nothing, Word::Silent] {
        let mut world = world_of(DomainProof::WhenFound, &[OWNER]);
        world.domains.insert(NAME.into(), word);
        assert_eq!(greet(&mut world, "hello").state, "delivered");
        assert_eq!(pin(&world).unwrap().proven_by, None);
        assert_eq!(looked_up(&mut world).0.unwrap().domain_proof.as_deref(), Some("unproven"));
        let mut world = world_of(DomainProof::Required, &[OWNER]);
        world.domains.insert(NAME.into(), word);
        let refused = greet(&mut world, "hello");
        assert_eq!((refused.state.as_str(), refused.status), ("failed", 436));
        assert!(refused.reason.contains("names.domain_proof is \"required\" here"), "{}", refused.reason);
        assert!(texts(&world, OWNER).is_empty());
    }
}

#[test]
fn where_proofs_are_required_a_domain_that_cannot_be_reached_keeps_nobody_from_whom_it_proved_before() {
    let mut world = world_of(DomainProof::Required, &[OWNER]);
    world.domains.insert(NAME.into(), proof(OWNER));
    assert_eq!(greet(&mut world, "hello").state, "delivered");
    world.run(LIFETIME);
    world.domains.insert(NAME.into(), Word::Silent);
    assert_eq!(greet(&mut world, "the line is down").state, "delivered");
    world.run(LIFETIME);
    world.domains.insert(NAME.into(), Word::Nothing);
    assert_eq!(greet(&mut world, "and now?").status, 436, "what it takes back is proven no more");
    world.nodes[FRIEND].accept_pin(NAME, "").unwrap();
    assert_eq!(greet(&mut world, "I know you").state, "delivered", "a person has checked it");
}

#[test]
fn who_silences_a_domain_brings_back_nothing_that_it_took_back() {
    // Whose key it names then, and what becomes of a call while nothing is heard.
    let taken_back = [
        (DomainProof::Required, Word::Nothing, 436),
        (DomainProof::Required, Word::Nobody, 436),
        (DomainProof::WhenFound, Word::Nobody, 436),
        (DomainProof::WhenFound, proof(THIEF), 438),
        (DomainProof::Required, proof(THIEF), 438),
    ];
    for (choice, word, status) in taken_back {
        let mut world = world_of(choice, &[OWNER]);
        world.domains.insert(NAME.into(), proof(OWNER));
        assert_eq!(greet(&mut world, "hello").state, "delivered");
        world.run(LIFETIME);
        world.domains.insert(NAME.into(), word);
        assert_eq!(greet(&mut world, "and now?").status, status, "{word:?}");
        world.domains.insert(NAME.into(), Word::Silent);
        world.run(LIFETIME * 2);
        assert_eq!(greet(&mut world, "nobody hears the domain").status, status, "{choice} {word:?}");
        let saved = world.nodes[FRIEND].save();
        world.restart_with(FRIEND, saved, |_, config| config.domain_proof = choice);
        world.run(Duration::from_secs(5));
        assert_eq!(greet(&mut world, "after a restart").status, status, "{choice} {word:?}");
        assert_eq!(texts(&world, OWNER), ["hello"], "{choice} {word:?}");
        world.domains.insert(NAME.into(), proof(OWNER));
        world.run(LIFETIME * 2);
        assert_eq!(greet(&mut world, "it is well again").state, "delivered", "{choice} {word:?}");
    }
}

#[test]
fn a_person_who_checked_the_known_key_goes_on_while_the_domain_that_names_another_is_silent() {
    let mut world = world_of(DomainProof::Required, &[OWNER]);
    world.domains.insert(NAME.into(), proof(OWNER));
    assert_eq!(greet(&mut world, "hello").state, "delivered");
    world.run(LIFETIME);
    world.domains.insert(NAME.into(), proof(THIEF));
    assert_eq!(greet(&mut world, "is it you?").status, 438);
    world.nodes[FRIEND].accept_pin(NAME, &keys(OWNER).public().to_string()).unwrap();
    assert_eq!(
        greet(&mut world, "still?").status,
        438,
        "what is remembered of the domain counts as long as it is"
    );
    world.domains.insert(NAME.into(), Word::Silent);
    world.run(LIFETIME * 2);
    assert_eq!(greet(&mut world, "I asked you").state, "delivered");
}

#[test]
fn a_domain_that_says_it_has_no_such_user_is_believed_unless_a_person_knows_better() {
    let mut world = world_of(DomainProof::WhenFound, &[OWNER]);
    world.domains.insert(NAME.into(), Word::Nobody);
    let refused = greet(&mut world, "hello");
    assert_eq!(refused.reason, "436 camp.example says that it has no such user");
    assert!(texts(&world, OWNER).is_empty() && pin(&world).is_none());
    assert_eq!(looked_up(&mut world).0.unwrap().domain_proof.as_deref(), Some("nobody"));

    let mut world = world_of(DomainProof::WhenFound, &[OWNER]);
    assert_eq!(greet(&mut world, "hello").state, "delivered");
    world.run(LIFETIME * 2);
    world.domains.insert(NAME.into(), Word::Nobody);
    let refused = greet(&mut world, "are you still there?");
    let known = format!("openvoip pins accept {NAME} {}", &keys(OWNER).public().to_string()[..16]);
    assert!(refused.status == 436 && refused.reason.ends_with(&known), "{}", refused.reason);
    world.nodes[FRIEND].accept_pin(NAME, "").unwrap();
    assert_eq!(greet(&mut world, "I know you").state, "delivered");
}

#[test]
fn who_calls_waits_three_seconds_for_a_domain_and_what_it_says_later_counts_the_next_time() {
    let mut world = world_of(DomainProof::WhenFound, &[OWNER]);
    world.domains_stall = true;
    let before = world.now;
    let op = start(&mut world, "hello");
    world.run(Duration::from_millis(2_900));
    assert!(texts(&world, OWNER).is_empty());
    assert_eq!(end(&mut world, op).state, "delivered");
    assert!(world.now.since(before) < Duration::from_secs(4));
    world.nodes[FRIEND].handle_domain_said(world.now, NAME, proof(THIEF), LIFETIME);
    world.collect(FRIEND);
    assert_eq!(greet(&mut world, "again").status, 438);

    let mut world = world_of(DomainProof::Required, &[OWNER]);
    world.domains_stall = true;
    assert_eq!(greet(&mut world, "hello").status, 436);
    let (record, _) = looked_up(&mut world);
    assert_eq!(record.unwrap().domain_proof.as_deref(), Some("unproven"), "a look-up waits no longer either");
}

#[test]
fn the_owner_sees_what_the_domain_says_once_it_was_looked_up() {
    for (word, shown) in [(proof(OWNER), "dns"), (proof(THIEF), "other_key"), (Word::Nobody, "nobody")] {
        let mut world = world_of(DomainProof::WhenFound, &[OWNER]);
        world.domains.insert(NAME.into(), word);
        let seen = |world: &World| world.nodes[OWNER].status(world.now).users[1].domain_proof.clone();
        assert_eq!(seen(&world), None, "nobody asked");
        let op = world.nodes[OWNER].lookup_user(world.now, NAME, LookupOptions::default());
        world.wait(OWNER, op);
        assert_eq!(seen(&world).as_deref(), Some(shown));
    }
}

#[test]
fn nobody_is_asked_unless_the_owner_wants_it_and_only_where_a_domain_can_answer() {
    let mut world = world_of(DomainProof::Never, &[OWNER]);
    world.domains.insert(NAME.into(), proof(THIEF));
    assert_eq!(greet(&mut world, "hello").state, "delivered");
    assert_eq!(looked_up(&mut world).0.unwrap().domain_proof, None);
    assert_eq!(world.asked, []);

    let mut world = World::with(4, |_, config| {
        config.domain_proof = DomainProof::WhenFound;
        config.overlay.name = "camp.example".into();
    });
    world.run(Duration::from_secs(5));
    for name in ["user2@test", NAME, "alice@host.local", "alice@10.0.0.7"] {
        let op = world.nodes[FRIEND].message(world.now, "user1@test", name, "hello");
        end(&mut world, op);
    }
    assert_eq!(world.asked, [], "no domain, the overlay's own, and none that is in DNS");
}

#[test]
fn a_peer_that_is_told_nothing_asks_about_four_names_at_once_for_one_user_and_no_more() {
    let mut world = world_of(DomainProof::WhenFound, &[]);
    world.domains_stall = true;
    for n in 0..40 {
        world.nodes[FRIEND].message(world.now, "user1@test", &format!("u{n}@camp.example"), "hello");
        world.collect(FRIEND);
    }
    assert_eq!(world.asked.len(), 4);
    world.nodes[FRIEND].handle_domain_said(world.now, "stranger@camp.example", proof(THIEF), LIFETIME);
    world.collect(FRIEND);
    let op = world.nodes[FRIEND].message(world.now, "user1@test", "stranger@camp.example", "hello");
    end(&mut world, op);
    assert_eq!(world.asked.len(), 4, "and what it did not ask for it does not take");
}

#[test]
fn a_name_that_does_not_fit_into_dns_is_proven_by_nobody() {
    let mut world = world_of(DomainProof::Required, &[]);
    for name in [&format!("{}@camp.example", "x".repeat(64)), "älice@camp.example", "alice@camp.example."] {
        let op = world.nodes[FRIEND].message(world.now, "user1@test", name, "hello");
        assert_eq!(end(&mut world, op).status, 436, "{name}");
    }
    assert_eq!(world.asked, []);
}

#[test]
fn a_name_waits_its_turn_to_be_asked_about_and_who_waits_in_vain_is_told_why() {
    let mut world = world_of(DomainProof::Required, &[OWNER]);
    world.domains_stall = true;
    world.domains.insert(NAME.into(), proof(OWNER));
    let others: Vec<_> = (0..4).map(|n| format!("u{n}@hole.example")).collect();
    let flood = |world: &mut World| {
        for name in &others {
            world.nodes[FRIEND].message(world.now, "user1@test", name, "hello");
            world.collect(FRIEND);
        }
    };
    flood(&mut world);
    let op = start(&mut world, "after them");
    world.run(Duration::from_secs(1));
    assert_eq!(world.asked.len(), 4);
    world.domains_stall = false;
    world.nodes[FRIEND].handle_domain_said(world.now, &others[0], Word::Silent, LIFETIME);
    world.collect(FRIEND);
    assert_eq!(end(&mut world, op).state, "delivered");

    world.domains_stall = true;
    world.run(LIFETIME);
    flood(&mut world);
    let op = world.nodes[FRIEND].message(world.now, "user1@test", "bob@camp.example", "after them");
    world.collect(FRIEND);
    let refused = end(&mut world, op);
    assert!(refused.status == 436 && refused.reason.contains("too many names"), "{}", refused.reason);
    let warned = world.events[FRIEND].iter().any(|event| {
        matches!(event, Event::Log { level: Level::Warn, message, .. } if message.contains("bob@camp.example"))
    });
    assert!(warned);
}

#[test]
fn where_proofs_are_required_the_name_of_the_overlay_proves_nothing() {
    let mut world = World::with(4, |_, config| {
        config.domain_proof = DomainProof::Required;
        config.overlay.name = "camp.example".into();
    });
    world.run(Duration::from_secs(5));
    take_name(&mut world, 3);
    assert_eq!(greet(&mut world, "hello").status, 436);
    assert!(texts(&world, 3).is_empty());
    world.run(LIFETIME);
    world.domains.insert(NAME.into(), proof(3));
    world.run(LIFETIME);
    assert_eq!(greet(&mut world, "hello").state, "delivered");
}

#[test]
fn who_takes_over_the_name_of_an_overlay_asks_nobody_about_names_in_it() {
    let mut world = World::with(4, |n, config| {
        config.domain_proof = DomainProof::WhenFound;
        if n == 0 {
            config.overlay.name = "camp.example".into();
        }
    });
    world.run(Duration::from_secs(5));
    take_name(&mut world, 3);
    assert_eq!(greet(&mut world, "hello").state, "delivered");
    assert_eq!(world.asked, []);
}

#[test]
fn a_look_up_that_began_before_the_domain_spoke_shows_that_it_names_another_key() {
    let mut world = world_of(DomainProof::WhenFound, &[THIEF]);
    world.domains_stall = true;
    let ops: Vec<OpId> =
        (0..8).map(|n| world.nodes[n].lookup_user(world.now, NAME, LookupOptions::default())).collect();
    world.run(Duration::from_millis(3_001));
    // Who does not hold the record searches now.
    let is_done =
        |n: usize| world.events[n].iter().any(|e| matches!(e, Event::Done { op, .. } if *op == ops[n]));
    let searches = (0..8).find(|n| !is_done(*n)).expect("records are not held by all");
    world.nodes[searches].handle_domain_said(world.now, NAME, proof(OWNER), LIFETIME);
    let Outcome::Lookup(report) = world.wait(searches, ops[searches]) else { panic!("another outcome") };
    let record = report.record.unwrap();
    assert_eq!(record.owner, keys(THIEF).public().to_string());
    assert_eq!(record.domain_proof.as_deref(), Some("other_key"));
}

#[test]
fn who_is_merely_off_is_said_to_be_so_though_no_number_could_be_worked_out() {
    let mut world = world_of(DomainProof::WhenFound, &[]);
    world.domains.insert(NAME.into(), proof(OWNER));
    world.stalled = true;
    let refused = greet(&mut world, "hello");
    assert_eq!(refused.status, 480, "{}", refused.reason);
    assert!(refused.reason.contains("camp.example names the key"), "{}", refused.reason);
}
