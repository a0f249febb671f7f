//! Keeping a store closed while it is looked into.
//!
//! The lock is shared: several may look, none may open. A store without a lock file is one that no engine has open, or
//! a copy; nothing is created in it, for what is looked into is not changed.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::shell::Failure;

/// A store lies at most this many directories above its files: `wal/<incarnation>/<shard>/<file>`.
const DEPTH_MAX: usize = 5;

/// A store that is kept closed until this is dropped.
#[derive(Debug)]
pub(crate) struct Closed {
    _lock: File,
}

/// The store that `path` is or lies in.
pub(crate) fn store_of(path: &Path) -> Option<PathBuf> {
    let is_store = |dir: &&Path| ["SUPER", "LOCK"].iter().any(|name| dir.join(name).is_file());
    path.ancestors().take(DEPTH_MAX).find(is_store).map(Path::to_path_buf)
}

/// The place itself, so that the store around it can be seen from any working directory.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, Failure> {
    std::fs::canonicalize(path)
        .map_err(|e| Failure::told(format!("{}: {e}: give a path that exists", path.display())))
}

/// Keeps the store in `dir` closed until the result is dropped; none where there is no lock to take.
#[expect(clippy::disallowed_methods, reason = "a lock is an open file of the process, not data on the disk")]
pub(crate) fn keep_closed(dir: &Path) -> Result<Option<Closed>, Failure> {
    let path = dir.join("LOCK");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Failure::told(format!("open {}: {e}", path.display()))),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Some(Closed { _lock: file })),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Failure::told(format!(
            "{} is open in another process: its files change while they are read; stop that process first",
            dir.display()
        ))),
        Err(e) => Err(Failure::told(format!("lock {}: {e}", path.display()))),
    }
}
