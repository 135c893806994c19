//! What may be changed in a running peer: by its owner, and from afar by an operator.
//!
//! An operator is a public key named in [`Config::operators`](crate::Config::operators). Its command is
//! a Configure message that the operator's own key signs, with three things inside the signature: the
//! setting, the Node-ID of the peer it is for, and a clock that must grow. So a command that was
//! overheard can neither be sent to another peer nor be sent again, and a peer that knows no operators
//! listens to nobody. The log level may be changed in every overlay; load values only where the
//! overlay's options say so.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use wire::p2pp::{Builder, Code, Diagnostic, Message, MessageType, Object};
use wire::{KeyPair, NodeId, PublicKey, Time};

use crate::config::Saved;
use crate::diagnostics::Target;
use crate::directory::ResolvedFor;
use crate::event::{Event, Level, OpId, Outcome};
use crate::node::Node;
use crate::request::{ANSWER_TIMEOUT, Purpose};

/// Load values that can be set: information that `status` and GetDiagnostics show.
pub const LOAD_NAMES: [&str; 2] = ["cpu", "bandwidth"];

/// The setting that changes the log filter.
pub const LOG_SETTING: &str = "log";

/// Longest value of a setting, in bytes.
const MAX_VALUE: usize = 200;

/// Commands to other peers that may be under way at once.
const MAX_COMMANDS: usize = 64;

/// A command on its way to another peer.
struct Command {
    name: String,
    value: String,
    operator: KeyPair,
}

/// Commands given and taken.
#[derive(Default)]
pub(crate) struct Operators {
    commands: BTreeMap<OpId, Command>,
    /// The clock of each operator's last command here.
    clocks: BTreeMap<PublicKey, u64>,
}

impl Operators {
    pub(crate) fn new(saved: &Saved) -> Self {
        let clock = |(key, clock): (&String, &u64)| Some((key.parse().ok()?, *clock));
        Operators {
            commands: BTreeMap::new(),
            clocks: saved.operator_clocks.iter().filter_map(clock).collect(),
        }
    }

    /// A command that failed before it was sent.
    pub(crate) fn forget(&mut self, op: OpId) {
        self.commands.remove(&op);
    }

    /// What must survive a restart, lest an old command counts again.
    pub(crate) fn clocks(&self) -> BTreeMap<String, u64> {
        self.clocks.iter().map(|(key, clock)| (key.to_string(), *clock)).collect()
    }
}

/// Whether a text is a log filter: `off`, `error`, `warn`, `info`, `debug` or `trace`, alone or for a
/// part, as in `info,openvoip=debug`.
pub fn check_log_filter(text: &str) -> Result<(), String> {
    let is_level = |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word);
    let is_part = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:-".contains(&b))
    };
    let is_good = |directive: &str| match directive.split_once('=') {
        Some((part, level)) => is_part(part) && is_level(level),
        None => is_level(directive),
    };
    if text.len() <= MAX_VALUE && text.split(',').all(is_good) {
        return Ok(());
    }
    Err(format!(
        "'{text}' is not off, error, warn, info, debug or trace, nor a list like info,openvoip=debug"
    ))
}

/// Whether a load value may be set: which ones there are, and how long they may be.
fn check_load(name: &str, value: &str) -> Result<(), String> {
    if !LOAD_NAMES.contains(&name) {
        return Err(format!("there is no setting '{name}': choose {}", LOAD_NAMES.join(" or ")));
    }
    if value.len() > MAX_VALUE {
        return Err(format!("a value has at most {MAX_VALUE} bytes"));
    }
    Ok(())
}

impl Node {
    /// Sets a load value of this peer, or unsets it with `None`.
    ///
    /// # Errors
    /// In words, if there is no such value or the new one is too long.
    pub fn set_load(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        check_load(name, value.unwrap_or_default())?;
        match value {
            Some(value) => self.diagnostics.load.insert(name.to_owned(), value.to_owned()),
            None => self.diagnostics.load.remove(name),
        };
        Ok(())
    }

    // ---- as an operator ------------------------------------------------------------------------

    /// Sets, or with `None` unsets, a value on another peer: `log`, or one of [`LOAD_NAMES`]. Ends with
    /// [`Outcome::Stored`], or fails with the other peer's reason.
    pub fn configure(
        &mut self,
        now: Time,
        target: &Target,
        name: &str,
        value: Option<&str>,
        operator: &KeyPair,
    ) -> OpId {
        let op = self.new_op();
        if self.operators.commands.len() >= MAX_COMMANDS {
            self.failed(op, Code::BUSY.0, "too many commands to other peers at once");
            return op;
        }
        let command = Command {
            name: name.to_owned(),
            value: value.unwrap_or_default().to_owned(),
            operator: operator.clone(),
        };
        self.operators.commands.insert(op, command);
        match self.contact_at_once(target) {
            Some((address, Some(id))) => self.send_setting(now, op, address, id),
            // The command names its peer, so first the peer at that address is asked for its name.
            Some(to) => self.ask(now, to, MessageType::KeepAlive, &[], Purpose::Greet(op)),
            None => self.resolve_target(now, op, target, ResolvedFor::Configure(op)),
        }
        self.drain(now);
        op
    }

    pub(crate) fn handle_greeting_answer(
        &mut self,
        now: Time,
        op: OpId,
        remote: SocketAddr,
        message: &Message<'_>,
    ) {
        match message.header.responder.filter(|_| message.header.code.is_ok()) {
            Some(id) => self.send_setting(now, op, remote, id),
            None => {
                let code = message.header.code;
                self.failed(op, code.0, code.reason());
            }
        }
    }

    pub(crate) fn send_setting(&mut self, now: Time, op: OpId, address: SocketAddr, id: NodeId) {
        let Some(Command { name, value, operator }) = self.operators.commands.remove(&op) else { return };
        let mut header = self.header(MessageType::Configure);
        // The signature says who: over a link nobody speaks in another's name.
        header.source = None;
        header.from_peer = false;
        header.deadline_ms = self.request_deadline();
        // Microseconds, near enough: two commands of one second are in order.
        let clock = (self.unix(now).0 << 20) | u64::from(now.since(self.started).subsec_micros());
        let bytes = Builder::new(&header)
            .with(&Object::Setting(Diagnostic { name: &name, value: &value }))
            .with(&Object::PeerId(id))
            .with(&Object::PuzzleNonce(clock))
            .sign(&operator);
        let (deadline, purpose) = (now + ANSWER_TIMEOUT, Purpose::Configure(op));
        let to = (address, Some(id));
        self.request(now, to, MessageType::Configure, header.transaction, bytes, deadline, purpose);
    }

    pub(crate) fn handle_configure_answer(&mut self, op: OpId, message: &Message<'_>) {
        let code = message.header.code;
        if code.is_ok() {
            self.done(op, Outcome::Stored { holders: 1, sequence: 0 });
        } else {
            self.failed(op, code.0, message.refusal());
        }
    }

    // ---- as the peer that is told --------------------------------------------------------------

    /// An operator sets or unsets a value here.
    pub(crate) fn answer_configure(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        match self.take_command(message) {
            Ok(()) => {
                let builder = Builder::new(&self.answer_header(message, Code::OK));
                self.respond(now, remote, message, builder);
            }
            Err((code, reason)) => {
                self.log(Level::Warn, "operator", format!("a command from {remote} is refused: {reason}"));
                self.refuse(now, remote, message, code, &reason);
            }
        }
    }

    /// Checks a command and does what it says.
    fn take_command(&mut self, message: &Message<'_>) -> Result<(), (Code, String)> {
        let refused = |code, reason: &str| Err((code, reason.to_owned()));
        let operator = self.signer(message).filter(|k| self.config.operators.contains(k));
        let Some(operator) = operator else {
            return refused(Code::FORBIDDEN, "that key is not an operator of this peer");
        };
        let (mut setting, mut target, mut clock) = (None, None, None);
        for object in message.signed_objects() {
            match object {
                Object::Setting(s) => setting = Some(s),
                Object::PeerId(id) => target = Some(id),
                Object::PuzzleNonce(c) => clock = Some(c),
                _ => {}
            }
        }
        if target.is_none() || target != self.node_id() {
            return refused(Code::FORBIDDEN, "the command is for another peer");
        }
        let Some(Diagnostic { name, value }) = setting else {
            return refused(Code::BAD_REQUEST, "there is no setting in the command");
        };
        if name == LOG_SETTING {
            // Nothing stands for what was configured.
            if !value.is_empty() {
                check_log_filter(value).map_err(|e| (Code::BAD_REQUEST, e))?;
            }
        } else {
            check_load(name, value).map_err(|e| (Code::NOT_FOUND, e))?;
            if !self.standing.as_ref().is_some_and(|s| s.options.remote_settings) {
                return refused(Code::REJECTED, "the overlay does not allow load values to be set from afar");
            }
        }
        let last = self.operators.clocks.get(&operator).copied();
        match clock {
            Some(clock) if Some(clock) > last => drop(self.operators.clocks.insert(operator, clock)),
            // The answer was lost and the command came again: it is done already.
            Some(clock) if Some(clock) == last => return Ok(()),
            _ => return refused(Code::TOO_OLD, "the command is older than the last one"),
        }
        self.emit(Event::Save);
        if name == LOG_SETTING {
            self.emit(Event::SetLogFilter(value.to_owned()));
        } else {
            let value = Some(value).filter(|v| !v.is_empty());
            self.set_load(name, value).map_err(|e| (Code::BAD_REQUEST, e))?;
        }
        self.log(Level::Info, "operator", format!("{operator:?} set {name} to {value:?}"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_filter_is_made_of_levels() {
        for good in ["debug", "info,openvoip=debug", "warn,node::call=trace,off"] {
            assert_eq!(check_log_filter(good), Ok(()), "{good}");
        }
        for bad in ["", "dbug", "openvoip", "=debug", "a b=debug", "info,,", &"info,".repeat(50)] {
            assert!(check_log_filter(bad).is_err(), "{bad}");
        }
    }
}
