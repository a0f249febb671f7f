//! Crashes at any I/O boundary: nothing acknowledged is lost, nothing is there in part, the store always opens again.
//!
//! A sample that fits a test run; `cargo run --release --example crash_campaign` does the rest. What fails here names
//! the seed and the point to give there.
//!
//! Bugs planted in the engine, one at a time, and what finds each; points are those of the campaign from seed 1 on:
//!
//! | planted | found by |
//! |---|---|
//! | the log acknowledges a batch when its write begins | 6 of 100 points: an acknowledged row is lost |
//! | a decision is logged before its prepares are durable | 1 of 200 points: a row of a transaction is lost |
//! | a prepare is not pinned until its resolution is flushed | 33 of 100 points: resolved, and its rows are not in the log |
//! | recovery ignores decisions | 10 of 100 points: acknowledged transactions are lost |
//! | a resolution's rows are built aside, the memtable before them sealed after its record | 39 of 100 points |
//! | the same of a long batch | this file's points, in the third seed: only where the workload has long batches |
//! | a scan takes its version before it waits for transactions | 2 of 200 points; store.rs: `a_scan_that_waits_..` |
//! | the name of a new store's directory is not durable | 47 of 100 points; store.rs: `a_new_store_survives_..` |
//! | a transaction's promise of room is not redeemed | a life without a crash does not end; store.rs: `room_promised_..` |
//! | a log does not grow while a file is spare | the third seed's life does not end; wal: `.._although_a_file_is_spare` |
//! | a batch is written and not flushed | 32 of 50 points: a log's file is lost |
//! | a log's, a segment's or a manifest's name is not made durable | 28, 22 and 9 of 40 points: the file is lost |
//! | a manifest, an edit of it, or a segment is not flushed | 17, 23 and 26 of 40 points: it ends early |
//! | the superblock's name, or its copies, are not made durable | 22 and 23 of 40 points: the store has none |
//! | the directories of an incarnation's logs are not made durable | 1 of 40 points: a log is lost |
//! | old logs are removed before the superblock names the next ones | 4 of 40 points: a log is lost |
//! | a change of the table is not flushed | 2 of 40 points: an acknowledged epoch is lost |
//! | a log is not synced before what it says is carried out | 1 of 2,000 points, a kill and a power loss in the opening after it; this file: `a_log_that_a_killed_process_left_..` |
//! | a backup's segments have no durable names | 17 of 40 points: a reported backup lacks one |
//! | prepares and decisions are written, not flushed | `--scene durability`: 5 of 40 points |
//! | a flush counts for what was written while it ran | `--scene durability`: 1 of 40 points |
//! | damage to a log is always taken for a torn end | `--scene damage`: 8 of 150 flips |
//! | a block's checksum is not looked at | `--scene damage`: 33 of 150 flips |
//! | the log goes on after a write that failed | `--scene faults`: in the first 272 operations |
//! | a flush that failed is not final | wal: `a_failed_write_or_flush_is_final_..`: nothing else flushes by itself |
//! | a dropped segment is removed before its edit's witness is durable | damage.rs: `segments_are_removed_only_..`; no crash shows it, as the edit is durable too: only damage to that edit does |
//! | a flush does not wait for its rows' commit | damage.rs: `nothing_that_is_not_committed_..`; no crash shows it: what is there too early was never refused |

mod common;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use common::campaign::{Field, MODES, Tally, choose};
use common::life::{Birth, Plan, live, live_watched};
use common::lossy::{INTERVAL, Loss, Lossy};
use common::model::Model;
use foreshard_engine::Durability;
use foreshard_engine::io::disk::DiskOp;
use foreshard_engine::io::memory::{CrashMode, DiskEvent, MemoryDisk, Stage};

const CALLERS: usize = 3;
const WORK: usize = 60;

fn field(seed: u64) -> Field {
    Field { seed, callers: CALLERS, work: WORK }
}

#[test]
fn a_crash_at_any_boundary_loses_nothing_acknowledged() {
    let mut tally = Tally::default();
    for seed in 0..6 {
        let whole = field(seed).boundaries();
        for point in choose(whole, 20, seed) {
            match std::panic::catch_unwind(|| field(seed).crash_at(point)) {
                Ok(more) => tally.add(&more),
                Err(panic) => {
                    eprintln!("--seed {seed} --callers {CALLERS} --work {WORK} --point {point} (of {whole})");
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
    eprintln!("{}; moves done, undone, refused: {:?}", tally.first, tally.moves);
    eprintln!("changes of partitions done and undone: {:?}", tally.reshapes);
    assert!(tally.crashes() > 120);
    assert!(tally.moves[0] > 50 && tally.moves[1] > 5, "{:?} moves done, undone, refused", tally.moves);
    assert!(tally.reshapes[0] > 10, "{:?} changes of partitions done and undone", tally.reshapes);
}

#[test]
fn a_crash_at_any_boundary_of_a_reopening_loses_nothing_either() {
    let mut tally = Tally::default();
    // Points at which logs, segments and the table are all there.
    for (seed, mode) in [(1, CrashMode::Lose), (2, CrashMode::Scramble)] {
        let whole = field(seed).boundaries();
        field(seed).crash_reopening(whole * 3 / 4, mode, 60, &mut tally);
    }
    eprintln!("{}", tally.later);
    assert!(tally.opening > 60, "{} crashes while opening", tally.opening);
}

#[test]
fn what_is_not_flushed_at_once_is_lost_from_the_end_and_never_in_part() {
    let mut loss = Loss::default();
    for seed in 0..6 {
        let durability = if seed % 2 == 0 { Durability::None } else { Durability::Interval(INTERVAL) };
        let lossy = Lossy { seed, durability, work: 80 };
        for point in choose(lossy.boundaries(), 10, seed) {
            let mode = MODES[usize::try_from(point % 4).unwrap()];
            let one = lossy.crash_at(point, mode);
            loss.acknowledged += one.acknowledged;
            loss.lost += one.lost;
        }
    }
    assert!(loss.acknowledged > 1000 && loss.lost > 0, "{loss:?}");
}

#[test]
fn a_log_that_a_killed_process_left_is_durable_before_anything_in_it_is_carried_out() {
    let is_log = |path: &Path| path.extension().is_some_and(|e| e == "wal");
    let is_segment = |path: &Path| path.extension().is_some_and(|e| e == "seg");
    for seed in 0..3 {
        let model = Rc::new(Model::new(CALLERS));
        let killed = Plan { crash_after: Some(field(seed).boundaries() * 3 / 4), ..field(seed).plan() };
        let left = live(Birth::New, &model, &killed);
        let again = Plan { work: 0, restores: false, ..field(seed).plan() };
        let reopened = live_watched(Birth::After(&left.disk, CrashMode::Kill), &model, &again, |disk| {
            disk.record();
            None
        });
        let events = reopened.disk.events();
        let carried_out = events.iter().position(|e| e.op == DiskOp::Write && is_segment(&e.path));
        let before = &events[..carried_out.expect("rows are replayed into segments")];
        let read = before.iter().filter(|e| e.op == DiskOp::Read && is_log(&e.path) && e.offset > 0);
        let read: BTreeSet<&Path> = read.map(|e| e.path.as_path()).collect();
        assert!(!read.is_empty(), "seed {seed}");
        for log in read {
            let is_its = |e: &DiskEvent| e.op == DiskOp::Sync && e.path == log && e.stage == Stage::Completed;
            assert!(before.iter().any(is_its), "seed {seed}: {}", log.display());
        }
    }
}

fn logs_of(disk: &MemoryDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|f| f.extension().is_some_and(|e| e == "wal")).collect()
}

fn contains(disk: &MemoryDisk, path: &Path, bytes: &[u8]) -> bool {
    let Some(content) = disk.durable_contents(path) else { return false };
    // Far faster than looking at every window, without optimisation.
    let first = bytes[0];
    let starts = content.iter().enumerate().filter(|(_, byte)| **byte == first);
    starts.map(|(at, _)| at).any(|at| content[at..].starts_with(bytes))
}

#[test]
fn no_acknowledgement_precedes_the_flush_of_its_bytes() {
    for seed in 0..4 {
        let model = Rc::new(Model::new(CALLERS));
        let seen = Rc::new(Cell::new(0));
        let count = Rc::clone(&seen);
        live_watched(Birth::New, &model, &field(seed).plan(), move |disk| {
            let disk = disk.clone();
            Some(Rc::new(move |value: &[u8]| {
                let is_durable = logs_of(&disk).iter().any(|log| contains(&disk, log, value));
                assert!(is_durable, "seed {seed}: acknowledged before it was durable in a log");
                count.set(count.get() + 1);
            }))
        });
        assert!(seen.get() > 50, "seed {seed}: {} acknowledgements seen", seen.get());
    }
}

fn short(seed: u64) -> Plan {
    Field { work: 20, ..field(seed) }.plan()
}

#[test]
fn a_store_is_reopened_many_times_with_any_number_of_shards() {
    for seed in 0..3 {
        let model = Rc::new(Model::new(CALLERS));
        let mut lived = live(Birth::New, &model, &short(seed));
        for round in 0..10 {
            let shards = 1 + usize::try_from(round % 4).unwrap();
            let next = Plan { seed: seed * 100 + round, shards, ..short(seed) };
            lived = live(Birth::After(&lived.disk, CrashMode::Lose), &model, &next);
        }
    }
}
