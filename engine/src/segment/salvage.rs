//! What is whole in a damaged segment, block by block: for `inspect` and `repair`.
//!
//! With a whole index, a block counts if it is the one that the index means. Without one, blocks are followed from the
//! front of the file by their own headers: each has a checksum of its own, and their keys must ascend. Refuses to
//! decide what a row is: entries come out as they are, deletes and old versions included.
//!
//! Invariants:
//! - every block that comes out is whole;
//! - every byte of data that does not come out is in some [`Lost`], named by its offset, and by its keys if known.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::block::{Block, BlockCursor};
use super::filter::Filter;
use super::footer::{self, FOOTER_BYTES, Footer, Section};
use super::frame::{self, FRAME_HEADER_BYTES, FramePlace, PAYLOAD_BYTES_MAX};
use super::index::{BlockNumber, Index};
use super::{read, read_section};
use crate::entry::{Entry, RangeTombstone};
use crate::error::{Error, Result};
use crate::ids::Version;
use crate::io::disk::{Disk, File, OpenMode};

/// Damage to a part that holds no rows: footer, index, filter, range tombstones, properties.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartDamage {
    /// Where the part begins.
    pub offset: u64,
    /// What is wrong with it.
    pub what: String,
}

/// Blocks that do not come out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    /// Where they begin.
    pub offset: u64,
    /// Their bytes; none when where they end is not known.
    pub bytes: Option<u64>,
    /// What is wrong with them.
    pub what: String,
    /// No key in them is smaller; empty if not known.
    pub first: Vec<u8>,
    /// Every key in them is smaller or equal; none if not known.
    pub last: Option<Vec<u8>>,
}

/// The next of what a segment holds.
#[derive(Debug)]
pub enum Piece {
    /// A whole block.
    Block(Block),
    /// What is between whole ones.
    Lost(Lost),
}

/// A walk through a segment of which parts may be damaged.
#[derive(Debug)]
pub struct Salvage {
    file: Rc<dyn File>,
    path: PathBuf,
    size: u64,
    index: Option<Index>,
    /// Where blocks end, if the footer is there to say so.
    blocks_end: Option<u64>,
    tombstones: Option<Vec<RangeTombstone>>,
    damages: Vec<PartDamage>,
    number: BlockNumber,
    offset: u64,
    /// The last entry that came out.
    last: Option<(Vec<u8>, Version)>,
    is_done: bool,
}

impl Salvage {
    /// Opens the segment at `path` as far as it is whole.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be opened.
    pub async fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let file = disk.open(path, OpenMode::Read).await?;
        let size = file.size().await?;
        let mut salvage = Self {
            file,
            path: path.to_path_buf(),
            size,
            index: None,
            blocks_end: None,
            tombstones: None,
            damages: Vec::new(),
            number: 0,
            offset: 0,
            last: None,
            is_done: false,
        };
        salvage.read_tail().await;
        Ok(salvage)
    }

    /// Damage to parts that hold no rows.
    #[must_use]
    pub fn damages(&self) -> &[PartDamage] {
        &self.damages
    }

    /// Its range tombstones; none if they are lost.
    #[must_use]
    pub fn tombstones(&self) -> Option<&[RangeTombstone]> {
        self.tombstones.as_deref()
    }

    /// Whether blocks are told by the index; if not, by their own headers.
    #[must_use]
    pub fn has_index(&self) -> bool {
        self.index.is_some()
    }

    /// The next block, or what is lost before it; none at the end.
    pub async fn next(&mut self) -> Option<Piece> {
        if self.is_done {
            return None;
        }
        let piece = match self.index.take() {
            Some(index) => {
                let piece = self.next_indexed(&index).await;
                self.index = Some(index);
                piece
            }
            None => self.next_framed().await,
        };
        self.is_done = piece.is_none();
        piece
    }

    async fn read_tail(&mut self) {
        let footer_at = self.size.saturating_sub(FOOTER_BYTES as u64);
        let footer = match read(&*self.file, footer_at, FOOTER_BYTES).await {
            Ok(page) => Footer::decode(page.get(), self.size),
            Err(e) => Err(what_of(e)),
        };
        let footer = match footer {
            Ok(footer) => footer,
            Err(what) => return self.damaged(footer_at, what),
        };
        let [index, filter, tombstones, properties] = footer.sections();
        self.blocks_end = Some(index.offset.get());
        self.index = self.section("index", index, Index::parse).await;
        if let Some(index_end) = self.index.as_ref().map(Index::end).filter(|&end| end != index.offset.get())
        {
            self.damaged(
                index.offset.get(),
                format!("index: blocks end at {index_end}, it begins elsewhere"),
            );
            self.index = None;
        }
        self.section("filter", filter, Filter::parse).await;
        self.tombstones = self.section("range tombstones", tombstones, footer::decode_tombstones).await;
        self.section("properties", properties, |bytes| footer::decode_properties(bytes, footer.id())).await;
    }

    async fn section<T>(
        &mut self,
        name: &str,
        section: Section,
        parse: impl FnOnce(&[u8]) -> Result<T, &'static str>,
    ) -> Option<T> {
        let parsed = match read_section(&*self.file, section).await {
            Ok(bytes) => section
                .check(bytes.get())
                .and_then(|()| parse(bytes.get()).map_err(std::borrow::ToOwned::to_owned)),
            Err(e) => Err(what_of(e)),
        };
        parsed.map_err(|what| self.damaged(section.offset.get(), format!("{name}: {what}"))).ok()
    }

    fn damaged(&mut self, offset: u64, what: String) {
        self.damages.push(PartDamage { offset, what });
    }

    async fn next_indexed(&mut self, index: &Index) -> Option<Piece> {
        if self.number >= index.block_count() {
            return None;
        }
        let number = self.number;
        self.number += 1;
        let place = index.place(number);
        Some(match self.block(place).await {
            Ok(block) => Piece::Block(block),
            Err(what) => Piece::Lost(Lost {
                offset: place.offset,
                bytes: Some(u64::from(place.bytes)),
                what,
                first: index.border(number),
                last: (self.number < index.block_count()).then(|| index.border(self.number)),
            }),
        })
    }

    /// The block at the current offset by its own header; past a damaged one if its length leads to a whole one.
    async fn next_framed(&mut self) -> Option<Piece> {
        let end = self.blocks_end.unwrap_or(self.size.saturating_sub(FOOTER_BYTES as u64));
        if self.offset >= end {
            return None;
        }
        let begin = self.offset;
        let what = match self.framed(begin).await {
            Ok((block, next)) => {
                self.offset = next;
                return Some(Piece::Block(block));
            }
            Err(what) => what,
        };
        let first = self.last.as_ref().map(|(key, _)| key.clone()).unwrap_or_default();
        let lost =
            |bytes, last| Lost { offset: begin, bytes, what: what.clone(), first: first.clone(), last };
        if let Some(next) = self.frame_end(begin, end).await {
            let before = self.last.clone();
            if let Ok((block, _)) = self.framed(next).await {
                self.offset = next;
                self.last = before;
                return Some(Piece::Lost(lost(Some(next - begin), Some(first_key(&block)))));
            }
        }
        self.offset = end;
        let end_is_known = self.blocks_end.is_some();
        // Without a footer the first thing that is no block may as well be the index.
        let is_loss = end_is_known || begin == 0;
        is_loss.then(|| Piece::Lost(lost(end_is_known.then(|| end - begin), None)))
    }

    /// The block at `offset` and where the next one begins.
    async fn framed(&mut self, offset: u64) -> Result<(Block, u64), String> {
        let end = self.frame_end(offset, self.size).await.ok_or("no block begins here")?;
        let head = read(&*self.file, offset, FRAME_HEADER_BYTES).await.map_err(what_of)?;
        let crc = head.get().first_chunk().map_or(0, |crc| u32::from_le_bytes(*crc));
        let bytes = u32::try_from(end - offset).map_err(|_| "no block is that long")?;
        let before = self.last.clone();
        let block = self.block(FramePlace { offset, bytes, crc }).await?;
        let mut cursor = BlockCursor::first(block.clone(), Vec::new());
        let mut last = before.clone();
        loop {
            let entry = cursor.entry();
            if let Some((key, version)) = &last
                && crate::entry::order((key, *version), (entry.key, entry.version)).is_ge()
            {
                self.last = before;
                return Err("a whole block, but its keys do not follow those before it".into());
            }
            last = Some((entry.key.to_vec(), entry.version));
            if !cursor.advance() {
                break;
            }
        }
        self.last = last;
        Ok((block, end))
    }

    /// Where the block at `offset` ends, as its header says.
    async fn frame_end(&self, offset: u64, limit: u64) -> Option<u64> {
        let head = read(&*self.file, offset, FRAME_HEADER_BYTES).await.ok()?;
        let stored = u32::from_le_bytes(*head.get().get(4..)?.first_chunk()?);
        if stored == 0 || stored as usize > PAYLOAD_BYTES_MAX {
            return None;
        }
        offset.checked_add(FRAME_HEADER_BYTES as u64 + u64::from(stored)).filter(|&end| end <= limit)
    }

    async fn block(&self, place: FramePlace) -> Result<Block, String> {
        let bytes = read(&*self.file, place.offset, place.bytes as usize).await.map_err(what_of)?;
        frame::decode(bytes.get(), place, &self.path, &mut Vec::new()).map_err(what_of)
    }
}

impl Block {
    /// Its entries, in storage order.
    pub fn for_each(&self, mut f: impl FnMut(Entry<'_>)) {
        let mut cursor = BlockCursor::first(self.clone(), Vec::new());
        loop {
            f(cursor.entry());
            if !cursor.advance() {
                return;
            }
        }
    }
}

fn first_key(block: &Block) -> Vec<u8> {
    BlockCursor::first(block.clone(), Vec::new()).entry().key.to_vec()
}

/// An error's words, its place left out: the caller names that.
fn what_of(error: Error) -> String {
    if let Error::Corrupt(corruption) = &error { corruption.what.clone() } else { error.to_string() }
}
