//! The wire between peers: whether a datagram arrives, where, when, and in what state.
//!
//! | file | holds |
//! |---|---|
//! | `paths.rs` | models of latency: log-normal, coordinates, `matrix.rs`, `asn.rs` |
//! | `mesh.rs` | a radio mesh, where links have queues and losses of their own |
//! | `nat.rs` | boxes that translate addresses |
//!
//! What goes wrong for a while is in [`crate::faults`].

mod asn;
mod matrix;
mod mesh;
mod nat;
mod paths;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use wire::{Rng, RngExt, Time};

use crate::attack;
use crate::chance::{Use, mix, seed, stream, unit};
use crate::faults::Faults;
use crate::scenario::{Model, Scenario};
use mesh::Mesh;
use nat::NatBox;
use paths::Paths;

/// The port of every simulated peer.
pub(crate) const PEER_PORT: u16 = 7_080;
/// The port at which phones register.
pub(crate) const SIP_PORT: u16 = 5_060;
/// IPv4 and UDP headers of a datagram.
pub(crate) const HEADERS: u64 = 28;
/// Where addresses begin in models in which they mean nothing: 10.0.0.1.
const FIRST_HOST: u32 = 0x0a00_0001;

/// What happens to a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It arrives after so long.
    Arrives(Duration),
    /// It arrives twice.
    Twice(Duration, Duration),
    /// It does not, for this reason.
    Lost(&'static str),
}

/// The host of a peer where no model of networks gives it another: 10.0.0.1 and so many further.
pub(crate) fn host(peer: usize) -> Ipv4Addr {
    Ipv4Addr::from(FIRST_HOST.wrapping_add(peer as u32))
}

/// A datagram on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Passage {
    /// The address it is seen to come from.
    pub(crate) source: SocketAddr,
    /// The peer it is for, if there is one.
    pub(crate) to: Option<usize>,
    /// What happens to it.
    pub(crate) fate: Fate,
}

/// The wire.
pub(crate) struct Net {
    paths: Paths,
    mesh: Option<Mesh>,
    nat: crate::scenario::Nat,
    nats: BTreeMap<usize, NatBox>,
    jitter_s: f64,
    loss: f64,
    population: u64,
    rng: Rng,
    pub(crate) faults: Faults,
}

impl Net {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let key = seed(scenario.seed, Use::Latency, 0).rng().random();
        Net {
            paths: Paths::new(&scenario.latency, key),
            mesh: (scenario.latency.model == Model::Mesh).then(|| Mesh::new(key)),
            nat: scenario.nat,
            nats: BTreeMap::new(),
            jitter_s: scenario.latency.jitter_ms / 1e3,
            loss: scenario.loss,
            population: seed(scenario.seed, Use::Population, 0).rng().random(),
            rng: stream(scenario.seed, Use::Loss),
            faults: Faults::new(scenario),
        }
    }

    /// How long the path between two peers is, one way, while nothing goes wrong.
    pub(crate) fn path(&self, a: usize, b: usize) -> Duration {
        self.paths.one_way(a, b)
    }

    // ---- addresses -----------------------------------------------------------------------------

    /// The public host of the peer with this number: its own, or that of the box before it.
    pub(crate) fn host(&mut self, peer: usize) -> Ipv4Addr {
        match &mut self.paths {
            _ if attack::is_puppet(peer) => attack::host(peer),
            Paths::Asn(asn) => asn.host(peer),
            _ => host(peer),
        }
    }

    /// The host as the peer itself sees it. A peer that starts gets its box here.
    pub(crate) fn own_host(&mut self, peer: usize) -> Ipv4Addr {
        let host = self.host(peer);
        let kind = nat::Kind::of(&self.nat, unit(mix(self.population ^ mix(peer as u64))));
        let Some(kind) = kind.filter(|_| peer > 0) else { return host };
        let timeout = Duration::from_secs_f64(self.nat.timeout_s);
        self.nats.entry(peer).or_insert_with(|| NatBox::new(kind, timeout, PEER_PORT));
        nat::INSIDE
    }

    /// The peer that has this public address, or stands behind the box that has it.
    pub(crate) fn peer_at(&self, address: &SocketAddr) -> Option<usize> {
        let SocketAddr::V4(v4) = address else { return None };
        if let Some(puppet) = attack::puppet_at(*v4.ip()) {
            return Some(puppet);
        }
        let peer = match &self.paths {
            Paths::Asn(asn) => asn.peer(*v4.ip()),
            _ => u32::from(*v4.ip()).checked_sub(FIRST_HOST).map(|n| n as usize),
        }?;
        (v4.port() == PEER_PORT || self.nats.contains_key(&peer)).then_some(peer)
    }

    /// Whether a box stands before a peer.
    pub(crate) fn is_behind_nat(&self, peer: usize) -> bool {
        !self.nats.is_empty() && self.nats.contains_key(&peer)
    }

    /// Whether the box before a peer lets something in that comes from `remote` to one of its ports.
    pub(crate) fn lets_in(&self, now: Time, peer: usize, remote: SocketAddr, port: u16) -> bool {
        self.nats.get(&peer).is_none_or(|nat| nat.lets_in(now, remote, port))
    }

    /// The boxes before these peers forget their mappings.
    pub(crate) fn reboot_nats(&mut self, whose: impl Fn(usize) -> bool) -> u64 {
        let hit = self.nats.iter_mut().filter(|(peer, _)| whose(**peer));
        hit.map(|(_, nat)| nat.forget()).count() as u64
    }

    // ---- datagrams -----------------------------------------------------------------------------

    /// Sends a datagram now; faults may change it.
    pub(crate) fn send(
        &mut self,
        now: Time,
        from: usize,
        remote: SocketAddr,
        bytes: &mut Vec<u8>,
    ) -> Passage {
        let port = match self.nats.is_empty() {
            true => PEER_PORT,
            false => self.nats.get_mut(&from).map_or(PEER_PORT, |nat| nat.outbound(now, remote)),
        };
        let source = SocketAddr::from((self.host(from), port));
        // One draw for every datagram, lost or not, so that the stream stays in step.
        let bits: u64 = self.rng.random();
        let to = self.peer_at(&remote);
        let fate = match to {
            None => Fate::Lost("no such address"),
            Some(to) => self.pass(now, from, to, bytes, bits).unwrap_or_else(Fate::Lost),
        };
        Passage { source, to, fate }
    }

    fn pass(
        &mut self,
        now: Time,
        from: usize,
        to: usize,
        bytes: &mut Vec<u8>,
        bits: u64,
    ) -> Result<Fate, &'static str> {
        let (mark, jitter) = (unit(bits << 32), unit(bits & 0xffff_ffff_0000_0000));
        let event_loss = self.faults.loss(from, to);
        let loss = event_loss.unwrap_or(self.loss);
        if loss > 0.0 && mark <= loss {
            self.faults.note("loss", u64::from(event_loss.is_some()));
            return Err("loss");
        }
        let (mut late, mut again) = (Duration::ZERO, None);
        if self.faults.are_active() {
            (late, again) = self.faults.pass(now, from, to, bytes)?;
        }
        let path = match &mut self.mesh {
            Some(mesh) => {
                let rng = &mut self.rng;
                mesh.carry(now, from, to, bytes.len() as u64 + HEADERS, || unit(rng.random()))?
            }
            None => self.paths.one_way(from, to),
        };
        let after = path + late + Duration::from_secs_f64(jitter * self.jitter_s);
        Ok(again.map_or(Fate::Arrives(after), |again| Fate::Twice(after, after + again)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Net {
        Net::new(&text.parse().unwrap())
    }

    fn send(net: &mut Net, from: usize, to: usize) -> Fate {
        let remote = SocketAddr::from((net.host(to), PEER_PORT));
        net.send(Time::ZERO, from, remote, &mut vec![0; 100]).fate
    }

    #[test]
    fn the_share_that_is_lost_is_the_one_asked_for() {
        let mut net = net("loss = 0.05");
        let lost = (0..40_000).filter(|n| send(&mut net, *n, 1) == Fate::Lost("loss")).count();
        assert!((1_800..2_200).contains(&lost), "{lost}");
    }

    #[test]
    fn addresses_name_peers() {
        for model in ["lognormal", "asn"] {
            let mut net = net(&format!("latency = {{ model = '{model}' }}"));
            for n in [0, 1, 255, 256, 7_000] {
                let host = net.host(n);
                assert_eq!(net.peer_at(&SocketAddr::from((host, PEER_PORT))), Some(n));
                assert_eq!(net.peer_at(&SocketAddr::from((host, 9))), None);
            }
        }
    }

    #[test]
    fn who_stands_behind_a_box_is_seen_at_its_address() {
        let mut net = net("[nat]\nsymmetric = 1.0");
        assert_eq!(net.own_host(0), net.host(0), "the bootstrap peer is public");
        assert_eq!(net.own_host(5), nat::INSIDE);
        let remote = SocketAddr::from((net.host(0), PEER_PORT));
        let passage = net.send(Time::ZERO, 5, remote, &mut vec![0; 10]);
        assert_eq!((passage.source.ip(), passage.to), (net.host(5).into(), Some(0)));
        assert!(net.lets_in(Time::ZERO, 5, remote, passage.source.port()));
        let stranger = SocketAddr::from((net.host(9), PEER_PORT));
        assert!(!net.lets_in(Time::ZERO, 5, stranger, PEER_PORT));
        assert_eq!(net.reboot_nats(|_| true), 1);
        assert!(!net.lets_in(Time::ZERO, 5, remote, passage.source.port()));
    }
}
