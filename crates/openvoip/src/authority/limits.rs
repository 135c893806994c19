//! How often one network, and everybody together, may ask for something within an hour.

use std::collections::BTreeMap;
use std::net::IpAddr;

use wire::UnixTime;

/// So much an hour. What is remembered is bounded by the sum for all.
pub(super) struct Allowance {
    of_network: u32,
    of_all: u32,
    hour: u64,
    spent: BTreeMap<[u8; 6], u32>,
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

/// A /24 of IPv4 or a /48 of IPv6. In private ranges, where a prefix says nothing of who owns what, one host.
fn network(from: IpAddr) -> [u8; 6] {
    match from.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            let host = if ip.is_private() || ip.is_loopback() || ip.is_link_local() { d } else { 0 };
            [4, 0, a, b, c, host]
        }
        IpAddr::V6(ip) => {
            let o = ip.octets();
            [o[0], o[1], o[2], o[3], o[4], o[5]]
        }
    }
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
