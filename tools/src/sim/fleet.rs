//! The trace as the modelled cluster's entities.

use foreshard_engine::ids::PartitionId;
use foreshard_engine::key::RoutingKey;
use foreshard_engine::table::State;
use foreshard_forecast::walk::{NoRegressors, Plan, Walk};
use foreshard_forecast::{DAY, Series, auto};
use foreshard_placement::foresight;
use foreshard_placement::sim::{Bursts, Sizes, World};

use super::foresight::HORIZON;
use super::options::Sim;
use crate::forecast::table::Table;
use crate::forecast::work;

/// Days back that an hour that is missing is looked for: what comes in it is as it was then.
const GAP_DAYS_MAX: i64 = 7;

/// Entities in the order of the trace's table.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) series: Vec<Series>,
    pub(crate) walks: Vec<Walk>,
    /// The first simulated hour.
    pub(crate) start: i64,
    /// With flat hours and a capacity of one: cells set their own.
    pub(crate) world: World,
}

impl Fleet {
    pub(crate) fn of(table: &Table, options: &Sim) -> Result<Self, String> {
        let hours = i64::from(options.days) * hours_of(1);
        let start = table.end - hours;
        let first = table.entities.values().map(Series::start).min().unwrap_or(table.end);
        if start - first < hours_of(1) * 7 {
            return Err(format!(
                "{} days are simulated, and a week before them has to be known",
                options.days
            ));
        }
        let series: Vec<Series> = table.entities.values().cloned().collect();
        let memory = i64::try_from(foresight::memory(HORIZON)).unwrap_or(i64::MAX);
        let plan = Plan {
            first: start - memory,
            last: table.end - 1,
            step: 1,
            refit: auto::REFIT,
            horizon: HORIZON,
        };
        let walks = work::map(&series, options.load.threads, "forecasting", |series| {
            auto::walk(&auto::LIGHT, series, &NoRegressors, plan)
        });
        let partitions = usize::from(options.partitions);
        let ranges = State::even_ranges(partitions);
        let sizes = Sizes { median: to_f64(options.median_bytes), ..Sizes::default() };
        let world = World {
            loads: series.iter().map(|series| loads(series, start, table.end)).collect(),
            bytes: sizes.draw(series.len(), options.seed),
            homes: table.entities.keys().map(|name| home(name, &ranges)).collect(),
            partitions,
            capacity: 1.0,
            bursts: Bursts::new(0.0, options.seed),
            copy_bytes_per_s: to_f64(options.copy_rate),
            copy_share: options.copy_share / 100.0,
        };
        Ok(Self { series, walks, start, world })
    }
}

impl Fleet {
    /// The load of a simulated hour's day before.
    pub(crate) fn day_before(&self, entity: usize, hour: usize) -> f64 {
        let hour = self.start + i64::try_from(hour).unwrap_or(i64::MAX - self.start) - hours_of(1);
        f64::from(loads(&self.series[entity], hour, hour + 1).first().copied().unwrap_or(0.0))
    }
}

/// What comes in each hour. A gap is no hour without load: the same hour of a day before stands in for it.
#[expect(clippy::cast_possible_truncation, reason = "the precision of loads")]
fn loads(series: &Series, start: i64, end: i64) -> Vec<f32> {
    let at = |hour: i64| {
        (0..=GAP_DAYS_MAX)
            .find_map(|days| series.load(hour - days * hours_of(1)))
            .map_or(0.0, |load| load as f32)
    };
    (start..end).map(at).collect()
}

/// Which of the ranges, by their first routing keys, an entity is at home in.
fn home(name: &str, ranges: &[(PartitionId, u64)]) -> usize {
    let key = RoutingKey::of(name.as_bytes());
    ranges.partition_point(|(_, start)| *start <= key.0) - 1
}

fn hours_of(days: i64) -> i64 {
    days * i64::try_from(DAY).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a model")]
const fn to_f64(bytes: u64) -> f64 {
    bytes as f64
}
