//! Who enters a bucket, who waits, who goes, and that the nearest are always known.

use super::*;
use proptest::prelude::*;
use wire::HashAlgorithm;

const SHAPE: Shape = Shape {
    base_bits: 1,
    bucket: 4,
    spares: 2,
    near: 6,
    prefix_in_bucket: 2,
    prefix_in_table: 5,
    wide_in_table: 3,
};

fn key(first: u8, n: u32) -> Key {
    let mut bytes =
        *<&[u8; 32]>::try_from(HashAlgorithm::Sha256.digest(&n.to_be_bytes()).as_bytes()).unwrap();
    bytes[0] = first;
    Key::from_slice(&bytes).unwrap()
}

fn at(first: u8, n: u32, address: &str) -> Contact {
    Contact { id: NodeId(key(first, n)), address: address.parse().unwrap() }
}

fn peer(first: u8, n: u32) -> Contact {
    at(first, n, "127.0.0.1:7080")
}

fn table() -> Table {
    Table::new(NodeId(key(0, 0)), SHAPE)
}

fn hear(table: &mut Table, secs: u64, contact: Contact) -> Admission {
    table.hear(Time::from_secs(secs), contact, None, || Time::from_secs(secs + 600))
}

/// Fills the neighbourhood so that nobody far counts as near.
fn crowd(table: &mut Table) {
    for n in 0..8 {
        hear(table, 0, peer(1 << (n / 3), 1_000 + n));
    }
}

#[test]
fn a_full_bucket_keeps_its_oldest_and_lets_the_rest_wait() {
    let mut table = table();
    crowd(&mut table);
    for n in 0..4 {
        assert_eq!(hear(&mut table, 1, peer(0x80, n)), Admission::Added);
    }
    for n in 4..9 {
        assert_eq!(hear(&mut table, 2, peer(0x80, n)), Admission::Waits);
    }
    assert!((0..4).all(|n| table.get(&peer(0x80, n).id).is_some()));
    let waiting = table.entries().into_iter().filter(|e| e.standing == Standing::Spare).count();
    assert_eq!(waiting, SHAPE.spares);
    assert_eq!(table.spare_for(&peer(0x80, 0).id), Some(peer(0x80, 8)));
}

#[test]
fn near_peers_stay_even_in_a_full_bucket() {
    let mut table = table();
    for n in 0..6 {
        assert_eq!(hear(&mut table, 1, peer(0x80, n)), Admission::Added);
    }
    // Two nearer ones take the place of the two that stayed only for being near.
    for n in 0..2 {
        assert_eq!(hear(&mut table, 2, peer(0x01, 100 + n)), Admission::Added);
    }
    let far = table.entries().iter().filter(|e| e.row == 0 && e.standing == Standing::Good).count();
    assert_eq!(far, 4);
    assert_eq!(table.len(), 6);
}

#[test]
fn one_failure_makes_a_suspect_and_two_remove_it() {
    let mut table = table();
    hear(&mut table, 1, peer(0x80, 1));
    let id = peer(0x80, 1).id;
    let fail = |t: &mut Table, keep| t.fail(Time::from_secs(9), &id, Time::from_secs(8), keep);
    assert_eq!(fail(&mut table, false), Failure::Suspected);
    assert_eq!(table.len(), 0);
    assert_eq!(table.nearest(id.key(), 3), vec![peer(0x80, 1)], "the last resort");
    assert_eq!(hear(&mut table, 10, peer(0x80, 1)), Admission::Known);
    assert_eq!(table.len(), 1);
    assert_eq!(fail(&mut table, true), Failure::Suspected);
    assert_eq!(fail(&mut table, true), Failure::Suspected);
    assert_eq!(fail(&mut table, false), Failure::Removed);
    assert_eq!(fail(&mut table, false), Failure::Unknown);
}

#[test]
fn who_is_among_the_nearest_is_seen_without_naming_them() {
    let mut table = table();
    let known: Vec<Contact> = (0..40).map(|n| peer(1 << (n % 8), n)).collect();
    known.iter().for_each(|contact| {
        hear(&mut table, 1, *contact);
    });
    for n in 0..200 {
        let key = key(n as u8, n);
        let nearest = table.nearest(&key, 5);
        for contact in known.iter().filter(|c| table.get(&c.id).is_some()) {
            assert_eq!(table.is_among_nearest(&key, 5, &contact.id), nearest.contains(contact));
        }
    }
}

#[test]
fn a_fresh_spare_takes_the_place_of_a_failed_peer_at_once() {
    let mut table = table();
    crowd(&mut table);
    for n in 0..5 {
        hear(&mut table, 1, peer(0x80, n));
    }
    let gone = peer(0x80, 2).id;
    let failure = table.fail(Time::from_secs(2), &gone, Time::ZERO, false);
    assert_eq!(failure, Failure::Removed);
    assert!(table.get(&gone).is_none());
    assert!(table.get(&peer(0x80, 4).id).is_some());
}

#[test]
fn a_suspect_makes_room_for_a_newcomer() {
    let mut table = table();
    crowd(&mut table);
    for n in 0..4 {
        hear(&mut table, 1, peer(0x80, n));
    }
    let suspect = peer(0x80, 2).id;
    assert!(!table.has_place_for(&peer(0x80, 7), 4, 0));
    table.fail(Time::from_secs(2), &suspect, Time::from_secs(2), false);
    assert!(table.has_place_for(&peer(0x80, 7), 4, 0));
    assert_eq!(hear(&mut table, 3, peer(0x80, 7)), Admission::Added);
    assert!(table.get(&suspect).is_none());
}

#[test]
fn one_network_cannot_fill_a_bucket_or_the_table() {
    let mut table = table();
    let from = |first, n: u32| at(first, n, &format!("203.0.113.{n}:7080"));
    assert_eq!(hear(&mut table, 1, from(0x80, 1)), Admission::Added);
    assert_eq!(hear(&mut table, 1, from(0x80, 2)), Admission::Added);
    assert_eq!(hear(&mut table, 1, from(0x80, 3)), Admission::Refused);
    assert!(!table.has_place_for(&from(0x80, 3), 4, 0));
    assert_eq!(hear(&mut table, 1, at(0x80, 4, "198.51.100.1:1")), Admission::Added);
    for (n, first) in [0x40, 0x40, 0x20].into_iter().enumerate() {
        assert_eq!(hear(&mut table, 1, from(first, 10 + n as u32)), Admission::Added);
    }
    assert_eq!(hear(&mut table, 1, from(0x10, 20)), Admission::Refused);
}

#[test]
fn a_laboratory_knows_no_limit_and_a_mesh_only_one_by_host() {
    for exempt in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(Networks::of(exempt.parse().unwrap()), None, "{exempt}");
    }
    let of = |s: &str| Networks::of(s.parse().unwrap()).unwrap();
    for (one, other) in [
        ("10.1.2.3", "10.1.2.4"),
        ("192.168.0.1", "192.168.0.2"),
        ("172.16.0.1", "172.16.0.2"),
        ("169.254.1.1", "169.254.1.2"),
        ("100.64.0.9", "100.64.0.8"),
        ("44.1.2.3", "44.1.2.4"),
        ("fe80::1", "fe80::2"),
        ("fd00::1", "fd00::2"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2"),
    ] {
        assert_ne!(of(one).small, of(other).small, "{one}");
        assert_eq!(of(one).large, None, "{one}");
    }
    assert_eq!(of("203.0.113.1"), of("203.0.113.254"));
    assert_ne!(of("203.0.113.1").small, of("203.0.114.1").small);
    assert_eq!(of("203.0.113.1").large, of("203.0.114.1").large);
    assert_ne!(of("44.200.0.1").large, None, "sold, no longer the amateurs'");
    assert_eq!(of("203.0.113.1"), of("::ffff:203.0.113.9"));
    assert_eq!(of("2001:db8:7:1200::1"), of("2001:db8:7:ff::1"));
    assert_ne!(of("2001:db8:7::1").small, of("2001:db8:8::1").small);
    assert_eq!(of("2001:db8:7::1").large, of("2001:db8:8::1").large);
}

#[test]
fn a_town_with_one_provider_finds_each_other_and_makes_room_when_others_come() {
    let mut table = table();
    let town = |n: u8| at(0x80 >> (n % 6), u32::from(n), &format!("203.0.{n}.1:1"));
    for n in 0..10 {
        assert_eq!(hear(&mut table, 1, town(n)), Admission::Added, "{n}");
    }
    let from_town = |table: &Table| {
        let is_there = |p: &&Peer| p.contact.address.ip().to_string().starts_with("203.0.");
        table.peers().filter(is_there).count()
    };
    for n in 0..20u8 {
        hear(&mut table, 2, at(0x80 >> (n % 6), 100 + u32::from(n), &format!("11.{n}.0.1:1")));
    }
    assert_eq!(from_town(&table), 3);
    assert_eq!(hear(&mut table, 3, town(11)), Admission::Refused);
}

#[test]
fn a_peer_that_moves_is_followed_unless_its_new_network_is_full() {
    let mut table = table();
    hear(&mut table, 1, peer(0x80, 1));
    let moved = at(0x80, 1, "127.0.0.9:9");
    assert_eq!(hear(&mut table, 2, moved), Admission::Known);
    assert_eq!(table.get(&moved.id).unwrap().contact(), moved);
    hear(&mut table, 3, at(0x80, 2, "203.0.113.1:1"));
    hear(&mut table, 3, at(0x80, 3, "203.0.113.2:1"));
    assert_eq!(hear(&mut table, 4, at(0x80, 1, "203.0.113.3:1")), Admission::Refused);
    assert!(table.get(&moved.id).is_none());
}

#[test]
fn round_trips_are_smoothed() {
    let mut table = table();
    let contact = peer(0x80, 1);
    for ms in [80, 160] {
        let rtt = Some(Duration::from_millis(ms));
        table.hear(Time::ZERO, contact, rtt, || Time::ZERO);
    }
    assert_eq!(table.get(&contact.id).unwrap().rtt(), Some(Duration::from_millis(90)));
}

#[test]
fn wider_digits_have_more_columns() {
    let mut table = Table::new(NodeId(key(0, 0)), Shape { base_bits: 4, ..SHAPE });
    hear(&mut table, 0, peer(0xa0, 1));
    hear(&mut table, 0, peer(0x0b, 2));
    let places: Vec<_> = table.entries().iter().map(|e| (e.row, e.column)).collect();
    assert_eq!(places, [(0, 0xa), (1, 0xb)]);
    assert_eq!(table.row_and_column(table.index_of(&key(0x0b, 3))), (1, 0xb));
}

proptest! {
    #[test]
    fn no_bucket_outgrows_its_bound_and_the_nearest_are_nearest(
        base_bits in 1u8..=4,
        acts in prop::collection::vec((any::<u8>(), 0u32..40, 0u8..4), 1..300),
    ) {
        let mut table = Table::new(NodeId(key(0, 0)), Shape { base_bits, ..SHAPE });
        for (i, (first, n, act)) in acts.into_iter().enumerate() {
            let now = Time::from_secs(i as u64);
            let contact = peer(first & 0b1010_0111, n);
            if act == 0 {
                table.fail(now, &contact.id, now.saturating_sub(Duration::from_secs(9)), false);
            } else {
                hear(&mut table, i as u64, contact);
            }
            for bucket in &table.buckets {
                let surplus = bucket.peers.len().saturating_sub(SHAPE.bucket);
                prop_assert!(surplus <= SHAPE.near && bucket.spares.len() <= SHAPE.spares);
                prop_assert!(bucket.peers.iter().all(|p| table.index_of(p.id().key()) == bucket.index));
            }
        }
        for probe in [peer(0x80, 1), peer(0x03, 2), peer(0x01, 3)] {
            let limit = key(0, 0).xor(probe.id.key());
            let good = table.peers().filter(|p| p.failures == 0);
            let nearer = good.filter(|p| key(0, 0).xor(p.id().key()) < limit).count();
            prop_assert_eq!(table.nearer_than(&probe.id), nearer);
        }
        let target = key(0x55, 7);
        let mut all: Vec<_> = table.peers().filter(|p| p.failures == 0).map(|p| p.contact()).collect();
        all.sort_by_key(|c| target.xor(c.id.key()));
        all.truncate(5);
        if !all.is_empty() {
            prop_assert_eq!(table.nearest(&target, 5), all);
        }
    }
}

#[test]
fn an_entry_stays_compact() {
    // A simulator holds some hundred entries for each of a hundred thousand peers.
    assert!(size_of::<Peer>() <= 32, "{}", size_of::<Peer>());
    assert!(size_of::<Bucket>() <= 64, "{}", size_of::<Bucket>());
}
