//! The overlay: looking things up in it, its tables, its records, its health.

use clap::{Args, Subcommand};
use openvoip::control::{self, exit};
use serde_json::{Value, json};

use super::answer::Context;
use super::{document, seconds};

/// Find a user, or the record at a key.
#[derive(Args)]
pub(crate) struct Lookup {
    /// A user, or a key: 32, 40 or 64 hexadecimal digits, by the overlay's hash.
    #[arg(value_name = "WHO|KEY")]
    who: String,
    /// How: recursive (from hop to hop), iterative (peer after peer) or parallel (several paths at once).
    #[arg(long, default_value = "recursive")]
    mode: node::Mode,
    /// Disjoint paths of an iterative lookup, up to 8; 0 lets the mode decide.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=8))]
    paths: u8,
    /// Report the way it took.
    #[arg(long)]
    trace: bool,
    /// Do not count copies that this peer holds itself.
    #[arg(long)]
    fresh: bool,
    /// At a key, only records of this kind, by its name or number [default: user, peer and data in turn].
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
}

/// Kinds of records a key may stand for, the likeliest first.
const KINDS: [&str; 3] = ["user", "peer", "data"];

impl Lookup {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let request = json!({
            "command": "lookup", "who": self.who, "mode": self.mode.name(), "paths": self.paths,
            "trace": self.trace, "fresh": self.fresh,
        });
        context.show(lookup(context, request, self.kind.as_deref()))
    }
}

/// Looks a user up, or a key: there, one kind of record after the other until something is found.
pub(crate) fn lookup(context: &Context, mut request: Value, kind: Option<&str>) -> Value {
    let is_key = request["who"].as_str().is_some_and(|who| who.parse::<wire::Key>().is_ok());
    let kinds: &[&str] = match (&kind, is_key) {
        (Some(kind), true) => std::slice::from_ref(kind),
        (None, true) => &KINDS,
        (_, false) => &KINDS[..1],
    };
    let mut answer = Value::Null;
    for kind in kinds {
        request["kind"] = json!(kind);
        answer = context.ask(&request);
        if answer["found"] == true {
            answer["record"]["kind"] = json!(kind);
        }
        if answer["exit"] != exit::NOT_FOUND {
            break;
        }
    }
    answer
}

/// The overlay's tables and records, and the documents and tickets that describe overlays.
#[derive(Subcommand)]
pub(crate) enum Overlay {
    /// The routing table.
    Routes(Remote),
    /// The neighbour table.
    Neighbors(Remote),
    /// The records held.
    Objects(Remote),
    /// The peers spoken with lately; another peer tells only how many it knows.
    Connections(Remote),
    /// What another peer says about itself: version, load, traffic.
    Diagnostics {
        /// Its address, its Node-ID, or a user it serves.
        #[arg(long, value_name = "IP:PORT|ID|USER")]
        node: String,
    },
    /// Store a value.
    Put {
        /// Under this key, any text.
        key: String,
        /// The value, at most 800 bytes.
        value: String,
        /// Peers may drop it so long after this peer refreshed it last, in seconds [default: 2400].
        #[arg(long, value_name = "SECONDS")]
        ttl: Option<u64>,
        #[command(flatten)]
        of: OfKind,
    },
    /// Read a value.
    Get {
        /// The key it was stored under.
        key: String,
        #[command(flatten)]
        of: OfKind,
    },
    /// Withdraw a value stored here.
    Remove {
        /// The key it was stored under.
        key: String,
        #[command(flatten)]
        of: OfKind,
    },
    Create(Box<document::Create>),
    Show(document::Show),
    Sign(Box<document::Sign>),
    Invite(document::Invite),
    Push(document::Push),
}

impl Overlay {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let request = match self {
            Overlay::Create(create) => return create.run(context),
            Overlay::Show(show) => return show.run(context),
            Overlay::Sign(sign) => return sign.run(context),
            Overlay::Invite(invite) => return invite.run(context),
            Overlay::Push(push) => return push.run(context),
            Overlay::Routes(remote) => remote.request("routes"),
            Overlay::Neighbors(remote) => remote.request("neighbors"),
            Overlay::Objects(remote) => remote.request("objects"),
            Overlay::Connections(remote) => remote.request("connections"),
            Overlay::Diagnostics { node } => json!({ "command": "diagnostics", "node": node }),
            Overlay::Put { key, value, ttl, of } => {
                json!({ "command": "put", "key": key, "value": value, "ttl": ttl, "kind": of.kind })
            }
            Overlay::Get { key, of } => json!({ "command": "get", "key": key, "kind": of.kind }),
            Overlay::Remove { key, of } => json!({ "command": "remove", "key": key, "kind": of.kind }),
        };
        context.show(context.ask(&request))
    }
}

/// What kind of record a value is.
#[derive(Args)]
pub(crate) struct OfKind {
    /// data (anybody's), notice (of those who run the overlay), or a kind that the overlay's document adds, by its
    /// number [default: data].
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
}

/// Whose table.
#[derive(Args)]
pub(crate) struct Remote {
    /// Of another peer: its address, its Node-ID, or a user it serves [default: this peer].
    #[arg(long, value_name = "IP:PORT|ID|USER")]
    node: Option<String>,
}

impl Remote {
    fn request(self, table: &str) -> Value {
        json!({ "command": table, "node": self.node })
    }
}

/// Look random keys up every so often, as a health check; `status` shows how they went.
#[derive(Args)]
pub(crate) struct Probe {
    /// Seconds between two, at least 1; 0 ends it [default: only show how they went].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    every: Option<f64>,
}

impl Probe {
    pub(crate) fn run(self, context: &Context) -> i32 {
        if let Some(every) = self.every {
            return context.show(context.ask(&json!({ "command": "probe", "every": every })));
        }
        let mut status = context.ask(&json!({ "command": "status" }));
        context.show(match status["probes"].take() {
            Value::Null => status,
            probes => control::answer("probe", exit::OK, probes),
        })
    }
}
