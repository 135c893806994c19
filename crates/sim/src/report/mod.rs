//! What happened: the figures of a run, with the field names of `openvoip sim --json`.
//!
//! | file | holds |
//! |---|---|
//! | `summary.rs` | from what happened to the figures, and whether they meet the bars |
//! | [`series`] | the course of the run, as rows |
//! | [`html`] | the report as a page with plots |
//! | [`table`] | many runs as one table |
//! | [`plot`] | many runs as plots |
//! | `model.rs` | bytes as papers count them |

pub mod html;
mod model;
pub mod plot;
pub mod series;
mod summary;
pub mod table;

use std::collections::BTreeMap;

use serde::Serialize;

pub(crate) use model::ModelBytes;
pub(crate) use summary::mean_ms;

use crate::scenario::{Numbers, SignatureKind};

/// Failures and violations spelt out in full; the rest are counted.
pub const MAX_SPELT_OUT: usize = 32;

/// What happened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Name and version of this form.
    pub schema: &'static str,
    /// The scenario's name.
    pub scenario: String,
    /// Its seed.
    pub seed: u64,
    /// Peers that ran at once.
    pub nodes: usize,
    /// The overlay algorithm.
    pub overlay: String,
    /// Whether signatures were real.
    pub signatures: SignatureKind,
    /// Whether users had numbers, and whether these cost what they do.
    pub numbers: Numbers,
    /// Virtual time that passed.
    pub virtual_s: f64,
    /// Real time that it took; filled in by whoever has a clock.
    pub wall_s: f64,
    /// Events handled.
    pub events: u64,
    /// Datagrams sent between peers, and those among them that arrived nowhere.
    pub datagrams: Datagrams,
    /// A hash over every datagram and every outcome: the same scenario gives the same one.
    pub log_hash: String,
    /// Peers that came and went.
    pub population: Population,
    /// Lookups of users who were there.
    pub lookups: Lookups,
    /// What peers sent, with IP and UDP headers.
    pub bytes_per_node_per_s: Bytes,
    /// The part of it that nobody asked for: keep-alive, joining, tables, storage.
    pub maintenance_bytes_per_node_per_s: Bytes,
    /// How often peers put work off or refused it for want of budget, in all, by sort.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub shed: BTreeMap<&'static str, u64>,
    /// Bytes as simulation papers count them, if the scenario asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_bytes_per_node_per_s: Option<Bytes>,
    /// Memory per peer, if the observer can tell.
    pub bytes_per_node_memory: Option<u64>,
    /// What people did besides, at random.
    #[serde(skip_serializing_if = "Workload::is_idle")]
    pub workload: Workload,
    /// How often each kind of fault did something: hit a peer, lost or changed a datagram.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<String, u64>,
    /// What attackers came to, if there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack: Option<crate::attack::Tally>,
    /// Spans of time with figures of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
    /// After each event that took peers away: how lookups recovered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recoveries: Vec<Recovery>,
    /// Share of sampled users whose record the peer holds to which it belongs, mean over the run.
    pub consistency: Option<f64>,
    /// What links kept warm cost, where the workload has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm: Option<Warm>,
    /// Most happenings that waited at once.
    pub queue_peak: usize,
    /// The command that plays exactly this again; filled in by whoever knows the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<String>,
    /// Scripted calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// Scripted messages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// What ought not to have happened.
    pub violations: Vec<String>,
    /// The course of the run.
    #[serde(skip)]
    pub series: Vec<series::Row>,
    /// How long each successful lookup took, in milliseconds, sorted.
    #[serde(skip)]
    pub lookup_times: Vec<f64>,
}

/// What peers behind boxes send that keep links warm.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Warm {
    /// Links that a peer found warm when it looked, mean.
    pub links_mean: f64,
    /// Windows of ten minutes that were counted, of all such peers.
    pub windows: usize,
    /// Bytes sent per second, with IP and UDP headers, mean over the windows.
    pub bytes_per_s_mean: f64,
    /// Their 99th percentile.
    pub bytes_per_s_p99: f64,
}

/// What people did at random besides looking each other up.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Workload {
    /// Users added, and those among them that were published and read back.
    pub registrations: Tally,
    /// Calls, and those that were answered and heard.
    pub calls: Tally,
    /// Messages, and those that were delivered.
    pub messages: Tally,
}

impl Workload {
    fn is_idle(&self) -> bool {
        [&self.registrations, &self.calls, &self.messages].iter().all(|t| t.issued + t.abandoned == 0)
    }
}

/// How often something was tried.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// Begun, and ended with a verdict.
    pub issued: u64,
    /// Ended as it should.
    pub succeeded: u64,
    /// Failed because the other went meanwhile.
    pub abandoned: u64,
    /// How long those took that succeeded.
    pub time_ms: Percentiles,
}

/// Lookups begun in a span of time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// Lookups that ended.
    pub issued: u64,
    /// Those that found their record.
    pub succeeded: u64,
    /// How long those took.
    pub time_ms: Percentiles,
}

/// How lookups recovered after peers were taken away.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Recovery {
    /// When.
    pub at_s: f64,
    /// Share of the lookups begun within ten seconds after it that succeeded.
    pub first_share: f64,
    /// Until, of all lookups begun later and before the next such event, 99.9 % succeed.
    pub to_999_s: Option<f64>,
}

/// Datagrams between peers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Datagrams {
    /// Sent.
    pub sent: u64,
    /// Dropped by the wire.
    pub lost: u64,
    /// Those dropped, by reason: a kind of fault, `nat`, or what else.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub lost_by: BTreeMap<&'static str, u64>,
    /// Sent to a peer that was gone.
    pub to_nobody: u64,
    /// The longest, in bytes of payload.
    pub longest_bytes: usize,
}

/// Peers that came and went.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Population {
    /// Peers that started.
    pub joined: u64,
    /// Peers that said goodbye.
    pub left: u64,
    /// Peers that fell silent.
    pub crashed: u64,
    /// Peers that came back.
    pub returned: u64,
    /// From start to being in the overlay, 95th percentile.
    pub online_p95_ms: f64,
    /// From start to the user's record being read back, 95th percentile.
    pub published_p95_ms: f64,
}

/// Lookups.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Lookups {
    /// Begun, each by a peer that held no copy of the record, and ended.
    pub issued: u64,
    /// Found the user at the right peer.
    pub succeeded: u64,
    /// Without a verdict: the asker or the owner went meanwhile, or the run ended.
    pub abandoned: u64,
    /// Peers on the way, mean of those that succeeded.
    pub hops_mean: f64,
    /// How long those took that succeeded.
    pub time_ms: Percentiles,
    /// The mean over all issued, a failure counting as ten seconds.
    pub time_mean_ms: f64,
    /// Messages that the asker sent, mean.
    pub messages_mean: f64,
    /// Messages that anybody sent for one lookup, acknowledgements and pings of silent hops included,
    /// mean; where it can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_messages_mean: Option<f64>,
    /// How many ended in which mode.
    pub modes: BTreeMap<String, u64>,
    /// The first failures, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
}

/// Percentiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// Nineteen of twenty are below.
    pub p95: f64,
    /// Ninety-nine of a hundred are below.
    pub p99: f64,
}

impl Percentiles {
    /// The percentiles of these values; zero if there are none.
    pub fn of(values: &mut [f64]) -> Self {
        values.sort_by(f64::total_cmp);
        Percentiles {
            p50: percentile(values, 0.50),
            p95: percentile(values, 0.95),
            p99: percentile(values, 0.99),
        }
    }
}

/// The value below or at which this share of the sorted values lies (nearest rank).
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0.0)
}

/// Rates of bytes sent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Bytes {
    /// All bytes over all time that peers were there.
    pub mean: f64,
    /// Over the whole stay of a peer; 99 of 100 peers that stayed a minute send less.
    pub p99: f64,
    /// The mean, by what it was for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_function: BTreeMap<String, f64>,
}

/// A scripted call.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Call {
    /// Who called.
    pub from: String,
    /// Who was called.
    pub to: String,
    /// From dialling to the answer at the caller's phone, if there was one.
    pub setup_ms: Option<f64>,
    /// `direct`, `nat` or `relay`, as the caller's peer says.
    pub path: String,
    /// Seconds of the callee's tone that the caller heard.
    pub heard_by_caller_s: f64,
    /// Seconds of the caller's tone that the callee heard.
    pub heard_by_callee_s: f64,
    /// Estimated quality at the caller's peer.
    pub mos: f64,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A scripted message.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Message {
    /// Who wrote.
    pub from: String,
    /// To whom.
    pub to: String,
    /// Whether the phone it was for showed it.
    pub shown: bool,
    /// The SIP status that the sender's phone saw, 0 for none.
    pub status: u16,
    /// From sending to that status.
    pub time_ms: f64,
}

/// A hash over everything that happens, in order (FNV-1a, 64 bits: not for safety, for sameness).
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogHash(u64);

impl Default for LogHash {
    fn default() -> Self {
        LogHash(0xcbf2_9ce4_8422_2325)
    }
}

impl LogHash {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) fn number(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x0000_0100_0000_01b3);
        self.0 ^= self.0 >> 29;
    }

    pub(crate) fn text(self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(Percentiles::of(&mut values), Percentiles { p50: 100.0, p95: 190.0, p99: 198.0 });
        assert_eq!(Percentiles::of(&mut []), Percentiles::default());
        assert_eq!(percentile(&[7.0], 0.01), 7.0);
    }

    #[test]
    fn the_hash_is_the_published_one() {
        let mut hash = LogHash::default();
        hash.add(b"a");
        assert_eq!(hash.text(), "af63dc4c8601ec8c");
    }
}
