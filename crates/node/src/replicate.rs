//! The care for records of others that we hold: each shall be with the peers nearest to its place,
//! whoever comes and goes, and without its owner.
//!
//! A holder remembers which other peers hold the same version. Whom it sees among the nearest and
//! does not know to hold it, it offers the record by its digest (Refresh), and sends it to those who
//! lack it (Replicate). Of the known holders only the nearest does so, and it tells the new holder
//! of the others, so that a record costs one offer for each peer that comes, not one from each
//! holder. That happens when a record arrives, when a peer enters our table, and every ten minutes.
//!
//! A peer too far off by now to be a holder still has the record; while it knows of no nearer holder,
//! it acts as one. So records follow while the overlay grows around them.

use std::net::SocketAddr;
use std::time::Duration;

use wire::p2pp::{Message, MessageType, Object, RecordSummary};
use wire::{Contact, NodeId, Time};

use crate::node::{Alarm, Node};
use crate::request::Purpose;
use crate::storage::Stored;

/// How often what we hold is compared with who should hold it.
const REPAIR_INTERVAL: Duration = Duration::from_secs(600);

/// A record to be offered to a peer, and how long it lives yet.
type Offer = (RecordSummary, Duration, Contact);

impl Node {
    /// The peers that should hold a record and are not known to, if it falls to us to tell them.
    fn lacking(&self, now: Time, stored: &Stored) -> Vec<Contact> {
        let Some(standing) = &self.standing else { return Vec::new() };
        let place = stored.record.resource.key();
        let own = standing.table.rank(place, &standing.id);
        let tells = |id: &NodeId| standing.table.rank(place, id) < own && standing.table.contains(id);
        if stored.known_holders(now).any(tells) {
            return Vec::new();
        }
        let route = standing.table.route(place, self.replicas());
        route.contacts().iter().copied().filter(|c| !stored.is_held_by(now, &c.id)).collect()
    }

    /// Offers everything we hold to whom it should be with too.
    pub(crate) fn repair(&mut self, now: Time) {
        let of = |s: &Stored| -> Vec<Offer> {
            let contacts = self.lacking(now, s);
            contacts.into_iter().map(|c| ((*s.record).as_ref().summary(), s.expires.since(now), c)).collect()
        };
        let offers: Vec<Offer> = self.storage.iter().filter(|s| s.expires > now).flat_map(of).collect();
        offers.into_iter().for_each(|offer| self.offer(now, offer));
        let next = self.jitter(REPAIR_INTERVAL, 0.75, 1.25);
        self.timers.set(Alarm::Repair, now + next);
    }

    /// A peer is new in our table: it is offered what falls to it.
    pub(crate) fn welcome(&mut self, now: Time, newcomer: Contact) {
        let of = |s: &Stored| -> Option<Offer> {
            let lacks = self.lacking(now, s).contains(&newcomer);
            lacks.then(|| ((*s.record).as_ref().summary(), s.expires.since(now), newcomer))
        };
        let offers: Vec<Offer> = self.storage.iter().filter(|s| s.expires > now).filter_map(of).collect();
        offers.into_iter().for_each(|offer| self.offer(now, offer));
    }

    /// A record is new here: peers that came while it was on its way are offered it.
    pub(crate) fn spread(&mut self, now: Time, summary: &RecordSummary) {
        let Some(stored) = self.storage.find(summary) else { return };
        let left = stored.expires.since(now);
        for contact in self.lacking(now, stored) {
            self.offer(now, (*summary, left, contact));
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
        let Some(stored) = self.storage.find(summary).cloned() else { return };
        let Some(standing) = &self.standing else { return };
        let route = standing.table.route(stored.record.resource.key(), self.replicas());
        let is_holder = |c: &&Contact| stored.is_held_by(now, &c.id);
        let holders: Vec<Contact> = route.contacts().iter().filter(is_holder).copied().collect();
        let (record, left) = ((*stored.record).as_ref(), stored.expires.since(now));
        let contact = Contact { id, address: remote };
        let purpose = Purpose::Replicate(*summary);
        self.send_record(now, contact, MessageType::Replicate, record, left, &holders, purpose);
    }

    /// Hands what we hold to the next holders before we leave.
    pub(crate) fn hand_over(&mut self, now: Time) {
        let replicas = self.replicas();
        let mut transfers = Vec::new();
        let Some(standing) = &self.standing else { return };
        for stored in self.storage.iter().filter(|s| s.expires > now) {
            let route = standing.table.route(stored.record.resource.key(), replicas + 1);
            let known = |c: &Contact| stored.is_held_by(now, &c.id);
            // The one peer that takes our place among the holders.
            if let Some(heir) = route.contacts().iter().take(replicas).find(|c| !known(c)) {
                transfers.push((stored.record.clone(), stored.expires.since(now), *heir));
            }
        }
        for (record, left, heir) in transfers {
            let purpose = Purpose::Replicate((*record).as_ref().summary());
            self.send_record(now, heir, MessageType::Transfer, (*record).as_ref(), left, &[], purpose);
        }
    }
}
