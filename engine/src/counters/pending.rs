//! Records on their way to the table of entities: gathered, then applied together.
//!
//! The table is larger than the core's caches, and beside a read, which empties them, each record would wait for
//! memory two or three times. Applied in a batch they wait together.
//!
//! It refuses to hold more than [`PENDING_MAX`] records: what applying them costs the shard at once stays in the
//! order of ten microseconds.

use std::hint::black_box;

use zerocopy::FromZeros;

use super::{Load, NameRef, Names, Tracked};
use crate::ids::PartitionId;
use crate::key::RoutingKey;
use crate::limits::ENTITY_BYTES_MAX;

/// 4 KiB of records, and their names: they stay in the first-level cache.
const PENDING_MAX: usize = 64;

/// The records gathered.
#[derive(Default)]
pub(super) struct Pending {
    records: Vec<Record>,
    /// The records' names, one after the other.
    names: Vec<u8>,
}

struct Record {
    routing: RoutingKey,
    load: Load,
    partition: PartitionId,
    name_end: u32,
}

const _: () =
    assert!(PENDING_MAX * ENTITY_BYTES_MAX <= u32::MAX as usize, "an offset into the names is a u32");

/// What an entity's place in the table remembers of it.
#[derive(Clone, Copy, FromZeros)]
#[repr(C)]
pub(super) struct EntityLabel {
    pub(super) name: NameRef,
    pub(super) partition: u32,
}

impl Pending {
    /// Gathers one record.
    #[inline]
    pub(super) fn push(&mut self, id: PartitionId, routing: RoutingKey, name: &[u8], load: &Load) -> &Self {
        // A longer name was refused before it came here; one that was not would only lose its end.
        self.names.extend_from_slice(&name[..name.len().min(ENTITY_BYTES_MAX)]);
        let name_end = u32::try_from(self.names.len()).expect("bounded by PENDING_MAX names");
        self.records.push(Record { routing, load: *load, partition: id, name_end });
        self
    }

    /// The next step is to apply.
    pub(super) const fn is_full(&self) -> bool {
        self.records.len() >= PENDING_MAX
    }

    /// Applies the records, in their order, in three passes: two that only ask memory for what the next will need,
    /// for all records at once, and one that counts.
    #[inline(never)]
    pub(super) fn drain_into(&mut self, tracked: &mut Tracked) {
        let entities = &mut tracked.entities;
        let mut touched = 0;
        for record in &self.records {
            touched ^= entities.touch_keys(record.routing.0);
        }
        for record in &self.records {
            touched ^= entities.touch_place(record.routing.0);
        }
        black_box(touched);
        let mut name_start = 0;
        for record in self.records.drain(..) {
            let place = entities.record(record.routing.0, &record.load);
            place.label.partition = record.partition.0;
            let name_end = record.name_end as usize;
            if place.label.name.is_none() && place.is_earned() {
                place.label.name = keep(&mut tracked.names, &self.names[name_start..name_end]);
            }
            name_start = name_end;
        }
        self.names.clear();
    }
}

#[cold]
fn keep(names: &mut Names, name: &[u8]) -> NameRef {
    names.keep(name)
}
