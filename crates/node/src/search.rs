//! Our own searches: for peers near a key, and for records.
//!
//! A record is sought recursively first: one message to the table's best peer, passed on from hop to
//! hop, the answer coming back the same way. That is the fastest, and works over the links that
//! peers behind NATs keep. When no answer comes, or the answer is that there is nothing, the search
//! goes on iteratively: we ask peer after peer ourselves, several at a time and on request along
//! disjoint paths, so that no single hop can hide a record.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use overlay::{Lookup, Route};
use smallvec::SmallVec;
use wire::p2pp::{
    Builder, Code, Header, Kind, Message, MessageType, Object, PLookup, PeerList, RLookup, Record,
    RequestOptions,
};
use wire::{Contact, Key, NodeId, PublicKey, ResourceId, Time};

use crate::event::OpId;
use crate::node::{Alarm, Node, millis};
use crate::region::{self, Crowd};
use crate::report::Hop;
use crate::request::Purpose;

/// Names one search.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(crate) struct SearchId(pub u64);

/// Peers named in one answer, and spoken to at the end of a search (Kademlia's k).
pub(crate) const WIDTH: usize = 8;

/// Most searches at once.
pub(crate) const MAX_SEARCHES: usize = 1_024;

/// Recursive attempts before the search goes on iteratively. Each has a third of the time, and so has
/// the iterative search: with the slowest of twenty answers under 700 ms a third, of 2.5 s, is enough.
const RECURSIVE_ATTEMPTS: u8 = 2;

/// Questions that a lookup which misses its record may take in all, before anybody crowds around its
/// key. An honest overlay needs five; with a third of it colluding nearly all are found within these.
const MOST_QUESTIONS: u32 = 30;

/// Disjoint paths of a lookup whose first answers gave nothing. Each asks one peer at a time: together
/// they are as quick as one path that asks four, and no liar is on two of them.
const DOUBTED_PATHS: usize = 4;

/// How a record shall be sought.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// From hop to hop; iteratively if that fails.
    #[default]
    Recursive,
    /// Peer after peer.
    Iterative,
    /// Peer after peer, along several paths at once.
    Parallel,
}

impl Mode {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Recursive => "recursive",
            Mode::Iterative => "iterative",
            Mode::Parallel => "parallel",
        }
    }
}

impl std::str::FromStr for Mode {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        [Mode::Recursive, Mode::Iterative, Mode::Parallel]
            .into_iter()
            .find(|m| m.name() == s)
            .ok_or_else(|| format!("unknown mode '{s}': choose recursive, iterative or parallel"))
    }
}

/// Wishes about a search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LookupOptions {
    /// Hop to hop, or peer after peer.
    pub mode: Mode,
    /// Disjoint paths of an iterative search; 0 lets the mode decide.
    pub paths: u8,
    /// Whether the way it took shall be reported.
    pub trace: bool,
    /// Whether copies held or cached by this peer do not count.
    pub fresh: bool,
    /// How many of the nearest peers must have spoken before an iterative search ends in vain.
    pub width: usize,
}

impl Default for LookupOptions {
    fn default() -> Self {
        LookupOptions { mode: Mode::default(), paths: 0, trace: false, fresh: false, width: WIDTH }
    }
}

/// What is sought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    /// The peers nearest to the key.
    Peers,
    /// Records of a kind, of a certain owner or of anybody.
    Object(Kind, Option<PublicKey>),
}

/// Who wants it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum For {
    Join,
    Upkeep,
    Probe,
    Place(u64),
    Region(u64),
    ReadBefore(u64),
    ReadBack(u64),
    Resolve(u64),
    Lookup(OpId, String),
    Get(OpId),
}

/// What a search came to.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) records: Vec<(Record, Duration)>,
    pub(crate) closest: Vec<Contact>,
    pub(crate) hops: u32,
    pub(crate) messages: u32,
    pub(crate) took: Duration,
    pub(crate) path: Vec<Hop>,
    pub(crate) mode: Mode,
    /// How the peers around the key stand.
    pub(crate) crowd: Option<Crowd>,
}

enum Progress {
    Recursive,
    Iterative(Box<Lookup>),
}

struct Search {
    key: Key,
    want: Want,
    purpose: For,
    options: LookupOptions,
    started: Time,
    messages: u32,
    hops: u32,
    attempt: u8,
    tried: SmallVec<[NodeId; 4]>,
    records: Vec<(Record, Duration)>,
    path: Vec<Hop>,
    progress: Progress,
    /// Where an iterative search leads: to the key, or to a part of the region around it.
    toward: Key,
    crowd: Option<Crowd>,
    resumed: bool,
    /// Parts of the region that are still to be searched, the next one last.
    regions: SmallVec<[Key; 3]>,
}

impl Search {
    /// Whether it looks in the region around the key, and no longer at the key.
    fn is_beside(&self) -> bool {
        self.toward != self.key
    }

    /// Whether a miss is doubted: where somebody waits for the record, or relies on its being found,
    /// and did not say how to search.
    fn is_persistent(&self) -> bool {
        let matters =
            matches!(self.purpose, For::Lookup(..) | For::Resolve(_) | For::Get(_) | For::ReadBack(_));
        matters && self.options.mode == Mode::Recursive && self.options.paths == 0
    }
}

/// Every search under way.
#[derive(Default)]
pub(crate) struct Searches {
    running: BTreeMap<SearchId, Search>,
    next: u64,
}

impl Searches {
    /// When some iterative search wants to be woken.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let wake = |search: &Search| match &search.progress {
            Progress::Iterative(lookup) => lookup.poll_timeout().map(|(at, _)| at),
            Progress::Recursive => None,
        };
        self.running.values().filter_map(wake).min()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.running.len()
    }
}

impl Node {
    /// Starts a search from our own table.
    pub(crate) fn search(
        &mut self,
        now: Time,
        key: Key,
        want: Want,
        purpose: For,
        options: LookupOptions,
    ) -> Option<SearchId> {
        let id = self.new_search(now, key, want, purpose, options)?;
        match (want, options.mode) {
            (Want::Object(..), Mode::Recursive) => self.try_recursively(now, id),
            _ => self.go_iterative(now, id, &[]),
        }
        Some(id)
    }

    /// Starts an iterative search for peers from seeds that are not in our table yet.
    pub(crate) fn search_with_seeds(
        &mut self,
        now: Time,
        key: Key,
        want: Want,
        purpose: For,
        seeds: &[Contact],
    ) {
        if let Some(id) = self.new_search(now, key, want, purpose, LookupOptions::default()) {
            self.go_iterative(now, id, seeds);
        }
    }

    fn new_search(
        &mut self,
        now: Time,
        key: Key,
        want: Want,
        purpose: For,
        options: LookupOptions,
    ) -> Option<SearchId> {
        if self.searches.running.len() >= MAX_SEARCHES || self.standing.is_none() {
            self.search_done(now, purpose, key, Findings::default());
            return None;
        }
        self.searches.next += 1;
        let id = SearchId(self.searches.next);
        let search = Search {
            key,
            want,
            purpose,
            options,
            started: now,
            messages: 0,
            hops: 0,
            attempt: 0,
            tried: SmallVec::new(),
            records: Vec::new(),
            path: Vec::new(),
            progress: Progress::Recursive,
            toward: key,
            crowd: None,
            resumed: false,
            regions: SmallVec::new(),
        };
        self.searches.running.insert(id, search);
        Some(id)
    }

    // ---- recursive -----------------------------------------------------------------------------

    /// Sends the question to the best peer not tried yet, or goes on iteratively.
    fn try_recursively(&mut self, now: Time, id: SearchId) {
        let replicas = self.replicas();
        let timeout = self.config.lookup_timeout;
        let Some(search) = self.searches.running.get_mut(&id) else { return };
        let Want::Object(kind, owner) = search.want else { return };
        let (key, options) = (search.key, search.options);
        if !options.fresh && self.find_at_home(now, id, kind, owner) {
            return self.finish(now, id);
        }
        let Some(standing) = &self.standing else { return };
        let search = self.searches.running.get_mut(&id).expect("looked up above");
        let route = standing.table.route(&key, replicas);
        let first = route.contacts().iter().find(|c| !search.tried.contains(&c.id)).copied();
        let Some(first) = first.filter(|_| search.attempt < RECURSIVE_ATTEMPTS) else {
            return self.go_iterative(now, id, &[]);
        };
        search.tried.push(first.id);
        search.messages += 1;
        let deadline = now + timeout / (u32::from(RECURSIVE_ATTEMPTS) + 1);
        let mut header = self.header(MessageType::LookupObject);
        header.recursive = true;
        header.ttl = self.initial_ttl();
        header.deadline_ms = millis(deadline.since(now));
        let bytes = object_question(&header, key, kind, owner, options.trace);
        let to = (first.address, Some(first.id));
        let message = MessageType::LookupObject;
        self.request(now, to, message, header.transaction, bytes, deadline, Purpose::Recursive(id));
    }

    /// Whether we hold what is sought ourselves.
    fn find_at_home(&mut self, now: Time, id: SearchId, kind: Kind, owner: Option<PublicKey>) -> bool {
        let Some(search) = self.searches.running.get_mut(&id) else { return false };
        let place = ResourceId(search.key);
        let held = self.storage.live(now, &place, kind);
        search.records = held
            .filter(|s| owner.is_none_or(|o| s.record.owner == o))
            .map(|s| (s.record.clone(), s.expires.since(now)))
            .collect();
        !search.records.is_empty()
    }

    pub(crate) fn handle_recursive_answer(&mut self, now: Time, id: SearchId, message: &Message<'_>) {
        self.collect(id, message);
        let ttl = self.initial_ttl();
        let Some(search) = self.searches.running.get_mut(&id) else { return };
        if message.header.code.is_ok() && !search.records.is_empty() {
            search.path = route_log(message);
            search.hops = u32::from(ttl.saturating_sub(message.header.ttl)) + 1;
            return self.finish(now, id);
        }
        search.attempt += 1;
        if message.header.code == Code::NOT_FOUND {
            // Someone near the key says there is nothing: see for ourselves.
            let seeds = self.contacts_of_answer(message);
            return self.go_iterative(now, id, &seeds);
        }
        self.try_recursively(now, id);
    }

    pub(crate) fn handle_recursive_silence(&mut self, now: Time, id: SearchId, dead: bool) {
        if let Some(search) = self.searches.running.get_mut(&id) {
            // A dead first hop says nothing about the way behind it.
            if !dead {
                search.attempt += 1;
            }
            self.try_recursively(now, id);
        }
    }

    // ---- iterative -----------------------------------------------------------------------------

    fn go_iterative(&mut self, now: Time, id: SearchId, extra: &[Contact]) {
        let Some(standing) = &mut self.standing else { return };
        let Some(search) = self.searches.running.get_mut(&id) else { return };
        let mut seeds: Vec<Contact> = standing.table.route(&search.toward, WIDTH).contacts().to_vec();
        seeds.extend(extra.iter().filter(|c| c.id != standing.id));
        standing.table.handle_lookup(now, &search.toward);
        let mut config = overlay::lookup::Config::new(standing.options.algorithm.metric());
        config.paths = match (search.options.paths, search.options.mode) {
            (0, Mode::Parallel) => DOUBTED_PATHS,
            (0, _) if search.is_persistent() && !search.is_beside() => DOUBTED_PATHS,
            (0, _) => 1,
            (paths, _) => usize::from(paths),
        };
        if search.is_persistent() && !search.is_beside() {
            config.parallelism = 1;
            config.most = MOST_QUESTIONS.saturating_sub(search.messages) as usize;
        }
        config.width = search.options.width;
        if matches!(search.purpose, For::Place(_) | For::ReadBefore(_)) {
            config.most = MOST_QUESTIONS as usize * config.paths;
        }
        config.goal = match search.want {
            Want::Peers => overlay::Goal::Nearest,
            Want::Object(..) => overlay::Goal::Found(1),
        };
        let lookup = Lookup::new(search.toward, standing.id, &seeds, config);
        search.progress = Progress::Iterative(Box::new(lookup));
        // Two timeouts: dead entries cost time, and a person waits for at most three seconds.
        let deadline = search.started + self.config.lookup_timeout + Duration::from_millis(400);
        let patience = match search.want {
            Want::Peers => Duration::from_secs(15),
            // Whoever is kept from a record would rather wait than be told that nobody has that name.
            Want::Object(..) if search.is_persistent() => self.config.lookup_timeout,
            Want::Object(..) => Duration::ZERO,
        };
        let deadline = match search.is_beside() {
            true => now + self.config.lookup_timeout,
            false => deadline.max(now + Duration::from_millis(800)) + patience,
        };
        self.timers.set(Alarm::Search(id), deadline);
        if let Want::Object(kind, owner) = search.want
            && !search.options.fresh
            && self.find_at_home(now, id, kind, owner)
        {
            return self.finish(now, id);
        }
        self.advance(now, id);
    }

    /// Asks whoever the search wants to ask now, or ends it.
    fn advance(&mut self, now: Time, id: SearchId) {
        loop {
            let Some(search) = self.searches.running.get_mut(&id) else { return };
            let Progress::Iterative(lookup) = &mut search.progress else { return };
            let Some(ask) = lookup.poll_ask(now) else {
                if lookup.is_finished() && !self.persist(now, id) {
                    self.finish(now, id);
                }
                return;
            };
            let (key, want, toward) = (search.key, search.want, search.toward);
            search.messages += 1;
            let address = ask.contact.address;
            let expected = self.link.round_trips.rtt(address);
            if let Some(rtt) = expected {
                lookup.expect_by(&ask.contact.id, now + rtt * 2 + Duration::from_millis(20));
            }
            let to = (address, Some(ask.contact.id));
            let purpose = Purpose::Step(id);
            match want {
                Want::Peers => {
                    let objects = [Object::PLookup(PLookup { count: WIDTH as u8, exact: false, key })];
                    self.ask(now, to, MessageType::LookupPeer, &objects, purpose);
                }
                Want::Object(kind, owner) => {
                    let lookup = Object::RLookup(RLookup { resource: ResourceId(key), kind, owner });
                    let way = Object::PLookup(PLookup { count: WIDTH as u8, exact: false, key: toward });
                    let objects = [lookup, way];
                    let objects = &objects[..1 + usize::from(toward != key)];
                    self.ask(now, to, MessageType::LookupObject, objects, purpose);
                }
            }
        }
    }

    /// A search has heard all the nearest peers and found nothing: looks at how they stand, and goes on
    /// where that is suspicious. `false` if there is nothing more to do.
    fn persist(&mut self, now: Time, id: SearchId) -> bool {
        let Some(standing) = &self.standing else { return false };
        let Some(search) = self.searches.running.get_mut(&id) else { return false };
        let (beside, persistent) = (search.is_beside(), search.is_persistent());
        let Progress::Iterative(lookup) = &mut search.progress else { return false };
        let (own, neighbors) = (standing.id.key(), standing.table.neighbors());
        if !beside {
            let nearest = lookup.outcome().map(|o| o.closest).unwrap_or_default();
            search.crowd = Some(region::judge(&search.key, &nearest, own, &neighbors));
        }
        // Where the nearest stand sparser than most, nearer ones may have been kept from us.
        let places = matches!(search.purpose, For::Place(_) | For::ReadBefore(_));
        let doubted = persistent || places && search.crowd == Some(Crowd::Sparse);
        if !search.records.is_empty() || !doubted {
            return false;
        }
        if search.crowd == Some(Crowd::Dense) {
            if !std::mem::replace(&mut search.resumed, true) {
                search.regions = region::around(&search.key, own, &neighbors).into_iter().rev().collect();
            }
            let Some(part) = search.regions.pop() else { return false };
            search.toward = part;
            self.go_iterative(now, id, &[]);
            return true;
        }
        if std::mem::replace(&mut search.resumed, true) {
            return false;
        }
        // Our whole table, the nearest first: liars may be all that stands near the key in it.
        let mut seeds: Vec<Contact> = standing.table.contacts().into_iter().map(|e| e.contact).collect();
        seeds.sort_by_key(|c| standing.table.rank(&search.key, &c.id));
        lookup.resume(&seeds);
        self.advance(now, id);
        true
    }

    pub(crate) fn handle_step_answer(
        &mut self,
        now: Time,
        id: SearchId,
        remote: SocketAddr,
        message: &Message<'_>,
        rtt: Option<Duration>,
    ) {
        let Some(from) = message.header.responder else { return };
        let found = self.collect(id, message);
        let contacts = self.contacts_of_answer(message);
        for contact in &contacts {
            self.mention(now, *contact);
        }
        let route = match message.header.code {
            Code::OK | Code::NOT_FOUND => Route::Replicas { contacts, includes_self: true },
            _ => Route::Toward(contacts),
        };
        let Some(search) = self.searches.running.get_mut(&id) else { return };
        if search.options.trace {
            let decision = if found { "answered" } else { "nearer" };
            search.path.push(hop(from, remote, rtt.unwrap_or_default(), decision));
        }
        if let Progress::Iterative(lookup) = &mut search.progress {
            lookup.handle_reply(now, &from, &route, found);
        }
        self.advance(now, id);
    }

    pub(crate) fn handle_step_silence(&mut self, now: Time, id: SearchId, asked: Option<NodeId>) {
        let (Some(search), Some(asked)) = (self.searches.running.get_mut(&id), asked) else { return };
        if let Progress::Iterative(lookup) = &mut search.progress {
            lookup.handle_failure(now, &asked);
        }
        self.advance(now, id);
    }

    /// Lets iterative searches lose patience with slow peers.
    pub(crate) fn handle_search_timeouts(&mut self, now: Time) {
        let mut due = Vec::new();
        for (id, search) in &mut self.searches.running {
            if let Progress::Iterative(lookup) = &mut search.progress
                && lookup.poll_timeout().is_some_and(|(at, _)| at <= now)
            {
                lookup.handle_timeout(now);
                due.push(*id);
            }
        }
        due.into_iter().for_each(|id| self.advance(now, id));
    }

    /// The peers that an answer to a question of a search names: no more than were asked for.
    fn contacts_of_answer(&mut self, message: &Message<'_>) -> Vec<Contact> {
        let mut contacts = crate::membership::contacts_in(message);
        if contacts.len() > WIDTH {
            self.link.count_drop("more peers than asked for");
            contacts.truncate(WIDTH);
        }
        contacts
    }

    /// The person has waited long enough: what was found so far is the result.
    pub(crate) fn handle_search_deadline(&mut self, now: Time, id: SearchId) {
        self.finish(now, id);
    }

    // ---- results -------------------------------------------------------------------------------

    /// Keeps every valid record of an answer; `true` if there was one.
    fn collect(&mut self, id: SearchId, message: &Message<'_>) -> bool {
        let Some(search) = self.searches.running.get_mut(&id) else { return false };
        let Want::Object(kind, owner) = search.want else { return false };
        let hash = self.storage.hash();
        let mut found = false;
        let mut records = message.objects().peekable();
        while let Some(object) = records.next() {
            let Object::Resource(record) = object else { continue };
            let lifetime = match records.peek() {
                Some(Object::Expires(seconds)) => *seconds,
                _ => record.lifetime,
            };
            let asked_for = record.resource.key() == &search.key
                && record.kind == kind
                && owner.is_none_or(|o| record.owner == o)
                && !record.tombstone
                && crate::storage::stands_where_it_may(hash, &record);
            if !asked_for || !record.verify() {
                continue;
            }
            found = true;
            let newer = |r: &Record| r.owner != record.owner || r.sequence < record.sequence;
            if search.records.iter().all(|(r, _)| newer(r)) {
                search.records.retain(|(r, _)| r.owner != record.owner);
                let left = Duration::from_secs(lifetime.min(record.lifetime).into());
                search.records.push((record.to_record(), left));
            }
        }
        found
    }

    fn finish(&mut self, now: Time, id: SearchId) {
        let Some(search) = self.searches.running.remove(&id) else { return };
        self.timers.cancel(Alarm::Search(id));
        self.transactions.abandon(|p| *p == Purpose::Step(id) || *p == Purpose::Recursive(id));
        let mut findings = Findings {
            records: search.records,
            messages: search.messages,
            took: now.since(search.started),
            path: search.path,
            mode: search.options.mode,
            crowd: search.crowd,
            ..Findings::default()
        };
        match search.progress {
            Progress::Recursive => findings.hops = search.hops,
            Progress::Iterative(lookup) => {
                if findings.mode == Mode::Recursive {
                    findings.mode = Mode::Iterative;
                }
                if let Some(outcome) = lookup.outcome() {
                    findings.hops = outcome.hops.into();
                    findings.closest = outcome.closest;
                }
            }
        }
        self.search_done(now, search.purpose, search.key, findings);
    }

    fn search_done(&mut self, now: Time, purpose: For, key: Key, findings: Findings) {
        match purpose {
            For::Join => self.join_through(now, &findings.closest),
            For::Upkeep => {}
            For::Probe => self.handle_probe_done(now, &findings),
            For::Place(publication) => self.handle_place_heard(now, publication, findings),
            For::Region(publication) => self.handle_region_found(now, publication, &findings.closest),
            For::ReadBefore(publication) => self.handle_read_before(now, publication, findings),
            For::ReadBack(publication) => self.handle_read_back(now, publication, &findings),
            For::Resolve(resolution) => self.handle_resolve_step(now, resolution, &key, findings),
            For::Lookup(op, name) => self.handle_lookup_done(op, name, findings),
            For::Get(op) => self.handle_get_done(op, findings),
        }
    }

    /// Hops a request may take: twice the logarithm of the overlay's size, and some slack.
    pub(crate) fn initial_ttl(&self) -> u8 {
        (2 * self.size_estimate().max(2).ilog2() + 8).min(64) as u8
    }
}

/// A question for records.
fn object_question(header: &Header, key: Key, kind: Kind, owner: Option<PublicKey>, trace: bool) -> Vec<u8> {
    let mut builder = Builder::new(header);
    builder.push(&Object::RLookup(RLookup { resource: ResourceId(key), kind, owner }));
    if trace {
        let options = RequestOptions { route_log: true, ..RequestOptions::default() };
        builder.push(&Object::RequestOptions(options));
    }
    builder.finish()
}

/// The hops a recursive answer reports.
fn route_log(message: &Message<'_>) -> Vec<Hop> {
    let decision = |n: u8| match n {
        1 => "answered",
        2 => "rerouted",
        _ => "forwarded",
    };
    message
        .objects()
        .filter_map(|o| match o {
            Object::RouteHop(h) => {
                let rtt = Duration::from_micros(h.rtt_micros.into());
                Some(hop(h.id, h.address, rtt, decision(h.decision)))
            }
            _ => None,
        })
        .collect()
}

fn hop(id: NodeId, address: SocketAddr, rtt: Duration, decision: &str) -> Hop {
    Hop {
        node: id.to_string(),
        address: address.to_string(),
        rtt_ms: rtt.as_secs_f64() * 1e3,
        decision: decision.to_owned(),
    }
}

/// Appends a table of peers to an answer.
pub(crate) fn push_table(builder: &mut Builder, near: bool, contacts: &[Contact]) {
    let list = PeerList::Contacts(&contacts[..contacts.len().min(WIDTH)]);
    builder.push(&if near { Object::NeighborTable(list) } else { Object::RoutingTable(list) });
}
