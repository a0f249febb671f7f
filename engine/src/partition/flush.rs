//! Memtable to level 0.
//!
//! Invariants:
//! - only committed records are flushed (R8);
//! - one memtable is flushed at a time, the oldest, whoever asks;
//! - the manifest's edit names the segment and the index it reaches in one append, and the log is released after it.

use std::path::PathBuf;
use std::rc::Rc;

use super::output::Plan;
use super::pace::Work;
use super::retention::Retention;
use super::{Partition, Sealed};
use crate::error::Result;
use crate::ids::{EditNumber, Index, SegmentId, Version};
use crate::io::disk::Disk;
use crate::manifest::Edit;
use crate::merge::{Merge, Source};
use crate::segment::path_of;

impl Partition {
    /// Writes the oldest sealed memtable, if there is one, into level 0. The bytes it took there.
    pub(crate) async fn flush_oldest(&self) -> Result<u64> {
        let _turn = self.flushing.enter().await;
        let oldest = self.sealed.borrow().back().cloned();
        let Some(sealed) = oldest else { return Ok(0) };
        if let Some(ticket) = sealed.ticket {
            self.common.wal().committed(ticket).await?;
        }
        let built = self.build(self.plan_flush(&sealed)).await?;
        let bytes = built.iter().map(|m| m.bytes).sum();
        let segments = self.open_segments(&built).await?;
        let edit = Edit { added: built, ..self.edit(sealed.index, sealed.version, sealed.time_ms) };
        self.record(edit).await?;
        // From here on in one turn: the rows are in the segments, so the memtable goes.
        let levels = Rc::new(self.levels().edited(&segments, &[]));
        self.cuts.flushed(sealed.index, &levels);
        *self.levels.borrow_mut() = levels;
        let flushed = self.sealed.borrow_mut().pop_back();
        drop(sealed);
        self.free(flushed).await;
        Ok(bytes)
    }

    /// An edit that says up to where the log is in segments, and what every edit carries.
    pub(super) fn edit(&self, flushed: Index, version: Version, time_ms: u64) -> Edit {
        Edit {
            flushed_index: flushed,
            epoch: self.epoch,
            version_max: version,
            time_ms,
            next_segment: self.next_segment.get(),
            ..Edit::default()
        }
    }

    /// Appends an edit to the manifest. Where there is no room for it, the files that it would have named are removed after the
    /// next one that finds some: until then an opening may find what was begun of this one.
    pub(super) async fn record(&self, edit: Edit) -> Result<EditNumber> {
        let levels = self.levels();
        let made: Vec<SegmentId> =
            edit.added.iter().map(|meta| meta.id).filter(|id| levels.find(*id).is_none()).collect();
        let recorded = self.manifest.append(edit).await;
        match &recorded {
            Ok(_) => {
                let (unnamed, disk) = (self.unnamed.take(), Rc::clone(&self.common.disk));
                let paths: Vec<_> = unnamed.into_iter().map(|id| path_of(&self.dir, id)).collect();
                if !paths.is_empty() {
                    // Not here: what was recorded is to be done in this turn.
                    self.common.runtime.spawn(async move { remove_all(&*disk, paths).await }).detach();
                }
            }
            Err(e) if e.is_no_space() => self.unnamed.borrow_mut().extend(made),
            Err(_) => {}
        }
        recorded
    }

    /// Removes a segment's file; one that cannot be removed is found again at the next opening.
    pub(crate) async fn remove_segment_file(&self, id: SegmentId) {
        remove_all(&*self.common.disk, vec![path_of(&self.dir, id)]).await;
    }

    fn plan_flush(&self, sealed: &Sealed) -> Plan {
        Plan {
            merge: Merge::new(vec![Source::from(sealed.memtable.cursor())]),
            tombstones: sealed.memtable.tombstones().clone(),
            retention: Retention::new(self.snapshots.versions(), false, self.committed_time_ms()),
            level: 0,
            segment_bytes: u64::MAX,
            work: Work::Flush,
        }
    }

    /// Gives a memtable's memory back in small pieces: a large one at once would hold the shard for milliseconds.
    async fn free(&self, sealed: Option<Rc<Sealed>>) {
        let memtable =
            sealed.and_then(|s| Rc::try_unwrap(s).ok()).and_then(|s| Rc::try_unwrap(s.memtable).ok());
        let Some(memtable) = memtable else { return };
        let mut pieces = memtable.into_pieces();
        let mut slice = self.common.runtime.slice();
        while pieces.free_one() {
            slice.pause().await;
        }
    }
}

/// Removes segments' files; those that cannot be removed are found again at the next opening.
async fn remove_all(disk: &dyn Disk, paths: Vec<PathBuf>) {
    for path in paths {
        if let Err(e) = disk.remove(&path).await {
            tracing::warn!("segment file stays until the next opening: {e}");
        }
    }
}
