//! Giving names: what an authority knows, and what it says to who asks.
//!
//! The service is a peer whose key is the authority key (`openvoip authority`); [`Desk`] is what its node asks.
//! `store.rs` keeps names, invitations and revocations in one file, which the service and the commands beside
//! it (`authority invite`, `list`, `revoke`) open for one transaction each. `limits.rs` bounds who asks too often.

mod limits;
mod store;

use std::net::IpAddr;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use node::Registrar;
use wire::certificate::code_key;
use wire::p2pp::Code;
use wire::{Certificate, KeyPair, NameRequest, PublicKey, Revocations, UnixTime};

use limits::Allowance;
pub use store::{ANY_NAME, Entry, Invitation, Store};

/// How long a certificate lasts unless told otherwise: a lost key is nobody's after that, and an authority may
/// be down for half of it.
pub const USUAL_LIFE: u64 = 7 * 86_400;

/// How long an invitation lasts unless told otherwise.
pub const USUAL_INVITATION: u64 = 7 * 86_400;

/// Letters of a code: 60 bits, of which a guesser tries ten an hour from one network.
const CODE_LETTERS: usize = 12;

/// Letters between two dashes of a code.
const GROUP: usize = 4;

/// Crockford's letters, of which none looks like another.
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A new code, as it is read aloud.
///
/// # Errors
/// If the system has no randomness.
pub fn new_code() -> Result<String, String> {
    let mut bytes = [0; CODE_LETTERS];
    getrandom::fill(&mut bytes).map_err(|e| e.to_string())?;
    let letters: Vec<char> = bytes.iter().map(|b| char::from(LETTERS[usize::from(b % 32)])).collect();
    let groups = letters.chunks(GROUP).map(|group| group.iter().collect::<String>());
    Ok(groups.collect::<Vec<_>>().join("-"))
}

/// A code as it was typed, in the form in which it is sent and compared.
pub fn typed_code(text: &str) -> String {
    let letters = text.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase());
    letters.map(|c| if c == 'o' { '0' } else { c }).map(|c| if "il".contains(c) { '1' } else { c }).collect()
}

/// How a code is kept: see [`code_key`].
fn kept_as(code: &str) -> String {
    HEXLOWER.encode(&code_key(&typed_code(code)))
}

/// Whether a request proves the code that is kept so.
fn proves(asked: &NameRequest, kept: &str) -> bool {
    let key = HEXLOWER.decode(kept.as_bytes()).ok().and_then(|key| key.try_into().ok());
    key.is_some_and(|key| asked.is_proven_by(&key))
}

/// How names are given.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whether a free name is given to whoever asks, without a code.
    pub open: bool,
    /// How long certificates last, in seconds.
    pub life: u64,
}

/// Where names are asked for.
pub struct Desk {
    store: Store,
    key: KeyPair,
    policy: Policy,
    requests: Allowance,
    guesses: Allowance,
    newcomers: Allowance,
}

type Refused = (Code, String);

fn refused<T>(reason: impl Into<String>) -> Result<T, Refused> {
    Err((Code::FORBIDDEN, reason.into()))
}

impl Desk {
    /// Opens the file in a data directory.
    pub fn new(dir: PathBuf, key: KeyPair, policy: Policy) -> Self {
        Desk {
            store: Store::new(dir),
            key,
            policy,
            requests: Allowance::new(600, 36_000),
            guesses: Allowance::new(10, 200),
            newcomers: Allowance::new(5, 100),
        }
    }

    /// Whether this key may have the name, by what is known and by its code.
    fn decide(
        &mut self,
        now: UnixTime,
        from: IpAddr,
        asked: &NameRequest,
        known: Option<&Entry>,
    ) -> Result<Option<String>, Refused> {
        let is_owners = known.is_some_and(|entry| entry.key == asked.user.to_string());
        if let Some(entry) = known.filter(|_| is_owners) {
            return match entry.revoked {
                true => refused(format!("{} was revoked; ask who runs the authority", asked.aor)),
                false => Ok(None),
            };
        }
        if asked.proof.is_none() {
            return match (known, self.policy.open) {
                (Some(_), _) => refused(format!(
                    "{} belongs to another key; the owner of it at a new machine needs a code of `authority invite --replace`",
                    asked.aor
                )),
                (None, false) => refused("names here need an invitation code: openvoip up --enrol CODE"),
                (None, true) if self.newcomers.spend(now, from) => Ok(None),
                (None, true) => {
                    Err((Code::BUSY, "too many new names from your network; try in an hour".into()))
                }
            };
        }
        if !self.guesses.may(now, from) {
            return Err((Code::BUSY, "too many wrong codes from your network; try in an hour".into()));
        }
        let out = self.store.invitations(now).map_err(|e| (Code::BUSY, e))?;
        let good = |i: &Invitation| i.name == ANY_NAME || i.name == asked.aor;
        let shown = out.into_iter().find(|(kept, i)| good(i) && proves(asked, kept));
        let Some((kept, invitation)) = shown else {
            self.guesses.spend(now, from);
            return refused(
                "that code is not one for this name: typed wrong, used, or ended; ask for another",
            );
        };
        if known.is_some() && !invitation.replace {
            return refused(format!(
                "{} belongs to another key, and the code does not replace it",
                asked.aor
            ));
        }
        Ok(Some(kept))
    }
}

impl Registrar for Desk {
    fn enrol(&mut self, now: UnixTime, from: IpAddr, asked: &NameRequest) -> Result<Certificate, Refused> {
        if !self.requests.spend(now, from) {
            return Err((Code::BUSY, "too many requests from your network; try in an hour".into()));
        }
        let known = self.store.entry(&asked.aor).map_err(|e| (Code::BUSY, e))?;
        let code = self.decide(now, from, asked, known.as_ref())?;
        let until = UnixTime(now.0 + self.policy.life);
        let serial = self
            .store
            .give(&asked.aor, &asked.user, now, until, code.as_deref())
            .map_err(|e| (Code::BUSY, e))?;
        let who = (asked.overlay, asked.aor.as_str(), asked.user);
        Certificate::sign(&self.key, who, serial, (now, until))
            .map_err(|f| (Code::BAD_REQUEST, f.to_string()))
    }
}

/// The list of revoked keys as it stands in the file.
///
/// # Errors
/// In words.
pub fn revocations(
    store: &Store,
    key: &KeyPair,
    overlay: PublicKey,
    now: UnixTime,
) -> Result<Revocations, String> {
    let (number, keys) = store.revoked(now)?;
    Revocations::sign(key, overlay, number, keys).map_err(|flaw| flaw.to_string())
}

#[cfg(test)]
mod tests;
