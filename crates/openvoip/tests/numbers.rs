//! A stranger is dialled by number, worked out in earnest.

mod program;

use std::path::Path;

use program::{Peer, openvoip_in};
use serde_json::{Value, json};

const BOB: &str = "bob@camp.example";

/// What `identity list` says of the first name.
fn identity(home: &Path) -> Value {
    openvoip_in(home, &["identity", "list"]).1["names"][0].clone()
}

#[test]
fn a_stranger_is_called_by_number_and_by_key_and_a_slip_is_told() {
    let bob = Peer::start(&["up", "--user", BOB]);
    let alice = Peer::start(&["up", "--user", "alice@far.example", "--bootstrap", &bob.address()]);
    bob.get(&["phone", "add", "bob", "--password", "pear"]);
    let status = bob.until("status", |status| status["users"][0]["number"].is_string());
    let number = status["users"][0]["number"].as_str().unwrap().to_owned();
    assert_eq!(status["phones"][0]["number"], json!(number));
    assert_eq!(identity(bob.dir())["number"], json!(number));

    // Nobody has told Alice his name. His phone is off, and the message waits for him.
    let digits = number.replace(' ', "");
    alice.until(&format!("msg {digits} hello"), |answer| answer["state"] == "delivered");
    assert_eq!(alice.get(&["pins", "list"])["pins"][0]["key"], status["users"][0]["public_key"]);
    let key = status["users"][0]["public_key"].as_str().unwrap();
    assert_eq!(alice.get(&["msg", key, "hello again"])["state"], "delivered");
    assert_eq!(alice.get(&["msg", &number, "in groups"])["state"], "delivered");
    assert_eq!(bob.get(&["inbox"])["messages"].as_array().unwrap().len(), 3);
    let (_, called) = alice.ask(&["call", &digits]);
    assert_eq!(called["failure"]["cause"], "unavailable", "his phone is off: {called}");

    let last = digits.as_bytes()[14] - b'0';
    let wrong = format!("{}{}", &digits[..14], (last + 1) % 10);
    let (code, refused) = alice.ask(&["call", &wrong]);
    assert_eq!((code, &refused["failure"]["cause"]), (1, &json!("mistyped")), "{refused}");
}

#[test]
fn a_number_is_kept_beside_the_key_and_the_next_start_works_nothing_out() {
    let home = tempfile::tempdir().unwrap();
    let number = {
        let peer = Peer::ready(home.path(), &["up", "--user", BOB]);
        let status = peer.until("status", |status| status["users"][0]["number"].is_string());
        peer.until("status", |_| home.path().join("numbers.json").exists());
        status["users"][0]["number"].clone()
    };
    // A file that was damaged, or written by hand, makes no other number: it is worked out again.
    let file = home.path().join("numbers.json");
    let kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let (key, stretch) = kept.as_object().unwrap().iter().next().unwrap();
    assert_eq!(
        (key, stretch.as_str().unwrap().len()),
        (&identity(home.path())["public_key"].as_str().unwrap().to_owned(), 40)
    );
    std::fs::write(&file, json!({ key: "07".repeat(16) }).to_string()).unwrap();
    let peer = Peer::ready(home.path(), &["up"]);
    let again = peer.until("status", |status| status["users"][0]["number"].is_string());
    assert_eq!(again["users"][0]["number"], number);
    drop(peer);

    // Where nothing is kept the command line works nothing out: that is the peer's to do.
    std::fs::remove_file(&file).unwrap();
    assert_eq!(identity(home.path())["number"], Value::Null);
}

#[test]
fn a_peer_without_numbers_takes_digits_for_a_name() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("openvoip.toml"), "numbers = false").unwrap();
    let peer = Peer::ready(home.path(), &["up", "--user", BOB]);
    let (_, called) = peer.ask(&["call", "891913969007917"]);
    assert_eq!(called["failure"]["cause"], "not_found", "{called}");
    assert_eq!(peer.status()["users"][0]["number"], Value::Null);
}
