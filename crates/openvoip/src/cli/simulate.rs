//! `sim`: one run of a scenario, many of them, or the smallest that still fails.
//!
//! | file | holds |
//! |---|---|
//! | `watcher.rs` | how far a run is, and the log of it |
//! | `many.rs` | sweeps and ranges of seeds, kept cell by cell |
//! | `pages.rs` | large pages for large worlds |

mod many;
mod pages;
mod watcher;

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use node::Algorithm;
use openvoip::control::{self, exit};
use openvoip::system;
use serde_json::json;
use sim::report::{html, series};
use sim::sweep::{self, Cell, Overrides};
use sim::{Report, Scenario, minimize};

use super::answer::Context;
use watcher::Watcher;

/// Share of the memory that is free which a run may take: estimates are estimates.
const SPARE: f64 = 0.95;

/// Play a scenario in virtual time: up to a million simulated peers in one thread.
///
/// Exit 1 if the report names violations, 7 if there is not enough memory, 8 if the scenario cannot be
/// played. docs/simulator.md explains scenarios and figures.
#[derive(Args)]
pub(crate) struct Sim {
    /// The scenario, a TOML file.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// Another overlay algorithm than the scenario's, or all, one after the other.
    #[arg(long, value_name = "ALGORITHM", value_parser = overlay)]
    overlay: Option<String>,
    /// Another seed than the scenario's.
    #[arg(long)]
    seed: Option<u64>,
    /// Another number of peers than the scenario's.
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,
    /// Another value for any field, for example churn.median_s=84 or events[0].kill=0.5; repeatable.
    #[arg(long, value_name = "FIELD=VALUE", value_parser = setting)]
    set: Vec<(String, toml::Value)>,
    /// Play these seeds one after the other, for example 1..20, the last one included.
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: Option<RangeInclusive<u64>>,
    /// Write report.json, series.csv and report.html to this directory; for a sweep or several seeds, what
    /// each came to, so that a later call goes on where this one ended, summary.md, summary.json and plots.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also write log.txt: every datagram, about 70 bytes each, and everything that peers tell.
    #[arg(long, requires = "out")]
    log: bool,
    /// If it fails, look for a smaller scenario that fails in the same way, and print that.
    #[arg(long, conflicts_with = "seeds")]
    minimize: bool,
    /// Most scenarios to try for --minimize.
    #[arg(long, value_name = "N", default_value_t = 100)]
    tries: usize,
}

/// What a run needs besides its scenario.
struct Plan<'a> {
    file: &'a Path,
    overrides: Overrides,
    show: bool,
}

impl Sim {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let bad = |e: String| context.show(control::failure(exit::CONFIG, &e, "see docs/simulator.md"));
        let (text, overrides) = match self.read() {
            Ok(read) => read,
            Err(e) => return bad(e),
        };
        let file = self.scenario.display();
        let seed = self.seed.map_or_else(|| text.parse::<Scenario>().map(|s| s.seed), Ok);
        let seeds = seed.map(|seed| self.seeds.clone().unwrap_or(seed..=seed));
        let cells = seeds.and_then(|seeds| sweep::cells(&text, &overrides, seeds));
        let cells = match cells {
            Ok(cells) => cells,
            Err(e) => return bad(format!("{file}: {e}")),
        };
        if let Err(e) = cells.iter().try_for_each(|cell| fits(&cell.scenario)) {
            return context.show(control::failure(exit::UNMET, &e, "use fewer peers with --nodes"));
        }
        pages::enlarge(cells.iter().map(|cell| cell.scenario.nodes).max().unwrap_or(0));
        let plan = Plan { file: &self.scenario, overrides, show: true };
        let many = self.seeds.is_some() || self.overlay.as_deref() == Some(sweep::ALL);
        let outcome = match &cells[..] {
            [cell] if !many && self.minimize => return self.shrink(context, &plan, cell),
            [cell] if !many => self.one(&plan, cell).map(|report| {
                let code = if report.violations.is_empty() { exit::OK } else { exit::FAILED };
                control::answer("sim", code, json!(report))
            }),
            cells => many::play(&plan, cells, self.out.as_deref(), context.json),
        };
        let elsewhere = "choose another directory with --out";
        context.show(outcome.unwrap_or_else(|e| control::failure(exit::FAILED, &e, elsewhere)))
    }

    /// The text of the scenario, and what the command line wants otherwise.
    fn read(&self) -> Result<(String, Overrides), String> {
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
        };
        let text = read(&self.scenario)?;
        let scenario: Scenario = text.parse().map_err(|e| format!("{}: {e}", self.scenario.display()))?;
        let beside = |name: &str| self.scenario.parent().unwrap_or(Path::new("")).join(name);
        let overrides = Overrides {
            overlay: self.overlay.clone(),
            seed: self.seed,
            nodes: self.nodes,
            set: self.set.clone(),
            trace: scenario.trace_file().map(|name| read(&beside(name))).transpose()?,
        };
        Ok((text, overrides))
    }

    /// One run, kept in a directory if asked.
    fn one(&self, plan: &Plan<'_>, cell: &Cell) -> Result<Report, String> {
        let unwritten = |e: std::io::Error| format!("cannot write the report or the log: {e}");
        if let Some(dir) = &self.out {
            fs::create_dir_all(dir).map_err(unwritten)?;
        }
        let log = self.out.as_ref().filter(|_| self.log).map(|dir| dir.join("log.txt"));
        let report = play(plan, cell, log.as_deref())?;
        if let Some(dir) = &self.out {
            let text = serde_json::to_vec_pretty(&report).map_err(|e| e.to_string())?;
            fs::write(dir.join("report.json"), text).map_err(unwritten)?;
            fs::write(dir.join("series.csv"), series::csv(&report.series)).map_err(unwritten)?;
            fs::write(dir.join("report.html"), html::page(&report)).map_err(unwritten)?;
        }
        Ok(report)
    }

    /// Looks for the smallest scenario that fails as this one does.
    fn shrink(&self, context: &Context, plan: &Plan<'_>, cell: &Cell) -> i32 {
        let first = match self.one(plan, cell) {
            Ok(report) => report,
            Err(e) => return context.show(control::failure(exit::FAILED, &e, "openvoip sim --help")),
        };
        let ways = minimize::ways(&first);
        if ways.is_empty() {
            return context.show(control::answer("sim", exit::OK, json!(first)));
        }
        let sessions = &cell.scenario.sessions;
        let small = minimize::minimize(&cell.table, sessions, &ways, self.tries, |scenario| {
            eprintln!(
                "trying {} peers, {} s, {} events",
                scenario.nodes,
                scenario.duration_s,
                scenario.events.len()
            );
            sim::run(scenario, &mut ())
        });
        let toml = small.table.to_string();
        eprintln!("after {} tries, the smallest that still fails:\n\n{toml}", small.tries);
        let body = json!({ "tries": small.tries, "ways": ways, "scenario": toml });
        context.show(control::answer("minimize", exit::FAILED, body))
    }
}

/// Plays a cell; a run that fails is told with the command that repeats it.
fn play(plan: &Plan<'_>, cell: &Cell, log: Option<&Path>) -> Result<Report, String> {
    let mut watcher = Watcher::new(&cell.scenario, log, plan.show)?;
    let start = Instant::now();
    let mut report = sim::run(&cell.scenario, &mut watcher);
    report.wall_s = start.elapsed().as_secs_f64();
    watcher.finish()?;
    let again = replay(plan, cell);
    if let Some(first) = report.violations.first() {
        eprintln!("failed: {first}\nreplay: {again}");
    }
    report.replay = Some(again);
    Ok(report)
}

/// The command that plays a cell again.
fn replay(plan: &Plan<'_>, cell: &Cell) -> String {
    let mut words = vec!["openvoip".to_owned(), "sim".to_owned(), quoted(&plan.file.display().to_string())];
    let mut push = |option: &str, value: String| words.extend([option.to_owned(), value]);
    push("--seed", cell.seed.to_string());
    let overlay = plan.overrides.overlay.iter().filter(|overlay| *overlay != sweep::ALL);
    overlay.for_each(|overlay| push("--overlay", overlay.clone()));
    plan.overrides.nodes.iter().for_each(|nodes| push("--nodes", nodes.to_string()));
    let set = plan.overrides.set.iter().map(|(path, value)| (path.clone(), value.to_string()));
    for (path, value) in set.chain(cell.settings.iter().cloned()) {
        push("--set", quoted(&format!("{path}={value}")));
    }
    words.join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "./_-=,".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Whether there is memory enough for a run.
fn fits(scenario: &Scenario) -> Result<(), String> {
    let needed = scenario.memory_estimate();
    match system::available_bytes() {
        Some(free) if needed as f64 > free as f64 * SPARE => {
            let mib = |bytes: u64| bytes >> 20;
            let (nodes, needed, free) = (scenario.nodes, mib(needed), mib(free));
            Err(format!("{nodes} peers take about {needed} MiB of memory, and {free} MiB are free"))
        }
        _ => Ok(()),
    }
}

/// A field and its value as TOML; what is no TOML is a text.
fn setting(text: &str) -> Result<(String, toml::Value), String> {
    let (path, value) = text.split_once('=').ok_or("give FIELD=VALUE")?;
    let table = format!("value = {value}").parse::<toml::Table>();
    let value = table.ok().and_then(|mut t| t.remove("value")).unwrap_or_else(|| value.into());
    Ok((path.to_owned(), value))
}

fn overlay(text: &str) -> Result<String, String> {
    match text {
        sweep::ALL => Ok(text.to_owned()),
        name => name.parse::<Algorithm>().map(|a| a.to_string()).map_err(|e| format!("{e}, or all")),
    }
}

fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let range = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match range {
        Some((first, last)) if first <= last => Ok(first..=last),
        _ => Err("give two numbers, the smaller one first: 1..20".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_settings_are_read() {
        assert_eq!(seeds("1..20"), Ok(1..=20));
        assert!(seeds("3..1").is_err() && seeds("7").is_err());
        assert_eq!(setting("churn.mean_s=60"), Ok(("churn.mean_s".into(), 60.into())));
        assert_eq!(setting("overlay=chord"), Ok(("overlay".into(), "chord".into())));
        assert_eq!(setting("overlay=\"chord\"").unwrap().1, "chord".into());
        assert!(setting("nodes").is_err());
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_take_them_apart() {
        assert_eq!(quoted("scenarios/a.toml"), "scenarios/a.toml");
        assert_eq!(quoted("events[0].kill=0.5"), "'events[0].kill=0.5'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn a_run_that_does_not_fit_is_refused_with_the_estimate() {
        let huge = Scenario { nodes: 1_000_000, users_per_node: 100, ..Scenario::default() };
        let refused = fits(&huge).unwrap_err();
        assert!(refused.contains("1000000 peers take about") && refused.contains("free"), "{refused}");
        assert_eq!(fits(&Scenario::default()), Ok(()));
    }
}
