//! What every forecasting method implements, and the rows of regressors it is given.
//!
//! Values are on the log1p scale, one an hour; NaN is a gap. A method sees nothing but its arguments.

/// One way to forecast one series: a method and its settings.
pub trait Model: std::fmt::Debug + Send + Sync {
    /// The name by which a caller chooses it.
    fn name(&self) -> &'static str;

    /// Whether it takes what the last day was for what the next will be so readily that hours of an event are better not seen,
    /// than seen without the effect that was expected of it.
    fn is_led_by_yesterday(&self) -> bool {
        false
    }

    /// Learns from `history`, which ends just before the first unknown hour.
    ///
    /// `start` is the hour index (Unix hours) of its first value; `regressors` has one row per hour of the history,
    /// and may have no columns.
    fn fit(&self, start: i64, history: &[f32], regressors: Rows<'_>) -> Result<Box<dyn Fitted>, FitError>;
}

/// A method that has learnt a series.
pub trait Fitted: std::fmt::Debug + Send {
    /// Takes one more hour (NaN: a gap) without a refit; `regressors` is that hour's row.
    fn update(&mut self, value: f32, regressors: &[f32]);

    /// The most likely course (conditional median on the log1p scale) of the next `out.len()` hours.
    fn path(&self, regressors: Rows<'_>, out: &mut [f32]);
}

/// Regressors, a row an hour.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    values: &'a [f32],
    columns: usize,
}

impl<'a> Rows<'a> {
    /// No regressors, however many hours.
    pub const NONE: Rows<'static> = Rows { values: &[], columns: 0 };

    /// # Panics
    /// When `values` is not a whole number of rows.
    pub fn new(values: &'a [f32], columns: usize) -> Self {
        let whole = if columns == 0 { values.is_empty() } else { values.len().is_multiple_of(columns) };
        assert!(whole, "{} values are no whole number of rows of {columns}", values.len());
        Self { values, columns }
    }

    /// How many regressors an hour has.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The regressors of the hour at `index`.
    pub fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.columns..(index + 1) * self.columns]
    }
}

/// Why a series cannot be learnt by a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// The history has too few known hours.
    #[error("{have} known hours are too few to fit: {need} are needed")]
    TooShort {
        /// Known hours given.
        have: usize,
        /// Known hours needed.
        need: usize,
    },
}
