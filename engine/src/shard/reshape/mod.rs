//! Partitions that split, merge and change shards, while they are read and written.
//!
//! ```text
//! reserve -> segments are linked, or opened elsewhere -> fence -> the rest -> the table decides -> release -> clean up
//! ```
//!
//! What is in segments gets second names, or is opened on the other shard, while everything goes on. Then whoever asks for
//! what is on its way waits: the last rows are flushed, the partition that is to have them is there, and the table is asked.
//! No row is written twice.
//!
//! `drive` is what all of them have in common, `split`, `merge` and `hand_over` are their steps, `reservation` keeps moves
//! away, `point` finds where a partition is best split, `progress` is what can be asked.
//!
//! Invariants:
//! - one change of partitions at a time; no move begins from or to its partitions meanwhile, and it waits for those that are
//!   under way (the table would refuse it, R17);
//! - whoever is to have the rows has them durably, and is reachable, before the table is asked: nobody is sent about;
//! - the fence stays closed while what the table decided is not known (R14);
//! - a partition's epoch stands for its primary and members: it rises when a partition changes shards, and is kept by one
//!   whose range changes. Moves, which commit only in the epochs in which they began (R13), need no more: the table refuses
//!   to change the range of a partition that has one open;
//! - one that the table refuses leaves nothing behind.

mod drive;
mod hand_over;
#[cfg(test)]
mod held_tests;
#[cfg(test)]
mod linear_tests;
mod merge;
#[cfg(test)]
mod outcome_tests;
pub mod point;
pub mod progress;
mod reservation;
mod split;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use self::drive::Reshape;
use self::progress::{Order, Phase, ReshapeStatus, ReshapeTotals};
use self::reservation::Reservations;
use super::Shard;
use crate::error::{Error, Result};
use crate::ids::{PartitionId, ReshapeId, SegmentId, ShardId};
use crate::segment::Segment;
use crate::signal::Signal;

/// Changes of partitions that wait for their turn on one shard: an operator, or a planner, that has asked for more has
/// asked from a table that will be another by then.
const OPEN_MAX: usize = 64;
/// Those that have ended and are remembered.
const ENDED_KEPT: usize = 1000;

/// A shard's part in changes of partitions.
#[derive(Debug, Default)]
pub(crate) struct Reshapes {
    open: RefCell<BTreeMap<ReshapeId, Rc<Reshape>>>,
    ended: RefCell<VecDeque<ReshapeStatus>>,
    /// Told when one has ended.
    freed: Signal,
    totals: Cell<ReshapeTotals>,
    /// Segments of partitions that are about to come here.
    pub(super) warm: RefCell<BTreeMap<PartitionId, BTreeMap<SegmentId, Rc<Segment>>>>,
    /// Requests wait for a flush.
    hurried: Cell<bool>,
    /// Of the first shard.
    reservations: Reservations,
}

impl Reshapes {
    /// Whether requests wait for a flush.
    pub(super) fn is_hurried(&self) -> bool {
        self.hurried.get()
    }

    fn end(&self, status: ReshapeStatus) {
        let mut totals = self.totals.get();
        match status.phase {
            Phase::Done => totals.done += 1,
            Phase::Cancelled => totals.cancelled += 1,
            Phase::Failed
            | Phase::Unknown
            | Phase::Waiting
            | Phase::Linking
            | Phase::CutOver
            | Phase::Cleaning => totals.failed += 1,
        }
        totals.linked_bytes += status.linked_bytes;
        let pause = status.pause.map_or(0, |pause| u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX));
        totals.pause_nanos = totals.pause_nanos.saturating_add(pause);
        totals.pause_nanos_max = totals.pause_nanos_max.max(pause);
        self.totals.set(totals);
        self.open.borrow_mut().remove(&status.id);
        let mut ended = self.ended.borrow_mut();
        if ended.len() == ENDED_KEPT {
            ended.pop_front();
        }
        ended.push_back(status);
        drop(ended);
        self.freed.notify();
    }
}

impl Shard {
    /// Begins to change partitions. It goes on by itself: [`Shard::reshapes`] says how far it is, on the shard that has the
    /// partition, or the one that takes the other in.
    ///
    /// # Errors
    /// [`Error::Misuse`] when it cannot be: there is no such partition, key or shard, or two do not lie side by side.
    /// [`Error::TryAgain`] when too many wait.
    pub async fn begin_reshape(self: &Rc<Self>, order: Order) -> Result<ReshapeId> {
        let image = self.image();
        order.check(&image)?;
        let next = |first: Rc<Self>| async move { Ok(first.reshapes.reservations.number()) };
        let id = self.on_control(ShardId(0), next).await?;
        let place = image.place_of(order.partition());
        let driver =
            place.ok_or_else(|| Error::misuse(format!("there is no partition {}", order.partition())))?;
        self.on_control(driver.shard, move |shard| async move { shard.open_reshape(id, order) }).await
    }

    fn open_reshape(self: Rc<Self>, id: ReshapeId, order: Order) -> Result<ReshapeId> {
        if self.reshapes.open.borrow().len() >= OPEN_MAX {
            let what = format!("{OPEN_MAX} changes of partitions wait on shard {}", self.id().0);
            return Err(Error::try_again(what));
        }
        let reshape = Rc::new(Reshape::new(&self, id, order));
        self.reshapes.open.borrow_mut().insert(id, Rc::clone(&reshape));
        tracing::info!("change {id} of partitions: {order}");
        let shard = Rc::clone(&self);
        let drive = Box::pin(async move { reshape.drive(&shard).await });
        self.runtime().spawn(self.runtime().named("reshape", drive)).detach();
        Ok(id)
    }

    /// Cancels a change of partitions that is driven here, unless requests wait for it already. Whether it is one.
    pub fn cancel_reshape(&self, id: ReshapeId) -> bool {
        self.reshapes.open.borrow().get(&id).is_some_and(|reshape| reshape.cancel())
    }

    /// Waits until a change of partitions that is driven here has ended; how it did. None: it is not known here.
    pub async fn reshaped(&self, id: ReshapeId) -> Option<ReshapeStatus> {
        self.reshapes.freed.until(|| !self.reshapes.open.borrow().contains_key(&id)).await;
        self.reshapes.ended.borrow().iter().rev().find(|status| status.id == id).cloned()
    }

    /// The changes of partitions that are driven here: those that have ended, as many as are remembered, then those under
    /// way.
    #[must_use]
    pub fn reshapes(&self) -> Vec<ReshapeStatus> {
        let mut all: Vec<ReshapeStatus> = self.reshapes.ended.borrow().iter().cloned().collect();
        let now = self.runtime().now();
        all.extend(self.reshapes.open.borrow().values().map(|reshape| reshape.status(now)));
        all
    }

    /// What all of them came to.
    #[must_use]
    pub fn reshape_totals(&self) -> ReshapeTotals {
        ReshapeTotals { open: self.reshapes.open.borrow().len() as u64, ..self.reshapes.totals.get() }
    }
}
