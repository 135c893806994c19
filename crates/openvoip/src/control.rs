//! Commands to a running peer: one line of JSON each way, over a socket only its owner can open.
//!
//! A request is `{"command": NAME, ...}`; the answer is the JSON object that `--json` prints, with
//! `exit` telling the exit code. Every front end speaks it, so all can do the same.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use node::report::LookupReport;
use node::{CallOptions, LookupOptions, Node, OpId, Outcome, Table, Target};
use serde_json::{Value, json};
use wire::p2pp::Kind;
use wire::{ResourceId, Time};

/// Exit codes, as documented by `--help`.
pub mod exit {
    /// Done.
    pub const OK: i32 = 0;
    /// Failed.
    pub const FAILED: i32 = 1;
    /// The command line makes no sense.
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

/// What a command came to at once.
pub enum Reply {
    /// The answer.
    Now(Value),
    /// The answer comes when this command ends; the name is that of the answer's schema.
    Later(OpId, &'static str),
    /// The peer says goodbye and ends.
    Leave,
}

pub(crate) fn text<'a>(request: &'a Value, name: &str) -> &'a str {
    request[name].as_str().unwrap_or("")
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

/// A time span of a request, in seconds: finite, and not longer than a year.
fn seconds(value: &Value) -> Option<Duration> {
    const YEAR: f64 = 366.0 * 86_400.0;
    value.as_f64().filter(|s| (0.0..=YEAR).contains(s)).map(Duration::from_secs_f64)
}

fn to_json(value: impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// Carries out a command.
pub fn handle(node: &mut Node, now: Time, request: &Value) -> Reply {
    let who = text(request, "who");
    let from = match text(request, "from") {
        "" => first_user(node, now),
        from => from.to_owned(),
    };
    let Ok(target) = text(request, "node").parse::<Target>();
    let remote = !text(request, "node").is_empty();
    let rows = |name: &str, rows: Value| Reply::Now(answer(name, exit::OK, json!({ name: rows })));
    match text(request, "command") {
        "status" => {
            let mut status = to_json(node.status(now));
            status["rss_bytes"] = json!(crate::system::rss_bytes());
            Reply::Now(answer("status", exit::OK, status))
        }
        "down" => Reply::Leave,
        "routes" if remote => Reply::Later(node.tables_of(now, &target, Table::Routing), "routes"),
        "neighbors" if remote => Reply::Later(node.tables_of(now, &target, Table::Neighbors), "neighbors"),
        "objects" if remote => Reply::Later(node.tables_of(now, &target, Table::Objects), "objects"),
        "connections" if remote => {
            Reply::Later(node.tables_of(now, &target, Table::Diagnostics), "connections")
        }
        "diagnostics" => Reply::Later(node.tables_of(now, &target, Table::Diagnostics), "diagnostics"),
        "routes" => rows("routes", to_json(node.routes(now))),
        "neighbors" => rows("neighbors", to_json(node.neighbors(now))),
        "objects" => rows("objects", to_json(node.objects(now))),
        "connections" => rows("connections", to_json(node.connections(now))),
        "calls" => rows("calls", to_json(node.calls(now))),
        "inbox" => Reply::Now(answer(
            "inbox",
            exit::OK,
            json!({ "messages": to_json(node.inbox().collect::<Vec<_>>()) }),
        )),
        "lookup" => lookup(node, now, who, request),
        "put" => {
            let ttl = seconds(&request["ttl"]);
            Reply::Later(node.put(now, text(request, "key"), text(request, "value").as_bytes(), ttl), "put")
        }
        "get" => Reply::Later(node.get(now, text(request, "key")), "get"),
        "remove" => Reply::Later(node.remove(now, text(request, "key")), "remove"),
        "msg" => Reply::Later(node.message(now, &from, who, text(request, "text")), "msg"),
        "ping" => {
            let Ok(target) = who.parse::<Target>();
            Reply::Later(node.ping(now, &target), "ping")
        }
        "call" => {
            let play = request["play"].as_array().map(|samples| {
                samples.iter().filter_map(Value::as_i64).map(|s| s as i16).collect::<Vec<i16>>()
            });
            let options = CallOptions {
                play,
                record: request["record"].as_bool().unwrap_or(false),
                duration: seconds(&request["duration"]),
            };
            Reply::Later(node.call(now, &from, who, options), "call")
        }
        "phone list" => rows("phones", to_json(node.status(now).phones)),
        "set" => {
            let (name, value) = (text(request, "name"), request["value"].as_str());
            Reply::Now(match node.set_load(name, value) {
                Ok(()) => answer("set", exit::OK, json!({ "name": name, "value": value })),
                Err(e) => failure(exit::FAILED, &e, "openvoip status"),
            })
        }
        "probe" => {
            let every = seconds(&request["every"]).filter(|d| *d >= Duration::from_secs(1));
            node.set_probe_interval(now, every);
            Reply::Now(answer("probe", exit::OK, to_json(node.status(now).probes)))
        }
        other => Reply::Now(failure(exit::FAILED, &format!("unknown command '{other}'"), "openvoip --help")),
    }
}

fn first_user(node: &Node, now: Time) -> String {
    node.status(now).users.first().map_or_else(|| "peer".into(), |u| u.aor.clone())
}

fn lookup(node: &mut Node, now: Time, who: &str, request: &Value) -> Reply {
    let options = LookupOptions {
        mode: text(request, "mode").parse().unwrap_or_default(),
        paths: request["paths"].as_u64().unwrap_or(0).min(8) as u8,
        trace: request["trace"].as_bool().unwrap_or(false),
        fresh: request["fresh"].as_bool().unwrap_or(false),
        ..LookupOptions::default()
    };
    let op = match who.parse::<wire::Key>() {
        Ok(key) => node.lookup_key(now, ResourceId(key), kind(request), options),
        Err(_) => node.lookup_user(now, who, options),
    };
    Reply::Later(op, "lookup")
}

/// The kind of record that is looked for at a key.
fn kind(request: &Value) -> Kind {
    let named = |kind: &Kind| kind.name() == text(request, "kind");
    [Kind::USER, Kind::PEER, Kind::DATA].into_iter().find(named).unwrap_or(Kind::USER)
}

/// The answer to a command that has ended.
pub fn outcome(thing: &str, outcome: Outcome) -> Value {
    match outcome {
        Outcome::Lookup(report) => {
            let LookupReport { found, .. } = report;
            answer("lookup", if found { exit::OK } else { exit::NOT_FOUND }, to_json(report))
        }
        Outcome::Value(value) => {
            answer("get", if value.found { exit::OK } else { exit::NOT_FOUND }, to_json(value))
        }
        Outcome::Stored { .. } if thing == "configure" => answer(thing, exit::OK, json!({ "done": true })),
        Outcome::Stored { holders, sequence } => {
            answer(thing, exit::OK, json!({ "stored": true, "holders": holders, "sequence": sequence }))
        }
        Outcome::Ping(report) => answer("ping", exit::OK, to_json(report)),
        Outcome::Message(report) => {
            let exit = if report.state == "failed" { of_status(report.status) } else { exit::OK };
            answer("msg", exit, to_json(report))
        }
        Outcome::Call(report) => {
            let exit = if report.failure.is_none() { exit::OK } else { of_status(report.status) };
            let recording = report.recording.clone();
            let mut body = answer("call", exit, to_json(report));
            if let Some(samples) = recording {
                body["recording"] = json!(samples);
            }
            body
        }
        Outcome::Tables(found) => {
            let table = match thing {
                // With whom a peer speaks is nobody else's business: others learn only how many.
                "connections" => {
                    let counts = to_json(&found.diagnostics);
                    let body = json!({ "node": found.node, "connections": [], "counts": counts });
                    return answer(thing, exit::OK, body);
                }
                "objects" => to_json(&found.objects),
                "diagnostics" => to_json(&found.diagnostics),
                _ => to_json(&found.rows),
            };
            answer(thing, exit::OK, json!({ "node": found.node, thing: table }))
        }
        Outcome::Failed { code, reason } => failure(of_status(code), &reason, next_step(thing, code)),
    }
}

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
    match BufReader::new(stream).take(64 << 20).read_line(&mut reply) {
        Ok(0) => failure(exit::FAILED, "the peer ended before it answered", "openvoip status"),
        Ok(_) => serde_json::from_str(&reply)
            .unwrap_or_else(|_| failure(exit::FAILED, "the answer makes no sense", "openvoip version")),
        Err(_) => failure(exit::TIMEOUT, "no answer in time", "openvoip status, or a longer --timeout"),
    }
}

/// Commands that wait for their outcome, and who asked.
pub type Waiting = BTreeMap<OpId, (mio::Token, &'static str)>;
