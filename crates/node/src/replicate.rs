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

use std::net::SocketAddr;
use std::time::Duration;

use wire::p2pp::{Code, Message, MessageType, Object, RecordSummary};
use wire::{Contact, Key, NodeId, Time};

use crate::budget::Work;
use crate::node::{Alarm, Node, Standing};
use crate::request::Purpose;
use crate::storage::Stored;

/// How often what we hold is compared with who should hold it: where sessions last an hour, and the
/// shortest and longest time anywhere.
const REPAIR: [Duration; 3] = [Duration::from_secs(600), Duration::from_secs(60), Duration::from_secs(3_600)];

/// A copy known to be elsewhere is believed for this long, with the same three: two refreshes by its
/// owner, and some.
const TRUST: [Duration; 3] =
    [Duration::from_secs(1_500), Duration::from_secs(150), Duration::from_secs(4_500)];

/// How soon after the loss of a holder its place is filled: long enough for others that fell with it
/// to be missed too.
const REPAIR_SOON: Duration = Duration::from_secs(20);

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
        let tells = |id: &NodeId| standing.table.rank(place, id) < own && standing.table.contains(id);
        if stored.known_holders(since).any(tells) {
            return Vec::new();
        }
        let holders = holders_besides_us(standing, place, self.replicas());
        holders.into_iter().filter(|c| !stored.is_held_by(since, &c.id)).collect()
    }

    /// What is to be offered of a record, and to whom.
    fn offers_of(&self, now: Time, stored: &Stored) -> Vec<Offer> {
        let Some(left) = stored.to_pass_on(now, self.record_lifetime()) else { return Vec::new() };
        let summary = (*stored.record).as_ref().summary();
        self.lacking(now, stored).into_iter().map(|c| (summary, left, c)).collect()
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
        let offers = self.storage.iter().flat_map(|s| self.offers_of(now, s));
        let offers: Vec<Offer> = offers.filter(|(.., to)| *to == newcomer).collect();
        self.offer_as_budget_allows(now, offers);
    }

    /// A record is new here: peers that came while it was on its way are offered it.
    pub(crate) fn spread(&mut self, now: Time, summary: &RecordSummary) {
        let offers = self.storage.find(summary).map(|s| self.offers_of(now, s)).unwrap_or_default();
        self.offer_as_budget_allows(now, offers);
    }

    /// A newer version has come: those that hold the older one are offered it, by the nearest of the
    /// holders. Otherwise the older one would be found at them.
    pub(crate) fn outdate(&mut self, now: Time, summary: &RecordSummary, behind: &[NodeId]) {
        let (Some(stored), Some(standing)) = (self.storage.find(summary), &self.standing) else { return };
        let Some(left) = stored.to_pass_on(now, self.record_lifetime()) else { return };
        let place = summary.resource.key();
        let own = standing.table.rank(place, &standing.id);
        if stored.known_holders(Time::ZERO).any(|id| standing.table.rank(place, id) < own) {
            return;
        }
        let contact_of = |id: &NodeId| {
            let route = standing.table.route(id.key(), 1);
            route.contacts().first().copied().filter(|c| c.id == *id)
        };
        let unaware = behind.iter().filter(|id| !stored.is_held_by(Time::ZERO, id));
        let offers: Vec<Offer> = unaware.filter_map(contact_of).map(|c| (*summary, left, c)).collect();
        offers.into_iter().for_each(|offer| self.offer(now, offer));
    }

    /// Offers records, or puts that off: the next comparison, which comes sooner for it, finds what is
    /// lacking then.
    fn offer_as_budget_allows(&mut self, now: Time, offers: Vec<Offer>) {
        let mut put_off = false;
        for offer in offers {
            if self.ledger.budget.may(now, Work::Replication) {
                self.ledger.budget.begin(now, Work::Replication, OFFER_COST);
                self.offer(now, offer);
            } else {
                put_off = true;
            }
        }
        if put_off {
            self.ledger.budget.shed(Work::Replication);
            let soon = now + self.jitter(REPAIR_SOON, 0.5, 1.5);
            self.timers.set_by(Alarm::Repair, soon.max(self.ledger.budget.may_at(now, Work::Replication)));
        }
    }

    fn offer(&mut self, now: Time, (summary, left, contact): Offer) {
        let objects = [Object::RecordSummary(summary), Object::Expires(left.as_secs() as u32)];
        let to = (contact.address, Some(contact.id));
        self.ask(now, to, MessageType::Refresh, &objects, Purpose::Offer(summary));
    }

    /// The other peer has the record already, or wants it.
    pub(crate) fn handle_offer_answer(
        &mut self,
        now: Time,
        summary: &RecordSummary,
        remote: SocketAddr,
        message: &Message<'_>,
    ) {
        let Some(id) = message.header.responder else { return };
        if message.header.code.is_ok() {
            return self.storage.held_also_by(now, summary, id);
        }
        if message.header.code == Code::BUSY {
            return; // It is offered again at the next comparison.
        }
        let Some(stored) = self.storage.find(summary).cloned() else { return };
        let Some(standing) = &self.standing else { return };
        let route = standing.table.route(stored.record.resource.key(), self.replicas());
        let since = now.saturating_sub(self.holder_trust());
        let is_holder = |c: &&Contact| stored.is_held_by(since, &c.id);
        let holders: Vec<Contact> = route.contacts().iter().filter(is_holder).copied().collect();
        let Some(left) = stored.to_pass_on(now, self.record_lifetime()) else { return };
        let record = (*stored.record).as_ref();
        let contact = Contact { id, address: remote };
        let purpose = Purpose::Replicate(*summary);
        self.send_record(now, contact, MessageType::Replicate, record, left, &holders, purpose);
    }

    /// Hands what we hold to the next holders before we leave.
    pub(crate) fn hand_over(&mut self, now: Time) {
        let replicas = self.replicas();
        let mut transfers = Vec::new();
        let since = now.saturating_sub(self.holder_trust());
        let Some(standing) = &self.standing else { return };
        for stored in self.storage.iter() {
            let Some(left) = stored.to_pass_on(now, self.record_lifetime()) else { continue };
            let others = holders_besides_us(standing, stored.record.resource.key(), replicas + 1);
            let known = |c: &Contact| stored.is_held_by(since, &c.id);
            // The one peer that takes our place among the holders.
            if let Some(heir) = others.iter().take(replicas).find(|c| !known(c)) {
                transfers.push((stored.record.clone(), left, *heir));
            }
        }
        for (record, left, heir) in transfers {
            let purpose = Purpose::Replicate((*record).as_ref().summary());
            self.send_record(now, heir, MessageType::Transfer, (*record).as_ref(), left, &[], purpose);
        }
    }
}
