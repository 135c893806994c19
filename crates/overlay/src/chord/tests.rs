//! What only a ring does.

use super::*;
use proptest::prelude::*;
use wire::HashAlgorithm;

/// A peer whose identifier begins with these two bytes, so that places on the ring can be read.
fn at(place: u16, host: u8) -> Contact {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&place.to_be_bytes());
    let id = NodeId(Key::from_slice(&bytes).unwrap());
    Contact { id, address: ([10, (place >> 8) as u8, place as u8, host], 7080).into() }
}

fn chord(place: u16, base_bits: u8, others: &[u16]) -> Chord {
    let mut chord = Chord::new(at(place, 0).id, base_bits, Seed::from_number(1));
    for &other in others {
        chord.handle_peer(Time::ZERO, at(other, 1), Evidence::Alive { rtt: None });
    }
    chord
}

fn key(place: u16) -> Key {
    *at(place, 0).id.key()
}

fn places(contacts: &[Contact]) -> Vec<u16> {
    let place = |c: &Contact| u16::from_be_bytes(c.id.key().as_bytes()[..2].try_into().unwrap());
    contacts.iter().map(place).collect()
}

#[test]
fn the_first_peers_at_or_after_a_key_hold_it() {
    let others: Vec<u16> = (1..40).map(|n| n * 1_000).collect();
    let chord = chord(0, 1, &others);
    let Route::Replicas { contacts, includes_self } = chord.route(&key(1_500), 3) else { panic!("near") };
    assert_eq!((places(&contacts), includes_self), (vec![2_000, 3_000, 4_000], false));
    let Route::Replicas { contacts, includes_self } = chord.route(&key(38_500), 3) else { panic!("ours") };
    assert_eq!((places(&contacts), includes_self), (vec![39_000, 1_000], true));
}

#[test]
fn a_far_key_leads_to_the_nearest_peers_before_it_and_never_past_it() {
    let others: Vec<u16> = (1..60).map(|n| n * 1_000).collect();
    let chord = chord(0, 1, &others);
    let Route::Toward(contacts) = chord.route(&key(30_500), 3) else { panic!("far") };
    assert!(contacts.iter().all(|c| c.id.key() < &key(30_500)), "{contacts:?}");
    assert!(places(&contacts).iter().all(|p| *p >= 16_384), "in the interval before the key: {contacts:?}");
}

#[test]
fn with_base_sixteen_a_finger_points_into_each_of_fifteen_intervals_of_a_digit() {
    let chord = chord(0, 4, &[]);
    let interval = |place: u16| chord.ring.cell_of(&at(place, 0).id);
    let of_highest_digit: Vec<u16> = (1..16).map(|n| interval(n << 12)).collect();
    let expected: Vec<u16> = (1..16).map(|value| (63 << 4) | value).collect();
    assert_eq!(of_highest_digit, expected);
    assert_eq!(interval(0x0fff), (62 << 4) | 15);
}

#[test]
fn a_quicker_peer_takes_the_place_of_the_slowest_of_its_interval() {
    let near: Vec<u16> = (1..25).chain(65_519..65_535).collect();
    let mut chord = chord(0, 1, &near);
    let mut hear = |place: u16, host: u8, ms: u64| {
        let rtt = Some(Duration::from_millis(ms));
        chord.handle_peer(Time::ZERO, at(place, host), Evidence::Alive { rtt });
        chord.contains(&at(place, host).id)
    };
    assert!(hear(32_800, 1, 90) && hear(32_900, 2, 200) && hear(33_000, 3, 80));
    assert!(!hear(33_100, 4, 190), "not quicker by enough");
    assert!(hear(33_200, 5, 40));
    assert!(!chord.contains(&at(32_900, 2).id));
}

#[test]
fn one_network_gets_no_more_than_two_fingers_of_an_interval() {
    let near: Vec<u16> = (1..25).chain(65_519..65_535).collect();
    let mut chord = chord(0, 1, &near);
    for n in 0..3u16 {
        let contact = Contact { address: ([203, 0, 113, n as u8], 7080).into(), ..at(32_800 + n, 0) };
        chord.handle_peer(Time::ZERO, contact, Evidence::Alive { rtt: None });
        assert_eq!(chord.contains(&contact.id), n < 2, "{n}");
    }
}

#[test]
fn a_successor_that_falls_silent_is_passed_over_at_once_and_forgotten_the_second_time() {
    let others: Vec<u16> = (1..40).map(|n| n * 1_000).collect();
    let mut chord = chord(0, 1, &others);
    let first = at(1_000, 1).id;
    chord.handle_failure(Time::from_secs(1), &first);
    assert_eq!(chord.route(&key(500), 2).contacts()[0].id, at(2_000, 1).id);
    chord.handle_failure(Time::from_secs(20), &first);
    assert!(chord.contacts().iter().all(|e| e.contact.id != first));
}

proptest! {
    #[test]
    fn a_random_key_of_an_interval_lies_in_it(bits in 1u8..=4, digit in 0u16..64, place: u16, seed: u64) {
        let mut chord = chord(place, bits, &[]);
        chord.ring.care = crate::care::Care::new(Seed::from_number(seed));
        let value = 1 + (seed % ((1 << bits) - 1)) as u16;
        let interval = (digit << bits) | value;
        let key = chord.key_in(interval);
        prop_assert_eq!(super::interval(chord.ring.local().key(), &key, bits.into()), interval);
    }

    #[test]
    fn routes_go_strictly_forward_and_end(seed: u64, count in 1usize..8) {
        let hash = |n: u64| HashAlgorithm::Sha256.digest(&(seed ^ n << 32).to_be_bytes());
        let contact = |n: u64| Contact { id: NodeId(hash(n)), address: ([10, 0, 0, n as u8], 7080).into() };
        let mut chord = Chord::new(contact(0).id, 1, Seed::from_number(seed));
        (1..100).for_each(|n| chord.handle_peer(Time::ZERO, contact(n), Evidence::Alive { rtt: None }));
        let key = hash(1_000);
        if let Route::Toward(contacts) = chord.route(&key, count) {
            let own = ring::before(&key, &contact(0).id);
            prop_assert!(!contacts.is_empty() && contacts.len() <= count);
            prop_assert!(contacts.iter().all(|c| ring::before(&key, &c.id) < own));
        }
    }
}

#[test]
fn a_ring_that_loses_peers_fast_swaps_lists_oftener_within_bounds_and_still_asks_all_as_often_whether_they_live()
 {
    let others: Vec<u16> = (1..40).map(|n| n * 1_000).collect();
    let next_check = |chord: &Chord| chord.ring.poll_timeout(&[]).unwrap().0;
    let span = Duration::from_secs(100);
    let mean = |chord: &mut Chord| {
        let spans = (0..200).map(|_| chord.ring.care.steady(span).as_secs_f64());
        spans.sum::<f64>() / 200.0
    };
    let mut calm = chord(0, 1, &others);
    let check = next_check(&calm);
    assert!((95.0..105.0).contains(&mean(&mut calm)));
    let mut stormy = chord(0, 1, &others);
    for n in 30..39u16 {
        stormy.handle_leave(Time::from_secs(60), &at(n * 1_000, 1).id);
    }
    assert!((47.0..53.0).contains(&mean(&mut stormy)), "half as long and no shorter");
    assert!(stormy.churn().session() < Duration::from_secs(600));
    assert_eq!(next_check(&stormy), check);
    // And a quiet one is not trusted for longer either.
    for hour in 1..200 {
        for &other in &others {
            calm.handle_peer(Time::from_secs(hour * 3_600), at(other, 1), Evidence::Alive { rtt: None });
        }
    }
    assert!((190.0..210.0).contains(&mean(&mut calm)), "twice as long and no longer");
}
