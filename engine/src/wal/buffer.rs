//! The bytes of a batch while it is being filled: an aligned buffer and how much of it is used.
//!
//! Grows only for a record larger than a usual batch; otherwise one allocation serves batch after batch.

use crate::io::buffer::{ALIGNMENT, AlignedBuf};

/// An aligned buffer that is appended to.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: AlignedBuf,
    used: usize,
}

impl Buffer {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: AlignedBuf::zeroed(capacity.max(ALIGNMENT)), used: 0 }
    }

    /// An empty buffer in the memory of one that was written.
    pub(super) fn reuse(mut bytes: AlignedBuf) -> Self {
        bytes.set_len(bytes.capacity());
        Self { bytes, used: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.used
    }

    /// Forgets everything from `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        assert!(len <= self.used, "truncation only shortens");
        self.used = len;
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    /// Appends `count` bytes, whose content is whatever stood there, for the caller to fill.
    pub(super) fn skip(&mut self, count: usize) {
        self.reserve(count);
        self.used += count;
    }

    /// Appends the parts one after the other.
    #[inline]
    pub(super) fn push<const N: usize>(&mut self, parts: [&[u8]; N]) {
        let count: usize = parts.iter().map(|part| part.len()).sum();
        self.reserve(count);
        let mut at = self.used;
        let bytes = &mut *self.bytes;
        for part in parts {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.used = at;
    }

    /// Overwrites four bytes already appended.
    #[inline]
    pub(super) fn patch(&mut self, at: usize, with: [u8; 4]) {
        assert!(at + 4 <= self.used, "only what was appended is patched");
        self.bytes[at..at + 4].copy_from_slice(&with);
    }

    /// Zeroes up to the alignment and gives the buffer up for writing.
    pub(super) fn finish(mut self) -> AlignedBuf {
        let end = self.used.next_multiple_of(ALIGNMENT);
        self.bytes[self.used..end].fill(0);
        self.bytes.set_len(end);
        self.bytes
    }

    #[inline]
    fn reserve(&mut self, count: usize) {
        if self.bytes.len() - self.used < count {
            self.grow(count);
        }
    }

    #[cold]
    fn grow(&mut self, count: usize) {
        let mut larger = AlignedBuf::zeroed((self.used + count).max(self.bytes.len() * 2));
        larger[..self.used].copy_from_slice(&self.bytes[..self.used]);
        self.bytes = larger;
    }
}
