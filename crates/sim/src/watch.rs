//! What is looked at all the time: rows of the series, and what must hold at every moment.
//!
//! Every peer is inspected at intervals: its ledger agrees with the wire, everything it keeps has a
//! bound, and nobody stands in its table who never answered it. What does not hold is named with time
//! and peer. Whether a woken peer has something due is seen at each wake-up, in `world.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use node::directory::place_of_user;
use wire::p2pp::object::{COOKIE, COOKIE_LEN};
use wire::{Rng, RngExt, Time};

use crate::chance::{Use, stream};
use crate::queue::Happening;
use crate::report::series::Row;
use crate::scenario::Scenario;
use crate::world::{Books, World};

/// Networks up to this size note who answered whom.
pub const MAX_ACQUAINTED: usize = 2_000;
/// Happenings that may wait for each peer, on average: more means that something is not forgotten.
const QUEUE_PER_PEER: usize = 1_024;
/// Happenings that may wait in a small network.
const QUEUE_BASE: usize = 100_000;
/// Draws for a user whose record is looked for.
const DRAWS: usize = 4;

/// The memory of the one who watches.
pub(crate) struct Watch {
    measure_from: Time,
    /// By peer, who answered it, in order; nothing where that is not noted.
    heard: Option<Vec<Vec<u32>>>,
    rng: Rng,
    /// What peers had sent when measuring began.
    pub(crate) baseline: BTreeMap<usize, Books>,
    /// What peers that are no more sent, by function.
    gone: BTreeMap<&'static str, u64>,
    last_total: BTreeMap<&'static str, u64>,
    last_tick: Time,
    lookups_seen: usize,
    pub(crate) rows: Vec<Row>,
    pub(crate) queue_peak: usize,
}

impl Watch {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let notes = scenario.invariants.answered
            && scenario.invariants.every_s > 0.0
            && scenario.nodes <= MAX_ACQUAINTED;
        Watch {
            measure_from: Time::ZERO + Duration::from_secs_f64(scenario.measure_from_s),
            heard: notes.then(Vec::new),
            rng: stream(scenario.seed, Use::Sample),
            baseline: BTreeMap::new(),
            gone: BTreeMap::new(),
            last_total: BTreeMap::new(),
            last_tick: Time::ZERO,
            lookups_seen: 0,
            rows: Vec::new(),
            queue_peak: 0,
        }
    }

    /// Whether what happens now counts.
    pub(crate) fn is_measuring(&self, now: Time) -> bool {
        now >= self.measure_from
    }

    /// When figures begin to count.
    pub(crate) fn measures_from(&self) -> Time {
        self.measure_from
    }

    /// Whether it is noted who answers whom.
    pub(crate) fn notes_answers(&self) -> bool {
        self.heard.is_some()
    }

    /// A datagram reached a peer: notes who sent it if it answers something (T = 1x, or A; see the
    /// header's layout in `wire::p2pp::header`). A request that ends with a cookie answers that cookie; a frame of
    /// a link, unless it asks for one, answers the frame before.
    pub(crate) fn heard(&mut self, to: usize, from: Option<usize>, bytes: &[u8]) {
        let is_p2pp = bytes.first().is_some_and(|flags| flags & 0xC0 == 0xC0);
        let is_frame =
            bytes.first().is_some_and(|first| (80..128).contains(first) && (1..=3).contains(&(first % 16)));
        let answers = is_frame || is_p2pp && (bytes[0] & 0b0010_1000 != 0 || ends_with_a_cookie(bytes));
        let (Some(heard), Some(from), true) = (&mut self.heard, from, answers) else { return };
        if heard.len() <= to {
            heard.resize(to + 1, Vec::new());
        }
        let from = from as u32;
        if let Err(place) = heard[to].binary_search(&from) {
            heard[to].insert(place, from);
        }
    }

    /// A peer is no more.
    pub(crate) fn forget(&mut self, peer: usize, books: &Books) {
        if let Some(heard) = self.heard.as_mut().and_then(|heard| heard.get_mut(peer)) {
            *heard = Vec::new();
        }
        for (function, sent) in &books.by_function {
            *self.gone.entry(function).or_default() += sent;
        }
    }
}

/// Whether a message has a cookie as its last object, as whoever was asked for one appends it.
fn ends_with_a_cookie(message: &[u8]) -> bool {
    let head = [COOKIE, 0, 0, COOKIE_LEN as u8];
    let start = message.len().checked_sub(head.len() + COOKIE_LEN);
    start.is_some_and(|start| message[start..].starts_with(&head))
}

impl World<'_> {
    /// From now on bytes count.
    pub(crate) fn begin_measuring(&mut self) {
        self.past.clear();
        for peer in self.live.clone() {
            self.close_books(peer);
            self.watch.baseline.insert(peer, self.peers[peer].books.clone());
        }
    }

    /// Adds a row to the series.
    pub(crate) fn tick(&mut self) {
        let interval = Duration::from_secs_f64(self.scenario.series_s);
        self.queue.push(self.now + interval, Happening::Tick);
        let mut total = self.watch.gone.clone();
        for peer in &self.live {
            let Some(node) = &self.peers[*peer].node else { continue };
            for (function, _, sent) in node.ledger().totals() {
                *total.entry(function.name()).or_default() += sent;
            }
        }
        let seconds = self.now.since(self.watch.last_tick).as_secs_f64();
        let share = (seconds * self.live.len() as f64).max(1e-9);
        let since = |name: &str| self.watch.last_total.get(name).copied().unwrap_or(0);
        // Peers on their way out are in neither sum for a moment.
        let bytes = total.iter().map(|(name, sent)| (*name, sent.saturating_sub(since(name)) as f64 / share));
        let bytes_per_s = bytes.collect();
        let lookups = &self.times.log[self.watch.lookups_seen..];
        let mut times: Vec<f64> = lookups.iter().filter(|l| l.found).map(|l| f64::from(l.ms)).collect();
        times.sort_by(f64::total_cmp);
        let row = Row {
            at_s: self.now.as_micros() as f64 / 1e6,
            live: self.live.len(),
            joined: self.report.population.joined + self.report.population.returned,
            gone: self.report.population.left + self.report.population.crashed,
            lookups: lookups.len() as u64,
            found: times.len() as u64,
            lookup_p50_ms: crate::report::percentile(&times, 0.5),
            lookup_p95_ms: crate::report::percentile(&times, 0.95),
            bytes_per_s,
            consistency: self.consistency(),
            waiting: self.queue.len(),
        };
        self.watch.lookups_seen = self.times.log.len();
        self.watch.last_total = total;
        self.watch.last_tick = self.now;
        self.watch.rows.push(row);
    }

    /// Of a sample of settled users, the share whose record is held by the live peer that is nearest to
    /// its place as the algorithm measures it.
    fn consistency(&mut self) -> Option<f64> {
        let algorithm = self.scenario.algorithm().ok()?;
        let rank = algorithm.metric().rank;
        // Where keys have no place, any holder will do.
        let anywhere = algorithm.walks().is_some();
        let (mut held, mut asked) = (0, 0);
        for _ in 0..self.scenario.invariants.sample {
            let Some(aor) = self.a_settled_user() else { continue };
            let place = place_of_user(self.key_hash, &aor);
            let nearest = self
                .live
                .iter()
                .filter(|peer| !self.net.faults.is_client(**peer))
                .filter_map(|peer| {
                    let node = self.peers[*peer].node.as_ref().filter(|n| n.is_online())?;
                    Some((rank(&place.0, &self.peers[*peer].id), node))
                })
                .min_by_key(|(rank, _)| *rank);
            asked += 1;
            if anywhere {
                let nodes = self.live.iter().filter_map(|peer| self.peers[*peer].node.as_ref());
                held += u32::from(nodes.into_iter().any(|node| node.holds(&place)));
                continue;
            }
            held += u32::from(nearest.is_some_and(|(_, node)| node.holds(&place)));
        }
        (asked > 0).then(|| f64::from(held) / f64::from(asked))
    }

    fn a_settled_user(&mut self) -> Option<String> {
        (0..DRAWS).find_map(|_| {
            let peer = *self.live.get(self.watch.rng.random_range(0..self.live.len().max(1)))?;
            let user = self.peers[peer].users.first()?;
            let settled = self.now.since(user.published?) >= self.scenario.settle();
            settled.then(|| user.aor.clone())
        })
    }

    /// Looks at every peer, and at the queue.
    pub(crate) fn check_everybody(&mut self) {
        let every = Duration::from_secs_f64(self.scenario.invariants.every_s);
        self.queue.push(self.now + every, Happening::Check);
        for peer in self.live.clone() {
            self.check_books(peer);
            self.check_sizes(peer);
            self.check_table(peer);
        }
        let (now, waiting, peers) = (self.now, self.queue.len(), self.live.len());
        self.watch.queue_peak = self.watch.queue_peak.max(waiting);
        if waiting > QUEUE_BASE + QUEUE_PER_PEER * peers {
            let what = || format!("{now:?}: {waiting} happenings wait for {peers} peers");
            self.violations.add_kind("the queue grows without bound", what);
        }
    }

    fn check_sizes(&mut self, peer: usize) {
        let Some(node) = &self.peers[peer].node else { return };
        let (sizes, most, now) = (node.sizes(), node::Sizes::MOST, self.now);
        for (what, size, most) in [
            ("entries in the table", sizes.table, most.table),
            ("records", sizes.records, most.records),
            ("requests under way", sizes.requests, most.requests),
            ("requests served", sizes.served, most.served),
            ("searches", sizes.searches, most.searches),
        ] {
            if size > most {
                let text = || format!("{now:?}: peer {peer} keeps {size} {what}, above {most}");
                self.violations.add_kind("something has no bound", text);
            }
        }
    }

    fn check_table(&mut self, peer: usize) {
        let (Some(heard), Some(node)) = (&self.watch.heard, &self.peers[peer].node) else { return };
        let heard = heard.get(peer).map_or(&[][..], Vec::as_slice);
        let stranger = node.known().into_iter().find(|known| {
            let known = self.net.peer_at(&known.address);
            known.is_none_or(|known| heard.binary_search(&(known as u32)).is_err())
        });
        if let Some(stranger) = stranger {
            let now = self.now;
            let what = || format!("{now:?}: peer {peer} has {} in its table", stranger.address);
            self.violations.add_kind("in a table without an answer", what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::p2pp::{Builder, Code, Header, MessageType, Object, TransactionId};
    use wire::{HashAlgorithm, NodeId};

    #[test]
    fn only_who_answers_has_been_heard() {
        let mut watch = Watch::new(&Scenario::default());
        let id = NodeId(HashAlgorithm::Sha256.digest(b"a"));
        let request = Header::request(MessageType::KeepAlive, TransactionId(1), id);
        let answers = [request.answer(Code::OK, id), request.acknowledgement(id)];
        watch.heard(0, Some(1), &Builder::new(&request).finish());
        watch.heard(0, Some(2), b"\x28 is not P2PP");
        assert_eq!(watch.heard.as_ref().unwrap().first(), None);
        for (n, answer) in (3..).zip(answers) {
            watch.heard(0, Some(n), &Builder::new(&answer).finish());
        }
        let proof = Builder::new(&request).with(&Object::Cookie([7; COOKIE_LEN]));
        watch.heard(0, Some(5), &proof.finish());
        assert_eq!(watch.heard.unwrap()[0], [3, 4, 5]);
    }

    /// What stands in the violations after a minute of twenty peers and some mischief.
    fn seen(mischief: impl FnOnce(&mut World<'_>)) -> Vec<String> {
        let scenario: Scenario = "nodes = 20\nlookups_per_s = 0".parse().unwrap();
        let mut observer = ();
        let mut world = World::new(&scenario, &mut observer);
        world.plan();
        world.play_until(Time::from_secs(59));
        mischief(&mut world);
        world.play_until(Time::from_secs(61));
        world.violations.finish()
    }

    #[test]
    fn what_does_not_hold_is_named_with_time_and_peer() {
        assert_eq!(seen(|_| {}), [""; 0]);
        let wrong = seen(|world| world.peers[7].books.sent += 1);
        assert!(wrong[0].starts_with("the ledger is wrong: 60.000000s: peer 7"), "{wrong:?}");
        let strangers = seen(|world| {
            world.watch.heard.as_mut().unwrap()[4].clear();
        });
        assert!(
            strangers[0].starts_with("in a table without an answer: 60.000000s: peer 4"),
            "{strangers:?}"
        );
        let crowd = seen(|world| {
            (0..QUEUE_BASE + 30_000).for_each(|_| world.queue.push(Time::from_secs(999), Happening::Tick));
        });
        assert!(crowd[0].starts_with("the queue grows without bound: 60.000000s"), "{crowd:?}");
    }
}
