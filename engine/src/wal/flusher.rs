//! What becomes durable, and the task that flushes a log whose batches are not flushed one by one.

use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use super::config::Durability;
use super::shared::Shared;
use crate::error::Result;
use crate::ids::Lsn;
use crate::io::runtime::Nanos;

/// A log that is slower than this, on purpose, cannot be told from one that hangs.
pub const LOG_DELAY_MAX: Duration = Duration::from_secs(10);

/// Flushes of a log, together with the batches that were written with them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flushes {
    /// How many.
    pub count: u64,
    /// How long the device took for all of them.
    pub nanos: u64,
}

impl Shared {
    /// The only task that flushes, so that no flush is taken for done while another has its files in hand.
    pub(super) async fn run_flusher(self: Rc<Self>) {
        if self.config.durability.flushes_each_batch() {
            return;
        }
        loop {
            self.flush.taken().await;
            if let Durability::Interval(interval) = self.config.durability {
                future::or(self.runtime.sleep(interval), self.urgent.taken()).await;
            }
            if let Err(error) = self.flush_all().await {
                self.fail(&error);
            }
            if self.is_failed() {
                return;
            }
        }
    }

    /// The current file has something to flush.
    pub(super) fn mark_dirty(&self) {
        let file = self.current.get();
        let mut dirty = self.dirty.borrow_mut();
        if dirty.last() != Some(&file) {
            dirty.push(file);
        }
        drop(dirty);
        if self.told_start.get() >= self.space.borrow().oldest_end() {
            self.flush_now();
        } else if self.config.durability != Durability::None {
            self.flush.raise();
        }
    }

    pub(super) fn flush_now(&self) {
        self.urgent.raise();
        self.flush.raise();
    }

    /// Flushes what has been written up to this moment.
    async fn flush_all(&self) -> Result<()> {
        let (number, end, began) = (self.written.reached(), self.written_end.get(), self.runtime.now());
        let dirty = std::mem::take(&mut *self.dirty.borrow_mut());
        let is_any = !dirty.is_empty();
        for file in dirty {
            let file = Rc::clone(&self.files.borrow()[file]);
            file.sync().await?;
        }
        if is_any {
            self.flushed(began).await;
        }
        if number > self.durable.reached() {
            self.became_durable(number, end);
        }
        Ok(())
    }

    /// A flush that began then has ended; it is taken for ended after the delay that is set.
    pub(super) async fn flushed(&self, began: Nanos) {
        if !self.delay.get().is_zero() {
            self.runtime.sleep(self.delay.get()).await;
        }
        let Flushes { count, nanos } = self.flushes.get();
        let took = self.runtime.now().0.saturating_sub(began.0);
        self.flushes.set(Flushes { count: count + 1, nanos: nanos.saturating_add(took) });
    }

    pub(super) fn became_durable(&self, number: u64, end: Lsn) {
        self.durable_end.set(end);
        let mut in_doubt = self.in_doubt.borrow_mut();
        while in_doubt.front().is_some_and(|batch| batch.number <= number) {
            let Some(batch) = in_doubt.pop_front() else { break };
            assert!(batch.end <= end, "positions ascend with numbers");
            self.start_durable.set(batch.start.max(self.start_durable.get()));
        }
        drop(in_doubt);
        if self.space.borrow_mut().retire(self.start_durable.get()) > 0 {
            self.spare.raise();
            self.wake_room();
        }
        self.durable.advance(number);
        if self.is_told_due() || self.is_release_due() {
            self.work.raise();
        }
    }
}
