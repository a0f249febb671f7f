//! Records as bytes: written at the end of a batch's buffer, read borrowed from a batch. `engine/FORMAT.md`, "Record",
//! owns the layouts.
//!
//! Refuses on reading whatever no writer writes: each record has one encoding.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::buffer::Buffer;
use super::format::Invalid;
use super::record::{Body, Intent, Outcome, Participants, Record, RecordHeader, TxId, Witnesses};
use super::row::{RowWriter, Rows};
use crate::ids::{EditNumber, Epoch, Incarnation, Index, PartitionId, ShardId, Version};
use crate::limits::PARTITIONS_MAX;

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
        Intent::Write => rows(&mut RowWriter::new(out)),
        Intent::Prepare { tx, participants, .. } => {
            out.push([RawTx::of(*tx).as_bytes()]);
            encode_participants(out, participants);
            rows(&mut RowWriter::new(out));
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
        WRITE => Ok(Body::Write(Rows::from_bytes(body))),
        PREPARE | PREPARE_COPY => {
            let (tx, rest) = decode_tx(body)?;
            let (participants, rows) = decode_participants(rest)?;
            Ok(Body::Prepare { tx, participants, rows: Rows::from_bytes(rows), copy: kind == PREPARE_COPY })
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
pub(super) struct RawWitness {
    pub(super) partition: U32,
    pub(super) edit: U64,
}

const _: () = assert!(RECORD_HEADER_BYTES == 36 && size_of::<RawTx>() == 18 && WITNESS_BYTES == 12);
const _: () = assert!(size_of::<RawOutcome>() == 9);
