//! Whole networks on this machine, to look at and to measure.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use node::{Algorithm, Event};
use openvoip::control::{self, exit};
use openvoip::{demo, lab, system};
use serde_json::json;
use sim::Scenario;
use wire::Time;
use wire::p2pp::Message;

use super::answer::Context;
use super::seconds;

/// Virtual time between two lines about a simulation, in milliseconds.
const PROGRESS_EVERY_MS: u64 = 60_000;

/// A whole network on this machine: peers, two phones, a call that is heard.
#[derive(Args)]
pub(crate) struct Demo {
    /// Without the live picture, which is shown on a terminal of at least 80 columns and 24 lines.
    #[arg(long)]
    headless: bool,
    /// Hear what bob's phone hears, where aplay, paplay or play is installed.
    #[arg(long)]
    listen: bool,
    /// Write what bob's phone heard to this WAV file.
    #[arg(long, value_name = "FILE")]
    wav: Option<PathBuf>,
    /// Judge it: exit 1 if anything is not as it should be.
    #[arg(long)]
    check: bool,
    /// How many peers, 3 to 500.
    #[arg(long, value_name = "N", default_value_t = 25)]
    peers: usize,
    /// The overlay algorithm.
    #[arg(long, value_name = "ALGORITHM", default_value = "kademlia")]
    overlay: Algorithm,
    /// All keys follow from this number.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Demo {
    pub(crate) fn run(self, context: &Context) -> i32 {
        demo::run(&demo::Options {
            peers: self.peers,
            overlay: self.overlay,
            seed: self.seed,
            check: self.check,
            json: context.json,
            headless: self.headless,
            listen: self.listen,
            wav: self.wav,
        })
    }
}

/// Measure real peers: many in this one process, each with its own sockets on loopback.
///
/// Every peer serves one user. Users are looked up, each by a peer that holds no copy of the record, and
/// on request once more after a share of the peers was killed at once; then the peers are left alone and
/// what they send is counted. Exit 1 if anything failed.
#[derive(Args)]
pub(crate) struct Lab {
    /// How many peers, 2 to 5000; each takes three sockets.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=lab::MAX_PEERS as i64))]
    peers: u32,
    /// How many lookups, one after the other.
    #[arg(long, value_name = "L", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=lab::MAX_LOOKUPS as i64))]
    lookups: u32,
    /// Kill this share of the peers after the lookups, and have the survivors look each other up at once.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    kill_share: f64,
    /// Keep the sockets of the killed open and unread, so that the system reports nothing of them.
    #[arg(long, requires = "kill_share")]
    silently: bool,
    /// How long to leave the peers alone before their bytes are counted, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    settle: f64,
    /// How long to count the bytes that they send while nobody does anything, in seconds; 0 measures none.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    idle: f64,
    /// The overlay algorithm.
    #[arg(long, value_name = "ALGORITHM", default_value = "kademlia")]
    overlay: Algorithm,
    /// All keys, and who looks whom up, follow from this number.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Lab {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let options = lab::Options {
            peers: self.peers as usize,
            lookups: self.lookups as usize,
            kill_share: self.kill_share,
            silently: self.silently,
            settle: Duration::from_secs_f64(self.settle),
            idle: Duration::from_secs_f64(self.idle),
            overlay: self.overlay,
            seed: self.seed,
        };
        match lab::run(&options, &mut |line| eprintln!("{line}")) {
            Ok(report) => {
                let code = if report.failures.is_empty() { exit::OK } else { exit::FAILED };
                context.show(control::answer("lab", code, json!(report)))
            }
            Err(e) => context.show(control::failure(exit::FAILED, &e, "openvoip lab --help")),
        }
    }
}

/// A share of the peers: none, or less than all.
fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("'{text}' is no number"))?;
    if (0.0..=0.9).contains(&share) { Ok(share) } else { Err("give a share from 0 to 0.9".into()) }
}

/// Play a scenario in virtual time: up to thousands of simulated peers in one thread.
///
/// Exit 1 if the report names violations. docs/simulator.md explains scenarios and figures.
#[derive(Args)]
pub(crate) struct Sim {
    /// The scenario, a TOML file.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// Another overlay algorithm than the scenario's.
    #[arg(long, value_name = "ALGORITHM")]
    overlay: Option<Algorithm>,
    /// Another seed than the scenario's.
    #[arg(long)]
    seed: Option<u64>,
    /// Another number of peers than the scenario's.
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,
    /// Write report.json and log.txt to this directory; the log takes about 70 bytes for each datagram.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Sim {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let scenario = match self.scenario() {
            Ok(scenario) => scenario,
            Err(e) => return context.show(control::failure(exit::CONFIG, &e, "see docs/simulator.md")),
        };
        match play(&scenario, self.out.as_deref()) {
            Ok(report) => {
                let code = if report.violations.is_empty() { exit::OK } else { exit::FAILED };
                context.show(control::answer("sim", code, json!(report)))
            }
            Err(e) => context.show(control::failure(exit::FAILED, &e, "choose another directory with --out")),
        }
    }

    fn scenario(&self) -> Result<Scenario, String> {
        let file = self.scenario.display();
        let text = fs::read_to_string(&self.scenario).map_err(|e| format!("cannot read {file}: {e}"))?;
        let mut scenario: Scenario = text.parse().map_err(|e| format!("{file}: {e}"))?;
        if let Some(overlay) = self.overlay {
            scenario.overlay = overlay.to_string();
        }
        scenario.seed = self.seed.unwrap_or(scenario.seed);
        scenario.nodes = self.nodes.unwrap_or(scenario.nodes);
        scenario.check().map_err(|e| e.to_string())?;
        Ok(scenario)
    }
}

fn play(scenario: &Scenario, out: Option<&Path>) -> Result<sim::Report, String> {
    let unwritten = |e: std::io::Error| format!("cannot write the report or the log: {e}");
    let log = match out {
        Some(dir) => {
            fs::create_dir_all(dir).map_err(unwritten)?;
            Some(BufWriter::new(File::create(dir.join("log.txt")).map_err(unwritten)?))
        }
        None => None,
    };
    let mut watcher = Watcher { log, failed: None };
    let start = Instant::now();
    let mut report = sim::run(scenario, &mut watcher);
    report.wall_s = start.elapsed().as_secs_f64();
    watcher.log.take().map_or(Ok(()), |mut log| log.flush()).map_err(unwritten)?;
    watcher.failed.map_or(Ok(()), Err).map_err(unwritten)?;
    if let Some(dir) = out {
        let text = serde_json::to_vec_pretty(&report).map_err(|e| e.to_string())?;
        fs::write(dir.join("report.json"), text).map_err(unwritten)?;
    }
    Ok(report)
}

/// Shows how far a simulation is, and writes down what happens in it.
struct Watcher {
    log: Option<BufWriter<File>>,
    failed: Option<std::io::Error>,
}

impl Watcher {
    fn write(&mut self, line: std::fmt::Arguments<'_>) {
        let Some(log) = &mut self.log else { return };
        if let Err(e) = log.write_fmt(line) {
            self.failed = Some(e);
            self.log = None;
        }
    }
}

impl sim::Observer for Watcher {
    fn memory(&mut self) -> Option<u64> {
        Some(system::rss_bytes()).filter(|bytes| *bytes > 0)
    }

    fn sent(&mut self, sent: &sim::Sent<'_>) {
        if self.log.is_none() {
            return;
        }
        let seconds = sent.at.as_micros() as f64 / 1e6;
        let fate = if sent.arrives { "" } else { " lost" };
        let (from, to, len) = (sent.from, sent.to, sent.bytes.len());
        match Message::parse(sent.bytes) {
            Ok(Message { header: h, .. }) => {
                self.write(format_args!(
                    "{seconds:.6} {from} > {to} {:?} {:?} {len}{fate}\n",
                    h.message, h.class
                ));
            }
            Err(_) => self.write(format_args!("{seconds:.6} {from} > {to} other {len}{fate}\n")),
        }
    }

    fn told(&mut self, at: Time, peer: usize, event: &Event) {
        self.write(format_args!("{:.6} peer {peer}: {event:?}\n", at.as_micros() as f64 / 1e6));
    }

    fn progress(&mut self, p: sim::Progress) {
        if p.at.as_millis().is_multiple_of(PROGRESS_EVERY_MS) {
            let (ended, found) = p.lookups;
            let seconds = p.at.as_millis() / 1_000;
            eprintln!("{seconds} s: {} peers, {} events, {found} of {ended} lookups", p.live, p.events);
        }
    }
}
