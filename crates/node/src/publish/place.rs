//! Placing a record: finding the peers nearest to its place, giving each a copy, and what their answers mean.

use std::net::SocketAddr;

use wire::p2pp::{Code, Density, Message, MessageType};
use wire::{Contact, Key, NodeId, Time};

use super::{Stage, What};
use crate::answer::Beside;
use crate::event::{Event, Level, Outcome};
use crate::node::Node;
use crate::region::{self, Crowd};
use crate::request::Purpose;
use crate::search::{Findings, For, LookupOptions, Mode, PLACE_WIDTH, WIDTH, Want};

impl Node {
    pub(super) fn find_place(&mut self, now: Time, id: u64) {
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        let Some(record) = &publication.record else { return };
        publication.stage = Stage::Searching;
        let place = record.resource.0;
        // Our own place we have just looked up to join, and go on looking up.
        let here = self.standing.as_ref().filter(|s| *s.id.key() == place && s.walks().is_none());
        let nearest = here.map(|s| {
            let mut neighbors = s.table.neighbors();
            neighbors.sort_by_key(|c| s.table.rank(&place, &c.id));
            neighbors
        });
        match nearest {
            Some(neighbors) => self.handle_place_found(now, id, neighbors),
            None => {
                // A place that liars kept from us looks right to us: whoever could not read back what it
                // stored searches along more paths.
                let doubts = publication.failures.min(2);
                let paths = [1, 4, 8][doubts as usize];
                let width = if doubts == 0 { PLACE_WIDTH } else { WIDTH };
                let options =
                    LookupOptions { mode: Mode::Iterative, paths, width, ..LookupOptions::default() };
                self.search(now, place, Want::Peers, For::Place(id), options);
            }
        }
    }

    /// A search for the nearest peers has ended. Where they crowd, the record is also kept in the region
    /// around.
    pub(crate) fn handle_place_heard(&mut self, now: Time, id: u64, findings: Findings) {
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        let Some(place) = publication.record.as_ref().map(|r| r.resource.0) else { return };
        let crowded = findings.crowd == Some(Crowd::Dense);
        publication.told = if crowded { findings.density } else { Density::default() };
        if crowded {
            self.keep_in_region(now, id, place);
        }
        self.handle_place_found(now, id, findings.closest);
    }

    /// Strangers crowd around the place of our record: says so, and looks for peers around them.
    fn keep_in_region(&mut self, now: Time, id: u64, place: Key) {
        let name = match self.publications.all.get(&id).map(|p| &p.what) {
            None | Some(What::Peer) => place.to_string(),
            Some(what) => what.to_string(),
        };
        self.emit(Event::Crowded { name, ours: true });
        let parts = region::around(&place, self.size_estimate(now));
        for part in parts {
            self.search(now, part, Want::Peers, For::Region(id), LookupOptions::default());
        }
    }

    /// Peers of the region are known: some get a copy besides.
    pub(crate) fn handle_region_found(&mut self, now: Time, id: u64, closest: &[Contact]) {
        let lifetime = self.lifetime_of(id);
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        let Some(record) = publication.record.clone() else { return };
        let known: Vec<NodeId> = publication.holders.iter().map(|h| h.id).collect();
        let others: Vec<Contact> =
            closest.iter().copied().filter(|c| !known.contains(&c.id)).take(region::COPIES).collect();
        publication.pending += others.len();
        let beside = Beside { told: publication.told, ..Beside::default() };
        let message = if record.tombstone { MessageType::RemoveObject } else { MessageType::Publish };
        for contact in others {
            let purpose = Purpose::Store(id);
            self.send_record(now, contact, message, (*record).as_ref(), lifetime, beside, purpose);
        }
    }

    /// The nearest peers are known: give each a copy, ourselves included where we are among them.
    pub(crate) fn handle_place_found(&mut self, now: Time, id: u64, closest: Vec<Contact>) {
        let (replicas, lifetime) = (self.replicas(), self.lifetime_of(id));
        let (is_peer, size) = (!self.is_client(), self.size_around_us());
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        let Some(record) = publication.record.clone() else { return };
        publication.displaced = false;
        (publication.cared_for, publication.kept_for) = (now, lifetime);
        publication.fresh = true;
        publication.peers_when_placed = size;
        let told = publication.told;
        let place = record.resource.0;
        let Some(standing) = &self.standing else { return };
        let (here, others, spares) = match standing.walks() {
            Some(walks) => {
                // Whoever holds it goes on, others fill what is lost; and our neighbours know of us.
                let mut holders: Vec<Contact> = publication.holders.iter().map(|h| **h).collect();
                let further = closest.into_iter().filter(|c| holders.iter().all(|h| h.id != c.id));
                let further: Vec<Contact> = further.collect();
                // The ablest stand first. Not all copies go to them: their neighbours are as easily found.
                let wanted = walks.copies.saturating_sub(holders.len());
                let stride = (further.len() / wanted.max(1)).max(1);
                holders.extend(further.into_iter().step_by(stride).take(wanted));
                (is_peer, holders, Vec::new())
            }
            None => {
                let own = standing.table.rank(&place, &standing.id);
                let nearer = closest.iter().filter(|c| standing.table.rank(&place, &c.id) < own).count();
                let here = nearer < replicas && is_peer;
                let mut others = closest;
                let spares = others.split_off((replicas - usize::from(here).min(replicas)).min(others.len()));
                (here, others, spares)
            }
        };
        publication.stage = Stage::Storing;
        publication.pending = others.len();
        publication.accepted = 0;
        publication.refused = None;
        publication.spares = spares;
        publication.holders.clear();
        publication.placed = 0;
        if here {
            match self.take_in(now, (*record).as_ref(), lifetime) {
                Ok(_) => self.publications.all.get_mut(&id).expect("same").accepted += 1,
                Err(code) => self.publications.all.get_mut(&id).expect("same").refused = Some(code),
            }
        }
        let message = if record.tombstone { MessageType::RemoveObject } else { MessageType::Publish };
        let own = self.own_contact().filter(|_| here);
        let holders: Vec<Contact> = others.iter().copied().chain(own).collect();
        for contact in &others {
            let rest: Vec<Contact> = holders.iter().copied().filter(|c| c != contact).collect();
            let purpose = Purpose::Store(id);
            let beside = Beside { holders: &rest, told };
            self.send_record(now, *contact, message, (*record).as_ref(), lifetime, beside, purpose);
        }
        if others.is_empty() {
            self.storing_ended(now, id);
        }
    }

    pub(crate) fn handle_store_answer(
        &mut self,
        now: Time,
        id: u64,
        remote: SocketAddr,
        message: &Message<'_>,
    ) {
        let is_another = self.is_another_document(message.header.config_sequence);
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        if let (true, Some(holder)) = (message.header.code.is_ok(), message.header.responder) {
            publication.holders.reserve_exact(1); // Five at most, for as long as the record is ours.
            publication.holders.push(self.book.contact(Contact { id: holder, address: remote }));
            publication.accepted += 1;
            publication.placed = publication.holders.len();
            if let Some(record) = &publication.record {
                self.storage.held_also_by(now, &(**record).as_ref().summary(), [holder.key().head()]);
            }
        } else if publication.stage == Stage::Storing && publication.may_go_elsewhere(message.header.code) {
            return self.store_elsewhere(now, id, message.header.code);
        } else if publication.refused != Some(Code::INSERT_ERROR) {
            // Who lives by another document refuses kinds that it does not know: nobody was first there.
            let is_ignorant =
                publication.is_value() && message.header.code == Code::INSERT_ERROR && is_another;
            let code = if is_ignorant { Code::FORBIDDEN } else { message.header.code };
            publication.outdated |= code == Code::TOO_OLD;
            publication.refused = Some(code);
        }
        self.one_answer_less(now, id);
    }

    /// A peer that should hold our record has no budget or no room for it: the next nearest gets it at once. At the
    /// next look the record is placed anew.
    fn store_elsewhere(&mut self, now: Time, id: u64, code: Code) {
        let lifetime = self.lifetime_of(id);
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        publication.displaced = true;
        if publication.spares.is_empty() {
            publication.refused.get_or_insert(code);
            return self.one_answer_less(now, id);
        }
        let spare = publication.spares.remove(0);
        let Some(record) = publication.record.clone() else { return };
        let beside = Beside { told: publication.told, ..Beside::default() };
        let purpose = Purpose::Store(id);
        self.send_record(now, spare, MessageType::Publish, (*record).as_ref(), lifetime, beside, purpose);
    }

    /// A holder did not answer.
    pub(crate) fn handle_holder_silence(&mut self, now: Time, id: u64, remote: SocketAddr) {
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        let before = publication.holders.len();
        publication.holders.retain(|h| h.address != remote);
        match publication.stage {
            Stage::Storing => self.one_answer_less(now, id),
            // The last one is gone, and with it what the holders do for each other.
            Stage::Idle if before > 0 && publication.holders.is_empty() => self.find_place(now, id),
            _ => {}
        }
    }

    fn one_answer_less(&mut self, now: Time, id: u64) {
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        publication.pending = publication.pending.saturating_sub(1);
        if publication.pending == 0 && publication.stage == Stage::Storing {
            self.storing_ended(now, id);
        }
    }

    fn storing_ended(&mut self, now: Time, id: u64) {
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        publication.stage = Stage::Idle;
        publication.spares = Vec::new();
        let (accepted, refused) = (publication.accepted, publication.refused);
        let sequence = publication.record.as_ref().map_or(0, |r| r.sequence);
        let removed = publication.remove;
        let (outdated, is_first_try) = (publication.outdated, publication.failures == 0);
        let is_data = publication.is_value();
        // Who was first is what one holder knows and another may have missed.
        let is_taken = !removed && refused == Some(Code::INSERT_ERROR) && (accepted == 0 || is_data);
        if let Some(op) = publication.op.take() {
            match (accepted, refused) {
                (_, Some(code)) if is_taken && accepted > 0 => {
                    self.failed(op, code.0, "another owner was first");
                }
                (0, code) => {
                    let code = code.unwrap_or(Code::TIMEOUT);
                    self.failed(op, code.0, format!("no peer stored it: {}", code.reason()));
                }
                _ => self.done(op, Outcome::Stored { holders: accepted, sequence }),
            }
        }
        if is_data {
            self.emit(Event::Save);
        }
        if removed {
            self.publications.all.remove(&id);
        } else if is_taken {
            if is_data {
                self.give_back(now, id);
            }
            self.name_is_taken(now, id);
        } else if outdated && is_first_try {
            // What outdid it is known now where it counts: once we outdo that without a pause.
            let publication = self.publications.all.get_mut(&id).expect("looked up above");
            (publication.failures, publication.verified) = (1, false);
            self.care_for(now, id);
        } else if accepted == 0 || outdated {
            if refused == Some(Code::QUOTA) {
                self.number_is_crowded(id);
            }
            self.retry(now, id);
        } else {
            self.check_published(now, id);
        }
    }

    /// Takes back the copies of a value whose place is another's: they would keep the first owner from these holders.
    fn give_back(&mut self, now: Time, id: u64) {
        let (unix, lifetime) = (self.unix(now), self.lifetime_of(id));
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        let Some(record) = publication.record.take() else { return };
        let holders = std::mem::take(&mut publication.holders);
        let tombstone = record.tombstone(&self.identity.peer, unix);
        if self.storage.find(&(*record).as_ref().summary()).is_some() {
            // Ours is held here, so its end is kept too.
            let _ = self.take_in(now, tombstone.as_ref(), lifetime);
        }
        for holder in holders {
            let purpose = Purpose::Replicate([tombstone.as_ref().summary()].into());
            let (message, beside) = (MessageType::RemoveObject, Beside::default());
            self.send_record(now, *holder, message, tombstone.as_ref(), lifetime, beside, purpose);
        }
    }

    /// No peer has room for a user's number: strangers may have filled its place, and its owner is told once.
    fn number_is_crowded(&mut self, id: u64) {
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        if let (What::Number(_), false) = (&publication.what, publication.taken) {
            publication.taken = true;
            let message =
                format!("no peer has room for {}: others may have filled its place", publication.what);
            self.log(Level::Warn, "publish", message);
        }
    }
}
