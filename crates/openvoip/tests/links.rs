//! Links by DTLS and TLS, with the real program: an overlay asks for them in its document, and peers that start again,
//! have no UDP, or were told otherwise do as they should.

mod program;

use std::fs;
use std::time::{Duration, Instant};

use program::{ANY, Peer, openvoip};
use tempfile::tempdir;

fn published(peer: &Peer) {
    peer.until("status", |status| status["users"][0]["state"] == "published");
}

fn tells(from: &Peer, to: &str, text: &str) {
    let told = from.get(&["msg", to, text]);
    assert_eq!(told["state"], "delivered", "{told}");
}

#[test]
fn peers_speak_over_dtls_and_without_udp_over_tls() {
    let founder = Peer::start(&["bootstrap", "--overlay-name", "test", "--links", "tls"]);
    let address = founder.address();
    let up = ["up", "--bootstrap", &address, "--links", "tls", "--user"];
    let alice = Peer::start(&[&up[..], &["alice@demo.test"]].concat());
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("openvoip.toml"), "udp = false\n").unwrap();
    let bob = Peer::start_in(dir, &[&up[..], &["bob@demo.test"]].concat());
    [&alice, &bob].into_iter().for_each(published);
    tells(&alice, "bob@demo.test", "hello");
    tells(&bob, "alice@demo.test", "hello back");
    assert!(founder.status()["links"].as_u64() >= Some(2), "{}", founder.status());
    assert!(bob.status()["streams"].as_u64() >= Some(1), "{}", bob.status());
    // Who was told of Noise gets no answer from these, and they none from it.
    let dir = tempdir().unwrap();
    let stranger = Peer::ready(dir.path(), &["up", "--bootstrap", &address, "--user", "carol@demo.test"]);
    stranger.until("status", |status| {
        status["dropped"].as_object().is_some_and(|d| d.contains_key("link unanswered"))
    });
    assert_eq!(stranger.status()["online"], false);
    founder.down();
}

#[test]
fn a_document_says_which_links_and_all_who_join_by_it_have_them() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("camp.overlay");
    let file = file.to_str().unwrap();
    let (code, made) = openvoip(&["overlay", "create", "camp", "--links", "tls", "--out", file]);
    assert_eq!((code, &made["links"]), (0, &"tls".into()), "{made}");
    let founder = Peer::start(&["bootstrap", "--document", file]);
    let address = founder.address();
    let joins = ["up", "--document", file, "--bootstrap", &address, "--user"];
    let alice = Peer::start(&[&joins[..], &["alice@camp"]].concat());
    published(&alice);
    assert!(alice.status()["links"].as_u64() >= Some(1), "{}", alice.status());
    let otherwise = ["up", "--document", file, "--links", "noise", "--json", "--listen", ANY, "--sip", ANY];
    let (code, refused) = Peer::spawn(dir.path(), &otherwise).ended();
    assert_eq!(code, 8, "{refused}");
    assert!(refused["error"].as_str().unwrap().ends_with("links are tls there and noise here"), "{refused}");
    let readable = ["overlay", "create", "x", "--links", "tls", "--profile", "signed", "--out", "x.overlay"];
    let (code, refused) = openvoip(&readable);
    assert!(code == 1 && refused["error"].as_str().unwrap().starts_with("links: tls is not"), "{refused}");
}

#[test]
fn a_peer_that_starts_again_is_back_within_seconds() {
    let founder = Peer::start(&["bootstrap", "--overlay-name", "test", "--links", "tls"]);
    let address = founder.address();
    let alice = Peer::start(&["up", "--bootstrap", &address, "--links", "tls", "--user", "alice@demo.test"]);
    published(&alice);
    let (dir, at) = (tempdir().unwrap(), "127.0.0.1:0");
    let bob = |listen: &str| {
        let up = ["up", "--bootstrap", &address, "--links", "tls", "--user", "bob@demo.test"];
        let peer = Peer::spawn(
            dir.path(),
            &[&up[..], &["--json", "--listen", listen, "--sip", at, "--sips", at]].concat(),
        );
        peer.until("status", |status| status["users"][0]["state"] == "published");
        peer
    };
    let first = bob(at);
    let listens = first.at("listen").to_string();
    tells(&alice, "bob@demo.test", "hello");
    drop(first);
    let again = bob(&listens);
    let since = Instant::now();
    tells(&alice, "bob@demo.test", "are you back?");
    tells(&again, "alice@demo.test", "I am");
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}
