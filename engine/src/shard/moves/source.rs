//! Driving a move, on the shard that has the entity.

mod cut_over;
mod validation;

use std::cell::Cell;
use std::rc::Rc;

use futures_lite::future;

use self::validation::Probation;
use super::Shard;
use super::progress::{MoveStatus, Phase, Progress};
use super::shadow::Shadowing;
use crate::error::{Error, Result};
use crate::ids::{MoveId, PartitionId, ShardId};
use crate::io::runtime::Nanos;
use crate::key;
use crate::partition::Partition;
use crate::partition::ingest::Linked;
use crate::partition::tap::Tap;
use crate::shard::decision::Decided;
use crate::shard::space::RETRY;
use crate::stream::{Frame, Opening, Sender, Violation};
use crate::table::{BeginMove, Change, Home};

/// Bytes of a frame of the base: what is written to a segment at once.
const BASE_FRAME_BYTES: usize = 256 << 10;
/// Bytes written meanwhile that are kept in memory for one move; its entity's writers wait above half.
const TAP_BYTES_MAX: usize = 64 << 20;
/// So little is carried over behind the fence in a fraction of a millisecond.
const LAG_BYTES_MAX: usize = 64 << 10;
/// A base that is overtaken by what is written is begun anew so often.
const RESTARTS_MAX: u64 = 3;
/// A move under way.
#[derive(Debug)]
pub(super) struct Move {
    id: MoveId,
    opening: Opening,
    from: Home,
    to: Home,
    /// The entity's keys.
    start: Vec<u8>,
    end: Vec<u8>,
    progress: Progress,
    probation: Probation,
    is_cancelled: Cell<bool>,
}

/// Why a move goes no further.
enum Halt {
    /// It is undone.
    Failed(Error),
    Cancelled,
    /// Its shadow did not bear it out.
    Rejected(String),
    /// Nobody here knows the outcome: nothing is done any more.
    Unknown(Error),
}

/// A stream whose receiver has nearly everything.
struct Stream {
    partition: Rc<Partition>,
    tap: Rc<Tap>,
    sender: Sender,
}

impl From<Error> for Halt {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

impl From<Violation> for Halt {
    fn from(violation: Violation) -> Self {
        Self::Failed(Error::misuse(violation.to_string()))
    }
}

impl Move {
    pub(super) fn new(shard: &Shard, id: MoveId, begin: &BeginMove, shadowing: Shadowing) -> Result<Self> {
        let mut start = Vec::new();
        key::encode_entity(&begin.entity, &mut start)?;
        let end = key::prefix_end(&start).ok_or_else(|| Error::misuse("entity prefix without an end"))?;
        let image = shard.image();
        let place =
            |id| image.place_of(id).ok_or_else(|| Error::misuse(format!("there is no partition {id}")));
        let opening = Opening {
            entity: begin.entity.clone(),
            from: (begin.from, begin.from_epoch),
            to: (begin.to, begin.to_epoch),
        };
        Ok(Self {
            id,
            opening,
            from: place(begin.from)?,
            to: place(begin.to)?,
            start,
            end,
            progress: Progress::new(shard.runtime().now(), shard.runtime().wall_ms()),
            probation: Probation::new(shadowing),
            is_cancelled: Cell::new(false),
        })
    }

    /// Carries it out, or undoes it.
    pub(super) async fn drive(&self, shard: &Rc<Shard>) {
        let ended = match self.carry(shard).await {
            Ok(()) => Phase::Done,
            Err(Halt::Unknown(e)) => {
                tracing::error!("move {}: only a restart can tell where its entity is: {e}", self.id);
                *self.progress.failure.borrow_mut() = Some(e.to_string());
                Phase::Unknown
            }
            Err(Halt::Rejected(why)) => {
                tracing::warn!(
                    "move {} is rejected by its shadow, everything stays as it was: {why}",
                    self.id
                );
                *self.progress.failure.borrow_mut() = Some(format!("rejected by its shadow: {why}"));
                self.undo(shard).await;
                Phase::Rejected
            }
            Err(Halt::Cancelled) => {
                self.undo(shard).await;
                Phase::Cancelled
            }
            Err(Halt::Failed(e)) => {
                tracing::warn!("move {} failed, everything stays as it was: {e}", self.id);
                *self.progress.failure.borrow_mut() = Some(e.to_string());
                self.undo(shard).await;
                Phase::Failed
            }
        };
        self.progress.phase.set(ended);
        let now = shard.runtime().now();
        self.progress.ended.set(Some(now));
        let status = self.status(now);
        self.watch_on(shard, ended).await;
        tracing::info!(
            "move {}: {} after {:?}: base {} bytes, {} linked, log {} bytes, pause {:?}",
            self.id,
            ended.name(),
            status.elapsed,
            status.base_bytes,
            status.linked_bytes,
            status.log_bytes,
            status.pause
        );
        shard.moves.end(status);
    }

    async fn carry(&self, shard: &Rc<Shard>) -> Result<(), Halt> {
        // How the entity fares without a move, for comparison.
        shard.runtime().sleep_until(self.progress.began.after(shard.common.options.watch_before)).await;
        shard.moves.turn(self.id).await;
        shard.moves.watches.copying(&self.start);
        self.progress.copying.set(Some(shard.runtime().now()));
        loop {
            if let Some(stream) = self.copy(shard).await?
                && let Some(stream) = self.proven(shard, stream).await?
                && let Some((stream, turn)) = self.admitted(shard, stream).await?
            {
                return self.cut_over(shard, stream, turn).await;
            }
            self.progress.restarts.set(self.progress.restarts.get() + 1);
            if self.progress.restarts.get() > RESTARTS_MAX {
                return Err(Error::try_again("the entity is written faster than it is copied").into());
            }
        }
    }

    /// Copies the base, then what was written meanwhile, until little is missing. None: so much was written that the
    /// base has to begin anew.
    async fn copy(&self, shard: &Rc<Shard>) -> Result<Option<Stream>, Halt> {
        self.enter(Phase::Base)?;
        let partition = shard.partition(self.from)?;
        let (sender, first) = Sender::open(self.id, self.opening.clone());
        // In one turn: what the base does not have is in the tap.
        let tap = partition.tap(&self.start, &self.end, TAP_BYTES_MAX);
        let mut base = partition.base(&self.start, &self.end);
        let mut stream = Stream { partition: Rc::clone(&partition), tap, sender };
        self.say(shard, &mut stream, first, Vec::new()).await?;
        let mut next = base.next(&partition, BASE_FRAME_BYTES).await?;
        while let Some(rows) = next {
            self.enter(Phase::Base)?;
            self.progress.copied_base(rows.count(), rows.bytes());
            self.progress.lag_bytes.set(stream.tap.bytes() as u64);
            let bytes = rows.bytes();
            let frame = stream.sender.base(rows);
            // The next is read while this one is written.
            let carried = async {
                shard.paced(bytes).await;
                self.carry_frame(shard, frame, Vec::new()).await
            };
            let (carried, read) = future::zip(carried, base.next(&partition, BASE_FRAME_BYTES)).await;
            stream.sender.handle(&carried?)?;
            next = read?;
        }
        let linked: Vec<Linked> = base.linked().collect();
        self.progress.linked_bytes.set(linked.iter().map(|l| l.meta.visible_bytes).sum());
        let end = stream.sender.base_end(base.at, partition.time_ms());
        self.say(shard, &mut stream, end, linked).await?;
        drop(base);
        self.follow(shard, &mut stream).await.map(|near| near.then_some(stream))
    }

    /// Carries over what was written, until little is missing. False: the tap did not hold it.
    async fn follow(&self, shard: &Rc<Shard>, stream: &mut Stream) -> Result<bool, Halt> {
        let mut crowded_above = TAP_BYTES_MAX / 2;
        loop {
            self.enter(Phase::Log)?;
            if stream.tap.is_broken() {
                let abort = stream.sender.abort();
                self.say(shard, stream, abort, Vec::new()).await?;
                return Ok(false);
            }
            let lag = stream.tap.bytes();
            self.progress.lag_bytes.set(lag as u64);
            if lag <= LAG_BYTES_MAX {
                return Ok(true);
            }
            self.drain(shard, stream).await?;
            // Whoever writes faster than this carries over is slowed, a little more each time round.
            crowded_above = (crowded_above / 2).max(LAG_BYTES_MAX / 2);
            stream.tap.crowd_above(crowded_above);
        }
    }

    /// Carries over as much as there is in the tap.
    async fn drain(&self, shard: &Rc<Shard>, stream: &mut Stream) -> Result<(), Halt> {
        let mut left = stream.tap.bytes();
        while left > 0
            && let Some(rows) = stream.tap.take()
        {
            left = left.saturating_sub(rows.bytes());
            if self.phase() < Phase::CutOver {
                shard.paced(rows.bytes()).await;
            }
            self.progress.copied_log(rows.count(), rows.bytes());
            self.progress.lag_bytes.set(stream.tap.bytes() as u64);
            let frame = stream.sender.log(rows);
            self.say(shard, stream, frame, Vec::new()).await?;
        }
        Ok(())
    }

    /// Takes everything back that it did so far.
    async fn undo(&self, shard: &Rc<Shard>) {
        self.progress.phase.set(Phase::Undoing);
        loop {
            match shard.ask_table(Change::AbortMove { id: self.id }).await {
                Decided::Made(_) => {}
                Decided::Refused(e) if e.is_no_space() || matches!(e, Error::TryAgain(_)) => {
                    tracing::warn!("move {} is undone later: {e}", self.id);
                    shard.runtime().sleep(RETRY).await;
                    continue;
                }
                Decided::Refused(e) | Decided::Unknown(e) => {
                    tracing::warn!("move {} stays open until a restart: {e}", self.id);
                }
            }
            break;
        }
        let id = self.id;
        let forget = move |shard: Rc<Shard>| async move { shard.forget_arrival(id).await };
        if let Err(e) = shard.on_control(self.to.shard, forget).await {
            tracing::warn!("move {id}: what had arrived stays until a restart: {e}");
        }
        self.excluded_no_more(shard).await;
    }

    /// A cut may begin.
    async fn excluded_no_more(&self, shard: &Rc<Shard>) {
        let tell = |shard: Rc<Shard>| async move {
            shard.exclusion.ended.notify();
            Ok(())
        };
        // A store that closes takes no cuts.
        let _closing = shard.on_control(ShardId(0), tell).await;
    }

    /// Says a frame and hears that it was carried out.
    async fn say(
        &self,
        shard: &Rc<Shard>,
        stream: &mut Stream,
        frame: Frame,
        linked: Vec<Linked>,
    ) -> Result<(), Halt> {
        let answer = self.carry_frame(shard, frame, linked).await?;
        Ok(stream.sender.handle(&answer)?)
    }

    async fn carry_frame(&self, shard: &Rc<Shard>, frame: Frame, linked: Vec<Linked>) -> Result<Frame> {
        shard.on_control(self.to.shard, move |shard| async move { shard.arriving(frame, linked).await }).await
    }

    /// It has been opened: how its entity fares is watched.
    pub(super) fn watched(&self, shard: &Shard) {
        let now = shard.runtime().now();
        shard.moves.watches.begin(now, self.id, &self.opening.entity, &self.start);
        shard.watch();
    }

    /// Watches on, on the shard that has the entity.
    async fn watch_on(&self, shard: &Rc<Shard>, ended: Phase) {
        let (now, places) = (shard.runtime().now(), (self.from.partition, self.to.partition));
        if ended != Phase::Done {
            shard.moves.watches.stays(now, self.id, &self.start);
        } else if let Some(handed) = shard.moves.watches.hand_over(self.id, &self.start, places) {
            let prefix = self.start.clone();
            let take_over = move |shard: Rc<Shard>| async move {
                shard.moves.watches.take_over(shard.runtime().now(), &prefix, handed);
                shard.watch();
                Ok(())
            };
            if let Err(e) = shard.on_control(self.to.shard, take_over).await {
                tracing::debug!("move {}: nobody watches how its entity fares: {e}", self.id);
            }
        }
        shard.watch();
    }

    /// Goes on to a phase, unless it was cancelled.
    fn enter(&self, phase: Phase) -> Result<(), Halt> {
        if self.is_cancelled.get() {
            return Err(Halt::Cancelled);
        }
        self.progress.phase.set(phase);
        Ok(())
    }

    fn paused(&self, shard: &Shard, began: Nanos) {
        self.progress.pause.set(Some(shard.runtime().now().since(began)));
    }

    /// Has it end, unless it is cutting over or has: whether it will.
    pub(super) fn cancel(&self) -> bool {
        let may = self.phase() < Phase::CutOver;
        self.is_cancelled.set(self.is_cancelled.get() || may);
        may
    }

    /// The partition that its entity leaves.
    pub(super) const fn from(&self) -> PartitionId {
        self.opening.from.0
    }

    pub(super) fn phase(&self) -> Phase {
        self.progress.phase.get()
    }

    /// Whether it has one of the places of those that copy.
    pub(super) fn is_copying(&self) -> bool {
        matches!(self.phase(), Phase::Base | Phase::Log | Phase::Shadow | Phase::CutOver)
    }

    pub(super) fn status(&self, now: Nanos) -> MoveStatus {
        let progress = &self.progress;
        let elapsed = progress.elapsed(now);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).max(1);
        MoveStatus {
            id: self.id,
            entity: self.opening.entity.clone(),
            from: self.opening.from.0,
            to: self.opening.to.0,
            phase: progress.phase.get(),
            base_rows: progress.base_rows.get(),
            base_bytes: progress.base_bytes.get(),
            linked_bytes: progress.linked_bytes.get(),
            log_rows: progress.log_rows.get(),
            log_bytes: progress.log_bytes.get(),
            lag_bytes: progress.lag_bytes.get(),
            restarts: progress.restarts.get(),
            began_ms: progress.began_ms,
            elapsed,
            bytes_per_second: progress.bytes().saturating_mul(1_000_000) / micros,
            copying_after: progress.copying.get().map(|copying| copying.since(progress.began)),
            fenced_after: progress.fenced.get().map(|fenced| fenced.since(progress.began)),
            pause: progress.pause.get(),
            failure: progress.failure.borrow().clone(),
            shadow: self.probation.report(now),
        }
    }
}
