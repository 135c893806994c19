//! The sessions with one peer.
//!
//! Mostly there is one. Two that write first at the same time make two, and who lost its state another; all are heard,
//! and what arrived last says which one is written by, so that both ends come to use the same.

use node::ratchet::{Sealed, Unopened};
use serde::{Deserialize, Serialize};
use vodozemac::olm::{DecryptionError, OlmMessage, Session, SessionPickle};
use wire::UnixTime;

use crate::account::Keys;

/// Most sessions with one peer to which something was written of our own accord; with a stranger there is one. Each keeps
/// keys of at most 40 messages in each of 5 chains for those that come late.
pub(crate) const MAX_SESSIONS: usize = 3;

/// Most ended sessions whose names are remembered, so that a recorded first message does not begin one again while
/// its fallback key lives.
pub(crate) const MAX_ENDED: usize = 32;

/// What the library calls a first message, and one of those that follow.
const FIRST: usize = 0;
const LATER: usize = 1;

/// A peer with which there are sessions.
#[derive(Default)]
pub(crate) struct Correspondent {
    /// The one to write by last.
    sessions: Vec<Session>,
    ended: Vec<String>,
    /// Whether anything was written to it of our own accord.
    pub(crate) written: bool,
    /// When a session began, or it was heard, last.
    pub(crate) heard: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    sessions: Vec<SessionPickle>,
    ended: Vec<String>,
    written: bool,
    heard: u64,
}

impl Correspondent {
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let Kept { sessions, ended, written, heard } = serde_json::from_slice(bytes).ok()?;
        let sessions: Vec<Session> = sessions.into_iter().map(Session::from_pickle).collect();
        (!sessions.is_empty()).then_some(Correspondent { sessions, ended, written, heard })
    }

    #[cfg(test)]
    pub(crate) fn kept_sessions(&self) -> usize {
        self.sessions.len()
    }

    fn kept(&self) -> Kept {
        Kept {
            sessions: self.sessions.iter().map(Session::pickle).collect(),
            ended: self.ended.clone(),
            written: self.written,
            heard: self.heard,
        }
    }
}

/// A copy in which something is tried: the correspondent itself changes when it is kept.
pub(crate) struct Trial(pub(crate) Correspondent);

/// What the ratchet wrote, if it is that: found out before anything of a session is touched.
pub(crate) fn message_of(sealed: &Sealed) -> Result<OlmMessage, Unopened> {
    let kind = if sealed.opening { FIRST } else { LATER };
    OlmMessage::from_parts(kind, &sealed.bytes).map_err(|_| Unopened::Malformed)
}

impl Trial {
    pub(crate) fn of(peer: Option<&Correspondent>) -> Self {
        let copy = |p: &Correspondent| Correspondent {
            sessions: p.sessions.iter().map(|s| Session::from_pickle(s.pickle())).collect(),
            ended: p.ended.clone(),
            ..*p
        };
        Trial(peer.map(copy).unwrap_or_default())
    }

    pub(crate) fn kept(&self) -> Kept {
        self.0.kept()
    }

    /// A session is there, and is the one to write by.
    pub(crate) fn begin(&mut self, session: Session, unix: UnixTime) {
        let most = if self.0.written { MAX_SESSIONS } else { 1 };
        while self.0.sessions.len() >= most {
            if self.0.ended.len() == MAX_ENDED {
                self.0.ended.remove(0);
            }
            self.0.ended.push(self.0.sessions.remove(0).session_id());
        }
        self.0.sessions.push(session);
        self.0.heard = unix.0;
    }

    pub(crate) fn seal(&mut self, text: &[u8]) -> Option<Sealed> {
        let (kind, bytes) = self.0.sessions.last_mut()?.encrypt(text).ok()?.to_parts();
        Some(Sealed { opening: kind == FIRST, bytes })
    }

    pub(crate) fn open(
        &mut self,
        keys: &mut Keys,
        message: &OlmMessage,
        unix: UnixTime,
    ) -> Result<Vec<u8>, Unopened> {
        let mut why = Unopened::Unknown;
        let (at, text) = match message {
            OlmMessage::PreKey(first) => {
                let id = first.session_id();
                if self.0.ended.contains(&id) {
                    return Err(Unopened::Again);
                }
                match self.0.sessions.iter().position(|s| s.session_id() == id) {
                    Some(at) => (at, self.0.sessions[at].decrypt(message).map_err(|e| why_of(&e))?),
                    None => {
                        let (session, text) = keys.accept(first).ok_or(Unopened::Unknown)?;
                        self.begin(session, unix);
                        return Ok(text);
                    }
                }
            }
            // Only the session it belongs to has its key, and one that has not does not change.
            OlmMessage::Normal(_) => {
                let mut sessions = self.0.sessions.iter_mut().enumerate().rev();
                let opened = sessions.find_map(|(at, session)| match session.decrypt(message) {
                    Ok(text) => Some((at, text)),
                    Err(e) => {
                        let again = why_of(&e) == Unopened::Again;
                        why = if again { Unopened::Again } else { why };
                        None
                    }
                });
                opened.ok_or(why)?
            }
        };
        let session = self.0.sessions.remove(at);
        self.0.sessions.push(session);
        self.0.heard = unix.0;
        Ok(text)
    }
}

fn why_of(error: &DecryptionError) -> Unopened {
    match error {
        DecryptionError::MissingMessageKey(_) => Unopened::Again,
        _ => Unopened::Unknown,
    }
}
