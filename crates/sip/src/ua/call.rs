//! Calls, from the first INVITE to the last BYE (RFC 3261 sections 9, 13, 15; RFC 3891).
//!
//! ```text
//!   invite -> Calling --2xx--> Talking --hang_up, BYE--> (gone)
//!   INVITE -> Called --answer--> Talking                    ^
//!                                   \--hang_up before the ACK--> Ending
//! ```
//!
//! Two rules shape the ends. A 2xx that crosses our CANCEL makes a call all the same, so it is
//! acknowledged and ended at once. And who answered may not say BYE before the ACK came, so that
//! call stays, unseen by the driver, until it does.

use std::time::Duration;

use wire::Time;
use wire::sdp::{Description, Direction};
use wire::sip::{Message, Method, NameAddr, Params, Uri, percent_decode};

use super::{
    Asked, Handle, MAX_DIALOGS, MAX_FORKS, POLICY, RING_TIMEOUT, UaEvent, UserAgent, aor, sdp, to_uri,
};
use crate::dialog::{Answered, Dialog};
use crate::transaction::{ClientId, ServerId};

/// How long a caller hears nothing before it gets a 100 (RFC 3261 section 17.2.1).
const TRYING: Duration = Duration::from_millis(200);

/// Where a call stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// We called.
    Calling,
    /// They called.
    Called,
    /// Answered.
    Talking,
    /// Hung up by us; the BYE waits for their ACK.
    Ending,
}

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) state: State,
    pub(super) dialog: Dialog,
    /// Our INVITE that has no final answer.
    pub(super) client: Option<ClientId>,
    /// Their INVITE or UPDATE that waits for our answer.
    pub(super) offered: Option<(ServerId, Message)>,
    /// What the driver gave us to say last.
    pub(super) own: Vec<u8>,
    /// What we said last, which may be `own` turned about.
    pub(super) said: Vec<u8>,
    /// Who may send, as far as we are concerned: a hold of ours outlives offers of theirs.
    pub(super) wish: Direction,
    /// `wish` and `own` as they were, should our re-INVITE be refused.
    pub(super) before: Option<(Direction, Vec<u8>)>,
    /// Hung up before it was answered.
    pub(super) cancelled: bool,
    /// Our last 2xx held the offer, so the ACK holds the answer.
    pub(super) late: bool,
    /// The first ACK was exchanged.
    pub(super) confirmed: bool,
    /// The call whose place this one takes.
    pub(super) replaces: Option<Handle>,
    /// When it stops ringing here.
    ring_until: Option<Time>,
    /// When the caller is told that we are there at all, if nothing was said by then.
    trying_at: Option<Time>,
    /// The number of their REFER whose progress we report.
    pub(super) refer: Option<u32>,
}

impl Call {
    pub(super) fn new(state: State, dialog: Dialog) -> Self {
        Call {
            state,
            dialog,
            client: None,
            offered: None,
            own: Vec::new(),
            said: Vec::new(),
            wish: Direction::SendRecv,
            before: None,
            cancelled: false,
            late: false,
            confirmed: false,
            replaces: None,
            ring_until: None,
            trying_at: None,
            refer: None,
        }
    }

    /// When there is something to do about a call that nobody has answered here.
    pub(super) fn due(&self) -> Option<Time> {
        let called = self.state == State::Called;
        self.trying_at.or(self.ring_until).filter(|_| called)
    }

    /// Whether a request with this Call-ID, To tag and From tag belongs to it. Before the answer we
    /// do not know their tag.
    pub(super) fn has_name(&self, call_id: &str, ours: &str, theirs: &str) -> bool {
        let dialog = &self.dialog;
        let known = self.state != State::Calling;
        dialog.call_id == call_id && dialog.local_tag() == ours && (!known || dialog.remote_tag() == theirs)
    }

    pub(super) fn next_cseq(&mut self) -> u32 {
        self.dialog.local_cseq = self.dialog.local_cseq.saturating_add(1);
        self.dialog.local_cseq
    }

    /// The description to send for `own`: the same line of origin as before, one version later
    /// where something changed (RFC 3264 section 8).
    pub(super) fn say(&mut self, sdp: &[u8]) -> Vec<u8> {
        self.said = sdp::successor(&self.said, sdp);
        self.said.clone()
    }
}

impl UserAgent {
    /// Calls somebody: `bob`, `bob@example.org`, a URI, or what [`UaEvent::Referred`] said. Without
    /// an offer, the other side makes one ([`UaEvent::LateOffer`]).
    pub fn invite(&mut self, now: Time, to: &str, offer: impl Into<Option<Vec<u8>>>) -> Handle {
        let handle = self.new_handle();
        if self.calls.len() >= MAX_DIALOGS || !self.has_room() {
            let reason = "Too many calls".to_owned();
            self.tell(UaEvent::Failed { handle, status: 503, reason });
            return handle;
        }
        let (uri, replaces) = split_replaces(&to_uri(to, &self.config.domain));
        let tag = self.transactions.token();
        let local = self.own_address().with_tag(&tag);
        let call_id = self.transactions.token();
        let dialog = self.new_dialog(call_id, local, NameAddr::new(uri.clone()), uri);
        let mut call = Call::new(State::Calling, dialog);
        let mut request = self.invitation(&mut call);
        if let Some(replaces) = replaces {
            request.push("Replaces", replaces);
        }
        if let Some(offer) = offer.into() {
            call.wish = sdp::direction(&offer);
            request = request.with_body("application/sdp", call.say(&offer));
            call.own = offer;
        }
        call.client = Some(self.ask(now, Asked::Invite(handle), request));
        self.calls.insert(handle, call);
        handle
    }

    /// Tells the caller that we ring.
    pub fn ring(&mut self, now: Time, handle: Handle) {
        if self.calls.get(&handle).is_some_and(|c| c.state == State::Called) {
            self.respond_offer(now, handle, 180, "", None);
        }
    }

    /// Takes a call, with an answer to its offer, or with an offer if it had none. Also answers a
    /// [`UaEvent::LateOffer`].
    pub fn answer(&mut self, now: Time, handle: Handle, sdp: Vec<u8>) {
        let Some(call) = self.calls.get_mut(&handle) else { return };
        match call.state {
            State::Called => {
                call.own.clone_from(&sdp);
                call.state = State::Talking;
                let replaced = call.replaces;
                self.respond_offer(now, handle, 200, "", Some(&sdp));
                if let Some(replaced) = replaced {
                    self.end_call(now, replaced, "replaced by another call");
                }
            }
            State::Talking if call.dialog.answered.as_ref().is_some_and(|a| a.ack.is_none()) => {
                call.own.clone_from(&sdp);
                let said = call.say(&sdp);
                self.acknowledge(handle, Some(said));
            }
            State::Talking => self.accept_reoffer(now, handle, sdp),
            State::Calling | State::Ending => {}
        }
    }

    /// Refuses a call; or, in a call, a new offer. An empty `reason` stands for the usual phrase.
    pub fn reject(&mut self, now: Time, handle: Handle, status: u16, reason: &str) {
        let Some(call) = self.calls.get(&handle) else { return };
        if call.offered.is_some() && status >= 300 {
            let over = call.state == State::Called;
            self.respond_offer(now, handle, status, reason, None);
            if over {
                self.calls.remove(&handle);
            }
        }
    }

    /// Gives up a call that is not answered yet; the end comes as [`UaEvent::Failed`], 487 unless
    /// the other side refused first.
    pub fn cancel(&mut self, now: Time, handle: Handle) {
        if let Some(call) = self.calls.get_mut(&handle).filter(|c| c.state == State::Calling) {
            call.cancelled = true;
            if let Some(client) = call.client {
                self.transactions.cancel(now, client, None);
            }
        }
    }

    /// Ends a call, whatever its state: by CANCEL, by refusing it (603) or by BYE.
    pub fn hang_up(&mut self, now: Time, handle: Handle) {
        match self.calls.get(&handle).map(|c| c.state) {
            Some(State::Calling) => self.cancel(now, handle),
            Some(State::Called) => {
                self.reject(now, handle, 603, "");
                self.tell(UaEvent::Ended { handle, reason: String::new() });
            }
            Some(State::Talking) => self.end_call(now, handle, ""),
            Some(State::Ending) | None => {}
        }
    }

    // ---- calls that arrive ---------------------------------------------------------------------

    pub(super) fn handle_call(&mut self, now: Time, id: ServerId, message: Message) {
        let (Some(from), Some(to)) = (message.from(), message.to()) else {
            return self.refuse(now, id, &message, 400);
        };
        if self.calls.len() >= MAX_DIALOGS {
            return self.refuse(now, id, &message, 486);
        }
        if !message.body.is_empty() && message.content_type() != "application/sdp" {
            let reply = Message::reply_to(&message, 415, "").with("Accept", "application/sdp");
            return self.respond(now, id, reply);
        }
        let replaces = message.header("Replaces").map(|value| self.replaced_by(value));
        if replaces == Some(None) {
            return self.refuse(now, id, &message, 481);
        }
        let tag = self.transactions.token();
        let target = message.contact().map_or_else(|| from.uri.clone(), |c| c.uri);
        let local = to.clone().with_tag(&tag);
        let mut dialog = self.new_dialog(message.call_id().to_owned(), local, from.clone(), target);
        dialog.routes = message.headers_named("Record-Route").map(str::to_owned).collect();
        dialog.remote_cseq = message.cseq().map(|c| c.number);
        let mut call = Call::new(State::Called, dialog);
        call.replaces = replaces.flatten();
        call.ring_until = Some(now + RING_TIMEOUT);
        call.trying_at = Some(now + TRYING);
        let handle = self.new_handle();
        self.tell(UaEvent::Incoming {
            handle,
            from: aor(Some(from)),
            to: aor(Some(to)),
            offer: body_of(&message),
            replaces: call.replaces,
        });
        call.offered = Some((id, message));
        self.calls.insert(handle, call);
    }

    /// The call that a Replaces header names from the other side's point of view.
    fn replaced_by(&self, value: &str) -> Option<Handle> {
        let (call_id, params) = value.split_once(';')?;
        let params = Params::parse(params);
        let (ours, theirs) = (params.get("to-tag")?, params.get("from-tag")?);
        let is_it = |c: &Call| c.state == State::Talking && c.has_name(call_id.trim(), ours, theirs);
        self.calls.iter().find(|(_, call)| is_it(call)).map(|(handle, _)| *handle)
    }

    /// Answers what the other side offered: an INVITE, a re-INVITE or an UPDATE.
    pub(super) fn respond_offer(
        &mut self,
        now: Time,
        handle: Handle,
        status: u16,
        reason: &str,
        sdp: Option<&[u8]>,
    ) {
        let Some(call) = self.calls.get_mut(&handle) else { return };
        let Some((server, request)) = &call.offered else { return };
        let (server, is_invite) = (*server, request.is(&Method::Invite));
        call.trying_at = None;
        let mut response = Message::reply_to(request, status, reason);
        response.set_to_tag(call.dialog.local_tag());
        if status < 300 {
            for route in request.headers_named("Record-Route") {
                response.push("Record-Route", route);
            }
            response.push("Contact", &call.dialog.contact);
            response.push("Allow", POLICY.allow());
            response.push("Supported", "replaces");
        }
        if (200..300).contains(&status) {
            grant_timer(request, &mut response);
            let cseq = request.cseq().map_or(0, |c| c.number);
            if is_invite {
                call.dialog.unacknowledged = Some((cseq, server));
                call.late = request.body.is_empty();
            }
        }
        if let Some(sdp) = sdp {
            response = response.with_body("application/sdp", call.say(sdp));
        }
        if status >= 200 {
            call.offered = None;
        }
        self.transactions.respond(now, server, &response);
    }

    pub(super) fn handle_cancel(&mut self, now: Time, invite: ServerId, cancel: &Message) {
        let Some(handle) = self.offered_by(invite) else { return };
        self.respond_offer(now, handle, 487, "", None);
        if self.calls.get(&handle).is_some_and(|c| c.state == State::Called) {
            self.calls.remove(&handle);
            let reason = cancel.header("Reason").unwrap_or("cancelled").to_owned();
            self.tell(UaEvent::Ended { handle, reason });
        }
    }

    pub(super) fn requester_gone(&mut self, server: ServerId) {
        let Some(handle) = self.offered_by(server) else { return };
        if let Some(call) = self.calls.get_mut(&handle) {
            call.offered = None;
            if call.state == State::Called {
                self.calls.remove(&handle);
                self.tell(UaEvent::Ended { handle, reason: "the caller is gone".into() });
            }
        }
    }

    fn offered_by(&self, server: ServerId) -> Option<Handle> {
        let is_it = |call: &Call| call.offered.as_ref().is_some_and(|(id, _)| *id == server);
        self.calls.iter().find(|(_, call)| is_it(call)).map(|(handle, _)| *handle)
    }

    /// Says 100 where the driver takes its time, and 480 where nobody answers.
    pub(super) fn mind_ringing(&mut self, now: Time) {
        let is_due = |call: &Call| call.due().is_some_and(|at| at <= now);
        let due: Vec<Handle> = self.calls.iter().filter(|(_, c)| is_due(c)).map(|(h, _)| *h).collect();
        for handle in due {
            let Some(call) = self.calls.get_mut(&handle) else { continue };
            let silent = call.trying_at.take().is_some();
            let over = call.ring_until.is_some_and(|at| at <= now);
            if over {
                self.reject(now, handle, 480, "");
                self.tell(UaEvent::Ended { handle, reason: "nobody answered".into() });
            } else if let (true, Some((server, request))) = (silent, &call.offered) {
                self.transactions.respond(now, *server, &Message::reply_to(request, 100, ""));
            }
        }
    }

    /// An ACK to a 2xx of ours: it is not sent again.
    pub(super) fn handle_ack(&mut self, now: Time, ack: &Message) {
        let Some(handle) = self.find(ack) else { return };
        let Some(call) = self.calls.get_mut(&handle) else { return };
        let Some((cseq, server)) = call.dialog.unacknowledged else { return };
        if ack.cseq().is_none_or(|c| c.number != cseq) {
            return;
        }
        call.dialog.unacknowledged = None;
        let (first, late) = (!call.confirmed, std::mem::take(&mut call.late));
        call.confirmed = true;
        let ending = call.state == State::Ending;
        self.transactions.acknowledge(server);
        if ending {
            self.say_bye(now, handle);
        } else if late {
            let sdp = ack.body.clone();
            self.tell(match first {
                true => UaEvent::Answered { handle, sdp },
                false => UaEvent::Reanswered { handle, sdp },
            });
        }
    }

    /// Nobody acknowledged our 2xx for 32 seconds (RFC 3261 section 13.3.1.4).
    pub(super) fn not_acknowledged(&mut self, now: Time, server: ServerId) {
        let is_it = |c: &Call| c.dialog.unacknowledged.is_some_and(|(_, id)| id == server);
        let found = self.calls.iter().find(|(_, call)| is_it(call)).map(|(h, c)| (*h, c.state));
        if let Some((handle, state)) = found {
            self.say_bye(now, handle);
            if state != State::Ending {
                self.tell(UaEvent::Ended { handle, reason: "not acknowledged".into() });
            }
        }
    }

    // ---- what becomes of our INVITE ------------------------------------------------------------

    pub(super) fn progressed(&mut self, handle: Handle, message: Message) {
        if self.calls.get(&handle).is_some_and(|c| c.state == State::Calling) {
            let (status, sdp) = (message.status(), body_of(&message));
            self.tell(UaEvent::Ringing { handle, status, sdp });
        }
    }

    pub(super) fn invite_went_again(&mut self, handle: Handle, client: ClientId, number: u32) {
        if let Some(call) = self.calls.get_mut(&handle) {
            call.client = Some(client);
            call.dialog.invite_cseq = number;
        }
    }

    pub(super) fn call_failed(&mut self, id: ClientId, handle: Handle, status: u16, reason: &str) {
        // A fork that fails after another answered is none of the driver's business.
        let ours = |c: &Call| c.state == State::Calling && c.client == Some(id);
        let Some(call) = self.calls.get(&handle).filter(|c| ours(c)) else { return };
        // A challenge that came after our CANCEL was not answered: it is the CANCEL that ended it.
        let (status, reason) = match (call.cancelled, status) {
            (true, 401 | 407) => (487, "Request Terminated"),
            _ => (status, reason),
        };
        self.calls.remove(&handle);
        self.tell(UaEvent::Failed { handle, status, reason: reason.to_owned() });
    }

    /// A 2xx to an INVITE of ours, perhaps not the first.
    pub(super) fn accepted(&mut self, now: Time, id: ClientId, asked: Asked, message: &Message) {
        let tag = message.to_tag().unwrap_or_default();
        let Some(question) = self.questions.get(&id) else { return };
        if let Some((_, ack)) = question.acks.iter().find(|(t, _)| *t == tag) {
            let ack = ack.clone();
            return self.transactions.send(self.config.flow, ack);
        }
        match asked {
            Asked::Invite(handle) => match self.calls.get(&handle) {
                Some(call) if call.state == State::Calling && call.client == Some(id) => {
                    self.established(now, handle, message);
                }
                // Repeated while the driver makes up its answer.
                Some(call) if call.dialog.remote_tag() == tag => {}
                _ => self.end_stray(now, id, message),
            },
            Asked::Reinvite(handle) => self.reanswered(id, handle, message),
            _ => {}
        }
    }

    fn established(&mut self, now: Time, handle: Handle, message: &Message) {
        let Some(call) = self.calls.get_mut(&handle) else { return };
        confirm(&mut call.dialog, message);
        call.state = State::Talking;
        call.confirmed = true;
        let sdp = message.body.clone();
        let late = call.said.is_empty() && !sdp.is_empty();
        if call.cancelled {
            // It crossed our CANCEL.
            self.say_bye(now, handle);
            let reason = "Request Terminated".to_owned();
            self.tell(UaEvent::Failed { handle, status: 487, reason });
        } else if late {
            self.tell(UaEvent::LateOffer { handle, sdp });
        } else {
            self.acknowledge(handle, None);
            self.tell(UaEvent::Answered { handle, sdp });
        }
    }

    /// One more phone answered an INVITE of ours, or it answered after all: thanks, but no
    /// (RFC 3261 section 13.2.2.4).
    fn end_stray(&mut self, now: Time, id: ClientId, message: &Message) {
        let Some(question) = self.questions.get(&id) else { return };
        let request = &question.request;
        let (Some(from), Some(to)) = (request.from(), message.to()) else { return };
        if question.acks.len() >= MAX_FORKS {
            return;
        }
        let cseq = request.cseq().map_or(1, |c| c.number);
        let mut dialog = self.new_dialog(request.call_id().to_owned(), from, to, request.uri().to_owned());
        dialog.local_cseq = cseq;
        confirm(&mut dialog, message);
        self.send_ack(id, &mut dialog, None);
        let bye = dialog.request(Method::Bye);
        self.ask(now, Asked::Bye, bye);
    }

    /// Acknowledges the 2xx of a call.
    pub(super) fn acknowledge(&mut self, handle: Handle, sdp: Option<Vec<u8>>) {
        let Some(mut call) = self.calls.remove(&handle) else { return };
        if let Some(id) = call.client.take() {
            self.send_ack(id, &mut call.dialog, sdp);
        }
        self.calls.insert(handle, call);
    }

    /// Sends the ACK and keeps it for repeated 2xx.
    fn send_ack(&mut self, id: ClientId, dialog: &mut Dialog, sdp: Option<Vec<u8>>) {
        let Some(cseq) = dialog.answered.as_ref().map(|a| a.cseq) else { return };
        let mut ack = dialog.request_numbered(Method::Ack, cseq);
        let flow = self.config.flow;
        let via = self.transactions.fresh_via(&flow, &self.config.sent_by);
        ack.push_via(&via);
        let question = self.questions.get_mut(&id);
        // The credentials of the INVITE are those of its ACK (RFC 3261 section 22.1).
        for name in ["Authorization", "Proxy-Authorization"] {
            if let Some(value) = question.as_ref().and_then(|q| q.request.header(name)) {
                ack.push(name, value);
            }
        }
        if let Some(sdp) = sdp {
            ack = ack.with_body("application/sdp", sdp);
        }
        let bytes = ack.to_bytes();
        if let Some(question) = question {
            question.acks.push((dialog.remote_tag().to_owned(), bytes.clone()));
        }
        dialog.answered = Some(Answered { cseq, ack: Some(bytes.clone()) });
        self.transactions.send(flow, bytes);
    }

    // ---- the end -------------------------------------------------------------------------------

    /// Ends an answered call and says so.
    pub(super) fn end_call(&mut self, now: Time, handle: Handle, reason: &str) {
        let Some(call) = self.calls.get_mut(&handle) else { return };
        if call.state != State::Talking {
            return;
        }
        if call.dialog.unacknowledged.is_some() {
            call.state = State::Ending;
            self.respond_offer(now, handle, 487, "", None);
        } else {
            self.say_bye(now, handle);
        }
        self.tell(UaEvent::Ended { handle, reason: reason.to_owned() });
    }

    /// Sends the BYE, after what must come before it, and forgets the call.
    fn say_bye(&mut self, now: Time, handle: Handle) {
        self.respond_offer(now, handle, 487, "", None);
        if self
            .calls
            .get(&handle)
            .is_some_and(|c| c.dialog.answered.as_ref().is_some_and(|a| a.ack.is_none()))
        {
            self.acknowledge(handle, None);
        }
        let Some(mut call) = self.calls.remove(&handle) else { return };
        let bye = call.dialog.request(Method::Bye);
        self.ask(now, Asked::Bye, bye);
    }

    /// The other side ended the call.
    pub(super) fn handle_bye(&mut self, now: Time, id: ServerId, handle: Handle, bye: &Message) {
        self.refuse(now, id, bye, 200);
        self.respond_offer(now, handle, 487, "", None);
        let Some(call) = self.calls.remove(&handle) else { return };
        if let Some((_, server)) = call.dialog.unacknowledged {
            self.transactions.acknowledge(server);
        }
        if call.state != State::Ending {
            let reason = bye.header("Reason").unwrap_or("").to_owned();
            self.tell(UaEvent::Ended { handle, reason });
        }
    }

    // ---- small things --------------------------------------------------------------------------

    fn new_dialog(&self, call_id: String, local: NameAddr, remote: NameAddr, target: String) -> Dialog {
        Dialog {
            flow: self.config.flow,
            call_id,
            local,
            remote,
            target,
            routes: Vec::new(),
            local_cseq: 0,
            remote_cseq: None,
            invite_cseq: 0,
            contact: self.contact(),
            unacknowledged: None,
            answered: None,
            peer: String::new(),
        }
    }

    /// An INVITE, or a re-INVITE, without its body.
    pub(super) fn invitation(&self, call: &mut Call) -> Message {
        let request = call.dialog.request(Method::Invite);
        call.dialog.invite_cseq = call.dialog.local_cseq;
        request.with("Allow", POLICY.allow()).with("Supported", "replaces")
    }
}

/// Takes from a 2xx what it settles: their tag, their target, the route (RFC 3261 section 12.1.2).
fn confirm(dialog: &mut Dialog, response: &Message) {
    if let Some(to) = response.to() {
        dialog.remote = to;
    }
    dialog.refresh_target(response);
    dialog.routes = response.headers_named("Record-Route").map(str::to_owned).collect();
    dialog.routes.reverse();
    let cseq = response.cseq().map_or(dialog.invite_cseq, |c| c.number);
    dialog.answered = Some(Answered { cseq, ack: None });
}

/// The body of a message that carries a session description.
pub(super) fn body_of(message: &Message) -> Option<Vec<u8>> {
    let is_sdp = !message.body.is_empty() && Description::parse(&message.body).is_ok();
    is_sdp.then(|| message.body.clone())
}

/// Where a session timer is required of us, the other side shall refresh it (RFC 4028 section 9).
fn grant_timer(request: &Message, response: &mut Message) {
    if !request.lists("Require", "timer") {
        return;
    }
    let Some(value) = request.header("Session-Expires") else { return };
    let seconds = value.split(';').next().unwrap_or("").trim();
    if seconds.parse::<u32>().is_ok() {
        response.push("Session-Expires", format!("{seconds};refresher=uac"));
        response.push("Require", "timer");
    }
}

/// A URI without headers, and the Replaces that was among them (RFC 3891 section 3).
fn split_replaces(uri: &str) -> (String, Option<String>) {
    let Ok(mut parsed) = Uri::parse(uri) else { return (uri.to_owned(), None) };
    let headers = parsed.headers.take().unwrap_or_default();
    parsed.params.remove("method");
    let is_replaces = |field: &str| {
        let (name, value) = field.split_once('=')?;
        name.eq_ignore_ascii_case("Replaces").then(|| percent_decode(value))
    };
    (parsed.to_string(), headers.split('&').find_map(is_replaces))
}
