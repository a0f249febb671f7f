//! A request for work that is kept until it is taken up, however often it is made.

use std::cell::Cell;

use crate::signal::Signal;

/// A flag that any number of tasks wait for; the first to look after it was raised takes it.
#[derive(Debug, Default)]
pub(super) struct Latch {
    raised: Cell<bool>,
    news: Signal,
}

impl Latch {
    #[inline]
    pub(super) fn raise(&self) {
        if !self.raised.replace(true) {
            self.news.notify();
        }
    }

    /// Completes when it was raised since it was last taken.
    pub(super) async fn taken(&self) {
        self.news.until(|| self.raised.replace(false)).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn raised_twice_before_anybody_looks_is_taken_once() {
        let latch = Latch::default();
        latch.raise();
        latch.raise();
        block_on(latch.taken());
        let mut waiting = Box::pin(latch.taken());
        assert!(block_on(poll_once(&mut waiting)).is_none());
        latch.raise();
        block_on(waiting);
    }
}
