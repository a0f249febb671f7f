//! What events did to entities, and what they are expected to do.

use std::collections::BTreeMap;

use super::calendar::{Dates, Place};
use crate::measures::weighted_median;
use crate::series::{DAY, to_load};
use crate::walk::Regressors;
use crate::{Climatology, Series, narrow};

/// Days before an hour that say what it would have been without the event.
const ORDINARY_DAYS: usize = 28;
/// With fewer of them known, an hour of an event teaches nothing.
const ORDINARY_DAYS_MIN: usize = 3;
/// So many events of an entity's own weigh as much as the pool.
const POOL_EVENTS: f64 = 2.0;
/// The pool is drawn towards no effect, as if an entity with many events had had so much of it.
const POOL_DOUBT: f64 = 0.1;

/// What events did to one entity.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Observed {
    dates: Dates,
    seen: Vec<Seen>,
}

/// The effect of an event on one hour.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Seen {
    place: Place,
    /// Both the hour and the event are known when this hour begins.
    known: i64,
    effect: f32,
}

impl Observed {
    /// Compares the hours of the events with the same hours of ordinary days before.
    ///
    /// An hour on which several events act teaches nothing: whose effect it is cannot be told. What is announced after an
    /// hour taught something does not change what it taught.
    #[must_use]
    pub fn new(series: &Series, dates: Dates) -> Self {
        let mut seen = Vec::new();
        for hour in dates.hours() {
            let value = series.at(hour);
            let known = dates.announced(hour).max(hour.saturating_add(1));
            let mut places = Vec::new();
            dates.acting(hour, known, |place| places.push(place));
            if let ([place], Some(ordinary)) = (places.as_slice(), ordinary(series, &dates, hour, known))
                && !value.is_nan()
            {
                seen.push(Seen { place: *place, known, effect: value - ordinary });
            }
        }
        Self { dates, seen }
    }
}

/// What the hour would have been without events: as days before were on which none acted, recent ones and the same
/// weekday first.
fn ordinary(series: &Series, dates: &Dates, hour: i64, known_at: i64) -> Option<f32> {
    let mut days = Vec::with_capacity(ORDINARY_DAYS);
    for day in 1..=ORDINARY_DAYS {
        let earlier = hour - (day * DAY) as i64;
        let value = series.at(earlier);
        let mut is_ordinary = !value.is_nan();
        dates.acting(earlier, known_at, |_| is_ordinary = false);
        if is_ordinary {
            days.push((value, Climatology::FADING.weight(day) as f32));
        }
    }
    if days.len() < ORDINARY_DAYS_MIN {
        return None;
    }
    weighted_median(&mut days)
}

/// What events are expected to do, as known at any hour.
#[derive(Clone, Debug)]
pub struct Effects {
    /// By place, then by the hour from which it is so.
    pooled: Vec<(Place, i64, Pooled)>,
    entities: Vec<Own>,
}

/// The mean effect over entities.
#[derive(Clone, Copy, Debug, Default)]
struct Pooled {
    effect: f32,
    entities: usize,
}

/// An entity's events, and what they did so far.
#[derive(Clone, Debug)]
struct Own {
    dates: Dates,
    /// By place, then by the hour from which it is so: how many events, and the sum of their effects.
    sums: Vec<(Place, i64, Sum)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    count: f64,
    effect: f64,
}

impl Effects {
    /// Pools what was observed, entity by entity.
    #[must_use]
    pub fn pool(observed: Vec<Observed>) -> Self {
        let mut seen: Vec<(i64, usize, Seen)> = Vec::new();
        for (entity, observed) in observed.iter().enumerate() {
            seen.extend(observed.seen.iter().map(|&seen| (seen.known, entity, seen)));
        }
        // Stable, so that sums do not depend on anything but the input.
        seen.sort_by_key(|&(known, entity, seen)| (seen.place, known, entity));
        let mut pooled = Vec::new();
        for of_place in seen.chunk_by(|a, b| a.2.place == b.2.place) {
            let mut of_entity: BTreeMap<usize, Sum> = BTreeMap::new();
            let mut pool = Sum::default();
            for &(known, entity, Seen { place, effect, .. }) in of_place {
                let sum = of_entity.entry(entity).or_default();
                pool.take(sum, -1.0);
                sum.count += 1.0;
                sum.effect += f64::from(effect);
                pool.take(sum, 1.0);
                let effect = narrow(pool.effect / (pool.count + POOL_DOUBT));
                pooled.push((place, known, Pooled { effect, entities: of_entity.len() }));
            }
        }
        let entities = observed.into_iter().map(Own::new).collect();
        Self { pooled, entities }
    }

    /// Those on the entity of this index.
    ///
    /// # Panics
    /// When fewer entities were pooled.
    #[must_use]
    pub fn of(&self, entity: usize) -> EffectsOf<'_> {
        EffectsOf { effects: self, own: &self.entities[entity] }
    }

    /// No effect, of no entity, when none was observed by then.
    fn pooled(&self, place: Place, known_at: i64) -> Pooled {
        let end = self.pooled.partition_point(|known| (known.0, known.1) <= (place, known_at));
        self.pooled[..end].last().filter(|last| last.0 == place).map_or(Pooled::default(), |last| last.2)
    }
}

impl Sum {
    /// An entity's mean counts the more, the more events it rests on, and no entity counts as more than one.
    fn take(&mut self, entity: &Self, sign: f64) {
        if entity.count > 0.0 {
            let weight = entity.count / (entity.count + POOL_EVENTS);
            self.count += sign * weight;
            self.effect += sign * weight * entity.effect / entity.count;
        }
    }
}

impl Own {
    fn new(observed: Observed) -> Self {
        let Observed { dates, mut seen } = observed;
        seen.sort_by_key(|seen| (seen.place, seen.known));
        let mut sums: Vec<(Place, i64, Sum)> = Vec::with_capacity(seen.len());
        for Seen { place, known, effect } in seen {
            let before = sums.last().filter(|last| last.0 == place).map_or(Sum::default(), |last| last.2);
            let sum = Sum { count: before.count + 1.0, effect: before.effect + f64::from(effect) };
            sums.push((place, known, sum));
        }
        Self { dates, sums }
    }

    fn sum(&self, place: Place, known_at: i64) -> Sum {
        let end = self.sums.partition_point(|known| (known.0, known.1) <= (place, known_at));
        self.sums[..end].last().filter(|last| last.0 == place).map_or(Sum::default(), |last| last.2)
    }
}

/// What events are expected to do to one entity: as a regressor, the effect on the log scale.
#[derive(Clone, Copy, Debug)]
pub struct EffectsOf<'a> {
    effects: &'a Effects,
    own: &'a Own,
}

impl EffectsOf<'_> {
    /// What is expected of the events of an hour, as known when `known_at` began; zero without events.
    #[must_use]
    pub fn effect(&self, hour: i64, known_at: i64) -> f32 {
        let mut effect = 0.0;
        self.own.dates.acting(hour, known_at, |place| {
            let own = self.own.sum(place, known_at);
            let pooled = POOL_EVENTS * f64::from(self.effects.pooled(place, known_at).effect);
            effect += narrow((own.effect + pooled) / (own.count + POOL_EVENTS));
        });
        effect
    }

    /// From how many entities' events it is known what those of an hour do; zero without events.
    #[must_use]
    pub fn learnt_from(&self, hour: i64, known_at: i64) -> usize {
        let mut fewest: Option<usize> = None;
        self.own.dates.acting(hour, known_at, |place| {
            let entities = self.effects.pooled(place, known_at).entities;
            fewest = Some(fewest.map_or(entities, |fewest| fewest.min(entities)));
        });
        fewest.unwrap_or(0)
    }

    /// The series up to `known_at` as if there had been no events.
    #[must_use]
    pub fn without(&self, series: &Series, known_at: i64) -> Series {
        let mut other = series.clone();
        other.cut(known_at);
        for hour in self.own.dates.hours() {
            let value = other.at(hour);
            if !value.is_nan() {
                // An hour that the series has.
                let _infallible = other.set(hour, to_load(value - self.effect(hour, known_at)));
            }
        }
        other
    }

    /// The events.
    #[must_use]
    pub const fn dates(&self) -> &Dates {
        &self.own.dates
    }
}

impl Regressors for EffectsOf<'_> {
    fn columns(&self) -> usize {
        usize::from(!self.own.dates.is_empty())
    }

    fn row(&self, hour: i64, known_at: i64, row: &mut [f32]) {
        row.fill(self.effect(hour, known_at));
    }
}
