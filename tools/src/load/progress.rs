//! Second by second: what all threads did, told on stderr and kept for the report.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use serde::Serialize;

use super::measure::SecondMeasure;

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

/// Collects and tells.
#[derive(Debug)]
pub(crate) struct Progress {
    phase: &'static str,
    threads: u32,
    /// Seconds that not all threads have worked through: by how many they are whole, and what was done.
    open: BTreeMap<u64, (u32, SecondMeasure)>,
    pub(crate) seconds: Vec<Second>,
    is_quiet: bool,
    is_terminal: bool,
    operations: u64,
}

impl Progress {
    pub(crate) fn new(phase: &'static str, threads: u32, is_quiet: bool) -> Self {
        Self {
            phase,
            threads,
            open: BTreeMap::new(),
            seconds: Vec::new(),
            is_quiet,
            is_terminal: std::io::stderr().is_terminal(),
            operations: 0,
        }
    }

    /// A thread's second; its last one is not whole.
    pub(crate) fn add(&mut self, second: u64, is_whole: bool, measure: &SecondMeasure) {
        let (threads, all) = self.open.entry(second).or_insert_with(|| (0, SecondMeasure::new()));
        *threads += u32::from(is_whole);
        all.add(measure);
        while let Some(first) = self.open.first_entry() {
            // A thread that is done tells nothing any more; one that is two seconds behind hardly does either.
            if first.get().0 < self.threads && *first.key() + 2 > second {
                break;
            }
            let (second, (_, measure)) = first.remove_entry();
            self.tell(second, &measure);
        }
    }

    /// No thread tells of anything any more. A second that is whole for none would mislead about the rate.
    pub(crate) fn end(&mut self) {
        for (second, (threads, measure)) in std::mem::take(&mut self.open) {
            if threads > 0 {
                self.tell(second, &measure);
            }
        }
        if self.is_terminal && !self.is_quiet && !self.seconds.is_empty() {
            let _unheard = writeln!(std::io::stderr());
        }
    }

    fn tell(&mut self, second: u64, measure: &SecondMeasure) {
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
        let mut measure = SecondMeasure::new();
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
}
