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

use wire::Time;
use wire::sdp::{Description, Direction};
use wire::sip::{Message, Method, NameAddr, Uri, percent_decode};

use super::{Asked, Handle, MAX_DIALOGS, POLICY, UaEvent, UserAgent, sdp, to_uri};
use crate::dialog::Dialog;
use crate::transaction::{ClientId, ServerId};

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
    pub(super) ring_until: Option<Time>,
    /// When the caller is told that we are there at all, if nothing was said by then.
    pub(super) trying_at: Option<Time>,
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
    pub(super) fn say_bye(&mut self, now: Time, handle: Handle) {
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

    pub(super) fn new_dialog(
        &self,
        call_id: String,
        local: NameAddr,
        remote: NameAddr,
        target: String,
    ) -> Dialog {
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

/// The body of a message that carries a session description.
pub(super) fn body_of(message: &Message) -> Option<Vec<u8>> {
    let is_sdp = !message.body.is_empty() && Description::parse(&message.body).is_ok();
    is_sdp.then(|| message.body.clone())
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
