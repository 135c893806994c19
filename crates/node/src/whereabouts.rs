//! What the contact record of a node says: where it is, who carries what is sent to it, and by which keys it is written to.
//!
//! ```text
//! of a peer:   | 1 | count (8) | address ... |
//! of a client: | 2 | count (8) | address ... | count (8) | carrier ... |
//! to write to: | 3 | count (8) | address ... | count (8) | carrier ... | prekeys ([`crate::ratchet`]) |
//! address:     | port (16) | bytes of IP (8) = 4 or 16 | IP |
//! carrier:     | bytes of Node-ID (8) | Node-ID | address |
//! ```
//! The third is either of both, of a node that reads letters. The first address is the best. A client behind a NAT is reached through its carriers only.

use std::net::{IpAddr, SocketAddr};

use wire::{Contact, HashAlgorithm, Key, NodeId};

use crate::ratchet::Prekeys;

/// Most addresses in a contact record.
const MAX_ADDRESSES: usize = 6;

/// Most carriers in a contact record.
const MAX_CARRIERS: usize = overlay::attached::ATTACHMENTS;

const OF_PEER: u8 = 1;
const OF_CLIENT: u8 = 2;
const OF_READER: u8 = 3;

/// Where a node is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Whereabouts {
    /// Its own addresses, the best first.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The peers that carry it, if it is a client.
    pub(crate) carriers: Vec<Contact>,
    /// The keys of its letters, if it reads such.
    pub(crate) prekeys: Option<Prekeys>,
}

impl Whereabouts {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let addresses = &self.addresses[..self.addresses.len().min(MAX_ADDRESSES)];
        let carriers = &self.carriers[..self.carriers.len().min(MAX_CARRIERS)];
        let kind = match self.prekeys {
            Some(_) => OF_READER,
            None if carriers.is_empty() => OF_PEER,
            None => OF_CLIENT,
        };
        let mut out = vec![kind, addresses.len() as u8];
        addresses.iter().for_each(|a| push_address(&mut out, *a));
        if kind != OF_PEER {
            out.push(carriers.len() as u8);
            for carrier in carriers {
                let id = carrier.id.key().as_bytes();
                out.push(id.len() as u8);
                out.extend_from_slice(id);
                push_address(&mut out, carrier.address);
            }
        }
        out.extend(self.prekeys.iter().flat_map(Prekeys::to_bytes));
        out
    }

    /// `None` if that is not a contact record, or names nodes by another hash.
    pub(crate) fn parse(value: &[u8], hash: HashAlgorithm) -> Option<Self> {
        let mut rest = value;
        let kind = take(&mut rest, 1)?[0];
        let mut found = Whereabouts::default();
        for _ in 0..count(&mut rest, MAX_ADDRESSES)? {
            found.addresses.push(take_address(&mut rest)?);
        }
        match kind {
            OF_PEER => {}
            OF_CLIENT | OF_READER => {
                for _ in 0..count(&mut rest, MAX_CARRIERS)? {
                    let len = usize::from(take(&mut rest, 1)?[0]);
                    let id = take(&mut rest, len)?;
                    let id = NodeId(Key::from_slice(id).filter(|_| len == hash.len())?);
                    found.carriers.push(Contact { id, address: take_address(&mut rest)? });
                }
            }
            _ => return None,
        }
        if kind == OF_READER {
            found.prekeys = Some(Prekeys::read(take(&mut rest, Prekeys::LEN)?.first_chunk()?));
        }
        rest.is_empty().then_some(found)
    }
}

fn push_address(out: &mut Vec<u8>, address: SocketAddr) {
    out.extend_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(16);
            out.extend_from_slice(&ip.octets());
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

fn count(rest: &mut &[u8], most: usize) -> Option<u8> {
    Some(take(rest, 1)?[0]).filter(|n| usize::from(*n) <= most)
}

fn take_address(rest: &mut &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(take(rest, 2)?.try_into().ok()?);
    let len = take(rest, 1)?[0];
    let ip: IpAddr = match len {
        4 => <[u8; 4]>::try_from(take(rest, 4)?).ok()?.into(),
        16 => <[u8; 16]>::try_from(take(rest, 16)?).ok()?.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: HashAlgorithm = HashAlgorithm::Sha256;

    fn carrier(n: u8) -> Contact {
        Contact { id: NodeId(HASH.digest(&[n])), address: ([10, 0, 0, n], 7080).into() }
    }

    #[test]
    fn a_peers_record_and_a_clients_are_read_as_written() {
        let v6 = SocketAddr::new("2001:db8::7".parse().unwrap(), 9);
        let peer = Whereabouts { addresses: vec![carrier(1).address, v6], carriers: vec![], prekeys: None };
        assert_eq!(Whereabouts::parse(&peer.to_bytes(), HASH), Some(peer.clone()));
        let client = Whereabouts { carriers: vec![carrier(2), carrier(3)], ..peer.clone() };
        assert_eq!(Whereabouts::parse(&client.to_bytes(), HASH), Some(client.clone()));
        assert_eq!(Whereabouts::parse(&client.to_bytes(), HashAlgorithm::Md5), None);
        let prekeys = Some(Prekeys { identity: [7; 32], fallback: [8; 32] });
        for reader in [Whereabouts { prekeys, ..peer }, Whereabouts { prekeys, ..client }] {
            let bytes = reader.to_bytes();
            assert_eq!(Whereabouts::parse(&bytes, HASH), Some(reader));
            assert_eq!(Whereabouts::parse(&bytes[..bytes.len() - 1], HASH), None);
        }
        assert_eq!(Whereabouts::parse(&[1, 1, 0, 0, 5], HASH), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(found) = Whereabouts::parse(&bytes, HASH) {
                prop_assert!(found.addresses.len() <= MAX_ADDRESSES);
                prop_assert!(found.carriers.len() <= MAX_CARRIERS);
                prop_assert_eq!(Whereabouts::parse(&found.to_bytes(), HASH), Some(found));
            }
        }
    }
}
