//! One owner of a /16, with an identity for each of its addresses.
//!
//! Sixty-five thousand whole peers would be honest waste: the owner runs one program that answers for
//! all of them. It keeps no table and no record; it calls on honest peers from ever other identities,
//! answers every question, and names nobody but its own. That is stronger than so many peers, since
//! nothing of it ever fails, waits or minds a budget.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use wire::p2pp::{Builder, Class, Code, Header, Message, MessageType, TransactionId};
use wire::{Contact, Key, NodeId, Rng, RngExt};

use super::{NAMED, answer, nearest, sought};
use crate::chance::{Use, seed, stream};
use crate::net::PEER_PORT;
use crate::queue::Happening;
use crate::world::World;

/// Identities at most: one for each address.
pub(super) const MAX_IDS: usize = 65_536;

/// Where the /16 begins: 198.18.0.0 is for benchmarks (RFC 2544), no model gives it to a peer.
const FIRST: u32 = 0xc612_0000;

/// Numbers of these identities among the peers.
const FIRST_NUMBER: usize = 1 << 40;

/// How often the owner calls on honest peers.
const ROUND: Duration = Duration::from_millis(100);

/// Whether this number is an identity of the prefix.
pub(crate) fn is_puppet(peer: usize) -> bool {
    peer >= FIRST_NUMBER
}

/// The number of the identity at an address.
pub(crate) fn puppet_at(address: Ipv4Addr) -> Option<usize> {
    let n = u32::from(address).checked_sub(FIRST)? as usize;
    (n < MAX_IDS).then_some(FIRST_NUMBER + n)
}

/// The address of an identity.
pub(crate) fn host(peer: usize) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + (peer - FIRST_NUMBER) as u32)
}

/// The identities of a prefix.
#[derive(Default)]
pub(crate) struct Puppets {
    /// By number.
    contacts: Vec<Contact>,
    /// By identity, so that the nearest are found without asking all.
    sorted: Vec<Contact>,
    overlay: u32,
    rng: Option<Rng>,
}

impl Puppets {
    /// Some of them near a key: of those around its place in the order, the nearest.
    fn around(&self, key: &Key) -> Vec<Contact> {
        let place = self.sorted.partition_point(|c| c.id.key() < key);
        let from = place.saturating_sub(4 * NAMED);
        nearest(&self.sorted[from..self.sorted.len().min(place + 4 * NAMED)], key, NAMED)
    }

    /// What an identity says to something that reached it.
    pub(crate) fn answer(&self, peer: usize, bytes: &[u8]) -> Option<Vec<u8>> {
        let own = self.contacts.get(peer - FIRST_NUMBER)?.id;
        let message = Message::parse(bytes).ok()?;
        if message.header.class != Class::Request {
            return None;
        }
        let key = sought(&message).or(message.header.source.map(|id| id.0))?;
        match message.header.message {
            MessageType::KeepAlive => Some(Builder::new(&message.header.answer(Code::OK, own)).finish()),
            MessageType::LookupObject => Some(answer(&message, own, Code::NOT_FOUND, &self.around(&key))),
            MessageType::LookupPeer | MessageType::Join | MessageType::ExchangeTable => {
                Some(answer(&message, own, Code::OK, &self.around(&key)))
            }
            _ => None,
        }
    }
}

impl World<'_> {
    /// The owner makes its identities, at first, and calls on honest peers from some of them.
    pub(super) fn spread_prefix(&mut self, entry: usize) {
        let attackers = self.scenario.attackers[entry];
        if self.attack.puppets.contacts.is_empty() {
            self.make_puppets(attackers.count);
        }
        let calls = (attackers.per_s * ROUND.as_secs_f64()).round() as usize;
        for _ in 0..calls {
            let Puppets { contacts, overlay, rng: Some(rng), .. } = &mut self.attack.puppets else { return };
            let puppet = rng.random_range(0..contacts.len());
            let honest = self.live[rng.random_range(0..self.live.len())];
            let transaction = TransactionId(rng.random());
            let own: NodeId = contacts[puppet].id;
            let mut header = Header::request(MessageType::KeepAlive, transaction, own);
            header.overlay = *overlay;
            let bytes = Builder::new(&header).finish();
            let remote = SocketAddr::from((self.net.host(honest), PEER_PORT));
            self.attack.tally.twisted += 1;
            self.put_on_wire(FIRST_NUMBER + puppet, remote, bytes);
        }
        self.queue.push(self.now + ROUND, Happening::Attack(entry));
    }

    fn make_puppets(&mut self, count: usize) {
        let (scenario, hash) = (self.scenario.seed, self.key_hash);
        let signatures = self.scenario.signatures;
        let contact = |n: usize| Contact {
            id: signatures.key_pair(seed(scenario, Use::Grinding, n as u64)).public().node_id(hash),
            address: SocketAddr::from((host(FIRST_NUMBER + n), PEER_PORT)),
        };
        let puppets = &mut self.attack.puppets;
        puppets.contacts = (0..count).map(contact).collect();
        puppets.sorted = puppets.contacts.clone();
        puppets.sorted.sort_unstable();
        puppets.rng = Some(stream(scenario, Use::Grinding));
        // Whoever listens knows the tag of the overlay.
        let founder = self.peers.first().and_then(|p| p.node.as_ref());
        puppets.overlay = founder.and_then(|n| n.overlay_tag()).unwrap_or(0);
        self.attack.tally.attackers += count as u64;
    }
}
