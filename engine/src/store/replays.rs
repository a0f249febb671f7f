//! The partitions that logs are replayed into, within the memory that memtables may have.
//!
//! Replay goes on while rows are flushed, as writes do in an open shard.
//!
//! Invariants:
//! - a partition is flushed once at a time;
//! - rows that no segment holds take no more memory than memtables may, but for the largest partition's last batch.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::recovery::Findings;
use crate::error::{Error, Result};
use crate::ids::PartitionId;
use crate::io::runtime::Task;
use crate::partition::replay::Replay;
use crate::partition::{Common, Partition};
use crate::wal::{Body, Record};

/// Log between two looks at the memory of its rows, bytes: looking asks every partition.
const LOOK_BYTES: usize = 1 << 20;
/// Partitions that make their last rows durable at a time: enough that the device never waits for a flush to be made,
/// few enough that their buffers do not count.
const FINISHING_MAX: usize = 8;

/// See the module.
pub(super) struct Replays {
    common: Rc<Common>,
    store: PathBuf,
    findings: Arc<Findings>,
    partitions: BTreeMap<PartitionId, Replay>,
    flushing: Option<Task<Result<()>>>,
    unlooked_bytes: usize,
}

impl Replays {
    pub(super) fn new(common: Rc<Common>, store: &Path, findings: Arc<Findings>) -> Self {
        let store = store.to_path_buf();
        Self { common, store, findings, partitions: BTreeMap::new(), flushing: None, unlooked_bytes: 0 }
    }

    /// Replays a record into its partition, which is opened first if it is not.
    pub(super) async fn record(&mut self, record: &Record<'_>) -> Result<()> {
        if matches!(record.body, Body::Witness(_)) {
            return Ok(());
        }
        let id = record.header.partition;
        if !self.findings.named.contains(&id) {
            return Ok(());
        }
        let replay = match self.partitions.entry(id) {
            Entry::Occupied(replay) => replay.into_mut(),
            Entry::Vacant(place) => {
                let witness = self.findings.witnesses.get(&id).copied().unwrap_or_default();
                let partition = Partition::open(Rc::clone(&self.common), &self.store, id, witness).await?;
                place.insert(Replay::new(partition))
            }
        };
        replay.record(record)
    }

    /// After `bytes` more of a log: flushes the largest partition where it has grown too large, or all have.
    pub(super) async fn relieve(&mut self, bytes: usize) -> Result<()> {
        self.unlooked_bytes += bytes;
        let options = &self.common.options;
        let share = options.memtables_bytes / options.shards;
        if self.unlooked_bytes < LOOK_BYTES.min(share / 8) {
            return Ok(());
        }
        self.unlooked_bytes = 0;
        let bytes: usize = self.partitions.values().map(Replay::bytes).sum();
        let Some(largest) = self.partitions.values_mut().max_by_key(|replay| replay.bytes()) else {
            return Ok(());
        };
        // The other half is for those being flushed.
        if bytes < share / 2 && largest.bytes() < options.memtable_bytes {
            return Ok(());
        }
        if let Some(flushing) = self.flushing.take() {
            flushing.await?;
        }
        let partition = largest.seal();
        self.flushing = Some(self.common.runtime.spawn(async move { partition.flush_all().await }));
        Ok(())
    }

    /// Decides what is undecided and makes everything durable in segments.
    pub(super) async fn finish(mut self) -> Result<()> {
        if let Some(flushing) = self.flushing.take() {
            flushing.await?;
        }
        let left: Rc<RefCell<Vec<Replay>>> = Rc::new(RefCell::new(self.partitions.into_values().collect()));
        let finishing: Vec<_> = (0..FINISHING_MAX)
            .map(|_| {
                let (left, findings) = (Rc::clone(&left), Arc::clone(&self.findings));
                self.common.runtime.spawn(async move {
                    loop {
                        let next = left.borrow_mut().pop();
                        let Some(replay) = next else { return Ok::<_, Error>(()) };
                        replay.finish(&findings.decisions).await?;
                    }
                })
            })
            .collect();
        for task in finishing {
            task.await?;
        }
        Ok(())
    }
}
