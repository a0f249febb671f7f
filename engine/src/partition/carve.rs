//! Directories of partitions: one is made of another's segments, without writing rows; one is closed, so that another
//! shard may open it; one is removed.
//!
//! Invariants:
//! - a directory is whole and durable before the table names it, and is removed only when the table does not: one that it
//!   does not name is of no use, and goes at the next opening at the latest;
//! - who closes a partition leaves its manifest at its last index, and logs nothing of it any more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Partition;
use super::excise::parts_of;
use super::levels::Levels;
use super::open::dir_of;
use crate::error::Result;
use crate::ids::{Epoch, Index, PartitionId, SegmentId};
use crate::io::disk::Disk;
use crate::manifest::{self, Location, Manifest, State};
use crate::segment::{self, KeyRanges, Segment, path_of};
use crate::turn::Turn;

/// A partition that is being made of part of another one, by second names of its segments. What is in segments is taken
/// while the other one is written; what has come since follows behind a fence, and is little.
///
/// The other one does not compact as long as this is there: what has been taken stays what it has.
#[derive(Debug)]
pub(crate) struct Carving<'a> {
    partition: &'a Partition,
    _turn: Turn<'a>,
    id: PartitionId,
    dir: PathBuf,
    keys: KeyRanges,
    /// Segments of the other one that have been looked at.
    seen: BTreeSet<SegmentId>,
    taken: Vec<Rc<Segment>>,
}

impl<'a> Carving<'a> {
    /// Begins to make partition `id`, whose number was never given out, of what `partition` has of `keys`. It has nothing
    /// of them that the table places elsewhere.
    ///
    /// # Errors
    /// What the disk says: the directory is of no use then.
    pub(crate) async fn begin(partition: &'a Partition, id: PartitionId, keys: KeyRanges) -> Result<Self> {
        let turn = partition.structure.enter().await;
        let disk = &partition.common.disk;
        let dir = partition.dir.with_file_name(id.to_string());
        remove_partition(disk, &dir).await?;
        disk.create_dir(&dir).await?;
        let (seen, taken) = (BTreeSet::new(), Vec::new());
        let mut carving = Self { partition, _turn: turn, id, dir, keys, seen, taken };
        carving.top_up().await?;
        if let Some(partitions) = carving.dir.parent() {
            disk.sync_dir(partitions).await?;
        }
        Ok(carving)
    }

    /// Takes what has come to be in segments since.
    ///
    /// # Errors
    /// As [`Carving::begin`].
    pub(crate) async fn top_up(&mut self) -> Result<()> {
        let Partition { common, dir, .. } = self.partition;
        let before = self.taken.len();
        for segment in self.partition.levels().all() {
            if !self.seen.insert(segment.meta().id) {
                continue;
            }
            for (n, part) in parts_of(segment, &self.keys).iter().enumerate() {
                let Some(mut view) = segment.within(part) else { continue };
                if n > 0 {
                    view.id = self.partition.next_segment();
                }
                common.disk.link(&path_of(dir, segment.meta().id), &path_of(&self.dir, view.id)).await?;
                self.taken.push(segment.view(view));
            }
        }
        if self.taken.len() > before { common.disk.sync_dir(&self.dir).await } else { Ok(()) }
    }

    /// Takes the rest, of keys that nobody writes any more and all of which are in segments. Durable on return, and known
    /// to nobody.
    ///
    /// # Errors
    /// As [`Carving::begin`].
    pub(crate) async fn finish(&mut self) -> Result<Partition> {
        self.top_up().await?;
        let from = self.partition;
        let state = State {
            segments: self.taken.iter().map(|s| (s.meta().id, s.meta().clone())).collect(),
            flushed_index: Index(0),
            epoch: Epoch(1),
            version_max: from.version(),
            time_ms: from.time_ms.get(),
            next_segment: from.next_segment.get(),
            restricted: from.manifest.state().restricted,
            arrivals: from.arrivals_within(&self.keys).into_iter().collect(),
        };
        let (disk, dir) = (Rc::clone(&from.common.disk), self.dir.clone());
        let file_bytes = from.common.options.manifest_file_bytes;
        let place = Location { disk, dir: dir.clone(), partition: self.id, file_bytes };
        let manifest = Manifest::create(place, state.clone()).await?;
        let levels = Levels::new(self.taken.clone());
        Ok(Partition::new(Rc::clone(&from.common), manifest, dir, self.id, &state, levels))
    }

    /// Bytes that were taken without being written.
    pub(crate) fn linked_bytes(&self) -> u64 {
        self.taken.iter().map(|segment| segment.meta().visible_bytes).sum()
    }
}

impl Partition {
    /// Waits until no transaction that was prepared or decided here is still to be resolved anywhere: then nobody needs a
    /// record of this partition's that is not in its segments. Behind a fence none begins.
    pub(crate) async fn transactions_over(&self) {
        self.unlocked.until(|| self.prepared.borrow().is_empty()).await;
    }

    /// Ends writing here, time too, and makes the manifest reach the last index. Reading goes on; a read that would have to
    /// log the time looks again where its rows are.
    ///
    /// # Errors
    /// As a flush's: it is as it was.
    pub(crate) async fn close(&self) -> Result<()> {
        self.is_closed.set(true);
        let closed = self.checkpoint().await;
        if closed.is_err() {
            self.reopen();
        }
        closed
    }

    /// Nobody is to write or to wait for here any more: all is elsewhere from the table's next change on.
    pub(crate) fn retire(&self) {
        self.is_closed.set(true);
    }

    /// Returns when no file here is about to be deleted.
    pub(crate) async fn is_clean(&self) {
        self.cleaned.until(|| self.cleaning.get() == 0).await;
    }

    /// Keeps compactions, and whatever else changes segments that are there, away.
    pub(crate) async fn stand_still(&self) -> Turn<'_> {
        self.structure.enter().await
    }

    /// Takes [`Partition::close`] back.
    pub(crate) fn reopen(&self) {
        self.is_closed.set(false);
    }

    /// Returns when nothing here changes files any more. The shard serves it no longer, so that nothing begins.
    pub(crate) async fn at_rest(&self) {
        let _turn = self.structure.enter().await;
        let _flushing = self.flushing.enter().await;
        self.is_clean().await;
    }

    /// Files are about to be deleted.
    pub(crate) fn begin_cleaning(self: &Rc<Self>) -> Cleaning {
        self.cleaning.set(self.cleaning.get() + 1);
        Cleaning(Rc::clone(self))
    }
}

/// Files of a partition are being deleted as long as this is there.
#[derive(Debug)]
pub(crate) struct Cleaning(Rc<Partition>);

impl Drop for Cleaning {
    fn drop(&mut self) {
        self.0.cleaning.set(self.0.cleaning.get() - 1);
        self.0.cleaned.notify();
    }
}

/// Removes the directory of a partition that no table names, if it is there: its segments and manifest first, then its
/// name.
///
/// # Errors
/// What the disk says; also when it holds what is not a partition's.
pub(crate) async fn remove_partition(disk: &Rc<dyn Disk>, dir: &Path) -> Result<()> {
    if !disk.exists(dir).await? {
        return Ok(());
    }
    for name in disk.list(dir).await? {
        if segment::id_of(&name).is_some() || manifest::is_file_name(&name) {
            disk.remove(&dir.join(name)).await?;
        }
    }
    disk.remove_dir(dir).await?;
    match dir.parent() {
        Some(parent) => disk.sync_dir(parent).await,
        None => Ok(()),
    }
}

/// Removes the directories of partitions of `store` that `is_named` does not know.
///
/// # Errors
/// What the disk says of the directories; one that cannot be removed is found again at the next opening.
pub(crate) async fn remove_unnamed(
    disk: &Rc<dyn Disk>,
    store: &Path,
    is_named: impl Fn(PartitionId) -> bool,
) -> Result<()> {
    let partitions: PathBuf = store.join("partitions");
    for name in disk.list(&partitions).await? {
        let number = name.parse().ok().filter(|number: &u32| number.to_string() == name);
        let Some(id) = number.map(PartitionId).filter(|id| !is_named(*id)) else { continue };
        tracing::info!("removing partition {id}, which the table does not name");
        if let Err(e) = remove_partition(disk, &dir_of(store, id)).await {
            tracing::warn!("something of partition {id} stays behind: {e}");
        }
    }
    Ok(())
}
