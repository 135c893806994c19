//! Who shall be a neighbour: how content a peer is with those it has, and whom it gives up for another.

use std::time::Duration;

use wire::{Contact, Time};

use super::tokens::Purse;

/// Neighbours everybody wants at least. The paper has three; eight know what eight peers hold.
pub(super) const LEAST: usize = 8;

/// Neighbours that nobody exceeds.
pub(super) const MOST: usize = 64;

/// By so much a newcomer's degree must be below that of the neighbour it replaces.
const HYSTERESIS: u8 = 5;

/// Neighbours a peer of this capacity takes at most: more with each tenfold.
pub(super) fn most(capacity: u32) -> usize {
    match capacity {
        0..10 => 12,
        10..100 => 16,
        100..1_000 => 24,
        1_000..10_000 => 48,
        _ => MOST,
    }
}

/// A peer with whom we agreed to be neighbours.
#[derive(Clone, Debug)]
pub(super) struct Neighbor {
    pub(super) contact: Contact,
    pub(super) capacity: u32,
    pub(super) degree: u8,
    pub(super) heard: Time,
    pub(super) rtt: Option<Duration>,
    /// It did not answer, and is asked once more.
    pub(super) suspect: bool,
    /// When it is greeted again.
    pub(super) greet_at: Time,
    pub(super) purse: Purse,
    /// Of what we granted it, what it has been told.
    pub(super) told_tokens: u32,
    /// Digests of the keys whose records it holds, sorted.
    pub(super) index: Box<[u32]>,
    /// The mark of that index.
    pub(super) theirs: u32,
    /// The mark of the index of ours that it has.
    pub(super) ours: u32,
}

/// How content a peer is with its neighbours, from 0 to 1: what each can do for it, its capacity
/// shared among all its own neighbours, against what it takes on itself (section 3.2 of the paper).
pub(super) fn satisfaction(capacity: u32, neighbors: &[Neighbor]) -> f64 {
    if neighbors.len() < LEAST {
        return 0.0;
    }
    if neighbors.len() >= most(capacity) {
        return 1.0;
    }
    let share = |n: &Neighbor| f64::from(n.capacity) / f64::from(n.degree.max(1));
    (neighbors.iter().map(share).sum::<f64>() / f64::from(capacity.max(1))).min(1.0)
}

/// What is done with a peer that would be our neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// There is room.
    Accept,
    /// It takes the place of the neighbour at this index.
    Replace(usize),
    /// The others are to be preferred.
    Reject,
}

/// Whether a peer of this capacity and degree becomes a neighbour of ours, and in whose place
/// (Algorithm 1 of the paper): of those that can do no more than it, the one with most neighbours of
/// its own goes, if the newcomer can do more than all of ours, or has clearly fewer neighbours. Who has
/// few is not given up.
pub(super) fn decide(own: u32, neighbors: &[Neighbor], capacity: u32, degree: u8) -> Decision {
    if neighbors.len() < most(own) {
        return Decision::Accept;
    }
    let lesser = neighbors.iter().enumerate().filter(|(_, n)| n.capacity <= capacity);
    let Some((place, richest)) = lesser.max_by_key(|(_, n)| n.degree) else { return Decision::Reject };
    let outdoes_all = neighbors.iter().all(|n| n.capacity < capacity);
    let spares = usize::from(richest.degree) > LEAST;
    if spares && (outdoes_all || richest.degree > degree.saturating_add(HYSTERESIS)) {
        Decision::Replace(place)
    } else {
        Decision::Reject
    }
}
