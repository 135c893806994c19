//! Streams: peers that UDP does not reach, and streams that break or mean no good.

#[path = "../../wire/tests/p2pp/dissector/tshark.rs"]
#[allow(dead_code)]
mod tshark;
mod world;

use std::net::SocketAddr;
use std::time::Duration;

use node::{LookupOptions, Outcome, Profile};
use sip::ua::g711_sdp;
use wire::{Rng, RngExt, Seed, Socket};
use world::phone::{Phone, run};
use world::{World, address};

fn find(world: &mut World, seeker: usize, sought: usize) {
    let name = format!("user{sought}@test");
    let op = world.nodes[seeker].lookup_user(world.now, &name, LookupOptions::default());
    let Outcome::Lookup(report) = world.wait(seeker, op) else { panic!("not a lookup") };
    assert!(report.found, "{seeker} seeks {sought}: {report:?}");
}

fn write(world: &mut World, from: usize, to: usize) {
    let (from_name, to_name) = (format!("user{from}@test"), format!("user{to}@test"));
    let op = world.nodes[from].message(world.now, &from_name, &to_name, "hello");
    let outcome = world.wait(from, op);
    let Outcome::Message(report) = outcome else { panic!("not a message: {outcome:?}") };
    assert_eq!(report.state, "delivered", "{from} writes to {to}: {report:?}");
}

/// Peers of which the last is reached by TCP alone: because it uses no UDP, or because a firewall keeps it away.
fn with_one_apart(profile: Profile, count: usize, by_setting: bool) -> World {
    let mut world = World::with(count - 1, |_, config| config.profile = profile);
    world.run(Duration::from_secs(10));
    world.streams.without_udp.insert(count - 1);
    world.grow_with(1, |_, config| {
        config.profile = profile;
        config.udp = !by_setting;
    });
    world.run(Duration::from_secs(30));
    world
}

#[test]
fn who_is_cut_off_from_udp_joins_is_found_and_writes_and_is_written_to() {
    for profile in Profile::ALL {
        for by_setting in [false, true] {
            let mut world = with_one_apart(profile, 6, by_setting);
            assert!(world.nodes[5].is_online(), "{profile}, by setting: {by_setting}");
            for other in 0..5 {
                find(&mut world, 5, other);
                find(&mut world, other, 5);
            }
            write(&mut world, 5, 2);
            write(&mut world, 3, 5);
            let now = world.now;
            assert!(
                world.nodes[5].status(now).streams > 0 && world.nodes[0].status(now).streams == 1,
                "{profile}"
            );
        }
    }
}

#[test]
fn where_udp_works_nobody_asks_for_a_stream() {
    for profile in Profile::ALL {
        let mut world = World::with(12, |_, config| config.profile = profile);
        world.run(Duration::from_secs(60));
        (0..12).for_each(|seeker| find(&mut world, seeker, (seeker + 5) % 12));
        assert_eq!((world.streams.asked, world.streams.pieces), (0, 0), "{profile}");
    }
}

#[test]
fn a_stream_cut_within_a_message_loses_nothing_that_is_repeated() {
    for profile in Profile::ALL {
        let mut world = with_one_apart(profile, 4, true);
        write(&mut world, 1, 3);
        for (cut, from, to) in [(3, 1, 3), (1, 3, 1), (1, 1, 3), (3, 3, 1)] {
            world.streams.cut = Some(cut);
            write(&mut world, from, to);
            assert_eq!(world.streams.cut, None, "{profile}: a stream was cut");
        }
    }
}

#[test]
fn a_peer_found_over_a_stream_is_asked_over_one_again_after_a_long_silence() {
    let mut world = with_one_apart(Profile::Secure, 4, true);
    find(&mut world, 1, 3);
    let streams: Vec<_> = world.streams.open.iter().copied().collect();
    for (here, there) in streams {
        let n = (0..4).find(|n| address(*n) == here).unwrap();
        world.nodes[n].handle_peer_stream_closed(world.now, there);
    }
    world.streams.open.clear();
    write(&mut world, 1, 3);
    write(&mut world, 3, 2);
}

#[test]
fn what_goes_over_streams_is_booked_with_its_headers() {
    let world = with_one_apart(Profile::Open, 2, true);
    let status = world.nodes[1].status(world.now);
    let booked: f64 = status.ledger.values().map(|rates| rates.sent).sum();
    let pieces = world.streams.pieces;
    assert!(pieces > 0 && world.sent[1] == 0, "nothing by UDP");
    // At least a header of IP and one of TCP for each.
    assert!(booked >= (world.streams.pieces / 2 * 54) as f64, "{booked} for {pieces} pieces");
}

/// A stranger's stream to peer 0, and what it says.
fn hostile(world: &mut World, from: SocketAddr, bytes: &[u8]) {
    world.nodes[0].handle_peer_stream_opened(world.now, from);
    world.nodes[0].handle_datagram(world.now, Socket::PeerStream, from, &mut bytes.to_vec());
    world.collect(0);
}

fn stranger(rng: &mut Rng) -> SocketAddr {
    let host: [u8; 3] = rng.random();
    SocketAddr::from(([203, host[0], host[1], host[2]], rng.random_range(1_024..60_000)))
}

#[test]
fn streams_that_mean_no_good_are_closed_and_bounded() {
    for profile in Profile::ALL {
        let mut world = with_one_apart(profile, 3, true);
        let mut rng = Seed::from_number(5).rng();
        let friends = world.nodes[0].status(world.now).streams;
        // Too long, nothing at all, another protocol: at once.
        for garbage in [&[0xff; 600][..], &[0, 0, 1], b"\x00\x04GET / HTTP/1.1", &[0, 2, 22, 3]] {
            hostile(&mut world, stranger(&mut rng), garbage);
            assert_eq!(world.nodes[0].status(world.now).streams, friends, "{profile} {garbage:?}");
        }
        // Half a frame and none, by the thousand: within bounds, and after five seconds none.
        for n in 0..3_000 {
            let half = [4, 0, 0xC0, 1, 2];
            hostile(&mut world, stranger(&mut rng), if n % 2 == 0 { &half } else { &[] });
        }
        assert!(world.nodes[0].status(world.now).streams <= 256, "{profile}");
        world.run(Duration::from_secs(6));
        assert_eq!(world.nodes[0].status(world.now).streams, friends, "{profile}: who is known stays");
        write(&mut world, 0, 2);
    }
}

#[test]
fn one_host_with_many_streams_does_not_close_those_of_others() {
    let mut world = with_one_apart(Profile::Open, 3, true);
    let ping = |n: u16| {
        // A header of P2PP is enough to be of use: the parser refuses it later.
        let mut bytes = vec![0, 8, 0xC0];
        bytes.extend([n as u8; 7]);
        bytes
    };
    for n in 0..1_000u16 {
        hostile(&mut world, SocketAddr::from(([203, 0, 113, 1], 2_000 + n)), &ping(n));
    }
    let status = world.nodes[0].status(world.now);
    assert!(status.streams <= 256, "{}", status.streams);
    let asked = world.streams.asked;
    write(&mut world, 0, 2);
    assert_eq!(world.streams.asked, asked, "the friend's stream still stands");
}

#[test]
fn a_call_with_a_peer_without_udp_is_made_and_ended_and_has_no_sound() {
    let mut world = with_one_apart(Profile::Secure, 4, true);
    let mut phones = [Phone::new(&mut world, 1, 440.0), Phone::new(&mut world, 3, 1_000.0)];
    run(&mut world, &mut phones, Duration::from_secs(1));
    let offer = g711_sdp(phones[0].media_address());
    let call = phones[0].ua.invite(world.now, "user3@test", offer);
    run(&mut world, &mut phones, Duration::from_secs(30));
    for n in [1, 3] {
        let report = world.nodes[n].calls(world.now).pop().expect("a call");
        assert_eq!((report.state.as_str(), report.rtp.received), ("established", 0), "{report:?}");
    }
    phones[0].ua.hang_up(world.now, call);
    run(&mut world, &mut phones, Duration::from_secs(1));
    assert!(phones[1].ended);
}

#[test]
fn behind_a_nat_and_without_udp_a_peer_is_a_client_and_is_written_to() {
    for profile in Profile::ALL {
        let mut world = World::behind_nats(64, &[64], |_, config| config.profile = profile);
        world.streams.without_udp.insert(64);
        world.grow_with(1, |_, config| (config.profile, config.udp) = (profile, false));
        world.run(Duration::from_secs(600));
        let status = world.nodes[64].status(world.now);
        assert_eq!((status.online, status.role.as_str()), (true, "client"), "{profile}: {status:?}");
        for other in [3, 11, 20] {
            write(&mut world, 64, other);
            write(&mut world, other, 64);
        }
    }
}

#[test]
fn under_signed_wireshark_reads_what_goes_over_a_stream_however_it_is_cut() {
    let mut world = with_one_apart(Profile::Signed, 3, true);
    world.streams.tap = Some(Vec::new());
    write(&mut world, 1, 2);
    let pieces = world.streams.tap.take().unwrap();
    let Some(whole) = tshark::columns_of_stream("stream", &pieces) else { return };
    assert!(whole.iter().any(|(protocol, info)| protocol == "P2PP" && info.contains("Tunnel")), "{whole:?}");
    assert!(whole.iter().all(|(protocol, _)| protocol != "TCP"), "{whole:?}");
    // Each cut within its length, and what is left of it with the next.
    let (mut cut, mut rest) = (Vec::new(), Vec::new());
    for piece in &pieces {
        cut.push([&rest[..], &piece[..1]].concat());
        rest = piece[1..].to_vec();
    }
    cut.push(rest);
    let read = tshark::columns_of_stream("stream-cut", &cut).expect("as before");
    let infos = |columns: &[(String, String)]| -> Vec<String> {
        columns.iter().filter(|(protocol, _)| protocol != "TCP").map(|(_, info)| info.clone()).collect()
    };
    assert_eq!(infos(&read), infos(&whole));
}
