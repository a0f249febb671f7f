//! A shard's log while it is open: appends, group commit, back-pressure, recycling.
//!
//! Appending is synchronous and cheap; one task writes, one batch in flight at a time: while the device is busy the
//! next batch fills. A second task makes files ahead of need, a third flushes where durability is relaxed.
//! Refuses: to write after a failed write or flush (R3), to grow past its cap, to recycle what a crash could need.
//!
//! Invariants:
//! - batches reach the device in order, each naming the one before it; under [`Durability::Always`] a batch is
//!   written only after the one before it is durable;
//! - no ticket is committed before its batch is on the device (flushed, under [`Durability::Always`]);
//! - a header's `durable` never runs ahead of what a completed flush covers;
//! - a file is written again only after a durable batch says that nothing in it is needed.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_lite::future;

use super::config::{Durability, WalConfig};
use super::format::{BLOCK_BYTES, BatchHeader, Link, SlotHeader};
use super::progress::{Progress, Signal};
use super::record::{Intent, RecordHeader, RowWriter};
use super::slots::file_name;
use super::space::{FileNumber, Space};
use super::tail::{Filling, Tail};
use super::zeroes::Zeroes;
use crate::error::{Error, Result};
use crate::ids::{EditNumber, Lsn, PartitionId};
use crate::io::buffer::AlignedBuf;
use crate::io::disk::{Disk, File, Write};
use crate::io::runtime::{Runtime, Task};

/// After this much silence an empty batch tells what is durable, so that only the last batch before a crash is ever
/// in doubt (R2). Long enough not to double the writes of a caller that waits for each of them.
const IDLE: Duration = Duration::from_millis(10);
/// Bytes appended but not on the device above which [`Wal::ready`] waits, in batches: one in flight, one to follow,
/// and as much again so that the device never starves.
const PENDING_BATCHES_MAX: usize = 4;

/// A record's place in the log, for waiting and for pinning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket {
    /// The batch that holds it.
    pub batch: u64,
    /// Where that batch begins: release nothing from here on while the record is needed.
    pub lsn: Lsn,
}

/// A shard's open log. Dropping it without [`Wal::close`] is a crash: what was not committed may be lost.
pub struct Wal {
    pub(super) shared: Rc<Shared>,
    tasks: RefCell<Vec<Task<()>>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    Closing,
    Closed,
}

/// A batch that is written but not known durable.
struct Written {
    number: u64,
    end: Lsn,
    start: Lsn,
}

/// What the log's tasks share with its callers. No borrow is held over an await.
pub(super) struct Shared {
    pub(super) runtime: Runtime,
    pub(super) disk: Rc<dyn Disk>,
    pub(super) config: WalConfig,
    pub(super) space: RefCell<Space>,
    pub(super) files: RefCell<Vec<Rc<dyn File>>>,
    /// Files of an earlier incarnation to be taken over, and how many have been.
    pub(super) spares: RefCell<Vec<PathBuf>>,
    pub(super) zeroes: Zeroes,
    pub(super) adopted: Progress,
    adoptions: Cell<u64>,
    /// The device had no room for another file.
    pub(super) full: Cell<bool>,
    tail: RefCell<Tail>,
    pub(super) current: Cell<FileNumber>,
    link: Cell<Link>,
    /// Batch numbers.
    written: Progress,
    durable: Progress,
    pub(super) written_end: Cell<Lsn>,
    durable_end: Cell<Lsn>,
    /// The end of the last batch with records, and what the last header said of durability and start.
    records_end: Cell<Lsn>,
    told_durable: Cell<Lsn>,
    told_start: Cell<Lsn>,
    start_wanted: Cell<Lsn>,
    start_durable: Cell<Lsn>,
    in_doubt: RefCell<VecDeque<Written>>,
    dirty: RefCell<Vec<FileNumber>>,
    /// Bytes kept free for what transactions under way still have to append.
    promised: Cell<u64>,
    phase: Cell<Phase>,
    pub(super) failure: OnceCell<Error>,
    /// Why no caller's rows are admitted any more.
    refusal: OnceCell<Error>,
    ended: Progress,
    work: Signal,
    /// Something is to be flushed, and somebody waits for it.
    flush: Signal,
    urgent: Signal,
    pub(super) prepare: Signal,
    /// A file became spare.
    spare: Signal,
    room: RefCell<Vec<Waker>>,
    pressed: RefCell<Vec<Waker>>,
}

impl Wal {
    /// Makes a log. On return its first batch is durable, so that recovery always finds a beginning. Whatever an
    /// opening that never completed left in the directory is removed.
    ///
    /// # Errors
    /// [`Error::Misuse`] for impossible sizes, [`Error::Io`].
    pub async fn create(runtime: &Runtime, disk: Rc<dyn Disk>, config: WalConfig) -> Result<Rc<Self>> {
        let shared = Rc::new(Shared::new(runtime, disk, config)?);
        shared.clear_directory().await?;
        shared.make_file().await?;
        let first = shared.tail.borrow_mut().take_empty();
        shared.write(first, Write::Synced).await?;
        let tasks = vec![
            runtime.spawn(Rc::clone(&shared).run_writer()),
            runtime.spawn(Rc::clone(&shared).run_preparer()),
            runtime.spawn(Rc::clone(&shared).run_flusher()),
        ];
        shared.prepare.raise();
        Ok(Rc::new(Self { shared, tasks: RefCell::new(tasks) }))
    }

    /// Appends a record; `rows` gives those of a `Write` or `Prepare`. Takes no room check: see [`Wal::ready`].
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::Closed`]; [`Error::Misuse`] for a record that no file holds. In all cases nothing
    /// was appended.
    #[inline]
    pub fn append(
        &self,
        header: &RecordHeader,
        intent: &Intent<'_>,
        rows: impl FnOnce(&mut RowWriter<'_>),
    ) -> Result<Ticket> {
        self.shared.check()?;
        let ticket = self.shared.tail.borrow_mut().append(header, intent, rows)?;
        self.shared.work.raise();
        Ok(ticket)
    }

    /// Has the log carry that a partition's manifest edit is durable (R2): append it before releasing what the edit
    /// made superfluous, and delete what it dropped only after [`Wal::durable`] of the ticket.
    ///
    /// # Errors
    /// As [`Wal::append`].
    pub fn witness(&self, partition: PartitionId, edit: EditNumber) -> Result<Ticket> {
        self.shared.check()?;
        let witnessed = self.shared.tail.borrow().witnessed(partition, edit);
        if let Some(ticket) = witnessed {
            return Ok(ticket);
        }
        let ticket = self.shared.tail.borrow_mut().witness(partition, edit)?;
        self.shared.work.raise();
        Ok(ticket)
    }

    /// Keeps room for `bytes` that will be appended without asking: what a transaction still has to log once it has
    /// logged its rows. Given back by [`Wal::redeem`].
    pub fn promise(&self, bytes: u64) {
        let promised = &self.shared.promised;
        promised.set(promised.get() + bytes);
    }

    /// What was promised has been appended, or never will be.
    pub fn redeem(&self, bytes: u64) {
        let promised = &self.shared.promised;
        assert!(bytes <= promised.get(), "promised before");
        promised.set(promised.get() - bytes);
        self.shared.wake_room();
    }

    /// Refuses callers' rows from here on, those that wait for room included: nothing will release log any more. What
    /// is under way may still be appended.
    pub fn refuse(&self, why: Error) {
        let _first = self.shared.refusal.set(why);
        self.shared.wake_room();
    }

    /// Whether `bytes` can be appended at once, as [`Wal::ready`] would say.
    ///
    /// # Errors
    /// As [`Wal::ready`].
    pub fn is_ready(&self, bytes: usize) -> Result<bool> {
        self.shared.check()?;
        self.shared.admits(bytes)
    }

    /// Whether a small record that nobody asked room for still has some, without the last blocks, which releasing log
    /// takes.
    #[must_use]
    pub fn has_reserve(&self) -> bool {
        let end = self.shared.tail.borrow().end_with(BLOCK_BYTES).0;
        end + 2 * BLOCK_BYTES as u64 + self.shared.promised.get() <= self.shared.space.borrow().limit().0
    }

    /// Whether releasing up to `upto` lets a file be used again.
    #[must_use]
    pub fn frees(&self, upto: Lsn) -> bool {
        let space = self.shared.space.borrow();
        space.live() > 1 && upto >= space.oldest_end() && self.shared.start_wanted.get() < space.oldest_end()
    }

    /// Completes when the record is committed, as [`Durability`] says.
    ///
    /// # Errors
    /// [`Error::Stopped`]: whether the record survives is not known.
    pub async fn committed(&self, ticket: Ticket) -> Result<()> {
        self.shared.reached(&self.shared.written, ticket.batch).await
    }

    /// The last committed batch: a ticket is committed when its batch is not above this.
    #[must_use]
    pub fn committed_batch(&self) -> u64 {
        self.shared.written.reached()
    }

    /// Completes when the record is flushed, whatever [`Durability`] says; asks for a flush if need be.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn durable(&self, ticket: Ticket) -> Result<()> {
        self.committed(ticket).await?;
        if self.shared.durable.reached() < ticket.batch {
            self.shared.flush_now();
        }
        self.shared.reached(&self.shared.durable, ticket.batch).await
    }

    /// Waits until the log takes `bytes` more of a caller's rows: until not too much waits for the device, and there
    /// is room besides what flushes need to free some. Append without an await in between.
    ///
    /// # Errors
    /// [`Error::Full`] when the device has no room for more log; [`Error::Stopped`], [`Error::Closed`];
    /// [`Error::Misuse`] for more than [`Wal::record_bytes_max`].
    pub async fn ready(&self, bytes: usize) -> Result<()> {
        poll_fn(|cx| {
            if let Err(error) = self.shared.check() {
                return Poll::Ready(Err(error));
            }
            match self.shared.admits(bytes) {
                Ok(false) => {
                    let is_news = self.shared.room.borrow().is_empty();
                    register(&self.shared.room, cx.waker());
                    if is_news {
                        self.shared.prepare.raise();
                        self.shared.wake_pressed();
                    }
                    Poll::Pending
                }
                Ok(true) => Poll::Ready(Ok(())),
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    /// Nothing before `upto` is needed any more. Files wholly before it are used again once a durable batch says so.
    pub fn release(&self, upto: Lsn) {
        let shared = &self.shared;
        assert!(upto <= shared.tail.borrow().head(), "only what was appended can be released");
        shared.start_wanted.set(upto.max(shared.start_wanted.get()));
        if shared.is_release_due() {
            shared.work.raise();
        }
    }

    /// Completes when the log should be released from its oldest end, with the position up to which: everything
    /// before it should be flushed, then released. At once again while that has not happened.
    pub async fn pressed(&self) -> Lsn {
        poll_fn(|cx| match self.pressure() {
            Some(upto) => Poll::Ready(upto),
            None => {
                register(&self.shared.pressed, cx.waker());
                Poll::Pending
            }
        })
        .await
    }

    /// The position that must be released for room, if it is time.
    #[must_use]
    pub fn pressure(&self) -> Option<Lsn> {
        let space = self.shared.space.borrow();
        let is_full = self.shared.full.get();
        let has_waiters = !self.shared.room.borrow().is_empty();
        let is_last =
            (space.spares() == 0 || has_waiters) && space.live() > 1 && (is_full || !space.can_grow());
        let is_waited_for = is_full || has_waiters;
        let upto = space.oldest_end();
        let is_asked = self.shared.start_wanted.get() >= upto;
        ((space.is_pressed() || is_last && is_waited_for) && !is_asked).then_some(upto)
    }

    /// The oldest position that may still be needed, durably so.
    #[must_use]
    pub fn start_lsn(&self) -> Lsn {
        self.shared.start_durable.get()
    }

    /// Where the next record goes, at the earliest.
    #[must_use]
    pub fn head_lsn(&self) -> Lsn {
        self.shared.tail.borrow().head()
    }

    /// Bytes of the files in use.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.shared.space.borrow().used_bytes()
    }

    /// Bytes appended but not yet on the device.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.shared.tail.borrow().pending_bytes()
    }

    /// What [`WalConfig::cap_bytes`] says.
    #[must_use]
    pub fn cap_bytes(&self) -> u64 {
        self.shared.config.cap_bytes
    }

    /// The largest record that [`Wal::ready`] admits.
    #[must_use]
    pub fn record_bytes_max(&self) -> usize {
        self.shared.record_bytes_max(&self.shared.tail.borrow())
    }

    /// Why the log stopped, if it has: final (R3).
    #[must_use]
    pub fn failed(&self) -> Option<Error> {
        self.shared.failure.get().cloned()
    }

    /// Takes over log files of an earlier incarnation that were written to their ends, once nothing in them is needed:
    /// those of the right size are renamed into this log, as far as the cap allows; the others stay.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn adopt(&self, paths: Vec<PathBuf>) -> Result<()> {
        let shared = &self.shared;
        shared.check()?;
        let wanted = shared.adoptions.get() + paths.len() as u64;
        shared.adoptions.set(wanted);
        shared.spares.borrow_mut().extend(paths);
        shared.prepare.raise();
        shared.reached(&shared.adopted, wanted).await
    }

    /// Writes and flushes what was appended, then an empty batch that says so. No record is taken any more.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn close(&self) -> Result<()> {
        let shared = &self.shared;
        if shared.phase.get() == Phase::Open {
            shared.phase.set(Phase::Closing);
            shared.wake_room();
            shared.work.raise();
        }
        shared.reached(&shared.ended, 1).await?;
        self.tasks.borrow_mut().clear();
        Ok(())
    }
}

impl Shared {
    fn new(runtime: &Runtime, disk: Rc<dyn Disk>, config: WalConfig) -> Result<Self> {
        let slots_max = config.slots_max()?;
        Ok(Self {
            runtime: runtime.clone(),
            disk,
            space: RefCell::new(Space::new(config.file_bytes, slots_max)),
            files: RefCell::default(),
            spares: RefCell::default(),
            zeroes: Zeroes::default(),
            adopted: Progress::default(),
            adoptions: Cell::default(),
            full: Cell::default(),
            tail: RefCell::new(Tail::new(config.file_bytes, config.batch_bytes_max)),
            config,
            current: Cell::default(),
            link: Cell::default(),
            written: Progress::default(),
            durable: Progress::default(),
            written_end: Cell::default(),
            durable_end: Cell::default(),
            records_end: Cell::default(),
            told_durable: Cell::default(),
            told_start: Cell::default(),
            start_wanted: Cell::default(),
            start_durable: Cell::default(),
            in_doubt: RefCell::default(),
            dirty: RefCell::default(),
            promised: Cell::default(),
            phase: Cell::new(Phase::Open),
            failure: OnceCell::new(),
            refusal: OnceCell::new(),
            ended: Progress::default(),
            work: Signal::default(),
            flush: Signal::default(),
            urgent: Signal::default(),
            prepare: Signal::default(),
            spare: Signal::default(),
            room: RefCell::default(),
            pressed: RefCell::default(),
        })
    }

    #[inline]
    fn check(&self) -> Result<()> {
        if let Some(error) = self.failure.get() {
            return Err(error.clone());
        }
        if self.phase.get() == Phase::Open { Ok(()) } else { Err(Error::Closed) }
    }

    async fn reached(&self, progress: &Progress, number: u64) -> Result<()> {
        poll_fn(|cx| {
            if progress.reached() >= number {
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = self.failure.get() {
                return Poll::Ready(Err(error.clone()));
            }
            progress.register(number, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Whether a caller may append `bytes`.
    fn admits(&self, bytes: usize) -> Result<bool> {
        if let Some(why) = self.refusal.get() {
            return Err(why.clone());
        }
        let tail = self.tail.borrow();
        let max = self.record_bytes_max(&tail);
        if bytes > max {
            return Err(Error::misuse(format!("{bytes} bytes in one log record: a log file holds {max}")));
        }
        let pending = tail.pending_bytes();
        if pending > 0 && pending + bytes > PENDING_BATCHES_MAX * self.config.batch_bytes_max {
            return Ok(false);
        }
        if tail.end_with(bytes).0 + self.reserve_bytes() + self.promised.get()
            <= self.space.borrow().limit().0
        {
            return Ok(true);
        }
        if self.full.get() { Err(Error::Full(self.config.dir.as_path().into())) } else { Ok(false) }
    }

    /// Room that [`Wal::ready`] leaves for what flushes and transactions under way append without asking, so that a
    /// full log can be emptied: a thousand batches of a default log's.
    const fn reserve_bytes(&self) -> u64 {
        self.config.file_bytes / 4
    }

    /// What fits an empty slot besides the reserve.
    fn record_bytes_max(&self, tail: &Tail) -> usize {
        let reserve = usize::try_from(self.reserve_bytes()).unwrap_or(usize::MAX);
        tail.record_bytes_max().saturating_sub(reserve + 2 * BLOCK_BYTES)
    }

    async fn run_writer(self: Rc<Self>) {
        loop {
            // Everything that is ready to run in this turn of the shard joins the batch.
            self.runtime.yield_now().await;
            if self.is_failed() {
                return;
            }
            let next = self.tail.borrow_mut().take();
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
                self.fail(&error);
                return;
            }
        }
    }

    const fn mode(&self) -> Write {
        match self.config.durability {
            Durability::Always => Write::Synced,
            Durability::Interval(_) | Durability::None => Write::Plain,
        }
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
    fn is_told_due(&self) -> bool {
        let records = self.records_end.get();
        let has_room = self.tail.borrow().end_with(0) <= self.space.borrow().limit();
        records > self.told_durable.get() && self.durable_end.get() >= records && has_room
    }

    /// Whether a file could be used again if only a batch said so.
    fn is_release_due(&self) -> bool {
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
        self.phase.set(Phase::Closed);
        self.ended.advance(1);
        Ok(())
    }

    /// Writes one batch and tells those who wait for it.
    async fn write(&self, batch: Filling, mode: Write) -> Result<()> {
        let sequence = batch.lsn.0 / self.config.file_bytes;
        if batch.first {
            if sequence > 0 {
                self.zeroed(self.config.file_bytes).await?;
            }
            let file = self.claim(sequence).await?;
            self.current.set(file);
        }
        self.zeroed(batch.end().0 - sequence * self.config.file_bytes).await?;
        let (number, end, has_records) = (batch.number, batch.end(), batch.records > 0);
        let start = self.start_wanted.get().min(batch.lsn);
        let offset = batch.lsn.0 % self.config.file_bytes - batch.base() as u64;
        let (bytes, link) = self.seal(batch, sequence, start);
        self.told_start.set(start);
        self.told_durable.set(self.durable_end.get());
        let file = Rc::clone(&self.files.borrow()[self.current.get()]);
        let write = file.write_at(bytes, offset, mode);
        self.runtime.submit();
        let (bytes, result) = write.await;
        result?;
        self.tail.borrow_mut().recycle(bytes);
        self.link.set(link);
        self.written_end.set(end);
        if has_records {
            self.records_end.set(end);
        }
        self.in_doubt.borrow_mut().push_back(Written { number, end, start });
        match mode {
            Write::Synced => self.became_durable(number, end),
            Write::Plain => self.mark_dirty(),
        }
        self.written.advance(number);
        self.wake_room();
        if self.is_file_due() || self.is_zeroing_due() {
            self.prepare.raise();
        }
        Ok(())
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

    /// The current file has something to flush.
    fn mark_dirty(&self) {
        let file = self.current.get();
        let mut dirty = self.dirty.borrow_mut();
        if dirty.last() != Some(&file) {
            dirty.push(file);
        }
        drop(dirty);
        if self.told_start.get() >= self.space.borrow().oldest_end() {
            self.flush_now();
        } else if self.config.durability != Durability::None {
            self.flush.raise();
        }
    }

    fn flush_now(&self) {
        self.urgent.raise();
        self.flush.raise();
    }

    /// The only task that flushes, so that no flush is taken for done while another has its files in hand.
    async fn run_flusher(self: Rc<Self>) {
        if self.config.durability == Durability::Always {
            return;
        }
        loop {
            self.flush.taken().await;
            if let Durability::Interval(interval) = self.config.durability {
                future::or(self.runtime.sleep(interval), self.urgent.taken()).await;
            }
            if let Err(error) = self.flush_all().await {
                self.fail(&error);
            }
            if self.is_failed() {
                return;
            }
        }
    }

    /// Flushes what has been written up to this moment.
    async fn flush_all(&self) -> Result<()> {
        let (number, end) = (self.written.reached(), self.written_end.get());
        let dirty = std::mem::take(&mut *self.dirty.borrow_mut());
        for file in dirty {
            let file = Rc::clone(&self.files.borrow()[file]);
            file.sync().await?;
        }
        if number > self.durable.reached() {
            self.became_durable(number, end);
        }
        Ok(())
    }

    fn became_durable(&self, number: u64, end: Lsn) {
        self.durable_end.set(end);
        let mut in_doubt = self.in_doubt.borrow_mut();
        while in_doubt.front().is_some_and(|batch| batch.number <= number) {
            let Some(batch) = in_doubt.pop_front() else { break };
            assert!(batch.end <= end, "positions ascend with numbers");
            self.start_durable.set(batch.start.max(self.start_durable.get()));
        }
        drop(in_doubt);
        if self.space.borrow_mut().retire(self.start_durable.get()) > 0 {
            self.spare.raise();
            self.wake_room();
        }
        self.durable.advance(number);
        if self.is_told_due() || self.is_release_due() {
            self.work.raise();
        }
    }

    /// Whether another file should be made: none is spare, and a quarter of the newest is used or somebody waits.
    pub(super) fn is_file_due(&self) -> bool {
        let space = self.space.borrow();
        let is_waited_for = !self.room.borrow().is_empty();
        // A spare file may be smaller than what is promised to transactions.
        if !space.can_grow() || space.spares() > 0 && !is_waited_for {
            return false;
        }
        // Two at least, so that a log can always go on in another file than the one it frees.
        let used = self.written_end.get().0 % self.config.file_bytes;
        space.files() < 2 || is_waited_for || used >= self.config.file_bytes / 4 || self.needs_file()
    }

    /// Whether what was appended goes beyond the files there are.
    fn needs_file(&self) -> bool {
        self.tail.borrow().end_with(0) > self.space.borrow().limit()
    }

    /// A file has joined, written up to `zeroed_bytes`.
    pub(super) fn joined(&self, file: Rc<dyn File>, zeroed_bytes: u64) {
        let number = self.files.borrow().len();
        self.files.borrow_mut().push(file);
        self.zeroes.joined(zeroed_bytes);
        self.space.borrow_mut().add(number);
        self.spare.raise();
        self.wake_room();
    }

    pub(super) fn file_path(&self, number: FileNumber) -> PathBuf {
        self.config.dir.join(file_name(number))
    }

    pub(super) fn wake_room(&self) {
        let waiters = std::mem::take(&mut *self.room.borrow_mut());
        waiters.into_iter().for_each(Waker::wake);
    }

    pub(super) fn wake_pressed(&self) {
        let waiters = std::mem::take(&mut *self.pressed.borrow_mut());
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Final (R3): nothing is written or acknowledged any more.
    pub(super) fn fail(&self, error: &Error) {
        let what = format!("its log failed: {error}");
        if self.failure.set(Error::Stopped(what.into())).is_err() {
            return;
        }
        tracing::error!(dir = %self.config.dir.display(), %error, "the log stopped");
        for progress in [&self.written, &self.durable, &self.ended, &self.adopted] {
            progress.wake_all();
        }
        self.wake_room();
        self.zeroes.wake();
        for signal in [&self.spare, &self.work, &self.flush, &self.urgent] {
            signal.raise();
        }
    }

    pub(super) fn is_failed(&self) -> bool {
        self.failure.get().is_some()
    }
}

fn register(waiters: &RefCell<Vec<Waker>>, waker: &Waker) {
    let mut waiters = waiters.borrow_mut();
    if !waiters.iter().any(|waiter| waiter.will_wake(waker)) {
        waiters.push(waker.clone());
    }
}

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal")
            .field("dir", &self.shared.config.dir)
            .field("head", &self.head_lsn())
            .field("committed_batch", &self.committed_batch())
            .finish_non_exhaustive()
    }
}
