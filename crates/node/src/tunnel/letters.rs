//! Which SIP goes in letters ([`crate::ratchet`]), and what is done about those that cannot be opened.
//!
//! Text messages and the answers to them go so, in the profile secure, to whoever publishes prekeys: their requests as
//! soon as there is a session or the contact record told the keys, their answers too, since the ratchet turns only
//! when both write. Who cannot open a letter says so, in an envelope like any, with the keys to begin anew. That
//! is believed of the reader alone, for a letter that waits for its answer, and once: it never leads to less protection.

use std::collections::BTreeMap;
use std::time::Duration;

use wire::p2pp::Record;
use wire::sip::{Message, parse};
use wire::{HashAlgorithm, NodeId, Profile, Signatures, Time};

use super::{StreamKey, stream_of};
use crate::event::Level;
use crate::node::Node;
use crate::ratchet::{Letter, Prekeys, Ratchet, STAMP, Unopened, bound};
use crate::whereabouts::Whereabouts;

/// Most letters remembered until they are answered.
const MAX_SENT: usize = 256;

/// So long a letter may be answered; then SIP has given it up (timer F).
const ANSWERED_WITHIN: Duration = Duration::from_secs(32);

/// Most peers whose prekeys are remembered before anything is written to them.
const MAX_PREKEYS: usize = 2_048;

/// Most letters opened in a second, of all to whom we never wrote, and of any one: each may cost some thousand hashes.
const MOST_OF_STRANGERS: u32 = 64;
const MOST_OF_ONE: u32 = 16;

/// Undecipherable (RFC 3261 section 21.4.29): for a letter that its reader could not open twice.
const UNDECIPHERABLE: u16 = 493;

/// Server Internal Error: for one that could not be sealed.
const NOT_SEALED: u16 = 500;

/// A letter that waits for its answer.
struct Sent {
    sip: Vec<u8>,
    stamp: [u8; STAMP],
    /// Whether it goes for the second time.
    again: bool,
    at: Time,
}

/// Everything about letters of one peer.
pub(crate) struct Letters {
    ratchet: Box<dyn Ratchet>,
    prekeys: BTreeMap<NodeId, Prekeys>,
    sent: BTreeMap<StreamKey, Sent>,
    /// How many letters came in this second, of whom, and of strangers.
    second: u64,
    opened: BTreeMap<NodeId, u32>,
    of_strangers: u32,
}

/// What SIP becomes before it is put into an envelope.
pub(super) enum Enclosed {
    /// It goes as it is.
    Sip(Vec<u8>),
    /// It goes in a letter.
    Letter { letter: Vec<u8>, sip: Vec<u8> },
    /// It must go in a letter, and cannot.
    NotSealed(Vec<u8>),
}

impl Letters {
    fn new(ratchet: Box<dyn Ratchet>) -> Self {
        Letters {
            ratchet,
            prekeys: BTreeMap::new(),
            sent: BTreeMap::new(),
            second: 0,
            opened: BTreeMap::new(),
            of_strangers: 0,
        }
    }

    /// The keys to publish.
    pub(crate) fn prekeys(&self) -> Prekeys {
        self.ratchet.prekeys()
    }

    /// With how many peers there are sessions.
    pub(crate) fn peers(&self) -> usize {
        self.ratchet.peers()
    }

    /// Learns from its contact record, if that is signed by it, by which keys a peer can be written to.
    pub(super) fn learn(&mut self, hash: HashAlgorithm, id: NodeId, record: &Record) {
        let of_peer = record.owner.node_id(hash) == id;
        let Some(found) = Whereabouts::parse(&record.value, hash).filter(|_| of_peer) else { return };
        match found.prekeys {
            Some(keys) => {
                if self.prekeys.len() >= MAX_PREKEYS && !self.prekeys.contains_key(&id) {
                    self.prekeys.pop_first();
                }
                self.prekeys.insert(id, keys);
            }
            None => drop(self.prekeys.remove(&id)),
        }
    }

    /// Whether one more letter of a peer is opened now.
    fn allows(&mut self, now: Time, from: NodeId) -> bool {
        let second = now.as_millis() / 1_000;
        if std::mem::replace(&mut self.second, second) != second {
            self.opened.clear();
            self.of_strangers = 0;
        }
        let is_stranger = !self.ratchet.has_written(&from);
        if is_stranger && self.of_strangers >= MOST_OF_STRANGERS {
            return false;
        }
        let of_one = self.opened.entry(from).or_default();
        let allowed = *of_one < MOST_OF_ONE;
        *of_one += u32::from(allowed);
        self.of_strangers += u32::from(allowed && is_stranger);
        allowed
    }

    fn remember(&mut self, now: Time, key: StreamKey, stamp: [u8; STAMP], sip: Vec<u8>) {
        self.sent.retain(|_, sent| now.since(sent.at) < ANSWERED_WITHIN);
        if self.sent.len() >= MAX_SENT && !self.sent.contains_key(&key) {
            let oldest = self.sent.iter().min_by_key(|(_, sent)| sent.at).map(|(key, _)| *key);
            oldest.map(|key| self.sent.remove(&key));
        }
        let again = self.sent.get(&key).is_some_and(|sent| sent.again && sent.sip == sip);
        self.sent.insert(key, Sent { sip, stamp, again, at: now });
    }
}

impl Node {
    /// Has text messages go in letters from now on, where the profile is secure. Its keys are published with where this
    /// peer is.
    pub fn use_ratchet(&mut self, now: Time, mut ratchet: Box<dyn Ratchet>) {
        let is_real = self.identity.peer.signatures() == Signatures::Ed25519;
        if self.config.profile == Profile::Secure && is_real {
            ratchet.rotate(self.unix(now));
            self.tunnels.envelopes().letters = Some(Box::new(Letters::new(ratchet)));
            if self.standing.is_some() {
                self.announce_contact_if_moved(now);
                self.drain(now);
            }
        }
    }

    /// Makes another prekey when it is time; the contact record says so when it is refreshed the next time.
    pub(crate) fn rotate_prekeys(&mut self, now: Time) {
        let unix = self.unix(now);
        if let Some(letters) = self.tunnels.letters_mut() {
            letters.ratchet.rotate(unix);
            letters.sent.retain(|_, sent| now.since(sent.at) < ANSWERED_WITHIN);
        }
    }

    /// What goes to a peer for a SIP message.
    pub(super) fn enclose(&mut self, now: Time, to: NodeId, sip: Vec<u8>) -> Enclosed {
        let (unix, own) = (self.unix(now), self.node_id());
        let (Some(letters), Some(own)) = (self.tunnels.letters_mut(), own) else { return Enclosed::Sip(sip) };
        if !is_text(&sip) {
            return Enclosed::Sip(sip);
        }
        if !letters.ratchet.knows(&to) {
            // Of an answer's reader nothing is known but what it wrote.
            let Some(prekeys) = letters.prekeys.get(&to).copied() else { return Enclosed::Sip(sip) };
            if !letters.ratchet.begin(unix, to, &prekeys) {
                return Enclosed::NotSealed(sip);
            }
        }
        match letters.ratchet.seal(&to, &bound(&own, &to), &sip, !is_answer(&sip)) {
            Some(sealed) => Enclosed::Letter { letter: Letter::Sealed(sealed).to_bytes(), sip },
            None => Enclosed::NotSealed(sip),
        }
    }

    /// A letter leaves under this stamp.
    pub(super) fn letter_leaves(&mut self, now: Time, key: StreamKey, stamped: &[u8], sip: Vec<u8>) {
        let stamp = stamped.first_chunk().expect("a stamp is in front");
        if let Some(letters) = self.tunnels.letters_mut() {
            letters.remember(now, key, *stamp, sip);
        }
    }

    /// What stood in an envelope is a letter: the SIP in it, if it can be opened. Its writer hears if not.
    pub(super) fn open_letter(
        &mut self,
        now: Time,
        (from, stamp): (NodeId, [u8; STAMP]),
        content: &[u8],
    ) -> Option<Vec<u8>> {
        let (unix, own) = (self.unix(now), self.node_id()?);
        let (Some(letters), Some(letter)) = (self.tunnels.letters_mut(), Letter::parse(content)) else {
            self.link.count_drop("bad letter");
            return None;
        };
        if !letters.allows(now, from) {
            self.link.count_drop("letters full");
            return None;
        }
        let why = match letter {
            Letter::Unopened { again, stamp, prekeys } => {
                self.handle_unopened(now, from, again, stamp, prekeys);
                return None;
            }
            Letter::Sealed(sealed) => match letters.ratchet.open(unix, from, &bound(&from, &own), &sealed) {
                Ok(sip) => return Some(sip),
                Err(why) => why,
            },
        };
        let prekeys = letters.prekeys();
        self.link.count_drop("letter unopened");
        if why != Unopened::NotKept {
            let again = why == Unopened::Again;
            self.send_sip(now, from, &Letter::Unopened { again, stamp, prekeys }.to_bytes());
        }
        None
    }

    /// The reader of a letter could not open it: both begin anew, and if it was not heard it goes once more.
    fn handle_unopened(
        &mut self,
        now: Time,
        reader: NodeId,
        was_heard: bool,
        stamp: [u8; STAMP],
        prekeys: Prekeys,
    ) {
        let unix = self.unix(now);
        let Some(letters) = self.tunnels.letters_mut() else { return };
        let of_reader = (reader, 0)..=(reader, u64::MAX);
        let key = letters.sent.range(of_reader).find(|(_, sent)| sent.stamp == stamp).map(|(key, _)| *key);
        // Of what waits for no answer nothing is believed: it was answered, or never sent.
        let Some(key) = key else { return self.link.count_drop("bad letter") };
        let mut sent = letters.sent.remove(&key).expect("found above");
        let begun = letters.ratchet.begin(unix, reader, &prekeys);
        if was_heard || sent.again || !begun {
            return self.fail_text(now, reader, &sent.sip, UNDECIPHERABLE);
        }
        let text = format!("{reader} has lost what opened our letter: it goes once more, by new keys");
        sent.again = true;
        let sip = sent.sip.clone();
        letters.sent.insert(key, sent);
        self.log(Level::Info, "letter", text);
        self.send_sip(now, reader, &sip);
    }

    /// Ends a text message of ours that cannot reach a peer in a letter, as if that had answered so.
    pub(super) fn fail_text(&mut self, now: Time, peer: NodeId, sip: &[u8], status: u16) {
        self.link.count_drop("letter given up");
        if let Some(request) = parse(sip).ok().filter(Message::is_request) {
            let answer = Message::reply_to(&request, status, "").to_bytes();
            self.hear_peer(now, peer, &answer, false);
        }
    }

    /// The same for one that could not be sealed.
    pub(super) fn fail_unsealed(&mut self, now: Time, peer: NodeId, sip: &[u8]) {
        let why = "a message was not sent: its letter could not be sealed, or that not be kept on disk";
        self.log(Level::Warn, "letter", why.into());
        self.fail_text(now, peer, sip, NOT_SEALED);
    }

    /// What protected a text message that came from a peer; nothing for what is none. A letter that is answered waits no
    /// more.
    pub(super) fn protection_of(
        &mut self,
        from: NodeId,
        sip: &[u8],
        is_letter: bool,
    ) -> Option<&'static str> {
        if !is_text(sip) {
            return None;
        }
        if is_answer(sip) {
            self.tunnels.letters_mut().map(|letters| letters.sent.remove(&(from, stream_of(sip))));
            return None;
        }
        Some(self.protection(is_letter))
    }

    /// What will protect a text message to these peers: the least of what protects it to each.
    pub(crate) fn protection_towards(&self, mut peers: impl Iterator<Item = NodeId>) -> &'static str {
        let letters = self.tunnels.letters();
        self.protection(
            letters.is_some_and(|l| peers.all(|id| l.ratchet.knows(&id) || l.prekeys.contains_key(&id))),
        )
    }

    fn protection(&self, by_ratchet: bool) -> &'static str {
        match self.config.profile {
            _ if by_ratchet => "ratchet",
            Profile::Secure => "encrypted",
            Profile::Signed | Profile::Open => "signed",
        }
    }
}

fn is_answer(sip: &[u8]) -> bool {
    sip.starts_with(b"SIP/2.0 ")
}

/// Whether it is a text message or the answer to one. Our own agent writes names of fields in full.
fn is_text(sip: &[u8]) -> bool {
    let mut lines = sip.split(|b| *b == b'\n').take_while(|line| !line.trim_ascii().is_empty());
    let cseq = lines.find(|line| line.len() > 5 && line[..5].eq_ignore_ascii_case(b"cseq:"));
    cseq.is_some_and(|line| line.trim_ascii().ends_with(b" MESSAGE"))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::ratchet::Sealed;
    use crate::{Config, Identity, Saved};
    use wire::{KeyPair, Seed, UnixTime};

    /// Seals by writing plainly, and remembers with which keys it began.
    #[derive(Debug, Default, Clone)]
    struct Glass(Arc<Mutex<Vec<(NodeId, Prekeys)>>>);

    impl Ratchet for Glass {
        fn prekeys(&self) -> Prekeys {
            Prekeys { identity: [1; 32], fallback: [1; 32] }
        }

        fn rotate(&mut self, _: UnixTime) {}

        fn peers(&self) -> usize {
            self.0.lock().unwrap().len()
        }

        fn has_written(&self, peer: &NodeId) -> bool {
            self.knows(peer)
        }

        fn knows(&self, peer: &NodeId) -> bool {
            self.0.lock().unwrap().iter().any(|(id, _)| id == peer)
        }

        fn begin(&mut self, _: UnixTime, peer: NodeId, prekeys: &Prekeys) -> bool {
            self.0.lock().unwrap().push((peer, *prekeys));
            true
        }

        fn seal(&mut self, _: &NodeId, _: &[u8; 32], text: &[u8], _: bool) -> Option<Sealed> {
            Some(Sealed { opening: true, bytes: text.to_vec() })
        }

        fn open(&mut self, _: UnixTime, _: NodeId, _: &[u8; 32], _: &Sealed) -> Result<Vec<u8>, Unopened> {
            Err(Unopened::Unknown)
        }
    }

    fn id(n: u32) -> NodeId {
        NodeId(HashAlgorithm::Sha256.digest(&n.to_be_bytes()))
    }

    #[test]
    fn texts_and_their_answers_go_in_letters_and_calls_do_not() {
        assert!(is_text(b"MESSAGE sip:b SIP/2.0\r\nCSeq: 1 MESSAGE\r\n\r\nhello"));
        assert!(is_text(b"SIP/2.0 200 OK\r\ncseq: 1 MESSAGE\r\n\r\n"));
        assert!(!is_text(b"INVITE sip:b SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\nCSeq: 1 MESSAGE\r\n"));
        assert!(!is_text(b""));
    }

    #[test]
    fn what_is_remembered_of_letters_is_bounded_and_so_is_how_many_are_opened() {
        let mut letters = Letters::new(Box::<Glass>::default());
        for n in 0..1_000 {
            letters.remember(Time::from_millis(n), (id(1), n), [0; STAMP], vec![]);
        }
        assert_eq!(letters.sent.len(), MAX_SENT);
        assert!(letters.sent.contains_key(&(id(1), 999)), "the oldest go");
        let of =
            |letters: &mut Letters, who| (0..100).filter(|_| letters.allows(Time::ZERO, id(who))).count();
        assert_eq!(of(&mut letters, 1), MOST_OF_ONE as usize);
        assert_eq!(
            (2..20).map(|who| of(&mut letters, who)).sum::<usize>(),
            (MOST_OF_STRANGERS - MOST_OF_ONE) as usize
        );
        letters.ratchet.begin(UnixTime(1), id(99), &KEYS);
        assert_eq!(
            of(&mut letters, 99),
            MOST_OF_ONE as usize,
            "strangers take nothing from whom we wrote to"
        );
        assert!(letters.allows(Time::from_secs(1), id(1)), "the next second is another");
    }

    const TEXT: &[u8] = b"MESSAGE sip:bob@test SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@test>;tag=1\r\n\
        To: <sip:bob@test>\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\nMax-Forwards: 70\r\nContent-Length: 2\r\n\r\nhi";
    const KEYS: Prekeys = Prekeys { identity: [2; 32], fallback: [2; 32] };

    /// A peer that has sent Bob a letter, the stamp of that, and what its ratchet began.
    fn sender() -> (Node, [u8; STAMP], Glass) {
        let config = Config {
            listen: SocketAddr::from(([192, 0, 2, 1], 7080)),
            profile: Profile::Secure,
            ..Config::default()
        };
        let identity = Identity { peer: KeyPair::from_seed(Seed([1; 32])), users: Vec::new() };
        let (seed, unix) = (Seed::from_number(1), UnixTime(1_800_000_000));
        let mut node = Node::new(config, identity, Saved::default(), seed, Time::ZERO, unix);
        let glass = Glass::default();
        node.use_ratchet(Time::ZERO, Box::new(glass.clone()));
        node.tunnels.letters_mut().unwrap().prekeys.insert(id(2), KEYS);
        node.tunnels.meet(Time::ZERO, wire::Contact { id: id(2), address: ([192, 0, 2, 2], 7080).into() });
        node.send_sip(Time::ZERO, id(2), TEXT);
        let stamp = stamps(&node)[0];
        (node, stamp, glass)
    }

    fn stamps(node: &Node) -> Vec<[u8; STAMP]> {
        node.tunnels.letters().unwrap().sent.values().map(|sent| sent.stamp).collect()
    }

    fn says_unopened(node: &mut Node, from: NodeId, stamp: [u8; STAMP], again: bool) {
        let keys = Prekeys { identity: [3; 32], fallback: [3; 32] };
        let letter = Letter::Unopened { again, stamp, prekeys: keys };
        assert_eq!(node.open_letter(Time::ZERO, (from, [0; STAMP]), &letter.to_bytes()), None);
    }

    #[test]
    fn that_a_letter_was_not_opened_is_believed_of_its_reader_alone_and_of_what_waits() {
        let (mut node, stamp, glass) = sender();
        says_unopened(&mut node, id(3), stamp, false);
        says_unopened(&mut node, id(2), [9; STAMP], false);
        assert_eq!((stamps(&node), glass.peers()), (vec![stamp], 1), "nothing has changed");
        node.protection_of(id(2), b"SIP/2.0 200 OK\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\n\r\n", false);
        says_unopened(&mut node, id(2), stamp, false);
        assert_eq!((stamps(&node).len(), glass.peers()), (0, 1), "it was answered before");
    }

    #[test]
    fn a_letter_that_was_not_opened_goes_once_more_by_the_readers_new_keys_and_not_a_third_time() {
        let (mut node, first, glass) = sender();
        says_unopened(&mut node, id(2), first, false);
        assert_eq!(glass.0.lock().unwrap().last().unwrap().1.identity, [3; 32]);
        // It waits in its stream until the one before has arrived.
        node.handle_tunnel_answer(Time::ZERO, (id(2), stream_of(TEXT)), wire::p2pp::Code::OK);
        let [second] = stamps(&node)[..] else { panic!("it was not sent again") };
        assert_ne!(second, first);
        says_unopened(&mut node, id(2), first, false);
        assert_eq!(stamps(&node), [second], "who says so again speaks of what is over");
        says_unopened(&mut node, id(2), second, false);
        assert_eq!(stamps(&node).len(), 0);
        assert!(node.tunnels.streams.values().all(|s| s.queue.is_empty()), "and no more");
    }

    #[test]
    fn a_letter_that_was_opened_before_is_not_sent_again() {
        let (mut node, stamp, glass) = sender();
        says_unopened(&mut node, id(2), stamp, true);
        assert_eq!((stamps(&node).len(), glass.peers()), (0, 2), "but the next goes by new keys");
    }

    #[test]
    fn prekeys_that_are_not_signed_by_the_peer_itself_are_not_learnt() {
        let hash = HashAlgorithm::Sha256;
        let [bob, eve] = [2, 3].map(|n| KeyPair::from_seed(Seed([n; 32])));
        let place = bob.public().node_id(hash);
        let value = Whereabouts { prekeys: Some(KEYS), ..Whereabouts::default() }.to_bytes();
        let signed_by = |owner: &KeyPair| {
            let (kind, place) = (wire::p2pp::Kind::PEER, wire::ResourceId(place.0));
            Record::sign(owner, place, kind, 1, UnixTime(1), 3_600, value.clone())
        };
        let mut letters = Letters::new(Box::<Glass>::default());
        letters.learn(hash, place, &signed_by(&eve));
        assert!(letters.prekeys.is_empty());
        letters.learn(hash, place, &signed_by(&bob));
        assert_eq!(letters.prekeys.get(&place), Some(&KEYS));
    }
}
