//! A shard's thread: what is there before, while and after the shard is.
//!
//! The host takes jobs from links from its first moment on, so that opening a store is a sequence of jobs like any
//! other: the same code on threads with rings and on one thread in virtual time.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::mpsc::Receiver;

use super::Shard;
use super::link::Inbox;
use crate::error::{Error, Result};
use crate::ids::ShardId;
use crate::io::disk::Disk;
use crate::io::ring::NetSource;
use crate::io::runtime::{Runtime, Task};
use crate::wal::Wal;

/// Jobs taken from one inbox before the next one has its turn: no caller waits behind another's thousand.
const JOBS_PER_TURN: usize = 32;

/// One thread's runtime and disk, and the shard once it is open.
pub(crate) struct Host {
    pub(crate) id: ShardId,
    pub(crate) runtime: Runtime,
    pub(crate) disk: Rc<dyn Disk>,
    /// Its sockets; none in virtual time.
    pub(crate) net: Option<NetSource>,
    /// Between its making and the shard's opening.
    log: RefCell<Option<Rc<Wal>>>,
    shard: OnceCell<Rc<Shard>>,
    /// The shard's own tasks; dropping them ends them.
    background: RefCell<Vec<Task<()>>>,
    closed: Cell<bool>,
}

impl Host {
    pub(crate) fn new(id: ShardId, runtime: Runtime, disk: Rc<dyn Disk>, net: Option<NetSource>) -> Self {
        Self {
            id,
            runtime,
            disk,
            net,
            log: RefCell::default(),
            shard: OnceCell::new(),
            background: RefCell::default(),
            closed: Cell::new(false),
        }
    }

    /// The open shard.
    pub(crate) fn shard(&self) -> Result<&Rc<Shard>> {
        self.shard.get().filter(|_| !self.closed.get()).ok_or(Error::Closed)
    }

    pub(crate) fn keep_log(&self, log: Rc<Wal>) {
        *self.log.borrow_mut() = Some(log);
    }

    pub(crate) fn take_log(&self) -> Result<Rc<Wal>> {
        self.log.borrow_mut().take().ok_or(Error::Closed)
    }

    /// Makes the shard reachable.
    pub(crate) fn open(&self, shard: Rc<Shard>, background: Vec<Task<()>>) {
        assert!(self.shard.set(shard).is_ok(), "a host opens one shard");
        *self.background.borrow_mut() = background;
    }

    /// Ends the shard's own tasks and closes its log: what was acknowledged is durable, and the log says so.
    ///
    /// # Errors
    /// What the log says.
    pub(crate) async fn shut_down(&self) -> Result<()> {
        let background = std::mem::take(&mut *self.background.borrow_mut());
        for task in background {
            task.cancel().await;
        }
        match self.shard.get() {
            Some(shard) => shard.common.wal().close().await,
            None => Ok(()),
        }
    }

    /// From here on the shard is not reachable, and [`serve`] ends.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.runtime.unpark_handle().unpark();
    }
}

/// Runs the jobs of all inboxes that arrive, in turn, until the host is closed.
pub(crate) async fn serve(host: Rc<Host>, arrivals: Receiver<Inbox>) {
    let mut inboxes: Vec<Inbox> = Vec::new();
    while !host.closed.get() {
        inboxes.extend(arrivals.try_iter());
        let mut taken = 0;
        for inbox in &mut inboxes {
            for _ in 0..JOBS_PER_TURN {
                let Ok(job) = inbox.pop() else { break };
                job(&host);
                taken += 1;
            }
        }
        inboxes.retain(|inbox| !(inbox.is_abandoned() && inbox.is_empty()));
        if taken > 0 {
            host.runtime.yield_now().await;
        } else {
            host.runtime.unparked().await;
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("id", &self.id).finish_non_exhaustive()
    }
}
