//! What only full membership does.

use super::*;
use wire::HashAlgorithm;

fn contact(n: u32) -> Contact {
    let id = NodeId(HashAlgorithm::Sha256.digest(&n.to_be_bytes()));
    Contact { id, address: ([10, 1, (n >> 8) as u8, n as u8], 7080).into() }
}

fn knowing(count: u32) -> OneHop {
    let mut onehop = OneHop::new(contact(0).id, Seed::from_number(1));
    for n in 1..=count {
        onehop.handle_peer(Time::ZERO, contact(n), Evidence::Alive { rtt: None });
    }
    onehop.rounded = true;
    onehop
}

fn wishes(onehop: &mut OneHop) -> Vec<Upkeep> {
    std::iter::from_fn(|| onehop.poll_upkeep()).collect()
}

#[test]
fn a_key_leads_to_one_of_its_holders_at_once() {
    let onehop = knowing(500);
    for n in 0..100u32 {
        let key = HashAlgorithm::Sha256.digest(&(n + 10_000).to_be_bytes());
        let mut all: Vec<NodeId> = (0..=500).map(|n| contact(n).id).collect();
        all.sort_by_key(|id| ring::around(&key, id));
        let route = onehop.route(&key, 5);
        assert!(route.includes_self() || route.contacts()[0].id == all[0]);
    }
}

#[test]
fn each_arrival_is_told_three_times_and_no_more() {
    let mut onehop = knowing(20);
    onehop.handle_peer(Time::from_secs(9), contact(99), Evidence::Alive { rtt: None });
    let mut told = 0;
    for _ in 0..9 {
        let news = onehop.news(Time::from_secs(10)).unwrap();
        told += news.arrived.iter().filter(|c| c.id == contact(99).id).count();
    }
    assert_eq!(told, 3);
}

#[test]
fn a_rumour_of_a_death_makes_a_suspect_who_is_asked_and_not_named() {
    let mut onehop = knowing(20);
    let (victim, later) = (contact(7).id, Time::from_secs(3_000));
    onehop.handle_rumor(Time::from_secs(30), &victim);
    assert!(onehop.contains(&victim), "heard half a minute ago: the rumour is wrong");
    onehop.handle_rumor(later, &victim);
    assert!(!onehop.contains(&victim) && onehop.contacts().len() == 20, "a suspect is not forgotten");
    assert_eq!(onehop.news(later).unwrap().departed, [victim]);
    onehop.handle_peer(later, contact(7), Evidence::Alive { rtt: None });
    assert!(onehop.contains(&victim), "his own word counts more");
    assert_eq!(onehop.news(later).unwrap().departed, []);
}

#[test]
fn the_walk_goes_round_the_whole_ring() {
    let mut onehop = knowing(200);
    let mut asked = std::collections::BTreeSet::new();
    onehop.rounded = false;
    wishes(&mut onehop);
    for s in 1..=60 {
        onehop.handle_timeout(Time::from_secs(s));
        for wish in wishes(&mut onehop) {
            if let Upkeep::Exchange { with, rows: true, .. } = wish {
                asked.insert(onehop.ring.place(with.id.key()) / PAGE);
            }
        }
    }
    assert_eq!(asked.len(), 200usize.div_ceil(PAGE), "{asked:?}");
}
