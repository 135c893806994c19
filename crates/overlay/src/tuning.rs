//! Self-tuning: how fast peers come and go, and what upkeep follows.
//!
//! No fixed timer is right. One that keeps a table fresh where peers stay for minutes wastes bytes
//! where they stay for weeks, and the other way round. RFC 7363 tunes a Chord ring by rates that
//! each peer measures; this is the same idea for any algorithm.
//!
//! [`Churn`] is the rate at which peers leave: departures seen, over the time for which peers were
//! seen to live. Both are known without a message of their own: every answer shows that a peer has
//! lived since it was last heard, and every removal is a departure. A young peer has seen little,
//! so a prior speaks for it: what others have measured ([`Churn::told`]), or else sessions of an hour. Evidence fades, so that the estimate follows when
//! the network changes: a few departures in a row shorten all timers at once, while a quiet table
//! must be seen alive for long before they stretch.
//!
//! The timers of an algorithm are written down for sessions of an hour and multiplied by
//! [`Churn::stretch`]. The share of dead entries between two checks then stays the same whatever
//! the churn, within bounds.

use std::time::Duration;

/// The prior: one departure in so many hours of a peer's life. An hour is short for peers that run
/// in a cupboard, and right for programs on a desk: a young peer is careful.
const PRIOR_HOURS: f64 = 1.0;

/// No more evidence than this counts, in hours of peers' lives. It bounds how quiet a table can
/// seem: one departure of the prior in twelve hours stretches every timer twelve times.
const MEMORY_HOURS: f64 = 12.0;

/// No more departures than these count; with sixteen the estimate is right within a quarter.
const MEMORY_DEPARTURES: f64 = 16.0;

/// Timers are never shorter than a tenth of those for sessions of an hour. With shorter sessions the
/// table holds more dead entries, and lookups go round them: the bytes for more would not be there.
pub const SHORTEST_STRETCH: f64 = 0.1;

/// Timers are never longer than this: see `MEMORY_HOURS`.
pub const LONGEST_STRETCH: f64 = MEMORY_HOURS / PRIOR_HOURS;

/// Sessions shorter than this part of an hour, nine minutes, are a storm: half of what is cared for now will
/// be gone before the care has paid.
const STORM: f64 = 0.15;

const HOUR: f64 = 3_600.0;

/// How fast peers leave, as one peer sees it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Churn {
    /// Departures seen, fading.
    departures: f32,
    /// Hours for which peers were seen to live, fading.
    hours: f32,
    /// The prior: one departure in so many hours.
    prior: f32,
}

impl Default for Churn {
    fn default() -> Self {
        Churn { departures: 0.0, hours: 0.0, prior: PRIOR_HOURS as f32 }
    }
}

impl Churn {
    /// The same with another prior: the mean session that others measured.
    pub fn told(self, session: Duration) -> Self {
        let hours = (session.as_secs_f64() / HOUR).clamp(PRIOR_HOURS * SHORTEST_STRETCH / 10.0, MEMORY_HOURS);
        Churn { prior: hours as f32, ..self }
    }

    /// A peer was heard that was last heard `span` ago: it has lived that long.
    pub fn survived(&mut self, span: Duration) {
        let hours = span.as_secs_f64() / HOUR;
        let keep = (1.0 - hours / MEMORY_HOURS).max(0.0) as f32;
        self.departures *= keep;
        self.hours = self.hours * keep + hours.min(MEMORY_HOURS) as f32;
    }

    /// A peer that was known to live has gone.
    pub fn departed(&mut self) {
        let keep = (1.0 - 1.0 / MEMORY_DEPARTURES) as f32;
        if f64::from(self.departures) > MEMORY_DEPARTURES - 1.0 {
            self.hours *= keep;
            self.departures *= keep;
        }
        self.departures += 1.0;
    }

    /// The mean length of a session, as far as it is known.
    pub fn session(&self) -> Duration {
        Duration::from_secs_f64(HOUR / self.per_hour())
    }

    /// Departures per peer and hour.
    pub fn per_hour(&self) -> f64 {
        // The prior gives way to the evidence; it never makes more than the memory holds of both.
        let hours = (f64::from(self.hours) + f64::from(self.prior)).min(MEMORY_HOURS);
        (1.0 + f64::from(self.departures)) / hours
    }

    /// By how much timers made for sessions of an hour are to be multiplied.
    pub fn stretch(&self) -> f64 {
        (1.0 / self.per_hour()).clamp(SHORTEST_STRETCH, LONGEST_STRETCH)
    }

    /// Whether peers go so fast that less care is better.
    pub fn is_storm(&self) -> bool {
        self.stretch() < STORM
    }

    /// A timer made for sessions of an hour, as it is to be here, within bounds of its own.
    pub fn tuned(&self, span: Duration, shortest: Duration, longest: Duration) -> Duration {
        span.mul_f64(self.stretch()).clamp(shortest, longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A table of `entries` of which each is heard every minute and one leaves after `session`.
    fn watched(churn: &mut Churn, entries: u32, session: Duration, minutes: u32) {
        let mut lived = Duration::ZERO;
        for _ in 0..minutes * entries {
            churn.survived(MINUTE);
            lived += MINUTE;
            if lived >= session {
                lived -= session;
                churn.departed();
            }
        }
    }

    #[test]
    fn a_peer_that_has_seen_nothing_expects_sessions_of_an_hour() {
        let churn = Churn::default();
        assert_eq!(churn.session(), 60 * MINUTE);
        assert_eq!(churn.stretch(), 1.0);
    }

    #[test]
    fn a_young_peer_believes_what_it_is_told_until_it_has_seen_for_itself() {
        let mut churn = Churn::default().told(2 * MINUTE);
        assert!(churn.session().abs_diff(2 * MINUTE) < Duration::from_millis(1));
        watched(&mut churn, 40, 60 * MINUTE, 120);
        let ratio = churn.session().as_secs_f64() / 3_600.0;
        assert!((0.75..1.25).contains(&ratio), "{ratio}");
    }

    #[test]
    fn the_estimate_is_right_within_a_quarter_and_careful_where_sessions_are_long() {
        for (minutes, bounds) in [(20, 0.75..1.25), (60, 0.75..1.25), (240, 0.5..1.0)] {
            let mut churn = Churn::default();
            watched(&mut churn, 40, minutes * MINUTE, 120);
            let ratio = churn.session().as_secs_f64() / (minutes * MINUTE).as_secs_f64();
            assert!(bounds.contains(&ratio), "{minutes} min: {ratio}");
        }
    }

    #[test]
    fn a_quiet_table_stretches_its_timers_and_no_further_than_the_bound() {
        let mut churn = Churn::default();
        watched(&mut churn, 40, Duration::MAX, 6);
        assert!((4.0..6.0).contains(&churn.stretch()), "{}", churn.stretch());
        watched(&mut churn, 40, Duration::MAX, 600);
        assert_eq!(churn.stretch(), LONGEST_STRETCH);
    }

    #[test]
    fn a_few_departures_wake_a_quiet_table_up() {
        let mut churn = Churn::default();
        watched(&mut churn, 40, Duration::MAX, 600);
        (0..5).for_each(|_| churn.departed());
        assert!(churn.stretch() <= 2.0, "{}", churn.stretch());
        watched(&mut churn, 40, 2 * MINUTE, 10);
        assert_eq!(churn.stretch(), SHORTEST_STRETCH);
    }

    #[test]
    fn a_storm_is_forgotten_within_an_hour_of_quiet() {
        let mut churn = Churn::default();
        watched(&mut churn, 40, 2 * MINUTE, 60);
        watched(&mut churn, 40, Duration::MAX, 60);
        assert!(churn.stretch() > 6.0, "{}", churn.stretch());
    }

    #[test]
    fn a_timer_keeps_its_own_bounds() {
        let mut churn = Churn::default();
        let tuned = |churn: &Churn| churn.tuned(10 * MINUTE, 5 * MINUTE, 30 * MINUTE);
        assert_eq!(tuned(&churn), 10 * MINUTE);
        watched(&mut churn, 40, Duration::MAX, 600);
        assert_eq!(tuned(&churn), 30 * MINUTE);
        watched(&mut churn, 40, MINUTE, 60);
        assert_eq!(tuned(&churn), 5 * MINUTE);
    }
}
