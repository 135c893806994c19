//! One alarm per thing: set, moved and cancelled by name, fired in the order of time.

use std::collections::{BTreeMap, BTreeSet};

use wire::Time;

/// The alarms of a machine, each with a name.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    by_time: BTreeSet<(Time, K)>,
    by_name: BTreeMap<K, Time>,
}

impl<K: Ord + Copy> Timers<K> {
    pub(crate) fn new() -> Self {
        Timers { by_time: BTreeSet::new(), by_name: BTreeMap::new() }
    }

    /// Sets the alarm `name`, or moves it.
    pub(crate) fn set(&mut self, name: K, at: Time) {
        if let Some(old) = self.by_name.insert(name, at) {
            self.by_time.remove(&(old, name));
        }
        self.by_time.insert((at, name));
    }

    /// Moves the alarm `name` forward to `at`, if it would go off later or not at all.
    pub(crate) fn set_by(&mut self, name: K, at: Time) {
        if self.by_name.get(&name).is_none_or(|set| *set > at) {
            self.set(name, at);
        }
    }

    /// Forgets the alarm `name`.
    pub(crate) fn cancel(&mut self, name: K) {
        if let Some(old) = self.by_name.remove(&name) {
            self.by_time.remove(&(old, name));
        }
        // An empty tree keeps a leaf, and most peers have nothing to wait for.
        if self.by_name.is_empty() {
            *self = Timers::new();
        }
    }

    /// The next alarm.
    pub(crate) fn next(&self) -> Option<(Time, K)> {
        self.by_time.first().copied()
    }

    /// Takes the next alarm that is due.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<K> {
        let (at, name) = self.next()?;
        if at > now {
            return None;
        }
        self.cancel(name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_fire_in_order_and_only_once() {
        let mut timers = Timers::new();
        timers.set('b', Time::from_secs(2));
        timers.set('a', Time::from_secs(3));
        timers.set('c', Time::from_secs(1));
        timers.set('a', Time::from_secs(1));
        timers.cancel('c');
        timers.set_by('b', Time::from_secs(5));
        assert_eq!(timers.next(), Some((Time::from_secs(1), 'a')));
        assert_eq!(timers.pop_due(Time::from_secs(1)), Some('a'));
        assert_eq!(timers.pop_due(Time::from_secs(1)), None);
        assert_eq!(timers.pop_due(Time::from_secs(9)), Some('b'));
        assert_eq!(timers.next(), None);
    }
}
