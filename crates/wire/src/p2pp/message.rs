//! A whole message: the checked view, the builder, the originator's signature.
//!
//! The signature object covers the header with the fields that hops may change blanked, and every
//! object before it. Hops may append objects after it (route log entries); those are nobody's word
//! but the hop's.

use smallvec::SmallVec;

use super::header::Header;
use super::object::{self, Object};
use super::tlv::{self, Reader};
use super::{MAX_DATAGRAM, ParseError};
use crate::identity::{KeyPair, PublicKey};
use crate::{HashAlgorithm, Signatures};

/// Most objects in one message, nested ones not counted.
pub const MAX_OBJECTS: usize = 64;

/// Signed before the message, so that no other signature of the key can be taken for one.
const DOMAIN: &[u8] = b"openvoip message 1\0";

/// Length of an encoded signature object.
const SIGNATURE_OBJECT_LEN: usize = tlv::HEADER_LEN + PublicKey::LEN + KeyPair::SIGNATURE_LEN;

/// A received message that borrows its datagram. Every object in it has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The common header.
    pub header: Header,
    bytes: &'a [u8],
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Checks a datagram and everything in it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (header, header_len, body_len) = Header::parse(bytes)?;
        let body = &bytes[header_len..];
        if body.len() != body_len {
            return Err(ParseError::BodyLength);
        }
        for (count, tlv) in Reader::new(body).enumerate() {
            if count >= MAX_OBJECTS {
                return Err(ParseError::TooMany);
            }
            Object::parse(tlv?)?;
        }
        Ok(Message { header, bytes, body })
    }

    /// The objects, in order; those of unknown types that may be skipped are skipped.
    pub fn objects(&self) -> impl Iterator<Item = Object<'a>> + use<'a> {
        Reader::new(self.body).filter_map(|tlv| Object::parse(tlv.ok()?).ok().flatten())
    }

    /// The objects before the signature: what the originator said, and nobody appended. All of them if
    /// there is no signature.
    pub fn signed_objects(&self) -> impl Iterator<Item = Object<'a>> + use<'a> {
        self.objects().take_while(|o| !matches!(o, Object::Signature { .. }))
    }

    /// The first object of a number for which `pick` has an answer; others are passed over unread.
    pub fn find<T>(&self, number: u8, pick: impl FnMut(Object<'a>) -> Option<T>) -> Option<T> {
        let numbered = Reader::new(self.body).map_while(Result::ok).filter(|tlv| tlv.number == number);
        numbered.filter_map(|tlv| Object::parse(tlv).ok().flatten()).find_map(pick)
    }

    /// Why the sender of an answer refuses, in its words or those of its code.
    pub fn refusal(&self) -> &'a str {
        let said = self.find(object::ERROR, |o| match o {
            Object::Error { reason, .. } if !reason.is_empty() => Some(reason),
            _ => None,
        });
        said.unwrap_or(self.header.code.reason())
    }

    /// The whole message as it arrived.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Gives a signed message that does not say its source the one it has: its signer's. Whether the signature
    /// is right is seen by [`signer`](Self::signer).
    pub fn name_source(&mut self, hash: HashAlgorithm) {
        if self.header.source.is_none() {
            self.header.source = self.find(object::SIGNATURE, |o| match o {
                Object::Signature { key, .. } => Some(key.node_id(hash)),
                _ => None,
            });
        }
    }

    /// The public key whose signature over this message is right, if it is also the originator's:
    /// its hash must be the source-ID. `None` if there is no signature, or a wrong one.
    pub fn signer(&self, hash: HashAlgorithm) -> Option<PublicKey> {
        self.signer_by(hash, Signatures::Ed25519)
    }

    /// The same where signatures may be stand-ins.
    pub fn signer_by(&self, hash: HashAlgorithm, signatures: Signatures) -> Option<PublicKey> {
        let source = self.header.source?;
        let header_len = self.bytes.len() - self.body.len();
        let mut reader = Reader::new(self.body);
        loop {
            let before = self.body.len() - reader.remaining();
            let tlv = reader.next()?.ok()?;
            if let Ok(Some(Object::Signature { key, signature })) = Object::parse(tlv) {
                let covered = signed_bytes(&self.bytes[..header_len + before]);
                let own = key.node_id(hash) == source && signatures.verify(&key, &covered, &signature);
                return own.then_some(key);
            }
        }
    }
}

/// What an originator signs: the encoding so far with mutable fields blank, after the domain. On the
/// stack, for it is needed for every signed message that arrives.
fn signed_bytes(message: &[u8]) -> SmallVec<[u8; 1_536]> {
    let mut covered = SmallVec::from_slice(DOMAIN);
    covered.extend_from_slice(message);
    Header::blank_mutable_fields(&mut covered[DOMAIN.len()..]);
    covered
}

/// Writes a message, object by object.
#[derive(Debug)]
pub struct Builder {
    bytes: Vec<u8>,
    header_len: usize,
}

impl Builder {
    /// Starts a message.
    pub fn new(header: &Header) -> Self {
        let mut bytes = Vec::with_capacity(256);
        header.emit(0, &mut bytes);
        let header_len = bytes.len();
        Builder { bytes, header_len }
    }

    /// Continues a finished message, to append what a hop may append.
    pub fn resume(message: &Message<'_>) -> Self {
        let header_len = message.bytes.len() - message.body.len();
        Builder { bytes: message.bytes.to_vec(), header_len }
    }

    /// Appends an object.
    pub fn push(&mut self, object: &Object<'_>) -> &mut Self {
        object.emit(&mut self.bytes);
        self
    }

    /// Appends an object, for chaining.
    pub fn with(mut self, object: &Object<'_>) -> Self {
        self.push(object);
        self
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never true: the header is there from the start.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Bytes that still fit into a datagram.
    pub fn room(&self) -> usize {
        MAX_DATAGRAM.saturating_sub(self.bytes.len())
    }

    /// Bytes that still fit into a datagram that will be signed.
    pub fn room_signed(&self) -> usize {
        self.room().saturating_sub(SIGNATURE_OBJECT_LEN)
    }

    /// The message, unsigned.
    pub fn finish(mut self) -> Vec<u8> {
        let body = (self.bytes.len() - self.header_len) as u32;
        self.bytes[28..32].copy_from_slice(&body.to_be_bytes());
        self.bytes
    }

    /// The message with its originator's signature as last object.
    pub fn sign(mut self, pair: &KeyPair) -> Vec<u8> {
        let signature = pair.sign(&signed_bytes(&self.bytes));
        self.push(&Object::Signature { key: pair.public(), signature });
        self.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MessageType, TransactionId};
    use super::*;
    use crate::Seed;

    fn signed() -> (KeyPair, Vec<u8>) {
        let pair = KeyPair::from_seed(Seed([5; 32]));
        let source = pair.public().node_id(HashAlgorithm::Sha256);
        let mut header = Header::request(MessageType::Join, TransactionId(42), source);
        header.ttl = 9;
        header.deadline_ms = 3_000;
        (pair.clone(), Builder::new(&header).with(&Object::Expires(60)).sign(&pair))
    }

    #[test]
    fn a_signature_survives_forwarding_but_not_tampering() {
        let (pair, mut bytes) = signed();
        let signer = |bytes: &[u8]| Message::parse(bytes).unwrap().signer(HashAlgorithm::Sha256);
        assert_eq!(signer(&bytes), Some(pair.public()));
        Header::patch_for_next_hop(&mut bytes, 8, 2_400);
        assert_eq!(signer(&bytes), Some(pair.public()));
        bytes[15] ^= 1; // the transaction-ID
        assert_eq!(signer(&bytes), None);
    }

    #[test]
    fn a_hop_may_append_after_the_signature() {
        let (pair, bytes) = signed();
        let message = Message::parse(&bytes).unwrap();
        let longer = Builder::resume(&message).with(&Object::Expires(1)).finish();
        let message = Message::parse(&longer).unwrap();
        assert_eq!(message.signer(HashAlgorithm::Sha256), Some(pair.public()));
    }

    #[test]
    fn a_signature_of_somebody_else_is_none() {
        let (_, bytes) = signed();
        let other = KeyPair::from_seed(Seed([6; 32]));
        let header = Message::parse(&bytes).unwrap().header;
        let forged = Builder::new(&header).with(&Object::Expires(60)).sign(&other);
        assert_eq!(Message::parse(&forged).unwrap().signer(HashAlgorithm::Sha256), None);
    }

    #[test]
    fn the_body_length_must_be_exact() {
        let (_, mut bytes) = signed();
        bytes.push(0);
        assert_eq!(Message::parse(&bytes).unwrap_err(), ParseError::BodyLength);
        bytes.truncate(20);
        assert_eq!(Message::parse(&bytes).unwrap_err(), ParseError::Truncated);
    }
}
