//! Topology adaptation: candidates are met on walks and asked, links made where both sides agree, and given up
//! for better ones (section 3.2 of the paper).

use super::neighbors::{Decision, Neighbor, decide};
use wire::{Contact, Distance, NodeId, Time, seed::RngExt};

use super::{
    ADAPT, AGGRESSIVENESS, Candidate, FOOTHOLD, Gia, MAX_CANDIDATES, MAX_INDEX, REFUSED, RESTOCK, WALK,
    mark_of,
};
use crate::care::NEVER;
use crate::overlay::{Greeting, Upkeep};

impl Gia {
    /// The peer that is no neighbour, among the candidates.
    pub(super) fn meet(&mut self, now: Time, contact: Contact) -> &mut Candidate {
        let place = self.candidates.iter().position(|c| c.contact.id == contact.id);
        let place = place.unwrap_or_else(|| {
            if self.candidates.len() >= MAX_CANDIDATES {
                let oldest = self.candidates.iter().position(|c| !c.wanted).unwrap_or(0);
                self.candidates.remove(oldest);
            }
            let fresh = Candidate { contact, capacity: 0, heard: None, wanted: false, ask_from: now };
            self.candidates.push_back(fresh);
            self.candidates.len() - 1
        });
        let candidate = &mut self.candidates[place];
        candidate.contact = contact;
        candidate
    }

    /// Somebody was mentioned, while we look for neighbours: the walk may go on there. Who knows hardly
    /// anybody asks at once.
    pub(super) fn hear_of(&mut self, now: Time, contact: Contact) {
        self.strangers += 1;
        if self.care.rng.random_range(0..self.strangers) == 0 {
            self.stranger = Some(contact);
        }
        if self.neighbors.len() + self.candidates.len() < FOOTHOLD {
            self.care.mention(now, contact, |_| Distance::ZERO);
            self.verify(now);
        }
    }

    pub(super) fn verify(&mut self, now: Time) {
        while let Some(contact) = self.care.next_to_verify(now) {
            self.care.verify(now, contact);
        }
    }

    pub(super) fn greet(&mut self, contact: Contact) {
        self.care.wish(Upkeep::Greet(contact));
    }

    /// Asks a candidate to become a neighbour.
    pub(super) fn court(&mut self, now: Time, id: &NodeId) {
        let Some(candidate) = self.candidate(id) else { return };
        candidate.wanted = true;
        candidate.ask_from = now + REFUSED;
        let contact = candidate.contact;
        self.greet(contact);
    }

    /// Plans the next attempt at a better neighbour, the sooner the less satisfied we are.
    pub(super) fn plan_adaptation(&mut self, now: Time) {
        let content = self.satisfaction();
        if content >= 1.0 {
            self.adapt_at = NEVER;
            return;
        }
        let wait = ADAPT.mul_f64(AGGRESSIVENESS.powf(content - 1.0)) * (1 << self.fruitless.min(8));
        let at = now + self.care.jittered(wait.min(ADAPT));
        self.adapt_at = if self.adapt_at <= now { at } else { self.adapt_at.min(at) };
    }

    /// Asks the ablest candidate above us to be our neighbour, or else one at random; without any,
    /// asks a neighbour for its own.
    pub(super) fn adapt(&mut self, now: Time) {
        self.adapt_at = NEVER;
        if self.satisfaction() >= 1.0 || (self.neighbors.is_empty() && self.candidates.is_empty()) {
            return;
        }
        if self.walked < WALK && self.neighbors.len() >= FOOTHOLD {
            self.walk();
            return self.plan_adaptation(now);
        }
        self.fruitless += 1;
        let own = self.capacity;
        let free: Vec<&Candidate> = self.candidates.iter().filter(|c| c.ask_from <= now).collect();
        let ablest = free.iter().max_by_key(|c| c.capacity).filter(|c| c.capacity > own);
        let random = || free.get(self.care.rng.random_range(0..free.len().max(1)));
        match ablest.or_else(random).map(|c| c.contact.id) {
            Some(id) => self.court(now, &id),
            None => self.walk(),
        }
        self.plan_adaptation(now);
    }

    /// One step of a walk in search of strangers: somebody whom the last step named, at random, is asked
    /// whom it knows. Whoever answers is a candidate.
    pub(super) fn walk(&mut self) {
        let known = self.neighbors.iter().map(|n| n.contact);
        let known: Vec<Contact> = known.chain(self.candidates.iter().map(|c| c.contact)).collect();
        let with = self.stranger.take().unwrap_or_else(|| known[self.care.rng.random_range(0..known.len())]);
        (self.strangers, self.walked) = (0, self.walked.saturating_add(1));
        self.care.wish(Upkeep::Exchange { with, give: false, rows: true });
    }

    /// A candidate has agreed, and so have we.
    pub(super) fn link(&mut self, now: Time, contact: Contact, greeting: &Greeting) {
        match decide(self.capacity, &self.neighbors, greeting.capacity, greeting.degree) {
            Decision::Accept => {}
            Decision::Replace(place) => {
                let gone = self.neighbors.swap_remove(place);
                self.part(now, &gone);
                self.greet(gone.contact);
            }
            // Somebody else was quicker: it is told that there is no room after all.
            Decision::Reject => {
                if let Some(candidate) = self.candidate(&contact.id) {
                    candidate.wanted = false;
                }
                return self.greet(contact);
            }
        }
        if self.neighbors.is_empty() {
            self.care.join(now);
        }
        self.candidates.retain(|c| c.contact.id != contact.id);
        self.lost.forget(&contact.id);
        self.fruitless = 0;
        // Both sides tell what they hold as soon as the link is there.
        let greet_at = now + self.care.jitter(RESTOCK);
        self.neighbors.push(Neighbor {
            contact,
            capacity: greeting.capacity,
            degree: greeting.degree,
            heard: now,
            rtt: None,
            suspect: false,
            greet_at,
            purse: Default::default(),
            told_tokens: 0,
            index: Box::default(),
            theirs: 0,
            ours: 0,
        });
        self.care.welcome(contact);
        self.hear_neighbor(now, self.neighbors.len() - 1, greeting);
    }

    /// A neighbour is none any more.
    pub(super) fn unlink(&mut self, now: Time, id: &NodeId) -> Option<Neighbor> {
        let gone = self.neighbors.swap_remove(self.place_of(id)?);
        self.fruitless = 0;
        self.plan_adaptation(now);
        Some(gone)
    }

    /// A former neighbour may be one again, later.
    pub(super) fn part(&mut self, now: Time, gone: &Neighbor) {
        let candidate = self.meet(now, gone.contact);
        (candidate.capacity, candidate.heard) = (gone.capacity, Some(gone.heard));
        candidate.ask_from = now + REFUSED;
    }

    /// What a neighbour says of itself.
    pub(super) fn hear_neighbor(&mut self, now: Time, place: usize, greeting: &Greeting) {
        let n = &mut self.neighbors[place];
        (n.capacity, n.degree, n.ours) = (greeting.capacity, greeting.degree, greeting.known);
        if greeting.fresh {
            // It does not count us yet, or not any more: tokens of an earlier link are void.
            (n.purse, n.told_tokens) = Default::default();
        } else {
            n.purse.hear(greeting.tokens, greeting.spent);
        }
        if let Some(index) = &greeting.index {
            let mut index: Vec<u32> = index.iter().take(MAX_INDEX).copied().collect();
            n.theirs = mark_of(&index);
            index.sort_unstable();
            n.index = index.into();
        }
        self.mint_tokens(now);
        self.plan_adaptation(now);
    }
}
