//! SIP between peers.
//!
//! A SIP message for another peer is put into an *envelope* signed by our peer key for exactly that
//! peer, cut into pieces that fit a datagram, and sent in Tunnel requests. Every piece is
//! acknowledged and repeated like any request, so SIP treats the way as reliable; messages of one
//! call stay in order because the next is sent only when the one before has arrived. If the peer
//! does not answer at its address, the pieces are routed to it through the overlay before it counts
//! as lost.
//!
//! ```text
//! envelope: | version (8) = 1 | sender's public key (32 bytes) | signature (64 bytes) | SIP ... |
//! sealed:   | version (8) = 2 | an envelope that only the receiver can open (`link::sealed`) |
//! piece:    | message (32) | index (8) | count (8) | bytes ... |      (content type 1)
//! ```
//! The signature covers a domain string, the receiver's Node-ID and the SIP message. In the profile secure the
//! hops that carry an envelope must not read it: it is sealed, and one that is not is refused.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use wire::p2pp::record::Record;
use wire::p2pp::{Builder, Code, Message, MessageType, Object, object};
use wire::{Contact, HashAlgorithm, KeyPair, NodeId, Profile, PublicKey, RngExt, Seed, Signatures, Time};

use crate::forward::MAX_WAYS;
use crate::node::{Alarm, Node, millis};
use crate::request::{ANSWER_TIMEOUT, Purpose};
use crate::whereabouts::Whereabouts;

/// Bytes of an envelope in one datagram: [`wire::p2pp::MAX_DATAGRAM`] less header (64), receiver (36),
/// piece header (11) and a cookie (20).
const PIECE: usize = 1_060;

/// Most pieces of one message; together 16 kB, several times the largest INVITE phones send.
const MAX_PIECES: usize = 16;

/// Most messages waiting for one call.
const MAX_QUEUE: usize = 64;

/// Most calls' streams, and most messages being put together, at once.
const MAX_STREAMS: usize = 2_048;

/// Most messages being put together whose first piece came from one address: pieces carry no
/// signature yet, so nobody shall take the room of all.
const MAX_ASSEMBLIES_BY: usize = 64;

/// A message that is not complete by then never will be.
const ASSEMBLY_LIFETIME: Duration = Duration::from_secs(15);

/// A peer of a call that was silent for so long is asked whether it lives.
const SILENCE: Duration = Duration::from_millis(1_200);

/// How often silence is looked for while there are calls.
const LIVENESS_TICK: Duration = Duration::from_millis(500);

/// How long the question may take.
const LIVENESS_TIMEOUT: Duration = Duration::from_millis(2_500);

const CONTENT_ENVELOPE: u8 = 0;
const CONTENT_PIECE: u8 = 1;
const DOMAIN: &[u8] = b"openvoip envelope 1\0";
const SEALED_DOMAIN: &[u8] = b"openvoip envelope 2\0";
const VERSION_SIGNED: u8 = 1;
const VERSION_SEALED: u8 = 2;
const ENVELOPE_HEAD: usize = 1 + PublicKey::LEN + KeyPair::SIGNATURE_LEN;

/// One ordered stream of messages: a peer, and the hash of a Call-ID.
pub(crate) type StreamKey = (NodeId, u64);

#[derive(Default)]
struct Stream {
    queue: VecDeque<Vec<u8>>,
    /// The message on its way.
    current: Option<Vec<u8>>,
    unacknowledged: usize,
    through_overlay: bool,
}

struct Assembly {
    pieces: Vec<Option<Vec<u8>>>,
    started: Time,
    /// Where the first piece came from.
    by: SocketAddr,
}

/// Everything about SIP between this peer and others.
#[derive(Default)]
pub(crate) struct Tunnels {
    streams: BTreeMap<StreamKey, Stream>,
    contacts: BTreeMap<NodeId, Contact>,
    /// The identity keys of those whom envelopes are sealed for.
    keys: BTreeMap<NodeId, PublicKey>,
    /// The peers that carry a client, the one to be tried first in front.
    carriers: BTreeMap<NodeId, Vec<Contact>>,
    heard: BTreeMap<SocketAddr, Time>,
    assembling: BTreeMap<(NodeId, u32), Assembly>,
}

impl Tunnels {
    /// Where a peer we talk with is.
    pub(crate) fn contact(&self, id: &NodeId) -> Option<Contact> {
        self.contacts.get(id).copied()
    }

    /// Learns where a peer is that we are going to talk with.
    pub(crate) fn meet(&mut self, now: Time, contact: Contact) {
        if self.contacts.len() < MAX_STREAMS || self.contacts.contains_key(&contact.id) {
            self.contacts.insert(contact.id, contact);
            self.heard.entry(contact.address).or_insert(now);
        }
    }

    /// Reads where a node is from its contact record, and for a client remembers who carries it.
    pub(crate) fn read_contact(
        &mut self,
        hash: HashAlgorithm,
        id: NodeId,
        record: &Record,
    ) -> Option<Contact> {
        let found = Whereabouts::parse(&record.value, hash)?;
        self.learn_key(hash, id, record.owner);
        self.carriers.remove(&id);
        if !found.carriers.is_empty() && self.carriers.len() < MAX_STREAMS {
            self.carriers.insert(id, found.carriers);
        }
        Some(Contact { id, address: *found.addresses.first()? })
    }

    /// Learns the key of a node, which its Node-ID is the hash of. Kept for as long as there is room: who is
    /// reached through others only has no contact here that could be forgotten.
    fn learn_key(&mut self, hash: HashAlgorithm, id: NodeId, key: PublicKey) {
        if self.keys.len() >= MAX_STREAMS {
            let (contacts, streams) = (&self.contacts, &self.streams);
            let talks = |id: &NodeId| contacts.contains_key(id) || streams.keys().any(|(peer, _)| peer == id);
            self.keys.retain(|id, _| talks(id));
        }
        if key.node_id(hash) == id && self.keys.len() < 2 * MAX_STREAMS {
            self.keys.insert(id, key);
        }
    }

    /// Whether a node is reached through others only.
    pub(crate) fn is_carried(&self, id: &NodeId) -> bool {
        self.carriers.contains_key(id)
    }

    /// The peer that should have carried our message did not: the next one is tried. `false` if that
    /// was the last.
    fn try_next_carrier(&mut self, id: &NodeId) -> bool {
        let Some(carriers) = self.carriers.get_mut(id) else { return false };
        carriers.remove(0);
        let more = !carriers.is_empty();
        if !more {
            self.carriers.remove(id);
        }
        more
    }

    /// Something arrived from this address.
    pub(crate) fn heard(&mut self, now: Time, address: SocketAddr) {
        if let Some(at) = self.heard.get_mut(&address) {
            *at = now;
        }
    }

    pub(crate) fn last_heard(&self, address: SocketAddr) -> Option<Time> {
        self.heard.get(&address).copied()
    }

    pub(crate) fn forget_old(&mut self, now: Time) {
        self.assembling.retain(|_, a| now.since(a.started) < ASSEMBLY_LIFETIME);
        self.streams.retain(|_, s| s.current.is_some() || !s.queue.is_empty());
        let heard = &self.heard;
        let streams = &self.streams;
        self.contacts.retain(|id, c| {
            let quiet = heard.get(&c.address).is_none_or(|at| now.since(*at) > Duration::from_secs(600));
            !quiet || streams.keys().any(|(peer, _)| peer == id)
        });
        let contacts = &self.contacts;
        self.carriers.retain(|id, _| contacts.contains_key(id));
        self.heard.retain(|address, _| contacts.values().any(|c| c.address == *address));
    }

    /// Puts a piece to the others of its message; returns the message when it is complete.
    fn assemble(&mut self, now: Time, by: SocketAddr, from: NodeId, piece: &[u8]) -> Option<Vec<u8>> {
        let (head, bytes) = piece.split_first_chunk::<6>()?;
        let number = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let (index, count) = (usize::from(head[4]), usize::from(head[5]));
        if count == 0 || count > MAX_PIECES || index >= count {
            return None;
        }
        if !self.assembling.contains_key(&(from, number)) {
            self.assembling.retain(|_, a| now.since(a.started) < ASSEMBLY_LIFETIME);
            let of_this_address = self.assembling.values().filter(|a| a.by == by).count();
            if self.assembling.len() >= MAX_STREAMS || of_this_address >= MAX_ASSEMBLIES_BY {
                return None;
            }
        }
        let fresh = || Assembly { pieces: vec![None; count], started: now, by };
        let assembly = self.assembling.entry((from, number)).or_insert_with(fresh);
        if assembly.pieces.len() != count {
            return None;
        }
        assembly.pieces[index] = Some(bytes.to_vec());
        if assembly.pieces.iter().any(Option::is_none) {
            return None;
        }
        let assembly = self.assembling.remove(&(from, number))?;
        Some(assembly.pieces.into_iter().flatten().flatten().collect())
    }
}

impl Node {
    /// Sends a SIP message to a peer. Beyond the bounds it is dropped and counted; the transaction it
    /// belongs to ends by its own timer.
    pub(crate) fn send_sip(&mut self, now: Time, to: NodeId, sip: &[u8]) {
        let key = (to, stream_of(sip));
        if self.tunnels.streams.len() >= MAX_STREAMS {
            self.tunnels.forget_old(now);
        }
        let queued = self.tunnels.streams.get(&key).map(|s| s.queue.len());
        let full = match queued {
            Some(queued) => queued >= MAX_QUEUE,
            None => self.tunnels.streams.len() >= MAX_STREAMS,
        };
        let Some(envelope) = self.envelope(&to, sip) else {
            return self.link.count_drop("signalling unsealed");
        };
        if full || envelope.len() > PIECE * MAX_PIECES {
            return self.link.count_drop("signalling full");
        }
        self.tunnels.streams.entry(key).or_default().queue.push_back(envelope);
        self.send_next(now, key);
    }

    /// A SIP message for a peer as it goes over the wire; `None` if it must be sealed and the peer's key is not
    /// known.
    fn envelope(&mut self, to: &NodeId, sip: &[u8]) -> Option<Vec<u8>> {
        let signed = sign(&self.identity.peer, to, sip);
        if !self.seals() {
            return Some(signed);
        }
        let key = *self.tunnels.keys.get(to)?;
        let sealed = link::sealed::seal(&key, SEALED_DOMAIN, Seed::child_of(&mut self.rng), &signed)?;
        Some([&[VERSION_SEALED], &sealed[..]].concat())
    }

    /// Who wrote an envelope that is for us, and what; `None` if it is not genuine, or not sealed where it must be.
    fn open_envelope(&mut self, envelope: &[u8]) -> Option<(NodeId, Vec<u8>)> {
        let opened = match envelope.split_first() {
            Some((&VERSION_SEALED, sealed)) if self.seals() => {
                link::sealed::open(&self.identity.peer, SEALED_DOMAIN, sealed)?
            }
            Some((&VERSION_SIGNED, _)) if !self.seals() => envelope.to_vec(),
            _ => return None,
        };
        let (own, hash) = (self.node_id()?, self.hash());
        let (key, sip) = read_signed(self.identity.peer.signatures(), &own, &opened)?;
        let id = key.node_id(hash);
        self.tunnels.learn_key(hash, id, key);
        Some((id, sip.to_vec()))
    }

    /// Whether hops must not read what they carry. Stand-ins for keys, in a simulated world, agree on nothing.
    fn seals(&self) -> bool {
        self.config.profile == Profile::Secure && self.identity.peer.signatures() == Signatures::Ed25519
    }

    /// Sends the next message of a stream if none is on its way.
    fn send_next(&mut self, now: Time, key: StreamKey) {
        let Some(stream) = self.tunnels.streams.get_mut(&key) else { return };
        if stream.current.is_some() {
            return;
        }
        let Some(envelope) = stream.queue.pop_front() else {
            self.tunnels.streams.remove(&key);
            return;
        };
        stream.current = Some(envelope);
        self.send_pieces(now, key);
    }

    fn send_pieces(&mut self, now: Time, key: StreamKey) {
        let Some(stream) = self.tunnels.streams.get_mut(&key) else { return };
        let Some(envelope) = stream.current.clone() else { return };
        let recursive = stream.through_overlay;
        let count = envelope.len().div_ceil(PIECE);
        stream.unacknowledged = count;
        let number: u32 = self.rng.random();
        for (index, bytes) in envelope.chunks(PIECE).enumerate() {
            let mut piece = Vec::with_capacity(bytes.len() + 6);
            let content = if count == 1 {
                CONTENT_ENVELOPE
            } else {
                piece.extend_from_slice(&number.to_be_bytes());
                piece.extend_from_slice(&[index as u8, count as u8]);
                CONTENT_PIECE
            };
            piece.extend_from_slice(bytes);
            if !self.send_piece(now, key, recursive, content, &piece) {
                return self.handle_tunnel_silence(now, key);
            }
        }
    }

    /// Sends one piece on its way; `false` if there is none.
    fn send_piece(&mut self, now: Time, key: StreamKey, recursive: bool, content: u8, piece: &[u8]) -> bool {
        let carrier = self.tunnels.carriers.get(&key.0).and_then(|c| c.first()).copied();
        let direct = self.tunnels.contact(&key.0).filter(|_| !recursive && carrier.is_none());
        let routed = || {
            let standing = self.standing.as_mut()?;
            // A walk may have to take another way than the best.
            let count = standing.walks().map_or(1, |_| MAX_WAYS);
            let table = &mut standing.table;
            let ways = table.route(key.0.key(), count).contacts().to_vec();
            ways.into_iter().find(|way| table.spend(now, key.0.key(), &way.id))
        };
        let Some(hop) = direct.or(carrier).or_else(routed) else { return false };
        let mut header = self.header(MessageType::Tunnel);
        header.deadline_ms = millis(ANSWER_TIMEOUT);
        if direct.is_none() {
            header.recursive = true;
            header.ttl = self.initial_ttl(now);
        }
        let bytes = Builder::new(&header)
            .with(&Object::PeerId(key.0))
            .with(&Object::Payload { content, bytes: piece })
            .finish();
        let to = (hop.address, Some(hop.id));
        let deadline = now + ANSWER_TIMEOUT;
        let purpose = Purpose::Tunnel(key);
        self.request(now, to, MessageType::Tunnel, header.transaction, bytes, deadline, purpose);
        true
    }

    pub(crate) fn handle_tunnel_answer(&mut self, now: Time, key: StreamKey, code: Code) {
        let Some(stream) = self.tunnels.streams.get_mut(&key) else { return };
        if !code.is_ok() {
            return self.handle_tunnel_silence(now, key);
        }
        stream.unacknowledged = stream.unacknowledged.saturating_sub(1);
        if stream.unacknowledged == 0 {
            stream.current = None;
            self.send_next(now, key);
        }
    }

    /// The peer does not answer at its address: through the overlay, then, or not at all.
    pub(crate) fn handle_tunnel_silence(&mut self, now: Time, key: StreamKey) {
        self.transactions.abandon(|p| *p == Purpose::Tunnel(key));
        if !self.tunnels.streams.contains_key(&key) {
            return;
        }
        if self.tunnels.try_next_carrier(&key.0) {
            return self.send_pieces(now, key);
        }
        let Some(stream) = self.tunnels.streams.get_mut(&key) else { return };
        if !std::mem::replace(&mut stream.through_overlay, true) {
            return self.send_pieces(now, key);
        }
        self.tunnels.streams.remove(&key);
        self.handle_peer_lost(now, key.0);
    }

    /// A Tunnel request for us.
    pub(crate) fn answer_tunnel(&mut self, now: Time, remote: SocketAddr, message: &Message<'_>) {
        let Some(source) = message.header.source else { return };
        let key = (source, message.header.transaction);
        if self.transactions.server(&key).is_some() {
            self.repeat_answer(now, remote, key, message);
            return;
        }
        let receiver = message.find(object::PEER_ID, |o| match o {
            Object::PeerId(id) => Some(id),
            _ => None,
        });
        let payload = message.find(object::PAYLOAD, |o| match o {
            Object::Payload { content, bytes } => Some((content, bytes)),
            _ => None,
        });
        let (Some((content, bytes)), true) = (payload, receiver == self.node_id()) else {
            return self.refuse(now, remote, message, Code::NOT_FOUND, "not this peer");
        };
        let envelope = match content {
            CONTENT_ENVELOPE => Some(bytes.to_vec()),
            CONTENT_PIECE => self.tunnels.assemble(now, remote, source, bytes),
            _ => return self.refuse(now, remote, message, Code::BAD_REQUEST, "unknown content"),
        };
        let answer = Builder::new(&self.answer_header(message, Code::OK)).finish();
        self.transactions.answered_at_once(now, key, remote, message.header, answer.clone());
        self.send_peer(now, MessageType::Tunnel, remote, answer);
        let Some(envelope) = envelope else { return };
        let Some((id, sip)) = self.open_envelope(&envelope) else {
            return self.link.count_drop("bad envelope");
        };
        if !message.header.recursive {
            self.tunnels.meet(now, Contact { id, address: remote });
        }
        self.tunnels.heard(now, remote);
        self.handle_peer_signalling(now, id, &sip);
    }

    /// Watches the peers of our calls: one that is silent is asked, one that stays silent is lost.
    pub(crate) fn check_liveness(&mut self, now: Time) {
        let peers = self.phones.peers_in_calls();
        if peers.is_empty() {
            return;
        }
        for peer in peers {
            let Some(contact) = self.tunnels.contact(&peer).filter(|_| !self.tunnels.is_carried(&peer))
            else {
                continue;
            };
            let silent = self.tunnels.last_heard(contact.address).map_or(SILENCE, |at| now.since(at));
            let asked = self.phones.is_being_asked(&peer);
            if silent >= SILENCE && !asked {
                self.ask_alive(now, contact);
            } else if silent < SILENCE {
                self.phones.not_asked(&peer);
            }
        }
        self.timers.set(Alarm::Liveness, now + LIVENESS_TICK);
    }

    fn ask_alive(&mut self, now: Time, contact: Contact) {
        self.phones.asked(contact.id);
        let mut header = self.header(MessageType::KeepAlive);
        header.deadline_ms = millis(LIVENESS_TIMEOUT);
        let bytes = Builder::new(&header).finish();
        let to = (contact.address, Some(contact.id));
        let deadline = now + LIVENESS_TIMEOUT;
        let purpose = Purpose::Alive(contact.id);
        self.request(now, to, MessageType::KeepAlive, header.transaction, bytes, deadline, purpose);
    }

    /// Starts watching, if a call with another peer has begun.
    pub(crate) fn watch_calls(&mut self, now: Time) {
        self.timers.set(Alarm::Liveness, now + LIVENESS_TICK);
    }
}

/// The stream a SIP message belongs to: its Call-ID, which our own agent always writes in full.
fn stream_of(sip: &[u8]) -> u64 {
    let call_id = sip
        .split(|b| *b == b'\n')
        .find(|line| line.len() > 8 && line[..8].eq_ignore_ascii_case(b"call-id:"))
        .unwrap_or(b"");
    // FNV-1a: short, and a collision only makes two calls wait for each other.
    call_id.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

fn signed_bytes(to: &NodeId, sip: &[u8]) -> Vec<u8> {
    [DOMAIN, to.key().as_bytes(), sip].concat()
}

fn sign(pair: &KeyPair, to: &NodeId, sip: &[u8]) -> Vec<u8> {
    let mut envelope = Vec::with_capacity(ENVELOPE_HEAD + sip.len());
    envelope.push(VERSION_SIGNED);
    envelope.extend_from_slice(&pair.public().0);
    envelope.extend_from_slice(&pair.sign(&signed_bytes(to, sip)));
    envelope.extend_from_slice(sip);
    envelope
}

/// Who signed an envelope that is for us, and what; `None` if the signature is not right.
fn read_signed<'a>(
    signatures: Signatures,
    own: &NodeId,
    envelope: &'a [u8],
) -> Option<(PublicKey, &'a [u8])> {
    let (head, sip) = envelope.split_first_chunk::<ENVELOPE_HEAD>()?;
    let key = PublicKey(head[1..33].try_into().ok()?);
    let signature = head[33..].try_into().ok()?;
    let right = head[0] == VERSION_SIGNED && signatures.verify(&key, &signed_bytes(own, sip), &signature);
    right.then_some((key, sip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Seed;

    fn id(n: u8) -> NodeId {
        KeyPair::from_seed(Seed([n; 32])).public().node_id(HashAlgorithm::Sha256)
    }

    #[test]
    fn an_envelope_opens_only_for_its_receiver_and_unaltered() {
        let alice = KeyPair::from_seed(Seed([1; 32]));
        let mut envelope = sign(&alice, &id(2), b"INVITE sip:bob");
        let sip: &[u8] = b"INVITE sip:bob";
        assert_eq!(read_signed(Signatures::Ed25519, &id(2), &envelope), Some((alice.public(), sip)));
        assert_eq!(read_signed(Signatures::Ed25519, &id(3), &envelope), None);
        *envelope.last_mut().unwrap() ^= 1;
        assert_eq!(read_signed(Signatures::Ed25519, &id(2), &envelope), None);
    }

    /// A peer alone, whose keys follow from a number.
    fn peer(n: u8, profile: Profile) -> Node {
        let address = SocketAddr::from(([192, 0, 2, n], 7080));
        let config = crate::Config { listen: address, profile, ..crate::Config::default() };
        let identity = crate::Identity { peer: KeyPair::from_seed(Seed([n; 32])), users: Vec::new() };
        let seed = Seed::from_number(n.into());
        Node::new(config, identity, crate::Saved::default(), seed, Time::ZERO, wire::UnixTime(1_800_000_000))
    }

    /// Alice's peer, which knows Bob's key, and Bob's.
    fn alice_and_bob(profile: Profile) -> [Node; 2] {
        let (mut alice, bob) = (peer(1, profile), peer(2, profile));
        alice.tunnels.learn_key(HashAlgorithm::Sha256, id(2), bob.identity.peer.public());
        [alice, bob]
    }

    #[test]
    fn under_secure_hops_read_nothing_of_an_envelope_and_under_signed_all_of_it() {
        for profile in [Profile::Signed, Profile::Secure] {
            let [mut alice, mut bob] = alice_and_bob(profile);
            let envelope = alice.envelope(&id(2), b"INVITE sip:bob").unwrap();
            let readable = envelope.windows(6).any(|w| w == b"INVITE");
            assert_eq!(readable, profile == Profile::Signed);
            assert_eq!(bob.open_envelope(&envelope), Some((id(1), b"INVITE sip:bob".to_vec())));
            assert_eq!(peer(3, profile).open_envelope(&envelope), None);
            assert!(bob.envelope(&id(1), b"SIP/2.0 200 OK").is_some(), "whose key came with what it wrote");
        }
    }

    #[test]
    fn an_envelope_of_another_profile_is_refused_and_none_leaves_unsealed() {
        for [from, to] in [[Profile::Signed, Profile::Secure], [Profile::Secure, Profile::Signed]] {
            let [mut alice, _] = alice_and_bob(from);
            let envelope = alice.envelope(&id(2), b"INVITE sip:bob").unwrap();
            assert_eq!(peer(2, to).open_envelope(&envelope), None, "{from} to {to}");
        }
        assert_eq!(peer(1, Profile::Secure).envelope(&id(2), b"INVITE sip:bob"), None);
    }

    #[test]
    fn a_key_that_is_not_the_nodes_is_not_learnt() {
        let mut alice = peer(1, Profile::Secure);
        alice.tunnels.learn_key(HashAlgorithm::Sha256, id(2), KeyPair::from_seed(Seed([3; 32])).public());
        assert_eq!(alice.envelope(&id(2), b"INVITE sip:bob"), None);
    }

    #[test]
    fn the_golden_envelope_is_ours() {
        let vectors = include_str!("../../../docs/p2pp-vectors.txt");
        let tunnel = vectors.split("\n[").find(|v| v.starts_with("request/Tunnel]")).unwrap();
        let (_, golden) = tunnel.split_once("object: Payload content=0 bytes=").unwrap();
        let golden = golden.lines().next().unwrap();
        let envelope = sign(
            &KeyPair::from_seed(Seed([0x11; 32])),
            &id(0x22),
            b"OPTIONS sip:alice@demo.test SIP/2.0\r\n\r\n",
        );
        assert_eq!(envelope.iter().map(|b| format!("{b:02x}")).collect::<String>(), golden);
    }

    #[test]
    fn pieces_come_together_in_any_order_and_nonsense_does_not() {
        let mut tunnels = Tunnels::default();
        let piece = |index: u8, bytes: &[u8]| [&[0, 0, 0, 7, index, 3], bytes].concat();
        let now = Time::ZERO;
        let by = "192.0.2.1:7080".parse().unwrap();
        assert_eq!(tunnels.assemble(now, by, id(1), &piece(2, b"c")), None);
        assert_eq!(tunnels.assemble(now, by, id(1), &piece(0, b"a")), None);
        assert_eq!(tunnels.assemble(now, by, id(9), &piece(1, b"x")), None);
        assert_eq!(tunnels.assemble(now, by, id(1), &piece(1, b"b")), Some(b"abc".to_vec()));
        assert_eq!(tunnels.assemble(now, by, id(1), &[0, 0, 0, 8, 5, 3]), None);
        assert_eq!(tunnels.assemble(now, by, id(1), &[0, 0, 0, 8, 0, 200]), None);
        tunnels.forget_old(now + ASSEMBLY_LIFETIME);
        assert!(tunnels.assembling.is_empty());
    }

    #[test]
    fn messages_of_one_call_share_a_stream() {
        let a = stream_of(b"INVITE x SIP/2.0\r\nCall-ID: 77\r\n\r\n");
        let b = stream_of(b"BYE x SIP/2.0\r\nVia: y\r\nCall-ID: 77\r\n\r\n");
        let c = stream_of(b"BYE x SIP/2.0\r\nCall-ID: 78\r\n\r\n");
        assert!(a == b && a != c);
    }

    #[test]
    fn who_begins_many_messages_takes_nobody_elses_room() {
        let mut tunnels = Tunnels::default();
        let now = Time::ZERO;
        let [greedy, modest] = ["192.0.2.1:7080", "192.0.2.2:7080"].map(|a| a.parse().unwrap());
        for number in 0..10_000_u32 {
            let piece = [&number.to_be_bytes()[..], &[0, 2], b"half"].concat();
            tunnels.assemble(now, greedy, id(1), &piece);
        }
        assert_eq!(tunnels.assembling.len(), MAX_ASSEMBLIES_BY);
        let half = |index: u8| [&[9, 9, 9, 9, index, 2][..], b"."].concat();
        assert_eq!(tunnels.assemble(now, modest, id(2), &half(0)), None);
        assert_eq!(tunnels.assemble(now, modest, id(2), &half(1)), Some(b"..".to_vec()));
    }
}
