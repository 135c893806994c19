//! Boxes that translate addresses, after RFC 4787.
//!
//! A box stands in front of one peer, has a public address of its own and maps ports. Mapping is
//! endpoint-independent but for the symmetric kind; filtering is what tells the others apart. Only
//! what goes out keeps a mapping alive.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use wire::Time;

use crate::scenario;

/// The address that every peer behind a box has on its own side.
pub(crate) const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 10);

/// Mappings of one box; beyond, the oldest ends.
const MAX_MAPPINGS: usize = 4_096;

/// The kinds of boxes, by the names of RFC 3489.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    FullCone,
    Restricted,
    PortRestricted,
    Symmetric,
}

impl Kind {
    /// The kind of the box before a peer, by a number between 0 and 1; `None`: no box.
    pub(crate) fn of(nat: &scenario::Nat, mut mark: f64) -> Option<Kind> {
        let shares = [
            (nat.full_cone, Kind::FullCone),
            (nat.restricted, Kind::Restricted),
            (nat.port_restricted, Kind::PortRestricted),
            (nat.symmetric, Kind::Symmetric),
        ];
        let found = shares.into_iter().find(|(share, _)| {
            mark -= share;
            mark <= 0.0 && *share > 0.0
        });
        found.map(|(_, kind)| kind)
    }
}

struct Mapping {
    port: u16,
    used: Time,
    /// To whom something went through it, and when last.
    written: BTreeMap<SocketAddr, Time>,
}

/// A box before one peer.
pub(crate) struct NatBox {
    kind: Kind,
    timeout: Duration,
    next_port: u16,
    /// By destination in a symmetric box, else under `None`.
    mappings: BTreeMap<Option<SocketAddr>, Mapping>,
}

impl NatBox {
    /// A box that gives `first` as its first port, as most do that can.
    pub(crate) fn new(kind: Kind, timeout: Duration, first: u16) -> Self {
        NatBox { kind, timeout, next_port: first, mappings: BTreeMap::new() }
    }

    /// Something goes out: the port it is seen from.
    pub(crate) fn outbound(&mut self, now: Time, to: SocketAddr) -> u16 {
        let slot = (self.kind == Kind::Symmetric).then_some(to);
        let timeout = self.timeout;
        let fresh = self.mappings.get(&slot).is_some_and(|m| now.since(m.used) < timeout);
        if !fresh {
            let port = self.free_port();
            self.mappings.insert(slot, Mapping { port, used: now, written: BTreeMap::new() });
            if self.mappings.len() > MAX_MAPPINGS {
                let oldest = self.mappings.iter().min_by_key(|(_, m)| m.used).map(|(slot, _)| *slot);
                oldest.map(|slot| self.mappings.remove(&slot));
            }
        }
        let Some(mapping) = self.mappings.get_mut(&slot) else { return 0 };
        mapping.used = now;
        mapping.written.insert(to, now);
        if mapping.written.len() > MAX_MAPPINGS {
            mapping.written.retain(|_, at| now.since(*at) < timeout);
        }
        mapping.port
    }

    fn free_port(&mut self) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = self.next_port.checked_add(1).unwrap_or(1_024);
            if self.mappings.values().all(|m| m.port != port) {
                return port;
            }
        }
    }

    /// Whether something that comes from `remote` to a port of the box gets through.
    pub(crate) fn lets_in(&self, now: Time, remote: SocketAddr, port: u16) -> bool {
        let alive = |at: Time| now.since(at) < self.timeout;
        let Some(mapping) = self.mappings.values().find(|m| m.port == port && alive(m.used)) else {
            return false;
        };
        match self.kind {
            Kind::FullCone => true,
            Kind::Restricted => mapping.written.iter().any(|(to, at)| to.ip() == remote.ip() && alive(*at)),
            Kind::PortRestricted | Kind::Symmetric => {
                mapping.written.get(&remote).is_some_and(|at| alive(*at))
            }
        }
    }

    /// The box is switched off and on.
    pub(crate) fn forget(&mut self) {
        self.mappings.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(120);

    fn remote(host: u8, port: u16) -> SocketAddr {
        ([203, 0, 113, host], port).into()
    }

    /// After writing to host 1, port 5: which of (1,5), (1,6), (2,5) get in?
    fn opened(kind: Kind) -> [bool; 3] {
        let mut nat = NatBox::new(kind, TIMEOUT, 7_080);
        let port = nat.outbound(Time::ZERO, remote(1, 5));
        [(1, 5), (1, 6), (2, 5)].map(|(h, p)| nat.lets_in(Time::from_secs(1), remote(h, p), port))
    }

    #[test]
    fn each_kind_filters_as_its_name_says() {
        assert_eq!(opened(Kind::FullCone), [true, true, true]);
        assert_eq!(opened(Kind::Restricted), [true, true, false]);
        assert_eq!(opened(Kind::PortRestricted), [true, false, false]);
        assert_eq!(opened(Kind::Symmetric), [true, false, false]);
    }

    #[test]
    fn only_the_symmetric_kind_shows_every_destination_another_port() {
        for kind in [Kind::FullCone, Kind::Restricted, Kind::PortRestricted, Kind::Symmetric] {
            let mut nat = NatBox::new(kind, TIMEOUT, 7_080);
            let (a, b) = (nat.outbound(Time::ZERO, remote(1, 5)), nat.outbound(Time::ZERO, remote(2, 5)));
            assert_eq!(a != b, kind == Kind::Symmetric);
            assert_eq!(a, 7_080);
        }
    }

    #[test]
    fn a_mapping_ends_when_nothing_goes_out_and_when_the_box_restarts() {
        let mut nat = NatBox::new(Kind::FullCone, TIMEOUT, 7_080);
        let port = nat.outbound(Time::ZERO, remote(1, 5));
        assert!(nat.lets_in(Time::from_secs(119), remote(2, 2), port));
        assert!(!nat.lets_in(Time::from_secs(120), remote(2, 2), port));
        assert_ne!(nat.outbound(Time::from_secs(121), remote(1, 5)), port);
        nat.forget();
        assert!(!nat.lets_in(Time::from_secs(122), remote(1, 5), port + 1));
    }

    #[test]
    fn shares_decide_who_gets_which_box() {
        let nat = scenario::Nat { full_cone: 0.2, symmetric: 0.3, ..scenario::Nat::default() };
        assert_eq!(Kind::of(&nat, 0.1), Some(Kind::FullCone));
        assert_eq!(Kind::of(&nat, 0.4), Some(Kind::Symmetric));
        assert_eq!(Kind::of(&nat, 0.6), None);
        assert_eq!(Kind::of(&scenario::Nat::default(), 0.0), None);
    }
}
