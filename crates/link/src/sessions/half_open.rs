//! Who was answered and has not shown yet that it hears us, and what a stranger can cost.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::{PublicKey, Time};

use super::datagram::{Kind, Random};
use super::{ANSWER, Token, token};
use crate::outbox::{Cargo, Outbox};
use crate::provider::{Outputs, Session};
use crate::room::first_to_go;

/// Most halves, at one address and in all, and of one host before it is a crowd; how long each is kept.
const MAX_AT_ONE: usize = 2;
const MAX_HALVES: usize = 128;
const CROWD: usize = MAX_HALVES / 8;
const HALF: Duration = Duration::from_secs(5);

/// Hellos answered in a second, without a cookie and in all: each costs two milliseconds. Whoever shows a cookie, or
/// comes by a stream, is a host; none gets more than its share.
const ANSWERS_PER_S: [u32; 2] = [25, 75];
const SHARE: u32 = ANSWERS_PER_S[1] / 8;

/// All that are answered and not known yet.
#[derive(Debug, Default)]
pub(super) struct HalfOpen {
    accounts: BTreeMap<SocketAddr, Account>,
    second: Second,
}

/// An address, and the account of what came from there and went there: it gets no more than it sent.
#[derive(Debug)]
struct Account {
    received: usize,
    sent: usize,
    /// The newest last.
    halves: Vec<Half>,
}

#[derive(Debug)]
struct Half {
    random: Random,
    session: Box<dyn Session>,
    since: Time,
}

/// The second that lasts, and what was answered in it.
#[derive(Debug, Default)]
struct Second {
    since: Time,
    asked: u32,
    answered: u32,
    of_host: BTreeMap<IpAddr, u32>,
}

/// Why somebody is not answered now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// Too many ask: it has to show first that it is where it says.
    Cookie,
    /// There is no time left in this second, or not for this host.
    Flood,
}

/// Somebody who has become known.
pub(super) struct Known {
    pub(super) session: Box<dyn Session>,
    pub(super) peer: PublicKey,
    pub(super) messages: Vec<Vec<u8>>,
}

impl HalfOpen {
    /// Somebody asks for a handshake: whether there is time for it; `host` is its own, if it has shown so.
    pub(super) fn admit(&mut self, now: Time, host: Option<IpAddr>) -> Result<(), Refusal> {
        let second = &mut self.second;
        if now.since(second.since) >= Duration::from_secs(1) {
            *second = Second { since: now, ..Second::default() };
        }
        second.asked += 1;
        let of_host = host.map(|host| second.of_host.get(&host).copied().unwrap_or(0));
        match of_host {
            None if second.asked > ANSWERS_PER_S[0] => return Err(Refusal::Cookie),
            Some(answered) if answered >= SHARE => return Err(Refusal::Flood),
            _ if second.answered >= ANSWERS_PER_S[1] => return Err(Refusal::Flood),
            _ => {}
        }
        second.answered += 1;
        host.into_iter().for_each(|host| *second.of_host.entry(host).or_default() += 1);
        Ok(())
    }

    /// Whether a hello is answered already.
    pub(super) fn has(&mut self, now: Time, remote: SocketAddr, random: &Random) -> bool {
        self.accounts
            .values_mut()
            .for_each(|account| account.halves.retain(|half| now.since(half.since) < HALF));
        self.accounts.retain(|_, account| !account.halves.is_empty());
        let account = self.accounts.get(&remote);
        account.is_some_and(|account| account.halves.iter().any(|half| half.random == *random))
    }

    pub(super) fn knows(&self, remote: &SocketAddr) -> bool {
        self.accounts.contains_key(remote)
    }

    /// Takes in whoever said this hello.
    pub(super) fn add(&mut self, now: Time, remote: SocketAddr, random: Random, session: Box<dyn Session>) {
        let halves = |account: &Account| account.halves.len();
        if self.accounts.values().map(halves).sum::<usize>() >= MAX_HALVES {
            let newest = |account: &Account| account.halves.last().map(|half| half.since);
            let all = self.accounts.iter().map(|(at, account)| (*at, newest(account))).collect();
            first_to_go(all, CROWD).into_iter().for_each(|oldest| drop(self.accounts.remove(&oldest)));
        }
        let new = || Account { received: 0, sent: 0, halves: Vec::new() };
        let account = self.accounts.entry(remote).or_insert_with(new);
        if account.halves.len() >= MAX_AT_ONE {
            account.halves.remove(0);
        }
        account.halves.push(Half { random, session, since: now });
    }

    /// Takes a datagram that this address has sent; nothing of it where there is none.
    pub(super) fn handle(&mut self, now: Time, remote: SocketAddr, kind: Kind, datagram: &[u8]) {
        let Some(account) = self.accounts.get_mut(&remote) else { return };
        account.received += datagram.len();
        for half in &mut account.halves {
            if !matches!(kind, Kind::Hello(random) if random != half.random) {
                half.session.handle(now, datagram);
            }
        }
    }

    /// Takes what the halves at an address have to give; who has become known.
    pub(super) fn collect(&mut self, remote: SocketAddr, out: &mut Outbox) -> Vec<Known> {
        let Some(account) = self.accounts.get_mut(&remote) else { return Vec::new() };
        let mut known = Vec::new();
        let mut at = 0;
        while let Some(half) = account.halves.get_mut(at) {
            let outputs = Outputs::of(&mut *half.session);
            for bytes in outputs.bytes {
                let bytes = answer(token(&half.random), bytes);
                if outputs.peer.is_some() || account.sent + bytes.len() <= account.received {
                    account.sent += bytes.len();
                    out.push_frame(remote, bytes, Cargo::Answering);
                }
            }
            match outputs.peer {
                Some(peer) => {
                    let session = account.halves.remove(at).session;
                    known.push(Known { session, peer, messages: outputs.messages });
                }
                None if outputs.is_over => drop(account.halves.remove(at)),
                None => at += 1,
            }
        }
        if account.halves.is_empty() {
            self.accounts.remove(&remote);
        }
        known
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let halves = self.accounts.values().flat_map(|account| &account.halves);
        halves.filter_map(|half| half.session.poll_timeout()).min()
    }

    /// Does what is due; where something was.
    pub(super) fn handle_timeout(&mut self, now: Time) -> Vec<SocketAddr> {
        let mut due = Vec::new();
        for (remote, account) in &mut self.accounts {
            for half in &mut account.halves {
                if half.session.poll_timeout().is_some_and(|at| at <= now) {
                    half.session.handle_timeout(now);
                    due.push(*remote);
                }
            }
        }
        due
    }
}

/// What answers a hello: behind its token if it begins in the clear, where anybody could have said it.
fn answer(token: Token, bytes: Vec<u8>) -> Vec<u8> {
    match Kind::of(&bytes) {
        Kind::Handshake | Kind::Sealed => bytes,
        Kind::Hello(_) | Kind::Clear => [&[ANSWER][..], &token, &bytes].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_asks_without_end_leaves_time_for_others() {
        let mut half_open = HalfOpen::default();
        let [crowd, newcomer] = [1, 2].map(|n| IpAddr::from([192, 0, 2, n]));
        let answered = (0..1_000).filter(|_| half_open.admit(Time::ZERO, Some(crowd)).is_ok()).count();
        assert_eq!(answered, SHARE as usize);
        assert_eq!(half_open.admit(Time::ZERO, None), Err(Refusal::Cookie));
        assert_eq!(half_open.admit(Time::ZERO, Some(newcomer)), Ok(()));
        assert_eq!(half_open.admit(Time::from_secs(1), Some(crowd)), Ok(()));
    }

    #[test]
    fn all_hosts_together_get_no_more_than_there_is_time_for() {
        let mut half_open = HalfOpen::default();
        let hosts = (0..=255).flat_map(|n| [IpAddr::from([192, 0, 2, n]); 3]);
        let answered = hosts.filter(|host| half_open.admit(Time::ZERO, Some(*host)).is_ok()).count();
        assert_eq!(answered, ANSWERS_PER_S[1] as usize);
    }

    /// A session that never says anything.
    #[derive(Debug)]
    struct Silent;

    impl Session for Silent {
        fn handle(&mut self, _: Time, _: &[u8]) {}
        fn seal(&mut self, _: Time, _: &[u8]) {}
        fn poll(&mut self) -> Option<crate::provider::Output> {
            None
        }
        fn poll_timeout(&self) -> Option<Time> {
            None
        }
        fn handle_timeout(&mut self, _: Time) {}
    }

    #[test]
    fn one_address_has_two_halves_and_a_crowd_leaves_room_for_who_came_before_it() {
        let mut half_open = HalfOpen::default();
        let at = |host, port| SocketAddr::from(([192, 0, 2, host], port));
        half_open.add(Time::ZERO, at(1, 1), [0; 32], Box::new(Silent));
        for n in 1..=3 {
            half_open.add(Time::ZERO, at(1, 1), [n; 32], Box::new(Silent));
        }
        let held: Vec<u8> = (0..=3).filter(|n| half_open.has(Time::ZERO, at(1, 1), &[*n; 32])).collect();
        assert_eq!(held, [2, 3]);
        for port in 0..500 {
            half_open.add(Time::from_secs(1), at(2, port), [9; 32], Box::new(Silent));
        }
        assert!(half_open.knows(&at(1, 1)) && half_open.accounts.len() < MAX_HALVES);
    }
}
