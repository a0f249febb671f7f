//! The log as a whole: written, crashed, damaged, read back. One test for each row of FORMAT.md's table
//! "WAL: torn or corrupt" (`row_*`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use super::config::{Durability, FILE_BYTES_MIN, WalConfig};
use super::format::{BLOCK_BYTES, LogId, SlotHeader};
use super::log::{Ticket, Wal};
use super::record::{Body, Intent, RecordHeader};
use super::recover::{LogEnd, LogReader};
use crate::entry::Expiry;
use crate::error::{Error, Result};
use crate::ids::{EditNumber, Epoch, Incarnation, Index, Lsn, PartitionId, ShardId, Version};
use crate::io::disk::{Disk, DiskOp};
use crate::io::fault::{Fault, FaultDisk, Rule, When};
use crate::io::memory::{CrashMode, DiskEvent, MemoryConfig, MemoryDisk, Stage};
use crate::io::runtime::Runtime;
use crate::io::virtual_time::VirtualRuntime;
use crate::superblock::StoreId;

const FILE: u64 = FILE_BYTES_MIN;
const DIR: &str = "/wal/0";
const ID: LogId = LogId { store: StoreId([9; 16]), incarnation: Incarnation(3), shard: ShardId(0) };

fn config() -> WalConfig {
    WalConfig {
        id: ID,
        dir: PathBuf::from(DIR),
        file_bytes: FILE,
        cap_bytes: 4 * FILE,
        batch_bytes_max: 16 << 10,
        durability: Durability::Always,
    }
}

fn path(number: usize) -> PathBuf {
    Path::new(DIR).join(format!("{number}.wal"))
}

fn disk_of(runtime: &Runtime, seed: u64) -> MemoryDisk {
    MemoryDisk::new(runtime, seed, MemoryConfig { latency_nanos: 1000..100_000, ..MemoryConfig::default() })
}

fn shared(disk: &MemoryDisk) -> Rc<dyn Disk> {
    Rc::new(disk.clone())
}

async fn create(runtime: &Runtime, disk: &MemoryDisk, config: WalConfig) -> Rc<Wal> {
    disk.create_dir(Path::new("/wal")).await.unwrap();
    disk.sync_dir(Path::new("/")).await.unwrap();
    Wal::create(runtime, shared(disk), config).await.unwrap()
}

/// Runs `body` on an empty disk.
fn run<F: Future>(seed: u64, body: impl FnOnce(Runtime, MemoryDisk) -> F) -> F::Output {
    let time = VirtualRuntime::new(seed);
    let runtime = time.runtime();
    let disk = disk_of(&runtime, seed);
    time.block_on(body(runtime, disk))
}

fn append(wal: &Wal, index: u64, value_bytes: usize) -> Result<Ticket> {
    let header = RecordHeader { partition: PartitionId(1), epoch: Epoch(1), index: Index(index), time_ms: 1 };
    let value = vec![u8::try_from(index % 251).unwrap(); value_bytes];
    wal.append(&header, &Intent::Write, |rows| {
        rows.put(&index.to_be_bytes(), &value, Expiry::NEVER, Version(index));
    })
}

async fn put(wal: &Wal, index: u64, value_bytes: usize) -> Ticket {
    let ticket = append(wal, index, value_bytes).unwrap();
    wal.committed(ticket).await.unwrap();
    ticket
}

/// What a log says: indexes in order, witnesses, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    indexes: Vec<u64>,
    witnesses: BTreeMap<PartitionId, EditNumber>,
    end: LogEnd,
}

async fn read(disk: &MemoryDisk) -> Result<Found> {
    let mut reader = LogReader::open(&shared(disk), Path::new(DIR), ID, FILE).await?;
    let (mut indexes, mut witnesses) = (Vec::new(), BTreeMap::new());
    while let Some(batch) = reader.next_batch().await? {
        for record in batch.records() {
            let record = record.unwrap();
            match record.body {
                Body::Write(rows) => {
                    assert!(rows.into_iter().all(|row| row.is_ok()));
                    indexes.push(record.header.index.0);
                }
                Body::Witness(pairs) => witnesses.extend(pairs.iter()),
                Body::Prepare { .. } | Body::Decide { .. } | Body::Resolve { .. } | Body::Time => {
                    panic!("not written here")
                }
            }
        }
    }
    Ok(Found { indexes, witnesses, end: reader.end().clone() })
}

fn damage(result: Result<Found>) -> (PathBuf, u64) {
    match result {
        Err(Error::Corrupt(corruption)) => (corruption.path.clone(), corruption.offset),
        other => panic!("expected corruption, got {other:?}"),
    }
}

/// A log of `count` one-record batches, closed or not. Returns the offset in the first file of each.
async fn batches(wal: &Wal, count: u64) -> Vec<u64> {
    let mut offsets = Vec::new();
    for index in 1..=count {
        offsets.push(put(wal, index, 100).await.lsn.0 % FILE);
    }
    offsets
}

/// What a crash leaves at this moment.
fn crashed(runtime: &Runtime, disk: &MemoryDisk) -> MemoryDisk {
    disk.crash(runtime, 1, CrashMode::Lose)
}

#[test]
fn what_was_appended_is_read_back_in_order() {
    run(1, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        batches(&wal, 20).await;
        wal.witness(PartitionId(1), EditNumber(7)).unwrap();
        wal.close().await.unwrap();
        assert!(matches!(append(&wal, 21, 1), Err(Error::Closed)));
        let found = read(&crashed(&runtime, &disk)).await.unwrap();
        assert!(found.indexes.iter().copied().eq(1..=20));
        assert_eq!(found.witnesses[&PartitionId(1)], EditNumber(7));
        assert_eq!(found.end.torn, None);
    });
}

#[test]
fn callers_of_one_turn_share_a_batch() {
    run(1, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        let first = append(&wal, 1, 10).unwrap();
        let tickets: Vec<_> = (2..50).map(|index| append(&wal, index, 10).unwrap()).collect();
        wal.committed(first).await.unwrap();
        assert!(tickets.iter().all(|t| t.batch == first.batch && wal.committed_batch() >= t.batch));
    });
}

#[test]
fn a_batch_that_waits_is_on_its_way_before_the_callers_of_the_one_before_are_told() {
    run(1, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        let first = append(&wal, 1, 10).unwrap();
        while wal.pending_bytes() > 0 {
            runtime.yield_now().await;
        }
        disk.record();
        let second = append(&wal, 2, 10).unwrap();
        wal.committed(first).await.unwrap();
        assert_eq!(wal.committed_batch() + 1, second.batch, "the second is not there yet");
        let (at, len) = (second.lsn.0 % FILE, BLOCK_BYTES as u64);
        let is_its = |e: &DiskEvent| (e.op, e.offset, e.len) == (DiskOp::Write, at, len);
        assert!(disk.events().iter().any(is_its), "the second is on its way");
        // Nobody is behind it, and still its caller is told.
        wal.committed(second).await.unwrap();
    });
}

#[test]
fn a_log_runs_through_its_files_many_times_and_never_exceeds_its_cap() {
    run(2, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        let mut pins: std::collections::VecDeque<(u64, Ticket)> = std::collections::VecDeque::new();
        let mut rng = fastrand::Rng::with_seed(2);
        wal.witness(PartitionId(4), EditNumber(1)).unwrap();
        for index in 1..=600 {
            let bytes = rng.usize(..20_000);
            loop {
                let flush = async { Err(wal.pressed().await) };
                let ready = async { wal.ready(bytes + 100).await.map_err(|e| panic!("{e}")) };
                match future::or(flush, ready).await {
                    Ok(()) => break,
                    Err(upto) => {
                        pins.retain(|(_, ticket)| ticket.lsn >= upto);
                        wal.witness(PartitionId(1), EditNumber(index)).unwrap();
                        wal.release(upto);
                    }
                }
            }
            let ticket = append(&wal, index, bytes).unwrap();
            pins.push_back((index, ticket));
            if rng.u8(..4) == 0 {
                wal.committed(ticket).await.unwrap();
            }
            let files = disk.files();
            assert!(files.len() as u64 * FILE <= wal.cap_bytes(), "{files:?}");
            if index % 50 == 0 {
                wal.committed(ticket).await.unwrap();
                let found = read(&crashed(&runtime, &disk)).await.unwrap();
                let oldest = pins.front().unwrap().0;
                assert!(found.indexes.iter().copied().any(|i| i == oldest), "{oldest} is needed");
                assert_eq!(found.indexes.last(), Some(&index));
                assert!(found.indexes.windows(2).all(|pair| pair[0] + 1 == pair[1]));
                assert_eq!(found.witnesses[&PartitionId(4)], EditNumber(1), "recycling loses no witness");
            }
        }
        assert!(wal.head_lsn().0 > 40 * FILE);
    });
}

#[test]
fn every_crash_point_keeps_what_was_acknowledged_and_recovers() {
    let workload = |runtime: Runtime, disk: MemoryDisk, acked: Rc<std::cell::Cell<u64>>| async move {
        let small = WalConfig { cap_bytes: 2 * FILE, ..config() };
        let wal = create(&runtime, &disk, small).await;
        acked.set(1);
        for index in 1..=24 {
            loop {
                let flush = async { Err(wal.pressed().await) };
                let ready = async { wal.ready(9100).await.map_err(|e| panic!("{e}")) };
                let Err(upto) = future::or(flush, ready).await else { break };
                wal.release(upto);
            }
            put(&wal, index, 9000).await;
            acked.set(index + 1);
            if index % 8 == 0 {
                runtime.sleep(Duration::from_millis(20)).await;
            }
        }
        wal.close().await.unwrap();
    };
    let total = {
        let time = VirtualRuntime::new(5);
        let (runtime, acked) = (time.runtime(), Rc::default());
        let disk = disk_of(&runtime, 5);
        time.block_on(workload(runtime, disk.clone(), acked));
        disk.boundaries()
    };
    assert!(total > 60, "{total} boundaries");
    for boundary in 1..=total {
        let time = VirtualRuntime::new(5);
        let (runtime, acked) = (time.runtime(), Rc::new(std::cell::Cell::new(0)));
        let disk = disk_of(&runtime, 5);
        disk.crash_after(boundary);
        time.block_on(async {
            let work = workload(runtime.clone(), disk.clone(), Rc::clone(&acked));
            future::or(work, disk.stopped()).await;
            for (seed, mode) in [
                CrashMode::Lose,
                CrashMode::Keep,
                CrashMode::Scramble,
                CrashMode::Scramble,
                CrashMode::Scramble,
            ]
            .into_iter()
            .enumerate()
            {
                let left = disk.crash(&runtime, seed as u64, mode);
                let Some(acked) = acked.get().checked_sub(1) else { continue };
                let found = read(&left).await;
                let found = found.unwrap_or_else(|e| panic!("boundary {boundary} {mode:?} {seed}: {e}"));
                let last = found.indexes.last().copied().unwrap_or(0);
                assert!(last >= acked, "boundary {boundary} {mode:?} {seed}: {last} of {acked}");
                assert!(last <= acked + 1, "boundary {boundary}: one batch is in flight at most");
                assert!(found.indexes.windows(2).all(|pair| pair[0] + 1 == pair[1]));
            }
        });
    }
}

#[test]
fn unflushed_logs_recover_to_an_unbroken_prefix_at_every_crash_point() {
    for durability in [Durability::Interval(Duration::from_micros(300)), Durability::None] {
        for boundary in 12..120 {
            let time = VirtualRuntime::new(boundary);
            let runtime = time.runtime();
            let disk = disk_of(&runtime, boundary);
            time.block_on(async {
                let wal = create(&runtime, &disk, WalConfig { durability, ..config() }).await;
                disk.crash_after(disk.boundaries() + boundary);
                let work = async {
                    for index in 1..=200 {
                        put(&wal, index, 3000).await;
                    }
                };
                future::or(work, disk.stopped()).await;
                for seed in 0..4 {
                    let found = read(&disk.crash(&runtime, seed, CrashMode::Scramble)).await;
                    let found = found.unwrap_or_else(|e| panic!("{durability:?} {boundary} {seed}: {e}"));
                    let count = found.indexes.len() as u64;
                    assert!(found.indexes.into_iter().eq(1..=count));
                }
            });
        }
    }
}

#[test]
fn a_flush_that_was_asked_for_is_one_and_closing_flushes() {
    for durability in [Durability::Interval(Duration::from_secs(3600)), Durability::None] {
        run(3, |runtime, disk| async move {
            let wal = create(&runtime, &disk, WalConfig { durability, ..config() }).await;
            put(&wal, 1, 10).await;
            assert_eq!(read(&crashed(&runtime, &disk)).await.unwrap().indexes, []);
            let ticket = put(&wal, 2, 10).await;
            wal.durable(ticket).await.unwrap();
            assert_eq!(read(&crashed(&runtime, &disk)).await.unwrap().indexes, [1, 2]);
            append(&wal, 3, 10).unwrap();
            wal.close().await.unwrap();
            assert_eq!(read(&crashed(&runtime, &disk)).await.unwrap().indexes, [1, 2, 3]);
        });
    }
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    run(4, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        let offsets = batches(&wal, 3).await;
        let whole = read(&crashed(&runtime, &disk)).await.unwrap();
        drop(wal);
        let disk = crashed(&runtime, &disk);
        let last = offsets[2];
        let used = (last + BLOCK_BYTES as u64) * 8;
        let mut rng = fastrand::Rng::with_seed(4);
        let unused = (0..2000).map(|_| rng.u64(used..FILE * 8));
        for bit in (0..used).chain(unused) {
            assert!(disk.flip(&path(0), bit));
            let found = read(&disk).await;
            if bit >= used {
                assert_eq!(found.unwrap(), whole, "bit {bit} is in unused space");
            } else if bit < last * 8 {
                let (file, offset) = damage(found);
                assert_eq!(file, path(0));
                let expected = (bit / 8) / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
                assert_eq!(offset, expected, "bit {bit}");
            } else {
                assert_eq!(found.unwrap().indexes, [1, 2], "bit {bit} is in the last batch");
            }
            disk.flip(&path(0), bit);
        }
    });
}

#[test]
fn row_torn_tail_is_cut_and_reported() {
    run(5, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        let offsets = batches(&wal, 3).await;
        let left = crashed(&runtime, &disk);
        let at = usize::try_from(offsets[2]).unwrap();
        left.overwrite(&path(0), at + 512, &[0xee; 512]);
        let found = read(&left).await.unwrap();
        assert_eq!(found.indexes, [1, 2]);
        let torn = found.end.torn.unwrap();
        assert_eq!((torn.path, torn.offset), (path(0), offsets[2]));
    });
}

#[test]
fn row_the_last_batch_is_in_doubt_only_until_the_log_is_idle() {
    run(5, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        let offsets = batches(&wal, 3).await;
        runtime.sleep(Duration::from_millis(20)).await;
        let left = crashed(&runtime, &disk);
        left.flip(&path(0), (offsets[2] + 200) * 8);
        assert_eq!(damage(read(&left).await), (path(0), offsets[2]));
        let idle = disk.boundaries();
        runtime.sleep(Duration::from_secs(10)).await;
        assert_eq!(disk.boundaries(), idle, "an idle log is written once");
    });
}

#[test]
fn row_damage_below_a_later_durable_position_is_corruption() {
    run(6, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        let offsets = batches(&wal, 8).await;
        let left = crashed(&runtime, &disk);
        left.flip(&path(0), (offsets[3] + 10) * 8);
        assert_eq!(damage(read(&left).await), (path(0), offsets[3]));
        // The witness of durability counts even if its own payload is torn.
        for &offset in &offsets[4..] {
            left.flip(&path(0), (offset + 300) * 8);
        }
        assert_eq!(damage(read(&left).await), (path(0), offsets[3]));
    });
}

#[test]
fn row_damage_below_a_durable_position_in_another_file_is_corruption() {
    run(7, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        for index in 1..=30 {
            put(&wal, index, 3000).await;
        }
        let left = crashed(&runtime, &disk);
        assert!(read(&left).await.unwrap().indexes.into_iter().eq(1..=30));
        // The last batch of the first file: what says that it was durable stands in the second.
        left.flip(&path(0), (FILE - 4096 + 100) * 8);
        assert_eq!(damage(read(&left).await), (path(0), FILE - 4096));
    });
}

#[test]
fn row_whole_batches_after_an_unflushed_break_are_no_evidence() {
    run(8, |runtime, disk| async move {
        let config = WalConfig { durability: Durability::None, ..config() };
        let wal = create(&runtime, &disk, config).await;
        let offsets = batches(&wal, 6).await;
        let left = disk.crash(&runtime, 1, CrashMode::Keep);
        left.flip(&path(0), (offsets[2] + 10) * 8);
        assert_eq!(read(&left).await.unwrap().indexes, [1, 2]);
    });
}

#[test]
fn row_a_lost_file_is_corruption() {
    run(9, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        for index in 1..=45 {
            put(&wal, index, 3000).await;
        }
        assert_eq!(disk.files().len(), 4, "the last one is spare");
        for lost in 0..4 {
            let left = crashed(&runtime, &disk);
            left.lose(&path(lost));
            let (file, _) = damage(read(&left).await);
            assert!(file == path(lost) || file == Path::new(DIR), "{lost}: {}", file.display());
        }
        let left = crashed(&runtime, &disk);
        left.truncate(&path(1), 8192);
        assert_eq!(damage(read(&left).await), (path(1), 0));
    });
}

#[test]
fn row_the_first_batch_is_never_torn() {
    run(10, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        for bit in [20 * 8, (BLOCK_BYTES as u64 + 20) * 8] {
            let left = crashed(&runtime, &disk);
            left.flip(&path(0), bit);
            assert_eq!(damage(read(&left).await).0, path(0));
        }
        drop(wal);
        let empty = disk_of(&runtime, 1);
        assert_eq!(damage(read(&empty).await), (PathBuf::from(DIR), 0));
        empty.create_dir(Path::new("/wal")).await.unwrap();
        empty.create_dir(Path::new(DIR)).await.unwrap();
        assert_eq!(damage(read(&empty).await), (PathBuf::from(DIR), 0));
    });
}

#[test]
fn row_a_torn_slot_header_over_a_whole_first_batch_is_accepted() {
    run(11, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        let mut index = 0;
        loop {
            index += 1;
            if put(&wal, index, 3000).await.lsn.0 > FILE {
                break;
            }
        }
        // In doubt: the only batch of the second slot is the last one.
        let left = crashed(&runtime, &disk);
        left.flip(&path(1), 30 * 8);
        assert!(read(&left).await.unwrap().indexes.into_iter().eq(1..=index));
        // Not in doubt any more: another batch says so.
        put(&wal, index + 1, 10).await;
        let left = crashed(&runtime, &disk);
        left.flip(&path(1), 30 * 8);
        assert_eq!(damage(read(&left).await), (path(1), 0));
    });
}

#[test]
fn row_another_owners_file_is_corruption_and_an_earlier_incarnations_is_ignored() {
    run(12, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        batches(&wal, 3).await;
        let found = read(&disk).await.unwrap();
        for (id, is_stale) in [
            (LogId { store: StoreId([8; 16]), ..ID }, false),
            (LogId { incarnation: Incarnation(4), ..ID }, false),
            (LogId { shard: ShardId(1), ..ID }, false),
            (LogId { incarnation: Incarnation(2), shard: ShardId(5), ..ID }, true),
        ] {
            let other = WalConfig { id, dir: PathBuf::from("/wal/other"), ..config() };
            let other = Wal::create(&runtime, shared(&disk), other).await.unwrap();
            batches(&other, 5).await;
            other.close().await.unwrap();
            disk.rename(Path::new("/wal/other/0.wal"), &path(7)).await.unwrap();
            if is_stale {
                assert_eq!(read(&disk).await.unwrap(), found);
            } else {
                assert_eq!(damage(read(&disk).await).0, path(7));
            }
        }
    });
}

#[test]
fn adopted_files_are_used_again_and_their_old_batches_are_not_seen() {
    run(13, |runtime, disk| async move {
        let old = LogId { incarnation: Incarnation(2), ..ID };
        let old_config = WalConfig { id: old, dir: PathBuf::from("/wal/old"), ..config() };
        let wal = create(&runtime, &disk, old_config).await;
        for index in 1..=45 {
            put(&wal, index, 3000).await;
        }
        wal.close().await.unwrap();
        assert_eq!(disk.files().len(), 4);
        let reader = LogReader::open(&shared(&disk), Path::new("/wal/old"), old, FILE).await.unwrap();
        let files = reader.written_files();
        assert!(
            !files.is_empty() && files.len() < 4,
            "the newest slot's file may end with room never written"
        );
        let wal = Wal::create(&runtime, shared(&disk), config()).await.unwrap();
        let newest = disk.files().into_iter().find(|file| !file.starts_with(DIR) && !files.contains(file));
        wal.adopt(files.clone()).await.unwrap();
        assert!(files.iter().all(|file| !disk.files().contains(file)), "they have another name");
        for index in 1..=45 {
            put(&wal, index, 3000).await;
        }
        let left = crashed(&runtime, &disk);
        assert!(read(&left).await.unwrap().indexes.into_iter().eq(1..=45));
        assert!(disk.files().contains(&newest.unwrap()), "whoever removes old logs removes it");
        assert_eq!(disk.files().iter().filter(|file| file.starts_with(DIR)).count(), 4, "the cap");
    });
}

#[test]
fn batches_are_written_only_where_something_was_written_and_flushed_before() {
    const LONG_FILE: u64 = 20 << 20;
    const SLICE: u64 = 1 << 20;
    for seed in 20..24 {
        let events = run(seed, |runtime, disk| async move {
            let config = WalConfig { file_bytes: LONG_FILE, cap_bytes: 4 * LONG_FILE, ..config() };
            disk.record();
            let wal = create(&runtime, &disk, config).await;
            let written = disk.events().iter().filter(|e| e.op == DiskOp::Write).map(|e| e.len).sum::<u64>();
            assert!(written < 3 * SLICE, "making a log takes {written} bytes");
            let mut rng = fastrand::Rng::with_seed(seed);
            for index in 1..=120 {
                // The long ones leave the rest of a file empty.
                let bytes = if index % 40 == 0 { 9 << 20 } else { rng.usize(1..700 << 10) };
                put(&wal, index, bytes).await;
            }
            wal.close().await.unwrap();
            disk.events()
        });
        let (mut written, mut flushed) = (BTreeMap::<PathBuf, u64>::new(), BTreeMap::<PathBuf, u64>::new());
        let mut flushes = BTreeMap::new();
        let mut batches = 0;
        for event in &events {
            let end = event.offset + event.len;
            let is_zeroes = event.len == SLICE || end == LONG_FILE && event.offset + 4096 == end;
            match (event.op, event.stage) {
                (DiskOp::Write, Stage::Issued) if !is_zeroes => {
                    assert!(end <= flushed.get(&event.path).copied().unwrap_or(0), "seed {seed}: {event:?}");
                    let others =
                        flushed.iter().filter(|&(file, &bytes)| *file < event.path && bytes < LONG_FILE);
                    assert_eq!(others.count(), 0, "seed {seed}: a slot before is not written: {event:?}");
                    batches += 1;
                }
                (DiskOp::Write, Stage::Completed) => {
                    let written = written.entry(event.path.clone()).or_default();
                    if event.offset <= *written {
                        *written = end.max(*written);
                    }
                }
                (DiskOp::Sync, Stage::Issued) => {
                    flushes.insert(event.number, written.get(&event.path).copied().unwrap_or(0));
                }
                (DiskOp::Sync, Stage::Completed) => {
                    let covered = flushes.get(&event.number).copied().unwrap_or(0);
                    let flushed = flushed.entry(event.path.clone()).or_default();
                    *flushed = covered.max(*flushed);
                }
                _ => {}
            }
        }
        assert!(batches > 120 && flushed.len() > 2, "seed {seed}: {batches} batches");
    }
}

#[test]
fn a_full_device_is_a_cap_and_the_log_goes_on_when_there_is_room() {
    run(14, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        runtime.sleep(Duration::from_millis(5)).await;
        disk.set_capacity(2 * FILE);
        let mut index = 0;
        while let Ok(()) = wal.ready(3100).await {
            index += 1;
            put(&wal, index, 3000).await;
        }
        assert!(matches!(wal.ready(3100).await, Err(Error::Full(_))));
        assert!(index > 20, "{index}");
        assert_eq!(disk.files().len(), 2);
        // Freed by a flush.
        let upto = wal.pressed().await;
        let ticket = wal.witness(PartitionId(1), EditNumber(1)).unwrap();
        wal.release(upto);
        wal.durable(ticket).await.unwrap();
        runtime.sleep(Duration::from_millis(5)).await;
        wal.ready(3100).await.unwrap();
        // Or by room.
        while let Ok(()) = wal.ready(3100).await {
            index += 1;
            put(&wal, index, 3000).await;
        }
        disk.set_capacity(1 << 30);
        runtime.sleep(Duration::from_secs(1)).await;
        wal.ready(3100).await.unwrap();
        put(&wal, index + 1, 3000).await;
        assert!(wal.failed().is_none());
    });
}

#[test]
fn a_device_without_room_for_the_name_of_a_file_is_full_not_broken() {
    run(15, |runtime, disk| async move {
        disk.create_dir(Path::new("/wal")).await.unwrap();
        let faults = FaultDisk::new(shared(&disk), &runtime, 15);
        let wal = Wal::create(&runtime, Rc::new(faults.clone()), config()).await.unwrap();
        faults.set_full(true);
        let mut index = 0;
        while let Ok(()) = wal.ready(3100).await {
            index += 1;
            put(&wal, index, 3000).await;
        }
        assert!(matches!(wal.ready(3100).await, Err(Error::Full(_))));
        faults.set_full(false);
        runtime.sleep(Duration::from_secs(1)).await;
        wal.ready(3100).await.unwrap();
        put(&wal, index + 1, 3000).await;
        assert!(wal.failed().is_none());
    });
}

#[test]
fn a_batch_that_finds_no_room_in_its_own_blocks_is_written_once_there_is_some() {
    run(18, |runtime, disk| async move {
        disk.create_dir(Path::new("/wal")).await.unwrap();
        disk.sync_dir(Path::new("/")).await.unwrap();
        let faults = FaultDisk::new(shared(&disk), &runtime, 18);
        let wal = Wal::create(&runtime, Rc::new(faults.clone()), config()).await.unwrap();
        put(&wal, 1, 100).await;
        faults.add(Rule {
            ops: vec![DiskOp::Write],
            path_contains: String::new(),
            when: When::From(1),
            fault: Fault::NoSpace,
        });
        let ticket = append(&wal, 2, 100).unwrap();
        runtime.sleep(Duration::from_secs(5)).await;
        assert_eq!((wal.committed_batch() < ticket.batch, wal.failed().is_none()), (true, true));
        assert!(matches!(wal.ready(100).await, Err(Error::Full(_))));
        faults.heal();
        wal.committed(ticket).await.unwrap();
        wal.ready(100).await.unwrap();
        put(&wal, 3, 100).await;
        let found = read(&crashed(&runtime, &disk)).await.unwrap();
        assert_eq!(found.indexes, [1, 2, 3]);
    });
}

#[test]
fn a_log_that_is_closed_without_room_for_its_last_batch_says_so() {
    run(19, |runtime, disk| async move {
        disk.create_dir(Path::new("/wal")).await.unwrap();
        let faults = FaultDisk::new(shared(&disk), &runtime, 19);
        let wal = Wal::create(&runtime, Rc::new(faults.clone()), config()).await.unwrap();
        faults.add(Rule {
            ops: vec![DiskOp::Write],
            path_contains: String::new(),
            when: When::From(1),
            fault: Fault::NoSpace,
        });
        append(&wal, 1, 100).unwrap();
        runtime.sleep(Duration::from_secs(1)).await;
        assert!(matches!(wal.close().await, Err(Error::Stopped(_))));
    });
}

#[test]
fn files_that_find_no_room_for_their_new_name_stay_and_no_room_for_its_flush_is_final() {
    for op in [DiskOp::Rename, DiskOp::SyncDir] {
        run(20, |runtime, disk| async move {
            create(&runtime, &disk, config()).await.close().await.unwrap();
            let old = path(0);
            disk.create_dir(Path::new("/next")).await.unwrap();
            let faults = FaultDisk::new(shared(&disk), &runtime, 20);
            let next = WalConfig { dir: PathBuf::from("/next/0"), ..config() };
            let wal = Wal::create(&runtime, Rc::new(faults.clone()), next).await.unwrap();
            runtime.sleep(Duration::from_millis(5)).await;
            faults.add(Rule {
                ops: vec![op],
                path_contains: String::new(),
                when: When::Nth(1),
                fault: Fault::NoSpace,
            });
            let adopted = wal.adopt(vec![old.clone()]).await;
            assert_eq!(adopted.is_ok(), op == DiskOp::Rename, "{adopted:?}");
            assert_eq!(disk.contents(&old).is_some(), op == DiskOp::Rename);
        });
    }
}

#[test]
fn a_log_that_somebody_waits_for_grows_although_a_file_is_spare() {
    run(17, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        runtime.sleep(Duration::from_millis(5)).await;
        assert_eq!(disk.files().len(), 2, "one in use, one spare");
        // More than both hold, less than there may be.
        wal.promise(2 * FILE);
        wal.ready(3100).await.unwrap();
        assert_eq!(disk.files().len(), 3);
    });
}

#[test]
fn who_waits_for_room_is_woken_when_a_promise_is_redeemed() {
    run(18, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        wal.promise(4 * FILE);
        let waits = async {
            wal.ready(3100).await.unwrap();
            true
        };
        let gives_up = async {
            runtime.sleep(Duration::from_secs(1)).await;
            false
        };
        assert!(!future::or(waits, gives_up).await, "all room is promised");
        let waiter = Rc::clone(&wal);
        let waiting = runtime.spawn(async move { waiter.ready(3100).await });
        runtime.sleep(Duration::from_secs(1)).await;
        wal.redeem(4 * FILE);
        waiting.await.unwrap();
    });
}

#[test]
fn a_full_log_waits_for_a_release_and_leaves_room_to_say_it() {
    run(15, |runtime, disk| async move {
        let wal = create(&runtime, &disk, WalConfig { cap_bytes: 2 * FILE, ..config() }).await;
        let mut index = 0;
        let upto = loop {
            let ready = async { wal.ready(3100).await.map(|()| None).unwrap() };
            match future::or(ready, async { Some(wal.pressed().await) }).await {
                None => {
                    index += 1;
                    put(&wal, index, 3000).await;
                }
                Some(upto) => break upto,
            }
        };
        assert_eq!(upto, Lsn(FILE));
        assert!(wal.used_bytes() <= wal.cap_bytes());
        wal.release(upto);
        wal.ready(3100).await.unwrap();
        assert!(wal.start_lsn() >= upto);
        let found = read(&crashed(&runtime, &disk)).await.unwrap();
        assert_eq!(found.indexes.last(), Some(&index));
    });
}

#[test]
fn records_that_no_file_holds_are_refused_and_leave_no_trace() {
    run(16, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        put(&wal, 1, 10).await;
        assert!(matches!(append(&wal, 2, 70_000), Err(Error::Misuse(_))));
        assert!(matches!(wal.ready(70_000).await, Err(Error::Misuse(_))));
        append(&wal, 2, 5).unwrap();
        assert!(matches!(append(&wal, 3, 70_000), Err(Error::Misuse(_))));
        put(&wal, 3, 40_000).await;
        put(&wal, 4, 40_000).await;
        assert_eq!(read(&crashed(&runtime, &disk)).await.unwrap().indexes, [1, 2, 3, 4]);
    });
}

#[test]
fn a_failed_write_or_flush_is_final_and_nothing_after_it_is_acknowledged() {
    for (durability, op) in [
        (Durability::Always, DiskOp::Write),
        (Durability::None, DiskOp::Write),
        (Durability::None, DiskOp::Sync),
        (Durability::Interval(Duration::from_millis(1)), DiskOp::Sync),
    ] {
        run(17, |runtime, disk| async move {
            let faults = FaultDisk::new(shared(&disk), &runtime, 1);
            disk.create_dir(Path::new("/wal")).await.unwrap();
            disk.sync_dir(Path::new("/")).await.unwrap();
            let config = WalConfig { durability, ..config() };
            let wal = Wal::create(&runtime, Rc::new(faults.clone()), config).await.unwrap();
            let kept = put(&wal, 1, 10).await;
            wal.durable(kept).await.unwrap();
            runtime.sleep(Duration::from_millis(50)).await;
            let rule = Rule {
                ops: vec![op],
                path_contains: String::new(),
                when: When::Nth(1),
                fault: Fault::Failed,
            };
            faults.add(rule);
            let ticket = append(&wal, 2, 10).unwrap();
            let waiting = append(&wal, 3, 10).unwrap();
            assert!(matches!(wal.durable(ticket).await, Err(Error::Stopped(_))));
            assert!(matches!(wal.durable(waiting).await, Err(Error::Stopped(_))));
            wal.committed(kept).await.unwrap();
            runtime.sleep(Duration::from_secs(5)).await;
            assert_eq!(faults.struck(), 1);
            let boundaries = disk.boundaries();
            assert!(matches!(append(&wal, 4, 10), Err(Error::Stopped(_))));
            assert!(matches!(wal.ready(10).await, Err(Error::Stopped(_))));
            assert!(matches!(wal.adopt(Vec::new()).await, Err(Error::Stopped(_))));
            assert!(matches!(wal.close().await, Err(Error::Stopped(_))));
            assert!(matches!(wal.failed(), Some(Error::Stopped(_))));
            runtime.sleep(Duration::from_secs(5)).await;
            assert_eq!(disk.boundaries(), boundaries, "a stopped log writes nothing");
            let found = read(&disk.crash(&runtime, 1, CrashMode::Lose)).await.unwrap();
            assert_eq!(found.indexes[..1], [1]);
        });
    }
}

#[test]
fn a_bad_sector_under_recovery_is_an_error_that_names_the_file() {
    run(18, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        batches(&wal, 3).await;
        let left = crashed(&runtime, &disk);
        let reads = 3;
        for nth in 1..=reads {
            let faults = FaultDisk::new(shared(&left), &runtime, 1);
            let when = When::Nth(nth);
            let rule =
                Rule { ops: vec![DiskOp::Read], path_contains: String::new(), when, fault: Fault::Failed };
            faults.add(rule);
            let disk: Rc<dyn Disk> = Rc::new(faults);
            let result = async {
                let mut reader = LogReader::open(&disk, Path::new(DIR), ID, FILE).await?;
                while reader.next_batch().await?.is_some() {}
                Ok(())
            };
            assert!(matches!(result.await, Err(Error::Io { .. })), "read {nth}");
        }
    });
}

#[test]
fn log_is_released_with_the_batch_that_has_what_was_appended_before_and_not_with_an_earlier_one() {
    run(1, |runtime, disk| async move {
        let wal = create(&runtime, &disk, config()).await;
        put(&wal, 1, 100).await;
        // Ten batches in one turn, none of them written yet; the last one has the copy of what the first one had.
        let tickets: Vec<Ticket> = (2..12).map(|index| append(&wal, index, 16 << 10).unwrap()).collect();
        let copied = append(&wal, 12, 100).unwrap();
        wal.release(wal.head_lsn());
        for ticket in &tickets[..5] {
            wal.durable(*ticket).await.unwrap();
            assert_eq!(wal.start_lsn(), Lsn(0), "the copy is not on the device yet");
        }
        wal.durable(copied).await.unwrap();
        assert_eq!(wal.start_lsn(), copied.lsn);
    });
}

#[test]
fn a_record_longer_than_batches_are_gets_its_turn_among_small_ones() {
    run(1, |runtime, disk| async move {
        let config = WalConfig { batch_bytes_max: 4 << 10, ..config() };
        let wal = create(&runtime, &disk, config).await;
        let is_over = std::cell::Cell::new(false);
        let small = async {
            let mut index = 1;
            while !is_over.get() {
                wal.ready(200).await.unwrap();
                append(&wal, index, 100).unwrap();
                index += 1;
                // The next batch is begun before this one is written.
                runtime.sleep(Duration::from_micros(1)).await;
                wal.release(wal.head_lsn());
            }
        };
        let large = async {
            // Five batches' worth.
            wal.ready(20 << 10).await.unwrap();
            append(&wal, 1_000_000, 20 << 10).unwrap();
            is_over.set(true);
        };
        let hang = async {
            runtime.sleep(Duration::from_secs(10)).await;
            panic!("it waits for a moment in which nobody else has anything to write");
        };
        future::or(
            async {
                future::zip(small, large).await;
            },
            hang,
        )
        .await;
    });
}

#[test]
fn a_first_write_into_an_earlier_logs_file_that_tore_is_no_word_of_that_log() {
    run(1, |runtime, disk| async move {
        let earlier = LogId { incarnation: Incarnation(2), ..ID };
        let old = WalConfig { id: earlier, dir: PathBuf::from("/wal/9"), ..config() };
        let wal = create(&runtime, &disk, old).await;
        for index in 1..30 {
            put(&wal, index, 10 << 10).await;
            wal.release(wal.head_lsn());
        }
        let adopted = PathBuf::from("/wal/9/0.wal");
        let left = disk.contents(&adopted).unwrap();
        // Of this one there are fewer files than that one's batches speak of.
        let wal = create(&runtime, &disk, WalConfig { cap_bytes: 2 * FILE, ..config() }).await;
        wal.adopt(vec![adopted]).await.unwrap();
        let mut index = 1;
        while put(&wal, index, 10 << 10).await.lsn.0 < FILE {
            index += 1;
        }
        let torn = crashed(&runtime, &disk);
        let is_second = |path: &&PathBuf| {
            SlotHeader::decode(&torn.contents(path).unwrap()).is_ok_and(|h| h.id == ID && h.sequence == 1)
        };
        let files = torn.files();
        let second = files.iter().find(is_second).unwrap();
        // The header of the slot got there, the batch behind it did not.
        assert!(torn.overwrite(second, BLOCK_BYTES, &left[BLOCK_BYTES..]));
        assert_eq!(read(&torn).await.unwrap().indexes, (1..index).collect::<Vec<_>>());
    });
}
