//! Turns and slices: how long a task held its shard, and when it must let others run.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::runtime::{Core, Nanos};

/// The longest a task works before it lets others run: 200 us. With a turn's other work it keeps the 99.9th
/// percentile of turns under 250 us, about two device reads.
pub const SLICE_NANOS_MAX: u64 = 200_000;

/// Lengths of turns, or of whatever else takes from microseconds to seconds, in nanoseconds, to two significant digits.
#[derive(Clone)]
pub struct TurnStats {
    nanos: Histogram<u64>,
}

impl TurnStats {
    pub(crate) fn record(&mut self, turn: Duration) {
        self.nanos.saturating_record(u64::try_from(turn.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many turns there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.nanos.len()
    }

    /// The length that the fraction `quantile` (0..=1) of turns did not exceed.
    #[must_use]
    pub fn nanos_at(&self, quantile: f64) -> u64 {
        self.nanos.value_at_quantile(quantile)
    }

    /// The longest turn.
    #[must_use]
    pub fn nanos_max(&self) -> u64 {
        self.nanos.max()
    }

    /// The turns since `earlier`, a snapshot of the same runtime.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut nanos = self.nanos.clone();
        // Fails only when `earlier` is of another runtime and has turns that these have not: those count as none.
        match nanos.subtract(&earlier.nanos) {
            Ok(()) => Self { nanos },
            Err(_) => self.clone(),
        }
    }

    /// The histogram itself.
    #[must_use]
    pub const fn histogram(&self) -> &Histogram<u64> {
        &self.nanos
    }
}

impl Default for TurnStats {
    fn default() -> Self {
        let nanos = Histogram::new_with_bounds(16, TURN_NANOS_MAX, 2);
        Self { nanos: nanos.expect("the bounds are constants the histogram accepts") }
    }
}

impl fmt::Debug for TurnStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnStats")
            .field("count", &self.count())
            .field("nanos_p50", &self.nanos_at(0.5))
            .field("nanos_p999", &self.nanos_at(0.999))
            .field("nanos_max", &self.nanos_max())
            .finish()
    }
}

/// Work measured against a limit, of [`SLICE_NANOS_MAX`] or less. A long task checks it every few microseconds of work:
/// `if slice.is_spent() { slice.pause().await }`, or `slice.pause().await` alone, which yields only when spent.
/// In virtual time a slice is spent after a random number of checks, so that tests interleave at many points.
pub struct Slice {
    core: Rc<Core>,
    begin: Nanos,
    limit: Duration,
    /// Checks left in virtual time.
    checks: Option<u32>,
}

impl Slice {
    pub(crate) fn new(core: Rc<Core>, limit: Duration) -> Self {
        let begin = core.now();
        let checks = core.slice_checks();
        Self { core, begin, limit, checks }
    }

    /// Whether it is time to let others run.
    pub fn is_spent(&mut self) -> bool {
        match &mut self.checks {
            None => self.core.now().since(self.begin) >= self.limit,
            Some(checks) => {
                *checks = checks.saturating_sub(1);
                *checks == 0
            }
        }
    }

    /// If spent, goes to the back of the run queue and starts a fresh slice.
    pub async fn pause(&mut self) {
        if self.is_spent() {
            YieldNow::default().await;
            self.restart();
        }
    }

    /// Starts a fresh slice: after any other await that may have let others run.
    pub fn restart(&mut self) {
        self.begin = self.core.now();
        self.checks = self.core.slice_checks();
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slice").field("begin", &self.begin).finish_non_exhaustive()
    }
}

/// Completes at its second poll; the first sends its task to the back of the run queue.
#[derive(Debug, Default)]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Longer turns are counted as this long: 10 s.
const TURN_NANOS_MAX: u64 = 10_000_000_000;
