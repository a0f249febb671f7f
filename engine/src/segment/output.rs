//! A file written front to back in large aligned writes, one of them under way while the next is filled.

use std::collections::VecDeque;
use std::rc::Rc;

use futures_lite::future::poll_once;

use crate::error::Result;
use crate::io::buffer::{ALIGNMENT, AlignedBuf};
use crate::io::disk::{File, LocalFuture, Write};

/// One write: large enough that the device is not the bottleneck, small enough that a client's read behind it waits
/// well under a millisecond.
const WRITE_BYTES: usize = 256 << 10;

/// The write side of a segment file.
pub(crate) struct Output {
    file: Rc<dyn File>,
    filling: AlignedBuf,
    filled: usize,
    full: VecDeque<AlignedBuf>,
    spare: Option<AlignedBuf>,
    writing: Option<LocalFuture<(AlignedBuf, Result<()>)>>,
    /// Bytes appended.
    len: u64,
    /// Bytes whose write was begun.
    written: u64,
    /// Of these, bytes that were made durable, and after how many more that is done again.
    synced: u64,
    sync_each: u64,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Output({}, {} bytes)", self.file.path().display(), self.len)
    }
}

impl Output {
    pub(crate) fn new(file: Rc<dyn File>) -> Self {
        Self {
            file,
            filling: AlignedBuf::zeroed(WRITE_BYTES),
            filled: 0,
            full: VecDeque::new(),
            spare: None,
            writing: None,
            len: 0,
            written: 0,
            synced: 0,
            sync_each: u64::MAX,
        }
    }

    /// From here on, what was written is made durable each time that it is so many bytes more.
    pub(crate) fn sync_each(&mut self, bytes: u64) {
        self.sync_each = bytes;
    }

    /// Bytes appended so far: the offset of what comes next.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Appends in memory. The caller bounds it by flushing when [`Self::is_due`].
    pub(crate) fn append(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len() as u64;
        loop {
            let room = WRITE_BYTES - self.filled;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.filling[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            if self.filled < WRITE_BYTES {
                return;
            }
            let next = self.spare.take().unwrap_or_else(|| AlignedBuf::zeroed(WRITE_BYTES));
            self.full.push_back(std::mem::replace(&mut self.filling, next));
            self.filled = 0;
            bytes = later;
        }
    }

    /// Whether a whole write is waiting to be begun.
    pub(crate) fn is_due(&self) -> bool {
        !self.full.is_empty()
    }

    /// Begins the writes that are due; returns when no more than one is under way, and what is to be durable is.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        while let Some(buf) = self.full.pop_front() {
            self.settle().await?;
            let mut writing = self.file.write_at(buf, self.written, Write::Plain);
            self.written += WRITE_BYTES as u64;
            // Polled once, the disk has it; it goes on while the next buffer is filled.
            match poll_once(&mut writing).await {
                Some((buf, result)) => {
                    self.spare = Some(buf);
                    result?;
                }
                None => self.writing = Some(writing),
            }
            if self.written - self.synced >= self.sync_each {
                self.settle().await?;
                self.file.sync().await?;
                self.synced = self.written;
            }
        }
        Ok(())
    }

    /// Zeros up to the next page.
    pub(crate) fn pad(&mut self) {
        let past = usize::try_from(self.len % ALIGNMENT as u64).expect("less than a page");
        if past > 0 {
            self.append(&[0; ALIGNMENT][past..]);
        }
    }

    /// Writes what is left and makes all of it durable.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        self.pad();
        self.flush().await?;
        self.settle().await?;
        if self.filled > 0 {
            let rest = AlignedBuf::from_slice(&self.filling[..self.filled]);
            self.file.write_at(rest, self.written, Write::Plain).await.1?;
        }
        self.file.sync().await
    }

    /// Waits for the write under way.
    async fn settle(&mut self) -> Result<()> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        let (buf, result) = writing.await;
        self.spare = Some(buf);
        result
    }
}
