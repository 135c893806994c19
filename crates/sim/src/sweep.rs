//! Many runs in one: every value of every swept parameter, and a range of seeds.
//!
//! ```toml
//! [sweep]
//! overlay = ["kademlia", "chord"]
//! "churn.median_s" = [84, 180, 360]
//! "events[0].kill" = [0.1, 0.5]
//! ```
//!
//! makes twelve cells for each seed; `overlay = "all"` is every algorithm there is. A cell has a name
//! that is a file name, and a fingerprint of all that it depends on, so that a finished one need not run
//! again while neither the scenario nor what this program does has changed.

use std::ops::RangeInclusive;

use node::Algorithm;
use toml::{Table, Value};

use crate::report::LogHash;
use crate::scenario::{BadScenario, Scenario};

/// Most cells of one sweep.
pub const MAX_CELLS: usize = 100_000;

/// In place of an algorithm: every one, as if it were swept.
pub const ALL: &str = "all";

/// What the command line wants otherwise than the scenario.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Another algorithm, or [`ALL`].
    pub overlay: Option<String>,
    /// Another seed.
    pub seed: Option<u64>,
    /// Another number of peers.
    pub nodes: Option<usize>,
    /// Other values, by their paths.
    pub set: Vec<(String, Value)>,
    /// What the file of the trace says, if churn follows one.
    pub trace: Option<String>,
}

impl Overrides {
    fn values(&self) -> Vec<(String, Value)> {
        let number = |n: u64| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
        let overlay = self.overlay.clone().filter(|o| o != ALL);
        let overlay = overlay.map(|o| ("overlay".into(), Value::String(o)));
        let seed = self.seed.map(|s| ("seed".into(), number(s)));
        let nodes = self.nodes.map(|n| ("nodes".into(), number(n as u64)));
        self.set.iter().cloned().chain([overlay, seed, nodes].into_iter().flatten()).collect()
    }
}

/// One run of a sweep.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The swept parameters and their values here, as TOML writes them.
    pub settings: Vec<(String, String)>,
    /// The seed.
    pub seed: u64,
    /// What is played.
    pub scenario: Scenario,
    /// The same as TOML.
    pub table: Table,
}

impl Cell {
    /// A name that can be a file's: `churn.median_s=84,seed=3`.
    pub fn name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-=".contains(c) { c } else { '_' };
        let settings =
            self.settings.iter().map(|(path, value)| format!("{path}={}", value.trim_matches('"')));
        let parts: Vec<String> = settings.chain([format!("seed={}", self.seed)]).collect();
        let names = parts.iter().map(|part| part.chars().map(plain).collect::<String>());
        names.collect::<Vec<_>>().join(",")
    }

    /// A number that is another one when the scenario is, or what this program does.
    pub fn fingerprint(&self) -> String {
        let mut hash = LogHash::default();
        hash.add(env!("CARGO_PKG_VERSION").as_bytes());
        hash.add(crate::hashes::TABLE.as_bytes());
        hash.add(self.table.to_string().as_bytes());
        self.scenario.sessions.iter().for_each(|s| hash.number(s.up_s.to_bits() ^ s.down_s.to_bits()));
        hash.text()
    }
}

/// The scenario of this text as the command line wants it, without sweep.
///
/// # Errors
/// What [`Scenario::from_str`](std::str::FromStr) says.
pub fn one(text: &str, overrides: &Overrides) -> Result<(Scenario, Table), BadScenario> {
    text.parse::<Scenario>()?;
    let mut table: Table = text.parse().map_err(|e: toml::de::Error| BadScenario::Syntax(e.to_string()))?;
    table.remove("sweep");
    for (path, value) in overrides.values() {
        set(&mut table, &path, value)?;
    }
    let scenario = of(&table)?;
    let scenario = match &overrides.trace {
        Some(text) => scenario.with_trace(text)?,
        None => scenario,
    };
    Ok((scenario, table))
}

/// A scenario from a table.
///
/// # Errors
/// If a value is impossible.
pub fn of(table: &Table) -> Result<Scenario, BadScenario> {
    let scenario: Scenario =
        table.clone().try_into().map_err(|e: toml::de::Error| BadScenario::Syntax(e.to_string()))?;
    scenario.check().map(|()| scenario)
}

/// Every cell: for each combination of the values of the scenario's `[sweep]`, for each seed. What the
/// command line sets is not swept.
///
/// # Errors
/// If the scenario, or one of the cells, cannot be played.
pub fn cells(
    text: &str,
    overrides: &Overrides,
    seeds: RangeInclusive<u64>,
) -> Result<Vec<Cell>, BadScenario> {
    let (scenario, table) = one(text, overrides)?;
    let mut sweep = text.parse::<Scenario>()?.sweep.unwrap_or_default();
    if overrides.overlay.as_deref() == Some(ALL) || sweep.get("overlay") == Some(&ALL.into()) {
        let names = Algorithm::ALL.iter().map(|a| Value::String(a.name().into()));
        sweep.insert("overlay".into(), Value::Array(names.collect()));
    }
    let fixed: Vec<String> = overrides.values().into_iter().map(|(path, _)| path).collect();
    let mut combinations: Vec<Vec<(String, Value)>> = vec![Vec::new()];
    for (path, values) in sweep.into_iter().filter(|(path, _)| !fixed.contains(path)) {
        let Value::Array(values) = values else {
            return bad(format!("sweep.{path}"), "a list of values is wanted");
        };
        let count = combinations.len() * values.len() * seeds.clone().count();
        if values.is_empty() || count > MAX_CELLS {
            return bad(format!("sweep.{path}"), format!("between 1 and {MAX_CELLS} cells"));
        }
        let longer = combinations.iter().flat_map(|settings| {
            let path = &path;
            let with = |value: &Value| [&settings[..], &[(path.clone(), value.clone())]].concat();
            values.iter().map(with).collect::<Vec<_>>()
        });
        combinations = longer.collect();
    }
    let mut cells = Vec::new();
    for settings in combinations {
        for seed in seeds.clone() {
            let mut table = table.clone();
            table.insert("seed".into(), Value::Integer(i64::try_from(seed).unwrap_or(i64::MAX)));
            for (path, value) in &settings {
                set(&mut table, path, value.clone())?;
            }
            let named = |e: BadScenario| match e {
                BadScenario::Syntax(problem) => BadScenario::Syntax(format!("in the sweep: {problem}")),
                BadScenario::Value { field, problem, place: None } => {
                    let place = crate::scenario::place_in_sweep(text, &field);
                    BadScenario::Value { field, problem, place }
                }
                other => other,
            };
            let mut played = of(&table).map_err(named)?;
            played.sessions = scenario.sessions.clone();
            let settings = settings.iter().map(|(path, value)| (path.clone(), value.to_string())).collect();
            cells.push(Cell { settings, seed, scenario: played, table });
        }
    }
    Ok(cells)
}

/// Sets the value at a path such as `churn.mean_s` or `events[0].kill`; tables that are not there are
/// made, elements of lists are not.
fn set(table: &mut Table, path: &str, value: Value) -> Result<(), BadScenario> {
    let mut steps = path.split(['.', '[']).map(|step| step.trim_end_matches(']')).peekable();
    let first = steps.next().unwrap_or_default();
    let Some(mut step) = steps.next() else {
        table.insert(first.to_owned(), value);
        return Ok(());
    };
    let mut here = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
    loop {
        let next = match here {
            Value::Table(table) => table.entry(step).or_insert_with(|| Value::Table(Table::new())),
            Value::Array(list) => match step.parse::<usize>().ok().and_then(|n| list.get_mut(n)) {
                Some(element) => element,
                None => return bad(format!("sweep.{path}"), format!("there is no element {step}")),
            },
            _ => return bad(format!("sweep.{path}"), format!("{step} is not in a table")),
        };
        match steps.next() {
            Some(further) => (here, step) = (next, further),
            None => {
                *next = value;
                return Ok(());
            }
        }
    }
}

fn bad<T>(field: String, problem: impl Into<String>) -> Result<T, BadScenario> {
    Err(BadScenario::Value { field, problem: problem.into(), place: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "nodes = 9\n[churn]\nmean_s = 60\n[[events]]\nkill = 0.1\n\
                        [sweep]\n\"churn.median_s\" = [10, 20]\n\"events[0].kill\" = [0.5]\nnodes = [5, 6]";

    #[test]
    fn every_combination_is_a_cell_with_a_name_of_its_own() {
        let cells = cells(TEXT, &Overrides::default(), 1..=3).unwrap();
        assert_eq!(cells.len(), 12);
        let names: std::collections::BTreeSet<String> = cells.iter().map(Cell::name).collect();
        let prints: std::collections::BTreeSet<String> = cells.iter().map(Cell::fingerprint).collect();
        assert_eq!((names.len(), prints.len()), (12, 12));
        assert!(names.contains("churn.median_s=10,events_0_.kill=0.5,nodes=6,seed=2"), "{names:?}");
        let cell = cells.iter().find(|c| c.name().starts_with("churn.median_s=20")).unwrap();
        assert_eq!(cell.scenario.churn.as_ref().unwrap().median_s, Some(20.0));
        assert_eq!(cell.scenario.churn.as_ref().unwrap().mean_s, 60.0);
        assert_eq!(cell.scenario.events[0].kill, Some(0.5));
    }

    #[test]
    fn what_the_command_line_sets_is_not_swept() {
        let overrides = Overrides { nodes: Some(7), ..Overrides::default() };
        let cells = cells(TEXT, &overrides, 4..=4).unwrap();
        assert_eq!(cells.len(), 2);
        assert!(cells.iter().all(|c| c.scenario.nodes == 7 && c.scenario.seed == 4));
    }

    #[test]
    fn all_algorithms_are_one_word() {
        let all = Overrides { overlay: Some(ALL.into()), ..Overrides::default() };
        for (text, overrides) in [("nodes = 3", all), ("[sweep]\noverlay = 'all'", Overrides::default())] {
            let cells = cells(text, &overrides, 1..=1).unwrap();
            let names: Vec<&str> = cells.iter().map(|c| c.scenario.overlay.as_str()).collect();
            assert_eq!(names, Algorithm::ALL.iter().map(|a| a.name()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn mistakes_in_a_sweep_are_named() {
        for (sweep, word) in [
            ("nodes = 5", "list"),
            ("nodes = []", "between"),
            ("nodez = [5]", "nodez"),
            ("loss = [2]", "line 5, column 8: loss"),
            ("'events[0].kill' = [2]", "line 5, column 20: events[0].kill"),
            ("'events[3].kill' = [1]", "no element 3"),
            ("'nodes.x' = [1]", "not in a table"),
        ] {
            let text = format!("nodes = 9\n[[events]]\nkill = 0.5\n[sweep]\n{sweep}");
            let error = cells(&text, &Overrides::default(), 1..=1).unwrap_err().to_string();
            assert!(error.contains(word), "{sweep}: {error}");
        }
    }
}
