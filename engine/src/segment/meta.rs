//! What a manifest says of a segment: enough to place it in its level, to skip it in a lookup, and to know that the
//! file found is the file meant.
//!
//! Invariants:
//! - `first..=last` covers every entry and every range tombstone of the segment;
//! - `bytes` and `checksum` name one file content: a file that differs in either is not this segment.

use crate::entry::Expiry;
use crate::ids::{SegmentId, Version};

/// A segment as its manifest describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentMeta {
    /// The segment's number; also its file name.
    pub id: SegmentId,
    /// The level it lies in; 0 is where flushes go.
    pub level: u8,
    /// The file's length.
    pub bytes: u64,
    /// Entries, deletes included, range tombstones not.
    pub rows: u64,
    /// The whole file's checksum, as in its footer.
    pub checksum: u32,
    /// Smallest storage key covered by an entry or a range tombstone.
    pub first: Vec<u8>,
    /// Largest storage key of an entry, or the (exclusive) end of a range tombstone if that is larger.
    pub last: Vec<u8>,
    /// Smallest version of an entry or range tombstone.
    pub version_min: Version,
    /// Largest version of an entry or range tombstone.
    pub version_max: Version,
    /// Entries that delete their row.
    pub deletes: u64,
    /// Range tombstones.
    pub range_tombstones: u64,
    /// When it was built, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The earliest expiry among its entries; [`Expiry::NEVER`] if none expires.
    pub expiry_min: Expiry,
}

impl SegmentMeta {
    /// Whether an entry or range tombstone for `key` can be in it.
    #[must_use]
    pub fn may_cover(&self, key: &[u8]) -> bool {
        self.first.as_slice() <= key && key <= self.last.as_slice()
    }

    /// Whether it can hold an entry or range tombstone that touches `start..=end`.
    #[must_use]
    pub fn overlaps(&self, start: &[u8], end: &[u8]) -> bool {
        self.first.as_slice() <= end && start <= self.last.as_slice()
    }
}
