//! What programs may rely on: commands, fields, exit codes. Three peers of the real program on loopback.

mod program;

use std::fs;
use std::process::{Command, Stdio};

use program::{ANY, Peer, has, openvoip, openvoip_in, overlay};
use serde_json::json;

const CALL: &str = "call_id:s from:s to:s state:s path:s reason:s setup_ms:n codec:s secured:s phone_leg:s rtp.sent:n \
                    rtp.received:n rtp.lost:n rtp.jitter_ms:n mos:n";

#[test]
fn the_state_of_a_peer() {
    let [_founder, alice, _bob] = overlay(&[], &[]);
    has(&alice.started, "schema:s listen:s sip:s sips:s users:l public_key:s data_dir:s");
    let added = alice.get(&["phone", "add", "alice", "--password", "pear"]);
    assert_eq!(added["user"], "alice@demo.test");
    let status = alice.until("status", |status| status["phones"][0]["number"].is_string());
    has(
        &status,
        "online:b node_id:s sip:s sips:s overlay.name:s overlay.algorithm:s overlay.hash:s overlay.base:n users:l phones:l \
         routing_entries:n neighbors:n objects:n bytes_per_s.in:n bytes_per_s.out:n ledger:o rss_bytes:n \
         uptime_ms:n nat.type:s nat.mapped:S reachability:s probes.issued:n probes.succeeded:n \
         probes.failed:n probes.every_s:N probes.last_time:N",
    );
    assert_eq!((&status["overlay"]["name"], &status["overlay"]["base"]), (&json!("test"), &json!(2)));
    has(&status["ledger"]["join"], "in:n out:n");
    has(&status["phones"][0], "user:s number:s contact:s online:b");
    has(&status["users"][0], "aor:s public_key:s number:s state:s");
    assert!(status["rss_bytes"].as_u64() > Some(1_000_000) && status["routing_entries"].as_u64() >= Some(2));

    let phones = alice.get(&["phone", "list"]);
    assert_eq!(phones["phones"], status["phones"]);
    assert_eq!(alice.get(&["phone", "rm", "alice"])["removed"], true);
    assert_eq!(alice.ask(&["phone", "rm", "alice"]).0, 4);
    assert_eq!(alice.get(&["phone", "list"])["phones"], json!([]));
    assert_eq!(alice.ask(&["phone", "add", "alice", "--password", ""]).0, 1);

    // A probe of a random key, and its outcome in the status.
    assert_eq!(alice.get(&["probe", "--every", "3600"])["every_s"], 3600.0);
    let status = alice.until("status", |status| status["probes"]["last_time"].is_u64());
    assert_eq!((&status["probes"]["issued"], &status["probes"]["failed"]), (&json!(1), &json!(0)));
    let shown = alice.get(&["probe"]);
    has(&shown, "every_s:n issued:n succeeded:n failed:n last_ms:n last_time:n");
    assert_eq!((&shown["every_s"], &shown["issued"]), (&json!(3600.0), &json!(1)), "asking changes nothing");
    assert_eq!(alice.get(&["probe", "--every", "0"])["every_s"], json!(null));
}

#[test]
fn a_user_who_is_new_with_a_phone_is_published() {
    let [founder, alice, _bob] = overlay(&[], &[]);
    alice.get(&["phone", "add", "carol", "--password", "pear"]);
    founder.until("lookup carol@demo.test", |answer| answer["found"] == true);
}

#[test]
fn lookups_of_users_and_keys() {
    let [founder, alice, bob] = overlay(&[], &[]);
    let id = bob.get(&["status"])["node_id"].clone();
    for mode in ["iterative", "recursive", "parallel"] {
        let found =
            alice.get(&["lookup", "bob@demo.test", "--mode", mode, "--paths", "2", "--fresh", "--trace"]);
        has(
            &found,
            "found:b mode:s hops:n time_ms:n messages:n record.user:s record.nodes:l record.sequence:n \
             record.expires_ms:n record.pin:s path:l",
        );
        assert_eq!((&found["found"], &found["record"]["nodes"]), (&json!(true), &json!([id])), "{mode}");
        has(&found["path"][0], "node:s address:s rtt_ms:n decision:s");
    }
    // The key of a contact record is the Node-ID of its peer.
    let found = founder.get(&["lookup", id.as_str().unwrap()]);
    assert_eq!((&found["record"]["kind"], &found["record"]["nodes"]), (&json!("peer"), &json!([id])));
    let objects = founder.get(&["overlay", "objects"]);
    let user = objects["objects"].as_array().unwrap().iter().find(|o| o["kind"] == "user").unwrap();
    assert_eq!(alice.get(&["lookup", user["key"].as_str().unwrap()])["record"]["kind"], "user");
    let (code, missing) = alice.ask(&["lookup", "nobody@demo.test"]);
    assert_eq!((code, &missing["found"]), (4, &json!(false)));
    assert_eq!(alice.ask(&["lookup", &"0".repeat(64)]).0, 4);
}

#[test]
fn tables_and_records_of_this_and_of_other_peers() {
    let [founder, alice, bob] = overlay(&[], &[]);
    let (address, id) = (bob.address(), bob.get(&["status"])["node_id"].clone());
    for node in [None, Some(address.as_str()), id.as_str(), Some("bob@demo.test")] {
        let at: Vec<&str> = node.into_iter().flat_map(|node| ["--node", node]).collect();
        let table = |name| alice.get(&[&["overlay", name], &at[..]].concat());
        has(&table("routes")["routes"][0], "row:n node:s address:s rtt_ms:N state:s");
        has(&table("neighbors")["neighbors"][0], "row:n node:s address:s");
        let object = &table("objects")["objects"][0];
        has(object, "key:s kind:s sequence:n value_bytes:N removed:b");
        assert_eq!(object["value_bytes"].is_null(), node.is_some(), "another peer does not tell: {object}");
        has(&table("connections"), "connections:l");
    }
    let others = alice.get(&["overlay", "connections", "--node", &address]);
    has(&others, "node:s counts:o");
    has(&alice.get(&["overlay", "diagnostics", "--node", &address]), "node:s diagnostics.version:s");

    let stored = alice.get(&["overlay", "put", "greeting", "hello world", "--ttl", "600"]);
    has(&stored, "stored:b holders:n sequence:n");
    let value = founder.get(&["overlay", "get", "greeting"]);
    has(&value, "found:b value:s sequence:n owner:s");
    assert_eq!(value["value"], "hello world");
    alice.get(&["overlay", "remove", "greeting"]);
    let (code, gone) = founder.ask(&["overlay", "get", "greeting"]);
    assert_eq!((code, &gone["found"]), (4, &json!(false)));
    has(&gone, "found:b value:S sequence:n owner:S");
}

#[test]
fn messages_and_calls() {
    let [_founder, alice, bob] = overlay(&[], &[]);
    let sent = alice.get(&["msg", "bob@demo.test", "see you at seven"]);
    has(&sent, "message_id:s state:s reason:s");
    let inbox = bob.get(&["inbox"]);
    has(&inbox["messages"][0], "message_id:s from:s to:s text:s time:n state:s key_changed:b");
    assert_eq!(inbox["messages"][0]["text"], "see you at seven");
    let (code, failed) = alice.ask(&["msg", "nobody@demo.test", "hello"]);
    assert_eq!((code, &failed["state"]), (4, &json!("failed")));

    let wav = alice.dir().join("heard.wav");
    let call = alice.get(&["call", "echo", "--duration", "1", "--record", wav.to_str().unwrap()]);
    has(&call, CALL);
    assert!(call["rtp"]["received"].as_u64() > Some(20), "{call}");
    let heard = media::Wav::read(&fs::read(&wav).unwrap()).unwrap().mono_at(8_000);
    assert!(media::heard(&heard, 8_000, 440.0).at_least(0.5), "the echo of the tone is in the recording");

    let (code, failed) = alice.ask(&["call", "bob@demo.test", "--duration", "1"]);
    assert_eq!(code, 6, "bob's phone is off: {failed}");
    has(&failed, CALL);
    has(&failed, "failure.cause:s failure.evidence:s failure.next_step:s");
    assert_eq!(alice.ask(&["call", "nobody@demo.test"]).0, 4);
    let nowhere = alice.dir().join("nowhere").join("heard.wav");
    let (code, refused) = alice.ask(&["call", "echo", "--record", nowhere.to_str().unwrap()]);
    assert_eq!((code, refused["error"].as_str().unwrap().contains("no directory")), (1, true), "{refused}");
    let calls = alice.get(&["calls"]);
    assert_eq!(calls["calls"].as_array().unwrap().len(), 3);
    calls["calls"].as_array().unwrap().iter().for_each(|call| has(call, CALL));
}

const PIN: &str = "name:s key:S nodes:l confirmed:b other_key:S other_nodes:l";

#[test]
fn keys_of_people() {
    let [founder, alice, bob] = overlay(&[], &[]);
    assert_eq!(alice.get(&["pins", "list"])["pins"], json!([]));
    let (code, unknown) = alice.ask(&["pins", "accept", "bob@demo.test"]);
    assert_eq!((code, unknown["error"].as_str().unwrap()), (4, "no key of bob@demo.test is known yet"));
    assert!(unknown["next"].as_str().unwrap().starts_with("openvoip pins list"), "{unknown}");
    let seen = |alice: &Peer| alice.get(&["lookup", "bob@demo.test"])["record"].clone();
    assert_eq!(seen(&alice)["pin"], "new");
    alice.get(&["msg", "bob@demo.test", "hello"]);
    assert_eq!(seen(&alice)["pin"], "pinned");
    let pin = alice.get(&["pins", "list"])["pins"][0].clone();
    has(&pin, PIN);
    let bobs = bob.get(&["status"]);
    assert_eq!((&pin["key"], &pin["confirmed"]), (&bobs["users"][0]["public_key"], &json!(false)));
    assert_eq!(pin["nodes"], json!([bobs["node_id"]]));
    // Whoever is written to knows the peer, and no more.
    assert_eq!(bob.get(&["pins", "list"])["pins"][0]["key"], json!(null));

    let accepted = alice.get(&["pins", "accept", "bob"]);
    has(&accepted, PIN);
    assert_eq!((&accepted["name"], &accepted["confirmed"]), (&json!("bob@demo.test"), &json!(true)));
    // The founder serves nobody yet: in the name of bob it is another peer that writes.
    founder.get(&["msg", "alice@demo.test", "lend me money", "--from", "bob@demo.test"]);
    assert_eq!(alice.get(&["inbox"])["messages"][0]["key_changed"], true);
    assert_eq!(
        alice.get(&["pins", "forget", "bob"]),
        json!({
            "schema": "openvoip.pin/1", "name": "bob@demo.test", "forgotten": true
        })
    );
    assert_eq!(alice.ask(&["pins", "forget", "bob"]).0, 4);
}

#[test]
fn several_pings_are_one_answer() {
    let [_founder, alice, bob] = overlay(&[], &[]);
    for who in ["bob@demo.test", &bob.address(), bob.get(&["status"])["node_id"].as_str().unwrap()] {
        let ping = alice.get(&["ping", who, "-c", "3", "--interval", "0.01"]);
        has(&ping, "sent:n received:n node:s address:s path:s rtt_ms:n min_ms:n max_ms:n replies:l");
        assert_eq!((&ping["sent"], &ping["received"]), (&json!(3), &json!(3)));
        assert_eq!(ping["address"], bob.address());
    }
    // Nobody listens there.
    let (code, silent) = alice.ask(&["ping", "127.0.0.1:9", "-c", "2", "--interval", "0"]);
    assert_eq!((code, &silent["received"]), (5, &json!(0)));
    assert_eq!(alice.ask(&["ping", "nobody@demo.test"]).0, 4);
    let (code, own) = alice.ask(&["ping", "alice@demo.test"]);
    assert_eq!(code, 1);
    assert!(own["error"].as_str().unwrap().contains("this peer itself"), "{own}");
}

#[test]
fn the_console_of_2008() {
    let [founder, alice, bob] = overlay(&[], &[]);
    let (ip, port) = bob.address().rsplit_once(':').map(|(i, p)| (i.to_owned(), p.to_owned())).unwrap();
    let id = bob.get(&["status"])["node_id"].as_str().unwrap().to_owned();
    let printed = alice.console(&format!(
        "showrt\nshownt\nshowro\nshowcp\ngetrt {ip} {port}\ngetnt {ip}:{port}\ngetro {id}\n\n\
         insert song ba na na\nrlookup song\nrlookup {id}\nulookup bob@demo.test\nset cpu 40\nstatus\n\
         unset cpu\nset mood good\nping bob@demo.test\nquit\nstatus\n"
    ));
    let answers: Vec<serde_json::Value> = printed.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let schemas: Vec<&str> =
        answers.iter().map(|a| a["schema"].as_str().unwrap().split(['.', '/']).nth(1).unwrap()).collect();
    assert_eq!(
        schemas.join(" "),
        "routes neighbors objects connections routes neighbors objects put get lookup lookup set status set \
         error ping"
    );
    assert_eq!(answers[8]["value"], "ba na na");
    assert_eq!((&answers[9]["record"]["kind"], &answers[10]["found"]), (&json!("peer"), &json!(true)));
    assert_eq!(answers[12]["load"], json!({ "cpu": "40" }));
    assert!(answers[14]["error"].as_str().unwrap().contains("no setting 'mood'"));
    assert_eq!(alice.get(&["status"])["load"], json!({}));
    assert!(founder.console("help\n").contains("showrt"));
}

#[test]
fn the_digits_of_a_call_sign_and_back() {
    for given in ["in3fqq", "436230337272"] {
        let (code, answer) = openvoip(&["number", given]);
        has(&answer, "call_sign:s digits:s");
        assert_eq!(
            (code, &answer["call_sign"], &answer["digits"]),
            (0, &json!("IN3FQQ"), &json!("436230337272"))
        );
    }
    for none in ["anna", "43623033727", "432"] {
        let (code, answer) = openvoip(&["number", none]);
        assert_eq!((code, &answer["schema"]), (2, &json!("openvoip.error/1")), "{none}: {answer}");
    }
}

#[test]
fn failures_are_answers_with_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    let (code, answer) = openvoip(&["status", "--data-dir", at]);
    assert_eq!(code, 3);
    has(&answer, "error:s next:s");
    assert!(answer["next"].as_str().unwrap().contains("openvoip up"));
    for line in [
        "stattus",
        "lookup",
        "ping bob -c many",
        "call bob --duration soon",
        "lookup bob --mode fast",
        "status --timeout 0",
    ] {
        let (code, answer) = openvoip(&line.split(' ').collect::<Vec<_>>());
        assert_eq!((code, &answer["schema"]), (2, &json!("openvoip.error/1")), "{line}: {answer}");
    }
    let (code, answer) = openvoip(&["up", "--data-dir", at, "--base", "3"]);
    assert_eq!((code, &answer["problems"][0]["key"]), (8, &json!("overlay.base")), "{answer}");
    let (code, answer) = openvoip(&["version", "--verbose"]);
    assert_eq!(code, 0);
    has(&answer, "version:s protocol:n algorithms:l hashes:l platform:s build:s licence:s");
}

#[test]
fn whoever_reads_no_further_ends_no_command() {
    let [_founder, alice, _bob] = overlay(&[], &[]);
    for line in ["config template", "config show", "status", "status --json", "overlay routes"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_openvoip"));
        command.args(line.split(' ')).arg("--data-dir").arg(alice.dir()).stdout(writer);
        let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{line}: {said}");
    }
}

#[test]
fn a_second_peer_in_one_directory_and_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let peer = Peer::ready(dir.path(), &["up"]);
    let (code, answer) = openvoip_in(dir.path(), &["up", "--listen", ANY, "--sip", ANY]);
    assert_eq!(code, 1);
    assert!(answer["error"].as_str().unwrap().contains("runs on"), "{answer}");
    peer.down();
    let (code, _) = openvoip_in(dir.path(), &["status"]);
    assert_eq!(code, 3, "after `down` nobody answers any more");
}

#[test]
fn the_laboratory_and_the_simulator_and_the_demonstration() {
    let lab = ["lab", "--peers", "10", "--lookups", "20", "--idle", "0.5"];
    let (code, answer) = openvoip(&lab);
    assert_eq!(code, 0, "{answer}");
    has(
        &answer,
        "peers:n joined_ms:n lookups.issued:n lookups.succeeded:n lookups.time_ms.p50:n lookups.time_ms.p95:n \
         lookups.time_ms.p99:n bytes_per_peer_per_s.ledger:n bytes_per_peer_per_s.kernel:N rss_bytes:n cpu_s:n \
         wall_s:n failures:l",
    );
    assert_eq!(answer["lookups"]["succeeded"], 20);

    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("s.toml");
    let out = dir.path().join("out");
    fs::write(&scenario, "name = 'small'\nnodes = 5\nduration_s = 100\nlookups_per_s = 1").unwrap();
    let play = |more: &[&str]| openvoip(&[&["sim", scenario.to_str().unwrap()], more].concat());
    let (code, first) = play(&["--nodes", "8", "--seed", "4", "--log", "--out", out.to_str().unwrap()]);
    assert_eq!(code, 0, "{first}");
    has(
        &first,
        "scenario:s seed:n nodes:n virtual_s:n wall_s:n events:n log_hash:s lookups.issued:n \
         lookups.succeeded:n lookups.hops_mean:n lookups.time_ms.p50:n lookups.time_ms.p95:n \
         lookups.time_ms.p99:n bytes_per_node_per_s.mean:n bytes_per_node_per_s.p99:n \
         bytes_per_node_per_s.by_function:o bytes_per_node_memory:N violations:l",
    );
    assert_eq!((&first["nodes"], &first["seed"]), (&json!(8), &json!(4)));
    assert!(first["wall_s"].as_f64() > Some(0.0));
    let written: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(written, first);
    let log = fs::read_to_string(out.join("log.txt")).unwrap();
    let datagrams = log.lines().filter(|line| line.contains(" > ")).count() as u64;
    assert_eq!(Some(datagrams), first["datagrams"]["sent"].as_u64());
    // The same seed, the same log hash, watched or not.
    assert_eq!(
        play(&["--nodes", "8", "--seed", "4", "--overlay", "kademlia"]).1["log_hash"],
        first["log_hash"]
    );
    fs::write(&scenario, "nodes = 5\nduration_s = 90\n[bars]\nmaintenance_bytes_per_s = 1").unwrap();
    let (code, violated) = play(&[]);
    assert_eq!((code, violated["violations"].as_array().unwrap().len()), (1, 1), "{violated}");
    fs::write(&scenario, "noodles = 5").unwrap();
    assert_eq!(play(&[]).0, 8);

    let (code, demo) = openvoip(&["demo", "--headless", "--check", "--peers", "6"]);
    assert_eq!(code, 0, "{demo}");
    has(
        &demo,
        "ok:b peers:n joined_ms:n lookup.found:b lookup.hops:n lookup.time_ms:n call.setup_ms:n call.path:s \
         call.reason:s call.heard_by_caller:b call.heard_by_callee:b call.mos:n message.delivered:b \
         message.time_ms:n maintenance_bytes_per_s.mean:n maintenance_bytes_per_s.p99:n failures:l",
    );
}
