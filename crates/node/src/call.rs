//! The story of a call.
//!
//! ```text
//! Resolving ──► Connecting ──► Inviting ──► Established ──► Ended
//!     │              │             │             │  ▲          ▲
//!     │              │             │             ▼  │          │
//!     │              │             │          Recovering ──────┤
//!     └──────────────┴─────────────┴───────────────────────────┘
//! ```
//!
//! *Resolving*: somebody dialled; the directory finds the callee's peers. *Connecting*: their
//! contacts are known, the way to them is being opened. *Inviting*: the INVITE is with them, phones
//! ring. *Established*: both sides talk. *Recovering*: the way between the peers has gone silent and
//! is being asked. *Ended*: with a cause, and for a failure with what was seen and what the person
//! can do. The SIP agent keeps the dialogs; this file keeps the meaning.

use std::collections::BTreeMap;

use sip::{CallId, Cause, Flow};
use wire::{NodeId, Time};

use crate::event::OpId;
use crate::locals::NO_DIGITS;
use crate::plane::{Heard, NO_KEY};
use crate::report::{CallReport, Failure};

/// Calls remembered after they ended.
pub const HISTORY: usize = 200;

/// The status of a request that was not sent since another key answers to the name: of those that
/// SIP has, the nearest (RFC 8224: invalid identity). No phone asks again by itself.
pub(crate) const KEY_CHANGED: u16 = 438;

/// And if no record of the name has the certificate of its authority.
pub(crate) const NOT_CERTIFIED: u16 = 437;

/// And if the domain of the name has no such user, or its proof is required and not there.
pub(crate) const NOT_PROVEN: u16 = 436;

/// And if what was dialled begins like a number and is none: Address Incomplete.
pub(crate) const MISTYPED: u16 = 484;

/// How far a call has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CallState {
    /// The directory looks for the callee.
    Resolving,
    /// The way to the callee's peers is being opened.
    Connecting,
    /// The INVITE is with the callee's phones.
    Inviting,
    /// A phone of the callee rings.
    Ringing,
    /// Both sides talk.
    Established,
    /// The way between the peers is silent and is being asked.
    Recovering,
    /// Over.
    Ended,
}

impl CallState {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            CallState::Resolving => "resolving",
            CallState::Connecting => "connecting",
            CallState::Inviting => "inviting",
            CallState::Ringing => "ringing",
            CallState::Established => "established",
            CallState::Recovering => "recovering",
            CallState::Ended => "ended",
        }
    }
}

/// One call.
pub(crate) struct Call {
    pub(crate) state: CallState,
    pub(crate) source: Flow,
    pub(crate) answered_by: Option<Flow>,
    pub(crate) op: Option<OpId>,
    started: Time,
    established: Option<Time>,
    report: CallReport,
}

impl Call {
    pub(crate) fn new(record: &sip::CallRecord, op: Option<OpId>) -> Self {
        let report = CallReport {
            call_id: record.sip_call_id.clone(),
            from: record.from.clone(),
            to: record.to.clone(),
            // Until ICE and relays come, peers reach each other directly or not at all.
            path: "direct".into(),
            reason: "both peers are reachable".into(),
            secured: "none".into(),
            phone_leg: "none".into(),
            ..CallReport::default()
        };
        Call {
            state: CallState::Resolving,
            source: record.source,
            answered_by: None,
            op,
            started: record.started,
            established: None,
            report,
        }
    }

    /// What was dialled means that name.
    pub(crate) fn name_callee(&mut self, name: &str) {
        name.clone_into(&mut self.report.to);
    }

    /// The peers this call goes through.
    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        [Some(self.source), self.answered_by].into_iter().flatten().filter_map(|flow| match flow {
            Flow::Peer(id) => Some(id),
            _ => None,
        })
    }

    /// Moves on, never back: a phone that rings does not undo an answer.
    pub(crate) fn advance(&mut self, state: CallState) {
        self.state = self.state.max(state);
    }

    pub(crate) fn establish(&mut self, now: Time, by: Flow) {
        self.advance(CallState::Established);
        self.answered_by = Some(by);
        self.established = Some(now);
        self.report.setup_ms = now.since(self.started).as_secs_f64() * 1e3;
        if !matches!((self.source, by), (Flow::Peer(_), _) | (_, Flow::Peer(_))) {
            self.report.reason = "both phones are at this peer".into();
        }
    }

    /// The path went silent, or is heard again.
    pub(crate) fn recover(&mut self, silent: bool) {
        match (self.state, silent) {
            (CallState::Established, true) => self.state = CallState::Recovering,
            (CallState::Recovering, false) => self.state = CallState::Established,
            _ => {}
        }
    }

    pub(crate) fn end(&mut self, now: Time, cause: Cause, status: u16, reason: &str) {
        self.state = CallState::Ended;
        self.report.status = status;
        self.report.reason = reason.to_owned();
        if let Some(since) = self.established {
            self.report.duration_ms = now.since(since).as_millis() as u64;
        }
        self.report.failure = failure(cause, status, reason, self.established.is_some());
    }

    /// The call as it is now, with what was heard.
    pub(crate) fn report(&self, now: Time, heard: Option<Heard>) -> CallReport {
        let mut report = self.report.clone();
        report.state = self.state.name().into();
        if let (Some(since), true) = (self.established, self.state != CallState::Ended) {
            report.duration_ms = now.since(since).as_millis() as u64;
        }
        if let Some(heard) = heard {
            report.rtp = heard.rtp;
            report.mos = heard.mos;
            report.codec = heard.codec;
            report.secured = heard.secured.into();
            report.digits = heard.digits;
            report.phone_leg = heard.phone_leg.into();
            report.recording = heard.recording;
        }
        report
    }
}

/// What went wrong, for a person: nothing, if the call was answered and somebody hung up.
fn failure(cause: Cause, status: u16, reason: &str, answered: bool) -> Option<Failure> {
    let (name, next_step) = match (cause, status) {
        (Cause::HungUp(_) | Cause::Command, _) if answered => return None,
        (Cause::PeerLost, _) => ("peer_lost", "call again: the other side may be back on another way"),
        (Cause::PhoneLost, _) => ("media", "see whether the phone is on and registered"),
        (Cause::Cancelled, _) => ("cancelled", "call again"),
        (_, NO_DIGITS) => {
            ("no_digits", "`openvoip calls` shows the calls of this peer, and the digits of each")
        }
        (_, 404) => ("not_found", "check the spelling; `openvoip lookup NAME --trace` shows the search"),
        (_, MISTYPED) => {
            ("mistyped", "dial it again, and compare it with what `openvoip status` says at theirs")
        }
        (_, KEY_CHANGED) => (
            "key_changed",
            "ask them on another way whether the key is theirs; if it is: `openvoip pins accept NAME`",
        ),
        (_, NOT_CERTIFIED) => (
            "not_certified",
            "nobody is called under that name; ask them what their `openvoip status` says of it",
        ),
        (_, NOT_PROVEN) => (
            "not_proven",
            "ask them for `openvoip identity proof NAME`, which whoever keeps their domain publishes; a key that you \
             have called and checked with them goes on after `openvoip pins accept NAME`",
        ),
        (_, 480) => ("unavailable", "their phone is off: leave a message with `openvoip msg`"),
        (_, 486 | 600) => ("busy", "try again later"),
        (_, 603) => ("declined", "they do not want to talk now"),
        (_, 408 | 504) => ("timeout", "nobody answered; try `openvoip ping NAME`"),
        (_, NO_KEY) => (
            "unprotected",
            "their peer named no key for the sound, without which this overlay carries none: it may be older",
        ),
        (_, 488 | 606) => {
            ("media", "the phones share no codec, or one asks for protection that another leg has not")
        }
        _ => ("failed", "try again; `openvoip status` shows whether this peer is online"),
    };
    Some(Failure {
        cause: name.into(),
        // The status of a call that was answered says nothing of its end.
        evidence: if status == 0 || answered { reason.to_owned() } else { format!("{status} {reason}") },
        next_step: next_step.into(),
    })
}

/// The calls of a peer: those under way, and the latest that ended.
#[derive(Default)]
pub(crate) struct Calls {
    pub(crate) live: BTreeMap<CallId, Call>,
    pub(crate) history: std::collections::VecDeque<CallReport>,
}

impl Calls {
    /// The calls that a phone speaks or holds, the latest first.
    pub(crate) fn of_phone(&self, phone: Flow) -> impl Iterator<Item = CallId> + '_ {
        let stands = |call: &Call| matches!(call.state, CallState::Established | CallState::Recovering);
        let is_its = move |call: &Call| call.source == phone || call.answered_by == Some(phone);
        self.live.iter().rev().filter(move |(_, call)| stands(call) && is_its(call)).map(|(id, _)| *id)
    }

    pub(crate) fn remember(&mut self, report: CallReport) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sip::Side;

    #[test]
    fn an_answered_call_that_somebody_ended_has_no_failure() {
        assert_eq!(failure(Cause::HungUp(Side::Caller), 200, "", true), None);
    }

    #[test]
    fn every_failure_says_what_to_do() {
        let cases = [
            (Cause::Refused, 404, "not_found"),
            (Cause::Refused, 437, "not_certified"),
            (Cause::Refused, 438, "key_changed"),
            (Cause::Refused, 436, "not_proven"),
            (Cause::Refused, 480, "unavailable"),
            (Cause::Refused, 484, "mistyped"),
            (Cause::Refused, 486, "busy"),
            (Cause::Refused, 603, "declined"),
            (Cause::Refused, 500, "failed"),
            (Cause::PeerLost, 0, "peer_lost"),
        ];
        for (cause, status, expected) in cases {
            let failure = failure(cause, status, "seen", false).unwrap();
            assert_eq!(failure.cause, expected);
            assert!(!failure.next_step.is_empty() && failure.evidence.contains("seen"));
        }
    }
}
