//! Many runs: the cells of a sweep and its seeds, one after the other.
//!
//! With a directory every finished cell is kept at once, in a file of its own. A later call reads what
//! is there, plays what is missing or belongs to another scenario, and sums up all of it. So a long
//! sweep can be interrupted at any time, and a range of seeds can grow.

use std::fs;
use std::path::{Path, PathBuf};

use openvoip::control::{self, exit};
use serde_json::{Value, json};
use sim::report::plot;
use sim::report::table::{self, Line};
use sim::sweep::Cell;

use super::Plan;

/// Plays the cells that are not there yet, and returns the answer about all.
pub(super) fn play(
    plan: &Plan<'_>,
    cells: &[Cell],
    out: Option<&Path>,
    as_json: bool,
) -> Result<Value, String> {
    let unwritten = |e: std::io::Error| format!("cannot write what a cell came to: {e}");
    let kept = out.map(|dir| dir.join("cells"));
    if let Some(dir) = &kept {
        fs::create_dir_all(dir).map_err(unwritten)?;
    }
    let mut lines = Vec::with_capacity(cells.len());
    let mut played = 0;
    for (n, cell) in (1..).zip(cells) {
        let path = kept.as_ref().map(|dir| dir.join(format!("{}.json", cell.name())));
        if let Some(line) = path.as_ref().and_then(|path| read(path, cell)) {
            lines.push(line);
            continue;
        }
        eprintln!("{n} of {}: {}", cells.len(), cell.name());
        let report = super::play(plan, cell, None)?;
        let line = Line::of(cell, &report);
        if let Some(path) = &path {
            write(path, &serde_json::to_vec_pretty(&line).map_err(|e| e.to_string())?).map_err(unwritten)?;
        }
        played += 1;
        lines.push(line);
    }
    let rows = table::rows(&lines);
    let markdown = table::markdown(&rows);
    let failed: u64 = rows.iter().map(|row| row.failed.len() as u64).sum();
    let name = cells.first().map(|cell| cell.scenario.name.clone()).unwrap_or_default();
    let mut body = json!({
        "scenario": name, "cells": lines.len(), "played": played, "failed": failed, "rows": rows,
    });
    if let Some(dir) = out {
        let text = serde_json::to_vec_pretty(&body).map_err(|e| e.to_string())?;
        write(&dir.join("summary.json"), &text).map_err(unwritten)?;
        write(&dir.join("summary.md"), markdown.as_bytes()).map_err(unwritten)?;
        for (name, svg) in plot::of_rows(&rows) {
            write(&dir.join(name), svg.as_bytes()).map_err(unwritten)?;
        }
    }
    if !as_json {
        // The table says it better than a list of fields.
        super::super::answer::print(&markdown);
        if let Some(fields) = body.as_object_mut() {
            fields.remove("rows");
        }
    }
    let code = if failed == 0 { exit::OK } else { exit::FAILED };
    Ok(control::answer("sweep", code, body))
}

/// What a cell came to, if it has run and nothing about it has changed.
fn read(path: &Path, cell: &Cell) -> Option<Line> {
    let line: Line = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (line.fingerprint == cell.fingerprint()).then_some(line)
}

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside: PathBuf = path.with_extension("new");
    fs::write(&beside, bytes)?;
    fs::rename(beside, path)
}
