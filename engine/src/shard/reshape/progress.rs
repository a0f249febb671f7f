//! What is asked of partitions, and how far it is, for whoever asks.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::ids::{PartitionId, ReshapeId, ShardId};
use crate::io::runtime::Nanos;
use crate::key::RoutingKey;
use crate::table::{Image, Partitions};

/// A change of partitions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// The upper part of a partition's range becomes a partition of its own, on the same shard.
    Split {
        /// Which partition.
        partition: PartitionId,
        /// The first routing key of the new one; none: where it halves the load.
        at: Option<RoutingKey>,
    },
    /// A partition takes in another one, whose range lies beside its own. If that is on another shard, it comes to this
    /// one's first, and stays there should it not come to a merge.
    Merge {
        /// Which partition stays.
        into: PartitionId,
        /// Which one is no more.
        from: PartitionId,
    },
    /// A partition goes to another shard.
    HandOver {
        /// Which partition.
        partition: PartitionId,
        /// Which shard gets it.
        to: ShardId,
    },
}

/// What a change of partitions is doing, or how it ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Others go first, moves among them.
    Waiting,
    /// Segments are linked, or opened where they are to be; everything goes on.
    Linking,
    /// Requests for what is on its way wait; the rest follows, and the table decides.
    CutOver,
    /// The table has decided; what is left over is removed.
    Cleaning,
    /// It is done.
    Done,
    /// It was cancelled: everything is as it was.
    Cancelled,
    /// It failed: everything is as it was.
    Failed,
    /// The table's log failed while it was decided: only a restart can tell.
    Unknown,
}

impl Phase {
    /// In one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Linking => "linking",
            Self::CutOver => "cut-over",
            Self::Cleaning => "cleaning",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Failed | Self::Unknown)
    }
}

/// A change of partitions at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReshapeStatus {
    /// Which one, since the node started.
    pub id: ReshapeId,
    /// What was asked for.
    pub order: Order,
    /// What it is doing.
    pub phase: Phase,
    /// Of a split: the partition that it makes.
    pub made: Option<PartitionId>,
    /// Of a split: where.
    pub at: Option<RoutingKey>,
    /// Bytes of segments that changed hands without being written.
    pub linked_bytes: u64,
    /// Since when the wall clock says it is under way, ms since 1970.
    pub began_ms: u64,
    /// How long it has taken.
    pub elapsed: Duration,
    /// How long requests waited, at most, also where it did not come to a decision; none: they have not had to.
    pub pause: Option<Duration>,
    /// Why it failed.
    pub failure: Option<String>,
}

/// What all of a shard's came to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ReshapeTotals {
    /// Under way.
    pub open: u64,
    /// Done.
    pub done: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Failed.
    pub failed: u64,
    /// Bytes of segments that changed hands without being written.
    pub linked_bytes: u64,
    /// Nanoseconds that requests waited at cut-overs, at most each, all together.
    pub pause_nanos: u64,
    /// The longest of those.
    pub pause_nanos_max: u64,
}

/// What one counts.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) phase: Cell<Phase>,
    pub(super) made: Cell<Option<PartitionId>>,
    pub(super) at: Cell<Option<RoutingKey>>,
    pub(super) linked_bytes: Cell<u64>,
    pub(super) began: Nanos,
    pub(super) began_ms: u64,
    pub(super) ended: Cell<Option<Nanos>>,
    pub(super) pause: Cell<Option<Duration>>,
    pub(super) failure: RefCell<Option<String>>,
}

impl Progress {
    pub(super) fn new(now: Nanos, began_ms: u64) -> Self {
        Self {
            phase: Cell::new(Phase::Waiting),
            made: Cell::new(None),
            at: Cell::new(None),
            linked_bytes: Cell::new(0),
            began: now,
            began_ms,
            ended: Cell::new(None),
            pause: Cell::new(None),
            failure: RefCell::new(None),
        }
    }
}

impl Order {
    /// The partition whose shard drives it.
    #[must_use]
    pub const fn partition(&self) -> PartitionId {
        match self {
            Self::Split { partition, .. } | Self::HandOver { partition, .. } => *partition,
            Self::Merge { into, .. } => *into,
        }
    }

    /// All partitions that it changes.
    pub(super) fn partitions(&self) -> Vec<PartitionId> {
        match self {
            Self::Split { partition, .. } | Self::HandOver { partition, .. } => vec![*partition],
            Self::Merge { into, from } => vec![*into, *from],
        }
    }

    /// Whether it can be, as things are.
    ///
    /// # Errors
    /// [`Error::Misuse`]: why not.
    pub(super) fn check(&self, image: &Image) -> Result<()> {
        for id in self.partitions() {
            if image.place_of(id).is_none() {
                return Err(Error::misuse(format!("there is no partition {id}")));
            }
        }
        match *self {
            Self::Split { partition, at } => {
                let home = image.place_of(partition).filter(|home| home.start.0 + 1 < home.end.0);
                let home = home.ok_or_else(|| {
                    Error::misuse(format!("partition {partition} has no range that could be split"))
                })?;
                if at.is_some_and(|at| at <= home.start || at >= home.end) {
                    return Err(Error::misuse(format!(
                        "partition {partition} has the routing keys {:#018x} to {:#018x}: it is split between them",
                        home.start.0, home.end.0
                    )));
                }
            }
            Self::Merge { into, from } => {
                if Partitions::merge(image.state(), into, from).is_none() {
                    return Err(Error::misuse(format!(
                        "partitions {into} and {from} are not two whose ranges lie side by side"
                    )));
                }
            }
            Self::HandOver { partition, to } => {
                if to.0 >= image.state().shards {
                    let shards = image.state().shards;
                    return Err(Error::misuse(format!(
                        "there is no shard {}, but 0 to {}",
                        to.0,
                        shards - 1
                    )));
                }
                if image.place_of(partition).is_some_and(|home| home.shard == to) {
                    return Err(Error::misuse(format!("partition {partition} is on shard {} already", to.0)));
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split { partition, at: Some(at) } => {
                write!(f, "split partition {partition} at {:#018x}", at.0)
            }
            Self::Split { partition, at: None } => write!(f, "split partition {partition}"),
            Self::Merge { into, from } => write!(f, "merge partition {from} into {into}"),
            Self::HandOver { partition, to } => {
                write!(f, "hand partition {partition} over to shard {}", to.0)
            }
        }
    }
}
