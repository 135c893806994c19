//! What faults do to a peer: its clock, its speed, its life.

use std::collections::VecDeque;
use std::time::Duration;

use ::wire::{Socket, Time};
use node::Saved;

use crate::queue::Happening;
use crate::scenario::Event;
use crate::world::{Past, World};

use std::net::SocketAddr;

/// Datagrams that wait at the socket of a peer that stands still or lags; a kernel keeps about as many.
const SOCKET_QUEUE: usize = 256;

/// A clock that does not agree with the world's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// A moment of the world, and what the clock showed then.
    world: Time,
    local: Time,
    /// How many seconds pass on it in a second.
    rate: f64,
}

impl Clock {
    /// What the clock shows.
    pub(crate) fn shows(&self, now: Time) -> Time {
        self.local + now.since(self.world).mul_f64(self.rate)
    }

    /// When it will show `local`, or a little later.
    pub(crate) fn when(&self, local: Time) -> Time {
        self.world + local.since(self.local).mul_f64(1.0 / self.rate) + Duration::from_micros(2)
    }

    /// From now on it runs at another rate, and leaps first.
    fn change(&mut self, now: Time, leap: Duration, rate: f64) {
        *self = Clock { world: now, local: self.shows(now) + leap, rate };
    }
}

/// What is wrong with a peer.
#[derive(Default)]
pub(crate) struct Ailment {
    clock: Option<Clock>,
    /// The event that made it stand still.
    frozen: Option<usize>,
    waiting: VecDeque<(Socket, SocketAddr, Vec<u8>)>,
    /// Time that each datagram takes it, and until when it is busy.
    slow: Option<Duration>,
    busy: Time,
}

/// How a peer comes to an end, or nearly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Strike {
    /// It falls silent.
    Kill,
    /// It says goodbye.
    Leave,
    /// It crashes, and returns with what it saved.
    Restart,
    /// It crashes, and returns with its keys only.
    Torn,
    /// It goes on, but will return from what was saved now.
    DiskFull,
}

impl Strike {
    const ALL: [Strike; 5] = [Strike::Kill, Strike::Leave, Strike::Restart, Strike::Torn, Strike::DiskFull];

    fn share(self, event: &Event) -> Option<f64> {
        match self {
            Strike::Kill => event.kill,
            Strike::Leave => event.leave,
            Strike::Restart => event.restart,
            Strike::Torn => event.torn_state,
            Strike::DiskFull => event.disk_full,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Strike::Kill => "kill",
            Strike::Leave => "leave",
            Strike::Restart => "restart",
            Strike::Torn => "torn_state",
            Strike::DiskFull => "disk_full",
        }
    }
}

impl World<'_> {
    // ---- events begin and end ------------------------------------------------------------------

    /// One of the scenario's events begins.
    pub(crate) fn script(&mut self, index: usize) {
        let event = self.scenario.events[index];
        for strike in Strike::ALL {
            let Some(share) = strike.share(&event) else { continue };
            let chosen = self.chosen(share, event.among);
            let count = chosen.len();
            for (n, peer) in chosen.into_iter().enumerate() {
                let happening = Happening::Strike { event: index, peer, strike };
                self.spread(&event, n, count, happening);
            }
        }
        let crowd = event.join.unwrap_or(0.0) as usize;
        for n in 0..crowd {
            self.spread(&event, n, crowd, Happening::Join);
        }
        self.net.faults.note("join", crowd as u64);
        self.net.faults.begin(index, event);
        for peer in self.live.clone() {
            self.afflict_by(index, &event, peer);
        }
        self.leap_clocks(index, &event);
        if let Some(share) = event.nat_reboot {
            let faults = &self.net.faults;
            let hit = faults.hit_by(index, Some(share), &self.live);
            let rebooted = self.net.reboot_nats(|peer| hit.contains(&peer));
            self.net.faults.note("nat_reboot", rebooted);
        }
        self.net.faults.note("load", u64::from(event.load.is_some()));
        if !event.lasts() {
            return self.net.faults.end(index);
        }
        if event.for_s > 0.0 {
            self.queue.push(self.now + Duration::from_secs_f64(event.for_s), Happening::ScriptEnds(index));
        }
    }

    /// Number `n` of `count` happenings of an event, spread over its time.
    fn spread(&mut self, event: &Event, n: usize, count: usize, happening: Happening) {
        let after = event.spread_s * n as f64 / count.max(1) as f64;
        self.queue.push(self.now + Duration::from_secs_f64(after), happening);
    }

    /// An event is over, and what it changed is as before.
    pub(crate) fn script_ends(&mut self, index: usize) {
        let event = self.scenario.events[index];
        self.net.faults.end(index);
        let now = self.now;
        if event.slow.is_some() {
            self.ailments.values_mut().for_each(|a| a.slow = None);
        }
        if event.clock_skew.is_some() {
            let clocks = self.ailments.values_mut().filter_map(|a| a.clock.as_mut());
            clocks.for_each(|clock| clock.change(now, Duration::ZERO, 1.0));
            self.live.clone().into_iter().for_each(|peer| self.wake_now(peer));
        }
        let frozen = self.ailments.iter().filter(|(_, a)| a.frozen == Some(index));
        let frozen: Vec<usize> = frozen.map(|(peer, _)| *peer).collect();
        frozen.into_iter().for_each(|peer| self.thaw(peer));
    }

    /// Everything that is wrong befalls a peer that starts.
    pub(crate) fn afflict(&mut self, peer: usize) {
        for (index, event) in self.net.faults.events() {
            self.afflict_by(index, &event, peer);
        }
    }

    fn afflict_by(&mut self, index: usize, event: &Event, peer: usize) {
        let now = self.now;
        let hit = self.net.faults.is_hit_by(index, event.freeze, peer);
        if event.freeze.is_some() && hit && !self.is_needed(peer) {
            self.ailments.entry(peer).or_default().frozen = Some(index);
            self.net.faults.note("freeze", 1);
        }
        if !self.net.faults.is_hit_by(index, event.peers, peer) {
            return;
        }
        if let Some(ms) = event.slow {
            self.ailments.entry(peer).or_default().slow = Some(Duration::from_secs_f64(ms / 1e3));
            self.net.faults.note("slow", 1);
        }
        if let Some(ppm) = event.clock_skew {
            let ailment = self.ailments.entry(peer).or_default();
            let right = Clock { world: now, local: now, rate: 1.0 };
            ailment.clock.get_or_insert(right).change(now, Duration::ZERO, 1.0 + ppm / 1e6);
            self.net.faults.note("clock_skew", 1);
            self.wake_now(peer);
        }
    }

    fn leap_clocks(&mut self, index: usize, event: &Event) {
        let Some(seconds) = event.clock_jump else { return };
        let (now, leap) = (self.now, Duration::from_secs_f64(seconds));
        for peer in self.net.faults.hit_by(index, event.peers, &self.live) {
            let right = Clock { world: now, local: now, rate: 1.0 };
            let clock = self.ailments.entry(peer).or_default().clock.get_or_insert(right);
            let rate = clock.rate;
            clock.change(now, leap, rate);
            self.net.faults.note("clock_jump", 1);
            self.wake_now(peer);
        }
    }

    // ---- clocks and speed ----------------------------------------------------------------------

    /// What the clock of a peer shows now.
    pub(crate) fn clock(&self, peer: usize) -> Time {
        if self.ailments.is_empty() {
            return self.now;
        }
        self.ailments.get(&peer).and_then(|a| a.clock).map_or(self.now, |clock| clock.shows(self.now))
    }

    /// When the clock of a peer will show a time.
    pub(crate) fn when(&self, peer: usize, local: Time) -> Time {
        if self.ailments.is_empty() {
            return local;
        }
        self.ailments.get(&peer).and_then(|a| a.clock).map_or(local, |clock| clock.when(local))
    }

    /// Whether a peer stands still.
    pub(crate) fn is_frozen(&self, peer: usize) -> bool {
        !self.ailments.is_empty() && self.ailments.get(&peer).is_some_and(|a| a.frozen.is_some())
    }

    /// Keeps a datagram back from a peer that stands still or lags; `false` if nothing is wrong with it.
    pub(crate) fn hold_up(&mut self, to: usize, socket: Socket, remote: SocketAddr, bytes: &[u8]) -> bool {
        let now = self.now;
        let Some(ailment) = self.ailments.get_mut(&to) else { return false };
        let full = match (ailment.frozen, ailment.slow) {
            (None, None) => return false,
            (Some(_), _) => ailment.waiting.len() >= SOCKET_QUEUE,
            (None, Some(slow)) => ailment.busy.since(now) > slow * SOCKET_QUEUE as u32,
        };
        if full {
            self.lose("socket queue full");
            return true;
        }
        let bytes = bytes.to_vec();
        if ailment.frozen.is_some() {
            ailment.waiting.push_back((socket, remote, bytes));
        } else if let Some(slow) = ailment.slow {
            ailment.busy = ailment.busy.max(now) + slow;
            let at = ailment.busy;
            self.queue.push(at, Happening::Late { to, socket, remote, bytes });
        }
        true
    }

    fn thaw(&mut self, peer: usize) {
        let Some(ailment) = self.ailments.get_mut(&peer) else { return };
        ailment.frozen = None;
        for (socket, remote, mut bytes) in std::mem::take(&mut ailment.waiting) {
            self.deliver(peer, socket, remote, &mut bytes);
        }
        self.wake_now(peer);
    }

    // ---- ends and returns ----------------------------------------------------------------------

    /// An event hits a peer.
    pub(crate) fn strike(&mut self, index: usize, peer: usize, strike: Strike) {
        if self.peers[peer].leaving || self.is_needed(peer) {
            return;
        }
        let away = Duration::from_secs_f64(self.scenario.events[index].away_s());
        let Some(node) = &self.peers[peer].node else { return };
        let saved = match strike {
            Strike::Torn => Saved::default(),
            _ => node.save(),
        };
        self.net.faults.note(strike.name(), 1);
        match strike {
            Strike::Kill | Strike::Leave => return self.end(peer, strike == Strike::Leave),
            Strike::Restart | Strike::Torn => self.switch_off(peer),
            Strike::DiskFull => {}
        }
        self.kept.insert(peer, saved);
        self.queue.push(self.now + away, Happening::Return(peer));
    }

    /// A peer starts again with the keys it had.
    pub(crate) fn come_back(&mut self, peer: usize) {
        let Some(saved) = self.kept.remove(&peer) else { return };
        if self.peers[peer].leaving && self.peers[peer].node.is_some() {
            return;
        }
        if self.peers[peer].node.is_some() {
            self.switch_off(peer);
        }
        let now = self.now;
        let old = &mut self.peers[peer];
        let stayed = old.ended.unwrap_or(now).since(old.started);
        let books = std::mem::take(&mut old.books);
        self.past.push(Past { stayed, books });
        self.report.population.returned += 1;
        self.boot(peer, saved);
    }
}
