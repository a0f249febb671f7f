//! Stored bytes: totals from growth and back.
//!
//! A model forecasts loads, which are not negative, and growth has a sign: hence two series, what came and what went. An
//! entity that is filled by day and emptied by night then does not seem to grow.

use super::ring::Ring;
use super::{Metric, scale};
use crate::Series;
use crate::series::{LOAD_MAX, to_log};

/// Stored bytes and how they changed, by the hour.
#[derive(Clone, PartialEq, Debug)]
pub struct Growth {
    /// Bytes that came, by hours in which more came than went; zero in others.
    pub grown: Series,
    /// Bytes that went, by hours in which more went than came; zero in others.
    pub shrunk: Series,
    /// The last known total; NaN if none is.
    pub last: f64,
}

impl Growth {
    /// The totals of the next hours, from what comes and what goes in each. To be taken path by path of scenarios: medians
    /// of the two do not add up.
    pub fn course(&self, grown: &[f64], shrunk: &[f64]) -> impl Iterator<Item = f64> {
        let changes = grown.iter().zip(shrunk).map(|(came, went)| came - went);
        changes.scan(if self.last.is_nan() { 0.0 } else { self.last }, |total, change| {
            *total = (*total + change).clamp(0.0, LOAD_MAX);
            Some(*total)
        })
    }
}

/// log1p of what came at each kept hour, and of what went.
pub(super) fn sides(ring: &Ring) -> [Vec<f32>; 2] {
    [1.0, -1.0].map(|sign| {
        let changes =
            ring.codes(Metric::StoredBytes).map(|code| sign * scale::value(Metric::StoredBytes, code));
        changes.map(|change| to_log(if change < 0.0 { 0.0 } else { change })).collect()
    })
}

/// log1p of the total at each kept hour, back from the `last` known one.
pub(super) fn totals(ring: &Ring, last: f64) -> Vec<f32> {
    let mut logs = Vec::new();
    // That of the hour after; none behind the last known one.
    let (mut total, mut growth) = (last, 0.0);
    for code in ring.codes(Metric::StoredBytes).rev() {
        // Each hour since the total before has this growth: gaps too.
        total -= growth;
        let own = scale::value(Metric::StoredBytes, code);
        if own.is_nan() {
            logs.push(f32::NAN);
        } else {
            logs.push(to_log(total.max(0.0)));
            growth = own;
        }
    }
    logs.reverse();
    logs
}
