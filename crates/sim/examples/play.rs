//! Plays a scenario and prints its report: `cargo run --release -p openvoip-sim --example play FILE [SEED [NODES]]`.

use std::error::Error;

struct Talk;

impl sim::Observer for Talk {
    fn progress(&mut self, p: sim::Progress) {
        if p.at.as_millis().is_multiple_of(60_000) {
            let (issued, found) = p.lookups;
            eprintln!("{:?}: {} peers, {} events, {found} of {issued} lookups", p.at, p.live, p.events);
        }
    }

    fn memory(&mut self) -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1_024)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("which scenario?")?;
    let mut scenario: sim::Scenario = std::fs::read_to_string(file)?.parse()?;
    if let Some(seed) = arguments.next() {
        scenario.seed = seed.parse()?;
    }
    if let Some(nodes) = arguments.next() {
        scenario.nodes = nodes.parse()?;
    }
    scenario.check()?;
    let report = sim::run(&scenario, &mut Talk);
    println!("{}", serde_json::to_string_pretty(&report)?);
    if report.violations.is_empty() { Ok(()) } else { Err("violations".into()) }
}
