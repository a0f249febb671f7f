//! Rows about to be inserted into memtables: where each will go is fetched from memory before the first is.
//!
//! One after the other, each insert would wait for its leaf. Here every pass is a short loop over all rows that reads one
//! thing and nothing that depends on it, so that a core has many of their cache misses under way at once.

use std::fmt;
use std::hint::black_box;
use std::rc::Rc;

use super::Memtable;

/// Leaves of memtables, to be fetched. Used again, to keep its allocation.
#[derive(Default)]
pub(crate) struct Ahead {
    leaves: Vec<(Rc<Memtable>, u32)>,
}

impl Ahead {
    /// Notes where `key` will go.
    pub(crate) fn find(&mut self, memtable: &Rc<Memtable>, key: &[u8]) {
        let leaf = memtable.rows.borrow().tree.leaf_near(key);
        self.leaves.push((Rc::clone(memtable), leaf));
    }

    /// Fetches what was noted, and forgets it.
    pub(crate) fn fetch(&mut self) {
        let each = |touch: fn(&Memtable, u32) -> u64| {
            black_box(self.leaves.iter().fold(0, |seen, (memtable, leaf)| seen ^ touch(memtable, *leaf)));
        };
        each(|memtable, leaf| memtable.rows.borrow().tree.touch_len(leaf));
        each(|memtable, leaf| memtable.rows.borrow().tree.touch_end(leaf));
        self.leaves.clear();
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ahead({} leaves)", self.leaves.len())
    }
}
