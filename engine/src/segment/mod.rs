//! Segments: immutable sorted files of entries, and how one is opened and read.
//!
//! A [`SegmentBuilder`] writes one, a [`Segment`] answers point lookups, a [`SegmentCursor`] walks it. A lookup whose
//! block is cached is a plain function call: no future, no allocation. `engine/FORMAT.md`, "Segment", owns the layout.
//!
//! Refuses to decide what a row's versions mean: range tombstones, deletes and expiry are applied by
//! [`crate::visible`].
//!
//! Invariants:
//! - an open segment's footer, index, filter, range tombstones and properties were checked, and are those its
//!   manifest means; a block is checked when it is read;
//! - no entry, and no part of a range tombstone, comes out that is not visible, whoever asks;
//! - a segment's file is never written again.

pub mod block;
pub mod builder;
pub mod cursor;
pub mod filter;
pub mod footer;
pub mod frame;
pub mod index;
pub mod meta;
mod output;
pub mod ranges;
pub mod run;
pub mod salvage;
mod spare;
pub mod verify;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::rc::Rc;

pub use block::{Block, Found};
pub use builder::{BuildOptions, SegmentBuilder};
pub use cursor::{ReadMode, SegmentCursor};
pub use frame::Codec;
pub use meta::SegmentMeta;
pub use ranges::{KeyRange, KeyRanges};
pub use run::RunCursor;

use crate::cache::{BlockCache, Table};
use crate::entry::RangeTombstone;
use crate::error::{Error, Result};
use crate::ids::{SegmentId, Version};
use crate::io::buffer::{ALIGNMENT, AlignedBuf};
use crate::io::disk::{Disk, File, OpenMode};
use crate::tombstones::RangeTombstones;
use filter::Filter;
use footer::{FOOTER_BYTES, Footer, Section};
use index::{BlockNumber, Index};
pub(crate) use spare::Spare;

/// The file of segment `id` in its partition's directory.
#[must_use]
pub fn path_of(dir: &Path, id: SegmentId) -> PathBuf {
    dir.join(format!("{:016x}.seg", id.0))
}

/// The segment that a file of this name would be.
#[must_use]
pub fn id_of(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16)
        .ok()
        .map(SegmentId)
        .filter(|&id| path_of(Path::new(""), id) == Path::new(name))
}

/// A segment open for reading.
#[derive(Debug)]
pub struct Segment {
    body: Rc<Body>,
    meta: SegmentMeta,
    /// Those of the file, cut to what is visible.
    tombstones: RangeTombstones,
}

/// An open file; all views of it that were cut while it was open share it.
#[derive(Debug)]
struct Body {
    file: Rc<dyn File>,
    index: Index,
    filter: Filter,
    tombstones: RangeTombstones,
    cache: Rc<BlockCache>,
    cached: Rc<Table>,
}

/// The answer to a point lookup so far.
#[derive(Debug)]
pub enum Lookup {
    /// The segment has no version of the row at or below the one asked for.
    Absent,
    /// The newest such version.
    Found(Found),
    /// It depends on this block: [`Segment::load`] it, then [`Segment::lookup_in`] it.
    NeedsBlock(BlockNumber),
}

impl Segment {
    /// Opens the segment that `meta` describes and checks everything but its blocks.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the file is damaged or another one; [`Error::Io`].
    pub async fn open(
        disk: &dyn Disk,
        path: &Path,
        meta: SegmentMeta,
        cache: Rc<BlockCache>,
    ) -> Result<Rc<Self>> {
        let file = disk.open(path, OpenMode::Read).await?;
        let size = file.size().await?;
        if size != meta.bytes {
            let what = format!("{size} bytes where the manifest says {}", meta.bytes);
            return Err(Error::corrupt(path, 0, what));
        }
        let tail = Tail::read(&*file, size).await?;
        if (tail.footer.id(), tail.footer.crc()) != (meta.origin, meta.checksum) {
            let what = format!(
                "segment {} with checksum {:08x} where the manifest says {} with {:08x}",
                tail.footer.id(),
                tail.footer.crc(),
                meta.origin,
                meta.checksum
            );
            return Err(Error::corrupt(path, size - FOOTER_BYTES as u64, what));
        }
        let mut tombstones = RangeTombstones::default();
        tail.tombstones.into_iter().for_each(|tombstone| tombstones.add(tombstone));
        let Tail { index, filter, .. } = tail;
        let cached = Table::new(index.block_count());
        Ok(Self::of(Rc::new(Body { file, index, filter, tombstones, cache, cached }), meta))
    }

    fn of(body: Rc<Body>, meta: SegmentMeta) -> Rc<Self> {
        let tombstones = body.tombstones.within(&meta.visible);
        Rc::new(Self { body, meta, tombstones })
    }

    /// Another segment of the same file, as `meta` describes it. Nothing is read.
    ///
    /// # Panics
    /// When `meta` means another file.
    #[must_use]
    pub fn view(&self, meta: SegmentMeta) -> Rc<Self> {
        let file = |meta: &SegmentMeta| (meta.origin, meta.bytes, meta.checksum);
        assert_eq!(file(&meta), file(&self.meta), "a view is of the same file");
        Self::of(Rc::clone(&self.body), meta)
    }

    /// What of it is in `keys`, if anything can be.
    #[must_use]
    pub fn within(&self, keys: &KeyRanges) -> Option<SegmentMeta> {
        let meta = self.meta.within(keys)?;
        let visible_bytes = match meta.visible.parts() {
            None => meta.bytes,
            Some(ranges) => self.blocks_bytes(ranges.iter().cloned()),
        };
        Some(SegmentMeta { visible_bytes, ..meta })
    }

    /// What the manifest says of it.
    #[must_use]
    pub fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// Its range tombstones.
    #[must_use]
    pub fn tombstones(&self) -> &RangeTombstones {
        &self.tombstones
    }

    /// The newest version of `key` not newer than `at`, as far as memory knows. `hash` is the key's
    /// [stable hash](crate::hash::stable), taken once for all segments asked. Range tombstones are not applied.
    #[must_use]
    #[inline]
    pub fn lookup(&self, key: &[u8], hash: u64, at: Version) -> Lookup {
        if !self.body.filter.may_contain(hash) || !self.meta.visible.contains(key) {
            return Lookup::Absent;
        }
        match self.body.index.block_of(key) {
            Some(number) => self.lookup_cached(number, key, at),
            None => Lookup::Absent,
        }
    }

    /// Goes on with a lookup that needed block `number`.
    #[must_use]
    pub fn lookup_in(&self, block: &Block, number: BlockNumber, key: &[u8], at: Version) -> Lookup {
        match block.seek(key, at) {
            Some(position) if position.same_key => Lookup::Found(block.get(position)),
            Some(_) => Lookup::Absent,
            // Past the block's end: the row's older versions, if any, are in the next block.
            None if self.body.index.continues_with(number + 1, key) => {
                self.lookup_cached(number + 1, key, at)
            }
            None => Lookup::Absent,
        }
    }

    fn lookup_cached(&self, number: BlockNumber, key: &[u8], at: Version) -> Lookup {
        match self.cached_block(number) {
            Some(block) => self.lookup_in(&block, number, key, at),
            None => Lookup::NeedsBlock(number),
        }
    }

    /// As [`Self::lookup`], reading what it needs.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn get(&self, key: &[u8], hash: u64, at: Version) -> Result<Option<Found>> {
        let mut lookup = self.lookup(key, hash, at);
        loop {
            match lookup {
                Lookup::Absent => return Ok(None),
                Lookup::Found(found) => return Ok(Some(found)),
                Lookup::NeedsBlock(number) => {
                    let block = self.load(number).await?;
                    lookup = self.lookup_in(&block, number, key, at);
                }
            }
        }
    }

    /// Reads and checks a block, and gives it to the cache.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the block is damaged; [`Error::Io`].
    pub async fn load(&self, number: BlockNumber) -> Result<Block> {
        let Body { file, index, cache, cached, .. } = &*self.body;
        let place = index.place(number);
        let spare = &cache.spare;
        let span = Span::of(place.offset, place.bytes as usize);
        let from = place.offset - span.start as u64;
        let (buf, result) = file.read_at(spare.take(span.start + span.len), from).await;
        let bytes = Bytes::of(buf, result?, span, (file.path(), place.offset))?;
        let decoded = spare.with_scratch(|scratch| frame::decode(bytes.get(), place, file.path(), scratch));
        spare.give(bytes.buf);
        let block = decoded?;
        cache.insert(cached, number, block.clone());
        Ok(block)
    }

    /// Stored bytes of the blocks that can hold visible keys in `start..end` (`None`: to the end): exact to a block at
    /// each border.
    #[must_use]
    pub fn bytes_between(&self, start: &[u8], end: Option<&[u8]>) -> u64 {
        let asked = KeyRange::new(start, end.map(<[u8]>::to_vec));
        match self.meta.visible.parts() {
            None => self.blocks_bytes([asked].into_iter()),
            Some(ranges) => self.blocks_bytes(ranges.iter().map(|range| range.and(&asked))),
        }
    }

    /// Bytes of the blocks that can hold keys of `ranges`, which ascend: each once, however many of them reach into it.
    fn blocks_bytes(&self, ranges: impl Iterator<Item = KeyRange>) -> u64 {
        let (index, mut counted) = (self.index(), 0);
        let bytes = ranges.filter(|range| !range.is_empty()).map(|range| {
            let (first, past) = self.blocks_of(&range);
            let first = first.max(counted);
            counted = counted.max(past);
            index.offset(past).saturating_sub(index.offset(first))
        });
        bytes.sum()
    }

    /// The first block that can hold keys of a range, and the first one after it that cannot.
    fn blocks_of(&self, range: &KeyRange) -> (BlockNumber, BlockNumber) {
        let index = self.index();
        let first = index.block_of(&range.start).unwrap_or(0);
        let past = match &range.end {
            None => index.block_count(),
            Some(end) => index.block_of(end).map_or(0, |number| {
                // A block that begins at `end` itself holds nothing below it.
                if index.border(number) == *end { number } else { number + 1 }
            }),
        };
        (first, past)
    }

    /// Memory held while it is open, blocks in the cache not counted: of a file that has several views, its share.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let Body { index, filter, tombstones, cached, .. } = &*self.body;
        let shared = index.bytes() + filter.bytes() + tombstones.bytes() + cached.bytes() + size_of::<Body>();
        shared / Rc::strong_count(&self.body) + self.tombstones.bytes() + size_of::<Self>()
    }

    /// How many blocks it has: of a file that has several views, its share.
    pub(crate) fn blocks(&self) -> u64 {
        u64::from(self.index().block_count()) / Rc::strong_count(&self.body) as u64
    }

    pub(crate) fn index(&self) -> &Index {
        &self.body.index
    }

    pub(crate) fn file(&self) -> &Rc<dyn File> {
        &self.body.file
    }

    pub(crate) fn cached_block(&self, number: BlockNumber) -> Option<Block> {
        self.body.cache.get(&self.body.cached, number)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.cached.kill();
    }
}

/// What follows a segment's blocks, checked.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) footer: Footer,
    pub(crate) index: Index,
    pub(crate) filter: Filter,
    pub(crate) tombstones: Vec<RangeTombstone>,
    /// As far as the file knows it.
    pub(crate) meta: SegmentMeta,
}

impl Tail {
    /// Reads the tail of a segment file of `size` bytes.
    pub(crate) async fn read(file: &dyn File, size: u64) -> Result<Self> {
        let corrupt = |offset, what: String| Error::corrupt(file.path(), offset, what);
        let footer_at = size.checked_sub(FOOTER_BYTES as u64).filter(|n| n.is_multiple_of(ALIGNMENT as u64));
        let Some(footer_at) = footer_at else {
            return Err(corrupt(
                0,
                format!("{size} bytes: a segment is whole pages, the last one its footer"),
            ));
        };
        let page = read(file, footer_at, FOOTER_BYTES).await?;
        let footer = Footer::decode(page.get(), size).map_err(|what| corrupt(footer_at, what))?;
        let [index, filter, tombstones, properties] = footer.sections();
        let named = |name: &'static str, section: Section| {
            move |what: &str| Error::corrupt(file.path(), section.offset.get(), format!("{name}: {what}"))
        };
        let parsed = |name, section| async move {
            let bytes = read_section(file, section).await?;
            section.check(bytes.get()).map_err(|what| named(name, section)(&what))?;
            Ok::<_, Error>(bytes)
        };
        let bytes = parsed("properties", properties).await?;
        let mut meta =
            footer::decode_properties(bytes.get(), footer.id()).map_err(named("properties", properties))?;
        (meta.bytes, meta.visible_bytes, meta.checksum) = (size, size, footer.crc());
        let bytes = parsed("range tombstones", tombstones).await?;
        let tombstones =
            footer::decode_tombstones(bytes.get()).map_err(named("range tombstones", tombstones))?;
        let bytes = parsed("filter", filter).await?;
        let filter = Filter::parse(bytes.get()).map_err(named("filter", filter))?;
        let bytes = parsed("index", index).await?;
        let section = index;
        let index = Index::parse_in_turns(bytes.get()).await.map_err(named("index", section))?;
        if index.end() != section.offset.get() {
            let what = format!("index: blocks end at {}, it begins elsewhere", index.end());
            return Err(corrupt(section.offset.get(), what));
        }
        Ok(Self { footer, index, filter, tombstones, meta })
    }
}

/// A part of a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) len: usize,
}

impl Span {
    /// Where `len` bytes at `offset` of a file lie in a buffer that was read from the page that `offset` is in.
    fn of(offset: u64, len: usize) -> Self {
        Self { start: usize::try_from(offset % ALIGNMENT as u64).expect("less than a page"), len }
    }
}

/// Bytes read at any offset: they lie somewhere in an aligned buffer.
#[derive(Debug)]
pub(crate) struct Bytes {
    buf: AlignedBuf,
    start: usize,
    len: usize,
}

impl Bytes {
    /// `len` bytes from `start` of a buffer that was read from `offset - start` on, up to `count` bytes.
    pub(crate) fn of(
        buf: AlignedBuf,
        count: usize,
        span: Span,
        (path, offset): (&Path, u64),
    ) -> Result<Self> {
        let Span { start, len } = span;
        if count < start + len {
            let what = format!("the file ends {} bytes before what should be here does", start + len - count);
            return Err(Error::corrupt(path, offset, what));
        }
        Ok(Self { buf, start, len })
    }

    pub(crate) fn get(&self) -> &[u8] {
        &self.buf[self.start..self.start + self.len]
    }
}

/// Reads `len` bytes at `offset`, by the pages that cover them, in one operation.
pub(crate) async fn read(file: &dyn File, offset: u64, len: usize) -> Result<Bytes> {
    let span = Span::of(offset, len);
    if len == 0 {
        // An empty section may begin at a page's first byte: no disk reads nothing.
        return Ok(Bytes { buf: AlignedBuf::zeroed(ALIGNMENT), start: 0, len: 0 });
    }
    let from = offset - span.start as u64;
    let (buf, result) = file.read_at(AlignedBuf::zeroed(span.start + len), from).await;
    Bytes::of(buf, result?, span, (file.path(), offset))
}

/// Reads a section that was checked to lie inside the file.
async fn read_section(file: &dyn File, section: Section) -> Result<Bytes> {
    let len = usize::try_from(section.bytes.get()).map_err(|_| {
        Error::corrupt(file.path(), section.offset.get(), "section larger than this machine's memory")
    })?;
    read(file, section.offset.get(), len).await
}
