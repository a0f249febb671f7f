//! What partitions can do: as it is set, or as it is learnt.

use foreshard_engine::Error;
use foreshard_engine::ids::PartitionId;
use foreshard_engine::shard::capacity::Capacities;
use foreshard_placement::history::Counted;

use super::mind::{FADING, Mind};

/// Part of a core that is planned to be used, where capacity is learnt.
const CORE_SHARE: f64 = 0.8;
/// What fewer requests cost says little.
const REQUESTS_MIN: f64 = 1000.0;
/// What a request is taken to cost before any was timed.
const REQUEST_NANOS: f64 = 20_000.0;

/// What is known of it.
#[derive(Debug)]
pub(super) struct Capacity {
    /// Nanoseconds of a core for a request.
    request_nanos: f64,
    /// What partitions may do, where that is set, and what a request costs of it, thousandths of a unit.
    set: Capacities,
    request_cost: f64,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { request_nanos: REQUEST_NANOS, set: Capacities::default(), request_cost: REQUEST_NANOS }
    }
}

impl Mind {
    /// What a partition can do, requests a second.
    pub(super) fn capacity(&self, id: PartitionId) -> f64 {
        if self.settings.capacity > 0.0 {
            return self.settings.capacity;
        }
        if let Some(units) = self.capacity.set.of_partition(id) {
            return units * 1000.0 / self.capacity.request_cost;
        }
        let shard = self.image.place_of(id).map(|home| home.shard);
        let homes = self.image.state().partitions.values();
        let together = homes.filter(|entry| Some(entry.placed.shard) == shard).count().max(1);
        CORE_SHARE * 1e9 / self.capacity.request_nanos / together as f64
    }

    /// Whether what a partition can do is its own, and no part of what its core can.
    pub(super) fn has_own_capacity(&self, id: PartitionId) -> bool {
        self.settings.capacity > 0.0 || self.capacity.set.of_partition(id).is_some()
    }

    /// What is set, and what a request costs of that.
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    pub(super) fn learn_capacities(&mut self) -> Result<(), Error> {
        let asked = self.of_all_shards(|shard| vec![(shard.capacities(), shard.capacity_totals())])?;
        let (mut rows, mut spent) = (0.0, 0.0);
        for (set, totals) in asked {
            (rows, spent) =
                (rows + (totals.work.reads + totals.work.writes) as f64, spent + totals.spent_on_rows as f64);
            self.capacity.set = set;
        }
        if rows > REQUESTS_MIN {
            self.capacity.request_cost = spent / rows;
        }
        Ok(())
    }

    /// What a request costs, by the hour that ends.
    pub(super) fn learn_cost(&mut self) {
        let all = self.partition_ids().into_iter().map(|id| self.history.counted_of_partition(id.0));
        let sum = all.fold(Counted::default(), |mut sum, counted| {
            sum.add(&counted);
            sum
        });
        if sum.requests() > REQUESTS_MIN && sum.service_nanos > 0.0 {
            let nanos = sum.service_nanos / sum.requests();
            self.capacity.request_nanos = FADING * self.capacity.request_nanos + (1.0 - FADING) * nanos;
        }
    }
}
