//! The admission puzzle: what makes a Node-ID cost work, so that few can be chosen.
//!
//! It is the static puzzle of S/Kademlia (Baumgart and Mies, 2007, section 4.1): the SHA-256 of a
//! Node-ID must begin with as many zero bits as the overlay's options ask. A Node-ID is the hash of a
//! public key, so whoever wants one draws keys until one fits. The proof is the Node-ID itself: nothing
//! is carried on the wire, anybody checks it with one hash, and it never runs out.
//!
//! A solution beside the key, as a nonce, would be found once for each key *after* the key was chosen:
//! the work to choose and the work to solve would add up. Here they multiply. Whoever wants `n` leading
//! bits of a Node-ID at difficulty `d` draws `2^(n+d)` keys. The price is a plain hash, with which
//! special hardware is quick; but each draw is a key as well, a multiplication on the curve, which takes
//! a hundred times as long as the hash. A memory-hard function would make every check cost
//! milliseconds, and a peer checks whoever is named to it.

use crate::{HashAlgorithm, KeyPair, NodeId};

/// Nobody draws keys for longer: at 2^32 draws a core would be busy for a day.
pub const MAX_DIFFICULTY: u8 = 32;

/// The difficulty that a Node-ID fulfils: leading zero bits of its SHA-256.
pub fn work(id: &NodeId) -> u8 {
    let digest = HashAlgorithm::Sha256.digest(id.key().as_bytes());
    let zeros = digest.as_bytes().iter().position(|b| *b != 0).unwrap_or(digest.as_bytes().len() - 1);
    (8 * zeros as u32 + digest.as_bytes()[zeros].leading_zeros()).min(u32::from(u8::MAX)) as u8
}

/// Draws keys until the Node-ID of one, in an overlay with this hash, fulfils the difficulty: `2^difficulty`
/// draws in the mean, no more than [`MAX_DIFFICULTY`] asks for.
pub fn solve<E>(
    hash: HashAlgorithm,
    difficulty: u8,
    mut draw: impl FnMut() -> Result<KeyPair, E>,
) -> Result<KeyPair, E> {
    loop {
        let pair = draw()?;
        if difficulty == 0 || work(&pair.public().node_id(hash)) >= difficulty.min(MAX_DIFFICULTY) {
            return Ok(pair);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;
    use std::convert::Infallible;

    #[test]
    fn a_solution_costs_as_many_draws_as_it_says_and_shows_itself() {
        let mut draws = 0;
        for _ in 0..32 {
            let draw = || {
                draws += 1;
                Ok::<_, Infallible>(KeyPair::from_seed(Seed::from_number(draws)))
            };
            let Ok(pair) = solve(HashAlgorithm::Sha1, 5, draw);
            assert!(work(&pair.public().node_id(HashAlgorithm::Sha1)) >= 5);
        }
        // 32 solutions of 32 draws each in the mean; the deviation is a sixth.
        assert!((512..2_048).contains(&draws), "{draws}");
    }

    #[test]
    fn one_in_two_fulfils_each_further_bit() {
        let ids = || (0..4_096u32).map(|n| NodeId(HashAlgorithm::Md5.digest(&n.to_be_bytes())));
        for difficulty in 0..6u8 {
            let share = ids().filter(|id| work(id) >= difficulty).count() as f64 / 4_096.0;
            let due = 0.5f64.powi(difficulty.into());
            assert!((share / due - 1.0).abs() < 0.35, "{difficulty}: {share}");
        }
    }
}
