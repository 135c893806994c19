//! From INVITE to its final response: routing and forking (RFC 3261 sections 13, 16.7).
//!
//! Every phone that rings has a dialog of its own with us, and for each of those the caller has one
//! with us too: early media and provisional responses of several phones stay apart by their tags.

use std::collections::{BTreeMap, BTreeSet};

use wire::Time;
use wire::sip::{Message, Method, NameAddr, reason_phrase};

use super::in_dialog::Relay;
use super::{Agent, Asked, MAX_CALLS, Served, Waiting, headers};
use crate::address::written;
use crate::dialog::{Answered, Dialog};
use crate::event::{CallId, CallRecord, Cause, Event, RequestId, Target};
use crate::flow::Flow;
use crate::media_plane::{Leg, MediaPlane, Refused, Role, Side};
use crate::transaction::{ClientId, ServerId};

/// Most phones rung for one request: all of two users with every phone they may have.
const MAX_FORKS: usize = 32;
/// Most dialogs of one call: peers fork too.
const MAX_PAIRS: usize = 64;

/// What a phone answers to an offer of which it can take nothing: Not Acceptable Here.
const NOT_ACCEPTABLE: u16 = 488;

/// Tells the phones that ring on that another one took the call (RFC 3326).
const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

/// One neighbour that a request goes to.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) flow: Flow,
    /// The Request-URI; empty for the address of record that was asked for.
    pub(super) uri: String,
    pub(super) routes: Vec<String>,
    /// The dialog to be replaced, as this neighbour knows it (RFC 3891).
    pub(super) replaces: Option<String>,
}

/// What became of a list of targets.
#[derive(Debug)]
pub(super) enum Found {
    At(Vec<Destination>),
    /// No phone to ask, and the status that says why.
    Nowhere(u16),
}

/// One INVITE that we sent.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) client: Option<ClientId>,
    destination: Destination,
    call_id: String,
    local: NameAddr,
    remote: NameAddr,
    target: String,
    contact: String,
    /// It has its final response, or never will.
    pub(super) done: bool,
}

/// The two dialogs that are joined when this phone answers.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) branch: usize,
    pub(super) caller: Dialog,
    pub(super) callee: Dialog,
    /// A re-INVITE is under way, one at a time (RFC 3261 section 14).
    pub(super) invite_pending: bool,
    /// CSeq numbers of REFERs: who sent it, there, and as passed on (RFC 3515 section 2.4.6).
    pub(super) refers: Vec<(Side, u32, u32)>,
}

impl Pair {
    pub(super) fn dialog(&mut self, side: Side) -> &mut Dialog {
        match side {
            Side::Caller => &mut self.caller,
            Side::Callee => &mut self.callee,
        }
    }

    pub(super) fn leg(&self, side: Side) -> Leg {
        match side {
            Side::Caller => Leg { side, fork: 0, flow: self.caller.flow },
            Side::Callee => Leg { side, fork: self.branch as u16, flow: self.callee.flow },
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Not answered yet.
    Calling,
    /// Answered by the phone of that pair.
    Established(u16),
    /// Over; kept while transactions may still bring something to acknowledge.
    Ended,
}

/// One call and all its dialogs.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) record: CallRecord,
    pub(super) waiting: Option<RequestId>,
    pub(super) server: ServerId,
    pub(super) source: Flow,
    pub(super) request: Message,
    /// The caller's name, as it is shown.
    pub(super) display: String,
    pub(super) had_offer: bool,
    pub(super) branches: Vec<Branch>,
    pub(super) pairs: BTreeMap<u16, Pair>,
    next_pair: u16,
    pub(super) state: State,
    ringing: bool,
    best: Option<Message>,
    pub(super) relays: BTreeMap<ClientId, Relay>,
    clients: BTreeSet<ClientId>,
}

impl Call {
    pub(super) fn id(&self) -> CallId {
        self.record.call
    }

    fn is_over(&self) -> bool {
        self.state == State::Ended && self.clients.is_empty()
    }

    /// Whether the call cannot go on without that flow.
    pub(super) fn rests_on(&self, flow: Flow) -> bool {
        match self.state {
            State::Established(pair) => {
                self.pairs.get(&pair).is_some_and(|p| p.caller.flow == flow || p.callee.flow == flow)
            }
            _ => false,
        }
    }

    pub(super) fn add_client(&mut self, client: ClientId) {
        self.clients.insert(client);
    }
}

/// Hops left for a request that we pass on.
pub(super) fn fewer_hops(request: &Message) -> u8 {
    let hops: u8 = request.header("Max-Forwards").and_then(|h| h.parse().ok()).unwrap_or(70);
    hops.min(70).saturating_sub(1)
}

/// How good a final response is to give back when several phones refused; lower is better
/// (RFC 3261 section 16.7, step 6).
pub(super) fn rank(response: &Message) -> u32 {
    match response.status() {
        200..=299 => 0,
        600..=699 => 1,
        300..=399 => 2,
        486 => 3,
        480 => 5,
        404 | 410 => 6,
        408 => 7,
        487 => 8,
        400..=499 => 4,
        _ => 9,
    }
}

impl Agent {
    /// Borrows a call together with the rest of the agent, and forgets it when nothing is left.
    pub(super) fn with_call(&mut self, id: CallId, f: impl FnOnce(&mut Agent, &mut Call)) {
        let Some(mut call) = self.calls.remove(&id) else {
            return;
        };
        f(self, &mut call);
        if call.is_over() {
            self.forget(&call);
        } else {
            self.calls.insert(id, call);
        }
    }

    fn forget(&mut self, call: &Call) {
        for pair in call.pairs.values() {
            self.unlist(pair);
        }
        self.served.remove(&call.server);
    }

    fn list(&mut self, call: CallId, number: u16, pair: &Pair) {
        self.dialogs.insert(pair.caller.key(), (call, number, Side::Caller));
        self.dialogs.insert(pair.callee.key(), (call, number, Side::Callee));
    }

    fn unlist(&mut self, pair: &Pair) {
        for dialog in [&pair.caller, &pair.callee] {
            self.dialogs.remove(&dialog.key());
            if let Some((_, server)) = dialog.unacknowledged {
                self.served.remove(&server);
            }
        }
    }

    pub(super) fn client_ended(&mut self, call: CallId, client: ClientId) {
        self.with_call(call, |_, call| {
            call.clients.remove(&client);
            call.relays.remove(&client);
        });
    }

    /// How the caller is named to the others.
    pub(super) fn as_caller(&self, aor: &str, display: &str) -> NameAddr {
        let mut address = NameAddr::new(format!("sip:{}", written(aor)));
        address.display = display.to_owned();
        address
    }

    /// Finds the phones and peers that targets stand for.
    pub(super) fn resolve(&self, targets: &[Target]) -> Found {
        let (mut found, mut status) = (Vec::new(), 404);
        for target in targets {
            match target {
                Target::User(aor) => {
                    let Some(user) = self.registrar.resolve(&aor.to_ascii_lowercase()) else {
                        continue;
                    };
                    status = 480;
                    found.extend(self.registrar.bindings(&user).iter().map(|b| Destination {
                        flow: b.flow,
                        uri: b.contact.uri.clone(),
                        routes: Vec::new(),
                        replaces: None,
                    }));
                }
                Target::Peer { node, user } => found.push(Destination {
                    flow: Flow::Peer(*node),
                    uri: format!("sip:{}", written(user)),
                    routes: Vec::new(),
                    replaces: None,
                }),
                Target::Local(number) => found.push(Destination {
                    flow: Flow::Local(*number),
                    uri: format!("sip:user-{number}@local.invalid"),
                    routes: Vec::new(),
                    replaces: None,
                }),
            }
        }
        found.truncate(MAX_FORKS);
        if found.is_empty() { Found::Nowhere(status) } else { Found::At(found) }
    }

    pub(super) fn start_call(
        &mut self,
        now: Time,
        flow: Flow,
        server: ServerId,
        request: Message,
        from: String,
        media: &mut dyn MediaPlane,
    ) {
        self.addresses.learn(&flow, request.uri());
        if headers::must_refuse_body(&request) {
            let reply = Message::reply_to(&request, 415, "").with("Accept", "application/sdp");
            return self.reply(now, server, reply);
        }
        if request.header("Content-Encoding").is_some_and(|e| !e.eq_ignore_ascii_case("identity")) {
            let reply = Message::reply_to(&request, 415, "").with("Accept-Encoding", "identity");
            return self.reply(now, server, reply);
        }
        let Some(to) = self.addresses.aor(request.uri()) else {
            return self.refuse(now, server, &request, 404, "");
        };
        if request.contact().is_none() {
            return self.refuse(now, server, &request, 400, "Missing Contact");
        }
        if self.live_calls >= MAX_CALLS {
            let reply = Message::reply_to(&request, 503, "").with("Retry-After", "5");
            return self.reply(now, server, reply);
        }
        self.transactions.respond(now, server, &Message::reply_to(&request, 100, ""));
        let id = CallId(self.new_id());
        let record = CallRecord {
            call: id,
            from: from.clone(),
            to: to.clone(),
            source: flow,
            sip_call_id: request.call_id().to_owned(),
            started: now,
        };
        let replaced = request.header("Replaces").and_then(|r| self.replacement(r));
        let mut call = Call {
            record: record.clone(),
            waiting: None,
            server,
            source: flow,
            display: request.from().map(|f| f.display).unwrap_or_default(),
            had_offer: headers::has_sdp(&request),
            request,
            branches: Vec::new(),
            pairs: BTreeMap::new(),
            next_pair: 0,
            state: State::Calling,
            ringing: false,
            best: None,
            relays: BTreeMap::new(),
            clients: BTreeSet::new(),
        };
        self.live_calls += 1;
        self.served.insert(server, Served::Call(id));
        self.events.push_back(Event::CallStarted(record));
        if let Some(destination) = replaced {
            self.calls.insert(id, call);
            return self.fork_call(now, id, Found::At(vec![destination]), media);
        }
        let request = RequestId(self.new_id());
        call.waiting = Some(request);
        self.calls.insert(id, call);
        let event = Event::Route { request, call: Some(id), method: Method::Invite, from, to, source: flow };
        self.ask_route(now, request, Waiting::Call(id), event);
    }

    pub(super) fn fork_call(&mut self, now: Time, id: CallId, found: Found, media: &mut dyn MediaPlane) {
        self.with_call(id, |agent, call| {
            call.waiting = None;
            if call.state != State::Calling {
                return;
            }
            let destinations = match found {
                Found::At(destinations) => destinations,
                Found::Nowhere(status) => return agent.refuse_with(now, call, status, "", media),
            };
            // Who calls their own address means their other phones.
            let own = call.record.from == call.record.to;
            for destination in destinations {
                if !own || destination.flow != call.source {
                    agent.invite(now, call, destination, media);
                }
            }
            agent.settle(now, call, media);
        });
    }

    /// Sends the INVITE to one destination.
    fn invite(&mut self, now: Time, call: &mut Call, destination: Destination, media: &mut dyn MediaPlane) {
        let index = call.branches.len();
        let flow = destination.flow;
        let aor = format!("sip:{}", written(&call.record.to));
        let target = if destination.uri.is_empty() { aor.clone() } else { destination.uri.clone() };
        let branch = Branch {
            client: None,
            destination,
            call_id: self.transactions.token(),
            local: self.as_caller(&call.record.from, &call.display).with_tag(&self.transactions.token()),
            remote: NameAddr::new(aor),
            contact: self.addresses.contact(&flow, &call.record.from, &target),
            target,
            done: false,
        };
        let mut invite = Message::request(Method::Invite, &branch.target);
        for route in &branch.destination.routes {
            invite.push("Route", route);
        }
        invite.push("Max-Forwards", fewer_hops(&call.request).to_string());
        invite.push("From", branch.local.to_string());
        invite.push("To", branch.remote.to_string());
        invite.push("Call-ID", &branch.call_id);
        invite.push("CSeq", "1 INVITE");
        invite.push("Contact", &branch.contact);
        headers::pass(&call.request, &mut invite);
        let replaces = branch.destination.replaces.as_deref().or(call.request.header("Replaces"));
        if let Some(replaces) = replaces {
            invite.push("Replaces", replaces);
        }
        call.branches.push(branch);
        if call.had_offer {
            let from = Leg { side: Side::Caller, fork: 0, flow: call.source };
            let toward = Leg { side: Side::Callee, fork: index as u16, flow };
            match media.rewrite(now, call.id(), from, toward, &invite.body, Role::Offer) {
                Ok(body) => invite.body = body,
                Err(refused) => {
                    let refusal = Message::response(refused.status, reason_phrase(refused.status));
                    return self.branch_refused(call, index, refused.warn(refusal));
                }
            }
        }
        let sent_by = self.addresses.sent_by(&flow);
        let client = self.transactions.request(now, flow, invite, &sent_by);
        call.branches[index].client = Some(client);
        call.add_client(client);
        self.asked.insert(client, Asked::Branch(call.id(), index));
    }

    pub(super) fn branch_response(
        &mut self,
        now: Time,
        id: CallId,
        index: usize,
        response: Message,
        media: &mut dyn MediaPlane,
    ) {
        self.with_call(id, |agent, call| match response.status() {
            100 => {}
            101..=199 => agent.provisional(now, call, index, &response, media),
            200..=299 => agent.answer(now, call, index, &response, media),
            NOT_ACCEPTABLE if agent.offer_less(now, call, index, media) => {}
            _ => {
                agent.branch_refused(call, index, response);
                agent.settle(now, call, media);
            }
        });
    }

    /// Offers a phone that does not take what it was offered something it may take, if there is such.
    fn offer_less(&mut self, now: Time, call: &mut Call, index: usize, media: &mut dyn MediaPlane) -> bool {
        let next = call.branches.len() as u16;
        let (State::Calling, Some(branch)) = (call.state, call.branches.get_mut(index)) else {
            return false;
        };
        let destination = branch.destination.clone();
        let leg = Leg { side: Side::Callee, fork: index as u16, flow: destination.flow };
        let conceded = !branch.done && call.had_offer && media.concede(call.record.call, leg, next);
        if conceded {
            branch.done = true;
            self.invite(now, call, destination, media);
            self.settle(now, call, media);
        }
        conceded
    }

    pub(super) fn branch_silent(&mut self, now: Time, id: CallId, index: usize, media: &mut dyn MediaPlane) {
        self.with_call(id, |agent, call| {
            let nobody = Message::response(480, "No answer");
            agent.branch_refused(call, index, nobody);
            agent.settle(now, call, media);
        });
    }

    fn branch_refused(&mut self, call: &mut Call, index: usize, response: Message) {
        let Some(branch) = call.branches.get_mut(index) else {
            return;
        };
        branch.done = true;
        if call.best.as_ref().is_none_or(|best| rank(&response) < rank(best)) {
            call.best = Some(response);
        }
    }

    /// Gives the best refusal back once nobody is left who might answer.
    fn settle(&mut self, now: Time, call: &mut Call, media: &mut dyn MediaPlane) {
        let everywhere = call.best.as_ref().is_some_and(|b| b.status() >= 600);
        let over = everywhere || call.branches.iter().all(|b| b.done);
        if call.state != State::Calling || call.waiting.is_some() || !over {
            return;
        }
        let best = call.best.take().unwrap_or_else(|| Message::response(480, ""));
        // A phone's own challenge is nothing the caller could answer.
        let status = if matches!(best.status(), 401 | 407) { 403 } else { best.status() };
        let mut reply = Message::reply_to(&call.request, status, best.reason());
        headers::pass(&best, &mut reply);
        headers::drop_body(&mut reply);
        if (300..400).contains(&status) {
            for contact in best.list("Contact").filter_map(NameAddr::parse) {
                if let Some(aor) = self.addresses.aor(&contact.uri) {
                    reply.push("Contact", format!("<{}>", self.addresses.uri_for(&call.source, &aor)));
                }
            }
        }
        let reason = best.reason().to_owned();
        self.reply(now, call.server, reply);
        self.end(now, call, Cause::Refused, status, &reason, None, media);
    }

    fn pair_for(&mut self, call: &mut Call, index: usize, response: &Message) -> Option<u16> {
        let tag = response.to_tag().unwrap_or_default();
        let known = call
            .pairs
            .iter()
            .find(|(_, p)| p.branch == index && p.callee.remote_tag() == tag)
            .map(|(n, _)| *n);
        if known.is_some() {
            return known;
        }
        if call.pairs.len() >= MAX_PAIRS {
            return None;
        }
        let branch = call.branches.get(index)?;
        let callee = Dialog {
            flow: branch.destination.flow,
            call_id: branch.call_id.clone(),
            local: branch.local.clone(),
            remote: branch.remote.clone().with_tag(&tag),
            target: branch.target.clone(),
            routes: Vec::new(),
            local_cseq: 1,
            remote_cseq: None,
            invite_cseq: 1,
            contact: branch.contact.clone(),
            unacknowledged: None,
            answered: None,
            peer: call.record.to.clone(),
        };
        let cseq = call.request.cseq().map_or(1, |c| c.number);
        let caller = Dialog {
            flow: call.source,
            call_id: call.request.call_id().to_owned(),
            local: call.request.to()?.with_tag(&self.transactions.token()),
            remote: call.request.from()?,
            target: call.request.contact()?.uri,
            routes: call.request.headers_named("Record-Route").map(str::to_owned).collect(),
            local_cseq: 0,
            remote_cseq: Some(cseq),
            invite_cseq: cseq,
            contact: self.addresses.contact(&call.source, &call.record.to, call.request.uri()),
            unacknowledged: None,
            answered: None,
            peer: call.record.from.clone(),
        };
        let number = call.next_pair;
        call.next_pair += 1;
        let pair = Pair { branch: index, caller, callee, invite_pending: false, refers: Vec::new() };
        self.list(call.id(), number, &pair);
        call.pairs.insert(number, pair);
        Some(number)
    }

    /// Takes target and routes from a response that makes or confirms the callee's dialog.
    fn learn_route(pair: &mut Pair, response: &Message) {
        pair.callee.refresh_target(response);
        let mut routes: Vec<String> = response.headers_named("Record-Route").map(str::to_owned).collect();
        routes.reverse();
        pair.callee.routes = routes;
    }

    /// The caller's copy of a response to the first INVITE.
    fn forwarded(
        now: Time,
        call: &Call,
        pair: &Pair,
        response: &Message,
        media: &mut dyn MediaPlane,
    ) -> Result<Message, Refused> {
        let mut reply = Message::reply_to(&call.request, response.status(), response.reason());
        reply.set_to_tag(pair.caller.local_tag());
        for route in call.request.headers_named("Record-Route") {
            reply.push("Record-Route", route);
        }
        reply.push("Contact", &pair.caller.contact);
        headers::pass(response, &mut reply);
        if headers::has_sdp(response) {
            let role = if call.had_offer { Role::Answer } else { Role::Offer };
            let (from, toward) = (pair.leg(Side::Callee), pair.leg(Side::Caller));
            reply.body = media.rewrite(now, call.id(), from, toward, &response.body, role)?;
        }
        Ok(reply)
    }

    fn provisional(
        &mut self,
        now: Time,
        call: &mut Call,
        index: usize,
        response: &Message,
        media: &mut dyn MediaPlane,
    ) {
        if call.state != State::Calling {
            return;
        }
        let Some(number) = self.pair_for(call, index, response) else {
            return;
        };
        let Some(pair) = call.pairs.get_mut(&number) else {
            return;
        };
        Self::learn_route(pair, response);
        let flow = pair.callee.flow;
        if !call.ringing {
            call.ringing = true;
            self.events.push_back(Event::Ringing { call: call.record.call, flow });
        }
        let Some(pair) = call.pairs.get(&number) else {
            return;
        };
        let reply = Self::forwarded(now, call, pair, response, media).unwrap_or_else(|_| {
            let mut bare = response.clone();
            headers::drop_body(&mut bare);
            let mut reply = Message::reply_to(&call.request, bare.status(), bare.reason());
            reply.set_to_tag(pair.caller.local_tag());
            reply
        });
        self.transactions.respond(now, call.server, &reply);
    }

    fn answer(
        &mut self,
        now: Time,
        call: &mut Call,
        index: usize,
        response: &Message,
        media: &mut dyn MediaPlane,
    ) {
        let Some(number) = self.pair_for(call, index, response) else {
            return;
        };
        if let Some(branch) = call.branches.get_mut(index) {
            branch.done = true;
        }
        if call.state == State::Established(number) {
            return self.repeat_ack(call, number);
        }
        let Some(pair) = call.pairs.get_mut(&number) else {
            return;
        };
        Self::learn_route(pair, response);
        let first = pair.callee.answered.is_none();
        if first {
            pair.callee.answered = Some(Answered { cseq: 1, ack: None });
        }
        if call.state != State::Calling {
            // Too late: somebody else took the call, or the caller gave up.
            return match first {
                true => self.send_bye(now, call, number, Side::Callee, Some(ELSEWHERE), None),
                false => self.repeat_ack(call, number),
            };
        }
        let Some(pair) = call.pairs.get(&number) else {
            return;
        };
        let reply = match Self::forwarded(now, call, pair, response, media) {
            Ok(reply) => reply,
            Err(refused) => {
                self.send_bye(now, call, number, Side::Callee, None, None);
                return self.refuse_with(now, call, refused.status, refused.why, media);
            }
        };
        let (flow, leg) = (pair.callee.flow, pair.leg(Side::Callee));
        call.state = State::Established(number);
        self.transactions.respond(now, call.server, &reply);
        let cseq = call.request.cseq().map_or(1, |c| c.number);
        if let Some(pair) = call.pairs.get_mut(&number) {
            pair.caller.unacknowledged = Some((cseq, call.server));
        }
        self.served.insert(call.server, Served::Answered(call.id()));
        self.cancel_branches(now, call, Some(ELSEWHERE));
        let losers: Vec<u16> = call.pairs.keys().copied().filter(|n| *n != number).collect();
        for loser in losers {
            if let Some(pair) = call.pairs.remove(&loser) {
                self.unlist(&pair);
            }
        }
        media.answered(now, call.id(), leg);
        self.events.push_back(Event::Answered { call: call.id(), flow });
    }

    fn repeat_ack(&mut self, call: &Call, number: u16) {
        if let Some(pair) = call.pairs.get(&number)
            && let Some(Answered { ack: Some(ack), .. }) = &pair.callee.answered
        {
            self.transactions.send(pair.callee.flow, ack.clone());
        }
    }
}
