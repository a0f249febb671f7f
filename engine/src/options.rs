//! How a store is opened.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::io::buffer::ALIGNMENT;
use crate::limits::{BATCH_BYTES_MAX, PARTITIONS_MAX, SHARDS_MAX};
use crate::manifest::MANIFEST_FILE_BYTES;
use crate::partition::strategy::Shape;
use crate::shard::capacity::Capacities;
use crate::shard::moves::shadow::Shadowing;
use crate::wal::Durability;

/// What a store is opened with. [`Options::default`] suits a machine of its own.
#[derive(Clone, Debug)]
pub struct Options {
    /// Shards: threads with a core, a ring, a log each. May differ at every opening.
    pub shards: usize,
    /// Partitions made when the store is created; an existing store keeps its own.
    pub partitions: usize,
    /// Pin shard `n` to the `n`-th of these cores. Empty: not pinned.
    pub cores: Vec<usize>,
    /// Memory for memtables, block cache, indexes, filters and buffers of all shards together, bytes. The cache gets
    /// what the others leave.
    pub memory_bytes: usize,
    /// Of that, memory for all memtables together, bytes: those that fill and those being flushed.
    pub memtables_bytes: usize,
    /// A partition's memtable is flushed at this size, bytes; earlier when all together take half of theirs.
    pub memtable_bytes: usize,
    /// When writes are acknowledged.
    pub durability: Durability,
    /// A log file's size, bytes; a batch never spans two.
    pub wal_file_bytes: u64,
    /// A log batch that has reached this size takes no more records, bytes.
    pub wal_batch_bytes: usize,
    /// A shard's log never exceeds this, bytes.
    pub wal_cap_bytes: u64,
    /// A manifest file's size, bytes; the next one begins when it is full.
    pub manifest_file_bytes: usize,
    /// Uncompressed bytes of a block.
    pub block_bytes: usize,
    /// Compress blocks with lz4.
    pub compression: bool,
    /// The shape compaction steers to.
    pub shape: Shape,
    /// Space kept back for flushes, compaction and deletes on a full device, bytes per store; each shard keeps a manifest
    /// file's at least.
    pub reserve_bytes: u64,
    /// Which moves have to prove themselves on a shadow, and how.
    pub shadowing: Shadowing,
    /// What moves of entities copy a second at most, bytes per store, in equal parts by its shards; none: as fast as it goes.
    pub move_bytes_per_second: Option<u64>,
    /// How long an entity is watched before its move begins to copy, for comparison with how it fares later.
    pub watch_before: Duration,
    /// What shards and partitions may do a second, in cost units.
    pub capacities: Capacities,
    /// Entities counted one by one, per shard; the rest is counted in their partition only. 0: none.
    pub tracked_entities: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shards: 1,
            partitions: 8,
            cores: Vec::new(),
            memory_bytes: 1 << 30,
            memtables_bytes: 256 << 20,
            memtable_bytes: 64 << 20,
            durability: Durability::Always,
            wal_file_bytes: 64 << 20,
            wal_batch_bytes: 1 << 20,
            wal_cap_bytes: 1 << 30,
            manifest_file_bytes: MANIFEST_FILE_BYTES,
            block_bytes: 4096,
            compression: true,
            shape: Shape { level0_trigger: 4, base_bytes: 256 << 20, fanout: 10, segment_bytes: 64 << 20 },
            reserve_bytes: 256 << 20,
            shadowing: Shadowing::default(),
            move_bytes_per_second: None,
            watch_before: Duration::ZERO,
            capacities: Capacities::default(),
            tracked_entities: 100_000,
        }
    }
}

/// Slower, an entity of a gigabyte takes longer than the hour that a plan is made for.
pub const MOVE_BYTES_PER_SECOND_MIN: u64 = 1 << 20;

impl Options {
    /// The most that a shard's row cache may come to hold, bytes: half of what memtables leave.
    pub(crate) fn row_cache_bytes_max(&self) -> u64 {
        (self.memory_bytes.saturating_sub(self.memtables_bytes) / self.shards.max(1) / 2) as u64
    }

    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// [`Error::Misuse`] naming the option, its value and its bound.
    pub fn check(&self) -> Result<()> {
        let within = |name: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::misuse(format!("option {name} = {value}: must be between {least} and {most}")))
        };
        within("shards", self.shards as u64, 1, SHARDS_MAX as u64)?;
        within("partitions", self.partitions as u64, 1, PARTITIONS_MAX as u64)?;
        within("memory_bytes", self.memory_bytes as u64, 1 << 20, u64::MAX)?;
        within("memtables_bytes", self.memtables_bytes as u64, 1 << 16, self.memory_bytes as u64 / 4 * 3)?;
        within("memtable_bytes", self.memtable_bytes as u64, 1 << 12, self.memtables_bytes as u64)?;
        within("wal_file_bytes", self.wal_file_bytes, 1 << 16, 1 << 30)?;
        within("wal_cap_bytes", self.wal_cap_bytes, 3 * self.wal_file_bytes, u64::MAX)?;
        within("manifest_file_bytes", self.manifest_file_bytes as u64, 1 << 12, 1 << 26)?;
        if !self.manifest_file_bytes.is_multiple_of(ALIGNMENT) {
            return Err(Error::misuse(format!(
                "option manifest_file_bytes = {}: must be a multiple of {ALIGNMENT}",
                self.manifest_file_bytes
            )));
        }
        within("block_bytes", self.block_bytes as u64, 512, 1 << 20)?;
        within("shape.level0_trigger", self.shape.level0_trigger as u64, 1, 64)?;
        within("shape.fanout", self.shape.fanout, 2, 100)?;
        within("shape.base_bytes", self.shape.base_bytes, 1 << 12, u64::MAX)?;
        within("shape.segment_bytes", self.shape.segment_bytes, 1 << 12, 1 << 32)?;
        if let Some(rate) = self.move_bytes_per_second {
            within("move_bytes_per_second", rate, MOVE_BYTES_PER_SECOND_MIN, u64::MAX)?;
        }
        self.capacities.check()?;
        if !(self.shadowing.share > 0.0 && self.shadowing.share <= 1.0) {
            return Err(Error::misuse(format!(
                "option shadowing.share = {}: must be above 0 and at most 1",
                self.shadowing.share
            )));
        }
        if !self.cores.is_empty() && self.cores.len() < self.shards {
            return Err(Error::misuse(format!(
                "option cores names {} cores for {} shards: name one each or none",
                self.cores.len(),
                self.shards
            )));
        }
        Ok(())
    }

    /// The largest batch one shard's log takes: a batch is one record, and a record never spans two log files.
    #[must_use]
    pub fn batch_bytes_max(&self) -> usize {
        let file = usize::try_from(self.wal_file_bytes).unwrap_or(usize::MAX);
        BATCH_BYTES_MAX.min(file / 2)
    }
}
