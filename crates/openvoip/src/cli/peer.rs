//! The peer itself: starting it, stopping it, what version it is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use node::{Algorithm, Config, OverlayOptions};
use openvoip::home::Home;
use openvoip::{control, serve};
use serde_json::json;
use wire::HashAlgorithm;

use super::answer::Context;

/// How long `down` waits for the peer to be gone.
const GOODBYE: Duration = Duration::from_secs(5);

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

impl OverlayArgs {
    fn options(&self) -> OverlayOptions {
        OverlayOptions {
            name: self.overlay_name.clone(),
            algorithm: self.overlay,
            hash: self.hash,
            base: self.base.clamp(2, 256).next_power_of_two(),
            ..OverlayOptions::default()
        }
    }
}

/// Run a peer, until `openvoip down` or Ctrl-C.
#[derive(Args)]
pub(crate) struct Up {
    /// The peer port, UDP.
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Where phones register, UDP and TCP.
    #[arg(long, value_name = "IP:PORT")]
    sip: Option<SocketAddr>,
    /// A peer to ask first; repeatable. Without any, and with no host cache, this peer founds an overlay.
    #[arg(long, value_name = "IP:PORT")]
    bootstrap: Vec<SocketAddr>,
    /// An address-of-record this peer serves, for example alice@camp.example; repeatable.
    #[arg(long, value_name = "NAME@DOMAIN")]
    user: Vec<String>,
    #[command(flatten)]
    overlay: OverlayArgs,
}

impl Up {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let config =
            Config { bootstrap: self.bootstrap, overlay: self.overlay.options(), ..Config::default() };
        let users = self.user.iter().map(|u| node::canonical_aor(u, &config.overlay.name)).collect();
        let data_dir = Some(context.data_dir.clone());
        serve(serve::Options { data_dir, listen: self.listen, sip: self.sip, users, config })
    }
}

/// Run a peer that founds an overlay and tells others its options.
#[derive(Args)]
pub(crate) struct Bootstrap {
    /// The peer port, UDP.
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    overlay: OverlayArgs,
}

impl Bootstrap {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let config = Config { overlay: self.overlay.options(), ..Config::default() };
        let data_dir = Some(context.data_dir.clone());
        serve(serve::Options { data_dir, listen: self.listen, sip: None, users: Vec::new(), config })
    }
}

fn serve(options: serve::Options) -> i32 {
    let filter = tracing_subscriber::EnvFilter::try_from_env("OPENVOIP_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match serve::run(options) {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("openvoip: {e}");
            1
        }
    }
}

/// Stops the peer and waits until it is gone, so that another can start in its place.
pub(crate) fn down(context: &Context) -> i32 {
    let mut answer = context.ask(&json!({ "command": "down" }));
    let socket = Home::control_socket(&context.data_dir);
    let end = Instant::now() + GOODBYE;
    while answer["stopped"] == true && socket.exists() {
        if Instant::now() >= end {
            answer =
                control::failure(control::exit::TIMEOUT, "the peer has not ended yet", "openvoip status");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    context.show(answer)
}

/// Which version this is.
#[derive(Args)]
pub(crate) struct Version {
    /// Also what was built in: algorithms, hashes, the protocol's version, the platform.
    #[arg(long)]
    verbose: bool,
}

impl Version {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let mut body = json!({ "version": env!("CARGO_PKG_VERSION") });
        if self.verbose {
            let names = |all: &[Algorithm]| all.iter().map(|a| a.name()).collect::<Vec<_>>();
            body["protocol"] = json!(wire::p2pp::VERSION);
            body["algorithms"] = json!(names(Algorithm::ALL));
            body["hashes"] = json!(HashAlgorithm::ALL.map(HashAlgorithm::name));
            body["platform"] = json!(format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS));
            body["build"] = json!(if cfg!(debug_assertions) { "debug" } else { "release" });
            body["licence"] = json!(env!("CARGO_PKG_LICENSE"));
            body["home"] = json!(env!("CARGO_PKG_REPOSITORY"));
        }
        context.show(control::answer("version", control::exit::OK, body))
    }
}
