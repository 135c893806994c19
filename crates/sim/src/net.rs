//! The wire between peers: how long a datagram travels, and whether it arrives.
//!
//! Each pair of peers has a latency of its own, drawn from a log-normal law by hashing the pair with
//! the seed: nothing is stored, both directions agree, and a thousand peers have half a million
//! different paths. Pairs are independent, so the triangle inequality does not hold; nor does it
//! between real hosts, though less wildly.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use wire::{Rng, RngExt};

use crate::chance::{Use, mix, seed, stream, unit};
use crate::scenario::{Latency, Scenario};

/// The port of every simulated peer.
pub(crate) const PEER_PORT: u16 = 7_080;
/// The port at which phones register.
pub(crate) const SIP_PORT: u16 = 5_060;
/// IPv4 and UDP headers of a datagram.
pub(crate) const HEADERS: u64 = 28;
/// No path is shorter.
const SHORTEST: f64 = 0.000_2;
/// No path is longer.
const LONGEST: f64 = 2.0;

/// The host of the peer with this number: 10.0.0.0 and so many further.
pub(crate) fn host(peer: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0001u32.wrapping_add(peer as u32))
}

/// The peer with this address.
pub(crate) fn peer_at(address: &SocketAddr) -> Option<usize> {
    match address {
        SocketAddr::V4(v4) if v4.port() == PEER_PORT => {
            u32::from(*v4.ip()).checked_sub(0x0a00_0001).map(|n| n as usize)
        }
        _ => None,
    }
}

/// What happens to a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Arrives(Duration),
    Lost,
}

/// The wire.
pub(crate) struct Net {
    latency: Latency,
    key: u64,
    rng: Rng,
    /// Share of datagrams lost.
    pub(crate) loss: f64,
    /// The share of peers on the smaller side, and a number that says which, while there is a cut.
    pub(crate) partition: Option<(f64, u64)>,
}

impl Net {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Net {
            latency: scenario.latency,
            key: seed(scenario.seed, Use::Latency, 0).rng().random(),
            rng: stream(scenario.seed, Use::Loss),
            loss: scenario.loss,
            partition: None,
        }
    }

    /// What happens to a datagram sent now.
    pub(crate) fn send(&mut self, from: usize, to: usize) -> Fate {
        // One draw for every datagram, lost or not, so that the stream stays in step.
        let bits: u64 = self.rng.random();
        let (loss, jitter) = (unit(bits << 32), unit(bits & 0xffff_ffff_0000_0000));
        let cut = self.partition.is_some_and(|cut| side(cut, from) != side(cut, to));
        if cut || loss <= self.loss && self.loss > 0.0 {
            return Fate::Lost;
        }
        Fate::Arrives(self.path(from, to) + Duration::from_secs_f64(jitter * self.latency.jitter_ms / 1e3))
    }

    /// How long the path between two peers is, one way.
    pub(crate) fn path(&self, a: usize, b: usize) -> Duration {
        let bits = mix(mix(self.key ^ a.min(b) as u64) ^ a.max(b) as u64);
        // The method of Box and Muller: two uniform numbers make one normal.
        let (u, v) = (unit(bits), unit(mix(bits)));
        let normal = (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos();
        let seconds = self.latency.median_ms / 1e3 * (self.latency.sigma * normal).exp();
        Duration::from_micros((seconds.clamp(SHORTEST, LONGEST) * 1e6) as u64)
    }
}

fn side((share, number): (f64, u64), peer: usize) -> bool {
    unit(mix(number ^ peer as u64)) <= share
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Net {
        Net::new(&text.parse().unwrap())
    }

    #[test]
    fn a_path_is_as_long_both_ways_and_half_of_them_are_below_the_median() {
        let net = net("");
        let mut below = 0;
        let mut sum = 0.0;
        for n in 0..10_000 {
            assert_eq!(net.path(n, n + 7), net.path(n + 7, n));
            below += usize::from(net.path(n, n + 7) < Duration::from_millis(78));
            sum += net.path(n, n + 7).as_secs_f64();
        }
        assert!((4_800..5_200).contains(&below), "{below}");
        assert!((0.088..0.094).contains(&(sum / 1e4)), "{}", sum / 1e4);
    }

    #[test]
    fn the_share_that_is_lost_is_the_one_asked_for() {
        let mut net = net("loss = 0.05");
        let lost = (0..40_000).filter(|n| net.send(*n, 1) == Fate::Lost).count();
        assert!((1_800..2_200).contains(&lost), "{lost}");
    }

    #[test]
    fn a_partition_cuts_between_the_sides_and_not_within() {
        let mut net = net("");
        net.partition = Some((0.3, 9));
        let small: Vec<usize> = (0..1_000).filter(|n| side((0.3, 9), *n)).collect();
        assert!((250..350).contains(&small.len()));
        let other = (0..1_000).find(|n| !small.contains(n)).unwrap();
        assert_eq!(net.send(small[0], other), Fate::Lost);
        assert_ne!(net.send(small[0], small[1]), Fate::Lost);
    }

    #[test]
    fn addresses_name_peers() {
        for n in [0, 1, 255, 256, 70_000] {
            assert_eq!(peer_at(&SocketAddr::from((host(n), PEER_PORT))), Some(n));
        }
        assert_eq!(peer_at(&SocketAddr::from((host(3), 9))), None);
    }
}
