//! What faults do to a datagram.

use std::time::Duration;

use ::wire::p2pp::tlv::{self, IGNORABLE};
use ::wire::p2pp::{Builder, Message};
use ::wire::{RngExt, Time};

use super::{Active, Faults, is_within};
use crate::chance::{exponential, mix, unit};
use crate::net::HEADERS;
use crate::scenario::Event;

/// A number that no object of this version has.
const UNKNOWN_OBJECT: u8 = 0xEE;

impl Faults {
    /// The share of datagrams lost between two peers, if an event says so.
    pub(crate) fn loss(&self, from: usize, to: usize) -> Option<f64> {
        let loss = |a: &&Active| a.event.loss.is_some() && (self.befalls(a, from) || self.befalls(a, to));
        self.active.iter().rev().find(loss)?.event.loss
    }

    /// Sends a datagram through everything that is wrong: how much later it comes, and how long after it
    /// its copy, or why it is lost.
    pub(crate) fn pass(
        &mut self,
        now: Time,
        from: usize,
        to: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<(Duration, Option<Duration>), &'static str> {
        let (mut late, mut again) = (Duration::ZERO, None);
        for n in 0..self.active.len() {
            let active = self.active[n];
            if let Some(why) = self.lost(now, &active, from, to, bytes.len()) {
                self.note(why, 1);
                return Err(why);
            }
            self.change(&active, from, bytes);
            late += self.late(now, &active, from, to, bytes.len())?;
            if self.happens(active.event.duplicate, &active, from, to) {
                self.note("duplicate", 1);
                again = Some(self.some_time(Event::REORDER_MS));
            }
        }
        Ok((late, again))
    }

    /// Whether a fault that is a share of datagrams happens to one between peers it befalls.
    fn happens(&mut self, share: Option<f64>, active: &Active, from: usize, to: usize) -> bool {
        let Some(share) = share else { return false };
        let here = self.befalls(active, from) || self.befalls(active, to);
        here && share > 0.0 && self.chance() <= share
    }

    /// Why an event loses a datagram, if it does.
    fn lost(
        &mut self,
        now: Time,
        active: &Active,
        from: usize,
        to: usize,
        len: usize,
    ) -> Option<&'static str> {
        let event = &active.event;
        let key = active.key;
        let side = |peer: usize| is_within(event.partition, key, peer);
        if event.partition.is_some() && side(from) != side(to) {
            return Some("partition");
        }
        let island = |count: f64, peer: usize| mix(key ^ peer as u64) % count as u64;
        if event.islands.is_some_and(|count| island(count, from) != island(count, to)) {
            return Some("islands");
        }
        let pair = mix(mix(key ^ from.min(to) as u64) ^ from.max(to) as u64);
        let is_pair = |share: Option<f64>| share.is_some_and(|s| s > 0.0 && unit(pair) <= s);
        if is_pair(event.no_path) {
            return Some("no_path");
        }
        if is_pair(event.one_way) && (mix(pair) & 1 == 0) == (from < to) {
            return Some("one_way");
        }
        if self.hits(active, event.blackhole, to) {
            return Some("blackhole");
        }
        let down = |peer: usize| is_down(now, event, key, peer);
        let flaps = |peer: usize| self.hits(active, event.flap, peer) && down(peer);
        if event.flap.is_some() && (flaps(from) || flaps(to)) {
            return Some("flap");
        }
        let here = self.befalls(active, from) || self.befalls(active, to);
        if here && event.path_mtu.is_some_and(|mtu| len as f64 > mtu) {
            return Some("path_mtu");
        }
        for (share, name, at) in [(event.loss_in, "loss_in", to), (event.loss_out, "loss_out", from)] {
            if share.is_some_and(|s| s > 0.0 && self.befalls(active, at) && self.chance() <= s) {
                return Some(name);
            }
        }
        let bursts = event.burst_loss.filter(|share| *share > 0.0 && self.befalls(active, to));
        bursts.filter(|share| self.is_in_burst(now, event, *share, to)).map(|_| "burst_loss")
    }

    /// The model of Gilbert: a link is good or bad, for times without memory.
    fn is_in_burst(&mut self, now: Time, event: &Event, share: f64, peer: usize) -> bool {
        let bad_s = if event.burst_ms > 0.0 { event.burst_ms } else { Event::BURST_MS } / 1e3;
        let good_s = bad_s * (1.0 - share) / share;
        let (mut bad, mut until) = self.bursts.get(&peer).copied().unwrap_or((true, Time::ZERO));
        if until == Time::ZERO {
            // The first look finds either state as often as it lasts.
            bad = self.chance() > share;
            until = now;
        }
        while until <= now {
            bad = !bad;
            let lasts = exponential(&mut self.rng, if bad { bad_s } else { good_s });
            until += Duration::from_secs_f64(lasts.max(1e-6));
        }
        self.bursts.insert(peer, (bad, until));
        bad
    }

    /// Changes what an event changes in a datagram.
    fn change(&mut self, active: &Active, from: usize, bytes: &mut Vec<u8>) {
        let event = &active.event;
        if self.hits(active, event.unknown_objects, from)
            && let Some(later) = with_unknown_object(bytes)
        {
            *bytes = later;
            self.note("unknown_objects", 1);
        }
        if self.hits(active, event.foreign_version, from) && Message::parse(bytes).is_ok() {
            bytes[1] = bytes[1].wrapping_add(1);
            self.note("foreign_version", 1);
        }
        if self.happens(event.corrupt, active, from, from) && !bytes.is_empty() {
            let bit = self.rng.random_range(0..bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            self.note("corrupt", 1);
        }
        if self.happens(event.truncate, active, from, from) && !bytes.is_empty() {
            let keep = self.rng.random_range(0..bytes.len());
            bytes.truncate(keep);
            self.note("truncate", 1);
        }
    }

    /// How much later an event makes a datagram.
    fn late(
        &mut self,
        now: Time,
        active: &Active,
        from: usize,
        to: usize,
        len: usize,
    ) -> Result<Duration, &'static str> {
        let event = &active.event;
        let mut late = Duration::ZERO;
        if let Some(kbit) = event.bandwidth.filter(|_| self.befalls(active, from)) {
            let most = if event.queue_ms > 0.0 { event.queue_ms } else { Event::QUEUE_MS };
            let free = self.lines.get(&from).copied().unwrap_or(now).max(now);
            self.note("bandwidth", 1);
            if free.since(now) > Duration::from_secs_f64(most / 1e3) {
                return Err("bandwidth");
            }
            let sent = free + Duration::from_secs_f64((len as u64 + HEADERS) as f64 * 8.0 / (kbit * 1e3));
            self.lines.insert(from, sent);
            late += sent.since(now);
        }
        if self.happens(event.reorder, active, from, to) {
            self.note("reorder", 1);
            late += self.some_time(Event::REORDER_MS);
        }
        if !(self.befalls(active, from) || self.befalls(active, to)) {
            return Ok(late);
        }
        if let Some(ms) = event.delay {
            self.note("delay", 1);
            late += Duration::from_secs_f64(ms / 1e3);
        }
        if let Some(ms) = event.jitter {
            self.note("jitter", 1);
            late += self.some_time(ms);
        }
        Ok(late)
    }
}

/// Whether the line of a peer that flaps is down.
fn is_down(now: Time, event: &Event, key: u64, peer: usize) -> bool {
    let period = if event.period_s > 0.0 { event.period_s } else { Event::PERIOD_S };
    let phase = unit(mix(key ^ mix(peer as u64))) * 2.0;
    (now.as_micros() as f64 / 1e6 / period + phase) as u64 % 2 == 1
}

/// A message as a later minor version might send it: with an object that may be skipped.
fn with_unknown_object(bytes: &[u8]) -> Option<Vec<u8>> {
    let message = Message::parse(bytes).ok()?;
    let mut later = Builder::resume(&message).finish();
    tlv::emit(&mut later, UNKNOWN_OBJECT, IGNORABLE, |value| value.extend_from_slice(b"later"));
    let body = u32::from_be_bytes(later[28..32].try_into().ok()?) + (later.len() - bytes.len()) as u32;
    later[28..32].copy_from_slice(&body.to_be_bytes());
    Some(later)
}
