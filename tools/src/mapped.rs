//! Files mapped into memory: how `inspect`, which reads a closed store once from end to end, reads it.
//!
//! Refuses whatever changes a file. A read is a copy, and done when its call returns.
//!
//! Invariants:
//! - a file is mapped only while its store is kept closed: every mapping holds the lock;
//! - memory that is mapped is referred to only while it is copied;
//! - a file whose length is not what it was when it was mapped is an error before any of it is touched.
//!
//! What remains: the lock keeps engines out, and nobody else. Whoever truncates a file between the check of its length
//! and the end of a copy, and any sector that the device cannot read, ends this process by a signal (SIGBUS). Bytes
//! that somebody writes during a copy may come out mixed, and are then told as damage. And the page cache answers for
//! what it holds: what has rotted on the device below it is not seen. Reading through the ring has none of this.

use std::path::Path;
use std::rc::Rc;

use foreshard_engine::io::buffer::AlignedBuf;
use foreshard_engine::io::disk::{Disk, DiskOp, File, LocalFuture, OpenMode, Write};
use foreshard_engine::{Error, Result};
use memmap2::{Advice, Mmap};

use crate::lock::Closed;
use crate::read_only::{refusal, refused};

/// The file systems of this machine, each opened file mapped.
#[derive(Debug)]
pub(crate) struct Mapped {
    closed: Rc<Closed>,
}

impl Mapped {
    /// For the files of the store that `closed` keeps closed.
    pub(crate) const fn new(closed: Rc<Closed>) -> Self {
        Self { closed }
    }

    fn map(&self, path: &Path) -> std::io::Result<MappedFile> {
        #[expect(clippy::disallowed_methods, reason = "a mapping is made of an open file of the process")]
        let file = std::fs::File::open(path)?;
        // SAFETY: a mapping asks that its file is neither written nor truncated while references into it exist. Those
        // exist in `MappedFile::copy` only, for one copy each, after a check that the file has its length still. Who
        // writes or truncates a store's files is an engine that has it open, and none has: `self.closed` is the
        // store's lock, held shared, where an engine holds it exclusively, and the mapping keeps it for as long as it
        // lives. Against those that take no lock nothing helps; the module's documentation says what they can do.
        #[expect(unsafe_code, reason = "a file that someone writes changes memory that is mapped")]
        let bytes = unsafe { Mmap::map(&file) }?;
        // A kernel built without advice reads as well, and less ahead.
        let _unheeded = bytes.advise(Advice::Sequential);
        Ok(MappedFile { path: path.into(), file, bytes, _closed: Rc::clone(&self.closed) })
    }
}

impl Disk for Mapped {
    fn open(&self, path: &Path, mode: OpenMode) -> LocalFuture<Result<Rc<dyn File>>> {
        ready(match mode {
            OpenMode::Read => match self.map(path) {
                Ok(file) => Ok(Rc::new(file)),
                Err(error) => Err(Error::io(DiskOp::Open.name(), path, error)),
            },
            OpenMode::ReadWrite | OpenMode::Create | OpenMode::CachedReadWrite | OpenMode::CachedCreate => {
                Err(refusal(DiskOp::Open, path))
            }
        })
    }

    fn list(&self, dir: &Path) -> LocalFuture<Result<Vec<String>>> {
        ready(names(dir).map_err(|error| Error::io(DiskOp::List.name(), dir, error)))
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
        ready(path.try_exists().map_err(|error| Error::io(DiskOp::Exists.name(), path, error)))
    }

    fn free_bytes(&self, path: &Path) -> LocalFuture<Result<u64>> {
        let free = rustix::fs::statvfs(path).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        ready(free.map_err(|error| Error::io(DiskOp::FreeBytes.name(), path, error.into())))
    }
}

/// The names in a directory that are text, sorted, as every disk lists them.
fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let entries = std::fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
    let mut names: Vec<String> =
        entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// A mapped file. An empty one is mapped too, and has no bytes.
#[derive(Debug)]
struct MappedFile {
    path: Rc<Path>,
    /// What is asked for its length.
    file: std::fs::File,
    bytes: Mmap,
    /// Dropped after the mapping.
    _closed: Rc<Closed>,
}

impl MappedFile {
    /// Its length, which is that of the mapping.
    fn length(&self, op: DiskOp) -> Result<u64> {
        let error = |error| Error::io(op.name(), &self.path, error);
        let (mapped, length) = (self.bytes.len() as u64, self.file.metadata().map_err(error)?.len());
        if length == mapped {
            return Ok(length);
        }
        let what = format!("it had {mapped} bytes and has {length}: something changes it while it is read");
        Err(error(std::io::Error::other(what)))
    }

    fn copy(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.length(DiskOp::Read)?;
        let from = usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..));
        let from = from.unwrap_or_default();
        let count = from.len().min(buf.len());
        buf[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }
}

impl File for MappedFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> LocalFuture<Result<u64>> {
        ready(self.length(DiskOp::Size))
    }

    fn read_at(&self, mut buf: AlignedBuf, offset: u64) -> LocalFuture<(AlignedBuf, Result<usize>)> {
        // Asked for by no mapping: a caller that the other disks refuse is found by every test.
        buf.assert_io(offset);
        let count = self.copy(&mut buf, offset);
        ready((buf, count))
    }

    fn write_at(&self, buf: AlignedBuf, _: u64, _: Write) -> LocalFuture<(AlignedBuf, Result<()>)> {
        ready((buf, Err(refusal(DiskOp::Write, &self.path))))
    }

    fn sync(&self) -> LocalFuture<Result<()>> {
        refused(DiskOp::Sync, &self.path)
    }

    fn allocate(&self, _: u64) -> LocalFuture<Result<()>> {
        refused(DiskOp::Allocate, &self.path)
    }
}

fn ready<T: 'static>(value: T) -> LocalFuture<T> {
    Box::pin(std::future::ready(value))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "files are made, and changed behind the disk's back")]

    use std::path::PathBuf;

    use foreshard_engine::block_on;
    use foreshard_engine::io::ring::{RingConfig, RingRuntime};
    use rustix::fs::{FlockOperation, flock};
    use tempfile::TempDir;

    use super::*;
    use crate::lock::keep_closed;

    /// A directory with a lock that is held, and a file of `bytes` in it.
    fn sample(bytes: &[u8]) -> (TempDir, Mapped, PathBuf) {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("LOCK"), b"").unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        let closed = keep_closed(dir.path()).unwrap().unwrap();
        (dir, Mapped::new(Rc::new(closed)), path)
    }

    fn open(disk: &dyn Disk, path: &Path) -> Rc<dyn File> {
        block_on(disk.open(path, OpenMode::Read)).unwrap()
    }

    fn counted(bytes: usize) -> Vec<u8> {
        (0..=250).cycle().take(bytes).collect()
    }

    #[test]
    fn an_empty_file_has_no_bytes_at_any_offset() {
        let (_dir, disk, path) = sample(b"");
        let file = open(&disk, &path);
        assert_eq!(block_on(file.size()).unwrap(), 0);
        for offset in [0, 4096, 1 << 40, !4095] {
            let (buf, count) = block_on(file.read_at(AlignedBuf::zeroed(4096), offset));
            assert_eq!(count.unwrap(), 0);
            assert!(buf.iter().all(|&b| b == 0), "the buffer is as it was");
        }
    }

    /// Lengths around pages, read at every page up to past the end, in pieces that end before, at and after it.
    #[test]
    fn reads_are_those_of_the_ring() {
        let ring = RingRuntime::new(&RingConfig::default()).unwrap();
        for bytes in [0, 1, 4095, 4096, 4097, 10_000, 16_384] {
            let (_dir, mapped, path) = sample(&counted(bytes));
            let by_mapping = open(&mapped, &path);
            ring.run(async {
                let by_ring = ring.disk().open(&path, OpenMode::Read).await.unwrap();
                assert_eq!(by_mapping.size().await.unwrap(), by_ring.size().await.unwrap());
                for offset in (0..=24_576).step_by(4096) {
                    for want in [4096, 8192, 20_480] {
                        let (mapped, mapped_count) =
                            by_mapping.read_at(AlignedBuf::zeroed(want), offset).await;
                        let (read, count) = by_ring.read_at(AlignedBuf::zeroed(want), offset).await;
                        let (mapped_count, count) = (mapped_count.unwrap(), count.unwrap());
                        assert_eq!(mapped_count, count, "{want} at {offset} of {bytes}");
                        assert!(mapped[..count] == read[..count], "{want} at {offset} of {bytes}");
                    }
                }
            });
        }
    }

    #[test]
    fn a_file_that_is_cut_or_grows_while_it_is_open_is_an_error_and_no_fault() {
        for length in [0, 4096, 1 << 20] {
            let (_dir, disk, path) = sample(&counted(64 << 10));
            let file = open(&disk, &path);
            std::fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
            let (_, count) = block_on(file.read_at(AlignedBuf::zeroed(4096), 32 << 10));
            let said = count.unwrap_err().to_string();
            assert!(said.contains("65536") && said.contains("something changes it"), "{said}");
            assert!(block_on(file.size()).is_err());
        }
    }

    #[test]
    fn what_is_mapped_keeps_the_store_closed() {
        let (dir, disk, path) = sample(b"some bytes");
        let lock = std::fs::File::open(dir.path().join("LOCK")).unwrap();
        let try_lock = || flock(&lock, FlockOperation::NonBlockingLockExclusive);
        let file = open(&disk, &path);
        drop(disk);
        assert!(try_lock().is_err(), "the file is still mapped");
        drop(file);
        assert!(try_lock().is_ok());
    }

    #[test]
    fn nothing_can_be_changed() {
        let (dir, disk, path) = sample(b"some bytes");
        let file = open(&disk, &path);
        assert!(block_on(disk.open(&path, OpenMode::ReadWrite)).is_err());
        assert!(block_on(disk.open(&dir.path().join("new"), OpenMode::Create)).is_err());
        assert!(block_on(disk.rename(&path, &dir.path().join("new"))).is_err());
        assert!(block_on(disk.remove(&path)).is_err());
        assert!(block_on(file.write_at(AlignedBuf::zeroed(4096), 0, Write::Plain)).1.is_err());
        assert!(block_on(file.allocate(1 << 20)).is_err());
        assert_eq!(block_on(disk.list(dir.path())).unwrap(), ["LOCK", "file"]);
        assert_eq!(std::fs::read(&path).unwrap(), b"some bytes");
    }

    #[test]
    fn a_lost_file_and_a_directory_are_errors() {
        let (dir, disk, path) = sample(b"");
        std::fs::remove_file(&path).unwrap();
        assert!(!block_on(disk.exists(&path)).unwrap());
        let Err(Error::Io { source, .. }) = block_on(disk.open(&path, OpenMode::Read)) else {
            panic!("it is not there");
        };
        assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
        assert!(block_on(disk.open(dir.path(), OpenMode::Read)).is_err());
    }
}
