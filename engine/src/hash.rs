//! Hashing that is the same in every run: maps for what the simulator replays, and the stable hash of names.

use std::hash::{BuildHasherDefault, Hasher};

/// A hash map whose iteration order and cost do not depend on the process.
#[expect(clippy::disallowed_types, reason = "this is the seeded replacement the lint points to")]
pub type Map<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<StableHasher>>;
/// A hash set likewise.
#[expect(clippy::disallowed_types, reason = "this is the seeded replacement the lint points to")]
pub type Set<K> = std::collections::HashSet<K, BuildHasherDefault<StableHasher>>;

/// The 64-bit hash that is written to disk (routing keys, Bloom filters): XXH3 with seed 0.
#[must_use]
pub fn stable(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// A small hasher for map keys: folds what is written through one multiply-rotate round per 8 bytes.
#[derive(Default, Clone, Debug)]
pub struct StableHasher(u64);

impl Hasher for StableHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u64(&mut self, n: u64) {
        // Murmur3's finalizer: every input bit reaches every output bit.
        let mut x = self.0.rotate_left(23) ^ n;
        x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        self.0 = x ^ (x >> 33);
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_u16(&mut self, n: u16) {
        self.write_u64(u64::from(n));
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
}
