//! Whoever is not expected, and whoever guesses.

use std::net::SocketAddr;

use wire::sip::digest::Challenge;
use wire::sip::{Message, Method};
use wire::{ConnectionId, Seed, Time};

use super::rig::{DOMAIN, World, config};
use crate::{Agent, Config, Flow, Prefix, Unchanged};

const METHODS: [&str; 15] = [
    "REGISTER",
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "OPTIONS",
    "MESSAGE",
    "SUBSCRIBE",
    "NOTIFY",
    "PUBLISH",
    "REFER",
    "INFO",
    "UPDATE",
    "PRACK",
    "DANCE",
];
const NOW: Time = Time::from_secs(1);

/// An agent that serves bob and hears phones at home.
fn agent() -> Agent {
    let mut agent = Agent::new(Config { phones_from: Prefix::at_home(), ..config(0) }, Seed::from_number(1));
    agent.add_user(&format!("bob@{DOMAIN}"), "secret");
    agent
}

fn request(method: &str, user: &str, n: usize) -> Message {
    Message::request(Method::parse(method), format!("sip:{user}@{DOMAIN}"))
        .with("Via", format!("SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK{n}"))
        .with("From", format!("<sip:{user}@{DOMAIN}>;tag=1"))
        .with("To", format!("<sip:{user}@{DOMAIN}>"))
        .with("Contact", format!("<sip:{user}@10.0.0.9>"))
        .with("Call-ID", format!("call-{n}"))
        .with("CSeq", format!("1 {method}"))
        .with("Max-Forwards", "70")
}

/// What the agent sends back.
fn answers(agent: &mut Agent, flow: Flow, bytes: &[u8]) -> Vec<String> {
    agent.handle_message(NOW, flow, bytes, &mut Unchanged);
    let sent = std::iter::from_fn(|| agent.poll_transmit());
    sent.map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

fn udp(from: &str) -> Flow {
    Flow::Udp(from.parse().unwrap())
}

#[test]
fn a_stranger_from_elsewhere_gets_no_answer_whatever_they_send_and_a_phone_at_home_does() {
    let mut agent = agent();
    let elsewhere: SocketAddr = "203.0.113.9:5060".parse().unwrap();
    let stream = Flow::Stream(ConnectionId(1), elsewhere);
    let garbage =
        [&b"\r\n\r\n"[..], b"INVITE", b"INVITE sip:x SIP/2.0\r\nContent-Length: many\r\n\r\n", b"\0\xff"];
    let requests = METHODS.iter().enumerate().map(|(n, method)| request(method, "bob", n).to_bytes());
    for bytes in requests.chain(garbage.map(<[u8]>::to_vec)) {
        for flow in [Flow::Udp(elsewhere), stream] {
            assert_eq!(answers(&mut agent, flow, &bytes), [""; 0], "{}", String::from_utf8_lossy(&bytes));
        }
    }
    assert!(agent.poll_event().is_none());
    assert_eq!(agent.remembered(), (0, 0));
    assert!(!agent.handle_message(NOW, stream, b"\r\n\r\n", &mut Unchanged), "its connection is closed");
    let register = request("REGISTER", "bob", 99).to_bytes();
    assert!(answers(&mut agent, udp("10.0.0.9:5060"), &register)[0].starts_with("SIP/2.0 401 "));
}

/// What stands in an answer, without what differs each time.
fn told(answer: &str, user: &str) -> String {
    let varies = |line: &&str| {
        !["WWW-Authenticate:", "Proxy-Authenticate:", "To:"].iter().any(|h| line.starts_with(h))
    };
    answer.lines().filter(varies).collect::<Vec<_>>().join("\n").replace(user, "USER")
}

#[test]
fn who_stands_on_the_lan_does_not_learn_from_any_request_which_users_there_are() {
    for (n, method) in METHODS.iter().enumerate() {
        let ask = |user: &str| {
            let answers = answers(&mut agent(), udp("10.0.0.9:5060"), &request(method, user, n).to_bytes());
            answers.iter().map(|answer| told(answer, user)).collect::<Vec<_>>()
        };
        assert_eq!(ask("bob"), ask("eve"), "{method}");
    }
}

/// The statuses that so many wrong passwords for `user`, written in these ways in turn, are answered with.
fn guess(agent: &mut Agent, user: &str, domains: &[&str], times: usize) -> Vec<u16> {
    let flow = udp("10.0.0.9:5060");
    let mut statuses = Vec::new();
    for n in 0..times {
        let challenge = answers(agent, flow, &request("REGISTER", user, 2 * n).to_bytes()).remove(0);
        let challenge = wire::sip::parse(challenge.as_bytes()).unwrap();
        let challenge = Challenge::parse(challenge.header("WWW-Authenticate").unwrap()).unwrap();
        let name = format!("{user}{}", domains[n % domains.len()]);
        let guess = challenge.answer(&name, "guess", "REGISTER", "sip:home", "c").to_value();
        let request = request("REGISTER", user, 2 * n + 1).with("Authorization", guess);
        let answer = answers(agent, flow, &request.to_bytes()).remove(0);
        statuses.push(wire::sip::parse(answer.as_bytes()).unwrap().status());
    }
    statuses
}

#[test]
fn guesses_at_a_user_that_is_not_there_end_as_those_at_one_that_is_however_the_name_is_written() {
    let home = format!("@{DOMAIN}");
    let domains = ["", &home, "@elsewhere.example"];
    let there = guess(&mut agent(), "bob", &domains, 6);
    assert_eq!(there, [401, 401, 401, 401, 403, 403]);
    assert_eq!(guess(&mut agent(), "eve", &domains, 6), there);
}

#[test]
fn a_lock_out_can_be_seen_and_lifted() {
    let mut agent = agent();
    let bob = format!("bob@{DOMAIN}");
    guess(&mut agent, "bob", &[""], 5);
    let locked = agent.locked_out(NOW);
    assert_eq!(locked.iter().map(|l| l.who.to_string()).collect::<Vec<_>>(), [format!("{bob} at 10.0.0.9")]);
    assert_eq!(agent.unlock(NOW, Some("alice")), []);
    assert_eq!(agent.unlock(NOW, Some(&bob)), locked);
    assert_eq!(agent.locked_out(NOW), []);
    assert_eq!(guess(&mut agent, "bob", &[""], 1), [401]);
}

#[test]
fn a_flood_without_a_password_is_not_answered_beyond_its_allowance_and_a_registered_phone_is() {
    let mut world = World::new(1);
    let bob = world.registered(0, "bob");
    let phone = world.flow_of(bob);
    let agent = &mut world.agents[0];
    let flood = |agent: &mut Agent, flow: Flow, method: &str| -> usize {
        (0..1_000).map(|n| answers(agent, flow, &request(method, "bob", n).to_bytes()).len()).sum()
    };
    assert_eq!(flood(agent, udp("192.168.7.7:5060"), "OPTIONS"), 100);
    assert_eq!(flood(agent, phone, "OPTIONS"), 1_000);
    assert_eq!(agent.drops()["sip flood"], 900);
}
