//! Attackers: peers of the shipped code between whose ears and mouth somebody sits.
//!
//! An attacker joins, answers and keeps its tables like any peer, with keys of its own; a `Twist`
//! decides for each request that reaches it whether the peer hears it, nobody does, or a forged answer
//! goes back. What an attacker would send to keep others' records alive is held back too. All
//! attackers of one entry know each other. They neither look up nor are looked up: what counts is
//! what honest peers find.
//!
//! | file | who |
//! |---|---|
//! | `dropper.rs` | takes part in upkeep, drops lookups and stores |
//! | `liar.rs` | names the wrong peers, denies records, keeps nothing |
//! | `colluder.rs` | names only colluders, the nearest to the key; never returns a value |
//! | `sybil.rs` | a colluder whose key was ground until its Node-ID fell beside a name |
//! | `poisoner.rs` | names peers that do not exist, asked or not |
//! | `prefix.rs` | 65,000 identities, one for each address of one /16 |
//! | `tally.rs` | what it came to, and whether that is within the bars |
//!
//! Signatures are real: an attacker signs what it says with its own key, and can sign nothing else.

mod colluder;
mod dropper;
mod liar;
mod poisoner;
mod prefix;
mod sybil;
mod tally;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use node::directory::place_of_user;
use serde::{Deserialize, Serialize};
use wire::p2pp::{Builder, Class, Code, Message, MessageType, Object, PLookup, PeerList, RLookup};
use wire::{Contact, HashAlgorithm, Key, KeyPair, NodeId};

use crate::chance::{Use, mix, seed, unit};
use crate::net::PEER_PORT;
use crate::queue::Happening;
use crate::scenario::{Scenario, SignatureKind};
use crate::world::World;

pub(crate) use prefix::{host, is_puppet, puppet_at};
pub use tally::{Lookups, Tally};

/// Contacts of a forged answer: as many as an honest one.
const NAMED: usize = 8;

/// What an attacker does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Takes part in upkeep, drops lookups and stores.
    Dropper,
    /// Answers lookups with the wrong peers, denies records, keeps none.
    Liar,
    /// Answers only with the colluders nearest to the key, never with a value.
    Colluder,
    /// A colluder beside one user's name.
    Sybil,
    /// Names peers that do not exist, asked or not.
    Poisoner,
    /// Owns a /16 and an identity for each of its addresses.
    Prefix,
}

/// Attackers of one kind.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attackers {
    /// What they do.
    pub kind: Kind,
    /// Share of the scenario's peers that are among them.
    #[serde(default)]
    pub share: f64,
    /// How many come besides the scenario's peers.
    #[serde(default)]
    pub count: usize,
    /// When those come.
    #[serde(default)]
    pub at_s: f64,
    /// Of a Sybil: the number of the peer whose first user is to vanish.
    #[serde(default)]
    pub against: usize,
    /// Of a Sybil: share of all lookups that look for that user.
    #[serde(default)]
    pub sought: f64,
    /// Of a prefix: requests per second that it sends to make itself known.
    #[serde(default)]
    pub per_s: f64,
}

impl Attackers {
    /// What is impossible, as field and reason.
    pub(crate) fn mistake(&self, nodes: usize) -> Option<(&'static str, String)> {
        if !(0.0..=1.0).contains(&self.share) {
            return Some(("share", format!("{} is not between 0 and 1", self.share)));
        }
        if self.count > prefix::MAX_IDS {
            return Some(("count", format!("at most {}", prefix::MAX_IDS)));
        }
        if !(0.0..=1e8).contains(&self.at_s) {
            return Some(("at_s", format!("{} is not between 0 and 1e8", self.at_s)));
        }
        if !(0.0..=1e5).contains(&self.per_s) {
            return Some(("per_s", format!("{} is not between 0 and 1e5", self.per_s)));
        }
        if !(0.0..=1.0).contains(&self.sought) {
            return Some(("sought", format!("{} is not between 0 and 1", self.sought)));
        }
        if self.against >= nodes {
            return Some(("against", format!("there is no peer {}", self.against)));
        }
        let crowd = matches!(self.kind, Kind::Sybil | Kind::Prefix);
        if crowd && (self.count == 0 || self.share > 0.0) {
            return Some(("count", "this kind comes besides the others: give a count and no share".into()));
        }
        None
    }
}

/// What becomes of a request that reaches an attacker.
pub(crate) enum Twist {
    /// The peer hears it.
    Heard,
    /// Nobody does.
    Dropped,
    /// The peer does not hear it, and this goes back.
    Forged(Vec<u8>),
    /// The peer hears it, and this goes to the sender besides.
    Beside(Vec<u8>),
}

/// The attackers of a run, and what they came to.
pub(crate) struct Attack {
    seed: u64,
    hash: HashAlgorithm,
    signatures: SignatureKind,
    entries: Vec<Attackers>,
    /// Which entry a peer belongs to.
    who: BTreeMap<usize, usize>,
    /// The attackers of each entry.
    gangs: Vec<Vec<Contact>>,
    /// The entries whose members are still to come, one for each.
    coming: Vec<usize>,
    keys: sybil::Keys,
    pub(crate) puppets: prefix::Puppets,
    pub(crate) tally: Tally,
}

impl Attack {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Attack {
            seed: scenario.seed,
            hash: scenario.hash_algorithm().unwrap_or_default(),
            signatures: scenario.signatures,
            entries: scenario.attackers.clone(),
            who: BTreeMap::new(),
            gangs: vec![Vec::new(); scenario.attackers.len()],
            coming: Vec::new(),
            keys: sybil::Keys::default(),
            puppets: prefix::Puppets::default(),
            tally: Tally::default(),
        }
    }

    /// Whether anybody attacks.
    pub(crate) fn is_on(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Whether a peer is an attacker.
    pub(crate) fn is_attacker(&self, peer: usize) -> bool {
        self.who.contains_key(&peer) || is_puppet(peer)
    }

    /// Whom a lookup is about, if it is about a name under attack; `mark` is evenly between 0 and 1.
    pub(crate) fn sought(&self, mark: f64) -> Option<usize> {
        self.entries.iter().find(|e| e.kind == Kind::Sybil && mark <= e.sought).map(|e| e.against)
    }

    /// Whether this user's name is under attack.
    pub(crate) fn is_victim(&self, owner: usize, aor: &str) -> bool {
        let against = |e: &Attackers| e.kind == Kind::Sybil && e.against == owner;
        self.entries.iter().any(against) && aor == user_of(owner)
    }

    /// Decides what a peer that joins is, and says which key it has if it chose one.
    pub(crate) fn enlist(&mut self, peer: usize) {
        if let Some(entry) = self.coming.pop() {
            self.who.insert(peer, entry);
        } else if peer > 0 {
            let mark = unit(mix(self.seed ^ mix(peer as u64 ^ 0xbad)));
            let mut sum = 0.0;
            let entry = self.entries.iter().position(|e| {
                sum += e.share;
                mark <= sum && e.share > 0.0
            });
            self.who.extend(entry.map(|entry| (peer, entry)));
        }
    }

    /// The key of a peer that chose it.
    pub(crate) fn chosen_key(&mut self, peer: usize) -> Option<KeyPair> {
        let entry = self.entries[*self.who.get(&peer)?];
        if entry.kind != Kind::Sybil {
            return None;
        }
        let name = place_of_user(self.hash, &user_of(entry.against));
        let draw = |n: u64| {
            let seed = seed(self.seed ^ entry.against as u64, Use::Grinding, n);
            self.signatures.key_pair(seed)
        };
        Some(self.keys.beside(name.key(), peer, self.hash, draw))
    }

    /// An attacker is there, at this address.
    pub(crate) fn introduce(&mut self, peer: usize, contact: Contact) {
        if let Some(entry) = self.who.get(&peer) {
            self.gangs[*entry].retain(|c| c.id != contact.id);
            self.gangs[*entry].push(contact);
            self.tally.attackers += 1;
        }
    }

    /// What becomes of a datagram that reaches a peer from `remote`.
    pub(crate) fn twist(&mut self, peer: usize, remote: SocketAddr, own: NodeId, bytes: &[u8]) -> Twist {
        let Some(entry) = self.who.get(&peer).copied() else { return Twist::Heard };
        let Ok(message) = Message::parse(bytes) else { return Twist::Heard };
        if message.header.class != Class::Request {
            return Twist::Heard;
        }
        let gang = &self.gangs[entry];
        let twist = match self.entries[entry].kind {
            Kind::Dropper => dropper::twist(&message),
            Kind::Liar => liar::twist(&message, own, gang),
            Kind::Colluder => colluder::twist(&message, own, gang),
            Kind::Sybil => {
                let name = place_of_user(self.hash, &user_of(self.entries[entry].against));
                sybil::twist(&message, own, gang, name.key())
            }
            Kind::Poisoner => poisoner::twist(&message, own, remote),
            Kind::Prefix => Twist::Heard,
        };
        self.tally.twisted += u64::from(!matches!(twist, Twist::Heard));
        twist
    }

    /// Whether an attacker keeps back what its peer wants to send: records of others and news of them.
    pub(crate) fn keeps_back(&self, peer: usize, bytes: &[u8]) -> bool {
        if !self.who.contains_key(&peer) {
            return false;
        }
        let Ok(message) = Message::parse(bytes) else { return false };
        let spreads = [MessageType::Replicate, MessageType::Transfer, MessageType::Refresh];
        message.header.class == Class::Request && spreads.contains(&message.header.message)
    }
}

impl World<'_> {
    /// Puts those who come besides the scenario's peers into the queue.
    pub(crate) fn plan_attack(&mut self) {
        for (entry, attackers) in self.scenario.attackers.iter().enumerate() {
            if attackers.count > 0 || attackers.kind == Kind::Prefix {
                let at = wire::Time::ZERO + std::time::Duration::from_secs_f64(attackers.at_s);
                self.queue.push(at, Happening::Attack(entry));
            }
        }
    }

    /// Those who come besides the scenario's peers come, ten a second; a prefix makes itself known.
    pub(crate) fn attack(&mut self, entry: usize) {
        let attackers = self.scenario.attackers[entry];
        if attackers.kind == Kind::Prefix {
            return self.spread_prefix(entry);
        }
        self.attack.coming.push(entry);
        self.join();
        let here = self.attack.who.values().filter(|e| **e == entry).count();
        if here < attackers.count {
            let next = self.now + std::time::Duration::from_millis(100);
            self.queue.push(next, Happening::Attack(entry));
        }
    }

    /// Counts the attackers in the tables of honest peers.
    pub(crate) fn sum_up_attack(&mut self) {
        if !self.attack.is_on() {
            return;
        }
        let (mut all, mut bad) = (0u64, 0u64);
        for number in &self.live {
            let Some(node) = self.peers[*number].node.as_ref() else { continue };
            if self.attack.is_attacker(*number) {
                continue;
            }
            for row in node.routes(self.now) {
                let Ok(address) = row.address.parse::<SocketAddr>() else { continue };
                let peer = self.net.peer_at(&address);
                all += 1;
                bad += u64::from(peer.is_none_or(|p| self.attack.is_attacker(p)));
            }
        }
        self.attack.tally.entries_share = bad as f64 / all.max(1) as f64;
        self.report.attack = Some(self.attack.tally.clone());
    }
}

/// The first user of a peer.
fn user_of(peer: usize) -> String {
    format!("user{peer}@sim.test")
}

/// The key that a lookup is about.
fn sought(message: &Message<'_>) -> Option<Key> {
    message.objects().find_map(|o| match o {
        Object::RLookup(RLookup { resource, .. }) => Some(resource.0),
        Object::PLookup(PLookup { key, .. }) => Some(key),
        _ => None,
    })
}

/// The `count` contacts nearest to a key.
fn nearest(gang: &[Contact], key: &Key, count: usize) -> Vec<Contact> {
    let mut all: Vec<_> = gang.iter().map(|c| (key.xor(c.id.key()), *c)).collect();
    let count = count.min(all.len());
    if count > 0 {
        all.select_nth_unstable(count - 1);
    }
    all.truncate(count);
    all.sort_unstable();
    all.into_iter().map(|(_, contact)| contact).collect()
}

/// An answer that names these contacts.
fn answer(message: &Message<'_>, own: NodeId, code: Code, contacts: &[Contact]) -> Vec<u8> {
    let mut header = message.header.answer(code, own);
    header.from_peer = true;
    header.ttl = message.header.ttl;
    let mut builder = Builder::new(&header);
    builder.push(&Object::NeighborTable(PeerList::Contacts(contacts)));
    builder.finish()
}

/// A peer that does not exist, with an identity near a key and an address of the simulated kind.
fn invented(key: &Key, n: u64) -> Contact {
    let mut noise = [0u8; Key::MAX_LEN];
    for (i, byte) in noise.iter_mut().enumerate() {
        *byte = mix(n ^ (i as u64) << 32) as u8;
    }
    let noise = Key::from_slice(&noise[..key.as_bytes().len()]).unwrap_or(*key);
    let id = NodeId(key.with_suffix_of(12 + (n % 8) as u32, &noise));
    // 203.0.113.0/24 is for documentation (RFC 5737): nobody is there.
    let address = SocketAddr::from(([203, 0, 113, mix(n) as u8], PEER_PORT));
    Contact { id, address }
}

#[cfg(test)]
mod tests;
