//! How often one network, and everybody together, may ask for something within an hour.

use std::collections::BTreeMap;
use std::net::IpAddr;

use node::Networks;
use wire::UnixTime;

/// So much an hour. What is remembered is bounded by the sum for all.
pub(super) struct Allowance {
    of_network: u32,
    of_all: u32,
    hour: u64,
    spent: BTreeMap<u64, u32>,
    total: u32,
}

impl Allowance {
    pub(super) fn new(of_network: u32, of_all: u32) -> Self {
        Allowance { of_network, of_all, hour: 0, spent: BTreeMap::new(), total: 0 }
    }

    /// Whether there is something left for who asks from here.
    pub(super) fn may(&mut self, now: UnixTime, from: IpAddr) -> bool {
        let hour = now.0 / 3_600;
        if self.hour != hour {
            (self.hour, self.total) = (hour, 0);
            self.spent.clear();
        }
        let spent = self.spent.get(&network(from)).copied().unwrap_or(0);
        spent < self.of_network && self.total < self.of_all
    }

    /// Takes one; `false` if nothing is left.
    pub(super) fn spend(&mut self, now: UnixTime, from: IpAddr) -> bool {
        let may = self.may(now, from);
        if may {
            *self.spent.entry(network(from)).or_default() += 1;
            self.total += 1;
        }
        may
    }
}

/// What one person can cheaply own many addresses of; a machine of its own is one.
fn network(from: IpAddr) -> u64 {
    Networks::of(from).map_or(0, |networks| networks.small)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    #[test]
    fn a_network_has_its_share_and_all_of_them_have_theirs() {
        let mut allowance = Allowance::new(2, 3);
        let mut spend = |now, from: &str| allowance.spend(now, from.parse().unwrap());
        assert!(spend(NOW, "198.51.100.1") && spend(NOW, "198.51.100.2"));
        assert!(!spend(NOW, "198.51.100.3"), "the same /24");
        assert!(spend(NOW, "2001:db8:1:2::1") && !spend(NOW, "203.0.113.1"), "all is spent");
        let later = UnixTime(NOW.0 + 3_600);
        assert!(spend(later, "198.51.100.3"));
    }

    #[test]
    fn networks_are_told_apart_as_those_who_own_them() {
        let same = |a: &str, b: &str| network(a.parse().unwrap()) == network(b.parse().unwrap());
        assert!(same("198.51.100.1", "198.51.100.200") && !same("198.51.100.1", "198.51.101.1"));
        assert!(same("2001:db8:1:2::1", "2001:db8:1:3::1") && !same("2001:db8:1::1", "2001:db8:2::1"));
        assert!(!same("10.0.0.1", "10.0.0.2") && same("::ffff:198.51.100.1", "198.51.100.7"));
    }
}
