//! What partitions can do: as it is set, or as it is learnt, and less while their shard answers more slowly than it used to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use foreshard_engine::ids::{PartitionId, ShardId};
use foreshard_engine::shard::capacity::Capacities;
use foreshard_engine::wal::Flushes;
use foreshard_engine::{Error, block_on};
use foreshard_placement::delay::Delay;
use foreshard_placement::history::Counted;

use super::hours::instant;
use super::mind::{FADING, Mind};

/// Part of a core that is planned to be used, where capacity is learnt.
const CORE_SHARE: f64 = 0.8;
/// What fewer requests cost says little.
const REQUESTS_MIN: f64 = 1000.0;
/// What a request is taken to cost before any was timed.
const REQUEST_NANOS: f64 = 20_000.0;

/// How shards answer is looked at no more often, however short the hours of a replay are: a stall of the device is shorter than
/// most of a window. Hours of a second or two are too short to tell what is usual.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is known of it.
#[derive(Debug)]
pub(super) struct Capacity {
    /// Nanoseconds of a core for a request.
    request_nanos: f64,
    /// What partitions may do, where that is set, and what a request costs of it, thousandths of a unit.
    set: Capacities,
    request_cost: f64,
    /// How shards answer.
    shards: BTreeMap<ShardId, Answers>,
}

/// How a shard answers.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// From a question to the moment it is begun with: what is before it on that core.
    pub(super) queue: Delay,
    /// What a flush of the log takes, by the mean of a tick.
    pub(super) log: Delay,
    /// Flushes that were seen so far.
    flushes: Flushes,
    looked: Option<Instant>,
}

impl Answers {
    fn take(&mut self, waited: Duration, flushes: Flushes) {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(instant());
        self.queue.take(waited.as_secs_f64());
        let (count, nanos) = (flushes.count - self.flushes.count, flushes.nanos - self.flushes.nanos);
        if count > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a tick's flushes")]
            self.log.take(nanos as f64 / 1e9 / count as f64);
        }
        self.flushes = flushes;
    }

    /// Part of its capacity that the shard has.
    pub(super) fn share(&self) -> f64 {
        self.queue.share().min(self.log.share())
    }
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            request_nanos: REQUEST_NANOS,
            set: Capacities::default(),
            request_cost: REQUEST_NANOS,
            shards: BTreeMap::new(),
        }
    }
}

impl Mind {
    /// What a partition can do as its shard is, requests a second.
    pub(super) fn capacity(&self, id: PartitionId) -> f64 {
        self.whole_capacity(id) * self.share(id)
    }

    /// Of what a partition could do, the part that its shard leaves of it: 1, but where that answers more slowly than it used to.
    pub(super) fn share(&self, id: PartitionId) -> f64 {
        self.answers_of(id).map_or(1.0, |(_, answers)| answers.share())
    }

    /// How a partition's shard answers.
    pub(super) fn answers_of(&self, id: PartitionId) -> Option<(ShardId, &Answers)> {
        let shard = self.image.place_of(id)?.shard;
        Some((shard, self.capacity.shards.get(&shard)?))
    }

    /// How shards answer.
    pub(super) fn answers(&self) -> impl Iterator<Item = (ShardId, &Answers)> {
        self.capacity.shards.iter().map(|(shard, answers)| (*shard, answers))
    }

    /// An hour is over.
    pub(super) fn end_hour_of_answers(&mut self) {
        for answers in self.capacity.shards.values_mut() {
            answers.queue.end_hour();
            answers.log.end_hour();
        }
    }

    fn whole_capacity(&self, id: PartitionId) -> f64 {
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

    /// What is set, what a request costs of that, and how shards answer.
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    pub(super) fn learn_capacities(&mut self) -> Result<(), Error> {
        let (mut rows, mut spent) = (0.0, 0.0);
        for id in self.client.shards() {
            let asked = instant();
            let told = self.client.on(id, move |shard| async move {
                let waited = asked.elapsed();
                Ok((waited, shard.log_flushes(), shard.capacities(), shard.capacity_totals()))
            });
            let (waited, flushes, set, totals) = block_on(told)?;
            self.capacity.shards.entry(id).or_default().take(waited, flushes);
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
