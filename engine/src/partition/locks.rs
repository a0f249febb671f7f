//! Rows held by prepared transactions, and who waits for them.
//!
//! A transaction takes all its rows of a partition at once or waits; partitions are taken in ascending order by the
//! coordinator, so no two transactions wait for each other. Waiters are served in order of arrival: a request
//! conflicts with what is held *and* with what earlier arrivals wait for, so that nobody starves.
//!
//! Invariants:
//! - two held spans of different transactions never overlap;
//! - a plain write waits for any span it touches, a read only for written spans whose transaction might commit at or
//!   below the read's version (R4: no reader sees half a transaction).

use crate::batch::Op;
use crate::error::Error;
use crate::ids::Version;
use crate::wal::TxId;

/// Some rows: one storage key, or a range of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    /// First storage key.
    pub(crate) start: Vec<u8>,
    /// First storage key after the span; `None` for the single key `start`.
    pub(crate) end: Option<Vec<u8>>,
    /// Whether the transaction writes here, or only read it and validates.
    pub(crate) write: bool,
}

impl Span {
    /// What an operation writes.
    pub(crate) fn of(op: &Op<'_>) -> Self {
        let end = match op {
            Op::DeleteRange { end, .. } => Some(end.to_vec()),
            Op::Put { .. } | Op::Delete { .. } => None,
        };
        Self { start: op.key().to_vec(), end, write: true }
    }
}

/// The lock table of one partition.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    held: Vec<Held>,
    queue: Vec<Queued>,
    arrivals: u64,
}

#[derive(Debug)]
struct Held {
    tx: TxId,
    /// The transaction commits at this version or above.
    floor: Version,
    /// Its outcome cannot be learned before a restart: its coordinator's log failed while it decided.
    in_doubt: bool,
    spans: Vec<Span>,
}

#[derive(Debug)]
struct Queued {
    arrival: u64,
    spans: Vec<Span>,
}

/// A place in the queue, given up by [`Locks::leave`] or turned into a lock by [`Locks::try_acquire`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arrival(u64);

/// What a reader finds at a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Obstacle {
    /// Nothing: read on.
    None,
    /// A transaction that will be decided: wait.
    Undecided,
    /// A transaction whose outcome only a restart can tell.
    InDoubt,
}

impl Locks {
    /// Whether nothing is held and nobody waits: the common case, which costs a load and a compare.
    pub(crate) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.queue.is_empty()
    }

    /// Takes a place in the queue for `spans`.
    pub(crate) fn arrive(&mut self, spans: Vec<Span>) -> Arrival {
        self.arrivals += 1;
        self.queue.push(Queued { arrival: self.arrivals, spans });
        Arrival(self.arrivals)
    }

    /// Gives the place up.
    pub(crate) fn leave(&mut self, arrival: Arrival) {
        self.queue.retain(|q| q.arrival != arrival.0);
    }

    /// Whether everything `arrival` asked for is free of holders and of earlier arrivals.
    pub(crate) fn is_free(&self, arrival: Arrival) -> bool {
        let Some(at) = self.queue.iter().position(|q| q.arrival == arrival.0) else {
            return true;
        };
        let wanted = &self.queue[at].spans;
        let taken = self.held.iter().map(|h| &h.spans).chain(self.queue[..at].iter().map(|q| &q.spans));
        !overlap_any(wanted, taken)
    }

    /// Turns a free place in the queue into a lock held by `tx`. The caller has seen [`Locks::is_free`].
    pub(crate) fn acquire(&mut self, arrival: Arrival, tx: TxId, floor: Version) {
        assert!(self.is_free(arrival), "acquire follows is_free without an await");
        if let Some(at) = self.queue.iter().position(|q| q.arrival == arrival.0) {
            let spans = self.queue.remove(at).spans;
            self.held.push(Held { tx, floor, in_doubt: false, spans });
        }
    }

    /// Whether a plain write of `span` must wait.
    pub(crate) fn blocks_write(&self, span: &Span) -> bool {
        let taken = self.held.iter().map(|h| &h.spans).chain(self.queue.iter().map(|q| &q.spans));
        overlap_any(std::slice::from_ref(span), taken)
    }

    /// What a read of `start..end` (one key without an end) at version `at` meets.
    pub(crate) fn obstacle(&self, start: &[u8], end: Option<&[u8]>, at: Version) -> Obstacle {
        let mut found = Obstacle::None;
        for held in self.held.iter().filter(|h| h.floor <= at) {
            let mut written = held.spans.iter().filter(|s| s.write);
            if written.any(|s| overlaps((&s.start, s.end.as_deref()), (start, end))) {
                if held.in_doubt {
                    return Obstacle::InDoubt;
                }
                found = Obstacle::Undecided;
            }
        }
        found
    }

    /// Whether any of `spans` is held by a transaction whose outcome only a restart can tell.
    pub(crate) fn is_doubtful(&self, spans: &[Span]) -> bool {
        overlap_any(spans, self.held.iter().filter(|h| h.in_doubt).map(|h| &h.spans))
    }

    /// As [`Locks::is_doubtful`], for what an arrival asked for.
    pub(crate) fn is_doubtful_for(&self, arrival: Arrival) -> bool {
        self.queue.iter().find(|q| q.arrival == arrival.0).is_some_and(|q| self.is_doubtful(&q.spans))
    }

    /// Whether some undecided transaction may still commit at or below `at`.
    pub(crate) fn undecided_at(&self, at: Version) -> Obstacle {
        let undecided = || self.held.iter().filter(|h| h.floor <= at);
        match undecided().next() {
            None => Obstacle::None,
            Some(_) if undecided().any(|h| h.in_doubt) => Obstacle::InDoubt,
            Some(_) => Obstacle::Undecided,
        }
    }

    /// Frees what `tx` holds.
    pub(crate) fn release(&mut self, tx: TxId) {
        self.held.retain(|h| h.tx != tx);
    }

    /// Marks what `tx` holds as undecidable before a restart.
    pub(crate) fn doubt(&mut self, tx: TxId) {
        for held in self.held.iter_mut().filter(|h| h.tx == tx) {
            held.in_doubt = true;
        }
    }
}

/// What is told to whoever needs rows of a transaction in doubt.
pub(crate) fn in_doubt() -> Error {
    Error::Stopped("the row is part of a transaction whose outcome only a restart can tell".into())
}

fn overlap_any<'a>(wanted: &[Span], mut taken: impl Iterator<Item = &'a Vec<Span>>) -> bool {
    taken.any(|spans| {
        spans.iter().any(|t| {
            wanted.iter().any(|w| {
                (t.write || w.write) && overlaps((&t.start, t.end.as_deref()), (&w.start, w.end.as_deref()))
            })
        })
    })
}

fn overlaps(a: (&[u8], Option<&[u8]>), b: (&[u8], Option<&[u8]>)) -> bool {
    let begins_before_end = |start: &[u8], other: (&[u8], Option<&[u8]>)| match other.1 {
        Some(end) => start < end,
        None => start <= other.0,
    };
    begins_before_end(a.0, b) && begins_before_end(b.0, a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Incarnation, ShardId};

    fn tx(number: u64) -> TxId {
        TxId { incarnation: Incarnation(1), shard: ShardId(0), number }
    }

    fn write(key: &[u8]) -> Span {
        Span { start: key.to_vec(), end: None, write: true }
    }

    fn range(start: &[u8], end: &[u8]) -> Span {
        Span { start: start.to_vec(), end: Some(end.to_vec()), write: true }
    }

    #[test]
    fn spans_overlap_at_their_edges_as_half_open_ranges_do() {
        let key = |k: &'static [u8]| (k, None);
        let range = |a: &'static [u8], b: &'static [u8]| (a, Some(b));
        assert!(overlaps(key(b"b"), key(b"b")));
        assert!(!overlaps(key(b"b"), key(b"ba")));
        assert!(overlaps(range(b"a", b"c"), key(b"a")));
        assert!(!overlaps(range(b"a", b"c"), key(b"c")));
        assert!(!overlaps(range(b"a", b"c"), range(b"c", b"d")));
        assert!(overlaps(range(b"a", b"c"), range(b"b", b"d")));
    }

    #[test]
    fn later_arrivals_wait_behind_earlier_ones_for_the_same_rows() {
        let mut locks = Locks::default();
        let first = locks.arrive(vec![write(b"a")]);
        locks.acquire(first, tx(1), Version(1));
        let second = locks.arrive(vec![write(b"a"), write(b"b")]);
        let third = locks.arrive(vec![write(b"b")]);
        let other = locks.arrive(vec![write(b"c")]);
        assert!(!locks.is_free(second) && !locks.is_free(third) && locks.is_free(other));
        locks.release(tx(1));
        assert!(locks.is_free(second) && !locks.is_free(third));
        locks.leave(second);
        assert!(locks.is_free(third));
    }

    #[test]
    fn readers_wait_only_for_what_might_commit_in_their_past() {
        let mut locks = Locks::default();
        let arrival = locks.arrive(vec![range(b"a", b"c"), Span { write: false, ..write(b"x") }]);
        locks.acquire(arrival, tx(1), Version(10));
        assert_eq!(locks.obstacle(b"b", None, Version(9)), Obstacle::None);
        assert_eq!(locks.obstacle(b"b", None, Version(10)), Obstacle::Undecided);
        assert_eq!(locks.obstacle(b"x", None, Version::MAX), Obstacle::None);
        assert!(locks.blocks_write(&write(b"x")));
        assert_eq!(locks.obstacle(b"bb", Some(b"z"), Version::MAX), Obstacle::Undecided);
        locks.doubt(tx(1));
        assert_eq!(locks.obstacle(b"b", None, Version::MAX), Obstacle::InDoubt);
    }

    #[test]
    fn validated_reads_of_two_transactions_do_not_exclude_each_other() {
        let mut locks = Locks::default();
        let read = Span { write: false, ..write(b"a") };
        let first = locks.arrive(vec![read.clone()]);
        locks.acquire(first, tx(1), Version(1));
        let second = locks.arrive(vec![read]);
        assert!(locks.is_free(second));
    }
}
