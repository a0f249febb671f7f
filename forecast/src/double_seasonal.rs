//! Double-seasonal exponential smoothing: a level, a day and a week, each moved by every error, and an error that fades
//! (Taylor, "Short-term electricity demand forecasting using double seasonal exponential smoothing", JORS 2003; additive,
//! on the log scale).
//!
//! An hour's update is a few additions; nothing of the history is kept.

use crate::model::{FitError, Fitted, Model, Rows};
use crate::series::{DAY, WEEK};

/// The method. How fast each part moves is chosen from a few sets by its one-step errors.
#[derive(Clone, Copy, Debug)]
pub struct DoubleSeasonal;

/// Level, day, week, and how much of an error is left an hour later: calm, usual, quick.
const RATES: [Rates; 4] = [
    Rates { level: 0.005, day: 0.05, week: 0.05, fade: 0.3 },
    Rates { level: 0.01, day: 0.1, week: 0.1, fade: 0.7 },
    Rates { level: 0.05, day: 0.1, week: 0.1, fade: 0.5 },
    Rates { level: 0.05, day: 0.25, week: 0.15, fade: 0.8 },
];
/// A day to begin with, and one to choose the rates by.
const HOURS_MIN: usize = 2 * DAY;

#[derive(Clone, Copy, Debug)]
struct Rates {
    level: f32,
    day: f32,
    week: f32,
    fade: f32,
}

#[derive(Clone, Debug)]
struct Smoothed {
    rates: Rates,
    level: f32,
    day: [f32; DAY],
    week: [f32; WEEK],
    /// Of the last known hour, after fading.
    error: f32,
    /// The hour that comes next.
    next: i64,
}

impl Model for DoubleSeasonal {
    fn name(&self) -> &'static str {
        "double-seasonal"
    }

    fn fit(&self, start: i64, history: &[f32], _: Rows<'_>) -> Result<Box<dyn Fitted>, FitError> {
        let known = history.iter().filter(|value| !value.is_nan()).count();
        if known < HOURS_MIN {
            return Err(FitError::TooShort { have: known, need: HOURS_MIN });
        }
        let mut best: Option<(f32, Smoothed)> = None;
        for rates in RATES {
            let mut candidate = Smoothed::begin(rates, start, history);
            let errors: f32 = history.iter().map(|&value| candidate.take(value).abs()).sum();
            if best.as_ref().is_none_or(|(least, _)| errors < *least) {
                best = Some((errors, candidate));
            }
        }
        let (_, smoothed) = best.ok_or(FitError::TooShort { have: known, need: HOURS_MIN })?;
        Ok(Box::new(smoothed))
    }
}

impl Smoothed {
    fn begin(rates: Rates, start: i64, history: &[f32]) -> Self {
        let first_week = &history[..history.len().min(WEEK)];
        let level = mean(first_week.iter().copied()).unwrap_or(0.0);
        let mut day = [0.0; DAY];
        for (hour, day) in day.iter_mut().enumerate() {
            let skipped = position(hour as i64 - start, DAY);
            *day =
                mean(first_week.iter().skip(skipped).step_by(DAY).copied()).map_or(0.0, |mean| mean - level);
        }
        Self { rates, level, day, week: [0.0; WEEK], error: 0.0, next: start }
    }

    fn base(&self, hour: i64) -> f32 {
        self.level + self.day[position(hour, DAY)] + self.week[position(hour, WEEK)]
    }

    /// Moves by one hour; the error that it made.
    fn take(&mut self, value: f32) -> f32 {
        let hour = self.next;
        self.next += 1;
        if value.is_nan() {
            self.error *= self.rates.fade;
            return 0.0;
        }
        let base = self.base(hour);
        let error = value - base - self.error;
        self.level += self.rates.level * error;
        self.day[position(hour, DAY)] += self.rates.day * error;
        self.week[position(hour, WEEK)] += self.rates.week * error;
        self.error = (value - base) * self.rates.fade;
        error
    }
}

impl Fitted for Smoothed {
    fn update(&mut self, value: f32, _: &[f32]) {
        self.take(value);
    }

    fn path(&self, _: Rows<'_>, out: &mut [f32]) {
        let mut error = self.error;
        for (hour, out) in (self.next..).zip(out) {
            *out = (self.base(hour) + error).max(0.0);
            error *= self.rates.fade;
        }
    }
}

/// Of the known values.
fn mean(values: impl Iterator<Item = f32>) -> Option<f32> {
    let (sum, count) = values.filter(|v| !v.is_nan()).fold((0.0, 0.0_f32), |(s, c), v| (s + v, c + 1.0));
    (count > 0.0).then(|| sum / count)
}

/// Where in its season an hour is.
fn position(hour: i64, season: usize) -> usize {
    usize::try_from(hour.rem_euclid(season as i64)).unwrap_or(0)
}
