//! One segment, copied: every block is checked on its way, the rest when the copy is opened.
//!
//! Invariants:
//! - under its final name a copy is whole and durable, or is not there;
//! - while a piece is written the next one is read, and no piece holds the shard for longer than its checksum takes.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Progress;
use super::pace::Pace;
use crate::cache::BlockCache;
use crate::error::{Error, Result};
use crate::io::buffer::AlignedBuf;
use crate::io::disk::{Disk, LocalFuture, OpenMode, Write};
use crate::segment::Segment;
use crate::segment::frame::FramePlace;

/// 256 KiB: its checksum takes some 50 us, and a client's read that queues behind it hardly notices.
const PIECE_BYTES: usize = 256 << 10;
/// Where a block's own checksum ends, which covers what follows it.
const COVERED_FROM: u64 = 4;

/// What copying needs.
#[derive(Debug)]
pub(super) struct Copier<'a> {
    pub(super) disk: &'a Rc<dyn Disk>,
    pub(super) pace: Pace,
    pub(super) progress: &'a Progress,
}

/// The name of a file that is not finished.
pub(super) fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(DRAFT_SUFFIX);
    PathBuf::from(name)
}

/// What ends such a name.
pub(super) const DRAFT_SUFFIX: &str = ".part";

impl Copier<'_> {
    /// Copies a segment to `path`, which nothing has the name of. Its directory is for the caller to sync.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the source is damaged, or the copy; [`Error::Io`].
    pub(super) async fn copy(&self, source: &Segment, path: &Path) -> Result<()> {
        let draft = draft_of(path);
        if self.disk.exists(&draft).await? {
            self.disk.remove(&draft).await?;
        }
        match self.write(source, &draft).await {
            Ok(()) => self.disk.rename(&draft, path).await,
            Err(e) => {
                // What it took may be what somebody else lacks; a draft that stays is removed by the next backup.
                let _stays = self.disk.remove(&draft).await;
                Err(e)
            }
        }
    }

    async fn write(&self, source: &Segment, draft: &Path) -> Result<()> {
        let bytes = source.meta().bytes;
        let target = self.disk.open(draft, OpenMode::Create).await?;
        let read = |offset: u64| -> LocalFuture<_> {
            let len = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(PIECE_BYTES);
            source.file().read_at(AlignedBuf::zeroed(len), offset)
        };
        let mut check = Check::new(source);
        let mut offset = 0;
        let mut reading = read(0);
        loop {
            self.progress.check()?;
            let (buf, count) = reading.await;
            let count = count?;
            if count < buf.len() {
                return Err(Error::corrupt(
                    source.file().path(),
                    offset + count as u64,
                    "the file ends early",
                ));
            }
            let at = offset;
            offset += count as u64;
            let next = (offset < bytes).then(|| read(offset));
            check.piece(&buf)?;
            target.write_at(buf, at, Write::Plain).await.1?;
            self.progress.copied(count as u64);
            self.pace.spent(count as u64).await;
            match next {
                Some(next) => reading = next,
                None => break,
            }
        }
        target.sync().await?;
        Segment::open(&**self.disk, draft, source.meta().clone(), Rc::new(BlockCache::new(0))).await.map(drop)
    }
}

/// Follows a segment's blocks in pieces of its file.
struct Check<'a> {
    source: &'a Segment,
    /// The block the next byte belongs to, and that byte's offset.
    block: u32,
    at: u64,
    /// The checksum the block has itself, as far as it was read.
    own: Vec<u8>,
    covered: crc32fast::Hasher,
}

impl<'a> Check<'a> {
    fn new(source: &'a Segment) -> Self {
        Self { source, block: 0, at: 0, own: Vec::new(), covered: crc32fast::Hasher::new() }
    }

    /// Takes the next bytes of the file. What follows the blocks is not looked at.
    fn piece(&mut self, mut bytes: &[u8]) -> Result<()> {
        let index = self.source.index();
        while !bytes.is_empty() && self.block < index.block_count() {
            let place = index.place(self.block);
            let end = place.offset + u64::from(place.bytes);
            let left = usize::try_from(end - self.at).unwrap_or(usize::MAX);
            let (here, rest) = bytes.split_at(left.min(bytes.len()));
            let uncovered = (place.offset + COVERED_FROM).saturating_sub(self.at);
            let uncovered = usize::try_from(uncovered).unwrap_or(usize::MAX).min(here.len());
            self.own.extend_from_slice(&here[..uncovered]);
            self.covered.update(&here[uncovered..]);
            self.at += here.len() as u64;
            bytes = rest;
            if self.at == end {
                self.end_block(place)?;
            }
        }
        Ok(())
    }

    fn end_block(&mut self, place: FramePlace) -> Result<()> {
        let computed = std::mem::take(&mut self.covered).finalize();
        if self.own != place.crc.to_le_bytes() || computed != place.crc {
            let what = format!("block {}: its checksum is {computed:08x}, not {:08x}", self.block, place.crc);
            return Err(Error::corrupt(self.source.file().path(), place.offset, what));
        }
        self.own.clear();
        self.block += 1;
        Ok(())
    }
}
