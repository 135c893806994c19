//! The configuration: its template, what holds, and whether a file is good.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use openvoip::control::{self, exit};
use openvoip::settings::{BadConfig, FILE_NAME, TEMPLATE, resolve};
use serde_json::{Value, json};
use toml::Table;

use super::answer::{Context, print};

/// The configuration of a peer.
#[derive(Subcommand)]
pub(crate) enum Config {
    /// Print a commented configuration file that equals the defaults.
    Template,
    /// Show what holds: for the peer that runs, else for a file over the defaults.
    Show {
        /// Say where each value came from: default, file and line, or command line.
        #[arg(long)]
        origin: bool,
        /// This file, whatever runs [default: openvoip.toml of the data directory, if it is there].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Find mistakes in a configuration file, each with its line; exit 8 if there are any.
    Check {
        /// The file.
        file: PathBuf,
    },
}

impl Config {
    pub(crate) fn run(self, context: &Context) -> i32 {
        match self {
            Config::Template if context.json => {
                context.show(control::answer("config", exit::OK, json!({ "template": TEMPLATE })))
            }
            Config::Template => {
                print(TEMPLATE.trim_end());
                exit::OK
            }
            Config::Show { origin, config } => show(context, origin, config.as_deref()),
            Config::Check { file } => check(context, &file),
        }
    }
}

/// The file to read: the one that was named, else that of the data directory if it is there.
pub(crate) fn file(named: Option<&Path>, context: &Context) -> Option<PathBuf> {
    let usual = context.data_dir.join(FILE_NAME);
    named.map(Path::to_owned).or_else(|| usual.exists().then_some(usual))
}

/// A configuration that cannot be used, as an answer.
pub(crate) fn mistakes(bad: &BadConfig) -> Value {
    let next = match &bad.file {
        Some(file) => format!("openvoip config check {}", file.display()),
        None => "openvoip config template".into(),
    };
    let mut answer = control::failure(exit::CONFIG, &bad.to_string(), &next);
    let problems = bad
        .problems
        .iter()
        .map(|p| json!({ "line": p.line, "key": p.key, "problem": p.problem, "nearest": p.nearest }));
    answer["file"] = json!(bad.file);
    answer["problems"] = problems.collect();
    answer
}

/// A setting as the file would say it.
fn in_toml(value: &Value) -> String {
    toml::Value::try_from(value).map_or_else(|_| value.to_string(), |value| value.to_string())
}

fn check(context: &Context, file: &Path) -> i32 {
    match resolve(Some(file), &Table::new()) {
        Ok(_) => {
            let body = json!({ "file": file, "ok": true, "problems": [] });
            context.show(control::answer("config", exit::OK, body))
        }
        Err(bad) => {
            let mut answer = mistakes(&bad);
            answer["next"] = json!("openvoip config template");
            context.show(answer)
        }
    }
}

fn show(context: &Context, origin: bool, named: Option<&Path>) -> i32 {
    let running = named.is_none().then(|| context.ask(&json!({ "command": "config" })));
    let mut answer = match running.filter(|answer| answer["exit"] == exit::OK) {
        Some(answer) => answer,
        None => match resolve(file(named, context).as_deref(), &Table::new()) {
            Ok(resolved) => control::answer("config", exit::OK, resolved.to_json()),
            Err(bad) => return context.show(mistakes(&bad)),
        },
    };
    let origins = answer["origin"].take();
    if context.json {
        match origin {
            true => answer["origin"] = origins,
            false => drop(answer.as_object_mut().map(|o| o.remove("origin"))),
        }
        return context.show(answer);
    }
    // One `key = value` a line, which is TOML as well.
    for key in origins.as_object().into_iter().flat_map(|o| o.keys()) {
        let value = in_toml(key.split('.').fold(&answer["settings"], |table, name| &table[name]));
        match origin {
            true => {
                let origin = origins[key].as_str().unwrap_or_default();
                print(format_args!("{:<48} # {origin}", format!("{key} = {value}")));
            }
            false => print(format_args!("{key} = {value}")),
        }
    }
    exit::OK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_stand_in_a_file() {
        let settings =
            json!({ "a": 5, "b": "x\n", "c": [], "d": { "11": "anna@camp", "*9": "bob" }, "e": {} });
        for (key, value) in settings.as_object().unwrap() {
            let read: Table = format!("{key} = {}", in_toml(value)).parse().unwrap();
            assert_eq!(json!(read), json!({ key: value }));
        }
    }
}
