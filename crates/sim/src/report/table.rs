//! Many runs as one table: each combination of swept parameters a line, all its seeds together.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::Report;
use crate::sweep::Cell;

/// What is kept of a run that is one of many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What it depended on; see [`Cell::fingerprint`].
    pub fingerprint: String,
    /// Swept parameters and their values.
    pub settings: Vec<(String, String)>,
    /// The seed.
    pub seed: u64,
    /// The hash of its log.
    pub log_hash: String,
    /// Events handled, and how long that took.
    pub events: u64,
    /// See `events`.
    pub wall_s: f64,
    /// Lookups that ended, and those that found their record.
    pub issued: u64,
    /// See `issued`.
    pub succeeded: u64,
    /// How long those took: mean, and percentiles.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile; absent in what earlier builds kept.
    pub p99_ms: Option<f64>,
    /// Peers on the way, mean; absent likewise.
    pub hops: Option<f64>,
    /// Bytes sent per second and peer, as on the wire.
    pub bytes_per_s: f64,
    /// The part of it that is maintenance.
    pub maintenance_per_s: f64,
    /// The same messages as papers count them.
    pub model_per_s: Option<f64>,
    /// Share of the records that were where they belong.
    pub consistency: Option<f64>,
    /// After the first event that took peers away: share of the first lookups, and time to 99.9 %.
    pub first_share: Option<f64>,
    /// See `first_share`.
    pub to_999_s: Option<f64>,
    /// Phases: name, lookups that ended, those that found their record.
    pub phases: Vec<(String, u64, u64)>,
    /// What ought not to have happened.
    pub violations: Vec<String>,
}

impl Line {
    /// What is kept of the run of a cell.
    pub fn of(cell: &Cell, report: &Report) -> Self {
        let recovery = report.recoveries.first();
        Line {
            fingerprint: cell.fingerprint(),
            settings: cell.settings.clone(),
            seed: cell.seed,
            log_hash: report.log_hash.clone(),
            events: report.events,
            wall_s: report.wall_s,
            issued: report.lookups.issued,
            succeeded: report.lookups.succeeded,
            mean_ms: report.lookups.time_mean_ms,
            p50_ms: report.lookups.time_ms.p50,
            p95_ms: report.lookups.time_ms.p95,
            p99_ms: Some(report.lookups.time_ms.p99),
            hops: Some(report.lookups.hops_mean),
            bytes_per_s: report.bytes_per_node_per_s.mean,
            maintenance_per_s: report.maintenance_bytes_per_node_per_s.mean,
            model_per_s: report.model_bytes_per_node_per_s.as_ref().map(|b| b.mean),
            consistency: report.consistency,
            first_share: recovery.map(|r| r.first_share),
            to_999_s: recovery.and_then(|r| r.to_999_s),
            phases: report.phases.iter().map(|p| (p.name.clone(), p.issued, p.succeeded)).collect(),
            violations: report.violations.clone(),
        }
    }
}

/// All seeds of one combination.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    /// Swept parameters and their values.
    pub settings: Vec<(String, String)>,
    /// How many seeds.
    pub seeds: u64,
    /// Lookups of all seeds that ended.
    pub issued: u64,
    /// Those that found their record.
    pub succeeded: u64,
    /// Means over the seeds of the figures of [`Line`].
    pub mean_ms: f64,
    /// See `mean_ms`.
    pub p50_ms: f64,
    /// See `mean_ms`.
    pub p95_ms: f64,
    /// See `mean_ms`.
    pub p99_ms: Option<f64>,
    /// See `mean_ms`.
    pub hops: Option<f64>,
    /// See `mean_ms`.
    pub bytes_per_s: f64,
    /// See `mean_ms`.
    pub maintenance_per_s: f64,
    /// See `mean_ms`.
    pub model_per_s: Option<f64>,
    /// See `mean_ms`.
    pub consistency: Option<f64>,
    /// See `mean_ms`.
    pub first_share: Option<f64>,
    /// The longest of all seeds; absent if one of them never got there.
    pub to_999_s: Option<f64>,
    /// Phases, all seeds together.
    pub phases: Vec<(String, u64, u64)>,
    /// Seeds with violations.
    pub failed: Vec<u64>,
}

/// One row for each combination, in the order in which the lines first name it.
pub fn rows(lines: &[Line]) -> Vec<Row> {
    let mut order: Vec<&[(String, String)]> = Vec::new();
    let mut groups: BTreeMap<&[(String, String)], Vec<&Line>> = BTreeMap::new();
    for line in lines {
        if !groups.contains_key(&line.settings[..]) {
            order.push(&line.settings);
        }
        groups.entry(&line.settings).or_default().push(line);
    }
    order.into_iter().filter_map(|settings| Some(row(groups.get(settings)?))).collect()
}

fn row(lines: &[&Line]) -> Row {
    let count = lines.len().max(1) as f64;
    let mean = |pick: fn(&Line) -> f64| lines.iter().map(|l| pick(l)).sum::<f64>() / count;
    let mean_of = |pick: fn(&Line) -> Option<f64>| {
        let known: Vec<f64> = lines.iter().filter_map(|l| pick(l)).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    let mut phases: Vec<(String, u64, u64)> = Vec::new();
    for (name, issued, succeeded) in lines.iter().flat_map(|l| &l.phases) {
        match phases.iter_mut().find(|(known, _, _)| known == name) {
            Some(phase) => (phase.1, phase.2) = (phase.1 + issued, phase.2 + succeeded),
            None => phases.push((name.clone(), *issued, *succeeded)),
        }
    }
    let all: Option<Vec<f64>> = lines.iter().map(|l| l.to_999_s).collect();
    Row {
        settings: lines.first().map(|l| l.settings.clone()).unwrap_or_default(),
        seeds: lines.len() as u64,
        issued: lines.iter().map(|l| l.issued).sum(),
        succeeded: lines.iter().map(|l| l.succeeded).sum(),
        mean_ms: mean(|l| l.mean_ms),
        p50_ms: mean(|l| l.p50_ms),
        p95_ms: mean(|l| l.p95_ms),
        p99_ms: mean_of(|l| l.p99_ms),
        hops: mean_of(|l| l.hops),
        bytes_per_s: mean(|l| l.bytes_per_s),
        maintenance_per_s: mean(|l| l.maintenance_per_s),
        model_per_s: mean_of(|l| l.model_per_s),
        consistency: mean_of(|l| l.consistency),
        first_share: mean_of(|l| l.first_share),
        to_999_s: all.and_then(|all| all.into_iter().max_by(f64::total_cmp)),
        phases,
        failed: lines.iter().filter(|l| !l.violations.is_empty()).map(|l| l.seed).collect(),
    }
}

/// The rows as a table in Markdown; columns that nothing stands in are left out.
pub fn markdown(rows: &[Row]) -> String {
    let share = |found: u64, all: u64| match all {
        0 => "-".to_owned(),
        all => format!("{:.3} %", 100.0 * found as f64 / all as f64),
    };
    let optional =
        |value: Option<f64>, digits: usize| value.map(|v| format!("{v:.digits$}")).unwrap_or_default();
    let mut lines: Vec<Vec<(String, String)>> = Vec::new();
    for row in rows {
        let mut cells: Vec<(String, String)> = row.settings.clone();
        let mut cell = |name: &str, value: String| cells.push((name.to_owned(), value));
        cell("seeds", row.seeds.to_string());
        cell("lookups", row.issued.to_string());
        cell("correct", share(row.succeeded, row.issued));
        cell("mean ms", format!("{:.0}", row.mean_ms));
        cell("p50 ms", format!("{:.0}", row.p50_ms));
        cell("p95 ms", format!("{:.0}", row.p95_ms));
        cell("p99 ms", optional(row.p99_ms, 0));
        cell("hops", optional(row.hops, 2));
        cell("wire B/s", format!("{:.1}", row.bytes_per_s));
        cell("upkeep B/s", format!("{:.1}", row.maintenance_per_s));
        cell("model B/s", optional(row.model_per_s, 1));
        cell("in place", optional(row.consistency.map(|share| share * 100.0), 2));
        cell("first 10 s", optional(row.first_share.map(|share| share * 100.0), 2));
        cell("s to 99.9 %", optional(row.to_999_s, 1));
        for (name, issued, succeeded) in &row.phases {
            cell(name, share(*succeeded, *issued));
        }
        cell("failed seeds", if row.failed.is_empty() { String::new() } else { format!("{:?}", row.failed) });
        lines.push(cells);
    }
    let names: Vec<String> = lines.first().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let value = |cells: &Vec<(String, String)>, name: &str| {
        cells.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let used: Vec<&String> = names.iter().filter(|n| lines.iter().any(|l| !value(l, n).is_empty())).collect();
    let mut text = String::new();
    let mut write = |cells: Vec<String>| {
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    };
    write(used.iter().map(|n| (*n).clone()).collect());
    write(used.iter().map(|_| "---".to_owned()).collect());
    lines.iter().for_each(|line| write(used.iter().map(|n| value(line, n)).collect()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(overlay: &str, seed: u64, succeeded: u64) -> Line {
        Line {
            settings: vec![("overlay".into(), overlay.into())],
            seed,
            issued: 100,
            succeeded,
            mean_ms: seed as f64,
            to_999_s: (succeeded == 100).then_some(seed as f64),
            violations: if succeeded < 100 { vec!["x".into()] } else { Vec::new() },
            ..Line::default()
        }
    }

    #[test]
    fn seeds_of_one_combination_are_one_row() {
        let rows = rows(&[line("b", 1, 100), line("a", 1, 100), line("b", 3, 98), line("a", 2, 100)]);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].issued, rows[0].succeeded, rows[0].mean_ms), (200, 198, 2.0));
        assert_eq!((rows[0].to_999_s, rows[0].failed.clone()), (None, vec![3]));
        assert_eq!((rows[1].to_999_s, rows[1].seeds), (Some(2.0), 2));
        let text = markdown(&rows);
        assert!(text.starts_with("| overlay | seeds | lookups | correct |"), "{text}");
        assert!(text.contains("| b | 2 | 200 | 99.000 % |") && !text.contains("model"), "{text}");
        assert!(!text.contains("p99"), "what nobody kept has no column: {text}");
    }
}
