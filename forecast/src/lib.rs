//! Hourly load series in, distributions out. Pure: no I/O, no clock, seeds are arguments.

pub mod arima;
mod calendar;
mod linear;
pub mod lstm;
mod model;
pub mod prophet;

pub use model::{FitError, Fitted, Model, Rows};

/// To the precision that series are kept in.
#[expect(clippy::cast_possible_truncation, reason = "rounding to the kept precision is what is asked for")]
fn narrow(value: f64) -> f32 {
    value as f32
}
