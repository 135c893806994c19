//! One's own address as other peers see it.
//!
//! Peers report the address a request came from (Observed-Address). One reporter could lie or sit
//! behind the same NAT, so the address most of the latest reporters agree on counts, and two
//! different addresses with equal support mean that the NAT maps per destination.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Latest reporters remembered.
const REPORTERS: usize = 16;

/// Reports of one's own address.
#[derive(Debug, Default)]
pub struct MappedAddress {
    /// Reporters, the latest last, and the place in `addresses` of what each saw.
    reports: Vec<(IpAddr, u8)>,
    /// What the reporters saw, each once; nearly always one address.
    addresses: Vec<SocketAddr>,
}

impl MappedAddress {
    /// Notes that the peer at `reporter` sees us at `address`. One report per reporter counts.
    pub fn reported(&mut self, reporter: IpAddr, port: u16, address: SocketAddr) {
        // Peers on one host (a laboratory) are told apart by nothing but their port, so loopback
        // reporters count once each by their port.
        let name = if reporter.is_loopback() { loopback_name(port) } else { reporter };
        self.reports.retain(|(r, _)| *r != name);
        if self.reports.len() == REPORTERS {
            self.reports.remove(0);
        }
        self.forget_unsupported();
        let known = self.addresses.iter().position(|a| *a == address);
        let place = known.unwrap_or_else(|| {
            self.addresses.reserve_exact(1);
            self.addresses.push(address);
            self.addresses.len() - 1
        });
        self.reports.push((name, place as u8));
    }

    /// Drops addresses that nobody among the latest reporters saw.
    fn forget_unsupported(&mut self) {
        for place in (0..self.addresses.len()).rev() {
            if self.reports.iter().all(|(_, p)| usize::from(*p) != place) {
                self.addresses.remove(place);
                self.reports.iter_mut().filter(|(_, p)| usize::from(*p) > place).for_each(|(_, p)| *p -= 1);
            }
        }
    }

    /// The address most reporters agree on.
    pub fn address(&self) -> Option<SocketAddr> {
        self.support().into_iter().max_by_key(|(_, n)| *n).map(|(a, _)| a)
    }

    /// Whether reporters disagree about the port: a mapping that depends on the destination
    /// (RFC 4787: address- or port-dependent mapping).
    pub fn depends_on_destination(&self) -> bool {
        self.support().len() > 1
    }

    fn support(&self) -> BTreeMap<SocketAddr, usize> {
        let mut support = BTreeMap::new();
        for (_, place) in &self.reports {
            *support.entry(self.addresses[usize::from(*place)]).or_default() += 1;
        }
        support
    }
}

fn loopback_name(port: u16) -> IpAddr {
    let [high, low] = port.to_be_bytes();
    IpAddr::from([127, 0, high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([198, 51, 100, last])
    }

    #[test]
    fn the_majority_of_reporters_decides() {
        let mut mapped = MappedAddress::default();
        let (truth, lie) = (([203, 0, 113, 9], 7080).into(), ([203, 0, 113, 66], 1).into());
        assert_eq!(mapped.address(), None);
        mapped.reported(v4(1), 7080, truth);
        mapped.reported(v4(2), 7080, truth);
        for _ in 0..10 {
            mapped.reported(v4(3), 7080, lie);
        }
        assert_eq!(mapped.address(), Some(truth));
        assert!(mapped.depends_on_destination());
    }

    #[test]
    fn an_address_nobody_sees_any_more_is_forgotten() {
        let mut mapped = MappedAddress::default();
        let address = |n: u8| SocketAddr::from(([203, 0, 113, n], 7080));
        for n in 0..40 {
            mapped.reported(v4(n), 7080, address(n));
        }
        assert_eq!((mapped.reports.len(), mapped.addresses.len()), (REPORTERS, REPORTERS));
        for n in 0..16 {
            mapped.reported(v4(n), 7080, address(99));
        }
        assert_eq!((mapped.address(), mapped.addresses.len()), (Some(address(99)), 1));
        assert!(!mapped.depends_on_destination());
    }
}
