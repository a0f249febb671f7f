//! Which hour it is: the clock's, or that of a replay, whose hours are short.

use std::time::{Duration, Instant, SystemTime};

/// The hours of a planner. Between two of them time goes as a monotonic clock says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hours {
    begin: Instant,
    /// At the beginning, in hours since 1970.
    first: f64,
    seconds: f64,
}

impl Hours {
    /// Hours of so many seconds, the first of which is `start`; 0: the clock's.
    pub(super) fn new(seconds: f64, start: i64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a planner's hours are those of the wall clock")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let first = if start == 0 { now.as_secs_f64() / 3600.0 } else { start as f64 };
        Self { begin: instant(), first, seconds }
    }

    /// Now, in hours since 1970.
    pub(super) fn now(&self) -> f64 {
        self.first + self.begin.elapsed().as_secs_f64() / self.seconds
    }

    /// The hour that is under way.
    #[expect(clippy::cast_possible_truncation, reason = "hours since 1970")]
    pub(super) fn hour(&self) -> i64 {
        self.now().floor() as i64
    }

    /// The part of an hour that is still to come.
    pub(super) fn left_of(&self, hour: i64) -> f64 {
        ((hour + 1) as f64 - self.now()).clamp(0.0, 1.0)
    }

    /// How long an hour is.
    pub(super) fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// The monotonic clock.
pub(super) fn instant() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "the planner's thread is a shell: what it runs is given the time"
    )]
    Instant::now()
}
