//! What this hour of the day was on earlier days: a weighted median.
//!
//! It knows nothing of this morning, and nothing that one odd day does moves it far.

use crate::measures::weighted_median;
use crate::model::{FitError, Fitted, Model, Rows};
use crate::series::DAY;

/// The median of the same hour over some days.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Climatology {
    name: &'static str,
    days: usize,
    /// Days after which a day weighs half as much.
    half_life: f32,
    /// What the same day of the week weighs, of other days' one.
    same_weekday: f32,
}

impl Climatology {
    /// Four weeks, of which the last one and the same weekday count most.
    pub const FADING: Self = Self { name: "climatology", days: 28, half_life: 7.0, same_weekday: 3.0 };
    /// The plain median of the last seven days.
    pub const LAST_WEEK: Self =
        Self { name: "week-median", days: 7, half_life: f32::INFINITY, same_weekday: 1.0 };
}

impl Model for Climatology {
    fn name(&self) -> &'static str {
        self.name
    }

    fn fit(&self, _start: i64, history: &[f32], _: Rows<'_>) -> Result<Box<dyn Fitted>, FitError> {
        let hours = self.days * DAY;
        let known = history.iter().filter(|value| !value.is_nan()).count();
        if known < DAY {
            return Err(FitError::TooShort { have: known, need: DAY });
        }
        let mut recent = vec![f32::NAN; hours.saturating_sub(history.len())];
        recent.extend(&history[history.len().saturating_sub(hours)..]);
        let weights = (1..=self.days).map(|day| self.weight(day)).collect();
        Ok(Box::new(Days { weights, recent }))
    }
}

impl Climatology {
    /// What the day so many days back weighs.
    pub(crate) fn weight(&self, day: usize) -> f32 {
        let fading = 0.5_f32.powf(day as f32 / self.half_life);
        if day.is_multiple_of(7) { fading * self.same_weekday } else { fading }
    }
}

#[derive(Debug)]
struct Days {
    /// Of the day before, then of earlier ones.
    weights: Vec<f32>,
    /// Whole days.
    recent: Vec<f32>,
}

impl Fitted for Days {
    fn update(&mut self, value: f32, _: &[f32]) {
        self.recent.rotate_left(1);
        if let Some(last) = self.recent.last_mut() {
            *last = value;
        }
    }

    fn path(&self, _: Rows<'_>, out: &mut [f32]) {
        let mut of_hour = Vec::with_capacity(self.weights.len());
        let mut before = 0.0;
        for (hour, out) in out.iter_mut().enumerate() {
            of_hour.clear();
            // The first day back from this hour that is known.
            for day in hour / DAY + 1..=self.weights.len() {
                let value = self.recent[self.recent.len() + hour - day * DAY];
                if !value.is_nan() {
                    of_hour.push((value, self.weights[day - 1]));
                }
            }
            before = weighted_median(&mut of_hour).unwrap_or(before);
            *out = before;
        }
    }
}
