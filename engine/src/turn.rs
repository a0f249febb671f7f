//! One task at a time, over awaits, within one thread.
//!
//! Invariant: whoever waits is woken when the turn is given back; it never gets lost with a dropped waiter, since all are
//! woken and the first to run takes it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// What tasks take turns at.
#[derive(Debug, Default)]
pub(crate) struct Turnstile {
    taken: Cell<bool>,
    /// At most one per waiting task and turn.
    waiting: RefCell<Vec<Waker>>,
}

/// Held while it is one's turn.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turnstile);

impl Turnstile {
    /// Waits for the turn.
    pub(crate) async fn enter(&self) -> Turn<'_> {
        poll_fn(|context| {
            if self.taken.replace(true) {
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.taken.set(false);
        for waker in self.0.waiting.take() {
            waker.wake();
        }
    }
}
