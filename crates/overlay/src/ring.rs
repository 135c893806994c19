//! The peers one knows on a ring, in the order in which one meets them walking clockwise from oneself.
//!
//! The first of them are the successors, the last the predecessors, and whoever leads to a key stands
//! just before it: one binary search answers every question of a ring.

use std::ops::Range;

use wire::{Contact, Distance, Key, NodeId};

use crate::table::Peer;

/// Peers by their clockwise distance from `local`.
#[derive(Debug)]
pub(crate) struct Ring {
    local: NodeId,
    peers: Vec<Peer>,
}

impl Ring {
    pub(crate) fn new(local: NodeId) -> Self {
        Ring { local, peers: Vec::new() }
    }

    pub(crate) fn local(&self) -> NodeId {
        self.local
    }

    /// How far one walks from us to a key.
    pub(crate) fn distance(&self, key: &Key) -> Distance {
        self.local.key().clockwise_to(key)
    }

    /// The peers, successors first, predecessors last.
    pub(crate) fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// Where a key stands: behind so many peers.
    pub(crate) fn place(&self, key: &Key) -> usize {
        let distance = self.distance(key);
        self.peers.partition_point(|p| self.distance(p.contact.id.key()) < distance)
    }

    /// The place of this peer, if we know it.
    pub(crate) fn find(&self, id: &NodeId) -> Option<usize> {
        let place = self.place(id.key());
        self.peers.get(place).filter(|p| p.contact.id == *id).map(|_| place)
    }

    pub(crate) fn get(&self, id: &NodeId) -> Option<&Peer> {
        self.find(id).map(|place| &self.peers[place])
    }

    pub(crate) fn get_mut(&mut self, id: &NodeId) -> Option<&mut Peer> {
        self.find(id).map(|place| &mut self.peers[place])
    }

    /// Enters a peer that is not ourselves and not known; returns its place.
    pub(crate) fn insert(&mut self, peer: Peer) -> usize {
        let place = self.place(peer.contact.id.key());
        self.peers.insert(place, peer);
        place
    }

    pub(crate) fn remove(&mut self, place: usize) -> Peer {
        self.peers.remove(place)
    }

    /// The peers in good standing among these places.
    pub(crate) fn good(&self, places: Range<usize>) -> impl DoubleEndedIterator<Item = &Peer> {
        self.peers[places].iter().filter(|p| p.failures == 0)
    }

    /// How many peers are in good standing.
    pub(crate) fn len(&self) -> usize {
        self.good(0..self.peers.len()).count()
    }

    /// The first `count` peers in good standing, as one meets them clockwise.
    pub(crate) fn successors(&self, count: usize) -> impl Iterator<Item = &Peer> {
        self.good(0..self.peers.len()).take(count)
    }

    /// The last `count` peers in good standing, the nearest to us first.
    pub(crate) fn predecessors(&self, count: usize) -> impl Iterator<Item = &Peer> {
        self.good(0..self.peers.len()).rev().take(count)
    }
}

/// How responsible a peer is for a key: the first one at or after it is the most.
pub(crate) fn after(key: &Key, peer: &NodeId) -> Distance {
    key.clockwise_to(peer.key())
}

/// How far a peer that stands before a key has to go to it.
pub(crate) fn before(key: &Key, peer: &NodeId) -> Distance {
    peer.key().clockwise_to(key)
}

/// A peer's contact, for the ends of lists.
pub(crate) fn contact(peer: &Peer) -> Contact {
    peer.contact
}
