//! `openvoip sim` as it is typed: files, many runs, replays, minimal scenarios, refusals.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn sim(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_openvoip")).arg("sim").args(words).output().unwrap()
}

fn answer(output: &Output) -> (Option<i32>, Value) {
    let text = String::from_utf8_lossy(&output.stdout);
    (output.status.code(), serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
}

fn write(dir: &Path, text: &str) -> String {
    let path = dir.join("scenario.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_run_leaves_a_report_a_series_and_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = write(dir.path(), "name = 'few'\nnodes = 8\nduration_s = 100");
    let out = dir.path().join("out");
    let (code, report) = answer(&sim(&[&scenario, "--out", out.to_str().unwrap(), "--json"]));
    assert_eq!(code, Some(0), "{report}");
    let written: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(written["log_hash"], report["log_hash"]);
    assert_eq!(fs::read_to_string(out.join("series.csv")).unwrap().lines().count(), 11);
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("<svg") && !page.contains("<script"));
    assert!(!out.join("log.txt").exists());
}

#[test]
fn a_sweep_goes_on_where_it_was_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let text = "name = 'sweep'\nnodes = 6\nduration_s = 90\n[sweep]\nloss = [0.0, 0.01]\n";
    let scenario = write(dir.path(), text);
    let out = dir.path().join("out");
    let play = |more: &[&str]| {
        answer(&sim(&[&[scenario.as_str(), "--out", out.to_str().unwrap(), "--json"], more].concat()))
    };
    let (code, first) = play(&["--seeds", "1..2"]);
    assert_eq!((code, &first["cells"], &first["played"]), (Some(0), &4.into(), &4.into()), "{first}");
    assert_eq!(first["schema"], "openvoip.sweep/1");
    assert_eq!((first["rows"].as_array().unwrap().len(), &first["rows"][0]["seeds"]), (2, &2.into()));
    let (_, more) = play(&["--seeds", "1..3"]);
    assert_eq!((&more["cells"], &more["played"]), (&6.into(), &2.into()), "only the third seed was missing");
    // A cell that was torn is played again, and so is every one once the scenario is another.
    let cell = fs::read_dir(out.join("cells")).unwrap().next().unwrap().unwrap().path();
    fs::write(&cell, "{").unwrap();
    assert_eq!(play(&["--seeds", "1..3"]).1["played"], 1);
    let table = fs::read_to_string(out.join("summary.md")).unwrap();
    assert!(table.starts_with("| loss | seeds |") && table.lines().count() == 4, "{table}");
    assert_eq!(play(&["--seeds", "1..3", "--set", "duration_s=80"]).1["played"], 6);
    let (_, all) = play(&["--overlay", "all", "--set", "loss=0.0"]);
    assert_eq!(all["cells"].as_u64().unwrap() as usize, node::Algorithm::ALL.len());
}

#[test]
fn a_failure_prints_the_command_that_repeats_it_and_can_be_made_smaller() {
    let dir = tempfile::tempdir().unwrap();
    let text = "nodes = 40\nduration_s = 120\nloss = 0.02\n[[events]]\nat_s = 50\njoin = 3\n\
                [bars]\nlookups = 0.9\nmaintenance_bytes_per_s = 20\n[sweep]\n\"events[0].join\" = [1, 2]";
    let scenario = write(dir.path(), text);
    let failed = sim(&[&scenario, "--seeds", "7..7", "--json"]);
    assert_eq!(failed.status.code(), Some(1));
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    let replay = told.lines().find_map(|line| line.strip_prefix("replay: ")).unwrap();
    assert!(replay.contains("--seed 7") && replay.contains("--set 'events[0].join=1'"), "{replay}");
    // The command, as a shell takes it, does the same again.
    let program = env!("CARGO_BIN_EXE_openvoip");
    let line = replay.replacen("openvoip", program, 1) + " --json";
    let again = Command::new("sh").args(["-c", &line]).output().unwrap();
    let (code, report) = answer(&again);
    assert_eq!((code, &report["seed"]), (Some(1), &7.into()), "{report}");

    let words = [&scenario, "--set", "events[0].join=1", "--minimize", "--json"];
    let (code, small) = answer(&sim(&words));
    assert_eq!((code, &small["schema"]), (Some(1), &"openvoip.minimize/1".into()), "{small}");
    let smaller: toml::Table = small["scenario"].as_str().unwrap().parse().unwrap();
    assert!(smaller["nodes"].as_integer().unwrap() < 40 && !smaller.contains_key("events"), "{smaller}");
    let smallest = write(dir.path(), small["scenario"].as_str().unwrap());
    assert_eq!(sim(&[&smallest]).status.code(), Some(1), "it fails by itself");
}

#[test]
fn what_cannot_be_played_is_refused_with_line_column_or_estimate() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = write(dir.path(), "nodes = 5\nloss = 7");
    let (code, refused) = answer(&sim(&[&scenario, "--json"]));
    let error = refused["error"].as_str().unwrap();
    assert!(code == Some(8) && error.contains("line 2, column 8") && error.contains("loss"), "{error}");
    let (code, refused) = answer(&sim(&[&scenario, "--set", "loss=0.1", "--json"]));
    assert_eq!(code, Some(8), "the file itself is wrong: {refused}");

    let scenario = write(dir.path(), "nodes = 1000000\nusers_per_node = 100");
    let (code, refused) = answer(&sim(&[&scenario, "--json"]));
    let error = refused["error"].as_str().unwrap();
    assert!(code == Some(7) && error.contains("MiB"), "{error}");

    let scenario = write(dir.path(), "[churn]\nlaw = 'trace'\ntrace = 'trace.csv'");
    assert_eq!(sim(&[&scenario]).status.code(), Some(8), "there is no such file");
    fs::write(dir.path().join("trace.csv"), "a,1,50\nb,2").unwrap();
    let (_, refused) = answer(&sim(&[&scenario, "--json"]));
    assert!(refused["error"].as_str().unwrap().contains("trace, line 2"), "{refused}");
    assert_eq!(sim(&[&scenario, "--overlay", "pigeon"]).status.code(), Some(2));
}
