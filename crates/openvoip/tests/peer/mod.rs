//! The real program, run on loopback for a test and ended with it.
#![allow(dead_code, unreachable_pub)] // shared by test programs that each use a part

use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_openvoip");

/// A port of the system's choice, so that tests do not meet.
pub const ANY: &str = "127.0.0.1:0";

/// A peer that runs.
pub struct Peer {
    child: Child,
    said: Arc<Mutex<String>>,
    dir: std::path::PathBuf,
}

impl Peer {
    /// Starts `openvoip up` on a data directory.
    pub fn up(dir: &Path, arguments: &[&str]) -> Peer {
        let mut child = Command::new(BINARY)
            .arg("--data-dir")
            .arg(dir)
            .arg("up")
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let said = Arc::new(Mutex::new(String::new()));
        let (mut stderr, keep) = (child.stderr.take().expect("piped"), Arc::clone(&said));
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(len @ 1..) = stderr.read(&mut buffer) {
                keep.lock().expect("no panic").push_str(&String::from_utf8_lossy(&buffer[..len]));
            }
        });
        Peer { child, said, dir: dir.to_owned() }
    }

    /// The same, on ports of the system's choice, until it can be asked.
    pub fn ready(dir: &Path, arguments: &[&str]) -> Peer {
        let mut peer = Peer::up(dir, &[&["--listen", ANY, "--sip", ANY], arguments].concat());
        peer.wait_until("it answers", 10, |p| p.ask(&["status"])["schema"] == "openvoip.status/1");
        peer
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        self.said.lock().expect("no panic").clone()
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

    /// What a command answers.
    pub fn ask(&self, command: &[&str]) -> Value {
        run(&self.dir, command).1
    }

    /// Its status.
    pub fn status(&self) -> Value {
        self.ask(&["status"])
    }

    /// An address of the status.
    pub fn address(&self, name: &str) -> SocketAddr {
        self.status()[name].as_str().expect("a status").parse().expect("an address")
    }

    /// Stops it as its owner does, and waits until it has ended.
    pub fn down(mut self) {
        assert_eq!(self.ask(&["down"])["stopped"], true);
        let end = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs one command on a data directory; its output and the JSON in it.
pub fn run(dir: &Path, command: &[&str]) -> (Output, Value) {
    let output = Command::new(BINARY).arg("--data-dir").arg(dir).arg("--json").args(command).output();
    let output = output.expect("the program runs");
    let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, value)
}

/// An address at which nobody listens.
pub fn nobody() -> SocketAddr {
    UdpSocket::bind(ANY).and_then(|s| s.local_addr()).expect("a free port")
}
