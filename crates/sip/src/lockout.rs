//! Who guesses passwords is kept out for a while, and nobody else with them.
//!
//! Wrong passwords are counted thrice: for a user at one address, for an address whatever user it tries, and for a
//! user from wherever it is tried. The last would let anybody keep the owner of a name out of their own
//! peer by guessing badly on purpose; so it, and the second, do not hold for who proved that user's password from that
//! address before. Failures count only with a challenge that was sent to that address
//! ([`crate::auth`]), so that nobody gets another locked out by requests in their name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use wire::Time;

use crate::door::place_of;

/// Wrong passwords after which a user is locked out at one address.
pub const MAX_FAILURES: u32 = 5;
/// How long that lock-out lasts.
pub const LOCK_OUT: Duration = Duration::from_secs(60);
/// Those after which an address is, for all users that it has not proven to be: four badly configured phones.
const MAX_OF_SOURCE: u32 = 20;
/// Those after which a user is, at all addresses but their own.
const MAX_OF_USER: u32 = 50;
/// How long these two last: a guesser with any number of addresses has 7,200 guesses a day.
const LONG_LOCK_OUT: Duration = Duration::from_secs(600);
/// Users and addresses whose failures are remembered; beyond it the oldest are forgiven.
const MAX_FAILING: usize = 4096;
/// Addresses at which a user proved a password, remembered; beyond it some are forgotten.
const MAX_KNOWN: usize = 4096;

/// Whose failures are counted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Suspect {
    /// A user at one address.
    Phone(String, IpAddr),
    /// An address, whoever it says it is.
    Source(IpAddr),
    /// A user, at all addresses but those where they have proven themselves.
    User(String),
}

impl Suspect {
    fn limit(&self) -> (u32, Duration) {
        match self {
            Suspect::Phone(..) => (MAX_FAILURES, LOCK_OUT),
            Suspect::Source(_) => (MAX_OF_SOURCE, LONG_LOCK_OUT),
            Suspect::User(_) => (MAX_OF_USER, LONG_LOCK_OUT),
        }
    }

    /// Whether somebody who names a user or an address means it.
    fn is_meant_by(&self, who: &str) -> bool {
        let at = |ip: &IpAddr| who.parse().is_ok_and(|named| place_of(named) == *ip);
        match self {
            Suspect::Phone(user, ip) => user == who || at(ip),
            Suspect::Source(ip) => at(ip),
            Suspect::User(user) => user == who,
        }
    }
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Suspect::Phone(user, ip) => write!(f, "{user} at {ip}"),
            Suspect::Source(ip) => write!(f, "everybody new at {ip}"),
            Suspect::User(user) => write!(f, "{user} wherever they were not before"),
        }
    }
}

/// Somebody who is locked out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockOut {
    /// Who.
    pub who: Suspect,
    /// After so many wrong passwords.
    pub failures: u32,
    /// For so many seconds more.
    pub seconds: u64,
}

impl LockOut {
    /// The user, unless it is an address whoever it says it is.
    pub fn user(&self) -> Option<&str> {
        match &self.who {
            Suspect::Phone(user, _) | Suspect::User(user) => Some(user),
            Suspect::Source(_) => None,
        }
    }

    /// The user or address whose lock-outs to lift.
    pub fn name(&self) -> String {
        match &self.who {
            Suspect::Phone(user, _) | Suspect::User(user) => user.clone(),
            Suspect::Source(ip) => ip.to_string(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Time,
}

#[derive(Debug, Default)]
pub(crate) struct LockOuts {
    failures: BTreeMap<Suspect, Failures>,
    /// Where users have proven themselves.
    known: BTreeSet<(String, IpAddr)>,
}

impl LockOuts {
    /// Whether this user may not be tried from there at the moment.
    pub(crate) fn holds(&self, now: Time, user: &str, ip: IpAddr) -> Option<LockOut> {
        let locks = self.suspects(user, ip).into_iter().filter_map(|who| self.lock_out(now, who));
        locks.max_by_key(|lock| lock.seconds)
    }

    /// Those who are locked out.
    pub(crate) fn standing(&self, now: Time) -> Vec<LockOut> {
        self.failures.keys().filter_map(|who| self.lock_out(now, who.clone())).collect()
    }

    /// A wrong password; says who is locked out by it.
    pub(crate) fn failed(&mut self, now: Time, user: &str, ip: IpAddr) -> Option<LockOut> {
        for who in self.suspects(user, ip) {
            if self.failures.len() >= MAX_FAILING && !self.failures.contains_key(&who) {
                let oldest = self.failures.iter().min_by_key(|(_, f)| f.last).map(|(k, _)| k.clone());
                oldest.and_then(|oldest| self.failures.remove(&oldest));
            }
            let (_, lasts) = who.limit();
            let failures = self.failures.entry(who).or_insert(Failures { count: 0, last: now });
            if now >= failures.last + lasts {
                failures.count = 0;
            }
            *failures = Failures { count: failures.count + 1, last: now };
        }
        self.holds(now, user, ip)
    }

    /// The right password.
    pub(crate) fn proven(&mut self, user: &str, ip: IpAddr) {
        let phone = (user.to_owned(), place_of(ip));
        self.failures.remove(&Suspect::Phone(phone.0.clone(), phone.1));
        if self.known.len() >= MAX_KNOWN && !self.known.contains(&phone) {
            self.known.pop_first();
        }
        self.known.insert(phone);
    }

    /// Forgives a user or an address, or everybody; returns those who were locked out.
    pub(crate) fn lift(&mut self, now: Time, who: Option<&str>) -> Vec<LockOut> {
        let is_meant = |suspect: &Suspect| who.is_none_or(|who| suspect.is_meant_by(who));
        let mut lifted = self.standing(now);
        lifted.retain(|lock| is_meant(&lock.who));
        self.failures.retain(|suspect, _| !is_meant(suspect));
        lifted
    }

    fn suspects(&self, user: &str, ip: IpAddr) -> Vec<Suspect> {
        let phone = (user.to_owned(), place_of(ip));
        let of_strangers = [Suspect::Source(phone.1), Suspect::User(phone.0.clone())];
        let known = self.known.contains(&phone);
        let own = Suspect::Phone(phone.0, phone.1);
        std::iter::once(own).chain(of_strangers.into_iter().filter(|_| !known)).collect()
    }

    fn lock_out(&self, now: Time, who: Suspect) -> Option<LockOut> {
        let failures = self.failures.get(&who)?;
        let (most, lasts) = who.limit();
        let until = failures.last + lasts;
        let held = failures.count >= most && now < until;
        held.then(|| LockOut {
            who,
            failures: failures.count,
            seconds: until.since(now).as_millis().div_ceil(1000) as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_secs(10);

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    #[test]
    fn an_address_that_tries_one_user_after_another_is_locked_out_whoever_it_tries_next() {
        let mut locks = LockOuts::default();
        for n in 0..19 {
            assert_eq!(locks.failed(NOW, &format!("user{n}"), ip(1)), None);
        }
        let lock = locks.failed(NOW, "user19", ip(1)).unwrap();
        assert_eq!((lock.who, lock.failures, lock.seconds), (Suspect::Source(ip(1)), 20, 600));
        assert!(locks.holds(NOW, "bob", ip(1)).is_some());
        assert!(locks.holds(NOW, "bob", ip(2)).is_none());
        assert!(locks.holds(NOW + LONG_LOCK_OUT, "bob", ip(1)).is_none());
    }

    #[test]
    fn who_is_guessed_at_from_everywhere_is_locked_out_everywhere_but_at_their_own_phone() {
        let mut locks = LockOuts::default();
        locks.proven("bob", ip(1));
        for n in 0..50 {
            locks.failed(NOW, "bob", ip(1_000 + n));
        }
        assert!(locks.holds(NOW, "bob", ip(7)).is_some(), "a new address");
        assert!(locks.holds(NOW, "bob", ip(1)).is_none(), "the phone's own");
        assert!(locks.holds(NOW, "alice", ip(7)).is_none(), "another user");
    }

    #[test]
    fn a_badly_configured_phone_does_not_lock_out_the_others_behind_the_same_box() {
        let mut locks = LockOuts::default();
        locks.proven("alice", ip(1));
        for n in 0..20 {
            locks.failed(NOW, &format!("user{n}"), ip(1));
        }
        assert!(locks.holds(NOW, "bob", ip(1)).is_some());
        assert!(locks.holds(NOW, "alice", ip(1)).is_none());
    }

    #[test]
    fn a_lock_out_is_lifted_by_user_by_address_or_for_all() {
        for (who, lifted) in [(Some("bob"), 1), (Some("10.0.0.1"), 1), (None, 1), (Some("alice"), 0)] {
            let mut locks = LockOuts::default();
            (0..5).for_each(|_| drop(locks.failed(NOW, "bob", ip(1))));
            assert_eq!(locks.lift(NOW, who).len(), lifted, "{who:?}");
            assert_eq!(locks.holds(NOW, "bob", ip(1)).is_none(), lifted == 1, "{who:?}");
        }
    }

    #[test]
    fn what_is_remembered_of_failures_and_proofs_is_bounded() {
        let mut locks = LockOuts::default();
        for n in 0..6_000 {
            locks.failed(NOW, "bob", ip(n));
            locks.proven("bob", ip(n));
        }
        assert!(locks.failures.len() <= MAX_FAILING && locks.known.len() <= MAX_KNOWN);
    }
}
