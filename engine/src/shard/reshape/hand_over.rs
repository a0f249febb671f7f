//! A partition goes to another shard of its host: the same directory, another log.
//!
//! Who has it closes it, its last index in its manifest; the other shard opens it, with the segments that it has opened
//! before; the table is asked; the first one lets go of it.

use std::rc::Rc;

use super::Shard;
use super::drive::{Halt, Reshape};
use super::progress::Order;
use crate::error::{Error, Result};
use crate::ids::{PartitionId, ReshapeId, ShardId};
use crate::io::runtime::Nanos;
use crate::partition::Partition;
use crate::partition::locks::Span;
use crate::segment::{KeyRange, SegmentMeta};
use crate::shard::moves::planted::Bug;
use crate::table::{Partitions, Placed};

impl Reshape {
    pub(super) async fn hand_over(
        &self,
        shard: &Rc<Shard>,
        id: PartitionId,
        to: ShardId,
    ) -> Result<(), Halt> {
        let partition = shard.here(id)?;
        shard.moves_at_rest(id).await;
        self.drain(shard, &partition).await?;
        let still = partition.stand_still().await;
        partition.is_clean().await;
        let carried = self.carry_over(shard, &partition, to).await;
        drop(still);
        if matches!(carried, Err(Halt::Failed(_) | Halt::Cancelled)) {
            self.call_off(shard, id, to).await;
        }
        carried?;
        shard.give_up(id).await;
        Ok(())
    }

    async fn carry_over(
        &self,
        shard: &Rc<Shard>,
        partition: &Rc<Partition>,
        to: ShardId,
    ) -> Result<(), Halt> {
        let id = partition.id;
        let metas: Vec<SegmentMeta> =
            partition.levels().all().map(|segment| segment.meta().clone()).collect();
        self.progress.linked_bytes.set(metas.iter().map(|meta| meta.visible_bytes).sum());
        let warm_up = move |shard: Rc<Shard>| async move { shard.warm_up(id, metas).await };
        shard.on_control(to, warm_up).await?;
        let alive = shard.exclude_cuts().await?;
        self.drain(shard, partition).await?;
        let change = change_of(shard, id, to)?;
        let everything = KeyRange::new(b"", None);
        let fenced = self.fence(shard, partition, vec![Span::of_range(&everything)]).await?;
        if let Err(e) = self.pass(shard, partition, to, fenced.1).await {
            self.take_back(shard, partition, to).await;
            drop(fenced.0);
            self.paused(shard, fenced.1);
            return Err(e.into());
        }
        let version = match self.decide(shard, change, &fenced.0).await {
            Ok(version) => version,
            Err(halt) => {
                if matches!(halt, Halt::Failed(_)) {
                    self.take_back(shard, partition, to).await;
                    drop(fenced.0);
                }
                self.paused(shard, fenced.1);
                return Err(halt);
            }
        };
        self.release(shard, to, version, fenced).await;
        let settle_in = move |shard: Rc<Shard>| async move { shard.settle_in(id) };
        if let Err(e) = shard.on_control(to, settle_in).await {
            tracing::error!("partition {id} on shard {}: {e}", to.0);
        }
        self.excluded_no_more(shard, alive).await;
        Ok(())
    }

    /// Closes the partition here and has the other shard open it.
    async fn pass(
        &self,
        shard: &Rc<Shard>,
        partition: &Rc<Partition>,
        to: ShardId,
        began: Nanos,
    ) -> Result<()> {
        let over = async {
            partition.transactions_over().await;
            Ok(())
        };
        self.in_time(shard, began, over).await?;
        let id = partition.id;
        let close = async {
            if shard.common.planted.has(Bug::VisibleEarly) {
                partition.retire();
            } else {
                partition.close().await?;
            }
            // What that edit made unneeded of this shard's log goes once the log carries its number (R2).
            shard.common.wal().witness(id, partition.manifest.last())?;
            let version = partition.version();
            let receive = move |shard: Rc<Shard>| async move { shard.receive(id, version).await };
            shard.on_control(to, receive).await
        };
        self.hurry(shard, began, close).await
    }

    /// The partition stays here: the other shard has changed nothing of it.
    async fn take_back(&self, shard: &Rc<Shard>, partition: &Rc<Partition>, to: ShardId) {
        self.call_off(shard, partition.id, to).await;
        partition.reopen();
    }

    /// The other shard keeps nothing of it open.
    async fn call_off(&self, shard: &Rc<Shard>, id: PartitionId, to: ShardId) {
        let forsake = move |shard: Rc<Shard>| async move {
            shard.forsake(id);
            Ok(())
        };
        // A shard that is gone has nothing open.
        let _gone = shard.on_control(to, forsake).await;
    }
}

impl Shard {
    /// Hands a partition of this shard over, as a step of another change, in whose turn this is.
    ///
    /// # Errors
    /// Why it did not come to it; that nobody knows whether it did.
    pub(super) async fn hand_over(
        self: Rc<Self>,
        id: ReshapeId,
        partition: PartitionId,
        to: ShardId,
    ) -> Result<(), Halt> {
        let step = Reshape::new(&self, id, Order::HandOver { partition, to });
        step.hand_over(&self, partition, to).await
    }
}

fn change_of(shard: &Shard, id: PartitionId, to: ShardId) -> Result<Partitions> {
    let image = shard.map();
    let entry = image.state().partitions.get(&id);
    let entry = entry.ok_or_else(|| Error::misuse(format!("there is no partition {id}")))?;
    // Another primary: a configuration of its own.
    let placed = Placed { shard: to, epoch: entry.placed.epoch.next(), ..entry.placed };
    let (seen, edits) = (vec![(id, entry.version)], vec![(id, Some(placed))]);
    Ok(Partitions { seen, edits, ..Partitions::default() })
}
