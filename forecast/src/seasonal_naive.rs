//! The same hour one season ago: what every other method has to beat.

use crate::model::{FitError, Fitted, Model, Rows};
use crate::series::{DAY, stand_in};

/// Repeats the last season.
#[derive(Clone, Copy, Debug)]
pub struct SeasonalNaive {
    period: usize,
}

impl SeasonalNaive {
    /// The last day again.
    pub const DAILY: Self = Self { period: DAY };
}

impl Model for SeasonalNaive {
    fn name(&self) -> &'static str {
        "seasonal-naive"
    }

    fn fit(&self, _start: i64, history: &[f32], _: Rows<'_>) -> Result<Box<dyn Fitted>, FitError> {
        if history.len() < self.period {
            return Err(FitError::TooShort { have: history.len(), need: self.period });
        }
        // A season of gaps is told by the one before: two are enough, as nothing older is ever repeated.
        let recent = crate::series::filled(&history[history.len().saturating_sub(2 * self.period)..]);
        Ok(Box::new(Season { season: recent[recent.len() - self.period..].to_vec() }))
    }
}

#[derive(Debug)]
struct Season {
    season: Vec<f32>,
}

impl Fitted for Season {
    fn update(&mut self, value: f32, _: &[f32]) {
        let value = if value.is_nan() { stand_in(&self.season) } else { value };
        self.season.rotate_left(1);
        if let Some(last) = self.season.last_mut() {
            *last = value;
        }
    }

    fn path(&self, _: Rows<'_>, out: &mut [f32]) {
        for (value, &season) in out.iter_mut().zip(self.season.iter().cycle()) {
            *value = season;
        }
    }
}
