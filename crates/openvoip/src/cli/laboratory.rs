//! Whole networks on this machine, to look at and to measure.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use node::{Algorithm, Profile};
use openvoip::control::{self, exit};
use openvoip::{demo, lab};
use serde_json::json;

use super::answer::Context;
use super::lesson::Lesson;
use super::seconds;

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

/// Real peers on this machine: to measure, or with --interactive or --namespaces to teach.
///
/// Many peers live in this one process, each with its own sockets on loopback and one user. Users are looked
/// up, each by a peer that holds no copy of the record, and on request once more after a share of the peers
/// was killed at once; then the peers are left alone and what they send is counted. Exit 1 if anything
/// failed.
///
/// With --interactive commands are read from standard input, a line each: add, kill, watch, list, table,
/// lookup, put, get, status; `help` explains them. With --namespaces N the peers are processes in network
/// namespaces. Exit: the code of the first line that failed.
#[derive(Args)]
pub(crate) struct Lab {
    /// How many peers, 2 to 5000; each takes three sockets. Interactive: how many at the beginning [default: 8].
    #[arg(long, value_name = "N", required_unless_present_any = ["interactive", "namespaces"], value_parser = clap::value_parser!(u32).range(2..=lab::MAX_PEERS as i64))]
    peers: Option<u32>,
    /// Read commands and carry them out while the peers live.
    #[arg(long, conflicts_with_all = ["lookups", "stores", "kill_share", "silently", "settle", "idle"])]
    interactive: bool,
    /// The same with N peers at the beginning (1 to 250), each a process in a network namespace of its own.
    /// Needs root, or a system that lets users make namespaces.
    #[arg(long, value_name = "N", conflicts_with_all = ["peers", "lookups", "stores", "kill_share", "silently", "settle", "idle"], value_parser = clap::value_parser!(u32).range(1..=lab::MAX_PROCESSES as i64))]
    namespaces: Option<u32>,
    /// In namespaces, delay what every peer sends by so many milliseconds; needs netem in the kernel.
    #[arg(long, value_name = "MS", requires = "namespaces", default_value_t = 0.0, value_parser = delay)]
    delay_ms: f64,
    /// In namespaces, lose this share of what every peer sends; needs netem in the kernel.
    #[arg(long, value_name = "SHARE", requires = "namespaces", default_value_t = 0.0, value_parser = share)]
    loss: f64,
    /// How many lookups, one after the other.
    #[arg(long, value_name = "L", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=lab::MAX_LOOKUPS as i64))]
    lookups: u32,
    /// How many values to store, one after the other.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=lab::MAX_LOOKUPS as i64))]
    stores: u32,
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
    /// What protects messages between the peers: open, signed or secure.
    #[arg(long, default_value = "open", conflicts_with_all = ["interactive", "namespaces"])]
    profile: Profile,
    /// All keys, and who looks whom up, follow from this number.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Lab {
    pub(crate) fn run(self, context: &Context) -> i32 {
        if self.interactive || self.namespaces.is_some() {
            let cable = lab::Cable { delay_ms: self.delay_ms, loss: self.loss };
            let lesson = Lesson {
                peers: self.namespaces.or(self.peers).map(|n| n as usize),
                namespaces: self.namespaces.map(|_| cable),
                overlay: self.overlay,
                seed: self.seed,
            };
            return lesson.run(context);
        }
        let options = lab::Options {
            peers: self.peers.unwrap_or_default() as usize,
            lookups: self.lookups as usize,
            stores: self.stores as usize,
            kill_share: self.kill_share,
            silently: self.silently,
            settle: Duration::from_secs_f64(self.settle),
            idle: Duration::from_secs_f64(self.idle),
            overlay: self.overlay,
            profile: self.profile,
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

/// A delay in milliseconds, up to ten seconds.
fn delay(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ms) if (0.0..=10_000.0).contains(&ms) => Ok(ms),
        _ => Err("give milliseconds, from 0 to 10000".into()),
    }
}
