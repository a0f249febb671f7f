//! The one-step errors of a series under given polynomials.

use super::polynomial::{Lag, Lags};

/// Fills `errors` with what each hour's value differs from its forecast, and the gaps of `values` with their forecasts.
///
/// What lies before the first hour is zero. The result is linear in `values`, as long as `known` stays the same.
pub(super) fn one_step(lags: &Lags, known: &[bool], values: &mut [f64], errors: &mut [f64]) {
    for hour in 0..values.len() {
        let forecast = weighted(&lags.ar, values, hour) - weighted(&lags.ma, errors, hour);
        if known[hour] {
            errors[hour] = values[hour] - forecast;
        } else {
            values[hour] = forecast;
            errors[hour] = 0.0;
        }
    }
}

fn weighted(lags: &[Lag], values: &[f64], hour: usize) -> f64 {
    // Lags ascend: the first that reaches before the series ends the sum.
    lags.iter().take_while(|lag| lag.hours <= hour).map(|lag| lag.weight * values[hour - lag.hours]).sum()
}

#[cfg(test)]
mod tests {
    use super::super::polynomial::{Lag, Lags};
    use super::one_step;

    #[test]
    fn a_gap_takes_its_forecast_and_no_error() {
        let lags = Lags { ar: vec![Lag { hours: 1, weight: 0.5 }], ma: vec![Lag { hours: 1, weight: 0.25 }] };
        let mut values = [8.0, f64::NAN, f64::NAN, 2.0];
        let mut errors = [0.0; 4];
        one_step(&lags, &[true, false, false, true], &mut values, &mut errors);
        assert_eq!(
            values,
            [8.0, 2.0, 1.0, 2.0],
            "half of eight less a quarter of its error, then half of that"
        );
        assert_eq!(errors, [8.0, 0.0, 0.0, 1.5]);
    }
}
