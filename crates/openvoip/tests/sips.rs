//! Phones that speak to their peer over TLS: the real program on loopback, and rustls at the other end.

mod program;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use program::Peer;
use program::tls_phone::TlsPhone;
use sip::ua::{UaEvent, g711_sdp};
use socket2::{Domain, Socket, Type};
use tempfile::tempdir;

const PASSWORD: &str = "pear-lamp-37";

/// A peer that serves alice.
fn peer(dir: &Path) -> Peer {
    let peer = Peer::ready(dir, &["up", "--user", "alice@demo.test"]);
    peer.get(&["phone", "add", "alice", "--password", PASSWORD]);
    peer
}

/// Whether the peer has closed a connection within so many seconds.
fn is_closed(mut tcp: TcpStream, seconds: u64) -> bool {
    tcp.set_read_timeout(Some(Duration::from_secs(seconds))).unwrap();
    let mut rest = Vec::new();
    tcp.read_to_end(&mut rest).is_ok_and(|len| len < 100)
}

#[test]
fn a_phone_that_trusts_the_certificate_registers_and_calls_over_tls() {
    let dir = tempdir().unwrap();
    let peer = peer(dir.path());
    let mut phone = TlsPhone::connect(&peer, "alice", PASSWORD);
    assert!(phone.register());
    assert_eq!(peer.status()["phones"][0]["online"], true);
    let now = phone.now();
    let call = phone.ua.invite(now, "echo@demo.test", g711_sdp("127.0.0.1:40000".parse().unwrap()));
    phone.until(|event| matches!(event, UaEvent::Answered { .. }));
    let sips = peer.at("sips");
    assert!(phone.heard.contains(&format!("Contact: <sip:echo@{sips};transport=tls>")), "{}", phone.heard);
    phone.ua.hang_up(now, call);
    phone.until(|event| matches!(event, UaEvent::Ended { .. }));
    drop(phone);
    peer.until("status", |status| status["phones"][0]["online"] == false);
    peer.down();
}

#[test]
fn a_wrong_password_over_tls_is_refused() {
    let dir = tempdir().unwrap();
    let peer = peer(dir.path());
    assert!(!TlsPhone::connect(&peer, "alice", "guess").register());
    peer.down();
}

#[test]
fn who_does_not_shake_hands_is_closed_at_once_or_after_ten_seconds() {
    let dir = tempdir().unwrap();
    let peer = peer(dir.path());
    let sips = peer.at("sips");
    let silent = TcpStream::connect(sips).unwrap();
    let began = Instant::now();
    let mut clear = TcpStream::connect(sips).unwrap();
    clear.write_all(b"OPTIONS sip:alice@127.0.0.1 SIP/2.0\r\n\r\n").unwrap();
    assert!(is_closed(clear, 5));
    assert!(is_closed(silent, 15) && began.elapsed() > Duration::from_secs(9));
    assert!(TlsPhone::connect(&peer, "alice", PASSWORD).register(), "others go on");
    peer.down();
}

#[test]
fn handshakes_of_the_unproven_are_counted_and_a_phone_that_has_proven_itself_comes_back() {
    let dir = tempdir().unwrap();
    let peer = peer(dir.path());
    assert!(TlsPhone::connect(&peer, "alice", PASSWORD).register());
    let sips = peer.at("sips");
    // From another address of this machine, which proved nothing.
    let connect = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 9], 0)).into()).unwrap();
        socket.connect(&sips.into()).unwrap();
        TcpStream::from(socket)
    };
    assert!(!is_closed(connect(), 1));
    let last = (0..150).map(|_| connect()).last().unwrap();
    assert!(is_closed(last, 1));
    assert!(TlsPhone::connect(&peer, "alice", PASSWORD).register());
    peer.down();
}
