//! What this hour of the day was on earlier days: a weighted median.
//!
//! It knows nothing of this morning, and nothing that one odd day does moves it far.

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
        let known = history.iter().filter(|value| !value.is_nan()).count();
        if known < DAY {
            return Err(FitError::TooShort { have: known, need: DAY });
        }
        let weights = (1..=self.days).map(|day| self.weight(day)).collect();
        let mut days = Days { weights, hours: std::array::from_fn(|_| Vec::new()), next: 0 };
        let recent = &history[history.len().saturating_sub(self.days * DAY)..];
        recent.iter().for_each(|&value| days.take(value));
        Ok(Box::new(days))
    }
}

impl Climatology {
    /// What the day so many days back weighs: in whole numbers, whose sums are exact.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of UNIT, or a few of it"
    )]
    pub(crate) fn weight(&self, day: usize) -> u32 {
        /// Of a day without age: fine enough for a weight, and no sum of days overflows.
        const UNIT: f32 = 65_536.0;
        let fading = 0.5_f32.powf(day as f32 / self.half_life);
        let weight = if day.is_multiple_of(7) { fading * self.same_weekday } else { fading };
        (UNIT * weight).round() as u32
    }
}

/// The known values of each hour of the day, sorted, so that a median is one pass over them.
///
/// Hours are counted from the first one taken; which hour of which day that is does not matter.
#[derive(Debug)]
struct Days {
    /// Of the day before, then of earlier ones.
    weights: Vec<u32>,
    hours: [Vec<Known>; DAY],
    /// The first hour that was not taken.
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    value: f32,
    day: usize,
}

impl Days {
    fn take(&mut self, value: f32) {
        let (day, hour) = (self.next / DAY, self.next % DAY);
        self.next += 1;
        let known = &mut self.hours[hour];
        // What is too old when this hour comes again.
        known.retain(|known| day + 1 - known.day <= self.weights.len());
        if !value.is_nan() {
            let place = known.partition_point(|known| known.value <= value);
            known.insert(place, Known { value, day });
        }
    }

    /// None when no day has that hour.
    fn median(&self, hour: usize) -> Option<f32> {
        let known = &self.hours[hour % DAY];
        let weight = |known: &Known| self.weights.get(hour / DAY - known.day - 1).copied().unwrap_or(0);
        let half = known.iter().map(weight).sum::<u32>().div_ceil(2).max(1);
        let mut reached = 0;
        let middle = known.iter().find(|known| {
            reached += weight(known);
            reached >= half
        });
        middle.map(|known| known.value)
    }
}

impl Fitted for Days {
    fn update(&mut self, value: f32, _: &[f32]) {
        self.take(value);
    }

    fn path(&self, _: Rows<'_>, out: &mut [f32]) {
        let mut before = 0.0;
        for (hour, out) in (self.next..).zip(out) {
            before = self.median(hour).unwrap_or(before);
            *out = before;
        }
    }
}
