//! Calls between phones at two peers, from the first ring to BYE, and what may cross on the way.

use wire::sip::{Message, Method};

use super::rig::{Habit, World, author, node, sdp};
use crate::{Cause, Event, Side, Unchanged};

/// Two peers, a phone at each, `bob` and `alice`.
fn two() -> (World, usize, usize) {
    let mut world = World::new(2);
    let (bob, alice) = (world.registered(0, "bob"), world.registered(1, "alice"));
    (world, bob, alice)
}

/// A call from `bob` to `alice`, answered.
fn talking() -> (World, usize, usize) {
    let (mut world, bob, alice) = two();
    world.phones[alice].habit = Habit::Answer;
    world.phones[bob].dial(world.now, "alice", &[]);
    world.run(1.0);
    assert_eq!(world.phones[bob].last_talk().hears.as_deref(), Some("alice"));
    assert_eq!(world.phones[alice].last_talk().hears.as_deref(), Some("bob"));
    (world, bob, alice)
}

#[test]
fn a_call_rings_is_answered_and_hung_up() {
    let (mut world, bob, alice) = two();
    world.phones[bob].dial(world.now, "alice", &[]);
    world.run(1.0);
    assert_eq!(world.phones[bob].statuses(&Method::Invite), [100, 180]);
    world.phones[alice].answer(world.now);
    world.run(1.0);
    assert_eq!(world.phones[bob].statuses(&Method::Invite), [100, 180, 200]);
    assert!(world.phones[alice].last_talk().acknowledged);
    world.phones[bob].hang_up(world.now);
    world.run(1.0);
    assert!(world.phones[alice].last_talk().over);
    for agent in [0, 1] {
        assert_eq!(world.ends(agent), [(Cause::HungUp(Side::Caller), 200)]);
    }
    let kinds: Vec<&str> = world
        .events
        .iter()
        .filter(|(a, _)| *a == 0)
        .filter_map(|(_, e)| match e {
            Event::CallStarted(_) => Some("started"),
            Event::Ringing { .. } => Some("ringing"),
            Event::Answered { .. } => Some("answered"),
            Event::Ended { .. } => Some("ended"),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, ["started", "ringing", "answered", "ended"]);
    world.nothing_is_left();
}

#[test]
fn the_callee_may_hang_up_and_its_reason_reaches_the_caller() {
    let (mut world, bob, alice) = talking();
    world.phones[alice].within(world.now, Method::Bye, |m| m.with("Reason", "Q.850;cause=16"));
    world.run(1.0);
    assert_eq!(world.phones[bob].got(&Method::Bye)[0].header("Reason"), Some("Q.850;cause=16"));
    assert_eq!(world.ends(0), [(Cause::HungUp(Side::Callee), 200)]);
    world.nothing_is_left();
}

#[test]
fn names_of_one_leg_do_not_appear_on_the_other() {
    let (world, bob, alice) = talking();
    let invite = world.phones[alice].got(&Method::Invite)[0].clone();
    let sent = world.phones[bob].last_talk().dialog.call_id.clone();
    assert_ne!(invite.call_id(), sent);
    assert_eq!(invite.headers_named("Via").count(), 1);
    assert_eq!(invite.from().unwrap().display, "\"bob\"");
    assert_eq!(invite.header("User-Agent"), Some("scripted"));
    assert_eq!(invite.header("Max-Forwards"), Some("68"));
}

#[test]
fn busy_comes_back_as_busy() {
    let (mut world, bob, alice) = two();
    world.phones[alice].habit = Habit::Refuse(486);
    world.phones[bob].dial(world.now, "alice", &[]);
    world.run(1.0);
    assert_eq!(world.phones[bob].statuses(&Method::Invite), [100, 486]);
    assert_eq!(world.ends(0), [(Cause::Refused, 486)]);
    world.nothing_is_left();
}

#[test]
fn nobody_is_404_and_a_phone_that_is_off_480() {
    let mut world = World::new(2);
    let bob = world.registered(0, "bob");
    world.phone(1, "alice", false);
    world.phones[bob].dial(world.now, "nobody", &[]);
    world.run(1.0);
    world.phones[bob].dial(world.now, "alice", &[]);
    world.run(1.0);
    assert_eq!(world.phones[bob].statuses(&Method::Invite), [100, 404, 100, 480]);
    world.nothing_is_left();
}

#[test]
fn a_cancelled_call_stops_ringing() {
    let (mut world, bob, alice) = two();
    let call = world.phones[bob].dial(world.now, "alice", &[]);
    world.run(1.0);
    world.phones[bob].cancel(world.now, call);
    world.run(1.0);
    assert!(world.phones[alice].ringing[0].over);
    assert_eq!(world.phones[bob].statuses(&Method::Invite), [100, 180, 487]);
    assert_eq!(world.ends(1), [(Cause::Cancelled, 487)]);
    world.nothing_is_left();
}

#[test]
fn a_cancel_while_the_route_is_sought_ends_the_search() {
    let (mut world, bob, _) = two();
    world.manual = true;
    let call = world.phones[bob].dial(world.now, "alice", &[]);
    world.run(1.0);
    world.phones[bob].cancel(world.now, call);
    world.run(1.0);
    assert_eq!(world.phones[bob].statuses(&Method::Invite), [100, 487]);
    assert!(world.events.iter().any(|(_, e)| matches!(e, Event::RouteCancelled { .. })));
    world.nothing_is_left();
}

#[test]
fn a_route_that_is_not_found_in_time_is_408() {
    let (mut world, bob, _) = two();
    world.manual = true;
    world.phones[bob].dial(world.now, "alice", &[]);
    world.run(31.0);
    assert_eq!(world.phones[bob].statuses(&Method::Invite), [100, 408]);
    world.nothing_is_left();
}

#[test]
fn cancel_and_answer_crossing_leave_nobody_in_a_call() {
    // The answer is at every distance from the CANCEL that the network allows.
    for step in 0..12 {
        let (mut world, bob, alice) = two();
        let call = world.phones[bob].dial(world.now, "alice", &[]);
        world.run(1.0);
        world.phones[bob].cancel(world.now, call);
        world.run(0.002 * f64::from(step));
        if !world.phones[alice].ringing[0].over {
            world.phones[alice].answer(world.now);
        }
        world.run(2.0);
        let bob_talks = world.phones[bob].talks.iter().any(|t| !t.over);
        let alice_talks = world.phones[alice].talks.iter().any(|t| !t.over);
        assert_eq!(bob_talks, alice_talks, "step {step}");
        world.nothing_is_left();
    }
}

#[test]
fn every_phone_of_a_user_rings_and_the_first_answer_wins() {
    let mut world = World::new(2);
    let bob = world.registered(0, "bob");
    let phones: Vec<usize> = (0..3).map(|_| world.registered(1, "alice")).collect();
    world.phones[bob].dial(world.now, "alice", &[]);
    world.run(1.0);
    let tags: std::collections::BTreeSet<_> =
        world.phones[bob].seen.iter().filter(|m| m.status() == 180).map(Message::to_tag).collect();
    assert_eq!(tags.len(), 3, "each phone rings with a tag of its own");
    world.phones[phones[1]].answer(world.now);
    world.run(1.0);
    for loser in [phones[0], phones[2]] {
        let cancel = world.phones[loser].got(&Method::Cancel)[0];
        assert!(cancel.header("Reason").unwrap().contains("Call completed elsewhere"));
    }
    assert_eq!(world.phones[bob].statuses(&Method::Invite).iter().filter(|s| **s == 200).count(), 1);
    world.phones[phones[1]].hang_up(world.now);
    world.run(1.0);
    assert!(world.phones[bob].last_talk().over);
    world.nothing_is_left();
}

#[test]
fn calling_ones_own_address_rings_the_other_phones_only() {
    let mut world = World::new(1);
    let (desk, cell) = (world.registered(0, "bob"), world.registered(0, "bob"));
    world.phones[desk].dial(world.now, "bob", &[]);
    world.run(1.0);
    assert_eq!((world.phones[desk].ringing.len(), world.phones[cell].ringing.len()), (0, 1));
    world.phones[cell].refuse(world.now, 486);
    world.nothing_is_left();
}

#[test]
fn two_answers_at_once_leave_one_call() {
    let mut world = World::new(1);
    let bob = world.registered(0, "bob");
    let phones = [world.registered(0, "alice"), world.registered(0, "alice")];
    world.phones[bob].dial(world.now, "alice", &[]);
    world.run(1.0);
    for phone in phones {
        world.phones[phone].answer(world.now);
    }
    world.run(2.0);
    let open = phones.iter().filter(|p| !world.phones[**p].last_talk().over).count();
    assert_eq!(open, 1);
    assert_eq!(world.phones[bob].talks.len(), 1);
    world.phones[bob].hang_up(world.now);
    world.nothing_is_left();
}

#[test]
fn busy_outranks_a_phone_that_does_not_answer() {
    let mut world = World::new(1);
    let bob = world.registered(0, "bob");
    let phones = [world.registered(0, "alice"), world.registered(0, "alice")];
    world.phones[phones[0]].habit = Habit::Refuse(480);
    world.phones[phones[1]].habit = Habit::Refuse(486);
    world.phones[bob].dial(world.now, "alice", &[]);
    world.run(1.0);
    assert_eq!(world.phones[bob].statuses(&Method::Invite), [100, 486]);
    world.phones[phones[0]].habit = Habit::Ring;
    world.phones[phones[1]].habit = Habit::Refuse(603);
    world.phones[bob].dial(world.now, "alice", &[]);
    world.run(1.0);
    assert_eq!(world.phones[bob].statuses(&Method::Invite).last(), Some(&603));
    assert!(world.phones[phones[0]].ringing.last().unwrap().over, "declined everywhere");
    world.nothing_is_left();
}

#[test]
fn ringing_ends_after_three_minutes() {
    let (mut world, bob, alice) = two();
    world.phones[bob].dial(world.now, "alice", &[]);
    world.run(200.0);
    assert_eq!(world.phones[bob].statuses(&Method::Invite).last(), Some(&480));
    assert!(world.phones[alice].ringing[0].over);
    world.nothing_is_left();
}

#[test]
fn hold_and_resume_pass_as_re_invites() {
    let (mut world, bob, alice) = talking();
    for direction in ["sendonly", "sendrecv"] {
        let body = [sdp("bob"), format!("a={direction}\r\n").into_bytes()].concat();
        world.phones[bob].within(world.now, Method::Invite, |m| m.with_body("application/sdp", body));
        world.run(1.0);
        let got = world.phones[alice].got(&Method::Invite).last().unwrap().body.clone();
        assert!(String::from_utf8(got).unwrap().contains(direction));
    }
    assert_eq!(world.phones[bob].statuses(&Method::Invite).iter().filter(|s| **s == 200).count(), 3);
    let acks = world.phones[alice].got(&Method::Ack).len();
    assert_eq!(acks, 3);
    world.phones[alice].hang_up(world.now);
    world.run(1.0);
    assert!(world.phones[bob].last_talk().over);
    world.nothing_is_left();
}

#[test]
fn a_late_offer_is_answered_in_the_ack() {
    let (mut world, bob, alice) = two();
    world.phones[bob].late_offer = true;
    world.phones[alice].habit = Habit::Answer;
    world.phones[bob].dial(world.now, "alice", &[]);
    world.run(1.0);
    assert_eq!(world.phones[bob].last_talk().hears.as_deref(), Some("alice"));
    assert_eq!(world.phones[alice].last_talk().hears.as_deref(), Some("bob"));
    assert_eq!(author(&world.phones[alice].got(&Method::Ack)[0].body).as_deref(), Some("bob"));
    // And again within the call.
    world.phones[alice].within(world.now, Method::Invite, |m| m);
    world.run(1.0);
    assert!(world.phones[bob].seen.iter().any(|m| m.is(&Method::Ack) && !m.body.is_empty()));
    world.phones[bob].hang_up(world.now);
    world.nothing_is_left();
}

#[test]
fn re_invites_that_cross_are_answered_491() {
    let (mut world, bob, alice) = talking();
    for phone in [bob, alice] {
        let name = world.phones[phone].name.clone();
        world.phones[phone].within(world.now, Method::Invite, |m| m.with_body("application/sdp", sdp(&name)));
    }
    world.run(2.0);
    let glare =
        [bob, alice].into_iter().filter(|p| world.phones[*p].statuses(&Method::Invite).contains(&491));
    assert!(glare.count() >= 1);
    world.phones[bob].hang_up(world.now);
    world.nothing_is_left();
}

#[test]
fn what_passes_within_a_call_passes_end_to_end() {
    let (mut world, bob, alice) = talking();
    for method in [Method::Info, Method::Update, Method::Message, Method::Options] {
        world.phones[bob]
            .within(world.now, method.clone(), |m| m.with("X-Note", "kept").with_body("text/plain", "5"));
        world.phones[alice].within(world.now, method.clone(), |m| m);
        world.run(1.0);
        let got = world.phones[alice].got(&method)[0];
        assert_eq!((got.header("X-Note"), &got.body[..]), (Some("kept"), &b"5"[..]), "{method}");
        assert_eq!(world.phones[bob].statuses(&method), [200], "{method}");
        assert_eq!(world.phones[alice].statuses(&method), [200], "{method}");
    }
    world.phones[bob].hang_up(world.now);
    world.nothing_is_left();
}

#[test]
fn a_description_counts_only_in_requests_that_agree_on_a_session() {
    let (mut world, bob, alice) = talking();
    for (method, passes) in [(Method::Update, true), (Method::Options, false), (Method::Message, false)] {
        world.phones[bob].within(world.now, method.clone(), |m| m.with_body("application/sdp", sdp("bob")));
        world.run(1.0);
        let got = world.phones[alice].got(&method)[0];
        assert_eq!(author(&got.body).is_some(), passes, "{method}");
        assert_eq!(got.header("Content-Type").is_some(), passes, "{method}");
    }
    world.phones[bob].hang_up(world.now);
    world.nothing_is_left();
}

#[test]
fn a_reliable_ringing_is_acknowledged_by_the_right_number() {
    let (mut world, bob, alice) = two();
    let extra = [("Supported", "100rel, path"), ("CSeq", "4711 INVITE")];
    world.phones[alice].habit = Habit::Silent;
    world.phones[bob].dial(world.now, "alice", &extra);
    world.run(1.0);
    assert_eq!(world.phones[alice].got(&Method::Invite)[0].header("Supported"), Some("100rel"));
    let (invite, server, tag) = {
        let r = &world.phones[alice].ringing[0];
        (r.invite.clone(), r.server, r.tag.clone())
    };
    let mut ring = Message::reply_to(&invite, 183, "").with("Require", "100rel").with("RSeq", "9");
    ring.push("Contact", world.phones[alice].contact());
    ring.set_to_tag(&tag);
    world.phones[alice].tx.respond(world.now, server, &ring);
    world.run(1.0);
    let got = world.phones[bob].seen.last().unwrap().clone();
    assert_eq!((got.header("RSeq"), got.header("Require")), (Some("9"), Some("100rel")));
    let mut prack = Message::request(Method::Prack, got.contact().unwrap().uri)
        .with("Max-Forwards", "70")
        .with("From", got.header("From").unwrap())
        .with("To", got.header("To").unwrap())
        .with("Call-ID", got.call_id())
        .with("CSeq", "4712 PRACK");
    prack.push("RAck", "9 4711 INVITE");
    world.phones[bob].send(world.now, prack);
    world.run(1.0);
    let prack = world.phones[alice].got(&Method::Prack)[0];
    assert_eq!(prack.header("RAck").unwrap(), format!("9 {} INVITE", invite.cseq().unwrap().number));
    assert_eq!(prack.to_tag(), Some(tag));
    assert_eq!(world.phones[bob].statuses(&Method::Prack), [200]);
}

#[test]
fn a_lost_peer_ends_the_call_and_the_phone_is_told_why() {
    let (mut world, bob, _) = talking();
    world.dead.push(1);
    world.agents[0].peer_lost(world.now, node(1), &mut Unchanged);
    world.run(1.0);
    let bye = world.phones[bob].got(&Method::Bye)[0];
    assert!(bye.header("Reason").unwrap().contains("peer is gone"));
    assert_eq!(world.ends(0), [(Cause::PeerLost, 200)]);
}

#[test]
fn a_peer_lost_while_ringing_is_a_call_that_nobody_takes() {
    let (mut world, bob, _) = two();
    world.phones[bob].dial(world.now, "alice", &[]);
    world.run(1.0);
    world.agents[0].peer_lost(world.now, node(1), &mut Unchanged);
    world.agents[1].peer_lost(world.now, node(0), &mut Unchanged);
    world.run(1.0);
    assert_eq!(world.phones[bob].statuses(&Method::Invite), [100, 180, 480]);
    assert_eq!(world.ends(1).len(), 1);
    world.nothing_is_left();
}

#[test]
fn a_command_hangs_up_both_sides() {
    let (mut world, bob, alice) = talking();
    let call = world.events.iter().find_map(|(a, e)| match e {
        Event::Answered { call, .. } if *a == 0 => Some(*call),
        _ => None,
    });
    world.agents[0].hang_up(world.now, call.unwrap(), 503, "Going \"down\"", &mut Unchanged);
    world.run(1.0);
    for phone in [bob, alice] {
        let bye = world.phones[phone].got(&Method::Bye)[0];
        assert_eq!(bye.header("Reason"), Some("SIP;cause=503;text=\"Going 'down'\""));
    }
    assert_eq!(world.ends(0), [(Cause::Command, 200)]);
    world.nothing_is_left();
}

#[test]
fn calls_over_tcp_and_udp_join() {
    let mut world = World::new(1);
    let bob = world.phone(0, "bob", true);
    world.phones[bob].register(world.now);
    let alice = world.registered(0, "alice");
    world.phones[alice].habit = Habit::Answer;
    world.phones[bob].dial(world.now, "alice", &[]);
    world.run(1.0);
    assert_eq!(world.phones[alice].last_talk().hears.as_deref(), Some("bob"));
    let flow = world.flow_of(bob);
    world.agents[0].handle_flow_closed(world.now, flow, &mut Unchanged);
    world.run(1.0);
    assert!(world.phones[alice].last_talk().over, "the caller's connection is gone");
    assert_eq!(world.ends(0), [(Cause::PhoneLost, 200)]);
}

#[test]
fn a_phone_that_vanishes_is_noticed_when_something_is_asked_of_it() {
    let (mut world, bob, alice) = talking();
    world.phones.truncate(alice);
    world.phones[bob].within(world.now, Method::Update, |m| m);
    world.run(40.0);
    assert!(world.phones[bob].last_talk().over);
    assert_eq!(world.ends(1), [(Cause::PhoneLost, 200)]);
}

#[test]
fn a_redirection_comes_back_through_us() {
    let (mut world, bob, alice) = two();
    world.phones[alice].habit = Habit::Silent;
    world.phones[bob].dial(world.now, "alice", &[]);
    world.run(1.0);
    let (invite, server) = {
        let r = &world.phones[alice].ringing[0];
        (r.invite.clone(), r.server)
    };
    let mut moved = Message::reply_to(&invite, 302, "").with("Contact", "<sip:carol@192.168.1.1>");
    moved.set_to_tag("x");
    world.phones[alice].tx.respond(world.now, server, &moved);
    world.run(1.0);
    let got = world.phones[bob].seen.last().unwrap();
    assert_eq!((got.status(), got.contact().unwrap().uri.as_str()), (302, "sip:carol@192.168.0.1:5060"));
    world.nothing_is_left();
}

#[test]
fn calls_survive_a_network_that_loses_a_fifth() {
    let mut world = World::new(2);
    let (bob, alice) = (world.registered(0, "bob"), world.registered(1, "alice"));
    for phone in [bob, alice] {
        world.phones[phone].expires = 3600;
        world.phones[phone].register(world.now);
    }
    world.run(5.0);
    world.loss = 0.2;
    let mut answered = 0;
    for n in 0..30 {
        let (from, to) = if n % 2 == 0 { (bob, alice) } else { (alice, bob) };
        world.phones[to].habit = Habit::Answer;
        let name = world.phones[to].name.clone();
        let before = world.phones[from].talks.len();
        world.phones[from].dial(world.now, &name, &[]);
        world.run(20.0);
        if world.phones[from].talks.len() > before {
            answered += 1;
            assert_eq!(world.phones[from].last_talk().hears.as_deref(), Some(name.as_str()));
            if n % 3 == 0 {
                world.phones[from]
                    .within(world.now, Method::Invite, |m| m.with_body("application/sdp", sdp("x")));
                world.run(20.0);
            }
            world.phones[from].hang_up(world.now);
            world.run(20.0);
        }
    }
    assert_eq!(answered, 30);
    for phone in [bob, alice] {
        assert!(world.phones[phone].talks.iter().all(|t| t.over));
    }
    world.loss = 0.0;
    world.nothing_is_left();
}

#[test]
fn a_hundred_calls_at_once_all_come_through() {
    let mut world = World::new(2);
    let alice = world.registered(1, "alice");
    world.phones[alice].habit = Habit::Answer;
    let bob = world.registered(0, "bob");
    for _ in 0..100 {
        world.phones[bob].dial(world.now, "alice", &[]);
    }
    world.run(3.0);
    assert_eq!(world.phones[bob].talks.len(), 100);
    assert_eq!(world.agents[0].live_calls(), 100);
    for _ in 0..100 {
        world.phones[bob].hang_up(world.now);
    }
    world.nothing_is_left();
}
