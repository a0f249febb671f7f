//! The few days of an entity itself, again.

use super::age;
use crate::scenarios::Scenarios;
use crate::series::{DAY, Series, to_load};

/// How far back: when there are more, the methods that look over weeks have begun.
const DAYS_MAX: usize = 7;
/// Hours by which each day may also be early or late: two days would be two paths.
const SHIFT: i64 = 3;

/// Each known day before `origin` again, also some hours early and late. None of less than a day.
#[must_use]
pub fn days(series: &Series, origin: i64, horizon: usize) -> Option<Scenarios> {
    let count = (age(series, origin) / DAY).min(DAYS_MAX);
    let mut paths = Vec::with_capacity(count * horizon * 7);
    for back in 1..=count {
        for shift in -SHIFT..=SHIFT {
            let hour = |lead: i64| {
                let hour = lead - (back * DAY) as i64 + shift;
                // Not later than the last known day.
                origin + if hour < 0 { hour } else { hour.rem_euclid(DAY as i64) - DAY as i64 }
            };
            let path: Vec<f32> = (0..).take(horizon).map(|lead| series.at(hour(lead))).collect();
            let Some(&first) = path.iter().find(|value| !value.is_nan()) else { continue };
            let mut load = first;
            for value in path {
                // In a gap, the hour before goes on.
                load = if value.is_nan() { load } else { value };
                paths.push(to_load(load));
            }
        }
    }
    (!paths.is_empty()).then(|| Scenarios::of_paths(paths, horizon))
}
