//! What passes within a call, and its end (RFC 3261 sections 12.2, 14, 15; RFC 3262, 3311, 3515).
//!
//! A request on one side becomes a request of the same method on the other, its answer the answer;
//! what cannot be passed on literally is translated: CSeq numbers in RAck and in the event id of a
//! NOTIFY, dialog names in Refer-To, addresses in session descriptions.

use wire::Time;
use wire::sip::{Message, Method};

use super::call::{Call, Pair, State, fewer_hops};
use super::ending::reason_header;
use super::{Agent, Asked, Served, headers};
use crate::dialog::{Answered, DialogKey};
use crate::event::{CallId, Cause};
use crate::flow::Flow;
use crate::media_plane::{MediaPlane, OPENING, Role, Side};
use crate::transaction::{ClientId, ServerId};

/// Most requests under way within one call: phones send one or two.
const MAX_RELAYS: usize = 32;
/// Most transfers remembered per call, for the ids of their NOTIFYs.
const MAX_REFERS: usize = 16;

/// A request passed on, and whom its answer is owed.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) server: ServerId,
    pub(super) request: Message,
    pair: u16,
    from: Side,
    cseq: u32,
}

impl Relay {
    pub(super) fn is_invite(&self) -> bool {
        self.request.is(&Method::Invite)
    }
}

/// The dialog that a request from outside belongs to.
fn key_of(request: &Message) -> DialogKey {
    let tag = |t: Option<String>| t.unwrap_or_default();
    (request.call_id().to_owned(), tag(request.to_tag()), tag(request.from_tag()))
}

/// Whether a request of this dialog may come by that flow: its own, or the same phone after its
/// port or connection changed.
fn same_neighbour(ours: Flow, flow: Flow) -> bool {
    let private = |flow| matches!(flow, Flow::Tls(..));
    let same_host = matches!((ours.remote(), flow.remote()), (Some(a), Some(b)) if a.ip() == b.ip());
    ours == flow || (same_host && private(ours) == private(flow))
}

/// Whether a session is agreed on in this method and its answers (RFC 3264, RFC 3311, RFC 3262).
fn negotiates(method: &Method) -> bool {
    matches!(method, Method::Invite | Method::Update | Method::Prack)
}

impl Agent {
    pub(super) fn in_dialog(
        &mut self,
        now: Time,
        flow: Flow,
        server: ServerId,
        request: Message,
        media: &mut dyn MediaPlane,
    ) {
        let Some(&(id, number, side)) = self.dialogs.get(&key_of(&request)) else {
            return self.refuse(now, server, &request, 481, "");
        };
        self.with_call(id, |agent, call| {
            let state = call.state;
            let Some(pair) = call.pairs.get_mut(&number) else {
                return agent.refuse(now, server, &request, 481, "");
            };
            let dialog = pair.dialog(side);
            if !same_neighbour(dialog.flow, flow) {
                return agent.refuse(now, server, &request, 481, "");
            }
            let Some(cseq) = request.cseq() else { return };
            if dialog.remote_cseq.is_some_and(|last| cseq.number < last) {
                return agent.refuse(now, server, &request, 500, "CSeq out of order");
            }
            dialog.remote_cseq = Some(cseq.number);
            dialog.flow = flow;
            if state == State::Ended {
                let status = if cseq.method == Method::Bye { 200 } else { 481 };
                return agent.refuse(now, server, &request, status, "");
            }
            match cseq.method {
                Method::Bye => agent.bye(now, call, number, side, server, &request, media),
                Method::Invite => agent.re_invite(now, call, number, side, server, request, media),
                Method::Register => agent.not_allowed(now, server, &request),
                Method::Refer if !super::transfer::is_well_formed(&request) => {
                    agent.refuse(now, server, &request, 400, "One Refer-To is needed");
                }
                _ => agent.relay(now, call, number, side, server, request, media),
            }
        });
    }

    #[expect(clippy::too_many_arguments, reason = "a request, its place, and the world")]
    fn bye(
        &mut self,
        now: Time,
        call: &mut Call,
        number: u16,
        side: Side,
        server: ServerId,
        bye: &Message,
        media: &mut dyn MediaPlane,
    ) {
        self.refuse(now, server, bye, 200, "");
        if call.state == State::Calling {
            // A BYE in an early dialog: the caller gives up (RFC 3261 section 15).
            return self.refuse_with(now, call, 487, "", media);
        }
        self.stop_repeating(call, number, side);
        self.send_bye(now, call, number, side.other(), None, Some(bye));
        self.end(now, call, Cause::HungUp(side), 200, "", None, media);
    }

    /// The other side needs no 2xx of ours any more.
    fn stop_repeating(&mut self, call: &mut Call, number: u16, side: Side) {
        let Some(pair) = call.pairs.get_mut(&number) else {
            return;
        };
        if let Some((_, server)) = pair.dialog(side).unacknowledged.take() {
            self.transactions.acknowledge(server);
            self.served.remove(&server);
        }
    }

    /// Ends the dialog on one side, acknowledging first what is still to be acknowledged. The
    /// headers of `copied`, the BYE of the other side, pass.
    pub(super) fn send_bye(
        &mut self,
        now: Time,
        call: &mut Call,
        number: u16,
        side: Side,
        reason: Option<&str>,
        copied: Option<&Message>,
    ) {
        self.stop_repeating(call, number, side);
        let id = call.record.call;
        let Some(pair) = call.pairs.get_mut(&number) else {
            return;
        };
        if pair.dialog(side).answered.as_ref().is_some_and(|a| a.ack.is_none()) {
            self.send_ack(pair, side, None, None);
        }
        let dialog = pair.dialog(side);
        let mut bye = dialog.request(Method::Bye);
        if let Some(copied) = copied {
            headers::pass(copied, &mut bye);
        }
        if let Some(reason) = reason {
            bye.set("Reason", reason);
        }
        let flow = dialog.flow;
        let client = self.transactions.request(now, flow, bye, &self.addresses.sent_by(&flow));
        call.add_client(client);
        self.asked.insert(client, Asked::Bye(id));
    }

    /// Acknowledges the 2xx that came from `side`, and opens to another peer what was kept back.
    fn send_ack(
        &mut self,
        pair: &mut Pair,
        side: Side,
        passed: Option<(&Message, Vec<u8>)>,
        opening: Option<String>,
    ) {
        let dialog = pair.dialog(side);
        let Some(cseq) = dialog.answered.as_ref().map(|a| a.cseq) else {
            return;
        };
        let flow = dialog.flow;
        let mut ack = dialog.request_numbered(Method::Ack, cseq);
        let via = self.transactions.fresh_via(&flow, &self.addresses.sent_by(&flow));
        ack.push_via(&via);
        if let Some((original, body)) = passed {
            headers::pass(original, &mut ack);
            if body.is_empty() {
                headers::drop_body(&mut ack);
            }
            ack.body = body;
        }
        if let (Some(opening), Flow::Peer(_)) = (opening, flow) {
            ack.push(OPENING, opening);
        }
        let bytes = ack.to_bytes();
        pair.dialog(side).answered = Some(Answered { cseq, ack: Some(bytes.clone()) });
        self.transactions.send(flow, bytes);
    }

    /// An ACK to a 2xx of ours.
    pub(super) fn acknowledged(&mut self, now: Time, flow: Flow, ack: &Message, media: &mut dyn MediaPlane) {
        let Some(&(id, number, side)) = self.dialogs.get(&key_of(ack)) else {
            return;
        };
        self.with_call(id, |agent, call| {
            let state = call.state;
            let Some(pair) = call.pairs.get_mut(&number) else {
                return;
            };
            let (Some(cseq), dialog) = (ack.cseq(), pair.dialog(side)) else {
                return;
            };
            match dialog.unacknowledged {
                Some((expected, server)) if expected == cseq.number && same_neighbour(dialog.flow, flow) => {
                    dialog.unacknowledged = None;
                    agent.transactions.acknowledge(server);
                    agent.served.remove(&server);
                }
                _ => return,
            }
            let other = side.other();
            let open = pair.dialog(other).answered.as_ref().is_some_and(|a| a.ack.is_none());
            if state == State::Ended || !open {
                return;
            }
            if let (Side::Caller, Flow::Peer(_), Some(opening)) = (side, flow, ack.header(OPENING)) {
                media.opened(id, pair.leg(other), opening);
            }
            let mut body = Vec::new();
            if headers::has_sdp(ack) {
                let (from, toward) = (pair.leg(side), pair.leg(other));
                let rewritten = media.rewrite(now, id, from, toward, &ack.body, Role::Answer);
                match rewritten {
                    Ok(sdp) => body = sdp,
                    // The answer came too late to be refused; the call cannot be heard.
                    Err(refused) => {
                        let status = refused.status;
                        let why = reason_header(status, "No common media");
                        for side in [Side::Caller, Side::Callee] {
                            agent.send_bye(now, call, number, side, Some(&why), None);
                        }
                        return agent.end(now, call, Cause::Refused, status, "", None, media);
                    }
                }
            }
            let opening = match other {
                Side::Callee => media.opening(id, pair.leg(other)),
                Side::Caller => None,
            };
            agent.send_ack(pair, other, Some((ack, body)), opening);
        });
    }

    /// Nobody acknowledged the answer for 32 seconds (RFC 3261 section 13.3.1.4).
    pub(super) fn not_acknowledged(&mut self, now: Time, id: CallId, media: &mut dyn MediaPlane) {
        self.with_call(id, |agent, call| {
            if let State::Established(number) = call.state {
                let why = reason_header(408, "The answer was never acknowledged");
                for side in [Side::Caller, Side::Callee] {
                    agent.send_bye(now, call, number, side, Some(&why), None);
                }
                agent.end(now, call, Cause::PhoneLost, 200, "No ACK", None, media);
            }
        });
    }

    /// One side of an answered call is gone: the other is told.
    pub(super) fn end_lost_call(
        &mut self,
        now: Time,
        id: CallId,
        lost: Flow,
        cause: Cause,
        media: &mut dyn MediaPlane,
    ) {
        self.with_call(id, |agent, call| {
            let State::Established(number) = call.state else {
                return;
            };
            let Some(pair) = call.pairs.get_mut(&number) else {
                return;
            };
            let text = match cause {
                Cause::PeerLost => "The other peer is gone",
                _ => "The other phone is gone",
            };
            let why = reason_header(503, text);
            let left = [Side::Caller, Side::Callee].map(|s| (s, pair.dialog(s).flow != lost));
            for (side, _) in left.into_iter().filter(|(_, alive)| *alive) {
                agent.send_bye(now, call, number, side, Some(&why), None);
            }
            agent.end(now, call, cause, 200, text, None, media);
        });
    }

    #[expect(clippy::too_many_arguments, reason = "a request, its place, and the world")]
    fn re_invite(
        &mut self,
        now: Time,
        call: &mut Call,
        number: u16,
        side: Side,
        server: ServerId,
        request: Message,
        media: &mut dyn MediaPlane,
    ) {
        let established = call.state == State::Established(number);
        let Some(pair) = call.pairs.get_mut(&number) else {
            return;
        };
        let unfinished = [Side::Caller, Side::Callee].into_iter().any(|s| {
            let dialog = pair.dialog(s);
            dialog.unacknowledged.is_some() || dialog.answered.as_ref().is_some_and(|a| a.ack.is_none())
        });
        if !established || unfinished || pair.invite_pending {
            return self.refuse(now, server, &request, 491, "");
        }
        if headers::must_refuse_body(&request) {
            let reply = Message::reply_to(&request, 415, "").with("Accept", "application/sdp");
            return self.reply(now, server, reply);
        }
        self.transactions.respond(now, server, &Message::reply_to(&request, 100, ""));
        self.relay(now, call, number, side, server, request, media);
    }

    /// Passes a request on to the other side.
    #[expect(clippy::too_many_arguments, reason = "a request, its place, and the world")]
    fn relay(
        &mut self,
        now: Time,
        call: &mut Call,
        number: u16,
        side: Side,
        server: ServerId,
        request: Message,
        media: &mut dyn MediaPlane,
    ) {
        let (id, had_offer) = (call.record.call, call.had_offer);
        let Some(method) = request.method().cloned() else {
            return;
        };
        if call.relays.len() >= MAX_RELAYS {
            return self.refuse(now, server, &request, 503, "");
        }
        let Some(pair) = call.pairs.get_mut(&number) else {
            return;
        };
        if matches!(method, Method::Invite | Method::Update) {
            pair.dialog(side).refresh_target(&request);
        }
        let body = if headers::has_sdp(&request) && negotiates(&method) {
            let role = match method {
                Method::Prack if !had_offer => Role::Answer,
                _ => Role::Offer,
            };
            let (from, toward) = (pair.leg(side), pair.leg(side.other()));
            match media.rewrite(now, id, from, toward, &request.body, role) {
                Ok(body) => Some(body),
                Err(refused) => {
                    let reply = Message::reply_to(&request, refused.status, "");
                    return self.reply(now, server, refused.warn(reply));
                }
            }
        } else {
            None
        };
        let mut out = pair.dialog(side.other()).request(method.clone());
        out.set("Max-Forwards", fewer_hops(&request).to_string());
        headers::pass(&request, &mut out);
        match body {
            Some(body) => out.body = body,
            None if headers::has_sdp(&request) => headers::drop_body(&mut out),
            None => {}
        }
        self.translate(pair, side, &request, &mut out);
        let dialog = pair.dialog(side.other());
        let (flow, cseq) = (dialog.flow, dialog.local_cseq);
        pair.invite_pending |= method == Method::Invite;
        let client = self.transactions.request(now, flow, out, &self.addresses.sent_by(&flow));
        call.add_client(client);
        self.asked.insert(client, Asked::Relay(id));
        self.served.insert(server, Served::Relay(client));
        call.relays.insert(client, Relay { server, request, pair: number, from: side, cseq });
    }

    /// Turns names that mean something on one leg into those of the other.
    fn translate(&mut self, pair: &mut Pair, side: Side, request: &Message, out: &mut Message) {
        match request.method() {
            Some(Method::Prack) => {
                // RAck: the RSeq passes as it is, the INVITE has another number (RFC 3262).
                let words: Vec<&str> =
                    request.header("RAck").unwrap_or("").split_ascii_whitespace().collect();
                if let [rseq, _, method] = words[..] {
                    let number = pair.dialog(side.other()).invite_cseq;
                    out.push("RAck", format!("{rseq} {number} {method}"));
                }
            }
            Some(Method::Refer) => {
                let theirs = request.cseq().map_or(0, |c| c.number);
                let ours = pair.dialog(side.other()).local_cseq;
                if pair.refers.len() >= MAX_REFERS {
                    pair.refers.remove(0);
                }
                pair.refers.push((side, theirs, ours));
                let toward = pair.dialog(side.other()).flow;
                self.translate_refer(toward, request, out);
            }
            Some(Method::Notify) => {
                let event = out.header("Event").unwrap_or("").to_owned();
                let id = event.split(';').find_map(|p| p.trim().strip_prefix("id="));
                let id = id.and_then(|i| i.trim().parse::<u32>().ok());
                let known = pair.refers.iter().find(|(s, _, ours)| *s != side && Some(*ours) == id);
                if let Some((_, theirs, _)) = known {
                    out.set("Event", format!("refer;id={theirs}"));
                }
            }
            _ => {}
        }
    }

    pub(super) fn relay_response(
        &mut self,
        now: Time,
        id: CallId,
        client: ClientId,
        response: Message,
        media: &mut dyn MediaPlane,
    ) {
        self.with_call(id, |agent, call| {
            let Some(relay) = call.relays.get(&client) else {
                return agent.repeated_answer(call, &response);
            };
            let (status, invite) = (response.status(), relay.is_invite());
            if status == 100 || (status < 200 && !invite) {
                return;
            }
            let Some(pair) = call.pairs.get_mut(&relay.pair) else {
                return;
            };
            let (from, to, cseq) = (relay.from, relay.from.other(), relay.cseq);
            let refreshes = matches!(relay.request.method(), Some(Method::Invite | Method::Update));
            if refreshes && (200..300).contains(&status) {
                pair.dialog(to).refresh_target(&response);
            }
            let passed = if matches!(status, 401 | 407) { 403 } else { status };
            let mut reply = Message::reply_to(&relay.request, passed, response.reason());
            headers::pass(&response, &mut reply);
            if refreshes && (101..300).contains(&status) {
                reply.push("Contact", &pair.dialog(from).contact);
            }
            let mut failed = None;
            let is_answer = (101..300).contains(&status) && relay.request.method().is_some_and(negotiates);
            if headers::has_sdp(&response) && !is_answer {
                // Capabilities, or what goes with a refusal: nothing that holds.
                headers::drop_body(&mut reply);
            } else if headers::has_sdp(&response) {
                let late = invite && !headers::has_sdp(&relay.request);
                let role = if late { Role::Offer } else { Role::Answer };
                let (one, other) = (pair.leg(to), pair.leg(from));
                match media.rewrite(now, id, one, other, &response.body, role) {
                    Ok(body) => reply.body = body,
                    Err(refused) => failed = Some(refused),
                }
            }
            let server = relay.server;
            if let Some(refused) = failed {
                reply = refused.warn(Message::reply_to(&relay.request, refused.status, ""));
            }
            if status >= 200 {
                let number = relay.request.cseq().map_or(0, |c| c.number);
                agent.served.remove(&server);
                if invite {
                    pair.invite_pending = false;
                    if status < 300 {
                        pair.dialog(to).answered = Some(Answered { cseq, ack: None });
                        if failed.is_some() {
                            agent.send_ack(pair, to, None, None);
                        } else {
                            pair.dialog(from).unacknowledged = Some((number, server));
                            agent.served.insert(server, Served::Answered(id));
                        }
                    }
                }
                call.relays.remove(&client);
            } else if failed.is_some() {
                return;
            }
            agent.reply(now, server, reply);
        });
    }

    /// A 2xx to a re-INVITE that was answered before: its ACK was lost.
    fn repeated_answer(&mut self, call: &mut Call, response: &Message) {
        let tag = |t: Option<String>| t.unwrap_or_default();
        let key = (response.call_id().to_owned(), tag(response.from_tag()), tag(response.to_tag()));
        let Some(&(_, number, side)) = self.dialogs.get(&key) else {
            return;
        };
        let Some(pair) = call.pairs.get_mut(&number) else {
            return;
        };
        let dialog = pair.dialog(side);
        if let Some(Answered { cseq, ack: Some(ack) }) = &dialog.answered {
            let same = response.cseq().is_some_and(|c| c.number == *cseq && c.method == Method::Invite);
            if same && response.status() < 300 {
                self.transactions.send(dialog.flow, ack.clone());
            }
        }
    }

    /// Nothing came back: that side is gone, and with it the call (RFC 3261 section 12.2.1.2).
    pub(super) fn relay_silent(
        &mut self,
        now: Time,
        id: CallId,
        client: ClientId,
        media: &mut dyn MediaPlane,
    ) {
        self.with_call(id, |agent, call| {
            let Some(relay) = call.relays.remove(&client) else {
                return;
            };
            let (server, number, lost) = (relay.server, relay.pair, relay.from.other());
            agent.served.remove(&server);
            // No 408 to anything but INVITE (RFC 4320).
            let status = if relay.is_invite() { 408 } else { 480 };
            agent.refuse(now, server, &relay.request, status, "");
            if call.state != State::Established(number) {
                return;
            }
            let why = reason_header(408, "The other side does not answer");
            for side in [lost, lost.other()] {
                agent.send_bye(now, call, number, side, Some(&why), None);
            }
            let peer = call.pairs.get_mut(&number).map(|p| p.dialog(lost).flow);
            let cause = match peer {
                Some(Flow::Peer(_)) => Cause::PeerLost,
                _ => Cause::PhoneLost,
            };
            agent.end(now, call, cause, 200, "The other side does not answer", None, media);
        });
    }
}
