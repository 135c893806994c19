//! A routing table of buckets: who is kept where, who waits, and who makes room.
//!
//! A peer's bucket is named by its *row*, the number of leading digits it shares with us, and its
//! *column*, the first digit that differs; a digit has `base_bits` bits. A bucket holds the peers
//! known longest, since a peer that has been up for long is likely to stay; those met later wait in
//! the bucket's replacement cache until somebody fails.
//!
//! Around ourselves we keep more: the nearest peers stay even where their bucket is full. With that
//! a peer knows *all* its neighbours, and can tell exactly which keys it holds and who else does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use wire::{Book, Contact, Key, NodeId, OwnBook, Time};

use crate::cell;
use crate::overlay::{Entry, MAX_ROUTE, Standing};

/// The widest digit: 16 columns a row. Wider ones cost upkeep that no network we aim at repays.
pub const MAX_BASE_BITS: u8 = 4;

/// So many other large networks in a table make it diverse.
pub const DIVERSE: usize = 8;

/// How much a table holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Bits of a key resolved by one step, 1 to [`MAX_BASE_BITS`].
    pub base_bits: u8,
    /// Peers a bucket holds.
    pub bucket: usize,
    /// Peers a bucket's replacement cache holds.
    pub spares: usize,
    /// How many of the peers nearest to us stay even in a full bucket.
    pub near: usize,
    /// Peers from one small network that a bucket accepts; see [`Networks`].
    pub prefix_in_bucket: usize,
    /// Peers from one small network that the table accepts.
    pub prefix_in_table: usize,
    /// Peers from one large network that the table accepts.
    pub wide_in_table: usize,
}

/// A moment in tenths of a second, rounded down: four bytes last for thirteen years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Tenths(u32);

impl Tenths {
    fn of(time: Time) -> Self {
        Tenths(u32::try_from(time.as_millis() / 100).unwrap_or(u32::MAX))
    }

    fn time(self) -> Time {
        Time::from_millis(u64::from(self.0) * 100)
    }
}

/// A peer of the table, in 32 bytes beside what is shared.
#[derive(Clone, Debug)]
pub struct Peer {
    contact: Arc<Contact>,
    /// The head of its identity, which decides nearly every comparison of distances.
    head: u32,
    /// Its IPv4 address, which decides nearly every comparison of networks.
    v4: V4,
    heard: Tenths,
    asked: Tenths,
    /// The longest silence after which it still answered, in seconds.
    silence: u16,
    /// Smoothed round-trip time in microseconds; zero while unknown.
    rtt: u32,
    /// Questions it left unanswered since it was heard.
    pub failures: u8,
    /// Whether it has us in its table, as it last said.
    pub mutual: bool,
}

impl Peer {
    /// A peer that answered just now.
    pub(crate) fn met(now: Time, contact: Arc<Contact>, rtt: Option<Duration>) -> Self {
        let mut peer = Peer::new(contact, Tenths::of(now), Tenths::of(now));
        peer.hear(now, rtt);
        peer
    }

    fn new(contact: Arc<Contact>, heard: Tenths, asked: Tenths) -> Self {
        let (head, v4) = (head(contact.id.key()), V4::of(contact.address.ip()));
        Peer { contact, head, v4, heard, asked, rtt: 0, failures: 0, silence: 0, mutual: false }
    }

    /// Whether it is this one; the head tells nearly always.
    fn is(&self, id: &NodeId) -> bool {
        self.head == head(id.key()) && self.id() == id
    }

    /// Who and where.
    pub fn contact(&self) -> Contact {
        *self.contact
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.contact.address
    }

    /// Its identity.
    pub fn id(&self) -> &NodeId {
        &self.contact.id
    }

    /// The first 32 bits of its identity, which lie at hand.
    pub(crate) fn head(&self) -> u32 {
        self.head
    }

    /// Whether these are the first 64 bits of its identity.
    pub fn has_head(&self, head: u64) -> bool {
        u64::from(self.head) == head >> 32 && self.id().key().head() == head
    }

    /// When it last answered, to a tenth of a second.
    pub fn heard(&self) -> Time {
        self.heard.time()
    }

    /// When we last asked whether it lives, or noticed that it did not, to a tenth of a second.
    pub fn asked(&self) -> Time {
        self.asked.time()
    }

    /// Notes that it is asked now.
    pub fn ask(&mut self, now: Time) {
        self.asked = Tenths::of(now);
    }

    /// Smoothed round-trip time.
    pub fn rtt(&self) -> Option<Duration> {
        (self.rtt > 0).then(|| Duration::from_micros(u64::from(self.rtt)))
    }

    /// It was seen elsewhere.
    pub(crate) fn moved(&mut self, contact: Arc<Contact>) {
        self.v4 = V4::of(contact.address.ip());
        self.contact = contact;
        self.mutual = false;
    }

    /// The networks it belongs to.
    fn networks(&self) -> Option<Networks> {
        self.v4.networks().unwrap_or_else(|| Networks::of(self.contact.address.ip()))
    }

    /// The longest silence after which it still answered.
    pub fn silence(&self) -> Duration {
        Duration::from_secs(self.silence.into())
    }

    pub(crate) fn hear(&mut self, now: Time, rtt: Option<Duration>) {
        let silence = u16::try_from(now.since(self.heard()).as_secs()).unwrap_or(u16::MAX);
        self.silence = self.silence.max(silence);
        self.heard = Tenths::of(now);
        self.failures = 0;
        if let Some(sample) = rtt {
            let sample = u32::try_from(sample.as_micros()).unwrap_or(u32::MAX).max(1);
            // The smoothing of RFC 6298: one eighth of each new sample.
            self.rtt = if self.rtt == 0 { sample } else { self.rtt - self.rtt / 8 + sample / 8 };
        }
    }
}

/// A peer that waits for a place.
#[derive(Clone, Debug)]
struct Spare {
    contact: Arc<Contact>,
    heard: Tenths,
}

/// One bucket: the peers known longest first, and those that wait, the latest heard last.
#[derive(Debug)]
struct Bucket {
    index: u16,
    refresh_at: Time,
    peers: Vec<Peer>,
    spares: Vec<Spare>,
}

/// What became of a peer that answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It was in the table already.
    Known,
    /// It is in the table now.
    Added,
    /// Its bucket is full of peers in good standing; it waits.
    Waits,
    /// There is no place for it: too many from its network, or it is ourselves.
    Refused,
}

/// What became of a peer that did not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// It was not in the table.
    Unknown,
    /// It stays, suspected.
    Suspected,
    /// It is gone.
    Removed,
}

/// A routing table.
#[derive(Debug)]
pub struct Table {
    local: NodeId,
    shape: Shape,
    /// Sorted by index. Compact on purpose: a simulator holds many thousand tables.
    buckets: Vec<Bucket>,
    book: Arc<dyn Book>,
}

impl Table {
    /// An empty table around `local`.
    pub fn new(local: NodeId, mut shape: Shape) -> Self {
        shape.base_bits = shape.base_bits.clamp(1, MAX_BASE_BITS);
        shape.bucket = shape.bucket.max(1);
        Table { local, shape, buckets: Vec::new(), book: Arc::new(OwnBook) }
    }

    /// Takes contacts from this book from now on.
    pub fn share(&mut self, book: Arc<dyn Book>) {
        self.book = book;
    }

    /// The peer in the middle of the table.
    pub fn local(&self) -> NodeId {
        self.local
    }

    /// Peers in the table.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.buckets.iter().flat_map(|b| &b.peers)
    }

    /// How many peers are in good standing.
    pub fn len(&self) -> usize {
        self.peers().filter(|p| p.failures == 0).count()
    }

    /// True without a peer in good standing.
    pub fn is_empty(&self) -> bool {
        !self.peers().any(|p| p.failures == 0)
    }

    /// The peer with this identity.
    pub fn get(&self, id: &NodeId) -> Option<&Peer> {
        self.bucket(self.index_of(id.key()))?.peers.iter().find(|p| p.is(id))
    }

    /// The peer whose identity begins with these 64 bits, which nearly always tell its bucket too.
    pub fn beginning_with(&self, head: u64) -> Option<&Peer> {
        let mut bytes = [0; Key::MAX_LEN];
        bytes[..8].copy_from_slice(&head.to_be_bytes());
        let key = Key::from_slice(&bytes[..self.local.key().as_bytes().len()])?;
        self.bucket(self.index_of(&key))?.peers.iter().find(|p| p.has_head(head))
    }

    /// The peer in good standing at an address.
    pub fn at(&self, address: SocketAddr) -> Option<&Peer> {
        let v4 = V4::of(address.ip());
        self.peers().find(|p| p.failures == 0 && p.v4 == v4 && p.contact.address == address)
    }

    /// Everything in the table, for people.
    pub fn entries(&self) -> Vec<Entry> {
        let mut all = Vec::new();
        for bucket in &self.buckets {
            let (row, column) = self.row_and_column(bucket.index);
            let entry =
                |contact, last_seen, rtt, standing| Entry { row, column, contact, last_seen, rtt, standing };
            all.extend(bucket.peers.iter().map(|p| {
                let standing = if p.failures == 0 { Standing::Good } else { Standing::Suspect };
                entry(p.contact(), p.heard(), p.rtt(), standing)
            }));
            all.extend(
                bucket.spares.iter().map(|s| entry(*s.contact, s.heard.time(), None, Standing::Spare)),
            );
        }
        all
    }

    /// The `count` peers in good standing nearest to `key`, nearest first. Suspects stand in only
    /// where nobody else is left.
    pub fn nearest(&self, key: &Key, count: usize) -> Vec<Contact> {
        let good = self.nearest_where(key, count, |p| p.failures == 0);
        if good.is_empty() { self.nearest_where(key, count, |_| true) } else { good }
    }

    fn nearest_where(&self, key: &Key, count: usize, wanted: impl Fn(&Peer) -> bool) -> Vec<Contact> {
        let mut best: SmallVec<[(u32, &Peer); MAX_ROUTE + 1]> = SmallVec::new();
        let target = head(key);
        for buckets in self.groups_around(key) {
            if best.len() >= count {
                break;
            }
            let first = best.len();
            for peer in buckets.flat_map(|b| &b.peers).filter(|p| wanted(p)) {
                let distance = target ^ peer.head;
                let nearer = |&(d, other): &(u32, &Peer)| {
                    d < distance || d == distance && key.xor(other.id().key()) < key.xor(peer.id().key())
                };
                if best.len() == count && best.last().is_some_and(nearer) {
                    continue;
                }
                let place = first + best[first..].partition_point(nearer);
                best.insert(place, (distance, peer));
                best.truncate(count);
            }
        }
        best.into_iter().map(|(_, peer)| peer.contact()).collect()
    }

    /// The buckets in groups, every peer of one group nearer to `key` than every peer of the next: the
    /// key's own bucket, which shares a digit more with it than we do; what is left of its row and
    /// everything behind, which shares as much as we; then row by row what shares less and less.
    fn groups_around(&self, key: &Key) -> impl Iterator<Item = impl Iterator<Item = &Bucket>> {
        let index = self.index_of(key);
        let (row, _) = self.row_and_column(index);
        let own = self.bucket(index).map_or(&[][..], std::slice::from_ref);
        let (before, beside) = self.buckets.split_at(self.start_of(row));
        let row_of = |b: &Bucket| self.row_and_column(b.index).0;
        let rows_before = before.chunk_by(move |a, b| row_of(a) == row_of(b)).rev();
        let groups = [own, beside].into_iter().chain(rows_before).enumerate();
        groups.map(move |(group, buckets)| buckets.iter().filter(move |b| group != 1 || b.index != index))
    }

    /// Where in `buckets` a row begins, or would.
    fn start_of(&self, row: u16) -> usize {
        self.buckets.partition_point(|b| b.index < self.index(row, 0))
    }

    /// Whether fewer than `count` peers in good standing are nearer to `key` than this one.
    pub fn is_among_nearest(&self, key: &Key, count: usize, id: &NodeId) -> bool {
        let is_nearer = is_nearer(key, id);
        let peers = self.groups_around(key).flatten().flat_map(|b| &b.peers);
        peers.filter(|p| p.failures == 0 && is_nearer(p)).take(count).count() < count
    }

    /// How many peers in good standing are nearer to us than `id` is: those in the rows behind its
    /// own, and some in its own.
    pub fn nearer_than(&self, id: &NodeId) -> usize {
        let local = self.local.key();
        let (row, _) = self.row_and_column(self.index_of(id.key()));
        let behind = self.start_of(row);
        let (good, is_nearer) = (|p: &&Peer| p.failures == 0, is_nearer(local, id));
        let count = |b: &Bucket| match self.row_and_column(b.index).0 {
            same if same == row => b.peers.iter().filter(good).filter(|p| is_nearer(p)).count(),
            _ => b.peers.iter().filter(good).count(),
        };
        self.buckets[behind..].iter().map(count).sum()
    }

    /// How many peers in good standing share more of their first digits with us than this key does.
    pub fn behind(&self, key: &Key) -> usize {
        let (row, _) = self.row_and_column(self.index_of(key));
        let behind = self.buckets.iter().filter(|b| self.row_and_column(b.index).0 > row);
        behind.map(|b| b.peers.iter().filter(|p| p.failures == 0).count()).sum()
    }

    /// Whether an answer of this stranger would bring it into the table now, if a bucket is to have so many, and
    /// so many of the nearest are to be known.
    pub fn has_place_for(&self, contact: &Contact, enough: usize, near: usize) -> bool {
        if contact.id == self.local || self.get(&contact.id).is_some() {
            return false;
        }
        let index = self.index_of(contact.id.key());
        let full = self.bucket(index).is_some_and(|b| has_enough(b, enough));
        (!full || self.nearer_than(&contact.id) < near) && self.prefix_allows(index, contact)
    }

    /// A peer answered. `refresh_at` says when its bucket wants refreshing, should this be the first
    /// peer there.
    pub fn hear(
        &mut self,
        now: Time,
        contact: Contact,
        rtt: Option<Duration>,
        refresh_at: impl FnMut() -> Time,
    ) -> Admission {
        if contact.id == self.local {
            return Admission::Refused;
        }
        let index = self.index_of(contact.id.key());
        if let Some(admission) = self.hear_known(now, index, contact, rtt) {
            return admission;
        }
        if !self.prefix_allows(index, &contact) {
            return Admission::Refused;
        }
        let near = self.shape.near;
        let is_near = self.bucket(index).is_none_or(|b| b.peers.len() < self.shape.bucket)
            || self.nearer_than(&contact.id) < near;
        let (size, spares, book) = (self.shape.bucket, self.shape.spares, self.book.clone());
        let bucket = self.bucket_or_new(index, refresh_at);
        bucket.spares.retain(|s| s.contact.id != contact.id);
        if bucket.peers.len() >= size {
            let suspect = bucket.peers.iter().position(|p| p.failures > 0);
            if let Some(place) = suspect {
                bucket.peers.remove(place);
            } else if !is_near {
                if bucket.spares.len() >= spares && !bucket.spares.is_empty() {
                    bucket.spares.remove(0);
                }
                if spares > 0 {
                    let contact = book.contact(contact);
                    bucket.spares.reserve_exact(1);
                    bucket.spares.push(Spare { contact, heard: Tenths::of(now) });
                }
                return Admission::Waits;
            }
        }
        bucket.peers.reserve_exact(1);
        bucket.peers.push(Peer::met(now, book.contact(contact), rtt));
        self.trim();
        self.thin_out(Networks::of(contact.address.ip()));
        Admission::Added
    }

    /// A peer answered from where we knew it, or from elsewhere.
    fn hear_known(
        &mut self,
        now: Time,
        index: u16,
        contact: Contact,
        rtt: Option<Duration>,
    ) -> Option<Admission> {
        let known = self.get(&contact.id)?.contact();
        if known.address.ip() != contact.address.ip() && !self.prefix_allows(index, &contact) {
            self.remove(&contact.id);
            return Some(Admission::Refused);
        }
        let moved = (known != contact).then(|| self.book.contact(contact));
        let peer = self.get_mut(&contact.id)?;
        if let Some(contact) = moved {
            peer.moved(contact);
        }
        peer.hear(now, rtt);
        Some(Admission::Known)
    }

    /// A peer did not answer.
    ///
    /// At first it is suspected, unless somebody heard since `fresh` waits for its place; the second
    /// time it goes. With `keep` it stays in any case.
    pub fn fail(&mut self, now: Time, id: &NodeId, fresh: Time, keep: bool) -> Failure {
        let index = self.index_of(id.key());
        let Some(bucket) = self.bucket_mut(index) else { return Failure::Unknown };
        bucket.spares.retain(|s| s.contact.id != *id);
        let Some(place) = bucket.peers.iter().position(|p| p.is(id)) else {
            return Failure::Unknown;
        };
        let peer = &mut bucket.peers[place];
        peer.failures = peer.failures.saturating_add(1);
        peer.ask(now);
        let replaceable = bucket.spares.last().is_some_and(|s| s.heard.time() >= fresh);
        if keep || (peer.failures < 2 && !replaceable) {
            return Failure::Suspected;
        }
        bucket.peers.remove(place);
        self.promote(index, fresh);
        Failure::Removed
    }

    /// Forgets a peer.
    pub fn remove(&mut self, id: &NodeId) -> bool {
        let index = self.index_of(id.key());
        let Some(bucket) = self.bucket_mut(index) else { return false };
        bucket.spares.retain(|s| s.contact.id != *id);
        let before = bucket.peers.len();
        bucket.peers.retain(|p| !p.is(id));
        bucket.peers.len() < before
    }

    /// The peer that waits for a place in the bucket of `id`, the latest heard.
    pub fn spare_for(&self, id: &NodeId) -> Option<Contact> {
        self.bucket(self.index_of(id.key()))?.spares.last().map(|s| *s.contact)
    }

    /// The peer in the bucket of `id` that was silent longest.
    pub fn most_silent_beside(&mut self, id: &NodeId) -> Option<&mut Peer> {
        let index = self.index_of(id.key());
        self.bucket_mut(index)?.peers.iter_mut().min_by_key(|p| p.heard)
    }

    /// The peer of a bucket in good standing that was silent longest.
    pub fn most_silent_in(&self, index: u16) -> Option<&Peer> {
        self.bucket(index)?.peers.iter().filter(|p| p.failures == 0).min_by_key(|p| p.heard)
    }

    /// The next bucket to be refreshed and when.
    pub fn next_refresh(&self) -> Option<(u16, Time)> {
        self.buckets.iter().map(|b| (b.index, b.refresh_at)).min_by_key(|&(_, at)| at)
    }

    /// Postpones the refreshing of a bucket.
    pub fn set_refresh(&mut self, index: u16, at: Time) {
        if let Some(bucket) = self.bucket_mut(index) {
            bucket.refresh_at = at;
        }
    }

    /// Has a bucket refreshed by a time at the latest.
    pub fn refresh_by(&mut self, index: u16, at: Time) {
        if let Some(bucket) = self.bucket_mut(index) {
            bucket.refresh_at = bucket.refresh_at.min(at);
        }
    }

    /// Makes sure that every bucket exists which a search for ourselves does not cover, so that those
    /// in which we know nobody are refreshed too.
    pub fn open_far_rows(&mut self, mut refresh_at: impl FnMut() -> Time) {
        let Some(last) = self.near_row() else { return };
        for row in 0..=last {
            for column in 0..1u8 << self.shape.base_bits {
                if column != self.digit(self.local.key(), row) {
                    let index = self.index(row, column);
                    self.bucket_or_new(index, &mut refresh_at);
                }
            }
        }
    }

    /// Whether a search in this bucket could find somebody worth knowing. Not so in a bucket with enough
    /// peers in good standing, nor among our neighbours, all of whom a search for ourselves finds.
    pub fn wants_refresh(&self, index: u16, enough: usize) -> bool {
        let (row, _) = self.row_and_column(index);
        self.near_row().is_some_and(|near| row <= near)
            && self.bucket(index).is_some_and(|b| !has_enough(b, enough))
    }

    /// Bits of a digit.
    pub fn base_bits(&self) -> u8 {
        self.shape.base_bits
    }

    /// The bucket a key falls into.
    pub fn index_of(&self, key: &Key) -> u16 {
        cell::of(self.local.key(), key, self.shape.base_bits.into())
    }

    /// The row of our eighth neighbour, with buckets of eight. A search for ourselves finds everybody
    /// in the rows behind it; those before it, and the rest of its own, take searches of their own.
    fn near_row(&self) -> Option<u16> {
        let (mut row, mut count) = (None, 0);
        for bucket in self.buckets.iter().rev() {
            let good = bucket.peers.iter().filter(|p| p.failures == 0).count();
            if good > 0 && count < self.shape.bucket {
                row = Some(self.row_and_column(bucket.index).0);
            }
            count += good;
        }
        row
    }

    fn digit(&self, key: &Key, row: u16) -> u8 {
        let width = u32::from(self.shape.base_bits);
        key.digit(u32::from(row) * width, width)
    }

    fn index(&self, row: u16, column: u8) -> u16 {
        (row << self.shape.base_bits) | u16::from(column)
    }

    fn row_and_column(&self, index: u16) -> (u16, u8) {
        let columns = 1u16 << self.shape.base_bits;
        (index >> self.shape.base_bits, (index & (columns - 1)) as u8)
    }

    fn bucket(&self, index: u16) -> Option<&Bucket> {
        let place = self.buckets.binary_search_by_key(&index, |b| b.index).ok()?;
        Some(&self.buckets[place])
    }

    fn bucket_mut(&mut self, index: u16) -> Option<&mut Bucket> {
        let place = self.buckets.binary_search_by_key(&index, |b| b.index).ok()?;
        Some(&mut self.buckets[place])
    }

    fn bucket_or_new(&mut self, index: u16, mut refresh_at: impl FnMut() -> Time) -> &mut Bucket {
        let place = match self.buckets.binary_search_by_key(&index, |b| b.index) {
            Ok(place) => place,
            Err(place) => {
                let (peers, spares) = (Vec::new(), Vec::new());
                let bucket = Bucket { index, refresh_at: refresh_at(), peers, spares };
                self.buckets.reserve_exact(1);
                self.buckets.insert(place, bucket);
                place
            }
        };
        &mut self.buckets[place]
    }

    /// The same, to note that it is asked.
    pub fn get_mut(&mut self, id: &NodeId) -> Option<&mut Peer> {
        let index = self.index_of(id.key());
        self.bucket_mut(index)?.peers.iter_mut().find(|p| p.is(id))
    }

    /// Gives a free place to the peer heard last, if that was after `fresh`.
    fn promote(&mut self, index: u16, fresh: Time) {
        let size = self.shape.bucket;
        let Some(bucket) = self.bucket_mut(index) else { return };
        if bucket.peers.len() < size && bucket.spares.last().is_some_and(|s| s.heard.time() >= fresh) {
            let Some(spare) = bucket.spares.pop() else { return };
            let Spare { contact, heard } = spare;
            bucket.peers.push(Peer::new(contact, heard, heard));
        }
    }

    /// Sends back to wait whoever stayed in a full bucket as a near peer and is near no longer.
    fn trim(&mut self) {
        let Shape { bucket: size, near, spares, .. } = self.shape;
        for place in 0..self.buckets.len() {
            while self.buckets[place].peers.len() > size {
                let bucket = &self.buckets[place];
                let far = |p: &Peer| self.nearer_than(&p.contact.id) >= near;
                let Some(newest) = bucket.peers.iter().rposition(far) else { break };
                let bucket = &mut self.buckets[place];
                let Peer { contact, heard, .. } = bucket.peers.remove(newest);
                if bucket.spares.len() < spares {
                    bucket.spares.insert(0, Spare { contact, heard });
                }
            }
        }
    }

    fn prefix_allows(&self, index: u16, contact: &Contact) -> bool {
        let ip = contact.address.ip();
        let Some(networks) = Networks::of(ip) else { return true };
        let v4 = V4::of(ip);
        let (mut in_bucket, mut in_table, mut wide) = (0, 0, 0);
        for bucket in &self.buckets {
            for peer in bucket.peers.iter().filter(|p| v4.may_share(p.v4)) {
                let Some(other) = peer.networks() else { continue };
                let alike = usize::from(other.small == networks.small);
                let alike_wide = usize::from(other.large.is_some() && other.large == networks.large);
                if alike + alike_wide > 0 && !peer.is(&contact.id) {
                    in_table += alike;
                    in_bucket += alike * usize::from(bucket.index == index);
                    wide += alike_wide;
                }
            }
        }
        in_bucket < self.shape.prefix_in_bucket
            && in_table < self.shape.prefix_in_table
            && (wide < self.shape.wide_in_table || !self.is_diverse(networks.large))
    }

    /// Whether the table knows enough large networks besides this one that a limit makes sense. The
    /// peers of a town may all have one provider; they must find each other.
    fn is_diverse(&self, besides: Option<u32>) -> bool {
        let mut others: SmallVec<[u32; DIVERSE]> = SmallVec::new();
        for large in self.peers().filter_map(|p| p.networks()?.large) {
            if Some(large) != besides && !others.contains(&large) {
                others.push(large);
                if others.len() == DIVERSE {
                    return true;
                }
            }
        }
        false
    }

    /// Lets go of peers that entered from one large network while no other was known, the newest first.
    fn thin_out(&mut self, networks: Option<Networks>) {
        let mut others: SmallVec<[u32; 128]> = self
            .peers()
            .filter_map(|p| p.networks()?.large)
            .filter(|large| networks.is_none_or(|n| n.large != Some(*large)))
            .collect();
        others.sort_unstable();
        let mut runs = others.chunk_by(|a, b| a == b);
        let crowded = runs.find(|run| run.len() > self.shape.wide_in_table).map(|run| run[0]);
        let Some(crowded) = crowded.filter(|large| self.is_diverse(Some(*large))) else { return };
        let from_there = |p: &Peer| p.networks().is_some_and(|n| n.large == Some(crowded));
        for bucket in self.buckets.iter_mut().rev() {
            if let Some(place) = bucket.peers.iter().rposition(from_there) {
                bucket.peers.remove(place);
                return;
            }
        }
    }
}

/// The first 32 bits of a distance: enough to tell nearly all peers of a table apart that hash by chance.
fn coarse(key: &Key, id: &NodeId) -> u32 {
    head(key) ^ head(id.key())
}

fn has_enough(bucket: &Bucket, enough: usize) -> bool {
    bucket.peers.iter().filter(|p| p.failures == 0).count() >= enough
}

/// The first 32 bits of a key.
pub(crate) fn head(key: &Key) -> u32 {
    key.as_bytes().first_chunk().map_or(0, |bytes: &[u8; 4]| u32::from_be_bytes(*bytes))
}

/// Whether a peer is nearer to `key` than another one.
fn is_nearer<'a>(key: &'a Key, than: &'a NodeId) -> impl Fn(&Peer) -> bool + 'a {
    let (target, distance) = (head(key), coarse(key, than));
    move |peer| match (target ^ peer.head).cmp(&distance) {
        std::cmp::Ordering::Equal => key.xor(peer.id().key()) < key.xor(than.key()),
        order => order.is_lt(),
    }
}

/// An IPv4 address as a number, zero for any other address. A peer of the table keeps it at hand: whether
/// two peers share a network is asked of all in the table whenever a stranger is mentioned, and the
/// contacts lie far apart in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct V4(u32);

impl V4 {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => V4(ip.to_bits()),
            IpAddr::V6(_) => V4(0),
        }
    }

    /// The networks of the address, if this is one.
    fn networks(self) -> Option<Option<Networks>> {
        (self.0 != 0).then(|| Networks::of(Ipv4Addr::from_bits(self.0).into()))
    }

    /// Whether two addresses may have a network in common. No network of IPv4 is wider than a /16.
    fn may_share(self, other: V4) -> bool {
        self.0 == 0 || other.0 == 0 || (self.0 ^ other.0) >> 16 == 0
    }
}

/// The networks an address belongs to, as far as one person can cheaply own many addresses of them.
///
/// * On the Internet one person rents an IPv4 /24 or an IPv6 /48 for little money; a /16 or a /32 is
///   what a provider is given, or a rich attacker buys. Both count, with limits of their own.
/// * A mesh of radio amateurs or a community stands in one private range as a whole: 10/8 with a
///   handful of addresses at each node, or 44/9 and 44.128/10, which are given to licensed stations
///   one by one. An office stands in one /16 or /24. There the prefix says nothing about who owns
///   what, and a limit by prefix would break the network it is to protect. What still costs an
///   attacker something is an address of its own: only peers of one *host* are limited.
/// * Loopback is one person's own machine, and a laboratory runs a thousand peers on it: no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Networks {
    /// An IPv4 /24 or an IPv6 /48; where prefixes say nothing, the host itself.
    pub small: u64,
    /// An IPv4 /16 or an IPv6 /32; nothing where prefixes say nothing.
    pub large: Option<u32>,
}

impl Networks {
    /// The networks of an address, unless all of its kind are one person's.
    pub fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V4(ip) if ip.is_loopback() => None,
            IpAddr::V6(ip) if ip.is_loopback() => None,
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                let shared = a == 100 && b & 0xc0 == 64; // RFC 6598
                let amateur = a == 44 && b < 192; // 44.192/10 was sold in 2019
                let local = ip.is_private() || ip.is_link_local() || shared || amateur;
                Some(match local {
                    true => Networks { small: u64::from(u32::from_be_bytes([a, b, c, d])), large: None },
                    false => Networks {
                        small: u64::from(u32::from_be_bytes([a, b, c, 0])),
                        large: Some(u32::from_be_bytes([a, b, 0, 0])),
                    },
                })
            }
            IpAddr::V6(ip) => {
                let local = ip.is_unique_local() || ip.is_unicast_link_local();
                let bytes = ip.octets();
                // A host has all addresses of its /64; the lower half tells hosts of a link apart.
                let half = |from: usize| bytes[from..from + 8].iter().fold(0, |n, b| n << 8 | u64::from(*b));
                Some(match local {
                    true => Networks { small: half(8), large: None },
                    false => Networks { small: half(0) >> 16 | 1 << 63, large: Some((half(0) >> 32) as u32) },
                })
            }
        }
    }
}

#[cfg(test)]
mod tests;
