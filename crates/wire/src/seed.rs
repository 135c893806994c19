//! Chance as an argument.
//!
//! Every machine that needs randomness is built with a [`Seed`] and draws from its own [`Rng`];
//! children get seeds drawn by their parent. In the real world the first seed comes from the
//! operating system, in the simulator from the scenario, so a run can be replayed from one number.
//! The generator is ChaCha (cryptographic), so identifiers drawn from it cannot be guessed.

use std::convert::Infallible;

pub use rand::RngExt;
use rand::rand_core::utils;
use rand::rngs::ChaCha8Rng;
use rand::{Rng as _, SeedableRng, TryCryptoRng, TryRng};

/// Words of a block of ChaCha.
const BLOCK: usize = 16;

/// The random generator of every machine: ChaCha8, number for number. It keeps one block at hand and not the
/// four of `rand`, a third of the memory: a process may hold many thousand machines, and each draws seldom enough that three
/// blocks in four may be made in vain.
#[derive(Clone)]
pub struct Rng {
    seed: [u8; 32],
    /// How many words were drawn.
    drawn: u64,
    /// The block of the word drawn last.
    block: [u32; BLOCK],
}

impl SeedableRng for Rng {
    type Seed = [u8; 32];

    fn from_seed(seed: [u8; 32]) -> Self {
        Rng { seed, drawn: 0, block: [0; BLOCK] }
    }
}

impl Rng {
    fn word(&mut self) -> u32 {
        let place = (self.drawn % BLOCK as u64) as usize;
        if place == 0 {
            let mut cipher = ChaCha8Rng::from_seed(self.seed);
            cipher.set_word_pos(self.drawn.into());
            self.block.fill_with(|| cipher.next_u32());
        }
        self.drawn += 1;
        self.block[place]
    }
}

impl TryRng for Rng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.word())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        utils::next_u64_via_u32(self)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        utils::fill_bytes_via_next_word(bytes, || self.try_next_u32())
    }
}

impl TryCryptoRng for Rng {}

impl std::fmt::Debug for Rng {
    /// A seed determines secret keys, so it is never printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rng(..)")
    }
}

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

    #[test]
    fn the_numbers_are_those_of_chacha_in_words_and_double_words_and_bytes() {
        let (mut ours, mut theirs) = (Rng::from_seed([7; 32]), ChaCha8Rng::from_seed([7; 32]));
        for n in 0..500 {
            assert_eq!(ours.next_u64(), theirs.next_u64());
            let mut bytes = ([0; 99], [0; 99]);
            ours.fill_bytes(&mut bytes.0[..n % 99]);
            theirs.fill_bytes(&mut bytes.1[..n % 99]);
            assert_eq!(bytes.0, bytes.1);
            assert_eq!(ours.next_u32(), theirs.next_u32());
        }
    }
}
