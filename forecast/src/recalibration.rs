//! What a forecast's shares were worth: of loads that it said would be exceeded so often, how many were.
//!
//! Where the loads of the past fell among their paths (the randomised probability integral transform) is uniform for a
//! forecast that is right. Where it is not, a share is replaced by the one below which so many did fall: the isotonic map
//! of Kuleshov, Fenner and Ermon ("Accurate Uncertainties for Deep Learning Using Calibrated Regression", ICML 2018), over
//! all entities, learnt every week, a map for each day ahead. A map of three weeks is late when loads change their ways, so
//! that its intervals are also widened after a day that left more than a fifth outside of the 80 % ones, and narrowed after
//! one that left less (adaptive conformal inference: Gibbs and Candès, "Adaptive Conformal Inference Under Distribution
//! Shift", NeurIPS 2021). All entities together show such things within days; a single one would take a year.
//!
//! The median stays where it is.
//!
//! Invariant: what is used at an origin depends on hours before it only.

use crate::events::EffectsOf;
use crate::scenarios::Scenarios;
use crate::series::{DAY, Series, WEEK, to_load};
use crate::walk::{Plan, Walk, signed};
use crate::{auto, narrow};

/// A map is learnt from origins so far back.
const MEMORY: usize = 21 * DAY;
/// A map is used as long.
const PERIOD: usize = WEEK;
/// Entities that places are taken from: the tails of each day ahead rest on hundreds of them, and more learn little.
pub const ENTITIES_MAX: usize = 300;
/// Steps of a map.
const STEPS: usize = 400;
/// With fewer places the tails, a fortieth each, rest on a few cases, and shares are left as they are.
const PLACES_MIN: usize = 2000;
/// Days ahead that have a map of their own; later ones have the last one's.
const DAYS_MAX: usize = 7;
/// The share that the interval leaves outside by which widths are adapted.
const OUTSIDE: f64 = 0.2;
/// By how much a day that left everything outside would widen, in log odds: less was still late after a week, twice that
/// followed single days. Found on days before the last 42 of two traces.
const RATE: f64 = 1.5;
/// Widths stay within a factor of e, in log odds, of the map's.
const WIDTH_MAX: f64 = 1.0;

/// From the share that is asked for to the one that is worth it.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Recalibration {
    /// For each day ahead.
    days: Vec<Day>,
}

#[derive(Clone, PartialEq, Default, Debug)]
struct Day {
    /// Empty when too little was known.
    map: Vec<f32>,
    /// How much wider than the map's, as the logarithm of a factor of log odds.
    width: f64,
}

impl Recalibration {
    /// Learns a map from how far ahead an hour was, and at which place among its paths its load fell, in 0..=1.
    #[must_use]
    pub fn learn(places: impl Iterator<Item = (usize, f64)>) -> Self {
        let mut days: Vec<Vec<f32>> = Vec::new();
        for (hour, place) in places {
            let day = (hour / DAY).min(DAYS_MAX - 1);
            if days.len() <= day {
                days.resize_with(day + 1, Vec::new);
            }
            days[day].push(narrow(place));
        }
        Self { days: days.into_iter().map(|places| Day { map: map(places), width: 0.0 }).collect() }
    }

    /// The share of paths below which the share `at` of loads falls, `hour` hours ahead of the first one.
    #[must_use]
    pub fn level(&self, hour: usize, at: f64) -> f64 {
        let day = (hour / DAY).min(self.days.len().saturating_sub(1));
        self.days.get(day).map_or(at, |day| day.level(at))
    }
}

impl Day {
    fn level(&self, at: f64) -> f64 {
        let odds = at / (1.0 - at);
        let wider = odds.powf(self.width.exp());
        let at = if wider.is_finite() { wider / (1.0 + wider) } else { at };
        if self.map.is_empty() { at } else { between(&self.map, at) }
    }
}

/// What is used at each origin, day by day.
#[derive(Clone, PartialEq, Debug)]
pub struct Rolling {
    start: i64,
    days: Vec<Recalibration>,
}

impl Rolling {
    /// For origins from `first` to `last`, from where the loads of some entities fell before each.
    #[must_use]
    pub fn learn(first: i64, last: i64, horizon: usize, fallen: &[Fallen]) -> Self {
        let start = daily(first, last, horizon).next().unwrap_or(first);
        let mut days: Vec<Recalibration> = Vec::new();
        for (index, origin) in daily(first, last, horizon).enumerate() {
            let is_due = (first - origin).rem_euclid(signed(PERIOD)) == 0;
            let mut used = match days.last() {
                Some(before) if is_due => learn(origin, fallen).with_widths_of(before),
                Some(before) => before.clone(),
                None => Recalibration::default(),
            };
            for ahead in 0..used.days.len() {
                // The latest origin whose hours of that day ahead have passed.
                let Some(passed) = index.checked_sub(ahead + 1) else { break };
                let outside = outside(&days[passed], origin - signed((ahead + 1) * DAY), ahead, fallen);
                if let (Some(outside), Some(day)) = (outside, used.days.get_mut(ahead)) {
                    day.width = (day.width + RATE * (outside - OUTSIDE)).clamp(-WIDTH_MAX, WIDTH_MAX);
                }
            }
            days.push(used);
        }
        Self { start, days }
    }

    /// What was known at `origin`.
    #[must_use]
    pub fn at(&self, origin: i64) -> &Recalibration {
        let day = usize::try_from((origin - self.start).div_euclid(signed(DAY))).unwrap_or(0);
        &self.days[day.min(self.days.len() - 1)]
    }
}

impl Recalibration {
    fn with_widths_of(mut self, other: &Self) -> Self {
        for (day, before) in self.days.iter_mut().zip(&other.days) {
            day.width = before.width;
        }
        self
    }
}

/// A map from the hours that had passed at `origin`.
fn learn(origin: i64, fallen: &[Fallen]) -> Recalibration {
    let days = fallen.iter().flat_map(|entity| &entity.days);
    let places = days.flat_map(|(day, places)| {
        let passed = usize::try_from(origin - day).unwrap_or(0);
        let recent = passed <= MEMORY + places.len();
        places.iter().take(if recent { passed } else { 0 }).enumerate()
    });
    Recalibration::learn(
        places.filter(|place| !place.1.is_nan()).map(|(ahead, place)| (ahead, f64::from(*place))),
    )
}

/// The share of the hours `ahead` days ahead of `origin` that fell outside of the interval; none if none is known.
fn outside(used: &Recalibration, origin: i64, ahead: usize, fallen: &[Fallen]) -> Option<f64> {
    let hour = ahead * DAY;
    let inside = used.level(hour, OUTSIDE / 2.0)..=used.level(hour, 1.0 - OUTSIDE / 2.0);
    let days = fallen.iter().filter_map(|entity| {
        let index = entity.days.binary_search_by_key(&origin, |day| day.0).ok()?;
        Some(entity.days[index].1.iter().skip(hour).take(DAY))
    });
    let known = days.flatten().filter(|place| !place.is_nan());
    let (out, count) = known.fold((0.0, 0.0), |(out, count), &place| {
        (out + f64::from(u8::from(!inside.contains(&f64::from(place)))), count + 1.0)
    });
    (count > 0.0).then(|| out / count)
}

/// Where one entity's loads fell among what was said of them, at a daily origin each.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Fallen {
    /// Origin, and for each hour from there on its place; NaN where the load is not known.
    days: Vec<(i64, Vec<f32>)>,
}

/// The walk that [`Fallen`] needs, for maps that are used from `first` to `last`: error paths come before the origins that
/// are learnt from, and those before the first one that is asked.
#[must_use]
pub fn plan(first: i64, last: i64, horizon: usize) -> Plan {
    auto::plan(daily(first, last, horizon).next().unwrap_or(first), last, horizon)
}

/// The origins that maps are learnt from.
fn daily(first: i64, last: i64, horizon: usize) -> impl Iterator<Item = i64> {
    let before = (MEMORY + horizon).next_multiple_of(DAY);
    (first - signed(before)..=last.max(first)).step_by(DAY)
}

impl Fallen {
    /// Of a walk by [`plan`], which was given the entity's events, if it has any.
    #[must_use]
    pub fn new(
        series: &Series,
        walk: &Walk,
        events: Option<EffectsOf<'_>>,
        first: i64,
        random: &mut fastrand::Rng,
    ) -> Self {
        let Plan { last, horizon, .. } = walk.plan();
        let mut days = Vec::new();
        for origin in daily(first, last, horizon) {
            if walk.path(origin).is_none() {
                continue;
            }
            let scenarios = Scenarios::with_events(series, walk, origin, events);
            let place = |(ahead, hour)| {
                let (was, draw) = (series.at(hour), random.f64());
                if was.is_nan() { f32::NAN } else { narrow(scenarios.place(ahead, to_load(was), draw)) }
            };
            days.push((origin, (origin..).take(horizon).enumerate().map(place).collect()));
        }
        Self { days }
    }
}

fn map(mut places: Vec<f32>) -> Vec<f32> {
    if places.len() < PLACES_MIN {
        return Vec::new();
    }
    places.sort_unstable_by(f32::total_cmp);
    let last = places.len() - 1;
    let mut map: Vec<f32> = (0..=STEPS).map(|step| places[step * last / STEPS]).collect();
    // The middle is moved back, and what lies around it the less the further it is.
    let off = 0.5 - map[STEPS / 2];
    let mut highest = 0.0_f32;
    for (step, level) in map.iter_mut().enumerate() {
        let to_middle = 1.0 - (2.0 * step as f32 / STEPS as f32 - 1.0).abs();
        highest = highest.max((*level + off * to_middle).min(1.0));
        *level = highest;
    }
    map
}

/// On the line between the steps of a map.
fn between(map: &[f32], at: f64) -> f64 {
    let place = at.clamp(0.0, 1.0) * STEPS as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to STEPS")]
    let below = (place as usize).min(STEPS - 1);
    let (low, high) = (f64::from(map[below]), f64::from(map[below + 1]));
    low + (high - low) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_that_hold_twice_what_they_should_are_widened_and_each_day_by_itself() {
        let mut random = fastrand::Rng::with_seed(5);
        let places: Vec<(usize, f64)> = (0..20_000)
            .flat_map(|_| {
                let place = random.f64();
                // The first day is right; of the second, a tenth more falls into the lowest twentieth.
                [(3, place), (30, if random.u8(..) < 26 { place * 0.05 } else { place })]
            })
            .collect();
        let learnt = Recalibration::learn(places.iter().copied());
        for at in [0.025, 0.1, 0.5, 0.9, 0.975] {
            assert!((learnt.level(5, at) - at).abs() < 0.01, "{at}: {}", learnt.level(5, at));
        }
        let below = |at: f64| {
            let of_day = places.iter().filter(|place| place.0 == 30);
            of_day.clone().filter(|place| place.1 < learnt.level(30, at)).count() as f64 / 20_000.0
        };
        assert!((below(0.025) - 0.025).abs() < 0.01 && learnt.level(30, 0.025) < 0.015, "{}", below(0.025));
        assert!((learnt.level(30, 0.5) - 0.5).abs() < 1e-6, "the median stays");
        let levels: Vec<f64> = (0..=100).map(|at| learnt.level(30, f64::from(at) / 100.0)).collect();
        assert!(levels.is_sorted(), "{levels:?}");
    }

    /// A walk that is always right but for noise, and the series, whose noise is three times as large from `wild` on.
    fn noisy(seed: u64, plan: Plan, wild: i64) -> (Series, Walk) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut series = Series::new(plan.first);
        for hour in plan.first..plan.last + 48 {
            let spread = if hour < wild { 0.3 } else { 0.9 };
            series.set(hour, 1000.0 * (spread * (random.f64() - 0.5)).exp()).unwrap();
        }
        let mut walk = Walk::empty(plan);
        plan.origins().for_each(|_| walk.push(&vec![crate::series::to_log(1000.0); plan.horizon]));
        (series, walk)
    }

    #[test]
    fn intervals_widen_within_days_when_loads_change_their_ways_and_never_before() {
        let (first, last, horizon) = (500_000, 500_000 + 20 * 24, 24);
        let wild = first + 7 * 24;
        let plan = plan(first, last, horizon);
        let fallen = |wild| -> Vec<Fallen> {
            let entities = (0..20).map(|seed| (noisy(seed, plan, wild), fastrand::Rng::with_seed(seed)));
            entities
                .map(|((series, walk), mut random)| Fallen::new(&series, &walk, None, first, &mut random))
                .collect()
        };
        let (calm, changed) = (
            Rolling::learn(first, last, horizon, &fallen(i64::MAX)),
            Rolling::learn(first, last, horizon, &fallen(wild)),
        );
        let lower = |rolling: &Rolling, origin| rolling.at(origin).level(0, 0.1);
        assert!((lower(&calm, first) - 0.1).abs() < 0.03, "{}", lower(&calm, first));
        assert_eq!(calm.at(wild), changed.at(wild), "nothing of what had not been");
        assert!(lower(&changed, wild + 4 * 24) < 0.5 * lower(&calm, wild + 4 * 24));
    }

    #[test]
    fn few_cases_change_nothing() {
        let learnt = Recalibration::learn((0..100).map(|_| (0, 0.99)));
        assert!((learnt.level(0, 0.3) - 0.3).abs() < 1e-12);
        assert!((Recalibration::default().level(900, 0.3) - 0.3).abs() < 1e-12);
    }
}
