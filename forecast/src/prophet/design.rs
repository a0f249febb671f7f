//! An hour as a row of numbers, in which the model is linear.
//!
//! In order: slope and level of the trend, its bends, harmonics, regressors.

use super::Prophet;
use crate::{Harmonics, Rows};

/// Columns before the bends: slope, level.
const LINE: usize = 2;

/// How rows are made.
#[derive(Debug)]
pub(super) struct Design {
    first_hour: i64,
    /// Hours from the first known one to the last: the trend's unit of time.
    span: f64,
    /// Where the trend may bend, in units of `span` since the first hour.
    changepoints: Vec<f64>,
    harmonics: Harmonics,
    standards: Vec<Standard>,
}

/// What a regressor's values are lessened by and divided by.
#[derive(Clone, Copy, Debug)]
struct Standard {
    mean: f64,
    deviation: f64,
}

impl Design {
    /// `known`: indices of the known hours (at least two) in a history whose first hour is `start`.
    pub(super) fn new(settings: &Prophet, start: i64, known: &[usize], regressors: Rows<'_>) -> Self {
        let (first, last) = (known[0], known[known.len() - 1]);
        let span = (last - first) as f64;
        let bendable = share(known.len(), settings.changepoint_range).max(1);
        let count = settings.changepoints.min(bendable - 1);
        let at = |bend: usize| {
            let index = share(bendable - 1, bend as f64 / count as f64);
            (known[index] - first) as f64 / span
        };
        let changepoints = (1..=count).map(at).collect();
        let column = |at| known.iter().map(|&hour| number(regressors.row(hour)[at])).collect::<Vec<f64>>();
        let standard = |at| Standard::new(&column(at));
        let standards = (0..regressors.columns()).map(standard).collect();
        Self {
            first_hour: start + first as i64,
            span,
            changepoints,
            harmonics: settings.harmonics,
            standards,
        }
    }

    pub(super) fn columns(&self) -> usize {
        LINE + self.changepoints.len() + self.harmonics.columns() + self.standards.len()
    }

    /// Which columns are bends.
    pub(super) fn bends(&self) -> std::ops::Range<usize> {
        LINE..LINE + self.changepoints.len()
    }

    pub(super) fn fill(&self, hour: i64, regressors: &[f32], row: &mut [f64]) {
        let time = (hour - self.first_hour) as f64 / self.span;
        let (line, rest) = row.split_at_mut(LINE);
        let (bends, rest) = rest.split_at_mut(self.changepoints.len());
        let (periodic, given) = rest.split_at_mut(self.harmonics.columns());
        line.copy_from_slice(&[time, 1.0]);
        for (slot, changepoint) in bends.iter_mut().zip(&self.changepoints) {
            *slot = (time - changepoint).max(0.0);
        }
        self.harmonics.fill(hour, periodic);
        for ((slot, value), standard) in given.iter_mut().zip(regressors).zip(&self.standards) {
            *slot = (number(*value) - standard.mean) / standard.deviation;
        }
    }
}

impl Standard {
    /// Columns of zeroes and ones are left as they are: an event's weight is then its effect.
    fn new(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        let binary = values.iter().all(|&value| value == 0.0 || value == 1.0);
        if binary || variance <= 0.0 {
            return Self { mean: 0.0, deviation: 1.0 };
        }
        Self { mean, deviation: variance.sqrt() }
    }
}

fn number(value: f32) -> f64 {
    if value.is_finite() { f64::from(value) } else { 0.0 }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share, 0 to 1, of a small count"
)]
fn share(count: usize, share: f64) -> usize {
    (count as f64 * share).round() as usize
}
