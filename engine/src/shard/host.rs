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
use crate::table::{News, Table};
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
    /// The partition table; on the first host alone.
    table: OnceCell<Rc<dyn Table>>,
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
            table: OnceCell::new(),
            background: RefCell::default(),
            closed: Cell::new(false),
        }
    }

    /// The open shard.
    pub(crate) fn shard(&self) -> Result<&Rc<Shard>> {
        self.shard.get().filter(|_| !self.closed.get()).ok_or(Error::Closed)
    }

    pub(crate) fn keep_table(&self, table: Rc<dyn Table>) {
        assert!(self.table.set(table).is_ok(), "a store has one table");
    }

    /// The partition table, on the host that has it.
    pub(crate) fn table(&self) -> Result<Rc<dyn Table>> {
        self.table.get().cloned().ok_or(Error::Closed)
    }

    /// Tells every shard of the table's changes, each in their order and at its own pace.
    pub(crate) fn publish_table(&self) -> Result<()> {
        let (table, shard) = (self.table()?, self.shard()?);
        shard.keep_table(Rc::clone(&table));
        let first = shard.map().version();
        for to in (0..shard.map().state().shards).map(ShardId) {
            let (table, from) = (Rc::clone(&table), Rc::clone(shard));
            let tell = async move {
                let mut seen = first;
                while let Ok(News { image, .. }) = table.news(seen).await {
                    seen = image.version();
                    let learn = move |shard: Rc<Shard>| async move {
                        shard.learn(image);
                        Ok(())
                    };
                    if from.on_control(to, learn).await.is_err() {
                        return;
                    }
                }
            };
            self.background.borrow_mut().push(self.runtime.spawn(tell));
        }
        Ok(())
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

    /// Closes the table, ends the shard's own tasks and closes its log: what was acknowledged is durable, and the log says so.
    ///
    /// # Errors
    /// What the log says.
    pub(crate) async fn shut_down(&self) -> Result<()> {
        if let Some(table) = self.table.get() {
            table.close().await;
        }
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
