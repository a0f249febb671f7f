//! Writes a segment: entries in storage order in, a durable file and its meta out.
//!
//! Refuses nothing: what does not sort, or breaks a limit, is a bug of the caller and an assert. Decides nothing
//! either: what to drop, and where to end a segment, is the compaction's.
//!
//! Invariants:
//! - a file that was not finished is removed, or is left under a name no manifest knows;
//! - versions of one row may span blocks, never be out of order.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use futures_lite::future::yield_now;

use super::block::BlockBuilder;
use super::filter::Filter;
use super::footer::{self, FOOTER_BYTES, Footer, Section};
use super::frame::{BLOCK_TARGET_BYTES_MAX, Codec, FramePlace, FrameWriter};
use super::index::IndexBuilder;
use super::meta::SegmentMeta;
use super::output::Output;
use super::path_of;
use super::ranges::KeyRanges;
use crate::entry::{Entry, Expiry, Kind, RangeTombstone};
use crate::error::Result;
use crate::ids::{SegmentId, Version};
use crate::io::disk::{Disk, OpenMode};
use crate::limits::{STORAGE_KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// A point read decompresses one block, a scan of neighbours shares one: 4 KiB serves both, and what a device reads at
/// once.
const BLOCK_TARGET_BYTES: usize = 4 << 10;
/// Sections are appended in pieces of this size with a yield between: about 20 us of copying.
const SECTION_BYTES_PER_TURN: usize = 128 << 10;

/// How a segment is built.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions {
    /// The level it will lie in.
    pub level: u8,
    /// How blocks are stored.
    pub codec: Codec,
    /// A block is closed when its payload has this many bytes; 1 to [`BLOCK_TARGET_BYTES_MAX`].
    pub block_bytes: usize,
    /// Goes into the meta.
    pub created_ms: u64,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self { level: 0, codec: Codec::default(), block_bytes: BLOCK_TARGET_BYTES, created_ms: 0 }
    }
}

/// A segment being written.
#[derive(Debug)]
pub struct SegmentBuilder {
    disk: Rc<dyn Disk>,
    dir: PathBuf,
    path: PathBuf,
    block_bytes: usize,
    output: Output,
    block: BlockBuilder,
    /// The separator of the block being filled, and whether it continues the one before.
    separator: Vec<u8>,
    continues: bool,
    frames: FrameWriter,
    index: IndexBuilder,
    hashes: Vec<u64>,
    tombstones: Vec<u8>,
    meta: SegmentMeta,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Writing,
    /// Durable, or removed.
    Settled,
}

impl SegmentBuilder {
    /// Creates the segment's file in `dir`.
    ///
    /// # Errors
    /// What the disk says; also when the file is there already.
    ///
    /// # Panics
    /// For a block size outside its bounds.
    pub async fn create(
        disk: Rc<dyn Disk>,
        dir: &Path,
        id: SegmentId,
        options: BuildOptions,
    ) -> Result<Self> {
        assert!((1..=BLOCK_TARGET_BYTES_MAX).contains(&options.block_bytes), "block size outside its bounds");
        let path = path_of(dir, id);
        let file = disk.open(&path, OpenMode::Create).await?;
        Ok(Self {
            dir: dir.to_path_buf(),
            path,
            disk,
            block_bytes: options.block_bytes,
            output: Output::new(file),
            block: BlockBuilder::default(),
            separator: Vec::new(),
            continues: false,
            frames: FrameWriter::new(options.codec),
            index: IndexBuilder::default(),
            hashes: Vec::new(),
            tombstones: Vec::new(),
            meta: SegmentMeta {
                id,
                origin: id,
                level: options.level,
                bytes: 0,
                rows: 0,
                checksum: 0,
                first: Vec::new(),
                last: Vec::new(),
                version_min: Version::MAX,
                version_max: Version::ZERO,
                deletes: 0,
                range_tombstones: 0,
                created_ms: options.created_ms,
                expiry_min: Expiry::NEVER,
                visible: KeyRanges::everything(),
                visible_bytes: 0,
            },
            state: State::Writing,
        })
    }

    /// Makes what was written durable each time that it is so many bytes more, and not all of it in the end.
    pub(crate) fn synced_each(mut self, bytes: u64) -> Self {
        self.output.sync_each(bytes);
        self
    }

    /// Adds the next entry in storage order, writing as buffers fill.
    ///
    /// # Errors
    /// A failed write; the builder is of no more use.
    ///
    /// # Panics
    /// As [`Self::push`].
    pub async fn add(&mut self, entry: Entry<'_>) -> Result<()> {
        self.push(entry);
        if self.is_due() { self.flush().await } else { Ok(()) }
    }

    /// Adds the next entry in storage order, in memory. The caller flushes when [`Self::is_due`].
    ///
    /// # Panics
    /// When it does not sort after the last one, or is over a limit.
    #[inline]
    pub fn push(&mut self, entry: Entry<'_>) {
        assert!(entry.key.len() <= STORAGE_KEY_BYTES_MAX && entry.value.len() <= VALUE_BYTES_MAX);
        let relation = self.block.relation(&entry);
        if self.block.is_empty() {
            let whole = relation.same_key || self.index.is_empty();
            let length = if whole { entry.key.len() } else { relation.shared + 1 };
            self.separator.clear();
            self.separator.extend_from_slice(&entry.key[..length]);
            self.continues = relation.same_key && !self.index.is_empty();
        }
        if !relation.same_key || self.hashes.is_empty() {
            self.hashes.push(crate::hash::stable(entry.key));
        }
        self.block.push(&entry, relation);
        self.count(&entry);
        if self.block.len() >= self.block_bytes {
            self.close_block();
        }
    }

    /// Adds a range tombstone, at any time.
    ///
    /// # Panics
    /// When it covers nothing.
    pub fn push_tombstone(&mut self, tombstone: &RangeTombstone) {
        assert!(tombstone.start < tombstone.end, "a range tombstone covers something");
        footer::encode_tombstone(tombstone, &mut self.tombstones);
        let meta = &mut self.meta;
        if meta.range_tombstones == 0 || tombstone.start < meta.first {
            meta.first.clone_from(&tombstone.start);
        }
        if tombstone.end > meta.last {
            meta.last.clone_from(&tombstone.end);
        }
        meta.range_tombstones += 1;
        meta.version_min = meta.version_min.min(tombstone.version);
        meta.version_max = meta.version_max.max(tombstone.version);
    }

    /// Whether [`Self::flush`] has something to do.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.output.is_due()
    }

    /// Begins the writes that are due; returns when no more than one is under way.
    ///
    /// # Errors
    /// A failed write; the builder is of no more use.
    pub async fn flush(&mut self) -> Result<()> {
        self.output.flush().await
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.meta.rows == 0 && self.meta.range_tombstones == 0
    }

    /// The last key added as an entry.
    #[must_use]
    pub fn last_key(&self) -> &[u8] {
        self.block.last_key()
    }

    /// Bytes the file would have if it were finished at once, but for the block being filled, which is counted raw.
    #[must_use]
    pub fn estimated_bytes(&self) -> u64 {
        let rest = self.block.len() + self.index.bytes() + self.hashes.len() * 5 / 4 + self.tombstones.len();
        self.output.len() + rest as u64 + FOOTER_BYTES as u64
    }

    /// Writes the rest, makes file and name durable. On failure the file is removed.
    ///
    /// # Errors
    /// What the disk says.
    ///
    /// # Panics
    /// When nothing was added.
    pub async fn finish(mut self) -> Result<SegmentMeta> {
        assert!(!self.is_empty(), "a segment holds something");
        let result = self.write_rest().await;
        if result.is_err() {
            self.remove().await;
        }
        self.state = State::Settled;
        result.map(|()| self.meta.clone())
    }

    /// Gives the file up and removes it.
    pub async fn abandon(mut self) {
        self.remove().await;
    }

    #[inline]
    fn count(&mut self, entry: &Entry<'_>) {
        let meta = &mut self.meta;
        meta.rows += 1;
        meta.version_min = meta.version_min.min(entry.version);
        meta.version_max = meta.version_max.max(entry.version);
        if entry.kind == Kind::Delete {
            meta.deletes += 1;
        }
        if entry.expiry != Expiry::NEVER
            && (meta.expiry_min == Expiry::NEVER || entry.expiry < meta.expiry_min)
        {
            meta.expiry_min = entry.expiry;
        }
    }

    fn close_block(&mut self) {
        let (frame, crc) = self.frames.encode(self.block.finish());
        let bytes = u32::try_from(frame.len()).expect("payloads are limited");
        let place = FramePlace { offset: self.output.len(), bytes, crc };
        self.output.append(frame);
        self.index.push(place, &self.separator, self.continues);
        self.block.clear();
    }

    async fn write_rest(&mut self) -> Result<()> {
        if !self.block.is_empty() {
            self.close_block();
        }
        self.cover_entries();
        let mut index = Vec::with_capacity(self.index.bytes());
        self.index.encode(&mut index).await;
        let index = self.write_section(&index).await?;
        let mut filter = Vec::new();
        Filter::build(&self.hashes).await.encode(&mut filter);
        let filter = self.write_section(&filter).await?;
        let tombstones = std::mem::take(&mut self.tombstones);
        let tombstones = self.write_section(&tombstones).await?;
        let mut properties = Vec::new();
        footer::encode_properties(&self.meta, &mut properties);
        let properties = self.write_section(&properties).await?;
        self.output.pad();
        let mut page = vec![0; FOOTER_BYTES];
        let footer = Footer::new(self.meta.id, [index, filter, tombstones, properties]);
        self.meta.checksum = footer.encode(&mut page);
        self.output.append(&page);
        self.meta.bytes = self.output.len();
        self.meta.visible_bytes = self.meta.bytes;
        self.output.finish().await?;
        self.disk.sync_dir(&self.dir).await
    }

    /// Widens the meta's bounds, so far those of the range tombstones, to the entries'.
    fn cover_entries(&mut self) {
        let Some(first) = self.index.first_separator() else { return };
        let meta = &mut self.meta;
        if meta.range_tombstones == 0 || first < meta.first.as_slice() {
            meta.first = first.to_vec();
        }
        if self.block.last_key() > meta.last.as_slice() {
            meta.last = self.block.last_key().to_vec();
        }
    }

    async fn write_section(&mut self, bytes: &[u8]) -> Result<Section> {
        let section = Section::of(bytes, self.output.len());
        for piece in bytes.chunks(SECTION_BYTES_PER_TURN) {
            self.output.append(piece);
            self.output.flush().await?;
            yield_now().await;
        }
        Ok(section)
    }

    async fn remove(&mut self) {
        self.state = State::Settled;
        if let Err(e) = self.disk.remove(&self.path).await {
            tracing::warn!("an unfinished segment stays until the next start: {e}");
        }
    }
}

impl Drop for SegmentBuilder {
    /// Begins the removal of an unfinished file. Nobody waits for it: should it fail, the name is one that no manifest
    /// knows, and opening the partition removes it.
    fn drop(&mut self) {
        if self.state == State::Settled {
            return;
        }
        // Begun by the call; whoever drops its future does not cancel it.
        drop(self.disk.remove(&self.path));
    }
}
