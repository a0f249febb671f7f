//! The pooled network: what it learns from some entities it knows of others; odd series; its determinism.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::f32::consts::TAU;
use std::sync::LazyLock;

use foreshard_forecast::lstm::{Lstm, Training};
use foreshard_forecast::{FitError, Model, Rows};

const START: i64 = 380_000;
const HOURS: usize = 500;
const SMALL: Training = Training { hidden: 8, batches: 300, batch_windows: 8, learning_rate: 0.01 };

/// An entity whose level is its own, and whose days are all alike.
fn entity(seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (level, height) = (2.0 + 6.0 * random.f32(), 0.5 + random.f32());
    let daily = |hour: usize| level + height * (TAU * hour as f32 / 24.0).sin();
    (0..HOURS).map(|hour| daily(hour) + 0.1 * (random.f32() - 0.5)).collect()
}

fn trained(training: Training, seed: u64) -> Lstm {
    let series: Vec<Vec<f32>> = (0..10).map(entity).collect();
    let series: Vec<(i64, &[f32])> = series.iter().map(|values| (START, values.as_slice())).collect();
    Lstm::train(&series, training, seed, |_| ()).unwrap()
}

static NETWORK: LazyLock<Lstm> = LazyLock::new(|| trained(SMALL, 1));

fn forecast(model: &Lstm, start: i64, history: &[f32], hours: usize) -> Vec<f32> {
    let mut path = vec![f32::NAN; hours];
    model.fit(start, history, Rows::NONE).unwrap().path(Rows::NONE, &mut path);
    path
}

#[test]
fn an_entity_half_a_day_old_is_forecast_from_what_others_did() {
    let (mut own, mut flat) = (0.0, 0.0);
    for index in 0..30 {
        let values = entity(100 + index as u64);
        let (born, known) = (200 + index % 24, 12);
        let history = &values[born..born + known];
        let path = forecast(&NETWORK, START + born as i64, history, 24);
        for (lead, value) in path.iter().enumerate() {
            let truth = values[born + known + lead];
            own += (value - truth).abs();
            flat += (history.iter().sum::<f32>() / known as f32 - truth).abs();
        }
    }
    assert!(own < 0.7 * flat, "{own} is not well below {flat}, the error of the entity's own mean");
}

#[test]
fn odd_series_have_finite_forecasts_within_what_was_seen() {
    let odd: [&dyn Fn(usize) -> f32; 8] = [
        &|_| 0.0,
        &|_| 7.25,
        &|_| f32::MAX,
        &|hour| if hour == 450 { 20.0 } else { 0.0 },
        &|hour| if hour % 2 == 0 { f32::NAN } else { hour as f32 },
        &|hour| if (300..480).contains(&hour) { f32::INFINITY } else { 5.0 },
        &|hour| if hour < 490 { f32::NAN } else { hour as f32 },
        &|hour| if hour % 3 == 0 { -f32::MAX } else { f32::MAX },
    ];
    for (index, value) in odd.iter().enumerate() {
        let history: Vec<f32> = (0..HOURS).map(value).collect();
        let known = history.iter().copied().filter(|value| value.is_finite());
        let (low, high) =
            known.fold((f32::MAX, f32::MIN), |(low, high), value| (low.min(value), high.max(value)));
        let path = forecast(&NETWORK, START, &history, 60);
        assert!(path.iter().all(|value| (low..=high).contains(value)), "series {index}: {path:?}");
    }
}

#[test]
fn too_few_known_hours_are_refused() {
    for history in [&[][..], &[1.0], &[f32::NAN; 300]] {
        let refused = NETWORK.fit(START, history, Rows::NONE).unwrap_err();
        assert!(matches!(refused, FitError::TooShort { have, need: 6 } if have < 2), "{refused}");
    }
    let untrainable: [&[(i64, &[f32])]; 3] = [&[], &[(START, &[])], &[(START, &[f32::NAN; 300])]];
    for series in untrainable {
        assert!(Lstm::train(series, SMALL, 1, |_| ()).is_err(), "{series:?}");
    }
}

#[test]
fn a_seed_gives_one_network_and_another_seed_another() {
    let brief = Training { batches: 5, ..SMALL };
    let bits = |seed| {
        let path = forecast(&trained(brief, seed), START, &entity(50), 48);
        path.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
    };
    assert_eq!(bits(1), bits(1));
    assert_ne!(bits(1), bits(2));
}

#[test]
fn hours_taken_one_by_one_are_as_those_taken_at_once() {
    let mut history = entity(60);
    history[400..410].fill(f32::NAN);
    let mut fitted = NETWORK.fit(START, &history[..300], Rows::NONE).unwrap();
    history[300..].iter().for_each(|&value| fitted.update(value, &[]));
    let mut path = vec![f32::NAN; 30];
    fitted.path(Rows::NONE, &mut path);
    assert_eq!(path, forecast(&NETWORK, START, &history, 30));
}
