//! How one thread asks another: a bounded single-producer ring of jobs a pair, and a reply slot a job.
//!
//! A job is a closure that runs on the shard it was sent to. Each link admits as many unanswered jobs as its ring
//! has places, so the caller that would overfill it waits for its own earlier replies, and the shard is never
//! blocked.
//!
//! Invariants:
//! - unanswered jobs of a link <= `LINK_JOBS_MAX` = the ring's capacity;
//! - a job's reply slot is filled or dropped exactly once; dropped means that the shard closed.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use futures_lite::future::yield_now;
use rtrb::{Consumer, Producer, PushError, RingBuffer};

use super::host::Host;
use crate::error::{Error, Result};
use crate::io::unpark::Unpark;
use crate::signal::Signal;

/// Unanswered jobs a link admits. A caller with more at once waits for its own replies: enough to keep a shard busy
/// for a millisecond, few enough that a stopped shard holds little.
pub(crate) const LINK_JOBS_MAX: usize = 1024;

/// What crosses: runs on the receiving shard, starts a task there, returns at once.
pub(crate) type Job = Box<dyn FnOnce(&Rc<Host>) + Send>;

/// The sending end.
pub(crate) struct Link {
    jobs: RefCell<Producer<Job>>,
    unanswered: Cell<usize>,
    answered: Signal,
    target: Unpark,
}

/// The receiving end.
pub(crate) type Inbox = Consumer<Job>;

/// A link to the shard that `target` wakes.
pub(crate) fn link(target: Unpark) -> (Link, Inbox) {
    let (jobs, inbox) = RingBuffer::new(LINK_JOBS_MAX);
    (Link { jobs: RefCell::new(jobs), unanswered: Cell::new(0), answered: Signal::default(), target }, inbox)
}

impl Link {
    /// Runs `work` on the shard at the other end; `origin` is woken when the reply is there, where the caller's own
    /// thread sleeps in a ring rather than in a waker.
    ///
    /// # Errors
    /// [`Error::Closed`] when the shard is gone.
    pub(crate) async fn call<T, W, F>(&self, origin: Option<Unpark>, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(Rc<Host>) -> F + Send + 'static,
        F: Future<Output = T> + 'static,
    {
        self.answered.until(|| self.unanswered.get() < LINK_JOBS_MAX).await;
        let _place = Place::take(self);
        let (reply, answer) = oneshot::async_channel();
        let job: Job = Box::new(move |host: &Rc<Host>| {
            let here = Rc::clone(host);
            let task = host.runtime.spawn(async move {
                let result = work(here).await;
                // A caller that went away does not want its reply.
                let _unwanted = reply.send(result);
                if let Some(origin) = origin {
                    origin.unpark();
                }
            });
            task.detach();
        });
        self.push(job).await?;
        answer.await.map_err(|_gone| Error::Closed)
    }

    /// Full only where callers left before their answers: the shard is about to take their jobs out.
    async fn push(&self, mut job: Job) -> Result<()> {
        loop {
            let pushed = self.jobs.borrow_mut().push(job);
            self.target.unpark();
            match pushed {
                Ok(()) => return Ok(()),
                Err(PushError::Full(back)) if !self.jobs.borrow().is_abandoned() => job = back,
                Err(PushError::Full(_)) => return Err(Error::Closed),
            }
            yield_now().await;
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({} unanswered)", self.unanswered.get())
    }
}

/// One of the link's places, given back when the caller has its answer or gives up.
struct Place<'a>(&'a Link);

impl<'a> Place<'a> {
    fn take(link: &'a Link) -> Self {
        link.unanswered.set(link.unanswered.get() + 1);
        Self(link)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.unanswered.set(self.0.unanswered.get() - 1);
        self.0.answered.notify();
    }
}
