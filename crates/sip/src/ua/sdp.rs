//! Plain session descriptions: one line of G.711 and telephone events, offered, answered and read
//! (RFC 3264, RFC 3551, RFC 4733).
//!
//! What these functions do not understand in a description they leave alone.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use wire::sdp::{Description, Media};

pub use wire::sdp::Direction;

/// PCMU, μ-law.
pub const PCMU: u8 = 0;
/// PCMA, A-law.
pub const PCMA: u8 = 8;
/// The payload type we give telephone events; others may give them another.
pub const TELEPHONE_EVENT: u8 = 101;

const DIRECTIONS: [&str; 4] = ["sendrecv", "sendonly", "recvonly", "inactive"];

/// Where and how the other side wants to be talked to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemoteAudio {
    /// Where its sound shall go.
    pub address: SocketAddr,
    /// The payload type of its first codec of ours: [`PCMU`] or [`PCMA`].
    pub payload: u8,
    /// The payload type of telephone events, if it takes them.
    pub telephone_event: Option<u8>,
    /// Who sends, from its point of view.
    pub direction: Direction,
}

/// A plain offer, or answer, for G.711 and telephone events at one address.
pub fn g711_sdp(address: SocketAddr) -> Vec<u8> {
    audio(address, &[PCMU, PCMA], Some(TELEPHONE_EVENT), Direction::SendRecv)
}

/// A description of one line of audio: codecs by their static payload types, the best first.
pub fn audio(
    address: SocketAddr,
    payloads: &[u8],
    telephone_event: Option<u8>,
    direction: Direction,
) -> Vec<u8> {
    let mut sdp = head(address.ip());
    sdp.push_str(&audio_line(address.port(), payloads, telephone_event, direction));
    sdp.into_bytes()
}

/// The answer to `offer`: every codec both of us have, in its order; `None` if there is none (488).
/// The first line of audio is taken, every other line refused.
pub fn answer(offer: &[u8], address: SocketAddr) -> Option<Vec<u8>> {
    let offer = Description::parse(offer).ok()?;
    let taken = first_audio(&offer)?;
    let payloads = g711_of(&offer.media[taken]);
    let direction = reversed(offer.direction(taken));
    let mut sdp = head(address.ip());
    for (index, media) in offer.media.iter().enumerate() {
        sdp.push_str(&match index == taken {
            true => audio_line(address.port(), &payloads, telephone_event_of(media), direction),
            false => refused(media),
        });
    }
    Some(sdp.into_bytes())
}

/// What a description says about its first line of G.711; `None` if it has none, or names no
/// address.
pub fn remote_audio(sdp: &[u8]) -> Option<RemoteAudio> {
    let sdp = Description::parse(sdp).ok()?;
    let index = first_audio(&sdp)?;
    let media = &sdp.media[index];
    Some(RemoteAudio {
        address: sdp.destination(index)?,
        payload: *g711_of(media).first()?,
        telephone_event: telephone_event_of(media),
        direction: sdp.direction(index),
    })
}

/// Who sends, in the first media line of a description.
pub fn direction(sdp: &[u8]) -> Direction {
    Description::parse(sdp).map_or(Direction::SendRecv, |sdp| sdp.direction(0))
}

/// The same description with another direction in every media line.
pub fn with_direction(sdp: &[u8], direction: Direction) -> Vec<u8> {
    let (session, media) = sections(sdp);
    let mut out = session.concat();
    for mut lines in media {
        direct(&mut lines, direction);
        out.push_str(&lines.concat());
    }
    out.into_bytes()
}

/// Answers `offer` with `own`, which was said before: each of its lines as far as the offer has it,
/// directed as the offer and our own wish allow, the offer's other lines refused.
pub(super) fn mirror(own: &[u8], offer: &[u8], wish: Direction) -> Vec<u8> {
    let Ok(offer) = Description::parse(offer) else { return own.to_vec() };
    let (session, own) = sections(own);
    let mut out = session.concat();
    let mut own = own.into_iter();
    for (index, media) in offer.media.iter().enumerate() {
        let same_kind = |lines: &Vec<String>| lines[0].starts_with(&format!("m={} ", media.kind));
        match own.next().filter(|lines| media.port != 0 && same_kind(lines)) {
            Some(mut lines) => {
                direct(&mut lines, both(wish, reversed(offer.direction(index))));
                out.push_str(&lines.concat());
            }
            None => out.push_str(&refused(media)),
        }
    }
    out.into_bytes()
}

/// `next` as it follows `last` within a call: the same origin, its version one higher, or `last`
/// itself where nothing changed (RFC 3264 section 8).
pub(super) fn successor(last: &[u8], next: &[u8]) -> Vec<u8> {
    let (last_origin, last_rest) = origin(last);
    let (_, next_rest) = origin(next);
    let words: Vec<&str> = last_origin.split(' ').collect();
    let [user, session, version, network @ ..] = &words[..] else { return next.to_vec() };
    if last_rest == next_rest {
        return last.to_vec();
    }
    let Ok(version) = version.parse::<u64>() else { return next.to_vec() };
    let version = version.wrapping_add(1);
    let line = format!("{user} {session} {version} {}\r\n", network.join(" "));
    let (session, media) = sections(next);
    let mut out = String::new();
    for old in &session {
        out.push_str(if old.starts_with("o=") { &line } else { old });
    }
    media.iter().flatten().for_each(|l| out.push_str(l));
    out.into_bytes()
}

/// The line of origin, without its end, and every other line.
fn origin(sdp: &[u8]) -> (String, Vec<String>) {
    let (session, media) = sections(sdp);
    let all = session.into_iter().chain(media.into_iter().flatten());
    let (origin, rest): (Vec<_>, Vec<_>) = all.partition(|l| l.starts_with("o="));
    (origin.first().map(|l| l.trim_end().to_owned()).unwrap_or_default(), rest)
}

/// The lines of a description, each with CRLF: those of the session, and those of each media line.
fn sections(sdp: &[u8]) -> (Vec<String>, Vec<Vec<String>>) {
    let text = String::from_utf8_lossy(sdp);
    let (mut session, mut media) = (Vec::new(), Vec::<Vec<String>>::new());
    for line in text.lines().map(|l| l.trim_end_matches('\r')).filter(|l| !l.is_empty()) {
        let line = format!("{line}\r\n");
        match media.last_mut() {
            _ if line.starts_with("m=") => media.push(vec![line]),
            Some(lines) => lines.push(line),
            None => session.push(line),
        }
    }
    (session, media)
}

/// Gives the lines of one medium a direction in place of any they have.
fn direct(lines: &mut Vec<String>, direction: Direction) {
    lines.retain(|l| !DIRECTIONS.iter().any(|d| l.trim_end().strip_prefix("a=") == Some(d)));
    lines.push(format!("a={}\r\n", name(direction)));
}

fn head(ip: IpAddr) -> String {
    // An address of zeros would mean a hold; nobody can send to it in any case.
    let ip = if ip.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { ip };
    let version = if ip.is_ipv4() { 4 } else { 6 };
    format!("v=0\r\no=- 1 1 IN IP{version} {ip}\r\ns=-\r\nc=IN IP{version} {ip}\r\nt=0 0\r\n")
}

fn audio_line(port: u16, payloads: &[u8], events: Option<u8>, direction: Direction) -> String {
    let formats: Vec<String> = payloads.iter().chain(&events).map(u8::to_string).collect();
    let mut out = format!("m=audio {port} RTP/AVP {}\r\n", formats.join(" "));
    for payload in payloads {
        let codec = match *payload {
            PCMU => "PCMU",
            PCMA => "PCMA",
            _ => continue,
        };
        out.push_str(&format!("a=rtpmap:{payload} {codec}/8000\r\n"));
    }
    if let Some(events) = events {
        out.push_str(&format!("a=rtpmap:{events} telephone-event/8000\r\na=fmtp:{events} 0-15\r\n"));
    }
    out.push_str(&format!("a={}\r\n", name(direction)));
    out
}

/// A media line that says no: port 0 (RFC 3264 section 6).
fn refused(media: &Media) -> String {
    let format = media.formats.first().map_or("0", String::as_str);
    format!("m={} 0 {} {format}\r\n", media.kind, media.protocol)
}

fn first_audio(sdp: &Description) -> Option<usize> {
    let usable = |m: &Media| m.kind == "audio" && m.port != 0 && !g711_of(m).is_empty();
    sdp.media.iter().position(usable)
}

/// The payload types of PCMU and PCMA in the order of a media line.
fn g711_of(media: &Media) -> Vec<u8> {
    let is_g711 = |name: &str| name.eq_ignore_ascii_case("PCMU") || name.eq_ignore_ascii_case("PCMA");
    let fits = |c: &wire::sdp::Codec| is_g711(&c.name) && matches!(c.payload_type, PCMU | PCMA);
    media.codecs().iter().filter(|c| fits(c)).map(|c| c.payload_type).collect()
}

fn telephone_event_of(media: &Media) -> Option<u8> {
    let is_event = |c: &&wire::sdp::Codec| c.name.eq_ignore_ascii_case("telephone-event") && c.clock == 8_000;
    media.codecs().iter().find(is_event).map(|c| c.payload_type)
}

fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::SendRecv => "sendrecv",
        Direction::SendOnly => "sendonly",
        Direction::RecvOnly => "recvonly",
        Direction::Inactive => "inactive",
    }
}

/// The same as the other side sees it.
fn reversed(direction: Direction) -> Direction {
    match direction {
        Direction::SendOnly => Direction::RecvOnly,
        Direction::RecvOnly => Direction::SendOnly,
        other => other,
    }
}

/// What both allow.
fn both(a: Direction, b: Direction) -> Direction {
    let sends = |d| matches!(d, Direction::SendRecv | Direction::SendOnly);
    let hears = |d| matches!(d, Direction::SendRecv | Direction::RecvOnly);
    match (sends(a) && sends(b), hears(a) && hears(b)) {
        (true, true) => Direction::SendRecv,
        (true, false) => Direction::SendOnly,
        (false, true) => Direction::RecvOnly,
        (false, false) => Direction::Inactive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn here() -> SocketAddr {
        "192.0.2.7:4000".parse().unwrap()
    }

    const VIDEO_PHONE: &str = "v=0\r\no=- 7 3 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n\
        m=audio 5004 RTP/AVP 96 8 97 0\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:97 telephone-event/8000\r\n\
        a=sendonly\r\nm=video 5006 RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\n";

    #[test]
    fn an_offer_reads_back_as_it_was_meant() {
        let audio = remote_audio(&g711_sdp(here())).unwrap();
        let expected = RemoteAudio {
            address: here(),
            payload: PCMU,
            telephone_event: Some(TELEPHONE_EVENT),
            direction: Direction::SendRecv,
        };
        assert_eq!(audio, expected);
        let six = remote_audio(&g711_sdp("[2001:db8::5]:9000".parse().unwrap())).unwrap();
        assert_eq!(six.address.to_string(), "[2001:db8::5]:9000");
    }

    #[test]
    fn an_answer_keeps_the_offers_order_and_payload_types_and_refuses_the_rest() {
        let sdp = answer(VIDEO_PHONE.as_bytes(), here()).unwrap();
        let read = Description::parse(&sdp).unwrap();
        assert_eq!(read.media[0].formats, ["8", "0", "97"]);
        assert_eq!(read.direction(0), Direction::RecvOnly);
        assert_eq!((read.media[1].kind.as_str(), read.media[1].port), ("video", 0));
        assert_eq!(read.media.len(), 2);
    }

    #[test]
    fn without_a_common_codec_there_is_no_answer() {
        let opus = "v=0\r\nm=audio 5004 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n";
        assert_eq!(answer(opus.as_bytes(), here()), None);
        assert_eq!(remote_audio(opus.as_bytes()), None);
    }

    #[test]
    fn a_hold_is_answered_by_listening_and_a_resume_by_talking_again() {
        let own = g711_sdp(here());
        let hold = with_direction(&own, Direction::SendOnly);
        assert_eq!(direction(&hold), Direction::SendOnly);
        assert_eq!(direction(&mirror(&own, &hold, Direction::SendRecv)), Direction::RecvOnly);
        assert_eq!(direction(&mirror(&own, &hold, Direction::SendOnly)), Direction::Inactive);
        assert_eq!(direction(&mirror(&hold, &own, Direction::SendRecv)), Direction::SendRecv);
    }

    #[test]
    fn a_line_the_offer_adds_is_refused_where_we_have_none() {
        let read =
            Description::parse(&mirror(&g711_sdp(here()), VIDEO_PHONE.as_bytes(), Direction::SendRecv));
        let read = read.unwrap();
        assert_eq!(read.media.iter().map(|m| m.port).collect::<Vec<_>>(), [4000, 0]);
    }

    #[test]
    fn the_version_grows_with_every_change_and_only_then() {
        let first = g711_sdp(here());
        assert_eq!(successor(&[], &first), first);
        assert_eq!(successor(&first, &first), first);
        let held = successor(&first, &with_direction(&first, Direction::SendOnly));
        assert!(String::from_utf8_lossy(&held).contains("o=- 1 2 IN IP4 192.0.2.7\r\n"));
        let back = successor(&held, &first);
        assert!(String::from_utf8_lossy(&back).contains("o=- 1 3 IN IP4 192.0.2.7\r\n"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_any_of_this_panic(a in "(?s).{0,200}", b in "([vomcat]=[a-z0-9: ./]{0,20}\r?\n){0,12}") {
            for (x, y) in [(&a, &b), (&b, &a), (&b, &b)] {
                let (x, y) = (x.as_bytes(), y.as_bytes());
                let _ = (answer(x, here()), remote_audio(x), direction(x));
                for d in [Direction::SendRecv, Direction::Inactive] {
                    let _ = (with_direction(x, d), mirror(x, y, d), successor(x, y));
                }
            }
        }

        #[test]
        fn an_answer_has_as_many_lines_as_the_offer(kinds in prop::collection::vec("audio|video|text", 1..6)) {
            let mut offer = head(here().ip());
            for kind in &kinds {
                offer.push_str(&format!("m={kind} 9 RTP/AVP 0\r\n"));
            }
            let mirrored = Description::parse(&mirror(&g711_sdp(here()), offer.as_bytes(), Direction::SendRecv));
            prop_assert_eq!(mirrored.unwrap().media.len(), kinds.len());
            if let Some(answer) = answer(offer.as_bytes(), here()) {
                prop_assert_eq!(Description::parse(&answer).unwrap().media.len(), kinds.len());
            }
        }
    }
}
