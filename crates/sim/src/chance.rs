//! Chance, cut into streams that do not disturb each other.
//!
//! Each use of chance draws from a stream of its own, named by a label and a number, so that, for
//! example, another lookup more does not change which datagrams are lost.

use wire::{Rng, RngExt, Seed};

/// What a stream of chance is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(crate) enum Use {
    Loss = 1,
    Sessions,
    Lookups,
    Events,
    Latency,
    Node,
    PeerKey,
    UserKey,
    Phone,
    Faults,
    Work,
    Sample,
    Population,
    Grinding,
    Warmth,
    Capacity,
}

/// The seed of the stream for `use_of`, `number`.
pub(crate) fn seed(scenario: u64, use_of: Use, number: u64) -> Seed {
    Seed::from_number(mix(mix(mix(scenario) ^ use_of as u64) ^ number))
}

/// The stream itself.
pub(crate) fn stream(scenario: u64, use_of: Use) -> Rng {
    seed(scenario, use_of, 0).rng()
}

/// Spreads a number over all 64 bits (the finalizer of SplitMix64).
pub(crate) fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// A number above 0 and at most 1 made of 64 random bits.
pub(crate) fn unit(bits: u64) -> f64 {
    ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// A waiting time of a Poisson process with this mean, in the mean's unit.
pub(crate) fn exponential(rng: &mut Rng, mean: f64) -> f64 {
    -mean * unit(rng.random()).ln()
}

/// What peer `number` takes on for others, in requests a second, as was measured among the peers of
/// Gnutella (Saroiu et al., 2002) and played by the makers of Gia.
pub(crate) fn capacity(scenario: u64, number: u64) -> u32 {
    match seed(scenario, Use::Capacity, number).rng().random_range(0..1_000) {
        0..200 => 1,
        200..650 => 10,
        650..950 => 100,
        950..999 => 1_000,
        _ => 10_000,
    }
}

/// A number of the normal law, from 64 random bits: the method of Box and Muller, of which the second
/// number is not used.
pub(crate) fn normal(bits: u64) -> f64 {
    let (u, v) = (unit(bits), unit(mix(bits)));
    (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
}
