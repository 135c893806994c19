//! The seam to whoever carries the sound.
//!
//! The agent passes session descriptions from one leg of a call to the other and knows nothing of
//! ports and codecs; whoever drives it implements [`MediaPlane`] and puts its own media addresses
//! into each description as it passes.

use wire::sip::Message;

use crate::event::CallId;
use crate::flow::Flow;

/// The header of an ACK between peers that carries what the caller's peer kept back until then.
pub(crate) const OPENING: &str = "X-OpenVoIP-Opening";

/// Which end of a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// The one who dialled.
    Caller,
    /// One who was rung.
    Callee,
}

impl Side {
    /// The other end.
    pub fn other(self) -> Side {
        match self {
            Side::Caller => Side::Callee,
            Side::Callee => Side::Caller,
        }
    }
}

/// One leg of a call: a neighbour with whom a session is being agreed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Leg {
    /// Which end of the call this leg leads to.
    pub side: Side,
    /// Which of the phones rung at the same time, from 0 in the order of ringing; 0 for the
    /// caller. Two phones behind one peer share a fork.
    pub fork: u16,
    /// The neighbour itself.
    pub flow: Flow,
}

/// What a session description is in offer/answer (RFC 3264).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A proposal.
    Offer,
    /// The reply to one.
    Answer,
}

/// Why a description cannot pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The status with which to refuse, usually 488.
    pub status: u16,
    /// In words, where the status does not say enough; empty where it does.
    pub why: &'static str,
}

impl From<u16> for Refused {
    fn from(status: u16) -> Refused {
        Refused { status, why: "" }
    }
}

impl Refused {
    /// Says why in a response (RFC 3261 section 20.43).
    pub(crate) fn warn(self, response: Message) -> Message {
        match self.why {
            "" => response,
            why => response.with("Warning", format!("399 openvoip \"{why}\"")),
        }
    }
}

/// Puts our own media addresses into the session descriptions of calls.
pub trait MediaPlane {
    /// Rewrites a description that `from` sent, for `toward`. The same description may pass more
    /// than once (183, then 200).
    fn rewrite(
        &mut self,
        now: wire::Time,
        call: CallId,
        from: Leg,
        toward: Leg,
        sdp: &[u8],
        role: Role,
    ) -> Result<Vec<u8>, Refused>;

    /// The phone at `refused` does not take what it was offered (488). Whether a lesser offer is made, which will
    /// be rewritten as that of another fork.
    fn concede(&mut self, _call: CallId, _refused: Leg, _fork: u16) -> bool {
        false
    }

    /// Of the callees rung, this one answered; the other forks carry nothing any more.
    fn answered(&mut self, _now: wire::Time, _call: CallId, _callee: Leg) {}

    /// What the ACK to another peer's answer says besides, in `X-OpenVoIP-Opening`.
    fn opening(&mut self, _call: CallId, _callee: Leg) -> Option<String> {
        None
    }

    /// The ACK of the caller's peer said this in `X-OpenVoIP-Opening`.
    fn opened(&mut self, _call: CallId, _callee: Leg, _opening: &str) {}

    /// The call is over.
    fn close(&mut self, now: wire::Time, call: CallId);
}

/// A media plane that changes nothing: sound goes from phone to phone by itself.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Unchanged;

impl MediaPlane for Unchanged {
    fn rewrite(
        &mut self,
        _now: wire::Time,
        _call: CallId,
        _from: Leg,
        _toward: Leg,
        sdp: &[u8],
        _role: Role,
    ) -> Result<Vec<u8>, Refused> {
        Ok(sdp.to_vec())
    }

    fn close(&mut self, _now: wire::Time, _call: CallId) {}
}
