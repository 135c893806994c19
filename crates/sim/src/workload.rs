//! Who joins, leaves and looks up, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use node::directory::place_of_user;
use node::{LookupOptions, OpId, Outcome};
use wire::{RngExt, Time};

use crate::chance::{exponential, mix};
use crate::model::MAX_START_S;
use crate::queue::Happening;
use crate::report::MAX_SPELT_OUT;
use crate::world::World;

/// Draws for somebody to be looked up, and for somebody to ask; then this lookup is left out.
const DRAWS: usize = 64;
/// A peer that said goodbye is switched off this much later, when its records are handed over.
const GOODBYE: Duration = Duration::from_secs(3);
/// No lookup may take longer, whatever it comes to.
const LONGEST_LOOKUP: Duration = Duration::from_secs(30);

/// A lookup under way.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// The peer that serves the user.
    owner: usize,
    aor: String,
    published: Time,
    since: Time,
}

impl World<'_> {
    /// Puts everything that is known beforehand into the queue.
    pub(crate) fn plan(&mut self) {
        let scenario = self.scenario;
        for number in 0..scenario.nodes {
            let at = Duration::from_secs_f64(number as f64 / scenario.joins_per_s);
            self.queue.push(Time::ZERO + at, Happening::Join);
        }
        for (index, event) in scenario.events.iter().enumerate() {
            self.queue.push(at(event.at_s), Happening::Script(index));
        }
        for (index, call) in scenario.calls.iter().enumerate() {
            self.queue.push(at(call.at_s), Happening::Dial(index));
        }
        for (index, message) in scenario.messages.iter().enumerate() {
            self.queue.push(at(message.at_s), Happening::Write(index));
        }
        self.plan_lookup();
    }

    fn plan_lookup(&mut self) {
        if self.scenario.lookups_per_s > 0.0 {
            let wait = exponential(&mut self.lookup_rng, 1.0 / self.scenario.lookups_per_s);
            self.queue.push(self.now + Duration::from_secs_f64(wait), Happening::Lookup);
        }
    }

    /// Whether a peer is needed to the end: the bootstrap peer, and those with a phone.
    pub(crate) fn is_needed(&self, peer: usize) -> bool {
        peer == 0 || self.scenario.conversations().any(|(from, to, _)| from == peer || to == peer)
    }

    /// Decides how long a new peer stays.
    pub(crate) fn plan_session(&mut self, peer: usize) {
        if self.is_needed(peer) {
            return;
        }
        let Some(sessions) = &self.sessions else { return };
        let stay = match peer < self.scenario.nodes {
            true => sessions.rest(&mut self.session_rng),
            false => sessions.whole(&mut self.session_rng),
        };
        self.queue.push(self.now + stay, Happening::Departure(peer));
    }

    /// The session of a peer ends, and another peer takes its place.
    pub(crate) fn depart(&mut self, peer: usize) {
        if self.peers[peer].node.is_none() || self.peers[peer].leaving {
            return;
        }
        let graceful = self.sessions.as_ref().is_some_and(|s| s.is_graceful(&mut self.session_rng));
        self.end(peer, graceful);
        self.queue.push(self.now, Happening::Join);
    }

    fn end(&mut self, peer: usize, graceful: bool) {
        if !graceful {
            self.report.population.crashed += 1;
            return self.switch_off(peer);
        }
        self.report.population.left += 1;
        self.peers[peer].leaving = true;
        self.forget(peer);
        if let Some(node) = &mut self.peers[peer].node {
            node.leave(self.now);
        }
        self.touch(peer);
        self.queue.push(self.now + GOODBYE, Happening::SwitchOff(peer));
    }

    /// One of the scenario's events takes place.
    pub(crate) fn script(&mut self, index: usize) {
        let event = self.scenario.events[index];
        for (share, graceful) in [(event.kill, false), (event.leave, true)] {
            let count = (share.unwrap_or(0.0) * self.live.len() as f64).round() as usize;
            self.chosen(count).into_iter().for_each(|peer| self.end(peer, graceful));
        }
        (0..event.join.unwrap_or(0)).for_each(|_| self.join());
        if let Some(loss) = event.loss {
            self.net.loss = loss;
        }
        if let Some(share) = event.partition {
            self.net.partition = Some((share, mix(self.scenario.seed ^ index as u64)));
        }
        if event.for_s > 0.0 {
            self.queue.push(self.now + Duration::from_secs_f64(event.for_s), Happening::ScriptEnds(index));
        }
    }

    /// What an event changed for a while is as before.
    pub(crate) fn script_ends(&mut self, index: usize) {
        let event = self.scenario.events[index];
        if event.loss.is_some() {
            self.net.loss = self.scenario.loss;
        }
        if event.partition.is_some() {
            self.net.partition = None;
        }
    }

    /// So many different peers that are not needed.
    fn chosen(&mut self, count: usize) -> BTreeSet<usize> {
        let mut candidates: Vec<usize> = self.live.iter().copied().filter(|p| !self.is_needed(*p)).collect();
        let mut chosen = BTreeSet::new();
        while chosen.len() < count && !candidates.is_empty() {
            let pick = self.event_rng.random_range(0..candidates.len());
            chosen.insert(candidates.swap_remove(pick));
        }
        chosen
    }

    /// Somebody who does not hold the record looks somebody up who has been there for a while.
    pub(crate) fn lookup(&mut self) {
        self.plan_lookup();
        let Some((owner, aor, published)) = self.someone_settled() else { return };
        let place = place_of_user(self.key_hash, &aor);
        let Some(asker) = (0..DRAWS).find_map(|_| {
            let peer = self.someone()?;
            let node = self.peers[peer].node.as_ref()?;
            (peer != owner && node.is_online() && !node.holds(&place)).then_some(peer)
        }) else {
            return;
        };
        let options = LookupOptions { fresh: true, ..LookupOptions::default() };
        let Some(node) = &mut self.peers[asker].node else { return };
        let op = node.lookup_user(self.now, &aor, options);
        self.pending.insert((asker, op), Pending { owner, aor, published, since: self.now });
        self.touch(asker);
    }

    fn someone(&mut self) -> Option<usize> {
        if self.live.is_empty() {
            return None;
        }
        Some(self.live[self.lookup_rng.random_range(0..self.live.len())])
    }

    fn someone_settled(&mut self) -> Option<(usize, String, Time)> {
        (0..DRAWS).find_map(|_| {
            let owner = self.someone()?;
            let users = self.peers[owner].users.len();
            let user = &self.peers[owner].users[self.lookup_rng.random_range(0..users.max(1)).min(users)..];
            let user = user.first()?;
            let published = user.published?;
            let settled = self.now.since(published) >= self.scenario.settle();
            settled.then(|| (owner, user.aor.clone(), published))
        })
    }

    /// A command of a peer ended; if it was a lookup of ours, judge it.
    pub(crate) fn lookup_done(&mut self, asker: usize, op: OpId, outcome: Outcome) {
        let Some(pending) = self.pending.remove(&(asker, op)) else { return };
        let took = self.now.since(pending.since);
        let report = match outcome {
            Outcome::Lookup(report) => report,
            _ => node::report::LookupReport::default(),
        };
        let owner = &self.peers[pending.owner];
        let owner_stays = owner.node.is_some() && !owner.leaving;
        let nodes = report.record.as_ref().map(|r| r.nodes.as_slice()).unwrap_or_default();
        let right = nodes.iter().any(|n| *n == owner.id.to_string());
        self.hash.number(took.as_micros() as u64 * 2 + u64::from(right));
        if report.found && !right {
            let what = format!("{:?}: {} was found at the wrong peer {nodes:?}", self.now, pending.aor);
            self.violations.add(what);
        }
        let lookups = &mut self.report.lookups;
        if !right && !owner_stays {
            lookups.abandoned += 1;
            return;
        }
        lookups.issued += 1;
        *lookups.modes.entry(report.mode.clone()).or_default() += 1;
        if right {
            lookups.succeeded += 1;
            self.times.lookup.push(took.as_secs_f64() * 1e3);
            self.times.hops += u64::from(report.hops);
            self.times.messages += u64::from(report.messages);
        } else {
            let holders = self.holders(&pending.aor);
            let lookups = &mut self.report.lookups;
            let failure = format!(
                "{:?}: peer {asker} did not find {}, published {:.0} s before at peer {}, within {:.0} ms ({}, {} hops); {holders}",
                pending.since,
                pending.aor,
                pending.since.since(pending.published).as_secs_f64(),
                pending.owner,
                took.as_secs_f64() * 1e3,
                report.mode,
                report.hops,
            );
            if lookups.failures.len() < MAX_SPELT_OUT {
                lookups.failures.push(failure.clone());
            }
            if self.scenario.bars.lookups >= 1.0 {
                self.violations.add(failure);
            }
        }
        if took > LONGEST_LOOKUP {
            self.violations.add(format!("{:?}: looking up {} took {took:?}", self.now, pending.aor));
        }
    }

    /// Who holds a user's record, in words: how many peers, and for Kademlia how near they are, the
    /// nearest of all live peers being the first.
    fn holders(&self, aor: &str) -> String {
        let place = place_of_user(self.key_hash, aor);
        let mut near: Vec<(wire::Distance, bool)> = self
            .live
            .iter()
            .filter_map(|n| Some((self.peers[*n].id, self.peers[*n].node.as_ref()?)))
            .map(|(id, node)| (id.key().xor(place.key()), node.holds(&place)))
            .collect();
        near.sort_unstable();
        let ranks: Vec<usize> = (1..).zip(&near).filter(|(_, (_, holds))| *holds).map(|(n, _)| n).collect();
        match self.scenario.overlay.as_str() {
            "kademlia" => format!("held by {} peers, by nearness number {ranks:?}", ranks.len()),
            _ => format!("held by {} peers", ranks.len()),
        }
    }

    /// The asker is gone: nobody will hear what its lookups came to.
    pub(crate) fn abandon_lookups_of(&mut self, asker: usize) {
        let range = (asker, OpId(0))..=(asker, OpId(u64::MAX));
        let gone: Vec<_> = self.pending.range(range).map(|(key, _)| *key).collect();
        self.report.lookups.abandoned += gone.len() as u64;
        gone.iter().for_each(|key| {
            self.pending.remove(key);
        });
    }

    /// At the end: has everybody who stayed come as far as the model says?
    pub(crate) fn judge(&mut self) {
        for ((asker, _), pending) in std::mem::take(&mut self.pending) {
            self.report.lookups.abandoned += 1;
            if self.now.since(pending.since) > LONGEST_LOOKUP {
                self.violations.add(format!("a lookup of {} by peer {asker} never ended", pending.aor));
            }
        }
        for number in self.live.clone() {
            let peer = &self.peers[number];
            if self.now.since(peer.started).as_secs_f64() < MAX_START_S {
                continue;
            }
            if !peer.node.as_ref().is_some_and(|n| n.is_online()) {
                self.violations.add_kind("not in the overlay at the end", || format!("peer {number}"));
            }
            if let Some(user) = peer.users.iter().find(|u| u.published.is_none()) {
                self.violations.add_kind("never published", || user.aor.clone());
            }
        }
    }
}

/// A moment of the scenario.
fn at(seconds: f64) -> Time {
    Time::ZERO + Duration::from_secs_f64(seconds)
}
