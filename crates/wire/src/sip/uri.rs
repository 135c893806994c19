//! SIP and tel URIs, read as leniently as phones write them.

use std::fmt;

use super::field::{Params, split_host_port};

/// A text that is no URI.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a SIP URI")]
pub struct NotAUri;

/// A `sip:`, `sips:`, `tel:` or other URI (RFC 3261 section 19.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uri {
    /// The scheme in lower case.
    pub scheme: String,
    /// The user part as written, or the number of a tel URI; empty if there is none.
    pub user: String,
    /// The password, if someone still writes one.
    pub password: Option<String>,
    /// The host, IPv6 in brackets; empty for a tel URI.
    pub host: String,
    /// The port, if said.
    pub port: Option<u16>,
    /// URI parameters.
    pub params: Params,
    /// What stands after the question mark, as written.
    pub headers: Option<String>,
}

impl Uri {
    /// The URI `sip:user@host`.
    pub fn sip(user: &str, host: &str, port: Option<u16>) -> Uri {
        Uri {
            scheme: "sip".into(),
            user: user.into(),
            password: None,
            host: host.into(),
            port,
            params: Params::default(),
            headers: None,
        }
    }

    /// Reads a URI without brackets round it.
    pub fn parse(text: &str) -> Result<Uri, NotAUri> {
        let (scheme, rest) = text.trim().split_once(':').ok_or(NotAUri)?;
        let token = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        if scheme.is_empty() || !scheme.bytes().all(token) {
            return Err(NotAUri);
        }
        let scheme = scheme.to_ascii_lowercase();
        let mut uri = Uri::sip("", "", None);
        if !matches!(scheme.as_str(), "sip" | "sips") {
            let (user, params) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
            uri.user = user.into();
            uri.params = Params::parse(params);
            return Ok(Uri { scheme, ..uri });
        }
        // The user part may hold `;` and `?`, so it is cut off first.
        let host_part = match rest.rsplit_once('@') {
            Some((user, host_part)) => {
                let (user, password) = match user.split_once(':') {
                    Some((user, password)) => (user, Some(password.to_owned())),
                    None => (user, None),
                };
                uri.user = user.to_owned();
                uri.password = password;
                host_part
            }
            None => rest,
        };
        let (host_part, headers) = match host_part.split_once('?') {
            Some((before, headers)) => (before, Some(headers.to_owned())),
            None => (host_part, None),
        };
        let (host, params) = host_part.split_at(host_part.find(';').unwrap_or(host_part.len()));
        let (host, port) = split_host_port(host).ok_or(NotAUri)?;
        if host.bytes().any(|b| b.is_ascii_whitespace() || b == b'<' || b == b'>') {
            return Err(NotAUri);
        }
        uri.params = Params::parse(params);
        Ok(Uri { scheme, host: host.to_owned(), port, headers, ..uri })
    }

    /// The user part with its percent escapes undone.
    pub fn user_decoded(&self) -> String {
        percent_decode(&self.user)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, self.user)?;
        if let Some(password) = &self.password {
            write!(f, ":{password}")?;
        }
        if !self.host.is_empty() {
            let at = if self.user.is_empty() && self.password.is_none() { "" } else { "@" };
            write!(f, "{at}{}", self.host)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)?;
        match &self.headers {
            Some(headers) => write!(f, "?{headers}"),
            None => Ok(()),
        }
    }
}

/// Undoes `%41` escapes; anything else, and escapes that make no UTF-8, stay as they are.
pub fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let hex = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let (mut out, mut i) = (Vec::with_capacity(bytes.len()), 0);
    while i < bytes.len() {
        let pair = (bytes.get(i + 1).copied().and_then(hex), bytes.get(i + 2).copied().and_then(hex));
        match (bytes[i], pair) {
            (b'%', (Some(high), Some(low))) => {
                out.push(high * 16 + low);
                i += 3;
            }
            (b, _) => {
                out.push(b);
                i += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// Escapes what may not stand in the user part of a URI (RFC 3261 section 25.1, `user`).
pub fn percent_encode_user(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,".contains(&b) {
            out.push(b as char);
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_survives_being_written() {
        for text in [
            "sip:bob@example.org",
            "sip:bob:secret@[2001:db8::1]:5062;transport=tcp;lr",
            "sip:192.0.2.1",
            "sips:1212@gateway.example;user=phone",
            "sip:carol@chicago.example?Replaces=a%40b%3Bto-tag%3D1",
            "tel:+15551234;phone-context=example.org",
            "sip:;case=of;odd@host.example",
        ] {
            assert_eq!(Uri::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for text in ["", "bob", "sip:", "sip:bob@", "sip:bob@host:99999", "sip:b@[::1", "<sip:a@b>"] {
            assert_eq!(Uri::parse(text), Err(NotAUri), "{text}");
        }
    }

    #[test]
    fn escapes_are_undone_and_made() {
        assert_eq!(percent_decode("bob%40other.example"), "bob@other.example");
        assert_eq!(percent_decode("50%"), "50%");
        assert_eq!(percent_encode_user("bob@other.example"), "bob%40other.example");
    }
}
