//! How fast the moves of a shard copy, all of them together: a rate of bytes, kept by waiting. No I/O, no clock.
//!
//! The rate of a node is dealt out to its shards in equal parts, because they share no state: a node that moves from one of
//! them only copies with that one's part. What is carried over behind a fence does not wait, and is little.
//!
//! Invariant: over any time, at most the rate times that time is sent, and one frame more.

use std::cell::Cell;

use crate::io::runtime::Nanos;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Bandwidth {
    /// When all that was sent is paid for.
    free_at: Cell<Nanos>,
}

impl Bandwidth {
    /// When a frame of `bytes` may be sent, which is taken to be.
    pub(super) fn due(&self, now: Nanos, bytes: usize, bytes_per_second: u64) -> Nanos {
        let due = self.free_at.get().max(now);
        let takes = u128::from(bytes as u64) * 1_000_000_000 / u128::from(bytes_per_second.max(1));
        let takes = u64::try_from(takes).unwrap_or(u64::MAX);
        self.free_at.set(Nanos(due.0.saturating_add(takes)));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_due_one_after_the_other_and_idle_time_is_not_saved_up() {
        let bandwidth = Bandwidth::default();
        let due = |now: u64, bytes| bandwidth.due(Nanos(now), bytes, 1_000_000).0;
        assert_eq!([due(5_000, 1000), due(5_000, 500), due(5_000, 1)], [5_000, 1_005_000, 1_505_000]);
        assert_eq!(due(9_000_000_000, 1000), 9_000_000_000);
        assert_eq!(due(9_000_000_000, 1000), 9_001_000_000);
    }
}
