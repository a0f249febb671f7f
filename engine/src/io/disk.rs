//! The disk as the engine sees it: a dozen operations, two implementations (ring, memory) and a fault wrapper.
//!
//! Contract, checked by one conformance suite that every disk passes:
//! - offsets and buffer lengths are multiples of [`ALIGNMENT`](super::buffer::ALIGNMENT);
//! - an operation begins when its method is called, not when its future is first polled;
//! - `write_at` writes the whole buffer or fails; `read_at` returns how many bytes lay before the end of the file;
//! - what a write returned for outlives the process, not the machine;
//! - what `sync` returned for, and what a `Write::Synced` wrote, is durable; nothing else is, in any order;
//! - a new, renamed or linked name is durable once `sync_dir` of its directory returned;
//! - a dropped future does not cancel its operation: the disk keeps the buffer until the device is done with it.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;

use super::buffer::AlignedBuf;
use crate::error::Result;

/// A future of this thread.
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// Must exist; reads only.
    Read,
    /// Must exist; reads and writes.
    ReadWrite,
    /// Must not exist; reads and writes.
    Create,
    /// As [`OpenMode::ReadWrite`], through the page cache: a write has what it writes survive the process as soon as it
    /// returns, and waits for no device.
    CachedReadWrite,
    /// As [`OpenMode::Create`], through the page cache.
    CachedCreate,
}

impl OpenMode {
    /// Whether the file must not exist before.
    #[must_use]
    pub const fn is_new(self) -> bool {
        matches!(self, Self::Create | Self::CachedCreate)
    }

    /// Whether the page cache is wanted, where the file system has O_DIRECT too.
    #[must_use]
    pub const fn is_cached(self) -> bool {
        matches!(self, Self::CachedReadWrite | Self::CachedCreate)
    }
}

/// Whether a write returns when the device has it, or when it is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// Durable only after a later `sync`.
    Plain,
    /// Durable, with all it needs to be read back, when the write returns.
    Synced,
}

/// The operations, as errors, faults and recordings name them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "each is the method of its name")]
pub enum DiskOp {
    Open,
    List,
    CreateDir,
    SyncDir,
    Rename,
    Link,
    Remove,
    RemoveDir,
    Exists,
    FreeBytes,
    Size,
    Read,
    Write,
    Sync,
    Allocate,
}

impl DiskOp {
    /// The operation in an error's words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::List => "list",
            Self::CreateDir => "create directory",
            Self::SyncDir => "sync directory",
            Self::Rename => "rename",
            Self::Link => "link",
            Self::Remove => "remove",
            Self::RemoveDir => "remove directory",
            Self::Exists => "look for",
            Self::FreeBytes => "ask for free space of",
            Self::Size => "ask for the size of",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Allocate => "allocate",
        }
    }
}

/// A directory tree on one device.
pub trait Disk: fmt::Debug {
    /// Opens or creates a file.
    fn open(&self, path: &Path, mode: OpenMode) -> LocalFuture<Result<Rc<dyn File>>>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> LocalFuture<Result<Vec<String>>>;
    /// Creates a directory; its parent must exist; it may exist already.
    fn create_dir(&self, dir: &Path) -> LocalFuture<Result<()>>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> LocalFuture<Result<()>>;
    /// Replaces `to` by `from`, atomically.
    fn rename(&self, from: &Path, to: &Path) -> LocalFuture<Result<()>>;
    /// Gives the file at `from` a second name; `to` must not exist.
    fn link(&self, from: &Path, to: &Path) -> LocalFuture<Result<()>>;
    /// Removes a file's name. An open file stays readable.
    fn remove(&self, path: &Path) -> LocalFuture<Result<()>>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> LocalFuture<Result<()>>;
    /// Whether a file or directory is there.
    fn exists(&self, path: &Path) -> LocalFuture<Result<bool>>;
    /// Bytes that can still be written to the device that holds `path`.
    fn free_bytes(&self, path: &Path) -> LocalFuture<Result<u64>>;
}

/// An open file.
pub trait File: fmt::Debug {
    /// Where it was opened.
    fn path(&self) -> &Path;
    /// Its length in bytes.
    fn size(&self) -> LocalFuture<Result<u64>>;
    /// Fills `buf` from `offset`; returns it with the count of bytes read, short only at the end of the file.
    fn read_at(&self, buf: AlignedBuf, offset: u64) -> LocalFuture<(AlignedBuf, Result<usize>)>;
    /// Writes all of `buf` at `offset`, growing the file if need be.
    fn write_at(
        &self,
        buf: AlignedBuf,
        offset: u64,
        durability: Write,
    ) -> LocalFuture<(AlignedBuf, Result<()>)>;
    /// Makes everything written to this file durable.
    fn sync(&self) -> LocalFuture<Result<()>>;
    /// Reserves space for `len` bytes from the start, without writing them; the file's length stays as it is.
    fn allocate(&self, len: u64) -> LocalFuture<Result<()>>;
}
