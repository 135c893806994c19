//! Chance as an argument.
//!
//! Every machine that needs randomness is built with a [`Seed`] and draws from its own [`Rng`];
//! children get seeds drawn by their parent. In the real world the first seed comes from the
//! operating system, in the simulator from the scenario, so a run can be replayed from one number.
//! The generator is ChaCha (cryptographic), so identifiers drawn from it cannot be guessed.

pub use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

/// The random generator of every machine.
pub type Rng = ChaCha8Rng;

/// Thirty-two bytes from which a machine's whole chance follows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub [u8; 32]);

impl Seed {
    /// A seed for tests and scenarios, from a small number.
    pub fn from_number(n: u64) -> Self {
        Seed::child_of(&mut Rng::seed_from_u64(n))
    }

    /// A fresh seed for a child machine, drawn from its parent's generator.
    pub fn child_of(parent: &mut Rng) -> Self {
        Seed(parent.random())
    }

    /// The generator that this seed starts.
    pub fn rng(self) -> Rng {
        Rng::from_seed(self.0)
    }
}

impl std::fmt::Debug for Seed {
    /// A seed determines secret keys, so it is never printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_numbers() {
        let (mut a, mut b) = (Seed::from_number(7).rng(), Seed::from_number(7).rng());
        assert_eq!(a.random::<u64>(), b.random::<u64>());
        assert_eq!(Seed::child_of(&mut a), Seed::child_of(&mut b));
    }
}
