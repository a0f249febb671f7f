//! A log's files read front to back in pieces, the next ones on their way while one is used.
//!
//! Invariants:
//! - pieces of one file follow each other without a gap;
//! - at most [`AHEAD`] of them are on their way, each in a buffer of its own.

use std::collections::VecDeque;
use std::fmt;

use super::scan::LogFile;
use crate::error::Result;
use crate::io::buffer::{AlignedBuf, align_up_u64};
use crate::io::disk::LocalFuture;

/// One read: [`AHEAD`] of them at a time get more out of a device than one large read after the other.
const PIECE_BYTES: u64 = 512 << 10;
/// Reads on their way: two megabytes, which a device takes about as long for as their rows take to replay.
const AHEAD: usize = 4;

/// A part of one slot in memory.
#[derive(Default)]
pub(super) struct Window {
    slot: u64,
    /// The piece in use.
    piece: Option<AlignedBuf>,
    start: u64,
    len: usize,
    /// What lies across pieces, put together, and where it begins.
    joined: Vec<u8>,
    joined_start: u64,
    ahead: VecDeque<LocalFuture<(AlignedBuf, Result<usize>)>>,
    /// Where the next read to be begun begins.
    next: u64,
    spare: Vec<AlignedBuf>,
}

impl Window {
    /// `count` bytes of a slot from `offset`; what lies after the end of the file is missing. Fastest front to back.
    pub(super) async fn read(
        &mut self,
        file: &LogFile,
        slot: u64,
        offset: u64,
        count: usize,
    ) -> Result<&[u8]> {
        if self.slot != slot || !(self.start..=self.end()).contains(&offset) {
            self.go_to(slot, offset);
        }
        if self.end() < offset + count as u64 {
            self.join(file, offset, count).await?;
        }
        Ok(self.bytes(offset, count))
    }

    /// Bytes read before.
    pub(super) fn bytes(&self, offset: u64, count: usize) -> &[u8] {
        if offset == self.joined_start && !self.joined.is_empty() {
            return self.joined.get(..count).unwrap_or(&self.joined);
        }
        let piece = self.piece.as_deref().and_then(|piece| piece.get(..self.len)).unwrap_or_default();
        let from = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let rest = piece.get(from..).unwrap_or_default();
        rest.get(..count).unwrap_or(rest)
    }

    const fn end(&self) -> u64 {
        self.start + self.len as u64
    }

    fn go_to(&mut self, slot: u64, offset: u64) {
        self.joined.clear();
        self.ahead.clear();
        (self.slot, self.start, self.len, self.next) = (slot, offset, 0, offset);
    }

    /// Has `count` bytes from `offset`, which the piece in use does not reach, in one place.
    async fn join(&mut self, file: &LogFile, offset: u64, count: usize) -> Result<()> {
        self.joined.clear();
        let mut joined = self.bytes(offset, count).to_vec();
        while joined.len() < count && self.advance(file).await? {
            if joined.is_empty() && self.len >= count {
                return Ok(());
            }
            joined.extend_from_slice(self.bytes(self.start, count - joined.len()));
        }
        (self.joined, self.joined_start) = (joined, offset);
        Ok(())
    }

    /// Goes on to the next piece; false at the end of the file.
    async fn advance(&mut self, file: &LogFile) -> Result<bool> {
        while self.ahead.len() < AHEAD && self.next < file.size {
            let bytes = align_up_u64(PIECE_BYTES.min(file.size - self.next));
            let buf = self.buffer(usize::try_from(bytes).expect("at most a piece"));
            self.ahead.push_back(file.file.read_at(buf, self.next));
            self.next += bytes;
        }
        let Some(reading) = self.ahead.pop_front() else { return Ok(false) };
        let (piece, read) = reading.await;
        (self.start, self.len) = (self.end(), read?);
        if self.len < piece.len() {
            // The file ends here, whatever its size was.
            self.ahead.clear();
            self.next = u64::MAX;
        }
        self.spare.extend(self.piece.replace(piece));
        Ok(self.len > 0)
    }

    fn buffer(&mut self, bytes: usize) -> AlignedBuf {
        match self.spare.pop() {
            Some(mut spare) if spare.capacity() >= bytes => {
                spare.set_len(bytes);
                spare
            }
            Some(_) | None => AlignedBuf::zeroed(bytes),
        }
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window(slot {}, {} bytes from {})", self.slot, self.len, self.start)
    }
}
