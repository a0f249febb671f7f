//! Counters of a shard: what each partition and the heaviest entities did since the last tick.
//!
//! Exact for partitions. For entities one bounded heavy-hitter table that gives every entity, tracked
//! or not, a lower and an upper bound of what came to it: all operations while a shard is not busy; when it is, one that
//! was drawn at random for several (`sampling` says how, and how far off that is; [`Tick::sampled_one_in`]), but an
//! operation of many bytes always for itself. Service time is timed on the operations that were drawn. Co-access is
//! bounded likewise, and never sampled.
//!
//! They belong to one shard and are counted without locks; [`Counters::export`] moves a tick's counts out whole, as a
//! [`Tick`] that may go to another thread, and begins the next with empty ones.
//!
//! They refuse to: read a clock (the service time is the caller's measure), allocate per record, or stop the shard
//! for a pass over the table. Export copies nothing but the partitions' counts.
//!
//! Invariants:
//! - where nothing is sampled, a tick's entity loads that were counted, and those that lost their place, sum to its
//!   partitions' loads; where it is, that is what they are expected to sum to;
//! - entities are told apart by their routing key: two names with the same 62 bits count as one entity.

mod heavy;
mod load;
mod names;
mod pending;
mod sampling;
mod tick;

use std::fmt;

pub use heavy::Bounds;
pub use load::{Load, PartitionLoad};
pub use sampling::Sample;
pub(crate) use sampling::Sampler;
pub use tick::{EntityLoad, PairLoad, Tick};

use crate::ids::PartitionId;
use crate::key::RoutingKey;
use heavy::HeavyHitters;
use load::Count;
use names::{NameRef, Names};
use pending::{EntityLabel, Pending};
use zerocopy::FromZeros;

/// Of the entities named together in one command, so many are paired: 28 pairs at most for a command.
pub const COACCESS_ENTITIES_MAX: usize = 8;

/// An operation with more bytes is counted for itself, whatever the sample: a few large ones would make a sum of many
/// small ones uncertain, and against copying these bytes counting costs nothing.
const BYTES_SAMPLED_MAX: u64 = 16 << 10;

/// How much is tracked.
#[derive(Clone, Copy, Debug)]
pub struct CountersConfig {
    /// Entities with a place in the table; about 80 bytes each. 0: partitions are counted, entities are not.
    pub entities_tracked: usize,
    /// Pairs of entities with a place in the co-access table; about 80 bytes each.
    pub pairs_tracked: usize,
}

impl Default for CountersConfig {
    fn default() -> Self {
        Self { entities_tracked: 100_000, pairs_tracked: 16_384 }
    }
}

/// Where an open partition's counters are; from [`Counters::open_partition`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionSlot(usize);

/// The counters of one shard.
pub struct Counters {
    config: CountersConfig,
    partitions: Vec<Option<Partition>>,
    pending: Pending,
    tracked: Tracked,
    /// The most operations that one was counted for in this tick.
    sampled_one_in: u32,
}

#[derive(Clone, Debug)]
struct Partition {
    id: PartitionId,
    load: PartitionLoad,
    closed: bool,
}

/// What one tick keeps of entities, and hands over when it ends.
struct Tracked {
    entities: HeavyHitters<Load, EntityLabel>,
    pairs: HeavyHitters<Count, PairLabel>,
    names: Names,
}

#[derive(Clone, Copy, FromZeros)]
#[repr(C)]
struct PairLabel {
    entities: [u64; 2],
    names: [NameRef; 2],
}

impl Counters {
    /// Empty counters of a shard without partitions.
    #[must_use]
    pub fn new(config: CountersConfig) -> Self {
        let tracked = Tracked::new(config);
        Self { config, partitions: Vec::new(), pending: Pending::default(), tracked, sampled_one_in: 1 }
    }

    /// Begins to count for `id`.
    pub fn open_partition(&mut self, id: PartitionId) -> PartitionSlot {
        let partition = Some(Partition { id, load: PartitionLoad::default(), closed: false });
        if let Some(free) = self.partitions.iter().position(Option::is_none) {
            self.partitions[free] = partition;
            return PartitionSlot(free);
        }
        self.partitions.push(partition);
        PartitionSlot(self.partitions.len() - 1)
    }

    /// What was counted for the partition goes out with the next tick; then its slot is free.
    ///
    /// # Panics
    /// When the slot is not open.
    pub fn close_partition(&mut self, slot: PartitionSlot) {
        self.partition(slot).closed = true;
    }

    /// Counts one request, or several of one kind, of `entity` in the partition at `slot`.
    ///
    /// `name` is the entity's, of which `routing` is made.
    ///
    /// # Panics
    /// When the slot is not open.
    #[inline]
    pub fn record(&mut self, slot: PartitionSlot, routing: RoutingKey, name: &[u8], load: &Load) {
        self.record_sampled(slot, routing, name, load, Sample::ITSELF);
    }

    /// As [`Counters::record`], for the partition exactly, and for the entity as `sample` says. The service time is
    /// given for all operations that this one stands for.
    ///
    /// # Panics
    /// When the slot is not open.
    #[inline]
    pub fn record_sampled(
        &mut self,
        slot: PartitionSlot,
        routing: RoutingKey,
        name: &[u8],
        load: &Load,
        sample: Sample,
    ) {
        let partition = self.partition(slot);
        let id = partition.id;
        partition.load.load.add(load);
        if self.config.entities_tracked == 0 {
            return;
        }
        self.sampled_one_in = self.sampled_one_in.max(sample.stands_for());
        let load = if load.bytes_in.saturating_add(load.bytes_out) > BYTES_SAMPLED_MAX {
            *load
        } else if sample.is_drawn() {
            load.counted_for(sample.stands_for())
        } else {
            return;
        };
        if self.pending.push(id, routing, name, &load).is_full() {
            self.pending.drain_into(&mut self.tracked);
        }
    }

    /// Counts a request that failed.
    ///
    /// # Panics
    /// When the slot is not open.
    pub fn record_error(&mut self, slot: PartitionSlot) {
        self.partition(slot).load.errors += 1;
    }

    /// Counts entities named together in one command or transaction: each pair of the first
    /// [`COACCESS_ENTITIES_MAX`] once.
    pub fn record_together(&mut self, entities: &[(RoutingKey, &[u8])]) {
        let entities = &entities[..entities.len().min(COACCESS_ENTITIES_MAX)];
        for (i, a) in entities.iter().enumerate() {
            let before = &entities[..i];
            if before.iter().any(|b| b.0 == a.0) {
                continue;
            }
            for (j, b) in before.iter().enumerate() {
                if before[..j].iter().all(|c| c.0 != b.0) {
                    let (first, second) = if a.0 < b.0 { (a, b) } else { (b, a) };
                    self.tracked.record_pair(first, second);
                }
            }
        }
    }

    /// What one entity did since the last export, tracked or not.
    pub fn entity(&mut self, routing: RoutingKey) -> Bounds<Load> {
        self.pending.drain_into(&mut self.tracked);
        self.tracked.entities.bounds(routing.0)
    }

    /// The entities of `start..end` that are tracked, and what they certainly did since the last export.
    pub fn entities_between(&mut self, start: RoutingKey, end: RoutingKey) -> Vec<(RoutingKey, Load)> {
        self.pending.drain_into(&mut self.tracked);
        let all = self.tracked.entities.iter().map(|(key, bounds, _)| (RoutingKey(key), bounds.lower));
        all.filter(|(routing, _)| (start..end).contains(routing)).collect()
    }

    /// What a partition did since the last export.
    ///
    /// # Panics
    /// When the slot is not open.
    #[must_use]
    pub fn partition_load(&self, slot: PartitionSlot) -> PartitionLoad {
        self.partitions[slot.0].as_ref().expect("the slot is open").load
    }

    /// What was counted since the last call.
    pub fn export(&mut self) -> Tick {
        self.pending.drain_into(&mut self.tracked);
        let mut partitions = Vec::with_capacity(self.partitions.len());
        for slot in &mut self.partitions {
            if let Some(partition) = slot {
                partitions.push((partition.id, std::mem::take(&mut partition.load)));
                if partition.closed {
                    *slot = None;
                }
            }
        }
        let tracked = std::mem::replace(&mut self.tracked, Tracked::new(self.config));
        Tick { partitions, tracked, sampled_one_in: std::mem::replace(&mut self.sampled_one_in, 1) }
    }

    fn partition(&mut self, slot: PartitionSlot) -> &mut Partition {
        self.partitions[slot.0].as_mut().expect("the slot is open")
    }
}

impl Tracked {
    fn new(config: CountersConfig) -> Self {
        Self {
            entities: HeavyHitters::new(config.entities_tracked),
            pairs: HeavyHitters::new(config.pairs_tracked),
            names: Names::default(),
        }
    }

    fn record_pair(&mut self, first: &(RoutingKey, &[u8]), second: &(RoutingKey, &[u8])) {
        let place = self.pairs.record(pair_key(first.0, second.0), &Count(1));
        let label = &mut place.label;
        label.entities = [first.0.0, second.0.0];
        if label.names[0].is_none() && place.is_earned() {
            place.label.names = [self.names.keep(first.1), self.names.keep(second.1)];
        }
    }
}

/// Of two routing keys in order: the table's hash bits must depend on every bit of both.
fn pair_key(first: RoutingKey, second: RoutingKey) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_bytes());
    bytes[8..].copy_from_slice(&second.to_bytes());
    crate::hash::stable(&bytes) >> 1
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
