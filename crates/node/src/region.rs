//! The region of the overlay around a key: whether it looks as chance would have it, and where else
//! a record is kept when it does not.
//!
//! Node-IDs are hashes, so honest peers stand evenly. The distance of the `k`-th nearest of `N` peers to
//! any point, in parts of the space and times `N`, then follows a Gamma law of `k` steps. Keys that were
//! ground until they fell beside somebody's name stand nearer than that law allows. This is the
//! detection by distance statistics of Cholez et al. (2010), with the exact law. `N` is what we think
//! by our own neighbours and other places ([`overlay::Size`]), of which no single one counts for much.
//!
//! The law is applied around each of those nearest peers too. Sybils around another name that answer for a
//! key beside it with each other stand no closer to that key than honest peers might, but in a heap.
//!
//! Who looks for a record is mostly led to it without seeing the peers around it. So whoever answers with
//! one tells how close they stand (Density), and the asker judges for itself.
//!
//! Where a name is crowded, copies at its nearest peers are worth nothing: all are the attacker's.
//! Then the record is kept in the region around as well (region-based storing, SR-DHT-Store, arXiv
//! 2505.01139), and sought there. A region is the part of the space in which so many honest peers
//! are expected that they are not outnumbered cheaply. It is made of the neighbouring subtrees of the
//! key: flip one bit, and the peers nearest to that key stand as far from the name as the region
//! reaches, and far from whoever crowds in its middle.

use overlay::Metric;
use wire::p2pp::Density;
use wire::p2pp::density::RANKS;
use wire::{Contact, Key};

use crate::search::WIDTH;

/// Chance by the law that an even place is taken for a crowded one. The size of the overlay is known
/// within a third where only our neighbours speak for it, which makes that one lookup in a million; in an
/// overlay that has doubled unnoticed, one in ten thousand. Sixteen identities chosen as near to a name as
/// the nearest honest peer stand a thousand times less likely.
const FALSE_ALARM: f64 = 1e-7;

/// A place is looked for again along more paths when it is sparser than all but this share of places.
const DOUBT: f64 = 0.25;

/// Fewer peers than these around a key tell nothing.
const FEWEST: usize = 4;

/// The law holds where eight peers are a small part of all: a quarter at most.
const SMALLEST: u64 = 32;

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
    /// They stand in a heap around this place beside it: somebody chose identities to stand there, and names
    /// nobody else here.
    Beside(Key),
    /// Sparser than usual: the nearest may have been kept from us.
    Sparse,
}

/// Judges how the peers nearest to a key stand in an overlay of so many, and tells how close to it.
pub(crate) fn judge(metric: &Metric, key: &Key, nearest: &[Contact], size: u64) -> (Crowd, Density) {
    let parts = metric.parts(key, nearest);
    let density = Density::of(&parts);
    if is_dense(density, size) {
        return (Crowd::Dense, density);
    }
    let heap = nearest.iter().find(|peer| is_in_a_heap(metric, peer, nearest, size));
    (heap.map_or_else(|| judge_even(&parts, size), |peer| Crowd::Beside(peer.id.0)), density)
}

/// Whether the others crowd around one of the peers near a key, wherever that stands.
fn is_in_a_heap(metric: &Metric, peer: &Contact, nearest: &[Contact], size: u64) -> bool {
    let others: Vec<Contact> = nearest.iter().copied().filter(|c| c.id != peer.id).collect();
    is_dense(Density::of(&metric.parts(peer.id.key(), &others)), size)
}

/// Judges peers that do not crowd: of each, nearest first, how much of the space is nearer
/// ([`Metric::parts`]).
fn judge_even(nearest: &[f64], size: u64) -> Crowd {
    let heard = nearest.len().min(WIDTH);
    if heard < FEWEST || size < SMALLEST {
        return Crowd::Even;
    }
    match share_below(heard, size as f64 * nearest[heard - 1]) > 1.0 - DOUBT {
        true => Crowd::Sparse,
        false => Crowd::Even,
    }
}

/// Whether the peers of which this was told stand closer to their place than chance allows.
pub(crate) fn is_dense(density: Density, size: u64) -> bool {
    let closer = |(rank, part): (usize, Option<f64>)| {
        part.is_some_and(|part| share_below(rank, size as f64 * part) < FALSE_ALARM / 2.0)
    };
    size >= SMALLEST && RANKS.into_iter().zip(density.parts()).any(closer)
}

/// The keys whose nearest peers make the region around `key`, the best first: one bit flipped, so
/// that beside it stand four to eight peers, eight to sixteen, and two to four, by the size that the
/// overlay seems to have.
pub(crate) fn around(key: &Key, size: u64) -> Vec<Key> {
    let levels = size.max(1).ilog2();
    let flip = |less: u32| levels.checked_sub(less).map(|bit| key.with_flipped_bit(bit.min(key.bits() - 1)));
    [3, 4, 2].into_iter().filter_map(flip).take(REGIONS).collect()
}

/// The chance that the `k`-th nearest of even peers is no farther than where `expected` of them stand in the
/// mean: the Gamma law with a whole parameter, which is that of Poisson from the other side.
fn share_below(k: usize, expected: f64) -> f64 {
    // The sum over k and more peers converges fast where few are expected; where more are, it is the rest
    // of the sum over fewer.
    let mut term = (1..=k).fold((-expected).exp(), |term, n| term * expected / n as f64);
    if expected < k as f64 {
        let mut sum = 0.0;
        for n in k + 1.. {
            sum += term;
            term *= expected / n as f64;
            if term <= sum * f64::EPSILON {
                break;
            }
        }
        return sum;
    }
    let mut fewer = 0.0;
    for n in (1..=k).rev() {
        term *= n as f64 / expected;
        fewer += term;
    }
    1.0 - fewer
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

    /// The peers nearest to a key that are not there, the nearest first.
    fn around_key(all: &[Contact], key: &Key, count: usize) -> Vec<Contact> {
        let mut others: Vec<Contact> = all.iter().filter(|c| c.id.key() != key).copied().collect();
        others.sort_by_cached_key(|c| (METRIC.rank)(key, &c.id));
        others.truncate(count);
        others
    }

    /// How the peers nearest to a key stand, without one that is there.
    fn nearest(all: &[Contact], key: &Key, count: usize) -> Vec<f64> {
        METRIC.parts(key, &around_key(all, key, count))
    }

    fn name(n: usize) -> Key {
        HashAlgorithm::Sha256.digest(format!("name {n}").as_bytes())
    }

    #[test]
    fn the_law_is_that_of_the_tables() {
        // Quantiles of chi-squared with 16 degrees of freedom, halved, and with 8.
        for (k, expected, share) in [
            (8, 7.669, 0.5),
            (8, 13.148, 0.95),
            (8, 1.971, 0.001),
            (4, 3.672, 0.5),
            (4, 0.4286, 0.001),
            (4, 9.244, 0.9821),
        ] {
            assert!((share_below(k, expected) - share).abs() < share * 3e-3, "{k} {expected}");
        }
        // Far in the tail the first term is nearly all.
        let tail = share_below(8, 0.024);
        assert!((tail / (0.024f64.powi(8) / 40_320.0) - 0.98).abs() < 0.01, "{tail}");
        assert_eq!((share_below(8, 0.0), share_below(8, 1e9)), (0.0, 1.0));
    }

    /// How many peers somebody with this identity thinks there are, who sees neighbours only.
    fn size_by(peers: &[Contact], own: &Key) -> u64 {
        overlay::Size::default().at_most(wire::Time::ZERO, &nearest(peers, own, 8), 60)
    }

    #[test]
    fn of_honest_names_less_than_one_in_a_thousand_raises_an_alarm() {
        let peers = crowd("peer", 2_000);
        let (mut alarms, mut heaps, mut sparse) = (0, 0, 0);
        for n in 0..4_000 {
            let size = size_by(&peers, &peers[n % 100].id.0);
            match judge(&METRIC, &name(n), &around_key(&peers, &name(n), 8), size).0 {
                Crowd::Dense => alarms += 1,
                Crowd::Beside(_) => heaps += 1,
                Crowd::Sparse => sparse += 1,
                Crowd::Even => {}
            }
        }
        assert_eq!((alarms, heaps), (0, 0));
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
            let size = size_by(&peers, &own);
            let (verdict, _) = judge(&METRIC, &name(n), &around_key(&sybils, &name(n), 8), size);
            assert_eq!(verdict, Crowd::Dense, "name {n}");
        }
    }

    #[test]
    fn a_heap_of_chosen_identities_beside_a_name_is_noticed() {
        let peers = crowd("peer", 2_000);
        for n in 0..200 {
            let victim = name(n);
            let beside = victim.with_flipped_bit(8);
            let ground = |c: Contact| Contact { id: NodeId(victim.with_suffix_of(14, c.id.key())), ..c };
            let sybils: Vec<Contact> = crowd("sybil", 200).into_iter().map(ground).collect();
            // They name nobody but themselves, and stand no closer than honest peers of a small overlay.
            let named = around_key(&sybils, &beside, 8);
            let size = size_by(&peers, &peers[n].id.0);
            let (verdict, _) = judge(&METRIC, &beside, &named, size);
            let Crowd::Beside(heap) = verdict else { panic!("name {n}: {verdict:?}") };
            assert!(heap.common_prefix(&victim) >= 14, "name {n}");
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
            let _ = judge(&METRIC, &key, &crowd, near as u64 * 1_000);
            let _ = around(&key, near as u64 * 1_000);
        }
    }
}
