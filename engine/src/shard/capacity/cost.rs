//! What work is taken to cost, in *cost units*: one is a microsecond of a core, as measured where the constants below were
//! fitted. It follows from what was done, and not from how long it took: so it is the same for everybody who does the same,
//! and a machine of another speed does more or fewer units a second ([`CapacityStatus::factor`](super::CapacityStatus)).
//!
//! What arrives together costs less than what arrives alone, since the core is woken once, receives and sends once, and
//! writes its log once for all of it. So there are costs of the core itself, of which nobody knows beforehand how many will
//! share them (`WAKE`, `LOG_BATCH`), of a receive with whatever came in it (`TURN`), of a command, of an operation on
//! rows, of rows, and of bytes. Those of rows and bytes that are written hold their part of flush and compaction.
//!
//! How they were found: `benches/compare`'s `cost --fit` runs YCSB's workloads A to F on a node of one shard, in short cells by
//! turns, and notes of each what was done ([`Work`]) and the processor time of all threads, the kernel's workers included.
//! The constants are the least squares of relative errors over all cells, none negative: values of 100 and of 1000 bytes, 8 and
//! 50 connections, 1, 4 and 16 operations on their way on each, 44 cells of a second, node and load above everything else that ran
//! on the machine (two cores, Linux 6.18). Cells of 50 connections and 100 bytes, which are what the figure below is of, counted
//! three times. Counts that always come together, as a read and its operation do, were divided between them by hand. With these
//! constants each of A to F of these cells is within 10 % at 1 and at 16 on their way. What shares the caches moves a cell by more.
//!
//! What they do not cover: pages of tens of kilobytes, whose replies cost the kernel up to three times as much in fresh memory;
//! reads from the device, which wait more than they work.

use super::work::Work;

/// A thousandth of a cost unit: a nanosecond.
pub type MilliUnits = u64;

/// The core had nothing to do and is woken: a wait in the kernel, and what it finds has left the caches.
const WAKE: MilliUnits = 6_100;
/// Commands that came together: a receive, a send, a wait.
const TURN: MilliUnits = 5_000;
/// A command: decoded, looked up, answered.
const COMMAND: MilliUnits = 170;
/// So many bytes that cross a socket cost one.
const SOCKET_BYTES: u64 = 10;
/// An operation on rows: finding its partition, being counted.
const OPERATION: MilliUnits = 60;
/// A row that is looked up.
const READ: MilliUnits = 60;
/// A row beyond the first that a page has.
const PAGE_ROW: MilliUnits = 585;
/// A row that is written: log, memtable, and its part of flush and compaction.
const WRITE: MilliUnits = 850;
/// Two bytes that are written: checked and copied into the log, and later into segments.
const TWO_BYTES_IN: MilliUnits = 9;
/// So many bytes that are read cost one.
const BYTES_OUT: u64 = 5;
/// A batch of the log: a write and a flush of the device, however much is in it, mostly in the kernel's workers.
const LOG_BATCH: MilliUnits = 45_000;

/// What work costs.
#[inline]
#[must_use]
pub const fn of(work: &Work) -> MilliUnits {
    work.wakes * WAKE
        + work.turns * TURN
        + work.commands * COMMAND
        + work.socket_bytes / SOCKET_BYTES
        + work.operations * OPERATION
        + work.reads * READ
        + work.page_rows * PAGE_ROW
        + work.writes * WRITE
        + work.bytes_in * TWO_BYTES_IN / 2
        + work.bytes_out / BYTES_OUT
        + work.log_batches * LOG_BATCH
}
