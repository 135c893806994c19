//! Serving requests of other peers.
//!
//! Whatever the request, the answer obeys one rule: an address that has not shown that it is its
//! sender's gets no more bytes than it sent, and instead of the answer a cookie to repeat.

use std::net::SocketAddr;
use std::time::Duration;

use overlay::{Evidence, MAX_ROUTE, Route};
use smallvec::SmallVec;
use wire::p2pp::holders::{self, HEAD_LEN};
use wire::p2pp::record::MAX_VALUE;
use wire::p2pp::{
    Builder, Code, Density, Header, Message, MessageType, Object, PLookup, RLookup, RecordRef, RecordSummary,
    RouteHop, known, object,
};
use wire::{Contact, NodeId, Time};

use crate::bans::Unwelcome;
use crate::budget::Work;
use crate::ledger::Function;
use crate::node::Node;
use crate::request::Purpose;
use crate::search::{WIDTH, push_table};
use crate::storage::Arrival;

/// Shortest answer to an unproven address: the bare fixed header and a cookie.
const PROOF_LEN: usize = 32 + 20;

/// Most peers that a question may list as known, three times what any table lists; a longer list is not
/// looked at, since for each peer that we name it would be searched through.
pub(crate) const MAX_KNOWN: usize = 64;

/// Room a record takes in an answer at most, with its Expires.
const RECORD_LEN: usize = 4 + 120 + 32 + MAX_VALUE + 8;

/// What is said to a holder beside the record.
#[derive(Clone, Copy, Default)]
pub(crate) struct Beside<'a> {
    /// Others that hold it, or get it at the same time.
    pub(crate) holders: &'a [Contact],
    /// How close together strangers crowd around its place; nothing where nobody does.
    pub(crate) told: Density,
}

impl Node {
    /// A request arrived: it is for us to answer, or for us to pass on.
    pub(crate) fn handle_request(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let header = message.header;
        self.note_stranger(now, remote, &header);
        let cookie = message.find(object::COOKIE, |o| match o {
            Object::Cookie(cookie) => Some(cookie),
            _ => None,
        });
        let shows_itself = cookie.is_some_and(|cookie| self.link.proofs.accept(now, remote, &cookie));
        if self.standing.is_none() {
            return self.refuse(now, remote, message, Code::REJECTED, "not in an overlay yet");
        }
        if header.message != MessageType::Bootstrap && header.source.is_some_and(|id| self.is_banned(&id)) {
            return self.refuse(now, remote, message, Code::FORBIDDEN, &Unwelcome::Banned.to_string());
        }
        if header.recursive {
            return self.handle_routed(now, remote, message);
        }
        if self.is_another_document(header.config_sequence)
            && let Some(known) = self.peer_at(remote)
        {
            self.hear_of_document(now, (remote, Some(known)), header.config_sequence);
        }
        self.mention_sender(now, remote, &header, shows_itself);
        // Whoever asks whether we live, and means us, has us in its table.
        if header.message == MessageType::KeepAlive
            && self.is_meant(message)
            && let Some(standing) = &mut self.standing
            && let Some(source) = header.source.or_else(|| standing.table.at(remote))
        {
            standing.table.note_mutual(&source, true);
        }
        self.answer(now, remote, message);
    }

    /// Learns of whoever asks us something. `shows_itself`: it repeated a cookie that was sent to its address
    /// a moment ago, and so it has answered us, as it would answer a KeepAlive.
    fn mention_sender(&mut self, now: Time, remote: SocketAddr, header: &Header, shows_itself: bool) {
        let source = header.source.or_else(|| self.peer_at(remote));
        let (true, Some(id)) = (header.from_peer, source) else { return };
        // Any traffic keeps an entry alive, so that two who know each other ask once and not twice. That
        // an unsigned request may be forged makes no entry, and saves none that fails to answer.
        let contact = Contact { id, address: remote };
        let known = self.standing.as_ref().is_some_and(|s| s.table.contains(&id));
        if shows_itself || known && self.link.proofs.is_proven(now, remote) && self.is_at(id, remote) {
            self.learn(now, contact, Evidence::Alive { rtt: None });
        } else {
            self.mention(now, contact);
        }
    }

    /// Answers a request ourselves.
    pub(crate) fn answer(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        match message.header.message {
            MessageType::KeepAlive => self.answer_keep_alive(now, remote, message),
            MessageType::Bootstrap => self.answer_bootstrap(now, remote, message),
            MessageType::Join => self.answer_join(now, remote, message),
            MessageType::LookupPeer => self.answer_peer_lookup(now, remote, message),
            MessageType::LookupObject => self.answer_object_lookup(now, remote, message),
            MessageType::ExchangeTable => self.answer_exchange(now, remote, message),
            MessageType::Query => self.answer_query(now, remote, message),
            MessageType::Publish
            | MessageType::RemoveObject
            | MessageType::Replicate
            | MessageType::Transfer => self.answer_store(now, remote, message),
            MessageType::Refresh => self.answer_refresh(now, remote, message),
            MessageType::Tunnel => self.answer_tunnel(now, remote, message),
            MessageType::GetDiagnostics => self.answer_diagnostics(now, remote, message),
            MessageType::Configure => self.answer_configure(now, remote, message),
            MessageType::GetDocument => self.answer_get_document(now, remote, message),
            MessageType::Leave => {}
            MessageType::Enroll => self.answer_enroll(now, remote, message),
            MessageType::Authenticate | MessageType::Connect | MessageType::Invite => {
                self.refuse(now, remote, message, Code::NOT_IMPLEMENTED, "");
            }
        }
    }

    /// The header of our answer to a request. To a routed request it returns the TTL that was left,
    /// from which the originator counts the hops.
    pub(crate) fn answer_header(&self, message: &Message<'_>, code: Code) -> Header {
        let nobody = || NodeId(self.config.overlay.hash.digest(b""));
        let mut header = message.header.answer(code, self.node_id().unwrap_or_else(nobody));
        header.from_peer = !self.is_client();
        header.ttl = message.header.ttl;
        if crate::forward::origin_of(message).is_some() {
            // Its answer may have to be as short as its request, and the transaction-ID names both.
            (header.source, header.responder) = (None, None);
        }
        if let Some(standing) = &self.standing {
            header.overlay = standing.tag;
        }
        header.config_sequence = self.documents.announced();
        header
    }

    /// The same; without our name, if the asker says it and is in our table: by that it knows that it is. The
    /// asker may leave out its own, then.
    fn brief_header(&self, remote: SocketAddr, message: &Message<'_>, code: Code) -> Header {
        let mut header = self.answer_header(message, code);
        if self.is_mutual(remote, &message.header) && self.is_meant(message) {
            header.responder = None;
        }
        header
    }

    /// Whether a request lists us among those that the asker knows: it takes us for whom we are.
    pub(crate) fn is_meant(&self, message: &Message<'_>) -> bool {
        let tags = message.find(object::KNOWN, |o| match o {
            Object::Known(tags) if !tags.is_empty() => Some(&tags[..known::TAG_LEN.min(tags.len())]),
            _ => None,
        });
        let own = self.node_id();
        own.zip(tags).is_some_and(|(id, tags)| known::lists(tags, message.header.transaction, &id))
    }

    /// Whether our table has the sender of a request at this address.
    pub(crate) fn is_mutual(&self, remote: SocketAddr, header: &Header) -> bool {
        header.source.map_or_else(|| self.peer_at(remote).is_some(), |source| self.is_at(source, remote))
    }

    /// The peer that our table has at an address.
    fn peer_at(&self, remote: SocketAddr) -> Option<NodeId> {
        self.standing.as_ref().and_then(|s| s.table.at(remote))
    }

    /// Sends an answer, or, to an unproven address that asked with less, a cookie.
    pub(crate) fn respond(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>, builder: Builder) {
        let bytes = builder.finish();
        if bytes.len() <= message.bytes().len() || self.link.proofs.is_proven(now, remote) {
            return self.send_peer(now, message.header.message, remote, bytes);
        }
        self.demand_proof(now, remote, message);
    }

    /// Answers an unproven address with nothing but a cookie to repeat.
    pub(crate) fn demand_proof(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        if message.bytes().len() < PROOF_LEN {
            return self.link.count_drop("unproven");
        }
        let mut header = message.header.answer(Code::PROOF_REQUIRED, NodeId(self.hash().digest(b"")));
        (header.source, header.responder) = (None, None);
        header.ttl = message.header.ttl;
        let cookie = Object::Cookie(self.link.proofs.cookie(now, remote));
        let bytes = Builder::new(&header).with(&cookie).finish();
        self.send_peer(now, message.header.message, remote, bytes);
    }

    /// Refuses a request, saying why as far as the reason fits.
    pub(crate) fn refuse(
        &mut self,
        now: Time,
        remote: SocketAddr,
        message: &Message<'_>,
        code: Code,
        reason: &str,
    ) {
        let mut builder = Builder::new(&self.answer_header(message, code));
        let fits = builder.len() + reason.len() + 16 <= message.bytes().len();
        if !reason.is_empty() && (fits || self.link.proofs.is_proven(now, remote)) {
            builder.push(&Object::Error { code, detail: 0, reason });
        }
        self.respond(now, remote, message, builder);
    }

    /// Whether the budget lets us do work of this sort for others; if not, who asked is told BUSY, so that it
    /// asks somebody else at once.
    pub(crate) fn takes_on(
        &mut self,
        now: Time,
        remote: SocketAddr,
        message: &Message<'_>,
        work: Work,
    ) -> bool {
        // The tokens of walks see to it that nobody passes on more lookups than it can.
        let is_paced = work == Work::Lookups && self.walks().is_some();
        if is_paced || self.ledger.budget.may(now, work) {
            return true;
        }
        self.ledger.budget.shed(work);
        let bytes = Builder::new(&self.answer_header(message, Code::BUSY)).finish();
        if bytes.len() <= message.bytes().len() || self.link.proofs.is_proven(now, remote) {
            let function = Function::of(message.header.message);
            if !self.link.has_links() {
                let len = bytes.len() + self.link.surplus(&remote);
                self.ledger.refused(now, function, &remote, len);
            }
            self.roles.wrote(now, remote);
            self.link.send_to(now, (remote, None), bytes, function.label(true));
        }
        false
    }

    /// The peers nearest to a key.
    fn answer_peer_lookup(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let Some(PLookup { key, count, .. }) = message.find(object::PLOOKUP, |o| match o {
            Object::PLookup(lookup) => Some(lookup),
            _ => None,
        }) else {
            return self.refuse(now, remote, message, Code::BAD_REQUEST, "no PLookup");
        };
        // Where keys have no place whoever asks so looks for room for a record.
        if self.walks().is_some() && !self.takes_on(now, remote, message, Work::Storing) {
            return;
        }
        let width = usize::from(count).min(MAX_ROUTE);
        self.answer_with_route(now, remote, message, (&key, width), Code::OK);
    }

    /// The records at a place, or the peers nearer to it.
    fn answer_object_lookup(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let Some(lookup) = rlookup(message) else {
            return self.refuse(now, remote, message, Code::BAD_REQUEST, "no RLookup");
        };
        match self.records_answer(now, message, &lookup) {
            Some(builder) => self.respond(now, remote, message, builder),
            None if !self.takes_on(now, remote, message, Work::Lookups) => {}
            None => {
                // Who looks for a record in the region around its place says where it wants to be led.
                let way = message.find(object::PLOOKUP, |o| match o {
                    Object::PLookup(way) => Some(way.key),
                    _ => None,
                });
                let key = way.unwrap_or(lookup.resource.0);
                self.answer_with_route(now, remote, message, (&key, WIDTH), Code::NOT_FOUND);
            }
        }
    }

    /// An answer with what is held at a place, if anything is. A copy of the route log goes with it.
    pub(crate) fn records_answer(
        &self,
        now: Time,
        message: &Message<'_>,
        lookup: &RLookup,
    ) -> Option<Builder> {
        let mut held: Vec<_> = self
            .storage
            .live(now, &lookup.resource, lookup.kind)
            .filter(|s| lookup.owner.is_none_or(|o| s.record.owner == o))
            .collect();
        if held.is_empty() {
            return None;
        }
        held.sort_by_key(|s| std::cmp::Reverse(s.record.sequence));
        let mut builder = Builder::new(&self.answer_header(message, Code::OK));
        if let Some(standing) = &self.standing {
            let told = held.iter().fold(Density::default(), |all, stored| all.closer(stored.told));
            builder.push(&Object::Density(standing.density_at(lookup.resource.key()).closer(told)));
        }
        for stored in held {
            if builder.room() < RECORD_LEN - MAX_VALUE + stored.record.value.len() {
                break;
            }
            builder.push(&Object::Resource((*stored.record).as_ref()));
            builder.push(&Object::Expires(stored.expires.since(now).as_secs() as u32));
        }
        copy_route_log(message, &mut builder);
        if message.header.recursive && crate::forward::wants_route_log(message) {
            self.log_answering_hop(&mut builder);
        }
        Some(builder)
    }

    /// Adds ourselves to the route log of an answer, as its last hop.
    fn log_answering_hop(&self, builder: &mut Builder) {
        let (Some(id), Some(address)) = (self.node_id(), self.own_addresses().first().copied()) else {
            return;
        };
        if builder.room() >= 80 {
            builder.push(&Object::RouteHop(RouteHop { id, address, rtt_micros: 0, decision: 1 }));
        }
    }

    /// Where a key leads from here: 302 with nearer peers, or `here` with the other holders.
    fn answer_with_route(
        &mut self,
        now: Time,
        remote: SocketAddr,
        message: &Message<'_>,
        (key, width): (&wire::Key, usize),
        here: Code,
    ) {
        let is_storm = self.churn().is_storm();
        let Some(standing) = &self.standing else { return };
        // Half as many peers lead on almost as well, and a peer that many ask must be brief; walks have few to
        // choose from. What leads to records is paid from elsewhere.
        let is_paid = message.header.message == MessageType::LookupObject || standing.walks().is_some();
        let is_brief = !is_paid && self.ledger.budget.is_short(now);
        let width = if is_brief { width.min(WIDTH / 2) } else { width };
        let (near, code, mut contacts) = match standing.table.route(key, width) {
            Route::Toward(mut contacts) => {
                if is_storm {
                    contacts.truncate(WIDTH / 2);
                }
                (false, Code::NEXT_HOP, contacts)
            }
            Route::Replicas { contacts, .. } => (true, here, contacts),
        };
        contacts.retain(|c| Some(c.id) != message.header.source && c.address != remote);
        leave_out_known(message, &mut contacts);
        let mut builder = Builder::new(&self.brief_header(remote, message, code));
        push_table(&mut builder, near, &contacts);
        if message.header.message == MessageType::LookupObject {
            self.ledger.forwarded(now, &remote, builder.len());
        }
        self.respond(now, remote, message, builder);
    }

    /// Whether a message brings only records for places where we hold nothing so far, from somebody who can as
    /// well take them elsewhere. Of what we hold we want the newest version, and what is withdrawn, or
    /// handed over by a peer that leaves, comes but once.
    fn may_be_taken_elsewhere(&self, message: &Message<'_>) -> bool {
        let is_new = |object: Object<'_>| match object {
            Object::Resource(record) => !self.storage.holds(&record.resource),
            _ => true,
        };
        matches!(message.header.message, MessageType::Publish | MessageType::Replicate)
            && message.objects().all(is_new)
    }

    /// Publish, RemoveObject, Replicate, Transfer: all bring signed records to keep.
    fn answer_store(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        if self.may_be_taken_elsewhere(message) && !self.takes_on(now, remote, message, Work::Storing) {
            return;
        }
        if self.signer(message).is_none() {
            return self.refuse(now, remote, message, Code::FORBIDDEN, "bad signature");
        }
        let header = message.header;
        if let Some(why) = header.source.and_then(|source| self.unwelcome(&source)) {
            return self.refuse(now, remote, message, Code::FORBIDDEN, &why.to_string());
        }
        let from_holder = matches!(header.message, MessageType::Replicate | MessageType::Transfer);
        let sender = header.source.filter(|_| from_holder);
        let mut outcome = Err(Code::BAD_REQUEST);
        let mut news: Vec<RecordSummary> = Vec::new();
        let mut behind = Vec::new();
        let mut objects = message.signed_objects().peekable();
        let mut refused = None;
        while let Some(object) = objects.next() {
            let Object::Resource(record) = object else { continue };
            let seconds = match objects.next_if(|o| matches!(o, Object::Expires(_))) {
                Some(Object::Expires(seconds)) => seconds,
                _ => record.lifetime,
            };
            let told = match objects.next_if(|o| matches!(o, Object::Density(_))) {
                Some(Object::Density(density)) => Some(density),
                _ => None,
            };
            let others = match objects.next_if(|o| matches!(o, Object::Holders(_))) {
                Some(Object::Holders(heads)) => heads,
                _ => &[],
            };
            let summary = record.summary();
            let is_new = self.storage.find(&summary).is_none();
            let older = self.storage.holders_of_older(&record);
            outcome = self.take_in(now, record, Duration::from_secs(seconds.into()));
            if let Err(code) = outcome {
                refused.get_or_insert(code);
                continue;
            }
            // The owner has looked, and what it says is the latest; others repeat it.
            if told.is_some() || !from_holder {
                self.storage.told(&summary, told.unwrap_or_default());
            }
            // Whom we need not offer it to.
            let others = is_new.then(|| holders::heads(others)).into_iter().flatten();
            let sender = sender.iter().map(|sender| sender.key().head());
            self.storage.held_also_by(now, &summary, sender.chain(others));
            if is_new {
                news.push(summary);
                behind.push(older);
            }
        }
        self.spread(now, &news);
        news.iter().zip(&behind).for_each(|(summary, behind)| self.outdate(now, summary, behind));
        match refused.map_or(outcome, Err) {
            Ok(granted) => self.answer_granted(now, remote, message, granted),
            Err(code) => self.refuse(now, remote, message, code, code.reason()),
        }
    }

    /// Keeps a record that was brought, unless it is about a peer that is not admitted, or of a banned key.
    pub(crate) fn take_in(
        &mut self,
        now: Time,
        record: RecordRef<'_>,
        lifetime: Duration,
    ) -> Result<Duration, Code> {
        let of_peer = crate::storage::concerns_a_peer(record.kind);
        let unwelcome = of_peer && self.unwelcome(&NodeId(record.resource.0)).is_some();
        if unwelcome || self.documents.bans(&record.owner) {
            return Err(Code::FORBIDDEN);
        }
        let policy = self.rules().check(&record)?;
        self.admit_name(now, &record)?;
        self.storage.store(now, record, Arrival { policy, lifetime })
    }

    /// Refresh: extends the life of the versions named, if exactly those are held.
    fn answer_refresh(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let (mut granted, mut missing, mut named) = (None, Vec::new(), 0u8);
        let source = message.header.source.or_else(|| self.peer_at(remote));
        let source = source.filter(|source| self.is_at(*source, remote));
        let mut objects = message.objects().peekable();
        while let Some(object) = objects.next() {
            let Object::RecordSummary(summary) = object else { continue };
            let seconds = match objects.peek() {
                Some(Object::Expires(seconds)) => *seconds,
                _ => 0,
            };
            let kept = self.storage.refresh(now, &summary, Duration::from_secs(seconds.into()));
            match (kept, source) {
                (None, _) => missing.push(named),
                (_, Some(source)) => self.storage.held_also_by(now, &summary, [source.key().head()]),
                _ => {}
            }
            granted = granted.max(kept);
            named = named.saturating_add(1);
        }
        match granted {
            Some(granted) if missing.is_empty() => self.answer_granted(now, remote, message, granted),
            // "Not found" would have it brought to us.
            None if !self.takes_on(now, remote, message, Work::Storing) => {}
            _ => {
                let mut builder = Builder::new(&self.brief_header(remote, message, Code::NOT_FOUND));
                if granted.is_some() {
                    builder.push(&Object::Missing(&missing));
                }
                self.respond(now, remote, message, builder);
            }
        }
    }

    /// Whether our table has this peer at this address: it answered there. What an unsigned request
    /// says of its sender is believed of no one else.
    fn is_at(&self, id: NodeId, address: SocketAddr) -> bool {
        self.standing.as_ref().is_some_and(|s| s.table.has(&Contact { id, address }))
    }

    fn answer_granted(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>, granted: Duration) {
        let mut builder = Builder::new(&self.brief_header(remote, message, Code::OK));
        builder.push(&Object::Expires(granted.as_secs() as u32));
        if message.header.message == MessageType::Refresh {
            let others = self.holders_unknown_to(now, message);
            if !others.is_empty() {
                push_table(&mut builder, true, &others);
            }
        }
        self.respond(now, remote, message, builder);
    }

    /// Carries a record to another peer.
    #[expect(clippy::too_many_arguments, reason = "a record, its way and its purpose")]
    pub(crate) fn send_record(
        &mut self,
        now: Time,
        to: Contact,
        message: MessageType,
        record: RecordRef<'_>,
        lifetime: Duration,
        beside: Beside<'_>,
        purpose: Purpose,
    ) {
        let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
        let fits = beside.holders.len().min((MAX_VALUE - record.value.len()) / HEAD_LEN);
        let others = holders::list(beside.holders[..fits].iter().map(|c| c.id.key().head()));
        let mut objects: SmallVec<[Object<'_>; 4]> =
            smallvec::smallvec![Object::Resource(record), Object::Expires(seconds)];
        if beside.told != Density::default() {
            objects.push(Object::Density(beside.told));
        }
        if fits > 0 {
            objects.push(Object::Holders(&others));
        }
        self.ask_signed(now, (to.address, Some(to.id)), message, &objects, purpose);
    }
}

/// Leaves out of an answer whom the asker says it knows.
pub(crate) fn leave_out_known(message: &Message<'_>, contacts: &mut Vec<Contact>) {
    let known = message.find(object::KNOWN, |o| match o {
        Object::Known(tags) => Some(tags),
        _ => None,
    });
    if let Some(tags) = known.filter(|tags| tags.len() <= MAX_KNOWN * known::TAG_LEN) {
        contacts.retain(|c| !known::lists(tags, message.header.transaction, &c.id));
    }
}

/// What a LookupObject looks for.
pub(crate) fn rlookup(message: &Message<'_>) -> Option<RLookup> {
    message.find(object::RLOOKUP, |o| match o {
        Object::RLookup(lookup) => Some(lookup),
        _ => None,
    })
}

/// Copies the hops a request has passed into its answer.
pub(crate) fn copy_route_log(message: &Message<'_>, builder: &mut Builder) {
    let hops: Vec<RouteHop> = message
        .objects()
        .filter_map(|o| match o {
            Object::RouteHop(hop) => Some(hop),
            _ => None,
        })
        .collect();
    for hop in hops.iter().take(crate::forward::MAX_ROUTE_LOG) {
        if builder.room() >= 80 {
            builder.push(&Object::RouteHop(*hop));
        }
    }
}
