//! RTP, RTCP, sessions of two legs, WAV files, and recordings.

use std::net::SocketAddr;
use std::time::Duration;

use media::dtmf::{EventPayload, Presses};
use media::session::stream_of;
use media::tape::Tape;
use media::{Endpoint, EndpointConfig, Face, PeerFace, PhoneFace, Session, SessionConfig, Source, Wav};
use openvoip::run::dtls::{Identity, Machine};
use wire::rtp::rtcp::{Compound, Translation, strip_goodbye};
use wire::rtp::{self, Header, Packet};
use wire::{Seed, Time};

use crate::script::steps;

/// An RTP packet's parts lie within it, and a rewritten one differs in nothing else.
pub fn rtp(bytes: &[u8]) {
    let _ = (rtp::classify(bytes), rtp::sender_ssrc(bytes), stream_of(bytes));
    let Ok(packet) = Packet::parse(bytes) else { return };
    assert!(packet.payload.len() + rtp::HEADER_LEN + packet.csrcs().count() * 4 <= bytes.len());
    let mut rewritten = bytes.to_vec();
    rtp::rewrite(&mut rewritten, 7, 8, 9).expect("a packet has a header");
    let again = Packet::parse(&rewritten).expect("rewriting breaks nothing");
    assert_eq!(again.header, Header { ssrc: 7, sequence: 8, timestamp: 9, ..packet.header });
    assert_eq!((again.payload, again.extension), (packet.payload, packet.extension));
    let plain = packet.header.packet(packet.payload);
    assert_eq!(Packet::parse(&plain).map(|p| (p.header, p.payload)), Ok((packet.header, packet.payload)));
    if let Some(event) = EventPayload::parse(packet.payload) {
        assert_eq!(EventPayload::parse(&event.to_bytes()), Some(event));
    }
    let _ = Presses::default().digit(packet.header.timestamp, packet.payload);
}

/// A translated RTCP compound is one still, and without goodbyes too.
pub fn rtcp(bytes: &[u8]) {
    let Ok(compound) = Compound::parse(bytes) else {
        let mut untouched = bytes.to_vec();
        assert!(Translation::default().apply(&mut untouched).is_err());
        return assert_eq!(untouched, bytes, "what is refused stays as it was");
    };
    for packet in compound.packets() {
        let _ = (packet.cname(), packet.leaving().count(), format!("{packet:?}"));
    }
    let subject = (rtp::sender_ssrc(bytes).unwrap_or(1), 77);
    let translation = Translation { sender: 5, timestamp_offset: 9, subject, sequence_offset: u32::MAX };
    let mut translated = bytes.to_vec();
    translation.apply(&mut translated).expect("a compound can be translated");
    let count = Compound::parse(&translated).expect("and is one still").packets().count();
    assert_eq!(count, compound.packets().count());
    let len = strip_goodbye(&mut translated);
    assert!(len <= bytes.len());
    if len > 0 {
        let rest = Compound::parse(&translated[..len]).expect("goodbyes can be taken out");
        assert!(rest.packets().all(|p| p.leaving().count() == 0));
    }
}

/// A script of datagrams, each to a handshake that the phone begins or, by the lowest bit of its kind, to one that we
/// begin: nobody is shaken hands with, and who has not shown that the cookie reached them is not sent more than came.
pub fn handshake(bytes: &[u8]) {
    thread_local! {
        static OURS: Identity = Identity::fresh().expect("randomness");
    }
    let remote = SocketAddr::from(([192, 0, 2, 1], 9));
    let begun = |begins| OURS.with(|ours| Machine::new(ours, begins, remote)).ok();
    let mut machines = [false, true].map(begun);
    let (mut heard, mut said) = (0, 0);
    for step in steps(bytes, 64) {
        let which = usize::from(step.kind & 1);
        let Some(machine) = &mut machines[which] else { continue };
        let outcome = machine.take(step.payload);
        assert!(!matches!(outcome, Ok(Some(_))), "without a key of its own");
        let answered: usize = std::iter::from_fn(|| machine.poll_transmit()).map(|sent| sent.len()).sum();
        if which == 0 {
            (heard, said) = (heard + step.payload.len(), said + answered);
            assert!(said <= heard, "{said} bytes for {heard}");
        }
        if outcome.is_err() {
            machines[which] = None;
        }
    }
}

/// Waits of the steps of [`media`], in milliseconds.
const WAITS: [u64; 8] = [0, 1, 20, 200, 3_100, 12_000, 70_000, 700_000];

/// Two sessions, phone to peer and phone to talker, fed with packets on every leg.
///
/// A script: kinds 0 to 3 are the legs; a payload's first byte chooses the sender's address.
pub fn media(bytes: &[u8]) {
    let mut now = Time::from_secs(1);
    let talker = EndpointConfig::new(Source::Tone(440.0), Seed::from_number(3));
    let peer =
        PeerFace { remote: Some(sender(1)), send_id: Some(44), receive_id: 0x0102_0304, protected: false };
    let faces = [
        (Face::Phone(PhoneFace::new(4_000)), Face::Peer(peer)),
        (Face::Phone(PhoneFace::new(4_002)), Face::Local(Box::new(Endpoint::new(talker, now)))),
    ];
    let mut sessions = faces.map(|(a, b)| Session::new(SessionConfig::new(a, b, Seed::from_number(1)), now));
    for step in steps(bytes, 60) {
        let session = &mut sessions[usize::from(step.kind & 1)];
        let leg = media::Leg::BOTH[usize::from(step.kind >> 1 & 1)];
        let then = now + Duration::from_millis(WAITS[usize::from(step.wait)]);
        let_pass(session, &mut now, then);
        let Some((from, packet)) = step.payload.split_first() else { continue };
        let mut packet = packet.to_vec();
        if let Some(forward) = session.handle_datagram(now, leg, sender(*from), &mut packet) {
            assert!(forward.len <= packet.len());
        }
        while let Some(sent) = session.poll_transmit() {
            assert!(rtp::classify(&sent.bytes).is_some());
        }
        while session.poll_event().is_some() {}
    }
    for session in &mut sessions {
        let then = now + Duration::from_secs(20);
        let_pass(session, &mut now, then);
        for leg in media::Leg::BOTH {
            let mos = session.quality(leg).map_or(1.0, |q| q.mos);
            assert!((1.0..=5.0).contains(&mos), "MOS {mos}");
            assert!(session.stats(leg).jitter_ms.is_finite());
        }
    }
}

fn sender(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number & 7], 4_000 + u16::from(number >> 3)))
}

/// Lets time pass, a hundred alarms at most: the clock of a talker ticks fifty times a second.
fn let_pass(session: &mut Session, now: &mut Time, then: Time) {
    for _ in 0..100 {
        let Some((at, _)) = session.poll_timeout().filter(|(at, _)| *at <= then) else { break };
        *now = at.max(*now);
        session.handle_timeout(*now);
        assert!(session.poll_timeout().is_none_or(|(next, _)| next > *now), "time stands still");
        while session.poll_transmit().is_some() {}
        while session.poll_event().is_some() {}
    }
    *now = then.max(*now);
    session.handle_timeout(*now);
}

/// A WAV file reads the same after it was written again, and at any rate lasts as long.
pub fn wav(bytes: &[u8]) {
    let Ok(wav) = Wav::read(bytes) else { return };
    assert!(wav.samples.len() * 2 <= bytes.len());
    let written = wav.write().expect("what was read can be written");
    assert_eq!(Wav::read(&written).as_ref(), Ok(&wav));
    let frames = wav.samples.len() / usize::from(wav.channels);
    for rate in [1_000, 8_000, 48_000] {
        let exact = frames as f64 * f64::from(rate) / f64::from(wav.rate);
        assert!((wav.mono_at(rate).len() as f64 - exact).abs() <= 1.0);
    }
}

/// A tape keeps its length, whatever the timestamps.
///
/// Eight bytes a packet: source, timestamp, sequence number, and how many samples, by eight.
pub fn tape(bytes: &[u8]) {
    const LENGTH: usize = 20_000;
    let mut tape = Tape::new(LENGTH);
    for piece in bytes.chunks_exact(8).take(500) {
        let header = Header {
            ssrc: u32::from(piece[0]),
            timestamp: u32::from_be_bytes([piece[1], piece[2], piece[3], piece[4]]),
            sequence: u16::from_be_bytes([piece[5], piece[6]]),
            ..Header::default()
        };
        let before = tape.samples().len();
        tape.lay(&header, &vec![1; usize::from(piece[7]) * 8]);
        assert!((before..=LENGTH).contains(&tape.samples().len()));
    }
    let length = tape.samples().len();
    assert_eq!(tape.take().len(), length);
    assert!(tape.samples().is_empty());
}
