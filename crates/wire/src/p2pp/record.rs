//! Signed records: what peers store for each other (draft: Resource-Object).
//!
//! A record binds a value to a place and an owner. Whoever holds it can check it alone: the owner's
//! Ed25519 signature covers place, kind, sequence, date, lifetime, tombstone flag and value, so a
//! record cannot be moved, altered, or brought back after its withdrawal. The draft used PKCS#7 and
//! a certificate of 500 to 1,500 bytes here; a raw key and signature are 96.
//!
//! ```text
//!  0 | kind (16)             | flags (8): 1 = tombstone | length of the Resource-ID (8) |
//!  4 | sequence (64)                                                                    |
//! 12 | created, Unix seconds (64)                                                       |
//! 20 | lifetime, seconds (32)                                                           |
//! 24 | owner's public key (32 bytes)                                                    |
//! 56 | signature (64 bytes)                                                             |
//!120 | Resource-ID, then the value to the end of the object                             |
//! ```

use std::ops::RangeInclusive;

use smallvec::SmallVec;

use super::ParseError;
use super::field::{Cursor, Field};
use super::tlv::Tlv;
use crate::identity::{KeyPair, PublicKey};
use crate::{HashAlgorithm, ResourceId, Signatures, UnixTime};

/// Largest value of a record that travels in one datagram: [`super::MAX_DATAGRAM`] less the header
/// (96), a cookie and a Peer-Info (about 100) and the record's own fields (156).
pub const MAX_VALUE: usize = 800;

/// Signed before the record's fields, so that no other signature of the key can be taken for one.
const DOMAIN: &[u8] = b"openvoip record 1\0";

const TOMBSTONE: u8 = 1;

/// What a record is for, and so who may write it (draft: content type and sub-type).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u16);

impl Kind {
    /// A user's signed list of devices, at the hash of the address-of-record (draft: User-Info).
    pub const USER: Kind = Kind(0x0000);
    /// A peer's own contact record, at its Node-ID.
    pub const PEER: Kind = Kind(0x0001);
    /// The same list at the place of the user's number ([`crate::number`]); each key that claims the number has its own.
    pub const NUMBER: Kind = Kind(0x0002);
    /// What somebody left for the owner of a place: [`crate::policy::Policy::DropBox`].
    pub const DROP: Kind = Kind(0x0004);
    /// What those say who run the overlay, at the hash of a text.
    pub const NOTICE: Kind = Kind(0x0005);
    /// A STUN service (draft: content type 1).
    pub const STUN: Kind = Kind(0x0100);
    /// A TURN service (draft: content type 2).
    pub const TURN: Kind = Kind(0x0200);
    /// Anything an application wants to keep, at the hash of a text; each owner has its own copy.
    pub const DATA: Kind = Kind(0x4000);
    /// Kinds that an overlay's document may add.
    pub const OF_DOCUMENTS: RangeInclusive<u16> = 0x4001..=0x7fff;

    /// Those that have a name.
    const NAMED: [Kind; 8] =
        [Kind::USER, Kind::PEER, Kind::DATA, Kind::DROP, Kind::NOTICE, Kind::NUMBER, Kind::STUN, Kind::TURN];

    /// The kind's name in tables and answers.
    pub fn name(self) -> &'static str {
        match self {
            Kind::USER => "user",
            Kind::PEER => "peer",
            Kind::NUMBER => "number",
            Kind::DROP => "drop",
            Kind::NOTICE => "notice",
            Kind::STUN => "stun",
            Kind::TURN => "turn",
            Kind::DATA => "data",
            _ => "unknown",
        }
    }
}

/// A kind by its name, or by its number, as `0x4001` or `16385`.
impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(named) = Kind::NAMED.into_iter().find(|kind| kind.name() == text) {
            return Ok(named);
        }
        let number = match text.strip_prefix("0x") {
            Some(digits) => u16::from_str_radix(digits, 16),
            None => text.parse(),
        };
        number.map(Kind).map_err(|_| {
            let names = Kind::NAMED.map(Kind::name).join(", ");
            format!("unknown kind '{text}': choose {names} or a number like 0x4001")
        })
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({:#06x})", self.name(), self.0)
    }
}

/// A record that borrows the message it came in. A tombstone has no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordRef<'a> {
    /// Where it is stored.
    pub resource: ResourceId,
    /// What it is for.
    pub kind: Kind,
    /// Whether it says that the value is withdrawn.
    pub tombstone: bool,
    /// Grows with every change by the owner; the higher one wins.
    pub sequence: u64,
    /// When the owner made it, by the owner's clock; information, never compared with ours.
    pub created: UnixTime,
    /// How long a holder may keep it after it arrived, in seconds.
    pub lifetime: u32,
    /// Whose it is.
    pub owner: PublicKey,
    /// The owner's signature.
    pub signature: [u8; KeyPair::SIGNATURE_LEN],
    /// The value.
    pub value: &'a [u8],
}

impl<'a> Field<'a> for RecordRef<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        let kind = cursor.read()?;
        let [flags, resource_len] = cursor.array()?;
        let record = RecordRef {
            kind,
            tombstone: flags & TOMBSTONE != 0,
            sequence: cursor.read()?,
            created: UnixTime(cursor.read()?),
            lifetime: cursor.read()?,
            owner: cursor.read()?,
            signature: cursor.read()?,
            resource: cursor.read_sized(resource_len.into())?,
            value: cursor.read()?,
        };
        let longest = if record.tombstone { 0 } else { MAX_VALUE };
        if flags & !TOMBSTONE != 0 || record.value.len() > longest {
            return Err(cursor.malformed());
        }
        Ok(record)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.encode(&self.signature, |piece| out.extend_from_slice(piece));
    }
}

impl RecordRef<'_> {
    /// Gives the encoding with this signature to `put`, piece by piece.
    fn encode(&self, signature: &[u8; KeyPair::SIGNATURE_LEN], mut put: impl FnMut(&[u8])) {
        let resource = self.resource.key().as_bytes();
        put(&self.kind.0.to_be_bytes());
        put(&[if self.tombstone { TOMBSTONE } else { 0 }, resource.len() as u8]);
        put(&self.sequence.to_be_bytes());
        put(&self.created.0.to_be_bytes());
        put(&self.lifetime.to_be_bytes());
        put(&self.owner.0);
        put(signature);
        put(resource);
        put(self.value);
    }

    /// What the owner signs: the encoding with the signature blank, after the domain. On the stack,
    /// for it is needed once for every record that arrives.
    fn signed_bytes(&self) -> SmallVec<[u8; 1_024]> {
        let mut bytes = SmallVec::from_slice(DOMAIN);
        self.encode(&[0; KeyPair::SIGNATURE_LEN], |piece| bytes.extend_from_slice(piece));
        bytes
    }

    /// Whether the owner signed exactly this.
    pub fn verify(&self) -> bool {
        self.verify_by(Signatures::Ed25519)
    }

    /// The same where signatures may be stand-ins.
    pub fn verify_by(&self, signatures: Signatures) -> bool {
        signatures.verify(&self.owner, &self.signed_bytes(), &self.signature)
    }

    /// What identifies this version of the record to someone who holds it.
    pub fn summary(&self) -> RecordSummary {
        RecordSummary {
            resource: self.resource,
            kind: self.kind,
            sequence: self.sequence,
            digest: digest(&self.signature),
        }
    }

    /// A copy that can be kept.
    pub fn to_record(&self) -> Record {
        Record {
            resource: self.resource,
            kind: self.kind,
            tombstone: self.tombstone,
            sequence: self.sequence,
            created: self.created,
            lifetime: self.lifetime,
            owner: self.owner,
            signature: self.signature,
            value: self.value.to_vec(),
        }
    }
}

/// A record one keeps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Where it is stored.
    pub resource: ResourceId,
    /// What it is for.
    pub kind: Kind,
    /// Whether it says that the value is withdrawn.
    pub tombstone: bool,
    /// Grows with every change by the owner; the higher one wins.
    pub sequence: u64,
    /// When the owner made it, by the owner's clock.
    pub created: UnixTime,
    /// How long a holder may keep it after it arrived, in seconds.
    pub lifetime: u32,
    /// Whose it is.
    pub owner: PublicKey,
    /// The owner's signature.
    pub signature: [u8; KeyPair::SIGNATURE_LEN],
    /// The value.
    pub value: Vec<u8>,
}

impl Record {
    /// Makes and signs a record.
    pub fn sign(
        owner: &KeyPair,
        resource: ResourceId,
        kind: Kind,
        sequence: u64,
        created: UnixTime,
        lifetime: u32,
        value: Vec<u8>,
    ) -> Self {
        let mut record = Record {
            resource,
            kind,
            tombstone: false,
            sequence,
            created,
            lifetime,
            owner: owner.public(),
            signature: [0; KeyPair::SIGNATURE_LEN],
            value,
        };
        record.signature = owner.sign(&record.as_ref().signed_bytes());
        record
    }

    /// The signed statement that this record is withdrawn, one sequence number later.
    pub fn tombstone(&self, owner: &KeyPair, created: UnixTime) -> Self {
        let mut stone = Record {
            tombstone: true,
            sequence: self.sequence + 1,
            created,
            value: Vec::new(),
            ..self.clone()
        };
        stone.signature = owner.sign(&stone.as_ref().signed_bytes());
        stone
    }

    /// The same record, borrowed.
    pub fn as_ref(&self) -> RecordRef<'_> {
        RecordRef {
            resource: self.resource,
            kind: self.kind,
            tombstone: self.tombstone,
            sequence: self.sequence,
            created: self.created,
            lifetime: self.lifetime,
            owner: self.owner,
            signature: self.signature,
            value: &self.value,
        }
    }

    /// The record's encoding, for a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.as_ref().write(&mut out);
        out
    }

    /// Reads [`Record::to_bytes`]; the signature is not checked here.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        let number = super::object::RESOURCE_OBJECT;
        let tlv = Tlv { number, ignorable: false, value: bytes };
        RecordRef::read(&mut Cursor::new(tlv)).map(|r| r.to_record())
    }
}

/// Names one version of a record, without its value: 8 bytes of digest are enough for two holders
/// to agree that they hold the same bytes, and a wrong guess only costs a full copy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RecordSummary {
    /// Where it is stored.
    pub resource: ResourceId,
    /// What it is for.
    pub kind: Kind,
    /// Its sequence number.
    pub sequence: u64,
    /// First 64 bits of the SHA-256 of the signature.
    pub digest: u64,
}

impl Field<'_> for RecordSummary {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let (kind, sequence, digest) = (cursor.read()?, cursor.read()?, cursor.read()?);
        Ok(RecordSummary { resource: cursor.read()?, kind, sequence, digest })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.kind.write(out);
        self.sequence.write(out);
        self.digest.write(out);
        self.resource.write(out);
    }
}

fn digest(signature: &[u8; KeyPair::SIGNATURE_LEN]) -> u64 {
    let key = HashAlgorithm::Sha256.digest(signature);
    u64::from_be_bytes(key.as_bytes()[..8].try_into().expect("8 of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    fn sample() -> (KeyPair, Record) {
        let owner = KeyPair::from_seed(Seed([3; 32]));
        let place = ResourceId(HashAlgorithm::Sha256.digest(b"alice@example.org"));
        let value = b"devices".to_vec();
        let record = Record::sign(&owner, place, Kind::USER, 7, UnixTime(1_700_000_000), 3_600, value);
        (owner, record)
    }

    #[test]
    fn a_record_verifies_until_any_field_changes() {
        let (_, record) = sample();
        assert!(record.as_ref().verify());
        let changes: [fn(&mut Record); 6] = [
            |r| r.sequence += 1,
            |r| r.lifetime += 1,
            |r| r.tombstone = true,
            |r| r.kind = Kind::DATA,
            |r| r.value.push(0),
            |r| r.resource = ResourceId(HashAlgorithm::Sha256.digest(b"bob@example.org")),
        ];
        for change in changes {
            let mut altered = record.clone();
            change(&mut altered);
            assert!(!altered.as_ref().verify());
        }
    }

    #[test]
    fn a_tombstone_is_newer_than_what_it_withdraws() {
        let (owner, record) = sample();
        let stone = record.tombstone(&owner, UnixTime(1_700_000_100));
        assert!(stone.as_ref().verify());
        assert!(stone.tombstone && stone.sequence > record.sequence && stone.value.is_empty());
    }

    #[test]
    fn kinds_are_read_by_their_names_and_by_numbers() {
        for kind in Kind::NAMED {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!(["0x4001", "16385"].iter().all(|text| text.parse() == Ok(Kind(0x4001))));
        assert!(["wish", "", "0x", "70000"].iter().all(|text| text.parse::<Kind>().is_err()));
    }

    #[test]
    fn bytes_round_trip() {
        let (_, record) = sample();
        assert_eq!(Record::from_bytes(&record.to_bytes()), Ok(record.clone()));
        assert!(Record::from_bytes(&record.to_bytes()[..130]).is_err());
    }
}
