//! The overlay document: what holds in an overlay, signed by whoever founded it.
//!
//! An overlay is named by its *founder key*. Its document says what P2P-Options says, and what no
//! bootstrap peer could vouch for: where to ask first, which keys may change it and which are banned. The
//! model of its contents is the configuration document of RFC 6940 (section 11.1).
//!
//! The rule of acceptance ([`SignedDocument::accept`]): a document is good if its signature holds, it is of
//! the founder key one knows, it is signed by that key or by an operator key *of the document one holds*,
//! and its sequence is higher than that document's. A [`Chain`] of documents is for who holds none yet.
//! `docs/overlay-document.md` says what follows from it.
//!
//! ```text
//! "OVPD" | version (8): 1, or 2 with authorities | founder key (32 bytes) | sequence (64) | created, Unix seconds (64)
//! length of the name (8) | name, UTF-8
//! algorithm (8) | hash (8) | bits of the base (8) | replicas (8) | difficulty (8)
//! flags (8): 1 = remote settings | profile (8): 1 = open, 2 = signed, 4 = secure, 12 = secure with DTLS and TLS
//! number of kinds (16)     | each: kind (16), policy (8), largest value in bytes (16)
//! number of peers (16)     | each: 4 or 6 (8), address (4 or 16 bytes), port (16)
//! number of managed (16)   | each: public key (32 bytes)
//! number of revoked (16)   | each: public key
//! number of operators (16) | each: public key
//! only in version 2: number of authorities (16), at least 1
//!     each: length of the domain (8), or 0 for every name | domain, UTF-8 | public key | 4 or 6, address, port
//! signer's public key (32 bytes) | signature (64 bytes)
//! ```

mod chain;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::identity::{KeyPair, PublicKey};
use crate::p2pp::Kind;
use crate::strict::{self, Flaw, Reader};
use crate::{HashAlgorithm, LinkFamily, Profile, UnixTime};

pub use crate::policy::{KindRule, Policy};
pub use chain::{Chain, MAX_CHAIN};

const MAGIC: [u8; 4] = *b"OVPD";

/// The latest version of the encoding. The first, which knows no authorities, is that of documents without.
pub const VERSION: u8 = 2;
const FIRST_VERSION: u8 = 1;

/// Signed before the document, so that no other signature of the key can be taken for one.
const DOMAIN: &[u8] = b"openvoip overlay document 1\0";

/// Most kinds of records that a document describes.
pub const MAX_KINDS: usize = 32;
/// Most peers to ask first.
pub const MAX_BOOTSTRAP: usize = 32;
/// Most managed peers.
pub const MAX_MANAGED: usize = 64;
/// Most revoked keys.
pub const MAX_REVOKED: usize = 512;
/// Most operator keys.
pub const MAX_OPERATORS: usize = 16;
/// Most authorities for names.
pub const MAX_AUTHORITIES: usize = 8;
/// Most holders of a record.
pub const MAX_REPLICAS: u8 = 16;
/// Hardest admission puzzle: 2^32 draws are hours of work, and more would keep everybody out.
pub const MAX_DIFFICULTY: u8 = 32;

/// Bits of the widest base, 256.
const MAX_BASE_BITS: u8 = 8;

/// The longest document, in bytes.
pub const MAX_LEN: usize = MAGIC.len()
    + 1
    + PublicKey::LEN
    + 16
    + (1 + strict::MAX_NAME)
    + 7
    + (2 + MAX_KINDS * 5)
    + (2 + MAX_BOOTSTRAP * 19)
    + (6 + (MAX_MANAGED + MAX_REVOKED + MAX_OPERATORS) * PublicKey::LEN)
    + (2 + MAX_AUTHORITIES * (1 + strict::MAX_NAME + PublicKey::LEN + 19))
    + PublicKey::LEN
    + KeyPair::SIGNATURE_LEN;

/// Who gives the names of a domain: there a user's record counts only with its certificate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Authority {
    /// What stands behind the `@`; empty for every name of which no other authority is named.
    pub domain: String,
    /// With which key it signs. It is the key of its peer, too.
    pub key: PublicKey,
    /// Where to ask it.
    pub address: SocketAddr,
}

/// What a document says. See the fields of `node::OverlayOptions` for the options.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OverlayDocument {
    /// The founder key, which names the overlay.
    pub founder: PublicKey,
    /// Grows with every change; the higher one wins.
    pub sequence: u64,
    /// When it was signed, by the signer's clock; information only.
    pub created: UnixTime,
    /// The overlay's name for people.
    pub name: String,
    /// The overlay algorithm, by its number in P2P-Options. One that this build does not have is no flaw of
    /// the document.
    pub algorithm: u8,
    /// The hash that places peers and resources.
    pub hash: HashAlgorithm,
    /// Base of the algorithm: a power of two up to 256; 0 if it has none.
    pub base: u16,
    /// How many peers hold each record, 1 to [`MAX_REPLICAS`].
    pub replicas: u8,
    /// The admission puzzle's difficulty, 0 to [`MAX_DIFFICULTY`].
    pub difficulty: u8,
    /// Whether operators of peers may set load values on them from afar.
    pub remote_settings: bool,
    /// What protects messages between peers.
    pub profile: Profile,
    /// Which protocols make the links between peers; a choice in the profile `secure` only.
    pub links: LinkFamily,
    /// Which kinds of records are kept, each once.
    pub kinds: BTreeSet<KindRule>,
    /// Peers to ask first.
    pub bootstrap: BTreeSet<SocketAddr>,
    /// Keys of peers that the operators run.
    pub managed: BTreeSet<PublicKey>,
    /// Keys of peers and users that are banned.
    pub revoked: BTreeSet<PublicKey>,
    /// Keys that may sign the next document. They have no power over anybody's peer.
    pub operators: BTreeSet<PublicKey>,
    /// Who gives names, each domain once.
    pub authorities: BTreeSet<Authority>,
}

impl OverlayDocument {
    /// Whether it can be written and read: every bound holds and nothing contradicts itself.
    ///
    /// # Errors
    /// The first flaw.
    pub fn check(&self) -> Result<(), Flaw> {
        strict::check_name(&self.name)?;
        if self.base == 1 || self.base > 1 << MAX_BASE_BITS || self.base.count_ones() > 1 {
            return Err(Flaw::value("base", self.base, "0 or a power of two up to 256"));
        }
        if !(1..=MAX_REPLICAS).contains(&self.replicas) {
            return Err(Flaw::value("replicas", self.replicas, "1 to 16"));
        }
        if self.difficulty > MAX_DIFFICULTY {
            return Err(Flaw::value("difficulty", self.difficulty, "0 to 32"));
        }
        if !self.links.suits(self.profile) {
            return Err(Flaw::value("links", self.links, "noise, but in the profile secure"));
        }
        strict::check_count("kinds", self.kinds.len(), MAX_KINDS)?;
        if self.kinds.iter().zip(self.kinds.iter().skip(1)).any(|(a, b)| a.kind == b.kind) {
            return Err(Flaw::Order("kinds"));
        }
        strict::check_count("bootstrap peers", self.bootstrap.len(), MAX_BOOTSTRAP)?;
        self.bootstrap.iter().try_for_each(strict::check_peer_address)?;
        strict::check_count("managed peers", self.managed.len(), MAX_MANAGED)?;
        strict::check_count("revoked keys", self.revoked.len(), MAX_REVOKED)?;
        strict::check_count("operators", self.operators.len(), MAX_OPERATORS)?;
        strict::check_count("authorities", self.authorities.len(), MAX_AUTHORITIES)?;
        self.authorities.iter().try_for_each(check_authority)?;
        let domains = || self.authorities.iter().map(|a| &a.domain);
        if domains().zip(domains().skip(1)).any(|(a, b)| a == b) {
            return Err(Flaw::Order("authorities"));
        }
        let authorities = self.authorities.iter().map(|a| &a.key);
        let trusted = || self.operators.iter().chain([&self.founder]).chain(authorities.clone());
        match trusted().find(|key| self.revoked.contains(key)) {
            Some(key) => Err(Flaw::value("revoked keys", key, "revoked and trusted to sign at once")),
            None => Ok(()),
        }
    }

    /// What holds for a kind of record here: what is said, or else the usual.
    pub fn rule(&self, kind: Kind) -> Option<KindRule> {
        self.kinds.iter().find(|rule| rule.kind == kind).copied().or_else(|| KindRule::usual(kind))
    }

    /// What holds for every kind that is kept here.
    pub fn rules(&self) -> BTreeSet<KindRule> {
        let is_unsaid = |usual: &KindRule| self.kinds.iter().all(|rule| rule.kind != usual.kind);
        KindRule::all_usual().filter(is_unsaid).chain(self.kinds.iter().copied()).collect()
    }

    /// Whether a key is of those who run the overlay: its founder, its operators and their peers.
    pub fn is_run_by(&self, key: &PublicKey) -> bool {
        self.founder == *key || self.operators.contains(key) || self.managed.contains(key)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.push(if self.authorities.is_empty() { FIRST_VERSION } else { VERSION });
        out.extend_from_slice(&self.founder.0);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.created.0.to_be_bytes());
        strict::put_name(out, &self.name);
        let base_bits = self.base.checked_ilog2().unwrap_or(0) as u8;
        let options = [self.algorithm, self.hash as u8, base_bits, self.replicas, self.difficulty];
        out.extend_from_slice(&options);
        out.extend_from_slice(&[self.remote_settings.into(), self.links.number_with(self.profile)]);
        strict::put_set(out, self.kinds.iter(), |out, rule| {
            out.extend_from_slice(&rule.kind.0.to_be_bytes());
            out.push(rule.policy as u8);
            out.extend_from_slice(&rule.max_value.to_be_bytes());
        });
        strict::put_set(out, self.bootstrap.iter(), strict::put_address);
        for keys in [&self.managed, &self.revoked, &self.operators] {
            strict::put_set(out, keys.iter(), |out, key| out.extend_from_slice(&key.0));
        }
        if !self.authorities.is_empty() {
            strict::put_set(out, self.authorities.iter(), |out, authority| {
                strict::put_name(out, &authority.domain);
                out.extend_from_slice(&authority.key.0);
                strict::put_address(out, &authority.address);
            });
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Flaw> {
        if reader.array("beginning").ok() != Some(MAGIC) {
            return Err(Flaw::NotOne("an overlay document"));
        }
        let version = reader.byte("version")?;
        if ![FIRST_VERSION, VERSION].contains(&version) {
            return Err(Flaw::Version(version, VERSION));
        }
        let founder = reader.key("founder key")?;
        let (sequence, created) = (reader.number("sequence")?, UnixTime(reader.number("date")?));
        let name = reader.name()?;
        let [algorithm, hash, base_bits, replicas, difficulty, flags, profile] = reader.array("options")?;
        if base_bits > MAX_BASE_BITS {
            return Err(Flaw::value("base", format!("2^{base_bits}"), "0 or a power of two up to 256"));
        }
        let known = HashAlgorithm::from_number(hash);
        let (profile, links) = LinkFamily::read(profile).ok_or_else(|| Flaw::profile(profile))?;
        let document = OverlayDocument {
            founder,
            sequence,
            created,
            name,
            algorithm,
            hash: known.ok_or_else(|| Flaw::value("hash", hash, "the number of a hash"))?,
            base: if base_bits == 0 { 0 } else { 1 << base_bits },
            replicas,
            difficulty,
            remote_settings: match flags {
                0 | 1 => flags == 1,
                _ => return Err(Flaw::value("flags", flags, "0 or 1 (remote settings)")),
            },
            profile,
            links,
            kinds: reader.set("kinds", MAX_KINDS, read_rule)?,
            bootstrap: reader.set("bootstrap peers", MAX_BOOTSTRAP, Reader::address)?,
            managed: reader.set("managed peers", MAX_MANAGED, |r| r.key("managed peers"))?,
            revoked: reader.set("revoked keys", MAX_REVOKED, |r| r.key("revoked keys"))?,
            operators: reader.set("operators", MAX_OPERATORS, |r| r.key("operators"))?,
            authorities: match version {
                FIRST_VERSION => BTreeSet::new(),
                _ => reader.set("authorities", MAX_AUTHORITIES, read_authority)?,
            },
        };
        if version == VERSION && document.authorities.is_empty() {
            return Err(Flaw::value("authorities", 0, "at least 1 in a document of version 2"));
        }
        document.check()?;
        Ok(document)
    }
}

fn read_rule(reader: &mut Reader<'_>) -> Result<KindRule, Flaw> {
    let kind = Kind(u16::from_be_bytes(reader.array("kinds")?));
    let number = reader.byte("kinds")?;
    let policy = Policy::ALL.into_iter().find(|policy| *policy as u8 == number);
    let policy = policy.ok_or_else(|| Flaw::value("policy", number, "the number of a policy"))?;
    Ok(KindRule { kind, policy, max_value: u16::from_be_bytes(reader.array("kinds")?) })
}

fn read_authority(reader: &mut Reader<'_>) -> Result<Authority, Flaw> {
    let domain = reader.text("domain", strict::MAX_NAME)?;
    Ok(Authority { domain, key: reader.key("authorities")?, address: reader.address()? })
}

fn check_authority(authority: &Authority) -> Result<(), Flaw> {
    strict::check_peer_address(&authority.address)?;
    let domain = &authority.domain;
    if domain.to_lowercase() != *domain {
        return Err(Flaw::value("domain", domain, "in small letters"));
    }
    if domain.is_empty() { Ok(()) } else { strict::check_name(domain) }
}

/// A document as it travels: what it says, who signed it, and the signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedDocument {
    /// What it says.
    pub document: OverlayDocument,
    /// Who signed it.
    pub signer: PublicKey,
    /// The signature.
    pub signature: [u8; KeyPair::SIGNATURE_LEN],
}

/// Why a document is not taken, though it reads well.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Somebody changed it, or never signed it.
    #[error("its signature does not hold: it was changed, or {0} never signed it")]
    Signature(PublicKey),
    /// It describes an overlay of the same name at best.
    #[error("it is of the overlay of the founder key {theirs}, and this one is that of {ours}")]
    Founder {
        /// Its founder key.
        theirs: PublicKey,
        /// The one that is known.
        ours: PublicKey,
    },
    /// Signed by a key that was not trusted before it.
    #[error(
        "it is signed by {0}, which is neither the founder key nor an operator key of the document held before"
    )]
    Signer(PublicKey),
    /// It is not newer.
    #[error("its sequence is {theirs}, and a document of sequence {held} is held already")]
    Old {
        /// Its sequence.
        theirs: u64,
        /// That of the document held.
        held: u64,
    },
    /// With those before it they are too many.
    #[error("it would be the 33rd document since the founder signed one; the founder has to sign the next")]
    Long,
}

impl SignedDocument {
    /// Signs a document. Who will accept it depends on what they hold.
    ///
    /// # Errors
    /// If the document breaks a bound.
    pub fn sign(document: OverlayDocument, key: &KeyPair) -> Result<Self, Flaw> {
        document.check()?;
        let mut signed = SignedDocument { document, signer: key.public(), signature: [0; _] };
        signed.signature = key.sign(&signed.signed_bytes());
        Ok(signed)
    }

    /// What is signed: everything but the signature, after the domain.
    fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = DOMAIN.to_vec();
        self.document.write(&mut bytes);
        bytes.extend_from_slice(&self.signer.0);
        bytes
    }

    /// The one encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.signed_bytes().split_off(DOMAIN.len());
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Reads [`SignedDocument::to_bytes`], and nothing else. The signature is not checked here.
    ///
    /// # Errors
    /// The first flaw.
    pub fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        strict::check_count("bytes", bytes.len(), MAX_LEN)?;
        let mut reader = Reader(bytes);
        let signed = SignedDocument::read(&mut reader)?;
        reader.end()?;
        Ok(signed)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Flaw> {
        let document = OverlayDocument::read(reader)?;
        Ok(SignedDocument { document, signer: reader.key("signer")?, signature: reader.array("signature")? })
    }

    /// Whether the signer signed exactly this.
    pub fn is_authentic(&self) -> bool {
        self.signer.verifies(&self.signed_bytes(), &self.signature)
    }

    /// Whether the founder key signed it, so that everybody can judge it who knows that key.
    pub fn is_of_founder(&self) -> bool {
        self.signer == self.document.founder
    }

    /// Whether it may take the place of the document held, if one is, in the overlay of this founder key.
    ///
    /// # Errors
    /// Why not.
    pub fn accept(&self, founder: &PublicKey, held: Option<&OverlayDocument>) -> Result<(), Refusal> {
        if !self.is_authentic() {
            return Err(Refusal::Signature(self.signer));
        }
        let theirs = self.document.founder;
        if theirs != *founder {
            return Err(Refusal::Founder { theirs, ours: *founder });
        }
        let may_sign = |held: &OverlayDocument| held.operators.contains(&self.signer);
        if !self.is_of_founder() && !held.is_some_and(may_sign) {
            return Err(Refusal::Signer(self.signer));
        }
        match held.filter(|held| held.sequence >= self.document.sequence) {
            Some(held) => Err(Refusal::Old { theirs: self.document.sequence, held: held.sequence }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
