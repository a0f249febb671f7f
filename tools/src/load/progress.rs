//! Second by second: what all threads did, told on stderr and kept for the report; and, where that is asked for, all latencies
//! of shorter intervals, as counts, so that whoever knows what happened when can add them up.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use serde::Serialize;

use super::clock::{Nanos, SECOND};
use super::measure::IntervalMeasure;

/// One second of a phase.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Second {
    pub(crate) second: u64,
    pub(crate) operations: u64,
    pub(crate) failed: u64,
    pub(crate) latency_us_p50: f64,
    pub(crate) latency_us_p99: f64,
    pub(crate) latency_us_max: f64,
}

/// All latencies, interval by interval.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Timeline {
    interval_ms: u64,
    /// Of each interval from the beginning: microseconds, to two digits, and how many operations took so long.
    latency_us: Vec<Vec<(f64, u64)>>,
}

/// Collects and tells.
#[derive(Debug)]
pub(crate) struct Progress {
    phase: &'static str,
    threads: u32,
    /// Intervals in a second.
    a_second: u64,
    /// Intervals that not all threads have worked through: by how many they are whole, and what was done.
    open: BTreeMap<u64, (u32, IntervalMeasure)>,
    /// Of the second that is not over.
    second: IntervalMeasure,
    pub(crate) seconds: Vec<Second>,
    pub(crate) timeline: Option<Timeline>,
    is_quiet: bool,
    is_terminal: bool,
    operations: u64,
}

impl Progress {
    pub(crate) fn new(phase: &'static str, threads: u32, is_quiet: bool) -> Self {
        Self {
            phase,
            threads,
            a_second: 1,
            open: BTreeMap::new(),
            second: IntervalMeasure::new(),
            seconds: Vec::new(),
            timeline: None,
            is_quiet,
            is_terminal: std::io::stderr().is_terminal(),
            operations: 0,
        }
    }

    /// From here on it is told of intervals, of which a second has several, and keeps them.
    pub(crate) fn keep(&mut self, interval: Nanos) {
        self.a_second = SECOND / interval;
        self.timeline = Some(Timeline { interval_ms: interval * 1000 / SECOND, latency_us: Vec::new() });
    }

    /// A thread's interval, which is a second unless it was said otherwise; its last one is not whole.
    pub(crate) fn add(&mut self, interval: u64, is_whole: bool, measure: &IntervalMeasure) {
        let (threads, all) = self.open.entry(interval).or_insert_with(|| (0, IntervalMeasure::new()));
        *threads += u32::from(is_whole);
        all.add(measure);
        while let Some(first) = self.open.first_entry() {
            // A thread that is done tells nothing any more; one that is two seconds behind hardly does either.
            if first.get().0 < self.threads && *first.key() + 2 * self.a_second > interval {
                break;
            }
            let (interval, (_, measure)) = first.remove_entry();
            self.close(interval, &measure);
        }
    }

    /// No thread tells of anything any more. A second that is whole for none would mislead about the rate.
    pub(crate) fn end(&mut self) {
        for (interval, (threads, measure)) in std::mem::take(&mut self.open) {
            if threads > 0 {
                self.close(interval, &measure);
            }
        }
        if self.is_terminal && !self.is_quiet && !self.seconds.is_empty() {
            let _unheard = writeln!(std::io::stderr());
        }
    }

    /// An interval, in order, of which nobody tells anything any more.
    fn close(&mut self, interval: u64, measure: &IntervalMeasure) {
        if let Some(timeline) = &mut self.timeline {
            let counts = measure.latency.iter_recorded();
            let counts = counts.map(|v| (microseconds(v.value_iterated_to()), v.count_at_value()));
            timeline.latency_us.push(counts.collect());
        }
        self.second.add(measure);
        if (interval + 1).is_multiple_of(self.a_second) {
            let second = std::mem::replace(&mut self.second, IntervalMeasure::new());
            self.tell(interval / self.a_second, &second);
        }
    }

    fn tell(&mut self, second: u64, measure: &IntervalMeasure) {
        let us = |quantile| microseconds(measure.latency.value_at_quantile(quantile));
        let told = Second {
            second,
            operations: measure.operations,
            failed: measure.failed,
            latency_us_p50: us(0.5),
            latency_us_p99: us(0.99),
            latency_us_max: us(1.0),
        };
        self.operations += told.operations;
        if !self.is_quiet {
            let line = format!(
                "{}: {} s: {} operations/s, {} failed; p50 {:.0} us, p99 {:.0} us; {} in all",
                self.phase,
                second + 1,
                told.operations,
                told.failed,
                told.latency_us_p50,
                told.latency_us_p99,
                self.operations
            );
            let mut out = std::io::stderr();
            // Progress that nobody can see is no failure.
            let _unheard =
                if self.is_terminal { write!(out, "\r\x1b[K{line}") } else { writeln!(out, "{line}") };
        }
        self.seconds.push(told);
    }
}

/// Nanoseconds as microseconds, to a tenth.
pub(crate) fn microseconds(nanos: u64) -> f64 {
    (nanos as f64 / 100.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_told_once_when_all_threads_told_it_or_are_beyond_it() {
        let mut progress = Progress::new("run", 2, true);
        let mut measure = IntervalMeasure::new();
        measure.operations = 10;
        measure.latency.record(5_000_000).unwrap();
        progress.add(0, true, &measure);
        progress.add(1, true, &measure);
        assert!(progress.seconds.is_empty());
        progress.add(0, true, &measure);
        let told = |progress: &Progress| -> Vec<(u64, u64)> {
            progress.seconds.iter().map(|s| (s.second, s.operations)).collect()
        };
        assert_eq!(told(&progress), [(0, 20)]);
        progress.add(2, true, &measure);
        assert_eq!(told(&progress), [(0, 20)]);
        progress.add(3, true, &measure);
        assert_eq!(told(&progress), [(0, 20), (1, 10)]);
        progress.add(4, false, &measure);
        progress.end();
        assert_eq!(told(&progress), [(0, 20), (1, 10), (2, 10), (3, 10)], "the last one was not whole");
        assert!((progress.seconds[1].latency_us_max - 5000.0).abs() < 50.0);
    }

    #[test]
    fn intervals_are_kept_one_by_one_and_told_as_seconds() {
        let mut progress = Progress::new("run", 1, true);
        progress.keep(SECOND / 2);
        let mut measure = IntervalMeasure::new();
        measure.operations = 2;
        measure.latency.record_n(5_000_000, 2).unwrap();
        for interval in 0..3 {
            progress.add(interval, true, &measure);
        }
        progress.end();
        let told: Vec<(u64, u64)> = progress.seconds.iter().map(|s| (s.second, s.operations)).collect();
        assert_eq!(told, [(0, 4)], "half a second says nothing of a rate");
        let timeline = progress.timeline.unwrap();
        assert_eq!((timeline.interval_ms, timeline.latency_us.len()), (500, 3));
        let [(us, 2)] = timeline.latency_us[2][..] else { panic!("{:?}", timeline.latency_us) };
        assert!((us - 5000.0).abs() < 100.0);
    }
}
