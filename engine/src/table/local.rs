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

struct Request {
    change: Change,
    answer: oneshot::Sender<Decision>,
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
            let has_room = || inner.is_closing.get() || inner.requests.borrow().len() < REQUESTS_MAX;
            inner.room.until(has_room).await;
            if inner.is_closing.get() {
                return Err(Error::Closed);
            }
            let (answer, made) = oneshot::async_channel();
            inner.requests.borrow_mut().push_back(Request { change, answer });
            inner.work.notify();
            made.await.map_err(|_gone| Error::Closed)?
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
    loop {
        let work = inner.work.changed();
        let next = inner.requests.borrow_mut().pop_front();
        if let Some(Request { change, answer }) = next {
            inner.room.notify();
            let decision = log.change(&change).await;
            if let Ok(Ok(_)) = decision {
                inner.publish(change, &log);
            }
            // Who went away does not want it.
            let _unwanted = answer.send(decision);
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
