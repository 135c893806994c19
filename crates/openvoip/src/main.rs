//! The command line. What each command prints as JSON is what `node::report` documents.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use node::{Algorithm, Config, OverlayOptions};
use openvoip::{control, demo, serve};
use serde_json::{Value, json};
use wire::HashAlgorithm;

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed, 2 usage, 3 peer not running, 4 not found, 5 timeout or \
unreachable, 6 declined, busy or no answer, 7 a required condition unmet, 8 bad configuration.";

/// Phone calls and messages by name, from any SIP phone, with no server in the middle.
#[derive(Parser)]
#[command(name = "openvoip", version, after_help = EXIT_CODES)]
struct Cli {
    /// Identity, state and control socket of the peer.
    #[arg(long, global = true, env = "OPENVOIP_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
    /// How long to wait for an answer, in seconds.
    #[arg(long, global = true, default_value_t = 60)]
    timeout: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct OverlayArgs {
    /// The overlay's name.
    #[arg(long, default_value = "openvoip")]
    overlay_name: String,
    /// The algorithm: kademlia.
    #[arg(long, default_value = "kademlia")]
    overlay: Algorithm,
    /// The hash that places keys: sha-256, sha-1, md5 or md4.
    #[arg(long, default_value = "sha-256")]
    hash: HashAlgorithm,
    /// Base of the algorithm: 2, 4, 8 or 16.
    #[arg(long, default_value_t = 2)]
    base: u16,
}

#[derive(Subcommand)]
enum Command {
    /// A whole network on this machine: peers, two phones, a call that is heard.
    Demo {
        /// Without a picture of it.
        #[arg(long)]
        headless: bool,
        /// Judge it: exit 1 if anything is not as it should be.
        #[arg(long)]
        check: bool,
        /// How many peers.
        #[arg(long, default_value_t = 25)]
        peers: usize,
        /// The algorithm.
        #[arg(long, default_value = "kademlia")]
        overlay: Algorithm,
        /// The seed of all keys.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Run a peer.
    Up {
        /// The peer port, UDP.
        #[arg(long)]
        listen: Option<SocketAddr>,
        /// Where phones register, UDP and TCP.
        #[arg(long)]
        sip: Option<SocketAddr>,
        /// Peers to ask first; without any, and with no host cache, this peer founds an overlay.
        #[arg(long)]
        bootstrap: Vec<SocketAddr>,
        /// An address-of-record this peer serves.
        #[arg(long)]
        user: Vec<String>,
        #[command(flatten)]
        overlay: OverlayArgs,
    },
    /// Run a peer that founds an overlay and tells others its options.
    Bootstrap {
        /// The peer port, UDP.
        #[arg(long)]
        listen: Option<SocketAddr>,
        #[command(flatten)]
        overlay: OverlayArgs,
    },
    /// Stop the peer; it says goodbye first.
    Down,
    /// How the peer is.
    Status,
    /// Phones that may register.
    #[command(subcommand)]
    Phone(Phone),
    /// Find a user, or a key.
    Lookup {
        /// A user, or a key in hexadecimal.
        who: String,
        /// recursive, iterative or parallel.
        #[arg(long, default_value = "recursive")]
        mode: String,
        /// Disjoint paths.
        #[arg(long, default_value_t = 0)]
        paths: u8,
        /// Report the way it took.
        #[arg(long)]
        trace: bool,
    },
    /// The overlay's tables and records.
    #[command(subcommand)]
    Overlay(Overlay),
    /// Send a text message.
    Msg {
        /// To whom.
        who: String,
        /// The text.
        text: String,
    },
    /// Messages received.
    Inbox,
    /// Call somebody: `echo` always answers.
    Call {
        /// Whom.
        who: String,
        /// Play this WAV file; without it a tone.
        #[arg(long)]
        play: Option<PathBuf>,
        /// Write what is heard to this WAV file.
        #[arg(long)]
        record: Option<PathBuf>,
        /// Hang up after so many seconds.
        #[arg(long, default_value_t = 10.0)]
        duration: f64,
    },
    /// Calls under way and the latest that ended.
    Calls,
    /// Ask a peer whether it lives.
    Ping {
        /// A user, an address or a Node-ID.
        who: String,
        /// How often.
        #[arg(short = 'c', default_value_t = 1)]
        count: u32,
    },
    /// Look random keys up every so often, as a health check; 0 ends it.
    Probe {
        /// Seconds between two.
        #[arg(long)]
        every: f64,
    },
    /// Read commands from standard input: showrt, shownt, showro, showcp, insert, rlookup, ulookup, ...
    Console,
}

#[derive(Subcommand)]
enum Phone {
    /// Let a phone register.
    Add {
        /// As this user.
        user: String,
        /// With this password.
        #[arg(long)]
        password: String,
    },
}

#[derive(Subcommand)]
enum Overlay {
    /// The routing table.
    Routes(Remote),
    /// The neighbour table.
    Neighbors(Remote),
    /// The records held.
    Objects(Remote),
    /// The peers spoken with lately.
    Connections(Remote),
    /// Store a value.
    Put {
        /// Under this key.
        key: String,
        /// The value.
        value: String,
        /// For so many seconds.
        #[arg(long)]
        ttl: Option<u64>,
    },
    /// Read a value.
    Get {
        /// The key.
        key: String,
    },
    /// Withdraw a value stored here.
    Remove {
        /// The key.
        key: String,
    },
}

#[derive(Args)]
struct Remote {
    /// Of another peer: its address or Node-ID.
    #[arg(long, default_value = "")]
    node: String,
}

fn main() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("OPENVOIP_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    std::process::exit(run(Cli::parse()));
}

fn run(cli: Cli) -> i32 {
    let data_dir = cli.data_dir.clone().unwrap_or_else(default_data_dir);
    match cli.command {
        Command::Demo { headless: _, check, peers, overlay, seed } => {
            demo::run(peers, overlay, seed, check, cli.json)
        }
        Command::Up { listen, sip, bootstrap, user, overlay } => {
            let config = Config { bootstrap, overlay: options(&overlay), ..Config::default() };
            let users = user.iter().map(|u| node::canonical_aor(u, &config.overlay.name)).collect();
            up(serve::Options { data_dir, listen, sip, users, config })
        }
        Command::Bootstrap { listen, overlay } => {
            let config = Config { overlay: options(&overlay), ..Config::default() };
            up(serve::Options { data_dir, listen, sip: None, users: Vec::new(), config })
        }
        Command::Console => console(&data_dir, cli.timeout),
        Command::Call { who, play, record, duration } => {
            call(&data_dir, cli.timeout, cli.json, &who, play, record, duration)
        }
        Command::Ping { who, count } => {
            let mut code = 0;
            for _ in 0..count.max(1) {
                code = ask(&data_dir, cli.timeout, cli.json, json!({ "command": "ping", "who": who }));
            }
            code
        }
        command => ask(&data_dir, cli.timeout, cli.json, request(command)),
    }
}

fn default_data_dir() -> PathBuf {
    directories::ProjectDirs::from("org", "openvoip", "openvoip")
        .map_or_else(|| PathBuf::from("openvoip-data"), |dirs| dirs.data_dir().to_owned())
}

fn options(args: &OverlayArgs) -> OverlayOptions {
    OverlayOptions {
        name: args.overlay_name.clone(),
        algorithm: args.overlay,
        hash: args.hash,
        base: args.base.clamp(2, 256).next_power_of_two(),
        ..OverlayOptions::default()
    }
}

fn up(options: serve::Options) -> i32 {
    match serve::run(options) {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("openvoip: {e}");
            1
        }
    }
}

/// The request that a simple command makes.
fn request(command: Command) -> Value {
    match command {
        Command::Down => json!({ "command": "down" }),
        Command::Status => json!({ "command": "status" }),
        Command::Calls => json!({ "command": "calls" }),
        Command::Inbox => json!({ "command": "inbox" }),
        Command::Msg { who, text } => json!({ "command": "msg", "who": who, "text": text }),
        Command::Probe { every } => json!({ "command": "probe", "every": every }),
        Command::Phone(Phone::Add { user, password }) => {
            json!({ "command": "phone add", "who": user, "password": password })
        }
        Command::Lookup { who, mode, paths, trace } => {
            json!({ "command": "lookup", "who": who, "mode": mode, "paths": paths, "trace": trace })
        }
        Command::Overlay(overlay) => match overlay {
            Overlay::Routes(r) => json!({ "command": "routes", "node": r.node }),
            Overlay::Neighbors(r) => json!({ "command": "neighbors", "node": r.node }),
            Overlay::Objects(r) => json!({ "command": "objects", "node": r.node }),
            Overlay::Connections(r) => json!({ "command": "connections", "node": r.node }),
            Overlay::Put { key, value, ttl } => {
                json!({ "command": "put", "key": key, "value": value, "ttl": ttl })
            }
            Overlay::Get { key } => json!({ "command": "get", "key": key }),
            Overlay::Remove { key } => json!({ "command": "remove", "key": key }),
        },
        _ => unreachable!("handled by run"),
    }
}

fn ask(data_dir: &std::path::Path, timeout: u64, json: bool, request: Value) -> i32 {
    let answer = control::ask(data_dir, &request, Duration::from_secs(timeout));
    show(answer, json)
}

/// Prints an answer and returns its exit code.
fn show(mut answer: Value, json: bool) -> i32 {
    let code = answer["exit"].as_i64().unwrap_or(1) as i32;
    if let Some(object) = answer.as_object_mut() {
        object.remove("exit");
    }
    if json {
        println!("{answer}");
    } else if let Some(error) = answer["error"].as_str() {
        eprintln!("openvoip: {error}. Next: {}", answer["next"].as_str().unwrap_or("openvoip --help"));
    } else {
        print_plain(&answer, 0);
    }
    code
}

/// An answer for people: one value a line, lists indented.
fn print_plain(value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    let Some(object) = value.as_object() else { return println!("{indent}{value}") };
    for (name, value) in object.iter().filter(|(name, _)| *name != "schema") {
        match value {
            Value::Object(_) => {
                println!("{indent}{name}");
                print_plain(value, depth + 1);
            }
            Value::Array(items) => {
                println!("{indent}{name} ({})", items.len());
                for item in items {
                    let fields =
                        item.as_object().map(|o| o.values().map(plain).collect::<Vec<_>>().join("  "));
                    println!("{indent}  {}", fields.unwrap_or_else(|| plain(item)));
                }
            }
            value => println!("{indent}{name:<24} {}", plain(value)),
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn call(
    data_dir: &std::path::Path,
    timeout: u64,
    json: bool,
    who: &str,
    play: Option<PathBuf>,
    record: Option<PathBuf>,
    duration: f64,
) -> i32 {
    let samples = match play.as_ref().map(read_wav).transpose() {
        Ok(samples) => samples,
        Err(e) => return show(control::failure(1, &e, "give a 16-bit PCM WAV file"), json),
    };
    let request = json!({
        "command": "call", "who": who, "play": samples, "record": record.is_some(), "duration": duration.max(0.1),
    });
    let wait = Duration::from_secs(timeout) + Duration::from_secs_f64(duration.clamp(0.0, 86_400.0));
    let mut answer = control::ask(data_dir, &request, wait);
    let recording = answer.as_object_mut().and_then(|o| o.remove("recording"));
    if let (Some(path), Some(Value::Array(samples))) = (record, recording) {
        let samples: Vec<i16> = samples.iter().filter_map(Value::as_i64).map(|s| s as i16).collect();
        let wav = media::Wav { rate: 8_000, channels: 1, samples };
        let written = wav.write().map_err(|e| e.to_string());
        if let Err(e) = written.and_then(|b| std::fs::write(&path, b).map_err(|e| e.to_string())) {
            eprintln!("openvoip: cannot write {}: {e}", path.display());
        }
    }
    show(answer, json)
}

fn read_wav(path: &PathBuf) -> Result<Vec<i16>, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let wav = media::Wav::read(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(wav.mono_at(8_000))
}

/// The console of 2008, on the control protocol of today.
fn console(data_dir: &std::path::Path, timeout: u64) -> i32 {
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let word = |n: usize| words.get(n).copied().unwrap_or("");
        // Remote commands take IP and port apart, or together, or a Node-ID.
        let node = match (word(1), word(2)) {
            (ip, port) if !port.is_empty() && !ip.contains(':') => format!("{ip}:{port}"),
            (node, _) => node.to_owned(),
        };
        let request = match word(0) {
            "" => continue,
            "quit" | "exit" => break,
            "showrt" => json!({ "command": "routes" }),
            "shownt" => json!({ "command": "neighbors" }),
            "showro" => json!({ "command": "objects" }),
            "showcp" => json!({ "command": "connections" }),
            "getrt" => json!({ "command": "routes", "node": node }),
            "getnt" => json!({ "command": "neighbors", "node": node }),
            "getro" => json!({ "command": "objects", "node": node }),
            "insert" => {
                json!({ "command": "put", "key": word(1), "value": words[2.min(words.len())..].join(" ") })
            }
            "rlookup" => json!({ "command": "get", "key": word(1) }),
            "ulookup" => json!({ "command": "lookup", "who": word(1) }),
            "set" => json!({ "command": "set", "name": word(1), "value": word(2) }),
            "unset" => json!({ "command": "set", "name": word(1), "value": null }),
            "ping" => json!({ "command": "ping", "who": word(1) }),
            "status" => json!({ "command": "status" }),
            _ => {
                println!(
                    "showrt shownt showro showcp | getrt getnt getro IP PORT | insert KEY VALUE | rlookup KEY | \
                     ulookup USER | set NAME VALUE | unset NAME | ping WHO | status | quit"
                );
                continue;
            }
        };
        ask(data_dir, timeout, false, request);
    }
    0
}
