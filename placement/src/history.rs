//! What entities and partitions did, hour by hour: where forecasts begin.
//!
//! Counts arrive as they are made and are folded into the hour under way; when it ends they become requests and bytes a second,
//! so that hours of any length, and imported ones, are told alike. Whose hours are kept, [`Tracking`] decides; what a
//! partition did besides is kept as its rest. Which entities are named together is remembered, and forgotten over days.
//!
//! Invariants:
//! - an hour is closed once, after all before it; an hour that nobody counted is a gap;
//! - memory is bounded by the limits of tracking, [`PAIRS_MAX`] and the partitions there are.

use std::collections::BTreeMap;

use foreshard_forecast::Series;
use foreshard_forecast::store::{Capacity, EntityId, Loads, Metric, Refused, Store};
use foreshard_forecast::tracking::{Estimate, Limits, Tracking};

/// Pairs of entities that are remembered: behind them, the least counted go.
pub const PAIRS_MAX: usize = 16_384;
/// Part of what was counted of a pair that an hour leaves of it: half of it is gone after a day.
const PAIR_MEMORY: f64 = 0.971;
/// Entities that are counted in one hour, for each that may be tracked: behind them, the lightest are left out.
const NOW_SHARE: usize = 2;
/// Hours of partitions' loads that are kept.
const PARTITION_HOURS_MAX: i64 = 35 * 24;

/// What was counted, or what an hour had a second.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Counted {
    /// Rows or commands read.
    pub reads: f64,
    /// Rows or commands written.
    pub writes: f64,
    /// Bytes that came in.
    pub bytes_in: f64,
    /// Bytes that went out.
    pub bytes_out: f64,
    /// Nanoseconds of a core.
    pub service_nanos: f64,
}

/// The history.
#[derive(Debug)]
pub struct History {
    store: Store,
    tracking: Tracking,
    limits: Limits,
    names: BTreeMap<EntityId, Box<[u8]>>,
    /// Of the hour under way: what was counted, and by how much too much that may be.
    now: BTreeMap<EntityId, (Counted, f64)>,
    /// The most requests of any that were left out of it, for there were too many.
    left_out_max: f64,
    partitions: BTreeMap<u32, Partition>,
    pairs: BTreeMap<(EntityId, EntityId), f64>,
    hour: i64,
    /// How long the last hour was.
    hour_seconds: f64,
}

#[derive(Debug)]
struct Partition {
    now: Counted,
    /// Requests a second.
    load: Series,
    /// Of entities whose hours are not kept.
    rest: Series,
}

impl Counted {
    /// Requests: what capacity is measured in.
    #[must_use]
    pub fn requests(&self) -> f64 {
        self.reads + self.writes
    }

    /// Adds what was counted elsewhere, or later.
    pub fn add(&mut self, other: &Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.service_nanos += other.service_nanos;
    }

    /// Of what was counted in so many seconds, what came in one.
    #[must_use]
    fn divided(&self, seconds: f64) -> Self {
        let rate = |count: f64| count / seconds.max(f64::MIN_POSITIVE);
        Self {
            reads: rate(self.reads),
            writes: rate(self.writes),
            bytes_in: rate(self.bytes_in),
            bytes_out: rate(self.bytes_out),
            service_nanos: rate(self.service_nanos),
        }
    }

    fn per(&self, seconds: f64) -> Loads {
        let rates = self.divided(seconds);
        Loads::UNKNOWN
            .with(Metric::Reads, rates.reads)
            .with(Metric::Writes, rates.writes)
            .with(Metric::BytesIn, rates.bytes_in)
            .with(Metric::BytesOut, rates.bytes_out)
            .with(Metric::ServiceNanos, rates.service_nanos)
    }
}

impl History {
    /// Without hours; `hour`, in Unix hours, is under way.
    #[must_use]
    pub fn new(limits: Limits, hour: i64) -> Self {
        let capacity = Capacity { entities: limits.tracked, hourly: limits.hourly, ..Capacity::default() };
        Self {
            store: Store::new(capacity),
            tracking: Tracking::new(limits),
            limits,
            names: BTreeMap::new(),
            now: BTreeMap::new(),
            left_out_max: 0.0,
            partitions: BTreeMap::new(),
            pairs: BTreeMap::new(),
            hour,
            hour_seconds: 3600.0,
        }
    }

    /// The hour under way.
    #[must_use]
    pub const fn hour(&self) -> i64 {
        self.hour
    }

    /// Seconds that the last hour had.
    #[must_use]
    pub const fn hour_seconds(&self) -> f64 {
        self.hour_seconds
    }

    /// So much more came to an entity; it may be too much by `error` requests.
    pub fn count(&mut self, entity: EntityId, name: Option<&[u8]>, counted: &Counted, error: f64) {
        let (sum, sum_error) = self.now.entry(entity).or_default();
        sum.add(counted);
        *sum_error += error;
        if let Some(name) = name
            && !self.names.contains_key(&entity)
        {
            self.names.insert(entity, name.into());
        }
        if self.now.len() >= NOW_SHARE * self.limits.tracked {
            self.leave_out();
        }
    }

    /// Leaves the lightest half of those out that were counted in this hour and are not tracked.
    fn leave_out(&mut self) {
        let store = &self.store;
        let is_tracked = |entity: EntityId| store.typical(entity).is_some();
        let others = self.now.iter().filter(|(entity, _)| !is_tracked(**entity));
        let mut others: Vec<(f64, EntityId)> =
            others.map(|(entity, now)| (now.0.requests(), *entity)).collect();
        others.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        for (weight, entity) in &others[..others.len() / 2] {
            self.now.remove(entity);
            self.left_out_max = self.left_out_max.max(*weight);
        }
        let now = &self.now;
        self.names.retain(|entity, _| now.contains_key(entity) || is_tracked(*entity));
    }

    /// So much more came to a partition, all of its entities together.
    pub fn count_partition(&mut self, partition: u32, counted: &Counted) {
        self.partition(partition).now.add(counted);
    }

    /// Two entities were named together so often.
    pub fn count_pair(&mut self, a: EntityId, b: EntityId, count: f64) {
        *self.pairs.entry((a.min(b), a.max(b))).or_default() += count;
    }

    /// What was counted of an entity in the hour under way.
    #[must_use]
    pub fn counted(&self, entity: EntityId) -> Counted {
        self.now.get(&entity).map_or_else(Counted::default, |now| now.0)
    }

    /// What each entity whose hours are kept had a second in the hour under way, after so many seconds of it; and whoever else
    /// was counted.
    pub fn hour_so_far(&self, seconds: f64) -> impl Iterator<Item = (EntityId, Counted)> {
        let kept = self.store.hourly().map(|entity| (entity, self.counted(entity)));
        let others = self.now.iter().filter(|(entity, _)| self.store.typical(**entity).is_none());
        let all = kept.chain(others.map(|(entity, now)| (*entity, now.0)));
        all.map(move |(entity, counted)| (entity, counted.divided(seconds)))
    }

    /// What entities had a second in the hours that are kept, from `start` on, by hour.
    #[must_use]
    pub fn hours_from(&self, start: i64) -> BTreeMap<i64, Vec<(EntityId, Counted)>> {
        let mut hours: BTreeMap<i64, Vec<(EntityId, Counted)>> = BTreeMap::new();
        for entity in self.store.hourly() {
            let series = |metric| self.store.series(entity, metric);
            let (Some(reads), Some(writes)) = (series(Metric::Reads), series(Metric::Writes)) else {
                continue;
            };
            let others = [Metric::BytesIn, Metric::BytesOut, Metric::ServiceNanos].map(series);
            for hour in reads.start().max(start)..self.hour {
                let (Some(reads), Some(writes)) = (reads.load(hour), writes.load(hour)) else { continue };
                let other =
                    |index: usize| others[index].as_ref().and_then(|series| series.load(hour)).unwrap_or(0.0);
                let (bytes_in, bytes_out, service_nanos) = (other(0), other(1), other(2));
                let load = Counted { reads, writes, bytes_in, bytes_out, service_nanos };
                hours.entry(hour).or_default().push((entity, load));
            }
        }
        hours
    }

    /// And of a partition.
    #[must_use]
    pub fn counted_of_partition(&self, partition: u32) -> Counted {
        self.partitions.get(&partition).map_or_else(Counted::default, |partition| partition.now)
    }

    /// The hour under way has ended after so many seconds, and `next` begins. `at` says in which partition an entity is.
    ///
    /// # Panics
    /// When `next` is not later than it.
    pub fn end_hour(&mut self, seconds: f64, next: i64, at: impl Fn(EntityId) -> Option<u32>) {
        assert!(next > self.hour, "hours go forward");
        let counted = std::mem::take(&mut self.now);
        let left_out_max = std::mem::take(&mut self.left_out_max);
        self.track(self.hour, &counted, left_out_max);
        // Of those that are tracked and were not counted, nothing came.
        let members: Vec<EntityId> = self.store.entities().collect();
        for entity in members {
            let (counted, _) = counted.get(&entity).copied().unwrap_or_default();
            // Of an entity that is there, an hour that is not over yet.
            let _late = self.store.record(self.hour, entity, &counted.per(seconds));
        }
        self.end_partitions(seconds, &counted, at);
        self.pairs.values_mut().for_each(|count| *count *= PAIR_MEMORY);
        self.forget_pairs();
        self.hour = next;
        self.hour_seconds = seconds;
    }

    /// What was counted so far is of no hour; `hour` begins.
    ///
    /// # Panics
    /// When that is before the hour under way.
    pub fn forget_hour(&mut self, hour: i64) {
        assert!(hour >= self.hour, "hours go forward");
        self.now.clear();
        self.left_out_max = 0.0;
        self.partitions.values_mut().for_each(|partition| partition.now = Counted::default());
        self.hour = hour;
    }

    /// Takes hours that are over, of entities: name, hour and what each had a second. Says how many were not taken, as they
    /// are not before the hour under way, or not after those that the entity has.
    pub fn import<'a>(
        &mut self,
        rows: impl IntoIterator<Item = (&'a [u8], EntityId, i64, Counted)>,
    ) -> usize {
        let mut hours: BTreeMap<i64, BTreeMap<EntityId, (Counted, f64)>> = BTreeMap::new();
        let mut refused = 0;
        for (name, entity, hour, load) in rows {
            if hour >= self.hour {
                refused += 1;
                continue;
            }
            self.names.entry(entity).or_insert_with(|| name.into());
            hours.entry(hour).or_default().entry(entity).or_default().0.add(&load);
        }
        for (hour, loads) in hours {
            self.track(hour, &loads, 0.0);
            for (entity, (load, _)) in loads {
                match self.store.record(hour, entity, &load.per(1.0)) {
                    Ok(()) | Err(Refused::Unknown { .. }) => {}
                    Err(Refused::Late { .. } | Refused::Full { .. } | Refused::HourlyFull { .. }) => {
                        refused += 1
                    }
                }
            }
        }
        refused
    }

    /// The entities whose hours are kept.
    pub fn entities(&self) -> impl Iterator<Item = EntityId> {
        self.store.hourly()
    }

    /// An entity's name, if it was ever told.
    #[must_use]
    pub fn name(&self, entity: EntityId) -> Option<&[u8]> {
        self.names.get(&entity).map(Box::as_ref)
    }

    /// How many entities are tracked, and of how many the hours are kept.
    #[must_use]
    pub fn tracked(&self) -> (usize, usize) {
        (self.store.count(), self.store.hourly_count())
    }

    /// Requests a second of an entity, up to the hour under way.
    #[must_use]
    pub fn requests(&self, entity: EntityId) -> Option<Series> {
        let reads = self.store.series(entity, Metric::Reads)?;
        let writes = self.store.series(entity, Metric::Writes)?;
        let mut sum = Series::new(reads.start());
        for hour in reads.start()..reads.end().min(self.hour) {
            let load =
                reads.load(hour).zip(writes.load(hour)).map_or(f64::NAN, |(reads, writes)| reads + writes);
            // Hours of a series are near each other.
            let _infallible = sum.set(hour, load);
        }
        sum.pad_to(self.hour);
        Some(sum)
    }

    /// Requests of an entity in the hours that are over, which count less the longer ago they were, as counts of
    /// [`History::pairs`] do.
    #[must_use]
    pub fn faded_requests(&self, entity: EntityId) -> Option<f64> {
        let load = self.requests(entity)?;
        let mut requests = 0.0;
        for hour in load.start()..load.end() {
            requests = (requests + load.load(hour).unwrap_or(0.0) * self.hour_seconds) * PAIR_MEMORY;
        }
        Some(requests)
    }

    /// A metric of an entity's hours.
    #[must_use]
    pub fn series(&self, entity: EntityId, metric: Metric) -> Option<Series> {
        self.store.series(entity, metric)
    }

    /// Requests a second of a partition, as they were.
    #[must_use]
    pub fn load(&self, partition: u32) -> Option<&Series> {
        self.partitions.get(&partition).map(|partition| &partition.load)
    }

    /// Requests a second that a partition had from entities whose hours are not kept.
    #[must_use]
    pub fn rest(&self, partition: u32) -> Option<&Series> {
        self.partitions.get(&partition).map(|partition| &partition.rest)
    }

    /// Pairs of entities, and how often they were lately named together.
    pub fn pairs(&self) -> impl Iterator<Item = (EntityId, EntityId, f64)> {
        self.pairs.iter().map(|(pair, count)| (pair.0, pair.1, *count))
    }

    /// Forgets partitions that there are no more.
    pub fn keep_partitions(&mut self, is_there: impl Fn(u32) -> bool) {
        self.partitions.retain(|id, _| is_there(*id));
    }

    /// A partition's range has changed: what it had so far is of another one.
    pub fn forget_partition(&mut self, id: u32) {
        self.partitions.remove(&id);
    }

    fn track(&mut self, hour: i64, counted: &BTreeMap<EntityId, (Counted, f64)>, others_max: f64) {
        let estimates = counted.iter().map(|(entity, (counted, error))| {
            (*entity, Estimate { weight: counted.requests(), error: *error })
        });
        let changes = self.tracking.hour(hour, estimates, others_max);
        let applied = changes.apply(&mut self.store);
        assert!(applied.is_ok(), "the store has room for what tracking allows: {:?}", self.limits);
        let store = &self.store;
        if self.names.len() > 2 * store.count().max(1024) {
            self.names.retain(|entity, _| store.typical(*entity).is_some() || counted.contains_key(entity));
        }
    }

    fn partition(&mut self, id: u32) -> &mut Partition {
        let hour = self.hour;
        self.partitions.entry(id).or_insert_with(|| Partition {
            now: Counted::default(),
            load: Series::new(hour),
            rest: Series::new(hour),
        })
    }

    fn end_partitions(
        &mut self,
        seconds: f64,
        counted: &BTreeMap<EntityId, (Counted, f64)>,
        at: impl Fn(EntityId) -> Option<u32>,
    ) {
        let mut kept: BTreeMap<u32, f64> = BTreeMap::new();
        for entity in self.store.hourly() {
            if let (Some((counted, _)), Some(partition)) = (counted.get(&entity), at(entity)) {
                *kept.entry(partition).or_default() += counted.requests();
            }
        }
        for (id, partition) in &mut self.partitions {
            let all = std::mem::take(&mut partition.now).requests();
            let rest = (all - kept.get(id).copied().unwrap_or(0.0)).max(0.0);
            for (series, requests) in [(&mut partition.load, all), (&mut partition.rest, rest)] {
                if self.hour - series.start() >= 2 * PARTITION_HOURS_MAX {
                    *series = latest(series, self.hour);
                }
                let _infallible = series.set(self.hour, requests / seconds.max(f64::MIN_POSITIVE));
            }
        }
    }

    fn forget_pairs(&mut self) {
        if self.pairs.len() <= PAIRS_MAX {
            return;
        }
        let mut counts: Vec<f64> = self.pairs.values().copied().collect();
        counts.sort_unstable_by(f64::total_cmp);
        let least = counts[counts.len() - PAIRS_MAX];
        self.pairs.retain(|_, count| *count > least);
    }
}

/// The last weeks of a series.
fn latest(series: &Series, end: i64) -> Series {
    let begin = end - PARTITION_HOURS_MAX;
    let mut latest = Series::new(begin);
    for hour in begin..end {
        let _infallible = latest.set(hour, series.load(hour).unwrap_or(f64::NAN));
    }
    latest
}

#[cfg(test)]
mod tests {
    use foreshard_forecast::series::to_load;

    use super::*;

    const LIMITS: Limits = Limits { tracked: 10, hourly: 10, tracked_weight: 0.0, hourly_weight: 0.0 };

    fn requests(reads: f64, writes: f64) -> Counted {
        Counted { reads, writes, ..Counted::default() }
    }

    fn close(value: f32, load: f64) -> bool {
        (to_load(value) - load).abs() < 0.02 * (1.0 + load)
    }

    #[test]
    fn hours_of_any_length_are_told_in_requests_a_second() {
        let mut history = History::new(LIMITS, 100);
        let (a, b) = (EntityId(1), EntityId(2));
        history.count(a, Some(b"a"), &requests(30.0, 10.0), 0.0);
        history.count(a, None, &requests(0.0, 20.0), 0.0);
        history.count(b, Some(b"b"), &requests(10.0, 0.0), 0.0);
        history.count_partition(7, &requests(100.0, 40.0));
        assert_eq!(history.counted(a), requests(30.0, 30.0));
        history.end_hour(2.0, 101, |_| Some(7));
        history.count_partition(7, &requests(0.0, 0.0));
        history.end_hour(4.0, 102, |_| Some(7));
        let series = history.requests(a).unwrap();
        assert!(close(series.at(100), 30.0) && close(series.at(101), 0.0), "{series:?}");
        assert_eq!((history.name(b), history.tracked()), (Some(&b"b"[..]), (2, 2)));
        assert!(close(history.load(7).unwrap().at(100), 70.0));
        assert!(close(history.rest(7).unwrap().at(100), 35.0), "all but the two");
    }

    #[test]
    fn imported_hours_come_before_those_that_are_counted_and_gaps_stay_gaps() {
        let mut history = History::new(LIMITS, 100);
        let a = EntityId(1);
        let row = |hour, rate| (&b"a"[..], a, hour, requests(rate, 0.0));
        assert_eq!(history.import([row(98, 8.0), row(95, 5.0), row(100, 1.0), row(99, 9.0)]), 1);
        assert_eq!(history.import([row(97, 7.0)]), 1, "not after those that it has");
        history.count(a, None, &requests(60.0, 0.0), 0.0);
        history.end_hour(5.0, 101, |_| None);
        let series = history.requests(a).unwrap();
        assert!(close(series.at(95), 5.0) && series.at(96).is_nan() && close(series.at(99), 9.0));
        assert!(close(series.at(100), 12.0), "{series:?}");
    }

    #[test]
    fn of_too_many_entities_in_one_hour_the_heaviest_are_kept() {
        let mut history = History::new(LIMITS, 100);
        for n in 0..1000 {
            let load = if n % 100 == 7 { 500.0 } else { 1.0 };
            history.count(EntityId(n), Some(b"name"), &requests(load, 0.0), 0.0);
        }
        assert!(history.now.len() <= 2 * LIMITS.tracked && history.names.len() <= 2 * LIMITS.tracked);
        history.end_hour(1.0, 101, |_| None);
        let kept: Vec<u64> = history.entities().map(|entity| entity.0).collect();
        assert_eq!(kept, (0..10).map(|n| 100 * n + 7).collect::<Vec<u64>>());
    }

    #[test]
    fn requests_fade_as_counts_of_pairs_do_whatever_the_load_of_the_last_hour() {
        let mut history = History::new(LIMITS, 0);
        let (a, b) = (EntityId(1), EntityId(2));
        for hour in 0..60 {
            let times = if hour < 50 { 100.0 } else { 1000.0 };
            history.count(a, None, &requests(times, 0.0), 0.0);
            history.count(b, None, &requests(0.0, times), 0.0);
            history.count_pair(a, b, times / 2.0);
            history.end_hour(10.0, hour + 1, |_| None);
        }
        let pairs: Vec<_> = history.pairs().collect();
        let share = pairs[0].2 / history.faded_requests(a).unwrap();
        assert!((share - 0.5).abs() < 0.02, "{share}");
        assert_eq!(history.faded_requests(EntityId(3)), None);
    }

    #[test]
    fn pairs_are_forgotten_the_least_first() {
        let mut history = History::new(LIMITS, 0);
        for n in 0..PAIRS_MAX as u64 + 100 {
            history.count_pair(EntityId(n + 1), EntityId(n), n as f64 + 1.0);
        }
        history.end_hour(1.0, 1, |_| None);
        let left: Vec<_> = history.pairs().collect();
        assert!(left.len() < PAIRS_MAX && left.iter().all(|pair| pair.0 < pair.1 && pair.2 > 97.0));
    }
}
