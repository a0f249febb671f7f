//! Entities of a few hours: what they are forecast from, and how much of it is whose.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::f64::consts::TAU;

use foreshard_forecast::scenarios::Scenarios;
use foreshard_forecast::young::{AGES, Pool, age, blend, days, share};
use foreshard_forecast::{Series, WEEK};

const START: i64 = 381_288;
const ORIGIN: i64 = START + 40 * 24;
const HORIZON: usize = 24;

/// Night entities peak at midnight, day entities at noon; levels differ by orders of magnitude.
fn load(entity: usize, hour: i64, random: &mut fastrand::Rng) -> f64 {
    let level = 10.0_f64.powf(1.0 + (entity % 7) as f64 / 2.0);
    let phase = if entity.is_multiple_of(2) { 6.0 } else { 18.0 };
    level * (1.5 + ((hour as f64 - phase) / 24.0 * TAU).sin()) * (0.8 + 0.4 * random.f64())
}

fn series(entity: usize, hours: i64) -> Series {
    let mut random = fastrand::Rng::with_seed(entity as u64);
    let mut series = Series::new(ORIGIN - hours);
    for hour in ORIGIN - hours..ORIGIN {
        series.set(hour, load(entity, hour, &mut random)).unwrap();
    }
    series
}

fn pool(age: usize) -> Pool {
    let donors: Vec<Series> = (0..40).map(|entity| series(entity, 40 * 24)).collect();
    Pool::learn(&donors.iter().collect::<Vec<_>>(), ORIGIN, age, HORIZON).unwrap()
}

fn truth(entity: usize, hour: usize) -> f64 {
    let mut calm = fastrand::Rng::with_seed(0);
    (0..64).map(|_| load(entity, ORIGIN + hour as i64, &mut calm)).sum::<f64>() / 64.0
}

#[test]
fn half_a_day_of_history_tells_whose_shape_an_entity_has() {
    let pool = pool(12);
    for entity in 100..107 {
        let said = pool.scenarios(&series(entity, 12)).unwrap();
        for hour in 0..HORIZON {
            let ratio = said.quantile(hour, 0.5) / truth(entity, hour);
            assert!((0.6..1.6).contains(&ratio), "entity {entity}, hour {hour}: {ratio}");
        }
    }
}

#[test]
fn the_younger_an_entity_the_wider_the_interval() {
    let width = |hours: usize| -> f64 {
        let pool = pool(hours);
        let said: Vec<Scenarios> =
            (100..107).map(|entity| pool.scenarios(&series(entity, hours as i64)).unwrap()).collect();
        let hours = (0..HORIZON).flat_map(|hour| {
            said.iter().map(move |said| (said.quantile(hour, 0.9) / said.quantile(hour, 0.1)).ln())
        });
        hours.sum::<f64>()
    };
    let [first, half, two] = [6, 12, 48].map(width);
    assert!(first > half && half > 1.05 * two, "{first:.2}, {half:.2}, {two:.2}");
}

#[test]
fn an_entity_of_which_nothing_is_known_is_as_the_others_are() {
    let said = pool(0).scenarios(&Series::new(ORIGIN)).unwrap();
    let (low, high) = (said.quantile(12, 0.05), said.quantile(12, 0.95));
    assert!(low < 20.0 && high > 5000.0, "{low} to {high}");
}

#[test]
fn constants_stay_and_odd_series_have_finite_answers() {
    let pool = pool(24);
    type Load = fn(i64) -> f64;
    let loads: [(&str, Load); 6] = [
        ("zero", |_| 0.0),
        ("constant", |_| 42.0),
        ("huge", |_| f64::MAX),
        ("one point", |hour| if hour == ORIGIN - 5 { 7.0 } else { f64::NAN }),
        ("zero, then huge", |hour| if hour < ORIGIN - 3 { 0.0 } else { 1e300 }),
        ("nothing known", |_| f64::NAN),
    ];
    for (name, load) in loads {
        let mut series = Series::new(ORIGIN - 24);
        (ORIGIN - 24..ORIGIN).for_each(|hour| series.set(hour, load(hour)).unwrap());
        let said = [pool.scenarios(&series), pool.shape_times_level(&series)];
        assert_eq!(said.iter().flatten().count(), if name == "nothing known" { 0 } else { 2 }, "{name}");
        for said in said.iter().flatten() {
            let numbers = (0..HORIZON).flat_map(|hour| [0.0, 0.5, 1.0].map(|at| said.quantile(hour, at)));
            let wrong = numbers.clone().find(|number| !number.is_finite() || *number < 0.0);
            assert_eq!(wrong, None, "{name}");
            if name == "constant" {
                assert!((said.quantile(5, 0.5) - 42.0).abs() < 6.0, "{}", said.quantile(5, 0.5));
            }
        }
    }
}

#[test]
fn nothing_depends_on_what_lies_after_the_origin_and_the_same_donors_say_the_same() {
    let bits = |said: Scenarios| -> Vec<u64> {
        (0..HORIZON).flat_map(|hour| [0.1, 0.5, 0.9].map(|at| said.quantile(hour, at).to_bits())).collect()
    };
    let with_future = |entity: usize, hours: i64| {
        let mut series = series(entity, hours);
        let mut random = fastrand::Rng::with_seed(77);
        (ORIGIN..ORIGIN + 100).for_each(|hour| series.set(hour, random.f64() * 1e6).unwrap());
        series
    };
    let others: Vec<Series> = (0..40).map(|entity| with_future(entity, 40 * 24)).collect();
    let others = Pool::learn(&others.iter().collect::<Vec<_>>(), ORIGIN, 48, HORIZON).unwrap();
    let said = bits(pool(48).scenarios(&series(100, 48)).unwrap());
    assert_eq!(bits(pool(48).scenarios(&series(100, 48)).unwrap()), said);
    assert_eq!(bits(others.scenarios(&with_future(100, 48)).unwrap()), said);
}

#[test]
fn the_days_of_an_entity_come_again() {
    let mut series = Series::new(ORIGIN - 50);
    (ORIGIN - 50..ORIGIN).for_each(|hour| series.set(hour, (hour - ORIGIN + 100) as f64).unwrap());
    let said = days(&series, ORIGIN, 30).unwrap();
    // The first hour a day and two days back, each from three hours early to three late; the last hour is never passed.
    let of = |hour: usize| [0.0, 1.0].map(|at| said.quantile(hour, at).round());
    assert_eq!(of(0), [50.0, 79.0]);
    assert_eq!(of(23), [72.0, 99.0]);
    assert_eq!(of(29), [78.0, 84.0]);
    assert!(days(&series, ORIGIN - 27, 30).is_none(), "23 hours are no day");
    let (a, b) = (Scenarios::of_paths(vec![1.0; 30], 30), Scenarios::of_paths(vec![9.0; 30], 30));
    let all = blend(48, Some(a.clone()), Some(said.clone()), b.clone());
    // On the log scale a third of the way from the own part, half days and half nine, to the pool's one.
    let own = said.mixed(&b, 0.5).quantile(0, 0.9);
    let expected = (2.0_f64.ln() / 3.0 + (own + 1.0).ln() * 2.0 / 3.0).exp() - 1.0;
    assert!(own > 50.0 && (all.quantile(0, 0.9) / expected - 1.0).abs() < 0.02, "{}", all.quantile(0, 0.9));
    assert_eq!(blend(WEEK, None, Some(said), b.clone()), b, "after a week, days are the methods' affair");
    assert_eq!(blend(3 * WEEK, Some(a), None, b.clone()), b);
}

#[test]
fn too_few_donors_teach_nothing() {
    let donors: Vec<Series> = (0..40).map(|entity| series(entity, 30)).collect();
    let young: Vec<&Series> = donors.iter().collect();
    assert!(Pool::learn(&young, ORIGIN, 48, HORIZON).is_none());
    assert!(Pool::learn(&[], ORIGIN, 0, HORIZON).is_none());
}

#[test]
fn age_counts_from_the_first_known_hour_and_the_pool_fades_with_it() {
    let mut series = series(1, 48);
    assert_eq!(age(&series, ORIGIN), 48);
    series.pad_to(ORIGIN + 10);
    assert_eq!(age(&series, ORIGIN + 10), 58);
    assert_eq!(age(&Series::new(ORIGIN), ORIGIN), 0);
    let shares: Vec<f64> = (0..30).map(|day| share(day * 24)).collect();
    assert!(shares.is_sorted_by(|a, b| a >= b), "{shares:?}");
    assert_eq!((shares[0], shares[1], shares[14]), (1.0, 0.5, 0.0));
    assert!(AGES.is_sorted() && AGES[0] == 0);
}
