//! Where people are: from a name to the peers that serve its owner.
//!
//! Three identities meet here. A *user key* signs the list of the user's devices, stored at the hash
//! of the address-of-record. Each device is a *peer key*, whose hash is a Node-ID; at that place the
//! peer keeps its signed contact record. A *phone credential* never leaves the phone's own peer. So
//! resolving a name takes two lookups: the device list, then each device's contact record.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use wire::domain::{Way, Word};
use wire::number::NotANumber;
use wire::p2pp::{Code, Kind, Record};
use wire::{Contact, HashAlgorithm, Key, NodeId, Number, PublicKey, ResourceId, Time};

use crate::config::{Config, Identity};
use crate::domains::{self, Asked};
use crate::event::{Event, Level, OpId, Outcome};
use crate::names::NameFlaw;
use crate::node::{Alarm, Node};
use crate::numbers::{MAX_AT_ONCE, MAX_WEIGHED, PATIENCE, Proof, in_order};
use crate::pins::{Verdict, short};
use crate::region::Crowd;
use crate::report::{LookupReport, RecordReport, Value};
use crate::search::{Findings, For, LookupOptions, Want};
use crate::storage::{Claim, Devices};

/// Most names being resolved at once.
const MAX_RESOLUTIONS: usize = 1_024;

/// What is said where a key was not worked out.
pub(crate) const UNPROVEN: &str =
    "whose number it is was not worked out in time: this machine has too much to do";

/// Who waits for a name to be resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ResolvedFor {
    /// A request of the agent, for this user, from there.
    Sip(sip::RequestId, String, sip::Flow),
    Ping(OpId),
    Tables(OpId, crate::diagnostics::Table),
    Configure(OpId),
}

impl ResolvedFor {
    /// The phone on whose behalf it is, all of the command line as one.
    fn source(&self) -> Option<sip::Flow> {
        match *self {
            ResolvedFor::Sip(.., sip::Flow::Local(_)) => Some(sip::Flow::Local(0)),
            ResolvedFor::Sip(.., source) => Some(source),
            _ => None,
        }
    }
}

struct Resolution {
    /// Who is sought.
    name: String,
    purpose: ResolvedFor,
    waiting: usize,
    peers: Vec<Contact>,
    /// A contact record was named but not found: the person exists, the peer is off.
    silent: usize,
    /// Another key than the one known answers: that one, and this.
    changed: Option<[PublicKey; 2]>,
    /// A record does not count.
    flaw: Option<NameFlaw>,
    /// The key that the world works out, upon which this waits.
    proof: Option<PublicKey>,
    /// Until when it waits for keys, the first of them included.
    until: Option<Time>,
    /// Keys worked out for it, and how many those were when it was last searched for.
    weighed: usize,
    weighed_before: usize,
    /// Records that claim the number, and were not weighed yet.
    claims: VecDeque<Record>,
    /// What the domain of the name says.
    asked: Asked,
    /// Whether the records of the name are being sought.
    seeks: bool,
    /// The key whose records alone are sought, or were.
    sought: Option<PublicKey>,
    /// What was found while the domain was asked.
    held: Option<Findings>,
}

impl Resolution {
    fn new(name: String, purpose: ResolvedFor) -> Self {
        Resolution {
            name,
            purpose,
            waiting: 1,
            peers: Vec::new(),
            silent: 0,
            changed: None,
            flaw: None,
            proof: None,
            until: None,
            weighed: 0,
            weighed_before: 0,
            claims: VecDeque::new(),
            asked: Asked::Not,
            seeks: false,
            sought: None,
            held: None,
        }
    }
}

/// Names being resolved.
#[derive(Default)]
pub(crate) struct Directory {
    running: BTreeMap<u64, Resolution>,
    next: u64,
    /// Whose record was found last at a place, and which; the latest last.
    known: VecDeque<Known>,
}

#[derive(Clone, Copy)]
struct Known {
    place: Key,
    owner: PublicKey,
    sequence: u64,
}

impl Directory {
    /// Places remembered; beyond it the one found longest ago is forgotten.
    const MAX_KNOWN: usize = 512;

    /// Notes what was found at a place.
    pub(crate) fn remember(&mut self, place: Key, record: &Record) {
        let before = self.known.iter().position(|k| k.place == place);
        let before = before.and_then(|index| self.known.remove(index));
        let mut known = Known { place, owner: record.owner, sequence: record.sequence };
        if let Some(before) = before.filter(|k| k.owner == record.owner) {
            known.sequence = known.sequence.max(before.sequence);
        }
        if self.known.len() >= Self::MAX_KNOWN {
            self.known.pop_front();
        }
        self.known.reserve_exact(1);
        self.known.push_back(known);
    }

    /// At a place this owner's record is sought: another's calls for another look, even if it was found last.
    fn expect(&mut self, place: Key, owner: PublicKey) {
        if self.known.iter().any(|k| k.place == place && k.owner == owner) {
            return;
        }
        self.known.retain(|k| k.place != place);
        if self.known.len() >= Self::MAX_KNOWN {
            self.known.pop_front();
        }
        self.known.push_back(Known { place, owner, sequence: 0 });
    }

    /// A name waits until this key is worked out, and until when; nothing if it has had its share.
    pub(crate) fn wait_for(&mut self, now: Time, id: u64, key: PublicKey) -> Option<Time> {
        let others = self.proving_beside(id);
        let resolution = self.running.get_mut(&id)?;
        resolution.proof = Some(key);
        let until = *resolution.until.get_or_insert(now + PATIENCE);
        resolution.weighed += 1;
        (resolution.weighed <= MAX_WEIGHED && now < until && others < MAX_AT_ONCE).then_some(until)
    }

    /// How many other names wait for keys that were dialled from the same phone, or all from the command line.
    fn proving_beside(&self, id: u64) -> usize {
        let source = |resolution: &Resolution| resolution.purpose.source();
        let ours = self.running.get(&id).and_then(source);
        let others = self.running.iter().filter(|(other, r)| **other != id && r.proof.is_some());
        others.filter(|(_, r)| ours.is_some() && source(r) == ours).count()
    }

    /// The name that waits for a key on behalf of this request.
    pub(crate) fn proving_for(&self, request: sip::RequestId) -> Option<u64> {
        let is_its = |r: &Resolution| matches!(r.purpose, ResolvedFor::Sip(asked, ..) if asked == request);
        self.running.iter().find(|(_, r)| r.proof.is_some() && is_its(r)).map(|(id, _)| *id)
    }

    /// The names that wait for this key.
    pub(crate) fn waiting_for(&self, key: &PublicKey) -> Vec<u64> {
        self.running.iter().filter(|(_, r)| r.proof == Some(*key)).map(|(id, _)| *id).collect()
    }

    /// Those that wait for what the domain of this name says.
    pub(crate) fn waiting_for_domain(&self, name: &str) -> Vec<u64> {
        let waits = |r: &Resolution| r.asked == Asked::Waits && r.name == name;
        self.running.iter().filter(|(_, r)| waits(r)).map(|(id, _)| *id).collect()
    }

    /// A name waits no longer for a key; who wanted it, and what it came to.
    pub(crate) fn give_up(&mut self, id: u64) -> Option<(ResolvedFor, Resolved)> {
        self.running.get(&id)?.proof?;
        let resolution = self.running.remove(&id)?;
        // No number was dialled where the domain named the key: nobody with it was found under the name.
        let of_domain = resolution.asked.key().map(|(key, way)| Resolved::NotOfDomain(Word::Key(key, way)));
        Some((resolution.purpose, of_domain.unwrap_or(Resolved::Unproven)))
    }

    /// Whether what a search found calls for another look along disjoint paths: nothing, another owner's
    /// record than last time, or an older one. (Records are signed, and those that are not are nothing.)
    pub(crate) fn suspicious(&self, place: &Key, records: &[(Record, Duration)]) -> bool {
        let known = self.known.iter().find(|k| k.place == *place);
        let as_known = |r: &Record| known.is_none_or(|k| r.owner == k.owner && r.sequence >= k.sequence);
        !records.iter().any(|(record, _)| as_known(record))
    }
}

/// What resolving a name came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Resolved {
    /// Reachable peers that serve the user.
    Peers(Vec<Contact>),
    /// Nobody has that name.
    Unknown,
    /// The name exists, none of its peers does now.
    Offline,
    /// It begins like a number, and is none.
    Mistyped(NotANumber),
    /// Whether the key is the number's was not worked out.
    Unproven,
    /// A record of that name was found, and does not count.
    Uncertified(NameFlaw),
    /// The first key was known, and the name is held by the second only, or its domain says so.
    KeyChanged([PublicKey; 2], Option<Way>),
    /// The domain of the name stands against it, or not for it.
    NotOfDomain(Word),
}

/// Makes of anything a person may type the one canonical name: no scheme, no port, no parameters,
/// lower case, `user@domain`; telephone numbers keep only digits and a leading plus, and numbers of keys
/// ([`wire::number`]) no space, dash or dot between theirs.
pub fn canonical_aor(text: &str, default_domain: &str) -> String {
    let text = text.trim().trim_start_matches('<').trim_end_matches('>');
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme @ ("sip" | "sips" | "tel"), rest)) => (scheme, rest),
        _ => ("sip", text),
    };
    let rest = rest.split([';', '?']).next().unwrap_or(rest);
    let (user, domain) = match rest.split_once('@') {
        Some((user, domain)) => (user, strip_port(domain)),
        None => (rest, default_domain),
    };
    let is_number = |s: &str| s.starts_with('+') || scheme == "tel";
    let user = if let Some(digits) = in_groups(user) {
        digits
    } else if is_number(user) {
        user.chars().filter(|c| c.is_ascii_digit() || *c == '+').collect()
    } else {
        user.to_lowercase()
    };
    format!("{user}@{}", domain.to_lowercase())
}

/// The digits of a number that is written in groups.
fn in_groups(user: &str) -> Option<String> {
    let between = [' ', '-', '.'];
    let digits = user.contains(between).then(|| user.replace(between, ""))?;
    (digits.parse::<Number>() != Err(NotANumber::Other)).then_some(digits)
}

fn strip_port(domain: &str) -> &str {
    match domain.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => domain,
    }
}

/// The peers that a user's record names.
fn devices(hash: HashAlgorithm, record: &Record) -> Vec<NodeId> {
    let devices = Devices::parse(&record.value).unwrap_or_default();
    devices.0.iter().map(|key| key.node_id(hash)).collect()
}

/// Until when a user's record is certified, if it is.
fn certified_until(record: &Record) -> Option<u64> {
    match Devices::read(&record.value).filter(|_| record.kind == Kind::USER)? {
        (_, Claim::Certificate(certificate)) => Some(certificate.not_after.0),
        _ => None,
    }
}

/// Where the device list of a user stands.
pub fn place_of_user(hash: HashAlgorithm, aor: &str) -> ResourceId {
    ResourceId(hash.digest(aor.as_bytes()))
}

impl Node {
    /// Finds the peers that serve a user.
    pub(crate) fn resolve(&mut self, now: Time, aor: &str, purpose: ResolvedFor) {
        if self.directory.running.len() >= MAX_RESOLUTIONS {
            return self.resolved(now, purpose, Resolved::Offline);
        }
        let proof = match self.proof_in(aor).transpose() {
            Ok(proof) => proof,
            Err(slip) => return self.resolved(now, purpose, Resolved::Mistyped(slip)),
        };
        self.directory.next += 1;
        let id = self.directory.next;
        self.directory.running.insert(id, Resolution::new(self.proven_name(aor), purpose));
        match proof {
            None => self.seek_name(now, id),
            Some(Proof::Number(number)) => self.seek_claims(now, id, number, None),
            Some(Proof::Key(key)) => self.seek_key(now, id, key),
        }
    }

    /// Seeks who has a name; what its domain says of it is asked beside, for whoever is called or written to.
    fn seek_name(&mut self, now: Time, id: u64) {
        let Some(resolution) = self.directory.running.get(&id) else { return };
        let (name, source) = (resolution.name.clone(), resolution.purpose.source());
        let asked = source.map_or(Asked::Not, |source| self.ask_domain(now, &name, source));
        if let Asked::Said(word) = asked {
            return self.settle_domain(now, id, word);
        }
        if asked == Asked::Waits {
            self.timers.set(Alarm::Domain(id), now + domains::PATIENCE);
            self.directory.running.entry(id).and_modify(|resolution| resolution.asked = asked);
        }
        self.seek_records(now, id, None);
    }

    /// Seeks the records of a name, or only that of one key.
    fn seek_records(&mut self, now: Time, id: u64, owner: Option<PublicKey>) {
        let Some(resolution) = self.directory.running.get_mut(&id) else { return };
        (resolution.seeks, resolution.sought) = (true, owner);
        let name = resolution.name.clone();
        let place = self.expected_place(&name, place_of_user(self.hash(), &name));
        let want = Want::Object(Kind::USER, owner);
        self.search(now, place.0, want, For::Resolve(id), LookupOptions::default());
    }

    /// The domain of a name that is called takes too long.
    pub(crate) fn settle_without_domain(&mut self, now: Time, id: u64) {
        if let Some(resolution) = self.directory.running.get(&id) {
            let word = self.domains.silence_of(&resolution.name);
            self.settle_domain(now, id, word);
        }
    }

    /// The domain of a name that is called has spoken, or was silent for too long.
    pub(crate) fn settle_domain(&mut self, now: Time, id: u64, word: Word) {
        self.timers.cancel(Alarm::Domain(id));
        let Some(name) = self.directory.running.get(&id).map(|r| r.name.clone()) else { return };
        let word = self.word_that_holds(now, &name, word);
        let Some(resolution) = self.directory.running.get_mut(&id) else { return };
        resolution.asked = Asked::Said(word);
        let (seeks, held) = (resolution.seeks, resolution.held.take());
        match self.judge_by_domain(&name, word) {
            Ok(owner) if !seeks => self.seek_records(now, id, owner),
            Ok(_) => held.into_iter().for_each(|findings| self.take_records(now, id, findings)),
            Err(refused) => {
                let Some(resolution) = self.directory.running.remove(&id) else { return };
                self.resolved(now, resolution.purpose, refused);
            }
        }
    }

    /// The records of a name were found. They wait for what its domain says; if it names a key only that one's counts. Where
    /// others came first it is sought once more, and then at its number: the first to come keep the owner of a name from
    /// publishing there.
    fn take_records(&mut self, now: Time, id: u64, mut findings: Findings) {
        let Some(resolution) = self.directory.running.get_mut(&id) else { return };
        if resolution.asked == Asked::Waits {
            resolution.held = Some(findings);
            return;
        }
        if let Some((key, _)) = resolution.asked.key() {
            findings.records.retain(|(record, _)| record.owner == key);
            match (findings.records.is_empty(), resolution.sought) {
                (true, None) => return self.seek_records(now, id, Some(key)),
                (true, Some(_)) if self.config.numbers => {
                    resolution.seeks = false;
                    return self.seek_key(now, id, key);
                }
                _ => {}
            }
        }
        resolution.seeks = false;
        resolution.waiting -= 1;
        if let Some((record, _)) = self.pins.choose(&resolution.name, &findings.records) {
            self.follow_devices(now, id, record);
        }
        self.end_step(now, id);
    }

    /// Seeks the records that claim a number, or that of one key.
    fn seek_claims(&mut self, now: Time, id: u64, number: Number, owner: Option<PublicKey>) {
        let Some(name) = self.directory.running.get(&id).map(|r| r.name.clone()) else { return };
        let place = self.expected_place(&name, number.place(self.hash()));
        let want = Want::Object(Kind::NUMBER, owner);
        self.search(now, place.0, want, For::Resolve(id), LookupOptions::default());
    }

    /// Seeks the record of a key at its number, which has to be worked out.
    fn seek_key(&mut self, now: Time, id: u64, key: PublicKey) {
        match self.numbers.stretch(&key) {
            Some(stretch) => self.seek_claims(now, id, Number::of(&key, &stretch), Some(key)),
            None => self.want_proof(now, id, key),
        }
    }

    /// A key upon which a name waited is worked out.
    pub(crate) fn handle_proof(&mut self, now: Time, id: u64) {
        self.timers.cancel(Alarm::Proof(id));
        let Some(resolution) = self.directory.running.get_mut(&id) else { return };
        resolution.proof = None;
        let (name, sought) = (resolution.name.clone(), resolution.sought);
        match (self.proof_in(&name), sought) {
            (Some(Ok(Proof::Key(key))), _) | (None, Some(key)) => self.seek_key(now, id, key),
            _ => self.weigh_claims(now, id),
        }
    }

    /// Follows the record that claims a number rightly, if one of those found does. If all lied it is searched for
    /// again: what is known to lie is no answer any more, so other paths are tried as if nothing had been found.
    fn weigh_claims(&mut self, now: Time, id: u64) {
        let Some(resolution) = self.directory.running.get_mut(&id) else { return };
        let pinned = self.pins.owner(&resolution.name);
        match self.numbers.weigh(pinned, &mut resolution.claims) {
            Ok(None) if resolution.weighed > resolution.weighed_before => {
                resolution.weighed_before = resolution.weighed;
                let name = resolution.name.clone();
                if let Some(Ok(Proof::Number(number))) = self.proof_in(&name) {
                    self.seek_claims(now, id, number, None);
                }
            }
            Ok(found) => {
                resolution.waiting -= 1;
                found.iter().for_each(|record| self.follow_devices(now, id, record));
                self.end_step(now, id);
            }
            Err(key) => self.want_proof(now, id, key),
        }
    }

    /// Where the record of a name is sought: there the pinned key's is expected, if one is.
    pub(crate) fn expected_place(&mut self, aor: &str, place: ResourceId) -> ResourceId {
        if let Some(owner) = self.pins.owner(aor) {
            self.directory.expect(place.0, owner);
        }
        place
    }

    /// Finds a peer by its Node-ID.
    pub(crate) fn resolve_node(&mut self, now: Time, node: NodeId, purpose: ResolvedFor) {
        self.directory.next += 1;
        let id = self.directory.next;
        self.directory.running.insert(id, Resolution::new(node.to_string(), purpose));
        let want = Want::Object(Kind::PEER, None);
        self.search(now, node.0, want, For::Resolve(id), LookupOptions::default());
    }

    /// A lookup on the way to a person has ended: the device list, or a device's contact record.
    pub(crate) fn handle_resolve_step(&mut self, now: Time, id: u64, key: &Key, findings: Findings) {
        let hash = self.hash();
        let Some(resolution) = self.directory.running.get_mut(&id) else { return };
        let crowded = (findings.crowd == Some(Crowd::Dense)).then(|| resolution.name.clone());
        resolution.flaw = resolution.flaw.or(findings.flaw);
        let name = resolution.name.clone();
        if findings.records.first().is_some_and(|(record, _)| record.kind == Kind::NUMBER) {
            resolution.claims = in_order(self.pins.owner(&name), findings.records);
            self.warn_of_crowd(crowded);
            return self.weigh_claims(now, id);
        }
        if resolution.seeks {
            self.warn_of_crowd(crowded);
            return self.take_records(now, id, findings);
        }
        resolution.waiting -= 1;
        if let Some((record, _)) = findings.records.first() {
            let contact = self.read_contact(hash, NodeId(*key), record);
            self.directory.running.get_mut(&id).into_iter().for_each(|r| r.peers.extend(contact));
        }
        self.warn_of_crowd(crowded);
        self.end_step(now, id);
    }

    /// Looks for the devices that a user's record names.
    fn follow_devices(&mut self, now: Time, id: u64, record: &Record) {
        let (hash, own) = (self.hash(), self.node_id());
        let Some(resolution) = self.directory.running.get_mut(&id) else { return };
        let mut wanted = devices(hash, record);
        // Who is called or written to is remembered, and is not another one the next time.
        let verdict = match &resolution.purpose {
            ResolvedFor::Sip(..) => self.pins.meet(&resolution.name, record.owner, wanted.clone(), true),
            _ => Verdict::New,
        };
        let mut unlike = None;
        match verdict {
            Verdict::Changed(known) => {
                resolution.changed = Some([known, record.owner]);
                wanted.clear();
            }
            Verdict::Unlike(heard) => unlike = Some((resolution.name.clone(), heard)),
            Verdict::New | Verdict::Pinned => {}
        }
        if let Asked::Said(word) = resolution.asked {
            self.pins.hear_domain(&resolution.name, word);
        }
        wanted.retain(|n| Some(*n) != own);
        resolution.silent += wanted.len();
        resolution.waiting += wanted.len();
        for node in wanted {
            let want = Want::Object(Kind::PEER, None);
            self.search(now, node.0, want, For::Resolve(id), LookupOptions::default());
        }
        self.save_pins();
        if let Some((name, heard)) = unlike {
            let message = format!("who called or wrote as {name} before, at {}, is not there", short(heard));
            self.log(Level::Warn, "pins", message);
        }
    }

    /// A step on the way to a person is done; after the last one whoever asked is told.
    fn end_step(&mut self, now: Time, id: u64) {
        if self.directory.running.get(&id).is_some_and(|r| r.waiting == 0) {
            let Some(done) = self.directory.running.remove(&id) else { return };
            let outcome = match (done.changed, done.peers.is_empty(), done.silent) {
                (Some(keys), ..) => Resolved::KeyChanged(keys, None),
                (None, false, _) => Resolved::Peers(done.peers),
                (None, true, 0) => match done.asked.key() {
                    Some((key, way)) => Resolved::NotOfDomain(Word::Key(key, way)),
                    None => done.flaw.map_or(Resolved::Unknown, Resolved::Uncertified),
                },
                (None, true, _) => Resolved::Offline,
            };
            self.resolved(now, done.purpose, outcome);
        }
    }

    pub(crate) fn resolved(&mut self, now: Time, purpose: ResolvedFor, outcome: Resolved) {
        match (purpose, outcome) {
            (ResolvedFor::Sip(request, user, source), outcome) => {
                if let (sip::Flow::Local(id), Resolved::Peers(peers)) = (source, &outcome) {
                    let protection = self.protection_towards(peers.iter().map(|peer| peer.id));
                    self.phones.locals.note_protection(id, protection);
                }
                self.route_request(now, request, user, outcome);
            }
            (ResolvedFor::Ping(op), Resolved::Peers(peers)) => self.ping_contact(now, op, peers[0]),
            (ResolvedFor::Tables(op, table), Resolved::Peers(peers)) => {
                self.ask_tables(now, op, (peers[0].address, Some(peers[0].id)), table);
            }
            (ResolvedFor::Configure(op), Resolved::Peers(peers)) => {
                self.send_setting(now, op, peers[0].address, peers[0].id);
            }
            (
                ResolvedFor::Ping(op) | ResolvedFor::Tables(op, _) | ResolvedFor::Configure(op),
                Resolved::Uncertified(flaw),
            ) => self.failed(op, Code::FORBIDDEN.0, flaw.to_string()),
            (
                ResolvedFor::Ping(op) | ResolvedFor::Tables(op, _) | ResolvedFor::Configure(op),
                Resolved::Mistyped(slip),
            ) => self.failed(op, Code::BAD_REQUEST.0, slip.to_string()),
            (
                ResolvedFor::Ping(op) | ResolvedFor::Tables(op, _) | ResolvedFor::Configure(op),
                Resolved::Unproven,
            ) => self.failed(op, Code::BUSY.0, UNPROVEN),
            (
                ResolvedFor::Ping(op) | ResolvedFor::Tables(op, _) | ResolvedFor::Configure(op),
                Resolved::Unknown,
            ) => self.failed(op, Code::NOT_FOUND.0, "nobody has that name"),
            (
                ResolvedFor::Ping(op) | ResolvedFor::Tables(op, _) | ResolvedFor::Configure(op),
                // Only who is called or written to is compared.
                Resolved::Offline | Resolved::KeyChanged(..) | Resolved::NotOfDomain(_),
            ) => self.failed(op, Code::UNAVAILABLE.0, "none of that user's peers is there"),
        }
    }

    /// Looks a user up, the way a call would; of a number only who claims it.
    pub fn lookup_user(&mut self, now: Time, aor: &str, options: LookupOptions) -> OpId {
        let aor = canonical_aor(aor, &self.default_domain());
        let aor = self.proven_name(&self.meaning(&aor).unwrap_or(aor));
        if let Some(Ok(Proof::Number(number))) = self.proof_in(&aor) {
            return self.lookup(now, number.place(self.hash()), Kind::NUMBER, aor, options);
        }
        self.look_up_asked(now, aor, options)
    }

    /// Looks a key up.
    pub fn lookup_key(&mut self, now: Time, key: ResourceId, kind: Kind, options: LookupOptions) -> OpId {
        self.lookup(now, key, kind, key.to_string(), options)
    }

    fn lookup(
        &mut self,
        now: Time,
        place: ResourceId,
        kind: Kind,
        name: String,
        options: LookupOptions,
    ) -> OpId {
        let op = self.new_op();
        self.search(now, place.0, Want::Object(kind, None), For::Lookup(op, name), options);
        self.drain(now);
        op
    }

    /// Tells whoever asked for a name that somebody crowds around it.
    fn warn_of_crowd(&mut self, name: Option<String>) {
        if let Some(name) = name {
            self.emit(Event::Crowded { name, ours: false });
        }
    }

    pub(crate) fn handle_lookup_done(&mut self, now: Time, op: OpId, name: String, findings: Findings) {
        let hash = self.hash();
        let alarm = findings.crowd == Some(Crowd::Dense);
        self.warn_of_crowd(alarm.then(|| name.clone()));
        let elsewhere = self.named_elsewhere(now, &name);
        let record = self.pins.choose(&name, &findings.records).map(|(record, left)| {
            let nodes = match record.kind {
                Kind::USER | Kind::NUMBER => devices(hash, record),
                _ => vec![record.owner.node_id(hash)],
            };
            let domain_proof = self.shown_of_domain(now, &name, record.owner);
            // A key is looked up in hexadecimal, and has no name to compare.
            let pin = (record.kind == Kind::USER && name.contains('@'))
                .then(|| self.compare_record(&name, record.owner, nodes.clone()).to_owned());
            RecordReport {
                user: name,
                nodes: nodes.iter().map(NodeId::to_string).collect(),
                sequence: record.sequence,
                expires_ms: left.as_millis() as u64,
                owner: record.owner.to_string(),
                pin,
                domain_proof: domain_proof.map(str::to_owned),
                certified_until: certified_until(record),
            }
        });
        let report = LookupReport {
            found: record.is_some(),
            mode: findings.mode.name().to_owned(),
            hops: findings.hops,
            time_ms: findings.took.as_secs_f64() * 1e3,
            messages: findings.messages,
            alarm,
            refused: elsewhere.or(findings.flaw.map(|flaw| flaw.to_string())).filter(|_| record.is_none()),
            record,
            path: findings.path,
        };
        self.done(op, Outcome::Lookup(report));
    }

    /// Reads a value that somebody `put`.
    pub fn get(&mut self, now: Time, key: &str) -> OpId {
        self.get_of(now, Kind::DATA, key)
    }

    /// The same of another kind: one for values of applications.
    pub fn get_of(&mut self, now: Time, kind: Kind, key: &str) -> OpId {
        let op = self.new_op();
        match self.place_of_value(kind, key) {
            Ok((place, _)) => {
                let (want, purpose) = (Want::Object(kind, None), For::Get(op, key.to_owned()));
                self.search(now, place.0, want, purpose, LookupOptions::default());
            }
            Err(why) => self.failed(op, Code::BAD_REQUEST.0, why),
        }
        self.drain(now);
        op
    }

    pub(crate) fn handle_get_done(&mut self, op: OpId, name: String, findings: Findings) {
        let alarm = findings.crowd == Some(Crowd::Dense);
        self.warn_of_crowd(alarm.then_some(name));
        let newest = findings.records.into_iter().max_by_key(|(record, _)| record.sequence);
        let value = match newest {
            None => Value { alarm, ..Value::default() },
            Some((record, left)) => Value {
                found: true,
                value: Some(String::from_utf8_lossy(&record.value).into_owned()),
                sequence: record.sequence,
                owner: Some(record.owner.to_string()),
                expires_ms: left.as_millis() as u64,
                alarm,
                bytes: record.value,
            },
        };
        self.done(op, Outcome::Value(value));
    }

    /// The domain that a name without one means: that of the first user served here.
    pub fn default_domain(&self) -> String {
        home_of(&self.identity, &self.config)
    }
}

/// The domain of the first user, or the overlay's name.
pub(crate) fn home_of(identity: &Identity, config: &Config) -> String {
    let first = identity.users.first().and_then(|u| u.aor.split_once('@'));
    first.map_or_else(|| config.overlay.name.clone(), |(_, domain)| domain.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_an_older_record_and_another_owners_are_suspicious() {
        let key = |n| wire::KeyPair::from_seed(wire::Seed::from_number(n)).public();
        let place = ResourceId(HashAlgorithm::Sha256.digest(b"alice@lan"));
        let record = |owner, sequence| Record {
            resource: place,
            kind: Kind::USER,
            owner,
            sequence,
            created: wire::UnixTime(0),
            lifetime: 60,
            tombstone: false,
            value: Vec::new(),
            signature: [0; wire::KeyPair::SIGNATURE_LEN],
        };
        let mut directory = Directory::default();
        let suspicious =
            |directory: &Directory, found: &[(Record, Duration)]| directory.suspicious(place.key(), found);
        let lifetime = Duration::from_secs(60);
        assert!(suspicious(&directory, &[]));
        assert!(!suspicious(&directory, &[(record(key(1), 7), lifetime)]));
        directory.remember(*place.key(), &record(key(1), 7));
        assert!(!suspicious(&directory, &[(record(key(1), 8), lifetime)]));
        assert!(suspicious(&directory, &[(record(key(1), 6), lifetime)]));
        assert!(suspicious(&directory, &[(record(key(2), 9), lifetime)]));
        directory.remember(*place.key(), &record(key(2), 9));
        assert!(!suspicious(&directory, &[(record(key(2), 9), lifetime)]), "found last");
        directory.expect(*place.key(), key(1));
        assert!(suspicious(&directory, &[(record(key(2), 9), lifetime)]), "and not the one expected");
        assert!(!suspicious(&directory, &[(record(key(1), 3), lifetime)]));
    }

    #[test]
    fn names_have_one_form_however_they_are_typed() {
        for typed in [
            "alice@Example.Org",
            "sip:Alice@example.org",
            "<sip:alice@example.org:5060;transport=udp>",
            " sips:alice@example.org?subject=x ",
        ] {
            assert_eq!(canonical_aor(typed, "lan"), "alice@example.org", "{typed}");
        }
        assert_eq!(canonical_aor("bob", "demo.test"), "bob@demo.test");
        assert_eq!(canonical_aor("tel:+49 (30) 1234", "lan"), "+49301234@lan");
        assert_eq!(canonical_aor("8919 1396-9007.917", "lan"), "891913969007917@lan");
        assert_eq!(
            canonical_aor("8919 1396 9007 91@lan", "test"),
            "89191396900791@lan",
            "told as a slip later"
        );
        assert_eq!(canonical_aor("89-12", "lan"), "89-12@lan");
        assert_eq!(canonical_aor("bob@[2001:db8::1]:5060", "lan"), "bob@[2001:db8::1]");
        assert_eq!(canonical_aor("bob@[2001:db8::1]", "lan"), "bob@[2001:db8::1]");
    }
}
