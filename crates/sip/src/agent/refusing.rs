//! What cannot be served: how it is answered, and that it is counted.

use std::collections::BTreeMap;

use wire::Time;
use wire::sip::{self, FramingLost, Message, Refusal};

use super::{Agent, headers};
use crate::flow::Flow;
use crate::transaction::ServerId;

impl Agent {
    /// What was not understood, by reason.
    pub fn drops(&self) -> &BTreeMap<&'static str, u64> {
        &self.dropped
    }

    pub(super) fn count_drop(&mut self, why: &'static str) {
        *self.dropped.entry(why).or_default() += 1;
    }

    /// Answers without a transaction, in about as many bytes as the request had.
    pub(super) fn send_refusal(&mut self, flow: Flow, refusal: &Refusal) {
        if let Some(mut reply) = refusal.reply() {
            reply.set_to_tag("malformed");
            self.transactions.send(flow, reply.to_bytes());
        }
    }

    /// A method that makes no sense here, with those that do (RFC 3261 section 21.4.6).
    pub(super) fn not_allowed(&mut self, now: Time, id: ServerId, request: &Message) {
        let reply = Message::reply_to(request, 405, "").with("Allow", headers::allow());
        self.reply(now, id, reply);
    }
}

/// What to answer to the request after which a stream cannot be cut any more (RFC 3261 section 18.3).
pub(super) fn refuse_stream(unfinished: &[u8], lost: FramingLost) -> Refusal {
    match sip::parse(unfinished) {
        Ok(request) => Refusal {
            request: Some(Box::new(request)),
            ..Refusal::new(400, format!("Bad Request: {}", lost.0))
        },
        Err(refusal) => refusal,
    }
}
