//! One alarm per thing: set, moved and cancelled by name, fired in the order of time.
//!
//! Nearly every peer waits for a handful of things at once, so they stand in one vector in the order in
//! which they fire, the next one last. That takes a third of the memory of two trees and fewer misses of
//! the cache; with thousands of alarms, which only a peer under attack has, setting one takes microseconds.

use wire::Time;

/// Places a full vector grows by: a quarter of its length and these.
const GROWTH: usize = 4;

/// The alarms of a machine, each with a name.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    /// The latest first; of those at one moment, the greatest name first.
    alarms: Vec<(Time, K)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Timers { alarms: Vec::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    fn position(&self, name: &K) -> Option<usize> {
        // What was set last often fires soon.
        self.alarms.iter().rposition(|(_, other)| other == name)
    }

    /// Sets the alarm `name`, or moves it.
    pub(crate) fn set(&mut self, name: K, at: Time) {
        if let Some(old) = self.position(&name) {
            self.alarms.remove(old);
        }
        if self.alarms.len() == self.alarms.capacity() {
            self.alarms.reserve_exact(self.alarms.len() / 4 + GROWTH);
        }
        let place = self.alarms.partition_point(|alarm| *alarm > (at, name));
        self.alarms.insert(place, (at, name));
    }

    /// Moves the alarm `name` forward to `at`, if it would go off later or not at all.
    pub(crate) fn set_by(&mut self, name: K, at: Time) {
        if self.position(&name).is_none_or(|place| self.alarms[place].0 > at) {
            self.set(name, at);
        }
    }

    /// Forgets the alarm `name`.
    pub(crate) fn cancel(&mut self, name: K) {
        if let Some(place) = self.position(&name) {
            self.alarms.remove(place);
        }
        self.give_back();
    }

    /// The next alarm.
    pub(crate) fn next(&self) -> Option<&(Time, K)> {
        self.alarms.last()
    }

    /// Takes the next alarm that is due.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<K> {
        let (_, name) = self.alarms.pop_if(|(at, _)| *at <= now)?;
        self.give_back();
        Some(name)
    }

    /// Most peers have nothing to wait for most of the time, and keep no room for it.
    fn give_back(&mut self) {
        if self.alarms.is_empty() {
            self.alarms = Vec::new();
        } else if self.alarms.capacity() > 4 * (self.alarms.len() + GROWTH) {
            self.alarms.shrink_to(2 * self.alarms.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wire::{RngExt, Seed};

    use super::*;

    #[test]
    fn alarms_fire_in_order_and_only_once() {
        let mut timers = Timers::default();
        timers.set('b', Time::from_secs(2));
        timers.set('a', Time::from_secs(3));
        timers.set('c', Time::from_secs(1));
        timers.set('a', Time::from_secs(1));
        timers.cancel('c');
        timers.set_by('b', Time::from_secs(5));
        assert_eq!(timers.next(), Some(&(Time::from_secs(1), 'a')));
        assert_eq!(timers.pop_due(Time::from_secs(1)), Some('a'));
        assert_eq!(timers.pop_due(Time::from_secs(1)), None);
        assert_eq!(timers.pop_due(Time::from_secs(9)), Some('b'));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn alarms_are_a_map_that_is_taken_from_in_the_order_of_time() {
        let (mut timers, mut model) = (Timers::default(), BTreeMap::new());
        let mut rng = Seed::from_number(1).rng();
        for _ in 0..5_000 {
            let (name, at) = (rng.random_range(0..40u8), Time::from_secs(rng.random_range(0..100)));
            match rng.random_range(0..5u8) {
                0 | 1 => {
                    timers.set(name, at);
                    model.insert(name, at);
                }
                2 => {
                    timers.set_by(name, at);
                    model.entry(name).and_modify(|set| *set = at.min(*set)).or_insert(at);
                }
                3 => {
                    timers.cancel(name);
                    model.remove(&name);
                }
                _ => {
                    let due = model.iter().map(|(name, at)| (*at, *name)).min().filter(|(due, _)| *due <= at);
                    assert_eq!(timers.pop_due(at), due.map(|(_, name)| name));
                    due.map(|(_, name)| model.remove(&name));
                }
            }
            assert_eq!(timers.next().copied(), model.iter().map(|(name, at)| (*at, *name)).min());
            assert!(timers.alarms.capacity() <= 4 * (timers.alarms.len() + GROWTH));
        }
        (0..40).for_each(|name| timers.cancel(name));
        assert_eq!(timers.alarms.capacity(), 0);
    }
}
