//! Entities with less than a week of history, forecast from what others did at that age.
//!
//! A [`Pool`] makes older entities young: of their last four weeks it takes windows as short as the young entity's history,
//! and what then followed. From these it learns, for each hour ahead, how the level, the last hours, the same hours of the
//! day before and the shape of the most alike entities make the rank of the coming load among the entity's own hours
//! (`window.rs`): one robust regression for all. The errors that it made on them, of the windows that were most like the
//! entity's own in level and in restlessness, are its error paths: they are as wide as forecasts at that age were wrong.
//!
//! The plain method for the young, the shape of alike entities times the entity's own level, is here too, with error paths of
//! the same making ([`Pool::shape_times_level`]).
//!
//! Invariant: what is said at an origin depends on hours before it only.

mod regression;
mod shape;
mod window;

use crate::scenarios::Scenarios;
use crate::series::{DAY, Series, WEEK, offset, to_load};
use regression::Regression;
use shape::Shapes;
use window::{FEATURES, Window};

/// Ages that pools are learnt for, in hours: an entity is forecast by the highest that it has reached.
pub const AGES: [usize; 9] = [0, 6, 12, 24, 36, 48, 72, 96, 120];
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
/// Error paths of a forecast: the windows most like the entity's.
const PATHS: usize = 300;
/// What half the scale of log loads counts for in likeness, beside how restless a load is.
const LEVEL_SHARE: f32 = 0.25;

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
    /// Hour by hour, NaN where nothing is known: ranks of the regression, and log loads of shape times level in units of the
    /// scale.
    errors: [Vec<f32>; 2],
}

/// Which of the two forecasts.
#[derive(Clone, Copy)]
enum By {
    Regression = 0,
    Shape = 1,
}

/// The hours from a series' first known one to `origin`.
#[must_use]
pub fn age(series: &Series, origin: i64) -> usize {
    let history = series.before(origin);
    let first = history.iter().position(|value| !value.is_nan());
    first.map_or(0, |first| offset(series.start(), origin) - first)
}

/// How much of a forecast at that age is the pool's: all in the first days, nothing after two weeks.
#[must_use]
pub fn share(age: usize) -> f64 {
    let left = FADES_TO.saturating_sub(age) as f64 / (FADES_TO - FADES_FROM) as f64;
    left.min(1.0)
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
        for (donor, series) in donors.iter().enumerate() {
            let last = origin - whole_days(horizon);
            for day in 0..WINDOW_DAYS {
                let at = last - (day * DAY) as i64;
                let followed: Vec<f32> = (at..).take(horizon).map(|hour| series.at(hour)).collect();
                let had = offset(series.start(), at) >= age;
                if had && followed.iter().any(|value| !value.is_nan()) {
                    windows.extend(
                        Window::new(series, at, age, horizon, &shapes, Some(donor)).map(|w| (w, followed)),
                    );
                }
            }
        }
        if windows.len() < WINDOWS_MIN {
            return None;
        }
        let regressions = (0..horizon).map(|lead| {
            let cases = windows.iter().filter(|(_, followed)| !followed[lead].is_nan());
            let cases: Vec<_> =
                cases.map(|(w, followed)| (w.features(lead), w.rank(followed[lead]))).collect();
            Regression::fit(&cases)
        });
        let mut pool =
            Self { age, origin, horizon, shapes, regressions: regressions.collect(), windows: Vec::new() };
        pool.windows = windows.iter().map(|(window, followed)| pool.past(window, followed)).collect();
        Some(pool)
    }

    /// What may come of a young entity. None if nothing is known of the hours that the pool looks at.
    #[must_use]
    pub fn scenarios(&self, series: &Series) -> Option<Scenarios> {
        self.paths(series, By::Regression)
    }

    /// Likewise by the shape of alike entities times the entity's own level.
    #[must_use]
    pub fn shape_times_level(&self, series: &Series) -> Option<Scenarios> {
        self.paths(series, By::Shape)
    }

    fn past(&self, window: &Window, followed: &[f32]) -> Past {
        let errors = [By::Regression, By::Shape].map(|by| {
            let hours = followed.iter().zip(self.path(window, by));
            hours.map(|(&was, said)| by.of_load(window, was) - said).collect()
        });
        Past { level: window.level(), scale: window.scale(), errors }
    }

    fn path(&self, window: &Window, by: By) -> Vec<f32> {
        let leads = 0..self.horizon;
        match by {
            By::Regression => {
                leads.map(|lead| self.regressions[lead].value(&window.features(lead))).collect()
            }
            By::Shape => leads.map(|lead| by.of_load(window, window.shape(lead))).collect(),
        }
    }

    fn paths(&self, series: &Series, by: By) -> Option<Scenarios> {
        let window = Window::new(series, self.origin, self.age, self.horizon, &self.shapes, None)?;
        let path = self.path(&window, by);
        let mut alike: Vec<(f32, &Past)> =
            self.windows.iter().map(|past| (past.distance(window.level(), window.scale()), past)).collect();
        // Stable: of equally alike windows the first are taken.
        alike.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut paths = Vec::with_capacity(PATHS * self.horizon);
        for (_, past) in alike.iter().take(PATHS) {
            let mut error = 0.0;
            for (value, &made) in path.iter().zip(&past.errors[by as usize]) {
                // In a gap, the error of the hour before goes on.
                error = if made.is_nan() { error } else { made };
                paths.push(to_load(by.to_load(&window, value + error)));
            }
        }
        Some(Scenarios::of_paths(paths, self.horizon))
    }
}

impl By {
    /// In what a forecast and its errors are reckoned.
    fn of_load(self, window: &Window, load: f32) -> f32 {
        match self {
            Self::Regression => window.rank(load),
            Self::Shape => (load - window.level()) / window.scale(),
        }
    }

    fn to_load(self, window: &Window, said: f32) -> f32 {
        match self {
            Self::Regression => window.value(said),
            Self::Shape => window.level() + window.scale() * said,
        }
    }
}

impl Past {
    fn distance(&self, level: f32, scale: f32) -> f32 {
        (self.scale / scale).ln().abs() + LEVEL_SHARE * (self.level - level).abs()
    }
}

/// The least number of whole days that has so many hours: windows end at the origin's hour of the day.
const fn whole_days(hours: usize) -> i64 {
    (hours.div_ceil(DAY) * DAY) as i64
}
