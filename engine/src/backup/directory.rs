//! A directory of backups.
//!
//! ```text
//! LOCK                                                      locked while a process writes here
//! BACKUPS                                                   a record without partitions: whose backups these are
//! backup-<n>                                                the record of backup n
//! segments/<partition>/<16 hex digits>-<8 hex digits>.seg   a segment, by number and checksum
//! ```
//!
//! Invariants:
//! - a name without `.part` at its end is of something whole and durable;
//! - a segment is removed only after no record names it, durably.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::copy::{DRAFT_SUFFIX, draft_of};
use super::record::{self, Record};
use crate::error::{Error, Result};
use crate::ids::{PartitionId, Version};
use crate::io::disk::Disk;
use crate::segment::SegmentMeta;
use crate::superblock::StoreId;

const OWNER: &str = "BACKUPS";
const RECORD_PREFIX: &str = "backup-";
const SEGMENTS: &str = "segments";
const LOCK: &str = "LOCK";

/// A directory of backups.
#[derive(Clone, Debug)]
pub struct Directory {
    disk: Rc<dyn Disk>,
    path: PathBuf,
}

impl Directory {
    /// The one at `path`.
    #[must_use]
    pub fn new(disk: &Rc<dyn Disk>, path: &Path) -> Self {
        Self { disk: Rc::clone(disk), path: path.to_path_buf() }
    }

    /// The numbers of its backups, ascending.
    ///
    /// # Errors
    /// [`Error::Misuse`] when it is no directory of backups; [`Error::Io`].
    pub async fn numbers(&self) -> Result<Vec<u64>> {
        if !self.disk.exists(&self.path.join(OWNER)).await? {
            return Err(Error::misuse(format!("{}: no backups are here", self.path.display())));
        }
        let number = |name: &String| {
            let digits = name.strip_prefix(RECORD_PREFIX)?;
            digits.parse().ok().filter(|n: &u64| n.to_string() == digits)
        };
        let mut numbers: Vec<u64> = self.disk.list(&self.path).await?.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The record of a backup; of the newest one for none.
    ///
    /// # Errors
    /// [`Error::Misuse`] when there is none; [`Error::Corrupt`]; [`Error::Io`].
    pub async fn read(&self, number: Option<u64>) -> Result<Record> {
        let numbers = self.numbers().await?;
        let found = match number {
            None => numbers.last().copied(),
            Some(number) => Some(number).filter(|n| numbers.contains(n)),
        };
        let Some(found) = found else {
            let which = number.map_or_else(|| "no backup".to_owned(), |n| format!("no backup {n}"));
            return Err(Error::misuse(format!(
                "{}: {which} is here; there are {numbers:?}",
                self.path.display()
            )));
        };
        let path = self.record_path(found);
        let record = record::read(&self.disk, &path).await?;
        if record.number != found {
            return Err(Error::corrupt(path, 0, format!("the record of backup {}", record.number)));
        }
        Ok(record)
    }

    /// Where a segment of a partition lies here.
    #[must_use]
    pub fn segment_path(&self, partition: PartitionId, meta: &SegmentMeta) -> PathBuf {
        self.segments_of(partition).join(segment_name(meta))
    }

    /// Makes it the directory of a store's backups, if it is not. The next backup's number.
    pub(super) async fn prepare(&self, store: StoreId) -> Result<u64> {
        let owner = self.path.join(OWNER);
        if self.disk.exists(&owner).await? {
            let found = record::read(&self.disk, &owner).await?.store;
            if found != store {
                return Err(Error::misuse(format!(
                    "{} has backups of store {found}, this is store {store}: give another directory",
                    self.path.display()
                )));
            }
        } else {
            self.refuse_others().await?;
            let mine = Record {
                store,
                number: 0,
                created_ms: 0,
                version: Version::ZERO,
                table: None,
                partitions: Vec::new(),
            };
            self.disk.create_dir(&self.path.join(SEGMENTS)).await?;
            self.add(&owner, &mine.encode()).await?;
        }
        Ok(self.numbers().await?.last().copied().unwrap_or_default() + 1)
    }

    /// Segments of a partition that are here, by file name; its directory is made.
    pub(super) async fn present(&self, partition: PartitionId) -> Result<BTreeSet<String>> {
        let dir = self.segments_of(partition);
        self.disk.create_dir(&dir).await?;
        Ok(self.disk.list(&dir).await?.into_iter().collect())
    }

    /// Makes the names of a partition's segments durable.
    pub(super) async fn sync_segments(&self, partition: PartitionId) -> Result<()> {
        self.disk.sync_dir(&self.segments_of(partition)).await
    }

    /// Adds a record, whose segments are durable: from here on the backup is there.
    pub(super) async fn add_record(&self, number: u64, bytes: &[u8]) -> Result<()> {
        self.disk.sync_dir(&self.path.join(SEGMENTS)).await?;
        self.add(&self.record_path(number), bytes).await
    }

    /// Removes backups but for the newest `keep`, then every segment that none names. The numbers of the backups
    /// removed. Nothing is removed while a record that stays cannot be read: nobody knows what it needs.
    pub(super) async fn tidy(&self, keep: Option<usize>) -> Result<Vec<u64>> {
        let numbers = self.numbers().await?;
        let surplus = keep.map_or(0, |keep| numbers.len().saturating_sub(keep.max(1)));
        let (surplus, kept) = numbers.split_at(surplus);
        let mut needed: BTreeMap<PartitionId, BTreeSet<String>> = BTreeMap::new();
        for &number in kept {
            for partition in self.read(Some(number)).await?.partitions {
                let names = partition.state.segments.values().map(segment_name);
                needed.entry(partition.id).or_default().extend(names);
            }
        }
        for &number in surplus {
            self.disk.remove(&self.record_path(number)).await?;
        }
        self.disk.sync_dir(&self.path).await?;
        for name in self.disk.list(&self.path.join(SEGMENTS)).await? {
            let Ok(partition) = name.parse().map(PartitionId) else { continue };
            let needed = needed.remove(&partition).unwrap_or_default();
            let dir = self.segments_of(partition);
            for name in self.disk.list(&dir).await?.iter().filter(|name| !needed.contains(*name)) {
                if is_segment(name) {
                    self.disk.remove(&dir.join(name)).await?;
                }
            }
        }
        Ok(surplus.to_vec())
    }

    /// Refuses a directory with anything in it that a backup did not leave.
    async fn refuse_others(&self) -> Result<()> {
        let ours = [LOCK.to_owned(), SEGMENTS.to_owned(), format!("{OWNER}{DRAFT_SUFFIX}")];
        match self.disk.list(&self.path).await?.iter().find(|name| !ours.contains(name)) {
            None => Ok(()),
            Some(name) => Err(Error::misuse(format!(
                "{} holds {name} and is no directory of backups: give an empty or a new one",
                self.path.display()
            ))),
        }
    }

    /// Writes a file that is there whole or not at all.
    async fn add(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let draft = draft_of(path);
        if self.disk.exists(&draft).await? {
            self.disk.remove(&draft).await?;
        }
        record::write(&self.disk, &draft, bytes).await?;
        self.disk.rename(&draft, path).await?;
        self.disk.sync_dir(&self.path).await
    }

    fn record_path(&self, number: u64) -> PathBuf {
        self.path.join(format!("{RECORD_PREFIX}{number}"))
    }

    fn segments_of(&self, partition: PartitionId) -> PathBuf {
        self.path.join(SEGMENTS).join(partition.to_string())
    }
}

/// A segment's file name: its number says which it is in its partition's life, its checksum that it is that one.
pub(super) fn segment_name(meta: &SegmentMeta) -> String {
    format!("{:016x}-{:08x}.seg", meta.id.0, meta.checksum)
}

fn is_segment(name: &str) -> bool {
    let name = name.strip_suffix(DRAFT_SUFFIX).unwrap_or(name);
    let digits = |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
    let parts = name.strip_suffix(".seg").and_then(|stem| stem.split_once('-'));
    parts.is_some_and(|(id, checksum)| digits(id, 16) && digits(checksum, 8))
}
