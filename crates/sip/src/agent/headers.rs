//! Which header fields pass from one leg to the other.
//!
//! A back-to-back user agent ends every hop-by-hop and dialog matter on each leg and passes the
//! rest untouched, so that extensions between the two phones work without our knowing them.

use wire::sip::Message;

/// Methods we handle.
pub(super) const METHODS: [wire::sip::Method; 12] = {
    use wire::sip::Method::*;
    [Invite, Ack, Cancel, Bye, Options, Register, Info, Message, Update, Prack, Refer, Notify]
};

/// Extensions that pass end to end, and so may be required.
pub(super) const OPTIONS: [&str; 8] =
    ["100rel", "timer", "replaces", "norefersub", "tdialog", "histinfo", "early-session", "precondition"];

/// Fields that belong to one leg.
const OF_ONE_LEG: [&str; 29] = [
    "Via",
    "Route",
    "Record-Route",
    "Path",
    "Service-Route",
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Contact",
    "Max-Forwards",
    "Authorization",
    "Proxy-Authorization",
    "WWW-Authenticate",
    "Proxy-Authenticate",
    "Authentication-Info",
    "Supported",
    "Require",
    "Proxy-Require",
    "Unsupported",
    "P-Asserted-Identity",
    "P-Preferred-Identity",
    "Identity",
    "Identity-Info",
    "RAck",
    "Refer-To",
    "Replaces",
    "Timestamp",
    crate::media_plane::OPENING,
];

/// Copies from `source` to `target` what passes, with the body if there is one.
pub(super) fn pass(source: &Message, target: &mut Message) {
    for header in &source.headers {
        let own = OF_ONE_LEG.iter().any(|name| header.is(name));
        let of_body = header.name().starts_with("Content-") || header.is("MIME-Version");
        if !own && (!of_body || !source.body.is_empty()) {
            target.headers.push(header.clone());
        }
    }
    for name in ["Supported", "Require", "Unsupported"] {
        let known: Vec<&str> =
            source.list(name).filter(|tag| OPTIONS.iter().any(|o| o.eq_ignore_ascii_case(tag))).collect();
        if !known.is_empty() {
            target.push(name, known.join(", "));
        }
    }
    target.body = source.body.clone();
}

/// Removes the body and what describes it.
pub(super) fn drop_body(message: &mut Message) {
    message.body.clear();
    message.headers.retain(|h| !h.name().starts_with("Content-"));
}

/// Whether an INVITE must be refused for its body (RFC 3261 section 8.2.3): it is no session
/// description, and its sender did not say that it may be ignored.
pub(super) fn must_refuse_body(message: &Message) -> bool {
    let optional = message.header("Content-Disposition").is_some_and(|d| {
        let handling = d.split(';').skip(1).filter_map(|p| p.split_once('='));
        let mut handling = handling.filter(|(name, _)| name.trim().eq_ignore_ascii_case("handling"));
        handling.any(|(_, value)| value.trim().eq_ignore_ascii_case("optional"))
    });
    !message.body.is_empty() && !has_sdp(message) && !optional
}

/// The methods we handle, as an Allow header lists them.
pub(super) fn allow() -> String {
    wire::sip::Policy { methods: &METHODS, options: &OPTIONS }.allow()
}

/// Whether the message carries a session description.
pub(super) fn has_sdp(message: &Message) -> bool {
    !message.body.is_empty() && message.content_type() == "application/sdp"
}
