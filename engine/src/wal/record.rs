//! What a batch holds: records, and the row operations in them. `engine/FORMAT.md`, "WAL", owns the layouts.
//!
//! Written straight into the batch's buffer, read borrowed from it. A record is the effect of a command, never the
//! command. Refuses on reading whatever no writer writes: each record has one encoding.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::buffer::Buffer;
use super::format::Invalid;
use crate::entry::Expiry;
use crate::ids::{EditNumber, Epoch, Incarnation, Index, PartitionId, ShardId, Version};
use crate::limits::{PARTITIONS_MAX, STORAGE_KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// What every record starts with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecordHeader {
    /// Whose record it is.
    pub partition: PartitionId,
    /// The partition's configuration when it was written.
    pub epoch: Epoch,
    /// Its place among the partition's records; a copy carries its original's.
    pub index: Index,
    /// Partition time (R6), milliseconds since 1970.
    pub time_ms: u64,
}

/// A transaction over several partitions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TxId {
    /// The opening of the store in which it began.
    pub incarnation: Incarnation,
    /// The shard that coordinates it.
    pub shard: ShardId,
    /// Counts that shard's transactions.
    pub number: u64,
}

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Its rows count, with this version.
    Commit(Version),
    /// Its rows never were.
    Abort,
}

/// What one row, or a range of rows, becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowOp<'a> {
    /// The row has this value.
    Put {
        /// Storage key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
        /// When it stops being one.
        expiry: Expiry,
        /// The write that made it.
        version: Version,
    },
    /// The row is gone.
    Delete {
        /// Storage key.
        key: &'a [u8],
        /// The delete's version.
        version: Version,
    },
    /// Every row in `start..end` with a smaller version is gone.
    DeleteRange {
        /// First storage key covered.
        start: &'a [u8],
        /// First storage key not covered.
        end: &'a [u8],
        /// The delete's version.
        version: Version,
    },
}

/// What kind of record to write; the rows of a `Write` or `Prepare` are given through [`RowWriter`].
#[derive(Clone, Copy, Debug)]
pub enum Intent<'a> {
    /// Rows of one partition.
    Write,
    /// Rows that count if the transaction commits. A copy is the same, written again at the head so that the log
    /// before can go; it consumes no index.
    Prepare {
        /// The transaction.
        tx: TxId,
        /// All its partitions, the deciding one first.
        participants: &'a [PartitionId],
        /// Whether it repeats an earlier record.
        copy: bool,
    },
    /// The transaction commits: written by its first partition.
    Decide {
        /// The transaction.
        tx: TxId,
        /// The version its rows get.
        version: Version,
        /// All its partitions, the deciding one first.
        participants: &'a [PartitionId],
        /// Whether it repeats an earlier record.
        copy: bool,
    },
    /// The outcome has reached this partition.
    Resolve {
        /// The transaction.
        tx: TxId,
        /// How it ended.
        outcome: Outcome,
    },
    /// Partition time went on; nothing else happened.
    Time,
}

/// A record, borrowed from its batch.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Whose, and where in that partition's sequence. All zero for [`Body::Witness`].
    pub header: RecordHeader,
    /// What it says.
    pub body: Body<'a>,
}

/// What a record says: see [`Intent`].
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Rows of one partition.
    Write(Rows<'a>),
    /// Rows of a transaction.
    Prepare {
        /// The transaction.
        tx: TxId,
        /// All its partitions, the deciding one first.
        participants: Participants<'a>,
        /// Its rows here.
        rows: Rows<'a>,
        /// Whether it repeats an earlier record.
        copy: bool,
    },
    /// The transaction commits.
    Decide {
        /// The transaction.
        tx: TxId,
        /// The version its rows get.
        version: Version,
        /// All its partitions.
        participants: Participants<'a>,
        /// Whether it repeats an earlier record.
        copy: bool,
    },
    /// The outcome has reached this partition.
    Resolve {
        /// The transaction.
        tx: TxId,
        /// How it ended.
        outcome: Outcome,
    },
    /// Partition time went on.
    Time,
    /// Manifest edits that are durable (R2). No partition's record: its header is zero.
    Witness(Witnesses<'a>),
}

/// The partitions of a transaction, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Participants<'a>(&'a [U32]);

impl Participants<'_> {
    /// All of them, the deciding one first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = PartitionId> + '_ {
        self.0.iter().map(|id| PartitionId(id.get()))
    }
}

/// Pairs of a partition and the number of its newest durable manifest edit, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Witnesses<'a>(&'a [RawWitness]);

impl Witnesses<'_> {
    /// All pairs.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (PartitionId, EditNumber)> + '_ {
        self.0.iter().map(|w| (PartitionId(w.partition.get()), EditNumber(w.edit.get())))
    }
}

/// The row operations of a record, borrowed. An item is an error only if the log was written by another program:
/// a batch's checksum has matched before.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a>(&'a [u8]);

impl<'a> Rows<'a> {
    /// Rows as they stand in a record.
    #[must_use]
    pub const fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// As they stand in the record: what [`RowWriter::rows`] repeats.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<RowOp<'a>, Invalid>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        match decode_row(self.0) {
            Ok((row, rest)) => {
                self.0 = rest;
                Some(Ok(row))
            }
            Err(invalid) => {
                self.0 = &[];
                Some(Err(invalid))
            }
        }
    }
}

/// Writes a record's rows into the batch's buffer.
#[derive(Debug)]
pub struct RowWriter<'a> {
    out: &'a mut Buffer,
}

impl RowWriter<'_> {
    /// One operation.
    ///
    /// # Panics
    /// When a key or value is over its limit: the caller has checked it and told its caller.
    #[inline]
    pub fn push(&mut self, row: &RowOp<'_>) {
        match *row {
            RowOp::Put { key, value, expiry, version } => self.put(key, value, expiry, version),
            RowOp::Delete { key, version } => self.delete(key, version),
            RowOp::DeleteRange { start, end, version } => self.delete_range(start, end, version),
        }
    }

    /// Sets a row.
    #[inline]
    pub fn put(&mut self, key: &[u8], value: &[u8], expiry: Expiry, version: Version) {
        let value_bytes = u32::try_from(value.len()).expect("checked against VALUE_BYTES_MAX");
        let head = RawPut {
            kind: if expiry == Expiry::NEVER { PUT } else { PUT_EXPIRING },
            key_bytes: key_bytes(key),
            value_bytes: U32::new(value_bytes),
            version: U64::new(version.0),
        };
        if expiry == Expiry::NEVER {
            self.out.push([head.as_bytes(), key, value]);
        } else {
            self.out.push([head.as_bytes(), &expiry.0.to_le_bytes(), key, value]);
        }
    }

    /// Deletes a row.
    #[inline]
    pub fn delete(&mut self, key: &[u8], version: Version) {
        let head = RawDelete { kind: DELETE, key_bytes: key_bytes(key), version: U64::new(version.0) };
        self.out.push([head.as_bytes(), key]);
    }

    /// Deletes the rows in `start..end`.
    #[inline]
    pub fn delete_range(&mut self, start: &[u8], end: &[u8], version: Version) {
        let head = RawDeleteRange {
            kind: DELETE_RANGE,
            start_bytes: key_bytes(start),
            end_bytes: key_bytes(end),
            version: U64::new(version.0),
        };
        self.out.push([head.as_bytes(), start, end]);
    }

    /// Repeats rows of another record as they are.
    pub fn rows(&mut self, rows: Rows<'_>) {
        self.out.push([rows.as_bytes()]);
    }
}

/// Appends a record to `out`. Returns its length.
#[inline]
pub(super) fn encode(
    out: &mut Buffer,
    header: &RecordHeader,
    intent: &Intent<'_>,
    rows: impl FnOnce(&mut RowWriter<'_>),
) -> usize {
    let at = out.len();
    let raw = RawRecord {
        record_bytes: U32::new(0),
        kind: kind_of(intent),
        reserved: [0; 3],
        partition: U32::new(header.partition.0),
        epoch: U64::new(header.epoch.0),
        index: U64::new(header.index.0),
        time_ms: U64::new(header.time_ms),
    };
    out.push([raw.as_bytes()]);
    match intent {
        Intent::Write => rows(&mut RowWriter { out }),
        Intent::Prepare { tx, participants, .. } => {
            out.push([RawTx::of(*tx).as_bytes()]);
            encode_participants(out, participants);
            rows(&mut RowWriter { out });
        }
        Intent::Decide { tx, version, participants, .. } => {
            out.push([RawTx::of(*tx).as_bytes(), &version.0.to_le_bytes()]);
            encode_participants(out, participants);
        }
        Intent::Resolve { tx, outcome } => {
            let (code, version) = match outcome {
                Outcome::Commit(version) => (1, version.0),
                Outcome::Abort => (0, 0),
            };
            out.push([RawTx::of(*tx).as_bytes(), &[code], &version.to_le_bytes()]);
        }
        Intent::Time => {}
    }
    finish(out, at)
}

/// Appends a record of witnesses to `out`. Returns its length.
pub(super) fn encode_witnesses(
    out: &mut Buffer,
    witnesses: impl Iterator<Item = (PartitionId, EditNumber)>,
) -> usize {
    let at = out.len();
    out.push([RawRecord { kind: WITNESS, ..RawRecord::ZERO }.as_bytes()]);
    for (partition, edit) in witnesses {
        let raw = RawWitness { partition: U32::new(partition.0), edit: U64::new(edit.0) };
        out.push([raw.as_bytes()]);
    }
    finish(out, at)
}

impl Record<'_> {
    /// The record written anew: the bytes it was decoded from, since each record has one encoding.
    ///
    /// # Errors
    /// [`Invalid`] when its rows are not rows.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Invalid> {
        let mut out = Buffer::with_capacity(0);
        let (header, none) = (&self.header, |_: &mut RowWriter<'_>| {});
        match self.body {
            Body::Write(rows) => {
                let rows = rows.collect::<Result<Vec<_>, _>>()?;
                encode(&mut out, header, &Intent::Write, |w| rows.iter().for_each(|row| w.push(row)));
            }
            Body::Prepare { tx, participants, rows, copy } => {
                let rows = rows.collect::<Result<Vec<_>, _>>()?;
                let participants: Vec<_> = participants.iter().collect();
                let intent = Intent::Prepare { tx, participants: &participants, copy };
                encode(&mut out, header, &intent, |w| rows.iter().for_each(|row| w.push(row)));
            }
            Body::Decide { tx, version, participants, copy } => {
                let participants: Vec<_> = participants.iter().collect();
                let intent = Intent::Decide { tx, version, participants: &participants, copy };
                encode(&mut out, header, &intent, none);
            }
            Body::Resolve { tx, outcome } => {
                encode(&mut out, header, &Intent::Resolve { tx, outcome }, none);
            }
            Body::Time => {
                encode(&mut out, header, &Intent::Time, none);
            }
            Body::Witness(witnesses) => {
                encode_witnesses(&mut out, witnesses.iter());
            }
        }
        Ok(out.as_slice().to_vec())
    }
}

/// The record at the front of `bytes`, and what follows it.
///
/// # Errors
/// [`Invalid`], for bytes that no writer makes. The rows inside are checked as they are read.
pub fn decode(bytes: &[u8]) -> Result<(Record<'_>, &[u8]), Invalid> {
    let (raw, _) = RawRecord::ref_from_prefix(bytes).map_err(|_| Invalid::Short)?;
    if raw.reserved != [0; 3] {
        return Err(Invalid::Field("reserved bytes"));
    }
    let record_bytes =
        usize::try_from(raw.record_bytes.get()).map_err(|_| Invalid::Field("record length"))?;
    let (record, rest) = bytes.split_at_checked(record_bytes).ok_or(Invalid::Field("record length"))?;
    let body = record.get(RECORD_HEADER_BYTES..).ok_or(Invalid::Field("record length"))?;
    let header = RecordHeader {
        partition: PartitionId(raw.partition.get()),
        epoch: Epoch(raw.epoch.get()),
        index: Index(raw.index.get()),
        time_ms: raw.time_ms.get(),
    };
    let body = decode_body(raw.kind, body)?;
    if matches!(body, Body::Witness(_)) && header != RecordHeader::default() {
        return Err(Invalid::Field("witness header"));
    }
    Ok((Record { header, body }, rest))
}

fn decode_body(kind: u8, body: &[u8]) -> Result<Body<'_>, Invalid> {
    match kind {
        WRITE => Ok(Body::Write(Rows(body))),
        PREPARE | PREPARE_COPY => {
            let (tx, rest) = decode_tx(body)?;
            let (participants, rows) = decode_participants(rest)?;
            Ok(Body::Prepare { tx, participants, rows: Rows(rows), copy: kind == PREPARE_COPY })
        }
        DECIDE | DECIDE_COPY => {
            let (tx, rest) = decode_tx(body)?;
            let (version, rest) = U64::ref_from_prefix(rest).map_err(|_| Invalid::Short)?;
            let (participants, rest) = decode_participants(rest)?;
            empty(rest)?;
            let version = Version(version.get());
            Ok(Body::Decide { tx, version, participants, copy: kind == DECIDE_COPY })
        }
        RESOLVE => {
            let (tx, rest) = decode_tx(body)?;
            let (raw, rest) = RawOutcome::ref_from_prefix(rest).map_err(|_| Invalid::Short)?;
            empty(rest)?;
            let outcome = match (raw.code, raw.version.get()) {
                (0, 0) => Outcome::Abort,
                (1, version) => Outcome::Commit(Version(version)),
                _ => return Err(Invalid::Field("outcome")),
            };
            Ok(Body::Resolve { tx, outcome })
        }
        TIME => empty(body).map(|()| Body::Time),
        WITNESS => {
            let pairs = <[RawWitness]>::ref_from_bytes(body).map_err(|_| Invalid::Field("witness length"))?;
            Ok(Body::Witness(Witnesses(pairs)))
        }
        _ => Err(Invalid::Field("record kind")),
    }
}

fn decode_row(bytes: &[u8]) -> Result<(RowOp<'_>, &[u8]), Invalid> {
    match bytes.first() {
        Some(&(PUT | PUT_EXPIRING)) => {
            let (raw, rest) = RawPut::ref_from_prefix(bytes).map_err(|_| Invalid::Short)?;
            let (expiry, rest) = if raw.kind == PUT {
                (Expiry::NEVER, rest)
            } else {
                let (at, rest) = U64::ref_from_prefix(rest).map_err(|_| Invalid::Short)?;
                if at.get() == 0 {
                    return Err(Invalid::Field("expiry"));
                }
                (Expiry(at.get()), rest)
            };
            let (key, rest) = take(rest, usize::from(raw.key_bytes.get()), STORAGE_KEY_BYTES_MAX)?;
            let value_bytes = usize::try_from(raw.value_bytes.get()).unwrap_or(usize::MAX);
            let (value, rest) = take(rest, value_bytes, VALUE_BYTES_MAX)?;
            Ok((RowOp::Put { key, value, expiry, version: Version(raw.version.get()) }, rest))
        }
        Some(&DELETE) => {
            let (raw, rest) = RawDelete::ref_from_prefix(bytes).map_err(|_| Invalid::Short)?;
            let (key, rest) = take(rest, usize::from(raw.key_bytes.get()), STORAGE_KEY_BYTES_MAX)?;
            Ok((RowOp::Delete { key, version: Version(raw.version.get()) }, rest))
        }
        Some(&DELETE_RANGE) => {
            let (raw, rest) = RawDeleteRange::ref_from_prefix(bytes).map_err(|_| Invalid::Short)?;
            let (start, rest) = take(rest, usize::from(raw.start_bytes.get()), STORAGE_KEY_BYTES_MAX)?;
            let (end, rest) = take(rest, usize::from(raw.end_bytes.get()), STORAGE_KEY_BYTES_MAX)?;
            Ok((RowOp::DeleteRange { start, end, version: Version(raw.version.get()) }, rest))
        }
        Some(_) => Err(Invalid::Field("row kind")),
        None => Err(Invalid::Short),
    }
}

fn take(bytes: &[u8], count: usize, max: usize) -> Result<(&[u8], &[u8]), Invalid> {
    if count > max {
        return Err(Invalid::Field("row length"));
    }
    bytes.split_at_checked(count).ok_or(Invalid::Short)
}

fn decode_tx(bytes: &[u8]) -> Result<(TxId, &[u8]), Invalid> {
    let (raw, rest) = RawTx::ref_from_prefix(bytes).map_err(|_| Invalid::Short)?;
    let tx = TxId {
        incarnation: Incarnation(raw.incarnation.get()),
        shard: ShardId(raw.shard.get()),
        number: raw.number.get(),
    };
    Ok((tx, rest))
}

fn decode_participants(bytes: &[u8]) -> Result<(Participants<'_>, &[u8]), Invalid> {
    let (count, rest) = U32::ref_from_prefix(bytes).map_err(|_| Invalid::Short)?;
    let count = usize::try_from(count.get()).unwrap_or(usize::MAX);
    if count > PARTITIONS_MAX {
        return Err(Invalid::Field("participant count"));
    }
    let (ids, rest) = <[U32]>::ref_from_prefix_with_elems(rest, count).map_err(|_| Invalid::Short)?;
    Ok((Participants(ids), rest))
}

fn encode_participants(out: &mut Buffer, participants: &[PartitionId]) {
    let count =
        u32::try_from(participants.len()).expect("a transaction has at most PARTITIONS_MAX partitions");
    out.push([&count.to_le_bytes()[..]]);
    for id in participants {
        out.push([&id.0.to_le_bytes()[..]]);
    }
}

fn empty(rest: &[u8]) -> Result<(), Invalid> {
    if rest.is_empty() { Ok(()) } else { Err(Invalid::Field("record length")) }
}

/// Fills in the length of the record that began `at`.
#[inline]
fn finish(out: &mut Buffer, at: usize) -> usize {
    let record_bytes = out.len() - at;
    let length = u32::try_from(record_bytes).expect("a batch of rows is bounded by BATCH_BYTES_MAX");
    out.patch(at, length.to_le_bytes());
    record_bytes
}

#[inline]
fn key_bytes(key: &[u8]) -> U16 {
    U16::new(u16::try_from(key.len()).expect("checked against STORAGE_KEY_BYTES_MAX"))
}

const fn kind_of(intent: &Intent<'_>) -> u8 {
    match intent {
        Intent::Write => WRITE,
        Intent::Prepare { copy: false, .. } => PREPARE,
        Intent::Prepare { copy: true, .. } => PREPARE_COPY,
        Intent::Decide { copy: false, .. } => DECIDE,
        Intent::Decide { copy: true, .. } => DECIDE_COPY,
        Intent::Resolve { .. } => RESOLVE,
        Intent::Time => TIME,
    }
}

const WRITE: u8 = 1;
const PREPARE: u8 = 2;
const DECIDE: u8 = 3;
const RESOLVE: u8 = 4;
const PREPARE_COPY: u8 = 5;
const DECIDE_COPY: u8 = 6;
const TIME: u8 = 7;
const WITNESS: u8 = 8;

const PUT: u8 = 1;
const PUT_EXPIRING: u8 = 2;
const DELETE: u8 = 3;
const DELETE_RANGE: u8 = 4;

/// A record's header.
pub(super) const RECORD_HEADER_BYTES: usize = size_of::<RawRecord>();
/// One pair of a witness record.
pub(super) const WITNESS_BYTES: usize = size_of::<RawWitness>();

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRecord {
    record_bytes: U32,
    kind: u8,
    reserved: [u8; 3],
    partition: U32,
    epoch: U64,
    index: U64,
    time_ms: U64,
}

impl RawRecord {
    const ZERO: Self = Self {
        record_bytes: U32::ZERO,
        kind: 0,
        reserved: [0; 3],
        partition: U32::ZERO,
        epoch: U64::ZERO,
        index: U64::ZERO,
        time_ms: U64::ZERO,
    };
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawTx {
    incarnation: U64,
    shard: U16,
    number: U64,
}

impl RawTx {
    const fn of(tx: TxId) -> Self {
        Self {
            incarnation: U64::new(tx.incarnation.0),
            shard: U16::new(tx.shard.0),
            number: U64::new(tx.number),
        }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawOutcome {
    code: u8,
    version: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
struct RawWitness {
    partition: U32,
    edit: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawPut {
    kind: u8,
    key_bytes: U16,
    value_bytes: U32,
    version: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawDelete {
    kind: u8,
    key_bytes: U16,
    version: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawDeleteRange {
    kind: u8,
    start_bytes: U16,
    end_bytes: U16,
    version: U64,
}

const _: () = assert!(RECORD_HEADER_BYTES == 36 && size_of::<RawTx>() == 18 && WITNESS_BYTES == 12);
const _: () = assert!(size_of::<RawPut>() == 15 && size_of::<RawDelete>() == 11);
const _: () = assert!(size_of::<RawDeleteRange>() == 13 && size_of::<RawOutcome>() == 9);
