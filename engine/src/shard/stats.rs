//! What a shard says of itself.

use std::cell::Cell;
use std::time::Duration;

use super::Shard;
use super::capacity::CapacityTotals;
use super::moves::progress::MoveTotals;
use super::reshape::progress::ReshapeTotals;
use crate::cache::CacheStats;
use crate::io::long_turns::LongTurn;
use crate::io::turns::TurnStats;
use crate::row_cache::RowCacheStats;
use crate::wal::Flushes;

/// Bytes that background work has moved, and transactions over more than one place.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    flushes: Cell<u64>,
    flushed: Cell<u64>,
    read: Cell<u64>,
    written: Cell<u64>,
    together: Cell<u64>,
    over: Cell<u64>,
}

/// A shard at one moment.
#[derive(Clone, Debug)]
pub struct ShardStats {
    /// Lengths of the turns so far.
    pub turns: TurnStats,
    /// Of these, the long ones by what was done in them.
    pub long_turns: Vec<(&'static str, LongTurn)>,
    /// How long the device took for each batch of the log, until it was as durable as is asked for.
    pub log_writes: TurnStats,
    /// The block cache.
    pub cache: CacheStats,
    /// The row cache.
    pub rows: RowCacheStats,
    /// Bytes in memtables.
    pub memtable_bytes: usize,
    /// Memory that open segments hold beside cached blocks, bytes.
    pub segment_memory_bytes: usize,
    /// Segments, and their bytes on disk.
    pub segments: usize,
    /// Bytes of all segments.
    pub segment_bytes: u64,
    /// Segments in level 0 of the partition with the most.
    pub level0_max: usize,
    /// Bytes that compaction has yet to move.
    pub debt_bytes: u64,
    /// Memtables flushed.
    pub flushes: u64,
    /// Bytes written to segments by flushes.
    pub flushed_bytes: u64,
    /// Bytes read by compaction.
    pub compaction_read_bytes: u64,
    /// Bytes written by compaction.
    pub compaction_written_bytes: u64,
    /// Transactions that came to here and named more than one entity.
    pub transactions_together: u64,
    /// Those that were committed here over more than one partition, in two phases.
    pub transactions_over: u64,
    /// Flushes of the log.
    pub log_flushes: Flushes,
    /// Bytes of log files in use.
    pub wal_bytes: u64,
    /// How hard writers are held back: 0 not at all, 1 stopped.
    pub pressure: f64,
    /// Whether writes that add data are refused for lack of room.
    pub is_full: bool,
    /// What was done, in cost units, and who waited for that.
    pub capacity: CapacityTotals,
    /// Microseconds of this machine's processor that a cost unit takes.
    pub capacity_factor: f64,
    /// Moves of entities away from here.
    pub moves: MoveTotals,
    /// What changes of partitions that were driven here came to.
    pub reshapes: ReshapeTotals,
    /// Why the shard takes no writes, if so.
    pub failure: Option<String>,
}

impl Traffic {
    pub(super) fn flushed(&self, bytes: u64) {
        self.flushes.set(self.flushes.get() + 1);
        self.flushed.set(self.flushed.get() + bytes);
    }

    pub(super) fn named_together(&self) {
        self.together.set(self.together.get() + 1);
    }

    pub(super) fn committed_over(&self) {
        self.over.set(self.over.get() + 1);
    }

    pub(super) fn compacted(&self, read: u64, written: u64) {
        self.read.set(self.read.get() + read);
        self.written.set(self.written.get() + written);
    }
}

impl Shard {
    /// Flushes of its log so far.
    #[must_use]
    pub fn log_flushes(&self) -> Flushes {
        self.common.wal().flushes()
    }

    /// From here on its log's flushes take so much longer, ten seconds at most: a rehearsal of a device that fails slowly. Until
    /// the next start, or until it is set to zero.
    pub fn delay_log(&self, delay: Duration) {
        self.common.wal().delay(delay);
    }

    /// How the shard is doing.
    #[must_use]
    pub fn stats(&self) -> ShardStats {
        let levels: Vec<_> = self.partitions().map(|p| p.levels()).collect();
        let segments = || levels.iter().flat_map(|l| l.all());
        let failure = self.broken.get().cloned().or_else(|| self.common.wal().failed());
        ShardStats {
            turns: self.runtime().turns(),
            long_turns: self.runtime().long_turns(),
            log_writes: self.common.wal().write_times(),
            cache: self.common.cache.stats(),
            rows: self.common.rows.stats(),
            memtable_bytes: self.partitions().map(|p| p.memtable_bytes()).sum(),
            segment_memory_bytes: segments().map(|s| s.memory_bytes()).sum(),
            segments: segments().count(),
            segment_bytes: segments().map(|s| s.meta().bytes).sum(),
            level0_max: levels.iter().map(|l| l.level(0).len()).max().unwrap_or(0),
            debt_bytes: self.compaction_debt(),
            flushes: self.traffic.flushes.get(),
            flushed_bytes: self.traffic.flushed.get(),
            compaction_read_bytes: self.traffic.read.get(),
            compaction_written_bytes: self.traffic.written.get(),
            transactions_together: self.traffic.together.get(),
            transactions_over: self.traffic.over.get(),
            log_flushes: self.log_flushes(),
            wal_bytes: self.common.wal().used_bytes(),
            pressure: self.pacing.pressure(),
            is_full: self.space.is_full(),
            capacity: self.capacity_totals(),
            capacity_factor: self.capacity_factor(),
            moves: self.move_totals(),
            reshapes: self.reshape_totals(),
            failure: failure.map(|e| e.to_string()),
        }
    }
}
