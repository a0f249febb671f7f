//! Taking keys out of the segments, and putting segments in, by one edit of the manifest and without writing rows.
//!
//! What is taken out leaves no tombstone: where nothing of an entity is left, it may come back with its old versions
//! (R12). A segment that has none of its keys left goes; of others less is visible. A segment of level 0 keeps its number,
//! by which level 0 is ordered, and may have several ranges; of a deeper one each range is a segment of its own, a hard
//! link, so that a level stays sorted.
//!
//! Invariants:
//! - compaction and whatever is here exclude each other (`structure`): inputs are current. A flush excludes none of
//!   them: levels are changed from what they are when the edit is durable;
//! - a link's name is durable before the manifest names it; one that no edit came to name is removed, if need be at the
//!   next opening.

use std::path::PathBuf;
use std::rc::Rc;

use super::Partition;
use super::levels::Levels;
use crate::error::Result;
use crate::ids::{EditNumber, SegmentId};
use crate::manifest::Edit;
use crate::segment::{KeyRange, KeyRanges, Segment, path_of};

/// More ranges than this at once make the row cache forget everything: it would not remember them all.
const ERASED_RANGES_MAX: usize = 8;

/// What an edit changed beside memory.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) edit: EditNumber,
    /// Their files go once the log carries the edit's number.
    pub(crate) obsolete: Vec<SegmentId>,
}

/// A change of segments that no manifest names yet.
#[derive(Debug, Default)]
pub(super) struct Excision {
    /// What is not there as it was.
    pub(super) removed: Vec<SegmentId>,
    /// What is there instead, or is there from then on.
    pub(super) added: Vec<Rc<Segment>>,
    /// Of what is removed, that of which nothing is left.
    pub(super) obsolete: Vec<SegmentId>,
    /// Second names that files need.
    pub(super) links: Vec<Link>,
}

/// A file, and the segment that it is to be here as well.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) from: PathBuf,
    pub(super) to: SegmentId,
}

impl Partition {
    /// Takes everything of `keys` out. Nothing of them is written while this runs, or later, unless it arrives again, and
    /// nothing of them is in a memtable. Durable on return; none: there was nothing.
    ///
    /// # Errors
    /// What the disk or the manifest says: nothing has changed here, and what is found at the next opening may be either.
    pub(crate) async fn purge(&self, keys: &KeyRanges) -> Result<Option<Changed>> {
        let _turn = self.structure.enter().await;
        let departed = self.arrivals_within(keys);
        let excision = self.excise(&self.levels(), keys);
        if excision.removed.is_empty() && departed.is_empty() {
            // What a row's absence was read from may be in the row cache of nobody: only rows are.
            return Ok(None);
        }
        self.link(&excision.links).await?;
        let edit = Edit { departed, ..Edit::default() };
        self.install(edit, excision, keys).await.map(Some)
    }

    /// From here on something of the entity whose keys begin with `prefix` may be here although it is not at home, or is
    /// elsewhere: it is taken out at the next opening, unless the table places it here. No bytes at all are the prefix of
    /// every key: then anything may be here. Durable on return.
    ///
    /// # Errors
    /// As [`Partition::purge`].
    pub(crate) async fn expect(&self, prefix: &[u8]) -> Result<()> {
        let edit = Edit { arrived: vec![prefix.to_vec()], ..Edit::default() };
        self.manifest.append(edit).await.map(drop)
    }

    /// The arrivals all of whose keys are in `keys`.
    pub(super) fn arrivals_within(&self, keys: &KeyRanges) -> Vec<Vec<u8>> {
        let state = self.manifest.state();
        let is_within = |prefix: &&Vec<u8>| {
            let range = KeyRanges::from(KeyRange::of_prefix(prefix));
            range.without(keys).is_nothing()
        };
        state.arrivals.iter().filter(is_within).cloned().collect()
    }

    /// How the segments of `levels` change when `keys` are taken out of them.
    pub(super) fn excise(&self, levels: &Levels, keys: &KeyRanges) -> Excision {
        let kept = keys.inverted();
        let mut excision = Excision::default();
        for segment in levels.all() {
            let meta = segment.meta();
            if meta.within(keys).is_none() {
                continue;
            }
            excision.removed.push(meta.id);
            let parts = parts_of(segment, &kept);
            if parts.is_empty() {
                excision.obsolete.push(meta.id);
            }
            for (n, part) in parts.iter().enumerate() {
                let Some(mut view) = segment.within(part) else { continue };
                if n > 0 {
                    view.id = self.next_segment();
                    let from = path_of(&self.dir, meta.id);
                    excision.links.push(Link { from, to: view.id });
                }
                excision.added.push(segment.view(view));
            }
        }
        excision
    }

    /// Gives files their second names. On an error those it gave are taken back.
    pub(super) async fn link(&self, links: &[Link]) -> Result<()> {
        let linked = self.try_link(links).await;
        if linked.is_err() {
            self.unlink(links).await;
        }
        linked
    }

    pub(super) async fn try_link(&self, links: &[Link]) -> Result<()> {
        for Link { from, to } in links {
            self.common.disk.link(from, &path_of(&self.dir, *to)).await?;
        }
        if links.is_empty() { Ok(()) } else { self.common.disk.sync_dir(&self.dir).await }
    }

    /// Takes back the names that [`Partition::link`] gave.
    pub(super) async fn unlink(&self, links: &[Link]) {
        for Link { to, .. } in links {
            if self.common.disk.exists(&path_of(&self.dir, *to)).await.unwrap_or(false) {
                self.remove_segment_file(*to).await;
            }
        }
    }

    /// Makes a change, whose files are durable, the partition's; `edit` is what else changes with it.
    pub(super) async fn install(&self, edit: Edit, excision: Excision, keys: &KeyRanges) -> Result<Changed> {
        let Excision { removed, added, obsolete, .. } = excision;
        let edit = Edit {
            removed: removed.clone(),
            added: added.iter().map(|segment| segment.meta().clone()).collect(),
            next_segment: self.next_segment.get(),
            ..edit
        };
        let edit = self.record(edit).await?;
        // From here on in one turn. A flush may have been installed meanwhile: it is in the levels as they are.
        *self.levels.borrow_mut() = Rc::new(self.levels().edited(&added, &removed));
        self.forget_rows(keys);
        Ok(Changed { edit, obsolete })
    }

    /// Has the row cache believe no row of `keys` that it holds.
    fn forget_rows(&self, keys: &KeyRanges) {
        let mut owner = self.owner.borrow_mut();
        match keys.parts() {
            Some(ranges) if ranges.len() <= ERASED_RANGES_MAX && ranges.iter().all(|r| r.end.is_some()) => {
                ranges.iter().for_each(|r| owner.erase(&r.start, r.end.as_deref().unwrap_or_default()));
            }
            Some(_) | None => owner.erase_all(),
        }
    }
}

/// What is kept of a segment, a set for each segment that it becomes.
pub(super) fn parts_of(segment: &Segment, kept: &KeyRanges) -> Vec<KeyRanges> {
    let Some(left) = segment.meta().within(kept) else { return Vec::new() };
    if left.level == 0 {
        return vec![left.visible];
    }
    left.visible.to_vec().into_iter().map(KeyRanges::from).collect()
}
