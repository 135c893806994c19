//! Who a phone is: digest challenges, their verification, and the lock-out of guessers.
//!
//! A nonce is the time it was made, a serial number, and a keyed hash over both and the asker's
//! address, so nothing need be stored to recognise one, and a flood of requests fills no table. The
//! serial number is for phones that ask several things at once: each gets a nonce of its own, since
//! the same one with the same count would look like a replay.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use wire::seed::RngExt;
use wire::sip::digest::{Challenge, Credentials};
use wire::{HashAlgorithm, Seed, Time};

/// How long a nonce may be used.
pub(crate) const NONCE_LIFE: Duration = Duration::from_secs(300);
/// Wrong passwords after which a user is locked out at one address.
pub const MAX_FAILURES: u32 = 5;
/// How long the lock-out lasts.
pub const LOCK_OUT: Duration = Duration::from_secs(60);
/// Users and addresses whose failures are remembered; beyond it the oldest are forgiven.
const MAX_FAILING: usize = 4096;
/// Nonces whose last count is remembered, against replay; beyond it the oldest become stale.
const MAX_COUNTED: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Time,
}

/// What credentials are worth.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They prove the password.
    Proven,
    /// They may, but the nonce is too old or was used: ask again.
    Stale,
    /// They do not.
    Wrong {
        /// And the user is locked out at this address from now on.
        locked: bool,
    },
    /// Not looked at: locked out for so many seconds more.
    Locked(u64),
}

#[derive(Debug)]
pub(crate) struct Guard {
    secret: [u8; 32],
    /// Nonces given out, wrapping.
    issued: u32,
    failures: BTreeMap<(String, IpAddr), Failures>,
    /// The last nonce count used, by nonce; a nonce begins with its time, so the first is oldest.
    counts: BTreeMap<String, u32>,
    /// The newest nonce whose count was forgotten: it and all before it are stale.
    forgotten: String,
}

impl Guard {
    pub(crate) fn new(seed: Seed) -> Self {
        let secret = seed.rng().random();
        Guard {
            secret,
            issued: 0,
            failures: BTreeMap::new(),
            counts: BTreeMap::new(),
            forgotten: String::new(),
        }
    }

    fn nonce_at(&self, micros: u64, serial: u32, ip: IpAddr) -> String {
        let (time, number) = (micros.to_be_bytes(), serial.to_be_bytes());
        let keyed = [&self.secret[..], &time, &number, ip.to_string().as_bytes()].concat();
        let mac = HashAlgorithm::Sha256.digest(&keyed).to_string();
        format!("{micros:016x}{serial:08x}{}", &mac[..32])
    }

    fn nonce_is_fresh(&self, now: Time, nonce: &str, ip: IpAddr) -> bool {
        let made = nonce.get(..16).and_then(|t| u64::from_str_radix(t, 16).ok());
        let serial = nonce.get(16..24).and_then(|n| u32::from_str_radix(n, 16).ok());
        made.zip(serial).is_some_and(|(made, serial)| {
            let then = Time::from_micros(made);
            then <= now && now.since(then) < NONCE_LIFE && self.nonce_at(made, serial, ip) == nonce
        })
    }

    pub(crate) fn challenge(&mut self, now: Time, ip: IpAddr, realm: &str, stale: bool) -> Challenge {
        self.issued = self.issued.wrapping_add(1);
        Challenge {
            realm: realm.to_owned(),
            nonce: self.nonce_at(now.as_micros(), self.issued, ip),
            stale,
            qop_auth: true,
            ..Challenge::default()
        }
    }

    /// Judges credentials for `user`, whose password is `None` if there is no such user.
    pub(crate) fn judge(
        &mut self,
        now: Time,
        ip: IpAddr,
        user: &str,
        password: Option<&str>,
        credentials: &Credentials,
        method: &str,
    ) -> Verdict {
        let key = (user.to_owned(), ip);
        if let Some(failures) = self.failures.get(&key) {
            let until = failures.last + LOCK_OUT;
            if now >= until {
                self.failures.remove(&key);
            } else if failures.count >= MAX_FAILURES {
                return Verdict::Locked((until - now).as_secs() + 1);
            }
        }
        // The password first: credentials over an old nonce prove it just as well, and a phone
        // with the right password must not be counted as guessing.
        let proven = credentials.proves(password.unwrap_or(""), method) && password.is_some();
        if !proven {
            return Verdict::Wrong { locked: self.count_failure(now, key) };
        }
        if !self.nonce_is_fresh(now, &credentials.nonce, ip) || !self.count_is_new(credentials) {
            return Verdict::Stale;
        }
        self.failures.remove(&key);
        Verdict::Proven
    }

    fn count_failure(&mut self, now: Time, key: (String, IpAddr)) -> bool {
        if self.failures.len() >= MAX_FAILING && !self.failures.contains_key(&key) {
            let oldest = self.failures.iter().min_by_key(|(_, f)| f.last).map(|(k, _)| k.clone());
            if let Some(oldest) = oldest {
                self.failures.remove(&oldest);
            }
        }
        let failures = self.failures.entry(key).or_insert(Failures { count: 0, last: now });
        failures.count += 1;
        failures.last = now;
        failures.count >= MAX_FAILURES
    }

    /// With qop the count of a nonce only rises (RFC 2617 section 3.2.2).
    fn count_is_new(&mut self, credentials: &Credentials) -> bool {
        let Some(count) = &credentials.nc else {
            return true;
        };
        let Ok(count) = u32::from_str_radix(count, 16) else {
            return false;
        };
        let known = self.counts.get(&credentials.nonce);
        if known.is_some_and(|last| count <= *last) || credentials.nonce <= self.forgotten {
            return false;
        }
        if known.is_none()
            && self.counts.len() >= MAX_COUNTED
            && let Some((oldest, _)) = self.counts.pop_first()
        {
            self.forgotten = oldest;
        }
        self.counts.insert(credentials.nonce.clone(), count);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip() -> IpAddr {
        "192.0.2.7".parse().unwrap()
    }

    fn answer(guard: &mut Guard, now: Time, password: &str) -> Credentials {
        let challenge = guard.challenge(now, ip(), "home", false);
        challenge.answer("bob", password, "REGISTER", "sip:home", "c")
    }

    fn judge(guard: &mut Guard, now: Time, credentials: &Credentials) -> Verdict {
        guard.judge(now, ip(), "bob", Some("pw"), credentials, "REGISTER")
    }

    #[test]
    fn a_nonce_is_good_once_for_a_while_and_at_one_address() {
        let mut guard = Guard::new(Seed::from_number(1));
        let t0 = Time::from_secs(10);
        let good = answer(&mut guard, t0, "pw");
        assert_eq!(judge(&mut guard, t0, &good), Verdict::Proven);
        assert_eq!(judge(&mut guard, t0, &good), Verdict::Stale, "replayed");
        let good = answer(&mut guard, t0, "pw");
        assert_eq!(judge(&mut guard, t0 + NONCE_LIFE, &good), Verdict::Stale, "too old");
        let elsewhere = "192.0.2.8".parse().unwrap();
        let good = answer(&mut guard, t0, "pw");
        let verdict = guard.judge(t0, elsewhere, "bob", Some("pw"), &good, "REGISTER");
        assert_eq!(verdict, Verdict::Stale, "stolen");
    }

    #[test]
    fn two_things_asked_at_once_are_both_proven() {
        let mut guard = Guard::new(Seed::from_number(1));
        let now = Time::from_secs(10);
        let both = [answer(&mut guard, now, "pw"), answer(&mut guard, now, "pw")];
        assert_eq!(both.map(|good| judge(&mut guard, now, &good)), [Verdict::Proven, Verdict::Proven]);
    }

    #[test]
    fn a_nonce_whose_count_was_forgotten_cannot_be_replayed() {
        let mut guard = Guard::new(Seed::from_number(1));
        let now = Time::from_secs(10);
        let first = answer(&mut guard, now, "pw");
        assert_eq!(judge(&mut guard, now, &first), Verdict::Proven);
        for _ in 0..MAX_COUNTED {
            let next = answer(&mut guard, now, "pw");
            assert_eq!(judge(&mut guard, now, &next), Verdict::Proven);
        }
        assert_eq!(judge(&mut guard, now, &first), Verdict::Stale);
    }

    #[test]
    fn a_wrong_password_locks_out_after_five_tries_and_for_a_minute() {
        let mut guard = Guard::new(Seed::from_number(1));
        let now = Time::from_secs(10);
        for n in 1..=5 {
            let bad = answer(&mut guard, now, "guess");
            assert_eq!(judge(&mut guard, now, &bad), Verdict::Wrong { locked: n == 5 });
        }
        let good = answer(&mut guard, now, "pw");
        assert!(matches!(judge(&mut guard, now, &good), Verdict::Locked(60..=61)));
        assert_eq!(judge(&mut guard, now + LOCK_OUT, &good), Verdict::Proven);
    }
}
