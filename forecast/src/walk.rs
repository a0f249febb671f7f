//! A model walked over the history it did not see: fitted, asked, told what then happened, asked again.
//!
//! Origins lie on one grid of Unix hours for all series, so that the errors of different series at one origin belong
//! together. What a path was made of lies before its origin; regressors are those announced by then.

use crate::measures::weighted_median;
use crate::model::{Fitted, Model, Rows};
use crate::series::{DAY, Series, offset};

/// Which origins, how far ahead, and how often to learn anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The first origin: its path begins with this hour.
    pub first: i64,
    /// No origin is later.
    pub last: i64,
    /// Hours between origins.
    pub step: usize,
    /// Hours after which the model is fitted again; in between it is updated.
    pub refit: usize,
    /// Hours of each path.
    pub horizon: usize,
}

/// Hours of history that a fit is given at most: as much as the longest memory of a model.
pub const HISTORY_MAX: usize = 70 * DAY;

/// What is known of hours from elsewhere: announced events.
pub trait Regressors: Sync {
    /// How many values an hour has.
    fn columns(&self) -> usize;

    /// The values of `hour`, as far as they were known when `known_at` was the next hour.
    fn row(&self, hour: i64, known_at: i64, row: &mut [f32]);
}

/// No regressors.
#[derive(Clone, Copy, Debug)]
pub struct NoRegressors;

impl Regressors for NoRegressors {
    fn columns(&self) -> usize {
        0
    }

    fn row(&self, _: i64, _: i64, _: &mut [f32]) {}
}

/// The paths of one model over one series.
#[derive(Clone, PartialEq, Debug)]
pub struct Walk {
    plan: Plan,
    /// Origin by origin; NaN where the model could not be fitted.
    paths: Vec<f32>,
}

impl Plan {
    /// The origins, in order.
    pub fn origins(self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator {
        let count = if self.last < self.first { 0 } else { offset(self.first, self.last) / self.step + 1 };
        (0..count).map(move |i| self.origin(i))
    }

    fn origin(self, index: usize) -> i64 {
        self.first.saturating_add(i64::try_from(index * self.step).unwrap_or(i64::MAX))
    }
}

impl Walk {
    /// Walks `model` over `series`.
    #[must_use]
    pub fn run(model: &dyn Model, series: &Series, regressors: &dyn Regressors, plan: Plan) -> Self {
        let origins = plan.origins();
        let mut paths = vec![f32::NAN; origins.len() * plan.horizon];
        let mut known: Option<Known> = None;
        let columns = regressors.columns();
        for (index, origin) in origins.enumerate() {
            match &mut known {
                Some(known) if offset(known.fitted_at, origin) < plan.refit => {
                    known.advance(series, regressors, origin);
                }
                _ => known = Known::fit(model, series, regressors, origin),
            }
            if let Some(known) = &known {
                let ahead = rows(regressors, origin, plan.horizon, origin);
                let out = &mut paths[index * plan.horizon..][..plan.horizon];
                known.fitted.path(Rows::new(&ahead, columns), out);
            }
        }
        Self { plan, paths }
    }

    /// Of several walks of one plan, hour by hour the weighted median: NaN paths do not count.
    ///
    /// `weights` is asked at every origin, for one weight per walk.
    ///
    /// # Panics
    /// When there is no walk, or their plans differ.
    #[must_use]
    pub fn blend(walks: &[Self], mut weights: impl FnMut(i64, &mut [f32])) -> Self {
        let plan = walks[0].plan;
        assert!(walks.iter().all(|walk| walk.plan == plan), "walks of one plan");
        let mut paths = vec![f32::NAN; walks[0].paths.len()];
        let mut weight = vec![0.0; walks.len()];
        let mut of_hour = Vec::with_capacity(walks.len());
        for (origin, out) in plan.origins().zip(paths.chunks_exact_mut(plan.horizon)) {
            weights(origin, &mut weight);
            for (hour, out) in out.iter_mut().enumerate() {
                of_hour.clear();
                let paths = walks.iter().zip(&weight);
                of_hour.extend(paths.filter_map(|(walk, &weight)| Some((walk.path(origin)?[hour], weight))));
                *out = weighted_median(&mut of_hour).unwrap_or(f32::NAN);
            }
        }
        Self { plan, paths }
    }

    /// Which origins there are.
    #[must_use]
    pub const fn plan(&self) -> Plan {
        self.plan
    }

    /// The path from `origin`, if it is on the grid and there was enough history.
    #[must_use]
    pub fn path(&self, origin: i64) -> Option<&[f32]> {
        let hours = usize::try_from(origin.checked_sub(self.plan.first)?).ok()?;
        if hours % self.plan.step != 0 {
            return None;
        }
        let begin = hours / self.plan.step * self.plan.horizon;
        let path = self.paths.get(begin..begin + self.plan.horizon)?;
        path.iter().all(|value| value.is_finite()).then_some(path)
    }

    /// The origins of the `hours` before `origin` whose first `lead` hours lie before it.
    pub fn earlier(&self, origin: i64, hours: usize, lead: usize) -> impl Iterator<Item = (i64, &[f32])> {
        let step = self.plan.step;
        let counts = lead.div_ceil(step)..=hours / step;
        counts.filter_map(move |count| {
            let earlier = origin - i64::try_from(count * step).ok()?;
            Some((earlier, self.path(earlier)?))
        })
    }
}

struct Known {
    fitted: Box<dyn Fitted>,
    fitted_at: i64,
    /// The first hour that it has not seen.
    next: i64,
}

impl Known {
    fn fit(model: &dyn Model, series: &Series, regressors: &dyn Regressors, origin: i64) -> Option<Self> {
        let history = series.before(origin);
        let history = &history[history.len().saturating_sub(HISTORY_MAX)..];
        let next = origin.min(series.end());
        let start = next - i64::try_from(history.len()).ok()?;
        let rows = rows(regressors, start, history.len(), origin);
        let fitted = model.fit(start, history, Rows::new(&rows, regressors.columns())).ok()?;
        let mut known = Self { fitted, fitted_at: origin, next };
        known.advance(series, regressors, origin);
        Some(known)
    }

    fn advance(&mut self, series: &Series, regressors: &dyn Regressors, origin: i64) {
        let mut row = vec![0.0; regressors.columns()];
        while self.next < origin {
            regressors.row(self.next, origin, &mut row);
            self.fitted.update(series.at(self.next), &row);
            self.next += 1;
        }
    }
}

/// The rows of `count` hours from `first`.
fn rows(regressors: &dyn Regressors, first: i64, count: usize, known_at: i64) -> Vec<f32> {
    let columns = regressors.columns();
    let mut values = vec![0.0; columns * count];
    if columns > 0 {
        for (hour, row) in (first..).zip(values.chunks_exact_mut(columns)) {
            regressors.row(hour, known_at, row);
        }
    }
    values
}
