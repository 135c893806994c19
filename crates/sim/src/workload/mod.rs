//! Who joins, leaves, looks up, calls and writes, and when.
//!
//! | file | holds |
//! |---|---|
//! | `lookups.rs` | lookups, and the judgement of what they found |
//! | `people.rs` | registrations, calls and messages at random |
//! | `warmth.rs` | links that peers behind boxes keep warm, and what that costs |

mod lookups;
mod people;
mod warmth;

use std::collections::BTreeSet;
use std::time::Duration;

use node::{OpId, Outcome};
use wire::{RngExt, Time};

use crate::chance::exponential;
use crate::model::MAX_START_S;
use crate::queue::Happening;
use crate::scenario::{Among, Law};
use crate::world::World;

pub(crate) use lookups::Pending;
pub(crate) use people::Work;
pub(crate) use warmth::Warmth;

/// Draws for somebody to be looked up, and for somebody to ask; then this lookup is left out.
const DRAWS: usize = 64;
/// A peer that said goodbye is switched off this much later, when its records are handed over.
const GOODBYE: Duration = Duration::from_secs(3);

impl World<'_> {
    /// Puts everything that is known beforehand into the queue.
    pub(crate) fn plan(&mut self) {
        let scenario = self.scenario;
        let crowd = if self.follows_trace() { 1 } else { scenario.nodes };
        for number in 0..crowd {
            let at = Duration::from_secs_f64(number as f64 / scenario.joins_per_s);
            self.queue.push(Time::ZERO + at, Happening::Join);
        }
        self.plan_trace();
        for (index, event) in scenario.events.iter().enumerate() {
            self.queue.push(at(event.at_s), Happening::Script(index));
        }
        for (index, call) in scenario.calls.iter().enumerate() {
            self.queue.push(at(call.at_s), Happening::Dial(index));
        }
        for (index, message) in scenario.messages.iter().enumerate() {
            self.queue.push(at(message.at_s), Happening::Write(index));
        }
        if scenario.measure_from_s > 0.0 {
            self.queue.push(at(scenario.measure_from_s), Happening::Measure);
        }
        self.queue.push(at(scenario.series_s), Happening::Tick);
        if scenario.invariants.every_s > 0.0 {
            self.queue.push(at(scenario.invariants.every_s), Happening::Check);
        }
        self.plan_attack();
        self.plan_lookup();
        let work = scenario.workload;
        self.plan_work(work.registrations_per_s, Happening::SignUp);
        self.plan_work(work.calls_per_s, Happening::Converse);
        self.plan_work(work.messages_per_s, Happening::Chat);
        if work.warm_links > 0 {
            self.queue.push(self.now, Happening::Warm);
        }
    }

    fn follows_trace(&self) -> bool {
        self.scenario.churn.as_ref().is_some_and(|churn| churn.law == Law::Trace)
    }

    /// The sessions of a trace: a peer's first one joins, in the order of their numbers.
    fn plan_trace(&mut self) {
        let scenario = self.scenario;
        let sessions = if self.follows_trace() { &scenario.sessions[..] } else { &[] };
        let mut met = 0;
        for session in sessions {
            let first = session.peer > met;
            met = met.max(session.peer);
            let come = if first { Happening::Join } else { Happening::Return(session.peer) };
            self.queue.push(at(session.up_s), come);
            self.queue.push(at(session.down_s), Happening::Departure(session.peer));
        }
    }

    /// The next time that something happens at random, `per_s` times a second while the load is usual.
    fn plan_work(&mut self, per_s: f64, happening: Happening) {
        let rate = per_s * self.net.faults.load();
        if rate > 0.0 {
            let wait = exponential(&mut self.work_rng, 1.0 / rate);
            self.queue.push(self.now + Duration::from_secs_f64(wait), happening);
        }
    }

    /// Whether a peer is needed to the end: the bootstrap peer, and those with a part to play.
    pub(crate) fn is_needed(&self, peer: usize) -> bool {
        peer == 0 || self.scenario.conversations().any(|(from, to, _)| from == peer || to == peer)
    }

    /// Decides how long a new peer stays.
    pub(crate) fn plan_session(&mut self, peer: usize) {
        if self.is_needed(peer) || self.follows_trace() {
            return;
        }
        let (Some(sessions), Some(churn)) = (&self.sessions, &self.scenario.churn) else { return };
        let stay = match peer < self.scenario.nodes {
            true => sessions.rest(&mut self.session_rng),
            false => sessions.whole(&mut self.session_rng),
        };
        let from = self.now.max(at(churn.from_s));
        self.queue.push(from + stay, Happening::Departure(peer));
    }

    /// The session of a peer ends, and another peer takes its place; in a trace nobody does, and the
    /// peer may come back.
    pub(crate) fn depart(&mut self, peer: usize) {
        let Some(here) = self.peers.get(peer).filter(|p| !p.leaving) else { return };
        let Some(node) = &here.node else { return };
        let graceful = self.sessions.as_ref().is_some_and(|s| s.is_graceful(&mut self.session_rng));
        if self.follows_trace() {
            self.kept.insert(peer, node.save());
            return self.end(peer, graceful);
        }
        self.end(peer, graceful);
        self.queue.push(self.now, Happening::Join);
    }

    /// A peer goes, with a word or without.
    pub(crate) fn end(&mut self, peer: usize, graceful: bool) {
        if self.is_frozen(peer) || !graceful {
            self.report.population.crashed += 1;
            return self.switch_off(peer);
        }
        self.report.population.left += 1;
        self.peers[peer].leaving = true;
        self.forget(peer);
        let now = self.clock(peer);
        if let Some(node) = &mut self.peers[peer].node {
            node.leave(now);
        }
        self.touch(peer);
        self.queue.push(self.now + GOODBYE, Happening::SwitchOff(peer));
    }

    /// A share of the live peers of a kind, of those that are not needed.
    pub(crate) fn chosen(&mut self, share: f64, among: Among) -> BTreeSet<usize> {
        let here = self.live.iter().copied().filter(|p| self.net.faults.is_among(among, *p));
        let here: Vec<usize> = here.collect();
        let count = (share * here.len() as f64).round() as usize;
        let mut candidates: Vec<usize> = here.into_iter().filter(|p| !self.is_needed(*p)).collect();
        let mut chosen = BTreeSet::new();
        while chosen.len() < count && !candidates.is_empty() {
            let pick = self.event_rng.random_range(0..candidates.len());
            chosen.insert(candidates.swap_remove(pick));
        }
        chosen
    }

    /// A command of a peer ended; if it was one of ours, judge it.
    pub(crate) fn done(&mut self, peer: usize, op: OpId, outcome: Outcome) {
        if let Some(work) = self.work.remove(&(peer, op)) {
            return self.work_done(work, &outcome);
        }
        self.lookup_done(peer, op, outcome);
    }

    /// The asker is gone: nobody will hear what its lookups came to.
    pub(crate) fn abandon_lookups_of(&mut self, asker: usize) {
        let range = (asker, OpId(0))..=(asker, OpId(u64::MAX));
        let gone: Vec<_> = self.pending.range(range.clone()).map(|(key, _)| *key).collect();
        self.report.lookups.abandoned += gone.len() as u64;
        gone.iter().for_each(|key| {
            self.pending.remove(key);
        });
        let gone: Vec<_> = self.work.range(range).map(|(key, _)| *key).collect();
        gone.iter().for_each(|key| {
            self.work.remove(key);
        });
    }

    /// At the end: has everybody who stayed come as far as the model says?
    pub(crate) fn judge(&mut self) {
        self.judge_pending();
        // While something is wrong with the network nobody can be asked to have arrived.
        if self.net.faults.are_active() {
            return;
        }
        let now = self.now;
        for number in self.live.clone() {
            let peer = &self.peers[number];
            if self.attack.is_attacker(number) || now.since(peer.started).as_secs_f64() < MAX_START_S {
                continue;
            }
            if !peer.node.as_ref().is_some_and(|n| n.is_online()) {
                self.violations
                    .add_kind("not in the overlay at the end", || format!("{now:?}: peer {number}"));
            }
            let due = |wanted: Time| now.since(wanted).as_secs_f64() >= MAX_START_S;
            if let Some(user) = peer.users.iter().find(|u| u.published.is_none() && due(u.wanted)) {
                self.violations
                    .add_kind("never published", || format!("{now:?}: {} at peer {number}", user.aor));
            }
        }
    }
}

/// A moment of the scenario.
fn at(seconds: f64) -> Time {
    Time::ZERO + Duration::from_secs_f64(seconds)
}
