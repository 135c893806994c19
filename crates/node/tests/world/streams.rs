//! Streams between the peers of a test, and peers whose UDP is blocked.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use node::Event;
use wire::Socket;

use super::{World, address, outside};

/// What is under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum What {
    Arrival(Socket),
    /// A piece of a stream.
    Piece,
    /// Somebody wants a stream, and somebody has accepted one.
    Wish,
    Accepted,
    /// Somebody closed a stream, or does not accept one.
    Closed,
}

/// The streams that stand.
#[derive(Default)]
pub struct Streams {
    /// From both ends.
    pub open: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Those that were asked for and not given up since.
    wanted: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Peers that nothing reaches by UDP and that reach nobody.
    pub without_udp: BTreeSet<usize>,
    /// The next piece to this peer arrives by half, and its stream is cut.
    pub cut: Option<usize>,
    /// How many streams were asked for, and how many pieces went over them.
    pub asked: usize,
    pub pieces: usize,
    /// What goes over them, where somebody listens.
    pub tap: Option<Vec<Vec<u8>>>,
}

impl World {
    /// Does what a peer wants done with streams.
    pub(super) fn serve_streams(&mut self, n: usize, event: &Event) -> bool {
        match *event {
            Event::OpenPeerStream(remote) => {
                self.streams.asked += 1;
                self.streams.wanted.insert((self.seen_at(n), remote));
                self.fly(What::Wish, self.seen_at(n), remote, Vec::new());
            }
            Event::ClosePeerStream(remote) => {
                self.streams.open.remove(&(self.seen_at(n), remote));
                self.streams.wanted.remove(&(self.seen_at(n), remote));
                self.fly(What::Closed, self.seen_at(n), remote, Vec::new());
            }
            _ => return false,
        }
        true
    }

    pub(super) fn send_piece(&mut self, n: usize, to: SocketAddr, bytes: Vec<u8>) {
        if self.streams.open.contains(&(self.seen_at(n), to)) {
            self.streams.pieces += 1;
            self.streams.tap.iter_mut().for_each(|tap| tap.push(bytes.clone()));
            self.fly(What::Piece, self.seen_at(n), to, bytes);
        }
    }

    fn seen_at(&self, n: usize) -> SocketAddr {
        if self.behind_nat.contains(&n) { outside(n) } else { address(n) }
    }

    fn fly(&mut self, what: What, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.count += 1;
        self.flying.push(Reverse((self.now + self.latency, self.count, what, from, to, bytes)));
    }

    /// Whether UDP does not get from one to the other.
    pub(super) fn is_blocked(&self, from: SocketAddr, to: SocketAddr) -> bool {
        let ends = [from, to];
        self.streams.without_udp.iter().any(|n| ends.contains(&self.seen_at(*n)))
            || self.parted.is_some_and(|pair| pair.iter().all(|n| ends.contains(&self.seen_at(*n))))
    }

    /// Something of a stream arrives.
    pub(super) fn move_stream(&mut self, what: What, from: SocketAddr, to: SocketAddr, mut bytes: Vec<u8>) {
        let (now, here, there) = (self.now, (to, from), (from, to));
        let Some(&n) = self.by_address.get(&to).filter(|n| !self.dead.contains(n)) else {
            return; // Silence.
        };
        match what {
            // No NAT lets a stream in that nobody behind it opened.
            What::Wish if self.behind_nat.contains(&n) && !self.opened.contains(&n) => {}
            What::Wish => {
                self.streams.open.insert(here);
                self.nodes[n].handle_peer_stream_opened(now, from);
                self.fly(What::Accepted, to, from, Vec::new());
            }
            What::Accepted if !self.streams.wanted.remove(&here) => {}
            What::Accepted => {
                self.streams.open.insert(here);
                self.nodes[n].handle_peer_stream_opened(now, from);
            }
            What::Piece if self.streams.open.contains(&here) => {
                let is_cut = self.streams.cut.take_if(|cut| *cut == n).is_some();
                let whole = bytes.len();
                bytes.truncate(if is_cut { whole / 2 } else { whole });
                self.nodes[n].handle_datagram(now, Socket::PeerStream, from, &mut bytes);
                if is_cut {
                    self.streams.open.remove(&here);
                    self.streams.open.remove(&there);
                    self.nodes[n].handle_peer_stream_closed(now, from);
                    self.fly(What::Closed, to, from, Vec::new());
                }
            }
            What::Closed => {
                self.streams.open.remove(&here);
                self.nodes[n].handle_peer_stream_closed(now, from);
            }
            What::Piece | What::Arrival(_) => {}
        }
        self.collect(n);
    }
}
