//! The log hashes of a small rough scenario, for every algorithm and twenty seeds.
//!
//! `scenarios/hashes.txt` holds what they are; a test compares a debug build with it, continuous
//! integration a release build. A change of behaviour changes them on purpose: the example `hashes`
//! writes them anew. Latencies go through the logarithm and the cosine of the platform, so they hold for
//! Linux on x86-64 with glibc.

use std::fmt::Write;
use std::ops::RangeInclusive;

use node::Algorithm;

use crate::Scenario;

/// What a release build found.
pub const TABLE: &str = include_str!("../../../scenarios/hashes.txt");

/// The seeds.
pub const SEEDS: RangeInclusive<u64> = 1..=20;

/// The scenario: 64 peers, five minutes, churn, loss and some faults.
const SCENARIO: &str = include_str!("../../../scenarios/sixty-four.toml");

/// The log hash of one run.
///
/// # Panics
/// If the scenario of this crate cannot be read.
pub fn hash(algorithm: Algorithm, seed: u64) -> String {
    let scenario: Scenario = SCENARIO.parse().expect("the scenario is part of the program");
    let scenario = Scenario { seed, overlay: algorithm.name().into(), ..scenario };
    crate::run(&scenario, &mut ()).log_hash
}

/// Every hash, a line each: algorithm, seed, hash.
pub fn table() -> String {
    let mut text = String::new();
    for algorithm in Algorithm::ALL {
        for seed in SEEDS {
            let _ = writeln!(text, "{algorithm} {seed} {}", hash(*algorithm, seed));
        }
    }
    text
}
