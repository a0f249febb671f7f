//! What work is taken to cost, in *cost units*: one is a microsecond of a core, as measured where the constants below were
//! fitted. It follows from what was done, rows and bytes, and not from how long it took: so it is the same for everybody
//! who does the same, and a machine of another speed does more or fewer units a second.
//!
//! `benches/compare`'s `cost` measures the CPU time of a node under YCSB's workloads beside these.

use crate::counters::Load;

/// A thousandth of a cost unit: a nanosecond.
pub type MilliUnits = u64;

/// An operation on rows: finding its partition, being counted.
const OPERATION: MilliUnits = 300;
/// A row that is looked up.
const READ: MilliUnits = 900;
/// A row that is written: log, memtable, and its part of flush and compaction.
const WRITE: MilliUnits = 3_000;
/// A row beyond the first that a page has.
const PAGE_ROW: MilliUnits = 350;
/// A byte that is read.
const BYTE_OUT: MilliUnits = 1;
/// A byte that is written: checked and copied into the log, and later into segments.
const BYTE_IN: MilliUnits = 4;
/// A command: decoded, looked up, answered.
const COMMAND: MilliUnits = 900;
/// Commands that came together: a receive, a send, a wait.
const TURN: MilliUnits = 5_000;
/// A byte that crosses a socket.
const NET_BYTE: MilliUnits = 1;

/// What operations on rows cost.
#[must_use]
pub const fn of_operation(load: &Load) -> MilliUnits {
    OPERATION
        .saturating_add(load.reads.saturating_mul(READ))
        .saturating_add(load.writes.saturating_mul(WRITE))
        .saturating_add(load.bytes_out.saturating_mul(BYTE_OUT))
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
    TURN.saturating_add(commands.saturating_mul(COMMAND)).saturating_add(bytes.saturating_mul(NET_BYTE))
}
