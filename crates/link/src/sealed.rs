//! Bytes that only one peer can read, whatever hops carry them (Noise N, revision 34).
//!
//! Who seals knows the other's identity key and nothing else, and sends one message: a key for one use, and what
//! it agrees on with the identity key encrypts the rest. That says nothing of who sealed it, so what is inside
//! is signed. Whoever steals the identity key later reads what was sealed for it; the sound of a call has keys
//! that are gone by then.

use snow::Builder;
use snow::params::NoiseParams;
use wire::{KeyPair, PublicKey, Seed};

use crate::resolver::Seeded;

const PATTERN: &str = "Noise_N_25519_ChaChaPoly_BLAKE2s";

/// What sealing adds: a key for one use, and a tag.
pub const OVERHEAD: usize = 32 + 16;

/// Seals bytes for a peer. Both sides name what it is used for. `None` for a key that is none, and for more than 65 kB.
pub fn seal(to: &PublicKey, purpose: &[u8], seed: Seed, bytes: &[u8]) -> Option<Vec<u8>> {
    let to = to.agreement()?;
    let builder = Builder::with_resolver(pattern(), Box::new(Seeded(seed)));
    let builder = builder.remote_public_key(&to).and_then(|b| b.prologue(purpose)).ok()?;
    let mut state = builder.build_initiator().ok()?;
    let mut sealed = vec![0; bytes.len() + OVERHEAD];
    state.write_message(bytes, &mut sealed).ok()?;
    Some(sealed)
}

/// Opens what was sealed for us; `None` if it was not, or for another purpose, or was changed.
pub fn open(own: &KeyPair, purpose: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let agreement = own.agreement();
    let builder = Builder::with_resolver(pattern(), Box::new(Seeded(Seed([0; 32]))));
    let builder = builder.local_private_key(agreement.secret()).and_then(|b| b.prologue(purpose)).ok()?;
    let mut state = builder.build_responder().ok()?;
    let mut bytes = vec![0; sealed.len().checked_sub(OVERHEAD)?];
    state.read_message(sealed, &mut bytes).ok()?;
    Some(bytes)
}

fn pattern() -> NoiseParams {
    PATTERN.parse().expect("a pattern that snow knows")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(n: u64) -> KeyPair {
        KeyPair::from_seed(Seed::from_number(n))
    }

    fn sealed(bytes: &[u8]) -> Vec<u8> {
        seal(&keys(1).public(), b"a test", Seed::from_number(9), bytes).unwrap()
    }

    #[test]
    fn only_who_it_is_for_opens_it_and_for_the_same_purpose() {
        let message = sealed(b"the fox is in the henhouse");
        assert!(!message.windows(8).any(|w| w == b"henhouse"));
        assert_eq!(open(&keys(1), b"a test", &message).unwrap(), b"the fox is in the henhouse");
        assert_eq!(open(&keys(2), b"a test", &message), None);
        assert_eq!(open(&keys(1), b"another", &message), None);
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed_and_so_is_a_missing_one() {
        let message = sealed(b"hello");
        for at in 0..message.len() {
            let mut changed = message.clone();
            changed[at] ^= 1;
            assert_eq!(open(&keys(1), b"a test", &changed), None, "byte {at}");
            assert_eq!(open(&keys(1), b"a test", &message[..at]), None, "{at} bytes of it");
        }
    }

    #[test]
    fn nothing_is_sealed_for_a_key_that_is_none_nor_beyond_what_noise_carries() {
        // Points of order four and one.
        for weak in [0, 1].map(|first| std::array::from_fn(|at| if at == 0 { first } else { 0 })) {
            assert_eq!(seal(&PublicKey(weak), b"a test", Seed::from_number(9), b"x"), None, "{weak:02x?}");
        }
        let long = vec![0; 70_000];
        assert_eq!(seal(&keys(1).public(), b"a test", Seed::from_number(9), &long), None);
    }

    proptest! {
        #[test]
        fn whatever_is_sealed_is_opened(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            prop_assert_eq!(open(&keys(1), b"a test", &sealed(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(open(&keys(1), b"a test", &bytes), None);
        }
    }
}
