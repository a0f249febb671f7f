//! Which partition a storage key belongs to, and which shard owns it.
//!
//! Invariants: the ranges are contiguous, cover all routing keys, and are sorted by their start.

use crate::error::{Error, Result};
use crate::ids::{PartitionId, ShardId};
use crate::key::RoutingKey;

/// A partition's place in the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Home {
    /// Which partition.
    pub partition: PartitionId,
    /// First routing key of its range; the range ends where the next one starts.
    pub start: u64,
    /// The shard that owns it in this opening.
    pub shard: ShardId,
    /// Its place among that shard's partitions.
    pub place: usize,
}

/// All partitions of a store, by range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionMap {
    homes: Vec<Home>,
}

impl PartitionMap {
    /// A map of `ranges` (partition, first routing key), sorted by range, dealt out over `shards` in turn.
    ///
    /// # Errors
    /// [`Error::Misuse`] unless the ranges start at 0 and ascend.
    pub fn new(ranges: &[(PartitionId, u64)], shards: usize) -> Result<Self> {
        let ascends = ranges.first().is_some_and(|r| r.1 == 0) && ranges.is_sorted_by(|a, b| a.1 < b.1);
        if !ascends || shards == 0 {
            return Err(Error::misuse("partition ranges must start at routing key 0 and ascend"));
        }
        let homes = ranges.iter().enumerate().map(|(n, &(partition, start))| Home {
            partition,
            start,
            shard: ShardId(u16::try_from(n % shards).unwrap_or(u16::MAX)),
            place: n / shards,
        });
        Ok(Self { homes: homes.collect() })
    }

    /// `count` partitions of equal ranges, numbered from 0.
    #[must_use]
    pub fn even_ranges(count: usize) -> Vec<(PartitionId, u64)> {
        // Routing keys start with a slot below 16384: the top two bits of the 16 are zero.
        const KEYS: u128 = 1 << 62;
        (0..count)
            .map(|n| {
                let start = KEYS * n as u128 / count as u128;
                (PartitionId(u32::try_from(n).unwrap_or(u32::MAX)), u64::try_from(start).unwrap_or(u64::MAX))
            })
            .collect()
    }

    /// Where the row with this storage key lives.
    #[must_use]
    pub fn home_of(&self, key: &[u8]) -> Home {
        let routing = RoutingKey::of_key(key);
        let after = self.homes.partition_point(|h| h.start <= routing.0);
        self.homes[after.saturating_sub(1)]
    }

    /// The place of a partition.
    #[must_use]
    pub fn home(&self, partition: PartitionId) -> Option<Home> {
        self.homes.iter().find(|h| h.partition == partition).copied()
    }

    /// All places, by range.
    #[must_use]
    pub fn homes(&self) -> &[Home] {
        &self.homes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_ranges_share_real_keys_evenly() {
        let map = PartitionMap::new(&PartitionMap::even_ranges(8), 3).unwrap();
        let mut counts = [0_u32; 8];
        for n in 0..8000_u32 {
            let mut key = Vec::new();
            crate::key::encode(&n.to_be_bytes(), b"", &mut key).unwrap();
            assert_eq!(key[..8], RoutingKey::of(&n.to_be_bytes()).to_bytes());
            counts[map.home_of(&key).partition.0 as usize] += 1;
        }
        assert!(counts.iter().all(|c| (800..1200).contains(c)), "{counts:?}");
    }

    #[test]
    fn ranges_that_do_not_cover_everything_are_refused() {
        assert!(PartitionMap::new(&[(PartitionId(0), 5)], 1).is_err());
        assert!(PartitionMap::new(&[(PartitionId(0), 0), (PartitionId(1), 0)], 1).is_err());
        assert!(PartitionMap::new(&[], 1).is_err());
    }
}
