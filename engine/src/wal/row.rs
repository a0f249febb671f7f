//! What a write does to single rows, as it stands in a record. `engine/FORMAT.md`, "Record", owns the layouts.
//!
//! Written straight into the batch's buffer, read borrowed from it. Refuses on reading whatever no writer writes: each
//! operation has one encoding.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::buffer::Buffer;
use super::format::Invalid;
use crate::entry::Expiry;
use crate::ids::Version;
use crate::limits::{STORAGE_KEY_BYTES_MAX, VALUE_BYTES_MAX};

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

    /// The next ones, at most so many rows and, but for one, so many bytes; and those behind them.
    ///
    /// # Errors
    /// [`Invalid`], as the rows themselves.
    pub fn split(self, rows_max: usize, bytes_max: usize) -> Result<(Self, Self), Invalid> {
        let (all, mut rest) = (self.0, self);
        let used = |rest: &Self| all.len() - rest.0.len();
        for _ in 0..rows_max {
            if used(&rest) >= bytes_max || rest.next().transpose()?.is_none() {
                break;
            }
        }
        Ok((Self(&all[..used(&rest)]), rest))
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

/// Rows by themselves, as they would stand in a record: on their way from one partition to another.
#[derive(Debug)]
pub struct RowSet {
    bytes: Buffer,
    count: u64,
}

impl Default for RowSet {
    fn default() -> Self {
        Self { bytes: Buffer::with_capacity(0), count: 0 }
    }
}

impl RowSet {
    /// Adds one.
    ///
    /// # Panics
    /// As [`RowWriter::push`].
    pub fn push(&mut self, row: &RowOp<'_>) {
        RowWriter::new(&mut self.bytes).push(row);
        self.count += 1;
    }

    /// Rows that came from elsewhere.
    ///
    /// # Errors
    /// [`Invalid`], for bytes that no writer makes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut set = Self::default();
        for row in Rows::from_bytes(bytes) {
            set.push(&row?);
        }
        Ok(set)
    }

    /// All of them.
    #[must_use]
    pub fn rows(&self) -> Rows<'_> {
        Rows::from_bytes(self.bytes.as_slice())
    }

    /// How many.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Bytes that they take.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Writes a record's rows into the batch's buffer.
#[derive(Debug)]
pub struct RowWriter<'a> {
    out: &'a mut Buffer,
}

impl<'a> RowWriter<'a> {
    pub(super) const fn new(out: &'a mut Buffer) -> Self {
        Self { out }
    }

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

#[inline]
fn key_bytes(key: &[u8]) -> U16 {
    U16::new(u16::try_from(key.len()).expect("checked against STORAGE_KEY_BYTES_MAX"))
}

const PUT: u8 = 1;
const PUT_EXPIRING: u8 = 2;
const DELETE: u8 = 3;
const DELETE_RANGE: u8 = 4;

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

const _: () = assert!(size_of::<RawPut>() == 15 && size_of::<RawDelete>() == 11);
const _: () = assert!(size_of::<RawDeleteRange>() == 13);
