//! A disk in memory that can lose power: every operation takes virtual time, may overlap others, and can be the
//! last one.
//!
//! It keeps what readers see apart from what is durable (`image`), stops at a chosen boundary, and hands out the
//! disk that a restart would find (`crash`). A boundary is the issue or the completion of an operation that
//! changes the disk. It refuses nothing a real disk accepts; it never loses what was synced.

mod crash;
mod image;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub use self::crash::CrashMode;
use self::image::{Change, Image, InodeId};
use super::buffer::AlignedBuf;
use super::disk::{Disk, DiskOp, File, LocalFuture, OpenMode, Write};
use super::runtime::{Nanos, Runtime, Uncancelled};
use crate::error::{Error, Result};

/// How a memory disk behaves.
#[derive(Clone, Debug)]
pub struct MemoryConfig {
    /// Each operation takes this many nanoseconds of virtual time; where it is 0, one turn of the run queue.
    pub latency_nanos: Range<u64>,
    /// Bytes the device holds.
    pub capacity_bytes: u64,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { latency_nanos: 0..1, capacity_bytes: 1 << 40 }
    }
}

/// One thing that happened, as [`MemoryDisk::events`] records it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskEvent {
    /// When.
    pub at: Nanos,
    /// The operation's number; its issue and its end carry the same.
    pub number: u64,
    /// What it does.
    pub op: DiskOp,
    /// To which file or directory.
    pub path: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// How far it is.
    pub stage: Stage,
}

/// How far an operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The caller asked for it.
    Issued,
    /// It happened, and the caller is about to be told.
    Completed,
    /// It was refused.
    Failed,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct MemoryDisk {
    shared: Rc<Shared>,
}

struct Shared {
    runtime: Runtime,
    latency_nanos: Range<u64>,
    state: RefCell<State>,
    stopped: Cell<bool>,
}

struct State {
    image: Image,
    random: fastrand::Rng,
    in_flight: BTreeMap<u64, Change>,
    operations: u64,
    boundaries: u64,
    stop_at: Option<u64>,
    stopped_by: Option<DiskEvent>,
    told_of_stop: Vec<Waker>,
    events: Option<Vec<DiskEvent>>,
}

impl MemoryDisk {
    /// An empty disk whose operations take their time from `runtime` and their chance from `seed`.
    #[must_use]
    pub fn new(runtime: &Runtime, seed: u64, config: MemoryConfig) -> Self {
        let image = Image::new(config.capacity_bytes);
        Self::with_image(runtime, seed, config.latency_nanos, image)
    }

    fn with_image(runtime: &Runtime, seed: u64, latency_nanos: Range<u64>, image: Image) -> Self {
        let state = State {
            image,
            random: fastrand::Rng::with_seed(seed),
            in_flight: BTreeMap::new(),
            operations: 0,
            boundaries: 0,
            stop_at: None,
            stopped_by: None,
            told_of_stop: Vec::new(),
            events: None,
        };
        let (state, stopped) = (RefCell::new(state), Cell::new(false));
        Self { shared: Rc::new(Shared { runtime: runtime.clone(), latency_nanos, state, stopped }) }
    }

    /// The disk a restart finds after a crash at this moment. This disk is left as it is.
    #[must_use]
    pub fn crash(&self, runtime: &Runtime, seed: u64, mode: CrashMode) -> Self {
        let state = self.shared.state.borrow();
        let mut random = fastrand::Rng::with_seed(seed);
        let in_flight = state.in_flight.values().cloned();
        let image = crash::crash(state.image.clone(), in_flight, &mut random, mode);
        Self::with_image(runtime, random.u64(..), self.shared.latency_nanos.clone(), image)
    }

    /// Boundaries passed so far: issues and completions of operations that change the disk.
    #[must_use]
    pub fn boundaries(&self) -> u64 {
        self.shared.state.borrow().boundaries
    }

    /// Stops the disk at its `boundary`-th boundary, counted from its making: what that boundary does still happens,
    /// but from there on no operation completes, and nobody is told.
    pub fn crash_after(&self, boundary: u64) {
        let mut state = self.shared.state.borrow_mut();
        state.stop_at = Some(boundary);
        self.shared.check_stop(&mut state, None);
    }

    /// What happened at the boundary at which the disk stopped; none if it has not, or had passed that boundary before
    /// it was told to stop there.
    #[must_use]
    pub fn stopped_by(&self) -> Option<DiskEvent> {
        self.shared.state.borrow().stopped_by.clone()
    }

    /// Whether the disk has stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.stopped.get()
    }

    /// Completes when the disk has stopped.
    pub fn stopped(&self) -> Stopped {
        Stopped { disk: self.clone() }
    }

    /// Starts recording, or starts over.
    pub fn record(&self) {
        self.shared.state.borrow_mut().events = Some(Vec::new());
    }

    /// What happened since [`MemoryDisk::record`].
    #[must_use]
    pub fn events(&self) -> Vec<DiskEvent> {
        self.shared.state.borrow().events.clone().unwrap_or_default()
    }

    /// Changes what the device holds at most.
    pub fn set_capacity(&self, bytes: u64) {
        self.shared.state.borrow_mut().image.capacity = bytes;
    }

    /// What readers of the file see.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.shared.state.borrow();
        state.image.file(path).ok().map(|inode| state.image.inode(inode).live.clone())
    }

    /// What of the file is certain to survive.
    #[must_use]
    pub fn durable_contents(&self, path: &Path) -> Option<Vec<u8>> {
        self.shared.state.borrow().image.durable_file(path).map(|inode| inode.durable.clone())
    }

    /// Whether the durable part of the file has `bytes` somewhere.
    #[must_use]
    pub fn durable_contains(&self, path: &Path, bytes: &[u8]) -> bool {
        let state = self.shared.state.borrow();
        let durable = state.image.durable_file(path).map(|inode| inode.durable.as_slice());
        durable.is_some_and(|durable| bytes.is_empty() || durable.windows(bytes.len()).any(|at| at == bytes))
    }

    /// All files, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.shared.state.borrow();
        let files = state.image.live.iter().filter(|(_, node)| matches!(node, image::Node::File(_)));
        files.map(|(path, _)| path.clone()).collect()
    }

    /// Flips one bit of a file, in what is seen and in what is durable. Returns false if there is no such bit.
    pub fn flip(&self, path: &Path, bit: u64) -> bool {
        self.edit(path, |content| {
            let byte = usize::try_from(bit / 8).ok().and_then(|byte| content.get_mut(byte));
            byte.map(|byte| *byte ^= 1 << (bit % 8)).is_some()
        })
    }

    /// Replaces bytes of a file, in what is seen and in what is durable. Returns false if they lie outside of it.
    pub fn overwrite(&self, path: &Path, offset: usize, bytes: &[u8]) -> bool {
        self.edit(path, |content| {
            let place = content.get_mut(offset..offset.saturating_add(bytes.len()));
            place.map(|place| place.copy_from_slice(bytes)).is_some()
        })
    }

    /// Cuts a file off, in what is seen and in what is durable. Returns false if there is no such file.
    pub fn truncate(&self, path: &Path, len: usize) -> bool {
        self.edit(path, |content| {
            content.truncate(len);
            true
        })
    }

    /// Loses a name, for good. Returns false if there is no such name.
    pub fn lose(&self, path: &Path) -> bool {
        let mut state = self.shared.state.borrow_mut();
        let lost = state.image.live.remove(path).is_some();
        state.image.durable.remove(path);
        lost
    }

    /// What a failed sync may do: the file's writes stay visible, and no later sync makes them durable.
    pub fn lose_unsynced(&self, path: &Path) {
        self.shared.state.borrow_mut().image.lose_unsynced(path);
    }

    /// Applies `edit` to both images; true if it was to the visible one.
    fn edit(&self, path: &Path, edit: impl Fn(&mut Vec<u8>) -> bool) -> bool {
        let mut state = self.shared.state.borrow_mut();
        let Ok(inode) = state.image.file(path) else { return false };
        let inode = state.image.inode_mut(inode);
        edit(&mut inode.durable);
        edit(&mut inode.live)
    }

    /// Issues an operation and completes it after its time by `complete`, whether its caller waits or not.
    fn operate<T: 'static>(
        &self,
        what: What<'_>,
        change: Option<Change>,
        complete: impl FnOnce(&mut State, Option<Change>) -> (T, bool) + 'static,
    ) -> LocalFuture<T> {
        if self.is_stopped() {
            return Box::pin(futures_lite::future::pending());
        }
        let shared = Rc::clone(&self.shared);
        let mut state = self.shared.state.borrow_mut();
        state.operations += 1;
        let latency = match (self.shared.latency_nanos.start, self.shared.latency_nanos.end) {
            (start, end) if start + 1 >= end => start,
            (start, end) => state.random.u64(start..end),
        };
        let event = DiskEvent {
            at: shared.runtime.now(),
            number: state.operations,
            op: what.op,
            path: what.path.to_path_buf(),
            offset: what.offset,
            len: what.len,
            stage: Stage::Issued,
        };
        state.record(&event);
        let changes = change.is_some();
        if let Some(change) = change {
            state.in_flight.insert(event.number, change);
            state.boundaries += 1;
            self.shared.check_stop(&mut state, Some(&event));
        }
        drop(state);
        let task = self.shared.runtime.clone().spawn(async move {
            if latency == 0 {
                shared.runtime.yield_now().await;
            } else {
                shared.runtime.sleep(Duration::from_nanos(latency)).await;
            }
            match shared.finish(event, changes, complete) {
                Some(answer) => answer,
                None => futures_lite::future::pending().await,
            }
        });
        Box::pin(Uncancelled::new(task))
    }

    /// Issues a change.
    fn change(&self, what: What<'_>, change: Change) -> LocalFuture<Result<()>> {
        let (op, path) = (what.op, what.path.to_path_buf());
        self.operate(what, Some(change), move |state, change| {
            let result = state.image.apply(change.expect("a change was issued"));
            let ok = result.is_ok();
            (result.map_err(|error| Error::io(op.name(), &path, error)), ok)
        })
    }

    /// Issues an inspection.
    fn inspect<T: 'static>(
        &self,
        op: DiskOp,
        path: &Path,
        inspect: impl FnOnce(&Image, &Path) -> std::io::Result<T> + 'static,
    ) -> LocalFuture<Result<T>> {
        let at = path.to_path_buf();
        self.operate(What { op, path, offset: 0, len: 0 }, None, move |state, _| {
            let result = inspect(&state.image, &at);
            let ok = result.is_ok();
            (result.map_err(|error| Error::io(op.name(), &at, error)), ok)
        })
    }

    fn handle(&self, path: &Path, inode: InodeId) -> Rc<dyn File> {
        Rc::new(MemoryFile { disk: self.clone(), path: path.to_path_buf(), inode })
    }
}

/// An operation, for the record.
struct What<'a> {
    op: DiskOp,
    path: &'a Path,
    offset: u64,
    len: u64,
}

impl<'a> What<'a> {
    const fn whole(op: DiskOp, path: &'a Path) -> Self {
        Self { op, path, offset: 0, len: 0 }
    }
}

impl Shared {
    /// Completes an operation. None: the disk stopped before its caller could be told.
    fn finish<T>(
        &self,
        mut event: DiskEvent,
        changes: bool,
        complete: impl FnOnce(&mut State, Option<Change>) -> (T, bool),
    ) -> Option<T> {
        if self.stopped.get() {
            return None;
        }
        let mut state = self.state.borrow_mut();
        let change = state.in_flight.remove(&event.number);
        let (answer, ok) = complete(&mut state, change);
        event.at = self.runtime.now();
        event.stage = if ok { Stage::Completed } else { Stage::Failed };
        state.record(&event);
        if changes {
            state.boundaries += 1;
            self.check_stop(&mut state, Some(&event));
        }
        drop(state);
        // An answer (an open file, say) may look at the disk when it is dropped: not under the borrow.
        (!self.stopped.get()).then_some(answer)
    }

    fn check_stop(&self, state: &mut State, event: Option<&DiskEvent>) {
        if state.stop_at.is_some_and(|at| state.boundaries >= at) && !self.stopped.replace(true) {
            state.stopped_by = event.cloned();
            state.told_of_stop.drain(..).for_each(Waker::wake);
        }
    }
}

impl State {
    fn record(&mut self, event: &DiskEvent) {
        if let Some(events) = &mut self.events {
            events.push(event.clone());
        }
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> LocalFuture<Result<Rc<dyn File>>> {
        let change = mode.is_new().then(|| Change::Create { path: path.to_path_buf() });
        let (at, disk) = (path.to_path_buf(), self.clone());
        self.operate(What::whole(DiskOp::Open, path), change, move |state, change| {
            let made = change.map_or(Ok(()), |change| state.image.apply(change));
            match made.and_then(|()| state.image.file(&at)) {
                Ok(inode) => {
                    state.image.hold(inode);
                    (Ok(disk.handle(&at, inode)), true)
                }
                Err(error) => (Err(Error::io(DiskOp::Open.name(), &at, error)), false),
            }
        })
    }

    fn list(&self, dir: &Path) -> LocalFuture<Result<Vec<String>>> {
        self.inspect(DiskOp::List, dir, Image::list)
    }

    fn create_dir(&self, dir: &Path) -> LocalFuture<Result<()>> {
        self.change(What::whole(DiskOp::CreateDir, dir), Change::CreateDir { path: dir.to_path_buf() })
    }

    fn sync_dir(&self, dir: &Path) -> LocalFuture<Result<()>> {
        let upto = self.shared.state.borrow().image.completions();
        self.change(What::whole(DiskOp::SyncDir, dir), Change::SyncDir { path: dir.to_path_buf(), upto })
    }

    fn rename(&self, from: &Path, to: &Path) -> LocalFuture<Result<()>> {
        let change = Change::Rename { from: from.to_path_buf(), to: to.to_path_buf() };
        self.change(What::whole(DiskOp::Rename, from), change)
    }

    fn link(&self, from: &Path, to: &Path) -> LocalFuture<Result<()>> {
        let change = Change::Link { from: from.to_path_buf(), to: to.to_path_buf() };
        self.change(What::whole(DiskOp::Link, from), change)
    }

    fn remove(&self, path: &Path) -> LocalFuture<Result<()>> {
        self.change(What::whole(DiskOp::Remove, path), Change::Remove { path: path.to_path_buf() })
    }

    fn remove_dir(&self, dir: &Path) -> LocalFuture<Result<()>> {
        self.change(What::whole(DiskOp::RemoveDir, dir), Change::RemoveDir { path: dir.to_path_buf() })
    }

    fn exists(&self, path: &Path) -> LocalFuture<Result<bool>> {
        self.inspect(DiskOp::Exists, path, |image, path| Ok(image.live.contains_key(path)))
    }

    fn free_bytes(&self, path: &Path) -> LocalFuture<Result<u64>> {
        self.inspect(DiskOp::FreeBytes, path, |image, _| Ok(image.free_bytes()))
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk").field("stopped", &self.is_stopped()).finish_non_exhaustive()
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    path: PathBuf,
    inode: InodeId,
}

impl File for MemoryFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> LocalFuture<Result<u64>> {
        let inode = self.inode;
        self.disk.inspect(DiskOp::Size, &self.path, move |image, _| Ok(image.inode(inode).live.len() as u64))
    }

    fn read_at(&self, mut buf: AlignedBuf, offset: u64) -> LocalFuture<(AlignedBuf, Result<usize>)> {
        buf.assert_io(offset);
        let what = What { op: DiskOp::Read, path: &self.path, offset, len: buf.len() as u64 };
        let inode = self.inode;
        self.disk.operate(what, None, move |state, _| {
            let live = &state.image.inode(inode).live;
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(live.len());
            let read = buf.len().min(live.len() - start);
            buf[..read].copy_from_slice(&live[start..start + read]);
            ((buf, Ok(read)), true)
        })
    }

    fn write_at(
        &self,
        buf: AlignedBuf,
        offset: u64,
        durability: Write,
    ) -> LocalFuture<(AlignedBuf, Result<()>)> {
        buf.assert_io(offset);
        let what = What { op: DiskOp::Write, path: &self.path, offset, len: buf.len() as u64 };
        let change = Change::Write { inode: self.inode, offset, bytes: buf.to_vec(), durability };
        let path = self.path.clone();
        self.disk.operate(what, Some(change), move |state, change| {
            let result = state.image.apply(change.expect("a write was issued"));
            let ok = result.is_ok();
            ((buf, result.map_err(|error| Error::io(DiskOp::Write.name(), &path, error))), ok)
        })
    }

    fn sync(&self) -> LocalFuture<Result<()>> {
        let upto = self.disk.shared.state.borrow().image.completions();
        self.disk.change(What::whole(DiskOp::Sync, &self.path), Change::Sync { inode: self.inode, upto })
    }

    fn allocate(&self, len: u64) -> LocalFuture<Result<()>> {
        let what = What { op: DiskOp::Allocate, path: &self.path, offset: 0, len };
        self.disk.change(what, Change::Allocate { inode: self.inode, len })
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.disk.shared.state.borrow_mut().image.release(self.inode);
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryFile").field(&self.path).finish()
    }
}

/// Completes when the disk has stopped.
#[derive(Debug)]
pub struct Stopped {
    disk: MemoryDisk,
}

impl Future for Stopped {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.disk.is_stopped() {
            return Poll::Ready(());
        }
        self.disk.shared.state.borrow_mut().told_of_stop.push(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
