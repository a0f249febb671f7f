//! Lag polynomials, as the weights of the hours before.

/// How an hour's forecast is made: `sum(ar · value) - sum(ma · error)` over the hours before.
#[derive(Clone, Debug)]
pub(super) struct Lags {
    pub(super) ar: Vec<Lag>,
    pub(super) ma: Vec<Lag>,
}

/// The weight of the hour so many hours ago.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lag {
    pub(super) hours: usize,
    pub(super) weight: f64,
}

impl Lags {
    /// How far back a forecast reaches.
    pub(super) fn reach(&self) -> usize {
        self.ar.iter().chain(&self.ma).map(|lag| lag.hours).max().unwrap_or(0)
    }
}

/// The weights `c` of a polynomial `1 - c1·B - c2·B² ...` whose roots are all outside the unit circle.
///
/// Each free number gives a partial autocorrelation by its tangent; the Durbin-Levinson recursion makes them coefficients
/// (Monahan, *Biometrika* 71, 1984).
pub(super) fn stationary(free: &[f64]) -> Vec<f64> {
    let mut weights: Vec<f64> = Vec::with_capacity(free.len());
    for number in free {
        // Short of one: on the circle itself a rounded root may lie inside.
        let partial = PARTIAL_MAX * number.tanh();
        let before = weights.clone();
        for (weight, mirrored) in weights.iter_mut().zip(before.iter().rev()) {
            *weight -= partial * mirrored;
        }
        weights.push(partial);
    }
    weights
}

/// The weights of `(1 - B)` to the power `count`.
pub(super) fn differences(count: usize) -> Vec<f64> {
    let mut polynomial = vec![0.0; count + 1];
    polynomial[0] = 1.0;
    for _ in 0..count {
        for index in (1..=count).rev() {
            polynomial[index] -= polynomial[index - 1];
        }
    }
    polynomial[1..].iter().map(|coefficient| -coefficient).collect()
}

/// The weights of the product of polynomials, each in powers of its own lag; zeroes are left out.
pub(super) fn product(factors: &[(usize, Vec<f64>)]) -> Vec<Lag> {
    let mut polynomial = vec![1.0];
    for (step, weights) in factors {
        let mut longer = polynomial.clone();
        longer.resize(polynomial.len() + step * weights.len(), 0.0);
        for (index, weight) in weights.iter().enumerate() {
            for (at, coefficient) in polynomial.iter().enumerate() {
                longer[at + step * (index + 1)] -= weight * coefficient;
            }
        }
        polynomial = longer;
    }
    let lags = polynomial.iter().enumerate().skip(1).filter(|(_, coefficient)| **coefficient != 0.0);
    lags.map(|(hours, coefficient)| Lag { hours, weight: -coefficient }).collect()
}

const PARTIAL_MAX: f64 = 0.998;

#[cfg(test)]
mod tests {
    use super::{Lag, differences, product, stationary};

    #[test]
    fn factors_multiply_with_the_cross_term() {
        let lags = product(&[(1, vec![0.5]), (24, vec![0.25])]);
        let expected = [(1, 0.5), (24, 0.25), (25, -0.125)].map(|(hours, weight)| Lag { hours, weight });
        assert_eq!(lags, expected);
    }

    #[test]
    fn two_differences_are_a_line_continued() {
        assert_eq!(differences(2), [2.0, -1.0]);
    }

    #[test]
    fn whatever_the_numbers_a_forecast_dies_out() {
        for free in [[1.0, -1.0, 1.0], [-1.0, -1.0, -1.0], [0.3, 1.0, -1.0], [1.0, 1.0, 1.0]] {
            let weights = stationary(&free);
            let mut values = vec![1.0; weights.len()];
            for _ in 0..20_000 {
                let next =
                    weights.iter().zip(values.iter().rev()).map(|(weight, value)| weight * value).sum();
                values.push(next);
                values.remove(0);
            }
            assert!(values.iter().all(|value: &f64| value.abs() < 1e-3), "{free:?}: {values:?}");
        }
    }
}
