//! Entities that are young at the origin, and the pools that they are forecast from.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use foreshard_forecast::Series;
use foreshard_forecast::scenarios::Scenarios;
use foreshard_forecast::young::{self, AGES, Pool};

use super::given::Given;
use super::table::Table;
use super::work;

/// A pool for each age that is there.
#[derive(Debug, Default)]
pub(crate) struct Youth {
    pools: BTreeMap<usize, Pool>,
}

impl Youth {
    /// Learns from the entities of `table` that are no longer young.
    pub(crate) fn learn(given: &Given, table: &Table, horizon: usize, threads: NonZeroUsize) -> Self {
        let origin = table.end;
        let is_young = |series: &Series| young::share(young::age(series, origin)) > 0.0;
        let ages: BTreeSet<usize> = table
            .entities
            .values()
            .filter(|series| is_young(series))
            .filter_map(|s| bracket(s, origin))
            .collect();
        if ages.is_empty() {
            return Self::default();
        }
        let old = table.entities.values().enumerate().filter(|(_, series)| !is_young(series));
        let donors: Vec<Series> = old.map(|(index, series)| given.ordinary(index, series, origin)).collect();
        let donors: Vec<&Series> = donors.iter().collect();
        let ages: Vec<usize> = ages.into_iter().collect();
        let pools = work::map(&ages, threads, "learning what young entities do, ages", |&age| {
            Some((age, Pool::learn(&donors, origin, age, horizon)?))
        });
        Self { pools: pools.into_iter().flatten().collect() }
    }

    /// What may come of an entity whose `own` methods say so: the younger it is, the more as the pool says.
    pub(crate) fn blend(
        &self,
        given: &Given,
        index: usize,
        series: &Series,
        own: Scenarios,
        origin: i64,
    ) -> Scenarios {
        let age = young::age(series, origin);
        if young::share(age) <= 0.0 {
            return own;
        }
        let series = given.ordinary(index, series, origin);
        let with_events = |said: Scenarios| given.with_events(index, said, origin);
        let pool = bracket(&series, origin).and_then(|age| self.pools.get(&age));
        let pooled = pool.and_then(|pool| pool.scenarios(&series)).map(with_events);
        let days = young::days(&series, origin, own.horizon()).map(with_events);
        young::blend(age, pooled, days, own)
    }
}

/// The age of the pool that an entity is forecast from.
fn bracket(series: &Series, origin: i64) -> Option<usize> {
    let age = young::age(series, origin);
    AGES.into_iter().rfind(|&bracket| bracket <= age)
}
