//! Letters between two peers by Olm, the double ratchet of Matrix: what [`node::ratchet`] asks for.
//!
//! It stands outside the core, since the library draws randomness. It does no IO: what must outlive it goes into a
//! [`Store`] before anything is done with it. A session is changed in a copy, the copy is kept, and only then does it
//! count; so neither a crash nor a full disk uses a key twice or opens a letter that is forgotten.
//!
//! | file | holds |
//! |---|---|
//! | `account.rs` | the keys that are published, and when the next fallback key is due |
//! | `correspondent.rs` | the sessions with one peer |

mod account;
mod correspondent;

use std::collections::BTreeMap;
use std::{fmt, io};

use node::ratchet::{Prekeys, Ratchet, Sealed, Unopened};
use serde::Serialize;
use wire::{Key, NodeId, UnixTime};
use zeroize::Zeroizing;

use account::Keys;
use correspondent::{Correspondent, Trial, message_of};

/// Most peers with whom there are sessions. Only what is written of our own accord takes the room of one that it was before.
pub const MAX_PEERS: usize = 1_024;

/// Most of them to whom nothing was written of our own accord: strangers, who make room for one another.
pub const MAX_STRANGERS: usize = 128;

const ACCOUNT: &str = "account";

/// What is kept, and under which name.
pub type Kept = (String, Zeroizing<Vec<u8>>);

/// Where what must outlive a process is kept.
pub trait Store: Send + Sync {
    /// Everything that is kept, by its name.
    ///
    /// # Errors
    /// In words, if it cannot be read at all.
    fn load(&self) -> Result<Vec<Kept>, String>;

    /// Keeps it in the place of what had the name; with `lasts` also through a loss of power.
    ///
    /// # Errors
    /// In words, if it is not kept.
    fn save(&self, name: &str, bytes: &[u8], lasts: bool) -> Result<(), String>;

    /// Keeps it no more.
    fn remove(&self, name: &str);

    /// It cannot be understood: it shall be out of the way, and not lost.
    fn set_aside(&self, name: &str);
}

/// Keeps nothing: of a peer whose identity ends with the process too.
#[derive(Debug)]
pub struct Passing;

impl Store for Passing {
    fn load(&self) -> Result<Vec<Kept>, String> {
        Ok(Vec::new())
    }

    fn save(&self, _: &str, _: &[u8], _: bool) -> Result<(), String> {
        Ok(())
    }

    fn remove(&self, _: &str) {}

    fn set_aside(&self, _: &str) {}
}

/// The ratchets of one peer.
pub struct Olm {
    store: Box<dyn Store>,
    keys: Keys,
    peers: BTreeMap<NodeId, Correspondent>,
}

impl Olm {
    /// Takes up what the store keeps, or begins.
    ///
    /// # Errors
    /// In words, if the store cannot be read or written.
    pub fn new(store: Box<dyn Store>, unix: UnixTime) -> Result<Olm, String> {
        let (mut keys, mut peers) = (None, BTreeMap::new());
        for (name, bytes) in store.load()? {
            let understood = match (name.as_str(), peer_of(&name)) {
                (ACCOUNT, _) => Keys::read(&bytes).map(|read| keys = Some(read)),
                (_, Some(id)) => Correspondent::read(&bytes).map(|read| drop(peers.insert(id, read))),
                _ => continue,
            };
            if understood.is_none() {
                store.set_aside(&name);
            }
        }
        let keys = match keys {
            Some(keys) => keys,
            None => {
                let keys = Keys::new(unix);
                store.save(ACCOUNT, &bytes_of(&keys.kept()), true)?;
                keys
            }
        };
        Ok(Olm { store, keys, peers })
    }

    /// Makes what was tried with a peer count, once it is kept; only then does another make room.
    fn keep(&mut self, peer: NodeId, trial: Trial, lasts: bool) -> Result<(), Unopened> {
        let leaves = self.who_leaves_for(&peer, trial.0.written)?;
        let bytes = bytes_of(&trial.kept());
        self.store.save(&peer.to_string(), &bytes, lasts).map_err(|_| Unopened::NotKept)?;
        self.peers.insert(peer, trial.0);
        if let Some(id) = leaves {
            self.peers.remove(&id);
            self.store.remove(&id.to_string());
        }
        Ok(())
    }

    /// Who makes room for a peer, if somebody must: of strangers the one silent for longest.
    fn who_leaves_for(&self, peer: &NodeId, written: bool) -> Result<Option<NodeId>, Unopened> {
        if self.peers.contains_key(peer) {
            return Ok(None);
        }
        let strangers = self.peers.values().filter(|p| !p.written).count();
        let has_room = self.peers.len() < MAX_PEERS && (written || strangers < MAX_STRANGERS);
        if has_room {
            return Ok(None);
        }
        let may_leave = self.peers.iter().filter(|(_, p)| written || !p.written);
        let silent = may_leave.min_by_key(|(_, p)| (p.written, p.heard)).map(|(id, _)| *id);
        silent.map(Some).ok_or(Unopened::NotKept)
    }
}

impl Ratchet for Olm {
    fn prekeys(&self) -> Prekeys {
        self.keys.prekeys()
    }

    fn rotate(&mut self, unix: UnixTime) -> bool {
        let Some(next) = self.keys.next(unix) else { return true };
        let kept = self.store.save(ACCOUNT, &bytes_of(&next.kept()), true).is_ok();
        if kept {
            self.keys = next;
        }
        kept
    }

    fn peers(&self) -> usize {
        self.peers.len()
    }

    fn has_written(&self, peer: &NodeId) -> bool {
        self.peers.get(peer).is_some_and(|p| p.written)
    }

    fn last_heard(&self, peer: &NodeId) -> Option<UnixTime> {
        self.peers.get(peer).map(|p| UnixTime(p.heard))
    }

    fn begin(&mut self, unix: UnixTime, peer: NodeId, prekeys: &Prekeys, of_our_own: bool) -> bool {
        let Some(session) = self.keys.begin(prekeys) else { return false };
        let mut trial = Trial::of(self.peers.get(&peer));
        trial.0.written |= of_our_own;
        trial.begin(session, unix);
        // What is written by it lasts, if it shall.
        self.keep(peer, trial, false).is_ok()
    }

    fn seal(&mut self, peer: &NodeId, bound: &[u8; 32], text: &[u8], of_our_own: bool) -> Option<Sealed> {
        let mut trial = Trial::of(Some(self.peers.get(peer)?));
        let text = Zeroizing::new([&bound[..], text].concat());
        trial.0.written |= of_our_own;
        let sealed = trial.seal(&text)?;
        self.keep(*peer, trial, of_our_own).ok()?;
        Some(sealed)
    }

    fn open(
        &mut self,
        unix: UnixTime,
        peer: NodeId,
        bound: &[u8; 32],
        sealed: &Sealed,
    ) -> Result<Vec<u8>, Unopened> {
        let message = message_of(sealed)?;
        let mut trial = Trial::of(self.peers.get(&peer));
        let text = Zeroizing::new(trial.open(&mut self.keys, &message, unix)?);
        let text = text.strip_prefix(bound).ok_or(Unopened::Unknown)?.to_vec();
        self.keep(peer, trial, false)?;
        Ok(text)
    }
}

impl fmt::Debug for Olm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Olm(..)")
    }
}

/// The peer whose sessions are kept under a name.
fn peer_of(name: &str) -> Option<NodeId> {
    name.parse::<Key>().ok().map(NodeId)
}

/// Secrets as they are kept, in one piece of memory that is wiped: its length is counted first, so that nothing is moved
/// and left behind while it grows.
fn bytes_of(kept: &impl Serialize) -> Zeroizing<Vec<u8>> {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    const FITS: &str = "maps with text for keys";
    let mut count = Count(0);
    serde_json::to_writer(&mut count, kept).expect(FITS);
    let mut bytes = Zeroizing::new(Vec::with_capacity(count.0));
    serde_json::to_writer(&mut *bytes, kept).expect(FITS);
    bytes
}

#[cfg(test)]
mod tests;
