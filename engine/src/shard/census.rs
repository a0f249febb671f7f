//! What a shard says of one entity, or one partition, that it has.

use std::time::Duration;

use super::Shard;
use crate::counters::{Bounds, Load, PartitionLoad};
use crate::error::{Error, Result};
use crate::ids::{Epoch, PartitionId, TableVersion};
use crate::key::{self, RoutingKey};

/// An entity where it is.
#[derive(Clone, Copy, Debug)]
pub struct EntityStatus {
    /// The partition that has it.
    pub partition: PartitionId,
    /// The change of the table that placed it there; 0: it is at home.
    pub entry: TableVersion,
    /// Bytes in segments, exact to a block at each end.
    pub stored_bytes: u64,
    /// What it was asked and told in the time that is counted.
    pub load: Bounds<Load>,
    /// How long that is.
    pub counted: Duration,
}

/// A partition where it is.
#[derive(Clone, Copy, Debug)]
pub struct PartitionStatus {
    /// Its configuration.
    pub epoch: Epoch,
    /// Entities that are at home elsewhere.
    pub guests: usize,
    /// Entities that are at home here and are elsewhere.
    pub away: usize,
    /// Bytes of its segments.
    pub segment_bytes: u64,
    /// Bytes in its memtables.
    pub memtable_bytes: usize,
    /// What it did in the time that is counted.
    pub load: PartitionLoad,
    /// How long that is.
    pub counted: Duration,
}

impl Shard {
    /// An entity that this shard has.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a name over its limit; [`Error::Moved`] when it is elsewhere.
    pub fn entity_status(&self, entity: &[u8]) -> Result<EntityStatus> {
        let mut prefix = Vec::new();
        key::encode_entity(entity, &mut prefix)?;
        let stored_bytes = self.stored_bytes(entity)?;
        let load = self.counters.borrow_mut().entity(RoutingKey::of(entity));
        let map = self.map();
        let (partition, entry) = (map.home_of(&prefix).partition, map.entry_of(&prefix));
        Ok(EntityStatus { partition, entry, stored_bytes, load, counted: self.counted() })
    }

    /// A partition that this shard has.
    ///
    /// # Errors
    /// [`Error::Moved`] when it is elsewhere.
    pub fn partition_status(&self, id: PartitionId) -> Result<PartitionStatus> {
        let map = self.map();
        let moved = || Error::Moved { version: map.version() };
        let owned = self.owned(map.place_of(id).ok_or_else(moved)?)?;
        Ok(PartitionStatus {
            epoch: map.state().partitions.get(&id).map_or(Epoch(0), |entry| entry.placed.epoch),
            guests: map.guests_in(id).count(),
            away: map.guests_of_home(id).filter(|away| away.guest.partition != id).count(),
            segment_bytes: owned.partition.levels().all().map(|s| s.meta().bytes).sum(),
            memtable_bytes: owned.partition.memtable_bytes(),
            load: self.counters.borrow().partition_load(owned.slot),
            counted: self.counted(),
        })
    }

    /// Since when counts are counted.
    fn counted(&self) -> Duration {
        self.runtime().now().since(self.counted_from.get())
    }
}
