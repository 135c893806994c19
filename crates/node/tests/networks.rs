//! What an owner lets go over which network: of the overlay, and of phones.

mod world;

use std::sync::Arc;
use std::time::Duration;

use node::{Config, LookupOptions, NetworkRules, Outcome, Prefix, Profile};
use wire::{ConnectionId, Socket};
use world::{World, address};

fn rules(readable: &[&str], sealed: &[&str]) -> Option<Arc<NetworkRules>> {
    let [readable, sealed] =
        [readable, sealed].map(|all| all.iter().map(|text| text.parse().unwrap()).collect::<Vec<Prefix>>());
    Some(Arc::new(NetworkRules::new(&readable, &sealed)))
}

/// Eight peers of an overlay; the fourth has a rule about where the sixth stands.
fn with_a_rule(profile: Profile, readable: &[&str], sealed: &[&str]) -> World {
    let change = |n: usize, config: &mut Config| {
        (config.profile, config.tcp) = (profile, true);
        if n == 3 {
            config.networks = rules(readable, sealed);
        }
    };
    let mut world = World::with(8, change);
    world.run(Duration::from_secs(60));
    world
}

/// What the fourth kept back, or did not hear.
fn kept_back(world: &World) -> u64 {
    world.nodes[3].status(world.now).dropped.get("network").copied().unwrap_or_default()
}

#[test]
fn where_a_profile_is_forbidden_nothing_goes_and_nothing_is_heard_and_others_reach_both() {
    for (profile, readable, sealed) in [
        (Profile::Secure, &["10.0.0.6/32"][..], &[][..]),
        (Profile::Signed, &[], &["10.0.0.6/32"]),
        (Profile::Open, &[], &["10.0.0.6/32"]),
    ] {
        let mut world = with_a_rule(profile, readable, sealed);
        assert!(!world.written.contains_key(&(3, address(5))), "{profile}: not a byte");
        assert!(world.written.contains_key(&(4, address(5))) && world.written.contains_key(&(3, address(4))));
        assert!(kept_back(&world) > 0, "{profile}");
        for seeker in [3, 5] {
            let op = world.nodes[seeker].lookup_user(world.now, "user7@test", LookupOptions::default());
            let Outcome::Lookup(report) = world.wait(seeker, op) else { panic!("not a lookup") };
            assert!(report.found, "{profile}: {report:?}");
        }
        let op = world.nodes[3].lookup_user(world.now, "user5@test", LookupOptions::default());
        assert!(
            matches!(world.wait(3, op), Outcome::Lookup(report) if report.found),
            "its record stands with others"
        );
        assert!(!world.written.contains_key(&(3, address(5))), "{profile}: not a byte for that either");
    }
}

#[test]
fn where_a_profile_is_allowed_a_rule_changes_nothing() {
    for (profile, readable, sealed) in
        [(Profile::Signed, &["10.0.0.0/8"][..], &[][..]), (Profile::Secure, &[], &["10.0.0.0/8"])]
    {
        let world = with_a_rule(profile, readable, sealed);
        assert!(world.written.contains_key(&(3, address(5))), "{profile}");
        assert_eq!(kept_back(&world), 0);
    }
}

#[test]
fn a_stream_from_where_nothing_may_go_is_closed_at_once() {
    let mut world = with_a_rule(Profile::Secure, &["10.0.0.6/32"], &[]);
    world.nodes[3].handle_peer_stream_opened(world.now, address(5));
    assert_eq!(world.nodes[3].poll_transmit(), None);
    let event = world.nodes[3].poll_event();
    assert!(matches!(event, Some(node::Event::ClosePeerStream(closed)) if closed == address(5)), "{event:?}");
}

#[test]
fn phones_are_answered_over_tls_where_nothing_is_readable_and_only_without_where_everything_is() {
    const OPTIONS: &[u8] = b"OPTIONS sip:test SIP/2.0\r\nVia: SIP/2.0/UDP 10.9.0.1:5060;branch=z9hG4bK1\r\n\
        From: <sip:a@test>;tag=1\r\nTo: <sip:test>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n";
    let answered = |networks: Option<Arc<NetworkRules>>, socket: Socket| {
        let mut world = World::with(1, |_, config| config.networks = networks.clone());
        world.phone_says(0, socket, "10.9.0.1:5060".parse().unwrap(), OPTIONS);
        !world.to_phones.is_empty()
    };
    let tls = Socket::SipTls(ConnectionId(1));
    let both = |networks: Option<Arc<NetworkRules>>| {
        [Socket::Sip, tls].map(|socket| answered(networks.clone(), socket))
    };
    assert_eq!(both(None), [true, true]);
    assert_eq!(both(rules(&["10.9.0.0/16"], &[])), [true, false]);
    assert_eq!(both(rules(&[], &["10.9.0.0/16"])), [false, true]);
    assert_eq!(both(rules(&["10.8.0.0/16"], &["10.7.0.0/16"])), [true, true]);
}
