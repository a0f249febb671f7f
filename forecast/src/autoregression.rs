//! Sparse seasonal autoregression: an hour from the last hours, the same hours of the days before, and what surrounds
//! the same hour a day and a week ago, by ridge least squares (Hoerl and Kennard, "Ridge Regression", Technometrics 1970).
//!
//! The workhorse: one fit is a product of some fifteen columns and one small Cholesky factorisation; a path feeds its
//! own values back as lags.
//!
//! Invariant: a path lies between zero and a little above the highest value learnt, whatever the coefficients are.

use crate::linear::solve_in_place;
use crate::model::{FitError, Fitted, Model, Rows};
use crate::narrow;
use crate::series::{DAY, WEEK, filled, stand_in};

/// With two weeks of rows behind the longest lag.
const WEEKLY_LAGS: [usize; 13] = [1, 2, 3, 24, 25, 48, 72, 96, 120, 144, 167, 168, 169];
/// Of a shorter history.
const DAILY_LAGS: [usize; 5] = [1, 2, 3, 24, 25];
/// Rows that the longest lag must leave: below it the weekly lags learn one week by heart.
const WEEKLY_ROWS_MIN: usize = WEEK;
/// Likewise for the daily ones.
const DAILY_ROWS_MIN: usize = 2 * DAY;
/// Learnt from: older hours are of another time. Four weeks did better than two or six.
const WINDOW: usize = 4 * WEEK;
/// The penalty, in rows of average variance: little, as lags of one series are much alike.
const RIDGE_ROWS: f64 = 3.0;
/// Keeps an all but constant series solvable.
const VARIANCE_MIN: f64 = 1e-6;
/// How far above its highest value a path may go, on the log scale: a factor of e.
const HEADROOM: f32 = 1.0;

/// The method.
#[derive(Clone, Copy, Debug)]
pub struct Autoregression;

#[derive(Debug)]
struct Learnt {
    lags: &'static [usize],
    /// Of the lags, then of the regressors.
    coefficients: Vec<f32>,
    intercept: f32,
    ceiling: f32,
    /// The last hours without gaps, as many as the longest lag.
    recent: Vec<f32>,
}

impl Model for Autoregression {
    fn name(&self) -> &'static str {
        "autoregression"
    }

    fn fit(&self, _start: i64, history: &[f32], regressors: Rows<'_>) -> Result<Box<dyn Fitted>, FitError> {
        let known = history.iter().filter(|v| !v.is_nan()).count();
        let weekly = WEEKLY_LAGS[WEEKLY_LAGS.len() - 1] + WEEKLY_ROWS_MIN;
        let daily = DAILY_LAGS[DAILY_LAGS.len() - 1] + DAILY_ROWS_MIN;
        let lags: &'static [usize] = match known {
            known if known >= weekly => &WEEKLY_LAGS,
            known if known >= daily => &DAILY_LAGS,
            have => return Err(FitError::TooShort { have, need: daily }),
        };
        let longest = lags[lags.len() - 1];
        // The window, and the lags of its first rows.
        let skipped = history.len().saturating_sub(WINDOW + longest);
        let history = &history[skipped..];
        let values = filled(history);
        let system = System::new(lags, history, &values, regressors, skipped);
        let (coefficients, intercept) = system.solve();
        let ceiling = history.iter().copied().fold(0.0_f32, f32::max) + HEADROOM;
        let recent = values[values.len() - longest..].to_vec();
        Ok(Box::new(Learnt { lags, coefficients, intercept, ceiling, recent }))
    }
}

/// Centred columns of equal length: the target's is the last.
struct System {
    columns: Vec<Vec<f32>>,
    means: Vec<f64>,
    rows: f64,
}

impl System {
    fn new(lags: &[usize], history: &[f32], values: &[f32], regressors: Rows<'_>, skipped: usize) -> Self {
        let longest = lags[lags.len() - 1];
        let target = &history[longest..];
        let rows = target.iter().filter(|v| !v.is_nan()).count();
        let mut columns: Vec<Vec<f32>> =
            lags.iter().map(|&lag| values[longest - lag..values.len() - lag].to_vec()).collect();
        columns.extend((0..regressors.columns()).map(|column| {
            (longest..history.len()).map(|hour| regressors.row(skipped + hour)[column]).collect()
        }));
        columns.push(values[longest..].to_vec());
        let means = columns.iter_mut().map(|column| centre(column, target, rows as f64)).collect();
        Self { columns, means, rows: rows as f64 }
    }

    /// Coefficients, and the intercept.
    fn solve(&self) -> (Vec<f32>, f32) {
        let size = self.columns.len() - 1;
        let target = &self.columns[size];
        let mut matrix = vec![0.0; size * size];
        let mut right: Vec<f64> = self.columns[..size].iter().map(|column| dot(column, target)).collect();
        for row in 0..size {
            for column in 0..=row {
                matrix[row * size + column] = dot(&self.columns[row], &self.columns[column]);
            }
        }
        let variance = (0..size).map(|i| matrix[i * size + i]).sum::<f64>() / size as f64 / self.rows;
        for i in 0..size {
            matrix[i * size + i] += RIDGE_ROWS * variance.max(VARIANCE_MIN);
        }
        if !solve_in_place(&mut matrix, &mut right) {
            right.fill(0.0);
        }
        let intercept = self.means[size]
            - right.iter().zip(&self.means).map(|(coefficient, mean)| coefficient * mean).sum::<f64>();
        (right.into_iter().map(narrow).collect(), narrow(intercept))
    }
}

/// Subtracts the mean over the hours whose target is known, and makes the others zero, so that they weigh nothing.
fn centre(column: &mut [f32], target: &[f32], rows: f64) -> f64 {
    let known = column.iter().zip(target).filter(|(_, target)| !target.is_nan());
    let mean = known.map(|(&value, _)| f64::from(value)).sum::<f64>() / rows;
    for (value, target) in column.iter_mut().zip(target) {
        *value = if target.is_nan() { 0.0 } else { *value - narrow(mean) };
    }
    mean
}

/// Eight sums at a time, which is what makes the compiler use vector registers.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0_f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    f64::from(rest) + sums.iter().copied().map(f64::from).sum::<f64>()
}

impl Learnt {
    fn next(&self, path: &[f32], regressors: &[f32]) -> f32 {
        let len = self.recent.len();
        let (of_lags, of_regressors) = self.coefficients.split_at(self.lags.len());
        let mut value = self.intercept;
        for (&lag, coefficient) in self.lags.iter().zip(of_lags) {
            let past =
                if lag <= path.len() { path[path.len() - lag] } else { self.recent[len + path.len() - lag] };
            value += coefficient * past;
        }
        for (regressor, coefficient) in regressors.iter().zip(of_regressors) {
            value += coefficient * regressor;
        }
        value.clamp(0.0, self.ceiling)
    }
}

impl Fitted for Learnt {
    fn update(&mut self, value: f32, _: &[f32]) {
        let value = if value.is_nan() { stand_in(&self.recent) } else { value };
        self.recent.rotate_left(1);
        if let Some(last) = self.recent.last_mut() {
            *last = value;
        }
        self.ceiling = self.ceiling.max(value + HEADROOM);
    }

    fn path(&self, regressors: Rows<'_>, out: &mut [f32]) {
        for hour in 0..out.len() {
            let (path, rest) = out.split_at_mut(hour);
            rest[0] = self.next(path, regressors.row(hour));
        }
    }
}
