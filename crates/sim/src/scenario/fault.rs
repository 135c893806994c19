//! What goes wrong, and when: every kind of fault, one line each.
//!
//! A fault is a number in an `[[events]]` table; what the number means stands beside its name. The
//! list makes the fields of [`Event`], their ranges, and [`ALL`], by which tests and documentation
//! are held complete.

use std::ops::RangeInclusive;

use serde::Deserialize;

use super::MAX_NODES;

/// Among whom an event chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Among {
    /// Everybody.
    #[default]
    All,
    /// Those that are part of the overlay.
    Peers,
    /// Those that only use it.
    Clients,
}

/// A kind of fault.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Its name in scenarios and reports.
    pub name: &'static str,
    /// The numbers that make sense.
    pub range: RangeInclusive<f64>,
    /// Reads its number from an event.
    pub number: fn(&Event) -> Option<f64>,
}

/// Faults that are done once they have begun.
const AT_ONCE: [&str; 8] =
    ["kill", "leave", "join", "restart", "torn_state", "disk_full", "clock_jump", "nat_reboot"];

const SHARE: RangeInclusive<f64> = 0.0..=1.0;
const COUNT: RangeInclusive<f64> = 0.0..=MAX_NODES as f64;
const MILLISECONDS: RangeInclusive<f64> = 0.0..=60_000.0;

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $name:ident in $range:expr,)+) => {
        /// Something that goes wrong at a certain time, for a while or for good.
        #[derive(Clone, Copy, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Event {
            /// When it begins.
            pub at_s: f64,
            /// How long it lasts, or how long whoever is hit stays away; 0: to the end, and for those that
            /// restart, [`Event::AWAY_S`].
            pub for_s: f64,
            /// Over how much time those that `kill`, `leave`, `join` and `restart` name are spread.
            pub spread_s: f64,
            /// The share of peers that a fault of links and clocks befalls; absent: all.
            pub peers: Option<f64>,
            /// Among whom peers are chosen.
            pub among: Among,
            /// Mean length of a burst of `burst_loss`; 0: [`Event::BURST_MS`].
            pub burst_ms: f64,
            /// How long a link that flaps stays up, and stays down; 0: [`Event::PERIOD_S`].
            pub period_s: f64,
            /// How much a line with a limited bandwidth keeps waiting; 0: [`Event::QUEUE_MS`].
            pub queue_ms: f64,
            $($(#[doc = $doc])+ pub $name: Option<f64>,)+
        }

        /// Every kind of fault.
        pub const ALL: &[Kind] = &[$(Kind {
            name: stringify!($name),
            range: $range,
            number: |event| event.$name,
        }),+];
    };
}

faults! {
    /// Share of the live peers that falls silent.
    kill in SHARE,
    /// Share of the live peers that says goodbye.
    leave in SHARE,
    /// Peers that join, beyond the scenario's number.
    join in COUNT,
    /// Share that crashes and comes back after `for_s` with its keys and what it had saved.
    restart in SHARE,
    /// Share that crashes and comes back after `for_s` with its keys, its state unreadable.
    torn_state in SHARE,
    /// Share whose disk is full: what they save is lost; after `for_s` they restart from what was
    /// saved before.
    disk_full in SHARE,
    /// Share of the processes that stand still without a word, and go on after `for_s`.
    freeze in SHARE,
    /// Milliseconds that a peer works on each datagram.
    slow in MILLISECONDS,
    /// Parts in a million by which a peer's clock runs too fast.
    clock_skew in -200_000.0..=200_000.0,
    /// Seconds that a peer's clock leaps forward, as after sleep.
    clock_jump in 0.0..=1e6,
    /// Seconds by which the calendar of those is wrong who start meanwhile.
    calendar in -1e9..=1e9,
    /// Share of the NAT boxes that forgets every mapping.
    nat_reboot in SHARE,
    /// Share of datagrams lost, in place of the scenario's `loss`.
    loss in SHARE,
    /// Share of datagrams lost on their way to a peer.
    loss_in in SHARE,
    /// Share of datagrams lost on their way from a peer.
    loss_out in SHARE,
    /// Share of datagrams lost, in bursts (Gilbert, 1960).
    burst_loss in 0.0..=0.99,
    /// Share of datagrams that come up to half a second late, behind others.
    reorder in SHARE,
    /// Share of datagrams that come twice.
    duplicate in SHARE,
    /// Share of datagrams of which one bit is wrong.
    corrupt in SHARE,
    /// Share of datagrams cut short.
    truncate in SHARE,
    /// Share of the peers cut off from the rest.
    partition in SHARE,
    /// Number of parts into which the network falls.
    islands in 2.0..=1_000.0,
    /// Share of links that carry in one direction only.
    one_way in SHARE,
    /// Share of pairs that cannot reach each other while others reach both.
    no_path in SHARE,
    /// Share of the peers whose port nothing reaches.
    blackhole in SHARE,
    /// Longest payload that gets through; longer ones vanish.
    path_mtu in 64.0..=65_507.0,
    /// Share of the peers whose line goes down and up again.
    flap in SHARE,
    /// Kilobits per second of a peer's line outwards.
    bandwidth in 0.1..=1e9,
    /// Milliseconds by which datagrams to and from a peer are late.
    delay in MILLISECONDS,
    /// Milliseconds by which they are late at most, each by another time.
    jitter in MILLISECONDS,
    /// Share of the peers that speak a later minor version: their messages carry an object nobody knows.
    unknown_objects in SHARE,
    /// Share of the peers that speak another version of the protocol.
    foreign_version in SHARE,
    /// Factor by which people look up, call, write and register more.
    load in 0.0..=10_000.0,
}

impl Event {
    /// How long those that restart are away unless the event says so.
    pub const AWAY_S: f64 = 30.0;
    /// Mean length of a burst of loss.
    pub const BURST_MS: f64 = 500.0;
    /// How long a flapping link is up, and down.
    pub const PERIOD_S: f64 = 10.0;
    /// What waits in front of a narrow line: a fifth of a second is lost speech.
    pub const QUEUE_MS: f64 = 200.0;
    /// How much later at most a datagram comes that `reorder` holds back.
    pub const REORDER_MS: f64 = 500.0;

    /// The kinds of fault this event is made of.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static Kind, f64)> + '_ {
        ALL.iter().filter_map(|kind| Some((kind, (kind.number)(self)?)))
    }

    /// Whether anything of it lasts, and is not done once it has begun.
    pub(crate) fn lasts(&self) -> bool {
        self.kinds().any(|(kind, _)| !AT_ONCE.contains(&kind.name))
    }

    /// How long those that restart are away.
    pub(crate) fn away_s(&self) -> f64 {
        if self.for_s > 0.0 { self.for_s } else { Event::AWAY_S }
    }
}
