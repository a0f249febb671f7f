//! What a partition was at a cut: the segments that hold every row at or below a version, and no other row.
//!
//! At the cut the memtable is sealed: all its rows are at or below the cut's version, all later ones above it, but for
//! those of transactions that were prepared then and commit at or below it. Memtables are flushed in their order, so
//! when the sealed one's flush is installed, the levels have all of it and nothing newer: they are kept. The rows of
//! those transactions are noted when they are resolved.
//!
//! Invariants:
//! - the levels of a cut are those in the very turn in which the last memtable sealed at or before it became a segment;
//! - nothing is kept of a cut that nobody holds.

use std::cell::{OnceCell, RefCell};
use std::rc::{Rc, Weak};

use super::Partition;
use super::levels::Levels;
use super::output::Plan;
use super::pace::Work;
use super::retention::Retention;
use crate::batch::WriteBatch;
use crate::error::Result;
use crate::ids::{Index, TableVersion, Version};
use crate::manifest::State;
use crate::memtable::Memtable;
use crate::merge::{Merge, Source};
use crate::segment::Segment;

/// The cuts of one partition that are under way.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    pending: RefCell<Vec<Weak<Cut>>>,
}

/// One partition at a cut.
#[derive(Debug)]
pub(crate) struct Cut {
    version: Version,
    index: Index,
    time_ms: u64,
    levels: OnceCell<Rc<Levels>>,
    /// Rows of transactions that were prepared at the cut, and the versions they committed at.
    late: RefCell<Vec<(Rc<WriteBatch>, Version)>>,
}

/// What a cut of a partition is made of: every row of the cut, and a manifest's state that names it.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) state: State,
    pub(crate) segments: Vec<Rc<Segment>>,
}

impl Cuts {
    /// Everything up to `index` is in `levels` from this turn on.
    pub(super) fn flushed(&self, index: Index, levels: &Rc<Levels>) {
        self.each(|cut| {
            if cut.index <= index {
                // A later flush finds it set, and does not change it.
                let _kept = cut.levels.set(Rc::clone(levels));
            }
        });
    }

    /// A transaction's rows became visible at `version`.
    pub(super) fn committed(&self, rows: &Rc<WriteBatch>, version: Version) {
        self.each(|cut| {
            if version <= cut.version {
                cut.late.borrow_mut().push((Rc::clone(rows), version));
            }
        });
    }

    fn each(&self, f: impl Fn(&Cut)) {
        let mut pending = self.pending.borrow_mut();
        if !pending.is_empty() {
            pending.retain(|cut| cut.strong_count() > 0);
            pending.iter().filter_map(Weak::upgrade).for_each(|cut| f(&cut));
        }
    }
}

impl Partition {
    /// Cuts here: every row so far, and those of transactions that are prepared and commit at or below `version`.
    /// Every later one is above it.
    pub(crate) fn cut(&self, version: Version) -> Rc<Cut> {
        assert!(self.version() <= version, "a cut is not in the past");
        self.lift(version);
        self.seal();
        let (index, time_ms) = (self.index(), self.time_ms.get());
        let cut = Cut { version, index, time_ms, levels: OnceCell::new(), late: RefCell::default() };
        if self.sealed_count() == 0 {
            cut.levels.get_or_init(|| self.levels());
        }
        let cut = Rc::new(cut);
        self.cuts.pending.borrow_mut().push(Rc::downgrade(&cut));
        cut
    }

    /// Waits until the transactions prepared at the cut are decided.
    ///
    /// # Errors
    /// When one is in doubt.
    pub(crate) async fn cut_decided(&self, cut: &Cut) -> Result<()> {
        self.wait_until_decided(cut.version).await
    }

    /// The segments of a cut that is decided and flushed. Those of rows that came late are this cut's own: their
    /// files have no name any more.
    ///
    /// # Errors
    /// What writing a segment says.
    pub(crate) async fn part_of(&self, cut: &Cut) -> Result<Part> {
        let levels = cut.levels.get().unwrap_or_else(|| unreachable!("the caller waited for the flush"));
        let mut segments: Vec<Rc<Segment>> = levels.all().map(Rc::clone).collect();
        segments.extend(self.late_segments(cut).await?);
        let metas = segments.iter().map(|s| (s.meta().id, s.meta().clone()));
        let state = State {
            segments: metas.collect(),
            flushed_index: cut.index,
            epoch: self.epoch,
            version_max: cut.version,
            time_ms: cut.time_ms,
            next_segment: self.next_segment.get(),
            // Of a table that the cut's store does not have.
            restricted: TableVersion(0),
            arrivals: self.manifest.state().arrivals.clone(),
        };
        Ok(Part { state, segments })
    }

    async fn late_segments(&self, cut: &Cut) -> Result<Vec<Rc<Segment>>> {
        let late = std::mem::take(&mut *cut.late.borrow_mut());
        if late.is_empty() {
            return Ok(Vec::new());
        }
        let memtable = Rc::new(Memtable::default());
        let mut slice = self.common.runtime.slice();
        for (rows, version) in &late {
            for op in rows.ops() {
                super::insert_into(&memtable, &op, *version);
                slice.pause().await;
            }
        }
        let plan = Plan {
            merge: Merge::new(vec![Source::from(memtable.cursor())]),
            tombstones: memtable.tombstones().clone(),
            retention: Retention::new(Vec::new(), false, self.committed_time_ms()),
            level: 0,
            segment_bytes: u64::MAX,
            work: Work::Compaction,
        };
        let built = self.build(plan).await?;
        let opened = self.open_segments(&built).await;
        for meta in &built {
            self.remove_segment_file(meta.id).await;
        }
        opened
    }
}

impl Cut {
    /// Whether everything sealed at the cut is in segments.
    pub(crate) fn is_flushed(&self) -> bool {
        self.levels.get().is_some()
    }
}
