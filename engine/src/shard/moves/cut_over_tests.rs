//! What a move has to wait for: a backup's cut, whose flushes take as long as they take; the bandwidth that it was given; the
//! log that it leaves. And where it finds what it takes along.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use super::progress::Phase;
use super::shadow::ShadowPolicy;
use super::tests::options;
use crate::batch::WriteBatch;
use crate::ids::PartitionId;
use crate::io::disk::Disk;
use crate::io::memory::{CrashMode, MemoryConfig, MemoryDisk};
use crate::io::runtime::Runtime;
use crate::io::virtual_time::VirtualRuntime;
use crate::key::{self, RoutingKey};
use crate::options::Options;
use crate::shard::exclusion::Kind;
use crate::shard::reshape::progress::{Order, Phase as Changed};
use crate::store::simulated::SimulatedStore;
use crate::wal::Durability;

const NAME: &[u8] = b"entity";
const WRITES: u32 = 400;
const VALUE_BYTES: usize = 8 << 10;

/// A store of a small entity, while a cut of it is under way; `test` gets where the entity is, and where it is not.
fn while_a_cut_is_under_way(test: impl AsyncFn(&SimulatedStore, &Runtime, [PartitionId; 2], Arc<()>)) {
    let world = VirtualRuntime::new(1);
    let runtimes: Vec<Runtime> = (0..2).map(|_| world.runtime()).collect();
    let disk = Rc::new(MemoryDisk::new(&runtimes[0], 1, MemoryConfig::default()));
    world.block_on(async {
        let store = SimulatedStore::open(&runtimes, disk, Path::new("/s"), options(), 1).await.unwrap();
        store.client().unwrap().put(NAME, b"row", b"value").await.unwrap();
        let cut = Arc::new(());
        let first = store.shard(0).unwrap();
        first.exclude(Kind::Cut, Arc::downgrade(&cut)).await.unwrap();
        let mut prefix = Vec::new();
        key::encode_entity(NAME, &mut prefix).unwrap();
        let image = store.table().unwrap().image();
        let from = image.home_of(&prefix);
        let to = image.homes().iter().find(|home| home.shard != from.shard).unwrap();
        test(&store, &runtimes[0], [from.partition, to.partition], cut).await;
        store.close().await.unwrap();
    });
}

#[test]
fn what_is_written_while_a_cut_over_waits_for_a_backup_is_carried_over_meanwhile() {
    while_a_cut_is_under_way(async |store, runtime, [from, to], cut| {
        let image = store.table().unwrap().image();
        let shard = store.shard(usize::from(image.place_of(from).unwrap().shard.0)).unwrap();
        let id = shard.begin_move_with(NAME, Some(to), ShadowPolicy::Never).await.unwrap();
        let status = || shard.moves().into_iter().find(|status| status.id == id).unwrap();
        let client = store.client().unwrap();
        for n in 0..WRITES {
            client.put(NAME, &n.to_be_bytes(), &[7; VALUE_BYTES]).await.unwrap();
        }
        // The target takes its time, as with every write.
        runtime.sleep(Duration::from_millis(500)).await;
        let (now, written) = (status(), u64::from(WRITES) * VALUE_BYTES as u64);
        assert!(!now.phase.is_over() && now.phase < Phase::CutOver, "the cut is under way: {now:?}");
        let carried = now.base_bytes + now.log_bytes;
        assert!(carried + (64 << 10) >= written, "{carried} of {written} bytes were carried over: {now:?}");
        assert!(now.log_bytes > written / 2, "most was written meanwhile: {now:?}");
        assert!(now.lag_bytes <= 64 << 10, "{now:?}");
        drop(cut);
        let ended = shard.moved(id).await.unwrap();
        assert_eq!((ended.phase, ended.restarts), (Phase::Done, 0), "{ended:?}");
        for n in 0..WRITES {
            assert!(client.get(NAME, &n.to_be_bytes()).await.unwrap().is_some(), "row {n} is lost");
        }
    });
}

#[test]
fn a_move_that_waits_for_a_backup_can_be_cancelled() {
    while_a_cut_is_under_way(async |store, runtime, [from, to], cut| {
        let image = store.table().unwrap().image();
        let shard = store.shard(usize::from(image.place_of(from).unwrap().shard.0)).unwrap();
        let id = shard.begin_move_with(NAME, Some(to), ShadowPolicy::Never).await.unwrap();
        runtime.sleep(Duration::from_millis(50)).await;
        assert!(shard.cancel_move(id));
        assert_eq!(shard.moved(id).await.unwrap().phase, Phase::Cancelled);
        drop(cut);
    });
}

#[test]
fn moves_copy_no_faster_than_they_may_and_their_cut_over_does_not_wait() {
    const RATE: u64 = 2 << 20;
    const BYTES: usize = 8 << 10;
    let took = |rate: Option<u64>| {
        let world = VirtualRuntime::new(1);
        let runtimes: Vec<Runtime> = (0..2).map(|_| world.runtime()).collect();
        let disk = Rc::new(MemoryDisk::new(&runtimes[0], 1, MemoryConfig::default()));
        world.block_on(async {
            // All of it is in memory: what is in segments is linked, and not copied.
            let options = Options {
                move_bytes_per_second: rate,
                memory_bytes: 64 << 20,
                memtables_bytes: 32 << 20,
                memtable_bytes: 8 << 20,
                wal_cap_bytes: 64 << 20,
                ..options()
            };
            let store = SimulatedStore::open(&runtimes, disk, Path::new("/s"), options, 1).await.unwrap();
            let client = store.client().unwrap();
            let image = store.table().unwrap().image();
            let home = |name: &[u8]| {
                let mut prefix = Vec::new();
                key::encode_entity(name, &mut prefix).unwrap();
                image.home_of(&prefix)
            };
            // Two from one shard, at once: they share its part.
            let names: Vec<[u8; 1]> = (0..100).map(|n| [n]).collect();
            let from = home(&names[0]).shard;
            let leaving: Vec<[u8; 1]> = names.into_iter().filter(|n| home(n).shard == from).take(2).collect();
            for name in &leaving {
                for n in 0..128_u8 {
                    client.put(name, &[n], &[n; BYTES]).await.unwrap();
                }
            }
            let to = image.homes().iter().find(|home| home.shard != from).unwrap().partition;
            let shard = store.shard(usize::from(from.0)).unwrap();
            let began = runtimes[0].now();
            let mut begun = Vec::new();
            for name in &leaving {
                begun.push(shard.begin_move_with(name, Some(to), ShadowPolicy::Never).await.unwrap());
            }
            let mut copied = 0;
            for id in begun {
                let status = shard.moved(id).await.unwrap();
                assert_eq!(status.phase, Phase::Done, "{status:?}");
                assert!(status.pause.unwrap() < Duration::from_millis(50), "{status:?}");
                copied += status.base_bytes + status.log_bytes;
            }
            let took = runtimes[0].now().since(began);
            store.close().await.unwrap();
            (took, copied)
        })
    };
    let (fast, _) = took(None);
    let (slow, copied) = took(Some(RATE));
    // All but the last frame of each at this shard's half of it.
    assert!(copied > 2 << 20, "{copied} bytes copied, and not linked");
    let least = Duration::from_secs_f64((copied - (512 << 10)) as f64 / (RATE / 2) as f64);
    assert!(slow >= least && slow < 2 * least, "{copied} bytes in {slow:?}: at least {least:?}");
    assert!(fast < slow / 4, "{fast:?} without a limit");
}

/// Two entities of one partition, and a partition of another shard.
fn neighbours(store: &SimulatedStore) -> ([Vec<u8>; 2], crate::table::Home, PartitionId) {
    let image = store.table().unwrap().image();
    let home = |name: &[u8]| {
        let mut prefix = Vec::new();
        key::encode_entity(name, &mut prefix).unwrap();
        image.home_of(&prefix)
    };
    let mut names = (0..100_u8).map(|n| vec![b'n', n]);
    let first = names.next().unwrap();
    let from = home(&first);
    let second = names.find(|name| home(name).partition == from.partition).unwrap();
    let to = image.homes().iter().find(|home| home.shard != from.shard).unwrap().partition;
    ([first, second], from, to)
}

#[test]
fn what_was_written_together_with_an_entity_that_moves_is_not_lost_after_it() {
    // Nothing is flushed here that nobody asks for.
    let options = || Options { durability: Durability::None, ..options() };
    let mut moved = 0;
    for boundary in 0.. {
        let world = VirtualRuntime::new(1);
        let runtimes: Vec<Runtime> = (0..2).map(|_| world.runtime()).collect();
        let disk = MemoryDisk::new(&runtimes[0], 1, MemoryConfig::default());
        let shared: Rc<dyn Disk> = Rc::new(disk.clone());
        let (is_over, [leaves, stays]) = world.block_on(async {
            let store = SimulatedStore::open(&runtimes, shared, Path::new("/s"), options(), 1).await.unwrap();
            let ([leaves, stays], from, to) = neighbours(&store);
            let mut batch = WriteBatch::new();
            batch.put(&leaves, b"row", b"value").unwrap();
            batch.put(&stays, b"row", b"value").unwrap();
            store.client().unwrap().write(batch).await.unwrap();
            let shard = store.shard(usize::from(from.shard.0)).unwrap();
            disk.crash_after(disk.boundaries() + boundary);
            let life = async {
                let id = shard.begin_move_with(&leaves, Some(to), ShadowPolicy::Never).await.unwrap();
                assert_eq!(shard.moved(id).await.unwrap().phase, Phase::Done);
                true
            };
            let crash = async {
                disk.stopped().await;
                false
            };
            let is_over = future::or(life, crash).await;
            (is_over, [leaves, stays])
        });
        let world = VirtualRuntime::new(2);
        let runtimes: Vec<Runtime> = (0..2).map(|_| world.runtime()).collect();
        let left = Rc::new(disk.crash(&runtimes[0], 1, CrashMode::Lose));
        world.block_on(async {
            let store = SimulatedStore::open(&runtimes, left, Path::new("/s"), options(), 2).await.unwrap();
            let client = store.client().unwrap();
            let has = async |name: &[u8]| client.get(name, b"row").await.unwrap().is_some();
            let (left, stayed) = (has(&leaves).await, has(&stays).await);
            assert_eq!(left, stayed, "half of what was written at once, at boundary {boundary}");
            moved += u32::from(left);
        });
        if is_over {
            break;
        }
    }
    assert!(moved > 0, "some of the crashes come after it");
}

#[test]
fn an_entity_moves_out_of_a_partition_that_was_split_from_another() {
    let world = VirtualRuntime::new(1);
    let runtimes: Vec<Runtime> = (0..2).map(|_| world.runtime()).collect();
    let disk = Rc::new(MemoryDisk::new(&runtimes[0], 1, MemoryConfig::default()));
    world.block_on(async {
        let store = SimulatedStore::open(&runtimes, disk, Path::new("/s"), options(), 1).await.unwrap();
        let (client, table) = (store.client().unwrap(), store.table().unwrap());
        let mut prefix = Vec::new();
        key::encode_entity(NAME, &mut prefix).unwrap();
        let from = table.image().home_of(&prefix);
        let shard = store.shard(usize::from(from.shard.0)).unwrap();
        for n in 0..200_u32 {
            client.put(NAME, &n.to_be_bytes(), &[7; 1000]).await.unwrap();
        }
        shard.flush().await.unwrap();
        shard.settled().await.unwrap();
        // All of it lies above: what the lower part had of its segments goes.
        let order = Order::Split { partition: from.partition, at: Some(RoutingKey::of(NAME)) };
        let id = shard.begin_reshape(order).await.unwrap();
        let split = shard.reshaped(id).await.unwrap();
        assert_eq!(split.phase, Changed::Done, "{split:?}");
        let image = table.image();
        assert_eq!(image.home_of(&prefix).partition, split.made.unwrap());
        let to = image.homes().iter().find(|home| home.shard != from.shard).unwrap().partition;
        let id = shard.begin_move_with(NAME, Some(to), ShadowPolicy::Never).await.unwrap();
        let ended = shard.moved(id).await.unwrap();
        assert_eq!(ended.phase, Phase::Done, "{ended:?}");
        assert!(ended.linked_bytes > 0, "of segments that came with the split: {ended:?}");
        for n in 0..200_u32 {
            assert!(client.get(NAME, &n.to_be_bytes()).await.unwrap().is_some(), "row {n} is lost");
        }
        store.close().await.unwrap();
    });
}
