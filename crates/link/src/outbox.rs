//! What leaves a port, and the count of what does not.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use wire::{Socket, Transmit};

/// Datagrams waiting to be sent; a world drains the queue after every input, so this is never
/// reached unless it does not.
const MAX_QUEUE: usize = 4_096;

/// A datagram of a link that was sent, for whoever keeps the books.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Where it went.
    pub remote: SocketAddr,
    /// Its bytes.
    pub len: usize,
    /// What it carried.
    pub cargo: Cargo,
}

/// What a datagram of a link carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cargo {
    /// A message, by what its sender called it.
    Message(u8),
    /// Our part of making a link that we asked for.
    Asking,
    /// Our part of one that others asked for: no more than they sent.
    Answering,
}

/// Datagrams on their way out, and what was dropped on either way.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Transmit>,
    /// What went over links since it was last asked.
    sent: Vec<Sent>,
    /// One for each reason met, which are few.
    dropped: Vec<(&'static str, u64)>,
}

impl Outbox {
    pub(crate) fn push(&mut self, remote: SocketAddr, bytes: Vec<u8>) {
        self.push_to(Socket::Peer, remote, bytes);
    }

    fn push_to(&mut self, socket: Socket, remote: SocketAddr, bytes: Vec<u8>) {
        if self.queue.len() >= MAX_QUEUE {
            return self.count_drop("queue full");
        }
        self.queue.push_back(Transmit { socket, remote, bytes });
    }

    /// Sends a piece of a stream that a provider has sealed.
    pub(crate) fn push_stream(&mut self, remote: SocketAddr, bytes: Vec<u8>, cargo: Cargo) {
        self.sent.push(Sent { remote, len: bytes.len(), cargo });
        self.push_to(Socket::PeerStream, remote, bytes);
    }

    /// Sends a frame of a link.
    pub(crate) fn push_frame(&mut self, remote: SocketAddr, bytes: Vec<u8>, cargo: Cargo) {
        self.sent.push(Sent { remote, len: bytes.len(), cargo });
        self.push(remote, bytes);
    }

    pub(crate) fn take_sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    pub(crate) fn pop(&mut self) -> Option<Transmit> {
        wire::queue::pop_front(&mut self.queue)
    }

    pub(crate) fn count_drop(&mut self, why: &'static str) {
        match self.dropped.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, count)) => *count += 1,
            None => {
                self.dropped.reserve_exact(1);
                self.dropped.push((why, 1));
            }
        }
    }

    pub(crate) fn drops(&self) -> BTreeMap<&'static str, u64> {
        self.dropped.iter().copied().collect()
    }
}
