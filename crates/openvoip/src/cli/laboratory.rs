//! Whole networks on this machine, to look at and to measure.

use std::path::PathBuf;

use clap::Args;
use node::Algorithm;
use openvoip::demo;

use super::answer::Context;

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
