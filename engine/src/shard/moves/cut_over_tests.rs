//! What a move has to wait for: a backup's cut, whose flushes take as long as they take; the bandwidth that it was given.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::progress::Phase;
use super::shadow::ShadowPolicy;
use super::tests::options;
use crate::ids::PartitionId;
use crate::io::memory::{MemoryConfig, MemoryDisk};
use crate::io::runtime::Runtime;
use crate::io::virtual_time::VirtualRuntime;
use crate::key;
use crate::options::Options;
use crate::shard::exclusion::Kind;
use crate::store::simulated::SimulatedStore;

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
