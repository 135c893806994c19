//! What a world may look at to see whether a peer keeps its promises. Nothing here costs the peer
//! anything unless somebody looks.

use std::net::SocketAddr;

use wire::{NodeId, Time};

use crate::node::Node;
use crate::publish::What;

/// How much a peer keeps of everything that has a bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sizes {
    /// Entries of the routing table.
    pub table: usize,
    /// Records held.
    pub records: usize,
    /// Requests of ours, or passed on, that wait for an answer.
    pub requests: usize,
    /// Requests of others, and the answers they got.
    pub served: usize,
    /// Searches under way.
    pub searches: usize,
}

impl Sizes {
    /// The bounds.
    pub const MOST: Sizes = Sizes {
        // What full membership of a large mesh takes; a table of rows stays far below.
        table: 4_096,
        records: crate::storage::MAX_RECORDS,
        requests: crate::transaction::MAX_CLIENTS,
        served: crate::transaction::MAX_SERVERS,
        searches: crate::search::MAX_SEARCHES,
    };
}

/// Who stands in a routing table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// The peer.
    pub id: NodeId,
    /// Where it is.
    pub address: SocketAddr,
    /// When it last answered.
    pub last_seen: Time,
    /// Whether messages are sent through it; else it only waits for a place.
    pub in_use: bool,
}

impl Node {
    /// How much this peer keeps.
    pub fn sizes(&self) -> Sizes {
        let (requests, served) = self.transactions.counts();
        Sizes {
            table: self.standing.as_ref().map_or(0, |s| s.table.len()),
            records: self.storage.len(),
            requests,
            served,
            searches: self.searches.count(),
        }
    }

    /// Who stands in the routing table.
    pub fn known(&self) -> Vec<Known> {
        let entries = self.standing.as_ref().map(|s| s.table.contacts()).unwrap_or_default();
        let known = |e: overlay::Entry| Known {
            id: e.contact.id,
            address: e.contact.address,
            last_seen: e.last_seen,
            in_use: e.standing != overlay::Standing::Spare,
        };
        entries.into_iter().map(known).collect()
    }

    /// The sequence number of the record that this peer published of a user it serves.
    pub fn published_sequence(&self, aor: &str) -> Option<u64> {
        let publication = self.publications.find(&What::User(aor.to_owned()))?;
        publication.record.as_ref().map(|r| r.sequence)
    }
}
