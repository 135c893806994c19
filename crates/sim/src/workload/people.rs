//! Registrations, calls and messages at random moments, between random people.

use std::time::Duration;

use node::{CallOptions, Outcome, User};
use wire::{KeyPair, RngExt, Time};

use crate::chance::{Use, seed};
use crate::model::UserModel;
use crate::queue::Happening;
use crate::world::World;

/// How long the people of random calls talk.
const TALK: Duration = Duration::from_secs(5);
/// Users that one peer may serve here.
const MAX_USERS: usize = 255;

/// A call or a message under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// When it began.
    since: Time,
    /// The peer of whom it is for.
    to: usize,
    is_call: bool,
}

impl World<'_> {
    /// A new user is added at a random peer.
    pub(crate) fn sign_up(&mut self) {
        self.plan_work(self.scenario.workload.registrations_per_s, Happening::SignUp);
        let Some(peer) = self.any_online() else { return };
        let number = self.peers[peer].users.len();
        if number >= MAX_USERS {
            return;
        }
        let user = self.user(peer, number);
        let model = UserModel { aor: user.aor.clone(), wanted: self.now, published: None };
        self.peers[peer].users.push(model);
        let now = self.clock(peer);
        if let Some(node) = &mut self.peers[peer].node {
            node.add_user(now, user);
        }
        self.report.workload.registrations.issued += 1;
        self.touch(peer);
    }

    /// User `k` of a peer.
    pub(crate) fn user(&self, peer: usize, k: usize) -> User {
        let suffix = if k == 0 { String::new() } else { format!("-{k}") };
        let number = ((peer as u64) << 8) | k as u64;
        User {
            aor: format!("user{peer}{suffix}@sim.test"),
            keys: KeyPair::from_seed(seed(self.scenario.seed, Use::UserKey, number)),
        }
    }

    /// Somebody calls somebody who has a phone, and hangs up after a while.
    pub(crate) fn converse(&mut self) {
        self.plan_work(self.scenario.workload.calls_per_s, Happening::Converse);
        let Some((from, aor, to, callee)) = self.two_people() else { return };
        self.install_phone(to);
        let now = self.clock(from);
        let Some(node) = &mut self.peers[from].node else { return };
        let op =
            node.call(now, &aor, &callee, CallOptions { duration: Some(TALK), ..CallOptions::default() });
        self.work.insert((from, op), Work { since: self.now, to, is_call: true });
        self.touch(from);
    }

    /// Somebody writes to somebody.
    pub(crate) fn chat(&mut self) {
        self.plan_work(self.scenario.workload.messages_per_s, Happening::Chat);
        let Some((from, aor, to, reader)) = self.two_people() else { return };
        let now = self.clock(from);
        let Some(node) = &mut self.peers[from].node else { return };
        let op = node.message(now, &aor, &reader, "are you there?");
        self.work.insert((from, op), Work { since: self.now, to, is_call: false });
        self.touch(from);
    }

    fn any_online(&mut self) -> Option<usize> {
        let peer = *self.live.get(self.work_rng.random_range(0..self.live.len().max(1)))?;
        let online = self.peers[peer].node.as_ref().is_some_and(|n| n.is_online());
        (online && !self.is_frozen(peer)).then_some(peer)
    }

    /// Somebody who is there, and somebody else who has been there for a while: peer and name of each.
    fn two_people(&mut self) -> Option<(usize, String, usize, String)> {
        let from = self.any_online()?;
        let aor = self.peers[from].users.first()?.aor.clone();
        let (to, other, _) = self.someone_settled()?;
        // Only the first user of a peer has a phone.
        let other = if other.contains('-') { self.peers[to].users.first()?.aor.clone() } else { other };
        (from != to).then_some((from, aor, to, other))
    }

    /// A call or a message ended.
    pub(super) fn work_done(&mut self, work: Work, outcome: &Outcome) {
        let stays = self.peers[work.to].node.is_some() && !self.peers[work.to].leaving;
        let took = self.now.since(work.since).as_secs_f64() * 1e3;
        let (ok, ms) = match outcome {
            Outcome::Call(call) => (call.status == 200 && call.rtp.received > 0, call.setup_ms),
            Outcome::Message(message) => (message.state == "delivered", took),
            _ => (false, took),
        };
        self.hash.number(ms as u64 * 2 + u64::from(ok));
        let (tally, times) = match work.is_call {
            true => (&mut self.report.workload.calls, &mut self.times.calls),
            false => (&mut self.report.workload.messages, &mut self.times.chats),
        };
        if !ok && !stays {
            tally.abandoned += 1;
            return;
        }
        tally.issued += 1;
        if ok {
            tally.succeeded += 1;
            times.push(ms);
        }
    }
}
