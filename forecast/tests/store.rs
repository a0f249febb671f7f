//! The store against one that keeps everything: random entities, hours, gaps, promotions and removals.

use std::collections::BTreeMap;

use foreshard_forecast::series::to_load;
use foreshard_forecast::store::{Capacity, ERROR, EntityId, Loads, Metric, Refused, Store};

const CAPACITY: Capacity = Capacity { entities: 12, hourly: 4, hours: 40 };

/// Keeps every hour as it came.
#[derive(Default)]
struct Naive {
    hours: BTreeMap<i64, Loads>,
    is_hourly: bool,
    /// The first hour since its promotion.
    begin: Option<i64>,
    next: i64,
}

impl Naive {
    /// Totals of stored bytes that the store can tell: not the first of all, from which no growth is known.
    fn stored(&self, hour: i64) -> f64 {
        let known = |loads: &Loads| (0.0..=1e18).contains(&loads.get(Metric::StoredBytes));
        let is_first = !self.hours.range(..hour).any(|entry| known(entry.1));
        let total = self.hours.get(&hour).map_or(f64::NAN, |loads| loads.get(Metric::StoredBytes));
        if is_first { f64::NAN } else { total }
    }
}

fn random_load(rng: &mut fastrand::Rng) -> f64 {
    match rng.u8(..12) {
        0 => f64::NAN,
        1 => -1.0,
        2 => f64::INFINITY,
        3 => 0.0,
        4 => 1e18 * rng.f64(),
        _ => 10_f64.powf(9.0 * rng.f64()) - 1.0,
    }
}

fn check(store: &Store, naive: &BTreeMap<u64, Naive>, end: Option<i64>, seed: u64) {
    let hourly = naive.iter().filter(|entry| entry.1.is_hourly);
    let hourly: Vec<EntityId> = hourly.map(|entry| EntityId(*entry.0)).collect();
    assert_eq!(
        store.entities().collect::<Vec<_>>(),
        naive.keys().map(|&id| EntityId(id)).collect::<Vec<_>>()
    );
    assert_eq!(store.hourly().collect::<Vec<_>>(), hourly);
    assert_eq!((store.count(), store.hourly_count(), store.end()), (naive.len(), hourly.len(), end));
    for (&id, model) in naive {
        for metric in Metric::ALL {
            let series = store.series(EntityId(id), metric);
            assert_eq!(series.is_some(), model.is_hourly, "seed {seed}");
            let Some(series) = series else { continue };
            let end = end.unwrap_or(0);
            assert_eq!(series.end(), end, "seed {seed}");
            let begin = model.begin.unwrap_or(end);
            let oldest = begin.max(model.next.saturating_sub(CAPACITY.hours as i64));
            // From the last total, and how far totals moved since.
            let (mut later, mut swing) = ((f64::NAN, 0), 0.0);
            for hour in (oldest..end.max(oldest)).rev() {
                let was = if metric == Metric::StoredBytes {
                    model.stored(hour)
                } else {
                    model.hours.get(&hour).map_or(f64::NAN, |loads| loads.get(metric))
                };
                let is_known = was >= 0.0 && was.is_finite();
                assert_eq!(series.at(hour).is_nan(), !is_known, "seed {seed}, {metric:?} at {hour}: {was}");
                if is_known && metric == Metric::StoredBytes {
                    // Errors of growth add up, going back from the last total.
                    if !later.0.is_nan() {
                        swing += (later.0 - was).abs() + (later.1 - hour) as f64;
                    }
                    later = (was, hour);
                    let error = (to_load(series.at(hour)) - was).abs();
                    let bound = 2.0 * ERROR * swing + 1e-5 * (1.0 + was);
                    assert!(error <= bound, "seed {seed}, hour {hour}: off by {error}, not {bound}");
                } else if is_known {
                    let share = (1.0 + to_load(series.at(hour))) / (1.0 + was) - 1.0;
                    assert!(share.abs() <= 1.1 * ERROR, "seed {seed}, {metric:?} at {hour}: off by {share}");
                }
            }
            assert!((oldest - 50..oldest).all(|hour| series.at(hour).is_nan()), "seed {seed}: older hours");
        }
    }
}

#[test]
fn the_store_says_what_one_that_keeps_everything_says() {
    for seed in 0..30 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut store = Store::new(CAPACITY);
        let mut naive: BTreeMap<u64, Naive> = BTreeMap::new();
        let (mut hour, mut end) = (rng.i64(-500..500_000), None::<i64>);
        for _ in 0..1500 {
            let id = rng.u64(0..20);
            let hourly = naive.values().filter(|model| model.is_hourly).count();
            match rng.u8(..40) {
                0..5 => {
                    let full = naive.len() >= CAPACITY.entities && !naive.contains_key(&id);
                    let expected =
                        if full { Err(Refused::Full { entities: 12 }) } else { Ok(!naive.contains_key(&id)) };
                    assert_eq!(store.add(EntityId(id)), expected, "seed {seed}");
                    if !full {
                        naive.entry(id).or_insert(Naive { next: i64::MIN, ..Naive::default() });
                    }
                }
                5 => assert_eq!(store.remove(EntityId(id)), naive.remove(&id).is_some(), "seed {seed}"),
                6..9 => {
                    let expected = match naive.get_mut(&id) {
                        None => Err(Refused::Unknown { entity: EntityId(id) }),
                        Some(model) if model.is_hourly => Ok(false),
                        Some(_) if hourly >= CAPACITY.hourly => Err(Refused::HourlyFull { hourly: 4 }),
                        Some(model) => {
                            (model.is_hourly, model.begin) = (true, None);
                            Ok(true)
                        }
                    };
                    assert_eq!(store.promote(EntityId(id)), expected, "seed {seed}");
                }
                9 => {
                    let was = naive.get_mut(&id).is_some_and(|model| std::mem::take(&mut model.is_hourly));
                    assert_eq!(store.demote(EntityId(id)), was, "seed {seed}");
                }
                10..18 => hour += if rng.u8(..20) == 0 { rng.i64(1..60) } else { 1 },
                _ => {
                    let loads =
                        Metric::ALL.iter().fold(Loads::UNKNOWN, |l, &m| l.with(m, random_load(&mut rng)));
                    let entity = EntityId(id);
                    let expected = match naive.get_mut(&id) {
                        None => Err(Refused::Unknown { entity }),
                        Some(model) if hour < model.next => {
                            Err(Refused::Late { entity, hour, next: model.next })
                        }
                        Some(model) => {
                            model.hours.insert(hour, loads);
                            model.next = hour + 1;
                            model.begin = model.begin.or(Some(hour));
                            end = Some(end.map_or(hour + 1, |end| end.max(hour + 1)));
                            Ok(())
                        }
                    };
                    assert_eq!(store.record(hour, entity, &loads), expected, "seed {seed}");
                }
            }
            check(&store, &naive, end, seed);
        }
    }
}

#[test]
fn an_hours_growth_is_seen_in_a_total_that_is_a_billion_times_as_large() {
    let mut store = Store::new(CAPACITY);
    let entity = EntityId(1);
    store.add(entity).unwrap();
    store.promote(entity).unwrap();
    let total = |hour: i64| 1e15 + 1e6 * hour as f64;
    for hour in (0..30).filter(|hour| !(10..15).contains(hour)) {
        store.record(hour, entity, &Loads::UNKNOWN.with(Metric::StoredBytes, total(hour))).unwrap();
    }
    let growth = store.growth(entity).unwrap();
    for hour in 1..30 {
        let grown = to_load(growth.grown.at(hour));
        let is_gap = (10..15).contains(&hour);
        assert!(
            if is_gap { growth.grown.at(hour).is_nan() } else { (grown / 1e6 - 1.0).abs() < 1e-3 },
            "{hour}"
        );
    }
    let totals = store.series(entity, Metric::StoredBytes).unwrap();
    assert!((to_load(totals.at(1)) / total(1) - 1.0).abs() < 1e-6);
    let course: Vec<f64> = growth.course(&[2e6, 0.0], &[0.0, 1e15]).collect();
    assert_eq!(course, [total(29) + 2e6, total(29) + 2e6 - 1e15]);
}

#[test]
fn what_is_filled_by_day_and_emptied_by_night_does_not_seem_to_grow() {
    let mut store = Store::new(Capacity { hours: 480, ..CAPACITY });
    let entity = EntityId(1);
    store.add(entity).unwrap();
    store.promote(entity).unwrap();
    for hour in 0..480_i64 {
        let stored = 1e9 * (hour % 24) as f64;
        store.record(hour, entity, &Loads::UNKNOWN.with(Metric::StoredBytes, stored)).unwrap();
    }
    let growth = store.growth(entity).unwrap();
    let of =
        |series: &foreshard_forecast::Series| (456..480).map(|h| to_load(series.at(h))).collect::<Vec<_>>();
    let course: Vec<f64> = growth.course(&of(&growth.grown), &of(&growth.shrunk)).collect();
    for (hour, total) in course.iter().enumerate() {
        let truth = 1e9 * (hour % 24) as f64;
        assert!((total - truth).abs() < 5e7, "hour {hour}: {total}, not {truth}");
    }
}

#[test]
fn what_is_counted_is_what_is_taken() {
    let mut store = Store::new(Capacity { entities: 5000, hourly: 300, hours: 840 });
    for id in 0..5000 {
        store.add(EntityId(id)).unwrap();
    }
    let profiles = store.bytes();
    assert!((5000 * 1024..5000 * 1024 + 5000 * 80).contains(&profiles), "{profiles}");
    for id in 0..300 {
        store.promote(EntityId(id)).unwrap();
    }
    let rings = store.bytes() - profiles;
    assert!((300 * 840 * 12..300 * 840 * 12 + 300 * 100).contains(&rings), "{rings}");
    (0..300).for_each(|id| assert!(store.demote(EntityId(id))));
    assert!(store.bytes() < profiles + 300 * 100, "hours that nobody wants are given back");
}
