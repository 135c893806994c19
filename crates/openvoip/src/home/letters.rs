//! The sessions by which text messages go in letters, one file for each peer and one for the account.
//!
//! ```text
//! letters/account     the keys that others begin by
//! letters/NODE-ID     the sessions with a peer
//! ```
//! What is written over is gone as far as the disk forgets: forward secrecy ends where an old block can be read again.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use ratchet::{Kept, Store};

use super::{Home, aside, make_private, replace, replace_softly};

/// No file of ours is as long; what is longer is none.
const MOST: u64 = 256 << 10;

/// How a file ends that is on its way to its name.
const NEW: &str = "new";

/// The directory of letters.
pub struct Letters(PathBuf);

impl Home {
    /// Where the sessions of letters are kept.
    ///
    /// # Errors
    /// In words, if there is no place for them.
    pub fn letters(&self) -> Result<Letters, String> {
        let dir = self.0.join("letters");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map(|()| Letters(dir.clone())).map_err(|e| format!("cannot make {}: {e}", dir.display()))
    }
}

impl Store for Letters {
    fn load(&self) -> Result<Vec<Kept>, String> {
        let cannot = |e: std::io::Error| format!("cannot read {}: {e}", self.0.display());
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(cannot)? {
            let (entry, path) = entry.map(|e| (e.file_name(), e.path())).map_err(cannot)?;
            let is_ours = fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() <= MOST);
            // What has a dot was set aside, or on its way to its name: that holds keys, and nobody waits for it.
            if path.extension().is_some_and(|end| end == NEW) {
                let _ = fs::remove_file(&path);
                continue;
            }
            if let Some(name) = entry.to_str().filter(|name| is_ours && !name.contains('.')) {
                make_private(&path);
                let bytes = fs::read(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
                all.push((name.to_owned(), bytes.into()));
            }
        }
        Ok(all)
    }

    fn save(&self, name: &str, bytes: &[u8], lasts: bool) -> Result<(), String> {
        let path = self.0.join(name);
        if !lasts {
            return replace_softly(&path, 0o600, bytes);
        }
        replace(&path, 0o600, bytes)?;
        // The name too.
        let kept = fs::File::open(&self.0).and_then(|dir| dir.sync_all());
        kept.map_err(|e| format!("cannot write {}: {e}", self.0.display()))
    }

    fn remove(&self, name: &str) {
        let path = self.0.join(name);
        let _ = fs::remove_file(path.with_extension(NEW));
        let _ = fs::remove_file(path);
    }

    fn set_aside(&self, name: &str) {
        let path = self.0.join(name);
        let fate = aside(&path);
        let path = path.display();
        eprintln!(
            "{path} cannot be read; it was {fate} and this peer starts without it: messages with that peer (with all, if it is \
             `account`) go by new keys from now on, and one that is on its way may be lost. It holds keys: remove it when you do \
             not want to mend it"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn sessions_are_the_owners_alone_and_read_as_kept_and_what_was_not_finished_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let letters = Home::open(dir.path()).unwrap().letters().unwrap();
        letters.save("account", b"one", true).unwrap();
        letters.save("00ff", b"two", false).unwrap();
        letters.save("00ff", b"three", true).unwrap();
        fs::write(letters.0.join("account.new"), b"half").unwrap();
        for (path, mode) in [("letters", 0o700), ("letters/account", 0o600), ("letters/00ff", 0o600)] {
            let found = fs::metadata(dir.path().join(path)).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode, "{path}");
        }
        let kept = || {
            let kept = letters.load().unwrap().into_iter();
            kept.map(|(name, bytes)| (name, bytes.to_vec())).collect::<BTreeMap<_, _>>()
        };
        let files = [("00ff", &b"three"[..]), ("account", b"one")];
        assert_eq!(kept(), files.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).into());
        assert!(!letters.0.join("account.new").exists(), "it holds keys");
        fs::write(letters.0.join("00ff.new"), b"half").unwrap();
        letters.set_aside("account");
        letters.remove("00ff");
        assert!(!letters.0.join("00ff.new").exists(), "and so does this");
        assert!(kept().is_empty());
        assert_eq!(fs::read(letters.0.join("account.corrupt-1")).unwrap(), b"one");
    }
}
