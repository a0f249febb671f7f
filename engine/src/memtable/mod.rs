//! The rows of a partition that are not in segments yet: every version of each, in storage order.
//!
//! It knows nothing of commits, snapshots or expiry, and applies no range tombstone: it keeps them, and who reads
//! applies them. It never gives memory back before it is dropped; [`Memtable::into_pieces`] drops it in slices.
//!
//! Invariants:
//! - a (key, version) is there at most once, and is never changed or removed;
//! - a cursor sees every entry that was there when it was placed, in order and once, whatever is inserted meanwhile.

mod ahead;
mod arena;
mod sorter;
mod tree;

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;

use crate::entry::{Entry, RangeTombstone};
use crate::ids::Version;
use crate::tombstones::RangeTombstones;
pub(crate) use ahead::Ahead;
use arena::{Arena, Held};
pub(crate) use sorter::Sorter;
use tree::{Place, Tree};

/// Entries in memory, sorted. Of one thread.
#[derive(Debug)]
pub struct Memtable {
    rows: RefCell<Rows>,
    tombstones: RefCell<RangeTombstones>,
    /// Counts inserts: a cursor whose count differs finds its place again. Where it does not, no leaf that the cursor has
    /// a place in was put in order since.
    changes: Cell<u64>,
}

#[derive(Debug)]
struct Rows {
    arena: Arena,
    tree: Tree,
}

impl Rows {
    fn seek(&mut self, key: &[u8], version: Version) -> Option<Place> {
        self.tree.seek(&self.arena, key, version)
    }

    fn after(&mut self, place: Place) -> Option<Place> {
        self.tree.after(&self.arena, place)
    }
}

impl Memtable {
    /// An empty memtable.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rows: RefCell::new(Rows { arena: Arena::default(), tree: Tree::new() }),
            tombstones: RefCell::default(),
            changes: Cell::new(0),
        }
    }

    /// Adds `entry`; its key and value are within [`crate::limits`]. If its (key, version) is there already,
    /// nothing happens: replaying a record twice is harmless.
    pub fn insert(&self, entry: Entry<'_>) {
        let Rows { arena, tree } = &mut *self.rows.borrow_mut();
        tree.insert(arena, &entry);
        self.changes.set(self.changes.get() + 1);
    }

    /// Adds a range tombstone.
    pub fn delete_range(&self, tombstone: RangeTombstone) {
        self.tombstones.borrow_mut().add(tombstone);
    }

    /// Gives `f` the newest entry of `key` with a version of at most `at`; range tombstones are not applied.
    /// `f` must not use the memtable: even a read may put a leaf in order.
    pub fn get<R>(&self, key: &[u8], at: Version, f: impl FnOnce(Entry<'_>) -> R) -> Option<R> {
        let place = self.rows.borrow_mut().seek(key, at)?;
        let rows = self.rows.borrow();
        let entry = rows.arena.entry(rows.tree.handle(place));
        (entry.key == key).then(|| f(entry))
    }

    /// The range tombstones.
    pub fn tombstones(&self) -> Ref<'_, RangeTombstones> {
        self.tombstones.borrow()
    }

    /// Memory in use: what a flush gives back.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let rows = self.rows.borrow();
        rows.arena.bytes() + rows.tree.bytes() + self.tombstones.borrow().bytes()
    }

    /// How many entries there are; range tombstones do not count, and what was put in twice does until it is looked at.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.borrow().tree.rows()
    }

    /// Whether there is neither an entry nor a range tombstone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows() == 0 && self.tombstones.borrow().is_empty()
    }

    /// A cursor, placed nowhere: seek first.
    #[must_use]
    pub fn cursor(self: &Rc<Self>) -> MemtableCursor {
        MemtableCursor { table: Rc::clone(self), place: None, changes: 0, held: Held::Copied(Vec::new()) }
    }

    /// The memtable as pieces to drop one by one: dropping a large one at once would hold the shard for
    /// milliseconds.
    #[must_use]
    pub fn into_pieces(self) -> Pieces {
        Pieces(self.rows.into_inner())
    }
}

impl Default for Memtable {
    fn default() -> Self {
        Self::new()
    }
}

/// What is left of a memtable that is being dropped.
#[derive(Debug)]
pub struct Pieces(Rows);

impl Pieces {
    /// Frees about a megabyte; false when nothing is left.
    pub fn free_one(&mut self) -> bool {
        self.0.arena.free_chunk() || self.0.tree.free_chunk()
    }
}

/// Walks a memtable in storage order. It keeps the entry it is at (copied if small, shared if large), so that the
/// memtable may change, and its reader may wait, while the entry is in use.
#[derive(Debug)]
pub struct MemtableCursor {
    table: Rc<Memtable>,
    place: Option<Place>,
    changes: u64,
    held: Held,
}

impl MemtableCursor {
    /// Goes to the first entry at or after (key, version): [`Version::MAX`] for the key's newest.
    pub fn seek(&mut self, key: &[u8], version: Version) {
        let mut rows = self.table.rows.borrow_mut();
        self.place = rows.seek(key, version);
        self.changes = self.table.changes.get();
        if let Some(place) = self.place {
            rows.arena.hold(rows.tree.handle(place), &mut self.held);
        }
    }

    /// The entry the cursor is at; `None` past the last one and before the first seek.
    #[must_use]
    pub fn entry(&self) -> Option<Entry<'_>> {
        self.place.map(|_| self.held.entry())
    }

    /// Goes to the next entry; past the last one it stays there until it is told to seek.
    pub fn advance(&mut self) {
        let Some(mut place) = self.place else { return };
        let mut rows = self.table.rows.borrow_mut();
        if self.changes != self.table.changes.get() {
            let entry = self.held.entry();
            place = rows.seek(entry.key, entry.version).expect("entries are never removed");
            self.changes = self.table.changes.get();
        }
        self.place = rows.after(place);
        if let Some(place) = self.place {
            rows.tree.touch_from(place, &rows.arena);
            rows.arena.hold(rows.tree.handle(place), &mut self.held);
        }
    }
}

#[cfg(test)]
mod tests;
