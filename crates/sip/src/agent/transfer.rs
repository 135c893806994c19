//! Transfers (RFC 3515, 3891, 3892).
//!
//! A phone that transfers a call names the conversation it has with the target as it knows it:
//! with tags and Call-ID of its own leg. Those mean nothing elsewhere. In a Refer-To they are
//! turned into the names of the same call's next leg, towards the target; where an INVITE with
//! Replaces then meets the call again, they are turned into those of the target phone's own leg, or
//! left alone where the neighbour on that leg is the target itself.

use wire::sip::{Message, NameAddr, Uri, percent_decode};

use super::Agent;
use super::call::Destination;
use crate::address::written;
use crate::flow::Flow;
use crate::media_plane::Side;

/// The value of a Replaces header.
struct Replaces<'a> {
    call_id: &'a str,
    to_tag: String,
    from_tag: String,
    /// `early-only` and what else may come.
    rest: String,
}

impl<'a> Replaces<'a> {
    fn parse(value: &'a str) -> Option<Replaces<'a>> {
        let (call_id, params) = value.split_once(';')?;
        let mut params = wire::sip::Params::parse(params);
        let to_tag = params.get("to-tag")?.to_owned();
        let from_tag = params.get("from-tag")?.to_owned();
        params.remove("to-tag");
        params.remove("from-tag");
        Some(Replaces { call_id: call_id.trim(), to_tag, from_tag, rest: params.to_string() })
    }
}

impl Agent {
    /// The dialog with that name: its call, pair, and side. `true` if the name is from the
    /// neighbour's point of view, so that it is *we* who are the party named by the To tag.
    fn named(&self, replaces: &Replaces<'_>) -> Option<(bool, (crate::event::CallId, u16, Side))> {
        let Replaces { call_id, to_tag, from_tag, .. } = replaces;
        let key = |local: &str, remote: &str| ((*call_id).to_owned(), local.to_owned(), remote.to_owned());
        if let Some(at) = self.dialogs.get(&key(to_tag, from_tag)) {
            return Some((true, *at));
        }
        self.dialogs.get(&key(from_tag, to_tag)).map(|at| (false, *at))
    }

    /// The name of the other leg of the call that `value` names, and who is at its end.
    fn other_leg(&self, value: &str) -> Option<(String, String)> {
        let replaces = Replaces::parse(value)?;
        let (at_us, (call, number, side)) = self.named(&replaces)?;
        if !at_us {
            return None;
        }
        let pair = self.calls.get(&call)?.pairs.get(&number)?;
        let other = match side.other() {
            Side::Caller => &pair.caller,
            Side::Callee => &pair.callee,
        };
        let (call_id, to, from) = (&other.call_id, other.remote_tag(), other.local_tag());
        let value = format!("{call_id};to-tag={to};from-tag={from}{}", replaces.rest);
        Some((value, other.peer.clone()))
    }

    /// Where an INVITE with this Replaces goes, if it names a call of ours.
    pub(super) fn replacement(&self, value: &str) -> Option<Destination> {
        let replaces = Replaces::parse(value)?;
        let (at_us, (call, number, side)) = self.named(&replaces)?;
        let pair = self.calls.get(&call)?.pairs.get(&number)?;
        let (value, target) = match at_us {
            true => (self.other_leg(value)?.0, side.other()),
            false => (value.to_owned(), side),
        };
        let dialog = match target {
            Side::Caller => &pair.caller,
            Side::Callee => &pair.callee,
        };
        Some(Destination {
            flow: dialog.flow,
            uri: dialog.target.clone(),
            routes: dialog.routes.clone(),
            replaces: Some(value),
        })
    }

    /// Writes Refer-To and Referred-By so that they mean the same to the neighbour at `toward`.
    pub(super) fn translate_refer(&self, toward: Flow, request: &Message, out: &mut Message) {
        let Some(refer_to) = request.header("Refer-To") else {
            return;
        };
        out.push("Refer-To", self.refer_to(toward, refer_to).unwrap_or_else(|| refer_to.to_owned()));
        let by = request.header("Referred-By").and_then(NameAddr::parse);
        let aor = by.as_ref().and_then(|b| self.addresses.aor(&b.uri));
        if let (Some(mut by), Some(aor)) = (by, aor) {
            by.uri = format!("sip:{}", written(&aor));
            out.set("Referred-By", by.to_string());
        }
    }

    fn refer_to(&self, toward: Flow, value: &str) -> Option<String> {
        let mut address = NameAddr::parse(value)?;
        let uri = Uri::parse(&address.uri).ok()?;
        let mut target = self.addresses.aor(&address.uri)?;
        let mut fields = Vec::new();
        for field in uri.headers.as_deref().unwrap_or("").split('&').filter(|f| !f.is_empty()) {
            let (name, content) = field.split_once('=').unwrap_or((field, ""));
            let content = percent_decode(content);
            match self.other_leg(&content).filter(|_| name.eq_ignore_ascii_case("Replaces")) {
                Some((other, peer)) => {
                    target = peer;
                    fields.push(format!("Replaces={}", escape(&other)));
                }
                None => fields.push(field.to_owned()),
            }
        }
        let mut new = self.addresses.uri_for(&toward, &target);
        if let Some(method) = uri.params.get("method") {
            new.push_str(&format!(";method={method}"));
        }
        if !fields.is_empty() {
            new.push_str(&format!("?{}", fields.join("&")));
        }
        address.uri = new;
        // A bare URI stays bare where it may (RFC 3261 section 20): there are phones that transfer
        // without angle brackets, and cannot be transferred with them (baresip 1.0).
        let bare = !value.contains('<') && !address.uri.contains([',', ';', '?']);
        let written = address.to_string();
        Some(if bare && written == format!("<{}>", address.uri) { address.uri } else { written })
    }
}

/// Whether a REFER says to whom (RFC 3515 section 2.4.2).
pub(super) fn is_well_formed(refer: &Message) -> bool {
    let to = refer.header("Refer-To").and_then(NameAddr::parse);
    refer.headers_named("Refer-To").count() == 1 && to.is_some_and(|t| Uri::parse(&t.uri).is_ok())
}

/// Escapes a header value inside a URI (RFC 3261 section 25.1, `hvalue`).
fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.!~*'()[]/?:+$".contains(&b);
    let mut out = String::new();
    for b in text.bytes() {
        if plain(b) {
            out.push(b as char);
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}
