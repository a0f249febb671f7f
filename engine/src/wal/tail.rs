//! The end of the log that is still in memory: the batch being filled and those closed but not yet written.
//!
//! Does no I/O. A batch's place is fixed when it is begun: after the one before it, or at the front of the next slot
//! when a record does not fit the rest of this one.
//!
//! Invariants:
//! - batch numbers are dense, positions ascend, and no batch crosses a slot's end;
//! - a slot's first batch begins with all witnesses, so that no recycled slot takes one with it.

use std::collections::{BTreeMap, VecDeque};

use super::buffer::Buffer;
use super::codec::{self, RECORD_HEADER_BYTES, WITNESS_BYTES};
use super::format::{BATCH_HEADER_BYTES, BLOCK_BYTES};
use super::log::Ticket;
use super::record::{Intent, RecordHeader};
use super::row::RowWriter;
use crate::error::{Error, Result};
use crate::ids::{EditNumber, Lsn, PartitionId};
use crate::io::buffer::{AlignedBuf, align_up};

/// Buffers kept for reuse: one being filled, one being written, and one closed in between.
const POOL_MAX: usize = 3;

/// A batch before it is written. Its buffer begins with room for the slot's header, if it is a slot's first, then
/// for its own.
#[derive(Debug)]
pub(super) struct Filling {
    pub(super) buffer: Buffer,
    pub(super) number: u64,
    pub(super) lsn: Lsn,
    pub(super) records: u32,
    /// Whether it begins a slot.
    pub(super) first: bool,
}

impl Filling {
    /// Where the batch's own header begins in the buffer.
    pub(super) const fn base(&self) -> usize {
        if self.first { BLOCK_BYTES } else { 0 }
    }

    /// Bytes of the batch in its slot.
    pub(super) const fn batch_bytes(&self) -> usize {
        align_up(self.buffer.len() - self.base())
    }

    pub(super) const fn payload_bytes(&self) -> usize {
        self.buffer.len() - self.base() - BATCH_HEADER_BYTES
    }

    pub(super) const fn end(&self) -> Lsn {
        Lsn(self.lsn.0 + self.batch_bytes() as u64)
    }

    const fn ticket(&self) -> Ticket {
        Ticket { batch: self.number, lsn: self.lsn }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tail {
    file_bytes: u64,
    batch_bytes_max: usize,
    open: Option<Filling>,
    closed: VecDeque<Filling>,
    closed_bytes: usize,
    /// The number of the open batch, or else of the next one to be begun.
    number: u64,
    /// Where the next batch to be begun goes; a slot's start, if it will be a slot's first.
    position: Lsn,
    /// By partition, with the record that said so first.
    witnesses: BTreeMap<PartitionId, (EditNumber, Ticket)>,
    pool: Vec<AlignedBuf>,
}

impl Tail {
    pub(super) const fn new(file_bytes: u64, batch_bytes_max: usize) -> Self {
        Self {
            file_bytes,
            batch_bytes_max,
            open: None,
            closed: VecDeque::new(),
            closed_bytes: 0,
            number: 1,
            position: Lsn(0),
            witnesses: BTreeMap::new(),
            pool: Vec::new(),
        }
    }

    /// Appends a record to the open batch.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a record larger than [`Self::record_bytes_max`]; nothing was appended.
    #[inline]
    pub(super) fn append(
        &mut self,
        header: &RecordHeader,
        intent: &Intent<'_>,
        rows: impl FnOnce(&mut RowWriter<'_>),
    ) -> Result<Ticket> {
        let open = self.open();
        let at = open.buffer.len();
        codec::encode(&mut open.buffer, header, intent, rows);
        self.appended(at)
    }

    /// Appends a witness and remembers it for the slots to come.
    pub(super) fn witness(&mut self, partition: PartitionId, edit: EditNumber) -> Result<Ticket> {
        let known = self.witnesses.len() + usize::from(!self.witnesses.contains_key(&partition));
        if Self::witness_bytes(known) > self.slot_bytes() / 4 {
            let what =
                format!("witnesses of {known} partitions take over a quarter of a log file: use larger ones");
            return Err(Error::misuse(what));
        }
        let open = self.open();
        let at = open.buffer.len();
        codec::encode_witnesses(&mut open.buffer, [(partition, edit)].into_iter());
        let ticket = self.appended(at)?;
        self.witnesses.insert(partition, (edit, ticket));
        Ok(ticket)
    }

    /// The record that said so of this edit or a later one, if one did.
    pub(super) fn witnessed(&self, partition: PartitionId, edit: EditNumber) -> Option<Ticket> {
        self.witnesses.get(&partition).filter(|(known, _)| *known >= edit).map(|(_, ticket)| *ticket)
    }

    /// The oldest closed batch, or else the open one if it holds anything.
    pub(super) fn take(&mut self) -> Option<Filling> {
        if self.closed.is_empty() && self.open.as_ref().is_some_and(|open| open.records > 0) {
            self.close();
        }
        self.take_closed()
    }

    /// A batch although there is no record to write: for what its header says.
    pub(super) fn take_empty(&mut self) -> Filling {
        assert!(self.is_empty(), "records go first");
        self.open();
        self.close();
        self.take_closed().expect("a batch was just closed")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.open.as_ref().is_none_or(|open| open.records == 0)
    }

    /// Gives a written batch's memory back.
    pub(super) fn recycle(&mut self, bytes: AlignedBuf) {
        if self.pool.len() < POOL_MAX && bytes.capacity() <= self.buffer_bytes() {
            self.pool.push(bytes);
        }
    }

    /// The number of the batch that the next record goes into, at the earliest.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Where the next record goes, at the earliest.
    pub(super) fn head(&self) -> Lsn {
        self.open.as_ref().map_or(self.position, |open| open.lsn)
    }

    /// Bytes that wait to be written.
    pub(super) fn pending_bytes(&self) -> usize {
        self.closed_bytes + self.open.as_ref().map_or(0, |open| open.buffer.len())
    }

    /// Where the log would end after one more record of `bytes`, at the latest.
    pub(super) fn end_with(&self, bytes: usize) -> Lsn {
        let fresh = BATCH_HEADER_BYTES + self.table_bytes() + BLOCK_BYTES;
        let (start, used) = match &self.open {
            Some(open) => (open.lsn.0, open.buffer.len() - open.base()),
            None => (self.position.0, fresh),
        };
        let end = start + align_up(used + bytes) as u64;
        let slot_end = (start / self.file_bytes + 1) * self.file_bytes;
        if end <= slot_end { Lsn(end) } else { Lsn(slot_end + align_up(fresh + bytes) as u64) }
    }

    /// The largest record a slot can hold.
    pub(super) fn record_bytes_max(&self) -> usize {
        self.slot_bytes() - BATCH_HEADER_BYTES - self.table_bytes()
    }

    #[inline]
    fn appended(&mut self, at: usize) -> Result<Ticket> {
        let (file_bytes, max) = (self.file_bytes, self.batch_bytes_max);
        let open = self.open();
        open.records += 1;
        if open.lsn.0 % file_bytes + open.batch_bytes() as u64 > file_bytes {
            return self.move_to_next_slot(at);
        }
        let ticket = open.ticket();
        if open.buffer.len() >= max {
            self.close();
        }
        Ok(ticket)
    }

    /// The record that begins `at` in the open batch does not fit this slot any more.
    #[cold]
    fn move_to_next_slot(&mut self, at: usize) -> Result<Ticket> {
        let max = self.record_bytes_max();
        let mut open = self.open.take().expect("the record is in it");
        let record = open.buffer.as_slice()[at..].to_vec();
        open.buffer.truncate(at);
        open.records -= 1;
        if record.len() > max {
            self.open = Some(open);
            let what = format!("log record of {} bytes: a log file holds at most {max}", record.len());
            return Err(Error::misuse(what));
        }
        self.position = Lsn((open.lsn.0 / self.file_bytes + 1) * self.file_bytes);
        if open.records > 0 {
            self.number += 1;
            self.closed_bytes += open.buffer.len();
            self.closed.push_back(open);
        }
        let open = self.open();
        open.buffer.push([&record[..]]);
        open.records += 1;
        assert!(
            open.batch_bytes() as u64 + BLOCK_BYTES as u64 <= self.file_bytes,
            "checked against the maximum"
        );
        Ok(self.open().ticket())
    }

    #[inline]
    fn open(&mut self) -> &mut Filling {
        if self.open.is_none() {
            self.open = Some(self.begin());
        }
        self.open.as_mut().expect("just begun")
    }

    #[cold]
    fn begin(&mut self) -> Filling {
        let first = self.position.0.is_multiple_of(self.file_bytes);
        let mut buffer = match self.pool.pop() {
            Some(bytes) => Buffer::reuse(bytes),
            None => Buffer::with_capacity(self.buffer_bytes()),
        };
        let (number, base) = (self.number, if first { BLOCK_BYTES } else { 0 });
        let lsn = Lsn(self.position.0 + base as u64);
        buffer.skip(base + BATCH_HEADER_BYTES);
        let mut records = 0;
        if first && !self.witnesses.is_empty() {
            codec::encode_witnesses(&mut buffer, self.witnesses.iter().map(|(&p, &(e, _))| (p, e)));
            records = 1;
        }
        Filling { buffer, number, lsn, records, first }
    }

    fn close(&mut self) {
        let open = self.open.take().expect("only an open batch is closed");
        self.number += 1;
        self.position = open.end();
        self.closed_bytes += open.buffer.len();
        self.closed.push_back(open);
    }

    fn take_closed(&mut self) -> Option<Filling> {
        let filling = self.closed.pop_front()?;
        self.closed_bytes -= filling.buffer.len();
        Some(filling)
    }

    /// What a batch's buffer holds without growing: a full batch and one usual record more.
    const fn buffer_bytes(&self) -> usize {
        align_up(self.batch_bytes_max + BLOCK_BYTES) + (64 << 10)
    }

    fn slot_bytes(&self) -> usize {
        usize::try_from(self.file_bytes).expect("checked at creation") - BLOCK_BYTES
    }

    fn table_bytes(&self) -> usize {
        Self::witness_bytes(self.witnesses.len())
    }

    const fn witness_bytes(partitions: usize) -> usize {
        if partitions == 0 { 0 } else { RECORD_HEADER_BYTES + partitions * WITNESS_BYTES }
    }
}
