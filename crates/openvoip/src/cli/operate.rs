//! Changing a running peer: its log level, and as an operator that of others and their load values.

use clap::{Args, Subcommand};
use openvoip::control::{self, exit};
use openvoip::home::Home;
use serde_json::{Value, json};

use super::answer::Context;

/// The log of a running peer.
#[derive(Subcommand)]
pub(crate) enum Log {
    /// Show what is logged, or change it until the peer ends.
    Level {
        /// off, error, warn, info, debug or trace, or a list like info,openvoip=debug
        /// [default: show the present one].
        level: Option<String>,
        #[command(flatten)]
        at: At,
    },
}

/// Which peer.
#[derive(Args)]
pub(crate) struct At {
    /// Another peer that knows this owner's operator key: its address, its Node-ID, or a user it serves
    /// [default: this peer].
    #[arg(long, value_name = "IP:PORT|ID|USER")]
    node: Option<String>,
}

impl Log {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let Log::Level { level, at } = self;
        if let (None, Some(_)) = (&level, &at.node) {
            let reason = "the level of another peer can be changed and not read";
            return context.show(control::failure(
                exit::USAGE,
                reason,
                "openvoip log level LEVEL --node NODE",
            ));
        }
        change(context, "log level", "log", level.as_deref(), at)
    }
}

/// Operators: keys that may change other peers.
#[derive(Subcommand)]
pub(crate) enum Operator {
    /// Show this owner's operator key, made when first asked for. Peers obey it that name it in
    /// `operators`, or were started with --operator.
    Key,
    /// Set a load value: cpu or bandwidth. At another peer, only where the overlay was founded with
    /// --remote-settings.
    Set {
        /// cpu or bandwidth.
        name: String,
        /// The value, any text.
        value: String,
        #[command(flatten)]
        at: At,
    },
    /// Unset a load value.
    Unset {
        /// cpu or bandwidth.
        name: String,
        #[command(flatten)]
        at: At,
    },
}

impl Operator {
    pub(crate) fn run(self, context: &Context) -> i32 {
        match self {
            Operator::Key => context.show(key(context)),
            Operator::Set { name, value, at } => change(context, "set", &name, Some(&value), at),
            Operator::Unset { name, at } => change(context, "set", &name, None, at),
        }
    }
}

fn key(context: &Context) -> Value {
    let made = Home::open(&context.data_dir).and_then(|home| {
        let is_new = home.operator()?.is_none();
        let key = home.make_operator()?.public().to_string();
        Ok(json!({ "public_key": key, "file": home.operator_file(), "made": is_new }))
    });
    match made {
        Ok(body) => control::answer("operator", exit::OK, body),
        Err(e) => control::failure(exit::FAILED, &e, "openvoip operator key --data-dir DIR"),
    }
}

/// Asks the running peer to change itself, or another one.
fn change(context: &Context, command: &str, name: &str, value: Option<&str>, at: At) -> i32 {
    let mut request = json!({ "command": command, "value": value, "node": at.node });
    if command == "set" {
        request["name"] = json!(name);
    }
    let mut answer = context.ask(&request);
    if answer["done"] == true {
        answer["name"] = json!(name);
        answer["value"] = json!(value);
        answer["asked"] = json!(at.node);
    }
    context.show(answer)
}
