//! MSTL with exponential smoothing: days are taken out by a seasonal-trend decomposition (Cleveland and others, "STL", Journal
//! of Official Statistics 1990; Bandara, Hyndman, Bergmeir, "MSTL", 2021), what is left is smoothed, and the last day's shape
//! is put back. The decomposition is that of the `augurs-mstl` crate.
//!
//! - The trend is simple exponential smoothing (Brown 1959; ETS(A,N,N)), whose rate does best one step ahead. `augurs-ets` is
//!   not used: see MODELS.md.
//! - That crate knows no gaps; here the day before stands in for one.
//! - It cannot take one more hour: an hour is kept, and each path is a decomposition.

use std::borrow::Cow;

use augurs_core::{Fit as _, Forecast, Predict as _};
use augurs_mstl::{FittedTrendModel, MSTLModel, TrendModel};

use crate::series::{DAY, WEEK, filled, stand_in};
use crate::{FitError, Fitted, Model, Rows};

/// Learnt from: older hours are of another time.
const WINDOW: usize = 5 * WEEK;
/// The decomposition needs two days; a third says which rate is best.
const HOURS_MIN: usize = 3 * DAY;
/// From a level that is all but kept to one that follows every hour.
const RATES: [f64; 5] = [0.02, 0.05, 0.15, 0.4, 0.8];
/// How far outside of what was seen a path may go, in parts of the range.
const SLACK: f32 = 0.5;

/// The method.
#[derive(Clone, Copy, Debug)]
pub struct Mstl;

impl Model for Mstl {
    fn name(&self) -> &'static str {
        "mstl"
    }

    fn fit(&self, _start: i64, history: &[f32], _: Rows<'_>) -> Result<Box<dyn Fitted>, FitError> {
        let window = &history[history.len().saturating_sub(WINDOW)..];
        let window: Vec<f32> =
            window.iter().map(|&value| if value.is_finite() { value } else { f32::NAN }).collect();
        let have = window.iter().filter(|value| !value.is_nan()).count();
        if have < HOURS_MIN {
            return Err(FitError::TooShort { have, need: HOURS_MIN });
        }
        let known = window.iter().copied().filter(|value| !value.is_nan());
        let (low, high) =
            known.fold((f32::MAX, f32::MIN), |(low, high), value| (low.min(value), high.max(value)));
        Ok(Box::new(Window { values: filled(&window), low, high }))
    }
}

/// The last hours without gaps, and between what they lie.
#[derive(Debug)]
struct Window {
    values: Vec<f32>,
    low: f32,
    high: f32,
}

impl Fitted for Window {
    fn update(&mut self, value: f32, _: &[f32]) {
        let value = if value.is_finite() {
            self.low = self.low.min(value);
            self.high = self.high.max(value);
            value
        } else {
            stand_in(&self.values)
        };
        if self.values.len() >= WINDOW {
            self.values.rotate_left(1);
            self.values.pop();
        }
        self.values.push(value);
    }

    fn path(&self, _: Rows<'_>, out: &mut [f32]) {
        let values: Vec<f64> = self.values.iter().copied().map(f64::from).collect();
        let forecast =
            MSTLModel::new(vec![DAY], Smoothing).fit(&values).and_then(|fit| fit.predict(out.len(), None));
        let slack = SLACK * (self.high / 2.0 - self.low / 2.0) * 2.0;
        let (low, high) = ((self.low - slack).max(f32::MIN), (self.high + slack).min(f32::MAX));
        let last_day = &self.values[self.values.len() - DAY..];
        for (hour, out) in out.iter_mut().enumerate() {
            let value = forecast.as_ref().ok().and_then(|forecast| forecast.point.get(hour));
            let value = value.map(|&value| crate::narrow(value)).filter(|value| value.is_finite());
            *out = value.unwrap_or(last_day[hour % DAY]).clamp(low, high);
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The trend: a level moved by a share of each error.
#[derive(Debug)]
struct Smoothing;

#[derive(Debug)]
struct Level {
    /// The level before each hour, then after the last.
    levels: Vec<f64>,
}

impl TrendModel for Smoothing {
    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed("exponential smoothing")
    }

    fn fit(&self, values: &[f64]) -> Result<Box<dyn FittedTrendModel + Sync + Send>, Failure> {
        let smoothed = RATES.map(|rate| levels(values, rate));
        let error = |levels: &Vec<f64>| {
            values.iter().zip(levels).map(|(value, level)| (value - level).abs()).sum::<f64>()
        };
        let best = smoothed.into_iter().min_by(|a, b| error(a).total_cmp(&error(b)));
        Ok(Box::new(Level { levels: best.ok_or("no rate")? }))
    }
}

/// Begins at the first day's mean.
fn levels(values: &[f64], rate: f64) -> Vec<f64> {
    let day = &values[..values.len().min(DAY)];
    let mut level = day.iter().sum::<f64>() / day.len().max(1) as f64;
    let mut levels = Vec::with_capacity(values.len() + 1);
    levels.push(level);
    for value in values {
        level += rate * (value - level);
        levels.push(level);
    }
    levels
}

impl FittedTrendModel for Level {
    fn predict_inplace(
        &self,
        horizon: usize,
        _: Option<f64>,
        forecast: &mut Forecast,
    ) -> Result<(), Failure> {
        let last = self.levels.last().ok_or("no level")?;
        forecast.point = vec![*last; horizon];
        Ok(())
    }

    fn predict_in_sample_inplace(&self, _: Option<f64>, forecast: &mut Forecast) -> Result<(), Failure> {
        forecast.point = self.levels[..self.levels.len() - 1].to_vec();
        Ok(())
    }

    fn training_data_size(&self) -> Option<usize> {
        Some(self.levels.len() - 1)
    }
}
