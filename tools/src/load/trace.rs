//! Load as it was: how often each entity is read and written, hour by hour. No randomness; reads a file when told to.
//!
//! An entity's operations are all of one connection, as a tenant's are. Within an hour they come as if of many independent
//! clients, at the hour's rates.
//!
//! Invariant: rates are finite and not negative; a gap is an hour without operations.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::clock::{Nanos, SECOND};
use super::mix::Kind;
use crate::forecast::options;
use crate::forecast::table::Table;
use crate::shell::Failure;

/// Rates of entities.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Trace {
    /// The entities' names.
    pub(crate) names: Vec<String>,
    /// The first hour, in Unix hours.
    pub(crate) start: i64,
    /// Seconds that an hour takes here.
    pub(crate) hour_seconds: f64,
    hours: usize,
    /// Entity by entity, hour by hour: reads and writes a second.
    rates: Vec<[f32; 2]>,
}

/// The operations of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    /// Its entities.
    entities: Vec<usize>,
    /// The hour that `weights` are of.
    hour: usize,
    /// Rates of reads and writes, entity by entity, each with all before it.
    weights: Vec<f64>,
}

impl Trace {
    /// Of these rates, entity by entity and hour by hour.
    ///
    /// # Panics
    /// When there are not as many for each name.
    pub(crate) fn new(names: Vec<String>, start: i64, rates: Vec<[f32; 2]>) -> Self {
        let hours = rates.len() / names.len().max(1);
        assert_eq!(hours * names.len(), rates.len(), "as many hours of each entity");
        Self { names, start, hour_seconds: 3600.0, hours, rates }
    }

    /// What a file says: columns `time`, `entity`, `reads`, `writes`, as operations a second; the `last` hours of it, if
    /// that is given.
    pub(crate) fn read(path: &Path, last: Option<usize>) -> Result<Self, Failure> {
        let column = |metric: &str| {
            Table::read(&options::Load {
                input: PathBuf::from(path),
                metric: metric.to_owned(),
                leave_off: 0,
                threads: NonZeroUsize::MIN,
            })
        };
        let (reads, writes) = (column("reads")?, column("writes")?);
        let first =
            reads.entities.values().chain(writes.entities.values()).map(|series| series.start()).min();
        let end = reads.end.max(writes.end);
        let start = first.unwrap_or(end).max(last.map_or(i64::MIN, |last| end - last as i64));
        let mut names: Vec<String> = reads.entities.keys().chain(writes.entities.keys()).cloned().collect();
        names.sort_unstable();
        names.dedup();
        let rate = |table: &Table, name: &String, hour: i64| {
            #[expect(clippy::cast_possible_truncation, reason = "the precision that series are kept in")]
            table.entities.get(name).and_then(|series| series.load(hour)).map_or(0.0, |load| load as f32)
        };
        let mut rates = Vec::new();
        for name in &names {
            rates.extend((start..end).map(|hour| [rate(&reads, name, hour), rate(&writes, name, hour)]));
        }
        Ok(Self::new(names, start, rates))
    }

    /// With hours of `seconds`, and `scale` times the operations a second.
    #[must_use]
    pub(crate) fn replayed(mut self, seconds: f64, scale: f64) -> Self {
        self.hour_seconds = seconds;
        #[expect(clippy::cast_possible_truncation, reason = "the precision that rates are kept in")]
        let scaled = |rate: f32| (f64::from(rate) * scale) as f32;
        self.rates.iter_mut().flatten().for_each(|rate| *rate = scaled(*rate));
        self
    }

    /// Its last hours.
    #[must_use]
    pub(crate) fn last(&self, hours: usize) -> Self {
        self.cut(self.hours.saturating_sub(hours)..self.hours)
    }

    /// Its first hours.
    #[must_use]
    pub(crate) fn first(&self, hours: usize) -> Self {
        self.cut(0..hours.min(self.hours))
    }

    fn cut(&self, hours: Range<usize>) -> Self {
        let entities = self.rates.chunks_exact(self.hours.max(1));
        let rates = entities.flat_map(|all| &all[hours.clone()]).copied().collect();
        let start = self.start + hours.start as i64;
        Self { names: self.names.clone(), start, hours: hours.len(), rates, ..*self }
    }

    /// How many hours.
    pub(crate) const fn hours(&self) -> usize {
        self.hours
    }

    /// How long all of it takes.
    pub(crate) fn seconds(&self) -> f64 {
        self.hours as f64 * self.hour_seconds
    }

    /// Reads and writes a second of an entity in an hour.
    pub(crate) fn rates(&self, entity: usize, hour: usize) -> [f64; 2] {
        self.rates[entity * self.hours + hour].map(f64::from)
    }

    /// What connection `index` of `connections` does: the operations that are due before each hour begins, and before the end.
    pub(crate) fn due_before(&self, index: u32, connections: u32) -> Vec<f64> {
        let share = self.share(index, connections);
        let mut sum = 0.0;
        let mut before = vec![sum];
        for hour in 0..self.hours {
            let rate: f64 = share.entities.iter().flat_map(|entity| self.rates(*entity, hour)).sum();
            sum += rate * self.hour_seconds;
            before.push(sum);
        }
        before
    }

    /// Of connection `index` of `connections`: every so-many-th entity, as a layout gives them out.
    pub(crate) fn share(&self, index: u32, connections: u32) -> Share {
        let (index, connections) = (index as usize, connections as usize);
        let entities = (index..self.names.len()).step_by(connections).collect();
        Share { entities, hour: usize::MAX, weights: Vec::new() }
    }

    /// The entity and kind of an operation that is due then, by a number in 0..1.
    pub(crate) fn pick(&self, share: &mut Share, due: Nanos, at: f64) -> Option<(u64, Kind)> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "hours since the beginning"
        )]
        let hour = (due as f64 / SECOND as f64 / self.hour_seconds) as usize;
        let hour = hour.min(self.hours.checked_sub(1)?);
        if share.hour != hour {
            let mut sum = 0.0;
            let rates = share.entities.iter().flat_map(|entity| self.rates(*entity, hour));
            share.weights.clear();
            share.weights.extend(rates.map(|rate| {
                sum += rate;
                sum
            }));
            share.hour = hour;
        }
        let all = share.weights.last().filter(|all| **all > 0.0)?;
        let chosen = share.weights.partition_point(|before| *before <= at * all).min(share.weights.len() - 1);
        let kind = if chosen.is_multiple_of(2) { Kind::Read } else { Kind::Update };
        Some((share.entities[chosen / 2] as u64, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        let rates = vec![[1.0, 3.0], [0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [0.0, 4.0], [5.0, 5.0]];
        Trace::new(names, 100, rates).replayed(2.0, 10.0)
    }

    #[test]
    fn a_connection_has_every_so_many_th_entity_and_their_operations() {
        assert_eq!(trace().due_before(0, 2), [0.0, 160.0, 360.0]);
        assert_eq!(trace().due_before(1, 2), [0.0, 200.0, 400.0]);
        assert_eq!(trace().due_before(0, 5), [0.0, 80.0, 80.0]);
        assert_eq!(trace().due_before(4, 5), [0.0, 0.0, 0.0]);
    }

    #[test]
    fn operations_are_drawn_by_the_rates_of_their_hour() {
        let (trace, mut share) = (trace(), trace().share(0, 2));
        let mut count = |due: Nanos| {
            let mut counts = [0; 6];
            for n in 0..800 {
                let (entity, kind) = trace.pick(&mut share, due, f64::from(n) / 800.0).unwrap();
                counts[usize::try_from(entity).unwrap() * 2 + usize::from(kind == Kind::Update)] += 1;
            }
            counts
        };
        assert_eq!(count(SECOND), [100, 300, 0, 0, 0, 400]);
        assert_eq!(count(3 * SECOND), [0, 0, 0, 0, 400, 400]);
        assert_eq!(count(9 * SECOND), [0, 0, 0, 0, 400, 400], "past the end, the last hour");
        let mut idle = trace.share(0, 5);
        assert_eq!(trace.pick(&mut idle, 3 * SECOND, 0.5), None);
    }

    #[test]
    fn the_last_hours_are_the_last_ones_and_the_first_the_first() {
        let last = trace().last(1);
        assert_eq!((last.start, last.hours(), last.seconds()), (101, 1, 2.0));
        assert_eq!(last.rates(1, 0), [0.0, 100.0]);
        assert_eq!((trace().last(7), trace().first(7)), (trace(), trace()));
        let first = trace().first(1);
        assert_eq!((first.start, first.hours(), first.rates(0, 0)), (100, 1, [10.0, 30.0]));
    }
}
