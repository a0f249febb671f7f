//! An entity's arrival, on the shard that gets it: what the source's frames have it do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::planted::Bug;
use super::{Busy, Shard};
use crate::error::{Error, Result};
use crate::ids::{MoveId, Version};
use crate::key;
use crate::partition::Partition;
use crate::partition::import::Incoming;
use crate::partition::ingest::{Ingest, Linked};
use crate::partition::mirror::Answer;
use crate::segment::{KeyRange, KeyRanges};
use crate::stream::{Frame, Message, Opening, Receiver, Step, Violation};
use crate::turn::Turnstile;
use crate::wal::{RowOp, RowSet, Ticket};

/// Rows, and bytes of them, that are applied in one turn: as many as a client's batch may have.
const ROWS_PER_TURN: usize = 128;
const BYTES_PER_TURN: usize = 128 << 10;

/// What arrives in one partition.
#[derive(Debug)]
pub(super) struct Arrival {
    partition: Rc<Partition>,
    keys: KeyRange,
    receiver: RefCell<Receiver>,
    /// The base while it is written.
    base: RefCell<Option<Incoming>>,
    base_rows: Cell<u64>,
    /// One frame at a time.
    turn: Turnstile,
    _busy: Busy,
}

impl Shard {
    /// Carries out a frame: what to answer. The base's end comes with the segments that are to be linked.
    pub(super) async fn arriving(self: &Rc<Self>, frame: Frame, linked: Vec<Linked>) -> Result<Frame> {
        let id = frame.id;
        if matches!(frame.message, Message::Open(_)) {
            return self.open_arrival(frame).await;
        }
        let arrival = self.arrival(id)?;
        let _turn = arrival.turn.enter().await;
        let step = arrival.receiver.borrow_mut().handle(frame).map_err(violation)?;
        let ends = matches!(step, Step::Done | Step::Abort);
        self.runtime().named("arrival", Box::pin(arrival.carry_out(self, step, linked))).await?;
        let answer = arrival.receiver.borrow_mut().carried_out();
        if ends {
            self.moves.arrivals.borrow_mut().remove(&id);
        }
        Ok(answer)
    }

    async fn open_arrival(self: &Rc<Self>, frame: Frame) -> Result<Frame> {
        let id = frame.id;
        let (mut receiver, opening) = Receiver::open(frame).map_err(violation)?;
        let partition = self.target_of(&opening)?;
        let mut prefix = Vec::new();
        key::encode_entity(&opening.entity, &mut prefix)?;
        let busy = Busy::take(self, partition.id, &prefix).await;
        partition.expect(&prefix).await?;
        let base = partition.begin_base().await?;
        let answer = receiver.carried_out();
        let arrival = Rc::new(Arrival {
            partition,
            keys: KeyRange::of_prefix(&prefix),
            receiver: RefCell::new(receiver),
            base: RefCell::new(Some(base)),
            base_rows: Cell::new(0),
            turn: Turnstile::default(),
            _busy: busy,
        });
        self.moves.arrivals.borrow_mut().insert(id, arrival);
        Ok(answer)
    }

    /// The partition that an entity is to come to, in the configuration in which it was promised.
    fn target_of(&self, opening: &Opening) -> Result<Rc<Partition>> {
        let (id, epoch) = opening.to;
        let map = self.map();
        let moved = || Error::Moved { version: map.version() };
        let placed = map.state().partitions.get(&id).filter(|entry| entry.placed.epoch == epoch);
        let home = placed.and_then(|_| map.place_of(id)).ok_or_else(moved)?;
        self.partition(home)
    }

    /// Removes what has arrived of a move that is not to be, if there is anything.
    pub(super) async fn forget_arrival(self: &Rc<Self>, id: MoveId) -> Result<()> {
        let Ok(arrival) = self.arrival(id) else { return Ok(()) };
        let _turn = arrival.turn.enter().await;
        if self.moves.arrivals.borrow().contains_key(&id) {
            arrival.remove(self).await?;
            self.moves.arrivals.borrow_mut().remove(&id);
        }
        Ok(())
    }

    /// Reads of what has arrived, for comparison: what is found, and how long each waited for its turn here and took.
    pub(super) async fn ask_shadow(&self, id: MoveId, keys: &[Vec<u8>]) -> Result<Vec<(Answer, Duration)>> {
        let arrival = self.arrival(id)?;
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            let began = self.runtime().now();
            self.runtime().yield_now().await;
            // As whoever came here would wait.
            self.pace_shadow(arrival.partition.id).await;
            let (answer, _) = arrival.partition.answer_of(key).await?;
            answers.push((answer, self.runtime().now().since(began)));
        }
        Ok(answers)
    }

    fn arrival(&self, id: MoveId) -> Result<Rc<Arrival>> {
        let arrival = self.moves.arrivals.borrow().get(&id).cloned();
        arrival.ok_or_else(|| Error::misuse(format!("nothing arrives of move {id}")))
    }
}

impl Arrival {
    async fn carry_out(&self, shard: &Rc<Shard>, step: Step, linked: Vec<Linked>) -> Result<()> {
        match step {
            Step::Base(rows) if shard.common.planted.has(Bug::FlippedByte) => {
                self.add_to_base(&flipped(&rows)?).await
            }
            Step::Base(rows) => self.add_to_base(&rows).await,
            Step::BaseEnd { version, time_ms } => self.end_base(shard, linked, version, time_ms).await,
            Step::Log(rows) => self.apply(shard, &rows).await,
            Step::Last { version, time_ms } => {
                self.partition.lift(version);
                shard.log_room(0, false).await?;
                let ticket = self.partition.catch_up_time(time_ms)?;
                // Later in the log than everything that has arrived.
                self.durable(shard, ticket).await
            }
            Step::Done => Ok(()),
            Step::Abort => self.remove(shard).await,
        }
    }

    async fn add_to_base(&self, rows: &RowSet) -> Result<()> {
        let base = self.base.borrow_mut().take();
        let Some(mut base) = base else { return Err(Error::misuse("a base that has ended")) };
        self.base_rows.set(self.base_rows.get() + rows.count());
        let pushed = base.push(&self.partition, rows.rows()).await;
        *self.base.borrow_mut() = Some(base);
        pushed
    }

    async fn end_base(
        &self,
        shard: &Rc<Shard>,
        linked: Vec<Linked>,
        version_max: Version,
        time_ms: u64,
    ) -> Result<()> {
        let base = self.base.borrow_mut().take();
        let Some(base) = base else { return Err(Error::misuse("a base that has ended")) };
        let built = if self.base_rows.get() == 0 {
            base.abandon().await;
            None
        } else {
            Some(base.finish().await?)
        };
        let keys = self.keys.clone();
        shard.ingest(&self.partition, Ingest { keys, linked, built, version_max, time_ms }).await
    }

    async fn apply(&self, shard: &Rc<Shard>, rows: &RowSet) -> Result<()> {
        let bytes_max = BYTES_PER_TURN.min(shard.common.options.batch_bytes_max() / 2);
        let mut rest = rows.rows();
        loop {
            let split = rest.split(ROWS_PER_TURN, bytes_max);
            let (now, later) = split.map_err(|what| self.partition.not_rows(&what))?;
            let bytes = now.as_bytes().len();
            if bytes == 0 {
                return Ok(());
            }
            shard.admit_import(&self.partition, bytes).await?;
            self.partition.import(now)?;
            shard.wrote(&self.partition, bytes);
            rest = later;
        }
    }

    async fn durable(&self, shard: &Shard, ticket: Ticket) -> Result<()> {
        shard.common.wal().durable(ticket).await
    }

    /// Removes everything that has arrived.
    async fn remove(&self, shard: &Rc<Shard>) -> Result<()> {
        let base = self.base.borrow_mut().take();
        if let Some(base) = base {
            base.abandon().await;
        }
        shard.purge(&self.partition, &KeyRanges::from(self.keys.clone())).await
    }
}

fn violation(violation: Violation) -> Error {
    Error::misuse(violation.to_string())
}

/// The rows, with the last byte of each value another: what [`Bug::FlippedByte`] writes.
fn flipped(rows: &RowSet) -> Result<RowSet> {
    let mut out = RowSet::default();
    for row in rows.rows() {
        match row.map_err(|what| Error::misuse(what.to_string()))? {
            RowOp::Put { key, value, expiry, version } => {
                let mut value = value.to_vec();
                value.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1);
                out.push(&RowOp::Put { key, value: &value, expiry, version });
            }
            other @ (RowOp::Delete { .. } | RowOp::DeleteRange { .. }) => out.push(&other),
        }
    }
    Ok(out)
}
