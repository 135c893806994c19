//! Records that somebody watches.
//!
//! The overlay tells nobody about changes, so a watched record is looked up again and again, at
//! intervals that vary by a quarter. All watches together have one allowance: a burst of
//! [`BURST`] lookups, and one every [`SPACING`] in the long run, which keeps them within a few
//! hundred bytes per second. More watches than that are served in turn, less often than they wish.
//!
//! A single lookup may miss a record while the overlay changes, so a record counts as gone when two
//! lookups in a row do not find it.

use std::collections::BTreeMap;
use std::time::Duration;

use node::OpId;
use node::report::Value;
use wire::{Rng, RngExt, Seed, Time};

use super::Asker;

/// Watches at once.
pub(super) const MAX_WATCHES: usize = 64;

/// Lookups at once after a quiet time.
const BURST: f64 = 20.0;

/// One lookup per so long in the long run.
const SPACING: Duration = Duration::from_secs(3);

/// Nobody may look more often.
const SHORTEST: Duration = Duration::from_secs(1);

/// Pause before a missing record is looked for once more.
const CONFIRM: Duration = Duration::from_secs(1);

struct Watch {
    key: String,
    every: Duration,
    asker: Asker,
    due: Time,
    asking: bool,
    missed: bool,
    /// The owner and sequence number last told; the inner `None` for a record that is not there.
    told: Option<Option<(String, u64)>>,
}

/// All watches of a peer.
pub(super) struct Watches {
    all: BTreeMap<u64, Watch>,
    asked: BTreeMap<OpId, u64>,
    next: u64,
    allowance: f64,
    counted: Time,
    rng: Rng,
}

impl Watches {
    pub(super) fn new(seed: Seed, now: Time) -> Watches {
        Watches {
            all: BTreeMap::new(),
            asked: BTreeMap::new(),
            next: 0,
            allowance: BURST,
            counted: now,
            rng: seed.rng(),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Watches a record from now on.
    pub(super) fn add(&mut self, now: Time, key: String, every: Duration, asker: Asker) {
        let every = every.max(SHORTEST);
        let watch = Watch { key, every, asker, due: now, asking: false, missed: false, told: None };
        self.all.insert(self.next, watch);
        self.next += 1;
    }

    /// Forgets those whose asker is gone.
    pub(super) fn retain(&mut self, mut is_there: impl FnMut(&Asker) -> bool) {
        self.all.retain(|_, watch| is_there(&watch.asker));
    }

    /// Whether one belongs to such an asker.
    pub(super) fn any(&self, is: impl Fn(&Asker) -> bool) -> bool {
        self.all.values().any(|watch| is(&watch.asker))
    }

    /// Starts the lookup that is due, if the allowance lasts; `false` when there is none.
    pub(super) fn look(&mut self, now: Time, ask: impl FnOnce(&str) -> OpId) -> bool {
        let earned = now.since(self.counted).as_secs_f64() / SPACING.as_secs_f64();
        self.allowance = (self.allowance + earned).min(BURST);
        self.counted = now;
        let waiting = self.all.iter_mut().filter(|(_, w)| !w.asking);
        let Some((id, watch)) = waiting.min_by_key(|(_, w)| w.due) else { return false };
        if watch.due > now || self.allowance < 1.0 {
            return false;
        }
        self.allowance -= 1.0;
        watch.asking = true;
        self.asked.insert(ask(&watch.key), *id);
        true
    }

    /// How long nothing needs to be looked up, at most `longest`.
    pub(super) fn pause(&self, now: Time, longest: Duration) -> Duration {
        let due = self.all.values().filter(|w| !w.asking).map(|w| w.due.since(now)).min();
        let earned = SPACING.mul_f64((1.0 - self.allowance).max(0.0));
        due.map_or(longest, |due| due.max(earned).min(longest))
    }

    /// Takes the outcome of a lookup, if it was for a watch, and tells what has changed. `tell` says
    /// whether the asker took it; else it is tried again after the next lookup.
    pub(super) fn looked(
        &mut self,
        now: Time,
        op: OpId,
        found: Option<Value>,
        tell: impl FnOnce(&mut Asker, &str, Value) -> bool,
    ) {
        let Some(id) = self.asked.remove(&op) else { return };
        let Some(watch) = self.all.get_mut(&id) else { return };
        watch.asking = false;
        watch.due = now + watch.every.mul_f64(self.rng.random_range(0.75..1.25));
        // A lookup that failed says nothing about the record.
        let Some(value) = found else { return };
        let known = watch.told.clone().flatten();
        let state = value.found.then(|| (value.owner.clone().unwrap_or_default(), value.sequence));
        if state.is_none() && known.is_some() && !std::mem::replace(&mut watch.missed, true) {
            watch.due = now + CONFIRM;
            return;
        }
        watch.missed = false;
        let is_stale = match (&known, &state) {
            (Some((owner, last)), Some((by, sequence))) => owner == by && sequence < last,
            _ => false,
        };
        if !is_stale && watch.told.as_ref() != Some(&state) && tell(&mut watch.asker, &watch.key, value) {
            watch.told = Some(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_channel::mpsc;

    use super::*;
    use crate::command::Answer;

    struct Bench {
        watches: Watches,
        told: mpsc::Receiver<Answer>,
        now: Time,
        ops: u64,
    }

    impl Bench {
        fn new(every: Duration) -> Bench {
            let (sender, told) = mpsc::channel(4);
            let mut watches = Watches::new(Seed::from_number(1), Time::ZERO);
            watches.add(Time::ZERO, "k".into(), every, Asker::Every(sender));
            Bench { watches, told, now: Time::ZERO, ops: 0 }
        }

        /// Waits for the next lookup and answers it; returns how long that took.
        fn answer(&mut self, sequence: Option<u64>) -> Duration {
            let start = self.now;
            loop {
                self.ops += 1;
                let op = OpId(self.ops);
                if self.watches.look(self.now, |_| op) {
                    let value = Value {
                        found: sequence.is_some(),
                        sequence: sequence.unwrap_or(0),
                        owner: sequence.map(|_| "owner".into()),
                        ..Value::default()
                    };
                    self.watches
                        .looked(self.now, op, Some(value), |asker, key, value| asker.tell(key, value));
                    return self.now.since(start);
                }
                self.now += Duration::from_millis(100);
            }
        }

        fn told(&mut self) -> Vec<u64> {
            let mut told = Vec::new();
            while let Ok(Answer::Changed(_, value)) = self.told.try_recv() {
                told.push(value.sequence);
            }
            told
        }
    }

    #[test]
    fn what_changes_is_told_once_and_what_is_stale_never() {
        let mut bench = Bench::new(Duration::from_secs(10));
        for sequence in [7, 7, 8, 7, 8, 9] {
            bench.answer(Some(sequence));
        }
        assert_eq!(bench.told(), [7, 8, 9]);
    }

    #[test]
    fn a_record_is_gone_when_two_lookups_in_a_row_miss_it() {
        let mut bench = Bench::new(Duration::from_secs(10));
        for sequence in [Some(7), None, Some(7), None, None, None, Some(8)] {
            bench.answer(sequence);
        }
        assert_eq!(bench.told(), [7, 0, 8]);
    }

    #[test]
    fn an_impatient_watcher_gets_no_more_than_the_allowance() {
        let mut bench = Bench::new(Duration::ZERO);
        let took: Duration = (0..120).map(|_| bench.answer(Some(1))).sum();
        // Twenty at once, a hundred earned at three seconds each.
        assert!(took >= Duration::from_secs(295), "{took:?}");
    }

    #[test]
    fn a_slow_reader_gets_the_latest_state_and_the_queue_stays_short() {
        let mut bench = Bench::new(Duration::from_secs(10));
        for n in 1..100 {
            bench.answer(Some(n));
        }
        let first = bench.told();
        assert!(first.len() <= 6, "{first:?}");
        bench.answer(Some(99));
        assert_eq!(bench.told(), [99]);
    }
}
