//! Whole networks on this machine, to look at and to measure.

use clap::Args;
use node::Algorithm;
use openvoip::demo;

use super::answer::Context;

/// A whole network on this machine: peers, two phones, a call that is heard.
#[derive(Args)]
pub(crate) struct Demo {
    /// Without a picture of it.
    #[arg(long)]
    headless: bool,
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
        let _picture = !self.headless;
        demo::run(self.peers, self.overlay, self.seed, self.check, context.json)
    }
}
