//! Clients and the peers that carry them.
//!
//! A client introduces itself with a signed Join whose header says that it is no peer. The peer keeps
//! it for three minutes after it was heard last, passes on to it what is routed to its identity, and
//! keeps it out of every table. Towards the client the [`overlay::Attached`] view chooses the peers and
//! keeps the links warm; its contact record names them, so that callers go through them at once.
//!
//! Here too: links that somebody wants kept warm (buddies, in time), and the test whether strangers
//! reach us. *Call me back* is a KeepAlive with that wish: the peer asked sends a KeepAlive with our
//! address to one of its own peers, and that one writes to us, once. Both do so only for an address
//! that is proven, at most once in two seconds, and with no more bytes than the question had, so that
//! nobody is flooded by it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use overlay::Evidence;
use wire::p2pp::{
    AddressInfo, Builder, Code, Header, Message, MessageType, Object, RequestOptions, TransactionId, object,
};
use wire::{Contact, NodeId, RngExt, Time};

use crate::event::Level;
use crate::node::{Alarm, Node};
use crate::request::{ANSWER_TIMEOUT, Purpose};
use crate::role::Role;
use crate::search::{For, Want};
use crate::whereabouts::Whereabouts;

/// Most clients a peer carries: 9 million clients on 1 million peers, three each, are 27.
const MAX_CLIENTS: usize = 64;

/// A client not heard for this time is gone: seven of its questions.
const CLIENT_LIFETIME: Duration = Duration::from_secs(180);

/// Most links kept warm on somebody's wish.
const MAX_WARM: usize = 64;

/// How long the contact record waits for the other attachments.
const SETTLE: Duration = Duration::from_secs(3);

/// Least time between two KeepAlives sent because somebody asked for them.
const CALL_BACK_GAP: Duration = Duration::from_secs(2);

/// The clients a peer carries, and the links it keeps warm.
#[derive(Debug, Default)]
pub(crate) struct Attachments {
    clients: BTreeMap<NodeId, Client>,
    warm: BTreeMap<NodeId, (SocketAddr, Time)>,
    called_back: Option<Time>,
    /// The request by which we asked to be called back.
    testing: Option<TransactionId>,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    address: SocketAddr,
    heard: Time,
    /// The uptime in its Join: a later Join has more.
    uptime: u32,
}

impl Attachments {
    /// A client that is attached here.
    pub(crate) fn client(&self, now: Time, id: &NodeId) -> Option<Contact> {
        let client = self.clients.get(id).filter(|c| now.since(c.heard) < CLIENT_LIFETIME)?;
        Some(Contact { id: *id, address: client.address })
    }

    /// Forgets these peers.
    pub(crate) fn shut_out(&mut self, banned: &[NodeId]) {
        self.clients.retain(|id, _| !banned.contains(id));
    }

    /// How many clients are attached here.
    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// How many links are kept warm.
    pub(crate) fn warm(&self) -> usize {
        self.warm.len()
    }

    /// Takes a client, or says why not. A recorded Join that comes from elsewhere while its client is
    /// here does not take the client's place: it is no younger than the one that we have.
    fn attach(
        &mut self,
        now: Time,
        id: NodeId,
        address: SocketAddr,
        uptime: u32,
    ) -> Result<(), (Code, &'static str)> {
        self.clients.retain(|_, c| now.since(c.heard) < CLIENT_LIFETIME);
        match self.clients.get(&id) {
            Some(known) if known.address != address && uptime <= known.uptime => {
                return Err((Code::REJECTED, "a later Join came from elsewhere"));
            }
            None if self.clients.len() >= MAX_CLIENTS => {
                return Err((Code::USE_OTHER_PEER, "too many clients"));
            }
            _ => {}
        }
        self.clients.insert(id, Client { address, heard: now, uptime });
        Ok(())
    }

    /// Whether this is a client of ours, heard now.
    fn heard(&mut self, now: Time, id: &NodeId, address: SocketAddr) -> bool {
        let client = self.clients.get_mut(id).filter(|c| c.address == address);
        client.map(|c| c.heard = now).is_some()
    }

    /// A client said goodbye.
    pub(crate) fn detach(&mut self, id: &NodeId, address: SocketAddr) {
        if self.clients.get(id).is_some_and(|c| c.address == address) {
            self.clients.remove(id);
        }
    }
}

impl Node {
    /// Whether this node is a client now.
    pub(crate) fn is_client(&self) -> bool {
        self.roles.role() == Role::Client
    }

    // ---- the peer's side -----------------------------------------------------------------------

    /// A client wants to be attached here; its Join is signed, and its address must be proven.
    pub(crate) fn answer_attach(
        &mut self,
        now: Time,
        remote: SocketAddr,
        message: &Message<'_>,
        source: NodeId,
    ) {
        if self.is_client() {
            return self.refuse(now, remote, message, Code::USE_OTHER_PEER, "not a peer");
        }
        if !self.link.proofs.is_proven(now, remote) {
            return self.demand_proof(now, remote, message);
        }
        let uptime = message.find(object::PEER_INFO, |o| match o {
            Object::PeerInfo(info) => info.uptime,
            _ => None,
        });
        if let Err((code, why)) = self.attachments.attach(now, source, remote, uptime.unwrap_or(0)) {
            return self.refuse(now, remote, message, code, why);
        }
        let mut builder = Builder::new(&self.answer_header(message, Code::OK));
        builder.push(&Object::ObservedAddress(remote));
        builder.push(&Object::Expires(CLIENT_LIFETIME.as_secs() as u32));
        self.respond(now, remote, message, builder);
    }

    /// Answers KeepAlive. A client learns whether it is still attached.
    pub(crate) fn answer_keep_alive(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let header = message.header;
        let lists = message.objects().any(|o| matches!(o, Object::Known(_)));
        if lists && header.from_peer && (header.source.is_none() || self.is_meant(message)) {
            return self.answer_briefly(now, remote, message);
        }
        let mut code = Code::OK;
        for object in message.objects() {
            match object {
                // Either makes us write to somebody else.
                Object::RequestOptions(RequestOptions { call_back: true, .. }) | Object::AddressInfo(_)
                    if !self.link.proofs.is_proven(now, remote) =>
                {
                    return self.demand_proof(now, remote, message);
                }
                Object::RequestOptions(options) if options.call_back => {
                    let asked = self.have_called_back(now, remote, &header);
                    code = if asked { Code::OK } else { Code::NOT_FOUND };
                }
                Object::AddressInfo(info) => {
                    let wrote = header.from_peer && self.call_back(now, header.transaction, info.address);
                    code = if wrote { Code::OK } else { Code::NOT_FOUND };
                }
                _ => {}
            }
        }
        let attached = !header.from_peer
            && header.source.is_some_and(|source| self.attachments.heard(now, &source, remote));
        let mut builder = Builder::new(&self.answer_header(message, code));
        if attached {
            builder.push(&Object::Expires(CLIENT_LIFETIME.as_secs() as u32));
        }
        self.respond(now, remote, message, builder);
    }

    /// Answers a KeepAlive of a peer that knows whom it asks, without our name, and says whether it is in our
    /// table. Whoever says no name and is not, or means another, asks again in full.
    fn answer_briefly(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let code = match (
            self.is_meant(message) && self.is_mutual(remote, &message.header),
            message.header.source,
        ) {
            (true, _) => Code::OK,
            (false, Some(_)) => Code::ONE_SIDED,
            (false, None) => Code::NOT_FOUND,
        };
        let mut header = self.answer_header(message, code);
        header.responder = None;
        self.respond(now, remote, message, Builder::new(&header));
    }

    /// Asks a peer of our table, if possible one of another network than ours, to write to `remote`.
    ///
    /// The transaction's number goes all the way, so that the one who asked knows by what it is reached.
    fn have_called_back(&mut self, now: Time, remote: SocketAddr, header: &Header) -> bool {
        if !self.may_call_back(now) {
            return false;
        }
        let Some(standing) = self.standing.as_ref().filter(|_| !self.is_client()) else { return false };
        let mut others: Vec<Contact> = standing.table.contacts().iter().map(|e| e.contact).collect();
        others.retain(|c| c.address != remote && Some(c.id) != header.source);
        if others.iter().any(|c| !same_network(c.address.ip(), remote.ip())) {
            others.retain(|c| !same_network(c.address.ip(), remote.ip()));
        }
        if others.is_empty() {
            return false;
        }
        let third = others[self.rng.random_range(0..others.len())];
        self.attachments.called_back = Some(now);
        let question = self.header(MessageType::KeepAlive);
        let question = Header { transaction: header.transaction, ..question };
        let object = Object::AddressInfo(AddressInfo::host(remote));
        let bytes = Builder::new(&question).with(&object).finish();
        let to = (third.address, Some(third.id));
        let deadline = now + ANSWER_TIMEOUT;
        let (id, purpose) = (header.transaction, Purpose::Third(remote, header.transaction));
        self.request(now, to, MessageType::KeepAlive, id, bytes, deadline, purpose);
        true
    }

    /// Another peer asks us to write to an address. `false` if we were asked just now.
    fn call_back(&mut self, now: Time, transaction: TransactionId, address: SocketAddr) -> bool {
        let may = self.may_call_back(now);
        if may {
            self.attachments.called_back = Some(now);
            self.write_back(now, transaction, address);
        }
        may
    }

    /// One KeepAlive, shorter than the question that asks for it. Of the third peer it proves something to
    /// whom it reaches. Should the third peer not write, or be gone, we do: since it has written to us, that
    /// tells it that nothing is proven.
    pub(crate) fn write_back(&mut self, now: Time, transaction: TransactionId, address: SocketAddr) {
        let word = Header { transaction, ..self.header(MessageType::KeepAlive) };
        self.send_peer(now, MessageType::KeepAlive, address, Builder::new(&word).finish());
    }

    fn may_call_back(&self, now: Time) -> bool {
        self.attachments.called_back.is_none_or(|at| now.since(at) >= CALL_BACK_GAP)
    }

    // ---- the client's side ---------------------------------------------------------------------

    /// Asks a peer to carry us.
    pub(crate) fn attach_to(&mut self, now: Time, peer: Contact) {
        let info = Object::PeerInfo(self.own_info(now));
        let to = (peer.address, Some(peer.id));
        self.ask_signed(now, to, MessageType::Join, std::slice::from_ref(&info), Purpose::Attach(peer.id));
    }

    /// A peer carries us now, or will not.
    pub(crate) fn handle_attach_answer(&mut self, now: Time, peer: NodeId, message: &Message<'_>) {
        if !message.header.code.is_ok() {
            if let Some(standing) = &mut self.standing {
                standing.table.handle_failure(now, &peer);
            }
            return;
        }
        if !self.membership.online {
            self.come_online(now);
        }
        self.timers.set(Alarm::Attached, now + SETTLE);
    }

    /// A peer that carries us has answered; if it has forgotten us, we introduce ourselves again.
    pub(crate) fn handle_keep_alive_answer(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let carried = message.objects().any(|o| matches!(o, Object::Expires(_)));
        if !self.is_client() || carried {
            return;
        }
        let Some(standing) = &self.standing else { return };
        if let Some(id) = message.header.responder.filter(|id| standing.table.contains(id)) {
            self.attach_to(now, Contact { id, address: remote });
        }
    }

    /// The peers that carry us, if we are a client.
    fn carriers(&self) -> Vec<Contact> {
        match &self.standing {
            Some(standing) if self.is_client() => standing.table.neighbors(),
            _ => Vec::new(),
        }
    }

    /// What our contact record shall say.
    pub(crate) fn whereabouts(&self) -> Whereabouts {
        Whereabouts {
            addresses: self.own_addresses(),
            carriers: self.carriers(),
            prekeys: self.tunnels.letters().map(|letters| letters.prekeys()),
        }
    }

    // ---- the role ------------------------------------------------------------------------------

    /// A request arrived. From an address to which we never wrote, it shows that strangers reach us.
    pub(crate) fn note_stranger(&mut self, now: Time, remote: SocketAddr, header: &Header) {
        if !self.roles.has_written(now, remote) {
            self.roles.reached(now);
        } else if self.attachments.testing == Some(header.transaction) {
            // Somebody to whom we wrote before: for that one a NAT may have kept the door open.
            self.roles.test_impossible(now);
        }
    }

    /// Tests whether strangers reach us, and takes the role that follows.
    pub(crate) fn review_role(&mut self, now: Time) {
        if self.membership.online && self.roles.wants_test(now) {
            self.ask_for_call_back(now);
        }
        if let Some(role) = self.roles.decide(now) {
            self.take_role(now, role);
        }
        if let Some(at) = self.roles.next() {
            // Peers that began together shall not all ask at once.
            let apart = self.jitter(Duration::from_secs(4), 0.25, 1.75);
            self.timers.set(Alarm::Role, at.max(now) + apart);
        }
    }

    fn ask_for_call_back(&mut self, now: Time) {
        let peers = self.standing.as_ref().map(|s| s.table.contacts()).unwrap_or_default();
        if peers.is_empty() {
            return self.roles.test_impossible(now);
        }
        let peer = peers[self.rng.random_range(0..peers.len())].contact;
        self.roles.test_begins(now);
        let options = RequestOptions { call_back: true, ..RequestOptions::default() };
        let (id, question) = self.question(MessageType::KeepAlive, &[Object::RequestOptions(options)]);
        self.attachments.testing = Some(id);
        let to = (peer.address, Some(peer.id));
        let deadline = now + ANSWER_TIMEOUT;
        let message = MessageType::KeepAlive;
        self.request(now, to, message, id, question.finish(), deadline, Purpose::CallBack);
    }

    /// The peer we asked to have us called back has nobody who could, or did not answer.
    pub(crate) fn handle_call_back_refused(&mut self, now: Time) {
        self.roles.test_impossible(now);
    }

    /// Becomes a peer or a client, through the peers we know.
    fn take_role(&mut self, now: Time, role: Role) {
        self.log(Level::Info, "role", format!("now a {}", role.name()));
        if role == Role::Client {
            self.hand_over(now);
            self.say_goodbye(now);
        }
        let Some(standing) = &self.standing else { return };
        let known: Vec<Contact> = standing.table.contacts().iter().map(|e| e.contact).collect();
        let (id, options) = (standing.id, standing.options.clone());
        let table = self.new_table(now, id, &options, role);
        self.standing.as_mut().expect("seen above").table = table;
        match role {
            Role::Client => {
                self.storage = self.empty_storage(options.hash);
                for contact in known {
                    self.learn(now, contact, Evidence::Alive { rtt: None });
                }
            }
            Role::Peer => {
                self.search_with_seeds(now, *id.key(), Want::Peers, For::Join, &known);
                self.announce_contact(now);
            }
        }
    }

    // ---- links kept warm -----------------------------------------------------------------------

    /// Keeps the way to a peer open through the NATs between, until told otherwise. `false` if too
    /// many links are kept already.
    pub fn keep_warm(&mut self, now: Time, peer: Contact) -> bool {
        let room = self.attachments.warm.len() < MAX_WARM || self.attachments.warm.contains_key(&peer.id);
        if room {
            let first = now + self.jitter(overlay::attached::KEEP_WARM, 0.0, 1.0);
            self.attachments.warm.insert(peer.id, (peer.address, first));
            self.plan_warmth();
        }
        room
    }

    /// How many links are kept warm on somebody's wish.
    pub fn links_kept_warm(&self) -> usize {
        self.attachments.warm()
    }

    /// No longer keeps the way to a peer open.
    pub fn let_cool(&mut self, peer: &NodeId) {
        self.attachments.warm.remove(peer);
    }

    fn plan_warmth(&mut self) {
        if let Some(at) = self.attachments.warm.values().map(|(_, at)| *at).min() {
            self.timers.set(Alarm::Warmth, at);
        }
    }

    /// Writes to the peers whose links are due. Who does not answer is no longer written to: whoever
    /// wants the link finds the peer anew.
    pub(crate) fn warm_links(&mut self, now: Time) {
        let due = |(_, (_, at)): &(&NodeId, &(SocketAddr, Time))| *at <= now;
        let all = self.attachments.warm.iter().filter(due);
        let links: Vec<Contact> =
            all.map(|(id, (address, _))| Contact { id: *id, address: *address }).collect();
        for peer in links {
            let next = now + self.jitter(overlay::attached::KEEP_WARM, 0.9, 1.1);
            self.attachments.warm.insert(peer.id, (peer.address, next));
            let to = (peer.address, Some(peer.id));
            self.ask(now, to, MessageType::KeepAlive, &[], Purpose::Warm(peer.id));
        }
        self.plan_warmth();
    }
}

/// Whether two addresses are of one network, by a short prefix: the same NAT, firewall or provider.
fn same_network(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..2] == b.octets()[..2],
        (IpAddr::V6(a), IpAddr::V6(b)) => a.octets()[..6] == b.octets()[..6],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::HashAlgorithm;

    fn id(n: u32) -> NodeId {
        NodeId(HashAlgorithm::Sha256.digest(&n.to_be_bytes()))
    }

    fn address(n: u16) -> SocketAddr {
        ([192, 0, 2, 1], 7_000 + n).into()
    }

    #[test]
    fn clients_are_bounded_and_forgotten_when_silent() {
        let mut attachments = Attachments::default();
        let now = Time::from_secs(10);
        for n in 0..MAX_CLIENTS as u32 {
            assert_eq!(attachments.attach(now, id(n), address(n as u16), 1), Ok(()));
        }
        assert!(attachments.attach(now, id(999), address(999), 1).is_err());
        let later = now + CLIENT_LIFETIME;
        assert_eq!(attachments.client(later, &id(3)), None);
        assert_eq!(attachments.attach(later, id(999), address(999), 1), Ok(()));
        assert_eq!(attachments.clients(), 1);
    }

    #[test]
    fn a_recorded_join_from_elsewhere_takes_nobodys_place() {
        let mut attachments = Attachments::default();
        let now = Time::from_secs(10);
        attachments.attach(now, id(1), address(1), 20).unwrap();
        assert!(attachments.attach(now, id(1), address(2), 20).is_err());
        assert_eq!(attachments.client(now, &id(1)).unwrap().address, address(1));
        attachments.attach(now, id(1), address(1), 0).expect("it restarted where it was");
        attachments.attach(now, id(1), address(3), 7).expect("its NAT gave it another port");
        assert_eq!(attachments.client(now, &id(1)).unwrap().address, address(3));
    }

    #[test]
    fn only_its_own_address_keeps_a_client_attached_or_takes_it_away() {
        let mut attachments = Attachments::default();
        attachments.attach(Time::ZERO, id(1), address(1), 1).unwrap();
        assert!(!attachments.heard(Time::from_secs(100), &id(1), address(2)));
        assert!(attachments.heard(Time::from_secs(100), &id(1), address(1)));
        attachments.detach(&id(1), address(2));
        assert!(attachments.client(Time::from_secs(270), &id(1)).is_some());
        attachments.detach(&id(1), address(1));
        assert_eq!(attachments.clients(), 0);
    }
}
