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

/// When something happens, its number in the order of making, and its place in the slab.
type Key = Reverse<(Time, u64, u32)>;

/// Microseconds of a slot of the wheel, as a power of two: about a millisecond.
const SLOT_BITS: u32 = 10;

/// Slots of the wheel: together a second, within which nearly every datagram arrives.
const SLOTS: u64 = 1_024;

/// Places a full slab grows by, besides an eighth of its length.
const GROWTH: usize = 64;

/// Everything that will happen, as far as is known.
///
/// A timing wheel (Varghese and Lauck, 1987) with a heap at either end: what happens within the second waits
/// unsorted in slots of a millisecond, only the slot at hand is put in order, and what is later waits in a
/// heap. So with a hundred thousand peers a datagram does not pass eighteen levels of a heap of megabytes.
/// The happenings rest in a slab, so that ordering moves few bytes.
/// Bounded by what peers send within a second of latency plus a wake-up or two per peer.
pub(crate) struct Queue {
    /// What happens in the slot `turn` or before.
    current: BinaryHeap<Key>,
    /// What happens in the slots after `turn`, each in the place of its number modulo [`SLOTS`].
    wheel: Vec<Vec<Key>>,
    /// How much waits in the wheel.
    in_wheel: usize,
    /// What happens in `turn + SLOTS` or later.
    later: BinaryHeap<Key>,
    turn: u64,
    slab: Vec<Option<Happening>>,
    free: Vec<u32>,
    made: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            current: BinaryHeap::new(),
            wheel: (0..SLOTS).map(|_| Vec::new()).collect(),
            in_wheel: 0,
            later: BinaryHeap::new(),
            turn: 0,
            slab: Vec::new(),
            free: Vec::new(),
            made: 0,
        }
    }
}

fn slot_of(at: Time) -> u64 {
    at.as_micros() >> SLOT_BITS
}

impl Queue {
    /// Adds something that happens at `at`.
    pub(crate) fn push(&mut self, at: Time, happening: Happening) {
        let place = self.free.pop().unwrap_or_else(|| {
            if self.slab.len() == self.slab.capacity() {
                self.slab.reserve_exact(self.slab.len() / 8 + GROWTH);
            }
            self.slab.push(None);
            (self.slab.len() - 1) as u32
        });
        self.slab[place as usize] = Some(happening);
        self.file(Reverse((at, self.made, place)));
        self.made += 1;
    }

    fn file(&mut self, key: Key) {
        match slot_of(key.0.0) {
            slot if slot <= self.turn => self.current.push(key),
            slot if slot < self.turn + SLOTS => {
                self.wheel[(slot % SLOTS) as usize].push(key);
                self.in_wheel += 1;
            }
            _ => self.later.push(key),
        }
    }

    /// How much waits.
    pub(crate) fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    /// What happens next, unless that is after `until`.
    pub(crate) fn pop(&mut self, until: Time) -> Option<(Time, Happening)> {
        while self.current.is_empty() && self.len() > 0 {
            self.turn_on();
        }
        let Reverse((at, _, place)) = *self.current.peek().filter(|key| key.0.0 <= until)?;
        self.current.pop();
        self.free.push(place);
        Some((at, self.slab[place as usize].take()?))
    }

    /// Goes on to the next slot, or, if the wheel is empty, to the first that is not.
    fn turn_on(&mut self) {
        self.turn = match (self.in_wheel, self.later.peek()) {
            (0, Some(key)) => slot_of(key.0.0),
            _ => self.turn + 1,
        };
        // Taken whole, so that a slot gives its memory back.
        let slot = std::mem::take(&mut self.wheel[(self.turn % SLOTS) as usize]);
        self.in_wheel -= slot.len();
        self.current.extend(slot);
        while let Some(key) = self.later.peek().filter(|key| slot_of(key.0.0) < self.turn + SLOTS) {
            let key = *key;
            self.later.pop();
            self.file(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::RngExt;

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

    #[test]
    fn near_and_far_things_happen_in_the_order_of_a_sorted_list() {
        let mut rng = wire::Seed::from_number(5).rng();
        let (mut queue, mut model) = (Queue::default(), std::collections::BTreeSet::new());
        let mut now = Time::ZERO;
        for n in 0..20_000 {
            // Within a slot, within the wheel, or long after it.
            let reach = [500, 900_000, 40_000_000][n % 3];
            let at = Time::from_micros(now.as_micros() + rng.random_range(0..reach));
            queue.push(at, Happening::Wake(n));
            model.insert((at, n));
            while queue.len() > rng.random_range(1..200) {
                let Some((at, Happening::Wake(which))) = queue.pop(Time::from_secs(1_000_000)) else {
                    panic!()
                };
                assert_eq!(model.pop_first(), Some((at, which)));
                now = at;
            }
            assert_eq!(queue.len(), model.len());
        }
        let before = model.first().expect("some are left").0;
        assert!(queue.pop(Time::from_micros(before.as_micros() - 1)).is_none());
        queue.push(now, Happening::Wake(0));
        assert!(matches!(queue.pop(now), Some((at, Happening::Wake(0))) if at == now));
    }
}
