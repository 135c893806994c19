//! Kademlia: a tree of XOR distances, kept by traffic and a little upkeep.
//!
//! The peer nearest to a key by XOR is the most responsible for it, and being nearer is the same
//! thing as holding it: no peer's claim is needed. Buckets follow the paper (Maymounkov and
//! Mazières, 2002): old live peers stay, newcomers wait in a replacement cache, and the most silent
//! peer is asked whether it lives before anybody takes its place. The full neighbourhood of
//! S/Kademlia's sibling list (Baumgart and Mies, 2007) lets a peer say exactly which keys it holds.
//!
//! Four timers keep the table, each jittered, each with a floor under its gap, all tuned to the churn
//! that was measured (see [`crate::tuning`]):
//! *check* asks the peer silent longest; *neighbors* looks up our own place, often after joining,
//! rarely once nothing changes; *refresh* searches in far buckets that are not full; *verify* pings
//! peers that were mentioned and would have a place.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use wire::{Book, Contact, Distance, Key, NodeId, Seed, Time, seed::RngExt};

use crate::care::{ASKED_SPAN, Care, NEVER};
use crate::cell;
use crate::overlay::{Entry, Evidence, MAX_ROUTE, Metric, Overlay, Reason, Route, Upkeep};
use crate::table::{Admission, Failure, Peer, Shape, Table, head};
use crate::{Algorithm, Churn};

/// Near and responsible are one thing under XOR.
pub const METRIC: Metric = Metric { rank: xor, progress: None };

/// A suspect is asked again after this time, doubled with every further failure.
const RECHECK: Duration = Duration::from_secs(10);

/// Of so many nearest neighbours one is asked who else is near.
const NEAREST: usize = 4;

/// How many peers of a far bucket a refreshing lookup hears. Each names a bucketful of others there,
/// so more answers would only repeat them; the nearest of all is not what is sought.
const REFRESH_WIDTH: usize = 2;

/// The gap between two refreshing lookups of a joining peer.
const JOIN_GAP: Duration = Duration::from_millis(500);

/// The first refreshing of a joining peer's far buckets is spread over this time.
const JOIN_SPREAD: Duration = Duration::from_secs(10);

/// A bucket that needs no search when its time comes is looked at again after this time. Looking
/// costs no message.
const RECONSIDER: Duration = Duration::from_secs(30);

/// A far bucket of a young peer is asked about again after so many times our age, while that is less than
/// the usual time: whoever has just joined finds few.
const AGEING: f64 = 1.5;

/// A peer may be silent for so many times the longest silence from which it came back.
const TRUST: u32 = 4;

/// In a storm a peer that is none of the nearest may be silent for so many times as long: what leads there
/// goes round it, and hardly anything does before it is gone anyway.
const FAR_PATIENCE: f32 = 3.0;

/// A lost neighbour makes us look for others after this time, give or take a quarter.
const SOON: Duration = Duration::from_secs(30);

/// What the table holds, with digits of one bit.
///
/// Buckets of 8 with 8 spares: with sessions of an hour and a check every five minutes a bucket
/// loses all eight between two checks practically never. The nearest 16 are kept whole, twice
/// the largest sensible number of replicas, so that the holders of a key near us are all known.
/// From one /24 at most 2 peers enter a bucket and 10 the table, which makes it expensive to
/// surround a peer from one rented network; from one /16 at most 3 enter the table, a twentieth
/// of that of an overlay of 10,000.
const SHAPE: Shape = Shape {
    base_bits: 1,
    bucket: 8,
    spares: 8,
    near: 16,
    prefix_in_bucket: 2,
    prefix_in_table: 10,
    wide_in_table: 3,
};

// Times are those for sessions of an hour; the measured churn stretches or shortens them.

/// A peer silent for this long is asked whether it lives; jittered by a quarter for each peer.
/// Five minutes are a twelfth of an hour's session: some 4 % of entries are dead at any time.
const CHECK_AFTER: Duration = Duration::from_secs(300);

/// The least time between two such questions: at 230 bytes for question and answer, 4 s cap the
/// cost at 58 bytes/s whatever the size of the table.
const CHECK_GAP: Duration = Duration::from_secs(4);

/// A peer waiting for a place makes us ask the most silent one of its bucket only after this
/// silence. Half of [`CHECK_AFTER`], so that a crowd of newcomers does not double the pings.
const CHALLENGE_AFTER: Duration = Duration::from_secs(150);

/// A far bucket that is not full is searched this often, jittered by a quarter.
const REFRESH: Duration = Duration::from_secs(600);

/// The least time between two refreshing lookups: at 3 kB in the whole network for each, a
/// minute caps the cost at 50 bytes/s even with 45 buckets of base 16.
const REFRESH_GAP: Duration = Duration::from_secs(60);

/// The first repetition of the lookup for our own place after joining; each doubles the wait.
const NEIGHBORS_FIRST: Duration = Duration::from_secs(8);

/// The shortest wait between such lookups once joined, while the neighbours keep changing.
const NEIGHBORS_MIN: Duration = Duration::from_secs(60);

/// The longest, while nothing changes.
const NEIGHBORS_MAX: Duration = Duration::from_secs(600);

/// A peer's view of a Kademlia overlay.
#[derive(Debug)]
pub struct Kademlia {
    table: Table,
    care: Care,
    check_at: Time,
    /// When a check last asked somebody.
    probed: Time,
    refresh_at: Time,
    /// No refreshing lookup before this moment.
    refresh_floor: Time,
    neighbors_at: Time,
    neighbors_wait: Duration,
    /// Whether a search for our own place has been begun since we joined.
    looked: bool,
    /// Whether the neighbourhood changed since we last looked ourselves up.
    neighbors_changed: bool,
}

/// A Kademlia with the default figures; see [`crate::build`].
pub fn build(local: NodeId, base_bits: u8, seed: Seed, _now: Time) -> Box<dyn Overlay> {
    Box::new(Kademlia::new(local, base_bits, seed))
}

fn xor(key: &Key, peer: &NodeId) -> Distance {
    key.xor(peer.key())
}

impl Kademlia {
    /// A table around `local`, knowing nobody yet.
    pub fn new(local: NodeId, base_bits: u8, seed: Seed) -> Self {
        Kademlia {
            table: Table::new(local, Shape { base_bits, ..SHAPE }),
            care: Care::new(seed),
            check_at: NEVER,
            probed: Time::ZERO,
            refresh_at: NEVER,
            refresh_floor: Time::ZERO,
            neighbors_at: NEVER,
            neighbors_wait: NEIGHBORS_FIRST,
            looked: false,
            neighbors_changed: false,
        }
    }

    /// `span` as churn and budget ask, give or take a quarter.
    fn jittered(&mut self, span: Duration) -> Duration {
        let span = self.care.tuned(span);
        self.care.jitter(span)
    }

    // --- what was heard -------------------------------------------------------------------------

    fn hear(&mut self, now: Time, contact: Contact, rtt: Option<Duration>) {
        if contact.id == self.table.local() {
            return;
        }
        self.care.heard();
        let alone = self.table.is_empty();
        let refresh = self.first_refresh(now, alone);
        if let Some(known) = self.table.get(&contact.id) {
            self.care.churn.survived(now.since(known.heard()));
        }
        match self.table.hear(now, contact, rtt, || refresh) {
            Admission::Known | Admission::Refused => {}
            Admission::Waits => self.challenge(now, &contact.id),
            Admission::Added => {
                self.care.welcome(contact);
                if alone {
                    self.join(now);
                }
                self.note_neighbor(&contact.id);
                self.open_far_rows(now);
                let usual = self.usual_patience();
                let due = self.table.get(&contact.id).map_or(NEVER, |peer| self.due(peer, usual));
                self.check_at = self.check_at.min(due);
            }
        }
    }

    /// We knew nobody and now know one peer: look ourselves up through it, soon and often at first.
    fn join(&mut self, now: Time) {
        self.care.join(now);
        self.neighbors_wait = NEIGHBORS_FIRST;
        self.looked = false;
        // A moment's wait lets the other bootstrap peers answer too.
        self.neighbors_at = now + Duration::from_millis(self.care.rng.random_range(40..120));
    }

    /// When a bucket that comes to be at `now` is first refreshed.
    fn first_refresh(&mut self, now: Time, alone: bool) -> Time {
        if alone || self.care.is_joining(now) {
            now + Duration::from_secs(1) + JOIN_SPREAD.mul_f32(self.care.rng.random_range(0.0..1.0f32))
        } else {
            now + self.jittered(REFRESH)
        }
    }

    fn open_far_rows(&mut self, now: Time) {
        let spread = if self.care.is_joining(now) { JOIN_SPREAD } else { REFRESH };
        let rng = &mut self.care.rng;
        self.table
            .open_far_rows(|| now + Duration::from_secs(1) + spread.mul_f32(rng.random_range(0.0..1.0f32)));
        self.refresh_at = self.next_refresh();
    }

    fn note_neighbor(&mut self, id: &NodeId) -> bool {
        let near = self.table.nearer_than(id) < SHAPE.bucket;
        self.neighbors_changed |= near;
        near
    }

    /// Somebody waits for a place beside `id`: make sure that the most silent peer there lives.
    fn challenge(&mut self, now: Time, id: &NodeId) {
        let silence = self.care.tuned(CHALLENGE_AFTER);
        if !self.care.may_ask(now) {
            return;
        }
        let Some(peer) = self.table.most_silent_beside(id) else { return };
        if now - peer.heard() >= silence && now - peer.asked() >= ASKED_SPAN {
            peer.ask(now);
            let contact = peer.contact();
            self.care.ask(now, contact);
        }
    }

    // --- pings of mentioned peers ---------------------------------------------------------------

    fn mention(&mut self, now: Time, contact: Contact) {
        if !self.care.was_mentioned(now, &contact.id) && self.wants(now, &contact) {
            // Neighbours first: what they hold depends on knowing each other.
            let local = self.table.local();
            self.care.mention(now, contact, |id| xor(local.key(), id));
        }
        self.verify(now);
    }

    /// Whether somebody mentioned is worth a question.
    fn wants(&self, now: Time, contact: &Contact) -> bool {
        let Shape { bucket, near, .. } = SHAPE;
        if !self.care.churn.is_storm() {
            return self.table.has_place_for(contact, bucket, near);
        }
        // One place is lost at a time, and eight are mentioned for it in one answer.
        let (index, local) = (self.table.index_of(contact.id.key()), self.table.local());
        let is_nearer = |id: &NodeId| xor(local.key(), id) < xor(local.key(), &contact.id);
        let (mut beside, mut nearer) = (0, 0);
        for id in self.care.just_asked(now).filter(|id| self.table.get(id).is_none()) {
            beside += usize::from(self.table.index_of(id.key()) == index);
            nearer += usize::from(is_nearer(id));
        }
        self.table.has_place_for(contact, self.enough().saturating_sub(beside), near.saturating_sub(nearer))
    }

    /// How many peers of a bucket we look for. In a storm three of eight: each costs a question when it comes,
    /// some while it is there, and another when it has gone, and few of them are ever used.
    fn enough(&self) -> usize {
        let all = SHAPE.bucket;
        if self.care.churn.is_storm() { all * 3 / 8 } else { all }
    }

    fn verify(&mut self, now: Time) {
        while let Some(contact) = self.care.next_to_verify(now) {
            if self.wants(now, &contact) {
                self.care.verify(now, contact);
            }
        }
    }

    // --- timers ---------------------------------------------------------------------------------

    /// How long a peer may be silent: as long as the churn allows, and no longer than [`TRUST`] times
    /// the longest silence from which it came back, since a table is not quiet only because nobody in
    /// it was asked. The jitter is the peer's own, so that many tables filled in the same minute do not
    /// all ask in the same minute, nor all ask the same peer.
    fn patience(&self, peer: &Peer, silence: Duration, usual: Duration) -> Duration {
        let spread = f32::from((peer.head() ^ head(self.table.local().key())) as u8) / 512.0;
        let longest = CHECK_AFTER.max(silence * TRUST).mul_f32(self.care.pace());
        let is_far = self.care.churn.is_storm() && self.table.nearer_than(peer.id()) >= SHAPE.near;
        let patience = if is_far { FAR_PATIENCE } else { 1.0 };
        usual.min(longest).mul_f32((0.75 + spread) * patience)
    }

    /// How long peers may be silent as far as the churn is concerned.
    fn usual_patience(&self) -> Duration {
        self.care.tuned(CHECK_AFTER)
    }

    fn due(&self, peer: &Peer, usual: Duration) -> Time {
        match peer.failures {
            0 => {
                let patience = self.patience(peer, peer.silence(), usual);
                (peer.heard() + patience).max(peer.asked() + ASKED_SPAN)
            }
            n => peer.asked() + RECHECK * (1 << u32::from(n - 1).min(5)),
        }
    }

    /// Asks the peer whose time has come first, or, if none has for a while, the one silent longest: a
    /// table that seems quiet because nobody was asked would otherwise not notice that half of it died.
    fn check(&mut self, now: Time) {
        let probe = self.probe_at(now) <= now;
        let rested = CHECK_AFTER / 2;
        let peers = || self.table.peers();
        let usual = self.usual_patience();
        let due = peers().map(|p| (self.due(p, usual), p)).filter(|&(due, _)| due <= now);
        let due = due.min_by_key(|&(due, _)| due).map(|(_, p)| p.contact());
        let is_rested = |p: &&Peer| now.since(p.asked().max(p.heard())) >= rested;
        let silent = || peers().filter(is_rested).min_by_key(|p| p.heard());
        let asked = due.or_else(|| silent().filter(|_| probe).map(Peer::contact));
        let mut floor = now;
        if let Some(contact) = asked {
            if let Some(peer) = self.table.get_mut(&contact.id) {
                peer.ask(now);
            }
            self.care.wish(Upkeep::Ping(contact));
            floor = now + self.jittered(CHECK_GAP);
        }
        if probe || asked.is_some() {
            self.probed = now;
        }
        let next = self.table.peers().map(|p| self.due(p, usual)).min();
        self.check_at = next.map_or(NEVER, |due| due.min(self.probe_at(now)).max(floor));
    }

    /// When the peer silent longest is asked although its time has not come: after half the unstretched
    /// time, so that it costs less than a byte a second and finds a break within minutes.
    fn probe_at(&self, now: Time) -> Time {
        let calm = self.care.churn.stretch() > 1.0 && !self.care.is_joining(now);
        if calm { self.probed + (CHECK_AFTER / 2).mul_f32(self.care.pace()) } else { NEVER }
    }

    fn look_up_neighbors(&mut self, now: Time) {
        if self.table.peers().next().is_none() {
            self.neighbors_at = NEVER;
            return;
        }
        let stretch = self.care.churn.stretch();
        let neighbors_min = NEIGHBORS_MIN.mul_f64(stretch.clamp(0.5, 1.0));
        let neighbors_max = NEIGHBORS_MAX.mul_f64(stretch);
        let (key, width) = (*self.table.local().key(), SHAPE.bucket);
        if !self.looked {
            self.looked = true;
            self.care.wish(Upkeep::Lookup { key, width });
        } else {
            let asked = if self.neighbors_changed && !self.care.churn.is_storm() { 2 } else { 1 };
            self.some_neighbors(asked).into_iter().for_each(|with| self.ask(now, with, key));
        }
        let settled = self.neighbors_wait >= neighbors_min;
        self.neighbors_wait = if self.neighbors_changed && settled {
            (self.neighbors_wait / 2).max(neighbors_min)
        } else {
            (self.neighbors_wait * 2).min(neighbors_max)
        };
        self.neighbors_changed = false;
        let jitter = self.care.pace() * self.care.rng.random_range(0.75..1.25f32);
        self.neighbors_at = now + self.neighbors_wait.mul_f32(jitter);
    }

    /// Some of the nearest, drawn anew each time: each knows a part of our neighbourhood better than the
    /// others do.
    fn some_neighbors(&mut self, count: usize) -> Vec<Contact> {
        let mut nearest = self.table.nearest(self.table.local().key(), NEAREST);
        while nearest.len() > count {
            nearest.swap_remove(self.care.rng.random_range(0..nearest.len()));
        }
        nearest
    }

    /// Asks a peer of the table for whom it knows near a key.
    fn ask(&mut self, now: Time, with: Contact, key: Key) {
        if let Some(peer) = self.table.get_mut(&with.id) {
            peer.ask(now);
        }
        self.care.wish(Upkeep::Ask { with, key });
    }

    fn next_refresh(&self) -> Time {
        self.table.next_refresh().map_or(NEVER, |(_, at)| at.max(self.refresh_floor))
    }

    /// The younger we are, the sooner a bucket is worth another search: whoever joins a network that
    /// forms finds few peers at first.
    fn refresh_wait(&self, now: Time) -> Duration {
        let stretch = self.care.churn.stretch();
        let age = (now - self.care.joined()).mul_f64(AGEING).clamp(RECONSIDER, REFRESH);
        // Our age is no shorter where sessions are.
        age.mul_f64(stretch.max(1.0)).min(REFRESH.mul_f64(stretch))
    }

    fn refresh(&mut self, now: Time) {
        while let Some((index, at)) = self.table.next_refresh() {
            if at > now || self.refresh_floor > now {
                break;
            }
            let wanted = self.table.wants_refresh(index, self.enough());
            let wait = if wanted { self.refresh_wait(now) } else { RECONSIDER };
            let again = now + self.care.jittered(wait);
            self.table.set_refresh(index, again);
            if wanted {
                let key = self.key_in(index);
                // Somebody there names others there; where nobody is known it takes a search, but for the first
                // few in a storm.
                let there = self.table.most_silent_in(index).map(|p| p.contact());
                let nearby = || self.table.nearest(&key, 1).pop().filter(|_| self.care.churn.is_storm());
                match there.or_else(nearby) {
                    Some(with) => self.ask(now, with, key),
                    None => self.care.wish(Upkeep::Lookup { key, width: REFRESH_WIDTH }),
                }
                let gap = if self.care.is_joining(now) { JOIN_GAP } else { REFRESH_GAP };
                self.refresh_floor = now + self.care.tuned(gap);
            }
        }
        self.refresh_at = self.next_refresh();
    }

    /// A random key in a bucket's region.
    fn key_in(&mut self, index: u16) -> Key {
        let base_bits = u32::from(self.table.base_bits());
        cell::random_key(self.table.local().key(), index, base_bits, &mut self.care.rng)
    }

    fn lost(&mut self, now: Time, id: &NodeId) {
        self.care.leave_alone(now, id);
        if self.note_neighbor(id) {
            // Soon, but not at once: after a break of many, everybody would search in the same second.
            let soon = SOON.mul_f64(self.care.churn.stretch().min(1.0));
            let soon = now + soon.mul_f32(self.care.rng.random_range(0.75..1.25f32));
            self.neighbors_at = self.neighbors_at.min(soon);
        }
        if self.care.churn.is_storm() {
            return; // Whoever is mentioned next takes the place.
        }
        // Who knows fewer peers that are nearer to a key than hold it may take itself for a holder.
        let index = self.table.index_of(id.key());
        if self.table.wants_refresh(index, SHAPE.bucket / 2 + 1) {
            let soon = now + self.care.jittered(RECONSIDER / 2);
            self.table.refresh_by(index, soon);
            self.refresh_at = self.next_refresh();
        }
    }
}

impl Overlay for Kademlia {
    fn algorithm(&self) -> Algorithm {
        Algorithm::Kademlia
    }

    fn local(&self) -> NodeId {
        self.table.local()
    }

    fn route(&self, key: &Key, count: usize) -> Route {
        let count = count.clamp(1, MAX_ROUTE);
        let mut contacts = self.table.nearest(key, count);
        let own = self.rank(key, &self.table.local());
        // Every subtree of which we know fewer than a bucketful we know whole, so if `count` peers
        // are nearer than we are, then we know that many.
        match contacts.last() {
            Some(last) if contacts.len() >= count && self.rank(key, &last.id) < own => {
                Route::Toward(contacts)
            }
            // A far bucket holds a sample: whole it has about as many as there are behind it.
            Some(_) if self.rank(key, &contacts[0].id) < own && self.table.behind(key) >= 2 * count => {
                contacts.retain(|c| self.rank(key, &c.id) < own);
                Route::Toward(contacts)
            }
            _ => {
                contacts.truncate(count - 1);
                Route::Replicas { contacts, includes_self: true }
            }
        }
    }

    fn handle_peer(&mut self, now: Time, contact: Contact, evidence: Evidence) {
        match evidence {
            Evidence::Alive { rtt } => self.hear(now, contact, rtt),
            Evidence::Mentioned => self.mention(now, contact),
        }
    }

    fn handle_failure(&mut self, now: Time, id: &NodeId) {
        let outage = self.care.failed();
        let fresh = now.saturating_sub(CHALLENGE_AFTER);
        let mut failure = self.table.fail(now, id, fresh, outage);
        if failure == Failure::Suspected && !outage && self.care.churn.is_storm() && self.table.remove(id) {
            // Most that are silent in a storm are gone.
            failure = Failure::Removed;
        }
        match failure {
            Failure::Unknown => self.care.leave_alone(now, id),
            Failure::Removed => {
                self.care.churn.departed();
                self.lost(now, id);
            }
            Failure::Suspected => {
                self.check_at = self.check_at.min(now + RECHECK);
                if let Some(spare) = self.table.spare_for(id) {
                    self.mention(now, spare);
                }
            }
        }
    }

    fn handle_leave(&mut self, now: Time, id: &NodeId) {
        if self.table.remove(id) {
            self.care.churn.departed();
            self.lost(now, id);
        }
    }

    fn handle_lookup(&mut self, now: Time, key: &Key) {
        let wait = self.refresh_wait(now);
        let again = now + self.care.jittered(wait);
        let index = self.table.index_of(key);
        self.table.set_refresh(index, again);
    }

    fn handle_timeout(&mut self, now: Time) {
        if self.neighbors_at <= now {
            self.look_up_neighbors(now);
        }
        if self.check_at <= now {
            self.check(now);
        }
        if self.refresh_at <= now {
            self.refresh(now);
        }
        self.verify(now);
    }

    fn poll_timeout(&self) -> Option<(Time, Reason)> {
        [
            (self.neighbors_at, Reason::Neighbors),
            (self.check_at, Reason::Check),
            (self.refresh_at, Reason::Refresh),
            (self.care.verify_at(), Reason::Verify),
        ]
        .into_iter()
        .min_by_key(|&(at, _)| at)
        .filter(|&(at, _)| at < NEVER)
    }

    fn poll_upkeep(&mut self) -> Option<Upkeep> {
        self.care.poll_wish()
    }

    fn expect_sessions(&mut self, told: Duration) {
        // No longer ones than we would expect anyway: a young peer is careful.
        self.care.churn = self.care.churn.told(told.min(Churn::default().session()));
    }

    fn poll_newcomer(&mut self) -> Option<Contact> {
        self.care.poll_newcomer()
    }

    fn share(&mut self, book: Arc<dyn Book>) {
        self.table.share(book);
    }

    fn set_pace(&mut self, factor: f32) {
        self.care.set_pace(factor);
    }

    fn contacts(&self) -> Vec<Entry> {
        self.table.entries()
    }

    fn neighbors(&self) -> Vec<Contact> {
        self.table.nearest(self.table.local().key(), SHAPE.bucket)
    }

    fn around(&self, key: &Key, count: usize) -> Vec<Contact> {
        self.table.nearest(key, count)
    }

    fn rtt(&self, id: &NodeId) -> Option<Duration> {
        self.table.get(id)?.rtt()
    }

    fn churn(&self) -> Churn {
        self.care.churn
    }

    fn len(&self) -> usize {
        self.table.len()
    }

    fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    fn contains(&self, id: &NodeId) -> bool {
        self.table.get(id).is_some_and(|p| p.failures == 0)
    }

    fn has(&self, contact: &Contact) -> bool {
        let known = self.table.get(&contact.id).filter(|p| p.address() == contact.address);
        // Suspects are named only where nobody else is left.
        known.is_some_and(|p| p.failures == 0 || self.table.is_empty())
    }

    fn may_name(&self, key: &Key, count: usize, id: &NodeId) -> bool {
        self.table.is_among_nearest(key, count, id)
    }

    fn at(&self, address: SocketAddr) -> Option<NodeId> {
        self.table.at(address).map(|p| *p.id())
    }

    fn is_mutual(&self, id: &NodeId) -> bool {
        self.table.get(id).is_some_and(|p| p.mutual)
    }

    fn acquaintances(&self) -> Vec<Contact> {
        // In a storm most of the far ones have not come to know us, or are gone.
        let is_storm = self.care.churn.is_storm();
        let mut all = self.neighbors();
        all.extend(self.table.peers().filter(|p| p.mutual || !is_storm).map(Peer::contact));
        all
    }

    fn note_mutual(&mut self, id: &NodeId, mutual: bool) {
        if let Some(peer) = self.table.get_mut(id) {
            peer.mutual = mutual;
        }
    }

    fn beginning_with(&self, head: u64) -> Option<Contact> {
        self.table.beginning_with(head).filter(|p| p.failures == 0).map(Peer::contact)
    }
}

#[cfg(test)]
mod tests;
