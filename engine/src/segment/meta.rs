//! What a manifest says of a segment: enough to place it in its level, to skip it in a lookup, and to know that the
//! file found is the file meant.
//!
//! A segment is a view of a file: what it is counts as far as it is `visible`, and several segments, of one partition or
//! of several, may be views of one file, each under a name of its own. Counts and versions are the file's.
//!
//! Invariants:
//! - `first..=last` covers every visible entry and every visible part of a range tombstone;
//! - `origin`, `bytes` and `checksum` name one file content: a file that differs in any is not this segment's;
//! - something is visible; outside of level 0 it is one range, so that a level stays sorted.

use super::ranges::{KeyRange, KeyRanges};
use crate::entry::Expiry;
use crate::ids::{SegmentId, Version};

/// A segment as its manifest describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentMeta {
    /// The segment's number; also its file name.
    pub id: SegmentId,
    /// The number that the file was built under, in the partition that built it: what its footer says.
    pub origin: SegmentId,
    /// The level it lies in; 0 is where flushes go.
    pub level: u8,
    /// The file's length.
    pub bytes: u64,
    /// Entries, deletes included, range tombstones not.
    pub rows: u64,
    /// The whole file's checksum, as in its footer.
    pub checksum: u32,
    /// Smallest storage key covered by a visible entry or range tombstone.
    pub first: Vec<u8>,
    /// Largest storage key of a visible entry, or the (exclusive) end of a range tombstone, or of what is visible, if
    /// that is larger.
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
    /// The keys of the file that count.
    pub visible: KeyRanges,
    /// Bytes of the file that count, exact to a block at each border; `bytes` where all of it does.
    pub visible_bytes: u64,
}

impl SegmentMeta {
    /// Whether a visible entry or range tombstone for `key` can be in it.
    #[must_use]
    pub fn may_cover(&self, key: &[u8]) -> bool {
        self.first.as_slice() <= key && key <= self.last.as_slice() && self.visible.contains(key)
    }

    /// Whether all of its file counts.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.visible.is_everything()
    }

    /// What of it is in `keys`, if anything can be; `visible_bytes`, which only the file's index tells, is as it was.
    #[must_use]
    pub fn within(&self, keys: &KeyRanges) -> Option<Self> {
        let covered = |range: &KeyRange| range.start <= self.last && range.ends_after(&self.first);
        let mut left = self.visible.and(keys).to_vec();
        left.retain(covered);
        let (from, to) = (left.first()?, left.last()?);
        let first = self.first.clone().max(from.start.clone());
        let last = to.end.clone().map_or_else(|| self.last.clone(), |end| end.min(self.last.clone()));
        // What is nowhere cut off is the whole file, however the range around it was meant.
        let is_whole =
            self.is_whole() && left.len() == 1 && from.start <= self.first && to.ends_after(&self.last);
        let visible = if is_whole { KeyRanges::everything() } else { KeyRanges::of(left) };
        Some(Self { first, last, visible, ..self.clone() })
    }

    /// Whether it can hold an entry or range tombstone that touches `start..=end`.
    #[must_use]
    pub fn overlaps(&self, start: &[u8], end: &[u8]) -> bool {
        self.first.as_slice() <= end && start <= self.last.as_slice()
    }
}
