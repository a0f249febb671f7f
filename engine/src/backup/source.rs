//! Taking a backup: the cut, then every shard copies what it owns, then the record.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::copy::Copier;
use super::directory::{Directory, segment_name};
use super::pace::Pace;
use super::record::{PartitionRecord, Record, table_of};
use super::{Progress, Request, Summary};
use crate::error::{Error, Result};
use crate::ids::{PartitionId, ShardId, Version};
use crate::io::disk::Disk;
use crate::manifest::State;
use crate::partition::cuts::Part;
use crate::segment::Segment;
use crate::shard::Shard;
use crate::store::client::Client;
use crate::store::cut::Taken;
use crate::table::Image;

/// What one shard added.
#[derive(Debug, Default)]
struct Share {
    states: Vec<(PartitionId, State)>,
    segments_new: u64,
    bytes_copied: u64,
}

impl Client {
    /// Takes a backup of the whole store: everything acknowledged before, of every transaction all or nothing. The
    /// caller has [locked](super::lock) the directory. Dropped before it ends, it is given up.
    ///
    /// # Errors
    /// [`Error::Misuse`] when the directory is not for this store's backups; [`Error::Io`] from the target, without
    /// room too; [`Error::Corrupt`] when a segment of the store is damaged; [`Error::Stopped`] when the store takes no
    /// writes after a failure. After any, the earlier backups are as they were.
    pub async fn back_up(&self, request: Request, progress: Arc<Progress>) -> Result<Summary> {
        let _given_up = GiveUp(&progress);
        let to = request.to.clone();
        let prepare = move |shard: Rc<Shard>| async move {
            let number = Directory::new(&shard.common.disk, &to).prepare(shard.common.wal().store()).await?;
            Ok((number, shard.common.wal().store(), shard.runtime().wall_ms()))
        };
        let (number, store, created_ms) = self.on(ShardId(0), prepare).await?;
        let alive = Arc::new(());
        let kept = Arc::downgrade(&alive);
        let cut = self.cut(move |shard, version| shard.begin_cut(version, kept.clone())).await?;
        let Taken { version, still, pause } = cut;
        // No entity changes its owner before every shard keeps what is in the cut: this is the cut's table.
        let image = self.on(ShardId(0), |shard| async move { Ok(shard.image()) }).await?;
        let holds: RefCell<Vec<Arc<()>>> = RefCell::new(self.shards().map(|_| Arc::clone(&still)).collect());
        drop(still);
        let shares = self
            .on_every(|_| {
                let (request, progress) = (request.clone(), Arc::clone(&progress));
                let still = holds.borrow_mut().pop();
                move |shard| async move { copy_share(&shard, version, still, &request, &progress).await }
            })
            .await?;
        let (segments_new, bytes_copied) =
            shares.iter().fold((0, 0), |sum, share| (sum.0 + share.segments_new, sum.1 + share.bytes_copied));
        let (table, partitions) = (Some(table_of(&image)), of_table(&image, shares)?);
        let record = Record { store, number, created_ms, version, table, partitions };
        let bytes = record.encode();
        let finish = move |shard: Rc<Shard>| async move {
            let directory = Directory::new(&shard.common.disk, &request.to);
            directory.add_record(number, &bytes).await?;
            Ok(directory.tidy(request.keep).await)
        };
        let tidied = self.on(ShardId(0), finish).await?;
        Ok(Summary {
            number,
            created_ms,
            partitions: record.partitions.len(),
            segments: record.segments(),
            bytes: record.bytes(),
            segments_new,
            bytes_copied,
            pause,
            untidy: tidied.as_ref().err().map(ToString::to_string),
            removed: tidied.unwrap_or_default(),
        })
    }
}

/// Copies what this shard has of the cut at `version`.
async fn copy_share(
    shard: &Rc<Shard>,
    version: Version,
    still: Option<Arc<()>>,
    request: &Request,
    progress: &Progress,
) -> Result<Share> {
    let parts = shard.finish_cut(version).await?;
    drop(still);
    let disk = &shard.common.disk;
    let directory = Directory::new(disk, &request.to);
    let mut share = Share::default();
    let mut missing: Vec<(PartitionId, Rc<Segment>)> = Vec::new();
    for (id, part) in parts {
        let Part { state, segments } = part;
        let present = directory.present(id).await?;
        missing.extend(
            segments.into_iter().filter(|s| !present.contains(&segment_name(s.meta()))).map(|s| (id, s)),
        );
        share.states.push((id, state));
    }
    share.segments_new = missing.len() as u64;
    let bytes = missing.iter().map(|(_, segment)| segment.meta().bytes).sum();
    if !request.link {
        need_room(&**disk, &request.to, progress.plan(bytes)).await?;
    }
    let shards =
        shard.map().homes().iter().map(|home| home.shard.0).max().map_or(1, |last| u64::from(last) + 1);
    let bound = if request.limit == 0 { 0 } else { (request.limit / shards).max(1) };
    let copier = Copier { disk, pace: Pace::new(shard.runtime().clone(), bound), progress };
    for (id, segment) in missing {
        let path = directory.segment_path(id, segment.meta());
        if request.link && link(disk, &segment, &path).await? {
            continue;
        }
        copier.copy(&segment, &path).await?;
        share.bytes_copied += segment.meta().bytes;
    }
    for (id, _) in &share.states {
        directory.sync_segments(*id).await?;
    }
    Ok(share)
}

/// Gives a segment another name. False: the one by which it was opened is gone, for a compaction or a split has replaced it.
async fn link(disk: &Rc<dyn Disk>, segment: &Segment, path: &Path) -> Result<bool> {
    match disk.link(segment.file().path(), path).await {
        Ok(()) => Ok(true),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::CrossesDevices => {
            let what = "is on another file system than the store: links cannot reach it, copy instead";
            Err(Error::misuse(format!("{} {what}", path.display())))
        }
        Err(e) => Err(e),
    }
}

/// Refuses to begin what the target has no room for.
pub(super) async fn need_room(disk: &dyn Disk, to: &Path, bytes: u64) -> Result<()> {
    let free = disk.free_bytes(to).await?;
    if free < bytes {
        return Err(Error::misuse(format!(
            "{} has {free} bytes free, and {bytes} are to be copied",
            to.display()
        )));
    }
    Ok(())
}

/// The table's partitions, ascending.
fn of_table(image: &Image, shares: Vec<Share>) -> Result<Vec<PartitionRecord>> {
    let mut states: std::collections::BTreeMap<PartitionId, State> =
        shares.into_iter().flat_map(|share| share.states).collect();
    let record = |id: &PartitionId| {
        let state = states.remove(id).ok_or_else(|| {
            Error::misuse(format!(
                "partition {id} was made or handed on during the backup's cut: take it again"
            ))
        })?;
        Ok(PartitionRecord { id: *id, state })
    };
    image.state().partitions.keys().map(record).collect()
}

/// Ends the copying on all shards when whoever asked for it goes away.
struct GiveUp<'a>(&'a Progress);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
