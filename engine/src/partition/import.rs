//! Rows of another partition, taken in with the versions that they have.
//!
//! Nobody reads them yet: the table does not name this partition as their owner. Nothing of the range is here before the
//! first of them, so that rows of the log, which come after those of the base, lie above them.
//!
//! Invariant: rows are taken in in the order in which the other partition applied them.

use super::pace::{ENTRIES_PER_LOOK, Pace, Work};
use super::{Partition, insert_into};
use crate::batch::Op;
use crate::entry::{Entry, Expiry, Kind, RangeTombstone};
use crate::error::{Error, Result};
use crate::ids::Version;
use crate::segment::{SegmentBuilder, SegmentMeta};
use crate::wal::{Intent, RowOp, Rows, Ticket};

/// The base of an arrival, on its way into a segment.
#[derive(Debug)]
pub(crate) struct Incoming {
    builder: SegmentBuilder,
}

impl Partition {
    /// Begins a segment for the base of an arrival: older than whatever is flushed from here on.
    ///
    /// # Errors
    /// What making a file says.
    pub(crate) async fn begin_base(&self) -> Result<Incoming> {
        let builder = self.begin_segment(0).await?;
        Ok(Incoming { builder })
    }

    /// Logs rows with their versions and puts them into the memtable. The caller was admitted; no long batch is being
    /// built.
    ///
    /// # Errors
    /// The log's: nothing was applied.
    pub(crate) fn import(&self, rows: Rows<'_>) -> Result<Ticket> {
        assert!(!self.gate.get(), "a batch that is built aside knows the version that comes next");
        let ticket = self.append(&Intent::Write, None, |out| out.rows(rows))?;
        for row in rows {
            let (op, version) = parted(&row.map_err(|what| self.not_rows(&what))?);
            self.uncache(&op);
            insert_into(&self.active.borrow().memtable, &op, version);
            self.lift(version);
        }
        Ok(ticket)
    }

    /// Has partition time be at least this, and logs it (R6).
    ///
    /// # Errors
    /// The log's.
    pub(crate) fn catch_up_time(&self, time_ms: u64) -> Result<Ticket> {
        self.time_ms.set(self.time_ms.get().max(time_ms));
        self.append(&Intent::Time, None, |_| ())
    }

    pub(crate) fn not_rows(&self, what: &dyn std::fmt::Display) -> Error {
        Error::corrupt(&self.dir, 0, format!("rows that move to partition {}: {what}", self.id))
    }
}

impl Incoming {
    /// Adds rows of the base, in storage order; deletions of ranges may come anywhere.
    ///
    /// # Errors
    /// What writing says; when they are no rows.
    pub(crate) async fn push(&mut self, partition: &Partition, rows: Rows<'_>) -> Result<()> {
        let (pace, runtime) = (&partition.common.pace, &partition.common.runtime);
        let (mut slice, mut entries) = (Pace::slice(runtime), 0_u32);
        for row in rows {
            match row.map_err(|what| partition.not_rows(&what))? {
                RowOp::Put { key, value, expiry, version } => {
                    self.builder.push(Entry { key, version, kind: Kind::Put, expiry, value });
                }
                RowOp::Delete { key, version } => {
                    let (kind, expiry) = (Kind::Delete, Expiry::NEVER);
                    self.builder.push(Entry { key, version, kind, expiry, value: b"" });
                }
                RowOp::DeleteRange { start, end, version } => {
                    let (start, end) = (start.to_vec(), end.to_vec());
                    self.builder.push_tombstone(&RangeTombstone { start, end, version });
                }
            }
            if self.builder.is_due() {
                self.builder.flush().await?;
            }
            entries = entries.wrapping_add(1);
            if entries.is_multiple_of(ENTRIES_PER_LOOK) && slice.is_spent() {
                pace.give_way(Work::Move, runtime).await;
                slice.pause().await;
            }
        }
        Ok(())
    }

    /// The segment, durable, and named by no manifest yet.
    ///
    /// # Errors
    /// What writing says.
    pub(crate) async fn finish(self) -> Result<SegmentMeta> {
        self.builder.finish().await
    }

    /// Gives it up.
    pub(crate) async fn abandon(self) {
        self.builder.abandon().await;
    }
}

/// A row's operation, and its version.
fn parted<'a>(row: &RowOp<'a>) -> (Op<'a>, Version) {
    match *row {
        RowOp::Put { key, value, expiry, version } => (Op::Put { key, value, expiry }, version),
        RowOp::Delete { key, version } => (Op::Delete { key }, version),
        RowOp::DeleteRange { start, end, version } => (Op::DeleteRange { start, end }, version),
    }
}
