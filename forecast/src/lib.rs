//! Hourly load series in, distributions out. Pure: no I/O, no clock, seeds are arguments.
//!
//! A [`Series`] is a history. A [`Model`] learns one and draws the most likely course from there. What a model is worth is
//! found by walking it over the history it did not see ([`walk`]); [`auto`] weighs models by what they were worth. The
//! errors of a walk, added to its latest course, are [`scenarios`]: whole paths, from which quantiles and probabilities
//! are counted. [`hot`] is the question that a planner asks: will the peak of a window exceed a limit? [`measures`] say
//! how good the answers were.
//!
//! The models that cost milliseconds, and are for a few hundred entities: [`arima`], [`prophet`], [`lstm`].

pub mod arima;
pub mod auto;
mod autoregression;
mod calendar;
mod climatology;
mod double_seasonal;
pub mod events;
pub mod hot;
mod linear;
mod logistic;
pub mod lstm;
pub mod measures;
mod model;
#[cfg(feature = "augurs")]
mod mstl;
pub mod prophet;
pub mod recalibration;
pub mod scenarios;
mod seasonal_naive;
pub mod series;
pub mod store;
pub mod tracking;
pub mod walk;
pub mod young;

pub use autoregression::Autoregression;
pub use calendar::Harmonics;
pub use climatology::Climatology;
pub use double_seasonal::DoubleSeasonal;
pub use model::{FitError, Fitted, Model, Rows};
#[cfg(feature = "augurs")]
pub use mstl::Mstl;
pub use seasonal_naive::SeasonalNaive;
pub use series::{DAY, Series, WEEK};

/// To the precision that series are kept in.
#[expect(clippy::cast_possible_truncation, reason = "rounding to the kept precision is what is asked for")]
fn narrow(value: f64) -> f32 {
    value as f32
}
