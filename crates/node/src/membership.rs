//! Being in the overlay: bootstrap, join, upkeep, leave.
//!
//! A peer asks every bootstrap address and every host of its cache for the overlay's options and some
//! peers, looks itself up through them, and introduces itself with a signed Join to the peers it
//! found nearest. It is online when one of them answered. From then on the overlay's algorithm says
//! what upkeep it wishes, and the byte budget says when.

use std::net::SocketAddr;
use std::time::Duration;

use overlay::{Attached, Evidence, Greeting, MAX_ROUTE, News, Overlay, Upkeep};
use wire::p2pp::link_state::{Index, LinkState};
use wire::p2pp::{
    AddressInfo, Builder, Code, Message, MessageType, Object, P2pOptions, PLookup, PeerInfo, PeerList,
    RequestOptions, known,
};
use wire::{Contact, HashAlgorithm, Key, NodeId, Time, puzzle};

use crate::config::{Config, KeptValue, OverlayOption, OverlayOptions, Saved};
use crate::event::{Event, Level};
use crate::node::{Alarm, Node, Standing, millis};
use crate::publish::session_of_lifetime;
use crate::request::{ANSWER_TIMEOUT, Purpose};
use crate::role::Role;
use crate::search::{For, LookupOptions, Want};
use crate::storage::Storage;

/// Peers a bootstrap answer names (slides of 2008: recently joined and managed ones mixed).
pub(crate) const BOOTSTRAP_PEERS: usize = 20;

/// Hosts remembered across restarts.
pub(crate) const HOST_CACHE: usize = 64;

/// Hosts of the cache that are asked at once; the next attempt asks the next ones.
const HOSTS_AT_ONCE: usize = 8;

/// How often the host cache is worth keeping, for a peer that ends without a word.
const KEEP_HOSTS: Duration = Duration::from_secs(600);

/// Joins are sent to this many of the nearest peers, so that one lost or lying peer does not matter.
const JOINS: usize = 4;

/// First pause before bootstrap is tried again, doubled up to a minute.
const RETRY: Duration = Duration::from_secs(2);

/// How a peer came to be in the overlay.
pub(crate) struct Membership {
    pub(crate) online: bool,
    joined: Vec<Contact>,
    bootstrap: Vec<SocketAddr>,
    hosts: Vec<SocketAddr>,
    hosts_kept: Option<Time>,
    /// It founded its overlay, in this run or an earlier one.
    founder: bool,
    attempts: u32,
    self_lookup: bool,
    /// Why it is not in the overlay, as last said.
    offline: Option<String>,
    leaving: bool,
    values: Vec<KeptValue>,
    /// Peers that may come back.
    pub(crate) lost: crate::merge::Lost,
    /// What searches say about the number of peers.
    pub(crate) size: overlay::Size,
    /// How long sessions last, as those said whom we joined through; sorted.
    told_sessions: Vec<Duration>,
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
            size: overlay::Size::default(),
            told_sessions: Vec::new(),
        }
    }

    fn remember_host(&mut self, address: SocketAddr) {
        self.hosts.retain(|h| *h != address);
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
        self.adopt_options(now, options);
        self.come_online(now);
    }

    /// Whether this peer founded its overlay.
    pub(crate) fn is_founder(&self) -> bool {
        self.membership.founder
    }

    /// Asks every address it knows for options and peers.
    pub(crate) fn bootstrap(&mut self, now: Time) {
        if self.membership.online && self.standing.as_ref().is_some_and(|s| !s.table.is_empty()) {
            return;
        }
        let mut addresses = self.membership.bootstrap.clone();
        let hosts = &self.membership.hosts;
        let turn = self.membership.attempts as usize * HOSTS_AT_ONCE;
        addresses.extend(
            hosts.iter().cycle().skip(turn % hosts.len().max(1)).take(HOSTS_AT_ONCE.min(hosts.len())),
        );
        addresses.sort_unstable();
        addresses.dedup();
        for address in addresses {
            if address != self.config.listen {
                self.ask_bootstrap(now, address);
            }
        }
        let pause = RETRY * (1 << self.membership.attempts.min(5));
        self.membership.attempts += 1;
        if self.membership.attempts == 3 && self.membership.offline.is_none() {
            if self.membership.founder && self.standing.is_none() {
                // Everybody else is gone and waits for the founder. Should somebody of the cache come
                // back, the attempts go on while the table is empty.
                self.found(now);
            } else {
                self.stay_offline("no bootstrap peer and no host of the cache answers; still trying".into());
            }
        }
        let pause = self.jitter(pause.min(Duration::from_secs(60)), 0.75, 1.25);
        self.timers.set(Alarm::Bootstrap, now + pause);
    }

    /// Says why this peer is not in the overlay, once for each reason.
    fn stay_offline(&mut self, reason: String) {
        if self.membership.offline.as_ref() != Some(&reason) {
            self.membership.offline = Some(reason.clone());
            self.emit(Event::Offline { reason });
        }
    }

    fn ask_bootstrap(&mut self, now: Time, address: SocketAddr) {
        let objects = [Object::PublicKey(self.public_key())];
        self.ask(now, (address, None), MessageType::Bootstrap, &objects, Purpose::Bootstrap);
    }

    /// The host cache: the peers of the table, heard latest first, then those that answered a Bootstrap
    /// once. Whoever led us in may be gone tomorrow; some of the others will be there.
    pub(crate) fn hosts(&self) -> Vec<SocketAddr> {
        let mut entries = self.standing.as_ref().map(|s| s.table.contacts()).unwrap_or_default();
        entries.sort_by_key(|e| std::cmp::Reverse(e.last_seen));
        let mut hosts: Vec<SocketAddr> = Vec::with_capacity(HOST_CACHE);
        for host in entries.iter().map(|e| e.contact.address).chain(self.membership.hosts.iter().copied()) {
            if hosts.len() < HOST_CACHE && !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts
    }

    /// Has the host cache written down every so often.
    pub(crate) fn keep_hosts(&mut self, now: Time) {
        if self.membership.online && self.membership.hosts_kept.is_none_or(|at| now.since(at) >= KEEP_HOSTS) {
            self.membership.hosts_kept = Some(now);
            self.emit(Event::Save);
        }
    }

    /// A peer told us the overlay's options and some peers.
    pub(crate) fn handle_bootstrap_answer(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        match message.header.code {
            Code::VERSION_NOT_SUPPORTED => return self.differ_in_version(remote, "another version"),
            code if !code.is_ok() => return,
            _ => {}
        }
        let options = message.find(|o| match o {
            Object::P2pOptions(options) => Some(options_from_wire(&options)),
            _ => None,
        });
        match (options, &self.standing) {
            (Some(Ok(options)), None) => {
                if let Some(difference) = self.config.overlay.difference(&options, &self.config.insist) {
                    return self.stay_offline(format!(
                        "{remote} is in another overlay than this peer was told to join: {difference}"
                    ));
                }
                if let Some(reason) = self.lacks_work(&options) {
                    return self.stay_offline(reason);
                }
                self.adopt_options(now, options);
            }
            (Some(Ok(options)), Some(standing)) => {
                if let Some(difference) = standing.options.difference(&options, &OverlayOption::ALL) {
                    let text = format!("{remote} is in another overlay: {difference}");
                    return self.log(Level::Warn, "join", text);
                }
            }
            (Some(Err(reason)), None) => return self.stay_offline(reason),
            (None, None) => return,
            _ => {}
        }
        self.membership.remember_host(remote);
        self.learn_alive_responder(now, remote, message);
        self.learn_mentioned(now, message);
        if self.membership.online || self.membership.self_lookup {
            return;
        }
        self.membership.self_lookup = true;
        let mut seeds = contacts_in(message);
        if let Some(id) = message.header.responder.filter(|_| message.header.from_peer) {
            seeds.push(Contact { id, address: remote });
        }
        let own = *self.node_id().expect("options were adopted").key();
        self.search_with_seeds(now, own, Want::Peers, For::Join, &seeds);
    }

    /// Why an overlay with these options would not let this peer in, if its Node-ID cost too little.
    fn lacks_work(&self, options: &OverlayOptions) -> Option<String> {
        let (asked, shown) = (options.difficulty, puzzle::work(&self.public_key().node_id(options.hash)));
        (shown < asked).then(|| {
            format!(
                "the overlay '{}' admits identities of difficulty {asked}, and that of this peer has {shown}. \
                 Set overlay.difficulty = {asked} in the configuration and move the file peer.key away: at \
                 the next start another identity is made, with 2^{asked} draws",
                options.name
            )
        })
    }

    /// Whom we asked to let us in speaks another version of the protocol.
    pub(crate) fn differ_in_version(&mut self, remote: SocketAddr, theirs: &str) {
        if !self.membership.online && self.membership.bootstrap.contains(&remote) {
            let ours = wire::p2pp::VERSION;
            self.stay_offline(format!("{remote} speaks {theirs} of P2PP and this peer version {ours}"));
        }
    }

    fn learn_alive_responder(&mut self, now: Time, address: SocketAddr, message: &Message<'_>) {
        let (Some(standing), Some(id)) = (&mut self.standing, message.header.responder) else { return };
        if message.header.from_peer {
            standing.meet(now, Contact { id, address }, Evidence::Alive { rtt: None });
        }
    }

    /// Takes the overlay's options as ours; the Node-ID follows from its hash.
    fn adopt_options(&mut self, now: Time, options: OverlayOptions) {
        let id = self.public_key().node_id(options.hash);
        let table = self.new_table(now, id, &options, self.roles.role());
        let tag = tag_of(&options.name);
        self.storage = self.empty_storage(options.hash);
        self.standing = Some(Standing { options, id, table, tag });
    }

    pub(crate) fn empty_storage(&self, hash: HashAlgorithm) -> Storage {
        let mut storage = Storage::new(hash, self.identity.peer.signatures());
        storage.share(self.book.clone());
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

    /// Our own lookup has ended: introduce ourselves to the nearest peers.
    pub(crate) fn join_through(&mut self, now: Time, closest: &[Contact]) {
        self.membership.self_lookup = false;
        if self.is_client() {
            return; // Its view of the overlay chooses the peers that carry it.
        }
        self.membership.joined = closest.iter().copied().take(JOINS).collect();
        if self.membership.joined.is_empty() {
            return; // The bootstrap alarm tries again.
        }
        self.send_joins(now);
    }

    pub(crate) fn send_joins(&mut self, now: Time) {
        let Some(options) = self.standing.as_ref().map(|s| s.options.clone()) else { return };
        let objects = [Object::PeerInfo(self.own_info(now)), Object::P2pOptions(options_to_wire(&options))];
        for contact in self.membership.joined.clone() {
            let to = (contact.address, Some(contact.id));
            self.ask_signed(now, to, MessageType::Join, &objects, Purpose::Join);
        }
    }

    pub(crate) fn handle_join_answer(&mut self, now: Time, message: &Message<'_>) {
        match message.header.code {
            Code::OK => {
                self.learn_mentioned(now, message);
                self.learn_sessions(message);
                if !self.membership.online {
                    self.come_online(now);
                }
            }
            Code::JOIN_DEFERRED => {
                let wait = message.find(|o| match o {
                    Object::Expires(seconds) => Some(seconds),
                    _ => None,
                });
                self.timers.set(Alarm::Join, now + Duration::from_secs(wait.unwrap_or(30).into()));
            }
            code => {
                let reason = message.find(|o| match o {
                    Object::Error { reason, .. } => Some(reason.to_owned()),
                    _ => None,
                });
                let why = reason.unwrap_or_default();
                self.log(Level::Warn, "join", format!("refused: {code} {why}"));
                if code == Code::WRONG_OVERLAY && !self.membership.online {
                    self.stay_offline(format!("refused by a peer of another overlay: {why}"));
                }
            }
        }
    }

    /// Who let us in says how long it would have others keep a record: by that we know how long sessions
    /// last here, before we have seen any end.
    fn learn_sessions(&mut self, join_answer: &Message<'_>) {
        let lifetime = join_answer.find(|o| match o {
            Object::Expires(seconds) => Some(Duration::from_secs(seconds.into())),
            _ => None,
        });
        let told = &mut self.membership.told_sessions;
        if let Some(lifetime) = lifetime.filter(|_| told.len() < JOINS) {
            told.push(session_of_lifetime(lifetime));
            told.sort_unstable();
        }
    }

    pub(crate) fn come_online(&mut self, now: Time) {
        self.membership.online = true;
        self.membership.attempts = 0;
        self.emit(Event::Online);
        self.announce(now);
        for kept in std::mem::take(&mut self.membership.values) {
            self.put(now, &kept.key, &kept.value, (kept.ttl_s > 0).then(|| Duration::from_secs(kept.ttl_s)));
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
        let mut contacts = self.standing.as_ref().map(|s| s.table.neighbors()).unwrap_or_default();
        contacts.extend(self.standing.iter().flat_map(|s| s.table.contacts()).map(|e| e.contact));
        contacts.sort_unstable();
        contacts.dedup();
        contacts.truncate(64);
        for contact in contacts {
            let mut header = self.header(MessageType::Leave);
            header.class = wire::p2pp::Class::Indication;
            let bytes = Builder::new(&header).sign(&self.identity.peer);
            self.send_peer(now, MessageType::Leave, contact.address, bytes);
        }
    }

    /// An indication: so far only Leave.
    pub(crate) fn handle_indication(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let (Some(source), MessageType::Leave) = (message.header.source, message.header.message) else {
            return;
        };
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

    pub(crate) fn mention(&mut self, now: Time, contact: Contact) {
        self.learn(now, contact, Evidence::Mentioned);
    }

    /// Tells the overlay what was seen of another peer.
    pub(crate) fn learn(&mut self, now: Time, contact: Contact, evidence: Evidence) {
        if let Some(standing) = &mut self.standing {
            standing.meet(now, contact, evidence);
        }
    }

    /// Does what the overlay wishes for its tables, as far as the byte budget allows.
    pub(crate) fn drain_upkeep(&mut self, now: Time) {
        while let Some(newcomer) = self.standing.as_mut().and_then(|s| s.table.poll_newcomer()) {
            if self.is_client() {
                self.attach_to(now, newcomer);
                continue;
            }
            self.welcome(now, newcomer);
            self.welcome_back(now, &newcomer);
            // Who founded the overlay asked nobody on the way in: the first to come tell where it is seen.
            if self.link.mapped.address().is_none() {
                self.ask_bootstrap(now, newcomer.address);
            }
        }
        while self.ledger.may_maintain(now) {
            let Some(wish) = self.standing.as_mut().and_then(|s| s.table.poll_upkeep()) else { return };
            if self.is_under_way(&wish) {
                continue;
            }
            self.ledger.spend_upkeep(match wish {
                Upkeep::Ping(_)
                | Upkeep::Greet(_)
                | Upkeep::Ask { .. }
                | Upkeep::Exchange { give: false, .. } => REQUEST_COST,
                Upkeep::Exchange { give: true, .. } => REQUEST_COST + TABLE_COST,
                Upkeep::Lookup { width, .. } => REQUEST_COST * width,
            });
            match wish {
                Upkeep::Ping(contact) => {
                    let to = (contact.address, Some(contact.id));
                    self.ask(now, to, MessageType::KeepAlive, &[], Purpose::KeepAlive);
                }
                Upkeep::Ask { with, key } => {
                    let to = (with.address, Some(with.id));
                    let wanted = Object::PLookup(PLookup { key, count: NEAR as u8, exact: false });
                    self.ask_for_news(
                        now,
                        to,
                        MessageType::LookupPeer,
                        &[wanted],
                        (key, NEAR),
                        Purpose::Near,
                    );
                }
                Upkeep::Greet(contact) => {
                    let to = (contact.address, Some(contact.id));
                    let greeting = self.standing.as_mut().and_then(|s| s.table.greeting(now, &contact.id));
                    let Some(greeting) = greeting else { continue };
                    let index = index_bytes(&greeting);
                    let objects = [
                        Object::RequestOptions(RequestOptions::default()),
                        Object::LinkState(link_state(&greeting, &index)),
                    ];
                    self.ask(now, to, MessageType::ExchangeTable, &objects, Purpose::Exchange);
                }
                Upkeep::Exchange { with, give, rows } => {
                    let to = (with.address, Some(with.id));
                    let wanted = RequestOptions {
                        routing_table: rows,
                        neighbor_table: !rows,
                        partial: true,
                        ..RequestOptions::default()
                    };
                    let ours = if give { self.what_to_tell(now) } else { News::default() };
                    let mut objects = vec![Object::RequestOptions(wanted)];
                    if give {
                        objects.push(Object::NeighborTable(PeerList::Contacts(&ours.arrived)));
                    }
                    objects.extend(ours.departed.iter().map(|id| Object::PeerId(*id)));
                    let around = (*with.id.key(), 2 * MAX_ROUTE);
                    self.ask_for_news(
                        now,
                        to,
                        MessageType::ExchangeTable,
                        &objects,
                        around,
                        Purpose::Exchange,
                    );
                }
                Upkeep::Lookup { key, width } => {
                    let options = LookupOptions { width, ..LookupOptions::default() };
                    self.search(now, key, Want::Peers, For::Upkeep, options);
                }
            }
        }
        self.timers.set(Alarm::Upkeep, self.ledger.may_maintain_at(now));
    }

    /// Whether something is asked already that will tell as much: a peer anything, or the way to our own
    /// place while we join.
    fn is_under_way(&self, wish: &Upkeep) -> bool {
        let tells = |purpose: &Purpose| {
            use Purpose::{Exchange, Join, KeepAlive, Near, Step};
            matches!(purpose, Step(_) | KeepAlive | Near | Exchange | Join)
        };
        match wish {
            Upkeep::Ping(contact) => self.transactions.asks(contact.address, tells),
            Upkeep::Lookup { key, .. } => {
                self.membership.self_lookup && self.node_id().is_some_and(|id| id.key() == key)
            }
            _ => false,
        }
    }

    /// Asks for peers, and says whom we know around a key, up to a number: they need not be named.
    fn ask_for_news(
        &mut self,
        now: Time,
        to: (SocketAddr, Option<NodeId>),
        message: MessageType,
        objects: &[Object<'_>],
        (key, count): (Key, usize),
        purpose: Purpose,
    ) {
        let known = self.standing.as_ref().map(|s| s.table.around(&key, count)).unwrap_or_default();
        let (transaction, mut question) = self.question(message, objects);
        let ids = known.iter().map(|c| &c.id).filter(|id| Some(**id) != to.1);
        let tags = known::list(transaction, ids);
        if !tags.is_empty() {
            question.push(&Object::Known(&tags));
        }
        self.request(now, to, message, transaction, question.finish(), now + ANSWER_TIMEOUT, purpose);
    }

    /// What we tell a peer with whom we exchange tables: our news, or else our neighbours.
    pub(crate) fn what_to_tell(&mut self, now: Time) -> News {
        let Some(standing) = &mut self.standing else { return News::default() };
        let news = standing.table.news(now);
        let mut news =
            news.unwrap_or_else(|| News { arrived: standing.table.neighbors(), ..News::default() });
        news.arrived.truncate(NEIGHBORS_GIVEN);
        news
    }

    /// Who came and who went, as another peer tells.
    pub(crate) fn learn_news(&mut self, now: Time, message: &Message<'_>) {
        self.learn_mentioned(now, message);
        let departed = message.objects().filter_map(|o| match o {
            Object::PeerId(id) => Some(id),
            _ => None,
        });
        for id in departed.take(MOST_RUMORS) {
            if let Some(standing) = &mut self.standing {
                standing.table.handle_rumor(now, &id);
            }
        }
    }

    /// Another peer says how it sees the link between us.
    pub(crate) fn hear_greeting(&mut self, now: Time, from: Contact, message: &Message<'_>, answered: bool) {
        let greeting = message.find(|o| match o {
            Object::LinkState(link) => Some(greeting(&link)),
            _ => None,
        });
        if let (Some(greeting), Some(standing)) = (greeting, &mut self.standing) {
            standing.table.handle_greeting(now, from, &greeting, answered);
        }
    }

    /// Slows upkeep down as spending nears the ceiling, so that it never has to stop.
    pub(crate) fn update_pace(&mut self, now: Time) {
        let (_, used) = self.ledger.rates(now);
        let share = used / f64::from(self.config.budget_bytes_per_s.max(1));
        if let Some(standing) = &mut self.standing {
            standing.table.set_pace((0.5 + share).clamp(1.0, 4.0) as f32);
        }
    }

    /// Answers Bootstrap: options, the asker's address, and peers, the latest and the oldest mixed.
    pub(crate) fn answer_bootstrap(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let Some(standing) = &self.standing else {
            return self.refuse(now, remote, message, Code::REJECTED, "not in an overlay yet");
        };
        let mut entries = standing.table.contacts();
        entries.sort_by_key(|e| std::cmp::Reverse(e.last_seen));
        let half = BOOTSTRAP_PEERS / 2;
        let mut peers: Vec<Contact> = entries.iter().take(half).map(|e| e.contact).collect();
        let mut rest: Vec<Contact> = entries.iter().skip(half).map(|e| e.contact).collect();
        while peers.len() < BOOTSTRAP_PEERS && !rest.is_empty() {
            let pick = wire::RngExt::random_range(&mut self.rng, 0..rest.len());
            peers.push(rest.swap_remove(pick));
        }
        peers.retain(|c| c.address != remote);
        let standing = self.standing.as_ref().expect("checked above");
        let options = options_to_wire(&standing.options);
        let mut builder = Builder::new(&self.answer_header(message, Code::OK));
        builder.push(&Object::P2pOptions(options)).push(&Object::ObservedAddress(remote));
        let fits = peers.len().min(builder.room().saturating_sub(8) / SHORT_LEN);
        builder.push(&Object::RoutingTable(PeerList::Contacts(&peers[..fits])));
        self.respond(now, remote, message, builder);
    }

    /// Answers Join: the neighbours the newcomer should know.
    pub(crate) fn answer_join(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        // Before the signature: under another hash no Node-ID fits its key.
        if let Some(difference) = self.difference_of(message) {
            return self.refuse(now, remote, message, Code::WRONG_OVERLAY, &difference);
        }
        if self.signer(message).is_none() {
            return self.refuse(now, remote, message, Code::FORBIDDEN, "bad signature");
        }
        let Some(source) = message.header.source else { return };
        if let Some(reason) = self.too_cheap(&source) {
            return self.refuse(now, remote, message, Code::FORBIDDEN, &reason);
        }
        if !message.header.from_peer {
            return self.answer_attach(now, remote, message, source);
        }
        let Some(standing) = &self.standing else { return };
        let peers: Vec<Contact> = standing
            .table
            .route(source.key(), self.replicas())
            .contacts()
            .iter()
            .copied()
            .filter(|c| c.id != source)
            .collect();
        let mut builder = Builder::new(&self.answer_header(message, Code::OK));
        builder.push(&Object::ObservedAddress(remote));
        builder.push(&Object::NeighborTable(PeerList::Contacts(&peers)));
        builder.push(&Object::Expires(self.record_lifetime().as_secs() as u32));
        self.respond(now, remote, message, builder);
        self.mention(now, Contact { id: source, address: remote });
    }

    /// Why we have nothing to do with a Node-ID, if it cost less than the overlay asks.
    pub(crate) fn too_cheap(&self, id: &NodeId) -> Option<String> {
        let standing = self.standing.as_ref().filter(|s| !s.admits(id))?;
        let (asked, shown) = (standing.options.difficulty, puzzle::work(id));
        Some(format!("admission asks for difficulty {asked}, this Node-ID has {shown}"))
    }

    /// In what the overlay that a Join is meant for differs from ours, as the newcomer sees it.
    fn difference_of(&self, join: &Message<'_>) -> Option<String> {
        let theirs = join.find(|o| match o {
            Object::P2pOptions(options) => Some(options_from_wire(&options)),
            _ => None,
        })?;
        let ours = &self.standing.as_ref()?.options;
        match theirs {
            Ok(theirs) => theirs.difference(ours, &OverlayOption::ALL),
            Err(_) => Some(format!("algorithm is {} there", ours.algorithm)),
        }
    }

    pub(crate) fn request_deadline(&self) -> u16 {
        millis(ANSWER_TIMEOUT)
    }
}

/// Peers whom we want named around a key that is searched with one question: as many as the nearest that
/// Kademlia keeps whole, since most are known and cost two bytes.
pub(crate) const NEAR: usize = 16;

/// The index of a greeting as its object has it.
pub(crate) fn index_bytes(greeting: &Greeting) -> Vec<u8> {
    greeting.index.iter().flatten().flat_map(|digest| digest.to_be_bytes()).collect()
}

/// A greeting as an object, with its index as bytes.
pub(crate) fn link_state<'a>(greeting: &Greeting, index: &'a [u8]) -> LinkState<'a> {
    let &Greeting { neighbor, fresh, degree, capacity, tokens, spent, known, .. } = greeting;
    let index = greeting.index.as_ref().and_then(|_| Index::new(index));
    LinkState { neighbor, fresh, degree, capacity, tokens, spent, known, index }
}

fn greeting(link: &LinkState<'_>) -> Greeting {
    let &LinkState { neighbor, fresh, degree, capacity, tokens, spent, known, index } = link;
    let index = index.map(|index| index.iter().take(overlay::gia::MAX_INDEX).collect());
    Greeting { neighbor, fresh, degree, capacity, tokens, spent, known, index }
}

/// Bytes that a request for upkeep costs us, about, with its headers and one repetition in ten.
const REQUEST_COST: usize = 150;

/// Bytes more that a request with our neighbours costs us.
const TABLE_COST: usize = 900;

/// Rumours of departures heeded in one message.
const MOST_RUMORS: usize = 8;

/// Neighbours named in such a request, as many as fit a datagram with room for a cookie.
const NEIGHBORS_GIVEN: usize = 14;

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

/// Low 32 bits of the SHA-256 of the overlay's name; never zero, which means "not known yet".
fn tag_of(name: &str) -> u32 {
    let key = HashAlgorithm::Sha256.digest(name.as_bytes());
    let low = key.as_bytes()[28..].try_into().expect("the last 4 of 32 bytes");
    u32::from_be_bytes(low).max(1)
}

fn options_to_wire(options: &OverlayOptions) -> P2pOptions<'_> {
    P2pOptions {
        hash: options.hash,
        algorithm: options.algorithm.number(),
        base: options.base,
        difficulty: options.difficulty,
        replicas: options.replicas,
        remote_settings: options.remote_settings,
        name: &options.name,
    }
}

fn options_from_wire(options: &P2pOptions<'_>) -> Result<OverlayOptions, String> {
    let Some(algorithm) = overlay::Algorithm::from_number(options.algorithm) else {
        return Err(format!(
            "the overlay '{}' uses algorithm {}, which this version does not have; update openvoip",
            options.name, options.algorithm
        ));
    };
    Ok(OverlayOptions {
        name: options.name.to_owned(),
        algorithm,
        hash: options.hash,
        base: options.base,
        replicas: options.replicas.clamp(1, 16),
        difficulty: options.difficulty,
        remote_settings: options.remote_settings,
    })
}
