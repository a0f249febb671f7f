//! Waiting for a number to be reached: what a log's callers wait on.
//!
//! Of one thread; a waiter costs one entry per poll, and only those whose number was reached are woken.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::Waker;

/// A number that only grows, and those who wait for it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    reached: Cell<u64>,
    /// By ascending number. Callers wait for one of the last few batches, so that this stays short.
    waiters: RefCell<VecDeque<(u64, Vec<Waker>)>>,
}

impl Progress {
    pub(super) fn reached(&self) -> u64 {
        self.reached.get()
    }

    /// Wakes those who wait for `number` or less.
    pub(super) fn advance(&self, number: u64) {
        assert!(number >= self.reached.get(), "progress never goes back");
        self.reached.set(number);
        loop {
            let ready = match self.waiters.borrow_mut().front_mut() {
                Some((wanted, _)) if *wanted > number => break,
                Some((_, wakers)) => std::mem::take(wakers),
                None => break,
            };
            self.waiters.borrow_mut().pop_front();
            ready.into_iter().for_each(Waker::wake);
        }
    }

    /// Wakes everybody, reached or not: something else has changed.
    pub(super) fn wake_all(&self) {
        let waiters = std::mem::take(&mut *self.waiters.borrow_mut());
        waiters.into_iter().flat_map(|(_, wakers)| wakers).for_each(Waker::wake);
    }

    /// Wakes `waker` when `number` is reached.
    pub(super) fn register(&self, number: u64, waker: &Waker) {
        let mut waiters = self.waiters.borrow_mut();
        match waiters.binary_search_by_key(&number, |(wanted, _)| *wanted) {
            Ok(at) => {
                if !waiters[at].1.last().is_some_and(|last| last.will_wake(waker)) {
                    waiters[at].1.push(waker.clone());
                }
            }
            Err(at) => waiters.insert(at, (number, vec![waker.clone()])),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_those_whose_number_was_reached_are_woken() {
        let progress = Rc::new(Progress::default());
        let counts: Vec<Arc<Count>> = (0..4).map(|_| Arc::default()).collect();
        for (count, number) in counts.iter().zip([5, 3, 5, 9]) {
            progress.register(number, &Waker::from(Arc::clone(count)));
        }
        let woken = || counts.iter().map(|c| c.0.load(Ordering::Relaxed)).collect::<Vec<_>>();
        progress.advance(2);
        assert_eq!(woken(), [0, 0, 0, 0]);
        progress.advance(5);
        assert_eq!(woken(), [1, 1, 1, 0]);
        progress.wake_all();
        assert_eq!(woken(), [1, 1, 1, 1]);
    }
}
