//! `docs/control-api.md` and the code say the same: every command with every field, and answers of the
//! documented shape from a peer that runs.

mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use openvoip::control;
use program::{Peer, openvoip};
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../../docs/control-api.md");

/// Objects whose keys are data and not fields.
const MAPS: [&str; 8] =
    ["ledger", "shed", "load", "dropped", "counts", "diagnostics", ".settings", ".origin"];

/// What the document says about one command.
struct Section {
    name: String,
    fields: BTreeSet<String>,
    request: Value,
    answer: Value,
}

fn sections() -> Vec<Section> {
    let parts = DOCUMENT.split("\n### `").skip(1);
    parts
        .map(|part| {
            let name = part.split('`').next().unwrap().to_owned();
            let rows = part.lines().filter_map(|line| line.strip_prefix("| `"));
            let fields = rows.map(|row| row.split('`').next().unwrap().to_owned()).collect();
            let mut examples = part.split("```json\n").skip(1).map(|text| {
                let text = text.split("```").next().unwrap();
                serde_json::from_str::<Value>(text).unwrap_or_else(|e| panic!("{name}: {e}: {text}"))
            });
            let (request, answer) = (examples.next().unwrap(), examples.next().unwrap());
            Section { fields, request, answer, name }
        })
        .collect()
}

/// The names that serde lists in an error: "expected one of `a`, `b`".
fn listed(error: &str) -> BTreeSet<String> {
    let (_, list) = error.split_once("expected").unwrap_or_default();
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn error_of(request: &Value) -> String {
    control::read(request.to_string().as_bytes()).unwrap_err()["error"].as_str().unwrap().to_owned()
}

#[test]
fn the_document_lists_the_commands_that_the_code_takes_and_no_others() {
    let documented: BTreeSet<String> = sections().into_iter().map(|s| s.name).collect();
    let taken = listed(&error_of(&serde_json::json!({ "command": "dance" })));
    assert!(taken.len() > 15, "{taken:?}");
    assert_eq!(documented, taken);
}

#[test]
fn the_document_lists_the_fields_that_each_command_takes_and_no_others() {
    for Section { name, fields, mut request, .. } in sections() {
        assert_eq!(request["command"], name.as_str());
        control::read(request.to_string().as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
        request["dance"] = true.into();
        let error = error_of(&request);
        assert!(error.contains("unknown field `dance`"), "{name}: {error}");
        assert_eq!(listed(&error), fields, "{name}");
    }
}

#[test]
fn a_running_peer_answers_in_the_documented_shape() {
    let dir = tempfile::tempdir().unwrap();
    let [first, next] = ["first", "next"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    assert_eq!(openvoip(&["overlay", "create", "camp", "--out", &first]).0, 0);
    let key = format!("{first}.key");
    assert_eq!(openvoip(&["overlay", "sign", &first, "--key", &key, "--out", &next]).0, 0);
    let next: String = std::fs::read(next).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let bob = Peer::start(&["up", "--user", "bob@camp.example", "--document", &first]);
    let alice = ["up", "--user", "alice@camp.example", "--document", &first, "--bootstrap", &bob.address()];
    let alice = Peer::start(&alice);
    for peer in [&bob, &alice] {
        peer.until("status", |status| status["users"][0]["state"] == "published");
    }
    // Somebody whose key is known.
    ask(alice.dir(), &serde_json::json!({ "command": "msg", "who": "bob@camp.example", "text": "hello" }));
    // Values first, so that tables and lists have something to show; the goodbye last.
    let mut sections: BTreeMap<usize, Section> = sections().into_iter().enumerate().collect();
    let first: Vec<usize> = sections.iter().filter(|(_, s)| s.name == "put").map(|(n, _)| *n).collect();
    let order = first.into_iter().chain(0..sections.len()).collect::<Vec<_>>();
    for n in order {
        let Some(section) = sections.remove(&n) else { continue };
        let request =
            section.request.to_string().replace("192.0.2.2:7080", &bob.address()).replace("4f565044", &next);
        let answer = ask(alice.dir(), &serde_json::from_str(&request).unwrap());
        assert_eq!(answer["schema"], section.answer["schema"], "{}: {answer}", section.name);
        assert_eq!(answer["exit"], section.answer["exit"], "{}: {answer}", section.name);
        same_shape(&section.name, &section.answer, &answer);
    }
    assert_eq!(ask(alice.dir(), &serde_json::json!({ "command": "status" }))["exit"], 3);
}

/// A connection to the control socket of a peer.
struct Line(BufReader<UnixStream>);

impl Line {
    fn open(peer: &Peer) -> Line {
        let stream = UnixStream::connect(peer.dir().join("control.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Line(BufReader::new(stream))
    }

    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next answer; `None` when the peer has closed the connection.
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).ok()
    }
}

#[test]
fn a_program_that_closes_its_sending_side_gets_all_its_answers_and_then_the_end() {
    let peer = Peer::start(&["up"]);
    let mut line = Line::open(&peer);
    line.send("{\"command\": \"call\", \"who\": \"echo\", \"duration\": 0.5}\n\n{\"command\": \"status\"}\n");
    line.0.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(line.next().unwrap()["schema"], "openvoip.status/1");
    assert_eq!(line.next().unwrap()["schema"], "openvoip.call/1");
    assert_eq!(line.next(), None);
}

#[test]
fn a_call_of_a_program_that_goes_away_is_hung_up() {
    let peer = Peer::start(&["up"]);
    let mut line = Line::open(&peer);
    line.send("{\"command\": \"call\", \"who\": \"echo\"}\n");
    peer.until("status", |status| status["calls"] == 1);
    drop(line);
    peer.until("status", |status| status["calls"] == 0);
}

#[test]
fn a_watch_goes_on_answering_and_a_bad_line_harms_nobody() {
    let peer = Peer::start(&["up"]);
    let mut line = Line::open(&peer);
    line.send("{\"command\": \"watch\", \"key\": \"k\", \"every\": 1}\n");
    assert_eq!(line.next().unwrap()["found"], false);
    line.send("nonsense\n{\"command\": \"put\", \"key\": \"k\", \"value\": \"v\"}\n");
    let mut answers = [(); 3].map(|()| line.next().unwrap());
    answers.sort_by_key(|answer| answer["schema"].to_string());
    let schemas = answers.each_ref().map(|answer| answer["schema"].as_str().unwrap());
    assert_eq!(schemas, ["openvoip.change/1", "openvoip.error/1", "openvoip.put/1"]);
    assert_eq!((&answers[0]["value"], &answers[1]["exit"]), (&"v".into(), &2.into()));
}

#[test]
fn a_request_without_end_ends_the_connection_and_not_the_peer() {
    let peer = Peer::start(&["up"]);
    let mut line = Line::open(&peer);
    let part = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while sent < 8 && line.0.get_mut().write_all(&part).is_ok() {
        sent += 1;
    }
    assert!(sent < 8, "more than twice the longest request was taken");
    assert_eq!(peer.get(&["status"])["online"], true);
}

fn ask(dir: &Path, request: &Value) -> Value {
    control::ask(dir, request, Duration::from_secs(20))
}

/// Asserts that two values have the same fields of the same types; lists are compared by their first
/// items, and an empty list or null fits everything.
fn same_shape(at: &str, documented: &Value, actual: &Value) {
    match (documented, actual) {
        (Value::Object(a), Value::Object(b)) => {
            if !MAPS.iter().any(|map| at.ends_with(map)) {
                let keys = |o: &serde_json::Map<String, Value>| o.keys().cloned().collect::<BTreeSet<_>>();
                assert_eq!(keys(a), keys(b), "{at}");
            }
            for (name, value) in a {
                same_shape(&format!("{at}.{name}"), value, b.get(name).unwrap_or(&Value::Null));
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            if let (Some(a), Some(b)) = (a.first(), b.first()) {
                same_shape(&format!("{at}[]"), a, b);
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        (a, b) => {
            let same = std::mem::discriminant(a) == std::mem::discriminant(b);
            assert!(same, "{at}: documented {a}, got {b}");
        }
    }
}
