//! A partition: an LSM tree owned by one shard.
//!
//! This file holds its state and the order of its writes; reading is in `read`, memtable to segment in `flush`,
//! segment to segment in `compaction`, keys that leave and arrive with their segments in `excise`, `ingest` and `restrict`,
//! partitions that are cut off, handed over or taken in in `carve` and `absorb`,
//! transactions over partitions in `prepared`.
//!
//! Invariants:
//! - between taking an index and having its rows in a memtable there is no await: log order is index order is
//!   memtable order;
//! - indexes are dense; versions ascend with them, except that a resolved transaction's rows carry the version agreed
//!   with its other partitions, while its rows are locked;
//! - a row observed by a reader is committed before the reader's reply (R4): `commit_of` finds what to wait for;
//! - only committed indexes are flushed (R8); `flushed` never exceeds what is committed.

pub(crate) mod absorb;
pub(crate) mod base;
pub(crate) mod carve;
pub(crate) mod compaction;
pub(crate) mod cuts;
pub(crate) mod excise;
pub(crate) mod fence;
pub(crate) mod flush;
pub(crate) mod import;
pub(crate) mod ingest;
pub(crate) mod levels;
pub(crate) mod locks;
pub(crate) mod mirror;
pub mod open;
mod output;
pub(crate) mod pace;
pub(crate) mod parking;
pub(crate) mod prepared;
pub mod read;
pub(crate) mod replay;
pub(crate) mod restrict;
pub mod retention;
pub(crate) mod snapshots;
pub mod strategy;
pub(crate) mod tap;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use self::cuts::Cuts;
use self::ingest::Pins;
use self::levels::Levels;
use self::locks::Locks;
use self::mirror::Mirrors;
use self::pace::Pace;
use self::parking::Parking;
use self::prepared::PreparedSet;
use self::snapshots::Snapshots;
use self::tap::Taps;
use crate::batch::Op;
use crate::cache::BlockCache;
use crate::entry::{Entry, Expiry, Kind, RangeTombstone};
use crate::error::{Error, Result};
use crate::ids::{Epoch, Index, Lsn, PartitionId, SegmentId, Version};
use crate::io::disk::Disk;
use crate::io::runtime::Runtime;
use crate::manifest::{Manifest, State};
use crate::memtable::{Ahead, Memtable};
use crate::options::Options;
use crate::row_cache::{Owner, RowCache};
use crate::shard::fence::Fences;
use crate::shard::moves::planted::Planted;
use crate::signal::Signal;
use crate::turn::Turnstile;
use crate::wal::{Intent, RecordHeader, RowWriter, Ticket, Wal};

/// What all partitions of a shard share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) runtime: Runtime,
    pub(crate) disk: Rc<dyn Disk>,
    /// The store's directory.
    pub(crate) dir: PathBuf,
    pub(crate) cache: Rc<BlockCache>,
    pub(crate) rows: RowCache,
    pub(crate) options: Options,
    pub(crate) pace: Pace,
    pub(crate) fences: Fences,
    pub(crate) planted: Planted,
    log: OnceCell<Rc<Wal>>,
}

impl Common {
    /// Without a log: for recovery.
    pub(crate) fn new(
        runtime: Runtime,
        disk: Rc<dyn Disk>,
        dir: PathBuf,
        cache: Rc<BlockCache>,
        options: Options,
    ) -> Self {
        let rows = RowCache::new(options.row_cache_bytes_max());
        Self {
            runtime,
            disk,
            dir,
            cache,
            rows,
            options,
            pace: Pace::default(),
            fences: Fences::default(),
            planted: Planted::default(),
            log: OnceCell::new(),
        }
    }

    /// Opens the shard for writing.
    pub(crate) fn open_log(&self, wal: Rc<Wal>) {
        assert!(self.log.set(wal).is_ok(), "a shard has one log");
    }

    /// The shard's log.
    pub(crate) fn wal(&self) -> &Rc<Wal> {
        self.log.get().unwrap_or_else(|| unreachable!("nothing is written while the store recovers"))
    }
}

/// One partition.
pub(crate) struct Partition {
    pub(crate) common: Rc<Common>,
    pub(crate) id: PartitionId,
    pub(crate) dir: PathBuf,
    pub(crate) epoch: Epoch,
    pub(crate) manifest: Manifest,
    /// Last index given out.
    index: Cell<Index>,
    /// Last version given out or seen.
    version: Cell<Version>,
    /// Largest partition time written to the log, ms (R6).
    time_ms: Cell<u64>,
    /// Largest partition time known to be committed.
    committed_time_ms: Cell<u64>,
    active: RefCell<Active>,
    /// Full memtables on their way to a segment, newest first.
    sealed: RefCell<VecDeque<Rc<Sealed>>>,
    levels: RefCell<Rc<Levels>>,
    /// What of the row cache is this partition's.
    owner: RefCell<Owner>,
    next_segment: Cell<SegmentId>,
    /// Writes not yet known to be committed, oldest first.
    uncommitted: RefCell<VecDeque<Uncommitted>>,
    /// Partition time of all records not yet known to be committed, oldest first.
    uncommitted_times: RefCell<VecDeque<(u64, Ticket)>>,
    pub(crate) snapshots: Rc<Snapshots>,
    pub(crate) locks: RefCell<Locks>,
    pub(crate) parking: Parking,
    /// Told when locks are freed, and when the gate or the shard's last fence opens.
    pub(crate) unlocked: Signal,
    /// A long batch is being built aside: other writers of this partition wait.
    pub(crate) gate: Cell<bool>,
    pub(crate) prepared: RefCell<PreparedSet>,
    pub(crate) compaction_cursor: RefCell<Vec<Vec<u8>>>,
    /// Segments that were built or linked for an edit that found no room: see [`Partition::record`].
    unnamed: RefCell<Vec<SegmentId>>,
    cuts: Cuts,
    taps: Taps,
    mirrors: Mirrors,
    /// Who changes segments that are there takes turns.
    structure: Turnstile,
    pins: Pins,
    flushing: Turnstile,
    /// Handed over: nothing more is logged here, so that whoever opens it next knows its last index.
    is_closed: Cell<bool>,
    /// Whether the table has yet to say that this partition is here: until then its files are not changed.
    pub(crate) is_provisional: Cell<bool>,
    /// Deletions of files that wait for the log, and who waits for them.
    cleaning: Cell<usize>,
    cleaned: Signal,
}

/// The memtable that takes writes, and the log it pins.
#[derive(Debug, Default)]
struct Active {
    memtable: Rc<Memtable>,
    pin: Option<Lsn>,
}

/// A memtable that takes no more writes.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) memtable: Rc<Memtable>,
    /// Oldest log position its rows are in; none for what recovery replayed, whose log is gone after its flush.
    pub(crate) pin: Option<Lsn>,
    /// Every record up to here is in this memtable or an older one.
    pub(crate) index: Index,
    pub(crate) version: Version,
    pub(crate) time_ms: u64,
    /// Committed when this is.
    pub(crate) ticket: Option<Ticket>,
}

#[derive(Clone, Copy, Debug)]
struct Uncommitted {
    version: Version,
    ticket: Ticket,
}

impl Partition {
    /// A partition as its manifest's `state` describes it.
    fn new(
        common: Rc<Common>,
        manifest: Manifest,
        dir: PathBuf,
        id: PartitionId,
        state: &State,
        levels: Levels,
    ) -> Self {
        let owner = RefCell::new(common.rows.owner());
        Self {
            common,
            id,
            dir,
            epoch: state.epoch,
            manifest,
            index: Cell::new(state.flushed_index),
            version: Cell::new(state.version_max),
            time_ms: Cell::new(state.time_ms),
            committed_time_ms: Cell::new(state.time_ms),
            active: RefCell::default(),
            sealed: RefCell::default(),
            levels: RefCell::new(Rc::new(levels)),
            owner,
            next_segment: Cell::new(state.next_segment),
            uncommitted: RefCell::default(),
            uncommitted_times: RefCell::default(),
            snapshots: Rc::default(),
            locks: RefCell::default(),
            parking: Parking::default(),
            unlocked: Signal::default(),
            gate: Cell::new(false),
            prepared: RefCell::default(),
            compaction_cursor: RefCell::new(vec![Vec::new(); strategy::LEVELS]),
            unnamed: RefCell::default(),
            cuts: Cuts::default(),
            taps: Taps::default(),
            mirrors: Mirrors::default(),
            structure: Turnstile::default(),
            pins: Pins::default(),
            flushing: Turnstile::default(),
            is_closed: Cell::new(false),
            is_provisional: Cell::new(false),
            cleaning: Cell::new(0),
            cleaned: Signal::default(),
        }
    }

    /// Whether writers can go ahead without looking at locks.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_gated() && self.locks.borrow().is_idle()
    }

    /// Whether all writers wait: for a long batch of this partition, or for a cut of the shard.
    pub(crate) fn is_gated(&self) -> bool {
        self.gate.get() || self.common.fences.is_closed()
    }

    /// Appends `ops` to the log as one record and applies them. The caller has been admitted and found the rows
    /// unlocked, and does not await in between.
    ///
    /// # Errors
    /// The log's: nothing was applied.
    pub(crate) fn write(&self, ops: &[Op<'_>]) -> Result<Ticket> {
        let version = self.version.get().next();
        let ticket = self.append(&Intent::Write, Some(version), |rows| log_rows(rows, ops, version))?;
        self.insert(ops, version);
        self.tapped(ops, version);
        Ok(ticket)
    }

    /// Puts rows that are logged into the active memtable.
    fn insert(&self, ops: &[Op<'_>], version: Version) {
        let active = self.active.borrow();
        for op in ops {
            self.uncache(op);
            insert_into(&active.memtable, op, version);
        }
    }

    /// Takes what an operation changes out of the row cache.
    fn uncache(&self, op: &Op<'_>) {
        match *op {
            Op::Put { key, .. } | Op::Delete { key } => self.common.rows.remove(&self.owner.borrow(), key),
            Op::DeleteRange { start, end } => self.owner.borrow_mut().erase(start, end),
        }
    }

    /// Notes where a write of `key` will go.
    pub(crate) fn find_ahead(&self, ahead: &mut Ahead, key: &[u8]) {
        ahead.find(&self.active.borrow().memtable, key);
    }

    /// As [`Partition::write`], with the rows already in a memtable of their own, at the next version.
    ///
    /// # Errors
    /// As [`Partition::write`].
    pub(crate) fn write_aside(&self, ops: &[Op<'_>], version: Version, aside: Memtable) -> Result<Ticket> {
        assert_eq!(version, self.version.get().next(), "nobody else takes a version behind the gate");
        self.seal_rows();
        let ticket = self.append(&Intent::Write, Some(version), |rows| log_rows(rows, ops, version))?;
        self.attach(aside);
        self.tapped(ops, version);
        Ok(ticket)
    }

    /// Appends the next record of this partition, which pins the log like every record that is not in the manifest's
    /// flushed index. A write takes a `version`; what other records make visible is locked until they are durable.
    pub(crate) fn append(
        &self,
        intent: &Intent<'_>,
        version: Option<Version>,
        rows: impl FnOnce(&mut RowWriter<'_>),
    ) -> Result<Ticket> {
        // Its rows are on their way: at the fence, or already where the table says.
        self.check_open()?;
        let index = self.index.get().next();
        let time_ms = self.time_ms();
        let header = RecordHeader { partition: self.id, epoch: self.epoch, index, time_ms };
        let ticket = self.common.wal().append(&header, intent, rows)?;
        self.index.set(index);
        self.time_ms.set(time_ms);
        self.active.borrow_mut().pin.get_or_insert(ticket.lsn);
        // Where nobody reads, nobody else forgets what is committed.
        self.committed_version();
        self.committed_time_ms();
        if let Some(version) = version {
            self.lift(version);
            self.uncommitted.borrow_mut().push_back(Uncommitted { version, ticket });
        }
        self.uncommitted_times.borrow_mut().push_back((time_ms, ticket));
        Ok(ticket)
    }

    /// Puts a memtable that was built aside on top. The active one was sealed before the aside's record was logged: it
    /// does not hold that record's index.
    pub(crate) fn attach(&self, memtable: Memtable) {
        let mut active = self.active.borrow_mut();
        assert!(active.memtable.is_empty(), "sealed before");
        active.memtable = Rc::new(memtable);
        self.owner.borrow_mut().erase_all();
    }

    /// Has the active memtable pin the log from `lsn` on.
    pub(crate) fn pin(&self, lsn: Lsn) {
        let mut active = self.active.borrow_mut();
        active.pin = Some(active.pin.map_or(lsn, |pin| pin.min(lsn)));
    }

    /// The largest version all of whose log is committed.
    pub(crate) fn committed_version(&self) -> Version {
        let mut uncommitted = self.uncommitted.borrow_mut();
        while uncommitted.front().is_some_and(|u| self.is_committed(u.ticket)) {
            uncommitted.pop_front();
        }
        // Everything below the oldest uncommitted version, and everything when there is none.
        uncommitted.front().map_or(self.version.get(), |u| Version(u.version.0 - 1))
    }

    fn is_committed(&self, ticket: Ticket) -> bool {
        ticket.batch <= self.common.wal().committed_batch()
    }

    /// What must be committed before a reply that observed `version` may go out; `None`: it already is.
    pub(crate) fn commit_of(&self, version: Version) -> Option<Ticket> {
        if version <= self.committed_version() {
            return None;
        }
        let uncommitted = self.uncommitted.borrow();
        let at = uncommitted.partition_point(|u| u.version < version);
        uncommitted.get(at).or_else(|| uncommitted.back()).map(|u| u.ticket)
    }

    /// The last version given out or seen.
    pub(crate) fn version(&self) -> Version {
        self.version.get()
    }

    /// Makes every later write newer than `version` (the Lamport rule).
    pub(crate) fn lift(&self, version: Version) {
        self.version.set(self.version.get().max(version));
    }

    /// A version that nothing else gets, here or where this partition goes.
    ///
    /// # Errors
    /// [`Error::Moved`] once its last version is on its way there.
    pub(crate) fn take_version(&self) -> Result<Version> {
        self.check_open()?;
        let version = self.version().next();
        self.lift(version);
        Ok(version)
    }

    /// That whoever has this partition next does not have its last index and version already.
    fn check_open(&self) -> Result<()> {
        if self.is_closed.get() { Err(Error::Moved { version: self.departed().latest }) } else { Ok(()) }
    }

    /// The last index given out.
    pub(crate) fn index(&self) -> Index {
        self.index.get()
    }

    /// Partition time: never behind what was logged.
    pub(crate) fn time_ms(&self) -> u64 {
        self.time_ms.get().max(self.common.runtime.wall_ms())
    }

    /// Partition time that no crash takes back.
    pub(crate) fn committed_time_ms(&self) -> u64 {
        let mut uncommitted = self.uncommitted_times.borrow_mut();
        while let Some((time_ms, _)) = uncommitted.front().filter(|(_, ticket)| self.is_committed(*ticket)) {
            self.committed_time_ms.set(*time_ms);
            uncommitted.pop_front();
        }
        self.committed_time_ms.get()
    }

    /// What must be committed before a reply that saw `expiry` as past may go out, so that it stays past (R6). Logs
    /// the time if no record has it.
    ///
    /// # Errors
    /// The log's.
    pub(crate) fn commit_of_expiry(&self, expiry: Expiry) -> Result<Option<Ticket>> {
        if expiry.is_past(self.committed_time_ms()) {
            return Ok(None);
        }
        let uncommitted = self.uncommitted_times.borrow();
        let logged =
            uncommitted.iter().find(|(time_ms, _)| expiry.is_past(*time_ms)).map(|(_, ticket)| *ticket);
        drop(uncommitted);
        match logged {
            Some(ticket) => Ok(Some(ticket)),
            None => self.append(&Intent::Time, None, |_| ()).map(Some),
        }
    }

    /// Bytes in memtables, sealed ones included.
    pub(crate) fn memtable_bytes(&self) -> usize {
        let sealed: usize = self.sealed.borrow().iter().map(|s| s.memtable.bytes()).sum();
        self.active_bytes() + sealed
    }

    /// Bytes in the memtable that takes writes.
    pub(crate) fn active_bytes(&self) -> usize {
        self.active.borrow().memtable.bytes()
    }

    /// Full memtables waiting for their flush.
    pub(crate) fn sealed_count(&self) -> usize {
        self.sealed.borrow().len()
    }

    /// Whether every memtable sealed at or before `index` is in segments.
    pub(crate) fn is_flushed(&self, index: Index) -> bool {
        self.sealed.borrow().back().is_none_or(|oldest| oldest.index > index)
    }

    /// Closes the active memtable, if it has any rows, and opens an empty one.
    pub(crate) fn seal_rows(&self) {
        if !self.active.borrow().memtable.is_empty() {
            self.seal();
        }
    }

    /// Closes the active memtable, if it has any rows or stands for records without some, and opens an empty one.
    pub(crate) fn seal(&self) {
        let mut active = self.active.borrow_mut();
        if active.memtable.is_empty() && active.pin.is_none() {
            return;
        }
        let full = std::mem::take(&mut *active);
        self.sealed.borrow_mut().push_front(Rc::new(Sealed {
            memtable: full.memtable,
            pin: full.pin,
            index: self.index.get(),
            version: self.version.get(),
            time_ms: self.time_ms.get(),
            ticket: self.uncommitted_times.borrow().back().map(|(_, ticket)| *ticket),
        }));
    }

    /// The oldest log position that holds something of this partition not yet in a segment.
    pub(crate) fn pinned_lsn(&self) -> Option<Lsn> {
        let sealed = self.sealed.borrow().iter().filter_map(|s| s.pin).min();
        [sealed, self.active.borrow().pin, self.prepared.borrow().pinned_lsn()].into_iter().flatten().min()
    }

    /// Whether rows of the memtable that is written to are in the log before `upto`.
    pub(crate) fn is_active_pinned_below(&self, upto: Lsn) -> bool {
        self.active.borrow().pin.is_some_and(|lsn| lsn < upto)
    }

    /// The segments as they are.
    pub(crate) fn levels(&self) -> Rc<Levels> {
        Rc::clone(&self.levels.borrow())
    }

    /// A number for a new segment file.
    pub(crate) fn next_segment(&self) -> SegmentId {
        let id = self.next_segment.get();
        self.next_segment.set(id.next());
        id
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition").field("id", &self.id).field("index", &self.index).finish_non_exhaustive()
    }
}

/// One operation at one version into a memtable.
pub(crate) fn insert_into(memtable: &Memtable, op: &Op<'_>, version: Version) {
    match *op {
        Op::Put { key, value, expiry } => {
            memtable.insert(Entry { key, version, kind: Kind::Put, expiry, value });
        }
        Op::Delete { key } => {
            memtable.insert(Entry { key, version, kind: Kind::Delete, expiry: Expiry::NEVER, value: b"" });
        }
        Op::DeleteRange { start, end } => {
            memtable.delete_range(RangeTombstone { start: start.to_vec(), end: end.to_vec(), version });
        }
    }
}

fn log_rows(rows: &mut RowWriter<'_>, ops: &[Op<'_>], version: Version) {
    for op in ops {
        match *op {
            Op::Put { key, value, expiry } => rows.put(key, value, expiry, version),
            Op::Delete { key } => rows.delete(key, version),
            Op::DeleteRange { start, end } => rows.delete_range(start, end, version),
        }
    }
}

#[cfg(test)]
mod structure_tests;
#[cfg(test)]
mod time_tests;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::io::memory::{MemoryConfig, MemoryDisk};
    use crate::io::virtual_time::VirtualRuntime;
    use crate::{Options, SimulatedStore};

    #[test]
    fn writes_without_reads_leave_nothing_behind_once_they_are_committed() {
        let world = VirtualRuntime::new(1);
        let runtimes = [world.runtime()];
        let disk = std::rc::Rc::new(MemoryDisk::new(&runtimes[0], 1, MemoryConfig::default()));
        world.block_on(async {
            let options = Options { partitions: 1, ..Options::default() };
            let store = SimulatedStore::open(&runtimes, disk, Path::new("/store"), options, 1).await.unwrap();
            let client = store.client().unwrap();
            for row in 0..100_u32 {
                client.put(b"entity", &row.to_be_bytes(), b"value").await.unwrap();
            }
            for partition in store.shard(0).unwrap().partitions() {
                let kept = (partition.uncommitted.borrow().len(), partition.uncommitted_times.borrow().len());
                assert!(
                    kept.0 <= 1 && kept.1 <= 1,
                    "{kept:?} of 100 writes, all but the last before a later one"
                );
            }
        });
    }
}
