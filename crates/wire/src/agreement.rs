//! Keys that agree on a secret (X25519, RFC 7748).
//!
//! An identity key signs on the Edwards form of the curve and agrees on its Montgomery form: the same
//! secret number serves both, as RFC 7748 section 4.1 maps one form to the other. Of a point only the
//! sign is lost on the way, so one bit beside the agreement key gives the identity back.

use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::montgomery::MontgomeryPoint;
use zeroize::Zeroizing;

use crate::{PublicKey, RngExt, Seed};

/// Width of an agreement key and of what two agree on.
pub const LEN: usize = 32;

/// A secret that agrees, and leaves memory with its owner.
#[derive(Clone)]
pub struct AgreementKey(Zeroizing<[u8; LEN]>);

impl AgreementKey {
    /// A key for one use, from this seed.
    pub fn ephemeral(seed: Seed) -> Self {
        AgreementKey(Zeroizing::new(seed.rng().random()))
    }

    /// The key that is this secret scalar, clamped or not.
    pub fn from_scalar(scalar: [u8; LEN]) -> Self {
        AgreementKey(Zeroizing::new(scalar))
    }

    /// The public half.
    pub fn public(&self) -> [u8; LEN] {
        MontgomeryPoint::mul_base_clamped(*self.0).to_bytes()
    }

    /// The secret half.
    pub fn secret(&self) -> &[u8; LEN] {
        &self.0
    }

    /// What this key and `theirs` agree on; `None` for a point of small order, with which everybody
    /// agrees on nothing (RFC 7748, section 6.1).
    pub fn agree(&self, theirs: &[u8; LEN]) -> Option<Zeroizing<[u8; LEN]>> {
        let shared = Zeroizing::new(MontgomeryPoint(*theirs).mul_clamped(*self.0).to_bytes());
        (*shared != [0; LEN]).then_some(shared)
    }
}

impl std::fmt::Debug for AgreementKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AgreementKey(..)")
    }
}

impl PublicKey {
    /// The sign of its point, which its agreement key does not tell.
    pub fn sign(&self) -> u8 {
        self.0[Self::LEN - 1] >> 7
    }

    /// Its agreement key; `None` for what is no point of the curve, or one of small order.
    pub fn agreement(&self) -> Option<[u8; LEN]> {
        let point = CompressedEdwardsY(self.0).decompress()?;
        (!point.is_small_order()).then(|| point.to_montgomery().to_bytes())
    }

    /// The identity whose agreement key this is, with a point of this sign; `None` for what is no point of
    /// the curve, or one of small order.
    pub fn of_agreement_key(key: &[u8; LEN], sign: u8) -> Option<PublicKey> {
        let point = MontgomeryPoint(*key).to_edwards(sign)?;
        (!point.is_small_order()).then(|| PublicKey(point.compress().to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyPair;

    fn bytes(hex: &str) -> [u8; 32] {
        data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap()
    }

    #[test]
    fn the_vector_of_rfc_7748_section_6_1_holds() {
        let alice = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
        let bob = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
        let [alice, bob] = [alice, bob].map(|hex| AgreementKey::from_scalar(bytes(hex)));
        let of_alice = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
        assert_eq!(alice.public(), bytes(of_alice));
        let shared = bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        assert_eq!(*alice.agree(&bob.public()).unwrap(), shared);
        assert_eq!(*bob.agree(&alice.public()).unwrap(), shared);
    }

    #[test]
    fn an_identity_is_found_by_its_agreement_key_and_sign() {
        for n in 0..64 {
            let keys = KeyPair::from_seed(Seed::from_number(n));
            let agreement = keys.agreement();
            let found = PublicKey::of_agreement_key(&agreement.public(), keys.public().sign());
            assert_eq!(found, Some(keys.public()));
            assert_eq!(keys.public().agreement(), Some(agreement.public()));
            let other = PublicKey::of_agreement_key(&agreement.public(), 1 - keys.public().sign());
            assert_ne!(other, Some(keys.public()));
        }
    }

    #[test]
    fn nobody_agrees_with_a_point_of_small_order() {
        let key = AgreementKey::ephemeral(Seed::from_number(1));
        for weak in [[0; 32], bytes("0100000000000000000000000000000000000000000000000000000000000000")] {
            assert!(key.agree(&weak).is_none());
            assert_eq!(PublicKey::of_agreement_key(&weak, 0), None);
        }
    }
}
