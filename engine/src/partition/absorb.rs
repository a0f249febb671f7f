//! A partition takes in all that another one of its shard has, by second names of its segments: what is in segments while the
//! other one is written, the rest behind a fence.
//!
//! Invariants:
//! - nothing of it is seen, or named by the manifest, before the last of it is there;
//! - neither partition compacts meanwhile: what has been taken stays what the other one has;
//! - until the table says whose the keys are, the manifest says that anything may be here.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::Partition;
use super::excise::{Changed, Link, parts_of};
use crate::error::Result;
use crate::ids::SegmentId;
use crate::manifest::Edit;
use crate::segment::{KeyRanges, Segment, path_of};
use crate::turn::Turn;

/// See the module.
#[derive(Debug)]
pub(crate) struct Absorbing<'a> {
    into: &'a Partition,
    from: &'a Partition,
    _turns: [Turn<'a>; 2],
    keys: KeyRanges,
    /// Segments of the other one that have been looked at.
    seen: BTreeSet<SegmentId>,
    taken: Vec<Rc<Segment>>,
    links: Vec<Link>,
    /// A manifest may name them.
    named: bool,
}

impl<'a> Absorbing<'a> {
    /// Begins to take in what `from` has of `keys`: no row of them is where the table places it elsewhere, and nothing of
    /// them in a memtable of `into`.
    ///
    /// # Errors
    /// What the disk or the manifest says.
    pub(crate) async fn begin(into: &'a Partition, from: &'a Partition, keys: KeyRanges) -> Result<Self> {
        let turns = [into.structure.enter().await, from.structure.enter().await];
        into.expect(b"").await?;
        let (seen, taken, links) = (BTreeSet::new(), Vec::new(), Vec::new());
        let mut absorbing = Self { into, from, _turns: turns, keys, seen, taken, links, named: false };
        match absorbing.top_up().await {
            Ok(()) => Ok(absorbing),
            Err(e) => {
                absorbing.abandon().await;
                Err(e)
            }
        }
    }

    /// Takes what has come to be in segments since.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) async fn top_up(&mut self) -> Result<()> {
        let levels = self.from.levels();
        let mut fresh: Vec<&Rc<Segment>> = levels.all().collect();
        fresh.retain(|segment| self.seen.insert(segment.meta().id));
        // Level 0 comes newest first, and is numbered in the order of its age.
        fresh.reverse();
        let before = self.links.len();
        for segment in fresh {
            for part in parts_of(segment, &self.keys) {
                let Some(mut view) = segment.within(&part) else { continue };
                view.id = self.into.next_segment();
                let from = path_of(&self.from.dir, segment.meta().id);
                self.links.push(Link { from, to: view.id });
                self.taken.push(segment.view(view));
            }
        }
        self.into.try_link(&self.links[before..]).await
    }

    /// Takes the rest, of keys that nobody writes any more and all of which are in segments. Durable on return.
    ///
    /// # Errors
    /// As [`Absorbing::begin`].
    pub(crate) async fn finish(&mut self) -> Result<Changed> {
        self.top_up().await?;
        let (into, from) = (self.into, self.from);
        let mut excision = into.excise(&into.levels(), &self.keys);
        into.link(&excision.links).await?;
        excision.added.append(&mut self.taken.clone());
        // Before any row of it is seen: versions are given out while the edit is written.
        let (version_max, time_ms) = (from.version(), from.time_ms.get());
        into.lift(version_max);
        into.time_ms.set(into.time_ms.get().max(time_ms));
        let edit = Edit { version_max, time_ms, ..Edit::default() };
        self.named = true;
        let changed = into.install(edit, excision, &self.keys).await?;
        into.committed_time_ms.set(into.committed_time_ms.get().max(time_ms));
        Ok(changed)
    }

    /// Takes back what no manifest names.
    pub(crate) async fn abandon(self) {
        if !self.named {
            self.into.unlink(&self.links).await;
        }
    }

    /// Bytes that were taken without being written.
    pub(crate) fn linked_bytes(&self) -> u64 {
        self.taken.iter().map(|segment| segment.meta().visible_bytes).sum()
    }
}
