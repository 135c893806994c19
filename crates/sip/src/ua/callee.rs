//! Calls that arrive, until they are answered and acknowledged (RFC 3261 section 13.3, RFC 3891).

use std::time::Duration;

use wire::Time;
use wire::sip::{Message, Method, Params};

use super::call::{Call, State, body_of};
use super::{Handle, MAX_DIALOGS, POLICY, RING_TIMEOUT, UaEvent, UserAgent, aor};
use crate::transaction::ServerId;

/// How long a caller hears nothing before it gets a 100 (RFC 3261 section 17.2.1).
const TRYING: Duration = Duration::from_millis(200);

impl UserAgent {
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
