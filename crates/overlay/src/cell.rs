//! The places of a prefix table: how many digits somebody shares with us, and the first that differs.

use wire::{Key, Rng, seed::RngExt};

/// The cell of a key: the row, and in its lowest `base_bits` bits the column. Our own key stands in the
/// last row.
pub(crate) fn of(local: &Key, key: &Key, base_bits: u32) -> u16 {
    let row = local.common_prefix(key).min(local.bits().saturating_sub(1)) / base_bits;
    ((row << base_bits) as u16) | u16::from(key.digit(row * base_bits, base_bits))
}

/// A random key of a cell.
pub(crate) fn random_key(local: &Key, cell: u16, base_bits: u32, rng: &mut Rng) -> Key {
    let random: [u8; Key::MAX_LEN] = rng.random();
    let random = Key::from_slice(&random[..local.as_bytes().len()]).unwrap_or(*local);
    let start = u32::from(cell >> base_bits) * base_bits;
    let mut key = local.with_suffix_of(start, &random);
    for bit in 0..base_bits.min(local.bits().saturating_sub(start)) {
        let wanted = cell >> (base_bits - 1 - bit) & 1 == 1;
        if key.bit(start + bit) != wanted {
            key = key.with_flipped_bit(start + bit);
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::{HashAlgorithm, Seed};

    fn key(head: u16) -> Key {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&head.to_be_bytes());
        Key::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_cell_is_the_digits_shared_and_the_first_that_differs() {
        assert_eq!(of(&key(0x1234), &key(0x1299), 4), 2 << 4 | 9);
        assert_eq!(of(&key(0x1234), &key(0x8234), 4), 8);
        assert_eq!(of(&key(0x1234), &key(0x1334), 1), 7 << 1 | 1);
        assert_eq!(of(&key(0x1234), &key(0x3234), 2), 1 << 2 | 3, "00 01.. and 00 11.. share a digit");
    }

    proptest! {
        #[test]
        fn a_random_key_of_a_cell_lies_in_it(bits in 1u32..=4, row in 0u16..60, column: u16, seed: u64) {
            let local = HashAlgorithm::Sha256.digest(&seed.to_be_bytes());
            let column = column & ((1 << bits) - 1);
            prop_assume!(column != u16::from(local.digit(u32::from(row) * bits, bits)));
            let cell = (row << bits) | column;
            let mut rng = Seed::from_number(seed).rng();
            prop_assert_eq!(of(&local, &random_key(&local, cell, bits, &mut rng), bits), cell);
        }
    }
}
