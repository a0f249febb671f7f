//! How a load varies within the hour.

use super::mind::FADING;

/// Spread of a load within the hour before it was measured, as a part of its mean.
pub(super) const BURST_FIRST: f64 = 0.1;
/// An hour with fewer ticks says nothing of it.
const TICKS_MIN: f64 = 4.0;

/// How a load varies within the hour, tick by tick.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burst {
    sum: f64,
    squares: f64,
    /// Standard deviation of its seconds, as a part of the hour's mean; [`BURST_FIRST`] before it was measured.
    pub(super) spread: f64,
}

impl Burst {
    pub(super) const fn new() -> Self {
        Self { sum: 0.0, squares: 0.0, spread: BURST_FIRST }
    }

    /// So many requests in a tick.
    pub(super) fn take(&mut self, requests: f64) {
        self.sum += requests;
        self.squares += requests * requests;
    }

    /// The spread of the hour's ticks, less what independent requests would have anyway.
    pub(super) fn end_hour(&mut self, ticks: f64) {
        let mean = self.sum / ticks.max(1.0);
        if ticks >= TICKS_MIN && mean > 0.0 {
            let variance = (self.squares / ticks - mean * mean - mean).max(0.0);
            self.spread = FADING * self.spread + (1.0 - FADING) * (variance.sqrt() / mean).min(1.0);
        }
        *self = Self { spread: self.spread, ..Self::new() };
    }
}
