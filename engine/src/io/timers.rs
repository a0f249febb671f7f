//! Timers: who is to be woken when.
//!
//! Invariant: timers of one deadline fire in the order in which they were first polled.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::runtime::{Core, Nanos};

/// The sleepers of one driver.
#[derive(Default)]
pub(crate) struct Timers {
    /// By deadline, then by order of arrival.
    waiting: BTreeMap<(Nanos, u64), Waker>,
    arrivals: u64,
}

impl Timers {
    /// The next deadline.
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.waiting.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Wakes everyone due at `now`. Returns whether there was one.
    pub(crate) fn fire(&mut self, now: Nanos) -> bool {
        let mut any = false;
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            first.remove().wake();
            any = true;
        }
        any
    }

    fn insert(&mut self, deadline: Nanos, waker: Waker) -> (Nanos, u64) {
        self.arrivals += 1;
        let key = (deadline, self.arrivals);
        self.waiting.insert(key, waker);
        key
    }
}

/// Completes when its deadline has come. Dropping it forgets the timer.
pub struct Sleep {
    core: Rc<Core>,
    deadline: Nanos,
    key: Option<(Nanos, u64)>,
}

impl Sleep {
    pub(crate) fn new(core: &Rc<Core>, deadline: Nanos) -> Self {
        Self { core: Rc::clone(core), deadline, key: None }
    }

    /// When it completes.
    #[must_use]
    pub const fn deadline(&self) -> Nanos {
        self.deadline
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let core = Rc::clone(&self.core);
        let mut timers = core.timers.borrow_mut();
        if core.now() >= self.deadline {
            if let Some(key) = self.key.take() {
                timers.waiting.remove(&key);
            }
            return Poll::Ready(());
        }
        match self.key.and_then(|key| timers.waiting.get_mut(&key)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => self.key = Some(timers.insert(self.deadline, context.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.core.timers.borrow_mut().waiting.remove(&key);
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
