//! Phones that speak to their peer over TLS: the real program on loopback, and rustls at the other end.

mod program;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use media::srtp::{Cipher, Receiver, Sender};
use program::Peer;
use program::tls_phone::{PASSWORD, TlsPhone, alices, demanded, demanding, spoken, trusting};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use sip::ua::{UaEvent, g711_sdp};
use socket2::{Domain, Socket, Type};
use tempfile::tempdir;
use wire::sdp::crypto::{Crypto, Suite};
use zeroize::Zeroizing;

/// Whether the peer has closed a connection within so many seconds.
fn is_closed(mut tcp: TcpStream, seconds: u64) -> bool {
    tcp.set_read_timeout(Some(Duration::from_secs(seconds))).unwrap();
    let mut rest = Vec::new();
    tcp.read_to_end(&mut rest).is_ok_and(|len| len < 100)
}

#[test]
fn a_phone_that_trusts_the_certificate_registers_and_calls_over_tls() {
    let dir = tempdir().unwrap();
    let peer = alices(dir.path());
    let mut phone = TlsPhone::connect(&peer, "alice", PASSWORD);
    assert!(phone.register());
    assert_eq!(peer.status()["phones"][0]["online"], true);
    let (call, _) = phone.call(g711_sdp("127.0.0.1:40000".parse().unwrap()));
    let sips = peer.at("sips");
    assert!(phone.heard.contains(&format!("Contact: <sip:echo@{sips};transport=tls>")), "{}", phone.heard);
    phone.ua.hang_up(phone.now(), call);
    phone.until(|event| matches!(event, UaEvent::Ended { .. }));
    drop(phone);
    peer.until("status", |status| status["phones"][0]["online"] == false);
    peer.down();
}

#[test]
fn a_phone_that_was_given_the_certificate_of_another_peer_makes_no_handshake() {
    let dirs = [tempdir().unwrap(), tempdir().unwrap()];
    let [peer, other] =
        [0, 1].map(|n: usize| Peer::ready(dirs[n].path(), &["up", "--user", "alice@demo.test"]));
    for (trusted, expected) in [(&peer, true), (&other, false)] {
        let mut socket = TcpStream::connect(peer.at("sips")).unwrap();
        let name = ServerName::from(peer.at("sips").ip());
        let mut client = ClientConnection::new(trusting(trusted), name).unwrap();
        assert_eq!(client.complete_io(&mut socket).is_ok(), expected);
    }
    peer.down();
    other.down();
}

#[test]
fn a_wrong_password_over_tls_is_refused() {
    let dir = tempdir().unwrap();
    let peer = alices(dir.path());
    assert!(!TlsPhone::connect(&peer, "alice", "guess").register());
    peer.down();
}

#[test]
fn who_does_not_shake_hands_is_closed_at_once_or_after_ten_seconds() {
    let dir = tempdir().unwrap();
    let peer = alices(dir.path());
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
    let peer = alices(dir.path());
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
    let mut held: Vec<TcpStream> = (0..150).map(|_| connect()).collect();
    assert!(is_closed(held.pop().unwrap(), 1));
    assert!(TlsPhone::connect(&peer, "alice", PASSWORD).register());
    peer.down();
}

#[test]
fn a_phone_that_demands_keys_hears_itself_under_them_and_nothing_in_clear() {
    let dir = tempdir().unwrap();
    let peer = alices(dir.path());
    let mut phone = TlsPhone::connect(&peer, "alice", PASSWORD);
    assert!(phone.register());
    let sound = UdpSocket::bind("127.0.0.1:0").unwrap();
    sound.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mine = Crypto { tag: 7, suite: Suite::Tag32, key: Zeroizing::new([9; 30]) };
    let offer = demanding(sound.local_addr().unwrap().port(), &mine);
    let (call, sdp) = phone.call(offer);
    let (to, theirs) = demanded(&sdp);
    let mut sender = Sender::new(Cipher::Aes, &mine.key).with_short_tags();
    let mut receiver = Receiver::new(Cipher::Aes, &theirs.key).with_short_tags();
    let mut said = 0;
    let mut heard = 0;
    let end = Instant::now() + Duration::from_secs(5);
    while heard < 20 && Instant::now() < end {
        let mut packet = spoken(said);
        said += 1;
        // Every other one in clear: who can send to the port of sound can say nothing.
        if said % 2 == 0 {
            packet[12..].fill(0x53);
        } else {
            let tail = sender.protect(&mut packet).unwrap();
            packet.extend_from_slice(&tail);
        }
        sound.send_to(&packet, to).unwrap();
        phone.turn();
        let mut buffer = [0; 2_000];
        let Ok(len) = sound.recv(&mut buffer) else { continue };
        if wire::rtp::classify(&buffer[..len]) == Some(wire::rtp::Kind::Rtp) {
            assert!(!buffer[..len].windows(20).any(|part| part == [0x35; 20]), "the echo speaks in clear");
            let open = receiver.open(&mut buffer[..len]).expect("under the key that was said");
            assert!(
                buffer[12..open].iter().all(|byte| [0x35, 0xff].contains(byte)),
                "{:x?}",
                &buffer[12..open]
            );
            heard += usize::from(buffer[12..open].starts_with(&[0x35; 20]));
        }
    }
    assert!(heard >= 20, "heard {heard} of {said}");
    assert_eq!(peer.get(&["calls"])["calls"][0]["phone_leg"], "sdes");
    phone.ua.hang_up(phone.now(), call);
    phone.until(|event| matches!(event, UaEvent::Ended { .. }));
    assert_eq!(peer.get(&["calls"])["calls"][0]["phone_leg"], "sdes", "and afterwards");
    peer.down();
}

#[test]
fn a_phone_that_takes_no_keys_is_called_again_without_and_rings_once() {
    let dir = tempdir().unwrap();
    let peer = alices(dir.path());
    let mut phone = TlsPhone::connect(&peer, "alice", PASSWORD);
    assert!(phone.register());
    std::thread::scope(|scope| {
        let call = scope.spawn(|| peer.get(&["call", "alice@demo.test", "--duration", "0.5"]));
        let is_call = |event: &UaEvent| matches!(event, UaEvent::Incoming { .. });
        let UaEvent::Incoming { handle, offer: Some(sdp), .. } = phone.until(is_call) else { unreachable!() };
        assert_eq!(demanded(&sdp).1.suite, Suite::Tag80);
        phone.ua.reject(phone.now(), handle, 488, "");
        let UaEvent::Incoming { handle, offer: Some(sdp), .. } = phone.until(is_call) else { unreachable!() };
        let sdp = String::from_utf8(sdp).unwrap();
        assert!(sdp.contains("RTP/AVP") && !sdp.contains("crypto"), "{sdp}");
        phone.ua.answer(phone.now(), handle, g711_sdp("127.0.0.1:40000".parse().unwrap()));
        phone.until(|event| matches!(event, UaEvent::Ended { .. }));
        let call = call.join().unwrap();
        assert_eq!((&call["state"], &call["phone_leg"]), (&"ended".into(), &"none".into()), "{call}");
        assert!(call.get("failure").is_none(), "{call}");
    });
    peer.down();
}

#[test]
fn a_phone_that_demands_keys_in_a_way_that_is_not_understood_is_told_why() {
    let dir = tempdir().unwrap();
    let peer = alices(dir.path());
    let mut phone = TlsPhone::connect(&peer, "alice", PASSWORD);
    assert!(phone.register());
    let mine = Crypto { tag: 7, suite: Suite::Tag80, key: Zeroizing::new([9; 30]) };
    let offer = String::from_utf8(demanding(40_000, &mine)).unwrap().replace("inline:", "inline:==");
    phone.ua.invite(phone.now(), "echo@demo.test", offer.into_bytes());
    let failed = phone.until(|event| matches!(event, UaEvent::Failed { .. }));
    assert!(matches!(failed, UaEvent::Failed { status: 488, .. }), "{failed:?}");
    assert!(phone.heard.contains("Warning: 399 openvoip \"malformed a=crypto\""), "{}", phone.heard);
    peer.down();
}
