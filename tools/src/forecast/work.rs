//! The same work for many entities, on several threads, in an order that depends on neither.

use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often progress is told.
const PERIOD: Duration = Duration::from_secs(2);

/// `work` of every item, in their order.
///
/// Each thread takes the next item that is left, so that a slow one holds up no others.
pub(crate) fn map<T: Sync, R: Send>(
    items: &[T],
    threads: NonZeroUsize,
    what: &str,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let run = |tells: bool| {
        let mut done = Vec::new();
        let mut told = now();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, work(item)));
            if tells && told.elapsed() >= PERIOD {
                told = now();
                // Progress that nobody can see is no failure.
                let _unheard =
                    writeln!(std::io::stderr(), "foreshard: {what}: {} of {}", index + 1, items.len());
            }
        }
    };
    let mut results = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.get()).map(|_| scope.spawn(|| run(false))).collect();
        let mut results = run(true);
        for other in others {
            match other.join() {
                Ok(more) => results.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    results.sort_by_key(|result| result.0);
    results.into_iter().map(|result| result.1).collect()
}

/// Says on stderr, now and then, how far something is.
pub(crate) struct Progress {
    what: &'static str,
    of: usize,
    told: Instant,
}

impl Progress {
    pub(crate) fn new(what: &'static str, of: usize) -> Self {
        Self { what, of, told: now() }
    }

    pub(crate) fn reached(&mut self, count: usize) {
        if self.told.elapsed() >= PERIOD {
            self.told = now();
            // Progress that nobody can see is no failure.
            let _unheard = writeln!(std::io::stderr(), "foreshard: {}: {count} of {}", self.what, self.of);
        }
    }
}

/// For progress and for what is said of cost; no result depends on it.
#[expect(clippy::disallowed_methods, reason = "the program's shell may tell how long something took")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
