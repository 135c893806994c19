//! A thousand peers in one thread, in virtual time.
//!
//! The simulator is the second world around [`node::Node`]: the same peer that `openvoip up` runs,
//! driven by a queue of events instead of by sockets and a clock. Every datagram is encoded by one
//! peer and decoded by another; only the wire between them is imagined. Nothing here asks what time
//! it is or draws chance of its own, so one scenario with one seed gives one [`Report::log_hash`],
//! on every run.
//!
//! ```
//! let scenario: sim::Scenario = "nodes = 20\nduration_s = 100\nlookups_per_s = 1.0".parse().unwrap();
//! let report = sim::run(&scenario, &mut ());
//! assert_eq!(report.lookups.issued, report.lookups.succeeded);
//! assert!(report.violations.is_empty());
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`scenario`] | what is to happen, read from TOML |
//! | `net/` | the wire: models of latency, loss, boxes that translate addresses |
//! | `faults/` | what goes wrong: with datagrams, clocks, processes, disks |
//! | [`attack`] | peers that lie, drop and collude |
//! | `churn.rs` | how long peers stay |
//! | `queue.rs` | the order of events |
//! | `book.rs` | what many peers know alike, in memory once |
//! | `world.rs` | the loop that drives peers and phones |
//! | `workload/` | who joins, leaves, looks up, calls and writes, and when |
//! | `phone.rs` | scripted SIP phones with ears |
//! | `model.rs`, [`watch`] | what ought to happen, and whether it does all the time |
//! | `implicit/` | lookups among ten million peers, whose tables are derived |
//! | [`report`] | what did happen |
//! | [`sweep`], [`minimize`] | many runs in one; the smallest that still fails |
//! | [`hashes`] | that every build plays the same |

pub mod attack;
mod book;
mod chance;
mod churn;
mod faults;
pub mod hashes;
mod implicit;
pub mod minimize;
mod model;
mod net;
mod phone;
mod queue;
pub mod report;
pub mod scenario;
pub mod sweep;
pub mod watch;
mod workload;
mod world;

use std::net::SocketAddr;

use wire::Time;

pub use report::Report;
pub use scenario::{BadScenario, Scenario};

/// A datagram that was handed to the wire.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// When it was sent.
    pub at: Time,
    /// The sender's address.
    pub from: SocketAddr,
    /// The receiver's address.
    pub to: SocketAddr,
    /// What it says.
    pub bytes: &'a [u8],
    /// Whether it arrives.
    pub arrives: bool,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Virtual time.
    pub at: Time,
    /// Peers that run.
    pub live: usize,
    /// Events handled so far.
    pub events: u64,
    /// Lookups that have ended, and those among them that found their record.
    pub lookups: (u64, u64),
}

/// Someone who watches a run, and may know what a world without a clock or a system cannot know.
pub trait Observer {
    /// Memory in use by this process, in bytes. Asked before the first peer starts and once all run.
    fn memory(&mut self) -> Option<u64> {
        None
    }

    /// A datagram was sent between peers.
    fn sent(&mut self, _sent: &Sent<'_>) {}

    /// A peer, named by its number, told its world something.
    fn told(&mut self, _at: Time, _peer: usize, _event: &node::Event) {}

    /// Another ten virtual seconds have passed.
    fn progress(&mut self, _progress: Progress) {}
}

/// Nobody watches.
impl Observer for () {}

/// Plays a scenario to its end.
pub fn run(scenario: &Scenario, observer: &mut dyn Observer) -> Report {
    match scenario.model {
        scenario::Scope::Full => world::World::new(scenario, observer).run(),
        scenario::Scope::Implicit => implicit::run(scenario, observer),
    }
}
