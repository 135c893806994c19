//! Links that peers behind boxes keep warm, as a phone does for those who may call it.
//!
//! Every minute a peer behind a box that keeps fewer links than the scenario wants draws more among the peers
//! without one. Whose other end has gone falls silent, and the peer itself lets it cool. What such a peer
//! sends, whatever for, is counted in windows of ten minutes from its first full set of links on.

use std::collections::BTreeMap;
use std::time::Duration;

use wire::{Contact, Rng, RngExt, Time};

use crate::chance::{Use, stream};
use crate::net::PEER_PORT;
use crate::queue::Happening;
use crate::report::{Warm, percentile};
use crate::scenario::Scenario;
use crate::world::World;

/// How often links are looked after.
const EVERY: Duration = Duration::from_secs(60);
/// Bytes are counted for so long at a time (the budget of a peer is a mean over ten minutes).
const WINDOW: Duration = Duration::from_secs(600);
/// Draws for another end of a link; then the peer waits for the next minute.
const DRAWS: usize = 64;

/// The memory of who counts.
pub(crate) struct Warmth {
    rng: Rng,
    /// By peer, when its window began and what it had sent by then.
    windows: BTreeMap<usize, (Time, u64)>,
    /// Bytes per second of every window.
    rates: Vec<f64>,
    /// Links found warm, and how often peers were asked for them.
    links: (u64, u64),
}

impl Warmth {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let rng = stream(scenario.seed, Use::Warmth);
        Warmth { rng, windows: BTreeMap::new(), rates: Vec::new(), links: (0, 0) }
    }

    /// What came of it; nothing if no link was wanted.
    pub(crate) fn report(&mut self) -> Option<Warm> {
        self.rates.sort_by(f64::total_cmp);
        (self.links.1 > 0).then(|| Warm {
            links_mean: self.links.0 as f64 / self.links.1 as f64,
            windows: self.rates.len(),
            bytes_per_s_mean: self.rates.iter().sum::<f64>() / self.rates.len().max(1) as f64,
            bytes_per_s_p99: percentile(&self.rates, 0.99),
        })
    }
}

impl World<'_> {
    /// A minute has passed: sees to the links of every peer behind a box, and to its windows.
    pub(crate) fn keep_warm(&mut self) {
        self.queue.push(self.now + EVERY, Happening::Warm);
        let hidden: Vec<usize> = self.live.iter().copied().filter(|p| self.net.is_behind_nat(*p)).collect();
        for peer in hidden {
            let Some(node) = self.peers[peer].node.as_ref().filter(|n| n.is_online()) else { continue };
            let (wanted, kept) = (self.scenario.workload.warm_links, node.links_kept_warm());
            if self.count_window(peer) {
                self.warmth.links.0 += kept as u64;
                self.warmth.links.1 += 1;
            }
            (kept..wanted).for_each(|_| self.add_link(peer));
            self.touch(peer);
        }
    }

    /// Closes the window of a peer that is over, and opens the next; `false` if it is the first.
    fn count_window(&mut self, peer: usize) -> bool {
        let sent = self.peers[peer].books.sent;
        let came_again = self.warmth.windows.get(&peer).is_some_and(|(at, _)| *at < self.peers[peer].started);
        let window = self.warmth.windows.get(&peer).copied().filter(|_| !came_again);
        let Some((since, before)) = window else {
            if self.watch.is_measuring(self.now) {
                self.warmth.windows.insert(peer, (self.now, sent));
            }
            return false;
        };
        if self.now.since(since) >= WINDOW {
            let rate = (sent - before) as f64 / self.now.since(since).as_secs_f64();
            self.warmth.rates.push(rate);
            self.warmth.windows.insert(peer, (self.now, sent));
        }
        true
    }

    fn add_link(&mut self, peer: usize) {
        for _ in 0..DRAWS {
            let other = self.live[self.warmth.rng.random_range(0..self.live.len())];
            let is_open = !self.net.is_behind_nat(other) && other != peer;
            if !is_open || !self.peers[other].node.as_ref().is_some_and(|n| n.is_online()) {
                continue;
            }
            let address = (self.net.host(other), PEER_PORT).into();
            let (now, contact) = (self.clock(peer), Contact { id: self.peers[other].id, address });
            if let Some(node) = &mut self.peers[peer].node {
                node.keep_warm(now, contact);
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn links_are_kept_warm_behind_boxes_and_their_cost_is_judged() {
        let text = "nodes = 12\njoins_per_s = 4\nduration_s = 1500\nsignatures = 'stand-in'\n\
            [nat]\nport_restricted = 0.5\n[workload]\nwarm_links = 3\n[bars]\nwarm_bytes_per_s = 1";
        let report = crate::run(&text.parse().unwrap(), &mut ());
        let warm = report.warm.expect("links were wanted");
        assert!(warm.windows >= 2 && (2.5..=3.0).contains(&warm.links_mean), "{warm:?}");
        // A question of 32 bytes, its sender's name and headers, 92 in all, every 25 s for each link.
        assert!(warm.bytes_per_s_mean >= 3.0 * 92.0 / 25.0 * 0.9, "{warm:?}");
        assert!(report.violations[0].contains("keeps links warm (mean), above 1"), "{:?}", report.violations);
    }
}
