//! Whatever the series: nothing panics, nothing is NaN, the same input gives the same bytes, and no answer depends on
//! what lies after its origin.

use foreshard_forecast::events::{Adjusted, Calendar, Effects, EffectsOf, Event, Observed};
use foreshard_forecast::hot::{Asked, Question, rolling};
use foreshard_forecast::scenarios::Scenarios;
use foreshard_forecast::walk::{NoRegressors, Plan, Walk};
use foreshard_forecast::{
    Autoregression, Climatology, DoubleSeasonal, Model, SeasonalNaive, Series, WEEK, auto,
};

const MODELS: [&dyn Model; 5] =
    [&SeasonalNaive::DAILY, &Climatology::LAST_WEEK, &Climatology::FADING, &DoubleSeasonal, &Autoregression];
const START: i64 = 381_286;
const HOURS: i64 = 60 * 24;
const ORIGIN: i64 = START + 50 * 24;
const HORIZON: usize = 48;

/// A load with a daily rhythm, noise, bursts and gaps.
fn load(seed: u64) -> Series {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut series = Series::new(START);
    for hour in START..START + HOURS {
        let daily = (hour as f64 / 24.0 * std::f64::consts::TAU).sin() + 1.2;
        let burst = if rng.u8(..) < 8 { 900.0 } else { 0.0 };
        if rng.u8(..) > 12 {
            series.set(hour, 100.0 * daily * (0.5 + rng.f64()) + burst).expect("within the span");
        }
    }
    series.pad_to(START + HOURS);
    series
}

fn plan(last: i64) -> Plan {
    Plan { first: START + 5 * 24, last, step: 6, refit: WEEK, horizon: HORIZON }
}

fn walks(series: &Series, last: i64) -> Vec<Walk> {
    MODELS.iter().map(|model| Walk::run(*model, series, &NoRegressors, plan(last))).collect()
}

/// Every number that is said of `series` at the origin.
fn said(series: &Series, last: i64) -> Vec<u64> {
    let mut walks = walks(series, last);
    walks.push(auto::walk(&auto::LIGHT, series, &NoRegressors, plan(last)));
    numbers(series, &walks, None)
}

fn numbers(series: &Series, walks: &[Walk], events: Option<EffectsOf<'_>>) -> Vec<u64> {
    let question = Question::new(300.0, 2, 7).expect("a window");
    let mut numbers = Vec::new();
    for walk in walks {
        let scenarios = Scenarios::with_events(series, walk, ORIGIN, events);
        for hour in 0..HORIZON {
            numbers.extend([0.0, 0.025, 0.5, 0.975, 1.0].map(|at| scenarios.quantile(hour, at)));
            numbers.push(scenarios.mean(hour));
        }
        numbers.extend([scenarios.exceeds(1..7, 300.0), scenarios.excess(1..7, 300.0)]);
        numbers.extend(rolling(&[Asked { series, walk, events }], &question, &[ORIGIN]).concat());
    }
    let wrong = numbers.iter().find(|number| !number.is_finite() || **number < 0.0);
    assert_eq!(wrong, None, "of {} numbers", numbers.len());
    numbers.into_iter().map(f64::to_bits).collect()
}

#[test]
fn nothing_depends_on_what_lies_after_the_origin() {
    for seed in 0..6 {
        let series = load(seed);
        let honest = said(&series, ORIGIN);
        let mut other = series.clone();
        other.cut(ORIGIN);
        assert_eq!(said(&other, ORIGIN), honest, "seed {seed}: without a future");
        let mut rng = fastrand::Rng::with_seed(seed);
        for hour in ORIGIN..START + HOURS {
            other.set(hour, rng.f64() * 10_000.0).unwrap();
        }
        assert_eq!(said(&other, ORIGIN), honest, "seed {seed}: with another future");
        assert_eq!(said(&other, START + HOURS), honest, "seed {seed}: walked on into that future");
    }
}

/// Events of two kinds all over the time, as one who knows only what is announced until `known` has them.
fn events(seed: u64, known: std::ops::RangeInclusive<i64>) -> Vec<Event> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let event = |_| {
        let from = rng.i64(START..START + HOURS);
        let (kind, entities) = (["sale", "launch"][rng.usize(..2)], ["one", "*"][rng.usize(..2)]);
        // Some are announced before, some while they are on, some long after.
        let announced = from + rng.i64(-72..240);
        let (kind, entities) = (kind.to_owned(), entities.to_owned());
        Event { kind, entities, from, to: from + rng.i64(1..60), announced }
    };
    (0..40).map(event).filter(|event| known.contains(&event.announced)).collect()
}

/// Every number that is said of the first series at the origin, with these events.
fn said_with(events: &[Event], all: &[Series; 2], last: i64) -> Vec<u64> {
    let mut calendar = Calendar::default();
    events.iter().for_each(|event| calendar.add(event).expect("an event"));
    let observed =
        ["one", "two"].iter().zip(all).map(|(name, series)| Observed::new(series, calendar.of(name)));
    let effects = Effects::pool(observed.collect());
    let walk = |model: &&dyn Model| Walk::run(&Adjusted(*model), &all[0], &effects.of(0), plan(last));
    let mut walks: Vec<Walk> = MODELS.iter().map(walk).collect();
    walks.push(auto::walk_with_events(&auto::LIGHT, &all[0], effects.of(0), plan(last)));
    let mut numbers = numbers(&all[0], &walks, Some(effects.of(0)));
    let without = effects.of(0).without(&all[0], ORIGIN);
    numbers.extend((START..ORIGIN).map(|hour| u64::from(without.at(hour).to_bits())));
    numbers
        .extend((ORIGIN..START + HOURS).map(|hour| u64::from(effects.of(0).effect(hour, ORIGIN).to_bits())));
    numbers
}

#[test]
fn nothing_depends_on_events_that_are_announced_after_the_origin() {
    for seed in 0..6 {
        let all = [load(seed), load(seed + 100)];
        let known = events(seed, i64::MIN..=ORIGIN);
        assert!(known.iter().any(|event| event.from < event.announced), "seed {seed}: late announcements");
        let honest = said_with(&known, &all, ORIGIN);
        let mut more = events(seed, ORIGIN + 1..=i64::MAX);
        more.extend(events(seed + 50, i64::MIN..=i64::MAX).into_iter().map(|mut event| {
            // Of the past too: what happened is told after the origin.
            event.announced = ORIGIN + 1 + event.announced.rem_euclid(100);
            event
        }));
        more.extend(known.iter().cloned());
        assert_eq!(said_with(&more, &all, ORIGIN), honest, "seed {seed}: with later announcements");
        let mut rng = fastrand::Rng::with_seed(seed);
        let others = all.clone().map(|mut series| {
            (ORIGIN..START + HOURS).for_each(|hour| series.set(hour, rng.f64() * 10_000.0).unwrap());
            series
        });
        assert_eq!(said_with(&more, &others, ORIGIN), honest, "seed {seed}: with another future");
        assert_eq!(said_with(&more, &others, START + HOURS), honest, "seed {seed}: walked on into it");
        more.iter_mut().for_each(|event| event.announced = event.announced.min(ORIGIN));
        assert_ne!(said_with(&more, &all, ORIGIN), honest, "seed {seed}: announced in time, they matter");
    }
}

#[test]
fn the_past_does_matter() {
    let series = load(1);
    let mut other = series.clone();
    other.set(ORIGIN - 1, 50_000.0).unwrap();
    assert_ne!(said(&series, ORIGIN), said(&other, ORIGIN));
}

#[test]
fn the_same_series_gives_the_same_bytes() {
    assert_eq!(said(&load(7), ORIGIN), said(&load(7), ORIGIN));
}

#[test]
fn degenerate_series_give_finite_answers() {
    type Load = fn(i64) -> f64;
    let series: [(&str, Load); 9] = [
        ("all zero", |_| 0.0),
        ("constant", |_| 42.0),
        ("nothing known", |_| f64::NAN),
        ("one point", |hour| if hour == ORIGIN - 5 { 7.0 } else { f64::NAN }),
        ("huge", |_| f64::MAX),
        ("zero, then huge", |hour| if hour < ORIGIN - 3 { 0.0 } else { 1e300 }),
        ("a point a day", |hour| if hour % 24 == 3 { 5.0 } else { f64::NAN }),
        ("a gap of three weeks", |hour| if hour > ORIGIN - 504 { f64::NAN } else { (hour % 24) as f64 }),
        ("not numbers", |hour| if hour % 2 == 0 { f64::INFINITY } else { -1.0 }),
    ];
    for (name, load) in series {
        let mut series = Series::new(START);
        for hour in START..ORIGIN {
            series.set(hour, load(hour)).unwrap();
        }
        assert!(!said(&series, ORIGIN).is_empty(), "{name}");
    }
    assert!(!said(&Series::new(ORIGIN), ORIGIN).is_empty(), "no hour at all");
}

#[test]
fn a_rhythm_is_learnt_by_all_that_can() {
    let mut series = Series::new(START);
    for hour in START..START + HOURS {
        series.set(hour, if hour % 24 == 10 { 1000.0 } else { 10.0 }).unwrap();
    }
    for (model, walk) in MODELS.iter().zip(walks(&series, ORIGIN)) {
        let scenarios = Scenarios::new(&series, &walk, ORIGIN);
        for hour in 0..HORIZON {
            let is = if (ORIGIN + hour as i64) % 24 == 10 { 1000.0 } else { 10.0 };
            let said = scenarios.quantile(hour, 0.5);
            assert!((said / is - 1.0).abs() < 0.25, "{} says {said} of {is}", model.name());
        }
    }
}
