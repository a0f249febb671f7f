//! The block cache: decompressed blocks of a shard's segments, bounded in bytes.
//!
//! One per shard. Each segment has a table with four bytes per block that say where in the cache the block is, so that a
//! cached lookup is two array accesses; a hash table in between cost two cache misses more per read. What makes room
//! is a clock (Corbató, "A paging experiment with the Multics system", 1968) with a small count instead of a bit: a
//! block that was read again since the hand last passed survives, one read once in a scan does not.
//!
//! Invariants:
//! - a table's slot names a held block of that table, and each held block is named by one slot;
//! - the bytes held never exceed `bytes_max`.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use crate::segment::Spare;
use crate::segment::block::Block;
use crate::segment::index::BlockNumber;

/// Memory the cache itself takes for each block held: its entry, its slot, its place among the free ones.
const ENTRY_OVERHEAD_BYTES: u64 = 40;
/// Passes of the hand that a block read again and again survives without being read.
const USES_MAX: u8 = 2;

/// Where a segment's blocks are in the cache. The segment marks it dead when it is dropped.
#[derive(Debug)]
pub(crate) struct Table {
    /// By block number: 0 for one that is not held, else the number of its entry plus 1.
    slots: Vec<Cell<u32>>,
    dead: Cell<bool>,
}

#[derive(Debug)]
struct Held {
    block: Block,
    table: Rc<Table>,
    number: BlockNumber,
    uses: Cell<u8>,
}

#[derive(Debug, Default)]
struct Entries {
    held: Vec<Option<Held>>,
    free: Vec<u32>,
    hand: usize,
    bytes: u64,
    bytes_max: u64,
}

/// Blocks kept in memory, the least useful dropped first.
pub struct BlockCache {
    entries: RefCell<Entries>,
    /// Of those who bring in what is not held.
    pub(crate) spare: Spare,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

/// What a cache has done and holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheStats {
    /// Lookups that found their block.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Bytes held.
    pub bytes: u64,
    /// Bytes that may be held.
    pub bytes_max: u64,
    /// Blocks held.
    pub blocks: u64,
}

impl BlockCache {
    /// An empty cache that will hold up to `bytes_max`.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        let entries = RefCell::new(Entries { bytes_max, ..Entries::default() });
        Self { entries, spare: Spare::default(), hits: Cell::new(0), misses: Cell::new(0) }
    }

    /// Changes how much may be held; what is over is dropped at once.
    pub fn set_bytes_max(&self, bytes_max: u64) {
        let mut entries = self.entries.borrow_mut();
        entries.bytes_max = bytes_max;
        entries.make_room(0);
    }

    /// So many bytes are used elsewhere from here on.
    pub(crate) fn give_up(&self, bytes: u64) {
        if bytes > 0 {
            let mut entries = self.entries.borrow_mut();
            entries.bytes_max = entries.bytes_max.saturating_sub(bytes);
            entries.make_room(0);
        }
    }

    /// What a block takes of it on average, if any is held.
    pub(crate) fn block_bytes(&self) -> Option<u64> {
        let entries = self.entries.borrow();
        entries.bytes.checked_div((entries.held.len() - entries.free.len()) as u64)
    }

    /// Counters and sizes.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let entries = self.entries.borrow();
        CacheStats {
            hits: self.hits.get(),
            misses: self.misses.get(),
            bytes: entries.bytes,
            bytes_max: entries.bytes_max,
            blocks: (entries.held.len() - entries.free.len()) as u64,
        }
    }

    /// A block, if it is held.
    #[inline]
    pub(crate) fn get(&self, table: &Table, number: BlockNumber) -> Option<Block> {
        let slot = table.slots.get(number as usize).map_or(0, Cell::get);
        if slot == 0 {
            self.misses.set(self.misses.get() + 1);
            return None;
        }
        let entries = self.entries.borrow();
        let held = entries.held[slot as usize - 1].as_ref()?;
        // Written only when it changes: a block that is hot stays clean in every cache.
        if held.uses.get() < USES_MAX {
            held.uses.set(held.uses.get() + 1);
        }
        self.hits.set(self.hits.get() + 1);
        Some(held.block.clone())
    }

    /// Holds a block, as long as it is useful.
    pub(crate) fn insert(&self, table: &Rc<Table>, number: BlockNumber, block: Block) {
        let mut entries = self.entries.borrow_mut();
        let bytes = cost(&block);
        let Some(slot) = table.slots.get(number as usize) else { return };
        if slot.get() != 0 || bytes > entries.bytes_max {
            return;
        }
        entries.make_room(bytes);
        let held = Held { block, table: Rc::clone(table), number, uses: Cell::new(0) };
        slot.set(entries.put(held) + 1);
        entries.bytes += bytes;
    }
}

impl Table {
    /// For a segment of so many blocks.
    pub(crate) fn new(blocks: BlockNumber) -> Rc<Self> {
        Rc::new(Self { slots: vec![Cell::new(0); blocks as usize], dead: Cell::new(false) })
    }

    /// Nobody will ask for these blocks again: the hand takes them first.
    pub(crate) fn kill(&self) {
        self.dead.set(true);
    }

    /// Memory it takes.
    pub(crate) const fn bytes(&self) -> usize {
        self.slots.len() * size_of::<u32>()
    }
}

impl Entries {
    /// Drops blocks until `bytes` more fit.
    fn make_room(&mut self, bytes: u64) {
        while self.bytes + bytes > self.bytes_max && self.held.len() > self.free.len() {
            self.hand = if self.hand + 1 < self.held.len() { self.hand + 1 } else { 0 };
            let Some(held) = &self.held[self.hand] else { continue };
            if held.uses.get() > 0 && !held.table.dead.get() {
                held.uses.set(held.uses.get() - 1);
                continue;
            }
            held.table.slots[held.number as usize].set(0);
            self.bytes -= cost(&held.block);
            self.held[self.hand] = None;
            self.free.push(u32::try_from(self.hand).expect("entries are numbered with 32 bits"));
        }
    }

    fn put(&mut self, held: Held) -> u32 {
        if let Some(at) = self.free.pop() {
            self.held[at as usize] = Some(held);
            return at;
        }
        self.held.push(Some(held));
        u32::try_from(self.held.len() - 1).expect("entries are numbered with 32 bits")
    }
}

fn cost(block: &Block) -> u64 {
    block.bytes() as u64 + ENTRY_OVERHEAD_BYTES
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Entry, Expiry, Kind};
    use crate::ids::Version;
    use crate::segment::block::BlockBuilder;

    fn block(value_bytes: usize) -> Block {
        let mut builder = BlockBuilder::default();
        let value = vec![7; value_bytes];
        let entry =
            Entry { key: b"k", version: Version(1), kind: Kind::Put, expiry: Expiry::NEVER, value: &value };
        let relation = builder.relation(&entry);
        builder.push(&entry, relation);
        Block::parse(builder.finish()).unwrap()
    }

    #[test]
    fn segments_never_see_each_others_blocks() {
        let cache = BlockCache::new(1 << 20);
        let (a, b) = (Table::new(4), Table::new(4));
        cache.insert(&a, 3, block(10));
        assert!(cache.get(&a, 3).is_some());
        assert!(cache.get(&b, 3).is_none() && cache.get(&a, 2).is_none());
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.blocks), (1, 2, 1));
    }

    #[test]
    fn holds_no_more_than_it_may_also_after_shrinking() {
        let cache = BlockCache::new(1 << 20);
        let segment = Table::new(6000);
        for number in 0..1000 {
            cache.insert(&segment, number, block(4000));
            assert!(cache.stats().bytes <= 1 << 20);
        }
        assert!(cache.stats().bytes > 1 << 19, "{cache:?}");
        cache.set_bytes_max(1 << 16);
        assert!(cache.stats().bytes <= 1 << 16, "{cache:?}");
        cache.insert(&segment, 5000, block(1 << 17));
        assert!(cache.stats().bytes <= 1 << 16, "{cache:?}");
    }

    #[test]
    fn a_block_read_again_outlives_a_scan_and_a_dead_segments_blocks_go_first() {
        let cache = BlockCache::new(64 << 10);
        let (hot, scanned) = (Table::new(4), Table::new(100));
        cache.insert(&hot, 0, block(4000));
        for number in 0..100 {
            assert!(cache.get(&hot, 0).is_some(), "dropped at {number}");
            cache.insert(&scanned, number, block(4000));
        }
        hot.kill();
        for number in 0..16 {
            cache.insert(&Table::new(100), number, block(4000));
        }
        assert!(cache.get(&hot, 0).is_none());
    }

    #[test]
    fn random_use_keeps_slots_and_entries_in_step() {
        let seed = 7;
        let mut random = fastrand::Rng::with_seed(seed);
        let cache = BlockCache::new(100 << 10);
        let tables: Vec<_> = (0..5).map(|_| Table::new(40)).collect();
        for _ in 0..20_000 {
            let (table, number) = (&tables[random.usize(0..5)], random.u32(0..40));
            if let Some(found) = cache.get(table, number) {
                let table = tables.iter().position(|t| Rc::ptr_eq(t, table)).unwrap();
                assert_eq!(found.rows() as usize, 1, "seed {seed}");
                assert_eq!(found.bytes() % 5, table, "seed {seed}: another segment's block");
            } else {
                let table_number = tables.iter().position(|t| Rc::ptr_eq(t, table)).unwrap();
                let fitting = (0..5).map(|n| block(4000 + n)).find(|b| b.bytes() % 5 == table_number);
                cache.insert(table, number, fitting.unwrap());
            }
            let stats = cache.stats();
            assert!(stats.bytes <= 100 << 10, "seed {seed}");
            let named: usize = tables.iter().flat_map(|t| &t.slots).filter(|s| s.get() != 0).count();
            assert_eq!(named as u64, stats.blocks, "seed {seed}");
        }
    }
}
