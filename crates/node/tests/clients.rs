//! Clients: carried by three peers, found by everybody, and cheap.

mod world;

use std::time::Duration;

use node::{Algorithm, Config, LookupOptions, Outcome, RolePolicy};
use world::World;

const MINUTE: Duration = Duration::from_secs(60);

fn seventh_is_a_client(n: usize, config: &mut Config) {
    if n == 7 {
        config.role = RolePolicy::Client;
    }
}

fn finds(world: &mut World, seeker: usize, sought: usize) -> bool {
    let options = LookupOptions { fresh: true, ..LookupOptions::default() };
    let op = world.nodes[seeker].lookup_user(world.now, &format!("user{sought}@test"), options);
    matches!(world.wait(seeker, op), Outcome::Lookup(report) if report.found)
}

fn writes(world: &mut World, from: usize, to: usize) -> bool {
    let op =
        world.nodes[from].message(world.now, &format!("user{from}@test"), &format!("user{to}@test"), "hello");
    matches!(world.wait(from, op), Outcome::Message(report) if report.state == "delivered")
}

fn carriers(world: &World, client: usize) -> Vec<usize> {
    let id = world.nodes[client].node_id().unwrap();
    let tables = world.nodes[client].neighbors(world.now);
    assert!(tables.iter().all(|row| row.node != id.to_string()));
    let is_carrier = |n: &usize| {
        let id = world.nodes[*n].node_id().unwrap().to_string();
        tables.iter().any(|row| row.node == id)
    };
    (0..world.nodes.len()).filter(is_carrier).collect()
}

#[test]
fn a_client_behind_a_nat_is_carried_by_three_peers_and_stands_in_nobodys_table() {
    let mut world = World::behind_nats(16, &[7], seventh_is_a_client);
    world.run(2 * MINUTE);
    let status = world.nodes[7].status(world.now);
    assert_eq!((status.role.as_str(), status.online), ("client", true));
    assert_eq!(status.objects, 0, "a client keeps nothing for others");
    assert_eq!(carriers(&world, 7).len(), 3);
    let carried: usize = world.nodes.iter().map(|n| n.status(world.now).clients).sum();
    assert_eq!(carried, 3);
    let id = world.nodes[7].node_id().unwrap().to_string();
    for n in (0..16).filter(|n| *n != 7) {
        assert!(world.nodes[n].routes(world.now).iter().all(|row| row.node != id), "{n}");
    }
}

#[test]
fn a_client_behind_a_nat_finds_and_is_found_writes_and_is_written_to() {
    let mut world = World::behind_nats(16, &[7, 9], |n, config| {
        if n == 7 || n == 9 {
            config.role = RolePolicy::Client;
        }
    });
    world.run(2 * MINUTE);
    for other in [0, 3, 9, 12] {
        assert!(finds(&mut world, 7, other) && finds(&mut world, other, 7), "{other}");
        assert!(writes(&mut world, 7, other), "to {other}");
        assert!(writes(&mut world, other, 7), "from {other}");
        world.run(5 * MINUTE);
    }
}

#[test]
fn a_client_is_written_to_and_answers_over_every_overlay_small_or_not() {
    for &algorithm in Algorithm::ALL {
        for count in [5, 24] {
            let client = count - 1;
            let mut world = World::behind_nats(count, &[client], |n, config| {
                config.overlay.algorithm = algorithm;
                if n == client {
                    config.role = RolePolicy::Client;
                }
            });
            world.run(2 * MINUTE);
            for other in 0..3 {
                let what = format!("{algorithm}, {count} nodes, {other}");
                assert!(finds(&mut world, other, client) && finds(&mut world, client, other), "{what}");
                assert!(writes(&mut world, other, client), "to the client: {what}");
                assert!(writes(&mut world, client, other), "from the client: {what}");
            }
        }
    }
}

#[test]
fn a_client_stays_reachable_when_peers_that_carry_it_die() {
    let mut world = World::behind_nats(20, &[7], seventh_is_a_client);
    world.run(2 * MINUTE);
    for round in 0..3 {
        let dying = carriers(&world, 7).into_iter().find(|n| *n != 0).unwrap();
        world.dead.insert(dying);
        let writer = (1..20).find(|n| !world.dead.contains(n) && *n != 7).unwrap();
        assert!(writes(&mut world, writer, 7), "right after death {round}");
        world.run(3 * MINUTE);
        assert!(!carriers(&world, 7).contains(&dying));
        assert_eq!(carriers(&world, 7).len(), 3, "round {round}");
    }
}

#[test]
fn an_idle_client_behind_a_nat_sends_at_most_23_bytes_per_second() {
    let mut world = World::behind_nats(32, &[7], |n, config| {
        seventh_is_a_client(n, config);
        config.numbers = true;
    });
    world.run(5 * MINUTE);
    let before = world.sent[7];
    world.run(30 * MINUTE);
    let rate = (world.sent[7] - before) as f64 / 1_800.0;
    println!("{rate:.1} bytes/s");
    assert!(rate <= 23.0, "{rate:.1} bytes/s");
    assert!(finds(&mut world, 12, 7));
}

#[test]
fn a_peer_that_strangers_cannot_reach_becomes_a_client_and_is_still_written_to() {
    let mut world = World::behind_nats(24, &[7], |_, _| {});
    world.run(5 * MINUTE);
    assert_eq!(world.nodes[7].status(world.now).role, "client");
    assert_eq!(world.nodes[7].status(world.now).reachability, "nat");
    let clients = world.nodes.iter().filter(|n| n.status(world.now).role == "client").count();
    assert_eq!(clients, 1, "those whom strangers reach stay peers");
    assert!(writes(&mut world, 7, 12));
    assert!(writes(&mut world, 12, 7));
}

#[test]
fn where_everybody_knows_everybody_and_nothing_is_in_the_way_all_stay_peers_for_hours() {
    let mut world = World::new(8);
    world.run(MINUTE);
    world.grow(8);
    for minute in 0..15 {
        world.run(10 * MINUTE);
        let is_client = |n: &usize| world.nodes[*n].status(world.now).role == "client";
        let clients: Vec<usize> = (0..16).filter(is_client).collect();
        assert!(clients.is_empty(), "after {minute} times ten minutes: {clients:?}");
    }
}

#[test]
fn a_client_whose_nat_opens_becomes_a_peer_again() {
    // So many that there are strangers: whom we wrote to lately proves nothing.
    let mut world = World::behind_nats(100, &[7], |_, _| {});
    world.run(5 * MINUTE);
    assert_eq!(world.nodes[7].status(world.now).role, "client");
    world.open_nat(7);
    world.run(25 * MINUTE);
    let status = world.nodes[7].status(world.now);
    assert_eq!(status.role, "peer");
    assert!(status.routing_entries > 10, "{}", status.routing_entries);
    assert!(writes(&mut world, 12, 7) && finds(&mut world, 3, 7));
}

#[test]
fn twenty_links_kept_warm_cost_less_than_a_fifth_of_the_ceiling() {
    let mut world = World::new(24);
    world.run(5 * MINUTE);
    let rate = |world: &mut World| {
        let before = world.sent[7];
        world.run(10 * MINUTE);
        (world.sent[7] - before) as f64 / 600.0
    };
    let plain = rate(&mut world);
    for n in (0..24).filter(|n| *n != 7).take(20) {
        let peer = wire::Contact { id: world.nodes[n].node_id().unwrap(), address: world::address(n) };
        let now = world.now;
        assert!(world.nodes[7].keep_warm(now, peer));
    }
    let warm = rate(&mut world);
    println!("{plain:.0} bytes/s without, {warm:.0} with 20 links");
    assert!(warm - plain < 100.0);
    assert_eq!(world.nodes[7].status(world.now).warm_links, 20);
}
