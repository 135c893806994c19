//! The alarm clock of the loop.
//!
//! To wait for packets with a time limit makes the kernel set and cancel a timer for every packet,
//! which on a virtual machine costs more than the packet. On Linux the alarm is a descriptor of its
//! own instead, set only when the time to wake up moves forward; sound that passes moves nothing.
//! Elsewhere the limit is given to the poll.

use std::io;
use std::time::Duration;

use mio::{Registry, Token};
use wire::Time;

/// Wakes the loop at one time.
#[derive(Debug)]
pub(crate) struct Alarm {
    clock: clock::Clock,
    /// What the clock is set to; in the past if it has rung.
    set_to: Time,
}

impl Alarm {
    /// An alarm that is not set. When it rings, the token is ready.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Alarm> {
        Ok(Alarm { clock: clock::Clock::new(registry, token)?, set_to: Time::from_micros(0) })
    }

    /// Sees to it that a poll with the limit returned here ends at `at`, or sooner.
    pub(crate) fn limit(&mut self, now: Time, at: Time) -> io::Result<Option<Duration>> {
        if at <= now {
            return Ok(Some(Duration::ZERO));
        }
        // An earlier time will do: to be woken for nothing is cheaper than to set the clock back.
        if self.set_to <= now || self.set_to > at {
            self.set_to = at;
            return self.clock.set(at.since(now));
        }
        Ok(self.clock.limit(self.set_to.since(now)))
    }
}

#[cfg(target_os = "linux")]
mod clock {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::Duration;

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

    /// A descriptor that becomes readable when it rings; setting it anew makes it quiet again.
    #[derive(Debug)]
    pub(super) struct Clock(TimerFd);

    impl Clock {
        pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Clock> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
            registry.register(&mut SourceFd(&timer.as_fd().as_raw_fd()), token, Interest::READABLE)?;
            Ok(Clock(timer))
        }

        pub(super) fn set(&self, after: Duration) -> io::Result<Option<Duration>> {
            let once = Expiration::OneShot(TimeSpec::from_duration(after));
            self.0.set(once, TimerSetTimeFlags::empty())?;
            Ok(None)
        }

        pub(super) fn limit(&self, _after: Duration) -> Option<Duration> {
            None
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod clock {
    use std::io;
    use std::time::Duration;

    use mio::{Registry, Token};

    /// The poll itself keeps the time.
    #[derive(Debug)]
    pub(super) struct Clock;

    impl Clock {
        pub(super) fn new(_registry: &Registry, _token: Token) -> io::Result<Clock> {
            Ok(Clock)
        }

        pub(super) fn set(&self, after: Duration) -> io::Result<Option<Duration>> {
            Ok(self.limit(after))
        }

        pub(super) fn limit(&self, after: Duration) -> Option<Duration> {
            // A microsecond more, so that the time is surely there when the wait is over.
            Some(after + Duration::from_micros(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use mio::{Events, Poll};

    use super::*;

    #[test]
    fn a_poll_ends_when_the_alarm_rings_and_not_before() {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        let mut alarm = Alarm::new(poll.registry(), Token(1_000)).unwrap();
        let start = Instant::now();
        let clock = || Time::from_micros(start.elapsed().as_micros() as u64);
        // Later, then sooner, then a time that the sooner one serves as well.
        for wanted in [400, 20, 30] {
            alarm.limit(clock(), Time::from_micros(wanted * 1_000)).unwrap();
        }
        let limit = alarm.limit(clock(), Time::from_micros(30_000)).unwrap();
        poll.poll(&mut events, limit).unwrap();
        let woken = start.elapsed();
        assert!((Duration::from_millis(20)..Duration::from_millis(300)).contains(&woken), "{woken:?}");
        let limit = alarm.limit(clock(), Time::from_micros(60_000)).unwrap();
        poll.poll(&mut events, limit).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(60));
        assert_eq!(alarm.limit(clock(), Time::from_micros(1)).unwrap(), Some(Duration::ZERO), "it is past");
    }
}
