//! Five digits that two people read to each other, to know that nobody stands between their peers.
//!
//! The digits follow from the keys of a call's first media line, from who the two peers are, and from a number
//! that each peer draws. Whoever stands between two peers has another agreement with each, and so other digits; that these
//! are alike by chance happens once in 100,000 calls. It cannot be helped along, since nobody chooses last: the
//! caller's peer draws first, but shows at first only the hash of its number (as in ZRTP, RFC 6189, section 4.4.1.1).
//! With its opening all that the digits follow from is settled: keys that change later are shown as a mismatch.
//!
//! ```text
//! INVITE   a=x-openvoip-promise:H         H = SHA-256("OpenVoIP promise 1" 00 | both Node-IDs | caller's key | caller's number)
//! answer   a=x-openvoip-number:N          the callee's number
//! ACK      X-OpenVoIP-Opening: N          the caller's number, which must fit H
//! ```

use data_encoding::BASE64_NOPAD;
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use wire::{NodeId, Rng, RngExt};

use super::keying::{PublicHalf, decode};

/// What the caller's peer says in its first media line.
pub(crate) const PROMISE_ATTRIBUTE: &str = "x-openvoip-promise";

/// What the callee's peer says in its.
pub(crate) const NUMBER_ATTRIBUTE: &str = "x-openvoip-number";

type Number = [u8; 16];
type Promise = [u8; 32];

/// The ends of a call, the caller's first: who they are, and their keys of the first media line.
pub(crate) type Ends = [(NodeId, PublicHalf); 2];

/// What one peer knows of the digits of a call.
#[derive(Clone, Debug)]
pub(crate) struct Digits {
    ours: Number,
    /// What the caller's peer promised; nothing where that is us.
    promise: Option<Promise>,
    /// The other's number: of several phones that ring, the one that said it last before the opening.
    theirs: Option<Number>,
    /// The ends as they were at the opening.
    settled: Option<Ends>,
    /// What the caller's peer opened was not what it had promised.
    broken: bool,
}

/// What is shown in place of digits where a promise was broken.
const BROKEN: &str = "mismatch";

impl Digits {
    /// The peer of the caller begins.
    pub(crate) fn of_caller(rng: &mut Rng) -> Self {
        Digits { ours: rng.random(), promise: None, theirs: None, settled: None, broken: false }
    }

    /// The peer of the callee has read a promise; `None` if it is none.
    pub(crate) fn of_callee(promise: &str, rng: &mut Rng) -> Option<Self> {
        Some(Digits { promise: Some(decode(promise)?), ..Digits::of_caller(rng) })
    }

    fn is_of_caller(&self) -> bool {
        self.promise.is_none()
    }

    /// What the caller's peer promises.
    pub(crate) fn promise(&self, caller: (NodeId, PublicHalf), callee: NodeId) -> Option<String> {
        self.is_of_caller().then(|| BASE64_NOPAD.encode(&promise(caller, callee, &self.ours)))
    }

    /// The number of the callee's peer.
    pub(crate) fn number(&self) -> Option<String> {
        (!self.is_of_caller()).then(|| BASE64_NOPAD.encode(&self.ours))
    }

    /// The number of the caller's peer, once the other has said its own; with it all is settled.
    pub(crate) fn open(&mut self, ends: Ends) -> Option<String> {
        if !self.is_of_caller() || self.theirs.is_none() {
            return None;
        }
        self.settled.get_or_insert(ends);
        Some(BASE64_NOPAD.encode(&self.ours))
    }

    /// The callee's peer said its number.
    pub(crate) fn answered(&mut self, number: &str) {
        if self.is_of_caller() && self.settled.is_none() {
            self.theirs = decode(number);
        }
    }

    /// The caller's peer opened its promise; with it all is settled.
    pub(crate) fn opened(&mut self, number: &str, ends: Ends) {
        let (Some(promised), None) = (self.promise, self.settled) else { return };
        let [caller, (callee, _)] = ends;
        self.theirs = decode(number).filter(|n| promise(caller, callee, n) == promised);
        (self.settled, self.broken) = (Some(ends), self.theirs.is_none());
    }

    /// The digits once all is settled, or that something is wrong; `ends` are the present ones.
    pub(crate) fn digits(&self, ends: Ends) -> Option<String> {
        if self.broken || self.settled? != ends {
            return Some(BROKEN.to_owned());
        }
        let numbers = match self.is_of_caller() {
            true => [self.ours, self.theirs?],
            false => [self.theirs?, self.ours],
        };
        let mut info = b"OpenVoIP digits 1\0".to_vec();
        for (id, key) in ends {
            info.extend_from_slice(id.key().as_bytes());
            info.extend_from_slice(&key);
        }
        let mut drawn = [0; 8];
        Hkdf::<Sha256>::new(None, numbers.as_flattened())
            .expand(&info, &mut drawn)
            .expect("one block of output");
        Some(format!("{:05}", u64::from_be_bytes(drawn) % 100_000))
    }
}

fn promise((caller, key): (NodeId, PublicHalf), callee: NodeId, number: &Number) -> Promise {
    let parts: [&[u8]; 5] =
        [b"OpenVoIP promise 1\0", caller.key().as_bytes(), callee.key().as_bytes(), &key, number];
    Sha256::digest(parts.concat()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{HashAlgorithm, KeyPair, Seed};

    fn id(n: u64) -> NodeId {
        KeyPair::from_seed(Seed::from_number(n)).public().node_id(HashAlgorithm::Sha256)
    }

    fn end(n: u64) -> (NodeId, PublicHalf) {
        (id(n), [n as u8; 32])
    }

    fn rng(n: u64) -> Rng {
        Seed::from_number(n).rng()
    }

    /// A caller at one end and a callee at the other, each with whom it takes for the other; the digits of both.
    fn call(caller: Ends, callee: Ends, seed: u64) -> [Option<String>; 2] {
        let mut alice = Digits::of_caller(&mut rng(seed));
        let promise = alice.promise(caller[0], caller[1].0).unwrap();
        let mut bob = Digits::of_callee(&promise, &mut rng(seed + 1)).unwrap();
        alice.answered(&bob.number().unwrap());
        bob.opened(&alice.open(caller).unwrap(), callee);
        [alice.digits(caller), bob.digits(callee)]
    }

    #[test]
    fn both_ends_of_a_call_read_the_same_five_digits_and_others_in_each_call() {
        let ends = [end(1), end(2)];
        let all: Vec<String> = (0..50)
            .map(|n| {
                let [alice, bob] = call(ends, ends, n * 10);
                assert_eq!(alice, bob);
                alice.unwrap()
            })
            .collect();
        assert!(all.iter().all(|d| d.len() == 5 && d.bytes().all(|b| b.is_ascii_digit())));
        assert!(std::collections::BTreeSet::from_iter(&all).len() > 45);
    }

    #[test]
    fn whoever_stands_between_or_changes_a_key_makes_the_digits_differ() {
        let [alice, bob, mallory] = [end(1), end(2), end(3)];
        for (at_alice, at_bob) in [
            ([alice, mallory], [mallory, bob]),
            ([alice, (bob.0, mallory.1)], [alice, bob]),
            ([alice, bob], [(alice.0, mallory.1), bob]),
        ] {
            let [one, other] = call(at_alice, at_bob, 7);
            assert_ne!(one, other);
        }
    }

    #[test]
    fn an_opening_that_does_not_fit_the_promise_is_shown_in_place_of_digits() {
        let ends = [end(1), end(2)];
        let alice = Digits::of_caller(&mut rng(1));
        let promise = alice.promise(ends[0], ends[1].0).unwrap();
        let another = Digits::of_callee(&promise, &mut rng(9)).unwrap().number().unwrap();
        for opening in [&*another, "", "AAAA", "not base64"] {
            let mut bob = Digits::of_callee(&promise, &mut rng(2)).unwrap();
            assert_eq!(bob.digits(ends), None);
            bob.opened(opening, ends);
            assert_eq!(bob.digits(ends).as_deref(), Some(BROKEN), "{opening}");
        }
        assert!(Digits::of_callee("AAAA", &mut rng(2)).is_none());
    }

    #[test]
    fn nothing_is_opened_before_the_other_is_bound_and_of_several_numbers_the_last_before_that_counts() {
        let ends = [end(1), end(2)];
        let mut alice = Digits::of_caller(&mut rng(1));
        assert_eq!((alice.open(ends), alice.digits(ends)), (None, None));
        let promise = alice.promise(ends[0], ends[1].0).unwrap();
        // Two phones ring at Bob's, and the second answers.
        let [first, mut second] = [2, 3].map(|n| Digits::of_callee(&promise, &mut rng(n)).unwrap());
        alice.answered(&first.number().unwrap());
        assert_eq!(alice.digits(ends), None, "not settled yet");
        alice.answered(&second.number().unwrap());
        second.opened(&alice.open(ends).unwrap(), ends);
        assert_eq!(alice.digits(ends), second.digits(ends));
        alice.answered(&first.number().unwrap());
        assert_eq!(alice.digits(ends), second.digits(ends), "what is settled stays");
    }

    #[test]
    fn who_changes_a_key_after_the_opening_to_fit_the_digits_is_shown_as_a_mismatch() {
        let (ends, later) = ([end(1), end(2)], [end(1), (id(2), [9; 32])]);
        let mut alice = Digits::of_caller(&mut rng(1));
        let promise = alice.promise(ends[0], ends[1].0).unwrap();
        let mut bob = Digits::of_callee(&promise, &mut rng(2)).unwrap();
        alice.answered(&bob.number().unwrap());
        let opening = alice.open(ends).unwrap();
        bob.opened(&opening, ends);
        // Said again with other keys, as in the ACK of another offer.
        assert_eq!(alice.open(later), Some(opening.clone()));
        bob.opened(&opening, later);
        for digits in [&alice, &bob] {
            assert_eq!(digits.digits(later).as_deref(), Some(BROKEN));
            assert!(digits.digits(ends).is_some_and(|d| d != BROKEN));
        }
    }
}
