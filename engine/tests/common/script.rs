//! One script of changes, stopped at every I/O in turn: a partition splits, goes to another shard, takes an entity in and gives
//! it back, and is merged again. What is opened then has every row where the table says it is, and nothing anywhere else.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use foreshard_engine::ids::{PartitionId, ShardId};
use foreshard_engine::io::disk::Disk;
use foreshard_engine::io::memory::{CrashMode, MemoryConfig, MemoryDisk};
use foreshard_engine::io::runtime::Runtime;
use foreshard_engine::io::virtual_time::VirtualRuntime;
use foreshard_engine::key::{self, RoutingKey};
use foreshard_engine::partition::strategy::Shape;
use foreshard_engine::shard::moves::progress::Phase as MovePhase;
use foreshard_engine::shard::moves::shadow::ShadowPolicy;
use foreshard_engine::shard::reshape::progress::{Order, Phase};
use foreshard_engine::{Options, PageLimit, SimulatedStore};
use futures_lite::future::or;

const ENTITIES: u32 = 16;
const ROWS: u32 = 12;
const SHARDS: usize = 2;
const STORE: &str = "/store";

struct World {
    disk: Rc<MemoryDisk>,
    store: SimulatedStore,
}

fn options() -> Options {
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
        Self { disk: Rc::clone(disk), store }
    }

    async fn fill(&self) {
        let client = self.store.client().unwrap();
        for row in 0..ROWS {
            for entity in 0..ENTITIES {
                client.put(&entity.to_be_bytes(), &row.to_be_bytes(), &value_of(entity, row)).await.unwrap();
            }
            if row % 3 == 2 {
                self.store.shard(0).unwrap().flush().await.unwrap();
            }
        }
    }

    async fn check(&self, when: &str) {
        let client = self.store.client().unwrap();
        for entity in 0..ENTITIES {
            for row in 0..ROWS {
                let found = client.get(&entity.to_be_bytes(), &row.to_be_bytes()).await.unwrap();
                assert_eq!(found, Some(value_of(entity, row)), "{when}: entity {entity} row {row}");
            }
        }
        let image = self.store.table().unwrap().image();
        let mut rows = 0;
        for &id in image.state().partitions.keys() {
            let home = image.place_of(id).unwrap();
            let shard = self.store.shard(usize::from(home.shard.0)).unwrap();
            let limit = PageLimit { rows: usize::MAX, bytes: usize::MAX };
            let (page, _) = shard.scan_observe(home, b"", &[0xff; 9], limit).await.unwrap();
            let at_home = page.rows.iter().filter(|row| image.home_of(&row.key).partition == id);
            assert_eq!(at_home.count(), page.rows.len(), "{when}: rows of others in partition {id}");
            rows += page.rows.len();
        }
        assert_eq!(rows, usize::try_from(ENTITIES * ROWS).unwrap(), "{when}");
        let named = image.state().partitions.len();
        let dirs = self.disk.list(&Path::new(STORE).join("partitions")).await.unwrap();
        assert_eq!(dirs.len(), named, "{when}: {dirs:?}");
        assert!(image.open_moves().is_empty(), "{when}: a move that nobody drives");
    }

    async fn change(&self, order: Order) -> Option<PartitionId> {
        let place = self.store.table().unwrap().image().place_of(order.partition()).unwrap();
        let driver = self.store.shard(usize::from(place.shard.0)).unwrap();
        let id = self.store.shard(0).unwrap().begin_reshape(order).await.unwrap();
        let status = driver.reshaped(id).await.unwrap();
        assert_eq!(status.phase, Phase::Done, "{status:?}");
        status.made
    }

    async fn move_to(&self, entity: &[u8], to: Option<PartitionId>) {
        let mut prefix = Vec::new();
        key::encode_entity(entity, &mut prefix).unwrap();
        let place = self.store.table().unwrap().image().home_of(&prefix);
        let shard = self.store.shard(usize::from(place.shard.0)).unwrap();
        let id = shard.begin_move_with(entity, to, ShadowPolicy::Never).await.unwrap();
        let status = shard.moved(id).await.unwrap();
        assert_eq!(status.phase, MovePhase::Done, "{status:?}");
    }

    async fn follow_the_script(&self) {
        let (first, middle) = (PartitionId(0), RoutingKey(1 << 61));
        let second = self.change(Order::Split { partition: first, at: Some(middle) }).await.unwrap();
        self.check("after the split").await;
        self.change(Order::HandOver { partition: second, to: ShardId(1) }).await;
        self.check("on another shard").await;
        let of_first = |entity: &u32| RoutingKey::of(&entity.to_be_bytes()) < middle;
        let visitor = (0..ENTITIES).find(of_first).unwrap().to_be_bytes();
        self.move_to(&visitor, Some(second)).await;
        self.check("with a guest").await;
        self.move_to(&visitor, None).await;
        self.check("after the visit").await;
        let client = self.store.client().unwrap();
        for entity in 0..ENTITIES {
            client.put(&entity.to_be_bytes(), &0_u32.to_be_bytes(), &value_of(entity, 0)).await.unwrap();
        }
        // From another shard.
        self.change(Order::Merge { into: first, from: second }).await;
        self.check("after the merge").await;
    }
}

/// The script until `boundary`, or to its end; how many boundaries there were when it began, and at its end.
fn live(boundary: Option<u64>) -> (Rc<MemoryDisk>, u64, u64) {
    let world = VirtualRuntime::new(1);
    let runtimes: Vec<Runtime> = (0..SHARDS).map(|_| world.runtime()).collect();
    let disk = Rc::new(MemoryDisk::new(&runtimes[0], 1, MemoryConfig::default()));
    if let Some(boundary) = boundary {
        disk.crash_after(boundary);
    }
    let filled = Cell::new(0);
    let life = async {
        let world = World::open(&runtimes, &disk).await;
        world.fill().await;
        filled.set(disk.boundaries());
        world.follow_the_script().await;
        world.store.close().await.unwrap();
    };
    let stopped = Rc::clone(&disk);
    world.block_on(or(life, async move { stopped.stopped().await }));
    let boundaries = disk.boundaries();
    (disk, filled.get(), boundaries)
}

/// The boundaries at which it can be stopped.
///
/// # Panics
/// When it does not do what it says without being stopped.
pub fn boundaries() -> std::ops::Range<u64> {
    let (disk, filled, boundaries) = live(None);
    reopen(&disk, CrashMode::Lose, "after a whole life");
    filled..boundaries
}

/// Stops it at `boundary` and opens what is left, twice.
///
/// # Panics
/// When a row is not where the table says.
pub fn stop_at(boundary: u64, mode: CrashMode) {
    let (disk, ..) = live(Some(boundary));
    reopen(&disk, mode, &format!("stopped at {boundary}, {mode:?}, by {:?}", disk.stopped_by()));
}

fn reopen(disk: &MemoryDisk, mode: CrashMode, when: &str) {
    let world = VirtualRuntime::new(2);
    let runtimes: Vec<Runtime> = (0..SHARDS).map(|_| world.runtime()).collect();
    let disk = Rc::new(disk.crash(&runtimes[0], 7, mode));
    world.block_on(async {
        for _ in 0..2 {
            let world = World::open(&runtimes, &disk).await;
            world.check(when).await;
            world.store.close().await.unwrap();
        }
    });
}
