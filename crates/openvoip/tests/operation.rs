//! Running peers for a while: configuration, logs, operators, clients. The real program on loopback.

mod program;

use std::fs;

use program::{Peer, openvoip, overlay};
use serde_json::{Value, json};

/// A data directory with an operator key, and the public half of it.
fn operator() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let (code, answer) = openvoip(&["operator", "key", "--data-dir", dir.path().to_str().unwrap()]);
    assert_eq!((code, &answer["made"]), (0, &json!(true)), "{answer}");
    (dir, answer["public_key"].as_str().unwrap().to_owned())
}

fn refused(answer: (i32, Value), why: &str) {
    assert_eq!(answer.0, 1, "{}", answer.1);
    assert!(answer.1["error"].as_str().unwrap().contains(why), "{}", answer.1);
    assert!(!answer.1["next"].as_str().unwrap().is_empty(), "{}", answer.1);
}

#[test]
fn the_right_key_and_only_that_changes_a_peer_from_afar() {
    let (dir, key) = operator();
    let [founder, alice, _bob] = overlay(&["--operator", &key], &[]);
    let to = founder.address();
    let boss = Peer::start_in(dir, &["up", "--bootstrap", &to]);
    let level = |peer: &Peer| peer.get(&["log", "level"])["level"].clone();

    refused(alice.ask(&["log", "level", "debug", "--node", &to]), "there is no operator key");
    alice.get(&["operator", "key"]);
    refused(alice.ask(&["log", "level", "debug", "--node", &to]), "not an operator of this peer");
    assert_eq!(level(&founder), "info");
    let done = boss.get(&["log", "level", "debug", "--node", &to]);
    assert_eq!((&done["done"], &done["value"]), (&json!(true), &json!("debug")));
    assert_eq!(level(&founder), "debug");
    boss.get(&[
        "log",
        "level",
        "info,openvoip=trace",
        "--node",
        founder.get(&["status"])["node_id"].as_str().unwrap(),
    ]);
    assert_eq!(level(&founder), "info,openvoip=trace");
    assert_eq!(boss.ask(&["log", "level", "--node", &to]).0, 2);

    // This overlay does not let load values be set from afar.
    refused(boss.ask(&["operator", "set", "cpu", "40", "--node", &to]), "does not allow");
    assert_eq!(founder.get(&["status"])["load"], json!({}));
}

#[test]
fn load_values_are_set_and_unset_from_afar_where_the_overlay_allows_it() {
    let (dir, key) = operator();
    let [founder, alice, bob] = overlay(&["--remote-settings"], &["--operator", &key]);
    let boss = Peer::start_in(dir, &["up", "--bootstrap", &founder.address()]);
    let (ip, port) = alice.address().rsplit_once(':').map(|(i, p)| (i.to_owned(), p.to_owned())).unwrap();
    let printed = boss.console(&format!(
        "set cpu 40 {ip} {port}\nset bandwidth 64 bob@demo.test\nset log warn {ip}:{port}\n"
    ));
    assert_eq!(printed.matches("\"done\":true").count(), 3, "{printed}");
    assert_eq!(alice.get(&["status"])["load"], json!({ "cpu": "40" }));
    assert_eq!(bob.get(&["status"])["load"], json!({ "bandwidth": "64" }));
    let shown = boss.get(&["overlay", "diagnostics", "--node", &alice.address()]);
    assert_eq!(shown["diagnostics"]["cpu"], "40");
    boss.get(&["operator", "unset", "cpu", "--node", &alice.address()]);
    assert_eq!(alice.get(&["status"])["load"], json!({}));
    refused(boss.ask(&["operator", "set", "cpu", "9", "--node", &founder.address()]), "not an operator");
}

#[test]
fn the_log_is_changed_at_run_time_kept_in_a_file_and_free_of_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    fs::write(&file, "[log]\nfile = true\nmax_bytes = 10000").unwrap();
    let founder = Peer::start(&["bootstrap"]);
    let config = file.to_str().unwrap();
    let peer = Peer::start(&[
        "up",
        "--bootstrap",
        &founder.address(),
        "--user",
        "alice@demo.test",
        "--config",
        config,
    ]);
    let log = || fs::read_to_string(peer.dir().join("openvoip.log")).unwrap();
    peer.until("status", |status| status["users"][0]["state"] == "published");
    assert!(log().contains("alice@demo.test is published"), "{}", log());
    assert!(!log().contains("DEBUG"));
    peer.get(&["log", "level", "debug"]);
    peer.get(&["phone", "add", "alice", "--password", "pear-lamp-37"]);
    peer.get(&["msg", "alice@demo.test", "our secret plan"]);
    assert!(
        log().contains("DEBUG") && log().contains("message alice@demo.test -> alice@demo.test"),
        "{}",
        log()
    );
    let (code, answer) = peer.ask(&["log", "level", "dbug"]);
    assert_eq!(code, 1, "{answer}");
    assert_eq!(peer.get(&["log", "level"])["level"], "debug");

    // Enough to rotate: every command is a line at this level.
    let console = "status\n".repeat(300);
    peer.console(&console);
    let all = log() + &fs::read_to_string(peer.dir().join("openvoip.log.1")).unwrap() + &peer.said();
    let size = |name: &str| fs::metadata(peer.dir().join(name)).unwrap().len();
    assert!(size("openvoip.log") <= 10_000 && size("openvoip.log.1") <= 10_000);
    let mut secrets = vec!["pear-lamp-37".to_owned(), "our secret plan".into()];
    for key in ["peer.key", "users/alice@demo.test.key"] {
        secrets.push(fs::read_to_string(peer.dir().join(key)).unwrap().trim().to_owned());
    }
    for secret in secrets {
        assert!(!all.contains(&secret), "a secret is in the log");
    }
}

#[test]
fn the_command_line_wins_over_the_file_and_the_file_over_the_defaults() {
    let (code, template) = openvoip(&["config", "template"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    let at = file.to_str().unwrap();
    fs::write(&file, template["template"].as_str().unwrap()).unwrap();
    assert_eq!((code, openvoip(&["config", "check", at]).0), (0, 0));
    fs::write(&file, "users = ['carol']\n[overlay]\nname = 'camp'\nbase = 4\n[probe]\nevery_s = 900")
        .unwrap();
    let peer = Peer::start(&["bootstrap", "--config", at, "--base", "8"]);
    let shown = peer.get(&["config", "show", "--origin"]);
    assert_eq!(shown["settings"]["overlay"]["base"], 8);
    assert_eq!(shown["origin"]["overlay.base"], "command line");
    assert_eq!(shown["origin"]["overlay.name"], format!("{at}:3"));
    assert_eq!(shown["origin"]["overlay.hash"], "default");
    let status = peer.get(&["status"]);
    assert_eq!((&status["overlay"]["name"], &status["overlay"]["base"]), (&json!("camp"), &json!(8)));
    assert_eq!(
        (&status["users"][0]["aor"], &status["probes"]["every_s"]),
        (&json!("carol@camp"), &json!(900.0))
    );

    fs::write(&file, "\n[overlay]\nbas = 4\n[log]\nlevel = 'dbug'").unwrap();
    for command in
        [vec!["config", "check", at], vec!["up", "--config", at], vec!["config", "show", "--config", at]]
    {
        let (code, bad) = openvoip(&command);
        assert_eq!(code, 8, "{command:?}");
        assert_eq!(
            bad["problems"][0],
            json!({ "line": 3, "key": "overlay.bas", "problem": "there is no such key", "nearest": "overlay.base" })
        );
        assert_eq!(
            (&bad["problems"][1]["line"], &bad["problems"][1]["key"]),
            (&json!(5), &json!("log.level"))
        );
    }
}

#[test]
fn the_rules_for_digits_come_from_the_file_and_impossible_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("openvoip.toml");
    fs::write(&file, "users = ['in3fqq']\n[dial.short]\n11 = 'in3fqq'\n[dial.prefixes]\n808 = '*'").unwrap();
    let peer = Peer::start_in(dir, &["bootstrap"]);
    let number = peer.get(&["number", "IN3FQQ"])["digits"].as_str().unwrap().to_owned();
    for keys in ["11", &number, &format!("808{number}")] {
        peer.get(&["msg", keys, keys]);
        let inbox = peer.get(&["inbox"]);
        let last = inbox["messages"].as_array().unwrap().last().unwrap();
        assert_eq!((&last["to"], &last["text"]), (&json!("in3fqq@openvoip"), &json!(keys)));
    }
    assert_eq!(peer.ask(&["msg", "12", "nobody"]).0, 4);
    assert_eq!(peer.get(&["config", "show"])["settings"]["dial"]["short"], json!({ "11": "in3fqq" }));

    fs::write(peer.dir().join("bad.toml"), "\n[dial]\nshort = { 1a = 'anna' }").unwrap();
    let bad = peer.dir().join("bad.toml");
    let (code, answer) = openvoip(&["config", "check", bad.to_str().unwrap()]);
    assert_eq!(code, 8, "{answer}");
    assert_eq!(
        (&answer["problems"][0]["line"], &answer["problems"][0]["key"]),
        (&json!(3), &json!("dial.short"))
    );
}

#[test]
fn whoever_joins_learns_the_options_of_the_overlay() {
    let founder = Peer::start(&["bootstrap", "--overlay-name", "camp", "--hash", "sha-1", "--base", "16"]);
    let peer = Peer::start(&["up", "--bootstrap", &founder.address()]);
    let status = peer.get(&["status"]);
    let overlay = &status["overlay"];
    assert_eq!(
        (&overlay["name"], &overlay["hash"], &overlay["base"]),
        (&json!("camp"), &json!("sha-1"), &json!(16))
    );
    assert_eq!(status["node_id"].as_str().unwrap().len(), 40);
}

#[test]
fn the_configuration_file_of_the_data_directory_is_read_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("openvoip.toml"), "[overlay]\nname = 'home'").unwrap();
    let peer = Peer::start_in(dir, &["up"]);
    assert_eq!(peer.get(&["status"])["overlay"]["name"], "home");
}

#[test]
fn a_client_is_found_and_written_to_and_is_in_nobodys_table() {
    let [founder, alice, bob] = overlay(&[], &[]);
    let client =
        Peer::start(&["up", "--client", "--bootstrap", &founder.address(), "--user", "carol@demo.test"]);
    let status = client.until("status", |status| status["users"][0]["state"] == "published");
    assert_eq!(status["objects"], 0);
    let id = status["node_id"].as_str().unwrap();
    for peer in [&founder, &alice, &bob] {
        for table in ["routes", "neighbors"] {
            let rows = peer.get(&["overlay", table]);
            assert!(!rows.to_string().contains(id), "{rows}");
        }
    }
    assert_eq!(bob.get(&["lookup", "carol@demo.test", "--fresh"])["record"]["nodes"], json!([id]));
    bob.get(&["msg", "carol@demo.test", "hello"]);
    assert_eq!(client.get(&["inbox"])["messages"][0]["text"], "hello");
    client.get(&["msg", "bob@demo.test", "hello yourself"]);
    assert_eq!(client.get(&["ping", "alice@demo.test"])["received"], 1);
}
