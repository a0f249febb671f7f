//! Keys that leave a partition of this shard, and keys that arrive, with their segments; partitions that come and go.
//!
//! These are the steps; `moves` and `reshape` take them, fence what is on its way, ask for the table's changes and wait
//! until shards have learnt them.
//!
//! A partition is here before the table says so: whoever learns that it is finds it. Until then nobody is sent to it, and
//! its files are not changed ([`Shard::present`], [`Shard::settle_in`]). A crash before the change leaves the partitions as
//! they were, one after it as they are to be: opening the store takes out what is left over.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::space::RETRY;
use super::{Owned, Shard};
use crate::error::{Error, Result};
use crate::ids::{EditNumber, PartitionId, Version};
use crate::partition::ingest::Ingest;
use crate::partition::open::{dir_of, open_segment};
use crate::partition::{Partition, carve};
use crate::segment::{KeyRanges, SegmentMeta};
use crate::store::open::assigned;

impl Shard {
    /// Takes everything of `keys` out of a partition, durably. Nothing of them is written any more, but for range
    /// tombstones that cover others too. A device without room is waited for: what has left must go.
    ///
    /// # Errors
    /// What ended writing.
    pub(crate) async fn purge(self: &Rc<Self>, partition: &Rc<Partition>, keys: &KeyRanges) -> Result<()> {
        self.flush_now(partition).await?;
        loop {
            match partition.purge(keys).await {
                Ok(changed) => {
                    if let Some(changed) = changed {
                        self.clean_up(partition, changed);
                        self.look();
                    }
                    return Ok(());
                }
                Err(e) if e.is_no_space() => self.background_failed("purge", e).await,
                Err(e) => {
                    self.background_failed("purge", e.clone()).await;
                    return Err(e);
                }
            }
        }
    }

    /// Takes in what arrives at a partition, durably. Until it has, nothing of it is written.
    ///
    /// # Errors
    /// What ended writing; what the disk says, also that it has no room: nothing has arrived then.
    pub(crate) async fn ingest(self: &Rc<Self>, partition: &Rc<Partition>, ingest: Ingest) -> Result<()> {
        while partition.is_in_memtables(&ingest.keys) {
            self.flush_now(partition).await?;
        }
        let changed = partition.ingest(ingest).await?;
        self.clean_up(partition, changed);
        self.look();
        Ok(())
    }

    /// Takes out of a partition here what the table, as this shard knows it, places elsewhere. None of that is written
    /// any more.
    ///
    /// # Errors
    /// [`Error::Misuse`] when the partition is not here; what the disk says, or what ended writing.
    pub(super) async fn restrict(self: &Rc<Self>, id: PartitionId) -> Result<()> {
        let partition = self.here(id)?;
        self.flush_now(&partition).await?;
        // As the table is known now; what is learnt meanwhile is for the next time.
        let placed = assigned(&self.map(), id);
        let Some(placed) = placed else {
            return Err(Error::misuse(format!("the table names no partition {id}")));
        };
        let changes = partition.restrict(&placed).await?;
        changes.into_iter().for_each(|changed| self.clean_up(&partition, changed));
        self.look();
        Ok(())
    }

    /// Opens segments of a partition that is about to come here, so that they need not be opened while requests for it wait.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`].
    pub(super) async fn warm_up(self: &Rc<Self>, id: PartitionId, metas: Vec<SegmentMeta>) -> Result<()> {
        let dir = dir_of(&self.common.dir, id);
        let mut opened = BTreeMap::new();
        for meta in &metas {
            opened.insert(meta.id, open_segment(&self.common, &dir, meta).await?);
        }
        self.reshapes.warm.borrow_mut().insert(id, opened);
        Ok(())
    }

    /// Opens a partition that another shard has closed; the table has yet to say that it is here. Every later write is newer
    /// than `version`.
    ///
    /// # Errors
    /// As [`Shard::warm_up`].
    pub(super) async fn receive(self: &Rc<Self>, id: PartitionId, version: Version) -> Result<()> {
        let warm = self.reshapes.warm.borrow_mut().remove(&id).unwrap_or_default();
        let (common, dir) = (Rc::clone(&self.common), &self.common.dir);
        // Whoever closed it did so in this life of the store: nothing of its manifest is in doubt.
        let opened = Partition::open_warm(common, dir, id, EditNumber::default(), &warm).await?;
        opened.lift(version);
        // What was looked at when it was here before is not what is here.
        opened.depart(self.map().version());
        self.present(Rc::new(opened));
        Ok(())
    }

    /// Has a partition here that the table has yet to name. Snapshots that there are hold on to it as to all others.
    pub(super) fn present(&self, partition: Rc<Partition>) {
        let id = partition.id;
        partition.is_provisional.set(true);
        for held in &mut *self.held.borrow_mut() {
            held.holds.push(partition.snapshots.hold(held.version));
        }
        let slot = self.counters.borrow_mut().open_partition(id);
        let before = self.partitions.borrow_mut().insert(id, Rc::new(Owned { partition, slot }));
        assert!(before.is_none(), "partition {id} is here already");
    }

    /// The table says that a partition is here, for good.
    ///
    /// # Errors
    /// What ended writing.
    pub(super) fn settle_in(&self, id: PartitionId) -> Result<()> {
        let partition = self.here(id)?;
        partition.is_provisional.set(false);
        self.common.wal().witness(id, partition.manifest.last())?;
        self.look();
        Ok(())
    }

    /// The table does not say that a partition is here, or that it goes there.
    pub(super) fn forsake(&self, id: PartitionId) {
        self.reshapes.warm.borrow_mut().remove(&id);
        let is_provisional = self.here(id).is_ok_and(|partition| partition.is_provisional.get());
        let forsaken = if is_provisional { self.partitions.borrow_mut().remove(&id) } else { None };
        if let Some(owned) = forsaken {
            self.counters.borrow_mut().close_partition(owned.slot);
        }
    }

    /// Serves a partition no longer, which was closed. Returns when nothing here touches its files any more.
    pub(super) async fn give_up(self: &Rc<Self>, id: PartitionId) {
        let given_up = self.partitions.borrow_mut().remove(&id);
        let Some(owned) = given_up else { return };
        owned.partition.at_rest().await;
        let shard = Rc::clone(self);
        let close_slot = async move {
            // Operations that began before count themselves when they end.
            while Rc::strong_count(&owned) > 1 {
                shard.runtime().sleep(RETRY).await;
            }
            shard.counters.borrow_mut().close_partition(owned.slot);
        };
        self.runtime().spawn(close_slot).detach();
        self.look();
    }

    /// Removes the directory of a partition that the table does not name, and that nobody serves.
    ///
    /// # Errors
    /// What the disk says: the next opening removes what is left.
    pub(super) async fn remove(&self, id: PartitionId) -> Result<()> {
        carve::remove_partition(&self.common.disk, &dir_of(&self.common.dir, id)).await
    }

    pub(super) fn here(&self, id: PartitionId) -> Result<Rc<Partition>> {
        let partition = self.partitions.borrow().get(&id).map(|owned| Rc::clone(&owned.partition));
        partition.ok_or_else(|| Error::misuse(format!("partition {id} is not on shard {}", self.id.0)))
    }

    /// Returns when all that was written to a partition before is in segments.
    ///
    /// # Errors
    /// What ended writing.
    pub(crate) async fn flush_now(&self, partition: &Partition) -> Result<()> {
        partition.seal();
        let upto = partition.index();
        self.settle(|_| partition.is_flushed(upto)).await
    }
}
