//! Messages that wait for a link, and for whom they are.

use wire::{HashAlgorithm, NodeId, PublicKey};

use crate::outbox::Outbox;

/// Messages that wait for a link, and their bytes together: what a node asks one peer at once.
pub(crate) const MAX_WAITING: (usize, usize) = (16, 16 * 1_200);

/// How much of a message's beginning is kept: what tells one P2PP request from another.
pub(crate) const BEGINNING: usize = 16;

/// Whom a message is for, where its sender knows: a Node-ID, and the hash that makes it of a key.
pub(crate) type Meant = Option<(NodeId, HashAlgorithm)>;

/// A message that leaves, or waits to.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) label: u8,
    pub(crate) meant: Meant,
}

impl Message {
    /// Whether this peer may read it.
    pub(crate) fn is_for(&self, peer: &PublicKey) -> bool {
        self.meant.is_none_or(|(id, hash)| peer.node_id(hash) == id)
    }
}

/// Messages that wait for a link.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Vec<Message>);

impl Waiting {
    /// Keeps a message; one that waits already was only repeated.
    pub(crate) fn push(&mut self, message: Message, out: &mut Outbox) {
        let (most, most_bytes) = MAX_WAITING;
        let bytes: usize = self.0.iter().map(|waits| waits.bytes.len()).sum();
        if self.0.iter().any(|waits| waits.bytes == message.bytes) {
            return;
        }
        if self.0.len() >= most || bytes + message.bytes.len() > most_bytes {
            out.count_drop("link waits");
            return;
        }
        self.0.push(message);
    }

    /// What waited for a link to this peer, now that it stands.
    pub(crate) fn take_for(&mut self, peer: &PublicKey, out: &mut Outbox) -> Vec<Message> {
        let (for_it, others): (Vec<_>, Vec<_>) = self.take().into_iter().partition(|m| m.is_for(peer));
        others.iter().for_each(|_| out.count_drop("link of another"));
        for_it
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.0)
    }
}

/// The beginning of a message.
pub(crate) fn beginning(message: &[u8]) -> [u8; BEGINNING] {
    let mut beginning = [0; BEGINNING];
    let len = message.len().min(BEGINNING);
    beginning[..len].copy_from_slice(&message[..len]);
    beginning
}
