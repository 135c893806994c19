//! A few peers find each other and keep things for each other.

mod world;

use std::time::Duration;

use node::{LookupOptions, Mode, Outcome, Target};
use world::{World, address};

fn found(outcome: Outcome) -> node::report::LookupReport {
    match outcome {
        Outcome::Lookup(report) => report,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sixteen_peers_join_and_everybody_is_found_by_everybody() {
    let mut world = World::new(16);
    world.run(Duration::from_secs(10));
    assert!(world.nodes.iter().all(|n| n.is_online()));
    for seeker in 0..16 {
        for mode in [Mode::Recursive, Mode::Iterative, Mode::Parallel] {
            let sought = (seeker * 7 + 3) % 16;
            let options = LookupOptions { mode, fresh: true, ..LookupOptions::default() };
            let op = world.nodes[seeker].lookup_user(world.now, &format!("user{sought}@test"), options);
            let report = found(world.wait(seeker, op));
            assert!(report.found, "{seeker} seeks {sought} {mode:?}: {report:?}");
        }
    }
}

#[test]
fn who_founded_an_overlay_on_all_interfaces_learns_where_it_is_and_is_reached_by_name() {
    let mut world = World::with(2, |n, config| {
        if n == 0 {
            config.listen = "0.0.0.0:7080".parse().unwrap();
        }
    });
    world.run(Duration::from_secs(2));
    assert_eq!(world.nodes[0].status(world.now).nat.mapped, Some(address(0).to_string()));
    let op = world.nodes[1].ping(world.now, &Target::User("user0@test".into()));
    match world.wait(1, op) {
        Outcome::Ping(ping) => assert_eq!(ping.address, address(0).to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unknown_name_is_reported_in_under_three_seconds() {
    let mut world = World::new(12);
    world.run(Duration::from_secs(5));
    let start = world.now;
    let op = world.nodes[4].lookup_user(world.now, "nobody@test", LookupOptions::default());
    assert!(!found(world.wait(4, op)).found);
    assert!(world.now.since(start) < Duration::from_secs(3), "{:?}", world.now.since(start));
}

#[test]
fn a_value_survives_the_death_of_a_third_of_the_peers() {
    let mut world = World::new(24);
    world.run(Duration::from_secs(10));
    let op = world.nodes[3].put(world.now, "greeting", b"hello", None);
    match world.wait(3, op) {
        Outcome::Stored { holders, .. } => assert!(holders >= 4, "{holders}"),
        other => panic!("{other:?}"),
    }
    world.dead.extend([1, 5, 8, 11, 14, 17, 20, 23]);
    let op = world.nodes[9].get(world.now, "greeting");
    match world.wait(9, op) {
        Outcome::Value(value) => assert_eq!(value.value.as_deref(), Some("hello")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_removed_is_gone() {
    let mut world = World::new(10);
    world.run(Duration::from_secs(5));
    let op = world.nodes[2].put(world.now, "k", b"v", None);
    world.wait(2, op);
    let op = world.nodes[2].remove(world.now, "k");
    assert!(matches!(world.wait(2, op), Outcome::Stored { .. }));
    let op = world.nodes[7].get(world.now, "k");
    match world.wait(7, op) {
        Outcome::Value(value) => assert!(!value.found, "{value:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lookups_survive_loss() {
    let mut world = World::new(20);
    world.run(Duration::from_secs(10));
    world.loss = 0.1;
    let mut ok = 0;
    for seeker in 0..20 {
        let options = LookupOptions { fresh: true, ..LookupOptions::default() };
        let op =
            world.nodes[seeker].lookup_user(world.now, &format!("user{}@test", (seeker + 9) % 20), options);
        ok += usize::from(found(world.wait(seeker, op)).found);
    }
    assert!(ok >= 19, "{ok} of 20");
}

#[test]
fn a_trace_names_the_hops_and_a_ping_its_peer() {
    let mut world = World::new(16);
    world.run(Duration::from_secs(5));
    let op = world.nodes[15].ping(world.now, &Target::User("user4@test".into()));
    match world.wait(15, op) {
        Outcome::Ping(report) => {
            assert_eq!(report.address, address(4).to_string());
            assert!((9.0..12.0).contains(&report.rtt_ms), "{report:?}");
        }
        other => panic!("{other:?}"),
    }
    let options =
        LookupOptions { mode: Mode::Iterative, trace: true, fresh: true, ..LookupOptions::default() };
    let op = world.nodes[15].lookup_user(world.now, "user4@test", options);
    let report = found(world.wait(15, op));
    assert!(report.found && !report.path.is_empty(), "{report:?}");
    for sought in 0..15 {
        let options = LookupOptions { trace: true, fresh: true, ..LookupOptions::default() };
        let op = world.nodes[15].lookup_user(world.now, &format!("user{sought}@test"), options);
        let report = found(world.wait(15, op));
        if report.mode == "recursive" {
            assert_eq!(report.path.len() as u32, report.hops, "{report:?}");
            assert_eq!(report.path.last().unwrap().decision, "answered", "{report:?}");
        }
    }
}

#[test]
fn a_recursive_trace_names_every_hop_up_to_the_one_that_answered() {
    let mut world = World::new(150);
    world.run(Duration::from_secs(5));
    let options = LookupOptions { trace: true, fresh: true, ..LookupOptions::default() };
    let (mut recursive, mut hops) = (0, 0);
    // Users of all ages: records of the oldest have been copied to many.
    for user in (0..149).step_by(7) {
        let op = world.nodes[149].lookup_user(world.now, &format!("user{user}@test"), options);
        let report = found(world.wait(149, op));
        assert!(report.found, "{report:?}");
        // In an overlay this young a first hop may not know, and the search goes on by itself.
        if report.mode != "recursive" {
            continue;
        }
        let decisions: Vec<&str> = report.path.iter().map(|hop| hop.decision.as_str()).collect();
        assert_eq!(decisions.len(), report.hops as usize, "{report:?}");
        assert_eq!(decisions.iter().filter(|d| **d == "answered").count(), 1, "{report:?}");
        assert_eq!(decisions.last(), Some(&"answered"));
        recursive += 1;
        hops += report.hops;
    }
    assert!(recursive >= 10 && hops > recursive, "{recursive} recursive lookups, {hops} hops");
}

#[test]
fn tables_of_another_peer_can_be_read() {
    let mut world = World::new(16);
    world.run(Duration::from_secs(5));
    for table in [node::Table::Routing, node::Table::Neighbors, node::Table::Objects] {
        let op = world.nodes[3].tables_of(world.now, &Target::Address(address(9)), table);
        match world.wait(3, op) {
            Outcome::Tables(found) => {
                assert!(found.rows.len() + found.objects.len() > 3, "{table:?} {found:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_leaving_peer_hands_its_records_over() {
    let mut world = World::new(12);
    world.run(Duration::from_secs(10));
    for leaver in [2, 4, 6] {
        let now = world.now;
        world.nodes[leaver].leave(now);
        world.collect(leaver);
        world.run(Duration::from_secs(2));
        world.dead.insert(leaver);
    }
    for seeker in [1, 3, 5, 7, 9] {
        let op = world.nodes[seeker].lookup_user(world.now, "user8@test", LookupOptions::default());
        assert!(found(world.wait(seeker, op)).found);
    }
}
