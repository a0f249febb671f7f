//! What is done to a store beside its callers: their entities moved, partitions split, merged and handed over, epochs raised
//! in the partition table, backups taken.
//!
//! Promised: a change of the table that was acknowledged is there, one that was not may be; an entity is where its last
//! move that ended took it, or where one under way goes, and no move is open in a store that was opened; a backup that was
//! reported is there with all its segments, and holds one moment of the rows that all callers share.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foreshard_engine::backup::restore::Restore;
use foreshard_engine::backup::{Directory, Progress, Request};
use foreshard_engine::ids::{Epoch, PartitionId, ShardId};
use foreshard_engine::io::disk::Disk;
use foreshard_engine::io::memory::MemoryDisk;
use foreshard_engine::io::runtime::Runtime;
use foreshard_engine::key::{self, RoutingKey};
use foreshard_engine::shard::moves::progress::Phase;
use foreshard_engine::shard::reshape::progress::{Order, Phase as Ended};
use foreshard_engine::superblock::StoreId;
use foreshard_engine::table::{Partitions, Placed};
use foreshard_engine::{Error, Options, SimulatedStore};

use super::history;
use super::model::{Model, text};
use super::workload::{any_entity, shared_numbers};

pub const BACKUPS: &str = "/backups";
/// Backups that are kept when older ones are removed.
const KEPT: usize = 2;

/// More are merged rather than split.
const PARTITIONS_MAX: usize = 8;

/// What the operator was promised.
#[derive(Clone, Debug, Default)]
pub struct Promised {
    /// Of each partition the epoch that was acknowledged, and the last that was asked for.
    epochs: RefCell<BTreeMap<PartitionId, [u64; 2]>>,
    /// Where each entity that was ever moved is, and where it was last to go.
    places: RefCell<BTreeMap<Vec<u8>, [PartitionId; 2]>>,
    /// Moves and changes of partitions that were begun: what ended is counted below, a crash cut off the others.
    pub begun: Cell<u64>,
    /// Moves that were done, undone, and refused.
    pub moves: Cell<[u64; 3]>,
    /// Changes of partitions that were done and undone.
    pub reshapes: Cell<[u64; 2]>,
    /// One was under way: who is where may be said by other numbers, and who was handed over is in another epoch.
    is_reshaping: Cell<bool>,
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

impl Promised {
    /// A change of partitions has ended, or never will: what was promised of partitions by their numbers is not.
    fn forget_numbers(&self) {
        self.places.borrow_mut().clear();
        self.epochs.borrow_mut().clear();
        self.is_reshaping.set(false);
    }
}

impl Operator<'_> {
    /// Does `count` things, now and then.
    pub async fn work(&self, mut random: fastrand::Rng, count: usize) -> Result<(), Error> {
        for _ in 0..count {
            self.runtime.sleep(Duration::from_millis(random.u64(1..12))).await;
            match random.u8(..8) {
                0 | 1 => self.back_up(&mut random).await?,
                2 => self.raise_an_epoch(&mut random).await?,
                3 | 4 => self.reshape(&mut random).await?,
                _ => self.move_some(&mut random).await?,
            }
        }
        Ok(())
    }

    /// Moves entities and changes partitions, one after the other, some at once.
    pub async fn change(&self, mut random: fastrand::Rng, count: usize) -> Result<(), Error> {
        for _ in 0..count {
            self.runtime.sleep(Duration::from_micros(random.u64(..2000))).await;
            match random.u8(..8) {
                0 => self.raise_an_epoch(&mut random).await?,
                1..5 => self.reshape(&mut random).await?,
                _ => self.move_some(&mut random).await?,
            }
        }
        Ok(())
    }

    fn any_entity(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        if self.model.histories.counts()[0] > 0 && random.bool() {
            return history::entity(random.u8(..history::ENTITIES));
        }
        any_entity(random, self.model.callers.len())
    }

    fn begun(&self) {
        self.promised().begun.set(self.promised().begun.get() + 1);
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
        // Refused where a partition that is handed over was first.
        if table.change(change.into()).await?.is_ok() {
            self.promised().epochs.borrow_mut().insert(id, [epoch, epoch]);
        }
        Ok(())
    }

    /// Splits, merges or hands a partition over, while entities move or not.
    async fn reshape(&self, random: &mut fastrand::Rng) -> Result<(), Error> {
        let image = self.store.table()?.image();
        let homes = image.homes();
        let n = random.usize(..homes.len());
        let (home, next) = (homes[n], homes[(n + 1) % homes.len()]);
        let order = match random.u8(..3) {
            0 if homes.len() < PARTITIONS_MAX => Order::Split { partition: home.partition, at: None },
            1 => {
                let to = ShardId(random.u16(..image.state().shards));
                Order::HandOver { partition: home.partition, to }
            }
            _ => Order::Merge { into: home.partition, from: next.partition },
        };
        self.promised().is_reshaping.set(true);
        let id = match self.store.shard(0)?.begin_reshape(order).await {
            Ok(id) => {
                self.begun();
                id
            }
            Err(Error::Misuse(_)) => {
                self.promised().is_reshaping.set(false);
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        if random.bool() {
            self.move_some(random).await?;
        }
        let driver = self.store.shard(usize::from(home.shard.0))?;
        let status = driver.reshaped(id).await.expect("nobody else changes partitions");
        let is_over = matches!(status.phase, Ended::Done | Ended::Failed);
        assert!(is_over, "{order} ended {:?}: {:?}", status.phase, status.failure);
        self.promised().forget_numbers();
        let mut reshapes = self.promised().reshapes.get();
        reshapes[usize::from(status.phase != Ended::Done)] += 1;
        self.promised().reshapes.set(reshapes);
        Ok(())
    }

    /// Begins a few moves, which may get in each other's way, cancels some, and waits until all have ended.
    async fn move_some(&self, random: &mut fastrand::Rng) -> Result<(), Error> {
        let mut begun = Vec::new();
        let partitions: Vec<PartitionId> =
            self.store.table()?.image().state().partitions.keys().copied().collect();
        for _ in 0..random.usize(1..4) {
            let entity = self.any_entity(random);
            let image = self.store.table()?.image();
            let (from, home) =
                (image.home_of(&prefix_of(&entity)), image.home_by_range(RoutingKey::of(&entity)));
            let to = (random.u8(..3) > 0).then(|| partitions[random.usize(..partitions.len())]);
            let shard = self.store.shard(usize::from(from.shard.0))?;
            let place = [from.partition, to.unwrap_or(home.partition)];
            // Another move of it may be under way: the last one that was asked for is not the only one then.
            let known = self.promised().places.borrow_mut().insert(entity.clone(), place);
            match shard.begin_move(&entity, to).await {
                Ok(id) => {
                    self.begun();
                    begun.push((entity, id, shard, place));
                }
                Err(Error::Misuse(_) | Error::TryAgain(_)) => {
                    self.count(2);
                    let mut places = self.promised().places.borrow_mut();
                    places.insert(entity, known.unwrap_or([from.partition; 2]));
                }
                Err(e) => return Err(e),
            }
        }
        if random.u8(..3) == 0
            && let Some((_, id, shard, _)) = begun.first()
        {
            self.runtime.sleep(Duration::from_micros(random.u64(..3000))).await;
            shard.cancel_move(*id);
        }
        if random.u8(..5) == 0 {
            // A move whose partition changed its configuration does not commit (R13).
            self.raise_an_epoch(random).await?;
        }
        for (entity, id, shard, place) in begun {
            let status = shard.moved(id).await.expect("remembered");
            let is_done = status.phase == Phase::Done;
            let is_undone = matches!(status.phase, Phase::Cancelled | Phase::Failed);
            assert!(is_done || is_undone, "move {id} ended {:?}: {:?}", status.phase, status.failure);
            self.count(usize::from(!is_done));
            let at = place[usize::from(is_done)];
            self.promised().places.borrow_mut().insert(entity, [at, at]);
        }
        Ok(())
    }

    fn count(&self, which: usize) {
        let mut moves = self.promised().moves.get();
        moves[which] += 1;
        self.promised().moves.set(moves);
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
        if self.promised().is_reshaping.get() {
            self.promised().forget_numbers();
        }
        for (id, promised) in self.promised().epochs.borrow_mut().iter_mut() {
            let found = image.state().partitions.get(id).map_or(0, |entry| entry.placed.epoch.0);
            assert!(
                (promised[0]..=promised[1]).contains(&found),
                "{id:?}: epoch {found}, promised {promised:?}"
            );
            *promised = [found, found];
        }
        assert!(image.open_moves().is_empty(), "moves are open that nobody carries out");
        for (entity, place) in self.promised().places.borrow_mut().iter_mut() {
            let found = image.home_of(&prefix_of(entity)).partition;
            assert!(place.contains(&found), "{:?} is in {found:?}, promised {place:?}", text(entity));
            *place = [found, found];
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

/// What the storage keys of an entity begin with.
fn prefix_of(entity: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::new();
    key::encode_entity(entity, &mut prefix).expect("a name within its limit");
    prefix
}
