//! What a run counts: operations, latencies, errors. No I/O, no clock.
//!
//! Latencies are kept in histograms to three digits, from 128 ns to an hour; nothing is stored per operation.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::clock::{Nanos, SECOND};
use super::mix::{KINDS, Kind};

/// Nothing that crosses a socket is quicker.
const LATENCY_MIN: Nanos = 128;
/// Longer ones count as this.
pub(crate) const LATENCY_MAX: Nanos = 3600 * SECOND;
const DIGITS: u8 = 3;
/// Of one interval, of which there are many.
const INTERVAL_DIGITS: u8 = 2;
/// More texts than this are counted together: some servers put keys into them.
const ERROR_TEXTS_MAX: usize = 64;
const ERROR_BYTES_MAX: usize = 160;
/// What stands for all texts beyond the first ones.
const OTHER_ERRORS: &str = "other errors";

/// A histogram of nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_MIN, LATENCY_MAX, DIGITS).expect("bounds that are far apart")
}

fn coarse_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_MIN * 8, LATENCY_MAX, INTERVAL_DIGITS)
        .expect("bounds that are far apart")
}

/// Of one kind of operation.
#[derive(Clone, Debug)]
pub(crate) struct KindMeasure {
    /// Those that were done.
    pub(crate) operations: u64,
    /// Those of them that found no row.
    pub(crate) misses: u64,
    /// Those that were refused or lost.
    pub(crate) failed: u64,
    /// From when it was due to its answer.
    pub(crate) latency: Histogram<u64>,
    /// From when it was sent to its answer; none where operations are sent when they are due.
    pub(crate) service: Option<Histogram<u64>>,
}

/// Of one interval.
#[derive(Clone, Debug)]
pub(crate) struct IntervalMeasure {
    pub(crate) operations: u64,
    pub(crate) failed: u64,
    pub(crate) latency: Histogram<u64>,
}

/// Of one thread, or of several together.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    kinds: Vec<KindMeasure>,
    errors: BTreeMap<String, u64>,
    interval: IntervalMeasure,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) reconnects: u64,
    /// Operations that were due before the end and not sent.
    pub(crate) unsent: u64,
    /// When the last operation was done.
    pub(crate) last_done: Nanos,
}

/// When an operation was due, sent and done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Times {
    pub(crate) due: Nanos,
    pub(crate) sent: Nanos,
    pub(crate) done: Nanos,
}

impl Measure {
    /// Of nothing. `scheduled` where operations may be sent later than they are due.
    pub(crate) fn new(scheduled: bool) -> Self {
        let kind = KindMeasure {
            operations: 0,
            misses: 0,
            failed: 0,
            latency: histogram(),
            service: scheduled.then(histogram),
        };
        Self {
            kinds: vec![kind; KINDS],
            errors: BTreeMap::new(),
            interval: IntervalMeasure::new(),
            bytes_sent: 0,
            bytes_received: 0,
            reconnects: 0,
            unsent: 0,
            last_done: 0,
        }
    }

    /// An operation was done.
    pub(crate) fn done(&mut self, kind: Kind, times: Times, missed: bool) {
        let measure = &mut self.kinds[kind as usize];
        let latency = times.done.saturating_sub(times.due);
        measure.operations += 1;
        measure.misses += u64::from(missed);
        measure.latency.saturating_record(latency);
        if let Some(service) = &mut measure.service {
            service.saturating_record(times.done.saturating_sub(times.sent));
        }
        self.interval.operations += 1;
        self.interval.latency.saturating_record(latency);
        self.last_done = times.done;
    }

    /// An operation was refused, or nobody knows.
    pub(crate) fn failed(&mut self, kind: Kind, text: &[u8]) {
        self.kinds[kind as usize].failed += 1;
        self.interval.failed += 1;
        self.count_error(text, 1);
    }

    fn count_error(&mut self, text: &[u8], count: u64) {
        let text = String::from_utf8_lossy(&text[..text.len().min(ERROR_BYTES_MAX)]);
        if let Some(counted) = self.errors.get_mut(text.as_ref()) {
            *counted += count;
        } else if self.errors.len() < ERROR_TEXTS_MAX {
            self.errors.insert(text.into_owned(), count);
        } else {
            *self.errors.entry(OTHER_ERRORS.into()).or_default() += count;
        }
    }

    /// What was counted since this was asked last.
    pub(crate) fn take_interval(&mut self) -> IntervalMeasure {
        std::mem::replace(&mut self.interval, IntervalMeasure::new())
    }

    /// Counts what another thread counted.
    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.kinds.iter_mut().zip(&other.kinds) {
            mine.operations += theirs.operations;
            mine.misses += theirs.misses;
            mine.failed += theirs.failed;
            mine.latency += &theirs.latency;
            if let (Some(mine), Some(theirs)) = (&mut mine.service, &theirs.service) {
                *mine += theirs;
            }
        }
        for (text, count) in &other.errors {
            self.count_error(text.as_bytes(), *count);
        }
        self.interval.add(&other.interval);
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.reconnects += other.reconnects;
        self.unsent += other.unsent;
        self.last_done = self.last_done.max(other.last_done);
    }

    /// Each kind that was done or tried.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (Kind, &KindMeasure)> {
        let all = Kind::ALL.into_iter().zip(&self.kinds);
        all.filter(|(_, measure)| measure.operations + measure.failed > 0)
    }

    /// Of all kinds.
    pub(crate) fn operations(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.operations).sum()
    }

    /// Of all kinds.
    pub(crate) fn failures(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.failed).sum()
    }

    /// Of all kinds.
    pub(crate) fn latency(&self) -> Histogram<u64> {
        let mut all = histogram();
        self.kinds.iter().for_each(|kind| all += &kind.latency);
        all
    }

    /// How often each was told.
    pub(crate) const fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }
}

impl IntervalMeasure {
    pub(crate) fn new() -> Self {
        Self { operations: 0, failed: 0, latency: coarse_histogram() }
    }

    /// Counts what another thread counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.failed += other.failed;
        self.latency += &other.latency;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_when_it_was_due_and_service_from_when_it_was_sent() {
        let mut measure = Measure::new(true);
        let times = Times { due: 1_000_000, sent: 5_000_000, done: 6_000_000 };
        measure.done(Kind::Read, times, true);
        let (kind, read) = measure.kinds().next().unwrap();
        assert_eq!((kind, read.operations, read.misses), (Kind::Read, 1, 1));
        let near = |value: u64, expected: u64| value.abs_diff(expected) <= expected / 1000;
        assert!(near(read.latency.max(), 5_000_000));
        assert!(near(read.service.as_ref().unwrap().max(), 1_000_000));
    }

    #[test]
    fn threads_add_up_and_longest_latencies_are_kept_at_the_bound() {
        let mut all = Measure::new(false);
        for thread in 1..=3_u64 {
            let mut measure = Measure::new(false);
            let times = Times { due: 0, sent: 0, done: thread * LATENCY_MAX };
            measure.done(Kind::Update, times, false);
            measure.failed(Kind::Scan, b"ERR no");
            all.add(&measure);
        }
        assert_eq!((all.operations(), all.failures()), (3, 3));
        assert_eq!(all.errors().get("ERR no"), Some(&3));
        assert_eq!(all.latency().len(), 3);
        let interval = all.take_interval();
        assert_eq!((interval.operations, interval.failed, all.take_interval().operations), (3, 3, 0));
    }

    #[test]
    fn error_texts_are_bounded_in_number_and_length() {
        let mut measure = Measure::new(false);
        for n in 0..1000 {
            let text = format!("ERR {n} {}", "x".repeat(1000));
            measure.failed(Kind::Read, text.as_bytes());
        }
        assert_eq!(measure.errors().len(), ERROR_TEXTS_MAX + 1);
        assert_eq!(measure.errors().values().sum::<u64>(), 1000);
        assert!(measure.errors().keys().all(|text| text.len() <= ERROR_BYTES_MAX));
    }
}
