//! The control socket's language: one line of JSON each way, over a socket only its owner can open.
//!
//! A request is a [`Command`] in JSON, `{"command": NAME, ...}`; the answer is the object that `--json`
//! prints, with `exit` telling the exit code. `docs/control-api.md` is its specification. This file
//! reads and writes lines; [`crate::command`] carries out.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use node::Outcome;
use serde_json::{Value, json};

use crate::command::{Answer, Command};

/// Exit codes, as documented by `--help`.
pub mod exit {
    /// Done.
    pub const OK: i32 = 0;
    /// Failed.
    pub const FAILED: i32 = 1;
    /// The command line, or a request, makes no sense.
    pub const USAGE: i32 = 2;
    /// The peer is not running.
    pub const NOT_RUNNING: i32 = 3;
    /// No such user or key.
    pub const NOT_FOUND: i32 = 4;
    /// No answer, or unreachable.
    pub const TIMEOUT: i32 = 5;
    /// Declined, busy, or nobody answered.
    pub const DECLINED: i32 = 6;
    /// A condition that was demanded is not met.
    pub const UNMET: i32 = 7;
    /// Bad configuration.
    pub const CONFIG: i32 = 8;
}

/// Longest request: a call with half a minute of sound to play.
pub const MAX_REQUEST: usize = 4 << 20;

/// Longest answer: a call of about twenty minutes, recorded.
pub const MAX_ANSWER: usize = 64 << 20;

/// Reads a request.
///
/// # Errors
/// A failure to send back, if it is not JSON, no command, or has fields it should not have.
pub fn read(line: &[u8]) -> Result<Command, Value> {
    serde_json::from_slice(line).map_err(|e| {
        let reason = format!("that request makes no sense: {e}");
        failure(exit::USAGE, &reason, "docs/control-api.md lists the commands and their fields")
    })
}

/// An answer with its schema and exit code.
pub fn answer(thing: &str, exit: i32, mut body: Value) -> Value {
    body["schema"] = json!(format!("openvoip.{thing}/1"));
    body["exit"] = json!(exit);
    body
}

/// A failure, in words and with what to do next.
pub fn failure(exit: i32, reason: &str, next: &str) -> Value {
    answer("error", exit, json!({ "error": reason, "next": next }))
}

fn to_json(value: impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// The JSON of an answer to a command about `thing`, as [`Command::thing`] names it.
pub fn render(thing: &str, outcome: Answer) -> Value {
    let done = |body| answer(thing, exit::OK, body);
    match outcome {
        Answer::Status(status) => done(to_json(status)),
        Answer::Stopped => done(json!({ "stopped": true })),
        Answer::Table(rows) => done(json!({ thing: rows })),
        Answer::Objects(rows) => done(json!({ thing: rows })),
        Answer::Connections(rows) => done(json!({ thing: rows })),
        Answer::Inbox(messages) => done(json!({ "messages": messages })),
        Answer::Calls(calls) => done(json!({ "calls": calls })),
        Answer::Pins(pins) => done(json!({ "pins": pins })),
        Answer::PinAccepted(pin) => done(to_json(pin)),
        Answer::PinForgotten { name } => done(json!({ "name": name, "forgotten": true })),
        Answer::DocumentTaken { sequence } => done(json!({ "sequence": sequence })),
        Answer::PhoneAdded { user, server } => done(json!({ "user": user, "server": server })),
        Answer::PhoneRemoved { user } => done(json!({ "user": user, "removed": true })),
        Answer::PhonesUnlocked(lifted) => done(json!({ "lifted": lifted })),
        Answer::Phones(phones) => done(json!({ "phones": phones })),
        Answer::Set { name, value } => done(json!({ "name": name, "value": value })),
        Answer::LogLevel(level) => done(json!({ "level": level })),
        Answer::Config(settings) => done(settings),
        Answer::Probes(probes) => done(to_json(probes)),
        Answer::Ended(outcome) => ended(thing, *outcome),
        Answer::Changed(key, value) => {
            let mut body = value_body(value);
            body["key"] = json!(key);
            done(body)
        }
    }
}

fn ended(thing: &str, outcome: Outcome) -> Value {
    let found = |yes| if yes { exit::OK } else { exit::NOT_FOUND };
    match outcome {
        Outcome::Lookup(report) => answer(thing, found(report.found), to_json(report)),
        Outcome::Value(value) => answer(thing, found(value.found), value_body(value)),
        Outcome::Stored { .. } if thing == "configure" => answer(thing, exit::OK, json!({ "done": true })),
        Outcome::Stored { holders, sequence } => {
            let body = json!({ "stored": true, "holders": holders, "sequence": sequence });
            answer(thing, exit::OK, body)
        }
        Outcome::Ping(report) => answer(thing, exit::OK, to_json(report)),
        Outcome::Message(report) => {
            let exit = if report.state == "failed" { of_status(report.status) } else { exit::OK };
            answer(thing, exit, to_json(report))
        }
        Outcome::Call(report) => {
            let exit = if report.failure.is_none() { exit::OK } else { of_status(report.status) };
            let recording = report.recording.clone();
            let mut body = answer(thing, exit, to_json(report));
            if let Some(samples) = recording {
                body["recording"] = json!(samples);
            }
            body
        }
        Outcome::Tables(found) => {
            let mut body = json!({ "node": found.node });
            match thing {
                // With whom a peer speaks is nobody else's business: others learn only how many.
                "connections" => {
                    body[thing] = json!([]);
                    body["counts"] = to_json(&found.diagnostics);
                }
                "objects" => body[thing] = to_json(&found.objects),
                "diagnostics" => body[thing] = to_json(&found.diagnostics),
                _ => body[thing] = to_json(&found.rows),
            }
            answer(thing, exit::OK, body)
        }
        Outcome::Failed { code, reason } => failure(of_status(code), &reason, next_step(thing, code)),
    }
}

/// A value as text; beside it in hexadecimal, if it is none.
fn value_body(value: node::report::Value) -> Value {
    let hex = std::str::from_utf8(&value.bytes).is_err();
    let hex = hex.then(|| data_encoding::HEXLOWER.encode(&value.bytes));
    let mut body = to_json(value);
    if let Some(hex) = hex {
        body["value_hex"] = json!(hex);
    }
    body
}

/// The exit code that a code of SIP or P2PP comes to.
fn of_status(status: u16) -> i32 {
    match status {
        404 => exit::NOT_FOUND,
        408 | 504 => exit::TIMEOUT,
        480 | 486 | 487 | 600 | 603 => exit::DECLINED,
        _ => exit::FAILED,
    }
}

/// What to do after a failure.
fn next_step(thing: &str, status: u16) -> &'static str {
    match (thing, status) {
        ("configure", 403) => "name the key that `openvoip operator key` shows in `operators` of that peer",
        ("configure", 406) => "an overlay allows it if it was founded with --remote-settings",
        ("configure", 412) => "openvoip operator key",
        ("pin", 404) => "openvoip pins list; a key is known once its owner was called or written to",
        ("phone", 404) => "openvoip status; openvoip phone list",
        (_, 404) => "check the name, or give an address IP:PORT or a Node-ID",
        _ => "openvoip status",
    }
}

/// Asks the peer that runs on a data directory.
pub fn ask(data_dir: &Path, request: &Value, timeout: Duration) -> Value {
    let path = crate::home::Home::control_socket(data_dir);
    let Ok(mut stream) = std::os::unix::net::UnixStream::connect(&path) else {
        let next = format!("openvoip up --data-dir {}", data_dir.display());
        return failure(exit::NOT_RUNNING, "the peer is not running", &next);
    };
    let _ = stream.set_read_timeout(Some(timeout));
    let mut line = request.to_string();
    line.push('\n');
    if let Err(e) = stream.write_all(line.as_bytes()) {
        return failure(exit::FAILED, &format!("cannot talk to the peer: {e}"), "openvoip status");
    }
    let mut reply = String::new();
    match BufReader::new(stream).take(MAX_ANSWER as u64).read_line(&mut reply) {
        Ok(0) => failure(exit::FAILED, "the peer ended before it answered", "openvoip status"),
        Ok(_) => serde_json::from_str(&reply)
            .unwrap_or_else(|_| failure(exit::FAILED, "the answer makes no sense", "openvoip version")),
        Err(_) => failure(exit::TIMEOUT, "no answer in time", "openvoip status, or a longer --timeout"),
    }
}
