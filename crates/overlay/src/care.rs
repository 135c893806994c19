//! What the care for any table needs besides the rule of whom to know: wishes for the engine, the
//! pings of peers that were mentioned, jitter, pace, and the suspicion that it is we who are cut off.
//!
//! A mention makes a ping, and an answer an entry. Those mentioned wait here, the most wanted first,
//! and are asked at most eight at once and one in four seconds in the long run: at 230 bytes for
//! question and answer that caps their cost at 58 bytes/s, however much is mentioned. A joining peer,
//! to whom most are news, may ask four times as fast.

use std::collections::VecDeque;
use std::time::Duration;

use wire::{Contact, Distance, NodeId, Rng, Seed, Time, queue, seed::RngExt};

use crate::overlay::Upkeep;
use crate::recent::Recent;
use crate::tuning::Churn;

/// Later than everything.
pub(crate) const NEVER: Time = Time::from_micros(u64::MAX);

/// Wishes waiting for the engine, which takes them after every call.
const MAX_WISHES: usize = 32;

/// Newcomers waiting to be fetched by the engine.
const MAX_NEWCOMERS: usize = 32;

/// Mentioned peers waiting to be asked: two full answers of eight. Whoever finds no room will be
/// mentioned again.
pub(crate) const MAX_TO_VERIFY: usize = 16;

/// Places their full queue grows by.
const ROOM: usize = 4;

/// A peer asked is not asked again within this time, however often it is mentioned.
pub(crate) const ASKED_SPAN: Duration = Duration::from_secs(60);

/// A peer asked may still answer within this time, and take the place that it was asked for.
const ANSWER_SPAN: Duration = Duration::from_secs(1);

/// Nor one that failed within this time. Should it live, it will answer a lookup of ours.
const FAILED_SPAN: Duration = Duration::from_secs(300);

/// Mentioned peers asked at once: one answer's worth.
pub(crate) const VERIFY_BURST: u32 = 8;

/// Time between two of them in the long run.
const VERIFY_GAP: Duration = Duration::from_secs(4);

/// The bounds within which churn changes a period that changes by itself where peers come and go.
const STEADY: (f64, f64) = (0.5, 2.0);

/// How long a peer counts as joining.
const JOINING: Duration = Duration::from_secs(60);

/// After so many failures in a row, with no answer from anybody between, it is our own network that
/// failed: the table is kept, so that we are back when it is.
pub(crate) const OUTAGE: u32 = 8;

#[derive(Debug)]
pub(crate) struct Care {
    pub(crate) rng: Rng,
    pace: f32,
    pub(crate) churn: Churn,
    wishes: VecDeque<Upkeep>,
    newcomers: VecDeque<Contact>,
    /// The most wanted first.
    to_verify: VecDeque<Contact>,
    /// Those that may be about to answer, and when each was asked.
    asked: Vec<(Time, NodeId)>,
    recent: Recent,
    /// When the next ping of a mentioned peer would be due if they went evenly; bursts run ahead.
    verify_due: Time,
    /// When the first peer answered, after we knew nobody; never, at first.
    joined: Time,
    /// Failures in a row.
    failures: u32,
}

impl Care {
    pub(crate) fn new(seed: Seed) -> Self {
        Care {
            rng: seed.rng(),
            pace: 1.0,
            churn: Churn::default(),
            wishes: VecDeque::new(),
            newcomers: VecDeque::new(),
            to_verify: VecDeque::new(),
            asked: Vec::new(),
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
        queue::pop_front(&mut self.wishes)
    }

    /// A peer has entered the table.
    pub(crate) fn welcome(&mut self, contact: Contact) {
        self.recent.forget(&contact.id);
        if self.newcomers.len() < MAX_NEWCOMERS {
            self.newcomers.push_back(contact);
        }
    }

    pub(crate) fn poll_newcomer(&mut self) -> Option<Contact> {
        queue::pop_front(&mut self.newcomers)
    }

    // --- time -----------------------------------------------------------------------------------

    pub(crate) fn set_pace(&mut self, factor: f32) {
        // Sixteen times slower is silence enough; beyond it tables would rot.
        self.pace = if factor.is_nan() { 1.0 } else { factor.clamp(1.0, 16.0) };
    }

    pub(crate) fn pace(&self) -> f32 {
        self.pace
    }

    pub(crate) fn paced(&self, span: Duration) -> Duration {
        span.mul_f32(self.pace)
    }

    /// A span made for sessions of an hour, at the pace that churn and budget ask for.
    pub(crate) fn tuned(&self, span: Duration) -> Duration {
        span.mul_f64(self.churn.stretch() * f64::from(self.pace))
    }

    /// `span`, give or take a quarter.
    pub(crate) fn jitter(&mut self, span: Duration) -> Duration {
        span.mul_f32(self.rng.random_range(0.75..1.25f32))
    }

    /// `span` at our pace, give or take a quarter.
    pub(crate) fn jittered(&mut self, span: Duration) -> Duration {
        let span = self.paced(span);
        self.jitter(span)
    }

    /// The same for a period that follows what came and went already: the measured churn makes it half as
    /// long or twice as long at most.
    pub(crate) fn steady(&mut self, span: Duration) -> Duration {
        let stretch = self.churn.stretch().clamp(STEADY.0, STEADY.1);
        self.jittered(span.mul_f64(stretch))
    }

    /// We knew nobody and now know somebody.
    pub(crate) fn join(&mut self, now: Time) {
        self.joined = now;
    }

    /// When that was.
    pub(crate) fn joined(&self) -> Time {
        self.joined
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
    pub(crate) fn failed(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.seems_cut_off()
    }

    /// Whether so many failed in a row that it is rather we who are cut off.
    pub(crate) fn seems_cut_off(&self) -> bool {
        self.failures > OUTAGE
    }

    /// Somebody is gone: not asked on a mention for a while.
    pub(crate) fn leave_alone(&mut self, now: Time, id: &NodeId) {
        self.recent.remember(now, id, FAILED_SPAN);
    }

    // --- pings of mentioned peers ---------------------------------------------------------------

    /// Whether somebody mentioned was asked lately or waits to be asked, so that there is nothing to do.
    /// Nearly all who are mentioned were before, and to see that costs less than to look for a place.
    pub(crate) fn was_mentioned(&self, now: Time, id: &NodeId) -> bool {
        self.recent.remembers(now, id) || self.to_verify.iter().any(|c| c.id == *id)
    }

    /// Somebody for whom there is a place was mentioned; the less `urgency`, the sooner it is asked.
    pub(crate) fn mention(&mut self, now: Time, contact: Contact, urgency: impl Fn(&NodeId) -> Distance) {
        if self.was_mentioned(now, &contact.id) {
            return;
        }
        let own = urgency(&contact.id);
        let place = self.to_verify.partition_point(|c| urgency(&c.id) < own);
        if place >= MAX_TO_VERIFY {
            return;
        }
        // Before there is one more, or the queue would take room for twice as many.
        self.to_verify.truncate(MAX_TO_VERIFY - 1);
        if self.to_verify.len() == self.to_verify.capacity() {
            self.to_verify.reserve_exact(ROOM);
        }
        self.to_verify.insert(place, contact);
    }

    /// The time between two pings of mentioned peers. Quiet does not stretch it: newcomers are few then,
    /// and worth knowing soon.
    fn verify_gap(&self) -> Duration {
        VERIFY_GAP.mul_f64(self.churn.stretch().min(1.0) * f64::from(self.pace))
    }

    /// The moment from which the allowance permits another ping.
    fn verify_ready(&self) -> Time {
        self.verify_due.saturating_sub(self.verify_gap() * (VERIFY_BURST - 1))
    }

    /// Whether the allowance permits a ping of somebody who is not known to live.
    pub(crate) fn may_ask(&self, now: Time) -> bool {
        self.verify_ready() <= now
    }

    /// Asks somebody, at the cost of the allowance: a quarter while joining, when most of those mentioned
    /// are worth knowing.
    pub(crate) fn ask(&mut self, now: Time, contact: Contact) {
        let share = if self.is_joining(now) { 4 } else { 1 };
        self.verify_due = self.verify_due.max(now) + self.verify_gap() / share;
        self.wish(Upkeep::Ping(contact));
    }

    /// The next of those mentioned that may be asked now.
    pub(crate) fn next_to_verify(&mut self, now: Time) -> Option<Contact> {
        if self.may_ask(now) { queue::pop_front(&mut self.to_verify) } else { None }
    }

    /// Asks a peer that was mentioned.
    pub(crate) fn verify(&mut self, now: Time, contact: Contact) {
        self.recent.remember(now, &contact.id, ASKED_SPAN);
        self.asked.retain(|(at, _)| now.since(*at) < ANSWER_SPAN);
        self.asked.push((now, contact.id));
        self.ask(now, contact);
    }

    /// Those mentioned that were asked a moment ago.
    pub(crate) fn just_asked(&self, now: Time) -> impl Iterator<Item = &NodeId> {
        self.asked.iter().filter(move |(at, _)| now.since(*at) < ANSWER_SPAN).map(|(_, id)| id)
    }

    /// When the next ping is due, if anybody waits.
    pub(crate) fn verify_at(&self) -> Time {
        if self.to_verify.is_empty() { NEVER } else { self.verify_ready() }
    }
}
