//! One search at a time: answers, silence and liars come by hand, or from a random network.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use wire::{HashAlgorithm, Rng, Seed, seed::RngExt};

use crate::Algorithm;

fn contact(n: u32) -> Contact {
    let [_, b, c, d] = n.to_be_bytes();
    Contact {
        id: NodeId(HashAlgorithm::Sha256.digest(&n.to_be_bytes())),
        address: SocketAddr::from(([10, b, c, d], 7080)),
    }
}

fn target() -> Key {
    HashAlgorithm::Sha256.digest(b"sip:bob@example.org")
}

fn sorted(mut peers: Vec<Contact>) -> Vec<Contact> {
    peers.sort_by_key(|c| target().xor(c.id.key()));
    peers
}

fn config() -> Config {
    Config::new(Algorithm::Kademlia.metric())
}

fn start(seeds: &[Contact], config: Config) -> Lookup {
    Lookup::new(target(), contact(9_999_999).id, seeds, config)
}

fn asks(lookup: &mut Lookup, now: Time) -> Vec<Contact> {
    std::iter::from_fn(|| lookup.poll_ask(now)).map(|a| a.contact).collect()
}

const NOTHING: Route = Route::Toward(Vec::new());

#[test]
fn without_anybody_to_ask_it_is_over_at_once() {
    let lookup = start(&[], config());
    let outcome = lookup.outcome().unwrap();
    assert_eq!((outcome.asked, outcome.closest), (0, vec![]));
}

#[test]
fn three_are_asked_at_once_and_the_nearest_first() {
    let peers = sorted((0..20).map(contact).collect());
    let mut lookup = start(&peers, config());
    assert_eq!(asks(&mut lookup, Time::ZERO), peers[..3]);
    assert!(lookup.handle_reply(Time::ZERO, &peers[1].id, &NOTHING, false));
    assert_eq!(asks(&mut lookup, Time::ZERO), peers[3..4]);
}

#[test]
fn in_place_of_a_busy_peer_another_is_asked_and_it_goes_on_counting_among_the_nearest() {
    let peers = sorted((0..20).map(contact).collect());
    let mut lookup = start(&peers, Config { width: 2, ..config() });
    assert_eq!(asks(&mut lookup, Time::ZERO), peers[..2]);
    lookup.handle_busy(Time::ZERO, &peers[0].id);
    assert_eq!(asks(&mut lookup, Time::ZERO), peers[2..3]);
    for answering in &peers[1..3] {
        assert!(lookup.handle_reply(Time::ZERO, &answering.id, &NOTHING, false));
    }
    let outcome = lookup.outcome().unwrap();
    assert_eq!((outcome.closest, outcome.lost), (peers[1..3].to_vec(), vec![]));
    let nearest: Vec<Contact> = lookup.nearest(3).into_iter().map(|(contact, _)| contact).collect();
    assert_eq!(nearest, peers[..3]);
}

#[test]
fn liars_who_name_each_other_are_left_behind_by_a_resumed_search() {
    let peers = sorted((0..60).map(contact).collect());
    let (liars, honest) = (&peers[1..9], &peers[30..34]);
    let seeds: Vec<Contact> = [&peers[20..21], honest].concat();
    let mut lookup =
        start(&seeds, Config { parallelism: 1, goal: Goal::Found(1), questions: 20, ..config() });
    // The first asked is a liar: the nearest liars fill the shortlist, all answer, the search ends.
    while let Some(ask) = lookup.poll_ask(Time::ZERO) {
        if honest.contains(&ask.contact) {
            break;
        }
        let lie = Route::Replicas { contacts: liars.to_vec(), includes_self: true };
        lookup.handle_reply(Time::ZERO, &ask.contact.id, &lie, false);
    }
    assert!(lookup.is_finished() && lookup.outcome().unwrap().holders.is_empty());
    lookup.resume(&peers[40..44], 1);
    assert_eq!(asks(&mut lookup, Time::ZERO), honest[..1]);
    let truth = Route::Toward(peers[..1].to_vec());
    lookup.handle_reply(Time::ZERO, &honest[0].id, &truth, false);
    assert_eq!(asks(&mut lookup, Time::ZERO), peers[..1]);
    lookup.handle_reply(Time::ZERO, &peers[0].id, &NOTHING, true);
    assert_eq!(lookup.outcome().unwrap().holders, peers[..1]);
}

#[test]
fn a_liar_that_names_its_friends_wherever_they_stand_costs_one_question() {
    let peers = sorted((0..200).map(contact).collect());
    let (liar, honest, friends) = (peers[40], &peers[90..94], &peers[45..53]);
    let reach = 32.0 / 200.0;
    let seeds = [&[liar][..], honest].concat();
    let mut lookup = start(&seeds, Config { parallelism: 1, reach, ..config() });
    assert_eq!(asks(&mut lookup, Time::ZERO), [liar]);
    let lie = Route::Replicas { contacts: friends.to_vec(), includes_self: true };
    assert!(lookup.handle_reply(Time::ZERO, &liar.id, &lie, false));
    // Its friends stand nearer than whom we know, and are asked once nobody else is left.
    assert_eq!(asks(&mut lookup, Time::ZERO), honest[..1]);
    assert!(lookup.handle_reply(Time::ZERO, &honest[0].id, &NOTHING, false));
    assert_eq!(asks(&mut lookup, Time::ZERO), honest[1..2]);
    // Somebody else has reason to name one of them.
    assert!(lookup.handle_reply(Time::ZERO, &honest[1].id, &Route::Toward(friends[..1].to_vec()), false));
    assert_eq!(asks(&mut lookup, Time::ZERO), friends[..1]);
}

#[test]
fn a_resumed_search_asks_no_more_than_it_may() {
    let peers = sorted((0..60).map(contact).collect());
    let mut lookup = start(&peers[..8], Config { paths: 4, parallelism: 1, questions: 11, ..config() });
    let mut asked = 0;
    for resumed in [false, true] {
        loop {
            let round = asks(&mut lookup, Time::ZERO);
            asked += round.len();
            if round.is_empty() {
                break;
            }
            round.iter().for_each(|c| assert!(lookup.handle_reply(Time::ZERO, &c.id, &NOTHING, false)));
        }
        assert!(lookup.is_finished());
        assert_eq!(asked, if resumed { 11 } else { 8 });
        lookup.resume(&peers, 2);
    }
}

#[test]
fn a_search_that_began_with_two_at_once_may_be_resumed_with_three() {
    let peers = sorted((0..20).map(contact).collect());
    let mut lookup = start(&peers[..2], Config { parallelism: 2, ..config() });
    let first = asks(&mut lookup, Time::ZERO);
    assert_eq!(first, peers[..2]);
    first.iter().for_each(|c| assert!(lookup.handle_reply(Time::ZERO, &c.id, &NOTHING, false)));
    lookup.resume(&peers[2..], 3);
    assert_eq!(asks(&mut lookup, Time::ZERO).len(), 3);
}

#[test]
fn the_first_that_has_it_ends_the_search() {
    let peers = sorted((0..20).map(contact).collect());
    let mut lookup = start(&peers[5..9], Config { goal: Goal::Found(1), ..config() });
    asks(&mut lookup, Time::ZERO);
    let nearer = Route::Toward(peers[..4].to_vec());
    assert!(lookup.handle_reply(Time::ZERO, &peers[5].id, &nearer, false));
    assert_eq!(asks(&mut lookup, Time::ZERO), peers[..1]);
    assert!(lookup.handle_reply(Time::from_millis(90), &peers[0].id, &NOTHING, true));
    let outcome = lookup.outcome().unwrap();
    assert_eq!((outcome.hops, outcome.holders), (2, vec![peers[0]]));
    assert_eq!(outcome.took, Duration::from_millis(90));
    assert_eq!(lookup.poll_timeout(), None);
}

#[test]
fn an_exhaustive_search_goes_on_until_the_nearest_have_spoken() {
    let peers = sorted((0..30).map(contact).collect());
    let mut lookup = start(&peers, Config { width: 4, ..config() });
    let mut asked = vec![];
    loop {
        let next = asks(&mut lookup, Time::ZERO);
        if next.is_empty() {
            break;
        }
        for peer in &next {
            lookup.handle_reply(Time::ZERO, &peer.id, &NOTHING, true);
        }
        asked.extend(next);
    }
    let outcome = lookup.outcome().unwrap();
    assert_eq!(asked.len(), 4);
    assert_eq!((outcome.closest, outcome.holders.len()), (peers[..4].to_vec(), 4));
}

#[test]
fn a_peer_that_usually_answers_at_once_holds_the_end_of_a_search_up_for_a_moment_only() {
    let ends_at = |usual: u64| {
        let peer = contact(1);
        let mut lookup = start(&[peer], config());
        assert_eq!(asks(&mut lookup, Time::ZERO), [peer]);
        lookup.expect_by(&peer.id, Time::from_millis(usual));
        let mut now = Time::ZERO;
        while let Some((at, _)) = lookup.poll_timeout() {
            now = at;
            lookup.handle_timeout(now);
        }
        assert_eq!(lookup.outcome().map(|o| o.lost.len()), Some(1));
        now.as_millis()
    };
    assert_eq!((ends_at(20), ends_at(400), ends_at(60_000)), (300, 1_200, 5_000));
}

#[test]
fn a_slow_peer_is_overtaken_and_may_still_answer() {
    let peers = sorted((0..9).map(contact).collect());
    let mut lookup = start(&peers, Config { parallelism: 1, width: 2, ..config() });
    assert_eq!(asks(&mut lookup, Time::ZERO), peers[..1]);
    lookup.expect_by(&peers[0].id, Time::from_millis(80));
    assert_eq!(lookup.poll_timeout(), Some((Time::from_millis(80), Reason::Patience)));
    lookup.handle_timeout(Time::from_millis(80));
    assert_eq!(asks(&mut lookup, Time::from_millis(80)), peers[1..2]);
    lookup.handle_reply(Time::from_millis(90), &peers[1].id, &NOTHING, false);
    assert!(!lookup.is_finished());
    assert!(lookup.handle_reply(Time::from_millis(95), &peers[0].id, &NOTHING, false));
    assert_eq!(lookup.outcome().unwrap().closest, peers[..2]);
}

#[test]
fn a_peer_that_never_answers_is_given_up() {
    let peers = [contact(1)];
    let mut lookup = start(&peers, config());
    asks(&mut lookup, Time::ZERO);
    let mut waits = vec![];
    while let Some((at, reason)) = lookup.poll_timeout() {
        waits.push(reason);
        lookup.handle_timeout(at);
    }
    assert_eq!(waits, [Reason::Patience, Reason::GiveUp]);
    assert_eq!(lookup.outcome().unwrap().lost.len(), 1);
}

#[test]
fn nobody_is_believed_who_was_not_asked() {
    let peers = sorted((0..9).map(contact).collect());
    let mut lookup = start(&peers, config());
    asks(&mut lookup, Time::ZERO);
    assert!(!lookup.handle_reply(Time::ZERO, &peers[8].id, &NOTHING, true));
    assert!(!lookup.handle_reply(Time::ZERO, &contact(77).id, &NOTHING, true));
    assert!(lookup.handle_reply(Time::ZERO, &peers[0].id, &NOTHING, false));
    assert!(!lookup.handle_reply(Time::ZERO, &peers[0].id, &NOTHING, true), "one answer each");
}

#[test]
fn one_address_is_asked_twice_at_most_whatever_names_it_has() {
    let victim = "203.0.113.5:7080".parse().unwrap();
    let inventions = (10..40).map(|n| Contact { address: victim, ..contact(n) }).collect();
    let mut lookup = start(&[contact(1)], config());
    asks(&mut lookup, Time::ZERO);
    lookup.handle_reply(Time::ZERO, &contact(1).id, &Route::Toward(inventions), false);
    assert_eq!(asks(&mut lookup, Time::ZERO).len(), MAX_ASKS_PER_ADDRESS);
}

#[test]
fn ever_nearer_inventions_are_left_after_a_bounded_number() {
    let mut lookup = start(&[contact(1)], config());
    let mut asked = 0;
    let mut bits = 0;
    while let Some(ask) = lookup.poll_ask(Time::ZERO) {
        asked += 1;
        let invent = |i: u32| {
            let key = target().with_flipped_bit(255 - i).with_flipped_bit(bits.min(200));
            Contact { id: NodeId(key), address: SocketAddr::from(([10, 0, bits as u8, i as u8], 1)) }
        };
        let named = (0..8).map(invent).collect();
        bits += 1;
        lookup.handle_reply(Time::ZERO, &ask.contact.id, &Route::Toward(named), false);
    }
    assert!(asked <= MAX_ASKS_PER_PATH && lookup.is_finished(), "{asked}");
}

#[test]
fn on_a_ring_named_holders_come_before_peers_that_are_merely_on_the_way() {
    fn rank(key: &Key, peer: &NodeId) -> Distance {
        key.clockwise_to(peer.key())
    }
    fn progress(key: &Key, peer: &NodeId) -> Distance {
        peer.key().clockwise_to(key)
    }
    let metric = Metric { rank, progress: Some(progress) };
    let mut ring: Vec<_> = (0..50).map(contact).collect();
    ring.sort_by_key(|c| rank(&target(), &c.id));
    let config = Config { parallelism: 1, width: 2, goal: Goal::Found(1), ..Config::new(metric) };
    // From half around the ring: each knows the one 5 further; the last before the key its successors.
    let mut lookup = start(&ring[20..21], config);
    let mut hops = 0;
    while let Some(ask) = lookup.poll_ask(Time::ZERO) {
        hops += 1;
        let place = ring.iter().position(|c| *c == ask.contact).unwrap();
        let route = if place + 5 >= 50 {
            Route::Replicas { contacts: ring[..2].to_vec(), includes_self: false }
        } else {
            Route::Toward(vec![ring[place + 5]])
        };
        lookup.handle_reply(Time::ZERO, &ask.contact.id, &route, place == 0);
    }
    assert_eq!(lookup.outcome().unwrap().holders, ring[..1]);
    assert_eq!(hops, 7);
}

#[test]
fn a_retry_takes_another_next_hop() {
    let peers: Vec<_> = (0..4).map(contact).collect();
    let avoid = |id: &NodeId| *id == peers[0].id;
    assert_eq!(next_hop(&peers, 0, avoid), Some(peers[1]));
    assert_eq!(next_hop(&peers, 1, avoid), Some(peers[2]));
    assert_eq!(next_hop(&peers, 3, avoid), Some(peers[1]));
    assert_eq!(next_hop(&peers, 0, |_| true), None);
}

/// A network in which everybody knows the peers nearest to itself and some others; part of it dead.
struct Static {
    peers: Vec<Contact>,
    known: BTreeMap<NodeId, Vec<Contact>>,
    dead: BTreeSet<NodeId>,
}

impl Static {
    fn new(n: u32, dead: usize, rng: &mut Rng) -> Self {
        let peers: Vec<_> = (0..n).map(contact).collect();
        let knows = |me: &Contact, rng: &mut Rng| {
            let mut known = peers.clone();
            known.sort_by_key(|c| me.id.key().xor(c.id.key()));
            known.truncate(25);
            known.extend((0..12).map(|_| peers[rng.random_range(0..peers.len())]));
            known
        };
        let known = peers.iter().map(|p| (p.id, knows(p, rng))).collect();
        let dead = peers.iter().rev().take(dead).map(|p| p.id).collect();
        Static { peers, known, dead }
    }

    fn answer(&self, id: &NodeId, count: usize) -> Route {
        let mut known = sorted(self.known[id].clone());
        known.dedup();
        known.truncate(count);
        Route::Toward(known)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_search_ends_asks_nobody_twice_keeps_its_parallelism_and_finds_the_nearest(
        seed: u64, n in 2u32..120, dead_share in 0usize..4, alpha in 1usize..5, width in 1usize..9,
        paths in 1usize..5,
    ) {
        let mut rng = Seed::from_number(seed).rng();
        let dead = n as usize * dead_share / 10;
        let net = Static::new(n, dead, &mut rng);
        let seeds: Vec<_> = (0..6).map(|_| net.peers[rng.random_range(0..net.peers.len())]).collect();
        let mut lookup = start(&seeds, Config { parallelism: alpha, width, paths, ..config() });
        let mut now = Time::ZERO;
        let mut open: Vec<Ask> = vec![];
        let mut asked = BTreeSet::new();
        while !lookup.is_finished() {
            while let Some(ask) = lookup.poll_ask(now) {
                prop_assert!(asked.insert(ask.contact.id), "asked twice");
                open.push(ask);
                if dead == 0 {
                    let here = open.iter().filter(|a| a.path == ask.path).count();
                    prop_assert!(here <= alpha);
                }
            }
            let living: Vec<_> =
                (0..open.len()).filter(|&i| !net.dead.contains(&open[i].contact.id)).collect();
            if living.is_empty() {
                let Some((at, _)) = lookup.poll_timeout() else { break };
                prop_assert!(at > now || now == Time::ZERO);
                now = at;
                lookup.handle_timeout(now);
                prop_assert!(lookup.poll_timeout().is_none_or(|(next, _)| next > now));
            } else {
                let ask = open.swap_remove(living[rng.random_range(0..living.len())]);
                let route = net.answer(&ask.contact.id, width);
                prop_assert!(lookup.handle_reply(now, &ask.contact.id, &route, false));
            }
        }
        let outcome = lookup.outcome();
        prop_assert!(outcome.is_some(), "it must end by itself");
        let outcome = outcome.unwrap();
        prop_assert!(outcome.closest.len() <= width);
        prop_assert_eq!(outcome.asked, asked.len());
        if dead == 0 && width >= 4 {
            prop_assert_eq!(outcome.closest[0], sorted(net.peers)[0]);
        }
    }

    #[test]
    fn any_answers_leave_the_shortlist_bounded(
        acts in prop::collection::vec((0u32..500, any::<bool>(), 0u8..4), 1..200), paths in 1usize..9,
    ) {
        let mut lookup = start(&[contact(1), contact(2)], Config { paths, ..config() });
        let mut now = Time::ZERO;
        for (n, named, act) in acts {
            now += Duration::from_millis(70);
            let open = lookup.poll_ask(now).map_or(contact(n).id, |a| a.contact.id);
            let contacts = (0..30).map(|i| contact(n * 3 + i)).collect();
            let route = if named {
                Route::Replicas { contacts, includes_self: true }
            } else {
                Route::Toward(contacts)
            };
            match act {
                0 => lookup.handle_failure(now, &open),
                1 => lookup.handle_timeout(now),
                _ => { lookup.handle_reply(now, &open, &route, false); }
            }
            prop_assert!(lookup.paths.iter().all(|p| p.candidates.len() <= MAX_SHORTLIST));
            prop_assert!(lookup.paths.iter().all(|p| p.asked <= MAX_ASKS_PER_PATH));
        }
    }
}
