//! Everything that a range holds at one moment, to be read while it is written on.
//!
//! Read from the memtables and segments of the turn in which it was begun, in which a tap of the same range begins too:
//! what the one does not have the other has. Rows that are in both are the same rows.
//!
//! Invariants:
//! - nothing newer than the moment is told, and of what is older only what a reader at the moment, or one that holds an
//!   older version, can see;
//! - deletions that hide nothing any more are left out: nothing older of the range is where it goes.

use std::path::PathBuf;
use std::rc::Rc;

use super::Partition;
use super::ingest::{Base as Segments, Linked};
use super::pace::{ENTRIES_PER_LOOK, Pace, Work};
use super::retention::{Retention, Verdict};
use crate::entry::{Entry, Kind};
use crate::error::Result;
use crate::ids::Version;
use crate::memtable::MemtableCursor;
use crate::merge::{Merge, Source, Step};
use crate::segment::{KeyRange, ReadMode, RunCursor, path_of};
use crate::tombstones::RangeTombstones;
use crate::wal::{RowOp, RowSet};

/// A range at one moment, read from its start to its end.
#[derive(Debug)]
pub(crate) struct Base {
    merge: Merge,
    tombstones: RangeTombstones,
    retention: Retention,
    /// The partition's, where its segments have their names.
    dir: PathBuf,
    start: Vec<u8>,
    end: Vec<u8>,
    /// Read, or to be linked; their files stay as long as this does.
    segments: Segments,
    /// The moment.
    pub(crate) at: Version,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    New,
    Rows,
    Done,
}

impl Partition {
    /// `start..end` as it is in this turn.
    pub(crate) fn base(&self, start: &[u8], end: &[u8]) -> Base {
        let segments = self.base_of(&KeyRange::new(start.to_vec(), Some(end.to_vec())));
        let mut sources: Vec<Source> = self.memtable_cursors().into_iter().map(Source::from).collect();
        // What is read once, and not by clients, does not go through the cache.
        let runs = segments.copied.iter().map(Rc::clone);
        sources.extend(runs.map(|run| Source::from(RunCursor::new(run, ReadMode::Ahead))));
        // What is linked lies below: deletions still hide something.
        let is_bottom = segments.linked.is_empty();
        Base {
            merge: Merge::new(sources),
            tombstones: self.tombstones_in(&self.levels(), start, end),
            retention: Retention::new(self.snapshots.versions(), is_bottom, self.committed_time_ms()),
            segments,
            dir: self.dir.clone(),
            start: start.to_vec(),
            end: end.to_vec(),
            at: self.version(),
            stage: Stage::New,
        }
    }

    fn memtable_cursors(&self) -> Vec<MemtableCursor> {
        let mut cursors = vec![self.active.borrow().memtable.cursor()];
        cursors.extend(self.sealed.borrow().iter().map(|s| s.memtable.cursor()));
        cursors
    }
}

impl Base {
    /// Segments that are to be linked and not read.
    pub(crate) fn linked(&self) -> impl Iterator<Item = Linked> {
        let segments = self.segments.linked.iter();
        // Not the name by which its file was opened, which may have been another partition's, or another view's: that one goes.
        segments.map(|s| Linked { path: path_of(&self.dir, s.meta().id), meta: s.meta().clone() })
    }

    /// The next rows in storage order, of about `bytes`; range deletions come last. None: that was all.
    ///
    /// # Errors
    /// What reading a segment says.
    pub(crate) async fn next(&mut self, partition: &Partition, bytes: usize) -> Result<Option<RowSet>> {
        if self.stage == Stage::New {
            self.stage = Stage::Rows;
            if self.merge.seek(&self.start, Version::MAX) == Step::NeedsLoad {
                self.merge.load().await?;
            }
        }
        if self.stage == Stage::Done {
            return Ok(None);
        }
        let (pace, runtime) = (&partition.common.pace, &partition.common.runtime);
        let mut slice = Pace::slice(runtime);
        let (mut rows, mut entries) = (RowSet::default(), 0_u32);
        while let Some(entry) = self.merge.entry().filter(|entry| entry.key < self.end.as_slice()) {
            if rows.bytes() >= bytes {
                return Ok(Some(rows));
            }
            if entry.version <= self.at {
                let tombstones = &self.tombstones;
                let covering =
                    |at| if tombstones.is_empty() { None } else { tombstones.covering(entry.key, at) };
                match self.retention.judge(&entry, covering) {
                    Verdict::Drop => {}
                    Verdict::Keep => rows.push(&row_of(&entry)),
                    Verdict::KeepAsDelete => {
                        rows.push(&RowOp::Delete { key: entry.key, version: entry.version });
                    }
                }
            }
            if self.merge.advance() == Step::NeedsLoad {
                self.merge.load().await?;
            }
            entries = entries.wrapping_add(1);
            if entries.is_multiple_of(ENTRIES_PER_LOOK) && slice.is_spent() {
                pace.give_way(Work::Move, runtime).await;
                slice.pause().await;
            }
        }
        self.stage = Stage::Done;
        for fragment in self.tombstones.fragments(&self.start, Some(&self.end)) {
            for version in self.retention.tombstones_kept(fragment.versions) {
                rows.push(&RowOp::DeleteRange { start: fragment.start, end: fragment.end, version });
            }
        }
        Ok(Some(rows).filter(|rows| !rows.is_empty()))
    }
}

fn row_of<'a>(entry: &Entry<'a>) -> RowOp<'a> {
    let Entry { key, version, expiry, value, .. } = *entry;
    match entry.kind {
        Kind::Put => RowOp::Put { key, value, expiry, version },
        Kind::Delete => RowOp::Delete { key, version },
    }
}
