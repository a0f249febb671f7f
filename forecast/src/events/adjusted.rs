//! Any method, shown a series without the effect of its events.

use crate::series::{DAY, LOAD_MAX, to_log};
use crate::{FitError, Fitted, Model, Rows};

/// Hours of an event that a method may be spared: a longer event is how things are by then, and all gaps would be no history.
const SPARED_MAX: usize = 2 * DAY;

/// A method that forecasts with events: its regressor is the effect of [`super::EffectsOf`], or there is none.
///
/// The method itself is given no regressor. The effect of an event is out of every value that it sees, at whatever lag; what
/// is left of a single event is its chance, and a weight learnt from that is a guess: Prophet's, on an effect near zero,
/// was off by orders of magnitude.
///
/// What an event did differs from what it was expected to do, and that difference stays in the hours. A method that follows
/// the last day closely takes it for news of the next one; such a method says so ([`Model::is_led_by_yesterday`]) and has
/// gaps there.
#[derive(Clone, Copy, Debug)]
pub struct Adjusted<'a>(pub &'a dyn Model);

impl Model for Adjusted<'_> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn fit(&self, start: i64, history: &[f32], regressors: Rows<'_>) -> Result<Box<dyn Fitted>, FitError> {
        if regressors.columns() == 0 {
            return self.0.fit(start, history, regressors);
        }
        assert_eq!(regressors.columns(), 1, "the effect");
        let mut seen = Seen { spares: self.0.is_led_by_yesterday(), spared: 0 };
        let values = history.iter().enumerate();
        let without: Vec<f32> =
            values.map(|(hour, &value)| seen.without(value, regressors.row(hour)[0])).collect();
        Ok(Box::new(With { inner: self.0.fit(start, &without, Rows::NONE)?, seen }))
    }
}

#[derive(Debug)]
struct With {
    inner: Box<dyn Fitted>,
    seen: Seen,
}

impl Fitted for With {
    fn update(&mut self, value: f32, regressors: &[f32]) {
        let value = self.seen.without(value, regressors[0]);
        self.inner.update(value, &[]);
    }

    fn path(&self, regressors: Rows<'_>, out: &mut [f32]) {
        self.inner.path(Rows::NONE, out);
        for (hour, value) in out.iter_mut().enumerate() {
            *value = (*value + regressors.row(hour)[0]).clamp(0.0, to_log(LOAD_MAX));
        }
    }
}

/// How a method sees hours with events, in their order.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Whether these are gaps at first.
    spares: bool,
    /// Hours since the last ordinary one.
    spared: usize,
}

impl Seen {
    /// A gap stays one.
    fn without(&mut self, value: f32, effect: f32) -> f32 {
        self.spared = if effect == 0.0 { 0 } else { self.spared + 1 };
        let is_spared = self.spares && (1..=SPARED_MAX).contains(&self.spared);
        if value.is_nan() || is_spared { f32::NAN } else { (value - effect).max(0.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::{SPARED_MAX, Seen};

    #[test]
    fn who_is_led_by_yesterday_has_gaps_where_a_short_event_was_and_hours_where_a_long_one_is() {
        let effects = [&[0.0][..], &[1.0; SPARED_MAX + 2], &[0.0, 1.0]].concat();
        let hours = |spares: bool| -> Vec<f32> {
            let mut seen = Seen { spares, spared: 0 };
            effects.iter().map(|&effect| seen.without(3.0, effect)).collect()
        };
        let (gaps, all) = (hours(true), hours(false));
        assert!(gaps[0] == 3.0 && gaps[1..=SPARED_MAX].iter().all(|value| value.is_nan()));
        assert_eq!(gaps[SPARED_MAX + 1..SPARED_MAX + 4], [2.0, 2.0, 3.0]);
        assert!(gaps[SPARED_MAX + 4].is_nan(), "the next event is spared again");
        assert!(all[1..SPARED_MAX + 3].iter().all(|&value| value == 2.0));
        assert!(Seen { spares: false, spared: 0 }.without(f32::NAN, 1.0).is_nan());
    }
}
