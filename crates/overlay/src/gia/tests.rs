//! What only Gia does.

use super::neighbors::{LEAST, MOST, most};
use super::*;
use wire::HashAlgorithm;

const ALIVE: Evidence = Evidence::Alive { rtt: None };

fn contact(n: u32) -> Contact {
    let id = NodeId(HashAlgorithm::Sha256.digest(&n.to_be_bytes()));
    Contact { id, address: ([10, 1, (n >> 8) as u8, n as u8], 7080).into() }
}

fn key(n: u32) -> Key {
    HashAlgorithm::Sha256.digest(&[b"resource ", n.to_be_bytes().as_slice()].concat())
}

fn fresh(capacity: u32) -> Gia {
    let mut gia = Gia::new(contact(0).id, Seed::from_number(1), Time::ZERO);
    gia.set_capacity(capacity);
    gia
}

fn hello(capacity: u32, degree: u8) -> Greeting {
    Greeting { neighbor: true, capacity, degree, tokens: 4, ..Greeting::default() }
}

/// Peer `n` asks to be a neighbour; answers whatever we ask in turn. Whether it is one then.
fn offers(gia: &mut Gia, now: Time, n: u32, capacity: u32, degree: u8) -> bool {
    gia.handle_greeting(now, contact(n), &hello(capacity, degree), false);
    while let Some(wish) = gia.poll_upkeep() {
        if wish == Upkeep::Greet(contact(n)) {
            gia.handle_peer(now, contact(n), ALIVE);
            gia.handle_greeting(now, contact(n), &hello(capacity, degree), true);
        }
    }
    gia.contains(&contact(n).id)
}

fn with_neighbors(capacity: u32, theirs: &[u32]) -> Gia {
    let mut gia = fresh(capacity);
    for (n, capacity) in (1..).zip(theirs) {
        assert!(offers(&mut gia, Time::ZERO, n, *capacity, 10), "neighbour {n}");
    }
    gia
}

fn first_way(gia: &Gia, key: &Key) -> NodeId {
    gia.route(key, 5).contacts()[0].id
}

#[test]
fn a_link_needs_the_word_of_both_sides() {
    let mut gia = fresh(10);
    gia.handle_greeting(Time::ZERO, contact(1), &hello(10, 1), false);
    assert!(gia.is_empty() && gia.contacts().is_empty(), "a request alone makes no entry");
    assert_eq!(gia.poll_upkeep(), Some(Upkeep::Greet(contact(1))));
    assert!(gia.greeting(Time::ZERO, &contact(1).id).unwrap().neighbor, "but we say that we would");
    gia.handle_peer(Time::ZERO, contact(1), ALIVE);
    let refusal = Greeting { neighbor: false, ..hello(10, 1) };
    gia.handle_greeting(Time::ZERO, contact(1), &refusal, true);
    assert!(gia.is_empty(), "it thought better of it");
    assert!(offers(&mut gia, Time::ZERO, 2, 10, 1));
    gia.handle_greeting(Time::ZERO, contact(2), &refusal, false);
    assert!(gia.is_empty(), "it gave us up");
}

#[test]
fn the_satisfied_stop_looking_and_others_hurry() {
    // Eight neighbours of ten neighbours each: to a peer of capacity 10 they do 80 between them.
    let mut content = with_neighbors(10, &[100; 8]);
    assert_eq!((content.satisfaction(), content.adapt_at), (1.0, NEVER));
    for n in 100..200 {
        content.handle_peer(Time::from_secs(1), contact(n), Evidence::Mentioned);
    }
    content.handle_timeout(Time::from_secs(2));
    let looks = |w: &Upkeep| matches!(w, Upkeep::Ping(_) | Upkeep::Exchange { .. });
    assert!(std::iter::from_fn(|| content.poll_upkeep()).all(|w| !looks(&w)), "it looks for nobody");
    let poor = with_neighbors(10, &[100; 3]);
    assert_eq!(poor.satisfaction(), 0.0, "too few");
    assert!(poor.adapt_at < Time::from_secs(1));
    // What eight can do for a peer of capacity 1,000 is less than it takes on.
    let able = with_neighbors(1_000, &[100; 8]);
    assert!((0.07..0.09).contains(&able.satisfaction()), "{}", able.satisfaction());
    assert!(able.adapt_at < Time::from_secs(2));
}

#[test]
fn the_able_take_more_neighbors_and_nobody_more_than_it_may() {
    let degree_of = |capacity| {
        let mut gia = fresh(capacity);
        for n in 1..200 {
            offers(&mut gia, Time::ZERO, n, 10, 3);
        }
        gia.len()
    };
    let degrees = [1, 10, 100, 1_000, 10_000].map(degree_of);
    assert_eq!(degrees, [1, 10, 100, 1_000, 10_000].map(most));
    assert!(degrees.is_sorted_by(|a, b| a < b), "{degrees:?}");
    assert!(degrees[0] >= LEAST && degrees[4] == MOST);
}

#[test]
fn a_full_table_prefers_the_able_and_the_poorly_connected() {
    let mut gia = with_neighbors(1, &[10; 12]);
    assert!(!offers(&mut gia, Time::ZERO, 20, 1, 9), "of less capacity than all of ours");
    assert!(!offers(&mut gia, Time::ZERO, 21, 10, 9), "as able, and as well connected");
    assert!(offers(&mut gia, Time::ZERO, 22, 10, 2), "as able, and poorly connected");
    assert!(offers(&mut gia, Time::ZERO, 23, 100, 40), "abler than all");
    assert_eq!(gia.len(), 12);
    let poor: Vec<u32> = (1..13).filter(|n| !gia.contains(&contact(*n).id)).collect();
    assert_eq!(poor.len(), 2, "two gave their places");
    let told = gia.greeting(Time::ZERO, &contact(poor[0]).id).unwrap();
    assert!(!told.neighbor, "and are told so");
}

#[test]
fn who_has_few_neighbors_is_not_given_up() {
    let mut gia = fresh(1);
    for n in 1..13 {
        offers(&mut gia, Time::ZERO, n, 10, LEAST as u8);
    }
    assert!(!offers(&mut gia, Time::ZERO, 20, 10_000, 60));
}

#[test]
fn a_walk_goes_to_the_ablest_and_then_to_another() {
    let mut gia = with_neighbors(100, &[1, 1_000, 10, 100]);
    for expected in [2, 4, 3, 1] {
        let next = first_way(&gia, &key(7));
        assert_eq!(next, contact(expected).id);
        assert!(gia.spend(Time::ZERO, &key(7), &next));
    }
    assert_eq!(first_way(&gia, &key(8)), contact(2).id, "another walk begins with the ablest");
    let later = Time::from_secs(60);
    gia.spend(later, &key(9), &contact(1).id);
    assert_eq!(first_way(&gia, &key(7)), contact(2).id, "walks of long ago are forgotten");
}

#[test]
fn nobody_is_sent_more_walks_than_it_granted() {
    let mut gia = with_neighbors(100, &[1_000, 10]);
    let sent = (0..100).filter(|n| gia.spend(Time::ZERO, &key(*n), &contact(1).id)).count();
    assert_eq!(sent, 4, "as many as it granted");
    assert_eq!(first_way(&gia, &key(500)), contact(2).id, "others have tokens left");
    // A grant of ten in all: six more.
    gia.handle_greeting(Time::ZERO, contact(1), &Greeting { tokens: 10, ..hello(1_000, 10) }, true);
    let sent = (0..100).filter(|n| gia.spend(Time::ZERO, &key(*n), &contact(1).id)).count();
    assert_eq!(sent, 6);
}

#[test]
fn a_neighbor_that_sends_more_than_it_was_granted_is_refused_and_one_that_keeps_to_it_gets_more() {
    let mut gia = with_neighbors(100, &[10]);
    let granted = gia.greeting(Time::ZERO, &contact(1).id).unwrap().tokens;
    assert_eq!(granted, WINDOW);
    // As fast as tokens are made for it: none is refused, and it is told of the new ones.
    let mut told = granted;
    for n in 0..200 {
        let now = Time::from_secs(1 + n);
        assert!(gia.handle_walk(now, contact(1).address), "walk {n} of {told}");
        gia.handle_timeout(now + Duration::from_millis(500));
        while let Some(wish) = gia.poll_upkeep() {
            if wish == Upkeep::Greet(contact(1)) {
                told = gia.greeting(now, &contact(1).id).unwrap().tokens;
            }
        }
        assert!(u64::from(told) > n + 1, "without tokens after {n} walks");
    }
    // All at once: what was saved up is taken, and no more.
    let mut modest = with_neighbors(1, &[10]);
    modest.handle_walk(Time::ZERO, contact(1).address);
    let taken = (0..5_000).filter(|_| modest.handle_walk(Time::ZERO, contact(1).address)).count();
    assert!(taken < 64 * WINDOW as usize, "{taken} walks taken");
}

#[test]
fn a_neighbor_answers_for_what_it_told_and_until_it_is_gone() {
    let mut gia = with_neighbors(100, &[1_000, 10]);
    let index = Some(vec![digest(&key(1)), digest(&key(2))]);
    gia.handle_greeting(Time::ZERO, contact(2), &Greeting { index, ..hello(10, 10) }, false);
    let Route::Replicas { contacts, includes_self: false } = gia.route(&key(1), 5) else {
        panic!("no holder named");
    };
    assert_eq!(contacts[0].id, contact(2).id, "the holder before the ablest");
    assert!(matches!(gia.route(&key(3), 5), Route::Toward(_)));
    assert_ne!(gia.greeting(Time::ZERO, &contact(2).id).unwrap().known, 0, "we say that we know it");
    gia.handle_leave(Time::ZERO, &contact(2).id);
    assert!(matches!(gia.route(&key(1), 5), Route::Toward(_)));
}

#[test]
fn what_we_hold_is_told_until_it_is_known() {
    let mut gia = with_neighbors(100, &[10]);
    gia.set_holdings(Time::ZERO, (0..1_000).map(|n| digest(&key(n))).collect());
    let told = gia.greeting(Time::ZERO, &contact(1).id).unwrap().index.expect("the index");
    assert_eq!(told.len(), MAX_INDEX, "as much as fits a datagram");
    assert!(gia.greeting(Time::ZERO, &contact(1).id).unwrap().index.is_some(), "it may not have arrived");
    let known = mark_of(&told);
    gia.handle_greeting(Time::ZERO, contact(1), &Greeting { known, ..hello(10, 10) }, true);
    assert_eq!(gia.greeting(Time::ZERO, &contact(1).id).unwrap().index, None);
    gia.set_holdings(Time::ZERO, vec![1]);
    assert_eq!(gia.greeting(Time::ZERO, &contact(1).id).unwrap().index, Some(vec![1]));
}

#[test]
fn a_peer_leads_to_itself() {
    let gia = with_neighbors(100, &[1_000, 10]);
    assert_eq!(first_way(&gia, contact(2).id.key()), contact(2).id);
}
