//! How good forecasts were.

/// One answer, and how it ended.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Judged {
    /// The probability, or any score that ranks.
    pub probability: f64,
    /// What came true.
    pub came_true: bool,
}

/// Answers between two probabilities.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bin {
    /// How many.
    pub count: usize,
    /// What they said, on average.
    pub said: f64,
    /// How often it came true.
    pub came_true: f64,
}

/// Average precision: the mean, over the true cases, of the share of true ones among those ranked as high. Equal scores
/// are one rank. Zero without true cases.
#[must_use]
pub fn average_precision(cases: &[Judged]) -> f64 {
    let mut ranked = cases.to_vec();
    ranked.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    let all = ranked.iter().filter(|case| case.came_true).count();
    let (mut seen, mut hits, mut sum) = (0_usize, 0_usize, 0.0);
    for equal in ranked.chunk_by(|a, b| a.probability.total_cmp(&b.probability).is_eq()) {
        let here = equal.iter().filter(|case| case.came_true).count();
        seen += equal.len();
        hits += here;
        sum += here as f64 * hits as f64 / seen as f64;
    }
    if all == 0 { 0.0 } else { sum / all as f64 }
}

/// The mean squared distance of probability and outcome (Brier, Monthly Weather Review 1950). NaN without cases.
#[must_use]
pub fn brier(cases: &[Judged]) -> f64 {
    let errors = cases.iter().map(|case| (case.probability - f64::from(u8::from(case.came_true))).powi(2));
    errors.sum::<f64>() / cases.len() as f64
}

/// What was said against what happened, in ten bins of equal width.
#[must_use]
pub fn reliability(cases: &[Judged]) -> [Bin; 10] {
    let mut sums = [(0_usize, 0.0, 0.0); 10];
    for case in cases {
        // The last bin has 1 too.
        let index = (1..10).filter(|&bound| case.probability * 10.0 >= f64::from(bound)).count();
        sums[index].0 += 1;
        sums[index].1 += case.probability;
        sums[index].2 += f64::from(u8::from(case.came_true));
    }
    sums.map(|(count, said, came_true)| Bin {
        count,
        said: said / count as f64,
        came_true: came_true / count as f64,
    })
}

/// The value that the share `at` of the `sorted` ones does not exceed, on the line between neighbours; none of none.
#[must_use]
pub fn quantile(sorted: &[f64], at: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = at.clamp(0.0, 1.0) * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the last index"
    )]
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(cases: &[(f64, bool)]) -> Vec<Judged> {
        cases.iter().map(|&(probability, came_true)| Judged { probability, came_true }).collect()
    }

    #[test]
    fn average_precision_of_a_ranking_worked_by_hand() {
        let cases = judged(&[(0.9, true), (0.8, false), (0.7, true), (0.1, false)]);
        assert!((average_precision(&cases) - f64::midpoint(1.0, 2.0 / 3.0)).abs() < 1e-12);
    }

    #[test]
    fn equal_scores_rank_as_one_whatever_their_order() {
        for cases in [[(0.5, true), (0.5, false)], [(0.5, false), (0.5, true)]] {
            assert!((average_precision(&judged(&cases)) - 0.5).abs() < 1e-12);
        }
    }

    #[test]
    fn certainty_falls_into_the_last_bin() {
        let bins = reliability(&judged(&[(1.0, true), (0.0, false), (0.95, false)]));
        assert_eq!((bins[9].count, bins[0].count), (2, 1));
        assert!((bins[9].came_true - 0.5).abs() < 1e-12);
        assert!((brier(&judged(&[(1.0, true), (0.5, false)])) - 0.125).abs() < 1e-12);
    }
}
