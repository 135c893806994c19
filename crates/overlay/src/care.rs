//! What the care for any table needs besides the rule of whom to know: wishes for the engine, the
//! pings of peers that were mentioned, jitter, pace, and the suspicion that it is we who are cut off.
//!
//! A mention makes a ping, and an answer an entry. Those mentioned wait here, the most wanted first,
//! and are asked at most eight at once and one in four seconds in the long run: at 230 bytes for
//! question and answer that caps their cost at 58 bytes/s, however much is mentioned. A joining peer,
//! to whom most are news, may ask four times as fast.

use std::collections::VecDeque;
use std::time::Duration;

use wire::{Contact, Distance, NodeId, Rng, Seed, Time, seed::RngExt};

use crate::overlay::Upkeep;
use crate::recent::Recent;

/// Later than everything.
pub(crate) const NEVER: Time = Time::from_micros(u64::MAX);

/// Wishes waiting for the engine, which takes them after every call.
const MAX_WISHES: usize = 32;

/// Newcomers waiting to be fetched by the engine.
const MAX_NEWCOMERS: usize = 32;

/// Mentioned peers waiting to be asked. Whoever finds no room will be mentioned again.
const MAX_TO_VERIFY: usize = 24;

/// A peer asked is not asked again within this time, however often it is mentioned.
pub(crate) const ASKED_SPAN: Duration = Duration::from_secs(60);

/// Nor one that failed within this time. Should it live, it will answer a lookup of ours.
const FAILED_SPAN: Duration = Duration::from_secs(300);

/// Mentioned peers asked at once.
const VERIFY_BURST: u32 = 8;

/// Time between two of them in the long run.
const VERIFY_GAP: Duration = Duration::from_secs(4);

/// How long a peer counts as joining.
const JOINING: Duration = Duration::from_secs(60);

/// After so many failures in a row, with no answer from anybody between, it is our own network that
/// failed: the table is kept, so that we are back when it is.
const OUTAGE: u32 = 8;

#[derive(Debug)]
pub(crate) struct Care {
    pub(crate) rng: Rng,
    pace: f32,
    wishes: VecDeque<Upkeep>,
    newcomers: VecDeque<Contact>,
    /// The most wanted first.
    to_verify: Vec<(Distance, Contact)>,
    recent: Recent,
    /// When the next ping of a mentioned peer would be due if they went evenly; bursts run ahead.
    verify_due: Time,
    joined: Time,
    failures: u32,
}

impl Care {
    pub(crate) fn new(seed: Seed) -> Self {
        Care {
            rng: seed.rng(),
            pace: 1.0,
            wishes: VecDeque::new(),
            newcomers: VecDeque::new(),
            to_verify: Vec::new(),
            recent: Recent::default(),
            verify_due: Time::ZERO,
            joined: NEVER,
            failures: 0,
        }
    }

    // --- wishes and newcomers -------------------------------------------------------------------

    pub(crate) fn wish(&mut self, upkeep: Upkeep) {
        if self.wishes.len() < MAX_WISHES {
            self.wishes.push_back(upkeep);
        }
    }

    pub(crate) fn poll_wish(&mut self) -> Option<Upkeep> {
        self.wishes.pop_front()
    }

    /// A peer has entered the table.
    pub(crate) fn welcome(&mut self, contact: Contact) {
        self.recent.forget(&contact.id);
        if self.newcomers.len() < MAX_NEWCOMERS {
            self.newcomers.push_back(contact);
        }
    }

    pub(crate) fn poll_newcomer(&mut self) -> Option<Contact> {
        self.newcomers.pop_front()
    }

    // --- time -----------------------------------------------------------------------------------

    pub(crate) fn set_pace(&mut self, factor: f32) {
        // Sixteen times slower is silence enough; beyond it tables would rot.
        self.pace = if factor.is_nan() { 1.0 } else { factor.clamp(1.0, 16.0) };
    }

    pub(crate) fn paced(&self, span: Duration) -> Duration {
        span.mul_f32(self.pace)
    }

    /// `span` at our pace, give or take a quarter.
    pub(crate) fn jittered(&mut self, span: Duration) -> Duration {
        let factor = self.rng.random_range(0.75..1.25f32);
        self.paced(span).mul_f32(factor)
    }

    /// We knew nobody and now know somebody.
    pub(crate) fn join(&mut self, now: Time) {
        self.joined = now;
    }

    pub(crate) fn is_joining(&self, now: Time) -> bool {
        self.joined <= now && now - self.joined < JOINING
    }

    // --- who answers and who does not -----------------------------------------------------------

    /// Somebody answered.
    pub(crate) fn heard(&mut self) {
        self.failures = 0;
    }

    /// Somebody did not. Whether it is rather we who are cut off.
    pub(crate) fn failed(&mut self, now: Time, id: &NodeId) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.recent.remember(now, id, FAILED_SPAN);
        self.seems_cut_off()
    }

    /// Whether so many failed in a row that it is rather we who are cut off.
    pub(crate) fn seems_cut_off(&self) -> bool {
        self.failures > OUTAGE
    }

    /// Somebody said goodbye.
    pub(crate) fn left(&mut self, now: Time, id: &NodeId) {
        self.recent.remember(now, id, FAILED_SPAN);
    }

    // --- pings of mentioned peers ---------------------------------------------------------------

    /// Somebody for whom there is a place was mentioned; the less `urgency`, the sooner it is asked.
    pub(crate) fn mention(&mut self, now: Time, contact: Contact, urgency: Distance) {
        if self.recent.remembers(now, &contact.id) || self.to_verify.iter().any(|(_, c)| c.id == contact.id) {
            return;
        }
        let place = self.to_verify.partition_point(|(u, _)| *u < urgency);
        self.to_verify.insert(place, (urgency, contact));
        self.to_verify.truncate(MAX_TO_VERIFY);
    }

    /// The moment from which the allowance permits another ping.
    fn verify_ready(&self) -> Time {
        self.verify_due.saturating_sub(self.paced(VERIFY_GAP) * (VERIFY_BURST - 1))
    }

    /// The next of those mentioned that may be asked now.
    pub(crate) fn next_to_verify(&mut self, now: Time) -> Option<Contact> {
        let due = !self.to_verify.is_empty() && self.verify_ready() <= now;
        due.then(|| self.to_verify.remove(0).1)
    }

    /// Asks a peer that was mentioned.
    pub(crate) fn verify(&mut self, now: Time, contact: Contact) {
        let share = if self.is_joining(now) { 4 } else { 1 };
        self.verify_due = self.verify_due.max(now) + self.paced(VERIFY_GAP) / share;
        self.recent.remember(now, &contact.id, ASKED_SPAN);
        self.wish(Upkeep::Ping(contact));
    }

    /// When the next ping is due, if anybody waits.
    pub(crate) fn verify_at(&self) -> Time {
        if self.to_verify.is_empty() { NEVER } else { self.verify_ready() }
    }
}
