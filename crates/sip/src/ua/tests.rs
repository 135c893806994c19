//! Two user agents on a network that delays, loses and repeats, in virtual time.

mod calls;
mod properties;
mod scripted;

use std::net::SocketAddr;
use std::time::Duration;

use wire::seed::RngExt;
use wire::{Rng, Seed, Time};

use super::*;

/// How long a datagram travels.
const DELAY: Duration = Duration::from_millis(20);

/// Alice and Bob.
const A: usize = 0;
const B: usize = 1;

fn address(who: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + who as u8], 5060))
}

fn config(who: usize) -> UaConfig {
    UaConfig {
        user: ["alice", "bob"][who].to_owned(),
        domain: "example.org".to_owned(),
        password: Some("secret".to_owned()),
        flow: Flow::Udp(address(1 - who)),
        sent_by: SentBy { host: address(who).ip().to_string(), port: Some(5060) },
        expires: 3_600,
    }
}

/// Sound at that user's address.
fn sound(who: usize) -> Vec<u8> {
    g711_sdp(SocketAddr::new(address(who).ip(), 4_000))
}

struct Pipe {
    now: Time,
    uas: [UserAgent; 2],
    flying: Vec<(Time, usize, Vec<u8>)>,
    rng: Rng,
    /// Of a hundred datagrams, how many are lost.
    loss: u32,
    /// The first word of datagrams to lose, and how many of them.
    lose: Option<(&'static str, usize)>,
    events: [Vec<UaEvent>; 2],
    /// The start line of everything sent.
    log: Vec<String>,
}

impl Pipe {
    fn new(seed: u64) -> Self {
        let ua = |who| UserAgent::new(config(who), Seed::from_number(seed * 2 + who as u64));
        Pipe {
            now: Time::from_secs(1),
            uas: [ua(A), ua(B)],
            flying: Vec::new(),
            rng: Seed::from_number(seed + 1_000).rng(),
            loss: 0,
            lose: None,
            events: [Vec::new(), Vec::new()],
            log: Vec::new(),
        }
    }

    fn lossy(seed: u64, loss: u32) -> Self {
        Pipe { loss, ..Pipe::new(seed) }
    }

    fn is_lost(&mut self, line: &str) -> bool {
        if let Some((what, left)) = &mut self.lose
            && line.contains(*what)
            && *left > 0
        {
            *left -= 1;
            return true;
        }
        self.rng.random_range(0..100) < self.loss
    }

    fn collect(&mut self) {
        for who in [A, B] {
            while let Some((flow, bytes)) = self.uas[who].poll_transmit() {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let line = text.lines().next().unwrap_or_default().to_owned();
                // A Via damaged on its way leads the answer elsewhere.
                let strays = flow != Flow::Udp(address(1 - who));
                if !strays && !self.is_lost(&line) {
                    self.flying.push((self.now + DELAY, 1 - who, bytes));
                }
                self.log.push(line);
            }
            while let Some(event) = self.uas[who].poll_event() {
                self.events[who].push(event);
            }
        }
    }

    /// Lets the world run for so long.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.collect();
            let arrival = self.flying.iter().map(|(at, ..)| *at).min();
            let timer = self.uas.iter().filter_map(|ua| ua.poll_timeout()).map(|(at, _)| at).min();
            let Some(next) = arrival.into_iter().chain(timer).min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(next);
            if let Some(at) = self.flying.iter().position(|(at, ..)| *at <= self.now) {
                let (_, to, bytes) = self.flying.remove(at);
                self.uas[to].handle_message(self.now, Flow::Udp(address(1 - to)), &bytes);
                continue;
            }
            for ua in &mut self.uas {
                if ua.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
                    ua.handle_timeout(self.now);
                    assert!(ua.poll_timeout().is_none_or(|(at, _)| at > self.now), "stuck at {:?}", self.now);
                }
            }
        }
        self.now = end;
    }

    fn run_ms(&mut self, millis: u64) {
        self.run(Duration::from_millis(millis));
    }

    /// What that user was told since the last time.
    fn told(&mut self, who: usize) -> Vec<UaEvent> {
        self.collect();
        std::mem::take(&mut self.events[who])
    }

    /// Alice calls; the handle of the call at Alice and, once it arrived, at Bob.
    fn dial(&mut self) -> (Handle, Handle) {
        let ours = self.uas[A].invite(self.now, "bob", sound(A));
        self.run_ms(100);
        let theirs = self.told(B).into_iter().find_map(|e| match e {
            UaEvent::Incoming { handle, .. } => Some(handle),
            _ => None,
        });
        (ours, theirs.expect("the call arrives"))
    }

    /// Alice and Bob talk.
    fn talk(&mut self) -> (Handle, Handle) {
        let (a, b) = self.dial();
        self.uas[B].answer(self.now, b, sound(B));
        self.run_ms(100);
        assert_eq!(self.told(A), [UaEvent::Answered { handle: a, sdp: sound(B) }]);
        (a, b)
    }

    /// Nothing may be left over, however it ended.
    fn assert_empty(&mut self) {
        self.run(Duration::from_secs(250));
        for ua in &self.uas {
            assert_eq!((ua.calls.len(), ua.questions.len()), (0, 0));
            assert!(ua.transactions.holds_nothing());
            assert_eq!(ua.poll_timeout(), None);
        }
    }

    fn sent(&self, what: &str) -> usize {
        self.log.iter().filter(|l| l.contains(what)).count()
    }
}

fn ended(handle: Handle, reason: &str) -> UaEvent {
    UaEvent::Ended { handle, reason: reason.into() }
}

fn failed(handle: Handle, status: u16, reason: &str) -> UaEvent {
    UaEvent::Failed { handle, status, reason: reason.into() }
}
