//! What all changes of partitions have in common: their turn, the fence, the decision, and the end.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use super::progress::{Order, Phase, Progress, ReshapeStatus};
use super::{Reshapes, Shard};
use crate::error::{Error, Result};
use crate::ids::{ReshapeId, ShardId, TableVersion};
use crate::io::runtime::Nanos;
use crate::partition::Partition;
use crate::partition::fence::Fence;
use crate::partition::locks::{Holder, Span};
use crate::shard::decision::Decided;
use crate::table::Partitions;

/// One that is not ready to be decided by then is given up: those that wait for it were not refused yet.
const CUT_OVER_TIME_MAX: Duration = Duration::from_secs(2);
/// So little is flushed behind the fence in a few milliseconds.
const REST_BYTES_MAX: usize = 256 << 10;
/// A partition that is written faster than it is flushed is not waited for: each flush makes a segment of level 0.
const DRAINS_MAX: usize = 4;

/// A change of partitions under way.
#[derive(Debug)]
pub(super) struct Reshape {
    pub(super) id: ReshapeId,
    order: Order,
    pub(super) progress: Progress,
    is_cancelled: Cell<bool>,
}

/// Why one goes no further.
#[derive(Debug)]
pub(super) enum Halt {
    /// It is undone.
    Failed(Error),
    Cancelled,
    /// Nobody here knows the outcome: nothing is done any more.
    Unknown(Error),
}

impl From<Error> for Halt {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

/// Flushes go before everything else, until dropped.
struct Hurry<'a>(&'a Reshapes);

impl Reshape {
    pub(super) fn new(shard: &Shard, id: ReshapeId, order: Order) -> Self {
        let progress = Progress::new(shard.runtime().now(), shard.runtime().wall_ms());
        Self { id, order, progress, is_cancelled: Cell::new(false) }
    }

    /// Carries it out, or undoes it.
    pub(super) async fn drive(&self, shard: &Rc<Shard>) {
        let ended = match self.carry(shard).await {
            Ok(()) => Phase::Done,
            Err(Halt::Cancelled) => Phase::Cancelled,
            Err(Halt::Failed(e)) => {
                tracing::warn!("change {} of partitions failed, everything stays as it was: {e}", self.id);
                *self.progress.failure.borrow_mut() = Some(e.to_string());
                Phase::Failed
            }
            Err(Halt::Unknown(e)) => {
                tracing::error!(
                    "change {} of partitions: only a restart can tell what came of it: {e}",
                    self.id
                );
                *self.progress.failure.borrow_mut() = Some(e.to_string());
                Phase::Unknown
            }
        };
        self.progress.phase.set(ended);
        let now = shard.runtime().now();
        self.progress.ended.set(Some(now));
        let status = self.status(now);
        tracing::info!(
            "change {} of partitions, {}: {} after {:?}: {} bytes linked, pause {:?}",
            self.id,
            self.order,
            ended.name(),
            status.elapsed,
            status.linked_bytes,
            status.pause
        );
        shard.reshapes.end(status);
    }

    async fn carry(&self, shard: &Rc<Shard>) -> Result<(), Halt> {
        let alive = Arc::new(());
        let (kept, partitions) = (Arc::downgrade(&alive), self.order.partitions());
        let reserve = move |first: Rc<Shard>| async move { first.reserve(partitions, kept).await };
        let version = shard.on_control(ShardId(0), reserve).await?;
        shard.knows(version).await?;
        // Until everything is cleaned up: what arrived meanwhile would be taken for what is left over.
        let _turn = alive;
        match self.order {
            Order::Split { partition, at } => self.split(shard, partition, at).await,
            Order::Merge { into, from } => self.merge(shard, into, from).await,
            Order::HandOver { partition, to } => self.hand_over(shard, partition, to).await,
        }
    }

    /// Flushes a partition until little of it is in memory.
    pub(super) async fn drain(&self, shard: &Rc<Shard>, partition: &Rc<Partition>) -> Result<(), Halt> {
        for _ in 0..DRAINS_MAX {
            self.enter(Phase::Linking)?;
            if partition.memtable_bytes() <= REST_BYTES_MAX {
                break;
            }
            shard.flush_quickly(partition).await?;
        }
        Ok(())
    }

    /// Has everybody wait who asks for `spans`. When that began.
    pub(super) async fn fence(
        &self,
        shard: &Rc<Shard>,
        partition: &Rc<Partition>,
        spans: Vec<Span>,
    ) -> Result<(Fence, Nanos), Halt> {
        self.enter(Phase::CutOver)?;
        let began = shard.runtime().now();
        let close = Fence::close(partition, Holder::Reshape(self.id), spans);
        let closed = self.in_time(shard, began, close).await;
        if closed.is_err() {
            self.paused(shard, began);
        }
        Ok((closed?, began))
    }

    /// What `work`, which may be given up at any moment, comes to, if that is soon enough.
    ///
    /// # Errors
    /// [`Error::TryAgain`]; what it says.
    pub(super) async fn in_time<T>(
        &self,
        shard: &Shard,
        began: Nanos,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let is_over = async {
            shard.runtime().sleep_until(began.after(CUT_OVER_TIME_MAX)).await;
            Err(Error::try_again(format!("the partition did not come to rest in {CUT_OVER_TIME_MAX:?}")))
        };
        future::or(work, is_over).await
    }

    /// Runs `work`, which is not to be given up halfway, before everything else; it was in vain if it took too long.
    ///
    /// # Errors
    /// As [`Reshape::in_time`].
    pub(super) async fn hurry<T>(
        &self,
        shard: &Shard,
        began: Nanos,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let done = {
            let _hurry = Hurry::begin(shard);
            work.await?
        };
        if shard.runtime().now().since(began) > CUT_OVER_TIME_MAX {
            return Err(Error::try_again(format!("the cut-over was not ready in {CUT_OVER_TIME_MAX:?}")));
        }
        Ok(done)
    }

    /// Has the table decide. The fence is held until what it decided is known: it is, where this returns a version or
    /// [`Halt::Failed`], which is a refusal.
    pub(super) async fn decide(
        &self,
        shard: &Rc<Shard>,
        change: Partitions,
        fence: &Fence,
    ) -> Result<TableVersion, Halt> {
        fence.hold();
        match shard.ask_table(change.into()).await {
            Decided::Made(version) => Ok(version),
            Decided::Refused(e) => {
                fence.unhold();
                Err(e.into())
            }
            Decided::Unknown(e) => Err(Halt::Unknown(e)),
        }
    }

    /// Tells the shards whose partitions have changed, and the table's, and opens the fence: whoever waited follows.
    pub(super) async fn release(
        &self,
        shard: &Rc<Shard>,
        to: ShardId,
        version: TableVersion,
        (fence, began): (Fence, Nanos),
    ) {
        shard.knows_surely(version).await;
        for told in [to, ShardId(0)] {
            let knows = move |shard: Rc<Shard>| async move { shard.knows(version).await };
            // A shard that does not learn it is not running.
            if let Err(e) = shard.on_control(told, knows).await {
                tracing::warn!("change {} of partitions: {e}", self.id);
            }
        }
        fence.unhold();
        fence.open_departed(version);
        self.paused(shard, began);
        self.progress.phase.set(Phase::Cleaning);
    }

    /// Goes on to a phase, unless it was cancelled.
    pub(super) fn enter(&self, phase: Phase) -> Result<(), Halt> {
        if self.is_cancelled.get() {
            return Err(Halt::Cancelled);
        }
        self.progress.phase.set(phase);
        Ok(())
    }

    pub(super) fn paused(&self, shard: &Shard, began: Nanos) {
        let pause = shard.runtime().now().since(began);
        self.progress.pause.set(Some(self.progress.pause.get().map_or(pause, |longest| longest.max(pause))));
    }

    /// A cut may begin.
    pub(super) async fn excluded_no_more(&self, shard: &Rc<Shard>, alive: Arc<()>) {
        drop(alive);
        let tell = |shard: Rc<Shard>| async move {
            shard.exclusion.ended.notify();
            Ok(())
        };
        // A store that closes takes no cuts.
        let _closing = shard.on_control(ShardId(0), tell).await;
    }

    /// Has it end, unless it is cutting over or has: whether it will.
    pub(super) fn cancel(&self) -> bool {
        let may = self.progress.phase.get() < Phase::CutOver;
        self.is_cancelled.set(self.is_cancelled.get() || may);
        may
    }

    pub(super) fn status(&self, now: Nanos) -> ReshapeStatus {
        let progress = &self.progress;
        ReshapeStatus {
            id: self.id,
            order: self.order,
            phase: progress.phase.get(),
            made: progress.made.get(),
            at: progress.at.get(),
            linked_bytes: progress.linked_bytes.get(),
            began_ms: progress.began_ms,
            elapsed: progress.ended.get().unwrap_or(now).since(progress.began),
            pause: progress.pause.get(),
            failure: progress.failure.borrow().clone(),
        }
    }
}

impl<'a> Hurry<'a> {
    fn begin(shard: &'a Shard) -> Self {
        shard.reshapes.hurried.set(true);
        shard.look();
        Self(&shard.reshapes)
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.hurried.set(false);
    }
}
