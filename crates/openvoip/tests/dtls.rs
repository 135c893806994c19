//! Phones that shake hands with their peer on the path of their sound (DTLS-SRTP): the real program on loopback.

mod program;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use media::srtp::{Cipher, MASTER_LEN, Master, Receiver, Sender};
use program::Peer;
use program::dtls_phone::{Shaker, shaking};
use program::tls_phone::{PASSWORD, TlsPhone, alices, spoken};
use serde_json::Value;
use tempfile::tempdir;
use wire::rtp::{Kind, classify};
use wire::sdp::Description;
use wire::sdp::dtls::Fingerprint;

fn phone_leg(peer: &Peer) -> Value {
    peer.get(&["calls"])["calls"][0]["phone_leg"].clone()
}

/// A call of a phone to the echo: the phone that shakes hands, and the address and fingerprint it was answered.
fn call(phone: &mut TlsPhone, setup: &str, named: Option<Fingerprint>) -> (Shaker, SocketAddr, Fingerprint) {
    let mut shaker = Shaker::new();
    let named = named.unwrap_or(shaker.fingerprint);
    let offer = shaking(shaker.socket.local_addr().unwrap(), named, setup);
    let (_, sdp) = phone.call(offer);
    let sdp = Description::parse(&sdp).unwrap();
    assert_eq!(sdp.media[0].protocol, "UDP/TLS/RTP/SAVP");
    let shown = sdp.attributes(0, "fingerprint").next().expect("a fingerprint");
    let begins = sdp.attributes(0, "setup").next() == Some("passive");
    let to = sdp.destination(0).unwrap();
    if begins {
        shaker.begin(to);
    }
    (shaker, to, Fingerprint::parse(shown).unwrap().unwrap())
}

/// Whether the phone hears what it says, under these keys.
fn hears_itself(
    phone: &mut TlsPhone,
    socket: &UdpSocket,
    to: SocketAddr,
    [ours, theirs]: &[Master; 2],
) -> bool {
    let mut sender = Sender::new(Cipher::Aes, ours);
    let mut receiver = Receiver::new(Cipher::Aes, theirs);
    let mut buffer = [0; 2_000];
    for said in 0..100 {
        let mut packet = spoken(said);
        let tail = sender.protect(&mut packet).unwrap();
        packet.extend_from_slice(&tail);
        socket.send_to(&packet, to).unwrap();
        phone.turn();
        let Ok(len) = socket.recv(&mut buffer) else { continue };
        if classify(&buffer[..len]) == Some(Kind::Rtp) {
            let open = receiver.open(&mut buffer[..len]).expect("under the keys of the handshake");
            if buffer[12..open] == [0x35; 160] {
                return true;
            }
        }
    }
    false
}

#[test]
fn a_phone_shakes_hands_whoever_begins_and_hears_itself_under_the_keys() {
    let dir = tempdir().unwrap();
    let peer = alices(dir.path());
    let mut phone = TlsPhone::connect(&peer, "alice", PASSWORD);
    assert!(phone.register());
    for setup in ["actpass", "active", "passive"] {
        let (mut shaker, to, named) = call(&mut phone, setup, None);
        let (shown, keys) = shaker.shaken(Duration::from_secs(10)).expect("a handshake");
        assert_eq!(shown, named, "{setup}: the peer shows the certificate that it named");
        assert!(hears_itself(&mut phone, &shaker.socket, to, &keys), "{setup}");
        let calls = peer.get(&["calls"])["calls"].clone();
        assert_eq!(calls.as_array().unwrap().last().unwrap()["phone_leg"], "dtls", "{setup}");
    }
    peer.down();
}

#[test]
fn a_phone_that_shows_another_certificate_than_it_named_hears_nothing_and_the_log_tells_of_it() {
    let dir = tempdir().unwrap();
    let peer = alices(dir.path());
    let mut phone = TlsPhone::connect(&peer, "alice", PASSWORD);
    assert!(phone.register());
    let (mut shaker, to, _) = call(&mut phone, "active", Some(Fingerprint::of(b"of another phone")));
    let (_, keys) = shaker.shaken(Duration::from_secs(10)).expect("a handshake");
    let until = Instant::now() + Duration::from_secs(5);
    while phone_leg(&peer) != "mismatch" {
        assert!(Instant::now() < until, "{}", phone_leg(&peer));
    }
    assert!(!hears_itself(&mut phone, &shaker.socket, to, &keys));
    let clear = spoken(0);
    shaker.socket.send_to(&clear, to).unwrap();
    assert!(shaker.socket.recv(&mut [0; 2_000]).is_err(), "nothing comes in clear either");
    assert!(peer.said().contains("SOMEBODY MAY STAND BETWEEN"), "{}", peer.said());
    peer.down();
}

#[test]
fn a_phone_that_never_shakes_hands_hears_nothing() {
    let dir = tempdir().unwrap();
    let peer = alices(dir.path());
    let mut phone = TlsPhone::connect(&peer, "alice", PASSWORD);
    assert!(phone.register());
    let (shaker, to, _) = call(&mut phone, "active", None);
    let guess = [1, 2].map(|byte| Master::new([byte; MASTER_LEN]));
    assert!(!hears_itself(&mut phone, &shaker.socket, to, &guess));
    assert_eq!(phone_leg(&peer), "none");
    peer.down();
}
