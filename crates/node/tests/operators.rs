//! Who may change a running peer from afar, and who may not; and what it means to be a client.

mod world;

use std::time::Duration;

use node::{Config, Event, LookupOptions, Outcome, Profile, Table, Target};
use wire::p2pp::{Builder, Diagnostic, Message, Object};
use wire::{KeyPair, NodeId, Seed, Socket};
use world::{World, address};

fn key(n: u64) -> KeyPair {
    KeyPair::from_seed(Seed::from_number(n))
}

/// Five peers of which the first two know the operator 77.
fn peers(remote_settings: bool) -> World {
    let mut world = World::with(5, |n, config: &mut Config| {
        config.overlay.remote_settings = remote_settings;
        config.operators = if n < 2 { vec![key(77).public()] } else { Vec::new() };
    });
    world.run(Duration::from_secs(5));
    world
}

#[test]
fn an_operator_is_obeyed_over_links_too() {
    for profile in Profile::ALL {
        let mut world = World::with(5, |n, config: &mut Config| {
            config.profile = profile;
            config.operators = if n == 0 { vec![key(77).public()] } else { Vec::new() };
        });
        world.run(Duration::from_secs(20));
        let to = Target::Address(address(0));
        assert_eq!(refused(configure(&mut world, &to, "log", Some("debug"), 78)).0, 403, "{profile}");
        let done = configure(&mut world, &to, "log", Some("debug"), 77);
        assert!(matches!(done, Outcome::Stored { .. }), "{profile}: {done:?}");
        assert_eq!(log_filters(&world, 0), ["debug"], "{profile}");
    }
}

fn configure(world: &mut World, to: &Target, name: &str, value: Option<&str>, operator: u64) -> Outcome {
    let op = world.nodes[3].configure(world.now, to, name, value, &key(operator));
    world.wait(3, op)
}

fn refused(outcome: Outcome) -> (u16, String) {
    match outcome {
        Outcome::Failed { code, reason } => (code, reason),
        other => panic!("not refused: {other:?}"),
    }
}

fn log_filters(world: &World, n: usize) -> Vec<String> {
    let filter = |e: &Event| match e {
        Event::SetLogFilter(filter) => Some(filter.clone()),
        _ => None,
    };
    world.events[n].iter().filter_map(filter).collect()
}

#[test]
fn only_a_known_key_is_obeyed_and_load_values_only_where_the_overlay_allows_it() {
    let mut world = peers(false);
    let to = Target::Address(address(0));
    let nobody = refused(configure(&mut world, &Target::Address(address(2)), "log", Some("debug"), 77));
    assert_eq!(nobody, (403, "that key is not an operator of this peer".into()));
    assert_eq!(refused(configure(&mut world, &to, "log", Some("debug"), 78)).0, 403);
    let closed = refused(configure(&mut world, &to, "cpu", Some("40"), 77));
    assert_eq!(closed, (406, "the overlay does not allow load values to be set from afar".into()));
    assert_eq!(refused(configure(&mut world, &to, "log", Some("dbug"), 77)).0, 400);
    assert_eq!(refused(configure(&mut world, &to, "password", Some("x"), 77)).0, 404);
    assert!(log_filters(&world, 0).is_empty() && world.nodes[0].status(world.now).load.is_empty());

    assert!(matches!(configure(&mut world, &to, "log", Some("debug"), 77), Outcome::Stored { .. }));
    assert_eq!(log_filters(&world, 0), ["debug"]);
}

#[test]
fn the_right_key_sets_and_unsets_load_values_by_address_id_and_user() {
    let mut world = peers(true);
    let id = world.nodes[0].node_id().unwrap();
    let targets = [Target::Address(address(0)), Target::Node(id), Target::User("user0@test".into())];
    for (n, to) in targets.iter().enumerate() {
        let value = n.to_string();
        assert!(
            matches!(configure(&mut world, to, "cpu", Some(&value), 77), Outcome::Stored { .. }),
            "{to:?}"
        );
        assert_eq!(world.nodes[0].status(world.now).load["cpu"], value);
    }
    let op = world.nodes[4].tables_of(world.now, &targets[0], Table::Diagnostics);
    match world.wait(4, op) {
        Outcome::Tables(found) => assert_eq!(found.diagnostics["cpu"], "2"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(configure(&mut world, &targets[0], "cpu", None, 77), Outcome::Stored { .. }));
    assert!(world.nodes[0].status(world.now).load.is_empty());
    assert_eq!(refused(configure(&mut world, &Target::Address(address(9)), "cpu", Some("1"), 77)).0, 408);
}

#[test]
fn a_command_that_was_overheard_works_neither_again_nor_elsewhere() {
    let mut world = peers(true);
    let to = Target::Node(world.nodes[0].node_id().unwrap());
    let mut heard = Vec::new();
    for value in ["debug", "info"] {
        let op = world.nodes[3].configure(world.now, &to, "log", Some(value), &key(77));
        let sent = world.nodes[3].poll_transmit().unwrap();
        assert_eq!((sent.socket, sent.remote), (Socket::Peer, address(0)));
        heard.push(sent.bytes.clone());
        world.nodes[0].handle_datagram(world.now, Socket::Peer, address(3), &mut sent.bytes.clone());
        world.collect(0);
        world.wait(3, op);
    }
    assert_eq!(log_filters(&world, 0), ["debug", "info"]);
    // With another setting, receiver and clock appended after the signature.
    let id = world.nodes[1].node_id().unwrap();
    let forged = Builder::resume(&Message::parse(&heard[1]).unwrap())
        .with(&Object::Setting(Diagnostic { name: "log", value: "off" }))
        .with(&Object::PeerId(id))
        .with(&Object::PuzzleNonce(u64::MAX))
        .finish();
    heard.push(forged);
    for bytes in &heard {
        for n in [0, 1] {
            world.nodes[n].handle_datagram(world.now, Socket::Peer, address(3), &mut bytes.clone());
            world.collect(n);
        }
    }
    assert_eq!(log_filters(&world, 0), ["debug", "info"]);
    assert!(log_filters(&world, 1).is_empty());
    assert_eq!(world.nodes[0].save().operator_clocks.len(), 1);
}

#[test]
fn a_client_uses_the_overlay_and_is_no_part_of_it() {
    let client = 9;
    let mut world = World::with(16, |n, config| {
        if n == client {
            config.role = node::RolePolicy::Client;
        }
    });
    world.run(Duration::from_secs(30));
    let id: NodeId = world.nodes[client].node_id().unwrap();
    assert!(world.nodes[client].is_online());
    assert!(world.nodes[client].objects(world.now).is_empty());
    for (n, peer) in world.nodes.iter().enumerate().filter(|(n, _)| *n != client) {
        let tables = [peer.routes(world.now), peer.neighbors(world.now)].concat();
        assert!(tables.iter().all(|row| row.node != id.to_string()), "peer {n} has the client in its tables");
    }
    for (seeker, sought) in [(3, client), (client, 3)] {
        let options = LookupOptions { fresh: true, ..LookupOptions::default() };
        let op = world.nodes[seeker].lookup_user(world.now, &format!("user{sought}@test"), options);
        match world.wait(seeker, op) {
            Outcome::Lookup(report) => assert!(report.found, "{seeker} seeks {sought}: {report:?}"),
            other => panic!("{other:?}"),
        }
        let op = world.nodes[seeker].message(
            world.now,
            &format!("user{seeker}@test"),
            &format!("user{sought}@test"),
            "hello",
        );
        match world.wait(seeker, op) {
            Outcome::Message(report) => assert_eq!(report.state, "delivered", "{report:?}"),
            other => panic!("{other:?}"),
        }
    }
}
