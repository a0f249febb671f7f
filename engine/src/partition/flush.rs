//! Memtable to level 0.
//!
//! Invariants:
//! - only committed records are flushed (R8);
//! - one memtable is flushed at a time, the oldest, whoever asks;
//! - the manifest's edit names the segment and the index it reaches in one append, and the log is released after it.

use std::rc::Rc;

use super::output::Plan;
use super::pace::Work;
use super::retention::Retention;
use super::{Partition, Sealed};
use crate::error::Result;
use crate::ids::{Index, SegmentId, Version};
use crate::manifest::Edit;
use crate::merge::{Merge, Source};

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
        self.manifest.append(edit).await?;
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

    /// Removes a segment's file; one that cannot be removed is found again at the next opening.
    pub(crate) async fn remove_segment_file(&self, id: SegmentId) {
        let path = crate::segment::path_of(&self.dir, id);
        if let Err(e) = self.common.disk.remove(&path).await {
            tracing::warn!("segment file stays until the next opening: {e}");
        }
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
