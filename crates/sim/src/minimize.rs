//! From a scenario that fails to a smaller one that still does.
//!
//! One thing at a time is taken away: an event, a fault of an event, a call, a table, half of the
//! peers, half of the time. What is left must still fail in the same way. It ends when nothing more
//! can be taken away, or after so many tries.

use std::collections::BTreeSet;

use toml::{Table, Value};

use crate::report::Report;
use crate::scenario::Scenario;
use crate::sweep;

/// Tables and values without which a scenario is simpler.
const REMOVABLE: [&str; 13] = [
    "churn",
    "nat",
    "workload",
    "latency",
    "phases",
    "calls",
    "messages",
    "events",
    "loss",
    "clients",
    "lookup_every_s",
    "users_per_node",
    "measure_from_s",
];
/// Lists whose elements can go one by one.
const LISTS: [&str; 4] = ["events", "calls", "messages", "phases"];
/// Fields of an event without which it does not begin.
const FRAME: [&str; 2] = ["at_s", "for_s"];

/// The smallest that was found.
#[derive(Clone, Debug)]
pub struct Minimal {
    /// The scenario.
    pub table: Table,
    /// How many scenarios were played.
    pub tries: usize,
}

/// In which ways a run failed: each violation without its numbers, names and places.
pub fn ways(report: &Report) -> BTreeSet<String> {
    let words = |violation: &String| {
        let word = |w: &&str| w.chars().all(|c| c.is_alphabetic() || "/-',".contains(c));
        violation.split_whitespace().filter(word).take(4).collect::<Vec<_>>().join(" ")
    };
    report.violations.iter().map(words).collect()
}

/// Shrinks a scenario that fails in one of `failed` ways. `play` plays one.
pub fn minimize(
    table: &Table,
    failed: &BTreeSet<String>,
    most_tries: usize,
    mut play: impl FnMut(&Scenario) -> Report,
) -> Minimal {
    let mut small = Minimal { table: table.clone(), tries: 0 };
    let trace = sweep::of(table).map(|s| s.sessions).unwrap_or_default();
    'smaller: loop {
        for candidate in candidates(&small.table) {
            let Ok(mut scenario) = sweep::of(&candidate) else { continue };
            if small.tries >= most_tries {
                return small;
            }
            scenario.sessions = trace.clone();
            small.tries += 1;
            if !ways(&play(&scenario)).is_disjoint(failed) {
                small.table = candidate;
                continue 'smaller;
            }
        }
        return small;
    }
}

/// Everything that is a little smaller, what saves most time first.
fn candidates(table: &Table) -> Vec<Table> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Table) -> bool| {
        let mut smaller = table.clone();
        if change(&mut smaller) && smaller != *table {
            all.push(smaller);
        }
    };
    let usual = Scenario::default();
    with(&|t| halve(t, "nodes", usual.nodes as f64, 2.0));
    with(&|t| halve(t, "duration_s", usual.duration_s, 1.0));
    for name in REMOVABLE {
        with(&|t| t.remove(name).is_some());
    }
    for list in LISTS {
        let elements = table.get(list).and_then(Value::as_array).map_or(0, Vec::len);
        for n in 0..elements {
            with(&|t| list_of(t, list).is_some_and(|l| (l.len() > 1).then(|| l.remove(n)).is_some()));
        }
    }
    for (n, event) in table.get("events").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let fields = event.as_table().into_iter().flat_map(Table::keys);
        for field in fields.filter(|f| !FRAME.contains(&f.as_str())) {
            with(&|t| {
                let event = list_of(t, "events").and_then(|l| l.get_mut(n)).and_then(Value::as_table_mut);
                event.is_some_and(|e| e.remove(field).is_some())
            });
        }
    }
    all
}

fn list_of<'t>(table: &'t mut Table, name: &str) -> Option<&'t mut Vec<Value>> {
    table.get_mut(name)?.as_array_mut()
}

/// Halves a number, rounded up to a whole one, unless it is small already.
fn halve(table: &mut Table, name: &str, usual: f64, least: f64) -> bool {
    let old = table.get(name).and_then(|v| v.as_float().or(v.as_integer().map(|n| n as f64)));
    let old = old.unwrap_or(usual);
    let new = (old / 2.0).ceil();
    table.insert(name.into(), Value::Integer(new as i64));
    new >= least && new < old
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails if there are ten peers at least and an event with loss, whatever else there is.
    fn fails(scenario: &Scenario) -> Report {
        let lossy = scenario.events.iter().any(|e| e.loss.is_some());
        let broken = scenario.nodes >= 10 && lossy && scenario.duration_s > 40.0;
        let text = format!("3.5s: peer {} did not find user7", scenario.nodes);
        Report { violations: broken.then_some(text).into_iter().collect(), ..Report::default() }
    }

    #[test]
    fn what_has_no_part_in_the_failure_goes() {
        let text = "nodes = 100\nduration_s = 500\nloss = 0.1\n[churn]\nmean_s = 60\n\
                    [[events]]\nkill = 0.1\n[[events]]\nloss = 0.5\nduplicate = 0.1\n[[events]]\njoin = 3";
        let table: Table = text.parse().unwrap();
        let failed = ways(&fails(&sweep::of(&table).unwrap()));
        let small = minimize(&table, &failed, 1_000, fails);
        let wanted: Table = "nodes = 13\nduration_s = 63\n[[events]]\nloss = 0.5".parse().unwrap();
        assert_eq!(small.table, wanted);
        let stopped = minimize(&table, &failed, 3, fails);
        assert_eq!(stopped.tries, 3);
    }

    #[test]
    fn a_failure_of_another_kind_is_not_the_same() {
        let report = |text: &str| Report { violations: vec![text.into()], ..Report::default() };
        let one = ways(&report("12.0s: peer 7 did not find user7@sim.test"));
        assert_eq!(one, ways(&report("99.1s: peer 41 did not find user2@sim.test")));
        assert!(one.is_disjoint(&ways(&report("never published: user3@sim.test"))));
    }
}
