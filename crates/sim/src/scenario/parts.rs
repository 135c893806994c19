//! The tables of a scenario, each default with its reason.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::signatures::StandIn;
use wire::{HashAlgorithm, KeyPair, PublicKey, Seed, Stretch};

/// Which model says how long the path between two peers is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// Pairs independent of each other, log-normal.
    #[default]
    Lognormal,
    /// Places on a plane and an access line for each (Dabek et al., Vivaldi, 2004).
    Coordinates,
    /// A committed matrix of 1,024 sites; round trips: median 90 ms, 95th percentile 260 ms.
    #[serde(rename = "matrix-90")]
    Matrix90,
    /// The same sites, shaped like the King measurements: median 156 ms, mean 182 ms.
    MatrixKing,
    /// Autonomous systems with prefixes; the peers' addresses follow them.
    Asn,
    /// A radio mesh of 271 nodes and 465 links; links have queues and losses of their own.
    Mesh,
}

/// What is simulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Every peer, with everything it does.
    #[default]
    Full,
    /// Lookups alone, on tables that are derived and not kept.
    Implicit,
}

/// How peers sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureKind {
    /// As in the real world, with Ed25519.
    #[default]
    Real,
    /// A hash of equal length stands in, which saves most of the computing and stops no forger.
    StandIn,
}

impl SignatureKind {
    /// The keys that follow from a seed, of a peer that signs so.
    #[expect(clippy::disallowed_methods, reason = "a world in which nobody can be robbed")]
    pub(crate) fn key_pair(self, seed: Seed) -> KeyPair {
        match self {
            SignatureKind::Real => KeyPair::from_seed(seed),
            SignatureKind::StandIn => KeyPair::stand_in(seed, StandIn::in_a_simulation()),
        }
    }
}

/// How long datagrams travel.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Latency {
    /// The model.
    pub model: Model,
    /// Median over pairs, one way, of `lognormal`, `coordinates` and `asn`. 78 ms is half the median
    /// round trip between Internet hosts in the King measurements (Gummadi, Saroiu and Gribble, 2002).
    pub median_ms: f64,
    /// Standard deviation of the logarithm in `lognormal`; 0 gives every pair the median.
    pub sigma: f64,
    /// Each datagram takes up to this much longer, so that they may overtake each other.
    pub jitter_ms: f64,
}

impl Default for Latency {
    fn default() -> Self {
        // The sigma gives the law the mean of those measurements, about 182 ms for the round trip.
        Latency { model: Model::Lognormal, median_ms: 78.0, sigma: 0.55, jitter_ms: 2.0 }
    }
}

/// Which share of the peers stands behind which kind of box (RFC 4787; the old names are STUN's, RFC 3489).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nat {
    /// Whoever knows the mapped address gets through.
    pub full_cone: f64,
    /// Only hosts that were written to get through.
    pub restricted: f64,
    /// Only addresses that were written to get through.
    pub port_restricted: f64,
    /// The same, and every destination sees another mapped port.
    pub symmetric: f64,
    /// A mapping that nothing goes out through ends after so long.
    pub timeout_s: f64,
}

impl Default for Nat {
    fn default() -> Self {
        // RFC 4787 (REQ-5) asks for two minutes at least.
        Nat { full_cone: 0.0, restricted: 0.0, port_restricted: 0.0, symmetric: 0.0, timeout_s: 120.0 }
    }
}

/// Settings of every peer, as a person could set them; the defaults are those of a real peer.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peer {
    /// Ceiling of maintenance traffic.
    pub budget_bytes_per_s: u32,
    /// What may be sent beyond it at once.
    pub budget_burst_bytes: u32,
    /// Allowance for passing on others' requests.
    pub forwarding_bytes_per_s: u32,
    /// How often own records are refreshed.
    pub refresh_interval_s: f64,
    /// How long holders keep a record that is not refreshed.
    pub record_lifetime_s: f64,
    /// How long an attempt of a lookup may take.
    pub lookup_timeout_s: f64,
    /// Whether those that are not among the `clients` are peers whatever happens, or decide by themselves.
    pub role: Role,
    /// How lookups go: absent as the peer decides, else `recursive`, `iterative` or `parallel`.
    pub lookup_mode: Option<LookupMode>,
    /// On how many disjoint paths they go; 0: as the mode decides.
    pub lookup_paths: u8,
    /// Whether users have numbers, and who works out what their keys cost.
    pub numbers: Numbers,
}

impl Default for Peer {
    fn default() -> Self {
        let config = node::Config::default();
        Peer {
            budget_bytes_per_s: config.budget_bytes_per_s,
            budget_burst_bytes: config.budget_burst_bytes,
            forwarding_bytes_per_s: config.forwarding_bytes_per_s,
            refresh_interval_s: config.refresh_interval.as_secs_f64(),
            record_lifetime_s: config.record_lifetime.as_secs_f64(),
            lookup_timeout_s: config.lookup_timeout.as_secs_f64(),
            role: Role::default(),
            lookup_mode: None,
            lookup_paths: 0,
            numbers: Numbers::default(),
        }
    }
}

impl Peer {
    /// The configuration of a peer with these settings.
    pub(crate) fn config(&self) -> node::Config {
        node::Config {
            budget_bytes_per_s: self.budget_bytes_per_s,
            budget_burst_bytes: self.budget_burst_bytes,
            forwarding_bytes_per_s: self.forwarding_bytes_per_s,
            refresh_interval: Duration::from_secs_f64(self.refresh_interval_s),
            record_lifetime: Duration::from_secs_f64(self.record_lifetime_s),
            lookup_timeout: Duration::from_secs_f64(self.lookup_timeout_s),
            // The simulated network carries datagrams.
            tcp: false,
            numbers: self.numbers != Numbers::None,
            ..node::Config::default()
        }
    }

    /// How a lookup that is measured shall go: copies that the asker has do not count.
    pub(crate) fn lookup(&self) -> node::LookupOptions {
        let usual = node::LookupOptions::default();
        let mode = match self.lookup_mode {
            None => usual.mode,
            Some(LookupMode::Recursive) => node::Mode::Recursive,
            Some(LookupMode::Iterative) => node::Mode::Iterative,
            Some(LookupMode::Parallel) => node::Mode::Parallel,
        };
        node::LookupOptions { mode, paths: self.lookup_paths, fresh: true, ..usual }
    }
}

/// How it is worked out what keys cost, from which the numbers of users follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Numbers {
    /// It is not: nobody has a number.
    #[default]
    None,
    /// By a hash in its place, since a thousand keys take minutes. Nobody is safe then, and nobody attacks.
    StandIn,
    /// As in the real world.
    Argon2,
}

impl Numbers {
    /// What a key costs.
    pub(crate) fn stretch(self, key: &PublicKey) -> Option<Stretch> {
        match self {
            Numbers::None => None,
            Numbers::StandIn => {
                let hash = HashAlgorithm::Sha256.digest(&key.0);
                hash.as_bytes().first_chunk().copied().map(Stretch)
            }
            Numbers::Argon2 => Stretch::of(key),
        }
    }
}

/// Who decides whether a node is a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The node itself, as in the real world.
    #[default]
    Auto,
    /// The scenario: it is one.
    Peer,
}

impl Role {
    pub(crate) fn policy(self) -> node::RolePolicy {
        match self {
            Role::Auto => node::RolePolicy::Auto,
            Role::Peer => node::RolePolicy::Peer,
        }
    }
}

/// How lookups go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LookupMode {
    /// From hop to hop.
    Recursive,
    /// Peer after peer.
    Iterative,
    /// On several ways at once.
    Parallel,
}

/// Which law session lengths follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Law {
    /// Without memory.
    #[default]
    Exponential,
    /// With a heavy tail where `shape` is below 1, as measured in file-sharing networks.
    Weibull,
    /// With a tail that follows a power, `shape` above 1.
    Pareto,
    /// What a file says of each peer.
    Trace,
}

/// How long peers stay. Whoever goes is replaced at once by a new peer with a new user.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Churn {
    /// The law of session lengths.
    pub law: Law,
    /// Their mean.
    pub mean_s: f64,
    /// Their median, instead of the mean.
    pub median_s: Option<f64>,
    /// The shape of the laws of Weibull and Pareto.
    pub shape: f64,
    /// Share of peers that say goodbye; the others fall silent.
    pub graceful: f64,
    /// The file of a trace.
    pub trace: Option<String>,
    /// Nobody goes before.
    pub from_s: f64,
}

impl Default for Churn {
    fn default() -> Self {
        Churn {
            law: Law::Exponential,
            mean_s: 3_600.0,
            median_s: None,
            shape: 0.5,
            graceful: 0.5,
            trace: None,
            from_s: 0.0,
        }
    }
}

/// A span for which a peer of a trace was there.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Session {
    /// Numbered in the order of first appearance, from 1: number 0 is the bootstrap peer.
    pub peer: usize,
    /// When it came.
    pub up_s: f64,
    /// When it went.
    pub down_s: f64,
}

/// What people do besides looking each other up, in the whole network, at random moments.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// New users that are added to a running peer and published, per second.
    pub registrations_per_s: f64,
    /// Calls between users, per second: looked up, invited, answered by the built-in echo.
    pub calls_per_s: f64,
    /// Messages between users, per second: looked up, sent, confirmed.
    pub messages_per_s: f64,
    /// Links that every peer behind a box keeps warm.
    pub warm_links: usize,
}

/// A call between the phones of two peers, each playing a tone of its own.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// When it is dialled.
    pub at_s: f64,
    /// The number of the caller's peer, counted from 0 in the order of joining.
    pub from: usize,
    /// The number of the callee's peer.
    pub to: usize,
    /// How long both talk before the caller hangs up.
    #[serde(default = "ten_seconds")]
    pub duration_s: f64,
}

fn ten_seconds() -> f64 {
    10.0
}

/// A message between the phones of two peers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// When it is sent.
    pub at_s: f64,
    /// The number of the sender's peer.
    pub from: usize,
    /// The number of the receiver's peer.
    pub to: usize,
    /// What it says.
    pub text: String,
}

/// A span of time whose lookups are reported, and judged, by themselves.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its name in the report.
    pub name: String,
    /// Lookups begun from here on belong to it.
    pub from_s: f64,
    /// Lookups begun from here on no longer do.
    pub to_s: f64,
    /// Least share of them that find their record.
    #[serde(default)]
    pub lookups: f64,
}

/// What the report must show.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bars {
    /// Least share of lookups that find their record. At 1, every failure is a violation of its own.
    pub lookups: f64,
    /// Most maintenance bytes per second a peer may send on average, 0 for any.
    pub maintenance_bytes_per_s: f64,
    /// Most bytes per second a peer may send on average, whatever for, 0 for any.
    pub bytes_per_s: f64,
    /// Most bytes per second that a peer may send that keeps links warm, mean over windows of ten minutes, 0
    /// for any.
    pub warm_bytes_per_s: f64,
    /// The same for the 99th percentile of the windows.
    pub warm_p99_bytes_per_s: f64,
    /// Largest share of attackers in the tables of honest peers at the end, 0 for any.
    pub attackers_in_tables: f64,
    /// Least share of the lookups of a name under attack that find it.
    pub victim_found: f64,
    /// Least share of them that raise an alarm.
    pub victim_alarms: f64,
    /// Largest share of the lookups of other names that raise one, 0 for any.
    pub false_alarms: f64,
    /// Most requests of one lookup while there are attackers, 0 for any.
    pub requests: f64,
    /// Slowest mean of lookups, 0 for any.
    pub lookup_mean_ms: f64,
    /// Slowest 95th percentile of lookups, 0 for any.
    pub lookup_p95_ms: f64,
}

impl Default for Bars {
    fn default() -> Self {
        Bars {
            lookups: 1.0,
            maintenance_bytes_per_s: 0.0,
            bytes_per_s: 0.0,
            warm_bytes_per_s: 0.0,
            warm_p99_bytes_per_s: 0.0,
            attackers_in_tables: 0.0,
            victim_found: 0.0,
            victim_alarms: 0.0,
            false_alarms: 0.0,
            requests: 0.0,
            lookup_mean_ms: 0.0,
            lookup_p95_ms: 0.0,
        }
    }
}

/// What is looked at all the time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Invariants {
    /// Virtual time between two inspections of every peer; 0 for none.
    pub every_s: f64,
    /// Whether who is in a table must have answered its owner. Takes memory for every pair that met, so
    /// larger networks than [`crate::watch::MAX_ACQUAINTED`] go without.
    pub answered: bool,
    /// Users whose record is looked for, at each row of the series, at the peer it belongs to.
    pub sample: usize,
    /// Least share of them, on average, of whom the peer nearest to the place holds the record.
    pub consistency: f64,
}

impl Default for Invariants {
    fn default() -> Self {
        Invariants { every_s: 60.0, answered: true, sample: 16, consistency: 0.0 }
    }
}
