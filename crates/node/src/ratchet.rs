//! Letters: text messages encrypted by a double ratchet between two devices, so that a key stolen later opens no earlier
//! one, whichever way they go and wherever they lie.
//!
//! A ratchet draws randomness and must be kept before a message leaves, which nothing in the core does. So the core
//! knows this trait, and whoever drives it brings what makes ratchets, as with links ([`link::provider`]).
//!
//! ```text
//! opening:  | 1 | a first message of the ratchet, until the other has answered |
//! further:  | 2 | a message of the ratchet |
//! unopened: | 3 | why (8) | run (64) | number (32) of the letter | prekeys |
//! prekeys:  | identity key (32 bytes) | fallback key (32 bytes) |      both of X25519
//! ```
//! They stand in an envelope where SIP does, which begins with a letter of the alphabet. So whose a letter is, is
//! known before it is opened, by the link that it came over or by a signature, and so is who says that one cannot be.

use std::fmt::Debug;

use sha2::{Digest, Sha256};
use wire::{NodeId, UnixTime};

/// What a letter is bound to, so that nobody passes off another's as its own, or to another than it was for.
const DOMAIN: &[u8] = b"openvoip letter 1\0";

const OPENING: u8 = 1;
const FURTHER: u8 = 2;
const UNOPENED: u8 = 3;

/// Bytes of run and number, which name an envelope.
pub(crate) const STAMP: usize = 8 + 4;

/// Most bytes that a letter has besides what it says.
pub(crate) const OVERHEAD: usize = 256;

/// Public keys with which others write first. Their owner vouches for them with its contact record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prekeys {
    /// Who it is, to ratchets.
    pub identity: [u8; 32],
    /// Stands in for a key that is used once; another one after a while.
    pub fallback: [u8; 32],
}

impl Prekeys {
    /// Bytes that they take.
    pub const LEN: usize = 64;

    /// As they are written.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..32].copy_from_slice(&self.identity);
        bytes[32..].copy_from_slice(&self.fallback);
        bytes
    }

    /// Reads [`Prekeys::to_bytes`].
    pub fn read(bytes: &[u8; Self::LEN]) -> Self {
        let half = |at: usize| *bytes[at..].first_chunk().expect("half of it");
        Prekeys { identity: half(0), fallback: half(32) }
    }
}

/// A message of a ratchet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// Whether it brings what the other needs to begin.
    pub opening: bool,
    /// What only the other opens.
    pub bytes: Vec<u8>,
}

/// Why a letter was not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unopened {
    /// Nothing here opens it: what did is lost, or never was.
    Unknown,
    /// Its key was used before: it was heard, or its writer went back to an old state.
    Again,
    /// It could not be kept that it was opened, or there is no room for its writer.
    NotKept,
    /// It is no message of a ratchet at all, which costs nothing to find out.
    Malformed,
}

/// What makes ratchets for one peer and keeps them: what it says it has done is kept, whatever happens then.
pub trait Ratchet: Debug + Send + Sync {
    /// The keys to publish.
    fn prekeys(&self) -> Prekeys;

    /// Makes another fallback key if the time has come. The one before goes on opening what was begun with it. `false` if it
    /// could not be kept.
    fn rotate(&mut self, unix: UnixTime) -> bool;

    /// With how many peers there are sessions.
    fn peers(&self) -> usize;

    /// Whether anything was written to a peer of our own accord.
    fn has_written(&self, peer: &NodeId) -> bool;

    /// When a session with a peer began, or it was heard, last; nothing without a session.
    fn last_heard(&self, peer: &NodeId) -> Option<UnixTime>;

    /// Whether a letter for this peer can be sealed at once.
    fn knows(&self, peer: &NodeId) -> bool {
        self.last_heard(peer).is_some()
    }

    /// Begins a session with a peer, which is the one to write by from now on; `false` if the keys are no good or it
    /// could not be kept. `of_our_own` as for [`Ratchet::seal`]; without, nobody of those makes room.
    fn begin(&mut self, unix: UnixTime, peer: NodeId, prekeys: &Prekeys, of_our_own: bool) -> bool;

    /// Seals a letter for a peer that is known; nothing if it could not be kept that a key was used. `bound` opens with it or
    /// not at all. What a person here writes is `of_our_own` accord: that lasts through a loss of power too, and the peer is
    /// no stranger from then on.
    fn seal(&mut self, peer: &NodeId, bound: &[u8; 32], text: &[u8], of_our_own: bool) -> Option<Sealed>;

    /// Opens a letter of a peer, once.
    ///
    /// # Errors
    /// If it cannot; then nothing has changed.
    fn open(
        &mut self,
        unix: UnixTime,
        peer: NodeId,
        bound: &[u8; 32],
        sealed: &Sealed,
    ) -> Result<Vec<u8>, Unopened>;
}

/// What binds a letter to its writer and its reader.
pub(crate) fn bound(from: &NodeId, to: &NodeId) -> [u8; 32] {
    Sha256::new()
        .chain_update(DOMAIN)
        .chain_update(from.key().as_bytes())
        .chain_update(to.key().as_bytes())
        .finalize()
        .into()
}

/// What is said of a letter that was not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Nothing opens it: it shall be sent again, by new keys.
    Unknown,
    /// It was opened before: it shall not be sent again.
    Again,
    /// Nothing was tried, or not kept: the same keys are good later.
    Later,
}

/// What stands in an envelope instead of SIP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Letter {
    /// A message of a ratchet.
    Sealed(Sealed),
    /// The reader of a letter could not open it.
    Unopened {
        /// Why.
        why: Why,
        /// The run and number of its envelope.
        stamp: [u8; STAMP],
        /// Keys to begin anew with.
        prekeys: Prekeys,
    },
}

impl Letter {
    /// Whether what an envelope holds is a letter, or wants to be one. SIP begins with a letter of the alphabet, after
    /// empty lines perhaps.
    pub fn is_one(content: &[u8]) -> bool {
        content.first().is_some_and(|first| *first < b' ' && !b"\r\n".contains(first))
    }

    /// Reads one; nothing if it is none.
    pub fn parse(content: &[u8]) -> Option<Letter> {
        let (kind, rest) = content.split_first()?;
        match *kind {
            OPENING | FURTHER => {
                Some(Letter::Sealed(Sealed { opening: *kind == OPENING, bytes: rest.to_vec() }))
            }
            UNOPENED => {
                let (why, rest) = rest.split_first()?;
                let (stamp, prekeys) = rest.split_first_chunk()?;
                let prekeys = Prekeys::read(prekeys.try_into().ok()?);
                let why = *[Why::Unknown, Why::Again, Why::Later].get(usize::from(*why))?;
                Some(Letter::Unopened { why, stamp: *stamp, prekeys })
            }
            _ => None,
        }
    }

    /// As it stands in an envelope.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Letter::Sealed(Sealed { opening, bytes }) => {
                [&[if *opening { OPENING } else { FURTHER }], &bytes[..]].concat()
            }
            Letter::Unopened { why, stamp, prekeys } => {
                [&[UNOPENED, *why as u8], &stamp[..], &prekeys.to_bytes()].concat()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::HashAlgorithm;

    #[test]
    fn letters_are_read_as_written_and_no_sip_is_taken_for_one() {
        let prekeys = Prekeys { identity: [1; 32], fallback: [2; 32] };
        let letters = [
            Letter::Sealed(Sealed { opening: true, bytes: vec![7, 8] }),
            Letter::Sealed(Sealed { opening: false, bytes: vec![] }),
        ];
        let unopened = |why| Letter::Unopened { why, stamp: [9; STAMP], prekeys };
        let unopened = [Why::Unknown, Why::Again, Why::Later].map(unopened);
        for letter in letters.into_iter().chain(unopened) {
            assert!(Letter::is_one(&letter.to_bytes()));
            assert_eq!(Letter::parse(&letter.to_bytes()), Some(letter));
        }
        assert!(
            !Letter::is_one(b"MESSAGE sip:bob")
                && !Letter::is_one(b"\r\n\r\nSIP/2.0 200 OK")
                && !Letter::is_one(b"")
        );
    }

    #[test]
    fn a_letter_is_bound_to_its_writer_and_its_reader() {
        let [alice, bob, eve] = [1, 2, 3].map(|n| NodeId(HashAlgorithm::Sha256.digest(&[n])));
        let right = bound(&alice, &bob);
        assert!([bound(&bob, &alice), bound(&eve, &bob), bound(&alice, &eve)].iter().all(|b| *b != right));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_letter_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(letter) = Letter::parse(&bytes) {
                prop_assert_eq!(letter.to_bytes(), bytes);
            }
        }
    }
}
