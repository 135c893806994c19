//! How signatures are made and checked, for worlds that cannot pay for real ones.
//!
//! Every peer of the real world signs with Ed25519, and nothing there can change that: it is what
//! [`KeyPair::from_seed`] makes, and a peer checks signatures by the way its own key signs. A simulator
//! of a hundred thousand peers may give its peers [`KeyPair::stand_in`] instead. Those sign with a hash:
//! as long, as sure to notice a changed byte by accident, and worth nothing against anybody who wants
//! to forge. Such a peer accepts nothing but stand-ins, and every other peer refuses them.

use crate::{HashAlgorithm, KeyPair, PublicKey, Seed};

/// How a peer signs, and so how it checks what others signed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Signatures {
    /// For real (RFC 8032).
    #[default]
    Ed25519,
    /// A hash stands in.
    StandIn(StandIn),
}

/// Leave to use stand-ins. `clippy.toml` forbids to make one, except where a simulated world says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StandIn(());

impl StandIn {
    /// For a world in which nobody can be robbed.
    pub const fn in_a_simulation() -> Self {
        StandIn(())
    }
}

impl Signatures {
    /// Whether `signature` is this key's over `message`.
    pub fn verify(self, key: &PublicKey, message: &[u8], signature: &[u8; KeyPair::SIGNATURE_LEN]) -> bool {
        match self {
            Signatures::Ed25519 => key.verifies(message, signature),
            Signatures::StandIn(_) => *signature == stand_in(key, message),
        }
    }
}

/// The public half of a stand-in: a number as random as a real one.
pub(crate) fn stand_in_key(seed: &Seed) -> PublicKey {
    let key = HashAlgorithm::Sha256.digest(&seed.0);
    PublicKey(key.as_bytes().try_into().expect("SHA-256 has 32 bytes"))
}

/// The signature of a stand-in: eight times a 64-bit hash of key and message, each of another start.
pub(crate) fn stand_in(key: &PublicKey, message: &[u8]) -> [u8; KeyPair::SIGNATURE_LEN] {
    let mut state = message.len() as u64;
    let ((key, _), (words, rest)) = (key.0.as_chunks(), message.as_chunks());
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(&last);
    for word in key.iter().chain(words).chain(last) {
        state = mix(state ^ u64::from_le_bytes(*word));
    }
    let mut signature = [0; KeyPair::SIGNATURE_LEN];
    for part in signature.chunks_exact_mut(8) {
        state = mix(state);
        part.copy_from_slice(&state.to_le_bytes());
    }
    signature
}

/// Spreads a number over all 64 bits (the finalizer of SplitMix64).
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "stand-ins are what is tested")]
mod tests {
    use super::*;

    const STAND_IN: StandIn = StandIn::in_a_simulation();

    #[test]
    fn a_stand_in_covers_its_key_and_every_byte() {
        let pair = KeyPair::stand_in(Seed([1; 32]), STAND_IN);
        let other = KeyPair::stand_in(Seed([2; 32]), STAND_IN);
        let message: Vec<u8> = (0..100).collect();
        let signature = pair.sign(&message);
        let signatures = pair.signatures();
        assert!(signatures.verify(&pair.public(), &message, &signature));
        assert!(!signatures.verify(&other.public(), &message, &signature));
        for place in 0..message.len() {
            let mut changed = message.clone();
            changed[place] ^= 1;
            assert!(!signatures.verify(&pair.public(), &changed, &signature), "byte {place}");
        }
        assert!(!signatures.verify(&pair.public(), &message[..99], &signature));
    }

    #[test]
    fn the_real_and_the_stand_in_refuse_each_other() {
        let (real, stand_in) =
            (KeyPair::from_seed(Seed([1; 32])), KeyPair::stand_in(Seed([1; 32]), STAND_IN));
        let refuses =
            |by: &KeyPair, of: &KeyPair| !by.signatures().verify(&of.public(), b"hello", &of.sign(b"hello"));
        assert!(refuses(&real, &stand_in) && refuses(&stand_in, &real));
        assert!(!refuses(&real, &real) && !refuses(&stand_in, &stand_in));
        assert!(!stand_in.public().verifies(b"hello", &stand_in.sign(b"hello")));
    }
}
