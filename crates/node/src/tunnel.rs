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
//! piece:    | message (32) | index (8) | count (8) | bytes ... |      (content type 1)
//! ```
//! `tunnel/envelope.rs` makes and opens envelopes, `tunnel/letters.rs` what stands in them for a text message.

mod envelope;
mod letters;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use wire::p2pp::record::Record;
use wire::p2pp::{Builder, Code, Message, MessageType, Object, object};
use wire::{Contact, HashAlgorithm, NodeId, PublicKey, RngExt, Time};

use crate::forward::MAX_WAYS;
use crate::node::{Alarm, Node, millis};
use crate::ratchet::{self, Letter};
use crate::request::{ANSWER_TIMEOUT, Purpose};
use crate::whereabouts::Whereabouts;
use envelope::{Envelopes, Opened, Way};
use letters::Enclosed;
use letters::Letters;

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

/// One ordered stream of messages: a peer, and the hash of a Call-ID.
pub(crate) type StreamKey = (NodeId, u64);

#[derive(Default)]
struct Stream {
    queue: VecDeque<Vec<u8>>,
    /// The message on its way, stamped.
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
    /// Made with the first: most peers write none.
    envelopes: Option<Box<Envelopes>>,
    /// The peers that carry a client, the one to be tried first in front.
    carriers: BTreeMap<NodeId, Vec<Contact>>,
    heard: BTreeMap<SocketAddr, Time>,
    assembling: BTreeMap<(NodeId, Way, u32), Assembly>,
}

impl Tunnels {
    fn envelopes(&mut self) -> &mut Envelopes {
        self.envelopes.get_or_insert_default()
    }

    /// Letters, if somebody brought a ratchet.
    pub(crate) fn letters(&self) -> Option<&Letters> {
        self.envelopes.as_ref()?.letters.as_deref()
    }

    fn letters_mut(&mut self) -> Option<&mut Letters> {
        self.envelopes.as_mut()?.letters.as_deref_mut()
    }

    /// Where a peer we talk with is.
    pub(crate) fn contact(&self, id: &NodeId) -> Option<Contact> {
        self.contacts.get(id).copied()
    }

    /// Learns the key of a peer that writes to us over a link of its own.
    pub(crate) fn learn_key(&mut self, hash: HashAlgorithm, key: PublicKey) {
        self.envelopes().learn_key(hash, key.node_id(hash), key);
    }

    /// Learns where a peer is that we are going to talk with.
    pub(crate) fn meet(&mut self, now: Time, contact: Contact) {
        if self.contacts.len() < MAX_STREAMS || self.contacts.contains_key(&contact.id) {
            self.contacts.insert(contact.id, contact);
            self.heard.entry(contact.address).or_insert(now);
        }
    }

    /// Reads where a node is from its contact record, and for a client remembers who carries it.
    fn read_contact(&mut self, hash: HashAlgorithm, id: NodeId, record: &Record) -> Option<Contact> {
        let found = Whereabouts::parse(&record.value, hash)?;
        self.envelopes().learn_key(hash, id, record.owner);
        self.carriers.remove(&id);
        if !found.carriers.is_empty() && self.carriers.len() < MAX_STREAMS {
            self.carriers.insert(id, found.carriers);
        }
        Some(Contact { id, address: *found.addresses.first()? })
    }

    /// Whether a node is reached through others only.
    pub(crate) fn is_carried(&self, id: &NodeId) -> bool {
        self.carriers.contains_key(id)
    }

    /// Where a message for a peer goes, if it goes to the peer itself.
    fn direct(&self, id: &NodeId, through_overlay: bool) -> Option<Contact> {
        self.contact(id).filter(|_| !through_overlay && !self.is_carried(id))
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
    fn assemble(
        &mut self,
        now: Time,
        by: SocketAddr,
        (from, way): (NodeId, Way),
        piece: &[u8],
    ) -> Option<Vec<u8>> {
        let (head, bytes) = piece.split_first_chunk::<6>()?;
        let number = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let (index, count) = (usize::from(head[4]), usize::from(head[5]));
        if count == 0 || count > MAX_PIECES || index >= count {
            return None;
        }
        let key = (from, way, number);
        if !self.assembling.contains_key(&key) {
            self.assembling.retain(|_, a| now.since(a.started) < ASSEMBLY_LIFETIME);
            let of_this_address = self.assembling.values().filter(|a| a.by == by).count();
            if self.assembling.len() >= MAX_STREAMS || of_this_address >= MAX_ASSEMBLIES_BY {
                return None;
            }
        }
        let fresh = || Assembly { pieces: vec![None; count], started: now, by };
        let assembly = self.assembling.entry(key).or_insert_with(fresh);
        if assembly.pieces.len() != count {
            return None;
        }
        assembly.pieces[index] = Some(bytes.to_vec());
        if assembly.pieces.iter().any(Option::is_none) {
            return None;
        }
        let assembly = self.assembling.remove(&key)?;
        Some(assembly.pieces.into_iter().flatten().flatten().collect())
    }
}

impl Node {
    /// Reads where a node is from its contact record, and by which keys it is written to.
    pub(crate) fn read_contact(
        &mut self,
        hash: HashAlgorithm,
        id: NodeId,
        record: &Record,
    ) -> Option<Contact> {
        if let Some(letters) = self.tunnels.letters_mut() {
            letters.learn(hash, id, record);
        }
        self.tunnels.read_contact(hash, id, record)
    }

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
        let letter = self.tunnels.letters().map_or(0, |_| ratchet::OVERHEAD);
        if full || sip.len() + envelope::OVERHEAD + letter > PIECE * MAX_PIECES {
            return self.link.count_drop("signalling full");
        }
        self.tunnels.streams.entry(key).or_default().queue.push_back(sip.to_vec());
        self.send_next(now, key);
    }

    /// Sends the next message of a stream if none is on its way. It is counted only now: of what waits here
    /// others would be far ahead.
    fn send_next(&mut self, now: Time, key: StreamKey) {
        let Some(stream) = self.tunnels.streams.get_mut(&key) else { return };
        if stream.current.is_some() {
            return;
        }
        let Some(sip) = stream.queue.pop_front() else {
            self.tunnels.streams.remove(&key);
            return;
        };
        let stamped = match self.enclose(now, key.0, sip) {
            Enclosed::Sip(sip) => self.stamped(key.0, &sip),
            Enclosed::Letter { letter, sip } => {
                let stamped = self.stamped(key.0, &letter);
                self.letter_leaves(now, key, &stamped, sip);
                stamped
            }
            Enclosed::NotSealed(sip, why) => {
                self.fail_unsealed(now, key.0, &sip, why);
                return self.send_next(now, key);
            }
        };
        self.tunnels.streams.entry(key).or_default().current = Some(stamped);
        self.send_pieces(now, key);
    }

    fn send_pieces(&mut self, now: Time, key: StreamKey) {
        let Some(stream) = self.tunnels.streams.get(&key) else { return };
        let Some(stamped) = stream.current.clone() else { return };
        let direct = self.tunnels.direct(&key.0, stream.through_overlay);
        let way = if direct.is_some() { Way::Direct } else { Way::Hops };
        let Some(envelope) = self.envelope(&key.0, &stamped, way) else {
            self.link.count_drop("signalling unsealed");
            self.tunnels.streams.remove(&key);
            return self.handle_peer_lost(now, key.0);
        };
        let count = envelope.len().div_ceil(PIECE);
        self.tunnels.streams.entry(key).or_default().unacknowledged = count;
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
            if !self.send_piece(now, key, direct, content, &piece) {
                return self.handle_tunnel_silence(now, key);
            }
        }
    }

    /// Sends one piece to the peer itself, or on its way there; `false` if there is none.
    fn send_piece(
        &mut self,
        now: Time,
        key: StreamKey,
        direct: Option<Contact>,
        content: u8,
        piece: &[u8],
    ) -> bool {
        let carrier = self.tunnels.carriers.get(&key.0).and_then(|c| c.first()).copied();
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
        let purpose = Purpose::Tunnel { stream: key, passed_on: direct.is_none() };
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
        self.transactions.abandon(|p| matches!(p, Purpose::Tunnel { stream, .. } if *stream == key));
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
        let way = if message.header.recursive { Way::Hops } else { Way::Direct };
        let envelope = match content {
            CONTENT_ENVELOPE => Some(bytes.to_vec()),
            CONTENT_PIECE => self.tunnels.assemble(now, remote, (source, way), bytes),
            _ => return self.refuse(now, remote, message, Code::BAD_REQUEST, "unknown content"),
        };
        let answer = Builder::new(&self.answer_header(message, Code::OK)).finish();
        self.transactions.answered_at_once(now, key, remote, message.header, answer.clone());
        self.send_peer(now, MessageType::Tunnel, remote, answer);
        let Some(envelope) = envelope else { return };
        let Opened { from: id, stamp, content } = match self.open_envelope(&envelope, (source, way)) {
            Ok(opened) => opened,
            Err(problem) => return self.link.count_drop(problem),
        };
        if !message.header.recursive {
            self.tunnels.meet(now, Contact { id, address: remote });
        }
        self.tunnels.heard(now, remote);
        if !Letter::is_one(&content) {
            return self.hear_peer(now, id, &content, false);
        }
        if let Some(sip) = self.open_letter(now, (id, stamp), &content) {
            self.hear_peer(now, id, &sip, true);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{KeyPair, Seed};

    fn id(n: u8) -> NodeId {
        KeyPair::from_seed(Seed([n; 32])).public().node_id(HashAlgorithm::Sha256)
    }

    #[test]
    fn pieces_come_together_in_any_order_and_nonsense_does_not() {
        let mut tunnels = Tunnels::default();
        let piece = |index: u8, bytes: &[u8]| [&[0, 0, 0, 7, index, 3], bytes].concat();
        let now = Time::ZERO;
        let by = "192.0.2.1:7080".parse().unwrap();
        assert_eq!(tunnels.assemble(now, by, (id(1), Way::Hops), &piece(2, b"c")), None);
        assert_eq!(tunnels.assemble(now, by, (id(1), Way::Hops), &piece(0, b"a")), None);
        assert_eq!(tunnels.assemble(now, by, (id(9), Way::Hops), &piece(1, b"x")), None);
        assert_eq!(tunnels.assemble(now, by, (id(1), Way::Hops), &piece(1, b"b")), Some(b"abc".to_vec()));
        assert_eq!(tunnels.assemble(now, by, (id(1), Way::Hops), &[0, 0, 0, 8, 5, 3]), None);
        assert_eq!(tunnels.assemble(now, by, (id(1), Way::Hops), &[0, 0, 0, 8, 0, 200]), None);
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
            tunnels.assemble(now, greedy, (id(1), Way::Hops), &piece);
        }
        assert_eq!(tunnels.assembling.len(), MAX_ASSEMBLIES_BY);
        let half = |index: u8| [&[9, 9, 9, 9, index, 2][..], b"."].concat();
        assert_eq!(tunnels.assemble(now, modest, (id(2), Way::Hops), &half(0)), None);
        assert_eq!(tunnels.assemble(now, modest, (id(2), Way::Hops), &half(1)), Some(b"..".to_vec()));
    }
}
