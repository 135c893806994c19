//! How many peers an overlay has, by how densely they stand.
//!
//! Of `N` evenly spread peers the distance of the `k`-th nearest to any point is, in parts of the space
//! and times `N`, Gamma-distributed with `k` steps; its median is near `k - 1/3`. So the peers around any
//! place say how many there are in all, within a third for eight of them. Our neighbours say it at any
//! time, and so do the peers around other places whenever we hear of some.
//!
//! Whoever chooses identities makes one place look dense. So the median of all places counts and not
//! their mean, the youngest [`Size::WINDOW`] of them and none older than [`Size::YOUNG`]: one place that
//! is crowded, or many that were looked at while the overlay was small, do not move it far.

use std::time::Duration;

use wire::Time;

/// How densely peers stood around places we have heard of.
#[derive(Clone, Debug, Default)]
pub struct Size {
    /// Parts of the space for each peer, and the second in which each was heard; the youngest last.
    samples: Vec<(f32, u32)>,
}

impl Size {
    /// Samples that count.
    pub const WINDOW: usize = 15;

    /// And for how long.
    pub const YOUNG: Duration = Duration::from_secs(3_600);

    /// Neighbours that stand so many times as densely as the peers elsewhere did are a crowd: chance does
    /// not do that, nor does an overlay often grow so fast.
    const CROWDED: f64 = 100.0;

    /// How much of the space is nearer to some key than each of the peers nearest to it, the nearest
    /// first ([`Metric::parts`](crate::Metric::parts)); the key not being one of theirs or ours.
    pub fn sample(&mut self, now: Time, nearest: &[f64]) {
        if let Some(farthest) = nearest.last() {
            self.sample_one(now, nearest.len(), *farthest);
        }
    }

    /// The same, where only of the `rank`-th nearest is known how much is nearer.
    pub fn sample_one(&mut self, now: Time, rank: usize, part: f64) {
        if self.samples.len() >= Self::WINDOW {
            self.samples.remove(0);
        }
        self.samples.reserve_exact(1);
        self.samples.push((part_per_peer(rank, part) as f32, second(now)));
    }

    /// The number of peers, ourselves included, if our neighbours stand so and we know `known` peers in
    /// all.
    pub fn estimate(&self, now: Time, neighbors: &[f64], known: usize) -> u64 {
        self.counted(neighbors, known, |own| median(self.young(now).chain([own]).collect()))
    }

    /// The same for whoever judges whether a place is crowded, and must not take an even one for it:
    /// where the overlay grows our neighbours know first, and the greater number is taken. Neighbours that
    /// are a crowd themselves are left out.
    pub fn at_most(&self, now: Time, neighbors: &[f64], known: usize) -> u64 {
        self.counted(neighbors, known, |own| {
            let elsewhere = median(self.young(now).collect()).unwrap_or(own);
            let is_crowded = own * Self::CROWDED < elsewhere;
            Some(if is_crowded { elsewhere } else { elsewhere.min(own) })
        })
    }

    fn counted(&self, neighbors: &[f64], known: usize, part: impl Fn(f64) -> Option<f64>) -> u64 {
        // Who knows fewer peers than neighbours fit in its list knows all.
        let own = neighbors.last().filter(|_| known > neighbors.len());
        let own = own.map(|farthest| part_per_peer(neighbors.len(), *farthest));
        let Some(part) = own.and_then(part) else { return known as u64 + 1 };
        (1.0 / part.max(f64::MIN_POSITIVE)).round().max(known as f64 + 1.0) as u64
    }

    fn young(&self, now: Time) -> impl Iterator<Item = f64> {
        let since = second(now.saturating_sub(Self::YOUNG));
        self.samples.iter().filter(move |(_, at)| *at >= since).map(|(part, _)| f64::from(*part))
    }
}

/// The part of the space that falls to each peer, if it is the median that is seen.
fn part_per_peer(rank: usize, part: f64) -> f64 {
    part / (rank.max(1) as f64 - 1.0 / 3.0)
}

fn second(time: Time) -> u32 {
    u32::try_from(time.as_millis() / 1_000).unwrap_or(u32::MAX)
}

/// The middle one; of an even number the mean of the middle two.
fn median(mut all: Vec<f64>) -> Option<f64> {
    all.sort_by(f64::total_cmp);
    let upper = *all.get(all.len() / 2)?;
    let lower = if all.len().is_multiple_of(2) { all[all.len() / 2 - 1] } else { upper };
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kademlia;
    use wire::{Contact, HashAlgorithm, Key, NodeId};

    fn key(n: u32) -> Key {
        HashAlgorithm::Sha256.digest(&n.to_be_bytes())
    }

    /// The eight nearest of so many peers, in parts of the space.
    fn nearest(peers: u32, to: &Key) -> Vec<f64> {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let mut all: Vec<Contact> = (0..peers).map(|n| Contact { id: NodeId(key(n)), address }).collect();
        all.retain(|c| c.id.key() != to);
        all.sort_by_key(|c| to.xor(c.id.key()));
        all.truncate(8);
        kademlia::METRIC.parts(to, &all)
    }

    /// Samples of an overlay of a thousand, around places none of its peers stands at.
    fn thousand(samples: u32) -> Size {
        let mut size = Size::default();
        (5_000..5_000 + samples).for_each(|n| size.sample(Time::ZERO, &nearest(1_000, &key(n))));
        size
    }

    #[test]
    fn a_thousand_peers_are_counted_within_a_fifth() {
        let size = thousand(16);
        for own in 0..20 {
            let estimate = size.estimate(Time::ZERO, &nearest(1_000, &key(own)), 60);
            assert!((800..1_200).contains(&estimate), "{estimate}");
        }
    }

    #[test]
    fn a_crowd_around_some_places_does_not_move_the_count_far() {
        let mut size = thousand(11);
        let crowd: Vec<f64> = (1..=8).map(|n| f64::from(n) * 1e-7).collect();
        (0..4).for_each(|_| size.sample(Time::ZERO, &crowd));
        let estimate = size.estimate(Time::ZERO, &nearest(1_000, &key(1)), 60);
        assert!((700..1_500).contains(&estimate), "{estimate}");
    }

    #[test]
    fn whoever_has_a_crowd_for_neighbours_counts_by_the_peers_elsewhere() {
        let crowd: Vec<f64> = (1..=8).map(|n| f64::from(n) * 1e-7).collect();
        let most = thousand(3).at_most(Time::ZERO, &crowd, 60);
        assert!((500..2_000).contains(&most), "{most}");
    }

    #[test]
    fn while_the_overlay_grows_the_neighbours_know_first() {
        let own = nearest(4_000, &key(1));
        let size = thousand(3);
        assert!(size.estimate(Time::ZERO, &own, 60) < 2_000);
        let alone = Size::default().estimate(Time::ZERO, &own, 60);
        assert_eq!(size.at_most(Time::ZERO, &own, 60), alone);
        assert!((2_000..8_000).contains(&alone), "{alone}");
    }

    #[test]
    fn old_samples_do_not_count() {
        let own = nearest(4_000, &key(1));
        let late = Time::ZERO + Size::YOUNG + Duration::from_secs(1);
        let alone = Size::default().estimate(late, &own, 60);
        assert_eq!(thousand(15).estimate(late, &own, 60), alone);
    }

    #[test]
    fn who_knows_few_peers_counts_them() {
        assert_eq!(Size::default().estimate(Time::ZERO, &[0.1, 0.4], 2), 3);
        assert_eq!(Size::default().estimate(Time::ZERO, &[], 0), 1);
    }
}
