//! One whole peer: what arrives, who deals with it, what leaves.
//!
//! A datagram's way through: [`Node::handle_datagram`] asks `link` what it is; a P2PP message is
//! parsed by `wire` and sorted by class below; a request goes to `answer.rs` (we serve it) or
//! `forward.rs` (we pass it on), an answer by `request.rs` to the file that asked: `search.rs`,
//! `publish.rs`, `membership.rs`, `tunnel.rs` or `diagnostics.rs`. A phone's SIP goes to `phones.rs`, which asks
//! `directory.rs` where people are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use link::{Cargo, Endpoint, Provider, Received, Wish};
use overlay::{Evidence, Overlay};
use wire::p2pp::{
    Builder, Class, Code, Density, Header, MAX_DATAGRAM, Message, MessageType, Object, ParseError,
};
use wire::{
    Book, ConnectionId, Contact, Key, NodeId, OwnBook, PublicKey, ResourceId, Rng, RngExt, Seed, Socket,
    Time, Transmit, UnixTime,
};

use crate::attachment::Attachments;
use crate::bans::Unwelcome;
use crate::config::{Config, Identity, OverlayOptions, Saved, User};
use crate::diagnostics::Diagnostics;
use crate::directory::{Directory, home_of};
use crate::document::{Charter, Documents};
use crate::domains::Domains;
use crate::enrolment::Enrolments;
use crate::event::{Event, Level, OpId, Outcome};
use crate::ledger::{Function, Ledger};
use crate::membership::Membership;
use crate::names::Names;
use crate::networks::NETWORK;
use crate::numbers::Numbers;
use crate::operator::Operators;
use crate::phones::LazyPhones;
use crate::pins::Pins;
use crate::publish::Publications;
use crate::request::{Doubts, Purpose};
use crate::role::Roles;
use crate::search::{SearchId, Searches, WIDTH};
use crate::storage::Storage;
use crate::timers::Timers;
use crate::transaction::{ServerKey, Transactions};
use crate::tunnel::Tunnels;

/// Events waiting to be seen by the world, which drains them after every input.
const MAX_EVENTS: usize = 65_536;

/// Alarms of the parts that have no clockwork of their own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Alarm {
    /// Ask the bootstrap addresses again.
    Bootstrap,
    /// Send Joins again.
    Join,
    /// Wishes of the overlay that had to wait for the byte budget.
    Upkeep,
    /// A search has taken too long.
    Search(SearchId),
    /// A recursive search takes longer than usual: send another copy beside.
    Hedge(SearchId),
    /// Publish, refresh or retry a record of ours.
    Publication(u64),
    /// See that what we hold is held by the right peers.
    Repair,
    /// Ask lost peers whether they are back.
    Merge,
    /// Expire records, and other housekeeping.
    Housekeeping,
    /// Look up a random key.
    Probe,
    /// See whether the peers of our calls live.
    Liveness,
    /// See whether this is a peer or a client.
    Role,
    /// Whom a client is attached to has changed.
    Attached,
    /// Links that are kept warm.
    Warmth,
    /// Say goodbye is done.
    Left,
    /// Ask authorities for names, and what they took back.
    Names,
    /// The world takes too long to work out a key upon which a name waits.
    Proof(u64),
    /// A domain takes too long to say whose a name is that is called.
    Domain(u64),
    /// The same for one that is looked up.
    DomainOfLookup(OpId),
    /// A call with a time limit has lasted long enough.
    CallLimit(OpId),
}

/// Who this peer is in the overlay it belongs to.
pub(crate) struct Standing {
    pub(crate) options: OverlayOptions,
    pub(crate) id: NodeId,
    pub(crate) table: Box<dyn Overlay>,
    /// Low 32 bits of the hash of the overlay's name.
    pub(crate) tag: u32,
    /// Whom the overlay's document bans, if it bans anybody.
    pub(crate) banned: Option<Arc<BTreeSet<NodeId>>>,
}

impl Standing {
    /// How the overlay measures nearness.
    pub(crate) fn metric(&self) -> overlay::Metric {
        self.options.algorithm.metric()
    }

    /// Whether the table knows so many large networks that a limit for each of them makes sense.
    pub(crate) fn is_diverse(&self) -> bool {
        let large = |e: overlay::Entry| overlay::table::Networks::of(e.contact.address.ip())?.large;
        let all: BTreeSet<u32> = self.table.contacts().into_iter().filter_map(large).collect();
        all.len() > overlay::table::DIVERSE
    }

    /// Whether a Node-ID cost what the overlay asks ([`wire::puzzle`]), and is not banned.
    pub(crate) fn admits(&self, id: &NodeId) -> bool {
        let is_dear = self.options.difficulty == 0 || wire::puzzle::work(id) >= self.options.difficulty;
        is_dear && !self.bans(id)
    }

    /// Whether the overlay's document bans the key of a Node-ID.
    pub(crate) fn bans(&self, id: &NodeId) -> bool {
        self.banned.as_ref().is_some_and(|banned| banned.contains(id))
    }

    /// Tells the overlay what was seen of another peer, unless its Node-ID is not admitted.
    pub(crate) fn meet(&mut self, now: Time, contact: Contact, evidence: Evidence) {
        if contact.id != self.id && self.admits(&contact.id) {
            self.table.handle_peer(now, contact, evidence);
        }
    }

    /// The bounds of walks, where keys have no place.
    pub(crate) fn walks(&self) -> Option<overlay::Walks> {
        self.options.algorithm.walks()
    }

    /// Every peer of our table that is in good standing, the nearest to a key first.
    pub(crate) fn good_contacts(&self, key: &Key) -> Vec<Contact> {
        let entries = self.table.contacts().into_iter();
        let good = entries.filter(|e| e.standing == overlay::Standing::Good);
        let mut contacts: Vec<Contact> = good.map(|e| e.contact).collect();
        contacts.sort_by_key(|c| self.table.rank(key, &c.id));
        contacts
    }

    /// How close to a key the peers nearest to it stand that we know, ourselves among them; nothing where
    /// nobody is near to anything.
    pub(crate) fn density_at(&self, key: &Key) -> Density {
        if self.walks().is_some() {
            return Density::default();
        }
        let mut near = self.table.around(key, WIDTH);
        // Only the identity counts.
        let address = SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, 0));
        near.push(Contact { id: self.id, address });
        Density::of(&self.metric().parts(key, &near))
    }

    /// Whether what is heard of a place tells how densely peers stand there. On a ring with one direction most
    /// that are heard of stand before it, and the few behind it end far away.
    pub(crate) fn hears_whole_places(&self) -> bool {
        self.walks().is_none() && self.metric().progress.is_none()
    }

    /// How much of the space is nearer to us than each of our eight nearest neighbours, the nearest first. On
    /// a ring with one direction those on the other side are as far as can be, and left out; a young peer's
    /// list of either side ends far away, so that more than eight would make the overlay look small. Where
    /// nobody is near to anything, nothing.
    pub(crate) fn parts_around_us(&self) -> Vec<f64> {
        if self.walks().is_some() {
            return Vec::new();
        }
        let neighbors = self.table.neighbors();
        let mut parts = self.metric().parts(self.id.key(), &neighbors);
        if self.table.len() > neighbors.len() {
            parts.retain(|part| *part <= 0.5);
        }
        parts.truncate(WIDTH);
        parts
    }

    /// How many peers the overlay has, by our neighbours and by what was heard of other places.
    pub(crate) fn size(&self, now: Time, heard: &overlay::Size) -> u64 {
        heard.estimate(now, &self.parts_around_us(), self.table.len())
    }

    /// How many there are at most, for whoever judges whether peers stand too close to each other.
    pub(crate) fn size_at_most(&self, now: Time, heard: &overlay::Size) -> u64 {
        heard.at_most(now, &self.parts_around_us(), self.table.len())
    }

    /// How many there are by our neighbours alone: less exact, and never late where the overlay grows.
    pub(crate) fn size_around_us(&self) -> u64 {
        self.size(Time::ZERO, &overlay::Size::default())
    }
}

/// One whole peer.
pub struct Node {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) rng: Rng,
    pub(crate) book: Arc<dyn Book>,
    pub(crate) started: Time,
    pub(crate) unix_start: UnixTime,
    pub(crate) link: Endpoint,
    pub(crate) standing: Option<Standing>,
    pub(crate) transactions: Transactions<Purpose>,
    pub(crate) timers: Timers<Alarm>,
    pub(crate) storage: Storage,
    /// The storage's changes of which the table knows.
    told_changes: u64,
    pub(crate) ledger: Ledger,
    pub(crate) membership: Membership,
    pub(crate) roles: Roles,
    pub(crate) attachments: Attachments,
    pub(crate) searches: Searches,
    pub(crate) publications: Publications,
    pub(crate) directory: Directory,
    pub(crate) pins: Pins,
    pub(crate) documents: Documents,
    pub(crate) names: Names,
    pub(crate) numbers: Numbers,
    pub(crate) domains: Domains,
    pub(crate) enrolments: Enrolments,
    pub(crate) tunnels: Tunnels,
    pub(crate) phones: LazyPhones,
    pub(crate) diagnostics: Diagnostics,
    pub(crate) operators: Operators,
    pub(crate) doubts: Doubts,
    pub(crate) forwards: BTreeMap<ServerKey, Box<crate::forward::Forwarding>>,
    pub(crate) events: VecDeque<Event>,
    transmits: VecDeque<Transmit>,
    next_op: u64,
}

impl Node {
    /// A peer that begins to join at once: through the configured bootstrap addresses and the host
    /// cache, or, having neither, by founding the overlay.
    pub fn new(
        config: Config,
        identity: Identity,
        saved: Saved,
        seed: Seed,
        now: Time,
        unix: UnixTime,
    ) -> Node {
        Node::with_provider(None, config, identity, saved, seed, (now, unix))
    }

    /// The same, with the provider of its links if those are DTLS and TLS: in the name of this identity. A peer
    /// that shall have such links and no provider says nothing and hears nothing.
    pub fn with_provider(
        provider: Option<Arc<dyn Provider>>,
        config: Config,
        identity: Identity,
        saved: Saved,
        seed: Seed,
        (now, unix): (Time, UnixTime),
    ) -> Node {
        let mut rng = seed.rng();
        let home = home_of(&identity, &config);
        let names = config.charter.as_deref().and_then(Charter::names);
        let mut node = Node {
            link: Endpoint::with_links(
                (config.profile, config.links),
                provider,
                &identity.peer,
                Seed::child_of(&mut rng),
            ),
            standing: None,
            transactions: Transactions::new(),
            timers: Timers::default(),
            storage: Storage::new(config.overlay.hash, identity.peer.signatures()),
            told_changes: 0,
            ledger: Ledger::new(now, config.limits()),
            membership: Membership::new(&config, &saved),
            roles: Roles::new(config.role, config.budget_bytes_per_s, now),
            attachments: Attachments::default(),
            searches: Searches::default(),
            publications: Publications::default(),
            directory: Directory::default(),
            pins: Pins::new(&saved.pins),
            documents: Documents::new(config.charter.as_ref()),
            names: Names::new(names.map(Arc::new), &saved.revocations, identity.peer.signatures()),
            numbers: Numbers::default(),
            domains: Domains::default(),
            enrolments: Enrolments::new(&saved.certificates),
            tunnels: Tunnels::default(),
            phones: LazyPhones::new(&config, home, Seed::child_of(&mut rng), now, &saved),
            diagnostics: Diagnostics::default(),
            operators: Operators::new(&saved),
            doubts: Doubts::default(),
            forwards: BTreeMap::new(),
            events: VecDeque::new(),
            transmits: VecDeque::new(),
            next_op: 1,
            started: now,
            unix_start: unix,
            config,
            identity,
            rng,
            book: Arc::new(OwnBook),
        };
        if node.config.tcp {
            node.link.use_streams(node.config.udp);
        }
        node.start(now);
        node.drain(now);
        node
    }

    /// Takes what is kept for long from this book from now on: for worlds that hold many peers.
    pub fn share(&mut self, book: Arc<dyn Book>) {
        if let Some(standing) = &mut self.standing {
            standing.table.share(book.clone());
        }
        self.storage.share(book.clone());
        self.book = book;
    }

    // ---- bytes in ------------------------------------------------------------------------------

    /// Takes what arrived on a socket. If a packet of sound came back to be passed on, it stands
    /// rewritten at the beginning of `bytes`.
    pub fn handle_datagram(
        &mut self,
        now: Time,
        socket: Socket,
        remote: SocketAddr,
        bytes: &mut [u8],
    ) -> Option<media::Forward> {
        if !self.may_pass(socket, &remote) {
            self.link.count_drop(NETWORK);
            return None;
        }
        let forward = match socket {
            Socket::Peer => {
                let received = self.link.handle_datagram(now, remote, bytes);
                let forward = self.handle_received(now, remote, received, bytes);
                self.handle_more_received(now);
                forward
            }
            Socket::PeerStream => {
                self.handle_peer_stream(now, remote, bytes);
                None
            }
            Socket::Media(port) => self.handle_phone_media(now, port, remote, bytes),
            Socket::Sip | Socket::SipStream(_) | Socket::SipTls(_) => {
                self.handle_phone_signalling(now, socket, remote, bytes);
                None
            }
        };
        // Sound passes through without touching anything that would have to be drained.
        if forward.is_none() {
            self.drain(now);
        }
        if forward.is_some_and(|forward| !self.may_pass(forward.socket, &forward.remote)) {
            self.link.count_drop(NETWORK);
            return None;
        }
        forward
    }

    /// Nobody listens at `remote`, says an ICMP port-unreachable that quotes the beginning of what was sent
    /// there from the peer port (RFC 1122, section 4.1.3.3).
    ///
    /// It is a hint. Whoever cannot read what we send does not know the transaction-ID that is quoted, and
    /// without one of ours under way to that very address nothing happens. With it that request, and no
    /// other, is treated as if the hop had been silent for as long as we wait.
    pub fn handle_unreachable(&mut self, now: Time, remote: SocketAddr, quoted: &[u8]) {
        for message in self.link.handle_unreachable(remote, quoted) {
            if let Some(transaction) = Header::quoted_transaction(&message) {
                self.handle_refusal(now, (transaction, remote));
            }
        }
        self.drain(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(due) = self.transactions.pop_due(now) {
            self.handle_due(now, due);
        }
        while let Some(alarm) = self.timers.pop_due(now) {
            self.handle_alarm(now, alarm);
        }
        self.handle_search_timeouts(now);
        if let Some(standing) = &mut self.standing
            && standing.table.poll_timeout().is_some_and(|(at, _)| at <= now)
        {
            standing.table.handle_timeout(now);
        }
        self.link.handle_timeout(now);
        self.handle_more_received(now);
        self.handle_phones_timeout(now);
        self.drain(now);
    }

    /// A stream from the peer port to another peer's stands, whoever opened it.
    pub fn handle_peer_stream_opened(&mut self, now: Time, remote: SocketAddr) {
        if !self.may_pass(Socket::PeerStream, &remote) {
            self.link.count_drop(NETWORK);
            return self.emit(Event::ClosePeerStream(remote));
        }
        self.link.handle_stream_opened(now, remote);
        self.drain(now);
    }

    /// A stream to another peer ended, or could not be opened.
    pub fn handle_peer_stream_closed(&mut self, now: Time, remote: SocketAddr) {
        self.link.handle_stream_closed(now, remote);
        self.drain(now);
    }

    /// A phone's connection ended.
    pub fn handle_stream_closed(&mut self, now: Time, connection: ConnectionId) {
        self.close_phone_stream(now, connection);
        self.drain(now);
    }

    // ---- bytes out -----------------------------------------------------------------------------

    /// The next datagram, or piece of a stream, to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        loop {
            let next = wire::queue::pop_front(&mut self.transmits).or_else(|| self.link.poll_transmit())?;
            if self.may_pass(next.socket, &next.remote) {
                return Some(next);
            }
            self.link.count_drop(NETWORK);
        }
    }

    /// The next thing to tell. To be asked after [`poll_transmit`](Self::poll_transmit), since what leaves may need a
    /// stream.
    pub fn poll_event(&mut self) -> Option<Event> {
        let wish = |wish| match wish {
            Wish::Open(remote) => Event::OpenPeerStream(remote),
            Wish::Close(remote) => Event::ClosePeerStream(remote),
        };
        wire::queue::pop_front(&mut self.events)
            .or_else(|| self.link.poll_stream().map(wish))
            .or_else(|| self.numbers.poll_wanted().map(Event::StretchWanted))
            .or_else(|| self.domains.poll_wanted().map(Event::DomainWanted))
    }

    /// When this peer wants to be woken, and why.
    pub fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        let table = self.standing.as_ref().and_then(|s| s.table.poll_timeout());
        [
            self.transactions.poll_timeout().map(|at| (at, "transaction")),
            self.timers.next().map(|(at, _)| (*at, "alarm")),
            self.searches.poll_timeout().map(|at| (at, "search")),
            table.map(|(at, reason)| (at, reason.name())),
            self.link.poll_timeout().map(|at| (at, "link")),
            self.phones.poll_timeout(),
        ]
        .iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
        .copied()
    }

    /// Whether bytes may go there from this socket, or come from there, as the owner has it for that network.
    pub(crate) fn may_pass(&self, socket: Socket, remote: &SocketAddr) -> bool {
        let networks = self.config.networks.as_ref();
        networks.is_none_or(|networks| networks.let_pass(self.config.profile, socket, remote.ip()))
    }

    // ---- shared by all files -------------------------------------------------------------------

    /// Queues bytes for a phone.
    pub(crate) fn transmit(&mut self, socket: Socket, remote: SocketAddr, bytes: Vec<u8>) {
        self.transmits.push_back(Transmit { socket, remote, bytes });
    }

    pub(crate) fn emit(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        }
    }

    pub(crate) fn log(&mut self, level: Level, target: &'static str, message: String) {
        self.emit(Event::Log { level, target, message });
    }

    pub(crate) fn done(&mut self, op: OpId, outcome: Outcome) {
        self.emit(Event::Done { op, outcome });
    }

    pub(crate) fn failed(&mut self, op: OpId, code: u16, reason: impl Into<String>) {
        self.operators.forget(op);
        self.diagnostics.forget(op);
        self.done(op, Outcome::Failed { code, reason: reason.into() });
    }

    pub(crate) fn new_op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op - 1)
    }

    /// The calendar, as far as this peer knows it.
    pub(crate) fn unix(&self, now: Time) -> UnixTime {
        UnixTime(self.unix_start.0 + now.since(self.started).as_secs())
    }

    /// Who signed a message, if its originator did.
    pub(crate) fn signer(&self, message: &Message<'_>) -> Option<PublicKey> {
        message.signer_by(self.hash(), self.identity.peer.signatures())
    }

    /// A duration between `low` and `high` times `base`, so that peers do not act in step.
    pub(crate) fn jitter(&mut self, base: Duration, low: f64, high: f64) -> Duration {
        base.mul_f64(self.rng.random_range(low..high))
    }

    /// The Node-ID, once the overlay's hash is known.
    pub fn node_id(&self) -> Option<NodeId> {
        self.standing.as_ref().map(|s| s.id)
    }

    /// The tag of the overlay in every header, once it is known.
    pub fn overlay_tag(&self) -> Option<u32> {
        self.standing.as_ref().map(|s| s.tag)
    }

    pub(crate) fn hash(&self) -> wire::HashAlgorithm {
        self.standing.as_ref().map_or(self.config.overlay.hash, |s| s.options.hash)
    }

    /// How many peers hold a record. In a storm a fifth fewer: each copy is handed on several times in the life of
    /// a record, which is most of what a peer sends there.
    pub(crate) fn replicas(&self) -> usize {
        let all = self.standing.as_ref().map_or(5, |s| usize::from(s.options.replicas).max(1));
        if self.churn().is_storm() { all - all / 5 } else { all }
    }

    // ---- the peer port -------------------------------------------------------------------------

    /// Takes a piece of a stream. Sound does not go over streams.
    fn handle_peer_stream(&mut self, now: Time, remote: SocketAddr, mut piece: &[u8]) {
        while let Some((received, mut datagram)) = self.link.handle_piece(now, remote, &mut piece) {
            match received {
                Received::Media => self.link.count_drop("sound over a stream"),
                received => {
                    self.handle_received(now, remote, received, &mut datagram);
                }
            }
        }
    }

    /// Takes what the link has opened beside what it returned.
    fn handle_more_received(&mut self, now: Time) {
        while let Some((remote, more)) = self.link.poll_received() {
            self.handle_received(now, remote, more, &mut []);
        }
    }

    /// Takes a datagram that the link has sorted.
    fn handle_received(
        &mut self,
        now: Time,
        remote: SocketAddr,
        received: Received,
        bytes: &mut [u8],
    ) -> Option<media::Forward> {
        match received {
            Received::P2pp => self.handle_p2pp(now, remote, bytes, None),
            Received::Sealed(sender, message) => self.handle_p2pp(now, remote, &message, Some(sender)),
            Received::Media => return self.handle_peer_media(now, remote, bytes),
            Received::Stun => self.ledger.received(now, Function::Stun, &remote, bytes.len()),
            Received::Link => self.ledger.received(now, Function::Link, &remote, bytes.len()),
            Received::Dropped(_) => {}
        }
        None
    }

    /// Takes a P2PP message; of one that came over a link we know whose link it is.
    fn handle_p2pp(&mut self, now: Time, remote: SocketAddr, bytes: &[u8], sender: Option<PublicKey>) {
        if bytes.len() > MAX_DATAGRAM {
            // Passed on it would be too long for whoever comes next.
            return self.link.count_drop("p2pp too long");
        }
        let mut message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(error) => return self.refuse_unparsed(now, remote, bytes, error),
        };
        let said = message.header;
        message.name_source(self.hash());
        let header = message.header;
        let len = bytes.len() + self.link.overhead() + self.link.surplus(&remote);
        self.ledger.received(now, Function::of(header.message), &remote, len);
        if sender.is_some_and(|key| self.documents.bans(&key)) {
            return self.shut_out(now, remote, &message);
        }
        let sender = sender.filter(|_| self.standing.is_some());
        if sender.is_some_and(|key| !self.is_its_own(remote, &said, key.node_id(self.hash()))) {
            return self.link.count_drop("another's name");
        }
        if self.is_foreign(&header) {
            return self.refuse_foreign(now, remote, &message);
        }
        self.tunnels.heard(now, remote);
        if let (MessageType::Tunnel, Some(key)) = (header.message, sender) {
            self.tunnels.learn_key(self.hash(), key);
        }
        match header.class {
            Class::Request => self.handle_request(now, remote, &message),
            Class::Indication => self.handle_indication(now, remote, &message),
            Class::Response | Class::ResponseAck => self.handle_response(now, remote, &message),
            Class::RequestReceived => self.handle_acknowledgement(now, remote, header.transaction),
            Class::ResponseReceived => {
                if let Some(source) = header.source {
                    self.transactions.answer_received(&(source, header.transaction), remote);
                }
            }
        }
    }

    /// Whether a message that came over the link of a peer says nothing else of who sends it. What others
    /// asked, or answered, and this hop passes on, names them and not it; so does the signature of an operator.
    fn is_its_own(&self, remote: SocketAddr, header: &Header, sender: NodeId) -> bool {
        let is_from = |named: Option<NodeId>| named.is_none_or(|id| id == sender);
        match header.class {
            // What a Tunnel brings over a link is its owner's word, so it must say whose it is.
            Class::Request if header.message == MessageType::Tunnel => {
                header.recursive || header.source == Some(sender)
            }
            Class::Request | Class::Indication => header.recursive || is_from(header.source),
            Class::RequestReceived | Class::ResponseReceived => true,
            Class::Response | Class::ResponseAck => {
                let client = self.transactions.client(header.transaction, remote);
                client
                    .is_none_or(|c| is_from(c.id) && (c.purpose.is_passed_on() || is_from(header.responder)))
            }
        }
    }

    fn is_foreign(&self, header: &Header) -> bool {
        let ours = self.standing.as_ref().map_or(0, |s| s.tag);
        // Who is in no overlay yet may ask which it is, and what holds there.
        let is_free = matches!(header.message, MessageType::Bootstrap | MessageType::GetDocument);
        !is_free && ours != 0 && header.overlay != ours
    }

    /// Drops what a banned peer sends; who asks to be let in is told why it is not.
    fn shut_out(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        self.link.count_drop("banned");
        let header = message.header;
        let asks_in = matches!(header.message, MessageType::Bootstrap | MessageType::Join);
        if asks_in && header.class == Class::Request {
            self.refuse(now, remote, message, Code::FORBIDDEN, &Unwelcome::Banned.to_string());
        }
    }

    /// Tells a stranger from another overlay so, within the bytes it sent.
    fn refuse_foreign(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        self.link.count_drop("other overlay");
        if message.header.class == Class::Request {
            let name = self.standing.as_ref().map(|s| format!("this is the overlay '{}'", s.options.name));
            self.refuse(now, remote, message, Code::WRONG_OVERLAY, &name.unwrap_or_default());
        }
    }

    fn refuse_unparsed(&mut self, now: Time, remote: SocketAddr, bytes: &[u8], error: ParseError) {
        self.link.count_drop(match error {
            ParseError::NotP2pp => "not p2pp",
            ParseError::Version(_) => "p2pp version",
            ParseError::UnknownObject(_) => "p2pp unknown object",
            _ => "p2pp malformed",
        });
        if let ParseError::Version(theirs) = error {
            return match Header::answer_to_other_version(bytes) {
                Some(answer) => self.send_peer(now, MessageType::Bootstrap, remote, answer),
                None => self.differ_in_version(remote, &format!("version {theirs}")),
            };
        }
        let (ParseError::UnknownObject(detail), Ok((header, _, _))) = (error, Header::parse(bytes)) else {
            return;
        };
        let Some(id) = self.node_id().filter(|_| header.class == Class::Request) else { return };
        let object = Object::Error { code: Code::UNKNOWN_OBJECT, detail: detail.into(), reason: "" };
        let answer = Builder::new(&header.answer(Code::UNKNOWN_OBJECT, id)).with(&object).finish();
        if answer.len() <= bytes.len() || self.link.proofs.is_proven(now, remote) {
            self.send_peer(now, header.message, remote, answer);
        }
    }

    fn handle_alarm(&mut self, now: Time, alarm: Alarm) {
        match alarm {
            Alarm::Bootstrap => self.bootstrap(now),
            Alarm::Join => self.send_joins(now),
            Alarm::Upkeep => {}
            Alarm::Search(search) => self.handle_search_deadline(now, search),
            Alarm::Hedge(search) => self.handle_search_hedge(now, search),
            Alarm::Publication(id) => self.handle_publication_due(now, id),
            Alarm::Repair => self.repair(now),
            Alarm::Merge => self.look_for_lost(now),
            Alarm::Housekeeping => self.housekeeping(now),
            Alarm::Probe => self.probe(now),
            Alarm::Liveness => self.check_liveness(now),
            Alarm::Role => self.review_role(now),
            Alarm::Attached => self.announce_contact_if_moved(now),
            Alarm::Warmth => self.warm_links(now),
            Alarm::Names => self.look_after_names(now),
            Alarm::Proof(id) => self.give_up_proof(now, id),
            Alarm::Domain(id) => self.settle_without_domain(now, id),
            Alarm::DomainOfLookup(op) => self.look_up_unproven(now, op),
            Alarm::Left => self.emit(Event::Left),
            Alarm::CallLimit(op) => self.hang_up_op(now, op),
        }
    }

    fn housekeeping(&mut self, now: Time) {
        self.storage.expire(now);
        self.drop_lapsed_names(now);
        self.tunnels.forget_old(now);
        self.rotate_prekeys(now);
        self.update_pace(now);
        self.keep_hosts(now);
        self.hurry_refreshes(now);
        let next = self.jitter(Duration::from_secs(30), 0.75, 1.25);
        self.timers.set(Alarm::Housekeeping, now + next);
    }

    /// Moves what the children want sent and said into our own queues.
    pub(crate) fn drain(&mut self, now: Time) {
        while let Some(client) = self.transactions.pop_refused() {
            self.handle_silence(now, client, false);
        }
        self.drain_phones(now);
        if self.storage.changes() != self.told_changes {
            self.tell_holdings(now);
        }
        self.drain_upkeep(now);
        self.book_links(now);
    }

    /// The bounds of walks, where keys have no place.
    pub(crate) fn walks(&self) -> Option<overlay::Walks> {
        self.standing.as_ref().and_then(Standing::walks)
    }

    /// Books what went over links.
    fn book_links(&mut self, now: Time) {
        for sent in self.link.take_sent() {
            // To answer who asks for a link is no more than it sent, and costs the budget nothing: else whoever
            // asks often enough would use it up.
            let (function, refusal) = match sent.cargo {
                Cargo::Message(label) => Function::of_label(label),
                Cargo::Asking => (Function::Link, false),
                Cargo::Answering => (Function::Link, true),
            };
            let len = sent.len + self.link.surplus(&sent.remote);
            if refusal {
                self.ledger.refused(now, function, &sent.remote, len);
            } else {
                self.ledger.sent(now, function, &sent.remote, len);
            }
        }
    }

    /// Tells the table which keys we hold, where neighbours want to know.
    fn tell_holdings(&mut self, now: Time) {
        self.told_changes = self.storage.changes();
        let Some(standing) = self.standing.as_mut().filter(|s| s.walks().is_some()) else { return };
        let live = self.storage.iter().filter(|s| !s.record.tombstone && s.expires > now);
        let digests = live.map(|s| overlay::gia::digest(s.record.resource.key())).collect();
        standing.table.set_holdings(now, digests);
    }

    /// Adds a user to those this peer serves and announces them.
    pub fn add_user(&mut self, now: Time, user: User) {
        if self.is_user(&user.aor) {
            return;
        }
        self.identity.users.push(user);
        if self.membership.online {
            self.look_after_names(now);
            self.announce_users(now);
        }
        self.drain(now);
    }

    /// What should survive a restart.
    pub fn save(&self) -> Saved {
        Saved {
            hosts: self.hosts(),
            founder: self.is_founder(),
            values: self.publications.kept_values(),
            inbox: self.phones.made().map(|p| p.inbox.iter().cloned().collect()).unwrap_or_default(),
            operator_clocks: self.operators.clocks(),
            pins: self.pins.rows(),
            revocations: self.names.saved_lists(),
            certificates: self.enrolments.saved(),
        }
    }

    /// Whether anything is held at this place.
    pub fn holds(&self, key: &ResourceId) -> bool {
        self.storage.holds(key)
    }

    /// Whether the peer is in the overlay.
    pub fn is_online(&self) -> bool {
        self.membership.online
    }

    /// Maintenance bytes sent since the start, with IP and UDP headers.
    pub fn maintenance_bytes_sent(&self) -> u64 {
        self.ledger.maintenance_sent()
    }

    /// Whether it sends to other peers by UDP.
    pub fn uses_udp(&self) -> bool {
        self.config.udp
    }

    /// Whether it opens streams to other peers, and accepts theirs.
    pub fn uses_tcp(&self) -> bool {
        self.config.tcp
    }

    /// The books.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The public key of the peer.
    pub fn public_key(&self) -> PublicKey {
        self.identity.peer.public()
    }
}

/// A duration as the header's milliseconds.
pub(crate) fn millis(d: Duration) -> u16 {
    u16::try_from(d.as_millis()).unwrap_or(u16::MAX).max(1)
}
