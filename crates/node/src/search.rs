//! Our own searches: for peers near a key, and for records.
//!
//! A record is sought recursively first: one message to the table's best peer, passed on from hop to
//! hop, the answer coming straight from whoever has the record. That is the fastest. If it takes longer
//! than answers usually do, a copy goes another way, the last one with its answer back over the hops,
//! which works over the links that peers behind NATs keep. When no answer comes, or the answer is that
//! there is nothing, the search goes on iteratively: we ask peer after peer ourselves, several at a time and on request along
//! disjoint paths, so that no single hop can hide a record.

mod iterative;
mod recursive;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use overlay::Lookup;
use smallvec::SmallVec;
use wire::p2pp::density::RANKS;
use wire::p2pp::{Builder, Density, Kind, Message, Object, PeerList, Record};
use wire::{Contact, Key, NodeId, PublicKey, Time};

use crate::event::OpId;
use crate::names::NameFlaw;
use crate::node::{Alarm, Node};
use crate::policy::Rules;
use crate::region::{self, Crowd};
use crate::report::Hop;
use crate::request::Purpose;
use crate::timers::Timers;

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

/// Questions of one search for a place, for each time that the overlay doubled to become as large as it is: what
/// an honest peer knows leads to the place in as many steps at most.
const QUESTIONS_OF_DOUBLING: u32 = 3;

/// Peers that a question of a search lists as known, and of one that was resumed: it asks peers all over the
/// space, which would name others than the nearest.
const KNOWN: [usize; 2] = [WIDTH + WIDTH / 2, 3 * WIDTH];

/// Questions in flight when a search for a place begins: those asked at once name the same peers, and whoever is
/// asked later is told whom we know by then.
const FEW_AT_ONCE: usize = 2;

/// Questions in flight of a search resumed, from one path and from several: each answer says better whom to ask
/// than the one before.
const PERSISTENCE: [usize; 2] = [3, 2];

/// Copies of a question sent at most, first hops that were silent included.
const MAX_COPIES: usize = 8;

/// Heaps of chosen identities that one search passes over, at most.
const MAX_HEAPS: usize = 3;

/// Pauses after which a record is sought again that was missing where many peers are gone: its owner may
/// have noticed by then, and placed it anew.
const AGAIN: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(60),
    Duration::from_millis(200),
    Duration::from_millis(600),
];

/// A direct answer without names, but for its record's place and value: header, record, what is left of its
/// life, and Density. So long a question is made whose answer comes straight from a peer to which our address is not
/// proven.
const ANSWER_LEN: usize = 32 + (4 + 120) + (4 + 4) + (4 + 4);

/// The value that a direct answer is expected to have: a list of two devices.
const VALUE_LEN: usize = 2 + 2 * PublicKey::LEN;

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

wire::choices!(
    Mode, "mode": Recursive = "recursive", Iterative = "iterative", Parallel = "parallel",
);

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
    Get(OpId, String),
    /// What an authority took back.
    Revocations,
}

impl For {
    /// Whether a person, or a program, waits for the answer and acts on it.
    fn is_a_persons(&self) -> bool {
        matches!(self, For::Resolve(_) | For::Lookup(..) | For::Get(..))
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
    /// How the peers around the key stand, and how close to it.
    pub(crate) crowd: Option<Crowd>,
    pub(crate) density: Density,
    /// Why a record of the name that was found does not count.
    pub(crate) flaw: Option<NameFlaw>,
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
    /// Why a record that was found does not count.
    flaw: Option<NameFlaw>,
    holder: Option<Contact>,
    path: Vec<Hop>,
    progress: Progress,
    /// Where an iterative search leads: to the key, or to a part of the region around it.
    toward: Key,
    crowd: Option<Crowd>,
    /// How close to the key peers stand, by those that were named to us.
    seen: Density,
    /// And by those that answered with a record; nothing where they did not say.
    told: Option<Density>,
    resumed: bool,
    /// Whether it went on in the region around the key.
    widened: bool,
    /// Heaps of chosen identities beside the key that are passed over: one of each, and how many bits it may
    /// share with who is asked.
    heaps: SmallVec<[(Key, u32); 1]>,
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

    /// How many a question of it lists as known, at most.
    fn most_known(&self) -> usize {
        KNOWN[usize::from(self.resumed)]
    }

    /// Whether it only teaches the table who is there.
    fn is_for_the_table(&self) -> bool {
        matches!(self.purpose, For::Upkeep | For::Join)
    }

    /// Whether a miss is doubted: where somebody waits for the record, or relies on its being found,
    /// and did not say how to search.
    fn is_persistent(&self) -> bool {
        let matters =
            matches!(self.purpose, For::Lookup(..) | For::Resolve(_) | For::Get(..) | For::ReadBack(_))
                || self.purpose == For::Revocations;
        matters && self.options.mode == Mode::Recursive && self.options.paths == 0
    }
}

/// Every search under way.
#[derive(Default)]
pub(crate) struct Searches {
    running: BTreeMap<SearchId, Box<Search>>,
    /// When each iterative one wants to be woken: the engine asks after every input.
    wakes: Timers<SearchId>,
    next: u64,
    /// Mean and mean deviation of the time that recursive answers took (RFC 6298).
    usual: Option<(Duration, Duration)>,
    /// Direct answers that did not come, in a row.
    misses: u32,
}

impl Searches {
    /// When some iterative search wants to be woken.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.wakes.next().map(|(at, _)| *at)
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
            flaw: None,
            holder: None,
            path: Vec::new(),
            progress: Progress::Recursive,
            toward: key,
            crowd: None,
            seen: Density::default(),
            told: None,
            resumed: false,
            widened: false,
            heaps: SmallVec::new(),
            regions: SmallVec::new(),
        };
        self.searches.running.insert(id, Box::new(search));
        Some(id)
    }

    /// Keeps every valid record of an answer, and who gave it where that is known; `true` if there was one.
    fn collect(&mut self, now: Time, id: SearchId, message: &Message<'_>, holder: Option<Contact>) -> bool {
        let unix = self.unix(now);
        let Some(search) = self.searches.running.get_mut(&id) else { return false };
        let Want::Object(kind, owner) = search.want else { return false };
        let (hash, signatures) = (self.storage.hash(), self.identity.peer.signatures());
        let rules = Rules { hash, document: self.documents.newest() };
        let (mut found, mut told) = (false, None);
        let mut records = message.objects().peekable();
        while let Some(object) = records.next() {
            let record = match object {
                Object::Resource(record) => record,
                Object::Density(density) => {
                    told = told.or(Some(density));
                    continue;
                }
                _ => continue,
            };
            let lifetime = match records.peek() {
                Some(Object::Expires(seconds)) => *seconds,
                _ => record.lifetime,
            };
            let asked_for = record.resource.key() == &search.key
                && record.kind == kind
                && owner.is_none_or(|o| record.owner == o)
                && !record.tombstone
                && !self.documents.bans(&record.owner)
                && rules.check(&record).is_ok()
                && !self.numbers.refutes(&record);
            if !asked_for || !record.verify_by(signatures) {
                continue;
            }
            if let Err(flaw) = self.names.check(hash, unix, &record) {
                search.flaw = Some(flaw);
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
        if let Some(told) = told.filter(|_| found) {
            search.told = Some(search.told.unwrap_or_default().closer(told));
        }
        found
    }

    /// Ends a search, unless what it found is to be doubted and there are other ways to look.
    fn finish(&mut self, now: Time, id: SearchId) {
        if let Some(pause) = self.pause_before_renewal(now, id) {
            self.report_lost(now, id);
            return self.timers.set(Alarm::Search(id), now + pause);
        }
        if self.is_doubtful(now, id) {
            if let Some(search) = self.searches.running.get_mut(&id).filter(|s| s.renewals > 0) {
                // It looks along one path, which counts as a round too: cut off from everybody it ends at once.
                search.rounds += 1;
            }
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
        self.searches.wakes.cancel(id);
        self.timers.cancel(Alarm::Search(id));
        self.timers.cancel(Alarm::Hedge(id));
        // Questions to single peers go on: their answers, or silence, still tell the table who lives.
        self.transactions.abandon(|p| *p == Purpose::Recursive(id));
        let is_for_a_place = search.is_for_a_place();
        let (crowd, density) = self.crowd_around(now, &search);
        let mut findings = Findings {
            records: search.records,
            holder: search.holder,
            messages: search.messages,
            took: now.since(search.started),
            path: search.path,
            mode: search.options.mode,
            crowd,
            density,
            flaw: search.flaw,
            ..Findings::default()
        };
        match search.progress {
            Progress::Recursive => findings.hops = search.hops,
            Progress::Iterative(lookup) => {
                if findings.mode == Mode::Recursive {
                    findings.mode = Mode::Iterative;
                }
                if !around_us && !search.resumed {
                    self.learn_nearest(
                        now,
                        &lookup,
                        if is_for_a_place { search.options.width } else { WIDTH },
                    );
                }
                if let Some(outcome) = lookup.outcome() {
                    findings.hops = outcome.hops.into();
                    findings.closest = if is_for_a_place {
                        lookup.nearest(WIDTH).into_iter().map(|(contact, _)| contact).collect()
                    } else {
                        outcome.closest
                    };
                }
            }
        }
        self.search_done(now, search.purpose, search.key, findings);
    }

    /// How the peers around a key stand, by those that were named to us and by what those said who had a
    /// record. What they said of an even place also tells the size of the overlay.
    fn crowd_around(&mut self, now: Time, search: &Search) -> (Option<Crowd>, Density) {
        let Some(standing) = self.standing.as_ref().filter(|_| !search.is_for_the_table()) else {
            return (None, Density::default());
        };
        let size = self.size_at_most(now);
        let (mut crowd, mut seen) = (search.crowd, search.seen);
        if let Progress::Iterative(lookup) = &search.progress
            && crowd.is_none()
            && !search.is_beside()
            && search.want != Want::Peers
        {
            // Found before the nearest had all spoken: those that were named tell whether they crowd.
            let named: Vec<Contact> = lookup.nearest(WIDTH).into_iter().map(|(c, _)| c).collect();
            let (verdict, density) = region::judge(&standing.metric(), &search.key, &named, size);
            (crowd, seen) = (Some(verdict), density);
        }
        let Some(told) = search.told else { return (crowd, seen) };
        if region::is_dense(told, size) {
            return (Some(Crowd::Dense), seen.closer(told));
        }
        if let [_, Some(part)] = told.parts()
            && crowd != Some(Crowd::Dense)
            && standing.hears_whole_places()
        {
            self.membership.size.sample_one(now, RANKS[1], part);
        }
        (crowd, seen.closer(told))
    }

    /// How long to wait until a search begins anew that ended in vain, if it shall.
    fn pause_before_renewal(&self, now: Time, id: SearchId) -> Option<Duration> {
        let search = self.searches.running.get(&id)?;
        let Progress::Iterative(lookup) = &search.progress else { return None };
        let outcome = lookup.outcome()?;
        let lost = outcome.lost.len();
        let many_are_gone = lost >= 2 && lost * 4 >= outcome.asked;
        // Strangers that liars named may never have been there.
        let were_there = outcome.lost_known || self.has_lost_lately(now);
        // By the second time those who are gone are known, and not asked.
        let has_cause = search.renewals > 0 || many_are_gone && were_there;
        let in_vain = search.records.is_empty() && search.is_persistent() && has_cause;
        AGAIN.get(search.renewals).copied().filter(|_| in_vain)
    }

    /// Those who did not answer may have been all that held the record sought, and its owner the last to learn
    /// of it.
    fn report_lost(&mut self, now: Time, id: SearchId) {
        let Some(search) = self.searches.running.get(&id).filter(|s| s.renewals == 0) else { return };
        let Progress::Iterative(lookup) = &search.progress else { return };
        let lost = lookup.outcome().map(|o| o.lost).unwrap_or_default();
        self.tell_of_lost(now, &lost);
    }

    /// Whether disjoint paths should look again for what somebody waits for: because nothing was found,
    /// or something suspicious.
    fn is_doubtful(&self, now: Time, id: SearchId) -> bool {
        let Some(search) = self.searches.running.get(&id) else { return false };
        let may_go_on = search.rounds < DISJOINT.len()
            && !search.widened
            && search.options.mode == Mode::Recursive
            && search.options.paths == 0
            && search.messages < MAX_QUESTIONS
            && now.since(search.started) < self.config.lookup_timeout;
        search.want != Want::Peers
            && search.purpose.is_a_persons()
            && may_go_on
            && (self.directory.suspicious(&search.key, &search.records) || self.is_silent_about(search))
    }

    /// Whether whoever answered with the record kept to itself who stands around it: an honest holder says
    /// so. We look for ourselves.
    fn is_silent_about(&self, search: &Search) -> bool {
        let has_places = self.standing.as_ref().is_some_and(|s| s.walks().is_none());
        matches!(search.progress, Progress::Recursive) && search.told.is_none() && has_places
    }

    fn search_done(&mut self, now: Time, purpose: For, key: Key, findings: Findings) {
        // Around our own place the table knows better.
        if matches!(purpose, For::Place(_) | For::ReadBefore(_))
            && findings.closest.len() == WIDTH
            && findings.crowd != Some(Crowd::Dense)
        {
            let standing = self.standing.as_ref().filter(|s| s.hears_whole_places());
            let parts = standing.map(|s| s.metric().parts(&key, &findings.closest));
            self.membership.size.sample(now, &parts.unwrap_or_default());
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
            For::Lookup(op, name) => self.handle_lookup_done(now, op, name, findings),
            For::Get(op, name) => self.handle_get_done(op, name, findings),
            For::Revocations => self.handle_revocations_found(now, &findings),
        }
    }

    /// Hops a request may take: twice the logarithm of the overlay's size, and some slack; of a walk, as
    /// many as its algorithm says.
    pub(crate) fn initial_ttl(&self, now: Time) -> u8 {
        if let Some(walks) = self.walks() {
            return walks.hops;
        }
        (2 * self.size_estimate(now).max(2).ilog2() + 8).min(64) as u8
    }
}

fn hop(id: NodeId, address: SocketAddr, rtt: Option<Duration>, decision: &str) -> Hop {
    Hop {
        node: id.to_string(),
        address: address.to_string(),
        rtt_ms: rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
        decision: decision.to_owned(),
    }
}

/// Appends a table of peers to an answer.
pub(crate) fn push_table(builder: &mut Builder, near: bool, contacts: &[Contact]) {
    let list = PeerList::Contacts(&contacts[..contacts.len().min(WIDTH)]);
    builder.push(&if near { Object::NeighborTable(list) } else { Object::RoutingTable(list) });
}
