//! What can go wrong, split by whose fault it is.
//!
//! A bug of ours is an `assert!`, never an error; bytes from outside are an error, never an assert.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::ids::TableVersion;

/// The result of an engine operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation was not done. Cheap to clone: one failure is told to every waiter.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The bytes on disk are not what was written there.
    #[error("{0}")]
    Corrupt(Arc<Corruption>),
    /// The kernel or the device refused an operation.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was attempted: "write", "sync", "open", ..
        operation: &'static str,
        /// The file or directory.
        path: Arc<Path>,
        /// The operating system's word for it.
        source: Arc<io::Error>,
    },
    /// The caller broke a documented limit or contract; nothing was changed.
    #[error("{0}")]
    Misuse(Arc<str>),
    /// No room on the device: this write was refused, reads and deletes go on, and writes resume by themselves
    /// when there is room.
    #[error("no space left for writes in {}: free some; deletes and reads go on, writes resume by themselves", .0.display())]
    Full(Arc<Path>),
    /// A row read by this transaction was changed before it committed; run it again.
    #[error("a row this transaction read was changed by another: run it again")]
    Conflict,
    /// Not here as of this version of the partition table: whoever has learnt that version knows where. Nothing was
    /// done. Callers of a store never see it: whoever routes an operation follows.
    #[error("not here any more as of version {version} of the partition table: look again")]
    Moved {
        /// The table that says so.
        version: TableVersion,
    },
    /// It was certainly not done: its rows were on their way to another partition for longer than it could wait.
    #[error("{0}; nothing was done: try again")]
    TryAgain(Arc<str>),
    /// The shard stopped acknowledging (R3). What it had acknowledged is safe and can still be read.
    #[error("the shard stopped taking writes: {0}")]
    Stopped(Arc<str>),
    /// The store is closing or closed.
    #[error("the store is closed")]
    Closed,
    /// This machine lacks something the engine needs.
    #[error("{0}")]
    Unsupported(Arc<str>),
}

/// Where the damage is and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    /// The damaged file.
    pub path: PathBuf,
    /// Offset of the damaged structure in the file, in bytes.
    pub offset: u64,
    /// What was expected and what was found.
    pub what: String,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "corrupt: {} at offset {}: {}", self.path.display(), self.offset, self.what)
    }
}

impl Error {
    /// Damage in `path` at `offset`.
    pub fn corrupt(path: impl Into<PathBuf>, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt(Arc::new(Corruption { path: path.into(), offset, what: what.into() }))
    }

    /// A failed system operation.
    pub fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: Arc::from(path), source: Arc::new(source) }
    }

    /// The caller's mistake.
    pub fn misuse(what: impl Into<String>) -> Self {
        Self::Misuse(Arc::from(what.into()))
    }

    /// Waited as long as it may, and was not done.
    pub fn try_again(why: impl Into<String>) -> Self {
        Self::TryAgain(Arc::from(why.into()))
    }

    /// Whether this is the device saying that it has no room.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Full(_) => true,
            Self::Corrupt(_)
            | Self::Misuse(_)
            | Self::Conflict
            | Self::Moved { .. }
            | Self::TryAgain(_)
            | Self::Stopped(_)
            | Self::Closed
            | Self::Unsupported(_) => false,
        }
    }
}

impl From<Rc<Self>> for Error {
    fn from(shared: Rc<Self>) -> Self {
        (*shared).clone()
    }
}
