//! Who pays for which byte.
//!
//! Every datagram of the peer port is booked under one function, counted with IP and UDP headers.
//! Maintenance, all that happens without the owner doing anything, is paid from the budget besides
//! (`budget.rs`).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use wire::Time;
use wire::p2pp::MessageType;

use crate::budget::{Budget, Limits};
use crate::report::Rates;

/// The window of every mean.
pub const WINDOW: Duration = Duration::from_secs(600);

const SLOT: Duration = Duration::from_secs(30);
const SLOTS: usize = (WINDOW.as_secs() / SLOT.as_secs()) as usize;

/// What a byte was for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Function {
    /// Is the other still there?
    Keepalive,
    /// Bootstrap, Join, Leave.
    Join,
    /// Finding peers: LookupPeer, ExchangeTable.
    Table,
    /// Finding records.
    Lookup,
    /// Keeping records: Publish, Replicate, Transfer, Refresh, RemoveObject.
    Storage,
    /// Signalling between peers.
    Tunnel,
    /// Sound between peers.
    Media,
    /// GetDiagnostics, Query, Configure.
    Diagnostics,
    /// STUN.
    Stun,
    /// Making links.
    Link,
}

impl Function {
    /// Every function.
    pub const ALL: [Function; 10] = [
        Function::Keepalive,
        Function::Join,
        Function::Table,
        Function::Lookup,
        Function::Storage,
        Function::Tunnel,
        Function::Media,
        Function::Diagnostics,
        Function::Stun,
        Function::Link,
    ];

    /// The function a P2PP message serves.
    pub fn of(message: MessageType) -> Self {
        match message {
            MessageType::KeepAlive => Function::Keepalive,
            MessageType::Bootstrap
            | MessageType::Join
            | MessageType::Leave
            | MessageType::Invite
            | MessageType::Enroll
            | MessageType::GetDocument
            | MessageType::Authenticate => Function::Join,
            MessageType::LookupPeer | MessageType::ExchangeTable => Function::Table,
            MessageType::LookupObject => Function::Lookup,
            MessageType::Publish
            | MessageType::RemoveObject
            | MessageType::Replicate
            | MessageType::Transfer
            | MessageType::Refresh => Function::Storage,
            MessageType::Tunnel | MessageType::Connect => Function::Tunnel,
            MessageType::Query | MessageType::GetDiagnostics | MessageType::Configure => {
                Function::Diagnostics
            }
        }
    }

    /// Its name in `status`.
    pub fn name(self) -> &'static str {
        match self {
            Function::Keepalive => "keepalive",
            Function::Join => "join",
            Function::Table => "table",
            Function::Lookup => "lookup",
            Function::Storage => "storage",
            Function::Tunnel => "tunnel",
            Function::Media => "media",
            Function::Diagnostics => "diagnostics",
            Function::Stun => "stun",
            Function::Link => "link",
        }
    }

    /// A message of this function, refusal or not, as one byte for [`link::Endpoint::send_to`].
    pub(crate) fn label(self, refusal: bool) -> u8 {
        self as u8 | u8::from(refusal) << 7
    }

    /// The function of a label, and whether the message is a refusal.
    pub(crate) fn of_label(label: u8) -> (Self, bool) {
        (Function::ALL[usize::from(label & 0x7f)], label >> 7 == 1)
    }

    /// Whether the ceiling applies.
    pub fn is_maintenance(self) -> bool {
        use Function::{Join, Keepalive, Link, Storage, Table};
        matches!(self, Keepalive | Join | Table | Storage | Link)
    }
}

/// Bytes of half a minute; four gigabytes and more count as four.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    received: u32,
    sent: u32,
    maintenance: u32,
}

/// The books of one peer.
#[derive(Debug)]
pub struct Ledger {
    /// Received and sent, in the order of [`Function::ALL`].
    totals: [(u64, u64); Function::ALL.len()],
    slots: VecDeque<Slot>,
    slot_start: Time,
    started: Time,
    maintenance_sent: u64,
    /// What may be spent.
    pub(crate) budget: Budget,
}

impl Ledger {
    /// Empty books, and a budget of which nothing is spent.
    pub fn new(now: Time, limits: Limits) -> Self {
        Ledger {
            totals: Default::default(),
            slots: VecDeque::from([Slot::default()]),
            slot_start: now,
            started: now,
            maintenance_sent: 0,
            budget: Budget::new(now, limits),
        }
    }

    /// Books a datagram of `len` payload bytes that was received.
    pub fn received(&mut self, now: Time, function: Function, remote: &SocketAddr, len: usize) {
        let bytes = on_the_wire(remote, len);
        self.totals[function as usize].0 += bytes;
        add(&mut self.slot(now).received, bytes);
    }

    /// Books a datagram of `len` payload bytes that was sent.
    pub fn sent(&mut self, now: Time, function: Function, remote: &SocketAddr, len: usize) {
        let bytes = self.refused(now, function, remote, len);
        if function.is_maintenance() {
            self.budget.spend(now, bytes);
        }
    }

    /// Books a refusal, which is no longer than the question and costs the budget nothing: else whoever asks
    /// often enough could have us refuse everybody. Returns its bytes on the wire.
    pub fn refused(&mut self, now: Time, function: Function, remote: &SocketAddr, len: usize) -> u64 {
        let bytes = on_the_wire(remote, len);
        self.totals[function as usize].1 += bytes;
        let slot = self.slot(now);
        add(&mut slot.sent, bytes);
        if function.is_maintenance() {
            add(&mut slot.maintenance, bytes);
            self.maintenance_sent += bytes;
        }
        bytes
    }

    /// Books that a datagram of `len` payload bytes was sent for somebody else's request on its way.
    pub fn forwarded(&mut self, now: Time, remote: &SocketAddr, len: usize) {
        self.budget.spend_forwarding(now, on_the_wire(remote, len));
    }

    /// What may be spent, and what was left undone.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Maintenance bytes sent since the start.
    pub fn maintenance_sent(&self) -> u64 {
        self.maintenance_sent
    }

    /// Bytes received and sent since the start, by function.
    pub fn totals(&self) -> impl Iterator<Item = (Function, u64, u64)> + '_ {
        let booked = Function::ALL.iter().zip(self.totals).filter(|(_, both)| *both != (0, 0));
        booked.map(|(f, (received, sent))| (*f, received, sent))
    }

    /// Means over the last ten minutes, or since the start: all bytes, and maintenance sent.
    pub fn rates(&self, now: Time) -> (Rates, f64) {
        let age = now.since(self.slot_start);
        let full = self.slots.len().saturating_sub(1) as u32;
        let span = (age + SLOT * full).min(now.since(self.started).max(Duration::from_secs(1)));
        let seconds = span.as_secs_f64().max(1.0);
        let sum = |pick: fn(&Slot) -> u32| self.slots.iter().map(pick).map(f64::from).sum::<f64>() / seconds;
        let rates = Rates { received: sum(|s| s.received), sent: sum(|s| s.sent) };
        (rates, sum(|s| s.maintenance))
    }

    fn slot(&mut self, now: Time) -> &mut Slot {
        while now.since(self.slot_start) >= SLOT {
            let behind = now.since(self.slot_start).as_secs() / SLOT.as_secs();
            if behind as usize > SLOTS {
                self.slots.clear();
                self.slot_start = now;
            } else {
                self.slot_start += SLOT;
            }
            if self.slots.len() == SLOTS {
                self.slots.pop_front();
            }
            if self.slots.len() == self.slots.capacity() {
                self.slots.reserve_exact(SLOTS / 5);
            }
            self.slots.push_back(Slot::default());
        }
        self.slots.back_mut().expect("there is always a current slot")
    }
}

fn add(sum: &mut u32, bytes: u64) {
    *sum = sum.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
}

/// Payload plus IP and UDP headers: 28 bytes for IPv4, 48 for IPv6.
fn on_the_wire(remote: &SocketAddr, len: usize) -> u64 {
    len as u64 + if remote.is_ipv4() { 28 } else { 48 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Work;

    const LIMITS: Limits = Limits { bytes_per_s: 500, burst_bytes: 60_000, forwarding_bytes_per_s: 5_000 };

    fn peer() -> SocketAddr {
        ([127, 0, 0, 1], 7080).into()
    }

    #[test]
    fn means_count_headers_and_forget_after_ten_minutes() {
        let mut ledger = Ledger::new(Time::ZERO, LIMITS);
        for second in 0..600 {
            ledger.sent(Time::from_secs(second), Function::Keepalive, &peer(), 72);
        }
        let (rates, maintenance) = ledger.rates(Time::from_secs(599));
        assert!((rates.sent - 100.0).abs() < 2.0, "{rates:?}");
        assert_eq!(rates.sent, maintenance);
        ledger.sent(Time::from_secs(5_000), Function::Media, &peer(), 172);
        let (rates, maintenance) = ledger.rates(Time::from_secs(5_000));
        assert!(rates.sent < 201.0 && maintenance == 0.0);
        assert_eq!(ledger.maintenance_sent(), 60_000);
    }

    #[test]
    fn sound_is_not_maintenance() {
        let mut ledger = Ledger::new(Time::ZERO, LIMITS);
        ledger.sent(Time::ZERO, Function::Media, &peer(), 100_000);
        assert!(ledger.budget().may(Time::ZERO, Work::Upkeep));
    }

    #[test]
    fn a_refusal_is_booked_and_costs_the_budget_nothing() {
        let mut ledger = Ledger::new(Time::ZERO, LIMITS);
        (0..2_000).for_each(|_| {
            ledger.refused(Time::ZERO, Function::Table, &peer(), 72);
        });
        assert_eq!(ledger.maintenance_sent(), 200_000);
        assert!(ledger.budget().may(Time::ZERO, Work::Upkeep));
    }
}
