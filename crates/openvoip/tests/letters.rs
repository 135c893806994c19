//! Letters with the real program: what two peers keep, and what becomes of messages when one starts again or loses it.

mod program;

use std::fs;
use std::path::Path;

use program::Peer;
use tempfile::tempdir;

const FOUNDER: [&str; 5] = ["bootstrap", "--overlay-name", "test", "--profile", "secure"];

fn tells(from: &Peer, to: &str, text: &str) {
    let told = from.get(&["msg", to, text]);
    assert_eq!((&told["state"], &told["protected"]), (&"delivered".into(), &"ratchet".into()), "{told}");
}

fn heard(at: &Peer) -> Vec<String> {
    let inbox = at.get(&["inbox"]);
    let messages = inbox["messages"].as_array().unwrap().iter();
    let by_ratchet = messages.inspect(|message| assert_eq!(message["protected"], "ratchet", "{message}"));
    by_ratchet.map(|message| message["text"].as_str().unwrap().to_owned()).collect()
}

fn letters(home: &Path) -> usize {
    fs::read_dir(home.join("letters")).unwrap().count()
}

#[test]
fn two_peers_write_by_ratchet_also_after_one_started_again_and_lost_its_sessions() {
    let founder = Peer::start(&FOUNDER);
    let address = founder.address();
    let homes = [tempdir().unwrap(), tempdir().unwrap()];
    let up = |n: usize, user: &str| {
        let args = ["up", "--bootstrap", &address, "--profile", "secure", "--user", user];
        let peer = Peer::ready(homes[n].path(), &args);
        peer.until("status", |status| status["users"][0]["state"] == "published");
        peer
    };
    let (alice, bob) = (up(0, "alice@demo.test"), up(1, "bob@demo.test"));
    tells(&alice, "bob@demo.test", "one");
    tells(&bob, "alice@demo.test", "two");
    assert_eq!(alice.status()["letters"], 1);
    assert_eq!(homes.each_ref().map(|home| letters(home.path())), [2, 2]);
    bob.down();
    let bob = up(1, "bob@demo.test");
    tells(&alice, "bob@demo.test", "three");
    tells(&bob, "alice@demo.test", "four");
    bob.down();
    fs::remove_dir_all(homes[1].path().join("letters")).unwrap();
    let bob = up(1, "bob@demo.test");
    tells(&alice, "bob@demo.test", "five");
    tells(&bob, "alice@demo.test", "six");
    assert_eq!(heard(&alice), ["two", "four", "six"]);
    assert_eq!(heard(&bob), ["one", "three", "five"]);
    founder.down();
}
