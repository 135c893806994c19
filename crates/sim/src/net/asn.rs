//! Autonomous systems and their prefixes: whose addresses are alike, stand near to each other.
//!
//! A few systems are large and most are small (a law of Zipf). A system holds prefixes of 4,096
//! addresses, another one when they are full, and systems take turns, so that the prefixes of one are
//! scattered. What diversity of prefixes is worth can be seen only where addresses mean something.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::paths::{access, distance, median, place};
use crate::chance::{mix, unit};

/// Autonomous systems.
const SYSTEMS: usize = 400;
/// How steeply their sizes fall.
const ZIPF: f64 = 0.9;
/// Addresses of a prefix: a /20.
const PREFIX: u32 = 4_096;
/// Where the first prefix begins: 11.0.0.0, after the private network of old.
const FIRST: u32 = 0x0b00_0000;
/// Prefixes that every system has from the beginning.
const PREFIXES: usize = 2;
/// How far apart peers of one system are, besides their access lines, in widths of the plane.
const WITHIN: f64 = 0.01;

/// The systems, and who stands in which.
pub(crate) struct Asn {
    key: u64,
    scale_s: f64,
    /// Up to where, of all weights, each system reaches.
    reach: Vec<f64>,
    systems: Vec<System>,
    prefixes: u32,
    addresses: Vec<Ipv4Addr>,
    peers: BTreeMap<u32, usize>,
}

#[derive(Default)]
struct System {
    prefixes: Vec<u32>,
    used: u32,
}

impl Asn {
    pub(crate) fn new(key: u64, median_s: f64) -> Self {
        let weights = (0..SYSTEMS).map(|n| 1.0 / (n as f64 + 1.0).powf(ZIPF));
        let mut sum = 0.0;
        let reach = weights
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        let mut asn = Asn {
            key,
            scale_s: 1.0,
            reach,
            systems: (0..SYSTEMS).map(|_| System::default()).collect(),
            prefixes: 0,
            addresses: Vec::new(),
            peers: BTreeMap::new(),
        };
        for system in (0..SYSTEMS).cycle().take(SYSTEMS * PREFIXES) {
            asn.grow(system);
        }
        asn.scale_s = median_s / median(|a, b| asn.one_way_s(a, b));
        asn
    }

    fn grow(&mut self, system: usize) {
        let base = FIRST + self.prefixes * PREFIX;
        self.prefixes += 1;
        self.systems[system].prefixes.push(base);
    }

    /// The system of a peer.
    pub(crate) fn system(&self, peer: usize) -> usize {
        let mark = unit(mix(self.key ^ mix(peer as u64))) * self.reach.last().copied().unwrap_or(1.0);
        self.reach.partition_point(|reach| *reach < mark).min(SYSTEMS - 1)
    }

    pub(crate) fn one_way_s(&self, a: usize, b: usize) -> f64 {
        let (x, y) = (self.system(a), self.system(b));
        let at = |system: usize| place(self.key, mix(system as u64 ^ 0xa5));
        let between = if x == y { WITHIN } else { distance(at(x), at(y)) };
        self.scale_s * (between + access(self.key, a as u64) + access(self.key, b as u64))
    }

    /// The address of a peer; peers get theirs in the order of their numbers.
    pub(crate) fn host(&mut self, peer: usize) -> Ipv4Addr {
        while self.addresses.len() <= peer {
            let next = self.addresses.len();
            let system = self.system(next);
            if self.systems[system].used as usize >= self.systems[system].prefixes.len() * PREFIX as usize {
                self.grow(system);
            }
            let System { prefixes, used } = &mut self.systems[system];
            // One address of each prefix in turn.
            let (turn, which) = (*used / prefixes.len() as u32, *used as usize % prefixes.len());
            *used += 1;
            let mut address = prefixes[which] + turn % PREFIX;
            while self.peers.contains_key(&address) {
                address = prefixes[prefixes.len() - 1] + (address + 1) % PREFIX;
            }
            self.peers.insert(address, next);
            self.addresses.push(address.into());
        }
        self.addresses[peer]
    }

    /// The peer with an address.
    pub(crate) fn peer(&self, host: Ipv4Addr) -> Option<usize> {
        self.peers.get(&u32::from(host)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_systems_and_lead_back_to_their_peers() {
        let mut asn = Asn::new(5, 0.045);
        let prefix = |host: Ipv4Addr| u32::from(host) / PREFIX;
        let mut owners: BTreeMap<u32, usize> = BTreeMap::new();
        for peer in 0..60_000 {
            let host = asn.host(peer);
            assert_eq!(asn.peer(host), Some(peer));
            assert_eq!(*owners.entry(prefix(host)).or_insert(asn.system(peer)), asn.system(peer), "{host}");
        }
        let largest = (0..60_000).filter(|n| asn.system(*n) == 0).count();
        assert!((3_000..9_000).contains(&largest), "{largest} of 60000 in the largest system");
        assert!(owners.values().collect::<std::collections::BTreeSet<_>>().len() > 390);
    }
}
