//! SIP datagrams, SIP streams, and session descriptions.

use std::net::SocketAddr;

use wire::sdp::Description;
use wire::sdp::crypto::Crypto;
use wire::sdp::dtls::{Fingerprint, Setup};
use wire::sip::digest::{Challenge, Credentials};
use wire::sip::{self, Frame, Framer, FramingLost, MAX_MESSAGE, Message, Method, NameAddr, Policy, Uri, Via};

/// A SIP message reads the same after it was written again; a refusal is a message too.
pub fn sip(bytes: &[u8]) {
    match sip::parse(bytes) {
        Ok(message) => {
            let written = message.to_bytes();
            assert_eq!(sip::parse(&written), Ok(message.clone()), "{}", String::from_utf8_lossy(&written));
            is_one_message(&written);
            look_inside(&message);
            let policy = Policy { methods: &Method::KNOWN, options: &["100rel"] };
            if let Err(refusal) = sip::check(&message, &policy)
                && let Some(reply) = refusal.reply_to(&message)
            {
                is_one_message(&reply.to_bytes());
            }
        }
        Err(refusal) => {
            assert!((400..=699).contains(&refusal.status));
            if let Some(mut reply) = refusal.reply() {
                reply.set_to_tag("x");
                is_one_message(&reply.to_bytes());
            }
        }
    }
}

/// Whether the bytes are exactly one message for whoever reads them from a stream: nothing that we
/// send may hold the beginning of a second one.
fn is_one_message(bytes: &[u8]) {
    let mut framer = Framer::new();
    framer.push(bytes);
    if bytes.len() > MAX_MESSAGE {
        return;
    }
    let frame = framer.next_frame();
    assert_eq!(frame, Ok(Some(Frame::Message(bytes.to_vec()))), "{}", String::from_utf8_lossy(bytes));
    assert_eq!(framer.pending(), 0);
}

fn look_inside(message: &Message) {
    let addresses = ["From", "To", "Contact", "Route", "Record-Route", "Refer-To", "Path"];
    for name in addresses {
        for value in message.list(name) {
            if let Some(address) = NameAddr::parse(value) {
                uri(&address.uri);
                let again = NameAddr::parse(&address.to_string()).expect("an address that was written");
                assert_eq!(again.uri, address.uri);
            }
        }
    }
    uri(message.uri());
    message.headers_named("Via").for_each(|v| {
        if let Some(via) = Via::parse(v) {
            let _ = (via.branch(), via.has_magic_cookie(), via.sent_by());
        }
    });
    for value in ["WWW-Authenticate", "Proxy-Authenticate"].iter().flat_map(|n| message.headers_named(n)) {
        if let Some(challenge) = Challenge::parse(value) {
            let _ = challenge.answer("user", "password", "INVITE", "sip:x@y", "0");
        }
    }
    for value in ["Authorization", "Proxy-Authorization"].iter().flat_map(|n| message.headers_named(n)) {
        if let Some(credentials) = Credentials::parse(value) {
            let _ = (credentials.proves("password", "INVITE"), credentials.to_value());
        }
    }
    let _ = (message.content_type(), message.contact(), message.cseq(), message.call_id().len());
}

fn uri(text: &str) {
    if let Ok(uri) = Uri::parse(text) {
        let _ = uri.user_decoded();
        assert_eq!(Uri::parse(&uri.to_string()).as_ref(), Ok(&uri), "{text}");
    }
}

/// A stream holds the same frames, however it is cut into pieces; what waits is bounded.
///
/// The first byte says how long the pieces are, the rest is the stream.
pub fn sip_stream(bytes: &[u8]) {
    let Some((piece, stream)) = bytes.split_first() else { return };
    let whole = frames(std::iter::once(stream));
    let cut = frames(stream.chunks(usize::from(*piece) + 1));
    assert_eq!(whole, cut);
    if let Ok(frames) = whole {
        frames.iter().for_each(|f| {
            if let Frame::Message(message) = f {
                sip(message);
            }
        });
    }
}

fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Frame>, FramingLost> {
    let (mut framer, mut out) = (Framer::new(), Vec::new());
    for piece in pieces {
        framer.push(piece);
        while let Some(frame) = framer.next_frame()? {
            out.push(frame);
        }
        assert!(framer.pending() <= MAX_MESSAGE + piece.len());
    }
    Ok(out)
}

/// A description reads the same after it was written again, and goes where it is sent.
pub fn sdp(bytes: &[u8]) {
    let Ok(description) = Description::parse(bytes) else { return };
    let written = description.to_bytes();
    assert_eq!(Description::parse(&written).as_ref(), Ok(&description));
    for (index, media) in description.media.iter().enumerate() {
        let _ = (description.destination(index), description.rtcp_destination(index));
        let _ = (description.direction(index), media.codecs().len(), media.attribute("rtpmap"));
    }
    let to = SocketAddr::from(([192, 0, 2, 7], 65_535));
    let mut ours = description;
    ours.set_origin(to.ip());
    for index in 0..ours.media.len() {
        let active = ours.media[index].port != 0;
        ours.set_destination(index, to);
        if active {
            assert_eq!(ours.destination(index), Some(to));
        }
        ours.media[index].set_attribute("x", "1");
        assert_eq!(ours.media[index].attribute("x"), Some("1"));
        ours.media[index].remove_attribute("x");
    }
    assert_eq!(Description::parse(&ours.to_bytes()), Ok(ours));
}

/// A line of `a=crypto` that is understood reads the same when it is written again, and names no more than it says.
pub fn crypto(bytes: &[u8]) {
    let Some(line) = std::str::from_utf8(bytes).ok().and_then(|text| Crypto::parse(text).ok()).flatten()
    else {
        return;
    };
    assert_eq!(Crypto::parse(&line.to_string()), Ok(Some(line.clone())));
    let shown = format!("{line:?}");
    assert!(shown.len() < 50 && !shown.contains("inline"), "{shown}");
}

/// A line of `a=fingerprint` or `a=setup` that is understood reads the same when it is written again.
pub fn fingerprint(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(Some(fingerprint)) = Fingerprint::parse(text) {
        assert_eq!(Fingerprint::parse(&fingerprint.to_string()), Ok(Some(fingerprint)));
    }
    if let Some(setup) = Setup::parse(text) {
        assert_eq!(Setup::parse(setup.name()), Some(setup));
    }
}
