//! Least absolute errors with a small penalty, by least squares reweighed in turns (Schlossmacher, "An Iterative
//! Technique for Absolute Deviations Curve Fitting", JASA 1973).

use crate::linear::solve_in_place;
use crate::narrow;

/// Each turn halves what is left or better; medians need no more digits.
const TURNS: usize = 6;
/// Errors below it weigh as if they were as large, in units of an entity's scale.
const ERROR_MIN: f32 = 0.05;
/// Of the largest: deviations beyond weigh no more, and no product of them overflows.
const DEVIATION_MAX: f32 = 20.0;
/// The penalty, as so many cases with a feature of one.
const RIDGE: f64 = 5.0;

/// A weight for each feature.
#[derive(Clone, Debug)]
pub(super) struct Regression<const N: usize> {
    weights: [f32; N],
}

impl<const N: usize> Regression<N> {
    /// Of features and what they became.
    pub(super) fn fit(cases: &[([f32; N], f32)]) -> Self {
        let bound = |value: f32| value.clamp(-DEVIATION_MAX, DEVIATION_MAX);
        let cases: Vec<([f32; N], f32)> =
            cases.iter().map(|(features, was)| (features.map(bound), bound(*was))).collect();
        let mut regression = Self { weights: [0.0; N] };
        for turn in 0..TURNS {
            let mut matrix = vec![0.0; N * N];
            let mut right = vec![0.0; N];
            for (features, was) in &cases {
                let error = was - regression.value(features);
                let weight = if turn == 0 { 1.0 } else { 1.0 / error.abs().max(ERROR_MIN) };
                for row in 0..N {
                    let weighed = f64::from(weight * features[row]);
                    right[row] += weighed * f64::from(*was);
                    for column in 0..=row {
                        matrix[row * N + column] += weighed * f64::from(features[column]);
                    }
                }
            }
            for at in 0..N {
                matrix[at * N + at] += RIDGE;
            }
            if !solve_in_place(&mut matrix, &mut right) {
                break;
            }
            for (weight, solved) in regression.weights.iter_mut().zip(&right) {
                *weight = narrow(*solved);
            }
        }
        regression
    }

    pub(super) fn value(&self, features: &[f32; N]) -> f32 {
        let bound = |value: f32| value.clamp(-DEVIATION_MAX, DEVIATION_MAX);
        self.weights.iter().zip(features).map(|(weight, &feature)| weight * bound(feature)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Regression;

    #[test]
    fn a_median_is_learnt_and_not_a_mean() {
        let cases: Vec<([f32; 2], f32)> = (0..300)
            .map(|case| {
                let x = (case % 10) as f32 / 10.0;
                let outlier = if case % 4 == 0 { 15.0 } else { 0.0 };
                ([1.0, x], 1.0 + 2.0 * x + outlier)
            })
            .collect();
        let regression = Regression::fit(&cases);
        let said = regression.value(&[1.0, 0.5]);
        assert!((said - 2.0).abs() < 0.2, "{said}, not 2");
    }
}
