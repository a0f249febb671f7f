//! The choice of models: the median of all, weighed by how each did at the origins that are over.
//!
//! Combinations beat the choice of a single best one (Bates and Granger, "The Combination of Forecasts", 1969): which one
//! did best is itself uncertain. A model that does twice as bad as another has a sixteenth of its weight. A median, as many
//! series repeat one value exactly: a mean would never say it, and one wild path would move it.
//!
//! Invariant: a weight at an origin depends on hours before it only.

use crate::series::{DAY, Series, to_load};
use crate::walk::Walk;

/// How far back a model's errors count.
const MEMORY: usize = 21 * DAY;
/// The power of the inverse error that a weight is.
const SHARPNESS: i32 = 4;
/// Part of the largest error that every error is taken for at least: a perfect past is no proof.
const ERROR_SHARE_MIN: f64 = 0.05;

/// The weighed median of `walks`, which are of one plan and over `series`.
///
/// # Panics
/// When there is no walk, or their plans differ.
#[must_use]
pub fn blend(series: &Series, walks: &[Walk]) -> Walk {
    let plan = walks[0].plan();
    let errors: Vec<Vec<f64>> =
        walks.iter().map(|walk| plan.origins().map(|origin| error(series, walk, origin)).collect()).collect();
    // Whole horizons before the origin.
    let lead = plan.horizon.div_ceil(plan.step);
    let memory = (MEMORY / plan.step).max(lead);
    let mut index = 0;
    Walk::blend(walks, |_, weights| {
        let past = index.max(memory) - memory..(index + 1).max(lead) - lead;
        let means: Vec<f64> =
            errors.iter().map(|errors| mean(errors.get(past.clone()).unwrap_or(&[]))).collect();
        let floor = means.iter().copied().fold(0.0, f64::max) * ERROR_SHARE_MIN;
        let least = means.iter().copied().fold(f64::INFINITY, f64::min).max(floor);
        for (weight, mean) in weights.iter_mut().zip(&means) {
            let share = if *mean > 0.0 { least / mean.max(floor) } else { 1.0 };
            *weight = crate::narrow(share.powi(SHARPNESS));
        }
        index += 1;
    })
}

/// The mean absolute error of the load from one origin; NaN when there is no path or nothing came to be known.
fn error(series: &Series, walk: &Walk, origin: i64) -> f64 {
    let Some(path) = walk.path(origin) else { return f64::NAN };
    let known = (origin..).zip(path).map(|(hour, &value)| (series.at(hour), value)).filter(|k| !k.0.is_nan());
    let (sum, count) =
        known.fold((0.0, 0.0), |(s, c), (was, said)| (s + (to_load(was) - to_load(said)).abs(), c + 1.0));
    sum / count
}

/// Of what is not NaN; zero of nothing.
fn mean(values: &[f64]) -> f64 {
    let known = values.iter().filter(|value| !value.is_nan());
    let (sum, count) = known.fold((0.0, 0.0), |(s, c), v| (s + v, c + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}
