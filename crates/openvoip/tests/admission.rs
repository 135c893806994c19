//! Live peers in an overlay whose identities cost work: who paid is let in, and who did not is told what to do.

mod program;

use std::fs;

use program::{Peer, overlay};

#[test]
fn who_paid_for_an_identity_is_let_in_and_who_did_not_is_told_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hard.toml");
    fs::write(&file, "[overlay]\ndifficulty = 8\n").unwrap();
    let hard = ["--config", file.to_str().unwrap()];
    let [founder, alice, bob] = overlay(&hard, &hard);
    assert_eq!(alice.get(&["lookup", "bob@demo.test"])["found"], true);
    assert_eq!(founder.status()["routing_entries"], 2);

    // A key that is drawn once fulfils it by chance once in 256 times: the all-one secret does not.
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("peer.key"), "11".repeat(32)).unwrap();
    let mut cheap = Peer::ready(other.path(), &["up", "--bootstrap", &bob.address()]);
    cheap.wait_until("it says why it stays out", 20, |peer| peer.said().contains("difficulty 8"));
    assert!(cheap.said().contains("peer.key"), "{}", cheap.said());
    assert_eq!(cheap.status()["online"], false);
    assert_eq!(founder.status()["routing_entries"], 2);
}
