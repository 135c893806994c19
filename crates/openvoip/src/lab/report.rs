//! What the laboratory measured.

use std::collections::BTreeMap;

use serde::Serialize;
use sim::report::Percentiles;

/// What was measured, with the field names of `openvoip lab --json`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Peers that were started.
    pub peers: usize,
    /// The overlay algorithm.
    pub overlay: String,
    /// What protected the messages.
    pub profile: String,
    /// The seed.
    pub seed: u64,
    /// From the start until every peer was in the overlay and every user published and read back.
    pub joined_ms: f64,
    /// Lookups.
    pub lookups: Lookups,
    /// Values stored.
    pub stores: Stores,
    /// The same after some were killed; absent if nobody was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_kill: Option<AfterKill>,
    /// Bytes that a peer sent per second while nobody did anything, mean over all, with IP and UDP headers.
    pub bytes_per_peer_per_s: Bytes,
    /// How long that was.
    pub idle_s: f64,
    /// Processor time of all peers in that while.
    pub idle_cpu_s: f64,
    /// Memory of the process at the end.
    pub rss_bytes: u64,
    /// Processor time of the process.
    pub cpu_s: f64,
    /// Time that everything took.
    pub wall_s: f64,
    /// What ought not to have happened.
    pub failures: Vec<String>,
}

/// Lookups of live users.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Lookups {
    /// Begun.
    pub issued: usize,
    /// Found the user at the right peer.
    pub succeeded: usize,
    /// How long those took that succeeded.
    pub time_ms: Percentiles,
    /// Peers on the way, mean of those that succeeded.
    pub hops_mean: f64,
    /// What one took.
    pub each: Cost,
}

/// Values stored at live peers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stores {
    /// Begun.
    pub issued: usize,
    /// Held by at least one peer.
    pub succeeded: usize,
    /// How long those took that succeeded.
    pub time_ms: Percentiles,
    /// What one took.
    pub each: Cost,
}

/// What one operation took of the whole laboratory, mean, the upkeep of all peers in that while included.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cost {
    /// Bytes sent, with IP and UDP headers, by the peers' ledgers.
    pub ledger_bytes: f64,
    /// The same as the kernel counts them for the whole network namespace.
    pub kernel_bytes: Option<f64>,
    /// Processor time of all peers.
    pub cpu_ms: f64,
}

/// Lookups of survivors by survivors, begun the moment the others were killed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AfterKill {
    /// Peers that were killed.
    pub killed: usize,
    /// Whether their sockets stayed open and unread.
    pub silently: bool,
    /// The lookups.
    pub lookups: Lookups,
    /// How long the slowest took that succeeded.
    pub slowest_ms: f64,
}

/// The same bytes counted twice; absent if nothing was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Bytes {
    /// By the peers.
    pub ledger: Option<f64>,
    /// By the peers, for each function that sent anything.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_function: BTreeMap<&'static str, f64>,
    /// By the kernel, for the whole network namespace.
    pub kernel: Option<f64>,
    /// Where the kernel's figure stands.
    pub kernel_source: &'static str,
}
