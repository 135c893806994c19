//! One scenario and one seed give one log hash: run after run, and on debug and release builds.

use node::Algorithm;
use sim::hashes::{SEEDS, TABLE, hash};

/// Compares every algorithm's runs of every second seed with the table.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn compare(odd: bool) {
    for algorithm in Algorithm::ALL {
        for seed in SEEDS.filter(|seed| (seed % 2 == 1) == odd) {
            let line = format!("{algorithm} {seed} {}", hash(*algorithm, seed));
            assert!(
                TABLE.lines().any(|known| known == line),
                "'{line}' is not in scenarios/hashes.txt: if behaviour was changed on purpose, write it anew with \
                 `cargo run --release -p openvoip-sim --example hashes > scenarios/hashes.txt`"
            );
        }
    }
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn odd_seeds_give_the_hashes_of_the_table() {
    compare(true);
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn even_seeds_give_the_hashes_of_the_table() {
    compare(false);
}

#[test]
fn a_second_run_in_the_same_process_gives_the_same_hash() {
    for algorithm in Algorithm::ALL {
        assert_eq!(hash(*algorithm, 21), hash(*algorithm, 21));
    }
}

#[test]
fn every_seed_has_a_hash_of_its_own() {
    let hashes: std::collections::BTreeSet<&str> =
        TABLE.lines().filter_map(|l| l.split(' ').nth(2)).collect();
    assert_eq!(hashes.len(), TABLE.lines().count());
}
