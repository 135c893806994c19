//! Keeping a record that was placed: reading it back, refreshing it, correcting those who have it old.

use std::net::SocketAddr;
use std::time::Duration;

use wire::p2pp::{Code, Density, Message, MessageType, Object, Record};
use wire::{Contact, Key, NodeId, Time};

use super::{
    LOOK_AGAIN, Publication, READ_AGAIN_AT, REFRESH, REFRESHES_OF_A_LIFE, REPLACE_LOST, Stage, What,
};
use crate::answer::Beside;
use crate::event::Event;
use crate::node::{Alarm, Node};
use crate::region::Crowd;
use crate::request::Purpose;
use crate::search::{Findings, For, LookupOptions, Mode, Want};

impl Node {
    /// Reads our own record back, the way others will look for it. In a storm a user's only, and once: by the
    /// time that another way has been tried the place has passed to others.
    pub(super) fn check_published(&mut self, now: Time, id: u64) {
        let is_storm = self.churn().is_storm();
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        if is_storm && (publication.verified || publication.what == What::Peer) {
            publication.verified = true;
            return self.plan_next(now, id);
        }
        self.set_stage(id, Stage::Checking);
        let Some(publication) = self.publications.all.get(&id) else { return };
        let Some(record) = &publication.record else { return };
        let want = Want::Object(record.kind, Some(record.owner));
        let key: Key = record.resource.0;
        // A lone peer holds everything itself; else the question is what others find.
        let alone = publication.holders.is_empty();
        let options = LookupOptions { fresh: !alone, ..LookupOptions::default() };
        self.search(now, key, want, For::ReadBack(id), options);
    }

    pub(crate) fn handle_read_back(&mut self, now: Time, id: u64, findings: &Findings) {
        let peers = self.size_estimate(now);
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        publication.stage = Stage::Idle;
        publication.peers_when_read = peers;
        let Some(ours) = publication.record.clone() else { return };
        if !findings.records.iter().any(|(r, _)| r.sequence == ours.sequence) {
            let older = |(r, _): &(Record, Duration)| r.owner == ours.owner && r.sequence < ours.sequence;
            if let (true, Some(holder)) = (findings.records.iter().any(older), findings.holder) {
                self.correct(now, id, &ours, holder);
            }
            return self.retry(now, id);
        }
        // Found only by asking peer after peer: its place may have passed to liars, who were given it and
        // keep it from those that came to stand nearer. Or strangers crowd around it since it was placed, as
        // its holders tell. So it is placed anew, once each time.
        let fresh = std::mem::take(&mut publication.fresh);
        let newly_crowded = findings.crowd == Some(Crowd::Dense) && !publication.is_crowded();
        if (findings.mode == Mode::Iterative || newly_crowded) && !fresh {
            publication.failures = 1;
            return self.find_place(now, id);
        }
        let first = !std::mem::replace(&mut publication.verified, true);
        publication.taken = false;
        publication.failures = 0;
        let what = publication.what.clone();
        self.plan_next(now, id);
        if let (true, What::User(aor)) = (first, what) {
            self.emit(Event::Published { aor });
        }
    }

    /// Reads a young record back again if the overlay has grown, or lets it be. In a storm nobody knows how
    /// many there are.
    pub(super) fn look_again(&mut self, now: Time, id: u64) {
        let is_storm = self.churn().is_storm();
        let Some(publication) = self.publications.all.get(&id) else { return };
        if publication.is_crowded() {
            return self.find_place(now, id);
        }
        let had = publication.peers_when_read;
        match !is_storm && self.size_estimate(now) as f64 > had as f64 * READ_AGAIN_AT {
            true => self.check_published(now, id),
            false => self.plan_next(now, id),
        }
    }

    /// A record that is found is looked at again while it is young, and refreshed from then on.
    pub(super) fn plan_next(&mut self, now: Time, id: u64) {
        let refresh = self.refresh_wait(id);
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        let wait = LOOK_AGAIN.get(publication.looks).copied().unwrap_or(refresh).min(refresh);
        publication.looks += 1;
        let wait = self.jitter(wait, 0.8, 1.2);
        self.timers.set(Alarm::Publication(id), now + wait);
    }

    /// Whoever answers with an older version gets the one that outdid it: a peer that held the record once
    /// is found before those that hold it now, if it stands on the way.
    pub(super) fn correct(&mut self, now: Time, id: u64, record: &Record, holder: Contact) {
        let purpose = Purpose::Replicate([record.as_ref().summary()].into());
        let lifetime = self.lifetime_of(id);
        let beside = Beside { told: self.told_of(id), ..Beside::default() };
        self.send_record(now, holder, MessageType::Publish, record.as_ref(), lifetime, beside, purpose);
    }

    /// How often records of ours are refreshed, as the churn asks.
    pub(crate) fn refresh_interval(&self) -> Duration {
        let longest = self.config.refresh_interval;
        self.churn().tuned(REFRESH.0, REFRESH.1.min(longest), longest)
    }

    /// Where sessions have become much shorter since the next refreshes were planned, these come sooner, and
    /// so does the care for records of others: their holders go faster than we thought.
    pub(crate) fn hurry_refreshes(&mut self, now: Time) {
        let (interval, planned_for) = (self.refresh_interval(), self.publications.planned_for);
        if interval < planned_for && interval * 2 > planned_for {
            return;
        }
        self.publications.planned_for = interval;
        if interval >= planned_for {
            return;
        }
        let repair = self.jitter(self.repair_interval(), 0.2, 1.0);
        self.timers.set_by(Alarm::Repair, now + repair);
        let ids: Vec<u64> = self.publications.all.keys().copied().collect();
        for id in ids {
            let soon = self.jitter(self.refresh_wait(id), 0.2, 1.0);
            self.timers.set_by(Alarm::Publication(id), now + soon);
        }
    }

    /// How long holders may keep a record of ours unrefreshed.
    pub(super) fn lifetime_of(&self, id: u64) -> Duration {
        let ttl = self.publications.all.get(&id).and_then(|p| p.ttl);
        ttl.unwrap_or(self.record_lifetime())
    }

    /// What the holders of a record of ours are told of the peers around its place.
    pub(super) fn told_of(&self, id: u64) -> Density {
        self.publications.all.get(&id).map(|p| p.told).unwrap_or_default()
    }

    /// How long records live that have no time of their own.
    pub(crate) fn record_lifetime(&self) -> Duration {
        (self.refresh_interval() * REFRESHES_OF_A_LIFE).min(self.config.record_lifetime)
    }

    pub(super) fn refresh_wait(&self, id: u64) -> Duration {
        let kept_for = self.publications.all.get(&id).map_or(Duration::MAX, |p| p.kept_for);
        self.refresh_interval().min(self.lifetime_of(id).min(kept_for) / 2)
    }

    /// Extends the life of our record at its holders by naming it.
    pub(super) fn refresh(&mut self, now: Time, id: u64) {
        let lifetime = self.lifetime_of(id);
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        let Some(record) = &publication.record else { return };
        let summary = (**record).as_ref().summary();
        (publication.cared_for, publication.kept_for) = (now, lifetime);
        let holders: Vec<Contact> = publication.holders.iter().map(|h| **h).collect();
        self.storage.refresh(now, &summary, lifetime);
        self.refresh_at(now, id, &holders, &holders);
        let next = self.jitter(self.refresh_wait(id), 0.8, 1.2);
        self.timers.set(Alarm::Publication(id), now + next);
    }

    /// Names our record to some of its holders, and says whom else we know to hold it.
    fn refresh_at(&mut self, now: Time, id: u64, holders: &[Contact], known: &[Contact]) {
        let seconds = u32::try_from(self.lifetime_of(id).as_secs()).unwrap_or(u32::MAX);
        let Some(record) = self.publications.all.get(&id).and_then(|p| p.record.as_ref()) else { return };
        let objects = [Object::RecordSummary((**record).as_ref().summary()), Object::Expires(seconds)];
        for holder in holders {
            let to = (holder.address, Some(holder.id));
            self.ask_knowing(now, to, MessageType::Refresh, &objects, known, Purpose::Refresh(id));
        }
    }

    /// Peers fell together: the holders of our records may all be among them, and nobody else would ever
    /// notice. They are asked now and not when the next refresh is due; as often as the shortest refresh.
    pub(crate) fn look_after_holders(&mut self, now: Time) {
        if self.publications.looked_after.is_some_and(|at| now.since(at) < REFRESH.1) {
            return;
        }
        self.publications.looked_after = Some(now);
        let rests = |p: &Publication| p.verified && p.stage == Stage::Idle;
        let ids: Vec<u64> =
            self.publications.all.iter().filter(|(_, p)| rests(p)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.care_for(now, id));
    }

    /// Peers are gone that stood nearer to some of our records than a holder we know: they held them, by all
    /// appearance, and so few are left there that these are placed anew.
    pub(crate) fn replace_lost(&mut self, now: Time, gone: &[NodeId]) {
        let Some(standing) = self.standing.as_ref().filter(|s| s.walks().is_none()) else { return };
        let stood_there = |p: &Publication| {
            let Some(place) = p.record.as_ref().map(|r| r.resource.0) else { return false };
            let farthest = p.holders.iter().map(|h| standing.table.rank(&place, &h.id)).max();
            let nearer = gone.iter().filter(|id| Some(standing.table.rank(&place, id)) <= farthest);
            nearer.count() >= REPLACE_LOST
        };
        let rests = |p: &Publication| p.verified && p.stage == Stage::Idle && stood_there(p);
        let ids: Vec<u64> =
            self.publications.all.iter().filter(|(_, p)| rests(p)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.find_place(now, id));
    }

    /// A holder says who else has come to hold our record: their copies are as old as its last refresh, and are
    /// refreshed from now on.
    fn learn_holders(&mut self, now: Time, id: u64, message: &Message<'_>) {
        let replicas = self.replicas();
        let named = self.contacts_of_answer(message, replicas);
        let own = self.node_id();
        let Some(publication) = self.publications.all.get_mut(&id) else { return };
        let is_new = |c: &Contact| Some(c.id) != own && publication.holders.iter().all(|h| h.id != c.id);
        let room = (2 * replicas).saturating_sub(publication.holders.len());
        let new: Vec<Contact> = named.into_iter().filter(is_new).take(room).collect();
        publication.holders.extend(new.iter().map(|c| self.book.contact(*c)));
        self.refresh_at(now, id, &new, &[]);
    }

    /// A holder kept our record, or lost it and gets it anew.
    pub(crate) fn handle_refresh_answer(
        &mut self,
        now: Time,
        id: u64,
        remote: SocketAddr,
        message: &Message<'_>,
    ) {
        if message.header.code == Code::BUSY {
            return self.handle_holder_silence(now, id, remote); // It lost the record and will not have it.
        }
        let Some(publication) = self.publications.all.get(&id) else { return };
        if let (true, Some(record), Some(holder)) =
            (message.header.code.is_ok(), &publication.record, message.header.responder)
        {
            let summary = (**record).as_ref().summary();
            self.storage.held_also_by(now, &summary, [holder.key().head()]);
            return self.learn_holders(now, id, message);
        }
        let (Some(record), Some(holder)) = (publication.record.clone(), message.header.responder) else {
            return;
        };
        let lifetime = self.lifetime_of(id);
        let contact = Contact { id: holder, address: remote };
        // Not counted as a new holder: it is one.
        let purpose = Purpose::Replicate([(*record).as_ref().summary()].into());
        let beside = Beside { told: self.told_of(id), ..Beside::default() };
        self.send_record(now, contact, MessageType::Publish, (*record).as_ref(), lifetime, beside, purpose);
    }
}
