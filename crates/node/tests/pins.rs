//! A name changes hands while its owner is away: who knew the owner is told, and who did not is not.

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use node::report::{MessageReport, PinRow};
use node::{CallOptions, Event, LookupOptions, Outcome, User};
use sip::Flow;
use sip::transaction::SentBy;
use sip::ua::{UaConfig, UserAgent};
use wire::{KeyPair, Seed, Socket};
use world::{World, sip_address};

/// Records of this world end so soon.
const LIFETIME: Duration = Duration::from_secs(120);

/// Who knows the owner, who does not, whose name it is, and who takes it.
const FRIEND: usize = 1;
const STRANGER: usize = 2;
const OWNER: usize = 5;
const THIEF: usize = 6;
const NAME: &str = "user5@test";

fn thiefs_keys() -> KeyPair {
    KeyPair::from_seed(Seed::from_number(666))
}

/// Eight peers whose records end soon.
fn ready() -> World {
    let mut world = World::with(8, |_, config| {
        config.record_lifetime = LIFETIME;
        config.refresh_interval = LIFETIME / 3;
    });
    world.run(Duration::from_secs(10));
    world
}

/// The peers of the owner fall, the record ends, and somebody else publishes the name.
fn stolen(world: &mut World) {
    world.dead.insert(OWNER);
    world.run(LIFETIME * 2);
    world.nodes[THIEF].add_user(world.now, User { aor: NAME.into(), keys: thiefs_keys() });
    world.collect(THIEF);
    world.run(Duration::from_secs(10));
    assert!(world.events[THIEF].iter().any(|e| matches!(e, Event::Published { aor } if aor == NAME)));
}

/// The friend has written to the owner, and then the name is stolen.
fn stolen_from_a_friend() -> World {
    let mut world = ready();
    greet(&mut world, FRIEND, "hello");
    stolen(&mut world);
    world
}

fn write(world: &mut World, from: usize, as_whom: &str, to: &str, text: &str) -> MessageReport {
    let op = world.nodes[from].message(world.now, as_whom, to, text);
    match world.wait(from, op) {
        Outcome::Message(report) => report,
        other => panic!("{other:?}"),
    }
}

fn greet(world: &mut World, from: usize, text: &str) -> MessageReport {
    write(world, from, &format!("user{from}@test"), NAME, text)
}

fn texts(world: &World, at: usize) -> Vec<&str> {
    world.nodes[at].inbox().map(|message| message.text.as_str()).collect()
}

/// What a lookup of the name says of its key.
fn pin_seen_by(world: &mut World, at: usize) -> String {
    let op = world.nodes[at].lookup_user(world.now, NAME, LookupOptions::default());
    match world.wait(at, op) {
        Outcome::Lookup(report) => report.record.and_then(|record| record.pin).expect("a user"),
        other => panic!("{other:?}"),
    }
}

fn pin_of(world: &World, at: usize, name: &str) -> Option<PinRow> {
    world.nodes[at].pins().into_iter().find(|pin| pin.name == name)
}

#[test]
fn who_knew_the_owner_is_told_and_a_stranger_reaches_the_thief() {
    let mut world = ready();
    assert_eq!(pin_seen_by(&mut world, FRIEND), "new");
    assert_eq!(greet(&mut world, FRIEND, "hello").state, "delivered");
    assert_eq!(pin_seen_by(&mut world, FRIEND), "pinned");
    stolen(&mut world);

    // What pinning cannot do: nobody told the stranger whose name it is.
    assert_eq!(greet(&mut world, STRANGER, "nice to meet you").state, "delivered");
    assert_eq!(texts(&world, THIEF), ["nice to meet you"]);

    let refused = greet(&mut world, FRIEND, "our secret");
    assert_eq!((refused.state.as_str(), refused.status), ("failed", 438));
    let known = pin_of(&world, FRIEND, NAME).unwrap().key.unwrap();
    let thiefs = thiefs_keys().public().to_string();
    for part in [&known[..16], &thiefs[..16], "openvoip pins accept user5@test"] {
        assert!(refused.reason.contains(part), "{part} is not in {}", refused.reason);
    }
    let op = world.nodes[FRIEND].call(world.now, "user1@test", NAME, CallOptions::default());
    match world.wait(FRIEND, op) {
        Outcome::Call(report) => assert_eq!(report.failure.unwrap().cause, "key_changed"),
        other => panic!("{other:?}"),
    }
    assert_eq!(texts(&world, THIEF), ["nice to meet you"], "nothing of the friend's reached the thief");
    let told = |e: &Event| matches!(e, Event::KeyChanged { name, calls: false, .. } if name == NAME);
    assert_eq!(world.events[FRIEND].iter().filter(|e| told(e)).count(), 2);
    assert_eq!(pin_seen_by(&mut world, FRIEND), "changed");
    assert_eq!(pin_seen_by(&mut world, STRANGER), "pinned");
}

#[test]
fn the_owner_comes_back_and_is_reached_with_nothing_to_accept() {
    let mut world = stolen_from_a_friend();
    assert_eq!(greet(&mut world, FRIEND, "are you there?").status, 438);
    world.dead.insert(THIEF);
    world.run(LIFETIME * 2);
    world.dead.remove(&OWNER);
    world.restart(OWNER);
    world.run(Duration::from_secs(20));
    let report = greet(&mut world, FRIEND, "there you are");
    assert_eq!(report.state, "delivered", "{report:?}");
    assert_eq!(texts(&world, OWNER), ["there you are"]);
    assert_eq!(pin_of(&world, FRIEND, NAME).unwrap().other_key, None, "no other key is left to accept");
}

#[test]
fn a_key_that_the_person_accepts_is_called_and_one_that_is_forgotten_is_new() {
    let mut world = stolen_from_a_friend();
    assert_eq!(greet(&mut world, FRIEND, "is it you?").status, 438);
    let accepted = world.nodes[FRIEND].accept_pin("sip:User5", "").unwrap();
    assert_eq!((accepted.key, accepted.confirmed), (Some(thiefs_keys().public().to_string()), true));
    assert_eq!(greet(&mut world, FRIEND, "so it is you").state, "delivered");
    assert!(world.nodes[FRIEND].forget_pin(NAME) && !world.nodes[FRIEND].forget_pin(NAME));
    assert_eq!(pin_seen_by(&mut world, FRIEND), "new");
    assert_eq!(world.nodes[FRIEND].accept_pin("nobody@test", ""), None);
}

#[test]
fn pins_survive_a_restart() {
    let mut world = ready();
    greet(&mut world, FRIEND, "hello");
    assert!(world.events[FRIEND].iter().any(|e| matches!(e, Event::Save)));
    let saved = world.nodes[FRIEND].save();
    stolen(&mut world);
    world.restart_with(FRIEND, saved, |_, _| {});
    world.run(Duration::from_secs(10));
    assert_eq!(greet(&mut world, FRIEND, "our secret").status, 438);
    assert!(texts(&world, THIEF).is_empty());
}

#[test]
fn what_a_thief_writes_is_marked_and_what_the_owner_writes_is_not() {
    let mut world = ready();
    greet(&mut world, FRIEND, "hello");
    write(&mut world, OWNER, NAME, "user1@test", "hello yourself");
    // Nobody has to publish a name in order to claim it.
    write(&mut world, THIEF, NAME, "user1@test", "lend me money");
    let inbox: Vec<_> = world.nodes[FRIEND].inbox().map(|m| (m.text.as_str(), m.key_changed)).collect();
    assert_eq!(inbox, [("hello yourself", false), ("lend me money", true)]);
    let told = |e: &Event| matches!(e, Event::KeyChanged { name, calls: true, .. } if name == NAME);
    assert_eq!(world.events[FRIEND].iter().filter(|e| told(e)).count(), 1);
}

#[test]
fn who_was_only_called_knows_the_caller_the_next_time() {
    let mut world = ready();
    write(&mut world, OWNER, NAME, "user1@test", "hello");
    assert_eq!(pin_of(&world, FRIEND, NAME).unwrap().key, None, "an envelope proves a peer and no user");
    write(&mut world, THIEF, NAME, "user1@test", "lend me money");
    assert!(world.nodes[FRIEND].inbox().last().unwrap().key_changed);
    // A claim keeps nobody from calling, right or wrong: it proves nothing.
    assert_eq!(greet(&mut world, FRIEND, "somebody writes in your name").state, "delivered");
    assert!(pin_of(&world, FRIEND, NAME).unwrap().key.is_some());
    assert_eq!(texts(&world, OWNER), ["somebody writes in your name"]);
}

#[test]
fn a_call_from_a_changed_key_rings_under_a_name_that_says_so() {
    let mut world = ready();
    greet(&mut world, FRIEND, "hello");
    let phone = SocketAddr::from(([10, 9, 0, 1], 5060));
    world.nodes[FRIEND].add_phone(world.now, "user1@test", "secret");
    world.collect(FRIEND);
    let config = UaConfig {
        user: "user1".into(),
        domain: "test".into(),
        password: Some("secret".into()),
        flow: Flow::Udp(sip_address(FRIEND)),
        sent_by: SentBy { host: phone.ip().to_string(), port: Some(5060) },
        expires: 600,
    };
    let mut ua = UserAgent::new(config, Seed::from_number(50));
    ua.register(world.now);
    for _ in 0..4 {
        while let Some((_, bytes)) = ua.poll_transmit() {
            world.phone_says(FRIEND, Socket::Sip, phone, &bytes);
        }
        for (_, t) in std::mem::take(&mut world.to_phones) {
            ua.handle_message(world.now, Flow::Udp(sip_address(FRIEND)), &t.bytes);
        }
    }
    let mut rings_as = |caller: usize| {
        world.nodes[caller].call(world.now, NAME, "user1@test", CallOptions::default());
        world.collect(caller);
        world.run(Duration::from_secs(1));
        let sent = std::mem::take(&mut world.to_phones);
        let invite = sent.iter().find(|(_, t)| t.bytes.starts_with(b"INVITE ")).expect("it rings");
        let invite = String::from_utf8_lossy(&invite.1.bytes).into_owned();
        invite.lines().find(|line| line.starts_with("From:")).expect("a caller").to_owned()
    };
    let [owner, thief] = [OWNER, THIEF].map(&mut rings_as);
    assert!(!owner.contains("KEY CHANGED") && owner.contains("<sip:user5@test>"), "{owner}");
    assert!(thief.contains("\"KEY CHANGED: user5@test\" <sip:user5@test>"), "{thief}");
}
