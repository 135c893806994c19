//! Documents one after the other, as a file holds them: a document that the founder signed, and those that
//! operators signed after it. So somebody who knows nothing but the founder key can judge the newest.

use super::{MAX_LEN, Refusal, SignedDocument};
use crate::identity::PublicKey;
use crate::strict::{self, Flaw, Reader};

/// Most documents in a chain. Then the founder signs anew, which begins another.
pub const MAX_CHAIN: usize = 32;

/// At least one document, the newest last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain(Vec<SignedDocument>);

impl Chain {
    /// The chain of one document.
    pub fn new(first: SignedDocument) -> Self {
        Chain(vec![first])
    }

    /// All its documents, oldest first.
    pub fn documents(&self) -> &[SignedDocument] {
        &self.0
    }

    /// The newest document.
    pub fn newest(&self) -> &SignedDocument {
        self.0.last().expect("a chain is never empty")
    }

    /// Adds the next document. One that the founder signed needs none before it.
    ///
    /// # Errors
    /// If the chain is full.
    pub fn push(&mut self, next: SignedDocument) -> Result<(), Flaw> {
        if next.is_of_founder() {
            self.0.clear();
        }
        strict::check_count("documents", self.0.len() + 1, MAX_CHAIN)?;
        self.0.push(next);
        Ok(())
    }

    /// The documents, one after the other.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(SignedDocument::to_bytes).collect()
    }

    /// Reads [`Chain::to_bytes`], and nothing else. No signature is checked here.
    ///
    /// # Errors
    /// The first flaw.
    pub fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        strict::check_count("bytes", bytes.len(), MAX_CHAIN * MAX_LEN)?;
        let mut reader = Reader(bytes);
        let mut documents = vec![SignedDocument::read(&mut reader)?];
        while reader.end().is_err() {
            strict::check_count("documents", documents.len() + 1, MAX_CHAIN)?;
            documents.push(SignedDocument::read(&mut reader)?);
        }
        Ok(Chain(documents))
    }

    /// What a peer keeps that holds one chain and is shown this one, if the newest document here may take the place of
    /// the newest there: by itself, or because each document here follows the one before
    /// ([`SignedDocument::accept`]). Those that do not follow are left out, so that all that is kept was judged.
    ///
    /// # Errors
    /// Why not.
    pub fn accept(&self, founder: &PublicKey, held: Option<&Chain>) -> Result<Chain, Refusal> {
        let newest = self.newest();
        let (theirs, founder_there) = (newest.document.sequence, newest.document.founder);
        if founder_there != *founder {
            return Err(Refusal::Founder { theirs: founder_there, ours: *founder });
        }
        if let Some(held) = held.map(|held| held.newest().document.sequence).filter(|held| *held >= theirs) {
            return Err(Refusal::Old { theirs, held });
        }
        let mut kept = held.map_or_else(Vec::new, |held| held.0.clone());
        for next in &self.0 {
            let last = kept.last().map(|last| &last.document);
            if last.is_some_and(|last| next.document.sequence <= last.sequence) {
                continue;
            }
            next.accept(founder, last)?;
            if next.is_of_founder() {
                kept.clear();
            }
            kept.push(next.clone());
        }
        if kept.len() > MAX_CHAIN { Err(Refusal::Long) } else { Ok(Chain(kept)) }
    }
}
