//! Whom an asker knows already, so that an answer need not name them.
//!
//! A table that has settled is told the same names again and again, 39 bytes each. So a question may
//! list its asker's peers around what it asks for, by two bytes each: the first of
//! SHA-256(transaction-ID ‖ Node-ID). Whoever answers leaves out those listed. By chance one peer in
//! some thousands is left out although it is not known; since the transaction-ID is drawn anew for each
//! question, the next one names it, and nobody can choose an identity that is always left out.

use smallvec::SmallVec;

use super::TransactionId;
use crate::{HashAlgorithm, NodeId};

/// Bytes that stand for a peer.
pub const TAG_LEN: usize = 2;

/// The list for a question: two bytes for each peer.
pub fn list<'a>(transaction: TransactionId, peers: impl Iterator<Item = &'a NodeId>) -> Vec<u8> {
    let mut tags = Vec::with_capacity(TAG_LEN * peers.size_hint().1.unwrap_or_default());
    peers.for_each(|id| tags.extend_from_slice(&tag(transaction, id)));
    tags
}

/// Whether a list that came with a question stands for this peer, too.
pub fn lists(known: &[u8], transaction: TransactionId, peer: &NodeId) -> bool {
    let tag = tag(transaction, peer);
    known.chunks_exact(TAG_LEN).any(|known| known == tag)
}

fn tag(transaction: TransactionId, peer: &NodeId) -> [u8; TAG_LEN] {
    // On the stack, for it is needed for every peer that an answer might name.
    let mut bytes: SmallVec<[u8; 64]> = SmallVec::from_slice(&transaction.0.to_be_bytes());
    bytes.extend_from_slice(peer.key().as_bytes());
    let digest = HashAlgorithm::Sha256.digest(&bytes);
    [digest.as_bytes()[0], digest.as_bytes()[1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u32) -> NodeId {
        NodeId(HashAlgorithm::Sha256.digest(&n.to_be_bytes()))
    }

    #[test]
    fn those_listed_are_known_and_hardly_anybody_else() {
        let peers: Vec<NodeId> = (0..20).map(peer).collect();
        let known = list(TransactionId(7), peers.iter());
        assert_eq!(known.len(), 20 * TAG_LEN);
        assert!(peers.iter().all(|p| lists(&known, TransactionId(7), p)));
        let taken_for_known = (100..10_100).filter(|n| lists(&known, TransactionId(7), &peer(*n))).count();
        assert!(taken_for_known < 15, "{taken_for_known} of 10,000; three are to be expected");
    }

    #[test]
    fn whoever_is_left_out_once_is_named_the_next_time() {
        let known = [peer(1)];
        let unlucky =
            (2..).map(peer).find(|p| lists(&list(TransactionId(1), known.iter()), TransactionId(1), p));
        let unlucky = unlucky.expect("two bytes repeat");
        assert!(!lists(&list(TransactionId(2), known.iter()), TransactionId(2), &unlucky));
    }

    #[test]
    fn half_a_tag_stands_for_nobody() {
        let known = list(TransactionId(7), [peer(1)].iter());
        assert!(!lists(&known[..1], TransactionId(7), &peer(1)));
    }
}
