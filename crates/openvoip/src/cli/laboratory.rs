//! Whole networks on this machine, to look at and to measure.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use node::Algorithm;
use openvoip::control::{self, exit};
use openvoip::{demo, lab};
use serde_json::json;

use super::answer::Context;
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
    /// All keys, and who looks whom up, follow from this number.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Lab {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let options = lab::Options {
            peers: self.peers as usize,
            lookups: self.lookups as usize,
            stores: self.stores as usize,
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
