//! Calls and messages between peers, judged by what was heard.

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use node::{CallOptions, Event, Outcome, User};
use sip::Flow;
use sip::transaction::SentBy;
use sip::ua::{UaConfig, UserAgent, g711_sdp};
use wire::{ConnectionId, KeyPair, Seed, Socket};
use world::phone::{Phone, run};
use world::{World, sip_address};

fn ready(peers: usize) -> World {
    let mut world = World::new(peers);
    world.run(Duration::from_secs(10));
    world
}

#[test]
fn echo_gives_back_what_it_hears() {
    let mut world = ready(3);
    let options = CallOptions { record: true, duration: Some(Duration::from_secs(4)), play: None };
    let op = world.nodes[1].call(world.now, "user1@test", "echo", options);
    match world.wait(1, op) {
        Outcome::Call(report) => {
            let recording = report.recording.clone().expect("a recording");
            assert_eq!(report.failure, None, "{report:?}");
            let heard = media::heard(&recording, 8_000, 440.0);
            assert!(heard.at_least(2.0), "{heard:?} {} {:?}", recording.len(), report.rtp);
            assert_eq!((report.state.as_str(), report.failure), ("ended", None));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn echo_declines_to_be_transferred_and_the_call_goes_on() {
    let mut world = ready(3);
    let mut phones = [Phone::new(&mut world, 2, 440.0)];
    run(&mut world, &mut phones, Duration::from_secs(1));
    let offer = g711_sdp(phones[0].media_address());
    let call = phones[0].ua.invite(world.now, "echo", offer);
    run(&mut world, &mut phones, Duration::from_secs(1));
    phones[0].ua.refer(world.now, call, "user1@test");
    run(&mut world, &mut phones, Duration::from_secs(3));
    assert_eq!(phones[0].transfer, [202, 100, 603]);
    assert!(phones[0].heard(440.0) && !phones[0].ended);
}

#[test]
fn two_phones_at_two_peers_hear_each_other() {
    let mut world = ready(8);
    let mut phones = [Phone::new(&mut world, 2, 440.0), Phone::new(&mut world, 6, 1_000.0)];
    run(&mut world, &mut phones, Duration::from_secs(1));
    let offer = g711_sdp(phones[0].media_address());
    let call = phones[0].ua.invite(world.now, "user6@test", offer);
    run(&mut world, &mut phones, Duration::from_secs(5));
    assert!(phones[1].heard(440.0) && phones[0].heard(1_000.0));
    let report = world.nodes[2].calls(world.now).pop().expect("a call");
    assert_eq!((report.state.as_str(), report.path.as_str()), ("established", "direct"));
    assert!(report.setup_ms < 300.0 && report.mos > 4.0 && report.rtp.lost == 0, "{report:?}");
    phones[0].ua.hang_up(world.now, call);
    run(&mut world, &mut phones, Duration::from_secs(1));
    assert!(phones[1].ended);
    assert_eq!(world.nodes[6].calls(world.now).pop().unwrap().state, "ended");
}

#[test]
fn a_bare_name_means_the_users_own_domain_however_the_phone_spells_it() {
    let mut world = ready(8);
    let mut phones = [Phone::new(&mut world, 2, 440.0), Phone::new(&mut world, 6, 1_000.0)];
    run(&mut world, &mut phones, Duration::from_secs(1));
    let ours = sip_address(2).ip();
    for to in [format!("sip:user6@{ours}"), format!("sip:user6%40test@{ours}"), "user6".into()] {
        let offer = g711_sdp(phones[0].media_address());
        let call = phones[0].ua.invite(world.now, &to, offer);
        run(&mut world, &mut phones, Duration::from_secs(1));
        let report = world.nodes[2].calls(world.now).pop().expect("a call");
        assert_eq!((report.state.as_str(), report.to.as_str()), ("established", "user6@test"), "{to}");
        phones[0].ua.hang_up(world.now, call);
        run(&mut world, &mut phones, Duration::from_secs(1));
    }
}

/// Eight peers; the third has rules for what is dialled, a phone, and a user whose name is made of digits, the
/// seventh the phone of a radio amateur.
fn dialling() -> (World, [Phone; 2]) {
    let mut world = World::with(8, |n, config| {
        if n == 2 {
            config.dial.short.insert("11".into(), "user4".into());
            config.dial.short.insert("42229091".into(), "user4".into());
            config.dial.prefixes.insert("808".into(), "*@test".into());
        }
    });
    for (n, aor) in [(6, "in3fqq@test"), (2, "42229091@test")] {
        let keys = KeyPair::from_seed(Seed::from_number(500 + n as u64));
        world.nodes[n].add_user(world.now, User { aor: aor.into(), keys });
    }
    world.run(Duration::from_secs(10));
    let caller = Phone::new(&mut world, 2, 440.0);
    let amateur = Phone::of(&mut world, 6, "in3fqq".into(), 1_000.0);
    let mut phones = [caller, amateur];
    run(&mut world, &mut phones, Duration::from_secs(1));
    (world, phones)
}

#[test]
fn who_dials_the_digits_of_a_call_sign_hears_its_owner_with_or_without_a_prefix() {
    let (mut world, mut phones) = dialling();
    for keys in ["436230337272", "808436230337272"] {
        let offer = g711_sdp(phones[0].media_address());
        let call = phones[0].ua.invite(world.now, keys, offer);
        run(&mut world, &mut phones, Duration::from_secs(5));
        assert!(phones[1].heard(440.0) && phones[0].heard(1_000.0), "{keys}");
        let report = world.nodes[2].calls(world.now).pop().expect("a call");
        assert_eq!(report.to, "in3fqq@test", "{keys}");
        phones[0].ua.hang_up(world.now, call);
        run(&mut world, &mut phones, Duration::from_secs(1));
        phones.iter_mut().for_each(|phone| phone.sound = None);
    }
    phones[0].ua.message(world.now, "436230337272", "text/plain", b"at the radio?");
    run(&mut world, &mut phones, Duration::from_secs(1));
    assert_eq!(phones[1].texts, ["at the radio?"]);
}

#[test]
fn a_short_code_is_a_person_to_phones_of_its_peer_and_nothing_to_others() {
    let (mut world, mut phones) = dialling();
    phones[0].ua.message(world.now, "11", "text/plain", b"eleven");
    phones[1].ua.message(world.now, "11", "text/plain", b"another eleven");
    run(&mut world, &mut phones, Duration::from_secs(3));
    let inbox: Vec<_> = world.nodes[4].inbox().map(|m| (m.to.as_str(), m.text.as_str())).collect();
    assert_eq!(inbox, [("user4@test", "eleven")]);
    let looked_up = world.nodes[2].lookup_user(world.now, "11", node::LookupOptions::default());
    let outcome = world.wait(2, looked_up);
    assert!(matches!(&outcome, Outcome::Lookup(r) if r.found), "{outcome:?}");
}

#[test]
fn a_user_of_this_peer_whose_name_is_made_of_digits_goes_before_every_rule() {
    let (mut world, mut phones) = dialling();
    phones[0].ua.message(world.now, "42229091", "text/plain", b"hello");
    run(&mut world, &mut phones, Duration::from_secs(2));
    let inbox: Vec<_> = world.nodes[2].inbox().map(|m| (m.to.as_str(), m.text.as_str())).collect();
    assert_eq!(inbox, [("42229091@test", "hello")]);
}

#[test]
fn digits_that_another_peer_asks_for_are_a_name_and_are_not_dialled_again() {
    let mut world = World::with(8, |n, config| {
        if n == 1 {
            config.dial.short.insert("42229091".into(), "42229091".into());
        }
    });
    let keys = KeyPair::from_seed(Seed::from_number(500));
    world.nodes[2].add_user(world.now, User { aor: "42229091@test".into(), keys });
    world.run(Duration::from_secs(10));
    // The peer forgets that user, and serves the call sign for which the digits stand.
    world.restart(2);
    world.nodes[2].add_phone(world.now, "hb9w", "secret");
    world.run(Duration::from_secs(10));
    let op = world.nodes[1].message(world.now, "user1@test", "42229091", "from afar");
    let outcome = world.wait(1, op);
    assert!(matches!(&outcome, Outcome::Message(r) if r.status == 404), "{outcome:?}");
    let op = world.nodes[2].message(world.now, "user2@test", "42229091", "from here");
    let outcome = world.wait(2, op);
    assert!(matches!(&outcome, Outcome::Message(r) if r.state == "delivered"), "{outcome:?}");
    assert_eq!(world.nodes[2].inbox().map(|m| m.text.as_str()).collect::<Vec<_>>(), ["from here"]);
}

#[test]
fn a_phone_is_told_within_five_seconds_that_the_other_peer_died() {
    let mut world = ready(8);
    let mut phones = [Phone::new(&mut world, 2, 440.0), Phone::new(&mut world, 6, 1_000.0)];
    run(&mut world, &mut phones, Duration::from_secs(1));
    let offer = g711_sdp(phones[0].media_address());
    phones[0].ua.invite(world.now, "user6@test", offer);
    run(&mut world, &mut phones, Duration::from_secs(4));
    assert!(phones[0].heard(1_000.0));
    world.dead.insert(6);
    let [caller, _] = phones;
    let mut survivor = [caller];
    run(&mut world, &mut survivor, Duration::from_secs(5));
    assert!(survivor[0].ended, "{:?}", world.nodes[2].calls(world.now));
    let report = world.nodes[2].calls(world.now).pop().unwrap();
    assert_eq!(report.failure.expect("a failure").cause, "peer_lost");
}

#[test]
fn a_message_reaches_a_phone_or_waits_in_the_inbox() {
    let mut world = ready(8);
    let mut phones = [Phone::new(&mut world, 5, 440.0)];
    run(&mut world, &mut phones, Duration::from_secs(1));
    let to_phone = world.nodes[1].message(world.now, "user1@test", "user5@test", "hello");
    run(&mut world, &mut phones, Duration::from_secs(2));
    assert_eq!(phones[0].texts, ["hello"]);
    assert!(matches!(world.wait(1, to_phone), Outcome::Message(r) if r.state == "delivered"));
    let to_inbox = world.nodes[1].message(world.now, "user1@test", "user4@test", "later");
    let outcome = world.wait(1, to_inbox);
    assert!(matches!(&outcome, Outcome::Message(r) if r.state == "delivered"), "{outcome:?}");
    let inbox: Vec<_> = world.nodes[4].inbox().map(|m| (m.from.as_str(), m.text.as_str())).collect();
    assert_eq!(inbox, [("user1@test", "later")]);
}

#[test]
fn a_phone_whose_connection_closes_is_gone() {
    let mut world = ready(2);
    let connection = ConnectionId(7);
    world.nodes[0].add_phone(world.now, "user0@test", "secret");
    let config = UaConfig {
        user: "user0".into(),
        domain: "test".into(),
        password: Some("secret".into()),
        flow: Flow::Stream(connection, sip_address(0)),
        sent_by: SentBy { host: "10.9.0.1".into(), port: Some(40_000) },
        expires: 600,
    };
    let mut ua = UserAgent::new(config, Seed::from_number(50));
    ua.register(world.now);
    for _ in 0..4 {
        while let Some((_, bytes)) = ua.poll_transmit() {
            let from = SocketAddr::from(([10, 9, 0, 1], 40_000));
            world.phone_says(0, Socket::SipStream(connection), from, &bytes);
        }
        for (_, t) in std::mem::take(&mut world.to_phones) {
            ua.handle_message(world.now, Flow::Stream(connection, sip_address(0)), &t.bytes);
        }
    }
    let online = |world: &World| world.nodes[0].status(world.now).phones.iter().any(|p| p.online);
    assert!(online(&world), "the phone did not register");
    world.nodes[0].handle_stream_closed(world.now, connection);
    assert!(!online(&world));
}

#[test]
fn a_peer_that_had_no_ports_for_sound_asks_for_them_again() {
    let mut world = ready(3);
    world.no_ports = true;
    let mut phones = [Phone::new(&mut world, 2, 440.0)];
    run(&mut world, &mut phones, Duration::from_secs(1));
    let offer = g711_sdp(phones[0].media_address());
    phones[0].ua.invite(world.now, "echo", offer.clone());
    run(&mut world, &mut phones, Duration::from_secs(3));
    assert!(phones[0].sound.is_none());
    world.no_ports = false;
    run(&mut world, &mut phones, Duration::from_secs(60));
    phones[0].ua.invite(world.now, "echo", offer);
    run(&mut world, &mut phones, Duration::from_secs(5));
    assert!(phones[0].heard(440.0));
}

#[test]
fn calls_that_cannot_succeed_say_why() {
    let mut world = ready(8);
    for (to, status, cause) in [("nobody@test", 404, "not_found"), ("user4@test", 480, "unavailable")] {
        let start = world.now;
        let op = world.nodes[1].call(world.now, "user1@test", to, CallOptions::default());
        match world.wait(1, op) {
            Outcome::Call(report) => {
                assert_eq!((report.status, report.failure.unwrap().cause.as_str()), (status, cause));
                assert!(world.now.since(start) < Duration::from_secs(3));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(!world.events[1].iter().any(|e| matches!(e, Event::Offline { .. })));
}
