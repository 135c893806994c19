//! What a peer costs in memory: a process may hold a hundred thousand of them.

use sim::{Report, Scenario};

/// Plays a scenario and tells the most that was allocated at once, for each of its peers.
fn heap_per_peer(text: &str) -> (Report, u64) {
    let scenario: Scenario = text.parse().expect("a scenario");
    let mut report = None;
    let info = allocation_counter::measure(|| report = Some(sim::run(&scenario, &mut ())));
    (report.expect("it was played"), info.bytes_max / scenario.nodes as u64)
}

#[test]
fn a_peer_without_phones_takes_at_most_sixteen_kibibytes_of_heap() {
    let (report, bytes) = heap_per_peer(
        "nodes = 200\nduration_s = 150\nlookups_per_s = 5.0\nsignatures = 'stand-in'\n[churn]\nmean_s = 3600\n\
         [invariants]\nanswered = false",
    );
    assert!(report.lookups.succeeded > 100, "{:?}", report.lookups);
    assert!(bytes <= 16 * 1024, "{bytes} bytes");
}
