//! Aligned buffers for O_DIRECT.
//!
//! A buffer is owned: it moves into an operation and comes back with the result, so that the kernel never sees
//! memory that somebody else may free or change.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// What every O_DIRECT offset, length and address here is a multiple of. A device that asks for more is refused
/// when a file is opened.
pub const ALIGNMENT: usize = 4096;

/// Heap bytes that start at a multiple of [`ALIGNMENT`] and whose length is one too. Zeroed when made.
pub struct AlignedBuf {
    /// Over-allocated by one alignment, so that an aligned start lies inside whatever the allocator returned.
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuf {
    /// A zeroed buffer of at least `len` bytes, rounded up to the alignment.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let len = align_up(len);
        let bytes = vec![0; len + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        assert!(start < ALIGNMENT, "a byte pointer can always be aligned within one alignment");
        Self { bytes, start, len }
    }

    /// A buffer that starts with `data` and is zero after it.
    #[must_use]
    pub fn from_slice(data: &[u8]) -> Self {
        let mut buf = Self::zeroed(data.len());
        buf[..data.len()].copy_from_slice(data);
        buf
    }

    /// The largest length it can have without allocating.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.len() - ALIGNMENT
    }

    /// Shortens it, or lengthens it again within its capacity: then it ends with what stood there before.
    ///
    /// # Panics
    /// When `len`, rounded up to the alignment, is more than the capacity.
    pub fn set_len(&mut self, len: usize) {
        let len = align_up(len);
        assert!(len <= self.capacity(), "a buffer never grows in place");
        self.len = len;
    }

    /// Checks what every disk asks of its callers.
    ///
    /// # Panics
    /// When the buffer is empty or the offset is not aligned.
    pub fn assert_io(&self, offset: u64) {
        assert!(
            offset.is_multiple_of(ALIGNMENT as u64) && !self.is_empty(),
            "I/O of {} bytes at {offset} is not aligned or is empty",
            self.len
        );
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len)
    }
}

/// `n` rounded up to a multiple of [`ALIGNMENT`].
#[must_use]
pub const fn align_up(n: usize) -> usize {
    n.next_multiple_of(ALIGNMENT)
}

/// `n` rounded up to a multiple of [`ALIGNMENT`], for file offsets.
#[must_use]
pub const fn align_up_u64(n: u64) -> u64 {
    n.next_multiple_of(ALIGNMENT as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_is_aligned_and_zero() {
        for len in [0, 1, 4095, 4096, 4097, 1 << 20] {
            let buf = AlignedBuf::zeroed(len);
            assert_eq!(buf.as_ptr().align_offset(ALIGNMENT), 0);
            assert_eq!(buf.len() % ALIGNMENT, 0);
            assert!(buf.len() >= len && buf.iter().all(|&b| b == 0));
        }
    }
}
