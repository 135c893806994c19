//! The way to a running peer, and who waits at its other end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use futures_channel::{mpsc, oneshot};
use mio::{Token, Waker};
use node::report::Value;

use super::socket::ControlSocket;
use crate::command::{Answer, Command};
use crate::peer::Error;

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A program at the control socket, and what its answer is about.
    Client(Token, &'static str),
    /// A future of the Rust API.
    Once(oneshot::Sender<Answer>),
    /// A stream of the Rust API.
    Every(mpsc::Sender<Answer>),
}

/// A command, and who wants its answer.
pub(super) struct Request {
    pub(super) command: Command,
    pub(super) asker: Asker,
}

/// The way to a running peer, for handles in other threads.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(super) sender: SyncSender<Request>,
    pub(super) waker: Arc<Waker>,
    pub(crate) peer_address: SocketAddr,
    pub(crate) sip_address: SocketAddr,
    pub(crate) sips_address: SocketAddr,
}

impl Line {
    /// Sends a command, unless the queue is full or the peer has ended.
    pub(crate) fn send(&self, command: Command, asker: Asker) -> Result<(), Error> {
        self.sender.try_send(Request { command, asker }).map_err(|e| match e {
            TrySendError::Full(_) => Error::Busy,
            TrySendError::Disconnected(_) => Error::Stopped,
        })?;
        let _ = self.waker.wake();
        Ok(())
    }

    /// Gives the line up, and lets the peer notice.
    pub(super) fn hang_up(self) {
        let waker = Arc::clone(&self.waker);
        drop(self);
        let _ = waker.wake();
    }
}

impl Asker {
    /// Tells a stream of a change; `false` if it has not taken the earlier ones yet.
    pub(super) fn tell(&mut self, key: &str, value: Value) -> bool {
        match self {
            Asker::Every(sender) => sender.try_send(Answer::Changed(key.to_owned(), value)).is_ok(),
            Asker::Client(..) | Asker::Once(_) => false,
        }
    }
}

/// Whether the asker still waits.
pub(super) fn is_there(socket: &Option<ControlSocket>, asker: &Asker) -> bool {
    match asker {
        Asker::Client(client, _) => socket.as_ref().is_some_and(|s| s.is_open(*client)),
        Asker::Once(sender) => !sender.is_canceled(),
        Asker::Every(sender) => !sender.is_closed(),
    }
}
