//! The disk behind the ring: O_DIRECT where the file system has it, and nobody asks for the page cache.
//!
//! Every operation is begun by its call and goes through the ring, listing a directory apart (at open, and rare).
//! Short transfers are continued, interrupted ones retried.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::fd::{Fd, adopt};
use super::operation::{Request, StatWords};
use super::queue::{Operation, Ring};
use crate::error::{Error, Result};
use crate::io::buffer::{ALIGNMENT, AlignedBuf};
use crate::io::disk::{Disk, DiskOp, File, LocalFuture, OpenMode, Write};

/// The file systems of this machine, through a shard's ring.
#[derive(Clone)]
pub struct RingDisk {
    ring: Rc<Ring>,
    direct: bool,
    /// Directories whose file system has no O_DIRECT; each is logged once.
    buffered: Rc<RefCell<BTreeSet<PathBuf>>>,
}

impl RingDisk {
    pub(super) fn new(ring: &Rc<Ring>, direct: bool) -> Self {
        Self { ring: Rc::clone(ring), direct, buffered: Rc::default() }
    }

    /// Begins an operation on names and waits for its end.
    fn change(&self, op: DiskOp, path: &Path, request: Result<Request>) -> LocalFuture<Result<()>> {
        let (ring, path) = (Rc::clone(&self.ring), path.to_path_buf());
        let begun = request.map(|request| ring.start(request));
        Box::pin(async move {
            let (result, _) = finish(&ring, begun?).await;
            result.map(drop).map_err(|error| Error::io(op.name(), &path, error))
        })
    }

    /// Opens a file that is there or was just made, after the first attempt ended with `result`.
    async fn opened(self, path: PathBuf, mode: OpenMode, first: Operation) -> Result<Rc<dyn File>> {
        let error = |error| Error::io(DiskOp::Open.name(), &path, error);
        let (result, mut request) = finish(&self.ring, first).await;
        let (fd, direct) = match result {
            Ok(fd) => (fd, has_direct(&request)),
            Err(refused) if refused.raw_os_error() == Some(EINVAL) && has_direct(&request) => {
                // Some kernels made the file before they refused the flag: it may exist by now, and is ours.
                if let Request::Open { flags, .. } = &mut request {
                    *flags &= !(O_DIRECT | O_EXCL);
                }
                (finish(&self.ring, self.ring.start(request)).await.0.map_err(error)?, false)
            }
            Err(refused) => return Err(error(refused)),
        };
        let fd = Fd::of_file(adopt_result(fd), &self.ring);
        let file = RingFile { ring: Rc::clone(&self.ring), fd, path: Rc::from(path.as_path()) };
        if !direct {
            if !mode.is_cached() {
                self.note_buffered(&path);
            }
            return Ok(Rc::new(file));
        }
        match file.stat().await?.direct_alignment() {
            // The kernel knows that this file cannot do it, O_DIRECT or not (fscrypt, data journaling).
            Some((_, 0)) => {
                let mode = if mode == OpenMode::Read { O_RDONLY } else { O_RDWR };
                let open = self.ring.start(Request::Open { path: c_path(&path)?, flags: mode | O_CLOEXEC });
                let fd = adopt_result(finish(&self.ring, open).await.0.map_err(error)?);
                self.note_buffered(&path);
                Ok(Rc::new(RingFile { fd: Fd::of_file(fd, &self.ring), ..file }))
            }
            Some((memory, offset)) if memory.max(offset) as usize > ALIGNMENT => Err(Error::Unsupported(
                format!(
                    "{}: its device asks for I/O aligned to {} bytes; at most {ALIGNMENT} are supported",
                    path.display(),
                    memory.max(offset)
                )
                .into(),
            )),
            Some(_) | None => Ok(Rc::new(file)),
        }
    }

    fn note_buffered(&self, path: &Path) {
        let dir = path.parent().unwrap_or(path);
        if self.buffered.borrow_mut().insert(dir.to_path_buf()) {
            tracing::warn!(dir = %dir.display(), "the file system has no O_DIRECT: reads and writes go through the page cache");
        }
    }
}

impl Disk for RingDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> LocalFuture<Result<Rc<dyn File>>> {
        let known = path.parent().is_some_and(|dir| self.buffered.borrow().contains(dir));
        let direct = if self.direct && !known && !mode.is_cached() { O_DIRECT } else { 0 };
        let flags = O_CLOEXEC
            | direct
            | match mode {
                OpenMode::Read => O_RDONLY,
                OpenMode::ReadWrite | OpenMode::CachedReadWrite => O_RDWR,
                OpenMode::Create | OpenMode::CachedCreate => O_RDWR | O_CREAT | O_EXCL,
            };
        let (path, disk) = (path.to_path_buf(), self.clone());
        let first = c_path(&path).map(|path| self.ring.start(Request::Open { path, flags }));
        Box::pin(async move { disk.opened(path, mode, first?).await })
    }

    fn list(&self, dir: &Path) -> LocalFuture<Result<Vec<String>>> {
        let dir = dir.to_path_buf();
        // Blocks, for there is no such ring operation: only opening a store lists directories.
        let listed = std::fs::read_dir(&dir).and_then(|entries| {
            let names = entries.map(|entry| Ok(entry?.file_name().into_string()));
            names
                .filter_map(|name| name.map(std::result::Result::ok).transpose())
                .collect::<io::Result<Vec<_>>>()
        });
        Box::pin(async move {
            let mut names = listed.map_err(|error| Error::io(DiskOp::List.name(), &dir, error))?;
            names.sort_unstable();
            Ok(names)
        })
    }

    fn create_dir(&self, dir: &Path) -> LocalFuture<Result<()>> {
        let made = self.change(DiskOp::CreateDir, dir, c_path(dir).map(|path| Request::MakeDir { path }));
        let path = dir.to_path_buf();
        Box::pin(async move {
            match made.await {
                Err(Error::Io { source, .. })
                    if source.kind() == io::ErrorKind::AlreadyExists && path.is_dir() =>
                {
                    Ok(())
                }
                made => made,
            }
        })
    }

    fn sync_dir(&self, dir: &Path) -> LocalFuture<Result<()>> {
        let (ring, dir) = (Rc::clone(&self.ring), dir.to_path_buf());
        let flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
        let open = c_path(&dir).map(|path| ring.start(Request::Open { path, flags }));
        Box::pin(async move {
            let error = |error| Error::io(DiskOp::SyncDir.name(), &dir, error);
            let fd = finish(&ring, open?).await.0.map_err(error)?;
            let fd = Fd::new(adopt_result(fd), &ring);
            finish(&ring, ring.start(Request::Sync { fd })).await.0.map(drop).map_err(error)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> LocalFuture<Result<()>> {
        let paths = c_path(from).and_then(|from| Ok((from, c_path(to)?)));
        self.change(DiskOp::Rename, from, paths.map(|(from, to)| Request::Rename { from, to }))
    }

    fn link(&self, from: &Path, to: &Path) -> LocalFuture<Result<()>> {
        let paths = c_path(from).and_then(|from| Ok((from, c_path(to)?)));
        self.change(DiskOp::Link, from, paths.map(|(from, to)| Request::Link { from, to }))
    }

    fn remove(&self, path: &Path) -> LocalFuture<Result<()>> {
        self.change(DiskOp::Remove, path, c_path(path).map(|path| Request::Unlink { path, flags: 0 }))
    }

    fn remove_dir(&self, dir: &Path) -> LocalFuture<Result<()>> {
        let request = c_path(dir).map(|path| Request::Unlink { path, flags: AT_REMOVEDIR });
        self.change(DiskOp::RemoveDir, dir, request)
    }

    fn exists(&self, path: &Path) -> LocalFuture<Result<bool>> {
        let out = Box::default();
        let found =
            self.change(DiskOp::Exists, path, c_path(path).map(|path| Request::StatPath { path, out }));
        Box::pin(async move {
            match found.await {
                Ok(()) => Ok(true),
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    fn free_bytes(&self, path: &Path) -> LocalFuture<Result<u64>> {
        // Answered from the file system's memory; there is no such ring operation.
        let free = rustix::fs::statvfs(path).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        let free = free.map_err(|error| Error::io(DiskOp::FreeBytes.name(), path, error.into()));
        Box::pin(async move { free })
    }
}

#[derive(Clone)]
struct RingFile {
    ring: Rc<Ring>,
    fd: Rc<Fd>,
    path: Rc<Path>,
}

impl RingFile {
    fn error(&self, op: DiskOp, error: io::Error) -> Error {
        Error::io(op.name(), &self.path, error)
    }

    fn begin_stat(&self) -> Operation {
        self.ring.start(Request::StatFile { fd: Rc::clone(&self.fd), out: Box::default() })
    }

    async fn stat(&self) -> Result<Box<StatWords>> {
        self.stated(self.begin_stat()).await
    }

    async fn stated(&self, stat: Operation) -> Result<Box<StatWords>> {
        match finish(&self.ring, stat).await {
            (Ok(_), Request::StatFile { out, .. }) => Ok(out),
            (Ok(_), other) => unreachable!("a stat came back as {other:?}"),
            (Err(error), _) => Err(self.error(DiskOp::Size, error)),
        }
    }

    fn begin_read(&self, buf: AlignedBuf, from: usize, offset: u64) -> Operation {
        let fd = Rc::clone(&self.fd);
        self.ring.start(Request::Read { fd, buf, from, offset: offset + from as u64 })
    }

    /// Synced is a linked write and fdatasync. RWF_DSYNC would be one operation and was measured a tenth faster, but only
    /// on a core with nothing else to run: the kernel flushes from a work queue, and beside any other runnable thread,
    /// be it of the idle class, a write took 3 ms instead of 0.1 ms.
    fn begin_write(&self, buf: AlignedBuf, from: usize, offset: u64, durability: Write) -> Writing {
        let fd = Rc::clone(&self.fd);
        let write = Request::Write { fd, buf, from, offset: offset + from as u64 };
        match durability {
            Write::Plain => (self.ring.start(write), None),
            Write::Synced => {
                let sync = Request::SyncData { fd: Rc::clone(&self.fd) };
                let (write, sync) = self.ring.start_linked(write, sync);
                (write, Some(sync))
            }
        }
    }

    async fn read_on(self, offset: u64, mut read: Operation) -> (AlignedBuf, Result<usize>) {
        let mut done = 0;
        loop {
            let (result, buf) = match finish(&self.ring, read).await {
                (result, Request::Read { buf, .. }) => (result, buf),
                (_, other) => unreachable!("a read came back as {other:?}"),
            };
            match result {
                Err(error) => return (buf, Err(self.error(DiskOp::Read, error))),
                Ok(count) => done += count as usize,
            }
            // An unaligned end is the file's: O_DIRECT reads stop elsewhere only at whole sectors.
            let ended = matches!(result, Ok(0)) || done == buf.len() || !done.is_multiple_of(ALIGNMENT);
            if ended {
                return (buf, Ok(done));
            }
            read = self.begin_read(buf, done, offset);
        }
    }

    async fn write_on(
        self,
        offset: u64,
        durability: Write,
        (mut write, mut sync): Writing,
    ) -> (AlignedBuf, Result<()>) {
        let (mut done, mut retries) = (0, 0);
        loop {
            let (result, buf) = match write.await {
                (result, Request::Write { buf, .. }) => (result, buf),
                (_, other) => unreachable!("a write came back as {other:?}"),
            };
            let synced = match sync {
                Some(sync) => sync.await.0,
                None => Ok(0),
            };
            match result {
                Err(error) if is_interrupted(&error) && retries < RETRIES_MAX => retries += 1,
                Err(error) => return (buf, Err(self.error(DiskOp::Write, error))),
                Ok(count) if done + count as usize == buf.len() => {
                    return (buf, synced.map(drop).map_err(|error| self.error(DiskOp::Sync, error)));
                }
                Ok(count) => {
                    // Continued from the last whole page: a part of one is written again.
                    let whole = (done + count as usize) / ALIGNMENT * ALIGNMENT;
                    if whole == done {
                        return (buf, Err(self.error(DiskOp::Write, io::ErrorKind::WriteZero.into())));
                    }
                    done = whole;
                }
            }
            // The sync was cancelled with the rest of the write, and is asked for again with it.
            (write, sync) = self.begin_write(buf, done, offset, durability);
        }
    }
}

/// A write, and the sync that follows it.
type Writing = (Operation, Option<Operation>);

impl File for RingFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> LocalFuture<Result<u64>> {
        let (file, stat) = (self.clone(), self.begin_stat());
        Box::pin(async move { Ok(file.stated(stat).await?.size()) })
    }

    fn read_at(&self, buf: AlignedBuf, offset: u64) -> LocalFuture<(AlignedBuf, Result<usize>)> {
        buf.assert_io(offset);
        let read = self.begin_read(buf, 0, offset);
        Box::pin(self.clone().read_on(offset, read))
    }

    fn write_at(
        &self,
        buf: AlignedBuf,
        offset: u64,
        durability: Write,
    ) -> LocalFuture<(AlignedBuf, Result<()>)> {
        buf.assert_io(offset);
        let write = self.begin_write(buf, 0, offset, durability);
        Box::pin(self.clone().write_on(offset, durability, write))
    }

    fn sync(&self) -> LocalFuture<Result<()>> {
        let (file, sync) = (self.clone(), self.ring.start(Request::SyncData { fd: Rc::clone(&self.fd) }));
        Box::pin(async move {
            // Never retried (R3), interrupted or not.
            sync.await.0.map(drop).map_err(|error| file.error(DiskOp::Sync, error))
        })
    }

    fn allocate(&self, len: u64) -> LocalFuture<Result<()>> {
        let allocate = self.ring.start(Request::Allocate { fd: Rc::clone(&self.fd), len });
        let file = self.clone();
        Box::pin(async move {
            let (result, _) = finish(&file.ring, allocate).await;
            result.map(drop).map_err(|error| file.error(DiskOp::Allocate, error))
        })
    }
}

/// Waits for an operation; starts it again when it was interrupted.
async fn finish(ring: &Rc<Ring>, mut operation: Operation) -> (io::Result<u32>, Request) {
    for _ in 0..RETRIES_MAX {
        let (result, request) = operation.await;
        match &result {
            Err(error) if is_interrupted(error) => {
                operation = ring.start(request);
            }
            _ => return (result, request),
        }
    }
    operation.await
}

fn is_interrupted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EINTR | EAGAIN))
}

fn has_direct(request: &Request) -> bool {
    matches!(request, Request::Open { flags, .. } if flags & O_DIRECT != 0)
}

fn adopt_result(fd: u32) -> std::os::fd::OwnedFd {
    adopt(i32::try_from(fd).expect("a result is a positive i32"))
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::misuse(format!("the path {} has a zero byte in it", path.display())))
}

impl fmt::Debug for RingDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingDisk").finish_non_exhaustive()
    }
}

impl fmt::Debug for RingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RingFile").field(&self.path).finish()
    }
}

/// An operation interrupted this often is given up: signals do not come that fast.
const RETRIES_MAX: usize = 64;
const O_RDONLY: i32 = 0;
const O_RDWR: i32 = 2;
const O_CREAT: i32 = 0o100;
const O_EXCL: i32 = 0o200;
const O_CLOEXEC: i32 = 0o2_000_000;
const AT_REMOVEDIR: i32 = 0x200;
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
const O_DIRECT: i32 = 0o200_000;
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
const O_DIRECTORY: i32 = 0o40_000;
#[cfg(not(any(target_arch = "aarch64", target_arch = "arm")))]
const O_DIRECT: i32 = 0o40_000;
#[cfg(not(any(target_arch = "aarch64", target_arch = "arm")))]
const O_DIRECTORY: i32 = 0o200_000;
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const EINVAL: i32 = 22;
