//! Keys that leave a partition of this shard, and keys that arrive, with their segments.

use std::rc::Rc;

use super::{Owned, Shard};
use crate::error::Result;
use crate::ids::{EditNumber, PartitionId};
use crate::partition::ingest::Ingest;
use crate::partition::open::dir_of;
use crate::partition::{Partition, carve};
use crate::segment::KeyRanges;
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

    /// Opens partition `id`, which the table as this shard knows it places here, and serves it from then on.
    ///
    /// # Errors
    /// As [`Partition::open`]; the log's.
    pub(crate) async fn adopt(self: &Rc<Self>, id: PartitionId) -> Result<()> {
        // Whoever made or closed it did so in this life of the store: nothing of its manifest is in doubt.
        let common = Rc::clone(&self.common);
        let opened = Partition::open(common, &self.common.dir, id, EditNumber::default()).await?;
        let partition = Rc::new(opened);
        let changes = partition.restrict(&assigned(&self.map(), id)).await?;
        self.common.wal().witness(id, partition.manifest.last())?;
        let slot = self.counters.borrow_mut().open_partition(id);
        let before = self
            .partitions
            .borrow_mut()
            .insert(id, Rc::new(Owned { partition: Rc::clone(&partition), slot }));
        assert!(before.is_none(), "partition {id} is here already");
        changes.into_iter().for_each(|changed| self.clean_up(&partition, changed));
        self.look();
        Ok(())
    }

    /// Serves a partition no longer. Returns when nothing here touches its files any more. What was logged of it before is
    /// in segments: it was closed.
    pub(crate) async fn give_up(&self, id: PartitionId) {
        let given_up = self.partitions.borrow_mut().remove(&id);
        let Some(owned) = given_up else { return };
        self.counters.borrow_mut().close_partition(owned.slot);
        owned.partition.at_rest().await;
        self.look();
    }

    /// Removes the directory of a partition that the table does not name any more, and that nobody serves.
    ///
    /// # Errors
    /// What the disk says: the next opening removes what is left.
    pub(crate) async fn remove(&self, id: PartitionId) -> Result<()> {
        carve::remove_partition(&self.common.disk, &dir_of(&self.common.dir, id)).await
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
