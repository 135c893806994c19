//! Bytes as simulation papers count them.
//!
//! "Performance vs. cost" (Li, Stribling, Morris, Kaashoek and Gil, INFOCOM 2005) prices a message at
//! 20 bytes for its headers and 4 for every address or identifier in it, and nothing for keys,
//! signatures and records. Counted beside the wire's bytes, our figures can stand beside theirs.

use std::collections::BTreeMap;

use node::ledger::Function;
use wire::p2pp::{Message, Object};

/// The headers of a message.
const HEADERS: u64 = 20;
/// An address or an identifier.
const NAME: u64 = 4;

/// Model bytes of all messages, by function.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModelBytes {
    by_function: BTreeMap<&'static str, u64>,
}

impl ModelBytes {
    /// Counts a datagram.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let (function, size) = match Message::parse(bytes) {
            Ok(message) => (Function::of(message.header.message).name(), size(&message)),
            Err(_) => ("other", HEADERS),
        };
        *self.by_function.entry(function).or_default() += size;
    }

    /// Per second of a peer, by function.
    pub(crate) fn rates(&self, peer_seconds: f64) -> BTreeMap<String, f64> {
        let rate = |(name, bytes): (&&str, &u64)| ((*name).to_owned(), *bytes as f64 / peer_seconds);
        self.by_function.iter().map(rate).collect()
    }
}

/// The size of a message in the model.
fn size(message: &Message<'_>) -> u64 {
    let header = u64::from(message.header.source.is_some()) + u64::from(message.header.responder.is_some());
    HEADERS + NAME * (header + message.objects().map(|o| names(&o)).sum::<u64>())
}

/// Addresses and identifiers in an object.
fn names(object: &Object<'_>) -> u64 {
    match object {
        Object::PeerInfo(info) => u64::from(info.id.is_some()) + info.addresses.len() as u64,
        Object::RoutingTable(peers) | Object::NeighborTable(peers) => {
            peers.iter().map(|info| u64::from(info.id.is_some()) + info.addresses.len() as u64).sum()
        }
        Object::PeerId(_)
        | Object::AddressInfo(_)
        | Object::PLookup(_)
        | Object::ResourceId(_)
        | Object::RLookup(_)
        | Object::Owner(_)
        | Object::AsNumber(_) => 1,
        // A record is named by its place.
        Object::Resource(_) => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::p2pp::{Builder, Header, MessageType, PeerInfo, TransactionId};
    use wire::{Contact, HashAlgorithm, NodeId};

    #[test]
    fn a_message_costs_twenty_bytes_and_four_for_every_name() {
        let id = NodeId(HashAlgorithm::Sha256.digest(b"a"));
        let header = Header::request(MessageType::KeepAlive, TransactionId(1), id);
        let mut model = ModelBytes::default();
        model.add(&Builder::new(&header).finish());
        assert_eq!(model.by_function["keepalive"], 24);
        let contact = Contact { id, address: ([10, 0, 0, 1], 7_080).into() };
        let header = Header::request(MessageType::Join, TransactionId(1), id);
        let info = Object::PeerInfo(PeerInfo::brief(&contact));
        model.add(&Builder::new(&header).with(&info).finish());
        assert_eq!(model.by_function["join"], 20 + 4 + 8);
        model.add(b"not p2pp");
        assert_eq!(model.rates(10.0)["other"], 2.0);
    }
}
