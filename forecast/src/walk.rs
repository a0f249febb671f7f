//! A model walked over the history it did not see: fitted, asked, told what then happened, asked again.
//!
//! Origins lie on one grid of Unix hours for all series, so that the errors of different series at one origin belong
//! together. What a path was made of lies before its origin; regressors are those announced by then.

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
        self.first.saturating_add(signed(index * self.step))
    }
}

impl Walk {
    /// Walks `model` over `series`.
    #[must_use]
    pub fn run(model: &dyn Model, series: &Series, regressors: &dyn Regressors, plan: Plan) -> Self {
        let mut walker = Walker::new(model, plan);
        let mut paths = vec![f32::NAN; plan.origins().len() * plan.horizon];
        for (origin, out) in plan.origins().zip(paths.chunks_exact_mut(plan.horizon)) {
            walker.path(series, regressors, origin, out);
        }
        Self { plan, paths }
    }

    /// Of no origin; `plan` says where the first one will be.
    pub(crate) fn empty(plan: Plan) -> Self {
        Self { plan: Plan { last: plan.first - signed(plan.step), ..plan }, paths: Vec::new() }
    }

    /// The path from the next origin.
    pub(crate) fn push(&mut self, path: &[f32]) {
        assert_eq!(path.len(), self.plan.horizon, "a path of the plan's horizon");
        self.paths.extend(path);
        self.plan.last += signed(self.plan.step);
    }

    /// Forgets the first origins until so many are left.
    pub(crate) fn keep(&mut self, origins: usize) {
        let surplus = (self.paths.len() / self.plan.horizon).saturating_sub(origins);
        self.paths.drain(..surplus * self.plan.horizon);
        // It grew by doubling, and grows no more: room for the origins of some hours stays.
        self.paths.shrink_to(self.paths.len() + self.paths.len() / 8);
        self.plan.first += signed(surplus * self.plan.step);
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

    /// The origins of the `hours` before `origin` whose first `lead` hours lie before it: the latest one first.
    pub fn earlier_origins(&self, origin: i64, hours: usize, lead: usize) -> impl Iterator<Item = i64> {
        let Plan { step, first, .. } = self.plan;
        let counts = lead.div_ceil(step)..=hours / step;
        counts.map(move |count| origin - signed(count * step)).take_while(move |&earlier| earlier >= first)
    }

    /// These origins, and the paths from them, where there is one.
    pub fn earlier(&self, origin: i64, hours: usize, lead: usize) -> impl Iterator<Item = (i64, &[f32])> {
        self.earlier_origins(origin, hours, lead).filter_map(|earlier| Some((earlier, self.path(earlier)?)))
    }
}

/// A model on its way from origin to origin.
#[derive(Debug)]
pub(crate) struct Walker<'a> {
    model: &'a dyn Model,
    refit: usize,
    known: Option<Known>,
}

impl<'a> Walker<'a> {
    pub(crate) fn new(model: &'a dyn Model, plan: Plan) -> Self {
        Self { model, refit: plan.refit, known: None }
    }

    /// Takes the hours before `origin`, which it was not asked of yet.
    pub(crate) fn advance(&mut self, series: &Series, regressors: &dyn Regressors, origin: i64) {
        if let Some(known) = &mut self.known {
            known.advance(series, regressors, origin);
        }
    }

    /// The path from `origin`, none earlier than the last one; NaN when the model cannot be fitted.
    pub(crate) fn path(
        &mut self,
        series: &Series,
        regressors: &dyn Regressors,
        origin: i64,
        out: &mut [f32],
    ) {
        match &mut self.known {
            Some(known) if offset(known.fitted_at, origin) < self.refit => {
                known.advance(series, regressors, origin);
            }
            _ => self.known = Known::fit(self.model, series, regressors, origin),
        }
        match &self.known {
            Some(known) => {
                let ahead = rows(regressors, origin, out.len(), origin);
                known.fitted.path(Rows::new(&ahead, regressors.columns()), out);
            }
            None => out.fill(f32::NAN),
        }
    }
}

#[derive(Debug)]
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

/// No span of hours is longer than an `i64`.
pub(crate) fn signed(hours: usize) -> i64 {
    i64::try_from(hours).unwrap_or(i64::MAX)
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
