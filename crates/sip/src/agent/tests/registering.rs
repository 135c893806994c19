//! REGISTER: challenges, renewal, wrong passwords, and several phones of one user.

use wire::sip::{Message, Method, NameAddr};
use wire::{ConnectionId, Time};

use super::rig::{DOMAIN, World};
use crate::{Event, Flow, Unchanged};

fn contacts(response: &Message) -> Vec<NameAddr> {
    response.list("Contact").filter_map(NameAddr::parse).collect()
}

#[test]
fn a_phone_registers_after_one_challenge() {
    let mut world = World::new(1);
    let bob = world.registered(0, "bob");
    assert_eq!(world.phones[bob].statuses(&Method::Register), [401, 200]);
    let ok = world.phones[bob].seen.last().unwrap().clone();
    let contact = contacts(&ok).remove(0);
    assert_eq!(format!("<{}>", contact.uri), world.phones[bob].contact());
    assert_eq!(contact.params.get("expires"), Some("600"));
    let registered = |e: &(usize, Event)| matches!(&e.1, Event::Registered { user, new: true, .. } if user == &format!("bob@{DOMAIN}"));
    assert!(world.events.iter().any(registered));
    world.run(700.0);
    assert!(matches!(world.events.last(), Some((0, Event::Unregistered { lost: true, .. }))));
    world.nothing_is_left();
}

#[test]
fn registering_again_renews_and_zero_takes_it_back() {
    let mut world = World::new(1);
    let bob = world.registered(0, "bob");
    world.phones[bob].register(world.now);
    world.run(5.0);
    assert_eq!(world.agents[0].phones(&format!("bob@{DOMAIN}")).count(), 1);
    world.phones[bob].expires = 0;
    world.phones[bob].register(world.now);
    world.run(5.0);
    assert_eq!(world.agents[0].phones(&format!("bob@{DOMAIN}")).count(), 0);
    assert!(matches!(world.events.last(), Some((0, Event::Unregistered { lost: false, .. }))));
}

#[test]
fn too_short_a_registration_is_answered_423_with_the_minimum() {
    let mut world = World::new(1);
    let bob = world.phone(0, "bob", false);
    world.phones[bob].expires = 10;
    world.phones[bob].register(world.now);
    world.run(5.0);
    let last = world.phones[bob].seen.last().unwrap();
    assert_eq!((last.status(), last.header("Min-Expires")), (423, Some("60")));
    world.phones[bob].expires = 100_000;
    world.phones[bob].register(world.now);
    world.run(5.0);
    let last = world.phones[bob].seen.last().unwrap().clone();
    assert_eq!(contacts(&last)[0].params.get("expires"), Some("3600"));
}

#[test]
fn wrong_passwords_end_in_a_lock_out_with_a_hint_and_after_a_minute_it_is_over() {
    let mut world = World::new(1);
    let bob = world.phone(0, "bob", false);
    world.phones[bob].password = "guess".into();
    for _ in 0..5 {
        world.phones[bob].register(world.now);
        world.run(1.0);
    }
    let last = world.phones[bob].seen.last().unwrap();
    assert_eq!(last.status(), 403);
    assert_eq!(last.header("Retry-After"), Some("60"));
    assert!(last.header("Warning").unwrap().contains("Wrong password"));
    let hints = world.events.iter().filter(|(_, e)| matches!(e, Event::WrongPassword { .. }));
    assert_eq!(hints.count(), 5);
    let locked = |e: &(usize, Event)| {
        matches!(&e.1, Event::WrongPassword { user, user_agent, locked: Some(_), .. }
            if user == &format!("bob@{DOMAIN}") && user_agent == "scripted")
    };
    assert!(world.events.last().is_some_and(locked));
    world.phones[bob].password = "secret".into();
    world.phones[bob].register(world.now);
    world.run(1.0);
    assert_eq!(world.phones[bob].seen.last().unwrap().status(), 403, "locked out still");
    world.run(60.0);
    world.phones[bob].register(world.now);
    world.run(1.0);
    assert_eq!(world.phones[bob].seen.last().unwrap().status(), 200);
}

#[test]
fn an_unknown_user_is_challenged_like_a_known_one() {
    let mut world = World::new(1);
    let eve = world.phone(0, "eve", false);
    world.agents[0].remove_user(&format!("eve@{DOMAIN}"));
    world.phones[eve].register(world.now);
    world.run(2.0);
    assert_eq!(world.phones[eve].statuses(&Method::Register), [401, 401]);
}

#[test]
fn one_may_not_register_for_another() {
    let mut world = World::new(1);
    let bob = world.phone(0, "bob", false);
    world.phone(0, "alice", false);
    let uri = "sip:192.168.0.1:5060";
    let now = world.now;
    let phone = &mut world.phones[bob];
    let mut request = phone.fresh(Method::Register, uri);
    request.set("To", format!("<sip:alice@{DOMAIN}>"));
    phone.send(now, request.clone());
    world.run(1.0);
    let phone = &mut world.phones[bob];
    let value = phone.seen[0].header("WWW-Authenticate").unwrap();
    let challenge = wire::sip::digest::Challenge::parse(value).unwrap();
    request.set("Authorization", challenge.answer("bob", "secret", "REGISTER", uri, "c").to_value());
    request.set("CSeq", "77 REGISTER");
    phone.send(world.now, request);
    world.run(1.0);
    assert_eq!(world.phones[bob].seen.last().unwrap().status(), 403);
}

#[test]
fn two_phones_of_one_user_are_both_listed_and_star_removes_both() {
    let mut world = World::new(1);
    let first = world.registered(0, "bob");
    let second = world.registered(0, "bob");
    let ok = world.phones[second].seen.last().unwrap().clone();
    assert_eq!(contacts(&ok).len(), 2);
    let now = world.now;
    let phone = &mut world.phones[first];
    let mut request = phone.fresh(Method::Register, "sip:192.168.0.1:5060");
    request.set("To", format!("<sip:bob@{DOMAIN}>"));
    request.set("Contact", "*");
    request.set("Expires", "0");
    phone.send(now, request.clone());
    world.run(1.0);
    let phone = &mut world.phones[first];
    let value = phone.seen.last().unwrap().header("WWW-Authenticate").unwrap();
    let challenge = wire::sip::digest::Challenge::parse(value).unwrap();
    let answer = challenge.answer(&format!("bob@{DOMAIN}"), "secret", "REGISTER", request.uri(), "c");
    request.set("Authorization", answer.to_value());
    request.set("CSeq", "99 REGISTER");
    phone.send(world.now, request);
    world.run(1.0);
    assert_eq!(world.phones[first].seen.last().unwrap().status(), 200);
    assert_eq!(world.agents[0].phones(&format!("bob@{DOMAIN}")).count(), 0);
}

#[test]
fn a_phone_on_tcp_is_gone_with_its_connection() {
    let mut world = World::new(1);
    let bob = world.phone(0, "bob", true);
    world.phones[bob].register(world.now);
    world.run(1.0);
    assert_eq!(world.phones[bob].statuses(&Method::Register), [401, 200]);
    let flow = world.flow_of(bob);
    world.agents[0].handle_flow_closed(world.now, flow, &mut Unchanged);
    assert_eq!(world.agents[0].phones(&format!("bob@{DOMAIN}")).count(), 0);
}

#[test]
fn a_stream_may_come_in_pieces_with_pings_between_and_ends_when_it_makes_no_sense() {
    let mut world = World::new(1);
    let flow = Flow::Stream(ConnectionId(9), "192.0.2.9:40000".parse().unwrap());
    let options = Message::request(Method::Options, "sip:192.168.0.1")
        .with("Via", "SIP/2.0/TCP 192.0.2.9:40000;branch=z9hG4bKa")
        .with("From", "<sip:x@192.0.2.9>;tag=1")
        .with("To", "<sip:192.168.0.1>")
        .with("Call-ID", "a")
        .with("CSeq", "1 OPTIONS")
        .with("Max-Forwards", "70");
    let stream = [b"\r\n\r\n".to_vec(), options.to_bytes()].concat();
    for piece in stream.chunks(7) {
        assert!(world.agents[0].handle_message(Time::ZERO, flow, piece, &mut Unchanged));
    }
    assert_eq!(world.agents[0].poll_transmit(), Some((flow, b"\r\n".to_vec())));
    let (_, answer) = world.agents[0].poll_transmit().unwrap();
    assert!(answer.starts_with(b"SIP/2.0 200 OK\r\n"));
    let nonsense = b"INVITE sip:x SIP/2.0\r\nContent-Length: many\r\n\r\n";
    assert!(!world.agents[0].handle_message(Time::ZERO, flow, nonsense, &mut Unchanged));
}

#[test]
fn registering_survives_a_lossy_network() {
    let mut world = World::new(1);
    world.loss = 0.2;
    for n in 0..20 {
        let phone = world.phone(0, &format!("user{n}"), false);
        world.phones[phone].register(world.now);
    }
    world.run(40.0);
    for phone in &world.phones {
        assert!(phone.statuses(&Method::Register).contains(&200), "{}", phone.name);
    }
}
