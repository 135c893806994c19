//! What is wrong at the moment, and whom it befalls.
//!
//! Who is hit follows from the peer's number, the event's and the seed, so nothing is stored, and a
//! peer that joins meanwhile is hit like the others.
//!
//! | file | holds |
//! |---|---|
//! | `wire.rs` | what faults do to a datagram |
//! | `hosts.rs` | what they do to a peer: clocks, slowness, standing still, restarts |

mod hosts;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ::wire::{Rng, RngExt, Time};

use crate::chance::{Use, mix, seed, stream, unit};
use crate::scenario::{Among, Event, Scenario};

pub(crate) use hosts::{Ailment, Strike};

/// One event that lasts.
#[derive(Clone, Copy, Debug)]
struct Active {
    index: usize,
    event: Event,
    key: u64,
}

/// Everything that is wrong.
pub(crate) struct Faults {
    active: Vec<Active>,
    key: u64,
    clients: f64,
    rng: Rng,
    /// Until when the lines of peers with a limited bandwidth are busy.
    lines: BTreeMap<usize, Time>,
    /// Bursts of loss: whether one rages at a peer, and until when.
    bursts: BTreeMap<usize, (bool, Time)>,
    /// How often each kind of fault did something.
    acted: BTreeMap<&'static str, u64>,
}

impl Faults {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Faults {
            active: Vec::new(),
            key: seed(scenario.seed, Use::Faults, 1).rng().random(),
            clients: scenario.clients,
            rng: stream(scenario.seed, Use::Faults),
            lines: BTreeMap::new(),
            bursts: BTreeMap::new(),
            acted: BTreeMap::new(),
        }
    }

    /// An event begins.
    pub(crate) fn begin(&mut self, index: usize, event: Event) {
        let key = mix(self.key ^ index as u64);
        self.active.push(Active { index, event, key });
    }

    /// An event is over.
    pub(crate) fn end(&mut self, index: usize) {
        self.active.retain(|a| a.index != index);
        if self.active.is_empty() {
            self.lines.clear();
            self.bursts.clear();
        }
    }

    /// Whether anything is wrong.
    pub(crate) fn are_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// Whether a peer only uses the overlay.
    pub(crate) fn is_client(&self, peer: usize) -> bool {
        peer > 0 && self.clients > 0.0 && unit(mix(self.key ^ mix(peer as u64 ^ 0xc1e4))) <= self.clients
    }

    /// Whether an event chooses among a kind of peers to which this one belongs.
    pub(crate) fn is_among(&self, among: Among, peer: usize) -> bool {
        match among {
            Among::All => true,
            Among::Peers => !self.is_client(peer),
            Among::Clients => self.is_client(peer),
        }
    }

    /// Notes that a fault did something.
    pub(crate) fn note(&mut self, kind: &'static str, times: u64) {
        if times > 0 {
            *self.acted.entry(kind).or_default() += times;
        }
    }

    /// How often each kind of fault did something.
    pub(crate) fn acted(&self) -> BTreeMap<String, u64> {
        self.acted.iter().map(|(kind, times)| ((*kind).to_owned(), *times)).collect()
    }

    /// By which factor people do more.
    pub(crate) fn load(&self) -> f64 {
        self.active.iter().filter_map(|a| a.event.load).product()
    }

    /// By how many seconds the calendar of a peer that starts now is wrong.
    pub(crate) fn calendar(&mut self, peer: usize) -> i64 {
        let wrong = self.active.iter().filter(|a| self.befalls(a, peer)).filter_map(|a| a.event.calendar);
        let seconds = wrong.sum::<f64>() as i64;
        self.note("calendar", u64::from(seconds != 0));
        seconds
    }

    /// Events that last.
    pub(crate) fn events(&self) -> Vec<(usize, Event)> {
        self.active.iter().map(|a| (a.index, a.event)).collect()
    }

    /// Whether an event that names this share hits a peer.
    pub(crate) fn is_hit_by(&self, index: usize, share: Option<f64>, peer: usize) -> bool {
        let active = self.active.iter().find(|a| a.index == index);
        active.is_some_and(|a| self.is_among(a.event.among, peer) && is_within(share, a.key, peer))
    }

    /// Those of these peers whom an event that names this share hits.
    pub(crate) fn hit_by(&self, index: usize, share: Option<f64>, peers: &[usize]) -> BTreeSet<usize> {
        peers.iter().copied().filter(|peer| self.is_hit_by(index, share, *peer)).collect()
    }

    /// Whether a fault that names the `peers` it befalls befalls this one.
    fn befalls(&self, active: &Active, peer: usize) -> bool {
        self.is_among(active.event.among, peer) && is_within(active.event.peers, active.key, peer)
    }

    /// Whether a fault that is itself a share of peers hits this one.
    fn hits(&self, active: &Active, share: Option<f64>, peer: usize) -> bool {
        share.is_some() && self.is_among(active.event.among, peer) && is_within(share, active.key, peer)
    }

    fn chance(&mut self) -> f64 {
        unit(self.rng.random())
    }

    fn some_time(&mut self, most_ms: f64) -> Duration {
        Duration::from_secs_f64(self.chance() * most_ms / 1e3)
    }
}

/// Whether a peer is among the share that `key` picks; an absent share is everybody.
fn is_within(share: Option<f64>, key: u64, peer: usize) -> bool {
    share.is_none_or(|share| share > 0.0 && unit(mix(key ^ peer as u64)) <= share)
}
