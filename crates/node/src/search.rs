//! Our own searches: for peers near a key, and for records.
//!
//! A record is sought recursively first: one message to the table's best peer, passed on from hop to
//! hop, the answer coming straight from whoever has the record. That is the fastest. If it takes longer
//! than answers usually do, a copy goes another way, the last one with its answer back over the hops,
//! which works over the links that peers behind NATs keep. When no answer comes, or the answer is that
//! there is nothing, the search goes on iteratively: we ask peer after peer ourselves, several at a time and on request along
//! disjoint paths, so that no single hop can hide a record.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use overlay::{Evidence, Lookup, Route};
use smallvec::SmallVec;
use wire::p2pp::{
    AddressInfo, Builder, Code, Header, Kind, Message, MessageType, Object, PLookup, PeerList, RLookup,
    Record, RequestOptions,
};
use wire::{Contact, Key, NodeId, PublicKey, ResourceId, Time};

use crate::event::OpId;
use crate::node::{Alarm, Node, Standing, millis};
use crate::region::{self, Crowd};
use crate::report::Hop;
use crate::request::Purpose;

/// Names one search.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(crate) struct SearchId(pub u64);

/// Peers named in one answer, and spoken to at the end of a search (Kademlia's k).
pub(crate) const WIDTH: usize = 8;

/// Peers that must have spoken before a place to publish at is believed to be known. Each names the
/// others around it, and whether those live shows when they are given the record.
pub(crate) const PLACE_WIDTH: usize = 3;

/// Most searches at once.
pub(crate) const MAX_SEARCHES: usize = 1_024;

/// Recursive attempts, each over another first hop, before the search goes on iteratively. The last one
/// has its answer back over the hops: a NAT may keep out what comes straight from a stranger.
const RECURSIVE_ATTEMPTS: u8 = 3;

/// As many where keys have no place.
const WALK_ATTEMPTS: u8 = 6;

/// Disjoint paths of a record's search that goes on iteratively, and of the one after it, should the
/// answer still be missing or doubtful (S/Kademlia, Baumgart and Mies, 2007, recommend four to eight).
const DISJOINT: [usize; 2] = [4, 8];

/// Peers of one large network that a path of a search hears of, where the table knows enough others.
const OF_NETWORK: usize = 2;

/// Questions of one search for a record, at most.
const MAX_QUESTIONS: u32 = 30;

/// Copies of a question sent at most, first hops that were silent included.
const MAX_COPIES: usize = 8;

/// Pauses after which a record is sought again that was missing where many peers are gone: its owner may
/// have noticed by then, and placed it anew.
const AGAIN: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(60),
    Duration::from_millis(200),
    Duration::from_millis(600),
];

/// By so much an answer with the list of two devices is longer than its question: so much longer is the
/// question made whose answer comes straight from a peer to which our address is not proven.
const PADDING: usize = 144;

/// Direct answers that may fail to come in a row before we rather have them over the hops.
const MAX_MISSES: u32 = 3;

/// After so many such lookups the direct way is tried again.
const TRY_AGAIN: u32 = 16;

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

impl For {
    /// Whether a person, or a program, waits for the answer and acts on it.
    fn is_a_persons(&self) -> bool {
        matches!(self, For::Resolve(_) | For::Lookup(..) | For::Get(_))
    }
}

/// What a search came to.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) records: Vec<(Record, Duration)>,
    /// Who brought the records, where it answered us itself.
    pub(crate) holder: Option<Contact>,
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
    /// Whether the latest copy asked for a direct answer.
    direct: bool,
    /// How often it went on along disjoint paths.
    rounds: usize,
    /// How often it began anew because many peers were gone.
    renewals: usize,
    records: Vec<(Record, Duration)>,
    holder: Option<Contact>,
    path: Vec<Hop>,
    progress: Progress,
    /// Where an iterative search leads: to the key, or to a part of the region around it.
    toward: Key,
    crowd: Option<Crowd>,
    resumed: bool,
    /// Whether it went on in the region around the key.
    widened: bool,
    /// Parts of the region that are still to be searched, the next one last.
    regions: SmallVec<[Key; 3]>,
}

impl Search {
    /// Whether it looks in the region around the key, and no longer at the key.
    fn is_beside(&self) -> bool {
        self.toward != self.key
    }

    /// Whether it looks for the place of a record to be published.
    fn is_for_a_place(&self) -> bool {
        matches!(self.purpose, For::Place(_) | For::ReadBefore(_))
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
    running: BTreeMap<SearchId, Box<Search>>,
    next: u64,
    /// Mean and mean deviation of the time that recursive answers took (RFC 6298).
    usual: Option<(Duration, Duration)>,
    /// Direct answers that did not come, in a row.
    misses: u32,
}

impl Searches {
    /// When some iterative search wants to be woken.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let wake = |search: &Search| match &search.progress {
            Progress::Iterative(lookup) => lookup.poll_timeout().map(|(at, _)| at),
            Progress::Recursive => None,
        };
        self.running.values().filter_map(|s| wake(s)).min()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.running.len()
    }

    fn answered_in(&mut self, took: Duration) {
        let (mean, deviation) = self.usual.unwrap_or((took, took / 2));
        self.usual = Some(((mean * 7 + took) / 8, (deviation * 3 + mean.abs_diff(took)) / 4));
    }

    /// Whether an answer shall come straight to us.
    fn prefers_direct(&self) -> bool {
        self.misses < MAX_MISSES || self.misses.is_multiple_of(TRY_AGAIN)
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
            direct: false,
            rounds: 0,
            renewals: 0,
            records: Vec::new(),
            holder: None,
            path: Vec::new(),
            progress: Progress::Recursive,
            toward: key,
            crowd: None,
            resumed: false,
            widened: false,
            regions: SmallVec::new(),
        };
        self.searches.running.insert(id, Box::new(search));
        Some(id)
    }

    // ---- recursive -----------------------------------------------------------------------------

    /// Answers from what we hold, or sends the question to the best peer.
    fn try_recursively(&mut self, now: Time, id: SearchId) {
        let Some(search) = self.searches.running.get(&id) else { return };
        let Want::Object(kind, owner) = search.want else { return };
        if !search.options.fresh && self.find_at_home(now, id, kind, owner) {
            return self.finish(now, id);
        }
        self.attempt(now, id);
        // One walk may go astray, two seldom do.
        if self.walks().is_some() {
            self.send_copy(now, id);
        }
    }

    /// Recursive attempts before we ask ourselves. Walks cost us one question each and others the rest, and
    /// go farther than we could ask.
    fn recursive_attempts(&self) -> u8 {
        if self.walks().is_some() { WALK_ATTEMPTS } else { RECURSIVE_ATTEMPTS }
    }

    /// Sends a copy of the question on a way not tried yet, or goes on iteratively.
    fn attempt(&mut self, now: Time, id: SearchId) {
        let Some(search) = self.searches.running.get(&id) else { return };
        if search.attempt >= self.recursive_attempts() || !self.send_copy(now, id) {
            return self.go_iterative(now, id, &[]);
        }
        let third = self.config.lookup_timeout / (u32::from(RECURSIVE_ATTEMPTS) + 1);
        let usual = match self.searches.usual {
            Some((mean, deviation)) => mean + deviation * 4,
            // Not known yet: a few hops, as far as hops are known.
            None => self.link.round_trips.typical().map_or(third, |rtt| rtt * 6),
        };
        self.timers.set(Alarm::Hedge(id), now + usual.clamp(link::rtt::MIN_PATIENCE * 2, third));
    }

    /// Sends a copy of the question through the best first hop not tried yet; `false` if there is none.
    fn send_copy(&mut self, now: Time, id: SearchId) -> bool {
        let Some(search) = self.searches.running.get(&id) else { return false };
        let Want::Object(kind, owner) = search.want else { return false };
        let (key, trace) = (search.key, search.options.trace);
        if search.tried.len() >= MAX_COPIES {
            return false;
        }
        let tried = search.tried.clone();
        let hops = self.first_hops(now, &key);
        let Some(table) = self.standing.as_mut().map(|s| &mut s.table) else { return false };
        let mut untried = hops.into_iter().filter(|c| !tried.contains(&c.id));
        let Some(first) = untried.find(|c| table.spend(now, &key, &c.id)) else { return false };
        let Some(search) = self.searches.running.get(&id) else { return false };
        // A route log makes answers long, and the last copy shall come back where strangers are kept out.
        let may_be_direct = !trace && search.attempt + 1 < self.recursive_attempts() && !self.is_client();
        let direct = may_be_direct && self.searches.prefers_direct();
        let origin = self.own_addresses().first().copied().filter(|_| direct);
        let deadline = now + self.config.lookup_timeout;
        let mut header = self.header(MessageType::LookupObject);
        header.recursive = true;
        header.ttl = self.initial_ttl();
        header.deadline_ms = millis(deadline.since(now));
        let bytes = object_question(&header, key, kind, owner, trace, origin);
        let to = (first.address, Some(first.id));
        let Some(search) = self.searches.running.get_mut(&id) else { return false };
        search.tried.push(first.id);
        search.messages += 1;
        search.direct = origin.is_some();
        let message = MessageType::LookupObject;
        self.request(now, to, message, header.transaction, bytes, deadline, Purpose::Recursive(id));
        let patience = self.link.round_trips.patience(first.address);
        self.transactions.hedge((header.transaction, first.address), patience);
        true
    }

    /// Whom to send a question of our own to, the best first: those on the way, then the other holders,
    /// should we be one ourselves.
    fn first_hops(&self, now: Time, key: &Key) -> Vec<Contact> {
        let Some(standing) = &self.standing else { return Vec::new() };
        let mut hops = self.ways(now, key, |_| false).to_vec();
        let near = standing.table.route(key, self.replicas());
        hops.extend(near.contacts().iter().filter(|c| !hops.contains(c)).copied().collect::<Vec<_>>());
        hops
    }

    /// The first hop of a copy is silent: another one is tried beside it. `false` if there is none.
    pub(crate) fn hedge_search(&mut self, now: Time, id: SearchId) -> bool {
        let most = self.recursive_attempts();
        let is_recursive = |s: &Search| matches!(s.progress, Progress::Recursive) && s.attempt < most;
        // A search that ended or went on iteratively has no use for one.
        !self.searches.running.get(&id).is_some_and(|s| is_recursive(s)) || self.send_copy(now, id)
    }

    /// The answer takes longer than usual: another copy goes another way, or the search goes on
    /// iteratively. Copies under way may still be answered.
    pub(crate) fn handle_search_hedge(&mut self, now: Time, id: SearchId) {
        let Some(search) = self.searches.running.get_mut(&id) else { return };
        if matches!(search.progress, Progress::Recursive) {
            search.attempt += 1;
            self.attempt(now, id);
        }
    }

    /// Whether we hold what is sought ourselves, and belong to its holders: of a record that has moved on
    /// there may be a newer version by now. Where keys have no place none moves on.
    fn find_at_home(&mut self, now: Time, id: SearchId, kind: Kind, owner: Option<PublicKey>) -> bool {
        let replicas = self.replicas();
        let Some(search) = self.searches.running.get_mut(&id) else { return false };
        let belongs =
            |s: &Standing| s.walks().is_some() || s.table.route(&search.key, replicas).includes_self();
        if !self.standing.as_ref().is_some_and(belongs) {
            return false;
        }
        let place = ResourceId(search.key);
        let held = self.storage.live(now, &place, kind);
        search.records = held
            .filter(|s| owner.is_none_or(|o| s.record.owner == o))
            .map(|s| ((*s.record).clone(), s.expires.since(now)))
            .collect();
        !search.records.is_empty()
    }

    /// An answer came back over the hops, or from the first of them.
    pub(crate) fn handle_recursive_answer(
        &mut self,
        now: Time,
        id: SearchId,
        (holder, message): (Option<Contact>, &Message<'_>),
        sent: Time,
    ) {
        self.collect(id, message, holder);
        let ttl = self.initial_ttl();
        let Some(search) = self.searches.running.get_mut(&id) else { return };
        if message.header.code.is_ok() && !search.records.is_empty() {
            search.path = route_log(message);
            search.hops = u32::from(ttl.saturating_sub(message.header.ttl)) + 1;
            search.progress = Progress::Recursive;
            if !search.direct {
                self.searches.misses = self.searches.misses.wrapping_add(1);
            }
            self.searches.answered_in(now.since(sent));
            return self.finish(now, id);
        }
        if !matches!(search.progress, Progress::Recursive) {
            return;
        }
        search.attempt += 1;
        if message.header.code == Code::NOT_FOUND {
            // Someone near the key says there is nothing: see for ourselves.
            let seeds = self.contacts_of_answer(message, WIDTH);
            return self.go_iterative(now, id, &seeds);
        }
        self.attempt(now, id);
    }

    /// An answer came from an address that we asked nothing: straight from whoever a question of ours
    /// reached. It knows the question's random number, as the hops do.
    pub(crate) fn handle_direct_answer(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let header = message.header;
        let ours = |p: &Purpose| matches!(p, Purpose::Recursive(_));
        let Some(copy) = self.transactions.copy(header.transaction, ours) else {
            return self.link.count_drop("late answer");
        };
        let Some(client) = self.transactions.end(copy) else { return };
        let Purpose::Recursive(id) = client.purpose else { return };
        self.searches.misses = 0;
        if header.code == Code::PROOF_REQUIRED {
            return self.ask_with_cookie(now, id, remote, message);
        }
        let holder = header.responder.map(|id| Contact { id, address: remote });
        self.handle_recursive_answer(now, id, (holder, message), client.first_sent);
    }

    /// Whoever has the record wants our address proven first, for its answer is long.
    fn ask_with_cookie(&mut self, now: Time, id: SearchId, remote: SocketAddr, message: &Message<'_>) {
        let Some(search) = self.searches.running.get_mut(&id) else { return };
        let Want::Object(kind, owner) = search.want else { return };
        let Some(cookie) = message.find(|o| match o {
            Object::Cookie(cookie) => Some(cookie),
            _ => None,
        }) else {
            return;
        };
        search.messages += 1;
        let resource = ResourceId(search.key);
        let deadline = now + self.config.lookup_timeout;
        let mut header = self.header(MessageType::LookupObject);
        // Not routed any further; the hops are counted by what is left.
        header.ttl = message.header.ttl;
        header.deadline_ms = millis(deadline.since(now));
        let bytes = Builder::new(&header)
            .with(&Object::RLookup(RLookup { resource, kind, owner }))
            .with(&Object::Cookie(cookie))
            .finish();
        let (to, purpose) = ((remote, None), Purpose::Recursive(id));
        self.request(now, to, MessageType::LookupObject, header.transaction, bytes, deadline, purpose);
    }

    /// A copy came to nothing. Others may be under way; if not, the search goes on.
    pub(crate) fn handle_recursive_silence(&mut self, now: Time, id: SearchId) {
        let others = self.transactions.any(|p| *p == Purpose::Recursive(id));
        let Some(search) = self.searches.running.get_mut(&id).filter(|_| !others) else { return };
        if matches!(search.progress, Progress::Recursive) {
            search.attempt += 1;
            self.attempt(now, id);
        }
    }

    // ---- iterative -----------------------------------------------------------------------------

    fn go_iterative(&mut self, now: Time, id: SearchId, extra: &[Contact]) {
        let Some(standing) = &mut self.standing else { return };
        let Some(search) = self.searches.running.get_mut(&id) else { return };
        let mut seeds: Vec<Contact> = standing.table.route(&search.toward, WIDTH).contacts().to_vec();
        seeds.extend(extra.iter().filter(|c| c.id != standing.id));
        standing.table.handle_lookup(now, &search.toward);
        let mut config = overlay::lookup::Config::new(standing.metric());
        config.of_network = standing.is_diverse().then_some(OF_NETWORK);
        config.width = search.options.width;
        config.paths = match (search.options.paths, search.options.mode) {
            (0, Mode::Parallel) => DISJOINT[0],
            // Where the region around the key is searched, one path for each part.
            (0, Mode::Recursive)
                if search.want != Want::Peers && !search.is_beside() && search.renewals == 0 =>
            {
                let paths = DISJOINT[search.rounds.min(1)];
                search.rounds += 1;
                // Together the paths hear more than a width of the nearest, each peer on one path only.
                config.width = (WIDTH / paths).max(2);
                config.parallelism = 1;
                paths
            }
            (0, _) => 1,
            (paths, _) => usize::from(paths),
        };
        let places = search.is_for_a_place();
        if places {
            config.questions = MAX_QUESTIONS as usize * config.paths;
        } else if search.renewals > 0 {
            // Who is left by now is known: the nearest of them.
            config.questions = 2 * WIDTH;
        } else if search.want != Want::Peers && !search.is_beside() {
            config.questions = MAX_QUESTIONS.saturating_sub(search.messages) as usize;
        }
        if let (Some(walks), true) = (standing.walks(), places || search.want != Want::Peers) {
            config.exhaustive = true;
            // Who has just come, or lost many, knows others besides its neighbours.
            seeds.extend(standing.table.contacts().iter().map(|e| e.contact));
            if places {
                (config.questions, config.width) = (walks.questions, walks.questions);
            }
        }
        if search.want != Want::Peers {
            // An answer that is doubted is to be confirmed or outdone by others.
            let doubted = !search.records.is_empty();
            config.goal = overlay::Goal::Found(if doubted { config.paths } else { 1 });
        }
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
            && search.records.is_empty()
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
            lookup.expect_by(&ask.contact.id, now + self.link.round_trips.patience(address));
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
        let sizes = [self.size_around_us(), self.size_estimate()];
        let Some(standing) = self.standing.as_ref().filter(|s| s.walks().is_none()) else { return false };
        let Some(search) = self.searches.running.get_mut(&id) else { return false };
        let (beside, persistent) = (search.is_beside(), search.is_persistent());
        let places = search.is_for_a_place();
        let Progress::Iterative(lookup) = &mut search.progress else { return false };
        let ours = standing.parts_around_us();
        if !beside && search.crowd != Some(Crowd::Dense) {
            // Several paths share a width: more have answered than the outcome names. Around a place fewer
            // have, and who was named counts too.
            let heard = lookup.nearest(usize::MAX).into_iter().filter(|(_, answered)| *answered || places);
            let nearest: Vec<Contact> = heard.map(|(contact, _)| contact).take(WIDTH).collect();
            search.crowd = Some(region::judge(&standing.metric().parts(&search.key, &nearest), &ours));
        }
        // Where the nearest stand sparser than most, nearer ones may have been kept from us.
        let doubted = persistent || places && search.crowd == Some(Crowd::Sparse);
        if !search.records.is_empty() || !doubted {
            return false;
        }
        if std::mem::replace(&mut search.resumed, true) {
            // Nobody else knows it either: where strangers crowd it is kept around them.
            if search.crowd != Some(Crowd::Dense) {
                return false;
            }
            if !std::mem::replace(&mut search.widened, true) {
                // Whoever stands beside the crowd has a crowd for neighbours, and takes the overlay for
                // larger than it is; what its searches say of the size is looked at too.
                let mut parts: Vec<Key> = Vec::new();
                for part in sizes.iter().flat_map(|size| region::around(&search.key, *size)) {
                    if !parts.contains(&part) {
                        parts.push(part);
                    }
                }
                search.regions = parts.into_iter().rev().collect();
            }
            let Some(part) = search.regions.pop() else { return false };
            search.toward = part;
            self.go_iterative(now, id, &[]);
            return true;
        }
        // Our whole table: liars may be all that stands near the key in it.
        let mut seeds: Vec<Contact> = standing
            .table
            .contacts()
            .into_iter()
            .filter(|e| e.standing == overlay::Standing::Good)
            .map(|e| e.contact)
            .collect();
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
        let found = self.collect(id, message, Some(Contact { id: from, address: remote }));
        let contacts = self.contacts_of_answer(message, WIDTH);
        if self.is_around_us(id) {
            contacts.iter().for_each(|contact| self.mention(now, *contact));
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

    /// What a search that has ended teaches our table: the nearest of all that were named. Liars name only
    /// each other, and would fill the bucket around a key with whoever they named on the way; nearer to
    /// it than honest peers stand only as many of them as their share. Of a search that went on since
    /// only liars seemed to be near nothing is learnt.
    fn learn_nearest(&mut self, now: Time, lookup: &Lookup) {
        for (contact, answered) in lookup.nearest(WIDTH) {
            let alive = Evidence::Alive { rtt: None };
            self.learn(now, contact, if answered { alive } else { Evidence::Mentioned });
        }
    }

    /// Whether a search is for our own place. All that it hears of may be neighbours; of others only the
    /// nearest are worth knowing, see [`learn_nearest`](Self::learn_nearest).
    pub(crate) fn is_around_us(&self, id: SearchId) -> bool {
        let own = self.standing.as_ref().map(|s| s.id.key());
        self.searches.running.get(&id).is_some_and(|s| Some(&s.toward) == own)
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
    pub(crate) fn contacts_of_answer(&mut self, message: &Message<'_>, asked: usize) -> Vec<Contact> {
        let mut contacts = crate::membership::contacts_in(message);
        if contacts.len() > asked {
            self.link.count_drop("more peers than asked for");
            contacts.truncate(asked);
        }
        contacts.retain(|c| self.standing.as_ref().is_some_and(|s| s.admits(&c.id)));
        contacts
    }

    /// The person has waited long enough: what was found so far is the result.
    pub(crate) fn handle_search_deadline(&mut self, now: Time, id: SearchId) {
        if self.pause_before_renewal(id).is_some() {
            let Some(search) = self.searches.running.get_mut(&id) else { return };
            search.renewals += 1;
            return self.go_iterative(now, id, &[]);
        }
        self.finish(now, id);
    }

    // ---- results -------------------------------------------------------------------------------

    /// Keeps every valid record of an answer, and who gave it where that is known; `true` if there was one.
    fn collect(&mut self, id: SearchId, message: &Message<'_>, holder: Option<Contact>) -> bool {
        let Some(search) = self.searches.running.get_mut(&id) else { return false };
        let Want::Object(kind, owner) = search.want else { return false };
        let (hash, signatures) = (self.storage.hash(), self.identity.peer.signatures());
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
            if !asked_for || !record.verify_by(signatures) {
                continue;
            }
            (found, search.holder) = (true, holder);
            let newer = |r: &Record| r.owner != record.owner || r.sequence < record.sequence;
            if search.records.iter().all(|(r, _)| newer(r)) {
                search.records.retain(|(r, _)| r.owner != record.owner);
                let left = Duration::from_secs(lifetime.min(record.lifetime).into());
                search.records.push((record.to_record(), left));
            }
        }
        found
    }

    /// Ends a search, unless what it found is to be doubted and there are other ways to look.
    fn finish(&mut self, now: Time, id: SearchId) {
        if let Some(pause) = self.pause_before_renewal(id) {
            return self.timers.set(Alarm::Search(id), now + pause);
        }
        if self.is_doubtful(now, id) {
            return self.go_iterative(now, id, &[]);
        }
        let around_us = self.is_around_us(id);
        let Some(search) = self.searches.running.remove(&id) else { return };
        if self.searches.running.is_empty() {
            self.searches.running = BTreeMap::new();
        }
        for (record, _) in search.records.iter().filter(|_| search.purpose.is_a_persons()) {
            self.directory.remember(search.key, record);
        }
        self.timers.cancel(Alarm::Search(id));
        self.timers.cancel(Alarm::Hedge(id));
        // Questions to single peers go on: their answers, or silence, still tell the table who lives.
        self.transactions.abandon(|p| *p == Purpose::Recursive(id));
        let is_for_a_place = search.is_for_a_place();
        let mut findings = Findings {
            records: search.records,
            holder: search.holder,
            messages: search.messages,
            took: now.since(search.started),
            path: search.path,
            mode: search.options.mode,
            crowd: search.crowd,
            ..Findings::default()
        };
        if findings.crowd.is_none()
            && let (Progress::Iterative(lookup), Some(standing)) = (&search.progress, &self.standing)
            && search.toward == search.key
            && search.want != Want::Peers
        {
            // Found before the nearest had all spoken: those that were named tell whether they crowd.
            let named: Vec<Contact> = lookup.nearest(WIDTH).into_iter().map(|(c, _)| c).collect();
            let parts = standing.metric().parts(&search.key, &named);
            findings.crowd = Some(region::judge(&parts, &standing.parts_around_us()));
        }
        match search.progress {
            Progress::Recursive => findings.hops = search.hops,
            Progress::Iterative(lookup) => {
                if findings.mode == Mode::Recursive {
                    findings.mode = Mode::Iterative;
                }
                if !around_us && !search.resumed {
                    self.learn_nearest(now, &lookup);
                }
                if let Some(outcome) = lookup.outcome() {
                    findings.hops = outcome.hops.into();
                    findings.closest = match is_for_a_place {
                        true => lookup.nearest(WIDTH).into_iter().map(|(contact, _)| contact).collect(),
                        false => outcome.closest,
                    };
                }
            }
        }
        self.search_done(now, search.purpose, search.key, findings);
    }

    /// How long to wait until a search begins anew that ended in vain, if it shall.
    fn pause_before_renewal(&self, id: SearchId) -> Option<Duration> {
        let search = self.searches.running.get(&id)?;
        let Progress::Iterative(lookup) = &search.progress else { return None };
        let outcome = lookup.outcome()?;
        let many_are_gone = outcome.failed >= 2 && outcome.failed * 4 >= outcome.asked;
        let in_vain = search.records.is_empty() && search.is_persistent() && many_are_gone;
        AGAIN.get(search.renewals).copied().filter(|_| in_vain)
    }

    /// Whether disjoint paths should look again for what somebody waits for: because nothing was found,
    /// or something suspicious.
    fn is_doubtful(&self, now: Time, id: SearchId) -> bool {
        let Some(search) = self.searches.running.get(&id) else { return false };
        let may_go_on = search.rounds < DISJOINT.len()
            && search.options.mode == Mode::Recursive
            && search.options.paths == 0
            && search.messages < MAX_QUESTIONS
            && now.since(search.started) < self.config.lookup_timeout;
        search.want != Want::Peers
            && search.purpose.is_a_persons()
            && may_go_on
            && self.directory.suspicious(&search.key, &search.records)
    }

    fn search_done(&mut self, now: Time, purpose: For, key: Key, findings: Findings) {
        // Around our own place the table knows better.
        if matches!(purpose, For::Place(_) | For::ReadBefore(_)) && findings.closest.len() == WIDTH {
            let standing = self.standing.as_ref().filter(|s| s.walks().is_none());
            let parts = standing.map(|s| s.metric().parts(&key, &findings.closest));
            self.membership.size.sample(&parts.unwrap_or_default());
        }
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

    /// Hops a request may take: twice the logarithm of the overlay's size, and some slack; of a walk, as
    /// many as its algorithm says.
    pub(crate) fn initial_ttl(&self) -> u8 {
        if let Some(walks) = self.walks() {
            return walks.hops;
        }
        (2 * self.size_estimate().max(2).ilog2() + 8).min(64) as u8
    }
}

/// A question for records; with an `origin`, for an answer straight to there.
fn object_question(
    header: &Header,
    key: Key,
    kind: Kind,
    owner: Option<PublicKey>,
    trace: bool,
    origin: Option<SocketAddr>,
) -> Vec<u8> {
    let mut builder = Builder::new(header);
    builder.push(&Object::RLookup(RLookup { resource: ResourceId(key), kind, owner }));
    if let Some(origin) = origin {
        builder.push(&Object::AddressInfo(AddressInfo::host(origin)));
        builder.push(&Object::Padding(&[0; PADDING]));
    }
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
