//! Where a phone's media really comes from, and who may not take its place.
//!
//! A phone announces an address in SDP, but behind a NAT its packets come from another, and what it
//! hears must go back there: symmetric RTP (RFC 4961). So the first address heard is latched. A
//! stranger who sends to the same port must not redirect the stream, hence ranks: the announced
//! address outranks any other port of the phone's host, which outranks everyone else. A better rank
//! takes over at once. An equal one takes over only when the phone ought to be sending and has been
//! silent for [`RELATCH_AFTER`]; a stranger never follows the phone.
//!
//! What this cannot tell apart is two programs on the phone's own host, or a stranger from a phone
//! whose media and signalling both come from unexpected places, if the stranger speaks first.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::Time;

/// How long a latched source must be silent before another of its kind may follow it. Longer than
/// any pause between the comfort-noise packets of a phone that suppresses silence.
pub const RELATCH_AFTER: Duration = Duration::from_secs(2);

/// How much an address looks like the phone's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Stranger,
    SameHost,
    Announced,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    address: SocketAddr,
    rank: Rank,
    last: Time,
}

/// What to do with a packet from some address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It comes from the party that belongs here.
    Admit,
    /// It does, and from now on everything goes back to where it came from.
    AdmitAndLatch,
    /// It comes from someone else.
    Refuse,
}

/// The address of a phone's media: announced, then heard.
#[derive(Debug, Clone, Default)]
pub struct Latch {
    announced: Option<SocketAddr>,
    signalled_from: Option<IpAddr>,
    heard: Option<Source>,
    /// Where packets came from before the phone announced a new address, and when it did.
    former: Option<(SocketAddr, Time)>,
}

impl Latch {
    /// A latch for a phone that announced `announced` and signals from `signalled_from`.
    pub fn new(announced: Option<SocketAddr>, signalled_from: Option<IpAddr>) -> Latch {
        Latch { announced, signalled_from, heard: None, former: None }
    }

    /// The phone announced another address (re-INVITE): whoever is heard next is latched. The same
    /// address again, as in a hold, changes nothing.
    pub fn announce(&mut self, now: Time, announced: Option<SocketAddr>) {
        if self.announced != announced {
            self.former = self.heard.take().map(|h| (h.address, now));
            self.announced = announced;
        }
    }

    /// Judges a packet. `expected` says that the phone ought to be sending, so that its silence
    /// means something.
    #[inline]
    pub fn admit(&mut self, now: Time, from: SocketAddr, expected: bool) -> Verdict {
        match &mut self.heard {
            Some(heard) if heard.address == from => {
                heard.last = now;
                Verdict::Admit
            }
            _ => self.judge(now, from, expected),
        }
    }

    fn judge(&mut self, now: Time, from: SocketAddr, expected: bool) -> Verdict {
        let rank = self.rank(from);
        let may_latch = match self.heard {
            None => {
                // The tail of the old stream may pass, and does not count as the new one.
                let tail = |(address, since): (SocketAddr, Time)| {
                    address == from && now.since(since) < RELATCH_AFTER
                };
                if rank < Rank::Announced && self.former.is_some_and(tail) {
                    return Verdict::Admit;
                }
                true
            }
            Some(heard) => {
                let silent = expected && now.since(heard.last) >= RELATCH_AFTER;
                rank > heard.rank || (silent && rank >= heard.rank.min(Rank::SameHost))
            }
        };
        if !may_latch {
            return Verdict::Refuse;
        }
        self.heard = Some(Source { address: from, rank, last: now });
        self.former = None;
        Verdict::AdmitAndLatch
    }

    /// The phone has proved to be there: all goes back there, and no other rank is higher.
    pub fn prove(&mut self, now: Time, address: SocketAddr) {
        self.heard = Some(Source { address, rank: Rank::Announced, last: now });
        self.former = None;
    }

    /// The silence so far was agreed on: count from now.
    pub fn excuse_silence(&mut self, now: Time) {
        if let Some(heard) = &mut self.heard {
            heard.last = now;
        }
    }

    fn rank(&self, from: SocketAddr) -> Rank {
        if self.announced == Some(from) {
            Rank::Announced
        } else if self.is_phone_host(from.ip()) {
            Rank::SameHost
        } else {
            Rank::Stranger
        }
    }

    /// Whether the phone announced this host or signals from it.
    pub fn is_phone_host(&self, ip: IpAddr) -> bool {
        self.announced.is_some_and(|a| a.ip() == ip) || self.signalled_from == Some(ip)
    }

    /// The address that was heard and latched.
    pub fn latched(&self) -> Option<SocketAddr> {
        self.heard.map(|h| h.address)
    }

    /// Where to send: to the address heard, before that to the one announced. An announced `0.0.0.0`
    /// or port 0 is how old phones say "nowhere".
    #[inline]
    pub fn destination(&self) -> Option<SocketAddr> {
        let usable = |a: &SocketAddr| a.port() != 0 && !a.ip().is_unspecified();
        self.latched().or(self.announced.filter(usable))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(s: &str) -> SocketAddr {
        s.parse().unwrap()
    }

    fn secs(s: u64) -> Time {
        Time::from_secs(s)
    }

    const PHONE: &str = "192.0.2.1:4000";
    const STRANGER: &str = "203.0.113.9:9";

    fn latch() -> Latch {
        Latch::new(Some(at(PHONE)), Some("198.51.100.1".parse().unwrap()))
    }

    #[test]
    fn media_goes_to_the_announced_address_until_one_is_heard() {
        let mut l = latch();
        assert_eq!(l.destination(), Some(at(PHONE)));
        let behind_nat = at("198.51.100.1:61000");
        assert_eq!(l.admit(secs(0), behind_nat, true), Verdict::AdmitAndLatch);
        assert_eq!(l.destination(), Some(behind_nat));
        assert_eq!(l.admit(secs(1), behind_nat, true), Verdict::Admit);
    }

    #[test]
    fn a_stranger_cannot_take_a_stream_even_when_it_falls_silent() {
        let mut l = latch();
        l.admit(secs(0), at(PHONE), true);
        assert_eq!(l.admit(secs(1), at(STRANGER), true), Verdict::Refuse);
        assert_eq!(l.admit(secs(100), at(STRANGER), true), Verdict::Refuse);
        assert_eq!(l.destination(), Some(at(PHONE)));
    }

    #[test]
    fn a_stranger_who_speaks_first_is_put_out_by_the_phone() {
        let mut l = latch();
        assert_eq!(l.admit(secs(0), at(STRANGER), true), Verdict::AdmitAndLatch);
        assert_eq!(l.admit(secs(0), at(PHONE), true), Verdict::AdmitAndLatch);
        assert_eq!(l.admit(secs(0), at(STRANGER), true), Verdict::Refuse);
    }

    #[test]
    fn a_phone_may_move_its_port_after_a_silence_that_was_not_agreed_on() {
        let mut l = latch();
        l.admit(secs(0), at(PHONE), true);
        let moved = at("192.0.2.1:4002");
        assert_eq!(l.admit(secs(1), moved, true), Verdict::Refuse);
        assert_eq!(l.admit(secs(9), moved, false), Verdict::Refuse, "on hold");
        assert_eq!(l.admit(secs(9), moved, true), Verdict::AdmitAndLatch);
    }

    #[test]
    fn a_new_announcement_latches_anew_but_not_onto_the_old_tail() {
        let mut l = Latch::new(Some(at("10.0.0.1:4000")), Some("198.51.100.1".parse().unwrap()));
        let (old, new) = (at("198.51.100.1:61000"), at("198.51.100.1:61002"));
        l.admit(secs(0), old, true);
        l.announce(secs(1), Some(at("10.0.0.1:4000")));
        assert_eq!(l.latched(), Some(old), "the same announcement, a hold");
        l.announce(secs(1), Some(at("10.0.0.1:5000")));
        assert_eq!(l.admit(secs(1), old, true), Verdict::Admit);
        assert_eq!(l.admit(secs(1), new, true), Verdict::AdmitAndLatch);
        assert_eq!(l.destination(), Some(new));
    }

    #[test]
    fn nowhere_is_nowhere() {
        for nowhere in ["0.0.0.0:4000", "192.0.2.1:0"] {
            assert_eq!(Latch::new(Some(at(nowhere)), None).destination(), None);
        }
    }

    proptest! {
        #[test]
        fn once_the_announced_phone_spoke_no_other_host_is_ever_admitted(
            steps in prop::collection::vec((0u64..5_000, 1u8..20, any::<bool>()), 0..60),
        ) {
            let mut l = latch();
            let mut now = Time::ZERO;
            l.admit(now, at(PHONE), true);
            for (ms, host, expected) in steps {
                now += Duration::from_millis(ms);
                let from = SocketAddr::from(([203, 0, 113, host], 4_000));
                prop_assert_eq!(l.admit(now, from, expected), Verdict::Refuse);
            }
        }
    }
}
