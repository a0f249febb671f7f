//! Why a change was not made: what came in between, by name, or that it could never be made.

use std::fmt;

use crate::ids::{Epoch, MoveId, PartitionId, TableVersion};

/// Why a change was not made, and nothing happened. All but [`Refusal::Impossible`] say what was found: look again, and
/// plan anew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Partitions' entries are not as they were seen.
    Stale {
        /// The table as it is.
        version: TableVersion,
        /// All entries that are not as they were seen.
        moved: Vec<Moved>,
    },
    /// An entity is not where the change takes it from, or its entry is not the one that was seen.
    Elsewhere {
        /// The table as it is.
        version: TableVersion,
        /// Which entity.
        entity: Vec<u8>,
        /// Where it is.
        partition: PartitionId,
        /// The change that placed it there; 0: it is at home.
        entry: TableVersion,
    },
    /// A partition is not in the epoch that a move is bound to (R13).
    Epoch {
        /// The table as it is.
        version: TableVersion,
        /// Which partition.
        partition: PartitionId,
        /// The epoch that the move is bound to.
        seen: Epoch,
        /// The one that it is in; none: there is no such partition.
        found: Option<Epoch>,
    },
    /// A move is under way that the change would pull away from under it, or would be the second of its entity.
    UnderWay {
        /// The table as it is.
        version: TableVersion,
        /// Which move.
        id: MoveId,
        /// Whose move.
        entity: Vec<u8>,
    },
    /// The move is not open: it was committed or aborted, or never was (R14).
    Decided {
        /// The table as it is.
        version: TableVersion,
        /// Which move.
        id: MoveId,
    },
    /// A partition's range is taken from it, or covers a guest of it, and the change does not say where that guest is to
    /// be (R17).
    Unnamed {
        /// The table as it is.
        version: TableVersion,
        /// Which partition.
        partition: PartitionId,
        /// Its guest.
        entity: Vec<u8>,
    },
    /// A limit is reached; there may be room again later.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// It could never be made.
    Impossible(&'static str),
}

/// An entry that is not what a change was made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Whose entry.
    pub partition: PartitionId,
    /// What the change was made from; 0: no entry.
    pub seen: TableVersion,
    /// What is there; 0: no entry.
    pub found: TableVersion,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self {
            Self::Impossible(what) => return write!(f, "a table change that can never be made: {what}"),
            Self::TooMany { what, limit } => {
                return write!(
                    f,
                    "the table holds {limit} {what}, and no more: try again when there are fewer"
                );
            }
            Self::Stale { version, .. }
            | Self::Elsewhere { version, .. }
            | Self::Epoch { version, .. }
            | Self::UnderWay { version, .. }
            | Self::Decided { version, .. }
            | Self::Unnamed { version, .. } => version,
        };
        write!(f, "the table is at version {version}: ")?;
        self.found(f)?;
        f.write_str("; look again and plan anew")
    }
}

impl Refusal {
    fn found(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible(_) | Self::TooMany { .. } => Ok(()),
            Self::Stale { moved, .. } => {
                for (n, moved) in moved.iter().enumerate() {
                    write!(f, "{}{moved}", if n == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::Elsewhere { entity, partition, entry, .. } => {
                write!(f, "entity \"{}\" is in partition {partition}, ", entity.escape_ascii())?;
                match entry.0 {
                    0 => f.write_str("its home"),
                    entry => write!(f, "placed there by change {entry}"),
                }
            }
            Self::Epoch { partition, seen, found: Some(found), .. } => {
                write!(f, "partition {partition} is in epoch {found}, the move is bound to epoch {seen}")
            }
            Self::Epoch { partition, found: None, .. } => write!(f, "there is no partition {partition}"),
            Self::UnderWay { id, entity, .. } => {
                write!(f, "move {id} of entity \"{}\" is under way", entity.escape_ascii())
            }
            Self::Decided { id, .. } => write!(f, "move {id} is not open"),
            Self::Unnamed { partition, entity, .. } => {
                let entity = entity.escape_ascii();
                write!(f, "entity \"{entity}\" is a guest of partition {partition}, and is not named")
            }
        }
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} was ", self.partition)?;
        match (self.seen.0, self.found.0) {
            (seen, 0) => write!(f, "removed since version {seen}"),
            (0, found) => write!(f, "made by change {found}"),
            (seen, found) => write!(f, "changed by change {found}, after version {seen}"),
        }
    }
}
