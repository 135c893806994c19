//! Signed and readable: for the radio, where law asks that everybody can read what is sent, and sense asks
//! that nobody can forge it.
//!
//! Both sides sign ephemeral X25519 keys with their identity keys, in the clear. What the ephemeral keys agree
//! on makes one key for each direction (HKDF, RFC 5869), and each frame carries 16 bytes of HMAC-SHA-256
//! (RFC 2104, cut as in RFC 4868) over its head and its message. These keys only authenticate: whoever
//! listens reads every byte. As in SIGMA (Krawczyk, 2003) each side also proves under the new keys whom it says it
//! is, so that nobody can sign its name to the handshake of two others.
//!
//! | body | holds |
//! |---|---|
//! | first | ephemeral key of who asks (32) |
//! | second | ephemeral key of who is asked (32), its identity (32), signature (64), code (16) |
//! | third | identity of who asks (32), signature (64), code (16) |
//!
//! The second signature is over `OpenVoIP link 1 second`, the first body, and the second before it; the third over
//! `OpenVoIP link 1 third`, the first and the second body, and the third before it. The code is under the
//! sender's key, over what is signed and the signature.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wire::{AgreementKey, KeyPair, PublicKey, Seed, Signatures};
use zeroize::Zeroizing;

use super::suite::{Agreed, Cipher, Initiator, Responder, TAG};

const LABELS: [&[u8]; 2] = [b"OpenVoIP link 1 second", b"OpenVoIP link 1 third"];

const KEY: usize = wire::agreement::LEN;

/// An identity, its signature, and the code under the new keys.
const PROOF: usize = PublicKey::LEN + KeyPair::SIGNATURE_LEN + TAG;

/// Length of the second body.
pub(crate) const SECOND: usize = KEY + PROOF;

#[derive(Debug)]
struct Asking {
    keys: KeyPair,
    ephemeral: AgreementKey,
    first: [u8; KEY],
}

#[derive(Debug)]
struct Asked {
    first: [u8; KEY],
    second: Vec<u8>,
    keys: Keys,
    signatures: Signatures,
}

pub(crate) fn initiate(keys: &KeyPair, seed: Seed) -> (Box<dyn Initiator>, Vec<u8>) {
    let ephemeral = AgreementKey::ephemeral(seed);
    let first = ephemeral.public();
    (Box::new(Asking { keys: keys.clone(), ephemeral, first }), first.to_vec())
}

pub(crate) fn respond(own: &KeyPair, seed: Seed, first: &[u8]) -> Option<(Box<dyn Responder>, Vec<u8>)> {
    let first: [u8; KEY] = *first.first_chunk()?;
    let ephemeral = AgreementKey::ephemeral(seed);
    let mut second = ephemeral.public().to_vec();
    let keys = Keys::agreed(&ephemeral, &first, &first, &ephemeral.public())?.turned();
    prove(own, &keys.send, &[LABELS[0], &first], &mut second);
    let half = Asked { first, second: second.clone(), keys, signatures: own.signatures() };
    Some((Box::new(half), second))
}

impl Initiator for Asking {
    fn finish(self: Box<Self>, second: &[u8]) -> Option<(Vec<u8>, Agreed)> {
        let theirs: &[u8; KEY] = second.first_chunk()?;
        let keys = Keys::agreed(&self.ephemeral, theirs, &self.first, theirs)?;
        let peer = check(self.keys.signatures(), &keys.receive, &[LABELS[0], &self.first], KEY, second)?;
        let mut third = Vec::with_capacity(PROOF);
        prove(&self.keys, &keys.send, &[LABELS[1], &self.first, second], &mut third);
        Some((third, Agreed { peer, cipher: Box::new(keys) }))
    }
}

impl Responder for Asked {
    fn finish(self: Box<Self>, third: &[u8]) -> Option<Agreed> {
        let before: [&[u8]; 3] = [LABELS[1], &self.first, &self.second];
        let peer = check(self.signatures, &self.keys.receive, &before, 0, third)?;
        Some(Agreed { peer, cipher: Box::new(self.keys) })
    }
}

/// Appends who we are to a body, signed, and proven under the new key.
fn prove(own: &KeyPair, key: &[u8; KEY], before: &[&[u8]], body: &mut Vec<u8>) {
    body.extend_from_slice(&own.public().0);
    let mut said = before.concat();
    said.extend_from_slice(body);
    let signature = own.sign(&said);
    said.extend_from_slice(&signature);
    body.extend_from_slice(&signature);
    body.extend_from_slice(&code(key, &[&said]));
}

/// Who a body says its sender is, after so many bytes of it, if that is signed and proven.
fn check(
    signatures: Signatures,
    key: &[u8; KEY],
    before: &[&[u8]],
    at: usize,
    body: &[u8],
) -> Option<PublicKey> {
    let (said, proof) = body.split_at_checked(at + PublicKey::LEN)?;
    let (signature, theirs) = proof.split_first_chunk::<{ KeyPair::SIGNATURE_LEN }>()?;
    let peer = PublicKey(*said.last_chunk()?);
    let mut said = [before.concat().as_slice(), said].concat();
    let is_signed = signatures.verify(&peer, &said, signature);
    said.extend_from_slice(signature);
    (is_signed && is_code(key, &[&said], theirs)).then_some(peer)
}

/// The first 16 bytes of HMAC-SHA-256.
fn code(key: &[u8; KEY], parts: &[&[u8]]) -> [u8; TAG] {
    let whole = mac(key, parts).finalize().into_bytes();
    *whole.first_chunk().expect("32 bytes")
}

fn is_code(key: &[u8; KEY], parts: &[&[u8]], theirs: &[u8]) -> bool {
    theirs.len() == TAG && mac(key, parts).verify_truncated_left(theirs).is_ok()
}

fn mac(key: &[u8; KEY], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length will do");
    parts.iter().for_each(|part| mac.update(part));
    mac
}

/// One key for each direction.
struct Keys {
    send: Zeroizing<[u8; KEY]>,
    receive: Zeroizing<[u8; KEY]>,
}

impl Keys {
    /// Those of who asked.
    fn agreed(own: &AgreementKey, theirs: &[u8; KEY], asking: &[u8; KEY], asked: &[u8; KEY]) -> Option<Self> {
        let shared = own.agree(theirs)?;
        let keys = Hkdf::<Sha256>::new(Some(&[*asking, *asked].concat()), &*shared);
        let mut both = Keys { send: Zeroizing::default(), receive: Zeroizing::default() };
        for (key, way) in [(&mut both.send, "asking"), (&mut both.receive, "asked")] {
            let info = format!("OpenVoIP link 1 signed {way}");
            keys.expand(info.as_bytes(), key.as_mut()).expect("one block of output");
        }
        Some(both)
    }

    /// Those of the other side.
    fn turned(self) -> Self {
        Keys { send: self.receive, receive: self.send }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl Cipher for Keys {
    fn seal(&self, head: &[u8; 9], _: u32, message: &[u8]) -> Vec<u8> {
        let mut body = message.to_vec();
        body.extend_from_slice(&code(&self.send, &[head, message]));
        body
    }

    fn open(&self, head: &[u8; 9], _: u32, body: &[u8]) -> Option<Vec<u8>> {
        let (message, theirs) = body.split_at_checked(body.len().checked_sub(TAG)?)?;
        is_code(&self.receive, &[head, message], theirs).then(|| message.to_vec())
    }
}

/// What a third body is signed over, by somebody else.
#[cfg(test)]
pub(crate) fn third_signature(keys: &KeyPair, first: &[u8], second: &[u8]) -> [u8; KeyPair::SIGNATURE_LEN] {
    keys.sign(&[LABELS[1], first, second, &keys.public().0].concat())
}
