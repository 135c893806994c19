//! Streams between peers, with the real program: who uses no UDP is a peer like any other, and connections without end
//! cost a bounded number of sockets.

mod program;

use std::fs;
use std::io::Write;
use std::net::TcpStream;

use program::Peer;
use serde_json::json;
use tempfile::tempdir;

/// A peer that uses no UDP.
fn without_udp(command: &[&str]) -> Peer {
    let dir = tempdir().unwrap();
    let file = dir.path().join("openvoip.toml");
    fs::write(&file, "udp = false\n").unwrap();
    Peer::start_in(dir, command)
}

#[test]
fn a_peer_without_udp_joins_is_written_to_and_writes() {
    for profile in ["open", "signed", "secure"] {
        let founder = Peer::start(&["bootstrap", "--overlay-name", "test", "--profile", profile]);
        let address = founder.address();
        let up = ["up", "--bootstrap", &address, "--profile", profile, "--user"];
        let alice = Peer::start(&[&up[..], &["alice@demo.test"]].concat());
        let bob = without_udp(&[&up[..], &["bob@demo.test"]].concat());
        for peer in [&alice, &bob] {
            peer.until("status", |status| status["users"][0]["state"] == "published");
        }
        let told = alice.get(&["msg", "bob@demo.test", "hello"]);
        assert_eq!(told["state"], "delivered", "{profile}: {told}");
        let told = bob.get(&["msg", "alice@demo.test", "hello back"]);
        assert_eq!(told["state"], "delivered", "{profile}: {told}");
        assert!(bob.status()["streams"].as_u64() >= Some(1), "{profile}: {}", bob.status());
        // From its port and to it: the others know it by the address that it listens at.
        let routes = alice.get(&["overlay", "routes"]);
        let known =
            routes["routes"].as_array().unwrap().iter().any(|row| row["address"] == json!(bob.address()));
        assert!(known, "{profile}: {routes}");
        founder.down();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn connections_without_end_take_a_bounded_number_of_sockets_and_are_closed() {
    let mut peer = Peer::start(&["bootstrap", "--overlay-name", "test"]);
    let sockets = |peer: &Peer| fs::read_dir(format!("/proc/{}/fd", peer.pid())).unwrap().count();
    let (before, at) = (sockets(&peer), peer.at("listen"));
    let mut held = Vec::new();
    for n in 0..800 {
        let mut stream = TcpStream::connect(at).expect("the peer port accepts");
        // The beginning of a datagram, or nothing.
        let _ = stream.write_all(if n % 2 == 0 { &[2, 0, 80] } else { &[] });
        held.push(stream);
    }
    peer.wait_until("all were accepted", 5, |peer| peer.status()["streams"].as_u64() > Some(0));
    assert!(sockets(&peer) <= before + 256 + 8, "{} sockets", sockets(&peer));
    peer.wait_until("all were closed", 10, |peer| peer.status()["streams"] == 0);
    assert!(sockets(&peer) <= before + 8, "{} sockets", sockets(&peer));
    assert_eq!(peer.status()["online"], true);
}
