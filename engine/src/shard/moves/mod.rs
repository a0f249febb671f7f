//! Moves of entities from partitions of this shard to others, and their arrivals here.
//!
//! ```text
//! begin (a change of the table) -> base -> log -> shadow -> fence -> last -> commit (a change of the table) -> release -> drop
//! ```
//!
//! `source` drives a move on the shard that has the entity and has it prove itself (`shadow` says when, `evidence` decides),
//! `target` is told by it what to do on the shard that gets it,
//! `progress` is what can be asked of it. The two speak through [`crate::stream`].
//!
//! Invariants:
//! - nobody reads what arrives before the table has committed the move, and nobody writes what leaves from the fence on;
//! - what the source gives up is durable at the target before the table is asked (R13: which commits only while the
//!   move is open and both epochs are what they were);
//! - the source removes nothing before it knows that the move was committed, and opens no fence while that is not known
//!   (R14);
//! - nothing of an entity arrives in a partition that still has to remove what it had of it (R12);
//! - a move that does not commit leaves nothing behind: an error, a cancellation and a restart undo the same.

mod bandwidth;
#[cfg(test)]
mod cut_over_tests;
mod evidence;
pub(crate) mod planted;
pub mod progress;
pub mod shadow;
#[cfg(test)]
mod shadow_tests;
mod source;
mod target;
#[cfg(test)]
pub(super) mod tests;
pub mod watch;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use self::bandwidth::Bandwidth;
use self::progress::{MoveStatus, MoveTotals, Phase};
use self::shadow::{ShadowPolicy, Shadowing, Verdict};
use self::source::Move;
use self::target::Arrival;
use self::watch::{Course, Watches};
use super::Shard;
use super::decision::Decided;
use crate::error::{Error, Result};
use crate::ids::{MoveId, PartitionId};
use crate::key::{self, RoutingKey};
use crate::signal::Signal;
use crate::table::BeginMove;

/// Moves that a shard copies at once: one more would make the others slower, and hold their taps longer.
const COPYING_MAX: usize = 4;
/// Moves under way from one shard, those that wait included.
const OPEN_MAX: usize = 1024;
/// Moves that have ended and are remembered.
const ENDED_KEPT: usize = 1000;

/// A shard's part in moves.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    open: RefCell<BTreeMap<MoveId, Rc<Move>>>,
    ended: RefCell<VecDeque<MoveStatus>>,
    arrivals: RefCell<BTreeMap<MoveId, Rc<Arrival>>>,
    /// What of which partitions arrives, or is being removed: nothing of it may begin to arrive.
    busy: RefCell<BTreeSet<(PartitionId, Vec<u8>)>>,
    /// Entities of which the table is asked to open a move.
    opening: RefCell<BTreeSet<Vec<u8>>>,
    /// Told when a move has ended, and when something is not busy any more.
    freed: Signal,
    totals: Cell<MoveTotals>,
    bandwidth: Bandwidth,
    /// How entities fare that move, or have moved.
    pub(crate) watches: Watches,
}

/// Something of a partition that is busy, until it is dropped.
#[derive(Debug)]
struct Busy {
    shard: Rc<Shard>,
    what: (PartitionId, Vec<u8>),
}

impl Busy {
    /// Once it is not.
    async fn take(shard: &Rc<Shard>, partition: PartitionId, prefix: &[u8]) -> Self {
        let what = (partition, prefix.to_vec());
        shard.moves.freed.until(|| !shard.moves.busy.borrow().contains(&what)).await;
        shard.moves.busy.borrow_mut().insert(what.clone());
        Self { shard: Rc::clone(shard), what }
    }
}

/// A move whose opening the table is asked for: the move of an entity that is found open belongs to whoever asked for it.
#[derive(Debug)]
struct Claim {
    shard: Rc<Shard>,
    entity: Vec<u8>,
}

impl Claim {
    fn of(shard: &Rc<Shard>, entity: &[u8]) -> Result<Self> {
        if !shard.moves.opening.borrow_mut().insert(entity.to_vec()) {
            let name = entity.escape_ascii();
            return Err(Error::try_again(format!("a move of entity \"{name}\" is being opened")));
        }
        Ok(Self { shard: Rc::clone(shard), entity: entity.to_vec() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shard.moves.opening.borrow_mut().remove(&self.entity);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.shard.moves.busy.borrow_mut().remove(&self.what);
        self.shard.moves.freed.notify();
    }
}

impl Shard {
    /// Begins to move an entity to a partition, or home. It goes on by itself: [`Shard::moves`] says how far it is.
    ///
    /// # Errors
    /// [`Error::Misuse`] when it cannot be moved so, or the table was changed meanwhile: look again.
    /// [`Error::TryAgain`] when too many moves are under way.
    pub async fn begin_move(self: &Rc<Self>, entity: &[u8], to: Option<PartitionId>) -> Result<MoveId> {
        self.begin_move_with(entity, to, self.common.options.shadowing.policy).await
    }

    /// As [`Shard::begin_move`], validated or not whatever the store's policy is.
    ///
    /// # Errors
    /// As [`Shard::begin_move`].
    pub async fn begin_move_with(
        self: &Rc<Self>,
        entity: &[u8],
        to: Option<PartitionId>,
        policy: ShadowPolicy,
    ) -> Result<MoveId> {
        let mut prefix = Vec::new();
        key::encode_entity(entity, &mut prefix)?;
        let image = self.image();
        let (from, entry) = (image.home_of(&prefix), image.entry_of(&prefix));
        let to = to.unwrap_or_else(|| image.home_by_range(RoutingKey::of(entity)).partition);
        let epoch = |id: PartitionId| {
            let placed = image.state().partitions.get(&id).map(|entry| entry.placed.epoch);
            placed.ok_or_else(|| Error::misuse(format!("there is no partition {id}")))
        };
        if from.partition == to {
            let name = entity.escape_ascii();
            return Err(Error::misuse(format!("entity \"{name}\" is in partition {to} already")));
        }
        let begin = BeginMove {
            entity: entity.to_vec(),
            entry,
            from: from.partition,
            to,
            from_epoch: epoch(from.partition)?,
            to_epoch: epoch(to)?,
        };
        self.on_control(from.shard, move |shard| async move { shard.open_move(begin, policy).await }).await
    }

    /// Opens a move from a partition of this shard, and lets it go on.
    async fn open_move(self: Rc<Self>, begin: BeginMove, policy: ShadowPolicy) -> Result<MoveId> {
        if self.moves.open.borrow().len() >= OPEN_MAX {
            return Err(Error::try_again(format!(
                "{OPEN_MAX} moves are under way from shard {}",
                self.id().0
            )));
        }
        let claim = Claim::of(&self, &begin.entity)?;
        let id = match self.ask_table(begin.clone().into()).await {
            Decided::Made(version) => MoveId(version.0),
            Decided::Refused(e) | Decided::Unknown(e) => return Err(e),
        };
        let shadowing = Shadowing { policy, ..self.common.options.shadowing };
        let moving = Rc::new(Move::new(&self, id, &begin, shadowing)?);
        self.moves.open.borrow_mut().insert(id, Rc::clone(&moving));
        drop(claim);
        moving.watched(&self);
        tracing::info!(
            "move {id}: entity \"{}\" from partition {} to {}",
            begin.entity.escape_ascii(),
            begin.from,
            begin.to
        );
        let shard = Rc::clone(&self);
        let drive = Box::pin(async move { moving.drive(&shard).await });
        self.runtime().spawn(self.runtime().named("move", drive)).detach();
        Ok(id)
    }

    /// Cancels a move of an entity of this shard, unless it is cutting over. Whether it is one.
    pub fn cancel_move(&self, id: MoveId) -> bool {
        let open = self.moves.open.borrow();
        open.get(&id).is_some_and(|moving| moving.cancel())
    }

    /// Waits until a move of an entity of this shard has ended; how it did. None: it is not known here.
    pub async fn moved(&self, id: MoveId) -> Option<MoveStatus> {
        self.moves.freed.until(|| !self.moves.open.borrow().contains_key(&id)).await;
        self.moves.ended.borrow().iter().rev().find(|status| status.id == id).cloned()
    }

    /// The moves of entities of this shard: those that have ended, as many as are remembered, then those under way.
    #[must_use]
    pub fn moves(&self) -> Vec<MoveStatus> {
        let mut all: Vec<MoveStatus> = self.moves.ended.borrow().iter().cloned().collect();
        all.extend(self.moves.open.borrow().values().map(|moving| moving.status(self.runtime().now())));
        all
    }

    /// One of them: who waits for its end does not have all of them told each time.
    #[must_use]
    pub fn move_status(&self, id: MoveId) -> Option<MoveStatus> {
        if let Some(moving) = self.moves.open.borrow().get(&id) {
            return Some(moving.status(self.runtime().now()));
        }
        self.moves.ended.borrow().iter().rev().find(|status| status.id == id).cloned()
    }

    /// How the entity of one move fared, where it is watched or has been here.
    #[must_use]
    pub fn course(&self, id: MoveId) -> Option<Course> {
        self.moves.watches.course(self.runtime().now(), id)
    }

    /// How entities that move from here, or have moved here, fared before, during and after.
    #[must_use]
    pub fn courses(&self) -> Vec<Course> {
        self.moves.watches.courses(self.runtime().now())
    }

    /// Of entities that have moved here, what became worse since.
    #[must_use]
    pub fn regressions(&self) -> Vec<(MoveId, String)> {
        self.moves.watches.regressions(self.runtime().now())
    }

    /// What all of them came to.
    #[must_use]
    pub fn move_totals(&self) -> MoveTotals {
        let (mut parked, mut refused) = (0, 0);
        for partition in self.partitions() {
            let totals = partition.parking.totals();
            (parked, refused) = (parked + totals.0, refused + totals.1);
        }
        let open = self.moves.open.borrow().len() as u64;
        let regressed = self.moves.watches.regressed();
        MoveTotals { open, parked, refused, regressed, ..self.moves.totals.get() }
    }

    /// Returns when a move from here may send `bytes`.
    async fn paced(&self, bytes: usize) {
        let options = &self.common.options;
        let Some(rate) = options.move_bytes_per_second else { return };
        let (now, part) = (self.runtime().now(), rate / options.shards.max(1) as u64);
        let due = self.moves.bandwidth.due(now, bytes, part);
        if due > now {
            self.runtime().sleep_until(due).await;
        }
    }

    /// Returns when no move from `partition`, or to it, is carried out or undone here any more. None begins.
    pub(super) async fn moves_at_rest(&self, partition: PartitionId) {
        let is_at_rest = || {
            let from_it = self.moves.open.borrow().values().any(|moving| moving.from() == partition);
            let at_it = self.moves.busy.borrow().iter().any(|(busy, _)| *busy == partition);
            !from_it && !at_it
        };
        self.moves.freed.until(is_at_rest).await;
    }
}

impl Moves {
    /// Waits for a place among those that copy, in the order in which they were opened.
    async fn turn(&self, id: MoveId) {
        let is_first = || {
            let open = self.open.borrow();
            let before =
                open.range(..id).filter(|(_, m)| m.is_copying() || m.phase() == Phase::Waiting).count();
            before < COPYING_MAX
        };
        self.freed.until(is_first).await;
    }

    fn end(&self, status: MoveStatus) {
        let mut totals = self.totals.get();
        match status.phase {
            Phase::Done => totals.done += 1,
            Phase::Cancelled => totals.cancelled += 1,
            Phase::Rejected => totals.rejected += 1,
            Phase::Failed
            | Phase::Unknown
            | Phase::Waiting
            | Phase::Base
            | Phase::Log
            | Phase::Shadow
            | Phase::CutOver
            | Phase::Dropping
            | Phase::Undoing => totals.failed += 1,
        }
        totals.bytes += status.base_bytes + status.log_bytes;
        let pause = status.pause.map_or(0, |pause| u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX));
        totals.pause_nanos = totals.pause_nanos.saturating_add(pause);
        totals.pause_nanos_max = totals.pause_nanos_max.max(pause);
        if let Some(shadow) = &status.shadow {
            match shadow.verdict {
                Some(Verdict::Accepted) => totals.accepted += 1,
                Some(Verdict::Inconclusive) => totals.inconclusive += 1,
                // Counted by how the move ended; none: it was cancelled meanwhile.
                Some(Verdict::Rejected) | None => {}
            }
            totals.mirrored += shadow.mirrored;
            totals.mirrored_dropped += shadow.dropped;
        }
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
