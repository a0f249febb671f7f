//! Keys that leave a partition of this shard, and keys that arrive, with their segments; partitions that come and go.
//!
//! These are the steps. Whoever takes them sees to it that nobody writes what is on its way, asks for the table's changes
//! and waits until shards have learnt them:
//! - split: fence the keys, [`Shard::cut_off`], change, [`Shard::adopt`] the upper one, [`Shard::restrict`] the lower one;
//! - another shard: fence the partition, [`Shard::close`], change, [`Shard::give_up`], there [`Shard::adopt`];
//! - merge, on one shard: fence both, [`Shard::close`] one, [`Shard::absorb`], change, [`Shard::restrict`], then
//!   [`Shard::give_up`] and [`Shard::remove`] the one.
//!
//! A crash before the change leaves the partitions as they were, one after it as they are to be: opening the store takes
//! out what is left over.

use std::rc::Rc;

use super::space::RETRY;
use super::{Owned, Shard};
use crate::error::{Error, Result};
use crate::ids::{EditNumber, PartitionId};
use crate::key::{self, RoutingKey};
use crate::partition::ingest::Ingest;
use crate::partition::open::dir_of;
use crate::partition::{Partition, carve};
use crate::segment::{KeyRange, KeyRanges};
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

    /// Makes partition `other`, whose number the table never gave out, of what partition `id` here has of the keys from `from`
    /// on and of `guests`. None of them is written from before this until the table's change is known, or was refused: then
    /// [`Shard::remove`] takes it back. Nobody knows of it before [`Shard::adopt`].
    ///
    /// # Errors
    /// [`Error::Misuse`] when the partition is not here, or a name is none; what the disk says, or what ended writing.
    pub async fn cut_off(
        self: &Rc<Self>,
        id: PartitionId,
        other: PartitionId,
        from: RoutingKey,
        guests: &[Vec<u8>],
    ) -> Result<()> {
        let partition = self.here(id)?;
        let home = assigned(&self.map(), id).range;
        let mut keys = vec![home.and(&KeyRange::new(from.to_bytes(), None))];
        for guest in guests {
            let mut prefix = Vec::new();
            key::encode_entity(guest, &mut prefix)?;
            keys.push(KeyRange::of_prefix(&prefix));
        }
        self.flush_now(&partition).await?;
        partition.carve(other, &KeyRanges::of(keys)).await
    }

    /// Has partition `id` take in all that `other` has, both here: `other` is closed, and the table's change that gives
    /// `id` its keys comes next. [`Shard::restrict`] ends it, whatever became of that change.
    ///
    /// # Errors
    /// As [`Shard::cut_off`].
    pub async fn absorb(self: &Rc<Self>, id: PartitionId, other: PartitionId) -> Result<()> {
        let (into, from) = (self.here(id)?, self.here(other)?);
        let keys = assigned(&self.map(), other).keys();
        while keys.to_vec().iter().any(|range| into.is_in_memtables(range)) {
            self.flush_now(&into).await?;
        }
        let changed = into.absorb(&from, &keys).await?;
        self.clean_up(&into, changed);
        self.look();
        Ok(())
    }

    /// Takes out of a partition here what the table, as this shard knows it, places elsewhere. None of that is written
    /// any more.
    ///
    /// # Errors
    /// As [`Shard::cut_off`].
    pub async fn restrict(self: &Rc<Self>, id: PartitionId) -> Result<()> {
        let partition = self.here(id)?;
        self.flush_now(&partition).await?;
        // As the table is known now; what is learnt meanwhile is for the next time.
        let placed = assigned(&self.map(), id);
        let changes = partition.restrict(&placed).await?;
        changes.into_iter().for_each(|changed| self.clean_up(&partition, changed));
        self.look();
        Ok(())
    }

    /// Ends writing to a partition here, and makes everything of it durable in its directory; reading goes on. Prepared
    /// transactions have been decided.
    ///
    /// # Errors
    /// As [`Shard::cut_off`]: it is as it was.
    pub async fn close(&self, id: PartitionId) -> Result<()> {
        self.here(id)?.close().await
    }

    /// Takes [`Shard::close`] back.
    ///
    /// # Errors
    /// [`Error::Misuse`] when the partition is not here.
    pub fn reopen(&self, id: PartitionId) -> Result<()> {
        self.here(id).map(|partition| partition.reopen())
    }

    /// Opens partition `id`, which the table as this shard knows it places here, and serves it from then on.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`], the log's.
    pub async fn adopt(self: &Rc<Self>, id: PartitionId) -> Result<()> {
        // Whoever made or closed it did so in this life of the store: nothing of its manifest is in doubt.
        let common = Rc::clone(&self.common);
        let opened = Partition::open(common, &self.common.dir, id, EditNumber::default()).await?;
        let partition = Rc::new(opened);
        // As the table is known now; what is learnt meanwhile is for the next time.
        let placed = assigned(&self.map(), id);
        let changes = partition.restrict(&placed).await?;
        self.common.wal().witness(id, partition.manifest.last())?;
        let slot = self.counters.borrow_mut().open_partition(id);
        let owned = Rc::new(Owned { partition: Rc::clone(&partition), slot });
        let before = self.partitions.borrow_mut().insert(id, owned);
        assert!(before.is_none(), "partition {id} is here already");
        changes.into_iter().for_each(|changed| self.clean_up(&partition, changed));
        self.look();
        Ok(())
    }

    /// Serves a partition no longer, which was closed. Returns when nothing here touches its files any more.
    pub async fn give_up(self: &Rc<Self>, id: PartitionId) {
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
    pub async fn remove(&self, id: PartitionId) -> Result<()> {
        carve::remove_partition(&self.common.disk, &dir_of(&self.common.dir, id)).await
    }

    fn here(&self, id: PartitionId) -> Result<Rc<Partition>> {
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
