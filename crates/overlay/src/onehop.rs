//! OneHop: everybody knows everybody, for meshes up to about a thousand peers.
//!
//! Where the whole membership fits into a table, a lookup is one question (Gupta, Liskov and Rodrigues,
//! 2004). What it costs is news: each arrival and departure must reach all. Here news travels by
//! gossip. A peer that took in a newcomer, or lost somebody, tells a few others at random, giving and
//! taking; each of them sees for itself and tells a few more. Whom the gossip missed the *walk* finds:
//! round the ring from peer to peer, each naming those who stand behind it, swiftly after joining and
//! slowly for ever.
//!
//! The rules of all tables hold. A rumour of an arrival makes a ping, and an answer an entry. A rumour
//! of a death makes a suspect, who is named to nobody and asked only where nobody else is left; he is
//! forgotten when he has not answered us ourselves. With sessions of T seconds N peers cost each other
//! about 230 N / T bytes/s in pings alone: 64 at a thousand peers and an hour.
//!
//! The peers nearest to a key hold it, whichever way round the ring, as in [`bamboo`](crate::bamboo).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use wire::{Book, Contact, Distance, Key, NodeId, Seed, Time, seed::RngExt};

use crate::Algorithm;
use crate::care::NEVER;
use crate::overlay::{Entry, Evidence, MAX_ROUTE, Metric, News, Overlay, Reason, Route, Upkeep};
use crate::ring::{self, Change, Checks, Ring, Shape};

/// Near and responsible are one thing: the numerical distance, whichever way round.
pub const METRIC: Metric = Metric { rank: ring::around, progress: None };

/// Members known at most: with more the pings alone would exceed the budget.
const MEMBERS: usize = 2_048;

/// Somebody silent for ten minutes is asked, one in six seconds at most: news is how deaths are
/// heard of. The neighbours on either side watch each other closely.
const CHECKS: Checks = Checks {
    after: Duration::from_secs(600),
    next_after: Duration::from_secs(45),
    gap: Duration::from_secs(6),
};

/// Between two rounds of gossip, while there is news.
const GOSSIP: Duration = Duration::from_secs(12);

/// To how many others each piece of news is given. With three, and as many taken, an epidemic reaches
/// nineteen peers in twenty (Demers et al., 1987); the walk finds the rest.
const GIVEN: u8 = 3;

/// Arrivals and departures told in one message.
const ARRIVALS: usize = 10;
const DEPARTURES: usize = 6;

/// News that waits to be told; beyond it the oldest is left to the walk.
const MAX_NEWS: usize = 128;

/// Who was heard so lately is not suspected on a rumour.
const FRESH: Duration = Duration::from_secs(60);

/// Between two steps of the walk: after joining, at first, and at most, doubled while a round of the
/// walk finds nobody.
const WALK: (Duration, Duration, Duration) =
    (Duration::from_millis(400), Duration::from_secs(30), Duration::from_secs(240));

/// How many peers at our place shall have spoken.
const NEIGHBORS_WIDTH: usize = 6;

/// A peer's view of everybody.
#[derive(Debug)]
pub struct OneHop {
    ring: Ring,
    arrivals: VecDeque<(Contact, u8)>,
    departures: VecDeque<(NodeId, u8)>,
    gossip_at: Time,
    walk_at: Time,
    walk_wait: Duration,
    /// Up to whom the walk has come.
    walked: NodeId,
    /// Whether the first round of the walk is done.
    rounded: bool,
    /// Whether this round has found somebody.
    found: bool,
}

/// A OneHop with the default figures; see [`crate::build`]. It has no base: there are no steps.
pub fn build(local: NodeId, _base_bits: u8, seed: Seed, _now: Time) -> Box<dyn Overlay> {
    Box::new(OneHop::new(local, seed))
}

fn everybody(_eighth: &Distance) -> usize {
    MEMBERS
}

fn no_cell(_local: &Key, _key: &Key, _base_bits: u32) -> u16 {
    0
}

impl OneHop {
    fn new(local: NodeId, seed: Seed) -> Self {
        let shape = Shape {
            successors: everybody,
            predecessors: MAX_ROUTE / 2,
            cell: no_cell,
            base_bits: 1,
            checks: CHECKS,
            width: NEIGHBORS_WIDTH,
            // In a table of everybody each departure anywhere counts, and news hurried by it cost more than it
            // brought: 207 bytes/s instead of 167 with sessions of 47 minutes.
            measures_churn: false,
        };
        OneHop {
            ring: Ring::new(local, shape, seed),
            arrivals: VecDeque::new(),
            departures: VecDeque::new(),
            gossip_at: NEVER,
            walk_at: NEVER,
            walk_wait: WALK.1,
            walked: local,
            rounded: false,
            found: false,
        }
    }

    // --- news -----------------------------------------------------------------------------------

    fn hear(&mut self, now: Time, contact: Contact, rtt: Option<Duration>) {
        self.departures.retain(|(id, _)| *id != contact.id);
        match self.ring.hear(now, contact, rtt) {
            Change::Nothing => return,
            Change::First => self.join(now),
            Change::Near | Change::Far => {}
        }
        self.found = true;
        // A newcomer meets nothing but news; the others tell of it, not it of them.
        if self.rounded {
            push(&mut self.arrivals, (contact, GIVEN));
            self.plan_gossip(now);
        }
    }

    /// Somebody is gone, as we saw ourselves or heard.
    fn tell_departure(&mut self, now: Time, id: NodeId) {
        self.arrivals.retain(|(c, _)| c.id != id);
        if self.departures.iter().all(|(known, _)| *known != id) {
            push(&mut self.departures, (id, GIVEN));
            self.plan_gossip(now);
        }
    }

    fn plan_gossip(&mut self, now: Time) {
        if self.gossip_at == NEVER {
            self.gossip_at = now + self.ring.care.jittered(GOSSIP);
        }
    }

    fn gossip(&mut self, now: Time) {
        self.gossip_at = NEVER;
        let Some(with) = self.somebody() else { return };
        self.ring.care.wish(Upkeep::Exchange { with, give: true, rows: false });
        if self.arrivals.len() > ARRIVALS || self.departures.len() > DEPARTURES {
            self.plan_gossip(now);
        }
    }

    fn somebody(&mut self) -> Option<Contact> {
        let count = self.ring.all().count();
        let pick = (count > 0).then(|| self.ring.care.rng.random_range(0..count))?;
        self.ring.all().nth(pick).map(ring::contact)
    }

    // --- the walk and our own place ---------------------------------------------------------------

    fn join(&mut self, now: Time) {
        self.walk_wait = WALK.1;
        self.rounded = false;
        self.walked = self.ring.local();
        // Once our own place is known.
        let pause = Duration::from_millis(self.ring.care.rng.random_range(40..120));
        self.walk_at = now + pause * 8;
    }

    /// One step round the ring: the farthest of those whom the last step can have named is asked for
    /// those behind it.
    fn walk(&mut self, now: Time) {
        let from = self.ring.place(self.walked.key());
        let skip = usize::from(self.ring.contains(&self.walked));
        let ahead = self.ring.good(from + skip..self.ring.peers().len());
        // As many as one answer names; the last of them will name the next.
        match ahead.take(PAGE).last().map(ring::contact) {
            Some(with) => {
                self.walked = with.id;
                self.ring.care.wish(Upkeep::Exchange { with, give: false, rows: true });
            }
            None => self.finish_round(),
        }
        let wait = if self.rounded { self.walk_wait } else { WALK.0 };
        self.walk_at = now + self.ring.care.jittered(wait);
    }

    fn finish_round(&mut self) {
        self.walked = self.ring.local();
        let (_, least, most) = WALK;
        self.walk_wait = if self.found { least } else { (self.walk_wait * 2).min(most) };
        self.rounded = true;
        self.found = false;
    }
}

/// Peers that one page of a table names: as many as fit a datagram.
const PAGE: usize = 12;

fn push<T>(queue: &mut VecDeque<T>, news: T) {
    if queue.len() == MAX_NEWS {
        queue.pop_front();
    }
    queue.push_back(news);
}

/// Takes what is told next; what has been given often enough is dropped.
fn take<T: Copy>(queue: &mut VecDeque<(T, u8)>, most: usize) -> Vec<T> {
    let taken: Vec<(T, u8)> = (0..most).map_while(|_| queue.pop_front()).collect();
    queue.extend(taken.iter().filter(|(_, left)| *left > 1).map(|(news, left)| (*news, left - 1)));
    taken.into_iter().map(|(news, _)| news).collect()
}

impl Overlay for OneHop {
    fn algorithm(&self) -> Algorithm {
        Algorithm::OneHop
    }

    ring::views!();

    fn route(&self, key: &Key, count: usize) -> Route {
        let count = count.clamp(1, MAX_ROUTE);
        let own = ring::around(key, &self.ring.local());
        let nearest = self.ring.around(key, count);
        let nearer = nearest.partition_point(|p| ring::around(key, p.id()) < own);
        let contacts = nearest.into_iter().map(ring::contact);
        if nearer < count {
            Route::Replicas { contacts: contacts.take(count - 1).collect(), includes_self: true }
        } else {
            Route::Toward(contacts.take(count).collect())
        }
    }

    fn handle_peer(&mut self, now: Time, contact: Contact, evidence: Evidence) {
        match evidence {
            Evidence::Alive { rtt } => self.hear(now, contact, rtt),
            Evidence::Mentioned => self.ring.mention(now, contact),
        }
    }

    fn handle_failure(&mut self, now: Time, id: &NodeId) {
        let known = self.ring.get(id).is_some();
        self.ring.fail(now, id);
        if known && self.ring.get(id).is_none() {
            self.tell_departure(now, *id);
        }
    }

    fn handle_leave(&mut self, now: Time, id: &NodeId) {
        if self.ring.leave(now, id) != Change::Nothing {
            self.tell_departure(now, *id);
        }
    }

    fn news(&mut self, _now: Time) -> Option<News> {
        let arrived = take(&mut self.arrivals, ARRIVALS);
        Some(News { arrived, departed: take(&mut self.departures, DEPARTURES) })
    }

    fn handle_rumor(&mut self, now: Time, departed: &NodeId) {
        if self.ring.suspect(now, departed, FRESH) {
            self.tell_departure(now, *departed);
        }
    }

    fn handle_timeout(&mut self, now: Time) {
        if self.ring.peers().is_empty() {
            (self.walk_at, self.gossip_at) = (NEVER, NEVER);
        }
        if self.walk_at <= now {
            self.walk(now);
        }
        if self.gossip_at <= now {
            self.gossip(now);
        }
        self.ring.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<(Time, Reason)> {
        self.ring.poll_timeout(&[(self.walk_at, Reason::Refresh), (self.gossip_at, Reason::Gossip)])
    }
}

#[cfg(test)]
mod tests;
