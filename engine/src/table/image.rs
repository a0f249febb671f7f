//! The table as routing reads it: immutable, one per host, shared by its shards.
//!
//! Invariant: every routing key has exactly one home.

use crate::ids::{PartitionId, ShardId, TableVersion};
use crate::key::RoutingKey;

use super::state::State;

/// A partition's place in the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Home {
    /// Which partition.
    pub partition: PartitionId,
    /// The shard that owns it.
    pub shard: ShardId,
    /// First routing key of its range.
    pub start: RoutingKey,
    /// First routing key after it; [`super::KEYS_END`] for the last one.
    pub end: RoutingKey,
}

/// Where everything is as of one version of the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    state: State,
    /// Where ranges start, apart from the rest: a look-up touches as few cache lines as can be.
    starts: Vec<u64>,
    homes: Vec<Home>,
}

impl Image {
    /// Of a state that holds its invariants.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn of(state: State) -> Self {
        assert_eq!(state.check(), Ok(()), "checked where it was made or read");
        let homes = state.partitions.iter().map(|(&partition, entry)| Home {
            partition,
            shard: entry.placed.shard,
            start: entry.placed.start,
            end: entry.placed.end,
        });
        let mut homes: Vec<Home> = homes.filter(|home| home.start < home.end).collect();
        homes.sort_unstable_by_key(|home| home.start);
        let starts = homes.iter().map(|home| home.start.0).collect();
        Self { state, starts, homes }
    }

    /// All in one place: what there is before a store is open.
    pub(crate) fn nowhere() -> Self {
        Self::of(State::first(&State::even_ranges(1), 1).expect("one range is all keys"))
    }

    /// Where the row with this storage key lives.
    #[must_use]
    pub fn home_of(&self, key: &[u8]) -> Home {
        let routing = RoutingKey::of_key(key);
        let after = self.starts.partition_point(|start| *start <= routing.0);
        self.homes[after.saturating_sub(1)]
    }

    /// All ranges' homes, by range.
    #[must_use]
    pub fn homes(&self) -> &[Home] {
        &self.homes
    }

    /// Everything that the table says.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// As of which change.
    #[must_use]
    pub const fn version(&self) -> TableVersion {
        self.state.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;

    #[test]
    fn even_ranges_share_real_keys_evenly() {
        let image = Image::of(State::first(&State::even_ranges(8), 3).unwrap());
        let mut counts = [0_u32; 8];
        for n in 0..8000_u32 {
            let mut key = Vec::new();
            key::encode(&n.to_be_bytes(), b"", &mut key).unwrap();
            let home = image.home_of(&key);
            assert!((home.start..home.end).contains(&RoutingKey::of(&n.to_be_bytes())));
            counts[home.partition.0 as usize] += 1;
        }
        assert!(counts.iter().all(|c| (800..1200).contains(c)), "{counts:?}");
    }

    #[test]
    fn what_is_no_storage_key_has_a_home_too() {
        let image = Image::of(State::first(&State::even_ranges(3), 3).unwrap());
        assert_eq!(image.home_of(b"").partition, PartitionId(2));
        assert_eq!(image.home_of(&[0xff; 8]).partition, PartitionId(2));
        assert_eq!(image.home_of(&[0; 8]).partition, PartitionId(0));
    }
}
