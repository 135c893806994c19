//! Bytes into messages, and what to answer when they are not one.

use sipx_sip::error::{LimitKind, ParseError};
use sipx_sip::validate::Finding;

use super::field::split_list;
use super::message::{Header, Message, Method, Start, canonical};
use super::uri::Uri;

/// The largest message taken, on any transport: what one UDP datagram can carry.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// A message that must be refused, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The status to answer.
    pub status: u16,
    /// What was wrong, fit for a reason phrase.
    pub reason: String,
    /// Headers the answer must carry (Allow, Unsupported, Accept).
    pub headers: Vec<Header>,
    /// The request, as far as it could be read; `None` if there is nobody or nothing to answer.
    pub request: Option<Box<Message>>,
}

impl Refusal {
    /// A refusal of a request that the caller holds.
    pub fn new(status: u16, reason: impl Into<String>) -> Refusal {
        Refusal { status, reason: reason.into(), headers: Vec::new(), request: None }
    }

    /// This refusal with a header for the answer.
    pub fn with(mut self, name: &str, value: impl AsRef<str>) -> Refusal {
        self.headers.push(Header::new(name, value));
        self
    }

    /// The answer to `request`. Without a To tag yet; an ACK is never answered.
    pub fn reply_to(&self, request: &Message) -> Option<Message> {
        if request.is(&Method::Ack) || !request.is_request() || request.header("Via").is_none() {
            return None;
        }
        let mut reply = Message::reply_to(request, self.status, &self.reason);
        reply.headers.extend(self.headers.iter().cloned());
        Some(reply)
    }

    /// The answer to the request this refusal carries, if it can be answered.
    pub fn reply(&self) -> Option<Message> {
        self.reply_to(self.request.as_deref()?)
    }
}

/// Reads the one message of a datagram or of a frame cut by [`super::Framer`].
///
/// Blank lines before it are skipped (RFC 3261 section 7.5), lines may end in a bare LF if all do,
/// and a missing Max-Forwards is tolerated (section 16.6 lets an element add it). Bytes after the
/// declared body are noise (section 18.3).
pub fn parse(bytes: &[u8]) -> Result<Message, Refusal> {
    let start = bytes.iter().position(|b| !b"\r\n".contains(b)).unwrap_or(bytes.len());
    let bytes = &bytes[start..];
    let mut raw = match only_line_feeds(bytes) {
        Some(mended) => mended,
        None => bytes.to_vec(),
    };
    blank_controls(&mut raw);
    let limits = sipx_sip::Limits {
        max_message_bytes: MAX_MESSAGE,
        max_body_bytes: MAX_MESSAGE,
        ..sipx_sip::Limits::datagram()
    };
    let parsed = match sipx_sip::parse_datagram(raw.into(), &limits) {
        Ok(parsed) => parsed,
        Err(error) => {
            let (status, reason) = name_the_fault(bytes, &error);
            return Err(Refusal { request: salvage(bytes).map(Box::new), ..Refusal::new(status, reason) });
        }
    };
    let message = convert(&parsed);
    let finding = sipx_sip::validate(&parsed)
        .into_iter()
        .filter(|f| !f.is_repairable() && !is_accented_name(f, &message))
        // A version nobody speaks explains every other finding.
        .min_by_key(|f| i32::from(*f != Finding::UnsupportedVersion));
    match finding.map(|f| (f.status(), describe(&f))).or_else(|| second_look(&message)) {
        None => Ok(message),
        Some((status, reason)) => {
            let request = message.is_request().then(|| Box::new(message));
            Err(Refusal { request, ..Refusal::new(status, reason) })
        }
    }
}

/// Makes spaces of the control characters in the head, which no field may hold (RFC 3261 section
/// 25.1), before anything is read: what is checked is then what would be written again.
fn blank_controls(raw: &mut [u8]) {
    let head = raw.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(raw.len());
    for line in raw[..head].split_mut(|b| *b == b'\n') {
        let is_bad = |c: char| c.is_control() && c != '\t' && c != '\r';
        let bad: Vec<(usize, usize)> = match std::str::from_utf8(line) {
            Ok(text) => {
                text.char_indices().filter(|(_, c)| is_bad(*c)).map(|(i, c)| (i, c.len_utf8())).collect()
            }
            // Latin-1, where every byte is a character.
            Err(_) => (0..line.len()).filter(|i| is_bad(char::from(line[*i]))).map(|i| (i, 1)).collect(),
        };
        for (at, len) in bad {
            line[at..at + len].fill(b' ');
        }
    }
}

/// Whether all that is wrong is a display name with letters beyond ASCII and without the quotes that
/// those would need: phones send such names, and everybody knows what they mean.
fn is_accented_name(finding: &Finding, message: &Message) -> bool {
    let address = match finding {
        Finding::MalformedRequiredHeader("From") => message.from(),
        Finding::MalformedRequiredHeader("To") => message.to(),
        _ => None,
    };
    address.is_some_and(|a| {
        let name = &a.display;
        !name.is_ascii() && !name.contains(['"', '<', ',']) && Uri::parse(&a.uri).is_ok()
    })
}

/// What the adopted validator lets pass and our own reading of the fields would stumble over.
fn second_look(message: &Message) -> Option<(u16, String)> {
    let bad = |name: &str| Some((400, format!("Malformed {name}")));
    if message.via().is_none() {
        return bad("Via");
    }
    if message.from().is_none() {
        return bad("From");
    }
    if message.to().is_none() {
        return bad("To");
    }
    // CSeq numbers end at 2^31 - 1 (RFC 3261 section 8.1.1.5).
    match message.cseq() {
        Some(cseq) if cseq.number < 1 << 31 => {}
        _ => return bad("CSeq"),
    }
    None
}

fn name_the_fault(bytes: &[u8], error: &ParseError) -> (u16, String) {
    let first_line = bytes.split(|b| *b == b'\n').next().unwrap_or(&[]);
    let version = first_line.trim_ascii_end().rsplit(|b| *b == b' ').next().unwrap_or(&[]);
    if version.starts_with(b"SIP/") && version != b"SIP/2.0" && bytes.len() <= MAX_MESSAGE {
        return (505, "Version Not Supported".into());
    }
    match error {
        ParseError::Limit { limit: LimitKind::FoldingLines, .. } => {
            (400, "Bad Request: too many folded lines".into())
        }
        ParseError::Limit { .. } => (513, "Message Too Large".into()),
        other => (400, format!("Bad Request: {other}")),
    }
}

fn describe(finding: &Finding) -> String {
    match finding {
        Finding::MissingRequiredHeader(name) => format!("Missing {name}"),
        Finding::MalformedRequiredHeader(name) => format!("Malformed {name}"),
        Finding::RepeatedSingleValueHeader(name) => format!("More than one {name}"),
        Finding::CSeqMethodMismatch => "CSeq method is not the request's".into(),
        Finding::UnsupportedVersion => "Version Not Supported".into(),
        Finding::RequestUriHasHeaders => "Request-URI has headers".into(),
        _ => "Bad Request".into(),
    }
}

/// The message with CRLF line ends, if its first line ends in a bare LF. A message that mixes both
/// is left alone and refused: two elements must not disagree about where a line ends.
fn only_line_feeds(bytes: &[u8]) -> Option<Vec<u8>> {
    let first = bytes.iter().position(|b| *b == b'\n')?;
    if first == 0 || bytes[first - 1] == b'\r' {
        return None;
    }
    let end = bytes.windows(2).position(|w| w == b"\n\n").map_or(bytes.len(), |at| at + 2);
    let mut out = Vec::with_capacity(bytes.len() + 64);
    for b in &bytes[..end] {
        if *b == b'\n' {
            out.push(b'\r');
        }
        out.push(*b);
    }
    out.extend_from_slice(&bytes[end..]);
    Some(out)
}

/// UTF-8, or what the bytes mean in ISO 8859-1.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
    }
}

fn push_header(headers: &mut Vec<Header>, name: &str, value: &str) {
    // One hop per line, so that pushing and popping hops is pushing and popping lines.
    if ["Via", "Route", "Record-Route"].contains(&name) && value.contains(',') {
        headers.extend(split_list(value).map(|hop| Header::new(name, hop)));
    } else if name != "Content-Length" {
        headers.push(Header::new(name, value));
    }
}

fn convert(parsed: &sipx_sip::Message) -> Message {
    let start = match parsed {
        sipx_sip::Message::Request(r) => {
            Start::Request { method: Method::parse(&text(r.method.as_bytes())), uri: text(&r.uri.to_bytes()) }
        }
        sipx_sip::Message::Response(r) => return_status(r.status.code(), text(&r.reason)),
    };
    let mut headers = Vec::with_capacity(parsed.headers().len() + 2);
    for header in parsed.headers().iter() {
        let name = canonical(&text(header.name().canonical()));
        push_header(&mut headers, &name, &text(&header.value()));
    }
    Message { start, headers, body: parsed.body().to_vec() }
}

fn return_status(code: u16, reason: String) -> Start {
    Message::response(code, reason).start
}

/// The longest head worth reading for the sake of a refusal.
const SALVAGE: usize = 8 * 1024;

/// As much of a broken request as an answer to it needs.
fn salvage(bytes: &[u8]) -> Option<Message> {
    let head = text(&bytes[..bytes.len().min(SALVAGE)]);
    let mut lines = head.lines();
    let first = lines.next()?.trim();
    if first.len() < 4 || first.as_bytes()[..4].eq_ignore_ascii_case(b"SIP/") {
        return None;
    }
    let mut words = first.split_ascii_whitespace();
    let mut message = Message::request(Method::parse(words.next()?), words.next().unwrap_or(""));
    for line in lines.take_while(|l| !l.trim().is_empty()) {
        if let Some((name, value)) = line.split_once(':') {
            let name = canonical(name.trim());
            if ["Via", "From", "To", "Call-ID", "CSeq"].contains(&&*name) {
                push_header(&mut message.headers, &name, value);
            }
        }
    }
    (message.via().is_some() && message.from().is_some() && message.to().is_some()).then_some(message)
}
