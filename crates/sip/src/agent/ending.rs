//! How a call ends: cancelled, refused, hung up by command (RFC 3261 sections 9, 15).

use wire::Time;
use wire::sip::{Message, reason_phrase};

use super::call::{Call, State};
use super::{Agent, Alarm, Served};
use crate::event::{CallId, Cause, Event};
use crate::flow::Flow;
use crate::media_plane::{MediaPlane, Side};
use crate::transaction::ServerId;

impl Agent {
    pub(super) fn cancel_branches(&mut self, now: Time, call: &Call, reason: Option<&str>) {
        for branch in call.branches.iter().filter(|b| !b.done) {
            if let Some(client) = branch.client {
                self.transactions.cancel(now, client, reason);
            }
        }
    }

    /// The caller sent CANCEL.
    pub(super) fn cancelled(
        &mut self,
        now: Time,
        invite: ServerId,
        cancel: &Message,
        media: &mut dyn MediaPlane,
    ) {
        match self.served.get(&invite).copied() {
            Some(Served::Call(id)) => self.with_call(id, |agent, call| {
                let reply = Message::reply_to(&call.request, 487, "");
                agent.reply(now, call.server, reply);
                let reason = cancel.header("Reason").map(str::to_owned);
                agent.end(now, call, Cause::Cancelled, 487, "", reason.as_deref(), media);
            }),
            Some(Served::Relay(client)) => {
                self.transactions.cancel(now, client, cancel.header("Reason"));
            }
            _ => {}
        }
    }

    /// The caller's connection is gone before an answer.
    pub(super) fn caller_gone(&mut self, now: Time, id: CallId, media: &mut dyn MediaPlane) {
        self.with_call(id, |agent, call| {
            let cause = match call.source {
                Flow::Peer(_) => Cause::PeerLost,
                _ => Cause::PhoneLost,
            };
            agent.end(now, call, cause, 487, "The caller is gone", None, media);
        });
    }

    pub(super) fn refuse_call(
        &mut self,
        now: Time,
        id: CallId,
        status: u16,
        reason: &str,
        media: &mut dyn MediaPlane,
    ) {
        self.with_call(id, |agent, call| {
            call.waiting = None;
            agent.refuse_with(now, call, status, reason, media);
        });
    }

    pub(super) fn refuse_with(
        &mut self,
        now: Time,
        call: &mut Call,
        status: u16,
        reason: &str,
        media: &mut dyn MediaPlane,
    ) {
        let reply = Message::reply_to(&call.request, status, reason);
        self.reply(now, call.server, reply);
        self.end(now, call, Cause::Refused, status, reason, None, media);
    }

    /// Ends a call from this side: the caller of an unanswered one gets `status` and `reason`, the
    /// two phones of an answered one get BYE with both in its Reason header.
    pub fn hang_up(
        &mut self,
        now: Time,
        call: CallId,
        status: u16,
        reason: &str,
        media: &mut dyn MediaPlane,
    ) {
        self.with_call(call, |agent, call| match call.state {
            State::Calling => {
                let code = if (400..=699).contains(&status) { status } else { 480 };
                let reply = Message::reply_to(&call.request, code, reason);
                agent.reply(now, call.server, reply);
                agent.end(now, call, Cause::Command, code, reason, None, media);
            }
            State::Established(pair) => {
                let why = reason_header(status, reason);
                for side in [Side::Caller, Side::Callee] {
                    agent.send_bye(now, call, pair, side, Some(&why), None);
                }
                agent.end(now, call, Cause::Command, 200, reason, None, media);
            }
            State::Ended => {}
        });
        self.drain_transactions(now, media);
    }

    /// Marks the call as ended, stops what is under way, and says so.
    #[expect(clippy::too_many_arguments, reason = "what ended, why, and in whose words")]
    pub(super) fn end(
        &mut self,
        now: Time,
        call: &mut Call,
        cause: Cause,
        status: u16,
        reason: &str,
        cancel_reason: Option<&str>,
        media: &mut dyn MediaPlane,
    ) {
        if call.state == State::Ended {
            return;
        }
        self.cancel_branches(now, call, cancel_reason);
        if let Some(request) = call.waiting.take() {
            self.waiting.remove(&request);
            self.alarms.cancel(Alarm::Route(request));
            self.events.push_back(Event::RouteCancelled { request });
        }
        for relay in call.relays.values() {
            let status = if relay.is_invite() { 487 } else { 481 };
            self.served.remove(&relay.server);
            let reply = Message::reply_to(&relay.request, status, "");
            self.reply(now, relay.server, reply);
        }
        call.relays.clear();
        self.served.remove(&call.server);
        call.state = State::Ended;
        self.live_calls = self.live_calls.saturating_sub(1);
        media.close(now, call.id());
        let reason = if reason.is_empty() { reason_phrase(status) } else { reason };
        self.events.push_back(Event::Ended { call: call.id(), cause, status, reason: reason.to_owned() });
    }
}

/// A Reason header (RFC 3326).
pub(super) fn reason_header(status: u16, text: &str) -> String {
    format!("SIP;cause={status};text=\"{}\"", text.replace(['"', '\\'], "'"))
}
