//! A SIP message: start line, header fields, body.

use std::borrow::Cow;
use std::fmt;

use super::field::{CSeq, NameAddr, Via, split_list};

/// Request methods (RFC 3261, 3262, 3311, 3428, 3515, 3903, 6086, 6665).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the variants are the methods' names")]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Register,
    Options,
    Info,
    Message,
    Update,
    Prack,
    Refer,
    Notify,
    Subscribe,
    Publish,
    /// A method this peer does not know, as it was spelled.
    Other(String),
}

impl Method {
    /// Every method with a name of its own here.
    pub const KNOWN: [Method; 14] = [
        Method::Invite,
        Method::Ack,
        Method::Bye,
        Method::Cancel,
        Method::Register,
        Method::Options,
        Method::Info,
        Method::Message,
        Method::Update,
        Method::Prack,
        Method::Refer,
        Method::Notify,
        Method::Subscribe,
        Method::Publish,
    ];

    /// The method with this name; methods are case-sensitive (RFC 3261 section 7.1).
    pub fn parse(name: &str) -> Method {
        Method::KNOWN
            .into_iter()
            .find(|m| m.as_str() == name)
            .unwrap_or_else(|| Method::Other(name.to_owned()))
    }

    /// Its name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Register => "REGISTER",
            Method::Options => "OPTIONS",
            Method::Info => "INFO",
            Method::Message => "MESSAGE",
            Method::Update => "UPDATE",
            Method::Prack => "PRACK",
            Method::Refer => "REFER",
            Method::Notify => "NOTIFY",
            Method::Subscribe => "SUBSCRIBE",
            Method::Publish => "PUBLISH",
            Method::Other(name) => name,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Header names with a compact form, and those whose spelling we settle (RFC 3261 section 20).
const NAMES: &[(&str, &str)] = &[
    ("Via", "v"),
    ("From", "f"),
    ("To", "t"),
    ("Call-ID", "i"),
    ("CSeq", ""),
    ("Contact", "m"),
    ("Max-Forwards", ""),
    ("Content-Length", "l"),
    ("Content-Type", "c"),
    ("Content-Encoding", "e"),
    ("Content-Disposition", ""),
    ("Allow", ""),
    ("Allow-Events", "u"),
    ("Supported", "k"),
    ("Require", ""),
    ("Proxy-Require", ""),
    ("Unsupported", ""),
    ("Route", ""),
    ("Record-Route", ""),
    ("Expires", ""),
    ("Min-Expires", ""),
    ("User-Agent", ""),
    ("Server", ""),
    ("Subject", "s"),
    ("Event", "o"),
    ("Subscription-State", ""),
    ("Refer-To", "r"),
    ("Referred-By", "b"),
    ("Replaces", ""),
    ("Session-Expires", "x"),
    ("Min-SE", ""),
    ("RSeq", ""),
    ("RAck", ""),
    ("Reason", ""),
    ("Warning", ""),
    ("Retry-After", ""),
    ("Timestamp", ""),
    ("Date", ""),
    ("Accept", ""),
    ("Accept-Contact", "a"),
    ("Reject-Contact", "j"),
    ("Request-Disposition", "d"),
    ("Authorization", ""),
    ("Proxy-Authorization", ""),
    ("WWW-Authenticate", ""),
    ("Proxy-Authenticate", ""),
    ("Authentication-Info", ""),
    ("Path", ""),
    ("Service-Route", ""),
    ("P-Asserted-Identity", ""),
    ("P-Preferred-Identity", ""),
    ("Privacy", ""),
    ("Identity", "y"),
    ("Identity-Info", "n"),
];

/// The settled spelling of a header name.
pub(super) fn canonical(name: &str) -> Cow<'static, str> {
    let compact = name.len() == 1;
    NAMES
        .iter()
        .find(|(full, short)| {
            let form = if compact { short } else { full };
            form.len() == name.len() && form.eq_ignore_ascii_case(name)
        })
        .map(|(full, _)| Cow::Borrowed(*full))
        .unwrap_or_else(|| Cow::Owned(name.to_owned()))
}

/// A text that cannot break out of its line: control characters become spaces.
fn one_line(text: &str) -> String {
    let bad = |c: char| c.is_control() && c != '\t';
    if text.contains(bad) { text.replace(bad, " ").trim().to_owned() } else { text.trim().to_owned() }
}

/// One header field: a name in its settled spelling and a value without folds or outer blanks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    name: Cow<'static, str>,
    value: String,
}

impl Header {
    /// A header field; a line break in `value` becomes a space.
    pub fn new(name: &str, value: impl AsRef<str>) -> Self {
        Header { name: canonical(name), value: one_line(value.as_ref()) }
    }

    /// The name, in full and in its usual spelling.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether this is the header called `name` (long form, any case).
    pub fn is(&self, name: &str) -> bool {
        self.name.len() == name.len() && self.name.eq_ignore_ascii_case(name)
    }
}

/// What a message begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Start {
    /// A request line.
    Request {
        /// What is asked for.
        method: Method,
        /// Of whom: the Request-URI as written.
        uri: String,
    },
    /// A status line.
    Status {
        /// The status code, 100 to 699.
        code: u16,
        /// The reason phrase, for people.
        reason: String,
    },
}

/// A SIP request or response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The start line.
    pub start: Start,
    /// The header fields in their order. `Content-Length` is not among them: writing adds it.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Vec<u8>,
}

impl Message {
    /// A request without headers.
    pub fn request(method: Method, uri: impl AsRef<str>) -> Self {
        let uri = uri.as_ref().replace(|c: char| c.is_control() || c == ' ', "");
        Message { start: Start::Request { method, uri }, headers: Vec::new(), body: Vec::new() }
    }

    /// A response without headers.
    pub fn response(code: u16, reason: impl AsRef<str>) -> Self {
        let reason = one_line(reason.as_ref());
        Message { start: Start::Status { code, reason }, headers: Vec::new(), body: Vec::new() }
    }

    /// The response to `request` with the headers every response copies (RFC 3261 section 8.2.6).
    /// An empty `reason` stands for the usual phrase. The To tag is left to the caller.
    pub fn reply_to(request: &Message, code: u16, reason: &str) -> Self {
        let mut reply = Message::response(code, if reason.is_empty() { reason_phrase(code) } else { reason });
        for header in &request.headers {
            let copied = ["Via", "From", "To", "Call-ID", "CSeq"].iter().any(|n| header.is(n));
            if copied || (code == 100 && header.is("Timestamp")) {
                reply.headers.push(header.clone());
            }
        }
        reply
    }

    /// Whether this is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.start, Start::Request { .. })
    }

    /// The request's method; `None` for a response.
    pub fn method(&self) -> Option<&Method> {
        match &self.start {
            Start::Request { method, .. } => Some(method),
            Start::Status { .. } => None,
        }
    }

    /// Whether this is a request with that method.
    pub fn is(&self, method: &Method) -> bool {
        self.method() == Some(method)
    }

    /// The Request-URI; empty for a response.
    pub fn uri(&self) -> &str {
        match &self.start {
            Start::Request { uri, .. } => uri,
            Start::Status { .. } => "",
        }
    }

    /// The status code; 0 for a request.
    pub fn status(&self) -> u16 {
        match self.start {
            Start::Status { code, .. } => code,
            Start::Request { .. } => 0,
        }
    }

    /// The reason phrase; empty for a request.
    pub fn reason(&self) -> &str {
        match &self.start {
            Start::Status { reason, .. } => reason,
            Start::Request { .. } => "",
        }
    }

    /// The first header called `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|h| h.is(name)).map(Header::value)
    }

    /// Every header called `name`, in order.
    pub fn headers_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |h| h.is(name)).map(Header::value)
    }

    /// Every element of the comma-separated headers called `name`.
    pub fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers_named(name).flat_map(split_list)
    }

    /// Whether the comma-separated headers called `name` hold `token`.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|t| t.eq_ignore_ascii_case(token))
    }

    /// Appends a header.
    pub fn push(&mut self, name: &str, value: impl AsRef<str>) {
        self.headers.push(Header::new(name, value));
    }

    /// Appends a header and returns the message, for building.
    pub fn with(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.push(name, value);
        self
    }

    /// Sets the body and its type, and returns the message, for building.
    pub fn with_body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.set("Content-Type", content_type);
        self.body = body.into();
        self
    }

    /// Replaces the first header called `name`, or appends one; later ones of that name go.
    pub fn set(&mut self, name: &str, value: impl AsRef<str>) {
        let new = Header::new(name, value);
        match self.headers.iter().position(|h| h.is(new.name())) {
            Some(at) => {
                self.headers[at] = new;
                let name = self.headers[at].name.clone();
                let mut index = 0;
                self.headers.retain(|h| {
                    index += 1;
                    index - 1 <= at || !h.is(&name)
                });
            }
            None => self.headers.push(new),
        }
    }

    /// Removes every header called `name`.
    pub fn remove(&mut self, name: &str) {
        self.headers.retain(|h| !h.is(name));
    }

    /// The topmost Via, if there is one that parses.
    pub fn via(&self) -> Option<Via> {
        self.header("Via").and_then(Via::parse)
    }

    /// Puts a Via above the others.
    pub fn push_via(&mut self, via: &Via) {
        self.headers.insert(0, Header::new("Via", via.to_string()));
    }

    /// Takes the topmost Via off.
    pub fn pop_via(&mut self) -> Option<Via> {
        let at = self.headers.iter().position(|h| h.is("Via"))?;
        Via::parse(self.headers.remove(at).value())
    }

    /// Replaces the topmost Via.
    pub fn replace_via(&mut self, via: &Via) {
        match self.headers.iter().position(|h| h.is("Via")) {
            Some(at) => self.headers[at] = Header::new("Via", via.to_string()),
            None => self.push_via(via),
        }
    }

    /// The From header.
    pub fn from(&self) -> Option<NameAddr> {
        self.header("From").and_then(NameAddr::parse)
    }

    /// The To header.
    pub fn to(&self) -> Option<NameAddr> {
        self.header("To").and_then(NameAddr::parse)
    }

    /// The tag of the From header.
    pub fn from_tag(&self) -> Option<String> {
        self.from()?.tag().map(str::to_owned)
    }

    /// The tag of the To header.
    pub fn to_tag(&self) -> Option<String> {
        self.to()?.tag().map(str::to_owned)
    }

    /// Gives the To header that tag, in place of any it has.
    pub fn set_to_tag(&mut self, tag: &str) {
        if let Some(mut to) = self.to() {
            to.params.set("tag", Some(tag));
            self.set("To", to.to_string());
        }
    }

    /// The Call-ID; empty if missing.
    pub fn call_id(&self) -> &str {
        self.header("Call-ID").unwrap_or("")
    }

    /// The CSeq header.
    pub fn cseq(&self) -> Option<CSeq> {
        self.header("CSeq").and_then(CSeq::parse)
    }

    /// The first Contact.
    pub fn contact(&self) -> Option<NameAddr> {
        self.list("Contact").next().and_then(NameAddr::parse)
    }

    /// The media type of the body in lower case and without parameters; empty if not said.
    pub fn content_type(&self) -> String {
        let value = self.header("Content-Type").unwrap_or("");
        value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
    }

    /// The message as it goes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let size: usize = self.headers.iter().map(|h| h.name.len() + h.value.len() + 4).sum();
        let mut out = Vec::with_capacity(size + self.body.len() + 160);
        match &self.start {
            Start::Request { method, uri } => {
                out.extend_from_slice(method.as_str().as_bytes());
                out.push(b' ');
                out.extend_from_slice(uri.as_bytes());
                out.extend_from_slice(b" SIP/2.0\r\n");
            }
            Start::Status { code, reason } => {
                out.extend_from_slice(b"SIP/2.0 ");
                out.extend_from_slice(code.to_string().as_bytes());
                out.push(b' ');
                out.extend_from_slice(reason.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
        }
        for header in &self.headers {
            out.extend_from_slice(header.name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(header.value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"Content-Length: ");
        out.extend_from_slice(self.body.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&self.body);
        out
    }
}

/// The usual phrase for a status code (RFC 3261 section 21 and the extensions).
pub fn reason_phrase(code: u16) -> &'static str {
    match code {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        494 => "Security Agreement Required",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        _ => match code / 100 {
            1 => "Progress",
            2 => "Success",
            3 => "Redirection",
            4 => "Request Failure",
            5 => "Server Failure",
            _ => "Global Failure",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_value_cannot_start_a_new_line() {
        let m = Message::response(200, "OK\r\nEvil: 1").with("Subject", "a\r\nEvil: 2");
        let text = String::from_utf8(m.to_bytes()).unwrap();
        assert!(!text.contains("\r\nEvil"), "{text}");
    }

    #[test]
    fn setting_a_header_leaves_exactly_one() {
        let mut m = Message::response(200, "OK").with("Via", "a").with("k", "x").with("K", "y");
        m.set("Supported", "z");
        assert_eq!(m.headers_named("supported").collect::<Vec<_>>(), ["z"]);
        assert_eq!(m.headers.len(), 2);
    }

    #[test]
    fn every_known_method_survives_its_name() {
        for method in Method::KNOWN {
            assert_eq!(Method::parse(method.as_str()), method);
        }
        assert_eq!(Method::parse("invite"), Method::Other("invite".into()));
    }
}
