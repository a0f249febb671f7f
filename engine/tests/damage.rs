//! Damage to any file, and devices that fail or are full: named and refused, or harmless; never wrong, never a panic.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and says where it was")]

mod common;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use common::campaign::choose;
use common::faults::{CALLERS, Halted, any, live_faulty, live_unflushed, plan, rule};
use common::flips::{Report, Subject};
use common::kinds::kind_of;
use common::life::{Birth, DIR, live, tiny, work};
use common::model::Model;
use common::workload::verify;
use foreshard_engine::io::disk::{Disk, DiskOp};
use foreshard_engine::io::fault::{Fault, FaultDisk, When};
use foreshard_engine::io::memory::{CrashMode, MemoryDisk};
use foreshard_engine::io::runtime::Runtime;
use foreshard_engine::io::virtual_time::VirtualRuntime;
use foreshard_engine::{Client, Error, SimulatedStore};

/// What a caller could learn from a damaged store.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Intact,
    Corrupt(PathBuf),
}

/// Opens what is left of `disk` after `damage` and compares all of it.
fn open_damaged(disk: &MemoryDisk, model: &Rc<Model>, damage: impl FnOnce(&MemoryDisk)) -> Found {
    open_and(disk, damage, async |client, runtime| verify(client, model, runtime).await)
}

/// Opens what is left of `disk` after `damage` and looks at it.
fn open_and(
    disk: &MemoryDisk,
    damage: impl FnOnce(&MemoryDisk),
    look: impl AsyncFnOnce(&Client, &Runtime) -> Result<(), Error>,
) -> Found {
    let world = VirtualRuntime::new(7);
    let runtimes: Vec<Runtime> = (0..2).map(|_| world.runtime()).collect();
    let disk = disk.crash(&runtimes[0], 7, CrashMode::Lose);
    damage(&disk);
    let result = world.block_on(async {
        let shared: Rc<dyn Disk> = Rc::new(disk.clone());
        let store = SimulatedStore::open(&runtimes, shared, Path::new(DIR), tiny(), 7).await?;
        let client: Client = store.client()?;
        look(&client, &runtimes[0]).await
    });
    match result {
        Ok(()) => Found::Intact,
        Err(Error::Corrupt(what)) => Found::Corrupt(what.path.clone()),
        Err(Error::Misuse(what)) if what.contains("superblock") => Found::Corrupt("SUPER".into()),
        Err(other) => panic!("neither intact nor corrupt: {other}"),
    }
}

/// A clean stop's disk and what is on it.
fn stopped(seed: u64) -> (MemoryDisk, Rc<Model>) {
    let model = Rc::new(Model::new(CALLERS));
    let lived = live(Birth::New, &model, &plan(seed, 60));
    (lived.disk, model)
}

#[test]
fn a_flipped_bit_is_named_or_changes_nothing() {
    for is_closed in [true, false] {
        let subject = Subject::new(1, 12, is_closed);
        let places = subject.places(1);
        let mut report = Report::default();
        for n in choose(places.len() as u64, 300, 1) {
            let place = &places[usize::try_from(n - 1).unwrap()];
            eprintln!("{place:?}");
            subject.flip(place, &mut report);
        }
        eprintln!("closed {is_closed}: {report:?}");
        for kind in ["log", "segment"] {
            assert!(report[kind].named > 0, "closed {is_closed}: {report:?}");
        }
    }
}

#[test]
fn a_lost_or_short_file_is_named_or_was_not_needed() {
    let (disk, model) = stopped(3);
    let mut named = 0;
    for file in disk.files() {
        let kind = kind_of(&file);
        eprintln!("{}", file.display());
        let lost = open_damaged(&disk, &model, |disk| {
            let _gone = disk.lose(&file);
        });
        named += u32::from(kind == "segment" && lost != Found::Intact);
        let len = disk.contents(&file).unwrap().len();
        let short = open_damaged(&disk, &model, |disk| {
            let _gone = disk.truncate(&file, len / 2 / 4096 * 4096);
        });
        named += u32::from(kind == "segment" && short != Found::Intact);
    }
    assert!(named > 4, "lost and short segments were named {named} times");
}

/// Every state of the disk, as a killed process leaves it, in which a segment's file has just gone; with its directory.
fn after_each_removal(seed: u64) -> Vec<(MemoryDisk, PathBuf)> {
    let world = VirtualRuntime::new(seed);
    let runtimes: Vec<Runtime> = (0..2).map(|_| world.runtime()).collect();
    let disk = Birth::New.disk(&runtimes[0], seed);
    let model = Rc::new(Model::new(CALLERS));
    let states = RefCell::new(Vec::new());
    let segments = |disk: &MemoryDisk| -> BTreeSet<PathBuf> {
        disk.files().into_iter().filter(|file| kind_of(file) == "segment").collect()
    };
    let life = async {
        let shared: Rc<dyn Disk> = Rc::new(disk.clone());
        let store = SimulatedStore::open(&runtimes, shared, Path::new(DIR), tiny(), seed).await.unwrap();
        work(&store, &runtimes, &model, &plan(seed, 100), None, false).await.unwrap();
    };
    let watch = async {
        let mut before = segments(&disk);
        loop {
            // Less than most operations of this disk take.
            runtimes[0].sleep(Duration::from_micros(10)).await;
            let now = segments(&disk);
            for gone in before.difference(&now) {
                let left = disk.crash(&runtimes[0], seed, CrashMode::Keep);
                states.borrow_mut().push((left, gone.parent().unwrap().to_path_buf()));
            }
            before = now;
        }
    };
    world.block_on(futures_lite::future::or(life, watch));
    states.into_inner()
}

#[test]
fn segments_are_removed_only_when_the_log_proves_the_edit_that_dropped_them() {
    let mut named = 0;
    for seed in [1, 2] {
        for (disk, partition) in after_each_removal(seed) {
            let newest = |file: &PathBuf| {
                let name = file.file_name().unwrap().to_str().unwrap();
                name.strip_prefix("manifest-").unwrap().parse::<u64>().unwrap()
            };
            let last_byte = |file: PathBuf| {
                let bytes = disk.contents(&file)?;
                // None where the next manifest has been given its name and not yet its snapshot.
                let last = bytes.iter().rposition(|byte| *byte != 0)?;
                Some((file, last as u64))
            };
            let files = disk.files().into_iter().filter(|f| f.starts_with(&partition));
            let manifests = files.filter(|f| kind_of(f) == "manifest").filter_map(last_byte);
            let (manifest, last) = manifests.max_by_key(|(file, _)| newest(file)).unwrap();
            let damage = |disk: &MemoryDisk| assert!(disk.flip(&manifest, last * 8));
            // Its last edit damaged, the manifest must not be taken for one that ends before it: what that names is
            // gone.
            match open_and(&disk, damage, async |_, _| Ok(())) {
                Found::Intact => {}
                Found::Corrupt(path) => {
                    assert_eq!(kind_of(&path), "manifest", "seed {seed}: {} is missed", path.display());
                    named += 1;
                }
            }
        }
    }
    assert!(named > 10, "{named} manifests were found to end early");
}

#[test]
fn nothing_that_is_not_committed_is_flushed() {
    let world = VirtualRuntime::new(5);
    let runtimes = [world.runtime()];
    let memory = Birth::New.disk(&runtimes[0], 5);
    let faulty = FaultDisk::new(Rc::new(memory.clone()), &runtimes[0], 5);
    let segments = || memory.files().iter().filter(|file| kind_of(file) == "segment").count();
    world.block_on(async {
        let shared: Rc<dyn Disk> = Rc::new(faulty.clone());
        let store = SimulatedStore::open(&runtimes, shared, Path::new(DIR), tiny(), 5).await.unwrap();
        faulty.add(rule(DiskOp::Write, ".wal", When::From(1), Fault::Slow(Duration::from_secs(1))));
        let writes = (0..8).map(|n| {
            let client = store.client().unwrap();
            runtimes[0].spawn(async move { client.put(b"one", &[n], &[n; 3000]).await })
        });
        let writes: Vec<_> = writes.collect();
        runtimes[0].sleep(Duration::from_millis(500)).await;
        let stats = store.shard(0).unwrap().stats();
        assert!(stats.memtable_bytes > tiny().memtable_bytes, "full memtables wait: {stats:?}");
        assert_eq!(segments(), 0, "the log has none of it yet");
        for write in writes {
            write.await.unwrap();
        }
        runtimes[0].sleep(Duration::from_secs(1)).await;
        assert!(segments() > 0, "it has all of it");
    });
}

#[test]
fn a_device_that_fails_loses_nothing_acknowledged() {
    let mut struck = 0;
    for seed in 0..2 {
        for op in [DiskOp::Write, DiskOp::Sync, DiskOp::SyncDir, DiskOp::Open, DiskOp::Read, DiskOp::Remove] {
            for path in [".wal", ".seg", "manifest", ""] {
                let nth = 1 + fastrand::Rng::with_seed(seed + op as u64).u64(..12);
                eprintln!("seed {seed}: {op:?} {nth} of {path:?} fails");
                struck += live_faulty(seed, &[rule(op, path, When::Nth(nth), Fault::Failed)]).faults;
            }
        }
    }
    assert!(struck > 20, "{struck}");
}

#[test]
fn a_full_device_refuses_writes_and_takes_them_again_when_there_is_room() {
    let mut struck = 0;
    for seed in 0..3 {
        for (op, path) in [
            (DiskOp::Write, ".seg"),
            (DiskOp::Write, "manifest"),
            (DiskOp::Open, "manifest"),
            (DiskOp::Open, ".seg"),
            (DiskOp::Allocate, ".wal"),
            (DiskOp::Write, ".wal"),
        ] {
            for when in [When::Nth(2), When::From(1), When::Chance(0.3)] {
                eprintln!("seed {seed}: no space for {op:?} of {path:?} {when:?}");
                struck += live_faulty(seed, &[rule(op, path, when, Fault::NoSpace)]).faults;
            }
        }
    }
    assert!(struck > 20, "{struck}");
}

#[test]
fn an_opening_on_a_device_that_fails_says_so_and_the_next_one_finds_everything() {
    let halted = Halted::new(1);
    let mut struck = 0;
    for fault in [Fault::Failed, Fault::Short, Fault::NoSpace] {
        for nth in (1..400).step_by(13) {
            struck += halted.open_faulty(&any(When::Nth(nth), fault));
        }
        struck += halted.open_faulty(&any(When::Chance(0.02), fault));
    }
    assert!(struck > 30, "{struck}");
}

#[test]
fn operations_that_fail_by_chance_lose_nothing_acknowledged_and_a_failed_log_stays_so() {
    let (mut faults, mut stopped) = (0, 0);
    for seed in 0..3 {
        for fault in [Fault::Failed, Fault::Short] {
            for chance in [0.001, 0.01] {
                let struck = live_faulty(seed, &[any(When::Chance(chance), fault)]);
                faults += struck.faults;
                stopped += struck.stopped;
            }
        }
    }
    assert!(faults > 10 && stopped > 5, "{faults} operations failed, {stopped} shards stopped");
}

#[test]
fn a_log_s_flush_that_failed_is_final_although_later_ones_would_succeed() {
    let struck = (0..4).flat_map(|seed| [1, 2, 5, 12].map(|nth| (seed, nth)));
    let struck = struck.filter(|(seed, nth)| {
        eprintln!("seed {seed}: flush {nth}");
        live_unflushed(*seed, *nth)
    });
    assert!(struck.count() > 8);
}
