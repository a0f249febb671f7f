//! The table as routing reads it: immutable, one per host, shared by its shards.
//!
//! Invariant: every routing key has exactly one home, and every entity is in exactly one partition.

use std::collections::BTreeMap;

use super::guests::{Guest, GuestRef};
use super::state::{OpenMove, State};
use crate::ids::{MoveId, PartitionId, ShardId, TableVersion};
use crate::key::RoutingKey;

/// Where a partition is.
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
    /// All partitions by number, those without a range too: guests may be in them.
    by_id: Vec<Home>,
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
        let by_id: Vec<Home> = homes.collect();
        let mut homes: Vec<Home> = by_id.iter().copied().filter(|home| home.start < home.end).collect();
        homes.sort_unstable_by_key(|home| home.start);
        let starts = homes.iter().map(|home| home.start.0).collect();
        Self { state, starts, homes, by_id }
    }

    /// All in one place: what there is before a store is open.
    pub(crate) fn nowhere() -> Self {
        Self::of(State::first(&State::even_ranges(1), 1).expect("one range is all keys"))
    }

    /// Where the row with this storage key lives: in the partition that its entity is a guest of, or at home.
    #[inline]
    #[must_use]
    pub fn home_of(&self, key: &[u8]) -> Home {
        match self.state.guests.covering(key) {
            Some(guest) => self.place_of(guest.partition).expect("a guest is in a partition that there is"),
            None => self.home_by_range(RoutingKey::of_key(key)),
        }
    }

    /// The partition whose range a routing key is in: where its entities are, but for guests.
    #[must_use]
    pub fn home_by_range(&self, routing: RoutingKey) -> Home {
        let after = self.starts.partition_point(|start| *start <= routing.0);
        self.homes[after.saturating_sub(1)]
    }

    /// All ranges' homes, by range.
    #[must_use]
    pub fn homes(&self) -> &[Home] {
        &self.homes
    }

    /// Where a partition is.
    #[must_use]
    pub fn place_of(&self, partition: PartitionId) -> Option<Home> {
        let at = self.by_id.binary_search_by_key(&partition, |home| home.partition).ok()?;
        self.by_id.get(at).copied()
    }

    /// An entity's entry; none: it is at home.
    #[must_use]
    pub fn guest(&self, entity: &[u8]) -> Option<Guest> {
        self.state.guests.get(entity)
    }

    /// The version of the entry of the entity that a storage key belongs to; 0: it is at home. Whoever looked at a row and
    /// finds another entry or partition later, found a move in between.
    #[must_use]
    pub fn entry_of(&self, key: &[u8]) -> TableVersion {
        self.state.guests.covering(key).map_or(TableVersion(0), |guest| guest.version)
    }

    /// The guests placed in a partition, in home order.
    pub fn guests_in(&self, partition: PartitionId) -> impl Iterator<Item = GuestRef<'_>> {
        self.state.guests.in_partition(partition)
    }

    /// The entities that are at home in a partition and placed elsewhere, in home order.
    pub fn guests_of_home(&self, partition: PartitionId) -> impl Iterator<Item = GuestRef<'_>> {
        let range =
            self.place_of(partition).map_or((RoutingKey(0), RoutingKey(0)), |home| (home.start, home.end));
        self.state.guests.between(range.0, range.1)
    }

    /// The guests whose home is in `start..end`, in home order, wherever they are placed.
    pub fn guests_between(&self, start: RoutingKey, end: RoutingKey) -> impl Iterator<Item = GuestRef<'_>> {
        self.state.guests.between(start, end)
    }

    /// Moves under way, by the versions that opened them.
    #[must_use]
    pub const fn open_moves(&self) -> &BTreeMap<MoveId, OpenMove> {
        &self.state.moves
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
