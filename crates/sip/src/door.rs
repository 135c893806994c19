//! Whom the agent hears before they have proven who they are, and how often.
//!
//! Who is not expected gets no answer at all, whatever they send: a scanner learns not even that something
//! listens. Who is expected and unproven has a few requests a second. Who proved a password from an address is
//! counted no more there for as long as a registration lasts, so that a hundred calls of a switchboard at once are
//! heard, and nobody can use up the allowance of a phone by requests in its name.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use wire::Time;

use crate::prefix::Prefix;
use crate::registrar::MAX_EXPIRES;

/// Requests that one source may send at once before it has proven anything: several phones behind one box
/// that lost their power together.
const BURST: u32 = 100;
/// And how long it takes until there is one more.
const REFILL: Duration = Duration::from_millis(100);
/// Sources remembered in each of two halves: when the younger is full, the older is forgotten, and who stood only
/// there begins anew. So a flood from invented addresses costs no search and no memory.
const MAX_SOURCES: usize = 4096;
/// How long a source counts as proven: as long as a phone may go without proving itself again.
const PROVEN_FOR: Duration = Duration::from_secs(MAX_EXPIRES as u64);

#[derive(Clone, Copy, Debug)]
struct Source {
    /// When its allowance was, or will be, full: each request moves this on.
    full_at: Time,
    proven_until: Time,
}

#[derive(Debug)]
pub(crate) struct Door {
    from: Arc<[Prefix]>,
    younger: BTreeMap<IpAddr, Source>,
    older: BTreeMap<IpAddr, Source>,
}

impl Door {
    pub(crate) fn new(from: Arc<[Prefix]>) -> Self {
        Door { from, younger: BTreeMap::new(), older: BTreeMap::new() }
    }

    /// Whether a phone may stand there.
    pub(crate) fn expects(&self, ip: IpAddr) -> bool {
        self.from.iter().any(|prefix| prefix.contains(ip))
    }

    /// Whether one more message from there is looked at.
    pub(crate) fn admits(&mut self, now: Time, ip: IpAddr) -> bool {
        let source = self.source(now, ip);
        let full_at = source.full_at.max(now) + REFILL;
        let admitted = now < source.proven_until || full_at.since(now) <= BURST * REFILL;
        if admitted {
            source.full_at = full_at;
        }
        admitted
    }

    /// Somebody proved a password from there.
    pub(crate) fn proven(&mut self, now: Time, ip: IpAddr) {
        let source = self.source(now, ip);
        *source = Source { full_at: now, proven_until: now + PROVEN_FOR };
    }

    fn source(&mut self, now: Time, ip: IpAddr) -> &mut Source {
        let place = place_of(ip);
        if !self.younger.contains_key(&place) && self.younger.len() >= MAX_SOURCES {
            self.older = std::mem::take(&mut self.younger);
        }
        let older = &mut self.older;
        let new = Source { full_at: now, proven_until: now };
        self.younger.entry(place).or_insert_with(|| older.remove(&place).unwrap_or(new))
    }
}

/// Where an address stands, as far as one may choose addresses: a host on an IPv6 network has 2^64.
pub(crate) fn place_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_unicast_link_local() => {
            let network = ip.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    fn heard(door: &mut Door, now: Time, ip: IpAddr, asked: u32) -> u32 {
        (0..asked).map(|_| u32::from(door.admits(now, ip))).sum()
    }

    #[test]
    fn who_has_proven_nothing_has_so_many_requests_and_ten_more_a_second() {
        let mut door = Door::new(Prefix::at_home());
        let now = Time::from_secs(1);
        assert_eq!(heard(&mut door, now, source(1), 1_000), BURST);
        assert_eq!(heard(&mut door, now + Duration::from_secs(2), source(1), 1_000), 20);
        assert_eq!(heard(&mut door, now, source(2), 1), 1, "another has its own");
    }

    #[test]
    fn who_has_proven_a_password_is_not_counted_for_an_hour() {
        let mut door = Door::new(Prefix::at_home());
        let now = Time::from_secs(1);
        door.proven(now, source(1));
        assert_eq!(heard(&mut door, now, source(1), 1_000), 1_000);
        let later = now + PROVEN_FOR + 1_000 * REFILL;
        assert_eq!(heard(&mut door, later, source(1), 1_000), BURST);
    }

    #[test]
    fn a_flood_from_invented_addresses_takes_no_more_memory_and_who_keeps_asking_is_remembered() {
        let mut door = Door::new(Prefix::at_home());
        let now = Time::from_secs(1);
        assert_eq!(heard(&mut door, now, source(0), 1_000), BURST);
        for n in 1..100_000 {
            assert!(door.admits(now, source(n)));
            if n % 1_000 == 0 {
                assert!(!door.admits(now, source(0)));
            }
        }
        assert!(door.younger.len() <= MAX_SOURCES && door.older.len() <= MAX_SOURCES);
    }

    #[test]
    fn a_host_cannot_be_many_by_its_ipv6_addresses() {
        let mut door = Door::new(Prefix::at_home());
        let now = Time::from_secs(1);
        let heard: u32 = (0..1_000_u128)
            .map(|n| door.admits(now, IpAddr::V6((0x2001_0db8_u128 << 96 | n).into())))
            .map(u32::from)
            .sum();
        assert_eq!(heard, BURST);
    }
}
