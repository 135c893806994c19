//! Our own records in the overlay: placing, refreshing, reading back.
//!
//! Placing a record means finding the peers nearest to its place and giving each a copy. Refreshing
//! it costs a digest instead of a copy, 54 bytes; only a holder that lost it gets it anew. How often
//! follows from the measured churn, and so does how long a record outlives its owner. When several
//! holders are gone, and otherwise rarely, the nearest peers are looked for again. Between refreshes
//! the holders see to it themselves that the right peers hold a record: see `replicate.rs`.

mod keep;
mod place;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wire::document::Policy;
use wire::p2pp::{Code, Density, Kind, Record};
use wire::{Contact, Key, KeyPair, NodeId, PublicKey, ResourceId, Time};

use crate::config::KeptValue;
use crate::event::{Event, Level, OpId, Outcome};
use crate::node::{Alarm, Node};
use crate::policy::own_place;
use crate::search::{Findings, For, LookupOptions, Mode, PLACE_WIDTH, Want};
use crate::storage::{Claim, Devices};

/// Most records one peer publishes: its own, its users', and those of its console and applications. At numbers as many
/// besides, so that no user's number takes the room of another's name.
const MAX_PUBLICATIONS: usize = 256;

/// A fresh search for the nearest peers at least every so many refreshes: holders tell each other of
/// newcomers, so this only mends what went wrong there.
const REPLACE_EVERY: u32 = 12;

/// A fresh search at the next refresh once so many holders did not answer whose places nobody took.
const REPLACE_LOST: usize = 2;

/// The time between two refreshes where sessions last an hour, and the shortest anywhere.
const REFRESH: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(60));

/// A record lives for so many refreshes: three may be lost before it ends.
const REFRESHES_OF_A_LIFE: u32 = 4;

/// Pause before a failed publication is tried again, doubled up to the refresh interval.
const RETRY: Duration = Duration::from_secs(5);

/// A record just published is looked at again after these times: where the overlay has grown since, its
/// place may have changed hands before everybody concerned knew each other, and it is read back again.
const LOOK_AGAIN: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(40), Duration::from_secs(160)];

/// So many times the peers that there were when a record was last read back make it worth another look.
const READ_AGAIN_AT: f64 = 1.25;

/// A record is placed anew when the overlay seems so many times as large as when it was placed: half of its
/// holders are others then, and a liar need have been among them only once.
const PLACE_AGAIN_AT: u64 = 2;

/// What a publication is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// The contact record of this peer.
    Peer,
    /// The device list of a user.
    User(String),
    /// The same at the place of the user's number.
    Number(String),
    /// A value of the console or an application, of its kind.
    Data(Kind, String),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Peer => f.write_str("where this peer is"),
            What::User(aor) => f.write_str(aor),
            What::Number(aor) => write!(f, "the number of {aor}"),
            What::Data(_, key) => f.write_str(key),
        }
    }
}

/// How far a publication has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Idle,
    Reading,
    Searching,
    Storing,
    Checking,
}

pub(crate) struct Publication {
    pub(crate) what: What,
    pub(crate) record: Option<Arc<Record>>,
    pub(crate) holders: Vec<Arc<Contact>>,
    pub(crate) stage: Stage,
    pub(crate) verified: bool,
    /// It is a name that belongs to another key, a number for which no peer has room, or a value whose place is
    /// another's, or to which the document leaves none.
    pub(crate) taken: bool,
    /// A holder has a newer version than ours, written by us before we lost our state or by another device:
    /// it is to be read, and outdone.
    outdated: bool,
    /// How close together strangers crowd around its place; nothing where nobody does.
    told: Density,
    value: Vec<u8>,
    /// How long holders may keep it unrefreshed, where its publisher said so.
    ttl: Option<Duration>,
    remove: bool,
    pending: usize,
    accepted: usize,
    refused: Option<Code>,
    /// The next nearest peers, the nearest first, should a holder have no budget for our record.
    spares: Vec<Contact>,
    refreshes: u32,
    failures: u32,
    /// Other peers that were given it when it was placed.
    placed: usize,
    /// A peer that should hold it had no budget for it: it is placed anew at the next look.
    displaced: bool,
    /// How often it was looked at again.
    looks: usize,
    /// How many peers there were when it was last read back, by our searches and neighbours.
    peers_when_read: u64,
    /// How many there seemed to be when it was placed, by our neighbours alone.
    peers_when_placed: u64,
    /// When it was last placed or refreshed.
    cared_for: Time,
    /// For how long its holders were told to keep it then: peers went faster, perhaps, than they do by now.
    kept_for: Duration,
    /// It was placed a moment ago, and is read back for the first time since.
    fresh: bool,
    op: Option<OpId>,
}

impl Publication {
    /// Whether strangers crowd around its place. Then holders cannot pass it on among themselves as peers
    /// come and go, since those that seem nearest are not to be trusted: its owner places it anew each time.
    fn is_crowded(&self) -> bool {
        self.told != Density::default()
    }

    /// Whether it is a value of the console or an application.
    fn is_value(&self) -> bool {
        matches!(self.what, What::Data(..))
    }

    /// Whether the next nearest peer is given it where one refused it so. Full of claims is a number's place where
    /// somebody forged them, and not everywhere alike.
    fn may_go_elsewhere(&self, code: Code) -> bool {
        code == Code::BUSY || code == Code::QUOTA && matches!(self.what, What::Number(_))
    }
}

/// Every record we publish.
#[derive(Default)]
pub(crate) struct Publications {
    all: BTreeMap<u64, Box<Publication>>,
    next: u64,
    /// The time between two refreshes for which the next ones were planned.
    planned_for: Duration,
    /// When the holders of all of them were last asked because peers had fallen together.
    looked_after: Option<Time>,
}

impl Publications {
    pub(crate) fn find(&self, what: &What) -> Option<&Publication> {
        self.all.values().map(|p| &**p).find(|p| p.what == *what)
    }

    /// How long the value of a record of ours is.
    pub(crate) fn value_len(&self, id: u64) -> Option<usize> {
        self.all.get(&id)?.record.as_ref().map(|r| r.value.len())
    }

    /// Who signs what we publish.
    pub(crate) fn owners(&self) -> Vec<PublicKey> {
        self.all.values().filter_map(|p| p.record.as_ref()).map(|r| r.owner).collect()
    }

    /// Where a publication stands, once it has a record.
    pub(crate) fn place(&self, id: u64) -> Option<Key> {
        Some(self.all.get(&id)?.record.as_ref()?.resource.0)
    }

    /// Counts on these peers no more.
    pub(crate) fn forget_holders(&mut self, gone: &[NodeId]) {
        let all = self.all.values_mut();
        all.for_each(|p| p.holders.retain(|holder| !gone.contains(&holder.id)));
    }

    /// Who holds them.
    pub(crate) fn holders(&self) -> impl Iterator<Item = Contact> {
        self.all.values().flat_map(|p| &p.holders).map(|holder| **holder)
    }

    /// The values of console and applications, to be published again after a restart.
    pub(crate) fn kept_values(&self) -> Vec<KeptValue> {
        let kept = |p: &Publication| match &p.what {
            What::Data(kind, key) if !p.remove => {
                let ttl_s = p.ttl.map_or(0, |ttl| ttl.as_secs());
                Some(KeptValue { key: key.clone(), value: p.value.clone(), ttl_s, kind: kind.0 })
            }
            _ => None,
        };
        self.all.values().filter_map(|p| kept(p)).collect()
    }
}

/// Where a value of the console or an application stands.
pub(crate) fn data_place(hash: wire::HashAlgorithm, key: &str) -> ResourceId {
    ResourceId(hash.digest(format!("data:{key}").as_bytes()))
}

/// The mean session at which records are given this lifetime.
pub(crate) fn session_of_lifetime(lifetime: Duration) -> Duration {
    Duration::from_secs(3_600).mul_f64((lifetime / REFRESHES_OF_A_LIFE).div_duration_f64(REFRESH.0))
}

impl Node {
    /// Publishes the contact record of this peer and the device lists of its users.
    pub(crate) fn announce(&mut self, now: Time) {
        self.announce_contact(now);
        self.announce_users(now);
    }

    pub(crate) fn announce_contact(&mut self, now: Time) {
        self.publish(now, What::Peer, Vec::new(), None, None);
    }

    /// Announces where this node is if that is no longer what its record says.
    pub(crate) fn announce_contact_if_moved(&mut self, now: Time) {
        let contact = self.publications.all.iter().find(|(_, p)| p.what == What::Peer);
        if contact.is_none_or(|(id, _)| self.addresses_changed(*id)) {
            self.announce_contact(now);
        }
    }

    pub(crate) fn announce_users(&mut self, now: Time) {
        let users: Vec<String> = self.identity.users.iter().map(|u| u.aor.clone()).collect();
        for aor in users {
            let is_told = self.publications.find(&What::User(aor.clone())).is_some();
            if !is_told && self.claim_of(now, &aor).is_some() {
                self.publish(now, What::User(aor), Vec::new(), None, None);
            }
        }
        self.announce_numbers(now);
    }

    /// Publishes a user's devices at the place of their number, unless that was done.
    pub(crate) fn publish_number(&mut self, now: Time, aor: String) {
        let what = What::Number(aor);
        if self.publications.find(&what).is_none() {
            self.publish(now, what, Vec::new(), None, None);
        }
    }

    /// What a user's record says of its name has changed: it is read, signed and placed anew.
    pub(crate) fn republish_user(&mut self, now: Time, aor: &str) {
        let what = What::User(aor.to_owned());
        let of_user = self.publications.all.values_mut().filter(|p| p.what == what);
        of_user.for_each(|p| p.record = None);
        self.publish(now, what, Vec::new(), None, None);
    }

    /// Stores `value` under a text key for `ttl`, refreshed while this peer runs.
    pub fn put(&mut self, now: Time, key: &str, value: &[u8], ttl: Option<Duration>) -> OpId {
        self.put_of(now, Kind::DATA, key, value, ttl)
    }

    /// The same as a record of another kind: one for values of applications, by the overlay's rules.
    pub fn put_of(&mut self, now: Time, kind: Kind, key: &str, value: &[u8], ttl: Option<Duration>) -> OpId {
        let op = self.new_op();
        match self.check_value(kind, key, value.len()) {
            Ok(()) => self.publish(now, What::Data(kind, key.to_owned()), value.to_vec(), ttl, Some(op)),
            Err((code, why)) => self.failed(op, code.0, why),
        }
        self.drain(now);
        op
    }

    /// Whether a value so long can be stored under a key.
    fn check_value(&self, kind: Kind, key: &str, len: usize) -> Result<(), (Code, String)> {
        let (_, most) = self.place_of_value(kind, key).map_err(|why| (Code::BAD_REQUEST, why))?;
        let place = self.place_of(&What::Data(kind, key.to_owned())).map(|(place, ..)| place);
        if len > most {
            return Err((Code::TOO_LARGE, format!("a value has at most {most} bytes")));
        }
        match self.standing {
            None => Err((Code::REJECTED, "not in an overlay yet".into())),
            Some(_) if place.is_none() => Err((Code::FORBIDDEN, "that is another key's place".into())),
            Some(_) => Ok(()),
        }
    }

    /// Withdraws what `put` stored.
    pub fn remove(&mut self, now: Time, key: &str) -> OpId {
        self.remove_of(now, Kind::DATA, key)
    }

    /// Withdraws what `put_of` stored.
    pub fn remove_of(&mut self, now: Time, kind: Kind, key: &str) -> OpId {
        let op = self.new_op();
        let what = What::Data(kind, key.to_owned());
        let id = self.publications.all.iter().find(|(_, p)| p.what == what).map(|(id, _)| *id);
        let Some(id) = id else {
            self.failed(op, Code::NOT_FOUND.0, "this peer has not published that key");
            return op;
        };
        let unix = self.unix(now);
        self.supersede(id);
        let publication = self.publications.all.get_mut(&id).expect("found above");
        publication.remove = true;
        publication.op = Some(op);
        if let Some(record) = &publication.record {
            publication.record = Some(Arc::new(record.tombstone(&self.identity.peer, unix)));
            self.find_place(now, id);
        } else {
            // It never stood anywhere.
            self.publications.all.remove(&id);
            self.done(op, Outcome::Stored { holders: 0, sequence: 0 });
            self.emit(Event::Save);
        }
        self.drain(now);
        op
    }

    /// Starts to publish, or publishes anew.
    fn publish(&mut self, now: Time, what: What, value: Vec<u8>, ttl: Option<Duration>, op: Option<OpId>) {
        let known = self.publications.all.iter().find(|(_, p)| p.what == what).map(|(id, _)| *id);
        let is_number = |what: &What| matches!(what, What::Number(_));
        let alike = self.publications.all.values().filter(|p| is_number(&p.what) == is_number(&what));
        if known.is_none() && alike.count() >= MAX_PUBLICATIONS {
            let why = "this peer publishes too many records already";
            return match op {
                Some(op) => self.failed(op, Code::QUOTA.0, why),
                None => self.log(Level::Warn, "publish", format!("{what} is not published: {why}")),
            };
        }
        let id = known.unwrap_or_else(|| {
            self.publications.next += 1;
            self.publications.next
        });
        self.supersede(id);
        let old = self.publications.all.remove(&id);
        let publication = Publication {
            what: what.clone(),
            record: old.and_then(|p| p.record),
            holders: Vec::new(),
            stage: Stage::Idle,
            verified: false,
            taken: false,
            outdated: false,
            told: Density::default(),
            value,
            ttl,
            remove: false,
            pending: 0,
            accepted: 0,
            refused: None,
            spares: Vec::new(),
            refreshes: 0,
            failures: 0,
            placed: 0,
            displaced: false,
            looks: 0,
            peers_when_read: 0,
            peers_when_placed: 0,
            cared_for: now,
            kept_for: Duration::MAX,
            fresh: false,
            op,
        };
        self.publications.all.insert(id, Box::new(publication));
        self.handle_publication_due(now, id);
    }

    /// Whoever waits for an earlier command on this publication learns that a later one took its place.
    fn supersede(&mut self, id: u64) {
        if let Some(op) = self.publications.all.get_mut(&id).and_then(|p| p.op.take()) {
            self.failed(op, Code::REJECTED.0, "a later command took its place");
        }
    }

    /// Where a publication belongs, of which kind it is, and who signs it.
    fn place_of(&self, what: &What) -> Option<(ResourceId, Kind, KeyPair)> {
        let hash = self.hash();
        Some(match what {
            What::Peer => (ResourceId(self.node_id()?.0), Kind::PEER, self.identity.peer.clone()),
            What::User(aor) => {
                let user = self.identity.users.iter().find(|u| u.aor == *aor)?;
                (crate::directory::place_of_user(hash, aor), Kind::USER, user.keys.clone())
            }
            What::Number(aor) => {
                let user = self.identity.users.iter().find(|u| u.aor == *aor)?;
                (self.number_of(aor)?.place(hash), Kind::NUMBER, user.keys.clone())
            }
            What::Data(kind, key) => {
                let keys = self.identity.peer.clone();
                let (place, _) = self.place_of_value(*kind, key).ok()?;
                let rule = self.rules().rule(*kind)?;
                let is_ours = rule.policy != Policy::OwnPlace || place == own_place(hash, &keys.public());
                is_ours.then_some((place, *kind, keys))?
            }
        })
    }

    /// The time has come to publish, refresh or retry.
    pub(crate) fn handle_publication_due(&mut self, now: Time, id: u64) {
        let (size, wait) = (self.size_around_us(), self.refresh_wait(id) * 2);
        let is_storm = self.churn().is_storm();
        let Some(publication) = self.publications.all.get(&id) else { return };
        if publication.stage != Stage::Idle {
            return;
        }
        let displaced = publication.displaced;
        let has_grown = !is_storm && size > publication.peers_when_placed * PLACE_AGAIN_AT;
        if publication.verified && (has_grown || displaced) && self.walks().is_none() {
            return self.find_place(now, id);
        }
        // After a leap of the clock it may have ended everywhere, however young it is.
        let overdue = now.since(publication.cared_for) > wait;
        let is_young = publication.verified && publication.looks <= LOOK_AGAIN.len();
        if is_young && !overdue && !self.lacks_holders(id) {
            return self.look_again(now, id);
        }
        self.care_for(now, id);
    }

    /// Refreshes a record, or places it anew where its holders are lost or nobody has it yet.
    fn care_for(&mut self, now: Time, id: u64) {
        let lacks = self.lacks_holders(id);
        let Some(what) = self.publications.all.get(&id).map(|p| p.what.clone()) else { return };
        let Some((place, kind, keys)) = self.place_of(&what) else { return self.await_place(now, id) };
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        if publication.record.as_ref().is_some_and(|record| record.resource != place) {
            // Another document places it elsewhere.
            publication.record = None;
            publication.verified = false;
        }
        let known = publication.verified && !publication.holders.is_empty();
        let replace = lacks
            || publication.is_crowded()
            || publication.refreshes % REPLACE_EVERY == REPLACE_EVERY - 1
            || publication.holders.len() + REPLACE_LOST <= publication.placed;
        publication.refreshes += 1;
        if known && !replace && !self.addresses_changed(id) {
            return self.refresh(now, id);
        }
        let Some(publication) = self.publications.all.get(&id) else { return };
        let (is_made, outdated) = (publication.record.is_some(), publication.outdated);
        let may_be_anothers = self.rules().rule(kind).is_some_and(|rule| rule.policy == Policy::FirstOwner);
        // What is the first owner's may be somebody else's, and a user's name and number may have other devices: read
        // before writing. And so is what we wrote and forgot.
        if (may_be_anothers || kind == Kind::NUMBER) && !is_made || outdated {
            self.set_stage(id, Stage::Reading);
            let options = LookupOptions {
                mode: Mode::Iterative,
                width: PLACE_WIDTH,
                // What we keep ourselves is what was outdone.
                fresh: outdated,
                ..Default::default()
            };
            let want = Want::Object(kind, (!may_be_anothers).then(|| keys.public()));
            self.search(now, place.0, want, For::ReadBefore(id), options);
        } else {
            self.sign(now, id, None);
            self.find_place(now, id);
        }
    }

    /// A value has no place by the document that holds: it waits for one by which it has, and is kept until then.
    fn await_place(&mut self, now: Time, id: u64) {
        let Some(publication) = self.publications.all.get_mut(&id).filter(|p| p.is_value()) else { return };
        let is_news = !std::mem::replace(&mut publication.taken, true);
        publication.verified = false;
        publication.holders.clear();
        let (what, op) = (publication.what.to_string(), publication.op.take());
        if is_news {
            let message = format!("{what} is not published: the overlay's document leaves it no place");
            self.log(Level::Warn, "publish", message);
        }
        if let Some(op) = op {
            self.failed(op, Code::FORBIDDEN.0, "the overlay's document leaves it no place");
        }
        self.timers.set(Alarm::Publication(id), now + self.config.refresh_interval);
    }

    /// Another document holds: it may have a place for values that wait for one.
    pub(crate) fn take_up_waiting(&mut self, now: Time) {
        let waits = |p: &Publication| p.is_value() && p.taken && p.stage == Stage::Idle;
        let ids: Vec<u64> =
            self.publications.all.iter().filter(|(_, p)| waits(p)).map(|(id, _)| *id).collect();
        for id in ids {
            let soon = self.jitter(RETRY, 0.75, 1.25);
            self.timers.set_by(Alarm::Publication(id), now + soon);
        }
    }

    /// Takes up again what was stored before a restart, whatever may stand where by now.
    pub(crate) fn publish_kept(&mut self, now: Time, kept: KeptValue) {
        let ttl = (kept.ttl_s > 0).then(|| Duration::from_secs(kept.ttl_s));
        self.publish(now, What::Data(Kind(kept.kind), kept.key), kept.value, ttl, None);
    }

    /// Who published while hardly anybody was there looks for more holders where no holder will.
    fn lacks_holders(&self, id: u64) -> bool {
        let holders = self.publications.all.get(&id).map_or(0, |p| p.holders.len());
        self.walks().is_some_and(|walks| holders * 2 < walks.copies)
    }

    fn addresses_changed(&self, id: u64) -> bool {
        let publication = &self.publications.all[&id];
        let now = self.whereabouts().to_bytes();
        publication.what == What::Peer && publication.record.as_ref().is_some_and(|r| r.value != now)
    }

    fn set_stage(&mut self, id: u64, stage: Stage) {
        if let Some(publication) = self.publications.all.get_mut(&id) {
            publication.stage = stage;
        }
    }

    /// What stands at a place that is the first owner's has been read: ours to extend, nobody's to take, or another's.
    pub(crate) fn handle_read_before(&mut self, now: Time, id: u64, findings: Findings) {
        self.set_stage(id, Stage::Idle);
        let Some(publication) = self.publications.all.get(&id).filter(|p| !p.remove) else { return };
        let Some((.., keys)) = self.place_of(&publication.what.clone()) else {
            return self.await_place(now, id);
        };
        let serial = match &publication.what {
            What::User(aor) => self.enrolments.certificate(aor).map_or(0, |c| c.serial),
            _ => 0,
        };
        match findings.records.first() {
            Some((record, _)) if record.owner == keys.public() => {
                self.sign(now, id, Some(record));
                self.find_place(now, id);
            }
            // The authority has given the name to us since.
            Some((record, _)) if crate::names::serial(record) < serial => {
                self.sign(now, id, None);
                self.find_place(now, id);
            }
            Some(_) => {
                let op = self.publications.all.get_mut(&id).and_then(|p| p.op.take());
                if let Some(op) = op {
                    self.failed(op, Code::INSERT_ERROR.0, "another owner was first");
                    self.emit(Event::Save);
                }
                self.name_is_taken(now, id);
            }
            None => {
                self.sign(now, id, None);
                // To see that nothing is there the nearest peers have all been asked: they are the
                // place, unless time ran out.
                match findings.closest.is_empty() {
                    true => self.find_place(now, id),
                    false => self.handle_place_heard(now, id, findings),
                }
            }
        }
    }

    fn name_is_taken(&mut self, now: Time, id: u64) {
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        publication.taken = true;
        publication.stage = Stage::Idle;
        if let What::User(aor) = publication.what.clone() {
            self.emit(Event::NameTaken { aor });
        }
        // The other record may end one day.
        self.timers.set(Alarm::Publication(id), now + self.config.refresh_interval);
    }

    /// Makes the record, unless one that we signed before says the same: another version would leave old
    /// copies behind to be found. Sequence numbers follow the calendar, so that a peer that lost its state
    /// still writes newer records than it did before.
    fn sign(&mut self, now: Time, id: u64, found: Option<&Record>) {
        let unix = self.unix(now);
        let own = self.public_key();
        let addresses = self.whereabouts().to_bytes();
        let Some(publication) = self.publications.all.get(&id) else { return };
        let Some((place, kind, keys)) = self.place_of(&publication.what.clone()) else { return };
        let claim = match &publication.what {
            What::User(aor) => self.claim_of(now, aor).unwrap_or_default(),
            What::Number(_) => self.numbers.stretch(&keys.public()).map_or(Claim::None, Claim::Stretch),
            What::Peer | What::Data(..) => Claim::None,
        };
        let publication = self.publications.all.get_mut(&id).expect("looked up above");
        let value = match &publication.what {
            What::Peer => addresses,
            What::Data(..) => publication.value.clone(),
            What::User(_) | What::Number(_) => {
                let most = if kind == Kind::NUMBER { Devices::MAX_AT_NUMBER } else { Devices::MAX };
                let mut devices = found.and_then(|r| Devices::parse(&r.value)).unwrap_or_default().0;
                if !devices.contains(&own) {
                    devices.insert(0, own);
                    devices.truncate(most);
                }
                Devices(devices).with(&claim).unwrap_or_default()
            }
        };
        let latest = found.into_iter().chain(publication.record.as_deref()).max_by_key(|r| r.sequence);
        let longest = publication.ttl.unwrap_or(self.config.record_lifetime);
        let lifetime = u32::try_from(longest.as_secs()).unwrap_or(u32::MAX);
        let says_the_same = |r: &Record| r.value == value && r.lifetime == lifetime;
        let outdated = std::mem::take(&mut publication.outdated);
        let record = match latest {
            Some(record) if says_the_same(record) && !outdated => self.book.record(record.as_ref()),
            latest => {
                let sequence = unix.0.max(latest.map_or(0, |r| r.sequence) + 1);
                let record = Record::sign(&keys, place, kind, sequence, unix, lifetime, value);
                self.book.record(record.as_ref())
            }
        };
        publication.record = Some(record);
    }

    fn retry(&mut self, now: Time, id: u64) {
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        publication.failures += 1;
        publication.verified = false;
        let pause = RETRY * (1 << publication.failures.min(7));
        let pause = self.jitter(pause, 0.75, 1.25);
        self.timers.set(Alarm::Publication(id), now + pause);
    }
}
