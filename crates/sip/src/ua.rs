//! A small user agent: a phone without a body.
//!
//! The same machine serves the built-in users of a peer (over [`Flow::Local`]), the phones of the
//! demonstration (over real UDP) and the scripted phones of the simulator. It registers, calls, is
//! called, holds nothing and transfers nobody; sound is somebody else's business, so session
//! descriptions go in and out as bytes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use wire::sip::digest::Challenge;
use wire::sip::{self, Message, Method, NameAddr, Uri};
use wire::{Seed, Time};

use crate::flow::Flow;
use crate::transaction::{ClientId, Incoming, SentBy, ServerId, TransactionEvent, Transactions};

/// Most calls and messages of one user agent at once.
pub const MAX_DIALOGS: usize = 64;

/// Events waiting for the driver, which drains them after every call.
const MAX_EVENTS: usize = 1_024;

/// Who a user agent is and whom it talks through.
#[derive(Clone, Debug)]
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

/// A call, or a message, of this user agent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Handle(pub u64);

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UaEvent {
    /// The registrar accepted us.
    Registered,
    /// The registrar refused us.
    RegisterFailed {
        /// Its answer.
        status: u16,
    },
    /// Somebody calls.
    Incoming {
        /// The call.
        handle: Handle,
        /// Who.
        from: String,
        /// The offer; `None` asks us for one.
        offer: Option<Vec<u8>>,
    },
    /// The other side rings, or says something early.
    Ringing {
        /// The call.
        handle: Handle,
        /// 180, 183, ...
        status: u16,
    },
    /// The other side answered.
    Answered {
        /// The call.
        handle: Handle,
        /// Its description.
        sdp: Vec<u8>,
    },
    /// The call came to nothing.
    Failed {
        /// The call.
        handle: Handle,
        /// Why.
        status: u16,
        /// In words.
        reason: String,
    },
    /// The other side changes the session; answered with the description we gave last.
    Reoffer {
        /// The call.
        handle: Handle,
        /// What it offers.
        sdp: Vec<u8>,
    },
    /// The call is over.
    Ended {
        /// The call.
        handle: Handle,
        /// The Reason header, if there was one.
        reason: String,
    },
    /// A message came, and was accepted.
    MessageReceived {
        /// Who sent it.
        from: String,
        /// To whom.
        to: String,
        /// Its Call-ID, which names it.
        id: String,
        /// Its content type.
        content_type: String,
        /// The text.
        body: Vec<u8>,
    },
    /// What became of a message of ours.
    MessageResult {
        /// The message.
        handle: Handle,
        /// The answer.
        status: u16,
        /// In words.
        reason: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Calling,
    Called,
    Talking,
}

#[derive(Debug)]
struct Dialog {
    state: State,
    call_id: String,
    /// Ours and theirs, as From and To of our own requests.
    local: NameAddr,
    remote: NameAddr,
    target: String,
    routes: Vec<String>,
    cseq: u32,
    invite: Option<(ServerId, Message)>,
    client: Option<ClientId>,
    sdp: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Asked {
    Register,
    Invite(Handle),
    Message(Handle),
    Bye,
}

struct Question {
    asked: Asked,
    request: Message,
    challenged: bool,
}

/// A small user agent.
pub struct UserAgent {
    config: UaConfig,
    transactions: Transactions,
    dialogs: BTreeMap<Handle, Dialog>,
    questions: BTreeMap<ClientId, Question>,
    events: VecDeque<UaEvent>,
    register_call_id: String,
    register_cseq: u32,
    register_at: Option<Time>,
    next: u64,
}

impl UserAgent {
    /// A user agent that is not registered.
    pub fn new(config: UaConfig, seed: Seed) -> Self {
        let mut transactions = Transactions::new(seed);
        let register_call_id = transactions.token();
        UserAgent {
            config,
            transactions,
            dialogs: BTreeMap::new(),
            questions: BTreeMap::new(),
            events: VecDeque::new(),
            register_call_id,
            register_cseq: 0,
            register_at: None,
            next: 1,
        }
    }

    /// Registers, and renews the registration at half its time.
    pub fn register(&mut self, now: Time) {
        self.send_register(now, self.config.expires);
        self.register_at = Some(now + Duration::from_secs(u64::from(self.config.expires.max(2)) / 2));
    }

    /// Takes the registration back.
    pub fn unregister(&mut self, now: Time) {
        self.register_at = None;
        self.send_register(now, 0);
    }

    fn send_register(&mut self, now: Time, expires: u32) {
        self.register_cseq += 1;
        let aor = self.own_address();
        let mut request = Message::request(Method::Register, format!("sip:{}", self.config.domain));
        let tag = self.transactions.token();
        request.push("From", aor.clone().with_tag(&tag).to_string());
        request.push("To", aor.to_string());
        request.push("Call-ID", self.register_call_id.clone());
        request.push("CSeq", format!("{} REGISTER", self.register_cseq));
        request.push("Max-Forwards", "70");
        request.push("Contact", self.contact());
        request.push("Expires", expires.to_string());
        self.ask(now, Asked::Register, request, false);
    }

    /// Calls somebody with an offer.
    pub fn invite(&mut self, now: Time, to: &str, sdp: Vec<u8>) -> Handle {
        let handle = self.new_handle();
        let tag = self.transactions.token();
        let call_id = self.transactions.token();
        let target = to_uri(to, &self.config.domain);
        let mut dialog = Dialog {
            state: State::Calling,
            call_id,
            local: self.own_address().with_tag(&tag),
            remote: NameAddr::new(target.clone()),
            target,
            routes: Vec::new(),
            cseq: 0,
            invite: None,
            client: None,
            sdp: sdp.clone(),
        };
        let request = self.request_in(&mut dialog, Method::Invite).with_body("application/sdp", sdp);
        if self.dialogs.len() >= MAX_DIALOGS {
            self.tell(UaEvent::Failed { handle, status: 503, reason: "too many calls".into() });
            return handle;
        }
        let client = self.ask(now, Asked::Invite(handle), request, false);
        dialog.client = Some(client);
        self.dialogs.insert(handle, dialog);
        handle
    }

    /// Tells the caller that we ring.
    pub fn ring(&mut self, now: Time, handle: Handle) {
        self.respond_invite(now, handle, 180, "", None);
    }

    /// Takes a call.
    pub fn answer(&mut self, now: Time, handle: Handle, sdp: Vec<u8>) {
        self.respond_invite(now, handle, 200, "", Some(&sdp));
        if let Some(dialog) = self.dialogs.get_mut(&handle) {
            dialog.state = State::Talking;
            dialog.sdp = sdp;
        }
    }

    /// Refuses a call.
    pub fn reject(&mut self, now: Time, handle: Handle, status: u16, reason: &str) {
        self.respond_invite(now, handle, status, reason, None);
        self.dialogs.remove(&handle);
    }

    fn respond_invite(&mut self, now: Time, handle: Handle, status: u16, reason: &str, sdp: Option<&[u8]>) {
        let contact = self.contact();
        let Some(dialog) = self.dialogs.get(&handle) else { return };
        let Some((server, request)) = &dialog.invite else { return };
        let mut response = Message::reply_to(request, status, reason);
        response.set_to_tag(dialog.local.tag().unwrap_or(""));
        for route in request.headers_named("Record-Route") {
            response.push("Record-Route", route);
        }
        if status < 300 {
            response.push("Contact", contact);
        }
        if let Some(sdp) = sdp {
            response = response.with_body("application/sdp", sdp);
        }
        self.transactions.respond(now, *server, &response);
    }

    /// Ends a call, whatever its state.
    pub fn hang_up(&mut self, now: Time, handle: Handle) {
        let Some(dialog) = self.dialogs.get(&handle) else { return };
        match (dialog.state, dialog.client) {
            (State::Calling, Some(client)) => self.transactions.cancel(now, client, None),
            (State::Calling, None) => {}
            (State::Called, _) => self.reject(now, handle, 603, ""),
            (State::Talking, _) => {
                let Some(mut dialog) = self.dialogs.remove(&handle) else { return };
                let request = self.request_in(&mut dialog, Method::Bye);
                self.ask(now, Asked::Bye, request, false);
                self.tell(UaEvent::Ended { handle, reason: String::new() });
            }
        }
    }

    /// Sends a message.
    pub fn message(&mut self, now: Time, to: &str, content_type: &str, body: &[u8]) -> Handle {
        let handle = self.new_handle();
        let tag = self.transactions.token();
        let uri = to_uri(to, &self.config.domain);
        let mut request = Message::request(Method::Message, &uri);
        request.push("From", self.own_address().with_tag(&tag).to_string());
        request.push("To", NameAddr::new(uri).to_string());
        request.push("Call-ID", self.transactions.token());
        request.push("CSeq", "1 MESSAGE");
        request.push("Max-Forwards", "70");
        self.ask(now, Asked::Message(handle), request.with_body(content_type, body), false);
        handle
    }

    // ---- what arrives --------------------------------------------------------------------------

    /// Takes a message that arrived.
    pub fn handle_message(&mut self, now: Time, flow: Flow, bytes: &[u8]) {
        match sip::parse(bytes) {
            Ok(message) => match self.transactions.receive(now, flow, message) {
                Incoming::Request { id, message } => self.handle_request(now, id, message),
                Incoming::Cancel { invite, .. } => self.handle_cancel(now, invite),
                Incoming::Ack(message) => self.handle_ack(&message),
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

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.register_at.is_some_and(|at| at <= now) {
            self.register(now);
        }
        self.transactions.handle_timeout(now);
        self.drain(now);
    }

    fn drain(&mut self, _now: Time) {
        while let Some(event) = self.transactions.poll_event() {
            match event {
                TransactionEvent::NoResponse(id) => {
                    if let Some(question) = self.questions.remove(&id) {
                        self.asked_in_vain(question.asked, 408, "no answer");
                    }
                }
                TransactionEvent::ClientEnded(id) => {
                    self.questions.remove(&id);
                }
                TransactionEvent::NotAcknowledged(id) | TransactionEvent::RequesterGone(id) => {
                    let of = |d: &Dialog| d.invite.as_ref().is_some_and(|(server, _)| *server == id);
                    let gone = self.dialogs.iter().find(|(_, d)| of(d)).map(|(h, _)| *h);
                    if let Some(handle) = gone {
                        self.dialogs.remove(&handle);
                        self.tell(UaEvent::Ended { handle, reason: "not acknowledged".into() });
                    }
                }
            }
        }
    }

    fn handle_request(&mut self, now: Time, id: ServerId, message: Message) {
        let known = self.find(&message);
        let mut reply = Message::reply_to(&message, 200, "");
        match (message.method().cloned(), known) {
            (Some(Method::Invite), Some(handle)) => self.handle_reoffer(now, id, handle, &message),
            (Some(Method::Invite), None) if message.to_tag().is_none() => self.handle_call(now, id, message),
            (Some(Method::Bye), Some(handle)) => {
                self.dialogs.remove(&handle);
                self.transactions.respond(now, id, &reply);
                let reason = message.header("Reason").unwrap_or("").to_owned();
                self.tell(UaEvent::Ended { handle, reason });
            }
            (Some(Method::Message), _) => {
                reply.set_to_tag(&self.transactions.token());
                self.transactions.respond(now, id, &reply);
                let address = |n: Option<NameAddr>| n.map(|n| aor_of(&n.uri)).unwrap_or_default();
                self.tell(UaEvent::MessageReceived {
                    from: address(message.from()),
                    to: address(message.to()),
                    id: message.call_id().to_owned(),
                    content_type: message.content_type(),
                    body: message.body,
                });
            }
            (Some(Method::Options | Method::Info | Method::Update | Method::Notify), _) => {
                reply.set_to_tag(&self.transactions.token());
                self.transactions.respond(now, id, &reply);
            }
            (_, known) => {
                let status = if known.is_none() && message.to_tag().is_some() { 481 } else { 405 };
                let mut reply = Message::reply_to(&message, status, "");
                reply.push("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, MESSAGE");
                self.transactions.respond(now, id, &reply);
            }
        }
    }

    fn handle_call(&mut self, now: Time, id: ServerId, message: Message) {
        if self.dialogs.len() >= MAX_DIALOGS {
            return self.transactions.respond(now, id, &Message::reply_to(&message, 486, ""));
        }
        let (Some(from), Some(to)) = (message.from(), message.to()) else { return };
        let handle = self.new_handle();
        let tag = self.transactions.token();
        let dialog = Dialog {
            state: State::Called,
            call_id: message.call_id().to_owned(),
            local: to.with_tag(&tag),
            target: message.contact().map_or_else(|| from.uri.clone(), |c| c.uri),
            remote: from.clone(),
            routes: message.headers_named("Record-Route").map(str::to_owned).collect(),
            cseq: 0,
            invite: Some((id, message.clone())),
            client: None,
            sdp: Vec::new(),
        };
        self.dialogs.insert(handle, dialog);
        let offer = Some(message.body).filter(|b| !b.is_empty());
        self.tell(UaEvent::Incoming { handle, from: aor_of(&from.uri), offer });
    }

    /// A new offer within a call is answered with what we said last.
    fn handle_reoffer(&mut self, now: Time, id: ServerId, handle: Handle, message: &Message) {
        let contact = self.contact();
        let Some(dialog) = self.dialogs.get_mut(&handle) else { return };
        let mut reply = Message::reply_to(message, 200, "");
        reply.push("Contact", contact);
        let reply = reply.with_body("application/sdp", dialog.sdp.clone());
        dialog.invite = Some((id, message.clone()));
        self.transactions.respond(now, id, &reply);
        if !message.body.is_empty() {
            self.tell(UaEvent::Reoffer { handle, sdp: message.body.clone() });
        }
    }

    fn handle_cancel(&mut self, now: Time, invite: ServerId) {
        let of = |d: &Dialog| d.invite.as_ref().is_some_and(|(id, _)| *id == invite);
        let Some(handle) = self.dialogs.iter().find(|(_, d)| of(d)).map(|(h, _)| *h) else { return };
        self.reject(now, handle, 487, "");
        self.tell(UaEvent::Ended { handle, reason: "cancelled".into() });
    }

    fn handle_ack(&mut self, message: &Message) {
        let server = self.find(message).and_then(|h| self.dialogs[&h].invite.as_ref().map(|(id, _)| *id));
        if let Some(server) = server {
            self.transactions.acknowledge(server);
        }
    }

    fn handle_response(&mut self, now: Time, id: ClientId, message: Message) {
        let status = message.status();
        let Some(question) = self.questions.get(&id) else { return };
        let asked = question.asked.clone();
        if status < 200 {
            if let (Asked::Invite(handle), true) = (asked, status > 100) {
                self.tell(UaEvent::Ringing { handle, status });
            }
            return;
        }
        if matches!(status, 401 | 407) && !question.challenged && self.try_again(now, id, &message) {
            return;
        }
        match asked {
            Asked::Register if status < 300 => self.tell(UaEvent::Registered),
            Asked::Invite(handle) if status < 300 => self.accepted(now, handle, &message),
            other if status >= 300 || matches!(other, Asked::Message(_)) => {
                self.questions.remove(&id);
                let reason = message.reason().to_owned();
                self.asked_in_vain(other, status, &reason);
            }
            _ => {}
        }
    }

    /// Asks again with the credentials that the challenge wants.
    fn try_again(&mut self, now: Time, id: ClientId, message: &Message) -> bool {
        let name = if message.status() == 401 { "WWW-Authenticate" } else { "Proxy-Authenticate" };
        let challenge = message.headers_named(name).find_map(Challenge::parse).filter(Challenge::is_md5);
        let (Some(challenge), Some(password)) = (challenge, self.config.password.clone()) else {
            return false;
        };
        let Some(question) = self.questions.remove(&id) else { return false };
        let mut request = question.request;
        let method = request.method().map(|m| m.as_str().to_owned()).unwrap_or_default();
        let cnonce = self.transactions.token();
        let uri = request.uri().to_owned();
        let answer = challenge.answer(&self.config.user, &password, &method, &uri, &cnonce);
        let name = if name.starts_with('W') { "Authorization" } else { "Proxy-Authorization" };
        request.set(name, answer.to_value());
        if let Some(cseq) = request.cseq() {
            request.set("CSeq", format!("{} {method}", cseq.number + 1));
        }
        match &question.asked {
            Asked::Register => self.register_cseq += 1,
            Asked::Invite(handle) => {
                if let Some(dialog) = self.dialogs.get_mut(handle) {
                    dialog.cseq += 1;
                }
            }
            _ => {}
        }
        let asked = question.asked.clone();
        let client = self.ask(now, question.asked, request, true);
        if let Asked::Invite(handle) = asked
            && let Some(dialog) = self.dialogs.get_mut(&handle)
        {
            dialog.client = Some(client);
        }
        true
    }

    /// The call is answered: acknowledges, again for every repetition of the answer.
    fn accepted(&mut self, now: Time, handle: Handle, message: &Message) {
        let Some(mut dialog) = self.dialogs.remove(&handle) else { return };
        let first = dialog.state == State::Calling;
        dialog.state = State::Talking;
        dialog.remote = message.to().unwrap_or(dialog.remote);
        if let Some(contact) = message.contact() {
            dialog.target = contact.uri;
        }
        dialog.routes = message.headers_named("Record-Route").map(str::to_owned).collect();
        dialog.routes.reverse();
        let number = message.cseq().map_or(1, |c| c.number);
        let mut ack = self.request_in(&mut dialog, Method::Ack);
        ack.set("CSeq", format!("{number} ACK"));
        dialog.cseq = dialog.cseq.max(number);
        let flow = self.config.flow;
        let via = self.transactions.fresh_via(&flow, &self.config.sent_by);
        ack.push_via(&via);
        self.transactions.send(flow, ack.to_bytes());
        self.dialogs.insert(handle, dialog);
        let _ = now;
        if first {
            self.tell(UaEvent::Answered { handle, sdp: message.body.clone() });
        }
    }

    fn asked_in_vain(&mut self, asked: Asked, status: u16, reason: &str) {
        let reason = reason.to_owned();
        match asked {
            Asked::Register => self.tell(UaEvent::RegisterFailed { status }),
            Asked::Message(handle) => self.tell(UaEvent::MessageResult { handle, status, reason }),
            Asked::Invite(handle) => {
                self.dialogs.remove(&handle);
                self.tell(UaEvent::Failed { handle, status, reason });
            }
            Asked::Bye => {}
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

    fn own_address(&self) -> NameAddr {
        NameAddr::new(format!("sip:{}@{}", self.config.user, self.config.domain))
    }

    fn contact(&self) -> String {
        let by = &self.config.sent_by;
        let port = by.port.map(|p| format!(":{p}")).unwrap_or_default();
        format!("<sip:{}@{}{port}>", self.config.user, by.host)
    }

    /// The call a request belongs to.
    fn find(&self, message: &Message) -> Option<Handle> {
        let tag = message.to_tag()?;
        let of = |d: &Dialog| d.call_id == message.call_id() && d.local.tag() == Some(tag.as_str());
        self.dialogs.iter().find(|(_, d)| of(d)).map(|(h, _)| *h)
    }

    fn request_in(&self, dialog: &mut Dialog, method: Method) -> Message {
        dialog.cseq += 1;
        let mut request = Message::request(method.clone(), &dialog.target);
        request.push("From", dialog.local.to_string());
        request.push("To", dialog.remote.to_string());
        request.push("Call-ID", dialog.call_id.clone());
        request.push("CSeq", format!("{} {}", dialog.cseq, method.as_str()));
        request.push("Max-Forwards", "70");
        for route in &dialog.routes {
            request.push("Route", route);
        }
        request.push("Contact", self.contact());
        request
    }

    fn ask(&mut self, now: Time, asked: Asked, request: Message, challenged: bool) -> ClientId {
        let flow = self.config.flow;
        let id = self.transactions.request(now, flow, request.clone(), &self.config.sent_by);
        self.questions.insert(id, Question { asked, request, challenged });
        id
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
        let register = self.register_at.map(|at| (at, "registration"));
        [self.transactions.poll_timeout(), register].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

fn to_uri(to: &str, domain: &str) -> String {
    match (to.contains(':'), to.contains('@')) {
        (true, _) => to.to_owned(),
        (false, true) => format!("sip:{to}"),
        (false, false) => format!("sip:{to}@{domain}"),
    }
}

fn aor_of(uri: &str) -> String {
    match Uri::parse(uri) {
        Ok(uri) => format!("{}@{}", uri.user_decoded(), uri.host),
        Err(_) => uri.to_owned(),
    }
}

/// A plain offer, or answer, for G.711 and telephone events at one address (RFC 3551, RFC 4733).
pub fn g711_sdp(address: std::net::SocketAddr) -> Vec<u8> {
    let version = if address.is_ipv4() { 4 } else { 6 };
    let (ip, port) = (address.ip(), address.port());
    format!(
        "v=0\r\no=- 1 1 IN IP{version} {ip}\r\ns=-\r\nc=IN IP{version} {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=sendrecv\r\n"
    )
    .into_bytes()
}
