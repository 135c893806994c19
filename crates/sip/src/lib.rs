//! Phones into calls.
//!
//! [`Agent`] is the registrar and back-to-back user agent of one peer: phones register with it over
//! UDP and TCP, and every call and message of theirs ends here and begins anew on the other side,
//! be that another phone, another peer or a user agent inside this process ([`Flow`]). It reads no
//! clock and owns no socket: messages go in with [`Agent::handle_message`], come out of
//! [`Agent::poll_transmit`], and [`Agent::poll_timeout`] says when to call
//! [`Agent::handle_timeout`].
//!
//! The three questions it cannot answer itself it asks: where a request goes ([`Event::Route`],
//! answered with [`Agent::route`]), what a session description becomes on the next leg
//! ([`MediaPlane`]), and the time (the `now` of every call).

mod address;
pub mod agent;
mod auth;
mod dialog;
mod door;
mod event;
mod flow;
mod lockout;
mod media_plane;
mod prefix;
mod protection;
mod registrar;
mod timers;
pub mod transaction;
pub mod ua;

pub use agent::{Agent, Config, MAX_CALLS, ROUTE_TIMEOUT, STRANGER};
pub use event::{CallId, CallRecord, Cause, Event, RequestId, Target};
pub use flow::Flow;
pub use lockout::{LOCK_OUT, LockOut, MAX_FAILURES, Suspect};
pub use media_plane::{Leg, MediaPlane, Refused, Role, Side, Unchanged};
pub use prefix::Prefix;
pub use registrar::{MAX_BINDINGS, MAX_EXPIRES, MAX_USERS, MIN_EXPIRES, NAT_EXPIRES};
