//! A laboratory: many real peers in this one process, each with its own sockets on 127.0.0.1.
//!
//! Every peer serves one user. When all have joined and their users are published, users are looked
//! up, each by a peer that holds no copy of the record. On request a share of the peers is then killed at
//! once, and the survivors look each other up again, at once. At last nobody does anything for a while, and
//! what the peers send for their own upkeep is counted: once by their ledgers and once by the kernel.
//!
//! `lab/session.rs` is the other use of it: to teach, line by line, with peers in this process or as
//! processes in network namespaces (`lab/namespaces.rs`).

mod bench;
mod namespaces;
mod order;
mod peers;
mod report;
mod session;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use node::report::LookupReport;
use node::{Algorithm, LookupOptions, Outcome, Profile};
use sim::report::Percentiles;
use wire::{HashAlgorithm, ResourceId, RngExt};

use crate::system;
use peers::{Peers, user};

pub use bench::{Bench, InProcess};
pub use namespaces::{Cable, DIR_VARIABLE, MAX_PROCESSES, Namespaces, enclose};
pub use report::{AfterKill, Bytes, Cost, Lookups, Report, Stores};
pub use session::{Audience, Said, Session};

/// Most peers: their ports are drawn from about 28,000 that a system gives out.
pub const MAX_PEERS: usize = 5_000;

/// Most lookups of one run.
pub const MAX_LOOKUPS: usize = 1_000_000;

/// How long an operation may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Failures spelt out; the rest are counted.
const MAX_FAILURES: usize = 20;

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Peers.
    pub peers: usize,
    /// Lookups, one after the other.
    pub lookups: usize,
    /// Values stored, one after the other.
    pub stores: usize,
    /// The share of the peers that is killed after the lookups, 0 to less than 1.
    pub kill_share: f64,
    /// Whether the sockets of the killed stay open and unread, as if a cable had been cut: the kernel then
    /// reports nothing of them. Else their ports are closed.
    pub silently: bool,
    /// How long the peers are left alone before it is counted what they send.
    pub settle: Duration,
    /// How long it is counted.
    pub idle: Duration,
    /// The overlay algorithm.
    pub overlay: Algorithm,
    /// What protects messages between the peers.
    pub profile: Profile,
    /// All keys, and who looks whom up, follow from this number.
    pub seed: u64,
}

/// The books of the whole laboratory at one moment.
struct Books {
    /// By function.
    ledger: BTreeMap<&'static str, u64>,
    kernel: Option<u64>,
    cpu: Duration,
}

impl Books {
    fn sum(&self) -> u64 {
        self.ledger.values().sum()
    }
}

struct Lab {
    peers: Peers,
    failures: Vec<String>,
}

/// Builds the laboratory, measures, and takes it down; `progress` is told what happens.
///
/// # Errors
/// In words, if the system does not give enough sockets.
pub fn run(options: &Options, progress: &mut dyn FnMut(String)) -> Result<Report, String> {
    let start = Instant::now();
    let peers = options.peers.clamp(2, MAX_PEERS);
    let io = |e: std::io::Error| e.to_string();
    let mut lab = Lab {
        peers: Peers::new(options.overlay, options.profile, options.seed).map_err(io)?,
        failures: Vec::new(),
    };
    let late = lab.peers.join(peers, progress)?;
    if !late.is_empty() {
        lab.fail(format!("{} of {peers} peers did not join and publish their users in time", late.len()));
    }
    let joined_ms = start.elapsed().as_secs_f64() * 1e3;
    progress(format!("{} of {peers} peers joined, {joined_ms:.0} ms", peers - late.len()));
    let count = options.lookups.min(MAX_LOOKUPS);
    let (lookups, _) = lab.look_up(count).map_err(io)?;
    progress(format!("{} of {} lookups succeeded", lookups.succeeded, lookups.issued));
    let stores = lab.store(options.stores.min(MAX_LOOKUPS)).map_err(io)?;
    let after_kill = match options.kill_share > 0.0 {
        true => Some(lab.look_up_after_kill(options, count).map_err(io)?),
        false => None,
    };
    if let Some(AfterKill { killed, lookups, slowest_ms, .. }) = &after_kill {
        let (found, of) = (lookups.succeeded, lookups.issued);
        progress(format!(
            "{killed} peers killed: {found} of {of} lookups succeeded, slowest {slowest_ms:.1} ms"
        ));
    }
    lab.peers.turn(options.settle, |_| false).map_err(io)?;

    let (cpu, idle_start) = (system::cpu_time(), Instant::now());
    let bytes_per_peer_per_s = lab.idle(options.idle).map_err(io)?;
    Ok(Report {
        peers,
        overlay: options.overlay.to_string(),
        profile: options.profile.to_string(),
        seed: options.seed,
        joined_ms,
        lookups,
        stores,
        after_kill,
        bytes_per_peer_per_s,
        idle_s: idle_start.elapsed().as_secs_f64(),
        idle_cpu_s: (system::cpu_time() - cpu).as_secs_f64(),
        rss_bytes: system::rss_bytes(),
        cpu_s: system::cpu_time().as_secs_f64(),
        wall_s: start.elapsed().as_secs_f64(),
        failures: lab.failures,
    })
}

impl Lab {
    fn fail(&mut self, failure: String) {
        if self.failures.len() < MAX_FAILURES {
            self.failures.push(failure);
        }
    }

    /// Looks users up one after the other; returns how that went, and the longest time that one took.
    fn look_up(&mut self, count: usize) -> std::io::Result<(Lookups, f64)> {
        let mut lookups = Lookups::default();
        let (mut times, mut hops) = (Vec::new(), 0);
        let before = self.books();
        for _ in 0..count {
            let Some((seeker, sought)) = self.strangers() else {
                self.fail(
                    "every peer holds every record: there is nothing to look up; use more peers".into(),
                );
                break;
            };
            lookups.issued += 1;
            let report = self.look_up_one(seeker, sought)?;
            let home = self.peers.world.node(sought).node_id().map(|id| id.to_string()).unwrap_or_default();
            if report.record.is_some_and(|record| record.nodes.contains(&home)) {
                lookups.succeeded += 1;
                hops += u64::from(report.hops);
                times.push(report.time_ms);
            } else {
                let (user, mode, holders) = (user(sought), report.mode, self.holders(&user(sought)));
                self.fail(format!(
                    "peer {seeker} did not find {user} ({mode}), held by {holders} of the living"
                ));
            }
        }
        lookups.hops_mean = hops as f64 / lookups.succeeded.max(1) as f64;
        let slowest = times.iter().copied().fold(0.0, f64::max);
        lookups.time_ms = Percentiles::of(&mut times);
        lookups.each = self.cost_since(&before, lookups.issued);
        Ok((lookups, slowest))
    }

    /// Kills a share of the peers at once, without a goodbye, and has the others look each other up.
    fn look_up_after_kill(&mut self, options: &Options, count: usize) -> std::io::Result<AfterKill> {
        let killed = (options.kill_share * self.peers.living.len() as f64).round() as usize;
        for _ in 0..killed {
            let place = self.peers.rng.random_range(0..self.peers.living.len());
            let victim = self.peers.living[place];
            self.peers.kill(victim, options.silently)?;
        }
        let (lookups, slowest_ms) = self.look_up(count)?;
        Ok(AfterKill { killed, silently: options.silently, lookups, slowest_ms })
    }

    fn store(&mut self, count: usize) -> std::io::Result<Stores> {
        let mut stores = Stores { issued: count, ..Stores::default() };
        let mut times = Vec::new();
        let before = self.books();
        for n in 0..count {
            let peer = self.peers.living[self.peers.rng.random_range(0..self.peers.living.len())];
            let start = Instant::now();
            let op = self.peers.tell(peer, |node, now| {
                node.put(now, &format!("value{n}"), b"some thirty bytes of some value", None)
            });
            match self.peers.outcome(peer, op, PATIENCE)? {
                Some(Outcome::Stored { holders, .. }) if holders > 0 => {
                    stores.succeeded += 1;
                    times.push(start.elapsed().as_secs_f64() * 1e3);
                }
                _ => self.fail(format!("peer {peer} did not store value{n}")),
            }
        }
        stores.time_ms = Percentiles::of(&mut times);
        stores.each = self.cost_since(&before, count);
        Ok(stores)
    }

    fn books(&self) -> Books {
        let mut ledger: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (function, _, sent) in
            self.peers.living.iter().flat_map(|n| self.peers.world.node(*n).ledger().totals())
        {
            *ledger.entry(function.name()).or_default() += sent;
        }
        Books { ledger, kernel: system::ip_bytes_sent(), cpu: system::cpu_time() }
    }

    fn cost_since(&self, before: &Books, count: usize) -> Cost {
        let (after, count) = (self.books(), count.max(1) as f64);
        let kernel = before.kernel.zip(after.kernel);
        Cost {
            ledger_bytes: (after.sum() - before.sum()) as f64 / count,
            kernel_bytes: kernel.map(|(before, after)| (after - before) as f64 / count),
            cpu_ms: (after.cpu - before.cpu).as_secs_f64() * 1e3 / count,
        }
    }

    /// How many living peers hold the record of a user.
    fn holders(&self, user: &str) -> usize {
        let place = node::directory::place_of_user(HashAlgorithm::Sha256, user);
        self.peers.living.iter().filter(|peer| self.peers.world.node(**peer).holds(&place)).count()
    }

    /// A peer, and another one whose user's record it does not hold.
    fn strangers(&mut self) -> Option<(usize, usize)> {
        (0..1_000).find_map(|_| {
            let mut someone = || self.peers.living[self.peers.rng.random_range(0..self.peers.living.len())];
            let (seeker, sought) = (someone(), someone());
            let place: ResourceId = node::directory::place_of_user(HashAlgorithm::Sha256, &user(sought));
            let is_stranger = seeker != sought && !self.peers.world.node(seeker).holds(&place);
            is_stranger.then_some((seeker, sought))
        })
    }

    fn look_up_one(&mut self, seeker: usize, sought: usize) -> std::io::Result<LookupReport> {
        // Copies that the asker might have do not count.
        let options = LookupOptions { fresh: true, ..LookupOptions::default() };
        let op = self.peers.tell(seeker, |node, now| node.lookup_user(now, &user(sought), options));
        Ok(match self.peers.outcome(seeker, op, PATIENCE)? {
            Some(Outcome::Lookup(report)) => report,
            _ => LookupReport { mode: "no answer".into(), ..LookupReport::default() },
        })
    }

    /// Leaves the peers alone and counts what they send.
    fn idle(&mut self, idle: Duration) -> std::io::Result<Bytes> {
        let kernel_source = "IpExt OutOctets of /proc/net/netstat: everything sent in this network namespace";
        if idle.is_zero() {
            return Ok(Bytes { kernel_source, ..Bytes::default() });
        }
        let (before, start) = (self.books(), Instant::now());
        self.peers.turn(idle, |_| false)?;
        let after = self.books();
        let per_peer =
            |bytes: u64| bytes as f64 / self.peers.living.len() as f64 / start.elapsed().as_secs_f64();
        let kernel = before.kernel.zip(after.kernel).map(|(before, after)| per_peer(after - before));
        let ledger = Some(per_peer(after.sum() - before.sum()));
        let grown =
            |(name, sent): (&&'static str, &u64)| (*name, sent - before.ledger.get(name).unwrap_or(&0));
        let books = after.ledger.iter().map(grown).filter(|(_, bytes)| *bytes > 0);
        let by_function = books.map(|(name, bytes)| (name, per_peer(bytes))).collect();
        Ok(Bytes { ledger, by_function, kernel, kernel_source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(peers: usize, lookups: usize) -> Options {
        Options {
            peers,
            lookups,
            stores: 0,
            kill_share: 0.0,
            silently: false,
            settle: Duration::ZERO,
            idle: Duration::ZERO,
            overlay: Algorithm::Kademlia,
            profile: Profile::Open,
            seed: 3,
        }
    }

    #[test]
    fn strangers_find_each_other_in_a_real_overlay() {
        // Longer than a peer is ever silent after joining.
        let options = Options { idle: Duration::from_secs(4), stores: 5, ..options(12, 30) };
        let report = run(&options, &mut |_| {}).unwrap();
        assert_eq!(report.failures, [""; 0]);
        assert_eq!((report.lookups.issued, report.lookups.succeeded), (30, 30));
        assert!(report.lookups.hops_mean >= 1.0, "{report:?}");
        assert!(report.lookups.each.ledger_bytes > 100.0, "{report:?}");
        assert_eq!((report.stores.issued, report.stores.succeeded), (5, 5));
        assert!(report.stores.each.ledger_bytes > 500.0, "{report:?}");
        assert!(report.bytes_per_peer_per_s.ledger.unwrap() > 0.0);
        assert!(report.cpu_s > 0.0 && report.idle_s >= 4.0 && report.rss_bytes > 0);
    }

    #[test]
    fn where_everybody_holds_everything_there_is_nothing_to_look_up() {
        let report = run(&options(3, 5), &mut |_| {}).unwrap();
        assert_eq!(report.lookups.issued, 0);
        assert!(report.failures[0].contains("more peers"), "{:?}", report.failures);
        assert!(report.bytes_per_peer_per_s.ledger.is_none());
    }

    #[test]
    fn survivors_find_each_other_whether_the_kernel_tells_of_the_dead_or_not() {
        for silently in [false, true] {
            let options = Options { kill_share: 0.25, silently, ..options(16, 20) };
            let report = run(&options, &mut |_| {}).unwrap();
            assert_eq!(report.failures, [""; 0]);
            let after = report.after_kill.unwrap();
            assert_eq!((after.killed, after.silently), (4, silently));
            assert_eq!((after.lookups.issued, after.lookups.succeeded), (20, 20));
        }
    }
}
