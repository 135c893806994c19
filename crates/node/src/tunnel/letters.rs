//! Which SIP goes in letters ([`crate::ratchet`]), and what is done about those that cannot be opened.
//!
//! Text messages and the answers to them go so, in the profile secure, to whoever publishes prekeys: their requests as
//! soon as there is a session or the contact record told the keys, their answers too, since the ratchet turns only
//! when both write. Who cannot open a letter says so, in an envelope like any, with the keys to begin anew. That
//! is believed of the reader alone, for a letter that waits for its answer, and once: it never leads to less protection.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use wire::p2pp::Record;
use wire::sip::{Message, parse};
use wire::{HashAlgorithm, NodeId, Profile, Signatures, Time, UnixTime};

use super::envelope::Recent;
use super::{StreamKey, stream_of};
use crate::event::Level;
use crate::locals::BUILT_IN;
use crate::node::Node;
use crate::ratchet::{Letter, Prekeys, Ratchet, STAMP, Sealed, Unopened, Why, bound};
use crate::whereabouts::Whereabouts;

/// Most letters remembered until they are answered, and most of those to one peer.
const MAX_SENT: usize = 256;
const MAX_SENT_TO: usize = 64;

/// So long a letter may be answered; then SIP has given it up (timer F).
const ANSWERED_WITHIN: Duration = Duration::from_secs(32);

/// Most peers whose prekeys are remembered before anything is written to them.
const MAX_PREKEYS: usize = 2_048;

/// Most letters opened in a second, each of which may cost some thousand hashes: of all, of all strangers, to whom
/// nothing was written, of any one peer and of any one stranger. What answers a message of ours comes on top.
const MOST_OF_ALL: u32 = 256;
const MOST_OF_STRANGERS: u32 = 64;
const MOST_OF_ONE: u32 = 16;
const MOST_OF_ONE_STRANGER: u32 = 4;

/// Most strangers' letters in a second of which it is said that they shall come later.
const MOST_TOLD: u32 = 64;

/// Undecipherable (RFC 3261 section 21.4.29): for a letter that its reader could not open twice.
const UNDECIPHERABLE: u16 = 493;

/// Service Unavailable: for one that its reader did not try to open.
const LATER: u16 = 503;

/// Server Internal Error: for one that could not be sealed.
const NOT_SEALED: u16 = 500;

const NOT_KEPT: &str =
    "Not sent: its keys were not kept on disk; free space where `letters` are and send it again";
const NOT_BEGUN: &str = "Not sent: no keys were agreed on, since their peer's are no good or ours were not kept on disk; send it again";
const READS_NO_MORE: &str =
    "Not sent: their peer has a program now that reads no letters; it must be updated";
const LOST_TWICE: &str = "Their peer lost its keys twice; send it again";
const HEARD_PERHAPS: &str =
    "Its keys were used before, and it may have been heard; ask before you send it again";
const NOT_NOW: &str = "Their peer takes no more messages just now; send it again in a second";

/// A letter that waits for its answer.
struct Sent {
    sip: Vec<u8>,
    stamp: [u8; STAMP],
    /// Whether a person here wrote it.
    ours: bool,
    /// Whether it goes for the second time.
    again: bool,
    at: Time,
}

/// What the contact record of a peer says of its prekeys.
struct Learnt {
    sequence: u64,
    created: UnixTime,
    keys: Option<Prekeys>,
}

/// What was done in a second.
#[derive(Default)]
struct Second {
    number: u64,
    of: BTreeMap<NodeId, u32>,
    of_all: u32,
    of_strangers: u32,
    told: u32,
}

/// Everything about letters of one peer.
pub(crate) struct Letters {
    ratchet: Box<dyn Ratchet>,
    prekeys: Recent<NodeId, Learnt, MAX_PREKEYS>,
    sent: BTreeMap<StreamKey, Sent>,
    second: Second,
}

/// What SIP becomes before it is put into an envelope.
pub(super) enum Enclosed {
    /// It goes as it is.
    Sip(Vec<u8>),
    /// It goes in a letter.
    Letter { letter: Vec<u8>, sip: Vec<u8> },
    /// It must go in a letter, and cannot, for this reason.
    NotSealed(Vec<u8>, &'static str),
}

impl Letters {
    fn new(ratchet: Box<dyn Ratchet>) -> Self {
        let (prekeys, sent, second) = Default::default();
        Letters { ratchet, prekeys, sent, second }
    }

    /// The keys to publish.
    pub(crate) fn prekeys(&self) -> Prekeys {
        self.ratchet.prekeys()
    }

    /// With how many peers there are sessions.
    pub(crate) fn peers(&self) -> usize {
        self.ratchet.peers()
    }

    /// Learns from its contact record, if that is signed by it and newer than what is known, by which keys a peer can be
    /// written to.
    pub(super) fn learn(&mut self, hash: HashAlgorithm, id: NodeId, record: &Record) {
        let of_peer = record.owner.node_id(hash) == id;
        let Some(found) = Whereabouts::parse(&record.value, hash).filter(|_| of_peer) else { return };
        let is_newer = match self.prekeys.peek(&id) {
            Some(known) => record.sequence > known.sequence,
            None => found.prekeys.is_some() || self.ratchet.knows(&id),
        };
        if is_newer {
            let learnt = Learnt { sequence: record.sequence, created: record.created, keys: found.prekeys };
            self.prekeys.put(id, learnt);
        }
    }

    /// By which keys a peer can be written to.
    fn keys_of(&self, id: &NodeId) -> Option<Prekeys> {
        self.prekeys.peek(id)?.keys
    }

    /// Whether a peer said, after it was heard last, that it reads no letters.
    fn reads_no_more(&self, id: &NodeId) -> bool {
        let (Some(known), Some(heard)) = (self.prekeys.peek(id), self.ratchet.last_heard(id)) else {
            return false;
        };
        known.keys.is_none() && known.created > heard
    }

    /// How many messages of ours wait for the answer of a peer.
    fn awaited(&self, from: NodeId) -> u32 {
        self.sent.range(of_peer(from)).filter(|(_, sent)| sent.ours).count() as u32
    }

    /// Whether one more letter of a peer may be opened now.
    fn allows(&mut self, now: Time, from: NodeId) -> bool {
        let number = now.as_millis() / 1_000;
        if self.second.number != number {
            self.second = Second { number, ..Second::default() };
        }
        let (second, awaited) = (&self.second, self.awaited(from));
        let is_stranger = !self.ratchet.has_written(&from);
        let most = if is_stranger { MOST_OF_ONE_STRANGER } else { MOST_OF_ONE };
        let all_may =
            second.of_all < MOST_OF_ALL && (!is_stranger || second.of_strangers < MOST_OF_STRANGERS);
        second.of.get(&from).copied().unwrap_or(0) < most + awaited && (all_may || awaited > 0)
    }

    /// A letter was opened, or it was tried.
    fn count(&mut self, from: NodeId) {
        *self.second.of.entry(from).or_default() += 1;
        self.second.of_all += 1;
        self.second.of_strangers += u32::from(!self.ratchet.has_written(&from));
    }

    /// Whether a peer hears that a letter of its own shall come later.
    fn tells(&mut self, from: NodeId) -> bool {
        let is_stranger = !self.ratchet.has_written(&from);
        self.second.told += u32::from(is_stranger);
        !is_stranger || self.second.told <= MOST_TOLD
    }

    /// Opens a letter of a peer, if it is its turn.
    fn open(
        &mut self,
        (now, unix): (Time, UnixTime),
        (from, own): (NodeId, NodeId),
        sealed: &Sealed,
    ) -> Result<Vec<u8>, Option<Why>> {
        if !self.allows(now, from) {
            return Err(self.tells(from).then_some(Why::Later));
        }
        let opened = self.ratchet.open(unix, from, &bound(&from, &own), sealed);
        let answers_ours = |sip: &Vec<u8>| {
            is_answer(sip) && self.sent.get(&(from, stream_of(sip))).is_some_and(|sent| sent.ours)
        };
        let is_free = match &opened {
            Ok(sip) => answers_ours(sip),
            Err(why) => *why == Unopened::Malformed,
        };
        if !is_free {
            self.count(from);
        }
        opened.map_err(|why| match why {
            Unopened::Unknown => Some(Why::Unknown),
            Unopened::Again => Some(Why::Again),
            Unopened::NotKept => Some(Why::Later),
            Unopened::Malformed => None,
        })
    }

    /// Remembers a request until it is answered. What makes room is the peer's own first, and what no person wrote.
    fn remember(&mut self, now: Time, key: StreamKey, stamp: [u8; STAMP], sip: Vec<u8>) {
        if is_answer(&sip) {
            return;
        }
        self.sent.retain(|_, sent| now.since(sent.at) < ANSWERED_WITHIN);
        let oldest = |range: &mut dyn Iterator<Item = (&StreamKey, &Sent)>| {
            range.min_by_key(|(_, sent)| (sent.ours, sent.at)).map(|(key, _)| *key)
        };
        let leaves = match () {
            () if self.sent.contains_key(&key) => None,
            () if self.sent.range(of_peer(key.0)).count() >= MAX_SENT_TO => {
                oldest(&mut self.sent.range(of_peer(key.0)))
            }
            () if self.sent.len() >= MAX_SENT => oldest(&mut self.sent.iter()),
            () => None,
        };
        leaves.map(|key| self.sent.remove(&key));
        let again = self.sent.get(&key).is_some_and(|sent| sent.again && sent.sip == sip);
        let ours = is_ours(&sip);
        self.sent.insert(key, Sent { sip, stamp, ours, again, at: now });
    }
}

impl Node {
    /// Has text messages go in letters from now on, where the profile is secure. Its keys are published with where this
    /// peer is.
    pub fn use_ratchet(&mut self, now: Time, mut ratchet: Box<dyn Ratchet>) {
        let is_real = self.identity.peer.signatures() == Signatures::Ed25519;
        if self.config.profile == Profile::Secure && is_real {
            let kept = ratchet.rotate(self.unix(now));
            self.tunnels.envelopes().letters = Some(Box::new(Letters::new(ratchet)));
            self.say_if_not_kept(kept);
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
            letters.sent.retain(|_, sent| now.since(sent.at) < ANSWERED_WITHIN);
            let kept = letters.ratchet.rotate(unix);
            self.say_if_not_kept(kept);
        }
    }

    fn say_if_not_kept(&mut self, kept: bool) {
        if !kept {
            let why = "the key that others first write by is older than a week, and another could not be kept on disk: \
                       free space where `letters` are; it is tried again";
            self.log(Level::Warn, "letter", why.into());
        }
    }

    /// What goes to a peer for a SIP message.
    pub(super) fn enclose(&mut self, now: Time, to: NodeId, sip: Vec<u8>) -> Enclosed {
        let (unix, own) = (self.unix(now), self.node_id());
        let (Some(letters), Some(own)) = (self.tunnels.letters_mut(), own) else { return Enclosed::Sip(sip) };
        if !is_text(&sip) {
            return Enclosed::Sip(sip);
        }
        if letters.reads_no_more(&to) {
            return Enclosed::NotSealed(sip, READS_NO_MORE);
        }
        let of_our_own = is_ours(&sip);
        if !letters.ratchet.knows(&to) {
            // Of an answer's reader nothing is known but what it wrote.
            let Some(prekeys) = letters.keys_of(&to) else { return Enclosed::Sip(sip) };
            if !letters.ratchet.begin(unix, to, &prekeys, of_our_own) {
                return Enclosed::NotSealed(sip, NOT_BEGUN);
            }
        }
        match letters.ratchet.seal(&to, &bound(&own, &to), &sip, of_our_own) {
            Some(sealed) => Enclosed::Letter { letter: Letter::Sealed(sealed).to_bytes(), sip },
            None => Enclosed::NotSealed(sip, NOT_KEPT),
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
        let sealed = match letter {
            Letter::Unopened { why, stamp, prekeys } => {
                self.handle_unopened(now, from, why, stamp, prekeys);
                return None;
            }
            Letter::Sealed(sealed) => sealed,
        };
        let why = match letters.open((now, unix), (from, own), &sealed) {
            Ok(sip) => return Some(sip),
            Err(why) => why,
        };
        let prekeys = letters.prekeys();
        let drop = match why {
            None => "bad letter",
            Some(Why::Later) => "letters full",
            Some(_) => "letter unopened",
        };
        self.link.count_drop(drop);
        if let Some(why) = why {
            self.send_sip(now, from, &Letter::Unopened { why, stamp, prekeys }.to_bytes());
        }
        None
    }

    /// The reader of a letter did not open it. If it could not, both begin anew, and if it was not heard it goes once more.
    fn handle_unopened(&mut self, now: Time, reader: NodeId, why: Why, stamp: [u8; STAMP], prekeys: Prekeys) {
        let unix = self.unix(now);
        let Some(letters) = self.tunnels.letters_mut() else { return };
        let waits = letters.sent.range(of_peer(reader)).find(|(_, sent)| sent.stamp == stamp);
        // Of what waits for no answer nothing is believed: it was answered, or never sent.
        let Some(key) = waits.map(|(key, _)| *key) else { return self.link.count_drop("bad letter") };
        let mut sent = letters.sent.remove(&key).expect("found above");
        let (status, reason) = match why {
            Why::Later => (LATER, NOT_NOW),
            _ if sent.again => (UNDECIPHERABLE, LOST_TWICE),
            _ if !letters.ratchet.begin(unix, reader, &prekeys, sent.ours) => (NOT_SEALED, NOT_BEGUN),
            Why::Again => (UNDECIPHERABLE, HEARD_PERHAPS),
            Why::Unknown => {
                let text =
                    format!("{reader} has lost what opened our letter: it goes once more, by new keys");
                sent.again = true;
                let sip = sent.sip.clone();
                letters.sent.insert(key, sent);
                self.log(Level::Info, "letter", text);
                return self.send_sip(now, reader, &sip);
            }
        };
        self.fail_text(now, reader, &sent.sip, status, reason);
    }

    /// Ends a text message of ours that cannot reach a peer in a letter, as if that had answered so.
    pub(super) fn fail_text(&mut self, now: Time, peer: NodeId, sip: &[u8], status: u16, reason: &str) {
        self.link.count_drop("letter given up");
        if let Some(request) = parse(sip).ok().filter(Message::is_request) {
            let mut answer = Message::reply_to(&request, status, reason);
            if status == LATER {
                answer.push("Retry-After", "1");
            }
            self.hear_peer(now, peer, &answer.to_bytes(), false);
        }
    }

    /// The same for one that could not be sealed.
    pub(super) fn fail_unsealed(&mut self, now: Time, peer: NodeId, sip: &[u8], why: &'static str) {
        self.log(Level::Warn, "letter", format!("a message to {peer}: {why}"));
        self.fail_text(now, peer, sip, NOT_SEALED, why);
    }

    /// Hears SIP of a peer, and with it what protected it. A letter that is answered waits no more.
    pub(super) fn hear_peer(&mut self, now: Time, from: NodeId, sip: &[u8], is_letter: bool) {
        if let (true, Some(letters)) = (is_answer(sip), self.tunnels.letters_mut()) {
            letters.sent.remove(&(from, stream_of(sip)));
        }
        self.handle_peer_signalling(now, from, sip, self.protection(is_letter));
    }

    /// What will protect a text message to these peers: the least of what protects it to each.
    pub(crate) fn protection_towards(&self, mut peers: impl Iterator<Item = NodeId>) -> &'static str {
        let letters = self.tunnels.letters();
        self.protection(
            letters.is_some_and(|l| peers.all(|id| l.ratchet.knows(&id) || l.keys_of(&id).is_some())),
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

/// What belongs to one peer.
fn of_peer(peer: NodeId) -> RangeInclusive<StreamKey> {
    (peer, 0)..=(peer, u64::MAX)
}

/// Whether a person here wrote it, at a phone or by `msg`: no built-in user, which answers whoever writes, and no notice that
/// phones send by themselves, which is no text.
fn is_ours(sip: &[u8]) -> bool {
    let Some(request) = parse(sip).ok().filter(Message::is_request) else { return false };
    let is_built_in = request.from().is_none_or(|from| from.uri.ends_with(BUILT_IN));
    let is_text = request
        .header("Content-Type")
        .is_some_and(|kind| kind.get(..5).is_some_and(|kind| kind.eq_ignore_ascii_case("text/")));
    !is_built_in && is_text
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

        fn rotate(&mut self, _: UnixTime) -> bool {
            true
        }

        fn peers(&self) -> usize {
            self.0.lock().unwrap().len()
        }

        fn has_written(&self, peer: &NodeId) -> bool {
            self.knows(peer)
        }

        fn last_heard(&self, peer: &NodeId) -> Option<UnixTime> {
            self.0.lock().unwrap().iter().any(|(id, _)| id == peer).then_some(UnixTime(1_000))
        }

        fn begin(&mut self, _: UnixTime, peer: NodeId, prekeys: &Prekeys, _: bool) -> bool {
            self.0.lock().unwrap().push((peer, *prekeys));
            true
        }

        fn seal(&mut self, _: &NodeId, _: &[u8; 32], text: &[u8], _: bool) -> Option<Sealed> {
            Some(Sealed { opening: true, bytes: text.to_vec() })
        }

        fn open(
            &mut self,
            _: UnixTime,
            _: NodeId,
            _: &[u8; 32],
            sealed: &Sealed,
        ) -> Result<Vec<u8>, Unopened> {
            Err(if sealed.bytes == [GARBAGE] { Unopened::Malformed } else { Unopened::Unknown })
        }
    }

    /// What is no message of this ratchet.
    const GARBAGE: u8 = 255;

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

    fn letters() -> Letters {
        Letters::new(Box::<Glass>::default())
    }

    #[test]
    fn what_is_remembered_of_letters_is_bounded_and_neither_answers_nor_one_peer_nor_notices_push_out_what_people_wrote()
     {
        let mut letters = letters();
        let at = Time::from_millis;
        letters.remember(at(0), (id(1), 0), [0; STAMP], TEXT.to_vec());
        for n in 1..1_000 {
            letters.remember(
                at(n),
                (id(2), n),
                [0; STAMP],
                b"SIP/2.0 200 OK\r\nCSeq: 1 MESSAGE\r\n\r\n".to_vec(),
            );
        }
        assert_eq!(letters.sent.len(), 1, "answers are not remembered");
        for n in 1..1_000 {
            letters.remember(at(n), (id(2), n), [0; STAMP], TEXT.to_vec());
        }
        assert_eq!(letters.sent.len(), 1 + MAX_SENT_TO);
        assert!(letters.sent.contains_key(&(id(2), 999)), "of one peer the oldest go");
        for n in 1..1_000 {
            letters.remember(at(n), (id(100 + n as u32), n), [0; STAMP], NOTICE.to_vec());
        }
        assert_eq!(letters.sent.len(), MAX_SENT);
        assert_eq!(letters.sent.values().filter(|sent| sent.ours).count(), 1 + MAX_SENT_TO);
    }

    #[test]
    fn how_many_letters_are_opened_in_a_second_is_bounded_and_answers_to_ours_come_on_top() {
        let mut letters = letters();
        let open = |letters: &mut Letters, who| {
            let mut opened = 0;
            while letters.allows(Time::ZERO, id(who)) {
                letters.count(id(who));
                opened += 1;
            }
            opened
        };
        assert_eq!(open(&mut letters, 1), MOST_OF_ONE_STRANGER);
        let others: u32 = (2..100).map(|who| open(&mut letters, who)).sum();
        assert_eq!(others, MOST_OF_STRANGERS - MOST_OF_ONE_STRANGER);
        for friend in 200..300 {
            letters.ratchet.begin(UnixTime(1), id(friend), &KEYS, true);
        }
        assert_eq!(open(&mut letters, 200), MOST_OF_ONE, "strangers take nothing from whom we wrote to");
        let friends: u32 = (201..300).map(|who| open(&mut letters, who)).sum();
        assert_eq!(friends, MOST_OF_ALL - MOST_OF_STRANGERS - MOST_OF_ONE);
        letters.remember(Time::ZERO, (id(299), 1), [0; STAMP], TEXT.to_vec());
        assert!(letters.allows(Time::ZERO, id(299)), "whose answer is awaited");
        assert!(!letters.allows(Time::ZERO, id(298)));
        assert!(letters.allows(Time::from_secs(1), id(1)), "the next second is another");
    }

    #[test]
    fn who_writes_too_much_is_told_so_and_what_is_no_letter_takes_no_room_from_others() {
        let mut letters = letters();
        let from = |n| (id(n), id(0));
        let mut open = |who, kind| {
            letters.open((Time::ZERO, UnixTime(1)), from(who), &Sealed { opening: true, bytes: vec![kind] })
        };
        assert!((0..1_000).all(|_| open(1, GARBAGE) == Err(None)), "nobody is told, and nothing is counted");
        let first = |answer: &Result<Vec<u8>, Option<Why>>| *answer == Err(Some(Why::Unknown));
        let answers: Vec<_> = (0..1_000).map(|_| open(1, 0)).collect();
        assert_eq!(answers.iter().filter(|a| first(a)).count(), MOST_OF_ONE_STRANGER as usize);
        let told = answers.iter().filter(|a| **a == Err(Some(Why::Later))).count();
        assert_eq!(told, MOST_TOLD as usize, "and not without end");
        assert!(first(&open(2, 0)), "another is heard");
    }

    #[test]
    fn only_what_a_person_writes_makes_somebody_more_than_a_stranger() {
        assert!(is_ours(TEXT));
        let echo = String::from_utf8(TEXT.to_vec()).unwrap().replace("sip:a@test", "sip:echo@local.invalid");
        assert!(!is_ours(echo.as_bytes()), "echo answers whoever writes to it");
        assert!(!is_ours(NOTICE), "and so do phones");
        assert!(!is_ours(b"SIP/2.0 200 OK\r\nCSeq: 1 MESSAGE\r\n\r\n"));
    }

    const TEXT: &[u8] = b"MESSAGE sip:bob@test SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@test>;tag=1\r\n\
        To: <sip:bob@test>\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\nMax-Forwards: 70\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi";
    const NOTICE: &[u8] = b"MESSAGE sip:bob@test SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@test>;tag=1\r\n\
        To: <sip:bob@test>\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\nMax-Forwards: 70\r\nContent-Type: message/imdn+xml\r\n\
        Content-Length: 2\r\n\r\nhi";
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
        let learnt = Learnt { sequence: 1, created: UnixTime(1), keys: Some(KEYS) };
        node.tunnels.letters_mut().unwrap().prekeys.put(id(2), learnt);
        node.tunnels.meet(Time::ZERO, wire::Contact { id: id(2), address: ([192, 0, 2, 2], 7080).into() });
        node.send_sip(Time::ZERO, id(2), TEXT);
        let stamp = stamps(&node)[0];
        (node, stamp, glass)
    }

    fn stamps(node: &Node) -> Vec<[u8; STAMP]> {
        node.tunnels.letters().unwrap().sent.values().map(|sent| sent.stamp).collect()
    }

    fn says_unopened(node: &mut Node, from: NodeId, stamp: [u8; STAMP], why: Why) {
        let keys = Prekeys { identity: [3; 32], fallback: [3; 32] };
        let letter = Letter::Unopened { why, stamp, prekeys: keys };
        assert_eq!(node.open_letter(Time::ZERO, (from, [0; STAMP]), &letter.to_bytes()), None);
    }

    #[test]
    fn that_a_letter_was_not_opened_is_believed_of_its_reader_alone_and_of_what_waits() {
        let (mut node, stamp, glass) = sender();
        says_unopened(&mut node, id(3), stamp, Why::Unknown);
        says_unopened(&mut node, id(2), [9; STAMP], Why::Unknown);
        assert_eq!((stamps(&node), glass.peers()), (vec![stamp], 1), "nothing has changed");
        node.hear_peer(Time::ZERO, id(2), b"SIP/2.0 200 OK\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\n\r\n", false);
        says_unopened(&mut node, id(2), stamp, Why::Unknown);
        assert_eq!((stamps(&node).len(), glass.peers()), (0, 1), "it was answered before");
    }

    #[test]
    fn a_letter_that_was_not_opened_goes_once_more_by_the_readers_new_keys_and_not_a_third_time() {
        let (mut node, first, glass) = sender();
        says_unopened(&mut node, id(2), first, Why::Unknown);
        assert_eq!(glass.0.lock().unwrap().last().unwrap().1.identity, [3; 32]);
        // It waits in its stream until the one before has arrived.
        node.handle_tunnel_answer(Time::ZERO, (id(2), stream_of(TEXT)), wire::p2pp::Code::OK);
        let [second] = stamps(&node)[..] else { panic!("it was not sent again") };
        assert_ne!(second, first);
        says_unopened(&mut node, id(2), first, Why::Unknown);
        assert_eq!(stamps(&node), [second], "who says so again speaks of what is over");
        says_unopened(&mut node, id(2), second, Why::Unknown);
        assert_eq!(stamps(&node).len(), 0);
        assert!(node.tunnels.streams.values().all(|s| s.queue.is_empty()), "and no more");
    }

    #[test]
    fn a_letter_that_was_opened_before_is_not_sent_again() {
        let (mut node, stamp, glass) = sender();
        says_unopened(&mut node, id(2), stamp, Why::Again);
        assert_eq!((stamps(&node).len(), glass.peers()), (0, 2), "but the next goes by new keys");
    }

    #[test]
    fn a_letter_that_shall_come_later_fails_at_once_and_its_session_goes_on() {
        let (mut node, stamp, glass) = sender();
        says_unopened(&mut node, id(2), stamp, Why::Later);
        assert_eq!((stamps(&node).len(), glass.peers()), (0, 1));
    }

    #[test]
    fn whom_a_letter_was_sent_to_twice_makes_no_third_session() {
        let (mut node, first, glass) = sender();
        says_unopened(&mut node, id(2), first, Why::Unknown);
        node.handle_tunnel_answer(Time::ZERO, (id(2), stream_of(TEXT)), wire::p2pp::Code::OK);
        let second = stamps(&node)[0];
        says_unopened(&mut node, id(2), second, Why::Unknown);
        assert_eq!((stamps(&node).len(), glass.peers()), (0, 2));
    }

    #[test]
    fn prekeys_that_are_not_signed_by_the_peer_itself_are_not_learnt() {
        let hash = HashAlgorithm::Sha256;
        let [bob, eve] = [2, 3].map(|n| KeyPair::from_seed(Seed([n; 32])));
        let place = bob.public().node_id(hash);
        let mut letters = letters();
        letters.learn(hash, place, &contact(&eve, place, 1, Some(KEYS)));
        assert_eq!(letters.keys_of(&place), None);
        letters.learn(hash, place, &contact(&bob, place, 1, Some(KEYS)));
        assert_eq!(letters.keys_of(&place), Some(KEYS));
    }

    /// A contact record made in this second of time.
    fn contact(owner: &KeyPair, place: NodeId, made: u64, prekeys: Option<Prekeys>) -> Record {
        let value = Whereabouts { prekeys, ..Whereabouts::default() }.to_bytes();
        let (kind, place) = (wire::p2pp::Kind::PEER, wire::ResourceId(place.0));
        Record::sign(owner, place, kind, made, UnixTime(made), 3_600, value)
    }

    #[test]
    fn an_old_contact_record_teaches_nothing_and_makes_nothing_forgotten() {
        let hash = HashAlgorithm::Sha256;
        let bob = KeyPair::from_seed(Seed([2; 32]));
        let place = bob.public().node_id(hash);
        let mut letters = letters();
        let new = Prekeys { identity: [4; 32], fallback: [4; 32] };
        letters.learn(hash, place, &contact(&bob, place, 5, Some(new)));
        letters.learn(hash, place, &contact(&bob, place, 4, None));
        letters.learn(hash, place, &contact(&bob, place, 3, Some(KEYS)));
        assert_eq!(letters.keys_of(&place), Some(new));
        letters.learn(hash, place, &contact(&bob, place, 6, None));
        assert_eq!(letters.keys_of(&place), None);
    }

    #[test]
    fn whom_a_newer_record_says_to_read_no_letters_is_sent_none_and_nothing_less() {
        let (hash, bob) = (HashAlgorithm::Sha256, KeyPair::from_seed(Seed([2; 32])));
        let place = bob.public().node_id(hash);
        for (made, fails) in [(999, false), (1_001, true)] {
            let (mut node, _, glass) = sender();
            glass.0.lock().unwrap().push((place, KEYS));
            node.tunnels.letters_mut().unwrap().learn(hash, place, &contact(&bob, place, made, None));
            let enclosed = node.enclose(Time::ZERO, place, TEXT.to_vec());
            assert_eq!(matches!(enclosed, Enclosed::NotSealed(_, READS_NO_MORE)), fails, "{made}");
            assert_eq!(matches!(enclosed, Enclosed::Letter { .. }), !fails, "an older one says nothing");
        }
    }
}
