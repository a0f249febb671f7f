//! What an operation costs this core: the time its polls take, waiting excluded.
//!
//! Reading the clock twice a poll is dear next to a cached read, so one operation in `SAMPLED_ONE_IN` is measured and
//! stands for the others. The count of operations is exact; only their service time is sampled.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::io::runtime::Runtime;

/// A power of two. At 8, the clock costs an operation 5 ns on average.
const SAMPLED_ONE_IN: u64 = 8;

/// Chooses which operations are measured.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    operations: Cell<u64>,
}

impl Meter {
    /// Runs `work`; returns its result and the nanoseconds of service to count for it.
    pub(crate) async fn run<T>(&self, runtime: &Runtime, work: impl Future<Output = T>) -> (T, u64) {
        let operation = self.operations.get().wrapping_add(1);
        self.operations.set(operation);
        if !operation.is_multiple_of(SAMPLED_ONE_IN) {
            return (work.await, 0);
        }
        let mut nanos = 0;
        let result = Measured { runtime, nanos: &mut nanos, work: std::pin::pin!(work) }.await;
        (result, nanos * SAMPLED_ONE_IN)
    }
}

struct Measured<'a, F> {
    runtime: &'a Runtime,
    nanos: &'a mut u64,
    work: Pin<&'a mut F>,
}

impl<F: Future> Future for Measured<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let began = self.runtime.now();
        let poll = self.work.as_mut().poll(cx);
        *self.nanos += self.runtime.now().0 - began.0;
        poll
    }
}
