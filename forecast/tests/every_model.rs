//! Odd series through every model there is, as the program uses them: fitted, updated and asked along a walk, then made into
//! scenarios. Nothing panics, nothing is NaN or infinite, and the same series and seed give the same bits.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use foreshard_forecast::arima::Arima;
use foreshard_forecast::lstm::{Lstm, Training};
use foreshard_forecast::prophet::Prophet;
use foreshard_forecast::scenarios::Scenarios;
use foreshard_forecast::series::LOAD_MAX;
use foreshard_forecast::walk::{NoRegressors, Plan, Walk};
use foreshard_forecast::{
    Autoregression, Climatology, DoubleSeasonal, Model, SeasonalNaive, Series, WEEK, auto,
};

const START: i64 = 381_286;
const ORIGIN: i64 = START + 40 * 24;
const HORIZON: usize = 30;
/// Origins every twelve hours, so that models are updated as often as they are fitted.
const PLAN: Plan = Plan { first: START + 20 * 24, last: ORIGIN, step: 12, refit: WEEK, horizon: HORIZON };

fn models() -> Vec<Box<dyn Model>> {
    #[cfg_attr(not(feature = "augurs"), expect(unused_mut, reason = "one more with the feature"))]
    let mut models: Vec<Box<dyn Model>> = vec![
        Box::new(SeasonalNaive::DAILY),
        Box::new(Climatology::LAST_WEEK),
        Box::new(Climatology::FADING),
        Box::new(DoubleSeasonal),
        Box::new(Autoregression),
        Box::new(Arima::DEFAULT),
        Box::new(Prophet::DEFAULT),
        Box::new(network()),
    ];
    #[cfg(feature = "augurs")]
    models.push(Box::new(foreshard_forecast::Mstl));
    models
}

/// Trained on a rhythm, a constant, and gaps.
fn network() -> Lstm {
    let rhythm: Vec<f32> = (0_u16..900).map(|hour| f32::from(hour % 24)).collect();
    let gaps: Vec<f32> = (0_u16..900).map(|hour| if hour % 5 == 0 { f32::NAN } else { 3.0 }).collect();
    let training = Training { hidden: 4, batches: 20, batch_windows: 4, learning_rate: 0.01 };
    Lstm::train(&[(START, &rhythm), (START, &gaps)], training, 1, |_| ()).unwrap()
}

type Load = fn(i64) -> f64;

/// Loads by hours before the origin, which is hour zero.
const ODD: [(&str, Load); 14] = [
    ("all zero", |_| 0.0),
    ("constant", |_| 42.0),
    ("constant, the largest there is", |_| LOAD_MAX),
    ("nothing known", |_| f64::NAN),
    ("one point", |ago| if ago == 5 { 7.0 } else { f64::NAN }),
    ("one point at the start", |ago| if ago == 960 { 7.0 } else { f64::NAN }),
    ("huge", |_| f64::MAX),
    ("zero, then huge", |ago| if ago > 3 { 0.0 } else { 1e300 }),
    ("huge, then zero", |ago| if ago > 3 { 1e300 } else { 0.0 }),
    ("zero and huge in turn", |ago| if ago % 2 == 0 { 0.0 } else { f64::MAX }),
    ("tiny", |_| f64::MIN_POSITIVE),
    ("a point a day", |ago| if ago % 24 == 3 { 5.0 } else { f64::NAN }),
    ("a gap of three weeks", |ago| if ago < 504 { f64::NAN } else { (ago % 24) as f64 }),
    ("not numbers", |ago| match ago % 4 {
        0 => f64::INFINITY,
        1 => -1.0,
        2 => f64::NEG_INFINITY,
        _ => f64::NAN,
    }),
];

fn series(load: Load) -> Series {
    let mut series = Series::new(START);
    for hour in START..ORIGIN {
        series.set(hour, load(ORIGIN - hour)).unwrap();
    }
    series
}

/// Every number that a model's walk and its scenarios say.
fn said(series: &Series, walk: &Walk) -> Vec<u64> {
    let scenarios = Scenarios::new(series, walk, ORIGIN);
    let mut numbers: Vec<f64> = Vec::new();
    for origin in PLAN.origins() {
        // None where the model has too little to learn from, never half a path.
        numbers.extend(walk.path(origin).unwrap_or(&[]).iter().copied().map(f64::from));
    }
    for hour in 0..HORIZON {
        numbers.extend([0.0, 0.025, 0.5, 0.975, 1.0].map(|at| scenarios.quantile(hour, at)));
        numbers.extend([scenarios.mean(hour), scenarios.place(hour, 1e17, 0.5)]);
    }
    numbers.extend([scenarios.exceeds(1..7, 300.0), scenarios.excess(1..7, 300.0)]);
    let wrong = numbers.iter().find(|number| !number.is_finite());
    assert_eq!(wrong, None, "of {} numbers", numbers.len());
    numbers.into_iter().map(f64::to_bits).collect()
}

#[test]
fn odd_series_pass_through_every_model() {
    let models = models();
    for (name, load) in ODD {
        let series = series(load);
        let walks: Vec<Walk> =
            models.iter().map(|model| Walk::run(model.as_ref(), &series, &NoRegressors, PLAN)).collect();
        for (model, walk) in models.iter().zip(&walks) {
            println!("{name}, {}", model.name());
            let numbers = said(&series, walk);
            let again = Walk::run(model.as_ref(), &series, &NoRegressors, PLAN);
            assert_eq!(numbers, said(&series, &again), "{name}, {}: twice", model.name());
        }
        let network = network();
        let members = auto::heavy(&network);
        said(&series, &auto::walk(&members, &series, &NoRegressors, PLAN));
    }
}

#[test]
fn hours_before_hour_zero_are_hours() {
    let mut series = Series::new(-480);
    (-480..0).for_each(|hour| series.set(hour, 10.0 + (hour % 24) as f64).unwrap());
    let plan = Plan { first: -900, last: 0, ..PLAN };
    for model in models() {
        let walk = Walk::run(model.as_ref(), &series, &NoRegressors, plan);
        assert!(Scenarios::new(&series, &walk, 0).mean(0).is_finite(), "{}", model.name());
    }
}

#[test]
fn a_series_of_nothing_is_forecast_as_nothing_and_a_constant_as_itself() {
    for model in models() {
        for (load, tolerance) in [(0.0, 1e-6), (42.0, 0.5)] {
            let mut series = Series::new(START);
            (START..ORIGIN).for_each(|hour| series.set(hour, load).unwrap());
            let walk = Walk::run(model.as_ref(), &series, &NoRegressors, PLAN);
            let scenarios = Scenarios::new(&series, &walk, ORIGIN);
            for at in [0.025, 0.5, 0.975] {
                let said = scenarios.quantile(HORIZON - 1, at);
                assert!((said - load).abs() <= tolerance, "{} says {said} of {load} at {at}", model.name());
            }
        }
    }
}
