//! Keys that sign (Ed25519, RFC 8032).
//!
//! A peer key gives the Node-ID and signs the peer's messages and its contact record; a user key
//! signs the list of that user's devices. Both are the same kind of pair.

use std::fmt;

use ed25519_dalek::Signer;
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use crate::agreement::AgreementKey;
use crate::signatures::{self, Signatures, StandIn};
use crate::{HashAlgorithm, NodeId, Seed};

/// The public half: 32 bytes that name a peer or a user.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; PublicKey::LEN]);

impl PublicKey {
    /// Width in bytes.
    pub const LEN: usize = 32;

    /// The place of this key in an overlay with the given hash.
    pub fn node_id(&self, hash: HashAlgorithm) -> NodeId {
        NodeId(hash.digest(&self.0))
    }

    /// Whether `signature` is this key's over `message`. Strict: small-order keys and malleable
    /// signatures are refused, so that one signature means one thing to every peer.
    pub fn verifies(&self, message: &[u8], signature: &[u8; KeyPair::SIGNATURE_LEN]) -> bool {
        let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(&self.0) else {
            return false;
        };
        key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0[..4]))
    }
}

impl std::str::FromStr for PublicKey {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        data_encoding::HEXLOWER_PERMISSIVE
            .decode(s.as_bytes())
            .ok()
            .and_then(|b| b.try_into().ok())
            .map(PublicKey)
            .ok_or_else(|| "a public key is 64 hexadecimal digits".to_owned())
    }
}

/// A key pair: 64 bytes, from which the expanded key is made for each signature. The secret half leaves
/// memory with it and is never printed.
#[derive(Clone)]
pub struct KeyPair {
    secret: Zeroizing<[u8; 32]>,
    public: PublicKey,
    signatures: Signatures,
}

impl KeyPair {
    /// Width of a signature in bytes.
    pub const SIGNATURE_LEN: usize = 64;

    /// The pair whose secret is `seed`.
    pub fn from_seed(seed: Seed) -> Self {
        let signing = ed25519_dalek::SigningKey::from_bytes(&seed.0);
        let public = PublicKey(signing.verifying_key().to_bytes());
        KeyPair { secret: Zeroizing::new(seed.0), public, signatures: Signatures::Ed25519 }
    }

    /// A pair that only looks like one, for a simulated world: see [`crate::signatures`].
    pub fn stand_in(seed: Seed, leave: StandIn) -> Self {
        let public = signatures::stand_in_key(&seed);
        KeyPair { secret: Zeroizing::new(seed.0), public, signatures: Signatures::StandIn(leave) }
    }

    /// How it signs; its owner checks what others signed alike.
    pub fn signatures(&self) -> Signatures {
        self.signatures
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs `message`; the same message always gives the same signature.
    pub fn sign(&self, message: &[u8]) -> [u8; KeyPair::SIGNATURE_LEN] {
        match self.signatures {
            Signatures::Ed25519 => {
                ed25519_dalek::SigningKey::from_bytes(&self.secret).sign(message).to_bytes()
            }
            Signatures::StandIn(_) => signatures::stand_in(&self.public, message),
        }
    }

    /// The secret with which this identity agrees on keys with others: see [`crate::agreement`].
    pub fn agreement(&self) -> AgreementKey {
        // What signs, without its public half (RFC 8032, section 5.1.5).
        let expanded = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(*self.secret)));
        AgreementKey::from_scalar(*expanded.first_chunk().expect("half of it"))
    }

    /// The secret, for the file it is kept in.
    pub fn secret(&self) -> Zeroizing<[u8; 32]> {
        self.secret.clone()
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({:?})", self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_vector_of_rfc_8032_holds() {
        let secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let bytes = data_encoding::HEXLOWER.decode(secret.as_bytes()).unwrap();
        let pair = KeyPair::from_seed(Seed(bytes.try_into().unwrap()));
        assert_eq!(
            pair.public().to_string(),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert!(data_encoding::HEXLOWER.encode(&pair.sign(b"")).starts_with("e5564300c360ac72"));
    }

    #[test]
    fn a_changed_message_or_key_does_not_verify() {
        let (a, b) = (KeyPair::from_seed(Seed([1; 32])), KeyPair::from_seed(Seed([2; 32])));
        let signature = a.sign(b"hello");
        assert!(a.public().verifies(b"hello", &signature));
        assert!(!a.public().verifies(b"hullo", &signature));
        assert!(!b.public().verifies(b"hello", &signature));
        assert!(!PublicKey([0; 32]).verifies(b"hello", &signature));
    }
}
