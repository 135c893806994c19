//! MESSAGE (RFC 3428): one request, carried to every phone of its addressee, one answer back.

use std::collections::BTreeSet;

use wire::Time;
use wire::sip::{Message, Method};

use super::call::{Destination, Found, rank};
use super::{Agent, Asked, MAX_WAITING, Served, Waiting, headers};
use crate::event::{Event, RequestId};
use crate::flow::Flow;
use crate::transaction::{ClientId, ServerId};

/// A request on its way.
#[derive(Debug)]
pub(super) struct Errand {
    server: ServerId,
    request: Message,
    from: String,
    /// The sender's name, as it is shown.
    pub(super) display: String,
    pub(super) to: String,
    open: BTreeSet<ClientId>,
    best: Option<Message>,
}

impl Agent {
    pub(super) fn start_errand(
        &mut self,
        now: Time,
        flow: Flow,
        server: ServerId,
        request: Message,
        from: String,
    ) {
        let Some(to) = self.addresses.aor(request.uri()) else {
            return self.refuse(now, server, &request, 404, "");
        };
        if self.errands.len() >= MAX_WAITING {
            let reply = Message::reply_to(&request, 503, "").with("Retry-After", "5");
            return self.reply(now, server, reply);
        }
        self.addresses.learn(&flow, request.uri());
        let id = RequestId(self.new_id());
        let errand = Errand {
            server,
            from: from.clone(),
            display: request.from().map(|f| f.display).unwrap_or_default(),
            to: to.clone(),
            open: BTreeSet::new(),
            best: None,
            request,
        };
        self.errands.insert(id, errand);
        self.served.insert(server, Served::Errand(id));
        let event = Event::Route { request: id, call: None, method: Method::Message, from, to, source: flow };
        self.ask_route(now, id, Waiting::Errand, event);
    }

    pub(super) fn send_errand(&mut self, now: Time, id: RequestId, found: Found) {
        let destinations = match found {
            Found::At(destinations) => destinations,
            Found::Nowhere(status) => return self.end_errand(now, id, status, ""),
        };
        let Some(mut errand) = self.errands.remove(&id) else {
            return;
        };
        for destination in destinations {
            let message = self.errand_for(&errand, &destination);
            let sent_by = self.addresses.sent_by(&destination.flow);
            let client = self.transactions.request(now, destination.flow, message, &sent_by);
            self.asked.insert(client, Asked::Errand(id));
            errand.open.insert(client);
        }
        self.errands.insert(id, errand);
    }

    fn errand_for(&mut self, errand: &Errand, destination: &Destination) -> Message {
        let mut message = Message::request(Method::Message, &destination.uri);
        message.push("Max-Forwards", super::call::fewer_hops(&errand.request).to_string());
        let from = self.as_caller(&errand.from, &errand.display).with_tag(&self.transactions.token());
        message.push("From", from.to_string());
        message.push("To", format!("<sip:{}>", crate::address::written(&errand.to)));
        message.push("Call-ID", self.transactions.token());
        message.push("CSeq", "1 MESSAGE");
        headers::pass(&errand.request, &mut message);
        message
    }

    pub(super) fn errand_response(&mut self, now: Time, id: RequestId, client: ClientId, response: Message) {
        if response.status() < 200 {
            return;
        }
        let Some(errand) = self.errands.get_mut(&id) else {
            return;
        };
        errand.open.remove(&client);
        let better = errand.best.as_ref().is_none_or(|b| rank(&response) < rank(b));
        let good = response.status() < 300;
        if better {
            errand.best = Some(response);
        }
        // Delivered to one phone is delivered.
        if good || errand.open.is_empty() {
            self.finish_errand(now, id);
        }
    }

    pub(super) fn errand_silent(&mut self, now: Time, id: RequestId, client: ClientId) {
        // Not 408: its sender has given up by itself by now (RFC 4320 section 4.1).
        self.errand_response(now, id, client, Message::response(480, "No answer from the phone"));
    }

    fn finish_errand(&mut self, now: Time, id: RequestId) {
        let Some(errand) = self.errands.remove(&id) else {
            return;
        };
        self.served.remove(&errand.server);
        let Some(best) = errand.best else { return };
        let status = match best.status() {
            401 | 407 => 403,
            other => other,
        };
        let mut reply = Message::reply_to(&errand.request, status, best.reason());
        headers::pass(&best, &mut reply);
        self.reply(now, errand.server, reply);
    }

    pub(super) fn end_errand(&mut self, now: Time, id: RequestId, status: u16, reason: &str) {
        // A MESSAGE is not answered 408 (RFC 4320).
        let status = if status == 408 { 480 } else { status };
        if let Some(errand) = self.errands.get_mut(&id) {
            let reason = if reason.is_empty() { wire::sip::reason_phrase(status) } else { reason };
            errand.best = Some(Message::response(status, reason));
            self.finish_errand(now, id);
        }
    }

    /// Its sender is gone; what is under way may arrive, nobody waits for the answer.
    pub(super) fn drop_errand(&mut self, id: RequestId) {
        self.errands.remove(&id);
        if self.waiting.remove(&id).is_some() {
            self.alarms.cancel(super::Alarm::Route(id));
            self.events.push_back(Event::RouteCancelled { request: id });
        }
    }
}
