//! What is done to a store beside its callers: epochs raised in the partition table, backups taken.
//!
//! Promised: a change of the table that was acknowledged is there, one that was not may be; a backup that was reported
//! is there with all its segments, and holds one moment of the rows that all callers share.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foreshard_engine::backup::restore::Restore;
use foreshard_engine::backup::{Directory, Progress, Request};
use foreshard_engine::ids::{Epoch, PartitionId};
use foreshard_engine::io::disk::Disk;
use foreshard_engine::io::memory::MemoryDisk;
use foreshard_engine::io::runtime::Runtime;
use foreshard_engine::superblock::StoreId;
use foreshard_engine::table::{Partitions, Placed};
use foreshard_engine::{Error, Options, SimulatedStore};

use super::model::Model;
use super::workload::shared_numbers;

pub const BACKUPS: &str = "/backups";
/// Backups that are kept when older ones are removed.
const KEPT: usize = 2;

/// What the operator was promised.
#[derive(Clone, Debug, Default)]
pub struct Promised {
    /// Of each partition the epoch that was acknowledged, and the last that was asked for.
    epochs: RefCell<BTreeMap<PartitionId, [u64; 2]>>,
    /// Of each backup what the shared number may be in it: acknowledged before, tried before its end.
    backups: RefCell<BTreeMap<u64, [u64; 2]>>,
}

/// The operator of an open store.
pub struct Operator<'a> {
    pub store: &'a SimulatedStore,
    pub runtime: &'a Runtime,
    pub disk: &'a MemoryDisk,
    pub model: &'a Model,
}

impl Operator<'_> {
    /// Does `count` things, now and then.
    pub async fn work(&self, mut random: fastrand::Rng, count: usize) -> Result<(), Error> {
        for _ in 0..count {
            self.runtime.sleep(Duration::from_millis(random.u64(1..12))).await;
            if random.u8(..3) == 0 {
                self.back_up(&mut random).await?;
            } else {
                self.raise_an_epoch(&mut random).await?;
            }
        }
        Ok(())
    }

    async fn raise_an_epoch(&self, random: &mut fastrand::Rng) -> Result<(), Error> {
        let table = self.store.table()?;
        let image = table.image();
        let partitions: Vec<_> = image.state().partitions.iter().collect();
        let (&id, entry) = partitions[random.usize(..partitions.len())];
        let epoch = entry.placed.epoch.0 + 1;
        self.promised().epochs.borrow_mut().entry(id).or_insert([1, 1])[1] = epoch;
        let placed = Placed { epoch: Epoch(epoch), ..entry.placed };
        let (seen, edits) = (vec![(id, entry.version)], vec![(id, Some(placed))]);
        let change = Partitions { seen, edits, ..Partitions::default() };
        table.change(change.into()).await?.expect("nobody else changes the table");
        self.promised().epochs.borrow_mut().insert(id, [epoch, epoch]);
        Ok(())
    }

    async fn back_up(&self, random: &mut fastrand::Rng) -> Result<(), Error> {
        self.disk.create_dir(Path::new(BACKUPS)).await?;
        self.disk.sync_dir(Path::new("/")).await?;
        let keep = random.bool().then_some(KEPT);
        if keep.is_some() {
            // Which of the older ones are still there after a crash is not promised.
            let mut backups = self.promised().backups.borrow_mut();
            while backups.len() >= KEPT {
                backups.pop_first();
            }
        }
        let least = self.model.shared_acknowledged.get();
        let request = Request { to: PathBuf::from(BACKUPS), keep, link: random.bool(), ..Request::default() };
        let summary = self.store.client()?.back_up(request, Arc::default()).await?;
        assert_eq!(summary.untidy, None);
        let most = self.model.shared_tried.get();
        self.promised().backups.borrow_mut().insert(summary.number, [least, most]);
        Ok(())
    }

    /// Compares the table and the directory of backups with what was promised, and settles what was unknown.
    pub async fn verify(&self) -> Result<(), Error> {
        let image = self.store.table()?.image();
        for (id, promised) in self.promised().epochs.borrow_mut().iter_mut() {
            let found = image.state().partitions[id].placed.epoch.0;
            assert!(
                (promised[0]..=promised[1]).contains(&found),
                "{id:?}: epoch {found}, promised {promised:?}"
            );
            *promised = [found, found];
        }
        let directory = self.directory();
        let backups: Vec<u64> = self.promised().backups.borrow().keys().copied().collect();
        for number in backups {
            for partition in directory.read(Some(number)).await?.partitions {
                for meta in partition.state.segments.values() {
                    let path = directory.segment_path(partition.id, meta);
                    let bytes = self.disk.contents(&path).map_or(0, |bytes| bytes.len() as u64);
                    assert_eq!(bytes, meta.bytes, "backup {number}: {}", path.display());
                }
            }
        }
        Ok(())
    }

    /// Makes a store of the newest backup and looks at one moment's rows in it.
    pub async fn verify_restored(&self, runtime: Runtime, options: &Options, to: &Path) -> Result<(), Error> {
        let newest = self.promised().backups.borrow().last_key_value().map(|(n, known)| (*n, *known));
        let Some((number, [least, most])) = newest else { return Ok(()) };
        let shared: Rc<dyn Disk> = Rc::new(self.disk.clone());
        shared.create_dir(to).await?;
        let name = StoreId([9; 16]);
        let restore =
            Restore { from: PathBuf::from(BACKUPS), number: Some(number), to: to.into(), name, limit: 0 };
        restore.run(&shared, self.runtime, &Progress::default()).await?;
        let store = SimulatedStore::open(&[runtime], shared, to, options.clone(), number).await?;
        let numbers = shared_numbers(&store.client()?).await?;
        assert!(
            numbers.iter().all(|n| n == &numbers[0]),
            "backup {number} has a transaction in part: {numbers:?}"
        );
        assert!((least..=most).contains(&numbers[0]), "backup {number}: {} of {least} to {most}", numbers[0]);
        store.close().await
    }

    fn directory(&self) -> Directory {
        let shared: Rc<dyn Disk> = Rc::new(self.disk.clone());
        Directory::new(&shared, Path::new(BACKUPS))
    }

    fn promised(&self) -> &Promised {
        &self.model.operator
    }
}
