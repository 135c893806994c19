//! One table with its timers: the engine is played by hand, and whoever is pinged answers or not.

use super::*;
use proptest::prelude::*;
use wire::HashAlgorithm;

use crate::overlay::Standing;

fn peer(n: u32) -> Contact {
    let [_, b, c, d] = n.to_be_bytes();
    Contact {
        id: NodeId(HashAlgorithm::Sha256.digest(&n.to_be_bytes())),
        address: std::net::SocketAddr::from(([10, b, c, d], 7080)),
    }
}

fn kademlia() -> Kademlia {
    Kademlia::new(peer(0).id, 1, Seed::from_number(1))
}

const ALIVE: Evidence = Evidence::Alive { rtt: None };

fn wishes(k: &mut Kademlia) -> Vec<Upkeep> {
    std::iter::from_fn(|| k.poll_upkeep()).collect()
}

/// Runs the timers until `until`; whoever is pinged answers, or not.
fn run(k: &mut Kademlia, from: Time, until: Time, answers: bool) -> Vec<(Time, Upkeep)> {
    let (mut log, mut now) = (vec![], from);
    loop {
        while let Some(wish) = k.poll_upkeep() {
            log.push((now, wish));
            match wish {
                Upkeep::Ping(with) | Upkeep::Ask { with, .. } if answers => k.handle_peer(now, with, ALIVE),
                Upkeep::Ping(with) | Upkeep::Ask { with, .. } => k.handle_failure(now, &with.id),
                _ => {}
            }
        }
        match k.poll_timeout() {
            Some((at, _)) if at <= until => now = at,
            _ => return log,
        }
        k.handle_timeout(now);
    }
}

fn pings(log: &[(Time, Upkeep)]) -> usize {
    log.iter().filter(|(_, w)| matches!(w, Upkeep::Ping(_))).count()
}

#[test]
fn whoever_enters_the_table_is_reported_once() {
    let mut k = kademlia();
    for _ in 0..3 {
        k.handle_peer(Time::ZERO, peer(1), ALIVE);
    }
    assert_eq!((k.poll_newcomer(), k.poll_newcomer()), (Some(peer(1)), None));
}

#[test]
fn a_mention_is_a_wish_to_ping_once_and_an_answer_makes_the_entry() {
    let mut k = kademlia();
    for _ in 0..5 {
        k.handle_peer(Time::ZERO, peer(1), Evidence::Mentioned);
    }
    assert_eq!(wishes(&mut k), [Upkeep::Ping(peer(1))]);
    assert!(k.is_empty());
    k.handle_peer(Time::ZERO, peer(1), ALIVE);
    assert!(k.contains(&peer(1).id));
    k.handle_peer(Time::ZERO, peer(1), Evidence::Mentioned);
    assert_eq!(wishes(&mut k), []);
}

#[test]
fn a_mentioned_peer_that_failed_is_left_alone_for_a_while() {
    let mut k = kademlia();
    k.handle_peer(Time::ZERO, peer(1), Evidence::Mentioned);
    wishes(&mut k);
    k.handle_failure(Time::from_secs(3), &peer(1).id);
    k.handle_peer(Time::from_secs(200), peer(1), Evidence::Mentioned);
    assert_eq!(wishes(&mut k), []);
    k.handle_peer(Time::from_secs(304), peer(1), Evidence::Mentioned);
    assert_eq!(wishes(&mut k), [Upkeep::Ping(peer(1))]);
}

#[test]
fn a_flood_of_mentions_costs_a_paced_trickle_of_pings() {
    let mut k = kademlia();
    for n in 1..5_000 {
        k.handle_peer(Time::ZERO, peer(n), Evidence::Mentioned);
    }
    assert_eq!(wishes(&mut k).len(), crate::care::VERIFY_BURST as usize);
    let log = run(&mut k, Time::ZERO, Time::from_secs(600), false);
    assert!(pings(&log) <= crate::care::MAX_TO_VERIFY, "{}", pings(&log));
}

#[test]
fn the_first_peer_makes_us_look_ourselves_up_and_then_less_and_less() {
    let mut k = kademlia();
    k.handle_peer(Time::from_secs(5), peer(1), ALIVE);
    let log = run(&mut k, Time::from_secs(5), Time::from_secs(3_600), true);
    let own = *peer(0).id.key();
    let first = log.iter().find(|(_, w)| *w == Upkeep::Lookup { key: own, width: 8 });
    let later = log.iter().filter(|(_, w)| *w == Upkeep::Ask { with: peer(1), key: own });
    let times: Vec<_> = first.into_iter().chain(later).map(|(t, _)| *t).collect();
    assert!(times[0] < Time::from_millis(5_200));
    assert!(times[1] < Time::from_secs(30) && times[2] < Time::from_secs(60));
    assert!((8..16).contains(&times.len()), "{}", times.len());
}

#[test]
fn far_buckets_with_room_are_searched_after_joining_and_rarely_later() {
    let mut k = kademlia();
    for n in 1..60 {
        k.handle_peer(Time::ZERO, peer(n), ALIVE);
    }
    // Somebody in the farthest bucket leaves, and nobody waits there.
    let far = k.contacts().into_iter().filter(|e| e.row == 0);
    let (good, spares): (Vec<_>, Vec<_>) = far.partition(|e| e.standing == Standing::Good);
    for entry in spares.iter().chain(&good[..1]) {
        k.handle_leave(Time::ZERO, &entry.contact.id);
    }
    let log = run(&mut k, Time::ZERO, Time::from_secs(3_600), true);
    let far: Vec<_> = log
        .iter()
        .filter_map(|&(t, w)| match w {
            Upkeep::Ask { key, .. } if key.common_prefix(peer(0).id.key()) == 0 => Some(t),
            _ => None,
        })
        .collect();
    assert!(far[0] < Time::from_secs(12), "{far:?}");
    assert!((6..15).contains(&far.len()), "{far:?}");
}

#[test]
fn a_lookup_of_ours_postpones_the_refreshing_of_its_region() {
    let mut k = kademlia();
    for n in 1..60 {
        k.handle_peer(Time::ZERO, peer(n), ALIVE);
    }
    let before = k.table.next_refresh().unwrap();
    let key = k.key_in(before.0);
    k.handle_lookup(Time::from_secs(1), &key);
    assert_ne!(k.table.next_refresh().unwrap().0, before.0);
}

#[test]
fn a_random_key_of_a_bucket_falls_into_that_bucket() {
    for base_bits in 1..=4 {
        let mut k = Kademlia::new(peer(0).id, base_bits, Seed::from_number(1));
        for n in 1..200 {
            let index = k.table.index_of(peer(n).id.key());
            let key = k.key_in(index);
            assert_eq!(k.table.index_of(&key), index);
        }
    }
}

#[test]
fn silent_peers_are_asked_and_traffic_spares_the_asking() {
    let mut k = kademlia();
    for n in 1..40 {
        k.handle_peer(Time::ZERO, peer(n), ALIVE);
    }
    let known = k.len();
    let log = run(&mut k, Time::ZERO, Time::from_secs(420), true);
    assert!((known / 2..=known).contains(&pings(&log)), "{} of {known}", pings(&log));

    let mut busy = kademlia();
    let mut count = 0;
    for minute in 0..15 {
        let now = Time::from_secs(minute * 60);
        for n in 1..40 {
            busy.handle_peer(now, peer(n), ALIVE);
        }
        count += pings(&run(&mut busy, now, now + Duration::from_secs(59), true));
    }
    assert_eq!(count, 0);
}

#[test]
fn a_table_that_sees_nobody_leave_asks_ever_less() {
    let mut k = kademlia();
    for n in 1..40 {
        k.handle_peer(Time::ZERO, peer(n), ALIVE);
    }
    let hour = |k: &mut Kademlia, n: u64| {
        pings(&run(k, Time::from_secs(n * 3_600), Time::from_secs((n + 1) * 3_600 - 1), true))
    };
    let (first, later) = (hour(&mut k, 0), (1..6).map(|n| hour(&mut k, n)).last().unwrap());
    assert!(first < 4 * k.len() && later < 3 * k.len() / 2, "{first}, {later} of {}", k.len());
}

#[test]
fn a_table_that_loses_many_has_asked_the_rest_within_three_quarters_of_an_hour() {
    let mut k = kademlia();
    for n in 1..40 {
        k.handle_peer(Time::ZERO, peer(n), ALIVE);
    }
    run(&mut k, Time::ZERO, Time::from_secs(6 * 3_600), true);
    let (start, known) = (Time::from_secs(6 * 3_600), k.table.peers().count());
    let dead = |c: &Contact| c.id.key().as_bytes()[31] % 5 < 2;
    let dying = k.table.peers().filter(|p| dead(&p.contact())).count();
    assert!(dying * 5 > known, "{dying} of {known}");
    let mut now = start;
    while k.table.peers().any(|p| dead(&p.contact())) {
        while let Some(wish) = k.poll_upkeep() {
            match wish {
                Upkeep::Ping(contact) if dead(&contact) => k.handle_failure(now, &contact.id),
                Upkeep::Ping(contact) => k.handle_peer(now, contact, ALIVE),
                _ => {}
            }
        }
        now = k.poll_timeout().unwrap().0;
        k.handle_timeout(now);
    }
    assert!(now < start + Duration::from_secs(2_700), "{:?}", now.since(start));
}

#[test]
fn a_slower_pace_asks_less() {
    let count = |pace| {
        let mut k = kademlia();
        k.set_pace(pace);
        for n in 1..40 {
            k.handle_peer(Time::ZERO, peer(n), ALIVE);
        }
        run(&mut k, Time::ZERO, Time::from_secs(1_000), true).len()
    };
    let (usual, slow) = (count(1.0), count(4.0));
    assert!(slow * 3 < usual, "{slow} against {usual}");
    assert_eq!(count(f32::NAN), usual);
}

#[test]
fn when_our_own_network_fails_the_table_is_kept() {
    let mut k = kademlia();
    for n in 1..60 {
        k.handle_peer(Time::ZERO, peer(n), ALIVE);
    }
    let known = k.table.peers().count();
    run(&mut k, Time::ZERO, Time::from_secs(2 * 3_600), false);
    let kept = k.table.peers().count();
    assert!(kept + crate::care::OUTAGE as usize >= known, "{kept} of {known}");
    assert_eq!(k.len(), 0);
    assert!(!k.neighbors().is_empty(), "somebody to try when the network is back");
    run(&mut k, Time::from_secs(7_200), Time::from_secs(9_000), true);
    assert_eq!(k.len(), kept);
}

#[test]
fn a_newcomer_in_a_full_bucket_has_the_most_silent_peer_asked() {
    let mut k = kademlia();
    let row0 = |n: &u32| peer(*n).id.key().common_prefix(peer(0).id.key()) == 0;
    let others: Vec<_> = (1..400).filter(|n| !row0(n)).take(30).collect();
    let far: Vec<_> = (1..400).filter(row0).take(9).collect();
    for n in others.iter().chain(&far[..8]) {
        k.handle_peer(Time::ZERO, peer(*n), ALIVE);
    }
    wishes(&mut k);
    k.handle_peer(Time::from_secs(149), peer(far[8]), ALIVE);
    assert_eq!(wishes(&mut k), []);
    k.handle_peer(Time::from_secs(151), peer(far[8]), ALIVE);
    assert_eq!(wishes(&mut k), [Upkeep::Ping(peer(far[0]))]);
    assert!(!k.contains(&peer(far[8]).id));
    k.handle_failure(Time::from_secs(155), &peer(far[0]).id);
    assert!(k.contains(&peer(far[8]).id) && !k.contains(&peer(far[0]).id));
}

/// Some that share their first bit with us, and some that do not.
fn near_and_far(near: usize, far: usize) -> (Vec<Contact>, Vec<Contact>) {
    let is_far = |c: &Contact| c.id.key().common_prefix(peer(0).id.key()) == 0;
    let (far_ones, near_ones): (Vec<_>, Vec<_>) = (1..1_000).map(peer).partition(is_far);
    (near_ones[..near].to_vec(), far_ones[..far].to_vec())
}

#[test]
fn a_far_bucket_that_holds_few_leads_on_and_is_not_taken_for_all_there_are() {
    let mut k = kademlia();
    let (near, far) = near_and_far(30, 2);
    for contact in near.iter().chain(&far) {
        k.handle_peer(Time::ZERO, *contact, ALIVE);
    }
    // Nobody else on our side stands as near to it as we do.
    let mut opposite = peer(0).id.key().as_bytes().to_vec();
    opposite[0] ^= 0x80;
    let key = Key::from_slice(&opposite).expect("as long as before");
    let Route::Toward(mut named) = k.route(&key, 5) else { panic!("we hold what is far from us") };
    named.sort_unstable();
    let mut there = far.clone();
    there.sort_unstable();
    assert_eq!(named, there);
}

#[test]
fn in_a_storm_three_far_places_cost_three_questions_however_many_are_mentioned() {
    let mut k = kademlia();
    let (near, far) = near_and_far(30, 8);
    for contact in &near {
        k.handle_peer(Time::ZERO, *contact, ALIVE);
    }
    k.expect_sessions(Duration::from_secs(120));
    wishes(&mut k);
    for contact in &far {
        k.handle_peer(Time::ZERO, *contact, Evidence::Mentioned);
    }
    assert_eq!(wishes(&mut k), far[..3].iter().map(|c| Upkeep::Ping(*c)).collect::<Vec<_>>());
    // Who is silent is no longer waited for.
    k.handle_peer(Time::from_secs(2), far[7], Evidence::Mentioned);
    assert_eq!(wishes(&mut k), [Upkeep::Ping(far[7])]);
}

#[test]
fn in_a_storm_those_are_told_of_our_leaving_that_know_us_or_are_near() {
    let mut k = kademlia();
    let (near, far) = near_and_far(30, 4);
    for contact in near.iter().chain(&far) {
        k.handle_peer(Time::ZERO, *contact, ALIVE);
    }
    k.note_mutual(&far[1].id, true);
    let told = |k: &Kademlia| {
        let all = k.acquaintances();
        far.iter().filter(|c| all.contains(c)).copied().collect::<Vec<_>>()
    };
    assert_eq!(told(&k), far);
    k.expect_sessions(Duration::from_secs(120));
    assert_eq!(told(&k), far[1..2]);
}

#[test]
fn a_goodbye_is_believed_at_once() {
    let mut k = kademlia();
    k.handle_peer(Time::ZERO, peer(1), ALIVE);
    k.handle_leave(Time::ZERO, &peer(1).id);
    assert!(k.is_empty());
    k.handle_peer(Time::ZERO, peer(1), Evidence::Mentioned);
    assert_eq!(wishes(&mut k), []);
}

proptest! {
    #[test]
    fn who_holds_a_key_is_exact_when_everybody_was_met(n in 1u32..80, key: u64, count in 1usize..9) {
        // Meeting everybody is what a full neighbourhood and buckets amount to.
        let mut k = kademlia();
        for i in 1..n {
            k.handle_peer(Time::ZERO, peer(i), ALIVE);
        }
        let key = HashAlgorithm::Sha256.digest(&key.to_be_bytes());
        let mut all: Vec<_> = (0..n).map(peer).collect();
        all.sort_by_key(|c| key.xor(c.id.key()));
        let own = key.xor(peer(0).id.key());
        let nearer = all.iter().take(count).filter(|c| key.xor(c.id.key()) < own).count();
        // So few for so many on our own side look like a sample, also where chance has made them few.
        let shared = key.common_prefix(peer(0).id.key());
        let on_our_side = all.iter().filter(|c| c.id.key().common_prefix(peer(0).id.key()) > shared).count() - 1;
        let few = (1..count).contains(&nearer) && on_our_side >= 2 * count;
        match k.route(&key, count) {
            Route::Toward(contacts) => {
                prop_assert!(contacts.len() == nearer && (nearer == count || few));
                prop_assert!(contacts.iter().all(|c| key.xor(c.id.key()) < own));
            }
            Route::Replicas { contacts, includes_self } => {
                prop_assert!(nearer < count && includes_self);
                prop_assert!(contacts.len() < count);
            }
        }
    }
}
