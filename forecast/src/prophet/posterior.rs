//! The most probable weights of a linear model with Prophet's priors, from products alone.
//!
//! Minimises `n·ln σ + |y - Xw|²/2σ² + 2σ² + Σ|bend|/scale + Σ w²/2scale²`. In turns: the noise given the weights has a
//! closed form; the weights given the noise are a ridge regression in which each bend's absolute value is replaced by the
//! parabola that touches it where the bend stands (Hunter and Li, *Annals of Statistics* 33, 2005). Every turn lowers the
//! sum. The history enters as `XᵀX`, `Xᵀy` and `yᵀy` only.

use std::ops::Range;

use crate::linear;

/// How weights are held back.
#[derive(Clone, Debug)]
pub(super) struct Priors {
    /// The weights with a Laplace prior; the two before them are the trend's line.
    pub(super) bends: Range<usize>,
    pub(super) bend_scale: f64,
    pub(super) seasonal_scale: f64,
    /// How many weights there are.
    pub(super) size: usize,
}

/// Products of the hours so far, and the weights they make most probable.
#[derive(Debug)]
pub(super) struct Posterior {
    priors: Priors,
    count: f64,
    /// `XᵀX`, the lower triangle of a square, row by row.
    products: Vec<f64>,
    /// `Xᵀy`.
    moments: Vec<f64>,
    /// `yᵀy`.
    square: f64,
    weights: Vec<f64>,
    noise: f64,
}

impl Posterior {
    pub(super) fn new(priors: Priors) -> Self {
        let size = priors.size;
        let mut weights = vec![0.0; size];
        // A bend of zero would never leave it: the parabola there has no width.
        weights[priors.bends.clone()].fill(priors.bend_scale);
        let (products, moments) = (vec![0.0; size * size], vec![0.0; size]);
        Self { priors, count: 0.0, products, moments, square: 0.0, weights, noise: NOISE_START }
    }

    /// Takes an hour; the weights stay until they are settled.
    pub(super) fn add(&mut self, row: &[f64], value: f64) {
        let size = self.priors.size;
        for (at, &x) in row.iter().enumerate() {
            self.moments[at] += x * value;
            for (slot, &other) in self.products[at * size..=at * size + at].iter_mut().zip(row) {
                *slot += x * other;
            }
        }
        self.square += value * value;
        self.count += 1.0;
    }

    /// Makes the weights the most probable ones.
    pub(super) fn settle(&mut self) {
        for bend in &mut self.weights[self.priors.bends.clone()] {
            *bend = bend.abs().max(BEND_MIN.sqrt());
        }
        for _ in 0..TURNS_MAX {
            let Some(weights) = self.turn() else { return };
            let change =
                weights.iter().zip(&self.weights).map(|(to, from)| (to - from).abs()).fold(0.0, f64::max);
            self.weights = weights;
            let rest = self.squared_rest();
            self.noise = 2.0 * rest / (self.count + (self.count.powi(2) + 16.0 * rest).sqrt());
            if change < CHANGE_MIN {
                return;
            }
        }
    }

    pub(super) fn value(&self, row: &[f64]) -> f64 {
        self.weights.iter().zip(row).map(|(weight, x)| weight * x).sum()
    }

    /// The most probable weights at this noise and these parabolas; none when they are beyond the arithmetic.
    fn turn(&self) -> Option<Vec<f64>> {
        let size = self.priors.size;
        let noise = self.noise.max(NOISE_MIN);
        let mut matrix = self.products.clone();
        for at in 0..size {
            matrix[at * size + at] += noise * self.precision(at);
        }
        let mut weights = self.moments.clone();
        (linear::solve_in_place(&mut matrix, &mut weights) && weights.iter().all(|weight| weight.is_finite()))
            .then_some(weights)
    }

    fn precision(&self, at: usize) -> f64 {
        if at < self.priors.bends.start {
            LINE_SCALE.powi(-2)
        } else if at < self.priors.bends.end {
            1.0 / (self.priors.bend_scale * self.weights[at].abs().max(BEND_MIN))
        } else {
            self.priors.seasonal_scale.powi(-2)
        }
    }

    fn squared_rest(&self) -> f64 {
        let size = self.priors.size;
        let mut rest = self.square;
        for (at, weight) in self.weights.iter().enumerate() {
            let row = &self.products[at * size..=at * size + at];
            let off: f64 = row[..at].iter().zip(&self.weights).map(|(product, other)| product * other).sum();
            rest += weight * (2.0 * off + weight * row[at] - 2.0 * self.moments[at]);
        }
        rest.max(0.0)
    }
}

/// Scale of the priors of the trend's slope and level; values are at most one.
const LINE_SCALE: f64 = 5.0;
/// The variance before anything is known.
const NOISE_START: f64 = 0.01;
/// Below this variance of values up to one, priors would vanish in rounding, and the matrix become singular.
const NOISE_MIN: f64 = 1e-9;
/// A bend as small as this is no bend.
const BEND_MIN: f64 = 1e-8;
const TURNS_MAX: usize = 100;
/// A turn that moves no weight by more is the last; values are at most one.
const CHANGE_MIN: f64 = 1e-5;
