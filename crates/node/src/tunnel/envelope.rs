//! Envelopes: SIP messages signed for one peer, sealed where hops must not read them, and heard once.
//!
//! ```text
//! stamped:  | run (64) | number (32) | SIP ... |
//! signed:   | version (8) = 1 | sender's public key (32 bytes) | signature (64 bytes) | stamped |
//! sealed:   | version (8) = 2 | a signed envelope that only the receiver can open (`link::sealed`) |
//! linked:   | version (8) = 3 | stamped |
//! ```
//! The signature covers a domain string, the receiver's Node-ID and what follows it. In the profile secure an
//! envelope is sealed where hops carry it; over the link between the two peers, which nobody else opens and which
//! says whose it is, nothing is added. In the other profiles it is signed, and readable. One of another kind is
//! refused. Where SIP stands may stand a letter ([`crate::ratchet`]). A run is chosen by chance whenever a peer begins to count for another: so it depends on no clock and
//! nothing is kept over a restart, and who carried an envelope cannot have it heard again.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use wire::{HashAlgorithm, KeyPair, NodeId, Profile, PublicKey, Rng, RngExt, Seed, Signatures, Window};

use super::Letters;
use crate::node::Node;
use crate::ratchet::STAMP;

const DOMAIN: &[u8] = b"openvoip envelope 1\0";
const SEALED_DOMAIN: &[u8] = b"openvoip envelope 2\0";
const SIGNED: u8 = 1;
const SEALED: u8 = 2;
const LINKED: u8 = 3;
const HEAD: usize = 1 + PublicKey::LEN + KeyPair::SIGNATURE_LEN;

/// Most bytes that an envelope has besides what it says.
pub(super) const OVERHEAD: usize = HEAD + STAMP + 1 + link::sealed::OVERHEAD;

/// Most peers whose keys are known, and for whom envelopes are counted.
const MAX_PEERS: usize = 4_096;

/// Most runs remembered of one peer, and of all.
const MAX_RUNS_OF: usize = 8;
const MAX_RUNS: usize = 8_192;

/// Numbers of a run that may come late: 1,024. A hundred calls that begin at once say as much while one message
/// of them is repeated.
const WORDS: usize = 17;

/// What must be remembered to make envelopes, and to open each once.
#[derive(Default)]
pub(super) struct Envelopes {
    /// The identity keys of those whom they are sealed for.
    keys: Recent<NodeId, PublicKey, MAX_PEERS>,
    /// The run for each receiver, and its next number.
    sent: Recent<NodeId, (u64, u32), MAX_PEERS>,
    /// What was heard of each run.
    heard: Recent<(NodeId, u64), Window<WORDS>, MAX_RUNS>,
    /// What text messages go in, where somebody brought a ratchet.
    pub(super) letters: Option<Box<Letters>>,
}

impl Envelopes {
    /// Learns the key of a node, which its Node-ID is the hash of.
    pub(super) fn learn_key(&mut self, hash: HashAlgorithm, id: NodeId, key: PublicKey) {
        if key.node_id(hash) == id {
            self.keys.use_or(id, || key);
        }
    }

    /// What makes the next envelope for a peer unlike all others.
    fn stamp(&mut self, to: NodeId, rng: &mut Rng) -> [u8; STAMP] {
        let (run, next) = self.sent.use_or(to, || (rng.random(), 0));
        let mut stamp = [0; STAMP];
        stamp[..8].copy_from_slice(&run.to_be_bytes());
        stamp[8..].copy_from_slice(&next.to_be_bytes());
        match next.checked_add(1) {
            Some(number) => *next = number,
            None => (*run, *next) = (rng.random(), 0),
        }
        stamp
    }

    /// Whether an envelope is heard for the first time, as far as is remembered.
    fn is_new(&mut self, from: NodeId, stamp: &[u8; STAMP]) -> bool {
        let (run, number) = stamp.split_at(8);
        let run = u64::from_be_bytes(run.try_into().expect("eight bytes"));
        let number = u64::from(u32::from_be_bytes(number.try_into().expect("four bytes")));
        if !self.heard.holds(&(from, run)) {
            // One that always begins anew pushes out its own.
            self.heard.trim((from, 0)..=(from, u64::MAX), MAX_RUNS_OF);
        }
        let window = self.heard.use_or((from, run), Window::default);
        let new = window.is_new(number);
        if new {
            window.note(number);
        }
        new
    }
}

/// At most `MOST` things, of which the one used longest ago makes room.
pub(super) struct Recent<K, V, const MOST: usize> {
    /// Each with the number of its last use.
    things: BTreeMap<K, (V, u64)>,
    uses: u64,
}

impl<K, V, const MOST: usize> Default for Recent<K, V, MOST> {
    fn default() -> Self {
        Recent { things: BTreeMap::new(), uses: 0 }
    }
}

impl<K: Ord + Copy, V, const MOST: usize> Recent<K, V, MOST> {
    fn holds(&self, key: &K) -> bool {
        self.things.contains_key(key)
    }

    fn get(&mut self, key: &K) -> Option<&V> {
        let (thing, last) = self.things.get_mut(key)?;
        self.uses += 1;
        *last = self.uses;
        Some(thing)
    }

    /// A thing, without using it.
    pub(super) fn peek(&self, key: &K) -> Option<&V> {
        self.things.get(key).map(|(thing, _)| thing)
    }

    /// Puts a thing in the place of what was there.
    pub(super) fn put(&mut self, key: K, thing: V) {
        let mut thing = Some(thing);
        let was = self.use_or(key, || thing.take().expect("taken once"));
        if let Some(thing) = thing {
            *was = thing;
        }
    }

    /// A thing, made if it is not there.
    fn use_or(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        if !self.holds(&key) {
            self.trim(.., MOST);
        }
        self.uses += 1;
        let (thing, last) = self.things.entry(key).or_insert_with(|| (make(), 0));
        *last = self.uses;
        thing
    }

    /// Makes room for one more in a range that may hold `most`.
    fn trim(&mut self, range: impl RangeBounds<K> + Clone, most: usize) {
        if self.things.len() < most || self.things.range(range.clone()).count() < most {
            return;
        }
        let oldest = self.things.range(range).min_by_key(|(_, (_, last))| *last).map(|(key, _)| *key);
        oldest.map(|key| self.things.remove(&key));
    }
}

/// What was in an envelope.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) from: NodeId,
    pub(super) stamp: [u8; STAMP],
    /// SIP, or a letter.
    pub(super) content: Vec<u8>,
}

/// How a message goes to its receiver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Way {
    /// To its address; over the link with it, where there are links.
    Direct,
    /// Through hops, or whoever carries it.
    Hops,
}

impl Node {
    /// A SIP message for a peer with what makes it unlike all others: however often it is sent, it is heard once.
    pub(super) fn stamped(&mut self, to: NodeId, sip: &[u8]) -> Vec<u8> {
        [&self.tunnels.envelopes().stamp(to, &mut self.rng), sip].concat()
    }

    /// A stamped message as it goes over the wire, to the peer itself or through hops; `None` if it must be sealed
    /// and the peer's key is not known.
    pub(super) fn envelope(&mut self, to: &NodeId, stamped: &[u8], way: Way) -> Option<Vec<u8>> {
        if self.config.profile == Profile::Secure && way == Way::Direct {
            return Some([&[LINKED], stamped].concat());
        }
        let signed = sign(&self.identity.peer, to, stamped);
        if !self.seals() {
            return Some(signed);
        }
        let key = *self.tunnels.envelopes().keys.get(to)?;
        let sealed = link::sealed::seal(&key, SEALED_DOMAIN, Seed::child_of(&mut self.rng), &signed)?;
        Some([&[SEALED], &sealed[..]].concat())
    }

    /// Who wrote an envelope that is for us, and what; the error says what is wrong with it. One that did not come
    /// through hops came over the link of `sender`, where there are links.
    pub(super) fn open_envelope(
        &mut self,
        envelope: &[u8],
        (sender, way): (NodeId, Way),
    ) -> Result<Opened, &'static str> {
        let own = self.node_id().ok_or(BAD)?;
        let (hash, signatures) = (self.hash(), self.identity.peer.signatures());
        let of = |key: &PublicKey| key.node_id(hash);
        let (from, stamp, content) = match envelope.split_first() {
            Some((&LINKED, stamped)) if self.config.profile == Profile::Secure && way == Way::Direct => {
                let (stamp, content) = stamped.split_first_chunk::<STAMP>().ok_or(BAD)?;
                (sender, *stamp, content.to_vec())
            }
            Some((&SEALED, sealed)) if self.seals() => {
                let opened = link::sealed::open(&self.identity.peer, SEALED_DOMAIN, sealed).ok_or(BAD)?;
                let (key, stamp, content) = read(signatures, &own, &opened).ok_or(BAD)?;
                self.tunnels.envelopes().learn_key(hash, of(&key), key);
                (of(&key), *stamp, content.to_vec())
            }
            Some((&SIGNED, _)) if !self.seals() => {
                let (key, stamp, content) = read(signatures, &own, envelope).ok_or(BAD)?;
                (of(&key), *stamp, content.to_vec())
            }
            _ => return Err(BAD),
        };
        match self.tunnels.envelopes().is_new(from, &stamp) {
            true => Ok(Opened { from, stamp, content }),
            false => Err("envelope again"),
        }
    }

    /// Whether hops must not read what they carry. Stand-ins for keys, in a simulated world, agree on nothing.
    fn seals(&self) -> bool {
        self.config.profile == Profile::Secure && self.identity.peer.signatures() == Signatures::Ed25519
    }
}

/// Not for us, or not by who it says, or of another profile.
const BAD: &str = "bad envelope";

fn signed_bytes(to: &NodeId, body: &[u8]) -> Vec<u8> {
    [DOMAIN, to.key().as_bytes(), body].concat()
}

fn sign(pair: &KeyPair, to: &NodeId, body: &[u8]) -> Vec<u8> {
    let mut envelope = Vec::with_capacity(HEAD + body.len());
    envelope.push(SIGNED);
    envelope.extend_from_slice(&pair.public().0);
    envelope.extend_from_slice(&pair.sign(&signed_bytes(to, body)));
    envelope.extend_from_slice(body);
    envelope
}

/// Who signed an envelope that is for us, its stamp, and what it says; `None` if the signature is not right.
fn read<'a>(
    signatures: Signatures,
    own: &NodeId,
    envelope: &'a [u8],
) -> Option<(PublicKey, &'a [u8; STAMP], &'a [u8])> {
    let (head, body) = envelope.split_first_chunk::<HEAD>()?;
    let key = PublicKey(head[1..33].try_into().ok()?);
    let signature = head[33..].try_into().ok()?;
    let (stamp, sip) = body.split_first_chunk::<STAMP>()?;
    let right = head[0] == SIGNED && signatures.verify(&key, &signed_bytes(own, body), &signature);
    right.then_some((key, stamp, sip))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{Config, Identity, Saved};
    use wire::{Time, UnixTime};

    fn id(n: u8) -> NodeId {
        KeyPair::from_seed(Seed([n; 32])).public().node_id(HashAlgorithm::Sha256)
    }

    /// A peer alone, whose keys follow from a number.
    fn peer(n: u8, profile: Profile) -> Node {
        let listen = SocketAddr::from(([192, 0, 2, n], 7080));
        let config = Config { listen, profile, ..Config::default() };
        let identity = Identity { peer: KeyPair::from_seed(Seed([n; 32])), users: Vec::new() };
        let seed = Seed::from_number(n.into());
        Node::new(config, identity, Saved::default(), seed, Time::ZERO, UnixTime(1_800_000_000))
    }

    /// Alice's peer, which knows Bob's key, and Bob's.
    fn alice_and_bob(profile: Profile) -> [Node; 2] {
        let (mut alice, bob) = (peer(1, profile), peer(2, profile));
        alice.tunnels.envelopes().learn_key(HashAlgorithm::Sha256, id(2), bob.identity.peer.public());
        [alice, bob]
    }

    /// What one puts on the wire for another, who has this number.
    fn written(from: &mut Node, to: u8, sip: &[u8], way: Way) -> Option<Vec<u8>> {
        let stamped = from.stamped(id(to), sip);
        from.envelope(&id(to), &stamped, way)
    }

    /// What one makes of an envelope that came this way, over Alice's link if over any.
    fn open(at: &mut Node, envelope: &[u8], way: Way) -> Result<(NodeId, Vec<u8>), &'static str> {
        at.open_envelope(envelope, (id(1), way)).map(|opened| (opened.from, opened.content))
    }

    #[test]
    fn an_envelope_opens_only_for_its_receiver_and_unaltered() {
        for profile in [Profile::Signed, Profile::Secure] {
            let [mut alice, mut bob] = alice_and_bob(profile);
            let envelope = written(&mut alice, 2, b"INVITE sip:bob", Way::Hops).unwrap();
            assert_eq!(open(&mut peer(3, profile), &envelope, Way::Hops), Err(BAD));
            for at in 0..envelope.len() {
                let mut changed = envelope.clone();
                changed[at] ^= 1;
                assert_eq!(open(&mut bob, &changed, Way::Hops), Err(BAD), "{profile}, byte {at}");
                assert_eq!(
                    open(&mut bob, &envelope[..at], Way::Hops),
                    Err(BAD),
                    "{profile}, {at} bytes of it"
                );
            }
            assert_eq!(open(&mut bob, &envelope, Way::Hops), Ok((id(1), b"INVITE sip:bob".to_vec())));
        }
    }

    #[test]
    fn under_secure_hops_read_nothing_of_an_envelope_and_under_signed_all_of_it() {
        for profile in [Profile::Signed, Profile::Secure] {
            let [mut alice, mut bob] = alice_and_bob(profile);
            let envelope = written(&mut alice, 2, b"INVITE sip:bob", Way::Hops).unwrap();
            let readable = envelope.windows(6).any(|w| w == b"INVITE");
            assert_eq!(readable, profile == Profile::Signed);
            assert!(open(&mut bob, &envelope, Way::Hops).is_ok());
            assert!(
                written(&mut bob, 1, b"SIP/2.0 200 OK", Way::Hops).is_some(),
                "whose key came with what it wrote"
            );
        }
    }

    #[test]
    fn an_envelope_of_another_profile_is_refused_and_none_leaves_unsealed() {
        for [from, to] in [[Profile::Signed, Profile::Secure], [Profile::Secure, Profile::Signed]] {
            let [mut alice, _] = alice_and_bob(from);
            let envelope = written(&mut alice, 2, b"INVITE sip:bob", Way::Hops).unwrap();
            assert_eq!(open(&mut peer(2, to), &envelope, Way::Hops), Err(BAD), "{from} to {to}");
        }
        assert_eq!(written(&mut peer(1, Profile::Secure), 2, b"INVITE sip:bob", Way::Hops), None);
    }

    #[test]
    fn over_the_link_of_its_writer_nothing_is_added_and_through_hops_that_is_refused() {
        let [mut alice, mut bob] = alice_and_bob(Profile::Secure);
        let linked = written(&mut alice, 2, b"INVITE sip:bob", Way::Direct).unwrap();
        assert_eq!(linked.len(), 1 + STAMP + 14);
        assert_eq!(open(&mut bob, &linked, Way::Hops), Err(BAD));
        assert_eq!(open(&mut bob, &linked, Way::Direct), Ok((id(1), b"INVITE sip:bob".to_vec())));
        assert_eq!(open(&mut bob, &linked[..STAMP], Way::Direct), Err(BAD));
        for profile in [Profile::Signed, Profile::Open] {
            assert_eq!(open(&mut peer(2, profile), &linked, Way::Direct), Err(BAD), "{profile}");
            let [mut alice, _] = alice_and_bob(profile);
            let signed = written(&mut alice, 2, b"INVITE sip:bob", Way::Direct).unwrap();
            assert_eq!(signed[0], SIGNED, "{profile}");
        }
    }

    #[test]
    fn a_message_that_is_sent_over_the_link_and_then_through_hops_is_heard_once() {
        let [mut alice, mut bob] = alice_and_bob(Profile::Secure);
        let stamped = alice.stamped(id(2), b"hello");
        let [linked, sealed] =
            [Way::Direct, Way::Hops].map(|way| alice.envelope(&id(2), &stamped, way).unwrap());
        assert!(open(&mut bob, &linked, Way::Direct).is_ok());
        assert_eq!(open(&mut bob, &sealed, Way::Hops), Err("envelope again"));
    }

    #[test]
    fn a_key_that_is_not_the_nodes_is_not_learnt() {
        let mut alice = peer(1, Profile::Secure);
        let strangers = KeyPair::from_seed(Seed([3; 32])).public();
        alice.tunnels.envelopes().learn_key(HashAlgorithm::Sha256, id(2), strangers);
        assert_eq!(written(&mut alice, 2, b"INVITE sip:bob", Way::Hops), None);
    }

    #[test]
    fn an_envelope_is_heard_once_in_any_order_also_when_its_sender_starts_again() {
        for profile in [Profile::Signed, Profile::Secure] {
            let [mut alice, mut bob] = alice_and_bob(profile);
            let mut envelopes: Vec<_> =
                (0..5).map(|_| written(&mut alice, 2, b"hello", Way::Hops).unwrap()).collect();
            // The same keys and another chance: what a restart brings.
            let [mut again, _] = alice_and_bob(profile);
            again.rng = Seed::from_number(77).rng();
            envelopes.push(written(&mut again, 2, b"hello", Way::Hops).unwrap());
            for at in [3, 0, 1, 5, 4, 2] {
                assert!(open(&mut bob, &envelopes[at], Way::Hops).is_ok(), "{profile}: {at}");
            }
            for envelope in &envelopes {
                assert_eq!(open(&mut bob, envelope, Way::Hops), Err("envelope again"));
            }
        }
    }

    #[test]
    fn what_is_remembered_of_others_is_bounded_and_nobody_fills_it_alone() {
        let (mut envelopes, mut rng) = (Envelopes::default(), Seed::from_number(1).rng());
        let stamp = |run: u64| {
            let mut stamp = [0; STAMP];
            stamp[..8].copy_from_slice(&run.to_be_bytes());
            stamp
        };
        assert!(envelopes.is_new(id(1), &stamp(7)));
        assert!((0..10_000).all(|run| envelopes.is_new(id(2), &stamp(run))));
        assert_eq!(envelopes.heard.things.len(), 1 + MAX_RUNS_OF);
        assert!(!envelopes.is_new(id(1), &stamp(7)), "of others all is remembered");
        for n in 0..10_000_u64 {
            let id = KeyPair::from_seed(Seed::from_number(n)).public().node_id(HashAlgorithm::Md5);
            envelopes.stamp(id, &mut rng);
            envelopes.is_new(id, &stamp(0));
        }
        assert_eq!((envelopes.heard.things.len(), envelopes.sent.things.len()), (MAX_RUNS, MAX_PEERS));
    }

    #[test]
    fn the_golden_envelope_is_ours() {
        let vectors = include_str!("../../../../docs/p2pp-vectors.txt");
        let tunnel = vectors.split("\n[").find(|v| v.starts_with("request/Tunnel]")).unwrap();
        let (_, golden) = tunnel.split_once("object: Payload content=0 bytes=").unwrap();
        let golden = golden.lines().next().unwrap();
        let body =
            [&7_u64.to_be_bytes()[..], &8_u32.to_be_bytes(), b"OPTIONS sip:alice@demo.test SIP/2.0\r\n\r\n"];
        let envelope = sign(&KeyPair::from_seed(Seed([0x11; 32])), &id(0x22), &body.concat());
        assert_eq!(envelope.iter().map(|b| format!("{b:02x}")).collect::<String>(), golden);
    }
}
