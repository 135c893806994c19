//! What must be refused although it parses.
//!
//! In the order of RFC 3261 section 8.2: method, Request-URI, hops, required extensions. Whether a
//! dialog or transaction exists (481), or a request came twice by two ways (482), only the
//! transaction user knows.

use super::message::{Message, Method};
use super::parse::Refusal;
use super::uri::Uri;

/// What the element that checks a request can do.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// Methods it handles.
    pub methods: &'a [Method],
    /// Option tags it understands (Require, Proxy-Require).
    pub options: &'a [&'a str],
}

impl Policy<'_> {
    /// The methods as an Allow header lists them.
    pub fn allow(&self) -> String {
        self.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// Whether `request` must be refused: 501 and 405 by method, 416 by URI scheme, 483 by
/// Max-Forwards, 420 by Require.
pub fn check(request: &Message, policy: &Policy<'_>) -> Result<(), Refusal> {
    let Some(method) = request.method() else {
        return Ok(());
    };
    if !policy.methods.contains(method) {
        let known = !matches!(method, Method::Other(_));
        let refusal = match known {
            true => Refusal::new(405, "Method Not Allowed"),
            false => Refusal::new(501, "Not Implemented"),
        };
        return Err(refusal.with("Allow", policy.allow()));
    }
    let uri = Uri::parse(request.uri()).map_err(|_| Refusal::new(400, "Malformed Request-URI"))?;
    if !matches!(uri.scheme.as_str(), "sip" | "sips" | "tel") {
        return Err(Refusal::new(416, "Unsupported URI Scheme"));
    }
    match request.header("Max-Forwards").map(str::parse::<u8>) {
        // OPTIONS asks the element where the hops ran out (RFC 3261 section 11).
        Some(Ok(0)) if *method != Method::Options => {
            return Err(Refusal::new(483, "Too Many Hops"));
        }
        Some(Err(_)) => return Err(Refusal::new(400, "Malformed Max-Forwards")),
        _ => {}
    }
    // CANCEL and ACK follow their INVITE and are never refused for this (section 8.2.2.3).
    if !matches!(method, Method::Ack | Method::Cancel) {
        let unknown: Vec<&str> = ["Require", "Proxy-Require"]
            .into_iter()
            .flat_map(|name| request.list(name))
            .filter(|tag| !policy.options.iter().any(|o| o.eq_ignore_ascii_case(tag)))
            .collect();
        if !unknown.is_empty() {
            return Err(Refusal::new(420, "Bad Extension").with("Unsupported", unknown.join(", ")));
        }
    }
    Ok(())
}
