//! Making a log's files: zero-written once, or taken over from an earlier incarnation.
//!
//! A file joins the log when its content and its name are durable, never before. No room on the device is not a
//! failure: the log goes on with the files it has and tries again.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::shared::Shared;
use super::space::FileNumber;
use crate::error::{Error, Result};
use crate::io::buffer::AlignedBuf;
use crate::io::disk::{OpenMode, Write};

/// Zeroes go out in slices, so that a commit never waits long behind them.
const ZERO_BYTES: usize = 1 << 20;
/// How long after a device without room the next file is tried.
const FULL_RETRY: Duration = Duration::from_millis(200);
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

    /// Adopts and makes files as they are asked for.
    pub(super) async fn run_preparer(self: Rc<Self>) {
        loop {
            self.prepare.taken().await;
            let mut result = Ok(());
            while result.is_ok() && !self.is_failed() {
                let spare = self.spares.borrow_mut().pop_front();
                result = match spare {
                    Some(path) => self.adopt_file(path).await,
                    None if self.is_file_due() => self.make_file().await,
                    None => break,
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

    /// Makes a file of zeroes; when there is no room for it, nothing is left of it.
    pub(super) async fn make_file(&self) -> Result<()> {
        let path = self.file_path(self.files.borrow().len());
        let result = self.write_zeroes(path.clone()).await;
        // There may not have been room for its name either.
        if result.as_ref().is_err_and(Error::is_no_space) && self.disk.exists(&path).await? {
            self.disk.remove(&path).await?;
        }
        result
    }

    async fn write_zeroes(&self, path: PathBuf) -> Result<()> {
        let file = self.disk.open(&path, OpenMode::Create).await?;
        let file_bytes = self.config.file_bytes;
        file.allocate(file_bytes).await?;
        let slice = u64::try_from(ZERO_BYTES).unwrap_or(u64::MAX).min(file_bytes);
        let mut zeroes = AlignedBuf::zeroed(usize::try_from(slice).unwrap_or(ZERO_BYTES));
        let mut offset = 0;
        while offset < file_bytes {
            let rest = usize::try_from(file_bytes - offset).unwrap_or(ZERO_BYTES).min(ZERO_BYTES);
            zeroes.set_len(rest);
            let (returned, result) = file.write_at(zeroes, offset, Write::Plain).await;
            result?;
            zeroes = returned;
            offset += rest as u64;
        }
        file.sync().await?;
        self.disk.sync_dir(&self.config.dir).await?;
        self.joined(file);
        Ok(())
    }

    /// Renames a file of an earlier incarnation into this log, or removes it if it is of no use here.
    async fn adopt_file(&self, path: PathBuf) -> Result<()> {
        if self.is_adoptable(&path).await {
            let name = self.file_path(self.files.borrow().len());
            self.disk.rename(&path, &name).await?;
            self.disk.sync_dir(&self.config.dir).await?;
            self.joined(self.disk.open(&name, OpenMode::ReadWrite).await?);
        } else if let Err(error) = self.disk.remove(&path).await {
            tracing::warn!(path = %path.display(), %error, "an old log file stays behind");
        }
        self.adopted.advance(self.adopted.reached() + 1);
        Ok(())
    }

    async fn is_adoptable(&self, path: &Path) -> bool {
        if !self.space.borrow().can_grow() {
            return false;
        }
        match self.disk.open(path, OpenMode::ReadWrite).await {
            Ok(file) => file.size().await.is_ok_and(|size| size == self.config.file_bytes),
            Err(_) => false,
        }
    }
}
