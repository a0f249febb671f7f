//! A store made of a backup.
//!
//! The superblock is written last: without one a directory is no store, and [`UNFINISHED`] says why it is not one yet.
//! The new store has a name of its own: it goes its own way from here on, and what belongs to the one that was backed up
//! (its logs, its later backups) is not mixed up with it.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::copy::Copier;
use super::pace::Pace;
use super::record::{PartitionRecord, Record};
use super::{Directory, Progress};
use crate::cache::BlockCache;
use crate::error::{Error, Result};
use crate::ids::Incarnation;
use crate::io::disk::{Disk, OpenMode};
use crate::io::runtime::Runtime;
use crate::manifest::Manifest;
use crate::options::Options;
use crate::partition::open::{dir_of, location};
use crate::segment::{Segment, path_of};
use crate::superblock::{State, StoreId, Superblock};
use crate::table::{self, TableLog};

/// A directory with this file, and without a superblock, is a store whose restore did not finish.
pub const UNFINISHED: &str = "RESTORING";
const LOCK: &str = "LOCK";

/// What is made of what.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The directory of backups.
    pub from: PathBuf,
    /// Which of them; the newest for none.
    pub number: Option<u64>,
    /// The store's directory, which is [locked](super::lock), and empty otherwise.
    pub to: PathBuf,
    /// The new store's name: bytes nobody else has.
    pub name: StoreId,
    /// Copying stays below this, bytes a second; 0: no bound.
    pub limit: u64,
}

impl Restore {
    /// Makes the store. Every checksum is checked. The record of the backup it is made of.
    ///
    /// # Errors
    /// [`Error::Misuse`] when there is no such backup, or the directory is not empty; [`Error::Corrupt`] when the
    /// backup is damaged; [`Error::Io`]. After any, `to` is no store.
    pub async fn run(&self, disk: &Rc<dyn Disk>, runtime: &Runtime, progress: &Progress) -> Result<Record> {
        let directory = Directory::new(disk, &self.from);
        let record = directory.read(self.number).await?;
        self.refuse_others(disk).await?;
        super::source::need_room(&**disk, &self.to, progress.plan(record.bytes())).await?;
        let marker = self.to.join(UNFINISHED);
        disk.open(&marker, OpenMode::Create).await?.sync().await?;
        disk.sync_dir(&self.to).await?;
        for dir in ["partitions", "wal"] {
            disk.create_dir(&self.to.join(dir)).await?;
        }
        let copier = Copier { disk, pace: Pace::new(runtime.clone(), self.limit), progress };
        for partition in &record.partitions {
            self.partition(&copier, &directory, partition).await?;
        }
        let Some(table) = record.table.clone() else {
            return Err(Error::misuse(format!("backup {} is of a store without a table", record.number)));
        };
        TableLog::create(table::place(disk, &self.to, self.name), table).await?;
        disk.sync_dir(&self.to.join("partitions")).await?;
        disk.sync_dir(&self.to).await?;
        Superblock::create(disk, &self.to, self.superblock()).await?;
        disk.remove(&marker).await?;
        disk.sync_dir(&self.to).await?;
        Ok(record)
    }

    async fn partition(
        &self,
        copier: &Copier<'_>,
        directory: &Directory,
        partition: &PartitionRecord,
    ) -> Result<()> {
        let disk = copier.disk;
        let dir = dir_of(&self.to, partition.id);
        disk.create_dir(&dir).await?;
        for meta in partition.state.segments.values() {
            let path = directory.segment_path(partition.id, meta);
            let cache = Rc::new(BlockCache::new(0));
            let source = match Segment::open(&**disk, &path, meta.clone(), cache).await {
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    return Err(Error::corrupt(
                        path,
                        0,
                        "the backup names this segment, and the file is lost",
                    ));
                }
                opened => opened?,
            };
            copier.copy(&source, &path_of(&dir, meta.id)).await?;
        }
        disk.sync_dir(&dir).await?;
        let place = location(disk, &self.to, partition.id, &Options::default());
        Manifest::create(place, partition.state.clone()).await.map(drop)
    }

    fn superblock(&self) -> State {
        State {
            store: self.name,
            // No logs: the first opening has nothing to replay.
            incarnation: Incarnation(0),
            shards: 1,
            wal_file_bytes: Options::default().wal_file_bytes,
        }
    }

    async fn refuse_others(&self, disk: &Rc<dyn Disk>) -> Result<()> {
        let names = disk.list(&self.to).await?;
        let refused = |what: &str| Err(Error::misuse(format!("{}: {what}", self.to.display())));
        if names.iter().any(|name| name == UNFINISHED) {
            return refused("a restore did not finish here: remove what is in it, and run it again");
        }
        match names.iter().find(|name| *name != LOCK) {
            None => Ok(()),
            Some(name) => refused(&format!("holds {name}: give a directory that is new or empty")),
        }
    }
}

/// Refuses to make a new store where a restore did not finish.
pub(crate) async fn refuse_unfinished(disk: &Rc<dyn Disk>, dir: &Path) -> Result<()> {
    if disk.exists(&dir.join(UNFINISHED)).await? {
        return Err(Error::misuse(format!(
            "{}: a restore did not finish here: remove what is in it, and run it again",
            dir.display()
        )));
    }
    Ok(())
}
