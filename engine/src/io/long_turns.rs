//! Turns that held a shard for long, by what was done in them: whom everybody waited for.
//!
//! Code that may take long says what it is ([`Runtime::named`](super::runtime::Runtime::named)); a long turn is counted for
//! the last that said so in it, and logged. The driver's own system calls are counted likewise: what the kernel does in
//! them, the shard does not do.
//!
//! Invariant: a turn that is not long costs one store and one comparison.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use super::runtime::Nanos;

/// A turn of so long is long: ten slices.
pub(crate) const LONG: Duration = Duration::from_millis(2);
/// One of so long is what an operator has to hear of: whoever came meanwhile waited for longer than a device read takes.
const TOLD: Duration = Duration::from_millis(20);
/// Between two that are told: a machine that is short of cores has many.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// What a turn does of which nobody said what it is.
pub(crate) const UNNAMED: &str = "other";
/// System calls.
pub(crate) const KERNEL: &str = "kernel";

/// Long turns in which the same was done.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LongTurn {
    /// How many.
    pub count: u64,
    /// How long all of them were.
    pub nanos: u64,
    /// The longest.
    pub nanos_max: u64,
}

/// All of a shard's.
#[derive(Debug)]
pub(crate) struct LongTurns {
    /// What this turn does.
    doing: Cell<&'static str>,
    by_what: RefCell<BTreeMap<&'static str, LongTurn>>,
    told: Cell<Option<Nanos>>,
}

impl Default for LongTurns {
    fn default() -> Self {
        Self { doing: Cell::new(UNNAMED), by_what: RefCell::default(), told: Cell::new(None) }
    }
}

impl LongTurns {
    /// What this turn does from here on.
    #[inline]
    pub(crate) fn doing(&self, what: &'static str) {
        self.doing.set(what);
    }

    /// A turn has ended, or a system call, at `now`.
    #[inline]
    pub(crate) fn ended(&self, now: Nanos, took: Duration) {
        if took >= LONG {
            self.note(now, took);
        }
    }

    #[cold]
    fn note(&self, now: Nanos, took: Duration) {
        let what = self.doing.get();
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let mut by_what = self.by_what.borrow_mut();
        let one = by_what.entry(what).or_default();
        *one = LongTurn {
            count: one.count + 1,
            nanos: one.nanos.saturating_add(nanos),
            nanos_max: one.nanos_max.max(nanos),
        };
        drop(by_what);
        if took >= TOLD && self.told.get().is_none_or(|told| now.since(told) >= TOLD_EVERY) {
            self.told.set(Some(now));
            tracing::warn!("a turn took {took:.1?}: {what}");
        }
    }

    /// All so far.
    pub(crate) fn all(&self) -> Vec<(&'static str, LongTurn)> {
        self.by_what.borrow().iter().map(|(what, one)| (*what, *one)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_turns_are_counted_for_what_they_did_and_short_ones_are_not() {
        let turns = LongTurns::default();
        let millis = Duration::from_millis;
        turns.ended(Nanos(0), millis(1));
        turns.ended(Nanos(0), millis(2));
        turns.doing("purge");
        turns.ended(Nanos(0), millis(3));
        turns.ended(Nanos(0), millis(30));
        let one =
            |count, ms: u64, max: u64| LongTurn { count, nanos: ms * 1_000_000, nanos_max: max * 1_000_000 };
        assert_eq!(turns.all(), [(UNNAMED, one(1, 2, 2)), ("purge", one(2, 33, 30))]);
    }
}
