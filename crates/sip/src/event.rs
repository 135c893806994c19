//! What the agent tells its driver, and what it is told.

use std::net::SocketAddr;

use wire::sip::Method;
use wire::{NodeId, Time};

use crate::flow::Flow;
use crate::lockout::LockOut;
use crate::media_plane::Side;

/// A call through this agent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u64);

/// A request that waits for [`crate::Agent::route`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// Where a request shall go. Users are addresses of record, `user@domain` in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Target {
    /// Every phone registered here by that user.
    User(String),
    /// Another peer, for a user of its.
    Peer {
        /// The peer.
        node: NodeId,
        /// The user as that peer knows them.
        user: String,
    },
    /// A user agent in this process.
    Local(u32),
}

/// What one knows of a call from its beginning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallRecord {
    /// Its number.
    pub call: CallId,
    /// Who calls.
    pub from: String,
    /// Who is called.
    pub to: String,
    /// Whence the call came.
    pub source: Flow,
    /// The Call-ID on the caller's leg, to find the call in a phone's log.
    pub sip_call_id: String,
    /// When it began.
    pub started: Time,
}

/// Why a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// That side hung up.
    HungUp(Side),
    /// The caller gave up before an answer.
    Cancelled,
    /// Nobody took it; the status says why.
    Refused,
    /// The peer at the other end is gone.
    PeerLost,
    /// A phone's connection is gone, or it never acknowledged the answer.
    PhoneLost,
    /// This side asked for it: [`crate::Agent::hang_up`].
    Command,
}

/// Something the driver wants to know.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A request needs a destination: answer with `route` or `reject`.
    Route {
        /// Names the request in the answer.
        request: RequestId,
        /// The call it begins; `None` for a MESSAGE.
        call: Option<CallId>,
        /// INVITE or MESSAGE.
        method: Method,
        /// Who asks, as proven by a phone or claimed by a peer.
        from: String,
        /// Who is wanted.
        to: String,
        /// Whence it came.
        source: Flow,
    },
    /// That request needs no destination any more.
    RouteCancelled {
        /// The request of an earlier `Route`.
        request: RequestId,
    },
    /// A phone registered, or renewed its registration.
    Registered {
        /// The user.
        user: String,
        /// The phone's Contact URI.
        contact: String,
        /// Where it is reached.
        flow: Flow,
        /// What it calls itself.
        user_agent: String,
        /// For how long, in seconds.
        expires: u32,
        /// Whether it was not registered before.
        new: bool,
    },
    /// A phone is registered no longer.
    Unregistered {
        /// The user.
        user: String,
        /// The phone's Contact URI.
        contact: String,
        /// Whether the registration ran out or its connection closed, rather than being taken
        /// back by the phone.
        lost: bool,
    },
    /// A phone tried a wrong password or an unknown user.
    WrongPassword {
        /// The name it tried.
        user: String,
        /// Its address.
        remote: SocketAddr,
        /// What it calls itself.
        user_agent: String,
        /// Who is locked out by it, if anybody.
        locked: Option<LockOut>,
    },
    /// A call begins.
    CallStarted(CallRecord),
    /// A phone of the callee rings.
    Ringing {
        /// The call.
        call: CallId,
        /// Through whom.
        flow: Flow,
    },
    /// The call is answered.
    Answered {
        /// The call.
        call: CallId,
        /// By whom: the leg that won.
        flow: Flow,
    },
    /// The call is over.
    Ended {
        /// The call.
        call: CallId,
        /// Why.
        cause: Cause,
        /// The final status of a call that was not answered; 200 for one that was.
        status: u16,
        /// The reason in words.
        reason: String,
    },
}
