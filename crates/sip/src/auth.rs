//! Who a phone is: digest challenges and their verification.
//!
//! A nonce is the time it was made, a serial number, and a keyed hash over both and the asker's
//! address, so nothing need be stored to recognise one, and a flood of requests fills no table. The
//! serial number is for phones that ask several things at once: each gets a nonce of its own, since
//! the same one with the same count would look like a replay.
//!
//! Credentials over a nonce that was not given to their address are not judged: whoever sends them heard no
//! challenge there, so they tell nothing of the phone at that address, and cannot get it locked out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use wire::seed::RngExt;
use wire::sip::digest::{Challenge, Credentials};
use wire::{HashAlgorithm, Seed, Time};

use crate::lockout::{LockOut, LockOuts};

/// How long a nonce may be used.
pub(crate) const NONCE_LIFE: Duration = Duration::from_secs(300);
/// Nonces whose last count is remembered, against replay; beyond it the oldest become stale.
const MAX_COUNTED: usize = 4096;

/// What credentials are worth.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They prove the password.
    Proven,
    /// They may, but the nonce is too old or was used: ask again.
    Stale,
    /// They do not; and who is locked out from now on.
    Wrong(Option<LockOut>),
    /// Not looked at.
    Locked(LockOut),
}

#[derive(Debug)]
pub(crate) struct Guard {
    secret: [u8; 32],
    /// Nonces given out, wrapping.
    issued: u32,
    pub(crate) locks: LockOuts,
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
            locks: LockOuts::default(),
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

    /// When we gave that nonce to that address, if we did.
    fn made_at(&self, nonce: &str, ip: IpAddr) -> Option<Time> {
        let made = u64::from_str_radix(nonce.get(..16)?, 16).ok()?;
        let serial = u32::from_str_radix(nonce.get(16..24)?, 16).ok()?;
        (self.nonce_at(made, serial, ip) == nonce).then_some(Time::from_micros(made))
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
        if let Some(lock) = self.locks.holds(now, user, ip) {
            return Verdict::Locked(lock);
        }
        let Some(made) = self.made_at(&credentials.nonce, ip) else {
            return Verdict::Stale;
        };
        // The password first: credentials over an old nonce prove it just as well, and a phone
        // with the right password must not be counted as guessing.
        let proven = credentials.proves(password.unwrap_or(""), method) && password.is_some();
        if !proven {
            return Verdict::Wrong(self.locks.failed(now, user, ip));
        }
        if now.since(made) >= NONCE_LIFE || !self.count_is_new(credentials) {
            return Verdict::Stale;
        }
        self.locks.proven(user, ip);
        Verdict::Proven
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
    use crate::lockout::{LOCK_OUT, MAX_FAILURES};

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
        for n in 1..=MAX_FAILURES {
            let bad = answer(&mut guard, now, "guess");
            let Verdict::Wrong(lock) = judge(&mut guard, now, &bad) else { panic!("{n}") };
            assert_eq!(lock.is_some(), n == MAX_FAILURES);
        }
        let good = answer(&mut guard, now, "pw");
        assert!(matches!(judge(&mut guard, now, &good), Verdict::Locked(LockOut { seconds: 60, .. })));
        assert_eq!(judge(&mut guard, now + LOCK_OUT, &good), Verdict::Proven);
    }

    #[test]
    fn nobody_gets_a_phone_locked_out_by_guesses_in_its_name_from_where_they_hear_no_challenge() {
        let mut guard = Guard::new(Seed::from_number(1));
        let now = Time::from_secs(10);
        let elsewhere = "192.0.2.8".parse().unwrap();
        for _ in 0..100 {
            let challenge = guard.challenge(now, elsewhere, "home", false);
            let forged = challenge.answer("bob", "guess", "REGISTER", "sip:home", "c");
            assert_eq!(judge(&mut guard, now, &forged), Verdict::Stale);
        }
        let good = answer(&mut guard, now, "pw");
        assert_eq!(judge(&mut guard, now, &good), Verdict::Proven);
    }
}
