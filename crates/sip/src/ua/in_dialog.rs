//! What happens within a call: new offers, keys, transfers (RFC 3261 section 14, RFC 3311, 3515).

use wire::Time;
use wire::sip::{Message, Method, NameAddr, Uri, reason_phrase};

use super::call::{State, body_of};
use super::{Asked, Handle, UaEvent, UserAgent, aor, sdp};
use crate::transaction::{ClientId, ServerId};

impl UserAgent {
    /// Offers the other side another session: hold, resume, another codec or address. `false` if
    /// the call is not answered, or another change is under way.
    pub fn reinvite(&mut self, now: Time, handle: Handle, offer: Vec<u8>) -> bool {
        let room = self.has_room();
        let Some(mut call) = self.calls.remove(&handle) else { return false };
        let quiet = call.client.is_none() && call.offered.is_none() && call.dialog.unacknowledged.is_none();
        let may = room && quiet && call.state == State::Talking;
        if may {
            call.before = Some((std::mem::replace(&mut call.wish, sdp::direction(&offer)), call.own.clone()));
            let request = self.invitation(&mut call).with_body("application/sdp", call.say(&offer));
            call.own = offer;
            call.client = Some(self.ask(now, Asked::Reinvite(handle), request));
        }
        self.calls.insert(handle, call);
        may
    }

    /// Holds a call, or takes it back: offers what we said last, with or without listening.
    pub fn hold(&mut self, now: Time, handle: Handle, held: bool) -> bool {
        let Some(call) = self.calls.get(&handle) else { return false };
        let direction = if held { sdp::Direction::SendOnly } else { sdp::Direction::SendRecv };
        let offer = sdp::with_direction(&call.own, direction);
        self.reinvite(now, handle, offer)
    }

    /// Takes a new offer of the other side ([`UaEvent::Reoffer`]), where that is done by hand.
    pub fn accept_reoffer(&mut self, now: Time, handle: Handle, sdp: Vec<u8>) {
        let Some(call) = self.calls.get_mut(&handle).filter(|c| c.state == State::Talking) else { return };
        if call.offered.is_some() {
            call.own.clone_from(&sdp);
            self.respond_offer(now, handle, 200, "", Some(&sdp));
        }
    }

    /// Sends an INFO.
    pub fn info(&mut self, now: Time, handle: Handle, content_type: &str, body: &[u8]) {
        if let Some(request) = self.request_within(handle, Method::Info) {
            self.ask(now, Asked::Info(handle), request.with_body(content_type, body));
        }
    }

    /// Presses a key, the way phones do that send no telephone events (`application/dtmf-relay`).
    pub fn press(&mut self, now: Time, handle: Handle, key: char) {
        let body = format!("Signal={key}\r\nDuration=160\r\n");
        self.info(now, handle, "application/dtmf-relay", body.as_bytes());
    }

    /// Asks the other side to call `refer_to` instead of us; see [`UaEvent::Transfer`].
    pub fn refer(&mut self, now: Time, handle: Handle, refer_to: &str) {
        let uri = super::to_uri(refer_to, &self.config.domain);
        let by = self.own_address();
        if let Some(request) = self.request_within(handle, Method::Refer) {
            let request =
                request.with("Refer-To", NameAddr::new(uri).to_string()).with("Referred-By", by.to_string());
            self.ask(now, Asked::Refer(handle), request);
        }
    }

    /// What to [`refer`](Self::refer) a third party to so that it takes our place in this call: an
    /// attended transfer (RFC 3891).
    pub fn replacement(&self, handle: Handle) -> Option<String> {
        let dialog = &self.calls.get(&handle).filter(|c| c.state == State::Talking)?.dialog;
        let mut uri = Uri::parse(&dialog.remote.uri).ok()?;
        uri.params = wire::sip::Params::default();
        let (call_id, to, from) = (&dialog.call_id, dialog.remote_tag(), dialog.local_tag());
        let replaces = format!("{call_id};to-tag={to};from-tag={from}");
        uri.headers = Some(format!("Replaces={}", escape(&replaces)));
        Some(uri.to_string())
    }

    /// Reports how the call goes that the other side referred us to; a status of 200 and more ends
    /// the report (RFC 3515 section 2.4.5).
    pub fn refer_progress(&mut self, now: Time, handle: Handle, status: u16, reason: &str) {
        let Some(call) = self.calls.get_mut(&handle) else { return };
        let Some(number) = call.refer else { return };
        let state = if status < 200 { "active;expires=60" } else { "terminated;reason=noresource" };
        if status >= 200 {
            call.refer = None;
        }
        let reason = if reason.is_empty() { reason_phrase(status) } else { reason };
        let line = format!("SIP/2.0 {status} {reason}\r\n");
        if let Some(request) = self.request_within(handle, Method::Notify) {
            let request = request
                .with("Event", format!("refer;id={number}"))
                .with("Subscription-State", state)
                .with_body("message/sipfrag;version=2.0", line);
            self.ask(now, Asked::Notify(handle), request);
        }
    }

    /// A request within an answered call, where there is room for one.
    fn request_within(&mut self, handle: Handle, method: Method) -> Option<Message> {
        let room = self.has_room();
        let call = self.calls.get_mut(&handle).filter(|c| room && c.state == State::Talking)?;
        Some(call.dialog.request(method))
    }

    // ---- requests that arrive ------------------------------------------------------------------

    pub(super) fn handle_in_dialog(&mut self, now: Time, id: ServerId, handle: Handle, message: Message) {
        let (Some(call), Some(cseq)) = (self.calls.get_mut(&handle), message.cseq()) else { return };
        // RFC 3261 section 12.2.2: what is older than the last has been overtaken.
        if call.dialog.remote_cseq.is_some_and(|last| cseq.number < last) {
            return self.refuse(now, id, &message, 500);
        }
        if call.state == State::Calling && cseq.method != Method::Options {
            return self.refuse(now, id, &message, 481);
        }
        call.dialog.remote_cseq = Some(cseq.number);
        match cseq.method {
            Method::Bye => self.handle_bye(now, id, handle, &message),
            Method::Invite | Method::Update => self.handle_reoffer(now, id, handle, message),
            Method::Message => self.handle_text(now, id, message),
            Method::Info => {
                self.refuse(now, id, &message, 200);
                let content_type = message.content_type();
                self.tell(UaEvent::Info { handle, content_type, body: message.body });
            }
            Method::Refer => self.handle_refer(now, id, handle, &message),
            Method::Notify => self.handle_notify(now, id, handle, &message),
            _ => self.refuse(now, id, &message, 200),
        }
    }

    fn handle_reoffer(&mut self, now: Time, id: ServerId, handle: Handle, message: Message) {
        let transactions = &self.transactions;
        let Some(call) = self.calls.get_mut(&handle) else { return };
        call.offered.take_if(|(id, _)| !transactions.is_unanswered(*id));
        let bare_update = message.is(&Method::Update) && message.body.is_empty();
        if bare_update {
            // A session timer's refresh (RFC 4028).
            call.dialog.refresh_target(&message);
            let reply = Message::reply_to(&message, 200, "").with("Contact", &call.dialog.contact);
            return self.respond(now, id, reply);
        }
        // RFC 3261 section 14.2: two of theirs at once, or one of each side.
        if call.offered.is_some() || call.dialog.unacknowledged.is_some() {
            let reply = Message::reply_to(&message, 500, "").with("Retry-After", "2");
            return self.respond(now, id, reply);
        }
        if call.client.is_some() || call.state != State::Talking {
            return self.refuse(now, id, &message, 491);
        }
        if !message.body.is_empty() && message.content_type() != "application/sdp" {
            let reply = Message::reply_to(&message, 415, "").with("Accept", "application/sdp");
            return self.respond(now, id, reply);
        }
        call.dialog.refresh_target(&message);
        let offer = body_of(&message);
        let answer = match &offer {
            Some(offer) => sdp::mirror(&call.own, offer, call.wish),
            None => sdp::with_direction(&call.own, call.wish),
        };
        call.offered = Some((id, message));
        self.tell(UaEvent::Reoffer { handle, sdp: offer });
        if !self.manual_reoffers {
            self.respond_offer(now, handle, 200, "", Some(&answer));
        }
    }

    fn handle_refer(&mut self, now: Time, id: ServerId, handle: Handle, message: &Message) {
        let refer_to = message.header("Refer-To").and_then(NameAddr::parse).map(|a| a.uri);
        let refer_to = refer_to.filter(|uri| Uri::parse(uri).is_ok());
        let (Some(refer_to), 1) = (refer_to, message.headers_named("Refer-To").count()) else {
            return self.refuse(now, id, message, 400);
        };
        let contact = self.contact();
        let Some(call) = self.calls.get_mut(&handle).filter(|c| c.state == State::Talking) else {
            return self.refuse(now, id, message, 481);
        };
        if call.refer.is_some() {
            // One transfer of a call at a time.
            return self.refuse(now, id, message, 491);
        }
        call.refer = message.cseq().map(|c| c.number);
        self.respond(now, id, Message::reply_to(message, 202, "").with("Contact", contact));
        self.refer_progress(now, handle, 100, "");
        let referred_by = aor(message.header("Referred-By").and_then(NameAddr::parse));
        self.tell(UaEvent::Referred { handle, refer_to, referred_by });
    }

    fn handle_notify(&mut self, now: Time, id: ServerId, handle: Handle, message: &Message) {
        let event = message.header("Event").unwrap_or("").split(';').next().unwrap_or("").trim();
        if !event.eq_ignore_ascii_case("refer") {
            return self.refuse(now, id, message, 489);
        }
        self.refuse(now, id, message, 200);
        let text = String::from_utf8_lossy(&message.body);
        let line = text.lines().next().unwrap_or("");
        let mut words = line.splitn(3, ' ');
        let (version, status) = (words.next(), words.next().and_then(|s| s.parse::<u16>().ok()));
        if let (Some("SIP/2.0"), Some(status @ 100..=699)) = (version, status) {
            let reason = words.next().unwrap_or("").trim().to_owned();
            self.tell(UaEvent::Transfer { handle, status, reason });
        }
    }

    // ---- what becomes of our offers ------------------------------------------------------------

    /// A 2xx to a re-INVITE.
    pub(super) fn reanswered(&mut self, id: ClientId, handle: Handle, message: &Message) {
        let Some(call) = self.calls.get_mut(&handle).filter(|c| c.client == Some(id)) else { return };
        call.dialog.refresh_target(message);
        let cseq = message.cseq().map_or(call.dialog.invite_cseq, |c| c.number);
        call.dialog.answered = Some(crate::dialog::Answered { cseq, ack: None });
        call.before = None;
        self.acknowledge(handle, None);
        self.tell(UaEvent::Reanswered { handle, sdp: message.body.clone() });
    }

    pub(super) fn reoffer_failed(&mut self, id: ClientId, handle: Handle, status: u16, reason: &str) {
        if let Some(call) = self.calls.get_mut(&handle).filter(|c| c.client == Some(id)) {
            call.client = None;
            if let Some((wish, own)) = call.before.take() {
                (call.wish, call.own) = (wish, own);
            }
            self.tell(UaEvent::ReofferFailed { handle, status, reason: reason.to_owned() });
        }
    }
}

/// Escapes a header value inside a URI (RFC 3261 section 25.1, `hvalue`).
fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&b);
    let escaped = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(escaped).collect()
}
