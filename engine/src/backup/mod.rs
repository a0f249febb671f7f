//! Backups: a cut of the whole store, in a directory of backups; and a store made of one.
//!
//! A directory of backups holds the backups of one store. Each backup is a small record (`record`) that names segments;
//! segments are immutable, so a later backup copies only those that are not there yet. No log is needed: a backup is
//! one cut over all partitions (`store/cut.rs` argues why transactions are whole in it), and every row of the cut is in
//! a segment it names (`partition/cuts.rs`).
//!
//! `source` takes a backup on the shards, `directory` is where it goes, `restore` makes a store of it, `copy` moves
//! one segment and checks every block on the way.
//!
//! Invariants:
//! - a record is written last, after every segment it names is durable under its name: an interrupted backup leaves
//!   the earlier ones as they were, and what it copied is not copied again by the next one;
//! - nothing of the source is written, and nothing there waits for the target: rows that are copied are held by open
//!   segments, not by locks;
//! - copies share no file with the source, unless links were asked for.

pub mod copy;
pub mod directory;
mod pace;
pub mod record;
pub mod restore;
pub mod source;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub use self::directory::Directory;
pub use self::record::Record;
use crate::error::{Error, Result};

/// What a backup is asked to be.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The directory of backups, taken with [`lock`].
    pub to: PathBuf,
    /// All copying together stays below this, bytes a second; 0: no bound.
    pub limit: u64,
    /// Give segments a second name instead of copying them: quick and free, on one file system only, and lost with it.
    pub link: bool,
    /// How many backups stay, this one included; none: all.
    pub keep: Option<usize>,
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The backup's number in its directory.
    pub number: u64,
    /// When it was taken, milliseconds since 1970.
    pub created_ms: u64,
    /// Partitions in it.
    pub partitions: usize,
    /// Segments in it, and their bytes.
    pub segments: u64,
    /// Bytes of all its segments.
    pub bytes: u64,
    /// Of those, segments that were not in the directory.
    pub segments_new: u64,
    /// Of those, bytes that were copied.
    pub bytes_copied: u64,
    /// The longest that a shard's writers waited for the cut.
    pub pause: Duration,
    /// Numbers of older backups that were removed.
    pub removed: Vec<u64>,
    /// Why what no backup names any more was not removed. The backup is whole all the same.
    pub untidy: Option<String>,
}

/// How far a backup or a restore is; and whether it is to go on. Shared between threads.
#[derive(Debug, Default)]
pub struct Progress {
    bytes_total: AtomicU64,
    bytes_done: AtomicU64,
    cancelled: AtomicBool,
}

impl Progress {
    /// Bytes to be copied, as far as that is known.
    #[must_use]
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total.load(Ordering::Relaxed)
    }

    /// Bytes copied so far.
    #[must_use]
    pub fn bytes_done(&self) -> u64 {
        self.bytes_done.load(Ordering::Relaxed)
    }

    /// Nobody wants the result any more: copying ends at the next piece.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    fn plan(&self, bytes: u64) -> u64 {
        self.bytes_total.fetch_add(bytes, Ordering::Relaxed) + bytes - self.bytes_done()
    }

    fn copied(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            Err(Error::misuse("given up by its caller"))
        } else {
            Ok(())
        }
    }
}

/// Takes a directory for this process, and makes it if need be: a backup's target, or a restore's. It is free again when
/// the result is dropped.
///
/// # Errors
/// [`Error::Misuse`] when another process has it; [`Error::Io`].
pub fn lock(dir: &Path) -> Result<std::fs::File> {
    crate::store::lock(dir)
}
