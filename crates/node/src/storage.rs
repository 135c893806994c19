//! What this peer keeps for others.
//!
//! A record enters only if its owner signed it, its kind is known, its owner may write there, it is
//! newer than what is held, and there is room. Lifetimes are relative to arrival, so no two peers
//! need to agree on the date. A tombstone stays as long as a record would, so that an old copy that
//! turns up late does not bring the withdrawn value back.

use std::sync::Arc;
use std::time::Duration;

use wire::document::Policy;
use wire::p2pp::{Code, Density, Kind, Record, RecordRef, RecordSummary};
use wire::{
    Book, Certificate, HashAlgorithm, NodeId, OwnBook, PublicKey, ResourceId, Signatures, Stretch, Time,
    certificate,
};

/// Most records held: with five replicas and two records a user, room for a peer in a mesh of a
/// thousand to serve four hundred times its share.
pub const MAX_RECORDS: usize = 4_096;

/// Most bytes of values held.
pub const MAX_BYTES: usize = 4 << 20;

/// Most records of one owner, so that nobody fills a peer alone.
pub const MAX_PER_OWNER: usize = 64;

/// Most owners at one place, for kinds that many may write.
pub const MAX_OWNERS: usize = 16;

/// Most owners at the place of a number: their records fit one answer. Each but the right one cost 10^12 hashes.
pub const MAX_CLAIMS: usize = 4;

/// Longest lifetime granted; the owner refreshes long before.
pub const MAX_LIFETIME: Duration = Duration::from_secs(86_400);

/// Most other holders remembered per record.
const MAX_HOLDERS: usize = 8;

/// A record held, and what is known about it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The record.
    pub record: Arc<Record>,
    /// When it ends here.
    pub expires: Time,
    /// For how many seconds it was kept when last brought or refreshed.
    granted: u32,
    /// How close together its publisher, or who passed it on, saw the peers around its place stand; nothing
    /// where that was as chance would have it.
    pub told: Density,
    /// Other holders, whom we heard of last last.
    holders: Vec<Holder>,
}

/// Who else holds a record, in twelve bytes: these are most of what a peer keeps for others.
#[derive(Clone, Copy, Debug)]
struct Holder {
    /// The first 64 bits of its Node-ID.
    head: [u8; 8],
    /// The second in which it was known to hold it.
    second: u32,
}

impl Holder {
    fn head(&self) -> u64 {
        u64::from_be_bytes(self.head)
    }
}

impl Stored {
    /// Peers known to hold the same version since a certain time.
    pub fn known_holders(&self, since: Time) -> impl Iterator<Item = u64> {
        let known = self.holders.iter().filter(move |h| Time::from_secs(h.second.into()) >= since);
        known.map(Holder::head)
    }

    /// Whether this peer is one of them.
    pub fn is_held_by(&self, since: Time, peer: &NodeId) -> bool {
        self.known_holders(since).any(|head| head == peer.key().head())
    }
}

type Name = (ResourceId, Kind, PublicKey);

/// How a record comes to be kept.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Who may store such records.
    pub policy: Policy,
    /// How long it may be kept.
    pub lifetime: Duration,
}

impl Stored {
    /// How long a copy passed on may live, where records are given `usual` and refreshed several times in
    /// it; `None` once three eighths of that are over: the owner has missed a refresh, and seems to be gone.
    pub fn to_pass_on(&self, now: Time, usual: Duration) -> Option<Duration> {
        let granted = Duration::from_secs(self.granted.into());
        let age = granted.saturating_sub(self.expires.since(now));
        let whole = granted.min(usual);
        (self.granted > 0 && self.expires > now && age * 8 <= whole * 3).then(|| whole - age)
    }

    /// Keeps it for so long from now, if that is longer than it would be kept anyway.
    fn extend(&mut self, now: Time, granted: Duration) {
        if now + granted >= self.expires {
            self.expires = now + granted;
            self.granted = seconds(granted);
        }
    }

    /// Whether this is the version named. The digest costs a hash, so it is looked at last.
    fn is(&self, summary: &RecordSummary) -> bool {
        self.record.sequence == summary.sequence && (*self.record).as_ref().summary() == *summary
    }

    fn stands_at(&self, resource: &ResourceId, kind: Kind) -> bool {
        self.record.resource == *resource && self.record.kind == kind
    }

    fn note_holder(&mut self, now: Time, holder: u64) {
        let second = u32::try_from(now.as_millis() / 1_000).unwrap_or(u32::MAX);
        if let Some(known) = self.holders.iter().position(|h| h.head() == holder) {
            self.holders.remove(known);
        } else if self.holders.len() == MAX_HOLDERS {
            self.holders.remove(0);
        }
        self.holders.reserve_exact(1);
        self.holders.push(Holder { head: holder.to_be_bytes(), second });
    }
}

/// What this peer keeps for others.
#[derive(Debug)]
pub struct Storage {
    hash: HashAlgorithm,
    signatures: Signatures,
    book: Arc<dyn Book>,
    /// Sorted by name. An entry has 48 bytes, so that a peer with a dozen takes little room, and one with
    /// thousands finds and moves them quickly.
    records: Vec<Stored>,
    bytes: usize,
    /// For whose records no place is full: nobody shall crowd out what an authority says.
    honoured: Vec<PublicKey>,
    /// Grows with every record that comes or goes.
    changes: u64,
}

impl Storage {
    /// Nothing is kept yet.
    pub fn new(hash: HashAlgorithm, signatures: Signatures) -> Self {
        let book = Arc::new(OwnBook);
        Storage { hash, signatures, book, records: Vec::new(), bytes: 0, honoured: Vec::new(), changes: 0 }
    }

    /// Finds room at any place for records of these owners.
    pub fn honour(&mut self, owners: Vec<PublicKey>) {
        self.honoured = owners;
    }

    /// Takes records from this book from now on.
    pub fn share(&mut self, book: Arc<dyn Book>) {
        self.book = book;
    }

    /// The hash that places keys.
    pub fn hash(&self) -> HashAlgorithm {
        self.hash
    }

    /// Keeps a record that may stand where it is ([`crate::policy`]) for as long as `arrival` says at most; returns how
    /// long it will be kept.
    pub fn store(&mut self, now: Time, record: RecordRef<'_>, arrival: Arrival) -> Result<Duration, Code> {
        let Arrival { policy, lifetime } = arrival;
        self.check_place(now, &record, policy)?;
        let name = (record.resource, record.kind, record.owner);
        if let Ok(place) = self.place(&name) {
            let held = &mut self.records[place];
            let ours = (held.record.sequence, &held.record.signature);
            match (record.sequence, &record.signature).cmp(&ours) {
                std::cmp::Ordering::Less => return Err(Code::TOO_OLD),
                std::cmp::Ordering::Equal => {
                    let granted = grant(&record, lifetime);
                    held.extend(now, granted);
                    return Ok(granted);
                }
                std::cmp::Ordering::Greater => {}
            }
        } else {
            self.check_room(&record, policy)?;
        }
        if !record.verify_by(self.signatures) {
            return Err(Code::FORBIDDEN);
        }
        let granted = grant(&record, lifetime);
        self.changes += 1;
        self.bytes += record.value.len();
        let record = self.book.record(record);
        let stored = Stored {
            record,
            expires: now + granted,
            granted: seconds(granted),
            told: Density::default(),
            holders: Vec::new(),
        };
        match self.place(&name) {
            Ok(place) => {
                self.bytes -= self.records[place].record.value.len();
                self.records[place] = stored;
            }
            Err(place) => {
                if self.records.len() == self.records.capacity() {
                    self.records.reserve_exact(self.records.len() / 8 + 2);
                }
                self.records.insert(place, stored);
            }
        }
        Ok(granted)
    }

    /// Extends the life of the version named, if exactly that is held.
    pub fn refresh(&mut self, now: Time, summary: &RecordSummary, lifetime: Duration) -> Option<Duration> {
        let stored = self.find_mut(summary)?;
        let granted = grant(&(*stored.record).as_ref(), lifetime);
        stored.extend(now, granted);
        Some(granted)
    }

    /// Peers that hold an older version than this, as far as is known here.
    pub fn holders_of_older(&self, record: &RecordRef<'_>) -> Vec<u64> {
        let place = self.place(&(record.resource, record.kind, record.owner));
        let older = place.map(|p| &self.records[p]).ok().filter(|s| s.record.sequence < record.sequence);
        older.map(|s| s.holders.iter().map(Holder::head).collect()).unwrap_or_default()
    }

    /// The record of which this is the summary.
    pub fn find(&self, summary: &RecordSummary) -> Option<&Stored> {
        self.at(&summary.resource, summary.kind).find(|s| s.is(summary))
    }

    fn find_mut(&mut self, summary: &RecordSummary) -> Option<&mut Stored> {
        let first = self.first_at(&summary.resource, summary.kind);
        let there = |s: &&mut Stored| s.stands_at(&summary.resource, summary.kind);
        self.records[first..].iter_mut().take_while(there).find(|s| s.is(summary))
    }

    /// Notes what was told of the peers around the place of this version.
    pub fn told(&mut self, summary: &RecordSummary, density: Density) {
        if let Some(stored) = self.find_mut(summary) {
            stored.told = density;
        }
    }

    /// Notes that other peers hold this version too: whose Node-IDs begin so.
    pub fn held_also_by(
        &mut self,
        now: Time,
        summary: &RecordSummary,
        holders: impl IntoIterator<Item = u64>,
    ) {
        if let Some(stored) = self.find_mut(summary) {
            holders.into_iter().for_each(|holder| stored.note_holder(now, holder));
        }
    }

    /// A peer is gone; whether it was known to hold anything we hold.
    pub fn forget_holder(&mut self, holder: &NodeId) -> bool {
        let mut known = false;
        for stored in self.records.iter_mut() {
            let before = stored.holders.len();
            stored.holders.retain(|h| h.head() != holder.key().head());
            known |= stored.holders.len() < before;
        }
        known
    }

    /// A peer has said that it leaves: where it was is not worth passing on. It stays until it ends, since what
    /// was said may have been recorded before and said again by somebody else.
    pub fn let_contact_end(&mut self, peer: &NodeId) {
        let of_peer =
            |s: &&mut Stored| concerns_a_peer(s.record.kind) && s.record.resource.key() == peer.key();
        self.records.iter_mut().filter(of_peer).for_each(|s| s.granted = 0);
    }

    /// Every record of a kind at a place, newest first; tombstones too.
    pub fn at(&self, resource: &ResourceId, kind: Kind) -> impl Iterator<Item = &Stored> {
        let resource = *resource;
        let first = self.first_at(&resource, kind);
        self.records[first..].iter().take_while(move |s| s.stands_at(&resource, kind))
    }

    /// Live values of a kind at a place: neither withdrawn nor past their time.
    pub fn live(&self, now: Time, resource: &ResourceId, kind: Kind) -> impl Iterator<Item = &Stored> {
        self.at(resource, kind).filter(move |s| !s.record.tombstone && s.expires > now)
    }

    /// Everything held.
    pub fn iter(&self) -> impl Iterator<Item = &Stored> {
        self.records.iter()
    }

    /// A number that is another one when other records are held.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// How many records are held.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether anything at this place is held.
    pub fn holds(&self, resource: &ResourceId) -> bool {
        let first = self.records.get(self.first_at(resource, Kind(0)));
        first.is_some_and(|s| s.record.resource == *resource)
    }

    /// Drops what has ended.
    pub fn expire(&mut self, now: Time) {
        let before = self.records.len();
        self.records.retain(|s| s.expires > now);
        self.account(before);
    }

    /// Drops records that do not count any more.
    pub fn drop_where(&mut self, is_over: impl Fn(&Record) -> bool) {
        let before = self.records.len();
        self.records.retain(|s| !is_over(&s.record));
        if self.records.len() < before {
            self.account(before);
        }
    }

    /// Some of so many records were dropped.
    fn account(&mut self, before: usize) {
        self.changes += (before - self.records.len()) as u64;
        self.bytes = self.records.iter().map(|s| s.record.value.len()).sum();
    }

    /// Where a record of this name is, or would be.
    fn place(&self, name: &Name) -> Result<usize, usize> {
        let head = name.0.key().head();
        self.records.binary_search_by(|s| {
            let Record { resource, kind, owner, .. } = &*s.record;
            // The head tells nearly always, and quickly.
            let order = resource.key().head().cmp(&head).then_with(|| resource.cmp(&name.0));
            order.then_with(|| kind.cmp(&name.1)).then_with(|| owner.cmp(&name.2))
        })
    }

    /// Where the records at a place begin that are of this kind or, if there are none, of the next.
    fn first_at(&self, resource: &ResourceId, kind: Kind) -> usize {
        self.place(&(*resource, kind, PublicKey([0; 32]))).unwrap_or_else(|place| place)
    }

    /// Whether a place is free for the record's owner, as far as is known here.
    fn check_place(&self, now: Time, record: &RecordRef<'_>, policy: Policy) -> Result<(), Code> {
        // First come, first served, while the record lives; of names the caller's pin protects beyond.
        let is_anothers =
            |s: &Stored| s.record.owner != record.owner && s.expires > now && !s.record.tombstone;
        match policy == Policy::FirstOwner && self.at(&record.resource, record.kind).any(is_anothers) {
            true => Err(Code::INSERT_ERROR),
            false => Ok(()),
        }
    }

    fn check_room(&self, record: &RecordRef<'_>, policy: Policy) -> Result<(), Code> {
        let of_owner = self.records.iter().filter(|s| s.record.owner == record.owner).count();
        let owners = self.at(&record.resource, record.kind).count();
        let most_owners = if policy == Policy::OwnNumber { MAX_CLAIMS } else { MAX_OWNERS };
        let full = self.records.len() >= MAX_RECORDS
            || self.bytes + record.value.len() > MAX_BYTES
            || of_owner >= MAX_PER_OWNER
            || owners >= most_owners && !self.honoured.contains(&record.owner);
        if full { Err(Code::QUOTA) } else { Ok(()) }
    }
}

/// Whether records of a kind say something of a peer, and stand at its Node-ID.
pub(crate) fn concerns_a_peer(kind: Kind) -> bool {
    matches!(kind, Kind::PEER | Kind::STUN | Kind::TURN)
}

/// The lifetime a holder grants: what is left of it, within what the owner signed and our bound. There is
/// no shortest one: holders that granted each other a little more than was left would keep the records of
/// the dead for ever.
fn grant(record: &RecordRef<'_>, lifetime: Duration) -> Duration {
    lifetime.min(Duration::from_secs(record.lifetime.into())).min(MAX_LIFETIME)
}

fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}

/// What a user's record says of its name, where authorities give names, or of its number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Claim {
    /// Nothing.
    #[default]
    None,
    /// Its name, which no authority gives.
    Name(String),
    /// The certificate of its authority, which says the name too.
    Certificate(Certificate),
    /// What its key costs, at the place of its number.
    Stretch(Stretch),
}

impl Claim {
    /// The name.
    pub fn aor(&self) -> Option<&str> {
        match self {
            Claim::None | Claim::Stretch(_) => None,
            Claim::Name(aor) => Some(aor),
            Claim::Certificate(certificate) => Some(&certificate.aor),
        }
    }
}

/// What a user's record says: the keys of the peers that serve the user.
///
/// ```text
/// | version (8) = 1 to 4 | count (8) | count times: peer key (32 bytes) | of version 2: the name; of 3: a certificate; of 4: a stretch |
/// ```
///
/// Name and certificate are written as in [`wire::certificate`], a stretch as its 16 bytes ([`wire::number`]).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Devices(pub Vec<PublicKey>);

impl Devices {
    /// Most devices of one user.
    pub const MAX: usize = 8;
    /// And at the place of a number, where records of several keys have to fit one answer.
    pub const MAX_AT_NUMBER: usize = 2;
    const PLAIN: u8 = 1;
    const NAMED: u8 = 2;
    const CERTIFIED: u8 = 3;
    const NUMBERED: u8 = 4;

    /// The value of a user's record that claims nothing.
    pub fn to_bytes(&self) -> Vec<u8> {
        let count = self.0.len().min(Self::MAX);
        let mut out = vec![Self::PLAIN, count as u8];
        self.0.iter().take(count).for_each(|key| out.extend_from_slice(&key.0));
        out
    }

    /// The value of a user's record with what it says of its name; `None` if that cannot be written.
    pub fn with(&self, claim: &Claim) -> Option<Vec<u8>> {
        let mut out = self.to_bytes();
        match claim {
            Claim::None => {}
            Claim::Name(aor) => {
                out[0] = Self::NAMED;
                certificate::put_aor(&mut out, aor).ok()?;
            }
            Claim::Certificate(certificate) => {
                out[0] = Self::CERTIFIED;
                out.extend(certificate.to_bytes().ok()?);
            }
            Claim::Stretch(stretch) => {
                out[0] = Self::NUMBERED;
                out.extend_from_slice(&stretch.0);
            }
        }
        Some(out)
    }

    /// Reads the value of a user's record, whatever it says of its name.
    pub fn parse(value: &[u8]) -> Option<Self> {
        Self::read(value).map(|(devices, _)| devices)
    }

    /// What the key of a number's record costs, as its value says.
    pub fn stretch(value: &[u8]) -> Option<Stretch> {
        match Self::read(value)? {
            (_, Claim::Stretch(stretch)) => Some(stretch),
            _ => None,
        }
    }

    /// Reads the value of a user's record.
    pub fn read(value: &[u8]) -> Option<(Self, Claim)> {
        let ([version, count], rest) = value.split_first_chunk::<2>()?;
        let count = usize::from(*count);
        let (keys, rest) = rest.split_at_checked(count * PublicKey::LEN).filter(|_| count <= Self::MAX)?;
        let claim = match *version {
            Self::PLAIN if rest.is_empty() => Claim::None,
            Self::NAMED => Claim::Name(certificate::parse_aor(rest).ok()?),
            Self::CERTIFIED => Claim::Certificate(Certificate::parse(rest).ok()?),
            Self::NUMBERED => Claim::Stretch(Stretch(rest.try_into().ok()?)),
            _ => return None,
        };
        let keys = keys.chunks_exact(PublicKey::LEN);
        Some((Devices(keys.map(|k| PublicKey(k.try_into().expect("exact chunk"))).collect()), claim))
    }
}

#[cfg(test)]
mod tests {
    use wire::document::KindRule;
    use wire::{KeyPair, Number, Seed, UnixTime};

    use super::*;
    use crate::policy::Rules;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn pair(n: u8) -> KeyPair {
        KeyPair::from_seed(Seed([n; 32]))
    }

    fn place(name: &str) -> ResourceId {
        ResourceId(HashAlgorithm::Sha256.digest(name.as_bytes()))
    }

    fn record(owner: &KeyPair, name: &str, kind: Kind, sequence: u64) -> Record {
        Record::sign(owner, place(name), kind, sequence, UnixTime(1), 3_600, vec![sequence as u8])
    }

    fn storage() -> Storage {
        Storage::new(HashAlgorithm::Sha256, Signatures::Ed25519)
    }

    /// Keeps a record as a peer does that was told no document.
    fn keep(
        storage: &mut Storage,
        now: Time,
        record: RecordRef<'_>,
        lifetime: Duration,
    ) -> Result<Duration, Code> {
        let policy = Rules { hash: storage.hash(), document: None }.check(&record)?;
        storage.store(now, record, Arrival { policy, lifetime })
    }

    #[test]
    fn the_newer_record_wins_and_the_older_is_told_so() {
        let mut storage = storage();
        let alice = pair(1);
        let now = Time::ZERO;
        for (sequence, expected) in [(5, Ok(HOUR)), (7, Ok(HOUR)), (6, Err(Code::TOO_OLD)), (7, Ok(HOUR))] {
            let record = record(&alice, "alice", Kind::USER, sequence);
            assert_eq!(keep(&mut storage, now, record.as_ref(), HOUR), expected, "{sequence}");
        }
        let held: Vec<_> = storage.live(now, &place("alice"), Kind::USER).collect();
        assert_eq!(held.len(), 1);
        assert_eq!(held[0].record.sequence, 7);
    }

    #[test]
    fn a_name_belongs_to_its_first_owner_while_the_record_lives() {
        let mut storage = storage();
        let (alice, mallory) = (pair(1), pair(2));
        let now = Time::ZERO;
        keep(&mut storage, now, record(&alice, "alice", Kind::USER, 1).as_ref(), HOUR).unwrap();
        let theft = record(&mallory, "alice", Kind::USER, 99);
        assert_eq!(keep(&mut storage, now, theft.as_ref(), HOUR), Err(Code::INSERT_ERROR));
        let later = now + HOUR * 2;
        storage.expire(later);
        assert!(keep(&mut storage, later, theft.as_ref(), HOUR).is_ok());
    }

    #[test]
    fn a_contact_record_stands_only_at_its_own_key() {
        let mut storage = storage();
        let bob = pair(3);
        let wrong = record(&bob, "bob", Kind::PEER, 1);
        assert_eq!(keep(&mut storage, Time::ZERO, wrong.as_ref(), HOUR), Err(Code::FORBIDDEN));
        let id = bob.public().node_id(HashAlgorithm::Sha256);
        let right = Record::sign(&bob, ResourceId(id.0), Kind::PEER, 1, UnixTime(1), 3_600, vec![]);
        assert!(keep(&mut storage, Time::ZERO, right.as_ref(), HOUR).is_ok());
    }

    #[test]
    fn what_is_kept_is_kept_by_the_rules_that_a_document_states() {
        let (first, second) = (pair(1), pair(2));
        let elsewhere = |kind, policy| {
            let mut storage = storage();
            let takes = |storage: &mut Storage, owner: &KeyPair| {
                keep(storage, Time::ZERO, record(owner, "place", kind, 1).as_ref(), HOUR).is_ok()
            };
            let is_anybodys = !matches!(policy, Policy::OwnPlace | Policy::Operators);
            assert_eq!(takes(&mut storage, &first), is_anybodys, "{kind:?}");
            assert_eq!(takes(&mut storage, &second), is_anybodys && policy != Policy::FirstOwner, "{kind:?}");
        };
        for rule in KindRule::all_usual() {
            let own = ResourceId(first.public().node_id(HashAlgorithm::Sha256).0);
            let mut own = Record::sign(&first, own, rule.kind, 1, UnixTime(1), 3_600, vec![]);
            if rule.policy == Policy::OwnNumber {
                own = claim(&first, &first);
            } else {
                elsewhere(rule.kind, rule.policy);
            }
            if rule.policy == Policy::Operators {
                continue; // No document says who they are.
            }
            assert!(keep(&mut storage(), Time::ZERO, own.as_ref(), HOUR).is_ok(), "{rule:?}");
            own.value = vec![0; rule.max_value.into()];
            assert!(Record::from_bytes(&own.to_bytes()).is_ok());
            own.value.push(0);
            assert!(Record::from_bytes(&own.to_bytes()).is_err());
        }
        let unknown = record(&first, "place", Kind(0x7fff), 1);
        assert!(keep(&mut storage(), Time::ZERO, unknown.as_ref(), HOUR).is_err());
    }

    const STRETCH: Stretch = Stretch([1; Stretch::LEN]);

    /// A record that claims the number of a key that costs [`STRETCH`].
    fn claim(owner: &KeyPair, whose: &KeyPair) -> Record {
        let place = Number::of(&whose.public(), &STRETCH).place(HashAlgorithm::Sha256);
        let value = Devices(vec![owner.public()]).with(&Claim::Stretch(STRETCH)).unwrap();
        Record::sign(owner, place, Kind::NUMBER, 1, UnixTime(1), 3_600, value)
    }

    #[test]
    fn under_a_number_stands_only_what_a_key_and_what_it_is_said_to_cost_make() {
        let kept = |record: &Record| keep(&mut storage(), Time::ZERO, record.as_ref(), HOUR);
        let good = claim(&pair(1), &pair(1));
        assert!(kept(&good).is_ok());
        assert_eq!(kept(&claim(&pair(1), &pair(2))), Err(Code::FORBIDDEN), "another's number");
        let copied = Record { owner: pair(2).public(), ..good.clone() };
        assert_eq!(kept(&copied), Err(Code::FORBIDDEN), "another's record in one's own name");
        let plain = Devices(vec![pair(1).public()]).to_bytes();
        let bare = Record::sign(&pair(1), good.resource, Kind::NUMBER, 2, UnixTime(1), 60, plain);
        assert_eq!(kept(&bare), Err(Code::FORBIDDEN), "no stretch");
        assert_eq!(kept(&good.tombstone(&pair(1), UnixTime(2))), Err(Code::FORBIDDEN));
    }

    #[test]
    fn where_a_peer_was_that_has_left_is_kept_until_it_ends_and_passed_on_no_more() {
        let (mut storage, bob) = (storage(), pair(3));
        let id = bob.public().node_id(HashAlgorithm::Sha256);
        let contact = Record::sign(&bob, ResourceId(id.0), Kind::PEER, 1, UnixTime(1), 3_600, vec![]);
        keep(&mut storage, Time::ZERO, contact.as_ref(), HOUR).unwrap();
        let summary = contact.as_ref().summary();
        let passed_on = |s: &Storage| s.find(&summary).unwrap().to_pass_on(Time::ZERO, HOUR).is_some();
        assert!(passed_on(&storage));
        storage.let_contact_end(&id);
        assert!(!passed_on(&storage) && storage.live(Time::ZERO, &contact.resource, Kind::PEER).count() == 1);
        // What was said was a replay: it goes on refreshing it.
        storage.refresh(Time::ZERO, &summary, HOUR).unwrap();
        assert!(passed_on(&storage));
    }

    #[test]
    fn a_tombstone_keeps_the_old_value_away() {
        let mut storage = storage();
        let alice = pair(1);
        let value = record(&alice, "k", Kind::DATA, 1);
        keep(&mut storage, Time::ZERO, value.as_ref(), HOUR).unwrap();
        let stone = value.tombstone(&alice, UnixTime(2));
        keep(&mut storage, Time::ZERO, stone.as_ref(), HOUR).unwrap();
        assert_eq!(keep(&mut storage, Time::ZERO, value.as_ref(), HOUR), Err(Code::TOO_OLD));
        assert_eq!(storage.live(Time::ZERO, &place("k"), Kind::DATA).count(), 0);
    }

    #[test]
    fn a_forged_record_is_refused() {
        let mut storage = storage();
        let mut forged = record(&pair(1), "k", Kind::DATA, 1);
        forged.value = b"other".to_vec();
        assert_eq!(keep(&mut storage, Time::ZERO, forged.as_ref(), HOUR), Err(Code::FORBIDDEN));
        assert!(storage.is_empty());
    }

    #[test]
    fn nobody_fills_a_peer_alone() {
        let mut storage = storage();
        let greedy = pair(9);
        for n in 0..MAX_PER_OWNER {
            let record = record(&greedy, &format!("k{n}"), Kind::DATA, 1);
            keep(&mut storage, Time::ZERO, record.as_ref(), HOUR).unwrap();
        }
        let one_more = record(&greedy, "more", Kind::DATA, 1);
        assert_eq!(keep(&mut storage, Time::ZERO, one_more.as_ref(), HOUR), Err(Code::QUOTA));
        let modest = record(&pair(8), "more", Kind::DATA, 1);
        assert!(keep(&mut storage, Time::ZERO, modest.as_ref(), HOUR).is_ok());
    }

    #[test]
    fn a_refresh_extends_exactly_the_version_it_names() {
        let mut storage = storage();
        let alice = pair(1);
        let old = record(&alice, "alice", Kind::USER, 1);
        let new = record(&alice, "alice", Kind::USER, 2);
        keep(&mut storage, Time::ZERO, new.as_ref(), HOUR).unwrap();
        let later = Time::from_secs(3_000);
        assert_eq!(storage.refresh(later, &old.as_ref().summary(), HOUR), None);
        assert_eq!(storage.refresh(later, &new.as_ref().summary(), HOUR), Some(HOUR));
        storage.expire(Time::from_secs(4_000));
        assert_eq!(storage.len(), 1);
    }

    #[test]
    fn device_lists_round_trip() {
        let devices = Devices(vec![pair(1).public(), pair(2).public()]);
        assert_eq!(Devices::parse(&devices.to_bytes()), Some(devices));
        assert_eq!(Devices::parse(&[1, 2, 0]), None);
    }

    #[test]
    fn what_a_record_says_of_its_name_comes_back_and_nothing_else_does() {
        let devices = Devices(vec![pair(1).public()]);
        let times = (UnixTime(1), UnixTime(2));
        let who = (pair(3).public(), "alice@camp", pair(4).public());
        let certificate = Certificate::sign(&pair(2), who, 5, times).unwrap();
        let stretch = Claim::Stretch(Stretch([7; Stretch::LEN]));
        for claim in [Claim::None, Claim::Name("alice@camp".into()), Claim::Certificate(certificate), stretch]
        {
            let value = devices.with(&claim).unwrap();
            assert_eq!(Devices::read(&value), Some((devices.clone(), claim)));
            for len in 0..value.len() {
                assert_eq!(Devices::read(&value[..len]), None, "{len}");
            }
            assert_eq!(Devices::read(&[&value[..], &[0]].concat()), None);
        }
        assert_eq!(devices.with(&Claim::Name("Alice".into())), None);
        assert_eq!(Devices::read(&[5, 0]), None);
    }

    #[test]
    fn a_place_crowded_by_others_has_room_for_whom_the_document_honours() {
        let mut storage = storage();
        for n in 10..10 + MAX_OWNERS as u8 {
            keep(&mut storage, Time::ZERO, record(&pair(n), "k", Kind::DATA, 1).as_ref(), HOUR).unwrap();
        }
        let list = record(&pair(1), "k", Kind::DATA, 1);
        assert_eq!(keep(&mut storage, Time::ZERO, list.as_ref(), HOUR), Err(Code::QUOTA));
        storage.honour(vec![pair(1).public()]);
        assert!(keep(&mut storage, Time::ZERO, list.as_ref(), HOUR).is_ok());
    }
}
