//! Entities with less than a week of history, forecast from what others did at that age.
//!
//! A [`Pool`] makes older entities young: of their last four weeks it takes windows as short as the young entity's history,
//! and what then followed. From these it learns, for each hour ahead, how the level, the last hours, the same hours of the
//! day before and the shape of the most alike entities make the rank of the coming hour among the entity's own
//! (`window.rs`): one robust regression for all. What then followed the windows of which most nearly the same was expected
//! are paths of the young entity, rank by rank: they are as far apart as things went at that age. As many are those of the plain
//! method for the young, the shape of alike entities times the entity's own level, with the errors that it made on windows of
//! like level and restlessness ([`Pool::shape_times_level`]): the two err in different hours.
//!
//! Invariant: what is said at an origin depends on hours before it only.

mod days;
mod regression;
mod shape;
mod window;

use crate::scenarios::Scenarios;
use crate::series::{DAY, Series, WEEK, offset, to_load};
pub use days::days;
use regression::Regression;
use shape::Shapes;
use window::{FEATURES, Window};

/// Ages that pools are learnt for, in hours: an entity is forecast by the highest that it has reached.
pub const AGES: [usize; 9] = [0, 6, 12, 24, 36, 48, 72, 96, 120];
/// At this age an entity's own hours count for as much as the pool.
const EVEN: usize = DAY;
/// From this age on an entity's own methods have error paths of their own, and the pool begins to fade.
const FADES_FROM: usize = 5 * DAY;
/// At this age nothing of it is left.
const FADES_TO: usize = 2 * WEEK;
/// Entities that are learnt from: enough for a regression of a dozen weights, and bounded for any number of entities.
const DONORS_MAX: usize = 400;
/// Days back that windows are taken from.
const WINDOW_DAYS: usize = 28;
/// With fewer windows nothing is learnt.
const WINDOWS_MIN: usize = 200;
/// Paths of a forecast.
const PATHS: usize = 300;
/// What half the scale of log loads counts for in likeness, beside how restless a load is.
const LEVEL_SHARE: f32 = 0.25;
/// What that likeness counts for beside how the coming hours are expected to rank.
const LIKENESS_SHARE: f32 = 0.1;

/// What older entities did at one age.
#[derive(Clone, Debug)]
pub struct Pool {
    age: usize,
    origin: i64,
    horizon: usize,
    shapes: Shapes,
    /// For each hour ahead.
    regressions: Vec<Regression<FEATURES>>,
    windows: Vec<Past>,
}

/// A window of an older entity, and what followed.
#[derive(Clone, Debug)]
struct Past {
    level: f32,
    scale: f32,
    /// Ranks that were expected of the hours that followed.
    expected: Vec<f32>,
    /// Their ranks, NaN where nothing is known.
    followed: Vec<f32>,
    /// On the log scale, what they differed from shape times level.
    errors: Vec<f32>,
}

/// The hours from a series' first known one to `origin`.
#[must_use]
pub fn age(series: &Series, origin: i64) -> usize {
    let history = series.before(origin);
    let first = history.iter().position(|value| !value.is_nan());
    first.map_or(0, |first| offset(series.start(), origin) - first)
}

/// How much of a forecast at that age is the pool's: all at first, half after a day, nothing after two weeks.
#[must_use]
pub fn share(age: usize) -> f64 {
    let left = FADES_TO.saturating_sub(age) as f64 / (FADES_TO - FADES_FROM) as f64;
    left.min(1.0) * EVEN as f64 / (EVEN + age) as f64
}

/// What may come of an entity of that age, of which its own methods say `own`.
///
/// Before they have made enough errors to be judged by, any known hour may come again as they say; then half of their
/// part is the entity's [`days`]. The rest is the pool's. What is said by the entity's own hours and what by others is averaged
/// quantile by quantile: the own hours know nothing of how rarely a lone burst comes again at once, others do.
#[must_use]
pub fn blend(age: usize, pooled: Option<Scenarios>, days: Option<Scenarios>, own: Scenarios) -> Scenarios {
    let own = match days {
        Some(days) if age < FADES_FROM => days.mixed(&own, 0.5),
        _ => own,
    };
    match pooled {
        Some(pooled) if share(age) > 0.0 => pooled.averaged(&own, share(age)),
        _ => own,
    }
}

impl Pool {
    /// Learns from the `donors` what follows the first `age` hours of an entity, for the hours from `origin` on.
    ///
    /// None if they are too few, or too young themselves.
    #[must_use]
    pub fn learn(donors: &[&Series], origin: i64, age: usize, horizon: usize) -> Option<Self> {
        let stride = donors.len().div_ceil(DONORS_MAX).max(1);
        let donors: Vec<&Series> = donors.iter().step_by(stride).copied().collect();
        let shapes = Shapes::learn(&donors, origin);
        let mut windows: Vec<(Window, Vec<f32>)> = Vec::new();
        // Of windows that are equally near the first are taken: those of all entities, of the last days.
        for day in 0..WINDOW_DAYS {
            let at = origin - whole_days(horizon) - (day * DAY) as i64;
            for (donor, series) in donors.iter().enumerate() {
                let followed: Vec<f32> = (at..).take(horizon).map(|hour| series.at(hour)).collect();
                let had = offset(series.start(), at) >= age;
                if had && followed.iter().any(|value| !value.is_nan()) {
                    let window = Window::new(series, at, age, horizon, &shapes, Some(donor));
                    windows.extend(window.map(|window| (window, followed)));
                }
            }
        }
        if windows.len() < WINDOWS_MIN {
            return None;
        }
        let regressions = (0..horizon).map(|lead| {
            let cases = windows.iter().filter(|(_, followed)| !followed[lead].is_nan());
            let cases: Vec<_> = cases
                .map(|(window, followed)| (window.features(lead), window.rank(followed[lead])))
                .collect();
            Regression::fit(&cases)
        });
        let mut pool =
            Self { age, origin, horizon, shapes, regressions: regressions.collect(), windows: Vec::new() };
        pool.windows = windows.iter().map(|(window, followed)| pool.past(window, followed)).collect();
        Some(pool)
    }

    /// What may come of a young entity: half as the regression says, half as the plain method does. None if nothing is known of
    /// the hours that the pool looks at.
    #[must_use]
    pub fn scenarios(&self, series: &Series) -> Option<Scenarios> {
        let window = self.window(series)?;
        Some(self.by_rank(&window).mixed(&self.plain(&window), 0.5))
    }

    /// By the shape of alike entities times the entity's own level alone.
    #[must_use]
    pub fn shape_times_level(&self, series: &Series) -> Option<Scenarios> {
        Some(self.plain(&self.window(series)?))
    }

    fn window(&self, series: &Series) -> Option<Window> {
        Window::new(series, self.origin, self.age, self.horizon, &self.shapes, None)
    }

    fn by_rank(&self, window: &Window) -> Scenarios {
        let expected = self.expected(window);
        let distance = |past: &Past| {
            let hours = past.expected.iter().zip(&expected);
            let apart: f32 = hours.map(|(a, b)| (a - b).abs()).sum();
            apart / self.horizon as f32 + LIKENESS_SHARE * past.distance(window)
        };
        let mut paths = Vec::with_capacity(PATHS * self.horizon);
        for past in self.nearest(distance) {
            // An outlier of a restless entity is none of a calm one.
            let outside = past.scale.min(window.scale());
            let known = past.followed.iter().find(|rank| !rank.is_nan()).copied();
            let mut rank = known.unwrap_or(0.0);
            for &followed in &past.followed {
                // In a gap, the hour before goes on.
                rank = if followed.is_nan() { rank } else { followed };
                paths.push(to_load(window.value(rank, outside)));
            }
        }
        Scenarios::of_paths(paths, self.horizon)
    }

    fn plain(&self, window: &Window) -> Scenarios {
        let mut paths = Vec::with_capacity(PATHS * self.horizon);
        for past in self.nearest(|past| past.distance(window)) {
            let stretch = (window.scale() / past.scale).min(1.0);
            let mut error = 0.0;
            for (lead, &made) in past.errors.iter().enumerate() {
                error = if made.is_nan() { error } else { made * stretch };
                paths.push(to_load(window.shape(lead) + error));
            }
        }
        Scenarios::of_paths(paths, self.horizon)
    }

    fn past(&self, window: &Window, followed: &[f32]) -> Past {
        let errors = followed.iter().enumerate().map(|(lead, was)| was - window.shape(lead));
        Past {
            level: window.level(),
            scale: window.scale(),
            expected: self.expected(window),
            followed: followed.iter().map(|&was| window.rank(was)).collect(),
            errors: errors.collect(),
        }
    }

    fn expected(&self, window: &Window) -> Vec<f32> {
        let hours = self.regressions.iter().enumerate();
        hours.map(|(lead, regression)| regression.value(&window.features(lead))).collect()
    }

    fn nearest(&self, distance: impl Fn(&Past) -> f32) -> impl Iterator<Item = &Past> {
        let mut windows: Vec<(f32, &Past)> = self.windows.iter().map(|past| (distance(past), past)).collect();
        // Stable: of windows that are as near the first are taken.
        windows.sort_by(|a, b| a.0.total_cmp(&b.0));
        windows.into_iter().take(PATHS).map(|(_, past)| past)
    }
}

impl Past {
    /// How unlike the entities are in restlessness and level.
    fn distance(&self, window: &Window) -> f32 {
        (self.scale / window.scale()).ln().abs() + LEVEL_SHARE * (self.level - window.level()).abs()
    }
}

/// The least number of whole days that has so many hours: windows end at the origin's hour of the day.
const fn whole_days(hours: usize) -> i64 {
    (hours.div_ceil(DAY) * DAY) as i64
}
