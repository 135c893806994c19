//! The real program, run on loopback for a test and ended with it: peers of it, and commands given to them.
#![allow(dead_code, unreachable_pub)] // shared by test programs that each use a part

pub mod dtls_phone;
pub mod phone;
pub mod tls_phone;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const OPENVOIP: &str = env!("CARGO_BIN_EXE_openvoip");

/// A port of the system's choice, so that tests do not meet.
pub const ANY: &str = "127.0.0.1:0";

/// A peer that runs until it is dropped.
pub struct Peer {
    child: Child,
    dir: PathBuf,
    /// Its directory, where it is nobody else's.
    own: Option<TempDir>,
    /// What it said on standard output when it started, if it was to say it in JSON.
    pub started: Value,
}

impl Peer {
    /// Starts `openvoip COMMAND ...` on a data directory; does not wait until it runs.
    pub fn spawn(dir: &Path, command: &[&str]) -> Peer {
        let child = Command::new(OPENVOIP)
            .args(command)
            .arg("--data-dir")
            .arg(dir)
            .env_remove("OPENVOIP_LOG")
            .stdout(Stdio::piped())
            .stderr(File::create(dir.join("stderr")).unwrap())
            .spawn()
            .expect("the program starts");
        Peer { child, dir: dir.to_owned(), own: None, started: Value::Null }
    }

    /// Starts it on ports of the system's choice, and waits until it can be asked.
    pub fn ready(dir: &Path, command: &[&str]) -> Peer {
        let ports = ["--json", "--listen", ANY, "--sip", ANY, "--sips", ANY];
        let mut peer = Peer::spawn(dir, &[command, &ports].concat());
        let mut line = String::new();
        BufReader::new(peer.child.stdout.take().expect("piped")).read_line(&mut line).unwrap();
        let said = || panic!("{command:?} said {line:?} and {:?}", peer.said());
        peer.started = serde_json::from_str(&line).unwrap_or_else(|_| said());
        peer.until("status", |status| status["schema"] == "openvoip.status/1");
        peer
    }

    /// The same in a directory of its own, and waits until it is in an overlay.
    pub fn start(command: &[&str]) -> Peer {
        Peer::start_in(tempfile::tempdir().unwrap(), command)
    }

    /// The same in a directory that is there.
    pub fn start_in(dir: TempDir, command: &[&str]) -> Peer {
        let mut peer = Peer::ready(dir.path(), command);
        peer.own = Some(dir);
        peer.until("status", |status| status["online"] == true);
        peer
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The address of its peer port.
    pub fn address(&self) -> String {
        self.started["listen"].as_str().unwrap().to_owned()
    }

    /// Gives it a command; exit code and answer.
    pub fn ask(&self, command: &[&str]) -> (i32, Value) {
        openvoip_in(&self.dir, &[&["--timeout", "20"], command].concat())
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

    /// Its status.
    pub fn status(&self) -> Value {
        self.ask(&["status"]).1
    }

    /// An address of its status.
    pub fn at(&self, name: &str) -> SocketAddr {
        self.status()[name].as_str().expect("a status").parse().expect("an address")
    }

    /// Waits for something to become true, at most so many seconds.
    pub fn wait_until(&mut self, what: &str, seconds: u64, is_true: impl Fn(&Peer) -> bool) {
        let end = Instant::now() + Duration::from_secs(seconds);
        while !is_true(self) {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "the peer ended with {ended:?}:\n{}", self.said());
            assert!(Instant::now() < end, "not within {seconds} s: {what}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it has written to standard error so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("stderr")).unwrap()).into_owned()
    }

    /// Gives lines to its console; what that printed.
    pub fn console(&self, lines: &str) -> String {
        let (code, printed) = openvoip_told(&self.dir, &["console"], lines);
        assert_eq!(code, 0);
        printed
    }

    /// Waits until it has ended by itself; its exit code, and the object it printed.
    pub fn ended(mut self) -> (i32, Value) {
        let end = Instant::now() + Duration::from_secs(10);
        let code = loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => break status.code().expect("an exit code"),
                None => assert!(Instant::now() < end, "it does not end by itself:\n{}", self.said()),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let printed = std::io::read_to_string(self.child.stdout.take().expect("piped")).unwrap();
        (code, serde_json::from_str(&printed).unwrap_or(Value::Null))
    }

    /// Stops it as its owner does, and waits until it has ended.
    pub fn down(mut self) {
        self.get(&["down"]);
        let end = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(self.child.wait().expect("a child").success());
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

/// Runs a command on a data directory with this on its standard input; its exit code, and what it printed.
pub fn openvoip_told(dir: &Path, command: &[&str], input: &str) -> (i32, String) {
    let mut child = Command::new(OPENVOIP)
        .args(command)
        .args(["--json", "--data-dir"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    match child.stdin.take().unwrap().write_all(input.as_bytes()) {
        // It may refuse before it reads: what it answers tells.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
        written => written.unwrap(),
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code().expect("an exit code"), String::from_utf8(output.stdout).unwrap())
}

/// The same on a data directory.
pub fn openvoip_in(dir: &Path, arguments: &[&str]) -> (i32, Value) {
    openvoip(&[&["--data-dir", dir.to_str().unwrap()], arguments].concat())
}

/// An address at which nobody listens.
pub fn nobody() -> SocketAddr {
    UdpSocket::bind(ANY).and_then(|s| s.local_addr()).expect("a free port")
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
