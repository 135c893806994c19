//! Peers as processes of the real program, each in a network namespace of its own.
//!
//! ```text
//!   namespace of the laboratory: a router, 10.77.255.254
//!       v0         v1         v2         v3 ...
//!        |          |          |          |
//!      eth0       eth0       eth0       eth0
//!     peer 0     peer 1     peer 2     peer 3         10.77.0.1, 10.77.0.2, ...
//! ```
//!
//! A router and no switch: the kernel keeps one table of neighbours for all namespaces, of about a thousand
//! entries, which forty peers on one switch overflow.
//!
//! [`enclose`] starts this program once more in new namespaces for the network, for process numbers and,
//! if it is not root, for users; all that the inner program starts ends with it, and so do the
//! namespaces. Nothing of the machine's own network is seen or changed. A peer that is killed loudly leaves
//! its namespace behind, whose kernel tells others that the port is closed; of one that falls silent the
//! router forgets the way, and tells nobody. Needs Linux, `unshare` (util-linux) and `ip` (iproute2), and for delay and loss `tc`
//! with netem in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use node::Algorithm;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use super::bench::{Bench, LONGEST};
use super::peers::{OVERLAY_NAME, user};
use crate::control;

/// Most peers of one laboratory: each is a process.
pub const MAX_PROCESSES: usize = 250;

/// The directory of the laboratory, as the outer program tells the inner one.
pub const DIR_VARIABLE: &str = "OPENVOIP_LAB_DIR";

/// How long one peer may take to be in the overlay.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether packets for others are passed on, in this network namespace.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// What a namespace does: waits for its cable, takes its address, runs the peer, and stays when that ends.
const INSIDE: &str = r#"
echo made; read go || exit 1
address=$1 router=$2 netem=$3; shift 3
ip link set lo up && ip address add "$address/32" dev eth0 && ip link set eth0 up || exit 1
ip route add "$router" dev eth0 && ip route add default via "$router" || exit 1
[ -z "$netem" ] || tc qdisc add dev eth0 root netem $netem || exit 1
"$@" </dev/null >/dev/null & echo $!
read end
"#;

/// The address of the laboratory itself, over which the peers reach each other.
const ROUTER: &str = "10.77.255.254";

/// How the network between the peers shall be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cable {
    /// Delay of what a peer sends, in ms.
    pub delay_ms: f64,
    /// Share of what a peer sends that is lost.
    pub loss: f64,
}

impl Cable {
    /// The words of `tc ... netem` for it; none for a cable that does nothing.
    fn netem(self) -> String {
        if self.delay_ms <= 0.0 && self.loss <= 0.0 {
            return String::new();
        }
        format!("delay {}ms loss {}%", self.delay_ms, self.loss * 100.0)
    }
}

/// Runs this program again with the same arguments inside new namespaces and waits for its end; gives
/// its exit code.
///
/// # Errors
/// In words, with what to do, if the system does not let us have them.
pub fn enclose() -> Result<i32, String> {
    let unshare = |more: &[&str]| {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--net", "--pid", "--fork", "--kill-child"]).args(more);
        command
    };
    let tried = unshare(&["ip", "link", "set", "lo", "up"]).stdin(Stdio::null()).output();
    match tried {
        Err(e) => return Err(format!("cannot run `unshare`: {e}. Install util-linux and iproute2")),
        Ok(output) if !output.status.success() => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            return Err(format!(
                "the system gives no network namespaces ({said}). Run it as root (`sudo openvoip lab \
                 --namespaces N`), let users make them (`sysctl -w user.max_user_namespaces=1000`, and \
                 `kernel.apparmor_restrict_unprivileged_userns=0` where that exists), install iproute2 if `ip` \
                 is missing, or stay in one process: `openvoip lab --interactive`"
            ));
        }
        Ok(_) => {}
    }
    let dir = std::env::temp_dir().join(format!("openvoip-lab-{}", std::process::id()));
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&dir)
        .map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut inner = unshare(&[]);
    inner.arg(program).args(std::env::args_os().skip(1)).env(DIR_VARIABLE, &dir);
    let code = wait(inner);
    let _ = fs::remove_dir_all(&dir);
    code
}

/// Waits for the program inside. Who interrupts this one ends that one, and so all that it started.
fn wait(mut inner: Command) -> Result<i32, String> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let _ = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
    let mut inner = inner.spawn().map_err(|e| format!("cannot run `unshare`: {e}"))?;
    loop {
        if let Some(status) = inner.try_wait().map_err(|e| e.to_string())? {
            return Ok(status.code().unwrap_or(control::exit::FAILED));
        }
        if interrupted.load(Ordering::Relaxed) {
            let _ = inner.kill();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One peer, and the namespace around it.
struct Process {
    /// The shell that holds the namespace; it ends when nobody holds its standard input any more.
    shell: Child,
    input: ChildStdin,
    /// The peer itself.
    pid: Option<Pid>,
}

/// The laboratory inside the namespaces.
pub struct Namespaces {
    dir: PathBuf,
    program: PathBuf,
    overlay: Algorithm,
    netem: String,
    peers: BTreeMap<usize, Process>,
    started: usize,
}

impl Namespaces {
    /// Sets the router up; `dir` is for the data directories of the peers.
    ///
    /// # Errors
    /// In words, if `ip` does not work, or delay and loss are wanted and not to be had.
    pub fn new(dir: PathBuf, overlay: Algorithm, cable: Cable) -> Result<Namespaces, String> {
        ip("link set lo up")?;
        ip(&format!("address add {ROUTER}/32 dev lo"))?;
        fs::write(FORWARDING, "1").map_err(|e| format!("cannot write {FORWARDING}: {e}"))?;
        let netem = cable.netem();
        if !netem.is_empty() {
            let words = format!("qdisc add dev lo root netem {netem}");
            run("tc", &words).map_err(|e| {
                format!(
                    "this system cannot delay or lose packets: {e}. Load the kernel's module (`modprobe \
                     sch_netem`) and install iproute2, or leave out --delay-ms and --loss"
                )
            })?;
            run("tc", "qdisc del dev lo root")?;
        }
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        Ok(Namespaces { dir, program, overlay, netem, peers: BTreeMap::new(), started: 0 })
    }

    fn home(&self, peer: usize) -> PathBuf {
        self.dir.join(peer.to_string())
    }

    fn start(&mut self, peer: usize) -> Result<(), String> {
        let oldest = self.peers.iter().find(|(_, process)| process.pid.is_some()).map(|(n, _)| *n);
        let home = self.home(peer);
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", INSIDE, "sh", &address(peer), ROUTER, &self.netem]);
        command.arg(&self.program).args(["up", "--sip", "127.0.0.1:5060", "--log-level", "warn"]).args([
            "--profile",
            "open",
            "--force-open",
        ]);
        command.args(["--listen", &format!("{}:7080", address(peer)), "--user", &user(peer)]);
        command.args(["--overlay", self.overlay.name(), "--overlay-name", OVERLAY_NAME]);
        if let Some(oldest) = oldest {
            command.args(["--bootstrap", &format!("{}:7080", address(oldest))]);
        }
        command.arg("--data-dir").arg(&home).env_remove(DIR_VARIABLE);
        let log = fs::File::create(self.dir.join(format!("{peer}.log"))).map_err(|e| e.to_string())?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut shell = command.spawn().map_err(|e| format!("cannot run `unshare`: {e}"))?;
        let (Some(mut input), Some(output)) = (shell.stdin.take(), shell.stdout.take()) else {
            return Err("a process without standard input".into());
        };
        let mut lines = BufReader::new(output).lines();
        let mut next = || lines.next().and_then(Result::ok).ok_or_else(|| self.said(peer));
        next()?;
        let pid = shell.id();
        ip(&format!("link add v{peer} type veth peer name eth0 netns {pid}"))?;
        ip(&format!("link set v{peer} up"))?;
        ip(&format!("route add {}/32 dev v{peer}", address(peer)))?;
        input.write_all(b"go\n").map_err(|_| self.said(peer))?;
        let pid = next()?.parse().ok().and_then(Pid::from_raw);
        self.peers.insert(peer, Process { shell, input, pid });
        Ok(())
    }

    /// What a peer, or the shell around it, said before it ended.
    fn said(&self, peer: usize) -> String {
        let log = fs::read_to_string(self.dir.join(format!("{peer}.log"))).unwrap_or_default();
        format!("peer {peer} did not start: {}", log.trim().replace('\n', "; "))
    }

    /// Waits until a peer has joined and its user is published.
    fn joins(&self, peer: usize, end: Instant) -> bool {
        loop {
            let status = control::ask(&self.home(peer), &json!({ "command": "status" }), LONGEST);
            if status["online"] == true && status["users"][0]["state"] == "published" {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Bench for Namespaces {
    fn most(&self) -> usize {
        MAX_PROCESSES
    }

    fn add(&mut self, count: usize) -> Result<BTreeSet<usize>, String> {
        let added = self.started..self.started + count;
        let mut late = BTreeSet::new();
        for peer in added.clone() {
            self.start(peer)?;
            self.started += 1;
            // The founder first: the others ask it.
            if self.peers.len() == 1 && !self.joins(peer, Instant::now() + PATIENCE) {
                return Err(self.said(peer));
            }
        }
        let end = Instant::now() + PATIENCE + Duration::from_millis(200) * count as u32;
        late.extend(added.filter(|peer| !self.joins(*peer, end)));
        Ok(late)
    }

    fn kill(&mut self, peer: usize, silently: bool) -> Result<(), String> {
        if silently {
            ip(&format!("route replace blackhole {}/32", address(peer)))?;
        }
        let Some(process) = self.peers.get_mut(&peer) else { return Ok(()) };
        if let Some(pid) = process.pid.take() {
            rustix::process::kill_process(pid, Signal::KILL).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn leave(&mut self, peer: usize) -> Result<(), String> {
        let answer = control::ask(&self.home(peer), &json!({ "command": "down" }), LONGEST);
        if answer["stopped"] != true {
            return Err(answer["error"].as_str().unwrap_or("the peer did not end").to_owned());
        }
        if let Some(process) = self.peers.get_mut(&peer) {
            process.pid = None;
        }
        Ok(())
    }

    fn ask(&mut self, peer: usize, request: &Value) -> Value {
        control::ask(&self.home(peer), request, LONGEST)
    }

    fn pass(&mut self, time: Duration) -> Result<(), String> {
        std::thread::sleep(time);
        Ok(())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for (peer, mut process) in std::mem::take(&mut self.peers) {
            if let Some(pid) = process.pid.take() {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            drop(process.input);
            let _ = process.shell.wait();
            let _ = fs::remove_dir_all(self.home(peer));
        }
    }
}

/// The address of a peer in the laboratory.
fn address(peer: usize) -> String {
    format!("10.77.{}.{}", peer / 250, peer % 250 + 1)
}

fn ip(words: &str) -> Result<(), String> {
    run("ip", words)
}

fn run(program: &str, words: &str) -> Result<(), String> {
    let output = Command::new(program)
        .args(words.split(' '))
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run `{program}`: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{program} {words}`: {}", said.trim().replace('\n', "; ")))
}
