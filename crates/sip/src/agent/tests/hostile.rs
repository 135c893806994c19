//! What strangers, loops and arbitrary bytes can do to a peer: nothing but draw the answers of RFC 3261.

use proptest::prelude::*;
use wire::Time;
use wire::sip::{Message, Method};

use super::rig::{Habit, World, sdp};
use crate::Flow;

fn stranger() -> Flow {
    Flow::Udp("203.0.113.7:5060".parse().unwrap())
}

fn answers(world: &mut World, bytes: &[u8]) -> Vec<u16> {
    world.inject(0, stranger(), bytes);
    let mut out = Vec::new();
    while let Some((_, bytes)) = world.agents[0].poll_transmit() {
        // By the first line: an answer to a request without Call-ID has none either.
        out.push(std::str::from_utf8(&bytes[8..11]).unwrap().parse().unwrap());
    }
    out
}

const INVITE: &str = "INVITE sip:alice@192.168.0.1 SIP/2.0\r\n\
Via: SIP/2.0/UDP 203.0.113.7;branch=z9hG4bKx;rport\r\n\
Max-Forwards: 70\r\n\
From: <sip:eve@203.0.113.7>;tag=1\r\n\
To: <sip:alice@192.168.0.1>\r\n\
Call-ID: c1\r\n\
CSeq: 1 INVITE\r\n\
Contact: <sip:eve@203.0.113.7>\r\n\
Content-Length: 0\r\n\r\n";

#[test]
fn broken_requests_are_answered_and_broken_responses_are_not() {
    let mut world = World::new(1);
    let cases = [
        (INVITE.replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"), 505),
        (INVITE.replace("Content-Length: 0", "Content-Length: -1"), 400),
        (INVITE.replace("Content-Length: 0", "Content-Length: 99"), 400),
        (INVITE.replace("CSeq: 1 INVITE", "CSeq: 1 BYE"), 400),
        (INVITE.replace("Call-ID: c1\r\n", ""), 400),
        (INVITE.to_owned(), 407),
    ];
    for (text, status) in cases {
        assert_eq!(answers(&mut world, text.as_bytes()), [status], "{text}");
    }
    let response = INVITE.replace("INVITE sip:alice@192.168.0.1 SIP/2.0", "SIP/2.0 9999 Bad");
    assert!(answers(&mut world, response.as_bytes()).is_empty());
    let ack = INVITE.replace("INVITE", "ACK").replace("Call-ID: c1\r\n", "");
    assert!(answers(&mut world, ack.as_bytes()).is_empty(), "an ACK is never answered");
}

#[test]
fn the_same_request_by_two_ways_is_a_loop() {
    let mut world = World::new(1);
    let one = INVITE.replace("From: <sip:eve", "Max-Breadth: 1\r\nFrom: <sip:eve");
    assert_eq!(answers(&mut world, one.as_bytes()), [407]);
    let mut world = World::new(1);
    let bob = world.registered(0, "bob");
    world.manual = true;
    world.phones[bob].dial(world.now, "alice", &[]);
    world.run(0.5);
    let mut invite: Message = {
        let phone = &mut world.phones[bob];
        phone.fresh(Method::Invite, "sip:alice@192.168.0.1").with_body("application/sdp", sdp("bob"))
    };
    for (n, expected) in [(1, 100), (2, 482)] {
        invite.remove("Via");
        invite.headers.insert(
            0,
            wire::sip::Header::new("Via", format!("SIP/2.0/UDP 192.168.0.10:5060;branch=z9hG4bKway{n}")),
        );
        let flow = world.flow_of(bob);
        world.inject(0, flow, &invite.to_bytes());
        let (_, bytes) = world.agents[0].poll_transmit().unwrap();
        assert_eq!(wire::sip::parse(&bytes).unwrap().status(), expected);
    }
}

#[test]
fn nobody_else_can_end_a_call_or_cancel_one() {
    let mut world = World::new(2);
    let (bob, alice) = (world.registered(0, "bob"), world.registered(1, "alice"));
    world.phones[alice].habit = Habit::Answer;
    world.phones[bob].dial(world.now, "alice", &[]);
    world.run(1.0);
    // Eve has read everything on the wire and knows the tags.
    let bye = {
        let mut dialog = world.phones[bob].last_talk().dialog.clone();
        let mut bye = dialog.request(Method::Bye);
        bye.headers.insert(0, wire::sip::Header::new("Via", "SIP/2.0/UDP 203.0.113.7;branch=z9hG4bKe"));
        bye.to_bytes()
    };
    assert_eq!(answers(&mut world, &bye), [481]);
    world.run(1.0);
    assert!(!world.phones[alice].last_talk().over);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_leave_the_agent_standing(bytes: Vec<u8>, stream: bool) {
        let mut world = World::new(1);
        let flow = match stream {
            true => Flow::Stream(wire::ConnectionId(1), "203.0.113.7:99".parse().unwrap()),
            false => stranger(),
        };
        world.inject(0, flow, &bytes);
        world.run(1.0);
    }

    #[test]
    fn a_damaged_conversation_leaves_nothing_behind(
        damage in proptest::collection::vec((0usize..12, 0usize..900, any::<u8>()), 1..12),
        seconds in 1u32..40,
    ) {
        // Bob's messages to his agent are damaged here and there; whatever comes of it, nothing
        // panics, timeouts advance, and in the end nothing is left.
        let mut world = World::new(2);
        let (bob, alice) = (world.registered(0, "bob"), world.registered(1, "alice"));
        world.phones[alice].habit = Habit::Answer;
        let call = world.phones[bob].dial(world.now, "alice", &[]);
        let flow = world.flow_of(bob);
        for (n, (which, at, byte)) in damage.into_iter().enumerate() {
            world.run(f64::from(seconds) / 20.0);
            let mut message = match which {
                0..=3 => world.phones[bob].fresh(Method::Invite, "sip:alice@192.168.0.1").with_body("application/sdp", sdp("bob")),
                4 => world.phones[bob].fresh(Method::Message, "sip:alice@192.168.0.1"),
                5 => { world.phones[bob].cancel(world.now, call); continue }
                other => match world.phones[bob].talks.last_mut() {
                    Some(talk) => talk.dialog.request(Method::KNOWN[other + 1].clone()),
                    None => continue,
                },
            };
            let via = format!("SIP/2.0/UDP 192.168.0.10:5060;branch=z9hG4bKd{n}");
            message.headers.insert(0, wire::sip::Header::new("Via", via));
            let mut bytes = message.to_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            world.inject(0, flow, &bytes);
        }
        world.run(300.0);
        for agent in 0..2 {
            let now = world.now;
            world.agents[agent].handle_flow_closed(now, flow, &mut crate::Unchanged);
            world.agents[agent].peer_lost(now, super::rig::node(1 - agent), &mut crate::Unchanged);
        }
        world.nothing_is_left();
        prop_assert!(world.now > Time::ZERO);
    }
}
