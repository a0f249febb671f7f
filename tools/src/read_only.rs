//! A disk that can be read and not changed: what this program opens, it leaves as it is.

use std::path::Path;
use std::rc::Rc;

use foreshard_engine::io::disk::{Disk, DiskOp, File, LocalFuture, OpenMode};
use foreshard_engine::{Error, Result};

/// Passes reads on to another disk, and refuses everything else.
#[derive(Debug)]
pub(crate) struct ReadOnly(pub(crate) Rc<dyn Disk>);

impl Disk for ReadOnly {
    fn open(&self, path: &Path, mode: OpenMode) -> LocalFuture<Result<Rc<dyn File>>> {
        match mode {
            // The kernel refuses to write to a file opened so.
            OpenMode::Read => self.0.open(path, mode),
            OpenMode::ReadWrite | OpenMode::Create | OpenMode::CachedReadWrite | OpenMode::CachedCreate => {
                refused(DiskOp::Open, path)
            }
        }
    }

    fn list(&self, dir: &Path) -> LocalFuture<Result<Vec<String>>> {
        self.0.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> LocalFuture<Result<()>> {
        refused(DiskOp::CreateDir, dir)
    }

    fn sync_dir(&self, dir: &Path) -> LocalFuture<Result<()>> {
        refused(DiskOp::SyncDir, dir)
    }

    fn rename(&self, from: &Path, _to: &Path) -> LocalFuture<Result<()>> {
        refused(DiskOp::Rename, from)
    }

    fn link(&self, _from: &Path, to: &Path) -> LocalFuture<Result<()>> {
        refused(DiskOp::Link, to)
    }

    fn remove(&self, path: &Path) -> LocalFuture<Result<()>> {
        refused(DiskOp::Remove, path)
    }

    fn remove_dir(&self, dir: &Path) -> LocalFuture<Result<()>> {
        refused(DiskOp::RemoveDir, dir)
    }

    fn exists(&self, path: &Path) -> LocalFuture<Result<bool>> {
        self.0.exists(path)
    }

    fn free_bytes(&self, path: &Path) -> LocalFuture<Result<u64>> {
        self.0.free_bytes(path)
    }
}

/// What a change is answered with.
pub(crate) fn refusal(op: DiskOp, path: &Path) -> Error {
    Error::misuse(format!("{} {}: a store that is looked into is not changed", op.name(), path.display()))
}

/// The same, as an operation's result.
pub(crate) fn refused<T: 'static>(op: DiskOp, path: &Path) -> LocalFuture<Result<T>> {
    Box::pin(std::future::ready(Err(refusal(op, path))))
}
