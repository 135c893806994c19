//! The ways to agree on a link's keys, and to seal its frames: one file each.
//!
//! All of them need three messages and know each other by identity keys at the end. None of them does IO
//! or knows addresses; [`Links`](super::Links) carries their bodies to and fro.

use std::fmt::Debug;

use wire::{KeyPair, Profile, PublicKey, Seed, Signatures};

use super::frame::HEADS;
use super::{noise, signed, stand_in};

/// Width of what tells that a frame is genuine.
pub(crate) const TAG: usize = 16;

/// How keys are agreed on and frames sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Suite {
    /// Noise XX: encrypted. Of the profile `secure`.
    Noise,
    /// Signed ephemeral keys, and a code of authentication for each frame: readable. Of the profile `signed`.
    Signed,
    /// As long as Noise and as good as nothing: simulated worlds whose signatures are stand-ins too.
    StandIn,
}

impl Suite {
    #[cfg(test)]
    pub(crate) const ALL: [Suite; 3] = [Suite::Noise, Suite::Signed, Suite::StandIn];

    /// What an overlay of this profile uses; nothing where messages stand in the clear.
    pub(crate) fn of(profile: Profile, signatures: Signatures) -> Option<Suite> {
        match (profile, signatures) {
            (Profile::Open, _) => None,
            (Profile::Signed, _) => Some(Suite::Signed),
            (Profile::Secure, Signatures::Ed25519) => Some(Suite::Noise),
            (Profile::Secure, Signatures::StandIn(_)) => Some(Suite::StandIn),
        }
    }

    /// The first byte of its frames, to which their kind is added: all within the range of secure links, see
    /// [`crate::Protocol`].
    pub(crate) fn first_byte(self) -> u8 {
        match self {
            Suite::Noise => 80,
            Suite::Signed => 96,
            Suite::StandIn => 112,
        }
    }

    /// The length of the first body with its padding: whoever asks sends as many bytes as it is answered with.
    pub(crate) fn padded_first(self) -> usize {
        let second = match self {
            Suite::Noise | Suite::StandIn => noise::SECOND,
            Suite::Signed => signed::SECOND,
        };
        HEADS[1] + second - HEADS[0]
    }

    /// Begins: the half that waits for the second body, and the first.
    pub(crate) fn initiate(self, keys: &KeyPair, seed: Seed) -> (Box<dyn Initiator>, Vec<u8>) {
        match self {
            Suite::Noise => noise::initiate(keys, seed),
            Suite::Signed => signed::initiate(keys, seed),
            Suite::StandIn => stand_in::initiate(keys),
        }
    }

    /// Answers a first body: the half that waits for the third body, and the second.
    pub(crate) fn respond(
        self,
        keys: &KeyPair,
        seed: Seed,
        first: &[u8],
    ) -> Option<(Box<dyn Responder>, Vec<u8>)> {
        match self {
            Suite::Noise => noise::respond(keys, seed, first),
            Suite::Signed => signed::respond(keys, seed, first),
            Suite::StandIn => stand_in::respond(keys, first),
        }
    }
}

/// The half of who asked for a link.
pub(crate) trait Initiator: Debug + Send + Sync {
    /// The third body, and what was agreed on, if the second body is genuine.
    fn finish(self: Box<Self>, second: &[u8]) -> Option<(Vec<u8>, Agreed)>;
}

/// The half of who was asked.
pub(crate) trait Responder: Debug + Send + Sync {
    /// What was agreed on, if the third body is genuine.
    fn finish(self: Box<Self>, third: &[u8]) -> Option<Agreed>;
}

/// What both sides hold when a link stands.
#[derive(Debug)]
pub(crate) struct Agreed {
    /// Who the other is.
    pub(crate) peer: PublicKey,
    /// The keys of both directions.
    pub(crate) cipher: Box<dyn Cipher>,
}

/// Seals frames one way and opens those that come the other way.
pub(crate) trait Cipher: Debug + Send + Sync {
    /// The body of a frame with this head and counter.
    fn seal(&self, head: &[u8; 9], counter: u32, message: &[u8]) -> Vec<u8>;

    /// The message in a body, if it is genuine.
    fn open(&self, head: &[u8; 9], counter: u32, body: &[u8]) -> Option<Vec<u8>>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::signatures::StandIn;

    #[expect(clippy::disallowed_methods, reason = "the suite of simulated worlds is tried too")]
    fn keys(suite: Suite, n: u64) -> KeyPair {
        let seed = Seed::from_number(n);
        match suite {
            Suite::StandIn => KeyPair::stand_in(seed, StandIn::in_a_simulation()),
            _ => KeyPair::from_seed(seed),
        }
    }

    /// Two that agreed, who asked first.
    fn pair(suite: Suite) -> [Agreed; 2] {
        let [a, b] = [1, 2].map(|n| keys(suite, n));
        let (initiator, first) = suite.initiate(&a, Seed::from_number(3));
        let (responder, second) = suite.respond(&b, Seed::from_number(4), &first).expect("an answer");
        let (third, by_a) = initiator.finish(&second).expect("the second is genuine");
        let by_b = responder.finish(&third).expect("the third is genuine");
        assert_eq!([by_a.peer, by_b.peer], [b.public(), a.public()], "{suite:?}");
        [by_a, by_b]
    }

    #[test]
    fn two_who_agree_know_each_other_and_open_what_the_other_sealed() {
        for suite in Suite::ALL {
            let [a, b] = pair(suite);
            let head = [1; 9];
            for (counter, message) in [b"".as_slice(), b"hello", &[7; 1_200]].into_iter().enumerate() {
                let counter = counter as u32;
                let body = a.cipher.seal(&head, counter, message);
                assert_eq!(body.len(), message.len() + TAG, "{suite:?}");
                assert_eq!(b.cipher.open(&head, counter, &body).as_deref(), Some(message), "{suite:?}");
                assert_eq!(b.cipher.open(&[2; 9], counter + 1, &body), None, "{suite:?}: another head");
                assert_eq!(a.cipher.open(&head, counter, &body), None, "{suite:?}: sent back");
            }
        }
    }

    #[test]
    fn only_secure_hides_what_is_said() {
        let message = b"CQ CQ CQ de IN3FQQ";
        for (suite, readable) in [(Suite::Noise, false), (Suite::Signed, true)] {
            let [a, _] = pair(suite);
            let body = a.cipher.seal(&[1; 9], 0, message);
            assert_eq!(body.windows(message.len()).any(|w| w == message), readable, "{suite:?}");
        }
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        for suite in [Suite::Noise, Suite::Signed] {
            let [a, b] = pair(suite);
            let body = a.cipher.seal(&[1; 9], 0, b"hello");
            for at in 0..body.len() {
                let mut changed = body.clone();
                changed[at] ^= 1;
                assert_eq!(b.cipher.open(&[1; 9], 0, &changed), None, "{suite:?} {at}");
            }
            for len in 0..body.len() {
                assert_eq!(b.cipher.open(&[1; 9], 0, &body[..len]), None, "{suite:?} cut to {len}");
            }
        }
    }

    #[test]
    fn whoever_changes_the_handshake_is_noticed_by_one_of_them() {
        for suite in [Suite::Noise, Suite::Signed] {
            let [a, b] = [1, 2].map(|n| keys(suite, n));
            let (_, first) = suite.initiate(&a, Seed::from_number(3));
            let (_, second) = suite.respond(&b, Seed::from_number(4), &first).unwrap();
            for at in 0..first.len() + second.len() {
                let (initiator, mut first) = suite.initiate(&a, Seed::from_number(3));
                if let Some(byte) = first.get_mut(at) {
                    *byte ^= 1;
                }
                let Some((_, mut second)) = suite.respond(&b, Seed::from_number(4), &first) else { continue };
                if let Some(byte) = at.checked_sub(first.len()).and_then(|at| second.get_mut(at)) {
                    *byte ^= 1;
                }
                assert!(initiator.finish(&second).is_none(), "{suite:?} {at}");
            }
            let (initiator, first) = suite.initiate(&a, Seed::from_number(3));
            let (_, second) = suite.respond(&b, Seed::from_number(4), &first).unwrap();
            let (third, _) = initiator.finish(&second).unwrap();
            for at in 0..third.len() {
                let (responder, _) = suite.respond(&b, Seed::from_number(4), &first).unwrap();
                let mut third = third.clone();
                third[at] ^= 1;
                assert!(responder.finish(&third).is_none(), "{suite:?} {at}");
            }
        }
    }

    #[test]
    fn nobody_can_put_its_name_to_a_handshake_of_two_others() {
        // Whoever passes on what A and B say, and signs the third message itself, does not know the keys.
        for suite in [Suite::Noise, Suite::Signed] {
            let [a, b, eve] = [1, 2, 3].map(|n| keys(suite, n));
            let (initiator, first) = suite.initiate(&a, Seed::from_number(3));
            let (responder, second) = suite.respond(&b, Seed::from_number(4), &first).unwrap();
            let (of_eve, _) = suite.initiate(&eve, Seed::from_number(5));
            assert!(of_eve.finish(&second).is_none(), "{suite:?}: the second was not meant for it");
            let (third, _) = initiator.finish(&second).unwrap();
            let mut forged = third;
            if suite == Suite::Signed {
                forged[..32].copy_from_slice(&eve.public().0);
                let signature = signed::third_signature(&eve, &first, &second);
                forged[32..96].copy_from_slice(&signature);
            } else {
                forged[0] ^= 1;
            }
            assert!(responder.finish(&forged).is_none(), "{suite:?}");
        }
    }

    #[test]
    fn the_first_message_is_as_long_as_its_answer() {
        for suite in Suite::ALL {
            let (_, first) = suite.initiate(&keys(suite, 1), Seed::from_number(3));
            let (_, second) = suite.respond(&keys(suite, 2), Seed::from_number(4), &first).unwrap();
            assert!(first.len() <= suite.padded_first(), "{suite:?}");
            assert_eq!(HEADS[0] + suite.padded_first(), HEADS[1] + second.len(), "{suite:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_a_half_panic(first: Vec<u8>, second: Vec<u8>, third: Vec<u8>) {
            for suite in Suite::ALL {
                let (initiator, genuine) = suite.initiate(&keys(suite, 1), Seed::from_number(3));
                proptest::prop_assert!(initiator.finish(&second).is_none() || suite == Suite::StandIn);
                let _ = suite.respond(&keys(suite, 2), Seed::from_number(4), &first);
                let (responder, _) = suite.respond(&keys(suite, 2), Seed::from_number(4), &genuine).unwrap();
                proptest::prop_assert!(responder.finish(&third).is_none() || suite == Suite::StandIn);
            }
        }
    }
}
