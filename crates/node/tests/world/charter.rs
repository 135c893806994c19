//! What peers are told of their overlay in advance: its founder key, and documents.

use std::sync::Arc;

use node::{Algorithm, Charter, LinkFamily, OverlayOptions, Profile};
use wire::document::{Chain, KindRule};
use wire::{KeyPair, OverlayDocument, PublicKey, Seed, SignedDocument, UnixTime};

/// The key pair of somebody who is no peer.
pub fn pair(n: u64) -> KeyPair {
    KeyPair::from_seed(Seed::from_number(n))
}

pub fn founder() -> PublicKey {
    pair(7).public()
}

/// The public key of a peer, as the world makes it.
pub fn peer_key(n: usize) -> PublicKey {
    pair(1_000 + n as u64).public()
}

/// A document of the world's overlay.
pub fn document(sequence: u64, profile: Profile) -> OverlayDocument {
    let usual = OverlayOptions::default();
    OverlayDocument {
        founder: founder(),
        sequence,
        created: UnixTime(1_800_000_000),
        name: usual.name,
        algorithm: Algorithm::Kademlia.number(),
        hash: usual.hash,
        base: usual.base,
        replicas: usual.replicas,
        difficulty: usual.difficulty,
        remote_settings: usual.remote_settings,
        profile,
        links: LinkFamily::default(),
        kinds: KindRule::today(),
        bootstrap: [].into(),
        managed: [].into(),
        revoked: [].into(),
        operators: [].into(),
        authorities: [].into(),
    }
}

/// The file of a document that one of those key pairs signed.
pub fn signed_by(n: u64, document: OverlayDocument) -> Chain {
    Chain::new(SignedDocument::sign(document, &pair(n)).unwrap())
}

/// What a peer knows that was given a document of the founder's.
pub fn charter(document: OverlayDocument) -> Arc<Charter> {
    Charter { founder: founder(), documents: Some(signed_by(7, document)) }.into()
}
