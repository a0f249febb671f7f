//! Fits polynomials and regression together: damped Gauss-Newton steps (Levenberg 1944, Marquardt 1963) on one-step errors.
//!
//! Given the polynomials, errors are linear in the regression, so that their derivatives are the columns' own one-step
//! errors; those by the few polynomial terms are taken as differences.

use super::Arima;
use super::errors::one_step;
use crate::linear;

/// A series and its columns, ready to be fitted.
#[derive(Debug)]
pub(super) struct Problem<'a> {
    settings: &'a Arima,
    known: Vec<bool>,
    values: Vec<f64>,
    columns: Vec<Vec<f64>>,
}

/// What is learnt.
#[derive(Clone, Debug)]
pub(super) struct Solution {
    /// One unbounded number for each polynomial term.
    pub(super) terms: Vec<f64>,
    /// One weight for each column.
    pub(super) regression: Vec<f64>,
}

/// One-step errors of the series, and of each column by itself.
struct Errors {
    total: Vec<f64>,
    columns: Vec<Vec<f64>>,
}

impl<'a> Problem<'a> {
    /// `fill` writes the columns of the hour at an index.
    pub(super) fn new(
        settings: &'a Arima,
        history: &[f32],
        columns: usize,
        fill: impl Fn(usize, &mut [f64]),
    ) -> Self {
        let known: Vec<bool> = history.iter().map(|value| value.is_finite()).collect();
        let values =
            history.iter().map(|&value| if value.is_finite() { f64::from(value) } else { 0.0 }).collect();
        let mut by_column = vec![Vec::with_capacity(history.len()); columns];
        let mut row = vec![0.0; columns];
        for hour in 0..history.len() {
            fill(hour, &mut row);
            for (column, &value) in by_column.iter_mut().zip(&row) {
                column.push(value);
            }
        }
        Self { settings, known, values, columns: by_column }
    }

    pub(super) fn solve(&self) -> Solution {
        let mut solution = self.start();
        let mut errors = self.errors(&solution);
        let mut damping = DAMPING_START;
        for _ in 0..STEPS_MAX {
            let bound = self.settings.huber * spread(&errors.total[self.burn_in()..]);
            if bound <= 0.0 {
                break; // Every hour is foretold exactly.
            }
            let cost = huber_cost(&errors.total[self.burn_in()..], bound);
            let normal = self.normal_equations(&solution, &errors, bound);
            let mut gain = None;
            while gain.is_none() && damping < DAMPING_MAX {
                let candidate = normal.step(&solution, damping);
                let candidate_errors = candidate.as_ref().map(|candidate| self.errors(candidate));
                match (candidate, candidate_errors) {
                    (Some(candidate), Some(next))
                        if huber_cost(&next.total[self.burn_in()..], bound) < cost =>
                    {
                        gain = Some(1.0 - huber_cost(&next.total[self.burn_in()..], bound) / cost);
                        (solution, errors) = (candidate, next);
                        damping /= DAMPING_RATIO;
                    }
                    _ => damping *= DAMPING_RATIO,
                }
            }
            if gain.is_none_or(|gain| gain < GAIN_MIN) {
                break;
            }
        }
        solution
    }

    /// The series less its regression, gaps filled, and its one-step errors.
    pub(super) fn disturbance(&self, solution: &Solution) -> (Vec<f64>, Vec<f64>) {
        let mut values = self.values.clone();
        for (column, weight) in self.columns.iter().zip(&solution.regression) {
            for (value, x) in values.iter_mut().zip(column) {
                *value -= weight * x;
            }
        }
        let mut errors = vec![0.0; values.len()];
        one_step(&self.settings.lags(&solution.terms), &self.known, &mut values, &mut errors);
        (values, errors)
    }

    /// The smallest and the largest known value.
    pub(super) fn range(&self) -> (f64, f64) {
        let known = self.values.iter().zip(&self.known).filter(|(_, known)| **known).map(|(value, _)| *value);
        known.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    }

    fn burn_in(&self) -> usize {
        self.settings.burn_in_hours()
    }

    fn start(&self) -> Solution {
        let (hourly, daily) = (self.settings.hourly, self.settings.daily);
        let mut terms = vec![0.0; self.settings.terms()];
        if hourly.ar > 0 {
            terms[0] = TERM_START;
        }
        if daily.ma > 0 {
            terms[hourly.ar + daily.ar + hourly.ma] = TERM_START;
        }
        Solution { terms, regression: vec![0.0; self.columns.len()] }
    }

    fn errors(&self, solution: &Solution) -> Errors {
        let lags = self.settings.lags(&solution.terms);
        let own = |column: &Vec<f64>| {
            let mut errors = vec![0.0; column.len()];
            one_step(&lags, &self.known, &mut column.clone(), &mut errors);
            errors
        };
        let columns: Vec<Vec<f64>> = self.columns.iter().map(own).collect();
        let mut total = own(&self.values);
        for (column, weight) in columns.iter().zip(&solution.regression) {
            for (error, x) in total.iter_mut().zip(column) {
                *error -= weight * x;
            }
        }
        Errors { total, columns }
    }

    fn normal_equations(&self, solution: &Solution, errors: &Errors, bound: f64) -> NormalEquations {
        let mut derivatives = Vec::with_capacity(solution.terms.len() + self.columns.len());
        for term in 0..solution.terms.len() {
            let mut moved = solution.clone();
            moved.terms[term] += DIFFERENCE;
            let (_, moved_errors) = self.disturbance(&moved);
            let pairs = moved_errors.iter().zip(&errors.total);
            derivatives.push(pairs.map(|(moved, error)| (moved - error) / DIFFERENCE).collect());
        }
        let columns = errors.columns.iter().map(|column| column.iter().map(|x| -x).collect::<Vec<f64>>());
        derivatives.extend(columns);
        NormalEquations::new(&derivatives, &errors.total, self.burn_in(), bound)
    }
}

/// The squared problem around a solution: `matrix · step = -gradient`.
struct NormalEquations {
    matrix: Vec<f64>,
    gradient: Vec<f64>,
}

impl NormalEquations {
    fn new(derivatives: &[Vec<f64>], errors: &[f64], burn_in: usize, bound: f64) -> Self {
        let size = derivatives.len();
        let weights: Vec<f64> =
            errors[burn_in..].iter().map(|error| (bound / error.abs()).min(1.0)).collect();
        let (mut matrix, mut gradient) = (vec![0.0; size * size], vec![0.0; size]);
        let mut weighted = vec![0.0; weights.len()];
        for (row, derivative) in derivatives.iter().enumerate() {
            for ((slot, weight), value) in weighted.iter_mut().zip(&weights).zip(&derivative[burn_in..]) {
                *slot = weight * value;
            }
            let dot = |other: &[f64]| weighted.iter().zip(&other[burn_in..]).map(|(a, b)| a * b).sum::<f64>();
            gradient[row] = dot(errors);
            for (column, other) in derivatives[..=row].iter().enumerate() {
                matrix[row * size + column] = dot(other);
            }
        }
        Self { matrix, gradient }
    }

    /// The solution one step on; none when the damped matrix still has no inverse.
    fn step(&self, from: &Solution, damping: f64) -> Option<Solution> {
        let size = self.gradient.len();
        let mut matrix = self.matrix.clone();
        let floor =
            f64::MIN_POSITIVE.sqrt() + RIDGE * (0..size).map(|at| matrix[at * size + at]).sum::<f64>();
        for at in 0..size {
            matrix[at * size + at] += damping * matrix[at * size + at] + floor;
        }
        let mut step: Vec<f64> = self.gradient.iter().map(|slope| -slope).collect();
        if !linear::solve_in_place(&mut matrix, &mut step) {
            return None;
        }
        let mut to = from.clone();
        for (number, change) in to.terms.iter_mut().chain(&mut to.regression).zip(&step) {
            *number += change;
        }
        for term in &mut to.terms {
            *term = term.clamp(-TERM_MAX, TERM_MAX);
        }
        Some(to)
    }
}

/// A standard deviation that a few large errors do not move; zero only when all errors are zero.
fn spread(errors: &[f64]) -> f64 {
    let mut sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
    let mean_square = sizes.iter().map(|size| size * size).sum::<f64>() / sizes.len().max(1) as f64;
    let middle = sizes.len() / 2;
    let median = if sizes.is_empty() { 0.0 } else { *sizes.select_nth_unstable_by(middle, f64::total_cmp).1 };
    (MEDIAN_TO_DEVIATION * median).max(SPREAD_SHARE_MIN * mean_square.sqrt())
}

fn huber_cost(errors: &[f64], bound: f64) -> f64 {
    let cost = |error: f64| {
        if error.abs() <= bound { 0.5 * error * error } else { bound * (error.abs() - 0.5 * bound) }
    };
    errors.iter().map(|&error| cost(error)).sum()
}

/// More steps change forecasts by less than they differ from the truth anyway.
const STEPS_MAX: usize = 25;
/// A step that lowers the cost by less than this share is the last.
const GAIN_MIN: f64 = 1e-4;
const DAMPING_START: f64 = 1e-2;
const DAMPING_RATIO: f64 = 5.0;
const DAMPING_MAX: f64 = 1e8;
/// For columns that are constant or copies of each other.
const RIDGE: f64 = 1e-9;
/// Of a polynomial term, for its derivative: the square root of the precision of what is subtracted.
const DIFFERENCE: f64 = 1e-6;
/// A polynomial term's tangent is flat beyond.
const TERM_MAX: f64 = 3.5;
const TERM_START: f64 = 0.6;
/// Of a normal distribution.
const MEDIAN_TO_DEVIATION: f64 = 1.4826;
/// A series that is zero in most hours has no median error, and still has errors.
const SPREAD_SHARE_MIN: f64 = 0.1;
