//! Transactions over partitions, as one partition sees them: what it prepared, and what it decided.
//!
//! A prepared transaction has its rows in the log and their locks held, and nothing in a memtable. It is decided in
//! the log of its first partition; each partition then resolves it: rows become visible at the agreed version, locks
//! are freed once the resolution is committed, so that no reader sees half.
//!
//! Invariants:
//! - a prepared record pins the log until it is resolved, a decision until every participant has resolved;
//! - a transaction is prepared, decided and resolved at most once per partition.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::locks::{Arrival, Holder};
use super::{Partition, log_rows};
use crate::batch::{Op, WriteBatch};
use crate::error::Result;
use crate::ids::{Index, Lsn, PartitionId, Version};
use crate::io::buffer::{ALIGNMENT, align_up};
use crate::memtable::Memtable;
use crate::wal::{Intent, Outcome, RecordHeader, Ticket, TxId};

/// What a partition holds of transactions that are not over.
#[derive(Debug, Default)]
pub(crate) struct PreparedSet {
    prepared: BTreeMap<TxId, Prepared>,
    decisions: BTreeMap<TxId, Decision>,
}

/// A transaction between its prepare and its resolution.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) rows: Rc<WriteBatch>,
    pub(crate) index: Index,
    pub(crate) participants: Vec<PartitionId>,
    /// It commits at this version or above.
    pub(crate) floor: Version,
    /// Its record, or the latest copy of it.
    pub(crate) ticket: Ticket,
}

/// A commit decision that some participant may still have to learn.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) version: Version,
    pub(crate) participants: Vec<PartitionId>,
    pub(crate) index: Index,
    pub(crate) ticket: Ticket,
}

impl Prepared {
    /// Room kept in the log: for a copy of the record, and a block each for decision and resolution.
    fn log_bytes(&self) -> u64 {
        let bytes: usize = self.rows.ops().iter().map(Op::bytes).sum();
        (align_up(bytes) + 3 * ALIGNMENT) as u64
    }
}

impl PreparedSet {
    pub(crate) fn prepare(&mut self, tx: TxId, prepared: Prepared) {
        let before = self.prepared.insert(tx, prepared);
        assert!(before.is_none(), "{tx:?} prepared twice");
    }

    /// A transaction's rows, to resolve it. `None` when it was never prepared here, or is resolved.
    pub(crate) fn rows_of(&self, tx: TxId) -> Option<Rc<WriteBatch>> {
        self.prepared.get(&tx).map(|prepared| Rc::clone(&prepared.rows))
    }

    pub(crate) fn decide(&mut self, tx: TxId, decision: Decision) {
        let before = self.decisions.insert(tx, decision);
        assert!(before.is_none(), "{tx:?} decided twice");
    }

    /// Every participant has resolved: the decision need not be remembered.
    pub(crate) fn forget(&mut self, tx: TxId) {
        self.decisions.remove(&tx);
    }

    /// Whether nothing here is still to be decided, or to be learnt by others.
    pub(crate) fn is_empty(&self) -> bool {
        self.prepared.is_empty() && self.decisions.is_empty()
    }

    /// The oldest log position a transaction here needs.
    pub(crate) fn pinned_lsn(&self) -> Option<Lsn> {
        let prepared = self.prepared.values().map(|p| p.ticket.lsn);
        prepared.chain(self.decisions.values().map(|d| d.ticket.lsn)).min()
    }

    /// The record of a prepared transaction.
    pub(crate) fn ticket_of(&self, tx: TxId) -> Option<Ticket> {
        self.prepared.get(&tx).map(|p| p.ticket)
    }
}

impl Partition {
    /// Logs a transaction's rows here and takes its locks at its place in the queue. The lowest version it may commit
    /// at.
    ///
    /// # Errors
    /// The log's: nothing has changed.
    pub(crate) fn prepare(
        &self,
        tx: TxId,
        rows: WriteBatch,
        participants: Vec<PartitionId>,
        place: Arrival,
    ) -> Result<Version> {
        let floor = self.version().next();
        let intent = Intent::Prepare { tx, participants: &participants, copy: false };
        let ticket = self.append(&intent, None, |out| log_rows(out, &rows.ops(), floor))?;
        // A snapshot taken from here on is not below the floor, and waits for the outcome.
        self.lift(floor);
        self.locks.borrow_mut().acquire(place, Holder::Transaction(tx), floor);
        let prepared = Prepared { rows: Rc::new(rows), index: self.index(), participants, floor, ticket };
        self.common.wal().promise(prepared.log_bytes());
        self.prepared.borrow_mut().prepare(tx, prepared);
        Ok(floor)
    }

    /// Logs that a transaction commits. It has, once the ticket is durable.
    ///
    /// # Errors
    /// The log's: nothing has changed.
    pub(crate) fn decide(
        &self,
        tx: TxId,
        version: Version,
        participants: Vec<PartitionId>,
    ) -> Result<Ticket> {
        let intent = Intent::Decide { tx, version, participants: &participants, copy: false };
        let ticket = self.append(&intent, None, |_| ())?;
        let decision = Decision { version, participants, index: self.index(), ticket };
        self.prepared.borrow_mut().decide(tx, decision);
        Ok(ticket)
    }

    /// Logs an outcome, and makes the rows of a commit visible to whoever gets past the locks. The record that has
    /// them stays pinned until the outcome is in the manifest's flushed index: replaying the one takes the other. Rows
    /// too many for one turn come in a memtable of their own, `aside`.
    ///
    /// # Errors
    /// The log's: nothing has changed, but the transaction is taken out.
    pub(crate) fn resolve(
        &self,
        tx: TxId,
        outcome: Outcome,
        aside: Option<Memtable>,
    ) -> Result<Option<Ticket>> {
        let Some(prepared) = self.prepared.borrow_mut().prepared.remove(&tx) else { return Ok(None) };
        self.common.wal().redeem(prepared.log_bytes());
        if aside.is_some() {
            self.seal_rows();
        }
        let ticket = self.append(&Intent::Resolve { tx, outcome }, None, |_| ())?;
        self.pin(prepared.ticket.lsn);
        if let Outcome::Commit(version) = outcome {
            self.lift(version);
            self.cuts.committed(&prepared.rows, version);
        }
        match (aside, outcome) {
            (Some(aside), _) => self.attach(aside),
            (None, Outcome::Commit(version)) => self.insert(&prepared.rows.ops(), version),
            (None, Outcome::Abort) => {}
        }
        if let Outcome::Commit(version) = outcome {
            self.tapped(&prepared.rows.ops(), version);
        }
        Ok(Some(ticket))
    }

    /// Writes what transactions pin below `upto` again at the head of the log, so that what is before can go.
    ///
    /// # Errors
    /// The log's.
    pub(crate) fn rewrite_below(&self, upto: Lsn) -> Result<()> {
        let mut set = self.prepared.borrow_mut();
        for (tx, p) in set.prepared.iter_mut().filter(|(_, p)| p.ticket.lsn < upto) {
            let intent = Intent::Prepare { tx: *tx, participants: &p.participants, copy: true };
            let floor = p.floor;
            p.ticket = self
                .common
                .wal()
                .append(&self.header_at(p.index), &intent, |out| log_rows(out, &p.rows.ops(), floor))?;
        }
        for (tx, d) in set.decisions.iter_mut().filter(|(_, d)| d.ticket.lsn < upto) {
            let intent =
                Intent::Decide { tx: *tx, version: d.version, participants: &d.participants, copy: true };
            d.ticket = self.common.wal().append(&self.header_at(d.index), &intent, |_| ())?;
        }
        Ok(())
    }

    /// The header of a copy: its original's index, today's time.
    fn header_at(&self, index: Index) -> RecordHeader {
        RecordHeader { partition: self.id, epoch: self.epoch, index, time_ms: self.time_ms() }
    }
}
