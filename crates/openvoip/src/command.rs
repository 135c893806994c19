//! What a running peer can be told: one list, and one function that carries it out.
//!
//! Every front end speaks [`Command`]: the control socket reads it from a line of JSON
//! ([`crate::control`]), the Rust API makes it itself ([`crate::peer`]). So all can do the same, and
//! what one of them can do is what `docs/control-api.md` lists.

mod fields;

use std::time::Duration;

use node::report::{
    CallReport, ConnectionRow, InboxMessage, LockOutStatus, ObjectRow, PhoneStatus, PinRow, Probes, Status,
    TableRow, Value,
};
use node::{CallOptions, LookupOptions, Mode, Node, OpId, Outcome, Table, Target};
use serde::Deserialize;
use wire::document::Chain;
use wire::p2pp::Kind;
use wire::{ResourceId, Time};

use crate::admin::Admin;
use fields::{bytes, data_kind, kind, mode, seconds, some_text, target, target_there, user_kind, value_kind};

/// How often a watched record is looked up when nothing else is said.
pub const WATCH_EVERY: Duration = Duration::from_secs(30);

/// A command. In JSON its name stands in the field `command`, its fields beside it; `null` and `""`
/// mean the same as leaving a field out, and a field that a command does not have is an error.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum Command {
    /// How the peer is.
    Status {},
    /// Say goodbye and end.
    Down {},
    /// The routing table, of this peer or of another.
    Routes {
        /// A Node-ID, an address or a user.
        #[serde(default, deserialize_with = "target")]
        node: Option<Target>,
    },
    /// The neighbour table.
    Neighbors {
        /// A Node-ID, an address or a user.
        #[serde(default, deserialize_with = "target")]
        node: Option<Target>,
    },
    /// The records held.
    Objects {
        /// A Node-ID, an address or a user.
        #[serde(default, deserialize_with = "target")]
        node: Option<Target>,
    },
    /// The peers spoken with lately; of another peer only how many.
    Connections {
        /// A Node-ID, an address or a user.
        #[serde(default, deserialize_with = "target")]
        node: Option<Target>,
    },
    /// What another peer says about itself.
    Diagnostics {
        /// A Node-ID, an address or a user.
        #[serde(deserialize_with = "target_there")]
        node: Target,
    },
    /// Find a user, or the record at a key.
    Lookup {
        /// A user, or a key in hexadecimal.
        who: String,
        /// Which way.
        #[serde(default, deserialize_with = "mode")]
        mode: Mode,
        /// Disjoint paths, at most 8; 0 lets the mode decide.
        #[serde(default)]
        paths: u8,
        /// Whether the way it took is reported.
        #[serde(default)]
        trace: bool,
        /// Whether copies held by this peer do not count.
        #[serde(default)]
        fresh: bool,
        /// What kind of record is sought at a key.
        #[serde(default = "user_kind", deserialize_with = "kind")]
        kind: Kind,
    },
    /// Store a value under a text key, and keep it refreshed while the peer runs.
    Put {
        /// The text key.
        key: String,
        /// The value, at most 800 bytes.
        #[serde(deserialize_with = "bytes")]
        value: Vec<u8>,
        /// How long it lives unrefreshed.
        #[serde(default, deserialize_with = "seconds")]
        ttl: Option<Duration>,
        /// What kind of record it is.
        #[serde(default = "data_kind", deserialize_with = "value_kind")]
        kind: Kind,
    },
    /// Read a value.
    Get {
        /// The text key.
        key: String,
        /// What kind of record it is.
        #[serde(default = "data_kind", deserialize_with = "value_kind")]
        kind: Kind,
    },
    /// Withdraw a value that this peer stored.
    Remove {
        /// The text key.
        key: String,
        /// What kind of record it is.
        #[serde(default = "data_kind", deserialize_with = "value_kind")]
        kind: Kind,
    },
    /// Read a value again and again, and tell when it changes.
    Watch {
        /// The text key.
        key: String,
        /// How often it is looked up; [`WATCH_EVERY`] if not said.
        #[serde(default, deserialize_with = "seconds")]
        every: Option<Duration>,
    },
    /// Send a text message.
    Msg {
        /// To whom.
        who: String,
        /// The text.
        text: String,
        /// As which user; the first that the peer serves if not said.
        #[serde(default, deserialize_with = "some_text")]
        from: Option<String>,
    },
    /// Messages received.
    Inbox {},
    /// Call somebody. The answer comes when the call has ended.
    Call {
        /// Whom.
        who: String,
        /// As which user; the first that the peer serves if not said.
        #[serde(default, deserialize_with = "some_text")]
        from: Option<String>,
        /// 16-bit samples at 8 kHz to play once; a tone if not given.
        #[serde(default)]
        play: Option<Vec<i16>>,
        /// Whether what is heard comes with the answer.
        #[serde(default)]
        record: bool,
        /// Hang up this long after the call was answered.
        #[serde(default, deserialize_with = "seconds")]
        duration: Option<Duration>,
    },
    /// Calls under way and the latest that ended.
    Calls {},
    /// The names this peer knows, and the keys that answered to them first.
    #[serde(rename = "pins list")]
    PinsList {},
    /// Take the key of a name for the person's: the one its domain names, or the changed one, or the one known.
    #[serde(rename = "pins accept")]
    PinsAccept {
        /// The name.
        who: String,
        /// How the key begins that is meant, if it is to be that one and no other.
        #[serde(default)]
        key: String,
    },
    /// Forget the key of a name: the next one counts as the first.
    #[serde(rename = "pins forget")]
    PinsForget {
        /// The name.
        who: String,
    },
    /// Give this peer the next document of its overlay, and by it all others.
    #[serde(rename = "overlay push")]
    OverlayPush {
        /// The file's content: documents one after the other.
        #[serde(deserialize_with = "bytes")]
        documents: Vec<u8>,
    },
    /// Ask a peer whether it lives.
    Ping {
        /// A Node-ID, an address or a user.
        #[serde(deserialize_with = "target_there")]
        who: Target,
    },
    /// Let a phone register.
    #[serde(rename = "phone add")]
    PhoneAdd {
        /// As this user.
        who: String,
        /// With this password.
        password: String,
    },
    /// Let no phone of this user register any more.
    #[serde(rename = "phone rm")]
    PhoneRm {
        /// The user.
        who: String,
    },
    /// Let who tried wrong passwords too often try again.
    #[serde(rename = "phone unlock")]
    PhoneUnlock {
        /// A user or an IP address; everybody if not said.
        #[serde(default, deserialize_with = "some_text")]
        who: Option<String>,
    },
    /// The phones that are registered.
    #[serde(rename = "phone list")]
    PhoneList {},
    /// The settings and where they came from.
    Config {},
    /// The log level, of this peer or of another; changed first if there is a value.
    #[serde(rename = "log level")]
    LogLevel {
        /// The new level.
        #[serde(default, deserialize_with = "some_text")]
        value: Option<String>,
        /// At which other peer, by this owner's operator key.
        #[serde(default, deserialize_with = "target")]
        node: Option<Target>,
    },
    /// Set a load value, or unset it.
    Set {
        /// Its name.
        name: String,
        /// Its value; without one it is unset.
        #[serde(default, deserialize_with = "some_text")]
        value: Option<String>,
        /// At which other peer, by this owner's operator key.
        #[serde(default, deserialize_with = "target")]
        node: Option<Target>,
    },
    /// Look random keys up as a health check.
    Probe {
        /// How often, at least every second; less, or nothing, ends it.
        #[serde(default, deserialize_with = "seconds")]
        every: Option<Duration>,
    },
}

/// What a command came to.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Of `status`.
    Status(Box<Status>),
    /// Of `down`: the peer has said goodbye and ended.
    Stopped,
    /// Of `routes` and `neighbors`.
    Table(Vec<TableRow>),
    /// Of `objects`.
    Objects(Vec<ObjectRow>),
    /// Of `connections`.
    Connections(Vec<ConnectionRow>),
    /// Of `inbox`.
    Inbox(Vec<InboxMessage>),
    /// Of `calls`.
    Calls(Vec<CallReport>),
    /// Of `pins list`.
    Pins(Vec<PinRow>),
    /// Of `pins accept`.
    PinAccepted(PinRow),
    /// Of `pins forget`.
    PinForgotten {
        /// Whose key is not known any more.
        name: String,
    },
    /// Of `overlay push`: the document that holds now.
    DocumentTaken {
        /// Its sequence.
        sequence: u64,
    },
    /// Of `phone add`.
    PhoneAdded {
        /// Who may register now.
        user: String,
        /// Where.
        server: String,
    },
    /// Of `phone rm`.
    PhoneRemoved {
        /// Who may not register any more.
        user: String,
    },
    /// Of `phone unlock`: who was locked out.
    PhonesUnlocked(Vec<LockOutStatus>),
    /// Of `phone list`.
    Phones(Vec<PhoneStatus>),
    /// Of `set`.
    Set {
        /// Which load value.
        name: String,
        /// What it is now.
        value: Option<String>,
    },
    /// Of `log level`.
    LogLevel(String),
    /// Of `config`.
    Config(serde_json::Value),
    /// Of `probe`: how it went so far.
    Probes(Probes),
    /// Of everything that takes time.
    Ended(Box<Outcome>),
    /// Of `watch`, each time: what stands at the key now.
    Changed(String, Value),
}

impl Answer {
    /// It failed, with a code of SIP or P2PP and the reason in words.
    pub fn failed(code: u16, reason: impl Into<String>) -> Answer {
        Answer::Ended(Box::new(Outcome::Failed { code, reason: reason.into() }))
    }
}

/// What a command came to at once.
#[derive(Debug)]
pub enum Reply {
    /// The answer.
    Now(Answer),
    /// The answer is the outcome of this operation of the node.
    Later(OpId),
    /// An answer whenever the value at this key changes, looked up every so often.
    Watch(String, Duration),
    /// The answer comes when the peer has said goodbye.
    Leave,
}

impl Command {
    /// The thing it is about: the middle of the schema of its answer, `openvoip.THING/1`.
    pub fn thing(&self) -> &'static str {
        match self {
            Command::Status {} => "status",
            Command::Down {} => "down",
            Command::Routes { .. } => "routes",
            Command::Neighbors { .. } => "neighbors",
            Command::Objects { .. } => "objects",
            Command::Connections { .. } => "connections",
            Command::Diagnostics { .. } => "diagnostics",
            Command::Lookup { .. } => "lookup",
            Command::Put { .. } => "put",
            Command::Get { .. } => "get",
            Command::Remove { .. } => "remove",
            Command::Watch { .. } => "change",
            Command::Msg { .. } => "msg",
            Command::Inbox {} => "inbox",
            Command::Call { .. } => "call",
            Command::Calls {} => "calls",
            Command::PinsList {} => "pins",
            Command::PinsAccept { .. } | Command::PinsForget { .. } => "pin",
            Command::OverlayPush { .. } => "document",
            Command::Ping { .. } => "ping",
            Command::PhoneAdd { .. } | Command::PhoneRm { .. } | Command::PhoneUnlock { .. } => "phone",
            Command::PhoneList {} => "phones",
            Command::Config {} => "config",
            Command::LogLevel { node: Some(_), .. } | Command::Set { node: Some(_), .. } => "configure",
            Command::LogLevel { node: None, .. } => "log",
            Command::Set { node: None, .. } => "set",
            Command::Probe { .. } => "probe",
        }
    }

    /// Tells it to a node, or to what the world keeps around it.
    pub fn execute(self, node: &mut Node, now: Time, admin: &mut Admin) -> Reply {
        use Reply::{Later, Now};
        match self {
            Command::Status {} => {
                let mut status = node.status(now);
                status.rss_bytes = crate::system::rss_bytes();
                Now(Answer::Status(Box::new(status)))
            }
            Command::Down {} => Reply::Leave,
            Command::Routes { node: Some(t) } => Later(node.tables_of(now, &t, Table::Routing)),
            Command::Neighbors { node: Some(t) } => Later(node.tables_of(now, &t, Table::Neighbors)),
            Command::Objects { node: Some(t) } => Later(node.tables_of(now, &t, Table::Objects)),
            Command::Connections { node: Some(t) } | Command::Diagnostics { node: t } => {
                Later(node.tables_of(now, &t, Table::Diagnostics))
            }
            Command::Routes { node: None } => Now(Answer::Table(node.routes(now))),
            Command::Neighbors { node: None } => Now(Answer::Table(node.neighbors(now))),
            Command::Objects { node: None } => Now(Answer::Objects(node.objects(now))),
            Command::Connections { node: None } => Now(Answer::Connections(node.connections(now))),
            Command::Lookup { who, mode, paths, trace, fresh, kind } => {
                let options =
                    LookupOptions { mode, paths: paths.min(8), trace, fresh, ..LookupOptions::default() };
                Later(match who.parse::<wire::Key>() {
                    Ok(key) => node.lookup_key(now, ResourceId(key), kind, options),
                    Err(_) => node.lookup_user(now, &who, options),
                })
            }
            Command::Put { key, value, ttl, kind } => Later(node.put_of(now, kind, &key, &value, ttl)),
            Command::Get { key, kind } => Later(node.get_of(now, kind, &key)),
            Command::Remove { key, kind } => Later(node.remove_of(now, kind, &key)),
            Command::Watch { key, every } => Reply::Watch(key, every.unwrap_or(WATCH_EVERY)),
            Command::Msg { who, text, from } => {
                let from = from.unwrap_or_else(|| first_user(node, now));
                Later(node.message(now, &from, &who, &text))
            }
            Command::Inbox {} => Now(Answer::Inbox(node.inbox().cloned().collect())),
            Command::Call { who, from, play, record, duration } => {
                let from = from.unwrap_or_else(|| first_user(node, now));
                Later(node.call(now, &from, &who, CallOptions { play, record, duration }))
            }
            Command::Calls {} => Now(Answer::Calls(node.calls(now))),
            Command::PinsList {} => Now(Answer::Pins(node.pins())),
            Command::PinsAccept { who, key } => Now(match node.accept_pin(&who, &key) {
                Some(pin) => Answer::PinAccepted(pin),
                None if key.is_empty() => Answer::failed(404, format!("no key of {who} is known yet")),
                None => Answer::failed(404, format!("no key of {who} that begins with {key} is known")),
            }),
            Command::PinsForget { who } => Now(if node.forget_pin(&who) {
                Answer::PinForgotten { name: node::canonical_aor(&who, &node.default_domain()) }
            } else {
                Answer::failed(404, format!("no key of {who} is known"))
            }),
            Command::OverlayPush { documents } => Now(match push_documents(node, now, &documents) {
                Ok(sequence) => Answer::DocumentTaken { sequence },
                Err(e) => Answer::failed(403, e),
            }),
            Command::Ping { who } => Later(node.ping(now, &who)),
            Command::PhoneAdd { who, password } => Now(admin.add_phone(node, now, &who, &password)),
            Command::PhoneRm { who } => Now(admin.remove_phone(node, now, &who)),
            Command::PhoneUnlock { who } => Now(match (node.unlock_phones(now, who.as_deref()), who) {
                (lifted, Some(who)) if lifted.is_empty() => {
                    Answer::failed(404, format!("{who} is not locked out"))
                }
                (lifted, _) => Answer::PhonesUnlocked(lifted),
            }),
            Command::PhoneList {} => Now(Answer::Phones(node.status(now).phones)),
            Command::Config {} => Now(Answer::Config(admin.settings.clone())),
            Command::LogLevel { value, node: None } => Now(admin.log_level(value.as_deref())),
            Command::LogLevel { value, node: Some(t) } => {
                admin.configure(node, now, &t, "log", value.as_deref())
            }
            Command::Set { name, value, node: Some(t) } => {
                admin.configure(node, now, &t, &name, value.as_deref())
            }
            Command::Set { name, value, node: None } => Now(match node.set_load(&name, value.as_deref()) {
                Ok(()) => Answer::Set { name, value },
                Err(e) => Answer::failed(400, e),
            }),
            Command::Probe { every } => {
                node.set_probe_interval(now, every.filter(|d| *d >= Duration::from_secs(1)));
                Now(Answer::Probes(node.status(now).probes))
            }
        }
    }
}

fn push_documents(node: &mut Node, now: Time, documents: &[u8]) -> Result<u64, String> {
    let chain = Chain::parse(documents).map_err(|flaw| flaw.to_string())?;
    node.give_document(now, &chain)?;
    Ok(chain.newest().document.sequence)
}

fn first_user(node: &Node, now: Time) -> String {
    node.status(now).users.first().map_or_else(|| "peer".into(), |u| u.aor.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Command, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn empty_and_absent_fields_mean_the_same() {
        for node in ["", r#","node":null"#, r#","node":"""#] {
            let command = read(&format!(r#"{{"command":"routes"{node}}}"#)).unwrap();
            assert!(matches!(command, Command::Routes { node: None }), "{node}");
        }
        let command = read(r#"{"command":"routes","node":"127.0.0.1:7080"}"#).unwrap();
        assert!(matches!(command, Command::Routes { node: Some(Target::Address(_)) }));
    }

    #[test]
    fn values_are_text_or_any_bytes() {
        for (json, expected) in
            [(r#""caf\u00e9""#, "café".as_bytes()), (r#"{"hex":"00FFc3"}"#, b"\0\xff\xc3")]
        {
            let command = read(&format!(r#"{{"command":"put","key":"k","value":{json}}}"#)).unwrap();
            assert!(matches!(command, Command::Put { value, .. } if value == expected), "{json}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (text, reason) in [
            (r#"{"command":"dance"}"#, "unknown variant `dance`"),
            (r#"{"command":"get"}"#, "missing field `key`"),
            (r#"{"command":"get","key":"k","colour":1}"#, "unknown field `colour`"),
            (r#"{"command":"status","colour":1}"#, "unknown field `colour`"),
            (r#"{"command":"put","key":"k","value":"v","ttl":1e300}"#, "not a number of seconds"),
            (r#"{"command":"put","key":"k","value":"v","ttl":-1}"#, "not a number of seconds"),
            (r#"{"command":"lookup","who":"bob","mode":"psychic"}"#, "unknown mode 'psychic'"),
            (r#"{"command":"lookup","who":"bob","kind":"wish"}"#, "unknown kind 'wish'"),
            (r#"{"command":"ping","who":""}"#, "is missing"),
            ("{}", "missing field `command`"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
