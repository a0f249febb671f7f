//! The upper part of a partition becomes one of its own.
//!
//! It shares the segments, and the way they were parsed, with the one it comes from: nothing is read or written but
//! names, a manifest, and what was in memory.

use std::rc::Rc;

use super::Shard;
use super::drive::{Halt, Reshape};
use crate::error::{Error, Result};
use crate::ids::PartitionId;
use crate::key::{self, RoutingKey};
use crate::partition::Partition;
use crate::partition::carve::Carving;
use crate::partition::locks::Span;
use crate::segment::{KeyRange, KeyRanges};
use crate::shard::moves::planted::Bug;
use crate::table::{KEYS_END, Partitions};

/// What is to be cut off.
struct Cut {
    new: PartitionId,
    keys: KeyRanges,
    change: Partitions,
}

impl Reshape {
    pub(super) async fn split(
        &self,
        shard: &Rc<Shard>,
        id: PartitionId,
        at: Option<RoutingKey>,
    ) -> Result<(), Halt> {
        let partition = shard.here(id)?;
        shard.moves_at_rest(id).await;
        // What is left over of entities that moved away is not carried along.
        shard.restrict(id).await?;
        let cut = cut_of(shard, &partition, at).await?;
        self.progress.made.set(Some(cut.new));
        self.progress
            .at
            .set(cut.change.edits.last().and_then(|(_, placed)| placed.map(|placed| placed.start)));
        let new = cut.new;
        let done = self.cut_off(shard, &partition, cut).await;
        if matches!(done, Err(Halt::Failed(_) | Halt::Cancelled))
            && let Err(e) = shard.remove(new).await
        {
            tracing::warn!("change {} of partitions: partition {new} stays until a restart: {e}", self.id);
        }
        done?;
        if let Err(e) = shard.restrict(id).await {
            // The next opening finds it: the table places it elsewhere.
            tracing::error!("partition {id} keeps what it had of partition {new} until a restart: {e}");
        }
        Ok(())
    }

    async fn cut_off(&self, shard: &Rc<Shard>, partition: &Rc<Partition>, cut: Cut) -> Result<(), Halt> {
        let Cut { new, keys, change } = cut;
        let spans = keys.to_vec().iter().map(Span::of_range).collect();
        self.drain(shard, partition).await?;
        let mut carving = Carving::begin(partition, new, keys).await?;
        let alive = shard.exclude_cuts().await?;
        self.drain(shard, partition).await?;
        carving.top_up().await?;
        let fenced = self.fence(shard, partition, spans).await?;
        if shard.common.planted.has(Bug::FenceLifted) {
            fenced.0.lift();
        }
        let finish = async {
            if !shard.common.planted.has(Bug::VisibleEarly) {
                shard.flush_quickly(partition).await?;
            }
            carving.finish().await
        };
        let made = match self.hurry(shard, fenced.1, finish).await {
            Ok(made) => Rc::new(made),
            Err(e) => {
                self.paused(shard, fenced.1);
                return Err(e.into());
            }
        };
        self.progress.linked_bytes.set(carving.linked_bytes());
        shard.present(made);
        let version = match self.decide(shard, change, &fenced.0).await {
            Ok(version) => version,
            Err(halt) => {
                if matches!(halt, Halt::Failed(_)) {
                    shard.forsake(new);
                    drop(fenced.0);
                }
                self.paused(shard, fenced.1);
                return Err(halt);
            }
        };
        self.release(shard, shard.id(), version, fenced).await;
        drop(carving);
        if let Err(e) = shard.settle_in(new) {
            tracing::error!("partition {new}: {e}");
        }
        self.excluded_no_more(shard, alive).await;
        Ok(())
    }
}

/// What is cut off where, and the change of the table that says so.
async fn cut_of(shard: &Rc<Shard>, partition: &Rc<Partition>, at: Option<RoutingKey>) -> Result<Cut> {
    let id = partition.id;
    let point = shard.split_point(id, at).await?;
    let image = shard.image();
    let goes = |entity: &[u8]| point.guests.binary_search_by(|guest| (**guest).cmp(entity)).is_ok();
    let change = Partitions::split(image.state(), id, point.at, shard.id(), |guest| goes(&guest.entity()));
    let change = change.ok_or_else(|| Error::misuse(format!("partition {id} is not to be split there")))?;
    let home = image.place_of(id).ok_or_else(|| Error::misuse(format!("there is no partition {id}")))?;
    let end = (home.end < KEYS_END).then(|| home.end.to_bytes().to_vec());
    let mut keys = vec![KeyRange::new(point.at.to_bytes(), end)];
    for guest in &point.guests {
        let mut prefix = Vec::new();
        key::encode_entity(guest, &mut prefix)?;
        keys.push(KeyRange::of_prefix(&prefix));
    }
    Ok(Cut { new: image.state().next_partition, keys: KeyRanges::of(keys), change })
}
