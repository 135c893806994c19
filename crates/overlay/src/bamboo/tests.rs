//! What only a leaf set and a prefix table do.

use super::*;
use proptest::prelude::*;
use wire::HashAlgorithm;

/// A peer whose identifier begins with these two bytes.
fn at(place: u16) -> Contact {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&place.to_be_bytes());
    let id = NodeId(Key::from_slice(&bytes).unwrap());
    Contact { id, address: ([192, 168, (place >> 8) as u8, place as u8], 7080).into() }
}

fn bamboo(place: u16, base_bits: u8, others: &[u16]) -> Bamboo {
    let mut bamboo = Bamboo::new(at(place).id, base_bits, Seed::from_number(1));
    for &other in others {
        bamboo.handle_peer(Time::ZERO, at(other), Evidence::Alive { rtt: None });
    }
    bamboo
}

fn places(contacts: &[Contact]) -> Vec<u16> {
    let place = |c: &Contact| u16::from_be_bytes(c.id.key().as_bytes()[..2].try_into().unwrap());
    contacts.iter().map(place).collect()
}

#[test]
fn the_peers_on_either_side_of_a_key_hold_it_even_across_zero() {
    let bamboo = bamboo(100, 4, &[65_500, 65_000, 1_000, 2_000, 30_000]);
    let Route::Replicas { contacts, includes_self } = bamboo.route(at(10).id.key(), 3) else { panic!() };
    assert_eq!((places(&contacts), includes_self), (vec![65_500, 65_000], true));
}

#[test]
fn of_those_that_share_as_many_digits_the_quickest_is_next() {
    let leaves: Vec<u16> = (1..=12).chain(65_524..=65_535).collect();
    let mut bamboo = bamboo(0, 4, &leaves);
    for (place, ms) in [(0x7100, 90), (0x7200, 20), (0x7300, 60)] {
        let rtt = Some(Duration::from_millis(ms));
        bamboo.handle_peer(Time::ZERO, at(place), Evidence::Alive { rtt });
    }
    let Route::Toward(contacts) = bamboo.route(at(0x7800).id.key(), 2) else { panic!("far") };
    assert_eq!(places(&contacts), [0x7200, 0x7300]);
}

proptest! {
    #[test]
    fn every_hop_is_strictly_nearer_so_that_routing_ends(seed: u64, count in 1usize..8, bits in 1u8..=4) {
        let hash = |n: u64| HashAlgorithm::Sha256.digest(&(seed ^ n << 32).to_be_bytes());
        let contact = |n: u64| Contact { id: NodeId(hash(n)), address: ([10, 0, 0, n as u8], 7080).into() };
        let mut bamboo = Bamboo::new(contact(0).id, bits, Seed::from_number(seed));
        for n in 1..120 {
            let rtt = Some(Duration::from_millis(n * 7 % 50 + 1));
            bamboo.handle_peer(Time::ZERO, contact(n), Evidence::Alive { rtt });
        }
        let key = hash(1_000);
        let own = ring::around(&key, &contact(0).id);
        if let Route::Toward(contacts) = bamboo.route(&key, count) {
            prop_assert!(!contacts.is_empty() && contacts.len() <= count);
            prop_assert!(contacts.iter().all(|c| ring::around(&key, &c.id) < own));
        }
    }
}
