//! A community with names of its own: invited, certified, called without its authority, and revoked. The real
//! program on loopback.

mod program;

use std::path::Path;

use program::{ANY, Peer, nobody, openvoip, openvoip_in};
use serde_json::{Value, json};
use tempfile::TempDir;

/// An overlay whose document says that the authority of one folder gives the names of camp.example.
struct Camp {
    dir: TempDir,
    file: String,
    home: TempDir,
    address: String,
    key: String,
}

fn camp() -> Camp {
    let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = dir.path().join("camp").to_str().unwrap().to_owned();
    let address = nobody().to_string();
    let (code, answer) = openvoip_in(home.path(), &["authority", "key"]);
    assert_eq!(code, 0, "{answer}");
    let key = answer["public_key"].as_str().unwrap().to_owned();
    let authority = format!("camp.example={key}@{address}");
    let (code, made) = openvoip(&[
        "overlay",
        "create",
        "camp",
        "--profile",
        "secure",
        "--peer",
        &address,
        "--authority",
        &authority,
        "--out",
        &file,
    ]);
    assert_eq!((code, &made["authorities"][0]["domain"]), (0, &json!("camp.example")), "{made}");
    Camp { dir, file, home, address, key }
}

impl Camp {
    fn open(&self) -> Peer {
        let service =
            ["authority", "--domain", "camp.example", "--document", &self.file, "--listen", &self.address];
        let peer = Peer::spawn(self.home.path(), &[&service[..], &["--sip", ANY]].concat());
        peer.until("status", |status| status["online"] == true);
        peer
    }

    /// A command beside the service.
    fn beside(&self, command: &[&str]) -> Value {
        let (code, answer) = openvoip_in(self.home.path(), &[&["authority"], command].concat());
        assert_eq!(code, 0, "{command:?}: {answer}");
        answer
    }

    fn invite(&self, name: &str) -> String {
        self.beside(&["invite", name])["code"].as_str().unwrap().to_owned()
    }

    fn up(&self, home: &Path, name: &str, more: [&str; 2]) -> Peer {
        let peer = Peer::ready(home, &["up", "--document", &self.file, "--user", name, more[0], more[1]]);
        peer.until("status", |status| status["online"] == true);
        peer
    }
}

fn state(status: &Value) -> &str {
    status["users"][0]["state"].as_str().unwrap_or_default()
}

/// Writes until it arrives: who was at another port a moment ago is found anew.
fn delivered(from: &Peer, to: &str) {
    from.until(&format!("msg {to} hello"), |answer| answer["state"] == "delivered");
}

#[test]
fn a_community_gives_its_names_by_codes_and_goes_on_while_its_authority_is_down() {
    let camp = camp();
    let service = camp.open();
    let homes: Vec<TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let (alices, bobs) = (camp.invite("alice@camp.example"), camp.invite("bob@camp.example"));
    let alice = camp.up(homes[0].path(), "alice@camp.example", ["--enrol", &alices.to_uppercase()]);
    let status = alice.until("status", |status| state(status) == "published");
    assert!(status["users"][0]["certified_until"].as_u64().unwrap() > 0);
    let bob = camp.up(homes[1].path(), "bob@camp.example", ["--enrol", &bobs]);
    bob.until("status", |status| state(status) == "published");
    delivered(&bob, "alice");
    let found = bob.get(&["lookup", "alice"]);
    assert!(found["record"]["certified_until"].is_u64(), "{found}");

    // A code is used once, and the name has its key.
    let thief = camp.up(homes[2].path(), "alice@camp.example", ["--enrol", &alices]);
    let told = thief.until("status", |status| status["users"][0]["problem"].is_string());
    assert!(told["users"][0]["problem"].as_str().unwrap().contains("ask for another"), "{told}");
    assert_eq!(state(&told), "uncertified");

    let listed = camp.beside(&["list"]);
    let names: Vec<&str> =
        listed["names"].as_array().unwrap().iter().map(|n| n["name"].as_str().unwrap()).collect();
    assert_eq!((names, &listed["invitations"]), (vec!["alice@camp.example", "bob@camp.example"], &json!([])));

    // Restarted without a code: the certificate was kept, and nobody is asked.
    drop(service);
    alice.get(&["down"]);
    let alice = camp.up(homes[0].path(), "alice@camp.example", ["--bootstrap", &bob.address()]);
    alice.until("status", |status| state(status) == "published");
    delivered(&bob, "alice");
    assert_eq!(state(&thief.status()), "uncertified");
}

#[test]
fn what_is_revoked_beside_the_service_is_published_by_it() {
    let camp = camp();
    let service = camp.open();
    let home = tempfile::tempdir().unwrap();
    let alice = camp.up(home.path(), "alice@camp.example", ["--enrol", &camp.invite("*")]);
    alice.until("status", |status| state(status) == "published");
    let list = format!("overlay get openvoip-revocations:{}", camp.key);
    let before = alice.until(&list, |answer| answer["found"] == true);
    assert_eq!(camp.beside(&["revoke", "alice@camp.example"])["revoked"], true);
    alice.until(&list, |answer| answer["sequence"].as_u64() > before["sequence"].as_u64());
    assert_eq!(camp.beside(&["list"])["names"][0]["revoked"], true);
    drop(service);
}

#[test]
fn what_cannot_work_is_said_with_the_next_command() {
    let camp = camp();
    let refused = |command: &[&str]| {
        let elsewhere = tempfile::tempdir().unwrap();
        let peer =
            Peer::spawn(elsewhere.path(), &[command, &["--json", "--listen", ANY, "--sip", ANY]].concat());
        let (code, answer) = peer.ended();
        assert_eq!(code, 8, "{answer}");
        answer["error"].as_str().unwrap().to_owned()
    };
    let not_named = refused(&["authority", "--document", &camp.file]);
    assert!(
        not_named.contains("openvoip overlay sign FILE") && not_named.contains("--authority"),
        "{not_named}"
    );
    assert!(refused(&["authority"]).contains("no document says"));
    assert!(refused(&["up", "--user", "a@b", "--enrol", "x"]).contains("--document FILE"));
    let (code, answer) = openvoip_in(camp.home.path(), &["authority", "revoke", "nobody@camp.example"]);
    assert!(code == 1 && answer["error"].as_str().unwrap().contains("was not given"), "{answer}");
    assert_eq!(openvoip_in(camp.home.path(), &["authority", "invite", "no name"]).0, 1);
    let signed = [
        "overlay",
        "sign",
        &camp.file,
        "--key",
        &format!("{}.key", camp.file),
        "--drop-authority",
        "camp.example",
    ];
    let (code, answer) = openvoip(&signed);
    assert_eq!((code, &answer["authorities"]), (0, &json!([])), "{answer}");
    drop(camp.dir);
}
