//! What a laboratory can do with its peers, whether they live in this process or each in its own.

use std::collections::BTreeSet;
use std::time::Duration;

use node::{Algorithm, Outcome, Profile};
use serde_json::Value;

use super::MAX_PEERS;
use super::peers::Peers;
use crate::admin::Admin;
use crate::command::{Answer, Reply};
use crate::control::{self, exit};

/// How long a command may take before it has failed.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// Peers to add, to ask and to lose. They are numbered from 0 in the order of their starts, no number is
/// used twice, and peer N serves the user `userN@lab.test`.
pub trait Bench {
    /// Most peers that may be started in all.
    fn most(&self) -> usize;

    /// Starts more peers and waits until all have joined and published their users. Gives the numbers of
    /// those who were late.
    ///
    /// # Errors
    /// In words, if the system does not let them start.
    fn add(&mut self, count: usize) -> Result<BTreeSet<usize>, String>;

    /// Ends a peer without a goodbye. Its ports are closed, so that the system tells others; or, `silently`,
    /// nothing comes back from its address.
    ///
    /// # Errors
    /// In words, if the system refuses.
    fn kill(&mut self, peer: usize, silently: bool) -> Result<(), String>;

    /// Lets a peer say goodbye and end.
    ///
    /// # Errors
    /// In words, if it does not end.
    fn leave(&mut self, peer: usize) -> Result<(), String>;

    /// Gives a peer a request of the control API and waits for its answer.
    fn ask(&mut self, peer: usize, request: &Value) -> Value;

    /// Lets time pass while the peers work.
    ///
    /// # Errors
    /// In words, if they cannot.
    fn pass(&mut self, time: Duration) -> Result<(), String>;
}

/// The peers in this process, each with sockets of its own on 127.0.0.1.
pub struct InProcess(Peers);

impl InProcess {
    /// Nobody yet; messages are in the clear. All keys follow from the seed.
    ///
    /// # Errors
    /// In words, if the system does not let us wait for sockets.
    pub fn new(overlay: Algorithm, seed: u64) -> Result<InProcess, String> {
        Peers::new(overlay, Profile::Open, seed).map(InProcess).map_err(|e| e.to_string())
    }
}

impl Bench for InProcess {
    fn most(&self) -> usize {
        MAX_PEERS
    }

    fn add(&mut self, count: usize) -> Result<BTreeSet<usize>, String> {
        self.0.join(count, &mut |_| {})
    }

    fn kill(&mut self, peer: usize, silently: bool) -> Result<(), String> {
        self.0.kill(peer, silently).map_err(|e| e.to_string())
    }

    fn leave(&mut self, peer: usize) -> Result<(), String> {
        self.0.leave(peer).map_err(|e| e.to_string())
    }

    fn ask(&mut self, peer: usize, request: &Value) -> Value {
        let command = match control::read(request.to_string().as_bytes()) {
            Ok(command) => command,
            Err(failure) => return failure,
        };
        let thing = command.thing();
        let reply = self.0.tell(peer, |node, now| command.execute(node, now, &mut Admin::default()));
        match reply {
            Reply::Now(answer) => control::render(thing, answer),
            Reply::Later(op) => {
                let outcome = match self.0.outcome(peer, op, LONGEST) {
                    Ok(Some(outcome)) => outcome,
                    Ok(None) => Outcome::Failed { code: 408, reason: "no outcome in time".into() },
                    Err(e) => Outcome::Failed { code: 500, reason: e.to_string() },
                };
                control::render(thing, Answer::Ended(Box::new(outcome)))
            }
            Reply::Watch(..) | Reply::Leave => {
                control::failure(exit::USAGE, "a laboratory does not ask that of a peer", "help")
            }
        }
    }

    fn pass(&mut self, time: Duration) -> Result<(), String> {
        self.0.turn(time, |_| false).map(drop).map_err(|e| e.to_string())
    }
}
