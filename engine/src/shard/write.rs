//! Admitting and applying writes to local partitions.
//!
//! A write is admitted first: refused when the shard has failed or the device is full, delayed when compaction or
//! flushes fall behind, so that it is never suddenly stopped. Then it waits for locks, and then goes into log and
//! memtable in one turn. It is acknowledged when it is committed.
//!
//! Invariants:
//! - nothing is awaited between finding the rows unlocked and applying;
//! - a batch too long for one turn is built aside, behind the partition's gate, and attached in one step.

use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future;

use super::route::Hops;
use super::{Owned, Shard};
use crate::batch::{Op, WriteBatch};
use crate::counters::Load;
use crate::error::{Error, Result};
use crate::ids::Version;
use crate::memtable::Memtable;
use crate::partition::locks::{Arrival, Locks, Span};
use crate::partition::{Partition, insert_into};
use crate::wal::Ticket;

/// A batch with more rows, or more bytes, is built aside: inserting it in place would take longer than a turn may.
const ROWS_IN_PLACE_MAX: usize = 128;
const BYTES_IN_PLACE_MAX: usize = 128 << 10;

impl Shard {
    /// Writes one row, wherever it lives.
    pub(crate) async fn write_one(self: &Rc<Self>, entity: &[u8], op: &Op<'_>) -> Result<()> {
        let mut hops = Hops::default();
        loop {
            let home = self.map().home_of(op.key());
            let Some(owned) = self.local(home) else { break };
            match self.write_counted(&owned, entity, op).await {
                Err(Error::Moved { version }) => hops.next(self, version).await?,
                done => return done,
            }
        }
        let sent = Arc::new((WriteBatch::of(op), entity.to_vec()));
        self.routed(op.key(), move |shard, home| {
            let sent = Arc::clone(&sent);
            async move {
                let (batch, entity) = &*sent;
                let owned = shard.owned(home)?;
                match batch.first() {
                    Some(op) => shard.write_counted(&owned, entity, &op).await,
                    None => Ok(()),
                }
            }
        })
        .await
    }

    async fn write_counted(&self, owned: &Owned, entity: &[u8], op: &Op<'_>) -> Result<()> {
        let work = self.write_local(&owned.partition, std::slice::from_ref(op));
        let (result, service) = self.meter.run(self.runtime(), work).await;
        let load =
            Load { writes: 1, bytes_in: op.payload_bytes(), service_nanos: service.nanos, ..Load::default() };
        self.count(owned, entity, op.key(), (&load, service), &result);
        result
    }

    /// Writes rows of one local partition and waits until they are committed.
    pub(crate) async fn write_local(&self, partition: &Partition, ops: &[Op<'_>]) -> Result<()> {
        let ticket = self.apply(partition, ops).await?;
        self.common.wal().committed(ticket).await
    }

    /// Admits and applies; the rows are visible here, to be told when the ticket is committed. The caller has found in
    /// this turn that they belong here.
    ///
    /// # Errors
    /// [`Error::Moved`] when they have left while this waited.
    pub(super) async fn apply(&self, partition: &Partition, ops: &[Op<'_>]) -> Result<Ticket> {
        let bytes = ops.iter().map(Op::bytes).sum();
        let frees = is_freeing(ops);
        let (departed, latest) = (partition.departed(), partition.locks.borrow().latest());
        loop {
            partition.wait_for_taps(ops).await;
            self.admit(bytes, frees).await?;
            if partition.is_open() {
                break;
            }
            wait_for_locks(partition, ops, latest).await?;
            // Others who waited may have taken the room.
            if self.common.wal().is_ready(bytes)? {
                break;
            }
        }
        partition.still_here(departed)?;
        self.apply_unlocked(partition, ops).await
    }

    /// Applies rows that nobody else can touch.
    pub(super) async fn apply_unlocked(&self, partition: &Partition, ops: &[Op<'_>]) -> Result<Ticket> {
        let bytes = ops.iter().map(Op::bytes).sum();
        let ticket =
            if is_long(ops) { self.apply_aside(partition, ops).await? } else { partition.write(ops)? };
        self.wrote(partition, bytes);
        Ok(ticket)
    }

    /// Builds a long batch in a memtable of its own, yielding, and attaches it in one step.
    async fn apply_aside(&self, partition: &Partition, ops: &[Op<'_>]) -> Result<Ticket> {
        let _gate = Gate::close(partition);
        let bytes = ops.iter().map(Op::bytes).sum();
        loop {
            let version = partition.version().next();
            let aside = self.build_aside(ops, version).await;
            self.log_room(bytes, is_freeing(ops)).await?;
            // No write takes a version behind the gate. Transactions that were prepared before it closed may commit
            // at a later one; they are few, and none begins.
            if partition.version().next() == version {
                return partition.write_aside(ops, version, aside);
            }
        }
    }

    /// A memtable with these rows at `version`, built in slices.
    pub(crate) async fn build_aside(&self, ops: &[Op<'_>], version: Version) -> Memtable {
        let aside = Memtable::default();
        let mut slice = self.runtime().slice();
        for op in ops {
            insert_into(&aside, op, version);
            slice.pause().await;
        }
        aside
    }

    /// Returns when a write of `bytes` may go ahead.
    pub(crate) async fn admit(&self, bytes: usize, frees: bool) -> Result<()> {
        loop {
            let relieved = self.relieved.changed();
            self.refuse(frees)?;
            if self.pacing.pressure() < 1.0 {
                break;
            }
            self.refuse_waiting()?;
            relieved.await;
        }
        if self.pacing.pressure() > 0.0
            && let Some(until) = self.pacing.hold(self.runtime().now(), bytes)
        {
            self.runtime().sleep_until(until).await;
        }
        self.log_room(bytes, frees).await
    }

    /// Returns when `bytes` of rows that arrive from elsewhere may be taken in.
    pub(super) async fn admit_import(&self, partition: &Partition, bytes: usize) -> Result<()> {
        loop {
            self.admit(bytes, false).await?;
            if !partition.gate.get() {
                return Ok(());
            }
            partition.unlocked.until(|| !partition.gate.get()).await;
        }
    }

    /// Returns when the log takes `bytes`. Whoever waits when the device fills is told.
    pub(super) async fn log_room(&self, bytes: usize, frees: bool) -> Result<()> {
        while !self.common.wal().is_ready(bytes)? {
            let relieved = self.relieved.changed();
            let ready = async { self.common.wal().ready(bytes).await.map(|()| true) };
            let news = async {
                relieved.await;
                Ok(false)
            };
            if future::or(ready, news).await? {
                break;
            }
            self.refuse(frees)?;
            self.refuse_waiting()?;
        }
        Ok(())
    }

    /// An error when waiting for a flush is waiting for somebody to make room on the device.
    fn refuse_waiting(&self) -> Result<()> {
        if self.space.is_exhausted() { Err(self.space.error()) } else { Ok(()) }
    }

    /// An error when writes cannot be taken at all.
    fn refuse(&self, frees: bool) -> Result<()> {
        if let Some(e) = self.common.wal().failed() {
            return Err(e);
        }
        if let Some(e) = self.broken.get() {
            return Err(Error::Stopped(e.to_string().into()));
        }
        if self.space.is_full() && !frees {
            return Err(self.space.error());
        }
        Ok(())
    }

    /// After a write: seals what is full, and looks at the pressure now and then.
    pub(crate) fn wrote(&self, partition: &Partition, bytes: usize) {
        let full = partition.active_bytes() >= self.pacing.seal_bytes;
        if full {
            partition.seal();
        }
        if self.pacing.is_look_due(bytes) || full {
            self.look();
        }
    }
}

/// Whether it only removes: a full device takes it.
fn is_freeing(ops: &[Op<'_>]) -> bool {
    ops.iter().all(|op| !matches!(op, Op::Put { .. }))
}

/// Whether inserting rows in place would take longer than a turn may.
pub(super) fn is_long(ops: &[Op<'_>]) -> bool {
    ops.len() > ROWS_IN_PLACE_MAX || ops.iter().map(Op::bytes).sum::<usize>() > BYTES_IN_PLACE_MAX
}

/// Waits until no transaction, no fence and no gate stands in the way of these rows; of those that are queued, none that came
/// after `latest`.
async fn wait_for_locks(partition: &Partition, ops: &[Op<'_>], latest: Arrival) -> Result<()> {
    let spans: Vec<Span> = ops.iter().map(Span::of).collect();
    let bytes = ops.iter().map(Op::bytes).sum();
    let look = |locks: &Locks| locks.obstacle_to_write(&spans, latest).or_gate(partition.is_gated());
    partition.clear(bytes, look).await
}

/// Keeps other writers of a partition waiting until dropped.
struct Gate<'a>(&'a Partition);

impl<'a> Gate<'a> {
    fn close(partition: &'a Partition) -> Self {
        assert!(!partition.gate.replace(true), "one long batch at a time");
        Self(partition)
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        self.0.gate.set(false);
        self.0.unlocked.notify();
    }
}
