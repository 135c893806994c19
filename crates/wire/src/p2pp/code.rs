//! Response codes: how a request ended.

use std::fmt;

/// How a request ended (SIP's numbers where SIP has the meaning).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code(pub u16);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal,)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Code = Code($number);)*

            /// Every code a peer sends.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// What it means, in words.
            pub fn reason(self) -> &'static str {
                match self.0 { $($number => $text,)* _ => "unknown code" }
            }
        }
    };
}

codes! {
    /// Done.
    OK = 200 "ok",
    /// Done, and the asker is not in the answerer's table.
    ONE_SIDED = 204 "ok, one-sided",
    /// Iterative routing: ask these peers, they are nearer (draft: 302).
    NEXT_HOP = 302 "next hop",
    /// This peer cannot serve you, these can (the draft's second meaning of 302).
    USE_OTHER_PEER = 305 "use another peer",
    /// Malformed.
    BAD_REQUEST = 400 "bad request",
    /// The signature is missing, wrong, or of someone who may not do this.
    FORBIDDEN = 403 "forbidden",
    /// No such record, or no such peer.
    NOT_FOUND = 404 "not found",
    /// The record cannot be stored: its kind's policy, or its owner, forbids it.
    INSERT_ERROR = 405 "insert refused",
    /// Refused by policy.
    REJECTED = 406 "rejected",
    /// Try later, or join as a client meanwhile.
    JOIN_DEFERRED = 407 "join deferred",
    /// The deadline passed before an answer came.
    TIMEOUT = 408 "timeout",
    /// The stored record is newer than this one.
    TOO_OLD = 409 "stored record is newer",
    /// TTL exceeded.
    TTL_EXCEEDED = 410 "TTL exceeded",
    /// The quota of this owner, or of this peer, is used up.
    QUOTA = 412 "quota exceeded",
    /// Too large for this transport.
    TOO_LARGE = 413 "too large",
    /// A mandatory object is unknown here.
    UNKNOWN_OBJECT = 420 "unknown mandatory object",
    /// Repeat with the enclosed cookie, to show that this address is yours.
    PROOF_REQUIRED = 428 "address proof required",
    /// Slow down.
    BUSY = 429 "too many requests",
    /// The callee's phone is off.
    UNAVAILABLE = 480 "temporarily unavailable",
    /// The request came back to a peer it had passed.
    LOOP_DETECTED = 482 "loop detected",
    /// Known message, not offered by this peer.
    NOT_IMPLEMENTED = 501 "not implemented",
    /// The sender's version is not spoken here.
    VERSION_NOT_SUPPORTED = 505 "version not supported",
    /// The sender belongs to another overlay, or has other options.
    WRONG_OVERLAY = 506 "another overlay",
}

impl Code {
    /// Whether the request succeeded.
    pub fn is_ok(self) -> bool {
        (200..300).contains(&self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.reason())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
