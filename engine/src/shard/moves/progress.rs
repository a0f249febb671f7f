//! How far a move is, for whoever asks.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::shadow::ShadowReport;
use crate::ids::{MoveId, PartitionId};
use crate::io::runtime::Nanos;

/// What a move is doing, or how it ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Others go first.
    Waiting,
    /// What there was at its beginning is copied.
    Base,
    /// What was written since is carried over, until little is missing.
    Log,
    /// What clients ask is asked of the target too, and compared.
    Shadow,
    /// Requests wait; the rest is carried over, and the table decides.
    CutOver,
    /// The target owns the entity; the source removes what it has of it.
    Dropping,
    /// What was copied is removed again.
    Undoing,
    /// It is done.
    Done,
    /// It was cancelled: everything is as it was.
    Cancelled,
    /// It failed: everything is as it was.
    Failed,
    /// The target did not bear what it was asked: everything is as it was.
    Rejected,
    /// The table's log failed while it was decided: only a restart can tell where the entity is.
    Unknown,
}

impl Phase {
    /// In one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Base => "base",
            Self::Log => "log",
            Self::Shadow => "shadow",
            Self::CutOver => "cut-over",
            Self::Dropping => "dropping",
            Self::Undoing => "undoing",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Failed | Self::Rejected | Self::Unknown)
    }
}

/// A move at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MoveStatus {
    /// Which move.
    pub id: MoveId,
    /// Whose.
    pub entity: Vec<u8>,
    /// From where.
    pub from: PartitionId,
    /// To where.
    pub to: PartitionId,
    /// What it is doing.
    pub phase: Phase,
    /// Rows, and bytes of them, of the base that were copied.
    pub base_rows: u64,
    /// Bytes of those.
    pub base_bytes: u64,
    /// Bytes of segments that were linked and not copied.
    pub linked_bytes: u64,
    /// Rows that were written meanwhile and were carried over.
    pub log_rows: u64,
    /// Bytes of those.
    pub log_bytes: u64,
    /// Bytes written that the target does not have yet.
    pub lag_bytes: u64,
    /// How often the base had to begin anew.
    pub restarts: u64,
    /// Since when the wall clock says it is under way, ms since 1970.
    pub began_ms: u64,
    /// How long it has taken.
    pub elapsed: Duration,
    /// Copied a second, on average, bytes.
    pub bytes_per_second: u64,
    /// How long it was under way when it began to copy; none: it has not.
    pub copying_after: Option<Duration>,
    /// How long it was under way when requests began to wait; none: they have not had to.
    pub fenced_after: Option<Duration>,
    /// How long requests waited, at most; none: they have not had to.
    pub pause: Option<Duration>,
    /// Why it failed.
    pub failure: Option<String>,
    /// What its shadow showed; none: it has none.
    pub shadow: Option<ShadowReport>,
}

/// What a move counts.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) phase: Cell<Phase>,
    pub(super) base_rows: Cell<u64>,
    pub(super) base_bytes: Cell<u64>,
    pub(super) linked_bytes: Cell<u64>,
    pub(super) log_rows: Cell<u64>,
    pub(super) log_bytes: Cell<u64>,
    pub(super) lag_bytes: Cell<u64>,
    pub(super) restarts: Cell<u64>,
    pub(super) began: Nanos,
    pub(super) began_ms: u64,
    pub(super) ended: Cell<Option<Nanos>>,
    pub(super) copying: Cell<Option<Nanos>>,
    pub(super) fenced: Cell<Option<Nanos>>,
    pub(super) pause: Cell<Option<Duration>>,
    pub(super) failure: RefCell<Option<String>>,
}

/// What all moves from this shard came to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MoveTotals {
    /// Moves under way.
    pub open: u64,
    /// Moves that are done.
    pub done: u64,
    /// Moves that were cancelled.
    pub cancelled: u64,
    /// Moves that failed.
    pub failed: u64,
    /// Moves that their shadow did not bear out.
    pub rejected: u64,
    /// Moves that it did.
    pub accepted: u64,
    /// Moves of which it could not tell.
    pub inconclusive: u64,
    /// Reads that were mirrored to shadows, of moves that have ended.
    pub mirrored: u64,
    /// Reads that were to be, and for which there was no room.
    pub mirrored_dropped: u64,
    /// Bytes copied, of bases and of what was written meanwhile.
    pub bytes: u64,
    /// Nanoseconds that requests waited at cut-overs, at most each, all together.
    pub pause_nanos: u64,
    /// The longest of those.
    pub pause_nanos_max: u64,
    /// Moves here after which the entity fared worse than before.
    pub regressed: u64,
    /// Requests that waited for a fence.
    pub parked: u64,
    /// Requests that were refused because they would have waited too long, or too many did.
    pub refused: u64,
}

impl Progress {
    pub(super) fn new(now: Nanos, began_ms: u64) -> Self {
        Self {
            phase: Cell::new(Phase::Waiting),
            base_rows: Cell::new(0),
            base_bytes: Cell::new(0),
            linked_bytes: Cell::new(0),
            log_rows: Cell::new(0),
            log_bytes: Cell::new(0),
            lag_bytes: Cell::new(0),
            restarts: Cell::new(0),
            began: now,
            began_ms,
            ended: Cell::new(None),
            copying: Cell::new(None),
            fenced: Cell::new(None),
            pause: Cell::new(None),
            failure: RefCell::new(None),
        }
    }

    pub(super) fn copied_base(&self, rows: u64, bytes: usize) {
        self.base_rows.set(self.base_rows.get() + rows);
        self.base_bytes.set(self.base_bytes.get() + bytes as u64);
    }

    pub(super) fn copied_log(&self, rows: u64, bytes: usize) {
        self.log_rows.set(self.log_rows.get() + rows);
        self.log_bytes.set(self.log_bytes.get() + bytes as u64);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.base_bytes.get() + self.log_bytes.get()
    }

    /// How long it has taken.
    pub(super) fn elapsed(&self, now: Nanos) -> Duration {
        self.ended.get().unwrap_or(now).since(self.began)
    }
}
