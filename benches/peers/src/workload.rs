//! What is written and read: rows made from their number, the same for every engine.
//!
//! A row's key is 24 hexadecimal digits of a bijection of its number, so that keys come in random order without
//! a repetition; its value is 100 bytes, of which a general compressor can save half.

/// Bytes of a key.
pub const KEY_BYTES: usize = 24;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 100;

/// One row's key.
pub type Key = [u8; KEY_BYTES];
/// One row's value.
pub type Value = [u8; VALUE_BYTES];

/// Makes rows.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// How many rows there are.
    pub rows: u64,
    /// Of the keys, the values and every random choice.
    pub seed: u64,
}

impl Workload {
    /// The key of row `number`.
    pub fn key(&self, number: u64) -> Key {
        let first = mix(number ^ self.seed);
        let second = mix(first.wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut key = [0; KEY_BYTES];
        let digits = first.to_be_bytes().into_iter().chain(second.to_be_bytes());
        for (pair, byte) in key.chunks_exact_mut(2).zip(digits) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        key
    }

    /// The value of row `number`: 50 random bytes, 50 that repeat.
    pub fn value(&self, number: u64) -> Value {
        let mut value = [b'.'; VALUE_BYTES];
        let mut state = number ^ self.seed.rotate_left(32);
        for piece in value[..VALUE_BYTES / 2].chunks_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            piece.copy_from_slice(&mix(state).to_le_bytes()[..piece.len()]);
        }
        value
    }

    /// What the rows hold, without any engine's overhead.
    pub fn bytes(&self) -> u64 {
        self.rows * (KEY_BYTES + VALUE_BYTES) as u64
    }

    /// A source of row numbers for reader `reader`.
    pub fn draws(&self, reader: u64) -> impl FnMut() -> u64 + use<> {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ mix(reader + 1));
        let rows = self.rows;
        move || rng.u64(0..rows)
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The finalizer of MurmurHash3: a bijection of 64 bits.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_do_not_repeat_and_values_are_half_noise() {
        let workload = Workload { rows: 10_000, seed: 5 };
        let keys: BTreeSet<Key> = (0..workload.rows).map(|n| workload.key(n)).collect();
        assert_eq!(keys.len(), 10_000);
        let value = workload.value(7);
        assert!(value[50..].iter().all(|&b| b == b'.'));
        assert_ne!(value[..50], workload.value(8)[..50]);
    }
}
