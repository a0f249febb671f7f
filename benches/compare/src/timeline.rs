//! What a load saw interval by interval, and what of it lies within some windows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::Result;

/// Latencies of each interval of a stretch of load.
#[derive(Debug, Deserialize)]
pub struct Timeline {
    /// Of each interval, ms.
    pub interval_ms: u32,
    /// Of each interval: microseconds, and how many operations took so long.
    pub latency_us: Vec<Vec<(f64, u64)>>,
}

/// A stretch of time, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its begin.
    pub from: f64,
    /// Its end.
    pub to: f64,
}

/// What was due within windows, all of them together.
#[derive(Clone, Debug, Default)]
pub struct Within {
    /// Microseconds, and how many took so long, by microseconds.
    counts: Vec<(f64, u64)>,
}

impl Window {
    /// From here on.
    pub fn since(begin: SystemTime, length: Duration) -> Result<Self> {
        let from = begin.duration_since(UNIX_EPOCH)?.as_secs_f64();
        Ok(Self { from, to: from + length.as_secs_f64() })
    }
}

impl Timeline {
    /// What was answered within `windows`, of a load that began at `began`: by whole intervals, those that reach out of a
    /// window too.
    #[must_use]
    pub fn within(&self, began: f64, windows: &[Window]) -> Within {
        let seconds = f64::from(self.interval_ms) / 1e3;
        let mut counts = Vec::new();
        for (n, interval) in self.latency_us.iter().enumerate() {
            let from = began + n as f64 * seconds;
            if windows.iter().any(|window| window.from < from + seconds && from < window.to) {
                counts.extend_from_slice(interval);
            }
        }
        counts.sort_by(|a, b| a.0.total_cmp(&b.0));
        Within { counts }
    }
}

impl Within {
    /// How many.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// Microseconds that so many of a thousand do not exceed.
    #[must_use]
    pub fn thousandths(&self, thousandths: u64) -> f64 {
        let wanted = (self.operations() * thousandths).div_ceil(1000).max(1);
        let mut seen = 0;
        let reached = self.counts.iter().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        reached.map_or(0.0, |(us, _)| *us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_that_reach_into_a_window_are_in_it_once_and_others_are_not() {
        let timeline = Timeline {
            interval_ms: 100,
            latency_us: vec![vec![(9.0, 1)], vec![(1.0, 98), (5.0, 1)], vec![(7.0, 1)], vec![(8.0, 1)]],
        };
        let window = |from, to| Window { from, to };
        let within = timeline.within(50.0, &[window(50.15, 50.25), window(50.1, 50.2)]);
        assert_eq!(within.operations(), 100);
        assert_eq!([500, 980, 990, 1000].map(|part| within.thousandths(part)), [1.0, 1.0, 5.0, 7.0]);
        let nothing = timeline.within(50.0, &[window(60.0, 61.0)]);
        assert_eq!((nothing.operations(), nothing.thousandths(990)), (0, 0.0));
    }
}
