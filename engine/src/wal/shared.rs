//! The state of an open log, which its tasks and its callers share: `log`, `room`, `writer`, `flusher` and `slots` each
//! add to [`Shared`] what is theirs.
//!
//! Invariant: no borrow is held over an await.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::config::WalConfig;
use super::flusher::Flushes;
use super::format::Link;
use super::latch::Latch;
use super::progress::Progress;
use super::slots::file_name;
use super::space::{FileNumber, Space};
use super::tail::Tail;
use super::zeroes::Zeroes;
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::io::disk::{Disk, File};
use crate::io::runtime::Runtime;
use crate::io::turns::TurnStats;

/// Whether records are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Open,
    Closing,
    Closed,
}

/// A batch that is written but not known durable.
pub(super) struct Written {
    pub(super) number: u64,
    pub(super) end: Lsn,
    pub(super) start: Lsn,
}

/// See the module.
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
    pub(super) adoptions: Cell<u64>,
    /// The device had no room for another file.
    pub(super) full: Cell<bool>,
    /// The device had no room for a batch, which waits for some.
    pub(super) starved: Cell<bool>,
    pub(super) tail: RefCell<Tail>,
    pub(super) current: Cell<FileNumber>,
    pub(super) link: Cell<Link>,
    /// Batch numbers.
    pub(super) written: Progress,
    /// The last batch written, where `written` does not say so yet.
    pub(super) untold: Cell<u64>,
    pub(super) durable: Progress,
    pub(super) written_end: Cell<Lsn>,
    pub(super) durable_end: Cell<Lsn>,
    /// The end of the last batch with records, and what the last header said of durability and start.
    pub(super) records_end: Cell<Lsn>,
    pub(super) told_durable: Cell<Lsn>,
    pub(super) told_start: Cell<Lsn>,
    pub(super) start_wanted: Cell<Lsn>,
    /// Releases that no batch has told yet, each with the number of the first one that may: what made something unneeded was
    /// appended before it, in that batch at the latest.
    pub(super) releases: RefCell<VecDeque<(u64, Lsn)>>,
    /// What the batches written may tell.
    pub(super) start_allowed: Cell<Lsn>,
    pub(super) start_durable: Cell<Lsn>,
    pub(super) in_doubt: RefCell<VecDeque<Written>>,
    pub(super) dirty: RefCell<Vec<FileNumber>>,
    /// How long the device took for each batch, its flush included where batches are flushed one by one.
    pub(super) writes: RefCell<TurnStats>,
    /// Bytes kept free for what transactions under way still have to append.
    pub(super) promised: Cell<u64>,
    /// What flushes came to, and how much longer each is to take.
    pub(super) flushes: Cell<Flushes>,
    pub(super) delay: Cell<Duration>,
    pub(super) phase: Cell<Phase>,
    pub(super) failure: OnceCell<Error>,
    /// Why no caller's rows are admitted any more.
    pub(super) refusal: OnceCell<Error>,
    pub(super) ended: Progress,
    pub(super) work: Latch,
    /// Something is to be flushed, and somebody waits for it.
    pub(super) flush: Latch,
    pub(super) urgent: Latch,
    pub(super) prepare: Latch,
    /// A file became spare.
    pub(super) spare: Latch,
    pub(super) room: RefCell<Vec<Waker>>,
    pub(super) pressed: RefCell<Vec<Waker>>,
}

impl Shared {
    pub(super) fn new(runtime: &Runtime, disk: Rc<dyn Disk>, config: WalConfig) -> Result<Self> {
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
            starved: Cell::default(),
            tail: RefCell::new(Tail::new(config.file_bytes, config.batch_bytes_max)),
            config,
            current: Cell::default(),
            link: Cell::default(),
            flushes: Cell::default(),
            delay: Cell::default(),
            written: Progress::default(),
            untold: Cell::default(),
            durable: Progress::default(),
            written_end: Cell::default(),
            durable_end: Cell::default(),
            records_end: Cell::default(),
            told_durable: Cell::default(),
            told_start: Cell::default(),
            start_wanted: Cell::default(),
            releases: RefCell::default(),
            start_allowed: Cell::default(),
            start_durable: Cell::default(),
            in_doubt: RefCell::default(),
            dirty: RefCell::default(),
            writes: RefCell::default(),
            promised: Cell::default(),
            phase: Cell::new(Phase::Open),
            failure: OnceCell::new(),
            refusal: OnceCell::new(),
            ended: Progress::default(),
            work: Latch::default(),
            flush: Latch::default(),
            urgent: Latch::default(),
            prepare: Latch::default(),
            spare: Latch::default(),
            room: RefCell::default(),
            pressed: RefCell::default(),
        })
    }

    #[inline]
    pub(super) fn check(&self) -> Result<()> {
        if let Some(error) = self.failure.get() {
            return Err(error.clone());
        }
        if self.phase.get() == Phase::Open { Ok(()) } else { Err(Error::Closed) }
    }

    pub(super) async fn reached(&self, progress: &Progress, number: u64) -> Result<()> {
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

    pub(super) fn file_path(&self, number: FileNumber) -> PathBuf {
        self.config.dir.join(file_name(number))
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
        for latch in [&self.spare, &self.work, &self.flush, &self.urgent] {
            latch.raise();
        }
    }

    pub(super) fn is_failed(&self) -> bool {
        self.failure.get().is_some()
    }
}
