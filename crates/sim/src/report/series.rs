//! The course of a run, row by row, as a table for other programs (CSV, RFC 4180).

use std::collections::BTreeMap;
use std::fmt::Write;

use node::ledger::Function;

/// What happened in one interval.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The end of the interval.
    pub at_s: f64,
    /// Peers that run.
    pub live: usize,
    /// Peers that have started so far, those that came back counted again.
    pub joined: u64,
    /// Peers that have gone so far.
    pub gone: u64,
    /// Lookups that ended in the interval, and those among them that found their record.
    pub lookups: u64,
    /// See `lookups`.
    pub found: u64,
    /// How long those took that found it.
    pub lookup_p50_ms: f64,
    /// The same, 95th percentile.
    pub lookup_p95_ms: f64,
    /// Bytes sent per second and live peer, by function.
    pub bytes_per_s: BTreeMap<&'static str, f64>,
    /// Share of sampled users whose record is where it belongs.
    pub consistency: Option<f64>,
    /// Happenings that wait.
    pub waiting: usize,
}

/// The rows as CSV, with a first line of names.
pub fn csv(rows: &[Row]) -> String {
    let functions: Vec<&str> = Function::ALL.iter().map(|f| f.name()).collect();
    let columns = "at_s,live,joined,gone,lookups,found,lookup_p50_ms,lookup_p95_ms,consistency,waiting";
    let mut text = format!("{columns},{}\n", functions.join("_bytes_per_s,") + "_bytes_per_s");
    for row in rows {
        let consistency = row.consistency.map(|share| format!("{share:.4}")).unwrap_or_default();
        let _ = write!(
            text,
            "{},{},{},{},{},{},{:.3},{:.3},{consistency},{}",
            row.at_s,
            row.live,
            row.joined,
            row.gone,
            row.lookups,
            row.found,
            row.lookup_p50_ms,
            row.lookup_p95_ms,
            row.waiting
        );
        for function in &functions {
            let _ = write!(text, ",{:.3}", row.bytes_per_s.get(function).copied().unwrap_or(0.0));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_as_many_fields_as_the_first_has_names() {
        let row = Row { bytes_per_s: BTreeMap::from([("lookup", 1.5)]), ..Row::default() };
        let text = csv(&[row.clone(), Row { consistency: Some(0.5), ..row }]);
        let counts: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(counts, [10 + Function::ALL.len(); 3]);
        assert!(text.contains("lookup_bytes_per_s") && text.contains("1.500") && text.contains("0.5000"));
    }
}
