//! Taking in what an entity, or a range, was elsewhere: segments that are linked, and one that was built of the rest.
//!
//! Linked segments keep their level, so what is built of the rest lies above them, in level 0: whoever makes both sees to
//! it that of each row no older version is above a newer one ([`Partition::base_of`]).
//!
//! Invariants:
//! - of the keys that arrive nothing else stays here: neither rows nor range tombstones, which would hide arriving rows
//!   that are older than them;
//! - the partition's version and time, in the manifest too, are not behind what arrives.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use super::Partition;
use super::excise::{Changed, Excision, Link, parts_of};
use super::strategy::LEVELS;
use crate::error::Result;
use crate::ids::{SegmentId, Version};
use crate::manifest::Edit;
use crate::segment::{KeyRange, KeyRanges, Segment, SegmentMeta, path_of};
use crate::shard::moves::planted::Bug;

/// What arrives.
#[derive(Debug)]
pub(crate) struct Ingest {
    /// Its keys.
    pub(crate) keys: KeyRange,
    /// Segments of another partition that hold some of them: of sorted levels, which do not overlap there; or of level 0,
    /// the oldest first.
    pub(crate) linked: Vec<Linked>,
    /// A segment of level 0 that was built here of everything else. Its number was taken before any memtable was
    /// flushed that holds a later version of its rows.
    pub(crate) built: Option<SegmentMeta>,
    /// No version among them is larger.
    pub(crate) version_max: Version,
    /// Partition time where they come from, ms.
    pub(crate) time_ms: u64,
}

/// A segment to link.
#[derive(Clone, Debug)]
pub(crate) struct Linked {
    /// Its file.
    pub(crate) path: PathBuf,
    /// What the manifest there says of it.
    pub(crate) meta: SegmentMeta,
}

/// The segments that hold some keys, by what is done with them when these move. As long as this is kept, their files keep
/// the names that they have by their numbers.
#[derive(Debug)]
pub(crate) struct Base {
    /// To be linked.
    pub(crate) linked: Vec<Rc<Segment>>,
    /// To be read: sorted runs, newest first.
    pub(crate) copied: Vec<Rc<[Rc<Segment>]>>,
    _pins: Vec<Rc<()>>,
}

/// Segments whose files keep the names that they have here by their numbers, though nothing else may need them.
#[derive(Debug, Default)]
pub(super) struct Pins {
    held: RefCell<BTreeMap<SegmentId, Weak<()>>>,
}

impl Pins {
    fn pin(&self, id: SegmentId) -> Rc<()> {
        let mut held = self.held.borrow_mut();
        held.retain(|_, pin| pin.strong_count() > 0);
        let pin = held.get(&id).and_then(Weak::upgrade).unwrap_or_default();
        held.insert(id, Rc::downgrade(&pin));
        pin
    }

    fn has(&self, id: SegmentId) -> bool {
        self.held.borrow().get(&id).is_some_and(|pin| pin.strong_count() > 0)
    }
}

impl Partition {
    /// Takes in what arrives, in one edit; nothing of it is in a memtable. Durable on return.
    ///
    /// # Errors
    /// As [`Partition::purge`]; [`Error::Corrupt`](crate::Error::Corrupt) when a segment to link is damaged.
    pub(crate) async fn ingest(&self, ingest: Ingest) -> Result<Changed> {
        self.take_in(&KeyRanges::from(ingest.keys.clone()), ingest).await
    }

    async fn take_in(&self, keys: &KeyRanges, ingest: Ingest) -> Result<Changed> {
        let _turn = self.structure.enter().await;
        let mut excision = if self.common.planted.has(Bug::OldRowsKept) {
            Excision::default()
        } else {
            self.excise(&self.levels(), keys)
        };
        let arrived = self.open_arriving(ingest.linked, ingest.built.as_ref(), keys, &mut excision).await;
        if let Err(e) = arrived {
            self.unlink(&excision.links).await;
            if let Some(built) = ingest.built {
                self.remove_segment_file(built.id).await;
            }
            return Err(e);
        }
        // Before any row of it is seen: versions are given out while the edit is written.
        self.lift(ingest.version_max);
        self.time_ms.set(self.time_ms.get().max(ingest.time_ms));
        let edit = Edit { version_max: ingest.version_max, time_ms: ingest.time_ms, ..Edit::default() };
        let changed = self.install(edit, excision, keys).await?;
        self.committed_time_ms.set(self.committed_time_ms.get().max(ingest.time_ms));
        Ok(changed)
    }

    /// Gives files their names here and opens what arrives, into `excision`.
    async fn open_arriving(
        &self,
        linked: Vec<Linked>,
        built: Option<&SegmentMeta>,
        keys: &KeyRanges,
        excision: &mut Excision,
    ) -> Result<()> {
        self.link(&excision.links).await?;
        self.link_in(linked, keys, excision).await?;
        let Some(built) = built else { return Ok(()) };
        assert_eq!(built.level, 0, "above what is linked");
        for segment in self.open_segments(std::slice::from_ref(built)).await? {
            // A range tombstone that ends where the keys do seems to reach beyond them.
            let view = segment.within(keys).unwrap_or_else(|| unreachable!("built of what arrives"));
            excision.added.push(segment.view(view));
        }
        Ok(())
    }

    /// Links segments from elsewhere and opens what of them is in `keys`. All names that were given are noted in
    /// `excision`, also when it fails.
    async fn link_in(&self, linked: Vec<Linked>, keys: &KeyRanges, excision: &mut Excision) -> Result<()> {
        let mut arriving = Vec::with_capacity(linked.len());
        let before = excision.links.len();
        for Linked { path, meta } in linked {
            let id = self.next_segment();
            excision.links.push(Link { from: path, to: id });
            arriving.push(SegmentMeta { id, ..meta });
        }
        self.link(&excision.links[before..]).await?;
        let before = excision.links.len();
        for segment in self.open_segments(&arriving).await? {
            let id = segment.meta().id;
            let parts = parts_of(&segment, keys);
            if parts.is_empty() {
                self.remove_segment_file(id).await;
            }
            for (n, part) in parts.iter().enumerate() {
                let Some(mut view) = segment.within(part) else { continue };
                if n > 0 {
                    view.id = self.next_segment();
                    excision.links.push(Link { from: path_of(&self.dir, id), to: view.id });
                }
                excision.added.push(segment.view(view));
            }
        }
        self.link(&excision.links[before..]).await
    }

    /// Whether a memtable has a row or a range tombstone among `keys`.
    pub(crate) fn is_in_memtables(&self, keys: &KeyRange) -> bool {
        let sealed = self.sealed.borrow();
        let memtables = sealed.iter().map(|s| &s.memtable);
        memtables.chain([&self.active.borrow().memtable]).any(|memtable| {
            let mut cursor = memtable.cursor();
            cursor.seek(&keys.start, Version::MAX);
            cursor.entry().is_some_and(|entry| keys.ends_after(entry.key))
                || memtable.tombstones().fragments(&keys.start, keys.end.as_deref()).next().is_some()
        })
    }
}

impl Partition {
    /// What somebody who takes `keys` can link of what is in segments here: segments of which they are at least half,
    /// where no older version of a row that has to be read lies below, for what is read will lie above.
    pub(crate) fn base_of(&self, keys: &KeyRange) -> Base {
        let wanted = KeyRanges::from(keys.clone());
        let levels = self.levels();
        let (mut linked, mut copied) = (Vec::new(), Vec::new());
        // What has to be read, of the levels below.
        let mut read: Vec<SegmentMeta> = Vec::new();
        for level in (1..LEVELS).rev() {
            let mut run = Vec::new();
            for segment in levels.level(level) {
                let Some(part) = segment.within(&wanted) else { continue };
                let is_most = part.visible_bytes.saturating_mul(2) >= part.bytes;
                if is_most && !read.iter().any(|below| below.overlaps(&part.first, &part.last)) {
                    linked.push(Rc::clone(segment));
                } else {
                    run.push((part, Rc::clone(segment)));
                }
            }
            let (parts, run): (Vec<_>, Vec<_>) = run.into_iter().unzip();
            read.extend(parts);
            copied.extend((!run.is_empty()).then(|| Rc::from(run)));
        }
        let level0 = levels.level(0).iter().filter(|s| s.meta().within(&wanted).is_some());
        copied.extend(level0.rev().map(|s| Rc::from([Rc::clone(s)])));
        copied.reverse();
        let _pins = linked.iter().map(|s| self.pins.pin(s.meta().id)).collect();
        Base { linked, copied, _pins }
    }

    /// Whether a segment's file is to keep its name although no level has it.
    pub(crate) fn is_pinned(&self, id: SegmentId) -> bool {
        self.pins.has(id)
    }
}
