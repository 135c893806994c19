//! The view of a client: three peers that carry its requests, and nothing else.
//!
//! A client uses the overlay without being part of it. It holds no keys and knows no neighbours; it
//! is *attached* to a few peers, sends its requests through whichever answers fastest, and is found
//! through any of them. Three, because with sessions of an hour a peer is gone half a minute after
//! somebody last heard it once in a hundred times, and three at once once in a million.
//!
//! Nothing else of an algorithm is needed but its metric, so this one view serves them all. It keeps
//! its links warm (the owner's NAT forgets a silent mapping), and looks for another peer, among those
//! nearest to its own identifier, as soon as one of the three is lost.

use std::collections::VecDeque;
use std::time::Duration;

use wire::{Contact, Key, NodeId, Rng, Seed, Time, seed::RngExt};

use crate::Algorithm;
use crate::overlay::{Entry, Evidence, MAX_ROUTE, Overlay, Reason, Route, Standing, Upkeep};
use crate::recent::Recent;

/// Peers a client is attached to.
pub const ATTACHMENTS: usize = 3;

/// How often each attachment is asked whether it lives, jittered by a tenth.
///
/// RFC 4787 (REQ-5) wants UDP mappings kept for two minutes, but many boxes forget after 30 s. Three
/// questions of 92 bytes in 25 s are 11 bytes/s.
pub const KEEP_WARM: Duration = Duration::from_secs(25);

/// A lost attachment is looked for again after this time, doubled with each attempt up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// Peers that answered and could become attachments.
const SPARES: usize = 8;

/// Who failed, or refused a client, is left alone for this time.
const LEFT_ALONE: Duration = Duration::from_secs(300);

/// How many of the peers nearest to us a search for attachments hears.
const WIDTH: usize = 4;

/// Wishes and newcomers are bounded by what they are about: pings by the attachments, lookups by one.
#[derive(Debug)]
pub struct Attached {
    local: NodeId,
    algorithm: Algorithm,
    rng: Rng,
    /// Peers we are attached to, or asked to be.
    peers: Vec<Link>,
    spares: VecDeque<Contact>,
    failed: Recent,
    wishes: VecDeque<Upkeep>,
    newcomers: VecDeque<Contact>,
    search_at: Option<Time>,
    attempts: u32,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    contact: Contact,
    heard: Time,
    rtt: Option<Duration>,
    ping_at: Time,
}

impl Attached {
    /// A client of an overlay that routes by `algorithm`, attached to nobody yet.
    pub fn new(algorithm: Algorithm, local: NodeId, seed: Seed) -> Self {
        Attached {
            local,
            algorithm,
            rng: seed.rng(),
            peers: Vec::new(),
            spares: VecDeque::new(),
            failed: Recent::default(),
            wishes: VecDeque::new(),
            newcomers: VecDeque::new(),
            search_at: None,
            attempts: 0,
        }
    }

    fn jittered(&mut self, span: Duration) -> Duration {
        span.mul_f32(self.rng.random_range(0.9..1.1f32))
    }

    /// Takes the spare nearest to us as an attachment, or plans a search for others.
    fn fill(&mut self, now: Time) {
        while self.peers.len() < ATTACHMENTS {
            let local = self.local;
            let nearest = (0..self.spares.len()).min_by_key(|&i| self.rank(local.key(), &self.spares[i].id));
            let Some(contact) = nearest.and_then(|i| self.spares.remove(i)) else {
                let pause = (PAUSE * (1 << self.attempts.min(6))).min(MAX_PAUSE);
                let at = now + self.jittered(pause);
                self.search_at.get_or_insert(at);
                return;
            };
            let ping_at = now + self.jittered(KEEP_WARM);
            self.peers.push(Link { contact, heard: now, rtt: None, ping_at });
            self.newcomers.push_back(contact);
        }
        self.search_at = None;
        self.attempts = 0;
    }

    fn forget(&mut self, now: Time, id: &NodeId) {
        self.spares.retain(|c| c.id != *id);
        self.newcomers.retain(|c| c.id != *id);
        let before = self.peers.len();
        self.peers.retain(|p| p.contact.id != *id);
        if self.peers.len() < before {
            self.fill(now);
        }
    }
}

impl Overlay for Attached {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn local(&self) -> NodeId {
        self.local
    }

    fn route(&self, _key: &Key, count: usize) -> Route {
        let mut links: Vec<&Link> = self.peers.iter().collect();
        links.sort_by_key(|l| (l.rtt.is_none(), l.rtt));
        let spares = self.spares.iter().copied();
        let all = links.into_iter().map(|l| l.contact).chain(spares);
        Route::Toward(all.take(count.min(MAX_ROUTE)).collect())
    }

    fn handle_peer(&mut self, now: Time, contact: Contact, evidence: Evidence) {
        let Evidence::Alive { rtt } = evidence else { return };
        if contact.id == self.local {
            return;
        }
        if let Some(link) = self.peers.iter_mut().find(|l| l.contact.id == contact.id) {
            link.contact = contact;
            link.heard = now;
            link.rtt = rtt.or(link.rtt);
            return;
        }
        if self.failed.remembers(now, &contact.id) || self.spares.iter().any(|c| c.id == contact.id) {
            return;
        }
        if self.spares.len() == SPARES {
            self.spares.pop_front();
        }
        self.spares.push_back(contact);
        // The answers to one search come together; the nearest of them shall be taken.
        if self.peers.len() < ATTACHMENTS {
            let soon = now + Duration::from_secs(1);
            self.search_at = Some(self.search_at.map_or(soon, |at| at.min(soon)));
        }
    }

    fn handle_failure(&mut self, now: Time, id: &NodeId) {
        self.failed.remember(now, id, LEFT_ALONE);
        self.forget(now, id);
    }

    fn handle_leave(&mut self, now: Time, id: &NodeId) {
        self.handle_failure(now, id);
    }

    fn handle_timeout(&mut self, now: Time) {
        if self.search_at.is_some_and(|at| at <= now) {
            self.search_at = None;
            self.fill(now);
            if self.peers.len() < ATTACHMENTS {
                self.attempts += 1;
                if self.wishes.iter().all(|w| !matches!(w, Upkeep::Lookup { .. })) {
                    self.wishes.push_back(Upkeep::Lookup { key: *self.local.key(), width: WIDTH });
                }
            }
        }
        for i in 0..self.peers.len() {
            if self.peers[i].ping_at <= now {
                let next = now + self.jittered(KEEP_WARM);
                self.peers[i].ping_at = next;
                let contact = self.peers[i].contact;
                self.wishes.retain(|w| *w != Upkeep::Ping(contact));
                self.wishes.push_back(Upkeep::Ping(contact));
            }
        }
    }

    fn poll_timeout(&self) -> Option<(Time, Reason)> {
        let pings = self.peers.iter().map(|l| (l.ping_at, Reason::Check));
        pings.chain(self.search_at.map(|at| (at, Reason::Neighbors))).min()
    }

    fn poll_upkeep(&mut self) -> Option<Upkeep> {
        self.wishes.pop_front()
    }

    fn poll_newcomer(&mut self) -> Option<Contact> {
        self.newcomers.pop_front()
    }

    /// A client's links are lost if it slows down, and cost less than any ceiling.
    fn set_pace(&mut self, _factor: f32) {}

    fn contacts(&self) -> Vec<Entry> {
        let entry = |l: &Link| Entry {
            row: 0,
            column: 0,
            contact: l.contact,
            last_seen: l.heard,
            rtt: l.rtt,
            standing: Standing::Good,
        };
        self.peers.iter().map(entry).collect()
    }

    fn neighbors(&self) -> Vec<Contact> {
        self.peers.iter().map(|l| l.contact).collect()
    }

    fn rtt(&self, id: &NodeId) -> Option<Duration> {
        self.peers.iter().find(|l| l.contact.id == *id)?.rtt
    }

    fn len(&self) -> usize {
        self.peers.len()
    }

    fn contains(&self, id: &NodeId) -> bool {
        self.peers.iter().any(|l| l.contact.id == *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::HashAlgorithm;

    fn contact(n: u8) -> Contact {
        let id = NodeId(HashAlgorithm::Sha256.digest(&[n]));
        Contact { id, address: ([10, 0, 0, n], 7080).into() }
    }

    fn client() -> Attached {
        Attached::new(Algorithm::Kademlia, contact(0).id, Seed::from_number(1))
    }

    const ALIVE: Evidence = Evidence::Alive { rtt: Some(Duration::from_millis(9)) };

    fn seconds(s: u64) -> Time {
        Time::from_secs(s)
    }

    fn newcomers(client: &mut Attached) -> Vec<Contact> {
        std::iter::from_fn(|| client.poll_newcomer()).collect()
    }

    #[test]
    fn a_client_attaches_to_the_three_nearest_of_those_that_answered() {
        let mut client = client();
        client.handle_peer(seconds(0), contact(9), Evidence::Mentioned);
        for n in 1..8 {
            client.handle_peer(seconds(0), contact(n), ALIVE);
        }
        client.handle_timeout(seconds(2));
        let own = contact(0).id;
        let mut nearest: Vec<Contact> = (1..8).map(contact).collect();
        nearest.sort_by_key(|c| client.rank(own.key(), &c.id));
        assert_eq!(newcomers(&mut client), nearest[..3]);
        assert_eq!(client.len(), ATTACHMENTS);
    }

    #[test]
    fn each_attachment_is_asked_before_a_nat_forgets_it() {
        let mut client = client();
        for n in 1..4 {
            client.handle_peer(seconds(0), contact(n), ALIVE);
        }
        let mut pings = 0;
        for s in 1..=300 {
            client.handle_timeout(seconds(s));
            pings += std::iter::from_fn(|| client.poll_upkeep()).count();
            (1..4).for_each(|n| client.handle_peer(seconds(s), contact(n), ALIVE));
        }
        assert!((30..=42).contains(&pings), "{pings} pings in five minutes");
    }

    #[test]
    fn a_lost_attachment_is_replaced_and_never_by_itself() {
        let mut client = client();
        for n in 1..5 {
            client.handle_peer(seconds(0), contact(n), ALIVE);
        }
        client.handle_timeout(seconds(2));
        let first = newcomers(&mut client);
        client.handle_failure(seconds(3), &first[0].id);
        let next = newcomers(&mut client);
        assert_eq!(next.len(), 1, "the spare takes its place");
        assert!(!first.contains(&next[0]));
        client.handle_failure(seconds(4), &first[1].id);
        client.handle_peer(seconds(5), first[0], ALIVE);
        assert!(newcomers(&mut client).is_empty());
        let (at, _) = client.poll_timeout().unwrap();
        client.handle_timeout(at);
        assert!(matches!(client.poll_upkeep(), Some(Upkeep::Lookup { .. })));
    }

    #[test]
    fn a_client_sends_everything_through_its_attachments_and_holds_nothing() {
        let mut client = client();
        assert_eq!(client.route(contact(7).id.key(), 5), Route::Toward(vec![]));
        for n in 1..4 {
            client.handle_peer(seconds(0), contact(n), ALIVE);
        }
        client.handle_timeout(seconds(2));
        let route = client.route(contact(7).id.key(), 5);
        assert!(!route.includes_self());
        assert_eq!(route.contacts().len(), 3);
    }
}
