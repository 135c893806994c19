//! Overlays that are described by a signed document: made, shown, changed, handed on, and joined by. The real
//! program on loopback.

mod program;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use program::{ANY, Peer, has, nobody, openvoip, openvoip_in};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with the document of an overlay in it, and its path.
fn founded(options: &[&str]) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = path(&dir, "camp");
    get(&[&["overlay", "create", "camp", "--out", &file], options].concat());
    (dir, file)
}

fn path(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

/// What a command that must work answers.
fn get(arguments: &[&str]) -> Value {
    let (code, answer) = openvoip(arguments);
    assert_eq!(code, 0, "{arguments:?}: {answer}");
    answer
}

/// Why a command failed, with this exit code.
fn refused(code: i32, arguments: &[&str]) -> String {
    let answer = openvoip(arguments);
    assert_eq!(
        (answer.0, &answer.1["schema"]),
        (code, &json!("openvoip.error/1")),
        "{arguments:?}: {}",
        answer.1
    );
    answer.1["error"].as_str().unwrap().to_owned()
}

/// Why a peer does not even start.
fn stays_down(dir: &Path, command: &[&str]) -> String {
    let peer = Peer::spawn(dir, &[command, &["--json", "--listen", ANY, "--sip", ANY]].concat());
    let (code, answer) = peer.ended();
    assert_eq!((code, &answer["schema"]), (8, &json!("openvoip.error/1")), "{command:?}: {answer}");
    answer["error"].as_str().unwrap().to_owned()
}

/// The file of a new operator key, and its public half.
fn operator(dir: &TempDir, name: &str) -> (String, String) {
    let home = dir.path().join(name);
    let (_, answer) = openvoip_in(&home, &["operator", "key"]);
    (answer["file"].as_str().unwrap().to_owned(), answer["public_key"].as_str().unwrap().to_owned())
}

#[test]
fn a_document_is_made_with_a_key_beside_it_and_nothing_is_overwritten() {
    let (dir, file) = founded(&["--algorithm", "chord", "--replicas", "3", "--peer", "192.0.2.1:7080"]);
    let key_file = format!("{file}.key");
    assert_eq!(fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
    let shown = get(&["overlay", "show", &file]);
    has(
        &shown,
        "file:s name:s founder:s sequence:n created:n signature_holds:b signer:s signed_by_founder:b documents:n \
         good_for_newcomers:b algorithm:s hash:s base:n replicas:n difficulty:n remote_settings:b profile:s links:s \
         kinds:l bootstrap:l managed:l revoked:l operators:l authorities:l bytes:n",
    );
    assert_eq!((&shown["schema"], &shown["name"]), (&json!("openvoip.overlay/1"), &json!("camp")));
    assert_eq!((&shown["algorithm"], &shown["replicas"]), (&json!("chord"), &json!(3)));
    assert_eq!((&shown["signature_holds"], &shown["signed_by_founder"]), (&json!(true), &json!(true)));
    assert_eq!((&shown["profile"], &shown["bootstrap"]), (&json!("secure"), &json!(["192.0.2.1:7080"])));

    let before = (fs::read(&file).unwrap(), fs::read(&key_file).unwrap());
    let again = ["overlay", "create", "fair", "--out", &file];
    assert!(refused(1, &again).contains("is there already"));
    fs::remove_file(&file).unwrap();
    assert!(refused(1, &again).contains("camp.key is there already"), "the key stays");
    assert!(!Path::new(&file).exists());
    assert_eq!(fs::read(&key_file).unwrap(), before.1);
    let other = path(&dir, "other");
    assert!(
        refused(1, &["overlay", "create", "a b", "--out", &other]).starts_with("name: a b is not a word")
    );
    assert!(refused(1, &["overlay", "create", "x", "--base", "3", "--out", &other]).contains("power of two"));
    assert!(!Path::new(&format!("{other}.key")).exists());
}

#[test]
fn a_changed_document_is_shown_as_that_and_signed_by_nobody() {
    let (_dir, file) = founded(&["--peer", "192.0.2.1:7080"]);
    let mut bytes = fs::read(&file).unwrap();
    bytes[5 + 32 + 7] = 9; // The sequence.
    fs::write(&file, &bytes).unwrap();
    let (code, shown) = openvoip(&["overlay", "show", &file]);
    assert_eq!((code, &shown["signature_holds"], &shown["sequence"]), (1, &json!(false), &json!(9)));
    let key = format!("{file}.key");
    assert!(refused(1, &["overlay", "sign", &file, "--key", &key]).contains("signature does not hold"));
    assert!(refused(1, &["overlay", "invite", &file]).contains("signature does not hold"));
    bytes.push(0);
    fs::write(&file, &bytes).unwrap();
    assert!(refused(1, &["overlay", "show", &file]).ends_with("this is not an overlay document"));
    fs::write(&file, &bytes[..bytes.len() - 2]).unwrap();
    assert!(refused(1, &["overlay", "show", &file]).ends_with("it is cut off within signature"));
}

#[test]
fn founder_and_operators_sign_the_next_document_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let [(old, old_key), (new, new_key)] = [operator(&dir, "old"), operator(&dir, "new")];
    let (_camp, file) = founded(&["--operator", &old_key]);
    let not_one = refused(1, &["overlay", "sign", &file, "--key", &new, "--operator", &new_key]);
    assert!(not_one.contains("neither the founder key nor an operator key"), "{not_one}");

    let signed = get(&[
        &["overlay", "sign", &file, "--key", &old, "--operator", &new_key, "--revoke", &old_key][..],
        &["--peer", "192.0.2.7:7080"],
    ]
    .concat());
    assert_eq!((&signed["sequence"], &signed["signed_by_founder"]), (&json!(2), &json!(false)));
    assert_eq!((&signed["documents"], &signed["good_for_newcomers"]), (&json!(2), &json!(true)));
    assert_eq!((&signed["signer"], &signed["operators"]), (&json!(old_key), &json!([new_key])));
    assert_eq!((&signed["revoked"], &signed["bootstrap"]), (&json!([old_key]), &json!(["192.0.2.7:7080"])));
    refused(1, &["overlay", "sign", &file, "--key", &old]);
    assert_eq!(get(&["overlay", "sign", &file, "--key", &new])["sequence"], 3);
    let third = format!("{file}.3");
    let founder = format!("{file}.key");
    let fourth = get(&["overlay", "sign", &file, "--key", &founder, "--out", &third]);
    assert_eq!((&fourth["sequence"], &fourth["documents"]), (&json!(4), &json!(1)));
    assert_eq!(get(&["overlay", "show", &file])["sequence"], 3);
}

#[test]
fn a_ticket_leads_into_the_overlay_and_keeps_its_founder_key() {
    let founder = Peer::start(&["bootstrap", "--overlay-name", "camp"]);
    let (_dir, file) = founded(&["--peer", &founder.address()]);
    let invited = get(&["overlay", "invite", &file]);
    has(&invited, "name:s profile:s links:s founder:s peers:l ticket:s");
    let ticket = invited["ticket"].as_str().unwrap();
    assert_eq!(get(&["overlay", "show", &ticket.to_uppercase().replace('-', " ")]), invited);

    let typed = ticket.replace("openvoip:", "Openvoip: ").replace('-', " ");
    let home = tempfile::tempdir().unwrap();
    let mut peer = Peer::ready(home.path(), &["up", "--ticket", &typed]);
    peer.wait_until("it joins", 10, |peer| peer.status()["online"] == true);
    assert_eq!(
        (&peer.status()["overlay"]["name"], &peer.status()["routing_entries"]),
        (&json!("camp"), &json!(1))
    );
    let kept = fs::read_to_string(home.path().join("overlay.founder")).unwrap();
    assert_eq!(json!(kept), invited["founder"]);

    // Another overlay's ticket, or document, is not for this peer any more.
    let (_other, other) = founded(&["--peer", &founder.address()]);
    peer.down();
    assert!(stays_down(home.path(), &["up", "--document", &other]).contains("founder key"));
    let stranger = get(&["overlay", "invite", &other])["ticket"].as_str().unwrap().to_owned();
    assert!(stays_down(home.path(), &["up", "--ticket", &stranger]).contains("belongs to the overlay"));
}

#[test]
fn a_ticket_that_is_typed_wrong_is_told_as_that() {
    let (_dir, file) = founded(&["--peer", "192.0.2.1:7080"]);
    let ticket = get(&["overlay", "invite", &file])["ticket"].as_str().unwrap().to_owned();
    let wrong = if ticket.ends_with('x') { 'y' } else { 'x' };
    let typed = format!("{}{wrong}", &ticket[..ticket.len() - 1]);
    assert!(refused(1, &["overlay", "show", &typed]).contains("typed wrong"));
    assert!(refused(2, &["up", "--ticket", &typed]).contains("typed wrong"));
    let (_dir, lonely) = founded(&[]);
    assert!(refused(1, &["overlay", "invite", &lonely]).contains("nobody could join"));
}

#[test]
fn a_document_founds_the_overlay_and_leads_into_it() {
    let address = nobody().to_string();
    let (_dir, file) =
        founded(&["--algorithm", "chord", "--base", "4", "--replicas", "3", "--peer", &address]);
    // Whom the document names first founds, since nobody else is named.
    let own = tempfile::tempdir().unwrap();
    let mut founder =
        Peer::spawn(own.path(), &["up", "--document", &file, "--listen", &address, "--sip", ANY]);
    founder.wait_until("it founds", 10, |peer| peer.status()["online"] == true);
    // Told to found, a peer asks nobody that the document names.
    let (_dir, lonely) = founded(&["--peer", &nobody().to_string()]);
    assert_eq!(Peer::start(&["bootstrap", "--document", &lonely]).status()["routing_entries"], 0);

    let peer = Peer::start(&["up", "--document", &file]);
    let overlay = &peer.status()["overlay"];
    assert_eq!(
        (&overlay["name"], &overlay["algorithm"], &overlay["base"]),
        (&json!("camp"), &json!("chord"), &json!(4))
    );
    let shown = peer.get(&["config", "show", "--origin"]);
    assert_eq!(shown["settings"]["overlay"]["replicas"], 3);
    assert_eq!(shown["origin"]["overlay.replicas"], "overlay document");
}

#[test]
fn documents_and_tickets_lead_into_an_overlay_whose_messages_are_protected() {
    for profile in ["signed", "secure"] {
        let address = nobody().to_string();
        let (_dir, file) = founded(&["--profile", profile, "--peer", &address]);
        let own = tempfile::tempdir().unwrap();
        let mut founder =
            Peer::spawn(own.path(), &["up", "--document", &file, "--listen", &address, "--sip", ANY]);
        founder.wait_until("it founds", 10, |peer| peer.status()["online"] == true);
        let invited = get(&["overlay", "invite", &file]);
        assert_eq!(invited["profile"], profile);
        for how in [["--document", &file], ["--ticket", invited["ticket"].as_str().unwrap()]] {
            let home = tempfile::tempdir().unwrap();
            let mut peer = Peer::ready(home.path(), &["up", how[0], how[1]]);
            peer.wait_until("it joins", 10, |peer| peer.status()["online"] == true);
            let status = peer.status();
            assert_eq!((&status["profile"], status["links"].as_u64() > Some(0)), (&json!(profile), true));
        }
    }
}

#[test]
fn an_overlay_that_differs_from_the_document_is_not_joined_and_the_peer_says_in_what() {
    let founder = Peer::start(&["bootstrap", "--overlay-name", "camp"]);
    let (_dir, file) = founded(&["--replicas", "3", "--peer", &founder.address()]);
    let dir = tempfile::tempdir().unwrap();
    let config = path(&dir, "c.toml");
    fs::write(&config, format!("[overlay]\ndocument = '{file}'\n")).unwrap();
    let mut peer = Peer::ready(dir.path(), &["up", "--config", &config]);
    peer.wait_until("it says what differs", 10, |peer| {
        peer.said().contains("replicas is 5 there and 3 here")
    });
    assert_eq!(peer.status()["online"], false);

    let other = tempfile::tempdir().unwrap();
    let told = stays_down(other.path(), &["up", "--document", &file, "--overlay-name", "fair"]);
    assert!(told.ends_with("name is camp there and fair here"), "{told}");
}

#[test]
fn a_peer_takes_the_documents_that_follow_the_one_it_holds_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (operator_file, operator_key) = operator(&dir, "operator");
    let (_camp, file) = founded(&["--operator", &operator_key]);
    let [second, third] = ["second", "third"].map(|name| path(&dir, name));
    get(&["overlay", "sign", &file, "--key", &operator_file, "--out", &second]);
    get(&["overlay", "sign", &second, "--key", &operator_file, "--out", &third]);

    let home = tempfile::tempdir().unwrap();
    let refused = |document: &str| stays_down(home.path(), &["bootstrap", "--document", document]);
    let takes = |document: &str| {
        let mut peer = Peer::ready(home.path(), &["bootstrap", "--document", document]);
        peer.wait_until("it founds", 10, |peer| peer.status()["online"] == true);
        let held = peer.status()["overlay"]["document"].clone();
        peer.down();
        held
    };
    // A newcomer cannot judge what an operator signed without the documents before it.
    let chain = fs::read(&third).unwrap();
    let alone = path(&dir, "alone");
    fs::write(&alone, &chain[fs::read(&second).unwrap().len()..]).unwrap();
    assert_eq!(get(&["overlay", "show", &alone])["good_for_newcomers"], false);
    assert!(
        refused(&alone).contains("neither the founder key nor an operator key of the document held before")
    );
    assert_eq!([takes(&second), takes(&second)], [2, 2]);
    assert_eq!(takes(&alone), 3);
    assert_eq!(takes(&second), 3, "an older file does not take it back");
    assert_eq!(takes(&third), 3);
    // What was held before the last stays before it, for who has none yet.
    let kept = home.path().join("overlay.document");
    assert_eq!(get(&["overlay", "show", kept.to_str().unwrap()])["good_for_newcomers"], true);
    // The document held names the founder as well.
    fs::remove_file(home.path().join("overlay.founder")).unwrap();
    let (_other, other) = founded(&[]);
    assert!(refused(&other).contains("it is of the overlay of the founder key"));
    fs::remove_file(kept).unwrap();
    assert_eq!(takes(&other), 1);
}

#[test]
fn a_document_that_one_peer_is_given_reaches_those_that_came_by_ticket_and_outlives_a_restart() {
    let address = nobody().to_string();
    let (dir, file) = founded(&["--peer", &address]);
    let own = tempfile::tempdir().unwrap();
    let mut founder =
        Peer::spawn(own.path(), &["up", "--document", &file, "--listen", &address, "--sip", ANY]);
    founder.wait_until("it founds", 10, |peer| peer.status()["online"] == true);
    let ticket = get(&["overlay", "invite", &file])["ticket"].as_str().unwrap().to_owned();
    let home = tempfile::tempdir().unwrap();
    let mut guest = Peer::ready(home.path(), &["up", "--ticket", &ticket]);
    guest.wait_until("it gets the document", 10, |peer| peer.status()["overlay"]["document"] == 1);
    let banned = Peer::start(&["up", "--ticket", &ticket]);
    let key = banned.status()["public_key"].as_str().unwrap().to_owned();

    let id = banned.status()["node_id"].as_str().unwrap().to_owned();
    let knows = |peer: &Peer| peer.get(&["overlay", "routes"]).to_string().contains(&id);
    founder.wait_until("it meets the third", 10, |founder| knows(founder));
    let next = path(&dir, "next");
    get(&["overlay", "sign", &file, "--key", &format!("{file}.key"), "--revoke", &key, "--out", &next]);
    let answer = founder.get(&["overlay", "push", &next]);
    assert_eq!((&answer["schema"], &answer["sequence"]), (&json!("openvoip.document/1"), &json!(2)));
    guest.wait_until("it gets the next", 10, |peer| peer.status()["overlay"]["document"] == 2);
    assert!(!knows(&founder) && !knows(&guest));
    guest.down();
    let mut guest = Peer::ready(home.path(), &["up"]);
    assert_eq!(guest.status()["overlay"]["document"], 2);
    guest.wait_until("it comes back", 10, |peer| peer.status()["online"] == true);

    // A ticket may be older than the document.
    guest.down();
    let guest = Peer::ready(home.path(), &["up", "--ticket", &ticket]);
    assert_eq!(guest.status()["overlay"]["document"], 2);

    // Somebody else's document is refused with words.
    let (_other, other) = founded(&["--peer", &address]);
    let (code, refused) = guest.ask(&["overlay", "push", &other]);
    assert_eq!(code, 1, "{refused}");
    assert!(refused.to_string().contains("of the overlay of the founder key"), "{refused}");
}

#[test]
fn who_may_store_which_kind_is_said_in_the_document_and_what_makes_no_sense_is_refused() {
    let (_dir, file) = founded(&["--kind", "0x4001=first-owner:64", "--kind", "data=operators"]);
    let rule = |shown: &Value, number: u16| {
        let kinds = shown["kinds"].as_array().unwrap().clone();
        let of = kinds.into_iter().find(|kind| kind["number"] == number);
        of.map(|kind| {
            (kind["policy"].as_str().unwrap().to_owned(), kind["max_value_bytes"].as_u64().unwrap())
        })
    };
    let said = |policy: &str, most| Some((policy.to_owned(), most));
    let shown = get(&["overlay", "show", &file]);
    assert_eq!(rule(&shown, 0x4001), said("first owner", 64));
    assert_eq!(rule(&shown, 0x4000), said("operators", 800));
    assert_eq!(rule(&shown, 5), said("operators", 800), "a notice, as usual");
    assert_eq!(rule(&shown, 4), said("drop box", 800), "likewise");
    let key = format!("{file}.key");
    let sign = ["overlay", "sign", &file, "--key", &key];
    let changes = ["--kind", "drop=nobody", "--drop-kind", "0x4001", "--drop-kind", "data"];
    let signed = get(&[&sign[..], &changes].concat());
    assert_eq!(rule(&signed, 4), said("nobody", 800));
    assert_eq!(rule(&signed, 0x4001), None);
    assert_eq!(rule(&signed, 0x4000), said("each owner", 800));
    for (kind, why) in [
        ("user=each-owner", "has no other"),
        ("0x4001=own-number", "cannot be under"),
        ("0x4001=each-owner:801", "the most is 800"),
        ("0x9000=each-owner", "0x4001 to 0x7fff"),
        ("data=wish", "unknown policy 'wish'"),
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_openvoip")).args(sign).args(["--kind", kind]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(why), "{kind}: {told}");
    }
}
