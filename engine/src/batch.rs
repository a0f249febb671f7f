//! A write batch: rows of any entities, applied all or none.
//!
//! Invariants, once normalised:
//! - at most one operation per row, the last one given: all rows of a batch carry one version;
//! - a row given before a range delete that covers it is gone, one given after it stays;
//! - every size limit has been checked, so that applying cannot fail for the caller's mistakes.

use crate::entry::Expiry;
use crate::error::{Error, Result};
use crate::key;
use crate::limits::{BATCH_BYTES_MAX, BATCH_ROWS_MAX, STORAGE_KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// One operation, by storage key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op<'a> {
    /// The row gets this value.
    Put {
        /// Storage key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
        /// When it stops being one.
        expiry: Expiry,
    },
    /// The row is gone.
    Delete {
        /// Storage key.
        key: &'a [u8],
    },
    /// All rows in `start..end` are gone.
    DeleteRange {
        /// First storage key.
        start: &'a [u8],
        /// First storage key that stays.
        end: &'a [u8],
    },
}

impl<'a> Op<'a> {
    /// The first storage key it touches: where it is routed to.
    #[must_use]
    pub const fn key(&self) -> &'a [u8] {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::DeleteRange { start: key, .. } => key,
        }
    }

    /// Bytes of row key and value that the caller gave, as counters count them.
    #[must_use]
    pub const fn payload_bytes(&self) -> u64 {
        match self {
            Self::Put { key, value, .. } => (key.len() + value.len()) as u64,
            Self::Delete { key } => key.len() as u64,
            Self::DeleteRange { .. } => 0,
        }
    }

    /// Refuses what is over its limit.
    ///
    /// # Errors
    /// [`Error::Misuse`] naming the limit.
    pub fn check(&self) -> Result<()> {
        if self.key().len() > STORAGE_KEY_BYTES_MAX {
            return Err(Error::misuse(format!(
                "storage key of {} bytes: at most {STORAGE_KEY_BYTES_MAX}",
                self.key().len()
            )));
        }
        match self {
            Self::Put { value, .. } => check_value(value),
            Self::Delete { .. } | Self::DeleteRange { .. } => Ok(()),
        }
    }

    const fn stored(&self) -> (StoredKind, &'a [u8]) {
        match *self {
            Self::Put { value, expiry, .. } => (StoredKind::Put(expiry), value),
            Self::Delete { .. } => (StoredKind::Delete, b""),
            Self::DeleteRange { end, .. } => (StoredKind::DeleteRange, end),
        }
    }

    /// Bytes it takes in a log, headers included, never underestimated.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        const HEADER: usize = 32;
        HEADER
            + match self {
                Self::Put { key, value, .. } => key.len() + value.len(),
                Self::Delete { key } => key.len(),
                Self::DeleteRange { start, end } => start.len() + end.len(),
            }
    }
}

/// Rows to be written together, in the order given.
///
/// ```
/// # use foreshard_engine::WriteBatch;
/// let mut batch = WriteBatch::new();
/// batch.put(b"customer:7", b"name", b"Ada")?;
/// batch.delete(b"customer:7", b"draft")?;
/// # Ok::<(), foreshard_engine::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    /// Keys and values, one after the other.
    bytes: Vec<u8>,
    ops: Vec<Stored>,
}

/// An operation whose bytes lie in the batch: `key_end - start` of key (or range start), then value (or range end).
#[derive(Clone, Copy, Debug)]
struct Stored {
    kind: StoredKind,
    start: usize,
    key_end: usize,
    end: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum StoredKind {
    Put(Expiry),
    Delete,
    DeleteRange,
}

impl WriteBatch {
    /// An empty batch.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), ops: Vec::new() }
    }

    /// Sets a row.
    ///
    /// # Errors
    /// [`Error::Misuse`] when a name, key, value or the batch is over its limit ([`crate::limits`]); the batch is
    /// as it was.
    pub fn put(&mut self, entity: &[u8], row: &[u8], value: &[u8]) -> Result<()> {
        self.put_until(entity, row, value, Expiry::NEVER)
    }

    /// Sets a row that expires.
    ///
    /// # Errors
    /// As [`WriteBatch::put`].
    pub fn put_until(&mut self, entity: &[u8], row: &[u8], value: &[u8], expiry: Expiry) -> Result<()> {
        check_value(value)?;
        self.push(StoredKind::Put(expiry), value, |out| key::encode(entity, row, out))
    }

    /// Removes a row.
    ///
    /// # Errors
    /// As [`WriteBatch::put`].
    pub fn delete(&mut self, entity: &[u8], row: &[u8]) -> Result<()> {
        self.push(StoredKind::Delete, b"", |out| key::encode(entity, row, out))
    }

    /// Removes all rows of an entity.
    ///
    /// # Errors
    /// As [`WriteBatch::put`].
    pub fn delete_entity(&mut self, entity: &[u8]) -> Result<()> {
        let mut start = Vec::new();
        key::encode_entity(entity, &mut start)?;
        let end = key::prefix_end(&start).ok_or_else(|| {
            Error::misuse("an entity's prefix ends in its terminator, which has a successor")
        })?;
        self.push(StoredKind::DeleteRange, &end, |out| {
            out.extend_from_slice(&start);
            Ok(())
        })
    }

    /// Adds an operation by storage key.
    ///
    /// # Errors
    /// As [`WriteBatch::put`].
    pub fn push_checked(&mut self, op: &Op<'_>) -> Result<()> {
        op.check()?;
        let (kind, tail) = op.stored();
        self.push(kind, tail, |out| {
            out.extend_from_slice(op.key());
            Ok(())
        })
    }

    /// A batch of one operation, whose sizes were checked.
    pub(crate) fn of(op: &Op<'_>) -> Self {
        let mut batch = Self::new();
        batch.push_op(op);
        batch
    }

    /// Adds an operation whose sizes were checked.
    pub(crate) fn push_op(&mut self, op: &Op<'_>) {
        let (kind, tail) = op.stored();
        let start = self.bytes.len();
        self.bytes.extend_from_slice(op.key());
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(tail);
        self.ops.push(Stored { kind, start, key_end, end: self.bytes.len() });
    }

    /// Bytes it takes in a log, never underestimated.
    pub(crate) fn bytes(&self) -> usize {
        self.ops.iter().map(|op| self.op(op).bytes()).sum()
    }

    /// The operations as they were added: for a batch made of normalised ones.
    pub(crate) fn ops(&self) -> Vec<Op<'_>> {
        self.ops.iter().map(|op| self.op(op)).collect()
    }

    /// The first operation.
    pub(crate) fn first(&self) -> Option<Op<'_>> {
        self.ops.first().map(|op| self.op(op))
    }

    /// Operations in the batch.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether nothing was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The operations, last one per row only, in an order that may differ from the one given but means the same.
    #[must_use]
    pub fn normalised(&self) -> Vec<Op<'_>> {
        if self.ops.len() <= 1 {
            return self.ops.iter().map(|op| self.op(op)).collect();
        }
        let mut kept: Vec<usize> = (0..self.ops.len()).collect();
        // Stable by key, so that of equal keys the last given is last; range deletes stay in place among them.
        let key = |i: &usize| self.op(&self.ops[*i]).key();
        kept.sort_by(|a, b| key(a).cmp(key(b)));
        let ranges: Vec<usize> =
            (0..self.ops.len()).filter(|&i| self.ops[i].kind == StoredKind::DeleteRange).collect();
        let mut out = Vec::with_capacity(kept.len());
        for (at, &i) in kept.iter().enumerate() {
            let op = self.op(&self.ops[i]);
            if self.ops[i].kind == StoredKind::DeleteRange {
                out.push(op);
                continue;
            }
            let replaced = kept[at + 1..]
                .iter()
                .take_while(|&&j| key(&j) == op.key())
                .any(|&j| self.ops[j].kind != StoredKind::DeleteRange);
            let erased = ranges.iter().any(|&r| match self.op(&self.ops[r]) {
                Op::DeleteRange { start, end } => r > i && start <= op.key() && op.key() < end,
                Op::Put { .. } | Op::Delete { .. } => false,
            });
            if !replaced && !erased {
                out.push(op);
            }
        }
        out
    }

    fn push(
        &mut self,
        kind: StoredKind,
        tail: &[u8],
        head: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let start = self.bytes.len();
        if let Err(e) = head(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(e);
        }
        let key_end = self.bytes.len();
        let ops = self.ops.len() + 1;
        if key_end + tail.len() + ops * 32 > BATCH_BYTES_MAX || ops > BATCH_ROWS_MAX {
            self.bytes.truncate(start);
            return Err(Error::misuse(format!(
                "write batch over its limit of {BATCH_BYTES_MAX} bytes or {BATCH_ROWS_MAX} rows: commit it in parts"
            )));
        }
        self.bytes.extend_from_slice(tail);
        self.ops.push(Stored { kind, start, key_end, end: self.bytes.len() });
        Ok(())
    }

    fn op(&self, stored: &Stored) -> Op<'_> {
        let key = &self.bytes[stored.start..stored.key_end];
        let tail = &self.bytes[stored.key_end..stored.end];
        match stored.kind {
            StoredKind::Put(expiry) => Op::Put { key, value: tail, expiry },
            StoredKind::Delete => Op::Delete { key },
            StoredKind::DeleteRange => Op::DeleteRange { start: key, end: tail },
        }
    }
}

/// Refuses a value over its limit.
pub(crate) fn check_value(value: &[u8]) -> Result<()> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Error::misuse(format!("value of {} bytes: at most {VALUE_BYTES_MAX}", value.len())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(batch: &WriteBatch) -> Vec<(String, Option<Vec<u8>>)> {
        let row = |key: &[u8]| String::from_utf8(key::decode(key).unwrap().1.to_vec()).unwrap();
        batch
            .normalised()
            .iter()
            .map(|op| match op {
                Op::Put { key, value, .. } => (row(key), Some(value.to_vec())),
                Op::Delete { key } => (row(key), None),
                Op::DeleteRange { .. } => ("*".into(), None),
            })
            .collect()
    }

    #[test]
    fn the_last_write_of_a_row_wins() {
        let mut batch = WriteBatch::new();
        batch.put(b"e", b"a", b"1").unwrap();
        batch.delete(b"e", b"b").unwrap();
        batch.put(b"e", b"a", b"2").unwrap();
        batch.put(b"e", b"b", b"3").unwrap();
        batch.delete(b"e", b"a").unwrap();
        assert_eq!(normalised(&batch), [("a".into(), None), ("b".into(), Some(b"3".to_vec()))]);
    }

    #[test]
    fn a_range_delete_takes_what_came_before_it_and_leaves_what_comes_after() {
        let mut batch = WriteBatch::new();
        batch.put(b"e", b"before", b"1").unwrap();
        batch.delete_entity(b"e").unwrap();
        batch.put(b"e", b"after", b"2").unwrap();
        let got = normalised(&batch);
        assert_eq!(got, [("*".into(), None), ("after".into(), Some(b"2".to_vec()))]);
    }

    #[test]
    fn what_is_refused_leaves_the_batch_as_it_was() {
        let mut batch = WriteBatch::new();
        batch.put(b"e", b"a", b"1").unwrap();
        assert!(batch.put(b"", b"a", b"1").is_err());
        assert!(batch.put(b"e", b"a", &vec![0; VALUE_BYTES_MAX + 1]).is_err());
        assert!(batch.put(b"e", b"b", &vec![0; VALUE_BYTES_MAX]).is_ok());
        assert!(
            batch.put(b"e", b"c", &vec![0; VALUE_BYTES_MAX]).is_err(),
            "two of them are over the batch limit"
        );
        assert_eq!(batch.len(), 2);
    }
}
