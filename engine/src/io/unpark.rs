//! Waking a shard from another thread.
//!
//! Protocol: the caller publishes its message (a ring's tail, say), then rings. Ringing sets `rung`; only if the
//! shard's loop had announced that it sleeps does it cost a system call. The loop announces its sleep, then looks at
//! `rung` once more, then sleeps. Both sides use sequentially consistent operations, so one of them sees the other.
//!
//! Invariant: a ring is never lost. Several may be answered as one.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

/// Wakes a shard; see [`Runtime::unparked`](super::runtime::Runtime::unparked). May go to any thread.
#[derive(Clone)]
pub struct Unpark(Arc<Shared>);

struct Shared {
    rung: AtomicBool,
    sleeping: AtomicBool,
    /// What a sleeping loop waits on; None when the loop never sleeps (virtual time).
    event: Option<OwnedFd>,
}

impl Unpark {
    /// Makes the shard's [`Unparked`] complete. A system call only if the shard sleeps.
    pub fn unpark(&self) {
        if self.0.rung.swap(true, Ordering::SeqCst) {
            return;
        }
        if self.0.sleeping.swap(false, Ordering::SeqCst)
            && let Some(event) = &self.0.event
        {
            // Eight bytes that are no zero in either byte order are added to its counter. A write fails only when its counter is full, and then it is readable, which is all we need.
            let _ = rustix::io::write(event, &[0, 0, 0, 1, 1, 0, 0, 0]);
        }
    }

    /// What a sleeping loop reads.
    ///
    /// # Panics
    /// In virtual time, which never sleeps.
    pub(crate) fn event_fd(&self) -> RawFd {
        self.0.event.as_ref().expect("a loop that sleeps has an eventfd").as_raw_fd()
    }
}

impl fmt::Debug for Unpark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpark").field("rung", &self.0.rung).finish_non_exhaustive()
    }
}

/// The shard's side.
pub(crate) struct Bell {
    shared: Arc<Shared>,
    waiter: RefCell<Option<Waker>>,
}

impl Bell {
    pub(crate) fn new(event: Option<OwnedFd>) -> Self {
        let shared = Shared { rung: AtomicBool::new(false), sleeping: AtomicBool::new(false), event };
        Self { shared: Arc::new(shared), waiter: RefCell::default() }
    }

    pub(crate) fn handle(&self) -> Unpark {
        Unpark(Arc::clone(&self.shared))
    }

    /// Wakes the waiting task if somebody rang. Returns whether it did.
    pub(crate) fn answer(&self) -> bool {
        if !self.shared.rung.load(Ordering::SeqCst) {
            return false;
        }
        // Nobody waits: the ring stays, and the next wait completes at once.
        let waiter = self.waiter.borrow_mut().take();
        waiter.map(Waker::wake).is_some()
    }

    /// Announces that the loop is about to sleep. If this answers a ring instead, it must not.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.shared.sleeping.store(true, Ordering::SeqCst);
        let answered = self.answer();
        if answered {
            self.wake_up();
        }
        !answered
    }

    pub(crate) fn wake_up(&self) {
        self.shared.sleeping.store(false, Ordering::SeqCst);
    }
}

/// Completes when the shard was rung; see [`Runtime::unparked`](super::runtime::Runtime::unparked).
pub struct Unparked {
    bell: Rc<Bell>,
}

impl Unparked {
    pub(crate) fn new(bell: Rc<Bell>) -> Self {
        Self { bell }
    }
}

impl Future for Unparked {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.bell.shared.rung.swap(false, Ordering::SeqCst) {
            return Poll::Ready(());
        }
        let mut waiter = self.bell.waiter.borrow_mut();
        match &mut *waiter {
            Some(waiter) => waiter.clone_from(context.waker()),
            None => *waiter = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl fmt::Debug for Unparked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unparked").finish_non_exhaustive()
    }
}
