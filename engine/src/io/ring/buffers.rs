//! Receive buffers that the kernel picks from when bytes arrive: idle connections hold none.
//!
//! Invariants:
//! - a buffer is either the kernel's (its entry is in the ring) or in the hands of exactly one [`Received`];
//! - the memory outlives the ring it is registered with: the queue holds both, and drops the ring first.
#![expect(unsafe_code, reason = "memory shared with the kernel by address")]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::Waker;

use io_uring::types::BufRingEntry;

use super::queue::Ring;
use crate::io::buffer::AlignedBuf;

/// The buffers of one ring: its group number 0.
pub(super) struct Buffers {
    /// `count` entries, shared with the kernel; the tail is in the first one's reserved bytes.
    entries: *mut BufRingEntry,
    /// `count` times `bytes_each` bytes.
    data: *mut u8,
    count: u16,
    bytes_each: u32,
    tail: Cell<u16>,
    /// Buffers in the hands of a [`Received`].
    taken: Cell<u16>,
    /// Who waits for a buffer to come back.
    waiting: RefCell<Vec<Waker>>,
    /// Owners of the memory that `entries` and `data` point into; not touched through these.
    _memory: [AlignedBuf; 2],
}

/// The buffer group's number.
pub(super) const GROUP: u16 = 0;

impl Buffers {
    /// Registers `count` (a power of two) buffers of `bytes_each` with the ring.
    pub(super) fn register(ring: &Ring, count: u16, bytes_each: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two() && bytes_each > 0, "the kernel's ring has a power of two of entries");
        let mut entries = AlignedBuf::zeroed(usize::from(count) * size_of::<BufRingEntry>());
        let mut data = AlignedBuf::zeroed(usize::from(count) * bytes_each as usize);
        let buffers = Self {
            entries: entries.as_mut_ptr().cast(),
            data: data.as_mut_ptr(),
            count,
            bytes_each,
            tail: Cell::new(0),
            taken: Cell::new(0),
            waiting: RefCell::default(),
            _memory: [entries, data],
        };
        let address = buffers.entries as u64;
        // SAFETY: the memory is page-aligned, has `count` entries, and lives until after the ring is destroyed: the
        // queue that the caller puts it into owns both, and drops the ring first; should the caller not get there, it
        // is because the kernel refused.
        ring.with_submitter(|submitter| unsafe {
            submitter.register_buf_ring_with_flags(address, count, GROUP, 0)
        })?;
        for number in 0..count {
            buffers.give(number);
        }
        Ok(buffers)
    }

    /// Takes a filled buffer over from the kernel.
    pub(super) fn take(self: &Rc<Self>, number: u16, len: u32) -> Received {
        assert!(number < self.count && len <= self.bytes_each, "the kernel keeps to what was registered");
        self.taken.set(self.taken.get() + 1);
        Received { source: Source::Provided { buffers: Rc::clone(self), number }, len: len as usize }
    }

    /// Wakes `waker` when a buffer has come back. False: one is free already.
    pub(super) fn wait(&self, waker: &Waker) -> bool {
        let all_taken = self.taken.get() == self.count;
        if all_taken {
            self.waiting.borrow_mut().push(waker.clone());
        }
        all_taken
    }

    /// Hands a buffer to the kernel.
    fn give(&self, number: u16) {
        let tail = self.tail.get();
        // SAFETY: masked to below `count`, so within the entries.
        let entry = unsafe { self.entries.add(usize::from(tail & (self.count - 1))) };
        // SAFETY: aligned and within our memory. The kernel reads an entry only once the tail has passed it, and no
        // other reference exists: this is the only place that makes one, on the only thread.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.buffer(number) as u64);
        entry.set_len(self.bytes_each);
        entry.set_bid(number);
        // SAFETY: `entries` is the ring's base, page-aligned and initialised to zeros.
        let shared_tail = unsafe { BufRingEntry::tail(self.entries) };
        // SAFETY: a u16 at an even address in memory that lives as long as we do; the kernel too takes it as an
        // atomic, and the exclusive reference to the first entry above has ended.
        let shared_tail = unsafe { AtomicU16::from_ptr(shared_tail.cast_mut()) };
        self.tail.set(tail.wrapping_add(1));
        shared_tail.store(tail.wrapping_add(1), Ordering::Release);
    }

    fn buffer(&self, number: u16) -> *mut u8 {
        assert!(number < self.count, "a buffer's number");
        // SAFETY: `number` is below `count`: within the data.
        unsafe { self.data.add(usize::from(number) * self.bytes_each as usize) }
    }

    /// Whether the kernel has few left: less than a quarter.
    pub(super) fn are_short(&self) -> bool {
        self.taken.get() > self.count / 4 * 3
    }

    /// Nobody needs a filled buffer any more.
    fn come_back(&self, number: u16) {
        self.taken.set(self.taken.get() - 1);
        self.give(number);
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }
}

/// Bytes that arrived. Dropping them lets the buffer be filled again.
pub struct Received {
    source: Source,
    len: usize,
}

enum Source {
    /// One of the ring's buffers.
    Provided { buffers: Rc<Buffers>, number: u16 },
    /// A buffer of their own, where the kernel cannot pick.
    Owned(Box<[u8]>),
}

impl Received {
    pub(super) fn owned(bytes: Box<[u8]>, len: usize) -> Self {
        assert!(len <= bytes.len(), "the kernel keeps to the buffer");
        Self { source: Source::Owned(bytes), len }
    }

    /// Gives the ring's buffer back, keeping its bytes.
    pub(super) fn detach(&mut self) {
        if matches!(self.source, Source::Provided { .. }) {
            let bytes: Box<[u8]> = Box::from(&**self);
            let len = bytes.len();
            // The assignment drops the buffer, which lets it be filled again.
            *self = Self::owned(bytes, len);
        }
    }
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.source {
            Source::Owned(bytes) => &bytes[..self.len],
            Source::Provided { buffers, number } => {
                let start = buffers.buffer(*number);
                // SAFETY: `len` initialised bytes (zeroed when made) within one buffer, checked in `take`. The kernel
                // does not write to it before it is given back, which only our drop does.
                unsafe { std::slice::from_raw_parts(start, self.len) }
            }
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Source::Provided { buffers, number } = &self.source {
            buffers.come_back(*number);
        }
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received({} bytes)", self.len)
    }
}
