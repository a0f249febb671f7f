//! What an operation costs this core: the time its polls take, waiting excluded.
//!
//! Reading the clock twice a poll is dear next to a cached read, so where operations are many the [`Sampler`] draws those
//! that are measured, and these stand for the others. The count of operations is exact; only their service time is
//! sampled.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::counters::{Sample, Sampler};
use crate::io::runtime::Runtime;

/// Measures the operations that are drawn.
#[derive(Debug)]
pub(crate) struct Meter {
    sampler: RefCell<Sampler>,
    /// Somebody wants to know how long each operation takes.
    watching: Cell<bool>,
}

/// What is known of an operation that has run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    /// How it is counted.
    pub(crate) sample: Sample,
    /// Its time on this core, for all operations that it stands for.
    pub(crate) nanos: u64,
    /// From its beginning to its end, waiting included, where that is of interest.
    pub(crate) took: Option<Duration>,
}

impl Service {
    /// Of an operation that was not measured.
    pub(crate) const fn of(sample: Sample) -> Self {
        Self { sample, nanos: 0, took: None }
    }
}

impl Meter {
    /// A meter of one shard; `seed` decides what is drawn.
    pub(crate) fn new(seed: u64) -> Self {
        Self { sampler: RefCell::new(Sampler::new(seed)), watching: Cell::new(false) }
    }

    /// Runs `work`; returns its result and what to count for it.
    pub(crate) async fn run<T>(&self, runtime: &Runtime, work: impl Future<Output = T>) -> (T, Service) {
        let sample = self.draw(runtime);
        let began = self.watching.get().then(|| runtime.now());
        let took = || began.map(|began| runtime.now().since(began));
        if !sample.is_drawn() {
            let result = work.await;
            return (result, Service { sample, nanos: 0, took: took() });
        }
        let mut nanos = 0;
        let result = Measured { runtime, nanos: &mut nanos, work: std::pin::pin!(work) }.await;
        (result, Service { sample, nanos: nanos * u64::from(sample.stands_for()), took: took() })
    }

    /// From here on tells of each operation how long it took, or does not.
    pub(crate) fn watch(&self, watching: bool) {
        self.watching.set(watching);
    }

    /// How the next operation is counted: for one that is not measured.
    pub(crate) fn draw(&self, runtime: &Runtime) -> Sample {
        self.sampler.borrow_mut().draw(|| runtime.now())
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
