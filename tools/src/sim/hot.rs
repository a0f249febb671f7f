//! How well hot partitions are told hours ahead, before any policy has moved anything.
//!
//! A partition is hot in an hour in which its entities, all at home, have more to do than it can. The forecast ranks partition-hours by
//! the part of paths that are hot. The seasonal-naive rule takes whatever was hot a day before. As each alarm costs a move, both
//! are judged by the same number of alarms: as many as the rule raises.
//!
//! Invariant: an alarm rests on hours that lie at least [`LEAD`] before the one that it is about.

use std::num::NonZeroUsize;

use foreshard_placement::sim::{Foresee, World};
use serde::Serialize;

use super::fleet::Fleet;
use super::foresight::Known;
use crate::forecast::work;

/// Whole hours between what is known and the hour that an alarm is about.
pub(crate) const LEAD: usize = 6;

/// A partition in an hour: what was foretold of it, and what came.
#[derive(Debug)]
struct Told {
    /// Its load, path by path.
    paths: Vec<f32>,
    day_before: f64,
    /// In the last hour that was known.
    then: f64,
    came: f64,
}

/// All partition-hours that could be told.
#[derive(Debug)]
pub(crate) struct Hot(Vec<Told>);

/// How alarms did.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Alarms {
    /// Part of the alarms that were right.
    pub(crate) precision: f64,
    /// Part of the hot partition-hours that were told.
    pub(crate) recall: f64,
    /// Likewise of those whose partition was not hot when the alarm was raised.
    pub(crate) recall_emerging: f64,
}

/// Both, at one capacity.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Judgement {
    /// Partition-hours that were hot; and of these, whose partition was not when the alarm was raised.
    pub(crate) hot: usize,
    pub(crate) emerging: usize,
    /// Alarms that each raised.
    pub(crate) alarms: usize,
    pub(crate) forecast: Alarms,
    pub(crate) seasonal_naive: Alarms,
}

impl Hot {
    /// Asks the forecasts at every hour.
    pub(crate) fn of(fleet: &Fleet, threads: NonZeroUsize) -> Self {
        let world = &fleet.world;
        let origins: Vec<usize> = (1..world.hours().saturating_sub(LEAD)).collect();
        let told =
            work::map(&origins, threads, "looking for hot partitions", |origin| at(fleet, world, *origin));
        Self(told.into_iter().flatten().collect())
    }

    /// What was hot at a capacity, and who told.
    pub(crate) fn judge(&self, capacity: f64) -> Judgement {
        let is_hot = |load: f64| load > capacity;
        let of_paths = |told: &Told| {
            let over = told.paths.iter().filter(|load| is_hot(f64::from(**load))).count();
            // Among those of which no path is hot, or all are, the higher load is likelier.
            (over, told.paths.iter().map(|load| f64::from(*load)).sum::<f64>())
        };
        let naive: Vec<usize> = (0..self.0.len()).filter(|at| is_hot(self.0[*at].day_before)).collect();
        let mut ranked: Vec<((usize, f64), usize)> = self.0.iter().map(of_paths).zip(0..).collect();
        ranked.sort_by(|(a, i), (b, j)| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)).then(i.cmp(j)));
        let forecast: Vec<usize> = ranked.iter().take(naive.len()).map(|one| one.1).collect();
        let emerges = |told: &Told| is_hot(told.came) && !is_hot(told.then);
        let hot = self.0.iter().filter(|told| is_hot(told.came)).count();
        let emerging = self.0.iter().filter(|told| emerges(told)).count();
        let alarms = |raised: &[usize]| {
            let right = raised.iter().filter(|at| is_hot(self.0[**at].came)).count();
            let ahead = raised.iter().filter(|at| emerges(&self.0[**at])).count();
            Alarms {
                precision: share(right, raised.len()),
                recall: share(right, hot),
                recall_emerging: share(ahead, emerging),
            }
        };
        Judgement {
            hot,
            emerging,
            alarms: naive.len(),
            forecast: alarms(&forecast),
            seasonal_naive: alarms(&naive),
        }
    }
}

/// Every partition in the hour that lies [`LEAD`] after `origin`.
fn at(fleet: &Fleet, world: &World, origin: usize) -> Vec<Told> {
    let known = Known(fleet);
    let shape = known.shape();
    let mut told: Vec<Told> = (0..world.partitions)
        .map(|_| Told { paths: vec![0.0; shape.paths], day_before: 0.0, then: 0.0, came: 0.0 })
        .collect();
    for (entity, home) in world.homes.iter().enumerate() {
        let paths = known.paths(entity, origin);
        let one = &mut told[*home];
        let of_hour = paths.values().iter().skip(LEAD).step_by(shape.hours);
        one.paths.iter_mut().zip(of_hour).for_each(|(sum, load)| *sum += load);
        one.day_before += fleet.day_before(entity, origin + LEAD);
        one.then += f64::from(world.loads[entity][origin - 1]);
        one.came += f64::from(world.loads[entity][origin + LEAD]);
    }
    told
}

#[expect(clippy::cast_precision_loss, reason = "counts of partition-hours")]
fn share(part: usize, all: usize) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(paths: [f32; 2], day_before: f64, then: f64, came: f64) -> Told {
        Told { paths: paths.to_vec(), day_before, then, came }
    }

    #[test]
    fn both_raise_as_many_alarms_and_are_judged_by_what_came() {
        let hot = Hot(vec![
            // Told by the forecast alone, and it emerges.
            told([12.0, 11.0], 5.0, 5.0, 12.0),
            // The day before was hot, this one is not.
            told([8.0, 11.0], 12.0, 5.0, 9.0),
            // Both know, it is hot already.
            told([15.0, 15.0], 15.0, 15.0, 15.0),
            // Nobody knows.
            told([1.0, 1.0], 1.0, 1.0, 20.0),
        ]);
        let judged = hot.judge(10.0);
        assert_eq!((judged.hot, judged.emerging, judged.alarms), (3, 2, 2));
        let third = 1.0 / 3.0;
        let forecast = Alarms { precision: 1.0, recall: 2.0 * third, recall_emerging: 0.5 };
        assert_eq!(judged.forecast, forecast);
        assert_eq!(judged.seasonal_naive, Alarms { precision: 0.5, recall: third, recall_emerging: 0.0 });
    }

    #[test]
    fn where_nothing_is_hot_there_are_no_alarms() {
        let judged = Hot(vec![told([1.0, 2.0], 1.0, 1.0, 1.0)]).judge(10.0);
        assert_eq!((judged.hot, judged.alarms), (0, 0));
        assert_eq!(judged.forecast, Alarms { precision: 0.0, recall: 0.0, recall_emerging: 0.0 });
    }
}
