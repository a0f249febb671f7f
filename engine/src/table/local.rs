//! The table of a store on one host: changes are decided by its log, one after the other.
//!
//! Invariants:
//! - nobody sees a change, in an image or as news, before it is durable;
//! - images and news follow the order in which changes were made;
//! - whoever goes away while a change is made leaves the log whole: the change is made for its own sake.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::change::Change;
use super::image::Image;
use super::log::TableLog;
use super::{Decision, Made, News, OpenMove, Table};
use crate::error::{Error, Result};
use crate::ids::TableVersion;
use crate::io::disk::LocalFuture;
use crate::io::runtime::{Runtime, Task};
use crate::signal::Signal;

/// Changes that wait while others are made; who comes then waits to be let in. Far more than the moves under way.
const REQUESTS_MAX: usize = 256;
/// Changes kept for those who learn of them one by one; who is further behind is told that it missed some.
const CHANGES_KEPT: usize = 1024;

/// See the module. Dropping it without [`LocalTable::close`] is a crash.
pub struct LocalTable {
    inner: Rc<Inner>,
    task: RefCell<Option<Task<()>>>,
}

struct Inner {
    image: RefCell<Arc<Image>>,
    recent: RefCell<VecDeque<Arc<Made>>>,
    requests: RefCell<VecDeque<Request>>,
    is_closing: Cell<bool>,
    /// Told when there is a request, or no more will come.
    work: Signal,
    /// Told when a request was taken.
    room: Signal,
    /// Told when a change was made.
    news: Signal,
}

enum Request {
    Change { change: Change, answer: oneshot::Sender<Decision> },
    Outcome { change: Change, seen: TableVersion, answer: oneshot::Sender<Result<Option<TableVersion>>> },
}

impl LocalTable {
    /// Serves the table in `log` on this thread.
    pub fn new(runtime: &Runtime, log: TableLog) -> Self {
        let inner = Rc::new(Inner {
            image: RefCell::new(Arc::new(Image::of(log.state().clone()))),
            recent: RefCell::default(),
            requests: RefCell::default(),
            is_closing: Cell::new(false),
            work: Signal::default(),
            room: Signal::default(),
            news: Signal::default(),
        });
        let task = runtime.spawn(serve(Rc::clone(&inner), log));
        Self { inner, task: RefCell::new(Some(task)) }
    }
}

impl Table for LocalTable {
    fn image(&self) -> Arc<Image> {
        Arc::clone(&self.inner.image.borrow())
    }

    fn change(&self, change: Change) -> LocalFuture<Decision> {
        let inner = Rc::clone(&self.inner);
        Box::pin(async move {
            let (answer, made) = oneshot::async_channel();
            inner.ask(Request::Change { change, answer }).await?;
            made.await.map_err(|_gone| Error::Closed)?
        })
    }

    fn outcome(&self, change: Change, seen: TableVersion) -> LocalFuture<Result<Option<TableVersion>>> {
        let inner = Rc::clone(&self.inner);
        Box::pin(async move {
            let (answer, found) = oneshot::async_channel();
            inner.ask(Request::Outcome { change, seen, answer }).await?;
            found.await.map_err(|_gone| Error::Closed)?
        })
    }

    fn news(&self, seen: TableVersion) -> LocalFuture<Result<News>> {
        let inner = Rc::clone(&self.inner);
        Box::pin(async move {
            inner.news.until(|| inner.is_closing.get() || inner.image.borrow().version() > seen).await;
            let image = Arc::clone(&inner.image.borrow());
            if image.version() <= seen {
                return Err(Error::Closed);
            }
            let recent = inner.recent.borrow();
            let missed = usize::try_from(image.version().0 - seen.0).unwrap_or(usize::MAX);
            let first = recent.len().checked_sub(missed);
            let changes = first.map(|first| recent.iter().skip(first).cloned().collect());
            Ok(News { image, changes })
        })
    }

    fn close(&self) -> LocalFuture<()> {
        self.inner.is_closing.set(true);
        self.inner.work.notify();
        self.inner.room.notify();
        self.inner.news.notify();
        let task = self.task.borrow_mut().take();
        Box::pin(async move {
            if let Some(task) = task {
                task.await;
            }
        })
    }
}

/// Makes changes in the order of their arrival, until the table is closed and none is left.
async fn serve(inner: Rc<Inner>, mut log: TableLog) {
    // The one in whose course the log failed: whether it is found when the log is opened next is not known.
    let mut doubt: Option<Change> = None;
    loop {
        let work = inner.work.changed();
        let next = inner.requests.borrow_mut().pop_front();
        if let Some(request) = next {
            inner.room.notify();
            match request {
                Request::Change { change, answer } => {
                    let was_failed = log.failed().is_some();
                    let decision = log.change(&change).await;
                    if !was_failed && log.failed().is_some() {
                        doubt = Some(change);
                    } else if let Ok(Ok(_)) = decision {
                        inner.publish(change, &log);
                    }
                    // Who went away does not want it.
                    let _unwanted = answer.send(decision);
                }
                Request::Outcome { change, seen, answer } => {
                    let outcome = match log.failed().filter(|_| doubt.as_ref() == Some(&change)) {
                        Some(e) => Err(e.clone()),
                        None => inner.made_since(seen, &change),
                    };
                    let _unwanted = answer.send(outcome);
                }
            }
            continue;
        }
        if log.failed().is_none()
            && let Err(e) = log.settle().await
        {
            tracing::error!("no more changes of the partition table until a restart: {e}");
        }
        if inner.requests.borrow().is_empty() {
            if inner.is_closing.get() {
                return;
            }
            work.await;
        }
    }
}

impl Inner {
    /// Has a request served in its turn.
    async fn ask(&self, request: Request) -> Result<()> {
        let has_room = || self.is_closing.get() || self.requests.borrow().len() < REQUESTS_MAX;
        self.room.until(has_room).await;
        if self.is_closing.get() {
            return Err(Error::Closed);
        }
        self.requests.borrow_mut().push_back(request);
        self.work.notify();
        Ok(())
    }

    /// The version that a change made after `seen`, if it was made.
    fn made_since(&self, seen: TableVersion, change: &Change) -> Result<Option<TableVersion>> {
        let (recent, version) = (self.recent.borrow(), self.image.borrow().version());
        let since = usize::try_from(version.0.saturating_sub(seen.0)).unwrap_or(usize::MAX);
        let Some(first) = recent.len().checked_sub(since) else {
            let what = format!("the partition table has forgotten which of {since} changes were made");
            return Err(Error::Stopped(what.into()));
        };
        Ok(recent.iter().skip(first).find(|made| made.change == *change).map(|made| made.version))
    }

    fn publish(&self, change: Change, log: &TableLog) {
        let mut recent = self.recent.borrow_mut();
        if recent.len() == CHANGES_KEPT {
            recent.pop_front();
        }
        let before = Arc::clone(&self.image.borrow());
        let decided = decided_by(&change, &before).cloned();
        recent.push_back(Arc::new(Made { version: log.state().version, change, decided }));
        *self.image.borrow_mut() = Arc::new(Image::of(log.state().clone()));
        self.news.notify();
    }
}

/// The move that `change` decides of those open `before` it.
fn decided_by<'a>(change: &Change, before: &'a Image) -> Option<&'a OpenMove> {
    match change {
        Change::CommitMove { id } | Change::AbortMove { id } => before.state().moves.get(id),
        Change::Partitions(_) | Change::BeginMove(_) => None,
    }
}

impl fmt::Debug for LocalTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalTable(version {})", self.inner.image.borrow().version())
    }
}
