//! One lookup among ten million peers: the recursive rule of `node`, and behind it the search machine
//! of `overlay` itself.
//!
//! Lookups do not touch each other here, so each has a clock of its own. A hop knows the round trips to
//! the peers of its table. It takes the way that leads farthest for its time, asks somebody else beside
//! when the next hop is silent for longer than it usually is, and the answer goes straight to whoever
//! asked. If that comes to nothing the search goes on with [`overlay::Lookup`].

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use overlay::{Goal, Lookup, Route, lookup::Config};
use smallvec::SmallVec;
use wire::{Contact, Key, NodeId, Time};

use super::tables::{Entries, Entry, Tables};
use crate::net::{Net, PEER_PORT, host};

/// Peers a route names at most, and peers an answer names.
const WIDE: usize = overlay::overlay::MAX_ROUTE;
const WIDTH: usize = 8;
/// Next hops that a request is sent to at most.
const MAX_WAYS: usize = 4;
/// Copies that the originator sends by itself before it searches iteratively.
const ATTEMPTS: u32 = 3;
/// Bits that one hop leads on: three by the eight of a bucket, and one because the best is taken.
const BITS_PER_HOP: f64 = 4.0;
/// Messages to a silent hop: it is asked whether it lives, three times.
const PINGS: u64 = 3;
/// Time without an answer after which the originator sends another copy, in typical round trips, and at
/// most.
const USUAL: u32 = 6;
const THIRD: Duration = Duration::from_millis(625);
/// The patience with a hop, in its round trips: after four measurements four times the deviation of
/// RFC 6298 is 0.63 of a round trip.
const PATIENCE: f64 = 1.63;
/// The whole time of a lookup.
const LONGEST: Duration = Duration::from_millis(2_900);

/// Whose clock, wire and tables a lookup runs on.
pub(super) struct Ground<'a> {
    pub(super) tables: &'a Tables,
    pub(super) net: &'a Net,
    /// The median round trip.
    pub(super) typical: Duration,
    pub(super) replicas: usize,
}

/// What a lookup came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    pub(super) found: bool,
    pub(super) took: Duration,
    pub(super) hops: u32,
    /// Messages that the asker sent.
    pub(super) asked: u64,
    /// Requests, by whomever.
    pub(super) requests: u64,
    /// Acknowledgements and pings.
    pub(super) small: u64,
    /// Answers.
    pub(super) answers: u64,
    pub(super) iterative: bool,
}

impl Outcome {
    pub(super) fn messages(&self) -> u64 {
        self.requests + self.small + self.answers
    }
}

/// A peer that passes the request on; the first is the asker.
struct Hop {
    peer: u64,
    depth: u32,
    /// Next hops not tried yet, the best last.
    ways: SmallVec<[Entry; MAX_WAYS]>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// The request reaches a peer from this hop.
    Arrives { from: usize, peer: u64 },
    /// This hop's next one is silent, or refused.
    Silent(usize),
    /// The answer of a holder so many hops away.
    Answer(u32),
    /// Time for another copy.
    Again,
    /// Somebody said that there is nothing.
    Nothing,
}

impl Ground<'_> {
    fn path(&self, a: u64, b: u64) -> Duration {
        self.net.path(a as usize, b as usize)
    }

    /// Looks a key up that these peers hold, the asker not among them. `visit` hears of every peer that
    /// has work from it.
    pub(super) fn recursive(
        &self,
        asker: u64,
        key: u64,
        holders: &[u64],
        visit: &mut impl FnMut(u64),
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let mut queue = BinaryHeap::new();
        let mut made = 0u64;
        let mut push = |queue: &mut BinaryHeap<_>, at: Duration, what| {
            made += 1;
            queue.push(Reverse((at, made, what)));
        };
        let mut hops = vec![Hop { peer: asker, depth: 0, ways: self.ways(asker, key) }];
        let mut seen: SmallVec<[u64; 16]> = SmallVec::from_slice(&[asker]);
        let mut attempts = 1;
        push(&mut queue, Duration::ZERO, What::Silent(0));
        push(&mut queue, (self.typical * USUAL).min(THIRD), What::Again);
        while let Some(Reverse((now, _, what))) = queue.pop() {
            match what {
                What::Silent(hop) => {
                    let Some(next) = hops[hop].ways.pop() else { continue };
                    let peer = hops[hop].peer;
                    outcome.requests += 1;
                    outcome.asked += u64::from(hop == 0);
                    let path = self.path(peer, next.number);
                    if self.tables.is_live(&next) {
                        push(&mut queue, now + path, What::Arrives { from: hop, peer: next.number });
                    } else {
                        outcome.small += PINGS;
                        push(&mut queue, now + (path * 2).mul_f64(PATIENCE), What::Silent(hop));
                    }
                }
                What::Arrives { from, peer } => {
                    visit(peer);
                    // The acknowledgement, or the refusal of a request that was here before.
                    outcome.small += 1;
                    if seen.contains(&peer) {
                        push(&mut queue, now + self.path(hops[from].peer, peer), What::Silent(from));
                        continue;
                    }
                    seen.push(peer);
                    let depth = hops[from].depth + 1;
                    let back = now + self.path(peer, asker);
                    if holders.contains(&peer) {
                        outcome.answers += 1;
                        push(&mut queue, back, What::Answer(depth));
                        continue;
                    }
                    let ways = self.ways(peer, key);
                    if ways.is_empty() {
                        outcome.answers += 1;
                        push(&mut queue, back, What::Nothing);
                        continue;
                    }
                    hops.push(Hop { peer, depth, ways });
                    push(&mut queue, now, What::Silent(hops.len() - 1));
                }
                What::Answer(depth) => {
                    return Outcome { found: true, took: now, hops: depth, ..outcome };
                }
                What::Again if attempts < ATTEMPTS && !hops[0].ways.is_empty() => {
                    attempts += 1;
                    push(&mut queue, now, What::Silent(0));
                    push(&mut queue, now + (self.typical * USUAL).min(THIRD), What::Again);
                }
                What::Again | What::Nothing => {
                    return self.iterative(asker, key, holders, now, outcome, visit);
                }
            }
        }
        self.iterative(asker, key, holders, THIRD, outcome, visit)
    }

    /// The next hops of a peer, the best last: `node` takes the one that leads farthest for its time.
    fn ways(&self, peer: u64, key: u64) -> SmallVec<[Entry; MAX_WAYS]> {
        let holders_at = (self.tables.len() as f64 / self.replicas as f64).max(1.0).log2();
        let entries = self.tables.towards(peer, key, WIDE);
        let mut ways: SmallVec<[(u64, Entry); 32]> = entries
            .into_iter()
            .map(|entry| {
                let left = (holders_at - f64::from((entry.id ^ key).leading_zeros())).max(0.0) / BITS_PER_HOP;
                let cost = self.path(peer, entry.number) * 2 + self.typical.mul_f64(left);
                (cost.as_micros() as u64, entry)
            })
            .collect();
        ways.sort_unstable_by_key(|(cost, entry)| (*cost, entry.number));
        ways.truncate(MAX_WAYS);
        ways.into_iter().rev().map(|(_, entry)| entry).collect()
    }

    /// Goes on peer by peer, with what was spent so far.
    fn iterative(
        &self,
        asker: u64,
        key: u64,
        holders: &[u64],
        start: Duration,
        mut outcome: Outcome,
        visit: &mut impl FnMut(u64),
    ) -> Outcome {
        let seeds = contacts(&self.tables.towards(asker, key, WIDTH));
        let mut config = Config::new(overlay::Algorithm::Kademlia.metric());
        config.goal = Goal::Found(1);
        let mut lookup = Lookup::new(wide_key(key, 0), node_id(self.entry(asker)), &seeds, config);
        outcome.iterative = true;
        // What the law of round trips lets expect of an address never measured.
        let patience = self.typical.mul_f64(2.5);
        let mut answers = BTreeSet::new();
        let mut now = Time::ZERO + start;
        while !lookup.is_finished() && now < Time::ZERO + LONGEST {
            while let Some(ask) = lookup.poll_ask(now) {
                outcome.requests += 1;
                outcome.asked += 1;
                lookup.expect_by(&ask.contact.id, now + patience);
                let entry = entry_of(&ask.contact.id);
                if self.tables.is_live(&entry) {
                    answers.insert((now + self.path(asker, entry.number) * 2, entry.number));
                }
            }
            let wake = lookup.poll_timeout().map(|(at, _)| at);
            let answer = answers.first().map(|(at, _)| *at);
            let Some(next) = wake.into_iter().chain(answer).min() else { break };
            now = next;
            if answer != Some(now) {
                lookup.handle_timeout(now);
                continue;
            }
            let Some((_, peer)) = answers.pop_first() else { break };
            visit(peer);
            outcome.answers += 1;
            let route = Route::Toward(contacts(&self.tables.towards(peer, key, WIDTH)));
            lookup.handle_reply(now, &node_id(self.entry(peer)), &route, holders.contains(&peer));
        }
        let result = lookup.outcome();
        outcome.found = result.as_ref().is_some_and(|r| !r.holders.is_empty());
        outcome.hops = result.map_or(0, |r| r.hops.into());
        outcome.took = now.since(Time::ZERO);
        outcome
    }

    fn entry(&self, peer: u64) -> Entry {
        Entry { id: self.tables.id(peer), number: peer }
    }
}

/// The machine wants whole keys: the head, and behind it the number.
fn wide_key(head: u64, number: u64) -> Key {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&head.to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Key::from_slice(&bytes).expect("sixteen bytes make a key")
}

fn node_id(entry: Entry) -> NodeId {
    NodeId(wide_key(entry.id, entry.number))
}

fn entry_of(id: &NodeId) -> Entry {
    let word = |at: usize| {
        u64::from_be_bytes(id.key().as_bytes()[at..at + 8].try_into().expect("eight of sixteen bytes"))
    };
    Entry { id: word(0), number: word(8) }
}

fn contacts(entries: &Entries) -> Vec<Contact> {
    let contact =
        |e: &Entry| Contact { id: node_id(*e), address: (host(e.number as usize), PEER_PORT).into() };
    entries.iter().map(contact).collect()
}
