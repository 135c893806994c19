//! The peer itself: starting it, stopping it, what version it is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use node::{Algorithm, Charter, LinkFamily, Profile};
use openvoip::authority::typed_code;
use openvoip::control::{self, exit};
use openvoip::home::Home;
use openvoip::invitation;
use openvoip::logging::{self, Logs};
use openvoip::serve;
use openvoip::settings::{BadConfig, Resolved, put, resolve};
use serde_json::json;
use toml::{Table, Value};
use wire::{HashAlgorithm, PublicKey, Ticket};

use super::answer::Context;
use super::config;

/// How long `down` waits for the peer to be gone.
const GOODBYE: Duration = Duration::from_secs(5);

/// What `up` and `bootstrap` have in common. Nothing has a default here: what is not said on the command
/// line is as the configuration file says, and else as `openvoip config template` shows.
#[derive(Args)]
pub(super) struct Common {
    /// Read this configuration file [default: openvoip.toml of the data directory, if it is there].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The peer port, UDP [default: 127.0.0.1:7080, or a free one near it].
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Where phones register, UDP and TCP [default: 127.0.0.1:5060, or a free one near it].
    #[arg(long, value_name = "IP:PORT")]
    sip: Option<SocketAddr>,
    /// Where phones register over TLS [default: 127.0.0.1:5061, or a free one near it].
    #[arg(long, value_name = "IP:PORT")]
    sips: Option<SocketAddr>,
    /// The overlay's name [default: openvoip if this peer founds it, else whatever is there]. An overlay
    /// of another name is not joined; so it is with algorithm, hash and base.
    #[arg(long, value_name = "NAME")]
    overlay_name: Option<String>,
    /// The overlay's algorithm [default: kademlia if this peer founds it].
    #[arg(long, value_name = "ALGORITHM")]
    overlay: Option<Algorithm>,
    /// The hash that places keys: sha-256, sha-1, md5 or md4 [default: sha-256 if this peer founds the
    /// overlay].
    #[arg(long)]
    hash: Option<HashAlgorithm>,
    /// Base of the algorithm: 2, 4, 8 or 16 [default: 2 if this peer founds the overlay].
    #[arg(long)]
    base: Option<u16>,
    /// What protects messages and sound between peers, the same for all of an overlay: secure, signed (readable)
    /// or open [default: secure].
    #[arg(long)]
    profile: Option<Profile>,
    /// Which protocols make the links between peers, the same for all of an overlay: noise, or tls (DTLS over UDP, TLS
    /// over TCP; profile secure only) [default: noise].
    #[arg(long)]
    links: Option<LinkFamily>,
    /// Use the profile open although other machines reach this peer: they read everything, and anybody can speak in
    /// anybody's name.
    #[arg(long)]
    force_open: bool,
    /// The overlay's signed document, a file: it says name, algorithm and all the other options of the
    /// overlay and, with `up`, whom to ask first. An overlay that differs in any of them is not joined.
    #[arg(long, value_name = "FILE")]
    document: Option<String>,
    /// Let operators set load values of the overlay's peers from afar, if this peer founds it.
    #[arg(long)]
    remote_settings: bool,
    /// Public key of an operator, who may change the log level of this peer from afar, and its load
    /// values where the overlay allows it; repeatable.
    #[arg(long, value_name = "KEY")]
    operator: Vec<PublicKey>,
    /// What is logged: off, error, warn, info, debug or trace, or a list like info,openvoip=debug
    /// [default: info].
    #[arg(long, value_name = "LEVEL", env = "OPENVOIP_LOG")]
    log_level: Option<String>,
}

impl Common {
    /// The settings that were given, by their keys in the configuration file.
    fn table(&self) -> Table {
        let mut table = Table::new();
        let mut set = |key: &str, value: Option<Value>| {
            value.into_iter().for_each(|value| put(&mut table, key, value));
        };
        set("listen", text(&self.listen));
        set("sip", text(&self.sip));
        set("sips", text(&self.sips));
        set("overlay.name", text(&self.overlay_name));
        set("overlay.algorithm", text(&self.overlay));
        set("overlay.hash", self.hash.map(|hash| hash.name().into()));
        set("overlay.base", self.base.map(|base| i64::from(base).into()));
        set("overlay.profile", text(&self.profile));
        set("overlay.links", text(&self.links));
        set("overlay.force_open", self.force_open.then_some(true.into()));
        set("overlay.document", text(&self.document));
        set("overlay.remote_settings", self.remote_settings.then_some(true.into()));
        set("operators", list(&self.operator));
        set("log.level", text(&self.log_level));
        table
    }

    /// The settings, if nothing else was given.
    pub(super) fn resolve(&self, context: &Context) -> Result<Resolved, BadConfig> {
        self.resolve_with(context, &self.table())
    }

    fn resolve_with(&self, context: &Context, table: &Table) -> Result<Resolved, BadConfig> {
        resolve(config::file(self.config.as_deref(), context).as_deref(), table)
    }
}

fn text(value: &Option<impl ToString>) -> Option<Value> {
    value.as_ref().map(|value| value.to_string().into())
}

/// A list, unless it is empty: then the file's holds.
fn list(values: &[impl ToString]) -> Option<Value> {
    let texts = values.iter().map(|v| Value::from(v.to_string())).collect();
    (!values.is_empty()).then_some(Value::Array(texts))
}

/// Run a peer, until `openvoip down` or Ctrl-C. With --json, one object says where it listens.
#[derive(Args)]
pub(crate) struct Up {
    #[command(flatten)]
    common: Common,
    /// A peer to ask first; repeatable. Without any, and with no peer remembered from an earlier run, this
    /// peer founds an overlay.
    #[arg(long, value_name = "IP:PORT")]
    bootstrap: Vec<SocketAddr>,
    /// An invitation, in quotes if there are spaces in it: it says the overlay's name and whom to ask first.
    /// The founder key in it is kept, and a document must be of that key.
    #[arg(long, conflicts_with = "overlay_name")]
    ticket: Option<Ticket>,
    /// An address-of-record this peer serves, for example alice@camp.example; repeatable.
    #[arg(long, value_name = "NAME@DOMAIN")]
    user: Vec<String>,
    /// The code of an invitation: with it the authority of the overlay gives the names of --user.
    #[arg(long, value_name = "CODE")]
    enrol: Option<String>,
    /// Use the overlay without being part of it: keep no records of others, pass nothing on.
    #[arg(long)]
    client: bool,
}

impl Up {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let mut table = self.common.table();
        let asked = self.ticket.iter().flat_map(|ticket| &ticket.peers).chain(&self.bootstrap);
        for (key, value) in [
            ("overlay.name", self.ticket.as_ref().map(|ticket| ticket.name.clone().into())),
            ("overlay.profile", self.ticket.as_ref().map(|ticket| ticket.profile.name().into())),
            ("overlay.links", self.ticket.as_ref().map(|ticket| ticket.links.name().into())),
            ("bootstrap", list(&asked.collect::<Vec<_>>())),
            ("users", list(&self.user)),
            ("role", self.client.then_some("client".into())),
        ] {
            value.into_iter().for_each(|value| put(&mut table, key, value));
        }
        serve(context, self.common.resolve_with(context, &table), |resolved, home| {
            if let Some(ticket) = &self.ticket {
                home.take_founder(&ticket.founder)?;
                resolved.only_suggested("overlay.profile");
                resolved.only_suggested("overlay.links");
            }
            let peers = invitation::take_document(resolved, home)?;
            resolved.settings.bootstrap.extend(peers);
            let code = self.enrol.as_deref().map(typed_code);
            let named = resolved.charter.as_ref().and_then(Charter::names);
            if code.is_some() && named.is_none() {
                return Err(
                    "--enrol is for an overlay whose document (--document FILE) names an authority".into()
                );
            }
            Ok(serve::Names { authority: None, code })
        })
    }
}

/// Run a peer that founds an overlay and tells others its options: an `up` that joins nothing.
#[derive(Args)]
pub(crate) struct Bootstrap {
    #[command(flatten)]
    common: Common,
}

impl Bootstrap {
    pub(crate) fn run(self, context: &Context) -> i32 {
        serve(context, self.common.resolve(context), |resolved, home| {
            invitation::take_document(resolved, home).map(|_| serve::Names::default())
        })
    }
}

/// Runs the peer until it ends. `invited` lays over the settings what a ticket or a document says, and says what
/// the peer does about names.
pub(super) fn serve(
    context: &Context,
    resolved: Result<Resolved, BadConfig>,
    invited: impl FnOnce(&mut Resolved, &Home) -> Result<serve::Names, String>,
) -> i32 {
    let mut resolved = match resolved {
        Ok(resolved) => resolved,
        Err(bad) => return context.show(config::mistakes(&bad)),
    };
    let home = match Home::open(&context.data_dir) {
        Ok(home) => home,
        Err(e) => return context.show(control::failure(exit::FAILED, &e, "openvoip up --help")),
    };
    let names = match invited(&mut resolved, &home) {
        Ok(names) => names,
        Err(e) => return context.show(control::failure(exit::CONFIG, &e, "openvoip overlay show FILE")),
    };
    let settings = &resolved.settings;
    let log_file = context.data_dir.join(logging::FILE_NAME);
    let file = settings.log.file.then_some((log_file.as_path(), settings.log.max_bytes));
    let logs = Logs::start(&settings.log.level, file);
    let demanded = |key, address| Some(address).filter(|_| resolved.is_demanded(key));
    let ended = logs.and_then(|logs| {
        serve::run(serve::Options {
            data_dir: Some(context.data_dir.clone()),
            listen: demanded("listen", settings.listen),
            sip: demanded("sip", settings.sip),
            sips: demanded("sips", settings.sips),
            certificate: settings.certificate(),
            dns: settings.names.dns.clone(),
            users: settings.canonical_users(),
            config: resolved.config(),
            logs: Some(logs),
            settings: resolved.to_json(),
            json: context.json,
            names,
        })
    });
    match ended {
        Ok(()) => exit::OK,
        Err(e) => context.show(control::failure(exit::FAILED, &e, "openvoip up --help")),
    }
}

/// Stops the peer and waits until it is gone, so that another can start in its place.
pub(crate) fn down(context: &Context) -> i32 {
    let mut answer = context.ask(&json!({ "command": "down" }));
    let socket = Home::control_socket(&context.data_dir);
    let end = Instant::now() + GOODBYE;
    while answer["stopped"] == true && socket.exists() {
        if Instant::now() >= end {
            answer = control::failure(exit::TIMEOUT, "the peer has not ended yet", "openvoip status");
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
        context.show(control::answer("version", exit::OK, body))
    }
}
