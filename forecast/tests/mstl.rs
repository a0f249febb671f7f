//! MSTL: odd series, gaps, hours taken one by one, and a rhythm on a level that drifts.
#![cfg(feature = "augurs")]
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::f32::consts::TAU;

use foreshard_forecast::{FitError, Model, Mstl, Rows};

const HOURS: usize = 700;

fn daily(hour: usize) -> f32 {
    5.0 + 2.0 * (TAU * hour as f32 / 24.0).sin()
}

fn forecast(history: &[f32], taken: usize) -> Vec<f32> {
    let (fitted_on, later) = history.split_at(history.len() - taken);
    let mut fitted = Mstl.fit(0, fitted_on, Rows::NONE).unwrap();
    later.iter().for_each(|&value| fitted.update(value, &[]));
    let mut path = vec![f32::NAN; 48];
    fitted.path(Rows::NONE, &mut path);
    path
}

#[test]
fn odd_series_have_finite_forecasts() {
    let odd: [&dyn Fn(usize) -> f32; 9] = [
        &|_| 0.0,
        &|_| 7.25,
        &|_| f32::MAX,
        &|hour| if hour == 350 { 20.0 } else { 0.0 },
        &|hour| if hour % 2 == 0 { f32::NAN } else { daily(hour) },
        &|hour| if (300..600).contains(&hour) { f32::INFINITY } else { daily(hour) },
        &|hour| if hour < 590 { f32::NAN } else { daily(hour) },
        &|hour| if hour % 3 == 0 { -f32::MAX } else { f32::MAX },
        &|hour| 1e30 * daily(hour),
    ];
    for (index, value) in odd.iter().enumerate() {
        let history: Vec<f32> = (0..HOURS).map(value).collect();
        for taken in [0, 30] {
            let path = forecast(&history, taken);
            assert!(path.iter().all(|value| value.is_finite()), "series {index}: {path:?}");
        }
    }
}

#[test]
fn a_rhythm_goes_on_at_the_level_that_it_has_reached() {
    // A step up three days before the end, and a gap.
    let level = |hour: usize| if hour < HOURS - 72 { 0.0 } else { 3.0 };
    let mut history: Vec<f32> = (0..HOURS).map(|hour| daily(hour) + level(hour)).collect();
    history[600..620].fill(f32::NAN);
    for taken in [0, 100] {
        for (lead, value) in forecast(&history, taken).iter().enumerate() {
            let truth = daily(HOURS + lead) + 3.0;
            assert!((value - truth).abs() < 0.8, "at {lead}, {taken} taken: {value}, not {truth}");
        }
    }
}

#[test]
fn hours_taken_one_by_one_are_as_those_taken_at_once() {
    let mut history: Vec<f32> = (0..1000).map(|hour| daily(hour) + (hour * hour % 17) as f32 * 0.1).collect();
    history[950] = f32::NAN;
    let bits = |path: Vec<f32>| path.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
    assert_eq!(bits(forecast(&history, 0)), bits(forecast(&history, 120)));
}

#[test]
fn too_few_known_hours_are_refused() {
    let one_point = [&[f32::NAN; 300][..], &[1.0]].concat();
    for history in [&one_point[..], &[], &[1.0]] {
        let refused = Mstl.fit(0, history, Rows::NONE).unwrap_err();
        assert!(matches!(refused, FitError::TooShort { have: 0..2, need: 72 }), "{refused}");
    }
}
