//! Any method, shown a series without the effect of its events.

use super::effects::COLUMNS;
use crate::series::{LOAD_MAX, to_log};
use crate::{FitError, Fitted, Model, Rows};

/// A method that forecasts with events: its regressors are those of [`super::EffectsOf`], or none.
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
        assert_eq!(regressors.columns(), COLUMNS, "the effect, a day late, a week late");
        let values = history.iter().enumerate();
        let without: Vec<f32> =
            values.map(|(hour, &value)| without(value, regressors.row(hour)[0])).collect();
        Ok(Box::new(With { inner: self.0.fit(start, &without, regressors)? }))
    }
}

#[derive(Debug)]
struct With {
    inner: Box<dyn Fitted>,
}

impl Fitted for With {
    fn update(&mut self, value: f32, regressors: &[f32]) {
        self.inner.update(without(value, regressors[0]), regressors);
    }

    fn path(&self, regressors: Rows<'_>, out: &mut [f32]) {
        self.inner.path(regressors, out);
        for (hour, value) in out.iter_mut().enumerate() {
            *value = (*value + regressors.row(hour)[0]).clamp(0.0, to_log(LOAD_MAX));
        }
    }
}

/// A gap stays one.
fn without(value: f32, effect: f32) -> f32 {
    if value.is_nan() { value } else { (value - effect).max(0.0) }
}
