//! The agent: registrar and back-to-back user agent in one, for one peer's phones.
//!
//! It ends every dialog on each side and joins the two, so that a phone talks to its own peer and
//! to nobody else. Where a call goes it does not know: it asks with [`Event::Route`] and is told
//! with [`Agent::route`]. What goes in and out of the sound is not its matter either, see
//! [`MediaPlane`].
//!
//! | file | concern |
//! |---|---|
//! | `register` | REGISTER, and who may ask for anything |
//! | `call` | from INVITE to its final response: routing and forking |
//! | `ending` | how a call ends |
//! | `in_dialog` | what passes within a call |
//! | `transfer` | Refer-To and Replaces, whose dialog names differ on each leg |
//! | `errand` | MESSAGE: one request, one answer |
//! | `refusing` | what cannot be served |
//! | `headers` | which header fields pass |

mod call;
mod ending;
mod errand;
mod headers;
mod in_dialog;
mod refusing;
mod register;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use wire::sip::{self, Frame, Framer, Message, Method, Policy};
use wire::{ConnectionId, NodeId, Seed, Time};

use crate::address::Addresses;
use crate::auth::Guard;
use crate::dialog::DialogKey;
use crate::door::Door;
use crate::event::{CallId, Cause, Event, RequestId, Target};
use crate::flow::Flow;
use crate::lockout::LockOut;
use crate::media_plane::{MediaPlane, Side};
use crate::prefix::Prefix;
use crate::protection;
use crate::registrar::Registrar;
use crate::timers::Timers;
use crate::transaction::{ClientId, Incoming, ServerId, TransactionEvent, Transactions};

use call::Call;
use errand::Errand;
use refusing::refuse_stream;
use register::Proof;

/// Most calls at once: more sound than one peer can carry.
pub const MAX_CALLS: usize = 1000;
/// Most requests that wait for their destination.
pub const MAX_WAITING: usize = 2000;
/// Most connections of phones: each may hold one unfinished message of 64 kB.
pub const MAX_STREAMS: usize = 1024;
/// Why a message of somebody is not looked at who stands where no phone is expected, in [`Agent::drops`].
pub const STRANGER: &str = "sip stranger";
/// How long the driver may take to find a destination before the request fails with 408.
pub const ROUTE_TIMEOUT: Duration = Duration::from_secs(30);

/// What an agent needs to know of its place.
#[derive(Clone, Debug)]
pub struct Config {
    /// The domain of our users' addresses of record.
    pub domain: String,
    /// Other names of this host that phones may write instead.
    pub aliases: Vec<String>,
    /// Where phones reach us by UDP; the unspecified address means every interface.
    pub udp: SocketAddr,
    /// Where phones reach us by TCP.
    pub tcp: SocketAddr,
    /// Where phones reach us by TLS.
    pub tls: SocketAddr,
    /// What we call ourselves in Server headers.
    pub server: String,
    /// Where phones may stand; who sends from elsewhere is not answered.
    pub phones_from: Arc<[Prefix]>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Alarm {
    /// A registration runs out.
    Binding(u64),
    /// A destination was not found in time.
    Route(RequestId),
}

/// What a server transaction is to us while it is open.
#[derive(Clone, Copy, Debug)]
enum Served {
    /// The INVITE that began a call.
    Call(CallId),
    /// A request passed on within a call.
    Relay(ClientId),
    /// A MESSAGE.
    Errand(RequestId),
    /// An INVITE we answered 2xx on that side, waiting for its ACK.
    Answered(CallId),
}

/// What a client transaction is to us.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Branch(CallId, usize),
    Relay(CallId),
    Bye(CallId),
    Errand(RequestId),
}

/// A request that waits for its destination.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    Call(CallId),
    Errand,
}

/// Registrar and back-to-back user agent of one peer.
#[derive(Debug)]
pub struct Agent {
    server: String,
    addresses: Addresses,
    transactions: Transactions,
    registrar: Registrar,
    door: Door,
    guard: Guard,
    /// The other end of each connection, and what it has not finished saying.
    streams: BTreeMap<ConnectionId, (Flow, Framer)>,
    calls: BTreeMap<CallId, Call>,
    live_calls: usize,
    dialogs: BTreeMap<DialogKey, (CallId, u16, Side)>,
    errands: BTreeMap<RequestId, Errand>,
    waiting: BTreeMap<RequestId, Waiting>,
    served: BTreeMap<ServerId, Served>,
    asked: BTreeMap<ClientId, Asked>,
    alarms: Timers<Alarm>,
    dropped: BTreeMap<&'static str, u64>,
    /// A few per message or timer; the driver drains it after every call.
    events: VecDeque<Event>,
    next_id: u64,
}

impl Agent {
    /// An agent without users or calls.
    pub fn new(config: Config, seed: Seed) -> Self {
        let mut rng = seed.rng();
        Agent {
            addresses: Addresses::new(&config),
            server: config.server,
            transactions: Transactions::new(Seed::child_of(&mut rng)),
            registrar: Registrar::default(),
            door: Door::new(config.phones_from),
            guard: Guard::new(Seed::child_of(&mut rng)),
            streams: BTreeMap::new(),
            calls: BTreeMap::new(),
            live_calls: 0,
            dialogs: BTreeMap::new(),
            errands: BTreeMap::new(),
            waiting: BTreeMap::new(),
            served: BTreeMap::new(),
            asked: BTreeMap::new(),
            alarms: Timers::new(),
            dropped: BTreeMap::new(),
            events: VecDeque::new(),
            next_id: 0,
        }
    }

    /// The domain that a user without one, or with one of our addresses, belongs to; also the realm
    /// in which phones prove their passwords. To be set before phones speak.
    pub fn set_domain(&mut self, domain: &str) {
        self.addresses.set_domain(domain);
    }

    /// Lets a user register, or changes their password. `false` if there are too many users.
    pub fn add_user(&mut self, aor: &str, password: &str) -> bool {
        self.registrar.add_user(&aor.to_ascii_lowercase(), password)
    }

    /// Forgets a user and their phones.
    pub fn remove_user(&mut self, aor: &str) {
        let aor = aor.to_ascii_lowercase();
        let gone = self.registrar.remove_user(&aor);
        self.unregistered(&aor, gone, true);
    }

    /// The users, whether their phones are there or not.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.registrar.users()
    }

    /// The Contact URIs, flows and names of the phones that a user has registered.
    pub fn phones(&self, aor: &str) -> impl Iterator<Item = (&str, Flow, &str)> {
        let bindings = self.registrar.bindings(aor).iter();
        bindings.map(|b| (b.contact.uri.as_str(), b.flow, b.user_agent.as_str()))
    }

    /// Whether one more TLS handshake from there is done: it counts like a request of somebody unproven.
    pub fn may_shake_hands(&mut self, now: Time, ip: IpAddr) -> bool {
        self.door.admits(now, ip)
    }

    /// Whether a phone is registered over that connection.
    pub fn has_phone_on(&self, connection: ConnectionId) -> bool {
        let flow = self.streams.get(&connection).map(|(flow, _)| *flow);
        flow.is_some_and(|flow| self.registrar.users_at(flow).next().is_some())
    }

    /// The user, if we have them under that or a similar address.
    pub fn resolve_user(&self, aor: &str) -> Option<String> {
        self.registrar.resolve(&aor.to_ascii_lowercase())
    }

    /// Who is locked out for wrong passwords.
    pub fn locked_out(&self, now: Time) -> Vec<LockOut> {
        self.guard.locks.standing(now)
    }

    /// Forgives a user, by their address of record, or an IP address, or everybody; returns who was locked out.
    pub fn unlock(&mut self, now: Time, who: Option<&str>) -> Vec<LockOut> {
        self.guard.locks.lift(now, who)
    }

    /// Says where our ports really are.
    pub fn set_sockets(&mut self, udp: SocketAddr, tcp: SocketAddr) {
        self.addresses.set_sockets(udp, tcp);
    }

    /// How many calls there are, ringing ones included.
    pub fn live_calls(&self) -> usize {
        self.live_calls
    }

    /// How many transactions and calls are remembered, ended ones included.
    pub fn remembered(&self) -> (usize, usize) {
        (self.transactions.len(), self.calls.len() + self.errands.len())
    }

    /// Takes what arrived on `flow`: one datagram, one tunnelled message, or a piece of a stream.
    /// `false` asks the driver to close a stream that can no longer be understood, or of somebody who is not heard.
    pub fn handle_message(
        &mut self,
        now: Time,
        flow: Flow,
        bytes: &[u8],
        media: &mut dyn MediaPlane,
    ) -> bool {
        if flow.remote().is_some_and(|remote| !self.door.expects(remote.ip())) {
            self.count_drop(STRANGER);
            return false;
        }
        let Some(connection) = flow.connection() else {
            // Keep-alives (RFC 5626 section 4.4.1): a ping wants no answer on UDP, but a CRLF
            // pair costs nothing and pleases phones that wait for one.
            if bytes.iter().all(|b| b"\r\n\0 ".contains(b)) {
                if bytes == b"\r\n\r\n" && flow.is_phone() {
                    self.transactions.send(flow, Framer::PONG.to_vec());
                }
                return true;
            }
            self.message(now, flow, bytes, None, media);
            return true;
        };
        if !self.streams.contains_key(&connection) && self.streams.len() >= MAX_STREAMS {
            self.count_drop("sip connection");
            return false;
        }
        self.streams.entry(connection).or_insert_with(|| (flow, Framer::new())).1.push(bytes);
        loop {
            let Some((_, framer)) = self.streams.get_mut(&connection) else {
                return false;
            };
            match framer.next_frame() {
                Ok(Some(Frame::Message(message))) => self.message(now, flow, &message, None, media),
                Ok(Some(Frame::Ping)) => self.transactions.send(flow, Framer::PONG.to_vec()),
                Ok(Some(Frame::Pong)) => {}
                Ok(None) => return true,
                Err(lost) => {
                    let refusal = refuse_stream(framer.unfinished(), lost);
                    self.send_refusal(flow, &refusal);
                    self.count_drop("sip stream");
                    self.handle_flow_closed(now, flow, media);
                    return false;
                }
            }
        }
    }

    /// A connection closed, by its number: its phone is gone.
    pub fn handle_stream_closed(&mut self, now: Time, connection: ConnectionId, media: &mut dyn MediaPlane) {
        if let Some(&(flow, _)) = self.streams.get(&connection) {
            self.handle_flow_closed(now, flow, media);
        }
    }

    /// A flow closed: its phone is gone.
    pub fn handle_flow_closed(&mut self, now: Time, flow: Flow, media: &mut dyn MediaPlane) {
        if let Some(connection) = flow.connection() {
            self.streams.remove(&connection);
        }
        self.drop_bindings_at(flow);
        self.flow_lost(now, flow, Cause::PhoneLost, media);
    }

    /// A peer cannot be reached any more: calls through it end, and the phones are told.
    pub fn peer_lost(&mut self, now: Time, node: NodeId, media: &mut dyn MediaPlane) {
        self.flow_lost(now, Flow::Peer(node), Cause::PeerLost, media);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time, media: &mut dyn MediaPlane) {
        self.transactions.handle_timeout(now);
        self.drain_transactions(now, media);
        while let Some(alarm) = self.alarms.pop_due(now) {
            match alarm {
                Alarm::Binding(id) => self.binding_expired(id),
                Alarm::Route(request) => self.reject(now, request, 408, "No route found", media),
            }
        }
        self.drain_transactions(now, media);
    }

    /// Says where a request of [`Event::Route`] goes: to every target at once. An empty list means
    /// that there is no such user.
    pub fn route(&mut self, now: Time, request: RequestId, targets: Vec<Target>, media: &mut dyn MediaPlane) {
        let Some(waiting) = self.waiting.remove(&request) else {
            return;
        };
        self.alarms.cancel(Alarm::Route(request));
        let found = self.resolve(&targets);
        match waiting {
            Waiting::Call(call) => self.fork_call(now, call, found, media),
            Waiting::Errand => self.send_errand(now, request, found),
        }
        self.drain_transactions(now, media);
    }

    /// Shows the sender of a request of [`Event::Route`] under this name, written as in a From header, instead
    /// of the one it brought.
    pub fn show_sender_as(&mut self, request: RequestId, display: &str) {
        let shown = match self.waiting.get(&request) {
            Some(Waiting::Call(call)) => self.calls.get_mut(call).map(|call| &mut call.display),
            Some(Waiting::Errand) => self.errands.get_mut(&request).map(|errand| &mut errand.display),
            None => None,
        };
        if let Some(shown) = shown {
            *shown = display.to_owned();
        }
    }

    /// Says whom a request of [`Event::Route`] is for, where what was dialled only stands for them.
    pub fn readdress(&mut self, request: RequestId, aor: &str) {
        let to = match self.waiting.get(&request) {
            Some(Waiting::Call(call)) => self.calls.get_mut(call).map(|call| &mut call.record.to),
            Some(Waiting::Errand) => self.errands.get_mut(&request).map(|errand| &mut errand.to),
            None => None,
        };
        to.into_iter().for_each(|to| aor.clone_into(to));
    }

    /// Refuses a request of [`Event::Route`].
    pub fn reject(
        &mut self,
        now: Time,
        request: RequestId,
        status: u16,
        reason: &str,
        media: &mut dyn MediaPlane,
    ) {
        let Some(waiting) = self.waiting.remove(&request) else {
            return;
        };
        self.alarms.cancel(Alarm::Route(request));
        let status = if (300..=699).contains(&status) { status } else { 500 };
        match waiting {
            Waiting::Call(call) => self.refuse_call(now, call, status, reason, media),
            Waiting::Errand => self.end_errand(now, request, status, reason),
        }
        self.drain_transactions(now, media);
    }

    /// The next message to send, and where.
    pub fn poll_transmit(&mut self) -> Option<(Flow, Vec<u8>)> {
        self.transactions.poll_transmit()
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` is next due, and why.
    pub fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        let alarm = self.alarms.next().map(|(at, alarm)| match alarm {
            Alarm::Binding(_) => (at, "a registration runs out"),
            Alarm::Route(_) => (at, "no route was found"),
        });
        [self.transactions.poll_timeout(), alarm].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Takes a message of another peer, with what protected it on its way: that is noted on a text message.
    pub fn handle_peer_message(
        &mut self,
        now: Time,
        peer: NodeId,
        bytes: &[u8],
        protection: &str,
        media: &mut dyn MediaPlane,
    ) {
        self.message(now, Flow::Peer(peer), bytes, Some(protection), media);
    }

    fn message(
        &mut self,
        now: Time,
        flow: Flow,
        bytes: &[u8],
        protection: Option<&str>,
        media: &mut dyn MediaPlane,
    ) {
        if !self.may_speak(now, flow) {
            return self.count_drop("sip flood");
        }
        match sip::parse(bytes) {
            Ok(mut message) => {
                protection::note(&mut message, protection);
                let incoming = self.transactions.receive(now, flow, message);
                self.incoming(now, flow, incoming, media);
                self.drain_transactions(now, media);
            }
            Err(refusal) => {
                self.count_drop("sip malformed");
                self.send_refusal(flow, &refusal);
            }
        }
    }

    /// Whether one more message is looked at: any of a registered phone, and a few of everybody who is unproven.
    fn may_speak(&mut self, now: Time, flow: Flow) -> bool {
        let registered = self.registrar.users_at(flow).next().is_some();
        registered || flow.remote().is_none_or(|remote| self.door.admits(now, remote.ip()))
    }

    fn incoming(&mut self, now: Time, flow: Flow, incoming: Incoming, media: &mut dyn MediaPlane) {
        match incoming {
            Incoming::Request { id, message } => self.request(now, flow, id, message, media),
            Incoming::Cancel { invite, message } => self.cancelled(now, invite, &message, media),
            Incoming::Ack(message) => self.acknowledged(now, flow, &message, media),
            Incoming::Response { id, message } => self.response(now, id, message, media),
            Incoming::Absorbed => {}
        }
    }

    fn request(&mut self, now: Time, flow: Flow, id: ServerId, request: Message, media: &mut dyn MediaPlane) {
        if matches!(request.method(), Some(Method::Subscribe | Method::Publish)) {
            let reply = Message::reply_to(&request, 489, "").with("Allow-Events", "refer");
            return self.reply(now, id, reply);
        }
        let policy = Policy { methods: &headers::METHODS, options: &headers::OPTIONS };
        if let Err(refusal) = sip::check(&request, &policy) {
            if let Some(reply) = refusal.reply_to(&request) {
                self.reply(now, id, reply);
            }
            return;
        }
        if request.to_tag().is_some() {
            return self.in_dialog(now, flow, id, request, media);
        }
        match request.method() {
            Some(Method::Register) => self.register(now, flow, id, request),
            Some(Method::Options) => self.options(now, id, &request),
            Some(Method::Invite) => match self.identify(now, flow, &request) {
                Proof::Of(from) => self.start_call(now, flow, id, request, from, media),
                Proof::Answer(reply) => self.reply(now, id, *reply),
            },
            Some(Method::Message) => match self.identify(now, flow, &request) {
                Proof::Of(from) => self.start_errand(now, flow, id, request, from),
                Proof::Answer(reply) => self.reply(now, id, *reply),
            },
            Some(Method::Refer) => {
                self.refuse(now, id, &request, 403, "REFER only within a call");
            }
            _ => self.refuse(now, id, &request, 481, ""),
        }
    }

    fn options(&mut self, now: Time, id: ServerId, request: &Message) {
        let reply = Message::reply_to(request, 200, "")
            .with("Allow", headers::allow())
            .with("Accept", "application/sdp")
            .with("Supported", headers::OPTIONS.join(", "));
        self.reply(now, id, reply);
    }

    fn response(&mut self, now: Time, id: ClientId, message: Message, media: &mut dyn MediaPlane) {
        match self.asked.get(&id).copied() {
            Some(Asked::Branch(call, branch)) => {
                self.branch_response(now, call, branch, message, media);
            }
            Some(Asked::Relay(call)) => self.relay_response(now, call, id, message, media),
            Some(Asked::Errand(request)) => self.errand_response(now, request, id, message),
            Some(Asked::Bye(_)) | None => {}
        }
    }

    fn drain_transactions(&mut self, now: Time, media: &mut dyn MediaPlane) {
        while let Some(event) = self.transactions.poll_event() {
            match event {
                TransactionEvent::NoResponse(id) => match self.asked.get(&id).copied() {
                    Some(Asked::Branch(call, branch)) => {
                        self.branch_silent(now, call, branch, media);
                    }
                    Some(Asked::Relay(call)) => self.relay_silent(now, call, id, media),
                    Some(Asked::Errand(request)) => self.errand_silent(now, request, id),
                    Some(Asked::Bye(_)) | None => {}
                },
                TransactionEvent::ClientEnded(id) => {
                    if let Some(Asked::Branch(call, _) | Asked::Relay(call) | Asked::Bye(call)) =
                        self.asked.remove(&id)
                    {
                        self.client_ended(call, id);
                    }
                }
                TransactionEvent::NotAcknowledged(id) => {
                    if let Some(Served::Answered(call)) = self.served.remove(&id) {
                        self.not_acknowledged(now, call, media);
                    }
                }
                TransactionEvent::RequesterGone(id) => self.requester_gone(now, id, media),
            }
        }
    }

    fn requester_gone(&mut self, now: Time, id: ServerId, media: &mut dyn MediaPlane) {
        match self.served.remove(&id) {
            Some(Served::Call(call)) => self.caller_gone(now, call, media),
            Some(Served::Errand(request)) => self.drop_errand(request),
            _ => {}
        }
    }

    fn flow_lost(&mut self, now: Time, flow: Flow, cause: Cause, media: &mut dyn MediaPlane) {
        // Calls first, so that their phones hear the true reason and not a failed transaction.
        let affected: Vec<CallId> =
            self.calls.iter().filter(|(_, c)| c.rests_on(flow)).map(|(id, _)| *id).collect();
        for call in affected {
            self.end_lost_call(now, call, flow, cause, media);
        }
        self.transactions.flow_lost(now, flow);
        self.drain_transactions(now, media);
    }

    /// Sends a response, with our tag and name where they are missing.
    fn reply(&mut self, now: Time, id: ServerId, mut reply: Message) {
        if reply.status() > 100 && reply.to_tag().is_none() {
            let tag = self.transactions.token();
            reply.set_to_tag(&tag);
        }
        if reply.header("Server").is_none() && reply.header("User-Agent").is_none() {
            reply.push("Server", &self.server);
        }
        self.transactions.respond(now, id, &reply);
    }

    fn refuse(&mut self, now: Time, id: ServerId, request: &Message, status: u16, reason: &str) {
        self.reply(now, id, Message::reply_to(request, status, reason));
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Asks the driver where a request goes.
    fn ask_route(&mut self, now: Time, request: RequestId, waiting: Waiting, event: Event) {
        self.waiting.insert(request, waiting);
        self.alarms.set(Alarm::Route(request), now + ROUTE_TIMEOUT);
        self.events.push_back(event);
    }
}
