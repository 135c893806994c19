//! A peer without budget says so at once, others go elsewhere, and nothing is lost by it.

mod world;

use std::time::Duration;

use node::budget::Work;
use node::{Config, LookupOptions, Outcome, Role, RolePolicy};
use wire::p2pp::{Builder, Header, MessageType, TransactionId};
use wire::{HashAlgorithm, NodeId, ResourceId, Socket};
use world::{World, address};

/// A peer that may send next to nothing for the overlay.
fn poor(config: &mut Config) {
    config.role = RolePolicy::Peer;
    config.budget_bytes_per_s = 1;
    config.budget_burst_bytes = 1_500;
}

fn shed(world: &World, n: usize, work: Work) -> u64 {
    let status = world.nodes[n].status(world.now);
    status.budget.shed.get(work.name()).copied().unwrap_or(0)
}

/// How often work of a sort was shed, in all.
fn shed_in_all(world: &World, work: Work) -> u64 {
    (0..world.nodes.len()).map(|n| shed(world, n, work)).sum()
}

fn place(key: &str) -> ResourceId {
    ResourceId(HashAlgorithm::Sha256.digest(format!("data:{key}").as_bytes()))
}

/// A stranger asks a peer whether it lives until it has no budget left.
fn impoverish(world: &mut World, n: usize) {
    let stranger = NodeId(HashAlgorithm::Sha256.digest(b"stranger"));
    for count in 0..1_000 {
        let mut header = Header::request(MessageType::KeepAlive, TransactionId(count), stranger);
        header.overlay = world.nodes[n].overlay_tag().unwrap();
        let mut bytes = Builder::new(&header).finish();
        world.nodes[n].handle_datagram(world.now, Socket::Peer, address(1_000), &mut bytes);
        while world.nodes[n].poll_transmit().is_some() {}
    }
}

fn put(world: &mut World, n: usize, key: &str) -> Outcome {
    let op = world.nodes[n].put(world.now, key, b"value", None);
    world.wait(n, op)
}

fn finds(world: &mut World, n: usize, key: &str) -> bool {
    let op = world.nodes[n].get(world.now, key);
    matches!(world.wait(n, op), Outcome::Value(value) if value.found)
}

#[test]
fn a_record_that_its_nearest_peers_have_no_budget_for_is_with_the_next_nearest_at_once() {
    let mut world = World::with(16, |n, config| {
        if n % 4 == 1 {
            poor(config);
        }
    });
    world.run(Duration::from_secs(60));
    let refused = shed_in_all(&world, Work::Storing);
    for key in 0..20 {
        let before = world.now;
        let outcome = put(&mut world, 0, &format!("key {key}"));
        assert!(matches!(outcome, Outcome::Stored { holders: 5, .. }), "{key}: {outcome:?}");
        // Whoever is silent is waited for longer than this.
        assert!(world.now - before < Duration::from_millis(300), "{key}: {:?}", world.now - before);
    }
    assert!(shed_in_all(&world, Work::Storing) > refused);
    for seeker in 0..16 {
        for key in 0..20 {
            assert!(finds(&mut world, seeker, &format!("key {key}")), "{seeker}: {key}");
        }
    }
}

#[test]
fn what_a_peer_holds_already_it_takes_in_a_newer_version_and_gives_up_on_demand_whatever_its_budget() {
    let mut world = World::with(4, |n, config| {
        if n > 0 {
            poor(config);
            config.budget_burst_bytes = 40_000;
        }
    });
    world.run(Duration::from_secs(10));
    assert!(matches!(put(&mut world, 0, "weather"), Outcome::Stored { .. }));
    let holders: Vec<usize> = (1..4).filter(|n| world.nodes[*n].holds(&place("weather"))).collect();
    assert_eq!(holders, [1, 2, 3]);
    (1..4).for_each(|n| impoverish(&mut world, n));
    put(&mut world, 0, "something new");
    assert!((1..4).all(|n| shed(&world, n, Work::Storing) > 0));
    let op = world.nodes[0].put(world.now, "weather", b"another", None);
    assert!(matches!(world.wait(0, op), Outcome::Stored { holders: 4, .. }));
    let op = world.nodes[0].remove(world.now, "weather");
    world.wait(0, op);
    world.run(Duration::from_secs(5));
    for seeker in 0..4 {
        assert!(!finds(&mut world, seeker, "weather"), "{seeker}");
    }
}

#[test]
fn lookups_go_round_peers_whose_allowance_for_others_is_spent() {
    let mut world = World::with(60, |n, config| {
        config.forwarding_bytes_per_s = if n % 2 == 1 { 1 } else { 5_000 };
    });
    world.run(Duration::from_secs(60));
    for user in 0..60 {
        let seeker = (user * 7 + 3) % 60;
        let options = LookupOptions { fresh: true, ..LookupOptions::default() };
        let before = world.now;
        let op = world.nodes[seeker].lookup_user(world.now, &format!("user{user}@test"), options);
        let Outcome::Lookup(report) = world.wait(seeker, op) else { panic!("{user}") };
        assert!(report.found, "{user}: {report:?}");
        assert!(world.now - before < Duration::from_millis(500), "{user}: {report:?}");
    }
    assert!(shed_in_all(&world, Work::Lookups) > 0);
    let spent = (0..60).filter(|n| shed(&world, *n, Work::Lookups) > 0);
    assert!(spent.into_iter().all(|n| n % 2 == 1), "who has an allowance passes everything on");
}

#[test]
fn offers_that_are_put_off_are_made_once_there_is_budget() {
    let mut world = World::with(8, |_, config| {
        config.budget_bytes_per_s = 60;
        config.budget_burst_bytes = 1_500;
        config.role = RolePolicy::Peer;
    });
    world.run(Duration::from_secs(60));
    for key in 0..10 {
        put(&mut world, key % 8, &format!("key {key}"));
    }
    // As many again come at once, and to some of them the records fall.
    world.grow(8);
    for _ in 0..6 {
        (0..8).for_each(|n| impoverish(&mut world, n));
        world.run(Duration::from_secs(10));
    }
    assert!(shed_in_all(&world, Work::Replication) > 0);
    world.run(Duration::from_secs(600));
    let shed = shed_in_all(&world, Work::Replication);
    world.run(Duration::from_secs(3_600));
    assert_eq!(shed_in_all(&world, Work::Replication), shed);
    for key in 0..10 {
        let key = format!("key {key}");
        let holders: Vec<usize> = (0..16).filter(|n| world.nodes[*n].holds(&place(&key))).collect();
        assert!(holders.len() >= 3, "{key}: {holders:?}");
        assert!((0..16).all(|seeker| finds(&mut world, seeker, &key)), "{key}");
    }
    let newcomers = 8..16;
    let passed_on =
        newcomers.filter(|n| (0..10).any(|key| world.nodes[*n].holds(&place(&format!("key {key}")))));
    assert!(passed_on.count() >= 6);
}

#[test]
fn who_founds_an_overlay_with_hardly_any_budget_is_a_peer_of_it_and_has_others_lead_those_that_come() {
    let grown = |bytes_per_s: u32, burst: u32| {
        let mut world = World::with(60, |n, config| {
            if n == 0 {
                config.budget_bytes_per_s = bytes_per_s;
                config.budget_burst_bytes = burst;
            }
        });
        world.run(Duration::from_secs(60));
        assert!((0..60).all(|n| world.nodes[n].is_online()));
        assert_eq!(world.nodes[0].status(world.now).role, Role::Peer.name());
        world
    };
    let (poor, usual) = (grown(10, 1_500), grown(500, 60_000));
    let shed = [&poor, &usual].map(|world| shed(world, 0, Work::Upkeep));
    assert!(shed[0] > 2 * shed[1], "{shed:?}");
    let spent = [&poor, &usual].map(|world| world.nodes[0].maintenance_bytes_sent());
    // Naming peers is never refused, or who comes knows nobody: it only names fewer.
    assert!(spent[0] * 4 < spent[1] * 3, "{spent:?}");
}
