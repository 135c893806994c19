//! A small user agent: a phone without a body (RFC 3261 sections 8, 10, 13 to 15).
//!
//! The same machine serves the built-in users of a peer (over [`Flow::Local`]), the phones of the
//! demonstration (over real UDP) and the scripted phones of the simulator. It registers, calls, is
//! called, holds, transfers and writes; sound is somebody else's business, so session descriptions
//! go in and out as bytes, and [`sdp`] makes and reads the plain ones.
//!
//! Everything goes to one place, the registrar, which is why a user agent has one [`Flow`] out.
//! What it is asked to do it does at once and tells the outcome later, as a [`UaEvent`] with the
//! [`Handle`] that the command returned.

mod call;
mod callee;
mod caller;
mod event;
mod in_dialog;
mod message;
mod registration;
pub mod sdp;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use wire::sip::digest::Challenge;
use wire::sip::{self, Message, Method, NameAddr, Policy, Uri, percent_encode_user};
use wire::{Seed, Time};

use crate::flow::Flow;
use crate::transaction::{ClientId, Incoming, SentBy, ServerId, TransactionEvent, Transactions};

use call::{Call, State};
use registration::Registration;

pub use event::{Handle, UaEvent};
pub use sdp::g711_sdp;

/// Most calls of one user agent at once: more than a phone has lines, and a bound on what a caller
/// can make us remember.
pub const MAX_DIALOGS: usize = 64;

/// Most messages waiting for [`UserAgent::answer_message`]; the next is answered 503.
pub const MAX_MESSAGES: usize = 64;

/// Most requests of ours without an end: 16 for each call, and far below the transactions' bound.
/// A BYE is sent in any case, since it is what frees a call.
pub const MAX_REQUESTS: usize = 1_024;

/// How long a call may ring here: longer than the caller's Timer C, so that he gives up first.
pub const RING_TIMEOUT: Duration = Duration::from_secs(200);

/// Events waiting for the driver, which drains them after every call.
const MAX_EVENTS: usize = 1_024;

/// How often one request is sent again because its nonce was stale.
const MAX_CHALLENGES: u8 = 3;

/// Most dialogs that one INVITE of ours makes, each acknowledged: all but the first are ended.
const MAX_FORKS: usize = 8;

/// What we answer; everything else is 405 or 501.
const METHODS: [Method; 10] = [
    Method::Invite,
    Method::Ack,
    Method::Bye,
    Method::Cancel,
    Method::Options,
    Method::Info,
    Method::Message,
    Method::Update,
    Method::Refer,
    Method::Notify,
];

/// Extensions that may be required of us. Session timers are tolerated: the other side refreshes.
const OPTIONS: [&str; 2] = ["replaces", "timer"];

/// What may be asked of us.
const POLICY: Policy<'static> = Policy { methods: &METHODS, options: &OPTIONS };

/// Who a user agent is and whom it talks through.
#[derive(Clone)]
pub struct UaConfig {
    /// The user, without domain.
    pub user: String,
    /// The domain of the address-of-record.
    pub domain: String,
    /// The password, if the registrar asks for one.
    pub password: Option<String>,
    /// The registrar, which is also where every request goes.
    pub flow: Flow,
    /// Where others reach this user agent.
    pub sent_by: SentBy,
    /// How long a registration lasts, in seconds; it is renewed at half that time.
    pub expires: u32,
}

impl fmt::Debug for UaConfig {
    /// The password is never printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UaConfig")
            .field("user", &self.user)
            .field("domain", &self.domain)
            .field("flow", &self.flow)
            .field("sent_by", &self.sent_by)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// What a request of ours is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Register,
    Invite(Handle),
    Reinvite(Handle),
    Message(Handle),
    Info(Handle),
    Refer(Handle),
    Notify(Handle),
    Bye,
}

impl Asked {
    /// The call whose CSeq numbers the request counts.
    fn call(self) -> Option<Handle> {
        match self {
            Asked::Invite(h) | Asked::Reinvite(h) | Asked::Info(h) | Asked::Refer(h) | Asked::Notify(h) => {
                Some(h)
            }
            Asked::Register | Asked::Message(_) | Asked::Bye => None,
        }
    }
}

/// A request of ours that has not ended.
#[derive(Debug)]
struct Question {
    asked: Asked,
    /// As it would be sent again to answer a challenge.
    request: Message,
    challenges: u8,
    /// The ACKs to its 2xx, by To tag: a repeated 2xx gets the same again (RFC 3261 13.2.2.4).
    acks: Vec<(String, Vec<u8>)>,
    /// Its failure has been told.
    given_up: bool,
}

/// A small user agent.
#[derive(Debug)]
pub struct UserAgent {
    config: UaConfig,
    display: String,
    manual_messages: bool,
    manual_reoffers: bool,
    transactions: Transactions,
    calls: BTreeMap<Handle, Call>,
    questions: BTreeMap<ClientId, Question>,
    /// Messages not yet answered.
    texts: BTreeMap<Handle, (ServerId, Message)>,
    registration: Registration,
    events: VecDeque<UaEvent>,
    next: u64,
}

impl UserAgent {
    /// A user agent that is not registered.
    pub fn new(config: UaConfig, seed: Seed) -> Self {
        let mut transactions = Transactions::new(seed);
        let registration = Registration::new(transactions.token(), config.expires);
        UserAgent {
            config,
            display: String::new(),
            manual_messages: false,
            manual_reoffers: false,
            transactions,
            calls: BTreeMap::new(),
            questions: BTreeMap::new(),
            texts: BTreeMap::new(),
            registration,
            events: VecDeque::new(),
            next: 1,
        }
    }

    /// The name that others see beside the address.
    pub fn set_display_name(&mut self, name: &str) {
        let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
        self.display = if name.is_empty() { String::new() } else { format!("\"{escaped}\"") };
    }

    /// Whether messages wait for [`Self::answer_message`] rather than being answered 200 at once.
    pub fn set_manual_messages(&mut self, manual: bool) {
        self.manual_messages = manual;
    }

    /// Whether new offers within a call wait for [`Self::accept_reoffer`] or [`Self::reject`]. If
    /// not, they are answered with the description we gave last, directed as the offer allows.
    pub fn set_manual_reoffers(&mut self, manual: bool) {
        self.manual_reoffers = manual;
    }

    /// How many calls there are, in whatever state.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<(Flow, Vec<u8>)> {
        self.transactions.poll_transmit()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<UaEvent> {
        self.events.pop_front()
    }

    /// When this user agent wants to be woken, and why.
    pub fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        let register = self.registration.due().map(|at| (at, "registration"));
        let ringing = self.calls.values().filter_map(Call::due).min().map(|at| (at, "ringing"));
        [self.transactions.poll_timeout(), register, ringing].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.registration.due().is_some_and(|at| at <= now) {
            self.register(now);
        }
        self.mind_ringing(now);
        self.transactions.handle_timeout(now);
        self.drain(now);
    }

    /// Takes a message that arrived: one datagram, or one framed message of a stream.
    pub fn handle_message(&mut self, now: Time, flow: Flow, bytes: &[u8]) {
        match sip::parse(bytes) {
            Ok(message) => match self.transactions.receive(now, flow, message) {
                Incoming::Request { id, message } => self.handle_request(now, id, message),
                Incoming::Cancel { invite, message } => self.handle_cancel(now, invite, &message),
                Incoming::Ack(message) => self.handle_ack(now, &message),
                Incoming::Response { id, message } => self.handle_response(now, id, message),
                Incoming::Absorbed => {}
            },
            Err(refusal) => {
                if let Some(reply) = refusal.reply() {
                    self.transactions.send(flow, reply.to_bytes());
                }
            }
        }
        self.drain(now);
    }

    fn drain(&mut self, now: Time) {
        while let Some(event) = self.transactions.poll_event() {
            match event {
                TransactionEvent::NoResponse(id) => {
                    if let Some(question) = self.questions.get_mut(&id) {
                        question.given_up = true;
                        let asked = question.asked;
                        self.asked_in_vain(now, id, asked, 408, "No answer");
                    }
                }
                TransactionEvent::ClientEnded(id) => {
                    self.questions.remove(&id);
                }
                TransactionEvent::NotAcknowledged(id) => self.not_acknowledged(now, id),
                TransactionEvent::RequesterGone(id) => self.requester_gone(id),
            }
        }
    }

    // ---- requests that arrive ------------------------------------------------------------------

    fn handle_request(&mut self, now: Time, id: ServerId, message: Message) {
        if let Err(refusal) = sip::check(&message, &POLICY) {
            if let Some(reply) = refusal.reply_to(&message) {
                self.respond(now, id, reply);
            }
            return;
        }
        let Some(method) = message.method().cloned() else { return };
        if message.to_tag().is_some() {
            return match self.find(&message) {
                Some(handle) => self.handle_in_dialog(now, id, handle, message),
                None => self.refuse(now, id, &message, 481),
            };
        }
        match method {
            Method::Invite => self.handle_call(now, id, message),
            Method::Message => self.handle_text(now, id, message),
            Method::Options => {
                let reply = Message::reply_to(&message, 200, "").with("Accept", "application/sdp");
                self.respond(now, id, reply.with("Allow", POLICY.allow()));
            }
            // Only who is in a call with us may send us elsewhere.
            Method::Refer => self.refuse(now, id, &message, 403),
            _ => self.refuse(now, id, &message, 481),
        }
    }

    /// Answers with a To tag, fresh unless there is one.
    fn respond(&mut self, now: Time, id: ServerId, mut reply: Message) {
        if reply.to_tag().is_none() {
            reply.set_to_tag(&self.transactions.token());
        }
        self.transactions.respond(now, id, &reply);
    }

    fn refuse(&mut self, now: Time, id: ServerId, request: &Message, status: u16) {
        self.respond(now, id, Message::reply_to(request, status, ""));
    }

    // ---- responses that arrive -----------------------------------------------------------------

    fn handle_response(&mut self, now: Time, id: ClientId, message: Message) {
        let status = message.status();
        let Some(question) = self.questions.get_mut(&id) else { return };
        let asked = question.asked;
        match (asked, status) {
            (_, ..=100) => {}
            (Asked::Invite(handle), 101..=199) => self.progressed(handle, message),
            (_, 101..=199) => {}
            (Asked::Invite(_) | Asked::Reinvite(_), 200..=299) => self.accepted(now, id, asked, &message),
            (Asked::Register, 200..=299) => {
                self.questions.remove(&id);
                self.registered(now, id, &message);
            }
            (_, 200..=299) => {
                self.questions.remove(&id);
                self.tell_outcome(asked, status, message.reason());
            }
            _ if question.given_up => {}
            (_, 401 | 407) if self.try_again(now, id, &message) => {}
            (Asked::Register, 423) if self.registered_too_briefly(now, id, &message) => {}
            _ => {
                self.questions.remove(&id);
                self.asked_in_vain(now, id, asked, status, message.reason());
            }
        }
    }

    /// Asks again with the credentials that the challenge wants (RFC 3261 section 22).
    fn try_again(&mut self, now: Time, id: ClientId, message: &Message) -> bool {
        let (challenged_by, answered_by) = match message.status() {
            401 => ("WWW-Authenticate", "Authorization"),
            _ => ("Proxy-Authenticate", "Proxy-Authorization"),
        };
        let challenge = message.headers_named(challenged_by).find_map(Challenge::parse);
        let Some(challenge) = challenge.filter(Challenge::is_md5) else { return false };
        let Some(password) = self.config.password.clone() else { return false };
        let Some(question) = self.questions.get(&id) else { return false };
        // A second refusal means a wrong password, unless only the nonce was too old.
        let tries = question.challenges;
        if tries >= MAX_CHALLENGES || (tries > 0 && !challenge.stale) || self.is_cancelled(question.asked) {
            return false;
        }
        let Some(Question { asked, mut request, .. }) = self.questions.remove(&id) else { return false };
        let method = request.method().map_or_else(String::new, |m| m.as_str().to_owned());
        let (cnonce, uri) = (self.transactions.token(), request.uri().to_owned());
        let credentials = challenge.answer(&self.config.user, &password, &method, &uri, &cnonce);
        request.set(answered_by, credentials.to_value());
        let number = self.next_cseq(asked, &request);
        request.set("CSeq", format!("{number} {method}"));
        let client = self.ask_again(now, asked, request, tries + 1);
        match asked {
            Asked::Register => self.registration.asked_again(client, number),
            Asked::Invite(handle) | Asked::Reinvite(handle) => self.invite_went_again(handle, client, number),
            _ => {}
        }
        true
    }

    fn next_cseq(&mut self, asked: Asked, request: &Message) -> u32 {
        match asked.call().and_then(|handle| self.calls.get_mut(&handle)) {
            Some(call) => call.next_cseq(),
            None => request.cseq().map_or(1, |c| c.number).saturating_add(1),
        }
    }

    /// A final answer that needs no ACK of ours: tells it.
    fn tell_outcome(&mut self, asked: Asked, status: u16, reason: &str) {
        let reason = reason.to_owned();
        match asked {
            Asked::Message(handle) => self.tell(UaEvent::MessageResult { handle, status, reason }),
            Asked::Info(handle) => self.tell(UaEvent::InfoResult { handle, status }),
            Asked::Refer(handle) => self.tell(UaEvent::Transfer { handle, status, reason }),
            Asked::Register | Asked::Invite(_) | Asked::Reinvite(_) | Asked::Notify(_) | Asked::Bye => {}
        }
    }

    fn asked_in_vain(&mut self, now: Time, id: ClientId, asked: Asked, status: u16, reason: &str) {
        match asked {
            Asked::Register => self.register_failed(now, id, status),
            Asked::Invite(handle) => self.call_failed(id, handle, status, reason),
            Asked::Reinvite(handle) => self.reoffer_failed(id, handle, status, reason),
            _ => self.tell_outcome(asked, status, reason),
        }
        // The other side knows nothing of this call any more (RFC 3261 section 12.2.1.2).
        if let (Asked::Reinvite(handle) | Asked::Info(handle) | Asked::Refer(handle), 408 | 481) =
            (asked, status)
        {
            self.end_call(now, handle, "the call is gone at the other side");
        }
    }

    // ---- small things --------------------------------------------------------------------------

    fn tell(&mut self, event: UaEvent) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        }
    }

    fn new_handle(&mut self) -> Handle {
        self.next += 1;
        Handle(self.next)
    }

    fn has_room(&self) -> bool {
        self.questions.len() < MAX_REQUESTS
    }

    /// Sends a request and remembers what it is for.
    fn ask(&mut self, now: Time, asked: Asked, request: Message) -> ClientId {
        self.ask_again(now, asked, request, 0)
    }

    fn ask_again(&mut self, now: Time, asked: Asked, request: Message, challenges: u8) -> ClientId {
        let flow = self.config.flow;
        let id = self.transactions.request(now, flow, request.clone(), &self.config.sent_by);
        let question = Question { asked, request, challenges, acks: Vec::new(), given_up: false };
        self.questions.insert(id, question);
        id
    }

    /// The address-of-record, without tag.
    fn own_address(&self) -> NameAddr {
        let mut address =
            NameAddr::new(format!("sip:{}@{}", percent_encode_user(&self.config.user), self.config.domain));
        address.display.clone_from(&self.display);
        address
    }

    fn contact(&self) -> String {
        let by = &self.config.sent_by;
        let port = by.port.map(|p| format!(":{p}")).unwrap_or_default();
        format!("<sip:{}@{}{port}>", percent_encode_user(&self.config.user), by.host)
    }

    /// The call a request belongs to.
    fn find(&self, message: &Message) -> Option<Handle> {
        let (ours, theirs) = (message.to_tag()?, message.from_tag().unwrap_or_default());
        let is_it = |call: &Call| call.has_name(message.call_id(), &ours, &theirs);
        self.calls.iter().find(|(_, call)| is_it(call)).map(|(handle, _)| *handle)
    }

    fn is_cancelled(&self, asked: Asked) -> bool {
        let call = asked.call().and_then(|handle| self.calls.get(&handle));
        matches!((asked, call), (Asked::Invite(_), Some(call)) if call.cancelled || call.state != State::Calling)
    }
}

/// The URI that a person means by `bob`, `bob@example.org` or a URI.
fn to_uri(to: &str, domain: &str) -> String {
    let to = NameAddr::parse(to).filter(|_| to.contains('<')).map_or_else(|| to.to_owned(), |a| a.uri);
    if ["sip:", "sips:", "tel:"].iter().any(|s| to.get(..s.len()).is_some_and(|p| p.eq_ignore_ascii_case(s)))
    {
        return to;
    }
    let (user, domain) = to.rsplit_once('@').unwrap_or((&to, domain));
    format!("sip:{}@{domain}", percent_encode_user(user))
}

/// `user@domain` of a URI, as people read it.
fn aor_of(uri: &str) -> String {
    match Uri::parse(uri) {
        Ok(uri) if !uri.host.is_empty() => format!("{}@{}", uri.user_decoded(), uri.host),
        _ => uri.to_owned(),
    }
}

/// `user@domain` of a From or To; empty if there is none.
fn aor(address: Option<NameAddr>) -> String {
    address.map(|a| aor_of(&a.uri)).unwrap_or_default()
}
