//! The task that writes a log: batches in order, one in flight at a time; while the device is busy the next one fills.
//!
//! Why one: a batch costs the core some 75 us in the kernel (two doorbells of a virtual device, two interrupts, the
//! workers that flush), more than the core idles while one is under way. Callers that come back once answered wrote 0.92
//! to 0.98 times as much a second when two batches of half of them were in flight (64 callers; 0.92 with 16, 0.86 with
//! 8), 0.82 to 0.87 with three, 0.77 with four. Callers that come at random waited 10 to 20 % less with two; that is
//! not worth a second batch in doubt after a crash.
//!
//! Invariants:
//! - batches reach the device in order, each naming the one before it; under `Durability::Always` a batch is
//!   written only after the one before it is durable;
//! - no ticket is committed before its batch is written (and flushed, under `Durability::Always`);
//! - who waits for a batch that is there is told before the writer waits for anything;
//! - a header's `durable` never runs ahead of what a completed flush covers;
//! - a file is written again only after a durable batch says that nothing in it is needed.

use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use super::format::{BLOCK_BYTES, BatchHeader, Link, SlotHeader};
use super::shared::{Phase, Shared, Written};
use super::slots::FULL_RETRY;
use super::space::FileNumber;
use super::tail::Filling;
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::io::buffer::AlignedBuf;
use crate::io::disk::Write;

/// After this much silence an empty batch tells what is durable, so that only the last batch before a crash is ever
/// in doubt (R2). Long enough not to double the writes of a caller that waits for each of them.
const IDLE: Duration = Duration::from_millis(10);

impl Shared {
    pub(super) async fn run_writer(self: Rc<Self>) {
        loop {
            // Everything that is ready to run in this turn of the shard joins the batch.
            self.runtime.yield_now().await;
            if self.is_failed() {
                return;
            }
            let next = self.tail.borrow_mut().take();
            if next.is_none() {
                self.tell();
            }
            let result = match next {
                Some(batch) => self.write(batch, self.mode()).await,
                None if self.is_release_due() => {
                    let batch = self.tail.borrow_mut().take_empty();
                    self.write(batch, self.mode()).await
                }
                None if self.phase.get() == Phase::Closing => match self.finish().await {
                    Ok(()) => return,
                    Err(error) => Err(error),
                },
                None => self.idle().await,
            };
            if let Err(error) = result {
                self.tell();
                self.fail(&error);
                return;
            }
        }
    }

    fn mode(&self) -> Write {
        if self.config.durability.flushes_each_batch() { Write::Synced } else { Write::Plain }
    }

    /// Waits for work; when none comes for a while, tells what is durable.
    async fn idle(&self) -> Result<()> {
        if !self.is_told_due() {
            self.work.taken().await;
            return Ok(());
        }
        let worked = async {
            self.work.taken().await;
            true
        };
        let silent = async {
            self.runtime.sleep(IDLE).await;
            false
        };
        if future::or(worked, silent).await || !self.tail.borrow().is_empty() {
            return Ok(());
        }
        let batch = self.tail.borrow_mut().take_empty();
        self.write(batch, self.mode()).await
    }

    /// Whether records are durable that no header says so of, and there is room to say it.
    pub(super) fn is_told_due(&self) -> bool {
        let records = self.records_end.get();
        let has_room = self.tail.borrow().end_with(0) <= self.space.borrow().limit();
        records > self.told_durable.get() && self.durable_end.get() >= records && has_room
    }

    /// Whether a file could be used again if only a batch said so.
    pub(super) fn is_release_due(&self) -> bool {
        let wanted = self.start_wanted.get();
        let oldest_end = self.space.borrow().oldest_end();
        let is_last = self.space.borrow().live() < 2;
        !is_last && wanted >= oldest_end && self.told_start.get() < oldest_end
    }

    async fn finish(&self) -> Result<()> {
        let written = self.written.reached();
        if self.durable.reached() < written {
            self.flush_now();
            self.reached(&self.durable, written).await?;
        }
        if self.is_told_due() {
            let batch = self.tail.borrow_mut().take_empty();
            self.write(batch, Write::Synced).await?;
        }
        self.tell();
        self.phase.set(Phase::Closed);
        self.ended.advance(1);
        Ok(())
    }

    /// Writes one batch. Those who wait for it are told when the next one is on its way, or [`Self::tell`] is called.
    pub(super) async fn write(&self, batch: Filling, mode: Write) -> Result<()> {
        let sequence = batch.lsn.0 / self.config.file_bytes;
        if batch.first {
            self.tell();
            if sequence > 0 {
                self.zeroed(self.config.file_bytes).await?;
            }
            let file = self.claim(sequence).await?;
            self.current.set(file);
        }
        self.zeroed(batch.end().0 - sequence * self.config.file_bytes).await?;
        let (number, end, has_records) = (batch.number, batch.end(), batch.records > 0);
        let start = self.start_of(&batch);
        let offset = batch.lsn.0 % self.config.file_bytes - batch.base() as u64;
        let (bytes, link) = self.seal(batch, sequence, start);
        self.told_start.set(start);
        self.told_durable.set(self.durable_end.get());
        let began = self.runtime.now();
        let bytes = self.write_out(bytes, offset, mode).await?;
        if mode == Write::Synced {
            self.flushed(began).await;
        }
        self.tail.borrow_mut().recycle(bytes);
        self.link.set(link);
        self.written_end.set(end);
        if has_records {
            self.records_end.set(end);
        }
        self.in_doubt.borrow_mut().push_back(Written { number, end, start });
        self.untold.set(number);
        match mode {
            Write::Synced => self.became_durable(number, end),
            Write::Plain => {
                self.tell();
                self.mark_dirty();
            }
        }
        self.wake_room();
        if self.is_file_due() || self.is_zeroing_due() {
            self.prepare.raise();
        }
        Ok(())
    }

    /// Tells those who wait for the last batch that is written.
    ///
    /// Their answers keep the core busy for longer than the device takes for the next batch (15 us in the kernel for each
    /// that is sent), and whatever they queue stands in front of it: so that batch goes out first, and the device works
    /// while they are told.
    pub(super) fn tell(&self) {
        self.written.advance(self.untold.get());
    }

    /// Has the device write a batch. One that finds no room, where nothing is written in place, is written again, whole,
    /// until there is some: that takes no flush for done that failed, as nothing but the batch itself waits for this one.
    async fn write_out(&self, mut bytes: AlignedBuf, offset: u64, mode: Write) -> Result<AlignedBuf> {
        let file = Rc::clone(&self.files.borrow()[self.current.get()]);
        loop {
            // An opening and a closing say at once that there is no room.
            let may_wait = self.phase.get() == Phase::Open && self.written.reached() > 0;
            let begin = self.runtime.now();
            let write = file.write_at(bytes, offset, mode);
            self.runtime.submit();
            self.tell();
            let (returned, result) = write.await;
            match result {
                Ok(()) => {
                    self.writes.borrow_mut().record(self.runtime.now().since(begin));
                    self.starved.set(false);
                    return Ok(returned);
                }
                Err(error) if error.is_no_space() && may_wait => {
                    if !self.starved.replace(true) {
                        tracing::error!(%error, "the log waits for room on the device");
                        self.wake_room();
                    }
                    self.runtime.sleep(FULL_RETRY).await;
                }
                Err(error) => return Err(error),
            }
            bytes = returned;
        }
    }

    /// The oldest position that is needed once this batch is durable, and all before it.
    fn start_of(&self, batch: &Filling) -> Lsn {
        let mut releases = self.releases.borrow_mut();
        while let Some((_, upto)) = releases.pop_front_if(|(first, _)| *first <= batch.number) {
            self.start_allowed.set(upto);
        }
        self.start_allowed.get().min(batch.lsn)
    }

    fn seal(&self, batch: Filling, sequence: u64, start: Lsn) -> (AlignedBuf, Link) {
        let (base, previous) = (batch.base(), self.link.get());
        let header = BatchHeader {
            id: self.config.id,
            number: batch.number,
            lsn: batch.lsn,
            durable: self.durable_end.get(),
            start,
            previous: previous.checksum,
            payload_bytes: u32::try_from(batch.payload_bytes()).expect("a batch fits a file"),
            records: batch.records,
            files: u32::try_from(self.space.borrow().files()).expect("a log has few files"),
            payload_checksum: 0,
            checksum: 0,
        };
        assert_eq!(header.number, previous.number + 1, "batches are written in order");
        let mut bytes = batch.buffer.finish();
        if base > 0 {
            let slot = SlotHeader {
                id: self.config.id,
                sequence,
                file_bytes: self.config.file_bytes,
                durable: header.durable,
                start,
                previous,
            };
            slot.encode(&mut bytes[..BLOCK_BYTES]);
        }
        let link = header.seal(&mut bytes[base..]);
        (bytes, link)
    }

    /// A file for the slot, as soon as there is one.
    async fn claim(&self, sequence: u64) -> Result<FileNumber> {
        loop {
            if let Some(file) = self.space.borrow_mut().activate(sequence) {
                self.wake_pressed();
                return Ok(file);
            }
            if !self.space.borrow().can_grow() && self.spares.borrow().is_empty() {
                // The reserve of `admits` is gone, and the batch that would free a file cannot be written any more.
                let what = format!("the log in {} outgrew its cap unasked", self.config.dir.display());
                return Err(Error::Stopped(what.into()));
            }
            self.prepare.raise();
            self.spare.taken().await;
            if let Some(error) = self.failure.get() {
                return Err(error.clone());
            }
        }
    }
}
