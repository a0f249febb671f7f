//! Rows as they are applied, copied on the way for whoever follows a range of the partition.
//!
//! Invariants:
//! - what is applied from the tap's turn on is in it, with its version, in the order in which it was applied, once;
//! - a tap holds a bounded number of bytes: above half of them writers of its range wait, and one that overflows anyway
//!   is broken: it holds nothing any more, and says so;
//! - where there is none, a write costs one load more.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use super::Partition;
use crate::batch::Op;
use crate::ids::Version;
use crate::signal::Signal;
use crate::wal::{RowOp, RowSet};

/// What is carried at once: small enough that the other side's turn is short.
const PIECE_BYTES: usize = 64 << 10;

/// The taps of one partition.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    open: RefCell<Vec<Weak<Tap>>>,
    /// As many as `open` has, for those who look at every write.
    count: Cell<usize>,
    /// Told when something was taken out of one, and when one is gone. Who waits for room holds no tap: it would live as
    /// long as they wait.
    relieved: Rc<Signal>,
}

/// One range, followed until it is dropped.
#[derive(Debug)]
pub(crate) struct Tap {
    start: Vec<u8>,
    end: Vec<u8>,
    /// In pieces of about [`PIECE_BYTES`], the last of which is being filled.
    rows: RefCell<VecDeque<RowSet>>,
    bytes: Cell<usize>,
    /// Rows that went in.
    given: Cell<u64>,
    bytes_max: usize,
    /// Writers wait above so many bytes.
    crowded_above: Cell<usize>,
    is_broken: Cell<bool>,
    relieved: Rc<Signal>,
}

impl Tap {
    /// The oldest piece of what came.
    pub(crate) fn take(&self) -> Option<RowSet> {
        let rows = self.rows.borrow_mut().pop_front()?;
        self.bytes.set(self.bytes.get() - rows.bytes());
        self.relieved.notify();
        Some(rows)
    }

    /// Bytes that wait to be taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Rows that have gone in so far: a place in the log.
    pub(crate) fn given(&self) -> u64 {
        self.given.get()
    }

    /// Has writers wait above so many bytes: what follows does not come nearer.
    pub(crate) fn crowd_above(&self, bytes: usize) {
        self.crowded_above.set(bytes);
    }

    /// Whether it overflowed: what it follows must be read anew.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken.get()
    }

    /// Whether writers of its range have to wait.
    pub(crate) fn is_crowded(&self) -> bool {
        self.bytes() > self.crowded_above.get() && !self.is_broken()
    }

    fn applied(&self, ops: &[Op<'_>], version: Version) {
        if self.is_broken() {
            return;
        }
        let mut pieces = self.rows.borrow_mut();
        for op in ops {
            let Some(row) = self.share_of(op, version) else { continue };
            if pieces.back().is_none_or(|piece| piece.bytes() >= PIECE_BYTES) {
                pieces.push_back(RowSet::default());
            }
            let Some(piece) = pieces.back_mut() else { continue };
            let bytes = piece.bytes();
            piece.push(&row);
            self.given.set(self.given() + 1);
            self.bytes.set(self.bytes() + piece.bytes() - bytes);
        }
        if self.bytes() > self.bytes_max {
            pieces.clear();
            self.bytes.set(0);
            self.is_broken.set(true);
            self.relieved.notify();
        }
    }

    /// What of an operation lies in its range.
    fn share_of<'a>(&'a self, op: &Op<'a>, version: Version) -> Option<RowOp<'a>> {
        let covers = |key: &[u8]| self.start.as_slice() <= key && key < self.end.as_slice();
        match *op {
            Op::Put { key, value, expiry } => {
                covers(key).then_some(RowOp::Put { key, value, expiry, version })
            }
            Op::Delete { key } => covers(key).then_some(RowOp::Delete { key, version }),
            Op::DeleteRange { start, end } => {
                let (start, end) = (start.max(&self.start), end.min(&self.end));
                (start < end).then_some(RowOp::DeleteRange { start, end, version })
            }
        }
    }

    fn touches(&self, op: &Op<'_>) -> bool {
        self.share_of(op, Version::ZERO).is_some()
    }
}

impl Taps {
    fn each(&self, f: impl Fn(&Tap)) {
        let mut open = self.open.borrow_mut();
        open.retain(|tap| tap.strong_count() > 0);
        self.count.set(open.len());
        open.iter().filter_map(Weak::upgrade).for_each(|tap| f(&tap));
    }
}

impl Partition {
    /// Follows `start..end` from this turn on, as long as it is held.
    pub(crate) fn tap(&self, start: &[u8], end: &[u8], bytes_max: usize) -> Rc<Tap> {
        let tap = Rc::new(Tap {
            start: start.to_vec(),
            end: end.to_vec(),
            rows: RefCell::default(),
            bytes: Cell::new(0),
            given: Cell::new(0),
            bytes_max,
            crowded_above: Cell::new(bytes_max / 2),
            is_broken: Cell::new(false),
            relieved: Rc::clone(&self.taps.relieved),
        });
        self.taps.open.borrow_mut().push(Rc::downgrade(&tap));
        self.taps.count.set(self.taps.open.borrow().len());
        tap
    }

    /// These were applied.
    #[inline]
    pub(super) fn tapped(&self, ops: &[Op<'_>], version: Version) {
        if self.taps.count.get() > 0 {
            self.taps.each(|tap| tap.applied(ops, version));
        }
    }

    /// Waits until no tap that these would go into is crowded: the entity is written faster than it is copied.
    #[inline]
    pub(crate) async fn wait_for_taps(&self, ops: &[Op<'_>]) {
        while self.taps.count.get() > 0 {
            let relieved = self.taps.relieved.changed();
            if !self.is_crowded(ops) {
                return;
            }
            relieved.await;
        }
    }

    fn is_crowded(&self, ops: &[Op<'_>]) -> bool {
        let open = self.taps.open.borrow();
        let mut taps = open.iter().filter_map(Weak::upgrade);
        taps.any(|tap| tap.is_crowded() && ops.iter().any(|op| tap.touches(op)))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.relieved.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Expiry;

    fn tap(bytes_max: usize) -> Tap {
        let (start, end) = (b"b".to_vec(), b"d".to_vec());
        Tap {
            start,
            end,
            rows: RefCell::default(),
            bytes: Cell::new(0),
            given: Cell::new(0),
            bytes_max,
            crowded_above: Cell::new(bytes_max / 2),
            is_broken: Cell::new(false),
            relieved: Rc::default(),
        }
    }

    fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Op<'a> {
        Op::Put { key, value, expiry: Expiry::NEVER }
    }

    #[test]
    fn only_what_lies_in_the_range_goes_in_and_ranges_are_cut_to_it() {
        let tap = tap(1 << 10);
        tap.applied(&[put(b"a", b"1"), put(b"b", b"2"), Op::Delete { key: b"d" }], Version(7));
        tap.applied(&[Op::DeleteRange { start: b"a", end: b"c" }], Version(8));
        tap.applied(&[Op::DeleteRange { start: b"d", end: b"z" }], Version(9));
        let rows = tap.take().unwrap();
        let rows: Vec<_> = rows.rows().map(Result::unwrap).collect();
        let (version, expiry) = (Version(7), Expiry::NEVER);
        let first = RowOp::Put { key: b"b", value: b"2", expiry, version };
        assert_eq!(rows, [first, RowOp::DeleteRange { start: b"b", end: b"c", version: Version(8) }]);
        assert!(tap.take().is_none() && tap.bytes() == 0);
    }

    #[test]
    fn one_that_overflows_holds_nothing_and_crowds_nobody() {
        let tap = tap(64);
        tap.applied(&[put(b"b", &[0; 30])], Version(1));
        assert!(tap.is_crowded() && !tap.is_broken());
        tap.applied(&[put(b"b", &[0; 30])], Version(2));
        assert!(tap.is_broken() && !tap.is_crowded());
        tap.applied(&[put(b"b", b"")], Version(3));
        assert!(tap.take().is_none() && tap.bytes() == 0);
    }
}
