//! Requests of our own: why each was sent, how it is sent, and who is told what became of it.
//!
//! Whoever asks names a [`Purpose`]. The transaction keeps it, and when the answer comes, or none will,
//! the purpose says whose `handle_.._answer` or `handle_.._silence` is next.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use overlay::Evidence;
use wire::p2pp::{
    Builder, Class, Code, Header, Message, MessageType, Object, RecordSummary, TransactionId, known, object,
};
use wire::{Contact, Key, NodeId, RngExt, Socket, Time};

use crate::event::OpId;
use crate::ledger::Function;
use crate::networks::NETWORK;
use crate::node::{Node, millis};
use crate::search::SearchId;
use crate::transaction::{Client, ClientKey, Due, ServerKey};
use crate::tunnel::StreamKey;
use crate::upkeep::NEAR;

/// How long a peer may take over one direct question.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_millis(3_500);

/// Sends of a KeepAlive, and of a question of a search, whose place another takes.
pub(crate) const FEW_SENDS: u8 = 2;

/// Why a request was sent, and so who wants its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    Bootstrap,
    Return,
    Join,
    KeepAlive,
    Word,
    Exchange,
    Near(Key),
    Step(SearchId),
    Recursive(SearchId),
    Forward(ServerKey),
    Store(u64),
    Refresh(u64),
    Offer(Box<[RecordSummary]>),
    Replicate(Box<[RecordSummary]>),
    Tunnel {
        stream: StreamKey,
        passed_on: bool,
    },
    Alive(NodeId),
    Warm(NodeId),
    Attach(NodeId),
    CallBack,
    /// A third peer is to write to whom this purpose names, in this transaction.
    Third(SocketAddr, TransactionId),
    Ping(OpId),
    Tables(OpId),
    Greet(OpId),
    Configure(OpId),
    /// For newer documents of the overlay.
    Document,
    /// For a certificate of this name.
    Enrol(Box<str>),
}

/// Hops that were silent when another one could be asked.
#[derive(Default)]
pub(crate) struct Doubts(BTreeMap<SocketAddr, Time>);

impl Doubts {
    /// Most hops doubted at once; beyond it the oldest doubt is forgotten.
    const CAPACITY: usize = 256;

    /// By then a question whether the hop lives has been answered, or the table knows that it was not.
    const LIFETIME: Duration = Duration::from_secs(10);

    /// Begins to doubt a hop; `false` if it is doubted already.
    fn doubt(&mut self, now: Time, address: SocketAddr) -> bool {
        if self.is_doubted(now, address) {
            return false;
        }
        self.0.retain(|_, at| now.since(*at) < Self::LIFETIME);
        if self.0.len() >= Self::CAPACITY {
            let oldest = self.0.iter().min_by_key(|(_, at)| **at).map(|(a, _)| *a);
            oldest.map(|a| self.0.remove(&a));
        }
        self.0.insert(address, now);
        true
    }

    /// Whether a hop shall be gone round if possible.
    pub(crate) fn is_doubted(&self, now: Time, address: SocketAddr) -> bool {
        self.0.get(&address).is_some_and(|at| now.since(*at) < Self::LIFETIME)
    }

    /// The hop was heard.
    fn dispel(&mut self, address: SocketAddr) {
        if self.0.remove(&address).is_some() && self.0.is_empty() {
            self.0 = BTreeMap::new();
        }
    }
}

fn begin(mut header: Header, objects: &[Object<'_>]) -> (TransactionId, Builder) {
    header.deadline_ms = millis(ANSWER_TIMEOUT);
    let mut builder = Builder::new(&header);
    objects.iter().for_each(|o| {
        builder.push(o);
    });
    (header.transaction, builder)
}

/// Says in a question whom its asker knows, if it knows anybody.
pub(crate) fn push_known<'a>(
    question: &mut Builder,
    transaction: TransactionId,
    ids: impl Iterator<Item = &'a NodeId>,
) {
    let tags = known::list(transaction, ids);
    if !tags.is_empty() {
        question.push(&Object::Known(&tags));
    }
}

/// Whether questions for this purpose name whom they are meant for, and so need no name in the answer.
pub(crate) fn is_brief(purpose: &Purpose) -> bool {
    use Purpose::{KeepAlive, Near, Offer, Refresh, Replicate, Step, Store};
    matches!(purpose, KeepAlive | Near(_) | Step(_) | Store(_) | Refresh(_) | Offer(_) | Replicate(_))
}

impl Purpose {
    /// Whether hops pass the request on, so that others than who was asked may answer.
    pub(crate) fn is_passed_on(&self) -> bool {
        use Purpose::{Forward, Recursive, Tunnel};
        matches!(self, Recursive(_) | Forward(_) | Tunnel { passed_on: true, .. })
    }
}

impl Node {
    // ---- asking --------------------------------------------------------------------------------

    /// A request header with everything this peer always says.
    pub(crate) fn header(&mut self, message: MessageType) -> Header {
        let transaction = TransactionId(self.rng.random());
        let zero = || NodeId(self.config.overlay.hash.digest(b""));
        let mut header = Header::request(message, transaction, self.node_id().unwrap_or_else(zero));
        header.from_peer = !self.is_client();
        match &self.standing {
            Some(standing) => header.overlay = standing.tag,
            None => header.source = None,
        }
        header.config_sequence = self.documents.announced();
        header
    }

    /// Sends a request to one hop and remembers why. If too many are under way, it fails as if nobody
    /// had answered, once the input at hand is dealt with.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn request(
        &mut self,
        now: Time,
        to: (SocketAddr, Option<NodeId>),
        message: MessageType,
        transaction: TransactionId,
        bytes: Vec<u8>,
        deadline: Time,
        purpose: Purpose,
    ) {
        let rto = self.link.round_trips.rto(to.0);
        // The copy, which has no room left for more, is what stays.
        let kept = bytes.clone();
        if self.transactions.start(now, transaction, to, message, kept, rto, deadline, purpose) {
            self.send_meant(now, message, to, bytes);
        }
    }

    /// Sends a P2PP message and books it; what waits for a link is booked when it leaves, by
    /// [`book_links`](Self::book_links).
    pub(crate) fn send_peer(&mut self, now: Time, message: MessageType, remote: SocketAddr, bytes: Vec<u8>) {
        self.send_meant(now, message, (remote, None), bytes);
    }

    /// The same for the peer with this Node-ID, and nobody else who may answer at its address.
    pub(crate) fn send_meant(
        &mut self,
        now: Time,
        message: MessageType,
        (remote, id): (SocketAddr, Option<NodeId>),
        bytes: Vec<u8>,
    ) {
        if !self.may_pass(Socket::Peer, &remote) {
            return self.link.count_drop(NETWORK);
        }
        let function = Function::of(message);
        if !self.link.has_links() {
            self.ledger.sent(now, function, &remote, bytes.len() + self.link.surplus(&remote));
        }
        self.roles.wrote(now, remote);
        let meant = id.map(|id| (id, self.hash()));
        self.link.send_to(now, (remote, meant), bytes, function.label(false));
    }

    /// Asks one peer something small, unsigned, that needs no more than these objects.
    pub(crate) fn ask(
        &mut self,
        now: Time,
        to: (SocketAddr, Option<NodeId>),
        message: MessageType,
        objects: &[Object<'_>],
        purpose: Purpose,
    ) {
        let (transaction, question) = self.question(message, objects);
        self.request(now, to, message, transaction, question.finish(), now + ANSWER_TIMEOUT, purpose);
    }

    /// Asks a peer whether it lives. Twice is enough: whoever is silent is suspected at first, and asked again
    /// before it is gone. In a storm once: nearly all that are silent are gone, and others take their places.
    pub(crate) fn ask_whether_it_lives(&mut self, now: Time, to: (SocketAddr, Option<NodeId>)) {
        // A stranger whose address may be forged gets no more than it sent.
        let is_proven = self.link.proofs.is_proven(now, to.0);
        let table = self.standing.as_ref().map(|s| &s.table);
        let meant = to.1.filter(|id| is_proven && table.is_some_and(|t| t.contains(id)));
        let (transaction, question) = self.brief_question(MessageType::KeepAlive, &[], &[], meant);
        let (bytes, deadline) = (question.finish(), now + ANSWER_TIMEOUT);
        self.request(now, to, MessageType::KeepAlive, transaction, bytes, deadline, Purpose::KeepAlive);
        let sends = if self.churn().is_storm() { 1 } else { FEW_SENDS };
        self.transactions.limit((transaction, to.0), sends);
    }

    /// A question that says whom its asker knows, whoever is asked first. A peer that has us in its table is
    /// told no name: it knows us by our address.
    pub(crate) fn brief_question(
        &mut self,
        message: MessageType,
        objects: &[Object<'_>],
        known: &[Contact],
        to: Option<NodeId>,
    ) -> (TransactionId, Builder) {
        let table = self.standing.as_ref().map(|s| &s.table);
        let nameless = to.is_some_and(|id| table.is_some_and(|t| t.is_mutual(&id)));
        let mut header = self.header(message);
        header.source = header.source.filter(|_| !nameless);
        let (transaction, mut builder) = begin(header, objects);
        let others = known.iter().map(|c| &c.id).filter(|id| Some(**id) != to);
        push_known(&mut builder, transaction, to.iter().chain(others));
        (transaction, builder)
    }

    /// Asks one peer for something that changes its state, signed.
    pub(crate) fn ask_signed(
        &mut self,
        now: Time,
        to: (SocketAddr, Option<NodeId>),
        message: MessageType,
        objects: &[Object<'_>],
        purpose: Purpose,
    ) {
        let (transaction, mut question) = self.question_to_sign(message, objects);
        push_known(&mut question, transaction, to.1.iter().filter(|_| is_brief(&purpose)));
        let bytes = question.sign(&self.identity.peer);
        self.request(now, to, message, transaction, bytes, now + ANSWER_TIMEOUT, purpose);
    }

    /// A request with the time that a direct question has.
    pub(crate) fn question(
        &mut self,
        message: MessageType,
        objects: &[Object<'_>],
    ) -> (TransactionId, Builder) {
        let header = self.header(message);
        begin(header, objects)
    }

    /// The same for a request that will be signed: by its signature it says who sent it.
    pub(crate) fn question_to_sign(
        &mut self,
        message: MessageType,
        objects: &[Object<'_>],
    ) -> (TransactionId, Builder) {
        let header = Header { source: None, ..self.header(message) };
        begin(header, objects)
    }

    // ---- what became of it ---------------------------------------------------------------------

    /// An answer to one of our requests, or to one we forwarded.
    pub(crate) fn handle_response(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let header = message.header;
        // Without a name in it, an answer is shorter than its acknowledgement: nobody gets back more
        // than was sent.
        if let (Class::Response, Some(responder)) = (header.class, header.responder) {
            let ack = header.acknowledgement(responder);
            self.send_peer(now, header.message, remote, Builder::new(&ack).finish());
        }
        self.prove_by_answer(now, remote, header.transaction);
        self.doubts.dispel(remote);
        let Some(client) = self.transactions.client(header.transaction, remote) else {
            return self.handle_direct_answer(now, remote, message);
        };
        if header.code == Code::PROOF_REQUIRED {
            return self.prove_ourselves(now, remote, message);
        }
        let expected = client.id;
        let Some(client) = self.transactions.answered(header.transaction, remote) else { return };
        let rtt = client.rtt(now);
        if let Some(rtt) = rtt {
            self.link.round_trips.measured(now, remote, rtt);
        }
        if let Some(address) = message.find(object::OBSERVED_ADDRESS, |o| match o {
            Object::ObservedAddress(address) => Some(address),
            _ => None,
        }) {
            self.learn_own_address(now, remote, address);
        }
        let is_direct = !client.purpose.is_passed_on();
        let named = if is_direct { header.responder } else { expected };
        let id = named.or_else(|| self.mutual_responder(now, &client, message));
        if id.into_iter().chain(header.responder).any(|id| self.is_banned(&id)) {
            return self.handle_silence(now, client, true);
        }
        if is_direct {
            self.hear_of_document(now, (remote, header.responder), header.config_sequence);
        }
        let is_known = |id: NodeId| self.standing.as_ref().is_some_and(|s| s.table.contains(&id));
        // Strangers met on a search wait for its end: it tells who of them is worth knowing.
        let may_enter = match client.purpose {
            Purpose::Step(search) => self.is_around_us(search) || id.is_some_and(is_known),
            _ => true,
        };
        let is_peer = (header.from_peer || !is_direct) && may_enter;
        self.learn_alive(now, remote, id, expected, is_peer, rtt);
        if let Some(id) = id {
            let mutual = header.responder.is_none() && header.code != Code::ONE_SIDED;
            self.note_mutual(&client.purpose, &id, mutual);
        }
        // Whoever left out its name is who was asked.
        let mut named = *message;
        named.header.responder = named.header.responder.or(id.filter(|_| is_direct));
        self.handle_answer(now, remote, client.purpose, &named, client.first_sent, rtt);
    }

    /// A hop has a request of ours, or one that we passed on, and will see to it.
    pub(crate) fn handle_acknowledgement(
        &mut self,
        now: Time,
        remote: SocketAddr,
        transaction: TransactionId,
    ) {
        self.prove_by_answer(now, remote, transaction);
        let key = (transaction, remote);
        let Some((client, rtt)) = self.transactions.acknowledged(now, key) else { return };
        let (id, purpose) = (client.id, client.purpose.clone());
        self.doubts.dispel(remote);
        if let Some(rtt) = rtt {
            self.link.round_trips.measured(now, remote, rtt);
        }
        self.learn_alive(now, remote, id, id, true, rtt);
        if let Purpose::Forward(served) = purpose
            && self.passed_on(served)
        {
            self.transactions.end(key);
        }
    }

    /// A hop is silent that another one could replace: it is asked whether it lives, and gone round until
    /// it is heard.
    fn handle_hop_silence(&mut self, now: Time, key: ClientKey) {
        let Some(client) = self.transactions.client(key.0, key.1) else { return };
        let (id, purpose) = (client.id, client.purpose.clone());
        let replaced = match purpose {
            Purpose::Forward(served) => self.hedge_forward(now, served),
            Purpose::Recursive(search) => self.hedge_search(now, search),
            Purpose::Word => self.prove_word(now, id),
            _ => false,
        };
        if !replaced && let Some(due) = self.transactions.insist(now, key) {
            return self.handle_due(now, due);
        }
        self.ask_whether_alive(now, key.1, id);
    }

    /// Nobody listens where a request was sent, says the network.
    pub(crate) fn handle_refusal(&mut self, now: Time, key: ClientKey) {
        let Some(due) = self.transactions.unreachable(now, key) else { return };
        if let Due::Failed { client, dead: false } = due {
            self.ask_whether_alive(now, client.remote, client.id);
            match client.purpose {
                // As many first hops are tried as are silent, and not only as many as there are attempts.
                Purpose::Recursive(search) if self.hedge_search(now, search) => {}
                _ => self.handle_silence(now, client, false),
            }
        } else {
            self.handle_due(now, due);
        }
    }

    /// A hop that was gone round is asked itself, once, whether it lives: that decides whether it stays in
    /// the table.
    fn ask_whether_alive(&mut self, now: Time, address: SocketAddr, id: Option<NodeId>) {
        if self.doubts.doubt(now, address) {
            self.ask_whether_it_lives(now, (address, id));
        }
    }

    /// Who answers a question of ours knew a random number that only travelled to its address. The
    /// number of a request that we pass on is the originator's: knowing it proves nothing.
    pub(crate) fn prove_by_answer(&mut self, now: Time, remote: SocketAddr, transaction: TransactionId) {
        let client = self.transactions.client(transaction, remote);
        if client.is_some_and(|c| !matches!(c.purpose, Purpose::Forward(_))) {
            self.link.proofs.prove(now, remote);
        }
    }

    /// A peer that was asked by its name has said whether it has us in its table: if so without its own.
    fn note_mutual(&mut self, purpose: &Purpose, id: &NodeId, mutual: bool) {
        if let Some(standing) = self.standing.as_mut().filter(|_| is_brief(purpose)) {
            standing.table.note_mutual(id, mutual);
        }
    }

    /// Who answered without a name: a peer that we asked by its own, and that has us in its table. One that
    /// has not, and was asked without our name, is asked again with it.
    fn mutual_responder(
        &mut self,
        now: Time,
        client: &Client<Purpose>,
        message: &Message<'_>,
    ) -> Option<NodeId> {
        let asked = client.id.filter(|_| is_brief(&client.purpose))?;
        if client.purpose != Purpose::KeepAlive || message.header.code != Code::NOT_FOUND {
            return Some(asked);
        }
        self.note_mutual(&client.purpose, &asked, false);
        self.ask_whether_it_lives(now, (client.remote, client.id));
        None
    }

    /// Repeats a request with the cookie that proves our address.
    fn prove_ourselves(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let transaction = message.header.transaction;
        let Some(cookie) = message.find(object::COOKIE, |o| match o {
            Object::Cookie(cookie) => Some(cookie),
            _ => None,
        }) else {
            return;
        };
        let Some(client) = self.transactions.client(transaction, remote) else { return };
        let Ok(original) = Message::parse(&client.bytes) else { return };
        if original.objects().any(|o| matches!(o, Object::Cookie(_))) {
            return; // It did not believe us the first time: no loop.
        }
        let bytes = Builder::resume(&original).with(&Object::Cookie(cookie)).finish();
        let kind = client.message;
        self.transactions.restart(now, (transaction, remote), bytes.clone());
        self.send_peer(now, kind, remote, bytes);
    }

    /// Books that a peer lives, or that another one lives at its address.
    fn learn_alive(
        &mut self,
        now: Time,
        address: SocketAddr,
        id: Option<NodeId>,
        expected: Option<NodeId>,
        is_peer: bool,
        rtt: Option<Duration>,
    ) {
        let Some(id) = id else { return };
        if let Some(expected) = expected.filter(|e| *e != id) {
            self.peer_failed(now, &expected, address);
        }
        let Some(standing) = &mut self.standing else { return };
        if is_peer {
            standing.meet(now, Contact { id, address }, Evidence::Alive { rtt });
        }
    }

    fn handle_answer(
        &mut self,
        now: Time,
        remote: SocketAddr,
        purpose: Purpose,
        message: &Message<'_>,
        sent: Time,
        rtt: Option<Duration>,
    ) {
        match purpose {
            Purpose::Bootstrap => self.handle_bootstrap_answer(now, remote, message),
            Purpose::Return => self.handle_return(now, remote, message),
            Purpose::Join => self.handle_join_answer(now, message),
            Purpose::KeepAlive => self.handle_keep_alive_answer(now, remote, message),
            Purpose::Alive(_) | Purpose::Warm(_) | Purpose::Word => {}
            Purpose::Attach(peer) => self.handle_attach_answer(now, peer, message),
            Purpose::CallBack | Purpose::Third(..) if message.header.code.is_ok() => {}
            Purpose::Third(tested, id) => self.write_back(now, id, tested),
            Purpose::CallBack => self.handle_call_back_refused(now),
            Purpose::Exchange => {
                self.learn_news(now, message);
                if let Some(id) = message.header.responder {
                    self.hear_greeting(now, Contact { id, address: remote }, message, true);
                }
            }
            Purpose::Near(key) => {
                let named = self.contacts_of_answer(message, NEAR);
                if let Some(from) = message.header.responder {
                    self.mention_named(now, &key, &from, &named);
                }
            }
            Purpose::Step(search) => self.handle_step_answer(now, search, remote, message, rtt),
            Purpose::Recursive(search) => {
                self.handle_recursive_answer(now, search, (None, message), sent);
            }
            Purpose::Forward(key) => self.pass_answer_back(now, key, message),
            Purpose::Store(publication) => {
                self.handle_store_answer(now, publication, remote, message);
            }
            Purpose::Refresh(publication) => {
                self.handle_refresh_answer(now, publication, remote, message);
            }
            Purpose::Offer(offered) => self.handle_offer_answer(now, &offered, remote, message),
            Purpose::Replicate(sent) => {
                if let Some(holder) = message.header.responder.filter(|_| message.header.code.is_ok()) {
                    sent.iter().for_each(|s| self.storage.held_also_by(now, s, [holder.key().head()]));
                }
            }
            Purpose::Tunnel { stream, .. } => self.handle_tunnel_answer(now, stream, message.header.code),
            Purpose::Ping(op) => self.handle_ping_answer(now, op, remote, message, rtt),
            Purpose::Tables(op) => self.handle_tables_answer(now, op, message),
            Purpose::Greet(op) => self.handle_greeting_answer(now, op, remote, message),
            Purpose::Configure(op) => self.handle_configure_answer(op, message),
            Purpose::Document => self.handle_document_answer(now, remote, message),
            Purpose::Enrol(aor) => self.handle_enrol_answer(now, &aor, message),
        }
    }

    pub(crate) fn handle_due(&mut self, now: Time, due: Due<Purpose>) {
        match due {
            Due::Resend { to, bytes, message } => self.send_meant(now, message, to, bytes),
            Due::Silent(key) => self.handle_hop_silence(now, key),
            Due::Failed { client, dead } => self.handle_silence(now, client, dead),
        }
    }

    /// A request of ours has no answer and will get none.
    pub(crate) fn handle_silence(&mut self, now: Time, client: Client<Purpose>, dead: bool) {
        if let (true, Some(id)) = (dead, client.id) {
            self.peer_failed(now, &id, client.remote);
        }
        match client.purpose {
            Purpose::Bootstrap | Purpose::Return | Purpose::Join | Purpose::KeepAlive => {}
            Purpose::Exchange | Purpose::Near(_) | Purpose::Attach(_) => {}
            Purpose::Word => drop(self.prove_word(now, client.id)),
            Purpose::CallBack => self.handle_call_back_refused(now),
            Purpose::Third(tested, id) => self.write_back(now, id, tested),
            Purpose::Warm(peer) => self.let_cool(&peer),
            Purpose::Offer(_) | Purpose::Replicate(_) => {}
            Purpose::Step(search) => self.handle_step_silence(now, search, client.id),
            Purpose::Recursive(search) => self.handle_recursive_silence(now, search),
            Purpose::Forward(key) => self.reroute(now, key),
            Purpose::Store(publication) | Purpose::Refresh(publication) => {
                self.handle_holder_silence(now, publication, client.remote);
            }
            Purpose::Tunnel { stream, .. } => self.handle_tunnel_silence(now, stream),
            Purpose::Alive(peer) => self.handle_peer_lost(now, peer),
            Purpose::Document => self.lose_document(now, client.remote),
            Purpose::Enrol(aor) => {
                let why = format!("the authority does not answer at {}", client.remote);
                self.name_not_given(now, &aor, &why);
            }
            Purpose::Ping(op) | Purpose::Tables(op) | Purpose::Greet(op) | Purpose::Configure(op) => {
                self.failed(op, Code::TIMEOUT.0, format!("no answer from {}", client.remote));
            }
        }
    }
}
