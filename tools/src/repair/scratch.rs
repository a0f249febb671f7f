//! Entries on their way from a damaged store to a new one: in memory, and beyond that in segments of their own.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use foreshard_engine::cache::BlockCache;
use foreshard_engine::entry::{Entry, RangeTombstone};
use foreshard_engine::ids::{SegmentId, Version};
use foreshard_engine::io::disk::Disk;
use foreshard_engine::memtable::Memtable;
use foreshard_engine::merge::Source;
use foreshard_engine::segment::{
    BuildOptions, ReadMode, RunCursor, Segment, SegmentBuilder, SegmentMeta, path_of,
};
use foreshard_engine::tombstones::RangeTombstones;

use crate::shell::Failure;

/// What is held in memory before it is written out.
const MEMORY_BYTES_MAX: usize = 64 << 20;

/// Some entries of one partition, in any order.
pub(super) struct Scratch {
    disk: Rc<dyn Disk>,
    dir: PathBuf,
    memtable: Rc<Memtable>,
    spilled: Vec<SegmentMeta>,
    tombstones: RangeTombstones,
}

impl Scratch {
    /// Nothing yet; spills into `dir`, which exists and is empty.
    pub(super) fn new(disk: &Rc<dyn Disk>, dir: &Path) -> Self {
        Self {
            disk: Rc::clone(disk),
            dir: dir.to_path_buf(),
            memtable: Rc::new(Memtable::new()),
            spilled: Vec::new(),
            tombstones: RangeTombstones::default(),
        }
    }

    pub(super) fn insert(&self, entry: Entry<'_>) {
        self.memtable.insert(entry);
    }

    pub(super) fn delete_range(&mut self, tombstone: RangeTombstone) {
        self.tombstones.add(tombstone);
    }

    /// Its range tombstones.
    pub(super) const fn tombstones(&self) -> &RangeTombstones {
        &self.tombstones
    }

    /// Writes out what is in memory once that is much.
    pub(super) async fn spill_if_full(&mut self) -> Result<(), Failure> {
        if self.memtable.bytes() < MEMORY_BYTES_MAX {
            return Ok(());
        }
        let id = SegmentId(self.spilled.len() as u64 + 1);
        let mut builder =
            SegmentBuilder::create(Rc::clone(&self.disk), &self.dir, id, BuildOptions::default()).await?;
        let mut cursor = self.memtable.cursor();
        cursor.seek(&[], Version::MAX);
        while let Some(entry) = cursor.entry() {
            builder.add(entry).await?;
            cursor.advance();
        }
        self.spilled.push(builder.finish().await?);
        self.memtable = Rc::new(Memtable::new());
        Ok(())
    }

    /// All entries, as inputs of a merge.
    pub(super) async fn sources(&self) -> Result<Vec<Source>, Failure> {
        let mut sources: Vec<Source> = vec![self.memtable.cursor().into()];
        for meta in &self.spilled {
            let cache = Rc::new(BlockCache::new(0));
            let segment =
                Segment::open(&*self.disk, &path_of(&self.dir, meta.id), meta.clone(), cache).await?;
            sources.push(RunCursor::of(segment, ReadMode::Ahead).into());
        }
        Ok(sources)
    }

    /// Removes what was written out.
    pub(super) async fn clear(self) -> Result<(), Failure> {
        for meta in &self.spilled {
            self.disk.remove(&path_of(&self.dir, meta.id)).await?;
        }
        Ok(())
    }
}
