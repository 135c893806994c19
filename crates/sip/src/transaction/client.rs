//! Client transactions (RFC 3261 section 17.1, RFC 6026 section 7.2).

use std::time::Duration;

use wire::Time;
use wire::sip::{Message, Method};

use super::{
    ClientId, Incoming, MAX_TRANSACTIONS, PEER_GRACE, SentBy, T1, T1_64, T2, T4, TIMER_C, Timer,
    TransactionEvent, Transactions,
};
use crate::flow::Flow;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Sent, nothing heard.
    Calling,
    /// A provisional response came.
    Proceeding,
    /// An INVITE was answered 2xx; more of them may come (RFC 6026).
    Accepted,
    /// A final response came (for INVITE: 300 to 699, acknowledged by us).
    Completed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cancel {
    No,
    /// Wanted, but nothing was heard yet, so it may not be sent (RFC 3261 section 9.1).
    Wanted,
    Sent,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) flow: Flow,
    method: Method,
    branch: String,
    state: State,
    /// The request, without its body, for the CANCEL and ACK made from it.
    request: Message,
    /// What is sent again: the request, later the ACK.
    bytes: Option<Vec<u8>>,
    interval: Duration,
    cancel: Cancel,
    cancel_reason: Option<String>,
    /// The user has been told that nothing came.
    given_up: bool,
    /// A CANCEL of our own making; its user is this layer.
    internal: bool,
}

impl Client {
    fn is_invite(&self) -> bool {
        self.method == Method::Invite
    }
}

impl Transactions {
    /// Sends a request, which gets a Via here. Responses come out of `receive`, the end out of
    /// `poll_event`. Where there is no room for one more, the end comes at once.
    pub fn request(&mut self, now: Time, flow: Flow, mut message: Message, by: &SentBy) -> ClientId {
        let via = self.fresh_via(&flow, by);
        message.push_via(&via);
        let id = self.start(now, flow, message, via.branch().to_owned(), false);
        ClientId(id)
    }

    fn start(&mut self, now: Time, flow: Flow, message: Message, branch: String, internal: bool) -> u64 {
        let id = self.new_id();
        let method = message.method().cloned().unwrap_or(Method::Options);
        if self.clients.len() >= MAX_TRANSACTIONS {
            self.events.push_back(TransactionEvent::NoResponse(ClientId(id)));
            self.events.push_back(TransactionEvent::ClientEnded(ClientId(id)));
            return id;
        }
        let bytes = message.to_bytes();
        self.transmits.push_back((flow, bytes.clone()));
        if !flow.is_reliable() {
            self.timers.set((id, Timer::Retransmit), now + T1);
        }
        let grace = if matches!(flow, Flow::Peer(_)) { PEER_GRACE } else { Duration::ZERO };
        self.timers.set((id, Timer::Deadline), now + T1_64 + grace);
        self.branches.insert((branch.clone(), method.clone()), id);
        let request = Message { body: Vec::new(), ..message };
        let client = Client {
            flow,
            method,
            branch,
            state: State::Calling,
            request,
            bytes: (!flow.is_reliable()).then_some(bytes),
            interval: T1,
            cancel: Cancel::No,
            cancel_reason: None,
            given_up: false,
            internal,
        };
        self.clients.insert(id, client);
        id
    }

    pub(super) fn receive_response(&mut self, now: Time, message: Message) -> Incoming {
        let (Some(via), Some(cseq)) = (message.via(), message.cseq()) else {
            return Incoming::Absorbed;
        };
        let Some(&id) = self.branches.get(&(via.branch().to_owned(), cseq.method)) else {
            return Incoming::Absorbed;
        };
        let Some(client) = self.clients.get_mut(&id) else {
            return Incoming::Absorbed;
        };
        let (status, invite, flow) = (message.status(), client.is_invite(), client.flow);
        let grace = if matches!(flow, Flow::Peer(_)) { PEER_GRACE } else { Duration::ZERO };
        match (client.state, status) {
            (State::Calling | State::Proceeding, 100..=199) => {
                client.state = State::Proceeding;
                if invite {
                    client.bytes = None;
                    self.timers.cancel((id, Timer::Retransmit));
                    match client.cancel {
                        Cancel::No => self.timers.set((id, Timer::Deadline), now + TIMER_C + grace),
                        Cancel::Wanted => self.send_cancel(now, id),
                        Cancel::Sent => {}
                    }
                } else {
                    client.interval = T2;
                }
            }
            (State::Calling | State::Proceeding, 200..=299) if invite => {
                client.state = State::Accepted;
                client.bytes = None;
                self.timers.cancel((id, Timer::Retransmit));
                self.timers.set((id, Timer::Deadline), now + T1_64);
            }
            (State::Accepted, 200..=299) => {}
            (State::Calling | State::Proceeding, 200..) => {
                client.state = State::Completed;
                client.bytes = None;
                self.timers.cancel((id, Timer::Retransmit));
                // Timers D and K: only a lossy network repeats a response.
                let linger = if invite { T1_64 } else { T4 };
                if invite {
                    let ack = ack_to_refusal(&client.request, &message);
                    let bytes = ack.to_bytes();
                    client.bytes = Some(bytes.clone());
                    self.transmits.push_back((flow, bytes));
                }
                let (internal, told) = (client.internal, client.given_up);
                if flow.is_reliable() {
                    self.end_client(id);
                } else {
                    self.timers.set((id, Timer::Deadline), now + linger);
                }
                if internal || told {
                    return Incoming::Absorbed;
                }
                return Incoming::Response { id: ClientId(id), message };
            }
            (State::Completed, 300..) if invite => {
                if let Some(ack) = &client.bytes {
                    self.transmits.push_back((flow, ack.clone()));
                }
                return Incoming::Absorbed;
            }
            _ => return Incoming::Absorbed,
        }
        match self.clients.get(&id) {
            Some(c) if !c.internal && (!c.given_up || status >= 200) => {
                Incoming::Response { id: ClientId(id), message }
            }
            _ => Incoming::Absorbed,
        }
    }

    /// Cancels an INVITE that has no final response; `reason` becomes the CANCEL's Reason header
    /// (RFC 3326). The final response still comes out of `receive`.
    pub fn cancel(&mut self, now: Time, id: ClientId, reason: Option<&str>) {
        let Some(client) = self.clients.get_mut(&id.0) else {
            return;
        };
        if !client.is_invite() || client.cancel != Cancel::No {
            return;
        }
        client.cancel_reason = reason.map(str::to_owned);
        match client.state {
            State::Calling => client.cancel = Cancel::Wanted,
            State::Proceeding => self.send_cancel(now, id.0),
            _ => {}
        }
    }

    fn send_cancel(&mut self, now: Time, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.cancel = Cancel::Sent;
        let mut cancel = follow_up(&client.request, Method::Cancel);
        if let Some(to) = client.request.header("To") {
            cancel.push("To", to);
        }
        if let Some(reason) = client.cancel_reason.take() {
            cancel.push("Reason", reason);
        }
        let (flow, branch) = (client.flow, client.branch.clone());
        // The INVITE ends by 487 or not at all (RFC 3261 section 9.1).
        self.timers.set((id, Timer::Deadline), now + T1_64);
        self.start(now, flow, cancel, branch, true);
    }

    pub(super) fn client_timer(&mut self, now: Time, id: u64, timer: Timer) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if timer == Timer::Retransmit {
            if let Some(bytes) = &client.bytes {
                self.transmits.push_back((client.flow, bytes.clone()));
            }
            // Timer A doubles without end, Timer E up to T2.
            client.interval *= 2;
            if !client.is_invite() {
                client.interval = client.interval.min(T2);
            }
            self.timers.set((id, Timer::Retransmit), now + client.interval);
            return;
        }
        let rang_too_long =
            client.is_invite() && client.state == State::Proceeding && client.cancel == Cancel::No;
        if matches!(client.state, State::Calling | State::Proceeding) && !client.given_up {
            client.given_up = true;
            if !client.internal {
                self.events.push_back(TransactionEvent::NoResponse(ClientId(id)));
            }
        }
        if rang_too_long {
            // Timer C (RFC 3261 section 16.8): cancelled, and a late 2xx is still reported.
            self.send_cancel(now, id);
        } else {
            self.end_client(id);
        }
    }

    /// The flow of this transaction is gone.
    pub(super) fn client_lost(&mut self, _now: Time, id: u64) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let waiting = matches!(client.state, State::Calling | State::Proceeding);
        if waiting && !client.given_up && !client.internal {
            self.events.push_back(TransactionEvent::NoResponse(ClientId(id)));
        }
        self.end_client(id);
    }

    fn end_client(&mut self, id: u64) {
        self.cancel_timers(id);
        if let Some(client) = self.clients.remove(&id) {
            self.branches.remove(&(client.branch, client.method));
            if !client.internal {
                self.events.push_back(TransactionEvent::ClientEnded(ClientId(id)));
            }
        }
    }
}

/// A CANCEL or ACK with the names of the request it follows (RFC 3261 sections 9.1, 17.1.1.3).
fn follow_up(request: &Message, method: Method) -> Message {
    let mut message = Message::request(method.clone(), request.uri());
    if let Some(via) = request.via() {
        message.push_via(&via);
    }
    for header in &request.headers {
        if ["Route", "From", "Call-ID", "Max-Forwards"].iter().any(|n| header.is(n)) {
            message.headers.push(header.clone());
        }
    }
    let number = request.cseq().map_or(1, |c| c.number);
    message.push("CSeq", format!("{number} {method}"));
    message
}

fn ack_to_refusal(request: &Message, response: &Message) -> Message {
    let mut ack = follow_up(request, Method::Ack);
    if let Some(to) = response.header("To") {
        ack.push("To", to);
    }
    ack
}
