//! What becomes of an INVITE of ours: progress, refusals, one 2xx or several (RFC 3261 section 13.2).

use wire::Time;
use wire::sip::{Message, Method};

use super::call::{Call, State, body_of};
use super::{Asked, Handle, MAX_FORKS, UaEvent, UserAgent};
use crate::dialog::{Answered, Dialog};
use crate::transaction::ClientId;

impl UserAgent {
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
