//! Keys that leave a partition of this shard, and keys that arrive, with their segments.

use std::rc::Rc;

use super::Shard;
use crate::error::Result;
use crate::partition::Partition;
use crate::partition::ingest::Ingest;
use crate::segment::KeyRanges;

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
