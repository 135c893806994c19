//! The driving loop, whole: two peers in one thread, no socket, no clock.
//!
//! One founds an overlay, the other joins it, stores a value, and the first reads it. Time is a
//! variable and the network a queue. `tools/core-is-pure` links this program and looks that it needs
//! no clock, no socket and no randomness of the operating system.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use node::{Config, Event, Identity, Node, Outcome, Saved};
use wire::{KeyPair, Seed, Socket, Time, UnixTime};

const TRIP: Duration = Duration::from_millis(10);

fn peer(n: u8, bootstrap: Vec<SocketAddr>, now: Time) -> Node {
    let config = Config { listen: address(n), bootstrap, ..Config::default() };
    let identity = Identity { peer: KeyPair::from_seed(Seed([n; 32])), users: Vec::new() };
    Node::new(config, identity, Saved::default(), Seed::from_number(n.into()), now, UnixTime(0))
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 7080))
}

fn main() {
    let mut now = Time::ZERO;
    let mut peers = [peer(1, Vec::new(), now), peer(2, vec![address(1)], now)];
    let mut network: VecDeque<(Time, SocketAddr, SocketAddr, Vec<u8>)> = VecDeque::new();
    let mut value = None;
    while value.is_none() && now < Time::from_secs(60) {
        for n in 0..peers.len() {
            while let Some(t) = peers[n].poll_transmit() {
                network.push_back((now + TRIP, address(n as u8 + 1), t.remote, t.bytes));
            }
            while let Some(event) = peers[n].poll_event() {
                match event {
                    Event::Online if n == 1 => {
                        peers[1].put(now, "greeting", b"hello", None);
                    }
                    Event::Done { outcome: Outcome::Stored { holders, .. }, .. } => {
                        println!("stored on {holders} peers");
                        peers[0].get(now, "greeting");
                    }
                    Event::Done { outcome: Outcome::Value(found), .. } => value = found.value,
                    _ => {}
                }
            }
        }
        let arrival = network.front().map(|(at, ..)| *at);
        let wake = peers.iter().filter_map(|p| p.poll_timeout()).map(|(at, _)| at).min();
        now = [arrival, wake].into_iter().flatten().min().expect("peers always have plans").max(now);
        if arrival == Some(now) {
            let (_, from, to, mut bytes) = network.pop_front().expect("its arrival was seen");
            let receiver = peers.iter_mut().zip(1..).find(|(_, n)| address(*n) == to);
            if let Some((receiver, _)) = receiver {
                receiver.handle_datagram(now, Socket::Peer, from, &mut bytes);
            }
        } else {
            peers.iter_mut().for_each(|p| p.handle_timeout(now));
        }
    }
    println!("found: {}", value.as_deref().unwrap_or("nothing"));
    assert_eq!(value.as_deref(), Some("hello"));
}
