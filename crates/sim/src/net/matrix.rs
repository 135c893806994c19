//! A committed latency matrix: 1,024 sites, the same in every run.
//!
//! What is committed is the generator with a seed of its own; the matrix is a million numbers that
//! follow from it. Sites stand on a few continents and have access lines; from that and some detours
//! comes the order of the pairs, from short to long. The lengths are then those of a log-normal law in
//! that order, so that the distribution is the one stated, and near sites are near to the same others.

use wire::{RngExt, Seed};

use super::paths::distance;
use crate::chance::{exponential, mix, normal};

/// Sites of the matrix; the simulations of DHTs with the King measurements used 1,024 of them too.
pub(crate) const SITES: usize = 1_024;

/// The seed of both matrices.
const SEED: u64 = 20_020_501;

/// Continents: where they lie, how wide they are, how many sites of a hundred they hold.
const CONTINENTS: [((f64, f64), f64, f64); 5] = [
    ((0.0, 0.0), 0.12, 0.38),
    ((0.9, 0.15), 0.10, 0.33),
    ((1.9, 0.0), 0.16, 0.17),
    ((0.25, 0.8), 0.12, 0.07),
    ((1.8, 0.9), 0.10, 0.05),
];

/// Two peers at one site, one way.
const SAME_SITE_S: f64 = 0.000_5;

/// A matrix of one-way latencies, and who stands where.
pub(crate) struct Matrix {
    key: u64,
    /// Seconds from site to site, row by row.
    one_way: Vec<f32>,
}

impl Matrix {
    /// Round trips with a median of 90 ms and a 95th percentile of 260 ms. Peers get sites by `key`.
    pub(crate) fn ninety(key: u64) -> Self {
        Matrix::shaped(key, 0.090, (260.0f64 / 90.0).ln() / 1.645)
    }

    /// Round trips like the King measurements: a median of 156 ms and a mean of 182 ms, which makes the
    /// 95th percentile 389 ms in this law.
    pub(crate) fn king(key: u64) -> Self {
        Matrix::shaped(key, 0.156, (2.0 * (182.0f64 / 156.0).ln()).sqrt())
    }

    fn shaped(key: u64, median_rtt_s: f64, sigma: f64) -> Self {
        let mut rng = Seed::from_number(SEED).rng();
        let sites: Vec<((f64, f64), f64)> = (0..SITES)
            .map(|_| {
                let mut pick: f64 = rng.random();
                let here = CONTINENTS.iter().find(|(_, _, share)| {
                    pick -= share;
                    pick < 0.0
                });
                let ((x, y), width, _) = here.unwrap_or(&CONTINENTS[0]);
                let (dx, dy) = (normal(rng.random()), normal(rng.random()));
                ((x + width * dx, y + width * dy), exponential(&mut rng, 0.05))
            })
            .collect();
        let mut pairs: Vec<(f64, u32)> = Vec::with_capacity(SITES * (SITES - 1) / 2);
        let mut lengths = Vec::with_capacity(pairs.capacity());
        for a in 0..SITES {
            for b in 0..a {
                let detour = (0.25 * normal(rng.random())).exp();
                let raw = (distance(sites[a].0, sites[b].0) + sites[a].1 + sites[b].1) * detour;
                pairs.push((raw, (a * SITES + b) as u32));
                lengths.push(median_rtt_s / 2.0 * (sigma * normal(rng.random())).exp());
            }
        }
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        lengths.sort_by(f64::total_cmp);
        let mut one_way = vec![SAME_SITE_S as f32; SITES * SITES];
        for ((_, pair), length) in pairs.into_iter().zip(lengths) {
            let (a, b) = (pair as usize / SITES, pair as usize % SITES);
            one_way[a * SITES + b] = length as f32;
            one_way[b * SITES + a] = length as f32;
        }
        Matrix { key, one_way }
    }

    /// One way from `a` to `b`.
    pub(crate) fn one_way_s(&self, a: usize, b: usize) -> f64 {
        let site = |peer: usize| mix(self.key ^ peer as u64) as usize % SITES;
        f64::from(self.one_way[site(a) * SITES + site(b)])
    }
}
