//! The Rust API: a peer inside an application of yours.
//!
//! [`Peer::start`] runs a whole peer in a thread of its own. The [`Peer`] it gives is a handle: clone
//! it, send it to other threads, and await what you ask of it. The futures are completed by the peer's
//! thread and need no particular runtime: tokio, smol or `pollster::block_on` drive them alike.
//!
//! ```
//! # fn main() -> Result<(), openvoip::peer::Error> {
//! # pollster::block_on(async {
//! use std::time::Duration;
//!
//! use openvoip::peer::{Options, Peer};
//!
//! // One peer founds an overlay, another joins it. Port 0 takes any that is free.
//! let any = Some("127.0.0.1:0".parse().unwrap());
//! let founder = Peer::start(Options { listen: any, sip: any, ..Options::default() }).await?;
//! let mut options = Options { listen: any, sip: any, ..Options::default() };
//! options.config.bootstrap = vec![founder.address()];
//! let other = Peer::start(options).await?;
//!
//! // What one publishes, any other finds.
//! founder.publish("weather", "rain", Duration::from_secs(3_600)).await?;
//! let record = other.lookup("weather").await?.expect("it was just published");
//! assert_eq!(record.value, b"rain");
//!
//! // The first item of a subscription is what stands there now; then come the changes.
//! let mut weather = other.subscribe("weather", Duration::from_secs(1))?;
//! assert!(weather.next().await.is_some());
//! founder.publish("weather", "sun", Duration::from_secs(3_600)).await?;
//! let changed = weather.next().await.flatten().expect("the record is still there");
//! assert_eq!(changed.value, b"sun");
//! # other.shutdown().await?;
//! # founder.shutdown().await
//! # })
//! # }
//! ```
//!
//! # What holds
//!
//! - **Keys and values.** A key is any text; its hash is a place in the overlay. A value has at most
//!   800 bytes. Anybody may store under any key: look at [`Record::owner`], the public key that signed
//!   it, before you believe a value. The newest record at a key is the one that is found.
//! - **Life.** A record is refreshed while its peer runs, and ends `ttl` after that. A peer publishes
//!   at most 256 records.
//! - **Dropping a future** gives the command up: one that waits in the queue is not carried out, the
//!   outcome of one under way is forgotten, and a call is hung up. What was published stays published.
//! - **Bounds.** At most 256 commands wait in the queue, then [`Error::Busy`]; 1,024 may be under way,
//!   64 records watched. A command other than a call ends after two minutes at the latest.
//! - **The end.** [`Peer::shutdown`], or dropping the last handle: the peer says goodbye and hands over
//!   what it holds for others.
//! - **Front ends.** With [`Options::data_dir`] the peer keeps its keys and opens the control socket as
//!   `openvoip up` does, so that the command line can look into it. The commands are the same ones:
//!   [`crate::command::Command`], which [`Peer::ask`] takes as they are.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use node::report::{CallReport, InboxMessage, LookupReport, MessageReport, PingReport, Status, Value};
use node::{CallOptions, Mode, Outcome, Target};
use wire::p2pp::Kind;

use crate::command::{Answer, Command};
use crate::serve::{Asker, Line, Service};

pub use crate::serve::Options;

/// How long a peer may take to join before [`Peer::start`] gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Changes waiting in a subscription; while it is full, the latest state is told later.
const MAX_CHANGES: usize = 16;

/// Why something did not work.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The peer could not start.
    #[error("the peer cannot start: {0}")]
    Start(String),
    /// The peer has ended.
    #[error("the peer has ended")]
    Stopped,
    /// Too many commands wait already.
    #[error("too many commands wait for the peer already")]
    Busy,
    /// The command failed.
    #[error("{reason} (code {code})")]
    Failed {
        /// A status code of SIP (RFC 3261, section 21) or P2PP, which share their numbers: 404 not
        /// found, 408 no answer, 503 too much at once.
        code: u16,
        /// Why, in words.
        reason: String,
    },
}

/// A record of an application, as it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The value.
    pub value: Vec<u8>,
    /// Newer records of the same owner have higher numbers.
    pub sequence: u64,
    /// The public key of the peer that signed it, in hexadecimal.
    pub owner: String,
    /// How long it lives unless refreshed.
    pub expires: Duration,
}

/// Where a record was stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// How many peers hold it.
    pub holders: usize,
    /// Its sequence number.
    pub sequence: u64,
}

/// A handle of a running peer.
#[derive(Clone, Debug)]
pub struct Peer(Line);

impl Peer {
    /// Starts a peer; ready when it is in the overlay. Without bootstrap addresses, and without a host
    /// cache in the data directory, it founds one.
    ///
    /// # Errors
    /// [`Error::Start`] if a port or the data directory cannot be used, or no peer of the overlay
    /// answers within 20 s.
    pub async fn start(options: Options) -> Result<Peer, Error> {
        let (sender, ready) = oneshot::channel();
        // Told by whichever comes first: the peer is online, or its thread ends.
        let sender = Arc::new(Mutex::new(Some(sender)));
        let tell = move |result| {
            if let Some(sender) = sender.lock().ok().and_then(|mut sender| sender.take()) {
                let _ = sender.send(result);
            }
        };
        let body = move || {
            let online = tell.clone();
            let ended = Service::open(options)
                .and_then(|(service, line)| service.run(Some(PATIENCE), move || online(Ok(line))));
            if let Err(reason) = ended {
                tracing::warn!("{reason}");
                tell(Err(reason));
            }
        };
        let spawned = thread::Builder::new().name("openvoip-peer".into()).spawn(body);
        spawned.map_err(|e| Error::Start(e.to_string()))?;
        match ready.await {
            Ok(Ok(line)) => Ok(Peer(line)),
            Ok(Err(reason)) => Err(Error::Start(reason)),
            Err(oneshot::Canceled) => Err(Error::Stopped),
        }
    }

    /// The address of the peer port: what other peers bootstrap from.
    pub fn address(&self) -> SocketAddr {
        self.0.peer_address
    }

    /// The address at which phones register.
    pub fn sip_address(&self) -> SocketAddr {
        self.0.sip_address
    }

    /// The address at which they register over TLS.
    pub fn sips_address(&self) -> SocketAddr {
        self.0.sips_address
    }

    /// Stores a value under a key, at the few peers nearest to its hash, and keeps it there while this
    /// peer runs. Publishing again replaces it.
    ///
    /// # Errors
    /// [`Error::Failed`] if the value is too large (more than 800 bytes), no peer took it, or a later
    /// `publish` or `remove` of the same key took its place.
    pub async fn publish(
        &self,
        key: impl Into<String>,
        value: impl Into<Vec<u8>>,
        ttl: Duration,
    ) -> Result<Stored, Error> {
        self.stored(Command::Put { key: key.into(), value: value.into(), ttl: Some(ttl), kind: Kind::DATA })
            .await
    }

    /// Withdraws a record that this peer published: a signed tombstone takes its place.
    ///
    /// # Errors
    /// [`Error::Failed`] with code 404 if this peer did not publish it.
    pub async fn remove(&self, key: impl Into<String>) -> Result<Stored, Error> {
        self.stored(Command::Remove { key: key.into(), kind: Kind::DATA }).await
    }

    async fn stored(&self, command: Command) -> Result<Stored, Error> {
        match self.outcome(command).await? {
            Outcome::Stored { holders, sequence } => Ok(Stored { holders, sequence }),
            _ => Err(unexpected()),
        }
    }

    /// Finds the newest record under a key; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Failed`] if the search itself failed.
    pub async fn lookup(&self, key: impl Into<String>) -> Result<Option<Record>, Error> {
        match self.outcome(Command::Get { key: key.into(), kind: Kind::DATA }).await? {
            Outcome::Value(value) => Ok(record(value)),
            _ => Err(unexpected()),
        }
    }

    /// Finds a user the way a call would: which peers serve the user, and how they were found.
    /// [`LookupReport::found`] says whether there is such a user.
    ///
    /// # Errors
    /// [`Error::Failed`] if the search itself failed.
    pub async fn lookup_user(&self, aor: impl Into<String>) -> Result<LookupReport, Error> {
        let command = Command::Lookup {
            who: aor.into(),
            mode: Mode::default(),
            paths: 0,
            trace: false,
            fresh: false,
            kind: Kind::USER,
        };
        match self.outcome(command).await? {
            Outcome::Lookup(report) => Ok(report),
            _ => Err(unexpected()),
        }
    }

    /// Watches the record under a key. The overlay tells nobody about changes, so the peer looks the
    /// record up about `every` so often (at least a second), varied by a quarter, and tells what is new.
    /// All subscriptions of a peer share an allowance of one lookup every three seconds, with a burst
    /// of twenty: what asks for more is served less often. A change may be noticed late, and of several
    /// within one interval only the last.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Stopped`]. A stream that ends at once means that 64 are watched
    /// already.
    pub fn subscribe(&self, key: impl Into<String>, every: Duration) -> Result<Subscription, Error> {
        let (sender, changes) = mpsc::channel(MAX_CHANGES);
        let command = Command::Watch { key: key.into(), every: Some(every) };
        self.0.send(command, Asker::Every(sender))?;
        Ok(Subscription { changes })
    }

    /// Sends a text message as the first user of this peer.
    ///
    /// # Errors
    /// [`Error::Failed`] if it could not be sent; what became of it otherwise is in
    /// [`MessageReport::state`].
    pub async fn message(
        &self,
        to: impl Into<String>,
        text: impl Into<String>,
    ) -> Result<MessageReport, Error> {
        let command = Command::Msg { who: to.into(), text: text.into(), from: None };
        match self.outcome(command).await? {
            Outcome::Message(report) => Ok(report),
            _ => Err(unexpected()),
        }
    }

    /// Messages received and sent, oldest first.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Stopped`].
    pub async fn inbox(&self) -> Result<Vec<InboxMessage>, Error> {
        match self.ask(Command::Inbox {}).await? {
            Answer::Inbox(messages) => Ok(messages),
            other => Err(failure(other)),
        }
    }

    /// Calls somebody as the first user of this peer, plays and records as the options say, and is
    /// ready when the call has ended. Dropping the future hangs up.
    ///
    /// # Errors
    /// [`Error::Failed`] if there are too many calls; why one failed otherwise is in
    /// [`CallReport::failure`].
    pub async fn call(&self, to: impl Into<String>, options: CallOptions) -> Result<CallReport, Error> {
        let CallOptions { play, record, duration } = options;
        let command = Command::Call { who: to.into(), from: None, play, record, duration };
        match self.outcome(command).await? {
            Outcome::Call(report) => Ok(report),
            _ => Err(unexpected()),
        }
    }

    /// Asks another peer whether it lives.
    ///
    /// # Errors
    /// [`Error::Failed`] if it does not answer, or cannot be found.
    pub async fn ping(&self, target: Target) -> Result<PingReport, Error> {
        match self.outcome(Command::Ping { who: target }).await? {
            Outcome::Ping(report) => Ok(report),
            _ => Err(unexpected()),
        }
    }

    /// How the peer is.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Stopped`].
    pub async fn status(&self) -> Result<Status, Error> {
        match self.ask(Command::Status {}).await? {
            Answer::Status(status) => Ok(*status),
            other => Err(failure(other)),
        }
    }

    /// Says goodbye and ends the peer, for all its handles.
    ///
    /// # Errors
    /// [`Error::Stopped`] if it had ended already.
    pub async fn shutdown(&self) -> Result<(), Error> {
        match self.ask(Command::Down {}).await? {
            Answer::Stopped => Ok(()),
            other => Err(failure(other)),
        }
    }

    /// Carries out any command that front ends have. For [`Command::Watch`] use
    /// [`subscribe`](Self::subscribe): here only its first answer would be seen.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Stopped`]; a failure of the command itself is an
    /// [`Answer::Ended`].
    pub async fn ask(&self, command: Command) -> Result<Answer, Error> {
        let (sender, answer) = oneshot::channel();
        self.0.send(command, Asker::Once(sender))?;
        answer.await.map_err(|oneshot::Canceled| Error::Stopped)
    }

    /// The outcome of a command that takes time.
    async fn outcome(&self, command: Command) -> Result<Outcome, Error> {
        match self.ask(command).await? {
            Answer::Ended(outcome) => match *outcome {
                Outcome::Failed { code, reason } => Err(Error::Failed { code, reason }),
                outcome => Ok(outcome),
            },
            other => Err(failure(other)),
        }
    }
}

/// The changes of a record: a stream whose items are `Some` record or, when it is not there, `None`.
/// The first item is how it stands now. It ends with the peer; dropping it ends the watch.
#[derive(Debug)]
pub struct Subscription {
    changes: mpsc::Receiver<Answer>,
}

impl Subscription {
    /// Waits for the next change; `None` when the peer has ended.
    pub async fn next(&mut self) -> Option<Option<Record>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Subscription {
    type Item = Option<Record>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.changes).poll_next(cx).map(|answer| match answer {
            Some(Answer::Changed(_, value)) => Some(record(value)),
            _ => None,
        })
    }
}

fn record(value: Value) -> Option<Record> {
    value.found.then(|| Record {
        value: value.bytes,
        sequence: value.sequence,
        owner: value.owner.unwrap_or_default(),
        expires: Duration::from_millis(value.expires_ms),
    })
}

/// An answer that is not the one hoped for.
fn failure(answer: Answer) -> Error {
    match answer {
        Answer::Ended(outcome) => match *outcome {
            Outcome::Failed { code, reason } => Error::Failed { code, reason },
            _ => unexpected(),
        },
        _ => unexpected(),
    }
}

/// A peer never answers with something else; if it did, that would be a fault of ours.
fn unexpected() -> Error {
    Error::Failed { code: 500, reason: "the peer answered something else".into() }
}
