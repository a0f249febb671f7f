//! Logistic regression with a small penalty, by Newton's method.

use crate::linear::solve_in_place;

/// The penalty on half the sum of squared weights, the intercept's aside.
const PENALTY: f64 = 1.0;
/// Newton's method squares its error with each round: where it converges it does so in less than ten.
const ROUNDS_MAX: usize = 30;
/// A round that changes no weight by more is the last.
const CHANGE_MIN: f64 = 1e-7;
/// How often a step that makes the fit worse is halved before it is given up.
const HALVINGS_MAX: usize = 20;

/// A weight per feature, and an intercept.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Logistic<const N: usize> {
    weights: [f64; N],
    intercept: f64,
}

impl<const N: usize> Logistic<N> {
    /// Learns from features and what came true. None if the numbers do not allow it.
    pub(crate) fn fit(cases: &[([f64; N], bool)]) -> Option<Self> {
        let mut best = Self { weights: [0.0; N], intercept: 0.0 };
        let mut loss = best.loss(cases);
        for _ in 0..ROUNDS_MAX {
            let step = best.newton_step(cases)?;
            let mut share = 1.0;
            let mut improved = None;
            for _ in 0..HALVINGS_MAX {
                let candidate = best.moved(&step, share);
                let candidate_loss = candidate.loss(cases);
                if candidate_loss <= loss {
                    improved = Some((candidate, candidate_loss));
                    break;
                }
                share /= 2.0;
            }
            let Some((candidate, candidate_loss)) = improved else { break };
            (best, loss) = (candidate, candidate_loss);
            if step.iter().all(|change| (share * change).abs() < CHANGE_MIN) {
                break;
            }
        }
        Some(best)
    }

    pub(crate) fn probability(&self, features: &[f64; N]) -> f64 {
        1.0 / (1.0 + (-self.score(features)).exp())
    }

    fn score(&self, features: &[f64; N]) -> f64 {
        self.intercept + features.iter().zip(&self.weights).map(|(x, w)| x * w).sum::<f64>()
    }

    fn loss(&self, cases: &[([f64; N], bool)]) -> f64 {
        let surprise = cases.iter().map(|(features, came_true)| {
            let score = self.score(features);
            let against = if *came_true { -score } else { score };
            // ln(1 + e^against) without overflow.
            against.max(0.0) + (-against.abs()).exp().ln_1p()
        });
        surprise.sum::<f64>() + PENALTY / 2.0 * self.weights.iter().map(|w| w * w).sum::<f64>()
    }

    /// The weights' changes, then the intercept's.
    fn newton_step(&self, cases: &[([f64; N], bool)]) -> Option<Vec<f64>> {
        let size = N + 1;
        let mut curvature = vec![0.0; size * size];
        let mut slope = vec![0.0; size];
        let mut row = vec![1.0; size];
        for (features, came_true) in cases {
            row[..N].copy_from_slice(features);
            let probability = self.probability(features);
            let residual = f64::from(u8::from(*came_true)) - probability;
            let spread = probability * (1.0 - probability);
            for i in 0..size {
                slope[i] += residual * row[i];
                for j in 0..=i {
                    curvature[i * size + j] += spread * row[i] * row[j];
                }
            }
        }
        for i in 0..N {
            slope[i] -= PENALTY * self.weights[i];
            curvature[i * size + i] += PENALTY;
        }
        solve_in_place(&mut curvature, &mut slope).then_some(slope)
    }

    fn moved(&self, step: &[f64], share: f64) -> Self {
        let mut weights = self.weights;
        weights.iter_mut().zip(step).for_each(|(weight, change)| *weight += share * change);
        Self { weights, intercept: self.intercept + share * step[N] }
    }
}

#[cfg(test)]
mod tests {
    use super::Logistic;

    #[test]
    fn the_odds_that_cases_were_drawn_with_are_found() {
        let mut rng = fastrand::Rng::with_seed(3);
        let cases: Vec<([f64; 2], bool)> = (0..40_000)
            .map(|_| {
                let x = [rng.f64() * 4.0 - 2.0, rng.f64() * 4.0 - 2.0];
                let odds: f64 = 1.5 * x[0] - 0.5 * x[1] - 1.0;
                (x, rng.f64() < 1.0 / (1.0 + (-odds).exp()))
            })
            .collect();
        let fitted = Logistic::fit(&cases).unwrap();
        let found = [fitted.weights[0], fitted.weights[1], fitted.intercept];
        for (found, drawn) in found.iter().zip([1.5, -0.5, -1.0]) {
            assert!((found - drawn).abs() < 0.1, "{fitted:?}");
        }
    }

    #[test]
    fn cases_that_a_line_parts_stay_finite() {
        let cases: Vec<([f64; 1], bool)> = (0..100).map(|i| ([f64::from(i) - 49.5], i >= 50)).collect();
        let fitted = Logistic::fit(&cases).unwrap();
        assert!(fitted.probability(&[40.0]) > 0.99 && fitted.probability(&[-40.0]) < 0.01, "{fitted:?}");
    }
}
