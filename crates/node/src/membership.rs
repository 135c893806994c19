//! Being in the overlay: bootstrap (`bootstrap.rs`), join (`join.rs`), leave.
//!
//! A peer asks every bootstrap address and every host of its cache for the overlay's options and some
//! peers, looks itself up through them, and introduces itself with a signed Join to the peers it
//! found nearest. It is online when one of them answered. From then on it keeps its tables (`upkeep.rs`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use overlay::{Attached, Evidence, Overlay};
use wire::p2pp::{AddressInfo, Builder, Message, MessageType, Object, PeerInfo};
use wire::{Contact, HashAlgorithm, Key, NodeId, Time};

use crate::config::{Config, KeptValue, OverlayOptions, Saved};
use crate::event::Event;
use crate::node::{Alarm, Node, Standing, millis};
use crate::request::ANSWER_TIMEOUT;
use crate::role::Role;
use crate::search::WIDTH;
use crate::storage::Storage;

mod bootstrap;
mod join;
mod options;

pub(crate) use bootstrap::HOST_CACHE;
pub(crate) use join::JOINS;
use options::tag_of;

/// Peers around a key that all know each other: four times as many as a search wants named.
const NEAR_A_KEY: f64 = 4.0 * WIDTH as f64;

/// How a peer came to be in the overlay.
pub(crate) struct Membership {
    pub(crate) online: bool,
    joined: Vec<Arc<Contact>>,
    bootstrap: Vec<SocketAddr>,
    hosts: Vec<SocketAddr>,
    hosts_kept: Option<Time>,
    /// It founded its overlay, in this run or an earlier one.
    founder: bool,
    attempts: u32,
    pub(crate) self_lookup: bool,
    /// Why it is not in the overlay, as last said.
    offline: Option<String>,
    leaving: bool,
    values: Vec<KeptValue>,
    /// Peers that may come back.
    pub(crate) lost: crate::merge::Lost,
    /// Word of peers that are gone.
    pub(crate) words: Vec<crate::rumor::Word>,
    /// What searches say about the number of peers.
    pub(crate) size: overlay::Size,
    /// How long sessions last, as those said whom we joined through; sorted.
    told_sessions: Vec<Duration>,
    /// The wish of the overlay that waits for the byte budget, before all that it wished later.
    pub(crate) put_off: Option<Box<overlay::Upkeep>>,
}

impl Membership {
    pub(crate) fn new(config: &Config, saved: &Saved) -> Self {
        Membership {
            online: false,
            joined: Vec::new(),
            bootstrap: config.bootstrap.clone(),
            hosts: saved.hosts.iter().copied().take(HOST_CACHE).collect(),
            hosts_kept: None,
            founder: saved.founder && config.bootstrap.is_empty(),
            attempts: 0,
            self_lookup: false,
            offline: None,
            leaving: false,
            values: saved.values.clone(),
            lost: crate::merge::Lost::default(),
            words: Vec::new(),
            size: overlay::Size::default(),
            told_sessions: Vec::new(),
            put_off: None,
        }
    }

    fn remember_host(&mut self, address: SocketAddr) {
        self.hosts.retain(|h| *h != address);
        self.hosts.reserve_exact(1);
        self.hosts.insert(0, address);
        self.hosts.truncate(HOST_CACHE);
    }
}

impl Node {
    /// Begins: joins through whom it knows, or founds the overlay.
    pub(crate) fn start(&mut self, now: Time) {
        self.timers.set(Alarm::Housekeeping, now + Duration::from_secs(10));
        if self.membership.bootstrap.is_empty() && self.membership.hosts.is_empty() {
            self.found(now);
        } else {
            self.bootstrap(now);
        }
    }

    /// Founds an overlay with the options of the configuration.
    fn found(&mut self, now: Time) {
        let options = self.config.overlay.clone();
        if let Some(reason) = self.lacks_work(&options) {
            return self.stay_offline(reason);
        }
        self.membership.founder = true;
        self.roles.found();
        self.adopt_options(now, options);
        self.come_online(now);
    }

    /// Whether this peer founded its overlay.
    pub(crate) fn is_founder(&self) -> bool {
        self.membership.founder
    }

    /// Takes the overlay's options as ours; the Node-ID follows from its hash.
    fn adopt_options(&mut self, now: Time, options: OverlayOptions) {
        let id = self.public_key().node_id(options.hash);
        let table = self.new_table(now, id, &options, self.roles.role());
        let tag = tag_of(&options.name);
        self.storage = self.empty_storage(options.hash);
        self.standing = Some(Standing { options, id, table, tag, banned: None });
        self.shut_out_banned(now);
    }

    pub(crate) fn empty_storage(&self, hash: HashAlgorithm) -> Storage {
        let mut storage = Storage::new(hash, self.identity.peer.signatures());
        storage.share(self.book.clone());
        storage.honour(self.names.authorities().map(|authority| authority.key).collect());
        storage
    }

    /// An empty table for this role.
    pub(crate) fn new_table(
        &mut self,
        now: Time,
        id: NodeId,
        options: &OverlayOptions,
        role: Role,
    ) -> Box<dyn Overlay> {
        let seed = wire::Seed::child_of(&mut self.rng);
        let base_bits = options.base.max(2).ilog2() as u8;
        let mut table: Box<dyn Overlay> = match role {
            Role::Peer => overlay::build(options.algorithm, id, base_bits, seed, now),
            Role::Client => Box::new(Attached::new(options.algorithm, id, seed)),
        };
        table.share(self.book.clone());
        table.set_capacity(self.config.capacity);
        table
    }

    pub(crate) fn come_online(&mut self, now: Time) {
        self.membership.online = true;
        self.membership.attempts = 0;
        self.emit(Event::Online);
        self.announce(now);
        self.look_after_names(now);
        for kept in std::mem::take(&mut self.membership.values) {
            self.publish_kept(now, kept);
        }
        let repair = self.jitter(self.repair_interval() / 2, 0.5, 1.5);
        self.timers.set(Alarm::Repair, now + repair);
        self.timers.set(Alarm::Role, now + Duration::from_secs(20));
        if let Some(interval) = self.config.probe_interval {
            self.timers.set(Alarm::Probe, now + interval);
        }
    }

    /// Says goodbye to neighbours, with what they should take over.
    pub fn leave(&mut self, now: Time) {
        if !std::mem::replace(&mut self.membership.leaving, true) {
            self.hand_over(now);
            self.say_goodbye(now);
            self.end_all_calls(now, "the peer is shutting down");
            // Long enough for one repetition of the records handed over.
            self.timers.set(Alarm::Left, now + Duration::from_millis(300));
        }
        self.drain(now);
    }

    /// Tells those who may know us that we go.
    pub(crate) fn say_goodbye(&mut self, now: Time) {
        let mut contacts = self.standing.as_ref().map(|s| s.table.acquaintances()).unwrap_or_default();
        contacts.sort_unstable();
        contacts.dedup();
        contacts.truncate(64);
        for contact in contacts {
            let mut header = self.header(MessageType::Leave);
            header.class = wire::p2pp::Class::Indication;
            header.source = None; // The signature says who it is.
            let bytes = Builder::new(&header).sign(&self.identity.peer);
            self.send_meant(now, MessageType::Leave, (contact.address, Some(contact.id)), bytes);
        }
    }

    /// An indication: somebody leaves, or says who is gone.
    pub(crate) fn handle_indication(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        match message.header.message {
            MessageType::Leave => self.handle_leave(now, remote, message),
            MessageType::ExchangeTable => self.hear_word(now, message),
            _ => {}
        }
    }

    fn handle_leave(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let Some(source) = message.header.source else { return };
        if self.signer(message).is_none() {
            return self.link.count_drop("bad signature");
        }
        self.attachments.detach(&source, remote);
        let Some(standing) = &mut self.standing else { return };
        let known = standing.table.contacts().into_iter().find(|e| e.contact.id == source);
        // A goodbye may be a replay. From elsewhere it is not believed, and no call ends by it: whoever
        // leaves ends its calls itself, and whoever falls silent is asked.
        if known.is_some_and(|e| e.contact.address == remote) {
            standing.table.handle_leave(now, &source);
            self.storage.let_contact_end(&source);
            self.repair_after(now, &source);
        }
    }

    /// A peer did not answer, or another one does at its address.
    pub(crate) fn peer_failed(&mut self, now: Time, id: &NodeId, address: SocketAddr) {
        let Some(standing) = &mut self.standing else { return };
        let known = standing.table.contains(id);
        standing.table.handle_failure(now, id);
        if known && !standing.table.contains(id) {
            self.remember_lost(now, Contact { id: *id, address });
        }
        self.repair_after(now, id);
    }

    /// How fast peers leave, as this peer has seen it.
    pub fn churn(&self) -> overlay::Churn {
        let measured = self.standing.as_ref().map(|s| s.table.churn()).unwrap_or_default();
        // The middle one: a single liar does not set our timers.
        let told = &self.membership.told_sessions;
        told.get(told.len() / 2).map_or(measured, |session| measured.told(*session))
    }

    /// What we say about ourselves in a Join.
    pub(crate) fn own_info(&self, now: Time) -> PeerInfo<'static> {
        let mut info = PeerInfo {
            id: self.node_id(),
            uptime: Some(now.since(self.started).as_secs() as u32),
            public_key: Some(self.public_key()),
            ..PeerInfo::default()
        };
        info.addresses.extend(self.own_addresses().into_iter().map(AddressInfo::host));
        info
    }

    /// Ourselves as others name us in tables, once we know an address of ours.
    pub(crate) fn own_contact(&self) -> Option<Contact> {
        Some(Contact { id: self.node_id()?, address: *self.own_addresses().first()? })
    }

    /// Where we can be reached, best first: the configured address if it is a real one, else what
    /// other peers report.
    pub(crate) fn own_addresses(&self) -> Vec<SocketAddr> {
        let listen = Some(self.config.listen).filter(|a| !a.ip().is_unspecified());
        let mapped = self.link.mapped.address();
        let mut all: Vec<SocketAddr> = match listen {
            Some(listen) if listen.ip().is_loopback() => vec![listen],
            _ => mapped.into_iter().chain(listen).collect(),
        };
        all.dedup();
        all
    }

    /// Another peer reports where it sees us. If that changes where we can be reached, the contact
    /// record says so at once: until then nobody can call us there.
    pub(crate) fn learn_own_address(&mut self, now: Time, reporter: SocketAddr, address: SocketAddr) {
        let before = self.own_addresses();
        self.link.mapped.reported(reporter.ip(), reporter.port(), address);
        if self.membership.online && self.own_addresses() != before {
            self.announce_contact(now);
        }
    }

    /// Mentions to the overlay every peer a message names.
    pub(crate) fn learn_mentioned(&mut self, now: Time, message: &Message<'_>) {
        for contact in contacts_in(message) {
            self.mention(now, contact);
        }
    }

    /// Somebody names peers around a key. Strays are no news: else a liar would fill our far rows.
    pub(crate) fn mention_named(&mut self, now: Time, key: &Key, from: &NodeId, named: &[Contact]) {
        let reach = self.reach(now);
        let Some(standing) = &self.standing else { return };
        let strays = standing.metric().strays(key, from, named, false, reach);
        for (contact, _) in named.iter().zip(strays).filter(|(_, stray)| !stray) {
            self.mention(now, *contact);
        }
    }

    /// The part of the space around a key in which everybody knows everybody.
    pub(crate) fn reach(&self, now: Time) -> f64 {
        let near = if self.walks().is_some() { f64::INFINITY } else { NEAR_A_KEY };
        near / self.size_estimate(now).max(1) as f64
    }

    pub(crate) fn mention(&mut self, now: Time, contact: Contact) {
        self.learn(now, contact, Evidence::Mentioned);
    }

    /// Tells the overlay what was seen of another peer.
    pub(crate) fn learn(&mut self, now: Time, contact: Contact, evidence: Evidence) {
        if let Some(standing) = &mut self.standing {
            standing.meet(now, contact, evidence);
        }
    }

    pub(crate) fn request_deadline(&self) -> u16 {
        millis(ANSWER_TIMEOUT)
    }
}

/// Room that the short entry of a peer with a 256-bit identity and an IPv6 address takes in a list.
pub(crate) const SHORT_LEN: usize = 1 + 32 + 2 + 16;

/// Every peer a message names in a table.
pub(crate) fn contacts_in(message: &Message<'_>) -> Vec<Contact> {
    contacts_of(message.objects())
}

/// Every peer named in a table among these objects.
pub(crate) fn contacts_of<'a>(objects: impl Iterator<Item = Object<'a>>) -> Vec<Contact> {
    let mut contacts: Vec<Contact> = Vec::new();
    for object in objects {
        if let Object::RoutingTable(list) | Object::NeighborTable(list) = object {
            contacts.extend(list.contacts());
        }
    }
    contacts
}
