use super::*;
use crate::io::buffer::ALIGNMENT;
use crate::io::virtual_time::VirtualRuntime;

fn page(byte: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(ALIGNMENT);
    buf.fill(byte);
    buf
}

/// Runs `body` on an empty disk with one durable directory `/d`.
fn on_disk<F: Future>(latency_nanos: Range<u64>, body: impl FnOnce(Runtime, MemoryDisk) -> F) -> F::Output {
    let virtual_time = VirtualRuntime::new(1);
    let runtime = virtual_time.runtime();
    let disk = MemoryDisk::new(&runtime, 1, MemoryConfig { latency_nanos, capacity_bytes: 1 << 20 });
    virtual_time.block_on(async {
        disk.create_dir(Path::new("/d")).await.unwrap();
        disk.sync_dir(Path::new("/")).await.unwrap();
        body(runtime.clone(), disk.clone()).await
    })
}

async fn durable_file(disk: &MemoryDisk, path: &str) -> Rc<dyn File> {
    let file = disk.open(Path::new(path), OpenMode::Create).await.unwrap();
    file.sync().await.unwrap();
    disk.sync_dir(Path::new("/d")).await.unwrap();
    file
}

#[test]
fn a_write_in_flight_when_the_sync_begins_is_not_covered() {
    let path = Path::new("/d/f");
    on_disk(1..1_000_000, |runtime, disk| async move {
        let file = durable_file(&disk, "/d/f").await;
        for round in 0..50u64 {
            let before = file.write_at(page(1), round * 8192, Write::Plain).await;
            before.1.unwrap();
            let sync = file.sync();
            let during = file.write_at(page(2), round * 8192 + 4096, Write::Plain);
            sync.await.unwrap();
            during.await.1.unwrap();
            let after = disk.crash(&runtime, round, CrashMode::Lose);
            let content = after.contents(path).unwrap();
            let at = usize::try_from(round).unwrap() * 8192;
            assert_eq!(content.len(), at + 4096, "round {round}: the second write survived");
            assert_eq!(content[at], 1);
            file.sync().await.unwrap();
        }
    });
}

#[test]
fn synced_writes_survive_every_crash_and_unsynced_ones_come_in_all_shapes() {
    on_disk(0..1, |runtime, disk| async move {
        let path = Path::new("/d/f");
        let file = durable_file(&disk, "/d/f").await;
        file.write_at(page(1), 0, Write::Plain).await.1.unwrap();
        file.write_at(page(2), 0, Write::Synced).await.1.unwrap();
        file.write_at(page(3), 4096, Write::Plain).await.1.unwrap();
        let mut shapes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let content = disk.crash(&runtime, seed, CrashMode::Scramble).contents(path).unwrap();
            assert!(content[..4096].iter().all(|&byte| byte == 2), "seed {seed}");
            shapes.insert(content[4096..].iter().filter(|&&byte| byte == 3).count());
        }
        assert!(shapes.contains(&0) && shapes.contains(&4096) && shapes.len() > 4, "{shapes:?}");
        let kept = disk.crash(&runtime, 0, CrashMode::Keep).contents(path).unwrap();
        assert_eq!(kept[4096..], [3; 4096]);
    });
}

#[test]
fn a_synced_write_does_not_make_earlier_ones_durable() {
    on_disk(0..1, |runtime, disk| async move {
        let file = durable_file(&disk, "/d/f").await;
        file.write_at(page(1), 0, Write::Plain).await.1.unwrap();
        file.write_at(page(2), 4096, Write::Synced).await.1.unwrap();
        let content = disk.crash(&runtime, 0, CrashMode::Lose).contents(Path::new("/d/f")).unwrap();
        assert_eq!((content[0], content[4096]), (0, 2));
    });
}

#[test]
fn names_not_synced_are_there_or_not_and_rename_is_atomic() {
    on_disk(0..1, |runtime, disk| async move {
        let (from, to) = (Path::new("/d/from"), Path::new("/d/to"));
        let file = durable_file(&disk, "/d/from").await;
        file.write_at(page(7), 0, Write::Synced).await.1.unwrap();
        disk.rename(from, to).await.unwrap();
        let mut seen = [false; 2];
        for seed in 0..50 {
            let after = disk.crash(&runtime, seed, CrashMode::Scramble);
            let there = (after.contents(from).is_some(), after.contents(to).is_some());
            assert!(there.0 != there.1, "seed {seed}: exactly one name");
            seen[usize::from(there.1)] = true;
        }
        assert_eq!(seen, [true; 2]);
        disk.sync_dir(Path::new("/d")).await.unwrap();
        let after = disk.crash(&runtime, 0, CrashMode::Lose);
        assert_eq!(after.files(), [to]);
    });
}

#[test]
fn what_lies_in_a_lost_directory_is_lost() {
    on_disk(0..1, |runtime, disk| async move {
        disk.create_dir(Path::new("/d/e")).await.unwrap();
        disk.open(Path::new("/d/e/f"), OpenMode::Create).await.unwrap();
        disk.sync_dir(Path::new("/d/e")).await.unwrap();
        assert_eq!(disk.crash(&runtime, 0, CrashMode::Lose).files(), [] as [&Path; 0]);
        disk.sync_dir(Path::new("/d")).await.unwrap();
        assert_eq!(disk.crash(&runtime, 0, CrashMode::Lose).files(), [Path::new("/d/e/f")]);
    });
}

#[test]
fn what_a_killed_process_wrote_is_seen_and_a_later_crash_takes_it_unless_it_is_synced() {
    on_disk(0..1, |runtime, disk| async move {
        let path = Path::new("/d/f");
        let file = disk.open(path, OpenMode::Create).await.unwrap();
        file.write_at(page(7), 0, Write::Plain).await.1.unwrap();
        let next = disk.crash(&runtime, 1, CrashMode::Kill);
        assert_eq!(next.contents(path).unwrap(), [7; ALIGNMENT]);
        assert_eq!(next.crash(&runtime, 1, CrashMode::Lose).files(), [] as [&Path; 0]);
        next.open(path, OpenMode::ReadWrite).await.unwrap().sync().await.unwrap();
        next.sync_dir(Path::new("/d")).await.unwrap();
        assert_eq!(next.crash(&runtime, 1, CrashMode::Lose).contents(path).unwrap(), [7; ALIGNMENT]);
    });
}

#[test]
fn the_disk_stops_at_every_boundary_and_tells_no_one() {
    let run = |stop: Option<u64>| {
        let virtual_time = VirtualRuntime::new(1);
        let disk = MemoryDisk::new(&virtual_time.runtime(), 1, MemoryConfig::default());
        if let Some(stop) = stop {
            disk.crash_after(stop);
        }
        let told = Rc::new(Cell::new(0u64));
        let done = virtual_time.try_block_on(async {
            let file = disk.open(Path::new("f"), OpenMode::Create).await.unwrap();
            told.set(1);
            for block in 0..4 {
                file.write_at(page(1), block * 4096, Write::Synced).await.1.unwrap();
                told.set(told.get() + 1);
            }
        });
        assert_eq!(done.is_ok(), stop.is_none());
        assert_eq!(disk.is_stopped(), stop.is_some());
        let last = stop.map(|stop| {
            let op = if stop <= 2 { DiskOp::Open } else { DiskOp::Write };
            (op, if stop.is_multiple_of(2) { Stage::Completed } else { Stage::Issued })
        });
        assert_eq!(disk.stopped_by().map(|event| (event.op, event.stage)), last);
        (disk.boundaries(), told.get())
    };
    let (boundaries, told) = run(None);
    assert_eq!((boundaries, told), (10, 5));
    for stop in 1..=boundaries {
        assert_eq!(
            run(Some(stop)),
            (stop, (stop - 1) / 2),
            "an operation whose completion is the end is not told"
        );
    }
}

#[test]
fn a_dropped_write_still_happens() {
    on_disk(10..20, |runtime, disk| async move {
        let file = durable_file(&disk, "/d/f").await;
        drop(file.write_at(page(9), 0, Write::Plain));
        runtime.sleep(Duration::from_nanos(100)).await;
        assert_eq!(disk.contents(Path::new("/d/f")).unwrap(), [9; 4096]);
    });
}

#[test]
fn the_device_fills_up_and_empties_with_the_last_handle() {
    on_disk(0..1, |_, disk| async move {
        let path = Path::new("/d/f");
        let file = disk.open(path, OpenMode::Create).await.unwrap();
        file.allocate(1 << 20).await.unwrap();
        assert_eq!((file.size().await.unwrap(), disk.free_bytes(path).await.unwrap()), (0, 0));
        file.write_at(page(1), 0, Write::Plain).await.1.unwrap();
        let other = disk.open(Path::new("/d/g"), OpenMode::Create).await.unwrap();
        let refused = other.write_at(page(1), 0, Write::Plain).await.1.unwrap_err();
        assert!(refused.is_no_space(), "{refused}");
        disk.remove(path).await.unwrap();
        assert_eq!(disk.free_bytes(path).await.unwrap(), 0, "an open file keeps its space");
        drop(file);
        assert_eq!(disk.free_bytes(path).await.unwrap(), 1 << 20);
        other.write_at(page(1), 0, Write::Plain).await.1.unwrap();
    });
}

#[test]
fn the_recorder_sees_issues_and_ends_in_order() {
    on_disk(5..6, |_, disk| async move {
        let file = durable_file(&disk, "/d/f").await;
        disk.record();
        file.write_at(page(1), 0, Write::Synced).await.1.unwrap();
        disk.remove(Path::new("/d/none")).await.unwrap_err();
        let events: Vec<_> = disk.events().into_iter().map(|event| (event.op, event.stage)).collect();
        let (write, remove) = (DiskOp::Write, DiskOp::Remove);
        let expected = [
            (write, Stage::Issued),
            (write, Stage::Completed),
            (remove, Stage::Issued),
            (remove, Stage::Failed),
        ];
        assert_eq!(events, expected);
        assert!(disk.durable_contains(Path::new("/d/f"), &[1; 100]));
    });
}

#[test]
fn flipped_bits_are_seen_and_stay() {
    on_disk(0..1, |runtime, disk| async move {
        let path = Path::new("/d/f");
        let file = durable_file(&disk, "/d/f").await;
        file.write_at(page(0), 0, Write::Synced).await.1.unwrap();
        assert!(disk.flip(path, 8 * 100 + 3) && !disk.flip(path, 8 * 4096));
        assert_eq!(file.read_at(page(0), 0).await.0[100], 8);
        assert_eq!(disk.crash(&runtime, 0, CrashMode::Lose).contents(path).unwrap()[100], 8);
    });
}

/// What one sector may hold after a crash: what was durable, or any unsynced write of it.
#[derive(Clone, Default)]
struct SectorModel {
    durable: u8,
    unsynced: Vec<u8>,
}

#[test]
fn random_writes_and_crashes_match_a_model_of_sectors() {
    const BLOCKS: usize = 16;
    const SECTORS: usize = 8;
    for seed in 0..20 {
        on_disk(0..1, |runtime, disk| async move {
            let mut random = fastrand::Rng::with_seed(seed);
            let path = Path::new("/d/f");
            let file = durable_file(&disk, "/d/f").await;
            file.write_at(AlignedBuf::zeroed(BLOCKS * ALIGNMENT), 0, Write::Synced).await.1.unwrap();
            let mut model = vec![SectorModel::default(); BLOCKS * SECTORS];
            for step in 0..60u8 {
                let first = random.usize(..BLOCKS);
                let count = random.usize(1..=BLOCKS - first);
                let mut buf = AlignedBuf::zeroed(count * ALIGNMENT);
                buf.fill(step + 1);
                let sectors = &mut model[first * SECTORS..(first + count) * SECTORS];
                match random.u8(..4) {
                    0 => {
                        file.sync().await.unwrap();
                        let written = model.iter_mut().filter(|sector| !sector.unsynced.is_empty());
                        for sector in written {
                            sector.durable = sector.unsynced.pop().unwrap();
                            sector.unsynced.clear();
                        }
                    }
                    1 => {
                        file.write_at(buf, (first * ALIGNMENT) as u64, Write::Synced).await.1.unwrap();
                        sectors.fill(SectorModel { durable: step + 1, unsynced: Vec::new() });
                    }
                    _ => {
                        file.write_at(buf, (first * ALIGNMENT) as u64, Write::Plain).await.1.unwrap();
                        sectors.iter_mut().for_each(|sector| sector.unsynced.push(step + 1));
                    }
                }
                let crashed = disk.crash(&runtime, random.u64(..), CrashMode::Scramble);
                let content = crashed.contents(path).unwrap();
                for (number, (sector, bytes)) in model.iter().zip(content.chunks(512)).enumerate() {
                    let byte = bytes[0];
                    assert!(
                        bytes.iter().all(|&other| other == byte),
                        "seed {seed}: sector {number} is torn inside"
                    );
                    let allowed = byte == sector.durable || sector.unsynced.contains(&byte);
                    assert!(allowed, "seed {seed}, step {step}: sector {number} holds {byte}");
                }
                let least = disk.crash(&runtime, 0, CrashMode::Lose).contents(path).unwrap();
                let durable =
                    model.iter().zip(least.chunks(512)).all(|(sector, bytes)| bytes[0] == sector.durable);
                assert!(durable, "seed {seed}, step {step}");
            }
        });
    }
}

#[test]
fn the_same_seed_gives_the_same_events() {
    let run = |seed| {
        let virtual_time = VirtualRuntime::new(seed);
        let runtime = virtual_time.runtime();
        let config = MemoryConfig { latency_nanos: 100..10_000, ..MemoryConfig::default() };
        let disk = MemoryDisk::new(&runtime, seed, config);
        disk.record();
        virtual_time.block_on(async {
            let file = disk.open(Path::new("f"), OpenMode::Create).await.unwrap();
            let writes: Vec<_> =
                (0..50).map(|block| file.write_at(page(1), block * 4096, Write::Plain)).collect();
            for write in writes {
                write.await.1.unwrap();
            }
        });
        disk.events()
    };
    let (first, again, other) = (run(3), run(3), run(4));
    assert_eq!(first, again);
    assert_ne!(first, other);
    let ends: Vec<u64> =
        first.iter().filter(|event| event.stage == Stage::Completed).map(|event| event.number).collect();
    assert!(!ends.is_sorted(), "operations overtake each other");
}
