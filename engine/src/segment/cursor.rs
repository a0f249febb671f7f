//! A walk through what is visible of one segment, in storage order.
//!
//! Stepping inside a block is a plain function call; at a border the cursor says that it needs a block, and
//! [`SegmentCursor::load`] gets it: through the cache for scans, by large reads that leave the cache alone for
//! compaction.
//!
//! Invariants:
//! - after [`Step::Ready`], `entry` is the current entry, or `None` at the end;
//! - after [`Step::NeedsLoad`], `entry` is `None` until `load` returned;
//! - `entry` is visible: a step that ends at one that is not goes on from there.

use std::rc::Rc;

use futures_lite::future::poll_once;

use super::block::{Block, BlockCursor};
use super::index::BlockNumber;
use super::ranges::Next;
use super::{Bytes, Segment, Span, frame};
use crate::entry::Entry;
use crate::error::Result;
use crate::ids::Version;
use crate::io::buffer::{ALIGNMENT, AlignedBuf};
use crate::io::disk::LocalFuture;
use crate::merge::Step;

/// One read ahead of a compaction: with two of them per input, eight inputs take 4 MiB.
const AHEAD_BYTES: u64 = 256 << 10;

/// Where a cursor's blocks come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadMode {
    /// The cache, and into it.
    Cached,
    /// Large reads of consecutive blocks, one ahead of the walk; the cache is neither asked nor filled.
    Ahead,
}

/// A place in a segment.
#[derive(Debug)]
pub struct SegmentCursor {
    segment: Rc<Segment>,
    place: Place,
    /// Memory for keys while no block is open.
    key: Vec<u8>,
    ahead: Option<Ahead>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
enum Place {
    In(BlockNumber, BlockCursor),
    /// The entry after all of block `n - 1`'s.
    Before(BlockNumber),
    /// The first entry at or after a sought one, which is in this block or at the next one's start.
    Seeking(BlockNumber, Vec<u8>, Version),
    End,
}

impl SegmentCursor {
    /// A cursor that stands at the end until it is sought.
    #[must_use]
    pub fn new(segment: Rc<Segment>, mode: ReadMode) -> Self {
        let ahead = (mode == ReadMode::Ahead).then(Ahead::default);
        Self { segment, place: Place::End, key: Vec::new(), ahead, scratch: Vec::new() }
    }

    /// The segment it walks.
    #[must_use]
    pub fn segment(&self) -> &Rc<Segment> {
        &self.segment
    }

    /// Moves to the first entry.
    pub fn seek_first(&mut self) -> Step {
        if self.segment.meta().is_whole() { self.open(0) } else { self.seek(b"", Version::MAX) }
    }

    /// Moves to the first entry at or after (`key`, `at`) in storage order.
    pub fn seek(&mut self, key: &[u8], at: Version) -> Step {
        let segment = Rc::clone(&self.segment);
        let step = match segment.meta().visible.next(key) {
            Next::Here => self.seek_in_file(key, at),
            Next::From(start) => self.seek_in_file(start, Version::MAX),
            Next::Nowhere => self.end(),
        };
        self.skip_hidden(step)
    }

    fn seek_in_file(&mut self, key: &[u8], at: Version) -> Step {
        let Some(number) = self.segment.index().block_of(key) else {
            return self.open(0);
        };
        match self.cached(number) {
            Some(block) => self.seek_in(number, block, key, at),
            None => {
                self.set(Place::Seeking(number, key.to_vec(), at));
                Step::NeedsLoad
            }
        }
    }

    /// The current entry.
    #[must_use]
    #[inline]
    pub fn entry(&self) -> Option<Entry<'_>> {
        match &self.place {
            Place::In(_, cursor) => Some(cursor.entry()),
            Place::Before(_) | Place::Seeking(..) | Place::End => None,
        }
    }

    /// Moves to the next entry. At the end it stays.
    #[inline]
    pub fn advance(&mut self) -> Step {
        match &mut self.place {
            Place::In(number, cursor) => {
                let step = if cursor.advance() {
                    Step::Ready
                } else {
                    let next = *number + 1;
                    self.open(next)
                };
                self.skip_hidden(step)
            }
            Place::End => Step::Ready,
            Place::Before(_) | Place::Seeking(..) => Step::NeedsLoad,
        }
    }

    /// Gets the block that the last step needed, and completes that step.
    ///
    /// # Errors
    /// As [`Segment::load`]; the cursor stays where it was and may try again.
    pub async fn load(&mut self) -> Result<()> {
        loop {
            let number = match &self.place {
                Place::In(..) | Place::End => return Ok(()),
                Place::Before(number) | Place::Seeking(number, ..) => *number,
            };
            let block = match &mut self.ahead {
                None => self.segment.load(number).await?,
                Some(ahead) => ahead.load(&self.segment, number, &mut self.scratch).await?,
            };
            let step = match std::mem::replace(&mut self.place, Place::End) {
                Place::Seeking(_, key, at) => self.seek_in(number, block, &key, at),
                Place::Before(_) | Place::In(..) | Place::End => self.enter(number, block),
            };
            if self.skip_hidden(step) == Step::Ready {
                return Ok(());
            }
        }
    }

    fn seek_in(&mut self, number: BlockNumber, block: Block, key: &[u8], at: Version) -> Step {
        let Some(position) = block.seek(key, at) else {
            if self.segment.index().continues_with(number + 1, key) {
                self.set(Place::Seeking(number + 1, key.to_vec(), at));
                return Step::NeedsLoad;
            }
            return self.open(number + 1);
        };
        let memory = self.take_key();
        self.place = Place::In(number, BlockCursor::at_position(block, memory, position, key));
        Step::Ready
    }

    /// Where the last step ended at a hidden entry, goes on to the next visible one.
    #[inline]
    fn skip_hidden(&mut self, step: Step) -> Step {
        if self.segment.meta().is_whole() { step } else { self.skip_hidden_of_view(step) }
    }

    fn skip_hidden_of_view(&mut self, mut step: Step) -> Step {
        let segment = Rc::clone(&self.segment);
        while step == Step::Ready
            && let Some(entry) = self.entry()
        {
            step = match segment.meta().visible.next(entry.key) {
                Next::Here => return Step::Ready,
                Next::From(start) => self.seek_in_file(start, Version::MAX),
                Next::Nowhere => self.end(),
            };
        }
        step
    }

    fn end(&mut self) -> Step {
        self.set(Place::End);
        Step::Ready
    }

    /// To the first entry of block `number`, or to the end if there is no such block.
    fn open(&mut self, number: BlockNumber) -> Step {
        if number >= self.segment.index().block_count() {
            return self.end();
        }
        match self.cached(number) {
            Some(block) => self.enter(number, block),
            None => {
                self.set(Place::Before(number));
                Step::NeedsLoad
            }
        }
    }

    fn enter(&mut self, number: BlockNumber, block: Block) -> Step {
        let key = self.take_key();
        self.place = Place::In(number, BlockCursor::first(block, key));
        Step::Ready
    }

    fn cached(&self, number: BlockNumber) -> Option<Block> {
        if self.ahead.is_some() { None } else { self.segment.cached_block(number) }
    }

    fn set(&mut self, place: Place) {
        self.key = self.take_key();
        self.place = place;
    }

    fn take_key(&mut self) -> Vec<u8> {
        match std::mem::replace(&mut self.place, Place::End) {
            Place::In(_, cursor) => cursor.into_key(),
            Place::Before(_) | Place::Seeking(..) | Place::End => std::mem::take(&mut self.key),
        }
    }
}

type Reading = LocalFuture<(AlignedBuf, Result<usize>)>;

/// Consecutive blocks by large reads, the next of which is under way while one is used.
#[derive(Default)]
struct Ahead {
    chunk: Option<Chunk>,
    next: Option<(Range, Reading)>,
}

/// Whole blocks `first..past`, which lie in `bytes` from `offset` on.
#[derive(Debug)]
struct Chunk {
    range: Range,
    bytes: Bytes,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    first: BlockNumber,
    past: BlockNumber,
    offset: u64,
    end: u64,
}

impl std::fmt::Debug for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ahead").field("chunk", &self.chunk).finish_non_exhaustive()
    }
}

impl Ahead {
    async fn load(&mut self, segment: &Segment, number: BlockNumber, scratch: &mut Vec<u8>) -> Result<Block> {
        let inside = self.chunk.as_ref().is_some_and(|c| (c.range.first..c.range.past).contains(&number));
        if !inside {
            self.turn_to(segment, number).await?;
        }
        let chunk = self.chunk.as_ref().expect("just read");
        let place = segment.index().place(number);
        let start = usize::try_from(place.offset - chunk.range.offset).expect("inside the chunk");
        let frame = &chunk.bytes.get()[start..start + place.bytes as usize];
        frame::decode(frame, place, segment.file().path(), scratch)
    }

    /// Makes the chunk that begins with block `number` the current one, and begins to read the one after it.
    async fn turn_to(&mut self, segment: &Segment, number: BlockNumber) -> Result<()> {
        self.chunk = None;
        let (range, reading) = match self.next.take() {
            Some((range, reading)) if range.first == number => (range, reading),
            Some(_) | None => begin(segment, number),
        };
        let (buf, result) = reading.await;
        let start = usize::try_from(range.offset % ALIGNMENT as u64).expect("less than a page");
        let len = usize::try_from(range.end - range.offset).expect("a chunk fits memory");
        let bytes = Bytes::of(buf, result?, Span { start, len }, (segment.file().path(), range.offset))?;
        self.chunk = Some(Chunk { range, bytes });
        if range.past < segment.index().block_count() && is_wanted(segment, range.past) {
            let (range, mut reading) = begin(segment, range.past);
            match poll_once(&mut reading).await {
                None => self.next = Some((range, reading)),
                Some(done) => self.next = Some((range, Box::pin(std::future::ready(done)))),
            }
        }
        Ok(())
    }
}

/// Whether a walk goes on into block `number`: what lies past the last visible key is not read.
fn is_wanted(segment: &Segment, number: BlockNumber) -> bool {
    segment.meta().is_whole() || segment.index().border(number) <= segment.meta().last
}

/// Begins to read a chunk from block `first` on.
fn begin(segment: &Segment, first: BlockNumber) -> (Range, Reading) {
    let index = segment.index();
    let offset = index.offset(first);
    let past = index.block_at(offset + AHEAD_BYTES).max(first + 1);
    let range = Range { first, past, offset, end: index.offset(past) };
    let from = range.offset - range.offset % ALIGNMENT as u64;
    let len = usize::try_from(range.end - from).expect("a chunk fits memory");
    (range, segment.file().read_at(AlignedBuf::zeroed(len), from))
}
