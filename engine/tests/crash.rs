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
//! | a dropped segment is removed before its edit's witness is durable | damage.rs: `segments_are_removed_only_..`; no crash shows it, as the edit is durable too: only damage to that edit does |
//! | a flush does not wait for its rows' commit | damage.rs: `nothing_that_is_not_committed_..`; no crash shows it: what is there too early was never refused |

#![expect(clippy::print_stderr, reason = "what fails is said with the arguments that repeat it")]

mod common;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use common::campaign::{boundaries, crash_at, plan};
use common::life::{Birth, Plan, live, live_watched};
use common::model::Model;
use foreshard_engine::io::memory::{CrashMode, MemoryDisk};

const CALLERS: usize = 3;
const WORK: usize = 60;

fn points_of(seed: u64, count: u64) {
    let whole = boundaries(seed, CALLERS, WORK).boundaries;
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..count {
        let point = random.u64(1..=whole);
        let run = || crash_at(seed, CALLERS, WORK, point);
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("--seed {seed} --callers {CALLERS} --work {WORK} --point {point} (of {whole})");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_crash_at_any_boundary_loses_nothing_acknowledged() {
    for seed in 0..6 {
        points_of(seed, 20);
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
        live_watched(Birth::New, &model, &plan(seed, WORK), move |disk| {
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

#[test]
fn a_store_is_reopened_many_times_with_any_number_of_shards() {
    for seed in 0..3 {
        let model = Rc::new(Model::new(CALLERS));
        let mut lived = live(Birth::New, &model, &plan(seed, 20));
        for round in 0..10 {
            let shards = 1 + usize::try_from(round % 4).unwrap();
            let next = Plan { seed: seed * 100 + round, shards, ..plan(seed, 20) };
            lived = live(Birth::After(&lived.disk, CrashMode::Lose), &model, &next);
        }
    }
}
