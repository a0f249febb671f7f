//! Rows held by prepared transactions, by moves and by changes of partitions, and who waits for them.
//!
//! A fence holds all rows of what is about to leave, as if it wrote them at any version: readers wait for it too.
//!
//! A transaction takes all its rows of a partition at once or waits; partitions are taken in ascending order by the
//! coordinator, so no two transactions wait for each other. Waiters are served in order of arrival: a request
//! conflicts with what is held *and* with what earlier arrivals wait for, so that nobody starves. A plain write has no place
//! in the queue, for there may be thousands of them: it remembers who was there when it came, and waits for no later ones,
//! but for one whose turn it is: what that one has validated has to stand until its rows are in.
//!
//! Invariants:
//! - two held spans of different holders never overlap;
//! - a plain write waits for any span it touches, a read only for written spans whose transaction might commit at or
//!   below the read's version (R4: no reader sees half a transaction), and for every fence.

use crate::batch::Op;
use crate::error::Error;
use crate::ids::{MoveId, ReshapeId, Version};
use crate::segment::KeyRange;
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
    /// All rows of `range`.
    pub(crate) fn of_range(range: &KeyRange) -> Self {
        // No storage key begins with this byte: routing keys begin with a slot below 16384.
        const BEHIND_ALL: &[u8] = &[0xff];
        let end = range.end.clone().unwrap_or_else(|| BEHIND_ALL.to_vec());
        Self { start: range.start.clone(), end: Some(end), write: true }
    }

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

/// Who holds rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holder {
    /// A prepared transaction.
    Transaction(TxId),
    /// A move's fence.
    Move(MoveId),
    /// The fence of a change of partitions.
    Reshape(ReshapeId),
}

#[derive(Debug)]
struct Held {
    holder: Holder,
    /// The transaction commits at this version or above; 0 for a fence.
    floor: Version,
    /// Its outcome cannot be learned before a restart: its coordinator's log failed while it decided.
    in_doubt: bool,
    spans: Vec<Span>,
}

#[derive(Debug)]
struct Queued {
    arrival: u64,
    /// It will be a fence.
    is_fence: bool,
    /// It has found nothing in its way, and nothing gets into it any more.
    has_turn: bool,
    spans: Vec<Span>,
}

/// A place in the queue, given up by [`Locks::leave`] or turned into a lock by [`Locks::acquire`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arrival(u64);

/// What is in the way at a row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Obstacle {
    /// Nothing: go on.
    None,
    /// Something that will be decided: wait.
    Undecided,
    /// A fence: wait, within its bounds.
    Fenced,
    /// A transaction whose outcome only a restart can tell.
    InDoubt,
}

impl Obstacle {
    /// This, or what a closed gate is where there is nothing else.
    pub(crate) fn or_gate(self, is_gated: bool) -> Self {
        if self == Self::None && is_gated { Self::Undecided } else { self }
    }
}

impl Locks {
    /// Whether nothing is held and nobody waits: the common case, which costs a load and a compare.
    pub(crate) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.queue.is_empty()
    }

    /// Takes a place in the queue for `spans`.
    pub(crate) fn arrive(&mut self, spans: Vec<Span>) -> Arrival {
        self.queue_up(spans, false)
    }

    /// As [`Locks::arrive`], for a fence: writers that come later wait within its bounds.
    pub(crate) fn arrive_fence(&mut self, spans: Vec<Span>) -> Arrival {
        self.queue_up(spans, true)
    }

    fn queue_up(&mut self, spans: Vec<Span>, is_fence: bool) -> Arrival {
        self.arrivals += 1;
        self.queue.push(Queued { arrival: self.arrivals, is_fence, has_turn: false, spans });
        Arrival(self.arrivals)
    }

    /// Gives the place up.
    pub(crate) fn leave(&mut self, arrival: Arrival) {
        self.queue.retain(|q| q.arrival != arrival.0);
    }

    /// What keeps `arrival` from what it asked for: holders, and earlier arrivals.
    pub(crate) fn obstacle_for(&self, arrival: Arrival) -> Obstacle {
        let Some(at) = self.queue.iter().position(|q| q.arrival == arrival.0) else {
            return Obstacle::None;
        };
        self.obstacle_among(&self.queue[at].spans, self.queue[..at].iter())
    }

    /// From here on its turn lasts, until it leaves or holds a lock. The caller has seen that nothing is in its way.
    pub(crate) fn begin_turn(&mut self, arrival: Arrival) {
        assert_eq!(self.obstacle_for(arrival), Obstacle::None, "begun in the turn of the look");
        self.queue.iter_mut().filter(|q| q.arrival == arrival.0).for_each(|q| q.has_turn = true);
    }

    /// Turns a free place in the queue into a lock held by `holder`. The caller has seen that nothing is in its way.
    pub(crate) fn acquire(&mut self, arrival: Arrival, holder: Holder, floor: Version) {
        assert_eq!(self.obstacle_for(arrival), Obstacle::None, "acquired in the turn of the look");
        if let Some(at) = self.queue.iter().position(|q| q.arrival == arrival.0) {
            let spans = self.queue.remove(at).spans;
            self.held.push(Held { holder, floor, in_doubt: false, spans });
        }
    }

    /// The latest arrival so far: what somebody who comes now waits for, at most.
    pub(crate) const fn latest(&self) -> Arrival {
        Arrival(self.arrivals)
    }

    /// What a plain write of `spans` meets that came when `latest` was the latest arrival.
    pub(crate) fn obstacle_to_write(&self, spans: &[Span], latest: Arrival) -> Obstacle {
        self.obstacle_among(spans, self.queue.iter().filter(|q| q.arrival <= latest.0 || q.has_turn))
    }

    fn obstacle_among<'a>(&self, wanted: &[Span], earlier: impl Iterator<Item = &'a Queued>) -> Obstacle {
        let held = self.held.iter().filter(|h| overlap_any(wanted, &h.spans)).map(Held::obstacle);
        let queued = earlier.filter(|q| overlap_any(wanted, &q.spans)).map(Queued::obstacle);
        held.chain(queued).max().unwrap_or(Obstacle::None)
    }

    /// What a read of `start..end` (one key without an end) at version `at` meets.
    pub(crate) fn obstacle(&self, start: &[u8], end: Option<&[u8]>, at: Version) -> Obstacle {
        let is_met = |held: &&Held| {
            let mut written = held.spans.iter().filter(|s| s.write);
            held.floor <= at && written.any(|s| overlaps((&s.start, s.end.as_deref()), (start, end)))
        };
        self.held.iter().filter(is_met).map(Held::obstacle).max().unwrap_or(Obstacle::None)
    }

    /// Whether some undecided transaction may still commit at or below `at`. A fence commits nothing.
    pub(crate) fn undecided_at(&self, at: Version) -> Obstacle {
        let is_transaction = |h: &&Held| matches!(h.holder, Holder::Transaction(_));
        let undecided = self.held.iter().filter(is_transaction).filter(|h| h.floor <= at);
        undecided.map(Held::obstacle).max().unwrap_or(Obstacle::None)
    }

    /// Frees what `holder` holds.
    pub(crate) fn release(&mut self, holder: Holder) {
        self.held.retain(|h| h.holder != holder);
    }

    /// Marks what `tx` holds as undecidable before a restart.
    pub(crate) fn doubt(&mut self, tx: TxId) {
        for held in self.held.iter_mut().filter(|h| h.holder == Holder::Transaction(tx)) {
            held.in_doubt = true;
        }
    }
}

impl Held {
    const fn obstacle(&self) -> Obstacle {
        match self.holder {
            Holder::Transaction(_) if self.in_doubt => Obstacle::InDoubt,
            Holder::Transaction(_) => Obstacle::Undecided,
            Holder::Move(_) | Holder::Reshape(_) => Obstacle::Fenced,
        }
    }
}

impl Queued {
    const fn obstacle(&self) -> Obstacle {
        if self.is_fence { Obstacle::Fenced } else { Obstacle::Undecided }
    }
}

/// What is told to whoever needs rows of a transaction in doubt.
pub(crate) fn in_doubt() -> Error {
    Error::Stopped("the row is part of a transaction whose outcome only a restart can tell".into())
}

fn overlap_any(wanted: &[Span], taken: &[Span]) -> bool {
    taken.iter().any(|t| {
        wanted.iter().any(|w| {
            (t.write || w.write) && overlaps((&t.start, t.end.as_deref()), (&w.start, w.end.as_deref()))
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

    const FREE: Obstacle = Obstacle::None;

    fn tx(number: u64) -> TxId {
        TxId { incarnation: Incarnation(1), shard: ShardId(0), number }
    }

    fn held_by(number: u64) -> Holder {
        Holder::Transaction(tx(number))
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
        locks.acquire(first, held_by(1), Version(1));
        let second = locks.arrive(vec![write(b"a"), write(b"b")]);
        let third = locks.arrive(vec![write(b"b")]);
        let other = locks.arrive(vec![write(b"c")]);
        let free = |locks: &Locks| [second, third, other].map(|arrival| locks.obstacle_for(arrival) == FREE);
        assert_eq!(free(&locks), [false, false, true]);
        locks.release(held_by(1));
        assert_eq!(free(&locks), [true, false, true]);
        locks.leave(second);
        assert_eq!(free(&locks), [true, true, true]);
    }

    #[test]
    fn a_plain_write_waits_for_those_who_were_there_when_it_came() {
        let mut locks = Locks::default();
        let first = locks.arrive(vec![write(b"a")]);
        locks.acquire(first, held_by(1), Version(1));
        let second = locks.arrive(vec![write(b"a")]);
        let came = locks.latest();
        let third = locks.arrive(vec![write(b"a")]);
        let meets = |locks: &Locks| locks.obstacle_to_write(&[write(b"a")], came);
        assert_eq!(meets(&locks), Obstacle::Undecided);
        locks.release(held_by(1));
        assert_eq!(meets(&locks), Obstacle::Undecided, "the second is before it");
        locks.acquire(second, held_by(2), Version(2));
        locks.release(held_by(2));
        assert_eq!(meets(&locks), FREE, "the third is not");
        locks.begin_turn(third);
        assert_eq!(meets(&locks), Obstacle::Undecided, "it validates what it has read");
        locks.acquire(third, held_by(3), Version(3));
        assert_eq!(meets(&locks), Obstacle::Undecided, "but what is held is held");
    }

    #[test]
    fn readers_wait_only_for_what_might_commit_in_their_past() {
        let mut locks = Locks::default();
        let arrival = locks.arrive(vec![range(b"a", b"c"), Span { write: false, ..write(b"x") }]);
        locks.acquire(arrival, held_by(1), Version(10));
        assert_eq!(locks.obstacle(b"b", None, Version(9)), Obstacle::None);
        assert_eq!(locks.obstacle(b"b", None, Version(10)), Obstacle::Undecided);
        assert_eq!(locks.obstacle(b"x", None, Version::MAX), Obstacle::None);
        assert_eq!(locks.obstacle_to_write(&[write(b"x")], locks.latest()), Obstacle::Undecided);
        assert_eq!(locks.obstacle(b"bb", Some(b"z"), Version::MAX), Obstacle::Undecided);
        locks.doubt(tx(1));
        assert_eq!(locks.obstacle(b"b", None, Version::MAX), Obstacle::InDoubt);
    }

    #[test]
    fn validated_reads_of_two_transactions_do_not_exclude_each_other() {
        let mut locks = Locks::default();
        let read = Span { write: false, ..write(b"a") };
        let first = locks.arrive(vec![read.clone()]);
        locks.acquire(first, held_by(1), Version(1));
        let second = locks.arrive(vec![read]);
        assert_eq!(locks.obstacle_for(second), FREE);
    }

    #[test]
    fn a_fence_waits_for_what_is_prepared_and_then_parks_readers_of_any_version() {
        let mut locks = Locks::default();
        let prepared = locks.arrive(vec![write(b"b")]);
        locks.acquire(prepared, held_by(1), Version(10));
        let fence = locks.arrive_fence(vec![range(b"a", b"c")]);
        assert_eq!(locks.obstacle_for(fence), Obstacle::Undecided);
        let before = Arrival(fence.0 - 1);
        let to_write = |locks: &Locks, key: &[u8], latest| locks.obstacle_to_write(&[write(key)], latest);
        assert_eq!(to_write(&locks, b"bb", locks.latest()), Obstacle::Fenced, "it would delay the fence");
        assert_eq!(to_write(&locks, b"bb", before), FREE, "it was there before the fence");
        assert_eq!(locks.obstacle(b"bb", None, Version::MAX), FREE, "readers delay nobody");
        locks.release(held_by(1));
        locks.acquire(fence, Holder::Move(MoveId(7)), Version::ZERO);
        let read = Span { write: false, ..write(b"b") };
        let later = locks.arrive(vec![read]);
        assert_eq!(locks.obstacle(b"bb", None, Version(1)), Obstacle::Fenced);
        assert_eq!(locks.obstacle_for(later), Obstacle::Fenced);
        assert_eq!(to_write(&locks, b"bb", before), Obstacle::Fenced, "which nobody gets past");
        assert_eq!(to_write(&locks, b"c", locks.latest()), FREE);
        assert_eq!(locks.undecided_at(Version::MAX), FREE, "it commits nothing");
        locks.release(Holder::Move(MoveId(7)));
        assert_eq!(locks.obstacle_for(later), FREE);
    }
}
