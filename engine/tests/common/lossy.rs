//! Stores that do not flush every write, `interval` and `none`: what a crash may take from them, and what it may not.
//!
//! A killed process loses nothing acknowledged. A power cut leaves of each partition a prefix of what was written to it;
//! of a batch or transaction all or nothing, also over several partitions; what touched several partitions is durable once
//! acknowledged, with all that came before it in each of them; and under `interval` what is older than two intervals is.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use foreshard_engine::ids::PartitionId;
use foreshard_engine::io::disk::Disk;
use foreshard_engine::io::memory::{CrashMode, MemoryDisk};
use foreshard_engine::io::runtime::Runtime;
use foreshard_engine::io::virtual_time::VirtualRuntime;
use foreshard_engine::table::Image;
use foreshard_engine::{Client, Durability, Options, PageLimit, SimulatedStore, WriteBatch, key};

use super::kinds::Census;
use super::life::{Birth, DIR, tiny};
use super::model::{Effect, Key, Rows};
use super::workload::scan_entity;

const CALLERS: usize = 3;
const ENTITIES: u8 = 6;
const ROWS: u8 = 4;
const SHARDS: usize = 2;
/// Between two flushes.
pub const INTERVAL: Duration = Duration::from_millis(4);
/// What two flushes and a batch's write take at most on the disk of these lives.
const SLACK: Duration = Duration::from_millis(4);

/// One write of a caller.
#[derive(Clone, Debug)]
struct Written {
    effects: Vec<Effect>,
    partitions: BTreeSet<PartitionId>,
    /// When, in nanoseconds; none while nobody was told.
    acknowledged: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Caller {
    /// What was there when the life began.
    base: RefCell<Rows>,
    written: RefCell<Vec<Written>>,
}

/// How a life is lived and ended.
#[derive(Clone, Copy, Debug)]
pub struct Lossy {
    pub seed: u64,
    pub durability: Durability,
    pub work: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Loss {
    pub acknowledged: u64,
    /// Acknowledged and lost, as it may be.
    pub lost: u64,
    pub census: Census,
}

impl Lossy {
    fn options(self) -> Options {
        Options { durability: self.durability, ..tiny() }
    }

    /// Boundaries of the life when nothing stops it.
    pub fn boundaries(self) -> u64 {
        self.live(&callers(), Birth::New, None).0.boundaries()
    }

    /// Stops the life at `point`, looks at what `mode` leaves, works on, and looks again after a kill.
    pub fn crash_at(self, point: u64, mode: CrashMode) -> Loss {
        let mut loss = Loss::default();
        let callers = callers();
        let (mut disk, at) = self.live(&callers, Birth::New, Some(point));
        if let Some(event) = disk.stopped_by() {
            loss.census.count(&event);
        }
        for (round, mode) in [mode, CrashMode::Kill].into_iter().enumerate() {
            let next = Self { seed: self.seed ^ point ^ ((round as u64 + 1) << 40), work: 10, ..self };
            next.check(&callers, &disk, mode, at, &mut loss);
            (disk, _) = next.live(&callers, Birth::After(&disk, mode), None);
        }
        loss
    }

    /// The disk a life leaves, and when it ended.
    fn live(self, callers: &[Rc<Caller>], birth: Birth<'_>, crash_after: Option<u64>) -> (MemoryDisk, u64) {
        let world = VirtualRuntime::new(self.seed);
        let runtimes: Vec<Runtime> = (0..SHARDS).map(|_| world.runtime()).collect();
        let disk = birth.disk(&runtimes[0], self.seed | 1);
        if let Some(boundary) = crash_after {
            disk.crash_after(boundary);
        }
        let life = async {
            let shared: Rc<dyn Disk> = Rc::new(disk.clone());
            let store = SimulatedStore::open(&runtimes, shared, Path::new(DIR), self.options(), self.seed)
                .await
                .unwrap();
            let mut random = fastrand::Rng::with_seed(self.seed);
            let tasks: Vec<_> = callers
                .iter()
                .enumerate()
                .map(|(number, caller)| {
                    let worker = Worker {
                        number,
                        store: store.client().unwrap(),
                        map: store.map().clone(),
                        caller: Rc::clone(caller),
                        runtime: runtimes[0].clone(),
                    };
                    runtimes[0].spawn(worker.work(random.fork(), self.work))
                })
                .collect();
            for task in tasks {
                task.await;
            }
        };
        let ended = futures_lite::future::or(life, disk.stopped());
        world.try_block_on(ended).expect("no deadlock");
        (disk, runtimes[0].now().0)
    }

    /// Opens what `mode` leaves of `disk`, and settles what each caller's rows are.
    fn check(self, callers: &[Rc<Caller>], disk: &MemoryDisk, mode: CrashMode, at: u64, loss: &mut Loss) {
        let world = VirtualRuntime::new(self.seed);
        let runtimes: Vec<Runtime> = (0..SHARDS).map(|_| world.runtime()).collect();
        // The next life has to find what this one does.
        let disk = disk.crash(&runtimes[0], self.seed | 1, mode);
        world.block_on(async {
            let shared: Rc<dyn Disk> = Rc::new(disk.clone());
            let store = SimulatedStore::open(&runtimes, shared, Path::new(DIR), self.options(), self.seed)
                .await
                .unwrap();
            let client = store.client().unwrap();
            for (number, caller) in callers.iter().enumerate() {
                let found = rows_of(&client, number).await;
                let homes = rows_by_partition(store.map(), number);
                let kept = self.settle(caller, &found, &homes, mode, at);
                let written = std::mem::take(&mut *caller.written.borrow_mut());
                let acknowledged = written.iter().filter(|w| w.acknowledged.is_some()).count() as u64;
                loss.acknowledged += acknowledged;
                loss.lost += acknowledged.saturating_sub(kept);
                *caller.base.borrow_mut() = found;
            }
        });
    }

    /// Finds a cut of each partition that explains what is there; how many writes are in it in whole. Rows of different
    /// partitions may be cut at different writes.
    fn settle(
        self,
        caller: &Caller,
        found: &Rows,
        homes: &BTreeMap<PartitionId, BTreeSet<Key>>,
        mode: CrashMode,
        at: u64,
    ) -> u64 {
        let written = caller.written.borrow();
        let mut cuts: BTreeMap<PartitionId, Vec<usize>> = BTreeMap::new();
        let mut state = caller.base.borrow().clone();
        for cut in 0..=written.len() {
            if cut > 0 {
                written[cut - 1].effects.iter().for_each(|effect| effect.apply(&mut state));
            }
            for (partition, keys) in homes {
                let may_lose = self.may_lose(&written[cut..], *partition, mode, at);
                let fits = keys.iter().all(|key| value(&state, key) == value(found, key));
                if may_lose && fits {
                    cuts.entry(*partition).or_default().push(cut);
                }
            }
        }
        for partition in homes.keys() {
            assert!(
                cuts.contains_key(partition),
                "{self:?} {mode:?}: {partition:?} is no prefix, or too short a one"
            );
        }
        // A write over several partitions is in all of their cuts or in none.
        for (n, write) in written.iter().enumerate().filter(|(_, write)| write.partitions.len() > 1) {
            let is_in = |partition: &PartitionId| cuts[partition].iter().any(|cut| *cut > n);
            let may_be_out = |partition: &PartitionId| cuts[partition].iter().any(|cut| *cut <= n);
            let whole = write.partitions.iter().all(is_in);
            let none = write.partitions.iter().all(may_be_out);
            assert!(whole || none, "{self:?} {mode:?}: write {n} is there in part: {write:?}");
        }
        let kept = |n: usize| written[n].partitions.iter().all(|p| cuts[p].iter().any(|cut| *cut > n));
        (0..written.len()).filter(|n| written[*n].acknowledged.is_some() && kept(*n)).count() as u64
    }

    /// Whether `partition` may have lost all of these, which came last.
    fn may_lose(self, lost: &[Written], partition: PartitionId, mode: CrashMode, at: u64) -> bool {
        let bound = match self.durability {
            Durability::Interval(interval) => Some(2 * interval + SLACK),
            Durability::Always | Durability::None => None,
        };
        lost.iter().filter(|write| write.partitions.contains(&partition)).all(|write| {
            let Some(acknowledged) = write.acknowledged else { return true };
            let is_old =
                bound.is_some_and(|bound| Duration::from_nanos(at.saturating_sub(acknowledged)) > bound);
            !matches!(mode, CrashMode::Keep | CrashMode::Kill) && write.partitions.len() == 1 && !is_old
        })
    }
}

struct Worker {
    number: usize,
    store: Client,
    map: Image,
    caller: Rc<Caller>,
    runtime: Runtime,
}

impl Worker {
    async fn work(self, mut random: fastrand::Rng, count: usize) {
        for n in 0..count {
            if random.u8(..8) == 0 {
                self.runtime.sleep(Duration::from_micros(random.u64(1..6000))).await;
            }
            let effects: Vec<Effect> = (0..if random.bool() { 1 } else { random.u8(2..6) })
                .map(|_| {
                    let entity = entity_of(self.number, random.u8(..ENTITIES));
                    let key = (entity, vec![b'r', random.u8(..ROWS)]);
                    let mut value = format!("{n}:{:x}", random.u64(..)).into_bytes();
                    value.resize(random.usize(20..400), b'.');
                    if random.u8(..5) == 0 {
                        Effect::Delete { key }
                    } else {
                        Effect::Put { key, value, expiry: 0 }
                    }
                })
                .collect();
            let mut batch = WriteBatch::new();
            let mut partitions = BTreeSet::new();
            for effect in &effects {
                let (Effect::Put { key, .. } | Effect::Delete { key }) = effect else { unreachable!() };
                partitions.insert(home_of(&self.map, key));
                match effect {
                    Effect::Put { value, .. } => batch.put(&key.0, &key.1, value).unwrap(),
                    Effect::Delete { .. } | Effect::DeleteEntity { .. } => {
                        batch.delete(&key.0, &key.1).unwrap()
                    }
                }
            }
            self.caller.written.borrow_mut().push(Written { effects, partitions, acknowledged: None });
            self.store.write(batch).await.unwrap();
            let now = self.runtime.now().0;
            self.caller.written.borrow_mut().last_mut().unwrap().acknowledged = Some(now);
        }
    }
}

fn callers() -> Vec<Rc<Caller>> {
    (0..CALLERS).map(|_| Rc::default()).collect()
}

fn entity_of(caller: usize, n: u8) -> Vec<u8> {
    format!("caller:{caller}:{n}").into_bytes()
}

fn value<'a>(rows: &'a Rows, key: &Key) -> Option<&'a [u8]> {
    rows.get(key).map(|held| held.value.as_slice())
}

/// Where a row is at home.
fn home_of(map: &Image, key: &Key) -> PartitionId {
    let mut stored = Vec::new();
    key::encode(&key.0, &key.1, &mut stored).unwrap();
    map.home_of(&stored).partition
}

/// All rows that a caller may have, by partition.
fn rows_by_partition(map: &Image, caller: usize) -> BTreeMap<PartitionId, BTreeSet<Key>> {
    let mut homes: BTreeMap<PartitionId, BTreeSet<Key>> = BTreeMap::new();
    for n in 0..ENTITIES {
        for row in 0..ROWS {
            let key = (entity_of(caller, n), vec![b'r', row]);
            homes.entry(home_of(map, &key)).or_default().insert(key);
        }
    }
    homes
}

async fn rows_of(client: &Client, caller: usize) -> Rows {
    let mut rows = Rows::new();
    for n in 0..ENTITIES {
        let limit = PageLimit { rows: 100, bytes: 1 << 20 };
        for (key, value) in scan_entity(client, &entity_of(caller, n), limit).await.unwrap() {
            rows.insert(key, super::model::Held { value, expiry: 0, is_gone: false });
        }
    }
    rows
}
