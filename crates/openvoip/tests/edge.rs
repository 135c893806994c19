//! What phones, scanners and other users of this machine can do to a peer that runs: the real program on loopback.

mod program;

use std::fs;
use std::io::Read;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use program::Peer;
use program::phone::Phone;
use tempfile::tempdir;

const OPTIONS: &[u8] =
    b"OPTIONS sip:alice@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2;branch=z9hG4bKx;rport\r\n\
From: <sip:eve@127.0.0.2>;tag=1\r\nTo: <sip:alice@127.0.0.1>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\
Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n";

/// A peer that serves alice, and takes phones at these addresses.
fn peer(dir: &Path, phones_from: &str) -> Peer {
    let file = dir.join("edge.toml");
    fs::write(&file, format!("[phones]\nfrom = {phones_from}\n")).unwrap();
    let peer = Peer::ready(dir, &["up", "--user", "alice@demo.test", "--config", file.to_str().unwrap()]);
    peer.get(&["phone", "add", "alice", "--password", "pear-lamp-37"]);
    peer
}

/// Whether an OPTIONS from that address is answered within half a second.
fn is_answered(peer: &Peer, from: &str) -> bool {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.send_to(OPTIONS, peer.at("sip")).unwrap();
    socket.recv(&mut [0; 2_000]).is_ok()
}

#[test]
fn who_asks_from_elsewhere_gets_nothing_over_udp_and_a_closed_door_over_tcp() {
    let dir = tempdir().unwrap();
    let peer = peer(dir.path(), r#"["127.0.0.3"]"#);
    assert!(!is_answered(&peer, "127.0.0.2"));
    assert!(!is_answered(&peer, "127.0.0.2"));
    let hints = peer.said().matches("asks like a phone and gets no answer").count();
    assert_eq!(hints, 1, "the owner is told once: {}", peer.said());
    assert!(is_answered(&peer, "127.0.0.3"));
    // From 127.0.0.1, which is elsewhere here as well.
    let mut tcp = TcpStream::connect(peer.at("sip")).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(tcp.read(&mut [0; 100]).unwrap_or(0), 0, "closed without a word");
    assert!(Phone::new("127.0.0.3", peer.at("sip"), "alice", "pear-lamp-37").register());
    assert_eq!(peer.status()["dropped"]["sip stranger"], 2);
}

#[test]
fn a_guesser_is_locked_out_and_the_phone_is_not_and_the_owner_learns_how_to_lift_it() {
    let dir = tempdir().unwrap();
    let peer = peer(dir.path(), r#"["127.0.0.0/8"]"#);
    let sip = peer.at("sip");
    let guess = || Phone::new("127.0.0.2", sip, "alice", "guess").register();
    assert!((0..5).all(|_| !guess()));
    assert!(
        !Phone::new("127.0.0.2", sip, "alice", "pear-lamp-37").register(),
        "the right one is too late there"
    );

    let lift = "openvoip phone unlock alice@demo.test";
    let locked = &peer.status()["locked_out"][0];
    assert_eq!(locked["who"], "alice@demo.test at 127.0.0.2");
    assert_eq!((&locked["why"], &locked["lift"]), (&"5 wrong passwords".into(), &lift.into()));
    assert!(peer.said().contains(lift), "{}", peer.said());
    let (code, failed) = peer.ask(&["call", "alice"]);
    assert_eq!(code, 6);
    assert!(failed["reason"].as_str().unwrap().contains(lift), "{failed}");

    assert!(
        Phone::new("127.0.0.3", sip, "alice", "pear-lamp-37").register(),
        "elsewhere it still is the right one"
    );
    assert_eq!(peer.ask(&["phone", "unlock", "bob"]).0, 4);
    assert_eq!(
        peer.get(&["phone", "unlock", "127.0.0.2"])["lifted"][0]["who"],
        "alice@demo.test at 127.0.0.2"
    );
    assert_eq!(peer.status()["locked_out"], serde_json::json!([]));
    assert!(Phone::new("127.0.0.2", sip, "alice", "pear-lamp-37").register());
}

/// The files below a directory that others than the owner may open.
fn open_to_others(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, mode) = (entry.path(), entry.metadata().unwrap().permissions().mode());
        if path.is_dir() {
            found.extend(open_to_others(&path));
        }
        if mode & 0o077 != 0 {
            found.push(format!("{} {mode:o}", path.display()));
        }
    }
    found
}

#[test]
fn all_that_a_peer_keeps_and_the_way_to_command_it_are_its_owners_alone() {
    let dir = tempdir().unwrap();
    let home = dir.path().join("home");
    // A directory that somebody made for it, open to all.
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(home.join("openvoip.toml"), "[log]\nfile = true\n").unwrap();
    fs::set_permissions(home.join("openvoip.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    let peer = Peer::ready(&home, &["up", "--user", "alice@demo.test"]);
    peer.get(&["operator", "key"]);
    peer.get(&["phone", "add", "alice", "--password", "pear-lamp-37"]);
    peer.get(&["msg", "alice", "hello"]);
    let kept = [
        "control.sock",
        "peer.key",
        "sips.pem",
        "sips-key.pem",
        "users/alice@demo.test.key",
        "operator.key",
        "phones.json",
        "openvoip.log",
    ];
    for file in kept {
        assert!(home.join(file).exists(), "{file}");
    }
    let stderr = home.join("stderr");
    let open: Vec<String> =
        open_to_others(&home).into_iter().filter(|f| !f.contains(stderr.to_str().unwrap())).collect();
    assert_eq!(open, [""; 0]);
}

#[test]
fn a_peer_does_not_start_where_a_rule_of_the_network_forbids_its_profile() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("rules.toml");
    let start = |rules: &str, arguments: &[&str]| {
        fs::write(&file, format!("[networks]\n{rules}\n")).unwrap();
        let common = ["up", "--data-dir", dir.path().to_str().unwrap(), "--config", file.to_str().unwrap()];
        program::openvoip(&[&common[..], arguments].concat())
    };
    let (loopback, bootstrap) =
        ("[\"127.0.0.0/8\"]", ["--listen", "127.0.0.1:0", "--bootstrap", "192.0.2.9:7080"]);
    for (rules, arguments, address) in [
        (format!("readable = {loopback}"), vec!["--profile", "secure"], "127.0.0.1"),
        (format!("sealed = {loopback}"), vec!["--profile", "signed"], "127.0.0.1"),
        ("readable = [\"192.0.2.0/24\"]".to_owned(), bootstrap.to_vec(), "192.0.2.9"),
        (format!("readable = {loopback}\nsealed = {loopback}"), vec![], "127.0.0.0/8"),
    ] {
        let (exit, answer) = start(&rules, &arguments);
        let said = answer.to_string();
        assert!(exit != 0 && said.contains(address) && said.contains("networks"), "{rules}: {exit} {said}");
    }
}
