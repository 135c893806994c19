//! Who pays for which byte.
//!
//! Every datagram of the peer port is booked under one function, counted with IP and UDP headers.
//! Maintenance (all that happens without the owner doing anything) has a ceiling: a mean over ten
//! minutes with a burst for joining, kept by a token bucket that delays upkeep, never answers. A peer
//! whom many know may answer its ceiling away; so a fifth of it is kept for its own upkeep, because a
//! table that rots there misleads everybody who asks.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use wire::Time;
use wire::p2pp::MessageType;

use crate::report::Rates;

/// The window of every mean.
pub const WINDOW: Duration = Duration::from_secs(600);

/// The share of ceiling and burst that upkeep may use whatever answers cost.
const UPKEEP_SHARE: f64 = 0.2;

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
}

impl Function {
    /// Every function.
    pub const ALL: [Function; 9] = [
        Function::Keepalive,
        Function::Join,
        Function::Table,
        Function::Lookup,
        Function::Storage,
        Function::Tunnel,
        Function::Media,
        Function::Diagnostics,
        Function::Stun,
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
        }
    }

    /// Whether the ceiling applies.
    pub fn is_maintenance(self) -> bool {
        matches!(self, Function::Keepalive | Function::Join | Function::Table | Function::Storage)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    received: u64,
    sent: u64,
    maintenance: u64,
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
    tokens: f64,
    /// Bytes of the share kept for our own upkeep.
    reserve: f64,
    tokens_at: Time,
    ceiling: f64,
    burst: f64,
}

impl Ledger {
    /// Empty books with a ceiling in bytes per second and a burst in bytes.
    pub fn new(now: Time, ceiling: u32, burst: u32) -> Self {
        Ledger {
            totals: Default::default(),
            slots: VecDeque::from([Slot::default()]),
            slot_start: now,
            started: now,
            maintenance_sent: 0,
            tokens: f64::from(burst),
            reserve: f64::from(burst) * UPKEEP_SHARE,
            tokens_at: now,
            ceiling: f64::from(ceiling),
            burst: f64::from(burst),
        }
    }

    /// Books a datagram of `len` payload bytes that was received.
    pub fn received(&mut self, now: Time, function: Function, remote: &SocketAddr, len: usize) {
        let bytes = on_the_wire(remote, len);
        self.totals[function as usize].0 += bytes;
        self.slot(now).received += bytes;
    }

    /// Books a datagram of `len` payload bytes that was sent.
    pub fn sent(&mut self, now: Time, function: Function, remote: &SocketAddr, len: usize) {
        let bytes = on_the_wire(remote, len);
        self.totals[function as usize].1 += bytes;
        let slot = self.slot(now);
        slot.sent += bytes;
        if function.is_maintenance() {
            slot.maintenance += bytes;
            self.maintenance_sent += bytes;
            self.refill(now);
            self.tokens -= bytes as f64;
        }
    }

    /// Whether upkeep may spend more now; answers and the owner's own wishes never ask.
    pub fn may_maintain(&mut self, now: Time) -> bool {
        self.refill(now);
        self.tokens > 0.0 || self.reserve > 0.0
    }

    /// Upkeep begins something that will cost us about so many bytes.
    pub fn spend_upkeep(&mut self, bytes: usize) {
        self.reserve -= bytes as f64;
    }

    /// Whether answers to others have used up what maintenance may spend: time to be brief.
    pub fn is_short(&self) -> bool {
        self.tokens <= 0.0
    }

    /// Whether upkeep would have to wait at this moment.
    pub fn is_shedding(&self, now: Time) -> bool {
        let earned = now.since(self.tokens_at).as_secs_f64() * self.ceiling;
        self.tokens + earned <= 0.0 && self.reserve + earned * UPKEEP_SHARE <= 0.0
    }

    /// When upkeep may spend again.
    pub fn may_maintain_at(&self, now: Time) -> Time {
        let ceiling = self.ceiling.max(1.0);
        let tokens = (1.0 - self.tokens).max(0.0) / ceiling;
        let reserve = (1.0 - self.reserve).max(0.0) / (ceiling * UPKEEP_SHARE);
        now + Duration::from_secs_f64(tokens.min(reserve).clamp(0.1, 600.0))
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
        let sum = |pick: fn(&Slot) -> u64| self.slots.iter().map(pick).sum::<u64>() as f64 / seconds;
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
            self.slots.push_back(Slot::default());
            if self.slots.len() > SLOTS {
                self.slots.pop_front();
            }
        }
        self.slots.back_mut().expect("there is always a current slot")
    }

    fn refill(&mut self, now: Time) {
        let earned = now.since(self.tokens_at).as_secs_f64() * self.ceiling;
        self.tokens = (self.tokens + earned).min(self.burst);
        self.reserve = (self.reserve + earned * UPKEEP_SHARE).min(self.burst * UPKEEP_SHARE);
        self.tokens_at = now;
    }
}

/// Payload plus IP and UDP headers: 28 bytes for IPv4, 48 for IPv6.
fn on_the_wire(remote: &SocketAddr, len: usize) -> u64 {
    len as u64 + if remote.is_ipv4() { 28 } else { 48 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> SocketAddr {
        ([127, 0, 0, 1], 7080).into()
    }

    #[test]
    fn means_count_headers_and_forget_after_ten_minutes() {
        let mut ledger = Ledger::new(Time::ZERO, 500, 60_000);
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
    fn upkeep_waits_when_the_burst_and_its_own_share_are_spent() {
        let mut ledger = Ledger::new(Time::ZERO, 500, 1_000);
        assert!(ledger.may_maintain(Time::ZERO));
        ledger.spend_upkeep(400);
        ledger.sent(Time::ZERO, Function::Table, &peer(), 1_472);
        assert!(!ledger.may_maintain(Time::ZERO) && ledger.is_shedding(Time::ZERO));
        let again = ledger.may_maintain_at(Time::ZERO);
        let later = again + Duration::from_millis(10);
        assert!(!ledger.is_shedding(later) && ledger.may_maintain(later));
        assert!(again >= Time::from_millis(1_000));
    }

    #[test]
    fn a_peer_that_answers_its_ceiling_away_still_keeps_its_own_table() {
        let mut ledger = Ledger::new(Time::ZERO, 500, 1_000);
        let mut kept = 0;
        for second in 1..=600 {
            let now = Time::from_secs(second);
            ledger.sent(now, Function::Table, &peer(), 1_472);
            assert!(ledger.is_short() || second < 3);
            while ledger.may_maintain(now) {
                ledger.spend_upkeep(150);
                kept += 150;
            }
        }
        assert!((60_000..62_000).contains(&kept), "{kept} bytes: a fifth of 500 a second");
    }

    #[test]
    fn sound_is_not_maintenance() {
        let mut ledger = Ledger::new(Time::ZERO, 500, 1_000);
        ledger.sent(Time::ZERO, Function::Media, &peer(), 100_000);
        assert!(ledger.may_maintain(Time::ZERO));
    }
}
