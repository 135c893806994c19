//! No secret gets into a log, at no level: two peers that run, and everything that they write.

mod program;

use std::fs;
use std::path::Path;

use data_encoding::{BASE32, BASE32_NOPAD, BASE64, BASE64URL, HEXLOWER, HEXUPPER};
use program::phone::Phone;
use program::tls_phone::{TlsPhone, demanded, demanding};
use program::{Peer, openvoip};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tempfile::tempdir;
use wire::HashAlgorithm;
use wire::sdp::crypto::{Crypto, Suite};
use zeroize::Zeroizing;

const PASSWORD: &str = "pear-lamp-37";
const GUESS: &str = "pear-lamp-38";

/// A secret, as bytes could be written.
fn ways_to_write(secret: &[u8]) -> Vec<Vec<u8>> {
    let numbers = format!("{secret:?}");
    let texts =
        [HEXLOWER, HEXUPPER, BASE64, BASE64URL, BASE32, BASE32_NOPAD].map(|e| e.encode(secret).into_bytes());
    // Padding and brackets may be left out, or the secret stand among others.
    let bare = |text: Vec<u8>| text.into_iter().filter(|b| *b != b'=').collect::<Vec<u8>>();
    let numbers = numbers.trim_matches(['[', ']']).as_bytes().to_vec();
    texts.map(bare).into_iter().chain([numbers, secret.to_vec()]).collect()
}

/// What is secret in a data directory: its keys.
fn keys(home: &Path) -> Vec<Vec<u8>> {
    let files = fs::read_dir(home).unwrap().chain(fs::read_dir(home.join("users")).unwrap());
    let paths =
        files.map(|entry| entry.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "key"));
    paths.map(|p| HEXLOWER.decode(fs::read(p).unwrap().trim_ascii()).unwrap()).collect()
}

/// The keys that letters to a peer begin by, as it keeps them.
fn letter_keys(home: &Path) -> [Vec<u8>; 2] {
    let account: Value = serde_json::from_slice(&fs::read(home.join("letters/account")).unwrap()).unwrap();
    let account = &account["account"];
    [&account["diffie_hellman_key"], &account["fallback_keys"]["fallback_key"]["key"]]
        .map(|key| serde_json::from_value(key.clone()).unwrap())
}

/// The secret in the key by which a peer is known over TLS: 32 bytes, behind 36 that say what they are (RFC 5915).
fn tls_key(home: &Path) -> Vec<u8> {
    let key = PrivateKeyDer::from_pem_file(home.join("sips-key.pem")).unwrap();
    key.secret_der()[36..68].to_vec()
}

/// What a phone proves without sending it: `alice`, in the realm of her peer, with a password.
fn ha1(user: &str, password: &str) -> Vec<u8> {
    let text = format!("{user}:demo.test:{password}");
    HEXLOWER.decode(HashAlgorithm::Md5.digest(text.as_bytes()).to_string().as_bytes()).unwrap()
}

fn found(log: &[u8], secrets: &[Vec<u8>]) -> bool {
    let stands_in = |way: &Vec<u8>| log.windows(way.len()).any(|part| part == way.as_slice());
    secrets.iter().any(|secret| ways_to_write(secret).iter().any(stands_in))
}

#[test]
fn a_secret_would_be_found_however_it_is_written() {
    let secret = vec![7; 32];
    for way in ways_to_write(&secret) {
        assert!(found(&[b"key=", &way[..], b"\n"].concat(), std::slice::from_ref(&secret)));
    }
    assert!(!found(b"nothing of that sort", &[secret]));
}

#[test]
fn no_password_and_no_key_is_in_any_log_of_a_whole_run() {
    let outside = tempdir().unwrap();
    let at = |name: &str| outside.path().join(name).to_str().unwrap().to_owned();
    let (code, made) =
        openvoip(&["overlay", "create", "test", "--profile", "secure", "--out", &at("test.overlay")]);
    assert_eq!(code, 0, "{made}");
    fs::write(at("trace.toml"), "[log]\nfile = true\nlevel = \"trace\"\n").unwrap();
    let founder_key = fs::read(made["key_file"].as_str().unwrap()).unwrap();

    let homes = [tempdir().unwrap(), tempdir().unwrap()];
    let [bob_home, alice_home] = [homes[0].path(), homes[1].path()];
    let up = |user: &'static str| ["up", "--user", user];
    let trace = ["--config", &at("trace.toml")].map(str::to_owned);
    let bob = Peer::ready(
        bob_home,
        &[&up("bob@demo.test")[..], &[&trace[0], &trace[1], "--document", &at("test.overlay")]].concat(),
    );
    let mut document = vec!["overlay", "sign"];
    let (peer, file, key) = (bob.address(), at("test.overlay"), made["key_file"].as_str().unwrap());
    document.extend([file.as_str(), "--peer", peer.as_str(), "--key", key]);
    assert_eq!(openvoip(&document).0, 0);
    let (code, invitation) = openvoip(&["overlay", "invite", &file]);
    assert_eq!(code, 0, "{invitation}");
    let ticket = invitation["ticket"].as_str().unwrap();
    let alice = Peer::ready(
        alice_home,
        &[&up("alice@demo.test")[..], &[&trace[0], &trace[1], "--ticket", ticket, "--profile", "secure"]]
            .concat(),
    );
    let mut said = vec![alice.started.to_string(), bob.started.to_string()];
    for peer in [&bob, &alice] {
        peer.until("status", |status| status["users"][0]["state"] == "published");
        said.push(peer.get(&["operator", "key"]).to_string());
    }

    said.push(alice.get(&["phone", "add", "alice", "--password", PASSWORD]).to_string());
    assert!((0..6).all(|_| !Phone::new("127.0.0.1", alice.at("sip"), "alice", GUESS).register()));
    let mut phone = Phone::new("127.0.0.1", alice.at("sip"), "alice", PASSWORD);
    said.push(alice.get(&["phone", "unlock"]).to_string());
    assert!(phone.register());
    let written = std::thread::scope(|scope| {
        let written = scope.spawn(|| bob.get(&["msg", "alice@demo.test", "hello"]).to_string());
        while !written.is_finished() {
            phone.turn();
        }
        written.join().unwrap()
    });
    said.push(written);
    assert_eq!(phone.texts, ["hello"]);
    said.push(alice.get(&["call", "echo@demo.test", "--duration", "0.3"]).to_string());
    let mut over_tls = TlsPhone::connect(&alice, "alice", PASSWORD);
    assert!(over_tls.register());
    let mine =
        Crypto { tag: 1, suite: Suite::Tag80, key: Zeroizing::new(*b"thirty bytes of key and salt..") };
    let (_, sdp) = over_tls.call(demanding(40_000, &mine));
    let (_, theirs) = demanded(&sdp);
    for command in ["status", "config show", "calls", "inbox", "phone list", "pins list"] {
        said.push(alice.get(&command.split(' ').collect::<Vec<_>>()).to_string());
    }

    let mut secrets = [keys(bob_home), keys(alice_home)].concat();
    assert_eq!(secrets.len(), 6, "a key of a peer, a user and an operator each");
    secrets.extend([mine, theirs].map(|crypto| crypto.key.to_vec()));
    secrets.extend([bob_home, alice_home].map(tls_key));
    secrets.extend([bob_home, alice_home].map(letter_keys).concat());
    assert_eq!(secrets.last().unwrap().len(), 32);
    secrets.push(HEXLOWER.decode(founder_key.trim_ascii()).unwrap());
    secrets.extend([PASSWORD, GUESS].map(|password| password.as_bytes().to_vec()));
    secrets.extend([ha1("alice", PASSWORD), ha1("alice@demo.test", PASSWORD), ha1("alice", GUESS)]);
    for home in [bob_home, alice_home] {
        for name in ["stderr", "openvoip.log"] {
            let log = fs::read(home.join(name)).unwrap();
            assert!(
                log.len() > 1_000 && log.windows(5).any(|w| w == b"TRACE"),
                "{name} is a log of all levels"
            );
            assert!(!found(&log, &secrets), "a secret stands in {}", home.join(name).display());
        }
    }
    assert!(alice.said().contains("wrong password for alice@demo.test"));
    assert!(!found(said.join("\n").as_bytes(), &secrets));
}
