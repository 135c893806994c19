//! Strangers are reached by their numbers and keys, and nobody is in their place.

mod world;

use std::time::Duration;

use node::report::{CallReport, MessageReport};
use node::storage::{Claim, Devices};
use node::{CallOptions, Event, Level, LookupOptions, Outcome, User};
use sip::ua::g711_sdp;
use wire::p2pp::{Builder, Header, Kind, MessageType, Object, Record, TransactionId};
use wire::{HashAlgorithm, KeyPair, Number, PublicKey, Seed, Socket, Stretch, UnixTime};
use world::phone::{Phone, run};
use world::{World, address, stand_in};

/// Who dials, and whose number it is.
const CALLER: usize = 1;
const STRANGER: usize = 5;
/// Whose peer does not do as it should.
const LIAR: usize = 6;

fn keys(n: usize) -> KeyPair {
    KeyPair::from_seed(Seed::from_number(9_000 + n as u64))
}

fn number(n: usize) -> Number {
    let key = keys(n).public();
    Number::of(&key, &stand_in(&key))
}

/// Eight peers in an overlay where numbers are dialled.
fn ready_with(change: impl Fn(&mut World)) -> World {
    let mut world = World::with(1, |_, config| config.numbers = true);
    change(&mut world);
    world.grow_with(7, |_, config| config.numbers = true);
    world.run(Duration::from_secs(10));
    world.worked_out.clear();
    world
}

fn ready() -> World {
    ready_with(|_| {})
}

fn write(world: &mut World, to: &str) -> MessageReport {
    let op = world.nodes[CALLER].message(world.now, "user1@test", to, "hello");
    match world.wait(CALLER, op) {
        Outcome::Message(report) => report,
        other => panic!("{other:?}"),
    }
}

fn call(world: &mut World, to: &str) -> CallReport {
    let op = world.nodes[CALLER].call(world.now, "user1@test", to, CallOptions::default());
    match world.wait(CALLER, op) {
        Outcome::Call(report) => report,
        other => panic!("{other:?}"),
    }
}

fn pin(world: &World, name: &str) -> Option<PublicKey> {
    let row = world.nodes[CALLER].pins().into_iter().find(|pin| pin.name == name)?;
    row.key?.parse().ok()
}

#[test]
fn a_phone_dials_the_number_of_a_stranger_and_they_hear_each_other() {
    let mut world = ready();
    let mut phones = [Phone::new(&mut world, CALLER, 440.0), Phone::new(&mut world, STRANGER, 1_000.0)];
    run(&mut world, &mut phones, Duration::from_secs(1));
    let offer = g711_sdp(phones[0].media_address());
    phones[0].ua.invite(world.now, &number(STRANGER).digits(), offer);
    run(&mut world, &mut phones, Duration::from_secs(4));
    assert!(phones[1].heard(440.0) && phones[0].heard(1_000.0));
    let at_theirs = world.nodes[STRANGER].calls(world.now).pop().unwrap();
    assert_eq!((at_theirs.to.as_str(), at_theirs.state.as_str()), ("user5@test", "established"));
}

#[test]
fn a_number_is_pinned_and_its_key_worked_out_only_the_first_time() {
    let mut world = ready();
    let digits = number(STRANGER).digits();
    for to in [digits.clone(), number(STRANGER).to_string()] {
        assert_eq!(write(&mut world, &to).state, "delivered", "{to}");
    }
    assert_eq!(world.worked_out, [(CALLER, keys(STRANGER).public())]);
    assert_eq!(pin(&world, &format!("{digits}@test")), Some(keys(STRANGER).public()));
    assert_eq!(world.nodes[STRANGER].inbox().count(), 2);
    let op = world.nodes[CALLER].lookup_user(world.now, &digits, LookupOptions::default());
    let Outcome::Lookup(found) = world.wait(CALLER, op) else { panic!("another outcome") };
    assert_eq!(found.record.map(|record| record.owner), Some(keys(STRANGER).public().to_string()));
}

/// A phone adds the domain of its own user, and a list of pins shows one.
#[test]
fn a_number_means_the_same_in_whatever_domain_it_is_dialled() {
    let mut world = ready();
    let digits = number(STRANGER).digits();
    let squatter = User { aor: format!("{digits}@camp.example"), keys: keys(77) };
    world.nodes[LIAR].add_user(world.now, squatter);
    world.collect(LIAR);
    world.run(Duration::from_secs(5));
    assert_eq!(write(&mut world, &format!("{digits}@camp.example")).state, "delivered");
    assert_eq!(world.nodes[STRANGER].inbox().count(), 1);
    assert_eq!(pin(&world, &format!("{digits}@test")), Some(keys(STRANGER).public()));
    let wrong = format!("{}@camp.example", digits.replacen("89", "88", 1));
    assert_eq!(call(&mut world, &wrong).status, 484);
    let named = format!("{digits}@camp.example");
    let op = world.nodes[CALLER].lookup_user(world.now, &named, LookupOptions::default());
    let Outcome::Lookup(found) = world.wait(CALLER, op) else { panic!("another outcome") };
    assert_eq!(found.record.map(|record| record.owner), Some(keys(STRANGER).public().to_string()));
    assert!(world.nodes[CALLER].forget_pin(&named));
}

#[test]
fn a_peer_of_many_users_publishes_every_name_and_every_number() {
    let mut world = World::with(1, |_, config| config.numbers = true);
    let users: Vec<usize> = (100..250).collect();
    for n in &users {
        let user = User { aor: format!("user{n}@test"), keys: keys(*n) };
        world.nodes[0].add_user(world.now, user);
        world.collect(0);
    }
    world.run(Duration::from_secs(60));
    let published = world.nodes[0].status(world.now).users.iter().filter(|u| u.state == "published").count();
    assert_eq!(published, users.len() + 1);
    assert!(users.iter().all(|n| world.nodes[0].holds(&number(*n).place(HashAlgorithm::Sha256))));
}

#[test]
fn a_whole_key_is_dialled_as_a_name() {
    let mut world = ready();
    let key = keys(STRANGER).public();
    assert_eq!(write(&mut world, &key.to_string()).state, "delivered");
    assert_eq!(pin(&world, &format!("{key}@test")), Some(key));
    let nobodys = KeyPair::from_seed(Seed::from_number(77)).public().to_string();
    let report = call(&mut world, &nobodys);
    assert_eq!((report.status, report.failure.unwrap().cause.as_str()), (404, "not_found"));
}

#[test]
fn a_mistyped_number_is_told_at_once_and_nobody_is_asked() {
    let mut world = ready();
    let digits = number(STRANGER).digits();
    let last = digits.chars().last().unwrap().to_digit(10).unwrap();
    let wrong = format!("{}{}", &digits[..14], (last + 1) % 10);
    for (to, why) in [(wrong.as_str(), "a digit of this number is wrong"), (&digits[..14], "has 15 digits")] {
        let before = (world.now, world.sent[CALLER]);
        let report = call(&mut world, to);
        let failure = report.failure.unwrap();
        assert_eq!((report.status, failure.cause.as_str()), (484, "mistyped"), "{to}");
        assert!(failure.evidence.contains(why) && !failure.next_step.is_empty(), "{failure:?}");
        assert_eq!((world.now, world.sent[CALLER]), before);
    }
}

#[test]
fn a_number_that_nobody_has_is_told_as_that() {
    let mut world = ready();
    let key = KeyPair::from_seed(Seed::from_number(77)).public();
    let report = call(&mut world, &Number::of(&key, &stand_in(&key)).digits());
    let failure = report.failure.unwrap();
    assert_eq!((report.status, failure.cause.as_str()), (404, "not_found"));
    assert!(failure.evidence.contains("Nobody here has that number"), "{failure:?}");
    assert!(world.worked_out.is_empty());
}

/// The cheap half fits, and everybody keeps the record: only who dials pays for the other half.
#[test]
fn a_key_that_says_it_costs_something_else_has_no_number() {
    let (key, lie) = (keys(LIAR).public(), Stretch([7; Stretch::LEN]));
    let mut world = ready_with(|world| world.costs.extend([((LIAR, key), Some(lie))]));
    let forged = Number::of(&key, &lie);
    let place = forged.place(HashAlgorithm::Sha256);
    assert!((0..8).any(|n| world.nodes[n].holds(&place)), "it is published");
    assert_eq!(call(&mut world, &forged.digits()).status, 404);
    assert_eq!(world.worked_out, [(CALLER, key)]);
    assert_eq!(world.nodes[LIAR].inbox().count(), 0);
}

/// Two keys, and the 128 bits with which each makes the same number.
const TWINS: [([u8; 32], u128); 2] = [([1; 32], 1_395_526), ([2; 32], 87_430)];

/// A world where the first of the twins is a user of the stranger's peer, and the second only says that it costs so
/// much, to the peer that stands nearest to the number. Who dials stands farthest from it; the nearest is told the
/// truth or not.
fn with_a_forgery(nearest_knows_better: bool) -> (World, usize, Number) {
    let [(owner, cost), (forger, lie)] =
        TWINS.map(|(seed, n)| (KeyPair::from_seed(Seed(seed)), Stretch(n.to_be_bytes())));
    let number = Number::of(&owner.public(), &cost);
    assert_eq!(Number::of(&forger.public(), &lie), number);
    let place = number.place(HashAlgorithm::Sha256);
    let mut world = ready_with(|world| world.costs.extend((0..8).map(|n| ((n, owner.public()), Some(cost)))));
    let distance = |world: &World, n: usize| -> Vec<u8> {
        let id = world.nodes[n].node_id().unwrap();
        id.key().as_bytes().iter().zip(place.0.as_bytes()).map(|(a, b)| a ^ b).collect()
    };
    let mut others: Vec<usize> = (0..8).filter(|n| *n != STRANGER).collect();
    others.sort_by_key(|n| distance(&world, *n));
    let (nearest, farthest) = (others[0], others[6]);
    if !nearest_knows_better {
        world.deaf = Some((nearest, owner.public().0.to_vec()));
    }
    let value = Devices(vec![forger.public()]).with(&Claim::Stretch(lie)).unwrap();
    let record = Record::sign(&forger, place, Kind::NUMBER, u64::MAX, UnixTime(1), 3_600, value);
    publish(&mut world, 0, &forger, &record, &[nearest]);
    let anna = User { aor: "anna@test".into(), keys: owner };
    world.nodes[STRANGER].add_user(world.now, anna);
    world.collect(STRANGER);
    world.run(Duration::from_secs(8));
    (world, farthest, number)
}

#[test]
fn one_peer_that_forges_a_record_and_hides_the_owners_keeps_nobody_from_a_number() {
    for nearest_knows_better in [false, true] {
        let (mut world, caller, number) = with_a_forgery(nearest_knows_better);
        let from = format!("user{caller}@test");
        world.worked_out.clear();
        let op = world.nodes[caller].message(world.now, &from, &number.digits(), "hello");
        let Outcome::Message(report) = world.wait(caller, op) else { panic!("another outcome") };
        assert_eq!(report.state, "delivered", "{nearest_knows_better}: {report:?}");
        let forger = KeyPair::from_seed(Seed(TWINS[1].0)).public();
        assert!(world.worked_out.contains(&(caller, forger)), "the forgery was weighed");
        assert_eq!(world.nodes[STRANGER].inbox().filter(|message| message.to == "anna@test").count(), 1);
    }
}

/// Says to these peers that they shall keep a record.
fn publish(world: &mut World, n: u64, sender: &KeyPair, record: &Record, to: &[usize]) {
    let tag = *HashAlgorithm::Sha256.digest(b"openvoip").as_bytes().last_chunk().unwrap();
    let id = sender.public().node_id(HashAlgorithm::Sha256);
    let mut header = Header::request(MessageType::Publish, TransactionId(n), id);
    (header.overlay, header.from_peer) = (u32::from_be_bytes(tag), true);
    let publish = Builder::new(&header)
        .with(&Object::Resource(record.as_ref()))
        .with(&Object::Expires(3_600))
        .with(&Object::Padding(&[0; 300]));
    let bytes = publish.sign(sender);
    for peer in to {
        world.nodes[*peer].handle_datagram(world.now, Socket::Peer, address(LIAR), &mut bytes.clone());
        world.collect(*peer);
    }
}

#[test]
fn whatever_others_put_under_a_number_its_owner_is_reached() {
    let mut world = ready();
    let place = number(STRANGER).place(HashAlgorithm::Sha256);
    let theirs = stand_in(&keys(STRANGER).public());
    // Of the publisher's own key it is kept, by the same message.
    let (honest, its_place) = (KeyPair::from_seed(Seed::from_number(499)), |key: &PublicKey| {
        Number::of(key, &stand_in(key)).place(HashAlgorithm::Sha256)
    });
    let kept = its_place(&honest.public());
    let value = Devices(vec![honest.public()]).with(&Claim::Stretch(stand_in(&honest.public()))).unwrap();
    let record = Record::sign(&honest, kept, Kind::NUMBER, 1, UnixTime(1_800_000_000), 3_600, value);
    publish(&mut world, 99, &honest, &record, &[0]);
    assert!(world.nodes[0].holds(&kept));
    for n in 0..40 {
        let forger = KeyPair::from_seed(Seed::from_number(500 + n));
        let own = forger.public();
        // Of a key of theirs, with its own cost or the stranger's; and in the stranger's name.
        let claim = |stretch| Devices(vec![own]).with(&Claim::Stretch(stretch)).unwrap();
        let value = claim(if n % 2 == 0 { stand_in(&own) } else { theirs });
        let unix = UnixTime(1_800_000_000 + n);
        let mut record = Record::sign(&forger, place, Kind::NUMBER, u64::MAX, unix, 3_600, value);
        if n % 4 == 0 {
            record.owner = keys(STRANGER).public();
        }
        publish(&mut world, n, &forger, &record, &[0, 1, 2, 3, 4, 5, 6, 7]);
    }
    world.run(Duration::from_secs(5));
    assert_eq!(write(&mut world, &number(STRANGER).digits()).state, "delivered");
    assert_eq!(world.worked_out, [(CALLER, keys(STRANGER).public())], "nobody else's record is there");
}

#[test]
fn a_number_is_reached_though_a_thief_has_the_name() {
    let mut world = ready();
    world.dead.insert(STRANGER);
    world.run(Duration::from_secs(8_000));
    let thief = KeyPair::from_seed(Seed::from_number(666));
    let user = User { aor: "user5@test".into(), keys: thief };
    world.nodes[LIAR].add_user(world.now, user);
    world.collect(LIAR);
    world.run(Duration::from_secs(10));
    world.dead.remove(&STRANGER);
    world.run(Duration::from_secs(2_000));
    assert_eq!(write(&mut world, &number(STRANGER).digits()).state, "delivered");
    assert_eq!(world.nodes[STRANGER].inbox().count(), 1);
}

#[test]
fn whoever_cannot_work_a_key_out_is_told_and_follows_nobody() {
    let key = keys(STRANGER).public();
    let mut world = ready_with(|world| world.costs.extend([((CALLER, key), None)]));
    let report = call(&mut world, &number(STRANGER).digits());
    assert_eq!(report.status, 503, "{report:?}");
    assert!(report.reason.contains("not worked out"), "{report:?}");
}

#[test]
fn whoever_dials_keys_without_end_has_few_worked_out_and_who_hangs_up_waits_for_none() {
    let mut world = ready();
    world.stalled = true;
    let dial = |world: &mut World, n: u64| {
        let key = KeyPair::from_seed(Seed::from_number(70 + n)).public().to_string();
        let op = world.nodes[CALLER].call(world.now, "user1@test", &key, CallOptions::default());
        world.collect(CALLER);
        op
    };
    let calls: Vec<_> = (0..4).map(|n| dial(&mut world, n)).collect();
    let one_more = dial(&mut world, 4);
    let Outcome::Call(refused) = world.wait(CALLER, one_more) else { panic!("another outcome") };
    assert_eq!((refused.status, world.worked_out.len()), (503, 4), "{refused:?}");
    world.nodes[CALLER].hang_up(world.now, calls[0]);
    world.collect(CALLER);
    world.run(Duration::from_secs(1));
    let (began, after) = (world.now, dial(&mut world, 5));
    assert_eq!(world.worked_out.len(), 5, "there is room again");
    let Outcome::Call(late) = world.wait(CALLER, after) else { panic!("another outcome") };
    assert_eq!((late.status, world.now.since(began).as_secs()), (503, 20), "and nobody waits for ever");
}

#[test]
fn an_owner_is_told_that_no_peer_has_room_for_the_number() {
    let mut world = ready();
    let owner = keys(99);
    for n in 0..node::storage::MAX_PER_OWNER as u64 {
        let place = wire::ResourceId(HashAlgorithm::Sha256.digest(&n.to_be_bytes()));
        let filler = Record::sign(&owner, place, Kind::DATA, 1, UnixTime(1_800_000_000), 3_600, vec![0]);
        publish(&mut world, n, &owner, &filler, &[0, 1, 2, 3, 4, 5, 6, 7]);
    }
    world.nodes[CALLER].add_user(world.now, User { aor: "anna@test".into(), keys: owner });
    world.collect(CALLER);
    world.run(Duration::from_secs(10));
    let state = |world: &World, aor: &str| {
        let users = world.nodes[CALLER].status(world.now).users;
        users.into_iter().find(|user| user.aor == aor).and_then(|user| user.number_state).unwrap()
    };
    assert_eq!([state(&world, "anna@test"), state(&world, "user1@test")], ["crowded", "published"]);
    let told = |event: &&Event| matches!(event, Event::Log { level: Level::Warn, message, .. } if message.contains("the number of anna@test"));
    assert_eq!(world.events[CALLER].iter().filter(told).count(), 1);
}

#[test]
fn a_world_that_cannot_work_out_its_own_user_is_not_asked_without_end() {
    let key = keys(LIAR).public();
    let mut world = World::with(1, |_, config| config.numbers = true);
    world.costs.insert((LIAR, key), None);
    world.grow_with(7, |_, config| config.numbers = true);
    world.run(Duration::from_secs(60));
    assert_eq!(world.worked_out.iter().filter(|(_, asked)| *asked == key).count(), 1);
    assert_eq!(world.nodes[LIAR].number_of("user6@test"), None);
}

#[test]
fn the_number_of_a_user_at_the_same_peer_rings_there() {
    let mut world = ready();
    world.nodes[CALLER].add_user(world.now, User { aor: "anna@test".into(), keys: keys(99) });
    world.collect(CALLER);
    world.run(Duration::from_secs(5));
    assert_eq!(world.nodes[CALLER].number_of("anna@test"), Some(number(99)));
    assert_eq!(write(&mut world, &number(99).digits()).state, "delivered");
    assert_eq!(world.nodes[CALLER].inbox().filter(|message| message.to == "anna@test").count(), 1);
}
