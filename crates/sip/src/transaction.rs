//! Transactions (RFC 3261 section 17, with RFC 6026): what makes SIP survive a lossy network.
//!
//! [`Transactions`] absorbs retransmissions, sends its own, matches responses and CANCELs, answers
//! merged requests (482) and reports what its user must know. It also repeats a 2xx to an INVITE
//! until [`Transactions::acknowledge`] says that the ACK came, and runs Timer C, because its user is
//! always a user agent here. It holds no dialogs.
//!
//! A request comes out of [`Transactions::receive`] exactly once and must be answered with
//! [`Transactions::respond`]. A request goes in with [`Transactions::request`]; its responses come
//! out of `receive`, its end out of [`Transactions::poll_event`].

mod client;
mod server;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use wire::sip::{Message, Method, Via};
use wire::{Rng, Seed, Time};

use crate::flow::Flow;
use crate::timers::Timers;

use client::Client;
use server::{Server, ServerKey};

/// Round-trip estimate (RFC 3261 section 17.1.1.1).
pub const T1: Duration = Duration::from_millis(500);
/// The longest interval between retransmissions of a non-INVITE request and of a final response.
pub const T2: Duration = Duration::from_secs(4);
/// The longest time a message stays in the network.
pub const T4: Duration = Duration::from_secs(5);
/// How long one tries: Timers B, F, H, J, L, M.
pub const T1_64: Duration = Duration::from_secs(32);
/// How much longer one waits for a peer than for a phone, so that the peer nearer to a silent phone
/// is the first to give up and can say why.
pub const PEER_GRACE: Duration = Duration::from_secs(3);
/// How long a call may ring (Timer C must exceed three minutes, RFC 3261 section 16.6).
pub const TIMER_C: Duration = Duration::from_secs(185);
/// Most transactions of each kind at once: at 400 calls a second, each leaving four behind for
/// 32 seconds, the oldest are gone before this is reached.
pub const MAX_TRANSACTIONS: usize = 50_000;

/// A server transaction: a request somebody sent us.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerId(pub(crate) u64);

/// A client transaction: a request we sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub(crate) u64);

/// Our side of a Via: the address that others see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SentBy {
    /// The host, IPv6 in brackets.
    pub host: String,
    /// The port.
    pub port: Option<u16>,
}

/// What a received message turned out to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// A request that wants an answer.
    Request {
        /// Where to answer.
        id: ServerId,
        /// The request, its topmost Via completed with `received` and `rport`.
        message: Message,
    },
    /// A CANCEL, already answered, of an INVITE that has no final answer yet: answer that 487.
    Cancel {
        /// The INVITE's transaction.
        invite: ServerId,
        /// The CANCEL, for its Reason.
        message: Message,
    },
    /// An ACK to a 2xx, or to nothing known.
    Ack(Message),
    /// A response to a request of ours.
    Response {
        /// The request's transaction.
        id: ClientId,
        /// The response, our Via still on it.
        message: Message,
    },
    /// Nothing for the user: a retransmission, an ACK to a refusal, a stray response.
    Absorbed,
}

/// What happened to a transaction without a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransactionEvent {
    /// No final response in time (Timers B, C, F), or the flow is gone. A late 2xx may still come
    /// until `ClientEnded`.
    NoResponse(ClientId),
    /// The transaction is over; its number never comes again.
    ClientEnded(ClientId),
    /// A 2xx was sent again and again for 32 seconds and no ACK came.
    NotAcknowledged(ServerId),
    /// The flow of an unanswered request is gone.
    RequesterGone(ServerId),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Retransmit,
    Deadline,
}

/// Every transaction of one agent.
#[derive(Debug)]
pub struct Transactions {
    rng: Rng,
    next_id: u64,
    servers: BTreeMap<u64, Server>,
    server_keys: BTreeMap<ServerKey, u64>,
    merged: BTreeMap<String, u64>,
    clients: BTreeMap<u64, Client>,
    branches: BTreeMap<(String, Method), u64>,
    timers: Timers<(u64, Timer)>,
    /// At most a few per received message or due timer; the world drains it after every call.
    transmits: VecDeque<(Flow, Vec<u8>)>,
    events: VecDeque<TransactionEvent>,
}

impl Transactions {
    /// No transactions yet.
    pub fn new(seed: Seed) -> Self {
        Transactions {
            rng: seed.rng(),
            next_id: 0,
            servers: BTreeMap::new(),
            server_keys: BTreeMap::new(),
            merged: BTreeMap::new(),
            clients: BTreeMap::new(),
            branches: BTreeMap::new(),
            timers: Timers::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes a parsed message that arrived on `flow`.
    pub fn receive(&mut self, now: Time, flow: Flow, message: Message) -> Incoming {
        if message.is_request() {
            self.receive_request(now, flow, message)
        } else {
            self.receive_response(now, message)
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some((id, timer)) = self.timers.pop_due(now) {
            if self.clients.contains_key(&id) {
                self.client_timer(now, id, timer);
            } else {
                self.server_timer(now, id, timer);
            }
        }
    }

    /// A connection closed, or a peer is lost: whatever waits on it ends now.
    pub fn flow_lost(&mut self, now: Time, flow: Flow) {
        let clients: Vec<u64> =
            self.clients.iter().filter(|(_, c)| c.flow == flow).map(|(id, _)| *id).collect();
        for id in clients {
            self.client_lost(now, id);
        }
        let servers: Vec<u64> =
            self.servers.iter().filter(|(_, s)| s.flow == flow).map(|(id, _)| *id).collect();
        for id in servers {
            if self.servers.get(&id).is_some_and(|s| !s.is_answered()) {
                self.events.push_back(TransactionEvent::RequesterGone(ServerId(id)));
            }
            self.forget_server(id);
        }
    }

    /// Sends a message outside any transaction: an ACK to a 2xx, a stateless refusal.
    pub fn send(&mut self, flow: Flow, bytes: Vec<u8>) {
        self.transmits.push_back((flow, bytes));
    }

    /// A Via of ours with a fresh branch.
    pub fn fresh_via(&mut self, flow: &Flow, sent_by: &SentBy) -> Via {
        let branch = format!("z9hG4bK{}", self.token());
        let mut via = Via::new(flow.transport(), &sent_by.host, sent_by.port, &branch);
        if matches!(flow, Flow::Udp(_)) {
            via.params.set("rport", None);
        }
        via
    }

    /// Sixteen random hexadecimal digits, for tags and branches.
    pub fn token(&mut self) -> String {
        use wire::seed::RngExt;
        format!("{:016x}", self.rng.random::<u64>())
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<(Flow, Vec<u8>)> {
        self.transmits.pop_front()
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<TransactionEvent> {
        self.events.pop_front()
    }

    /// When `handle_timeout` is next due, and why.
    pub fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        let (at, (_, timer)) = self.timers.next()?;
        let why = match timer {
            Timer::Retransmit => "SIP retransmission",
            Timer::Deadline => "SIP transaction deadline",
        };
        Some((at, why))
    }

    /// How many transactions there are, answered ones that linger included.
    pub fn len(&self) -> usize {
        self.servers.len() + self.clients.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether not even a name of a transaction or a timer is left over.
    #[cfg(test)]
    pub(crate) fn holds_nothing(&self) -> bool {
        let names = self.server_keys.len() + self.merged.len() + self.branches.len();
        self.is_empty() && names == 0 && self.timers.next().is_none()
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn cancel_timers(&mut self, id: u64) {
        self.timers.cancel((id, Timer::Retransmit));
        self.timers.cancel((id, Timer::Deadline));
    }
}
