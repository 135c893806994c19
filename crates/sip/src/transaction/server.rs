//! Server transactions (RFC 3261 section 17.2, RFC 6026 section 7.1).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::Time;
use wire::sip::{Message, Method, Via};

use super::{Incoming, MAX_TRANSACTIONS, ServerId, T1, T1_64, T2, T4, Timer, TransactionEvent, Transactions};
use crate::flow::Flow;

/// How long a non-INVITE request may stay unanswered before it is forgotten: longer than Timer F
/// of a request passed on for it.
const UNANSWERED: Duration = Duration::from_secs(40);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// No final response yet.
    Proceeding,
    /// An INVITE was answered 2xx; the 2xx is repeated until its ACK (RFC 6026).
    Accepted,
    /// A final response was sent (for INVITE: 300 to 699).
    Completed,
    /// The ACK to a 300 to 699 came.
    Confirmed,
}

/// RFC 3261 section 17.2.3, and the flow: nobody reaches another's transaction by its branch.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct ServerKey {
    flow: Flow,
    branch: String,
    sent_by: String,
    method: Method,
}

impl ServerKey {
    fn of(flow: Flow, message: &Message, via: &Via, method: Method) -> ServerKey {
        // An RFC 2543 client makes no unique branch; the request's other names stand in.
        let branch = if via.has_magic_cookie() {
            via.branch().to_owned()
        } else {
            let number = message.cseq().map_or(0, |c| c.number);
            let tag = message.from_tag().unwrap_or_default();
            format!("{}|{}|{number}|{tag}", via.branch(), message.call_id())
        };
        ServerKey { flow, branch, sent_by: via.sent_by(), method }
    }
}

#[derive(Debug)]
pub(super) struct Server {
    key: ServerKey,
    merged: Option<String>,
    pub(super) flow: Flow,
    /// Where responses go; differs from `flow` for a phone that wants them at its Via's port.
    reply: Flow,
    state: State,
    response: Option<Vec<u8>>,
    interval: Duration,
    acknowledged: bool,
}

impl Server {
    fn is_invite(&self) -> bool {
        self.key.method == Method::Invite
    }

    pub(super) fn is_answered(&self) -> bool {
        self.state != State::Proceeding
    }
}

impl Transactions {
    pub(super) fn receive_request(&mut self, now: Time, flow: Flow, mut message: Message) -> Incoming {
        let (Some(mut via), Some(method)) = (message.via(), message.method().cloned()) else {
            return Incoming::Absorbed;
        };
        let matched = if method == Method::Ack { Method::Invite } else { method.clone() };
        let key = ServerKey::of(flow, &message, &via, matched);
        if let Some(&id) = self.server_keys.get(&key) {
            return self.repeated(now, id, method, message);
        }
        if method == Method::Ack {
            return Incoming::Ack(message);
        }
        let reply = reply_flow(flow, &via);
        if let Some(remote) = flow.remote() {
            complete_via(&mut via, remote);
            message.replace_via(&via);
        }
        if self.servers.len() >= MAX_TRANSACTIONS {
            let busy = Message::reply_to(&message, 503, "").with("Retry-After", "5");
            self.send(reply, busy.to_bytes());
            return Incoming::Absorbed;
        }
        let merged = merged_key(&message, &method);
        let twice = merged.as_ref().is_some_and(|m| self.merged.contains_key(m));
        let id = self.new_id();
        if let Some(merged) = merged.clone().filter(|_| !twice) {
            self.merged.insert(merged, id);
        }
        self.server_keys.insert(key.clone(), id);
        let server = Server {
            key: key.clone(),
            merged: merged.filter(|_| !twice),
            flow,
            reply,
            state: State::Proceeding,
            response: None,
            interval: T1,
            acknowledged: false,
        };
        self.servers.insert(id, server);
        if method != Method::Invite {
            self.timers.set((id, Timer::Deadline), now + UNANSWERED);
        }
        if twice {
            // The same request by two ways (RFC 3261 section 8.2.2.2).
            let mut loops = Message::reply_to(&message, 482, "");
            loops.set_to_tag(&self.token());
            self.respond(now, ServerId(id), &loops);
            return Incoming::Absorbed;
        }
        if method == Method::Cancel {
            return self.receive_cancel(now, id, key, message);
        }
        Incoming::Request { id: ServerId(id), message }
    }

    /// A request that belongs to a transaction we have.
    fn repeated(&mut self, now: Time, id: u64, method: Method, message: Message) -> Incoming {
        let Some(server) = self.servers.get_mut(&id) else {
            return Incoming::Absorbed;
        };
        if method == Method::Ack {
            match server.state {
                State::Completed => {
                    server.state = State::Confirmed;
                    server.response = None;
                    let linger = if server.flow.is_reliable() { Duration::ZERO } else { T4 };
                    self.timers.cancel((id, Timer::Retransmit));
                    self.linger(now, id, linger);
                }
                // A client that keeps the INVITE's branch for the ACK to its 2xx.
                State::Accepted => return Incoming::Ack(message),
                _ => {}
            }
            return Incoming::Absorbed;
        }
        if matches!(server.state, State::Proceeding | State::Completed)
            && let Some(response) = &server.response
        {
            self.transmits.push_back((server.reply, response.clone()));
        }
        Incoming::Absorbed
    }

    fn receive_cancel(&mut self, now: Time, id: u64, key: ServerKey, message: Message) -> Incoming {
        let key = ServerKey { method: Method::Invite, ..key };
        let invite = self.server_keys.get(&key).copied();
        let status = if invite.is_some() { 200 } else { 481 };
        let mut reply = Message::reply_to(&message, status, "");
        if message.to_tag().is_none() {
            reply.set_to_tag(&self.token());
        }
        self.respond(now, ServerId(id), &reply);
        match invite {
            Some(invite) if self.servers.get(&invite).is_some_and(|s| !s.is_answered()) => {
                Incoming::Cancel { invite: ServerId(invite), message }
            }
            _ => Incoming::Absorbed,
        }
    }

    /// Sends a response. After a final one, more are ignored.
    pub fn respond(&mut self, now: Time, id: ServerId, response: &Message) {
        let ServerId(id) = id;
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        if server.is_answered() {
            return;
        }
        let status = response.status();
        let bytes = response.to_bytes();
        server.response = Some(bytes.clone());
        let (reply, reliable) = (server.reply, server.flow.is_reliable());
        if status >= 200 {
            let invite = server.is_invite();
            server.state = if invite && status < 300 { State::Accepted } else { State::Completed };
            // An answered INVITE may still come by another way; anything else is quick.
            if let Some(merged) = server.merged.take_if(|_| !invite) {
                self.merged.remove(&merged);
            }
            if invite && !reliable {
                self.timers.set((id, Timer::Retransmit), now + T1);
            }
            // A reliable non-INVITE needs no Timer J; everything else lingers for 64*T1.
            let linger = if !invite && reliable { Duration::ZERO } else { T1_64 };
            self.linger(now, id, linger);
        }
        self.transmits.push_back((reply, bytes));
    }

    /// The ACK to the 2xx of this INVITE came: it is not sent again.
    pub fn acknowledge(&mut self, id: ServerId) {
        if let Some(server) = self.servers.get_mut(&id.0)
            && server.state == State::Accepted
        {
            server.acknowledged = true;
            server.response = None;
            self.timers.cancel((id.0, Timer::Retransmit));
        }
    }

    /// Whether this request still waits for its final response.
    pub fn is_unanswered(&self, id: ServerId) -> bool {
        self.servers.get(&id.0).is_some_and(|s| !s.is_answered())
    }

    fn linger(&mut self, now: Time, id: u64, time: Duration) {
        if time.is_zero() {
            self.forget_server(id);
        } else {
            self.timers.set((id, Timer::Deadline), now + time);
        }
    }

    pub(super) fn server_timer(&mut self, now: Time, id: u64, timer: Timer) {
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        match timer {
            Timer::Retransmit => {
                // Timer G, and the 2xx of RFC 3261 section 13.3.1.4.
                server.interval = (server.interval * 2).min(T2);
                if let Some(response) = &server.response {
                    self.transmits.push_back((server.reply, response.clone()));
                }
                self.timers.set((id, Timer::Retransmit), now + server.interval);
            }
            Timer::Deadline => {
                if server.state == State::Accepted && !server.acknowledged {
                    self.events.push_back(TransactionEvent::NotAcknowledged(ServerId(id)));
                }
                self.forget_server(id);
            }
        }
    }

    pub(super) fn forget_server(&mut self, id: u64) {
        self.cancel_timers(id);
        if let Some(server) = self.servers.remove(&id) {
            self.server_keys.remove(&server.key);
            if let Some(merged) = server.merged {
                self.merged.remove(&merged);
            }
        }
    }
}

/// What two copies of one request that came by two ways have in common.
fn merged_key(message: &Message, method: &Method) -> Option<String> {
    if *method == Method::Cancel || message.to_tag().is_some() {
        return None;
    }
    let number = message.cseq()?.number;
    Some(format!("{}|{}|{number}|{method}", message.call_id(), message.from_tag()?))
}

fn ip_of(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

/// Where responses go (RFC 3261 section 18.2.2, RFC 3581). Symmetric, except that a phone without
/// rport and without a NAT before it is answered at the port its Via names.
fn reply_flow(flow: Flow, via: &Via) -> Flow {
    match flow {
        Flow::Udp(remote) if !via.params.has("rport") && ip_of(&via.host) == Some(remote.ip()) => {
            Flow::Udp(SocketAddr::new(remote.ip(), via.port.unwrap_or(5060)))
        }
        other => other,
    }
}

fn complete_via(via: &mut Via, remote: SocketAddr) {
    let rport = via.params.has("rport");
    if rport {
        via.params.set("rport", Some(&remote.port().to_string()));
    }
    if rport || ip_of(&via.host) != Some(remote.ip()) {
        via.params.set("received", Some(&remote.ip().to_string()));
    }
}
