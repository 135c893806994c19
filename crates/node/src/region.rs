//! The region of the overlay around a key: whether it looks as chance would have it, and where else
//! a record is kept when it does not.
//!
//! Node-IDs are hashes, so honest peers stand evenly. The distance of the `k`-th nearest peer to any
//! point then follows a Gamma law of `k` steps, whatever the size of the overlay; and of two such
//! distances, to two points, the share of one in their sum follows a Beta law. So the peers nearest
//! to a key are compared with the peers nearest to ourselves, whom nobody knows to choose when
//! ground keys crowd around somebody's name. No estimate of the size enters, and no error of one.
//! This is the detection by distance statistics of Cholez et al. (2010), with an exact law.
//!
//! Where a name is crowded, copies at its nearest peers are worth nothing: all are the attacker's.
//! Then the record is kept in the region around as well (region-based storing, SR-DHT-Store, arXiv
//! 2505.01139), and sought there. A region is the part of the space in which so many honest peers
//! are expected that they are not outnumbered cheaply. It is made of the neighbouring subtrees of the
//! key: flip one bit, and the peers nearest to that key stand as far from the name as the region
//! reaches, and far from whoever crowds in its middle.

use wire::Key;

/// Chance of a false alarm by the law: one lookup in fifty thousand. Peers that do not know all their
/// neighbours take the overlay for sparser than it is, and raise more; chosen identities that hide a
/// name stand hundreds of times too near, which no threshold misses.
const FALSE_ALARM: f64 = 0.000_02;

/// A place is looked for again along more paths when it is sparser than all but this share of places.
const DOUBT: f64 = 0.25;

/// Fewer peers than these, around the key or around us, tell nothing.
const FEWEST: usize = 4;

/// Neighbouring subtrees that a crowded record is kept in as well. Two peers whose estimates of the
/// size differ by a factor of four still have one in common.
pub(crate) const REGIONS: usize = 3;

/// Copies in each of them; with those at the nearest peers, fourteen of a record in all.
pub(crate) const COPIES: usize = 3;

/// What the peers nearest to a key look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Crowd {
    /// As chance would have it, or too few to tell.
    Even,
    /// Denser than chance allows: somebody chose identities to stand there.
    Dense,
    /// Sparser than usual: the nearest may have been kept from us.
    Sparse,
}

/// Judges how the peers nearest to a key stand, by how ours do: of each, nearest first, how much of the
/// space is nearer ([`overlay::Metric::parts`]).
pub(crate) fn judge(nearest: &[f64], ours: &[f64]) -> Crowd {
    let m = ours.len();
    if nearest.len() < FEWEST || m < FEWEST {
        return Crowd::Even;
    }
    let reach = ours[m - 1];
    if reach > 0.25 {
        return Crowd::Even; // The law holds where the nearest are a small part of all.
    }
    // A few strangers are seen among the first half, many among all.
    let below = |k: usize| share_below(k, m, nearest[k - 1], reach);
    let all = nearest.len().min(m);
    if below(all / 2) < FALSE_ALARM / 2.0 || below(all) < FALSE_ALARM / 2.0 {
        return Crowd::Dense;
    }
    if below(all) > 1.0 - DOUBT { Crowd::Sparse } else { Crowd::Even }
}

/// The keys whose nearest peers make the region around `key`, the best first: one bit flipped, so
/// that beside it stand four to eight peers, eight to sixteen, and two to four, by the size that the
/// overlay seems to have.
pub(crate) fn around(key: &Key, size: u64) -> Vec<Key> {
    let levels = size.max(1).ilog2();
    let flip = |less: u32| levels.checked_sub(less).map(|bit| key.with_flipped_bit(bit.min(key.bits() - 1)));
    [3, 4, 2].into_iter().filter_map(flip).take(REGIONS).collect()
}

/// The chance that of two honest places the `k`-th distance of the first is as small as `theirs`,
/// while the `m`-th of the second is `ours`: the Beta law with whole parameters, as a sum of the
/// binomial law (Abramowitz and Stegun 26.5.24).
fn share_below(k: usize, m: usize, theirs: f64, ours: f64) -> f64 {
    let x = theirs / (theirs + ours);
    let n = k + m - 1;
    let mut choose = 1.0;
    let mut sum = 0.0;
    for j in 0..=n {
        if j >= k {
            sum += choose * x.powi(j as i32) * (1.0 - x).powi((n - j) as i32);
        }
        choose *= (n - j) as f64 / (j + 1) as f64;
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use overlay::kademlia::METRIC;
    use wire::{Contact, HashAlgorithm, NodeId};

    fn crowd(label: &str, count: usize) -> Vec<Contact> {
        let address = SocketAddr::from((Ipv4Addr::new(11, 0, 0, 1), 7080));
        let id = |n| NodeId(HashAlgorithm::Sha256.digest(format!("{label} {n}").as_bytes()));
        (0..count).map(|n| Contact { id: id(n), address }).collect()
    }

    /// How the peers nearest to a key stand, without one that is there.
    fn nearest(all: &[Contact], key: &Key, count: usize) -> Vec<f64> {
        let others: Vec<Contact> = all.iter().filter(|c| c.id.key() != key).copied().collect();
        let mut parts = METRIC.parts(key, &others);
        parts.truncate(count);
        parts
    }

    fn name(n: usize) -> Key {
        HashAlgorithm::Sha256.digest(format!("name {n}").as_bytes())
    }

    #[test]
    fn the_law_is_that_of_the_tables() {
        // The median of a symmetric Beta law, and quantiles of Fisher's F with (16, 16) degrees.
        assert!((share_below(8, 8, 1.0, 1.0) - 0.5).abs() < 1e-9);
        assert!((share_below(8, 8, 2.333, 1.0) - 0.95).abs() < 1e-3);
        assert!((share_below(8, 8, 1.0, 5.196) - 0.001).abs() < 1e-4);
    }

    #[test]
    fn of_honest_names_less_than_one_in_a_thousand_raises_an_alarm() {
        let peers = crowd("peer", 2_000);
        let (mut alarms, mut sparse) = (0, 0);
        for n in 0..4_000 {
            let own = peers[n % 100].id.0;
            match judge(&nearest(&peers, &name(n), 8), &nearest(&peers, &own, 8)) {
                Crowd::Dense => alarms += 1,
                Crowd::Sparse => sparse += 1,
                Crowd::Even => {}
            }
        }
        assert!(alarms <= 4, "{alarms} of 4000");
        assert!((600..1_400).contains(&sparse), "{sparse} of 4000");
    }

    #[test]
    fn eight_chosen_identities_are_noticed() {
        let peers = crowd("peer", 2_000);
        for n in 0..200 {
            let own = peers[n].id.0;
            // Each shares 14 bits with the name: what grinding 16,000 keys gives.
            let ground = |c: Contact| Contact { id: NodeId(name(n).with_suffix_of(14, c.id.key())), ..c };
            let mut sybils: Vec<Contact> = crowd("sybil", 8).into_iter().map(ground).collect();
            sybils.extend_from_slice(&peers);
            let verdict = judge(&nearest(&sybils, &name(n), 8), &nearest(&peers, &own, 8));
            assert_eq!(verdict, Crowd::Dense, "name {n}");
        }
    }

    #[test]
    fn peers_of_unlike_opinion_about_the_size_look_in_a_common_place() {
        let peers = crowd("peer", 2_000);
        let key = name(1);
        let of = |n: usize| {
            let own = peers[n].id.0;
            let ours = nearest(&peers, &own, 8);
            around(&key, (8.0 / ours[7]) as u64)
        };
        let stored = of(0);
        let missed = (1..500).filter(|n| !of(*n).iter().any(|key| stored.contains(key))).count();
        assert!(missed <= 5, "{missed} of 499");
    }

    proptest::proptest! {
        #[test]
        fn no_crowd_makes_the_judge_panic(count in 0usize..20, near in 0usize..20, bits in 0u32..256) {
            let key = name(0);
            let squeeze = |c: Contact| Contact { id: NodeId(key.with_suffix_of(bits, c.id.key())), ..c };
            let crowd: Vec<Contact> = crowd("x", count).into_iter().map(squeeze).collect();
            let ours = nearest(&self::crowd("y", 40), &name(2), near);
            let _ = judge(&METRIC.parts(&key, &crowd), &ours);
            let _ = around(&key, near as u64 * 1_000);
        }
    }
}
