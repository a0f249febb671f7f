//! Seasonal ARIMA with regressors: a regression whose errors are autocorrelated from hour to hour and from day to day.
//!
//! `y(t) = x(t)·b + u(t)`, where `u` is a multiplicative seasonal ARIMA of period 24 (Box and Jenkins, *Time Series
//! Analysis*, 1970, chapter 9) and `x` holds a constant, harmonics of the day and the week, and the caller's regressors.
//!
//! - Coefficients and regression are fitted together by least squares on the one-step errors (the conditional sum of
//!   squares), with large errors bounded in weight (Huber 1964), since loads come in bursts.
//! - Polynomials are written by partial autocorrelations in (-1, 1), so that every candidate is stationary and invertible
//!   (Monahan 1984): no forecast grows without bound unless the orders say that it is integrated.
//! - A gap takes its own forecast, with no error; a gap at the start takes the regression's value.

mod errors;
mod least_squares;
mod polynomial;
mod state;

use crate::{DAY, FitError, Fitted, Harmonics, Model, Rows};
use least_squares::Problem;
use polynomial::Lags;
use state::Fit;

/// Orders and columns of a seasonal ARIMA, and what it learns from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arima {
    /// From hour to hour.
    pub hourly: Order,
    /// From day to day.
    pub daily: Order,
    /// The periodic columns of the regression.
    pub harmonics: Harmonics,
    /// Errors beyond this many (robust) standard deviations count by their size, not by its square.
    pub huber: f64,
    /// How much of the history's end is learnt from.
    pub window_hours: usize,
}

/// How many terms of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Autoregressive terms.
    pub ar: usize,
    /// Differences.
    pub differences: usize,
    /// Moving-average terms.
    pub ma: usize,
}

impl Arima {
    /// What did best over many hourly loads.
    pub const DEFAULT: Self = Self {
        hourly: Order { ar: 1, differences: 0, ma: 1 },
        daily: Order { ar: 1, differences: 0, ma: 1 },
        harmonics: Harmonics { daily: 0, weekly: 0 },
        huber: 1.5,
        window_hours: 5 * 7 * DAY,
    };
}

impl Default for Arima {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Model for Arima {
    fn name(&self) -> &'static str {
        "arima"
    }

    fn fit(&self, start: i64, history: &[f32], regressors: Rows<'_>) -> Result<Box<dyn Fitted>, FitError> {
        let skipped = history.len().saturating_sub(self.window_hours);
        let window = &history[skipped..];
        let have = window.iter().filter(|value| value.is_finite()).count();
        let need = self.known_hours_min(regressors.columns());
        if have < need {
            return Err(FitError::TooShort { have, need });
        }
        let start = start + skipped as i64;
        let problem = Problem::new(self, window, self.columns(regressors.columns()), |index, row| {
            self.fill(start + index as i64, regressors.row(skipped + index), row);
        });
        let solution = problem.solve();
        Ok(Box::new(Fit::new(*self, start + window.len() as i64, &problem, &solution)))
    }
}

impl Arima {
    /// A day to start from, and two known hours for each number that is learnt.
    fn known_hours_min(&self, regressors: usize) -> usize {
        let terms = self.hourly.ar + self.hourly.ma + self.daily.ar + self.daily.ma;
        self.burn_in_hours() + DAY + 2 * (terms + self.columns(regressors))
    }

    /// The hours whose difference reaches before the history.
    fn burn_in_hours(&self) -> usize {
        self.hourly.differences + DAY * self.daily.differences
    }

    fn is_integrated(&self) -> bool {
        self.burn_in_hours() > 0
    }

    /// A constant (when no difference would remove it), the harmonics, the caller's regressors.
    fn columns(&self, regressors: usize) -> usize {
        usize::from(!self.is_integrated()) + self.harmonics.columns() + regressors
    }

    fn fill(&self, hour: i64, regressors: &[f32], row: &mut [f64]) {
        let (own, given) = row.split_at_mut(row.len() - regressors.len());
        let (constant, harmonics) = own.split_at_mut(own.len() - self.harmonics.columns());
        constant.fill(1.0);
        self.harmonics.fill(hour, harmonics);
        for (slot, &value) in given.iter_mut().zip(regressors) {
            *slot = if value.is_finite() { f64::from(value) } else { 0.0 };
        }
    }

    fn terms(&self) -> usize {
        self.hourly.ar + self.daily.ar + self.hourly.ma + self.daily.ma
    }

    /// The polynomials of these coefficients: one unbounded number a term, in the order of [`Arima::terms`].
    fn lags(&self, terms: &[f64]) -> Lags {
        let (hourly_ar, rest) = terms.split_at(self.hourly.ar);
        let (daily_ar, rest) = rest.split_at(self.daily.ar);
        let (hourly_ma, daily_ma) = rest.split_at(self.hourly.ma);
        Lags {
            ar: polynomial::product(&[
                (1, polynomial::stationary(hourly_ar)),
                (DAY, polynomial::stationary(daily_ar)),
                (1, polynomial::differences(self.hourly.differences)),
                (DAY, polynomial::differences(self.daily.differences)),
            ]),
            ma: polynomial::product(&[
                (1, polynomial::stationary(hourly_ma)),
                (DAY, polynomial::stationary(daily_ma)),
            ]),
        }
    }
}
