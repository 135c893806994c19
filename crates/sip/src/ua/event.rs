//! What a user agent tells its driver.

/// A call, or a message, of this user agent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Handle(pub u64);

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UaEvent {
    /// The registrar accepted us, or renewed us.
    Registered,
    /// The registrar has forgotten us, as we asked.
    Unregistered,
    /// The registrar refused us, or is silent.
    RegisterFailed {
        /// Its answer; 408 for none.
        status: u16,
    },
    /// Somebody calls.
    Incoming {
        /// The call.
        handle: Handle,
        /// Who, as `user@domain`.
        from: String,
        /// Whom he called, as `user@domain`.
        to: String,
        /// The offer; `None` asks us for one.
        offer: Option<Vec<u8>>,
        /// A call of ours that this one takes the place of (RFC 3891); it ends by the answer.
        replaces: Option<Handle>,
    },
    /// The other side rings, or says something early.
    Ringing {
        /// The call.
        handle: Handle,
        /// 180, 183, ...
        status: u16,
        /// A description to be heard before the answer.
        sdp: Option<Vec<u8>>,
    },
    /// The call is made: the other side answered, or, where our own answer held the offer, its ACK
    /// held the answer.
    Answered {
        /// The call.
        handle: Handle,
        /// Its description; empty if it sent none.
        sdp: Vec<u8>,
    },
    /// The other side answered a call without an offer by one of its own, and waits for
    /// [`answer`](super::UserAgent::answer).
    LateOffer {
        /// The call.
        handle: Handle,
        /// Its offer.
        sdp: Vec<u8>,
    },
    /// The call came to nothing.
    Failed {
        /// The call.
        handle: Handle,
        /// Why.
        status: u16,
        /// In words.
        reason: String,
    },
    /// The other side changes the session.
    Reoffer {
        /// The call.
        handle: Handle,
        /// What it offers; `None` asks us for an offer.
        sdp: Option<Vec<u8>>,
    },
    /// The other side took the change we offered.
    Reanswered {
        /// The call.
        handle: Handle,
        /// Its description; empty if it sent none.
        sdp: Vec<u8>,
    },
    /// The other side refused the change we offered; the call goes on as it was.
    ReofferFailed {
        /// The call.
        handle: Handle,
        /// Why; 491 means that both sides offered at once.
        status: u16,
        /// In words.
        reason: String,
    },
    /// The call is over.
    Ended {
        /// The call.
        handle: Handle,
        /// The Reason header, if there was one, or what else is known; empty if we hung up.
        reason: String,
    },
    /// A message came, and was accepted unless messages are answered by hand.
    MessageReceived {
        /// The message, for [`answer_message`](super::UserAgent::answer_message).
        handle: Handle,
        /// Who sent it.
        from: String,
        /// The name shown beside it, quotes included; empty if there is none.
        display: String,
        /// To whom.
        to: String,
        /// Its Call-ID, which names it.
        id: String,
        /// What protected it between two peers, if it came over such.
        protected: Option<String>,
        /// Its content type.
        content_type: String,
        /// The text.
        body: Vec<u8>,
    },
    /// What became of a message of ours.
    MessageResult {
        /// The message.
        handle: Handle,
        /// The answer; 408 for none.
        status: u16,
        /// In words.
        reason: String,
    },
    /// The other side sent an INFO: keys pressed, mostly.
    Info {
        /// The call.
        handle: Handle,
        /// Its content type.
        content_type: String,
        /// Its body.
        body: Vec<u8>,
    },
    /// What became of an INFO of ours.
    InfoResult {
        /// The call.
        handle: Handle,
        /// The answer; 408 for none.
        status: u16,
    },
    /// The other side asks us to call somebody else; accepted (202), and progress is to be told
    /// with [`refer_progress`](super::UserAgent::refer_progress).
    Referred {
        /// The call.
        handle: Handle,
        /// Whom to call: a URI that [`invite`](super::UserAgent::invite) takes.
        refer_to: String,
        /// Who asked, as `user@domain`; empty if not said.
        referred_by: String,
    },
    /// How our own [`refer`](super::UserAgent::refer) goes: 202 when it was accepted, then what the
    /// other side reports of its new call, or a refusal.
    Transfer {
        /// The call.
        handle: Handle,
        /// The answer, or the reported status.
        status: u16,
        /// In words.
        reason: String,
    },
}
