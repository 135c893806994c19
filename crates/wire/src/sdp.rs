//! Session descriptions (SDP, RFC 8866), as a back-to-back user agent needs them.
//!
//! A peer stands between two phones and may change only where sound goes: the connection address,
//! the port of each media line, and the attributes that name them again. Everything else, known or
//! not, passes byte for byte, which is why this is a list of lines and not a model of SDP: a model
//! would lose what it does not know.

pub mod crypto;
pub mod dtls;

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

/// Largest description: one that fits no sensible SIP message is nobody's.
pub const MAX_LEN: usize = 32 * 1024;

/// Most media lines; phones send one to three.
pub const MAX_MEDIA: usize = 16;

/// Most lines altogether; browsers send about a hundred for audio and video.
pub const MAX_LINES: usize = 1_000;

/// Why bytes are not a session description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SdpError {
    /// Longer, or with more lines or media, than the limits here.
    #[error("too large")]
    TooLarge,
    /// A line is not a letter, an equals sign and a value.
    #[error("line {0} is not 'letter=value'")]
    Line(usize),
    /// A media line without kind, port, protocol and format.
    #[error("line {0} is not a media line")]
    Media(usize),
}

/// One line: its letter, and what stands behind the equals sign.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Line {
    letter: u8,
    value: Vec<u8>,
}

impl Line {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.value).unwrap_or("")
    }

    /// The value of the attribute `name`, if this is it; empty for a flag.
    fn attribute(&self, name: &str) -> Option<&str> {
        let rest = self.text().strip_prefix(name).filter(|_| self.letter == b'a')?;
        match rest.as_bytes().first() {
            None => Some(""),
            Some(b':') => Some(&rest[1..]),
            Some(_) => None,
        }
    }
}

/// A session description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    session: Vec<Line>,
    /// The media lines, each with what belongs to it.
    pub media: Vec<Media>,
}

/// A media line and the lines that belong to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Media {
    /// `audio`, `video`, `text`, ...
    pub kind: String,
    /// The port; 0 if this medium is refused.
    pub port: u16,
    /// Number of ports, if given.
    count: Option<String>,
    /// `RTP/AVP` and the like.
    pub protocol: String,
    /// Payload types, in the order of preference.
    pub formats: Vec<String>,
    lines: Vec<Line>,
}

/// Who sends (RFC 8866 section 6.7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Direction {
    /// Both.
    #[default]
    SendRecv,
    /// Only the one who says it.
    SendOnly,
    /// Only the other one.
    RecvOnly,
    /// Nobody.
    Inactive,
}

impl Direction {
    const NAMES: [(Direction, &str); 4] = [
        (Direction::SendRecv, "sendrecv"),
        (Direction::SendOnly, "sendonly"),
        (Direction::RecvOnly, "recvonly"),
        (Direction::Inactive, "inactive"),
    ];
}

/// A codec that a media line offers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Codec {
    /// The RTP payload type.
    pub payload_type: u8,
    /// Its encoding name, for example `PCMU`.
    pub name: String,
    /// Its RTP clock rate in hertz.
    pub clock: u32,
}

/// Attributes of ICE; a peer that relays sound takes them away, since the phone shall send to it and
/// to nobody else (RFC 8839).
const ICE: [&str; 6] =
    ["candidate", "ice-ufrag", "ice-pwd", "ice-options", "end-of-candidates", "remote-candidates"];

impl Description {
    /// Reads a description. Bare line feeds are accepted, as phones send them.
    pub fn parse(bytes: &[u8]) -> Result<Self, SdpError> {
        if bytes.len() > MAX_LEN {
            return Err(SdpError::TooLarge);
        }
        let mut description = Description { session: Vec::new(), media: Vec::new() };
        for (number, raw) in bytes.split(|b| *b == b'\n').enumerate() {
            let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
            if raw.is_empty() {
                continue;
            }
            let (letter, value) = match raw {
                [letter, b'=', value @ ..] if letter.is_ascii_alphabetic() => (*letter, value),
                _ => return Err(SdpError::Line(number + 1)),
            };
            if number >= MAX_LINES || description.media.len() > MAX_MEDIA {
                return Err(SdpError::TooLarge);
            }
            let line = Line { letter, value: value.to_vec() };
            if letter == b'm' {
                description.media.push(Media::parse(&line).ok_or(SdpError::Media(number + 1))?);
            } else {
                match description.media.last_mut() {
                    Some(media) => media.lines.push(line),
                    None => description.session.push(line),
                }
            }
        }
        if description.media.len() > MAX_MEDIA {
            return Err(SdpError::TooLarge);
        }
        Ok(description)
    }

    /// The description as bytes, with CRLF line ends.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.session.iter().for_each(|line| push_line(&mut out, line.letter, &line.value));
        for media in &self.media {
            push_line(&mut out, b'm', media.first_line().as_bytes());
            media.lines.iter().for_each(|line| push_line(&mut out, line.letter, &line.value));
        }
        out
    }

    /// Where the sound of a media line shall go, if it names an address rather than a host.
    pub fn destination(&self, index: usize) -> Option<SocketAddr> {
        let media = self.media.get(index)?;
        let line = connection(&media.lines).or_else(|| connection(&self.session))?;
        Some(SocketAddr::new(parse_connection(line.text())?, media.port))
    }

    /// Where its RTCP shall go, if it says so (RFC 3605).
    pub fn rtcp_destination(&self, index: usize) -> Option<SocketAddr> {
        let media = self.media.get(index)?;
        let value = media.attribute("rtcp")?;
        let (port, rest) = value.split_once(' ').unwrap_or((value, ""));
        let ip = parse_connection(rest).or_else(|| Some(self.destination(index)?.ip()))?;
        Some(SocketAddr::new(ip, port.parse().ok()?))
    }

    /// Who sends, of a media line: its own word, or the session's.
    pub fn direction(&self, index: usize) -> Direction {
        let of = |lines: &[Line]| {
            let named = |(d, name): &(Direction, &str)| {
                lines.iter().any(|l| l.attribute(name) == Some("")).then_some(*d)
            };
            Direction::NAMES.iter().find_map(named)
        };
        let own = self.media.get(index).and_then(|m| of(&m.lines));
        let direction = own.or_else(|| of(&self.session)).unwrap_or_default();
        // The old way to hold (RFC 2543): an address of zeros.
        let zeros = self.destination(index).is_some_and(|d| d.ip().is_unspecified());
        match (zeros, direction) {
            (true, Direction::SendRecv) => Direction::SendOnly,
            (true, Direction::RecvOnly) => Direction::Inactive,
            _ => direction,
        }
    }

    /// The values of an attribute that holds for a media line: its own, or else the session's.
    pub fn attributes<'a>(&'a self, index: usize, name: &'a str) -> impl Iterator<Item = &'a str> {
        let own = self.media.get(index).filter(|m| m.has(name)).map(|m| &m.lines);
        own.unwrap_or(&self.session).iter().filter_map(move |l| l.attribute(name))
    }

    /// Directs the sound of a media line to `to`, RTCP to the port after it unless multiplexed.
    pub fn set_destination(&mut self, index: usize, to: SocketAddr) {
        self.remove_attributes(&ICE);
        let Some(media) = self.media.get_mut(index) else { return };
        if media.port == 0 {
            return;
        }
        media.port = to.port();
        media.count = None;
        let value = connection_value(to.ip()).into_bytes();
        match media.lines.iter_mut().find(|l| l.letter == b'c') {
            Some(line) => line.value = value,
            None => {
                let after = media.lines.iter().take_while(|l| l.letter == b'i').count();
                media.lines.insert(after, Line { letter: b'c', value });
            }
        }
        if media.attribute("rtcp").is_some() {
            let port = if media.has("rtcp-mux") { to.port() } else { to.port().wrapping_add(1) };
            media.set_attribute("rtcp", &port.to_string());
        }
    }

    /// Names `ip` as the origin of the session and wherever the session names a connection.
    pub fn set_origin(&mut self, ip: IpAddr) {
        for line in &mut self.session {
            match line.letter {
                b'o' => {
                    let text = line.text();
                    let words: Vec<&str> = text.split(' ').take(3).collect();
                    line.value = format!("{} {}", words.join(" "), connection_value(ip)).into_bytes();
                }
                b'c' => line.value = connection_value(ip).into_bytes(),
                _ => {}
            }
        }
    }

    /// Takes every attribute of these names away, of the session and of each medium.
    pub fn remove_attributes(&mut self, names: &[&str]) {
        let goes = |l: &Line| names.iter().any(|name| l.attribute(name).is_some());
        self.session.retain(|l| !goes(l));
        self.media.iter_mut().for_each(|m| m.lines.retain(|l| !goes(l)));
    }
}

impl Media {
    fn parse(line: &Line) -> Option<Self> {
        let mut words = line.text().split_ascii_whitespace();
        let kind = words.next()?.to_owned();
        let ports = words.next()?;
        let (port, count) = match ports.split_once('/') {
            Some((port, count)) => (port, Some(count.to_owned())),
            None => (ports, None),
        };
        let protocol = words.next()?.to_owned();
        let formats: Vec<String> = words.map(str::to_owned).collect();
        Some(Media { kind, port: port.parse().ok()?, count, protocol, formats, lines: Vec::new() })
    }

    fn first_line(&self) -> String {
        let count = self.count.as_ref().map(|c| format!("/{c}")).unwrap_or_default();
        let formats = self.formats.join(" ");
        format!("{} {}{count} {} {formats}", self.kind, self.port, self.protocol)
    }

    /// The value of an attribute; empty for a flag.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|l| l.attribute(name))
    }

    /// The values of all attributes of that name.
    pub fn attributes<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter_map(move |l| l.attribute(name))
    }

    /// Whether an attribute is there.
    pub fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    /// Sets an attribute, replacing the first of its name.
    pub fn set_attribute(&mut self, name: &str, value: &str) {
        match self.lines.iter_mut().find(|l| l.attribute(name).is_some()) {
            Some(old) => old.value = format!("{name}:{value}").into_bytes(),
            None => self.add_attribute(name, value),
        }
    }

    /// Adds an attribute to those of its name.
    pub fn add_attribute(&mut self, name: &str, value: &str) {
        self.lines.push(Line { letter: b'a', value: format!("{name}:{value}").into_bytes() });
    }

    /// Takes every attribute of a name away.
    pub fn remove_attribute(&mut self, name: &str) {
        self.lines.retain(|l| l.attribute(name).is_none());
    }

    /// The codecs on offer, best first: those named by `rtpmap`, and the static ones that need none
    /// (RFC 3551 section 6).
    pub fn codecs(&self) -> Vec<Codec> {
        let mapped = |payload_type: u8| {
            self.lines.iter().find_map(|l| {
                let (number, encoding) = l.attribute("rtpmap")?.split_once(' ')?;
                let mut parts = encoding.split('/');
                let name = parts.next()?.to_owned();
                let clock = parts.next()?.trim().parse().ok()?;
                (number.parse() == Ok(payload_type)).then_some(Codec { payload_type, name, clock })
            })
        };
        let number = |f: &String| f.parse::<u8>().ok();
        self.formats.iter().filter_map(number).filter_map(|n| mapped(n).or_else(|| fixed(n))).collect()
    }
}

fn fixed(payload_type: u8) -> Option<Codec> {
    let (name, clock) = match payload_type {
        0 => ("PCMU", 8_000),
        3 => ("GSM", 8_000),
        4 => ("G723", 8_000),
        8 => ("PCMA", 8_000),
        9 => ("G722", 8_000),
        13 => ("CN", 8_000),
        15 => ("G728", 8_000),
        18 => ("G729", 8_000),
        26 => ("JPEG", 90_000),
        31 => ("H261", 90_000),
        34 => ("H263", 90_000),
        _ => return None,
    };
    Some(Codec { payload_type, name: name.to_owned(), clock })
}

fn push_line(out: &mut Vec<u8>, letter: u8, value: &[u8]) {
    out.extend_from_slice(&[letter, b'=']);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn connection(lines: &[Line]) -> Option<&Line> {
    lines.iter().find(|l| l.letter == b'c')
}

/// `IN IP4 192.0.2.1`, with or without a multicast TTL behind it.
fn parse_connection(value: &str) -> Option<IpAddr> {
    let mut words = value.split_ascii_whitespace();
    let (net, _, address) = (words.next()?, words.next()?, words.next()?);
    let address = address.split('/').next()?;
    if net != "IN" { None } else { address.parse().ok() }
}

fn connection_value(ip: IpAddr) -> String {
    format!("IN IP{} {ip}", if ip.is_ipv4() { 4 } else { 6 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BARESIP: &str = "v=0\r\no=- 3827 1 IN IP4 10.0.0.7\r\ns=-\r\nc=IN IP4 10.0.0.7\r\nt=0 0\r\n\
        a=tool:baresip 1.0.0\r\nm=audio 10024 RTP/AVP 96 0 8 101\r\na=rtpmap:96 opus/48000/2\r\n\
        a=fmtp:96 stereo=1\r\na=rtpmap:101 telephone-event/8000\r\na=rtcp:10025\r\na=rtcp-rsize\r\n\
        a=ssrc:55 cname:sip:alice@rig.test\r\na=sendrecv\r\na=label:1\r\na=ptime:20\r\n";

    fn parse(text: &str) -> Description {
        Description::parse(text.as_bytes()).unwrap()
    }

    fn addr(s: &str) -> SocketAddr {
        s.parse().unwrap()
    }

    #[test]
    fn what_is_not_changed_passes_byte_for_byte() {
        assert_eq!(parse(BARESIP).to_bytes(), BARESIP.as_bytes());
        let latin1 = b"v=0\r\ns=Caf\xe9\r\nm=audio 9 RTP/AVP 0\r\n";
        assert_eq!(Description::parse(latin1).unwrap().to_bytes(), latin1);
    }

    #[test]
    fn address_port_codecs_and_direction_are_read() {
        let sdp = parse(BARESIP);
        assert_eq!(sdp.destination(0), Some(addr("10.0.0.7:10024")));
        assert_eq!(sdp.rtcp_destination(0), Some(addr("10.0.0.7:10025")));
        let codecs = sdp.media[0].codecs();
        let names: Vec<_> = codecs.iter().map(|c| (c.payload_type, c.name.as_str(), c.clock)).collect();
        let expected =
            [(96, "opus", 48_000), (0, "PCMU", 8_000), (8, "PCMA", 8_000), (101, "telephone-event", 8_000)];
        assert_eq!(names, expected);
        assert_eq!(sdp.direction(0), Direction::SendRecv);
    }

    #[test]
    fn only_where_the_sound_goes_is_rewritten() {
        let mut sdp = parse(BARESIP);
        sdp.set_destination(0, addr("[2001:db8::1]:7100"));
        sdp.set_origin("2001:db8::1".parse().unwrap());
        let expected = BARESIP
            .replace("c=IN IP4 10.0.0.7", "c=IN IP6 2001:db8::1")
            .replace("3827 1 IN IP4 10.0.0.7", "3827 1 IN IP6 2001:db8::1")
            .replace(
                "audio 10024 RTP/AVP 96 0 8 101",
                "audio 7100 RTP/AVP 96 0 8 101\r\nc=IN IP6 2001:db8::1",
            )
            .replace("a=rtcp:10025", "a=rtcp:7101");
        assert_eq!(String::from_utf8(sdp.to_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_hold_is_seen_however_it_is_written() {
        let base = "v=0\nc=IN IP4 1.2.3.4\nm=audio 9 RTP/AVP 0\n";
        let cases = [
            ("a=sendonly\n", Direction::SendOnly),
            ("a=inactive\n", Direction::Inactive),
            ("c=IN IP4 0.0.0.0\n", Direction::SendOnly),
            ("", Direction::SendRecv),
        ];
        for (line, direction) in cases {
            assert_eq!(parse(&format!("{base}{line}")).direction(0), direction, "{line}");
        }
        let session = "v=0\na=recvonly\nm=audio 9 RTP/AVP 0\n";
        assert_eq!(parse(session).direction(0), Direction::RecvOnly);
    }

    #[test]
    fn a_refused_medium_stays_refused_and_ice_is_taken_away() {
        let text = "v=0\nm=video 0 RTP/AVP 31\nm=audio 9 RTP/AVP 0\na=candidate:1 1 UDP 1 10.0.0.1 9 typ host\n\
                    a=ice-ufrag:x\na=fingerprint:sha-256 AA\n";
        let mut sdp = parse(text);
        sdp.set_destination(0, addr("1.1.1.1:4"));
        sdp.set_destination(1, addr("1.1.1.1:6"));
        assert_eq!((sdp.media[0].port, sdp.media[1].port), (0, 6));
        assert!(!sdp.media[1].has("candidate") && !sdp.media[1].has("ice-ufrag"));
        assert!(sdp.media[1].has("fingerprint"));
    }

    #[test]
    fn nonsense_is_an_error() {
        assert_eq!(Description::parse(b"v=0\nhello"), Err(SdpError::Line(2)));
        assert_eq!(Description::parse(b"m=audio"), Err(SdpError::Media(1)));
        assert_eq!(Description::parse(b"m=audio 99999 RTP/AVP 0"), Err(SdpError::Media(1)));
        assert_eq!(Description::parse(&vec![b'a'; MAX_LEN + 1]), Err(SdpError::TooLarge));
        let many = "m=audio 9 RTP/AVP 0\n".repeat(MAX_MEDIA + 1);
        assert_eq!(Description::parse(many.as_bytes()), Err(SdpError::TooLarge));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(mut sdp) = Description::parse(&bytes) {
                for i in 0..sdp.media.len() {
                    sdp.destination(i);
                    sdp.rtcp_destination(i);
                    sdp.direction(i);
                    sdp.media[i].codecs();
                    sdp.set_destination(i, addr("10.0.0.1:2"));
                }
                prop_assert_eq!(Description::parse(&sdp.to_bytes()), Ok(sdp));
            }
        }

        #[test]
        fn a_mutated_description_never_panics(at in 0..BARESIP.len(), with in any::<u8>()) {
            let mut bytes = BARESIP.as_bytes().to_vec();
            bytes[at] = with;
            if let Ok(mut sdp) = Description::parse(&bytes) {
                sdp.set_origin("10.0.0.1".parse().unwrap());
                sdp.set_destination(0, addr("10.0.0.1:2"));
            }
        }
    }
}
