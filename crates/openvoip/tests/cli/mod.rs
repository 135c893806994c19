//! The real program: peers of it that run, and commands given to them.
#![allow(dead_code, unreachable_pub)] // shared by test programs that each use a part

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const OPENVOIP: &str = env!("CARGO_BIN_EXE_openvoip");

/// A peer that runs until it is dropped.
pub struct Peer {
    child: Child,
    dir: tempfile::TempDir,
    /// What it said when it started.
    pub started: Value,
}

impl Peer {
    /// Starts `openvoip COMMAND ...` in a directory of its own, on free ports.
    pub fn start(command: &[&str]) -> Peer {
        Peer::start_in(tempfile::tempdir().unwrap(), command)
    }

    /// The same in a directory that is there.
    pub fn start_in(dir: tempfile::TempDir, command: &[&str]) -> Peer {
        let log = std::fs::File::create(dir.path().join("stderr")).unwrap();
        let mut child = Command::new(OPENVOIP)
            .args(command)
            .args(["--json", "--listen", "127.0.0.1:0", "--sip", "127.0.0.1:0", "--data-dir"])
            .arg(dir.path())
            .env_remove("OPENVOIP_LOG")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let started = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{command:?} said {line:?}"));
        let peer = Peer { child, dir, started };
        peer.until("status", |status| status["online"] == true);
        peer
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The address of its peer port.
    pub fn address(&self) -> String {
        self.started["listen"].as_str().unwrap().to_owned()
    }

    /// Gives it a command; exit code and answer.
    pub fn ask(&self, command: &[&str]) -> (i32, Value) {
        let dir = self.dir.path().to_str().unwrap();
        openvoip(&[&["--data-dir", dir, "--timeout", "20"], command].concat())
    }

    /// The same for a command that must work.
    pub fn get(&self, command: &[&str]) -> Value {
        let (code, answer) = self.ask(command);
        assert_eq!(code, 0, "{command:?}: {answer}");
        answer
    }

    /// Repeats a command until its answer is as wanted, for at most ten seconds.
    pub fn until(&self, command: &str, good: impl Fn(&Value) -> bool) -> Value {
        let words: Vec<&str> = command.split(' ').collect();
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let (_, answer) = self.ask(&words);
            if good(&answer) {
                return answer;
            }
            assert!(Instant::now() < end, "{command}: {answer}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it wrote to standard error.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap()
    }

    /// Gives lines to its console; what that printed.
    pub fn console(&self, lines: &str) -> String {
        let mut child = Command::new(OPENVOIP)
            .args(["console", "--json", "--data-dir"])
            .arg(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Stops it, and gives its directory back.
    pub fn stop(mut self) -> PathBuf {
        self.get(&["down"]);
        assert!(self.child.wait().unwrap().success());
        let path = self.dir.path().to_owned();
        let kept = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        let _ = kept.keep();
        path
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A founder, and a peer each for alice and bob of demo.test, all published.
pub fn overlay(founder: &[&str], others: &[&str]) -> [Peer; 3] {
    let founder = Peer::start(&[&["bootstrap", "--overlay-name", "test"], founder].concat());
    let address = founder.address();
    let up = |user: &str| Peer::start(&[&["up", "--bootstrap", &address, "--user", user], others].concat());
    let peers = [up("alice@demo.test"), up("bob@demo.test")];
    for peer in &peers {
        peer.until("status", |status| status["users"][0]["state"] == "published");
    }
    let [alice, bob] = peers;
    [founder, alice, bob]
}

/// Runs a command with `--json`; its exit code, and the one object it printed.
pub fn openvoip(arguments: &[&str]) -> (i32, Value) {
    let output =
        Command::new(OPENVOIP).args(arguments).arg("--json").env_remove("OPENVOIP_LOG").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let answer: Value =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments:?} printed {text:?}: {e}"));
    let schema = answer["schema"].as_str().unwrap_or_default();
    assert!(schema.starts_with("openvoip.") && schema.ends_with("/1"), "{arguments:?}: {answer}");
    assert!(answer.get("exit").is_none(), "{arguments:?}: {answer}");
    (output.status.code().unwrap(), answer)
}

/// Asserts that an answer has fields: `name:kind`, inner ones by dots, kind one of `b`oolean, `n`umber,
/// `s`tring, `l`ist, `o`bject, or the same in capitals if null is good too.
pub fn has(answer: &Value, fields: &str) {
    for field in fields.split_whitespace() {
        let (name, kind) = field.split_once(':').unwrap();
        let value = answer.pointer(&format!("/{}", name.replace('.', "/")));
        let value = value.unwrap_or_else(|| panic!("no {name} in {answer}"));
        let fits = match kind.to_lowercase().as_str() {
            "b" => value.is_boolean(),
            "n" => value.is_number(),
            "s" => value.is_string(),
            "l" => value.is_array(),
            "o" => value.is_object(),
            _ => panic!("unknown kind in {field}"),
        };
        let may_be_null = kind.chars().all(char::is_uppercase);
        assert!(fits || (may_be_null && value.is_null()), "{field} in {answer}");
    }
}
