//! The tests every algorithm takes.
//!
//! They know an algorithm by its number only and see it through the trait, in a network in memory:
//! [`net::Net`]. An algorithm that stands in the list in `lib.rs` is tested by that alone. Sizes
//! matter: faults that hide in 200 peers have shown at 1,000.

mod net;

use std::time::Duration;

use proptest::prelude::*;
use wire::{Contact, HashAlgorithm, Key, NodeId, Seed, Time, seed::RngExt};

use crate::{Algorithm, Evidence, News, Overlay, Route, Standing, Upkeep, build, next_hop};
use net::{Net, contact};

/// How many peers hold each key in these tests.
const REPLICAS: usize = 5;

/// Makes one test of every function below, for one algorithm.
macro_rules! takes {
    ($algorithm:expr) => {
        crate::suite::takes!(@each $algorithm;
            a_lone_peer_holds_everything
            a_mention_alone_never_makes_an_entry
            a_peer_never_knows_itself
            routes_end_at_replicas
            what_is_seen_without_a_route_agrees_with_it
            holders_agree_on_who_they_are
            how_neighbors_stand_tells_how_many_there_are
            peers_that_join_all_at_once_agree_on_holders
            holders_are_right_again_after_a_third_died_at_once
            a_broken_network_grows_together_again
            keys_of_every_hash_lead_to_their_holders
            failed_peers_leave_every_table
            the_same_seed_gives_the_same_run
            another_base_finds_everything_too
            a_thousand_peers_find_everything_through_loss_and_death
            upkeep_keeps_within_its_budget_under_churn
            time_moves_on_after_every_timeout
        );
    };
    (@each $algorithm:expr; $($test:ident)+) => {
        $(#[test]
        fn $test() {
            crate::suite::$test($algorithm);
        })+
    };
}
pub(crate) use takes;

fn fresh(algorithm: Algorithm, n: u32) -> Box<dyn Overlay> {
    build(algorithm, contact(n).id, 1, Seed::from_number(u64::from(n)), Time::ZERO)
}

fn key(n: u32) -> Key {
    HashAlgorithm::Sha256.digest(&[b"resource ", n.to_be_bytes().as_slice()].concat())
}

pub(crate) fn a_lone_peer_holds_everything(algorithm: Algorithm) {
    let overlay = fresh(algorithm, 1);
    assert_eq!(overlay.algorithm(), algorithm);
    assert_eq!(overlay.local(), contact(1).id);
    assert_eq!((overlay.len(), overlay.is_empty()), (0, true));
    let alone = Route::Replicas { contacts: vec![], includes_self: true };
    assert_eq!(overlay.route(&key(1), REPLICAS), alone);
}

pub(crate) fn a_mention_alone_never_makes_an_entry(algorithm: Algorithm) {
    let mut overlay = fresh(algorithm, 1);
    let mut wishes = 0;
    for n in 2..2_000 {
        overlay.handle_peer(Time::ZERO, contact(n), Evidence::Mentioned);
        wishes += std::iter::from_fn(|| overlay.poll_upkeep()).count();
    }
    assert!(overlay.is_empty() && overlay.contacts().is_empty());
    assert!((1..100).contains(&wishes), "{wishes} wishes for 2,000 mentions");
}

pub(crate) fn a_peer_never_knows_itself(algorithm: Algorithm) {
    let mut overlay = fresh(algorithm, 1);
    for evidence in [Evidence::Mentioned, Evidence::Alive { rtt: None }] {
        overlay.handle_peer(Time::ZERO, contact(1), evidence);
    }
    assert!(overlay.is_empty() && overlay.poll_upkeep().is_none());
}

/// The peers most responsible for a key, among those alive.
fn holders(net: &Net, key: &Key) -> Vec<NodeId> {
    let judge = net.any_living();
    let mut all: Vec<_> = net.living().map(|i| contact(i).id).collect();
    all.sort_by_key(|id| judge.rank(key, id));
    all.truncate(REPLICAS);
    all
}

pub(crate) fn routes_end_at_replicas(algorithm: Algorithm) {
    let mut net = Net::new(algorithm, 1, 1);
    net.grow(300, Duration::from_millis(50));
    net.run_for(Duration::from_secs(90));
    if algorithm.walks().is_some() {
        return assert_walks_end_at_holders(&mut net);
    }
    let mut hops = 0;
    for n in 0..200 {
        let key = key(n);
        let mut at = net.pick();
        let mut path = vec![contact(at).id];
        let end = loop {
            let route = net.overlay(at).route(&key, REPLICAS);
            if route.includes_self() {
                break contact(at).id;
            }
            let next = next_hop(route.contacts(), 0, |id| path.contains(id)).expect("a way on");
            at = net::index(&next);
            path.push(next.id);
            assert!(path.len() < 30, "no end in sight");
        };
        assert!(holders(&net, &key).contains(&end), "a route ended short of the holders");
        hops += path.len() - 1;
    }
    assert!(hops < 200 * 8, "{hops} hops for 200 routes");
}

pub(crate) fn what_is_seen_without_a_route_agrees_with_it(algorithm: Algorithm) {
    let mut net = Net::new(algorithm, 1, 4);
    net.grow(100, Duration::from_millis(50));
    net.run_for(Duration::from_secs(60));
    // Some of those who are known are suspects then, and others gone.
    net.kill_share(0.3);
    net.run_for(Duration::from_secs(60));
    for i in net.living() {
        let overlay = net.overlay(i);
        let names = |key: &Key, count| overlay.route(key, count).contacts().to_vec();
        for (n, entry) in (0..).zip(overlay.contacts()) {
            let known = entry.contact;
            let moved = Contact { address: contact(2_000).address, ..known };
            for asked in [known, moved, contact(2_001)] {
                assert_eq!(overlay.has(&asked), names(asked.id.key(), 1).contains(&asked), "{entry:?}");
            }
            let is_named = names(&key(n), REPLICAS).contains(&known);
            assert!(!is_named || overlay.may_name(&key(n), REPLICAS, &known.id), "{entry:?}");
        }
    }
}

/// Where keys have no place: a walk that goes from peer to peer, to nobody twice, ends at a holder.
fn assert_walks_end_at_holders(net: &mut Net) {
    publish(net, 0, 200);
    let (mut hops, mut ended) = (0, 0);
    for n in 0..200 {
        let key = key(n);
        let mut at = net.pick();
        let mut path = vec![contact(at).id];
        while !net.holds(at, &key) && path.len() <= 30 {
            let route = net.overlay(at).route(&key, REPLICAS);
            let Some(next) = next_hop(route.contacts(), 0, |id| path.contains(id)) else { break };
            at = net::index(&next);
            path.push(next.id);
        }
        ended += usize::from(net.holds(at, &key));
        hops += path.len() - 1;
    }
    assert!(ended >= 198, "{ended} of 200 walks ended at a holder");
    assert!(hops < 200 * 8, "{hops} hops for 200 walks");
}

pub(crate) fn holders_agree_on_who_they_are(algorithm: Algorithm) {
    let mut net = Net::new(algorithm, 1, 2);
    net.grow(300, Duration::from_millis(50));
    net.run_for(Duration::from_secs(90));
    assert_holders_agree(&mut net);
}

/// Every holder of a key, and nobody else, knows that it is one; nearly all know all the others. Where
/// keys have no place, what is published anywhere now is found from anywhere.
fn assert_holders_agree(net: &mut Net) {
    if net.any_living().algorithm().walks().is_some() {
        let found = found(net, 5_000, 200);
        assert!(found >= 198, "{found} of 200 found");
        return;
    }
    let mut told = 0;
    for n in 0..60 {
        let key = key(n);
        let held_by = holders(net, &key);
        let believers = net.living().filter(|&i| net.overlay(i).route(&key, REPLICAS).includes_self());
        let mut believers: Vec<_> = believers.map(|i| contact(i).id).collect();
        believers.sort_by_key(|id| net.any_living().rank(&key, id));
        assert_eq!(believers, held_by, "who takes itself for a holder, and who is one");
        for holder in net.living().filter(|&i| held_by.contains(&contact(i).id)) {
            let route = net.overlay(holder).route(&key, REPLICAS);
            let others: Vec<_> = route.contacts().iter().map(|c| c.id).collect();
            let expected: Vec<_> = held_by.iter().copied().filter(|id| *id != contact(holder).id).collect();
            told += usize::from(others == expected);
        }
    }
    assert!(told * 100 >= 60 * REPLICAS * 99, "only {told} of 300 knew all the other holders");
}

pub(crate) fn peers_that_join_all_at_once_agree_on_holders(algorithm: Algorithm) {
    let mut net = Net::new(algorithm, 1, 8);
    net.grow(200, Duration::ZERO);
    net.run_for(Duration::from_secs(300));
    assert_holders_agree(&mut net);
}

pub(crate) fn holders_are_right_again_after_a_third_died_at_once(algorithm: Algorithm) {
    let mut net = Net::new(algorithm, 1, 9);
    net.grow(300, Duration::from_millis(50));
    net.run_for(Duration::from_secs(90));
    net.kill_share(1.0 / 3.0);
    // OneHop bears ten minutes of silence from somebody of whose death no news has come.
    net.run_for(Duration::from_secs(900));
    assert_holders_agree(&mut net);
}

pub(crate) fn a_broken_network_grows_together_again(algorithm: Algorithm) {
    let mut net = Net::new(algorithm, 1, 10);
    net.grow(200, Duration::from_millis(50));
    net.run_for(Duration::from_secs(90));
    net.divided = true;
    net.run_for(Duration::from_secs(600));
    net.divided = false;
    net.run_for(Duration::from_secs(900));
    assert_holders_agree(&mut net);
}

/// No network here: forty peers that have all heard each other, under each hash's width of keys.
pub(crate) fn keys_of_every_hash_lead_to_their_holders(algorithm: Algorithm) {
    if algorithm.walks().is_some() {
        return assert_indexes_lead_to_holders(algorithm);
    }
    for hash in HashAlgorithm::ALL {
        let peers: Vec<Contact> =
            (0..40u32).map(|n| Contact { id: NodeId(hash.digest(&n.to_be_bytes())), ..contact(n) }).collect();
        let knowing_all = |local: &Contact| {
            let mut overlay = build(algorithm, local.id, 1, Seed::from_number(1), Time::ZERO);
            for peer in peers.iter().filter(|p| p.id != local.id) {
                overlay.handle_peer(Time::ZERO, *peer, Evidence::Alive { rtt: None });
            }
            overlay
        };
        let overlays: Vec<_> = peers.iter().map(knowing_all).collect();
        for n in 0..20u32 {
            let key = hash.digest(&[b"resource ", n.to_be_bytes().as_slice()].concat());
            let mut held_by: Vec<_> = peers.iter().map(|p| p.id).collect();
            held_by.sort_by_key(|id| overlays[0].rank(&key, id));
            let mut at = n;
            let mut hops = 0;
            while let Route::Toward(contacts) = overlays[at as usize].route(&key, REPLICAS) {
                at = net::index(&contacts[0]);
                hops += 1;
                assert!(hops < 20, "{hash}: no end in sight");
            }
            let end = overlays[at as usize].route(&key, REPLICAS);
            let own = end.includes_self().then_some(peers[at as usize].id);
            let mut named: Vec<_> = end.contacts().iter().map(|c| c.id).chain(own).collect();
            named.sort_by_key(|id| overlays[0].rank(&key, id));
            assert_eq!(named, held_by[..REPLICAS], "{hash}");
        }
    }
}

/// Where keys have no place: two that agree to be neighbours know what the other holds, whatever the
/// width of the keys.
fn assert_indexes_lead_to_holders(algorithm: Algorithm) {
    for hash in HashAlgorithm::ALL {
        let peer = |n: u32| Contact { id: NodeId(hash.digest(&n.to_be_bytes())), ..contact(n) };
        let mut pair =
            [1, 2].map(|n| build(algorithm, peer(n).id, 1, Seed::from_number(n.into()), Time::ZERO));
        let keys: Vec<Key> = (100..120u32).map(|n| hash.digest(&n.to_be_bytes())).collect();
        pair[1].set_holdings(Time::ZERO, keys.iter().map(crate::gia::digest).collect());
        let mut now = Time::ZERO;
        pair[0].handle_peer(now, peer(2), Evidence::Alive { rtt: None });
        for _ in 0..100 {
            now += Duration::from_millis(500);
            for n in 0..2 {
                pair[n].handle_timeout(now);
                while let Some(wish) = pair[n].poll_upkeep() {
                    let Upkeep::Greet(to) = wish else { continue };
                    let other = 1 - n;
                    assert_eq!(to.id, peer(other as u32 + 1).id, "{hash}");
                    let from = peer(n as u32 + 1);
                    let greeting = pair[n].greeting(now, &to.id).expect("a greeting");
                    pair[other].handle_greeting(now, from, &greeting, false);
                    let answer = pair[other].greeting(now, &from.id).expect("an answer");
                    pair[n].handle_peer(now, to, Evidence::Alive { rtt: None });
                    pair[n].handle_greeting(now, to, &answer, true);
                }
            }
        }
        for key in &keys {
            let named = Route::Replicas { contacts: vec![peer(2)], includes_self: false };
            assert_eq!(pair[0].route(key, REPLICAS), named, "{hash}");
        }
        let other = hash.digest(b"held by nobody");
        assert_eq!(pair[0].route(&other, REPLICAS), Route::Toward(vec![peer(2)]), "{hash}");
    }
}

pub(crate) fn how_neighbors_stand_tells_how_many_there_are(algorithm: Algorithm) {
    let mut net = Net::new(algorithm, 1, 2);
    net.grow(300, Duration::from_millis(50));
    net.run_for(Duration::from_secs(90));
    if algorithm.walks().is_some() {
        return assert_degrees_keep_their_bounds(&net);
    }
    let part_per_peer = |i: u32| {
        let mut parts = algorithm.metric().parts(contact(i).id.key(), &net.overlay(i).neighbors());
        // Of a ring with one direction one side counts.
        parts.retain(|part| *part <= 0.5);
        parts.last().expect("neighbours") / parts.len() as f64
    };
    let mean = net.living().map(part_per_peer).sum::<f64>() / 300.0;
    let told = 1.0 / mean;
    assert!((225.0..400.0).contains(&told), "{told:.0} of 300");
}

/// Where keys have no place, neighbours tell nothing of the size; but nobody is without, and nobody
/// has more than it may.
fn assert_degrees_keep_their_bounds(net: &Net) {
    let degrees: Vec<usize> = net.living().map(|i| net.overlay(i).len()).collect();
    let (least, most) = (degrees.iter().min().unwrap(), degrees.iter().max().unwrap());
    assert!(*least >= 3 && *most <= 64, "degrees from {least} to {most}");
}

pub(crate) fn failed_peers_leave_every_table(algorithm: Algorithm) {
    let mut net = Net::new(algorithm, 1, 3);
    net.grow(120, Duration::from_millis(50));
    net.run_for(Duration::from_secs(60));
    net.kill_share(0.25);
    net.run_for(Duration::from_secs(900));
    for i in net.living().collect::<Vec<_>>() {
        for entry in net.overlay(i).contacts() {
            let lives = net.lives(net::index(&entry.contact));
            assert!(lives || entry.standing == Standing::Spare, "{i} keeps {entry:?}");
        }
    }
}

pub(crate) fn the_same_seed_gives_the_same_run(algorithm: Algorithm) {
    let run = |seed| {
        let mut net = Net::new(algorithm, 1, seed);
        net.loss = 0.1;
        net.grow(60, Duration::from_millis(30));
        net.run_for(Duration::from_secs(120));
        net.kill_share(0.2);
        net.run_for(Duration::from_secs(120));
        net.trace
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

pub(crate) fn another_base_finds_everything_too(algorithm: Algorithm) {
    for base_bits in [2, 3, 4] {
        let mut net = Net::new(algorithm, base_bits, 4);
        net.grow(150, Duration::from_millis(50));
        net.run_for(Duration::from_secs(30));
        assert_eq!(found(&mut net, 0, 60), 60, "base 2^{base_bits}");
    }
}

/// Publishes `count` keys from peers of the net.
fn publish(net: &mut Net, first: u32, count: u32) {
    for n in first..first + count {
        let from = net.pick();
        net.publish(from, key(n), REPLICAS);
    }
    net.run_for(Duration::from_secs(20));
}

/// How many of these keys are found, each by another random peer.
fn get(net: &mut Net, first: u32, count: u32) -> usize {
    let before = net.found;
    for n in first..first + count {
        let from = net.pick();
        net.get(from, key(n));
    }
    net.run_for(Duration::from_secs(20));
    net.found - before
}

fn found(net: &mut Net, first: u32, count: u32) -> usize {
    publish(net, first, count);
    get(net, first, count)
}

pub(crate) fn a_thousand_peers_find_everything_through_loss_and_death(algorithm: Algorithm) {
    let mut net = Net::new(algorithm, 1, 5);
    net.grow(1_000, Duration::from_millis(100));
    net.run_for(Duration::from_secs(10));
    assert_eq!(found(&mut net, 0, 300), 300, "without loss");
    let asked = net.asked_per_get();
    assert!(asked < 10.0, "{asked} peers asked per lookup");
    net.loss = 0.1;
    let lossy = found(&mut net, 1_000, 300);
    assert!(lossy >= 297, "{lossy} of 300 with 10 % loss");
    net.kill_share(0.25);
    let rest = get(&mut net, 1_000, 300);
    assert!(rest >= 297, "{rest} of 300 after a quarter died, with 10 % loss");
}

pub(crate) fn upkeep_keeps_within_its_budget_under_churn(algorithm: Algorithm) {
    let mut net = Net::new(algorithm, 1, 6);
    net.grow(1_000, Duration::from_millis(50));
    net.run_for(Duration::from_secs(60));
    net.churn(Duration::from_secs(3_600));
    net.bytes = 0;
    let span = Duration::from_secs(300);
    net.run_for(span);
    let rate = net.bytes as f64 / 1_000.0 / span.as_secs_f64();
    println!("{algorithm}: {rate:.0} bytes/s per peer, {} messages", net.messages);
    assert!(rate < 200.0, "{rate:.0} bytes/s per peer");
    let found = found(&mut net, 0, 200);
    assert!(found >= 199, "{found} of 200 under churn");
}

/// What may happen to an overlay.
#[derive(Clone, Debug)]
enum Act {
    Alive(u32),
    Mentioned(u32),
    Failed(u32),
    Left(u32),
    Lookup(u32),
    Wait(u64),
    Pace(f32),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..200u32).prop_map(Act::Alive),
        4 => (0..200u32).prop_map(Act::Mentioned),
        2 => (0..200u32).prop_map(Act::Failed),
        1 => (0..200u32).prop_map(Act::Left),
        1 => (0..200u32).prop_map(Act::Lookup),
        4 => (0..400_000u64).prop_map(Act::Wait),
        1 => any::<f32>().prop_map(Act::Pace),
    ]
}

pub(crate) fn time_moves_on_after_every_timeout(algorithm: Algorithm) {
    let config = ProptestConfig::with_cases(64);
    let acts = (0..5u8, prop::collection::vec(act(), 1..250));
    proptest!(config, |((base_bits, acts) in acts)| {
        let seed = Seed::from_number(1);
        let mut overlay = build(algorithm, contact(0).id, base_bits, seed, Time::ZERO);
        let mut now = Time::ZERO;
        for act in acts {
            match act {
                Act::Alive(n) => {
                    let rtt = Some(Duration::from_millis(u64::from(n)));
                    overlay.handle_peer(now, contact(n), Evidence::Alive { rtt });
                }
                Act::Mentioned(n) => overlay.handle_peer(now, contact(n), Evidence::Mentioned),
                Act::Failed(n) => overlay.handle_failure(now, &contact(n).id),
                Act::Left(n) => overlay.handle_leave(now, &contact(n).id),
                Act::Lookup(n) => overlay.handle_lookup(now, &key(n)),
                Act::Pace(pace) => overlay.set_pace(pace),
                Act::Wait(millis) => {
                    now += Duration::from_millis(millis);
                    overlay.handle_timeout(now);
                    if let Some((at, reason)) = overlay.poll_timeout() {
                        prop_assert!(at > now, "{reason:?} at {at:?} is not after {now:?}");
                    }
                }
            }
            let wishes = std::iter::from_fn(|| overlay.poll_upkeep()).count();
            prop_assert!(wishes <= 64, "{wishes} wishes at once");
            prop_assert!(!overlay.contains(&contact(0).id));
            let route = overlay.route(&key(1), REPLICAS);
            prop_assert!(route.contacts().iter().all(|c| c.id != contact(0).id));
            let good = overlay.contacts().iter().filter(|e| e.standing == Standing::Good).count();
            prop_assert_eq!(overlay.len(), good);
        }
    });
}
