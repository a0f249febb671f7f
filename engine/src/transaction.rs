//! An optimistic transaction, as data: what was read, and what is to be written if none of it has changed.
//!
//! Refuses to lock: reads are remembered with the version they saw, and the commit validates them.

use std::collections::BTreeMap;

use crate::batch::{Op, WriteBatch};
use crate::entry::Expiry;
use crate::error::{Error, Result};
use crate::ids::Version;

/// What was seen of a row: its version, or that there was none.
pub type Seen = Option<Version>;

/// Reads to validate and rows to write. Filled through `get_in` of a client or shard and the methods here, committed
/// through `commit`; dropped without that, it never was.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    pub(crate) batch: WriteBatch,
    /// By storage key.
    pub(crate) reads: BTreeMap<Vec<u8>, Seen>,
}

impl Transaction {
    /// Nothing read, nothing to write.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a row at the commit. Reads before the commit do not see it.
    ///
    /// # Errors
    /// As [`WriteBatch::put`].
    pub fn put(&mut self, entity: &[u8], row: &[u8], value: &[u8]) -> Result<()> {
        self.batch.put(entity, row, value)
    }

    /// Sets a row that expires, at the commit.
    ///
    /// # Errors
    /// As [`WriteBatch::put`].
    pub fn put_until(&mut self, entity: &[u8], row: &[u8], value: &[u8], expiry: Expiry) -> Result<()> {
        self.batch.put_until(entity, row, value, expiry)
    }

    /// Removes a row at the commit.
    ///
    /// # Errors
    /// As [`WriteBatch::put`].
    pub fn delete(&mut self, entity: &[u8], row: &[u8]) -> Result<()> {
        self.batch.delete(entity, row)
    }

    /// An operation by storage key, done at the commit.
    ///
    /// # Errors
    /// As [`WriteBatch::put`].
    pub fn push(&mut self, op: &Op<'_>) -> Result<()> {
        self.batch.push_checked(op)
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.batch.is_empty()
    }

    /// Remembers what a read of a storage key saw: the row's version, or none where there was no row.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the same row was seen otherwise before.
    pub fn saw(&mut self, key: Vec<u8>, seen: Seen) -> Result<()> {
        if *self.reads.entry(key).or_insert(seen) == seen { Ok(()) } else { Err(Error::Conflict) }
    }

    /// Any key in it: where it is sent first.
    pub(crate) fn first_key(&self) -> Option<&[u8]> {
        let written = self.batch.first().map(|op: Op<'_>| op.key());
        written.or_else(|| self.reads.keys().next().map(Vec::as_slice))
    }
}

impl From<WriteBatch> for Transaction {
    fn from(batch: WriteBatch) -> Self {
        Self { batch, reads: BTreeMap::new() }
    }
}
