//! Which overlay a data directory belongs to: its founder key, and the document that was accepted last.
//!
//! A ticket brings the founder key; a document must be of that key, and must follow the one before by the
//! rule of [`Chain::accept`]. The first founder key that comes stays.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use node::Charter;
use wire::PublicKey;
use wire::document::{Chain, MAX_CHAIN, MAX_LEN, Refusal};

use super::Home;

const FOUNDER: &str = "overlay.founder";
/// The file of the documents that were accepted last.
pub const DOCUMENT: &str = "overlay.document";

/// The documents in a file; whether their signatures hold is not asked here.
pub fn read_documents(path: &Path) -> Result<Chain, String> {
    let mut bytes = Vec::new();
    let most = (MAX_CHAIN * MAX_LEN) as u64 + 1;
    let read = fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    Chain::parse(&bytes).map_err(|flaw| format!("{}: {flaw}", path.display()))
}

impl Home {
    /// The founder key of the overlay that this peer belongs to, if it was ever told one.
    pub fn founder(&self) -> Result<Option<PublicKey>, String> {
        let path = self.0.join(FOUNDER);
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map(Some).map_err(|e| format!("{}: {e}", path.display())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(format!("cannot read {}: {e}", path.display())),
        }
    }

    /// Keeps the founder key of the overlay; another one than before is refused.
    pub fn take_founder(&self, founder: &PublicKey) -> Result<(), String> {
        match self.founder()? {
            None => self.write(FOUNDER, founder.to_string().as_bytes()),
            Some(known) if known == *founder => Ok(()),
            Some(known) => Err(format!(
                "this peer belongs to the overlay of the founder key {known}, and was told to join that of \
                 {founder}. Use another --data-dir, or move {FOUNDER} and {DOCUMENT} in {} away",
                self.0.display()
            )),
        }
    }

    /// The documents that were accepted last, the newest of which holds.
    fn documents(&self) -> Result<Option<Chain>, String> {
        let path = self.0.join(DOCUMENT);
        if path.exists() { read_documents(&path).map(Some) } else { Ok(None) }
    }

    /// What this peer would know of its overlay with the documents of a chain, or why they are none for it. Older ones
    /// than are held change nothing: other peers may have brought the newer since the file was written.
    pub fn charter_with(&self, chain: &Chain) -> Result<Charter, String> {
        let known = self.charter()?;
        let founder = known.as_ref().map_or(chain.newest().document.founder, |known| known.founder);
        let held = known.and_then(|known| known.documents);
        match chain.accept(&founder, held.as_ref()) {
            Ok(kept) => Ok(Charter { founder, documents: Some(kept) }),
            Err(Refusal::Old { .. }) => Ok(Charter { founder, documents: held }),
            Err(refusal) => Err(format!("this document is refused: {refusal}")),
        }
    }

    /// Keeps what is known of the overlay.
    pub fn keep_charter(&self, charter: &Charter) -> Result<(), String> {
        self.take_founder(&charter.founder)?;
        charter.documents.as_ref().map_or(Ok(()), |documents| self.keep_documents(&documents.to_bytes()))
    }

    /// Keeps documents that were accepted.
    pub(crate) fn keep_documents(&self, bytes: &[u8]) -> Result<(), String> {
        self.write(DOCUMENT, bytes)
    }

    /// What is known of the overlay that this peer belongs to, if it was ever told whose it is.
    pub fn charter(&self) -> Result<Option<Charter>, String> {
        let documents = self.documents()?;
        let said = documents.as_ref().map(|chain| chain.newest().document.founder);
        Ok(self.founder()?.or(said).map(|founder| Charter { founder, documents }))
    }
}
