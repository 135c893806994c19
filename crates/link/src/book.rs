//! A map from addresses to small values, packed: a peer remembers hundreds of addresses, and a process
//! may hold many thousand peers.
//!
//! Keys and values stand in two sorted vectors, an IPv4 address with its port in eight bytes; IPv6
//! addresses stand in a tree beside. Before a vector grows, what has gone stale makes room.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use wire::Time;

/// Places a full vector grows by: a sixteenth of its length and these.
const GROWTH: usize = 4;

/// A moment in tenths of a second, rounded down: four bytes last for thirteen years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Tenths(u32);

impl Tenths {
    pub(crate) fn of(time: Time) -> Self {
        Tenths(u32::try_from(time.as_millis() / 100).unwrap_or(u32::MAX))
    }

    pub(crate) fn time(self) -> Time {
        Time::from_millis(u64::from(self.0) * 100)
    }

    /// How long ago it was.
    pub(crate) fn age(self, now: Time) -> Duration {
        now.since(self.time())
    }
}

/// A map from addresses to values.
#[derive(Debug)]
pub(crate) struct AddressBook<V> {
    /// Sorted.
    v4: Vec<PackedV4>,
    /// The value of each IPv4 address, in the same order.
    values: Vec<V>,
    v6: BTreeMap<SocketAddrV6, V>,
}

impl<V> Default for AddressBook<V> {
    fn default() -> Self {
        AddressBook { v4: Vec::new(), values: Vec::new(), v6: BTreeMap::new() }
    }
}

/// Address and port of IPv4 as one number, in the order of [`SocketAddr`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct PackedV4([u8; 6]);

impl PackedV4 {
    /// In the same order, and quicker to compare.
    fn number(&self) -> u64 {
        let [a, b, c, d, high, low] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, high, low])
    }
}

impl From<SocketAddrV4> for PackedV4 {
    fn from(address: SocketAddrV4) -> Self {
        let ([a, b, c, d], [high, low]) = (address.ip().octets(), address.port().to_be_bytes());
        PackedV4([a, b, c, d, high, low])
    }
}

impl From<PackedV4> for SocketAddrV4 {
    fn from(PackedV4([a, b, c, d, high, low]): PackedV4) -> Self {
        SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]))
    }
}

impl<V: Copy> AddressBook<V> {
    pub(crate) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    fn place(&self, address: &SocketAddrV4) -> Result<usize, usize> {
        let number = PackedV4::from(*address).number();
        self.v4.binary_search_by_key(&number, PackedV4::number)
    }

    pub(crate) fn get(&self, address: &SocketAddr) -> Option<&V> {
        match address {
            SocketAddr::V4(v4) => Some(&self.values[self.place(v4).ok()?]),
            SocketAddr::V6(v6) => self.v6.get(v6),
        }
    }

    pub(crate) fn get_mut(&mut self, address: &SocketAddr) -> Option<&mut V> {
        match address {
            SocketAddr::V4(v4) => {
                let place = self.place(v4).ok()?;
                Some(&mut self.values[place])
            }
            SocketAddr::V6(v6) => self.v6.get_mut(v6),
        }
    }

    /// Sets the value of an address. If there is no room for a new one, those that are not `fresh` go.
    pub(crate) fn insert(&mut self, address: SocketAddr, value: V, fresh: impl Fn(&V) -> bool) {
        if let Some(known) = self.get_mut(&address) {
            *known = value;
            return;
        }
        match address {
            SocketAddr::V6(v6) => {
                self.v6.insert(v6, value);
            }
            SocketAddr::V4(v4) => {
                if self.v4.len() == self.v4.capacity() {
                    self.retain(fresh);
                    let room = self.v4.len() / 16 + GROWTH;
                    self.v4.reserve_exact(room);
                    self.values.reserve_exact(room);
                }
                let place = self.place(&v4).unwrap_or_else(|place| place);
                self.v4.insert(place, v4.into());
                self.values.insert(place, value);
            }
        }
    }

    pub(crate) fn remove(&mut self, address: &SocketAddr) {
        match address {
            SocketAddr::V4(v4) => {
                if let Ok(place) = self.place(v4) {
                    self.v4.remove(place);
                    self.values.remove(place);
                }
            }
            SocketAddr::V6(v6) => {
                self.v6.remove(v6);
            }
        }
    }

    /// Keeps only what is `fresh`.
    pub(crate) fn retain(&mut self, fresh: impl Fn(&V) -> bool) {
        let mut values = self.values.iter();
        self.v4.retain(|_| values.next().is_some_and(&fresh));
        self.values.retain(&fresh);
        self.v6.retain(|_, value| fresh(value));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &V)> {
        let v4 = self.v4.iter().map(|k| SocketAddr::V4((*k).into())).zip(&self.values);
        v4.chain(self.v6.iter().map(|(a, v)| (SocketAddr::V6(*a), v)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_stale_makes_room_before_the_book_grows() {
        let mut book = AddressBook::default();
        for port in 0..10_000u16 {
            book.insert(([10, 0, 0, 1], port).into(), port, |p| port - *p < 100);
        }
        assert!(book.v4.capacity() < 150, "{}", book.v4.capacity());
        assert!((9_901..10_000).all(|p: u16| book.get(&([10, 0, 0, 1], p).into()) == Some(&p)));
    }

    #[test]
    fn moments_are_kept_to_a_tenth_of_a_second() {
        let moment = Tenths::of(Time::from_millis(12_345));
        assert_eq!(moment.time(), Time::from_millis(12_300));
        assert_eq!(moment.age(Time::from_millis(12_400)), Duration::from_millis(100));
    }

    proptest! {
        #[test]
        fn a_book_is_a_map(acts in prop::collection::vec((any::<[u8; 2]>(), any::<u16>(), any::<bool>()), 0..200)) {
            let (mut book, mut map) = (AddressBook::default(), BTreeMap::new());
            for ([family, host], value, removes) in acts {
                let address: SocketAddr = match family % 2 {
                    0 => ([10, 0, 0, host % 32], 7).into(),
                    _ => (std::net::Ipv6Addr::from(u128::from(host % 32)), 7).into(),
                };
                if removes {
                    book.remove(&address);
                    map.remove(&address);
                } else {
                    book.insert(address, value, |_| true);
                    map.insert(address, value);
                }
                prop_assert_eq!(book.get(&address), map.get(&address));
            }
            prop_assert_eq!(book.len(), map.len());
            prop_assert!(book.iter().map(|(a, v)| (a, *v)).eq(map));
        }
    }
}
