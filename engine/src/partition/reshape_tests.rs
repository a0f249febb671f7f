//! Partitions that split, change shards and merge, and an entity that arrives and is taken out again, with a crash at any
//! I/O: every row stays where the table says it is, and nothing is anywhere else.

use std::path::Path;
use std::rc::Rc;

use futures_lite::future::or;

use super::Partition;
use super::ingest::{Ingest, Linked};
use super::read::PageLimit;
use super::strategy::Shape;
use crate::ids::{PartitionId, ShardId, Version};
use crate::io::disk::Disk;
use crate::io::memory::{CrashMode, MemoryConfig, MemoryDisk};
use crate::io::runtime::Runtime;
use crate::io::virtual_time::VirtualRuntime;
use crate::key::{self, RoutingKey};
use crate::segment::{KeyRange, path_of};
use crate::shard::reshape::progress::{Order, Phase, ReshapeStatus};
use crate::store::open::assigned;
use crate::table::Placed;
use crate::{Options, Shard, SimulatedStore};

const ENTITIES: u32 = 16;
const ROWS: u32 = 12;
const STORE: &str = "/store";

struct World {
    runtimes: Vec<Runtime>,
    disk: Rc<MemoryDisk>,
    store: SimulatedStore,
}

pub(super) fn options() -> Options {
    let shape = Shape { level0_trigger: 2, base_bytes: 20_000, fanout: 3, segment_bytes: 4096 };
    Options {
        partitions: 1,
        shape,
        block_bytes: 512,
        compression: false,
        wal_file_bytes: 64 << 10,
        wal_cap_bytes: 1 << 20,
        reserve_bytes: 64 << 10,
        ..Options::default()
    }
}

fn value_of(entity: u32, row: u32) -> Vec<u8> {
    format!("{entity}/{row}{}", ".".repeat(usize::try_from(row).unwrap() * 9)).into_bytes()
}

impl World {
    async fn open(runtimes: &[Runtime], disk: &Rc<MemoryDisk>) -> Self {
        let shared: Rc<dyn Disk> = Rc::clone(disk) as Rc<dyn Disk>;
        let store = SimulatedStore::open(runtimes, shared, Path::new(STORE), options(), 1).await.unwrap();
        Self { runtimes: runtimes.to_vec(), disk: Rc::clone(disk), store }
    }

    async fn fill(&self) {
        let client = self.store.client().unwrap();
        for row in 0..ROWS {
            for entity in 0..ENTITIES {
                client.put(&entity.to_be_bytes(), &row.to_be_bytes(), &value_of(entity, row)).await.unwrap();
            }
            let shard = self.store.shard(0).unwrap();
            if row % 3 == 2 {
                shard.flush().await.unwrap();
            }
        }
    }

    /// Every row is found, and no partition has any but those that it is home to.
    async fn check(&self, when: &str) {
        let client = self.store.client().unwrap();
        for entity in 0..ENTITIES {
            for row in 0..ROWS {
                let found = client.get(&entity.to_be_bytes(), &row.to_be_bytes()).await.unwrap();
                assert_eq!(found, Some(value_of(entity, row)), "{when}: entity {entity} row {row}");
            }
        }
        let mut rows = 0;
        for shard in 0..self.runtimes.len() {
            let shard = self.store.shard(shard).unwrap();
            for partition in shard.partitions() {
                let home = assigned(&shard.map(), partition.id).unwrap();
                let limit = PageLimit { rows: usize::MAX, bytes: usize::MAX };
                let page = partition.scan(b"", &[0xff; 9], Version::MAX, limit).await.unwrap();
                assert!(page.rows.iter().all(|row| home.range.contains(&row.key)), "{when}: {partition:?}");
                rows += page.rows.len();
            }
        }
        assert_eq!(rows, usize::try_from(ENTITIES * ROWS).unwrap(), "{when}");
        // Directories are those of the table's partitions.
        let named = self.store.table().unwrap().image().state().partitions.len();
        let dirs = self.disk.list(&Path::new(STORE).join("partitions")).await.unwrap();
        assert!(dirs.len() == named, "{when}: {dirs:?} for {named} partitions");
    }

    fn placed(&self, id: PartitionId) -> Placed {
        self.store.table().unwrap().image().state().partitions[&id].placed
    }

    fn partition(&self, id: PartitionId) -> Rc<Partition> {
        let shard = self.store.shard(usize::from(self.placed(id).shard.0)).unwrap();
        shard.partitions().find(|p| p.id == id).unwrap()
    }

    fn shard_of(&self, id: PartitionId) -> Rc<Shard> {
        self.store.shard(usize::from(self.placed(id).shard.0)).unwrap()
    }

    /// Carries a change of partitions out, as whoever asks for it would.
    async fn change(&self, order: Order) -> ReshapeStatus {
        let driver = self.shard_of(order.partition());
        let id = self.store.shard(0).unwrap().begin_reshape(order).await.unwrap();
        let status = driver.reshaped(id).await.unwrap();
        assert_eq!(status.phase, Phase::Done, "{status:?}");
        status
    }

    async fn split(&self, id: PartitionId, at: RoutingKey) -> PartitionId {
        self.change(Order::Split { partition: id, at: Some(at) }).await.made.unwrap()
    }

    async fn hand_over(&self, id: PartitionId, to: u16) {
        self.change(Order::HandOver { partition: id, to: ShardId(to) }).await;
    }

    /// Has `to` take in an entity of `from`, and take it out again.
    async fn visit(&self, entity: u32, from: PartitionId, to: PartitionId) {
        let mut prefix = Vec::new();
        key::encode_entity(&entity.to_be_bytes(), &mut prefix).unwrap();
        let (source, target) = (self.partition(from), self.partition(to));
        let shard = self.store.shard(usize::from(self.placed(to).shard.0)).unwrap();
        target.expect(&prefix).await.unwrap();
        let linked = source.levels();
        let linked = linked
            .all()
            .filter(|s| s.meta().level > 0)
            .map(|s| Linked { path: path_of(&source.dir, s.meta().id), meta: s.meta().clone() });
        let ingest = Ingest {
            keys: KeyRange::of_prefix(&prefix),
            linked: linked.collect(),
            built: None,
            version_max: source.version(),
            time_ms: source.time_ms(),
        };
        shard.ingest(&target, ingest).await.unwrap();
        shard.purge(&target, &KeyRange::of_prefix(&prefix).into()).await.unwrap();
    }

    async fn reshape(&self) {
        let (first, middle) = (PartitionId(0), RoutingKey(1 << 61));
        let second = self.split(first, middle).await;
        self.check("after the split").await;
        self.hand_over(second, 1).await;
        self.check("on another shard").await;
        let entity = (0..ENTITIES).find(|e| RoutingKey::of(&e.to_be_bytes()) < middle).unwrap();
        self.visit(entity, first, second).await;
        self.check("after a visit").await;
        let client = self.store.client().unwrap();
        for entity in 0..ENTITIES {
            client.put(&entity.to_be_bytes(), &0_u32.to_be_bytes(), &value_of(entity, 0)).await.unwrap();
        }
        // From another shard.
        self.change(Order::Merge { into: first, from: second }).await;
        self.check("after the merge").await;
    }
}

/// A life until `boundary`, or to its end; how many boundaries there were when it was filled, and at its end.
fn live(boundary: Option<u64>) -> (Rc<MemoryDisk>, u64, u64) {
    let world = VirtualRuntime::new(1);
    let runtimes: Vec<Runtime> = (0..2).map(|_| world.runtime()).collect();
    let disk = Rc::new(MemoryDisk::new(&runtimes[0], 1, MemoryConfig::default()));
    if let Some(boundary) = boundary {
        disk.crash_after(boundary);
    }
    let filled = std::cell::Cell::new(0);
    let life = async {
        let world = World::open(&runtimes, &disk).await;
        world.fill().await;
        filled.set(disk.boundaries());
        world.reshape().await;
        world.store.close().await.unwrap();
    };
    let stopped = Rc::clone(&disk);
    world.block_on(or(life, async move { stopped.stopped().await }));
    let boundaries = disk.boundaries();
    (disk, filled.get(), boundaries)
}

/// Opens what a crash left, twice.
fn reopen(disk: &MemoryDisk, mode: CrashMode, when: &str) {
    let world = VirtualRuntime::new(2);
    let runtimes: Vec<Runtime> = (0..2).map(|_| world.runtime()).collect();
    let disk = Rc::new(disk.crash(&runtimes[0], 7, mode));
    world.block_on(async {
        for _ in 0..2 {
            let world = World::open(&runtimes, &disk).await;
            world.check(when).await;
            world.store.close().await.unwrap();
        }
    });
}

#[test]
fn partitions_split_change_shards_and_merge_and_a_crash_leaves_them_before_or_after() {
    let (disk, filled, boundaries) = live(None);
    reopen(&disk, CrashMode::Lose, "after a whole life");
    let modes = [CrashMode::Lose, CrashMode::Keep, CrashMode::Kill, CrashMode::Scramble];
    // Every boundary of it is the campaign's (`engine/examples/change_campaign.rs`).
    for (n, boundary) in (filled..boundaries).step_by(97).enumerate() {
        let (disk, ..) = live(Some(boundary));
        let (mode, by) = (modes[n % modes.len()], disk.stopped_by());
        reopen(&disk, mode, &format!("after a crash at {boundary}, {mode:?}, by {by:?}"));
    }
}
