//! What is to happen: a scenario, read from TOML.
//!
//! Everything has a default, so that the smallest scenario is an empty file. `docs/simulator.md`
//! lists every field with its reason.
//!
//! | file | holds |
//! |---|---|
//! | `parts.rs` | the tables of a scenario: latency, churn, NATs, calls, bars |
//! | [`fault`] | what goes wrong, and when: every kind of fault |
//! | `check.rs` | which values are possible |
//! | `place.rs` | where in the file a value stands |

mod check;
pub mod fault;
mod parts;
mod place;

use std::str::FromStr;
use std::time::Duration;

use node::{Algorithm, Profile};
use serde::Deserialize;
use wire::HashAlgorithm;

pub use fault::{Among, Event};
pub use parts::{
    Bars, Call, Churn, Invariants, Latency, Law, LookupMode, Message, Model, Nat, Numbers, Peer, Phase,
    Scope, Session, SignatureKind, Workload,
};

/// Most peers of one run.
pub const MAX_NODES: usize = 1_000_000;

/// Most peers of an implicit model: as many addresses as begin with 10.
pub const MAX_IMPLICIT: usize = 16_000_000;

/// Most scripted calls, messages and events of a scenario.
pub const MAX_SCRIPT: usize = 10_000;

/// Most sessions of a trace.
pub const MAX_SESSIONS: usize = 10_000_000;

/// What is to happen.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Its name in the report.
    pub name: String,
    /// All chance follows from this number.
    pub seed: u64,
    /// Peers that run at once. The first founds the overlay, is everybody's bootstrap and never goes.
    pub nodes: usize,
    /// Share of them that are clients: they use the overlay and are not part of it.
    pub clients: f64,
    /// How much virtual time passes.
    pub duration_s: f64,
    /// Lookups begun earlier, and bytes sent earlier, are not in the figures: the network settles.
    pub measure_from_s: f64,
    /// Peers that join per second at the beginning.
    pub joins_per_s: f64,
    /// Users that each peer serves.
    pub users_per_node: usize,
    /// Lookups per second in the whole network, at random moments (a Poisson process).
    pub lookups_per_s: f64,
    /// Besides, every peer looks somebody up so often on average; 0: never.
    pub lookup_every_s: f64,
    /// How long a user must have been published before it is looked up, and then must be found.
    pub settle_s: f64,
    /// A record found later than this counts as not found.
    pub lookup_within_s: f64,
    /// What else people do.
    pub workload: Workload,
    /// Which algorithm routes: `kademlia`, ...
    pub overlay: String,
    /// Which hash places peers and records: `sha-256`, `sha-1`, `md5` or `md4`.
    pub hash: String,
    /// Base of the algorithm: 2, 4, 8 or 16.
    pub base: u16,
    /// Difficulty of the admission puzzle; keys of peers are drawn until they fulfil it, those that
    /// Sybils and a prefix choose are not.
    pub difficulty: u8,
    /// Peers that hold each record.
    pub replicas: u8,
    /// What is simulated.
    pub model: Scope,
    /// In an implicit model: the share of table entries whose peer is gone.
    pub stale: f64,
    /// Whether signatures are real.
    pub signatures: SignatureKind,
    /// What protects the traffic between peers: `open`, `signed` or `secure`. Where signatures are stand-ins, so
    /// are the links of `secure`.
    pub profile: String,
    /// Share of datagrams that never arrive.
    pub loss: f64,
    /// Largest payload of a datagram between peers; a larger one is a violation.
    pub mtu: usize,
    /// How long datagrams travel.
    pub latency: Latency,
    /// Settings of every peer.
    pub peer: Peer,
    /// Behind which boxes peers stand.
    pub nat: Nat,
    /// How long peers stay; absent: for ever.
    pub churn: Option<Churn>,
    /// What goes wrong, and when.
    pub events: Vec<Event>,
    /// Calls between scripted phones.
    pub calls: Vec<Call>,
    /// Messages between scripted phones.
    pub messages: Vec<Message>,
    /// Spans of time with figures and bars of their own.
    pub phases: Vec<Phase>,
    /// What the report must show, else it names a violation.
    pub bars: Bars,
    /// What is looked at all the time.
    pub invariants: Invariants,
    /// Virtual time between two rows of the series.
    pub series_s: f64,
    /// Whether the messages are also counted as simulation papers count them.
    pub model_bytes: bool,
    /// Parameters and their values, for many runs in one; see [`crate::sweep`].
    pub sweep: Option<toml::Table>,
    /// Who attacks.
    pub attackers: Vec<crate::attack::Attackers>,
    /// The sessions of a trace, filled in by [`Scenario::with_trace`].
    #[serde(skip)]
    pub sessions: Vec<Session>,
}

impl Default for Scenario {
    fn default() -> Self {
        Scenario {
            name: "unnamed".into(),
            seed: 1,
            nodes: 100,
            clients: 0.0,
            duration_s: 300.0,
            measure_from_s: 0.0,
            joins_per_s: 10.0,
            users_per_node: 1,
            lookups_per_s: 1.0,
            lookup_every_s: 0.0,
            settle_s: 60.0,
            // What R/Kademlia's measurements allow a lookup.
            lookup_within_s: 10.0,
            workload: Workload::default(),
            overlay: "kademlia".into(),
            hash: "sha-256".into(),
            base: 2,
            difficulty: 0,
            replicas: 5,
            model: Scope::Full,
            stale: 0.05,
            signatures: SignatureKind::Real,
            profile: "open".into(),
            loss: 0.0,
            // What every path is expected to carry in one piece, tunnels and IPv6 included.
            mtu: 1_200,
            latency: Latency::default(),
            peer: Peer::default(),
            nat: Nat::default(),
            churn: None,
            events: Vec::new(),
            calls: Vec::new(),
            messages: Vec::new(),
            phases: Vec::new(),
            bars: Bars::default(),
            invariants: Invariants::default(),
            series_s: 10.0,
            model_bytes: false,
            sweep: None,
            attackers: Vec::new(),
            sessions: Vec::new(),
        }
    }
}

/// Why a scenario cannot be played.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadScenario {
    /// It is not TOML, or has a field that does not exist. The text names line and column.
    #[error("not a scenario: {0}")]
    Syntax(String),
    /// A value is out of its range.
    #[error("{}{field}: {problem}", place.map(|(line, column)| format!("line {line}, column {column}: ")).unwrap_or_default())]
    Value {
        /// Which, as a path: `events[2].loss`.
        field: String,
        /// What it should be.
        problem: String,
        /// Line and column in the file, counted from 1; unknown where the value came from elsewhere.
        place: Option<(usize, usize)>,
    },
}

impl FromStr for Scenario {
    type Err = BadScenario;
    fn from_str(text: &str) -> Result<Self, BadScenario> {
        let scenario: Scenario = toml::from_str(text).map_err(|e| BadScenario::Syntax(e.to_string()))?;
        match scenario.check() {
            Err(BadScenario::Value { field, problem, .. }) => {
                let place = place::of(text, &field);
                Err(BadScenario::Value { field, problem, place })
            }
            checked => checked.map(|()| scenario),
        }
    }
}

impl Scenario {
    /// The overlay algorithm.
    pub fn algorithm(&self) -> Result<Algorithm, BadScenario> {
        let names = || Algorithm::ALL.iter().map(|a| a.name()).collect::<Vec<_>>().join(", ");
        let unknown = || format!("'{}' is unknown: choose {}", self.overlay, names());
        self.overlay.parse().or_else(|_| check::bad("overlay", unknown()))
    }

    /// The hash.
    pub fn hash_algorithm(&self) -> Result<HashAlgorithm, BadScenario> {
        self.hash.parse().or_else(|problem: String| check::bad("hash", problem))
    }

    /// What protects the traffic between peers.
    pub fn profile(&self) -> Result<Profile, BadScenario> {
        let profile = self.profile.parse().or_else(|problem: String| check::bad("profile", problem))?;
        match profile {
            // They look at what they are asked, and forge answers, in the clear.
            Profile::Signed | Profile::Secure if !self.attackers.is_empty() => {
                check::bad("profile", "attackers are simulated in the profile 'open' only")
            }
            profile => Ok(profile),
        }
    }

    /// The same with the sessions of a trace: lines of `peer,up,down`, times in seconds, `#` begins a
    /// comment and a first line of names is passed over. Peers are named as one likes.
    ///
    /// # Errors
    /// Naming the line that cannot be read.
    pub fn with_trace(mut self, text: &str) -> Result<Self, BadScenario> {
        self.sessions = crate::churn::trace(text)
            .map_err(|(line, problem)| BadScenario::Syntax(format!("trace, line {line}: {problem}")))?;
        Ok(self)
    }

    /// The file of the trace that churn follows, if it follows one; relative to the scenario.
    pub fn trace_file(&self) -> Option<&str> {
        let churn = self.churn.as_ref().filter(|c| c.law == Law::Trace)?;
        churn.trace.as_deref()
    }

    /// Bytes of memory that this run will take, about: what a peer of this build takes, and what is
    /// under way between them; in an implicit model, identities and the times of lookups.
    pub fn memory_estimate(&self) -> u64 {
        if self.model == Scope::Implicit {
            let lookups = (self.lookups_per_s * self.duration_s) as u64;
            return BASE_MEMORY + self.nodes as u64 * IMPLICIT_PEER_MEMORY + lookups * LOOKUP_MEMORY;
        }
        let crowd: f64 = self.events.iter().filter_map(|e| e.join).sum();
        let users = self.users_per_node.max(1) as u64 - 1;
        BASE_MEMORY + (self.nodes as u64 + crowd as u64) * (PEER_MEMORY + users * USER_MEMORY)
    }

    /// Who talks to whom, and when.
    pub(crate) fn conversations(&self) -> impl Iterator<Item = (usize, usize, f64)> + '_ {
        let calls = self.calls.iter().map(|c| (c.from, c.to, c.at_s));
        calls.chain(self.messages.iter().map(|m| (m.from, m.to, m.at_s)))
    }

    pub(crate) fn settle(&self) -> Duration {
        Duration::from_secs_f64(self.settle_s)
    }
}

/// Line and column of the values that a scenario sweeps a field over, if it does.
pub(crate) fn place_in_sweep(text: &str, field: &str) -> Option<(usize, usize)> {
    place::in_table(text, "sweep", field)
}

/// Memory of the program and of a small run.
const BASE_MEMORY: u64 = 32 << 20;
/// Memory of a peer of this build with what is under way to it, measured at a thousand peers.
const PEER_MEMORY: u64 = 96 << 10;
/// Memory of a further user of a peer.
const USER_MEMORY: u64 = 4 << 10;
/// Memory of a peer of an implicit model: its identity, and how often it was asked.
const IMPLICIT_PEER_MEMORY: u64 = 24;
/// Memory of a lookup there: how long it took.
const LOOKUP_MEMORY: u64 = 16;

#[cfg(test)]
mod tests;
