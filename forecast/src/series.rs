//! One entity's hours: log1p of a load, NaN where nothing is known.
//!
//! Invariant: a value is NaN, or finite and not negative.

/// Hours of a day.
pub const DAY: usize = 24;
/// Hours of a week.
pub const WEEK: usize = 7 * DAY;
/// Hours that one series may span: 20 years. A single wrong time stamp must not take the memory of all series.
pub const SPAN_MAX: usize = 20 * 366 * DAY;

/// An hourly history.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    start: i64,
    values: Vec<f32>,
}

/// An hour that is too far from the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("hour {hour} is more than {SPAN_MAX} hours from the series' other hours")]
pub struct TooFar {
    /// Unix hours.
    pub hour: i64,
}

impl Series {
    /// An empty history that begins at `start`, in Unix hours.
    #[must_use]
    pub const fn new(start: i64) -> Self {
        Self { start, values: Vec::new() }
    }

    /// Hours from `start` on, each log1p of a load, or NaN.
    pub(crate) fn from_logs(start: i64, mut values: Vec<f32>) -> Self {
        values.truncate(SPAN_MAX);
        Self { start, values }
    }

    /// Puts a load of an hour in; hours between that were not known stay gaps. A load that is negative or not finite is a gap.
    ///
    /// # Errors
    /// When the hour is more than [`SPAN_MAX`] away from the other end.
    pub fn set(&mut self, hour: i64, load: f64) -> Result<(), TooFar> {
        if self.values.is_empty() {
            self.start = hour;
        }
        let begin = self.start.min(hour);
        let end = self.end().max(hour.saturating_add(1));
        if usize::try_from(end.saturating_sub(begin)).map_or(true, |span| span > SPAN_MAX) {
            return Err(TooFar { hour });
        }
        if hour < self.start {
            let more = offset(hour, self.start);
            self.values.splice(0..0, std::iter::repeat_n(f32::NAN, more));
            self.start = hour;
        }
        self.pad_to(end);
        self.values[offset(self.start, hour)] = to_log(load);
        Ok(())
    }

    /// The first hour.
    #[must_use]
    pub const fn start(&self) -> i64 {
        self.start
    }

    /// The hour after the last one.
    #[must_use]
    pub fn end(&self) -> i64 {
        // At most SPAN_MAX, which any number of hours holds.
        self.start.saturating_add(self.values.len() as i64)
    }

    /// log1p of the load; NaN outside of what is known.
    #[must_use]
    pub fn at(&self, hour: i64) -> f32 {
        usize::try_from(hour - self.start).ok().and_then(|i| self.values.get(i)).copied().unwrap_or(f32::NAN)
    }

    /// The load of an hour; none where it is not known.
    #[must_use]
    pub fn load(&self, hour: i64) -> Option<f64> {
        Some(self.at(hour)).filter(|value| !value.is_nan()).map(to_load)
    }

    /// The hours before `end` that the series has.
    #[must_use]
    pub fn before(&self, end: i64) -> &[f32] {
        &self.values[..offset(self.start, end).min(self.values.len())]
    }

    /// Gaps are put at the end until the series ends at `end`: hours of which nothing was heard.
    pub fn pad_to(&mut self, end: i64) {
        let len = offset(self.start, end).min(SPAN_MAX);
        if len > self.values.len() {
            self.values.resize(len, f32::NAN);
        }
    }

    /// Forgets what lies at `end` and later.
    pub fn cut(&mut self, end: i64) {
        self.values.truncate(offset(self.start, end));
    }
}

/// Hours from `from` to `to`, none if it is the other way around.
pub(crate) fn offset(from: i64, to: i64) -> usize {
    usize::try_from(to.saturating_sub(from)).unwrap_or(0)
}

/// A load above it is taken for it: no hour has more, and sums over all entities stay finite.
pub const LOAD_MAX: f64 = 1e18;

/// The scale inside: log1p, so that an error means a share of the load, and no load is zero.
#[must_use]
pub fn to_log(load: f64) -> f32 {
    if load.is_finite() && load >= 0.0 { crate::narrow(load.min(LOAD_MAX).ln_1p()) } else { f32::NAN }
}

/// Back from [`to_log`]; within zero and [`LOAD_MAX`].
#[must_use]
pub fn to_load(value: f32) -> f64 {
    f64::from(value).exp_m1().clamp(0.0, LOAD_MAX)
}

/// A history without gaps, for methods that need lags: the day before stands in, else the hour before, else zero.
pub(crate) fn filled(history: &[f32]) -> Vec<f32> {
    let mut values: Vec<f32> = Vec::with_capacity(history.len());
    for (i, &value) in history.iter().enumerate() {
        values.push(if value.is_nan() { stand_in(&values[..i]) } else { value });
    }
    values
}

/// What is assumed of an hour that is a gap, from the hours before it.
pub(crate) fn stand_in(before: &[f32]) -> f32 {
    let day_ago = before.len().checked_sub(DAY).map(|i| before[i]);
    day_ago.or(before.last().copied()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_may_come_in_any_order_and_what_lies_between_is_a_gap() {
        let mut series = Series::new(0);
        for (hour, load) in [(100, 1.0), (97, 2.0), (103, 3.0), (101, -1.0), (99, f64::NAN)] {
            series.set(hour, load).unwrap();
        }
        assert_eq!((series.start(), series.end()), (97, 104));
        for hour in 90..110 {
            let known = [(100, 1.0), (97, 2.0), (103, 3.0)].iter().find(|k| k.0 == hour).map(|k| to_log(k.1));
            assert_eq!(known.is_none(), series.at(hour).is_nan(), "hour {hour}");
            assert!(known.is_none_or(|k| series.at(hour).to_bits() == k.to_bits()));
        }
    }

    #[test]
    fn a_wrong_time_stamp_is_refused_and_changes_nothing() {
        let mut series = Series::new(0);
        series.set(400_000, 1.0).unwrap();
        for hour in [i64::MAX, i64::MIN, 400_000 + SPAN_MAX as i64 + 1, 0] {
            assert_eq!(series.set(hour, 1.0), Err(TooFar { hour }));
        }
        assert_eq!((series.start(), series.end()), (400_000, 400_001));
    }

    #[test]
    fn a_gap_is_filled_by_the_day_before_else_the_hour_before() {
        let mut history: Vec<f32> = (0_u8..48).map(f32::from).collect();
        history[0] = f32::NAN;
        history[5] = f32::NAN;
        history[29] = f32::NAN;
        history[40] = f32::NAN;
        let values = filled(&history);
        assert_eq!((values[0], values[5], values[29], values[40]), (0.0, 4.0, 4.0, 16.0));
    }
}
