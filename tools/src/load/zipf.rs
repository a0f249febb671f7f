//! Zipf-distributed ranks: rank k is drawn with a probability proportional to 1/(k+1)^theta.
//!
//! Rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete
//! distributions", ACM TOMACS 6(3), 1996): exact for any theta above 0, no table, so that a billion keys cost what
//! ten do. The generator that YCSB uses approximates the same distribution and needs the sum over all keys first.

use fastrand::Rng;

use super::numbers::whole;

/// Draws ranks.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    count: u64,
    theta: f64,
    /// The integral's value where rank 1 begins and where the last rank ends.
    first: f64,
    last: f64,
    /// Ranks nearer than this to the point drawn are accepted without a second look.
    sure: f64,
}

impl Zipf {
    /// Of ranks `0..count`. `theta` is above 0; 0.99 is YCSB's.
    pub(crate) fn new(count: u64, theta: f64) -> Self {
        assert!(count > 0 && theta > 0.0 && theta.is_finite());
        let mut zipf = Self { count, theta, first: 0.0, last: 0.0, sure: 0.0 };
        zipf.first = zipf.integral(1.5) - 1.0;
        zipf.last = zipf.integral(count as f64 + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    /// A rank, 0 the most likely one.
    pub(crate) fn rank(&self, random: &mut Rng) -> u64 {
        loop {
            let area = self.last + random.f64() * (self.first - self.last);
            let point = self.inverse(area);
            let rank = whole(point + 0.5).clamp(1, self.count);
            let at = rank as f64;
            if at - point <= self.sure || area >= self.integral(at + 0.5) - self.density(at) {
                return rank - 1;
            }
        }
    }

    fn density(&self, x: f64) -> f64 {
        (-self.theta * x.ln()).exp()
    }

    /// An integral of the density: (x^(1-theta) - 1) / (1 - theta), and ln x at theta 1.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        exp_m1_over((1.0 - self.theta) * log) * log
    }

    fn inverse(&self, area: f64) -> f64 {
        // Rounding may lead below -1, where there is no logarithm.
        let scaled = (area * (1.0 - self.theta)).max(-1.0);
        (ln_1p_over(scaled) * area).exp()
    }
}

/// Below this the first terms of the series are exact to the last bit.
const TINY: f64 = 1e-8;

/// (e^x - 1) / x, 1 at 0.
fn exp_m1_over(x: f64) -> f64 {
    if x.abs() > TINY { x.exp_m1() / x } else { 1.0 + x * 0.5 }
}

/// ln(1 + x) / x, 1 at 0.
fn ln_1p_over(x: f64) -> f64 {
    if x.abs() > TINY { x.ln_1p() / x } else { 1.0 - x * 0.5 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five standard deviations: with fixed seeds this passes always or never.
    #[test]
    fn ranks_come_as_often_as_the_formula_says() {
        const DRAWS: u32 = 200_000;
        for (count, theta) in [(1, 0.99), (2, 0.5), (1000, 0.2), (1000, 0.99), (1000, 1.0), (50, 1.7)] {
            let zipf = Zipf::new(count, theta);
            let mut random = Rng::with_seed(7);
            let mut seen = vec![0_u32; usize::try_from(count).unwrap()];
            for _ in 0..DRAWS {
                seen[usize::try_from(zipf.rank(&mut random)).unwrap()] += 1;
            }
            let weights: Vec<f64> = (1..=count).map(|k| (k as f64).powf(-theta)).collect();
            let sum: f64 = weights.iter().sum();
            for (rank, (seen, weight)) in seen.iter().zip(weights).enumerate() {
                let expected = f64::from(DRAWS) * weight / sum;
                let off = (f64::from(*seen) - expected).abs();
                assert!(
                    off <= 5.0 * expected.sqrt() + 1.0,
                    "{count} {theta} rank {rank}: {seen}, {expected}"
                );
            }
        }
    }

    #[test]
    fn a_billion_keys_are_reached() {
        let zipf = Zipf::new(1_000_000_000, 0.5);
        let mut random = Rng::with_seed(1);
        let ranks: Vec<u64> = (0..1000).map(|_| zipf.rank(&mut random)).collect();
        assert!(ranks.iter().all(|rank| *rank < 1_000_000_000));
        assert!(ranks.iter().any(|rank| *rank > 500_000_000));
    }
}
