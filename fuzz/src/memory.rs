//! How much memory a piece of code takes at most: a global allocator that counts, and a bound that is asserted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes this thread has allocated and not freed.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    /// The most of them since it was last reset.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Runs `work`.
///
/// # Panics
/// When it held more than `bytes_max` bytes of memory at any time.
pub fn bounded<T>(bytes_max: usize, work: impl FnOnce() -> T) -> T {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    let held = usize::try_from(PEAK.get() - before).unwrap_or(0);
    assert!(held <= bytes_max, "{held} bytes allocated, at most {bytes_max} are due");
    result
}

/// The system's allocator, counted by thread.
#[derive(Debug)]
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(layout: Layout, sign: isize) {
    // While a thread ends its counters may be gone: what it does then is not measured.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + sign * isize::try_from(layout.size()).unwrap_or(isize::MAX));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(layout, -1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}
