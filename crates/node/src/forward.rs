//! Passing on requests of others (recursive routing).
//!
//! A hop answers if it can; otherwise it acknowledges to the hop before, passes the request on to its
//! best peer towards the key, and goes round a dead one by itself. It gives up a little before the
//! hop before it does, because the deadline shrinks on the way. The answer comes back over the same
//! hops. A request that returns to a hop it has passed is answered at once with "loop detected", so
//! that the hop before can try another way.

use std::net::SocketAddr;
use std::time::Duration;

use smallvec::SmallVec;
use wire::p2pp::{Builder, Class, Code, Header, Message, MessageType, Object, RouteHop};
use wire::{Contact, Key, NodeId, Time};

use crate::node::{Node, millis};
use crate::request::Purpose;
use crate::transaction::{ServerKey, Serving};

/// Hops a route log holds at most: twice the logarithm of any overlay this runs in.
pub(crate) const MAX_ROUTE_LOG: usize = 16;

/// What each hop keeps back of the deadline for the way of the answer, at least.
const MARGIN: Duration = Duration::from_millis(20);

/// A request of somebody else on its way through us.
pub(crate) struct Forwarding {
    bytes: Vec<u8>,
    deadline: Time,
    upstream: SocketAddr,
    candidates: SmallVec<[Contact; 4]>,
}

impl Node {
    /// A recursive request: answers it, passes it on, or says why not.
    pub(crate) fn handle_routed(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let header = message.header;
        let Some(source) = header.source else {
            return self.refuse(now, remote, message, Code::BAD_REQUEST, "no source");
        };
        let key = (source, header.transaction);
        if self.repeat_answer(now, remote, key, message) {
            return;
        }
        if Some(source) == self.node_id() {
            return self.refuse(now, remote, message, Code::LOOP_DETECTED, "");
        }
        let Some(target) = target_of(message) else {
            return self.refuse(now, remote, message, Code::BAD_REQUEST, "this message is not routed");
        };
        if self.answer_routed_here(now, remote, message, &target) {
            return;
        }
        if header.ttl <= 1 {
            return self.refuse(now, remote, message, Code::TTL_EXCEEDED, "");
        }
        // Its answer will be longer, comes with an acknowledgement before, and is repeated.
        if !self.link.proofs.is_proven(now, remote) {
            return self.demand_proof(now, remote, message);
        }
        self.pass_on(now, remote, key, message, &target);
    }

    /// Repeats what was said to a request that comes again; a loop is told so.
    pub(crate) fn repeat_answer(
        &mut self,
        now: Time,
        remote: SocketAddr,
        key: ServerKey,
        message: &Message<'_>,
    ) -> bool {
        let Some(server) = self.transactions.server(&key) else { return false };
        if server.upstream != remote {
            self.refuse(now, remote, message, Code::LOOP_DETECTED, "");
            return true;
        }
        let bytes = match &server.state {
            Serving::Answered(bytes) => bytes.clone(),
            Serving::Forwarding => self.acknowledgement(&message.header),
        };
        self.send_peer(now, message.header.message, remote, bytes);
        true
    }

    fn acknowledgement(&self, header: &Header) -> Vec<u8> {
        let id = self.node_id().unwrap_or(NodeId(self.hash().digest(b"")));
        Builder::new(&header.acknowledgement(id)).finish()
    }

    /// Answers a routed request if it has arrived.
    fn answer_routed_here(
        &mut self,
        now: Time,
        remote: SocketAddr,
        message: &Message<'_>,
        target: &Key,
    ) -> bool {
        if let Some(lookup) = crate::answer::rlookup(message)
            && message.header.message == MessageType::LookupObject
        {
            if let Some(builder) = self.records_answer(now, message, &lookup) {
                self.respond(now, remote, message, builder);
                return true;
            }
        } else if self.node_id().is_some_and(|id| id.key() == target) {
            self.answer(now, remote, message);
            return true;
        }
        false
    }

    fn pass_on(
        &mut self,
        now: Time,
        remote: SocketAddr,
        key: ServerKey,
        message: &Message<'_>,
        target: &Key,
    ) {
        let replicas = self.replicas();
        let Some(standing) = &self.standing else { return };
        let route = standing.table.route(target, replicas);
        // A client that is attached here is the goal itself.
        let client = self.attachments.client(now, &NodeId(*target));
        let client = client.filter(|_| message.header.message == MessageType::Tunnel);
        let here = route.includes_self() && client.is_none();
        let mut candidates: SmallVec<[Contact; 4]> = client
            .into_iter()
            .chain(route.contacts().iter().copied())
            .filter(|c| c.address != remote && c.id != key.0)
            .take(4)
            .collect();
        // Among the holders nobody is nearer: who does not have it says so and names the others.
        if here || candidates.is_empty() {
            let contacts = route.contacts().to_vec();
            let mut builder = Builder::new(&self.answer_header(message, Code::NOT_FOUND));
            crate::search::push_table(&mut builder, true, &contacts);
            return self.respond(now, remote, message, builder);
        }
        let deadline = message.header.deadline().unwrap_or(crate::request::ANSWER_TIMEOUT);
        let keep_back = MARGIN.max(self.link.round_trips.rtt(remote).unwrap_or(MARGIN) / 2);
        let mut bytes = message.bytes().to_vec();
        if wants_route_log(message) {
            bytes = self.with_logged_hop(remote, message, candidates[0]);
        }
        candidates.reverse(); // The best is popped first.
        let ack = self.acknowledgement(&message.header);
        self.send_peer(now, message.header.message, remote, ack);
        self.transactions.serve(now, key, remote, message.header);
        let forwarding = Forwarding {
            bytes,
            deadline: now + deadline.saturating_sub(keep_back),
            upstream: remote,
            candidates,
        };
        self.forwards.insert(key, forwarding);
        self.send_onwards(now, key, message.header);
    }

    /// Sends a request on its way to the next candidate, or gives up.
    fn send_onwards(&mut self, now: Time, key: ServerKey, header: Header) {
        let Some(forwarding) = self.forwards.get_mut(&key) else { return };
        let next = forwarding.candidates.pop();
        let left = forwarding.deadline.since(now);
        let (Some(next), true) = (next, left > MARGIN) else {
            return self.give_up(now, key, header);
        };
        let deadline = forwarding.deadline;
        let mut bytes = forwarding.bytes.clone();
        Header::patch_for_next_hop(&mut bytes, header.ttl - 1, millis(left));
        let to = (next.address, Some(next.id));
        let purpose = Purpose::Forward(key);
        self.request(now, to, header.message, header.transaction, bytes, deadline, purpose);
    }

    /// The next hop is dead or too slow: go round it while there is time.
    pub(crate) fn reroute(&mut self, now: Time, key: ServerKey) {
        let Some(header) = self.transactions.server(&key).map(|s| s.header) else {
            self.forwards.remove(&key);
            return;
        };
        self.send_onwards(now, key, header);
    }

    fn give_up(&mut self, now: Time, key: ServerKey, header: Header) {
        let Some(forwarding) = self.forwards.remove(&key) else { return };
        let Some(id) = self.node_id() else { return };
        let mut answer = header.answer(Code::TIMEOUT, id);
        answer.class = Class::Response;
        answer.ttl = header.ttl;
        let bytes = Builder::new(&answer).finish();
        self.answer_upstream(now, key, forwarding.upstream, header.message, bytes);
    }

    /// An answer to a request we passed on: a refusal may mean another way, the rest goes back.
    pub(crate) fn pass_answer_back(&mut self, now: Time, key: ServerKey, message: &Message<'_>) {
        let code = message.header.code;
        let more = self.forwards.get(&key).is_some_and(|f| !f.candidates.is_empty());
        let elsewhere = [Code::LOOP_DETECTED, Code::REJECTED, Code::BUSY, Code::TIMEOUT];
        if elsewhere.contains(&code) && more {
            return self.reroute(now, key);
        }
        let Some(forwarding) = self.forwards.remove(&key) else { return };
        let mut bytes = message.bytes().to_vec();
        Header::patch_class(&mut bytes, Class::Response);
        self.answer_upstream(now, key, forwarding.upstream, message.header.message, bytes);
    }

    fn answer_upstream(
        &mut self,
        now: Time,
        key: ServerKey,
        upstream: SocketAddr,
        message: MessageType,
        bytes: Vec<u8>,
    ) {
        let rto = self.link.round_trips.rto(upstream);
        self.transactions.answer_late(now, key, bytes.clone(), rto);
        self.send_peer(now, message, upstream, bytes);
    }

    /// The request with ourselves added to its route log.
    fn with_logged_hop(&self, remote: SocketAddr, message: &Message<'_>, next: Contact) -> Vec<u8> {
        let hops = message.objects().filter(|o| matches!(o, Object::RouteHop(_))).count();
        let Some(id) = self.node_id().filter(|_| hops < MAX_ROUTE_LOG) else {
            return message.bytes().to_vec();
        };
        let rtt = self.link.round_trips.rtt(next.address).unwrap_or_default();
        let hop = RouteHop {
            id,
            address: self.own_addresses().first().copied().unwrap_or(remote),
            rtt_micros: u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX),
            decision: 0,
        };
        Builder::resume(message).with(&Object::RouteHop(hop)).finish()
    }
}

/// Whether the originator asked to be told the way.
pub(crate) fn wants_route_log(message: &Message<'_>) -> bool {
    message.objects().any(|o| matches!(o, Object::RequestOptions(options) if options.route_log))
}

/// The key a routed message goes to.
fn target_of(message: &Message<'_>) -> Option<Key> {
    match message.header.message {
        MessageType::LookupObject => crate::answer::rlookup(message).map(|l| l.resource.0),
        MessageType::LookupPeer => message.find(|o| match o {
            Object::PLookup(lookup) => Some(lookup.key),
            _ => None,
        }),
        MessageType::Tunnel => message.find(|o| match o {
            Object::PeerId(id) => Some(id.0),
            _ => None,
        }),
        _ => None,
    }
}
