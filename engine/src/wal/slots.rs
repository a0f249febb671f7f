//! Making a log's files, or taking them over from an earlier incarnation.
//!
//! A file joins the log when its content and its name are durable, never before. No room on the device is not a
//! failure: the log goes on with the files it has and tries again.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::shared::Shared;
use super::space::FileNumber;
use crate::error::{Error, Result};
use crate::io::disk::{File, OpenMode};

/// How long after a device without room it is tried again.
pub(super) const FULL_RETRY: Duration = Duration::from_millis(200);
const SUFFIX: &str = ".wal";

/// The name of a log's file.
#[must_use]
pub fn file_name(number: FileNumber) -> String {
    format!("{number}{SUFFIX}")
}

/// The number in a log file's name; none if it is not one.
#[must_use]
pub fn file_number(name: &str) -> Option<FileNumber> {
    let number = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

impl Shared {
    /// Whether files are written through the page cache: where nobody waits for a batch to be durable, nobody is to wait for a
    /// device either that is busy with the flush of a segment, a tenth of a second or two for what one has written.
    pub(super) fn is_cached(&self) -> bool {
        !self.config.durability.flushes_each_batch()
    }

    /// Makes the log's directory, empty and durable.
    pub(super) async fn clear_directory(&self) -> Result<()> {
        let dir = &self.config.dir;
        self.disk.create_dir(dir).await?;
        for name in self.disk.list(dir).await? {
            self.disk.remove(&dir.join(name)).await?;
        }
        match dir.parent() {
            Some(parent) => self.disk.sync_dir(parent).await,
            None => Ok(()),
        }
    }

    /// Writes zeroes, adopts and makes files as they are asked for.
    pub(super) async fn run_preparer(self: Rc<Self>) {
        loop {
            self.prepare.taken().await;
            let mut result = Ok(());
            while result.is_ok() && !self.is_failed() {
                let has_spares = !self.spares.borrow().is_empty();
                result = if self.is_zeroing_due() {
                    self.zero().await
                } else if has_spares {
                    self.adopt_files().await
                } else if self.is_file_due() {
                    self.make_file().await
                } else {
                    break;
                };
            }
            match result {
                Ok(()) => {}
                Err(error) if error.is_no_space() => {
                    if !self.full.replace(true) {
                        tracing::warn!(dir = %self.config.dir.display(), "no room for another log file");
                        self.wake_room();
                        self.wake_pressed();
                    }
                    self.runtime.sleep(FULL_RETRY).await;
                    self.full.set(!self.has_room_for_file().await);
                    self.prepare.raise();
                }
                Err(error) => {
                    self.fail(&error);
                    return;
                }
            }
        }
    }

    /// Whether the device looks as if it had room again. An error here comes up again where it matters.
    async fn has_room_for_file(&self) -> bool {
        self.disk.free_bytes(&self.config.dir).await.is_ok_and(|free| free >= self.config.file_bytes)
    }

    /// Makes a file; when there is no room for it, nothing is left of it.
    pub(super) async fn make_file(&self) -> Result<()> {
        let path = self.file_path(self.files.borrow().len());
        let result = self.write_file(path.clone()).await;
        // There may not have been room for its name either.
        if result.as_ref().is_err_and(Error::is_no_space) && self.disk.exists(&path).await? {
            self.disk.remove(&path).await?;
        }
        result
    }

    async fn write_file(&self, path: PathBuf) -> Result<()> {
        let mode = if self.is_cached() { OpenMode::CachedCreate } else { OpenMode::Create };
        let file = self.disk.open(&path, mode).await?;
        let written = self.write_front(&file).await?;
        self.disk.sync_dir(&self.config.dir).await?;
        self.joined(file, written);
        Ok(())
    }

    /// Renames files of an earlier incarnation into this log. Those of no use here stay where they are.
    async fn adopt_files(&self) -> Result<()> {
        let renamed = self.rename_files().await;
        if let Err(error) = &renamed {
            // Some of them have their names here and are not known yet: not to be tried again, for want of room neither.
            self.fail(error);
        }
        renamed
    }

    async fn rename_files(&self) -> Result<()> {
        let paths = std::mem::take(&mut *self.spares.borrow_mut());
        let mode = if self.is_cached() { OpenMode::CachedReadWrite } else { OpenMode::ReadWrite };
        let mut taken: Vec<Rc<dyn File>> = Vec::new();
        for path in &paths {
            let number = self.files.borrow().len() + taken.len();
            if number < self.space.borrow().files_max() && self.has_right_size(path).await {
                let name = self.file_path(number);
                match self.disk.rename(path, &name).await {
                    Ok(()) => {}
                    Err(error) if error.is_no_space() => break,
                    Err(error) => return Err(error),
                }
                taken.push(self.disk.open(&name, mode).await?);
            }
        }
        if !taken.is_empty() {
            self.disk.sync_dir(&self.config.dir).await?;
        }
        taken.into_iter().for_each(|file| self.joined(file, self.config.file_bytes));
        self.adopted.advance(self.adopted.reached() + paths.len() as u64);
        Ok(())
    }

    async fn has_right_size(&self, path: &Path) -> bool {
        match self.disk.open(path, OpenMode::Read).await {
            Ok(file) => file.size().await.is_ok_and(|size| size == self.config.file_bytes),
            Err(_) => false,
        }
    }
}
