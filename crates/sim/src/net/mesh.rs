//! A radio mesh in the size and shape of AREDN's published network map: 271 nodes and 465 links, most
//! nodes with three neighbours and one hub with 28.
//!
//! Nodes stand on a plane and mostly link to near ones; every link has a latency, a bandwidth and a
//! loss of its own. A datagram takes the way of least latency and waits at each link for those before
//! it. It is decided when the datagram is sent, link by link: two that cross may wait in another order
//! than at real routers, but no link carries more than it can.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use wire::{Rng, RngExt, Seed, Time};

use super::paths::distance;
use crate::chance::{exponential, mix};

/// Nodes of the mesh.
const NODES: usize = 271;
/// Links between them.
const LINKS: usize = 465;
/// Most neighbours of a node.
const HUB: usize = 28;
/// Neighbours that no other node has more of.
const CROWDED: usize = 14;
/// Links that a node wants when it comes: more for a third of them gives the median of three.
const SEED: u64 = 271_465;
/// What may wait in front of a link; beyond, datagrams are dropped.
const QUEUE: Duration = Duration::from_millis(500);
/// Between two peers at one node.
const SAME_NODE: Duration = Duration::from_micros(500);

/// A link, both ways alike.
struct Link {
    latency: Duration,
    bits_per_s: f64,
    loss: f64,
    /// Until when each direction is busy, from the lower to the higher node first.
    busy: [Time; 2],
}

/// The mesh.
pub(crate) struct Mesh {
    key: u64,
    links: Vec<Link>,
    /// For each pair of nodes, the next node and the link to it.
    next: Vec<(u16, u16)>,
}

impl Mesh {
    /// The one mesh there is; which peer stands at which node follows from `key`.
    pub(crate) fn new(key: u64) -> Self {
        let mut rng = Seed::from_number(SEED).rng();
        let ends = graph(&mut rng);
        let links: Vec<Link> = ends.iter().map(|_| link(&mut rng)).collect();
        let mut at: Vec<Vec<(usize, usize)>> = vec![Vec::new(); NODES];
        for (n, (a, b)) in ends.iter().enumerate() {
            at[*a].push((*b, n));
            at[*b].push((*a, n));
        }
        let mut next = vec![(0, 0); NODES * NODES];
        for to in 0..NODES {
            for (from, step) in ways_to(to, &at, &links).into_iter().enumerate() {
                next[from * NODES + to] = step;
            }
        }
        Mesh { key, links, next }
    }

    fn node(&self, peer: usize) -> usize {
        mix(self.key ^ peer as u64) as usize % NODES
    }

    /// Carries a datagram of so many bytes: how long it takes, or why it is lost. `chance` gives a
    /// number between 0 and 1.
    pub(crate) fn carry(
        &mut self,
        now: Time,
        from: usize,
        to: usize,
        bytes: u64,
        mut chance: impl FnMut() -> f64,
    ) -> Result<Duration, &'static str> {
        let (mut here, goal) = (self.node(from), self.node(to));
        let mut at = now + SAME_NODE;
        while here != goal {
            let (node, link) = self.next[here * NODES + goal];
            let link = &mut self.links[link as usize];
            let busy = &mut link.busy[usize::from(here > node as usize)];
            let start = at.max(*busy);
            if start.since(at) > QUEUE {
                return Err("queue full");
            }
            *busy = start + Duration::from_secs_f64(bytes as f64 * 8.0 / link.bits_per_s);
            if chance() <= link.loss {
                return Err("mesh link");
            }
            at = *busy + link.latency;
            here = node as usize;
        }
        Ok(at.since(now))
    }
}

/// A radio link: most are good, some are far.
fn link(rng: &mut Rng) -> Link {
    Link {
        latency: Duration::from_secs_f64((0.001 + exponential(rng, 0.004)).min(0.060)),
        bits_per_s: [2e6, 5e6, 10e6, 20e6, 40e6][rng.random_range(0..5)],
        loss: exponential(rng, 0.005).min(0.05),
        busy: [Time::ZERO; 2],
    }
}

/// The links of the mesh. A hub reaches its 28; whoever comes links to somebody near; then the nodes
/// with the fewest links get more.
fn graph(rng: &mut Rng) -> Vec<(usize, usize)> {
    let places: Vec<(f64, f64)> = (0..NODES).map(|_| (rng.random(), rng.random())).collect();
    let mut degree = vec![0; NODES];
    let mut links: Vec<(usize, usize)> = Vec::with_capacity(LINKS);
    let mut join = |a: usize, b: usize, degree: &mut Vec<usize>| {
        let new = a != b && !links.contains(&(a.min(b), a.max(b)));
        if new {
            links.push((a.min(b), a.max(b)));
            degree[a] += 1;
            degree[b] += 1;
        }
        (new, links.len())
    };
    for node in 1..=HUB {
        join(0, node, &mut degree);
    }
    for node in HUB + 1..NODES {
        let near = (1..node)
            .filter(|other| degree[*other] < CROWDED)
            .min_by(|a, b| distance(places[node], places[*a]).total_cmp(&distance(places[node], places[*b])));
        join(node, near.unwrap_or(1), &mut degree);
    }
    loop {
        // Whoever has fewest neighbours looks for one, sometimes far away, that has some already.
        let poor = (1..NODES).min_by_key(|n| (degree[*n] >= 3, rng.random::<u32>())).unwrap_or(1);
        let other =
            (0..12).map(|_| rng.random_range(1..NODES)).filter(|n| degree[*n] < CROWDED).min_by(|a, b| {
                let reach = |n: usize| distance(places[poor], places[n]) / (degree[n] as f64).sqrt();
                reach(*a).total_cmp(&reach(*b))
            });
        let (_, count) = join(poor, other.unwrap_or(1), &mut degree);
        if count == LINKS {
            return links;
        }
    }
}

/// The first step from every node on its shortest way to one (Dijkstra, 1959).
fn ways_to(to: usize, at: &[Vec<(usize, usize)>], links: &[Link]) -> Vec<(u16, u16)> {
    let mut best = vec![Duration::MAX; NODES];
    let mut step = vec![(to as u16, 0); NODES];
    let mut open = BinaryHeap::from([(Reverse(Duration::ZERO), to)]);
    best[to] = Duration::ZERO;
    while let Some((Reverse(far), node)) = open.pop() {
        if far > best[node] {
            continue;
        }
        for (other, link) in &at[node] {
            let length = far + links[*link].latency;
            if length < best[*other] {
                best[*other] = length;
                step[*other] = (node as u16, *link as u16);
                open.push((Reverse(length), *other));
            }
        }
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mesh_has_the_published_shape() {
        let links = graph(&mut Seed::from_number(SEED).rng());
        let mut degree = vec![0; NODES];
        for (a, b) in &links {
            degree[*a] += 1;
            degree[*b] += 1;
        }
        degree.sort_unstable();
        assert_eq!((links.len(), degree[NODES / 2], degree[NODES - 1]), (465, 3, 28));
        assert!(degree[0] >= 1);
    }

    #[test]
    fn every_pair_has_a_way_and_a_busy_link_makes_the_next_wait() {
        let mut mesh = Mesh::new(1);
        let lossless = || 1.0;
        let mut longest = Duration::ZERO;
        for n in 0..2_000 {
            let took = mesh.carry(Time::from_secs(n as u64), n, n + 1, 200, lossless).unwrap();
            longest = longest.max(took);
        }
        assert!(longest > Duration::from_millis(15) && longest < Duration::from_millis(300), "{longest:?}");
        let (a, b) = (0, (1..).find(|n| mesh.node(*n) != mesh.node(0)).unwrap());
        let now = Time::from_secs(10_000);
        let first = mesh.carry(now, a, b, 1_228, lossless).unwrap();
        assert!(mesh.carry(now, a, b, 1_228, lossless).unwrap() > first);
        let flood = (0..10_000).map(|_| mesh.carry(now, a, b, 1_228, lossless));
        assert!(flood.into_iter().any(|carried| carried == Err("queue full")));
        assert_eq!(mesh.carry(Time::from_secs(20_000), a, b, 100, || 0.0), Err("mesh link"));
    }
}
