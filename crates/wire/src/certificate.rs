//! Names given by an authority: certificates, the list of keys that lost theirs, and the request for one.
//!
//! A document may name an authority for a domain ([`Authority`](crate::document::Authority)). There the record
//! of a user counts only with a certificate, by which the authority says that a name is a user key's for some
//! days. It travels in the record, so whoever holds or finds that can judge it alone, and the authority is in
//! the way of nothing: while it is down the names go on until their certificates end.
//!
//! ```text
//! name:            length (8) | user, UTF-8 | length (8) | domain, UTF-8
//! certificate:     version (8) = 1 | founder key of the overlay (32 bytes) | name | user key (32 bytes)
//!                  serial (64) | not before, Unix seconds (64) | not after (64) | signature (64 bytes)
//! revocation list: version (8) = 1 | founder key | authority key (32 bytes) | number (64)
//!                  count (16) | each: user key (32 bytes), until, Unix seconds (64) | signature
//! request:         version (8) = 1 | founder key | authority key | name | user key | time, Unix seconds (64)
//!                  length (8) = 0 or 32 | proof of a code | signature of the user key
//! ```
//!
//! Who signs does so after words of its own for each of the three. `docs/authority.md` tells the rest.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::identity::{KeyPair, PublicKey};
use crate::strict::{self, Flaw, Reader};
use crate::{Signatures, UnixTime};

/// The version of the encodings here.
const VERSION: u8 = 1;

/// Signed before each of the three, so that no other signature of the key can be taken for one.
const CERTIFICATE: &[u8] = b"openvoip name certificate 1\0";
const REVOCATIONS: &[u8] = b"openvoip name revocations 1\0";
const REQUEST: &[u8] = b"openvoip name request 1\0";

/// Hashed before a code, and before what is proven by it.
const CODE: &[u8] = b"openvoip invitation code 1\0";
const PROOF: &[u8] = b"openvoip invitation proof 1\0";

/// Length of a [`code_key`], and of a proof.
pub const CODE_LEN: usize = 32;
const CODE_LEN_BYTE: u8 = CODE_LEN as u8;

/// What an authority keeps of a code: who reads it there knows no code, but could prove that it does.
pub fn code_key(code: &str) -> [u8; CODE_LEN] {
    Sha256::new_with_prefix(CODE).chain_update(code).finalize().into()
}

/// Longest name with its domain, in bytes, so that it fits into a record beside the keys of eight devices.
pub const MAX_AOR: usize = 200;

/// Longest life of a certificate, in seconds: a list of revocations holds them until they end.
pub const MAX_LIFE: u64 = 30 * 86_400;

/// By so many seconds a certificate counts before it begins and after it ends: the clocks of two machines may
/// each be an hour wrong.
pub const TOLERANCE: u64 = 2 * 3_600;

/// Most keys in a list of revocations, so that it fits into a record.
pub const MAX_REVOKED: usize = 16;

/// A name with its domain, in the one form in which it is hashed, given and compared.
pub fn check_aor(aor: &str) -> Result<(), Flaw> {
    split(aor).map(drop)
}

fn split(aor: &str) -> Result<(&str, &str), Flaw> {
    let wanted = "name@domain in small letters, of 200 bytes at most";
    let halves = aor.split_once('@').filter(|_| aor.len() <= MAX_AOR && aor.to_lowercase() == aor);
    let (user, domain) = halves.ok_or_else(|| Flaw::value("name", aor.escape_debug(), wanted))?;
    strict::check_name(user)?;
    strict::check_name(domain)?;
    Ok((user, domain))
}

/// Writes a name with its domain.
///
/// # Errors
/// If it is none.
pub fn put_aor(out: &mut Vec<u8>, aor: &str) -> Result<(), Flaw> {
    let (user, domain) = split(aor)?;
    strict::put_name(out, user);
    strict::put_name(out, domain);
    Ok(())
}

/// Reads what [`put_aor`] wrote, and nothing else.
///
/// # Errors
/// The first flaw.
pub fn parse_aor(bytes: &[u8]) -> Result<String, Flaw> {
    let mut reader = Reader(bytes);
    let aor = read_aor(&mut reader)?;
    reader.end()?;
    Ok(aor)
}

fn read_aor(reader: &mut Reader<'_>) -> Result<String, Flaw> {
    let aor = format!("{}@{}", reader.name()?, reader.name()?);
    check_aor(&aor)?;
    Ok(aor)
}

fn read_version(reader: &mut Reader<'_>) -> Result<(), Flaw> {
    match reader.byte("version")? {
        VERSION => Ok(()),
        other => Err(Flaw::Version(other, VERSION)),
    }
}

/// Why a certificate that an authority signed does not count now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lapse {
    /// It begins later, by more than clocks may differ.
    Early,
    /// It ended, by more than clocks may differ.
    Expired,
}

/// What an authority says: this name is this user key's, from then until then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// The founder key of the overlay in which it counts.
    pub overlay: PublicKey,
    /// The name with its domain.
    pub aor: String,
    /// Whose it is.
    pub user: PublicKey,
    /// Grows with every certificate of the authority: of two for one name the higher one counts.
    pub serial: u64,
    /// From when it counts.
    pub not_before: UnixTime,
    /// Until when.
    pub not_after: UnixTime,
    /// The authority's signature.
    pub signature: [u8; KeyPair::SIGNATURE_LEN],
}

impl Certificate {
    /// Certifies a name until then.
    ///
    /// # Errors
    /// If a bound is broken.
    pub fn sign(
        authority: &KeyPair,
        (overlay, aor, user): (PublicKey, &str, PublicKey),
        serial: u64,
        (not_before, not_after): (UnixTime, UnixTime),
    ) -> Result<Self, Flaw> {
        let aor = aor.to_owned();
        let mut certificate =
            Certificate { overlay, aor, user, serial, not_before, not_after, signature: [0; _] };
        certificate.check()?;
        certificate.signature = authority.sign(&certificate.signed_bytes()?);
        Ok(certificate)
    }

    fn check(&self) -> Result<(), Flaw> {
        check_aor(&self.aor)?;
        let life = self.not_after.0.checked_sub(self.not_before.0);
        match life {
            Some(1..=MAX_LIFE) => Ok(()),
            _ => Err(Flaw::value("not after", self.not_after.0, "up to 30 days after its beginning")),
        }
    }

    fn signed_bytes(&self) -> Result<Vec<u8>, Flaw> {
        let mut bytes = CERTIFICATE.to_vec();
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.overlay.0);
        put_aor(&mut bytes, &self.aor)?;
        bytes.extend_from_slice(&self.user.0);
        for number in [self.serial, self.not_before.0, self.not_after.0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        Ok(bytes)
    }

    /// The one encoding.
    ///
    /// # Errors
    /// If its name is none.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Flaw> {
        let mut bytes = self.signed_bytes()?.split_off(CERTIFICATE.len());
        bytes.extend_from_slice(&self.signature);
        Ok(bytes)
    }

    /// Reads [`Certificate::to_bytes`], and nothing else. The signature is not checked here.
    ///
    /// # Errors
    /// The first flaw.
    pub fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        let mut reader = Reader(bytes);
        read_version(&mut reader)?;
        let certificate = Certificate {
            overlay: reader.key("founder key")?,
            aor: read_aor(&mut reader)?,
            user: reader.key("user key")?,
            serial: reader.number("serial")?,
            not_before: UnixTime(reader.number("not before")?),
            not_after: UnixTime(reader.number("not after")?),
            signature: reader.array("signature")?,
        };
        reader.end()?;
        certificate.check()?;
        Ok(certificate)
    }

    /// Whether this authority signed exactly this.
    pub fn is_of(&self, authority: &PublicKey, signatures: Signatures) -> bool {
        self.signed_bytes().is_ok_and(|bytes| signatures.verify(authority, &bytes, &self.signature))
    }

    /// Whether it counts at this time, by a clock that may be an hour wrong.
    ///
    /// # Errors
    /// Why not.
    pub fn check_time(&self, now: UnixTime) -> Result<(), Lapse> {
        if now.0.saturating_add(TOLERANCE) < self.not_before.0 {
            return Err(Lapse::Early);
        }
        if now.0 > self.not_after.0.saturating_add(TOLERANCE) {
            return Err(Lapse::Expired);
        }
        Ok(())
    }

    /// When it is half over, and is to be renewed.
    pub fn half_life(&self) -> UnixTime {
        UnixTime(self.not_before.0 + self.not_after.0.saturating_sub(self.not_before.0) / 2)
    }
}

/// The user keys whose certificates an authority has taken back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revocations {
    /// The founder key of the overlay in which it counts.
    pub overlay: PublicKey,
    /// Whose list it is.
    pub authority: PublicKey,
    /// Grows with every list; the higher one counts.
    pub number: u64,
    /// Each key, and until when it stays here: until the last of its certificates has ended.
    pub keys: BTreeMap<PublicKey, UnixTime>,
    /// The authority's signature.
    pub signature: [u8; KeyPair::SIGNATURE_LEN],
}

impl Revocations {
    /// Signs a list.
    ///
    /// # Errors
    /// If there are too many.
    pub fn sign(
        authority: &KeyPair,
        overlay: PublicKey,
        number: u64,
        keys: BTreeMap<PublicKey, UnixTime>,
    ) -> Result<Self, Flaw> {
        strict::check_count("revoked keys", keys.len(), MAX_REVOKED)?;
        let mut list =
            Revocations { overlay, authority: authority.public(), number, keys, signature: [0; _] };
        list.signature = authority.sign(&list.signed_bytes());
        Ok(list)
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = REVOCATIONS.to_vec();
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.overlay.0);
        bytes.extend_from_slice(&self.authority.0);
        bytes.extend_from_slice(&self.number.to_be_bytes());
        strict::put_set(&mut bytes, self.keys.iter(), |out, (key, until)| {
            out.extend_from_slice(&key.0);
            out.extend_from_slice(&until.0.to_be_bytes());
        });
        bytes
    }

    /// The one encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.signed_bytes().split_off(REVOCATIONS.len());
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Reads [`Revocations::to_bytes`], and nothing else. The signature is not checked here.
    ///
    /// # Errors
    /// The first flaw.
    pub fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        let mut reader = Reader(bytes);
        read_version(&mut reader)?;
        let (overlay, authority) = (reader.key("founder key")?, reader.key("authority key")?);
        let number = reader.number("number")?;
        let read = |r: &mut Reader<'_>| Ok((r.key("revoked keys")?, r.number("revoked keys")?));
        let set = reader.set("revoked keys", MAX_REVOKED, read)?;
        let count = set.len();
        let keys: BTreeMap<_, _> = set.into_iter().map(|(key, until)| (key, UnixTime(until))).collect();
        if keys.len() < count {
            return Err(Flaw::Order("revoked keys"));
        }
        let signature = reader.array("signature")?;
        reader.end()?;
        Ok(Revocations { overlay, authority, number, keys, signature })
    }

    /// Whether the authority that it names signed exactly this.
    pub fn is_authentic(&self, signatures: Signatures) -> bool {
        signatures.verify(&self.authority, &self.signed_bytes(), &self.signature)
    }

    /// Whether a key lost its certificates. A clock that is an hour fast lets none back early.
    pub fn holds(&self, user: &PublicKey, now: UnixTime) -> bool {
        self.keys.get(user).is_some_and(|until| now.0 <= until.0.saturating_add(TOLERANCE))
    }
}

/// What the owner of a user key asks an authority for: a name, or to have it for longer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameRequest {
    /// The founder key of the overlay.
    pub overlay: PublicKey,
    /// Who is asked, so that nobody can hand it on to another.
    pub authority: PublicKey,
    /// The name with its domain.
    pub aor: String,
    /// For which key, which signs this.
    pub user: PublicKey,
    /// When, by the asker's clock.
    pub time: UnixTime,
    /// That the asker knows the code of an invitation; nothing to renew, or where everybody may come. It says
    /// nothing of the code, and is good for this request only, so that who listens cannot use it.
    pub proof: Option<[u8; CODE_LEN]>,
    /// The user key's signature.
    pub signature: [u8; KeyPair::SIGNATURE_LEN],
}

impl NameRequest {
    /// Asks for a name.
    ///
    /// # Errors
    /// If a bound is broken.
    pub fn sign(
        user: &KeyPair,
        (overlay, authority): (PublicKey, PublicKey),
        aor: &str,
        time: UnixTime,
        code: &str,
    ) -> Result<Self, Flaw> {
        let (aor, key) = (aor.to_owned(), user.public());
        let mut request =
            NameRequest { overlay, authority, aor, user: key, time, proof: None, signature: [0; _] };
        if !code.is_empty() {
            request.proof = Some(request.proof_by(&code_key(code))?.finalize().into_bytes().into());
        }
        request.signature = user.sign(&request.signed_bytes()?);
        Ok(request)
    }

    /// What is asked, without the proof.
    fn asked(&self) -> Result<Vec<u8>, Flaw> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.overlay.0);
        bytes.extend_from_slice(&self.authority.0);
        put_aor(&mut bytes, &self.aor)?;
        bytes.extend_from_slice(&self.user.0);
        bytes.extend_from_slice(&self.time.0.to_be_bytes());
        Ok(bytes)
    }

    fn proof_by(&self, key: &[u8; CODE_LEN]) -> Result<Hmac<Sha256>, Flaw> {
        let mac = Hmac::new_from_slice(key).expect("any length will do");
        Ok(mac.chain_update(PROOF).chain_update(self.asked()?))
    }

    /// Whether it was made by who knows the code of this [`code_key`].
    pub fn is_proven_by(&self, key: &[u8; CODE_LEN]) -> bool {
        let proof = self.proof_by(key).ok().zip(self.proof);
        proof.is_some_and(|(mac, proof)| mac.verify_slice(&proof).is_ok())
    }

    fn signed_bytes(&self) -> Result<Vec<u8>, Flaw> {
        let mut bytes = REQUEST.to_vec();
        bytes.extend(self.asked()?);
        let proof = self.proof.as_ref().map_or(&[][..], |proof| proof);
        bytes.push(proof.len() as u8);
        bytes.extend_from_slice(proof);
        Ok(bytes)
    }

    /// The one encoding.
    ///
    /// # Errors
    /// If its name is none.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Flaw> {
        let mut bytes = self.signed_bytes()?.split_off(REQUEST.len());
        bytes.extend_from_slice(&self.signature);
        Ok(bytes)
    }

    /// Reads [`NameRequest::to_bytes`], and nothing else. The signature is not checked here.
    ///
    /// # Errors
    /// The first flaw.
    pub fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        let mut reader = Reader(bytes);
        read_version(&mut reader)?;
        let request = NameRequest {
            overlay: reader.key("founder key")?,
            authority: reader.key("authority key")?,
            aor: read_aor(&mut reader)?,
            user: reader.key("user key")?,
            time: UnixTime(reader.number("time")?),
            proof: match reader.byte("proof")? {
                0 => None,
                CODE_LEN_BYTE => Some(reader.array("proof")?),
                other => return Err(Flaw::value("proof", other, "0 or 32, its length")),
            },
            signature: reader.array("signature")?,
        };
        reader.end()?;
        Ok(request)
    }

    /// Whether the owner of the user key asks exactly this.
    pub fn is_authentic(&self, signatures: Signatures) -> bool {
        self.signed_bytes().is_ok_and(|bytes| signatures.verify(&self.user, &bytes, &self.signature))
    }
}

#[cfg(test)]
mod tests;
