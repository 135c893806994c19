//! Structured header values: parameters, Via, name-addr, CSeq.

use std::fmt;

use super::message::Method;

/// The elements of a comma-separated header, blind to commas in quotes and angle brackets.
pub fn split_list(value: &str) -> impl Iterator<Item = &str> {
    split_outside(value, b',').map(str::trim).filter(|s| !s.is_empty())
}

fn split_outside(value: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        match find_outside(text, separator) {
            Some(at) => {
                rest = Some(&text[at + 1..]);
                Some(&text[..at])
            }
            None => rest.take(),
        }
    })
}

/// Where `wanted` first stands outside quotes and angle brackets.
fn find_outside(text: &str, wanted: u8) -> Option<usize> {
    let (mut quoted, mut angle, mut escaped) = (false, false, false);
    for (i, b) in text.bytes().enumerate() {
        if escaped {
            escaped = false;
            continue;
        }
        match b {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            _ if b == wanted && !angle => return Some(i),
            b'<' => angle = true,
            b'>' => angle = false,
            _ => {}
        }
    }
    None
}

/// A quoted string without its quotes and escapes; any other text unchanged.
pub fn unquote(text: &str) -> String {
    let text = text.trim();
    let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut out = String::with_capacity(inner.len());
    let mut escaped = false;
    for c in inner.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            out.push(c);
            escaped = false;
        }
    }
    out
}

/// Parameters of a header or URI: `;name=value;flag`. Values keep their quotes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Params(Vec<(String, Option<String>)>);

impl Params {
    /// The parameters in `text`, with or without a leading semicolon.
    pub fn parse(text: &str) -> Params {
        let pairs = split_outside(text, b';').map(str::trim).filter(|p| !p.is_empty());
        Params(
            pairs
                .map(|pair| match pair.split_once('=') {
                    Some((name, value)) => (name.trim().to_owned(), Some(value.trim().to_owned())),
                    None => (pair.to_owned(), None),
                })
                .collect(),
        )
    }

    /// Whether there is a parameter called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    /// The value of the parameter called `name`, if it has one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).and_then(|(_, v)| v.as_deref())
    }

    /// Sets a parameter, in its old place if it was there.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        let value = value.map(str::to_owned);
        match self.0.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            Some(pair) => pair.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Removes a parameter.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    /// Every parameter in its order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_deref()))
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| match value {
            Some(value) => write!(f, ";{name}={value}"),
            None => write!(f, ";{name}"),
        })
    }
}

/// One Via: where a response goes (RFC 3261 section 20.42).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Via {
    /// `UDP`, `TCP`, `TLS`, `WS`, ...
    pub transport: String,
    /// The host that sent the request, IPv6 in brackets.
    pub host: String,
    /// Its port, if said.
    pub port: Option<u16>,
    /// `branch`, `received`, `rport` and the others.
    pub params: Params,
}

impl Via {
    /// A Via of ours.
    pub fn new(transport: &str, host: &str, port: Option<u16>, branch: &str) -> Via {
        let mut params = Params::default();
        params.set("branch", Some(branch));
        Via { transport: transport.to_owned(), host: host.to_owned(), port, params }
    }

    /// The first Via in a header value.
    pub fn parse(value: &str) -> Option<Via> {
        let value = split_list(value).next()?;
        let (head, params) = match find_outside(value, b';') {
            Some(at) => (&value[..at], &value[at..]),
            None => (value, ""),
        };
        // SLASH and LWS are loose: `SIP / 2.0 / UDP host` is legal.
        let mut parts = head.splitn(3, '/');
        let (name, version, rest) = (parts.next()?, parts.next()?, parts.next()?.trim());
        if !name.trim().eq_ignore_ascii_case("SIP") || version.trim() != "2.0" {
            return None;
        }
        let (transport, sent_by) = rest.split_once(|c: char| c.is_whitespace())?;
        let (host, port) = split_host_port(sent_by.trim())?;
        let host = host.trim().to_owned();
        Some(Via { transport: transport.to_owned(), host, port, params: Params::parse(params) })
    }

    /// The branch; empty if missing.
    pub fn branch(&self) -> &str {
        self.params.get("branch").unwrap_or("")
    }

    /// Whether the branch was made by RFC 3261's rules and so names the transaction alone.
    pub fn has_magic_cookie(&self) -> bool {
        self.branch().len() > 7 && self.branch().starts_with("z9hG4bK")
    }

    /// The sent-by value in lower case, for comparing.
    pub fn sent_by(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host.to_ascii_lowercase()),
            None => self.host.to_ascii_lowercase(),
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`; a bare IPv6 address is taken as a host (RFC 5118
/// section 4.5 shows implementations that forget the brackets).
pub(super) fn split_host_port(text: &str) -> Option<(&str, Option<u16>)> {
    let text = text.trim();
    let (host, port) = if text.starts_with('[') {
        let end = text.find(']')? + 1;
        (&text[..end], text[end..].trim())
    } else if text.matches(':').count() > 1 {
        (text, "")
    } else {
        match text.find(':') {
            Some(at) => (text[..at].trim(), &text[at..]),
            None => (text, ""),
        }
    };
    if host.is_empty() {
        return None;
    }
    match port.strip_prefix(':') {
        Some(digits) => Some((host, Some(digits.trim().parse().ok()?))),
        None if port.is_empty() => Some((host, None)),
        None => None,
    }
}

/// A name-addr or addr-spec with header parameters: From, To, Contact, Route, Refer-To.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameAddr {
    /// What stands before the angle bracket, quotes included; empty if nothing does.
    pub display: String,
    /// The URI as written.
    pub uri: String,
    /// Parameters of the header (`tag`, `expires`, `+sip.instance`), not of the URI.
    pub params: Params,
}

impl NameAddr {
    /// The address `<uri>`.
    pub fn new(uri: impl Into<String>) -> NameAddr {
        NameAddr { display: String::new(), uri: uri.into(), params: Params::default() }
    }

    /// One element of an address header.
    pub fn parse(value: &str) -> Option<NameAddr> {
        let value = value.trim();
        let (display, uri, params) = match find_outside(value, b'<') {
            Some(open) => {
                let close = open + value[open..].find('>')?;
                (value[..open].trim(), &value[open + 1..close], &value[close + 1..])
            }
            // Without brackets every parameter belongs to the header, and the URI has no headers of
            // its own (RFC 3261 section 20).
            None if value.contains('?') => return None,
            None => match value.find(';') {
                Some(at) => ("", &value[..at], &value[at..]),
                None => ("", value, ""),
            },
        };
        let uri = uri.trim();
        // None of these stands in a URI unescaped; written between brackets it would read otherwise.
        if uri.is_empty() || uri.contains(['<', '>', '"']) {
            return None;
        }
        Some(NameAddr { display: display.to_owned(), uri: uri.to_owned(), params: Params::parse(params) })
    }

    /// The tag parameter.
    pub fn tag(&self) -> Option<&str> {
        self.params.get("tag")
    }

    /// This address with that tag.
    pub fn with_tag(mut self, tag: &str) -> NameAddr {
        self.params.set("tag", Some(tag));
        self
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.display.is_empty() {
            write!(f, "{} ", self.display)?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

/// A CSeq header: number and method.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CSeq {
    /// The number, ordering requests within a dialog.
    pub number: u32,
    /// The method.
    pub method: Method,
}

impl CSeq {
    /// The header's value.
    pub fn parse(value: &str) -> Option<CSeq> {
        let mut words = value.split_ascii_whitespace();
        let number = words.next()?.parse().ok()?;
        Some(CSeq { number, method: Method::parse(words.next()?) })
    }
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_quotes_and_brackets_do_not_split() {
        let value = r#""Doe, John" <sip:j@x;a="b,c">, sip:k@y , "a\",b" <sip:l@z>"#;
        assert_eq!(split_list(value).count(), 3);
    }

    #[test]
    fn a_via_may_have_blanks_in_odd_places() {
        let via = Via::parse("SIP / 2.0 / UDP  192.0.2.2 : 5061 ; branch=z9hG4bK390skdjuw;rport");
        let via = via.unwrap();
        assert_eq!((via.host.as_str(), via.port), ("192.0.2.2", Some(5061)));
        assert!(via.has_magic_cookie() && via.params.has("rport"));
        let six = Via::parse("SIP/2.0/TCP [2001:db8::9]:5060;branch=x").unwrap();
        assert_eq!((six.host.as_str(), six.port), ("[2001:db8::9]", Some(5060)));
    }

    #[test]
    fn a_branch_of_any_letters_is_compared_and_not_cut() {
        let via = Via::parse("SIP/2.0/UDP h;branch=z9hG4b\u{e9}\u{e9}").unwrap();
        assert!(!via.has_magic_cookie());
    }

    #[test]
    fn a_bracket_left_over_makes_no_address() {
        assert_eq!(NameAddr::parse("sip:a@b>"), None);
        assert_eq!(NameAddr::parse("<sip:a<@b>"), None);
    }

    #[test]
    fn parameters_outside_the_brackets_belong_to_the_header() {
        let a = NameAddr::parse("sip:a@b;tag=1").unwrap();
        assert_eq!((a.uri.as_str(), a.tag()), ("sip:a@b", Some("1")));
        let b = NameAddr::parse(r#""x <y>" <sip:a@b;lr>;tag=2"#).unwrap();
        assert_eq!((b.uri.as_str(), b.tag()), ("sip:a@b;lr", Some("2")));
        assert_eq!(b.to_string(), r#""x <y>" <sip:a@b;lr>;tag=2"#);
    }
}
