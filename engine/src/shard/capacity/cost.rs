//! What work is taken to cost, in *cost units*: one is a microsecond of a core, as measured where the constants below were
//! fitted. It follows from what was done, rows and bytes, and not from how long it took: so it is the same for everybody
//! who does the same, and a machine of another speed does more or fewer units a second.
//!
//! `benches/compare`'s `cost` measures the CPU time of a node under YCSB's workloads beside these.

use crate::counters::Load;

/// A thousandth of a cost unit: a nanosecond.
pub type MilliUnits = u64;

/// An operation on rows: finding its partition, being counted.
const OPERATION: MilliUnits = 100;
/// A row that is looked up.
const READ: MilliUnits = 180;
/// A row that is written: log, memtable, and its part of flush and compaction.
const WRITE: MilliUnits = 1_900;
/// A row beyond the first that a page has.
const PAGE_ROW: MilliUnits = 1_120;
/// So many bytes that are read cost one.
const BYTES_OUT: u64 = 16;
/// A byte that is written: checked and copied into the log, and later into segments.
const BYTE_IN: MilliUnits = 7;
/// A command: decoded, looked up, answered.
const COMMAND: MilliUnits = 240;
/// Commands that came together: a receive, a send, a wait.
const TURN: MilliUnits = 5_000;
/// So many bytes that cross a socket cost one.
const NET_BYTES: u64 = 6;
/// A batch of the log: a write and a flush of the device, however much is in it.
const LOG_BATCH: MilliUnits = 80_000;

/// What operations on rows cost.
#[must_use]
pub const fn of_operation(load: &Load) -> MilliUnits {
    OPERATION
        .saturating_add(load.reads.saturating_mul(READ))
        .saturating_add(load.writes.saturating_mul(WRITE))
        .saturating_add(load.bytes_out / BYTES_OUT)
        .saturating_add(load.bytes_in.saturating_mul(BYTE_IN))
}

/// What the rows of a page cost beside the operation that reads it.
#[must_use]
pub const fn of_page(rows: usize) -> MilliUnits {
    (rows as u64).saturating_sub(1).saturating_mul(PAGE_ROW)
}

/// What commands that came together cost beside their operations.
#[must_use]
pub const fn of_commands(commands: u64, bytes: u64) -> MilliUnits {
    TURN.saturating_add(commands.saturating_mul(COMMAND)).saturating_add(bytes / NET_BYTES)
}

/// What batches of the log cost, which nobody knows beforehand how many writes will share.
#[must_use]
pub const fn of_log_batches(batches: u64) -> MilliUnits {
    batches.saturating_mul(LOG_BATCH)
}
