//! How flushes, compactions and moves share the core with what clients wait for.
//!
//! While operations are served, each works in short slices and leaves the core alone between them, for its share of
//! the time; where nobody is served, and nobody is held back, it takes what there is. Shares rise with what is left to do,
//! up to all of it: a flush that writers will soon wait for gives way to nobody.

use std::cell::Cell;
use std::time::Duration;

use crate::io::runtime::Runtime;
use crate::io::turns::Slice;

/// A slice of background work: what it adds to the wait of an operation that comes meanwhile.
const SLICE: Duration = Duration::from_micros(50);
/// Entries between two looks at the clock: a few microseconds of work.
pub(super) const ENTRIES_PER_LOOK: u32 = 16;
/// The share of a busy core that moves have, at either end: nobody waits for a base, and a fence comes after it.
const MOVE_SHARE: f64 = 0.2;
/// The least share: what is left to do gets done, however busy the core is.
const SHARE_MIN: f64 = 0.05;

/// Which work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    /// A memtable to a segment.
    Flush,
    /// Segments to segments.
    Compaction,
    /// An entity to another partition.
    Move,
}

/// The shares of a shard's background work.
#[derive(Debug)]
pub(crate) struct Pace {
    flush: Share,
    compaction: Share,
    moves: Share,
    /// Operations served; while it stands still nobody is in the way.
    operations: Cell<u64>,
    /// Writers are held back for flushes: what they leave of the core and the device is not for other work.
    is_behind: Cell<bool>,
}

impl Default for Pace {
    fn default() -> Self {
        let [flush, compaction, moves] = [1.0, 1.0, MOVE_SHARE].map(Share::of);
        Self { flush, compaction, moves, operations: Cell::new(0), is_behind: Cell::new(false) }
    }
}

#[derive(Debug)]
struct Share {
    part: Cell<f64>,
    /// The operations when it last gave way.
    seen: Cell<u64>,
}

impl Share {
    const fn of(part: f64) -> Self {
        Self { part: Cell::new(part), seen: Cell::new(0) }
    }
}

impl Pace {
    /// The part of a busy core that `work` may take, 0..=1.
    pub(crate) fn set_share(&self, work: Work, part: f64) {
        self.share(work).part.set(part.clamp(SHARE_MIN, 1.0));
    }

    /// Whether writers are held back until flushes have caught up.
    pub(crate) fn set_behind(&self, is_behind: bool) {
        self.is_behind.set(is_behind);
    }

    /// Somebody was served.
    #[inline]
    pub(crate) fn operation(&self) {
        self.operations.set(self.operations.get().wrapping_add(1));
    }

    /// Starts measuring a slice.
    pub(crate) fn slice(runtime: &Runtime) -> Slice {
        runtime.slice_of(SLICE)
    }

    /// Between two slices: leaves the core to others for their share of the time, if there are any.
    pub(crate) async fn give_way(&self, work: Work, runtime: &Runtime) {
        let share = self.share(work);
        let is_served = share.seen.replace(self.operations.get()) != self.operations.get();
        let is_busy = is_served || (work != Work::Flush && self.is_behind.get());
        let part = share.part.get();
        if is_busy && part < 1.0 {
            runtime.sleep(SLICE.mul_f64((1.0 - part) / part)).await;
        }
    }

    const fn share(&self, work: Work) -> &Share {
        match work {
            Work::Flush => &self.flush,
            Work::Compaction => &self.compaction,
            Work::Move => &self.moves,
        }
    }
}
