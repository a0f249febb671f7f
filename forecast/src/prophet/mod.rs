//! Prophet: a piecewise linear trend, plus seasonalities, events and regressors (Taylor and Letham, *Forecasting at
//! scale*, The American Statistician 72, 2018).
//!
//! The model, its priors and its scaling are those of the paper's program with linear growth and additive terms; its most
//! probable parameters are found without a general optimiser. All terms but the noise are linear, so that the history is
//! needed only as one matrix of products, which takes an hour more in constant time.
//!
//! - Events and holidays are the caller's regressor columns: zero or one, or any number, which is then standardised.
//! - Nothing here follows the last hours: two histories with the same seasons and trend have the same forecast. That is
//!   the method's strength after an odd day, and its weakness in the hours that follow a change.

mod design;
mod posterior;

use crate::{DAY, FitError, Fitted, Harmonics, Model, Rows};
use design::Design;
use posterior::{Posterior, Priors};

/// Settings of a Prophet model; the default's are those of the paper's program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prophet {
    /// How many hours the trend may bend at, evenly over the known ones.
    pub changepoints: usize,
    /// The share of the history, from its start, in which it may.
    pub changepoint_range: f64,
    /// Scale of the (Laplace) prior of each bend: larger follows more.
    pub changepoint_scale: f64,
    /// The periodic terms.
    pub harmonics: Harmonics,
    /// Scale of the (normal) prior of periodic terms and regressors.
    pub seasonal_scale: f64,
    /// How much of the history's end is learnt from.
    pub window_hours: usize,
}

impl Prophet {
    /// The paper's, with harmonics of the day and the week.
    pub const DEFAULT: Self = Self {
        changepoints: 25,
        changepoint_range: 0.8,
        changepoint_scale: 0.05,
        harmonics: Harmonics { daily: 4, weekly: 3 },
        seasonal_scale: 10.0,
        window_hours: 5 * 7 * DAY,
    };
}

impl Default for Prophet {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Model for Prophet {
    fn name(&self) -> &'static str {
        "prophet"
    }

    fn fit(&self, start: i64, history: &[f32], regressors: Rows<'_>) -> Result<Box<dyn Fitted>, FitError> {
        let skipped = history.len().saturating_sub(self.window_hours);
        let known: Vec<usize> = (skipped..history.len()).filter(|&hour| history[hour].is_finite()).collect();
        let need = 2 * DAY;
        if known.len() < need {
            return Err(FitError::TooShort { have: known.len(), need });
        }
        let design = Design::new(self, start, &known, regressors);
        let largest = known.iter().map(|&hour| f64::from(history[hour]).abs()).fold(0.0, f64::max);
        let value_scale = if largest > 0.0 { largest } else { 1.0 };
        let mut posterior = Posterior::new(Priors {
            bends: design.bends(),
            bend_scale: self.changepoint_scale,
            seasonal_scale: self.seasonal_scale,
            size: design.columns(),
        });
        let mut row = vec![0.0; design.columns()];
        for &hour in &known {
            design.fill(start + hour as i64, regressors.row(hour), &mut row);
            posterior.add(&row, f64::from(history[hour]) / value_scale);
        }
        posterior.settle();
        Ok(Box::new(Fit { design, posterior, value_scale, next_hour: start + history.len() as i64, row }))
    }
}

/// A fitted model.
#[derive(Debug)]
struct Fit {
    design: Design,
    posterior: Posterior,
    value_scale: f64,
    /// The index (Unix hours) of the first unknown hour.
    next_hour: i64,
    row: Vec<f64>,
}

impl Fitted for Fit {
    fn update(&mut self, value: f32, regressors: &[f32]) {
        if value.is_finite() {
            self.design.fill(self.next_hour, regressors, &mut self.row);
            self.posterior.add(&self.row, f64::from(value) / self.value_scale);
        }
        self.next_hour += 1;
        // One hour among hundreds changes little: parameters follow once a day.
        if self.next_hour.rem_euclid(DAY as i64) == 0 {
            self.posterior.settle();
        }
    }

    fn path(&self, regressors: Rows<'_>, out: &mut [f32]) {
        let mut row = self.row.clone();
        for (index, (hour, slot)) in (self.next_hour..).zip(out).enumerate() {
            self.design.fill(hour, regressors.row(index), &mut row);
            *slot = crate::narrow(self.posterior.value(&row) * self.value_scale);
        }
    }
}
