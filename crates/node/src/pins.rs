//! Names, and the keys that first answered to them: pinning on first use.
//!
//! The overlay gives a name to whoever publishes it first, for as long as the record lives. This table is
//! the caller's own memory: a name that was called or written to belongs, for this peer, to the user key
//! that signed its record then. A record of another key is not followed until the person says so
//! (`openvoip pins accept`); of several records the pinned key's is taken, whoever stands beside it.
//!
//! Three things are remembered, and they are not worth the same:
//!
//! | how it was learnt | what it proves | what comes of it |
//! |---|---|---|
//! | a record, found for a call or message of ours | a user key signed it, and names its peers | another key is refused |
//! | what the name's domain said last (`domains.rs`) | as much as DNS does | another key, or nobody, is refused, also while the domain is silent |
//! | an envelope that called or wrote to us | a peer key signed it; the name is only claimed | another peer is marked |
//!
//! So a claim never keeps us from calling anybody: else one message in the name of a person would make
//! that person unreachable for whoever had not called yet. And who calls from a peer that the record did
//! not name may be a thief, or the same person at a new machine: an envelope cannot tell them apart, a refused
//! call may be the one that mattered. It is let through under the name [`MARK`], and the person judges.
//! Looking the name up, or calling it, learns the new peers of a key that is pinned.
//!
//! Nothing here sends anything. A search that finds only another key's record looks again along disjoint
//! paths, as it does where another one was found before (`directory.rs`).

use std::cmp::Reverse;
use std::time::Duration;

use wire::domain::{Way, Word};
use wire::p2pp::Record;
use wire::{Key, NodeId, PublicKey};

use crate::config::MAX_NAME;
use crate::directory::canonical_aor;
use crate::event::Event;
use crate::names::serial;
use crate::node::Node;
use crate::report::PinRow;

/// Names that we called or wrote to, at most; more than a person's address book. Beyond it the one
/// that was used longest ago and not confirmed is forgotten. If all are confirmed, a new one is not kept.
pub(crate) const MAX_MET: usize = 1_024;

/// Names that only others claimed, at most: strangers fill this table, and no place of the other one.
pub(crate) const MAX_HEARD: usize = 256;

/// Longest address-of-record remembered; what claims a longer one is noise.
const MAX_AOR: usize = 2 * MAX_NAME + 1;

/// As it is saved that a name is nobody's for its domain.
const NOBODY: &str = "nobody";

/// What a phone shows of a caller who is not where the name was known.
pub const MARK: &str = "KEY CHANGED";

#[derive(Clone, PartialEq, Eq, Debug)]
struct Pin {
    name: String,
    /// The user key; nothing while the name was only claimed.
    owner: Option<PublicKey>,
    /// Where the user is: the peers that the record named, or the one that claimed the name.
    peers: Vec<NodeId>,
    /// A person checked it: never forgotten by itself.
    confirmed: bool,
    /// What the domain of the name said last, a key or that it is nobody's: it holds while the domain is silent.
    said: Option<Word>,
    /// The last other key whose record was found, and its peers.
    other: Option<(PublicKey, Vec<NodeId>)>,
}

impl Pin {
    fn new(name: &str, owner: Option<PublicKey>, peers: Vec<NodeId>) -> Pin {
        Pin { name: name.to_owned(), owner, peers, confirmed: false, said: None, other: None }
    }

    /// The key that the domain of the name has named, if it is this one or not.
    fn key_of_domain(&self) -> Option<(PublicKey, Way)> {
        match self.said {
            Some(Word::Key(key, way)) => Some((key, way)),
            _ => None,
        }
    }

    /// The keys that may be the right one, and their peers: the domain's, the last other that was found, the one known.
    fn candidates(&self) -> Vec<(PublicKey, Vec<NodeId>)> {
        let known = self.owner.map(|key| (key, self.peers.clone()));
        let met: Vec<_> = self.other.clone().into_iter().chain(known).collect();
        let of_domain = self
            .key_of_domain()
            .map(|(said, _)| met.iter().find(|(key, _)| *key == said).cloned().unwrap_or((said, Vec::new())));
        of_domain.into_iter().chain(met).collect()
    }
}

/// How a record compares with what is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The name was not known.
    New,
    /// The key is the one known.
    Pinned,
    /// This key was known, and it is another one.
    Changed(PublicKey),
    /// Who called us by this name did so from another peer than the record has; the record counts.
    Unlike(NodeId),
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::New | Verdict::Unlike(_) => "new",
            Verdict::Pinned => "pinned",
            Verdict::Changed(_) => "changed",
        }
    }
}

/// The keys of the people we know, the one used last at the end.
#[derive(Default)]
pub(crate) struct Pins {
    pins: Vec<Pin>,
    /// Whether there is something to save.
    unsaved: bool,
}

impl Pins {
    /// What was known before a restart.
    pub(crate) fn new(saved: &[PinRow]) -> Self {
        let mut pins = Pins::default();
        for pin in saved.iter().filter_map(read) {
            pins.add(pin);
        }
        Pins { unsaved: false, ..pins }
    }

    /// All of them, the one used last at the end.
    pub(crate) fn rows(&self) -> Vec<PinRow> {
        self.pins.iter().map(row).collect()
    }

    /// The user key of a name, if one is known.
    pub(crate) fn owner(&self, name: &str) -> Option<PublicKey> {
        self.position(name).and_then(|index| self.pins[index].owner)
    }

    /// Which of the records found for a name counts: the pinned key's, else the one certified last, else the first.
    pub(crate) fn choose<'a>(
        &self,
        name: &str,
        records: &'a [(Record, Duration)],
    ) -> Option<&'a (Record, Duration)> {
        let pinned =
            self.owner(name).and_then(|owner| records.iter().find(|(record, _)| record.owner == owner));
        pinned.or_else(|| records.iter().min_by_key(|(record, _)| Reverse(serial(record))))
    }

    /// A record of a name was found. `keep`: a name that is new is remembered.
    pub(crate) fn meet(&mut self, name: &str, owner: PublicKey, peers: Vec<NodeId>, keep: bool) -> Verdict {
        let known = self.position(name);
        let met = known.and_then(|index| Some((index, self.pins[index].owner?)));
        if let Some((index, pinned)) = met {
            let pin = &mut self.pins[index];
            let (peers, other) =
                if pinned == owner { (peers, None) } else { (pin.peers.clone(), Some((owner, peers))) };
            self.unsaved |= pin.peers != peers || pin.other != other;
            (pin.peers, pin.other) = (peers, other);
            self.touch(index);
            return if pinned == owner { Verdict::Pinned } else { Verdict::Changed(pinned) };
        }
        if !keep {
            return Verdict::New;
        }
        let heard = known.map(|index| self.pins.remove(index));
        let unlike = heard.and_then(|h| h.peers.first().copied()).filter(|p| !peers.contains(p));
        self.add(Pin::new(name, Some(owner), peers));
        unlike.map_or(Verdict::New, Verdict::Unlike)
    }

    /// A peer calls or writes in somebody's name. If the name was known to be elsewhere: the
    /// fingerprint it was known by.
    pub(crate) fn hear(&mut self, name: &str, from: NodeId) -> Option<String> {
        let Some(index) = self.position(name) else {
            self.add(Pin::new(name, None, vec![from]));
            return None;
        };
        let pin = &self.pins[index];
        // Of a key that was accepted before its record was seen nobody knows where it is.
        if !pin.peers.is_empty() && !pin.peers.contains(&from) {
            return Some(pin.owner.map_or_else(|| short(pin.peers[0]), short));
        }
        self.touch(index);
        None
    }

    /// The domain of a name has spoken. What it says last takes the place of what it said before, silence does not.
    pub(crate) fn hear_domain(&mut self, name: &str, word: Word) {
        let said = match word {
            Word::Silent | Word::Busy | Word::NoServer => return,
            Word::Nothing => None,
            Word::Key(..) | Word::Nobody => Some(word),
        };
        if let Some(index) = self.position(name).filter(|index| self.pins[*index].owner.is_some()) {
            self.unsaved |= self.pins[index].said != said;
            self.pins[index].said = said;
        }
    }

    /// What the domain of a name said last, if it said something that holds.
    pub(crate) fn said(&self, name: &str) -> Option<Word> {
        self.position(name).and_then(|index| self.pins[index].said)
    }

    /// Whether a person has checked the key of a name.
    pub(crate) fn is_confirmed(&self, name: &str) -> bool {
        self.position(name).is_some_and(|index| self.pins[index].confirmed)
    }

    /// A person has checked a key, which begins so; if nothing is said the domain's, else the other one, else the one known.
    pub(crate) fn accept(&mut self, name: &str, begins: &str) -> Option<PinRow> {
        let index = self.position(name)?;
        let pin = &mut self.pins[index];
        let is_meant = |(key, _): &(PublicKey, _)| key.to_string().starts_with(&begins.to_lowercase());
        let (owner, peers) = pin.candidates().into_iter().find(is_meant)?;
        (pin.owner, pin.peers, pin.other, pin.confirmed) = (Some(owner), peers, None, true);
        // Against a person's word only what the domain says from now on counts.
        pin.said = pin.said.filter(|said| matches!(said, Word::Key(key, _) if *key == owner));
        self.unsaved = true;
        Some(row(pin))
    }

    /// A name that is met again as if for the first time.
    pub(crate) fn forget(&mut self, name: &str) -> bool {
        let pin = self.position(name).map(|index| self.pins.remove(index));
        self.unsaved |= pin.is_some();
        pin.is_some()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.pins.iter().position(|pin| pin.name == name)
    }

    fn touch(&mut self, index: usize) {
        self.pins[index..].rotate_left(1);
    }

    /// Remembers a name that is new, if need be in place of another of its kind.
    fn add(&mut self, new: Pin) {
        let is_met = new.owner.is_some();
        let of_kind = |pin: &Pin| pin.owner.is_some() == is_met;
        let most = if is_met { MAX_MET } else { MAX_HEARD };
        if self.pins.iter().filter(|pin| of_kind(pin)).count() >= most {
            let oldest = self.pins.iter().position(|pin| of_kind(pin) && !pin.confirmed);
            let Some(oldest) = oldest else { return };
            self.pins.remove(oldest);
        }
        if new.name.len() <= MAX_AOR {
            self.pins.push(new);
            self.unsaved = true;
        }
    }
}

impl Node {
    /// The names that this peer knows and their keys, the one used last at the end.
    pub fn pins(&self) -> Vec<PinRow> {
        self.pins.rows()
    }

    /// A person has checked the key of a name: that of its domain, else the changed one, else the one
    /// known; `begins` says which, and may be empty. `None` if no such key of that name is known.
    pub fn accept_pin(&mut self, name: &str, begins: &str) -> Option<PinRow> {
        let name = self.proven_name(&canonical_aor(name, &self.default_domain()));
        let accepted = self.pins.accept(&name, begins);
        self.save_pins();
        accepted
    }

    /// Forgets the key of a name, so that the next one counts as the first; `false` if none is known.
    pub fn forget_pin(&mut self, name: &str) -> bool {
        let name = self.proven_name(&canonical_aor(name, &self.default_domain()));
        let forgotten = self.pins.forget(&name);
        self.save_pins();
        forgotten
    }

    /// What is remembered of the key that signed a user's record, for whoever looks it up.
    pub(crate) fn compare_record(
        &mut self,
        name: &str,
        owner: PublicKey,
        peers: Vec<NodeId>,
    ) -> &'static str {
        let verdict = self.pins.meet(name, owner, peers, false);
        self.save_pins();
        verdict.name()
    }

    /// Compares a peer that calls or writes in somebody's name with where that name is known to be; what
    /// the phone shall show if it is elsewhere.
    pub(crate) fn doubt_caller(&mut self, claimed: &str, from: NodeId) -> Option<String> {
        let name = self.proven_name(&canonical_aor(claimed, &self.default_domain()));
        if !name.contains('@') || self.is_user(&name) {
            return None;
        }
        let known = self.pins.hear(&name, from);
        self.save_pins();
        let shown = known.is_some().then(|| format!("\"{MARK}: {}\"", name.replace(['"', '\\'], "?")));
        if let Some(known) = known {
            self.emit(Event::KeyChanged { name, known, found: short(from), calls: true });
        }
        shown
    }

    /// Tells the world if there is something new to keep.
    pub(crate) fn save_pins(&mut self) {
        if std::mem::take(&mut self.pins.unsaved) {
            self.emit(Event::Save);
        }
    }
}

/// A key as people compare it: its first sixteen digits.
pub(crate) fn short(key: impl ToString) -> String {
    key.to_string().chars().take(16).collect()
}

fn row(pin: &Pin) -> PinRow {
    let text = |peers: &[NodeId]| peers.iter().map(NodeId::to_string).collect();
    let (other, other_peers) = pin.other.as_ref().map(|(key, peers)| (key, peers.as_slice())).unzip();
    let (ours, others): (Option<_>, Option<_>) = match pin.key_of_domain() {
        Some((key, way)) if Some(key) == pin.owner => (Some(way.to_string()), None),
        Some((key, way)) => (None, Some(format!("{way} {key}"))),
        None => (None, pin.said.map(|_| NOBODY.to_owned())),
    };
    PinRow {
        name: pin.name.clone(),
        key: pin.owner.map(|key| key.to_string()),
        nodes: text(&pin.peers),
        confirmed: pin.confirmed,
        proven_by: ours,
        domain_says: others,
        other_key: other.map(PublicKey::to_string),
        other_nodes: text(other_peers.unwrap_or_default()),
    }
}

fn read(row: &PinRow) -> Option<Pin> {
    let peers = |nodes: &[String]| -> Vec<NodeId> {
        nodes.iter().filter_map(|node| Some(NodeId(node.parse::<Key>().ok()?))).collect()
    };
    let key = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<PublicKey>().ok());
    let owner = key(&row.key);
    let proof = row.proven_by.as_ref().and_then(|way| Some(Word::Key(owner?, way.parse().ok()?)));
    let against = row.domain_says.as_deref().and_then(|text| match text.split_once(' ') {
        Some((way, key)) => Some(Word::Key(key.parse().ok()?, way.parse().ok()?)),
        None => (text == NOBODY).then_some(Word::Nobody),
    });
    let pin = Pin {
        name: row.name.clone(),
        owner,
        peers: peers(&row.nodes),
        confirmed: row.confirmed,
        said: against.or(proof),
        other: key(&row.other_key).map(|key| (key, peers(&row.other_nodes))),
    };
    // One of the two says who it is.
    (pin.owner.is_some() || !pin.peers.is_empty()).then_some(pin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{HashAlgorithm, KeyPair, Seed};

    fn key(n: u64) -> PublicKey {
        KeyPair::from_seed(Seed::from_number(n)).public()
    }

    fn peer(n: u64) -> NodeId {
        key(n).node_id(HashAlgorithm::Sha256)
    }

    fn knows(pins: &Pins, name: &str) -> bool {
        pins.rows().iter().any(|row| row.name == name)
    }

    #[test]
    fn the_name_used_longest_ago_makes_room_and_a_confirmed_one_never() {
        let mut pins = Pins::default();
        let meet = |pins: &mut Pins, n: usize| pins.meet(&format!("u{n}@test"), key(1), vec![peer(1)], true);
        meet(&mut pins, 0);
        pins.accept("u0@test", "");
        for n in 1..MAX_MET {
            meet(&mut pins, n);
        }
        assert_eq!(meet(&mut pins, 1), Verdict::Pinned, "used again");
        meet(&mut pins, MAX_MET);
        assert_eq!(pins.rows().len(), MAX_MET);
        assert!(knows(&pins, "u0@test") && knows(&pins, "u1@test") && !knows(&pins, "u2@test"));
        for n in 0..=MAX_MET {
            pins.accept(&format!("u{n}@test"), "");
        }
        assert_eq!(meet(&mut pins, 2), Verdict::New);
        assert!(!knows(&pins, "u2@test") && pins.rows().len() == MAX_MET, "all are confirmed");
    }

    #[test]
    fn strangers_who_claim_many_names_push_out_only_each_other() {
        let mut pins = Pins::default();
        pins.meet("bob@test", key(1), vec![peer(1)], true);
        for n in 0..1_000 {
            pins.hear(&format!("n{n}@test"), peer(2));
        }
        assert_eq!(pins.rows().len(), 1 + MAX_HEARD);
        assert!(knows(&pins, "bob@test"));
        pins.hear(&"x".repeat(MAX_AOR + 1), peer(2));
        assert!(pins.rows().iter().all(|row| row.name.len() <= MAX_AOR));
    }

    #[test]
    fn of_two_records_the_pinned_keys_counts_and_of_strangers_the_first() {
        let record = |n| {
            let record = Record {
                resource: wire::ResourceId(HashAlgorithm::Sha256.digest(b"bob@test")),
                kind: wire::p2pp::Kind::USER,
                owner: key(n),
                sequence: 1,
                created: wire::UnixTime(0),
                lifetime: 60,
                tombstone: false,
                value: Vec::new(),
                signature: [0; KeyPair::SIGNATURE_LEN],
            };
            (record, Duration::from_secs(60))
        };
        let found = [record(2), record(1)];
        let mut pins = Pins::default();
        let chosen = |pins: &Pins| pins.choose("bob@test", &found).map(|(record, _)| record.owner);
        assert_eq!(chosen(&pins), Some(key(2)));
        pins.meet("bob@test", key(1), vec![peer(1)], true);
        assert_eq!(chosen(&pins), Some(key(1)));
        pins.meet("bob@test", key(3), vec![peer(3)], true);
        assert_eq!(chosen(&pins), Some(key(1)), "another key takes its place only when it is accepted");
    }

    #[test]
    fn a_changed_key_is_accepted_only_while_it_is_there() {
        let mut pins = Pins::default();
        pins.meet("bob@test", key(1), vec![peer(1)], true);
        assert_eq!(pins.meet("bob@test", key(2), vec![peer(2)], true), Verdict::Changed(key(1)));
        assert_eq!(pins.meet("bob@test", key(1), vec![peer(3)], true), Verdict::Pinned);
        assert_eq!(pins.accept("bob@test", "").unwrap().key, Some(key(1).to_string()), "the owner is back");
        assert_eq!(pins.hear("bob@test", peer(3)), None, "at a new peer that the record names");
        assert_eq!(pins.hear("bob@test", peer(1)), Some(short(key(1))));
        pins.meet("bob@test", key(2), vec![peer(2)], true);
        assert_eq!(pins.accept("bob@test", "").unwrap().key, Some(key(2).to_string()));
        assert_eq!(pins.meet("bob@test", key(2), vec![peer(2)], true), Verdict::Pinned);
    }

    #[test]
    fn a_claimed_name_keeps_nobody_from_calling_its_owner() {
        let mut pins = Pins::default();
        assert_eq!(pins.hear("bob@test", peer(2)), None);
        assert_eq!(pins.accept("bob@test", ""), None, "no key of the user is known");
        assert_eq!(pins.meet("bob@test", key(1), vec![peer(1)], true), Verdict::Unlike(peer(2)));
        assert_eq!(pins.meet("bob@test", key(1), vec![peer(1)], true), Verdict::Pinned);
        assert_eq!(pins.hear("bob@test", peer(2)), Some(short(key(1))));
    }

    #[test]
    fn of_a_domains_key_and_a_strangers_the_domains_is_accepted_unless_another_is_said() {
        let accepted = |begins: &str| {
            let mut pins = Pins::default();
            pins.meet("bob@test", key(1), vec![peer(1)], true);
            pins.hear_domain("bob@test", Word::Key(key(2), Way::Dns));
            pins.meet("bob@test", key(3), vec![peer(3)], true);
            pins.accept("bob@test", begins)
        };
        let named = accepted("").unwrap();
        assert_eq!((named.key, named.proven_by.as_deref()), (Some(key(2).to_string()), Some("dns")));
        let kept = accepted(&short(key(1)).to_uppercase()).unwrap();
        assert_eq!((kept.key, kept.domain_says), (Some(key(1).to_string()), None));
        assert_eq!(accepted(&short(key(3))).unwrap().key, Some(key(3).to_string()));
        assert_eq!(accepted(&short(key(4))), None);
    }

    #[test]
    fn who_calls_first_after_the_key_of_their_domain_was_accepted_is_not_marked() {
        let mut pins = Pins::default();
        pins.meet("bob@test", key(1), vec![peer(1)], true);
        pins.hear_domain("bob@test", Word::Key(key(2), Way::Dns));
        pins.accept("bob@test", "").unwrap();
        assert_eq!(pins.hear("bob@test", peer(2)), None, "where the new key is nobody knows yet");
        pins.meet("bob@test", key(2), vec![peer(2)], true);
        assert_eq!(pins.hear("bob@test", peer(1)), Some(short(key(2))));
    }

    #[test]
    fn what_is_saved_comes_back() {
        let mut pins = Pins::default();
        pins.meet("bob@test", key(1), vec![peer(1), peer(2)], true);
        pins.meet("bob@test", key(3), vec![peer(3)], true);
        pins.hear("carol@test", peer(4));
        let says = [Word::Nothing, Word::Nobody, Word::Key(key(1), Way::Dnssec), Word::Key(key(2), Way::Dns)];
        for word in says {
            pins.hear_domain("bob@test", word);
            let saved = pins.rows();
            assert_eq!(Pins::new(&saved).pins, pins.pins, "{word:?}");
        }
    }
}
