//! Least squares with coefficients that are not negative: what each of several counts costs, by what they cost together.

/// One observation: counts, and what they cost.
#[derive(Clone, Debug)]
pub struct Observed {
    /// In the order of the coefficients.
    pub counts: Vec<f64>,
    /// Together.
    pub cost: f64,
}

/// Rounds of descent; a dozen coefficients settle within a few thousand.
const ROUNDS_MAX: usize = 200_000;
/// A round that changes no observation's cost by more than this part of it is the last.
const SETTLED: f64 = 1e-10;

/// The coefficients, none of them negative, with which the sums of squares of relative errors is least: an observation of
/// little cost counts as much as one of much. Coordinate descent, which for this convex problem ends at its minimum
/// (Franc, Hlavac and Navara, "Sequential coordinate-wise algorithm for the non-negative least squares problem", 2005).
#[must_use]
pub fn nonnegative(observed: &[Observed]) -> Vec<f64> {
    let count = observed.first().map_or(0, |one| one.counts.len());
    // Rows in parts of what was observed: the target is 1 everywhere.
    let rows: Vec<Vec<f64>> =
        observed.iter().map(|one| one.counts.iter().map(|c| c / one.cost).collect()).collect();
    let norms: Vec<f64> = (0..count).map(|n| rows.iter().map(|row| row[n] * row[n]).sum()).collect();
    let mut coefficients = vec![0.0_f64; count];
    let mut errors = vec![-1.0_f64; rows.len()];
    for _ in 0..ROUNDS_MAX {
        let mut most = 0.0_f64;
        for n in 0..count {
            if norms[n] <= 0.0 {
                continue;
            }
            let slope: f64 = rows.iter().zip(&errors).map(|(row, e)| row[n] * e).sum();
            let step = (coefficients[n] - slope / norms[n]).max(0.0) - coefficients[n];
            coefficients[n] += step;
            for (row, error) in rows.iter().zip(&mut errors) {
                *error += step * row[n];
                most = most.max((step * row[n]).abs());
            }
        }
        if most < SETTLED {
            break;
        }
    }
    coefficients
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_were_made_of_is_found_again_and_what_costs_nothing_costs_nothing() {
        let mut random = fastrand::Rng::with_seed(7);
        let costs = [5.0, 0.25, 0.0, 80.0];
        let observed: Vec<Observed> = (0..60)
            .map(|_| {
                let counts: Vec<f64> = (0..4).map(|_| 1.0 + 1e4 * random.f64()).collect();
                let cost = counts.iter().zip(costs).map(|(c, each)| c * each).sum::<f64>();
                Observed { counts, cost: cost * (0.99 + 0.02 * random.f64()) }
            })
            .collect();
        let found = nonnegative(&observed);
        for (found, cost) in found.iter().zip(costs) {
            assert!(*found >= 0.0 && (found - cost).abs() < 0.02 * 80.0, "{found} for {cost}");
        }
        let told = |one: &Observed| one.counts.iter().zip(&found).map(|(c, each)| c * each).sum::<f64>();
        assert!(observed.iter().all(|one| (told(one) / one.cost - 1.0).abs() < 0.03));
    }

    #[test]
    fn a_cost_that_would_be_negative_is_none() {
        // The second count is there where little was spent.
        let one = |a: f64, b: f64, cost: f64| Observed { counts: vec![a, b], cost };
        let found = nonnegative(&[one(10.0, 0.0, 10.0), one(10.0, 5.0, 8.0), one(20.0, 0.0, 20.0)]);
        assert!(found[1] == 0.0 && found[0] > 0.8, "{found:?}");
        assert_eq!(nonnegative(&[]), Vec::<f64>::new());
    }
}
