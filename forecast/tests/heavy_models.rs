//! What holds for ARIMA and Prophet alike: odd series, gaps, hours taken one by one, and series of a known making.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::f32::consts::TAU;

use foreshard_forecast::arima::Arima;
use foreshard_forecast::prophet::Prophet;
use foreshard_forecast::{FitError, Model, Rows};

const START: i64 = 380_000;
const HOURS: usize = 700;

fn models() -> [Box<dyn Model>; 2] {
    [Box::new(Arima::default()), Box::new(Prophet::default())]
}

fn series(value: impl Fn(usize) -> f32) -> Vec<f32> {
    (0..HOURS).map(value).collect()
}

fn daily(hour: usize) -> f32 {
    5.0 + 2.0 * (TAU * hour as f32 / 24.0).sin()
}

/// What the model forecasts after `history`, of which the last `taken` hours come one by one.
fn forecast(model: &dyn Model, history: &[f32], taken: usize, hours: usize) -> Vec<f32> {
    let (fitted_on, later) = history.split_at(history.len() - taken);
    let mut fitted = model.fit(START, fitted_on, Rows::NONE).unwrap();
    later.iter().for_each(|&value| fitted.update(value, &[]));
    let mut path = vec![f32::NAN; hours];
    fitted.path(Rows::NONE, &mut path);
    path
}

#[test]
fn odd_series_have_finite_forecasts() {
    let odd = [
        series(|_| 0.0),
        series(|_| 7.25),
        series(|_| f32::MAX.ln_1p()),
        series(|hour| if hour == 350 { 20.0 } else { 0.0 }),
        series(|hour| if hour % 2 == 0 { f32::NAN } else { daily(hour) }),
        series(|hour| if (300..600).contains(&hour) { f32::INFINITY } else { daily(hour) }),
        series(|hour| if hour < 620 { f32::NAN } else { daily(hour) }),
        series(|hour| if hour < 350 { 0.0 } else { 80.0 }),
        series(|hour| 1e30 * daily(hour)),
        series(|hour| 1e-30 * daily(hour)),
        series(|hour| hour as f32 * 0.1),
    ];
    for model in models() {
        for (index, history) in odd.iter().enumerate() {
            let path = forecast(model.as_ref(), history, 30, 48);
            assert!(
                path.iter().all(|value| value.is_finite()),
                "{} on series {index}: {path:?}",
                model.name()
            );
        }
    }
}

#[test]
fn a_constant_is_forecast_as_itself() {
    for model in models() {
        for constant in [0.0, 7.25, f32::MAX.ln_1p()] {
            let path = forecast(model.as_ref(), &series(|_| constant), 30, 48);
            let close = path.iter().all(|value| (value - constant).abs() <= 1e-3 * constant);
            assert!(close, "{} on {constant}: {path:?}", model.name());
        }
    }
}

#[test]
fn too_few_known_hours_are_refused() {
    let one_point = series(|hour| if hour == 350 { 20.0 } else { f32::NAN });
    for model in models() {
        for history in [one_point.as_slice(), &[], &[1.0]] {
            let refused = model.fit(START, history, Rows::NONE).unwrap_err();
            assert!(
                matches!(refused, FitError::TooShort { have, need } if have < 2 && need >= 24),
                "{refused}"
            );
        }
    }
}

#[test]
fn a_daily_rhythm_goes_on_through_a_gap() {
    let history = series(|hour| if (650..690).contains(&hour) { f32::NAN } else { daily(hour) });
    for model in models() {
        for taken in [0, 60] {
            let path = forecast(model.as_ref(), &history, taken, 48);
            for (lead, value) in path.iter().enumerate() {
                let truth = daily(HOURS + lead);
                assert!((value - truth).abs() < 0.15, "{} at {lead}: {value}, not {truth}", model.name());
            }
        }
    }
}

#[test]
fn the_same_history_has_the_same_forecast_to_the_bit() {
    for model in models() {
        let history = series(|hour| daily(hour) + (hour * hour % 17) as f32 * 0.1);
        let bits = |path: Vec<f32>| path.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
        let first = bits(forecast(model.as_ref(), &history, 10, 48));
        assert_eq!(first, bits(forecast(model.as_ref(), &history, 10, 48)), "{}", model.name());
    }
}

#[test]
fn a_regressor_has_its_effect_and_an_unknown_one_none() {
    let announced = |hour: usize| if hour % 50 < 3 { 1.0 } else { 0.0 };
    let history = series(|hour| daily(hour) + 3.0 * announced(hour));
    let mut past: Vec<f32> = (0..HOURS).map(announced).collect();
    past[0] = f32::NAN;
    for model in models() {
        let fitted = model.fit(START, &history, Rows::new(&past, 1)).unwrap();
        let (mut without, mut with) = ([0.0; 4], [0.0; 4]);
        fitted.path(Rows::new(&[0.0, 0.0, f32::NAN, 0.0], 1), &mut without);
        fitted.path(Rows::new(&[0.0, 1.0, 0.0, 0.0], 1), &mut with);
        assert!((with[1] - without[1] - 3.0).abs() < 0.3, "{}: {without:?} {with:?}", model.name());
        assert_eq!((with[0], with[2], with[3]), (without[0], without[2], without[3]), "{}", model.name());
    }
}

#[test]
fn arima_halves_a_disturbance_as_it_was_made() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut disturbance = 0.0;
    let mut next = || {
        disturbance = 0.5 * disturbance + random.f32() - 0.5;
        4.0 + disturbance
    };
    let mut history: Vec<f32> = (0..HOURS).map(|_| next()).collect();
    history.push(8.0);
    let path = forecast(&Arima::default(), &history, 1, 3);
    for (lead, (value, truth)) in path.iter().zip([6.0, 5.0, 4.5]).enumerate() {
        assert!((value - truth).abs() < 0.4, "at {lead}: {value}, not {truth}");
    }
}
