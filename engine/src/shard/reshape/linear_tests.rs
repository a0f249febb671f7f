//! Every key's answers have one order while its entity moves and its partition splits, merges and changes shards; and bugs
//! that are planted leave answers that have none. With crashes, in `engine/tests/changes.rs`.

#[path = "../../../tests/common/history.rs"]
#[expect(unreachable_pub, reason = "shared with the crash tests")]
mod history;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use self::history::{ENTITIES, Histories, Teller};
use super::tests::{SHARDS, STORE, Tally, reshape_about};
use crate::ids::PartitionId;
use crate::io::disk::Disk;
use crate::io::memory::{MemoryConfig, MemoryDisk};
use crate::io::runtime::Runtime;
use crate::io::virtual_time::VirtualRuntime;
use crate::key;
use crate::shard::moves::planted::Bug;
use crate::shard::moves::progress::Phase;
use crate::shard::moves::tests::options;
use crate::store::simulated::SimulatedStore;

const TELLERS: usize = 4;
const ASKED: usize = 150;
const MOVES: usize = 40;

/// Moves the entities whose keys are asked for; how many moves were done.
async fn move_about(store: &SimulatedStore, runtime: &Runtime, mut random: fastrand::Rng) -> u32 {
    let mut done = 0;
    for _ in 0..MOVES {
        runtime.sleep(Duration::from_micros(random.u64(..1500))).await;
        let name = history::entity(random.u8(..ENTITIES));
        let mut prefix = Vec::new();
        key::encode_entity(&name, &mut prefix).unwrap();
        let image = store.table().unwrap().image();
        let all: Vec<PartitionId> = image.state().partitions.keys().copied().collect();
        let to = random.bool().then(|| all[random.usize(..all.len())]);
        let shard = store.shard(usize::from(image.home_of(&prefix).shard.0)).unwrap();
        let Ok(id) = shard.begin_move(&name, to).await else { continue };
        if random.u8(..8) == 0 {
            shard.cancel_move(id);
        }
        done += u32::from(shard.moved(id).await.is_some_and(|status| status.phase == Phase::Done));
    }
    done
}

/// A run of the seed: moves that were done, changes of partitions, and operations that have an order; or what has none.
fn run(seed: u64, bug: Option<Bug>) -> Result<(u32, [u32; 3], u64), String> {
    let world = VirtualRuntime::new(seed);
    let runtimes: Vec<Runtime> = (0..SHARDS).map(|_| world.runtime()).collect();
    let config = MemoryConfig { latency_nanos: 5_000..200_000, ..MemoryConfig::default() };
    let disk: Rc<dyn Disk> = Rc::new(MemoryDisk::new(&runtimes[0], seed, config));
    let (histories, tally) = (Rc::new(Histories::default()), Tally::default());
    let moves = world.block_on(async {
        let open = || SimulatedStore::open(&runtimes, Rc::clone(&disk), Path::new(STORE), options(), seed);
        let store = open().await.unwrap();
        for n in 0..SHARDS {
            store.shard(n).unwrap().common.planted.plant(bug);
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let (of_moves, of_changes) = (random.fork(), random.fork());
        let tellers = (0..TELLERS).map(|_| {
            let (client, runtime) = (store.client().unwrap(), runtimes[0].clone());
            Teller { client, runtime, random: random.fork(), histories: Rc::clone(&histories) }
        });
        let tasks: Vec<_> =
            tellers.map(|mut teller| runtimes[0].spawn(async move { teller.work(ASKED).await })).collect();
        let changes = reshape_about(&store, &runtimes[0], Rc::clone(&tally), of_changes);
        let (moves, ()) =
            futures_lite::future::zip(move_about(&store, &runtimes[0], of_moves), changes).await;
        for task in tasks {
            task.await;
        }
        store.close().await.unwrap();
        moves
    });
    histories.check()?;
    Ok((moves, tally.get(), histories.counts()[0]))
}

#[test]
fn every_keys_answers_have_one_order() {
    history::checker_bites();
    let (mut moves, mut changes, mut told) = (0, 0, 0);
    for seed in 0..16 {
        match run(seed, None) {
            Ok((moved, changed, answered)) => {
                (moves, changes, told) = (moves + moved, changes + changed[0], told + answered);
            }
            Err(what) => panic!("seed {seed}: {what}"),
        }
    }
    eprintln!("{moves} moves, {changes} changes of partitions, {told} answers");
    assert!(moves > 80 && changes > 80 && told > 5000, "{moves} moves, {changes} changes, {told} answers");
}

/// Looks whether a bug leaves answers without an order: what assertions find is not counted.
fn found(bug: Bug) {
    for seed in 0..40 {
        if let Ok(Err(what)) = catch_unwind(AssertUnwindSafe(|| run(seed, Some(bug)))) {
            eprintln!("{bug:?}, seed {seed}: {}", what.lines().next().unwrap());
            return;
        }
    }
    panic!("{bug:?} is not found");
}

#[test]
fn a_fence_that_opens_early_leaves_answers_without_an_order() {
    found(Bug::FenceLifted);
}

#[test]
fn rows_that_are_left_behind_leave_answers_without_an_order() {
    found(Bug::VisibleEarly);
}

#[test]
fn old_rows_that_are_back_leave_answers_without_an_order() {
    found(Bug::OldRowsKept);
}
