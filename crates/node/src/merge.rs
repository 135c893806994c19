//! Finding each other again after a break of the network.
//!
//! When a network breaks in two, each side sees the other leave, repairs its tables and records, and
//! goes on. Nobody of it would notice that the break has healed. So a peer that has seen many leave
//! within a short time remembers some of them, and asks one after the other, and its bootstrap
//! addresses and host cache, whether it is back: soon at first, then less and less. When one answers,
//! the peer looks up its own place through it, which makes it known to its neighbours on the other
//! side and them to it, and asks on quickly, since others will be back too. The newcomers of the
//! tables get the records that fall to them; where both sides held one, the newer version wins, so
//! that what was withdrawn on one side stays withdrawn.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use wire::p2pp::{Message, MessageType, Object};
use wire::{Contact, RngExt, Time};

use crate::node::{Alarm, Node};
use crate::request::Purpose;
use crate::search::{For, Want};

/// Most lost peers remembered.
const MAX_LOST: usize = 32;

/// So many lost within [`SPELL`], and at least a quarter of the table, are more than churn: it may be a
/// break. In a storm as many go all the time.
const MANY: usize = 4;

/// Losses within this time belong together.
const SPELL: Duration = Duration::from_secs(120);

/// Two lost within this time may be two of many. A table that loses a peer every five seconds is one of a
/// thousand peers whose sessions last five minutes; there records are refreshed every minute anyway.
const TOGETHER: Duration = Duration::from_secs(5);

/// Who was lost within this time may be one of many whose loss others have not noticed yet.
const LATELY: Duration = Duration::from_secs(60);

/// The first pause between two questions after a break, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(600)];

/// Nobody is asked any more this long after the last loss: whoever comes back later joins anew.
const HOPE: Duration = Duration::from_secs(86_400);

/// Lost peers, and how we look for them.
#[derive(Default)]
pub(crate) struct Lost {
    peers: VecDeque<(Arc<Contact>, Time)>,
    pause: Duration,
    /// Whether they went so close together that it may be a break.
    broken: bool,
}

impl Node {
    /// A peer of the table stopped answering.
    pub(crate) fn remember_lost(&mut self, now: Time, contact: Contact) {
        let known = self.standing.as_ref().map_or(0, |s| s.table.len());
        let is_storm = self.churn().is_storm();
        let lost = &mut self.membership.lost;
        lost.peers.retain(|(c, _)| c.id != contact.id);
        if lost.peers.len() == MAX_LOST {
            lost.peers.pop_front();
        }
        let before = lost.peers.back().map(|(_, at)| *at);
        lost.peers.push_back((self.book.contact(contact), now));
        let together = lost.peers.iter().filter(|(_, at)| now.since(*at) < SPELL).count();
        if together >= MANY.max((known / 4).min(MAX_LOST / 2)) && !lost.broken && !is_storm {
            lost.broken = true;
            lost.pause = PAUSES[0];
            let first = self.jitter(PAUSES[0], 0.5, 1.5);
            self.timers.set(Alarm::Merge, now + first);
        }
        if before.is_some_and(|at| now.since(at) < TOGETHER) {
            self.look_after_holders(now);
        }
    }

    /// Whether a peer of the table stopped answering a moment ago.
    pub(crate) fn has_lost_lately(&self, now: Time) -> bool {
        self.membership.lost.peers.back().is_some_and(|(_, at)| now.since(*at) < LATELY)
    }

    /// Asks one of the lost, or an address from before, whether it is back.
    pub(crate) fn look_for_lost(&mut self, now: Time) {
        let lost = &mut self.membership.lost;
        lost.peers.retain(|(_, at)| now.since(*at) < HOPE);
        let mut addresses: Vec<SocketAddr> = lost.peers.iter().map(|(c, _)| c.address).collect();
        if addresses.is_empty() {
            lost.broken = false;
            return;
        }
        let pause = lost.pause;
        lost.pause = (pause * 2).min(PAUSES[1]);
        // Whoever is in our table is on our side of a break.
        let ours: Vec<SocketAddr> =
            self.standing.iter().flat_map(|s| s.table.contacts()).map(|e| e.contact.address).collect();
        let elsewhere = |a: &&SocketAddr| **a != self.config.listen && !ours.contains(a);
        addresses.extend(self.config.bootstrap.iter().filter(elsewhere));
        let address = addresses[self.rng.random_range(0..addresses.len())];
        let objects = [Object::PublicKey(self.public_key())];
        self.ask(now, (address, None), MessageType::Bootstrap, &objects, Purpose::Return);
        let pause = self.jitter(pause, 0.75, 1.25);
        self.timers.set(Alarm::Merge, now + pause);
    }

    /// One of the lost is back: look ourselves up on its side.
    pub(crate) fn handle_return(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let lost = &mut self.membership.lost;
        let was_lost = lost.peers.iter().any(|(c, _)| c.address == remote);
        lost.peers.retain(|(c, _)| c.address != remote);
        self.handle_bootstrap_answer(now, remote, message);
        let (true, Some(id), Some(own)) = (was_lost, message.header.responder, self.node_id()) else {
            return;
        };
        let mut seeds = crate::membership::contacts_in(message);
        seeds.push(Contact { id, address: remote });
        self.search_with_seeds(now, *own.key(), Want::Peers, For::Upkeep, &seeds);
        self.look_soon(now);
    }

    /// A peer is new in the table. If it was lost, others will be back too.
    pub(crate) fn welcome_back(&mut self, now: Time, newcomer: &Contact) {
        let lost = &mut self.membership.lost;
        let before = lost.peers.len();
        lost.peers.retain(|(c, _)| c.id != newcomer.id);
        if lost.broken && lost.peers.len() < before {
            self.look_soon(now);
        }
    }

    fn look_soon(&mut self, now: Time) {
        self.membership.lost.pause = PAUSES[0];
        let soon = self.jitter(PAUSES[0], 0.25, 0.75);
        self.timers.set_by(Alarm::Merge, now + soon);
    }
}
