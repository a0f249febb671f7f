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
/// Of what is too much or too little outside of an interval, a day corrects this part: with less, intervals are late for
/// longer; with all of it, they follow single days. Chosen on days before the last 42 of two traces, by pinball loss among
/// those whose intervals held.
const CORRECTED: f64 = 0.6;

/// A central interval whose width follows what fell outside of it.
#[derive(Clone, Copy, Debug)]
struct Interval {
    /// The share that belongs outside.
    outside: f64,
}

/// From the inner to the outer. Each has a width of its own, as tails become heavier when the middle does not.
const INTERVALS: [Interval; 2] = [Interval { outside: 0.2 }, Interval { outside: 0.05 }];

impl Interval {
    /// Of its upper bound, as a logarithm.
    fn odds(self) -> f64 {
        (2.0 / self.outside - 1.0).ln()
    }

    /// By how much all hours outside would widen it in a day. Of shares that are right, `outside * (1 - outside / 2) * odds`
    /// less fall outside for each unit of width: the slope of a logistic function at both bounds.
    fn rate(self) -> f64 {
        CORRECTED / (self.outside * (1.0 - self.outside / 2.0) * self.odds())
    }
}

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
    /// How much wider than the map's the [`INTERVALS`] are, as the logarithm of a factor of log odds.
    widths: [f64; INTERVALS.len()],
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
        Self {
            days: days
                .into_iter()
                .map(|places| Day { map: map(places), widths: Default::default() })
                .collect(),
        }
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
        let at = self.wider(at);
        if self.map.is_empty() { at } else { between(&self.map, at) }
    }

    /// The share that stands for `at` in intervals of these widths: log odds are stretched so that the bounds of each
    /// interval go as far as its width says, what lies between in proportion, and what lies outside as the outermost.
    fn wider(&self, at: f64) -> f64 {
        let odds = (at / (1.0 - at)).ln();
        if !odds.is_finite() {
            return at;
        }
        let (mut low, mut stretched_low, mut stretched) = (0.0, 0.0, odds.abs());
        for (interval, width) in INTERVALS.iter().zip(&self.widths) {
            let high = interval.odds();
            let stretched_high = (high * width.exp()).max(stretched_low);
            let slope = (stretched_high - stretched_low) / (high - low);
            stretched = stretched_low + slope * (odds.abs() - low);
            if odds.abs() <= high {
                break;
            }
            (low, stretched_low) = (high, stretched_high);
        }
        1.0 / (1.0 + (-stretched.copysign(odds)).exp())
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
                if index <= ahead {
                    break;
                }
                let then = origin - signed((ahead + 1) * DAY);
                for (which, interval) in INTERVALS.iter().enumerate() {
                    let outside = outside(&used, *interval, then, ahead, fallen);
                    let width = &mut used.days[ahead].widths[which];
                    let wider = outside.map_or(0.0, |outside| interval.rate() * (outside - interval.outside));
                    *width = (*width + wider).clamp(-WIDTH_MAX, WIDTH_MAX);
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
            day.widths = before.widths;
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
fn outside(
    used: &Recalibration,
    interval: Interval,
    origin: i64,
    ahead: usize,
    fallen: &[Fallen],
) -> Option<f64> {
    let hour = ahead * DAY;
    let half = interval.outside / 2.0;
    let inside = used.level(hour, half)..=used.level(hour, 1.0 - half);
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

    /// Twenty entities' places, of which the shares that `tails` says of an origin lie in the outer 5 % and 20 %.
    fn places(first: i64, days: i64, horizon: usize, tails: impl Fn(i64) -> [f64; 2]) -> Vec<Fallen> {
        let mut random = fastrand::Rng::with_seed(9);
        let mut place = |origin: i64| {
            let [outer, inner] = tails(origin);
            let (draw, depth) = (random.f64(), random.f64());
            let distance = match draw {
                _ if draw < outer => 0.025 * depth,
                _ if draw < inner => 0.025 + 0.075 * depth,
                _ => 0.1 + 0.4 * depth,
            };
            narrow(if random.bool() { distance } else { 1.0 - distance })
        };
        let origins = (-30..days).map(|day| first + day * signed(DAY));
        let days: Vec<i64> = origins.collect();
        let entity = |_| Fallen {
            days: days
                .iter()
                .map(|&origin| (origin, (0..horizon).map(|_| place(origin)).collect()))
                .collect(),
        };
        (0..20).map(entity).collect()
    }

    #[test]
    fn outer_intervals_widen_by_themselves_when_only_the_tails_become_heavier() {
        let (first, days) = (500_000, 7);
        let tails = |origin| if origin < first { [0.05, 0.2] } else { [0.12, 0.2] };
        let last = first + (days - 1) * signed(DAY);
        let rolling = Rolling::learn(first, last, DAY, &places(first, days, DAY, tails));
        let [before, after] = [first, last].map(|origin| rolling.at(origin).clone());
        assert!((after.level(0, 0.1) - before.level(0, 0.1)).abs() < 0.02, "the inner one holds as it did");
        assert!(after.level(0, 0.025) < 0.7 * before.level(0, 0.025), "{}", after.level(0, 0.025));
        let levels: Vec<f64> = (0..=1000).map(|at| after.level(0, f64::from(at) / 1000.0)).collect();
        assert!(
            levels.is_sorted() && levels[500] == 0.5,
            "a wider share is a wider interval, around the median"
        );
    }

    #[test]
    fn corrections_that_come_days_late_do_not_swing() {
        let (first, days, horizon) = (500_000, 14, 3 * DAY);
        let tails = |origin| if origin < first { [0.05, 0.2] } else { [0.10, 0.4] };
        let last = first + (days - 1) * signed(DAY);
        let rolling = Rolling::learn(first, last, horizon, &places(first, days, horizon, tails));
        // Of the third day ahead nothing is known for three days. Then a tenth of hours lies below the place of 0.05.
        let at = |day: i64| rolling.at(first + day * signed(DAY)).level(2 * DAY, 0.1);
        let levels: Vec<f64> = (0..days).map(at).collect();
        assert!(levels[..3].iter().all(|&level| level > 0.07), "{levels:?}");
        assert!(levels[5..].iter().all(|level| (0.035..0.07).contains(level)), "{levels:?}");
    }

    #[test]
    fn few_cases_change_nothing() {
        let learnt = Recalibration::learn((0..100).map(|_| (0, 0.99)));
        assert!((learnt.level(0, 0.3) - 0.3).abs() < 1e-12);
        assert!((Recalibration::default().level(900, 0.3) - 0.3).abs() < 1e-12);
    }
}
