//! The table around sessions of a provider that hides nothing; `openvoip-tls` has those with DTLS.

use wire::{KeyPair, Seed};

use std::time::Duration;

use super::*;
use crate::provider::Output;

/// A session that stands as soon as it hears anything, and reads and writes in the clear.
#[derive(Debug, Default)]
struct Plain {
    given: VecDeque<Output>,
    stands: bool,
    /// What it hears when it is woken.
    late: Option<(Time, Vec<u8>)>,
    sealed: u32,
}

/// Said so, it does something else than to hear: it ends with the next message of ours, or hears this one late.
const ENDS: &[u8] = b"ends with the next";
const LATE: &[u8] = b"is heard late";

/// How late that is.
const DELAY: Duration = Duration::from_secs(1);

impl Session for Plain {
    fn handle(&mut self, now: Time, bytes: &[u8]) {
        match bytes.get(HEAD..) {
            _ if !self.stands => {
                self.stands = true;
                self.given.push_back(Output::Stands(key()));
            }
            Some(ENDS) => self.sealed = u32::MAX,
            Some(LATE) => self.late = Some((now + DELAY, LATE.to_vec())),
            Some(b"junk") | None => {}
            Some(message) => self.given.push_back(Output::Message(message.to_vec())),
        }
    }

    fn seal(&mut self, _: Time, message: &[u8]) {
        if self.sealed == u32::MAX {
            return self.given.push_back(Output::Over);
        }
        self.sealed += 1;
        // A flight is due with the first, and goes before it.
        let flight = (self.sealed == 1).then(|| record(b"flight"));
        self.given.extend(flight.into_iter().chain([record(message)]).map(Output::Bytes));
    }

    fn poll(&mut self) -> Option<Output> {
        self.given.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.late.as_ref().map(|(at, _)| *at)
    }

    fn handle_timeout(&mut self, now: Time) {
        let due = self.late.take_if(|(at, _)| *at <= now);
        self.given.extend(due.map(|(_, message)| Output::Message(message)));
    }
}

#[derive(Debug)]
struct Plains;

impl Provider for Plains {
    fn begin(&self, _: Time, _: Carrier, role: Role, _: SocketAddr) -> Box<dyn Session> {
        let hello = (role == Role::Asks).then(|| Output::Bytes(hello()));
        Box::new(Plain { given: hello.into_iter().collect(), ..Plain::default() })
    }
}

fn key() -> PublicKey {
    KeyPair::from_seed(Seed::from_number(1)).public()
}

fn hello() -> Vec<u8> {
    hello_of(7)
}

fn hello_of(random: u8) -> Vec<u8> {
    let mut hello = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60, 1];
    hello.resize(13 + 60, random);
    hello
}

fn record(message: &[u8]) -> Vec<u8> {
    [&[0x2F, 0, 0, 0, message.len() as u8][..], message].concat()
}

fn message(text: &str) -> Message {
    Message { bytes: text.into(), label: 1, meant: None }
}

struct Table {
    sessions: Sessions,
    proofs: Proofs,
    out: Outbox,
}

impl Table {
    fn new() -> Self {
        let (proofs, out) = (Proofs::new(Seed::from_number(2)), Outbox::default());
        Table { sessions: Sessions::new(Some(Arc::new(Plains))), proofs, out }
    }

    fn handle(&mut self, now: Time, remote: SocketAddr, datagram: &[u8]) -> Opened {
        self.sessions.handle(now, remote, datagram, &mut self.proofs, &mut self.out)
    }

    fn send(&mut self, now: Time, remote: SocketAddr, text: &str) {
        self.sessions.send(now, remote, message(text), &mut self.out);
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.out.pop()).map(|transmit| transmit.bytes).collect()
    }
}

fn address(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

#[test]
fn a_flight_that_is_due_takes_no_message_from_its_way() {
    let mut table = Table::new();
    table.handle(Time::ZERO, address(1), &hello());
    table.send(Time::ZERO, address(1), "hello");
    assert_eq!(table.sent(), [record(b"flight"), record(b"hello")]);
    let cargo: Vec<Cargo> = table.out.take_sent().into_iter().map(|sent| sent.cargo).collect();
    assert_eq!(cargo, [Cargo::Asking, Cargo::Message(1)]);
}

#[test]
fn a_message_that_finds_its_session_over_waits_for_another() {
    let mut table = Table::new();
    table.handle(Time::ZERO, address(1), &hello());
    table.handle(Time::ZERO, address(1), &record(ENDS));
    table.send(Time::ZERO, address(1), "hello");
    assert_eq!(table.sent(), [hello()]);
    table.handle(Time::ZERO, address(1), &record(b"I am here"));
    assert_eq!(table.sent(), [record(b"flight"), record(b"hello")]);
}

#[test]
fn what_is_heard_late_is_heard_of_whoever_said_it() {
    let mut table = Table::new();
    for port in [1, 2] {
        table.handle(Time::ZERO, address(port), &hello());
    }
    table.handle(Time::ZERO, address(1), &record(LATE));
    table.sessions.handle_timeout(Time::ZERO + DELAY, &mut table.proofs, &mut table.out);
    // Somebody else is heard before it is fetched.
    let opened = table.handle(Time::ZERO + DELAY, address(2), &record(b"sooner"));
    assert_eq!(opened, Opened::Handled);
    let heard: Vec<_> = std::iter::from_fn(|| table.sessions.poll_heard()).collect();
    let expected = [(address(1), LATE), (address(2), b"sooner")];
    assert_eq!(heard, expected.map(|(at, message)| (at, key(), message.to_vec())));
}

#[test]
fn only_what_can_be_opened_keeps_a_link_from_making_room() {
    let mut table = Table::new();
    let links = MAX_LINKS as u16;
    for port in 1..=links {
        let now = Time::from_secs(u64::from(port));
        table.handle(now, address(port), &hello());
    }
    let now = Time::from_secs(2_000);
    table.handle(now, address(1), &record(b"junk"));
    table.handle(now, address(2), &record(b"still here"));
    table.handle(now, address(links + 1), &hello());
    let is_there = [1, 2, 3].map(|port| table.sessions.links.contains_key(&address(port)));
    assert_eq!(is_there, [false, true, true]);
}

#[test]
fn a_hello_that_was_the_lesser_is_not_answered_when_it_comes_again() {
    let mut table = Table::new();
    table.send(Time::ZERO, address(1), "hello");
    let lesser = hello_of(6);
    assert_eq!(table.handle(Time::ZERO, address(1), &lesser), Opened::Handled);
    table.handle(Time::ZERO, address(1), &[&[ANSWER][..], &[7; 8], b"here"].concat());
    let stands = |table: &Table| {
        let link = &table.sessions.links[&address(1)];
        (link.standing.is_some(), link.before.is_some())
    };
    assert_eq!(stands(&table), (true, false));
    table.handle(Time::ZERO, address(1), &lesser);
    assert_eq!(stands(&table), (true, false));
    // Another of the same peer is: it may have started again.
    table.handle(Time::ZERO, address(1), &hello_of(5));
    assert_eq!(stands(&table), (true, true));
}
