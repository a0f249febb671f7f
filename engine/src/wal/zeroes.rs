//! Writing a log's files with zeroes before the log gets there, so that a durable batch never waits for the file
//! system to note that its blocks are in use.
//!
//! When a file is made its room is reserved and its front is written. The rest follows: of the current file in steps
//! ahead of the writer, of the next one all at once when a quarter of the current one is used. So making a file is
//! quick, and reading back a log that was hardly used reads next to nothing from the device.
//!
//! Where batches go through the page cache nobody waits for that note, and no zeroes are written: a device that is slow would have
//! the writer wait for them.
//!
//! Invariants:
//! - past the page cache no batch is written beyond what zeroes, or batches, were written and flushed up to;
//! - past the page cache a slot is begun only when the file of the slot before it has been written to its end; one that was
//!   not, and is adopted by a log that goes past it, costs that log's commits the file system's notes once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::latch::Latch;
use super::shared::Shared;
use super::space::FileNumber;
use crate::error::Result;
use crate::io::buffer::AlignedBuf;
use crate::io::disk::{File, Write};

/// Zeroes go out in slices, so that a commit never waits long behind them.
const SLICE_BYTES: u64 = 1 << 20;
/// Flushed together. Each flush may delay a commit to the same file: a file of the usual size has eight.
const STEP_BYTES: u64 = 8 << 20;
/// The front of a new file: enough for what is written until the first step is done.
const FRONT_BYTES: u64 = 1 << 20;

/// How far each file has been written.
#[derive(Debug, Default)]
pub(super) struct Zeroes {
    written: RefCell<Vec<u64>>,
    /// What the writer waits for, of the current file.
    wanted: Cell<u64>,
    advanced: Latch,
}

impl Zeroes {
    /// File number `files` joins, written up to `bytes`.
    pub(super) fn joined(&self, bytes: u64) {
        self.written.borrow_mut().push(bytes);
    }

    /// Wakes the writer: the log has failed.
    pub(super) fn wake(&self) {
        self.advanced.raise();
    }
}

impl Shared {
    /// Reserves room for a new file and writes its front; then it has its full length. Up to where no zeroes are needed.
    pub(super) async fn write_front(&self, file: &Rc<dyn File>) -> Result<u64> {
        let file_bytes = self.config.file_bytes;
        file.allocate(file_bytes).await?;
        let zeroed = FRONT_BYTES.min(file_bytes);
        let (front, ready) = if self.is_cached() { (0, file_bytes) } else { (zeroed, zeroed) };
        if front > 0 {
            write_zeroes(file, 0, front).await?;
        }
        if front < file_bytes {
            let last = AlignedBuf::zeroed(1);
            let at = file_bytes - last.len() as u64;
            file.write_at(last, at, Write::Plain).await.1?;
        }
        file.sync().await?;
        Ok(ready)
    }

    /// Waits until the current file has been written up to `offset`.
    pub(super) async fn zeroed(&self, offset: u64) -> Result<()> {
        let zeroes = &self.zeroes;
        while zeroes.written.borrow()[self.current.get()] < offset {
            zeroes.wanted.set(offset);
            self.tell();
            self.prepare.raise();
            zeroes.advanced.taken().await;
            if let Some(error) = self.failure.get() {
                return Err(error.clone());
            }
        }
        zeroes.wanted.set(0);
        Ok(())
    }

    /// Whether zeroes should be written.
    pub(super) fn is_zeroing_due(&self) -> bool {
        self.zeroing_due().is_some()
    }

    /// Which file is to be written further, and up to where.
    fn zeroing_due(&self) -> Option<(FileNumber, u64)> {
        let file_bytes = self.config.file_bytes;
        let (current, next) = self.space.borrow().current_and_next();
        let written = self.zeroes.written.borrow();
        let used = self.written_end.get().0 % file_bytes;
        if let Some(current) = current
            && written[current] < file_bytes
        {
            let ahead = written[current].saturating_sub(used);
            let is_near = ahead < (written[current] / 2).min(STEP_BYTES / 2);
            if is_near || self.zeroes.wanted.get() > written[current] {
                return Some((current, (written[current] + STEP_BYTES).min(file_bytes)));
            }
        }
        let next = next.filter(|&next| used >= file_bytes / 4 && written[next] < file_bytes);
        next.map(|next| (next, file_bytes))
    }

    /// Writes what is due, a step of it.
    pub(super) async fn zero(&self) -> Result<()> {
        let Some((number, upto)) = self.zeroing_due() else { return Ok(()) };
        let from = self.zeroes.written.borrow()[number];
        let file = Rc::clone(&self.files.borrow()[number]);
        write_zeroes(&file, from, upto).await?;
        file.sync().await?;
        self.zeroes.written.borrow_mut()[number] = upto;
        self.zeroes.advanced.raise();
        Ok(())
    }
}

async fn write_zeroes(file: &Rc<dyn File>, from: u64, upto: u64) -> Result<()> {
    let slice = SLICE_BYTES.min(upto - from);
    let mut zeroes = AlignedBuf::zeroed(usize::try_from(slice).expect("a slice is small"));
    let mut offset = from;
    while offset < upto {
        let bytes = slice.min(upto - offset);
        zeroes.set_len(usize::try_from(bytes).expect("a slice is small"));
        let (returned, result) = file.write_at(zeroes, offset, Write::Plain).await;
        result?;
        zeroes = returned;
        offset += bytes;
    }
    Ok(())
}
