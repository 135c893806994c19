//! From what happened to the report.

use std::collections::BTreeMap;

use node::budget::Work;

use super::{Bytes, Percentiles, Phase, Recovery, Report, percentile};
use crate::scenario::Event;
use crate::world::{Books, LookupLine, World};

/// A peer that stayed for less tells nothing about rates: it has only joined.
const SHORTEST_STAY_S: f64 = 60.0;
/// What a failed lookup counts in the mean (R/Kademlia, Heep 2010).
const FAILURE_MS: f64 = 10_000.0;
/// How long after an event lookups are the first ones.
const FIRST_S: f64 = 10.0;

/// Mean time of lookups of which these succeeded; the others count ten seconds each.
pub(crate) fn mean_ms(succeeded: &[f64], issued: u64) -> f64 {
    let failed = issued.saturating_sub(succeeded.len() as u64) as f64;
    (succeeded.iter().sum::<f64>() + failed * FAILURE_MS) / issued.max(1) as f64
}

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
        self.report.signatures = self.scenario.signatures;
        self.report.numbers = self.scenario.peer.numbers;
        self.report.virtual_s = self.scenario.duration_s;
        self.report.population.online_p95_ms = Percentiles::of(&mut self.times.online).p95;
        self.report.population.published_p95_ms = Percentiles::of(&mut self.times.published).p95;
        let lookups = &mut self.report.lookups;
        let found = lookups.succeeded.max(1) as f64;
        lookups.hops_mean = self.times.hops as f64 / found;
        lookups.messages_mean = self.times.messages as f64 / found;
        lookups.time_ms = Percentiles::of(&mut self.times.lookup);
        lookups.time_mean_ms = mean_ms(&self.times.lookup, lookups.issued);
        self.report.workload.registrations.time_ms = Percentiles::of(&mut self.times.published);
        self.report.workload.calls.time_ms = Percentiles::of(&mut self.times.calls);
        self.report.workload.messages.time_ms = Percentiles::of(&mut self.times.chats);
        self.report.faults = self.net.faults.acted();
        self.report.queue_peak = self.watch.queue_peak;
        let rows = self.watch.rows.iter().filter_map(|row| row.consistency);
        let (sum, count) = rows.fold((0.0, 0), |(sum, count), share| (sum + share, count + 1));
        self.report.consistency = (count > 0).then(|| sum / f64::from(count));
        self.report.warm = self.warmth.report();
        self.sum_up_attack();
        self.sum_up_bytes();
        self.sum_up_phases();
        self.sum_up_conversations();
        self.check_bars();
        self.report.log_hash = self.hash.text();
        self.report.violations = self.violations.finish();
        self.report.series = self.watch.rows;
        self.report.lookup_times = self.times.lookup;
        self.report
    }

    fn sum_up_bytes(&mut self) {
        let from = self.watch.measures_from();
        let (mut seconds, mut sum) = (0.0, Books::default());
        let (mut rates, mut upkeep_rates) = (Vec::new(), Vec::new());
        let mut by_function: BTreeMap<String, f64> = BTreeMap::new();
        let mut shed = [0_i64; Work::ALL.len()];
        let mut add = |stay: f64, books: &Books, sign: f64| {
            seconds += stay;
            for (function, bytes) in &books.by_function {
                *by_function.entry((*function).to_owned()).or_default() += sign * *bytes as f64;
            }
            for (all, count) in shed.iter_mut().zip(books.shed) {
                *all += sign as i64 * i64::from(count);
            }
        };
        for past in &self.past {
            add(past.stayed.as_secs_f64(), &past.books, 1.0);
            sum.sent += past.books.sent;
            sum.maintenance += past.books.maintenance;
        }
        for (number, peer) in self.peers.iter().enumerate() {
            let stay = peer.ended.unwrap_or(self.now).since(peer.started.max(from)).as_secs_f64();
            if stay == 0.0 {
                continue;
            }
            add(stay, &peer.books, 1.0);
            let before = self.watch.baseline.get(&number).filter(|_| peer.started <= from);
            let before = before.cloned().unwrap_or_default();
            add(0.0, &before, -1.0);
            let sent = peer.books.sent.saturating_sub(before.sent);
            let maintenance = peer.books.maintenance.saturating_sub(before.maintenance);
            sum.sent += sent;
            sum.maintenance += maintenance;
            if stay >= SHORTEST_STAY_S {
                rates.push(sent as f64 / stay);
                upkeep_rates.push(maintenance as f64 / stay);
            }
        }
        let counted = Work::ALL.iter().zip(shed).filter(|(_, count)| *count > 0);
        self.report.shed = counted.map(|(work, count)| (work.name(), count as u64)).collect();
        let seconds = seconds.max(1e-6);
        by_function.values_mut().for_each(|bytes| *bytes /= seconds);
        rates.sort_by(f64::total_cmp);
        upkeep_rates.sort_by(f64::total_cmp);
        self.report.bytes_per_node_per_s =
            Bytes { mean: sum.sent as f64 / seconds, p99: percentile(&rates, 0.99), by_function };
        self.report.maintenance_bytes_per_node_per_s = Bytes {
            mean: sum.maintenance as f64 / seconds,
            p99: percentile(&upkeep_rates, 0.99),
            by_function: BTreeMap::new(),
        };
        if self.scenario.model_bytes {
            let by_function = self.model_bytes.rates(seconds);
            let mean = by_function.values().sum();
            self.report.model_bytes_per_node_per_s = Some(Bytes { mean, p99: 0.0, by_function });
        }
    }

    /// Lookups begun from one time to another.
    fn phase(&self, name: &str, from_s: f64, to_s: f64) -> Phase {
        let within = |l: &&LookupLine| (from_s..to_s).contains(&f64::from(l.at_s));
        let lines: Vec<&LookupLine> = self.times.log.iter().filter(within).collect();
        let mut times: Vec<f64> = lines.iter().filter(|l| l.found).map(|l| f64::from(l.ms)).collect();
        Phase {
            name: name.to_owned(),
            issued: lines.len() as u64,
            succeeded: times.len() as u64,
            time_ms: Percentiles::of(&mut times),
        }
    }

    fn sum_up_phases(&mut self) {
        for phase in &self.scenario.phases {
            let shown = self.phase(&phase.name, phase.from_s, phase.to_s);
            let share = shown.succeeded as f64 / shown.issued.max(1) as f64;
            if shown.issued > 0 && share < phase.lookups {
                let (found, all, bar) = (shown.succeeded, shown.issued, phase.lookups * 100.0);
                let what = format!("{}: {found} of {all} lookups succeeded, below {bar} %", phase.name);
                self.violations.add(what);
            }
            self.report.phases.push(shown);
        }
        let took = |e: &&Event| e.kill.is_some() || e.restart.is_some() || e.torn_state.is_some();
        let mut times: Vec<f64> = self.scenario.events.iter().filter(took).map(|e| e.at_s).collect();
        times.sort_by(f64::total_cmp);
        for (n, at_s) in times.iter().enumerate() {
            let until_s = times.get(n + 1).copied().unwrap_or(f64::MAX);
            let first = self.phase("", *at_s, (at_s + FIRST_S).min(until_s));
            let recovery = Recovery {
                at_s: *at_s,
                first_share: first.succeeded as f64 / first.issued.max(1) as f64,
                to_999_s: self.recovered(*at_s, until_s),
            };
            self.report.recoveries.push(recovery);
        }
    }

    /// The earliest time after which 99.9 % of all later lookups succeed, from `at_s` on.
    fn recovered(&self, at_s: f64, until_s: f64) -> Option<f64> {
        let within = |l: &&LookupLine| (at_s..until_s).contains(&f64::from(l.at_s));
        let mut lines: Vec<&LookupLine> = self.times.log.iter().filter(within).collect();
        lines.sort_by(|a, b| b.at_s.total_cmp(&a.at_s));
        let (mut earliest, mut found) = (None, 0);
        for (all, line) in (1..).zip(lines) {
            found += u64::from(line.found);
            if found as f64 >= 0.999 * f64::from(all) {
                earliest = Some(f64::from(line.at_s) - at_s);
            }
        }
        earliest.map(|s| s.max(0.0))
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
        let breaches = self.report.attack.as_ref().map(|attack| attack.breaches(&bars));
        breaches.into_iter().flatten().for_each(|breach| self.violations.add(breach));
        let report = &self.report;
        let consistency = self.scenario.invariants.consistency;
        if report.consistency.is_some_and(|share| share < consistency) {
            let share = report.consistency.unwrap_or_default();
            self.violations
                .add(format!("{share:.4} of the records are where they belong, below {consistency}"));
        }
        for (what, value, bar) in [
            (
                "bytes/s of maintenance per peer",
                report.maintenance_bytes_per_node_per_s.mean,
                bars.maintenance_bytes_per_s,
            ),
            ("bytes/s per peer", report.bytes_per_node_per_s.mean, bars.bytes_per_s),
            (
                "bytes/s of who keeps links warm (mean)",
                report.warm.as_ref().map_or(0.0, |w| w.bytes_per_s_mean),
                bars.warm_bytes_per_s,
            ),
            (
                "bytes/s of who keeps links warm (p99 of windows)",
                report.warm.as_ref().map_or(0.0, |w| w.bytes_per_s_p99),
                bars.warm_p99_bytes_per_s,
            ),
            ("ms for a lookup (mean)", report.lookups.time_mean_ms, bars.lookup_mean_ms),
            ("ms for a lookup (p95)", report.lookups.time_ms.p95, bars.lookup_p95_ms),
        ] {
            if bar > 0.0 && value > bar {
                self.violations.add(format!("{value:.0} {what}, above {bar:.0}"));
            }
        }
    }
}
