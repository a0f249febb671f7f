//! Room on the device: a reserve given up when there is none left, and taken back when there is.
//!
//! A full device must not stop what frees space. So some space is kept in a file; when a flush or a compaction
//! finds no room, the file is removed, writes that add data are refused, and flushes, compaction and deletes go on in
//! the room it leaves. Once the file can be made again, writes resume.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::io::disk::{Disk, OpenMode};

/// How often a full device is looked at.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// The reserve of one shard.
#[derive(Debug)]
pub(crate) struct Space {
    disk: Rc<dyn Disk>,
    path: PathBuf,
    bytes: u64,
    full: Cell<bool>,
    /// Nothing is left to give up, and a flush or compaction has failed since: what waits for one waits for an operator.
    exhausted: Cell<bool>,
}

impl Space {
    /// Takes the reserve at `path`; on a device without room for it the store opens full.
    ///
    /// # Errors
    /// What the disk says, other than that it is full.
    pub(crate) async fn open(disk: Rc<dyn Disk>, path: PathBuf, bytes: u64) -> Result<Self> {
        let space = Self { disk, path, bytes, full: Cell::new(true), exhausted: Cell::new(false) };
        space.try_resume().await?;
        Ok(space)
    }

    /// Whether writes that add data are refused.
    pub(crate) fn is_full(&self) -> bool {
        self.full.get()
    }

    /// Whether not even what frees space gets room.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted.get()
    }

    /// A flush or a compaction found room.
    pub(crate) fn found(&self) {
        self.exhausted.set(false);
    }

    /// What such a write is told.
    pub(crate) fn error(&self) -> Error {
        Error::Full(self.path.parent().unwrap_or(Path::new(".")).into())
    }

    /// There was no room: gives up the reserve. Whether that made any.
    pub(crate) async fn give_up(&self) -> bool {
        if !self.full.replace(true) {
            tracing::error!(
                "no space left at {}: writes are refused until there is; deletes and reads go on",
                self.path.display()
            );
        }
        let made_room = self.disk.remove(&self.path).await.is_ok();
        self.exhausted.set(!made_room);
        made_room
    }

    /// Takes the reserve again if there is room. Whether writes go on.
    ///
    /// # Errors
    /// What the disk says, other than that it is full.
    pub(crate) async fn try_resume(&self) -> Result<bool> {
        match self.reserve().await {
            Ok(()) => {
                self.exhausted.set(false);
                if self.full.replace(false) {
                    tracing::info!("space reserved at {}", self.path.display());
                }
                Ok(true)
            }
            Err(e) if e.is_no_space() => {
                // What could be taken of it must not itself fill the device.
                let _absent = self.disk.remove(&self.path).await;
                self.full.set(true);
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    async fn reserve(&self) -> Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        if self.full.get() && self.disk.free_bytes(dir).await? < 2 * self.bytes {
            // Taking all there is would leave the flush that is waiting without any.
            return Err(self.error());
        }
        let mode = if self.disk.exists(&self.path).await? { OpenMode::ReadWrite } else { OpenMode::Create };
        self.disk.open(&self.path, mode).await?.allocate(self.bytes).await
    }
}
