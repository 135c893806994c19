//! Round trips per address, and the retransmission timeouts that follow (RFC 6298).

use std::net::SocketAddr;
use std::time::Duration;

use wire::Time;

use crate::book::{AddressBook, Tenths};

/// Timeout towards an address never measured: RFC 6298 says one second, the P2PP draft's T0 half of
/// that; half a second covers a radio mesh of several hops.
pub const INITIAL_RTO: Duration = Duration::from_millis(500);

/// Never less: a busy peer on a small board may take this long to answer at all.
pub const MIN_RTO: Duration = Duration::from_millis(100);

/// The least patience with a hop that another one could replace. Asking somebody beside costs one
/// message, so it may be the time in which a loaded machine answers, and not what an idle one might need.
pub const MIN_PATIENCE: Duration = Duration::from_millis(20);

/// Never more: a person is waiting.
pub const MAX_RTO: Duration = Duration::from_secs(2);

/// Most addresses measured at once; the longest silent one is forgotten.
const CAPACITY: usize = 1_024;

/// A path that was silent for so long may be another by now, and its estimate may go.
const LIFETIME: Duration = Duration::from_secs(600);

/// Both figures in microseconds.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    smoothed: u32,
    variation: u32,
    last: Tenths,
}

impl Estimate {
    fn smoothed(&self) -> Duration {
        Duration::from_micros(self.smoothed.into())
    }
}

/// What is known of each address.
#[derive(Debug, Default)]
pub struct RoundTrips {
    estimates: AddressBook<Estimate>,
    /// Over all addresses, in microseconds: what to expect of one never measured.
    typical: Option<(u32, u32)>,
    /// The longest of the latest few, over all addresses, in microseconds.
    lately: u32,
}

impl RoundTrips {
    /// Adds a measurement; only of exchanges that were not retransmitted (Karn).
    pub fn measured(&mut self, now: Time, address: SocketAddr, rtt: Duration) {
        let rtt = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
        let last = Tenths::of(now);
        let part = |old: u32, weight: u64, new: u32, of: u64| {
            ((u64::from(old) * weight + u64::from(new)) / of) as u32
        };
        self.lately = rtt.max(self.lately - self.lately / 4);
        let (mean, deviation) = self.typical.unwrap_or((rtt, rtt / 2));
        // Slower than for one address (RFC 6298 section 2.3), so that it speaks of many.
        self.typical = Some((part(mean, 31, rtt, 32), part(deviation, 15, mean.abs_diff(rtt), 16)));
        if let Some(e) = self.estimates.get_mut(&address) {
            e.variation = part(e.variation, 3, e.smoothed.abs_diff(rtt), 4);
            e.smoothed = part(e.smoothed, 7, rtt, 8);
            e.last = last;
            return;
        }
        if self.estimates.len() >= CAPACITY {
            let oldest = self.estimates.iter().min_by_key(|(_, e)| e.last).map(|(a, _)| a);
            oldest.into_iter().for_each(|a| self.estimates.remove(&a));
        }
        let estimate = Estimate { smoothed: rtt, variation: rtt / 2, last };
        self.estimates.insert(address, estimate, |e| e.last.age(now) < LIFETIME);
    }

    /// The smoothed round trip, if one was measured.
    pub fn rtt(&self, address: SocketAddr) -> Option<Duration> {
        self.estimates.get(&address).map(Estimate::smoothed)
    }

    /// How long to wait for `address` before sending again.
    pub fn rto(&self, address: SocketAddr) -> Duration {
        let Some(e) = self.estimates.get(&address) else { return INITIAL_RTO };
        (e.smoothed() + Duration::from_micros(e.variation.into()) * 4).clamp(MIN_RTO, MAX_RTO)
    }

    /// How long to wait for `address` where another one can be asked beside: as RFC 6298 reckons, with
    /// a lower floor; for an address never measured, as the others let expect. What was measured while this
    /// machine or the network was busy is out of date once others answer quickly: nobody is waited for
    /// several times longer than anybody took lately. One that does take so long is asked in vain once, and
    /// then it is among the latest.
    pub fn patience(&self, address: SocketAddr) -> Duration {
        let (mean, deviation) = match self.estimates.get(&address) {
            Some(e) => (e.smoothed(), Duration::from_micros(e.variation.into())),
            None => match self.typical {
                Some((mean, deviation)) => {
                    (Duration::from_micros(mean.into()), Duration::from_micros(deviation.into()))
                }
                None => return INITIAL_RTO,
            },
        };
        let longest = self.lately().map_or(INITIAL_RTO, |rtt| rtt * 4);
        (mean + deviation * 4).min(longest).clamp(MIN_PATIENCE, INITIAL_RTO)
    }

    /// The round trip of most addresses, if any was measured.
    pub fn typical(&self) -> Option<Duration> {
        self.typical.map(|(mean, _)| Duration::from_micros(mean.into()))
    }

    /// The longest of the latest round trips, if any was measured; each one that follows takes a quarter off.
    pub fn lately(&self) -> Option<Duration> {
        (self.lately > 0).then(|| Duration::from_micros(self.lately.into()))
    }

    /// Every address measured, its round trip and when.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, Duration, Time)> + '_ {
        self.estimates.iter().map(|(a, e)| (a, e.smoothed(), e.last.time()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_follows_the_round_trip_and_its_variation() {
        let mut trips = RoundTrips::default();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(trips.rto(peer), INITIAL_RTO);
        for _ in 0..50 {
            trips.measured(Time::ZERO, peer, Duration::from_millis(80));
        }
        assert_eq!(trips.rtt(peer), Some(Duration::from_millis(80)));
        assert_eq!(trips.rto(peer), MIN_RTO);
        trips.measured(Time::ZERO, peer, Duration::from_millis(480));
        assert!(trips.rto(peer) > Duration::from_millis(400));
    }

    #[test]
    fn an_address_never_measured_is_given_the_time_that_others_take() {
        let mut trips = RoundTrips::default();
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(trips.patience(address(9)), INITIAL_RTO);
        for port in 1..80 {
            trips.measured(Time::ZERO, address(port), Duration::from_micros(300));
        }
        assert_eq!(trips.patience(address(200)), MIN_PATIENCE);
        for port in 1..200 {
            trips.measured(Time::ZERO, address(port), Duration::from_millis(60));
        }
        let patience = trips.patience(address(200));
        assert!((Duration::from_millis(60)..Duration::from_millis(120)).contains(&patience), "{patience:?}");
    }

    #[test]
    fn what_was_measured_in_a_busy_moment_is_out_of_date_once_others_answer_quickly() {
        let mut trips = RoundTrips::default();
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        trips.measured(Time::ZERO, address(9), Duration::from_millis(150));
        assert!(trips.patience(address(9)) > Duration::from_millis(300));
        for port in 10..30 {
            trips.measured(Time::ZERO, address(port), Duration::from_micros(300));
        }
        assert_eq!(trips.patience(address(9)), MIN_PATIENCE);
        // Should it be far away after all, one answer says so.
        trips.measured(Time::ZERO, address(9), Duration::from_millis(150));
        assert!(trips.patience(address(9)) > Duration::from_millis(300));
    }

    #[test]
    fn memory_stays_bounded() {
        let mut trips = RoundTrips::default();
        for port in 0..3_000u16 {
            trips.measured(
                Time::from_millis(port.into()),
                ([10, 0, 0, 1], port).into(),
                Duration::from_millis(1),
            );
        }
        assert_eq!(trips.iter().count(), CAPACITY);
    }
}
