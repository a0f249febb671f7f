//! The engine's numbers, one newtype each, so that two of them are never mixed.
//!
//! All are dense or monotone counters; none is ever reused within a store.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $int);

        impl $name {
            /// The number after this one.
            ///
            /// # Panics
            /// When the counter is exhausted, which at one per nanosecond takes centuries for 64 bits.
            #[must_use]
            pub const fn next(self) -> Self {
                match self.0.checked_add(1) {
                    Some(n) => Self(n),
                    None => panic!("counter exhausted"),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A partition's number within its store; also the name of its directory.
    PartitionId(u32)
}
number! {
    /// A partition's configuration number: who its primary and members are. Starts at 1.
    Epoch(u64)
}
number! {
    /// A partition's dense replication sequence: one per WAL record. The first record is 1.
    Index(u64)
}
number! {
    /// A row's Lamport number: of two writes of one row, the larger version is the newer. The first is 1;
    /// 0 stands for "never written".
    Version(u64)
}
number! {
    /// A byte position in a shard's log, counted since the log's incarnation began, across recycled files.
    Lsn(u64)
}
number! {
    /// Which opening of the store wrote a log. Every recovery makes a larger one durable before serving (R1).
    Incarnation(u64)
}
number! {
    /// A manifest edit's number: dense per partition, continued across manifest files.
    EditNumber(u64)
}
number! {
    /// How many changes the partition table has seen; of an entry, the change that wrote it last. The first state is 1;
    /// 0 stands for "not there".
    TableVersion(u64)
}
number! {
    /// A move of an entity: the table's version that opened it.
    MoveId(u64)
}
number! {
    /// A change of partitions, of those that were asked for since the node started.
    ReshapeId(u64)
}
number! {
    /// A segment file's number: unique within its partition.
    SegmentId(u64)
}

/// A shard's place among the shards of one opening of the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(pub u16);

impl Version {
    /// Older than every written row.
    pub const ZERO: Self = Self(0);
    /// Newer than every written row: a read at this version sees the latest.
    pub const MAX: Self = Self(u64::MAX);
}
