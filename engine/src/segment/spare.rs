//! Buffers for reading blocks, used again: making one costs as much as a cached read, for it has to be zeroed and its
//! memory found.
//!
//! A buffer whose read is dropped half way goes with it; a new one takes its place.

use std::cell::RefCell;
use std::fmt;

use crate::io::buffer::{AlignedBuf, align_up};

/// Buffers kept: as many as reads are usually on their way.
const KEPT_MAX: usize = 64;
/// A larger one is not kept: blocks are read by one page or two.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// The spare buffers of a shard.
#[derive(Default)]
pub(crate) struct Spare {
    buffers: RefCell<Vec<AlignedBuf>>,
    scratch: RefCell<Vec<u8>>,
}

impl Spare {
    /// A buffer of at least `len` bytes; what is in it is of no meaning.
    pub(crate) fn take(&self, len: usize) -> AlignedBuf {
        let kept = if len <= KEPT_BYTES_MAX { self.buffers.borrow_mut().pop() } else { None };
        let mut buffer = kept.unwrap_or_else(|| AlignedBuf::zeroed(len.max(KEPT_BYTES_MAX)));
        buffer.set_len(align_up(len));
        buffer
    }

    /// Gives one back.
    pub(crate) fn give(&self, buffer: AlignedBuf) {
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() < KEPT_MAX && buffer.capacity() == KEPT_BYTES_MAX {
            buffers.push(buffer);
        }
    }

    /// Calls `f` with room to decompress into.
    pub(crate) fn with_scratch<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let mut scratch = self.scratch.take();
        let result = f(&mut scratch);
        if scratch.capacity() <= KEPT_BYTES_MAX {
            self.scratch.replace(scratch);
        }
        result
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spare({} buffers)", self.buffers.borrow().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_taken_again_and_large_ones_are_not_kept() {
        let spare = Spare::default();
        let first = spare.take(5000);
        assert_eq!(first.len(), 8192);
        let at = first.as_ptr();
        spare.give(first);
        let second = spare.take(100);
        assert_eq!((second.as_ptr(), second.len()), (at, 4096));
        let large = spare.take(1 << 20);
        assert_eq!(large.len(), 1 << 20);
        spare.give(large);
        assert_eq!(spare.buffers.borrow().len(), 0);
        for _ in 0..2 * KEPT_MAX {
            spare.give(AlignedBuf::zeroed(KEPT_BYTES_MAX));
        }
        assert_eq!(spare.buffers.borrow().len(), KEPT_MAX);
    }
}
