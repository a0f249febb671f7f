//! A fitted ARIMA, as far back as its forecasts reach.

use super::Arima;
use super::least_squares::{Problem, Solution};
use super::polynomial::{Lag, Lags};
use crate::{Fitted, Rows};

/// Coefficients, and the last hours' disturbances and errors.
#[derive(Debug)]
pub(super) struct Fit {
    settings: Arima,
    lags: Lags,
    regression: Vec<f64>,
    /// The index (Unix hours) of the first unknown hour.
    next_hour: i64,
    values: Recent,
    errors: Recent,
    /// The smallest and the largest value seen.
    low: f64,
    high: f64,
    row: Vec<f64>,
}

impl Fit {
    pub(super) fn new(settings: Arima, next_hour: i64, problem: &Problem<'_>, solution: &Solution) -> Self {
        let (values, errors) = problem.disturbance(solution);
        let lags = settings.lags(&solution.terms);
        let reach = lags.reach();
        let (low, high) = problem.range();
        let regression = solution.regression.clone();
        let row = vec![0.0; regression.len()];
        let (values, errors) = (Recent::new(&values, reach), Recent::new(&errors, reach));
        Self { settings, lags, regression, next_hour, values, errors, low, high, row }
    }

    fn regression_at(&self, hour: i64, regressors: &[f32], row: &mut [f64]) -> f64 {
        self.settings.fill(hour, regressors, row);
        self.regression.iter().zip(row.iter()).map(|(weight, x)| weight * x).sum()
    }
}

impl Fitted for Fit {
    fn update(&mut self, value: f32, regressors: &[f32]) {
        let mut row = std::mem::take(&mut self.row);
        let regression = self.regression_at(self.next_hour, regressors, &mut row);
        self.row = row;
        let forecast = self.values.weighted(&self.lags.ar) - self.errors.weighted(&self.lags.ma);
        let disturbance = if value.is_finite() { f64::from(value) - regression } else { forecast };
        if value.is_finite() {
            self.low = self.low.min(f64::from(value));
            self.high = self.high.max(f64::from(value));
        }
        self.errors.push(disturbance - forecast);
        self.values.push(disturbance);
        self.next_hour += 1;
    }

    fn path(&self, regressors: Rows<'_>, out: &mut [f32]) {
        let (mut values, mut errors) = (self.values.clone(), self.errors.clone());
        let mut row = self.row.clone();
        let slack = 0.5 * (self.high - self.low);
        for (index, (hour, slot)) in (self.next_hour..).zip(out).enumerate() {
            let forecast = values.weighted(&self.lags.ar) - errors.weighted(&self.lags.ma);
            values.push(forecast);
            errors.push(0.0);
            let value = forecast + self.regression_at(hour, regressors.row(index), &mut row);
            *slot = crate::narrow(value.clamp(self.low - slack, self.high + slack));
        }
    }
}

/// The last values of a sequence, in a ring.
#[derive(Clone, Debug)]
struct Recent {
    values: Vec<f64>,
    next: usize,
}

impl Recent {
    fn new(sequence: &[f64], length: usize) -> Self {
        let length = length.max(1);
        let mut values = vec![0.0; length.saturating_sub(sequence.len())];
        values.extend(&sequence[sequence.len().saturating_sub(length)..]);
        Self { values, next: 0 }
    }

    fn push(&mut self, value: f64) {
        self.values[self.next] = value;
        self.next = (self.next + 1) % self.values.len();
    }

    fn weighted(&self, lags: &[Lag]) -> f64 {
        let length = self.values.len();
        lags.iter().map(|lag| lag.weight * self.values[(self.next + length - lag.hours) % length]).sum()
    }
}
