//! The row cache: copies of rows as they were last read, bounded in bytes.
//!
//! A lookup through memtables and segments costs a dozen cache misses one after the other; here it costs two, and a row
//! takes its own bytes instead of its block's. Rows lie one after the other in a log of chunks, and an index of buckets,
//! a cache line each, says where (after MICA, Lim et al., NSDI 2014). The index may forget: a full bucket gives up its
//! oldest row. When memory is used up the oldest chunk becomes the newest: rows that were read again since they were
//! written are moved to its front, up to half of it, and the rest are gone.
//!
//! It knows nothing of commits and snapshots: who asks compares versions.
//!
//! Invariants:
//! - a row that is found is the newest version of its key: whoever changes a key removes it here in the same turn, and
//!   a range that is deleted is noted with its owner;
//! - memory never exceeds `bytes_max`, the index's own included.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::hint::black_box;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::entry::{Entry, Expiry, Kind};
use crate::hash;
use crate::ids::Version;

/// Rows are copied into chunks of this size: turning over one takes some 40 us, a fifth of a slice.
const CHUNK_BYTES: usize = 64 << 10;
/// A larger row, with its key, is not kept: its block serves it nearly as well.
const ROW_BYTES_MAX: usize = 8 << 10;
/// Rows begin at multiples of this, so that [`OFFSET_BITS`] name a place in a chunk.
const UNIT_BYTES: usize = 8;
const OFFSET_BITS: u32 = 13;
const CHUNK_BITS: u32 = 32;
/// The last chunk's number: the one after it is still a number.
const CHUNK_MAX: u32 = u32::MAX - 1;
/// Places in a bucket: eight bytes each, a cache line.
const WAYS: usize = 8;
/// A cache line, and how many of them of a row are fetched ahead: a larger one is read in order, which the core sees.
const LINE_BYTES: usize = 64;
const TOUCHED_LINES: usize = 4;
/// The index is made for rows of this many bytes; smaller ones push each other out before memory is used up.
const ROW_BYTES_EXPECTED: u64 = 96;
/// Ranges an owner remembers. A row last read before the oldest of them is not believed.
const ERASURES_KEPT: usize = 32;

const _: () = assert!(CHUNK_BYTES / UNIT_BYTES == 1 << OFFSET_BITS, "every unit of a chunk has a name");

/// Whose rows they are: a partition, as long as it is open. It remembers which ranges were deleted.
#[derive(Debug)]
pub(crate) struct Owner {
    id: u32,
    /// The newest last.
    erased: VecDeque<(Vec<u8>, Vec<u8>)>,
    /// How many there ever were.
    erasures: u64,
}

/// Rows kept in memory, the least useful dropped first. One per shard.
pub(crate) struct RowCache {
    log: RefCell<Log>,
    owners: Cell<u32>,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

/// What a row cache has done and holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RowCacheStats {
    /// Lookups that found their row.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Bytes held.
    pub bytes: u64,
    /// Bytes that may be held.
    pub bytes_max: u64,
}

struct Log {
    /// The oldest first.
    chunks: VecDeque<Vec<u8>>,
    /// The number of the oldest chunk. 0 is no chunk's, so that an empty place names none.
    first: u32,
    /// Buckets of [`WAYS`] places from `aligned` on.
    index: Vec<u64>,
    aligned: usize,
    bucket_count: usize,
    bytes_max: u64,
}

/// A row's beginning in its chunk. The key follows, then the value.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    version: U64,
    expiry: U64,
    /// The owner's erasures when the row was read.
    erasures: U64,
    owner: U32,
    value_bytes: U16,
    key_bytes: U16,
    /// Found since it was written.
    is_used: u8,
    reserved: [u8; 3],
}

/// Where a row is: chunk number, and offset in units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Position {
    chunk: u32,
    offset: usize,
}

impl Owner {
    /// Everything in `start..end` was deleted. Rows read before this are not found again.
    pub(crate) fn erase(&mut self, start: &[u8], end: &[u8]) {
        if self.erased.len() == ERASURES_KEPT {
            self.erased.pop_front();
        }
        self.erased.push_back((start.to_vec(), end.to_vec()));
        self.erasures += 1;
    }

    /// Anything may have changed.
    pub(crate) fn erase_all(&mut self) {
        self.erased.clear();
        self.erasures += 1;
    }

    /// How many ranges were erased: to be taken before a row is read that is inserted.
    pub(crate) const fn erasures(&self) -> u64 {
        self.erasures
    }

    /// Whether `key`, read when there had been `erasures`, may be gone since.
    fn may_have_erased(&self, key: &[u8], erasures: u64) -> bool {
        let since = self.erasures - erasures;
        if since == 0 {
            return false;
        }
        match usize::try_from(since).ok().and_then(|since| self.erased.len().checked_sub(since)) {
            Some(from) => {
                self.erased.range(from..).any(|(start, end)| start.as_slice() <= key && key < end.as_slice())
            }
            None => true,
        }
    }
}

impl RowCache {
    /// An empty cache that will hold up to `bytes_max`, with an index for that much.
    pub(crate) fn new(bytes_max: u64) -> Self {
        let log = RefCell::new(Log::new(bytes_max));
        Self { log, owners: Cell::new(0), hits: Cell::new(0), misses: Cell::new(0) }
    }

    /// A new owner of rows.
    pub(crate) fn owner(&self) -> Owner {
        self.owners.set(self.owners.get() + 1);
        Owner { id: self.owners.get(), erased: VecDeque::new(), erasures: 0 }
    }

    /// Changes how much may be held; what is over is dropped at once.
    pub(crate) fn set_bytes_max(&self, bytes_max: u64) {
        let mut log = self.log.borrow_mut();
        log.bytes_max = bytes_max;
        while log.bytes() > log.bytes_max && log.drop_oldest() {}
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.log.borrow().bytes()
    }

    /// Counters and sizes.
    pub(crate) fn stats(&self) -> RowCacheStats {
        let log = self.log.borrow();
        RowCacheStats {
            hits: self.hits.get(),
            misses: self.misses.get(),
            bytes: log.bytes(),
            bytes_max: log.bytes_max,
        }
    }

    /// Gives `f` the row of `key`, whose [stable hash](hash::stable) is `hash`, if it is held and no newer than `at`.
    /// `f` must not use the cache.
    #[inline]
    pub(crate) fn get<R>(
        &self,
        owner: &Owner,
        (key, hash): (&[u8], u64),
        at: Version,
        f: impl FnOnce(Entry<'_>) -> R,
    ) -> Option<R> {
        let position = self.log.borrow_mut().find_and_use(owner, key, hash);
        let log = self.log.borrow();
        let Some(entry) = position.and_then(|position| log.entry(position)).filter(|e| e.version <= at)
        else {
            self.misses.set(self.misses.get() + 1);
            return None;
        };
        self.hits.set(self.hits.get() + 1);
        Some(f(entry))
    }

    /// Fetches into the core's caches what [`RowCache::get`] will look at for keys of these [stable hashes](hash::stable):
    /// one after the other they wait for memory three times each, together about three times in all.
    pub(crate) fn touch(&self, hashes: &[u64]) {
        let log = self.log.borrow();
        if log.chunks.is_empty() {
            return;
        }
        let buckets = hashes.iter().fold(0, |seen, &hash| seen ^ log.index[log.bucket(hash).start]);
        let rows = hashes.iter().fold(0, |seen, &hash| seen ^ log.touch_row(hash));
        black_box((buckets, rows));
    }

    /// Holds a copy of a put that is its key's newest version, as of `erasures` of its owner. Returns how many bytes
    /// more are held.
    pub(crate) fn insert(&self, owner: &Owner, erasures: u64, hash: u64, entry: &Entry<'_>) -> u64 {
        let mut log = self.log.borrow_mut();
        let before = log.bytes();
        log.insert(owner, erasures, hash, entry);
        log.bytes().saturating_sub(before)
    }

    /// Forgets the row of a key that is being changed.
    #[inline]
    pub(crate) fn remove(&self, owner: &Owner, key: &[u8]) {
        let mut log = self.log.borrow_mut();
        if log.chunks.is_empty() {
            return;
        }
        let hash = hash::stable(key);
        if let Some((place, _)) = log.find(owner.id, key, hash) {
            log.index[place] = 0;
        }
    }
}

impl Log {
    fn new(bytes_max: u64) -> Self {
        let rows = usize::try_from(bytes_max / ROW_BYTES_EXPECTED).unwrap_or(usize::MAX >> 8);
        let bucket_count = (rows / WAYS).next_power_of_two();
        // Zeroed by the kernel, and resident as it is used. One bucket more: the first begins at a cache line.
        let index = vec![0; (bucket_count + 1) * WAYS];
        let aligned = index.as_ptr().align_offset(WAYS * size_of::<u64>()).min(WAYS);
        Self { chunks: VecDeque::new(), first: 1, index, aligned, bucket_count, bytes_max }
    }

    /// Memory held; the index counts from the first chunk on.
    fn bytes(&self) -> u64 {
        if self.chunks.is_empty() {
            return 0;
        }
        (self.chunks.len() * CHUNK_BYTES + self.index.len() * size_of::<u64>()) as u64
    }

    /// The places of the bucket that `hash` falls into.
    const fn bucket(&self, hash: u64) -> std::ops::Range<usize> {
        #[expect(clippy::cast_possible_truncation, reason = "its low bits choose the bucket")]
        let start = self.aligned + (hash as usize & (self.bucket_count - 1)) * WAYS;
        start..start + WAYS
    }

    /// Where in `chunks` the chunk of this number is, if it is there.
    const fn place_of(&self, chunk: u32) -> usize {
        chunk.wrapping_sub(self.first) as usize
    }

    /// The position that a place names, if its chunk is still there.
    fn position(&self, place: u64) -> Option<Position> {
        let chunk = u32::try_from(place & ((1 << CHUNK_BITS) - 1)).expect("32 bits");
        let is_held = self.place_of(chunk) < self.chunks.len();
        let offset = usize::try_from(place >> CHUNK_BITS & ((1 << OFFSET_BITS) - 1)).expect("13 bits");
        is_held.then_some(Position { chunk, offset: offset * UNIT_BYTES })
    }

    fn record(&self, position: Position) -> Option<(&Header, &[u8])> {
        let chunk = self.chunks.get(self.place_of(position.chunk))?;
        Header::ref_from_prefix(chunk.get(position.offset..)?).ok()
    }

    fn entry(&self, position: Position) -> Option<Entry<'_>> {
        let (header, rest) = self.record(position)?;
        let (key, rest) = rest.split_at_checked(usize::from(header.key_bytes.get()))?;
        Some(Entry {
            key,
            version: Version(header.version.get()),
            kind: Kind::Put,
            expiry: Expiry(header.expiry.get()),
            value: rest.get(..usize::from(header.value_bytes.get()))?,
        })
    }

    /// The place and the position of a row.
    fn find(&self, owner: u32, key: &[u8], hash: u64) -> Option<(usize, Position)> {
        let mut bucket = self.bucket(hash);
        bucket.find_map(|place| {
            let named = self.index[place];
            if tag(named) != tag(hash) {
                return None;
            }
            let position = self.position(named)?;
            let (header, rest) = self.record(position)?;
            let its_key = rest.get(..usize::from(header.key_bytes.get()))?;
            (header.owner.get() == owner && its_key == key).then_some((place, position))
        })
    }

    /// Reads a byte of each line that the row of a key with this hash probably takes.
    fn touch_row(&self, hash: u64) -> u8 {
        let bucket = &self.index[self.bucket(hash)];
        let Some(position) =
            bucket.iter().find(|&&named| tag(named) == tag(hash)).and_then(|&named| self.position(named))
        else {
            return 0;
        };
        let Some(chunk) = self.chunks.get(self.place_of(position.chunk)) else { return 0 };
        let lines = chunk.get(position.offset..).unwrap_or_default().iter().step_by(LINE_BYTES);
        lines.take(TOUCHED_LINES).fold(0, |seen, byte| seen ^ byte)
    }

    fn find_and_use(&mut self, owner: &Owner, key: &[u8], hash: u64) -> Option<Position> {
        let (place, position) = self.find(owner.id, key, hash)?;
        let number = self.place_of(position.chunk);
        let chunk = self.chunks.get_mut(number)?;
        let (header, _) = Header::mut_from_prefix(chunk.get_mut(position.offset..)?).ok()?;
        if owner.may_have_erased(key, header.erasures.get()) {
            self.index[place] = 0;
            return None;
        }
        // Written only when it changes: a row that is hot stays clean in every cache.
        if header.is_used == 0 {
            header.is_used = 1;
        }
        Some(position)
    }

    fn insert(&mut self, owner: &Owner, erasures: u64, hash: u64, entry: &Entry<'_>) {
        let len = size_of::<Header>() + entry.key.len() + entry.value.len();
        if len > ROW_BYTES_MAX || entry.kind != Kind::Put {
            return;
        }
        let place = match self.find(owner.id, entry.key, hash) {
            Some((place, _)) => place,
            None => self.place_for(hash),
        };
        let short = |n: usize| U16::new(u16::try_from(n).expect("below ROW_BYTES_MAX"));
        let header = Header {
            version: U64::new(entry.version.0),
            expiry: U64::new(entry.expiry.0),
            erasures: U64::new(erasures),
            owner: U32::new(owner.id),
            value_bytes: short(entry.value.len()),
            key_bytes: short(entry.key.len()),
            is_used: 0,
            reserved: [0; 3],
        };
        if !self.make_room(len) {
            return;
        }
        let number = self.newest();
        let Some(chunk) = self.chunks.back_mut() else { return };
        let position = Position { chunk: number, offset: chunk.len() };
        chunk.extend_from_slice(header.as_bytes());
        chunk.extend_from_slice(entry.key);
        chunk.extend_from_slice(entry.value);
        chunk.resize(chunk.len().next_multiple_of(UNIT_BYTES), 0);
        self.index[place] = named(hash, position);
    }

    /// A place of `hash`'s bucket that names nothing, or the row that was inserted first.
    fn place_for(&self, hash: u64) -> usize {
        let age = |place: &usize| match self.position(self.index[*place]) {
            None => (0, 0),
            Some(p) => (self.place_of(p.chunk) + 1, p.offset),
        };
        self.bucket(hash).min_by_key(age).expect("a bucket has places")
    }

    /// The number of the newest chunk.
    fn newest(&self) -> u32 {
        self.first - 1 + u32::try_from(self.chunks.len()).expect("chunks are numbered with 32 bits")
    }

    /// Makes the newest chunk one with room for `len` bytes; false where memory is not enough for a single chunk.
    fn make_room(&mut self, len: usize) -> bool {
        let fits = |chunk: &Vec<u8>| CHUNK_BYTES - chunk.len() >= len.next_multiple_of(UNIT_BYTES);
        while !self.chunks.back().is_some_and(fits) {
            let with_another =
                ((self.chunks.len() + 1) * CHUNK_BYTES + self.index.len() * size_of::<u64>()) as u64;
            if self.newest() == CHUNK_MAX {
                // Numbers begin anew, and no place may name a chunk of before.
                self.index.fill(0);
                self.chunks.clear();
                self.first = 1;
            }
            if with_another <= self.bytes_max {
                self.chunks.push_back(Vec::with_capacity(CHUNK_BYTES));
            } else if !self.turn_over() {
                return false;
            }
        }
        true
    }

    fn drop_oldest(&mut self) -> bool {
        let dropped = self.chunks.pop_front().is_some();
        self.first += u32::from(dropped);
        dropped
    }

    /// Makes the oldest chunk the newest, with up to half of its bytes in rows that were used; false if there is none.
    fn turn_over(&mut self) -> bool {
        let Some(mut chunk) = self.chunks.pop_front() else { return false };
        let old = self.first;
        self.first += 1;
        let new = self.newest() + 1;
        let (mut at, mut kept) = (0, 0);
        while let Ok((header, rest)) = Header::mut_from_prefix(&mut chunk[at..]) {
            let key_bytes = usize::from(header.key_bytes.get());
            let len = size_of::<Header>() + key_bytes + usize::from(header.value_bytes.get());
            let len = len.next_multiple_of(UNIT_BYTES);
            if header.is_used != 0 && kept + len <= CHUNK_BYTES / 2 {
                header.is_used = 0;
                let hash = hash::stable(&rest[..key_bytes]);
                let was = named(hash, Position { chunk: old, offset: at });
                // A row that was replaced or removed since is named nowhere.
                if let Some(place) = self.bucket(hash).find(|&place| self.index[place] == was) {
                    self.index[place] = named(hash, Position { chunk: new, offset: kept });
                    chunk.copy_within(at..at + len, kept);
                    kept += len;
                }
            }
            at += len;
        }
        chunk.truncate(kept);
        self.chunks.push_back(chunk);
        true
    }
}

/// What an index says of a row: some bits of its hash that do not choose the bucket, and where it is.
fn named(hash: u64, position: Position) -> u64 {
    tag(hash) << (CHUNK_BITS + OFFSET_BITS)
        | ((position.offset / UNIT_BYTES) as u64) << CHUNK_BITS
        | u64::from(position.chunk)
}

const fn tag(n: u64) -> u64 {
    n >> (CHUNK_BITS + OFFSET_BITS)
}

impl fmt::Debug for RowCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn put<'a>(key: &'a [u8], version: u64, value: &'a [u8]) -> Entry<'a> {
        Entry { key, version: Version(version), kind: Kind::Put, expiry: Expiry::NEVER, value }
    }

    fn version_in(cache: &RowCache, owner: &Owner, key: &[u8], at: Version) -> Option<u64> {
        cache.get(owner, (key, hash::stable(key)), at, |entry| {
            assert_eq!(entry.key, key);
            entry.version.0
        })
    }

    fn insert(cache: &RowCache, owner: &Owner, entry: &Entry<'_>) {
        cache.insert(owner, owner.erasures(), hash::stable(entry.key), entry);
    }

    #[test]
    fn a_row_is_its_owners_and_not_newer_than_asked_for() {
        let cache = RowCache::new(1 << 20);
        let (a, b) = (cache.owner(), cache.owner());
        insert(&cache, &a, &put(b"k", 5, b"v"));
        assert_eq!(version_in(&cache, &a, b"k", Version::MAX), Some(5));
        assert_eq!(version_in(&cache, &a, b"k", Version(4)), None);
        assert_eq!(version_in(&cache, &b, b"k", Version::MAX), None);
        cache.remove(&b, b"k");
        assert_eq!(version_in(&cache, &a, b"k", Version(5)), Some(5));
        cache.remove(&a, b"k");
        assert_eq!(version_in(&cache, &a, b"k", Version::MAX), None);
        assert_eq!((cache.stats().hits, cache.stats().misses), (2, 3));
    }

    #[test]
    fn what_lies_in_an_erased_range_is_not_found_and_what_lies_beside_it_is() {
        let cache = RowCache::new(1 << 20);
        let mut owner = cache.owner();
        insert(&cache, &owner, &put(b"a", 1, b""));
        insert(&cache, &owner, &put(b"m", 1, b""));
        owner.erase(b"b", b"n");
        assert_eq!(version_in(&cache, &owner, b"a", Version::MAX), Some(1));
        assert_eq!(version_in(&cache, &owner, b"m", Version::MAX), None);
        insert(&cache, &owner, &put(b"m", 3, b""));
        assert_eq!(version_in(&cache, &owner, b"m", Version::MAX), Some(3));
        for _ in 0..=ERASURES_KEPT {
            owner.erase(b"x", b"y");
        }
        assert_eq!(version_in(&cache, &owner, b"a", Version::MAX), None, "too long ago to tell");
        insert(&cache, &owner, &put(b"a", 4, b""));
        owner.erase_all();
        assert_eq!(version_in(&cache, &owner, b"a", Version::MAX), None);
    }

    #[test]
    fn rows_that_are_read_again_outlive_those_that_are_not() {
        let cache = RowCache::new(1 << 20);
        let owner = cache.owner();
        let value = [7; 100];
        insert(&cache, &owner, &put(b"hot", 1, &value));
        for n in 0..100_000_u32 {
            insert(&cache, &owner, &put(&n.to_be_bytes(), 1, &value));
            assert_eq!(version_in(&cache, &owner, b"hot", Version::MAX), Some(1), "dropped at {n}");
        }
        assert_eq!(version_in(&cache, &owner, &0_u32.to_be_bytes(), Version::MAX), None);
        assert!(cache.bytes() <= 1 << 20);
    }

    #[test]
    fn it_finds_the_newest_version_or_nothing_whatever_is_done_to_it() {
        let seed = 11;
        let mut random = fastrand::Rng::with_seed(seed);
        let cache = RowCache::new(600 << 10);
        let mut owners = [cache.owner(), cache.owner()];
        let mut model: BTreeMap<(usize, [u8; 2]), (u64, Vec<u8>)> = BTreeMap::new();
        let mut hits = 0;
        for version in 1..200_000_u64 {
            let which = random.usize(0..2);
            let key = random.u16(0..2000).to_be_bytes();
            match random.u32(0..1000) {
                0 => {
                    owners[which].erase_all();
                    model.retain(|(owner, _), _| *owner != which);
                }
                1..5 => {
                    let end = random.u16(0..2000).to_be_bytes();
                    owners[which].erase(&key, &end);
                    model.retain(|(owner, k), _| *owner != which || *k < key || *k >= end);
                }
                5..10 => cache.set_bytes_max(random.u64(0..600 << 10)),
                10..300 => {
                    let value = vec![random.u8(..); random.usize(0..ROW_BYTES_MAX / 4)];
                    cache.remove(&owners[which], &key);
                    insert(&cache, &owners[which], &put(&key, version, &value));
                    model.insert((which, key), (version, value));
                }
                300..400 => {
                    cache.remove(&owners[which], &key);
                    model.remove(&(which, key));
                }
                _ => {
                    let found = cache.get(&owners[which], (&key, hash::stable(&key)), Version::MAX, |e| {
                        (e.version.0, e.value.to_vec())
                    });
                    if let Some(found) = found {
                        hits += 1;
                        assert_eq!(Some(&found), model.get(&(which, key)), "seed {seed} at {version}");
                    }
                }
            }
            let stats = cache.stats();
            assert!(stats.bytes <= stats.bytes_max, "seed {seed}: {stats:?}");
        }
        assert!(hits > 1000, "{hits} hits: the test looks at nothing");
    }

    #[test]
    fn chunk_numbers_that_run_out_begin_anew_with_an_empty_cache() {
        let cache = RowCache::new(1 << 20);
        let owner = cache.owner();
        cache.log.borrow_mut().first = u32::MAX - 3;
        for n in 0..10_000_u32 {
            insert(&cache, &owner, &put(&n.to_be_bytes(), u64::from(n), &[1; 100]));
            assert_eq!(version_in(&cache, &owner, &n.to_be_bytes(), Version::MAX), Some(u64::from(n)));
        }
        assert!(cache.log.borrow().first < 1000);
    }

    #[test]
    fn without_memory_it_holds_nothing() {
        let cache = RowCache::new(0);
        let owner = cache.owner();
        insert(&cache, &owner, &put(b"k", 1, b"v"));
        assert_eq!(version_in(&cache, &owner, b"k", Version::MAX), None);
        assert_eq!(cache.bytes(), 0);
    }
}
