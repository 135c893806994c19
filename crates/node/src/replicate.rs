//! The care for records of others that we hold: each shall be with the peers nearest to its place,
//! whoever comes and goes, and without its owner.
//!
//! A holder remembers which other peers hold the same version. Whom it sees among the nearest and
//! does not know to hold it, it offers the record by its digest (Refresh), and sends it to those who
//! lack it (Replicate). Of the known holders only the nearest does so, and it tells the new holder
//! of the others, so that a record costs one offer for each peer that comes, not one from each
//! holder. That happens when a record arrives, when a peer enters our table, soon after a holder was
//! lost, and as often as the churn asks.
//!
//! A peer too far off by now to be a holder still has the record; while it knows of no nearer holder,
//! it acts as one. So records follow while the overlay grows around them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use wire::p2pp::object::COOKIE_LEN;
use wire::p2pp::{Code, Density, Message, MessageType, Object, RecordSummary, holders, known, object};
use wire::{Contact, Key, NodeId, PublicKey, Time};

use crate::answer::MAX_KNOWN;
use crate::budget::Work;
use crate::node::{Alarm, Node, Standing};
use crate::request::{ANSWER_TIMEOUT, Purpose, push_known};
use crate::storage::Stored;

/// How often what we hold is compared with who should hold it: where sessions last an hour, and the
/// shortest and longest time anywhere.
const REPAIR: [Duration; 3] = [Duration::from_secs(600), Duration::from_secs(60), Duration::from_secs(3_600)];

/// A copy known to be elsewhere is believed for this long, with the same three: two refreshes by its
/// owner, and some, or the shortest life of a record.
const TRUST: [Duration; 3] =
    [Duration::from_secs(1_500), Duration::from_secs(240), Duration::from_secs(4_500)];

/// How soon after the loss of a holder its place is filled: long enough for others that fell with it
/// to be missed too.
const REPAIR_SOON: Duration = Duration::from_secs(20);

/// Records named in one offer, as many as fit a datagram with room for a cookie.
const OFFERED_AT_ONCE: usize = 16;

/// What a record takes in a message beside its value and the heads of its holders: itself, Expires, Density and
/// the head of Holders.
const RECORD_OVERHEAD: usize = (4 + 120 + Key::MAX_LEN) + (4 + 4) + (4 + 4) + 4;

/// What a request leaves free for a cookie, and for the mark of whom it is meant for.
const RESERVE: usize = 4 + COOKIE_LEN + 4 + known::TAG_LEN;

/// Bytes that an offer costs us, about: half of them are followed by the record.
const OFFER_COST: usize = 350;

/// A record to be offered to a peer, and how long it lives yet.
type Offer = (RecordSummary, Duration, Contact);

/// The peers that hold what belongs at a place, as far as we see. On a ring those on the way to a place
/// are not nearer to holding it, and are left out. Where keys have no place nobody should hold anything:
/// whoever was asked to does, and the owner replaces who is lost.
fn holders_besides_us(standing: &Standing, place: &Key, count: usize) -> Vec<Contact> {
    if standing.walks().is_some() {
        return Vec::new();
    }
    let route = standing.table.route(place, count);
    let own = standing.table.rank(place, &standing.id);
    let holds = |c: &&Contact| route.includes_self() || standing.table.rank(place, &c.id) < own;
    route.contacts().iter().filter(holds).copied().collect()
}

impl Node {
    /// The peers that should hold a record and are not known to, if it falls to us to tell them.
    fn lacking(&self, now: Time, stored: &Stored) -> Vec<Contact> {
        let Some(standing) = &self.standing else { return Vec::new() };
        let place = stored.record.resource.key();
        let since = now.saturating_sub(self.holder_trust());
        let own = standing.table.rank(place, &standing.id);
        let is_nearer = |c: Contact| standing.table.rank(place, &c.id) < own;
        let tells = |head| standing.table.beginning_with(head).is_some_and(is_nearer);
        if stored.known_holders(since).any(tells) {
            return Vec::new();
        }
        let holders = holders_besides_us(standing, place, self.replicas());
        holders.into_iter().filter(|c| !stored.is_held_by(since, &c.id)).collect()
    }

    /// What is to be offered of a record, and to whom.
    fn offers_of(&self, now: Time, stored: &Stored) -> Vec<Offer> {
        let Some(left) = stored.to_pass_on(now, self.record_lifetime()) else { return Vec::new() };
        let lacking = self.lacking(now, stored);
        if lacking.is_empty() {
            return Vec::new(); // The summary costs a hash.
        }
        let summary = (*stored.record).as_ref().summary();
        lacking.into_iter().map(|c| (summary, left, c)).collect()
    }

    /// The peers that should hold a record beside us, and are known to.
    fn fellow_holders(&self, now: Time, standing: &Standing, summary: &RecordSummary) -> Vec<Contact> {
        let since = now.saturating_sub(self.holder_trust());
        let Some(stored) = self.storage.find(summary) else { return Vec::new() };
        let holders = holders_besides_us(standing, summary.resource.key(), self.replicas());
        holders.into_iter().filter(|c| stored.is_held_by(since, &c.id)).collect()
    }

    /// Whom an owner that refreshes its record, and says which holders it knows, does not know to hold it: they
    /// got it from us or another holder. The nearest of those that it knows tells it.
    pub(crate) fn holders_unknown_to(&self, now: Time, refresh: &Message<'_>) -> Vec<Contact> {
        let (mut tags, mut summary) = (None, None);
        for object in refresh.objects() {
            match object {
                Object::Known(list) => tags = Some(list),
                Object::RecordSummary(named) => summary = Some(named),
                _ => {}
            }
        }
        // Whoever offers records lists nobody but us.
        let tags =
            tags.filter(|tags| tags.len() > known::TAG_LEN && tags.len() <= MAX_KNOWN * known::TAG_LEN);
        let (Some(tags), Some(summary), Some(standing)) = (tags, summary, &self.standing) else {
            return Vec::new();
        };
        let rank = |id: &NodeId| standing.table.rank(summary.resource.key(), id);
        let is_known = |c: &Contact| known::lists(tags, refresh.header.transaction, &c.id);
        let (known, unknown): (Vec<_>, Vec<_>) =
            self.fellow_holders(now, standing, &summary).into_iter().partition(is_known);
        if known.iter().any(|c| rank(&c.id) < rank(&standing.id)) {
            return Vec::new();
        }
        unknown.into_iter().filter(|c| Some(c.id) != refresh.header.source).collect()
    }

    /// The time between two comparisons, as the churn asks.
    pub(crate) fn repair_interval(&self) -> Duration {
        self.churn().tuned(REPAIR[0], REPAIR[1], REPAIR[2])
    }

    /// How long a copy elsewhere is believed in, as the churn asks.
    pub(crate) fn holder_trust(&self) -> Duration {
        self.churn().tuned(TRUST[0], TRUST[1], TRUST[2])
    }

    /// A peer is gone. Where it held what we hold, another takes its place soon.
    pub(crate) fn repair_after(&mut self, now: Time, lost: &NodeId) {
        if self.storage.forget_holder(lost) {
            let soon = now + self.jitter(REPAIR_SOON, 0.5, 1.5);
            self.timers.set_by(Alarm::Repair, soon);
        }
    }

    /// Offers everything we hold to whom it should be with too.
    pub(crate) fn repair(&mut self, now: Time) {
        let next = self.jitter(self.repair_interval(), 0.75, 1.25);
        self.timers.set(Alarm::Repair, now + next);
        let offers: Vec<Offer> = self.storage.iter().flat_map(|s| self.offers_of(now, s)).collect();
        self.offer_as_budget_allows(now, offers);
    }

    /// A peer is new in our table: it is offered what falls to it.
    pub(crate) fn welcome(&mut self, now: Time, newcomer: Contact) {
        let Some(standing) = &self.standing else { return };
        let since = now.saturating_sub(self.holder_trust());
        // Hardly anything falls to most newcomers, and that is quickly seen.
        let replicas = self.replicas();
        let falls_to_it =
            |s: &&Stored| standing.table.may_name(s.record.resource.key(), replicas, &newcomer.id);
        let unaware = self.storage.iter().filter(falls_to_it).filter(|s| !s.is_held_by(since, &newcomer.id));
        let offers = unaware.flat_map(|s| self.offers_of(now, s));
        let offers: Vec<Offer> = offers.filter(|(.., to)| *to == newcomer).collect();
        self.offer_as_budget_allows(now, offers);
    }

    /// Records are new here: peers that came while they were on their way are offered them.
    pub(crate) fn spread(&mut self, now: Time, news: &[RecordSummary]) {
        let stored = news.iter().filter_map(|summary| self.storage.find(summary));
        let offers: Vec<Offer> = stored.flat_map(|s| self.offers_of(now, s)).collect();
        self.offer_as_budget_allows(now, offers);
    }

    /// A newer version has come: those that hold the older one are offered it, by the nearest of the
    /// holders. Otherwise the older one would be found at them.
    pub(crate) fn outdate(&mut self, now: Time, summary: &RecordSummary, behind: &[u64]) {
        let (Some(stored), Some(standing)) = (self.storage.find(summary), &self.standing) else { return };
        let Some(left) = stored.to_pass_on(now, self.record_lifetime()) else { return };
        let place = summary.resource.key();
        let own = standing.table.rank(place, &standing.id);
        let contact_of = |head: u64| standing.table.beginning_with(head);
        let is_nearer = |c: Contact| standing.table.rank(place, &c.id) < own;
        if stored.known_holders(Time::ZERO).any(|head| contact_of(head).is_some_and(is_nearer)) {
            return;
        }
        let unaware = behind.iter().filter_map(|head| contact_of(*head));
        let unaware = unaware.filter(|c| !stored.is_held_by(Time::ZERO, &c.id));
        let offers: Vec<Offer> = unaware.map(|c| (*summary, left, c)).collect();
        self.offer(now, offers);
    }

    /// Offers records, or puts that off: the next comparison, which comes sooner for it, finds what is
    /// lacking then.
    fn offer_as_budget_allows(&mut self, now: Time, mut offers: Vec<Offer>) {
        let all = offers.len();
        offers.retain(|_| {
            let may = self.ledger.budget.may(now, Work::Replication);
            if may {
                self.ledger.budget.begin(now, Work::Replication, OFFER_COST);
            }
            may
        });
        if offers.len() < all {
            self.ledger.budget.shed(Work::Replication);
            let soon = now + self.jitter(REPAIR_SOON, 0.5, 1.5);
            self.timers.set_by(Alarm::Repair, soon.max(self.ledger.budget.may_at(now, Work::Replication)));
        }
        self.offer(now, offers);
    }

    /// Names records to those that should have them, all that one peer is offered in one message.
    fn offer(&mut self, now: Time, offers: Vec<Offer>) {
        let mut of_peer: BTreeMap<Contact, Vec<(RecordSummary, Duration)>> = BTreeMap::new();
        for (summary, left, contact) in offers {
            of_peer.entry(contact).or_default().push((summary, left));
        }
        for (contact, offered) in of_peer {
            for some in offered.chunks(OFFERED_AT_ONCE) {
                let named = |(summary, left): &(RecordSummary, Duration)| {
                    [Object::RecordSummary(*summary), Object::Expires(left.as_secs() as u32)]
                };
                let objects: Vec<Object<'_>> = some.iter().flat_map(named).collect();
                let purpose = Purpose::Offer(some.iter().map(|(summary, _)| *summary).collect());
                let to = (contact.address, Some(contact.id));
                self.ask_knowing(now, to, MessageType::Refresh, &objects, &[], purpose);
            }
        }
    }

    /// The other peer has the records already, or wants some.
    pub(crate) fn handle_offer_answer(
        &mut self,
        now: Time,
        offered: &[RecordSummary],
        remote: SocketAddr,
        message: &Message<'_>,
    ) {
        let Some(id) = message.header.responder else { return };
        if message.header.code == Code::BUSY {
            return; // They are offered again at the next comparison.
        }
        let missing = message.find(object::MISSING, |o| match o {
            Object::Missing(places) => Some(places),
            _ => None,
        });
        let lacks = |place: usize| match missing {
            Some(places) => places.iter().any(|p| usize::from(*p) == place),
            None => !message.header.code.is_ok(),
        };
        let offered = offered.iter().copied().enumerate();
        let (wanted, held): (Vec<_>, Vec<_>) = offered.partition(|(place, _)| lacks(*place));
        held.iter().for_each(|(_, summary)| self.storage.held_also_by(now, summary, [id.key().head()]));
        let wanted: Vec<RecordSummary> = wanted.into_iter().map(|(_, summary)| summary).collect();
        self.send_copies(now, Contact { id, address: remote }, MessageType::Replicate, &wanted);
    }

    /// Hands copies of what we hold to another peer, as many in one message as fit, and says who else has
    /// them.
    fn send_copies(&mut self, now: Time, to: Contact, message: MessageType, wanted: &[RecordSummary]) {
        let since = now.saturating_sub(self.holder_trust());
        let usual = self.record_lifetime();
        let mut waiting = wanted.iter().peekable();
        while waiting.peek().is_some() {
            let (transaction, mut copies) = self.question_to_sign(message, &[]);
            let mut sent = Vec::new();
            while let Some(summary) = waiting.peek() {
                let stored = self.storage.find(summary);
                let passed_on = stored.and_then(|s| Some((s, s.to_pass_on(now, usual)?)));
                if let Some((stored, left)) = passed_on {
                    let room = copies.room_signed().saturating_sub(RESERVE);
                    let record = (*stored.record).as_ref();
                    let others = stored.known_holders(since).filter(|head| *head != to.id.key().head());
                    let others = holders::list(others);
                    let needed = RECORD_OVERHEAD + record.value.len() + others.len();
                    if needed > room && !sent.is_empty() {
                        break;
                    }
                    copies.push(&Object::Resource(record)).push(&Object::Expires(left.as_secs() as u32));
                    if stored.told != Density::default() {
                        copies.push(&Object::Density(stored.told));
                    }
                    if !others.is_empty() && needed <= room {
                        copies.push(&Object::Holders(&others));
                    }
                    sent.push(**summary);
                }
                waiting.next();
            }
            if sent.is_empty() {
                return;
            }
            push_known(&mut copies, transaction, [&to.id].into_iter());
            let bytes = copies.sign(&self.identity.peer);
            let (to, purpose) = ((to.address, Some(to.id)), Purpose::Replicate(sent.into()));
            self.request(now, to, message, transaction, bytes, now + ANSWER_TIMEOUT, purpose);
        }
    }

    /// Hands what we hold to the next holders before we leave.
    pub(crate) fn hand_over(&mut self, now: Time) {
        let replicas = self.replicas();
        let since = now.saturating_sub(self.holder_trust());
        let usual = self.record_lifetime();
        let Some(standing) = &self.standing else { return };
        let mut legacies: BTreeMap<Contact, Vec<RecordSummary>> = BTreeMap::new();
        // What we publish ourselves ends with us.
        let ours: Vec<PublicKey> = self.publications.owners();
        let of_others = |s: &&Stored| !ours.contains(&s.record.owner);
        for stored in self.storage.iter().filter(of_others).filter(|s| s.to_pass_on(now, usual).is_some()) {
            let others = holders_besides_us(standing, stored.record.resource.key(), replicas + 1);
            let known = |c: &&Contact| stored.is_held_by(since, &c.id);
            // The one peer that takes our place among the holders.
            if let Some(heir) = others.iter().take(replicas).find(|c| !known(c)) {
                legacies.entry(*heir).or_default().push((*stored.record).as_ref().summary());
            }
        }
        for (heir, legacy) in legacies {
            self.send_copies(now, heir, MessageType::Transfer, &legacy);
        }
    }
}
