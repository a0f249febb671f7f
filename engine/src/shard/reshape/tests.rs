//! Partitions split, merge and change shards under those who count, write and scan, and while entities move: nothing is
//! lost, nothing is done twice, and nothing is left over. Crashes are in `engine/tests/changes.rs`.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::progress::{Order, Phase, ReshapeStatus};
use crate::error::Error;
use crate::ids::{Epoch, PartitionId, ShardId};
use crate::io::disk::Disk;
use crate::io::memory::{MemoryConfig, MemoryDisk};
use crate::io::runtime::Runtime;
use crate::io::virtual_time::VirtualRuntime;
use crate::key::RoutingKey;
use crate::shard::moves::planted::Bug;
use crate::shard::moves::tests::{
    Expected, WORKERS, Worker, compare, entity, found_by, move_about, options, raise_epoch,
};
use crate::store::simulated::SimulatedStore;
use crate::table::Image;

pub(super) const SHARDS: usize = 3;
const CHANGES: usize = 24;
/// More are merged rather than split.
const PARTITIONS_MAX: usize = 9;
pub(super) const STORE: &str = "/s";

/// What came of changes: done, undone and refused.
pub(super) type Tally = Rc<Cell<[u32; 3]>>;

/// Something that could be asked for.
fn any_order(image: &Image, random: &mut fastrand::Rng) -> Order {
    let homes = image.homes();
    let n = random.usize(..homes.len());
    let home = homes[n];
    match random.u8(..3) {
        0 if homes.len() < PARTITIONS_MAX => {
            // Near an entity, now and then, or where the load says.
            let at = match random.u8(..4) {
                0 => None,
                1 => Some(RoutingKey::of(&entity(random.u8(..3)))),
                // Of one that is home to one routing key it is refused.
                _ => Some(RoutingKey(random.u64(home.start.0..home.end.0))),
            };
            let partition = at.map_or(home, |at| image.home_by_range(at)).partition;
            Order::Split { partition, at }
        }
        1 => Order::HandOver {
            partition: home.partition,
            to: ShardId(u16::try_from(random.usize(..SHARDS)).unwrap()),
        },
        _ => {
            let other = homes[(n + 1) % homes.len()];
            let (into, from) = if random.bool() { (home, other) } else { (other, home) };
            Order::Merge { into: into.partition, from: from.partition }
        }
    }
}

/// Asks for changes, some of them together, and cancels some.
pub(super) async fn reshape_about(
    store: &SimulatedStore,
    runtime: &Runtime,
    tally: Tally,
    mut random: fastrand::Rng,
) {
    let count = |which: usize| {
        let mut counts = tally.get();
        counts[which] += 1;
        tally.set(counts);
    };
    for _ in 0..CHANGES {
        runtime.sleep(Duration::from_micros(random.u64(..3000))).await;
        let mut begun = Vec::new();
        for _ in 0..random.usize(1..3) {
            let image = store.table().unwrap().image();
            let order = any_order(&image, &mut random);
            let driver = image.place_of(order.partition()).unwrap().shard;
            match store.shard(0).unwrap().begin_reshape(order).await {
                Ok(id) => begun.push((id, store.shard(usize::from(driver.0)).unwrap())),
                Err(Error::Misuse(_)) => count(2),
                Err(e) => panic!("{order}: {e}"),
            }
        }
        if random.u8(..5) == 0
            && let Some((id, driver)) = begun.first()
        {
            runtime.sleep(Duration::from_micros(random.u64(..1500))).await;
            driver.cancel_reshape(*id);
        }
        if random.u8(..6) == 0 {
            runtime.sleep(Duration::from_micros(random.u64(..1500))).await;
            raise_an_epoch(store, &mut random).await;
        }
        for (id, driver) in begun {
            // Another shard drives it where the partition went there before its turn came.
            let Some(status) = driver.reshaped(id).await else { continue };
            assert!(matches!(status.phase, Phase::Done | Phase::Failed | Phase::Cancelled), "{status:?}");
            count(usize::from(status.phase != Phase::Done));
        }
    }
}

async fn raise_an_epoch(store: &SimulatedStore, random: &mut fastrand::Rng) {
    let table = store.table().unwrap();
    let image = table.image();
    let all: Vec<PartitionId> = image.state().partitions.keys().copied().collect();
    raise_epoch(&*table, all[random.usize(..all.len())]).await;
}

/// What is there besides the table's partitions, and which of those are somewhere else than it says.
pub(super) async fn check_places(store: &SimulatedStore, disk: &MemoryDisk, expected: &Expected) {
    let image = store.table().unwrap().image();
    for n in 0..SHARDS {
        let shard = store.shard(n).unwrap();
        let here: Vec<PartitionId> = shard.partitions().map(|p| p.id).collect();
        let named =
            image.state().partitions.iter().filter(|(_, entry)| usize::from(entry.placed.shard.0) == n);
        let named: Vec<PartitionId> = named.map(|(id, _)| *id).collect();
        expected.check(here == named, || format!("shard {n} has {here:?}, the table says {named:?}"));
    }
    let dirs = disk.list(&Path::new(STORE).join("partitions")).await.unwrap();
    let named = image.state().partitions.len();
    expected.check(dirs.len() == named, || format!("{dirs:?} for {named} partitions"));
}

/// A run of the seed: changes and moves that were done and undone, or what was wrong.
fn run(seed: u64, bug: Option<Bug>) -> Result<([u32; 3], [u32; 2]), String> {
    let world = VirtualRuntime::new(seed);
    let runtimes: Vec<Runtime> = (0..SHARDS).map(|_| world.runtime()).collect();
    let config = MemoryConfig { latency_nanos: 5_000..200_000, ..MemoryConfig::default() };
    let disk = Rc::new(MemoryDisk::new(&runtimes[0], seed, config));
    let shared: Rc<dyn Disk> = Rc::clone(&disk) as Rc<dyn Disk>;
    let (expected, tally) = (Rc::new(Expected::default()), Tally::default());
    let life = async {
        let open = || SimulatedStore::open(&runtimes, Rc::clone(&shared), Path::new(STORE), options(), seed);
        let store = open().await.unwrap();
        for n in 0..SHARDS {
            store.shard(n).unwrap().common.planted.plant(bug);
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let (of_moves, of_changes, of_snapshots) = (random.fork(), random.fork(), random.fork());
        let workers = (0..WORKERS).map(|number| {
            let client = store.client().unwrap();
            let (runtime, expected) = (runtimes[0].clone(), Rc::clone(&expected));
            Worker { number, client, runtime, random: random.fork(), expected }
        });
        let tasks: Vec<_> = workers.map(|worker| runtimes[0].spawn(worker.work())).collect();
        // A bug is looked for where partitions change; moves have tests of their own.
        let moves = async {
            if bug.is_none() {
                move_about(&store, &runtimes[0], &expected, of_moves).await;
            }
        };
        let changes = reshape_about(&store, &runtimes[0], Rc::clone(&tally), of_changes);
        let snapshots = look_back(&store, &runtimes[0], of_snapshots);
        futures_lite::future::zip(futures_lite::future::zip(moves, changes), snapshots).await;
        for task in tasks {
            task.await;
        }
        let client = store.client().unwrap();
        compare(&client, &expected).await;
        check_places(&store, &disk, &expected).await;
        drop(client);
        store.close().await.unwrap();
        let store = open().await.unwrap();
        compare(&store.client().unwrap(), &expected).await;
        check_places(&store, &disk, &expected).await;
        store.close().await.unwrap();
    };
    let hang = async {
        runtimes[0].sleep(Duration::from_secs(600)).await;
        expected.check(false, || "ten minutes, and somebody still waits".to_owned());
    };
    world.block_on(futures_lite::future::or(life, hang));
    let violation = expected.violation.take();
    violation.map_or(Ok((tally.get(), expected.moves.get())), Err)
}

/// Snapshots that are taken before a change and looked at after it: what they show does not change.
async fn look_back(store: &SimulatedStore, runtime: &Runtime, mut random: fastrand::Rng) {
    let client = store.client().unwrap();
    for _ in 0..12 {
        let snapshot = client.snapshot().await.unwrap();
        let cell = (random.u8(..3), random.u8(..4));
        let look = async || loop {
            match client.get_at(&snapshot, &entity(cell.0), &[cell.1]).await {
                Ok(value) => return value,
                Err(Error::TryAgain(_)) => {}
                Err(e) => panic!("a snapshot: {e}"),
            }
        };
        let before = look().await;
        runtime.sleep(Duration::from_micros(random.u64(..8000))).await;
        assert!(look().await == before, "a snapshot shows something else");
    }
}

#[test]
fn partitions_that_change_under_load_lose_nothing_and_count_exactly() {
    let (mut changes, mut moves) = ([0; 3], [0; 2]);
    for seed in 0..40 {
        match catch_unwind(AssertUnwindSafe(|| run(seed, None))) {
            Ok(Ok((more, moved))) => {
                (0..3).for_each(|n| changes[n] += more[n]);
                (0..2).for_each(|n| moves[n] += moved[n]);
            }
            Ok(Err(what)) => panic!("seed {seed}: {what}"),
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{changes:?} changes of partitions done, undone and refused; {moves:?} moves done and undone");
    assert!(changes[0] > 200 && changes[1] > 10 && moves[0] > 100, "{changes:?} {moves:?}");
}

fn found(bug: Bug) {
    found_by(bug, run);
}

#[test]
fn a_fence_around_part_of_a_partition_that_opens_early_is_found() {
    found(Bug::FenceLifted);
}

#[test]
fn rows_that_are_left_behind_in_memory_are_found() {
    found(Bug::VisibleEarly);
}

#[test]
fn a_request_for_a_partition_that_is_forgotten_at_the_fence_is_found() {
    found(Bug::ParkedForgotten);
}

#[test]
fn what_waits_for_a_partition_follows_it_and_a_change_that_is_refused_leaves_nothing() {
    let world = VirtualRuntime::new(1);
    let runtimes: Vec<Runtime> = (0..SHARDS).map(|_| world.runtime()).collect();
    let disk = Rc::new(MemoryDisk::new(&runtimes[0], 1, MemoryConfig::default()));
    let shared: Rc<dyn Disk> = Rc::clone(&disk) as Rc<dyn Disk>;
    world.block_on(async {
        let store = SimulatedStore::open(&runtimes, shared, Path::new(STORE), options(), 1).await.unwrap();
        let first = store.shard(0).unwrap();
        let client = store.client().unwrap();
        for n in 0..3 {
            client.put(&entity(n), b"row", b"value").await.unwrap();
        }
        let change = async |order: Order| -> ReshapeStatus {
            let driver = store.table().unwrap().image().place_of(order.partition()).unwrap().shard;
            let id = first.begin_reshape(order).await.unwrap();
            store.shard(usize::from(driver.0)).unwrap().reshaped(id).await.unwrap()
        };
        for broken in [
            Order::Split { partition: PartitionId(9), at: None },
            Order::Split { partition: PartitionId(1), at: Some(RoutingKey(0)) },
            Order::Merge { into: PartitionId(0), from: PartitionId(2) },
            Order::Merge { into: PartitionId(0), from: PartitionId(0) },
            Order::HandOver { partition: PartitionId(0), to: ShardId(9) },
            Order::HandOver { partition: PartitionId(0), to: ShardId(0) },
        ] {
            assert!(matches!(first.begin_reshape(broken).await, Err(Error::Misuse(_))), "{broken}");
        }
        let split = change(Order::Split { partition: PartitionId(0), at: None }).await;
        assert_eq!((split.phase, split.made), (Phase::Done, Some(PartitionId(4))), "{split:?}");
        let over = change(Order::HandOver { partition: PartitionId(4), to: ShardId(2) }).await;
        assert_eq!(over.phase, Phase::Done, "{over:?}");
        let image = store.table().unwrap().image();
        assert_eq!(image.state().partitions[&PartitionId(4)].placed.epoch, Epoch(2), "another primary");
        assert_eq!(image.state().partitions[&PartitionId(0)].placed.epoch, Epoch(1), "the same primary");
        for n in 0..3 {
            assert_eq!(client.get(&entity(n), b"row").await.unwrap().as_deref(), Some(&b"value"[..]));
        }
        let merged = change(Order::Merge { into: PartitionId(0), from: PartitionId(4) }).await;
        assert_eq!(merged.phase, Phase::Done, "{merged:?}");
        assert!(merged.pause.is_some_and(|pause| pause < Duration::from_millis(100)), "{merged:?}");
        let expected = Expected::default();
        check_places(&store, &disk, &expected).await;
        assert_eq!(expected.violation.take(), None);
        store.close().await.unwrap();
    });
}
