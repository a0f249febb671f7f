//! Applying log records again, in index order, from one log or several.
//!
//! Records of one partition may lie in several logs, if it changed shards; each log has them in order. A record
//! that comes before its predecessors is kept until they came.
//!
//! Invariants:
//! - records are applied in index order without a gap, those at or below the flushed index not at all;
//! - rows of a transaction are applied where its outcome is: at its resolution, or at the end if a decision is found;
//! - without a decision it never was.

use std::collections::{BTreeMap, btree_map};
use std::rc::Rc;

use super::{Partition, insert_into};
use crate::batch::{Op, WriteBatch};
use crate::entry::{Entry, Expiry, Kind};
use crate::error::{Error, Result};
use crate::ids::{Index, Version};
use crate::memtable::Sorter;
use crate::wal::format::Invalid;
use crate::wal::{Body, Outcome, Record, RecordHeader, RowOp, Rows, TxId};

/// A partition while its logs are read.
#[derive(Debug)]
pub(crate) struct Replay {
    partition: Rc<Partition>,
    prepared: BTreeMap<TxId, WriteBatch>,
    /// Records whose predecessors have not come yet.
    early: BTreeMap<Index, (RecordHeader, Effect)>,
    /// Rows that are not in the memtable yet.
    rows: Sorter,
}

/// What a record does here, copied out of its batch.
#[derive(Debug)]
enum Effect {
    Write(Vec<(WriteBatch, Version)>),
    Prepare(TxId, WriteBatch),
    Resolve(TxId, Outcome),
    Decide(Version),
    Time,
}

impl Replay {
    /// Over a partition opened from its manifest.
    pub(crate) fn new(partition: Partition) -> Self {
        let rows = Sorter::new(partition.common.options.memtable_bytes);
        Self { partition: Rc::new(partition), prepared: BTreeMap::new(), early: BTreeMap::new(), rows }
    }

    /// Memory of rows that a flush would give back.
    pub(crate) fn bytes(&self) -> usize {
        self.partition.active_bytes() + self.rows.bytes()
    }

    /// Seals its rows, for the partition that is returned to flush.
    pub(crate) fn seal(&mut self) -> Rc<Partition> {
        self.sort();
        // Its room too: other partitions may need it.
        self.rows = Sorter::new(self.partition.common.options.memtable_bytes);
        self.partition.seal();
        Rc::clone(&self.partition)
    }

    /// Applies a record, or keeps it until its turn.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a record that contradicts those before it.
    pub(crate) fn record(&mut self, record: &Record<'_>) -> Result<()> {
        let header = record.header;
        if let Body::Prepare { tx, rows, copy, .. } = record.body
            && (copy || header.index <= self.flushed())
        {
            // Its rows may be resolved later than what is flushed; a copy is the same again.
            if !self.prepared.contains_key(&tx) {
                let batch = self.checked(batch_of(rows))?;
                self.prepared.insert(tx, batch);
            }
        }
        let consumes = !matches!(
            record.body,
            Body::Prepare { copy: true, .. } | Body::Decide { copy: true, .. } | Body::Witness(_)
        );
        if !consumes {
            return Ok(());
        }
        if let Body::Resolve { tx, .. } = record.body
            && header.index <= self.flushed()
        {
            self.prepared.remove(&tx);
        }
        let next = self.partition.index().next();
        if header.index < next {
            return Ok(());
        }
        if header.index == next {
            if let Body::Write(rows) = record.body {
                // The common case, straight from the log's buffer.
                self.follow(&header);
                self.insert(rows)?;
            } else {
                let effect = self.checked(Effect::of(&record.body))?;
                self.apply(&header, effect)?;
            }
            self.catch_up()?;
        } else {
            let effect = self.checked(Effect::of(&record.body))?;
            self.early.insert(header.index, (header, effect));
        }
        Ok(())
    }

    /// Ends the replay: decides what is undecided, and makes everything durable in segments.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when records are missing; what a flush says.
    pub(crate) async fn finish(mut self, decisions: &BTreeMap<TxId, Version>) -> Result<()> {
        if let Some(first) = self.early.keys().next() {
            let (from, to) = (self.partition.index().next(), first.0 - 1);
            return Err(self.corrupt(format!("records {from} to {to} of its log are missing")));
        }
        for (tx, batch) in std::mem::take(&mut self.prepared) {
            if let Some(version) = decisions.get(&tx) {
                self.insert_batch(&batch, *version);
            }
        }
        self.sort();
        self.partition.checkpoint().await
    }

    fn catch_up(&mut self) -> Result<()> {
        loop {
            match self.early.first_entry() {
                Some(first) if *first.key() <= self.partition.index() => {
                    first.remove();
                }
                Some(first) if *first.key() == self.partition.index().next() => {
                    let (header, effect) = btree_map::OccupiedEntry::remove(first);
                    self.apply(&header, effect)?;
                }
                Some(_) | None => return Ok(()),
            }
        }
    }

    fn apply(&mut self, header: &RecordHeader, effect: Effect) -> Result<()> {
        self.follow(header);
        match effect {
            Effect::Write(batches) => {
                batches.iter().for_each(|(batch, version)| self.insert_batch(batch, *version));
            }
            Effect::Prepare(tx, batch) => {
                self.prepared.insert(tx, batch);
            }
            Effect::Resolve(tx, outcome) => {
                let Some(batch) = self.prepared.remove(&tx) else {
                    return Err(self.corrupt(format!("{tx:?} is resolved, and its rows are not in the log")));
                };
                match outcome {
                    Outcome::Commit(version) => self.insert_batch(&batch, version),
                    Outcome::Abort => {}
                }
            }
            Effect::Decide(version) => self.partition.lift(version),
            Effect::Time => {}
        }
        Ok(())
    }

    fn follow(&self, header: &RecordHeader) {
        self.partition.index.set(header.index);
        self.partition.time_ms.set(self.partition.time_ms.get().max(header.time_ms));
        self.partition.committed_time_ms.set(self.partition.time_ms.get());
    }

    fn insert(&mut self, rows: Rows<'_>) -> Result<()> {
        for row in rows {
            let (op, version) = unversioned(&self.checked(row)?);
            match op {
                Op::Put { key, value, expiry } => {
                    self.rows.push(&Entry { key, version, kind: Kind::Put, expiry, value });
                }
                Op::Delete { key } => {
                    let (kind, expiry) = (Kind::Delete, Expiry::NEVER);
                    self.rows.push(&Entry { key, version, kind, expiry, value: b"" });
                }
                Op::DeleteRange { .. } => insert_into(&self.partition.active.borrow().memtable, &op, version),
            }
            self.partition.lift(version);
        }
        if self.rows.is_full() {
            self.sort();
        }
        Ok(())
    }

    /// Moves the rows there are into the memtable.
    fn sort(&mut self) {
        self.rows.drain_into(&self.partition.active.borrow().memtable);
    }

    fn checked<T>(&self, decoded: Result<T, Invalid>) -> Result<T> {
        decoded.map_err(|what| self.corrupt(format!("a row in its log: {what}")))
    }

    fn insert_batch(&self, batch: &WriteBatch, version: Version) {
        let active = self.partition.active.borrow();
        for op in batch.ops() {
            insert_into(&active.memtable, &op, version);
        }
        self.partition.lift(version);
    }

    fn flushed(&self) -> Index {
        self.partition.manifest.state().flushed_index
    }

    fn corrupt(&self, what: String) -> Error {
        Error::corrupt(&self.partition.dir, 0, format!("partition {}: {what}", self.partition.id))
    }
}

impl Effect {
    fn of(body: &Body<'_>) -> Result<Self, Invalid> {
        Ok(match *body {
            Body::Write(rows) => Self::Write(batches_of(rows)?),
            Body::Prepare { tx, rows, .. } => Self::Prepare(tx, batch_of(rows)?),
            Body::Resolve { tx, outcome } => Self::Resolve(tx, outcome),
            Body::Decide { version, .. } => Self::Decide(version),
            Body::Time | Body::Witness(_) => Self::Time,
        })
    }
}

/// Rows as a batch, their versions left out: a transaction's rows get one when it commits.
fn batch_of(rows: Rows<'_>) -> Result<WriteBatch, Invalid> {
    let mut batch = WriteBatch::new();
    for row in rows {
        batch.push_op(&unversioned(&row?).0);
    }
    Ok(batch)
}

/// Rows as batches of one version each, in order.
fn batches_of(rows: Rows<'_>) -> Result<Vec<(WriteBatch, Version)>, Invalid> {
    let mut batches: Vec<(WriteBatch, Version)> = Vec::new();
    for row in rows {
        let (op, version) = unversioned(&row?);
        match batches.last_mut().filter(|(_, v)| *v == version) {
            Some((batch, _)) => batch.push_op(&op),
            None => batches.push((WriteBatch::of(&op), version)),
        }
    }
    Ok(batches)
}

fn unversioned<'a>(row: &RowOp<'a>) -> (Op<'a>, Version) {
    match *row {
        RowOp::Put { key, value, expiry, version } => (Op::Put { key, value, expiry }, version),
        RowOp::Delete { key, version } => (Op::Delete { key }, version),
        RowOp::DeleteRange { start, end, version } => (Op::DeleteRange { start, end }, version),
    }
}
