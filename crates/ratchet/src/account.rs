//! The keys of one peer that others begin by.

use node::ratchet::Prekeys;
use serde::{Deserialize, Serialize};
use vodozemac::Curve25519PublicKey;
use vodozemac::olm::{Account, AccountPickle, PreKeyMessage, Session, SessionConfig};
use wire::UnixTime;

/// How long a fallback key is published. It opens what was begun with it for as long again; then it is gone, and with it
/// what a thief of the keys could open of first messages.
pub(crate) const FALLBACK_FOR: u64 = 7 * 86_400;

/// An account, and its fallback key.
pub(crate) struct Keys {
    account: Account,
    fallback: [u8; 32],
    made: UnixTime,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    account: AccountPickle,
    fallback: [u8; 32],
    made: u64,
}

impl Keys {
    pub(crate) fn new(unix: UnixTime) -> Self {
        let mut keys = Keys { account: Account::new(), fallback: [0; 32], made: unix };
        keys.turn(unix);
        keys
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let Kept { account, fallback, made } = serde_json::from_slice(bytes).ok()?;
        Some(Keys { account: Account::from_pickle(account), fallback, made: UnixTime(made) })
    }

    pub(crate) fn kept(&self) -> Kept {
        Kept { account: self.account.pickle(), fallback: self.fallback, made: self.made.0 }
    }

    fn turn(&mut self, unix: UnixTime) {
        self.account.generate_fallback_key();
        let made = self.account.fallback_key().into_values().next();
        self.fallback = made.expect("it was made just now").to_bytes();
        self.account.mark_keys_as_published();
        self.made = unix;
    }

    /// What these keys become when it is time: never by a clock that went back. Who was away for longer than the last key
    /// may open forgets that too.
    pub(crate) fn next(&self, unix: UnixTime) -> Option<Keys> {
        let age = unix.0.saturating_sub(self.made.0);
        (age >= FALLBACK_FOR).then(|| {
            let account = Account::from_pickle(self.account.pickle());
            let mut next = Keys { account, ..*self };
            next.turn(unix);
            if age >= 2 * FALLBACK_FOR {
                next.account.forget_fallback_key();
            }
            next
        })
    }

    pub(crate) fn prekeys(&self) -> Prekeys {
        Prekeys { identity: self.account.curve25519_key().to_bytes(), fallback: self.fallback }
    }

    /// A session with whoever has these keys; nothing if they are points of small order.
    pub(crate) fn begin(&self, other: &Prekeys) -> Option<Session> {
        let key = Curve25519PublicKey::from_bytes;
        let (identity, fallback) = (key(other.identity), key(other.fallback));
        self.account.create_outbound_session(SessionConfig::version_1(), identity, fallback).ok()
    }

    /// The session that a first message begins, and what it says. No key is used up by it.
    pub(crate) fn accept(&mut self, first: &PreKeyMessage) -> Option<(Session, Vec<u8>)> {
        let identity = first.identity_key();
        let made = self.account.create_inbound_session(SessionConfig::version_1(), identity, first).ok()?;
        Some((made.session, made.plaintext))
    }
}
