//! What a shard's callers see of its log while it is open: appending, waiting for a commit, closing.
//!
//! Appending is synchronous and cheap; tasks do the rest: `writer` writes batches, `slots` makes files ahead of need,
//! `flusher` flushes where durability is relaxed. Refuses: to write after a failed write or flush (R3).

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::config::WalConfig;
use super::flusher::{Flushes, LOG_DELAY_MAX};
use super::record::{Intent, RecordHeader};
use super::row::RowWriter;
use super::shared::{Phase, Shared};
use crate::error::{Error, Result};
use crate::ids::{EditNumber, Lsn, PartitionId};
use crate::io::disk::{Disk, Write};
use crate::io::runtime::{Runtime, Task};
use crate::io::turns::TurnStats;

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
        shared.tell();
        let spawn = |what: &'static str, task: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
            runtime.spawn(runtime.named(what, task))
        };
        let tasks = vec![
            spawn("log", Box::pin(Rc::clone(&shared).run_writer())),
            spawn("log files", Box::pin(Rc::clone(&shared).run_preparer())),
            spawn("log flush", Box::pin(Rc::clone(&shared).run_flusher())),
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

    /// Completes when the record is committed, as [`Durability`](super::Durability) says.
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

    /// Completes when the record is flushed, whatever [`Durability`](super::Durability) says; asks for a flush if
    /// need be.
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

    /// How long the device took for each batch so far.
    #[must_use]
    pub fn write_times(&self) -> TurnStats {
        self.shared.writes.borrow().clone()
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

    /// What its flushes came to so far.
    #[must_use]
    pub fn flushes(&self) -> Flushes {
        self.shared.flushes.get()
    }

    /// From here on each flush takes so much longer, [`LOG_DELAY_MAX`] at most: a device that fails slowly, on purpose. Nothing
    /// is acknowledged sooner or otherwise for it.
    pub fn delay(&self, delay: Duration) {
        self.shared.delay.set(delay.min(LOG_DELAY_MAX));
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

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal")
            .field("dir", &self.shared.config.dir)
            .field("head", &self.head_lsn())
            .field("committed_batch", &self.committed_batch())
            .finish_non_exhaustive()
    }
}
