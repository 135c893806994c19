//! How long the path between two peers is, by one of several models.
//!
//! Every model is the same both ways and follows from the seed. The log-normal one stores nothing and
//! takes pairs as independent, so that the triangle inequality does not hold; the others give peers
//! places, so that who is near to one near peer is near to the other.

use std::time::Duration;

use super::asn::Asn;
use super::matrix::Matrix;
use crate::chance::{mix, normal, unit};
use crate::scenario::{Latency, Model};

/// No path is shorter.
const SHORTEST: f64 = 0.000_2;
/// No path is longer.
const LONGEST: f64 = 2.0;
/// Pairs by which a model is brought to the median that the scenario asks for.
const SAMPLE: usize = 4_095;
/// Mean length of an access line, in widths of the plane.
const ACCESS: f64 = 0.08;

/// A model of latency.
pub(crate) enum Paths {
    /// Pairs independent of each other.
    Lognormal {
        key: u64,
        median_s: f64,
        sigma: f64,
    },
    /// Places on a plane, and for each an access line.
    Coordinates {
        key: u64,
        scale_s: f64,
    },
    Matrix(Matrix),
    Asn(Asn),
}

impl Paths {
    /// The model that the scenario names, with chance from `key`. A mesh has paths of its own.
    pub(crate) fn new(latency: &Latency, key: u64) -> Self {
        let median_s = latency.median_ms / 1e3;
        match latency.model {
            Model::Lognormal | Model::Mesh => Paths::Lognormal { key, median_s, sigma: latency.sigma },
            Model::Coordinates => {
                let scale_s = median_s / median(|a, b| between(key, a, b));
                Paths::Coordinates { key, scale_s }
            }
            Model::Matrix90 => Paths::Matrix(Matrix::ninety(key)),
            Model::MatrixKing => Paths::Matrix(Matrix::king(key)),
            Model::Asn => Paths::Asn(Asn::new(key, median_s)),
        }
    }

    /// One way from `a` to `b`, without jitter.
    pub(crate) fn one_way(&self, a: usize, b: usize) -> Duration {
        let (a, b) = (a.min(b), a.max(b));
        let seconds = match self {
            Paths::Lognormal { key, median_s, sigma } => {
                let bits = mix(mix(key ^ a as u64) ^ b as u64);
                median_s * (sigma * normal(bits)).exp()
            }
            Paths::Coordinates { key, scale_s } => scale_s * between(*key, a, b),
            Paths::Matrix(matrix) => matrix.one_way_s(a, b),
            Paths::Asn(asn) => asn.one_way_s(a, b),
        };
        Duration::from_micros((seconds.clamp(SHORTEST, LONGEST) * 1e6) as u64)
    }
}

/// A place on the unit square.
pub(crate) fn place(key: u64, n: u64) -> (f64, f64) {
    let bits = mix(key ^ n);
    (unit(bits), unit(mix(bits)))
}

/// The length of an access line, in widths of the square: most are short.
pub(crate) fn access(key: u64, n: u64) -> f64 {
    -ACCESS * unit(mix(mix(key ^ n) ^ 0xacce)).ln()
}

pub(crate) fn distance(a: (f64, f64), b: (f64, f64)) -> f64 {
    (a.0 - b.0).hypot(a.1 - b.1)
}

fn between(key: u64, a: usize, b: usize) -> f64 {
    let (a, b) = (a as u64, b as u64);
    distance(place(key, a), place(key, b)) + access(key, a) + access(key, b)
}

/// The median over a sample of pairs of peers.
pub(crate) fn median(between: impl Fn(usize, usize) -> f64) -> f64 {
    let mut sample: Vec<f64> = (0..SAMPLE).map(|n| between(n, n + 1 + n % 97)).collect();
    sample.sort_by(f64::total_cmp);
    sample[SAMPLE / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::percentile;

    fn sorted(latency: &Latency) -> Vec<f64> {
        let paths = Paths::new(latency, 7);
        let ms = |n: usize| paths.one_way(n, n + 7 + n % 61).as_secs_f64() * 1e3;
        let mut all: Vec<f64> = (0..20_000).map(ms).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    #[test]
    fn every_model_keeps_its_median_and_is_the_same_both_ways() {
        for (model, median_ms, p95) in [
            (Model::Lognormal, 78.0, 193.0),
            (Model::Coordinates, 60.0, 110.0),
            (Model::Matrix90, 45.0, 130.0),
            (Model::MatrixKing, 78.0, 194.5),
            (Model::Asn, 60.0, 110.0),
        ] {
            let latency = Latency { model, median_ms, ..Latency::default() };
            let all = sorted(&latency);
            let (half, late) = (percentile(&all, 0.5), percentile(&all, 0.95));
            assert!((half / median_ms - 1.0).abs() < 0.05, "{model:?}: {half}");
            assert!((late / p95 - 1.0).abs() < 0.12, "{model:?}: {late}");
            let paths = Paths::new(&latency, 7);
            assert!((0..500).all(|n| paths.one_way(n, n + 9) == paths.one_way(n + 9, n)));
        }
    }

    #[test]
    fn who_is_near_to_one_is_near_to_his_neighbour_where_peers_have_places() {
        // Among the peers nearest to one, how much shorter than the median are paths between them?
        let nearness = |model| {
            let paths = Paths::new(&Latency { model, ..Latency::default() }, 3);
            let mut near: Vec<usize> = (1..400).collect();
            near.sort_by_key(|n| paths.one_way(0, *n));
            let near = &near[..20];
            let pairs: Vec<f64> = near
                .iter()
                .flat_map(|a| near.iter().filter(move |b| a < b).map(|b| paths.one_way(*a, *b).as_secs_f64()))
                .collect();
            pairs.iter().sum::<f64>() / pairs.len() as f64 / 0.078
        };
        assert!(nearness(Model::Lognormal) > 0.95);
        for model in [Model::Coordinates, Model::MatrixKing, Model::Asn] {
            assert!(nearness(model) < 0.8, "{model:?}: {}", nearness(model));
        }
    }
}
