//! The end of a move: whoever comes to the entity waits, the rest is carried over, the table decides, and they go on.
//!
//! Invariants:
//! - the fence is closed before the last of what was written is carried over, and the target has all of it durably before the table
//!   is asked; so has the source, for a transaction may have written of this entity and of others that stay;
//! - once the table has been asked, the fence opens only when it is known what it decided (R14).

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use super::super::planted::Bug;
use super::super::progress::Phase;
use super::super::{Busy, Shard};
use super::{Halt, Move, Stream};
use crate::error::{Error, Result};
use crate::ids::{ShardId, TableVersion};
use crate::partition::Partition;
use crate::partition::fence::Fence;
use crate::partition::locks::{Holder, Span};
use crate::segment::{KeyRange, KeyRanges};
use crate::shard::decision::Decided;
use crate::table::Change;

/// How often what is written is carried over while a cut-over waits for others.
const ROUND: Duration = Duration::from_millis(1);
/// A cut-over that is not ready to commit by then is given up: those that wait for it were not refused yet.
const CUT_OVER_TIME_MAX: Duration = Duration::from_secs(2);

/// What a cut-over keeps away until what left is removed: arrivals of the same entity, and cuts of the store.
pub(super) struct Turn {
    _busy: Busy,
    _alive: Arc<()>,
}

impl Move {
    /// Waits until a cut-over may begin, however long a cut of the store takes its flushes, and carries over meanwhile what is
    /// written: the entity's writers wait for the copy, and not for others' backups. None: the tap did not hold it.
    pub(super) async fn admitted(
        &self,
        shard: &Rc<Shard>,
        mut stream: Stream,
    ) -> Result<Option<(Stream, Turn)>, Halt> {
        let turn = {
            let begin = async {
                let busy = Busy::take(shard, self.from.partition, &self.start).await;
                Ok::<_, Error>(Turn { _busy: busy, _alive: shard.exclude_cuts().await? })
            };
            let mut begin = pin!(begin);
            loop {
                let is_over = async {
                    shard.runtime().sleep(ROUND).await;
                    None
                };
                if let Some(turn) = future::or(async { Some(begin.as_mut().await) }, is_over).await {
                    break turn?;
                }
                if !self.follow(shard, &mut stream).await? {
                    return Ok(None);
                }
            }
        };
        Ok(self.follow(shard, &mut stream).await?.then_some((stream, turn)))
    }

    /// Has everybody wait, carries the rest over, has the table decide, and lets everybody go on.
    pub(super) async fn cut_over(
        &self,
        shard: &Rc<Shard>,
        mut stream: Stream,
        turn: Turn,
    ) -> Result<(), Halt> {
        self.enter(Phase::CutOver)?;
        let began = shard.runtime().now();
        self.progress.fenced.set(Some(began));
        let ready = self.hand_over(shard, &mut stream);
        let is_over = async {
            shard.runtime().sleep(CUT_OVER_TIME_MAX).await;
            Err(Error::try_again(format!("the cut-over was not ready in {CUT_OVER_TIME_MAX:?}")).into())
        };
        let fence = future::or(ready, is_over).await;
        if fence.is_err() {
            self.paused(shard, began);
        }
        let fence = fence?;
        self.misbehave(shard, &stream.partition, &fence).await;
        fence.hold();
        let version = match shard.ask_table(Change::CommitMove { id: self.id }).await {
            Decided::Made(version) => version,
            Decided::Refused(e) => {
                fence.unhold();
                drop(fence);
                self.paused(shard, began);
                return Err(e.into());
            }
            Decided::Unknown(e) => return Err(Halt::Unknown(e)),
        };
        // From here on it is done, whatever happens to those who are told.
        self.tell_all(shard, version).await;
        fence.unhold();
        fence.open_departed(version);
        self.paused(shard, began);
        self.progress.phase.set(Phase::Dropping);
        if shard.common.planted.has(Bug::VisibleEarly) {
            self.finish(shard, &mut stream).await?;
        }
        let done = stream.sender.done();
        let told = self.say(shard, &mut stream, done, Vec::new()).await;
        if let Err(Halt::Failed(e) | Halt::Unknown(e)) = told {
            tracing::warn!("move {}: the target was not told that it has the entity: {e}", self.id);
        }
        let Stream { partition, tap, .. } = stream;
        drop(tap);
        let keys = KeyRanges::from(KeyRange::of_prefix(&self.start));
        if shard.common.planted.has(Bug::OldRowsKept) {
            return Ok(());
        }
        if let Err(e) = shard.purge(&partition, &keys).await {
            // The next opening finds it: the table places it elsewhere.
            tracing::error!("move {}: what the source had of its entity stays until a restart: {e}", self.id);
        }
        drop(turn);
        self.excluded_no_more(shard).await;
        Ok(())
    }

    /// Closes the fence, and has the target get everything, durably.
    async fn hand_over(&self, shard: &Rc<Shard>, stream: &mut Stream) -> Result<Fence, Halt> {
        let entity = KeyRange::new(self.start.clone(), Some(self.end.clone()));
        let spans = vec![Span::of_range(&entity)];
        let fence = Fence::close(&stream.partition, Holder::Move(self.id), spans).await?;
        if !shard.common.planted.has(Bug::VisibleEarly) {
            let (kept, finished) =
                future::zip(self.keep_whole(shard, &stream.partition.clone()), self.finish(shard, stream))
                    .await;
            finished?;
            kept?;
        }
        Ok(fence)
    }

    /// Makes durable here what was written before the fence, whatever the store's durability is: of a record that is of this
    /// entity and of others the target is about to keep a part, and the rest is not to be lost after it. One log has both or
    /// neither.
    async fn keep_whole(&self, shard: &Shard, partition: &Partition) -> Result<()> {
        if self.to.shard == shard.id() {
            return Ok(());
        }
        let last = partition.catch_up_time(partition.time_ms())?;
        shard.common.wal().durable(last).await
    }

    /// Has the target get everything that was written before the fence, durably.
    async fn finish(&self, shard: &Rc<Shard>, stream: &mut Stream) -> Result<(), Halt> {
        while stream.tap.bytes() > 0 {
            self.drain(shard, stream).await?;
        }
        if stream.tap.is_broken() {
            return Err(Error::try_again("the entity was written faster than it is copied").into());
        }
        let last = stream.sender.last(stream.partition.version(), stream.partition.time_ms());
        self.say(shard, stream, last, Vec::new()).await
    }

    /// Where a bug is planted, does that.
    async fn misbehave(&self, shard: &Rc<Shard>, partition: &Rc<Partition>, fence: &Fence) {
        if shard.common.planted.has(Bug::FenceLifted) {
            fence.lift();
            shard.runtime().sleep(Duration::from_millis(1)).await;
        }
        if shard.common.planted.has(Bug::DroppedBeforeCommit) {
            let purged = shard.purge(partition, &KeyRanges::from(KeyRange::of_prefix(&self.start))).await;
            assert!(purged.is_ok(), "a disk without faults");
        }
    }

    /// Returns when both shards, and the table's, route by `version`. A shard that does not learn it is not running.
    async fn tell_all(&self, shard: &Rc<Shard>, version: TableVersion) {
        shard.knows_surely(version).await;
        for told in [self.to.shard, ShardId(0)] {
            let knows = move |shard: Rc<Shard>| async move { shard.knows(version).await };
            if let Err(e) = shard.on_control(told, knows).await {
                tracing::warn!("move {}: {e}", self.id);
            }
        }
    }
}
