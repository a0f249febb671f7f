//! What all edits of a partition say together.

use std::collections::{BTreeMap, BTreeSet};

use super::edit::Edit;
use crate::ids::{Epoch, Index, SegmentId, TableVersion, Version};
use crate::segment::meta::SegmentMeta;

/// A partition's files and numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Its segments by number.
    pub segments: BTreeMap<SegmentId, SegmentMeta>,
    /// Records up to this one are in segments.
    pub flushed_index: Index,
    /// Its configuration.
    pub epoch: Epoch,
    /// The largest version given out at or below the flushed index.
    pub version_max: Version,
    /// Partition time (R6), in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The first segment number that was never used.
    pub next_segment: SegmentId,
    /// Nothing is here that the table, as of this version, places elsewhere, but for arrivals.
    pub restricted: TableVersion,
    /// Entities, by the prefix of their keys, of which something may be here although the table, as of `restricted`, does
    /// not place them here.
    pub arrivals: BTreeSet<Vec<u8>>,
}

impl State {
    /// Whether `edit` can be applied.
    ///
    /// # Errors
    /// Why not; it is then not applied in part either.
    pub fn check(&self, edit: &Edit) -> Result<(), &'static str> {
        let mut removed = edit.removed.clone();
        removed.sort_unstable();
        if removed.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("removes a segment twice");
        }
        if removed.iter().any(|id| !self.segments.contains_key(id)) {
            return Err("removes a segment that is not there");
        }
        let mut added: Vec<SegmentId> = edit.added.iter().map(|meta| meta.id).collect();
        added.sort_unstable();
        if added.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("adds a segment twice");
        }
        let next = self.next_segment.max(edit.next_segment);
        if added.last().is_some_and(|&id| id >= next) {
            return Err("adds a segment whose number was not given out");
        }
        if edit.departed.iter().any(|prefix| !self.arrivals.contains(prefix)) {
            return Err("has an entity depart that is not there");
        }
        let there = |id: &SegmentId| self.segments.contains_key(id) && removed.binary_search(id).is_err();
        if added.iter().any(there) { Err("adds a segment that is there") } else { Ok(()) }
    }

    /// Applies `edit`, which passed [`State::check`].
    pub fn apply(&mut self, edit: Edit) {
        for id in &edit.removed {
            self.segments.remove(id);
        }
        self.segments.extend(edit.added.into_iter().map(|meta| (meta.id, meta)));
        self.flushed_index = self.flushed_index.max(edit.flushed_index);
        self.epoch = self.epoch.max(edit.epoch);
        self.version_max = self.version_max.max(edit.version_max);
        self.time_ms = self.time_ms.max(edit.time_ms);
        self.next_segment = self.next_segment.max(edit.next_segment);
        self.restricted = self.restricted.max(edit.restricted);
        for prefix in &edit.departed {
            self.arrivals.remove(prefix);
        }
        self.arrivals.extend(edit.arrived);
    }

    /// The edit that makes this state of an empty one.
    #[must_use]
    pub fn snapshot(&self) -> Edit {
        Edit {
            removed: Vec::new(),
            added: self.segments.values().cloned().collect(),
            flushed_index: self.flushed_index,
            epoch: self.epoch,
            version_max: self.version_max,
            time_ms: self.time_ms,
            next_segment: self.next_segment,
            restricted: self.restricted,
            arrived: self.arrivals.iter().cloned().collect(),
            departed: Vec::new(),
        }
    }
}
