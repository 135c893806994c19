//! Stands where it likes: keys are drawn until the Node-ID, the hash of the key, falls beside the
//! victim's name. Nothing is assigned; the work is done as an attacker would do it, and costs as many
//! draws as the scenario has peers, once for each Sybil. Peers and names far from the victim are
//! served honestly, so that the Sybils are in good standing everywhere.

use std::collections::BTreeMap;

use wire::p2pp::Message;
use wire::{Contact, HashAlgorithm, Key, KeyPair, NodeId};

use super::{Twist, colluder, sought};

/// The part of the space, as a power of two, in which Sybils stand: nearer to the name than the nearest
/// of 10,000 honest peers stands by chance.
const BITS: u32 = 14;

/// Keys that fell beside a name.
#[derive(Default)]
pub(super) struct Keys {
    /// The next number to draw by.
    next: u64,
    of: BTreeMap<usize, u64>,
}

impl Keys {
    /// A key whose Node-ID shares its first [`BITS`] bits with the name, of those that `draw` gives.
    pub(super) fn beside(
        &mut self,
        name: &Key,
        peer: usize,
        hash: HashAlgorithm,
        draw: impl Fn(u64) -> KeyPair,
    ) -> KeyPair {
        if let Some(n) = self.of.get(&peer) {
            return draw(*n);
        }
        loop {
            let key = draw(self.next);
            self.next += 1;
            if key.public().node_id(hash).key().common_prefix(name) >= BITS {
                self.of.insert(peer, self.next - 1);
                return key;
            }
        }
    }
}

pub(super) fn twist(message: &Message<'_>, own: NodeId, gang: &[Contact], name: &Key) -> Twist {
    match sought(message) {
        Some(key) if key.common_prefix(name) >= BITS / 2 => colluder::twist(message, own, gang),
        _ => Twist::Heard,
    }
}
