//! A plan that was made, and the making: the cluster as the planner knows it, told to `foreshard_placement`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use foreshard_engine::ids::PartitionId;
use foreshard_engine::key::RoutingKey;
use foreshard_engine::{Error, block_on};
use foreshard_forecast::store::EntityId;
use foreshard_placement::forecasts::{Forecasts, Subject};
use foreshard_placement::gather::{self, Joining};
use foreshard_placement::growth::Growth;
use foreshard_placement::situation::{self, Band, Placed};
use foreshard_placement::{Hold, Partition, Plan, Snapshot, State};

use super::hours::instant;
use super::mind::{Mind, image};

/// Entities whose size is asked for before a plan, the busiest ones; others have the size they were last said to have.
const SIZES_MAX: usize = 1000;

/// A plan that was made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) hour: i64,
    pub(super) from: Basis,
    pub(super) snapshot: Snapshot,
    pub(super) placed: Vec<Placed>,
    pub(super) plan: Plan,
    pub(super) outlook: Vec<Vec<Band>>,
    pub(super) homeward: Vec<usize>,
    pub(super) joining: Vec<Joining>,
    pub(super) growth: Vec<Growth>,
    pub(super) took: Duration,
}

/// What a plan is made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Basis {
    /// What was foretold.
    Foretold,
    /// That, and what is seen of the hour under way.
    Seen,
}

impl Mind {
    /// Plans, from what is known; within an hour also from what is seen of it.
    ///
    /// # Errors
    /// What the store says.
    pub(super) fn plan(&mut self, from: Basis) -> Result<Made, String> {
        let begin = instant();
        self.image = image(&self.client).map_err(|e| e.to_string())?;
        let placed = self.placed().map_err(|e| e.to_string())?;
        let mut snapshot = situation::snapshot(
            (self.partitions(), &placed),
            &self.forecasts,
            &self.history,
            (self.ledger.wasted(), self.settings.placement()),
        );
        snapshot.left = self.hours.left_of(self.history.hour());
        if from == Basis::Seen {
            let seen = |entity: &foreshard_placement::Entity| {
                self.rule.smoothed.get(&EntityId(entity.id)).copied().unwrap_or(0.0)
            };
            situation::see(&mut snapshot, seen);
        }
        let outlook = situation::outlook(&snapshot);
        let plan = foreshard_placement::plan(&snapshot).map_err(|e| e.to_string())?;
        let mut homeward = situation::homeward(&snapshot, &outlook);
        homeward.retain(|index| self.may_go_home(placed[*index].entity));
        // Who is helped by joining others can wait for the hour's end.
        let joining = if from == Basis::Foretold { gather::gather(&snapshot, &plan) } else { Vec::new() };
        homeward.retain(|index| joining.iter().all(|one| one.entity != *index));
        let growth = self.growth(&snapshot, &plan);
        let (hour, took) = (self.history.hour(), begin.elapsed());
        Ok(Made { hour, from, snapshot, placed, plan, outlook, homeward, joining, growth, took })
    }

    fn partitions(&self) -> Vec<Partition> {
        let one = |id: PartitionId| Partition {
            id: id.0,
            host: 0,
            capacity: [self.capacity(id), f64::INFINITY, f64::INFINITY],
            share: self.share(id),
            burst: self.spread(Subject::Rest(id.0)),
            state: State::Serving,
            distance: 0.0,
            penalty: self.penalty(id),
        };
        self.partition_ids().into_iter().map(one).collect()
    }

    /// The entities that a plan is about.
    fn placed(&mut self) -> Result<Vec<Placed>, Error> {
        let index: BTreeMap<PartitionId, usize> =
            self.partition_ids().into_iter().enumerate().map(|(n, id)| (id, n)).collect();
        let mut busiest: Vec<(f64, EntityId)> = Vec::new();
        for entity in self.history.entities() {
            let paths = self.forecasts.paths(Subject::Entity(entity));
            let load = paths.map_or(0.0, |paths| f64::from(paths.mean(0, Forecasts::shape())));
            busiest.push((load, entity));
        }
        busiest.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let known: BTreeSet<EntityId> = busiest.iter().map(|one| one.1).collect();
        self.sizes.retain(|entity, _| known.contains(entity));
        let open: BTreeMap<EntityId, PartitionId> =
            self.ledger.open().map(|entry| (entry.entity, PartitionId(entry.to))).collect();
        let mut placed = Vec::with_capacity(busiest.len());
        for (rank, (_, entity)) in busiest.into_iter().enumerate() {
            let Some(name) = self.history.name(entity).map(<[u8]>::to_vec) else { continue };
            // Who is under way is where it will be.
            let at = open.get(&entity).copied().or_else(|| self.partition_of(entity));
            let at = at.and_then(|id| index.get(&id));
            let home = index.get(&self.image.home_by_range(RoutingKey(entity.0)).partition);
            let (Some(&at), Some(&home)) = (at, home) else { continue };
            if rank < SIZES_MAX {
                #[expect(clippy::cast_precision_loss, reason = "bytes that are weighed")]
                let bytes = block_on(self.client.stored_bytes(&name))? as f64;
                self.sizes.insert(entity, bytes);
            }
            let bytes = self.sizes.get(&entity).copied().unwrap_or(0.0);
            let hold = self.hold(entity, &name, open.contains_key(&entity));
            let burst = self.spread(Subject::Entity(entity));
            placed.push(Placed { entity, at, home, bytes, burst, hold });
        }
        Ok(placed)
    }

    fn hold(&self, entity: EntityId, name: &[u8], is_open: bool) -> Option<Hold> {
        if let Some(held) = std::str::from_utf8(name).ok().and_then(|name| self.memory.held.get(name)) {
            return Some((*held).into());
        }
        if is_open {
            return Some(Hold::Moving);
        }
        let until = self.rests_until(entity)?;
        (until > self.history.hour()).then_some(Hold::Resting { until })
    }

    /// Until which hour an entity rests, that has moved.
    pub(super) fn rests_until(&self, entity: EntityId) -> Option<i64> {
        let returned = self.returned.get(&entity).map(|hour| hour + self.settings.back_rest_hours.max(1));
        self.moved.get(&entity).map(|hour| hour + self.settings.rest_hours.max(1)).max(returned)
    }

    /// Whether a guest has been away long enough to go home.
    fn may_go_home(&self, entity: EntityId) -> bool {
        self.moved.get(&entity).is_none_or(|moved| self.history.hour() >= moved + self.settings.home_hours)
    }
}
