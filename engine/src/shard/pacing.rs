//! How hard writers are held back before memtables, or level 0, are full.
//!
//! All writers together are let in at one rate, which falls as pressure rises: each moves the time at which the next may go
//! by what its bytes take. So they slow down to what flushes and compactions get done, however many they are, before all
//! would have to be stopped. No I/O, no clock.

use std::cell::Cell;
use std::time::Duration;

use crate::io::runtime::Nanos;
use crate::options::Options;

/// No write is held back longer here: ten times that is what an operator would call a stall.
const DELAY_MAX: Duration = Duration::from_millis(10);
/// Who would have to wait less goes at once, and whoever comes next waits longer: a timer costs more.
const DELAY_MIN: Duration = Duration::from_micros(500);
/// At half pressure 50 MB/s are let in.
const NANOS_PER_BYTE: f64 = 20.0;
/// From here on pressure slows no further.
const PRESSURE_SLOWEST: f64 = 0.99;
/// Pressure moves by the memtable: that is looked at a thousand times as often.
const LOOK_EVERY_BYTES: usize = 64 << 10;

/// How hard writers are held back.
#[derive(Debug)]
pub(crate) struct Pacing {
    /// 0: not at all. 1: they wait until something settles.
    pressure: Cell<f64>,
    /// When what was let in so far has taken its time.
    free_at: Cell<Nanos>,
    /// Bytes written since pressure was last looked at.
    unseen_bytes: Cell<usize>,
    /// A partition's memtable is sealed at this size.
    pub(crate) seal_bytes: usize,
    /// All memtables of the shard together stay below this.
    pub(crate) memtables_bytes_max: usize,
}

impl Pacing {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            pressure: Cell::new(0.0),
            free_at: Cell::default(),
            unseen_bytes: Cell::new(0),
            seal_bytes: options.memtable_bytes,
            memtables_bytes_max: options.memtables_bytes / options.shards,
        }
    }

    /// Pressure was looked at.
    pub(crate) fn set(&self, pressure: f64) {
        self.pressure.set(pressure);
        self.unseen_bytes.set(0);
    }

    pub(crate) fn pressure(&self) -> f64 {
        self.pressure.get()
    }

    /// So much was written: whether to look at the pressure.
    pub(crate) fn is_look_due(&self, bytes: usize) -> bool {
        let unseen = self.unseen_bytes.get() + bytes;
        self.unseen_bytes.set(unseen);
        unseen >= LOOK_EVERY_BYTES
    }

    /// A write of `bytes` comes: until when it is held back, if it is.
    #[expect(clippy::cast_precision_loss, reason = "a delay, in nanoseconds")]
    pub(crate) fn hold(&self, now: Nanos, bytes: usize) -> Option<Nanos> {
        let pressure = self.pressure.get().min(PRESSURE_SLOWEST);
        let takes = bytes as f64 * NANOS_PER_BYTE * pressure / (1.0 - pressure);
        let takes = Duration::from_secs_f64(takes * 1e-9).min(DELAY_MAX);
        let free_at = self.free_at.get().max(now).after(takes).min(now.after(DELAY_MAX));
        self.free_at.set(free_at);
        Some(free_at).filter(|free_at| free_at.since(now) >= DELAY_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that so many writers get in within a second, each coming back 20 us after it was let in.
    fn let_in(writers: usize, bytes: usize, pressure: f64) -> f64 {
        let pacing = Pacing::new(&Options::default());
        pacing.set(pressure);
        let mut due = vec![Nanos(0); writers];
        let mut total = 0;
        loop {
            let (at, writer) = due.iter().copied().zip(0..).min().unwrap();
            if at >= Nanos(1_000_000_000) {
                return total as f64;
            }
            let until = pacing.hold(at, bytes).unwrap_or(at);
            assert!(until.since(at) <= DELAY_MAX);
            total += bytes;
            due[writer] = until.after(Duration::from_micros(20));
        }
    }

    #[test]
    fn one_writer_and_many_are_let_in_at_the_same_rate() {
        for (pressure, bytes_per_second) in [(0.5, 50e6), (0.8, 12.5e6), (0.9, 5.56e6)] {
            for writers in [8, 64, 256] {
                let rate = let_in(writers, 124, pressure) / bytes_per_second;
                assert!((0.95..=1.05).contains(&rate), "{writers} writers at {pressure}: {rate}");
            }
        }
    }

    #[test]
    fn nobody_waits_without_pressure_and_nobody_long_with_all_of_it() {
        let pacing = Pacing::new(&Options::default());
        assert_eq!(pacing.hold(Nanos(5), 1 << 20), None);
        pacing.set(1.0);
        let now = Nanos(1_000_000_000);
        for _ in 0..100 {
            assert_eq!(pacing.hold(now, 1 << 20), Some(now.after(DELAY_MAX)));
        }
        // What was owed is not held against anybody later.
        pacing.set(0.0);
        assert_eq!(pacing.hold(now.after(DELAY_MAX), 1), None);
    }
}
