//! Addresses that prove themselves: a number, which a keypad dials, and a key, which needs no other name.
//!
//! A number follows from a user's key by a function that costs memory ([`wire::number`]), and is worked out by the
//! world, beside the packets: [`Event::StretchWanted`](crate::Event::StretchWanted) asks for it, [`Node::handle_stretched`] takes the answer. A
//! user's devices stand at the place of their number too (`publish.rs`). Who dials it finds records of different keys
//! there, has those keys worked out, and follows the one of which the number is. A record whose key was worked out to
//! cost something else is nothing from then on, so that where all of them lied the search goes on along other paths.
//! Whoever has a whole key finds the same record by working out its number.
//!
//! Both are written as names until they are looked up, so that pins, short codes and the peer at the other end take
//! them as any name: that one knows which numbers its users have. They mean the same in whatever domain, and are pinned
//! in our own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use wire::number::NotANumber;
use wire::p2pp::{Kind, Record, RecordRef};
use wire::{Number, PublicKey, Stretch, Time};

use crate::node::{Alarm, Node};
use crate::storage::Devices;

/// Keys of other people whose cost is remembered; beyond it the one learnt first is forgotten.
const MAX_MET: usize = 256;

/// For so long a name may wait for keys, all of them together; a phone waits half a minute.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Keys worked out for one name at most, a fifth of a second each. Each that is in vain cost a liar 10^12 hashes.
pub(crate) const MAX_WEIGHED: usize = 16;

/// Names dialled from one phone that wait for keys at once: it shall not keep the world from those of others.
pub(crate) const MAX_AT_ONCE: usize = 4;

/// A name that is no name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Proof {
    /// A number.
    Number(Number),
    /// A whole key.
    Key(PublicKey),
}

impl Proof {
    /// What the user part of an address is, if it proves itself or was meant to.
    fn read(user: &str) -> Option<Result<Proof, NotANumber>> {
        match user.parse::<Number>() {
            Ok(number) => Some(Ok(Proof::Number(number))),
            Err(NotANumber::Other) => user.parse().ok().map(|key| Ok(Proof::Key(key))),
            Err(slip) => Some(Err(slip)),
        }
    }
}

/// What keys cost, as the world worked it out; nothing yet at a peer whose users have no numbers and dial none.
#[derive(Default)]
pub(crate) struct Numbers(Option<Box<Known>>);

#[derive(Default)]
struct Known {
    /// Those of our users.
    own: BTreeMap<PublicKey, Stretch>,
    /// Those of others, the one learnt last at the end.
    met: VecDeque<(PublicKey, Stretch)>,
    /// Keys that the world is to be told.
    wanted: VecDeque<PublicKey>,
    /// Keys of which it has not said anything yet.
    asked: BTreeSet<PublicKey>,
}

impl Numbers {
    /// What a key costs, if that is known.
    pub(crate) fn stretch(&self, key: &PublicKey) -> Option<Stretch> {
        let known = self.0.as_ref()?;
        let met = || known.met.iter().find(|(met, _)| met == key).map(|(_, stretch)| *stretch);
        known.own.get(key).copied().or_else(met)
    }

    fn made(&mut self) -> &mut Known {
        self.0.get_or_insert_default()
    }

    /// The world has said what it can of a key.
    fn answered(&mut self, key: &PublicKey) {
        if let Some(known) = &mut self.0 {
            known.asked.remove(key);
            known.wanted.retain(|wanted| wanted != key);
        }
    }

    /// A key is a user's of ours: what it costs, if that is known, is kept from now on.
    fn adopt(&mut self, key: PublicKey) -> bool {
        let known = self.stretch(&key);
        if let Some(stretch) = known {
            self.made().own.insert(key, stretch);
        }
        known.is_some()
    }

    /// Whether a record at a number is known to lie about what its owner's key costs.
    pub(crate) fn refutes(&self, record: &RecordRef<'_>) -> bool {
        let known = (record.kind == Kind::NUMBER).then(|| self.stretch(&record.owner)).flatten();
        known.is_some_and(|cost| Devices::stretch(record.value) != Some(cost))
    }

    fn want(&mut self, key: PublicKey) {
        let known = self.made();
        if known.asked.insert(key) {
            known.wanted.push_back(key);
        }
    }

    /// The next key that the world is to work out.
    pub(crate) fn poll_wanted(&mut self) -> Option<PublicKey> {
        wire::queue::pop_front(&mut self.0.as_mut()?.wanted)
    }

    /// Which of the records that claim a number is to be followed: the first whose key costs what it says, the pinned
    /// key's before others. `Err`: that key has to be worked out first.
    pub(crate) fn weigh(
        &self,
        pinned: Option<PublicKey>,
        claims: &mut VecDeque<Record>,
    ) -> Result<Option<Record>, PublicKey> {
        while let Some(claim) = claims.front() {
            let said = Devices::stretch(&claim.value);
            let cost = match self.stretch(&claim.owner) {
                // It was worked out when it was met.
                None if pinned == Some(claim.owner) => said,
                None => return Err(claim.owner),
                known => known,
            };
            let claim = claims.pop_front();
            if cost == said {
                return Ok(claim);
            }
        }
        Ok(None)
    }

    fn learn(&mut self, key: PublicKey, stretch: Stretch, is_own: bool) {
        let is_new = self.stretch(&key).is_none();
        let known = self.made();
        if is_own {
            known.own.insert(key, stretch);
        } else if is_new {
            if known.met.len() >= MAX_MET {
                known.met.pop_front();
            }
            known.met.push_back((key, stretch));
        }
    }
}

/// The records that claim a number in the order in which they are weighed.
pub(crate) fn in_order(pinned: Option<PublicKey>, found: Vec<(Record, Duration)>) -> VecDeque<Record> {
    let mut claims: Vec<Record> = found.into_iter().map(|(record, _)| record).collect();
    claims.sort_by_key(|claim| pinned != Some(claim.owner));
    claims.into()
}

impl Node {
    /// The world has worked out what a key costs; nothing if it cannot.
    pub fn handle_stretched(&mut self, now: Time, key: PublicKey, stretch: Option<Stretch>) {
        self.numbers.answered(&key);
        let is_own = self.is_users_key(&key);
        if let Some(stretch) = stretch {
            self.numbers.learn(key, stretch, is_own);
        }
        if is_own && stretch.is_some() && self.membership.online {
            self.announce_numbers(now);
        }
        for id in self.directory.waiting_for(&key) {
            match stretch {
                Some(_) => self.handle_proof(now, id),
                None => self.give_up_proof(now, id),
            }
        }
        self.drain(now);
    }

    /// Whether it is the key of a user whom this peer serves.
    pub fn is_users_key(&self, key: &PublicKey) -> bool {
        self.identity.users.iter().any(|user| user.keys.public() == *key)
    }

    /// The number of a user whom this peer serves, once it is worked out.
    pub fn number_of(&self, aor: &str) -> Option<Number> {
        let user = self.identity.users.iter().find(|user| user.aor == aor)?;
        let key = user.keys.public();
        Some(Number::of(&key, &self.numbers.stretch(&key)?))
    }

    /// Publishes our users' devices at the places of their numbers, or has those worked out first.
    pub(crate) fn announce_numbers(&mut self, now: Time) {
        let users = self.identity.users.iter().filter(|_| self.config.numbers);
        let users: Vec<(String, PublicKey)> = users.map(|u| (u.aor.clone(), u.keys.public())).collect();
        for (aor, key) in users {
            match self.numbers.adopt(key) {
                true => self.publish_number(now, aor),
                false => self.numbers.want(key),
            }
        }
    }

    /// What a name is, if it proves itself or was meant to: its domain, which a phone may have added, says nothing.
    pub(crate) fn proof_in(&self, aor: &str) -> Option<Result<Proof, NotANumber>> {
        let (user, _) = aor.split_once('@').filter(|_| self.config.numbers)?;
        Proof::read(user)
    }

    /// The one name of what proves itself, under which it is pinned; of anything else the same.
    pub(crate) fn proven_name(&self, aor: &str) -> String {
        match (self.proof_in(aor), aor.split_once('@')) {
            (Some(Ok(_)), Some((user, _))) => format!("{user}@{}", self.default_domain().to_lowercase()),
            _ => aor.to_owned(),
        }
    }

    /// Whom of our users a number or key means, whatever domain the caller thinks it is in.
    pub(crate) fn user_by_proof(&self, aor: &str) -> Option<String> {
        let proof = Proof::read(aor.split('@').next()?)?.ok()?;
        let is_meant = |aor: &str, key: PublicKey| match proof {
            Proof::Number(number) => self.number_of(aor) == Some(number),
            Proof::Key(meant) => meant == key,
        };
        let user = self.identity.users.iter().find(|user| is_meant(&user.aor, user.keys.public()))?;
        Some(user.aor.clone())
    }

    /// Has a key worked out, upon which a name waits: not one too many, and not for too long.
    pub(crate) fn want_proof(&mut self, now: Time, id: u64, key: PublicKey) {
        match self.directory.wait_for(now, id, key) {
            Some(until) => {
                self.numbers.want(key);
                self.timers.set(Alarm::Proof(id), until);
            }
            None => self.give_up_proof(now, id),
        }
    }

    /// Nobody waits any more for the key that a request wanted worked out. One that is under way is learnt still.
    pub(crate) fn cancel_proof(&mut self, request: sip::RequestId) {
        if let Some(id) = self.directory.proving_for(request) {
            self.timers.cancel(Alarm::Proof(id));
            self.directory.give_up(id);
        }
    }

    /// The world did not work out a key upon which a name waits.
    pub(crate) fn give_up_proof(&mut self, now: Time, id: u64) {
        self.timers.cancel(Alarm::Proof(id));
        if let Some((purpose, outcome)) = self.directory.give_up(id) {
            self.resolved(now, purpose, outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::{HashAlgorithm, KeyPair, Seed, UnixTime};

    use super::*;
    use crate::storage::Claim;

    fn pair(n: u64) -> KeyPair {
        KeyPair::from_seed(Seed::from_number(n))
    }

    /// A record of a key that says it costs so much.
    fn claim(n: u64, said: u8) -> (Record, Duration) {
        let value = Devices(Vec::new()).with(&Claim::Stretch(Stretch([said; Stretch::LEN]))).unwrap();
        let place = wire::ResourceId(HashAlgorithm::Sha256.digest(b"one number"));
        let record = Record::sign(&pair(n), place, Kind::NUMBER, 1, UnixTime(1), 60, value);
        (record, Duration::from_secs(60))
    }

    /// Weighs as the world answers: whose record is followed, and whose keys were worked out for it.
    fn weighed(pinned: Option<u64>, found: &[(Record, Duration)]) -> (Option<PublicKey>, Vec<PublicKey>) {
        let pinned = pinned.map(|n| pair(n).public());
        let (mut numbers, mut worked_out) = (Numbers::default(), Vec::new());
        let mut claims = in_order(pinned, found.to_vec());
        loop {
            match numbers.weigh(pinned, &mut claims) {
                Ok(found) => return (found.map(|record| record.owner), worked_out),
                Err(key) => {
                    worked_out.push(key);
                    numbers.learn(key, Stretch([7; Stretch::LEN]), false);
                }
            }
        }
    }

    #[test]
    fn of_those_who_claim_a_number_the_one_is_followed_whose_key_costs_what_it_says() {
        let found = [claim(1, 6), claim(2, 8), claim(3, 7), claim(4, 9)];
        let keys = [1, 2, 3].map(|n| pair(n).public());
        assert_eq!(weighed(None, &found), (Some(keys[2]), keys.to_vec()));
        assert_eq!(weighed(None, &found[..2]), (None, keys[..2].to_vec()), "false ones alone");
    }

    #[test]
    fn forgeries_that_come_first_do_not_cut_the_owners_record_off() {
        let found: Vec<_> = (1..9).map(|n| claim(n, if n == 8 { 7 } else { 6 })).collect();
        assert_eq!(weighed(None, &found).0, Some(pair(8).public()));
    }

    #[test]
    fn the_pinned_key_of_a_number_is_followed_and_nobody_works_anything_out() {
        let found = [claim(1, 6), claim(3, 7)];
        assert_eq!(weighed(Some(3), &found), (Some(pair(3).public()), Vec::new()));
    }

    #[test]
    fn a_key_that_was_worked_out_is_believed_no_lie() {
        let mut numbers = Numbers::default();
        let [lie, truth] = [claim(1, 6), claim(1, 7)].map(|(record, _)| record);
        assert!(!numbers.refutes(&lie.as_ref()));
        numbers.learn(pair(1).public(), Stretch([7; Stretch::LEN]), false);
        assert!(numbers.refutes(&lie.as_ref()) && !numbers.refutes(&truth.as_ref()));
    }

    #[test]
    fn what_was_learnt_of_others_is_bounded_and_of_our_users_kept() {
        let mut numbers = Numbers::default();
        let cost = Stretch([7; Stretch::LEN]);
        let key = |n: usize| PublicKey([[n as u8; 16], [(n >> 8) as u8; 16]].concat().try_into().unwrap());
        numbers.learn(key(0), cost, false);
        assert!(numbers.adopt(key(0)) && !numbers.adopt(key(1)), "first dialled, then a user here");
        (1..=MAX_MET + 1).for_each(|n| numbers.learn(key(n), cost, false));
        assert_eq!(
            [0, 1, 2, MAX_MET + 1].map(|n| numbers.stretch(&key(n)).is_some()),
            [true, false, true, true]
        );
    }
}
