//! The order of events: by time, and among equals by the order in which they were made.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use wire::{Socket, Time};

use crate::faults::Strike;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A datagram reaches the peer `to` on one of its sockets.
    Arrival { to: usize, socket: Socket, remote: SocketAddr, bytes: Vec<u8> },
    /// A datagram reaches a phone, from this socket of its peer.
    AtPhone { phone: usize, socket: Socket, remote: SocketAddr, bytes: Vec<u8> },
    /// A datagram reaches a port of the box before the peer `to`.
    AtNat { to: usize, port: u16, remote: SocketAddr, bytes: Vec<u8> },
    /// A slow peer comes to a datagram that waited.
    Late { to: usize, socket: Socket, remote: SocketAddr, bytes: Vec<u8> },
    /// A peer may have something due.
    Wake(usize),
    /// A phone may have something due.
    WakePhone(usize),
    /// A peer that was planned starts.
    Join,
    /// The session of a peer ends.
    Departure(usize),
    /// A peer that said goodbye is switched off.
    SwitchOff(usize),
    /// Somebody looks somebody up.
    Lookup,
    /// Attackers of the scenario's entry with this index come or act.
    Attack(usize),
    /// The scenario's event with this index takes place.
    Script(usize),
    /// What the scenario's event with this index changed is restored.
    ScriptEnds(usize),
    /// The scenario's call with this index begins.
    Dial(usize),
    /// The caller of the call with this index hangs up.
    HangUp(usize),
    /// The scenario's message with this index is sent.
    Write(usize),
    /// An event of the scenario hits a peer.
    Strike { event: usize, peer: usize, strike: Strike },
    /// A peer that was away starts again.
    Return(usize),
    /// A new user is added somewhere.
    SignUp,
    /// Somebody calls somebody.
    Converse,
    /// Somebody writes to somebody.
    Chat,
    /// Peers behind boxes see to the links they keep warm.
    Warm,
    /// From now on figures count.
    Measure,
    /// Another row of the series.
    Tick,
    /// Time to look at every peer.
    Check,
    /// Time to tell how far the run is.
    Inspect,
}

/// Everything that will happen, as far as is known.
///
/// The heap holds small keys and the happenings rest in a slab, so that ordering moves few bytes.
/// Bounded by what peers send within a second of latency plus a wake-up or two per peer.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<(Time, u64, u32)>>,
    slab: Vec<Option<Happening>>,
    free: Vec<u32>,
    made: u64,
}

impl Queue {
    /// Adds something that happens at `at`.
    pub(crate) fn push(&mut self, at: Time, happening: Happening) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slab.push(None);
            (self.slab.len() - 1) as u32
        });
        self.slab[slot as usize] = Some(happening);
        self.heap.push(Reverse((at, self.made, slot)));
        self.made += 1;
    }

    /// How much waits.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// What happens next, unless that is after `until`.
    pub(crate) fn pop(&mut self, until: Time) -> Option<(Time, Happening)> {
        let Reverse((at, _, slot)) = *self.heap.peek().filter(|Reverse((at, _, _))| *at <= until)?;
        self.heap.pop();
        self.free.push(slot);
        Some((at, self.slab[slot as usize].take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_first_happens_first_among_equals() {
        let mut queue = Queue::default();
        queue.push(Time::from_secs(2), Happening::Wake(1));
        queue.push(Time::from_secs(1), Happening::Wake(2));
        queue.push(Time::from_secs(2), Happening::Wake(3));
        let mut order = Vec::new();
        while let Some((_, Happening::Wake(n))) = queue.pop(Time::from_secs(2)) {
            order.push(n);
            if n == 2 {
                queue.push(Time::from_secs(3), Happening::Wake(4));
            }
        }
        assert_eq!(order, [2, 1, 3]);
        assert!(matches!(queue.pop(Time::from_secs(3)), Some((_, Happening::Wake(4)))));
    }
}
