//! What a log is told when it is made.

use std::path::PathBuf;
use std::time::Duration;

use super::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, LogId};
use super::log::Wal;
use crate::error::{Error, Result};
use crate::superblock::StoreId;

/// When a record counts as committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// When it is on the device, flushed. Nothing acknowledged is ever lost.
    Always,
    /// When the kernel has it, in its page cache; flushed this often. A power cut loses at most what was written since
    /// the last flush began; killing the process loses nothing acknowledged.
    Interval(Duration),
    /// When the kernel has it, in its page cache; flushed only to recycle log. A power cut may lose anything not yet in a
    /// segment; killing the process loses nothing acknowledged.
    None,
}

impl Durability {
    /// Whether each batch is flushed before it counts.
    pub(super) fn flushes_each_batch(self) -> bool {
        self == Self::Always
    }
}

/// What a log is told when it is made.
#[derive(Clone, Debug)]
pub struct WalConfig {
    /// Whose log it is.
    pub id: LogId,
    /// Its directory; the parent exists.
    pub dir: PathBuf,
    /// The size of each of its files: a multiple of 4 KiB, [`FILE_BYTES_MIN`] to [`FILE_BYTES_MAX`].
    pub file_bytes: u64,
    /// All files together never take more; at least two files.
    pub cap_bytes: u64,
    /// A batch that has reached this size takes no more records.
    pub batch_bytes_max: usize,
    /// When a record counts as committed.
    pub durability: Durability,
}

/// Log files of 64 KiB: for tests; a record has to fit one.
pub const FILE_BYTES_MIN: u64 = 64 << 10;
/// Log files of 1 GiB: any batch's length fits four bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 30;
/// The usual size: holds the largest write batch three times.
pub const FILE_BYTES_DEFAULT: u64 = 64 << 20;
/// The usual batch: large enough for a device's full bandwidth, small enough to take a millisecond.
pub const BATCH_BYTES_DEFAULT: usize = 1 << 20;

impl Wal {
    /// Whose log it is.
    pub(crate) fn store(&self) -> StoreId {
        self.shared.config.id.store
    }
}

impl WalConfig {
    /// How many files there may be.
    ///
    /// # Errors
    /// [`Error::Misuse`] for sizes outside the documented bounds.
    pub(super) fn slots_max(&self) -> Result<usize> {
        let aligned = self.file_bytes.is_multiple_of(BLOCK_BYTES as u64);
        if !aligned || !(FILE_BYTES_MIN..=FILE_BYTES_MAX).contains(&self.file_bytes) {
            let what = format!(
                "log files of {} bytes: must be a multiple of {BLOCK_BYTES} from {FILE_BYTES_MIN} to {FILE_BYTES_MAX}",
                self.file_bytes
            );
            return Err(Error::misuse(what));
        }
        if self.batch_bytes_max < BATCH_HEADER_BYTES {
            return Err(Error::misuse(format!("log batches of {} bytes hold nothing", self.batch_bytes_max)));
        }
        match usize::try_from(self.cap_bytes / self.file_bytes) {
            Ok(slots) if slots >= 2 => Ok(slots),
            Ok(_) | Err(_) => Err(Error::misuse(format!(
                "a log of at most {} bytes: needs room for two files of {}",
                self.cap_bytes, self.file_bytes
            ))),
        }
    }
}
