//! How close to a place the peers around it stand, in four bytes: Density.
//!
//! Honest Node-IDs are even, so how much of the space is nearer to a place than the fourth and the
//! eighth of the peers there tells whether somebody has chosen identities beside it. Whoever answers
//! with a record stands there and knows; whoever asked is led to the record and sees nothing. So it
//! is told, and judges by itself. A part of the space is written as its binary logarithm in steps of
//! 1/256, an error of 0.3 %.

use super::ParseError;
use super::field::{Cursor, Field};

/// Which peers it tells of, counted from the nearest: few strangers are seen by the first, many by
/// the second.
pub const RANKS: [usize; 2] = [4, 8];

/// Steps of a binary logarithm.
const STEPS: f64 = 256.0;

/// How close to a place the peers of [`RANKS`] stand: each is as many steps of 1/256 below the whole
/// space, as a binary logarithm, as the part of it that is nearer; 0 where the teller knows too few.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Density(pub [u16; 2]);

impl Density {
    /// What these parts of the space say, of each peer how much is nearer than it, the nearest first.
    pub fn of(parts: &[f64]) -> Self {
        Density(RANKS.map(|rank| parts.get(rank - 1).map_or(0, |part| steps(*part))))
    }

    /// How much of the space is nearer than each of these peers, where that is known.
    pub fn parts(self) -> [Option<f64>; 2] {
        self.0.map(|steps| (steps > 0).then(|| (-f64::from(steps) / STEPS).exp2()))
    }

    /// Of two views of one place what each sees closer: nobody sees peers that are not there.
    pub fn closer(self, other: Density) -> Density {
        Density([self.0[0].max(other.0[0]), self.0[1].max(other.0[1])])
    }
}

fn steps(part: f64) -> u16 {
    (-part.log2() * STEPS).round().clamp(0.0, f64::from(u16::MAX)) as u16
}

impl<'a> Field<'a> for Density {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        Ok(Density([cursor.read()?, cursor.read()?]))
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|steps| steps.write(out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_space_comes_back_within_a_third_of_a_percent() {
        let parts: Vec<f64> = (1..=8).map(|n| f64::from(n) * 1.7e-5).collect();
        let [fourth, eighth] = Density::of(&parts).parts();
        for (told, part) in [(fourth, parts[3]), (eighth, parts[7])] {
            assert!((told.unwrap() / part - 1.0).abs() < 0.003, "{told:?} for {part}");
        }
    }

    #[test]
    fn whoever_knows_too_few_says_nothing_of_the_rest() {
        assert_eq!(Density::of(&[0.1; 3]).parts(), [None, None]);
        assert!(matches!(Density::of(&[0.1; 5]).parts(), [Some(_), None]));
        // The least part that a distance can be has 64 bits.
        assert_eq!(Density::of(&[2f64.powi(-64); 8]), Density([64 * 256; 2]));
    }

    #[test]
    fn of_two_views_the_closer_counts() {
        assert_eq!(Density([1, 20]).closer(Density([3, 10])), Density([3, 20]));
    }
}
