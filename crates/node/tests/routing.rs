//! Requests find their way round dead hops in tens of milliseconds, and an answer that goes straight to an
//! address nobody proved is no longer than the question.

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use node::report::LookupReport;
use node::{LookupOptions, Outcome};
use wire::p2pp::{
    AddressInfo, Builder, Class, Code, Header, Kind, Message, MessageType, Object, RLookup, TransactionId,
};
use wire::{HashAlgorithm, KeyPair, ResourceId, Seed, Socket};
use world::World;

/// Looks `sought` up from `seeker`, copies of its own not counting.
fn look_up(world: &mut World, seeker: usize, sought: usize) -> LookupReport {
    let options = LookupOptions { fresh: true, ..LookupOptions::default() };
    let op = world.nodes[seeker].lookup_user(world.now, &format!("user{sought}@test"), options);
    match world.wait(seeker, op) {
        Outcome::Lookup(report) => report,
        other => panic!("{other:?}"),
    }
}

/// Kills every third of 64 peers, and returns how long some 200 lookups right after take, the slowest last.
fn times_after_a_third_is_gone(mut world: World) -> Vec<f64> {
    // Every third peer, so that some keys have lost several holders and some ways several hops.
    world.dead.extend((1..64).step_by(3));
    let living: Vec<usize> = (0..64).filter(|n| !world.dead.contains(n)).collect();
    let mut times = Vec::new();
    for n in 0..200 {
        let seeker = living[n % living.len()];
        let sought = living[(n * 7 + 5) % living.len()];
        if seeker == sought {
            continue;
        }
        let report = look_up(&mut world, seeker, sought);
        assert!(report.found, "{seeker} seeks {sought}: {report:?}");
        times.push(report.time_ms);
    }
    times.sort_by(f64::total_cmp);
    times
}

/// 64 peers that have known each other for a minute.
fn settled() -> World {
    let mut world = World::new(64);
    world.run(Duration::from_secs(60));
    world
}

// Ten milliseconds there and back; a transaction's whole patience with one dead hop would be 700.
#[test]
fn a_third_cut_off_silently_costs_lookups_tens_of_milliseconds() {
    let times = times_after_a_third_is_gone(settled());
    assert!(times.last().is_some_and(|slowest| *slowest <= 400.0), "{times:?}");
}

// Round trips were then a thousand times as long as they are now, and of the dead nothing better is known.
#[test]
fn what_was_measured_while_all_joined_at_once_delays_no_lookup_after_a_third_is_cut_off() {
    let mut world = World::new(0);
    (world.latency, world.work) = (Duration::from_micros(100), Duration::from_micros(200));
    world.grow_at_once(64);
    world.run(Duration::from_secs(10));
    let times = times_after_a_third_is_gone(world);
    // The bar of a second, and for nearly all a fraction of what they waited when nothing forgot the joining.
    assert!(times.last().is_some_and(|slowest| *slowest <= 1_000.0), "{times:?}");
    assert!(times[times.len() * 95 / 100] <= 100.0 && times[times.len() * 99 / 100] <= 400.0, "{times:?}");
}

#[test]
fn where_closed_ports_say_so_a_dead_hop_costs_half_a_round_trip() {
    let mut world = settled();
    world.closed_ports = true;
    let times = times_after_a_third_is_gone(world);
    assert!(times.last().is_some_and(|slowest| *slowest <= 100.0), "{times:?}");
}

#[test]
fn who_does_not_know_what_was_sent_convinces_nobody_that_a_peer_is_gone() {
    let mut world = World::new(3);
    world.run(Duration::from_secs(30));
    let table = |world: &World| world.nodes[0].neighbors(world.now).len();
    let before = table(&world);
    // A question is under way, and its quotation is guessed: one bit of its transaction-ID is wrong.
    world.nodes[0].ping(world.now, &node::Target::Address(world::address(1)));
    let mut question = world.nodes[0].poll_transmit().expect("a question").bytes;
    question[15] ^= 1;
    for _ in 0..10 {
        world.nodes[0].handle_unreachable(world.now, world::address(1), &question);
    }
    assert!(world.nodes[0].poll_transmit().is_none(), "it is not even repeated");
    // The right one, cut as short as a router may, makes it be repeated, and no more.
    question[15] ^= 1;
    world.nodes[0].handle_unreachable(world.now, world::address(1), &question[..15]);
    assert!(world.nodes[0].poll_transmit().is_none());
    world.nodes[0].handle_unreachable(world.now, world::address(1), &question[..16]);
    assert_eq!(world.nodes[0].poll_transmit().map(|t| t.bytes), Some(question));
    assert_eq!(table(&world), before);
}

#[test]
fn the_answer_comes_straight_from_the_holder() {
    let mut world = World::new(128);
    world.run(Duration::from_secs(60));
    let (mut long, mut straight) = (0, 0);
    for seeker in 0..128 {
        let report = look_up(&mut world, seeker, (seeker + 71) % 128);
        assert!(report.found, "{report:?}");
        if report.hops > 1 {
            long += 1;
            // Five milliseconds for each hop there, and five for the way back however many there were.
            straight += usize::from(report.time_ms <= f64::from(report.hops + 1) * 5.0);
        }
    }
    assert!(long >= 3 && straight * 10 >= long * 9, "{straight} of {long} over several hops");
}

#[test]
fn a_trace_tells_the_round_trip_to_every_hop_also_to_the_one_that_answered() {
    let mut world = World::new(128);
    world.run(Duration::from_secs(60));
    let mut longest = 0;
    for seeker in 0..40 {
        let options = LookupOptions { fresh: true, trace: true, ..LookupOptions::default() };
        let op = world.nodes[seeker].lookup_user(world.now, &format!("user{}@test", seeker + 71), options);
        let Outcome::Lookup(report) = world.wait(seeker, op) else { panic!("not a lookup") };
        assert_eq!(report.path.last().map(|hop| &*hop.decision), Some("answered"));
        assert!(report.path.iter().all(|hop| hop.rtt_ms == Some(10.0)), "{:?}", report.path);
        longest = longest.max(report.path.len());
    }
    assert!(longest >= 2, "{longest}");
}

/// What a peer that holds a record sends when a stranger asks for it with a forged originator's address:
/// by address, the bytes and the code.
fn answers(padding: usize) -> (usize, Vec<(SocketAddr, usize, Code, Class)>) {
    let mut world = World::new(8);
    world.run(Duration::from_secs(30));
    let place = ResourceId(HashAlgorithm::Sha256.digest(b"user3@test"));
    let holder = (0..8).find(|n| world.nodes[*n].holds(&place)).expect("a holder");
    let stranger = KeyPair::from_seed(Seed::from_number(5)).public().node_id(HashAlgorithm::Sha256);
    let mut header = Header::request(MessageType::LookupObject, TransactionId(77), stranger);
    (header.recursive, header.ttl) = (true, 8);
    header.overlay = u32::from_be_bytes(
        HashAlgorithm::Sha256.digest(b"openvoip").as_bytes()[28..].try_into().expect("4 of 32 bytes"),
    );
    let victim = SocketAddr::from(([203, 0, 113, 9], 9));
    let question = Builder::new(&header)
        .with(&Object::RLookup(RLookup { resource: place, kind: Kind::USER, owner: None }))
        .with(&Object::AddressInfo(AddressInfo::host(victim)))
        .with(&Object::Padding(&vec![0; padding]))
        .finish();
    let liar = SocketAddr::from(([198, 51, 100, 1], 7080));
    let mut bytes = question.clone();
    world.nodes[holder].handle_datagram(world.now, Socket::Peer, liar, &mut bytes);
    let mut sent = Vec::new();
    while let Some(transmit) = world.nodes[holder].poll_transmit() {
        let header = Message::parse(&transmit.bytes).expect("well formed").header;
        sent.push((transmit.remote, transmit.bytes.len(), header.code, header.class));
    }
    // The victim says nothing, and nothing is repeated.
    for _ in 0..200 {
        world.now += Duration::from_millis(25);
        world.nodes[holder].handle_timeout(world.now);
        while let Some(transmit) = world.nodes[holder].poll_transmit() {
            assert!(![victim, liar].contains(&transmit.remote), "repeated to {}", transmit.remote);
        }
    }
    (question.len(), sent)
}

#[test]
fn a_direct_answer_to_an_unproven_address_is_no_longer_than_the_question() {
    let (asked, sent) = answers(144);
    let [(_, ack, _, Class::RequestReceived), (_, answer, Code::OK, Class::ResponseAck)] = sent[..] else {
        panic!("{sent:?}")
    };
    assert!(ack < asked && answer <= asked, "{asked} bytes asked, {sent:?}");
    // Too short a question is answered with a cookie instead.
    let (asked, sent) = answers(0);
    let [(_, ack, _, Class::RequestReceived), (_, cookie, Code::PROOF_REQUIRED, _)] = sent[..] else {
        panic!("{sent:?}")
    };
    assert!(ack < asked && cookie <= asked, "{asked} bytes asked, {sent:?}");
}
