//! Forecasts as the planner takes them: joint paths of every entity's load, from a walked model.
//!
//! A path is the latest forecast with the errors of an earlier origin on top, or one of the last days as it was: errors
//! say how wrong the model is, days what an entity does out of nothing. Path by path all entities take the same origin
//! and the same day, so that what happened to several at once may happen to them again.
//!
//! Invariant: paths at an origin depend on hours before it only.

use foreshard_forecast::series::{DAY, Series, to_load};
use foreshard_forecast::walk::Walk;

use crate::paths::{Paths, Shape};

/// Origins whose errors are drawn from, one every [`ERROR_STEP`] hours back from the latest that is over.
const ERRORS: usize = 48;
const ERROR_STEP: usize = 6;
/// Days that are drawn as they were.
const DAYS: usize = 16;

/// The shape of paths over so many hours.
#[must_use]
pub const fn shape(hours: usize) -> Shape {
    Shape { paths: ERRORS + DAYS, hours }
}

/// Hours before an origin that paths over `hours` look back to; a walk has to begin before them.
#[must_use]
pub const fn memory(hours: usize) -> usize {
    hours + (ERRORS + 1) * ERROR_STEP
}

/// The paths of one entity from `origin` on. `walk` has an origin every hour.
#[must_use]
pub fn paths(series: &Series, walk: &Walk, origin: i64, hours: usize) -> Paths {
    let shape = shape(hours);
    let mut values = Vec::with_capacity(shape.len());
    let latest = walk.path(origin).filter(|path| path.len() >= hours);
    for error in 0..ERRORS {
        let earlier = back(origin, hours + error * ERROR_STEP);
        match (latest, walk.path(earlier)) {
            (Some(path), Some(said)) => {
                let mut off = 0.0;
                for hour in 0..hours {
                    let was = series.at(earlier + hour as i64);
                    // In a gap, the error of the hour before goes on.
                    off = if was.is_nan() { off } else { was - said[hour] };
                    values.push(load(path[hour] + off));
                }
            }
            _ => day(series, origin, error % DAYS, hours, &mut values),
        }
    }
    for days in 0..DAYS {
        day(series, origin, days, hours, &mut values);
    }
    Paths::new(values, shape)
}

/// Paths of an entity that no model is trusted with: its last days as they were, one after the other.
#[must_use]
pub fn days(series: &Series, origin: i64, hours: usize) -> Paths {
    let shape = shape(hours);
    let mut values = Vec::with_capacity(shape.len());
    for path in 0..shape.paths {
        day(series, origin, path % DAYS, hours, &mut values);
    }
    Paths::new(values, shape)
}

/// The hours of the day so many days back, as they were; nothing in gaps. Where fewer days are known, these take turns.
fn day(series: &Series, origin: i64, days: usize, hours: usize, values: &mut Vec<f32>) {
    let whole_days = hours.div_ceil(DAY);
    let known_days = usize::try_from(origin.saturating_sub(series.start())).unwrap_or(0) / DAY;
    let days = days % (known_days + 1).saturating_sub(whole_days).max(1);
    let begin = back(origin, (days + whole_days) * DAY);
    let known = |hour: usize| Some(series.at(begin + hour as i64)).filter(|value| !value.is_nan());
    values.extend((0..hours).map(|hour| known(hour).map_or(0.0, load)));
}

fn back(hour: i64, hours: usize) -> i64 {
    hour.saturating_sub(i64::try_from(hours).unwrap_or(i64::MAX))
}

fn load(log: f32) -> f32 {
    crate::narrow(to_load(log))
}
