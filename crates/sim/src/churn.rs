//! How long peers stay.
//!
//! A newcomer draws a whole session. The peers of the beginning stand for a network that has run for
//! long: each is somewhere within a session, and long sessions are the likelier ones to be met. With
//! the exponential law that makes no difference; with a Weibull law of shape below 1 it makes the
//! early peers the lasting ones, as measured in real networks (Stutzbach and Rejaie, 2006).

use std::time::Duration;

use wire::{Rng, RngExt};

use crate::chance::{exponential, unit};
use crate::scenario::{Churn, Law};

/// Sessions among which one is met with a probability proportional to its length.
const MET: usize = 64;

/// Draws session lengths.
#[derive(Debug)]
pub(crate) struct Sessions {
    churn: Churn,
    scale: f64,
}

impl Sessions {
    pub(crate) fn new(churn: Churn) -> Self {
        let scale = match churn.law {
            Law::Exponential => churn.mean_s,
            Law::Weibull => churn.mean_s / gamma(1.0 + 1.0 / churn.shape),
        };
        Sessions { churn, scale }
    }

    /// The session of a newcomer.
    pub(crate) fn whole(&self, rng: &mut Rng) -> Duration {
        Duration::from_secs_f64(self.draw(rng))
    }

    /// What is left of the session of a peer met at a random moment.
    pub(crate) fn rest(&self, rng: &mut Rng) -> Duration {
        let lengths: Vec<f64> = (0..MET).map(|_| self.draw(rng)).collect();
        let mut mark = unit(rng.random()) * lengths.iter().sum::<f64>();
        let met = lengths.iter().find(|length| {
            mark -= **length;
            mark <= 0.0
        });
        Duration::from_secs_f64(met.unwrap_or(&lengths[0]) * unit(rng.random()))
    }

    /// Whether a peer that goes says goodbye.
    pub(crate) fn is_graceful(&self, rng: &mut Rng) -> bool {
        unit(rng.random()) <= self.churn.graceful && self.churn.graceful > 0.0
    }

    fn draw(&self, rng: &mut Rng) -> f64 {
        match self.churn.law {
            Law::Exponential => exponential(rng, self.scale),
            // At most a century, so that the tail fits a `Time`.
            Law::Weibull => (self.scale * exponential(rng, 1.0).powf(1.0 / self.churn.shape)).min(3e9),
        }
    }
}

/// The gamma function for arguments of 1 and above, by Stirling's series.
fn gamma(x: f64) -> f64 {
    // The series is good to nine digits from 8 on; below, step down by gamma(x) = gamma(x + 1) / x.
    if x < 8.0 {
        return gamma(x + 1.0) / x;
    }
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1_260.0 * x.powi(5));
    (2.0 * std::f64::consts::PI / x).sqrt() * (x / std::f64::consts::E).powf(x) * series.exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Seed;

    #[test]
    fn the_gamma_function_meets_the_factorials() {
        for (x, y) in [(1.0, 1.0), (3.0, 2.0), (5.0, 24.0), (1.5, 0.886_226_925_5), (11.0, 3_628_800.0)] {
            assert!((gamma(x) / y - 1.0).abs() < 1e-8, "{x}: {}", gamma(x));
        }
    }

    #[test]
    fn every_law_keeps_its_mean() {
        let mut rng = Seed::from_number(1).rng();
        for (law, shape) in [(Law::Exponential, 1.0), (Law::Weibull, 0.5), (Law::Weibull, 2.0)] {
            let sessions = Sessions::new(Churn { law, mean_s: 600.0, shape, graceful: 0.5 });
            let count = 40_000;
            let sum: f64 = (0..count).map(|_| sessions.whole(&mut rng).as_secs_f64()).sum();
            assert!((sum / f64::from(count) / 600.0 - 1.0).abs() < 0.05, "{law:?} {shape}");
        }
    }

    #[test]
    fn who_is_met_stays_longer_where_the_tail_is_heavy() {
        let mut rng = Seed::from_number(2).rng();
        let churn = Churn { law: Law::Weibull, mean_s: 600.0, shape: 0.5, graceful: 0.0 };
        let mean = |churn: Churn, rng: &mut Rng| {
            let sessions = Sessions::new(churn);
            (0..4_000).map(|_| sessions.rest(rng).as_secs_f64()).sum::<f64>() / 4_000.0
        };
        assert!(mean(churn, &mut rng) > 1_200.0);
        let memoryless = Churn { law: Law::Exponential, ..churn };
        assert!((mean(memoryless, &mut rng) / 600.0 - 1.0).abs() < 0.1);
        assert!(!Sessions::new(churn).is_graceful(&mut rng));
    }
}
