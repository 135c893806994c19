//! The profiles of an overlay: what protects messages between peers, and what a listener sees of them.

#[path = "../../wire/tests/p2pp/dissector/tshark.rs"]
#[allow(dead_code)]
mod tshark;
mod world;

use std::time::Duration;

use link::{Endpoint, Received};
use node::{Event, LookupOptions, Node, Outcome, Profile};
use wire::p2pp::{Builder, Header, Message, MessageType, Object, TransactionId};
use wire::{HashAlgorithm, KeyPair, Seed, Socket};
use world::{World, address};

const BOTH: [Profile; 2] = [Profile::Signed, Profile::Secure];

fn protected(profile: Profile, count: usize) -> World {
    let mut world = World::with(count, |_, config| config.profile = profile);
    world.run(Duration::from_secs(30));
    for node in &mut world.nodes {
        let status = node.status(world.now);
        assert!(
            status.online && status.profile == profile.name() && status.links > 0,
            "{profile}: {status:?}"
        );
    }
    world
}

#[test]
fn everybody_is_found_written_to_and_kept_found_when_peers_die() {
    for profile in BOTH {
        let mut world = protected(profile, 24);
        for seeker in 0..24 {
            let sought = format!("user{}@test", (seeker + 11) % 24);
            let op = world.nodes[seeker].lookup_user(world.now, &sought, LookupOptions::default());
            let Outcome::Lookup(report) = world.wait(seeker, op) else { panic!("not a lookup") };
            assert!(report.found, "{profile}: {report:?}");
        }
        let op = world.nodes[3].message(world.now, "user3@test", "user7@test", "hello");
        assert!(matches!(world.wait(3, op), Outcome::Message { .. }), "{profile}");
        world.dead.extend(8..16);
        world.run(Duration::from_secs(120));
        for seeker in 0..8 {
            let sought = format!("user{}@test", seeker + 16);
            let op = world.nodes[seeker].lookup_user(world.now, &sought, LookupOptions::default());
            let Outcome::Lookup(report) = world.wait(seeker, op) else { panic!("not a lookup") };
            assert!(report.found, "{profile}: {report:?}");
        }
    }
}

/// What a listener gathers while peers join, look each other up and write.
fn overheard(profile: Profile) -> Vec<Vec<u8>> {
    let mut world = World::with(8, |_, config| config.profile = profile);
    world.tap = Some(Vec::new());
    world.grow_with(4, |_, config| config.profile = profile);
    world.run(Duration::from_secs(20));
    let op = world.nodes[3].message(world.now, "user3@test", "user9@test", "the fox is in the henhouse");
    assert!(matches!(world.wait(3, op), Outcome::Message { .. }), "{profile}");
    world.tap.unwrap()
}

fn holds(datagram: &[u8], word: &[u8]) -> bool {
    datagram.windows(word.len()).any(|w| w == word)
}

#[test]
fn under_secure_a_listener_reads_nothing() {
    for datagram in overheard(Profile::Secure) {
        // Frames of links (first byte 80 to 95), and in them no words and no P2PP header.
        assert!((80..96).contains(&datagram[0]), "{datagram:02x?}");
        for word in [&b"henhouse"[..], b"user9", b"@test", b"openvoip"] {
            assert!(!holds(&datagram, word), "{datagram:02x?}");
        }
        let body = datagram.get(9..datagram.len() - 16);
        assert!(body.is_none_or(|body| Message::parse(body).is_err()), "{datagram:02x?}");
    }
}

#[test]
fn under_signed_a_listener_reads_every_message() {
    let heard = overheard(Profile::Signed);
    let mut messages = 0;
    for datagram in &heard {
        match datagram[0] {
            // First and second, third: public keys, signatures and codes, of known lengths.
            96 | 97 => assert_eq!(datagram.len(), 153),
            98 => assert_eq!(datagram.len(), 117),
            99 => {
                messages += 1;
                let body = &datagram[9..datagram.len() - 16];
                assert!(Message::parse(body).is_ok(), "{datagram:02x?}");
            }
            other => panic!("{other}: {datagram:02x?}"),
        }
    }
    assert!(messages > 100);
    assert!(heard.iter().any(|d| holds(d, b"the fox is in the henhouse")));
}

#[test]
fn under_signed_wireshark_reads_every_frame_and_under_secure_none_of_what_is_said() {
    let signed = overheard(Profile::Signed);
    let inside = |frame: &Vec<u8>| (frame[0] == 99).then(|| frame[9..frame.len() - 16].to_vec());
    let messages: Vec<Vec<u8>> = signed.iter().filter_map(inside).collect();
    let Some(columns) = tshark::columns("signed", &signed, tshark::PORT) else { return };
    let mut in_the_clear =
        tshark::columns("signed-inside", &messages, tshark::PORT).expect("as before").into_iter();
    let marked = tshark::errors("signed", &signed).expect("as before");
    for ((frame, column), marks) in signed.iter().zip(columns).zip(marked) {
        let (protocol, info) = match frame[0] {
            96 => ("P2PP".into(), "Link signed, first".into()),
            97 => ("P2PP".into(), "Link signed, second".into()),
            98 => ("P2PP".into(), "Link signed, third".into()),
            _ => in_the_clear.next().expect("one for each message"),
        };
        assert_eq!((column, marks), ((protocol, info), vec![]), "{frame:02x?}");
    }
    let secure = overheard(Profile::Secure);
    for (protocol, info) in tshark::columns("secure", &secure, tshark::PORT).expect("as before") {
        assert!(protocol == "P2PP" && info.starts_with("Link secure, "), "{protocol}: {info}");
    }
}

#[test]
fn peers_of_unlike_profiles_stay_apart() {
    for other in Profile::ALL {
        for profile in Profile::ALL.into_iter().filter(|p| *p != other) {
            let mut world = World::with(3, |n, config| config.profile = if n == 2 { other } else { profile });
            world.run(Duration::from_secs(60));
            let online: Vec<bool> = world.nodes.iter().map(Node::is_online).collect();
            assert_eq!(online, [true, true, false], "{other} among {profile}");
            assert!(world.events[2].iter().any(|e| matches!(e, Event::Offline { .. })), "{other}");
        }
    }
}

#[test]
fn what_stands_in_the_clear_is_not_answered_where_messages_are_protected() {
    for profile in BOTH {
        let mut world = protected(profile, 3);
        let stranger = KeyPair::from_seed(Seed::from_number(77)).public().node_id(HashAlgorithm::Sha256);
        for message in MessageType::ALL.iter().copied() {
            let header = Header::request(message, TransactionId(1), stranger);
            let mut bytes = Builder::new(&header).finish();
            world.nodes[0].handle_datagram(world.now, Socket::Peer, address(900), &mut bytes);
            assert_eq!(world.nodes[0].poll_transmit(), None, "{profile} {message:?}");
        }
    }
}

#[test]
fn nobody_speaks_in_the_name_of_another_over_its_own_link() {
    for profile in BOTH {
        let mut world = protected(profile, 3);
        let keys = KeyPair::from_seed(Seed::from_number(77));
        let mut stranger = Endpoint::new(profile, &keys, Seed::from_number(78));
        let victim = world.nodes[2].node_id().unwrap();
        let own = keys.public().node_id(HashAlgorithm::Sha256);
        let mut answers = Vec::new();
        for source in [victim, own] {
            let mut header = Header::request(MessageType::KeepAlive, TransactionId(1), source);
            header.overlay = world.nodes[0].overlay_tag().unwrap();
            stranger.send_to(world.now, (address(0), None), Builder::new(&header).finish(), 0);
            let mut answered = false;
            for _ in 0..6 {
                while let Some(mut sent) = stranger.poll_transmit() {
                    world.nodes[0].handle_datagram(world.now, Socket::Peer, address(900), &mut sent.bytes);
                }
                while let Some(back) = world.nodes[0].poll_transmit() {
                    if back.remote == address(900) {
                        let received = stranger.handle_datagram(world.now, address(0), &back.bytes);
                        answered |= matches!(received, Received::Sealed(..));
                    }
                }
            }
            answers.push(answered);
        }
        assert_eq!(answers, [false, true], "{profile}: in another's name, and in its own");
    }
}

#[test]
fn a_message_over_a_link_is_its_owners_whatever_signature_stands_beside_it() {
    let sip = "MESSAGE sip:user0@test SIP/2.0\r\nVia: SIP/2.0/TCP a.invalid;branch=z9hG4bK1\r\n\
               From: <sip:user2@test>;tag=1\r\nTo: <sip:user0@test>\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\n\
               Max-Forwards: 70\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
    let mut world = protected(Profile::Secure, 3);
    let keys = KeyPair::from_seed(Seed::from_number(77));
    let mut stranger = Endpoint::new(Profile::Secure, &keys, Seed::from_number(78));
    let (victim, own) = (world.nodes[2].public_key(), keys.public().node_id(HashAlgorithm::Sha256));
    let victims_id = world.nodes[2].node_id();
    let mut heard = Vec::new();
    for (number, source) in [None, victims_id, Some(own)].into_iter().enumerate() {
        let mut header = Header::request(MessageType::Tunnel, TransactionId(number as u64), own);
        (header.source, header.overlay) = (source, world.nodes[0].overlay_tag().unwrap());
        let linked = [&[3][..], &[7; 11], &[number as u8], sip.as_bytes()].concat();
        let tunnel = Builder::new(&header)
            .with(&Object::PeerId(world.nodes[0].node_id().unwrap()))
            .with(&Object::Payload { content: 0, bytes: &linked })
            .with(&Object::Signature { key: victim, signature: [0; 64] })
            .finish();
        stranger.send_to(world.now, (address(0), None), tunnel, 0);
        for _ in 0..6 {
            while let Some(mut sent) = stranger.poll_transmit() {
                world.nodes[0].handle_datagram(world.now, Socket::Peer, address(900), &mut sent.bytes);
            }
            while let Some(back) = world.nodes[0].poll_transmit() {
                if back.remote == address(900) {
                    stranger.handle_datagram(world.now, address(0), &back.bytes);
                }
            }
        }
        heard.push(world.nodes[0].inbox().count());
    }
    assert_eq!(heard, [0, 0, 1], "without a source, in the victim's name, and in its own");
}

#[test]
fn where_closed_ports_say_so_a_dead_peer_is_known_at_once_over_links_too() {
    for profile in BOTH {
        let mut world = protected(profile, 24);
        world.closed_ports = true;
        world.dead.extend(8..16);
        for seeker in 0..8 {
            let sought = format!("user{}@test", seeker + 16);
            let op = world.nodes[seeker].lookup_user(world.now, &sought, LookupOptions::default());
            let Outcome::Lookup(report) = world.wait(seeker, op) else { panic!("not a lookup") };
            assert!(report.found && report.time_ms <= 150.0, "{profile}: {report:?}");
        }
    }
}
