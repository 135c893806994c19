//! A laboratory: many real peers in this one process, each with its own sockets on 127.0.0.1.
//!
//! Every peer serves one user. When all have joined and their users are published, users are looked
//! up, each by a peer that holds no copy of the record. On request a share of the peers is then killed at
//! once, and the survivors look each other up again, at once. At last nobody does anything for a while, and
//! what the peers send for their own upkeep is counted: once by their ledgers and once by the kernel.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use node::report::LookupReport;
use node::{
    Algorithm, Config, Event, Identity, LookupOptions, Node, OpId, Outcome, OverlayOptions, Saved, User,
};
use serde::Serialize;
use sim::report::Percentiles;
use wire::{HashAlgorithm, KeyPair, ResourceId, Rng, RngExt, Seed};

use crate::run::{Bound, World};
use crate::serve::unix_now;
use crate::system;

/// Most peers: their ports are drawn from about 28,000 that a system gives out.
pub const MAX_PEERS: usize = 5_000;

/// Most lookups of one run.
pub const MAX_LOOKUPS: usize = 1_000_000;

/// Peers that join at once; more would measure the queue in front of the first peer.
const JOINING_AT_ONCE: usize = 32;

/// Sockets of a peer: peer port, and UDP and TCP for phones.
const SOCKETS: u64 = 3;

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
    /// All keys, and who looks whom up, follow from this number.
    pub seed: u64,
}

/// What was measured, with the field names of `openvoip lab --json`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Peers that were started.
    pub peers: usize,
    /// The overlay algorithm.
    pub overlay: String,
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

struct Lab {
    world: World,
    /// Numbers of the peers that have not been killed.
    living: Vec<usize>,
    rng: Rng,
    online: usize,
    published: usize,
    done: BTreeMap<(usize, OpId), Outcome>,
    failures: Vec<String>,
}

/// Builds the laboratory, measures, and takes it down; `progress` is told what happens.
///
/// # Errors
/// In words, if the system does not give enough sockets.
pub fn run(options: &Options, progress: &mut dyn FnMut(String)) -> Result<Report, String> {
    let start = Instant::now();
    let peers = options.peers.clamp(2, MAX_PEERS);
    system::allow_open_files(peers as u64 * SOCKETS + 64)?;
    let io = |e: std::io::Error| e.to_string();
    let mut lab = Lab {
        world: World::new().map_err(io)?,
        living: (0..peers).collect(),
        rng: Seed::from_number(options.seed).rng(),
        online: 0,
        published: 0,
        done: BTreeMap::new(),
        failures: Vec::new(),
    };

    lab.join(options, peers, progress)?;
    let joined_ms = start.elapsed().as_secs_f64() * 1e3;
    progress(format!("{} of {peers} peers joined, {joined_ms:.0} ms", lab.online));
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
    lab.turn(options.settle, |_| false).map_err(io)?;

    let (cpu, idle_start) = (system::cpu_time(), Instant::now());
    let bytes_per_peer_per_s = lab.idle(options.idle).map_err(io)?;
    Ok(Report {
        peers,
        overlay: options.overlay.to_string(),
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

fn user(n: usize) -> String {
    format!("user{n}@lab.test")
}

impl Lab {
    /// Lets the peers work for at most `longest`, or until `until`; says whether that came to be.
    fn turn(&mut self, longest: Duration, until: impl Fn(&Lab) -> bool) -> std::io::Result<bool> {
        let end = Instant::now() + longest;
        while !until(self) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let mut told = Vec::new();
            self.world
                .turn(left.min(Duration::from_millis(100)), &mut |peer, event| told.push((peer, event)))?;
            told.into_iter().for_each(|(peer, event)| self.note(peer, event));
        }
        Ok(true)
    }

    fn note(&mut self, peer: usize, event: Event) {
        match event {
            Event::Online => self.online += 1,
            Event::Published { .. } => self.published += 1,
            Event::Done { op, outcome } => drop(self.done.insert((peer, op), outcome)),
            _ => {}
        }
    }

    fn fail(&mut self, failure: String) {
        if self.failures.len() < MAX_FAILURES {
            self.failures.push(failure);
        }
    }

    fn join(
        &mut self,
        options: &Options,
        peers: usize,
        progress: &mut dyn FnMut(String),
    ) -> Result<(), String> {
        let io = |e: std::io::Error| e.to_string();
        let patience = Duration::from_secs(30) + Duration::from_millis(100) * peers as u32;
        let end = Instant::now() + patience;
        let mut first = None;
        for n in 0..peers {
            let address = self.add_peer(options, n, first)?;
            first.get_or_insert(address);
            let left = end.saturating_duration_since(Instant::now());
            self.turn(left, |lab| n + 1 < lab.online + JOINING_AT_ONCE).map_err(io)?;
            if (n + 1).is_multiple_of(250) {
                progress(format!("{} peers joined", self.online));
            }
        }
        let left = end.saturating_duration_since(Instant::now());
        if !self.turn(left, |lab| lab.online >= peers && lab.published >= peers).map_err(io)? {
            let (online, published) = (self.online, self.published);
            self.fail(format!(
                "{online} of {peers} peers joined and {published} of their users were published"
            ));
        }
        Ok(())
    }

    fn add_peer(
        &mut self,
        options: &Options,
        n: usize,
        bootstrap: Option<SocketAddr>,
    ) -> Result<SocketAddr, String> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = Bound::new(any, true, any, true)?;
        let listen = bound.peer_address;
        let mut key = || KeyPair::from_seed(Seed::child_of(&mut self.rng));
        let identity = Identity { peer: key(), users: vec![User { aor: user(n), keys: key() }] };
        let config = Config {
            listen,
            sip: bound.sip_address,
            bootstrap: bootstrap.into_iter().collect(),
            overlay: OverlayOptions {
                name: "lab.test".into(),
                algorithm: options.overlay,
                ..OverlayOptions::default()
            },
            ..Config::default()
        };
        let seed = Seed::child_of(&mut self.rng);
        let node = Node::new(config, identity, Saved::default(), seed, self.world.now(), unix_now());
        let index = self.world.add(node, bound).map_err(|e| e.to_string())?;
        let mut told = Vec::new();
        // What it wants to send first lies ready.
        self.world.with(index, &mut |_, event| told.push(event), |_, _| {});
        told.into_iter().for_each(|event| self.note(index, event));
        Ok(listen)
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
            let home = self.world.node(sought).node_id().map(|id| id.to_string()).unwrap_or_default();
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
        let killed = (options.kill_share * self.living.len() as f64).round() as usize;
        for _ in 0..killed {
            let place = self.rng.random_range(0..self.living.len());
            let victim = self.living.swap_remove(place);
            match options.silently {
                true => self.world.freeze(victim)?,
                false => self.world.kill(victim),
            }
        }
        let (lookups, slowest_ms) = self.look_up(count)?;
        Ok(AfterKill { killed, silently: options.silently, lookups, slowest_ms })
    }

    fn store(&mut self, count: usize) -> std::io::Result<Stores> {
        let mut stores = Stores { issued: count, ..Stores::default() };
        let mut times = Vec::new();
        let before = self.books();
        for n in 0..count {
            let peer = self.living[self.rng.random_range(0..self.living.len())];
            let (mut told, start) = (Vec::new(), Instant::now());
            let op = self.world.with(peer, &mut |_, event| told.push(event), |node, now| {
                node.put(now, &format!("value{n}"), b"some thirty bytes of some value", None)
            });
            told.into_iter().for_each(|event| self.note(peer, event));
            self.turn(Duration::from_secs(10), |lab| lab.done.contains_key(&(peer, op)))?;
            match self.done.remove(&(peer, op)) {
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
        for (function, _, sent) in self.living.iter().flat_map(|n| self.world.node(*n).ledger().totals()) {
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
        self.living.iter().filter(|peer| self.world.node(**peer).holds(&place)).count()
    }

    /// A peer, and another one whose user's record it does not hold.
    fn strangers(&mut self) -> Option<(usize, usize)> {
        (0..1_000).find_map(|_| {
            let mut someone = || self.living[self.rng.random_range(0..self.living.len())];
            let (seeker, sought) = (someone(), someone());
            let place: ResourceId = node::directory::place_of_user(HashAlgorithm::Sha256, &user(sought));
            let is_stranger = seeker != sought && !self.world.node(seeker).holds(&place);
            is_stranger.then_some((seeker, sought))
        })
    }

    fn look_up_one(&mut self, seeker: usize, sought: usize) -> std::io::Result<LookupReport> {
        let mut told = Vec::new();
        // Copies that the asker might have do not count.
        let options = LookupOptions { fresh: true, ..LookupOptions::default() };
        let op = self.world.with(seeker, &mut |_, event| told.push(event), |node, now| {
            node.lookup_user(now, &user(sought), options)
        });
        told.into_iter().for_each(|event| self.note(seeker, event));
        self.turn(Duration::from_secs(10), |lab| lab.done.contains_key(&(seeker, op)))?;
        Ok(match self.done.remove(&(seeker, op)) {
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
        self.turn(idle, |_| false)?;
        let after = self.books();
        let per_peer = |bytes: u64| bytes as f64 / self.living.len() as f64 / start.elapsed().as_secs_f64();
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
