//! What the real program does when the world around it is broken: ports taken, bootstrap dead, files
//! damaged.

mod program;

use std::fs;
use std::net::{TcpListener, UdpSocket};

use program::{ANY, Peer, nobody, openvoip_in};
use serde_json::Value;
use tempfile::tempdir;

#[test]
fn a_port_that_was_demanded_and_is_taken_is_an_error_with_the_next_command() {
    let dir = tempdir().unwrap();
    let taken = UdpSocket::bind(ANY).unwrap().local_addr().unwrap();
    let _udp = UdpSocket::bind(taken).unwrap();
    let (code, answer) = openvoip_in(dir.path(), &["up", "--listen", &taken.to_string(), "--sip", ANY]);
    let said = reason(&answer);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&taken.to_string()) && said.contains("--listen IP:PORT"), "{said}");

    let tcp = TcpListener::bind(ANY).unwrap();
    let taken = tcp.local_addr().unwrap().to_string();
    let (code, answer) = openvoip_in(dir.path(), &["up", "--listen", ANY, "--sip", &taken]);
    let said = reason(&answer);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&taken) && said.contains("--sip IP:PORT"), "{said}");
    assert!(!dir.path().join("control.sock").exists(), "a peer that never ran left its socket behind");
}

#[test]
fn a_port_that_nobody_demanded_moves_when_taken_and_is_printed() {
    let dir = tempdir().unwrap();
    // Whoever has them, they are taken.
    let _peer = UdpSocket::bind("127.0.0.1:7080");
    let _sip = TcpListener::bind("127.0.0.1:5060");
    let mut peer = Peer::spawn(dir.path(), &["up"]);
    peer.wait_until("it answers", 10, |p| p.status()["schema"] == "openvoip.status/1");
    let (listen, sip) = (peer.at("listen"), peer.at("sip"));
    assert!(listen.port() != 7_080 && sip.port() != 5_060, "{listen} {sip}");
    let said = peer.said();
    assert!(said.contains(&format!("peer      {listen}")) && said.contains(&format!("at {sip}")), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn with_the_disk_full_a_peer_goes_on_and_says_so_and_writes_what_it_keeps_once_there_is_room() {
    let dir = tempdir().unwrap();
    // Whatever is written there meets "no space left on device".
    let beside = dir.path().join("state.json.new");
    std::os::unix::fs::symlink("/dev/full", &beside).unwrap();
    let mut peer = Peer::ready(dir.path(), &["up"]);
    peer.wait_until("it is online", 10, |p| p.status()["online"] == true);
    assert_eq!(peer.ask(&["overlay", "put", "greeting", "hello"]).0, 0);
    peer.wait_until("it says so", 15, |p| p.said().contains("No space left on device"));
    assert_eq!(peer.get(&["overlay", "get", "greeting"])["value"], "hello");
    assert!(!dir.path().join("state.json").exists());
    fs::remove_file(&beside).unwrap();
    let kept = dir.path().join("state.json");
    peer.wait_until("it is kept", 15, |_| fs::read_to_string(&kept).is_ok_and(|s| s.contains("greeting")));
    assert!(peer.said().contains("written again"), "{}", peer.said());
}

#[test]
fn with_its_bootstrap_dead_a_peer_joins_through_the_host_cache() {
    let dirs = [tempdir().unwrap(), tempdir().unwrap()];
    let founder = Peer::ready(dirs[0].path(), &["up"]);
    let bootstrap = founder.address();
    let mut guest = Peer::ready(dirs[1].path(), &["up", "--bootstrap", &bootstrap]);
    guest.wait_until("it is online", 10, |p| p.status()["online"] == true);
    guest.down();
    let mut guest = Peer::ready(dirs[1].path(), &["up", "--bootstrap", &nobody().to_string()]);
    guest.wait_until("it is online again", 15, |p| p.status()["online"] == true);
    // It did not found an overlay of its own: the founder is its neighbour.
    assert!(guest.status()["neighbors"].as_u64() >= Some(1));
}

#[test]
fn with_everybody_dead_who_led_it_in_a_peer_joins_through_others_it_met() {
    let dirs = [tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap()];
    let founder = Peer::ready(dirs[0].path(), &["up"]);
    let bootstrap = founder.address();
    let through = ["up", "--bootstrap", &bootstrap];
    let mut other = Peer::ready(dirs[1].path(), &through);
    other.wait_until("it is online", 10, |p| p.status()["online"] == true);
    let mut guest = Peer::ready(dirs[2].path(), &through);
    guest.wait_until("it knows both", 20, |p| p.status()["neighbors"].as_u64() >= Some(2));
    guest.down();
    drop(founder);
    let mut guest = Peer::ready(dirs[2].path(), &through);
    guest.wait_until("it is online again", 15, |p| p.status()["online"] == true);
    let neighbors = guest.get(&["overlay", "neighbors"])["neighbors"].to_string();
    assert!(neighbors.contains(&other.address()), "{neighbors}");
}

#[test]
fn a_founder_that_comes_back_joins_its_overlay_or_founds_it_again() {
    let dirs = [tempdir().unwrap(), tempdir().unwrap()];
    let founder = Peer::ready(dirs[0].path(), &["up", "--overlay-name", "camp"]);
    let bootstrap = founder.address();
    let back = ["up", "--overlay-name", "camp", "--listen", &bootstrap, "--sip", ANY];
    let mut guest = Peer::ready(dirs[1].path(), &["up", "--bootstrap", &bootstrap]);
    guest.wait_until("it is online", 10, |p| p.status()["online"] == true);
    founder.down();
    let mut founder = Peer::spawn(dirs[0].path(), &back);
    founder.wait_until("it is back", 15, |p| p.status()["neighbors"].as_u64() >= Some(1));
    guest.down();
    founder.down();
    // Nobody is left to ask, and the guest waits for the founder.
    let mut founder = Peer::spawn(dirs[0].path(), &back);
    let mut guest = Peer::ready(dirs[1].path(), &["up", "--bootstrap", &bootstrap]);
    founder.wait_until("it founded again", 20, |p| p.status()["online"] == true);
    guest.wait_until("it joined", 30, |p| p.status()["online"] == true);
    assert_eq!(guest.status()["overlay"]["name"], "camp");
}

#[test]
fn with_its_bootstrap_dead_and_no_cache_a_peer_says_so_and_joins_when_it_comes_back() {
    let dirs = [tempdir().unwrap(), tempdir().unwrap()];
    let bootstrap = nobody().to_string();
    let mut guest = Peer::ready(dirs[0].path(), &["up", "--bootstrap", &bootstrap]);
    guest.wait_until("it says so", 20, |p| p.said().contains("still trying"));
    assert_eq!(guest.status()["online"], false);
    let _founder = Peer::spawn(dirs[1].path(), &["up", "--listen", &bootstrap, "--sip", ANY]);
    guest.wait_until("it is online", 30, |p| p.status()["online"] == true);
}

#[test]
fn damaged_state_is_set_aside_with_a_message_and_the_identity_stays() {
    let dir = tempdir().unwrap();
    let peer = Peer::ready(dir.path(), &["up", "--user", "alice@demo.test"]);
    let before = peer.status()["node_id"].clone();
    assert_eq!(peer.get(&["phone", "add", "alice", "--password", "pw"])["schema"], "openvoip.phone/1");
    peer.down();
    let damaged = [("state.json", &b"{\"hosts\":[\"127.0.0.1:70"[..]), ("phones.json", &b"\xff\x00"[..])];
    for (name, bytes) in damaged {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let peer = Peer::ready(dir.path(), &["up"]);
    for (name, bytes) in damaged {
        let aside = dir.path().join(format!("{name}.corrupt-1"));
        assert_eq!(fs::read(&aside).unwrap(), bytes);
        assert!(peer.said().contains(&aside.display().to_string()), "{}", peer.said());
    }
    assert_eq!(peer.status()["node_id"], before);
    assert_eq!(peer.status()["users"][0]["aor"], "alice@demo.test");
    peer.down();
    assert!(serde_json::from_slice::<Value>(&fs::read(dir.path().join("state.json")).unwrap()).is_ok());
}

#[test]
fn a_damaged_key_is_never_replaced() {
    let dir = tempdir().unwrap();
    Peer::ready(dir.path(), &["up", "--user", "alice@demo.test"]).down();
    for name in ["peer.key", "users/alice@demo.test.key"] {
        let path = dir.path().join(name);
        let good = fs::read(&path).unwrap();
        for bad in [&b""[..], &good[..good.len() / 2], b"\xff\xfe"] {
            fs::write(&path, bad).unwrap();
            let (code, answer) = openvoip_in(dir.path(), &["up", "--listen", ANY, "--sip", ANY]);
            let said = reason(&answer);
            assert_eq!(code, 1, "{said}");
            let named = said.contains(&path.display().to_string());
            assert!(named && said.contains("Restore it from a copy"), "{said}");
            assert_eq!(fs::read(&path).unwrap(), bad, "{name} was replaced");
        }
        fs::write(&path, good).unwrap();
    }
    Peer::ready(dir.path(), &["up"]).down();
}

/// Why a command failed.
fn reason(answer: &Value) -> String {
    answer["error"].as_str().unwrap_or_default().to_owned()
}
