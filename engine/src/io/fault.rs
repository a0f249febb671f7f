//! Faults on purpose: a wrapper that makes any disk fail, be slow, or be full.
//!
//! Faults are scripted (the n-th matching operation) or drawn from a seed (each with a probability). What it lets
//! through it changes in nothing; a wrapper without rules passes the conformance suite.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{Error as IoError, ErrorKind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::buffer::{ALIGNMENT, AlignedBuf};
use super::disk::{Disk, DiskOp, File, LocalFuture, OpenMode, Write};
use super::runtime::Runtime;
use crate::error::{Error, Result};

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// EIO, and the operation did not happen. A failed sync moreover loses what it was to make durable, where the
    /// disk below can do that ([`FaultDisk::on_failed_sync`]).
    Failed,
    /// A write fails with EIO after some of its pages were written; other operations as [`Fault::Failed`].
    Short,
    /// ENOSPC, and the operation did not happen.
    NoSpace,
    /// The operation happens, this much later.
    Slow(Duration),
}

/// When a fault strikes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum When {
    /// At the n-th matching operation from when the rule was added (the first is 1), once.
    Nth(u64),
    /// At each matching operation from the n-th on.
    From(u64),
    /// At each matching operation with this probability, 0 to 1.
    Chance(f64),
}

/// One kind of fault for some operations.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which operations; empty: all.
    pub ops: Vec<DiskOp>,
    /// Only where the path contains this; empty: everywhere.
    pub path_contains: String,
    /// When.
    pub when: When,
    /// What.
    pub fault: Fault,
}

/// Number of an added rule, to remove it by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RuleId(u64);

/// A disk with faults. Clones are the same disk.
#[derive(Clone)]
pub struct FaultDisk {
    inner: Rc<dyn Disk>,
    shared: Rc<Shared>,
}

struct Shared {
    runtime: Runtime,
    random: RefCell<fastrand::Rng>,
    rules: RefCell<Vec<Active>>,
    rules_added: Cell<u64>,
    full: Cell<bool>,
    struck: Cell<u64>,
    failed_sync: RefCell<Option<OnFailedSync>>,
}

type OnFailedSync = Box<dyn Fn(&Path)>;

struct Active {
    id: RuleId,
    rule: Rule,
    seen: u64,
}

impl FaultDisk {
    /// A wrapper without rules; chances are drawn from `seed`.
    #[must_use]
    pub fn new(inner: Rc<dyn Disk>, runtime: &Runtime, seed: u64) -> Self {
        let shared = Shared {
            runtime: runtime.clone(),
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
            rules: RefCell::default(),
            rules_added: Cell::new(0),
            full: Cell::new(false),
            struck: Cell::new(0),
            failed_sync: RefCell::default(),
        };
        Self { inner, shared: Rc::new(shared) }
    }

    /// Adds a rule. Of several that strike at one operation, the first added counts.
    pub fn add(&self, rule: Rule) -> RuleId {
        let id = RuleId(self.shared.rules_added.get());
        self.shared.rules_added.set(id.0 + 1);
        self.shared.rules.borrow_mut().push(Active { id, rule, seen: 0 });
        id
    }

    /// Removes a rule.
    pub fn remove_rule(&self, id: RuleId) {
        self.shared.rules.borrow_mut().retain(|active| active.id != id);
    }

    /// Removes all rules, and makes room.
    pub fn heal(&self) {
        self.shared.rules.borrow_mut().clear();
        self.shared.full.set(false);
    }

    /// While full, whatever needs space (creating, writing beyond the end, reserving) gets ENOSPC.
    pub fn set_full(&self, full: bool) {
        self.shared.full.set(full);
    }

    /// What a failed sync does to the file at a path: `MemoryDisk::lose_unsynced`, say.
    pub fn on_failed_sync(&self, lose: impl Fn(&Path) + 'static) {
        *self.shared.failed_sync.borrow_mut() = Some(Box::new(lose));
    }

    /// How often a fault struck.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.shared.struck.get()
    }

    /// Lets an operation through, late or not at all. It begins at the call, unless it is to be late.
    fn pass<T: 'static>(
        &self,
        op: DiskOp,
        path: &Path,
        begin: impl FnOnce(&dyn Disk) -> LocalFuture<Result<T>> + 'static,
    ) -> LocalFuture<Result<T>> {
        match self.shared.strike(op, path) {
            Verdict::Pass => begin(&*self.inner),
            Verdict::Fail(error) => Box::pin(async move { Err(error) }),
            Verdict::Late(delay) => {
                let inner = Rc::clone(&self.inner);
                self.shared.late(delay, move || begin(&*inner))
            }
        }
    }
}

enum Verdict {
    Pass,
    Fail(Error),
    Late(Duration),
}

impl Shared {
    /// The fault of this operation, if a rule has one for it.
    fn fault(&self, op: DiskOp, path: &Path) -> Option<Fault> {
        let mut random = self.random.borrow_mut();
        let mut struck = None;
        for Active { rule, seen, .. } in self.rules.borrow_mut().iter_mut() {
            let matches = (rule.ops.is_empty() || rule.ops.contains(&op))
                && path.to_string_lossy().contains(&rule.path_contains);
            if !matches {
                continue;
            }
            *seen += 1;
            let strikes = match rule.when {
                When::Nth(n) => *seen == n,
                When::From(n) => *seen >= n,
                When::Chance(chance) => random.f64() < chance,
            };
            if strikes {
                struck = struck.or(Some(rule.fault));
            }
        }
        self.struck.set(self.struck.get() + u64::from(struck.is_some()));
        struck
    }

    fn strike(&self, op: DiskOp, path: &Path) -> Verdict {
        match self.fault(op, path) {
            None => Verdict::Pass,
            Some(Fault::Slow(delay)) => Verdict::Late(delay),
            Some(Fault::Failed | Fault::Short) => Verdict::Fail(failed(op, path)),
            Some(Fault::NoSpace) => Verdict::Fail(no_space(op, path)),
        }
    }

    /// Begins an operation after `delay`, whether its caller waits or not.
    fn late<T: 'static>(
        &self,
        delay: Duration,
        begin: impl FnOnce() -> LocalFuture<T> + 'static,
    ) -> LocalFuture<T> {
        let runtime = self.runtime.clone();
        let task = self.runtime.spawn(async move {
            runtime.sleep(delay).await;
            begin().await
        });
        Box::pin(super::runtime::Uncancelled::new(task))
    }
}

impl Disk for FaultDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> LocalFuture<Result<Rc<dyn File>>> {
        if self.shared.full.get() && mode.is_new() {
            let refused = no_space(DiskOp::Open, path);
            return Box::pin(async move { Err(refused) });
        }
        let (at, shared) = (path.to_path_buf(), Rc::clone(&self.shared));
        let opened = self.pass(DiskOp::Open, path, move |disk| disk.open(&at, mode));
        Box::pin(async move {
            let inner = opened.await?;
            Ok(Rc::new(FaultFile { inner, shared }) as Rc<dyn File>)
        })
    }

    fn list(&self, dir: &Path) -> LocalFuture<Result<Vec<String>>> {
        let at = dir.to_path_buf();
        self.pass(DiskOp::List, dir, move |disk| disk.list(&at))
    }

    fn create_dir(&self, dir: &Path) -> LocalFuture<Result<()>> {
        let at = dir.to_path_buf();
        self.pass(DiskOp::CreateDir, dir, move |disk| disk.create_dir(&at))
    }

    fn sync_dir(&self, dir: &Path) -> LocalFuture<Result<()>> {
        let at = dir.to_path_buf();
        self.pass(DiskOp::SyncDir, dir, move |disk| disk.sync_dir(&at))
    }

    fn rename(&self, from: &Path, to: &Path) -> LocalFuture<Result<()>> {
        let (at, onto): (PathBuf, PathBuf) = (from.into(), to.into());
        self.pass(DiskOp::Rename, from, move |disk| disk.rename(&at, &onto))
    }

    fn link(&self, from: &Path, to: &Path) -> LocalFuture<Result<()>> {
        let (at, other): (PathBuf, PathBuf) = (from.into(), to.into());
        self.pass(DiskOp::Link, from, move |disk| disk.link(&at, &other))
    }

    fn remove(&self, path: &Path) -> LocalFuture<Result<()>> {
        let at = path.to_path_buf();
        self.pass(DiskOp::Remove, path, move |disk| disk.remove(&at))
    }

    fn remove_dir(&self, dir: &Path) -> LocalFuture<Result<()>> {
        let at = dir.to_path_buf();
        self.pass(DiskOp::RemoveDir, dir, move |disk| disk.remove_dir(&at))
    }

    fn exists(&self, path: &Path) -> LocalFuture<Result<bool>> {
        let at = path.to_path_buf();
        self.pass(DiskOp::Exists, path, move |disk| disk.exists(&at))
    }

    fn free_bytes(&self, path: &Path) -> LocalFuture<Result<u64>> {
        if self.shared.full.get() {
            return Box::pin(async { Ok(0) });
        }
        let at = path.to_path_buf();
        self.pass(DiskOp::FreeBytes, path, move |disk| disk.free_bytes(&at))
    }
}

struct FaultFile {
    inner: Rc<dyn File>,
    shared: Rc<Shared>,
}

impl FaultFile {
    fn pass<T: 'static>(
        &self,
        op: DiskOp,
        begin: impl FnOnce(&dyn File) -> LocalFuture<Result<T>> + 'static,
    ) -> LocalFuture<Result<T>> {
        match self.shared.strike(op, self.inner.path()) {
            Verdict::Pass => begin(&*self.inner),
            Verdict::Fail(error) => Box::pin(async move { Err(error) }),
            Verdict::Late(delay) => {
                let inner = Rc::clone(&self.inner);
                self.shared.late(delay, move || begin(&*inner))
            }
        }
    }

    /// Writes some of the pages, then fails.
    fn write_short(&self, buf: AlignedBuf, offset: u64) -> LocalFuture<(AlignedBuf, Result<()>)> {
        let pages = self.shared.random.borrow_mut().usize(..buf.len() / ALIGNMENT);
        let error = failed(DiskOp::Write, self.inner.path());
        if pages == 0 {
            return Box::pin(async move { (buf, Err(error)) });
        }
        let part = AlignedBuf::from_slice(&buf[..pages * ALIGNMENT]);
        let written = self.inner.write_at(part, offset, Write::Plain);
        Box::pin(async move {
            let (_, result) = written.await;
            (buf, result.and(Err(error)))
        })
    }

    /// Writes only if it needs no space.
    fn write_in_place(
        &self,
        buf: AlignedBuf,
        offset: u64,
        durability: Write,
    ) -> LocalFuture<(AlignedBuf, Result<()>)> {
        let (size, inner) = (self.inner.size(), Rc::clone(&self.inner));
        Box::pin(async move {
            match size.await {
                Ok(size) if offset + buf.len() as u64 <= size => {
                    inner.write_at(buf, offset, durability).await
                }
                Ok(_) => (buf, Err(no_space(DiskOp::Write, inner.path()))),
                Err(error) => (buf, Err(error)),
            }
        })
    }
}

impl File for FaultFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn size(&self) -> LocalFuture<Result<u64>> {
        self.pass(DiskOp::Size, |file| file.size())
    }

    fn read_at(&self, buf: AlignedBuf, offset: u64) -> LocalFuture<(AlignedBuf, Result<usize>)> {
        match self.shared.strike(DiskOp::Read, self.inner.path()) {
            Verdict::Pass => self.inner.read_at(buf, offset),
            Verdict::Fail(error) => Box::pin(async move { (buf, Err(error)) }),
            Verdict::Late(delay) => {
                let inner = Rc::clone(&self.inner);
                self.shared.late(delay, move || inner.read_at(buf, offset))
            }
        }
    }

    fn write_at(
        &self,
        buf: AlignedBuf,
        offset: u64,
        durability: Write,
    ) -> LocalFuture<(AlignedBuf, Result<()>)> {
        let path = self.inner.path();
        match self.shared.fault(DiskOp::Write, path) {
            None if self.shared.full.get() => self.write_in_place(buf, offset, durability),
            None => self.inner.write_at(buf, offset, durability),
            Some(Fault::Short) => self.write_short(buf, offset),
            Some(Fault::Failed) => {
                let error = failed(DiskOp::Write, path);
                Box::pin(async move { (buf, Err(error)) })
            }
            Some(Fault::NoSpace) => {
                let error = no_space(DiskOp::Write, path);
                Box::pin(async move { (buf, Err(error)) })
            }
            Some(Fault::Slow(delay)) => {
                let inner = Rc::clone(&self.inner);
                self.shared.late(delay, move || inner.write_at(buf, offset, durability))
            }
        }
    }

    fn sync(&self) -> LocalFuture<Result<()>> {
        let synced = self.pass(DiskOp::Sync, |file| file.sync());
        let (shared, path) = (Rc::clone(&self.shared), self.inner.path().to_path_buf());
        Box::pin(async move {
            let result = synced.await;
            if let (Err(_), Some(lose)) = (&result, &*shared.failed_sync.borrow()) {
                lose(&path);
            }
            result
        })
    }

    fn allocate(&self, len: u64) -> LocalFuture<Result<()>> {
        if self.shared.full.get() {
            let refused = no_space(DiskOp::Allocate, self.inner.path());
            return Box::pin(async move { Err(refused) });
        }
        self.pass(DiskOp::Allocate, move |file| file.allocate(len))
    }
}

fn failed(op: DiskOp, path: &Path) -> Error {
    Error::io(op.name(), path, IoError::from_raw_os_error(EIO))
}

fn no_space(op: DiskOp, path: &Path) -> Error {
    Error::io(op.name(), path, ErrorKind::StorageFull.into())
}

impl fmt::Debug for FaultDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultDisk").field("inner", &self.inner).field("struck", &self.struck()).finish()
    }
}

impl fmt::Debug for FaultFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultFile").field(&self.inner).finish()
    }
}

const EIO: i32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::memory::{CrashMode, MemoryConfig, MemoryDisk};
    use crate::io::virtual_time::VirtualRuntime;

    fn on_faulty<F: Future>(body: impl FnOnce(Runtime, MemoryDisk, FaultDisk) -> F) -> F::Output {
        let virtual_time = VirtualRuntime::new(1);
        let runtime = virtual_time.runtime();
        let memory = MemoryDisk::new(&runtime, 1, MemoryConfig::default());
        let disk = FaultDisk::new(Rc::new(memory.clone()), &runtime, 1);
        virtual_time.block_on(body(runtime, memory, disk))
    }

    fn rule(op: DiskOp, when: When, fault: Fault) -> Rule {
        Rule { ops: vec![op], path_contains: "f".to_owned(), when, fault }
    }

    async fn write(file: &Rc<dyn File>, pages: usize, offset: u64) -> Result<()> {
        let mut buf = AlignedBuf::zeroed(pages * ALIGNMENT);
        buf.fill(7);
        file.write_at(buf, offset, Write::Plain).await.1
    }

    #[test]
    fn the_nth_operation_fails_once_and_only_where_asked() {
        on_faulty(|_, _, disk| async move {
            disk.add(rule(DiskOp::Write, When::Nth(2), Fault::Failed));
            let file = disk.open(Path::new("f"), OpenMode::Create).await.unwrap();
            let other = disk.open(Path::new("g"), OpenMode::Create).await.unwrap();
            write(&file, 1, 0).await.unwrap();
            write(&other, 1, 0).await.unwrap();
            let error = write(&file, 1, 0).await.unwrap_err();
            assert!(error.to_string().starts_with("write f: "), "{error}");
            write(&file, 1, 0).await.unwrap();
            assert_eq!(disk.struck(), 1);
        });
    }

    #[test]
    fn a_short_write_leaves_some_pages_and_an_error() {
        on_faulty(|_, memory, disk| async move {
            disk.add(rule(DiskOp::Write, When::From(1), Fault::Short));
            let file = disk.open(Path::new("f"), OpenMode::Create).await.unwrap();
            let mut lengths = std::collections::BTreeSet::new();
            for _ in 0..50 {
                write(&file, 8, 0).await.unwrap_err();
                lengths.insert(memory.contents(Path::new("f")).unwrap().len() / ALIGNMENT);
            }
            assert!(lengths.len() > 1 && *lengths.last().unwrap() < 8, "{lengths:?}");
        });
    }

    #[test]
    fn a_failed_sync_loses_what_it_was_to_make_durable() {
        on_faulty(|runtime, memory, disk| async move {
            let below = memory.clone();
            disk.on_failed_sync(move |path| below.lose_unsynced(path));
            let path = Path::new("f");
            let file = disk.open(path, OpenMode::Create).await.unwrap();
            disk.sync_dir(Path::new("")).await.unwrap();
            disk.add(rule(DiskOp::Sync, When::Nth(1), Fault::Failed));
            write(&file, 1, 0).await.unwrap();
            file.sync().await.unwrap_err();
            file.sync().await.unwrap();
            let after = memory.crash(&runtime, 1, CrashMode::Lose);
            assert_eq!(
                after.contents(path).unwrap(),
                [] as [u8; 0],
                "the second sync's success means nothing"
            );
            assert_eq!(memory.contents(path).unwrap().len(), ALIGNMENT, "readers still see it");
        });
    }

    #[test]
    fn a_full_disk_takes_what_needs_no_space_and_recovers() {
        on_faulty(|_, _, disk| async move {
            let file = disk.open(Path::new("f"), OpenMode::Create).await.unwrap();
            write(&file, 2, 0).await.unwrap();
            disk.set_full(true);
            write(&file, 1, 4096).await.unwrap();
            assert!(write(&file, 1, 8192).await.unwrap_err().is_no_space());
            assert!(disk.open(Path::new("g"), OpenMode::Create).await.unwrap_err().is_no_space());
            assert!(file.allocate(1 << 20).await.unwrap_err().is_no_space());
            assert_eq!(disk.free_bytes(Path::new("f")).await.unwrap(), 0);
            disk.set_full(false);
            write(&file, 1, 8192).await.unwrap();
        });
    }

    #[test]
    fn a_slow_operation_takes_its_time_and_chance_follows_the_seed() {
        on_faulty(|runtime, _, disk| async move {
            let file = disk.open(Path::new("f"), OpenMode::Create).await.unwrap();
            let slow = disk.add(rule(DiskOp::Write, When::From(1), Fault::Slow(Duration::from_millis(5))));
            let before = runtime.now();
            write(&file, 1, 0).await.unwrap();
            assert_eq!(runtime.now().since(before), Duration::from_millis(5));
            disk.remove_rule(slow);
            disk.add(rule(DiskOp::Write, When::Chance(0.3), Fault::NoSpace));
            let mut refused = 0;
            for _ in 0..1000 {
                refused += u32::from(write(&file, 1, 0).await.is_err());
            }
            assert!((200..400).contains(&refused), "{refused} of 1000 at 0.3");
            disk.heal();
            write(&file, 1, 0).await.unwrap();
        });
    }
}
