//! A domain says in DNS whose its names are, and peers that are to ask it do.

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use program::{Peer, openvoip_in};
use serde_json::Value;

const ALICE: &str = "alice@camp.example";
const PLACE: &str = "alice._openvoip.camp.example";
const OF_ALL: &str = "_openvoip.camp.example";

/// What a server of DNS says, and how it behaves.
#[derive(Default)]
struct Zone {
    texts: BTreeMap<String, Vec<String>>,
    /// Where a name is another's.
    aliases: BTreeMap<String, String>,
    /// It hears and says nothing.
    silent: bool,
    /// It says over UDP that the answer does not fit.
    cut: bool,
    /// Forged answers that come before each one over UDP.
    forged: usize,
    /// It has checked signatures.
    authentic: bool,
    /// What it was asked, and over what.
    asked: Vec<(String, &'static str)>,
}

/// A server of DNS on loopback, for as long as the test lasts.
struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl Dns {
    fn start() -> Dns {
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
                let tcp = TcpListener::bind(udp.local_addr().unwrap()).ok()?;
                Some((udp, tcp))
            })
            .expect("a port that is free twice");
        let (address, zone) = (udp.local_addr().unwrap(), Arc::new(Mutex::new(Zone::default())));
        let (over_udp, over_tcp) = (Arc::clone(&zone), Arc::clone(&zone));
        thread::spawn(move || serve_udp(&udp, &over_udp));
        thread::spawn(move || serve_tcp(&tcp, &over_tcp));
        Dns { address, zone }
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap()
    }

    fn says(&self, place: &str, texts: &[&str]) {
        self.zone().texts.insert(place.into(), texts.iter().map(|text| (*text).into()).collect());
    }
}

fn serve_udp(socket: &UdpSocket, zone: &Mutex<Zone>) {
    let mut buffer = [0; 2_000];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let mut zone = zone.lock().unwrap();
        let Some(good) = zone.answer(&buffer[..length], "udp") else { continue };
        let mut liar = Zone {
            texts: zone
                .texts
                .keys()
                .map(|place| (place.clone(), vec!["v=openvoip1; key=".to_owned() + &"66".repeat(32)]))
                .collect(),
            ..Zone::default()
        };
        for n in 0..zone.forged {
            let mut forged = liar.answer(&buffer[..length], "udp").unwrap();
            forged[1] ^= 1 + n as u8;
            socket.send_to(&forged, from).unwrap();
        }
        socket.send_to(&good, from).unwrap();
    }
}

fn serve_tcp(listener: &TcpListener, zone: &Mutex<Zone>) {
    for mut stream in listener.incoming().flatten() {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut question).unwrap();
        let Some(answer) = zone.lock().unwrap().answer(&question, "tcp") else { continue };
        stream.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
        // In pieces, as TCP may.
        answer.chunks(700).for_each(|piece| stream.write_all(piece).unwrap());
    }
}

fn labels(name: &str) -> Vec<u8> {
    let parts = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    parts.chain([0]).collect()
}

impl Zone {
    fn answer(&mut self, question: &[u8], over: &'static str) -> Option<Vec<u8>> {
        let end = 12 + question[12..].iter().position(|byte| *byte == 0)? + 1;
        let (mut place, mut at) = (Vec::new(), 12);
        while question[at] != 0 {
            let label = &question[at + 1..=at + usize::from(question[at])];
            place.push(String::from_utf8(label.to_vec()).unwrap());
            at += 1 + label.len();
        }
        let place = place.join(".");
        self.asked.push((place.clone(), over));
        if self.silent {
            return None;
        }
        let is_cut = self.cut && over == "udp";
        let record = |owner: &str, kind: u16, data: &[u8]| {
            let fields = [kind, 1, 0, 60, data.len() as u16].map(u16::to_be_bytes).concat();
            [&labels(owner)[..], &fields, data].concat()
        };
        let alias = self.aliases.get(&place);
        let owner = alias.unwrap_or(&place);
        let mut records: Vec<Vec<u8>> = alias.iter().map(|to| record(&place, 5, &labels(to))).collect();
        for text in self.texts.get(owner).into_iter().flatten().filter(|_| !is_cut) {
            let strings = text.as_bytes().chunks(50).flat_map(|s| [&[s.len() as u8], s].concat());
            records.push(record(owner, 16, &strings.collect::<Vec<u8>>()));
        }
        let flags = 0x8180 | if is_cut { 0x200 } else { 0 } | if self.authentic { 0x20 } else { 0 };
        let code = if records.is_empty() && !is_cut { 3 } else { 0 };
        let head = [flags | code, 1, records.len() as u16, 0, 0].map(u16::to_be_bytes).concat();
        Some([&question[..2], &head, &question[12..end + 4], &records.concat()].concat())
    }
}

/// A peer that asks this server, in an overlay with another.
fn asks(dns: &Dns, choice: &str, user: &str, other: &Peer) -> Peer {
    let dir = tempfile::tempdir().unwrap();
    let settings = format!("[names]\ndomain_proof = \"{choice}\"\ndns = [\"{}\"]\n", dns.address);
    fs::write(dir.path().join("openvoip.toml"), settings).unwrap();
    Peer::start_in(dir, &["up", "--user", user, "--bootstrap", &other.address()])
}

fn alice() -> Peer {
    let peer = Peer::start(&["up", "--user", ALICE]);
    peer.until("status", |status| status["users"][0]["state"] == "published");
    peer
}

/// What whoever keeps the domain pastes for her, by the program itself.
fn proof_of(peer: &Peer) -> (String, String) {
    let (code, answer) = openvoip_in(peer.dir(), &["identity", "proof", "alice@camp.example"]);
    assert_eq!(code, 0, "{answer}");
    let record = &answer["record"];
    assert_eq!((&record["place"], &record["type"]), (&Value::from(format!("{PLACE}.")), &Value::from("TXT")));
    let of_all = &answer["if_all_have_one"];
    assert_eq!(of_all["place"], format!("{OF_ALL}."));
    (record["text"].as_str().unwrap().to_owned(), of_all["text"].as_str().unwrap().to_owned())
}

#[test]
fn a_name_is_proven_by_what_identity_proof_prints_and_lookup_and_pins_show_it() {
    let (dns, alice) = (Dns::start(), alice());
    let (text, _) = proof_of(&alice);
    dns.says(PLACE, &["v=spf1 -all", &text]);
    let bob = asks(&dns, "required", "bob@far.example", &alice);
    bob.until(&format!("lookup {ALICE}"), |answer| answer["record"]["domain_proof"] == "dns");
    assert_eq!(bob.get(&["msg", ALICE, "hello"])["state"], "delivered");
    let pin = bob.get(&["pins", "list"])["pins"][0].clone();
    assert_eq!((&pin["name"], &pin["proven_by"]), (&Value::from(ALICE), &Value::from("dns")));
    assert_eq!(dns.zone().asked, [(PLACE.to_owned(), "udp")], "one question, and nobody else's");
    assert_eq!(alice.get(&["msg", "bob@far.example", "hello"])["state"], "delivered");
    assert_eq!(dns.zone().asked.len(), 1, "who was not told to ask does not");
}

#[test]
fn a_checked_long_answer_at_an_alias_comes_over_tcp_in_spite_of_forged_ones() {
    let (dns, alice) = (Dns::start(), alice());
    let (text, _) = proof_of(&alice);
    let others: Vec<String> =
        (0..60).map(|n| format!("somebody else's text {n}, {}", "x".repeat(200))).collect();
    let texts: Vec<&str> = others.iter().map(String::as_str).chain([text.as_str()]).collect();
    dns.zone().aliases.insert(PLACE.into(), "keys.host.example".into());
    dns.says("keys.host.example", &texts);
    (dns.zone().cut, dns.zone().authentic) = (true, true);
    let bob = asks(&dns, "required", "bob@far.example", &alice);
    let found = bob.until(&format!("lookup {ALICE}"), |answer| answer["found"] == true);
    assert_eq!(found["record"]["domain_proof"], "dnssec");
    assert_eq!(dns.zone().asked, [(PLACE.to_owned(), "udp"), (PLACE.to_owned(), "tcp")]);
    drop(bob);

    (dns.zone().cut, dns.zone().forged) = (false, 3);
    dns.zone().aliases.clear();
    dns.says(PLACE, &[&text]);
    let bob = asks(&dns, "required", "bob@far.example", &alice);
    let msg = bob.until(&format!("msg {ALICE} hello"), |answer| answer["state"] == "delivered");
    assert_eq!(msg["state"], "delivered", "forged answers are nothing");
    drop(bob);

    dns.zone().asked.clear();
    dns.zone().forged = 50;
    let bob = asks(&dns, "required", "bob@far.example", &alice);
    bob.until(&format!("msg {ALICE} hello"), |answer| answer["state"] == "delivered");
    assert_eq!(
        dns.zone().asked.last(),
        Some(&(PLACE.to_owned(), "tcp")),
        "where somebody guesses TCP is asked"
    );
}

#[test]
fn a_server_that_never_answers_takes_three_seconds_once_and_what_it_says_then_counts() {
    let (dns, alice) = (Dns::start(), alice());
    dns.zone().silent = true;
    let [easy, strict] = [("when_found", "bob@far.example"), ("required", "carol@far.example")]
        .map(|(choice, user)| asks(&dns, choice, user, &alice));
    let began = Instant::now();
    assert_eq!(easy.get(&["msg", ALICE, "hello"])["state"], "delivered");
    assert!((Duration::from_millis(1_500)..Duration::from_secs(6)).contains(&began.elapsed()));
    let again = Instant::now();
    assert_eq!(easy.get(&["msg", ALICE, "again"])["state"], "delivered");
    assert!(again.elapsed() < Duration::from_millis(1_500), "its silence is remembered for a while");
    assert_eq!(easy.get(&["lookup", ALICE])["record"]["domain_proof"], "unproven");

    let (_, refused) = strict.ask(&["call", ALICE]);
    assert_eq!(refused["failure"]["cause"], "not_proven", "{refused}");
    let said = refused["failure"].to_string();
    assert!(said.contains("camp.example does not answer") && said.contains("identity proof"), "{said}");
}

#[test]
fn a_domain_that_has_a_word_for_all_names_has_no_others() {
    let (dns, alice) = (Dns::start(), alice());
    let (_, of_all) = proof_of(&alice);
    dns.says(OF_ALL, &[&of_all]);
    let bob = asks(&dns, "when_found", "bob@far.example", &alice);
    let (_, refused) = bob.ask(&["call", ALICE]);
    assert_eq!(refused["failure"]["cause"], "not_proven", "{refused}");
    assert!(
        refused["failure"].to_string().contains("camp.example says that it has no such user"),
        "{refused}"
    );
    let asked = [PLACE, OF_ALL].map(|place| (place.to_owned(), "udp"));
    assert_eq!(dns.zone().asked, asked);
}

#[test]
fn only_names_that_fit_into_dns_have_a_proof_to_print() {
    let home = tempfile::tempdir().unwrap();
    let peer = Peer::ready(home.path(), &["up", "--user", "alice@camp"]);
    drop(peer);
    for name in ["alice@camp", "nobody@camp.example"] {
        assert_eq!(openvoip_in(home.path(), &["identity", "proof", name]).0, 1, "{name}");
    }
}
