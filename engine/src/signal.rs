//! A single-threaded event: whoever waits is woken by the next `notify`, and looks again at what it waits for.
//!
//! Refuses to carry a value: the state lives where it belongs, this only says that it changed.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Something that changes, and those who wait for it to.
#[derive(Debug, Default)]
pub struct Signal {
    generation: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
}

impl Signal {
    /// Wakes everybody who waits.
    pub fn notify(&self) {
        self.generation.set(self.generation.get().wrapping_add(1));
        let wakers = std::mem::take(&mut *self.wakers.borrow_mut());
        for waker in wakers {
            waker.wake();
        }
    }

    /// Ready at the first `notify` after this call. Make the future before looking at the state, and no change
    /// between the look and the await is missed.
    pub fn changed(&self) -> Changed<'_> {
        Changed { signal: self, seen: self.generation.get() }
    }

    /// Waits until `ready` says so; it is asked once at first and once after each `notify`.
    pub async fn until(&self, mut ready: impl FnMut() -> bool) {
        loop {
            let changed = self.changed();
            if ready() {
                return;
            }
            changed.await;
        }
    }
}

/// See [`Signal::changed`].
#[derive(Debug)]
#[must_use = "a future does nothing unless awaited"]
pub struct Changed<'a> {
    signal: &'a Signal,
    seen: u64,
}

impl Future for Changed<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.signal.generation.get() != self.seen {
            return Poll::Ready(());
        }
        let mut wakers = self.signal.wakers.borrow_mut();
        if !wakers.iter().any(|w| w.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use futures_lite::future::{self, poll_once};

    use super::*;

    #[test]
    fn a_notify_between_look_and_await_is_not_missed() {
        let signal = Signal::default();
        let changed = signal.changed();
        signal.notify();
        future::block_on(changed);
    }

    #[test]
    fn waits_for_the_state_not_for_the_event() {
        let signal = Rc::new(Signal::default());
        let state = Cell::new(0);
        let mut waiting = Box::pin(signal.until(|| state.get() == 2));
        for n in 1..=2 {
            assert!(future::block_on(poll_once(&mut waiting)).is_none());
            state.set(n);
            signal.notify();
        }
        assert!(future::block_on(poll_once(&mut waiting)).is_some());
    }
}
