//! What a shard does by itself: flushes, compactions, releasing log, watching for room.
//!
//! One flush and one compaction at a time; both are tasks like any other and give way between slices. A failure
//! of the device other than a lack of room ends writing, not reading.
//!
//! Invariants:
//! - log is released only below what every partition has in segments or decided;
//! - files that an edit dropped are deleted only after a durable log batch carries the edit's number (R2).

use std::rc::Rc;

use super::Shard;
use super::space::RETRY;
use crate::error::{Error, Result};
use crate::io::runtime::Task;
use crate::partition::Partition;
use crate::partition::excise::Changed;
use crate::partition::pace::Work;

/// Segments in level 0 at which writers are first slowed, as a multiple of the trigger; and at which they stop.
const LEVEL0_SLOW: usize = 3;
const LEVEL0_STOP: usize = 10;
/// Part of the memtables' memory that may be used before writers are slowed.
const MEMTABLES_SLOW: f64 = 0.6;

/// The share of a busy core that background work has while little of it is left to do.
const SHARE: f64 = 0.2;

/// Memory a shard keeps for log batches and for what flushes and compactions read ahead and write behind, bytes; less
/// where a shard has little.
const BUFFERS_BYTES: usize = 24 << 20;

/// All blocks are taken to need a thirty-second more than those that are held do.
const BLOCKS_MARGIN: u64 = 32;

/// What rows may take of `left` bytes beside blocks that all together take `all_blocks`.
fn rows_bytes_max(left: u64, all_blocks: u64) -> u64 {
    left.checked_sub(all_blocks + all_blocks / BLOCKS_MARGIN).unwrap_or(left).min(left / 2)
}

/// Starts the shard's own tasks; dropping them ends them.
pub(crate) fn start(shard: &Rc<Shard>) -> Vec<Task<()>> {
    shard.size_cache();
    let spawn = |what: &'static str, task: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
        shard.runtime().spawn(shard.runtime().named(what, task))
    };
    vec![
        spawn("flush", Box::pin(flush_forever(Rc::clone(shard)))),
        spawn("compaction", Box::pin(compact_forever(Rc::clone(shard)))),
        spawn("log watch", Box::pin(watch_log(Rc::clone(shard)))),
        spawn("tending", Box::pin(tend(Rc::clone(shard)))),
    ]
}

async fn flush_forever(shard: Rc<Shard>) {
    loop {
        let work = shard.work.changed();
        let Some(partition) = shard.next_flush() else {
            work.await;
            continue;
        };
        match partition.flush_oldest().await {
            Ok(flushed) => {
                shard.space.found();
                shard.traffic.flushed(flushed);
                shard.release_log();
                shard.size_cache();
                shard.flushed.notify();
            }
            Err(e) => shard.background_failed("flush", e).await,
        }
        shard.look();
    }
}

async fn compact_forever(shard: Rc<Shard>) {
    loop {
        let work = shard.work.changed();
        let Some(partition) = shard.next_compaction() else {
            work.await;
            continue;
        };
        match partition.compact().await {
            Ok(None) => {}
            Ok(Some(done)) => {
                shard.space.found();
                shard.traffic.compacted(done.bytes_read, done.bytes_written);
                shard.size_cache();
                shard.clean_up(&partition, done.changed);
            }
            Err(e) => shard.background_failed("compaction", e).await,
        }
        shard.look();
    }
}

/// The log says when it wants its oldest end released.
async fn watch_log(shard: Rc<Shard>) {
    loop {
        shard.common.wal().pressed().await;
        let flushed = shard.flushed.changed();
        shard.look();
        if shard.common.wal().pressure().is_some() {
            // What pins it has to be flushed first.
            flushed.await;
        }
    }
}

/// Now and then: room, snapshots nobody holds any more, pressure.
async fn tend(shard: Rc<Shard>) {
    loop {
        shard.runtime().sleep(RETRY).await;
        shard.release_snapshots();
        shard.release_cuts();
        shard.look();
        let backlog = shard.partitions().any(|p| p.sealed_count() > 0);
        if shard.space.is_full() && !backlog {
            if let Err(e) = shard.space.try_resume().await {
                tracing::error!("cannot look for room: {e}");
            }
            shard.relieved.notify();
        }
    }
}

impl Shard {
    /// Looks at memory, levels and log: seals what should be flushed, and sets how hard writers are held back.
    #[expect(clippy::cast_precision_loss, reason = "ratios")]
    pub(crate) fn look(&self) {
        let before = self.pacing.pressure();
        let mut memtables: usize = self.partitions().map(|p| p.memtable_bytes()).sum();
        let max = self.pacing.memtables_bytes_max;
        let sealed: usize = self.partitions().map(|p| p.memtable_bytes() - p.active_bytes()).sum();
        if memtables - sealed > max / 2
            && let Some(largest) = self.partitions().max_by_key(|p| p.active_bytes())
        {
            largest.seal();
        }
        self.relieve_log();
        memtables = memtables.min(max);
        let memory = (memtables as f64 / max as f64 - MEMTABLES_SLOW) / (1.0 - MEMTABLES_SLOW);
        let trigger = self.common.options.shape.level0_trigger;
        let level0 = self.partitions().map(|p| p.levels().level(0).len()).max().unwrap_or(0);
        let (slow, stop) = ((trigger * LEVEL0_SLOW) as f64, (trigger * LEVEL0_STOP) as f64);
        let level0 = (level0 as f64 - slow) / (stop - slow);
        let pressure = memory.max(level0).clamp(0.0, 1.0);
        self.pacing.set(pressure);
        let debt: u64 = self.partitions().map(|p| p.compaction_debt()).sum();
        let indebted = debt as f64 / (self.common.options.shape.base_bytes * 4) as f64;
        // Compactions are put off while writers wait for flushes: what level 0 gathers meanwhile is merged once and not twice.
        let is_behind = memory > 0.0 && level0 <= 0.0;
        self.common.pace.set_behind(is_behind);
        self.common.pace.set_share(Work::Compaction, if is_behind { SHARE } else { SHARE + indebted });
        // All of the core long before writers are slowed, or when the log cannot be released otherwise.
        let is_urgent =
            pressure > 0.0 || self.common.wal().pressure().is_some() || self.reshapes.is_hurried();
        let backlog = sealed as f64 / (max as f64 * MEMTABLES_SLOW / 2.0);
        self.common.pace.set_share(Work::Flush, if is_urgent { 1.0 } else { SHARE + backlog });
        self.work.notify();
        if pressure < before {
            self.relieved.notify();
        }
    }

    /// The partition with the most urgent compaction; none once writing has ended.
    fn next_compaction(&self) -> Option<Rc<Partition>> {
        if self.broken.get().is_some() {
            return None;
        }
        let settled = || self.partitions().filter(|p| !p.is_provisional.get());
        let indebted = settled().max_by_key(|p| p.compaction_debt())?;
        let mut candidates = std::iter::once(indebted).chain(settled());
        candidates.find(|p| p.choose_compaction().is_some())
    }

    /// Near the log's cap: seals what pins its oldest end, and has transactions under way rewritten at its head.
    fn relieve_log(&self) {
        let Some(upto) = self.common.wal().pressure() else { return };
        for partition in self.partitions().filter(|p| p.pinned_lsn().is_some_and(|lsn| lsn < upto)) {
            // What is sealed already is flushed, and sealing what came after it would not help.
            if partition.is_active_pinned_below(upto) {
                partition.seal();
            }
            if let Err(e) = partition.rewrite_below(upto) {
                tracing::warn!("the log stays pinned: {e}");
            }
        }
        self.release_log();
    }

    /// The caches get what memtables, buffers and open segments leave of the shard's memory: rows up to half of it, and blocks
    /// what rows do not take. Where all blocks fit in, rows leave them the room: a row that is found in its block costs a
    /// microsecond or two more, one that is found nowhere a read of the device.
    fn size_cache(&self) {
        let options = &self.common.options;
        let memory = options.memory_bytes / options.shards;
        let (mut segments, mut blocks) = (0, 0);
        for partition in self.partitions() {
            for segment in partition.levels().all() {
                segments += segment.memory_bytes();
                blocks += segment.blocks();
            }
        }
        let taken = self.pacing.memtables_bytes_max + BUFFERS_BYTES.min(memory / 8) + segments;
        let left = memory.saturating_sub(taken) as u64;
        let (rows, cache) = (&self.common.rows, &self.common.cache);
        // A block ends with the row that fills it.
        let block_bytes = (options.block_bytes + options.block_bytes / 8) as u64;
        let all_blocks = blocks * cache.block_bytes().unwrap_or(block_bytes);
        rows.set_bytes_max(rows_bytes_max(left, all_blocks));
        cache.set_bytes_max(left - rows.bytes());
    }

    /// Bytes compaction has yet to move, of all partitions.
    #[must_use]
    pub fn compaction_debt(&self) -> u64 {
        self.partitions().map(|p| p.compaction_debt()).sum()
    }

    /// Flushes every memtable and returns when nothing is left to flush.
    ///
    /// # Errors
    /// What ended writing.
    pub async fn flush(&self) -> Result<()> {
        self.partitions().for_each(|p| p.seal());
        self.settle(|shard| shard.partitions().all(|p| p.sealed_count() == 0)).await
    }

    /// Flushes what was written to one partition so far, without waiting for others.
    ///
    /// # Errors
    /// As a flush's.
    pub(super) async fn flush_quickly(&self, partition: &Partition) -> Result<()> {
        partition.seal();
        let upto = partition.index();
        while !partition.is_flushed(upto) {
            let flushed = partition.flush_oldest().await?;
            self.space.found();
            self.traffic.flushed(flushed);
            self.release_log();
            self.flushed.notify();
        }
        self.look();
        Ok(())
    }

    /// Returns when there is nothing to flush and nothing to compact.
    ///
    /// # Errors
    /// What ended writing.
    pub async fn settled(&self) -> Result<()> {
        self.settle(|shard| shard.next_flush().is_none() && shard.next_compaction().is_none()).await
    }

    pub(super) async fn settle(&self, done: impl Fn(&Self) -> bool) -> Result<()> {
        self.look();
        loop {
            let work = self.work.changed();
            if let Some(e) = self.broken.get() {
                return Err(e.clone());
            }
            if done(self) {
                return Ok(());
            }
            work.await;
        }
    }

    /// The partition whose sealed memtable to flush first: the one that pins the oldest log.
    fn next_flush(&self) -> Option<Rc<Partition>> {
        if self.broken.get().is_some() {
            return None;
        }
        let waiting = self.partitions().filter(|p| p.sealed_count() > 0);
        waiting.min_by_key(|p| p.pinned_lsn())
    }

    /// Tells the log what nobody needs any more, and which edits made it so (R2).
    fn release_log(&self) {
        let wal = self.common.wal();
        let pinned = self.partitions().filter_map(|p| p.pinned_lsn()).min();
        let upto = pinned.map_or(wal.head_lsn(), |lsn| lsn.min(wal.head_lsn()));
        if !wal.frees(upto) {
            // Witnesses take log themselves: all in one batch, once per file.
            return;
        }
        for partition in self.partitions() {
            if let Err(e) = wal.witness(partition.id, partition.manifest.last()) {
                tracing::debug!("nothing is released: {e}");
                return;
            }
        }
        wal.release(upto);
    }

    /// Deletes what an edit dropped, once the log carries its number.
    pub(crate) fn clean_up(self: &Rc<Self>, partition: &Rc<Partition>, changed: Changed) {
        let Changed { edit, obsolete } = changed;
        if obsolete.is_empty() {
            return;
        }
        let (shard, partition) = (Rc::clone(self), Rc::clone(partition));
        let cleaning = partition.begin_cleaning();
        let work = async move {
            let _cleaning = cleaning;
            let wal = shard.common.wal();
            while !wal.has_reserve() {
                if wal.failed().is_some() {
                    // The next opening removes what the manifest does not name.
                    return;
                }
                // Flushes, which release log, go first.
                shard.runtime().sleep(RETRY).await;
            }
            let witnessed = match wal.witness(partition.id, edit) {
                Ok(ticket) => wal.durable(ticket).await,
                Err(e) => Err(e),
            };
            if witnessed.is_err() {
                // The log has failed meanwhile.
                return;
            }
            for id in obsolete {
                while partition.is_pinned(id) {
                    shard.runtime().sleep(RETRY).await;
                }
                partition.remove_segment_file(id).await;
            }
            if let Err(e) = partition.manifest.witnessed(edit).await {
                tracing::warn!("an old manifest stays until the next opening: {e}");
            }
        };
        self.runtime().spawn(self.runtime().named("cleaning", Box::pin(work))).detach();
    }

    /// No room: gives up the reserve and lets the job try again. Anything else ends writing.
    pub(super) async fn background_failed(&self, what: &str, e: Error) {
        if e.is_no_space() {
            if !self.space.give_up().await {
                self.runtime().sleep(RETRY).await;
            }
            self.relieved.notify();
            return;
        }
        tracing::error!("{what} failed, the shard takes no more writes: {e}");
        self.common.wal().refuse(Error::Stopped(e.to_string().into()));
        let _first = self.broken.set(e);
        self.relieved.notify();
        self.work.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_half_and_less_where_all_blocks_would_fit_in_without() {
        for (all_blocks, rows) in
            [(0, 500), (320, 500), (640, 340), (960, 10), (970, 0), (980, 500), (5000, 500)]
        {
            assert_eq!(rows_bytes_max(1000, all_blocks), rows, "blocks of {all_blocks}");
        }
    }
}
