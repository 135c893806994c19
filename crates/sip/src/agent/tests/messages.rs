//! MESSAGE between phones, credentials of strangers, and methods that a peer does not have.

use wire::sip::{Message, Method};

use super::rig::{DOMAIN, Habit, World};
use crate::transaction::ClientId;
use crate::{Event, Unchanged};

fn text(world: &mut World, from: usize, to: &str) -> ClientId {
    let now = world.now;
    let phone = &mut world.phones[from];
    let message = phone.fresh(Method::Message, &format!("sip:{to}@192.168.0.1"));
    phone.send(now, message.with_body("text/plain", "hello"))
}

#[test]
fn a_message_reaches_the_phone_at_another_peer_and_the_ok_is_its_own() {
    let mut world = World::new(2);
    let (bob, alice) = (world.registered(0, "bob"), world.registered(1, "alice"));
    text(&mut world, bob, "alice");
    world.run(2.0);
    let got = world.phones[alice].got(&Method::Message);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].body, b"hello");
    assert_eq!(got[0].from().unwrap().uri, format!("sip:bob@{DOMAIN}"));
    assert_eq!(world.phones[bob].statuses(&Method::Message), [200]);
    world.nothing_is_left();
}

#[test]
fn a_message_to_nobody_is_404_and_to_a_phone_that_is_off_480() {
    let mut world = World::new(2);
    let bob = world.registered(0, "bob");
    world.phone(1, "alice", false);
    text(&mut world, bob, "nobody");
    text(&mut world, bob, "alice");
    world.run(2.0);
    let mut statuses = world.phones[bob].statuses(&Method::Message);
    statuses.sort_unstable();
    assert_eq!(statuses, [404, 480]);
    world.nothing_is_left();
}

#[test]
fn a_stranger_is_challenged_and_may_prove_who_he_is() {
    let mut world = World::new(1);
    let alice = world.registered(0, "alice");
    let bob = world.phone(0, "bob", false);
    text(&mut world, bob, "alice");
    world.run(1.0);
    let value = world.phones[bob].seen[0].header("Proxy-Authenticate").unwrap().to_owned();
    assert_eq!(world.phones[bob].seen[0].status(), 407);
    let challenge = wire::sip::digest::Challenge::parse(&value).unwrap();
    let uri = "sip:alice@192.168.0.1";
    let answer = challenge.answer("bob", "secret", "MESSAGE", uri, "c").to_value();
    let now = world.now;
    let phone = &mut world.phones[bob];
    let message = phone.fresh(Method::Message, uri).with("Proxy-Authorization", answer);
    phone.send(now, message.with_body("text/plain", "hi"));
    world.run(1.0);
    assert_eq!(world.phones[alice].got(&Method::Message).len(), 1);
    assert!(world.phones[alice].seen.last().unwrap().header("Proxy-Authorization").is_none());
}

#[test]
fn methods_we_lack_are_refused_each_in_its_way() {
    let mut world = World::new(1);
    let bob = world.registered(0, "bob");
    let uri = "sip:alice@192.168.0.1";
    let cases = [
        (Method::Subscribe, 489),
        (Method::Publish, 489),
        (Method::Other("FOO".into()), 501),
        (Method::Notify, 481),
        (Method::Info, 481),
        (Method::Bye, 481),
        (Method::Refer, 403),
        (Method::Options, 200),
    ];
    for (method, status) in cases {
        let now = world.now;
        let phone = &mut world.phones[bob];
        let request = phone.fresh(method.clone(), uri).with("Event", "presence");
        phone.send(now, request);
        world.run(1.0);
        let last = world.phones[bob].seen.last().unwrap();
        assert_eq!(last.status(), status, "{method}");
        if matches!(status, 501 | 200) {
            assert!(last.header("Allow").unwrap().contains("INVITE"));
        }
    }
    let extra: [(&str, &str, u16); 3] =
        [("Require", "teleport", 420), ("Max-Forwards", "0", 483), ("Content-Type", "text/html", 415)];
    for (name, value, status) in extra {
        let now = world.now;
        world.phones[bob].dial(now, "alice", &[]);
        let phone = &mut world.phones[bob];
        let mut request = phone.fresh(Method::Invite, uri).with_body("application/sdp", "v=0");
        request.set(name, value);
        phone.send(now, request);
        world.run(1.0);
        let last: &Message = world.phones[bob].seen.iter().rfind(|m| m.status() == status).expect(name);
        assert!(status != 420 || last.header("Unsupported") == Some("teleport"));
        assert!(status != 415 || last.header("Accept") == Some("application/sdp"));
    }
    world.nothing_is_left();
}

#[test]
fn a_message_without_a_route_in_time_fails() {
    let mut world = World::new(1);
    let bob = world.registered(0, "bob");
    world.manual = true;
    text(&mut world, bob, "alice");
    world.run(31.0);
    assert_eq!(world.phones[bob].statuses(&Method::Message), [480]);
    world.nothing_is_left();
}

#[test]
fn a_lost_peer_fails_its_messages_at_once() {
    let mut world = World::new(2);
    let (bob, alice) = (world.registered(0, "bob"), world.registered(1, "alice"));
    world.phones[alice].habit = Habit::Silent;
    world.dead.push(1);
    text(&mut world, bob, "alice");
    world.run(1.0);
    let now = world.now;
    world.agents[0].peer_lost(now, super::rig::node(1), &mut Unchanged);
    world.run(1.0);
    assert_eq!(world.phones[bob].statuses(&Method::Message), [480]);
    assert!(!world.events.iter().any(|(_, e)| matches!(e, Event::Ended { .. })));
}
