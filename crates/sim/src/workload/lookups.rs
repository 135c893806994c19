//! Lookups, and the judgement of what they found.
//!
//! A lookup counts when asked by a peer that neither holds nor has cached the record. It is correct
//! when it returns the newest record of a live publisher in time.

use std::time::Duration;

use node::directory::place_of_user;
use node::{OpId, Outcome};
use wire::{RngExt, Time};

use super::DRAWS;
use crate::chance::{exponential, unit};
use crate::queue::Happening;
use crate::report::MAX_SPELT_OUT;
use crate::world::{LookupLine, World};

/// No lookup may take longer, whatever it comes to.
const LONGEST_LOOKUP: Duration = Duration::from_secs(30);

/// A lookup under way.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// The peer that serves the user.
    owner: usize,
    aor: String,
    published: Time,
    /// The sequence number of the user's record when the lookup began.
    sequence: u64,
    since: Time,
}

impl World<'_> {
    pub(super) fn plan_lookup(&mut self) {
        let each = self.scenario.lookup_every_s;
        let by_peers = if each > 0.0 { self.live.len().max(1) as f64 / each } else { 0.0 };
        let rate = (self.scenario.lookups_per_s + by_peers) * self.net.faults.load();
        if rate > 0.0 {
            let wait = exponential(&mut self.lookup_rng, 1.0 / rate);
            self.queue.push(self.now + Duration::from_secs_f64(wait), Happening::Lookup);
        }
    }

    /// Somebody who does not hold the record looks somebody up who has been there for a while.
    pub(crate) fn lookup(&mut self) {
        self.plan_lookup();
        let Some((owner, aor, published)) = self.someone_settled() else { return };
        let Some(sequence) = self.peers[owner].node.as_ref().and_then(|n| n.published_sequence(&aor)) else {
            return;
        };
        let place = place_of_user(self.key_hash, &aor);
        let Some(asker) = (0..DRAWS).find_map(|_| {
            let peer = self.someone()?;
            let node = self.peers[peer].node.as_ref()?;
            (peer != owner && node.is_online() && !node.holds(&place)).then_some(peer)
        }) else {
            return;
        };
        let options = self.scenario.peer.lookup();
        let now = self.clock(asker);
        let Some(node) = &mut self.peers[asker].node else { return };
        let op = node.lookup_user(now, &aor, options);
        self.pending.insert((asker, op), Pending { owner, aor, published, sequence, since: self.now });
        self.touch(asker);
    }

    /// A live, honest peer that does not stand still.
    pub(super) fn someone(&mut self) -> Option<usize> {
        if self.live.is_empty() {
            return None;
        }
        let peer = self.live[self.lookup_rng.random_range(0..self.live.len())];
        (!self.is_frozen(peer) && !self.attack.is_attacker(peer)).then_some(peer)
    }

    /// A user who has been published for a while, and the peer that serves them.
    pub(super) fn someone_settled(&mut self) -> Option<(usize, String, Time)> {
        (0..DRAWS).find_map(|_| {
            let mark = if self.attack.is_on() { unit(self.lookup_rng.random()) } else { 1.0 };
            let owner = self.attack.sought(mark).map_or_else(|| self.someone(), Some)?;
            let users = self.peers.get(owner)?.users.len();
            let user =
                &self.peers.get(owner)?.users[self.lookup_rng.random_range(0..users.max(1)).min(users)..];
            let user = user.first()?;
            let published = user.published?;
            let settled = self.now.since(published) >= self.scenario.settle();
            settled.then(|| (owner, user.aor.clone(), published))
        })
    }

    /// A lookup of ours ended: judge it.
    pub(super) fn lookup_done(&mut self, asker: usize, op: OpId, outcome: Outcome) {
        let Some(pending) = self.pending.remove(&(asker, op)) else { return };
        let took = self.now.since(pending.since);
        let report = match outcome {
            Outcome::Lookup(report) => report,
            _ => node::report::LookupReport::default(),
        };
        let owner = &self.peers[pending.owner];
        let owner_stays = owner.node.is_some() && !owner.leaving;
        let record = report.record.as_ref();
        let nodes = record.map(|r| r.nodes.as_slice()).unwrap_or_default();
        let there = nodes.iter().any(|n| *n == owner.id.to_string());
        let newest = record.is_some_and(|r| r.sequence >= pending.sequence);
        let in_time = took.as_secs_f64() <= self.scenario.lookup_within_s;
        let right = there && newest && in_time;
        self.hash.number(took.as_micros() as u64 * 2 + u64::from(right));
        if report.found && !there {
            let what = format!("{:?}: {} was found at the wrong peer {nodes:?}", self.now, pending.aor);
            self.violations.add(what);
        }
        if took > LONGEST_LOOKUP {
            self.violations.add(format!("{:?}: looking up {} took {took:?}", self.now, pending.aor));
        }
        let measured = self.watch.is_measuring(pending.since);
        let lookups = &mut self.report.lookups;
        if !right && !owner_stays {
            lookups.abandoned += u64::from(measured);
            return;
        }
        let victim = self.attack.is_victim(pending.owner, &pending.aor);
        if measured {
            self.attack.tally.note(victim, right, &report);
        }
        let (at_s, ms) = (pending.since.as_micros() as f64 / 1e6, took.as_secs_f64() * 1e3);
        self.times.log.push(LookupLine { at_s: at_s as f32, ms: ms as f32, found: right });
        if !measured {
            return;
        }
        lookups.issued += 1;
        *lookups.modes.entry(report.mode.clone()).or_default() += 1;
        if right {
            lookups.succeeded += 1;
            self.times.lookup.push(ms);
            self.times.hops += u64::from(report.hops);
            self.times.messages += u64::from(report.messages);
            return;
        }
        let what = match (there, newest) {
            (false, _) => "did not find",
            (true, false) => "found an old record of",
            (true, true) => "found too late",
        };
        let failure = format!(
            "{:?}: peer {asker} {what} {}, published {:.0} s before at peer {}, within {:.0} ms ({}, {} hops); {}",
            pending.since,
            pending.aor,
            pending.since.since(pending.published).as_secs_f64(),
            pending.owner,
            ms,
            report.mode,
            report.hops,
            self.holders(&pending.aor),
        );
        let failures = &mut self.report.lookups.failures;
        if failures.len() < MAX_SPELT_OUT {
            failures.push(failure.clone());
        }
        if self.scenario.bars.lookups >= 1.0 {
            self.violations.add(failure);
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

    /// At the end: a lookup that is still under way has had its time.
    pub(super) fn judge_pending(&mut self) {
        for ((asker, _), pending) in std::mem::take(&mut self.pending) {
            self.report.lookups.abandoned += 1;
            if self.now.since(pending.since) > LONGEST_LOOKUP && !self.is_frozen(asker) {
                let what = format!("{:?}: a lookup of {} by peer {asker} never ended", self.now, pending.aor);
                self.violations.add(what);
            }
        }
    }
}
