//! A name moves to another machine by its words, and no key is lost on the way.

mod program;

use std::path::Path;

use program::{Peer, openvoip_in, openvoip_told};
use serde_json::Value;

/// Gives words to `identity restore`; exit code and answer.
fn restore(home: &Path, name: &str, words: &str) -> (i32, Value) {
    let (code, printed) = openvoip_told(home, &["identity", "restore", name], words);
    (code, serde_json::from_str(&printed).unwrap())
}

#[test]
fn a_name_goes_on_at_another_machine_with_the_words_of_its_key() {
    const NAME: &str = "alice@camp.example";
    let homes = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let friend = Peer::start(&["up", "--user", "bob@camp.example"]);
    let up = ["up", "--user", NAME, "--bootstrap", &friend.address()];
    let state = |status: &Value| status["users"][0]["state"] == "published";
    {
        let peer = Peer::ready(homes[0].path(), &up);
        peer.until("status", state);
        friend.until("msg alice hello", |answer| answer["state"] == "delivered");
    }
    let (code, shown) = openvoip_in(homes[0].path(), &["identity", "words", NAME]);
    assert_eq!(code, 0, "{shown}");
    let words = shown["words"].as_str().unwrap();
    let (code, restored) = restore(homes[1].path(), NAME, words);
    assert_eq!((code, restored["name"].as_str()), (0, Some(NAME)), "{restored}");
    let key = openvoip_in(homes[0].path(), &["identity", "list"]).1["names"][0]["public_key"].clone();
    assert_eq!(restored["public_key"], key);

    // Her friend knows her key, and it has not changed.
    let peer = Peer::ready(homes[1].path(), &["up", "--bootstrap", &friend.address()]);
    peer.until("status", state);
    friend.until("msg alice hello", |answer| answer["state"] == "delivered");
    assert_eq!(friend.get(&["pins", "list"])["pins"][0]["key"], key);
}

#[test]
fn words_that_are_wrong_or_would_replace_a_key_change_nothing() {
    const NAME: &str = "alice@camp.example";
    let homes = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for home in &homes {
        drop(Peer::ready(home.path(), &["up", "--user", NAME]));
    }
    let words = |n: usize| openvoip_in(homes[n].path(), &["identity", "words", NAME]).1["words"].clone();
    let before = [words(0), words(1)];
    let (code, refused) = restore(homes[1].path(), NAME, before[0].as_str().unwrap());
    assert!(code == 1 && refused["error"].as_str().unwrap().contains("has another key here"), "{refused}");
    assert_eq!(restore(homes[0].path(), NAME, before[0].as_str().unwrap()).0, 0, "the same again");
    for (name, words) in [
        (NAME, "some other words"),
        ("nobody", before[0].as_str().unwrap()),
        ("../x@y", before[0].as_str().unwrap()),
    ] {
        let (code, refused) = restore(homes[1].path(), name, words);
        assert!(code == 1 && refused["next"].is_string(), "{refused}");
    }
    assert_eq!([words(0), words(1)], before);
    let (code, refused) = openvoip_in(homes[0].path(), &["identity", "words", "eve@camp.example"]);
    assert!(code == 1 && refused["error"].as_str().unwrap().contains("no key of eve"), "{refused}");
}
