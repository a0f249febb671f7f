//! Making and opening a partition's directory.
//!
//! Invariants:
//! - a partition is what its manifest says: segment files it does not name are removed, ones it names must be there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::levels::Levels;
use super::{Common, Partition};
use crate::error::{Error, Result};
use crate::ids::{EditNumber, Epoch, Index, PartitionId, SegmentId, Version};
use crate::io::disk::Disk;
use crate::manifest::{Location, Manifest, State};
use crate::options::Options;
use crate::segment::{self, Segment, SegmentMeta};

/// The directory of a partition in a store's.
#[must_use]
pub fn dir_of(store: &Path, id: PartitionId) -> PathBuf {
    store.join("partitions").join(id.to_string())
}

/// Where a partition's manifest lies.
pub(crate) fn location(disk: &Rc<dyn Disk>, store: &Path, id: PartitionId, options: &Options) -> Location {
    let file_bytes = options.manifest_file_bytes;
    Location { disk: Rc::clone(disk), dir: dir_of(store, id), partition: id, file_bytes }
}

/// Makes the directory and manifest of an empty partition of a store that does not exist yet.
///
/// # Errors
/// [`Error::Misuse`] when the directory holds segments: then there was a store. Else what the disk says.
pub(crate) async fn create(
    disk: &Rc<dyn Disk>,
    store: &Path,
    id: PartitionId,
    options: &Options,
) -> Result<()> {
    let place = location(disk, store, id, options);
    disk.create_dir(&place.dir).await?;
    if let Some(name) = disk.list(&place.dir).await?.iter().find(|name| segment::id_of(name).is_some()) {
        return Err(Error::misuse(format!(
            "{} holds segment {name} but the store has no superblock: it was lost, or this is not a new directory",
            place.dir.display()
        )));
    }
    Manifest::remove_files(&place).await?;
    let state = State { epoch: Epoch(1), next_segment: SegmentId(1), ..State::default() };
    Manifest::create(place, state).await?;
    Ok(())
}

impl Partition {
    /// Opens a partition as its manifest describes it. `witness` is the last edit that the log proves durable.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when manifest or segments are damaged or lost; [`Error::Io`].
    pub(crate) async fn open(
        common: Rc<Common>,
        store: &Path,
        id: PartitionId,
        witness: EditNumber,
    ) -> Result<Self> {
        Self::open_warm(common, store, id, witness, &BTreeMap::new()).await
    }

    /// As [`Partition::open`], with segments that are open already: of those that are still there nothing is read.
    ///
    /// # Errors
    /// As [`Partition::open`].
    pub(crate) async fn open_warm(
        common: Rc<Common>,
        store: &Path,
        id: PartitionId,
        witness: EditNumber,
        warm: &BTreeMap<SegmentId, Rc<Segment>>,
    ) -> Result<Self> {
        let place = location(&common.disk, store, id, &common.options);
        let dir = place.dir.clone();
        let (manifest, _cuts) = Manifest::open(place, witness).await?;
        let state = manifest.state().clone();
        remove_unnamed(&*common.disk, &dir, &state).await?;
        let mut segments = Vec::with_capacity(state.segments.len());
        for meta in state.segments.values() {
            match warm.get(&meta.id) {
                Some(segment) => segments.push(segment.view(meta.clone())),
                None => segments.push(open_segment(&common, &dir, meta).await?),
            }
        }
        Ok(Self::new(common, manifest, dir, id, &state, Levels::new(segments)))
    }

    /// Flushes all sealed memtables.
    pub(crate) async fn flush_all(&self) -> Result<()> {
        while self.sealed_count() > 0 {
            self.flush_oldest().await?;
        }
        Ok(())
    }

    /// Makes the manifest reach the last index, also where the records since the last flush left no rows.
    pub(crate) async fn checkpoint(&self) -> Result<()> {
        self.seal();
        self.flush_all().await?;
        let flushed: Index = self.manifest.state().flushed_index;
        if flushed < self.index() {
            let version: Version = self.version();
            let edit = self.edit(self.index(), version, self.time_ms.get());
            self.manifest.append(edit).await?;
        }
        Ok(())
    }
}

/// Opens a segment that the manifest in `dir` names.
///
/// # Errors
/// [`Error::Corrupt`], [`Error::Io`].
pub(crate) async fn open_segment(common: &Common, dir: &Path, meta: &SegmentMeta) -> Result<Rc<Segment>> {
    let path = segment::path_of(dir, meta.id);
    match Segment::open(&*common.disk, &path, meta.clone(), Rc::clone(&common.cache)).await {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::corrupt(path, 0, "the manifest names this segment, and the file is lost"))
        }
        other => other,
    }
}

/// Removes segment files that no edit names: of a flush or compaction that did not finish, or whose inputs were not
/// removed before the store stopped.
async fn remove_unnamed(disk: &dyn Disk, dir: &Path, state: &State) -> Result<()> {
    for name in disk.list(dir).await? {
        let Some(id) = segment::id_of(&name) else { continue };
        if !state.segments.contains_key(&id) {
            tracing::debug!("removing {name} in {}, which the manifest does not name", dir.display());
            disk.remove(&dir.join(name)).await?;
        }
    }
    Ok(())
}
