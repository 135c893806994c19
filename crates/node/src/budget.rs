//! What a peer may spend for the overlay, and what it leaves undone when it may not.
//!
//! Maintenance has a ceiling: a mean over ten minutes with a burst for joining, kept by a token bucket
//! that holds one burst. What others want to be led to has an allowance of its own, per second with a
//! burst of ten seconds: how often people look each other up says nothing of how much upkeep a table needs.
//!
//! When tokens run short, work is shed in the order of [`Work`], what is missed least first. Each sort may
//! take the bucket a little farther into debt than the one before it, so that the later ones still have
//! room when the earlier ones have none. Nothing is dropped in silence: our own work is put off and done
//! later, and whoever asks for what we will not do is told BUSY at once and asks somebody else. Never shed
//! are our own lookups, calls and records, acknowledgements, answers with a record that we hold, what a peer
//! that leaves hands over, and naming peers to whoever asks for the way, only fewer: who
//! comes while many come would know hardly anybody, and take the overlay for a small one.
//!
//! A peer that many know may answer its ceiling away. A fifth of it is kept for its own upkeep, because a
//! table that rots there misleads everybody who asks, and a tenth for passing records on, because they would
//! stay behind where nobody looks for them any more.

use std::collections::BTreeMap;
use std::time::Duration;

use wire::Time;

/// The deepest debt, as a share of the burst and a datagram besides: a little deeper than any work may make
/// it. What never waits is not to keep the rest waiting for long.
const DEEPEST: f64 = 1.125;

/// Bytes of a datagram, about.
const DATAGRAM: f64 = 1_250.0;

/// Seconds of the allowance for others' requests that may be spent at once.
const FORWARDING_BURST_S: f64 = 10.0;

/// Work that may have to wait or be refused, in the order in which it is shed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Work {
    /// Upkeep of our own tables. It waits, but for a fifth of the ceiling.
    Upkeep,
    /// Offering the records that we hold to whom they should be with too. It waits.
    Replication,
    /// Keeping another record for others. BUSY.
    Storing,
    /// Passing on others' lookups, and leading those on that look for themselves. BUSY.
    Lookups,
    /// Passing on others' signalling. BUSY.
    Signalling,
}

impl Work {
    /// Every sort of work, what is shed first first.
    pub const ALL: [Work; 5] =
        [Work::Upkeep, Work::Replication, Work::Storing, Work::Lookups, Work::Signalling];

    /// Its name in `status`.
    pub fn name(self) -> &'static str {
        match self {
            Work::Upkeep => "upkeep",
            Work::Replication => "replication",
            Work::Storing => "storing",
            Work::Lookups => "lookups",
            Work::Signalling => "signalling",
        }
    }

    /// The share of ceiling and burst that it may use whatever answers cost.
    fn reserved(self) -> Option<f64> {
        match self {
            Work::Upkeep => Some(0.2),
            Work::Replication => Some(0.1),
            _ => None,
        }
    }

    /// How full its bucket must be, as a share of the burst; below zero is debt.
    fn floor(self) -> f64 {
        match self {
            Work::Upkeep => 0.0,
            Work::Replication => -0.75,
            Work::Storing => -1.0,
            // The other bucket. What is left of it when lookups stop is for calls.
            Work::Lookups => 0.25,
            Work::Signalling => 0.0,
        }
    }

    /// Whether it is paid from the allowance for others' requests.
    fn is_forwarding(self) -> bool {
        matches!(self, Work::Lookups | Work::Signalling)
    }
}

/// How much a peer may spend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Ceiling of maintenance, bytes per second.
    pub bytes_per_s: u32,
    /// Bytes of maintenance beyond it at once.
    pub burst_bytes: u32,
    /// Allowance for others' requests passed on, bytes per second.
    pub forwarding_bytes_per_s: u32,
}

/// Tokens, each for one byte, that come at a steady rate and are kept up to a burst.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    rate: f64,
    burst: f64,
    at: Time,
}

impl Bucket {
    fn full(now: Time, rate: f64, burst: f64) -> Self {
        Bucket { tokens: burst, rate, burst, at: now }
    }

    fn level(&self, now: Time) -> f64 {
        (self.tokens + now.since(self.at).as_secs_f64() * self.rate).min(self.burst)
    }

    fn spend(&mut self, now: Time, bytes: f64) {
        self.tokens = (self.level(now) - bytes).max(-self.burst * DEEPEST - DATAGRAM);
        self.at = now;
    }

    /// How long until the level is above `floor`.
    fn wait(&self, now: Time, floor: f64) -> Duration {
        let missing = (floor + 1.0 - self.level(now)).max(0.0);
        Duration::from_secs_f64((missing / self.rate.max(1.0)).min(600.0))
    }
}

/// The budget of one peer.
#[derive(Debug)]
pub struct Budget {
    maintenance: Bucket,
    /// The shares kept for our own upkeep and for replication.
    reserves: [Bucket; 2],
    forwarding: Bucket,
    /// How often work was put off or refused, in the order of [`Work::ALL`].
    shed: [u32; Work::ALL.len()],
}

impl Budget {
    /// A budget of which nothing is spent.
    pub fn new(now: Time, limits: Limits) -> Self {
        let (rate, burst) = (f64::from(limits.bytes_per_s), f64::from(limits.burst_bytes));
        let forwarding = f64::from(limits.forwarding_bytes_per_s);
        Budget {
            maintenance: Bucket::full(now, rate, burst),
            reserves: [Work::Upkeep, Work::Replication].map(|work| {
                let share = work.reserved().unwrap_or_default();
                Bucket::full(now, rate * share, burst * share)
            }),
            forwarding: Bucket::full(now, forwarding, forwarding * FORWARDING_BURST_S),
            shed: [0; Work::ALL.len()],
        }
    }

    /// Whether work of this sort may be done now.
    pub fn may(&self, now: Time, work: Work) -> bool {
        self.wait(now, work) == Duration::ZERO
    }

    /// When work of this sort may be done, as far as it is known now.
    pub fn may_at(&self, now: Time, work: Work) -> Time {
        now + self.wait(now, work).max(Duration::from_millis(100))
    }

    fn wait(&self, now: Time, work: Work) -> Duration {
        let bucket = if work.is_forwarding() { &self.forwarding } else { &self.maintenance };
        let wait = bucket.wait(now, work.floor() * bucket.burst);
        self.reserve(work).map_or(wait, |reserve| wait.min(self.reserves[reserve].wait(now, 0.0)))
    }

    /// Which of the shares is for this sort of work.
    fn reserve(&self, work: Work) -> Option<usize> {
        work.reserved().map(|_| usize::from(work == Work::Replication))
    }

    /// Maintenance bytes were sent.
    pub fn spend(&mut self, now: Time, bytes: u64) {
        self.maintenance.spend(now, bytes as f64);
    }

    /// Work of ours begins that will cost us about so many bytes; they are booked when they are sent.
    pub fn begin(&mut self, now: Time, work: Work, bytes: usize) {
        if let Some(reserve) = self.reserve(work) {
            self.reserves[reserve].spend(now, bytes as f64);
        }
    }

    /// Bytes were sent for somebody else's request on its way.
    pub fn spend_forwarding(&mut self, now: Time, bytes: u64) {
        self.forwarding.spend(now, bytes as f64);
    }

    /// Work was put off or refused.
    pub fn shed(&mut self, work: Work) {
        let count = &mut self.shed[work as usize];
        *count = count.saturating_add(1);
    }

    /// Whether answers to others have used up what maintenance may spend: time to be brief.
    pub fn is_short(&self, now: Time) -> bool {
        self.maintenance.level(now) <= 0.0
    }

    /// How often work was put off or refused since the start, of each sort.
    pub fn counts(&self) -> [u32; Work::ALL.len()] {
        self.shed
    }

    /// The same by name, without the sorts of which nothing was.
    pub fn named_counts(&self) -> BTreeMap<String, u64> {
        let counted = Work::ALL.iter().zip(self.shed).filter(|(_, count)| *count > 0);
        counted.map(|(work, count)| (work.name().to_owned(), u64::from(count))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes_per_s: 500, burst_bytes: 60_000, forwarding_bytes_per_s: 1_000 };

    fn budget() -> Budget {
        Budget::new(Time::ZERO, LIMITS)
    }

    /// Upkeep and replication have used up the shares that are kept for them.
    fn use_up_shares(budget: &mut Budget) {
        budget.begin(Time::ZERO, Work::Upkeep, 30_000);
        budget.begin(Time::ZERO, Work::Replication, 30_000);
    }

    /// What may be done at this moment.
    fn allowed(budget: &Budget, now: Time) -> Vec<Work> {
        Work::ALL.into_iter().filter(|work| budget.may(now, *work)).collect()
    }

    #[test]
    fn upkeep_is_shed_first_then_replication_then_storing_and_others_requests_not_at_all() {
        let mut budget = budget();
        use_up_shares(&mut budget);
        let mut order = Vec::new();
        for _ in 0..12 {
            budget.spend(Time::ZERO, 10_000);
            order.push(allowed(&budget, Time::ZERO).len());
        }
        assert_eq!(order, [5, 5, 5, 5, 5, 4, 4, 4, 4, 4, 3, 2]);
        assert_eq!(allowed(&budget, Time::ZERO), [Work::Lookups, Work::Signalling]);
    }

    #[test]
    fn what_was_shed_last_comes_back_first() {
        let mut budget = budget();
        use_up_shares(&mut budget);
        budget.spend(Time::ZERO, 130_000);
        let back = |work| budget.may_at(Time::ZERO, work);
        assert!(back(Work::Storing) < back(Work::Replication));
        assert!(back(Work::Replication) < back(Work::Upkeep));
        // The deepest debt is paid after little more than two minutes.
        assert!(back(Work::Upkeep) < Time::from_secs(150));
        for work in [Work::Storing, Work::Replication, Work::Upkeep] {
            let later = back(work) + Duration::from_millis(1);
            assert!(budget.may(later, work), "{work:?}");
        }
    }

    #[test]
    fn a_peer_that_does_all_it_may_keeps_the_mean_of_ten_minutes_after_its_burst() {
        let mut budget = budget();
        let mut sent = [0_u64; 3];
        for tenth in 0..18_000 {
            let now = Time::from_millis(tenth * 100);
            for work in [Work::Storing, Work::Replication, Work::Upkeep] {
                if budget.may(now, work) {
                    budget.spend(now, 300);
                    sent[tenth as usize / 6_000] += 300;
                    budget.begin(now, work, 300);
                }
            }
        }
        // The burst, the same again as debt, and the ceiling; from then on the ceiling alone.
        assert!((415_000..425_000).contains(&sent[0]), "{sent:?}");
        for later in &sent[1..] {
            let mean = *later as f64 / 600.0;
            assert!((495.0..505.0).contains(&mean), "{sent:?}");
        }
    }

    #[test]
    fn joining_may_spend_a_whole_burst_at_once() {
        let mut budget = budget();
        budget.spend(Time::ZERO, 59_000);
        assert!(budget.may(Time::ZERO, Work::Upkeep) && !budget.is_short(Time::ZERO));
        budget.spend(Time::ZERO, 1_000);
        assert!(budget.is_short(Time::ZERO));
    }

    #[test]
    fn a_peer_that_answers_its_ceiling_away_still_keeps_its_own_table_and_passes_records_on() {
        let mut budget = Budget::new(Time::ZERO, Limits { burst_bytes: 1_000, ..LIMITS });
        let mut kept = [0; 2];
        for second in 1..=600 {
            let now = Time::from_secs(second);
            budget.spend(now, 1_500);
            assert!(budget.is_short(now) || second < 3);
            for (work, kept) in [Work::Upkeep, Work::Replication].into_iter().zip(&mut kept) {
                while budget.may(now, work) {
                    budget.begin(now, work, 150);
                    budget.spend(now, 150);
                    *kept += 150;
                }
            }
        }
        assert!((59_000..62_000).contains(&kept[0]), "{kept:?} bytes: a fifth of 500 a second");
        assert!((29_000..32_000).contains(&kept[1]), "{kept:?} bytes: a tenth of 500 a second");
    }

    #[test]
    fn upkeep_waits_when_the_burst_and_its_own_share_are_spent_and_not_for_ever() {
        let mut budget = Budget::new(Time::ZERO, Limits { burst_bytes: 1_000, ..LIMITS });
        assert!(budget.may(Time::ZERO, Work::Upkeep));
        budget.begin(Time::ZERO, Work::Upkeep, 400);
        budget.spend(Time::ZERO, 1_500);
        assert!(!budget.may(Time::ZERO, Work::Upkeep));
        let again = budget.may_at(Time::ZERO, Work::Upkeep);
        assert!(again >= Time::from_millis(1_000));
        assert!(budget.may(again + Duration::from_millis(10), Work::Upkeep));
    }

    #[test]
    fn others_lookups_leave_a_quarter_of_their_allowance_to_others_calls() {
        let mut budget = budget();
        budget.spend_forwarding(Time::ZERO, 7_600);
        assert_eq!(
            (budget.may(Time::ZERO, Work::Lookups), budget.may(Time::ZERO, Work::Signalling)),
            (false, true)
        );
        budget.spend_forwarding(Time::ZERO, 2_500);
        assert!(!budget.may(Time::ZERO, Work::Signalling));
        // Ten seconds of silence, and the whole burst is there again; maintenance was never touched.
        let later = Time::from_secs(11);
        assert!(budget.may(later, Work::Lookups));
        assert!(budget.may(Time::ZERO, Work::Upkeep));
    }

    #[test]
    fn what_was_shed_is_counted_by_sort() {
        let mut budget = budget();
        budget.shed(Work::Storing);
        budget.shed(Work::Storing);
        budget.shed(Work::Upkeep);
        let counts: Vec<(String, u64)> = budget.named_counts().into_iter().collect();
        assert_eq!(counts, [("storing".to_owned(), 2), ("upkeep".to_owned(), 1)]);
    }
}
