//! How long peers stay.
//!
//! A newcomer draws a whole session. The peers of the beginning stand for a network that has run for
//! long: each is somewhere within a session, and long sessions are the likelier ones to be met. With
//! the exponential law that makes no difference; with a Weibull law of shape below 1 it makes the
//! early peers the lasting ones, as measured in real networks (Stutzbach and Rejaie, 2006).

use std::collections::BTreeMap;
use std::f64::consts::LN_2;
use std::time::Duration;

use wire::{Rng, RngExt};

use crate::chance::{exponential, unit};
use crate::scenario::{Churn, Law, MAX_SESSIONS, Session};

/// Sessions among which one is met with a probability proportional to its length.
const MET: usize = 64;

/// No session is longer: a century, so that the tail fits a `Time`.
const LONGEST: f64 = 3e9;

/// Draws session lengths.
#[derive(Debug)]
pub(crate) struct Sessions {
    churn: Churn,
    scale: f64,
}

impl Sessions {
    pub(crate) fn new(churn: Churn) -> Self {
        let (mean, shape) = (churn.mean_s, churn.shape);
        let scale = match (churn.law, churn.median_s) {
            (Law::Exponential, None) => mean,
            (Law::Exponential, Some(median)) => median / LN_2,
            (Law::Weibull, None) => mean / gamma(1.0 + 1.0 / shape),
            (Law::Weibull, Some(median)) => median / LN_2.powf(1.0 / shape),
            (Law::Pareto, None) => mean * (shape - 1.0) / shape,
            (Law::Pareto, Some(median)) => median / 2f64.powf(1.0 / shape),
            // A trace draws nothing.
            (Law::Trace, _) => LONGEST,
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
        let length = match self.churn.law {
            Law::Exponential => exponential(rng, self.scale),
            Law::Weibull => self.scale * exponential(rng, 1.0).powf(1.0 / self.churn.shape),
            Law::Pareto => self.scale * unit(rng.random()).powf(-1.0 / self.churn.shape),
            Law::Trace => LONGEST,
        };
        length.min(LONGEST)
    }
}

/// The sessions of a trace, in the order of their beginning, or the line that cannot be read and why.
pub(crate) fn trace(text: &str) -> Result<Vec<Session>, (usize, String)> {
    let mut sessions: Vec<(&str, f64, f64)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        if line.is_empty() || (sessions.is_empty() && fields == ["peer", "up", "down"]) {
            continue;
        }
        let bad = |problem: &str| Err((number, format!("{problem}: '{line}'")));
        let [peer, up, down] = fields[..] else { return bad("not 'peer,up,down'") };
        let (Ok(up), Ok(down)) = (up.parse::<f64>(), down.parse::<f64>()) else {
            return bad("up and down are not numbers");
        };
        if !(0.0..=1e8).contains(&up) || !(up..=1e8).contains(&down) {
            return bad("up and down are not times in this order");
        }
        if sessions.len() >= MAX_SESSIONS {
            return bad("too many sessions");
        }
        sessions.push((peer, up, down));
    }
    sessions.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let numbered = sessions.iter().map(|(name, up_s, down_s)| {
        let next = numbers.len() + 1;
        let peer = *numbers.entry(name).or_insert(next);
        Session { peer, up_s: *up_s, down_s: *down_s }
    });
    Ok(numbered.collect())
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

    fn churn(law: Law, shape: f64) -> Churn {
        Churn { law, mean_s: 600.0, shape, ..Churn::default() }
    }

    #[test]
    fn every_law_keeps_its_mean_and_its_median() {
        let mut rng = Seed::from_number(1).rng();
        for (law, shape) in
            [(Law::Exponential, 1.0), (Law::Weibull, 0.5), (Law::Weibull, 2.0), (Law::Pareto, 3.0)]
        {
            let mut draw = |churn: Churn| {
                let sessions = Sessions::new(churn);
                (0..40_000).map(|_| sessions.whole(&mut rng).as_secs_f64()).collect::<Vec<f64>>()
            };
            let mean = draw(churn(law, shape)).iter().sum::<f64>() / 40_000.0;
            assert!((mean / 600.0 - 1.0).abs() < 0.05, "{law:?} {shape}: {mean}");
            let mut all = draw(Churn { median_s: Some(84.0), ..churn(law, shape) });
            all.sort_by(f64::total_cmp);
            assert!((all[20_000] / 84.0 - 1.0).abs() < 0.05, "{law:?} {shape}: {}", all[20_000]);
        }
    }

    #[test]
    fn who_is_met_stays_longer_where_the_tail_is_heavy() {
        let mut rng = Seed::from_number(2).rng();
        let mean = |churn: Churn, rng: &mut Rng| {
            let sessions = Sessions::new(churn);
            (0..4_000).map(|_| sessions.rest(rng).as_secs_f64()).sum::<f64>() / 4_000.0
        };
        assert!(mean(churn(Law::Weibull, 0.5), &mut rng) > 1_200.0);
        assert!((mean(churn(Law::Exponential, 0.5), &mut rng) / 600.0 - 1.0).abs() < 0.1);
        let silent = Churn { graceful: 0.0, ..Churn::default() };
        assert!(!Sessions::new(silent).is_graceful(&mut rng));
    }

    #[test]
    fn a_trace_is_read_and_its_mistakes_are_named() {
        let text = "peer,up,down\n# two peers\nb, 10, 20\na, 5, 7.5\n\nb, 30, 40  # again\n";
        let sessions = trace(text).unwrap();
        assert_eq!(
            sessions.iter().map(|s| (s.peer, s.up_s)).collect::<Vec<_>>(),
            [(1, 5.0), (2, 10.0), (2, 30.0)]
        );
        for (text, line) in [("a,1", 1), ("a,1,2\nb,3,x", 2), ("\na,5,4", 2), ("a,nan,4", 1)] {
            assert_eq!(trace(text).unwrap_err().0, line, "{text}");
        }
    }
}
