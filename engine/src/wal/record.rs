//! What a batch holds: records. A record is the effect of a command, never the command.
//!
//! Says what they are; `codec` says how they are written.

use zerocopy::little_endian::U32;

use super::codec::RawWitness;
use super::row::Rows;
use crate::ids::{EditNumber, Epoch, Incarnation, Index, PartitionId, ShardId, Version};

/// What every record starts with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecordHeader {
    /// Whose record it is.
    pub partition: PartitionId,
    /// The partition's configuration when it was written.
    pub epoch: Epoch,
    /// Its place among the partition's records; a copy carries its original's.
    pub index: Index,
    /// Partition time (R6), milliseconds since 1970.
    pub time_ms: u64,
}

/// A transaction over several partitions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TxId {
    /// The opening of the store in which it began.
    pub incarnation: Incarnation,
    /// The shard that coordinates it.
    pub shard: ShardId,
    /// Counts that shard's transactions.
    pub number: u64,
}

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Its rows count, with this version.
    Commit(Version),
    /// Its rows never were.
    Abort,
}

/// What kind of record to write; the rows of a `Write` or `Prepare` are given through
/// [`RowWriter`](super::RowWriter).
#[derive(Clone, Copy, Debug)]
pub enum Intent<'a> {
    /// Rows of one partition.
    Write,
    /// Rows that count if the transaction commits. A copy is the same, written again at the head so that the log
    /// before can go; it consumes no index.
    Prepare {
        /// The transaction.
        tx: TxId,
        /// All its partitions, the deciding one first.
        participants: &'a [PartitionId],
        /// Whether it repeats an earlier record.
        copy: bool,
    },
    /// The transaction commits: written by its first partition.
    Decide {
        /// The transaction.
        tx: TxId,
        /// The version its rows get.
        version: Version,
        /// All its partitions, the deciding one first.
        participants: &'a [PartitionId],
        /// Whether it repeats an earlier record.
        copy: bool,
    },
    /// The outcome has reached this partition.
    Resolve {
        /// The transaction.
        tx: TxId,
        /// How it ended.
        outcome: Outcome,
    },
    /// Partition time went on; nothing else happened.
    Time,
}

/// A record, borrowed from its batch.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Whose, and where in that partition's sequence. All zero for [`Body::Witness`].
    pub header: RecordHeader,
    /// What it says.
    pub body: Body<'a>,
}

/// What a record says: see [`Intent`].
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Rows of one partition.
    Write(Rows<'a>),
    /// Rows of a transaction.
    Prepare {
        /// The transaction.
        tx: TxId,
        /// All its partitions, the deciding one first.
        participants: Participants<'a>,
        /// Its rows here.
        rows: Rows<'a>,
        /// Whether it repeats an earlier record.
        copy: bool,
    },
    /// The transaction commits.
    Decide {
        /// The transaction.
        tx: TxId,
        /// The version its rows get.
        version: Version,
        /// All its partitions.
        participants: Participants<'a>,
        /// Whether it repeats an earlier record.
        copy: bool,
    },
    /// The outcome has reached this partition.
    Resolve {
        /// The transaction.
        tx: TxId,
        /// How it ended.
        outcome: Outcome,
    },
    /// Partition time went on.
    Time,
    /// Manifest edits that are durable (R2). No partition's record: its header is zero.
    Witness(Witnesses<'a>),
}

/// The partitions of a transaction, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Participants<'a>(pub(super) &'a [U32]);

impl Participants<'_> {
    /// All of them, the deciding one first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = PartitionId> + '_ {
        self.0.iter().map(|id| PartitionId(id.get()))
    }
}

/// Pairs of a partition and the number of its newest durable manifest edit, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Witnesses<'a>(pub(super) &'a [RawWitness]);

impl Witnesses<'_> {
    /// All pairs.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (PartitionId, EditNumber)> + '_ {
        self.0.iter().map(|w| (PartitionId(w.partition.get()), EditNumber(w.edit.get())))
    }
}
