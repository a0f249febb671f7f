//! Partitions that split ahead of their growth and merge behind it: what the last plan asks for, one change at a time.

use foreshard_engine::ids::{PartitionId, ReshapeId, ShardId};
use foreshard_engine::shard::reshape::progress::{Order, Phase, ReshapeStatus};
use foreshard_engine::table::Home;
use foreshard_engine::{Result, block_on};
use foreshard_placement::growth::{self, Growth};
use foreshard_placement::{Plan, Snapshot};

use super::mind::Mind;

const DAY_HOURS: i64 = 24;
/// A partition that was measured in fewer hours is not known.
const MEASURED_MIN: usize = 6;
/// Changes that are remembered.
const KEPT_MAX: usize = 100;

/// A change of partitions that was begun.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) id: ReshapeId,
    pub(super) hour: i64,
    pub(super) why: String,
    /// Of what is under way, nothing.
    pub(super) ended: Option<&'static str>,
}

impl Mind {
    /// What is to be done about partitions when `plan` is carried out; nothing where the policy has them stay as they are.
    pub(super) fn growth(&self, snapshot: &Snapshot, plan: &Plan) -> Vec<Growth> {
        let Some(policy) = self.settings.growth() else { return Vec::new() };
        let index = |id: PartitionId| snapshot.partitions.iter().position(|one| one.id == id.0);
        let mut homes = self.image.homes().to_vec();
        homes.sort_by_key(|home| home.start);
        let beside = homes.windows(2).filter(|pair| pair[0].shard == pair[1].shard);
        // What nobody has measured for some hours is not known to be cold.
        let is_measured = |pair: &&[Home]| {
            let of = |home: &Home| {
                self.busiest_hour(home.partition).map(|load| load / self.capacity(home.partition))
            };
            let together = of(&pair[0]).zip(of(&pair[1])).map(|(a, b)| a + b);
            together.is_some_and(|busiest| busiest <= policy.merge_below)
        };
        let neighbours: Vec<(usize, usize)> = beside
            .filter(is_measured)
            .filter_map(|pair| Some((index(pair[0].partition)?, index(pair[1].partition)?)))
            .collect();
        let hour = self.history.hour();
        let may_change = |partition: usize| {
            let changed = self.changed.get(&snapshot.partitions[partition].id);
            changed.is_none_or(|changed| hour >= changed + self.settings.rest_hours.max(1))
        };
        let mut found = growth::growth(snapshot, plan, &neighbours, may_change, &policy);
        // Where capacity is a part of the core's, half a partition has half as much.
        found.retain(|one| match one {
            Growth::Split { partition, .. } => {
                self.has_own_capacity(PartitionId(snapshot.partitions[*partition].id))
            }
            Growth::Merge { .. } | Growth::Alone { .. } => true,
        });
        found
    }

    /// The busiest of the last day's hours that a partition was measured in; none if those are few.
    fn busiest_hour(&self, id: PartitionId) -> Option<f64> {
        let (hour, series) = (self.history.hour(), self.history.load(id.0)?);
        let known: Vec<f64> = (hour - DAY_HOURS..hour).filter_map(|hour| series.load(hour)).collect();
        (known.len() >= MEASURED_MIN).then(|| known.into_iter().fold(0.0, f64::max))
    }

    /// Begins the most urgent change that the last plan asks for, when none is under way.
    pub(super) fn grow(&mut self) -> Result<()> {
        self.watch_changes()?;
        if self.memory.paused || self.changes.iter().any(|change| change.ended.is_none()) {
            return Ok(());
        }
        // They would wait for moves, and moves for them.
        let moving: Vec<u32> = self.ledger.open().flat_map(|entry| [entry.from, entry.to]).collect();
        let hour = self.history.hour();
        let Some(made) = self.made.as_mut().filter(|made| made.hour == hour) else { return Ok(()) };
        let is_free = |index: &usize| !moving.contains(&made.snapshot.partitions[*index].id);
        let may_begin = |one: &Growth| match one {
            Growth::Split { partition, .. } => is_free(partition),
            Growth::Merge { into, from, .. } => is_free(into) && is_free(from),
            Growth::Alone { .. } => false,
        };
        let Some(at) = made.growth.iter().position(may_begin) else { return Ok(()) };
        // The next plan sees what became of it.
        let wanted = made.growth.remove(at);
        made.growth.retain(|one| matches!(one, Growth::Alone { .. }));
        let id = |index: usize| PartitionId(made.snapshot.partitions[index].id);
        let (order, why) = match wanted {
            Growth::Split { partition, needed, overload } => (
                Order::Split { partition: id(partition), at: None },
                format!(
                    "{overload:.2} overloaded hours that no move avoids, from hour {} on",
                    made.hour + i64::try_from(needed).unwrap_or(0)
                ),
            ),
            Growth::Merge { into, from, busiest } => (
                Order::Merge { into: id(into), from: id(from) },
                format!("together they use {:.0} % of one at most", 100.0 * busiest),
            ),
            Growth::Alone { .. } => return Ok(()),
        };
        let begun =
            self.client.on(ShardId(0), move |shard| async move { Ok(shard.begin_reshape(order).await) });
        match block_on(begun)? {
            Ok(id) => {
                tracing::info!("{order}: {why}");
                if self.changes.len() == KEPT_MAX {
                    self.changes.remove(0);
                }
                self.changes.push(Change { id, hour, why: format!("{order}: {why}"), ended: None });
            }
            Err(e) => tracing::warn!("partitions stay as they are: {e}"),
        }
        Ok(())
    }

    /// Notes which changes have ended: their partitions rest.
    fn watch_changes(&mut self) -> Result<()> {
        if self.changes.iter().all(|change| change.ended.is_some()) {
            return Ok(());
        }
        let known: Vec<ReshapeStatus> = self.of_all_shards(|shard| shard.reshapes())?;
        let hour = self.history.hour();
        for change in self.changes.iter_mut().filter(|change| change.ended.is_none()) {
            let Some(status) = known.iter().find(|status| status.id == change.id) else {
                change.ended = Some(Phase::Unknown.name());
                continue;
            };
            if status.phase.is_over() {
                change.ended = Some(status.phase.name());
                let concerned = [Some(status.order.partition()), status.made];
                for id in concerned.into_iter().flatten() {
                    self.changed.insert(id.0, hour);
                    self.history.forget_partition(id.0);
                }
            }
        }
        self.changed.retain(|_, changed| *changed + self.settings.rest_hours.max(1) > hour);
        Ok(())
    }
}
