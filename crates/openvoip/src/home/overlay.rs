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

    /// Accepts the newest document of a chain and keeps it, or says why it is none for this peer. One that is older
    /// than what is held changes nothing: other peers may have brought the newer one since the file was written.
    pub fn take_documents(&self, chain: &Chain) -> Result<(), String> {
        let held = self.documents()?;
        let newest = held.as_ref().map(Chain::newest);
        let known = self.founder()?.or(newest.map(|held| held.document.founder));
        let founder = known.unwrap_or(chain.newest().document.founder);
        match chain.accept(&founder, held.as_ref()) {
            Ok(kept) => {
                self.take_founder(&founder)?;
                self.keep_documents(&kept.to_bytes())
            }
            Err(Refusal::Old { .. }) => Ok(()),
            Err(refusal) => Err(format!("this document is refused: {refusal}")),
        }
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
