//! What every command runs in: one thread, a ring, a disk that it only reads.
//!
//! That disk is the ring's, for which a sector that the device cannot read is an error, or one that maps files.

use std::fmt;
use std::path::Path;
use std::rc::Rc;

use foreshard_engine::Error;
use foreshard_engine::io::buffer::AlignedBuf;
use foreshard_engine::io::disk::{Disk, OpenMode};
use foreshard_engine::io::ring::{RingConfig, RingRuntime};

use crate::lock::Closed;
use crate::mapped::Mapped;
use crate::progress::Progress;
use crate::read_only::ReadOnly;

/// Why a command could not tell.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What, where, and what to do.
    Told(String),
    /// Nobody reads the output any more.
    Closed,
}

/// How a command reads.
#[derive(Debug)]
pub(crate) enum Reads {
    /// From memory that the files of a store are mapped to; the store is kept closed.
    Mapped(Rc<Closed>),
    /// Through the ring, past the page cache.
    Ring,
}

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) disk: Rc<dyn Disk>,
    /// The same files, for what is written elsewhere.
    pub(crate) writable: Rc<dyn Disk>,
    pub(crate) progress: Progress,
}

/// Runs a command.
pub(crate) fn run<T>(
    reads: Reads,
    command: impl AsyncFnOnce(&Tools) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let ring = RingRuntime::new(&RingConfig::default())?;
    let writable = ring.disk();
    let below: Rc<dyn Disk> = match reads {
        Reads::Mapped(closed) => {
            tracing::debug!("files are mapped into memory");
            Rc::new(Mapped::new(closed))
        }
        Reads::Ring => {
            tracing::debug!("files are read through the ring");
            Rc::clone(&writable)
        }
    };
    let tools = Tools { disk: Rc::new(ReadOnly(below)), writable, progress: Progress::new(ring.runtime()) };
    ring.run(command(&tools))
}

impl Tools {
    /// A whole file, which has at most `bytes_max`.
    pub(crate) async fn read(&self, path: &Path, bytes_max: u64) -> Result<AlignedBuf, Error> {
        let file = self.disk.open(path, OpenMode::Read).await?;
        let size = file.size().await?;
        let Some(len) = usize::try_from(size).ok().filter(|_| size <= bytes_max) else {
            return Err(Error::corrupt(path, 0, format!("{size} bytes: no such file is that long")));
        };
        if len == 0 {
            return Ok(AlignedBuf::zeroed(0));
        }
        let (mut buf, read) = file.read_at(AlignedBuf::zeroed(len), 0).await;
        buf.set_len(read?.min(len));
        self.progress.step(&format!("reading {}", path.display()), size);
        Ok(buf)
    }

    /// The names in a directory; none if it is not there.
    pub(crate) async fn list(&self, dir: &Path) -> Result<Vec<String>, Error> {
        if dir.is_dir() { self.disk.list(dir).await } else { Ok(Vec::new()) }
    }
}

impl Failure {
    pub(crate) fn told(what: impl Into<String>) -> Self {
        Self::Told(what.into())
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Told(e.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        if e.kind() == std::io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::Told(format!("write to standard output: {e}"))
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told(what) => f.write_str(what),
            Self::Closed => f.write_str("the output was closed"),
        }
    }
}
