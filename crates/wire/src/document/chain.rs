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

    /// These documents as they are kept once they are accepted: behind those held, where the founder did not sign
    /// the first of them. If that makes too many, the newest is judged by those who hold what it follows, and only
    /// by them.
    pub fn behind(self, held: Option<&Chain>) -> Chain {
        let first = &self.0[0];
        let held = held.filter(|_| !first.is_of_founder()).map_or(&[][..], |held| &held.0);
        let before = held.iter().filter(|d| d.document.sequence < first.document.sequence);
        let all: Vec<SignedDocument> = before.chain(&self.0).cloned().collect();
        if all.len() > MAX_CHAIN { self } else { Chain(all) }
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

    /// Whether the newest document may take the place of the one held, if one is: by itself, or because each
    /// document here follows the one before ([`SignedDocument::accept`]). The one held is good again.
    ///
    /// # Errors
    /// Why not.
    pub fn accept(&self, founder: &PublicKey, held: Option<&SignedDocument>) -> Result<(), Refusal> {
        let mut held = held;
        for (n, next) in self.0.iter().enumerate() {
            let is_newest = n + 1 == self.0.len();
            let is_past = |held: &SignedDocument| next.document.sequence <= held.document.sequence;
            if held == Some(next) || (!is_newest && held.is_some_and(is_past)) {
                continue;
            }
            next.accept(founder, held.map(|held| &held.document))?;
            held = Some(next);
        }
        Ok(())
    }
}
