//! From what happened to the report.

use std::collections::BTreeMap;

use crate::report::{Bytes, Percentiles, Report, percentile};
use crate::world::World;

/// A peer that stayed for less tells nothing about rates: it has only joined.
const SHORTEST_STAY_S: f64 = 60.0;

/// What a failed lookup counts in the mean (R/Kademlia, Heep 2010).
const FAILURE_MS: f64 = 10_000.0;

impl World<'_> {
    /// The report.
    pub(crate) fn finish(mut self) -> Report {
        for peer in self.live.clone() {
            self.close_books(peer);
        }
        self.judge();
        self.report.schema = "openvoip.sim/1";
        self.report.scenario = self.scenario.name.clone();
        self.report.seed = self.scenario.seed;
        self.report.nodes = self.scenario.nodes;
        self.report.overlay = self.scenario.overlay.clone();
        self.report.virtual_s = self.scenario.duration_s;
        self.report.population.online_p95_ms = Percentiles::of(&mut self.times.online).p95;
        self.report.population.published_p95_ms = Percentiles::of(&mut self.times.published).p95;
        let lookups = &mut self.report.lookups;
        let found = lookups.succeeded.max(1) as f64;
        lookups.hops_mean = self.times.hops as f64 / found;
        lookups.messages_mean = self.times.messages as f64 / found;
        let failed = lookups.issued.saturating_sub(lookups.succeeded) as f64;
        let total = self.times.lookup.iter().sum::<f64>() + failed * FAILURE_MS;
        lookups.time_mean_ms = total / lookups.issued.max(1) as f64;
        lookups.time_ms = Percentiles::of(&mut self.times.lookup);
        self.sum_up_bytes();
        self.sum_up_conversations();
        self.check_bars();
        self.report.log_hash = self.hash.text();
        self.report.violations = self.violations.finish();
        self.report
    }

    fn sum_up_bytes(&mut self) {
        let (mut seconds, mut sent, mut maintenance) = (0.0, 0, 0);
        let (mut rates, mut upkeep_rates) = (Vec::new(), Vec::new());
        let mut by_function: BTreeMap<String, f64> = BTreeMap::new();
        for peer in &self.peers {
            let stay = peer.ended.unwrap_or(self.now).since(peer.started).as_secs_f64();
            seconds += stay;
            sent += peer.books.sent;
            maintenance += peer.books.maintenance;
            for (function, bytes) in &peer.books.by_function {
                *by_function.entry((*function).to_owned()).or_default() += *bytes as f64;
            }
            if stay >= SHORTEST_STAY_S {
                rates.push(peer.books.sent as f64 / stay);
                upkeep_rates.push(peer.books.maintenance as f64 / stay);
            }
        }
        let seconds = seconds.max(1e-6);
        by_function.values_mut().for_each(|bytes| *bytes /= seconds);
        rates.sort_by(f64::total_cmp);
        upkeep_rates.sort_by(f64::total_cmp);
        self.report.bytes_per_node_per_s =
            Bytes { mean: sent as f64 / seconds, p99: percentile(&rates, 0.99), by_function };
        self.report.maintenance_bytes_per_node_per_s = Bytes {
            mean: maintenance as f64 / seconds,
            p99: percentile(&upkeep_rates, 0.99),
            by_function: BTreeMap::new(),
        };
    }

    fn check_bars(&mut self) {
        let bars = self.scenario.bars;
        let lookups = &self.report.lookups;
        let share = lookups.succeeded as f64 / lookups.issued.max(1) as f64;
        if lookups.issued > 0 && share < bars.lookups {
            self.violations.add(format!(
                "{} of {} lookups succeeded, below {} %",
                lookups.succeeded,
                lookups.issued,
                bars.lookups * 100.0
            ));
        }
        let mean = self.report.maintenance_bytes_per_node_per_s.mean;
        if bars.maintenance_bytes_per_s > 0.0 && mean > bars.maintenance_bytes_per_s {
            let bar = bars.maintenance_bytes_per_s;
            self.violations.add(format!("{mean:.0} bytes/s of maintenance per peer, above {bar:.0}"));
        }
        let p95 = self.report.lookups.time_ms.p95;
        if bars.lookup_p95_ms > 0.0 && p95 > bars.lookup_p95_ms {
            self.violations.add(format!("lookups took {p95:.0} ms (p95), above {:.0}", bars.lookup_p95_ms));
        }
    }
}
