//! A partition takes in its neighbour: the neighbour's segments get names there, and nothing of them is written.

use std::rc::Rc;

use super::Shard;
use super::drive::{Halt, Reshape};
use crate::error::{Error, Result};
use crate::ids::PartitionId;
use crate::partition::Partition;
use crate::partition::absorb::Absorbing;
use crate::partition::locks::Span;
use crate::segment::{KeyRange, KeyRanges};
use crate::shard::moves::planted::Bug;
use crate::store::open::assigned;
use crate::table::Partitions;

impl Reshape {
    pub(super) async fn merge(
        &self,
        shard: &Rc<Shard>,
        into: PartitionId,
        from: PartitionId,
    ) -> Result<(), Halt> {
        self.bring(shard, from).await?;
        let (taking, given) = (shard.here(into)?, shard.here(from)?);
        for id in [into, from] {
            shard.moves_at_rest(id).await;
            // What is left over of entities that moved away must not be taken for theirs.
            shard.restrict(id).await?;
        }
        let done = self.take_in(shard, &taking, &given).await;
        // Decided or not: what the table does not place in it goes.
        let restricted = match &done {
            Err(Halt::Unknown(_)) => Ok(()),
            Ok(()) | Err(Halt::Failed(_) | Halt::Cancelled) => shard.restrict(into).await,
        };
        if let Err(e) = restricted {
            tracing::error!("partition {into} keeps what it does not need until a restart: {e}");
        }
        done?;
        shard.give_up(from).await;
        if let Err(e) = shard.remove(from).await {
            tracing::warn!("something of partition {from} stays until a restart: {e}");
        }
        Ok(())
    }

    /// Has the neighbour come to this shard, if it is on another.
    async fn bring(&self, shard: &Rc<Shard>, from: PartitionId) -> Result<(), Halt> {
        let place = shard.map().place_of(from);
        let place = place.ok_or_else(|| Error::misuse(format!("there is no partition {from}")))?;
        if place.shard == shard.id() {
            return Ok(());
        }
        let (id, to) = (self.id, shard.id());
        let hand_over = move |other: Rc<Shard>| async move { Ok(other.hand_over(id, from, to).await) };
        // Of a shard that is gone nobody knows how far it came.
        shard.on_control(place.shard, hand_over).await.unwrap_or_else(|e| Err(Halt::Unknown(e)))
    }

    async fn take_in(
        &self,
        shard: &Rc<Shard>,
        taking: &Rc<Partition>,
        given: &Rc<Partition>,
    ) -> Result<(), Halt> {
        let (into, from) = (taking.id, given.id);
        let image = shard.image();
        let change = Partitions::merge(image.state(), into, from).ok_or_else(|| {
            Error::misuse(format!("partitions {into} and {from} are not two whose ranges lie side by side"))
        })?;
        let keys = keys_of(shard, into, from)?;
        self.drain(shard, given).await?;
        while keys.to_vec().iter().any(|range| taking.is_in_memtables(range)) {
            shard.flush_quickly(taking).await?;
        }
        let mut absorbing = Absorbing::begin(taking, given, keys).await?;
        let ready = async {
            let alive = shard.exclude_cuts().await?;
            self.drain(shard, given).await?;
            absorbing.top_up().await?;
            let everything = KeyRange::new(b"", None);
            let fenced = self.fence(shard, given, vec![Span::of_range(&everything)]).await?;
            Ok::<_, Halt>((alive, fenced))
        };
        let (alive, fenced) = match ready.await {
            Ok(ready) => ready,
            Err(halt) => {
                absorbing.abandon().await;
                return Err(halt);
            }
        };
        let over = async {
            given.transactions_over().await;
            Ok(())
        };
        let rest = async {
            self.in_time(shard, fenced.1, over).await?;
            let finish = async {
                given.retire();
                if !shard.common.planted.has(Bug::VisibleEarly) {
                    shard.flush_quickly(given).await?;
                }
                let changed = absorbing.finish().await?;
                shard.clean_up(taking, changed);
                Ok(())
            };
            self.hurry(shard, fenced.1, finish).await
        };
        if let Err(e) = rest.await {
            given.reopen();
            drop(fenced.0);
            self.paused(shard, fenced.1);
            absorbing.abandon().await;
            return Err(e.into());
        }
        self.progress.linked_bytes.set(absorbing.linked_bytes());
        let version = match self.decide(shard, change, &fenced.0).await {
            Ok(version) => version,
            Err(halt) => {
                if matches!(halt, Halt::Failed(_)) {
                    given.reopen();
                    drop(fenced.0);
                }
                self.paused(shard, fenced.1);
                return Err(halt);
            }
        };
        self.release(shard, shard.id(), version, fenced).await;
        drop(absorbing);
        self.excluded_no_more(shard, alive).await;
        Ok(())
    }
}

/// What `into` takes in of `from`: its range and its guests, without those of the range that are guests of `into` already.
fn keys_of(shard: &Shard, into: PartitionId, from: PartitionId) -> Result<KeyRanges> {
    let image = shard.map();
    let placed =
        assigned(&image, from).ok_or_else(|| Error::misuse(format!("there is no partition {from}")))?;
    let there: Vec<KeyRange> = image.guests_in(into).map(|guest| KeyRange::of_prefix(guest.prefix)).collect();
    let mut keys = KeyRanges::from(placed.range).without(&KeyRanges::of(there)).to_vec();
    keys.extend(placed.guests.iter().map(|prefix| KeyRange::of_prefix(prefix)));
    Ok(KeyRanges::of(keys))
}
