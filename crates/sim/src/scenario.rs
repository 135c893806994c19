//! What is to happen: a scenario, read from TOML.
//!
//! Everything has a default, so that the smallest scenario is an empty file. `docs/simulator.md`
//! lists every field with its reason.

use std::str::FromStr;
use std::time::Duration;

use node::Algorithm;
use serde::{Deserialize, Serialize};
use wire::HashAlgorithm;

/// Most peers of one run: four bytes of their addresses tell them apart, and a person waits for it.
pub const MAX_NODES: usize = 1_000_000;

/// Most peers of an implicit model: as many addresses as begin with 10.
pub const MAX_IMPLICIT: usize = 16_000_000;

/// Most scripted calls, messages and events of a scenario.
pub const MAX_SCRIPT: usize = 10_000;

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
    /// How much virtual time passes.
    pub duration_s: f64,
    /// Peers that join per second at the beginning.
    pub joins_per_s: f64,
    /// Users that each peer serves.
    pub users_per_node: usize,
    /// Lookups per second in the whole network, at random moments (a Poisson process).
    pub lookups_per_s: f64,
    /// How long a user must have been published before it is looked up, and then must be found.
    pub settle_s: f64,
    /// Which algorithm routes: `kademlia`, ...
    pub overlay: String,
    /// Which hash places peers and records: `sha-256`, `sha-1`, `md5` or `md4`.
    pub hash: String,
    /// Base of the algorithm: 2, 4, 8 or 16.
    pub base: u16,
    /// Peers that hold each record.
    pub replicas: u8,
    /// What is simulated.
    pub model: Model,
    /// In an implicit model: the share of table entries whose peer is gone.
    pub stale: f64,
    /// Whether signatures are real.
    pub signatures: SignatureKind,
    /// Share of datagrams that never arrive.
    pub loss: f64,
    /// Largest payload of a datagram between peers; a larger one is a violation.
    pub mtu: usize,
    /// How long datagrams travel.
    pub latency: Latency,
    /// How long peers stay; absent: for ever.
    pub churn: Option<Churn>,
    /// What happens once, at a certain time.
    pub events: Vec<Event>,
    /// Calls between scripted phones.
    pub calls: Vec<Call>,
    /// Messages between scripted phones.
    pub messages: Vec<Message>,
    /// What the report must show, else it names a violation.
    pub bars: Bars,
}

impl Default for Scenario {
    fn default() -> Self {
        Scenario {
            name: "unnamed".into(),
            seed: 1,
            nodes: 100,
            duration_s: 300.0,
            joins_per_s: 10.0,
            users_per_node: 1,
            lookups_per_s: 1.0,
            settle_s: 60.0,
            overlay: "kademlia".into(),
            hash: "sha-256".into(),
            base: 2,
            replicas: 5,
            model: Model::Full,
            stale: 0.05,
            signatures: SignatureKind::Real,
            loss: 0.0,
            // What every path is expected to carry in one piece, tunnels and IPv6 included.
            mtu: 1_200,
            latency: Latency::default(),
            churn: None,
            events: Vec::new(),
            calls: Vec::new(),
            messages: Vec::new(),
            bars: Bars::default(),
        }
    }
}

/// What is simulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Model {
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

/// How long datagrams travel: a log-normal law over pairs of peers, the same both ways.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Latency {
    /// Median over pairs, one way. 78 ms is half the median round trip between Internet hosts in the
    /// King measurements (Gummadi, Saroiu and Gribble, 2002).
    pub median_ms: f64,
    /// Standard deviation of the logarithm; 0 gives every pair the median.
    pub sigma: f64,
    /// Each datagram takes up to this much longer, so that they may overtake each other.
    pub jitter_ms: f64,
}

impl Default for Latency {
    fn default() -> Self {
        // The sigma gives the law the mean of those measurements, about 182 ms for the round trip.
        Latency { median_ms: 78.0, sigma: 0.55, jitter_ms: 2.0 }
    }
}

/// Which law session lengths follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Law {
    /// Without memory.
    Exponential,
    /// With a heavy tail where `shape` is below 1, as measured in file-sharing networks.
    Weibull,
}

/// How long peers stay. Whoever goes is replaced at once by a new peer with a new user.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Churn {
    /// The law of session lengths.
    pub law: Law,
    /// Their mean.
    pub mean_s: f64,
    /// The shape of the Weibull law.
    pub shape: f64,
    /// Share of peers that say goodbye; the others fall silent.
    pub graceful: f64,
}

impl Default for Churn {
    fn default() -> Self {
        Churn { law: Law::Exponential, mean_s: 3_600.0, shape: 0.5, graceful: 0.5 }
    }
}

/// Something that happens once.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Event {
    /// When.
    pub at_s: f64,
    /// How long `loss` and `partition` last; 0: to the end.
    pub for_s: f64,
    /// Share of the live peers that fall silent at once.
    pub kill: Option<f64>,
    /// Share of the live peers that say goodbye at once.
    pub leave: Option<f64>,
    /// Peers that join at once, beyond the scenario's number.
    pub join: Option<usize>,
    /// Share of datagrams that never arrive, from now on.
    pub loss: Option<f64>,
    /// Share of the peers that is cut off from the rest.
    pub partition: Option<f64>,
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

/// What the report must show.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bars {
    /// Least share of lookups that find their record. At 1, every failure is a violation of its own.
    pub lookups: f64,
    /// Most maintenance bytes per second a peer may send on average, 0 for any.
    pub maintenance_bytes_per_s: f64,
    /// Slowest 95th percentile of lookups, 0 for any.
    pub lookup_p95_ms: f64,
}

impl Default for Bars {
    fn default() -> Self {
        Bars { lookups: 1.0, maintenance_bytes_per_s: 0.0, lookup_p95_ms: 0.0 }
    }
}

/// Why a scenario cannot be played.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadScenario {
    /// It is not TOML, or has a field that does not exist.
    #[error("not a scenario: {0}")]
    Syntax(String),
    /// A value is out of its range.
    #[error("{field}: {problem}")]
    Value {
        /// Which.
        field: &'static str,
        /// What it should be.
        problem: String,
    },
}

impl FromStr for Scenario {
    type Err = BadScenario;
    fn from_str(text: &str) -> Result<Self, BadScenario> {
        let scenario: Scenario = toml::from_str(text).map_err(|e| BadScenario::Syntax(e.to_string()))?;
        scenario.check()?;
        Ok(scenario)
    }
}

impl Scenario {
    /// Whether every value is in its range; to be asked again after a change.
    pub fn check(&self) -> Result<(), BadScenario> {
        let most = match self.model {
            Model::Full => MAX_NODES,
            Model::Implicit => MAX_IMPLICIT,
        };
        within("nodes", self.nodes as f64, 1.0, most as f64)?;
        within("stale", self.stale, 0.0, 0.9)?;
        if self.model == Model::Implicit && (self.overlay != "kademlia" || self.base != 2) {
            return bad("model", "the implicit model knows Kademlia in base 2");
        }
        if self.model == Model::Implicit && self.nodes <= usize::from(self.replicas) * 2 {
            return bad("nodes", "an implicit model needs more than twice as many peers as replicas");
        }
        within("duration_s", self.duration_s, 0.001, 1e8)?;
        within("joins_per_s", self.joins_per_s, 0.001, 1e6)?;
        within("users_per_node", self.users_per_node as f64, 0.0, 100.0)?;
        within("lookups_per_s", self.lookups_per_s, 0.0, 1e6)?;
        within("settle_s", self.settle_s, 0.0, 1e8)?;
        within("replicas", f64::from(self.replicas), 1.0, 20.0)?;
        within("loss", self.loss, 0.0, 1.0)?;
        within("mtu", self.mtu as f64, 576.0, 65_507.0)?;
        within("latency.median_ms", self.latency.median_ms, 0.001, 10_000.0)?;
        within("latency.sigma", self.latency.sigma, 0.0, 3.0)?;
        within("latency.jitter_ms", self.latency.jitter_ms, 0.0, 10_000.0)?;
        within("bars.lookups", self.bars.lookups, 0.0, 1.0)?;
        if let Some(churn) = &self.churn {
            within("churn.mean_s", churn.mean_s, 1.0, 1e8)?;
            within("churn.shape", churn.shape, 0.2, 10.0)?;
            within("churn.graceful", churn.graceful, 0.0, 1.0)?;
        }
        for event in &self.events {
            within("events.at_s", event.at_s, 0.0, 1e8)?;
            within("events.for_s", event.for_s, 0.0, 1e8)?;
            for share in [event.kill, event.leave, event.loss, event.partition].into_iter().flatten() {
                within("events", share, 0.0, 1.0)?;
            }
            within("events.join", event.join.unwrap_or(0) as f64, 0.0, MAX_NODES as f64)?;
        }
        for (from, to, at) in self.conversations() {
            within("calls, messages: at_s", at, 0.0, 1e8)?;
            within("calls, messages: from, to", from.max(to) as f64, 0.0, self.nodes as f64 - 1.0)?;
            if from == to {
                return bad("calls, messages", "from and to are the same peer");
            }
        }
        if self.calls.len() + self.messages.len() + self.events.len() > MAX_SCRIPT {
            return bad("calls, messages, events", format!("at most {MAX_SCRIPT}"));
        }
        if (!self.calls.is_empty() || !self.messages.is_empty()) && self.users_per_node == 0 {
            return bad("users_per_node", "phones need users");
        }
        if ![2, 4, 8, 16].contains(&self.base) {
            return bad("base", "choose 2, 4, 8 or 16");
        }
        self.algorithm().and(self.hash_algorithm()).map(|_| ())
    }

    /// The overlay algorithm.
    pub fn algorithm(&self) -> Result<Algorithm, BadScenario> {
        self.overlay.parse().map_err(|_| BadScenario::Value {
            field: "overlay",
            problem: format!(
                "'{}' is unknown: choose {}",
                self.overlay,
                Algorithm::ALL.iter().map(|a| a.name()).collect::<Vec<_>>().join(", ")
            ),
        })
    }

    /// The hash.
    pub fn hash_algorithm(&self) -> Result<HashAlgorithm, BadScenario> {
        self.hash.parse().map_err(|problem| BadScenario::Value { field: "hash", problem })
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

fn within(field: &'static str, value: f64, low: f64, high: f64) -> Result<(), BadScenario> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    bad(field, format!("{value} is not between {low} and {high}"))
}

fn bad(field: &'static str, problem: impl Into<String>) -> Result<(), BadScenario> {
    Err(BadScenario::Value { field, problem: problem.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_a_scenario() {
        let scenario: Scenario = "".parse().unwrap();
        assert_eq!((scenario.nodes, scenario.seed), (100, 1));
    }

    #[test]
    fn everything_can_be_said() {
        let text = r#"
            name = "all"
            nodes = 10
            [latency]
            median_ms = 20
            [churn]
            law = "weibull"
            mean_s = 600
            [[events]]
            at_s = 60
            kill = 0.25
            [[calls]]
            at_s = 30
            from = 2
            to = 3
            [bars]
            lookups = 0.99
        "#;
        let scenario: Scenario = text.parse().unwrap();
        assert_eq!(scenario.events[0].kill, Some(0.25));
        assert_eq!(scenario.churn.unwrap().law, Law::Weibull);
        assert_eq!(scenario.calls[0].duration_s, 10.0);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("nodez = 3", "nodez"),
            ("nodes = 0", "nodes"),
            ("loss = 1.5", "loss"),
            ("loss = nan", "loss"),
            ("overlay = 'pigeon'", "kademlia"),
            ("hash = 'crc'", "sha-256"),
            ("base = 3", "base"),
            ("nodes = 3\n[[calls]]\nat_s = 1\nfrom = 1\nto = 7", "from, to"),
        ] {
            let error = text.parse::<Scenario>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,200}") {
            let _ = text.parse::<Scenario>();
        }
    }
}
