//! Passing on requests of others (recursive routing).
//!
//! A hop answers if it can; otherwise it acknowledges to the hop before and passes the request on. A next
//! hop that is silent for longer than it usually is gets a rival: the request goes to another peer
//! beside, long before anybody upstream gives up, and the silent one is asked whether it lives.
//!
//! The answer goes one of two ways. A request that carries its originator's address is answered straight
//! there, and a hop is done when the next one has acknowledged: half the way, a third of the bytes. Hops
//! cannot prove that address to whoever answers, so it gets no more than the request was long, once, or a
//! cookie to repeat. Without an address (the originator may sit behind a NAT) the answer comes back over
//! the same hops, and each gives up a little before the hop before does, because the deadline shrinks on
//! the way.
//!
//! A request that returns to a hop it has passed is answered at once with "loop detected", so that the
//! hop before can try another way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use smallvec::SmallVec;
use wire::p2pp::{
    Builder, Class, Code, Header, Message, MessageType, Object, RouteHop, TransportKind, object,
};
use wire::{Contact, Key, NodeId, Time};

use crate::budget::Work;
use crate::membership::SHORT_LEN;
use crate::node::{Node, millis};
use crate::request::Purpose;
use crate::transaction::{ServerKey, Serving};

/// Hops a route log holds at most: twice the logarithm of any overlay this runs in.
pub(crate) const MAX_ROUTE_LOG: usize = 16;

/// What each hop keeps back of the deadline for the way of the answer, at least.
const MARGIN: Duration = Duration::from_millis(20);

/// Next hops that a request is sent to at most, one after the other.
pub(crate) const MAX_WAYS: usize = 4;

/// Bits of the way to a key that one hop leads on: three by the eight peers of a bucket. (The best of
/// them leads on by about one more; but a hop also costs bytes, so progress is not to be had too cheaply.)
const BITS_PER_HOP: f64 = 3.0;

/// A request of somebody else on its way through us.
pub(crate) struct Forwarding {
    bytes: Vec<u8>,
    deadline: Time,
    upstream: SocketAddr,
    /// Where the answer goes, if not back the way.
    origin: Option<SocketAddr>,
    /// Next hops not tried yet, the best last.
    candidates: SmallVec<[Contact; MAX_WAYS]>,
    target: Key,
    /// Copies that may still come to something.
    under_way: u8,
}

impl Node {
    fn take_forwarding(&mut self, key: &ServerKey) -> Option<Box<Forwarding>> {
        let forwarding = self.forwards.remove(key);
        if self.forwards.is_empty() {
            self.forwards = BTreeMap::new();
        }
        forwarding
    }

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
        let walked = self.standing.as_mut().is_none_or(|s| s.table.handle_walk(now, remote));
        let Some(target) = target_of(message) else {
            return self.refuse(now, remote, message, Code::BAD_REQUEST, "this message is not routed");
        };
        if self.answer_routed_here(now, remote, message, &target) {
            return;
        }
        if header.ttl <= 1 {
            return self.refuse(now, remote, message, Code::TTL_EXCEEDED, "");
        }
        if !walked {
            return self.refuse(now, remote, message, Code::BUSY, "");
        }
        let work = if header.message == MessageType::Tunnel { Work::Signalling } else { Work::Lookups };
        if !self.takes_on(now, remote, message, work) {
            return;
        }
        // The answer to come will be longer than the request, and is repeated. One that goes straight to
        // the originator leaves the hop before with an acknowledgement, which is shorter.
        if origin_of(message).is_none() && !self.link.proofs.is_proven(now, remote) {
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
        let id = self.node_id().unwrap_or_else(|| NodeId(self.hash().digest(b"")));
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
                self.deliver(now, remote, message, builder);
                return true;
            }
        } else if self.node_id().is_some_and(|id| id.key() == target) {
            self.answer(now, remote, message);
            return true;
        }
        false
    }

    /// Sends the answer to a routed request: back the way it came, or straight to its originator.
    fn deliver(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>, builder: Builder) {
        let Some(origin) = origin_of(message) else {
            return self.respond(now, remote, message, builder);
        };
        if origin != remote {
            let ack = self.acknowledgement(&message.header);
            self.send_peer(now, message.header.message, remote, ack);
        }
        self.respond(now, origin, message, builder);
    }

    /// Says that there is nothing here, and who else would have it: as many as fit.
    fn deliver_nothing(
        &mut self,
        now: Time,
        remote: SocketAddr,
        message: &Message<'_>,
        contacts: &[Contact],
    ) {
        let mut builder = Builder::new(&self.answer_header(message, Code::NOT_FOUND));
        let mut fits = contacts.len();
        if origin_of(message).is_some_and(|o| !self.link.proofs.is_proven(now, o)) {
            let room = message.bytes().len().saturating_sub(builder.len() + 5);
            fits = fits.min(room / SHORT_LEN);
        }
        crate::search::push_table(&mut builder, true, &contacts[..fits]);
        self.deliver(now, remote, message, builder);
    }

    fn pass_on(
        &mut self,
        now: Time,
        remote: SocketAddr,
        key: ServerKey,
        message: &Message<'_>,
        target: &Key,
    ) {
        // A client that is attached here is the goal itself.
        let client = self.attachments.client(now, &NodeId(*target));
        let client = client.filter(|_| message.header.message == MessageType::Tunnel);
        let mut candidates: SmallVec<[Contact; MAX_WAYS]> = match client {
            Some(client) => smallvec::smallvec![client],
            None => self.ways(now, target, |c| c.address == remote || c.id == key.0),
        };
        // A walk that can go nowhere from here goes on from the hop before.
        if candidates.is_empty() && self.walks().is_some() {
            return self.refuse(now, remote, message, Code::BUSY, "");
        }
        // Nobody is nearer: who does not have it says so and names the others.
        if candidates.is_empty() {
            let replicas = self.replicas();
            let Some(standing) = &self.standing else { return };
            let contacts = standing.table.route(target, replicas).contacts().to_vec();
            return self.deliver_nothing(now, remote, message, &contacts);
        }
        let deadline = message.header.deadline().unwrap_or(crate::request::ANSWER_TIMEOUT);
        let keep_back = MARGIN.max(self.link.round_trips.rtt(remote).unwrap_or(MARGIN) / 2);
        let mut bytes = message.bytes().to_vec();
        if wants_route_log(message) {
            bytes = self.with_logged_hop(remote, message, candidates[0]);
        }
        candidates.reverse(); // The best is popped first.
        let ack = self.acknowledgement(&message.header);
        self.ledger.forwarded(now, &remote, ack.len());
        self.send_peer(now, message.header.message, remote, ack);
        self.transactions.serve(now, key, remote, message.header);
        let forwarding = Forwarding {
            bytes,
            deadline: now + deadline.saturating_sub(keep_back),
            upstream: remote,
            origin: origin_of(message),
            candidates,
            target: *target,
            under_way: 0,
        };
        self.forwards.insert(key, Box::new(forwarding));
        if !self.send_onwards(now, key, message.header) {
            self.give_up(now, key, message.header);
        }
    }

    /// The peers through which a key is best reached from here, the best first; all are nearer to it than
    /// we are. A hop is worth the more the farther it leads, and the less the longer it takes: one with
    /// a short way to it is taken before one that is nearer to the key by less than that time leads on.
    pub(crate) fn ways(
        &self,
        now: Time,
        target: &Key,
        avoid: impl Fn(&Contact) -> bool,
    ) -> SmallVec<[Contact; MAX_WAYS]> {
        let Some(standing) = &self.standing else { return SmallVec::new() };
        let table = &standing.table;
        let replicas = self.replicas();
        let narrow = table.route(target, replicas);
        let usable = |c: &&Contact| !avoid(c);
        let own = table.rank(target, &standing.id);
        let nearer = |c: &&Contact| table.rank(target, &c.id) < own;
        if standing.metric().progress.is_some() || self.is_client() {
            // On a ring being on the way and being a holder are two things, and a client has but its
            // carriers: the table's order stands. From one holder on it goes to those before it.
            let leads = |c: &&Contact| !narrow.includes_self() || nearer(c);
            let ways = narrow.contacts().iter().filter(usable).filter(leads);
            return ways.take(MAX_WAYS).copied().collect();
        }
        let wide = table.route(target, overlay::overlay::MAX_ROUTE);
        let typical = self.link.round_trips.typical().unwrap_or(Duration::from_millis(100));
        let holders_at = (self.size_estimate(now) as f64 / replicas as f64).max(1.0).log2();
        let cost = |c: &Contact| -> u64 {
            let near = f64::from(table.rank(target, &c.id).leading_zeros());
            let hops_left = (holders_at - near).max(0.0) / BITS_PER_HOP;
            let rtt = self.link.round_trips.rtt(c.address).unwrap_or(typical);
            let doubt = if self.doubts.is_doubted(now, c.address) { 10_000_000 } else { 0 };
            (rtt + typical.mul_f64(hops_left)).as_micros() as u64 / 2 + doubt
        };
        let mut ways: Vec<(u64, Contact)> =
            wide.contacts().iter().filter(usable).filter(nearer).map(|c| (cost(c), *c)).collect();
        ways.sort_by_key(|(cost, _)| *cost);
        ways.into_iter().take(MAX_WAYS).map(|(_, c)| c).collect()
    }

    /// Sends a request on its way to the next candidate, if there is one and time.
    fn send_onwards(&mut self, now: Time, key: ServerKey, header: Header) -> bool {
        let Some(forwarding) = self.forwards.get_mut(&key) else { return false };
        let left = forwarding.deadline.since(now);
        if left <= MARGIN {
            return false;
        }
        let Some(table) = self.standing.as_mut().map(|s| &mut s.table) else { return false };
        let may = |next: &Contact| table.spend(now, &forwarding.target, &next.id);
        let Some(next) = std::iter::from_fn(|| forwarding.candidates.pop()).find(may) else { return false };
        forwarding.under_way += 1;
        let deadline = forwarding.deadline;
        let mut bytes = forwarding.bytes.clone();
        Header::patch_for_next_hop(&mut bytes, header.ttl - 1, millis(left));
        let to = (next.address, Some(next.id));
        let purpose = Purpose::Forward(key);
        self.ledger.forwarded(now, &next.address, bytes.len());
        self.request(now, to, header.message, header.transaction, bytes, deadline, purpose);
        let patience = self.link.round_trips.patience(next.address);
        self.transactions.hedge((header.transaction, next.address), patience);
        true
    }

    /// The next hop is silent: another one is tried beside it. `false` if there is none.
    pub(crate) fn hedge_forward(&mut self, now: Time, key: ServerKey) -> bool {
        let header = self.transactions.server(&key).map(|s| s.header);
        header.is_some_and(|header| self.send_onwards(now, key, header))
    }

    /// The next hop has a request whose answer goes straight to its originator: we are done with it.
    pub(crate) fn passed_on(&mut self, key: ServerKey) -> bool {
        let is_done = self.forwards.get(&key).is_some_and(|f| f.origin.is_some());
        if is_done {
            self.take_forwarding(&key);
        }
        is_done
    }

    /// A next hop came to nothing: go round it while there is time.
    pub(crate) fn reroute(&mut self, now: Time, key: ServerKey) {
        let Some(forwarding) = self.forwards.get_mut(&key) else { return };
        forwarding.under_way = forwarding.under_way.saturating_sub(1);
        let others = forwarding.under_way > 0;
        let Some(header) = self.transactions.server(&key).map(|s| s.header) else {
            self.take_forwarding(&key);
            return;
        };
        if !self.send_onwards(now, key, header) && !others {
            self.give_up(now, key, header);
        }
    }

    fn give_up(&mut self, now: Time, key: ServerKey, header: Header) {
        let Some(forwarding) = self.take_forwarding(&key) else { return };
        let Some(id) = self.node_id() else { return };
        let mut answer = header.answer(Code::TIMEOUT, id);
        answer.class = Class::Response;
        answer.ttl = header.ttl;
        let bytes = Builder::new(&answer).finish();
        self.answer_upstream(now, key, &forwarding, header.message, bytes);
    }

    /// An answer to a request we passed on: a refusal may mean another way, the rest goes back.
    pub(crate) fn pass_answer_back(&mut self, now: Time, key: ServerKey, message: &Message<'_>) {
        let code = message.header.code;
        let elsewhere = [Code::LOOP_DETECTED, Code::REJECTED, Code::BUSY, Code::TIMEOUT];
        let more = |f: &Forwarding| !f.candidates.is_empty() || f.under_way > 1;
        if elsewhere.contains(&code) && self.forwards.get(&key).is_some_and(|f| more(f)) {
            return self.reroute(now, key);
        }
        let Some(forwarding) = self.take_forwarding(&key) else { return };
        let mut bytes = message.bytes().to_vec();
        Header::patch_class(&mut bytes, Class::Response);
        self.answer_upstream(now, key, &forwarding, message.header.message, bytes);
    }

    fn answer_upstream(
        &mut self,
        now: Time,
        key: ServerKey,
        forwarding: &Forwarding,
        message: MessageType,
        mut bytes: Vec<u8>,
    ) {
        if let Some(origin) = forwarding.origin {
            // It asks again by itself, should this be lost: nobody repeats it to an unproven address.
            Header::patch_class(&mut bytes, Class::ResponseAck);
            if bytes.len() <= forwarding.bytes.len() {
                self.send_peer(now, message, origin, bytes);
            }
            return;
        }
        self.ledger.forwarded(now, &forwarding.upstream, bytes.len());
        let rto = self.link.round_trips.rto(forwarding.upstream);
        self.transactions.answer_late(now, key, bytes.clone(), rto);
        self.send_peer(now, message, forwarding.upstream, bytes);
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

/// Where the originator of a routed request wants the answer, if not back the way.
pub(crate) fn origin_of(message: &Message<'_>) -> Option<SocketAddr> {
    if !message.header.recursive {
        return None;
    }
    message.find(object::ADDRESS_INFO, |o| match o {
        Object::AddressInfo(info) if info.transport == TransportKind::Udp => {
            Some(info.address).filter(|a| a.port() != 0 && !a.ip().is_unspecified() && !a.ip().is_multicast())
        }
        _ => None,
    })
}

/// The key a routed message goes to.
fn target_of(message: &Message<'_>) -> Option<Key> {
    match message.header.message {
        MessageType::LookupObject => crate::answer::rlookup(message).map(|l| l.resource.0),
        MessageType::LookupPeer => message.find(object::PLOOKUP, |o| match o {
            Object::PLookup(lookup) => Some(lookup.key),
            _ => None,
        }),
        MessageType::Tunnel => message.find(object::PEER_ID, |o| match o {
            Object::PeerId(id) => Some(id.0),
            _ => None,
        }),
        _ => None,
    }
}
