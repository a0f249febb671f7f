//! Any method, shown a series without the effect of its events.

use crate::series::{LOAD_MAX, to_log};
use crate::{FitError, Fitted, Model, Rows};

/// A method that forecasts with events: its regressor is the effect of [`super::EffectsOf`], or there is none.
///
/// The method itself is given no regressor. The effect of an event is out of every value that it sees, at whatever lag; what
/// is left of a single event is its chance, and a weight learnt from that is a guess: Prophet's, on an effect near zero,
/// was off by orders of magnitude.
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
        let values = history.iter().enumerate();
        let without: Vec<f32> =
            values.map(|(hour, &value)| without(value, regressors.row(hour)[0])).collect();
        Ok(Box::new(With { inner: self.0.fit(start, &without, Rows::NONE)? }))
    }
}

#[derive(Debug)]
struct With {
    inner: Box<dyn Fitted>,
}

impl Fitted for With {
    fn update(&mut self, value: f32, regressors: &[f32]) {
        self.inner.update(without(value, regressors[0]), &[]);
    }

    fn path(&self, regressors: Rows<'_>, out: &mut [f32]) {
        self.inner.path(Rows::NONE, out);
        for (hour, value) in out.iter_mut().enumerate() {
            *value = (*value + regressors.row(hour)[0]).clamp(0.0, to_log(LOAD_MAX));
        }
    }
}

/// A gap stays one.
fn without(value: f32, effect: f32) -> f32 {
    if value.is_nan() { value } else { (value - effect).max(0.0) }
}
