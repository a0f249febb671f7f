//! Directories of partitions: one is made of another's segments, without writing rows; one is closed, so that another
//! shard may open it; one is removed.
//!
//! Invariants:
//! - a directory is whole and durable before the table names it, and is removed only when the table does not: one that it
//!   does not name is of no use, and goes at the next opening at the latest;
//! - who closes a partition leaves its manifest at its last index, and logs nothing of it any more.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Partition;
use super::excise::parts_of;
use super::open::dir_of;
use crate::error::Result;
use crate::ids::{Epoch, Index, PartitionId, TableVersion};
use crate::io::disk::Disk;
use crate::manifest::{self, Location, Manifest, State};
use crate::segment::{self, KeyRanges, path_of};

impl Partition {
    /// Makes partition `id`, whose number was never given out, of what is here of `keys`: none of them is written
    /// meanwhile, and all that was is in segments. Durable on return, and known to nobody.
    ///
    /// # Errors
    /// What the disk says: the directory is of no use then.
    pub(crate) async fn carve(&self, id: PartitionId, keys: &KeyRanges) -> Result<()> {
        let _turn = self.structure.enter().await;
        let disk = &self.common.disk;
        let dir = self.dir.with_file_name(id.to_string());
        remove_partition(disk, &dir).await?;
        disk.create_dir(&dir).await?;
        let mut state = State {
            flushed_index: Index(0),
            epoch: Epoch(1),
            version_max: self.version(),
            time_ms: self.time_ms.get(),
            next_segment: self.next_segment.get(),
            restricted: TableVersion(0),
            arrivals: self.arrivals_within(keys).into_iter().collect(),
            ..State::default()
        };
        for segment in self.levels().all() {
            for (n, part) in parts_of(segment, keys).iter().enumerate() {
                let Some(mut view) = segment.within(part) else { continue };
                if n > 0 {
                    view.id = state.next_segment;
                    state.next_segment = view.id.next();
                }
                disk.link(&path_of(&self.dir, segment.meta().id), &path_of(&dir, view.id)).await?;
                state.segments.insert(view.id, view);
            }
        }
        disk.sync_dir(&dir).await?;
        let file_bytes = self.common.options.manifest_file_bytes;
        let place = Location { disk: Rc::clone(disk), dir: dir.clone(), partition: id, file_bytes };
        Manifest::create(place, state).await?;
        match dir.parent() {
            Some(partitions) => disk.sync_dir(partitions).await,
            None => Ok(()),
        }
    }

    /// Ends writing here, time too, and makes the manifest reach the last index. Reading goes on.
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

    /// Takes [`Partition::close`] back.
    pub(crate) fn reopen(&self) {
        self.is_closed.set(false);
    }

    /// Returns when nothing here changes files any more. The shard serves it no longer, so that nothing begins.
    pub(crate) async fn at_rest(&self) {
        let _turn = self.structure.enter().await;
        let _flushing = self.flushing.enter().await;
        self.cleaned.until(|| self.cleaning.get() == 0).await;
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
